//! Ordered trees of fixed-size entries: all entities by key, whole and in
//! order. B+ trees, copy-on-write: what a version shows of them is never
//! written, and a node is copied before it is changed. Most changes are put
//! beside it instead.
//!
//! A key is `K` words compared as numbers, first word first; a value is `V`
//! words. A node has 128 words. In an inner node the value is a child, the key
//! its lower bound (the first child's counts as the lowest of all). Height 1 is
//! a leaf alone.
//!
//! ```text
//! word
//!    0 | entries                                              |
//!    1 | notes: version 56 bits | gone 1 bit | entry 7 bits   |  5 of them; 0: free
//!    6 | what each of them says: a value, or a child          |  5 times V words
//!      | the first words of all keys, then their second ones … |
//!      | the values, V words each; or the children            |
//! ```
//!
//! A search mostly needs the first words of the keys alone, and these lie close
//! together: five cache lines of a node's sixteen.
//!
//! Readers run over nodes that may be handed back under them: counts are
//! clamped, the way down is as long as the height in the root says, loads
//! outside give 0. What comes out is thrown away if the check fails.
mod ahead;
mod change;
mod notes;
mod search;

use core::marker::PhantomData;

pub(crate) use self::ahead::Hint;
pub(crate) use self::change::Kin;
use self::search::{Keys, is_below, rank};
use crate::layout::{TreeRoot, word_of};
use crate::words::Words;

/// Words of a node: 1 KiB.
pub(crate) const NODE_WORDS: usize = 128;
/// No tree is higher: 11 ^ 16 entries.
const HEIGHT_MAX: usize = 16;

/// The type of a tree: `K` words of key, `V` words of value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree<const K: usize, const V: usize> {
    pub(crate) at: TreeRoot,
    /// What was noted for later versions than this isn't seen.
    as_of: u64,
    entry: PhantomData<[u64; V]>,
}

/// An entry: key and value.
pub(crate) type Entry<const K: usize, const V: usize> = ([u64; K], [u64; V]);

impl<const K: usize, const V: usize> Tree<K, V> {
    const LEAF_MAX: usize = (NODE_WORDS - notes::end(V)) / (K + V);
    const INNER_MAX: usize = (NODE_WORDS - notes::end(1)) / (K + 1);
    /// A leaf with fewer is merged with another.
    const LEAF_MIN: usize = Self::LEAF_MAX / 4;

    /// The writer's, which sees everything.
    pub(crate) fn new(at: TreeRoot) -> Self {
        Tree::as_of(at, u64::MAX)
    }

    /// As a version shows it.
    pub(crate) fn as_of(at: TreeRoot, version: u64) -> Self {
        Tree { at, as_of: version, entry: PhantomData }
    }

    fn leaf_keys(leaf: usize) -> Keys {
        Keys { at: leaf + notes::end(V), room: Self::LEAF_MAX }
    }

    fn inner_keys(node: usize) -> Keys {
        Keys { at: node + notes::end(1), room: Self::INNER_MAX }
    }

    fn leaf_key(words: &impl Words, leaf: usize, index: usize) -> [u64; K] {
        Self::leaf_keys(leaf).get(words, index)
    }

    fn inner_key(words: &impl Words, node: usize, index: usize) -> [u64; K] {
        Self::inner_keys(node).get(words, index)
    }

    fn leaf_rank(
        words: &impl Words,
        leaf: usize,
        count: usize,
        key: &[u64; K],
        or_equal: bool,
    ) -> usize {
        rank(words, Self::leaf_keys(leaf), count, key, or_equal)
    }

    /// The child of a node that `key` is below; `or_equal`: or at whose bound it is.
    fn child_for(
        words: &impl Words,
        node: usize,
        count: usize,
        key: &[u64; K],
        or_equal: bool,
    ) -> usize {
        // What the first one's own bound would be is in nobody's way, and may be above others'.
        let Keys { at, room } = Self::inner_keys(node);
        rank(words, Keys { at: at + 1, room }, count.saturating_sub(1), key, or_equal)
    }

    fn value_at(leaf: usize, index: usize) -> usize {
        leaf + notes::end(V) + Self::LEAF_MAX * K + index * V
    }

    fn child_at(node: usize, index: usize) -> usize {
        node + notes::end(1) + Self::INNER_MAX * K + index
    }

    /// The value of an entry; `None`: it is gone.
    fn value(&self, words: &impl Words, leaf: usize, index: usize) -> Option<[u64; V]> {
        let at = match notes::seen(words, leaf, index, self.as_of) {
            Some((_, note)) if note.is_gone() => return None,
            Some((number, _)) => notes::said_at(leaf, number, V),
            None => Self::value_at(leaf, index),
        };
        Some(core::array::from_fn(|word| words.get(at + word)))
    }

    /// A child of a node.
    fn child(&self, words: &impl Words, node: usize, index: usize) -> u32 {
        let noted = notes::seen(words, node, index, self.as_of);
        let at = noted
            .map_or(Self::child_at(node, index), |(number, _)| notes::said_at(node, number, 1));
        words.get(at) as u32
    }

    fn leaf_count(words: &impl Words, node: usize) -> usize {
        (words.get(node) as usize).min(Self::LEAF_MAX)
    }

    fn inner_count(words: &impl Words, node: usize) -> usize {
        (words.get(node) as usize).min(Self::INNER_MAX)
    }

    /// The leaf where `key` belongs.
    #[inline]
    fn leaf_of(&self, words: &impl Words, key: &[u64; K]) -> Option<usize> {
        if self.at.height == 0 {
            return None;
        }
        let mut node = word_of(self.at.root);
        for _ in 1..self.at.height.min(HEIGHT_MAX as u32) {
            let child = Self::child_for(words, node, Self::inner_count(words, node), key, true);
            node = word_of(self.child(words, node, child));
        }
        Some(node)
    }

    /// Tells each node, whether it is a leaf, and goes on while it is answered
    /// true. Leaves are not read.
    pub(crate) fn each_node(&self, words: &impl Words, tell: &mut dyn FnMut(bool) -> bool) {
        let height = self.at.height.min(HEIGHT_MAX as u32);
        if height > 0 {
            self.each_below(words, word_of(self.at.root), height, tell);
        }
    }

    fn each_below(
        &self,
        words: &impl Words,
        node: usize,
        height: u32,
        tell: &mut dyn FnMut(bool) -> bool,
    ) -> bool {
        if !tell(height == 1) {
            return false;
        }
        height == 1
            || (0..Self::inner_count(words, node)).all(|child| {
                let child = word_of(self.child(words, node, child));
                self.each_below(words, child, height - 1, tell)
            })
    }

    /// The value of `key`.
    pub(crate) fn find(&self, words: &impl Words, key: &[u64; K]) -> Option<[u64; V]> {
        let leaf = self.leaf_of(words, key)?;
        let count = Self::leaf_count(words, leaf);
        let index = Self::leaf_rank(words, leaf, count, key, false);
        if index < count && Self::leaf_key(words, leaf, index) == *key {
            self.value(words, leaf, index)
        } else {
            None
        }
    }

    /// The first entries at or behind `from`: those of one leaf, handed to
    /// `take` until it says no. Returns where to go on; `None`: that was all.
    pub(crate) fn read_from(
        &self,
        words: &impl Words,
        from: &[u64; K],
        mut take: impl FnMut([u64; K], [u64; V]) -> bool,
    ) -> Option<[u64; K]> {
        if self.at.height == 0 {
            return None;
        }
        let mut node = word_of(self.at.root);
        let mut next = None;
        for _ in 1..self.at.height.min(HEIGHT_MAX as u32) {
            let count = Self::inner_count(words, node);
            let child = Self::child_for(words, node, count, from, true);
            if child + 1 < count {
                next = Some(Self::inner_key(words, node, child + 1));
            }
            node = word_of(self.child(words, node, child));
        }
        // In torn memory it might not be: nobody is to go in circles.
        next = next.filter(|next| is_below(from, next));
        let count = Self::leaf_count(words, node);
        for index in Self::leaf_rank(words, node, count, from, false)..count {
            let Some(value) = self.value(words, node, index) else { continue };
            if !take(Self::leaf_key(words, node, index), value) {
                return None;
            }
        }
        next
    }

    /// Hands all entries at or behind `from` to `take`, in order, until it
    /// says no. For the writer, and for readers within one version: at most
    /// `leaves_max` leaves are visited, so a torn tree can't hold one up.
    pub(crate) fn scan(
        &self,
        words: &impl Words,
        from: &[u64; K],
        leaves_max: usize,
        mut take: impl FnMut([u64; K], [u64; V]) -> bool,
    ) {
        let mut from = *from;
        for _ in 0..leaves_max {
            match self.read_from(words, &from, &mut take) {
                None => return,
                Some(next) => from = next,
            }
        }
    }

    /// The last entry before `key` (or at it, if `or_equal`).
    pub(crate) fn before(
        &self,
        words: &impl Words,
        key: &[u64; K],
        or_equal: bool,
    ) -> Option<Entry<K, V>> {
        if self.at.height == 0 {
            return None;
        }
        let mut bound = *key;
        let mut or_equal = or_equal;
        // Every leaf has an entry that isn't gone: the second one has it.
        for _ in 0..2 {
            let mut node = word_of(self.at.root);
            let mut left = None;
            for _ in 1..self.at.height.min(HEIGHT_MAX as u32) {
                let count = Self::inner_count(words, node);
                let child = Self::child_for(words, node, count, &bound, or_equal);
                if child > 0 {
                    left = Some(Self::inner_key(words, node, child));
                }
                node = word_of(self.child(words, node, child));
            }
            let count = Self::leaf_count(words, node);
            let behind = Self::leaf_rank(words, node, count, &bound, or_equal);
            for index in (0..behind).rev() {
                if let Some(value) = self.value(words, node, index) {
                    return Some((Self::leaf_key(words, node, index), value));
                }
            }
            // Nothing in this leaf: go on in the one that ends before its bound.
            bound = left?;
            or_equal = false;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing;
    use notes::NOTES;

    fn check<const K: usize, const V: usize>(
        tree: &Tree<K, V>,
        words: &impl Words,
        model: &BTreeMap<[u64; K], [u64; V]>,
    ) {
        assert_eq!(tree.at.len as usize, model.len());
        let mut all = Vec::new();
        tree.scan(words, &[0; K], usize::MAX, |key, value| {
            all.push((key, value));
            true
        });
        assert!(all.iter().map(|(k, v)| (k, v)).eq(model.iter()), "in order and complete");
        for key in model.keys() {
            assert_eq!(tree.find(words, key), model.get(key).copied());
        }
    }

    fn run<const K: usize, const V: usize>(seed: u64, span: u64) {
        let mut store = testing::store(1 << 22);
        let mut tree = Tree::<K, V>::new(TreeRoot::default());
        let mut model = BTreeMap::new();
        let mut random = testing::Random(seed);
        let mut version = 0;
        for step in 0..12_000_u64 {
            // It grows, then shrinks.
            let growing = step % 6000 < 3500;
            let key = core::array::from_fn(|word| {
                if word == 0 { random.below(span) / 7 } else { random.below(7) }
            });
            if random.below(10) < if growing { 8 } else { 2 } {
                let value = core::array::from_fn(|_| random.next());
                assert_eq!(
                    tree.insert(&mut store, &key, &value).unwrap(),
                    model.insert(key, value)
                );
            } else {
                let key = match model.range(key..).next() {
                    Some((found, _)) if !growing => *found,
                    _ => key,
                };
                assert_eq!(tree.remove(&mut store, &key).unwrap(), model.remove(&key));
            }
            let probe = core::array::from_fn(|word| {
                if word == 0 { random.below(span) / 7 } else { random.below(7) }
            });
            assert_eq!(tree.find(store.mem(), &probe), model.get(&probe).copied());
            assert_eq!(
                tree.before(store.mem(), &probe, false),
                model.range(..probe).next_back().map(|(k, v)| (*k, *v))
            );
            assert_eq!(
                tree.before(store.mem(), &probe, true),
                model.range(..=probe).next_back().map(|(k, v)| (*k, *v))
            );
            if step % 10 == 0 {
                version += 1;
                store.committed(version);
            }
            if step % 1000 == 0 {
                check(&tree, store.mem(), &model);
            }
        }
        check(&tree, store.mem(), &model);
        tree.clear(&mut store);
        for _ in 0..3 {
            version += 1;
            store.committed(version);
        }
        assert_eq!(store.usage().used, 0, "every node came back");
    }

    #[test]
    fn agrees_with_a_model() {
        run::<1, 1>(1, 2000);
        run::<2, 1>(2, 3000);
        run::<4, 1>(3, 700);
        run::<3, 2>(4, 4000);
        run::<1, 3>(5, 50);
    }

    /// All entries as of a version.
    fn entries<const K: usize, const V: usize>(
        at: TreeRoot,
        version: u64,
        words: &impl Words,
    ) -> Vec<Entry<K, V>> {
        let mut all = Vec::new();
        Tree::<K, V>::as_of(at, version).scan(words, &[0; K], usize::MAX, |key, value| {
            all.push((key, value));
            true
        });
        all
    }

    #[test]
    fn a_version_shows_the_same_whatever_is_noted_later() {
        let mut store = testing::store(1 << 22);
        let mut tree = Tree::<2, 1>::new(TreeRoot::default());
        for key in 0..3000 {
            tree.insert(&mut store, &[key / 3, key % 3], &[key]).unwrap();
        }
        store.committed(1);
        let mut random = testing::Random(7);
        let mut seen = entries::<2, 1>(tree.at, 1, store.mem());
        for version in 2..60 {
            let before = tree.at;
            for _ in 0..1 + random.below(200) {
                let key = random.below(3000);
                let key = [key / 3, key % 3];
                if random.below(3) == 0 {
                    tree.remove(&mut store, &key).unwrap();
                } else {
                    tree.insert(&mut store, &key, &[random.next()]).unwrap();
                }
                // What is being made is nobody's: not yet, and if the writer dies now, never.
                if random.below(50) == 0 {
                    assert_eq!(entries::<2, 1>(before, version - 1, store.mem()), seen);
                }
            }
            assert_eq!(entries::<2, 1>(before, version - 1, store.mem()), seen);
            for (key, value) in seen.iter().step_by(97) {
                let old = Tree::<2, 1>::as_of(before, version - 1);
                assert_eq!(old.find(store.mem(), key), Some(*value));
                assert_eq!(old.before(store.mem(), key, true), Some((*key, *value)));
            }
            store.committed(version);
            // Nor does publishing it change what is seen by who is still there.
            assert_eq!(entries::<2, 1>(before, version - 1, store.mem()), seen);
            seen = entries::<2, 1>(tree.at, version, store.mem());
            assert_eq!(seen, entries::<2, 1>(tree.at, u64::MAX, store.mem()));
            assert_eq!(tree.at.len as usize, seen.len());
        }
    }

    #[test]
    fn a_replaced_value_copies_nothing_until_the_notes_are_full() {
        let mut store = testing::store(1 << 22);
        let mut tree = Tree::<2, 1>::new(TreeRoot::default());
        for key in 0..3000 {
            tree.insert(&mut store, &[key, 0], &[key]).unwrap();
        }
        for version in 1..=NOTES as u64 + 2 {
            store.committed(version);
            let before = (tree.at, store.usage().retired_blocks);
            // The second one of a version takes no further note; a delete and an add are two values.
            tree.insert(&mut store, &[700, 0], &[version]).unwrap();
            assert_eq!(tree.remove(&mut store, &[700, 0]).unwrap(), Some([version]));
            tree.insert(&mut store, &[700, 0], &[version + 1]).unwrap();
            let is_copied = store.usage().retired_blocks > before.1;
            assert_eq!(is_copied, version > NOTES as u64 && version < NOTES as u64 + 2);
            assert_eq!(tree.find(store.mem(), &[700, 0]), Some([version + 1]));
        }
    }

    #[test]
    fn a_place_found_before_is_not_used_once_its_leaf_is_given_up() {
        let mut store = testing::store(1 << 22);
        let mut tree = Tree::<2, 1>::new(TreeRoot::default());
        let mut model = BTreeMap::new();
        let mut random = testing::Random(11);
        for key in 0..2000 {
            tree.insert(&mut store, &[key, 0], &[key]).unwrap();
            model.insert([key, 0], [key]);
        }
        let mut hints = Vec::new();
        for version in 1..400 {
            store.committed(version);
            // So many changes of so few keys that leaves are copied, split and merged
            // between looking and changing.
            let low = random.below(1900);
            let keys: Vec<[u64; 2]> = (0..40).map(|_| [low + random.below(60), 0]).collect();
            store.remember();
            tree.look_ahead(store.mem(), &keys, &mut hints);
            for (index, key) in keys.iter().enumerate() {
                let hint = hints.get(index).copied();
                let (before, found) = if random.below(2) == 0 {
                    let value = [random.next()];
                    let placed = tree.change(&mut store, key, Some(&value), Kin::alone(key), hint);
                    (model.insert(*key, value), placed.unwrap().before)
                } else {
                    let placed = tree.change(&mut store, key, None, Kin::alone(key), hint);
                    (model.remove(key), placed.unwrap().before)
                };
                assert_eq!(found, before);
            }
            if version % 20 == 0 {
                check(&tree, store.mem(), &model);
            }
        }
        check(&tree, store.mem(), &model);
    }

    #[test]
    fn removing_all_gives_everything_back() {
        let mut store = testing::store(1 << 22);
        let mut tree = Tree::<4, 1>::new(TreeRoot::default());
        for pass in 0..2 {
            for key in 0..5000 {
                tree.insert(&mut store, &[key, 0, 0, 0], &[key]).unwrap();
            }
            for key in 0..5000 {
                let key = if pass == 0 { key } else { 4999 - key };
                assert_eq!(tree.remove(&mut store, &[key, 0, 0, 0]).unwrap(), Some([key]));
            }
            assert_eq!(tree.at, TreeRoot::default());
            assert_eq!(store.usage().used, 0);
        }
    }

    #[test]
    fn what_comes_in_order_fills_its_nodes() {
        let mut store = testing::store(1 << 22);
        let mut tree = Tree::<2, 1>::new(TreeRoot::default());
        for key in 0..39_000 {
            tree.insert(&mut store, &[key, 0], &[key]).unwrap();
        }
        assert!(store.usage().used < 1_100_000, "{:?}", store.usage());
    }

    /// What comes below a node's first bound goes to its first child all the same, which may
    /// be split there: that bound is no limit, and is not searched.
    #[test]
    fn the_first_bound_of_a_node_may_be_above_the_second() {
        let mut store = testing::store(1 << 22);
        let mut tree = Tree::<4, 1>::new(TreeRoot::default());
        let key = |number: u64| [10, number, 0, 0];
        // Full leaves, of which the first goes as a whole: none beside it has room for its rest.
        for n in 1000..3000 {
            tree.insert(&mut store, &key(n), &[n]).unwrap();
        }
        for n in 1000..1000 + Tree::<4, 1>::LEAF_MAX as u64 {
            assert_eq!(tree.remove(&mut store, &key(n)).unwrap(), Some([n]));
        }
        for n in 0..500 {
            tree.insert(&mut store, &key(n), &[n]).unwrap();
        }
        for n in 0..500 {
            assert_eq!(tree.find(store.mem(), &key(n)), Some([n]));
            assert_eq!(tree.before(store.mem(), &key(n), true), Some((key(n), [n])));
        }
    }
}
