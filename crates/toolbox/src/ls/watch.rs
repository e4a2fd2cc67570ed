//! `ipc watch`: what appears, changes and goes, a line each (or JSON lines).
use core::time::Duration;

use clap::Args;
use ipc::timer::Deadline;
use serde_json::{Map, Value};

use super::objects::{Object, by_name};
use super::{COLUMNS, Filter, look};
use crate::argument;
use crate::failure::{Failure, line};
use crate::sock::{ended_by, ending_signals};
use crate::table::{Cell, Names};

#[derive(Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    filter: Filter,
    /// Look so often
    #[arg(short = 'i', long, value_name = "D", value_parser = argument::duration, default_value = "1s")]
    interval: Duration,
    /// End after so many changes
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after so long
    #[arg(long, value_name = "D", value_parser = argument::duration)]
    timeout: Option<Duration>,
    /// Begin with everything that is there
    #[arg(long)]
    initial: bool,
    /// JSON lines
    #[arg(short = 'J', long, short_alias = 'j')]
    json: bool,
}

/// The columns whose change is news; ages and times of themselves are none.
const NEWS: &[&str] = &[
    "OWNER",
    "PERMS",
    "SIZE",
    "DEPTH",
    "STATUS",
    "STATE",
    "NOTIFYPID",
    "HOLDERS",
    "WAITERS",
    "ORPHAN",
];

pub(crate) fn run(watch: &Watch) -> Result<(), Failure> {
    let names = Names::load();
    let signals = ending_signals()?;
    let deadline = Deadline::after(watch.timeout);
    let first = look(&watch.filter, &names);
    for remark in &first.remarks {
        eprintln!("ipc: watch: {remark}");
    }
    let mut told = 0;
    let mut tell = |sign: &str, object: &Object, changes: &[String]| -> Result<bool, Failure> {
        line(if watch.json { json(sign, object) } else { text(sign, object, changes) })?;
        told += 1;
        Ok(watch.count.is_some_and(|count| told >= count))
    };
    let mut before = first.objects;
    if watch.initial {
        for object in by_name(&before).values() {
            if tell("=", object, &[])? {
                return Ok(());
            }
        }
    }
    loop {
        let sleep = deadline.left().map_or(watch.interval, |left| left.min(watch.interval));
        let mut fds = [rustix::event::PollFd::new(&signals, rustix::event::PollFlags::IN)];
        let sleep = rustix::event::Timespec {
            tv_sec: sleep.as_secs() as i64,
            tv_nsec: sleep.subsec_nanos().into(),
        };
        let _ = rustix::event::poll(&mut fds, Some(&sleep));
        if let Some(ended) = ended_by(&signals)? {
            return Err(ended);
        }
        let now = look(&watch.filter, &names).objects;
        {
            let (old, new) = (by_name(&before), by_name(&now));
            for (key, object) in &old {
                if !new.contains_key(key) && tell("-", object, &[])? {
                    return Ok(());
                }
            }
            for (key, object) in &new {
                let done = match old.get(key) {
                    None => tell("+", object, &[])?,
                    Some(was) => {
                        let changes = changes(was, object);
                        !changes.is_empty() && tell("~", object, &changes)?
                    }
                };
                if done {
                    return Ok(());
                }
            }
        }
        before = now;
        if deadline.passed() {
            return Ok(());
        }
    }
}

fn changes(was: &Object, now: &Object) -> Vec<String> {
    let shown = |object: &Object, column: &str| {
        object.cells.get(column).map_or_else(|| "-".to_owned(), Cell::plain)
    };
    NEWS.iter()
        .map(|column| (column, shown(was, column), shown(now, column)))
        .filter(|(_, was, now)| was != now)
        .map(|(column, was, now)| format!("{} {was} -> {now}", column.to_ascii_lowercase()))
        .collect()
}

fn text(sign: &str, object: &Object, changes: &[String]) -> String {
    let (kind, name) = (object.kind.name(), &object.name);
    if !changes.is_empty() {
        return format!("{sign} {kind} {name}: {}", changes.join("; "));
    }
    let details: Vec<String> = ["OWNER", "SIZE", "DEPTH", "HOLDERS"]
        .iter()
        .filter_map(|column| Some((column, object.cells.get(column)?.plain())))
        .filter(|(_, value)| value != "-")
        .map(|(column, value)| format!("{} {value}", column.to_ascii_lowercase()))
        .collect();
    format!("{sign} {kind} {name}: {}", details.join("; "))
}

fn json(sign: &str, object: &Object) -> String {
    let event = match sign {
        "+" => "appeared",
        "-" => "gone",
        "~" => "changed",
        _ => "there",
    };
    let mut all = Map::new();
    all.insert("event".to_owned(), Value::from(event));
    for column in COLUMNS {
        if let Some(cell) = object.cells.get(column) {
            all.insert(column.to_ascii_lowercase(), cell.json());
        }
    }
    Value::Object(all).to_string()
}
