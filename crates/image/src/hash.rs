//! Neighbours' MAC addresses by address and link: two hash tables, one for each
//! family, copy-on-write.
//!
//! A bucket is a cache line of its own, with four entries for IPv4 and two for IPv6;
//! pages of 64 buckets lie under a top. So a lookup misses once: the top is small. The
//! table grows by one page at a time (linear hashing): no change ever has to move
//! more than one page. The hash is keyed, so who can make neighbours can't fill one
//! bucket with them.
//!
//! ```text
//! IPv4    address u32, link u32                  | MAC address, 6 bytes | 6 | marks |
//! IPv6    address, 16 bytes        | link u64    | MAC address, 6 bytes | 6 | marks |
//! top     where page 0 begins, in bytes, u32     | page 1 | page 2 | ...
//! ```
//!
//! Without a MAC address, zeros and 0 instead of 6; a place without entry is all
//! zeros, and behind those that have one. Where a bucket has more entries than places,
//! its last place names a block with the rest: their number, then the entries.
//!
//! The top has as many entries as the next power of two of the number of pages. A page
//! that doesn't exist yet has that of the page whose entries it will take, so that a
//! lookup needn't ask which exist.
use crate::layout::{UNIT_BYTES, tag, word_of};
use crate::store::{Full, Memory, Store};
use crate::words::{Entries, ReadWords, Words};

/// Words of a bucket: a cache line.
const BUCKET_WORDS: usize = 8;
/// Words of a page: 4 KiB.
const PAGE_WORDS: usize = 512;
/// Buckets in a page.
const PER_PAGE: usize = PAGE_WORDS / BUCKET_WORDS;
/// No reader looks at more entries behind a bucket than this. There, 64 have a
/// probability below 10^-80.
const REST_MAX: usize = 64;
/// In an entry's last word: it is one, and has a MAC address.
const HAS_MAC: u64 = 1 << 63;
/// In the last word of a bucket's last place: a block has the rest.
const REST: u64 = 1 << 62;
/// In an entry's last word: it is one.
const PRESENT: u64 = 1 << 61;

/// The last word of an entry, from a neighbour's first word of value.
#[inline(always)]
fn marked(value: u64) -> u64 {
    let value = value & (u64::MAX >> 8) | PRESENT;
    if value >> 48 & 0xff == 0 { value } else { value | HAS_MAC }
}

/// The entry of a neighbour's key (canonical words) and first word of value, IPv4.
#[inline(always)]
pub(crate) fn entry4(key: [u64; 3], value: u64) -> [u64; 2] {
    [key[0] | key[2] << 32, marked(value)]
}

/// The same for IPv6.
#[inline(always)]
pub(crate) fn entry6(key: [u64; 3], value: u64) -> [u64; 4] {
    [key[0], key[1], key[2] & 0xffff_ffff, marked(value)]
}

/// The hash of an entry's key: all but its last word.
#[inline(always)]
fn hash<const W: usize>(secret: [u64; 2], entry: &[u64; W]) -> u64 {
    if W == 2 { hash4(secret, entry[0]) } else { hash6(secret, [entry[0], entry[1], entry[2]]) }
}

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[inline(always)]
fn hash4(secret: [u64; 2], key: u64) -> u64 {
    fold(fold(key ^ secret[0], 0x9e37_79b9_7f4a_7c15) ^ secret[1], 0xd1b5_4a32_d192_ed03)
}

#[inline(always)]
fn hash6(secret: [u64; 2], key: [u64; 3]) -> u64 {
    let first = fold(key[0] ^ secret[0], key[1] ^ 0x9e37_79b9_7f4a_7c15);
    fold(first ^ secret[1], key[2] ^ key[0].rotate_left(29) ^ 0xd1b5_4a32_d192_ed03)
}

/// Where in its page a bucket begins, in bytes.
#[inline(always)]
fn line_of(hash: u64) -> usize {
    const { assert!(PER_PAGE == 64 && BUCKET_WORDS * 8 == 64) }
    hash as usize & (PER_PAGE - 1) << 6
}

/// The number of the page, to be taken modulo the entries of the top.
#[inline(always)]
fn page_of(hash: u64) -> usize {
    (hash >> 12) as usize
}

/// Have both entries the same key?
#[inline(always)]
fn is_same<const W: usize>(key: &[u64; W], word: impl Fn(usize) -> u64) -> bool {
    (0..W - 1).fold(0, |differing, index| differing | (word(index) ^ key[index])) == 0
}

/// What a lookup of an IPv4 neighbour needs of a version: its top, found to be
/// inside of the mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready(Entries);

impl Ready {
    /// `None`: there is no neighbour.
    pub(crate) fn new(words: &ReadWords, [top, pages]: [u32; 2]) -> Option<Ready> {
        let count = (pages as usize).checked_next_power_of_two().filter(|_| pages != 0)?;
        words.entries(word_of(top), count).map(Ready)
    }

    /// The last word of the entry with this key (the first word), if it stands in its
    /// bucket; what [`has_mac`] says no to if there may be more to it.
    #[inline(always)]
    pub(crate) fn find(&self, words: &ReadWords, secret: [u64; 2], key: u64) -> u64 {
        let hash = hash4(secret, key);
        let page = words.entry_of(self.0, page_of(hash));
        // Of zeros, the key of 0.0.0.0 on no link, are empty places and one that names
        // a rest, too: they are behind it, and the first one of a key counts.
        words.paired(page as usize + line_of(hash), key)
    }
}

/// Is this the last word of an entry with a MAC address?
#[inline(always)]
pub(crate) fn has_mac(last: u64) -> bool {
    last & HAS_MAC != 0
}

/// The last word of the entry with the key of `entry`.
pub(crate) fn find<const W: usize>(
    words: &impl Words,
    [top, pages]: [u32; 2],
    secret: [u64; 2],
    entry: &[u64; W],
) -> Option<u64> {
    if pages == 0 {
        return None;
    }
    let hash = hash(secret, entry);
    let page = page_of(hash) & ((pages as usize).next_power_of_two() - 1);
    let at = (words.half(word_of(top), page) as usize + line_of(hash)) / 8;
    let word = |index: usize| words.get_near(at, index);
    for place in (0..BUCKET_WORDS).step_by(W) {
        let last = word(place + W - 1);
        // Zeros are no key where there is no entry.
        if last & PRESENT != 0 && is_same(entry, |index| word(place + index)) {
            return Some(last);
        }
    }
    let last = word(BUCKET_WORDS - 1);
    if last & REST == 0 { None } else { find_in_rest(words, last, entry) }
}

#[cold]
#[inline(never)]
fn find_in_rest<const W: usize>(words: &impl Words, last: u64, entry: &[u64; W]) -> Option<u64> {
    let at = word_of(last as u32);
    let count = (words.get(at) as usize).min(REST_MAX);
    (0..count)
        .map(|index| at + 1 + index * W)
        .find(|at| is_same(entry, |word| words.get(at + word)))
        .map(|at| words.get(at + W - 1))
}

/// The writer's side of a table of entries of `W` words.
#[derive(Debug)]
pub(crate) struct Table<const W: usize> {
    top: u32,
    pages: u32,
    len: u64,
    secret: [u64; 2],
}

/// A bucket: its page's number and its line in it, in bytes.
type Bucket = (usize, usize);

impl<const W: usize> Table<W> {
    /// Entries of a bucket.
    const PLACES: usize = BUCKET_WORDS / W;

    pub(crate) fn new(secret: [u64; 2]) -> Self {
        const { assert!(UNIT_BYTES * 4 == BUCKET_WORDS * 8) }
        Table { top: 0, pages: 0, len: 0, secret }
    }

    /// The top of the pages and how many there are.
    pub(crate) fn root(&self) -> [u32; 2] {
        [self.top, self.pages]
    }

    /// Entries of the top.
    fn size(&self) -> usize {
        (self.pages as usize).next_power_of_two()
    }

    fn top_words(&self) -> usize {
        self.size().div_ceil(2)
    }

    fn bucket(&self, entry: &[u64; W]) -> Bucket {
        let hash = hash(self.secret, entry);
        let page = page_of(hash) & (self.size() - 1);
        // One that doesn't exist yet is the one with a bit less.
        (if page < self.pages as usize { page } else { page - self.size() / 2 }, line_of(hash))
    }

    /// The block of a page.
    fn page<M: Memory>(&self, store: &Store<M>, page: usize) -> u32 {
        store.get32(word_of(self.top), page) / UNIT_BYTES as u32
    }

    /// A page is this block now.
    fn name<M: Memory>(&self, store: &Store<M>, page: usize, block: u32) {
        let (top, half) = (word_of(self.top), self.size() / 2);
        store.put32(top, page, block * UNIT_BYTES as u32);
        if page < half && page + half >= self.pages as usize {
            store.put32(top, page + half, block * UNIT_BYTES as u32);
        }
    }

    /// The first word of a page, made fresh.
    fn own<M: Memory>(&mut self, store: &mut Store<M>, page: usize) -> Result<usize, Full> {
        let found = self.page(store, page);
        if store.is_fresh(found) {
            // Then the top is fresh, too: it was changed to name this page.
            return Ok(word_of(found));
        }
        self.top = store.own(self.top, self.top_words())?;
        let owned = store.own(found, PAGE_WORDS)?;
        self.name(store, page, owned);
        Ok(word_of(owned))
    }

    /// One page more, of zeros.
    fn push<M: Memory>(&mut self, store: &mut Store<M>) -> Result<(), Full> {
        let page = store.allocate(PAGE_WORDS)?;
        for word in 0..PAGE_WORDS {
            store.put(word_of(page) + word, 0);
        }
        let (size, words) = (self.size(), self.top_words());
        if self.pages == 0 {
            self.top = store.allocate(words)?;
        } else if self.pages as usize == size {
            let top = store.allocate(size)?;
            for index in 0..2 * size {
                let same = store.get32(word_of(self.top), index % size);
                store.put32(word_of(top), index, same);
            }
            store.retire(self.top);
            self.top = top;
        } else {
            self.top = store.own(self.top, words)?;
        }
        self.pages += 1;
        self.name(store, self.pages as usize - 1, page);
        Ok(())
    }

    /// The first word of a bucket.
    fn place<M: Memory>(&self, store: &Store<M>, (page, line): Bucket) -> usize {
        word_of(self.page(store, page)) + line / 8
    }

    /// The block with the rest of a bucket; 0: there is none.
    fn rest<M: Memory>(&self, store: &Store<M>, bucket: Bucket) -> u32 {
        let last = store.get(self.place(store, bucket) + BUCKET_WORDS - 1);
        if last & REST == 0 { 0 } else { last as u32 & tag::OFFSET }
    }

    fn read<M: Memory>(&self, store: &Store<M>, bucket: Bucket) -> Vec<[u64; W]> {
        let at = self.place(store, bucket);
        let entry = |at: usize| core::array::from_fn(|word| store.get(at + word));
        let places = (0..Self::PLACES).map(|place| entry(at + place * W));
        let mut entries: Vec<[u64; W]> =
            places.filter(|entry| entry[W - 1] & PRESENT != 0).collect();
        let rest = self.rest(store, bucket);
        if rest != 0 {
            let at = word_of(rest);
            let count = store.get(at) as usize;
            entries.extend((0..count).map(|index| entry(at + 1 + index * W)));
        }
        entries
    }

    /// A bucket has these entries now.
    fn write<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        bucket: Bucket,
        entries: &[[u64; W]],
    ) -> Result<(), Full> {
        let before = self.rest(store, bucket);
        let mut words = [0; BUCKET_WORDS];
        let mut here = entries;
        if entries.len() > Self::PLACES {
            let rest;
            (here, rest) = entries.split_at(Self::PLACES - 1);
            let block = store.allocate(1 + rest.len() * W)?;
            let at = word_of(block);
            store.put(at, rest.len() as u64);
            for (word, value) in rest.iter().flatten().enumerate() {
                store.put(at + 1 + word, *value);
            }
            words[BUCKET_WORDS - 1] = REST | u64::from(block);
        }
        for (word, value) in here.iter().flatten().enumerate() {
            words[word] = *value;
        }
        let at = self.own(store, bucket.0)? + bucket.1 / 8;
        for (word, value) in words.into_iter().enumerate() {
            store.put(at + word, value);
        }
        if before != 0 {
            store.retire(before);
        }
        Ok(())
    }

    /// Adds a neighbour or replaces its value.
    pub(crate) fn insert<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        entry: [u64; W],
    ) -> Result<(), Full> {
        if self.pages == 0 {
            self.push(store)?;
        }
        let bucket = self.bucket(&entry);
        let mut entries = self.read(store, bucket);
        match entries.iter_mut().find(|found| found[..W - 1] == entry[..W - 1]) {
            Some(found) if *found == entry => return Ok(()),
            Some(found) => *found = entry,
            None => {
                entries.push(entry);
                self.len += 1;
            }
        }
        self.write(store, bucket, &entries)?;
        // One place of four is used: hardly any bucket has more entries than places,
        // and hardly any lookup a surprise.
        if self.len * 4 > u64::from(self.pages) * (PER_PAGE * Self::PLACES) as u64 {
            self.split(store)?;
        }
        Ok(())
    }

    /// One page more: it takes its part of the page that had it.
    fn split<M: Memory>(&mut self, store: &mut Store<M>) -> Result<(), Full> {
        let new = self.pages as usize;
        let old = new - (1 << new.ilog2());
        self.push(store)?;
        for line in (0..PER_PAGE).map(|bucket| bucket * BUCKET_WORDS * 8) {
            let entries = self.read(store, (old, line));
            let (stay, go): (Vec<[u64; W]>, Vec<[u64; W]>) =
                entries.iter().partition(|entry| self.bucket(entry).0 == old);
            if !go.is_empty() {
                self.write(store, (old, line), &stay)?;
                self.write(store, (new, line), &go)?;
            }
        }
        Ok(())
    }

    /// Removes the neighbour with the key of `entry`.
    pub(crate) fn remove<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        entry: &[u64; W],
    ) -> Result<(), Full> {
        if self.pages == 0 {
            return Ok(());
        }
        let bucket = self.bucket(entry);
        let mut entries = self.read(store, bucket);
        let is_this = |found: &[u64; W]| found[..W - 1] == entry[..W - 1];
        let Some(index) = entries.iter().position(is_this) else { return Ok(()) };
        entries.swap_remove(index);
        self.len -= 1;
        self.write(store, bucket, &entries)?;
        if self.len == 0 {
            self.clear(store);
        }
        Ok(())
    }

    /// Gives everything back.
    pub(crate) fn clear<M: Memory>(&mut self, store: &mut Store<M>) {
        for page in 0..self.pages as usize {
            for line in (0..PER_PAGE).map(|bucket| bucket * BUCKET_WORDS * 8) {
                let rest = self.rest(store, (page, line));
                if rest != 0 {
                    store.retire(rest);
                }
            }
            store.retire(self.page(store, page));
        }
        if self.top != 0 {
            store.retire(self.top);
        }
        (self.top, self.pages, self.len) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::testing::{self, Random};

    const SECRET: [u64; 2] = [0x1234_5678_9abc_def0, 0xfeed_f00d_dead_beef];

    fn run<const W: usize>(entry: impl Fn([u64; 3], u64) -> [u64; W], most: u64, seed: u64) {
        let mut store = testing::store(1 << 23);
        let mut table = Table::<W>::new(SECRET);
        let mut model: HashMap<[u64; 3], u64> = HashMap::new();
        let mut random = Random(seed);
        let mut version = 0;
        let key = |random: &mut Random| {
            // Zeros, as in a place without entry, and ones, in each part.
            let mut part = |common| match random.below(50) {
                0 => 0,
                1 => most,
                _ => common,
            };
            let (low, high) = (part(1), if W == 2 { 0 } else { part(0) });
            let low = if low == 1 { random.below(8000) } else { low };
            [low, high, [0, 1, u64::from(u32::MAX)][random.below(3) as usize]]
        };
        let mut has_rest = false;
        for step in 0..30_000 {
            let changed = key(&mut random);
            if random.below(10) < if step < 15_000 { 8 } else { 3 } {
                // Addresses of zeros and ones, too, and none.
                let value = [0, 6 << 48, (7 << 48) - 1, random.next() >> 8];
                let value = value[random.below(4) as usize];
                table.insert(&mut store, entry(changed, value)).unwrap();
                model.insert(changed, entry(changed, value)[W - 1]);
            } else {
                table.remove(&mut store, &entry(changed, 0)).unwrap();
                model.remove(&changed);
            }
            assert_eq!(table.len as usize, model.len());
            let probe = key(&mut random);
            let found = find(store.mem(), table.root(), SECRET, &entry(probe, 0));
            assert_eq!(found, model.get(&probe).copied());
            if step % 10 == 0 {
                version += 1;
                store.committed(version);
            }
            if step % 5_000 == 0 {
                has_rest |= buckets(&table).any(|bucket| table.rest(&store, bucket) != 0);
            }
        }
        assert!(has_rest, "no bucket has more than its places");
        for (key, value) in &model {
            let found = find(store.mem(), table.root(), SECRET, &entry(*key, 0));
            assert_eq!(found, Some(*value));
        }
        for key in model.keys() {
            table.remove(&mut store, &entry(*key, 0)).unwrap();
        }
        for _ in 0..3 {
            version += 1;
            store.committed(version);
        }
        assert_eq!(store.usage().used, 0);
    }

    fn buckets<const W: usize>(table: &Table<W>) -> impl Iterator<Item = Bucket> + use<W> {
        let pages = table.pages as usize;
        (0..pages).flat_map(|page| (0..PER_PAGE).map(move |bucket| (page, bucket * 64)))
    }

    #[test]
    fn agrees_with_a_model() {
        run(entry4, u32::MAX.into(), 1);
        run(entry6, u64::MAX, 2);
    }

    /// A place that names a block has no key; 0.0.0.0 on no link has one of zeros.
    #[test]
    fn the_neighbour_whose_key_is_zeros_is_found_beside_a_rest() {
        fn check<const W: usize>(entry: impl Fn([u64; 3], u64) -> [u64; W]) {
            let mut store = testing::store(1 << 20);
            let mut table = Table::<W>::new(SECRET);
            table.push(&mut store).unwrap();
            let bucket = |n: u64| line_of(hash(SECRET, &entry([n, 0, 0], 0)));
            let keys: Vec<u64> = (0..).filter(|n| bucket(*n) == bucket(0)).take(6).collect();
            let find = |store: &Store<_>, table: &Table<W>| {
                find(store.mem(), table.root(), SECRET, &entry([0; 3], 0))
            };
            for n in &keys[1..] {
                table.insert(&mut store, entry([*n, 0, 0], *n)).unwrap();
            }
            assert_ne!(table.rest(&store, (0, bucket(0))), 0);
            assert_eq!(find(&store, &table), None);
            table.insert(&mut store, entry([0; 3], 0)).unwrap();
            assert_eq!(find(&store, &table), Some(PRESENT));
            // Among the entries of the bucket itself, too.
            for n in &keys[1..5] {
                table.remove(&mut store, &entry([*n, 0, 0], 0)).unwrap();
                table.insert(&mut store, entry([*n, 0, 0], *n)).unwrap();
                assert_eq!(find(&store, &table), Some(PRESENT));
            }
        }
        check(entry4);
        check(entry6);
    }

    #[test]
    fn a_bucket_with_more_than_readers_look_at_does_not_come_up() {
        // 200,000 neighbours of the kinds that come up: dense addresses, one per link.
        fn check<const W: usize>(entry: impl Fn(u64) -> [u64; W]) {
            for secret in [SECRET, [SECRET[1], SECRET[0]], [!SECRET[0], SECRET[1] << 7]] {
                let pages = (200_000_usize * W / 2 / PER_PAGE).next_power_of_two();
                let mut counts = vec![0_u8; pages * PER_PAGE];
                for n in 0..200_000 {
                    let hash = hash(secret, &entry(n));
                    counts[page_of(hash) % pages * PER_PAGE + line_of(hash) / 64] += 1;
                }
                assert!(counts.iter().all(|&count| count < 24), "{:?}", counts.iter().max());
            }
        }
        check(|n| entry4([n.swap_bytes() >> 32, 0, 1], 0));
        check(|n| entry4([(0x0a00_0000 + n).swap_bytes() >> 32, 0, 1 + n % 32], 0));
        check(|n| entry4([0x0100_000a, 0, n], 0));
        check(|n| entry6([0x0000_0000_0000_80fe, 1 << 56, n], 0));
        check(|n| entry6([n << 32, n << 48, 3], 0));
    }
}
