//! The writer's memory: the object and the book of who owns which block.
//!
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
use core::fmt;
use core::sync::atomic::Ordering;

use crate::heap::{Heap, Part, SLAB_WORDS, Usage};
use crate::layout::{
    AT_BYTES, AT_HEAP, AT_ID, AT_STATE, AT_SUCCESSOR, HEADER_WORDS, STATE_MOVED, UNIT_WORDS,
    word_of,
};
use crate::ring::RingWriter;
use crate::words::{Words, WordsMut};

/// There is no room.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Full {
    /// The object would be larger than it may.
    Limit {
        /// The bytes that it would need.
        bytes: u64,
        /// The bytes that it may have.
        limit: u64,
    },
    /// The system has no such memory.
    System {
        /// The bytes that were asked for.
        bytes: u64,
        /// What it said.
        why: String,
    },
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Full::Limit { bytes, limit } => write!(
                f,
                "the image would take {bytes} bytes, {limit} are allowed; a larger image_bytes_max would be right"
            ),
            Full::System { bytes, why } => write!(f, "no image of {bytes} bytes: {why}"),
        }
    }
}

impl std::error::Error for Full {}

/// Memory that a writer can grow out of.
pub trait Memory: WordsMut + Sized {
    /// Memory of `bytes` bytes, all zero, of which none need be allocated yet.
    ///
    /// # Errors
    /// [`Full`].
    fn successor(&self, bytes: u64) -> Result<Self, Full>;

    /// Allocates the bytes `from .. from + bytes` of it: asked for in order, one
    /// part after another, before they are written.
    ///
    /// # Errors
    /// [`Full`].
    fn allocate(&self, from: u64, bytes: u64) -> Result<(), Full> {
        let _ = (from, bytes);
        Ok(())
    }

    /// It can be read now: it has everything that the memory before had.
    fn installed(&self) {}

    /// Wakes all who wait at the futex; nothing in memory that nobody shares.
    fn wake(&self) {}
}

/// What one commit does for the successor at least, in bytes allocated or copied.
pub(crate) const SLICE_BYTES: u64 = 1 << 20;
/// And at most, if room gets scarce: well under a millisecond.
pub(crate) const SLICE_BYTES_MAX: u64 = 4 << 20;
/// A successor is begun when less than this part of the heap is free.
const FREE_PART: u64 = 4;
/// After a successor was refused, so many commits pass before the next try.
const REFUSED_COMMITS: u32 = 1024;

/// Memory and book.
pub(crate) struct Store<M> {
    mem: M,
    heap: Heap,
    bytes_max: u64,
    growth: Option<Growth<M>>,
    /// What is written between the heap's beginning and this word is written to
    /// the successor, too.
    mirrored: usize,
    /// The most that was reserved at once since the last growth.
    reserved: u64,
    /// Commits until a successor is tried again.
    refused: u32,
    /// Bytes that were free at the last commit.
    free_before: u64,
    /// Growths that had to be finished at once.
    hurried: u64,
}

/// A successor that is being written along.
struct Growth<M> {
    to: M,
    /// Bytes of it that are allocated.
    allocated: u64,
}

impl<M: Memory> Store<M> {
    /// Memory whose heap begins at word `heap_at`.
    pub(crate) fn new(mem: M, heap_at: usize, bytes_max: u64) -> Store<M> {
        debug_assert!(heap_at >= HEADER_WORDS);
        let heap = Heap::new(heap_at, mem.len() - heap_at);
        Store {
            mem,
            heap,
            bytes_max,
            growth: None,
            mirrored: 0,
            reserved: 0,
            refused: 0,
            free_before: 0,
            hurried: 0,
        }
    }

    /// The memory.
    #[inline(always)]
    pub(crate) fn mem(&self) -> &M {
        &self.mem
    }

    /// A word.
    #[inline(always)]
    pub(crate) fn get(&self, at: usize) -> u64 {
        self.mem.get(at)
    }

    /// Writes a word of a fresh block.
    #[inline(always)]
    pub(crate) fn put(&self, at: usize, value: u64) {
        self.mem.put(at, value);
        if at < self.mirrored {
            self.mirror(at, value);
        }
    }

    #[cold]
    fn mirror(&self, at: usize, value: u64) {
        if let Some(growth) = &self.growth {
            growth.to.put(at, value);
        }
    }

    /// Copies words to a fresh block.
    #[inline(always)]
    pub(crate) fn copy_words(&self, from: usize, to: usize, count: usize) {
        self.mem.copy(from, to, count);
        if let Some(growth) = self.growth.as_ref().filter(|_| to < self.mirrored) {
            // All of it, wherever the copy has got to within the block.
            self.mem.copy_to(&growth.to, to, count);
        }
    }

    /// Appends to the ring, wherever it is kept.
    pub(crate) fn ring_append(&self, ring: &mut RingWriter, frames: &[u8]) {
        if let Some(growth) = self.growth.as_ref().filter(|_| self.mirrored > 0) {
            ring.clone().append(&growth.to, frames);
        }
        ring.append(&self.mem, frames);
    }

    /// The 32-bit entry `index` of an array that begins at word `at`.
    #[inline(always)]
    pub(crate) fn get32(&self, at: usize, index: usize) -> u32 {
        entry32(&self.mem, at, index)
    }

    /// Writes one.
    #[inline(always)]
    pub(crate) fn put32(&self, at: usize, index: usize, value: u32) {
        let at = at + index / 2;
        let shift = index % 2 * 32;
        let word = self.mem.get(at) & !(u64::from(u32::MAX) << shift);
        self.put(at, word | u64::from(value) << shift);
    }

    /// A fresh block of `words` words, content undefined.
    ///
    /// # Errors
    /// [`Full`].
    pub(crate) fn allocate(&mut self, words: usize) -> Result<u32, Full> {
        self.allocate_in(words, false)
    }

    /// The same for a node of a lookup structure.
    ///
    /// # Errors
    /// [`Full`].
    pub(crate) fn allocate_node(&mut self, words: usize) -> Result<u32, Full> {
        self.allocate_in(words, true)
    }

    fn allocate_in(&mut self, words: usize, lookup: bool) -> Result<u32, Full> {
        loop {
            if let Some(offset) = self.heap.allocate(words, lookup) {
                return Ok(offset);
            }
            self.grow(words)?;
        }
    }

    /// A fresh copy of the first `words` words of a block; retires the original.
    pub(crate) fn copy(&mut self, offset: u32, words: usize) -> Result<u32, Full> {
        let copy = self.allocate(words)?;
        self.copy_words(word_of(offset), word_of(copy), words);
        self.heap.retire(offset);
        Ok(copy)
    }

    /// The block itself if it is fresh, else a fresh copy of it.
    #[inline]
    pub(crate) fn own(&mut self, offset: u32, words: usize) -> Result<u32, Full> {
        if self.heap.is_fresh(offset) { Ok(offset) } else { self.copy(offset, words) }
    }

    pub(crate) fn is_fresh(&self, offset: u32) -> bool {
        self.heap.is_fresh(offset)
    }

    pub(crate) fn retire(&mut self, offset: u32) {
        self.heap.retire(offset);
    }

    pub(crate) fn committed(&mut self, version: u64) {
        self.heap.committed(version);
    }

    pub(crate) fn usage(&self) -> Usage {
        self.heap.usage()
    }

    pub(crate) fn parts(&self) -> Vec<Part> {
        self.heap.parts()
    }

    /// The prefix lengths noted for the first `count` entries of a block.
    #[inline(always)]
    pub(crate) fn depths(&self, offset: u32, count: usize) -> &[u8] {
        self.heap.depths(offset, count)
    }

    /// The same, to be noted.
    #[inline(always)]
    pub(crate) fn depths_mut(&mut self, offset: u32, count: usize) -> &mut [u8] {
        self.heap.depths_mut(offset, count)
    }

    /// A fresh copy of a node of a lookup structure with `count` entries, what is
    /// noted for them included; retires the original.
    pub(crate) fn copy_node(
        &mut self,
        offset: u32,
        words: usize,
        count: usize,
    ) -> Result<u32, Full> {
        let copy = self.allocate_node(words)?;
        self.copy_words(word_of(offset), word_of(copy), words);
        self.heap.copy_depths(offset, copy, count);
        self.heap.retire(offset);
        Ok(copy)
    }

    /// Bytes of a block.
    pub(crate) fn block_bytes(&self, offset: u32) -> u64 {
        (self.heap.block_units(offset) * UNIT_WORDS * 8) as u64
    }

    /// The size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.mem.len() as u64 * 8
    }

    /// Room for a block of `words` words more: everything moves into memory
    /// twice as large, at the same offsets.
    fn grow(&mut self, words: usize) -> Result<(), Full> {
        let mut bytes = self.bytes() * 2;
        while bytes - self.bytes() < 2 * words as u64 * 8 {
            bytes *= 2;
        }
        if bytes > self.bytes_max {
            return Err(Full::Limit { bytes, limit: self.bytes_max });
        }
        self.grow_to(bytes)
    }

    /// Makes sure that `bytes` bytes are free of any use, growing at once if
    /// they aren't.
    ///
    /// # Errors
    /// [`Full`]; then nothing has changed.
    pub(crate) fn reserve(&mut self, bytes: u64) -> Result<(), Full> {
        self.reserved = self.reserved.max(bytes);
        match self.size_for(bytes)? {
            size if size == self.bytes() => Ok(()),
            size => self.grow_to(size),
        }
    }

    /// The size that leaves `bytes` bytes free.
    ///
    /// # Errors
    /// [`Full`]: more than the object may have.
    pub(crate) fn size_for(&self, bytes: u64) -> Result<u64, Full> {
        let free = self.heap.usage().free;
        let mut size = self.bytes();
        while size - self.bytes() + free < bytes {
            size *= 2;
        }
        if size > self.bytes_max.max(self.bytes()) {
            return Err(Full::Limit { bytes: size, limit: self.bytes_max });
        }
        Ok(size)
    }

    /// May the object become larger later on, for what is reserved then?
    pub(crate) fn set_bytes_max(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    /// Everything moves into memory of at least `bytes` bytes, now.
    fn grow_to(&mut self, bytes: u64) -> Result<(), Full> {
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
        self.growth = None;
        self.mirrored = 0;
    }

    /// Is a successor being written along?
    pub(crate) fn is_growing(&self) -> bool {
        self.growth.is_some()
    }

    /// Growths that had to be finished at once.
    pub(crate) fn hurried(&self) -> u64 {
        self.hurried
    }

    /// What is done beside each commit: begins a successor when room gets scarce, and
    /// carries it on by a slice. Returns the slice's bytes.
    pub(crate) fn tend(&mut self) -> u64 {
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
    }
}

/// Readers of an object learn where to go on.
pub(crate) fn say_moved<M: Memory>(old: &M, successor: u64) {
    old.put(AT_SUCCESSOR, successor);
    // Pairs with the acquire of whoever reads the state.
    old.store(AT_STATE, STATE_MOVED, Ordering::Release);
    old.wake();
}

/// The 32-bit entry `index` of an array of words that begins at `at`.
#[inline(always)]
pub(crate) fn entry32(words: &impl Words, at: usize, index: usize) -> u32 {
    words.half(at, index)
}

/// The 16-bit entry `index`, likewise.
#[inline(always)]
pub(crate) fn entry16(words: &impl Words, at: usize, index: usize) -> u32 {
    words.quarter(at, index)
}
