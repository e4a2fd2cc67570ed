//! What others do to the kernel's table, as it happens and as listings show it.

use std::time::Instant;

use ipc::netlink::{self, Error};
use rtm_model::{Family, RouteSpec};
use rtm_netlink::{
    Body, RouteFilter, RouteMessage, flag, kind, messages, request_dump, request_routes,
};

use super::{AUDIT_MS, Export, Key, Listing, Pass, SETTLE_MS, Slot, State};
use crate::core::Core;

impl Export {
    pub(super) fn read_events(&mut self, core: &mut Core, until: Instant) {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            match self.events.receive(&mut buffer) {
                Ok(datagram) if datagram.sender != netlink::KERNEL => {}
                Ok(datagram) => {
                    self.read[0] += datagram.len as u64;
                    self.events_in(core, &buffer[..datagram.len]);
                }
                Err(Error::WouldBlock {}) => break,
                Err(_) => {
                    core.export.count("overruns");
                    self.list_soon(core);
                }
            }
            if Instant::now() >= until {
                self.overran += 1;
                break;
            }
        }
        self.buffer = buffer;
    }

    pub(super) fn list_soon(&mut self, core: &Core) {
        self.list_at.get_or_insert(core.now + SETTLE_MS);
    }

    fn retry_soon(&mut self, core: &Core) {
        if core.export.waiting + core.export.blocked > 0 {
            self.retry_at.get_or_insert(core.now + SETTLE_MS);
        }
    }

    fn events_in(&mut self, core: &mut Core, bytes: &[u8]) {
        for message in messages(bytes).flatten() {
            let (port, flags) = (message.port, message.flags);
            match Body::decode(message) {
                Ok(Body::Link(link)) if !link.is_port => {
                    self.links.retain(|_, index| *index != link.ifindex);
                    if let (false, Ok(name)) = (link.gone, link.name()) {
                        self.links.insert(name, link.ifindex);
                    }
                    // What went with it was not told.
                    self.list_soon(core);
                    self.retry_soon(core);
                }
                Ok(Body::Address(_)) => self.retry_soon(core),
                Ok(Body::Route(route)) if port != self.port && route.table == self.table => {
                    self.route_event(core, &route, flags);
                    self.retry_soon(core);
                }
                _ => {}
            }
        }
    }

    fn route_event(&mut self, core: &mut Core, route: &RouteMessage<'_>, flags: u16) {
        let Ok(spec) = route.spec() else { return };
        let key =
            Key { prefix: spec.prefix, metric: spec.metric.unwrap_or_default(), tos: spec.tos };
        let Some(slot) = self.slots.get(&key).copied() else { return };
        let ours = route.protocol == self.protocol;
        match (ours, route.gone) {
            // Somebody took ours away: it comes back.
            (true, true) if slot.state == State::Ours => {
                core.export.count("repaired");
                self.forget(core, key);
                self.update(core, key, true);
            }
            (true, _) => self.list_soon(core),
            // Another's is in front of ours now, or instead of it.
            (false, false) if slot.state == State::Ours && flags & flag::APPEND == 0 => {
                self.block(core, key, slot.hash, flags & flag::REPLACE == 0);
                // With the import, it may win, and ours is to go.
                self.update(core, key, false);
            }
            (false, false) if key.prefix.family() == Family::V6 => self.list_soon(core),
            (false, true) if slot.state == State::Blocked => {
                self.list_soon(core);
                self.update(core, key, true);
            }
            _ => {}
        }
    }

    // Listings.

    pub(super) fn ask(&mut self, what: u16, family: Family) {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.request.clear();
        if what == kind::GETLINK {
            request_dump(&mut self.request, self.sequence, what);
        } else {
            let filter =
                RouteFilter { family: family.af(), table: self.table, ..RouteFilter::default() };
            request_routes(&mut self.request, self.sequence, &filter);
        }
        let listing = Listing { sequence: self.sequence, what, family, last: None };
        self.listing = self.dumps.send(self.request.bytes()).is_ok().then_some(listing);
    }

    /// One piece of an answer; false: there is none yet.
    pub(super) fn read_listing(&mut self, core: &mut Core) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = self.dumps.receive(&mut buffer);
        let more = match received {
            Ok(datagram) if datagram.sender == netlink::KERNEL => {
                self.read[1] += datagram.len as u64;
                self.lines_in(core, &buffer[..datagram.len]);
                true
            }
            Ok(_) => true,
            Err(Error::WouldBlock {}) => false,
            Err(error) => {
                tracing::warn!("export: {error}; it is asked again");
                self.listing = None;
                self.list_soon(core);
                false
            }
        };
        self.buffer = buffer;
        more
    }

    fn lines_in(&mut self, core: &mut Core, bytes: &[u8]) {
        for message in messages(bytes).flatten() {
            let Some(listing) = &mut self.listing else { return };
            if message.sequence != listing.sequence {
                continue;
            }
            match Body::decode(message) {
                Ok(Body::Link(link)) if !link.is_port => {
                    if let Ok(name) = link.name() {
                        self.links.insert(name, link.ifindex);
                    }
                }
                Ok(Body::Route(route)) => {
                    let Ok(spec) = route.spec() else { continue };
                    let metric = spec.metric.unwrap_or_default();
                    let key = Key { prefix: spec.prefix, metric, tos: spec.tos };
                    let first = listing.last.replace(key) != Some(key);
                    let ours = route.protocol == self.protocol;
                    if first {
                        self.line(core, key, &spec, ours);
                    } else if ours {
                        self.line_behind(core, key);
                    }
                }
                Ok(Body::Answer(_)) => {
                    let (what, family) = (listing.what, listing.family);
                    self.listing = None;
                    match (what, family) {
                        (kind::GETLINK, _) => self.ask(kind::GETROUTE, Family::V4),
                        (_, Family::V4) => self.ask(kind::GETROUTE, Family::V6),
                        (_, Family::V6) => {
                            self.listed_once = true;
                            self.audit = core.now + AUDIT_MS;
                            self.passes.push(Pass::Slots { after: None, listed: true });
                            core.export.count("listings");
                        }
                    }
                    return;
                }
                _ => {}
            }
        }
    }

    /// Ours, behind another's.
    fn line_behind(&mut self, core: &mut Core, key: Key) {
        let slot = self.slots.get(&key).copied();
        match slot.map(|slot| slot.state) {
            Some(State::Ours | State::Sent) => return,
            Some(State::Blocked | State::Waiting) => {}
            None => self.block(core, key, 0, true),
        }
        if let Some(known) = self.slots.get_mut(&key) {
            (known.behind, known.seen) = (true, true);
            known.leftover = slot.is_none();
        }
    }

    /// Another's route has a key; ours may be `behind` it.
    fn block(&mut self, core: &mut Core, key: Key, hash: u32, behind: bool) {
        let why = "another's route has this prefix, tos and metric".to_owned();
        self.set(core, key, State::Blocked, hash, Some(why));
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.behind = behind;
        }
    }

    /// The first route on a key, as the kernel has it.
    fn line(&mut self, core: &mut Core, key: Key, spec: &RouteSpec, ours: bool) {
        let hash = self.hash(spec);
        let slot = self.slots.get(&key).copied();
        match (ours, slot) {
            (_, Some(Slot { state: State::Sent, .. })) => {}
            (true, Some(Slot { state: State::Ours, .. })) => {
                // The kernel fills in what we left open (a gateway's link), so
                // another content is no reason to send it again.
                if let Some(slot) = self.slots.get_mut(&key) {
                    slot.seen = true;
                }
            }
            (true, slot) => {
                self.set(core, key, State::Ours, hash, None);
                if let Some(made) = self.slots.get_mut(&key) {
                    made.leftover = slot.is_none();
                }
            }
            (false, Some(slot)) if slot.state == State::Ours => {
                self.block(core, key, slot.hash, false);
                if let Some(slot) = self.slots.get_mut(&key) {
                    slot.seen = true;
                }
            }
            (false, Some(slot)) if slot.state == State::Blocked => {
                if let Some(slot) = self.slots.get_mut(&key) {
                    slot.seen = true;
                }
            }
            (false, _) => {}
        }
    }
}
