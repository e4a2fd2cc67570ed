//! Changing a tree: entries that come, change and go.
use super::notes::{self, NOTES, Note};
use super::search::is_below;
use super::{HEIGHT_MAX, Hint, NODE_WORDS, Tree};
use crate::layout::{TreeRoot, word_of};
use crate::store::{Full, Memory, Store};

/// The entries of a kin: those from the first to the last of two keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kin<const K: usize> {
    pub(crate) first: [u64; K],
    pub(crate) last: [u64; K],
}

impl<const K: usize> Kin<K> {
    /// Nothing but one key.
    pub(crate) fn alone(key: &[u64; K]) -> Self {
        Kin { first: *key, last: *key }
    }
}

/// What a change found.
pub(crate) struct Placed<const V: usize> {
    /// The value that the entry had.
    pub(crate) before: Option<[u64; V]>,
    /// There is no other entry of its kin. (Not said of what wasn't there and didn't come.)
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
        Ok(self.change(store, key, Some(value), Kin::alone(key), None)?.before)
    }

    /// Removes an entry and returns its value.
    pub(crate) fn remove<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        key: &[u64; K],
    ) -> Result<Option<[u64; V]>, Full> {
        Ok(self.change(store, key, None, Kin::alone(key), None)?.before)
    }

    /// An entry has this value now; `None`: it is gone. Says whether no other entry is
    /// of its kin. (Of one that is gone, but keeps its place, it says that it is.)
    pub(crate) fn change<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        key: &[u64; K],
        value: Option<&[u64; V]>,
        kin: Kin<K>,
        hint: Option<Hint>,
    ) -> Result<Placed<V>, Full> {
        if let Some(hint) = Self::still(store, hint, key) {
            if let Some(alone) = Self::is_alone_within(store, hint, &kin) {
                let before = self.value(store.mem(), word_of(hint.leaf), hint.index as usize);
                if self.note(store, hint.leaf, hint.index as usize, before.is_some(), value) {
                    return Ok(Placed { before, alone });
                }
            }
        }
        if self.at.height == 0 {
            if value.is_none() {
                return Ok(Placed { before: None, alone: false });
            }
            let leaf = Self::new_node(store)?;
            self.at = TreeRoot { root: leaf, height: 1, len: 0 };
        }
        let mut path: Path = [(0, 0); HEIGHT_MAX];
        let depth = self.descend(store, key, &mut path);
        let leaf = word_of(path[depth].0);
        let count = Self::leaf_count(store.mem(), leaf);
        let index = Self::leaf_rank(store.mem(), leaf, count, key, false);
        let is_here = index < count && Self::leaf_key(store.mem(), leaf, index) == *key;
        if !is_here && value.is_none() {
            return Ok(Placed { before: None, alone: false });
        }
        let alone = Self::is_alone(store, &path[..=depth], index, is_here, &kin);
        let before = if is_here { self.value(store.mem(), leaf, index) } else { None };
        if !is_here || !self.note(store, path[depth].0, index, before.is_some(), value) {
            // Copying takes out what is gone.
            self.own(store, &mut path, depth)?;
            match value {
                Some(value) => self.put(store, &mut path, depth, key, value, before.is_some())?,
                None => self.take_out(store, &mut path, depth, key)?,
            }
        }
        Ok(Placed { before, alone })
    }

    /// Puts an entry into the fresh leaf at the end of a path, where it is or isn't.
    fn put<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        path: &mut Path,
        depth: usize,
        key: &[u64; K],
        value: &[u64; V],
        is_here: bool,
    ) -> Result<(), Full> {
        let leaf = word_of(path[depth].0);
        let count = Self::leaf_count(store.mem(), leaf);
        let index = Self::leaf_rank(store.mem(), leaf, count, key, false);
        if is_here {
            Self::write_value(store, Self::value_at(leaf, index), value);
            return Ok(());
        }
        self.at.len += 1;
        if count < Self::LEAF_MAX {
            Self::open_leaf(store, leaf, count, index);
            Self::write_leaf(store, leaf, index, key, value);
            store.put(leaf, count as u64 + 1);
            return Ok(());
        }
        // Full: a right sibling takes the upper half; behind the last entry it
        // takes only the new one, so that what comes in order fills its nodes.
        self.own_all(store, path, depth)?;
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
        self.insert_child(store, path, depth, bound, right)
    }

    /// Takes an entry out of the fresh leaf at the end of a path.
    fn take_out<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        path: &mut Path,
        depth: usize,
        key: &[u64; K],
    ) -> Result<(), Full> {
        self.at.len -= 1;
        let leaf = word_of(path[depth].0);
        let count = Self::leaf_count(store.mem(), leaf);
        for from in Self::leaf_rank(store.mem(), leaf, count, key, false) + 1..count {
            Self::move_entry(store, (leaf, from), (leaf, from - 1));
        }
        store.put(leaf, count as u64 - 1);
        if count - 1 < Self::LEAF_MIN {
            self.own_all(store, path, depth)?;
            self.merge(store, path, depth)?;
        }
        Ok(())
    }

    /// Is no other entry of the kin of the one at `index` of a path's leaf, or that
    /// would be there?
    fn is_alone<M: Memory>(
        store: &Store<M>,
        path: &[(u32, usize)],
        index: usize,
        is_here: bool,
        Kin { first, last }: &Kin<K>,
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
        Kin { first, last }: &Kin<K>,
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

    /// How many entries of a node aren't gone.
    fn live<M: Memory>(&self, store: &Store<M>, node: usize, is_leaf: bool) -> usize {
        if !is_leaf {
            return Self::inner_count(store.mem(), node);
        }
        Self::leaf_count(store.mem(), node) - notes::gone(store, node).count_ones() as usize
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
        store.put(word_of(node), 0);
        notes::none(store, word_of(node));
        Ok(node)
    }

    /// Gives an entry of a leaf another value (`None`: it is gone; `is_there`: it has one)
    /// without copying the leaf: in its place if the leaf is fresh, as a note if not.
    /// False, and nothing is done: it doesn't go without.
    fn note<M: Memory>(
        &mut self,
        store: &Store<M>,
        leaf: u32,
        index: usize,
        is_there: bool,
        value: Option<&[u64; V]>,
    ) -> bool {
        let at = word_of(leaf);
        if value.is_none() {
            // What is gone is; and enough others must stay.
            if !is_there || self.live(store, at, true) - 1 < Self::LEAF_MIN.max(1) {
                return !is_there;
            }
        }
        if store.is_fresh(leaf) {
            let Some(value) = value else { return false };
            Self::write_value(store, Self::value_at(at, index), value);
        } else {
            let note = Note::new(store.making(), index, value.is_none());
            let Some(number) = notes::free(store, at, note) else { return false };
            if let Some(value) = value {
                Self::write_value(store, notes::said_at(at, number, V), value);
            }
            note.put(store, at, number);
        }
        self.at.len = self.at.len + u64::from(value.is_some()) - u64::from(is_there);
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
            to = notes::free(store, word_of(parent), note).map(|number| (number, note));
            if to.is_none() {
                self.own(store, path, depth - 1)?;
            }
        }
        let at = word_of(path[depth - 1].0);
        if let Some((number, note)) = to {
            store.put(notes::said_at(at, number, 1), u64::from(copy));
            note.put(store, at, number);
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
        let gone = notes::gone(store, at);
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
                    let noted = store.get(notes::said_at(at, number, words) + word);
                    store.put(to + word, noted);
                }
            }
        }
        notes::none(store, at);
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
