//! `rtm neigh show`: neighbours as `ip neigh` prints them.

use rtm_model::text::{Heading, Hide, NeighbourSelector};
use rtm_model::{Entity, Names};

use crate::env::Env;
use crate::failure::Result;
use crate::output::JsonArray;
use crate::resolve::Known;

pub(crate) fn run(env: &mut Env<'_>, selector: &NeighbourSelector) -> Result<()> {
    let line = format!("neigh show {}", selector.display(Names::builtin()));
    let mut printer = env.printer();
    printer.hide = Hide::of_neighbours(selector);
    let mut known = Known::default();
    let heading = Heading::default();
    let mut json = env.options.json.then(|| JsonArray::new(env.options.pretty));
    env.ask(&line, &mut |item, out| {
        let Some(Entity::Neighbour(neighbour)) = known.entity(&item)? else { return Ok(()) };
        let (key, value) = (&neighbour.key, &neighbour.value);
        match &mut json {
            Some(json) => {
                json.entry(out, |json| printer.neighbour_json(json, key, value, &known, &heading))?
            }
            None => {
                let mut buffer = out.buffer();
                printer
                    .neighbour(&mut buffer, key, value, &known, &heading)
                    .map_err(std::io::Error::other)?;
                out.spill()?;
            }
        }
        Ok(())
    })?;
    match json {
        Some(json) => Ok(json.end(&mut env.out)?),
        None => Ok(()),
    }
}
