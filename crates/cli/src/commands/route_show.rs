//! `rtm route show`: winners as `ip` prints them, or every candidate.

use std::collections::HashMap;

use rtm_client::{Item, ItemKind};
use rtm_model::text::{Extra, Heading, Hide, Printer, RouteShow};
use rtm_model::{DISTANCE_NEVER, Entity, EntityKind, Names, Route, RouteKey};

use crate::env::Env;
use crate::failure::{Failure, Result};
use crate::output::{JsonArray, Out};
use crate::resolve::{self, Known};

pub(crate) fn run(env: &mut Env<'_>, show: &RouteShow) -> Result<()> {
    let selector = show.selector.display(Names::builtin());
    if show.count {
        return count(env, &format!("route show {selector}{} --count", all(show)));
    }
    let line = format!("route show {selector}{}", all(show));
    let mut printer = env.printer();
    printer.hide = Hide::of_routes(&show.selector);
    let mut list =
        List { printer, json: None, known: Known::default(), sources: HashMap::new(), best: None };
    if env.options.json {
        list.json = Some(JsonArray::new(env.options.pretty));
    }
    env.ask(&line, &mut |item, out| list.item(&item, out))?;
    match list.json {
        Some(json) => Ok(json.end(&mut env.out)?),
        None => Ok(()),
    }
}

fn all(show: &RouteShow) -> &'static str {
    if show.all { " --all" } else { "" }
}

fn count(env: &mut Env<'_>, line: &str) -> Result<()> {
    let (values, done) = env.ask_json(line)?;
    crate::env::succeeded(done)?;
    let count = values.first().and_then(|value| value["count"].as_u64()).unwrap_or(0);
    if env.options.json {
        let pretty = env.options.pretty;
        return Ok(env.out.json(&serde_json::json!({ "count": count }), pretty)?);
    }
    Ok(env.out.line(count)?)
}

/// The listing under way.
struct List<'n> {
    printer: Printer<'n>,
    json: Option<JsonArray>,
    known: Known,
    sources: HashMap<u32, String>,
    /// Key and distance of the first candidate of the key at hand: the winner,
    /// unless it is never used.
    best: Option<(RouteKey, u8)>,
}

impl List<'_> {
    fn item(&mut self, item: &Item<'_>, out: &mut Out) -> Result<()> {
        match item.kind {
            ItemKind::Entity(kind) => {
                let Some(Entity::Route(route)) = self.known.take(kind, item)? else {
                    return Ok(());
                };
                let extra = Extra { details: self.printer.details, ..Extra::default() };
                self.print(&route, &extra, out)
            }
            ItemKind::Source => {
                let (id, name) = source(item)?;
                self.sources.insert(id, name);
                Ok(())
            }
            ItemKind::Candidate4 => self.candidate(EntityKind::Route4, item, out),
            ItemKind::Candidate6 => self.candidate(EntityKind::Route6, item, out),
            _ => Ok(()),
        }
    }

    fn candidate(&mut self, kind: EntityKind, item: &Item<'_>, out: &mut Out) -> Result<()> {
        let Some((head, body)) = item.body.split_first_chunk::<8>() else {
            return Err(Failure::refused("the daemon's answer is no candidate"));
        };
        let id = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let won = head[4] != 0;
        let Entity::Route(route) = resolve::entity(kind, body)? else { return Ok(()) };
        let distance = route.value.distance;
        let first = self.best.is_none_or(|(key, _)| key != route.key);
        if first {
            self.best = Some((route.key, distance));
        }
        let best = self.best.map_or(distance, |(_, best)| best);
        let why = why_lost(won, distance, best);
        let source = self.sources.get(&id).cloned();
        let extra =
            Extra { details: true, source: source.as_deref(), revision: None, why: why.as_deref() };
        self.print(&route, &extra, out)
    }

    fn print(&mut self, route: &Route, extra: &Extra<'_>, out: &mut Out) -> Result<()> {
        let Route { key, value } = route;
        let heading = Heading::default();
        match &mut self.json {
            Some(json) => {
                json.entry(out, |json| {
                    self.printer.route_json(json, key, value, &self.known, &heading, extra)
                })?;
            }
            None => {
                let mut buffer = out.buffer();
                self.printer
                    .route(&mut buffer, key, value, &self.known, &heading, extra)
                    .map_err(std::io::Error::other)?;
                out.spill()?;
            }
        }
        Ok(())
    }
}

/// Why a candidate isn't the winner.
fn why_lost(won: bool, distance: u8, best: u8) -> Option<String> {
    match (won, distance) {
        (true, _) => None,
        (false, DISTANCE_NEVER) => Some("distance 255 is never used".to_owned()),
        (false, _) if distance > best => Some(format!("distance {distance} over {best}")),
        (false, _) => Some("source order".to_owned()),
    }
}

/// An item that names a source: its number, padding, its name.
pub(super) fn source(item: &Item<'_>) -> Result<(u32, String)> {
    let Some((head, _)) = item.body.split_first_chunk::<8>() else {
        return Err(Failure::refused("the daemon's answer is no source"));
    };
    let rest = Item { body: &item.body[8..], ..*item };
    let id = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    Ok((id, rest.text().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_candidate_lost() {
        assert_eq!(why_lost(true, 20, 20), None);
        assert_eq!(why_lost(false, 255, 1).as_deref(), Some("distance 255 is never used"));
        assert_eq!(why_lost(false, 20, 1).as_deref(), Some("distance 20 over 1"));
        assert_eq!(why_lost(false, 1, 1).as_deref(), Some("source order"));
    }
}
