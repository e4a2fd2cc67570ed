//! The modification order: every entity in the order of the revision that last
//! changed it, deletes as tombstones.
//!
//! A session that must catch up walks it with a *marker*, which stays where it
//! is while the tables change: what changes moves to the tail and is met
//! there, so each walk ends, and at its end the walker has the state of the
//! table's revision exactly.
//!
//! # Three lists
//! Routes, neighbours, and links with groups have a doubly linked list each,
//! ascending by revision, and a walk merges them: of the three next items the
//! one with the lowest revision comes first (links before neighbours before
//! routes where it is the same). So a flush, which empties one list, costs the
//! same whatever was in it: the list is dropped, and in its place stands one
//! item that says so. Markers go along to the new list's front: what they had
//! not met is gone, and the flush tells it.
//!
//! # Nodes
//! A node is two neighbours and a revision, 16 bytes. It stands in a column
//! under the number that its entity has in the store, so no entity knows its
//! node and no node its entity; what is linked is a *reference*, a number with
//! three bits that say of what.
//!
//! ```text
//!            flushed     live       marker     tombstone   live
//!  ends <---> rev 40 <--> rev 41 <---------> <-> rev 44 <--> rev 51 <---> ends
//! ```
//!
//! # Tombstones
//! A delete moves the key into a tombstone. It is found again by the key when
//! the key comes back, and removed: so each key is in the order once, however
//! often it flaps. All tombstones together are bounded in bytes; beyond, the
//! oldest goes, and who would still have needed it, a walker that stands
//! before it or a client that resumes from before its revision, gets a
//! snapshot ([`Step::Lost`], [`crate::Table::oldest_tombstone`]).

use std::hash::BuildHasher;

use foldhash::quality::RandomState;
use rtm_model::EntityKind;

use crate::record::{Flush, Revision};
use crate::store::index::Index;
use crate::store::slab::Slab;

/// A place in the modification order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MarkerId(pub(crate) u32);

/// What a marker moved over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OrderItem<'a> {
    /// The entity is this since `revision`.
    Set {
        /// The revision that last changed it.
        revision: Revision,
        /// What it is.
        kind: EntityKind,
        /// Its canonical bytes.
        body: &'a [u8],
    },
    /// The entity is gone since `revision`.
    Gone {
        /// The revision that deleted it.
        revision: Revision,
        /// What it was.
        kind: EntityKind,
        /// Its key's canonical bytes.
        key: &'a [u8],
    },
    /// Everything of these sections that was there before `revision` is gone.
    Flushed {
        /// The revision of the flush.
        revision: Revision,
        /// What was emptied.
        what: Flush,
    },
}

/// How a step of a marker ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It moved over one item (and showed it, unless it is a tombstone older
    /// than the snapshot that the marker was made for).
    Moved,
    /// It stands at the tail: the walker has the state of the table's revision.
    Tail,
    /// Tombstones in front of it had to be given up (`tombstone_bytes_max`):
    /// what this walker has may hold entities that are gone. It needs a
    /// snapshot: a marker from the front.
    Lost,
}

/// A list by the first kind of entity in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ListId {
    /// Links (live column 0) and groups (1).
    Links,
    /// Neighbours (0).
    Neighbours,
    /// IPv4 (0) and IPv6 routes (1).
    Routes,
}

impl ListId {
    /// In the order in which a walk takes items of the same revision.
    pub(crate) const ALL: [ListId; 3] = [ListId::Links, ListId::Neighbours, ListId::Routes];
}

/// The live column of a kind in its list.
fn column_of(kind: EntityKind) -> u32 {
    match kind {
        EntityKind::Link | EntityKind::Neighbour | EntityKind::Route4 => 0,
        EntityKind::Group | EntityKind::Route6 => 1,
    }
}

/// What a node belongs to: three bits of tag, then a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ref(u32);

const NUMBER_BITS: u32 = 29;
/// Tags 0 and 1: the live columns.
const SHORT: u32 = 2;
const LONG: u32 = 3;
const MARKER: u32 = 4;
const FIXED: u32 = 5;

impl Ref {
    /// Both ends of the list.
    const ENDS: Ref = Ref::new(FIXED, 0);
    /// The item of a flush.
    const FLUSHED: Ref = Ref::new(FIXED, 1);

    #[inline]
    const fn new(tag: u32, number: u32) -> Ref {
        debug_assert!(number < 1 << NUMBER_BITS);
        Ref(tag << NUMBER_BITS | number)
    }

    #[inline]
    fn tag(self) -> u32 {
        self.0 >> NUMBER_BITS
    }

    #[inline]
    fn number(self) -> u32 {
        self.0 & ((1 << NUMBER_BITS) - 1)
    }
}

/// In four-byte words, so that a column needs no padding. Both neighbours 0:
/// not linked.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Node {
    /// Reference to the neighbour before, plus one.
    prev: u32,
    /// Reference to the neighbour behind, plus one.
    next: u32,
    revision: [u32; 2],
}

impl Node {
    #[inline]
    fn revision(self) -> u64 {
        u64::from(self.revision[0]) | u64::from(self.revision[1]) << 32
    }

    #[inline]
    fn is_linked(self) -> bool {
        self.next != 0
    }
}

/// What the table knows of an entity beside its value, next to its node: one
/// cache line serves both.
#[derive(Clone, Copy, Default, Debug)]
#[repr(align(32))]
pub(crate) struct Live<M> {
    node: Node,
    /// The table's own.
    pub(crate) meta: M,
}

const COLUMN_CHUNK: usize = 512;

#[derive(Debug)]
struct Column<M> {
    chunks: Vec<Box<[Live<M>; COLUMN_CHUNK]>>,
}

impl<M: Copy + Default> Column<M> {
    fn cover(&mut self, at: u32) {
        while at as usize >= self.chunks.len() * COLUMN_CHUNK {
            self.chunks.push(Box::new([Live::default(); COLUMN_CHUNK]));
        }
    }

    #[inline]
    fn get(&self, at: u32) -> &Live<M> {
        &self.chunks[at as usize / COLUMN_CHUNK][at as usize % COLUMN_CHUNK]
    }

    #[inline]
    fn try_get(&self, at: u32) -> Option<&Live<M>> {
        Some(&self.chunks.get(at as usize / COLUMN_CHUNK)?[at as usize % COLUMN_CHUNK])
    }

    #[inline]
    fn get_mut(&mut self, at: u32) -> &mut Live<M> {
        &mut self.chunks[at as usize / COLUMN_CHUNK][at as usize % COLUMN_CHUNK]
    }
}

#[derive(Clone, Copy, Default, Debug)]
struct Tomb<K> {
    node: Node,
    /// The tombstones before and behind it in age: references plus one.
    older: u32,
    newer: u32,
    kind: u8,
    key: K,
}

/// Bytes that a tombstone counts for, by the length of its key: itself, and
/// its word in the index.
const SHORT_BYTES: usize = size_of::<Tomb<[u8; 16]>>() + 10;
const LONG_BYTES: usize = size_of::<Tomb<[u8; 32]>>() + 10;

/// One of the three lists.
pub(crate) struct List<M> {
    columns: [Column<M>; 2],
    short: Slab<Tomb<[u8; 16]>>,
    long: Slab<Tomb<[u8; 32]>>,
    tombs: Index,
    hasher: RandomState,
    /// The oldest and newest tombstone: references plus one.
    oldest: u32,
    newest: u32,
    markers: Vec<Node>,
    ends: Node,
    flushed: Node,
}

impl<M: Copy + Default> Default for List<M> {
    fn default() -> Self {
        let ends = Node { prev: Ref::ENDS.0 + 1, next: Ref::ENDS.0 + 1, revision: [0; 2] };
        List {
            columns: [Column { chunks: Vec::new() }, Column { chunks: Vec::new() }],
            short: Slab::default(),
            long: Slab::default(),
            tombs: Index::default(),
            hasher: RandomState::default(),
            oldest: 0,
            newest: 0,
            markers: Vec::new(),
            ends,
            flushed: Node::default(),
        }
    }
}

impl<M: Copy + Default> List<M> {
    /// Makes room for an entity's node and meta.
    #[inline]
    pub(crate) fn cover(&mut self, kind: EntityKind, at: u32) {
        self.columns[column_of(kind) as usize].cover(at);
    }

    /// The table's own beside an entity's node.
    #[inline]
    pub(crate) fn meta(&self, kind: EntityKind, at: u32) -> &M {
        &self.columns[column_of(kind) as usize].get(at).meta
    }

    /// The revision that last changed an entity.
    pub(crate) fn since(&self, kind: EntityKind, at: u32) -> Revision {
        Revision(self.node(Ref::new(column_of(kind), at)).revision())
    }

    /// Asks for an entity's node.
    #[inline]
    pub(crate) fn prefetch(&self, kind: EntityKind, at: u32) {
        rtm_prefetch::read(self.columns[column_of(kind) as usize].get(at));
    }

    /// Asks for the nodes around an entity's, where these are entities, too.
    #[inline]
    pub(crate) fn prefetch_around(&self, kind: EntityKind, at: u32) {
        let Node { prev, next, .. } = self.columns[column_of(kind) as usize].get(at).node;
        for at in [prev, next] {
            let at = Ref(at.wrapping_sub(1));
            let column = self.columns.get(at.tag() as usize);
            if let Some(live) = column.and_then(|column| column.try_get(at.number())) {
                rtm_prefetch::read(live);
            }
        }
    }

    /// The table's own beside an entity's node, to be changed.
    #[inline]
    pub(crate) fn meta_mut(&mut self, kind: EntityKind, at: u32) -> &mut M {
        &mut self.columns[column_of(kind) as usize].get_mut(at).meta
    }

    #[inline]
    fn node(&self, at: Ref) -> &Node {
        match at.tag() {
            column @ 0..=1 => &self.columns[column as usize].get(at.number()).node,
            SHORT => &self.short[at.number()].node,
            LONG => &self.long[at.number()].node,
            MARKER => &self.markers[at.number() as usize],
            _ if at == Ref::ENDS => &self.ends,
            _ => &self.flushed,
        }
    }

    #[inline]
    fn node_mut(&mut self, at: Ref) -> &mut Node {
        match at.tag() {
            column @ 0..=1 => &mut self.columns[column as usize].get_mut(at.number()).node,
            SHORT => &mut self.short[at.number()].node,
            LONG => &mut self.long[at.number()].node,
            MARKER => &mut self.markers[at.number() as usize],
            _ if at == Ref::ENDS => &mut self.ends,
            _ => &mut self.flushed,
        }
    }

    #[inline]
    fn next(&self, at: Ref) -> Ref {
        Ref(self.node(at).next - 1)
    }

    #[inline]
    fn prev(&self, at: Ref) -> Ref {
        Ref(self.node(at).prev - 1)
    }

    #[inline]
    fn unlink(&mut self, at: Ref) {
        let Node { prev, next, .. } = *self.node(at);
        if next == 0 {
            return;
        }
        self.node_mut(Ref(prev - 1)).next = next;
        self.node_mut(Ref(next - 1)).prev = prev;
        let node = self.node_mut(at);
        (node.prev, node.next) = (0, 0);
    }

    /// Links a node that is not linked behind another.
    #[inline]
    fn link_behind(&mut self, before: Ref, at: Ref) {
        let next = self.node(before).next;
        self.node_mut(before).next = at.0 + 1;
        self.node_mut(Ref(next - 1)).prev = at.0 + 1;
        let node = self.node_mut(at);
        (node.prev, node.next) = (before.0 + 1, next);
    }

    #[inline]
    fn push(&mut self, at: Ref, revision: u64) {
        self.node_mut(at).revision = [revision as u32, (revision >> 32) as u32];
        self.link_behind(self.prev(Ref::ENDS), at);
    }

    /// An entity changed: it moves to the tail. `key`, its canonical bytes, is
    /// asked for only if it might have a tombstone.
    #[inline]
    pub(crate) fn changed<'k>(
        &mut self,
        kind: EntityKind,
        at: u32,
        revision: Revision,
        key: impl FnOnce() -> &'k [u8],
    ) {
        let at = Ref::new(column_of(kind), at);
        if self.node(at).is_linked() {
            self.unlink(at);
        } else if self.tombs.len() > 0 {
            self.exhume(kind, key());
        }
        self.push(at, revision.0);
    }

    /// An entity is gone: a tombstone takes its place, at the tail.
    pub(crate) fn gone(&mut self, kind: EntityKind, at: u32, revision: Revision, key: &[u8]) {
        self.unlink(Ref::new(column_of(kind), at));
        let hash = self.hash(kind, key);
        let at = if let Ok(key) = <[u8; 16]>::try_from(key) {
            let tomb = Tomb { kind: kind as u8, key, ..Tomb::default() };
            Ref::new(SHORT, self.short.insert(tomb))
        } else {
            let mut padded = [0; 32];
            padded[..key.len()].copy_from_slice(key);
            let tomb = Tomb { kind: kind as u8, key: padded, ..Tomb::default() };
            Ref::new(LONG, self.long.insert(tomb))
        };
        self.tombs.insert(hash, at.0);
        let newest = std::mem::replace(&mut self.newest, at.0 + 1);
        match newest {
            0 => self.oldest = at.0 + 1,
            newest => *self.newer_mut(Ref(newest - 1)) = at.0 + 1,
        }
        *self.older_mut(at) = newest;
        self.push(at, revision.0);
    }

    /// An entity that never stood in the order, or whose delete nobody needs to
    /// hear of, is gone.
    pub(crate) fn forget(&mut self, kind: EntityKind, at: u32) {
        self.unlink(Ref::new(column_of(kind), at));
    }

    fn exhume(&mut self, kind: EntityKind, key: &[u8]) {
        let hash = self.hash(kind, key);
        let found = self.tombs.find(hash, |at| self.tomb(Ref(at)) == (kind as u8, key));
        if let Some(at) = found {
            self.remove_tomb(Ref(at), hash);
        }
    }

    /// Since when a key has been gone, if its tombstone is still there.
    pub(crate) fn buried(&self, kind: EntityKind, key: &[u8]) -> Option<Revision> {
        if self.tombs.len() == 0 {
            return None;
        }
        let hash = self.hash(kind, key);
        let at = self.tombs.find(hash, |at| self.tomb(Ref(at)) == (kind as u8, key))?;
        Some(Revision(self.node(Ref(at)).revision()))
    }

    /// Takes the entities' nodes out of a list that was flushed, to be freed:
    /// what is left are its tombstones, for [`List::grave`].
    pub(crate) fn shed(&mut self) -> List<M> {
        let mut shed = List::default();
        std::mem::swap(&mut shed.columns, &mut self.columns);
        shed
    }

    /// Where a look at all [`List::grave`]s with short keys ends.
    pub(crate) fn graves(&self) -> u32 {
        self.short.end()
    }

    /// The tombstone with a short key under this number, if there is one: since
    /// when, and the key.
    pub(crate) fn grave(&self, number: u32) -> Option<(Revision, [u8; 16])> {
        let tomb = &self.short[number];
        tomb.node.is_linked().then(|| (Revision(tomb.node.revision()), tomb.key))
    }

    /// Kind and key of a tombstone.
    fn tomb(&self, at: Ref) -> (u8, &[u8]) {
        let (kind, key) = match at.tag() {
            SHORT => (self.short[at.number()].kind, &self.short[at.number()].key[..]),
            _ => (self.long[at.number()].kind, &self.long[at.number()].key[..]),
        };
        let bytes = kind_of(kind).key_bytes();
        (kind, &key[..bytes])
    }

    fn hash(&self, kind: EntityKind, key: &[u8]) -> u64 {
        self.hasher.hash_one((kind as u8, key))
    }

    fn older_mut(&mut self, at: Ref) -> &mut u32 {
        match at.tag() {
            SHORT => &mut self.short[at.number()].older,
            _ => &mut self.long[at.number()].older,
        }
    }

    fn newer_mut(&mut self, at: Ref) -> &mut u32 {
        match at.tag() {
            SHORT => &mut self.short[at.number()].newer,
            _ => &mut self.long[at.number()].newer,
        }
    }

    fn remove_tomb(&mut self, at: Ref, hash: u64) {
        self.unlink(at);
        let (older, newer) = (*self.older_mut(at), *self.newer_mut(at));
        match older {
            0 => self.oldest = newer,
            older => *self.newer_mut(Ref(older - 1)) = newer,
        }
        match newer {
            0 => self.newest = older,
            newer => *self.older_mut(Ref(newer - 1)) = older,
        }
        self.tombs.remove(hash, at.0);
        match at.tag() {
            SHORT => self.short.remove(at.number()),
            _ => self.long.remove(at.number()),
        }
    }

    /// Revision of the oldest tombstone.
    fn oldest(&self) -> Option<u64> {
        Some(self.node(Ref(self.oldest.checked_sub(1)?)).revision())
    }

    fn evict(&mut self) {
        if let Some(at) = self.oldest.checked_sub(1).map(Ref) {
            let (kind, key) = self.tomb(at);
            let hash = self.hash(kind_of(kind), key);
            self.remove_tomb(at, hash);
        }
    }

    fn tombstones(&self) -> usize {
        self.tombs.len()
    }

    pub(crate) fn tombstone_bytes(&self) -> usize {
        self.short.len() * SHORT_BYTES + self.long.len() * LONG_BYTES
    }

    /// Empties the list but for its markers and the item of the flush; gives
    /// what was in it, to be freed.
    fn flush(&mut self, revision: Revision) -> List<M> {
        let old = std::mem::take(self);
        self.markers = vec![Node::default(); old.markers.len()];
        for (number, marker) in old.markers.iter().enumerate() {
            if marker.is_linked() {
                self.push(Ref::new(MARKER, number as u32), 0);
            }
        }
        self.push(Ref::FLUSHED, revision.0);
        old
    }

    /// The item behind a marker.
    #[inline]
    fn ahead(&self, marker: u32) -> Option<Ref> {
        let mut at = self.next(Ref::new(MARKER, marker));
        while at.tag() == MARKER {
            at = self.next(at);
        }
        (at != Ref::ENDS).then_some(at)
    }

    fn behind(&self, marker: u32) -> Option<Ref> {
        let mut at = self.prev(Ref::new(MARKER, marker));
        while at.tag() == MARKER {
            at = self.prev(at);
        }
        (at != Ref::ENDS).then_some(at)
    }

    fn move_marker(&mut self, marker: u32, behind: Ref) {
        let marker = Ref::new(MARKER, marker);
        self.unlink(marker);
        self.link_behind(behind, marker);
    }

    /// Gives up to `count` chunks back to the allocator, of a list that was
    /// flushed. False: none is left.
    pub(crate) fn dismantle(&mut self, count: usize) -> bool {
        for _ in 0..count {
            if self.columns.iter_mut().all(|column| column.chunks.pop().is_none())
                && !self.short.pop_chunk()
                && !self.long.pop_chunk()
            {
                return false;
            }
        }
        true
    }

    fn bytes(&self) -> usize {
        let chunks: usize = self.columns.iter().map(|column| column.chunks.len()).sum();
        chunks * COLUMN_CHUNK * size_of::<Live<M>>()
            + self.short.bytes()
            + self.long.bytes()
            + self.tombs.bytes()
            + self.markers.capacity() * size_of::<Node>()
    }
}

fn kind_of(kind: u8) -> EntityKind {
    EntityKind::ALL[usize::from(kind) - 1]
}

/// A marker, apart from where it stands.
#[derive(Clone, Copy, Default, Debug)]
struct Marker {
    used: bool,
    /// Lists in which it is still looking for its place, a bit each; only
    /// while `seeking`.
    pending: u8,
    seeking: bool,
    /// Everything up to this revision was met, or isn't needed.
    floor: u64,
    /// Tombstones up to this revision are not shown: 0, or where a snapshot
    /// began, which starts from nothing.
    silent: u64,
}

/// What stands behind a marker.
pub(crate) enum Ahead {
    /// A live entity of this kind and number.
    Live(EntityKind, u32),
    /// A tombstone: its kind and key, padded.
    Gone(EntityKind, [u8; 32]),
    /// A flush.
    Flushed(Flush),
}

/// All three lists, and the markers in them.
pub(crate) struct Order<R, N> {
    /// Links and groups.
    pub(crate) links: List<()>,
    /// Neighbours.
    pub(crate) neighbours: List<N>,
    /// Routes.
    pub(crate) routes: List<R>,
    markers: Vec<Marker>,
    evicted: u64,
}

impl<R: Copy + Default, N: Copy + Default> Default for Order<R, N> {
    fn default() -> Self {
        Order {
            links: List::default(),
            neighbours: List::default(),
            routes: List::default(),
            markers: Vec::new(),
            evicted: 0,
        }
    }
}

/// Does the same to each list, whatever its meta.
macro_rules! on {
    ($order:expr, $list:expr, $name:ident => $do:expr) => {
        match $list {
            ListId::Links => {
                let $name = &mut $order.links;
                $do
            }
            ListId::Neighbours => {
                let $name = &mut $order.neighbours;
                $do
            }
            ListId::Routes => {
                let $name = &mut $order.routes;
                $do
            }
        }
    };
}

impl<R: Copy + Default, N: Copy + Default> Order<R, N> {
    /// Tombstones held.
    pub(crate) fn tombstones(&self) -> usize {
        self.links.tombstones() + self.neighbours.tombstones() + self.routes.tombstones()
    }

    /// Bytes they count for.
    pub(crate) fn tombstone_bytes(&self) -> usize {
        self.links.tombstone_bytes()
            + self.neighbours.tombstone_bytes()
            + self.routes.tombstone_bytes()
    }

    /// Bytes taken from the allocator, about.
    pub(crate) fn bytes(&self) -> usize {
        self.links.bytes()
            + self.neighbours.bytes()
            + self.routes.bytes()
            + self.markers.capacity() * size_of::<Marker>()
    }

    /// Gives up the oldest tombstones until they count for at most this much,
    /// at most `count` of them. True: there are more to go.
    pub(crate) fn trim(&mut self, bytes_max: usize, count: usize) -> bool {
        for _ in 0..count {
            if self.tombstone_bytes() <= bytes_max {
                return false;
            }
            let oldest = [self.links.oldest(), self.neighbours.oldest(), self.routes.oldest()];
            let all = ListId::ALL.iter().zip(oldest);
            let Some((revision, &list)) =
                all.filter_map(|(list, revision)| Some((revision?, list))).min_by_key(|o| o.0)
            else {
                return false;
            };
            self.evicted = self.evicted.max(revision);
            on!(self, list, list => list.evict());
        }
        self.tombstone_bytes() > bytes_max
    }

    /// The newest revision whose tombstone was given up.
    pub(crate) fn evicted(&self) -> Revision {
        Revision(self.evicted)
    }

    /// The routes are flushed; gives what was in their list.
    pub(crate) fn flush_routes(&mut self, revision: Revision) -> List<R> {
        self.routes.flush(revision)
    }

    /// The neighbours are flushed; gives what was in their list.
    pub(crate) fn flush_neighbours(&mut self, revision: Revision) -> List<N> {
        self.neighbours.flush(revision)
    }

    /// A marker for a snapshot: before the oldest item. `now` is the newest
    /// revision.
    pub(crate) fn marker(&mut self, now: Revision) -> MarkerId {
        let number = self.markers.iter().position(|marker| !marker.used).unwrap_or_else(|| {
            self.markers.push(Marker::default());
            self.markers.len() - 1
        });
        let floor = now.0.max(self.evicted);
        self.markers[number] =
            Marker { used: true, pending: 0, seeking: false, floor, silent: now.0 };
        for list in ListId::ALL {
            on!(self, list, list => {
                if list.markers.len() <= number {
                    list.markers.resize(number + 1, Node::default());
                }
                list.move_marker(number as u32, Ref::ENDS);
            });
        }
        MarkerId(number as u32)
    }

    /// All up to this revision was met, or need not be: what is given up of that is
    /// no loss.
    pub(crate) fn met(&mut self, MarkerId(marker): MarkerId, revision: Revision) {
        if let Some(state) = self.markers.get_mut(marker as usize) {
            state.floor = state.floor.max(revision.0);
        }
    }

    /// A marker goes.
    pub(crate) fn release(&mut self, MarkerId(marker): MarkerId) {
        let Some(state) = self.markers.get_mut(marker as usize).filter(|state| state.used) else {
            return;
        };
        state.used = false;
        for list in ListId::ALL {
            on!(self, list, list => list.unlink(Ref::new(MARKER, marker)));
        }
    }

    /// Looks, from the tail backwards, for the place right after `revision`.
    pub(crate) fn seek(
        &mut self,
        MarkerId(marker): MarkerId,
        revision: Revision,
        mut budget: usize,
    ) -> bool {
        let Some(state) = self.markers.get_mut(marker as usize).filter(|state| state.used) else {
            return true;
        };
        if !state.seeking {
            (state.seeking, state.pending) = (true, 0b111);
            for list in ListId::ALL {
                on!(self, list, list => list.move_marker(marker, list.prev_of_ends(marker)));
            }
        }
        for (bit, list) in ListId::ALL.into_iter().enumerate() {
            while self.markers[marker as usize].pending & 1 << bit != 0 {
                let moved = on!(self, list, list => match list.behind(marker) {
                    Some(at) if list.node(at).revision() > revision.0 => {
                        let before = list.prev(at);
                        list.move_marker(marker, before);
                        true
                    }
                    _ => false,
                });
                if !moved {
                    self.markers[marker as usize].pending &= !(1 << bit);
                }
                budget = budget.saturating_sub(1);
                if budget == 0 && self.markers[marker as usize].pending != 0 {
                    return false;
                }
            }
        }
        let state = &mut self.markers[marker as usize];
        (state.seeking, state.floor, state.silent) = (false, revision.0, 0);
        true
    }

    /// Moves a marker over the next item: what it is, and since which revision.
    /// `Ok(None)`: over one that needn't be shown.
    pub(crate) fn advance(
        &mut self,
        MarkerId(marker): MarkerId,
    ) -> Result<Option<(Revision, Ahead)>, Step> {
        let Some(&state) = self.markers.get(marker as usize).filter(|state| state.used) else {
            return Err(Step::Lost);
        };
        if state.floor < self.evicted {
            return Err(Step::Lost);
        }
        let mut first: Option<(u64, ListId, Ref)> = None;
        for id in ListId::ALL {
            on!(self, id, list => {
                if let Some(at) = list.ahead(marker) {
                    let revision = list.node(at).revision();
                    if first.is_none_or(|(lowest, ..)| revision < lowest) {
                        first = Some((revision, id, at));
                    }
                }
            });
        }
        let Some((revision, id, at)) = first else { return Err(Step::Tail) };
        let (tomb, item) = on!(self, id, list => {
            list.move_marker(marker, at);
            match at.tag() {
                SHORT | LONG => {
                    let (kind, key) = list.tomb(at);
                    let mut padded = [0; 32];
                    padded[..key.len()].copy_from_slice(key);
                    (true, Ahead::Gone(kind_of(kind), padded))
                }
                column @ 0..=1 => {
                    let kind = match (id, column) {
                        (ListId::Links, 0) => EntityKind::Link,
                        (ListId::Links, _) => EntityKind::Group,
                        (ListId::Neighbours, _) => EntityKind::Neighbour,
                        (ListId::Routes, 0) => EntityKind::Route4,
                        (ListId::Routes, _) => EntityKind::Route6,
                    };
                    (false, Ahead::Live(kind, at.number()))
                }
                _ => (true, Ahead::Flushed(Flush {
                    routes: id == ListId::Routes,
                    neighbours: id == ListId::Neighbours,
                })),
            }
        });
        let state = &mut self.markers[marker as usize];
        state.floor = state.floor.max(revision - 1);
        if tomb && revision <= state.silent {
            return Ok(None);
        }
        Ok(Some((Revision(revision), item)))
    }
}

impl<M: Copy + Default> List<M> {
    /// The last node that is not this marker.
    fn prev_of_ends(&self, marker: u32) -> Ref {
        match self.prev(Ref::ENDS) {
            last if last == Ref::new(MARKER, marker) => self.prev(last),
            last => last,
        }
    }
}
