//! The routes of one family: entries in a slab, found by the tries.
//!
//! Each routing table has a trie that knows, for each prefix, the number of
//! its first entry; the others of the same prefix hang behind it. The trie finds
//! exact matches, too: routes that come in the order of their prefixes, as a file or
//! a snapshot has them, find their whole path in the cache. Where they come in no
//! order, and many of them, [`Routes::make_index`] makes an exact index, in slices.
//!
//! # What lingers
//! A route that goes most often comes back: its neighbour flaps, or another way
//! to it is found. In a replica it therefore keeps its place for a while, absent:
//! then going and coming back touch its entry and nothing else, where its way
//! through the trie is a dozen cache lines to be found, shifted and shifted back.
//! As many as [`LINGERING`] linger, the last that went; who went before them loses its
//! place, some at a time, so that they are looked for together.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;

use super::entry::{Address, Entry, Key, Value};
use super::index::Index;
use super::slab::Slab;
use super::trie::{Root, Spot, Tries, is_node};

/// Entries from which on an exact index is worth its making: before, the tries
/// stay in the cache.
const INDEX_WORTH: u32 = 4 * 1024;

/// Entries that linger: more than go in the minutes of one disturbance, little
/// beside a full table.
const LINGERING: usize = 4096;

/// In the answer of [`Routes::find_many`].
pub(crate) const NOT_FOUND: u32 = u32::MAX;

/// Keys that [`Routes::walk_many`] looks for at once.
const WALK_MANY: usize = 64;

/// The routes of one family.
#[derive(Debug)]
pub(crate) struct Routes<A> {
    entries: Slab<Entry<A>>,
    tries: Tries,
    tables: BTreeMap<u32, Root>,
    /// Entries that are not absent.
    present: usize,
    index: Indexed,
    /// Entries that went, in that order, each once.
    lingering: VecDeque<u32>,
}

/// The exact index, as far as it has been made.
#[derive(Debug, Default)]
struct Indexed {
    /// None: nobody asked for it.
    index: Option<Index>,
    /// Entries below this number are in it.
    end: u32,
    hasher: RandomState,
}

impl Indexed {
    #[inline]
    fn hash(&self, key: &Key) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        let (bits, len) = key.prefix;
        let (tos, metric, ordinal) = key.place;
        hasher.write_u128(bits);
        hasher.write_u64(u64::from(key.table) << 32 | u64::from(metric));
        hasher.write_u32(u32::from(len) << 24 | u32::from(tos) << 16 | u32::from(ordinal));
        hasher.finish()
    }

    /// An entry was made.
    #[inline]
    fn inserted(&mut self, key: &Key, at: u32) {
        if self.index.is_some() && at <= self.end {
            let hash = self.hash(key);
            if let Some(index) = &mut self.index {
                index.insert(hash, at);
            }
            self.end = self.end.max(at + 1);
        }
    }

    /// A number was given out and taken back at once.
    fn passed(&mut self, at: u32) {
        if self.index.is_some() && at == self.end {
            self.end += 1;
        }
    }

    /// An entry goes.
    #[inline]
    fn removed(&mut self, key: &Key, at: u32) {
        if at < self.end {
            let hash = self.hash(key);
            if let Some(index) = &mut self.index {
                index.remove(hash, at);
            }
        }
    }
}

impl<A: Address> Default for Routes<A> {
    fn default() -> Self {
        Routes {
            entries: Slab::default(),
            tries: Tries::default(),
            tables: BTreeMap::new(),
            present: 0,
            index: Indexed::default(),
            lingering: VecDeque::new(),
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

    /// Asks for an entry.
    #[inline]
    pub(crate) fn prefetch(&self, at: u32) {
        rtm_prefetch::read(&self.entries[at]);
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

    /// Is the entry of this key, present or lingering, at this number?
    #[inline]
    pub(crate) fn is_at(&self, at: u32, key: &Key) -> bool {
        let entry = &self.entries[at];
        (entry.value().is_present() || entry.lingers()) && entry.key() == *key
    }

    /// The first entry of a table and prefix.
    #[inline]
    pub(crate) fn first(&self, table: u32, prefix: (u128, u8)) -> Option<u32> {
        self.exact(*self.tables.get(&table)?, prefix)
    }

    /// Is this (still) the first entry of a table and prefix? One look at it: a
    /// number that is free has no table.
    #[inline]
    pub(crate) fn is_first(&self, at: u32, table: u32, prefix: (u128, u8)) -> bool {
        let entry = &self.entries[at];
        !entry.is_behind() && entry.key().table == table && entry.prefix() == prefix
    }

    #[inline]
    fn exact(&self, root: Root, prefix: (u128, u8)) -> Option<u32> {
        self.tries.exact(root, prefix, |at| self.entries[at].prefix())
    }

    /// The trie refers to this entry for its prefix from now on; gives the one
    /// that it referred to.
    #[inline]
    fn refer(&mut self, table: u32, at: u32) -> Option<u32> {
        let entries = &self.entries;
        let root = self.tables.entry(table).or_insert_with(|| self.tries.create());
        self.tries.insert(root, entries[at].prefix(), at, |at| entries[at].prefix())
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

    /// The entry of this key, or, by the index, most likely; else [`NOT_FOUND`].
    #[inline]
    pub(crate) fn find_likely(&self, key: &Key) -> u32 {
        let found = match &self.index.index {
            Some(index) if self.has_index() => index.likely(self.index.hash(key)),
            _ => self.find(key),
        };
        found.unwrap_or(NOT_FOUND)
    }

    /// The entries of many keys at once, absent or not: one step of every walk
    /// in turn, so that they wait for memory together. [`NOT_FOUND`]: either
    /// there is none, or it is not the first of its prefix.
    ///
    /// # Panics
    /// If `found` is shorter than `keys`.
    pub(crate) fn find_many(&self, keys: &[Key], found: &mut [u32]) {
        match &self.index.index {
            Some(index) if self.has_index() => {
                // In small loops, as in `walk_many`.
                let mut hashes = [0; WALK_MANY];
                for (keys, found) in keys.chunks(WALK_MANY).zip(found.chunks_mut(WALK_MANY)) {
                    for (key, hash) in keys.iter().zip(&mut hashes) {
                        *hash = self.index.hash(key);
                    }
                    let hashes = &hashes[..keys.len()];
                    hashes.iter().for_each(|&hash| index.prefetch(hash));
                    for (&hash, found) in hashes.iter().zip(&mut *found) {
                        *found = index.likely(hash).unwrap_or(NOT_FOUND);
                    }
                }
            }
            _ => self.walk_many(keys, found),
        }
        let there = found.iter().filter(|found| **found != NOT_FOUND);
        there.for_each(|&at| self.prefetch(at));
        for (key, found) in keys.iter().zip(&mut found[..]) {
            if *found != NOT_FOUND && self.entries[*found].key() != *key {
                *found = NOT_FOUND;
            }
        }
    }

    /// The same by the tries: a number is found where the way of a key ends,
    /// whether it is that key's or another's.
    ///
    /// All go a step before any goes the next one, and a step is cut where it
    /// would have to wait for memory: what the next part reads is asked for.
    pub(crate) fn walk_many(&self, keys: &[Key], found: &mut [u32]) {
        let mut table = None;
        let mut walking = [0_u8; WALK_MANY];
        let mut spots = [Spot::default(); WALK_MANY];
        for (keys, found) in keys.chunks(WALK_MANY).zip(found.chunks_mut(WALK_MANY)) {
            found.fill(NOT_FOUND);
            let mut count = 0;
            for (index, (key, found)) in keys.iter().zip(&mut found[..]).enumerate() {
                // Most batches are of one table.
                let root = match table {
                    Some((table, root)) if table == key.table => root,
                    _ => self.tables.get(&key.table).copied(),
                };
                table = Some((key.table, root));
                if let Some(root) = root {
                    *found = self.tries.begin(root);
                    walking[count] = index as u8;
                    count += 1;
                }
            }
            while count > 0 {
                for &index in &walking[..count] {
                    self.tries.prefetch(found[usize::from(index)]);
                }
                let mut aimed = 0;
                for at in 0..count {
                    let index = walking[at];
                    let node = std::mem::replace(&mut found[usize::from(index)], NOT_FOUND);
                    if let Some(spot) = self.tries.aim(node, keys[usize::from(index)].prefix) {
                        self.tries.prefetch_spot(spot);
                        (walking[aimed], spots[aimed]) = (index, spot);
                        aimed += 1;
                    }
                }
                for (&index, &spot) in walking[..aimed].iter().zip(&spots) {
                    found[usize::from(index)] = self.tries.hit(spot);
                }
                // Nobody could foretell which walks are at their end.
                count = 0;
                for at in 0..aimed {
                    let index = walking[at];
                    walking[count] = index;
                    count += usize::from(is_node(found[usize::from(index)]));
                }
            }
        }
    }

    /// Is the exact index complete?
    pub(crate) fn has_index(&self) -> bool {
        self.index.index.is_some() && self.index.end == self.entries.end()
    }

    /// Would [`Routes::make_index`] do anything?
    pub(crate) fn wants_index(&self) -> bool {
        !self.has_index() && (self.index.index.is_some() || self.entries.end() >= INDEX_WORTH)
    }

    /// Goes on making the exact index, `count` entries of it. False: it is
    /// complete, or not worth it.
    pub(crate) fn make_index(&mut self, count: u32) -> bool {
        let end = self.entries.end();
        if self.index.index.is_none() {
            if end < INDEX_WORTH {
                return false;
            }
            self.index.index = Some(Index::with_capacity(self.present));
        }
        let until = end.min(self.index.end + count);
        while self.index.end < until {
            // Many hashes, then the words that they lead to, then the entries.
            let from = self.index.end;
            let to = until.min(from + WALK_MANY as u32);
            let mut hashes = [None; WALK_MANY];
            for (at, hash) in (from..to).zip(&mut hashes) {
                if self.entries[at].is_used() {
                    *hash = Some(self.index.hash(&self.entries[at].key()));
                }
            }
            let Some(index) = &mut self.index.index else { break };
            hashes.iter().flatten().for_each(|&hash| index.prefetch(hash));
            for (at, hash) in (from..to).zip(hashes) {
                if let Some(hash) = hash {
                    index.insert(hash, at);
                }
            }
            self.index.end = to;
        }
        until < end
    }

    /// The entry of this key; made, absent, if there is none.
    pub(crate) fn find_or_insert(&mut self, key: &Key) -> u32 {
        if let Some(first) = self.first(key.table, key.prefix) {
            return self.find_or_insert_behind(first, key);
        }
        let new = self.entries.insert(Entry::absent(key));
        self.refer(key.table, new);
        self.index.inserted(key, new);
        new
    }

    /// As [`Routes::find_or_insert`], where there is most likely none.
    pub(crate) fn insert_or_find(&mut self, key: &Key) -> u32 {
        let new = self.entries.insert(Entry::absent(key));
        let Some(first) = self.refer(key.table, new) else {
            self.index.inserted(key, new);
            return new;
        };
        // The prefix was there: back to how it was, and look.
        self.refer(key.table, first);
        self.entries[new] = Entry::default();
        self.entries.remove(new);
        self.index.passed(new);
        self.find_or_insert_behind(first, key)
    }

    /// The entry of this key, or a new one, among those that begin with `first`.
    fn find_or_insert_behind(&mut self, first: u32, key: &Key) -> u32 {
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
        self.index.inserted(key, new);
        self.entries[new].next = next.map_or(0, |at| at + 1);
        match before {
            Some(at) => {
                self.entries[at].next = new + 1;
                self.entries[new].set_behind(true);
            }
            None => {
                self.entries[first].set_behind(true);
                self.refer(key.table, new);
            }
        }
        new
    }

    /// A route goes, and its entry lingers.
    pub(crate) fn vacate(&mut self, at: u32) {
        self.put(at, Value::ABSENT);
        if !self.entries[at].lingers() {
            self.entries[at].set_lingers(true);
            self.lingering.push_back(at);
            if self.lingering.len() >= LINGERING + WALK_MANY {
                self.let_go();
            }
        }
    }

    /// Those that have lingered for longest lose their places, unless they have
    /// come back.
    fn let_go(&mut self) {
        let mut going = [0; WALK_MANY];
        let mut keys = [Key::default(); WALK_MANY];
        for at in &mut going {
            *at = self.lingering.pop_front().unwrap_or_default();
        }
        going.iter().for_each(|&at| self.prefetch(at));
        let mut count = 0;
        for at in going {
            self.entries[at].set_lingers(false);
            if !self.entries[at].value().is_present() {
                (going[count], keys[count]) = (at, self.entries[at].key());
                count += 1;
            }
        }
        self.walk_many(&keys[..count], &mut [NOT_FOUND; WALK_MANY]);
        going[..count].iter().for_each(|&at| self.remove(at));
    }

    /// Removes an entry altogether. It must not linger.
    pub(crate) fn remove(&mut self, at: u32) {
        let key = self.entries[at].key();
        let next = self.following(at);
        let first = self.first(key.table, key.prefix);
        match (first == Some(at), next) {
            (true, Some(next)) => {
                self.entries[next].set_behind(false);
                self.refer(key.table, next);
            }
            (true, None) => self.forget(key.table, key.prefix),
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
        self.index.removed(&key, at);
        self.entries[at] = Entry::default();
        self.entries.remove(at);
    }

    /// The trie no longer has this prefix.
    fn forget(&mut self, table: u32, prefix: (u128, u8)) {
        let Some(root) = self.tables.get_mut(&table) else { return };
        let entries = &self.entries;
        self.tries.remove(root, prefix, |at| entries[at].prefix());
        if self.tries.is_empty(*root) {
            self.tries.destroy(*root);
            self.tables.remove(&table);
        }
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
        let key = |at| self.entries[at].prefix();
        self.tries.longest(*self.tables.get(&table)?, address, key, |first| {
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
                    let first = self.exact(root, key.prefix);
                    if let Some(found) = present(first, Some(key.place)) {
                        return Some(found);
                    }
                }
            }
            while let Some((next, first)) =
                self.tries.next(root, within, prefix, |at| self.entries[at].prefix())
            {
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
        self.entries.bytes()
            + self.tries.bytes()
            + self.index.index.as_ref().map_or(0, Index::bytes)
            + self.tables.len() * 16
            + self.lingering.capacity() * 4
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::entry::A4;
    use super::*;

    fn key(number: u32) -> Key {
        // Prefixes inside one another, and several routes of some.
        let len = 16 + (number % 9) as u8 * 2;
        let bits = u128::from(number.wrapping_mul(0x9e37_79b9)) << 96 & rtm_model::mask(len);
        Key { table: 254, prefix: (bits, len), place: (0, number % 2, number as u16) }
    }

    fn value(number: u32) -> Value {
        Value { group: number, kind: 1, ..Value::ABSENT }
    }

    /// More go than may linger, some come back before and some after they lost
    /// their places, with an index and without one.
    #[test]
    fn what_went_is_absent_and_comes_back_wherever_it_was() {
        let numbers = LINGERING as u32 * 4;
        for index in [false, true] {
            let mut routes = Routes::<A4>::default();
            let mut there = BTreeSet::new();
            let set = |routes: &mut Routes<A4>, there: &mut BTreeSet<u32>, number| {
                let at = match number % 2 {
                    0 => routes.insert_or_find(&key(number)),
                    _ => routes.find_or_insert(&key(number)),
                };
                routes.put(at, value(number));
                there.insert(number);
            };
            (0..numbers).for_each(|number| set(&mut routes, &mut there, number));
            let keys: BTreeSet<_> = (0..numbers).map(|n| (key(n).prefix, key(n).place)).collect();
            assert_eq!(keys.len(), numbers as usize);
            while index && routes.make_index(1000) {}
            for round in 0..3 {
                for number in (0..numbers).filter(|number| number % 3 != round) {
                    if there.remove(&number) {
                        let at = routes.find(&key(number)).unwrap();
                        assert!(routes.is_at(at, &key(number)));
                        routes.vacate(at);
                    }
                    if number % 5 == 0 {
                        set(&mut routes, &mut there, number / 2);
                    }
                }
                assert!(routes.lingering.len() < LINGERING + WALK_MANY);
                assert_eq!(routes.len(), there.len());
                assert_eq!(routes.has_index(), index);
                let all: Vec<Key> = (0..numbers).map(key).collect();
                let mut found = vec![NOT_FOUND; all.len()];
                routes.find_many(&all, &mut found);
                for number in 0..numbers {
                    let at = routes.find(&key(number));
                    let present = at.map(|at| routes.entry(at).value());
                    let expected = there.contains(&number).then(|| value(number));
                    assert_eq!(present.filter(|value| value.is_present()), expected);
                    if index {
                        assert_eq!(found[number as usize], at.unwrap_or(NOT_FOUND));
                    }
                }
                let mut after = None;
                let mut count = 0;
                while let Some(at) = routes.next(None, (0, 0), after.as_ref(), false) {
                    after = Some(routes.entry(at).key());
                    count += 1;
                }
                assert_eq!(count, there.len());
            }
            // All go; then only what lingers still has a place.
            for number in there {
                let at = routes.find(&key(number)).unwrap();
                routes.vacate(at);
            }
            assert_eq!(routes.len(), 0);
            assert_eq!(routes.entries.len(), routes.lingering.len());
            assert!(routes.tables().is_empty());
            assert_eq!(routes.lookup(254, key(7).prefix.0, |_| true), None);
        }
    }
}
