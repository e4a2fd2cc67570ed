//! Which line (or byte, where a file has none) each change of a stream stood on.
//!
//! A daemon's answer names a change by its number. Files are mostly one change
//! a line, so only where number and line drift apart is anything kept: a
//! million changes cost a few bytes, not eight megabytes.

use serde_json::Value;

/// From a change's number, counted from 1, to its place.
pub(crate) struct Positions {
    /// What places are called.
    unit: &'static str,
    count: u64,
    /// (number, place) from which on both go up by one.
    runs: Vec<(u64, u64)>,
}

impl Positions {
    /// Places that are lines.
    pub(crate) fn of_lines() -> Positions {
        Positions { unit: "line", count: 0, runs: Vec::new() }
    }

    /// Places that are bytes of the unpacked stream.
    pub(crate) fn of_bytes() -> Positions {
        Positions { unit: "byte", ..Positions::of_lines() }
    }

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

    /// The same in words, to stand before a reason.
    pub(crate) fn words(&self, number: u64) -> String {
        self.at(number).map_or(String::new(), |place| format!("{} {place}: ", self.unit))
    }

    /// What the daemon said of a change that it refused, with its place.
    pub(crate) fn refusal(&self, said: &str) -> String {
        let (place, text) = self.split(said);
        match place {
            Some(place) => format!("{} {place}: {text}", self.unit),
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
        let mut positions = Positions::of_lines();
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
        assert_eq!((positions.words(4).as_str(), positions.words(0).as_str()), ("line 7: ", ""));
        let mut positions = Positions::of_bytes();
        positions.next(900);
        assert_eq!(positions.words(1), "byte 900: ");
    }
}
