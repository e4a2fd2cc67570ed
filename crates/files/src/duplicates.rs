//! Counts the entries of a file that name a key again.
//!
//! The last one wins, as everybody would expect of lines that replace; the
//! user is told how many there were. What is kept is a 64-bit hash of each
//! key: of a million routes, a wrong count has a chance of one in thirty
//! million, and nothing but the figure would be wrong.
//!
//! Tables mostly come in the order of their prefixes, each once. As long as each
//! route's prefix is behind the one before, none can be there again: then hashes are
//! only noted, one behind the other. The first that isn't puts all of them
//! into a set, which costs a cache miss each.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::net::IpAddr;

use foldhash::quality::RandomState;
use rtm_model::{Prefix, RouteSpec};

pub(crate) struct Duplicates {
    seen: HashSet<u64, BuildHasherDefault<Hashed>>,
    /// As long as all came in order: the hashes so far, and the last key.
    in_order: Option<Vec<u64>>,
    last: Option<(u32, Prefix)>,
    hasher: RandomState,
    pub(crate) count: u64,
}

impl Duplicates {
    pub(crate) fn new() -> Duplicates {
        Duplicates {
            seen: HashSet::default(),
            in_order: Some(Vec::new()),
            last: None,
            hasher: RandomState::default(),
            count: 0,
        }
    }

    pub(crate) fn route(&mut self, spec: &RouteSpec) {
        let key: (u32, Prefix, u8, Option<u32>, Option<u16>) =
            (spec.table, spec.prefix, spec.tos, spec.metric, spec.ordinal);
        let hash = self.hasher.hash_one(key);
        let place = Some((spec.table, spec.prefix));
        match &mut self.in_order {
            Some(hashes) if self.last < place => {
                hashes.push(hash);
                self.last = place;
            }
            _ => self.hash(hash),
        }
    }

    pub(crate) fn neighbour(&mut self, ip: IpAddr, link: impl std::hash::Hash) {
        self.hash(self.hasher.hash_one((ip, link)));
    }

    fn hash(&mut self, hash: u64) {
        if let Some(hashes) = self.in_order.take() {
            self.seen = hashes.into_iter().collect();
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn count(prefixes: &[&str]) -> u64 {
        let mut duplicates = Duplicates::new();
        for prefix in prefixes {
            duplicates.route(&RouteSpec::new(prefix.parse().unwrap()));
        }
        duplicates.count
    }

    #[test]
    fn a_key_is_found_again_wherever_it_was() {
        let cases: [(&[&str], u64); 7] = [
            (&[], 0),
            (&["1.0.0.0/8", "2.0.0.0/8", "2.0.0.0/9", "::/0"], 0),
            (&["1.0.0.0/8", "1.0.0.0/8"], 1),
            (&["1.0.0.0/8", "2.0.0.0/8", "1.0.0.0/8", "2.0.0.0/8"], 2),
            (&["3.0.0.0/8", "2.0.0.0/8", "1.0.0.0/8"], 0),
            (&["3.0.0.0/8", "2.0.0.0/8", "4.0.0.0/8", "4.0.0.0/8", "3.0.0.0/8"], 2),
            (&["1.0.0.0/8", "2001:db8::/32", "1.0.0.0/8", "2001:db8::/32"], 2),
        ];
        for (prefixes, expected) in cases {
            assert_eq!(count(prefixes), expected, "{prefixes:?}");
        }
    }

    #[test]
    fn routes_of_one_prefix_may_differ_and_neighbours_come_between() {
        let mut duplicates = Duplicates::new();
        let spec = |metric| RouteSpec { metric, ..RouteSpec::new("1.0.0.0/8".parse().unwrap()) };
        duplicates.route(&spec(Some(1)));
        duplicates.neighbour("10.0.0.1".parse().unwrap(), 1);
        duplicates.route(&spec(Some(2)));
        duplicates.route(&RouteSpec::new("9.0.0.0/8".parse().unwrap()));
        assert_eq!(duplicates.count, 0);
        duplicates.route(&spec(Some(1)));
        duplicates.neighbour("10.0.0.1".parse().unwrap(), 1);
        assert_eq!(duplicates.count, 2);
    }
}
