//! `rtm status image`: the tables in shared memory, from both sides: what the
//! mapping itself says, and what its writer has kept books of.

use serde_json::{Map, Value, json};

use super::status;
use crate::env::{Env, succeeded};
use crate::failure::{Failure, Result};
use crate::mapped::{self, busy};

pub(crate) fn run(env: &mut Env<'_>) -> Result<()> {
    let (values, done) = env.ask_json("status image")?;
    succeeded(done)?;
    let Some(Value::Object(writer)) = values.into_iter().next() else {
        return Err(Failure::refused("the daemon gave no status of the image"));
    };
    let image = mapped::attach(env)?;
    let header = image.header();
    let state = image.state().map_err(busy)?;
    let Value::Object(mut all) = json!({
        "layout": header.layout,
        "object": format!("{:016x}", header.id),
        "object_bytes": header.bytes,
        "ring_bytes": header.ring_bytes,
        "writer": mapped::writer_name(&image),
        "writer_pid": header.pid,
        "epoch": format!("{:016x}", state.epoch),
        "revision": state.revision,
        "version": state.version,
        "routes_v4": state.routes[0],
        "routes_v6": state.routes[1],
        "neighbours": state.neighbours,
        "keys": state.mac_keys,
        "groups": state.groups,
        "links": state.links,
        "tables": state.tables,
    }) else {
        return Ok(());
    };
    // The writer's books: what the header doesn't say.
    for (name, value) in writer {
        if !all.contains_key(&name) {
            all.insert(name, value);
        }
    }
    all.insert("repeats".to_owned(), image.repeats().into());
    all.insert("busy".to_owned(), image.busy().into());
    print(env, all)
}

fn print(env: &mut Env<'_>, all: Map<String, Value>) -> Result<()> {
    if env.options.json {
        return Ok(env.out.json(&Value::Object(all), env.options.pretty)?);
    }
    all.iter().try_for_each(|(key, value)| status::print(&mut env.out, 0, key, value))
}
