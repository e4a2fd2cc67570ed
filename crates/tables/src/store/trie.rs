//! The tries: longest-prefix match, exact match, and the order of prefixes.
//!
//! One trie per routing table, all of one family in the same memory. A node
//! stands for one byte of the address, at a depth: the number of bytes before
//! it. A prefix that ends within that byte (0 to 7 of its bits) stands in the
//! node; whatever is longer hangs below, under the byte's value.
//!
//! Both kinds of places together are a complete binary tree of depth 8, 511
//! positions, numbered in **preorder** (a shorter prefix before the longer ones
//! inside it, 0 before 1): 255 for prefixes, and the 256 leaves for what hangs
//! below. So one bitmap of 512 bits says what is there ([`super::nodes`]), and
//! every question becomes a bit operation on it:
//!
//! - the longest match of an address byte: the highest bit that is set in the
//!   bitmap and in the byte's mask of ancestors (they get deeper in preorder);
//! - the next prefix in order (address, then length): the next bit that is set.
//!
//! # What hangs below
//! A number in a slab (a *leaf*) as long as it is the only prefix there,
//! however long it is; else a node. So a lone /128 costs one word. And a node
//! is made at the depth where what is below it differs for the first time:
//! bytes in between are *skipped*. So every node but a root has at least two
//! entries, there are fewer nodes than prefixes, and no walk is longer than it
//! must be. The price: a walk that came over skipped bytes, or to a leaf, must
//! compare with the whole prefix, which the owner of the slab knows (`key`).
//! The entry is what one looks for, so it must be fetched anyway.
//!
//! What is stored is a number: changing a route's value never touches its trie.

pub(crate) use super::nodes::Spot;
use super::nodes::{Node, NodeNo, Nodes};

/// Preorder position of the prefix that is `len` (0 to 8) top bits of `byte`.
#[inline]
const fn position(byte: u8, len: u8) -> u16 {
    // One for each level, and a whole left subtree for each bit that is 1.
    let top = if len == 0 { 0 } else { byte >> (8 - len) << (8 - len) };
    len as u16 + 2 * top as u16 - top.count_ones() as u16
}

/// For each byte: the positions of the eight prefixes of 0 to 7 bits that it
/// begins with.
static ANCESTORS: [[u64; 8]; 256] = {
    let mut all = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut len = 0;
        while len < 8 {
            let position = position(byte as u8, len);
            all[byte][position as usize / 64] |= 1 << (position % 64);
            len += 1;
        }
        byte += 1;
    }
    all
};

/// In a word of a node: the rest is a node's number, not a slab's.
const NODE: u32 = 1 << 31;

/// Is this word of a node another node's number, so that a walk goes on?
#[inline]
pub(crate) fn is_node(word: u32) -> bool {
    word & NODE != 0
}

/// The root of one trie among the [`Tries`] of a family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Root(NodeNo);

/// All tries of one family.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    nodes: Nodes,
    finger: Finger,
}

/// The way of the last prefix that was stored. What comes in the order of prefixes goes on
/// where that ended: nearly always in the same node.
#[derive(Debug, Default)]
struct Finger {
    prefix: Bits,
    /// Nodes from the root down, each with its depth.
    way: [(NodeNo, u8); DEPTHS],
    len: usize,
}

/// A way has at most a node for each byte of an address.
const DEPTHS: usize = 16;

impl Finger {
    /// Leaves of the way what a prefix in this trie has in common with it: at least the root.
    #[inline]
    fn turn_to(&mut self, root: Root, prefix: Bits) {
        // What a node has below it agrees in the bytes before its depth.
        let common = common_bytes(self.prefix, prefix);
        if self.way[0].0 != root.0 {
            self.len = 0;
        }
        while self.len > 1 && self.way[self.len - 1].1 > common {
            self.len -= 1;
        }
        if self.len == 0 {
            (self.way[0], self.len) = ((root.0, 0), 1);
        }
        self.prefix = prefix;
    }

    #[inline]
    fn push(&mut self, node: NodeNo, depth: u8) {
        self.way[self.len] = (node, depth);
        self.len += 1;
    }

    /// The last node, and what refers to it.
    #[inline]
    fn end(&self) -> (NodeNo, u8, Option<(NodeNo, u16)>) {
        let (node, depth) = self.way[self.len - 1];
        let above = self.len.checked_sub(2).map(|at| self.way[at]);
        (node, depth, above.map(|(above, depth)| (above, place(self.prefix, depth))))
    }
}

/// A prefix as the tries take it: bits, left-aligned in a `u128` whatever the
/// family, and length.
pub(crate) type Bits = (u128, u8);

#[inline]
fn byte_at(bits: u128, depth: u8) -> u8 {
    (bits >> (120 - 8 * u32::from(depth))) as u8
}

/// The position of a prefix in a node at this depth, at most as deep as it is
/// long.
#[inline]
fn place((bits, len): Bits, depth: u8) -> u16 {
    position(byte_at(bits, depth), (len - 8 * depth).min(8))
}

/// Bytes that two prefixes both have, and have in common.
fn common_bytes(a: Bits, b: Bits) -> u8 {
    let bits = (a.0 ^ b.0).leading_zeros() as u8;
    bits.min(a.1).min(b.1) / 8
}

/// Is the address inside the prefix?
#[inline]
fn covers((bits, len): Bits, address: u128) -> bool {
    len == 0 || (bits ^ address) >> (128 - u32::from(len)) == 0
}

/// A step of a walk towards a prefix.
enum Towards {
    /// To this node.
    Node(NodeNo),
    /// If the prefix is there, its number is this.
    Slot(u32),
    /// It isn't there.
    Nothing,
}

impl Tries {
    /// A new, empty trie.
    pub(crate) fn create(&mut self) -> Root {
        Root(self.nodes.insert(0))
    }

    /// Removes an empty trie.
    pub(crate) fn destroy(&mut self, root: Root) {
        debug_assert!(self.is_empty(root));
        self.finger.len = 0;
        self.nodes.remove(root.0);
    }

    /// Does it hold nothing?
    pub(crate) fn is_empty(&self, root: Root) -> bool {
        self.nodes.get(root.0).count() == 0
    }

    /// Where a walk begins: a word as nodes have it.
    #[inline]
    pub(crate) fn begin(&self, root: Root) -> u32 {
        root.0 | NODE
    }

    /// Asks for what a step from a node begins with.
    #[inline]
    pub(crate) fn prefetch(&self, node: u32) {
        self.nodes.get(node & !NODE).prefetch();
    }

    /// One step of a walk from a node (a word that [`is_node`]) towards a
    /// prefix, first half: the place of the word that says where it goes on.
    /// `None`: the prefix isn't there.
    #[inline]
    pub(crate) fn aim(&self, node: u32, prefix: Bits) -> Option<Spot> {
        let at = node & !NODE;
        let node = self.nodes.get(at);
        if 8 * node.depth() > prefix.1 {
            return None; // It ends in the bytes that were skipped.
        }
        let position = place(prefix, node.depth());
        node.is_set(position).then(|| node.spot(at, position))
    }

    /// Second half: reads the word. It is another node, or the number of the
    /// prefix if the prefix is there.
    #[inline]
    pub(crate) fn hit(&self, spot: Spot) -> u32 {
        *self.nodes.at(spot)
    }

    /// Asks for the word.
    #[inline]
    pub(crate) fn prefetch_spot(&self, spot: Spot) {
        rtm_prefetch::read(self.nodes.at(spot));
    }

    /// Both halves.
    #[inline]
    fn step(&self, node: NodeNo, prefix: Bits) -> Towards {
        match self.aim(node, prefix).map(|spot| self.hit(spot)) {
            None => Towards::Nothing,
            Some(word) if is_node(word) => Towards::Node(word & !NODE),
            Some(slot) => Towards::Slot(slot),
        }
    }

    /// What is stored for exactly this prefix.
    #[inline]
    pub(crate) fn exact(&self, root: Root, prefix: Bits, key: impl Fn(u32) -> Bits) -> Option<u32> {
        let mut towards = Towards::Node(root.0);
        loop {
            match towards {
                Towards::Node(node) => towards = self.step(node, prefix),
                Towards::Slot(slot) => return (key(slot) == prefix).then_some(slot),
                Towards::Nothing => return None,
            }
        }
    }

    /// Stores a number for a prefix; gives the one that was there.
    pub(crate) fn insert(
        &mut self,
        root: &mut Root,
        prefix: Bits,
        slot: u32,
        key: impl Fn(u32) -> Bits,
    ) -> Option<u32> {
        self.finger.turn_to(*root, prefix);
        loop {
            let (at, depth, above) = self.finger.end();
            let position = place(prefix, depth);
            if !self.nodes.get(at).is_set(position) {
                let moved = self.nodes.add(at, position, slot);
                if moved != at {
                    self.finger.way[self.finger.len - 1].0 = moved;
                    self.refer(root, above, moved | NODE);
                }
                return None;
            }
            let value = self.nodes.get(at).value(position);
            if value & NODE == 0 {
                let other = key(value);
                if other == prefix {
                    return Some(self.nodes.set(at, position, slot));
                }
                let common = common_bytes(other, prefix);
                self.fork((at, position), common, (other, value), (prefix, slot));
                return None;
            }
            let below = value & !NODE;
            let depth_below = self.nodes.get(below).depth();
            if depth_below > depth + 1 {
                // Is the prefix below here at all? All of that node's agree in
                // the bytes that were skipped.
                let path = (key(self.lowest(below)).0, 8 * depth_below);
                let common = common_bytes(path, prefix);
                if common < depth_below {
                    self.fork((at, position), common, (path, value), (prefix, slot));
                    return None;
                }
            }
            self.finger.push(below, depth_below);
        }
    }

    /// A new node at a depth, with two entries, in the place of what was there.
    fn fork(
        &mut self,
        (above, position): (NodeNo, u16),
        depth: u8,
        (old, old_value): (Bits, u32),
        (new, new_value): (Bits, u32),
    ) {
        let node = self.nodes.insert(depth);
        let node = self.nodes.add(node, place(old, depth), old_value);
        let node = self.nodes.add(node, place(new, depth), new_value);
        self.nodes.set(above, position, node | NODE);
        self.finger.push(node, depth);
    }

    /// What refers to a node (the word above it, or the root) refers to this
    /// from now on.
    fn refer(&mut self, root: &mut Root, above: Option<(NodeNo, u16)>, value: u32) {
        match above {
            Some((node, position)) => {
                self.nodes.set(node, position, value);
            }
            None => root.0 = value & !NODE,
        }
    }

    /// The number that comes first in order below a node.
    fn lowest(&self, mut node: NodeNo) -> u32 {
        loop {
            let value = self.nodes.get(node).first();
            if value & NODE == 0 {
                return value;
            }
            node = value & !NODE;
        }
    }

    /// Removes a prefix; gives what was there.
    pub(crate) fn remove(
        &mut self,
        root: &mut Root,
        prefix: Bits,
        key: impl Fn(u32) -> Bits,
    ) -> Option<u32> {
        self.finger.len = 0;
        let mut at = root.0;
        let mut above: Option<(NodeNo, u16)> = None;
        loop {
            match self.step(at, prefix) {
                Towards::Nothing => return None,
                Towards::Node(node) => {
                    above = Some((at, place(prefix, self.nodes.get(at).depth())));
                    at = node;
                }
                Towards::Slot(slot) if key(slot) != prefix => return None,
                Towards::Slot(_) => break,
            }
        }
        let (slot, moved) = self.nodes.take(at, place(prefix, self.nodes.get(at).depth()));
        let node = self.nodes.get(moved);
        if above.is_some() && node.count() == 1 {
            // One entry needs no node of its own.
            let only = node.first();
            self.nodes.remove(moved);
            self.refer(root, above, only);
        } else {
            self.refer(root, above, moved | NODE);
        }
        Some(slot)
    }

    /// The longest prefix of `address` whose number `accepts`; shorter ones are
    /// tried only where it doesn't.
    #[inline]
    pub(crate) fn longest(
        &self,
        root: Root,
        address: u128,
        key: impl Fn(u32) -> Bits,
        mut accepts: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        // The way down, with: were bytes skipped on it?
        let mut path = [(root.0, false); 16];
        let mut last = 0;
        loop {
            let (at, skipped) = path[last];
            let node = self.nodes.get(at);
            let depth = node.depth();
            let position = place((address, 128), depth);
            if !node.is_set(position) {
                break;
            }
            let value = node.value(position);
            if value & NODE == 0 {
                if covers(key(value), address) && accepts(value) {
                    return Some(value);
                }
                break;
            }
            let below = value & !NODE;
            last += 1;
            path[last] = (below, skipped || self.nodes.get(below).depth() > depth + 1);
        }
        // And up again.
        for &(at, skipped) in path[..=last].iter().rev() {
            let node = self.nodes.get(at);
            let byte = byte_at(address, node.depth());
            for position in node.among(&ANCESTORS[usize::from(byte)], position(byte, 8)) {
                let slot = node.value(position);
                if (!skipped || covers(key(slot), address)) && accepts(slot) {
                    return Some(slot);
                }
            }
        }
        None
    }

    /// The first prefix in order (address, then length) that lies `within`
    /// this one and, if given, stands after `after`; with its number.
    pub(crate) fn next(
        &self,
        root: Root,
        within: Bits,
        after: Option<Bits>,
        key: impl Fn(u32) -> Bits,
    ) -> Option<(Bits, u32)> {
        // Everything before `within` is skipped.
        let (start, inclusive) = match after {
            Some(after) if after >= within => (after, false),
            _ => (within, true),
        };
        let slot = self.from(root.0, None, start, inclusive, &key)?;
        let (bits, len) = key(slot);
        (len >= within.1 && covers(within, bits)).then_some(((bits, len), slot))
    }

    /// The first number at and below a node whose prefix is `start` (if
    /// `inclusive`) or comes behind it.
    fn from(
        &self,
        at: NodeNo,
        depth_above: Option<u8>,
        start: Bits,
        inclusive: bool,
        key: &impl Fn(u32) -> Bits,
    ) -> Option<u32> {
        let node = self.nodes.get(at);
        let depth = node.depth();
        if depth_above.is_some_and(|above| depth > above + 1) {
            // Where do all of this node's stand?
            let lowest = self.lowest(at);
            let path = key(lowest).0 & rtm_model::mask(8 * depth);
            let way = start.0 & rtm_model::mask(8 * depth);
            if path > way || path == way && start.1 < 8 * depth {
                return Some(lowest);
            }
            if path < way {
                return None;
            }
        }
        let position = place(start, depth);
        if node.is_set(position) {
            let value = node.value(position);
            if value & NODE == 0 {
                let found = key(value);
                if found > start || inclusive && found == start {
                    return Some(value);
                }
            } else {
                let below = self.from(value & !NODE, Some(depth), start, inclusive, key);
                if below.is_some() {
                    return below;
                }
            }
        }
        self.behind(node, position)
    }

    /// The first number behind a position of a node.
    fn behind(&self, node: Node<'_>, position: u16) -> Option<u32> {
        let value = node.value(node.next(position + 1)?);
        Some(if value & NODE == 0 { value } else { self.lowest(value & !NODE) })
    }

    /// Gives up to `count` chunks back to the allocator: for tries that were
    /// swapped out. False: none is left.
    pub(crate) fn dismantle(&mut self, count: usize) -> bool {
        (0..count).all(|_| self.nodes.pop_chunk())
    }

    /// Bytes taken from the allocator.
    pub(crate) fn bytes(&self) -> usize {
        self.nodes.bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rtm_model::mask;

    use super::*;

    /// Prefixes that share bytes, nest, and end on every length.
    fn prefix() -> impl Strategy<Value = Bits> {
        let bits = prop_oneof![
            any::<u128>(),
            any::<u8>().prop_map(|b| u128::from(b) << 120),
            Just(0),
            Just(u128::MAX)
        ];
        let few = prop::collection::vec(
            prop_oneof![6 => Just(0_u8), 1 => Just(255), 1 => Just(128), 1 => Just(127), 1 => Just(3)],
            16,
        )
        .prop_map(|bytes| u128::from_be_bytes(bytes.try_into().unwrap()));
        let len = prop_oneof![0_u8..=24, 0_u8..=128, 120_u8..=128];
        (prop_oneof![1 => bits, 4 => few], len).prop_map(|(bits, len)| (bits & mask(len), len))
    }

    /// The tries with their slab: a vector of prefixes.
    #[derive(Default)]
    struct Slab {
        tries: Tries,
        keys: Vec<Bits>,
    }

    impl Slab {
        fn insert(&mut self, root: &mut Root, prefix: Bits) -> (u32, Option<u32>) {
            self.keys.push(prefix);
            let slot = self.keys.len() as u32 - 1;
            let keys = &self.keys;
            (slot, self.tries.insert(root, prefix, slot, |at| keys[at as usize]))
        }

        fn remove(&mut self, root: &mut Root, prefix: Bits) -> Option<u32> {
            let keys = &self.keys;
            self.tries.remove(root, prefix, |at| keys[at as usize])
        }

        fn key(&self) -> impl Fn(u32) -> Bits + '_ {
            |at| self.keys[at as usize]
        }

        /// Every node but the root has two entries, and lies as deep as what is
        /// below it has in common.
        fn check_nodes(&self, root: Root) -> usize {
            let mut nodes = 0;
            let mut open = vec![(root.0, None)];
            while let Some((at, above)) = open.pop() {
                nodes += 1;
                let node = self.tries.nodes.get(at);
                assert!(above.is_none() || node.count() >= 2);
                assert!(above.is_none_or(|above| node.depth() > above));
                let mut position = node.next(0);
                while let Some(here) = position {
                    let value = node.value(here);
                    let slot = if value & NODE == 0 {
                        value
                    } else {
                        open.push((value & !NODE, Some(node.depth())));
                        self.tries.lowest(value & !NODE)
                    };
                    assert_eq!(place(self.keys[slot as usize], node.depth()), here);
                    position = node.next(here + 1);
                }
            }
            nodes
        }
    }

    fn check(
        slab: &Slab,
        root: Root,
        model: &BTreeMap<Bits, u32>,
        probes: &[Bits],
    ) -> Result<(), TestCaseError> {
        let Slab { tries, .. } = slab;
        let mut after = None;
        let mut seen = Vec::new();
        while let Some((prefix, value)) = tries.next(root, (0, 0), after, slab.key()) {
            seen.push((prefix, value));
            after = Some(prefix);
        }
        let all: Vec<_> = model.iter().map(|(&prefix, &value)| (prefix, value)).collect();
        prop_assert_eq!(&seen, &all);
        for &(bits, len) in probes.iter().chain(model.keys()) {
            prop_assert_eq!(
                tries.exact(root, (bits, len), slab.key()),
                model.get(&(bits, len)).copied()
            );
            for address in [bits, bits | !mask(len)] {
                let all: Vec<u32> = (0..=128_u8)
                    .rev()
                    .filter_map(|len| model.get(&(address & mask(len), len)).copied())
                    .collect();
                let found = tries.longest(root, address, slab.key(), |_| true);
                prop_assert_eq!(found, all.first().copied());
                let mut tried = Vec::new();
                tries.longest(root, address, slab.key(), |value| {
                    tried.push(value);
                    false
                });
                prop_assert_eq!(tried, all);
            }
            // The subtree, from its beginning and from each place in it.
            let inside: Vec<(Bits, u32)> = model
                .iter()
                .filter(|((b, l), _)| *l >= len && b & mask(len) == bits)
                .map(|(&prefix, &value)| (prefix, value))
                .collect();
            prop_assert_eq!(
                tries.next(root, (bits, len), None, slab.key()),
                inside.first().copied()
            );
            for pair in inside.windows(2) {
                prop_assert_eq!(
                    tries.next(root, (bits, len), Some(pair[0].0), slab.key()),
                    Some(pair[1])
                );
            }
            if let Some(last) = inside.last() {
                prop_assert_eq!(tries.next(root, (bits, len), Some(last.0), slab.key()), None);
            }
            // After a prefix that need not be there.
            let behind = model.range((bits, len)..).find(|(prefix, _)| **prefix != (bits, len));
            prop_assert_eq!(
                tries.next(root, (0, 0), Some((bits, len)), slab.key()),
                behind.map(|(&p, &v)| (p, v))
            );
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn it_is_an_ordered_map_with_longest_match(
            steps in prop::collection::vec((prefix(), 0_u8..4), 1..120),
            probes in prop::collection::vec(prefix(), 20),
        ) {
            let mut slab = Slab::default();
            let (mut root, other) = (slab.tries.create(), slab.tries.create());
            let mut model = BTreeMap::new();
            for (prefix, what) in steps {
                if what == 0 {
                    prop_assert_eq!(slab.remove(&mut root, prefix), model.remove(&prefix));
                    if let Some(first) = model.keys().next().copied() {
                        prop_assert_eq!(slab.remove(&mut root, first), model.remove(&first));
                    }
                } else {
                    let (slot, old) = slab.insert(&mut root, prefix);
                    prop_assert_eq!(old, model.insert(prefix, slot));
                }
                let nodes = slab.check_nodes(root);
                prop_assert_eq!(nodes + 1, slab.tries.nodes.len());
                prop_assert!(nodes <= model.len().max(1));
            }
            check(&slab, root, &model, &probes)?;
            prop_assert!(slab.tries.is_empty(other));
            for prefix in model.keys() {
                prop_assert!(slab.remove(&mut root, *prefix).is_some());
            }
            prop_assert!(slab.tries.is_empty(root));
            prop_assert_eq!(slab.tries.nodes.len(), 2);
        }
    }

    #[test]
    fn a_full_node_shrinks_and_grows() {
        let mut slab = Slab::default();
        let mut root = slab.tries.create();
        let all: Vec<Bits> = (0..=8_u8)
            .flat_map(|len| {
                (0..1_u32 << len)
                    .map(move |v| (u128::from(v).wrapping_shl(128 - u32::from(len)), len))
            })
            .collect();
        for round in 0..3 {
            for &prefix in &all {
                assert_eq!(slab.insert(&mut root, prefix).1, None, "{round} {prefix:?}");
            }
            assert_eq!(slab.check_nodes(root), 1);
            let bytes = slab.tries.bytes();
            for &prefix in &all {
                assert!(slab.remove(&mut root, prefix).is_some());
            }
            assert!(slab.tries.is_empty(root));
            assert!(round == 0 || slab.tries.bytes() == bytes, "freed places are used again");
        }
    }

    /// Two hosts in each of 1,000 /64s: what would be eight nodes a pair
    /// without skipping is one.
    #[test]
    fn lonely_pairs_are_cheap() {
        let mut slab = Slab::default();
        let mut root = slab.tries.create();
        for network in 0..1000_u128 {
            for host in [1, 2] {
                slab.insert(&mut root, (0x2001_0db8 << 96 | network << 64 | host, 128));
            }
        }
        assert!(slab.check_nodes(root) < 1010);
        assert!(slab.tries.bytes() < 200_000);
    }
}
