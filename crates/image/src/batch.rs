//! Looking ahead: what the next changes of routes will need from memory, asked
//! for together.
//!
//! A change of a random route of a large table touches some forty cache lines
//! that no cache has: a leaf of the tree of routes, which is copied, a node of
//! the lookup structure, the lengths noted beside it. One after the other they
//! are most of what the change costs. So changes that come as canonical bytes
//! wait here until there are some, then the way of all of them is gone in step,
//! changing nothing, and then they are made in their order.
//!
//! A change may make wrong what was found for the next one. So it is used as a
//! hint alone: of the tree, whose nodes tell when they are given up.
use rtm_model::{Family, Prefix, RouteType};

use crate::keys::RouteWords;
use crate::lpm::Wide;
use crate::lpm::ahead::{self, Way};
use crate::store::{Memory, Store};
use crate::tree::{Hint, Tree};

/// Changes that wait together: enough to keep the processor's reads busy, few
/// enough for their leaves (1 KiB each) to stay in the first-level cache.
pub(crate) const BATCH: usize = 32;
/// So few are not worth it.
const BATCH_WORTH: usize = 4;

/// A route is this now, or is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Queued {
    Route4([u64; 2], Option<u64>),
    Route6([u64; 4], Option<u64>),
}

impl Queued {
    /// From canonical bytes of a route without attributes (`set`) or of a
    /// route's key. `None`: it isn't one, or not a valid one.
    pub(crate) fn of(family: Family, set: bool, bytes: &[u8]) -> Option<Queued> {
        let key_bytes = if family == Family::V4 { 16 } else { 32 };
        if bytes.len() != key_bytes + if set { 8 } else { 0 } {
            return None;
        }
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
        let value = match set {
            false => None,
            true => {
                let bytes = bytes[key_bytes..].try_into().expect("eight");
                RouteType::from_number(bytes_kind(bytes))?;
                Some(u64::from_le_bytes(bytes))
            }
        };
        let tail = &bytes[key_bytes - if family == Family::V4 { 4 } else { 8 }..];
        let bits = match family {
            Family::V4 => {
                let address: [u8; 4] = bytes[8..12].try_into().expect("four");
                u128::from(u32::from_be_bytes(address)) << 96
            }
            Family::V6 if tail[4..] != [0; 4] => return None,
            Family::V6 => u128::from_be_bytes(bytes[8..24].try_into().expect("sixteen")),
        };
        let prefix = Prefix::from_bits(family, bits, tail[0])?;
        let key = rtm_model::RouteKey {
            table: u32_at(0),
            prefix,
            tos: tail[1],
            metric: u32_at(4),
            ordinal: u16::from_le_bytes([tail[2], tail[3]]),
        };
        Some(match family {
            Family::V4 => Queued::Route4(RouteWords::of(&key), value),
            Family::V6 => Queued::Route6(RouteWords::of(&key), value),
        })
    }

    /// The upper bits: what is close in them is close in memory.
    fn place(&self) -> u64 {
        match self {
            Queued::Route4(key, _) => key[0],
            Queued::Route6(key, _) => key[0],
        }
    }
}

fn bytes_kind(value: [u8; 8]) -> u8 {
    value[4]
}

/// The changes that wait, and room for what is found.
#[derive(Default, Debug)]
pub(crate) struct Batch {
    pub(crate) queued: Vec<Queued>,
    keys4: Vec<[u64; 2]>,
    keys6: Vec<[u64; 4]>,
    /// Where their entries are, as far as that was looked up; the next one of each.
    found4: Vec<Hint>,
    found6: Vec<Hint>,
    next: [usize; 2],
    ways: Vec<Way>,
}

impl Batch {
    /// Asks for what the waiting changes will need. `root` says what lookups in
    /// a table begin with.
    pub(crate) fn look_ahead<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        routes4: &Tree<2, 1>,
        routes6: &Tree<4, 1>,
        wide: Option<&Wide>,
        root: impl Fn(u32, Family) -> u32,
    ) {
        self.found4.clear();
        self.found6.clear();
        self.next = [0; 2];
        store.remember();
        if self.queued.len() < BATCH_WORTH || self.is_in_order() {
            return;
        }
        let store = &*store;
        self.keys4.clear();
        self.keys6.clear();
        for queued in &self.queued {
            match queued {
                Queued::Route4(key, _) => self.keys4.push(*key),
                Queued::Route6(key, _) => self.keys6.push(*key),
            }
        }
        routes4.look_ahead(store.mem(), &self.keys4, &mut self.found4);
        routes6.look_ahead(store.mem(), &self.keys6, &mut self.found6);
        fn ways<K: RouteWords>(keys: &[K], root: &impl Fn(u32, Family) -> u32) -> Vec<Way> {
            let way = |key: &K| Way {
                entry: root(key.table(), K::FAMILY),
                bits: key.bits(),
                len: key.prefix_len(),
            };
            keys.iter().map(way).collect()
        }
        self.ways = ways(&self.keys4, &root);
        ahead::touch(store, Family::V4, wide, &mut self.ways);
        self.ways = ways(&self.keys6, &root);
        ahead::touch(store, Family::V6, None, &mut self.ways);
    }

    /// Where the entry of the next change of this family was seen.
    pub(crate) fn found(&mut self, family: Family) -> Option<Hint> {
        let (found, next) = match family {
            Family::V4 => (&self.found4, &mut self.next[0]),
            Family::V6 => (&self.found6, &mut self.next[1]),
        };
        *next += 1;
        found.get(*next - 1).copied()
    }

    /// Is most of what follows another change close to it? Then its way is in
    /// the cache already.
    fn is_in_order(&self) -> bool {
        let near = |pair: &&[Queued]| (pair[0].place() ^ pair[1].place()) < 1 << 16;
        self.queued.windows(2).filter(near).count() * 2 >= self.queued.len()
    }
}
