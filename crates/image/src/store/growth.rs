//! **Growth in slices.** Copying a large object at once would hold up whoever
//! waits for the writer. So a successor twice as large is begun while a quarter
//! of the heap is still free, and each commit carries it on by a slice: first its
//! memory is allocated, then the words of the old object are copied, from the
//! heap's beginning upwards. What is behind the point that the copy has reached
//! is *mirrored*: each word that is written there from now on is written to both.
//! So when the copy is through, both are equal: the writer goes on in the
//! successor, and the old object says so. It keeps the revision that was visible.
//! Until then the successor is nobody's but the writer's.
//!
//! Only if a block finds no room earlier (or [`Store::reserve`] wants more than
//! is free) the rest is done at once.
use core::sync::atomic::Ordering;

use super::{Full, Memory, Store};
use crate::heap::SLAB_WORDS;
use crate::layout::{AT_BYTES, AT_HEAP, AT_ID, AT_STATE, AT_SUCCESSOR, HEADER_WORDS, STATE_MOVED};

/// What one commit does for the successor at least, in bytes allocated or copied.
pub(crate) const SLICE_BYTES: u64 = 1 << 20;
/// And at most, if room gets scarce: some two milliseconds where its pages are touched first.
pub(crate) const SLICE_BYTES_MAX: u64 = 4 << 20;
/// Of memory that was left, one commit unloads so many bytes.
const UNLOAD_BYTES: u64 = 8 << 20;
/// A successor is begun when less than this part of the heap is free.
const FREE_PART: u64 = 4;
/// After a successor was refused, so many commits pass before the next try.
const REFUSED_COMMITS: u32 = 1024;

/// A successor that is being written along.
pub(super) struct Growth<M> {
    pub(super) to: M,
    /// Bytes of it that are allocated.
    allocated: u64,
}

impl<M: Memory> Store<M> {
    /// Room for a block of `words` words more: everything moves into memory
    /// twice as large, at the same offsets.
    pub(super) fn grow(&mut self, words: usize) -> Result<(), Full> {
        let mut bytes = self.bytes() * 2;
        while bytes - self.bytes() < 2 * words as u64 * 8 {
            bytes *= 2;
        }
        if bytes > self.bytes_max {
            return Err(Full::Limit { bytes, limit: self.bytes_max });
        }
        self.grow_to(bytes)
    }

    /// Everything moves into memory of at least `bytes` bytes, now.
    pub(super) fn grow_to(&mut self, bytes: u64) -> Result<(), Full> {
        self.hurried += 1;
        if self.growth.as_ref().is_some_and(|growth| (growth.to.len() as u64) * 8 < bytes) {
            self.give_up_growth();
        }
        if self.growth.is_none() {
            self.growth = Some(Growth { to: self.mem.successor(bytes)?, allocated: 0 });
        }
        if let Err(full) = self.carry_on(u64::MAX) {
            self.give_up_growth();
            return Err(full);
        }
        self.switch();
        Ok(())
    }

    fn give_up_growth(&mut self) {
        if let Some(growth) = self.growth.take() {
            growth.to.give_back();
        }
        self.mirrored = 0;
    }

    /// Is a successor being written along?
    pub(crate) fn is_copying(&self) -> bool {
        self.growth.is_some()
    }

    /// Is a successor being written along, or the memory before given back?
    pub(crate) fn is_growing(&self) -> bool {
        self.growth.is_some() || self.left.is_some()
    }

    /// Growths that had to be finished at once.
    pub(crate) fn hurried(&self) -> u64 {
        self.hurried
    }

    /// What is done beside each commit: begins a successor when room gets scarce, and
    /// carries it on by a slice. Returns the slice's bytes.
    pub(crate) fn tend(&mut self) -> u64 {
        self.tend_left();
        let usage = self.heap.usage();
        let taken = self.free_before.saturating_sub(usage.free);
        self.free_before = usage.free;
        if self.growth.is_none() {
            if self.refused > 0 {
                self.refused -= 1;
                return 0;
            }
            let wanted = (usage.heap / FREE_PART).max(2 * self.reserved);
            let bytes = self.bytes() * 2;
            if usage.free >= wanted || bytes > self.bytes_max {
                return 0;
            }
            match self.mem.successor(bytes) {
                Ok(to) => self.growth = Some(Growth { to, allocated: 0 }),
                Err(_) => {
                    self.refused = REFUSED_COMMITS;
                    return 0;
                }
            }
        }
        // Through before the room is gone, if it goes on going as it went.
        let rest = 2 * self.bytes() + self.bytes();
        let wanted = (rest / usage.free.max(1)).saturating_mul(2 * taken);
        let slice = wanted.clamp(SLICE_BYTES, SLICE_BYTES_MAX).next_multiple_of(SLICE_BYTES);
        if self.carry_on(slice).is_err() {
            self.give_up_growth();
            self.refused = REFUSED_COMMITS;
        } else if self.mirrored == self.mem.len() {
            self.switch();
        }
        slice
    }

    /// Gives a part of the memory before back. All at once that took seven
    /// milliseconds for 64 MiB, and as many again for the object behind it if nobody else
    /// has it.
    fn tend_left(&mut self) {
        let Some((left, unloaded)) = &mut self.left else { return };
        let rest = left.len() as u64 * 8 - *unloaded;
        left.unload(*unloaded, rest.min(UNLOAD_BYTES));
        *unloaded += rest.min(UNLOAD_BYTES);
        if rest > UNLOAD_BYTES {
            return;
        }
        if let Some((left, _)) = self.left.take() {
            left.give_back();
        }
    }

    /// Allocates and copies up to `budget` bytes of the successor.
    fn carry_on(&mut self, budget: u64) -> Result<(), Full> {
        let Some(growth) = &mut self.growth else { return Ok(()) };
        let bytes = growth.to.len() as u64 * 8;
        let part = budget.min(bytes - growth.allocated);
        if part > 0 {
            growth.to.allocate(growth.allocated, part)?;
            growth.allocated += part;
        }
        let mut budget = budget - part;
        if growth.allocated < bytes || budget == 0 {
            return Ok(());
        }
        // The header comes last, by `switch`.
        self.mirrored = self.mirrored.max(HEADER_WORDS);
        let heap_at = self.mem.get(AT_HEAP) as usize;
        while self.mirrored < self.mem.len() && budget > 0 {
            let end = if self.mirrored < heap_at {
                heap_at.min(self.mirrored + SLAB_WORDS)
            } else {
                self.mem.len().min(self.mirrored + SLAB_WORDS)
            };
            // What no block is in is written before it is read.
            if self.mirrored < heap_at || self.heap.is_used(self.mirrored) {
                let count = end - self.mirrored;
                self.mem.copy_to(&growth.to, self.mirrored, count);
                budget = budget.saturating_sub(count as u64 * 8);
            }
            self.mirrored = end;
        }
        Ok(())
    }

    /// Another object takes this one's place.
    pub(crate) fn leave_to(mut self, successor: u64) {
        self.give_up_growth();
        say_moved(&self.mem, successor);
        self.mem.give_back();
        if let Some((left, _)) = self.left {
            left.give_back();
        }
    }

    /// The successor is equal to the object: the writer goes on there.
    fn switch(&mut self) {
        let Some(Growth { to: larger, .. }) = self.growth.take() else { return };
        self.mirrored = 0;
        self.reserved = 0;
        self.mem.copy_to(&larger, 0, HEADER_WORDS);
        let id = self.mem.get(AT_ID).wrapping_add(1);
        larger.put(AT_BYTES, larger.len() as u64 * 8);
        larger.put(AT_ID, id);
        let heap_at = larger.get(AT_HEAP) as usize;
        self.heap.extend(larger.len() - heap_at);
        larger.installed();
        let old = core::mem::replace(&mut self.mem, larger);
        self.free_before = self.heap.usage().free;
        say_moved(&old, id);
        // One that is still there goes at once: two growths, one behind the other.
        if let Some((left, _)) = self.left.replace((old, 0)) {
            left.give_back();
        }
    }
}

/// Readers of an object learn where to go on.
fn say_moved<M: Memory>(old: &M, successor: u64) {
    old.put(AT_SUCCESSOR, successor);
    // Pairs with the acquire of whoever reads the state.
    old.store(AT_STATE, STATE_MOVED, Ordering::Release);
    old.wake();
}
