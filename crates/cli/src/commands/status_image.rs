//! `rtm status image`: the tables in shared memory, from both sides: what the
//! mapping itself says, and what its writer has kept books of.
//!
//! `repeats` and `busy` are this process's own. Nobody can tell those of others:
//! readers write nothing, neither into the mapping nor to the daemon, so each
//! counts for itself (`Reader::busy`, `busy` of librtm's `rtm_state`).

use rtm_client::{Busy, Reader, TableCounts};
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
    all.insert("trees".to_owned(), trees(&image)?);
    all.insert("routing_tables".to_owned(), tables(&image)?);
    all.insert("repeats".to_owned(), image.repeats().into());
    all.insert("busy".to_owned(), image.busy().into());
    print(env, all)
}

/// Members that are shown with `-d` only.
const DETAILS: [&str; 1] = ["routing_tables"];

/// How high the trees are and how many nodes they have.
fn trees(image: &Reader) -> Result<Value> {
    let shapes = match image.shapes() {
        Ok(shapes) => shapes,
        // It changes too fast for so much to be read at once: the rest stands.
        Err(Busy) => return Ok(Value::Null),
    };
    let shapes = shapes.into_iter().filter(|shape| shape.height > 0).map(|shape| {
        json!({
            "name": shape.name,
            "entries": shape.entries,
            "height": shape.height,
            "inner": shape.inner,
            "leaves": shape.leaves,
            "bytes": shape.bytes,
        })
    });
    Ok(shapes.collect())
}

fn tables(image: &Reader) -> Result<Value> {
    let one = |counts: TableCounts| {
        let [v4, v6] = counts.routes;
        json!({ "table": counts.table, "routes_v4": v4, "routes_v6": v6 })
    };
    let all = image.tables().map(|counts| counts.map(one).map_err(busy));
    Ok(Value::Array(all.collect::<Result<_>>()?))
}

fn print(env: &mut Env<'_>, all: Map<String, Value>) -> Result<()> {
    if env.options.json {
        return Ok(env.out.json(&Value::Object(all), env.options.pretty)?);
    }
    let details = env.options.details > 0;
    let shown = all.iter().filter(|(key, _)| details || !DETAILS.contains(&key.as_str()));
    for (key, value) in shown {
        status::print(&mut env.out, 0, key, value)?;
    }
    Ok(())
}
