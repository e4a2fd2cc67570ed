//! `rtm source list`: where routes come from; `rtm source reconcile`: what of
//! them differs from where they come from.

use serde_json::Value;

use crate::env::{Env, succeeded};
use crate::failure::Result;
use crate::output::{Grid, Side};

pub(crate) fn run(env: &mut Env<'_>) -> Result<()> {
    let (values, done) = env.ask_json("source list")?;
    succeeded(done)?;
    if env.options.json {
        return Ok(env.out.json(&Value::Array(values), env.options.pretty)?);
    }
    let mut grid = Grid::new(&[
        ("NAME", Side::Left),
        ("CLASS", Side::Left),
        ("PEER", Side::Left),
        ("ROUTES", Side::Right),
        ("WINNERS", Side::Right),
        ("GENERATION", Side::Right),
        ("STALE", Side::Right),
        ("LAST MESSAGE", Side::Left),
    ]);
    for value in &values {
        let cell = |name: &str| super::cell(&value[name]);
        grid.row(
            ["name", "class", "peer", "routes", "winners", "generation", "stale", "last_message"]
                .map(cell)
                .to_vec(),
        );
    }
    Ok(grid.print(&mut env.out)?)
}

/// `source reconcile NAME`: one line for each difference, then their number.
pub(crate) fn reconcile(env: &mut Env<'_>, name: &str) -> Result<()> {
    let (values, done) = env.ask_json(&format!("source reconcile {name}"))?;
    let text = done.text.clone();
    succeeded(done)?;
    if env.options.json {
        return Ok(env.out.json(&Value::Array(values), env.options.pretty)?);
    }
    for value in &values {
        env.out.line(value["line"].as_str().unwrap_or_default())?;
    }
    Ok(env.out.line(&text)?)
}
