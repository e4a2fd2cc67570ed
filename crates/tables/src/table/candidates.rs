//! Candidates and winners.
//!
//! A key's winner stands in the store; its source and stamp stand beside its
//! node in the modification order. The candidates that don't win hang there in
//! a chain, in the order in which they would win. Most keys have one candidate:
//! then setting it is one write, and nothing is compared.
//!
//! A key all of whose candidates are never used (distance 255) has an absent
//! entry in the store and the candidates in the chain.
//!
//! An entry without any candidate stays, absent, until the transaction ends:
//! what was deleted may be made again, and keeps its place. And for a while behind
//! it: a route that goes most often comes back, and then its trie, a dozen cache lines
//! to be found, shifted and shifted back, isn't touched at all. As many as
//! [`LINGERING`] *linger*; beyond, the first that went loses its place.

use std::collections::BTreeMap;

use rtm_model::{DISTANCE_NEVER, EntityKind, Family, NeighbourKey, NeighbourValue, RouteKey};

use super::open::{NeighbourUndo, RouteUndo};
use super::{SourceClass, SourceId, Table};
use crate::store::Store;
use crate::store::entry::{Key, Place, Value, Words};

/// The number of a route's entry, of either family: the top bit says which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RouteNo(u32);

impl RouteNo {
    /// Of a family's entry.
    #[inline]
    pub(crate) fn new(family: Family, at: u32) -> RouteNo {
        RouteNo(at | if family == Family::V6 { 1 << 31 } else { 0 })
    }

    /// The number in its family.
    #[inline]
    pub(crate) fn at(self) -> u32 {
        self.0 & !(1 << 31)
    }

    /// Its family.
    #[inline]
    pub(crate) fn family(self) -> Family {
        if self.0 >> 31 == 0 { Family::V4 } else { Family::V6 }
    }

    /// The kind of entity that it is.
    #[inline]
    pub(crate) fn kind(self) -> EntityKind {
        EntityKind::route(self.family())
    }
}

/// Routes that linger: more than go in the minutes of one disturbance, little beside
/// a full table.
const LINGERING: usize = 4096;
/// So many before one of them loses its place it is looked at ahead.
const LINGERING_AHEAD: usize = 4;
/// And no more than this part of the routes that are there.
const LINGERING_PART: usize = 8;

/// What stands beside a route's node: 12 bytes.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct RouteMeta {
    /// When the winner was offered last.
    pub(super) stamp: u32,
    /// The first candidate that doesn't win, plus one; 0: none.
    pub(super) losers: u32,
    /// The winner's source.
    pub(super) source: u16,
    /// Did the open transaction touch it?
    pub(super) touched: bool,
    /// Does it stand among those that linger?
    lingers: bool,
}

/// A candidate that doesn't win: 24 bytes.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Loser {
    /// The next one, plus one; 0: none.
    next: u32,
    stamp: u32,
    value: Value,
    source: u16,
}

/// A candidate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Offer {
    pub(super) source: SourceId,
    pub(super) stamp: u32,
    pub(super) value: Value,
}

/// What stands beside a neighbour's node.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct NeighbourMeta {
    pub(super) stamp: u32,
    pub(super) source: u16,
    pub(super) distance: u8,
    pub(super) touched: bool,
}

/// A source's neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NeighbourOffer {
    pub(super) source: SourceId,
    pub(super) stamp: u32,
    pub(super) distance: u8,
    pub(super) value: NeighbourValue,
}

/// Neighbours that don't win, by number. Two sources seldom have the same.
pub(super) type NeighbourLosers = BTreeMap<u32, Vec<NeighbourOffer>>;

impl Store {
    #[inline]
    pub(super) fn value(&self, no: RouteNo) -> Value {
        match no.family() {
            Family::V4 => self.routes4.entry(no.at()).value(),
            Family::V6 => self.routes6.entry(no.at()).value(),
        }
    }

    /// Asks for an entry.
    #[inline]
    pub(super) fn prefetch(&self, no: RouteNo) {
        match no.family() {
            Family::V4 => self.routes4.prefetch(no.at()),
            Family::V6 => self.routes6.prefetch(no.at()),
        }
    }

    #[inline]
    pub(super) fn put_value(&mut self, no: RouteNo, value: Value) {
        match no.family() {
            Family::V4 => self.routes4.put(no.at(), value),
            Family::V6 => self.routes6.put(no.at(), value),
        }
    }

    #[inline]
    pub(super) fn place(&self, no: RouteNo) -> Place {
        match no.family() {
            Family::V4 => self.routes4.entry(no.at()).place(),
            Family::V6 => self.routes6.entry(no.at()).place(),
        }
    }

    pub(super) fn route_key(&self, no: RouteNo) -> RouteKey {
        match no.family() {
            Family::V4 => self.routes4.entry(no.at()).route_key(),
            Family::V6 => self.routes6.entry(no.at()).route_key(),
        }
    }

    pub(super) fn spelled(&self, no: RouteNo) -> rtm_model::Route {
        match no.family() {
            Family::V4 => self.routes4.entry(no.at()).route(&self.attrs),
            Family::V6 => self.routes6.entry(no.at()).route(&self.attrs),
        }
    }

    /// The canonical bytes that a route has with `value`, without attributes.
    #[inline]
    pub(super) fn words(&self, no: RouteNo, value: Value) -> Words {
        match no.family() {
            Family::V4 => self.routes4.entry(no.at()).words(value),
            Family::V6 => self.routes6.entry(no.at()).words(value),
        }
    }

    pub(super) fn find_route(&self, key: &RouteKey) -> Option<RouteNo> {
        let family = key.prefix.family();
        let at = match family {
            Family::V4 => self.routes4.find(&Key::from(key)),
            Family::V6 => self.routes6.find(&Key::from(key)),
        };
        Some(RouteNo::new(family, at?))
    }

    /// The first entry of a table and prefix.
    #[inline]
    pub(super) fn first_of(&self, key: &RouteKey) -> Option<RouteNo> {
        let prefix = (key.prefix.bits(), key.prefix.len());
        let family = key.prefix.family();
        let at = match family {
            Family::V4 => self.routes4.first(key.table, prefix),
            Family::V6 => self.routes6.first(key.table, prefix),
        };
        Some(RouteNo::new(family, at?))
    }

    /// Is this the first entry of a table and prefix?
    #[inline]
    pub(super) fn is_first(&self, no: RouteNo, table: u32, prefix: (u128, u8)) -> bool {
        match no.family() {
            Family::V4 => self.routes4.is_first(no.at(), table, prefix),
            Family::V6 => self.routes6.is_first(no.at(), table, prefix),
        }
    }

    /// The entry behind this one, of the same table and prefix.
    #[inline]
    pub(super) fn following(&self, no: RouteNo) -> Option<RouteNo> {
        let at = match no.family() {
            Family::V4 => self.routes4.following(no.at()),
            Family::V6 => self.routes6.following(no.at()),
        };
        Some(RouteNo::new(no.family(), at?))
    }

    fn find_or_insert(&mut self, key: &RouteKey) -> RouteNo {
        let family = key.prefix.family();
        let at = match family {
            Family::V4 => self.routes4.find_or_insert(&Key::from(key)),
            Family::V6 => self.routes6.find_or_insert(&Key::from(key)),
        };
        RouteNo::new(family, at)
    }

    fn remove_route(&mut self, no: RouteNo) {
        match no.family() {
            Family::V4 => self.routes4.remove(no.at()),
            Family::V6 => self.routes6.remove(no.at()),
        }
    }
}

impl Table {
    /// The first entry of a table and prefix, where the hint says if it is
    /// right.
    #[inline]
    pub(super) fn first_of(&self, key: &RouteKey) -> Option<RouteNo> {
        let prefix = (key.prefix.bits(), key.prefix.len());
        match self.hint.filter(|no| no.family() == key.prefix.family()) {
            Some(no) if self.store.is_first(no, key.table, prefix) => Some(no),
            _ => self.store.first_of(key),
        }
    }

    fn meta_mut(&mut self, no: RouteNo) -> &mut RouteMeta {
        self.order.routes.meta_mut(no.kind(), no.at())
    }

    /// The entry of a key; made, absent and without candidates, if there is
    /// none. It is touched, so that it goes at the end if it gets none.
    pub(super) fn route_no(&mut self, key: &RouteKey) -> RouteNo {
        let no = self.store.find_or_insert(key);
        self.order.routes.cover(no.kind(), no.at());
        self.touch_route(no);
        no
    }

    /// All candidates of an entry, in the order in which they win.
    pub(super) fn offers_of(&self, no: RouteNo) -> Vec<Offer> {
        let meta = *self.meta(no);
        let mut all = Vec::new();
        let value = self.store.value(no);
        if value.is_present() {
            all.push(Offer { source: SourceId(meta.source), stamp: meta.stamp, value });
        }
        let mut next = meta.losers;
        while next != 0 {
            let loser = self.losers[next - 1];
            let (source, stamp) = (SourceId(loser.source), loser.stamp);
            all.push(Offer { source, stamp, value: loser.value });
            next = loser.next;
        }
        all
    }

    /// This source's candidate of an entry.
    #[inline]
    pub(super) fn offer_of(&self, no: RouteNo, source: SourceId) -> Option<Offer> {
        let meta = self.meta(no);
        if meta.losers != 0 {
            return self.offers_of(no).into_iter().find(|offer| offer.source == source);
        }
        let value = self.store.value(no);
        (value.is_present() && meta.source == source.0).then_some(Offer {
            source,
            stamp: meta.stamp,
            value,
        })
    }

    /// Does any source have a candidate?
    #[inline]
    pub(super) fn has_offers(&self, no: RouteNo) -> bool {
        self.store.value(no).is_present() || self.meta(no).losers != 0
    }

    /// The open transaction sets or withdraws a source's candidate. The value's
    /// attributes are acquired already.
    pub(super) fn offer(&mut self, no: RouteNo, source: SourceId, value: Option<Value>) {
        let before = self.offer_of(no, source);
        let stamp = self.stamp;
        if before.map(|offer| offer.value) != value {
            self.touch_route(no);
        } else if before.is_none_or(|offer| offer.stamp == stamp) {
            // Nothing is new, not even when it was confirmed.
            if let Some(value) = value {
                self.store.attrs.release(value.attrs);
            }
            return;
        }
        self.set_offer(no, source, before, value.map(|value| (value, stamp)));
        let (had, old, stamp) = match before {
            Some(offer) => (true, offer.value, offer.stamp),
            None => (false, Value::ABSENT, 0),
        };
        self.open.route_undo.push(RouteUndo { no, source: source.0, had, value: old, stamp });
    }

    /// Sets or withdraws a source's candidate, whose present one is `before`,
    /// counts, and elects.
    pub(super) fn set_offer(
        &mut self,
        no: RouteNo,
        source: SourceId,
        before: Option<Offer>,
        offer: Option<(Value, u32)>,
    ) {
        if let Some((value, _)) = offer {
            self.use_group(value.group);
        }
        if let Some(before) = before {
            self.release_group(before.value.group);
        }
        if let Some(Some(source)) = self.sources.get_mut(usize::from(source.0)) {
            if let Some(before) = before {
                source.routes -= 1;
                source.stale_routes -= usize::from(before.stamp < source.fresh);
            }
            if let Some((_, stamp)) = offer {
                source.routes += 1;
                source.stale_routes += usize::from(stamp < source.fresh);
            }
        }
        let old = self.store.value(no);
        let meta = *self.meta(no);
        let alone = meta.losers == 0 && (!old.is_present() || meta.source == source.0);
        let (value, stamp, winner) = match offer {
            _ if !alone => self.elect(no, source, offer),
            None => (Value::ABSENT, 0, source),
            Some((value, _)) if value.distance == DISTANCE_NEVER => self.elect(no, source, offer),
            Some((value, stamp)) => (value, stamp, source),
        };
        self.store.put_value(no, value);
        let meta = self.meta_mut(no);
        let loser = meta.source;
        (meta.stamp, meta.source) = (stamp, winner.0);
        if old.is_present() {
            self.count_winner(SourceId(loser), false);
        }
        if value.is_present() {
            self.count_winner(winner, true);
        }
    }

    /// The only candidate of an entry comes, or goes (before its stamp is forgotten).
    pub(super) fn count_alone(&mut self, source: SourceId, no: RouteNo, comes: bool) {
        if comes {
            let stamp = self.stamp;
            let meta = self.meta_mut(no);
            (meta.stamp, meta.source) = (stamp, source.0);
        }
        let stamp = self.meta(no).stamp;
        if let Some(Some(source)) = self.sources.get_mut(usize::from(source.0)) {
            let stale = usize::from(stamp < source.fresh);
            if comes {
                source.routes += 1;
                source.winners += 1;
                source.stale_routes += stale;
            } else {
                source.routes -= 1;
                source.winners -= 1;
                source.stale_routes -= stale;
            }
        }
    }

    fn count_winner(&mut self, source: SourceId, more: bool) {
        if let Some(Some(source)) = self.sources.get_mut(usize::from(source.0)) {
            source.winners += usize::from(more);
            source.winners -= usize::from(!more);
        }
    }

    /// Sorts all candidates of an entry, of which one changes; the chain is made
    /// anew. Gives the winner: value, stamp, source.
    fn elect(
        &mut self,
        no: RouteNo,
        source: SourceId,
        offer: Option<(Value, u32)>,
    ) -> (Value, u32, SourceId) {
        let mut all = self.offers_of(no);
        all.retain(|other| other.source != source);
        if let Some((value, stamp)) = offer {
            all.push(Offer { source, stamp, value });
        }
        all.sort_by(|a, b| {
            let (a_rank, b_rank) = (self.rank(a.source), self.rank(b.source));
            a.value.distance.cmp(&b.value.distance).then_with(|| a_rank.cmp(&b_rank))
        });
        let mut next = self.meta(no).losers;
        while next != 0 {
            self.losers.remove(next - 1);
            next = self.losers[next - 1].next;
        }
        let wins = all.first().is_some_and(|offer| offer.value.distance != DISTANCE_NEVER);
        let mut chain = 0;
        for offer in all[usize::from(wins)..].iter().rev() {
            let Offer { source, stamp, value } = *offer;
            chain = self.losers.insert(Loser { next: chain, stamp, value, source: source.0 }) + 1;
        }
        self.meta_mut(no).losers = chain;
        match all.first() {
            Some(offer) if wins => (offer.value, offer.stamp, offer.source),
            _ => (Value::ABSENT, 0, source),
        }
    }

    /// The order of sources at equal distance.
    fn rank(&self, source: SourceId) -> Option<(SourceClass, &str)> {
        self.source_spec(source).map(|spec| (spec.class, spec.name.as_str()))
    }

    /// An entry that has no candidate left lingers, and makes another go.
    pub(super) fn drop_if_empty(&mut self, no: RouteNo) {
        if self.has_offers(no) {
            return;
        }
        let lingers = std::mem::replace(&mut self.meta_mut(no).lingers, true);
        *self.meta_mut(no) = RouteMeta { lingers: true, ..RouteMeta::default() };
        self.order.routes.forget(no.kind(), no.at());
        if !lingers {
            self.lingering.push_back(no);
        }
        let routes = self.store.route_count();
        while self.lingering.len() > LINGERING.min(routes / LINGERING_PART) {
            self.drop_lingering();
        }
    }

    /// What has lingered longest loses its place, if it hasn't come back.
    fn drop_lingering(&mut self) {
        let Some(no) = self.lingering.pop_front() else { return };
        // It was long ago that anybody looked at those whose turn comes next.
        if let Some(no) = self.lingering.get(LINGERING_AHEAD) {
            self.store.prefetch(*no);
            self.order.routes.prefetch(no.kind(), no.at());
        }
        self.meta_mut(no).lingers = false;
        // What the open transaction touched is looked at again at its end.
        if !self.has_offers(no) && !self.meta(no).touched {
            *self.meta_mut(no) = RouteMeta::default();
            self.store.remove_route(no);
        }
    }

    /// Remembers what a route was before the open transaction.
    #[inline]
    pub(super) fn touch_route(&mut self, no: RouteNo) {
        let meta = self.meta_mut(no);
        if !std::mem::replace(&mut meta.touched, true) {
            let before = self.store.value(no);
            self.open.touch_route(no, before);
        }
    }

    /// The open transaction no longer touches it.
    pub(super) fn untouch_route(&mut self, no: RouteNo) {
        self.meta_mut(no).touched = false;
    }

    // Neighbours: the same, for thousands instead of a million.

    fn neighbour_meta(&self, at: u32) -> NeighbourMeta {
        *self.order.neighbours.meta(EntityKind::Neighbour, at)
    }

    fn neighbour_meta_mut(&mut self, at: u32) -> &mut NeighbourMeta {
        self.order.neighbours.meta_mut(EntityKind::Neighbour, at)
    }

    /// The number of a neighbour's key; made, absent, if there is none.
    pub(super) fn neighbour_no(&mut self, key: &NeighbourKey) -> u32 {
        let at = self.store.neighbours.find_or_insert(key);
        self.order.neighbours.cover(EntityKind::Neighbour, at);
        self.touch_neighbour(at);
        at
    }

    /// All candidates of a neighbour, in the order in which they win.
    pub(super) fn neighbour_offers(&self, at: u32) -> Vec<NeighbourOffer> {
        let mut all = Vec::new();
        if let Some(value) = self.store.neighbours.value(at) {
            let NeighbourMeta { stamp, source, distance, .. } = self.neighbour_meta(at);
            all.push(NeighbourOffer { source: SourceId(source), stamp, distance, value });
        }
        all.extend(self.neighbour_losers.get(&at).into_iter().flatten());
        all
    }

    /// The open transaction sets or withdraws a source's neighbour.
    pub(super) fn offer_neighbour(
        &mut self,
        at: u32,
        source: SourceId,
        value: Option<NeighbourValue>,
    ) {
        let distance = self.source_spec(source).map_or(0, |spec| spec.distances.default_distance());
        let offer =
            value.map(|value| NeighbourOffer { source, stamp: self.stamp, distance, value });
        self.touch_neighbour(at);
        let before = self.set_neighbour_offer(at, source, offer);
        self.open.neighbour_undo.push(NeighbourUndo { at, source, before });
    }

    /// Sets or withdraws a source's neighbour, counts, and elects; gives what
    /// the source had.
    pub(super) fn set_neighbour_offer(
        &mut self,
        at: u32,
        source: SourceId,
        offer: Option<NeighbourOffer>,
    ) -> Option<NeighbourOffer> {
        let mut all = self.neighbour_offers(at);
        let before = all.iter().position(|o| o.source == source).map(|at| all.remove(at));
        let link = self.store.neighbours.key(at).and_then(|key| key.link);
        if let (Some(link), Some(_)) = (link, offer) {
            self.use_link(link);
        }
        if let (Some(link), Some(_)) = (link, before) {
            self.release_link(link);
        }
        if let Some(Some(source)) = self.sources.get_mut(usize::from(source.0)) {
            if let Some(before) = before {
                source.neighbours -= 1;
                source.stale_neighbours -= usize::from(before.stamp < source.fresh);
            }
            if let Some(offer) = offer {
                source.neighbours += 1;
                source.stale_neighbours += usize::from(offer.stamp < source.fresh);
            }
        }
        all.extend(offer);
        all.sort_by(|a, b| {
            let (a_rank, b_rank) = (self.rank(a.source), self.rank(b.source));
            a.distance.cmp(&b.distance).then_with(|| a_rank.cmp(&b_rank))
        });
        let wins = all.first().is_some_and(|offer| offer.distance != DISTANCE_NEVER);
        let losers = all.split_off(usize::from(wins));
        let change = self.store.neighbours.put(at, all.first().map(|offer| offer.value));
        // The digest over the keys changes when the transaction is committed.
        if let Some(mac) = change.gone {
            self.open.keys.remove(self.digester.mac(mac));
        }
        if let Some(mac) = change.new {
            self.open.keys.add(self.digester.mac(mac));
        }
        let meta = self.neighbour_meta_mut(at);
        if let Some(offer) = all.first() {
            (meta.stamp, meta.source) = (offer.stamp, offer.source.0);
            meta.distance = offer.distance;
        }
        if losers.is_empty() {
            self.neighbour_losers.remove(&at);
        } else {
            self.neighbour_losers.insert(at, losers);
        }
        before
    }

    /// A neighbour that has no candidate left goes.
    pub(super) fn drop_neighbour_if_empty(&mut self, at: u32) {
        if self.neighbour_offers(at).is_empty() {
            *self.neighbour_meta_mut(at) = NeighbourMeta::default();
            self.order.neighbours.forget(EntityKind::Neighbour, at);
            self.store.neighbours.remove(at);
        }
    }

    fn touch_neighbour(&mut self, at: u32) {
        let meta = self.neighbour_meta_mut(at);
        if !std::mem::replace(&mut meta.touched, true) {
            let before = self.store.neighbours.value(at);
            self.open.touch_neighbour(at, before);
        }
    }

    /// The open transaction no longer touches it.
    pub(super) fn untouch_neighbour(&mut self, at: u32) {
        self.neighbour_meta_mut(at).touched = false;
    }
}
