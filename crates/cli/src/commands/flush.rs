//! `rtm flush`, `rtm route flush`, `rtm neigh flush`.

use std::io::{self, BufRead, IsTerminal, Write};

use rtm_client::Done;
use rtm_model::Names;
use rtm_model::text::{FlushWhat, NeighbourSelector, RouteSelector};

use crate::env::Env;
use crate::failure::{Failure, Result, USAGE};

/// Everything, of all sources, in one revision.
pub(crate) fn all(env: &mut Env<'_>, what: FlushWhat) -> Result<()> {
    let (word, things) = match what {
        FlushWhat::Routes => ("routes", "all routes"),
        FlushWhat::Neighbours => ("neighbours", "all neighbours"),
        FlushWhat::All => ("all", "all routes and all neighbours"),
    };
    if !env.options.force && io::stdin().is_terminal() && io::stderr().is_terminal() {
        env.out.flush()?;
        if !agrees(&format!("flush {things}, of all sources, here and in every copy? y/n "))? {
            return Err(Failure::Quiet(USAGE));
        }
    }
    // A daemon that exports to the kernel wants to be told by name.
    let force = if env.options.force { " --force" } else { "" };
    let done = env.ask(&format!("flush {word}{force}"), &mut |_, _| Ok(()))?;
    report(env, &done)
}

/// The routes of a selector, in one transaction.
pub(crate) fn routes(env: &mut Env<'_>, selector: &RouteSelector) -> Result<()> {
    let line = format!("route flush {}", selected(selector.display(Names::builtin())));
    let done = env.ask(&line, &mut |_, _| Ok(()))?;
    report(env, &done)
}

/// The neighbours of a selector.
pub(crate) fn neighbours(env: &mut Env<'_>, selector: &NeighbourSelector) -> Result<()> {
    let line = format!("neigh flush {}", selected(selector.display(Names::builtin())));
    let done = env.ask(&line, &mut |_, _| Ok(()))?;
    report(env, &done)
}

/// A selector's words. One that restricts nothing but the family has none, and
/// `flush` wants one.
fn selected(selector: impl std::fmt::Display) -> String {
    let text = selector.to_string();
    let only_options = text.split(' ').all(|word| word.is_empty() || word.starts_with('-'));
    if only_options { format!("{text} all").trim_start().to_owned() } else { text }
}

fn report(env: &mut Env<'_>, done: &Done) -> Result<()> {
    let (revision, deleted) = (done.revision.0, done.applied);
    if env.options.json {
        let value = serde_json::json!({ "revision": revision, "deleted": deleted });
        return Ok(env.out.json(&value, env.options.pretty)?);
    }
    if env.options.stats > 0 {
        env.out.line(format_args!("{deleted} deleted, revision {revision}"))?;
    }
    Ok(())
}

/// Asks on the terminal, until the answer is y or n.
fn agrees(question: &str) -> Result<bool> {
    loop {
        let _ = write!(io::stderr(), "{question}");
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line)? == 0 {
            return Ok(false);
        }
        match line.trim() {
            "y" | "yes" => return Ok(true),
            "n" | "no" => return Ok(false),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_a_selector() {
        assert_eq!(selected(""), "all");
        assert_eq!(selected("-4"), "-4 all");
        assert_eq!(selected("-4 table 7"), "-4 table 7");
    }
}
