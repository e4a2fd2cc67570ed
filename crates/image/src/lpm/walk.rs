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
use super::node::{OCTET_HEAD, SIX_HEAD};
use super::small;
use crate::instructions::{Ones, Portable, keep};
use crate::layout::{tag, word_of};
use crate::store::{entry16, entry32};
use crate::words::{ReadWords, Words};

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

/// The answer for an IPv4 address under `root`; 0: none.
#[inline(always)]
pub(crate) fn walk4(words: &impl Words, ones: impl Ones, root: u32, address: u32) -> u32 {
    if root & (tag::LEAF | tag::KIND) != tag::DENSE {
        return outside4(words, root, address);
    }
    under4(words, ones, pages4(words, root, address), address)
}

/// Both pages.
#[inline(always)]
fn pages4(words: &impl Words, root: u32, address: u32) -> u32 {
    let entry = entry32(words, word_of(root), (address >> 23) as usize);
    keep(entry, entry32(words, word_of(entry), (address >> 14 & 511) as usize))
}

/// The levels of runs under an entry of the second page.
#[inline(always)]
fn under4(words: &impl Words, ones: impl Ones, entry: u32, address: u32) -> u32 {
    // Narrow nodes and leaves have all of these bits, or a higher one.
    const { assert!(tag::NARROW == tag::KIND && tag::LEAF > tag::KIND) }
    if entry < tag::NARROW {
        return wide4(words, entry, address << 18);
    }
    let run = run_of(words, ones, word_of(entry), address >> 8);
    keep(entry, entry16(words, word_of(entry), 4 * SIX_HEAD - 1 + run)) & !tag::LEAF
}

/// How many runs begin up to `slot` (its six lower bits) in the bitmap at `at`.
#[inline(always)]
fn run_of(words: &impl Words, ones: impl Ones, at: usize, slot: u32) -> usize {
    ones.of(words.get(at) << (!slot & 63)) as usize
}

/// Below a node that has more than leaves: few have prefixes longer than 24
/// bits. The last level's lower bits are behind the address.
#[inline(never)]
fn wide4(words: &impl Words, mut entry: u32, mut rest: u32) -> u32 {
    for _ in 0..3 {
        if is_leaf(entry) {
            break;
        }
        let node = word_of(entry);
        let run = run_of(words, Portable, node, rest >> 26);
        if entry & tag::KIND == tag::NARROW {
            return entry16(words, node, 4 * SIX_HEAD - 1 + run);
        }
        entry = entry32(words, node, 2 * SIX_HEAD - 1 + run);
        rest <<= 6;
    }
    entry & !tag::LEAF
}

#[cold]
fn outside4(words: &impl Words, entry: u32, address: u32) -> u32 {
    if is_leaf(entry) {
        return entry & !tag::LEAF;
    }
    small::find4(words, word_of(entry), address)
}

/// The answer for an IPv6 address under `root`; 0: none.
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

/// [`walk4`] for up to 16 addresses, stage by stage, so that the misses of all
/// of them are under way at the same time.
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
            *leaf = outside4(words, root, address);
        }
        return;
    }
    for (entry, &address) in leaves.iter_mut().zip(addresses) {
        *entry = pages4(words, root, address);
        words.prefetch(word_of(*entry));
    }
    for (leaf, &address) in leaves.iter_mut().zip(addresses) {
        *leaf = under4(words, ones, *leaf, address);
    }
}

/// [`walk6`] for up to 16 addresses, level by level.
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
    for (entry, &address) in leaves.iter_mut().zip(addresses) {
        let first = entry32(words, word_of(root), (address >> 120) as usize);
        *entry = if is_leaf(first) { first } else { pages6(words, first, (address >> 64) as u64) };
        words.prefetch(word_of(*entry));
    }
    for level in 3..6 {
        for (entry, &address) in leaves.iter_mut().zip(addresses) {
            let slot = (address >> (120 - 8 * level)) as u32;
            *entry = keep(*entry, octet(words, ones, *entry, slot));
            words.prefetch(word_of(*entry));
        }
    }
    for (entry, &address) in leaves.iter_mut().zip(addresses) {
        if !is_leaf(*entry) {
            *entry = deep6(words, *entry, address << 48);
        }
        *entry &= !tag::LEAF;
    }
}
