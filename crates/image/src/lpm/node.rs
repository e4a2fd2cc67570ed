//! Nodes of runs, to and from memory.
use super::paint::Slot;
use crate::layout::{tag, word_of};
use crate::store::{Full, Memory, Store, entry16, entry32, quarter_of};

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

/// Reads a node into `runs`.
pub(crate) fn decode<M: Memory>(store: &Store<M>, entry: u32, runs: &mut Vec<Run>) {
    let kind = entry & tag::KIND;
    let at = word_of(entry);
    let head = head_words(kind);
    let maps = if kind == tag::OCTET { 1..OCTET_HEAD } else { 0..SIX_HEAD };
    runs.clear();
    for (index, word) in maps.enumerate() {
        let mut map = store.get(at + word);
        while map != 0 {
            let start = index as u32 * 64 + map.trailing_zeros();
            runs.push(Run { start: start as u16, slot: Slot::NONE });
            map &= map - 1;
        }
    }
    let quarter = quarter_of(entry & tag::OFFSET) + head * 4;
    for (index, run) in runs.iter_mut().enumerate() {
        run.slot = if kind == tag::NARROW {
            Slot {
                entry: entry16(store.mem(), at + head, index) | tag::LEAF,
                depth: store.depth(quarter + index),
            }
        } else {
            Slot {
                entry: entry32(store.mem(), at + head, index),
                depth: store.depth(quarter + 2 * index),
            }
        };
    }
}

/// Writes `runs` as a fresh node for so many bits and returns the reference to it.
pub(crate) fn encode<M: Memory>(
    store: &mut Store<M>,
    bits: u32,
    runs: &[Run],
) -> Result<u32, Full> {
    let narrow = bits == 6
        && runs
            .iter()
            .all(|run| run.slot.is_leaf() && run.slot.entry & !tag::LEAF <= u32::from(u16::MAX));
    let kind = match (bits, narrow) {
        (8, _) => tag::OCTET,
        (_, true) => tag::NARROW,
        (_, false) => tag::WIDE,
    };
    let head = head_words(kind);
    let per_word = if narrow { 4 } else { 2 };
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
    let quarter = quarter_of(offset) + head * 4;
    for (word, runs) in runs.chunks(per_word).enumerate() {
        let mut value = 0;
        for (part, run) in runs.iter().enumerate() {
            let entry = if narrow { run.slot.entry & !tag::LEAF } else { run.slot.entry };
            value |= u64::from(entry) << (part * 64 / per_word);
            store.set_depth(quarter + word * 4 + part * 4 / per_word, run.slot.depth);
        }
        store.put(at + head + word, value);
    }
    Ok(offset | kind)
}
