//! Nodes of runs, to and from memory.
use core::cmp::Ordering;
use core::ops::Range;

use super::paint::Slot;
use crate::layout::{tag, word_of};
use crate::store::{Full, Memory, Store, entry16, entry32};

/// A run: entries from `start` to the next run's start are this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub(crate) start: u16,
    pub(crate) slot: Slot,
}

/// Words before the entries of a node of six bits: the bitmap.
pub(crate) const SIX_HEAD: usize = 1;
/// The same for eight bits: where the runs of each quarter begin, four bitmaps.
pub(crate) const OCTET_HEAD: usize = 5;

fn head_words(kind: u32) -> usize {
    if kind == tag::OCTET { OCTET_HEAD } else { SIX_HEAD }
}

/// The words of a node that are bitmaps of where runs begin.
fn maps_of(kind: u32) -> Range<usize> {
    if kind == tag::OCTET { 1..OCTET_HEAD } else { 0..SIX_HEAD }
}

/// Reads a node into `runs`.
pub(crate) fn decode<M: Memory>(store: &Store<M>, entry: u32, runs: &mut Vec<Run>) {
    let at = word_of(entry);
    runs.clear();
    for (index, word) in maps_of(entry & tag::KIND).enumerate() {
        let mut map = store.get(at + word);
        while map != 0 {
            let start = index as u32 * 64 + map.trailing_zeros();
            runs.push(Run { start: start as u16, slot: Slot::NONE });
            map &= map - 1;
        }
    }
    let count = runs.len();
    let depths = store.depths(entry & tag::OFFSET, count);
    for (index, run) in runs.iter_mut().enumerate() {
        run.slot = Slot { entry: stored(store, entry, index), depth: depths[index] };
    }
}

/// The entry of the run number `index`.
#[inline]
fn stored<M: Memory>(store: &Store<M>, entry: u32, index: usize) -> u32 {
    let kind = entry & tag::KIND;
    let at = word_of(entry) + head_words(kind);
    if kind == tag::NARROW {
        entry16(store.mem(), at, index) | tag::LEAF
    } else {
        entry32(store.mem(), at, index)
    }
}

/// A run within its node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) slot: Slot,
    /// Its number.
    index: usize,
    /// Runs of the node.
    count: usize,
}

/// The run of a node that `slot` is in.
pub(crate) fn find<M: Memory>(store: &Store<M>, entry: u32, slot: usize) -> Place {
    let at = word_of(entry);
    let maps = maps_of(entry & tag::KIND);
    let size = maps.len() * 64;
    let (word, bit) = (slot / 64, slot % 64);
    let (mut start, mut end) = (0, size);
    let (mut before, mut count) = (0, 0);
    for (other, place) in maps.enumerate() {
        let map = store.get(at + place);
        count += map.count_ones() as usize;
        // The beginnings up to this slot, and those behind it.
        let (low, high) = match other.cmp(&word) {
            Ordering::Less => (map, 0),
            Ordering::Equal => {
                let low = map & (u64::MAX >> (63 - bit));
                (low, map & !low)
            }
            Ordering::Greater => (0, map),
        };
        before += low.count_ones() as usize;
        if low != 0 {
            start = other * 64 + 63 - low.leading_zeros() as usize;
        }
        if high != 0 && end == size {
            end = other * 64 + high.trailing_zeros() as usize;
        }
    }
    let index = before - 1;
    let depth = store.depths(entry & tag::OFFSET, count)[index];
    let slot = Slot { entry: stored(store, entry, index), depth };
    Place { start, end, slot, index, count }
}

/// Puts `slot` where `place` is, without changing where runs begin: in the node
/// itself if it is fresh, or in a copy of it. `None`, and nothing is done: it
/// doesn't go without.
pub(crate) fn patch<M: Memory>(
    store: &mut Store<M>,
    entry: u32,
    place: &Place,
    slot: Slot,
) -> Result<Option<u32>, Full> {
    let (kind, offset) = (entry & tag::KIND, entry & tag::OFFSET);
    let narrow = kind == tag::NARROW;
    if narrow && !fits_narrow(slot) || place.slot.is_leaf() != slot.is_leaf() {
        return Ok(None);
    }
    let Place { index, count, .. } = *place;
    if slot.is_leaf() {
        let depths = store.depths(offset, count);
        let equal =
            |other: usize| depths[other] == slot.depth && stored(store, entry, other) == slot.entry;
        if index > 0 && equal(index - 1) || index + 1 < count && equal(index + 1) {
            return Ok(None);
        }
    }
    let head = head_words(kind);
    let offset = if store.is_fresh(offset) {
        offset
    } else {
        store.copy_node(offset, head + count.div_ceil(per_word(narrow)), count)?
    };
    let at = word_of(offset) + head;
    if narrow {
        let (word, shift) = (at + index / 4, index % 4 * 16);
        let rest = store.get(word) & !(u64::from(u16::MAX) << shift);
        store.put(word, rest | u64::from(slot.entry & !tag::LEAF) << shift);
    } else {
        store.put32(at, index, slot.entry);
    }
    store.depths_mut(offset, count)[index] = slot.depth;
    Ok(Some(offset | kind))
}

fn fits_narrow(slot: Slot) -> bool {
    slot.is_leaf() && slot.entry & !tag::LEAF <= u32::from(u16::MAX)
}

/// Entries in a word.
fn per_word(narrow: bool) -> usize {
    if narrow { 4 } else { 2 }
}

/// Writes `runs` as a fresh node for so many bits and returns the reference to it.
pub(crate) fn encode<M: Memory>(
    store: &mut Store<M>,
    bits: u32,
    runs: &[Run],
) -> Result<u32, Full> {
    let narrow = bits == 6 && runs.iter().all(|run| fits_narrow(run.slot));
    let kind = match (bits, narrow) {
        (8, _) => tag::OCTET,
        (_, true) => tag::NARROW,
        (_, false) => tag::WIDE,
    };
    let head = head_words(kind);
    let per_word = per_word(narrow);
    let offset = store.allocate_node(head + runs.len().div_ceil(per_word))?;
    let at = word_of(offset);
    let mut maps = [0_u64; 4];
    for run in runs {
        maps[usize::from(run.start / 64)] |= 1 << (run.start % 64);
    }
    if kind == tag::OCTET {
        // What a lookup adds its own count to, which is at least 1.
        let mut place = 2 * OCTET_HEAD as u64 - 1;
        let mut places = 0;
        for (index, map) in maps.into_iter().enumerate() {
            places |= place << (16 * index);
            place += u64::from(map.count_ones());
            store.put(at + 1 + index, map);
        }
        store.put(at, places);
    } else {
        store.put(at, maps[0]);
    }
    for (depth, run) in store.depths_mut(offset, runs.len()).iter_mut().zip(runs) {
        *depth = run.slot.depth;
    }
    for (word, runs) in runs.chunks(per_word).enumerate() {
        let mut value = 0;
        for (part, run) in runs.iter().enumerate() {
            let entry = if narrow { run.slot.entry & !tag::LEAF } else { run.slot.entry };
            value |= u64::from(entry) << (part * 64 / per_word);
        }
        store.put(at + head + word, value);
    }
    Ok(offset | kind)
}
