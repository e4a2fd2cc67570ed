//! Ordered trees of fixed-size entries: all entities by key, whole and in
//! order. B+ trees, copy-on-write: a commit copies the nodes on the way to
//! what it changes (once per commit, however many changes), published nodes
//! are never written.
//!
//! A key is `K` words compared as numbers, first word first; a value is `V`
//! words. A node has 128 words: the count, the keys, then the values. In an
//! inner node the value is a child, the key its lower bound (the first child's
//! counts as the lowest of all). Height 1 is a leaf alone.
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
/// No tree is higher: 12 ^ 16 entries.
const HEIGHT_MAX: usize = 16;

/// The type of a tree: `K` words of key, `V` words of value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree<const K: usize, const V: usize> {
    pub(crate) at: TreeRoot,
    entry: PhantomData<[u64; V]>,
}

/// An entry: key and value.
pub(crate) type Entry<const K: usize, const V: usize> = ([u64; K], [u64; V]);

fn key_at<const K: usize>(words: &impl Words, node: usize, index: usize) -> [u64; K] {
    core::array::from_fn(|word| words.get(node + 1 + index * K + word))
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

/// How many of the node's keys are below `key` (or equal to it, if `or_equal`).
///
/// The result of a comparison is no branch but a number: which way a search in
/// a random key goes is nothing that a processor could guess.
#[inline]
fn rank<const K: usize>(
    words: &impl Words,
    node: usize,
    count: usize,
    key: &[u64; K],
    or_equal: bool,
) -> usize {
    let is_before = |index: usize| {
        let found = key_at::<K>(words, node, index);
        usize::from(if or_equal { !is_below(key, &found) } else { is_below(&found, key) })
    };
    let (mut low, mut len) = (0, count);
    while len > 1 {
        let half = len / 2;
        low += half * is_before(low + half - 1);
        len -= half;
    }
    if len == 1 { low + is_before(low) } else { low }
}

impl<const K: usize, const V: usize> Tree<K, V> {
    const LEAF_MAX: usize = (NODE_WORDS - 1) / (K + V);
    const INNER_MAX: usize = (NODE_WORDS - 1) / (K + 1);

    pub(crate) fn new(at: TreeRoot) -> Self {
        Tree { at, entry: PhantomData }
    }

    fn value_at(node: usize, index: usize) -> usize {
        node + 1 + Self::LEAF_MAX * K + index * V
    }

    fn child_at(node: usize, index: usize) -> usize {
        node + 1 + Self::INNER_MAX * K + index
    }

    fn read_value(words: &impl Words, node: usize, index: usize) -> [u64; V] {
        core::array::from_fn(|word| words.get(Self::value_at(node, index) + word))
    }

    fn leaf_count(words: &impl Words, node: usize) -> usize {
        (words.get(node) as usize).min(Self::LEAF_MAX)
    }

    fn inner_count(words: &impl Words, node: usize) -> usize {
        (words.get(node) as usize).min(Self::INNER_MAX)
    }

    /// The leaf where `key` belongs, by its first word.
    #[inline]
    fn leaf_of(&self, words: &impl Words, key: &[u64; K]) -> Option<usize> {
        if self.at.height == 0 {
            return None;
        }
        let mut node = word_of(self.at.root);
        for _ in 1..self.at.height.min(HEIGHT_MAX as u32) {
            let child = rank(words, node, Self::inner_count(words, node), key, true).max(1) - 1;
            node = word_of(words.get(Self::child_at(node, child)) as u32);
        }
        Some(node)
    }

    /// Tells each node, whether it is a leaf, and goes on while it is answered
    /// true. Leaves are not read.
    pub(crate) fn each_node(&self, words: &impl Words, tell: &mut dyn FnMut(bool) -> bool) {
        let height = self.at.height.min(HEIGHT_MAX as u32);
        if height > 0 {
            Self::each_below(words, word_of(self.at.root), height, tell);
        }
    }

    fn each_below(
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
                let child = word_of(words.get(Self::child_at(node, child)) as u32);
                Self::each_below(words, child, height - 1, tell)
            })
    }

    /// Goes the way to each key's leaf, all of them in step, a level at a time,
    /// so that what they have to wait for from memory is under way together.
    /// Reads nothing of the leaves, but asks for them.
    pub(crate) fn look_ahead(&self, words: &impl Words, keys: &[[u64; K]], at: &mut Vec<usize>) {
        let height = self.at.height.min(HEIGHT_MAX as u32);
        if height < 2 {
            return;
        }
        at.clear();
        at.resize(keys.len(), word_of(self.at.root));
        for _ in 1..height {
            for (node, key) in at.iter_mut().zip(keys) {
                let count = Self::inner_count(words, *node);
                let child = rank(words, *node, count, key, true).max(1) - 1;
                *node = word_of(words.get(Self::child_at(*node, child)) as u32);
                for line in (0..NODE_WORDS).step_by(LINE_WORDS) {
                    words.prefetch(*node + line);
                }
            }
        }
    }

    /// The value of `key`.
    pub(crate) fn find(&self, words: &impl Words, key: &[u64; K]) -> Option<[u64; V]> {
        let leaf = self.leaf_of(words, key)?;
        let count = Self::leaf_count(words, leaf);
        let index = rank(words, leaf, count, key, false);
        (index < count && key_at::<K>(words, leaf, index) == *key)
            .then(|| Self::read_value(words, leaf, index))
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
            let child = rank(words, node, count, from, true).max(1) - 1;
            if child + 1 < count {
                next = Some(key_at::<K>(words, node, child + 1));
            }
            node = word_of(words.get(Self::child_at(node, child)) as u32);
        }
        // In torn memory it might not be: nobody is to go in circles.
        next = next.filter(|next| is_below(from, next));
        let count = Self::leaf_count(words, node);
        for index in rank(words, node, count, from, false)..count {
            if !take(key_at(words, node, index), Self::read_value(words, node, index)) {
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
        // No leaf is empty: the second one has it.
        for _ in 0..2 {
            let mut node = word_of(self.at.root);
            let mut left = None;
            for _ in 1..self.at.height.min(HEIGHT_MAX as u32) {
                let count = Self::inner_count(words, node);
                let child = rank(words, node, count, &bound, or_equal).max(1) - 1;
                if child > 0 {
                    left = Some(key_at::<K>(words, node, child));
                }
                node = word_of(words.get(Self::child_at(node, child)) as u32);
            }
            let count = Self::leaf_count(words, node);
            let index = rank(words, node, count, &bound, or_equal);
            if index > 0 {
                let index = index - 1;
                return Some((key_at(words, node, index), Self::read_value(words, node, index)));
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

/// The way from the root to a leaf: nodes (fresh) and the child taken in each.
type Path = [(u32, usize); HEIGHT_MAX];

impl<const K: usize, const V: usize> Tree<K, V> {
    /// Adds an entry or replaces its value; returns the value it had.
    pub(crate) fn insert<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        key: &[u64; K],
        value: &[u64; V],
    ) -> Result<Option<[u64; V]>, Full> {
        Ok(self.insert_beside(store, key, value, [key, key])?.before)
    }

    /// The same, and says whether no other entry is of its kin: those from the
    /// first to the last of two keys.
    pub(crate) fn insert_beside<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        key: &[u64; K],
        value: &[u64; V],
        [first, last]: [&[u64; K]; 2],
    ) -> Result<Placed<V>, Full> {
        if self.at.height == 0 {
            let leaf = store.allocate(NODE_WORDS)?;
            store.put(word_of(leaf), 0);
            self.at = TreeRoot { root: leaf, height: 1, len: 0 };
        }
        let mut path: Path = [(0, 0); HEIGHT_MAX];
        let depth = self.descend(store, key, &mut path)?;
        let leaf = word_of(path[depth].0);
        let count = Self::leaf_count(store.mem(), leaf);
        let index = rank(store.mem(), leaf, count, key, false);
        let is_here = index < count && key_at::<K>(store.mem(), leaf, index) == *key;
        let next = index + usize::from(is_here);
        let alone = if index > 0 {
            is_below(&key_at::<K>(store.mem(), leaf, index - 1), first)
        } else {
            Self::lower_bound(store, &path[..depth]).is_none_or(|bound| !is_below(first, &bound))
        } && if next < count {
            is_below(last, &key_at::<K>(store.mem(), leaf, next))
        } else {
            Self::upper_bound(store, &path[..depth]).is_none_or(|bound| is_below(last, &bound))
        };
        if is_here {
            let before = Self::read_value(store.mem(), leaf, index);
            for (word, value) in value.iter().enumerate() {
                store.put(Self::value_at(leaf, index) + word, *value);
            }
            return Ok(Placed { before: Some(before), alone });
        }
        let placed = Placed { before: None, alone };
        self.at.len += 1;
        if count < Self::LEAF_MAX {
            Self::open_leaf(store, leaf, count, index);
            Self::write_leaf(store, leaf, index, key, value);
            store.put(leaf, count as u64 + 1);
            return Ok(placed);
        }
        // Full: a right sibling takes the upper half; behind the last entry it
        // takes only the new one, so that what comes in order fills its nodes.
        let keep = if index == count { count } else { count / 2 };
        let right = store.allocate(NODE_WORDS)?;
        let to = word_of(right);
        for from in keep..count {
            let key = key_at::<K>(store.mem(), leaf, from);
            let value = Self::read_value(store.mem(), leaf, from);
            Self::write_leaf(store, to, from - keep, &key, &value);
        }
        store.put(leaf, keep as u64);
        store.put(to, (count - keep) as u64);
        let (node, at) =
            if index > keep || keep == count { (to, index - keep) } else { (leaf, index) };
        let count = Self::leaf_count(store.mem(), node);
        Self::open_leaf(store, node, count, at);
        Self::write_leaf(store, node, at, key, value);
        store.put(node, count as u64 + 1);
        let bound = key_at::<K>(store.mem(), to, 0);
        self.insert_child(store, &path, depth, bound, right)?;
        Ok(placed)
    }

    /// What everything before the leaf at the end of a path is below; `None`:
    /// nothing is before it.
    fn lower_bound<M: Memory>(store: &Store<M>, path: &[(u32, usize)]) -> Option<[u64; K]> {
        let (node, taken) = path.iter().rev().find(|(_, taken)| *taken > 0)?;
        Some(key_at(store.mem(), word_of(*node), *taken))
    }

    /// What nothing behind that leaf is below; `None`: nothing is behind it.
    fn upper_bound<M: Memory>(store: &Store<M>, path: &[(u32, usize)]) -> Option<[u64; K]> {
        let count = |node: u32| Self::inner_count(store.mem(), word_of(node));
        let (node, taken) = path.iter().rev().find(|(node, taken)| taken + 1 < count(*node))?;
        Some(key_at(store.mem(), word_of(*node), taken + 1))
    }

    /// Removes an entry and returns its value.
    pub(crate) fn remove<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        key: &[u64; K],
    ) -> Result<Option<[u64; V]>, Full> {
        if self.find(store.mem(), key).is_none() {
            return Ok(None);
        }
        let mut path: Path = [(0, 0); HEIGHT_MAX];
        let depth = self.descend(store, key, &mut path)?;
        let leaf = word_of(path[depth].0);
        let count = Self::leaf_count(store.mem(), leaf);
        let index = rank(store.mem(), leaf, count, key, false);
        let before = Self::read_value(store.mem(), leaf, index);
        for from in index + 1..count {
            let key = key_at::<K>(store.mem(), leaf, from);
            let value = Self::read_value(store.mem(), leaf, from);
            Self::write_leaf(store, leaf, from - 1, &key, &value);
        }
        store.put(leaf, count as u64 - 1);
        self.at.len -= 1;
        if count - 1 < Self::LEAF_MAX / 4 {
            self.merge(store, &path, depth)?;
        }
        Ok(Some(before))
    }

    /// Gives all nodes back.
    pub(crate) fn clear<M: Memory>(&mut self, store: &mut Store<M>) {
        if self.at.height > 0 {
            Self::clear_below(store, self.at.root, self.at.height);
        }
        self.at = TreeRoot::default();
    }

    fn clear_below<M: Memory>(store: &mut Store<M>, node: u32, height: u32) {
        if height > 1 {
            let at = word_of(node);
            for index in 0..Self::inner_count(store.mem(), at) {
                let child = store.get(Self::child_at(at, index)) as u32;
                Self::clear_below(store, child, height - 1);
            }
        }
        store.retire(node);
    }

    /// Goes down to the leaf of `key`, making each node on the way fresh.
    fn descend<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        key: &[u64; K],
        path: &mut Path,
    ) -> Result<usize, Full> {
        self.at.root = store.own(self.at.root, NODE_WORDS)?;
        let mut node = self.at.root;
        let mut depth = 0;
        while depth + 1 < self.at.height as usize {
            let at = word_of(node);
            let count = Self::inner_count(store.mem(), at);
            let index = rank(store.mem(), at, count, key, true).max(1) - 1;
            path[depth] = (node, index);
            let child = store.get(Self::child_at(at, index)) as u32;
            node = store.own(child, NODE_WORDS)?;
            if node != child {
                store.put(Self::child_at(at, index), u64::from(node));
            }
            depth += 1;
        }
        path[depth] = (node, 0);
        Ok(depth)
    }

    fn write_leaf<M: Memory>(
        store: &Store<M>,
        leaf: usize,
        index: usize,
        key: &[u64; K],
        value: &[u64; V],
    ) {
        for (word, key) in key.iter().enumerate() {
            store.put(leaf + 1 + index * K + word, *key);
        }
        for (word, value) in value.iter().enumerate() {
            store.put(Self::value_at(leaf, index) + word, *value);
        }
    }

    /// Moves the entries from `index` on one place up.
    fn open_leaf<M: Memory>(store: &Store<M>, leaf: usize, count: usize, index: usize) {
        for word in (index * K..count * K).rev() {
            store.put(leaf + 1 + word + K, store.get(leaf + 1 + word));
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
        for (word, bound) in bound.iter().enumerate() {
            store.put(node + 1 + index * K + word, *bound);
        }
        store.put(Self::child_at(node, index), u64::from(child));
    }

    /// Puts `child` behind the one that `path` took at `depth` - 1.
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
                let right = store.allocate(NODE_WORDS)?;
                let to = word_of(right);
                for from in keep..count {
                    let key = key_at::<K>(store.mem(), at, from);
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
                let key = key_at::<K>(store.mem(), to, from);
                let moved = store.get(Self::child_at(to, from)) as u32;
                Self::write_child(store, to, from + 1, &key, moved);
            }
            Self::write_child(store, to, place, &bound, child);
            store.put(to, used as u64 + 1);
            let Some((right, to)) = split else { return Ok(()) };
            (bound, child) = (key_at::<K>(store.mem(), to, 0), right);
        }
        // The root itself was split.
        let root = store.allocate(NODE_WORDS)?;
        let at = word_of(root);
        Self::write_child(store, at, 0, &[0; K], self.at.root);
        Self::write_child(store, at, 1, &bound, child);
        store.put(at, 2);
        self.at.root = root;
        self.at.height += 1;
        Ok(())
    }

    /// The node at `depth` is less than a quarter full: its content goes into
    /// a neighbour if it fits there; then the parent may be so, too.
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
            let count_of = |store: &Store<M>, child: usize| {
                store.get(word_of(store.get(Self::child_at(parent, child)) as u32)) as usize
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
                let gone = store.get(Self::child_at(parent, taken)) as u32;
                store.retire(gone);
                Self::remove_child(store, parent, siblings, taken);
                depth = self.shrink(store, siblings - 1, depth - 1);
                continue;
            } else {
                return Ok(());
            };
            let right_node = store.get(Self::child_at(parent, left + 1)) as u32;
            let left_node = store.get(Self::child_at(parent, left)) as u32;
            let owned = store.own(left_node, NODE_WORDS)?;
            store.put(Self::child_at(parent, left), u64::from(owned));
            let (to, from) = (word_of(owned), word_of(right_node));
            let (first, more) = (store.get(to) as usize, store.get(from) as usize);
            for index in 0..more {
                if is_leaf {
                    let key = key_at::<K>(store.mem(), from, index);
                    let value = Self::read_value(store.mem(), from, index);
                    Self::write_leaf(store, to, first + index, &key, &value);
                } else {
                    // The first child's own key may be anything: its bound is the parent's.
                    let key = key_at::<K>(
                        store.mem(),
                        if index == 0 { parent } else { from },
                        if index == 0 { left + 1 } else { index },
                    );
                    let child = store.get(Self::child_at(from, index)) as u32;
                    Self::write_child(store, to, first + index, &key, child);
                }
            }
            store.put(to, (first + more) as u64);
            store.retire(right_node);
            Self::remove_child(store, parent, siblings, left + 1);
            depth = self.shrink(store, siblings - 1, depth - 1);
        }
        if self.at.height == 1 && self.at.len == 0 {
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
                let child = store.get(Self::child_at(word_of(self.at.root), 0)) as u32;
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
            let key = key_at::<K>(store.mem(), parent, from);
            let child = store.get(Self::child_at(parent, from)) as u32;
            Self::write_child(store, parent, from - 1, &key, child);
        }
        store.put(parent, count as u64 - 1);
    }
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
        for key in 0..42_000 {
            tree.insert(&mut store, &[key, 0], &[key]).unwrap();
        }
        assert!(store.usage().used < 1_100_000, "{:?}", store.usage());
    }
}
