//! `rtm client list` and `rtm client kill`.

use rtm_model::text::Peer;
use serde_json::Value;

use super::sync::quoted;
use crate::env::{Env, succeeded};
use crate::failure::Result;
use crate::output::{Grid, Side};

/// The columns: the key in JSON, the heading, how it stands, and whether it is
/// shown with `-br`.
const COLUMNS: &[(&str, &str, Side, bool)] = &[
    ("name", "NAME", Side::Left, true),
    ("pid", "PID", Side::Right, true),
    ("uid", "UID", Side::Right, false),
    ("transport", "TRANSPORT", Side::Left, false),
    ("role", "ROLE", Side::Left, false),
    ("state", "STATE", Side::Left, true),
    ("revision", "REVISION", Side::Right, true),
    ("lag_records", "LAG", Side::Right, true),
    ("lag_ms", "LAG-MS", Side::Right, true),
    ("queued_bytes", "QUEUED", Side::Right, false),
    ("sent_records", "SENT", Side::Right, false),
    ("conflated", "CONFLATED", Side::Right, false),
    ("resumes", "RESUMES", Side::Right, false),
    ("snapshots", "SNAPSHOTS", Side::Right, false),
    ("resyncs", "RESYNCS", Side::Right, false),
    ("not_shown", "NOT-SHOWN", Side::Right, false),
    ("signal", "SIGNAL", Side::Left, false),
    ("since", "SINCE", Side::Left, false),
];

pub(crate) fn run(env: &mut Env<'_>) -> Result<()> {
    let line = if env.options.details > 0 { "client list -d" } else { "client list" };
    let (values, done) = env.ask_json(line)?;
    succeeded(done)?;
    if env.options.json {
        return Ok(env.out.json(&Value::Array(values), env.options.pretty)?);
    }
    let brief = env.options.brief;
    let columns: Vec<_> = COLUMNS.iter().filter(|column| column.3 || !brief).collect();
    let heads: Vec<_> = columns.iter().map(|&&(_, head, side, _)| (head, side)).collect();
    let mut grid = Grid::new(&heads);
    for value in &values {
        grid.row(columns.iter().map(|(key, ..)| super::cell(&value[key])).collect());
    }
    Ok(grid.print(&mut env.out)?)
}

/// Ends a client's session.
pub(crate) fn kill(env: &mut Env<'_>, peer: &Peer) -> Result<()> {
    let line = match peer {
        Peer::Pid(pid) => format!("client kill {pid}"),
        Peer::Name(name) => format!("client kill {}", quoted(name)),
    };
    env.ask(&line, &mut |_, _| Ok(()))?;
    Ok(())
}
