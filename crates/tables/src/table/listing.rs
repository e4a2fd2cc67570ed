//! What a feed needs that mirrors a table which somebody else changes (the
//! kernel's): its own routes as they stand, and *listings*.
//!
//! A listing is a look at all that the other table holds, at all that uses one
//! link, or at some prefixes. It begins with a stamp; what the feed offers from then on carries
//! it, whether it came from the listing or from an event meanwhile; and at the
//! end goes what carries an older one. Several may follow each other before
//! one ends: who isn't sure of a listing makes another, and ends with the stamp
//! of the one it trusts.

use rtm_model::{
    Family, GroupId, HopFlags, HopSpec, Hops, LinkId, LinkRef, NeighbourKey, NeighbourValue,
    NextHop, Prefix, RouteKey, RouteValue,
};
use std::net::IpAddr;

use super::candidates::RouteNo;
use super::{SourceId, Table};
use crate::record::RecordSink;

/// When a listing began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Stamp(pub(super) u32);

/// One of a source's routes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnRoute {
    /// Which.
    pub key: RouteKey,
    /// What.
    pub value: RouteValue,
}

/// Where a search for stale routes stands.
#[derive(Clone, Copy, Debug)]
pub struct StaleCursor {
    family: Family,
    at: u32,
}

impl Default for StaleCursor {
    fn default() -> StaleCursor {
        StaleCursor { family: Family::V4, at: 0 }
    }
}

impl Table {
    /// A source's routes of one table and prefix, whether they win or not, in
    /// the order of tos, metric and ordinal.
    pub fn own_routes(&self, source: SourceId, table: u32, prefix: Prefix) -> Vec<OwnRoute> {
        let key = RouteKey { table, prefix, tos: 0, metric: 0, ordinal: 0 };
        let mut own = Vec::new();
        let mut next = self.store.first_of(&key);
        while let Some(no) = next {
            if let Some(offer) = self.offer_of(no, source) {
                let key = self.store.route_key(no);
                own.push(OwnRoute { key, value: offer.value.spelled(&self.store.attrs) });
            }
            next = self.store.following(no);
        }
        own
    }

    /// Are these the next hops of a group, one by one, but for what their links
    /// are like at the moment (dead, linkdown)?
    pub fn group_has(&self, source: SourceId, group: GroupId, hops: &Hops) -> bool {
        match hops {
            Hops::Named(nhid) => self.shared.named.get(&(source, *nhid)) == Some(&group),
            Hops::None => group == GroupId::NONE,
            _ => self.store.group(group).is_some_and(|group| {
                let wanted = hops.as_slice();
                group.nhid == 0
                    && group.hops.len() == wanted.len()
                    && group.hops.iter().zip(wanted).all(|(have, want)| self.is_hop(have, want))
            }),
        }
    }

    /// Is this next hop of the tables the one that a feed spells, but for the
    /// state of its link?
    pub fn is_hop(&self, have: &NextHop, want: &HopSpec) -> bool {
        let lasting = |flags: HopFlags| flags.0 & HopFlags::ONLINK.0;
        have.gateway == want.gateway
            && have.link == want.link.and_then(|link| self.find_link(link))
            && have.weight == want.weight
            && lasting(have.flags) == lasting(want.flags)
    }

    /// The link with this ifindex.
    pub fn link_of_index(&self, ifindex: u32) -> Option<LinkId> {
        self.find_link(LinkRef::Ifindex(ifindex))
    }

    /// A source's neighbour, whether it wins or not.
    pub fn own_neighbour(
        &self,
        source: SourceId,
        ip: IpAddr,
        ifindex: u32,
    ) -> Option<NeighbourValue> {
        let key = NeighbourKey { ip, link: Some(self.link_of_index(ifindex)?) };
        let at = self.store.neighbours.find(&key)?;
        let own = |offer: &super::candidates::NeighbourOffer| offer.source == source;
        self.neighbour_offers(at).into_iter().find(own).map(|offer| offer.value)
    }

    /// A listing begins.
    pub fn begin_listing(&mut self) -> Stamp {
        self.stamp += 1;
        Stamp(self.stamp)
    }

    /// What a source offers under this key it still offers.
    pub fn confirm_route(&mut self, source: SourceId, key: &RouteKey, out: &mut dyn RecordSink) {
        if self.begin(source).is_err() {
            return;
        }
        if let Some(no) = self.store.find_route(key) {
            if let Some(offer) = self.offer_of(no, source) {
                self.store.attrs.again(offer.value.attrs);
                self.offer(no, source, Some(offer.value));
            }
        }
        self.commit(out);
    }

    /// A listing of everything has ended: what `source` offered last before
    /// `since` goes, in [`Table::sweep`]'s slices. It ends the generation, too.
    pub fn end_listing(&mut self, source: SourceId, since: Stamp) {
        if let Some(Some(source)) = self.sources.get_mut(usize::from(source.0)) {
            source.in_generation = false;
        }
        self.sweep_old(source, since.0);
        self.sweep_leftovers();
    }

    /// A listing of what uses one link has ended: of that goes what `source`
    /// offered last before `since`.
    pub fn end_link_listing(&mut self, source: SourceId, ifindex: u32, since: Stamp) {
        if let Some(link) = self.link_of_index(ifindex) {
            let groups = self.groups_over(link);
            self.sweep_groups(source, since.0, groups, false);
        }
    }

    /// The IPv4 routes of `source` go all of whose next hops are over links that
    /// are down, as the kernel's do without a word: not those of local
    /// addresses, and nothing that is offered from now on.
    pub fn sweep_links_down(&mut self, source: SourceId, ifindex: u32, down: &dyn Fn(u32) -> bool) {
        let Some(link) = self.link_of_index(ifindex) else { return };
        self.stamp += 1;
        let mut groups = self.groups_over(link);
        let is_down = |hop: &NextHop| {
            let link = hop.link.and_then(|link| self.store.link(link));
            link.is_some_and(|link| down(link.ifindex))
        };
        groups.retain(|&id| {
            self.store.group(GroupId(id)).is_some_and(|group| group.hops.iter().all(is_down))
        });
        if !groups.is_empty() {
            self.sweep_groups(source, self.stamp, groups, true);
        }
    }

    /// Routes of `source` that were offered last before `since`: looks at
    /// `looks` entries. `None`: there are no more.
    pub fn stale_routes(
        &self,
        source: SourceId,
        since: Stamp,
        cursor: StaleCursor,
        looks: u32,
        out: &mut Vec<OwnRoute>,
    ) -> Option<StaleCursor> {
        let StaleCursor { family, at } = cursor;
        let end = match family {
            Family::V4 => self.store.routes4.end(),
            Family::V6 => self.store.routes6.end(),
        };
        let until = end.min(at.saturating_add(looks));
        for at in at..until {
            let no = RouteNo::new(family, at);
            let meta = self.meta(no);
            if meta.losers == 0 && (meta.source != source.0 || meta.stamp >= since.0) {
                continue;
            }
            if let Some(offer) = self.offer_of(no, source).filter(|offer| offer.stamp < since.0) {
                let key = self.store.route_key(no);
                out.push(OwnRoute { key, value: offer.value.spelled(&self.store.attrs) });
            }
        }
        match family {
            _ if until < end => Some(StaleCursor { family, at: until }),
            Family::V4 => Some(StaleCursor { family: Family::V6, at: 0 }),
            Family::V6 => None,
        }
    }

    /// The routes of `source` of one table and prefix that were offered last
    /// before `since`: what a listing of that prefix lacked.
    pub fn stale_of(
        &self,
        source: SourceId,
        table: u32,
        prefix: Prefix,
        since: Stamp,
    ) -> Vec<OwnRoute> {
        let mut own = self.own_routes(source, table, prefix);
        own.retain(|own| {
            let offer = self.store.find_route(&own.key).and_then(|no| self.offer_of(no, source));
            offer.is_some_and(|offer| offer.stamp < since.0)
        });
        own
    }

    /// The groups that have a next hop over a link, ascending.
    fn groups_over(&self, link: LinkId) -> Vec<u32> {
        let over = |group: &&rtm_model::Group| group.hops.iter().any(|hop| hop.link == Some(link));
        self.store.groups.values().filter(over).map(|group| group.id.0).collect()
    }
}
