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
    let quarter = quarter_of(entry & tag::OFFSET) + head * 4;
    for (index, run) in runs.iter_mut().enumerate() {
        let index = if is_few(kind) { count - 1 - index } else { index };
        run.slot = if is_narrow(kind) {
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

/// Writes `runs` as a fresh node and returns the reference to it.
pub(crate) fn encode<M: Memory>(
    store: &mut Store<M>,
    bits: u32,
    runs: &[Run],
) -> Result<u32, Full> {
    let narrow = runs
        .iter()
        .all(|run| run.slot.is_leaf() && run.slot.entry & !tag::LEAF <= u32::from(u16::MAX));
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
    let quarter = quarter_of(offset) + head * 4;
    let place = |index: usize| if is_few(kind) { runs.len() - 1 - index } else { index };
    let per_word = if narrow { 4 } else { 2 };
    for word in 0..runs.len().div_ceil(per_word) {
        let mut value = 0;
        for part in 0..per_word {
            let index = word * per_word + part;
            if index < runs.len() {
                let slot = runs[place(index)].slot;
                let entry = if narrow { slot.entry & !tag::LEAF } else { slot.entry };
                value |= u64::from(entry) << (part * 64 / per_word);
                store.set_depth(quarter + index * 4 / per_word, slot.depth);
            }
        }
        store.put(at + head + word, value);
    }
    Ok(offset | kind)
}
