//! `rtm status`: what the daemon says of itself.
//!
//! The daemon gives one JSON object; here it becomes lines of `key: value`.
//! What only `-d` shows are the members in [`DETAILS`], and every descriptor of the
//! daemon: an object each, behind the first; here they become a table, in JSON the
//! member `descriptors`.

use serde_json::Value;

use crate::env::{Env, succeeded};
use crate::failure::{Failure, Result};
use crate::output::{Grid, Out, Side, thousands};

/// Members of the answer that are shown with `-d` only.
const DETAILS: [&str; 13] = [
    "held",
    "candidates",
    "tombstones",
    "tombstone_bytes",
    "table_bytes",
    "journal_bytes",
    "snapshot_bytes",
    "classic_bytes",
    "generations",
    "filters",
    "sessions_max",
    "log_dropped",
    "turns",
];

/// The columns of the table of descriptors.
const DESCRIPTORS: [(&str, &str, Side); 10] = [
    ("kind", "KIND", Side::Left),
    ("fd", "FD", Side::Right),
    ("session", "SESSION", Side::Right),
    ("pid", "PID", Side::Right),
    ("wakeups", "WAKE-UPS", Side::Right),
    ("bytes_in", "BYTES-IN", Side::Right),
    ("bytes_out", "BYTES-OUT", Side::Right),
    ("overruns", "OVERRUNS", Side::Right),
    ("turns_max", "TURNS", Side::Right),
    ("name", "NAME", Side::Left),
];

/// The bar of a histogram's largest count.
const BAR_COLUMNS: u64 = 40;

pub(crate) fn run(env: &mut Env<'_>) -> Result<()> {
    let details = env.options.details > 0;
    let (values, done) = env.ask_json(if details { "status -d" } else { "status" })?;
    succeeded(done)?;
    let mut values = values.into_iter();
    let Some(mut value) = values.next() else {
        return Err(Failure::refused("the daemon gave no status"));
    };
    let descriptors: Vec<Value> = values.collect();
    if env.options.json && details {
        value["descriptors"] = Value::Array(descriptors);
        return Ok(env.out.json(&value, env.options.pretty)?);
    }
    if env.options.json {
        return Ok(env.out.json(&value, env.options.pretty)?);
    }
    let Value::Object(members) = &value else {
        return Err(Failure::refused("the daemon's status is no object"));
    };
    for (key, value) in members {
        if details || !DETAILS.contains(&key.as_str()) {
            print(&mut env.out, 0, key, value)?;
        }
    }
    if descriptors.is_empty() {
        return Ok(());
    }
    let heading = env.out.heading("descriptors:");
    env.out.line(heading)?;
    let mut grid = Grid::new(&DESCRIPTORS.map(|(_, head, side)| (head, side)));
    for descriptor in &descriptors {
        grid.row(DESCRIPTORS.iter().map(|(key, ..)| super::cell(&descriptor[key])).collect());
    }
    Ok(grid.print(&mut env.out)?)
}

/// One member: a line, or a heading with lines under it.
pub(super) fn print(out: &mut Out, depth: usize, key: &str, value: &Value) -> Result<()> {
    let (name, unit) = name_and_unit(key);
    let indent = "  ".repeat(depth);
    match value {
        Value::Null => Ok(()),
        Value::Object(members) => {
            let heading = out.heading(&format!("{indent}{name}:"));
            out.line(heading)?;
            members.iter().try_for_each(|(key, value)| print(out, depth + 1, key, value))
        }
        Value::Array(entries) if is_histogram(entries) => {
            let heading = out.heading(&format!("{indent}{name}:"));
            out.line(heading)?;
            let rows: Vec<(String, u64)> = entries.iter().map(bucket).collect();
            for line in histogram(&rows) {
                out.line(format_args!("{indent}  {line}"))?;
            }
            Ok(())
        }
        Value::Array(entries) if entries.iter().any(Value::is_object) => {
            let heading = out.heading(&format!("{indent}{name}:"));
            out.line(heading)?;
            for entry in entries {
                let Value::Object(members) = entry else { continue };
                let parts: Vec<String> = members
                    .iter()
                    .filter(|(_, value)| !value.is_null())
                    .map(|(key, value)| format!("{key} {}", super::cell(value)))
                    .collect();
                out.line(format_args!("{indent}  {}", parts.join(", ")))?;
            }
            Ok(())
        }
        Value::Array(entries) => {
            let parts: Vec<String> = entries.iter().map(super::cell).collect();
            let text = if parts.is_empty() { "-".to_owned() } else { parts.join(", ") };
            Ok(out.line(format_args!("{indent}{name}: {text}"))?)
        }
        value => {
            let text = match value.as_u64() {
                Some(number) => thousands(number),
                None => super::cell(value),
            };
            // Numbers that are names stay as they are.
            let text = if matches!(key, "pid" | "revision") { super::cell(value) } else { text };
            Ok(out.line(format_args!("{indent}{name}: {text}{unit}"))?)
        }
    }
}

/// A member's name for people, and the unit that stands at its end.
fn name_and_unit(key: &str) -> (String, &'static str) {
    for (end, unit) in [("_bytes", " bytes"), ("_us", " us"), ("_ms", " ms"), ("_s", " s")] {
        if let Some(name) = key.strip_suffix(end) {
            return (name.replace('_', " "), unit);
        }
    }
    (key.replace("_v4", ", IPv4").replace("_v6", ", IPv6").replace('_', " "), "")
}

/// Objects that have a count and a bound.
fn is_histogram(entries: &[Value]) -> bool {
    !entries.is_empty()
        && entries.iter().all(|entry| entry["count"].is_u64() && entry.get("up_to_us").is_some())
}

fn bucket(entry: &Value) -> (String, u64) {
    let count = entry["count"].as_u64().unwrap_or(0);
    match entry["up_to_us"].as_f64() {
        Some(us) if us >= 1e6 => (format!("{:.1} s", us / 1e6), count),
        Some(us) if us >= 1e3 => (format!("{:.1} ms", us / 1e3), count),
        Some(us) => (format!("{us:.1} us"), count),
        None => ("longer".to_owned(), count),
    }
}

/// Lines of a histogram, empty buckets at both ends left out.
fn histogram(rows: &[(String, u64)]) -> Vec<String> {
    let first = rows.iter().position(|(_, count)| *count > 0).unwrap_or(rows.len());
    let last = rows.iter().rposition(|(_, count)| *count > 0).map_or(first, |last| last + 1);
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    rows[first..last]
        .iter()
        .map(|(bound, count)| {
            // A bucket that isn't empty is seen.
            let columns = (count * BAR_COLUMNS).div_ceil(most);
            let bar = "#".repeat(usize::try_from(columns).unwrap_or(0));
            format!("{bound:>8} {count:>12} {bar}").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_for_people() {
        assert_eq!(name_and_unit("uptime_s"), ("uptime".to_owned(), " s"));
        assert_eq!(name_and_unit("resident_bytes"), ("resident".to_owned(), " bytes"));
        assert_eq!(name_and_unit("routes_v4"), ("routes, IPv4".to_owned(), ""));
        assert_eq!(name_and_unit("runtime_dir"), ("runtime dir".to_owned(), ""));
    }

    #[test]
    fn histograms_show_what_is_there() {
        let rows: Vec<(String, u64)> =
            [("1 us", 0), ("2 us", 400), ("4 us", 0), ("8 us", 1), ("16 us", 0)]
                .map(|(bound, count)| (bound.to_owned(), count))
                .to_vec();
        assert_eq!(
            histogram(&rows),
            [
                format!("    2 us          400 {}", "#".repeat(40)),
                "    4 us            0".to_owned(),
                "    8 us            1 #".to_owned(),
            ]
        );
        assert!(histogram(&[]).is_empty());
    }
}
