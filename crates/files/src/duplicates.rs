//! Counts the entries of a file that name a key again.
//!
//! The last one wins, as everybody would expect of lines that replace; the
//! user is told how many there were. What is kept is a 64-bit hash of each
//! key: of a million routes, a wrong count has a chance of one in thirty
//! million, and nothing but the figure would be wrong.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::net::IpAddr;

use foldhash::quality::RandomState;
use rtm_model::{Prefix, RouteSpec};

pub(crate) struct Duplicates {
    seen: HashSet<u64, BuildHasherDefault<Hashed>>,
    hasher: RandomState,
    pub(crate) count: u64,
}

impl Duplicates {
    pub(crate) fn new() -> Duplicates {
        Duplicates { seen: HashSet::default(), hasher: RandomState::default(), count: 0 }
    }

    pub(crate) fn route(&mut self, spec: &RouteSpec) {
        let key: (u32, Prefix, u8, Option<u32>, Option<u16>) =
            (spec.table, spec.prefix, spec.tos, spec.metric, spec.ordinal);
        self.hash(self.hasher.hash_one(key));
    }

    pub(crate) fn neighbour(&mut self, ip: IpAddr, link: impl std::hash::Hash) {
        self.hash(self.hasher.hash_one((ip, link)));
    }

    fn hash(&mut self, hash: u64) {
        self.count += u64::from(!self.seen.insert(hash));
    }
}

/// What is hashed already needs no second hash.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only u64 keys");
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}
