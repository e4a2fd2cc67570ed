//! What `rtm client --once` prints, with a copy or out of the image: the tables as
//! `route show table all` and `neigh show` print them.

use std::io;

use rtm_model::text::{Extra, Heading, JsonWriter, Resolve};
use rtm_model::{Neighbour, Route};

use crate::env::Env;
use crate::failure::Result;

/// Entries, and where the names in them are found.
pub(super) struct Part<'a, I> {
    pub(super) entries: I,
    pub(super) names: &'a dyn Resolve,
}

pub(super) fn print(
    env: &mut Env<'_>,
    routes: Part<'_, impl Iterator<Item = Result<Route>>>,
    neighbours: Part<'_, impl Iterator<Item = Result<Neighbour>>>,
) -> Result<()> {
    let (printer, heading) = (env.printer(), Heading::default());
    let extra = Extra { details: printer.details, ..Extra::default() };
    let (json, pretty) = (env.options.json, env.options.pretty);
    if json {
        env.out.text("{\"routes\":[")?;
    }
    let names = routes.names;
    for (index, route) in routes.entries.enumerate() {
        let route = route?;
        let mut buffer = env.out.buffer();
        if json {
            let mut json = JsonWriter::in_array(&mut buffer, pretty, index == 0);
            printer.route_json(&mut json, &route.key, &route.value, names, &heading, &extra)
        } else {
            printer.route(&mut buffer, &route.key, &route.value, names, &heading, &extra)
        }
        .map_err(io::Error::other)?;
        env.out.spill()?;
    }
    if json {
        env.out.text("],\"neighbours\":[")?;
    }
    let names = neighbours.names;
    for (index, neighbour) in neighbours.entries.enumerate() {
        let neighbour = neighbour?;
        let (key, value) = (&neighbour.key, &neighbour.value);
        let mut buffer = env.out.buffer();
        if json {
            let mut json = JsonWriter::in_array(&mut buffer, pretty, index == 0);
            printer.neighbour_json(&mut json, key, value, names, &heading)
        } else {
            printer.neighbour(&mut buffer, key, value, names, &heading)
        }
        .map_err(io::Error::other)?;
        env.out.spill()?;
    }
    if json {
        env.out.text("]}\n")?;
    }
    Ok(())
}
