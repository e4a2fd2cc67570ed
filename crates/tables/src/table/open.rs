//! The open transaction: what it touched, how to undo it, how it is committed.
//!
//! Everything is remembered once, at its first touch, as it was before. The
//! commit compares that with what is there now, so the order in which a
//! transaction did things, and whether it did some of them in vain, leaves no
//! trace. Records come in an order in which a reader never meets an id that it
//! doesn't know: links, groups, then routes and neighbours, then groups that
//! are gone, then links that are gone.
//!
//! Undoing a candidate is setting what its source had before; as the winner
//! depends on the candidates alone, everything else follows.
//!
//! A commit can be cut into slices ([`Table::settle`]); a large atomic load
//! needs that. The revision it will have is certain from the beginning, since
//! nothing else may change meanwhile.

use rtm_model::canonical::{encode_group, encode_link, encode_neighbour};
use rtm_model::{
    Change, Digest, Digests, EntityKey, EntityKind, Group, GroupId, Hops, Link, LinkId, Neighbour,
    NeighbourValue,
};

use super::candidates::{NeighbourOffer, RouteNo};
use super::{Applied, SourceId, Table};
use crate::record::{Record, RecordOp, RecordSink, Revision};
use crate::store::attrs::NO_ATTRS;
use crate::store::entry::Value;

/// The frame around a record's body: header and revision (`docs/wire.md`).
const RECORD_HEAD_BYTES: usize = 16;

/// What an entity was before the transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Before<T> {
    /// It didn't exist.
    Nothing,
    /// What it is now; only who holds it has changed.
    Same,
    /// This.
    Was(T),
}

#[derive(Clone, Copy, Debug)]
struct TouchedRoute {
    no: RouteNo,
    before: Value,
}

/// A source's candidate before a change: 24 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteUndo {
    pub(super) no: RouteNo,
    pub(super) source: u16,
    pub(super) had: bool,
    pub(super) value: Value,
    pub(super) stamp: u32,
}

#[derive(Clone, Copy, Debug)]
struct TouchedNeighbour {
    at: u32,
    before: Option<NeighbourValue>,
}

/// A source's neighbour before a change.
#[derive(Clone, Copy, Debug)]
pub(super) struct NeighbourUndo {
    pub(super) at: u32,
    pub(super) source: SourceId,
    pub(super) before: Option<NeighbourOffer>,
}

/// A group that the transaction touched.
#[derive(Clone, Debug)]
pub(super) struct TouchedGroup {
    pub(super) id: GroupId,
    pub(super) before: Before<Group>,
    pub(super) named: Option<(SourceId, u32)>,
    pub(super) stamp: u32,
}

/// A link that the transaction touched.
#[derive(Clone, Debug)]
pub(super) struct TouchedLink {
    pub(super) id: LinkId,
    pub(super) before: Before<Link>,
    pub(super) host: Option<(SourceId, u32)>,
}

/// The open transaction.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// Whose changes these are; none in a sweep of what belongs to nobody.
    pub(super) source: Option<SourceId>,
    routes: Vec<TouchedRoute>,
    pub(super) route_undo: Vec<RouteUndo>,
    neighbours: Vec<TouchedNeighbour>,
    pub(super) neighbour_undo: Vec<NeighbourUndo>,
    pub(super) groups: Vec<TouchedGroup>,
    pub(super) links: Vec<TouchedLink>,
    /// How the digest over the MAC keys will change.
    pub(super) keys: Digest,
    /// About the bytes of its records.
    pub(super) bytes: usize,
    /// Sweeps pending when it was opened; those it added go if it is undone.
    sweeps: usize,
    /// Room for canonical bytes.
    body: Vec<u8>,
    before: Vec<u8>,
}

impl Open {
    pub(super) fn begin(&mut self, source: Option<SourceId>, sweeps: usize) {
        self.source = source;
        self.bytes = 0;
        self.keys = Digest::default();
        self.sweeps = sweeps;
    }

    #[inline]
    pub(super) fn touch_route(&mut self, no: RouteNo, before: Value) {
        self.bytes += RECORD_HEAD_BYTES + no.kind().key_bytes() + 8;
        self.routes.push(TouchedRoute { no, before });
    }

    pub(super) fn touch_neighbour(&mut self, at: u32, before: Option<NeighbourValue>) {
        self.bytes += RECORD_HEAD_BYTES + 40;
        self.neighbours.push(TouchedNeighbour { at, before });
    }

    pub(super) fn touch_group(&mut self, touched: TouchedGroup) {
        self.bytes += RECORD_HEAD_BYTES + 40;
        self.groups.push(touched);
    }

    pub(super) fn touch_link(&mut self, touched: TouchedLink) {
        self.bytes += RECORD_HEAD_BYTES + 24;
        self.links.push(touched);
    }

    fn has_only_routes(&self) -> bool {
        self.groups.is_empty() && self.links.is_empty() && self.neighbours.is_empty()
    }

    /// Bytes taken from the allocator.
    pub(super) fn bytes_held(&self) -> usize {
        self.routes.capacity() * size_of::<TouchedRoute>()
            + self.route_undo.capacity() * size_of::<RouteUndo>()
            + self.neighbours.capacity() * size_of::<TouchedNeighbour>()
            + self.neighbour_undo.capacity() * size_of::<NeighbourUndo>()
            + self.groups.capacity() * size_of::<TouchedGroup>()
            + self.links.capacity() * size_of::<TouchedLink>()
    }

    /// What a large transaction took is given back; what small ones need stays.
    fn shrink(&mut self) {
        const KEPT: usize = 1024;
        self.routes.shrink_to(KEPT);
        self.route_undo.shrink_to(KEPT);
        self.neighbours.shrink_to(KEPT);
        self.neighbour_undo.shrink_to(KEPT);
        self.groups.shrink_to(KEPT);
        self.links.shrink_to(KEPT);
    }
}

/// The most bytes of records that a change may make, counted before it is made.
pub(super) fn bytes_of(change: &Change) -> usize {
    let hops = |hops: usize| {
        if hops == 0 { 0 } else { RECORD_HEAD_BYTES + 16 + hops * (24 + RECORD_HEAD_BYTES + 24) }
    };
    RECORD_HEAD_BYTES
        + match change {
            Change::Route(_, spec) => {
                let named = usize::from(matches!(spec.hops, Hops::Named(_)));
                let hops = hops(spec.hops.as_slice().len().max(named));
                EntityKind::route(spec.prefix.family()).key_bytes()
                    + 8
                    + spec.attrs.bytes().len()
                    + hops
            }
            Change::Neighbour(..) => 40 + RECORD_HEAD_BYTES + 24,
            Change::Link(..) => 24,
            Change::Group(_, spec) => hops(spec.hops.len()),
        }
}

/// Where a commit in slices stands, and what it has found so far.
#[derive(Debug)]
pub(super) struct Settling {
    phase: Phase,
    at: usize,
    revision: Revision,
    digests: Digests,
    /// Records so far.
    records: usize,
    /// Records in all; known only where they are counted beforehand.
    total: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    UnusedGroups,
    UnusedLinks,
    Links,
    Groups,
    Routes,
    Neighbours,
    GroupsGone,
    LinksGone,
    Undo,
    Done,
}

impl Phase {
    fn next(self) -> Phase {
        match self {
            Phase::UnusedGroups => Phase::UnusedLinks,
            Phase::UnusedLinks => Phase::Links,
            Phase::Links => Phase::Groups,
            Phase::Groups => Phase::Routes,
            Phase::Routes => Phase::Neighbours,
            Phase::Neighbours => Phase::GroupsGone,
            Phase::GroupsGone => Phase::LinksGone,
            Phase::LinksGone => Phase::Undo,
            Phase::Undo | Phase::Done => Phase::Done,
        }
    }
}

impl Table {
    /// Commits the open transaction.
    pub(super) fn commit(&mut self, out: &mut dyn RecordSink) -> Applied {
        let mut settling = self.settling();
        if self.open.has_only_routes() {
            // Nearly all that is ever committed: the same, without the phases.
            settling.total = self.count_routes();
            let mut out = Some(out);
            while self.settle_route(&mut settling, &mut out) {
                settling.at += 1;
            }
            self.open.routes.clear();
            while let Some(undo) = self.open.route_undo.pop() {
                self.store.attrs.release(undo.value.attrs);
            }
            debug_assert!(self.open.has_only_routes(), "settling a route touches nothing else");
            return self.settled(settling);
        }
        self.release_unused();
        settling.phase = Phase::Links;
        settling.total = self.count_records();
        self.settle(&mut settling, usize::MAX, Some(out));
        self.settled(settling)
    }

    /// A commit that begins.
    pub(super) fn settling(&self) -> Settling {
        Settling {
            phase: Phase::UnusedGroups,
            at: 0,
            revision: Revision(self.revision.0 + 1),
            digests: self.store.digests,
            records: 0,
            total: 0,
        }
    }

    /// A commit that is done: what it makes is the state from here on.
    pub(super) fn settled(&mut self, settling: Settling) -> Applied {
        self.store.digests = settling.digests;
        let keys = &mut self.store.digests.keys;
        keys.add(self.open.keys.0);
        self.open.shrink();
        if settling.records == 0 {
            return Applied::Unchanged;
        }
        self.revision = settling.revision;
        // As many as a small transaction can make; the rest goes with `tidy`.
        self.order.trim(self.limits.tombstone_bytes_max, settling.records.min(4096));
        Applied::Changed(self.revision)
    }

    /// Groups, then links, that lost their last user are taken out.
    fn release_unused(&mut self) {
        let mut at = 0;
        while let Some(touched) = self.open.groups.get(at) {
            let id = touched.id;
            self.release_if_unused(at, id);
            at += 1;
        }
        let mut at = 0;
        while let Some(touched) = self.open.links.get(at) {
            let id = touched.id;
            self.release_link_if_unused(at, id);
            at += 1;
        }
    }

    fn release_if_unused(&mut self, at: usize, id: GroupId) {
        if self.shared.group_is_unused(id.0) {
            let group = self.take_group(id);
            let before = &mut self.open.groups[at].before;
            if let (Before::Same, Some(group)) = (&*before, group) {
                *before = Before::Was(group);
            }
        }
    }

    fn release_link_if_unused(&mut self, at: usize, id: LinkId) {
        if self.shared.link_is_unused(id.0) {
            let link = self.take_link(id);
            let before = &mut self.open.links[at].before;
            if let (Before::Same, Some(link)) = (&*before, link) {
                *before = Before::Was(link);
            }
        }
    }

    /// How many records the open transaction makes.
    fn count_records(&self) -> usize {
        let groups = self
            .open
            .groups
            .iter()
            .filter(|touched| differs(&touched.before, self.store.group(touched.id)));
        let links = self
            .open
            .links
            .iter()
            .filter(|touched| differs(&touched.before, self.store.link(touched.id)));
        let neighbours = self
            .open
            .neighbours
            .iter()
            .filter(|t| t.before != self.store.neighbours.value(t.at))
            .count();
        groups.count() + links.count() + self.count_routes() + neighbours
    }

    fn count_routes(&self) -> usize {
        self.open.routes.iter().filter(|t| t.before != self.store.value(t.no)).count()
    }

    /// Goes on with a commit; true: it is done. Without `out`, nobody is told.
    pub(super) fn settle(
        &mut self,
        settling: &mut Settling,
        mut budget: usize,
        mut out: Option<&mut dyn RecordSink>,
    ) -> bool {
        while settling.phase != Phase::Done {
            let more = match settling.phase {
                Phase::UnusedGroups => {
                    let touched = self.open.groups.get(settling.at).map(|touched| touched.id);
                    touched.map(|id| self.release_if_unused(settling.at, id)).is_some()
                }
                Phase::UnusedLinks => {
                    let touched = self.open.links.get(settling.at).map(|touched| touched.id);
                    touched.map(|id| self.release_link_if_unused(settling.at, id)).is_some()
                }
                Phase::Links => self.settle_link(settling, &mut out),
                Phase::Groups => self.settle_group(settling, &mut out),
                Phase::Routes => self.settle_route(settling, &mut out),
                Phase::Neighbours => self.settle_neighbour(settling, &mut out),
                Phase::GroupsGone => self.settle_group_gone(settling, &mut out),
                Phase::LinksGone => self.settle_link_gone(settling, &mut out),
                Phase::Undo => match self.open.route_undo.pop() {
                    Some(undo) => {
                        self.store.attrs.release(undo.value.attrs);
                        true
                    }
                    None => false,
                },
                Phase::Done => false,
            };
            if more {
                settling.at += 1;
                budget -= 1;
                if budget == 0 {
                    return false;
                }
                continue;
            }
            self.clear(settling.phase);
            (settling.phase, settling.at) = (settling.phase.next(), 0);
        }
        true
    }

    fn clear(&mut self, phase: Phase) {
        match phase {
            Phase::Routes => self.open.routes.clear(),
            Phase::Neighbours => {
                self.open.neighbours.clear();
                self.open.neighbour_undo.clear();
            }
            Phase::GroupsGone => self.open.groups.clear(),
            Phase::LinksGone => self.open.links.clear(),
            _ => {}
        }
    }

    #[inline]
    fn settle_route(
        &mut self,
        settling: &mut Settling,
        out: &mut Option<&mut dyn RecordSink>,
    ) -> bool {
        let Some(&TouchedRoute { no, before }) = self.open.routes.get(settling.at) else {
            return false;
        };
        self.untouch_route(no);
        let after = self.store.value(no);
        if after == before {
            if !after.is_present() {
                self.drop_if_empty(no);
            }
            return true;
        }
        let (new, new_len) = self.store.words(no, after).bytes();
        let (old, old_len) = self.store.words(no, before).bytes();
        let key_len = no.kind().key_bytes();
        let mut new: &[u8] = &new[..new_len];
        let mut old: &[u8] = &old[..old_len];
        let (mut new_room, mut old_room) = (Vec::new(), Vec::new());
        if after.attrs != NO_ATTRS || before.attrs != NO_ATTRS {
            new_room = std::mem::take(&mut self.open.body);
            new_room.extend_from_slice(new);
            new_room.extend_from_slice(self.store.attrs.bytes_of(after.attrs));
            new = &new_room;
            old_room = std::mem::take(&mut self.open.before);
            old_room.extend_from_slice(old);
            old_room.extend_from_slice(self.store.attrs.bytes_of(before.attrs));
            old = &old_room;
        }
        let kind = no.kind();
        // Side by side: each is one long chain of steps that wait for each other.
        let hash = |value: Value, bytes| match value.is_present() {
            true => self.digester.hash(kind, bytes),
            false => 0,
        };
        let (came, went) = (hash(after, new), hash(before, old));
        settling.digests.routes.add(came.wrapping_sub(went));
        let (op, body) = if after.is_present() {
            self.order.routes.changed(kind, no.at(), settling.revision, || &new[..key_len]);
            (RecordOp::Set, new)
        } else {
            let key = &new[..key_len];
            self.order.routes.gone(kind, no.at(), settling.revision, key);
            (RecordOp::Delete, key)
        };
        if !before.is_present() {
            old = &[];
        }
        settling.emit(out, op, kind, body, old);
        if !new_room.is_empty() {
            new_room.clear();
            old_room.clear();
            (self.open.body, self.open.before) = (new_room, old_room);
        }
        if !after.is_present() {
            self.drop_if_empty(no);
        }
        true
    }

    fn settle_neighbour(
        &mut self,
        settling: &mut Settling,
        out: &mut Option<&mut dyn RecordSink>,
    ) -> bool {
        let Some(&TouchedNeighbour { at, before }) = self.open.neighbours.get(settling.at) else {
            return false;
        };
        self.untouch_neighbour(at);
        let after = self.store.neighbours.value(at);
        if let (Some(key), true) = (self.store.neighbours.key(at), after != before) {
            let bytes = |value: Option<NeighbourValue>, room: &mut Vec<u8>| {
                room.clear();
                if let Some(value) = value {
                    encode_neighbour(&Neighbour { key, value }, room);
                }
            };
            let mut new = std::mem::take(&mut self.open.body);
            let mut old = std::mem::take(&mut self.open.before);
            bytes(after, &mut new);
            bytes(before, &mut old);
            let kind = EntityKind::Neighbour;
            let list = &mut self.order.neighbours;
            if new.is_empty() {
                EntityKey::Neighbour(key).encode(&mut new);
                list.gone(kind, at, settling.revision, &new);
                settling.digests.neighbours.remove(self.digester.hash(kind, &old));
                settling.emit(out, RecordOp::Delete, kind, &new, &old);
            } else {
                list.changed(kind, at, settling.revision, || &new[..kind.key_bytes()]);
                settling.digests.neighbours.add(self.digester.hash(kind, &new));
                if !old.is_empty() {
                    settling.digests.neighbours.remove(self.digester.hash(kind, &old));
                }
                settling.emit(out, RecordOp::Set, kind, &new, &old);
            }
            new.clear();
            old.clear();
            (self.open.body, self.open.before) = (new, old);
        }
        if after.is_none() {
            self.drop_neighbour_if_empty(at);
        }
        true
    }

    fn settle_link(
        &mut self,
        settling: &mut Settling,
        out: &mut Option<&mut dyn RecordSink>,
    ) -> bool {
        let Some(touched) = self.open.links.get(settling.at) else { return false };
        let id = touched.id;
        let Some(link) = self.store.link(id).filter(|l| differs(&touched.before, Some(l))) else {
            return true;
        };
        let (mut new, mut old) = (Vec::new(), Vec::new());
        encode_link(link, &mut new);
        if let Before::Was(link) = &touched.before {
            encode_link(link, &mut old);
        }
        self.set_shared(settling, EntityKind::Link, id.0, &new, &old, out);
        true
    }

    fn settle_group(
        &mut self,
        settling: &mut Settling,
        out: &mut Option<&mut dyn RecordSink>,
    ) -> bool {
        let Some(touched) = self.open.groups.get(settling.at) else { return false };
        let id = touched.id;
        let Some(group) = self.store.group(id).filter(|g| differs(&touched.before, Some(g))) else {
            return true;
        };
        let (mut new, mut old) = (Vec::new(), Vec::new());
        encode_group(group, &mut new);
        if let Before::Was(group) = &touched.before {
            encode_group(group, &mut old);
        }
        self.set_shared(settling, EntityKind::Group, id.0, &new, &old, out);
        true
    }

    fn set_shared(
        &mut self,
        settling: &mut Settling,
        kind: EntityKind,
        id: u32,
        new: &[u8],
        old: &[u8],
        out: &mut Option<&mut dyn RecordSink>,
    ) {
        settling.digests.links.add(self.digester.hash(kind, new));
        if !old.is_empty() {
            settling.digests.links.remove(self.digester.hash(kind, old));
        }
        self.order.links.cover(kind, id);
        let key = shared_key(id);
        self.order.links.changed(kind, id, settling.revision, || &key);
        settling.emit(out, RecordOp::Set, kind, new, old);
    }

    fn settle_group_gone(
        &mut self,
        settling: &mut Settling,
        out: &mut Option<&mut dyn RecordSink>,
    ) -> bool {
        let Some(touched) = self.open.groups.get(settling.at) else { return false };
        let id = touched.id;
        if self.store.group(id).is_some() {
            self.untouch_group(id);
            return true;
        }
        if let Before::Was(group) = &touched.before {
            let mut old = Vec::new();
            encode_group(group, &mut old);
            self.shared_gone(settling, EntityKind::Group, id.0, &old, out);
        }
        self.free_group(id);
        true
    }

    fn settle_link_gone(
        &mut self,
        settling: &mut Settling,
        out: &mut Option<&mut dyn RecordSink>,
    ) -> bool {
        let Some(touched) = self.open.links.get(settling.at) else { return false };
        let id = touched.id;
        if self.store.link(id).is_some() {
            self.untouch_link(id);
            return true;
        }
        if let Before::Was(link) = &touched.before {
            let mut old = Vec::new();
            encode_link(link, &mut old);
            self.shared_gone(settling, EntityKind::Link, id.0, &old, out);
        }
        self.free_link(id);
        true
    }

    fn shared_gone(
        &mut self,
        settling: &mut Settling,
        kind: EntityKind,
        id: u32,
        old: &[u8],
        out: &mut Option<&mut dyn RecordSink>,
    ) {
        settling.digests.links.remove(self.digester.hash(kind, old));
        let key = shared_key(id);
        self.order.links.gone(kind, id, settling.revision, &key);
        settling.emit(out, RecordOp::Delete, kind, &key, old);
    }

    /// Undoes the open transaction, `budget` steps of it; true: all of it.
    pub(super) fn rollback(&mut self, mut budget: usize) -> bool {
        while budget > 0 {
            if let Some(undo) = self.open.route_undo.pop() {
                let RouteUndo { no, source, had, value, stamp } = undo;
                let source = SourceId(source);
                let now = self.offer_of(no, source);
                self.set_offer(no, source, now, had.then_some((value, stamp)));
                if let Some(now) = now {
                    self.store.attrs.release(now.value.attrs);
                }
            } else if let Some(undo) = self.open.neighbour_undo.pop() {
                self.set_neighbour_offer(undo.at, undo.source, undo.before);
            } else if let Some(touched) = self.open.routes.pop() {
                self.untouch_route(touched.no);
                self.drop_if_empty(touched.no);
            } else if let Some(touched) = self.open.neighbours.pop() {
                self.untouch_neighbour(touched.at);
                self.drop_neighbour_if_empty(touched.at);
            } else if let Some(touched) = self.open.groups.pop() {
                self.restore_group(touched);
            } else if let Some(touched) = self.open.links.pop() {
                self.restore_link(touched);
            } else {
                self.sweeps.truncate(self.open.sweeps);
                self.open.shrink();
                return true;
            }
            budget -= 1;
        }
        false
    }
}

impl Settling {
    #[inline]
    fn emit(
        &mut self,
        out: &mut Option<&mut dyn RecordSink>,
        op: RecordOp,
        kind: EntityKind,
        body: &[u8],
        before: &[u8],
    ) {
        self.records += 1;
        if let Some(out) = out {
            let last = self.records == self.total;
            out.record(&Record { revision: self.revision, last, op, kind, body, before });
        }
    }
}

/// Does an entity differ from what it was?
fn differs<T: PartialEq>(before: &Before<T>, now: Option<&T>) -> bool {
    match before {
        Before::Nothing => now.is_some(),
        // What is taken out has become `Was`.
        Before::Same => false,
        Before::Was(before) => now != Some(before),
    }
}

/// The canonical key of a link or group.
fn shared_key(id: u32) -> [u8; 8] {
    u64::from(id).to_le_bytes()
}
