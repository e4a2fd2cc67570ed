//! What is listed: requests one after the other, their answers' lines, and at
//! the end what the kernel no longer has.

use std::collections::BTreeSet;

use ipc::netlink;
use rtm_model::{Family, LinkRef, RouteSpec};
use rtm_netlink::{Answer, Body, RouteMessage, messages};
use rtm_tables::{Millis, OwnRoute, StaleCursor};

use super::listing::{Listing, ROUNDS_MAX, Scope, Step};
use super::reader::Piece;
use super::routes::{self, ListKey, Outcome};
use super::{AUDIT_MS, AUDIT_SHARE, Kernel, LOOKS, PREFIXES_MAX, REPORT_MAX, SOON_MS, refused};
use crate::core::Core;

impl Kernel {
    pub(super) fn begin(&mut self, core: &mut Core) {
        self.wanted.at = None;
        if let Some(mut listing) = self.repeat.take() {
            if self.wanted.all || !self.wanted.links.is_empty() || !self.wanted.prefixes.is_empty()
            {
                self.wanted.at = Some(core.now + self.settle_ms);
            }
            let stamp = core.table.begin_listing();
            if listing.scope == Scope::All {
                self.joined.begin(stamp);
            }
            listing.again(&self.tables, stamp);
            self.listing = Some(listing);
            return self.ask(core);
        }
        let mut prefixes = BTreeSet::new();
        let scope = if std::mem::take(&mut self.wanted.all) {
            self.wanted.links.clear();
            self.wanted.prefixes.clear();
            Scope::All
        } else if let Some(ifindex) = self.wanted.links.pop_first() {
            if !self.wanted.links.is_empty() || !self.wanted.prefixes.is_empty() {
                self.wanted.at = Some(core.now);
            }
            Scope::Link(ifindex)
        } else {
            prefixes = std::mem::take(&mut self.wanted.prefixes);
            if prefixes.is_empty() {
                return;
            }
            Scope::Prefixes
        };
        let empty = core
            .table
            .sources()
            .find(|source| source.id == self.source)
            .is_none_or(|source| source.routes + source.neighbours == 0);
        if scope == Scope::All {
            core.table.begin_generation(self.source);
        }
        let stamp = core.table.begin_listing();
        if scope == Scope::All {
            self.joined.begin(stamp);
        }
        core.kernel.count(match scope {
            Scope::All => "listings",
            Scope::Link(_) => "listings of links",
            Scope::Prefixes => "listings of prefixes",
        });
        self.listing = Some(Listing::new(scope, prefixes, &self.tables, stamp, empty));
        self.ask(core);
    }

    /// Sends the next request; without one, the round has ended.
    fn ask(&mut self, core: &mut Core) {
        let Some(listing) = &mut self.listing else { return };
        self.sequence = self.sequence.wrapping_add(1).max(1);
        if !listing.next_request(self.sequence, &mut self.request) {
            self.round_ended(core);
            return;
        }
        if let Err(error) = self.reader.send(self.request.bytes()) {
            tracing::warn!("kernel: {error}; it is asked again");
            self.give_up(core);
        }
    }

    /// The listing can't be finished: another one, later.
    fn give_up(&mut self, core: &mut Core) {
        self.listing = None;
        self.repeat = None;
        self.ended = core.now;
        self.want_all(core.now);
    }

    /// Takes one piece of an answer.
    pub(super) fn read_answer(&mut self, core: &mut Core, piece: &Piece) {
        match &piece.received {
            Ok(datagram) if datagram.sender != netlink::KERNEL => core.kernel.count("spoofed"),
            Ok(datagram) => {
                core.kernel.last_message = Some(core.now);
                self.read[1] += datagram.len as u64;
                self.answer_in(core, &piece.buffer[..datagram.len]);
            }
            Err(error) => {
                tracing::warn!("kernel: {error}; it is asked again");
                self.give_up(core);
            }
        }
    }

    pub(super) fn answer_in(&mut self, core: &mut Core, bytes: &[u8]) {
        for message in messages(bytes) {
            let Ok(message) = message else {
                core.kernel.count("malformed");
                return self.give_up(core);
            };
            let Some(listing) = &mut self.listing else { return };
            let Some((sequence, step)) = listing.current else { return };
            if message.sequence != sequence {
                continue; // What is left of an answer that was given up.
            }
            listing.disturbed |= message.flags & rtm_netlink::flag::DUMP_INTR != 0;
            let Ok(body) = Body::decode(message) else {
                core.kernel.count("malformed");
                continue;
            };
            match body {
                Body::Route(route) => self.route_line(core, &route),
                Body::NextHop(object) => {
                    listing.seen.insert(object.id);
                    if !listing.objects.contains(&object.id) {
                        self.learn_object(core, &object);
                    }
                }
                Body::Neighbour(neighbour) => {
                    let touched = |key| listing.neighbours.contains(&key);
                    let known =
                        neighbour.spec().is_ok_and(|spec| touched((spec.ip, neighbour.ifindex)));
                    if !known {
                        let changed = self.neighbour(core, &neighbour, false);
                        self.line(changed);
                    }
                }
                Body::Link(link) if !link.is_port => {
                    listing.seen.insert(link.ifindex);
                    if !listing.links.contains(&link.ifindex) {
                        let before = self.links.insert(link.ifindex, link.state());
                        if before != Some(link.state()) {
                            self.foreseen.insert(link.ifindex);
                        }
                        self.tell_link(core, &link);
                        self.line(before.is_none());
                    }
                }
                Body::Answer(answer) => return self.answered(core, step, answer),
                _ => {}
            }
        }
    }

    /// Counts a line.
    fn line(&mut self, changed: bool) {
        if let Some(listing) = &mut self.listing {
            listing.line_count += 1;
            listing.changed += u64::from(changed);
        }
    }

    fn route_line(&mut self, core: &mut Core, route: &RouteMessage<'_>) {
        if !self.listing.as_ref().is_some_and(|listing| listing.wants(route)) {
            return;
        }
        let Some(spec) = self.route_of(core, route) else { return };
        let Some(listing) = &mut self.listing else { return };
        let same = listing.lines.last().is_some_and(|last| ListKey::of(last) == ListKey::of(&spec));
        if !same && !listing.lines.is_empty() {
            self.take_list(core);
        }
        if let Some(listing) = &mut self.listing {
            listing.lines.push(spec);
        }
    }

    /// Takes the lines of one list.
    fn take_list(&mut self, core: &mut Core) {
        let Some(listing) = &mut self.listing else { return };
        let Some(first) = listing.lines.first() else { return };
        let key = ListKey::of(first);
        let own = || key.own(&core.table, self.source);
        let placed =
            |own: &[OwnRoute]| routes::is_placed(&core.table, self.source, own, &listing.lines);
        let touched = listing.lists.contains(&key);
        if touched || matches!(listing.scope, Scope::Link(_)) && !placed(&own()) {
            let own = own();
            if touched {
                // An event has spoken of it: what we have is newer, if it is all.
                let same = routes::is_list(&core.table, self.source, &own, &listing.lines);
                if !same && !matches!(listing.scope, Scope::Link(_)) {
                    listing.skip(key);
                }
            }
            listing.lines.clear();
            for own in own {
                let (table, mut out) = core.parts();
                table.confirm_route(self.source, &own.key, &mut out);
            }
            if !touched {
                core.kernel.count("doubtful");
                self.want_prefix(core, key.table, key.prefix);
            }
            return;
        }
        // Where the list is in doubt, it is compared, also if there was nothing before.
        let doubted = listing.skipped.remove(&key);
        let mut lines = std::mem::take(&mut listing.lines);
        let (mut changed, mut count, mut doubtful) = (0, 0, 0);
        let (source, fresh) = (self.source, listing.fresh && !doubted);
        let (mut report, mut failed) = (Vec::new(), Vec::new());
        let reporting = self.reporting;
        let more = routes::listed(core, source, fresh, &mut lines, |spec, outcome| {
            count += 1;
            match outcome {
                Outcome::Applied => {
                    changed += 1;
                    if reporting {
                        report.push(spec.clone());
                    }
                }
                Outcome::Nothing => {}
                Outcome::Doubtful | Outcome::Incomplete => doubtful += 1,
                Outcome::Refused(error) => failed.push((spec.prefix.to_string(), error)),
            }
        });
        for (place, error) in failed {
            refused(core, &place, &error);
        }
        for spec in report {
            let line = line_of(core, &spec);
            self.report(core, &format!("differed: {line}"));
        }
        if changed > 0 {
            self.alike.forget(&key);
        }
        if let Some(listing) = &mut self.listing {
            // What isn't among the lines goes at the end, unless it carries this listing's
            // stamp (where another came before it, they all do), or the round before counts.
            let is_left = || {
                let fresh = routes::fresh_count(&core.table, source, &key, listing.stamp);
                fresh as u64 > count
            };
            if more && (listing.round > 1 || is_left()) {
                listing.skip(key);
            }
            listing.lines = lines;
            listing.line_count += count;
            listing.changed += changed;
            // A link or a group of it came after it was asked for.
            listing.disturbed |= doubtful > 0;
            if doubtful > 0 && listing.scope == Scope::Prefixes {
                self.want_all(core.now); // Links and groups aren't asked for here.
            }
        }
    }

    /// The kernel has answered a request whole, or refused it.
    fn answered(&mut self, core: &mut Core, step: Step, answer: Answer<'_>) {
        const ENOENT: u32 = 2;
        const ENODEV: u32 = 19;
        const EOPNOTSUPP: u32 = 95;
        self.take_list(core);
        match answer.errno {
            0 => {}
            // No such table, no such link, a kernel without next-hop objects:
            // nothing is there.
            ENOENT | ENODEV | EOPNOTSUPP => {}
            errno => {
                let text = String::from_utf8_lossy(answer.text);
                let code = ipc::errno_text(ipc::Errno::from_raw_os_error(errno as i32));
                tracing::warn!("kernel: a dump was refused: {code} {text}; it is asked again");
                return self.give_up(core);
            }
        }
        match step {
            Step::Links => {
                let Some(listing) = &self.listing else { return };
                let gone: Vec<u32> = (self.links.keys().copied())
                    .filter(|id| !listing.seen.contains(id) && !listing.links.contains(id))
                    .collect();
                for ifindex in gone {
                    self.forget_link(core, ifindex);
                }
            }
            Step::Objects => {
                let Some(listing) = &self.listing else { return };
                let (gone, there): (Vec<u32>, Vec<u32>) =
                    self.objects.keys().copied().partition(|id| {
                        !listing.seen.contains(id) && !listing.objects.contains(id)
                    });
                for id in gone {
                    self.forget_object(core, id);
                }
                for id in there {
                    self.tell_object(core, id);
                }
            }
            Step::Routes(_) | Step::Neighbours(_) => {}
        }
        self.ask(core);
    }

    fn round_ended(&mut self, core: &mut Core) {
        let Some(listing) = self.listing.take() else { return };
        let took = listing.since.elapsed();
        self.ended = core.now;
        if listing.overrun && listing.scope != Scope::All {
            return; // Everything is to be listed.
        }
        if listing.overrun || listing.disturbed && listing.round < ROUNDS_MAX {
            core.kernel.count("listings repeated");
            // One in settle_ms.
            self.wanted.at = Some(core.now + self.settle_ms);
            self.repeat = Some(listing);
            return;
        }
        let since = match listing.before {
            Some(before) if listing.disturbed => before,
            _ => listing.stamp,
        };
        let share = (took * AUDIT_SHARE).as_millis() as Millis;
        let soon = core.now + SOON_MS.max(share);
        let mut doubt = listing.disturbed;
        match listing.scope {
            Scope::All => {
                self.unsure = false;
                self.joined.end(since);
                self.audit = core.now + AUDIT_MS.max(share);
                if listing.skipped.len() > PREFIXES_MAX {
                    doubt = true;
                } else if !listing.skipped.is_empty() {
                    let places = listing.skipped.iter().map(|list| (list.table, list.prefix));
                    self.wanted.prefixes.extend(places);
                    self.want(core.now);
                }
                let auditing = std::mem::take(&mut self.auditing) || self.reporting;
                if auditing && listing.changed > 0 {
                    tracing::warn!(
                        "kernel: {} of {} entries differed and are mended",
                        listing.changed,
                        listing.line_count
                    );
                    *core.kernel.counts.entry("mended").or_default() += listing.changed;
                }
                if !self.listed_once {
                    tracing::info!(
                        "kernel: {} entries in {:.2} s",
                        listing.line_count,
                        took.as_secs_f64()
                    );
                }
                self.listed_once = true;
                if self.reporting {
                    self.search = Some((StaleCursor::default(), since));
                } else {
                    core.table.end_listing(self.source, since);
                }
            }
            Scope::Link(ifindex) => core.table.end_link_listing(self.source, ifindex, since),
            Scope::Prefixes => {
                for (table, prefix) in listing.prefixes {
                    for own in core.table.stale_of(self.source, table, prefix, since) {
                        routes::gone(core, self.source, &own.key);
                    }
                }
                if !listing.skipped.is_empty() {
                    let places = listing.skipped.iter().map(|list| (list.table, list.prefix));
                    self.wanted.prefixes.extend(places);
                    self.want_at(soon);
                }
            }
        }
        if doubt {
            // Change went on all the while: there is no telling what was missed.
            self.audit = self.audit.min(soon);
        }
    }

    /// What the listing lacks, a piece; at the end it goes.
    pub(super) fn search_stale(&mut self, core: &mut Core) {
        let Some((cursor, since)) = self.search.take() else { return };
        let mut found = Vec::new();
        let next = core.table.stale_routes(self.source, since, cursor, LOOKS, &mut found);
        for OwnRoute { key, .. } in found {
            let line = format!("gone: {} table {} metric {}", key.prefix, key.table, key.metric);
            self.report(core, &line);
        }
        match next {
            Some(next) => self.search = Some((next, since)),
            None => {
                core.table.end_listing(self.source, since);
                self.reporting = false;
                core.kernel.done = self.ticket;
            }
        }
    }

    fn report(&self, core: &mut Core, line: &str) {
        if core.kernel.report.len() < REPORT_MAX {
            core.kernel.report.push(line.to_owned());
        } else {
            core.kernel.more += 1;
        }
    }
}

/// A route as `ip` would print it, for the report.
fn line_of(core: &Core, spec: &RouteSpec) -> String {
    let hops: Vec<String> = spec
        .hops
        .as_slice()
        .iter()
        .map(|hop| {
            let gateway = hop.gateway.map_or(String::new(), |gateway| format!(" via {gateway}"));
            let link = match hop.link {
                Some(LinkRef::Ifindex(index)) => core
                    .table
                    .link_of_index(index)
                    .and_then(|id| core.table.store().link(id))
                    .map_or(format!(" dev if{index}"), |link| format!(" dev {}", link.name)),
                _ => String::new(),
            };
            format!("{gateway}{link}")
        })
        .collect();
    let family = match spec.prefix.family() {
        Family::V4 => "",
        Family::V6 => "-6 ",
    };
    format!(
        "{family}{}{} table {} metric {}",
        spec.prefix,
        hops.concat(),
        spec.table,
        spec.metric.unwrap_or_default()
    )
}
