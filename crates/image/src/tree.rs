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
//! **Notes.** Replacing a value, the most frequent change by far, would copy a
//! leaf and the nodes above it. So it is noted instead: "from version v on,
//! entry i has this value (is gone)". A note is written while v is being made,
//! into words that no version before made use of, and names v; so who reads an
//! older version passes over it, whenever it is written, and a version shows
//! the same from its publication on, whatever is noted later. When all five are
//! taken the next change copies the node, and what they say is worked into the
//! copy. An entry that is noted to be gone keeps its place until then: most
//! come back. A leaf never gets so empty by notes that it would have to be
//! merged, so none has only entries that are gone.
//!
//! Readers run over nodes that may be handed back under them: counts are
//! clamped, the way down is as long as the height in the root says, loads
//! outside give 0. What comes out is thrown away if the check fails.
use core::marker::PhantomData;

use crate::layout::{TreeRoot, word_of};
use crate::store::{Full, Memory, Store};
use crate::words::Words;

/// Words of a node: 1 KiB.
pub(crate) const NODE_WORDS: usize = 128;
/// Words of a cache line.
const LINE_WORDS: usize = 8;
/// No tree is higher: 11 ^ 16 entries.
const HEIGHT_MAX: usize = 16;
/// Notes of a node. With more, entries take more room: 39 of routes to IPv4
/// prefixes are in a leaf, without any it would be 42.
const NOTES: usize = 5;
/// Where they begin.
const NOTES_AT: usize = 1;

/// The type of a tree: `K` words of key, `V` words of value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree<const K: usize, const V: usize> {
    pub(crate) at: TreeRoot,
    /// What was noted for later versions than this isn't seen.
    as_of: u64,
    entry: PhantomData<[u64; V]>,
}

/// A note's first word.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Note(u64);

impl Note {
    const GONE: u64 = 1 << 7;

    /// Of the entry number `index`, from `version` on.
    fn new(version: u64, index: usize, gone: bool) -> Note {
        Note(version << 8 | index as u64 | if gone { Note::GONE } else { 0 })
    }

    fn at(words: &impl Words, node: usize, number: usize) -> Note {
        Note(words.get(node + NOTES_AT + number))
    }

    fn is_free(self) -> bool {
        self.0 == 0
    }

    fn version(self) -> u64 {
        self.0 >> 8
    }

    fn index(self) -> usize {
        (self.0 & (Note::GONE - 1)) as usize
    }

    fn is_gone(self) -> bool {
        self.0 & Note::GONE != 0
    }
}

/// An entry: key and value.
pub(crate) type Entry<const K: usize, const V: usize> = ([u64; K], [u64; V]);

/// Where a node's keys begin, if what it notes has `V` words.
const fn keys_at<const V: usize>() -> usize {
    NOTES_AT + NOTES * (1 + V)
}

/// The keys of a node: where they begin, and how many it has room for.
#[derive(Clone, Copy)]
struct Keys {
    at: usize,
    room: usize,
}

impl Keys {
    #[inline(always)]
    fn place(self, index: usize, word: usize) -> usize {
        self.at + word * self.room + index
    }

    #[inline(always)]
    fn get<const K: usize>(self, words: &impl Words, index: usize) -> [u64; K] {
        core::array::from_fn(|word| words.get(self.place(index, word)))
    }

    fn put<M: Memory, const K: usize>(self, store: &Store<M>, index: usize, key: &[u64; K]) {
        for (word, value) in key.iter().enumerate() {
            store.put(self.place(index, word), *value);
        }
    }
}

/// The words of a key that a search compares first: in these few are equal.
const fn lead_of(key_words: usize) -> usize {
    if key_words > 2 { 2 } else { 1 }
}

/// Is `a` below `b`? Two words at a time: keys mostly differ in the first two.
#[inline(always)]
fn is_below<const K: usize>(a: &[u64; K], b: &[u64; K]) -> bool {
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
fn rank_of_lead<const K: usize>(
    words: &impl Words,
    keys: Keys,
    count: usize,
    key: &[u64; K],
) -> usize {
    const STEP: usize = 8;
    let is_before = |index: usize| {
        let first = words.get(keys.place(index, 0));
        if lead_of(K) == 1 {
            return first < key[0];
        }
        let pair = |first: u64, second: u64| u128::from(first) << 64 | u128::from(second);
        pair(first, words.get(keys.place(index, 1))) < pair(key[0], key[1])
    };
    let blocks: usize =
        (STEP - 1..count).step_by(STEP).map(|index| usize::from(is_before(index))).sum();
    let from = blocks * STEP;
    let rest = (from..from + STEP).map(|index| usize::from((index < count) & is_before(index)));
    from + rest.sum::<usize>()
}

/// How many of the first `count` keys are below `key` (or equal to it, if
/// `or_equal`).
#[inline]
fn rank<const K: usize>(
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

/// Where a key was found, some changes ago.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hint {
    leaf: u32,
    index: u32,
}

impl<const K: usize, const V: usize> Tree<K, V> {
    const LEAF_MAX: usize = (NODE_WORDS - keys_at::<V>()) / (K + V);
    const INNER_MAX: usize = (NODE_WORDS - keys_at::<1>()) / (K + 1);
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
        Keys { at: leaf + keys_at::<V>(), room: Self::LEAF_MAX }
    }

    fn inner_keys(node: usize) -> Keys {
        Keys { at: node + keys_at::<1>(), room: Self::INNER_MAX }
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
        leaf + keys_at::<V>() + Self::LEAF_MAX * K + index * V
    }

    fn child_at(node: usize, index: usize) -> usize {
        node + keys_at::<1>() + Self::INNER_MAX * K + index
    }

    /// Where a note's value stands, if it has `words` words.
    fn noted_at(node: usize, number: usize, words: usize) -> usize {
        node + NOTES_AT + NOTES + number * words
    }

    /// The last note on an entry that is seen, and its number.
    ///
    /// Which it is, if any, is nothing that a processor could guess, so it is counted
    /// without a branch.
    #[inline]
    fn noted(&self, words: &impl Words, node: usize, index: usize) -> Option<(usize, Note)> {
        let mut behind = 0;
        for number in 0..NOTES {
            let note = Note::at(words, node, number);
            // A free one is of no version, and seen by nobody.
            let is_seen = note.version().wrapping_sub(1) < self.as_of;
            let is_it = is_seen & (note.index() == index);
            // They come in the order of versions.
            behind = if is_it { number + 1 } else { behind };
        }
        let number = behind.checked_sub(1)?;
        Some((number, Note::at(words, node, number)))
    }

    /// The value of an entry; `None`: it is gone.
    fn value(&self, words: &impl Words, leaf: usize, index: usize) -> Option<[u64; V]> {
        let at = match self.noted(words, leaf, index) {
            Some((_, note)) if note.is_gone() => return None,
            Some((number, _)) => Self::noted_at(leaf, number, V),
            None => Self::value_at(leaf, index),
        };
        Some(core::array::from_fn(|word| words.get(at + word)))
    }

    /// A child of a node.
    fn child(&self, words: &impl Words, node: usize, index: usize) -> u32 {
        let noted = self.noted(words, node, index);
        let at = noted
            .map_or(Self::child_at(node, index), |(number, _)| Self::noted_at(node, number, 1));
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
    fn still<M: Memory>(store: &Store<M>, hint: Option<Hint>, key: &[u64; K]) -> Option<Hint> {
        const BEHIND_MAX: u32 = 3;
        let Hint { leaf, index } = hint.filter(|hint| !store.is_forgotten(hint.leaf))?;
        let count = Self::leaf_count(store.mem(), word_of(leaf)) as u32;
        (index..count.min(index + BEHIND_MAX))
            .find(|index| Self::leaf_key(store.mem(), word_of(leaf), *index as usize) == *key)
            .map(|index| Hint { leaf, index })
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

/// What an insertion found.
pub(crate) struct Placed<const V: usize> {
    /// The value that the entry had.
    pub(crate) before: Option<[u64; V]>,
    /// There is no other entry of its kin.
    pub(crate) alone: bool,
}

/// The way from the root to a leaf: nodes and the child taken in each.
type Path = [(u32, usize); HEIGHT_MAX];

impl<const K: usize, const V: usize> Tree<K, V> {
    /// Adds an entry or replaces its value; returns the value it had.
    pub(crate) fn insert<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        key: &[u64; K],
        value: &[u64; V],
    ) -> Result<Option<[u64; V]>, Full> {
        Ok(self.insert_beside(store, key, value, [key, key], None)?.before)
    }

    /// The same, and says whether no other entry is of its kin: those from the
    /// first to the last of two keys. (Of one that is gone, but keeps its place,
    /// it says that it is.)
    pub(crate) fn insert_beside<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        key: &[u64; K],
        value: &[u64; V],
        kin: [&[u64; K]; 2],
        hint: Option<Hint>,
    ) -> Result<Placed<V>, Full> {
        if let Some(hint) = Self::still(store, hint, key) {
            if let Some(alone) = Self::is_alone_within(store, hint, kin) {
                let before = self.value(store.mem(), word_of(hint.leaf), hint.index as usize);
                if Self::note(store, hint.leaf, hint.index as usize, Some(value)) {
                    self.at.len += u64::from(before.is_none());
                    return Ok(Placed { before, alone });
                }
            }
        }
        if self.at.height == 0 {
            let leaf = Self::new_node(store)?;
            self.at = TreeRoot { root: leaf, height: 1, len: 0 };
        }
        let mut path: Path = [(0, 0); HEIGHT_MAX];
        let depth = self.descend(store, key, &mut path);
        let leaf = word_of(path[depth].0);
        let count = Self::leaf_count(store.mem(), leaf);
        let index = Self::leaf_rank(store.mem(), leaf, count, key, false);
        let is_here = index < count && Self::leaf_key(store.mem(), leaf, index) == *key;
        let alone = Self::is_alone(store, &path[..=depth], index, is_here, kin);
        let before = if is_here { self.value(store.mem(), leaf, index) } else { None };
        let placed = Placed { before, alone };
        self.at.len += u64::from(before.is_none());
        if is_here && Self::note(store, path[depth].0, index, Some(value)) {
            return Ok(placed);
        }
        self.own(store, &mut path, depth)?;
        // Copying took out what is gone.
        let leaf = word_of(path[depth].0);
        let count = Self::leaf_count(store.mem(), leaf);
        let index = Self::leaf_rank(store.mem(), leaf, count, key, false);
        if before.is_some() {
            Self::write_value(store, Self::value_at(leaf, index), value);
            return Ok(placed);
        }
        if count < Self::LEAF_MAX {
            Self::open_leaf(store, leaf, count, index);
            Self::write_leaf(store, leaf, index, key, value);
            store.put(leaf, count as u64 + 1);
            return Ok(placed);
        }
        // Full: a right sibling takes the upper half; behind the last entry it
        // takes only the new one, so that what comes in order fills its nodes.
        self.own_all(store, &mut path, depth)?;
        let keep = if index == count { count } else { count / 2 };
        let right = Self::new_node(store)?;
        let to = word_of(right);
        for from in keep..count {
            Self::move_entry(store, (leaf, from), (to, from - keep));
        }
        store.put(leaf, keep as u64);
        store.put(to, (count - keep) as u64);
        let (node, at) =
            if index > keep || keep == count { (to, index - keep) } else { (leaf, index) };
        let count = Self::leaf_count(store.mem(), node);
        Self::open_leaf(store, node, count, at);
        Self::write_leaf(store, node, at, key, value);
        store.put(node, count as u64 + 1);
        let bound = Self::leaf_key(store.mem(), to, 0);
        self.insert_child(store, &path, depth, bound, right)?;
        Ok(placed)
    }

    /// Is no other entry of the kin of the one at `index` of a path's leaf, or that
    /// would be there?
    fn is_alone<M: Memory>(
        store: &Store<M>,
        path: &[(u32, usize)],
        index: usize,
        is_here: bool,
        [first, last]: [&[u64; K]; 2],
    ) -> bool {
        let above = &path[..path.len() - 1];
        let leaf = word_of(path[above.len()].0);
        let next = index + usize::from(is_here);
        let is_first = if index > 0 {
            is_below(&Self::leaf_key(store.mem(), leaf, index - 1), first)
        } else {
            Self::lower_bound(store, above).is_none_or(|bound| !is_below(first, &bound))
        };
        is_first
            && if next < Self::leaf_count(store.mem(), leaf) {
                is_below(last, &Self::leaf_key(store.mem(), leaf, next))
            } else {
                Self::upper_bound(store, above).is_none_or(|bound| is_below(last, &bound))
            }
    }

    /// The same of an entry that is there; `None`: its leaf alone doesn't say.
    fn is_alone_within<M: Memory>(
        store: &Store<M>,
        hint: Hint,
        [first, last]: [&[u64; K]; 2],
    ) -> Option<bool> {
        let (leaf, index) = (word_of(hint.leaf), hint.index as usize);
        if index == 0 || index + 1 >= Self::leaf_count(store.mem(), leaf) {
            return None;
        }
        let before = Self::leaf_key(store.mem(), leaf, index - 1);
        Some(
            is_below(&before, first)
                && is_below(last, &Self::leaf_key(store.mem(), leaf, index + 1)),
        )
    }

    /// What everything before the leaf at the end of a path is below; `None`:
    /// nothing is before it.
    fn lower_bound<M: Memory>(store: &Store<M>, path: &[(u32, usize)]) -> Option<[u64; K]> {
        let (node, taken) = path.iter().rev().find(|(_, taken)| *taken > 0)?;
        Some(Self::inner_key(store.mem(), word_of(*node), *taken))
    }

    /// What nothing behind that leaf is below; `None`: nothing is behind it.
    fn upper_bound<M: Memory>(store: &Store<M>, path: &[(u32, usize)]) -> Option<[u64; K]> {
        let count = |node: u32| Self::inner_count(store.mem(), word_of(node));
        let (node, taken) = path.iter().rev().find(|(node, taken)| taken + 1 < count(*node))?;
        Some(Self::inner_key(store.mem(), word_of(*node), taken + 1))
    }

    /// Removes an entry and returns its value.
    pub(crate) fn remove<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        key: &[u64; K],
    ) -> Result<Option<[u64; V]>, Full> {
        Ok(self.remove_beside(store, key, [key, key], None)?.before)
    }

    /// The same, and says of its kin what [`Self::insert_beside`] does.
    pub(crate) fn remove_beside<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        key: &[u64; K],
        kin: [&[u64; K]; 2],
        hint: Option<Hint>,
    ) -> Result<Placed<V>, Full> {
        if let Some(hint) = Self::still(store, hint, key) {
            if let Some(alone) = Self::is_alone_within(store, hint, kin) {
                let before = self.value(store.mem(), word_of(hint.leaf), hint.index as usize);
                if before.is_none() || self.note_gone(store, hint.leaf, hint.index as usize) {
                    return Ok(Placed { before, alone });
                }
            }
        }
        let nothing = Placed { before: None, alone: false };
        if self.at.height == 0 {
            return Ok(nothing);
        }
        let mut path: Path = [(0, 0); HEIGHT_MAX];
        let depth = self.descend(store, key, &mut path);
        let leaf = word_of(path[depth].0);
        let count = Self::leaf_count(store.mem(), leaf);
        let index = Self::leaf_rank(store.mem(), leaf, count, key, false);
        if index >= count || Self::leaf_key(store.mem(), leaf, index) != *key {
            return Ok(nothing);
        }
        let before = self.value(store.mem(), leaf, index);
        let alone = Self::is_alone(store, &path[..=depth], index, true, kin);
        let placed = Placed { before, alone };
        if before.is_none() || self.note_gone(store, path[depth].0, index) {
            return Ok(placed);
        }
        self.at.len -= 1;
        self.own(store, &mut path, depth)?;
        // Copying took out what is gone.
        let leaf = word_of(path[depth].0);
        let count = Self::leaf_count(store.mem(), leaf);
        for from in Self::leaf_rank(store.mem(), leaf, count, key, false) + 1..count {
            Self::move_entry(store, (leaf, from), (leaf, from - 1));
        }
        store.put(leaf, count as u64 - 1);
        if count - 1 < Self::LEAF_MIN {
            self.own_all(store, &mut path, depth)?;
            self.merge(store, &path, depth)?;
        }
        Ok(placed)
    }

    /// Takes an entry out by a note, if it goes and the leaf has enough others.
    fn note_gone<M: Memory>(&mut self, store: &Store<M>, leaf: u32, index: usize) -> bool {
        let rest = self.live(store, word_of(leaf), true) - 1;
        let noted = rest >= Self::LEAF_MIN.max(1) && Self::note(store, leaf, index, None);
        self.at.len -= u64::from(noted);
        noted
    }

    /// How many entries of a node aren't gone.
    fn live<M: Memory>(&self, store: &Store<M>, node: usize, is_leaf: bool) -> usize {
        if !is_leaf {
            return Self::inner_count(store.mem(), node);
        }
        Self::leaf_count(store.mem(), node) - noted_gone(store, node).count_ones() as usize
    }

    /// Gives all nodes back.
    pub(crate) fn clear<M: Memory>(&mut self, store: &mut Store<M>) {
        if self.at.height > 0 {
            self.clear_below(store, self.at.root, self.at.height);
        }
        self.at = TreeRoot::default();
    }

    fn clear_below<M: Memory>(&self, store: &mut Store<M>, node: u32, height: u32) {
        if height > 1 {
            let at = word_of(node);
            for index in 0..Self::inner_count(store.mem(), at) {
                let child = self.child(store.mem(), at, index);
                self.clear_below(store, child, height - 1);
            }
        }
        store.retire(node);
    }

    /// Goes down to the leaf of `key`; nothing is changed.
    fn descend<M: Memory>(&self, store: &Store<M>, key: &[u64; K], path: &mut Path) -> usize {
        let mut node = self.at.root;
        let mut depth = 0;
        while depth + 1 < self.at.height as usize {
            let at = word_of(node);
            let count = Self::inner_count(store.mem(), at);
            let index = Self::child_for(store.mem(), at, count, key, true);
            path[depth] = (node, index);
            node = self.child(store.mem(), at, index);
            depth += 1;
        }
        path[depth] = (node, 0);
        depth
    }

    /// An empty node.
    fn new_node<M: Memory>(store: &mut Store<M>) -> Result<u32, Full> {
        let node = store.allocate(NODE_WORDS)?;
        for word in 0..NOTES_AT + NOTES {
            store.put(word_of(node) + word, 0);
        }
        Ok(node)
    }

    /// Gives an entry of a leaf another value (`None`: it is gone) without
    /// copying the leaf: in its place if the leaf is fresh, as a note if not.
    /// False, and nothing is done: it doesn't go without.
    fn note<M: Memory>(
        store: &Store<M>,
        leaf: u32,
        index: usize,
        value: Option<&[u64; V]>,
    ) -> bool {
        let at = word_of(leaf);
        if store.is_fresh(leaf) {
            if let Some(value) = value {
                Self::write_value(store, Self::value_at(at, index), value);
            }
            return value.is_some();
        }
        let note = Note::new(store.making(), index, value.is_none());
        let Some(number) = free_note(store, at, note) else { return false };
        if let Some(value) = value {
            Self::write_value(store, Self::noted_at(at, number, V), value);
        }
        store.put(at + NOTES_AT + number, note.0);
        true
    }

    /// The node at `depth` of a path becomes a fresh one, in which what was noted
    /// stands in its place, and the path names it. Those above it are copied only
    /// where they have no room to note where it is now.
    fn own<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        path: &mut Path,
        depth: usize,
    ) -> Result<(), Full> {
        let is_leaf = depth + 1 == self.at.height as usize;
        let Some(copy) = Self::copy(store, path[depth].0, is_leaf)? else { return Ok(()) };
        path[depth].0 = copy;
        if depth == 0 {
            self.at.root = copy;
            return Ok(());
        }
        let (parent, taken) = path[depth - 1];
        let mut to = None;
        if !store.is_fresh(parent) {
            let note = Note::new(store.making(), taken, false);
            to = free_note(store, word_of(parent), note).map(|number| (number, note));
            if to.is_none() {
                self.own(store, path, depth - 1)?;
            }
        }
        let at = word_of(path[depth - 1].0);
        if let Some((number, note)) = to {
            store.put(Self::noted_at(at, number, 1), u64::from(copy));
            store.put(at + NOTES_AT + number, note.0);
        } else {
            store.put(Self::child_at(at, taken), u64::from(copy));
        }
        Ok(())
    }

    /// All nodes of a path up to `depth` become fresh ones.
    fn own_all<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        path: &mut Path,
        depth: usize,
    ) -> Result<(), Full> {
        (0..=depth).try_for_each(|depth| self.own(store, path, depth))
    }

    /// A fresh copy of a node, in which what was noted stands in its place;
    /// `None`: it is fresh itself. The original is retired.
    fn copy<M: Memory>(
        store: &mut Store<M>,
        node: u32,
        is_leaf: bool,
    ) -> Result<Option<u32>, Full> {
        if store.is_fresh(node) {
            return Ok(None);
        }
        let copy = store.copy(node, NODE_WORDS)?;
        store.forget(node);
        let at = word_of(copy);
        let gone = noted_gone(store, at);
        for number in 0..NOTES {
            let note = Note::at(store.mem(), at, number);
            if note.is_free() {
                break;
            }
            let index = note.index();
            let words = if is_leaf { V } else { 1 };
            let to = if is_leaf { Self::value_at(at, index) } else { Self::child_at(at, index) };
            if !note.is_gone() {
                for word in 0..words {
                    let noted = store.get(Self::noted_at(at, number, words) + word);
                    store.put(to + word, noted);
                }
            }
            store.put(at + NOTES_AT + number, 0);
        }
        if gone != 0 {
            let count = Self::leaf_count(store.mem(), at);
            let first = gone.trailing_zeros() as usize;
            let mut kept = first;
            for from in first..count {
                if gone >> from & 1 == 0 {
                    Self::move_entry(store, (at, from), (at, kept));
                    kept += 1;
                }
            }
            store.put(at, kept as u64);
        }
        Ok(Some(copy))
    }

    fn write_value<M: Memory>(store: &Store<M>, at: usize, value: &[u64; V]) {
        for (word, value) in value.iter().enumerate() {
            store.put(at + word, *value);
        }
    }

    fn write_leaf<M: Memory>(
        store: &Store<M>,
        leaf: usize,
        index: usize,
        key: &[u64; K],
        value: &[u64; V],
    ) {
        Self::leaf_keys(leaf).put(store, index, key);
        Self::write_value(store, Self::value_at(leaf, index), value);
    }

    /// Copies an entry of a leaf without notes to a place of another, or of its own.
    fn move_entry<M: Memory>(
        store: &Store<M>,
        (from, index): (usize, usize),
        (to, place): (usize, usize),
    ) {
        let key = Self::leaf_key(store.mem(), from, index);
        let at = Self::value_at(from, index);
        let value = core::array::from_fn(|word| store.get(at + word));
        Self::write_leaf(store, to, place, &key, &value);
    }

    /// Moves the entries from `index` on one place up.
    fn open_leaf<M: Memory>(store: &Store<M>, leaf: usize, count: usize, index: usize) {
        let keys = Self::leaf_keys(leaf);
        for word in 0..K {
            for from in (keys.place(index, word)..keys.place(count, word)).rev() {
                store.put(from + 1, store.get(from));
            }
        }
        let values = Self::value_at(leaf, 0);
        for word in (index * V..count * V).rev() {
            store.put(values + word + V, store.get(values + word));
        }
    }

    fn write_child<M: Memory>(
        store: &Store<M>,
        node: usize,
        index: usize,
        bound: &[u64; K],
        child: u32,
    ) {
        Self::inner_keys(node).put(store, index, bound);
        store.put(Self::child_at(node, index), u64::from(child));
    }

    /// Puts `child` behind the one that `path`, which is fresh, took at `depth` - 1.
    fn insert_child<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        path: &Path,
        depth: usize,
        bound: [u64; K],
        child: u32,
    ) -> Result<(), Full> {
        let (mut bound, mut child) = (bound, child);
        for &(node, taken) in path[..depth].iter().rev() {
            let at = word_of(node);
            let count = Self::inner_count(store.mem(), at);
            let index = taken + 1;
            let (to, place, used, split) = if count < Self::INNER_MAX {
                (at, index, count, None)
            } else {
                let keep = if index == count { count } else { count / 2 };
                let right = Self::new_node(store)?;
                let to = word_of(right);
                for from in keep..count {
                    let key = Self::inner_key(store.mem(), at, from);
                    let moved = store.get(Self::child_at(at, from)) as u32;
                    Self::write_child(store, to, from - keep, &key, moved);
                }
                store.put(at, keep as u64);
                store.put(to, (count - keep) as u64);
                if index > keep || keep == count {
                    (to, index - keep, count - keep, Some((right, to)))
                } else {
                    (at, index, keep, Some((right, to)))
                }
            };
            for from in (place..used).rev() {
                let key = Self::inner_key(store.mem(), to, from);
                let moved = store.get(Self::child_at(to, from)) as u32;
                Self::write_child(store, to, from + 1, &key, moved);
            }
            Self::write_child(store, to, place, &bound, child);
            store.put(to, used as u64 + 1);
            let Some((right, to)) = split else { return Ok(()) };
            (bound, child) = (Self::inner_key(store.mem(), to, 0), right);
        }
        // The root itself was split.
        let root = Self::new_node(store)?;
        let at = word_of(root);
        Self::write_child(store, at, 0, &[0; K], self.at.root);
        Self::write_child(store, at, 1, &bound, child);
        store.put(at, 2);
        self.at.root = root;
        self.at.height += 1;
        Ok(())
    }

    /// The node at `depth` of a path, which is fresh, is less than a quarter full:
    /// its content goes into a neighbour if it fits there; then the parent may be
    /// so, too.
    fn merge<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        path: &Path,
        depth: usize,
    ) -> Result<(), Full> {
        let mut depth = depth;
        while depth > 0 {
            let is_leaf = depth + 1 == self.at.height as usize;
            let (parent, taken) = path[depth - 1];
            let parent = word_of(parent);
            let siblings = Self::inner_count(store.mem(), parent);
            let max = if is_leaf { Self::LEAF_MAX } else { Self::INNER_MAX };
            let child = |store: &Store<M>, child| store.get(Self::child_at(parent, child)) as u32;
            let count_of = |store: &Store<M>, index: usize| {
                self.live(store, word_of(child(store, index)), is_leaf)
            };
            let own = count_of(store, taken);
            // Leave some room: a merged node that is full would split at once.
            let fits = |store: &Store<M>, other: usize| own + count_of(store, other) <= max * 3 / 4;
            let left = if taken > 0 && fits(store, taken - 1) {
                taken - 1
            } else if taken + 1 < siblings && fits(store, taken + 1) {
                taken
            } else if own == 0 {
                // Nothing left in it and no neighbour with room: it just goes.
                store.forget(child(store, taken));
                store.retire(child(store, taken));
                Self::remove_child(store, parent, siblings, taken);
                depth = self.shrink(store, siblings - 1, depth - 1);
                continue;
            } else {
                return Ok(());
            };
            // Both without notes; the one on the right is then of no more use.
            for index in [left, left + 1] {
                if let Some(copy) = Self::copy(store, child(store, index), is_leaf)? {
                    store.put(Self::child_at(parent, index), u64::from(copy));
                }
            }
            let right_node = child(store, left + 1);
            let (to, from) = (word_of(child(store, left)), word_of(right_node));
            let (first, more) = (store.get(to) as usize, store.get(from) as usize);
            for index in 0..more {
                if is_leaf {
                    Self::move_entry(store, (from, index), (to, first + index));
                } else {
                    // The first child's own key may be anything: its bound is the parent's.
                    let key = if index == 0 {
                        Self::inner_key(store.mem(), parent, left + 1)
                    } else {
                        Self::inner_key(store.mem(), from, index)
                    };
                    let child = store.get(Self::child_at(from, index)) as u32;
                    Self::write_child(store, to, first + index, &key, child);
                }
            }
            store.put(to, (first + more) as u64);
            store.forget(right_node);
            store.retire(right_node);
            Self::remove_child(store, parent, siblings, left + 1);
            depth = self.shrink(store, siblings - 1, depth - 1);
        }
        if self.at.height == 1 && self.at.len == 0 {
            store.forget(self.at.root);
            store.retire(self.at.root);
            self.at = TreeRoot::default();
        }
        Ok(())
    }

    /// After a removal the inner node at `depth` has `count` children: the
    /// depth to go on with, 0 if it is full enough.
    fn shrink<M: Memory>(&mut self, store: &mut Store<M>, count: usize, depth: usize) -> usize {
        if depth == 0 {
            // The root: with one child left, this is the root.
            while self.at.height > 1 && store.get(word_of(self.at.root)) == 1 {
                let child = self.child(store.mem(), word_of(self.at.root), 0);
                store.retire(self.at.root);
                self.at.root = child;
                self.at.height -= 1;
            }
            return 0;
        }
        if count < Self::INNER_MAX / 4 { depth } else { 0 }
    }

    fn remove_child<M: Memory>(store: &Store<M>, parent: usize, count: usize, index: usize) {
        for from in index + 1..count {
            let key = Self::inner_key(store.mem(), parent, from);
            let child = store.get(Self::child_at(parent, from)) as u32;
            Self::write_child(store, parent, from - 1, &key, child);
        }
        store.put(parent, count as u64 - 1);
    }
}

/// The entries of a node that are gone by its notes, a bit each.
fn noted_gone<M: Memory>(store: &Store<M>, node: usize) -> u128 {
    let notes = (0..NOTES).map(|number| Note::at(store.mem(), node, number));
    notes.take_while(|note| !note.is_free()).fold(0, |gone, note| {
        gone & !(1 << note.index()) | u128::from(note.is_gone()) << note.index()
    })
}

/// Where a note goes: over one on the same entry of the version that is being
/// made, which nobody has seen, or behind the last. `None`: no room.
fn free_note<M: Memory>(store: &Store<M>, node: usize, note: Note) -> Option<usize> {
    (0..NOTES).find(|&number| {
        let found = Note::at(store.mem(), node, number);
        found.is_free() || found.0 | Note::GONE == note.0 | Note::GONE
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing;

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
                    let placed = tree.insert_beside(&mut store, key, &value, [key; 2], hint);
                    (model.insert(*key, value), placed.unwrap().before)
                } else {
                    let placed = tree.remove_beside(&mut store, key, [key; 2], hint);
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
