//! Neighbours' MAC addresses by address and link: two hash tables, one for each
//! family, copy-on-write.
//!
//! A bucket is a cache line of its own, with four entries for IPv4 and two for IPv6;
//! pages of 64 buckets lie under a top. So a lookup misses once: the top is small. The
//! table grows by one bucket at a time (linear hashing): no change ever has to move
//! more than one bucket. The hash is keyed, so who can make neighbours can't fill one
//! bucket with them.
//!
//! ```text
//! IPv4    address u32, link u32                  | MAC address, 6 bytes | 6 | 0x80 |
//! IPv6    address, 16 bytes        | link u64    | MAC address, 6 bytes | 6 | 0x80 |
//! ```
//!
//! Without a MAC address, zeros and 0 instead of 6; an entry that is none, all
//! zeros, and behind those that are. Where a bucket has more entries than places,
//! its last place names a block with the rest: their number, then the entries.
use crate::layout::{UNIT_BYTES, tag, word_of};
use crate::pages::{Pages, page_at};
use crate::store::{Full, Memory, Store};
use crate::words::Words;

/// Words of a bucket: a cache line.
const BUCKET_WORDS: usize = 8;
/// Words of a page: 4 KiB.
const PAGE_WORDS: usize = 512;
/// Buckets in a page.
const PER_PAGE: usize = PAGE_WORDS / BUCKET_WORDS;
/// No reader looks at more entries behind a bucket than this. There, 64 have a
/// probability below 10^-80.
const REST_MAX: usize = 64;
/// In an entry's last word: it is one.
const PRESENT: u64 = 1 << 63;
/// In the last word of a bucket's last place: a block has the rest.
const REST: u64 = 1 << 62;

/// The entry of a neighbour's key (canonical words) and first word of value, IPv4.
#[inline(always)]
pub(crate) fn entry4(key: [u64; 3], value: u64) -> [u64; 2] {
    [key[0] | key[2] << 32, value & (u64::MAX >> 8) | PRESENT]
}

/// The same for IPv6.
#[inline(always)]
pub(crate) fn entry6(key: [u64; 3], value: u64) -> [u64; 4] {
    [key[0], key[1], key[2] & 0xffff_ffff, value & (u64::MAX >> 8) | PRESENT]
}

/// The hash of an entry's key: all but its last word.
#[inline(always)]
fn hash<const W: usize>(secret: [u64; 2], entry: &[u64; W]) -> u64 {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product >> 64) as u64 ^ product as u64
    };
    if W == 2 {
        let first = fold(entry[0] ^ secret[0], 0x9e37_79b9_7f4a_7c15);
        return fold(first ^ secret[1], 0xd1b5_4a32_d192_ed03);
    }
    let first = fold(entry[0] ^ secret[0], entry[1] ^ 0x9e37_79b9_7f4a_7c15);
    fold(first ^ secret[1], entry[2] ^ entry[0].rotate_left(29) ^ 0xd1b5_4a32_d192_ed03)
}

#[inline(always)]
fn bucket_of(hash: u64, buckets: u32) -> usize {
    let size = u64::from(buckets).next_power_of_two();
    let bucket = hash & (size - 1);
    (if bucket < u64::from(buckets) { bucket } else { bucket & (size / 2 - 1) }) as usize
}

/// The word where a bucket begins.
#[inline(always)]
fn place_of(words: &impl Words, top: u32, bucket: usize) -> usize {
    page_at(words, top, bucket / PER_PAGE) + bucket % PER_PAGE * BUCKET_WORDS
}

/// Have both entries the same key?
#[inline(always)]
fn is_same<const W: usize>(key: &[u64; W], word: impl Fn(usize) -> u64) -> bool {
    (0..W - 1).fold(0, |differing, index| differing | (word(index) ^ key[index])) == 0
}

/// The last word of the entry with the key of `entry`.
#[inline(always)]
pub(crate) fn find<const W: usize>(
    words: &impl Words,
    [top, buckets]: [u32; 2],
    secret: [u64; 2],
    entry: &[u64; W],
) -> Option<u64> {
    if buckets == 0 {
        return None;
    }
    let at = place_of(words, top, bucket_of(hash(secret, entry), buckets));
    let word = |index: usize| words.get_near(at, index);
    let mut found = 0;
    for place in (0..BUCKET_WORDS).step_by(W) {
        let value = word(place + W - 1);
        // A place that is empty or names the rest has zeros where a key would be:
        // those of 0.0.0.0 on no link.
        let here = is_same(entry, |index| word(place + index)) & (value & PRESENT != 0);
        found |= if here { value } else { 0 };
    }
    if found & PRESENT != 0 {
        return Some(found);
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
    pages: Pages<PAGE_WORDS>,
    buckets: u32,
    len: u64,
    secret: [u64; 2],
}

impl<const W: usize> Table<W> {
    /// Entries of a bucket.
    const PLACES: usize = BUCKET_WORDS / W;

    pub(crate) fn new(secret: [u64; 2]) -> Self {
        const { assert!(UNIT_BYTES * 4 == BUCKET_WORDS * 8) }
        Table { pages: Pages::default(), buckets: 0, len: 0, secret }
    }

    /// The top of the pages and the number of buckets.
    pub(crate) fn root(&self) -> [u32; 2] {
        [self.pages.top, self.buckets]
    }

    /// The block with the rest of a bucket; 0: there is none.
    fn rest<M: Memory>(&self, store: &Store<M>, bucket: usize) -> u32 {
        let last = place_of(store.mem(), self.pages.top, bucket) + BUCKET_WORDS - 1;
        let last = store.get(last);
        if last & REST == 0 { 0 } else { last as u32 & tag::OFFSET }
    }

    fn read<M: Memory>(&self, store: &Store<M>, bucket: usize) -> Vec<[u64; W]> {
        let at = place_of(store.mem(), self.pages.top, bucket);
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
        bucket: usize,
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
        let at = self.pages.own(store, bucket / PER_PAGE)? + bucket % PER_PAGE * BUCKET_WORDS;
        for (word, value) in words.into_iter().enumerate() {
            store.put(at + word, value);
        }
        if before != 0 {
            store.retire(before);
        }
        Ok(())
    }

    fn bucket(&self, entry: &[u64; W]) -> usize {
        bucket_of(hash(self.secret, entry), self.buckets)
    }

    /// Adds a neighbour or replaces its value.
    pub(crate) fn insert<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        entry: [u64; W],
    ) -> Result<(), Full> {
        if self.buckets == 0 {
            self.pages.push(store)?;
            self.buckets = PER_PAGE as u32;
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
        // Three places of eight are used: few buckets have more entries than places.
        if self.len * 8 > u64::from(self.buckets) * 3 * Self::PLACES as u64 {
            self.split(store)?;
        }
        Ok(())
    }

    /// One bucket more: it takes its part of the bucket that had it.
    fn split<M: Memory>(&mut self, store: &mut Store<M>) -> Result<(), Full> {
        let new = self.buckets as usize;
        if new == self.pages.count as usize * PER_PAGE {
            self.pages.push(store)?;
        }
        let old = new - (1 << new.ilog2());
        let entries = self.read(store, old);
        self.buckets += 1;
        let (stay, go): (Vec<[u64; W]>, Vec<[u64; W]>) =
            entries.iter().partition(|entry| self.bucket(entry) == old);
        if !go.is_empty() {
            self.write(store, old, &stay)?;
            self.write(store, new, &go)?;
        }
        Ok(())
    }

    /// Removes the neighbour with the key of `entry`.
    pub(crate) fn remove<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        entry: &[u64; W],
    ) -> Result<(), Full> {
        if self.buckets == 0 {
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
        for bucket in 0..self.buckets as usize {
            let rest = self.rest(store, bucket);
            if rest != 0 {
                store.retire(rest);
            }
        }
        self.pages.clear(store);
        (self.buckets, self.len) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::testing::{self, Random};

    const SECRET: [u64; 2] = [0x1234_5678_9abc_def0, 0xfeed_f00d_dead_beef];

    fn run<const W: usize>(entry: impl Fn([u64; 3], u64) -> [u64; W], seed: u64) {
        let mut store = testing::store(1 << 22);
        let mut table = Table::<W>::new(SECRET);
        let mut model: HashMap<[u64; 3], u64> = HashMap::new();
        let mut random = Random(seed);
        let mut version = 0;
        let key = |random: &mut Random| [random.below(8000), 0, random.below(2)];
        for step in 0..30_000 {
            let changed = key(&mut random);
            if random.below(10) < if step < 15_000 { 8 } else { 3 } {
                let value = random.next() >> 8;
                table.insert(&mut store, entry(changed, value)).unwrap();
                model.insert(changed, value | PRESENT);
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
        }
        let has_rest = (0..table.buckets as usize).any(|bucket| table.rest(&store, bucket) != 0);
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

    #[test]
    fn agrees_with_a_model() {
        run(entry4, 1);
        run(entry6, 2);
    }

    /// A place that names a block has no key; 0.0.0.0 on no link has one of zeros.
    #[test]
    fn the_neighbour_whose_key_is_zeros_is_found_beside_a_rest() {
        fn check<const W: usize>(entry: impl Fn([u64; 3], u64) -> [u64; W]) {
            let mut store = testing::store(1 << 20);
            let mut table = Table::<W>::new(SECRET);
            let bucket = |n: u64| bucket_of(hash(SECRET, &entry([n, 0, 0], 0)), PER_PAGE as u32);
            let keys: Vec<u64> = (0..).filter(|n| bucket(*n) == bucket(0)).take(6).collect();
            let find = |store: &Store<_>, table: &Table<W>| {
                find(store.mem(), table.root(), SECRET, &entry([0; 3], 0))
            };
            for n in &keys[1..] {
                table.insert(&mut store, entry([*n, 0, 0], *n)).unwrap();
            }
            assert_ne!(table.rest(&store, bucket(0)), 0);
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
                let buckets = 200_000 * W as u32 / 3;
                let mut counts = vec![0_u8; buckets as usize];
                for n in 0..200_000 {
                    counts[bucket_of(hash(secret, &entry(n)), buckets)] += 1;
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
