//! The writer: takes the entities of a transaction one by one, then makes
//! them visible together.
//!
//! It keeps no copy of the tables: it reads its own object. What it has beside
//! (the book of blocks, the numbers of the answers, the state of each table)
//! can be made again from the entities; a daemon that starts makes a new object.
use std::collections::HashMap;

use foldhash::fast::RandomState;
use rtm_model::canonical::DecodeError;
use rtm_model::{
    Digests, Entity, EntityKey, EntityKind, Family, GroupId, Neighbour, Route, RouteKey, TABLE_MAIN,
};

use crate::answers::{Answer, Answers, Short};
use crate::batch::{BATCH, Batch, Queued};
use crate::hash::{Table as Hash, entry4, entry6};
use crate::heap::{Part, Usage};
use crate::keys::{self, HAS_ATTRS, RouteWords};
use crate::layout::{
    self, AT_STATE, HEADER_WORDS, Root, SLOT_WORDS, SLOTS_AT, TableRoot, TreeRoot, none, tag,
    word_of,
};
use crate::lpm::{Painter, Slot, Wide, paint, small, wide};
use crate::protocol::{Real, publish, slot_of};
use crate::ring::RingWriter;
use crate::store::{Full, Memory, Store};
use crate::tree::Tree;

/// What a new image is made from.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The first object's size: a power of two. It doubles when it is full.
    pub bytes: u64,
    /// No object is larger.
    pub bytes_max: u64,
    /// Bytes of the ring of records: a power of two.
    pub ring_bytes: u64,
    /// The epoch that the tables begin with.
    pub epoch: u64,
    /// The key of this epoch's digests, for readers that check them.
    pub digest_key: [u64; 2],
}

impl Settings {
    /// The smallest object: header, ring and one MiB of heap must fit.
    pub const BYTES_MIN: u64 = 2 << 20;
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            bytes: 4 << 20,
            bytes_max: 1 << 30,
            ring_bytes: 1 << 20,
            epoch: 0,
            digest_key: [0; 2],
        }
    }
}

/// Why a change could not be taken.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// There is no room. Nothing can be written any more: readers keep the last
    /// committed revision, and a new, larger image has to be made.
    Full(Full),
    /// These are no canonical bytes.
    Bytes(DecodeError),
}

impl core::fmt::Display for WriteError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            WriteError::Full(full) => full.fmt(f),
            WriteError::Bytes(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for WriteError {}

impl From<Full> for WriteError {
    fn from(full: Full) -> WriteError {
        WriteError::Full(full)
    }
}

impl From<DecodeError> for WriteError {
    fn from(error: DecodeError) -> WriteError {
        WriteError::Bytes(error)
    }
}

/// A routing table, one family of it.
#[derive(Clone, Copy, Debug)]
struct TableState {
    root: TableRoot,
    /// Routes.
    routes: u64,
    /// Prefixes, the default's left out, that have an answer.
    prefixes: u64,
    /// To be built again at the commit (a small table).
    stale: bool,
    /// Has a trie.
    is_trie: bool,
    /// Either family: is among the tables that changed since the commit (noted
    /// with IPv4's).
    changed: bool,
}

const EMPTY_TABLE: TableState = TableState {
    root: TableRoot::EMPTY,
    routes: 0,
    prefixes: 0,
    stale: false,
    is_trie: false,
    changed: false,
};

/// The one writer of an image.
pub struct Writer<M: Memory> {
    store: Store<M>,
    version: u64,
    root: Root,
    tables: HashMap<u32, [TableState; 2], RandomState>,
    changed_tables: Vec<u32>,
    table_tree: Tree<1, 3>,
    routes4: Tree<2, 1>,
    routes6: Tree<4, 1>,
    attrs4: Tree<2, 1>,
    attrs6: Tree<4, 1>,
    groups: Tree<1, 1>,
    links: Tree<1, 3>,
    neighbours: Tree<4, 2>,
    macs: Tree<4, 2>,
    mac_keys: u64,
    hash4: Hash<2>,
    hash6: Hash<4>,
    answers: Answers,
    /// Table main's prefixes that are not in its tries.
    short: Short,
    /// The root of table main's IPv4 trie, if it is a large one.
    wide: Option<Wide>,
    painter: Painter,
    ring: RingWriter,
    batch: Batch,
    /// Bytes of a successor that the last commit allocated or copied.
    slice: u64,
    /// A change failed in the middle: no further commit.
    full: Option<Full>,
}

impl<M: Memory> core::fmt::Debug for Writer<M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Writer(version {}, {} bytes)", self.version, self.store.bytes())
    }
}

/// Sizes, for `rtm status image`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Status {
    /// The object's size in bytes.
    pub bytes: u64,
    /// The heap.
    pub usage: Usage,
    /// Different answers.
    pub answers: u64,
    /// Routing tables.
    pub tables: u64,
    /// Versions published.
    pub version: u64,
    /// A larger object is being written along.
    pub growing: bool,
    /// Bytes of it that the last commit allocated or copied.
    pub slice: u64,
    /// Growths that couldn't wait and were done at once.
    pub hurried: u64,
}

impl<M: Memory> Writer<M> {
    /// Makes an empty image in `memory`, which is all zero, and publishes it
    /// as revision 0.
    ///
    /// # Errors
    /// [`Full`]: the memory is smaller than [`Settings::BYTES_MIN`].
    ///
    /// # Panics
    /// If the ring is no power of two or doesn't leave room.
    pub fn new(memory: M, settings: &Settings) -> Result<Writer<M>, Full> {
        assert!(settings.ring_bytes.is_power_of_two(), "a ring of {} bytes", settings.ring_bytes);
        let ring_words = (settings.ring_bytes / 8) as usize;
        let heap_at = HEADER_WORDS + ring_words;
        assert!(heap_at < memory.len(), "no room behind the ring");
        let random = || {
            use std::hash::BuildHasher;
            std::hash::RandomState::new().hash_one(0_u8)
        };
        let secret = [random(), random()];
        memory.put(layout::AT_LAYOUT, layout::LAYOUT_VERSION | (HEADER_WORDS as u64 * 8) << 32);
        memory.put(layout::AT_BYTES, memory.len() as u64 * 8);
        memory.put(layout::AT_ID, random());
        memory.put(layout::AT_RING, HEADER_WORDS as u64 | (ring_words as u64) << 32);
        memory.put(layout::AT_HEAP, heap_at as u64);
        memory.put(layout::AT_SLOTS, SLOTS_AT as u64 | (SLOT_WORDS as u64) << 32);
        memory.put(layout::AT_PID, u64::from(std::process::id()));
        memory.put(layout::AT_HASH_KEY, secret[0]);
        memory.put(layout::AT_HASH_KEY + 1, secret[1]);
        memory.put(layout::AT_DIGEST_KEY, settings.digest_key[0]);
        memory.put(layout::AT_DIGEST_KEY + 1, settings.digest_key[1]);
        memory.put(layout::AT_MAGIC, layout::MAGIC);
        let mut store =
            Store::new(memory, heap_at, settings.bytes_max.min(layout::OBJECT_BYTES_LIMIT));
        let answers = Answers::new(&mut store)?;
        let mut writer = Writer {
            store,
            version: 0,
            root: Root::EMPTY,
            tables: HashMap::default(),
            changed_tables: Vec::new(),
            table_tree: Tree::new(TreeRoot::default()),
            routes4: Tree::new(TreeRoot::default()),
            routes6: Tree::new(TreeRoot::default()),
            attrs4: Tree::new(TreeRoot::default()),
            attrs6: Tree::new(TreeRoot::default()),
            groups: Tree::new(TreeRoot::default()),
            links: Tree::new(TreeRoot::default()),
            neighbours: Tree::new(TreeRoot::default()),
            macs: Tree::new(TreeRoot::default()),
            mac_keys: 0,
            hash4: Hash::new(secret),
            hash6: Hash::new(secret),
            answers,
            short: Short::new(),
            wide: None,
            painter: Painter::default(),
            ring: RingWriter::new(HEADER_WORDS, ring_words),
            batch: Batch::default(),
            slice: 0,
            full: None,
        };
        writer.commit(settings.epoch, 0, &Digests::default())?;
        writer.store.mem().installed();
        Ok(writer)
    }

    /// An entity is this now. Groups and links come before the routes that use
    /// them. Not visible before [`Self::commit`].
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn set(&mut self, entity: &Entity) -> Result<(), WriteError> {
        self.attempt(|writer| match entity {
            Entity::Route(route) => writer.set_route(route),
            Entity::Neighbour(neighbour) => writer.set_neighbour(neighbour),
            Entity::Group(group) => {
                let packed = writer.answers.set_group(&mut writer.store, group)?;
                let key = [u64::from(group.id.0)];
                writer.groups.insert(&mut writer.store, &key, &[packed])?;
                Ok(())
            }
            Entity::Link(link) => {
                let name = link.name.padded();
                let half =
                    |at: usize| u64::from_le_bytes(name[at..at + 8].try_into().expect("eight"));
                let value = [u64::from(link.ifindex), half(0), half(8)];
                writer.links.insert(&mut writer.store, &[u64::from(link.id.0)], &value)?;
                Ok(())
            }
        })
    }

    /// [`Self::set`] from canonical bytes. A route may wait for others, to be
    /// worked in with them; then what is wrong with it is said by a later call.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn set_bytes(&mut self, kind: EntityKind, bytes: &[u8]) -> Result<(), WriteError> {
        if let Some(queued) = queued(kind, true, bytes) {
            return self.queue(queued);
        }
        let entity = Entity::decode(kind, bytes)?;
        self.set(&entity)
    }

    /// An entity is gone; one that isn't there is no error.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn delete(&mut self, key: &EntityKey) -> Result<(), WriteError> {
        self.attempt(|writer| match key {
            EntityKey::Route(key) => writer.delete_route(key),
            EntityKey::Neighbour(key) => {
                writer.delete_neighbour(keys::neighbour_key(key.ip, key.link))
            }
            EntityKey::Group(id) => {
                if writer.groups.remove(&mut writer.store, &[u64::from(id.0)])?.is_some() {
                    writer.answers.remove_group(&mut writer.store, *id)?;
                }
                Ok(())
            }
            EntityKey::Link(id) => {
                writer.links.remove(&mut writer.store, &[u64::from(id.0)])?;
                Ok(())
            }
        })
    }

    /// [`Self::delete`] from the canonical bytes of the key. It may wait as
    /// [`Self::set_bytes`] says.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn delete_bytes(&mut self, kind: EntityKind, bytes: &[u8]) -> Result<(), WriteError> {
        if let Some(queued) = queued(kind, false, bytes) {
            return self.queue(queued);
        }
        let key = EntityKey::decode(kind, bytes)?;
        self.delete(&key)
    }

    /// All routes, all neighbours, or both are gone. Links and groups stay.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn flush(&mut self, routes: bool, neighbours: bool) -> Result<(), WriteError> {
        self.attempt(|writer| {
            if routes {
                writer.flush_routes()?;
            }
            if neighbours {
                writer.neighbours.clear(&mut writer.store);
                writer.macs.clear(&mut writer.store);
                writer.hash4.clear(&mut writer.store);
                writer.hash6.clear(&mut writer.store);
                writer.mac_keys = 0;
            }
            Ok(())
        })
    }

    /// Makes everything since the last commit visible, by one store, as this
    /// revision of this epoch with these digests.
    ///
    /// # Errors
    /// [`Full`]; the visible revision stays as it was.
    pub fn commit(&mut self, epoch: u64, revision: u64, digests: &Digests) -> Result<(), Full> {
        self.settle()?;
        if let Err(full) = self.finish() {
            self.full = Some(full.clone());
            return Err(full);
        }
        let sections = [digests.routes, digests.neighbours, digests.keys, digests.links];
        let main = self.tables.get(&TABLE_MAIN).unwrap_or(&[EMPTY_TABLE; 2]);
        let unit = layout::UNIT_BYTES as u64;
        self.root = Root {
            epoch,
            revision,
            digests: core::array::from_fn(|half| (sections[half / 2].0 >> (half % 2 * 64)) as u64),
            main: [main[0].root, main[1].root],
            tables: self.table_tree.at,
            routes4: self.routes4.at,
            routes6: self.routes6.at,
            attrs4: self.attrs4.at,
            attrs6: self.attrs6.at,
            groups: self.groups.at,
            links: self.links.at,
            neighbours: self.neighbours.at,
            macs: self.macs.at,
            answers: self.answers.tops(),
            hashes: [self.hash4.root(), self.hash6.root()],
            mac_keys: self.mac_keys,
            used_units: self.store.usage().used / unit,
        };
        self.version += 1;
        let slot = SLOTS_AT + slot_of(self.version) * SLOT_WORDS;
        for (word, value) in self.root.pack().into_iter().enumerate() {
            self.store.put(slot + word, value);
        }
        publish::<Real>(self.store.mem(), self.version);
        self.store.committed(self.version);
        if let Some(wide) = &mut self.wide {
            wide.committed();
        }
        self.slice = self.store.tend();
        Ok(())
    }

    /// Is the object being copied into a larger one? Each commit carries this on
    /// by a slice, and so does [`Self::tend`].
    #[must_use]
    pub fn is_growing(&self) -> bool {
        self.store.is_growing()
    }

    /// Carries growth on by a slice, where no commit does it.
    ///
    /// # Errors
    /// [`Full`]: what waited to be worked in found no room.
    pub fn tend(&mut self) -> Result<(), Full> {
        self.settle()?;
        self.slice = self.store.tend();
        Ok(())
    }

    /// This writer's image takes the place of another, whose readers learn that
    /// they are to go on here. Who followed the other one's ring finds itself
    /// lapped. To be called before anything stands in this one's ring.
    pub fn replaces(&mut self, other: Writer<M>) {
        let position = other.ring.beyond();
        self.ring.begin_at(self.store.mem(), position);
        crate::store::say_moved(other.store.mem(), self.store.get(layout::AT_ID));
    }

    /// The writer stops in order: readers see that no change will come.
    pub fn close(&mut self) {
        self.store.mem().store(
            AT_STATE,
            layout::STATE_CLOSED,
            core::sync::atomic::Ordering::Release,
        );
        self.store.mem().wake();
    }

    /// Makes sure that a transaction of so many records finds room, growing
    /// the object now if it may not: what the daemon asks before it applies. A
    /// change of a route counts as five: itself, and what its next hops bring.
    /// (It estimates high: each may copy nodes of every structure.)
    ///
    /// # Errors
    /// [`Full`]: the transaction must be refused. Nothing has changed.
    pub fn reserve(&mut self, changes: u64) -> Result<(), Full> {
        self.settle()?;
        self.store.reserve(self.needs(changes))
    }

    /// As [`Self::reserve`], but nothing grows yet: for a transaction so large
    /// that most of the estimate is never needed. Its object grows while it is
    /// written, as far as it must.
    ///
    /// # Errors
    /// [`Full`]: the transaction must be refused. Nothing has changed.
    pub fn would_fit(&self, changes: u64) -> Result<(), Full> {
        if let Some(full) = &self.full {
            return Err(full.clone());
        }
        self.store.size_for(self.needs(changes)).map(|_| ())
    }

    /// No object is to become larger than this from here on.
    pub fn set_bytes_max(&mut self, bytes_max: u64) {
        self.store.set_bytes_max(bytes_max.min(layout::OBJECT_BYTES_LIMIT));
    }

    /// The bytes that so many changes take at most.
    fn needs(&self, changes: u64) -> u64 {
        let live = self.store.usage().used;
        // Scattered changes copy at most everything; what they add, twice over.
        let copied = (changes * CHANGE_COPIES_BYTES).min(live + live / 4);
        // It may get a wide root.
        let prefixes = self.tables.get(&TABLE_MAIN).map_or(0, |main| main[0].prefixes);
        let gets = self.wide.is_none() && prefixes + changes > 4 * wide::PREFIXES_MIN;
        let root = if gets { wide::BYTES } else { 0 };
        copied + changes * CHANGE_ADDS_BYTES + RESERVE_BYTES + root
    }

    /// Sizes.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            bytes: self.store.bytes(),
            usage: self.store.usage(),
            answers: self.answers.len() as u64,
            tables: self.tables.len() as u64,
            version: self.version,
            growing: self.store.is_growing(),
            slice: self.slice,
            hurried: self.store.hurried(),
        }
    }

    /// The heap by kinds of blocks: so many of each there are.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        self.store.parts()
    }

    /// Bytes of the longest-prefix structure of a table's family: pages, nodes,
    /// intervals; not the entries behind it.
    #[must_use]
    pub fn lookup_bytes(&self, table: u32, family: Family) -> u64 {
        let Some(state) = self.tables.get(&table) else { return 0 };
        paint::bytes(&self.store, family, state[index_of(family)].root.entry)
    }

    /// The memory.
    #[must_use]
    pub fn memory(&self) -> &M {
        self.store.mem()
    }

    /// Appends frames to the ring: whole frames as `docs/wire.md` has them.
    /// Not readable before [`Self::ring_publish`].
    pub fn ring_append(&mut self, frames: &[u8]) {
        self.store.ring_append(&mut self.ring, frames);
    }

    /// Makes what was appended readable, then wakes who waits. The commit that
    /// it belongs to comes before.
    pub fn ring_publish(&mut self) {
        self.ring.publish(self.store.mem());
        self.store.mem().wake();
    }

    fn attempt(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<(), Full>,
    ) -> Result<(), WriteError> {
        self.settle()?;
        change(self).map_err(|full| {
            self.full = Some(full.clone());
            WriteError::Full(full)
        })
    }

    fn queue(&mut self, queued: Queued) -> Result<(), WriteError> {
        self.batch.queued.push(queued);
        if self.batch.queued.len() >= BATCH {
            self.settle()?;
        }
        Ok(())
    }

    /// Works in what waits.
    fn settle(&mut self) -> Result<(), Full> {
        if let Some(full) = &self.full {
            return Err(full.clone());
        }
        if self.batch.queued.is_empty() {
            return Ok(());
        }
        let mut batch = core::mem::take(&mut self.batch);
        let wide = self.wide.as_ref();
        batch.look_ahead(&self.store, &self.routes4, &self.routes6, wide, |table, family| {
            let tables = self.tables.get(&table);
            tables.map_or(tag::LEAF, |tables| tables[index_of(family)].root.entry)
        });
        let mut result = Ok(());
        for queued in batch.queued.drain(..) {
            result = match queued {
                Queued::Route4(key, value) => {
                    self.route4(&key, value.map(|value| (value, &[][..])))
                }
                Queued::Route6(key, value) => {
                    self.route6(&key, value.map(|value| (value, &[][..])))
                }
            };
            if let Err(full) = &result {
                self.full = Some(full.clone());
                break;
            }
        }
        self.batch = batch;
        result
    }
}

fn queued(kind: EntityKind, set: bool, bytes: &[u8]) -> Option<Queued> {
    match kind {
        EntityKind::Route4 => Queued::of(Family::V4, set, bytes),
        EntityKind::Route6 => Queued::of(Family::V6, set, bytes),
        _ => None,
    }
}

/// What one record copies: of the nodes on the way, and of pages and nodes of the
/// lookup structure, its part. (A change of a route is counted as five records,
/// and copies at most five times this if no other change is close to it.)
const CHANGE_COPIES_BYTES: u64 = 2 << 10;
/// What one change adds at most on average, attributes left out.
const CHANGE_ADDS_BYTES: u64 = 256;
/// What is left over in slabs of each size.
const RESERVE_BYTES: u64 = 1 << 20;

/// Is a prefix of this length not part of the table's trie?
fn is_short(table: u32, len: u8) -> bool {
    table == TABLE_MAIN && len < none::SHORT_BITS
}

fn index_of(family: Family) -> usize {
    usize::from(family == Family::V6)
}

/// What a lookup would find for a route with this value.
fn answer_of(value: u64) -> Answer {
    let kind = keys::kind_of(value).expect("the writer wrote it");
    Answer::new(GroupId(value as u32), kind)
}

/// The value of the route that lookups of this prefix find: tos 0, then the
/// lowest (distance, metric, ordinal).
fn best<M: Memory, const K: usize>(
    store: &Store<M>,
    tree: &Tree<K, 1>,
    first: &[u64; K],
) -> Option<u64>
where
    [u64; K]: RouteWords,
{
    let mut best: Option<u64> = None;
    tree.scan(store.mem(), first, usize::MAX, |key, [value]| {
        let same = key.table() == first.table()
            && key.bits() == first.bits()
            && key.tail() >> 48 == first.tail() >> 48;
        if same && best.is_none_or(|best| value >> 56 < best >> 56) {
            best = Some(value);
        }
        same
    });
    best
}

impl<M: Memory> Writer<M> {
    fn set_route(&mut self, route: &Route) -> Result<(), Full> {
        let set = Some((keys::route_value(&route.value), route.value.attrs.bytes()));
        match route.key.prefix.family() {
            Family::V4 => self.route4(&RouteWords::of(&route.key), set),
            Family::V6 => self.route6(&RouteWords::of(&route.key), set),
        }
    }

    fn delete_route(&mut self, key: &RouteKey) -> Result<(), Full> {
        match key.prefix.family() {
            Family::V4 => self.route4(&RouteWords::of(key), None),
            Family::V6 => self.route6(&RouteWords::of(key), None),
        }
    }

    fn route4(&mut self, key: &[u64; 2], set: Option<(u64, &[u8])>) -> Result<(), Full> {
        let change = change_route(&mut self.store, &mut self.routes4, &mut self.attrs4, key, set)?;
        self.changed(key, change)
    }

    fn route6(&mut self, key: &[u64; 4], set: Option<(u64, &[u8])>) -> Result<(), Full> {
        let change = change_route(&mut self.store, &mut self.routes6, &mut self.attrs6, key, set)?;
        self.changed(key, change)
    }

    /// A route was changed in its tree; now what lookups find.
    fn changed<K: RouteWords>(&mut self, key: &K, change: RouteChange) -> Result<(), Full> {
        let before = change.before.map(answer_of);
        let after = change.after.map(answer_of);
        if change.routes == 0 && before == after {
            return Ok(());
        }
        let family = K::FAMILY;
        let (table, bits, len) = (key.table(), key.bits(), key.prefix_len());
        let index = index_of(family);
        let states = self.tables.entry(table).or_insert([EMPTY_TABLE; 2]);
        if !states[0].changed {
            states[0].changed = true;
            self.changed_tables.push(table);
        }
        let state = &mut states[index];
        state.routes = state.routes.wrapping_add_signed(change.routes);
        if before == after {
            return Ok(());
        }
        let mut state = *state;
        let number = match after {
            Some(answer) => self.answers.acquire(&mut self.store, answer)?,
            None => 0,
        };
        let is_short = is_short(table, len);
        if is_short {
            self.short.set(family, bits, len, number);
        }
        if len == 0 {
            state.root.default = number;
        } else {
            state.prefixes += u64::from(before.is_none());
            state.prefixes -= u64::from(after.is_none());
            if !state.is_trie {
                state.stale = true;
            } else if !is_short {
                let slot = match after {
                    Some(_) => Slot::leaf(number, len),
                    None => self.covering(family, table, bits, len),
                };
                let root = state.root.entry;
                state.root.entry = self.paint(family, root, bits, len, slot)?;
            }
        }
        if let Some(answer) = before {
            let number = self.answers.number(answer);
            self.answers.release(number);
        }
        self.tables.get_mut(&table).expect("entered above")[index] = state;
        if state.is_trie && state.prefixes < small::PREFIXES_MAX as u64 / 4 {
            self.make_small(table, family);
        } else if !state.is_trie && state.prefixes > small::PREFIXES_MAX as u64 {
            self.make_trie(table, family)?;
        } else if table == TABLE_MAIN && family == Family::V4 && state.is_trie {
            self.choose_root(state.prefixes)?;
        }
        Ok(())
    }

    /// A large table main has a wide root. Without room for one it does without.
    fn choose_root(&mut self, prefixes: u64) -> Result<(), Full> {
        let widen = self.wide.is_none()
            && prefixes >= 4 * wide::PREFIXES_MIN
            && prefixes % wide::PREFIXES_MIN == 0;
        if !widen && (self.wide.is_none() || prefixes >= wide::PREFIXES_MIN) {
            return Ok(());
        }
        let state = &mut self.tables.get_mut(&TABLE_MAIN).expect("a table with routes")[0];
        if let Some(wide) = self.wide.take() {
            state.root.entry = wide.into_pages(&mut self.store)?;
        } else if let Ok(wide) = Wide::of_pages(&mut self.store, state.root.entry) {
            state.root.entry = wide.reference();
            self.wide = Some(wide);
        }
        Ok(())
    }

    /// Paints in a trie; returns its root.
    fn paint(
        &mut self,
        family: Family,
        root: u32,
        bits: u128,
        len: u8,
        slot: Slot,
    ) -> Result<u32, Full> {
        let wide = self.wide.as_mut().filter(|wide| wide.reference() == root);
        let Some(wide) = wide.filter(|_| family == Family::V4) else {
            return self.painter.paint(&mut self.store, family, root, bits, len, slot);
        };
        self.painter.paint_wide(&mut self.store, wide, bits, len, slot)?;
        Ok(wide.reference())
    }

    /// The leaf of the longest prefix around this one, itself left out.
    fn covering(&self, family: Family, table: u32, bits: u128, len: u8) -> Slot {
        let found = match family {
            Family::V4 => covering(&self.store, &self.routes4, table, bits, len),
            Family::V6 => covering(&self.store, &self.routes6, table, bits, len),
        };
        let found = found.filter(|(_, len)| !is_short(table, *len));
        let none = match table {
            TABLE_MAIN => none::of(family, (bits >> (128 - u32::from(none::SHORT_BITS))) as u8),
            _ => none::DEFAULT,
        };
        found.map_or(Slot::none(none), |(value, len)| {
            Slot::leaf(self.answers.number(answer_of(value)), len)
        })
    }

    /// The table's prefixes with their answers, the default left out, in order.
    fn painted(&self, table: u32, family: Family) -> Vec<small::Painted> {
        match family {
            Family::V4 => painted(&self.store, &self.routes4, &self.answers, table),
            Family::V6 => painted(&self.store, &self.routes6, &self.answers, table),
        }
    }

    fn make_trie(&mut self, table: u32, family: Family) -> Result<(), Full> {
        let painted = self.painted(table, family);
        let state =
            &mut self.tables.get_mut(&table).expect("a table with routes")[index_of(family)];
        if state.root.entry & tag::LEAF == 0 {
            self.store.retire(state.root.entry & tag::OFFSET);
        }
        let mut root = paint::empty(&mut self.store, family, table == TABLE_MAIN)?;
        for prefix in painted.into_iter().filter(|prefix| !is_short(table, prefix.len)) {
            let slot = Slot::leaf(prefix.answer, prefix.len);
            root =
                self.painter.paint(&mut self.store, family, root, prefix.bits, prefix.len, slot)?;
        }
        (state.root.entry, state.is_trie, state.stale) = (root, true, false);
        Ok(())
    }

    fn make_small(&mut self, table: u32, family: Family) {
        let state =
            &mut self.tables.get_mut(&table).expect("a table with routes")[index_of(family)];
        paint::clear(&mut self.store, family, state.root.entry);
        (state.root.entry, state.is_trie, state.stale) = (TableRoot::EMPTY.entry, false, true);
    }

    /// What is left to be done before a commit.
    fn finish(&mut self) -> Result<(), Full> {
        self.finish_tables()?;
        self.answers.finish(&mut self.store, &mut self.short)
    }

    /// Builds the small tables that changed, and the tree of tables.
    fn finish_tables(&mut self) -> Result<(), Full> {
        for table in core::mem::take(&mut self.changed_tables) {
            let Some(mut states) = self.tables.get(&table).copied() else { continue };
            states[0].changed = false;
            for family in [Family::V4, Family::V6] {
                let state = &mut states[index_of(family)];
                if !state.stale {
                    continue;
                }
                if state.root.entry & tag::LEAF == 0 {
                    self.store.retire(state.root.entry & tag::OFFSET);
                }
                let painted = self.painted(table, family);
                state.root.entry = small::build(&mut self.store, family, &painted)?;
                state.stale = false;
            }
            if states.iter().all(|state| state.routes == 0) {
                self.tables.remove(&table);
                self.table_tree.remove(&mut self.store, &[u64::from(table)])?;
                continue;
            }
            self.tables.insert(table, states);
            let value = [
                states[0].root.pack(),
                states[1].root.pack(),
                states[0].routes & 0xffff_ffff | states[1].routes << 32,
            ];
            self.table_tree.insert(&mut self.store, &[u64::from(table)], &value)?;
        }
        Ok(())
    }

    fn flush_routes(&mut self) -> Result<(), Full> {
        for (attrs, family) in [(self.attrs4.at, Family::V4), (self.attrs6.at, Family::V6)] {
            let mut blocks = Vec::new();
            let mut take = |block: u64| blocks.push(block as u32);
            match family {
                Family::V4 => Tree::<2, 1>::new(attrs).scan(
                    self.store.mem(),
                    &[0; 2],
                    usize::MAX,
                    |_, [block]| {
                        take(block);
                        true
                    },
                ),
                Family::V6 => Tree::<4, 1>::new(attrs).scan(
                    self.store.mem(),
                    &[0; 4],
                    usize::MAX,
                    |_, [block]| {
                        take(block);
                        true
                    },
                ),
            }
            for block in blocks {
                self.store.retire(block);
            }
        }
        self.routes4.clear(&mut self.store);
        self.routes6.clear(&mut self.store);
        self.attrs4.clear(&mut self.store);
        self.attrs6.clear(&mut self.store);
        self.table_tree.clear(&mut self.store);
        if let Some(wide) = self.wide.take() {
            paint::clear_wide(&mut self.store, wide);
            let main = self.tables.get_mut(&TABLE_MAIN).expect("a table with routes");
            (main[0].root.entry, main[0].is_trie) = (TableRoot::EMPTY.entry, false);
        }
        self.short.clear();
        for (_, states) in self.tables.drain() {
            for (state, family) in states.iter().zip([Family::V4, Family::V6]) {
                if state.is_trie {
                    paint::clear(&mut self.store, family, state.root.entry);
                } else if state.root.entry & tag::LEAF == 0 {
                    self.store.retire(state.root.entry & tag::OFFSET);
                }
            }
        }
        self.changed_tables.clear();
        self.answers.clear(&mut self.store)
    }

    fn set_neighbour(&mut self, neighbour: &Neighbour) -> Result<(), Full> {
        let mut bytes = Vec::with_capacity(40);
        rtm_model::canonical::encode_neighbour(neighbour, &mut bytes);
        let words: [u64; 5] = core::array::from_fn(|word| {
            u64::from_le_bytes(bytes[word * 8..word * 8 + 8].try_into().expect("eight"))
        });
        let key = [words[0], words[1], words[2]];
        let value = [words[3], words[4]];
        let before =
            self.neighbours.insert(&mut self.store, &keys::neighbour_order(key), &value)?;
        if neighbour.key.ip.is_ipv4() {
            self.hash4.insert(&mut self.store, entry4(key, value[0]))?;
        } else {
            self.hash6.insert(&mut self.store, entry6(key, value[0]))?;
        }
        let had = before.and_then(|value| keys::mac_of(value[0]));
        let has = keys::mac_of(value[0]);
        if had != has {
            self.forget_mac(had, key)?;
        }
        if let Some(mac) = has {
            let order = keys::mac_order(mac, key);
            if had != has && !self.has_mac(mac) {
                self.mac_keys += 1;
            }
            self.macs.insert(&mut self.store, &order, &value)?;
        }
        Ok(())
    }

    fn delete_neighbour(&mut self, key: [u64; 3]) -> Result<(), Full> {
        let before = self.neighbours.remove(&mut self.store, &keys::neighbour_order(key))?;
        let Some(value) = before else { return Ok(()) };
        if key[2] >> 32 == 4 {
            self.hash4.remove(&mut self.store, &entry4(key, 0))?;
        } else {
            self.hash6.remove(&mut self.store, &entry6(key, 0))?;
        }
        self.forget_mac(keys::mac_of(value[0]), key)
    }

    fn forget_mac(&mut self, mac: Option<rtm_model::Mac>, key: [u64; 3]) -> Result<(), Full> {
        let Some(mac) = mac else { return Ok(()) };
        self.macs.remove(&mut self.store, &keys::mac_order(mac, key))?;
        if !self.has_mac(mac) {
            self.mac_keys -= 1;
        }
        Ok(())
    }

    fn has_mac(&self, mac: rtm_model::Mac) -> bool {
        let mut has = false;
        let first = [keys::mac_word(mac) << 16, 0, 0, 0];
        self.macs.scan(self.store.mem(), &first, usize::MAX, |key, _| {
            has = key[0] >> 16 == first[0] >> 16;
            false
        });
        has
    }
}

/// What a change of a route means for lookups: the value of the route that
/// they found for the prefix before and after.
struct RouteChange {
    before: Option<u64>,
    after: Option<u64>,
    /// Routes more or less.
    routes: i64,
}

fn change_route<M: Memory, const K: usize>(
    store: &mut Store<M>,
    routes: &mut Tree<K, 1>,
    attrs: &mut Tree<K, 1>,
    key: &[u64; K],
    set: Option<(u64, &[u8])>,
) -> Result<RouteChange, Full>
where
    [u64; K]: RouteWords,
{
    let (old, alone) = match set {
        Some((value, bytes)) => {
            let flag = if bytes.is_empty() { 0 } else { HAS_ATTRS };
            let (table, bits, len) = (key.table(), key.bits(), key.prefix_len());
            let first = <[u64; K]>::first_of(table, bits, len);
            let last = <[u64; K]>::last_of(table, bits, len);
            let placed = routes.insert_beside(store, key, &[value | flag], [&first, &last])?;
            (placed.before, placed.alone)
        }
        None => (routes.remove(store, key)?, false),
    };
    let old = old.map(|[old]| old);
    if old.is_some_and(|old| old & HAS_ATTRS != 0) {
        if let Some([block]) = attrs.remove(store, key)? {
            store.retire(block as u32);
        }
    }
    if let Some((_, bytes)) = set.filter(|(_, bytes)| !bytes.is_empty()) {
        let block = store.allocate(bytes.len().div_ceil(8))?;
        for (index, word) in bytes.chunks(8).enumerate() {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            store.put(word_of(block) + index, u64::from_le_bytes(padded));
        }
        attrs.insert(store, key, &[u64::from(block) | (bytes.len() as u64) << 32])?;
    }
    let routes_more = i64::from(set.is_some()) - i64::from(old.is_some());
    // What lookups find is the best of this route and of the others of its prefix.
    let others = if alone { None } else { best_other(store, routes, key) };
    let with = |value: Option<u64>| {
        let own = value.filter(|_| key.tos() == 0).map(|value| (value >> 56, *key, value));
        let best = match (own, others) {
            (Some(own), Some(other)) => Some(if own < other { own } else { other }),
            (own, other) => own.or(other),
        };
        best.map(|(_, _, value)| value)
    };
    Ok(RouteChange {
        before: with(old),
        after: with(set.map(|(value, _)| value)),
        routes: routes_more,
    })
}

/// The best of the other routes to this key's prefix with tos 0: distance, key
/// and value.
fn best_other<M: Memory, const K: usize>(
    store: &Store<M>,
    tree: &Tree<K, 1>,
    key: &[u64; K],
) -> Option<(u64, [u64; K], u64)>
where
    [u64; K]: RouteWords,
{
    let mut best: Option<(u64, [u64; K], u64)> = None;
    let first = <[u64; K]>::first_of(key.table(), key.bits(), key.prefix_len());
    tree.scan(store.mem(), &first, usize::MAX, |found, [value]| {
        let same = found.is_kin(key) && found.tos() == 0;
        if same && found != *key && best.is_none_or(|best| value >> 56 < best.0) {
            best = Some((value >> 56, found, value));
        }
        same
    });
    best
}

/// The longest prefix around (`bits`, `len`) that lookups find, the default
/// left out: the value of its best route, and its length.
///
/// In the order of the tree a prefix comes before all that it contains. So the
/// last prefix before ours either contains it, or what contains ours contains
/// that one as well and is no longer than what both have in common.
fn covering<M: Memory, const K: usize>(
    store: &Store<M>,
    routes: &Tree<K, 1>,
    table: u32,
    bits: u128,
    len: u8,
) -> Option<(u64, u8)>
where
    [u64; K]: RouteWords,
{
    let mut bound = <[u64; K]>::first_of(table, bits, len);
    let mut or_equal = false;
    loop {
        let (found, _) = routes.before(store.mem(), &bound, or_equal)?;
        if found.table() != table {
            return None;
        }
        let common = (found.bits() ^ bits).leading_zeros().min(u32::from(len) - 1) as u8;
        if found.prefix_len() == 0 || common == 0 {
            return None;
        }
        if found.prefix_len() <= common {
            let first = <[u64; K]>::first_of(table, found.bits(), found.prefix_len());
            if let Some(value) = best(store, routes, &first) {
                return Some((value, found.prefix_len()));
            }
            (bound, or_equal) = (first, false);
        } else {
            (bound, or_equal) =
                (<[u64; K]>::last_of(table, bits & rtm_model::mask(common), common), true);
        }
    }
}

fn painted<M: Memory, const K: usize>(
    store: &Store<M>,
    routes: &Tree<K, 1>,
    answers: &Answers,
    table: u32,
) -> Vec<small::Painted>
where
    [u64; K]: RouteWords,
{
    let mut painted: Vec<(small::Painted, u64)> = Vec::new();
    let first = <[u64; K]>::first_of(table, 0, 0);
    routes.scan(store.mem(), &first, usize::MAX, |key, [value]| {
        if key.table() != table {
            return false;
        }
        if key.tos() != 0 || key.prefix_len() == 0 {
            return true;
        }
        let answer = answers.number(answer_of(value));
        let prefix = small::Painted { bits: key.bits(), len: key.prefix_len(), answer };
        match painted.last_mut() {
            Some((last, best)) if (last.bits, last.len) == (prefix.bits, prefix.len) => {
                if value >> 56 < *best >> 56 {
                    (*last, *best) = (prefix, value);
                }
            }
            _ => painted.push((prefix, value)),
        }
        true
    });
    painted.into_iter().map(|(prefix, _)| prefix).collect()
}
