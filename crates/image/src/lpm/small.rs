//! A small table: its address space as sorted intervals, in one block.
//!
//! ```text
//! word 0   the number of intervals (at least 1; the first begins at 0)
//! IPv4     per interval one word: first address << 32 | answer
//! IPv6     the first addresses, two words each, then the answers, a word each
//! ```
//!
//! A trie's pages would cost a table of ten routes a hundred times its
//! content. The list is made anew, from the routes in order, by each commit
//! that changes the table.
use rtm_model::Family;

use crate::layout::{none, tag, word_of};
use crate::store::{Full, Memory, Store};
use crate::words::Words;

/// A table with more prefixes of a family than this has a trie.
pub(crate) const PREFIXES_MAX: usize = 512;
/// n prefixes cut the addresses into at most 2n + 1 intervals.
const INTERVALS_MAX: usize = 2 * PREFIXES_MAX + 1;

/// The answer's number for an IPv4 address.
pub(crate) fn find4(words: &impl Words, block: usize, address: u32) -> u32 {
    let (mut low, mut high) = (1, (words.get(block) as usize).min(INTERVALS_MAX));
    // The first interval begins at 0: the last that doesn't begin behind the address.
    while low < high {
        let middle = (low + high) / 2;
        if (words.get(block + 1 + middle) >> 32) as u32 <= address {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    words.get(block + low) as u32
}

/// The answer's number for an IPv6 address.
pub(crate) fn find6(words: &impl Words, block: usize, address: u128) -> u32 {
    let count = (words.get(block) as usize).min(INTERVALS_MAX);
    let (mut low, mut high) = (1, count);
    while low < high {
        let middle = (low + high) / 2;
        let at = block + 1 + 2 * middle;
        let first = u128::from(words.get(at)) << 64 | u128::from(words.get(at + 1));
        if first <= address {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    words.get(block + 1 + 2 * count + low - 1) as u32
}

/// A prefix (its length over 0) with its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Painted {
    pub(crate) bits: u128,
    pub(crate) len: u8,
    pub(crate) answer: u32,
}

/// The intervals of prefixes that come in order (address, then length).
pub(crate) fn intervals(prefixes: &[Painted]) -> Vec<(u128, u32)> {
    let mut out: Vec<(u128, u32)> = vec![(0, none::DEFAULT)];
    // The prefixes around the current address, outermost first: last address, answer.
    let mut around: Vec<(u128, u32)> = Vec::new();
    let begin = |out: &mut Vec<(u128, u32)>, at: u128, answer: u32| {
        if out.last().is_some_and(|last| last.0 == at) {
            out.pop();
        }
        if out.last().is_none_or(|last| last.1 != answer) {
            out.push((at, answer));
        }
    };
    let close = |out: &mut Vec<(u128, u32)>, around: &mut Vec<(u128, u32)>, until: Option<u128>| {
        while let Some(&(last, _)) = around.last() {
            if until.is_some_and(|until| last >= until) {
                break;
            }
            around.pop();
            if let Some(next) = last.checked_add(1) {
                begin(out, next, around.last().map_or(none::DEFAULT, |outer| outer.1));
            }
        }
    };
    for prefix in prefixes {
        close(&mut out, &mut around, Some(prefix.bits));
        begin(&mut out, prefix.bits, prefix.answer);
        around.push((prefix.bits | !rtm_model::mask(prefix.len), prefix.answer));
    }
    close(&mut out, &mut around, None);
    out
}

/// Writes a small table and returns the reference to it.
pub(crate) fn build<M: Memory>(
    store: &mut Store<M>,
    family: Family,
    prefixes: &[Painted],
) -> Result<u32, Full> {
    let intervals = intervals(prefixes);
    debug_assert!(intervals.len() <= INTERVALS_MAX);
    if let [(_, answer)] = intervals[..] {
        return Ok(tag::LEAF | answer);
    }
    let count = intervals.len();
    let per_interval = if family == Family::V4 { 1 } else { 3 };
    let offset = store.allocate(1 + per_interval * count)?;
    let at = word_of(offset);
    store.put(at, count as u64);
    for (index, &(first, answer)) in intervals.iter().enumerate() {
        if family == Family::V4 {
            store.put(at + 1 + index, (first >> 96 << 32) as u64 | u64::from(answer));
        } else {
            store.put(at + 1 + 2 * index, (first >> 64) as u64);
            store.put(at + 2 + 2 * index, first as u64);
            store.put(at + 1 + 2 * count + index, u64::from(answer));
        }
    }
    Ok(offset | tag::SMALL)
}
