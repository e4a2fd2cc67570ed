//! Listings as lsipc prints them: columns by name, aligned, raw or JSON.
use core::time::Duration;
use std::collections::HashMap;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use crate::failure::{Failure, line, output};

/// How to list.
#[derive(Args, Debug)]
pub(crate) struct Style {
    /// Show these columns (names as in the heading, separated by commas; +NAME adds)
    #[arg(short = 'o', long = "output", value_name = "LIST")]
    columns: Option<String>,
    /// JSON
    #[arg(short = 'J', long, short_alias = 'j')]
    json: bool,
    /// One blank between columns
    #[arg(short = 'r', long, conflicts_with = "json")]
    raw: bool,
    /// Sizes in bytes instead of 64K
    #[arg(short = 'b', long)]
    bytes: bool,
    /// No heading
    #[arg(long)]
    noheadings: bool,
    /// How times are shown
    #[arg(long, value_enum, default_value = "short")]
    time_format: TimeFormat,
}

impl Style {
    /// JSON or raw: nothing but the table is wanted.
    pub(crate) fn is_for_programs(&self) -> bool {
        self.json || self.raw
    }

    /// Aligned, with a heading: for a table that belongs to something else.
    pub(crate) fn plain() -> Self {
        Self {
            columns: None,
            json: false,
            raw: false,
            bytes: true,
            noheadings: false,
            time_format: TimeFormat::Iso,
        }
    }
}

/// How times are shown.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum TimeFormat {
    /// 14:05 today, Nov21 this year, 2025-Nov21 before
    Short,
    /// Fri Nov 21 14:05:00 2025
    Full,
    /// 2025-11-21T14:05:00Z
    Iso,
}

/// One value: how people see it depends on the style.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    Text(String),
    Number(u64),
    Size(u64),
    /// Seconds since 1970; 0: never.
    Time(i64),
    Yes(bool),
    /// For people, and in full for JSON.
    Detailed(String, Value),
    Unknown,
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    fn shown(&self, style: &Style) -> String {
        match self {
            Self::Text(text) if text.is_empty() => "-".to_owned(),
            Self::Detailed(text, _) if text.is_empty() => "-".to_owned(),
            Self::Text(text) | Self::Detailed(text, _) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Size(bytes) if style.bytes => bytes.to_string(),
            Self::Size(bytes) => human(*bytes),
            Self::Time(0) | Self::Unknown => "-".to_owned(),
            Self::Time(seconds) => time(*seconds, style.time_format),
            Self::Yes(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        }
    }

    /// As people see it, sizes in bytes.
    pub(crate) fn plain(&self) -> String {
        self.shown(&Style::plain())
    }

    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Text(text) if text == "-" || text.is_empty() => Value::Null,
            Self::Text(text) => Value::from(text.as_str()),
            Self::Number(number) | Self::Size(number) => Value::from(*number),
            Self::Time(0) | Self::Unknown => Value::Null,
            Self::Time(seconds) => Value::from(time(*seconds, TimeFormat::Iso)),
            Self::Yes(yes) => Value::from(*yes),
            Self::Detailed(_, value) => value.clone(),
        }
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Number(_) | Self::Size(_))
    }
}

/// Bytes with a binary unit, as lsipc shows them: `512B`, `64K`, `1.5M`.
pub(crate) fn human(bytes: u64) -> String {
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && unit < 5 {
        value /= 1024.0;
        unit += 1;
    }
    let letter = ["B", "K", "M", "G", "T", "P"][unit];
    let rounded = (value * 10.0).round() / 10.0;
    if rounded.fract() == 0.0 {
        format!("{rounded:.0}{letter}")
    } else {
        format!("{rounded:.1}{letter}")
    }
}

fn time(seconds: i64, format: TimeFormat) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let (year, month, day) = civil(seconds.div_euclid(86400));
    let clock = seconds.rem_euclid(86400);
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    let name = MONTHS[month as usize - 1];
    match format {
        TimeFormat::Iso => {
            format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
        }
        TimeFormat::Full => {
            let weekday = DAYS[seconds.div_euclid(86400).rem_euclid(7) as usize];
            format!("{weekday} {name} {day:2} {hour:02}:{minute:02}:{second:02} {year}")
        }
        TimeFormat::Short => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let now = now.unwrap_or(Duration::ZERO).as_secs() as i64;
            if now.div_euclid(86400) == seconds.div_euclid(86400) {
                format!("{hour:02}:{minute:02}")
            } else if civil(now.div_euclid(86400)).0 == year {
                format!("{name}{day:02}")
            } else {
                format!("{year}-{name}{day:02}")
            }
        }
    }
}

/// The date of a day counted from 1970-01-01, in UTC (Howard Hinnant's
/// `civil_from_days`: years that begin in March make the leap day the last one).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// A listing: all its columns, and which are shown unless others are asked for.
pub(crate) struct Table<'a> {
    /// The name of the list in JSON.
    pub(crate) name: &'static str,
    pub(crate) columns: &'a [&'static str],
    pub(crate) shown: &'a [&'static str],
    pub(crate) rows: Vec<Vec<Cell>>,
}

impl Table<'_> {
    fn selection(&self, style: &Style) -> Result<Vec<usize>, Failure> {
        let find = |name: &str| {
            let upper = name.to_ascii_uppercase();
            self.columns.iter().position(|column| *column == upper).ok_or_else(|| {
                let all = self.columns.join(", ");
                Failure::usage(format!("{name}: no such column; there are {all}"))
            })
        };
        let default = || self.shown.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>();
        let Some(list) = &style.columns else { return default() };
        let (mut chosen, list) = match list.strip_prefix('+') {
            Some(more) => (default()?, more),
            None => (Vec::new(), list.as_str()),
        };
        for name in list.split(',') {
            chosen.push(find(name)?);
        }
        Ok(chosen)
    }

    /// Prints it.
    pub(crate) fn print(&self, style: &Style) -> Result<(), Failure> {
        let chosen = self.selection(style)?;
        if style.json {
            let rows = self.rows.iter().map(|row| {
                let fields =
                    chosen.iter().map(|n| (self.columns[*n].to_ascii_lowercase(), row[*n].json()));
                Value::Object(fields.collect::<Map<_, _>>())
            });
            let mut whole = Map::new();
            whole.insert(self.name.to_owned(), Value::Array(rows.collect()));
            return line(format!("{:#}", Value::Object(whole)));
        }
        let mut lines: Vec<Vec<String>> = Vec::new();
        if !style.noheadings {
            lines.push(chosen.iter().map(|n| self.columns[*n].to_owned()).collect());
        }
        for row in &self.rows {
            lines.push(chosen.iter().map(|n| row[*n].shown(style)).collect());
        }
        let width = |at: usize| lines.iter().map(|l| l[at].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..chosen.len()).map(width).collect();
        let mut text = String::new();
        for cells in &lines {
            if style.raw {
                text.push_str(&cells.join(" "));
            } else {
                let mut aligned = String::new();
                for (at, cell) in cells.iter().enumerate() {
                    let right = self.rows.iter().any(|row| row[chosen[at]].is_number());
                    let width = widths[at];
                    let cell =
                        if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
                    if at > 0 {
                        aligned.push(' ');
                    }
                    aligned.push_str(&cell);
                }
                text.push_str(aligned.trim_end());
            }
            text.push('\n');
        }
        output(text.as_bytes())
    }
}

/// The columns of a list of limits.
pub(crate) const LIMITS: &[&str] = &["RESOURCE", "DESCRIPTION", "LIMIT", "USED", "USE%"];

/// How much of a limit is used, as lsipc shows it.
pub(crate) fn share(limit: u64, used: Option<u64>) -> Cell {
    match used {
        Some(used) if limit > 0 => {
            Cell::text(format!("{:.2}%", used as f64 / limit as f64 * 100.0))
        }
        _ => Cell::Unknown,
    }
}

/// `rw-r-----`.
pub(crate) fn permissions(mode: u32) -> String {
    let letters = b"rwxrwxrwx";
    (0..9).map(|n| if mode & (0o400 >> n) != 0 { letters[n] as char } else { '-' }).collect()
}

/// Users and groups by number, from /etc/passwd and /etc/group.
pub(crate) struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    pub(crate) fn load() -> Self {
        let read = |path: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            text.lines()
                .filter_map(|line| {
                    let mut fields = line.split(':');
                    let name = fields.next()?.to_owned();
                    Some((fields.nth(1)?.parse().ok()?, name))
                })
                .collect()
        };
        Self { users: read("/etc/passwd"), groups: read("/etc/group") }
    }

    pub(crate) fn user(&self, uid: u32) -> String {
        self.users.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }

    pub(crate) fn group(&self, gid: u32) -> String {
        self.groups.get(&gid).cloned().unwrap_or_else(|| gid.to_string())
    }
}

/// Prints one object's fields, one line each: name, blanks, value; or JSON.
pub(crate) fn print_fields(fields: &[(&str, Cell)], json: bool) -> Result<(), Failure> {
    let style = Style::plain();
    if json {
        let object: Map<_, _> = fields.iter().map(|(n, c)| ((*n).to_owned(), c.json())).collect();
        return line(Value::Object(object));
    }
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, cell) in fields {
        text.push_str(&format!("{name:<width$}  {}\n", cell.shown(&style)));
    }
    output(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sizes_and_modes_are_shown_as_lsipc_does() {
        assert_eq!(time(0, TimeFormat::Iso), "1970-01-01T00:00:00Z");
        assert_eq!(time(951_782_400, TimeFormat::Iso), "2000-02-29T00:00:00Z");
        assert_eq!(time(1_763_733_900, TimeFormat::Full), "Fri Nov 21 14:05:00 2025");
        assert_eq!(time(951_782_400, TimeFormat::Short), "2000-Feb29");
        assert_eq!(human(512), "512B");
        assert_eq!(human(65536), "64K");
        assert_eq!(human(1_572_864), "1.5M");
        assert_eq!(permissions(0o640), "rw-r-----");
    }
}
