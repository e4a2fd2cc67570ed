//! Which line each change of a stream stood on.
//!
//! A daemon's answer names a change by its number. Files are mostly one change
//! a line, so only where number and line drift apart is anything kept: a
//! million changes cost a few bytes, not eight megabytes.

use serde_json::Value;

/// From a change's number, counted from 1, to its place.
#[derive(Default)]
pub(crate) struct Positions {
    count: u64,
    /// (number, place) from which on both go up by one.
    runs: Vec<(u64, u64)>,
}

impl Positions {
    /// The next change stands at `place`.
    pub(crate) fn next(&mut self, place: u64) {
        self.count += 1;
        let goes_on = self
            .runs
            .last()
            .is_some_and(|&(number, at)| place.wrapping_sub(at) == self.count - number);
        if !goes_on {
            self.runs.push((self.count, place));
        }
    }

    /// The place of the change with this number.
    pub(crate) fn at(&self, number: u64) -> Option<u64> {
        if number == 0 || number > self.count {
            return None;
        }
        let run = self.runs.partition_point(|&(first, _)| first <= number).checked_sub(1)?;
        let (first, place) = self.runs[run];
        Some(place + (number - first))
    }

    /// What the daemon said of a change that it refused, with its line.
    pub(crate) fn refusal(&self, said: &str) -> String {
        let (place, text) = self.split(said);
        match place {
            Some(line) => format!("line {line}: {text}"),
            None => text,
        }
    }

    /// The line and the reason of a refusal.
    pub(crate) fn split(&self, said: &str) -> (Option<u64>, String) {
        let value: Value = serde_json::from_str(said).unwrap_or_default();
        let text = value["text"].as_str().unwrap_or(said).to_owned();
        (value["position"].as_u64().and_then(|number| self.at(number)), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_finds_its_line() {
        let mut positions = Positions::default();
        let places = [1, 2, 3, 7, 8, 20, 19, 21, 22];
        for place in places {
            positions.next(place);
        }
        assert_eq!(positions.at(0), None);
        for (index, place) in places.iter().enumerate() {
            assert_eq!(positions.at(index as u64 + 1), Some(*place), "{index}");
        }
        assert_eq!(positions.at(10), None);
        assert_eq!(positions.runs.len(), 5);
        assert_eq!(positions.refusal(r#"{"position":4,"text":"no"}"#), "line 7: no");
        assert_eq!(positions.refusal("no"), "no");
    }
}
