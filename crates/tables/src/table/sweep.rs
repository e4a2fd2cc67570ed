//! What goes in slices: what a source no longer offers, a source that was
//! dropped, a link or a named group that took its routes with it, groups and
//! links that a flush left behind; and the memory of what was swapped out.
//!
//! A sweep walks over the numbers of all entries. It takes candidates that are
//! older than its stamp, so what is offered (again) while it is under way
//! stays, at whatever number. One slice is one transaction.

use rtm_model::names::SCOPE_HOST;
use rtm_model::{Family, GroupId, LinkId};

use super::candidates::{
    Loser, NeighbourLosers, NeighbourMeta, NeighbourOffer, Offer, RouteMeta, RouteNo,
};
use super::open::Before;
use super::{SourceId, Table};
use crate::order::List;
use crate::record::RecordSink;
use crate::store::attrs::AttrsTable;
use crate::store::entry::{A4, A6};
use crate::store::neighbours::Neighbours;
use crate::store::routes::Routes;
use crate::store::slab::Slab;

/// Looking at this many entries counts as much as taking one away: a look is a
/// nanosecond or two in a row, a removal some hundred.
const LOOKS: usize = 64;

/// A sweep under way.
#[derive(Clone, Debug)]
pub(super) struct Sweep {
    kind: Kind,
    phase: Phase,
    /// The next number to look at.
    at: u32,
    /// Of a link that went: the groups that had it then, ascending. (Later it
    /// may come back, or become one with another.)
    groups: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// What `source` offered last before the stamp `before`: all of it, or what
    /// uses a link or a group.
    Old { source: SourceId, before: u32, only: Only },
    /// Groups and links that have had no user since before this many flushes, of
    /// routes and of neighbours.
    Leftovers { routes: u32, neighbours: u32 },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Only {
    All,
    Link(LinkId),
    Group(GroupId),
    /// Routes of the sweep's groups.
    Groups,
    /// IPv4 routes of the sweep's groups that the kernel drops with a link.
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Routes4,
    Routes6,
    Neighbours,
    Groups,
    Links,
    Done,
}

impl Phase {
    fn next(self) -> Phase {
        match self {
            Phase::Routes4 => Phase::Routes6,
            Phase::Routes6 => Phase::Neighbours,
            Phase::Neighbours => Phase::Groups,
            Phase::Groups => Phase::Links,
            Phase::Links | Phase::Done => Phase::Done,
        }
    }
}

/// What was swapped out and is still to be freed.
pub(super) enum Ruin {
    Routes4(Routes<A4>),
    Routes6(Routes<A6>),
    Attrs(AttrsTable),
    Losers(Slab<Loser>),
    Routes(Box<List<RouteMeta>>),
    Neighbours(Neighbours),
    NeighbourList(Box<List<NeighbourMeta>>),
    NeighbourLosers(NeighbourLosers),
}

impl Ruin {
    /// Frees some; false: there is nothing left.
    fn dismantle(&mut self) -> bool {
        match self {
            Ruin::Routes4(routes) => routes.dismantle(1),
            Ruin::Routes6(routes) => routes.dismantle(1),
            Ruin::Attrs(attrs) => attrs.dismantle(64),
            Ruin::Losers(losers) => losers.pop_chunk(),
            Ruin::Routes(list) => list.dismantle(1),
            Ruin::Neighbours(neighbours) => neighbours.dismantle(64),
            Ruin::NeighbourList(list) => list.dismantle(1),
            Ruin::NeighbourLosers(losers) => losers.pop_first().is_some(),
        }
    }
}

impl Table {
    /// The source begins to offer its whole content anew.
    pub fn begin_generation(&mut self, source: SourceId) {
        self.stamp += 1;
        let stamp = self.stamp;
        if let Some(Some(source)) = self.sources.get_mut(usize::from(source.0)) {
            source.generation += 1;
            source.in_generation = true;
            source.set_fresh(stamp);
        }
    }

    /// The source has offered everything: what it no longer offers goes, in
    /// [`Table::sweep`]'s slices.
    pub fn end_generation(&mut self, source: SourceId) {
        let Some(sweep) = self.generation_sweep(source) else { return };
        if let Some(Some(source)) = self.sources.get_mut(usize::from(source.0)) {
            source.in_generation = false;
        }
        self.sweeps.push(sweep);
        self.sweep_leftovers();
    }

    pub(super) fn generation_sweep(&self, source: SourceId) -> Option<Sweep> {
        let entry = self.sources.get(usize::from(source.0))?.as_ref()?;
        entry.in_generation.then(|| Sweep::old(source, entry.fresh, Only::All))
    }

    /// The source is gone with all it offered, which goes in
    /// [`Table::sweep`]'s slices. Its number is free when the last is gone. If
    /// it is registered again before, what it offers from then on stays.
    pub fn drop_source(&mut self, source: SourceId) {
        self.stamp += 1;
        let stamp = self.stamp;
        let Some(Some(entry)) = self.sources.get_mut(usize::from(source.0)) else { return };
        entry.dropped = true;
        entry.in_generation = false;
        entry.set_fresh(stamp);
        self.sweeps.push(Sweep::old(source, stamp, Only::All));
        self.sweep_leftovers();
    }

    /// A link is no longer on this host: what its source had over it goes.
    pub(super) fn sweep_link(&mut self, source: SourceId, link: LinkId) {
        self.stamp += 1;
        let over = self
            .store
            .groups
            .values()
            .filter(|group| group.hops.iter().any(|hop| hop.link == Some(link)));
        let groups = over.map(|group| group.id.0).collect();
        let sweep = Sweep::old(source, self.stamp, Only::Link(link));
        self.sweeps.push(Sweep { groups, ..sweep });
    }

    /// Is a source's neighbour on its way out, because its link is?
    pub(super) fn link_is_swept(&self, link: LinkId, source: SourceId, stamp: u32) -> bool {
        self.sweeps.iter().any(|sweep| match sweep.kind {
            Kind::Old { source: other, before, only: Only::Link(id) } => {
                other == source && stamp < before && id == link
            }
            _ => false,
        })
    }

    /// What a source offered last before a stamp goes.
    pub(super) fn sweep_old(&mut self, source: SourceId, before: u32) {
        self.sweeps.push(Sweep::old(source, before, Only::All));
    }

    /// Of these groups (ascending), what a source offered last before a stamp
    /// goes; only what the kernel drops with a link, if they are `dead`.
    pub(super) fn sweep_groups(
        &mut self,
        source: SourceId,
        before: u32,
        groups: Vec<u32>,
        dead: bool,
    ) {
        let only = if dead { Only::Dead } else { Only::Groups };
        self.sweeps.push(Sweep { groups, ..Sweep::old(source, before, only) });
    }

    /// A named group is gone: its routes go.
    pub(super) fn sweep_group(&mut self, source: SourceId, group: GroupId) {
        self.stamp += 1;
        self.sweeps.push(Sweep::old(source, self.stamp, Only::Group(group)));
    }

    /// Groups and links go that an earlier flush left without users.
    pub(super) fn sweep_leftovers(&mut self) {
        let (routes, neighbours) = self.shared.flushes();
        let kind = Kind::Leftovers { routes, neighbours };
        if routes + neighbours > 0 && self.sweeps.iter().all(|sweep| sweep.kind != kind) {
            self.sweeps.push(Sweep { kind, phase: Phase::Groups, at: 1, groups: Vec::new() });
        }
    }

    /// Is there anything to sweep?
    pub fn has_sweeps(&self) -> bool {
        !self.sweeps.is_empty()
    }

    /// One slice of what is to be swept, as one transaction; `budget` counts
    /// entities taken away. True: there is more, to be called again in a later
    /// turn. While a large atomic load is open nothing happens.
    pub fn sweep(&mut self, budget: usize, out: &mut dyn RecordSink) -> bool {
        if self.is_staging() || self.sweeps.is_empty() {
            return !self.sweeps.is_empty();
        }
        let mut sweep = self.sweeps.remove(0);
        self.open.begin(None, self.sweeps.len());
        let more = self.sweep_slice(&mut sweep, budget);
        self.commit(out);
        match sweep.kind {
            _ if more => self.sweeps.insert(0, sweep),
            Kind::Old { source, only: Only::All, .. } => self.release_source(source),
            _ => {}
        }
        !self.sweeps.is_empty()
    }

    /// Goes on with a sweep, in the open transaction. False: it is done.
    pub(super) fn sweep_slice(&mut self, sweep: &mut Sweep, budget: usize) -> bool {
        let mut budget = budget.max(1) * LOOKS;
        while sweep.phase != Phase::Done {
            let end = match sweep.phase {
                Phase::Routes4 => self.store.routes4.end(),
                Phase::Routes6 => self.store.routes6.end(),
                Phase::Neighbours => self.store.neighbours.end(),
                Phase::Groups => self.shared.groups.len() as u32,
                Phase::Links => self.shared.links.len() as u32,
                Phase::Done => 0,
            };
            while sweep.at < end {
                let taken = self.sweep_one(sweep);
                sweep.at += 1;
                budget = budget.saturating_sub(if taken { LOOKS } else { 1 });
                if budget == 0 {
                    return true;
                }
            }
            (sweep.phase, sweep.at) = (sweep.phase.next(), 0);
        }
        false
    }

    #[inline]
    fn sweep_one(&mut self, sweep: &Sweep) -> bool {
        let at = sweep.at;
        match (sweep.kind, sweep.phase) {
            (Kind::Old { source, before, only }, Phase::Routes4) => {
                let no = RouteNo::new(Family::V4, at);
                self.sweep_route(no, source, before, only, &sweep.groups)
            }
            (Kind::Old { source, before, only }, Phase::Routes6) => {
                let no = RouteNo::new(Family::V6, at);
                self.sweep_route(no, source, before, only, &sweep.groups)
            }
            (Kind::Old { source, before, only }, Phase::Neighbours) => {
                self.sweep_neighbour(at, source, before, only)
            }
            (Kind::Old { source, before, only: Only::All }, Phase::Groups) => {
                let group = &self.shared.groups[at as usize];
                let old = group.stamp < before && group.named.is_some_and(|n| n.0 == source);
                if old {
                    self.unname_group(GroupId(at));
                    self.sweep_group(source, GroupId(at));
                }
                old
            }
            (Kind::Old { source, before, only: Only::All }, Phase::Links) => {
                let link = &self.shared.links[at as usize];
                let old = link.host.is_some_and(|(host, stamp)| host == source && stamp < before);
                if old {
                    self.unhost_link(LinkId(at));
                }
                old
            }
            (Kind::Leftovers { routes, .. }, Phase::Groups) => {
                let old = self.shared.group_is_left_over(at, routes);
                if old {
                    self.touch_group(GroupId(at), || Before::Same);
                }
                old
            }
            (Kind::Leftovers { neighbours, .. }, Phase::Links) => {
                let old = self.shared.link_is_left_over(at, neighbours);
                if old {
                    self.touch_link(LinkId(at));
                }
                old
            }
            _ => false,
        }
    }

    #[inline]
    fn sweep_route(
        &mut self,
        no: RouteNo,
        source: SourceId,
        before: u32,
        only: Only,
        groups: &[u32],
    ) -> bool {
        let meta = self.meta(no);
        if meta.losers == 0 && (meta.source != source.0 || meta.stamp >= before) {
            return false;
        }
        let Some(Offer { stamp, value, .. }) = self.offer_of(no, source) else { return false };
        let takes = stamp < before
            && match only {
                Only::All => true,
                Only::Group(id) => value.group == id.0,
                Only::Link(_) | Only::Groups => groups.binary_search(&value.group).is_ok(),
                // fib_sync_down_dev passes over local addresses, fib_flush over
                // routes that are errors.
                Only::Dead => {
                    no.family() == Family::V4
                        && value.scope != SCOPE_HOST
                        && groups.binary_search(&value.group).is_ok()
                }
            };
        if takes {
            self.offer(no, source, None);
        }
        takes
    }

    fn sweep_neighbour(&mut self, at: u32, source: SourceId, before: u32, only: Only) -> bool {
        let Some(key) = self.store.neighbours.key(at) else { return false };
        let over = match only {
            Only::All => true,
            Only::Group(_) | Only::Groups | Only::Dead => false,
            Only::Link(link) => key.link == Some(link),
        };
        let old = |offer: &NeighbourOffer| offer.source == source && offer.stamp < before;
        let takes = over && self.neighbour_offers(at).iter().any(old);
        if takes {
            self.offer_neighbour(at, source, None);
        }
        takes
    }

    /// Frees what flushes and large loads left behind, in slices: `budget`
    /// counts chunks of 512 entries, or 64 things that stand alone, or 16 to be
    /// put into the exact index. True: there is more. To be called once a turn.
    pub fn tidy(&mut self, mut budget: usize) -> bool {
        while let Some(ruin) = self.ruins.last_mut() {
            if !ruin.dismantle() {
                self.ruins.pop();
            }
            budget = budget.saturating_sub(1);
            if budget == 0 {
                return true;
            }
        }
        let more = self.order.trim(self.limits.tombstone_bytes_max, budget.saturating_mul(64));
        more | self.index_some(budget.saturating_mul(16))
    }

    /// Goes on with the exact indexes, once changes of what was there have come.
    fn index_some(&mut self, count: usize) -> bool {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let store = &mut self.store;
        let worth = self.changing_batches >= super::ahead::INDEX_WORTH;
        worth && (store.routes4.make_index(count) || store.routes6.make_index(count))
    }
}

impl Sweep {
    fn old(source: SourceId, before: u32, only: Only) -> Sweep {
        Sweep {
            kind: Kind::Old { source, before, only },
            phase: Phase::Routes4,
            at: 0,
            groups: Vec::new(),
        }
    }

    /// Is it over candidates of this source?
    pub(super) fn is_of(&self, source: SourceId) -> bool {
        matches!(self.kind, Kind::Old { source: other, .. } if other == source)
    }
}
