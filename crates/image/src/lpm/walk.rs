//! Following an address to its leaf: what every lookup does.
//!
//! These functions run while the nodes may be handed back under them, so they
//! always end (one step per level) and never fail: out of torn memory comes
//! some number, and the caller's check throws it away.
use super::small;
use crate::layout::{tag, word_of};
use crate::store::{entry16, entry32};
use crate::words::{ReadWords, Words};

/// Bits of an IPv4 page's index.
pub(crate) const PAGE4_BITS: u32 = 9;
/// Bits of an IPv6 page's index.
pub(crate) const PAGE6_BITS: u32 = 8;
/// Bits per level of runs, IPv4.
pub(crate) const RUNS4_BITS: u32 = 6;

/// The answer for an IPv4 address under `entry`; 0: none.
#[inline(always)]
pub(crate) fn walk4(words: &impl Words, entry: u32, address: u32) -> u32 {
    if entry & (tag::LEAF | tag::KIND) != tag::DENSE {
        return outside4(words, entry, address);
    }
    let entry = entry32(words, word_of(entry), (address >> 23) as usize);
    if entry & tag::LEAF != 0 {
        return entry & !tag::LEAF;
    }
    runs4(words, entry32(words, word_of(entry), (address >> 14 & 511) as usize), address << 18)
}

/// Three levels of runs; the last one's lower bits are behind the address.
#[inline(always)]
fn runs4(words: &impl Words, mut entry: u32, mut rest: u32) -> u32 {
    for _ in 0..3 {
        if entry & tag::LEAF != 0 {
            return entry & !tag::LEAF;
        }
        let slot = rest >> 26;
        let node = word_of(entry);
        let run = ((words.get(node) << (63 - slot)).count_ones() as usize).wrapping_sub(1);
        if entry & tag::KIND == tag::NARROW {
            return entry16(words, node + 1, run & 63);
        }
        entry = entry32(words, node + 1, run & 63);
        rest <<= 6;
    }
    entry & !tag::LEAF
}

#[cold]
fn outside4(words: &impl Words, entry: u32, address: u32) -> u32 {
    if entry & tag::LEAF != 0 {
        return entry & !tag::LEAF;
    }
    small::find4(words, word_of(entry), address)
}

/// How many bytes of `bounds` are greater than `slot`.
#[inline(always)]
pub(crate) fn count_greater(bounds: u64, slot: u32) -> usize {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // bound > slot, that is bound >= slot + 1 without overflow in the byte:
    // compare the low seven bits by subtraction, the high ones by logic.
    let slots = u64::from(slot) * 0x0101_0101_0101_0101;
    let low = ((slots | HIGH) - (bounds & !HIGH)) & HIGH; // high bit: slot's low bits >= bound's
    let greater = (bounds & !slots) | (!(bounds ^ slots) & !low);
    (greater & HIGH).count_ones() as usize
}

/// The number of the run in a bitmap of four words.
#[inline(always)]
pub(crate) fn run_of_256(words: &impl Words, node: usize, slot: u32) -> usize {
    let (word, bit) = (slot / 64, slot % 64);
    let mut run = (words.get(node + word as usize) << (63 - bit)).count_ones();
    // Branch-free: all three are in the same cache line or the next.
    run += if word > 0 { words.get(node).count_ones() } else { 0 };
    run += if word > 1 { words.get(node + 1).count_ones() } else { 0 };
    run += if word > 2 { words.get(node + 2).count_ones() } else { 0 };
    (run as usize).wrapping_sub(1) & 255
}

/// The answer for an IPv6 address under `entry`; 0: none.
#[inline(always)]
pub(crate) fn walk6(words: &impl Words, entry: u32, address: u128) -> u32 {
    if entry & (tag::LEAF | tag::KIND) != tag::DENSE {
        return outside6(words, entry, address);
    }
    let high = (address >> 64) as u64;
    let mut entry = entry32(words, word_of(entry), (high >> 56) as usize);
    for level in 1..3 {
        if entry & tag::LEAF != 0 {
            return entry & !tag::LEAF;
        }
        entry = entry32(words, word_of(entry), (high >> (56 - 8 * level) & 255) as usize);
    }
    // Five levels with the first half's bits: most end here.
    let mut rest = high << 24;
    for _ in 0..5 {
        if entry & tag::LEAF != 0 {
            return entry & !tag::LEAF;
        }
        entry = step6(words, entry, (rest >> 56) as u32);
        rest <<= 8;
    }
    let mut rest = address as u64;
    for _ in 0..8 {
        if entry & tag::LEAF != 0 {
            return entry & !tag::LEAF;
        }
        entry = step6(words, entry, (rest >> 56) as u32);
        rest <<= 8;
    }
    entry & !tag::LEAF
}

/// One level of runs down; a leaf of 16 bits comes as one of 32.
#[inline(always)]
pub(crate) fn step6(words: &impl Words, entry: u32, slot: u32) -> u32 {
    let node = word_of(entry);
    match entry & tag::KIND {
        tag::FEW_NARROW => {
            entry16(words, node + 1, count_greater(words.get(node), slot)) | tag::LEAF
        }
        tag::FEW_WIDE => entry32(words, node + 1, count_greater(words.get(node), slot)),
        tag::NARROW => entry16(words, node + 4, run_of_256(words, node, slot)) | tag::LEAF,
        _ => entry32(words, node + 4, run_of_256(words, node, slot)),
    }
}

#[cold]
fn outside6(words: &impl Words, entry: u32, address: u128) -> u32 {
    if entry & tag::LEAF != 0 {
        return entry & !tag::LEAF;
    }
    small::find6(words, word_of(entry), address)
}

/// [`walk4`] for up to 16 addresses, stage by stage, so that the misses of all
/// of them are under way at the same time.
#[inline(always)]
pub(crate) fn batch4(words: &ReadWords, root: u32, addresses: &[u32], leaves: &mut [u32; 16]) {
    if root & (tag::LEAF | tag::KIND) != tag::DENSE {
        for (leaf, &address) in leaves.iter_mut().zip(addresses) {
            *leaf = outside4(words, root, address);
        }
        return;
    }
    let mut places = [0; 16];
    for (place, &address) in places.iter_mut().zip(addresses) {
        let entry = entry32(words, word_of(root), (address >> 23) as usize);
        // A leaf's place is anywhere: what is found there isn't used.
        *place = if entry & tag::LEAF != 0 {
            usize::MAX
        } else {
            word_of(entry) + (address >> 14 & 511) as usize / 2
        };
        words.prefetch(*place);
    }
    let mut entries = [tag::LEAF; 16];
    for ((entry, &place), &address) in entries.iter_mut().zip(&places).zip(addresses) {
        *entry = if place == usize::MAX {
            entry32(words, word_of(root), (address >> 23) as usize)
        } else {
            (words.get(place) >> ((address >> 14 & 1) * 32)) as u32
        };
        words.prefetch(word_of(*entry));
    }
    for ((leaf, &entry), &address) in leaves.iter_mut().zip(&entries).zip(addresses) {
        *leaf = runs4(words, entry, address << 18);
    }
}

/// [`walk6`] for up to 16 addresses, level by level.
#[inline(always)]
pub(crate) fn batch6(words: &ReadWords, root: u32, addresses: &[u128], leaves: &mut [u32; 16]) {
    if root & (tag::LEAF | tag::KIND) != tag::DENSE {
        for (leaf, &address) in leaves.iter_mut().zip(addresses) {
            *leaf = outside6(words, root, address);
        }
        return;
    }
    let mut entries = [tag::LEAF; 16];
    for (entry, &address) in entries.iter_mut().zip(addresses) {
        *entry = entry32(words, word_of(root), (address >> 120) as usize);
    }
    for level in 1..3 {
        for (entry, &address) in entries.iter_mut().zip(addresses) {
            if *entry & tag::LEAF == 0 {
                let slot = (address >> (120 - 8 * level)) as usize & 255;
                *entry = entry32(words, word_of(*entry), slot);
                words.prefetch(word_of(*entry));
            }
        }
    }
    for level in 3..16 {
        let mut open = 0;
        for (entry, &address) in entries.iter_mut().zip(addresses) {
            if *entry & tag::LEAF == 0 {
                *entry = step6(words, *entry, (address >> (120 - 8 * level)) as u32 & 255);
                words.prefetch(word_of(*entry));
                open |= !*entry & tag::LEAF;
            }
        }
        if open == 0 {
            break;
        }
    }
    for (leaf, entry) in leaves.iter_mut().zip(entries) {
        *leaf = entry & !tag::LEAF;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_counted_as_one_by_one() {
        let mut random = crate::testing::Random(1);
        for round in 0..20_000 {
            let mut bounds = random.next();
            if round % 3 == 0 {
                bounds &= 0x00ff_00ff_ff00_80ff;
            }
            for slot in [0, 1, 127, 128, 129, 254, 255, random.below(256) as u32] {
                let expected =
                    bounds.to_le_bytes().iter().filter(|&&b| u32::from(b) > slot).count();
                assert_eq!(count_greater(bounds, slot), expected, "{bounds:x} {slot}");
            }
        }
    }
}
