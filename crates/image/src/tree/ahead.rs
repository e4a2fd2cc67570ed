//! Looking ahead: where the entries are that will be changed next.
use super::search::{lead_of, rank_of_lead};
use super::{HEIGHT_MAX, Tree};
use crate::layout::word_of;
use crate::store::{Memory, Store};
use crate::words::Words;

/// Words of a cache line.
const LINE_WORDS: usize = 8;

/// Where a key was found, some changes ago.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hint {
    pub(super) leaf: u32,
    pub(super) index: u32,
}

impl<const K: usize, const V: usize> Tree<K, V> {
    /// Goes the way to each key's place, all of them in step, a level at a time,
    /// so that what they have to wait for from memory is under way together.
    /// Asks for what a change of the entry needs, and says where it is: nowhere if
    /// the tree is so small that all of it is in a cache.
    pub(crate) fn look_ahead(&self, words: &impl Words, keys: &[[u64; K]], found: &mut Vec<Hint>) {
        let height = self.at.height.min(HEIGHT_MAX as u32);
        found.clear();
        if height < 2 {
            return;
        }
        let ask = |from: usize, until: usize| {
            for word in (from..until).step_by(LINE_WORDS) {
                words.prefetch(word);
            }
        };
        found.resize(keys.len(), Hint { leaf: self.at.root, index: 0 });
        for above in (1..height).rev() {
            for (hint, key) in found.iter_mut().zip(keys) {
                let node = word_of(hint.leaf);
                let count = Self::inner_count(words, node);
                hint.index = Self::child_for(words, node, count, key, true) as u32;
                words.prefetch(Self::child_at(node, hint.index as usize));
            }
            for hint in found.iter_mut() {
                hint.leaf = self.child(words, word_of(hint.leaf), hint.index as usize);
                let node = word_of(hint.leaf);
                // Higher nodes are few.
                match above {
                    1 => ask(node, Self::leaf_keys(node).place(0, lead_of(K))),
                    2 => ask(node, Self::inner_keys(node).place(0, lead_of(K))),
                    _ => {}
                }
            }
        }
        for (hint, key) in found.iter_mut().zip(keys) {
            let leaf = word_of(hint.leaf);
            let count = Self::leaf_count(words, leaf);
            // Further words of keys are asked for, not read.
            let index = rank_of_lead(words, Self::leaf_keys(leaf), count, key);
            hint.index = index as u32;
            for word in lead_of(K)..K {
                words.prefetch(Self::leaf_keys(leaf).place(index, word));
            }
            words.prefetch(Self::value_at(leaf, index));
        }
    }

    /// The place of `key`, if it is still where it was found before, or little behind:
    /// at the first of those that begin alike.
    pub(super) fn still<M: Memory>(
        store: &Store<M>,
        hint: Option<Hint>,
        key: &[u64; K],
    ) -> Option<Hint> {
        const BEHIND_MAX: u32 = 3;
        let Hint { leaf, index } = hint.filter(|hint| !store.is_forgotten(hint.leaf))?;
        let count = Self::leaf_count(store.mem(), word_of(leaf)) as u32;
        (index..count.min(index + BEHIND_MAX))
            .find(|index| Self::leaf_key(store.mem(), word_of(leaf), *index as usize) == *key)
            .map(|index| Hint { leaf, index })
    }
}
