//! `rtm digest`: what makes two copies comparable, on one line.

use rtm_client::{Epoch, Revision};
use rtm_model::Digests;
use serde_json::{Value, json};

use crate::env::{Env, succeeded};
use crate::failure::{Failure, Result};

pub(crate) fn run(env: &mut Env<'_>, resolved: bool) -> Result<()> {
    let line = if resolved { "digest --resolved" } else { "digest" };
    let (values, done) = env.ask_json(line)?;
    succeeded(done)?;
    let Some(value) = values.into_iter().next() else {
        return Err(Failure::refused("the daemon gave no digest"));
    };
    if env.options.json {
        return Ok(env.out.json(&value, env.options.pretty)?);
    }
    let words: Vec<String> = ["epoch", "revision", "routes", "neighbours", "keys", "links"]
        .iter()
        .map(|name| match &value[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
        .collect();
    Ok(env.out.line(words.join(" "))?)
}

/// The line of a replica, the same as the daemon's.
pub(crate) fn line(epoch: Epoch, revision: Revision, digests: &Digests) -> String {
    format!(
        "{:016x} {} {} {} {} {}",
        epoch.0, revision.0, digests.routes, digests.neighbours, digests.keys, digests.links
    )
}

/// The same as JSON.
pub(crate) fn value(
    epoch: Epoch,
    revision: Revision,
    digests: &Digests,
    counts: rtm_client::StoreCounts,
) -> Value {
    json!({
        "epoch": format!("{:016x}", epoch.0),
        "revision": revision.0,
        "routes": digests.routes.to_string(),
        "neighbours": digests.neighbours.to_string(),
        "keys": digests.keys.to_string(),
        "links": digests.links.to_string(),
        "counts": {
            "routes_v4": counts.routes4,
            "routes_v6": counts.routes6,
            "neighbours": counts.neighbours,
            "keys": counts.macs,
            "links": counts.links,
            "groups": counts.groups,
        },
    })
}

#[cfg(test)]
mod tests {
    use rtm_model::Digest;

    use super::*;

    #[test]
    fn the_line_is_that_of_the_grammar() {
        let digests = Digests { routes: Digest(0xab), ..Digests::default() };
        assert_eq!(
            line(Epoch(0x12), Revision(34), &digests),
            "0000000000000012 34 000000000000000000000000000000ab \
             00000000000000000000000000000000 00000000000000000000000000000000 \
             00000000000000000000000000000000"
        );
    }
}
