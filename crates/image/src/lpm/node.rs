//! Nodes of runs, to and from memory.
use super::paint::Slot;
use crate::layout::{tag, word_of};
use crate::store::{Full, Memory, Store, entry16, entry32};

/// A run: entries from `start` to the next run's start are this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub(crate) start: u16,
    pub(crate) slot: Slot,
}

/// The most runs that a word of bounds holds.
const FEW_MAX: usize = 9;

fn is_narrow(kind: u32) -> bool {
    kind == tag::NARROW || kind == tag::FEW_NARROW
}

fn is_few(kind: u32) -> bool {
    kind == tag::FEW_NARROW || kind == tag::FEW_WIDE
}

/// Words before the entries.
fn head_words(kind: u32, bits: u32) -> usize {
    if is_few(kind) || bits == 6 { 1 } else { 4 }
}

/// Reads a node with `bits` bits of index into `runs`.
pub(crate) fn decode<M: Memory>(store: &Store<M>, entry: u32, bits: u32, runs: &mut Vec<Run>) {
    let kind = entry & tag::KIND;
    let at = word_of(entry);
    let head = head_words(kind, bits);
    runs.clear();
    if is_few(kind) {
        let bounds = store.get(at).to_le_bytes();
        let count = bounds.iter().filter(|&&bound| bound != 0).count();
        runs.push(Run { start: 0, slot: Slot::NONE });
        runs.extend(
            bounds[..count]
                .iter()
                .rev()
                .map(|&start| Run { start: start.into(), slot: Slot::NONE }),
        );
    } else {
        for word in 0..head {
            let mut map = store.get(at + word);
            while map != 0 {
                let start = word as u32 * 64 + map.trailing_zeros();
                runs.push(Run { start: start as u16, slot: Slot::NONE });
                map &= map - 1;
            }
        }
    }
    let count = runs.len();
    let depths = store.depths(entry & tag::OFFSET, count);
    for (index, run) in runs.iter_mut().enumerate() {
        let index = if is_few(kind) { count - 1 - index } else { index };
        run.slot = Slot { entry: stored(store, entry, head, index), depth: depths[index] };
    }
}

/// The entry number `index` in the order in which they are stored.
#[inline]
fn stored<M: Memory>(store: &Store<M>, entry: u32, head: usize, index: usize) -> u32 {
    let at = word_of(entry) + head;
    if is_narrow(entry & tag::KIND) {
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
    /// Its number in the order in which they are stored.
    index: usize,
    /// Runs of the node.
    count: usize,
    head: usize,
}

/// The run of a node with `bits` bits of index that `slot` is in.
pub(crate) fn find<M: Memory>(store: &Store<M>, entry: u32, bits: u32, slot: usize) -> Place {
    let kind = entry & tag::KIND;
    let at = word_of(entry);
    let head = head_words(kind, bits);
    let (mut start, mut end) = (0, 1 << bits);
    let (index, count);
    if is_few(kind) {
        // Descending, then zeros.
        let bounds = store.get(at).to_le_bytes();
        let bounds = bounds.map(usize::from);
        count = 1 + bounds.iter().filter(|&&bound| bound != 0).count();
        index = bounds.iter().filter(|&&bound| bound > slot).count();
        if index > 0 {
            end = bounds[index - 1];
        }
        if index + 1 < count {
            start = bounds[index];
        }
    } else {
        let (word, bit) = (slot / 64, slot % 64);
        let mut before = 0;
        let mut all = 0;
        for other in 0..head {
            let map = store.get(at + other);
            all += map.count_ones();
            // The beginnings up to this slot, and those behind it.
            let (low, high) = match other.cmp(&word) {
                core::cmp::Ordering::Less => (map, 0),
                core::cmp::Ordering::Equal => {
                    let low = map & (u64::MAX >> (63 - bit));
                    (low, map & !low)
                }
                core::cmp::Ordering::Greater => (0, map),
            };
            before += low.count_ones();
            if low != 0 {
                start = other * 64 + 63 - low.leading_zeros() as usize;
            }
            if high != 0 && end == 1 << bits {
                end = other * 64 + high.trailing_zeros() as usize;
            }
        }
        (index, count) = (before as usize - 1, all as usize);
    }
    let depth = store.depths(entry & tag::OFFSET, count)[index];
    let slot = Slot { entry: stored(store, entry, head, index), depth };
    Place { start, end, slot, index, count, head }
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
    let narrow = is_narrow(kind);
    if narrow && !fits_narrow(slot) || place.slot.is_leaf() != slot.is_leaf() {
        return Ok(None);
    }
    let Place { index, count, head, .. } = *place;
    if slot.is_leaf() {
        let depths = store.depths(offset, count);
        let equal = |other: usize| {
            depths[other] == slot.depth && stored(store, entry, head, other) == slot.entry
        };
        if index > 0 && equal(index - 1) || index + 1 < count && equal(index + 1) {
            return Ok(None);
        }
    }
    let offset = if store.is_fresh(offset) {
        offset
    } else {
        let words = head + count.div_ceil(if narrow { 4 } else { 2 });
        store.copy_node(offset, words, count)?
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

/// Writes `runs` as a fresh node and returns the reference to it.
pub(crate) fn encode<M: Memory>(
    store: &mut Store<M>,
    bits: u32,
    runs: &[Run],
) -> Result<u32, Full> {
    let narrow = runs.iter().all(|run| fits_narrow(run.slot));
    let kind = match (bits > 6 && runs.len() <= FEW_MAX, narrow) {
        (true, true) => tag::FEW_NARROW,
        (true, false) => tag::FEW_WIDE,
        (false, true) => tag::NARROW,
        (false, false) => tag::WIDE,
    };
    let head = head_words(kind, bits);
    let words = head + runs.len().div_ceil(if narrow { 4 } else { 2 });
    let offset = store.allocate_node(words)?;
    let at = word_of(offset);
    if is_few(kind) {
        let mut bounds = [0; 8];
        for (bound, run) in bounds.iter_mut().zip(runs[1..].iter().rev()) {
            *bound = run.start as u8;
        }
        store.put(at, u64::from_le_bytes(bounds));
    } else {
        let mut map = [0_u64; 4];
        for run in runs {
            map[usize::from(run.start / 64)] |= 1 << (run.start % 64);
        }
        for (word, map) in map[..head].iter().enumerate() {
            store.put(at + word, *map);
        }
    }
    let depths = store.depths_mut(offset, runs.len());
    let place = |index: usize| if is_few(kind) { runs.len() - 1 - index } else { index };
    for (index, depth) in depths.iter_mut().enumerate() {
        *depth = runs[place(index)].slot.depth;
    }
    let per_word = if narrow { 4 } else { 2 };
    for word in 0..runs.len().div_ceil(per_word) {
        let mut value = 0;
        for part in 0..per_word {
            let index = word * per_word + part;
            if index < runs.len() {
                let slot = runs[place(index)].slot;
                let entry = if narrow { slot.entry & !tag::LEAF } else { slot.entry };
                value |= u64::from(entry) << (part * 64 / per_word);
            }
        }
        store.put(at + head + word, value);
    }
    Ok(offset | kind)
}
