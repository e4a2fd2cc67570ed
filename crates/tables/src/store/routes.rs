//! The routes of one family: entries in a slab, found by the tries.
//!
//! Each routing table has a trie that knows, for each prefix, the number of
//! its first entry; the others of the same prefix hang behind it. There is no
//! second index for exact matches: the trie finds them too, in a walk that is
//! at most three nodes long for IPv4's /24, of which all but the last are hot;
//! and routes that come in the order of their prefixes, as a file or a
//! snapshot has them, find their whole path in the cache.

use std::collections::BTreeMap;

use super::entry::{Address, Entry, Key, Value};
use super::slab::Slab;
use super::trie::{Root, Tries};

/// The routes of one family.
#[derive(Debug)]
pub(crate) struct Routes<A> {
    entries: Slab<Entry<A>>,
    tries: Tries,
    tables: BTreeMap<u32, Root>,
    /// Entries that are not absent.
    present: usize,
}

impl<A: Address> Default for Routes<A> {
    fn default() -> Self {
        Routes {
            entries: Slab::default(),
            tries: Tries::default(),
            tables: BTreeMap::new(),
            present: 0,
        }
    }
}

impl<A: Address> Routes<A> {
    /// Routes, absent ones not counted.
    pub(crate) fn len(&self) -> usize {
        self.present
    }

    /// The entry of this number.
    #[inline]
    pub(crate) fn entry(&self, at: u32) -> &Entry<A> {
        &self.entries[at]
    }

    /// One more than the highest number in use.
    pub(crate) fn end(&self) -> u32 {
        self.entries.end()
    }

    /// Gives an entry a value, or makes it absent.
    #[inline]
    pub(crate) fn put(&mut self, at: u32, value: Value) {
        let entry = &mut self.entries[at];
        self.present += usize::from(value.is_present());
        self.present -= usize::from(entry.value().is_present());
        entry.put(value);
    }

    /// Sets or clears an entry's mark.
    #[inline]
    pub(crate) fn set_mark(&mut self, at: u32, mark: bool) {
        self.entries[at].set_mark(mark);
    }

    /// The first entry of a table and prefix.
    #[inline]
    pub(crate) fn first(&self, table: u32, prefix: (u128, u8)) -> Option<u32> {
        self.tries.exact(*self.tables.get(&table)?, prefix)
    }

    /// The entry behind this one, of the same table and prefix.
    #[inline]
    pub(crate) fn following(&self, at: u32) -> Option<u32> {
        self.entries[at].next.checked_sub(1)
    }

    /// The entry of this key, absent or not.
    #[inline]
    pub(crate) fn find(&self, key: &Key) -> Option<u32> {
        let mut at = self.first(key.table, key.prefix)?;
        loop {
            let entry = &self.entries[at];
            if entry.place() >= key.place {
                return (entry.place() == key.place).then_some(at);
            }
            at = entry.next.checked_sub(1)?;
        }
    }

    /// The entry of this key; made, absent, if there is none.
    pub(crate) fn find_or_insert(&mut self, key: &Key) -> u32 {
        let root = *self.tables.entry(key.table).or_insert_with(|| self.tries.create());
        let Some(first) = self.tries.exact(root, key.prefix) else {
            let new = self.entries.insert(Entry::absent(key));
            self.tries.insert(root, key.prefix, new);
            return new;
        };
        let mut before = None;
        let mut next = Some(first);
        while let Some(at) = next {
            let entry = &self.entries[at];
            if entry.place() == key.place {
                return at;
            }
            if entry.place() > key.place {
                break;
            }
            before = Some(at);
            next = entry.next.checked_sub(1);
        }
        let new = self.entries.insert(Entry::absent(key));
        self.entries[new].next = next.map_or(0, |at| at + 1);
        match before {
            Some(at) => self.entries[at].next = new + 1,
            None => {
                self.tries.insert(root, key.prefix, new);
            }
        }
        new
    }

    /// Removes an entry altogether.
    pub(crate) fn remove(&mut self, at: u32) {
        let key = self.entries[at].key();
        let next = self.following(at);
        let Some(&root) = self.tables.get(&key.table) else { return };
        let first = self.tries.exact(root, key.prefix);
        match (first == Some(at), next) {
            (true, Some(next)) => {
                self.tries.insert(root, key.prefix, next);
            }
            (true, None) => {
                self.tries.remove(root, key.prefix);
                if self.tries.is_empty(root) {
                    self.tries.destroy(root);
                    self.tables.remove(&key.table);
                }
            }
            (false, _) => {
                let mut before = first;
                while let Some(other) = before {
                    if self.following(other) == Some(at) {
                        self.entries[other].next = next.map_or(0, |next| next + 1);
                        break;
                    }
                    before = self.following(other);
                }
            }
        }
        self.put(at, Value::ABSENT);
        self.entries[at] = Entry::default();
        self.entries.remove(at);
    }

    /// The longest match in one routing table: there, of the routes with tos 0
    /// that are `usable`, the one with the lowest (distance, metric, ordinal).
    #[inline]
    pub(crate) fn lookup(
        &self,
        table: u32,
        address: u128,
        usable: impl Fn(Value) -> bool,
    ) -> Option<u32> {
        let mut found = None;
        self.tries.longest(*self.tables.get(&table)?, address, |first| {
            let mut best = None;
            let mut next = Some(first);
            while let Some(at) = next {
                let entry = &self.entries[at];
                let ((tos, metric, ordinal), value) = (entry.place(), entry.value());
                if tos != 0 {
                    break; // Ordered by tos first.
                }
                let rank = (value.distance, metric, ordinal);
                if value.is_present() && best.is_none_or(|best| rank < best) && usable(value) {
                    best = Some(rank);
                    found = Some(at);
                }
                next = entry.next.checked_sub(1);
            }
            best.is_some()
        });
        found
    }

    /// The next present route in the order of (table, prefix, tos, metric,
    /// ordinal), within one table if it is named, and inside a prefix;
    /// `absent`: also entries that are absent.
    pub(crate) fn next(
        &self,
        table: Option<u32>,
        within: (u128, u8),
        after: Option<&Key>,
        absent: bool,
    ) -> Option<u32> {
        let present = |mut next: Option<u32>, place: Option<_>| {
            while let Some(at) = next {
                let entry = &self.entries[at];
                if place.is_none_or(|place| entry.place() > place)
                    && (absent || entry.value().is_present())
                {
                    return Some(at);
                }
                next = entry.next.checked_sub(1);
            }
            None
        };
        let lowest = after.map_or(0, |key| key.table).max(table.unwrap_or(0));
        let highest = table.unwrap_or(u32::MAX);
        if lowest > highest {
            return None;
        }
        for (&table, &root) in self.tables.range(lowest..=highest) {
            let mut prefix = None;
            if let Some(key) = after.filter(|key| key.table == table) {
                if key.prefix >= within {
                    prefix = Some(key.prefix);
                    let inside = key.prefix.1 >= within.1
                        && key.prefix.0 & rtm_model::mask(within.1) == within.0;
                    if !inside {
                        continue;
                    }
                    let first = self.tries.exact(root, key.prefix);
                    if let Some(found) = present(first, Some(key.place)) {
                        return Some(found);
                    }
                }
            }
            while let Some((next, first)) = self.tries.next(root, within, prefix) {
                if let Some(found) = present(Some(first), None) {
                    return Some(found);
                }
                prefix = Some(next);
            }
        }
        None
    }

    /// The routing tables that have a present route.
    pub(crate) fn tables(&self) -> Vec<u32> {
        let all = self.tables.keys().copied();
        all.filter(|&table| self.next(Some(table), (0, 0), None, false).is_some()).collect()
    }

    /// Gives up to `count` chunks back to the allocator: for routes that were
    /// swapped out. False: none is left.
    pub(crate) fn dismantle(&mut self, count: usize) -> bool {
        self.tables.clear();
        (0..count).all(|_| self.entries.pop_chunk() || self.tries.dismantle(1))
    }

    /// Bytes taken from the allocator, about.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.bytes() + self.tries.bytes() + self.tables.len() * 16
    }
}
