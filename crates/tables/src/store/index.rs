//! The exact index: from a key's hash to its number in a slab.
//!
//! An open-addressing table of words, each a 32-bit tag from the hash beside
//! the number, so that a probe touches an entry only where the tags agree, and
//! growing never touches an entry at all.
//!
//! It is split into 256 segments by the hash's top byte. Each grows on its
//! own, by half: no growth moves more than 1/256 of the words, and a large
//! table is never emptier than 8/15. Within a segment a word's home is
//! `tag * capacity / 2^32`, which keeps words in the order of their tags (but
//! for what wraps at the end); growing is one pass in order.
//!
//! Removing shifts the words behind it back, as long as they are not at home:
//! there are no tombstones, so lookups don't slow down under churn.

/// Segments: 2^8, by the top byte of the hash.
const SEGMENTS: usize = 256;

/// A segment's first size; most segments of a small table never need more.
const SEGMENT_WORDS_MIN: usize = 4;

/// From hash to slab number.
#[derive(Debug)]
pub(crate) struct Index {
    segments: Vec<Segment>,
    len: usize,
}

#[derive(Clone, Debug, Default)]
struct Segment {
    /// `tag << 32 | number + 1`; 0: empty.
    words: Vec<u64>,
    used: u32,
}

impl Default for Index {
    fn default() -> Index {
        Index { segments: vec![Segment::default(); SEGMENTS], len: 0 }
    }
}

#[inline]
fn segment_of(hash: u64) -> usize {
    (hash >> 56) as usize
}

#[inline]
fn tag_of(hash: u64) -> u32 {
    (hash >> 24) as u32
}

impl Segment {
    #[inline]
    fn home(&self, tag: u32) -> usize {
        ((u64::from(tag) * self.words.len() as u64) >> 32) as usize
    }

    fn place(&mut self, word: u64) {
        let mut at = self.home((word >> 32) as u32);
        let words = &mut self.words[..];
        while words[at] != 0 {
            at += 1;
            if at == words.len() {
                at = 0;
            }
        }
        words[at] = word;
    }

    fn grow(&mut self) {
        let capacity = (self.words.len() * 3 / 2).max(SEGMENT_WORDS_MIN);
        let old = std::mem::replace(&mut self.words, vec![0; capacity]);
        for word in old.into_iter().filter(|&word| word != 0) {
            self.place(word);
        }
    }
}

impl Index {
    /// With room for about `len` numbers, so that it needn't grow to it.
    pub(crate) fn with_capacity(len: usize) -> Index {
        // A segment's share varies: a sixteenth more is enough for nearly all.
        let words = len / SEGMENTS * 17 / 16 * 8 / 7 + SEGMENT_WORDS_MIN;
        let segment = Segment { words: vec![0; words], used: 0 };
        Index { segments: vec![segment; SEGMENTS], len: 0 }
    }

    /// The number whose entry `matches`, among those with this hash.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut matches: impl FnMut(u32) -> bool) -> Option<u32> {
        let segment = &self.segments[segment_of(hash)];
        let words = &segment.words[..];
        if words.is_empty() {
            return None;
        }
        let tag = tag_of(hash);
        let mut at = segment.home(tag);
        loop {
            let word = words[at];
            if word == 0 {
                return None;
            }
            if (word >> 32) as u32 == tag && matches(word as u32 - 1) {
                return Some(word as u32 - 1);
            }
            at += 1;
            if at == words.len() {
                at = 0;
            }
        }
    }

    /// The first number with this hash's tag.
    #[inline]
    pub(crate) fn likely(&self, hash: u64) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// Asks for the word that a search for this hash begins with.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        let segment = &self.segments[segment_of(hash)];
        if let Some(word) = segment.words.get(segment.home(tag_of(hash))) {
            rtm_prefetch::read(word);
        }
    }

    /// Adds a number that is not there yet.
    pub(crate) fn insert(&mut self, hash: u64, number: u32) {
        let segment = &mut self.segments[segment_of(hash)];
        // At most 4/5 full: a probe ends at an empty word, after 13 on average.
        if (segment.used as usize + 1) * 5 > segment.words.len() * 4 {
            segment.grow();
        }
        segment.place(u64::from(tag_of(hash)) << 32 | u64::from(number + 1));
        segment.used += 1;
        self.len += 1;
    }

    /// Removes a number that is there.
    pub(crate) fn remove(&mut self, hash: u64, number: u32) {
        let segment = &mut self.segments[segment_of(hash)];
        let capacity = segment.words.len();
        let word = u64::from(tag_of(hash)) << 32 | u64::from(number + 1);
        let mut at = segment.home(tag_of(hash));
        while segment.words[at] != word {
            assert!(segment.words[at] != 0, "the number is in the index");
            at = (at + 1) % capacity;
        }
        // Close the gap: a word may move back to `at` unless its home lies
        // behind `at` (cyclically, between `at` and where it stands).
        let mut next = at;
        loop {
            next = (next + 1) % capacity;
            let word = segment.words[next];
            if word == 0 {
                break;
            }
            let home = segment.home((word >> 32) as u32);
            if (next + capacity - home) % capacity >= (next + capacity - at) % capacity {
                segment.words[at] = word;
                at = next;
            }
        }
        segment.words[at] = 0;
        segment.used -= 1;
        self.len -= 1;
        if segment.used == 0 {
            segment.words = Vec::new();
        }
    }

    /// Numbers held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes taken from the allocator.
    pub(crate) fn bytes(&self) -> usize {
        self.segments
            .iter()
            .map(|segment| segment.words.capacity() * 8 + size_of::<Segment>())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_million_numbers_are_found_and_the_table_is_dense() {
        let mut index = Index::default();
        let hash = |n: u32| {
            u64::from(n)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29)
                .wrapping_mul(0xd6e8_feb8_6659_fd93)
        };
        for n in 0..1_000_000 {
            index.insert(hash(n), n);
        }
        assert!((0..1_000_000).all(|n| index.find(hash(n), |m| m == n) == Some(n)));
        assert!(index.find(hash(1_000_001), |m| m == 1_000_001).is_none());
        assert!(index.bytes() < 12_500_000, "{} bytes", index.bytes());
        for n in 0..1_000_000 {
            index.remove(hash(n), n);
        }
        assert_eq!(index.len(), 0);
        assert!(index.bytes() < 16_384);
    }

    proptest! {
        /// Few segments and tags that collide, wrap and cluster.
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((any::<bool>(), 0_u32..40, 0_u64..6), 1..400)) {
            let mut index = Index::default();
            let mut model: HashMap<u32, u64> = HashMap::new();
            let tags = [0_u64, 1, 0x8000_0000, 0xffff_fff0, 0xffff_fffe, 0xffff_ffff];
            for (add, number, tag) in steps {
                let hash = (7 << 56) | (tags[tag as usize] << 24);
                if add && !model.contains_key(&number) {
                    index.insert(hash, number);
                    model.insert(number, hash);
                } else if let Some(hash) = model.remove(&number) {
                    index.remove(hash, number);
                }
                for (&number, &hash) in &model {
                    prop_assert_eq!(index.find(hash, |n| n == number), Some(number));
                }
                prop_assert_eq!(index.len(), model.len());
                for number in 0..40 {
                    if !model.contains_key(&number) {
                        for tag in tags {
                            prop_assert_eq!(index.find((7 << 56) | (tag << 24), |n| n == number), None);
                        }
                    }
                }
            }
        }
    }
}
