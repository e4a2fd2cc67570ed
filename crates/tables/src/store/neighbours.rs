//! Neighbours: by key in order, and by MAC address.
//!
//! There are thousands where there are a million routes, so ordered maps of
//! the standard library do: they grow without ever copying everything, and
//! give the order of listings for nothing. Entries stand in a slab all the
//! same, because the modification order knows them by number.
//!
//! As with routes, an entry without value is *absent*: a table keeps it for a
//! key whose candidates are all never used, or that an open transaction
//! deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use rtm_model::{Mac, Neighbour, NeighbourKey, NeighbourValue};

/// The lowest key there is.
const FIRST: NeighbourKey = NeighbourKey { ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED), link: None };

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: NeighbourKey,
    value: Option<NeighbourValue>,
    mark: bool,
}

/// The neighbours.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    numbers: BTreeMap<NeighbourKey, u32>,
    macs: BTreeSet<(Mac, NeighbourKey)>,
    mac_count: usize,
    present: usize,
}

/// How the set of MAC addresses changed: the digest over it follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct MacChange {
    /// This one lost its last neighbour.
    pub(crate) gone: Option<Mac>,
    /// This one got its first.
    pub(crate) new: Option<Mac>,
}

impl Neighbours {
    /// Neighbours, absent ones not counted.
    pub(crate) fn len(&self) -> usize {
        self.present
    }

    /// MAC addresses that have a neighbour.
    pub(crate) fn macs(&self) -> usize {
        self.mac_count
    }

    /// One more than the highest number in use.
    pub(crate) fn end(&self) -> u32 {
        self.entries.len() as u32
    }

    /// The number of a key, absent or not.
    pub(crate) fn find(&self, key: &NeighbourKey) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    /// The number of a key; made, absent, if there is none.
    pub(crate) fn find_or_insert(&mut self, key: &NeighbourKey) -> u32 {
        if let Some(at) = self.find(key) {
            return at;
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() as u32 - 1
        });
        self.entries[at as usize] = Some(Entry { key: *key, value: None, mark: false });
        self.numbers.insert(*key, at);
        at
    }

    /// The key of a number in use.
    pub(crate) fn key(&self, at: u32) -> Option<NeighbourKey> {
        Some(self.entries.get(at as usize)?.as_ref()?.key)
    }

    /// The value of a number.
    pub(crate) fn value(&self, at: u32) -> Option<NeighbourValue> {
        self.entries.get(at as usize)?.as_ref()?.value
    }

    /// Gives an entry a value, or makes it absent.
    pub(crate) fn put(&mut self, at: u32, value: Option<NeighbourValue>) -> MacChange {
        let mut change = MacChange::default();
        let Some(entry) = &mut self.entries[at as usize] else { return change };
        let key = entry.key;
        let old = std::mem::replace(&mut entry.value, value);
        self.present += usize::from(value.is_some());
        self.present -= usize::from(old.is_some());
        let (old, new) = (old.and_then(|v| v.mac), value.and_then(|v| v.mac));
        if old == new {
            return change;
        }
        if let Some(mac) = old {
            self.macs.remove(&(mac, key));
            if !self.has(mac) {
                self.mac_count -= 1;
                change.gone = Some(mac);
            }
        }
        if let Some(mac) = new {
            if !self.has(mac) {
                self.mac_count += 1;
                change.new = Some(mac);
            }
            self.macs.insert((mac, key));
        }
        change
    }

    /// Removes an absent entry altogether.
    pub(crate) fn remove(&mut self, at: u32) {
        if let Some(entry) = self.entries[at as usize].take() {
            debug_assert!(entry.value.is_none(), "only an absent entry is removed");
            self.numbers.remove(&entry.key);
            self.free.push(at);
        }
    }

    /// What a replica sets on what a snapshot has named.
    pub(crate) fn mark(&self, at: u32) -> bool {
        self.entries[at as usize].is_some_and(|entry| entry.mark)
    }

    /// Sets or clears the mark.
    pub(crate) fn set_mark(&mut self, at: u32, mark: bool) {
        if let Some(entry) = &mut self.entries[at as usize] {
            entry.mark = mark;
        }
    }

    /// The numbers of an address on any link, in the order of links.
    pub(crate) fn of_ip(&self, ip: IpAddr) -> impl Iterator<Item = (NeighbourKey, u32)> {
        self.numbers
            .range(NeighbourKey { ip, link: None }..)
            .take_while(move |(key, _)| key.ip == ip)
            .map(|(key, at)| (*key, *at))
    }

    /// The next present neighbour in the order of keys.
    pub(crate) fn next(&self, after: Option<&NeighbourKey>) -> Option<Neighbour> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.numbers
            .range((after.copied().map_or(Unbounded, Excluded), Unbounded))
            .find_map(|(key, &at)| Some(Neighbour { key: *key, value: self.value(at)? }))
    }

    /// The next key in order and its number, absent or not.
    pub(crate) fn next_number(&self, after: Option<&NeighbourKey>) -> Option<(NeighbourKey, u32)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = after.copied().map_or(Unbounded, Excluded);
        self.numbers.range((after, Unbounded)).next().map(|(key, at)| (*key, *at))
    }

    /// The keys that have this MAC address, in order.
    pub(crate) fn of_mac(&self, mac: Mac) -> impl Iterator<Item = NeighbourKey> {
        self.macs.range((mac, FIRST)..).take_while(move |(m, _)| *m == mac).map(|(_, key)| *key)
    }

    fn has(&self, mac: Mac) -> bool {
        self.of_mac(mac).next().is_some()
    }

    /// The next MAC address that has a neighbour.
    pub(crate) fn next_mac(&self, after: Option<Mac>) -> Option<Mac> {
        let Some(Mac([a, b, c, d, e, f])) = after else {
            return self.macs.first().map(|(mac, _)| *mac);
        };
        let next = u64::from_be_bytes([0, 0, a, b, c, d, e, f]) + 1;
        let [0, 0, rest @ ..] = next.to_be_bytes() else { return None };
        self.macs.range((Mac(rest), FIRST)..).next().map(|(mac, _)| *mac)
    }

    /// Gives up to `count` entries back to the allocator: for neighbours that
    /// were swapped out. False: none is left.
    pub(crate) fn dismantle(&mut self, count: usize) -> bool {
        for _ in 0..count {
            if self.numbers.pop_first().is_none() && self.macs.pop_first().is_none() {
                return false;
            }
        }
        true
    }

    /// Bytes taken from the allocator, about (the maps' nodes are two thirds
    /// full on average).
    pub(crate) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Option<Entry>>()
            + self.free.capacity() * 4
            + self.numbers.len() * (size_of::<(NeighbourKey, u32)>() * 3 / 2 + 4)
            + self.macs.len() * (size_of::<(Mac, NeighbourKey)>() * 3 / 2 + 4)
    }
}

#[cfg(test)]
mod tests {
    use rtm_model::NudState;

    use super::*;

    fn value(mac: u8) -> Option<NeighbourValue> {
        let mac = Some(Mac([mac; 6]));
        Some(NeighbourValue { mac, state: NudState::STALE, flags: 0, protocol: 0 })
    }

    #[test]
    fn the_set_of_macs_follows_the_first_and_the_last() {
        let mut neighbours = Neighbours::default();
        let key = |n: u8| NeighbourKey { ip: [10, 0, 0, n].into(), link: None };
        let (a, b) = (neighbours.find_or_insert(&key(1)), neighbours.find_or_insert(&key(2)));
        let mac = |n| Some(Mac([n; 6]));
        assert_eq!(neighbours.put(a, value(5)), MacChange { gone: None, new: mac(5) });
        assert_eq!(neighbours.put(b, value(5)), MacChange::default());
        assert_eq!(neighbours.of_mac(Mac([5; 6])).collect::<Vec<_>>(), [key(1), key(2)]);
        assert_eq!(neighbours.put(a, value(6)), MacChange { gone: None, new: mac(6) });
        assert_eq!(neighbours.put(b, None), MacChange { gone: mac(5), new: None });
        assert_eq!((neighbours.len(), neighbours.macs()), (1, 1));
        assert_eq!(neighbours.put(a, value(255)), MacChange { gone: mac(6), new: mac(255) });
        assert_eq!(neighbours.next_mac(None), mac(255));
        assert_eq!(neighbours.next_mac(mac(255)), None);
        neighbours.remove(b);
        assert_eq!(neighbours.find(&key(2)), None);
        assert_eq!(neighbours.next(None).unwrap().key, key(1));
        assert_eq!(neighbours.next(Some(&key(1))), None);
    }
}
