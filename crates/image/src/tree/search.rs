//! The keys of a node, and where one is among them.
use crate::store::{Memory, Store};
use crate::words::Words;

/// The keys of a node: where they begin, and how many it has room for.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    pub(super) at: usize,
    pub(super) room: usize,
}

impl Keys {
    #[inline(always)]
    pub(super) fn place(self, index: usize, word: usize) -> usize {
        self.at + word * self.room + index
    }

    #[inline(always)]
    pub(super) fn get<const K: usize>(self, words: &impl Words, index: usize) -> [u64; K] {
        core::array::from_fn(|word| words.get(self.place(index, word)))
    }

    pub(super) fn put<M: Memory, const K: usize>(
        self,
        store: &Store<M>,
        index: usize,
        key: &[u64; K],
    ) {
        for (word, value) in key.iter().enumerate() {
            store.put(self.place(index, word), *value);
        }
    }
}

/// The words of a key that a search compares first: in these few are equal.
pub(super) const fn lead_of(key_words: usize) -> usize {
    if key_words > 2 { 2 } else { 1 }
}

/// Is `a` below `b`? Two words at a time: keys mostly differ in the first two.
#[inline(always)]
pub(super) fn is_below<const K: usize>(a: &[u64; K], b: &[u64; K]) -> bool {
    if K == 1 {
        return a[0] < b[0];
    }
    let first = |key: &[u64; K]| u128::from(key[0]) << 64 | u128::from(key[1]);
    let (x, y) = (first(a), first(b));
    if K == 2 || x != y { x < y } else { a[2..] < b[2..] }
}

/// How many of the first `count` keys begin with words below `key`'s.
///
/// Which way a search in a random key goes is nothing that a processor could
/// guess. So nothing is branched on: every eighth key is compared, then eight,
/// and what comparisons say is added up. The lines that it waits for are so all
/// asked for at once.
#[inline(always)]
pub(super) fn rank_of_lead<const K: usize>(
    words: &impl Words,
    keys: Keys,
    count: usize,
    key: &[u64; K],
) -> usize {
    const STEP: usize = 8;
    let pair = |first: u64, second: u64| u128::from(first) << 64 | u128::from(second);
    let is_before = |index: usize| {
        let first = words.get(keys.place(index, 0));
        if lead_of(K) == 1 {
            return first < key[0];
        }
        pair(first, words.get(keys.place(index, 1))) < pair(key[0], key[1])
    };
    // (As many as there may be, or the end of the loop would have to be foreseen.)
    let ends = (STEP - 1..keys.room).step_by(STEP);
    let blocks: usize = ends.map(|index| usize::from((index < count) & is_before(index))).sum();
    let from = blocks * STEP;
    let firsts = words.row::<STEP>(keys.place(from, 0));
    let bits = if lead_of(K) == 1 {
        bits_of(|index| firsts[index] < key[0])
    } else {
        let seconds = words.row::<STEP>(keys.place(from, 1));
        bits_of(|index| pair(firsts[index], seconds[index]) < pair(key[0], key[1]))
    };
    // Behind the last key may be anything.
    (from + bits.trailing_ones() as usize).min(count)
}

/// What is said of each of eight, a bit each.
#[inline(always)]
fn bits_of(says: impl Fn(usize) -> bool) -> u32 {
    (0..8).rev().fold(0, |bits, index| 2 * bits + u32::from(says(index)))
}

/// How many of the first `count` keys are below `key` (or equal to it, if
/// `or_equal`).
#[inline(always)]
pub(super) fn rank<const K: usize>(
    words: &impl Words,
    keys: Keys,
    count: usize,
    key: &[u64; K],
    or_equal: bool,
) -> usize {
    let lead = lead_of(K);
    let mut low = rank_of_lead(words, keys, count, key);
    // What is left are those that begin alike.
    while low < count && (0..lead).all(|word| words.get(keys.place(low, word)) == key[word]) {
        let other = keys.get::<K>(words, low);
        if is_below(key, &other) || !or_equal && other == *key {
            break;
        }
        low += 1;
    }
    low
}
