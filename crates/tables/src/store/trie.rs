//! The tries: longest-prefix match, and the order of prefixes.
//!
//! One trie per routing table, all of one family in the same memory. A node
//! stands for eight bits of the address and holds the prefixes that end in
//! them. Node depth d (0: the root) holds lengths 8d+1 to 8d+8; the root also
//! holds length 0.
//!
//! The prefixes that can end in a node are the nodes of a complete binary tree
//! of depth 8: 511 positions, numbered in **preorder** (a shorter prefix
//! before the longer ones inside it, 0 before 1). So one bitmap of 512 bits
//! says which are there, and two questions become bit operations on it:
//!
//! - the longest match of an address byte: the highest bit that is set in the
//!   bitmap and in the byte's mask of nine ancestors (ancestors get deeper in
//!   preorder);
//! - the next prefix in order: the next bit that is set, or the child behind a
//!   byte's own position, whichever comes first.
//!
//! ```text
//! node, 112 bytes:  prefixes 512 bits | children 256 bits | two arrays' places
//! arrays:           one u32 for each bit that is set, in the bits' order
//! ```
//!
//! The real internet table takes 1.6 nodes for ten IPv4 prefixes. Arrays come from a
//! pool with size classes, so that inserting moves a few words and allocates
//! nothing. What is stored is a number in a slab: changing a route's value
//! never touches its trie.

use super::slab::Slab;

/// Positions of a complete binary tree of depth 8, padded to 512.
const POSITIONS: usize = 512;

/// Preorder position of the prefix that is `len` (0 to 8) top bits of `byte`.
#[inline]
const fn position(byte: u8, len: u8) -> u16 {
    let mut position = len as u16;
    let mut depth = 1;
    while depth <= len {
        if byte & (0x80 >> (depth - 1)) != 0 {
            // To the right: the whole left subtree stands before.
            position += (1 << (9 - depth)) - 1;
        }
        depth += 1;
    }
    position
}

struct Maps {
    /// For each byte: the positions of its nine prefixes.
    ancestors: [[u64; 8]; 256],
    /// For each byte: its own position (length 8).
    leaf: [u16; 256],
    /// For each position: byte and length.
    prefix: [(u8, u8); POSITIONS],
}

static MAPS: Maps = {
    let mut maps = Maps { ancestors: [[0; 8]; 256], leaf: [0; 256], prefix: [(0, 0); POSITIONS] };
    let mut byte = 0;
    while byte < 256 {
        let mut len = 0;
        while len <= 8 {
            let position = position(byte as u8, len);
            maps.ancestors[byte][position as usize / 64] |= 1 << (position % 64);
            if len == 8 {
                maps.leaf[byte] = position;
            }
            let masked = if len == 0 { 0 } else { byte as u8 & (0xff << (8 - len)) };
            maps.prefix[position as usize] = (masked, len);
            len += 1;
        }
        byte += 1;
    }
    maps
};

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    prefixes: [u64; 8],
    children: [u64; 4],
    prefix_array: Array,
    child_array: Array,
}

/// An array of the pool; its length is the number of bits set.
#[derive(Clone, Copy, Debug, Default)]
struct Array {
    at: u32,
    class: u8,
}

#[inline]
fn is_set(bits: &[u64], at: u16) -> bool {
    bits[at as usize / 64] >> (at % 64) & 1 == 1
}

/// How many bits are set below `at`.
#[inline]
fn rank(bits: &[u64], at: u16) -> usize {
    let word = at as usize / 64;
    let below: u32 = bits[..word].iter().map(|word| word.count_ones()).sum();
    (below + (bits[word] & ((1 << (at % 64)) - 1)).count_ones()) as usize
}

fn count(bits: &[u64]) -> usize {
    bits.iter().map(|word| word.count_ones() as usize).sum()
}

/// The lowest bit that is set at or above `from`.
fn next_set(bits: &[u64], from: u16) -> Option<u16> {
    let mut word = from as usize / 64;
    let mut current = bits.get(word)? & (u64::MAX << (from % 64));
    loop {
        if current != 0 {
            return Some((word * 64) as u16 + current.trailing_zeros() as u16);
        }
        word += 1;
        current = *bits.get(word)?;
    }
}

/// Array sizes; class 0 is no array.
const CLASSES: [u16; 19] =
    [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512];

/// Words in a chunk of the pool.
const POOL_CHUNK: usize = 4096;

/// Arrays of `u32` in size classes; an array never crosses a chunk.
#[derive(Debug, Default)]
struct Pool {
    chunks: Vec<Box<[u32]>>,
    /// The next word never used.
    fresh: usize,
    free: [Vec<u32>; CLASSES.len()],
}

impl Pool {
    fn allocate(&mut self, class: u8) -> u32 {
        if let Some(at) = self.free[class as usize].pop() {
            return at;
        }
        let size = CLASSES[class as usize] as usize;
        if self.fresh % POOL_CHUNK + size > POOL_CHUNK {
            self.give_tail_away();
        }
        if self.fresh == self.chunks.len() * POOL_CHUNK {
            self.chunks.push(vec![0; POOL_CHUNK].into_boxed_slice());
        }
        let at = self.fresh;
        self.fresh += size;
        at as u32
    }

    /// The end of a chunk, too short for the array that is wanted, becomes
    /// free arrays of the sizes that fit.
    fn give_tail_away(&mut self) {
        while self.fresh % POOL_CHUNK != 0 {
            let rest = POOL_CHUNK - self.fresh % POOL_CHUNK;
            let class = CLASSES.iter().rposition(|&size| size as usize <= rest).unwrap_or(1);
            self.free[class].push(self.fresh as u32);
            self.fresh += CLASSES[class] as usize;
        }
    }

    #[inline]
    fn read(&self, array: Array, index: usize) -> u32 {
        self.chunks[array.at as usize / POOL_CHUNK][array.at as usize % POOL_CHUNK + index]
    }

    #[inline]
    fn word(&mut self, array: Array, index: usize) -> &mut u32 {
        &mut self.chunks[array.at as usize / POOL_CHUNK][array.at as usize % POOL_CHUNK + index]
    }

    fn slice(&mut self, array: Array, len: usize) -> &mut [u32] {
        let start = array.at as usize % POOL_CHUNK;
        &mut self.chunks[array.at as usize / POOL_CHUNK][start..start + len]
    }

    /// Inserts into an array of `len` words.
    fn insert(&mut self, array: &mut Array, len: usize, index: usize, value: u32) {
        if len == CLASSES[array.class as usize] as usize {
            self.resize(array, len, array.class + 1);
        }
        let words = self.slice(*array, len + 1);
        words.copy_within(index..len, index + 1);
        words[index] = value;
    }

    /// Removes from an array of `len` words; gives it to a smaller class when
    /// it would be at most half full there and then too.
    fn remove(&mut self, array: &mut Array, len: usize, index: usize) {
        let words = self.slice(*array, len);
        words.copy_within(index + 1..len, index);
        let class = array.class;
        if len == 1 {
            self.free[class as usize].push(array.at);
            *array = Array::default();
        } else if class >= 3 && len - 1 <= CLASSES[class as usize - 2] as usize {
            self.resize(array, len - 1, class - 1);
        }
    }

    fn resize(&mut self, array: &mut Array, len: usize, class: u8) {
        let new = Array { at: self.allocate(class), class };
        let mut copy = [0; POSITIONS];
        copy[..len].copy_from_slice(self.slice(*array, len));
        self.slice(new, len).copy_from_slice(&copy[..len]);
        if array.class != 0 {
            self.free[array.class as usize].push(array.at);
        }
        *array = new;
    }

    fn bytes(&self) -> usize {
        self.chunks.len() * (POOL_CHUNK * 4 + size_of::<Box<[u32]>>())
            + self.free.iter().map(|free| free.capacity() * 4).sum::<usize>()
    }
}

/// A trie among the [`Tries`] of a family: the number of its root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Root(u32);

/// All tries of one family. Addresses are left-aligned in a `u128`, as
/// [`rtm_model::Prefix::bits`] has them.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    nodes: Slab<Node>,
    pool: Pool,
}

/// A prefix as the tries take it: left-aligned bits and length.
pub(crate) type Bits = (u128, u8);

#[inline]
fn byte_at(bits: u128, depth: u8) -> u8 {
    (bits >> (120 - 8 * u32::from(depth))) as u8
}

/// Where a prefix stands: the node's depth and the position in it.
#[inline]
fn place((bits, len): Bits) -> (u8, u16) {
    let depth = len.saturating_sub(1) / 8;
    (depth, position(byte_at(bits, depth), len - 8 * depth))
}

impl Tries {
    /// A new, empty trie.
    pub(crate) fn create(&mut self) -> Root {
        Root(self.nodes.insert(Node::default()))
    }

    /// Removes an empty trie.
    pub(crate) fn destroy(&mut self, root: Root) {
        debug_assert!(self.is_empty(root));
        self.nodes.remove(root.0);
    }

    /// Does it hold nothing?
    pub(crate) fn is_empty(&self, root: Root) -> bool {
        let node = &self.nodes[root.0];
        count(&node.prefixes) == 0 && count(&node.children) == 0
    }

    #[inline]
    fn child(&self, node: u32, byte: u8) -> Option<u32> {
        let node = &self.nodes[node];
        is_set(&node.children, u16::from(byte))
            .then(|| self.pool.read(node.child_array, rank(&node.children, u16::from(byte))))
    }

    #[inline]
    fn value(&self, node: &Node, position: u16) -> u32 {
        self.pool.read(node.prefix_array, rank(&node.prefixes, position))
    }

    /// What is stored for exactly this prefix.
    pub(crate) fn exact(&self, root: Root, prefix: Bits) -> Option<u32> {
        let (depth, position) = place(prefix);
        let node = (0..depth)
            .try_fold(root.0, |node, depth| self.child(node, byte_at(prefix.0, depth)))?;
        let node = &self.nodes[node];
        is_set(&node.prefixes, position).then(|| self.value(node, position))
    }

    /// Stores a value for a prefix; gives the one that was there.
    pub(crate) fn insert(&mut self, root: Root, prefix: Bits, value: u32) -> Option<u32> {
        let (depth, position) = place(prefix);
        let mut at = root.0;
        for depth in 0..depth {
            let byte = byte_at(prefix.0, depth);
            at = match self.child(at, byte) {
                Some(child) => child,
                None => {
                    let child = self.nodes.insert(Node::default());
                    let node = &mut self.nodes[at];
                    let index = rank(&node.children, u16::from(byte));
                    self.pool.insert(&mut node.child_array, count(&node.children), index, child);
                    node.children[usize::from(byte) / 64] |= 1 << (byte % 64);
                    child
                }
            };
        }
        let node = &mut self.nodes[at];
        let index = rank(&node.prefixes, position);
        if is_set(&node.prefixes, position) {
            return Some(std::mem::replace(self.pool.word(node.prefix_array, index), value));
        }
        self.pool.insert(&mut node.prefix_array, count(&node.prefixes), index, value);
        node.prefixes[position as usize / 64] |= 1 << (position % 64);
        None
    }

    /// Removes a prefix; gives what was there. Nodes that become empty go.
    pub(crate) fn remove(&mut self, root: Root, prefix: Bits) -> Option<u32> {
        let (depth, position) = place(prefix);
        let mut path = [root.0; 17];
        for depth in 0..depth {
            path[usize::from(depth) + 1] =
                self.child(path[usize::from(depth)], byte_at(prefix.0, depth))?;
        }
        let node = &mut self.nodes[path[usize::from(depth)]];
        if !is_set(&node.prefixes, position) {
            return None;
        }
        let index = rank(&node.prefixes, position);
        let value = self.pool.read(node.prefix_array, index);
        self.pool.remove(&mut node.prefix_array, count(&node.prefixes), index);
        node.prefixes[position as usize / 64] &= !(1 << (position % 64));

        for depth in (0..depth).rev() {
            let child = path[usize::from(depth) + 1];
            if !self.is_empty(Root(child)) {
                break;
            }
            self.nodes.remove(child);
            let byte = byte_at(prefix.0, depth);
            let node = &mut self.nodes[path[usize::from(depth)]];
            let index = rank(&node.children, u16::from(byte));
            self.pool.remove(&mut node.child_array, count(&node.children), index);
            node.children[usize::from(byte) / 64] &= !(1 << (byte % 64));
        }
        Some(value)
    }

    /// The longest prefix of `address` whose value `accepts`; shorter ones are
    /// tried only where it doesn't.
    #[inline]
    pub(crate) fn longest(
        &self,
        root: Root,
        address: u128,
        mut accepts: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let mut path = [root.0; 16];
        let mut depth = 0_u8;
        while depth < 15 {
            let Some(child) = self.child(path[usize::from(depth)], byte_at(address, depth)) else {
                break;
            };
            depth += 1;
            path[usize::from(depth)] = child;
        }
        loop {
            let node = &self.nodes[path[usize::from(depth)]];
            let ancestors = &MAPS.ancestors[usize::from(byte_at(address, depth))];
            for word in (0..8).rev() {
                let mut found = node.prefixes[word] & ancestors[word];
                while found != 0 {
                    let bit = 63 - found.leading_zeros();
                    let value = self.value(node, (word * 64) as u16 + bit as u16);
                    if accepts(value) {
                        return Some(value);
                    }
                    found &= !(1 << bit);
                }
            }
            depth = depth.checked_sub(1)?;
        }
    }

    /// The first prefix in order (address, then length) that lies `within`
    /// this one and, if given, stands after `after`; with its value.
    pub(crate) fn next(
        &self,
        root: Root,
        within: Bits,
        after: Option<Bits>,
    ) -> Option<(Bits, u32)> {
        // Everything before `within` is skipped; `after` is never before it.
        let (start, inclusive) = match after {
            Some(after) if after >= within => (after, false),
            _ => (within, true),
        };
        let found = self.next_in(root.0, 0, 0, Some((start, inclusive)))?;
        let ((bits, len), _) = found;
        (len >= within.1 && bits & rtm_model::mask(within.1) == within.0).then_some(found)
    }

    /// The first prefix of a node and what lies below, from `start` on
    /// (inclusive or not); `None` for `start`: from the node's beginning.
    /// `path` are the bits that lead to the node.
    fn next_in(
        &self,
        node: u32,
        depth: u8,
        path: u128,
        start: Option<(Bits, bool)>,
    ) -> Option<(Bits, u32)> {
        let node = &self.nodes[node];
        let Some((start, inclusive)) = start else {
            return self.scan(node, depth, path, 0, 0);
        };
        let (start_depth, position) = place(start);
        let byte = byte_at(start.0, depth);
        if start_depth == depth {
            // Every child at or behind the start's own byte lies behind it.
            return self.scan(node, depth, path, position + u16::from(!inclusive), u16::from(byte));
        }
        // The child on the way to `start` comes before anything else.
        self.descend(node, depth, path, byte, Some((start, inclusive))).or_else(|| {
            self.scan(node, depth, path, MAPS.leaf[usize::from(byte)] + 1, u16::from(byte) + 1)
        })
    }

    /// In order: prefixes of `node` from position `from` on, and the children
    /// from byte `child_from` on, each child behind its byte's own position.
    fn scan(
        &self,
        node: &Node,
        depth: u8,
        path: u128,
        from: u16,
        child_from: u16,
    ) -> Option<(Bits, u32)> {
        let position = next_set(&node.prefixes, from);
        let mut child_from = child_from;
        while let Some(byte) = next_set(&node.children, child_from) {
            if position.is_some_and(|position| position <= MAPS.leaf[usize::from(byte)]) {
                break;
            }
            if let Some(found) = self.descend(node, depth, path, byte as u8, None) {
                return Some(found);
            }
            child_from = byte + 1;
        }
        let position = position?;
        let (byte, len) = MAPS.prefix[usize::from(position)];
        let bits = path | u128::from(byte) << (120 - 8 * u32::from(depth));
        Some(((bits, 8 * depth + len), self.value(node, position)))
    }

    fn descend(
        &self,
        node: &Node,
        depth: u8,
        path: u128,
        byte: u8,
        start: Option<(Bits, bool)>,
    ) -> Option<(Bits, u32)> {
        if !is_set(&node.children, u16::from(byte)) {
            return None;
        }
        let child = self.pool.read(node.child_array, rank(&node.children, u16::from(byte)));
        self.next_in(
            child,
            depth + 1,
            path | u128::from(byte) << (120 - 8 * u32::from(depth)),
            start,
        )
    }

    /// Gives up to `count` chunks back to the allocator: for tries that were
    /// swapped out. False: none is left.
    pub(crate) fn dismantle(&mut self, count: usize) -> bool {
        (0..count).all(|_| self.nodes.pop_chunk() || self.pool.chunks.pop().is_some())
    }

    /// Bytes taken from the allocator.
    pub(crate) fn bytes(&self) -> usize {
        self.nodes.bytes() + self.pool.bytes()
    }

    /// Nodes in use.
    #[cfg(test)]
    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
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
            prop_oneof![Just(0_u8), Just(255), Just(128), Just(127), Just(3)],
            16,
        )
        .prop_map(|bytes| u128::from_be_bytes(bytes.try_into().unwrap()));
        (prop_oneof![1 => bits, 4 => few], prop_oneof![0_u8..=24, 0_u8..=128])
            .prop_map(|(bits, len)| (bits & mask(len), len))
    }

    fn check(
        tries: &Tries,
        root: Root,
        model: &BTreeMap<Bits, u32>,
        probes: &[Bits],
    ) -> Result<(), TestCaseError> {
        // All in order.
        let mut after = None;
        let mut seen = Vec::new();
        while let Some((prefix, value)) = tries.next(root, (0, 0), after) {
            seen.push((prefix, value));
            after = Some(prefix);
        }
        prop_assert_eq!(
            &seen,
            &model.iter().map(|(&prefix, &value)| (prefix, value)).collect::<Vec<_>>()
        );
        for &(bits, len) in probes.iter().chain(model.keys()) {
            prop_assert_eq!(tries.exact(root, (bits, len)), model.get(&(bits, len)).copied());
            for address in [bits, bits | !mask(len)] {
                let all: Vec<u32> = (0..=128_u8)
                    .rev()
                    .filter_map(|len| model.get(&(address & mask(len), len)).copied())
                    .collect();
                prop_assert_eq!(tries.longest(root, address, |_| true), all.first().copied());
                let mut tried = Vec::new();
                tries.longest(root, address, |value| {
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
            prop_assert_eq!(tries.next(root, (bits, len), None), inside.first().copied());
            for pair in inside.windows(2) {
                prop_assert_eq!(tries.next(root, (bits, len), Some(pair[0].0)), Some(pair[1]));
            }
            if let Some(last) = inside.last() {
                prop_assert_eq!(tries.next(root, (bits, len), Some(last.0)), None);
            }
            // After a prefix that need not be there.
            prop_assert_eq!(
                tries.next(root, (0, 0), Some((bits, len))),
                model
                    .range((bits, len)..)
                    .find(|(prefix, _)| **prefix != (bits, len))
                    .map(|(&p, &v)| (p, v))
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
            let mut tries = Tries::default();
            let (root, other) = (tries.create(), tries.create());
            let mut model = BTreeMap::new();
            for (number, (prefix, what)) in steps.into_iter().enumerate() {
                let number = number as u32;
                if what == 0 {
                    prop_assert_eq!(tries.remove(root, prefix), model.remove(&prefix));
                    let first = model.keys().next().copied();
                    if let Some(first) = first {
                        prop_assert_eq!(tries.remove(root, first), model.remove(&first));
                    }
                } else {
                    prop_assert_eq!(tries.insert(root, prefix, number), model.insert(prefix, number));
                }
            }
            check(&tries, root, &model, &probes)?;
            prop_assert!(tries.is_empty(other));
            for prefix in model.keys() {
                prop_assert!(tries.remove(root, *prefix).is_some());
            }
            prop_assert!(tries.is_empty(root));
            prop_assert_eq!(tries.nodes(), 2);
        }
    }

    #[test]
    fn a_full_node_shrinks_and_grows() {
        let mut tries = Tries::default();
        let root = tries.create();
        let all: Vec<Bits> = (0..=8_u8)
            .flat_map(|len| {
                (0..1_u32 << len)
                    .map(move |v| (u128::from(v) << ((128 - u32::from(len)) % 128), len))
            })
            .collect();
        let all: Vec<Bits> = all
            .into_iter()
            .map(|(bits, len)| if len == 0 { (0, 0) } else { (bits, len) })
            .collect();
        for round in 0..3 {
            for (number, &prefix) in all.iter().enumerate() {
                assert_eq!(tries.insert(root, prefix, number as u32), None, "{round} {prefix:?}");
            }
            let bytes = tries.bytes();
            for (number, &prefix) in all.iter().enumerate() {
                assert_eq!(tries.remove(root, prefix), Some(number as u32));
            }
            assert!(tries.is_empty(root));
            assert!(round == 0 || tries.bytes() == bytes, "freed arrays are used again");
        }
    }
}
