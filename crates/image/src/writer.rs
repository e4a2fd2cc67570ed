//! The writer: takes the entities of a transaction one by one, then makes
//! them visible together.
//!
//! It keeps no copy of the tables: it reads its own object. What it has beside
//! (the book of blocks, the numbers of the answers, the state of each table)
//! can be made again from the entities; a daemon that starts makes a new object.
mod neighbours;
mod room;
mod routes;

use self::routes::index_of;

use std::collections::HashMap;

use foldhash::fast::RandomState;
use rtm_model::canonical::DecodeError;
use rtm_model::{Digests, Entity, EntityKey, EntityKind, Family, TABLE_MAIN};

use crate::answers::{Answers, Short};
use crate::batch::{BATCH, Batch, Queued};
use crate::hash::Table as Hash;
use crate::heap::{Part, Usage};
use crate::keys;
use crate::layout::{
    self, AT_STATE, HEADER_WORDS, Root, SLOT_WORDS, SLOTS_AT, TableRoot, TreeRoot, tag,
};
use crate::lpm::{Painter, Wide, paint, small, wide};
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
    /// With so many IPv4 prefixes table main gets a wide root, three arrays of a
    /// megabyte by which lookups begin; it goes when a quarter of them are left. Fewer
    /// than [`Settings::WIDE_PREFIXES_MIN`] count as that. (For tests: what it
    /// saves lookups is worth its memory only in a large table.)
    pub wide_prefixes: u64,
}

impl Settings {
    /// The least of [`Self::wide_prefixes`]: a table loses its wide root before it is so
    /// small that it has no trie.
    pub const WIDE_PREFIXES_MIN: u64 = 2 * small::PREFIXES_MAX as u64;

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
            wide_prefixes: wide::PREFIXES,
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
    /// With so many prefixes it gets one.
    wide_prefixes: u64,
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
            wide_prefixes: settings.wide_prefixes.max(Settings::WIDE_PREFIXES_MIN),
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
        match entity {
            Entity::Route(route) => self.attempt(|writer| writer.set_route(route)),
            Entity::Neighbour(neighbour) => {
                self.attempt_at_once(|writer| writer.set_neighbour(neighbour))
            }
            Entity::Group(group) => self.attempt_at_once(|writer| {
                let packed = writer.answers.set_group(&mut writer.store, group)?;
                let key = [u64::from(group.id.0)];
                writer.groups.insert(&mut writer.store, &key, &[packed])?;
                Ok(())
            }),
            Entity::Link(link) => self.attempt_at_once(|writer| {
                let name = link.name.padded();
                let half =
                    |at: usize| u64::from_le_bytes(name[at..at + 8].try_into().expect("eight"));
                let value = [u64::from(link.ifindex), half(0), half(8)];
                writer.links.insert(&mut writer.store, &[u64::from(link.id.0)], &value)?;
                Ok(())
            }),
        }
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
        match key {
            EntityKey::Route(key) => self.attempt(|writer| writer.delete_route(key)),
            EntityKey::Neighbour(key) => self
                .attempt(|writer| writer.delete_neighbour(keys::neighbour_key(key.ip, key.link))),
            EntityKey::Group(id) => self.attempt_at_once(|writer| {
                if writer.groups.remove(&mut writer.store, &[u64::from(id.0)])?.is_some() {
                    writer.answers.remove_group(&mut writer.store, *id)?;
                }
                Ok(())
            }),
            EntityKey::Link(id) => self.attempt_at_once(|writer| {
                writer.links.remove(&mut writer.store, &[u64::from(id.0)])?;
                Ok(())
            }),
        }
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
            version: self.version + 1,
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

    /// This writer's image takes the place of another, whose readers learn that
    /// they are to go on here. Who followed the other one's ring finds itself
    /// lapped. To be called before anything stands in this one's ring.
    pub fn replaces(&mut self, other: Writer<M>) {
        let position = other.ring.beyond();
        self.ring.begin_at(self.store.mem(), position);
        other.store.leave_to(self.store.get(layout::AT_ID));
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

    /// Sizes.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            bytes: self.store.bytes(),
            usage: self.store.usage(),
            answers: self.answers.len() as u64,
            tables: self.tables.len() as u64,
            version: self.version,
            growing: self.store.is_copying(),
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
        self.ring_show();
        self.ring_wake();
    }

    /// Makes what was appended readable; who waits is yet to be woken.
    pub fn ring_show(&mut self) {
        self.ring.publish(self.store.mem());
    }

    /// Wakes who waits for the ring; says how many it were.
    pub fn ring_wake(&self) -> usize {
        self.store.mem().wake()
    }

    fn attempt(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<(), Full>,
    ) -> Result<(), WriteError> {
        self.settle()?;
        self.attempt_at_once(change)
    }

    /// The same before the routes that wait, of anything but a route. Routes name groups and
    /// links by their numbers, and nothing of neighbours, so what a commit shows doesn't depend
    /// on which came first; and a stream with groups in it isn't worked in a few routes at a time.
    fn attempt_at_once(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<(), Full>,
    ) -> Result<(), WriteError> {
        if let Some(full) = &self.full {
            return Err(WriteError::Full(full.clone()));
        }
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
        batch.look_ahead(&mut self.store, &self.routes4, &self.routes6, wide, |table, family| {
            let tables = self.tables.get(&table);
            tables.map_or(tag::LEAF, |tables| tables[index_of(family)].root.entry)
        });
        let mut result = Ok(());
        let mut queued = core::mem::take(&mut batch.queued);
        for queued in queued.drain(..) {
            result = match queued {
                Queued::Route4(key, value) => {
                    let hint = batch.found(Family::V4);
                    self.route4(&key, value.map(|value| (value, &[][..])), hint)
                }
                Queued::Route6(key, value) => {
                    let hint = batch.found(Family::V6);
                    self.route6(&key, value.map(|value| (value, &[][..])), hint)
                }
            };
            if let Err(full) = &result {
                self.full = Some(full.clone());
                break;
            }
        }
        batch.queued = queued;
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
