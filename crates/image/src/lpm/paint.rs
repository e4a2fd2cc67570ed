//! Changing a trie: giving the range of a prefix another answer.
use std::collections::BTreeSet;

use super::node::{self, Run};
use super::walk::{PAGE4_BITS, PAGE6_BITS, RUNS4_BITS};
use super::wide::Wide;
use crate::layout::{UNIT_BYTES, none, tag, wide, word_of};
use crate::store::{Full, Memory, Store};
use rtm_model::Family;

/// An entry with the length of the prefix that it comes from; 0: none that is in
/// the trie. For a node in a wide root the shortest below it (of one that was made
/// anew [`Slot::NOT_KNOWN`]), elsewhere 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    pub(crate) entry: u32,
    pub(crate) depth: u8,
}

impl Slot {
    /// What is written before it is read.
    pub(crate) const UNUSED: Slot = Slot { entry: 0, depth: 0 };

    /// No length: the shortest below a node, to be found out by who notes it.
    const NOT_KNOWN: u8 = u8::MAX;

    /// No prefix of the trie, whose answer this is.
    pub(crate) fn none(number: u32) -> Slot {
        Slot::leaf(number, 0)
    }

    /// A leaf.
    pub(crate) fn leaf(answer: u32, depth: u8) -> Slot {
        Slot { entry: answer | tag::LEAF, depth }
    }

    pub(crate) fn is_leaf(self) -> bool {
        self.entry & tag::LEAF != 0
    }
}

/// The levels of a family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    number: usize,
    /// Bits of the address above this level.
    from: u32,
    /// Bits that this level looks at.
    bits: u32,
    dense: bool,
}

impl Level {
    pub(super) fn new(family: Family, number: usize) -> Level {
        let n = number as u32;
        match family {
            Family::V4 if n < 2 => {
                Level { number, from: PAGE4_BITS * n, bits: PAGE4_BITS, dense: true }
            }
            Family::V4 => Level {
                number,
                from: 2 * PAGE4_BITS + RUNS4_BITS * (n - 2),
                bits: RUNS4_BITS,
                dense: false,
            },
            Family::V6 => Level { number, from: PAGE6_BITS * n, bits: PAGE6_BITS, dense: n < 3 },
        }
    }

    pub(super) fn size(self) -> usize {
        1 << self.bits
    }

    fn page_words(self) -> usize {
        self.size() / 2
    }
}

/// What a change is done with: buffers that are kept.
#[derive(Default, Debug)]
pub(crate) struct Painter {
    buffers: Vec<Vec<Run>>,
}

/// A change: `slot` takes the range of the prefix (`bits`, `len`).
#[derive(Clone, Copy)]
struct Change {
    family: Family,
    bits: u128,
    len: u8,
    slot: Slot,
}

impl Painter {
    /// Gives the entries in the range of (`bits`, `len`) that come from
    /// prefixes no longer than `len` the answer `slot`. `len` is over 0: the
    /// default route stands beside the root. Returns the new root.
    pub(crate) fn paint<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        family: Family,
        root: u32,
        bits: u128,
        len: u8,
        slot: Slot,
    ) -> Result<u32, Full> {
        debug_assert!(len > 0 && root & tag::LEAF == 0);
        let change = Change { family, bits, len, slot };
        Ok(self.at(store, change, 0, Slot { entry: root, depth: 0 })?.entry)
    }

    /// The same in a trie with a wide root.
    pub(crate) fn paint_wide<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        wide: &mut Wide,
        bits: u128,
        len: u8,
        slot: Slot,
    ) -> Result<(), Full> {
        let change = Change { family: Family::V4, bits, len, slot };
        // The level that a wide root ends with.
        let level = Level::new(Family::V4, 1);
        let (low, count) = (bits >> (128 - wide::BITS), wide::BITS.saturating_sub(len.into()));
        for index in low as usize..low as usize + (1 << count) {
            let found = wide.get(store, index);
            // Nothing below it comes from so short a prefix.
            if found.depth > len && u32::from(len) <= wide::BITS {
                continue;
            }
            let mut next = self.slot(store, change, level, found, u32::from(len) > wide::BITS)?;
            if next.depth == Slot::NOT_KNOWN {
                next.depth = node::shallowest(store, next.entry);
            }
            if next != found {
                wide.set(store, index, next)?;
            }
        }
        Ok(())
    }

    /// The entry that stands where `found` was, one level being `number`.
    fn at<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        change: Change,
        number: usize,
        found: Slot,
    ) -> Result<Slot, Full> {
        let level = Level::new(change.family, number);
        let len = u32::from(change.len);
        if found.is_leaf() {
            if found.depth > change.len || found == change.slot {
                return Ok(found);
            }
            if len <= level.from {
                return Ok(change.slot);
            }
        }
        // The slots of this level that the prefix covers, or the one it is in.
        let end = level.from + level.bits;
        let (low, high) = if len <= level.from {
            (0, level.size())
        } else {
            let index = (change.bits << level.from >> (128 - level.bits)) as usize;
            (index, index + if len < end { 1 << (end - len) } else { 1 })
        };
        let deeper = len > end;
        if level.dense {
            self.dense(store, change, level, found, (low, high), deeper)
        } else {
            self.runs(store, change, level, found, (low, high), deeper)
        }
    }

    /// What is put into an entry of a page or of a node.
    fn one<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        change: Change,
        level: Level,
        slot: Slot,
        deeper: bool,
    ) -> Result<Slot, Full> {
        let next = self.slot(store, change, level, slot, deeper)?;
        // How short a prefix is below a node isn't noted there: any.
        Ok(if next.is_leaf() { next } else { Slot { depth: 0, ..next } })
    }

    /// What stands where `slot` was.
    fn slot<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        change: Change,
        level: Level,
        slot: Slot,
        deeper: bool,
    ) -> Result<Slot, Full> {
        if deeper || !slot.is_leaf() {
            self.at(store, change, level.number + 1, slot)
        } else if slot.depth <= change.len {
            Ok(change.slot)
        } else {
            Ok(slot)
        }
    }

    fn dense<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        change: Change,
        level: Level,
        found: Slot,
        (low, high): (usize, usize),
        deeper: bool,
    ) -> Result<Slot, Full> {
        let mut reference = found.entry;
        if found.is_leaf() {
            reference = page(store, level, found)?;
        }
        let mut written = found.is_leaf().then_some(found);
        for index in low..high {
            let slot = entry_of(store, reference, index);
            let next = self.one(store, change, level, slot, deeper)?;
            if next != slot {
                written = Some(next);
                if !store.is_fresh(reference & tag::OFFSET) {
                    reference = copy_page(store, level, reference)?;
                }
                set_entry(store, reference, index, next);
            }
        }
        // All equal leaves: the page is no longer needed. (The top one stays.) It
        // can only have become so by what was written last.
        let first = entry_of(store, reference, 0);
        if level.number > 0
            && written == Some(first)
            && first.is_leaf()
            && (1..level.size()).rev().all(|index| entry_of(store, reference, index) == first)
        {
            store.retire(reference & tag::OFFSET);
            return Ok(first);
        }
        Ok(Slot { entry: reference, depth: 0 })
    }

    fn runs<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        change: Change,
        level: Level,
        found: Slot,
        (low, high): (usize, usize),
        deeper: bool,
    ) -> Result<Slot, Full> {
        if !found.is_leaf() {
            let place = node::find(store, found.entry, low);
            if (place.start, place.end) == (low, high) {
                let next = self.one(store, change, level, place.slot, deeper)?;
                if next == place.slot {
                    return Ok(found);
                }
                // A node stays a run of its own; a leaf unless it is now equal
                // to the run before or behind.
                if let Some(entry) = node::patch(store, found.entry, &place, next)? {
                    let same = next.depth == place.slot.depth;
                    let depth = if same { found.depth } else { Slot::NOT_KNOWN };
                    return Ok(Slot { entry, depth });
                }
                return self.rewrite(store, level, found, (low, high), |_, _| Ok(next));
            }
        }
        self.rewrite(store, level, found, (low, high), |painter, (store, slot)| {
            painter.one(store, change, level, slot, deeper)
        })
    }

    /// Makes a node of runs anew: what is between `low` and `high` becomes what
    /// `next` says of it.
    fn rewrite<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        level: Level,
        found: Slot,
        (low, high): (usize, usize),
        mut next: impl FnMut(&mut Self, (&mut Store<M>, Slot)) -> Result<Slot, Full>,
    ) -> Result<Slot, Full> {
        let mut runs = self.buffers.pop().unwrap_or_default();
        let mut out = self.buffers.pop().unwrap_or_default();
        out.clear();
        if found.is_leaf() {
            runs.clear();
            runs.push(Run { start: 0, slot: found });
        } else {
            node::decode(store, found.entry, &mut runs);
        }
        for index in 0..runs.len() {
            let Run { start, slot } = runs[index];
            let (start, end) = (
                usize::from(start),
                runs.get(index + 1).map_or(level.size(), |next| next.start.into()),
            );
            if end <= low || start >= high {
                push(&mut out, start, slot);
                continue;
            }
            if start < low {
                push(&mut out, start, slot);
            }
            let next = next(self, (&mut *store, slot))?;
            push(&mut out, start.max(low), next);
            if end > high {
                push(&mut out, high, slot);
            }
        }
        let result = if out == runs {
            Ok(found)
        } else {
            if !found.is_leaf() {
                store.retire(found.entry & tag::OFFSET);
            }
            match out[..] {
                [Run { slot, .. }] if slot.is_leaf() => Ok(slot),
                _ => node::encode(store, level.bits, &out)
                    .map(|entry| Slot { entry, depth: Slot::NOT_KNOWN }),
            }
        };
        self.buffers.push(runs);
        self.buffers.push(out);
        result
    }
}

fn push(runs: &mut Vec<Run>, start: usize, slot: Slot) {
    // Equal leaves are one run; each node is a run of its own.
    if !(slot.is_leaf() && runs.last().is_some_and(|last| last.slot == slot)) {
        runs.push(Run { start: start as u16, slot });
    }
}

pub(super) fn entry_of<M: Memory>(store: &Store<M>, reference: u32, index: usize) -> Slot {
    let offset = reference & tag::OFFSET;
    Slot {
        entry: store.get32(word_of(offset), index),
        depth: store.depths(offset, index + 1)[index],
    }
}

pub(super) fn set_entry<M: Memory>(store: &mut Store<M>, reference: u32, index: usize, slot: Slot) {
    let offset = reference & tag::OFFSET;
    store.put32(word_of(offset), index, slot.entry);
    store.depths_mut(offset, index + 1)[index] = slot.depth;
}

/// The leaf that an address has, and the length of the prefix that it comes from. `wide`: the
/// root is this one.
pub(crate) fn leaf_at<M: Memory>(
    store: &Store<M>,
    family: Family,
    wide: Option<&Wide>,
    root: u32,
    address: u128,
) -> Slot {
    let (mut slot, mut number) = match wide {
        Some(wide) => (wide.get(store, (address >> (128 - wide::BITS)) as usize), 2),
        None => (Slot { entry: root, depth: 0 }, 0),
    };
    while !slot.is_leaf() {
        let level = Level::new(family, number);
        let index = (address << level.from >> (128 - level.bits)) as usize;
        slot = if level.dense {
            entry_of(store, slot.entry, index)
        } else {
            node::find(store, slot.entry, index).slot
        };
        number += 1;
    }
    slot
}

/// A trie without a prefix. `is_main`: what is nowhere in it is what table main's
/// short prefixes say.
pub(crate) fn empty<M: Memory>(
    store: &mut Store<M>,
    family: Family,
    is_main: bool,
) -> Result<u32, Full> {
    let level = Level::new(family, 0);
    let root = page(store, level, Slot::none(none::DEFAULT))?;
    if is_main {
        for index in 0..level.size() {
            let part = (index >> (level.bits - u32::from(none::SHORT_BITS))) as u8;
            set_entry(store, root, index, Slot::none(none::of(family, part)));
        }
    }
    Ok(root)
}

/// A fresh page with the same entry everywhere.
pub(super) fn page<M: Memory>(store: &mut Store<M>, level: Level, slot: Slot) -> Result<u32, Full> {
    let offset = store.allocate_node(level.page_words())?;
    let entry = u64::from(slot.entry);
    for word in 0..level.page_words() {
        store.put(word_of(offset) + word, entry | entry << 32);
    }
    for index in 0..level.size() {
        store.depths_mut(offset, index + 1)[index] = slot.depth;
    }
    Ok(offset | tag::DENSE)
}

/// A fresh copy of a page, depths included.
fn copy_page<M: Memory>(store: &mut Store<M>, level: Level, reference: u32) -> Result<u32, Full> {
    let copy = store.copy_node(reference & tag::OFFSET, level.page_words(), level.size())?;
    Ok(copy | tag::DENSE)
}

/// Gives back a trie and all below it.
pub(crate) fn clear<M: Memory>(store: &mut Store<M>, family: Family, root: u32) {
    clear_level(store, family, 0, root);
}

/// The same with a wide root.
pub(crate) fn clear_wide<M: Memory>(store: &mut Store<M>, wide: Wide) {
    for index in 0..wide::SIZE {
        let slot = wide.get(store, index);
        clear_level(store, Family::V4, 2, slot.entry);
    }
    wide.give_back(store);
}

fn clear_level<M: Memory>(store: &mut Store<M>, family: Family, number: usize, entry: u32) {
    if entry & tag::LEAF != 0 {
        return;
    }
    let level = Level::new(family, number);
    if level.dense {
        for index in 0..level.size() {
            let entry = store.get32(word_of(entry), index);
            clear_level(store, family, number + 1, entry);
        }
    } else {
        let mut runs = Vec::new();
        node::decode(store, entry, &mut runs);
        for run in runs {
            clear_level(store, family, number + 1, run.slot.entry);
        }
    }
    store.retire(entry & tag::OFFSET);
}

/// Bytes of the blocks of a lookup structure.
pub(crate) fn bytes<M: Memory>(store: &Store<M>, family: Family, root: u32) -> u64 {
    if root & (tag::LEAF | tag::KIND) == tag::SMALL {
        return store.block_bytes(root & tag::OFFSET);
    }
    if root & (tag::LEAF | tag::KIND) == tag::WIDE {
        let mut leaves = BTreeSet::new();
        let mut below = 0;
        for index in 0..wide::SIZE {
            let entry = super::wide::meaning(store.mem(), store.get32(word_of(root), index));
            if entry & tag::LEAF != 0 {
                leaves.insert((entry & !tag::LEAF) as usize / super::wide::LEAVES);
            } else {
                below += bytes_level(store, family, 2, entry);
            }
        }
        let page = (super::wide::LEAVES * UNIT_BYTES) as u64;
        return super::wide::BYTES + leaves.len() as u64 * page + below;
    }
    bytes_level(store, family, 0, root)
}

fn bytes_level<M: Memory>(store: &Store<M>, family: Family, number: usize, entry: u32) -> u64 {
    if entry & tag::LEAF != 0 {
        return 0;
    }
    let level = Level::new(family, number);
    let own = store.block_bytes(entry & tag::OFFSET);
    let mut runs = Vec::new();
    if level.dense {
        runs.extend((0..level.size()).map(|i| Run { start: 0, slot: entry_of(store, entry, i) }));
    } else {
        node::decode(store, entry, &mut runs);
    }
    own + runs.iter().map(|run| bytes_level(store, family, number + 1, run.slot.entry)).sum::<u64>()
}
