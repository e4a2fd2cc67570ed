//! Nodes of runs, to and from memory.
use core::cmp::Ordering;

use super::paint::Slot;
use crate::layout::{tag, word_of};
use crate::store::{Full, Memory, Store, entry16, entry32};
use crate::words::Words;

/// A run: entries from `start` to the next run's start are this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub(crate) start: u16,
    pub(crate) slot: Slot,
}

/// Words before the entries of a node of eight bits: where the runs of each
/// quarter begin, four bitmaps.
pub(crate) const OCTET_HEAD: usize = 5;
/// Words of a cache line.
pub(super) const LINE_WORDS: usize = 8;
/// Set in an entry of 16 bits whose rest says where in the node, in entries of 32
/// bits, what doesn't fit into 15 bits stands.
pub(crate) const TAIL: u32 = 1 << 15;
/// Where the entries of 16 bits begin, in such.
const SIX_ENTRIES: usize = 4;
/// The most words of a node of six bits: all its entries are in the tail.
const SIX_WORDS_MAX: usize = 1 + 64 / 4 + 64 / 2;

/// An entry of a node of six bits, counted from the last run on.
pub(crate) fn six_entry(words: &impl Words, at: usize, index: usize) -> u32 {
    let found = entry16(words, at, SIX_ENTRIES + index);
    if found & TAIL == 0 { found | tag::LEAF } else { entry32(words, at, (found & !TAIL) as usize) }
}

/// The bitmaps of where runs begin.
fn maps_of<M: Memory>(store: &Store<M>, entry: u32) -> ([u64; 4], usize) {
    let at = word_of(entry);
    if entry & tag::KIND == tag::OCTET {
        (core::array::from_fn(|part| store.get(at + 1 + part)), 4)
    } else {
        // A run begins at 0, and behind each one's end.
        ([store.get(at) << 1 | 1, 0, 0, 0], 1)
    }
}

/// Reads a node into `runs`.
pub(crate) fn decode<M: Memory>(store: &Store<M>, entry: u32, runs: &mut Vec<Run>) {
    runs.clear();
    let (maps, size) = maps_of(store, entry);
    for (index, mut map) in maps.into_iter().take(size).enumerate() {
        while map != 0 {
            let start = index as u32 * 64 + map.trailing_zeros();
            runs.push(Run { start: start as u16, slot: Slot::UNUSED });
            map &= map - 1;
        }
    }
    let count = runs.len();
    let depths = store.depths(entry & tag::OFFSET, count);
    for (index, run) in runs.iter_mut().enumerate() {
        run.slot = Slot { entry: stored(store, entry, index, count), depth: depths[index] };
    }
}

/// Where the entry of 16 bits of run `index` stands: the last run's comes first.
fn place16(index: usize, count: usize) -> usize {
    SIX_ENTRIES + count - 1 - index
}

/// The entry of the run number `index` of `count`.
#[inline]
fn stored<M: Memory>(store: &Store<M>, entry: u32, index: usize, count: usize) -> u32 {
    let at = word_of(entry);
    if entry & tag::KIND == tag::OCTET {
        return entry32(store.mem(), at + OCTET_HEAD, index);
    }
    six_entry(store.mem(), at, count - 1 - index)
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
    let (maps, count) = maps_of(store, entry);
    let size = count * 64;
    let (word, bit) = (slot / 64, slot % 64);
    let (mut start, mut end) = (0, size);
    let (mut before, mut runs) = (0, 0);
    for (other, map) in maps.into_iter().take(count).enumerate() {
        runs += map.count_ones() as usize;
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
    let depth = store.depths(entry & tag::OFFSET, runs)[index];
    let slot = Slot { entry: stored(store, entry, index, runs), depth };
    Place { start, end, slot, index, count: runs }
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
    let Place { index, count, .. } = *place;
    let fits = kind == tag::OCTET || fits16(place.slot) == fits16(slot);
    if !fits || place.slot.is_leaf() != slot.is_leaf() {
        return Ok(None);
    }
    if slot.is_leaf() {
        let depths = store.depths(offset, count);
        let equal = |other: usize| {
            depths[other] == slot.depth && stored(store, entry, other, count) == slot.entry
        };
        if index > 0 && equal(index - 1) || index + 1 < count && equal(index + 1) {
            return Ok(None);
        }
    }
    let offset = if store.is_fresh(offset) {
        offset
    } else {
        let words = store.block_bytes(offset) as usize / 8;
        store.copy_node(offset, words, count)?
    };
    let at = word_of(offset);
    if kind == tag::OCTET {
        store.put32(at + OCTET_HEAD, index, slot.entry);
    } else if fits16(slot) {
        let index = place16(index, count);
        let (word, shift) = (at + index / 4, index % 4 * 16);
        let rest = store.get(word) & !(u64::from(u16::MAX) << shift);
        store.put(word, rest | u64::from(slot.entry & !tag::LEAF) << shift);
    } else {
        let tail = entry16(store.mem(), at, place16(index, count)) & !TAIL;
        store.put32(at, tail as usize, slot.entry);
    }
    store.depths_mut(offset, count)[index] = slot.depth;
    Ok(Some(offset | kind))
}

/// The shortest prefix that an entry of a node comes from, or one of those below.
pub(crate) fn shallowest<M: Memory>(store: &Store<M>, entry: u32) -> u8 {
    let (maps, _) = maps_of(store, entry);
    let count = maps.iter().map(|map| map.count_ones() as usize).sum();
    let depths = store.depths(entry & tag::OFFSET, count);
    depths.iter().copied().min().unwrap_or(0)
}

fn fits16(slot: Slot) -> bool {
    slot.is_leaf() && slot.entry & !tag::LEAF < TAIL
}

/// Writes `runs` as a fresh node for so many bits and returns the reference to it.
pub(crate) fn encode<M: Memory>(
    store: &mut Store<M>,
    bits: u32,
    runs: &[Run],
) -> Result<u32, Full> {
    let entry = if bits == 8 { encode8(store, runs)? } else { encode6(store, runs)? };
    let depths = store.depths_mut(entry & tag::OFFSET, runs.len());
    for (depth, run) in depths.iter_mut().zip(runs) {
        *depth = run.slot.depth;
    }
    Ok(entry)
}

/// So many words, rounded up so that a node lies in as few cache lines as it can (slabs begin
/// on one, and blocks of a slab have one size): a power of two up to a line, then lines.
fn whole_lines(words: usize) -> usize {
    if words <= LINE_WORDS { words.next_power_of_two() } else { words.next_multiple_of(LINE_WORDS) }
}

fn encode8<M: Memory>(store: &mut Store<M>, runs: &[Run]) -> Result<u32, Full> {
    let offset = store.allocate_node(OCTET_HEAD + runs.len().div_ceil(2))?;
    let at = word_of(offset);
    let mut maps = [0_u64; 4];
    for run in runs {
        maps[usize::from(run.start / 64)] |= 1 << (run.start % 64);
    }
    // What a lookup adds its own count to, which is at least 1.
    let mut place = 2 * OCTET_HEAD as u64 - 1;
    let mut places = 0;
    for (index, map) in maps.into_iter().enumerate() {
        places |= place << (16 * index);
        place += u64::from(map.count_ones());
        store.put(at + 1 + index, map);
    }
    store.put(at, places);
    for (word, runs) in runs.chunks(2).enumerate() {
        let high = runs.get(1).map_or(0, |run| u64::from(run.slot.entry) << 32);
        store.put(at + OCTET_HEAD + word, u64::from(runs[0].slot.entry) | high);
    }
    Ok(offset | tag::OCTET)
}

fn encode6<M: Memory>(store: &mut Store<M>, runs: &[Run]) -> Result<u32, Full> {
    let mut words = [0_u64; SIX_WORDS_MAX];
    let begins = runs.iter().fold(0_u64, |map, run| map | 1 << run.start);
    words[0] = begins >> 1 | 1 << 63;
    let mut tail = (SIX_ENTRIES + runs.len()).div_ceil(2);
    for (index, run) in runs.iter().enumerate() {
        let mut entry = run.slot.entry & !tag::LEAF;
        if !fits16(run.slot) {
            words[tail / 2] |= u64::from(run.slot.entry) << (tail % 2 * 32);
            entry = tail as u32 | TAIL;
            tail += 1;
        }
        let place = place16(index, runs.len());
        words[place / 4] |= u64::from(entry) << (place % 4 * 16);
    }
    let words = &words[..tail.div_ceil(2)];
    let offset = store.allocate_node(whole_lines(words.len()))?;
    for (word, value) in words.iter().enumerate() {
        store.put(word_of(offset) + word, *value);
    }
    Ok(offset | tag::SIX)
}
