//! Where everything is. Drawn in `docs/design/image.md`.
//!
//! The object is an array of 64-bit words in the machine's byte order (a local
//! object never leaves the machine). Blocks are referred to by their offset in
//! units of 16 bytes; what refers to a node of a lookup structure has its kind
//! in the top bits ([`tag`]).

/// `rtmimage`, read as bytes.
pub const MAGIC: u64 = u64::from_ne_bytes(*b"rtmimage");
/// Changes whenever anything in this file changes its meaning.
pub const LAYOUT_VERSION: u64 = 5;

/// Words in a unit: what block offsets count in.
pub const UNIT_WORDS: usize = 2;
/// Bytes in a unit.
pub const UNIT_BYTES: usize = UNIT_WORDS * 8;
/// The largest object: what 31 bits of offset in bytes reach ([`wide`]).
pub const OBJECT_BYTES_LIMIT: u64 = 1 << 31;

// The header, in words. Lines 0 and 1 never change after creation.

/// [`MAGIC`].
pub const AT_MAGIC: usize = 0;
/// [`LAYOUT_VERSION`], and in the upper half the bytes of the header.
pub const AT_LAYOUT: usize = 1;
/// The object's size in bytes.
pub const AT_BYTES: usize = 2;
/// The object's random id.
pub const AT_ID: usize = 3;
/// Where the ring begins (word), and in the upper half how many words it has.
pub const AT_RING: usize = 4;
/// Where the heap begins (word).
pub const AT_HEAP: usize = 5;
/// Where the slots begin (word), and in the upper half the words of one.
pub const AT_SLOTS: usize = 6;
/// The writer's process id, as it sees it.
pub const AT_PID: usize = 7;
/// Two words: the key of the neighbours' hash.
pub const AT_HASH_KEY: usize = 8;
/// Two words: the key of this epoch's digests.
pub const AT_DIGEST_KEY: usize = 10;

/// The visible version, alone in its cache line: lookups load nothing else of
/// the header.
pub const CURRENT: usize = 16;

/// What became of the writer: [`STATE_LIVE`], [`STATE_MOVED`], [`STATE_CLOSED`].
pub const AT_STATE: usize = 24;
/// The id of the successor, once the state is moved.
pub const AT_SUCCESSOR: usize = 25;
/// The writer is at work, unless it was killed (see `Reader::writer`).
pub const STATE_LIVE: u64 = 0;
/// The tables live in a successor, twice as large.
pub const STATE_MOVED: u64 = 1;
/// The writer stopped in order.
pub const STATE_CLOSED: u64 = 2;

/// The position up to which the ring was announced to be written.
pub const RING_RESERVED: usize = 32;
/// The position behind the ring's last readable word.
pub const RING_END: usize = 33;
/// The futex: 32 bits that count turns, in the first half of this word.
pub const AT_WAKE: usize = 40;

/// The first slot.
pub const SLOTS_AT: usize = 64;
/// Words of a slot.
pub const SLOT_WORDS: usize = 64;
/// How many slots: one more than may be in use at a time, and a power of two.
pub const SLOTS: usize = 4;
/// Words of the header; the ring follows.
pub const HEADER_WORDS: usize = 512;

/// References to nodes: 28 bits of offset, 3 of kind, and one that says that
/// it is no reference but a leaf with 31 bits of value.
pub mod tag {
    /// A leaf: the rest is the number of an answer.
    pub const LEAF: u32 = 1 << 31;
    /// Bits of the offset.
    pub const OFFSET: u32 = (1 << 28) - 1;
    /// Bits of the kind.
    pub const KIND: u32 = 7 << 28;
    /// One entry per slot, 32 bits each.
    pub const DENSE: u32 = 0;
    /// Six bits of the address: a bitmap of where runs of equal entries end,
    /// 16 bits per run.
    pub const SIX: u32 = 1 << 28;
    /// The first 18 bits of an IPv4 address at once ([`super::wide`]).
    pub const WIDE: u32 = 2 << 28;
    /// Eight bits: where each quarter's runs begin, four bitmaps, 32 bits per run.
    pub const OCTET: u32 = 3 << 28;
    /// A small table: sorted intervals.
    pub const SMALL: u32 = 5 << 28;
}

/// Numbers of answers that mean "no prefix of the trie", and what applies then.
pub mod none {
    use rtm_model::Family;

    /// Table main's prefixes shorter than this are not in its tries.
    pub const SHORT_BITS: u8 = 8;
    /// In other tables and in small ones: the default route, which stands beside
    /// the table's root.
    pub const DEFAULT: u32 = 512;
    /// The first number that is a route's.
    pub const FIRST: u32 = DEFAULT + 1;

    /// In a trie of table main: the longest of the short prefixes around this part of the
    /// addresses, one of 256. The answer with this number is a copy of its answer.
    #[inline(always)]
    #[must_use]
    pub const fn of(family: Family, part: u8) -> u32 {
        part as u32 + if matches!(family, Family::V4) { 0 } else { 256 }
    }
}

/// Entries of a wide root, one for each value of an IPv4 address's first
/// [`wide::BITS`] bits: where a node of six bits is.
///
/// Made for lookups: the offset is in bytes, and what has one answer is a node, too, of
/// one run ([`wide::ONE_RUN`]), so nothing is to be asked.
pub mod wide {
    use super::{UNIT_BYTES, tag};

    /// Bits of the address.
    pub const BITS: u32 = 18;
    /// Entries.
    pub const SIZE: usize = 1 << BITS;
    /// Words of a root.
    pub const WORDS: usize = SIZE / 2;
    /// The bitmap of a node that stands for a leaf.
    pub const ONE_RUN: u64 = 1 << 63;

    /// The entry for a reference to a node of six bits.
    #[inline(always)]
    #[must_use]
    pub const fn pack(reference: u32) -> u32 {
        (reference & tag::OFFSET) * UNIT_BYTES as u32
    }

    /// The reference of an entry.
    #[inline(always)]
    #[must_use]
    pub const fn unpack(entry: u32) -> u32 {
        (entry / UNIT_BYTES as u32) & tag::OFFSET | tag::SIX
    }
}

/// The first word of the block that a reference names.
#[inline(always)]
#[must_use]
pub const fn word_of(reference: u32) -> usize {
    (reference & tag::OFFSET) as usize * UNIT_WORDS
}

/// A tree: its root block (0: empty), height and number of entries.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TreeRoot {
    /// The root node.
    pub root: u32,
    /// Levels; 0: empty, 1: the root is a leaf.
    pub height: u32,
    /// Entries.
    pub len: u64,
}

/// A table's lookup structure of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableRoot {
    /// Reference or leaf.
    pub entry: u32,
    /// The number of the default route's answer; 0: there is none.
    pub default: u32,
}

impl TableRoot {
    /// Nothing in it.
    pub const EMPTY: TableRoot = TableRoot { entry: tag::LEAF | none::DEFAULT, default: 0 };

    /// As one word.
    #[inline(always)]
    #[must_use]
    pub fn pack(self) -> u64 {
        u64::from(self.entry) | u64::from(self.default) << 32
    }

    /// From one word.
    #[inline(always)]
    #[must_use]
    pub fn unpack(word: u64) -> TableRoot {
        TableRoot { entry: word as u32, default: (word >> 32) as u32 }
    }
}

/// The root of a version: what a slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root {
    /// The version. (In the object its slot says so.)
    pub version: u64,
    /// The history's id.
    pub epoch: u64,
    /// The revision that this version shows.
    pub revision: u64,
    /// The four digests, low halves first.
    pub digests: [u64; 8],
    /// Table main, IPv4 and IPv6.
    pub main: [TableRoot; 2],
    /// All tables: id → (IPv4, IPv6, numbers of routes).
    pub tables: TreeRoot,
    /// IPv4 routes by key.
    pub routes4: TreeRoot,
    /// IPv6 routes by key.
    pub routes6: TreeRoot,
    /// Attributes of the IPv4 routes that have some.
    pub attrs4: TreeRoot,
    /// Attributes of the IPv6 routes that have some.
    pub attrs6: TreeRoot,
    /// Groups by id.
    pub groups: TreeRoot,
    /// Links by id.
    pub links: TreeRoot,
    /// Neighbours by address and link, in order.
    pub neighbours: TreeRoot,
    /// Neighbours by MAC address.
    pub macs: TreeRoot,
    /// The tops of the two arrays of answers: what they are, and where their
    /// groups' next hops stand.
    pub answers: [u32; 2],
    /// The neighbours' hashes, IPv4 and IPv6: the top of the pages, and how many there are.
    pub hashes: [[u32; 2]; 2],
    /// How many different MAC addresses have a neighbour.
    pub mac_keys: u64,
    /// Units of the heap in use when this version was published.
    pub used_units: u64,
}

impl Root {
    /// Nothing in it.
    pub const EMPTY: Root = {
        const TREE: TreeRoot = TreeRoot { root: 0, height: 0, len: 0 };
        Root {
            version: 0,
            epoch: 0,
            revision: 0,
            digests: [0; 8],
            main: [TableRoot::EMPTY; 2],
            tables: TREE,
            routes4: TREE,
            routes6: TREE,
            attrs4: TREE,
            attrs6: TREE,
            groups: TREE,
            links: TREE,
            neighbours: TREE,
            macs: TREE,
            answers: [0; 2],
            hashes: [[0; 2]; 2],
            mac_keys: 0,
            used_units: 0,
        }
    };

    /// Where the trees begin in a slot; before them: the two words of table
    /// main, the answers, the hash (what lookups need: one cache line).
    const TREES_AT: usize = 16;
    /// Where the hashes stand.
    const HASHES_AT: [usize; 2] = [3, Self::TREES_AT + 2 * 9];

    fn trees(&self) -> [&TreeRoot; 9] {
        [
            &self.tables,
            &self.routes4,
            &self.routes6,
            &self.attrs4,
            &self.attrs6,
            &self.groups,
            &self.links,
            &self.neighbours,
            &self.macs,
        ]
    }

    /// The slot's words.
    #[must_use]
    pub fn pack(&self) -> [u64; SLOT_WORDS] {
        let mut words = [0; SLOT_WORDS];
        words[0] = self.main[0].pack();
        words[1] = self.main[1].pack();
        words[2] = u64::from(self.answers[0]) | u64::from(self.answers[1]) << 32;
        for (at, [top, pages]) in Self::HASHES_AT.into_iter().zip(self.hashes) {
            words[at] = u64::from(top) | u64::from(pages) << 32;
        }
        words[4] = self.epoch;
        words[5] = self.revision;
        words[6] = self.mac_keys;
        words[7] = self.used_units;
        words[8..16].copy_from_slice(&self.digests);
        for (index, tree) in self.trees().into_iter().enumerate() {
            let at = Self::TREES_AT + 2 * index;
            words[at] = u64::from(tree.root) | u64::from(tree.height) << 32;
            words[at + 1] = tree.len;
        }
        words
    }

    /// From the words of a version's slot, read one by one.
    #[must_use]
    pub fn unpack(version: u64, word: impl Fn(usize) -> u64) -> Root {
        let pair = |at: usize| [word(at) as u32, (word(at) >> 32) as u32];
        let tree = |index: usize| {
            let [root, height] = pair(Self::TREES_AT + 2 * index);
            TreeRoot { root, height, len: word(Self::TREES_AT + 2 * index + 1) }
        };
        Root {
            version,
            epoch: word(4),
            revision: word(5),
            digests: core::array::from_fn(|index| word(8 + index)),
            main: [TableRoot::unpack(word(0)), TableRoot::unpack(word(1))],
            tables: tree(0),
            routes4: tree(1),
            routes6: tree(2),
            attrs4: tree(3),
            attrs6: tree(4),
            groups: tree(5),
            links: tree(6),
            neighbours: tree(7),
            macs: tree(8),
            answers: pair(2),
            hashes: Self::HASHES_AT.map(pair),
            mac_keys: word(6),
            used_units: word(7),
        }
    }
}

// What the drawing says.
const _: () = assert!(SLOTS_AT + SLOTS * SLOT_WORDS <= HEADER_WORDS);
const _: () = assert!(Root::HASHES_AT[1] < SLOT_WORDS);
const _: () = assert!(SLOTS.is_power_of_two() && SLOTS >= 3);
const _: () = assert!(cfg!(target_endian = "little"), "canonical bytes are stored as words");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_survives_its_slot() {
        let tree = |n: u32| TreeRoot { root: n, height: n + 1, len: u64::from(n) + 2 };
        let root = Root {
            version: 23,
            epoch: 1,
            revision: 2,
            digests: [3, 4, 5, 6, 7, 8, 9, 10],
            main: [TableRoot { entry: 11, default: 12 }, TableRoot { entry: 13, default: 14 }],
            tables: tree(20),
            routes4: tree(30),
            routes6: tree(40),
            attrs4: tree(50),
            attrs6: tree(60),
            groups: tree(70),
            links: tree(80),
            neighbours: tree(90),
            macs: tree(100),
            answers: [15, 16],
            hashes: [[17, 18], [21, 22]],
            mac_keys: 19,
            used_units: 20,
        };
        let words = root.pack();
        assert_eq!(Root::unpack(23, |at| words[at]), root);
        assert_eq!(Root::unpack(0, |at| Root::EMPTY.pack()[at]), Root::EMPTY);
    }
}
