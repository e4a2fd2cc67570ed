//! `rtm wait`: until a route or a neighbour is there, or gone.
//!
//! A follower counts what the selector names: once over the first snapshot,
//! then by each change. It is looked at where the copy is a revision's state,
//! so nothing between two halves of a transaction is ever seen.

use std::os::fd::AsFd;
use std::time::Instant;

use rtm_client::{Change, Event, Flush, FollowConfig, RouteCursor, Stop, Store};
use rtm_model::text::{Filter, FilterRules, PrefixRule, RouteSelector, Wait, WaitFor};
use rtm_model::{Entity, EntityKey, EntityKind, Names};

use crate::env::{Env, succeeded};
use crate::failure::{Failure, Result};
use crate::resolve::Held;

pub(crate) fn run(env: &mut Env<'_>, wait: &Wait) -> Result<()> {
    let stop = Stop::new().map_err(Failure::refused)?;
    let end = wait.timeout.map(|timeout| Instant::now() + timeout);
    let mut follower = env.follow(FollowConfig {
        name: "rtm-wait".into(),
        filter: filter(&wait.what).to_string(),
        changes: true,
        ..FollowConfig::default()
    })?;
    // Whose a route is no copy knows: then the daemon is asked at each mark.
    let by_source = matches!(&wait.what, WaitFor::Route(selector) if selector.source.is_some());
    let mut count = Count { what: &wait.what, there: 0, anew: false };
    loop {
        let mut settled = false;
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        follower.turn(left, &[stop.as_fd()], &mut |event| match event {
            Event::Change(change) => count.change(&change),
            Event::Flushed { what, .. } => count.flushed(what),
            Event::Synced { snapshot, .. } => {
                settled = true;
                count.anew |= snapshot;
            }
            Event::Marked { .. } => settled = true,
            // What is there may be old from here on.
            Event::Begin { .. } | Event::Lost { .. } => settled = false,
            _ => {}
        })?;
        if let Some(code) = stop.asked() {
            follower.goodbye();
            return Err(Failure::Quiet(code));
        }
        if settled {
            if count.anew {
                if let Some(replica) = follower.replica() {
                    count.all(replica.store());
                }
            }
            let there = match &wait.what {
                WaitFor::Route(selector) if by_source => ask(env, selector)?,
                _ => count.there > 0,
            };
            if there != wait.gone {
                follower.goodbye();
                return Ok(());
            }
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            follower.goodbye();
            let what = if wait.gone { "still there" } else { "not there" };
            return Err(Failure::timed_out(format_args!(
                "wait: {}: {what} after {:?}",
                text(&wait.what),
                wait.timeout.unwrap_or_default()
            )));
        }
    }
}

/// How many entities are meant that the copy holds.
struct Count<'a> {
    what: &'a WaitFor,
    there: u64,
    /// To be counted from scratch where the copy is whole again.
    anew: bool,
}

impl Count<'_> {
    fn means(&self, entity: &Entity, store: &Store) -> bool {
        match (self.what, entity) {
            (WaitFor::Route(selector), Entity::Route(route)) => {
                selector.matches(&route.key, &route.value, &Held(store), None)
            }
            (WaitFor::Neighbour(selector), Entity::Neighbour(neighbour)) => {
                selector.matches(&neighbour.key, &neighbour.value, &Held(store))
            }
            _ => false,
        }
    }

    fn change(&mut self, change: &Change<'_>) {
        let kind = change.key.kind();
        let concerns = match self.what {
            WaitFor::Route(_) => matches!(kind, EntityKind::Route4 | EntityKind::Route6),
            WaitFor::Neighbour(_) => kind == EntityKind::Neighbour,
        };
        if !concerns {
            // A link's new name or a group's new members may change what a
            // selector means.
            let shared = matches!(change.key, EntityKey::Link(_) | EntityKey::Group(_));
            self.anew |= shared && change.new.is_some() && change.old().is_some();
            return;
        }
        let was = change.old().is_some_and(|old| self.means(&old, change.store));
        let is = change.new.is_some_and(|new| self.means(new, change.store));
        self.there = self.there + u64::from(is) - u64::from(was && self.there > 0);
    }

    fn flushed(&mut self, what: Flush) {
        let mine = match self.what {
            WaitFor::Route(_) => what.routes,
            WaitFor::Neighbour(_) => what.neighbours,
        };
        if mine {
            self.there = 0;
        }
    }

    /// Counts anew.
    fn all(&mut self, store: &Store) {
        (self.there, self.anew) = (0, false);
        match self.what {
            WaitFor::Route(selector) => {
                let mut cursor = cursor(selector);
                while let Some(route) = store.next_route(&mut cursor) {
                    self.there += u64::from(self.means(&Entity::Route(route), store));
                }
            }
            WaitFor::Neighbour(_) => {
                let mut after = None;
                while let Some(neighbour) = store.next_neighbour(after.as_ref()) {
                    after = Some(neighbour.key);
                    self.there += u64::from(self.means(&Entity::Neighbour(neighbour), store));
                }
            }
        }
    }
}

/// The part of the table in which all that is meant lies.
fn cursor(selector: &RouteSelector) -> RouteCursor {
    let mut cursor = match (selector.prefix, selector.family) {
        (Some(PrefixRule::Exact(prefix) | PrefixRule::Root(prefix)), _) => {
            RouteCursor::all().within(prefix)
        }
        (_, Some(family)) => RouteCursor::family(family),
        _ => RouteCursor::all(),
    };
    if let Some(table) = selector.table {
        cursor = cursor.in_table(table);
    }
    cursor
}

/// The narrowest filter in which all that is meant passes.
fn filter(what: &WaitFor) -> Filter {
    let mut rules = FilterRules { routes: false, neighbours: false, ..FilterRules::default() };
    match what {
        WaitFor::Route(selector) => {
            rules.routes = true;
            rules.family = selector.family;
            rules.tables.extend(selector.table);
            rules.protocols.extend(selector.protocol);
            if let Some(PrefixRule::Exact(prefix) | PrefixRule::Root(prefix)) = selector.prefix {
                rules.prefixes.push(prefix);
            }
        }
        WaitFor::Neighbour(_) => rules.neighbours = true,
    }
    Filter::from(rules)
}

fn ask(env: &mut Env<'_>, selector: &RouteSelector) -> Result<bool> {
    let line = format!("route show {} --count", selector.display(Names::builtin()));
    let (values, done) = env.ask_json(&line)?;
    succeeded(done)?;
    Ok(values.first().and_then(|value| value["count"].as_u64()).unwrap_or(0) > 0)
}

fn text(what: &WaitFor) -> String {
    match what {
        WaitFor::Route(selector) => format!("route {}", selector.display(Names::builtin())),
        WaitFor::Neighbour(selector) => format!("neigh {}", selector.display(Names::builtin())),
    }
    .trim_end()
    .to_owned()
}
