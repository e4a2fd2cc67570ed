//! The writer's memory: the object and the book of who owns which block.
use core::fmt;

use crate::heap::{Heap, Usage};
use crate::layout::{AT_BYTES, AT_HEAP, AT_ID, HEADER_WORDS, UNIT_WORDS, word_of};
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
    /// Memory of `bytes` bytes, all zero.
    ///
    /// # Errors
    /// [`Full`].
    fn successor(&self, bytes: u64) -> Result<Self, Full>;

    /// It can be read now: it has everything that the memory before had.
    fn installed(&self) {}

    /// Wakes all who wait at the futex; nothing in memory that nobody shares.
    fn wake(&self) {}
}

/// Memory and book.
pub(crate) struct Store<M> {
    mem: M,
    heap: Heap,
    /// Memory that was grown out of since the last commit.
    pub(crate) outgrown: Vec<M>,
    bytes_max: u64,
}

impl<M: Memory> Store<M> {
    /// Memory whose heap begins at word `heap_at`.
    pub(crate) fn new(mem: M, heap_at: usize, bytes_max: u64) -> Store<M> {
        debug_assert!(heap_at >= HEADER_WORDS);
        let heap = Heap::new(heap_at, mem.len() - heap_at);
        Store { mem, heap, outgrown: Vec::new(), bytes_max }
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
        self.mem.put(at, word | u64::from(value) << shift);
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
        let (from, to) = (word_of(offset), word_of(copy));
        for index in 0..words {
            self.put(to + index, self.get(from + index));
        }
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

    #[inline(always)]
    pub(crate) fn depth(&self, quarter: usize) -> u8 {
        self.heap.depth(quarter)
    }

    #[inline(always)]
    pub(crate) fn set_depth(&mut self, quarter: usize, depth: u8) {
        self.heap.set_depth(quarter, depth);
    }

    pub(crate) fn copy_depths(&mut self, from: usize, to: usize, count: usize) {
        self.heap.copy_depths(from, to, count);
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

    /// Grows so that `bytes` bytes are free of any use.
    ///
    /// # Errors
    /// [`Full`]; then nothing has changed.
    pub(crate) fn reserve(&mut self, bytes: u64) -> Result<(), Full> {
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

    fn grow_to(&mut self, bytes: u64) -> Result<(), Full> {
        let larger = self.mem.successor(bytes)?;
        for at in 0..self.mem.len() {
            larger.put(at, self.mem.get(at));
        }
        larger.put(AT_BYTES, larger.len() as u64 * 8);
        larger.put(AT_ID, self.mem.get(AT_ID).wrapping_add(1));
        let heap_at = larger.get(AT_HEAP) as usize;
        self.heap.extend(larger.len() - heap_at);
        larger.installed();
        self.outgrown.push(core::mem::replace(&mut self.mem, larger));
        Ok(())
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

/// The 16-bit quarter of the object at which block `offset` begins.
pub(crate) fn quarter_of(offset: u32) -> usize {
    offset as usize * UNIT_WORDS * 4
}
