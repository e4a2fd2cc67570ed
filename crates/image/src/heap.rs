//! Who owns which bytes of the object: the writer's private book.
//!
//! Nothing of this is in the object. A writer that dies takes the book with
//! it, and nobody continues its object: the next daemon makes a new one.
//!
//! The heap is cut into slabs of 16 KiB. A slab serves blocks of one size; a
//! block over 16 KiB is a row of slabs. Blocks have three states beside free:
//! *fresh* (made since the last commit: nobody sees them, they may be written
//! and freed at once), *published* (never written), *retired* (published once,
//! not part of the next version: free again when [`reusable`] says so).
use std::collections::VecDeque;

use crate::layout::{UNIT_BYTES, UNIT_WORDS};
use crate::protocol::reusable;

/// Units of a slab: 16 KiB.
pub(crate) const SLAB_UNITS: usize = 1024;
/// Words of a slab.
pub(crate) const SLAB_WORDS: usize = SLAB_UNITS * UNIT_WORDS;
const MAP_WORDS: usize = SLAB_UNITS / 64;
/// The most entries (of 16 bits) that a unit of a lookup node has.
const UNIT_ENTRIES: usize = 8;

/// The sizes of blocks in units: steps of 16 bytes up to 256, then four per
/// doubling, so that at most a quarter of a large block is unused.
const CLASSES: [u16; 40] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96,
    112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024,
];

/// Units of a block of this class.
fn size_of(class: u8) -> usize {
    usize::from(CLASSES[usize::from(class) % CLASSES.len()])
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    Free,
    Class(u8),
    /// The first slab of a row of so many.
    Row(u32),
    /// A further slab of a row.
    RowRest,
}

struct Slab {
    used_for: Use,
    free: u16,
    listed: Use,
    /// For lookup nodes: the prefix length behind each entry.
    depths: Option<Box<[u8]>>,
}

impl Slab {
    fn new() -> Slab {
        Slab { used_for: Use::Free, free: 0, listed: Use::Free, depths: None }
    }
}

/// The book. Offsets are in units from the object's beginning.
pub(crate) struct Heap {
    first_unit: u32,
    slabs: Vec<Slab>,
    /// A bit per unit of the heap: a free block begins here.
    free_map: Vec<u64>,
    /// A bit per unit: a fresh block begins here.
    fresh_map: Vec<u64>,
    /// Slabs below this one are in use.
    free_hint: usize,
    free_slabs: usize,
    /// Per class, then per class of lookup nodes: slabs that may have a free block.
    partial: Vec<Vec<u32>>,
    class_of: Box<[u8]>,
    fresh: Vec<u32>,
    retiring: Vec<u32>,
    retired: VecDeque<(u64, Vec<u32>)>,
    used_units: u64,
    retired_units: u64,
}

impl core::fmt::Debug for Heap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Heap({} of {} slabs free)", self.free_slabs, self.slabs.len())
    }
}

/// How full the heap is, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// All of it.
    pub heap: u64,
    /// In blocks of the visible version or of the one being made.
    pub used: u64,
    /// In blocks that wait to be reused.
    pub retired: u64,
    /// In slabs that serve no size yet: what any block can be made from.
    pub free: u64,
    /// How many blocks wait to be reused.
    pub retired_blocks: u64,
}

/// Blocks of one kind: how many there are, what they take, and what is free
/// beside them, in slabs that serve this kind alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// What they are.
    pub name: String,
    /// How many, with those that wait to be reused.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that only this kind can use.
    pub free_bytes: u64,
}

impl Heap {
    /// The book of `words` words of heap that begin at word `at`.
    pub(crate) fn new(at: usize, words: usize) -> Heap {
        let class_of: Vec<u8> = (0..=SLAB_UNITS)
            .map(|units| CLASSES.partition_point(|&size| usize::from(size) < units) as u8)
            .collect();
        let mut heap = Heap {
            first_unit: (at / UNIT_WORDS) as u32,
            slabs: Vec::new(),
            free_map: Vec::new(),
            fresh_map: Vec::new(),
            free_hint: 0,
            free_slabs: 0,
            partial: vec![Vec::new(); 2 * CLASSES.len()],
            class_of: class_of.into(),
            fresh: Vec::new(),
            retiring: Vec::new(),
            retired: VecDeque::new(),
            used_units: 0,
            retired_units: 0,
        };
        heap.extend(words);
        heap
    }

    /// The heap has `words` words now.
    pub(crate) fn extend(&mut self, words: usize) {
        let slabs = words / SLAB_WORDS;
        self.free_slabs += slabs - self.slabs.len();
        self.slabs.resize_with(slabs, Slab::new);
        self.free_map.resize(slabs * MAP_WORDS, 0);
        self.fresh_map.resize(slabs * MAP_WORDS, 0);
    }

    /// How full it is.
    pub(crate) fn usage(&self) -> Usage {
        let unit = UNIT_BYTES as u64;
        Usage {
            heap: (self.slabs.len() * SLAB_UNITS) as u64 * unit,
            used: (self.used_units - self.retired_units) * unit,
            retired: self.retired_units * unit,
            free: (self.free_slabs * SLAB_UNITS) as u64 * unit,
            retired_blocks: self.retiring.len() as u64
                + self.retired.iter().map(|(_, blocks)| blocks.len() as u64).sum::<u64>(),
        }
    }

    /// The heap by kinds of blocks: lookup nodes, then everything else, each by
    /// size.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let (unit, slab_bytes) = (UNIT_BYTES as u64, (SLAB_UNITS * UNIT_BYTES) as u64);
        // Per class: slabs, and free blocks in them.
        let mut classes = [(0_u64, 0_u64); 2 * CLASSES.len()];
        let (mut rows, mut row_slabs) = (0, 0);
        for slab in &self.slabs {
            match slab.used_for {
                Use::Free => {}
                Use::Class(class) => {
                    let (slabs, free) = &mut classes[usize::from(class)];
                    (*slabs, *free) = (*slabs + 1, *free + u64::from(slab.free));
                }
                Use::Row(_) => (rows, row_slabs) = (rows + 1, row_slabs + 1),
                Use::RowRest => row_slabs += 1,
            }
        }
        let (others, nodes) = (0..CLASSES.len(), CLASSES.len()..2 * CLASSES.len());
        let mut parts: Vec<Part> = nodes
            .chain(others)
            .filter(|class| classes[*class].0 > 0)
            .map(|class| {
                let size = size_of(class as u8) as u64;
                let (slabs, free) = classes[class];
                let count = slabs * (SLAB_UNITS as u64 / size) - free;
                let what = if class < CLASSES.len() { "blocks" } else { "lookup nodes" };
                Part {
                    name: format!("{what} of {} bytes", size * unit),
                    count,
                    bytes: count * size * unit,
                    free_bytes: slabs * slab_bytes - count * size * unit,
                }
            })
            .collect();
        if rows > 0 {
            let bytes = row_slabs * slab_bytes;
            parts.push(Part {
                name: "larger blocks".to_owned(),
                count: rows,
                bytes,
                free_bytes: 0,
            });
        }
        parts
    }

    /// The heap's unit where a block begins.
    #[inline(always)]
    fn unit(&self, offset: u32) -> usize {
        (offset - self.first_unit) as usize
    }

    /// Is the slab at this word of the object (its first one, or any) in use?
    pub(crate) fn is_used(&self, word: usize) -> bool {
        let unit = (word / UNIT_WORDS).checked_sub(self.first_unit as usize);
        let slab = unit.and_then(|unit| self.slabs.get(unit / SLAB_UNITS));
        slab.is_none_or(|slab| slab.used_for != Use::Free)
    }

    /// Units that a block of `words` words takes.
    fn units(words: usize) -> usize {
        words.div_ceil(UNIT_WORDS).max(1)
    }

    /// A fresh block of at least `words` words; `None`: the heap must grow.
    /// Blocks for lookup nodes lie in slabs of their own: close together, and
    /// only these slabs have depths beside them.
    pub(crate) fn allocate(&mut self, words: usize, lookup: bool) -> Option<u32> {
        let units = Heap::units(words);
        if units > SLAB_UNITS {
            return self.allocate_row(units.div_ceil(SLAB_UNITS));
        }
        let class = self.class_of[units] + if lookup { CLASSES.len() as u8 } else { 0 };
        let size = size_of(class);
        let index = loop {
            let Some(&index) = self.partial[usize::from(class)].last() else {
                break self.new_slab(class)?;
            };
            let slab = &mut self.slabs[index as usize];
            if slab.used_for == Use::Class(class) && slab.free > 0 {
                break index as usize;
            }
            if slab.listed == Use::Class(class) {
                slab.listed = Use::Free;
            }
            self.partial[usize::from(class)].pop();
        };
        let slab = &mut self.slabs[index];
        let map = &mut self.free_map[index * MAP_WORDS..(index + 1) * MAP_WORDS];
        let word = map.iter().position(|&bits| bits != 0).expect("a free block");
        let bit = map[word].trailing_zeros() as usize;
        map[word] &= !(1 << bit);
        self.fresh_map[index * MAP_WORDS + word] |= 1 << bit;
        slab.free -= 1;
        if slab.free == 0 {
            slab.listed = Use::Free;
            self.partial[usize::from(class)].pop();
        }
        self.used_units += size as u64;
        let offset = self.first_unit + (index * SLAB_UNITS + word * 64 + bit) as u32;
        self.fresh.push(offset);
        Some(offset)
    }

    fn free_slab(&mut self) -> Option<usize> {
        if self.free_slabs == 0 {
            return None;
        }
        let found =
            self.slabs[self.free_hint..].iter().position(|slab| slab.used_for == Use::Free)?;
        let index = self.free_hint + found;
        self.free_hint = index;
        Some(index)
    }

    fn new_slab(&mut self, class: u8) -> Option<usize> {
        let index = self.free_slab()?;
        self.free_slabs -= 1;
        let size = size_of(class);
        let slab = &mut self.slabs[index];
        slab.used_for = Use::Class(class);
        slab.free = (SLAB_UNITS / size) as u16;
        let map = &mut self.free_map[index * MAP_WORDS..(index + 1) * MAP_WORDS];
        map.fill(0);
        for block in 0..usize::from(slab.free) {
            let unit = block * size;
            map[unit / 64] |= 1 << (unit % 64);
        }
        slab.listed = Use::Class(class);
        if usize::from(class) >= CLASSES.len() {
            slab.depths = Some(vec![0; SLAB_UNITS * UNIT_ENTRIES].into());
        }
        self.partial[usize::from(class)].push(index as u32);
        Some(index)
    }

    fn allocate_row(&mut self, slabs: usize) -> Option<u32> {
        let mut run = 0;
        for index in 0..self.slabs.len() {
            run = if self.slabs[index].used_for == Use::Free { run + 1 } else { 0 };
            if run == slabs {
                let first = index + 1 - slabs;
                for slab in &mut self.slabs[first..=index] {
                    slab.used_for = Use::RowRest;
                }
                self.slabs[first].used_for = Use::Row(slabs as u32);
                self.fresh_map[first * MAP_WORDS] |= 1;
                self.free_slabs -= slabs;
                self.used_units += (slabs * SLAB_UNITS) as u64;
                let offset = self.first_unit + (first * SLAB_UNITS) as u32;
                self.fresh.push(offset);
                return Some(offset);
            }
        }
        None
    }

    /// Was this block made since the last commit?
    #[inline]
    pub(crate) fn is_fresh(&self, offset: u32) -> bool {
        let unit = self.unit(offset);
        self.fresh_map[unit / 64] >> (unit % 64) & 1 != 0
    }

    /// Units of the block at `offset`.
    pub(crate) fn block_units(&self, offset: u32) -> usize {
        match self.slabs[self.unit(offset) / SLAB_UNITS].used_for {
            Use::Class(class) => size_of(class),
            Use::Row(slabs) => slabs as usize * SLAB_UNITS,
            Use::Free | Use::RowRest => unreachable!("no block begins at {offset}"),
        }
    }

    /// The version being made doesn't need the block: a fresh one is free at
    /// once, a published one later.
    pub(crate) fn retire(&mut self, offset: u32) {
        if self.is_fresh(offset) {
            self.free(offset);
        } else {
            self.retired_units += self.block_units(offset) as u64;
            self.retiring.push(offset);
        }
    }

    fn free(&mut self, offset: u32) {
        let unit = self.unit(offset);
        let index = unit / SLAB_UNITS;
        self.used_units -= self.block_units(offset) as u64;
        let bit = 1 << (unit % 64);
        self.fresh_map[unit / 64] &= !bit;
        let slab = &mut self.slabs[index];
        match slab.used_for {
            Use::Class(class) => {
                let map = &mut self.free_map[unit / 64];
                assert!(*map & bit == 0, "block {offset} is freed twice");
                *map |= bit;
                slab.free += 1;
                if usize::from(slab.free) == SLAB_UNITS / size_of(class) {
                    self.release(index);
                } else if slab.listed != Use::Class(class) {
                    slab.listed = Use::Class(class);
                    self.partial[usize::from(class)].push(index as u32);
                }
            }
            Use::Row(slabs) => {
                for index in index..index + slabs as usize {
                    self.release(index);
                }
            }
            Use::Free | Use::RowRest => unreachable!("no block begins at {offset}"),
        }
    }

    fn release(&mut self, index: usize) {
        let slab = &mut self.slabs[index];
        slab.used_for = Use::Free;
        slab.free = 0;
        slab.depths = None;
        self.free_slabs += 1;
        self.free_hint = self.free_hint.min(index);
    }

    /// The version being made was published as `version`: its blocks are
    /// published, what it retired waits, and what waited long enough is free.
    pub(crate) fn committed(&mut self, version: u64) {
        while let Some(offset) = self.fresh.pop() {
            let unit = self.unit(offset);
            self.fresh_map[unit / 64] &= !(1 << (unit % 64));
        }
        if self.fresh.capacity() > FRESH_KEPT_MAX {
            self.fresh = Vec::new();
        }
        if !self.retiring.is_empty() {
            self.retired.push_back((version, core::mem::take(&mut self.retiring)));
        }
        while self.retired.front().is_some_and(|(retired, _)| *retired <= reusable(version)) {
            let (_, blocks) = self.retired.pop_front().expect("looked at just now");
            for offset in blocks {
                self.retired_units -= self.block_units(offset) as u64;
                self.free(offset);
            }
        }
    }

    /// Where what is noted for the entries of block `offset` begins.
    #[inline(always)]
    fn depths_at(&self, offset: u32) -> (usize, usize) {
        let unit = self.unit(offset);
        (unit / SLAB_UNITS, unit % SLAB_UNITS * UNIT_ENTRIES)
    }

    /// The prefix lengths noted for the first `count` entries of a block of a
    /// lookup structure.
    #[inline]
    pub(crate) fn depths(&self, offset: u32, count: usize) -> &[u8] {
        let (slab, at) = self.depths_at(offset);
        let depths = self.slabs[slab].depths.as_deref();
        &depths.expect("a slab of lookup nodes")[at..at + count]
    }

    /// The same, to be noted.
    #[inline]
    pub(crate) fn depths_mut(&mut self, offset: u32, count: usize) -> &mut [u8] {
        let (slab, at) = self.depths_at(offset);
        let depths = self.slabs[slab].depths.as_deref_mut();
        &mut depths.expect("a slab of lookup nodes")[at..at + count]
    }

    /// Copies what is noted for the first `count` entries of a block.
    pub(crate) fn copy_depths(&mut self, from: u32, to: u32, count: usize) {
        let ((from_slab, from), (to_slab, to)) = (self.depths_at(from), self.depths_at(to));
        let none = "a slab of lookup nodes";
        if from_slab == to_slab {
            let depths = self.slabs[to_slab].depths.as_deref_mut().expect(none);
            depths.copy_within(from..from + count, to);
            return;
        }
        let (low, high) = self.slabs.split_at_mut(from_slab.max(to_slab));
        let (low, high) = (&mut low[from_slab.min(to_slab)], &mut high[0]);
        let (noted, depths) = if from_slab < to_slab { (low, high) } else { (high, low) };
        let noted = noted.depths.as_deref().expect(none);
        let depths = depths.depths.as_deref_mut().expect(none);
        depths[to..to + count].copy_from_slice(&noted[from..from + count]);
    }
}

/// A list of fresh blocks longer than this (a load's) is given back.
const FRESH_KEPT_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_never_overlap_and_come_back() {
        let mut heap = Heap::new(512, 64 * SLAB_WORDS);
        let mut live: Vec<(u32, usize)> = Vec::new();
        let mut random = 1_u64;
        let mut version = 0;
        for step in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let words = [1, 7, 33, 64, 128, 500, 2048, 5000][(random >> 40) as usize % 8];
            if random >> 60 < 9 {
                if let Some(offset) = heap.allocate(words, random >> 62 == 0) {
                    let end = offset as usize + Heap::units(words);
                    assert!(
                        live.iter().all(|&(o, w)| end <= o as usize
                            || o as usize + Heap::units(w) <= offset as usize),
                        "step {step}"
                    );
                    assert!(end <= 256 + 64 * SLAB_UNITS);
                    live.push((offset, words));
                }
            } else if !live.is_empty() {
                let (offset, _) = live.swap_remove((random >> 20) as usize % live.len());
                heap.retire(offset);
            }
            if step % 50 == 0 {
                version += 1;
                heap.committed(version);
                // The counts by kind are those of the whole.
                let (parts, usage) = (heap.parts(), heap.usage());
                let sum = |of: fn(&Part) -> u64| parts.iter().map(of).sum::<u64>();
                assert_eq!(sum(|part| part.count), live.len() as u64 + usage.retired_blocks);
                assert_eq!(sum(|part| part.bytes), usage.used + usage.retired);
                assert_eq!(sum(|part| part.bytes + part.free_bytes) + usage.free, usage.heap);
            }
        }
        for (offset, _) in live {
            heap.retire(offset);
        }
        for _ in 0..3 {
            version += 1;
            heap.committed(version);
        }
        assert_eq!(heap.usage().used, 0);
        assert_eq!(heap.usage().free, heap.usage().heap);
    }

    #[test]
    fn what_a_reader_may_still_see_is_not_reused() {
        let mut heap = Heap::new(0, SLAB_WORDS);
        let block = heap.allocate(SLAB_WORDS, false).unwrap();
        heap.committed(1);
        heap.retire(block);
        assert!(heap.allocate(1, false).is_none());
        heap.committed(2); // retired by 2: version 1 still reaches it
        assert!(heap.allocate(1, false).is_none());
        heap.committed(3);
        assert!(heap.allocate(1, false).is_some(), "version 4 may be made of it");
    }

    #[test]
    fn a_fresh_block_is_free_at_once() {
        let mut heap = Heap::new(0, SLAB_WORDS);
        let block = heap.allocate(SLAB_WORDS, false).unwrap();
        heap.retire(block);
        assert_eq!(heap.allocate(SLAB_WORDS, false), Some(block));
    }
}
