//! Following an address to its leaf: what every lookup does.
//!
//! These functions run while the nodes may be handed back under them, so they
//! always end (one step per level) and never fail: out of torn memory comes
//! some number, and the caller's check throws it away.
//!
//! What a lookup costs on a processor of today are its wrong guesses: where an
//! address ends is hard to foresee, and each branch that was foreseen wrongly
//! costs as much as a dozen levels. So there is none for "is this a leaf": a
//! walk goes all the way down that most take, reading anything behind a leaf,
//! and keeps the leaf ([`keep`]). Branches are left for what is rare.
use super::node::{OCTET_HEAD, TAIL};
use super::small;
use crate::answers::PER_PAGE;
use crate::instructions::{Ones, Popcnt, Portable, keep};
use crate::layout::{tag, wide, word_of};
use crate::store::{entry16, entry32};
use crate::words::{Head, Part, ReadWords, Words};

/// Bits of an IPv4 page's index.
pub(crate) const PAGE4_BITS: u32 = 9;
/// Bits of an IPv6 page's index.
pub(crate) const PAGE6_BITS: u32 = 8;
/// Bits per level of runs, IPv4.
pub(crate) const RUNS4_BITS: u32 = 6;

/// Addresses that are walked together.
pub(crate) const BATCH: usize = 16;

#[inline(always)]
fn is_leaf(entry: u32) -> bool {
    entry & tag::LEAF != 0
}

/// A wide root and the first page of answers, both found to be inside of the
/// mapping: what most lookups of a large IPv4 table need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Direct {
    root: Part<{ wide::WORDS }>,
    answers: Part<PER_PAGE>,
    /// For the check.
    pub(crate) header: Head,
    ones: Popcnt,
}

impl Direct {
    /// `None`: the root is no wide one, or this processor can't count bits.
    pub(crate) fn new(words: &ReadWords, root: u32, first: usize) -> Option<Direct> {
        if root & (tag::LEAF | tag::KIND) != tag::WIDE {
            return None;
        }
        Some(Direct {
            root: words.part(word_of(root))?,
            answers: words.part(first)?,
            header: words.header(),
            ones: Popcnt::detect()?,
        })
    }

    /// The word of the answer with this number. `None`: it isn't one, or of another page.
    #[inline(always)]
    fn word(&self, words: &ReadWords, number: u64) -> Option<u64> {
        const { assert!(TAIL as usize >= PER_PAGE) }
        let number = number as usize;
        (number < PER_PAGE).then(|| words.get_of(self.answers, number))
    }

    /// The word of the answer for an address, by three loads. `None`: it takes
    /// more, as for a prefix longer than 24 bits, or an answer of another page.
    #[inline(always)]
    pub(crate) fn answer(&self, words: &ReadWords, address: u32) -> Option<u64> {
        self.word(words, words.under(self.root, self.ones, address))
    }

    /// The same for up to 16 addresses, so that the misses of all of them are
    /// under way at the same time.
    #[inline(always)]
    pub(crate) fn answers(
        &self,
        words: &ReadWords,
        addresses: &[u32],
        mut found: impl FnMut(usize, Option<u64>),
    ) {
        let mut nodes = [words.node(0); BATCH];
        for (node, &address) in nodes.iter_mut().zip(addresses) {
            let entry = words.half_of(self.root, (address >> (32 - wide::BITS)) as usize);
            *node = words.node(entry);
            node.prefetch();
        }
        let mut one = |at: usize, address: u32| {
            let slot = address >> (32 - wide::BITS - RUNS4_BITS);
            found(at, self.word(words, nodes[at % BATCH].entry(self.ones, slot)));
        };
        // Four at a time: each pays a quarter of the loop.
        let fours = addresses.chunks_exact(4);
        let (alone, mut at) = (fours.remainder(), 0);
        for four in fours {
            four.iter().enumerate().for_each(|(part, &address)| one(at + part, address));
            at += 4;
        }
        alone.iter().enumerate().for_each(|(part, &address)| one(at + part, address));
    }
}

/// The answer's number for an IPv4 address under `root`.
pub(crate) fn walk4(words: &impl Words, ones: impl Ones, root: u32, address: u32) -> u32 {
    if is_leaf(root) {
        return root & !tag::LEAF;
    }
    let (mut entry, mut rest) = (root, address);
    match root & tag::KIND {
        tag::SMALL => return small::find4(words, word_of(root), address),
        tag::WIDE => {
            let found = entry32(words, word_of(root), (address >> (32 - wide::BITS)) as usize);
            entry = wide::unpack(found);
            rest <<= wide::BITS;
        }
        _ => {
            for _ in 0..2 {
                if !is_leaf(entry) {
                    let index = rest >> (32 - PAGE4_BITS);
                    entry = entry32(words, word_of(entry), index as usize);
                    rest <<= PAGE4_BITS;
                }
            }
        }
    }
    below_pages4(words, ones, entry, rest)
}

/// [`walk4`] for up to 16 addresses, under pages level by level, so that the misses of
/// all of them are under way at the same time.
#[inline(always)]
pub(crate) fn batch4(
    words: &ReadWords,
    ones: impl Ones,
    root: u32,
    addresses: &[u32],
    leaves: &mut [u32; BATCH],
) {
    if root & (tag::LEAF | tag::KIND) != tag::DENSE {
        for (leaf, &address) in leaves.iter_mut().zip(addresses) {
            *leaf = walk4(words, ones, root, address);
        }
        return;
    }
    let index = |rest: u32| (rest >> (32 - PAGE4_BITS)) as usize;
    for (entry, &address) in leaves.iter_mut().zip(addresses) {
        let first = entry32(words, word_of(root), index(address));
        *entry = keep(first, entry32(words, word_of(first), index(address << PAGE4_BITS)));
        words.prefetch(word_of(*entry));
    }
    for (entry, &address) in leaves.iter_mut().zip(addresses) {
        *entry = below_pages4(words, ones, *entry, address << (2 * PAGE4_BITS));
    }
}

/// What is left of a walk below an entry of the second page, or of a wide root.
#[inline(always)]
fn below_pages4(words: &impl Words, ones: impl Ones, entry: u32, mut rest: u32) -> u32 {
    let mut entry = keep(entry, six(words, ones, word_of(entry), rest >> (32 - RUNS4_BITS)));
    // The last level's lower bits are behind the address.
    for _ in 0..2 {
        if is_leaf(entry) {
            break;
        }
        rest <<= RUNS4_BITS;
        entry = six(words, ones, word_of(entry), rest >> (32 - RUNS4_BITS));
    }
    entry & !tag::LEAF
}

/// One level of six bits down.
#[inline(always)]
fn six(words: &impl Words, ones: impl Ones, node: usize, slot: u32) -> u32 {
    let run = ones.of(words.get(node) >> (slot & 63)) as usize;
    let entry = entry16(words, node, 3 + run);
    if entry & TAIL == 0 {
        entry | tag::LEAF
    } else {
        entry32(words, node, (entry & !TAIL) as usize)
    }
}

/// How many runs begin up to `slot` (its six lower bits) in the bitmap at `at`.
#[inline(always)]
fn run_of(words: &impl Words, ones: impl Ones, at: usize, slot: u32) -> usize {
    ones.of(words.get(at) << (!slot & 63)) as usize
}

/// The answer's number for an IPv6 address under `root`.
#[inline(always)]
pub(crate) fn walk6(words: &impl Words, ones: impl Ones, root: u32, address: u128) -> u32 {
    if root & (tag::LEAF | tag::KIND) != tag::DENSE {
        return outside6(words, root, address);
    }
    let high = (address >> 64) as u64;
    let entry = entry32(words, word_of(root), (high >> 56) as usize);
    // Foreseen well: addresses that are in use are under a few of these, and
    // of those that aren't hardly any.
    if is_leaf(entry) {
        return entry & !tag::LEAF;
    }
    let mut entry = pages6(words, entry, high);
    for level in 3..6 {
        entry = keep(entry, octet(words, ones, entry, (high >> (56 - 8 * level)) as u32));
    }
    if is_leaf(entry) { entry & !tag::LEAF } else { deep6(words, entry, address << 48) }
}

/// The second and third page.
#[inline(always)]
fn pages6(words: &impl Words, entry: u32, high: u64) -> u32 {
    let entry = keep(entry, entry32(words, word_of(entry), (high >> 48 & 255) as usize));
    keep(entry, entry32(words, word_of(entry), (high >> 40 & 255) as usize))
}

/// One level of runs down, by the eight lower bits of `slot`.
#[inline(always)]
pub(crate) fn octet(words: &impl Words, ones: impl Ones, entry: u32, slot: u32) -> u32 {
    const { assert!(OCTET_HEAD == 5) }
    let node = word_of(entry);
    let part = (slot >> 6 & 3) as usize;
    let before = entry16(words, node, part) as usize;
    entry32(words, node, before + run_of(words, ones, node + 1 + part, slot))
}

/// Below 48 bits: few prefixes are longer.
#[inline(never)]
fn deep6(words: &impl Words, mut entry: u32, mut rest: u128) -> u32 {
    for _ in 6..16 {
        if is_leaf(entry) {
            break;
        }
        entry = octet(words, Portable, entry, (rest >> 120) as u32);
        rest <<= 8;
    }
    entry & !tag::LEAF
}

#[cold]
fn outside6(words: &impl Words, entry: u32, address: u128) -> u32 {
    if is_leaf(entry) {
        return entry & !tag::LEAF;
    }
    small::find6(words, word_of(entry), address)
}

/// [`walk6`] for up to 16 addresses, level by level, so that the misses of all of
/// them are under way at the same time.
#[inline(always)]
pub(crate) fn batch6(
    words: &ReadWords,
    ones: impl Ones,
    root: u32,
    addresses: &[u128],
    leaves: &mut [u32; BATCH],
) {
    if root & (tag::LEAF | tag::KIND) != tag::DENSE {
        for (leaf, &address) in leaves.iter_mut().zip(addresses) {
            *leaf = outside6(words, root, address);
        }
        return;
    }
    // Those whose address doesn't end in a page: of addresses that nobody uses, hardly any.
    let (mut below, mut count) = ([0; BATCH], 0);
    for (index, (entry, &address)) in leaves.iter_mut().zip(addresses).enumerate() {
        let first = entry32(words, word_of(root), (address >> 120) as usize);
        *entry = if is_leaf(first) { first } else { pages6(words, first, (address >> 64) as u64) };
        words.prefetch(word_of(*entry));
        below[count % BATCH] = index;
        count += usize::from(!is_leaf(*entry));
    }
    if count <= BATCH / 2 {
        for &index in &below[..count] {
            for level in 3..6 {
                let slot = (addresses[index] >> (120 - 8 * level)) as u32;
                leaves[index] = keep(leaves[index], octet(words, ones, leaves[index], slot));
            }
        }
    } else {
        for level in 3..6 {
            for (entry, &address) in leaves.iter_mut().zip(addresses) {
                let slot = (address >> (120 - 8 * level)) as u32;
                *entry = keep(*entry, octet(words, ones, *entry, slot));
                words.prefetch(word_of(*entry));
            }
        }
    }
    for (entry, &address) in leaves.iter_mut().zip(addresses) {
        if !is_leaf(*entry) {
            *entry = deep6(words, *entry, address << 48);
        }
        *entry &= !tag::LEAF;
    }
}
