//! The reader: maps an image read-only and answers from it.
//!
//! It takes no lock, writes nothing and registers nowhere; it can be killed or
//! stopped at any instruction and nobody notices. Each call is one read of one
//! version (`protocol`): right for a revision that was visible during the call.
//!
//! Lookups keep the root of the version seen last. If that is still the
//! visible one *after* the walk, the answer is right and one load was all that
//! the check cost; if not, the walk is repeated from the new root.
mod lookup;
mod neighbours;

use core::cell::Cell;
use core::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipc::SystemError;
use rtm_model::{
    Attrs, Digest, Digests, Family, Group, GroupId, Link, LinkId, LinkName, NextHop, Route,
    RouteKey, TABLE_MAIN,
};

pub use self::lookup::Lookups4;
use self::lookup::{Seen, number_of};
use crate::answers::{Answer, answer_at, group_in, hop_in};
use crate::instructions::{Popcnt, Portable};
use crate::keys::{self, HAS_ATTRS, RouteWords};
use crate::layout::{
    self, AT_BYTES, AT_DIGEST_KEY, AT_HASH_KEY, AT_ID, AT_LAYOUT, AT_MAGIC, AT_PID, AT_RING,
    AT_STATE, AT_SUCCESSOR, CURRENT, HEADER_WORDS, Root, SLOT_WORDS, SLOTS_AT, TableRoot, TreeRoot,
    word_of,
};
use crate::lpm::walk::{walk4, walk6};
use crate::object;
use crate::protocol::{self, Busy, Real, observe, slot_of};
use crate::ring::RingReader;
use crate::tree::Tree;
use crate::words::{ReadWords, Words};

/// Why a descriptor is no image.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AttachError {
    /// It can't be mapped.
    Map(ipc::map::Error),
    /// Something about the descriptor.
    System(SystemError),
    /// It doesn't begin as an image does.
    NotAnImage {
        /// What is wrong.
        why: &'static str,
    },
    /// Made by a newer or older `rtmd`.
    Layout {
        /// The version that it has.
        found: u64,
        /// The version that this library reads.
        known: u64,
    },
    /// Its file could be shortened under us: it lacks the seal.
    NotSealed,
}

impl core::fmt::Display for AttachError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            AttachError::Map(error) => error.fmt(f),
            AttachError::System(error) => error.fmt(f),
            AttachError::NotAnImage { why } => write!(f, "not an image: {why}"),
            AttachError::Layout { found, known } => {
                write!(f, "an image of layout {found}; this library reads layout {known}")
            }
            AttachError::NotSealed => {
                f.write_str("the image isn't sealed against being shortened; one from rtmd is")
            }
        }
    }
}

impl std::error::Error for AttachError {}

/// What became of the writer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriterState {
    /// At work.
    Live,
    /// The tables live on in the object with this id: ask the daemon for it.
    Moved {
        /// The successor's id.
        successor: u64,
    },
    /// Stopped in order.
    Closed,
    /// Gone without a word: killed, or crashed.
    Gone,
}

/// The state that a version shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// The history.
    pub epoch: u64,
    /// The revision.
    pub revision: u64,
    /// Its digests.
    pub digests: Digests,
    /// How many versions were published; grows by one with each.
    pub version: u64,
    /// IPv4 and IPv6 routes.
    pub routes: [u64; 2],
    /// Neighbours.
    pub neighbours: u64,
    /// Different MAC addresses among them.
    pub mac_keys: u64,
    /// Next-hop groups.
    pub groups: u64,
    /// Links.
    pub links: u64,
    /// Routing tables.
    pub tables: u64,
    /// Bytes of the heap in use.
    pub used_bytes: u64,
}

/// The object, as its header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The object's random id.
    pub id: u64,
    /// The layout's version.
    pub layout: u64,
    /// Its size.
    pub bytes: u64,
    /// Bytes of the ring.
    pub ring_bytes: u64,
    /// The writer's process id, as it sees itself.
    pub pid: u64,
    /// The key of the epoch's digests.
    pub digest_key: [u64; 2],
}

/// An attached image. Cheap to clone: one for each thread.
#[derive(Clone, Debug)]
pub struct Reader {
    words: ReadWords,
    fd: std::sync::Arc<OwnedFd>,
    secret: [u64; 2],
    seen: Cell<Seen>,
    repeats: Cell<u64>,
    busy: Cell<u64>,
    popcnt: Option<Popcnt>,
}

impl Reader {
    /// Maps the image behind a descriptor that the daemon sent. The work does
    /// not depend on the tables' size.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn attach(fd: OwnedFd) -> Result<Reader, AttachError> {
        let stat = rustix::fs::fstat(&fd)
            .map_err(|errno| AttachError::System(SystemError::new("fstat", "image", errno)))?;
        let bytes = stat.st_size as u64;
        if bytes < HEADER_WORDS as u64 * 8 || bytes > layout::OBJECT_BYTES_LIMIT {
            return Err(AttachError::NotAnImage { why: "its size" });
        }
        // A published name (shm_open) has no seals: EINVAL, or just SEAL; there
        // the daemon promises not to shorten it.
        if let Ok(seals) = ipc::memfd::seals(&fd) {
            let is_memfd = !seals.is_empty() && seals != ipc::memfd::Seals::SEAL;
            if is_memfd && !seals.contains(ipc::memfd::Seals::SHRINK) {
                return Err(AttachError::NotSealed);
            }
        }
        if !bytes.is_power_of_two() {
            return Err(AttachError::NotAnImage { why: "its size is no power of two" });
        }
        let words = ReadWords::of(&fd, bytes as usize).map_err(AttachError::Map)?;
        if words.get(AT_MAGIC) != layout::MAGIC {
            return Err(AttachError::NotAnImage { why: "its first eight bytes" });
        }
        let version = words.get(AT_LAYOUT) & 0xffff_ffff;
        if version != layout::LAYOUT_VERSION {
            return Err(AttachError::Layout { found: version, known: layout::LAYOUT_VERSION });
        }
        let [ring_at, ring_words] = halves(words.get(AT_RING));
        let ring_fits = ring_words.is_power_of_two()
            && u64::from(ring_at) + u64::from(ring_words) <= words.len() as u64;
        if words.get(AT_BYTES) != bytes || !ring_fits {
            return Err(AttachError::NotAnImage { why: "its header contradicts its size" });
        }
        if observe::<Real>(&words) == 0 {
            return Err(AttachError::NotAnImage { why: "nothing was ever published in it" });
        }
        let secret = [words.get(AT_HASH_KEY), words.get(AT_HASH_KEY + 1)];
        Ok(Reader {
            words,
            fd: fd.into(),
            secret,
            seen: Cell::new(Seen::NOTHING),
            repeats: Cell::new(0),
            busy: Cell::new(0),
            popcnt: Popcnt::detect(),
        })
    }

    /// The descriptor, to be passed on to another process.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What the header says.
    #[must_use]
    pub fn header(&self) -> Header {
        let word = |at| self.words.get(at);
        Header {
            id: word(AT_ID),
            layout: word(AT_LAYOUT) & 0xffff_ffff,
            bytes: word(AT_BYTES),
            ring_bytes: (word(AT_RING) >> 32) * 8,
            pid: word(AT_PID),
            digest_key: [word(AT_DIGEST_KEY), word(AT_DIGEST_KEY + 1)],
        }
    }

    /// What became of the writer. Costs a system call; lookups don't need it.
    ///
    /// # Errors
    /// None for a descriptor that the daemon sent.
    pub fn writer(&self) -> Result<WriterState, SystemError> {
        match self.words.load(AT_STATE, core::sync::atomic::Ordering::Acquire) {
            layout::STATE_MOVED => {
                Ok(WriterState::Moved { successor: self.words.get(AT_SUCCESSOR) })
            }
            layout::STATE_CLOSED => Ok(WriterState::Closed),
            _ if object::is_locked(&*self.fd)? => Ok(WriterState::Live),
            _ => Ok(WriterState::Gone),
        }
    }

    /// Did the tables move on to a successor? One load, to be looked at now and
    /// then by who never asks [`Self::writer`]; the old object keeps answering,
    /// with its last revision.
    #[must_use]
    pub fn writer_moved(&self) -> bool {
        self.words.get(AT_STATE) == layout::STATE_MOVED
    }

    /// How often a read had to be thrown away and repeated.
    #[must_use]
    pub fn repeats(&self) -> u64 {
        self.repeats.get()
    }

    /// How often a call ended as busy.
    #[must_use]
    pub fn busy(&self) -> u64 {
        self.busy.get()
    }

    /// How many versions were published: one load. It changes exactly when
    /// something becomes visible.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.words.load(CURRENT, core::sync::atomic::Ordering::Acquire)
    }

    /// What is visible now.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn state(&self) -> Result<State, Busy> {
        self.read(|_, version, root| {
            let half = |index: usize| u128::from(root.digests[index]);
            let digest = |section: usize| Digest(half(2 * section) | half(2 * section + 1) << 64);
            State {
                epoch: root.epoch,
                revision: root.revision,
                digests: Digests {
                    routes: digest(0),
                    neighbours: digest(1),
                    keys: digest(2),
                    links: digest(3),
                },
                version,
                routes: [root.routes4.len, root.routes6.len],
                neighbours: root.neighbours.len,
                mac_keys: root.mac_keys,
                groups: root.groups.len,
                links: root.links.len,
                tables: root.tables.len,
                used_bytes: root.used_units.wrapping_mul(layout::UNIT_BYTES as u64),
            }
        })
    }

    /// A place in the ring of records, behind what was written so far.
    #[must_use]
    pub fn ring(&self) -> RingReader {
        let [at, count] = halves(self.words.get(AT_RING));
        RingReader::new(self.words.clone(), at as usize, count as usize)
    }

    /// A place in the ring that a reader of this object, or of the one that it
    /// succeeds, had reached ([`RingReader::position`]): a grown image goes on
    /// where the smaller one ended.
    #[must_use]
    pub fn ring_at(&self, position: u64) -> RingReader {
        let mut ring = self.ring();
        ring.set_position(position);
        ring
    }

    /// Runs `body` on the visible root until it ran on a whole one.
    fn read<T>(&self, mut body: impl FnMut(&ReadWords, u64, &Root) -> T) -> Result<T, Busy> {
        let mut repeats = 0;
        let result = protocol::read::<Real, _, _>(&self.words, &mut repeats, |words, version| {
            let slot = SLOTS_AT + slot_of(version) * SLOT_WORDS;
            body(words, version, &Root::unpack(version, |word| words.get(slot + word)))
        });
        self.repeats.set(self.repeats.get() + repeats);
        if result.is_err() {
            self.busy.set(self.busy.get() + 1);
        }
        result
    }
}

fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

/// Lookups in any table, and what stands behind an answer.
impl Reader {
    /// The table's root of the address's family in a version.
    fn table_root(words: &ReadWords, root: &Root, table: u32, address: IpAddr) -> TableRoot {
        let index = usize::from(address.is_ipv6());
        if table == TABLE_MAIN {
            return root.main[index];
        }
        let found = root.tree::<1, 3>(root.tables).find(words, &[u64::from(table)]);
        found.map_or(TableRoot::EMPTY, |value| TableRoot::unpack(value[index]))
    }

    /// Both words of the answer for an address in a version.
    fn answer(words: &ReadWords, root: &Root, table: u32, address: IpAddr) -> [u64; 2] {
        let at = Reader::table_root(words, root, table, address);
        let leaf = match address {
            IpAddr::V4(address) => walk4(words, Portable, at.entry, address.into()),
            IpAddr::V6(address) => walk6(words, Portable, at.entry, address.into()),
        };
        let number = number_of(leaf, at);
        root.answers.map(|top| words.get(answer_at(number, words, top)))
    }

    /// Looks an address up in a table: the longest prefix, there tos 0 and the
    /// lowest (distance, metric, ordinal). No policy rules: `throw` is an answer.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn lookup(&self, table: u32, address: IpAddr) -> Result<Option<Answer>, Busy> {
        match address {
            IpAddr::V4(address) if table == TABLE_MAIN => self.lookup4(address),
            IpAddr::V6(address) if table == TABLE_MAIN => self.lookup6(address),
            address => self.read(|words, _, root| {
                Answer::from_word(Reader::answer(words, root, table, address)[0])
            }),
        }
    }

    /// The same, and the next hop of the flow with this hash: each next hop
    /// that isn't dead gets its share of the hashes by its weight. `None` for
    /// the next hop: the route has none, or all are dead.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn lookup_hop(
        &self,
        table: u32,
        address: IpAddr,
        flow_hash: u32,
    ) -> Result<Option<(Answer, Option<NextHop>)>, Busy> {
        self.read(|words, _, root| {
            let [answer, place] = Reader::answer(words, root, table, address);
            Some((Answer::from_word(answer)?, hop_in(words, place, flow_hash)))
        })
    }

    /// The whole route that a lookup finds.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn lookup_route(&self, table: u32, address: IpAddr) -> Result<Option<Route>, Busy> {
        let bits = rtm_model::left_aligned(address);
        self.read(|words, _, root| match Family::of(address) {
            Family::V4 => {
                longest::<2>(words, root.tree(root.routes4), root.tree(root.attrs4), table, bits)
            }
            Family::V6 => {
                longest::<4>(words, root.tree(root.routes6), root.tree(root.attrs6), table, bits)
            }
        })
    }

    /// The route with exactly this key.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn route(&self, key: &RouteKey) -> Result<Option<Route>, Busy> {
        fn exact<const K: usize>(
            words: &ReadWords,
            routes: Tree<K, 1>,
            attrs: Tree<K, 1>,
            key: &RouteKey,
        ) -> Option<Route>
        where
            [u64; K]: RouteWords,
        {
            let key = <[u64; K]>::of(key);
            let [value] = routes.find(words, &key)?;
            route_of(words, attrs, &key, value)
        }
        self.read(|words, _, root| match key.prefix.family() {
            Family::V4 => exact::<2>(words, root.tree(root.routes4), root.tree(root.attrs4), key),
            Family::V6 => exact::<4>(words, root.tree(root.routes6), root.tree(root.attrs6), key),
        })
    }

    /// A next-hop group.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn group(&self, id: GroupId) -> Result<Option<Group>, Busy> {
        self.read(|words, _, root| {
            let [packed] = root.tree::<1, 1>(root.groups).find(words, &[u64::from(id.0)])?;
            group_in(words, packed)
        })
    }

    /// A link.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn link(&self, id: LinkId) -> Result<Option<Link>, Busy> {
        self.read(|words, _, root| {
            let key = [u64::from(id.0)];
            let value = root.tree::<1, 3>(root.links).find(words, &key)?;
            link_of(key, value)
        })
    }
}

/// The most neighbours that one call gathers: it is one read of one version,
/// and must not take so long that it is never whole.
pub const GATHER_MAX: usize = 4096;

fn longest<const K: usize>(
    words: &ReadWords,
    tree: Tree<K, 1>,
    attrs: Tree<K, 1>,
    table: u32,
    bits: u128,
) -> Option<Route>
where
    [u64; K]: RouteWords,
{
    let mut len = <[u64; K]>::FAMILY.bits();
    // As `writer::covering`, but here the address's own prefix counts, too.
    for _ in 0..=<[u64; K]>::FAMILY.bits() {
        let bound = <[u64; K]>::last_of(table, bits & rtm_model::mask(len), len);
        let (found, _) = tree.before(words, &bound, true)?;
        if found.table() != table {
            return None;
        }
        let common = (found.bits() ^ bits).leading_zeros().min(u32::from(len)) as u8;
        if found.prefix_len() > common {
            len = common;
            continue;
        }
        let first = <[u64; K]>::first_of(table, found.bits(), found.prefix_len());
        let mut best: Option<([u64; K], u64)> = None;
        tree.scan(words, &first, GATHER_MAX, |key, [value]| {
            let same = key.bits() == first.bits() && key.tail() >> 48 == first.tail() >> 48;
            if same && key.table() == table && best.is_none_or(|(_, best)| value >> 56 < best >> 56)
            {
                best = Some((key, value));
            }
            same
        });
        if let Some((key, value)) = best {
            return route_of(words, attrs, &key, value);
        }
        len = found.prefix_len().checked_sub(1)?;
    }
    None
}

/// The route of a key and a value; `None` if torn memory made them.
pub(crate) fn route_of<const K: usize>(
    words: &ReadWords,
    attrs: Tree<K, 1>,
    key: &[u64; K],
    value: u64,
) -> Option<Route>
where
    [u64; K]: RouteWords,
{
    let mut bytes = Vec::new();
    if value & HAS_ATTRS != 0 {
        let [packed] = attrs.find(words, key)?;
        let [block, len] = halves(packed);
        let len = (len as usize).min(rtm_model::ATTRS_BYTES_MAX.next_multiple_of(8));
        for index in 0..len.div_ceil(8) {
            bytes.extend_from_slice(&words.get(word_of(block) + index).to_le_bytes());
        }
        bytes.truncate(len);
    }
    let attrs = Attrs::from_canonical(&bytes).ok()?;
    Some(Route { key: key.key()?, value: keys::route_value_of(value, attrs)? })
}

/// The link of a key and a value; `None` if torn memory made them.
pub(crate) fn link_of(key: [u64; 1], value: [u64; 3]) -> Option<Link> {
    let mut name = [0; LinkName::BYTES];
    name[..8].copy_from_slice(&value[1].to_le_bytes());
    name[8..].copy_from_slice(&value[2].to_le_bytes());
    let name = LinkName::from_padded(&name).ok()?;
    Some(Link { id: LinkId(key[0] as u32), name, ifindex: value[0] as u32 })
}

impl Root {
    /// One of its trees.
    pub(crate) fn tree<const K: usize, const V: usize>(&self, at: TreeRoot) -> Tree<K, V> {
        Tree::as_of(at, self.version)
    }
}

impl Reader {
    pub(crate) fn read_root<T>(
        &self,
        body: impl FnMut(&ReadWords, u64, &Root) -> T,
    ) -> Result<T, Busy> {
        self.read(body)
    }
}
