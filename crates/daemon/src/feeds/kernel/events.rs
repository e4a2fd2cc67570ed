//! What happens: links, next-hop objects, routes and neighbours as they come,
//! go and change, and what follows from that without being told.

use std::net::IpAddr;

use rtm_model::{Change, GroupSpec, HopSpec, LinkSpec, NudState, RouteSpec, Verb, WEIGHT_MAX};
use rtm_netlink::{
    AddressMessage, Body, LinkMessage, NeighbourMessage, NeighbourSkip, NextHopMessage, Object,
    RouteMessage, RouteSkip, messages,
};
use rtm_tables::ChangeError;

use super::listing::Step;
use super::routes::{self, ListKey, Outcome};
use super::{Kernel, Known, refused};
use crate::core::Core;

impl Kernel {
    pub(super) fn events_in(&mut self, core: &mut Core, bytes: &[u8]) {
        for message in messages(bytes) {
            let Ok(body) = message.and_then(Body::decode) else {
                core.kernel.count("malformed");
                return;
            };
            match body {
                Body::Route(route) => self.route_event(core, &route),
                Body::NextHop(object) => self.object_event(core, &object),
                Body::Neighbour(neighbour) => {
                    self.neighbour(core, &neighbour, true);
                }
                Body::Link(link) => self.link_event(core, &link),
                Body::Address(address) => self.address_event(core, &address),
                Body::Answer(_) | Body::Other => {}
            }
        }
    }

    fn address_event(&mut self, core: &mut Core, address: &AddressMessage) {
        let Some(IpAddr::V6(of)) = address.address else {
            // What goes with an IPv4 address is notified; on a small host it costs
            // nothing to make sure.
            return if address.gone {
                self.want_small(core)
            };
        };
        // IPv6 routes with it as `src` lose that without a word. And when IPv6 is switched
        // off or on for a link, next hops are dead or not: the addresses are what tells.
        if address.gone || of.is_unicast_link_local() {
            self.want_link(core, address.ifindex);
        }
    }

    fn want_small(&mut self, core: &Core) {
        if self.is_small(core) {
            self.want_all(core.now);
        }
    }

    fn route_event(&mut self, core: &mut Core, route: &RouteMessage<'_>) {
        let Some(spec) = self.route_of(core, route) else { return };
        let family = spec.prefix.family();
        if let Some(listing) = &mut self.listing {
            listing.lists.insert(ListKey::of(&spec));
            listing.disturbed |= listing.concerns_routes(family) || listing.is_crowded();
        }
        let list = ListKey::of(&spec);
        let (source, sure, alike) = (self.source, !self.unsure, &mut self.alike);
        let outcome = if route.gone {
            routes::removed(core, source, alike, spec)
        } else {
            routes::added(core, source, alike, sure, route.flags, spec)
        };
        match outcome {
            Outcome::Applied | Outcome::Nothing => {}
            Outcome::Doubtful => {
                core.kernel.count("doubtful");
                match &mut self.listing {
                    // It is asked for anyhow.
                    Some(listing) if listing.will_tell(list.table, list.prefix) => {
                        listing.skip(list);
                    }
                    _ => self.want_prefix(core, list.table, list.prefix),
                }
            }
            Outcome::Incomplete => {
                core.kernel.count("doubtful");
                self.want_all(core.now);
            }
            Outcome::Refused(error) => refused(core, &list.prefix.to_string(), &error),
        }
    }

    /// A route's message in the tables' terms, if it is one of ours.
    pub(super) fn route_of(&self, core: &mut Core, route: &RouteMessage<'_>) -> Option<RouteSpec> {
        if route.protocol == self.own_protocol {
            return None;
        }
        if !self.tables.is_empty() && !self.tables.contains(&route.table) {
            return None;
        }
        if route.unknown() > 0 {
            core.kernel.count("unknown attributes");
        }
        match route.spec() {
            Ok(mut spec) => {
                spec.kind = spec.kind.or(Some(rtm_model::RouteType::Unicast));
                Some(spec)
            }
            Err(skip) => {
                core.kernel.count(match skip {
                    RouteSkip::Family => "ignored: other families",
                    RouteSkip::Cloned => "ignored: cloned routes",
                    RouteSkip::SourcePrefix => "ignored: routes for some sources",
                    RouteSkip::Type => "ignored: unknown types of routes",
                    RouteSkip::Limits => "ignored: beyond what the tables take",
                });
                None
            }
        }
    }

    fn object_event(&mut self, core: &mut Core, object: &NextHopMessage<'_>) {
        if let Some(listing) = &mut self.listing {
            listing.objects.insert(object.id);
            listing.disturbed |= matches!(listing.current, Some((_, Step::Objects)));
        }
        if object.gone {
            self.forget_object(core, object.id);
        } else {
            let before = self.is_blackhole(object.id);
            let known = self.objects.contains_key(&object.id);
            self.learn_object(core, object);
            if known && before != self.is_blackhole(object.id) {
                // Its routes are of another type now, and nobody says so.
                self.want_all(core.now);
            }
            self.tell_object(core, object.id);
        }
        // Who has it as a member changes with it.
        let member = |known: &Known| matches!(known, Known::Group(of) if of.iter().any(|m| m.id == object.id));
        let groups: Vec<u32> =
            self.objects.iter().filter(|(_, known)| member(known)).map(|(id, _)| *id).collect();
        for id in groups {
            self.tell_object(core, id);
        }
    }

    /// Is what is sent by this object dropped?
    fn is_blackhole(&self, id: u32) -> bool {
        match self.objects.get(&id) {
            Some(Known::Blackhole) => true,
            Some(Known::Group(members)) => members
                .iter()
                .any(|member| matches!(self.objects.get(&member.id), Some(Known::Blackhole))),
            _ => false,
        }
    }

    pub(super) fn learn_object(&mut self, core: &mut Core, object: &NextHopMessage<'_>) {
        // Said each time that it is told, also by a listing.
        if object.is_encapsulated() {
            core.kernel.count("next-hop objects without their encapsulation");
        }
        if object.object.members().any(|member| member.weight > u32::from(WEIGHT_MAX)) {
            core.kernel.count("next-hop groups with weights cut to 256");
        }
        let known = match &object.object {
            Object::Hop(hop) => Known::Hop(*hop),
            Object::Group(_) => Known::Group(object.object.members().collect()),
            Object::Blackhole => Known::Blackhole,
            Object::Fdb | Object::Nothing => Known::Fdb,
        };
        self.objects.insert(object.id, known);
    }

    pub(super) fn forget_object(&mut self, core: &mut Core, id: u32) {
        if self.is_blackhole(id) {
            // Routes by it are no group's: they are looked for.
            self.want_all(core.now);
        }
        self.objects.remove(&id);
        let spec = GroupSpec { nhid: id, hops: Vec::new() };
        // Its routes go along; one that never had any next hops isn't there.
        let _ = core.apply(self.source, &Change::Group(Verb::Delete, spec));
    }

    /// The group that an object is, with its members' next hops.
    pub(super) fn tell_object(&mut self, core: &mut Core, id: u32) {
        let hops = match self.objects.get(&id) {
            Some(Known::Hop(hop)) => vec![*hop],
            Some(Known::Group(members)) => members
                .iter()
                .filter_map(|member| match self.objects.get(&member.id) {
                    Some(Known::Hop(hop)) => {
                        let weight = member.weight.min(u32::from(WEIGHT_MAX)) as u16;
                        Some(HopSpec { weight, ..*hop })
                    }
                    _ => None,
                })
                .collect(),
            _ => return,
        };
        if hops.is_empty() {
            return;
        }
        let change = Change::Group(Verb::Replace, GroupSpec { nhid: id, hops });
        match core.apply(self.source, &change) {
            Ok(_) => {}
            Err(ChangeError::NoLink { .. }) => self.want_all(core.now),
            Err(error) => refused(core, &format!("nhid {id}"), &error),
        }
    }

    fn link_event(&mut self, core: &mut Core, link: &LinkMessage<'_>) {
        if link.is_port || link.ifindex == 0 {
            return;
        }
        if let Some(listing) = &mut self.listing {
            listing.links.insert(link.ifindex);
            listing.disturbed |= matches!(listing.current, Some((_, Step::Links)));
        }
        if link.gone {
            self.forget_link(core, link.ifindex);
            self.want_small(core);
            return;
        }
        let before = self.links.get(&link.ifindex).copied();
        let mut state = link.state();
        if state.mtu == 0 {
            // A driver's own events don't say it.
            state.mtu = before.map_or(0, |before| before.mtu);
        }
        self.links.insert(link.ifindex, state);
        self.tell_link(core, link);
        // A lost carrier shows at once in a listing of links, but only with its
        // event in their routes.
        let foreseen = self.foreseen.remove(&link.ifindex);
        if before == Some(state) && !foreseen {
            return;
        }
        if before.is_none_or(|before| before.up) && !state.up {
            let links = &self.links;
            let down = |ifindex| links.get(&ifindex).is_some_and(|state| !state.up);
            core.table.sweep_links_down(self.source, link.ifindex, &down);
        }
        if before.is_some() || state.up {
            self.want_link(core, link.ifindex);
        }
    }

    pub(super) fn tell_link(&mut self, core: &mut Core, link: &LinkMessage<'_>) {
        let Ok(name) = link.name() else { return };
        let spec = LinkSpec { ifindex: link.ifindex, name };
        if let Err(error) = core.apply(self.source, &Change::Link(Verb::Replace, spec)) {
            refused(core, name.as_str(), &error);
        }
    }

    pub(super) fn forget_link(&mut self, core: &mut Core, ifindex: u32) {
        self.links.remove(&ifindex);
        self.foreseen.remove(&ifindex);
        let Some(link) = core.table.link_of_index(ifindex) else { return };
        let Some(link) = core.table.store().link(link).copied() else { return };
        let spec = LinkSpec { ifindex, name: link.name };
        let _ = core.apply(self.source, &Change::Link(Verb::Delete, spec));
    }

    /// Takes a neighbour, of an event or of a line. True: it made a difference.
    pub(super) fn neighbour(
        &mut self,
        core: &mut Core,
        message: &NeighbourMessage<'_>,
        event: bool,
    ) -> bool {
        let spec = match message.spec() {
            Ok(spec) => spec,
            Err(skip) => {
                core.kernel.count(match skip {
                    NeighbourSkip::Family => "ignored: forwarding entries of bridges",
                    NeighbourSkip::Proxy => "ignored: proxy neighbours",
                    NeighbourSkip::NoArp => "ignored: multicast neighbours",
                    NeighbourSkip::LinkLayer => "ignored: link-layer addresses not of 6 bytes",
                    NeighbourSkip::Address => "ignored: neighbours without address",
                });
                return false;
            }
        };
        let key = (spec.ip, message.ifindex);
        if let Some(listing) = self.listing.as_mut().filter(|_| event) {
            listing.neighbours.insert(key);
            listing.disturbed |=
                matches!(listing.current, Some((_, Step::Neighbours(_)))) || listing.is_crowded();
        }
        if core.table.link_of_index(message.ifindex).is_none() {
            if event && !message.gone {
                self.want_all(core.now);
            }
            return false;
        }
        // Without any state it is being made or unmade; `ip neigh` hides it.
        if message.gone || spec.state == Some(NudState::NONE) {
            return self.joined.remove(core, self.source, key);
        }
        self.joined.set(core, self.source, key, spec)
    }
}
