//! What is changed, the same for every contender: the state of a table and
//! the changes that lead from one state to the next.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::routes::{GATEWAYS, LINKS, NextHop, Prefix, Route, Update};

/// One of so many random changes is a delete; the rest gives a route another next hop.
const DELETE_ONE_IN: u64 = 8;
/// A deleted route comes back after so many further changes, so that the table
/// stays as full as it was, however many rounds are run.
const ABSENT_CHANGES: u64 = 1_000;

/// A table as it stands after all changes made so far.
pub(crate) struct Mirror {
    base: Vec<Route>,
    now: Vec<Option<NextHop>>,
    /// Deleted by random changes and due to come back: (at which change, which route).
    absent: VecDeque<(u64, usize)>,
    changes_made: u64,
}

impl Mirror {
    pub(crate) fn new(base: Vec<Route>) -> Self {
        let now = base.iter().map(|route| Some(route.next_hop)).collect();
        Self { base, now, absent: VecDeque::new(), changes_made: 0 }
    }

    pub(crate) fn base(&self) -> &[Route] {
        &self.base
    }

    /// Forgets all changes: the table is as it was loaded.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(std::mem::take(&mut self.base));
    }

    /// The next `count` random changes. Every one of them changes something, so
    /// each is one delivery to each subscriber.
    pub(crate) fn random(&mut self, seed: u64, count: usize) -> Vec<Update> {
        let mut random = SplitMix(seed);
        (0..count)
            .map(|_| {
                self.changes_made += 1;
                if let Some(&(_, which)) =
                    self.absent.front().filter(|(due, _)| *due <= self.changes_made)
                {
                    self.absent.pop_front();
                    return self.set(which, Some(self.base[which].next_hop));
                }
                let which = loop {
                    let which = (random.next() % self.base.len() as u64) as usize;
                    if self.now[which].is_some() {
                        break which;
                    }
                };
                if random.next() % DELETE_ONE_IN == 0 {
                    self.absent.push_back((self.changes_made + ABSENT_CHANGES, which));
                    return self.set(which, None);
                }
                let family = self.base[which].prefix.address;
                let next_hop = loop {
                    let number = random.next();
                    let next_hop =
                        NextHop::numbered(number % GATEWAYS, number / GATEWAYS % LINKS, family);
                    if self.now[which] != Some(next_hop) {
                        break next_hop;
                    }
                };
                self.set(which, Some(next_hop))
            })
            .collect()
    }

    fn set(&mut self, which: usize, to: Option<NextHop>) -> Update {
        self.now[which] = to;
        Update { prefix: self.base[which].prefix, to }
    }
}

/// The update trace played on a table that has only ever been loaded or played
/// this trace on.
pub(crate) struct Replay {
    updates: Vec<Update>,
    /// What each prefix of the trace has before it; `None`: nothing.
    before: Vec<Update>,
    effective: u64,
}

impl Replay {
    pub(crate) fn new(base: &[Route], updates: Vec<Update>) -> Self {
        let touched: HashSet<Prefix> = updates.iter().map(|update| update.prefix).collect();
        let loaded: HashMap<Prefix, NextHop> = base
            .iter()
            .filter(|route| touched.contains(&route.prefix))
            .map(|route| (route.prefix, route.next_hop))
            .collect();
        let mut touched: Vec<Prefix> = touched.into_iter().collect();
        touched.sort_unstable();
        let before = touched
            .into_iter()
            .map(|prefix| Update { prefix, to: loaded.get(&prefix).copied() })
            .collect();
        let mut now = loaded;
        let mut effective = 0;
        for update in &updates {
            let was = match update.to {
                Some(next_hop) => now.insert(update.prefix, next_hop),
                None => now.remove(&update.prefix),
            };
            effective += u64::from(was != update.to);
        }
        Self { updates, before, effective }
    }

    /// In the order of the file, those without effect among them.
    pub(crate) fn updates(&self) -> &[Update] {
        &self.updates
    }

    /// What must be set again before the trace can be played once more.
    pub(crate) fn before(&self) -> &[Update] {
        &self.before
    }

    /// How many of the updates change something. Withdrawals of what is absent
    /// and announcements of what is there already do not.
    pub(crate) fn effective(&self) -> u64 {
        self.effective
    }
}

/// Steele, Lea and Flood's generator: small, and the same everywhere.
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(count: u32) -> Vec<Route> {
        (0..count)
            .map(|n| {
                let address = std::net::IpAddr::V4(std::net::Ipv4Addr::from_bits(n << 8));
                Route {
                    prefix: Prefix { address, length: 24 },
                    next_hop: NextHop::numbered(1, 1, address),
                }
            })
            .collect()
    }

    #[test]
    fn every_random_change_changes_something_and_the_table_stays_full() {
        let base = routes(5_000);
        let mut mirror = Mirror::new(base.clone());
        let mut model: HashMap<Prefix, NextHop> =
            base.iter().map(|route| (route.prefix, route.next_hop)).collect();
        for round in 0..5 {
            for change in mirror.random(round, 10_000) {
                let was = match change.to {
                    Some(next_hop) => model.insert(change.prefix, next_hop),
                    None => model.remove(&change.prefix),
                };
                assert_ne!(was, change.to);
            }
            assert!(model.len() > 4_700, "{}", model.len());
        }
        let mut again = Mirror::new(base);
        mirror.reset();
        assert_eq!(mirror.random(7, 100), again.random(7, 100));
    }

    #[test]
    fn a_replay_counts_what_changes_and_knows_the_way_back() {
        let base = routes(3);
        let (a, b) = (base[0], base[1]);
        let other = NextHop::numbered(2, 2, a.prefix.address);
        let absent = Prefix { address: "9.9.9.0".parse().unwrap(), length: 24 };
        let updates = vec![
            Update { prefix: a.prefix, to: Some(a.next_hop) }, // equal
            Update { prefix: a.prefix, to: Some(other) },
            Update { prefix: b.prefix, to: None },
            Update { prefix: b.prefix, to: None }, // absent
            Update { prefix: absent, to: Some(other) },
        ];
        let replay = Replay::new(&base, updates);
        assert_eq!(replay.effective(), 3);
        let before: HashMap<Prefix, Option<NextHop>> =
            replay.before().iter().map(|update| (update.prefix, update.to)).collect();
        assert_eq!(before[&a.prefix], Some(a.next_hop));
        assert_eq!(before[&b.prefix], Some(b.next_hop));
        assert_eq!(before[&absent], None);
    }
}
