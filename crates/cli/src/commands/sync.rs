//! `rtm sync`: the barrier.

use rtm_model::text::Barrier;
use serde_json::Value;

use crate::env::{Env, succeeded};
use crate::failure::{Failure, Result, TIMED_OUT};

pub(crate) fn run(env: &mut Env<'_>, barrier: &Barrier) -> Result<()> {
    let mut line = String::from("sync");
    if let Some(timeout) = barrier.timeout {
        line.push_str(&format!(" --timeout {}ms", timeout.as_millis()));
    }
    for name in &barrier.clients {
        line.push_str(&format!(" --client {}", quoted(name)));
    }
    let (values, done) = env.ask_json(&line)?;
    if !matches!(done.code, 0 | 4) {
        succeeded(done)?;
        return Ok(());
    }
    let report = values.into_iter().next().unwrap_or_default();
    if env.options.json {
        env.out.json(&report, env.options.pretty)?;
        return if done.code == 0 { Ok(()) } else { Err(Failure::Quiet(TIMED_OUT)) };
    }
    let agreed = report["agreed"].as_array().map_or(0, Vec::len);
    if done.code == 0 {
        let copies = if agreed == 1 { "copy is" } else { "copies are" };
        let revision = report["revision"].as_u64().unwrap_or(done.revision.0);
        return Ok(env.out.line(format_args!("{agreed} {copies} equal at revision {revision}"))?);
    }
    Err(Failure::timed_out(format_args!("sync: {}", disagreement(&report, agreed))))
}

/// Who didn't agree, on one line.
fn disagreement(report: &Value, agreed: usize) -> String {
    let mut parts = Vec::new();
    for (key, words) in [
        ("differing", "digests differ"),
        ("late", "late"),
        ("gone", "gone"),
        ("cannot", "can't acknowledge"),
    ] {
        let names: Vec<&str> =
            report[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !names.is_empty() {
            parts.push(format!("{words}: {}", names.join(", ")));
        }
    }
    let rest = if parts.is_empty() { "others did not".to_owned() } else { parts.join("; ") };
    format!("{agreed} agreed, {rest}")
}

/// A name as a word of the grammar.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_.:@/+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('-') {
        return word.to_owned();
    }
    let quote = if word.contains('\'') { '"' } else { '\'' };
    format!("{quote}{word}{quote}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everybody_who_did_not_agree_is_named() {
        let report = json!({ "late": ["a", "b"], "gone": [], "differing": ["c"] });
        assert_eq!(disagreement(&report, 2), "2 agreed, digests differ: c; late: a, b");
    }

    #[test]
    fn names_become_words() {
        assert_eq!(quoted("collector-1"), "collector-1");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "\"it's\"");
        assert_eq!(quoted("-x"), "'-x'");
    }
}
