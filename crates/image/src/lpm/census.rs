//! How lookup structures are made up, level by level: counted in memory that may
//! be handed back under the counting, so that what comes out is only of use if the
//! reader's check says so, but comes out after a bounded time.
use rtm_model::Family;

use super::node::{self, OCTET_HEAD};
use super::walk::{PAGE4_BITS, PAGE6_BITS, RUNS4_BITS};
use crate::layout::{tag, wide, word_of};
use crate::store::entry32;
use crate::words::Words;

/// The nodes of one kind that look at the same bits of addresses, of all tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LookupLevel {
    /// Whose addresses.
    pub family: Family,
    /// The first bit that they look at.
    pub from: u32,
    /// How many bits; 0: all, in a small table.
    pub bits: u32,
    /// What they are.
    pub kind: &'static str,
    /// How many.
    pub nodes: u64,
    /// Their entries that are answers. (Equal neighbours are one where nodes have runs.)
    pub leaves: u64,
    /// Their entries that are nodes.
    pub below: u64,
}

/// Counts what stands under `root`, at most `left` nodes.
pub(crate) fn count(
    words: &impl Words,
    family: Family,
    root: u32,
    levels: &mut Vec<LookupLevel>,
    left: &mut usize,
) {
    if root & tag::LEAF == 0 {
        count_node(words, family, root, 0, levels, left);
    }
}

fn count_node(
    words: &impl Words,
    family: Family,
    entry: u32,
    from: u32,
    levels: &mut Vec<LookupLevel>,
    left: &mut usize,
) {
    if *left == 0 {
        return;
    }
    *left -= 1;
    let (mut leaves, mut below) = (0, Vec::new());
    let (kind, bits) = entries(words, family, entry, &mut |entry| {
        if entry & tag::LEAF != 0 { leaves += 1 } else { below.push(entry) }
    });
    let of_this = |level: &LookupLevel| {
        (level.family, level.from, level.bits, level.kind) == (family, from, bits, kind)
    };
    let index = levels.iter().position(of_this).unwrap_or_else(|| {
        levels.push(LookupLevel { family, from, bits, kind, nodes: 0, leaves: 0, below: 0 });
        levels.len() - 1
    });
    let level = &mut levels[index];
    level.nodes += 1;
    level.leaves += leaves;
    level.below += below.len() as u64;
    let next = from + bits;
    if bits > 0 && next < u32::from(family.bits()) {
        below.iter().for_each(|entry| count_node(words, family, *entry, next, levels, left));
    }
}

/// Tells a node's entries, as leaves and references; what kind it is, and how many
/// bits it looks at.
fn entries(
    words: &impl Words,
    family: Family,
    entry: u32,
    tell: &mut dyn FnMut(u32),
) -> (&'static str, u32) {
    let at = word_of(entry);
    match entry & tag::KIND {
        tag::WIDE => {
            let entry = |index| super::wide::meaning(words, entry32(words, at, index));
            (0..wide::SIZE).for_each(|index| tell(entry(index)));
            ("wide root", wide::BITS)
        }
        tag::SIX => {
            // A run begins at 0, and behind each one's end.
            let runs = (words.get(at) << 1 | 1).count_ones() as usize;
            (0..runs).for_each(|index| tell(node::six_entry(words, at, index)));
            ("runs", RUNS4_BITS)
        }
        tag::OCTET => {
            let runs: u32 = (1..OCTET_HEAD).map(|map| words.get(at + map).count_ones()).sum();
            (0..runs as usize).for_each(|index| tell(entry32(words, at + OCTET_HEAD, index)));
            ("runs", PAGE6_BITS)
        }
        tag::SMALL => {
            let intervals = (words.get(at) as usize).min(super::small::INTERVALS_MAX);
            (0..intervals).for_each(|_| tell(tag::LEAF));
            ("intervals", 0)
        }
        _ => {
            let bits = if family == Family::V4 { PAGE4_BITS } else { PAGE6_BITS };
            (0..1 << bits).for_each(|index| tell(entry32(words, at, index)));
            ("page", bits)
        }
    }
}
