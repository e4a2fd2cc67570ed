//! Neighbours by address and link: a hash table, copy-on-write.
//!
//! A directory (pages of 256 references under a top) names a block per bucket:
//! a word with the number of entries and eight bits of each hash of the first
//! seven, then each neighbour's 40 canonical bytes as five words. By these bits a
//! lookup knows which entry to compare: trying them one after the other, it would
//! guess wrongly every other time, and wait for each guess. The table grows by one bucket at a time (linear hashing): no
//! change ever has to move more than one bucket. The hash is keyed, so who can
//! make neighbours can't fill one bucket with them.
use crate::layout::word_of;
use crate::pages::{Pages, page_at};
use crate::store::{Full, Memory, Store, entry32};
use crate::words::Words;

/// A neighbour's canonical bytes: key three words, value two.
pub(crate) type Words5 = [u64; 5];

const ENTRY_WORDS: usize = 5;
/// Words of a page of the directory: 1 KiB.
const PAGE_WORDS: usize = 128;
/// References in a page.
const PER_PAGE: usize = PAGE_WORDS * 2;
/// No reader looks at more entries of a bucket than this. Buckets have one
/// entry on average; 64 in one have a probability below 10^-80.
const BUCKET_MAX: usize = 64;

/// The key's hash.
#[inline(always)]
pub(crate) fn hash(secret: [u64; 2], key: [u64; 3]) -> u64 {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product >> 64) as u64 ^ product as u64
    };
    let first = fold(key[0] ^ secret[0], key[1] ^ 0x9e37_79b9_7f4a_7c15);
    fold(first ^ secret[1], key[2] ^ key[0].rotate_left(29) ^ 0xd1b5_4a32_d192_ed03)
}

#[inline(always)]
fn bucket_of(hash: u64, buckets: u32) -> usize {
    let size = u64::from(buckets).next_power_of_two();
    let bucket = hash & (size - 1);
    (if bucket < u64::from(buckets) { bucket } else { bucket & (size / 2 - 1) }) as usize
}

/// The words of the neighbour with this key.
#[inline(always)]
pub(crate) fn find(
    words: &impl Words,
    [top, buckets]: [u32; 2],
    secret: [u64; 2],
    key: [u64; 3],
) -> Option<Words5> {
    if buckets == 0 {
        return None;
    }
    let hash = hash(secret, key);
    let bucket = bucket_of(hash, buckets);
    let block = entry32(words, page_at(words, top, bucket / PER_PAGE), bucket % PER_PAGE);
    if block == 0 {
        return None;
    }
    let at = word_of(block);
    let head = words.get(at);
    let likely = likely(head, hash);
    if let Some(found) = (likely < MARKED).then(|| at_index(words, at, likely, key)).flatten() {
        return Some(found);
    }
    if likely >= MARKED && count_of(head) <= MARKED {
        return None;
    }
    // The bits were another entry's as well, or the bucket has more than seven.
    (0..count_of(head).min(BUCKET_MAX)).find_map(|index| at_index(words, at, index, key))
}

/// Entries whose bits are in a block's first word.
const MARKED: usize = 7;

/// The bits of a hash that are there: others than those that choose the bucket.
fn mark(hash: u64) -> u64 {
    hash >> 56
}

#[inline(always)]
fn count_of(head: u64) -> usize {
    (head & 0xff) as usize
}

/// The first entry with the bits of this hash; [`MARKED`] or more: none.
#[inline(always)]
fn likely(head: u64, hash: u64) -> usize {
    const LOW: u64 = 0x007f_7f7f_7f7f_7f7f;
    const ONES: u64 = 0x0001_0101_0101_0101;
    let differing = (head >> 8) ^ (mark(hash) * ONES);
    // The highest bit of each byte that is 0, without a carry between bytes.
    let equal = !(((differing & LOW) + LOW) | differing | LOW) & (ONES << 7);
    let there = u64::MAX.checked_shr(64 - 8 * count_of(head).min(MARKED) as u32).unwrap_or(0);
    (equal & there).trailing_zeros() as usize / 8
}

/// Entry `index` of a block, if it is this key's.
#[inline(always)]
fn at_index(words: &impl Words, at: usize, index: usize, key: [u64; 3]) -> Option<Words5> {
    let entry = at + 1 + index * ENTRY_WORDS;
    let word = |index: usize| words.get(entry + index);
    let differing = (word(0) ^ key[0]) | (word(1) ^ key[1]) | (word(2) ^ key[2]);
    (differing == 0).then(|| [key[0], key[1], key[2], word(3), word(4)])
}

/// The writer's side of the table.
#[derive(Debug)]
pub(crate) struct Table {
    pages: Pages<PAGE_WORDS>,
    buckets: u32,
    len: u64,
    secret: [u64; 2],
}

impl Table {
    pub(crate) fn new(secret: [u64; 2]) -> Table {
        Table { pages: Pages::default(), buckets: 0, len: 0, secret }
    }

    /// The top of the directory and the number of buckets.
    pub(crate) fn root(&self) -> [u32; 2] {
        [self.pages.top, self.buckets]
    }

    fn block<M: Memory>(&self, store: &Store<M>, bucket: usize) -> u32 {
        entry32(
            store.mem(),
            page_at(store.mem(), self.pages.top, bucket / PER_PAGE),
            bucket % PER_PAGE,
        )
    }

    fn set_block<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        bucket: usize,
        block: u32,
    ) -> Result<(), Full> {
        let page = self.pages.own(store, bucket / PER_PAGE)?;
        store.put32(page, bucket % PER_PAGE, block);
        Ok(())
    }

    fn read<M: Memory>(store: &Store<M>, block: u32) -> Vec<Words5> {
        if block == 0 {
            return Vec::new();
        }
        let at = word_of(block);
        (0..count_of(store.get(at)))
            .map(|index| {
                core::array::from_fn(|word| store.get(at + 1 + index * ENTRY_WORDS + word))
            })
            .collect()
    }

    /// Replaces a bucket's block by one with these entries.
    fn write<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        bucket: usize,
        before: u32,
        entries: &[Words5],
    ) -> Result<(), Full> {
        let mut block = 0;
        if !entries.is_empty() {
            block = store.allocate(1 + entries.len() * ENTRY_WORDS)?;
            let at = word_of(block);
            let marks = entries.iter().take(MARKED).enumerate().map(|(index, entry)| {
                mark(hash(self.secret, [entry[0], entry[1], entry[2]])) << (8 * (index + 1))
            });
            store.put(at, entries.len() as u64 | marks.sum::<u64>());
            for (index, entry) in entries.iter().enumerate() {
                for (word, value) in entry.iter().enumerate() {
                    store.put(at + 1 + index * ENTRY_WORDS + word, *value);
                }
            }
        }
        if before != 0 {
            store.retire(before);
        }
        self.set_block(store, bucket, block)
    }

    /// Adds a neighbour or replaces its value.
    pub(crate) fn insert<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        entry: Words5,
    ) -> Result<(), Full> {
        if self.buckets == 0 {
            self.pages.push(store)?;
            self.buckets = PER_PAGE as u32;
        }
        let key = [entry[0], entry[1], entry[2]];
        let bucket = bucket_of(hash(self.secret, key), self.buckets);
        let block = self.block(store, bucket);
        let mut entries = Table::read(store, block);
        match entries.iter_mut().find(|found| found[..3] == key) {
            Some(found) => *found = entry,
            None => {
                entries.push(entry);
                self.len += 1;
            }
        }
        self.write(store, bucket, block, &entries)?;
        if self.len > u64::from(self.buckets) {
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
        let block = self.block(store, old);
        self.buckets += 1;
        let entries = Table::read(store, block);
        let (stay, go): (Vec<Words5>, Vec<Words5>) = entries.iter().partition(|entry| {
            bucket_of(hash(self.secret, [entry[0], entry[1], entry[2]]), self.buckets) == old
        });
        if !go.is_empty() {
            self.write(store, old, block, &stay)?;
        }
        self.write(store, new, 0, &go)
    }

    /// Removes a neighbour.
    pub(crate) fn remove<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        key: [u64; 3],
    ) -> Result<(), Full> {
        if self.buckets == 0 {
            return Ok(());
        }
        let bucket = bucket_of(hash(self.secret, key), self.buckets);
        let block = self.block(store, bucket);
        let mut entries = Table::read(store, block);
        let Some(index) = entries.iter().position(|found| found[..3] == key) else { return Ok(()) };
        entries.swap_remove(index);
        self.len -= 1;
        self.write(store, bucket, block, &entries)?;
        if self.len == 0 {
            self.clear(store);
        }
        Ok(())
    }

    /// Gives everything back.
    pub(crate) fn clear<M: Memory>(&mut self, store: &mut Store<M>) {
        for bucket in 0..self.buckets as usize {
            let block = self.block(store, bucket);
            if block != 0 {
                store.retire(block);
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

    #[test]
    fn agrees_with_a_model() {
        let mut store = testing::store(1 << 22);
        let mut table = Table::new([1, 2]);
        let mut model: HashMap<[u64; 3], [u64; 2]> = HashMap::new();
        let mut random = Random(1);
        let mut version = 0;
        for step in 0..30_000 {
            let key = [random.below(8000), 0, random.below(2)];
            if random.below(10) < if step < 15_000 { 8 } else { 3 } {
                let value = [random.next(), random.next()];
                table.insert(&mut store, [key[0], key[1], key[2], value[0], value[1]]).unwrap();
                model.insert(key, value);
            } else {
                table.remove(&mut store, key).unwrap();
                model.remove(&key);
            }
            assert_eq!(table.len as usize, model.len());
            let probe = [random.below(8000), 0, random.below(2)];
            let found =
                find(store.mem(), table.root(), [1, 2], probe).map(|words| [words[3], words[4]]);
            assert_eq!(found, model.get(&probe).copied());
            if step % 10 == 0 {
                version += 1;
                store.committed(version);
            }
        }
        for (key, value) in &model {
            let found = find(store.mem(), table.root(), [1, 2], *key).unwrap();
            assert_eq!([found[3], found[4]], *value);
        }
        for key in model.keys() {
            table.remove(&mut store, *key).unwrap();
        }
        for _ in 0..3 {
            version += 1;
            store.committed(version);
        }
        assert_eq!(store.usage().used, 0);
    }

    #[test]
    fn marks_are_found_as_one_by_one() {
        let mut random = Random(2);
        for _ in 0..100_000 {
            let marks: Vec<u64> = (0..random.below(10)).map(|_| random.below(5) * 63).collect();
            let mut head = marks.len() as u64;
            for (index, mark) in marks.iter().take(MARKED).enumerate() {
                head |= mark << (8 * (index + 1));
            }
            let wanted = random.below(5) * 63;
            let expected = marks.iter().take(MARKED).position(|mark| *mark == wanted);
            let found = likely(head, wanted << 56);
            assert_eq!((found < MARKED).then_some(found), expected, "{head:x} {wanted:x}");
        }
    }

    #[test]
    fn a_bucket_with_more_than_readers_look_at_does_not_come_up() {
        // 200,000 neighbours of the kinds that come up: dense addresses, one per link.
        for secret in [[0, 0], [1, 2], [u64::MAX, 7]] {
            let mut counts = vec![0_u8; 100_003];
            for n in 0..200_000_u64 {
                let key = match n % 3 {
                    0 => [n.swap_bytes() >> 32, 0, 1 << 32],
                    1 => [0x0000_0000_0000_80fe, 1 << 56, n],
                    _ => [n << 32, n << 48, 6 << 32 | 3],
                };
                counts[bucket_of(hash(secret, key), 100_003)] += 1;
            }
            assert!(counts.iter().all(|&count| count < 24), "{:?}", counts.iter().max());
        }
    }
}
