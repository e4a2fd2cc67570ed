//! The writer's memory: the object and the book of who owns which block.
pub(crate) mod growth;

use core::fmt;

use self::growth::Growth;
use crate::heap::{Heap, Part, Usage};
use crate::layout::{HEADER_WORDS, UNIT_WORDS, word_of};
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

    /// It is not written any more, nor read by the writer, from here on: what the
    /// bytes `from .. from + bytes` cost the writer is given back. Called for all
    /// parts in order before the memory goes.
    fn unload(&self, from: u64, bytes: u64) {
        let _ = (from, bytes);
    }

    /// It goes. The system frees a large object for some milliseconds: who can't wait
    /// for that lets another thread do it.
    fn give_back(self) {}

    /// It can be read now: it has everything that the memory before had.
    fn installed(&self) {}

    /// Wakes all who wait at the futex, and says how many it were; nobody, in memory that
    /// nobody shares.
    fn wake(&self) -> usize {
        0
    }
}

/// Memory and book.
pub(crate) struct Store<M> {
    mem: M,
    heap: Heap,
    bytes_max: u64,
    growth: Option<Growth<M>>,
    /// The memory before this one, and how much of it was unloaded.
    left: Option<(M, u64)>,
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
    /// The version that is being made.
    making: u64,
    /// Nodes of trees that were given up since [`Self::remember`].
    forgotten: Vec<u32>,
}

/// So many are told apart; if there are more, all count as given up.
const FORGOTTEN_MAX: usize = 64;

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
            left: None,
            mirrored: 0,
            reserved: 0,
            refused: 0,
            free_before: 0,
            hurried: 0,
            making: 1,
            forgotten: Vec::new(),
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
        self.making = version + 1;
        self.heap.committed(version);
    }

    /// What is found from here on in trees may be used until [`Self::is_forgotten`].
    pub(crate) fn remember(&mut self) {
        self.forgotten.clear();
    }

    /// This node of a tree is given up: what was found in it is there no more.
    pub(crate) fn forget(&mut self, node: u32) {
        if self.forgotten.len() < FORGOTTEN_MAX {
            self.forgotten.push(node);
        }
    }

    pub(crate) fn is_forgotten(&self, node: u32) -> bool {
        self.forgotten.len() == FORGOTTEN_MAX || self.forgotten.contains(&node)
    }

    /// The version that is being made: what is noted in a published block names it.
    pub(crate) fn making(&self) -> u64 {
        self.making
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
