//! `rtm stat`: one line of figures each interval.
//!
//! The daemon gives counters that only grow, and a few that are as they are;
//! what is printed of the first kind is their growth in a second.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rtm_client::{Stop, wait};
use rustix::event::PollFlags;
use serde_json::{Map, Value, json};

use crate::env::{Env, succeeded};
use crate::failure::{Failure, Result};

/// How often the heading comes again on a terminal.
const HEAD_EVERY: u64 = 20;

/// (key, heading, does it grow for ever?)
const COLUMNS: &[(&str, &str, bool)] = &[
    ("revision", "REVISION", false),
    ("routes", "ROUTES", false),
    ("neighbours", "NEIGHB", false),
    ("sessions", "SESSIONS", false),
    ("changes", "CHANGES/S", true),
    ("unchanged", "UNCHANGED/S", true),
    ("refused", "REFUSED/S", true),
    ("records", "RECORDS/S", true),
    ("bytes_out", "BYTES/S", true),
    ("resumes", "RESUMES/S", true),
    ("snapshots", "SNAPSHOTS/S", true),
    ("resyncs", "RESYNCS/S", true),
    ("turns", "TURNS/S", true),
];

pub(crate) fn run(env: &mut Env<'_>, interval: Duration) -> Result<()> {
    let stop = Stop::new().map_err(Failure::refused)?;
    let mut before = figures(env)?;
    let mut then = Instant::now();
    let mut due = then + interval;
    let mut lines = 0;
    loop {
        let left = due.saturating_duration_since(Instant::now());
        wait(&[(stop.as_fd(), PollFlags::IN)], Some(left));
        if let Some(code) = stop.asked() {
            return Err(Failure::Quiet(code));
        }
        if Instant::now() < due {
            continue;
        }
        // Who was stopped for a while doesn't print what it missed.
        due = (due + interval).max(Instant::now());
        let now_figures = figures(env)?;
        let now = Instant::now();
        let seconds = (now - then).as_secs_f64();
        let cells = cells(&before, &now_figures, seconds);
        if env.options.json {
            let value: Map<String, Value> = COLUMNS
                .iter()
                .zip(&cells)
                .map(|((key, ..), cell)| ((*key).to_owned(), json!(cell)))
                .collect();
            env.out.json(&Value::Object(value), false)?;
        } else {
            let again = lines == 0 || env.out.is_terminal() && lines % HEAD_EVERY == 0;
            if again {
                let heads: Vec<String> =
                    COLUMNS.iter().map(|(_, head, _)| format!("{head:>11}")).collect();
                let heading = env.out.heading(&heads.join(" "));
                env.out.line(heading)?;
            }
            let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:>11}")).collect();
            env.out.line(cells.join(" "))?;
        }
        env.out.flush()?;
        (before, then) = (now_figures, now);
        lines += 1;
    }
}

fn figures(env: &mut Env<'_>) -> Result<Value> {
    let (values, done) = env.ask_json("stat")?;
    succeeded(done)?;
    values.into_iter().next().ok_or_else(|| Failure::refused("the daemon gave no figures"))
}

/// The cells of a line: growth in a second, or the figure as it is.
fn cells(before: &Value, now: &Value, seconds: f64) -> Vec<u64> {
    COLUMNS
        .iter()
        .map(|(key, _, grows)| {
            let figure = |value: &Value| value[key].as_u64().unwrap_or(0);
            match grows {
                true => {
                    (figure(now).saturating_sub(figure(before)) as f64 / seconds).round() as u64
                }
                false => figure(now),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_shown_by_the_second() {
        let cells = cells(
            &json!({ "routes": 5, "changes": 100 }),
            &json!({ "routes": 7, "changes": 600 }),
            2.0,
        );
        let of = |key: &str| cells[COLUMNS.iter().position(|(name, ..)| *name == key).unwrap()];
        assert_eq!((of("routes"), of("changes"), of("records")), (7, 250, 0));
    }
}
