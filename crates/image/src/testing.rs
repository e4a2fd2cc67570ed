//! What the unit tests share: memory on the heap, a generator of numbers.
use core::cell::RefCell;
use core::sync::atomic::Ordering;

use crate::layout::{AT_HEAP, HEADER_WORDS};
use crate::store::{Full, Memory, Store};
use crate::words::{Words, WordsMut};

/// Memory of this process alone.
pub(crate) struct Private(RefCell<Vec<u64>>);

impl Words for Private {
    fn len(&self) -> usize {
        self.0.borrow().len()
    }

    fn load(&self, at: usize, _: Ordering) -> u64 {
        self.0.borrow().get(at).copied().unwrap_or(0)
    }

    fn fence(&self, _: Ordering) {}
}

impl WordsMut for Private {
    fn store(&self, at: usize, value: u64, _: Ordering) {
        self.0.borrow_mut()[at] = value;
    }
}

impl Memory for Private {
    fn successor(&self, bytes: u64) -> Result<Private, Full> {
        Ok(Private(RefCell::new(vec![0; bytes as usize / 8])))
    }
}

/// A store of `bytes` bytes that may grow to 64 times as much.
pub(crate) fn store(bytes: usize) -> Store<Private> {
    let memory = Private(RefCell::new(vec![0; bytes / 8]));
    memory.put(AT_HEAP, HEADER_WORDS as u64);
    Store::new(memory, HEADER_WORDS, bytes as u64 * 64)
}

/// A linear congruential generator, its upper bits.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ self.0 >> 29
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }
}
