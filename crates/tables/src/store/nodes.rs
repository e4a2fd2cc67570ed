//! The nodes of the tries, in memory: a bitmap, counts, and an array of as many
//! words as the bitmap has bits set, in one piece that begins on a cache line.
//!
//! ```text
//! line 0 | bitmap: 512 bits                                          |
//! line 1 | depth, class, 7 counts (u16) | array: words 0 to 11       |
//! line 2 | array: words 12 to 27 ...                                 |
//! ```
//!
//! Finding a bit's word is one look at the bitmap, one at the count of bits
//! before that part of it, and one into the array: for most nodes two adjacent
//! lines, which the processor fetches together.
//!
//! Nodes come in size classes. One that outgrows its class is copied to a
//! larger place, so its number changes; whoever refers to it (there is one) is
//! told. Freed places are used again by their class; a chunk's end that is too
//! short for what is wanted becomes places of smaller classes.

/// Words in a cache line of 64 bytes.
const LINE: usize = 16;

/// Lines in a chunk: 32 KiB.
const CHUNK: usize = 512;

/// Words of a node before its array.
const HEAD: usize = LINE + 4;

/// Lines of a node, by class. The largest has room for all 511 positions.
const CLASSES: [u16; 12] = [2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 28, 34];

/// The number of a node: its first line.
pub(super) type NodeNo = u32;

#[derive(Debug)]
struct Chunk {
    words: Box<[u32]>,
    /// Words before the first that begins a cache line.
    skew: usize,
}

impl Chunk {
    fn new() -> Chunk {
        let words = vec![0_u32; CHUNK * LINE + LINE].into_boxed_slice();
        let past = words.as_ptr().addr() % (LINE * 4);
        Chunk { skew: (LINE - past / 4) % LINE, words }
    }
}

/// The place of a word in a node's array.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Spot {
    at: NodeNo,
    word: u32,
}

/// All nodes of a family's tries.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    chunks: Vec<Chunk>,
    /// The first line that was never used.
    fresh: u32,
    free: [Vec<NodeNo>; CLASSES.len()],
    len: usize,
}

/// A node to be read.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    words: &'a [u32],
    head: &'a [u32; HEAD],
}

impl<'a> Node<'a> {
    #[inline]
    fn part(self, part: usize) -> u64 {
        u64::from(self.head[2 * part]) | u64::from(self.head[2 * part + 1]) << 32
    }

    /// 16 bits: 0 is depth and class, 1 to 7 are the bits set before that part
    /// of the bitmap.
    #[inline]
    fn short(self, at: usize) -> u16 {
        (self.head[LINE + at / 2] >> (16 * (at % 2))) as u16
    }

    /// Bytes of the address that lead to it.
    #[inline]
    pub(super) fn depth(self) -> u8 {
        self.short(0) as u8
    }

    #[inline]
    fn class(self) -> usize {
        usize::from(self.short(0) >> 8)
    }

    /// Asks for both lines of its head.
    #[inline]
    pub(super) fn prefetch(self) {
        rtm_prefetch::read(&self.head[0]);
        rtm_prefetch::read(&self.head[LINE]);
    }

    /// Is this position taken?
    #[inline]
    pub(super) fn is_set(self, position: u16) -> bool {
        self.head[usize::from(position) / 32] >> (position % 32) & 1 == 1
    }

    /// How many positions are taken below this one.
    #[inline]
    fn rank(self, position: u16) -> usize {
        let part = usize::from(position) / 64;
        let before = if part == 0 { 0 } else { usize::from(self.short(part)) };
        let below = self.part(part) & ((1 << (position % 64)) - 1);
        before + below.count_ones() as usize
    }

    /// The place of what stands at a position that is taken, in the node of this
    /// number.
    #[inline]
    pub(super) fn spot(self, at: NodeNo, position: u16) -> Spot {
        Spot { at, word: (HEAD + self.rank(position)) as u32 }
    }

    /// What stands at a position that is taken.
    #[inline]
    pub(super) fn value(self, position: u16) -> u32 {
        self.words[HEAD + self.rank(position)]
    }

    /// What stands at the first position that is taken. The node must not be
    /// empty.
    pub(super) fn first(self) -> u32 {
        self.words[HEAD]
    }

    /// How many positions are taken.
    pub(super) fn count(self) -> usize {
        usize::from(self.short(7)) + self.part(7).count_ones() as usize
    }

    /// The lowest position that is taken at or above `from`.
    pub(super) fn next(self, from: u16) -> Option<u16> {
        let mut part = usize::from(from) / 64;
        if part >= 8 {
            return None;
        }
        let mut bits = self.part(part) & (u64::MAX << (from % 64));
        while bits == 0 {
            part += 1;
            if part == 8 {
                return None;
            }
            bits = self.part(part);
        }
        Some((part * 64) as u16 + bits.trailing_zeros() as u16)
    }

    /// The positions that are taken among those of `mask`, from the highest
    /// down, of which none is above `highest`.
    #[inline]
    pub(super) fn among(self, mask: &'a [u64; 8], highest: u16) -> impl Iterator<Item = u16> + 'a {
        let mut part = usize::from(highest) / 64;
        let mut bits = self.part(part) & mask[part];
        std::iter::from_fn(move || {
            while bits == 0 {
                part = part.checked_sub(1)?;
                bits = self.part(part) & mask[part];
            }
            let bit = 63 - bits.leading_zeros();
            bits &= !(1 << bit);
            Some((part * 64) as u16 + bit as u16)
        })
    }
}

impl Nodes {
    /// A new, empty node.
    pub(super) fn insert(&mut self, depth: u8) -> NodeNo {
        self.len += 1;
        let at = self.allocate(0);
        self.words_mut(at)[LINE] = u32::from(depth);
        at
    }

    /// A node goes.
    pub(super) fn remove(&mut self, at: NodeNo) {
        self.len -= 1;
        self.release(at);
    }

    /// Nodes in use.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A node to be read.
    #[inline]
    pub(super) fn get(&self, at: NodeNo) -> Node<'_> {
        let chunk = &self.chunks[at as usize / CHUNK];
        let words = &chunk.words[chunk.skew + at as usize % CHUNK * LINE..];
        match words.first_chunk::<HEAD>() {
            Some(head) => Node { words, head },
            None => unreachable!("a node is whole"),
        }
    }

    /// The word at a place.
    #[inline]
    pub(super) fn at(&self, Spot { at, word }: Spot) -> &u32 {
        let chunk = &self.chunks[at as usize / CHUNK];
        &chunk.words[chunk.skew + at as usize % CHUNK * LINE + word as usize]
    }

    #[inline]
    fn words_mut(&mut self, at: NodeNo) -> &mut [u32] {
        let chunk = &mut self.chunks[at as usize / CHUNK];
        &mut chunk.words[chunk.skew + at as usize % CHUNK * LINE..]
    }

    /// Writes to a position that is taken; gives what stood there.
    pub(super) fn set(&mut self, at: NodeNo, position: u16, value: u32) -> u32 {
        let rank = self.get(at).rank(position);
        std::mem::replace(&mut self.words_mut(at)[HEAD + rank], value)
    }

    /// Writes to a position that is not taken. Gives the node's number, which
    /// may be another now.
    #[must_use]
    pub(super) fn add(&mut self, at: NodeNo, position: u16, value: u32) -> NodeNo {
        let node = self.get(at);
        let (count, rank, class) = (node.count(), node.rank(position), node.class());
        let room = usize::from(CLASSES[class]) * LINE - HEAD;
        let at = if count == room { self.resize(at, class + 1) } else { at };
        let words = self.words_mut(at);
        words.copy_within(HEAD + rank..HEAD + count, HEAD + rank + 1);
        words[HEAD + rank] = value;
        words[usize::from(position) / 32] |= 1 << (position % 32);
        for part in usize::from(position) / 64 + 1..8 {
            words[LINE + part / 2] += 1 << (16 * (part % 2));
        }
        at
    }

    /// Frees a position that is taken; gives what stood there and the node's
    /// number, which may be another now.
    pub(super) fn take(&mut self, at: NodeNo, position: u16) -> (u32, NodeNo) {
        let node = self.get(at);
        let (count, rank, class) = (node.count(), node.rank(position), node.class());
        let words = self.words_mut(at);
        let value = words[HEAD + rank];
        words.copy_within(HEAD + rank + 1..HEAD + count, HEAD + rank);
        words[usize::from(position) / 32] &= !(1 << (position % 32));
        for part in usize::from(position) / 64 + 1..8 {
            words[LINE + part / 2] -= 1 << (16 * (part % 2));
        }
        // Two classes down, so that a node at the border doesn't go to and fro.
        if class >= 2 && count - 1 <= usize::from(CLASSES[class - 2]) * LINE - HEAD {
            return (value, self.resize(at, class - 1));
        }
        (value, at)
    }

    fn resize(&mut self, at: NodeNo, class: usize) -> NodeNo {
        let new = self.allocate(class);
        let words = HEAD + self.get(at).count();
        let mut copy = [0; HEAD + 512];
        copy[..words].copy_from_slice(&self.words_mut(at)[..words]);
        copy[LINE] = copy[LINE] & 0xffff_00ff | (class as u32) << 8;
        self.words_mut(new)[..words].copy_from_slice(&copy[..words]);
        self.release(at);
        new
    }

    fn allocate(&mut self, class: usize) -> NodeNo {
        let lines = u32::from(CLASSES[class]);
        let at = self.free[class].pop().unwrap_or_else(|| {
            let left = CHUNK as u32 - self.fresh % CHUNK as u32;
            if left < lines {
                self.give_away(left);
            }
            if self.fresh as usize == self.chunks.len() * CHUNK {
                self.chunks.push(Chunk::new());
            }
            self.fresh += lines;
            self.fresh - lines
        });
        self.words_mut(at)[..HEAD].fill(0);
        self.words_mut(at)[LINE] = (class as u32) << 8;
        at
    }

    /// The end of a chunk becomes free places of the largest classes that fit.
    fn give_away(&mut self, mut left: u32) {
        while let Some(class) = CLASSES.iter().rposition(|&lines| u32::from(lines) <= left) {
            self.free[class].push(self.fresh);
            self.fresh += u32::from(CLASSES[class]);
            left -= u32::from(CLASSES[class]);
        }
        self.fresh += left; // A single line is of no use.
    }

    fn release(&mut self, at: NodeNo) {
        let class = self.get(at).class();
        self.free[class].push(at);
    }

    /// Gives the last chunk back to the allocator: for nodes that were swapped
    /// out. False: there is none.
    pub(super) fn pop_chunk(&mut self) -> bool {
        self.chunks.pop().is_some()
    }

    /// Bytes taken from the allocator.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * ((CHUNK + 1) * LINE * 4 + size_of::<Chunk>())
            + self.free.iter().map(|free| free.capacity() * 4).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_can_be_taken_in_any_order() {
        let mut nodes = Nodes::default();
        for step in [1_u32, 5, 173, 509] {
            let mut at = nodes.insert(3);
            let order: Vec<u16> = (0..511).map(|n| (n * step % 511) as u16).collect();
            for (count, &position) in order.iter().enumerate() {
                assert!(!nodes.get(at).is_set(position));
                at = nodes.add(at, position, u32::from(position) * 7);
                assert_eq!(nodes.get(at).count(), count + 1);
                assert_eq!(nodes.get(at).depth(), 3);
            }
            for position in 0..511 {
                assert_eq!(nodes.get(at).value(position), u32::from(position) * 7);
                assert_eq!(nodes.get(at).next(position), Some(position));
            }
            assert_eq!(nodes.get(at).next(511), None);
            assert_eq!(nodes.set(at, 30, 5), 210);
            assert_eq!(nodes.set(at, 30, 210), 5);
            for (count, &position) in order.iter().enumerate().rev() {
                let (value, new) = nodes.take(at, position);
                at = new;
                assert_eq!(value, u32::from(position) * 7);
                assert_eq!(nodes.get(at).count(), count);
                if count > 0 {
                    let lowest = nodes.get(at).next(0).unwrap();
                    assert_eq!(nodes.get(at).first(), u32::from(lowest) * 7);
                }
            }
            nodes.remove(at);
            assert_eq!(nodes.len(), 0);
        }
        assert_eq!(nodes.chunks.len(), 1, "freed places are used again");
    }

    #[test]
    fn a_node_begins_on_a_line() {
        let mut nodes = Nodes::default();
        for _ in 0..600 {
            let at = nodes.insert(0);
            assert_eq!(nodes.get(at).words.as_ptr().addr() % 64, 0);
        }
    }
}
