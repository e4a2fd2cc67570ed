//! `rtm monitor`: changes as they happen, as `ip monitor` prints them.
//!
//! A replica of what is watched is kept, so that what was deleted can be
//! printed in full, and every route with its next hops.

use std::io;
use std::os::fd::AsFd;

use rtm_client::{Change, Epoch, Event, FollowConfig, Revision, RouteCursor, Stop, Store};
use rtm_model::text::{Extra, Heading, JsonWriter, Monitor, Printer, Timestamps};
use rtm_model::{Entity, EntityKey};

use super::lost::Lost;
use super::monitor_exec;
use crate::clock::Clock;
use crate::env::Env;
use crate::failure::{Failure, Result};
use crate::output::{Out, say};

pub(crate) fn run(env: &mut Env<'_>, monitor: &Monitor) -> Result<()> {
    let stop = Stop::new().map_err(Failure::refused)?;
    let since = monitor.from.map(|from| (Epoch(from.epoch), Revision(from.revision)));
    let mut follower = env.follow(FollowConfig {
        name: "rtm-monitor".into(),
        filter: monitor.filter().to_string(),
        changes: true,
        rejected: monitor.rejected,
        since,
        ..FollowConfig::default()
    })?;
    let mut printer = env.printer();
    // Each event is a line of its own: nothing is left out for being known.
    printer.hide = rtm_model::text::Hide::default();
    let mut show = Show {
        monitor,
        printer,
        json: env.options.json,
        pretty: env.options.pretty,
        timestamps: env.options.timestamps,
        clock: Clock::new(),
        quiet: true,
        anew: monitor.initial,
        synced: false,
        lost: Lost::default(),
        failed: None,
    };
    if let Some(command) = &monitor.exec {
        // Lines for a program, whatever else was asked for.
        (show.json, show.pretty) = (true, false);
        return monitor_exec::run(&mut follower, &stop, &mut show, command);
    }
    loop {
        let out = &mut env.out;
        follower.turn(None, &[stop.as_fd()], &mut |event| show.event(&event, out))?;
        if let Some(error) = show.failed.take() {
            return Err(error.into());
        }
        env.out.flush()?;
        if let Some(code) = stop.asked() {
            follower.goodbye();
            return Err(Failure::Quiet(code));
        }
    }
}

pub(super) struct Show<'a> {
    monitor: &'a Monitor,
    printer: Printer<'a>,
    json: bool,
    pretty: bool,
    timestamps: Timestamps,
    clock: Clock,
    /// A snapshot is under way: what comes is printed at its end, as the
    /// state that it then is.
    pub(super) quiet: bool,
    /// Print the state at the end of the snapshot.
    pub(super) anew: bool,
    /// Was there an end already?
    synced: bool,
    lost: Lost,
    pub(super) failed: Option<io::Error>,
}

impl Show<'_> {
    pub(super) fn event(&mut self, event: &Event<'_>, out: &mut Out) {
        let printed = match event {
            Event::Begin { snapshot: true, .. } => {
                self.quiet = true;
                let again = self.synced || self.monitor.from.is_some();
                self.anew |= again;
                if again { self.snapshot(out) } else { Ok(()) }
            }
            Event::Begin { .. } => {
                self.quiet = false;
                Ok(())
            }
            Event::Change(change) if !self.quiet && self.wants(change) => self.change(change, out),
            Event::Flushed { revision, what } if !self.quiet && self.monitor.flushes => {
                let names = [(what.routes, "routes"), (what.neighbours, "neighbours")];
                let names: Vec<&str> =
                    names.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
                self.flushed(&names, revision.0, out)
            }
            Event::Synced { revision, store, .. } => {
                (self.quiet, self.synced) = (false, true);
                match (std::mem::take(&mut self.anew), store) {
                    (true, Some(store)) => self.all(store, *revision, out),
                    _ => Ok(()),
                }
            }
            Event::Rejected { by, priority, text } if self.monitor.rejected => {
                self.rejected(by.name(), *priority, text, out)
            }
            Event::Connected { .. } => {
                self.lost.found();
                Ok(())
            }
            Event::Lost { error, pause: Some(_) } => {
                if let Some(line) = self.lost.why(error) {
                    say(format_args!("rtm: {line}"));
                }
                Ok(())
            }
            Event::Differed { revision, .. } => {
                say(format_args!(
                    "rtm: digest: revision {}: this copy differs; a snapshot is on its way",
                    revision.0
                ));
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = printed {
            self.failed.get_or_insert(error);
        }
    }

    /// All that is there, as if it had just come.
    fn all(&mut self, store: &Store, revision: Revision, out: &mut Out) -> io::Result<()> {
        let mut show = |entity: &Entity, out: &mut Out| {
            let key = entity.key();
            let change = Change { revision, last: true, key, new: Some(entity), store };
            if self.wants(&change) { self.change(&change, out) } else { Ok(()) }
        };
        let mut link = None;
        while let Some(next) = store.next_link(link) {
            link = Some(next.id);
            show(&Entity::Link(*next), out)?;
        }
        let mut cursor = RouteCursor::all();
        while let Some(route) = store.next_route(&mut cursor) {
            show(&Entity::Route(route), out)?;
        }
        let mut after = None;
        while let Some(neighbour) = store.next_neighbour(after.as_ref()) {
            after = Some(neighbour.key);
            show(&Entity::Neighbour(neighbour), out)?;
        }
        Ok(())
    }

    pub(super) fn wants(&self, change: &Change<'_>) -> bool {
        match change.key {
            EntityKey::Route(key) => {
                self.monitor.routes
                    && self.monitor.prefix.is_none_or(|rule| rule.matches(key.prefix))
                    && self.monitor.family.is_none_or(|family| family == key.prefix.family())
            }
            EntityKey::Neighbour(key) => {
                self.monitor.neighbours
                    && self.monitor.family.is_none_or(|f| f == rtm_model::Family::of(key.ip))
            }
            EntityKey::Link(_) => self.monitor.links,
            // A group that is just a set of next hops is a route's business.
            EntityKey::Group(_) => self.monitor.routes && self.monitor.prefix.is_none(),
        }
    }

    fn heading(&self, deleted: bool) -> Heading {
        let time = match self.timestamps {
            Timestamps::None => None,
            how => Some((how, self.clock.now())),
        };
        Heading { time, label: self.monitor.label, deleted }
    }

    pub(super) fn change(&mut self, change: &Change<'_>, out: &mut Out) -> io::Result<()> {
        let heading = self.heading(change.new.is_none());
        let resolve = change.store;
        let old = change.new.is_none().then(|| change.old()).flatten();
        let Some(entity) = change.new.or(old.as_ref()) else {
            return self.unknown(change, &heading, out);
        };
        let details = self.printer.details;
        let extra =
            Extra { details, revision: details.then_some(change.revision.0), ..Extra::default() };
        let printer = &self.printer;
        if self.json {
            let mut buffer = out.buffer();
            let mut json = JsonWriter::new(&mut buffer, self.pretty);
            match entity {
                Entity::Route(route) => printer.route_json(
                    &mut json,
                    &route.key,
                    &route.value,
                    resolve,
                    &heading,
                    &extra,
                ),
                Entity::Neighbour(neighbour) => printer.neighbour_json(
                    &mut json,
                    &neighbour.key,
                    &neighbour.value,
                    resolve,
                    &heading,
                ),
                Entity::Link(link) => printer.link_json(&mut json, link, &heading),
                Entity::Group(group) if group.nhid != 0 => {
                    printer.group_json(&mut json, group, resolve, &heading)
                }
                Entity::Group(_) => return Ok(()),
            }
            .map_err(io::Error::other)?;
            return out.text("\n");
        }
        let mut buffer = out.buffer();
        match entity {
            Entity::Route(route) => {
                printer.route(&mut buffer, &route.key, &route.value, resolve, &heading, &extra)
            }
            Entity::Neighbour(neighbour) => {
                printer.neighbour(&mut buffer, &neighbour.key, &neighbour.value, resolve, &heading)
            }
            Entity::Link(link) => printer.link(&mut buffer, link, &heading),
            Entity::Group(group) if group.nhid != 0 => {
                printer.group(&mut buffer, group, resolve, &heading)
            }
            Entity::Group(_) => Ok(()),
        }
        .map_err(io::Error::other)?;
        out.spill()
    }

    /// Something was deleted before this copy was made: only its key is known.
    fn unknown(&self, change: &Change<'_>, heading: &Heading, out: &mut Out) -> io::Result<()> {
        let (label, dst, table) = match change.key {
            EntityKey::Route(key) => ("[ROUTE]", key.prefix.to_string(), Some(key.table)),
            EntityKey::Neighbour(key) => ("[NEIGH]", key.ip.to_string(), None),
            // What it was called is not known.
            EntityKey::Link(_) | EntityKey::Group(_) => return Ok(()),
        };
        if self.json {
            let mut buffer = out.buffer();
            let mut json = JsonWriter::new(&mut buffer, self.pretty);
            let write = |json: &mut JsonWriter<'_, _>| {
                json.begin_object()?;
                json.name("deleted")?;
                json.bool(true)?;
                json.field("dst", &dst)?;
                json.end_object()
            };
            write(&mut json).map_err(io::Error::other)?;
            return out.text("\n");
        }
        let mut buffer = out.buffer();
        self.printer.heading(&mut buffer, heading, label).map_err(io::Error::other)?;
        match table {
            Some(table) if table != rtm_model::TABLE_MAIN => {
                out.line(format_args!("{dst} table {table} "))
            }
            _ => out.line(format_args!("{dst} ")),
        }
    }

    fn flushed(&self, names: &[&str], revision: u64, out: &mut Out) -> io::Result<()> {
        if self.json {
            return out
                .json(&serde_json::json!({ "flushed": names, "revision": revision }), self.pretty);
        }
        let mut buffer = out.buffer();
        self.printer
            .heading(&mut buffer, &self.heading(false), "[FLUSH]")
            .map_err(io::Error::other)?;
        out.line(format_args!("Flushed {} ", names.join(" ")))
    }

    /// A message or a line that the daemon rejected.
    fn rejected(&self, by: &str, priority: u32, text: &str, out: &mut Out) -> io::Result<()> {
        if self.json {
            let value = serde_json::json!({ "rejected": text, "feed": by, "priority": priority });
            return out.json(&value, self.pretty);
        }
        let mut buffer = out.buffer();
        self.printer
            .heading(&mut buffer, &self.heading(false), "[REJECTED]")
            .map_err(io::Error::other)?;
        out.line(format_args!("Rejected {by} priority {priority}: {text}"))
    }

    fn snapshot(&self, out: &mut Out) -> io::Result<()> {
        if self.json {
            return out.json(&serde_json::json!({ "snapshot": true }), self.pretty);
        }
        out.line("[SNAPSHOT]")
    }
}
