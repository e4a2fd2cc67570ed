//! A slab in chunks: values under small numbers that come back when freed.
//!
//! A vector that doubles would copy a million entries in one turn and hold
//! them twice meanwhile. Chunks never move: growing allocates one chunk, and
//! the directory of chunks for a million entries is 16 KiB and stays in the
//! cache. Freed numbers are reused last in, first out, so that what was
//! touched last is touched again.

/// Entries in a chunk: 16 KiB of IPv4 routes. Small, so that a small table is.
const CHUNK: usize = 512;

/// A chunk begins on a cache line: an entry whose size divides a line's stands
/// in one line, not across two.
#[derive(Debug)]
#[repr(align(64))]
struct Chunk<T>([T; CHUNK]);

/// Values of one type under `u32` numbers.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Box<Chunk<T>>>,
    free: Vec<u32>,
    /// Numbers from here on were never given out.
    fresh: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { chunks: Vec::new(), free: Vec::new(), fresh: 0 }
    }
}

impl<T: Copy + Default> Slab<T> {
    /// Stores a value; gives its number.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            if self.fresh as usize == self.chunks.len() * CHUNK {
                self.chunks.push(Box::new(Chunk([T::default(); CHUNK])));
            }
            self.fresh += 1;
            self.fresh - 1
        });
        self[at] = value;
        at
    }

    /// Takes a number back. Its value stays readable until it is given out
    /// again: who frees says goodbye first.
    pub(crate) fn remove(&mut self, at: u32) {
        self.free.push(at);
    }

    /// Gives the last chunk back to the allocator, whatever is in it: for a slab
    /// that is being taken down in slices. False: there is none.
    pub(crate) fn pop_chunk(&mut self) -> bool {
        self.free = Vec::new();
        self.fresh = 0;
        self.chunks.pop().is_some()
    }

    /// One more than the highest number that was ever given out: where a scan
    /// in slices ends. A freed number is skipped by what its value says.
    pub(crate) fn end(&self) -> u32 {
        self.fresh
    }

    /// Values held.
    pub(crate) fn len(&self) -> usize {
        self.fresh as usize - self.free.len()
    }

    /// Bytes taken from the allocator.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.len() * size_of::<Chunk<T>>()
            + self.chunks.capacity() * size_of::<usize>()
            + self.free.capacity() * 4
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: u32) -> &T {
        &self.chunks[at as usize / CHUNK].0[at as usize % CHUNK]
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.chunks[at as usize / CHUNK].0[at as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let mut slab = Slab::default();
        let numbers: Vec<u32> = (0..2000_u64).map(|value| slab.insert(value)).collect();
        assert_eq!(numbers, (0..2000).collect::<Vec<u32>>());
        assert!(numbers.iter().all(|&at| slab[at] == u64::from(at)));
        slab.remove(7);
        slab.remove(1999);
        assert_eq!((slab.insert(1), slab.insert(2), slab.insert(3)), (1999, 7, 2000));
        assert_eq!((slab.len(), slab.end()), (2001, 2001));
    }
}
