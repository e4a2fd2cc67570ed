//! A session's own output buffer, and what it gives to be written.
//!
//! Most of what a session sends it sends out of shared memory. Its own buffer
//! holds answers, greetings, the rest of a frame of which the socket took only
//! a part, and what a walk of its own encodes. It is bounded, and allocated
//! only while there is something in it.
//!
//! A descriptor goes with the first byte of its frame, so that byte must be the
//! first of a write: what stands before it is written by itself.

use std::io::IoSlice;

use crate::wire::records::RECORD_BYTES_MAX;

/// Kept free for what must always find room: the end of an answer, a mark that
/// asks, a goodbye.
pub(super) const CONTROL_BYTES: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    /// How many of them are sent.
    sent: usize,
    /// Where the frame begins that a descriptor is to go with.
    attached: Option<usize>,
    limit: usize,
}

impl Output {
    pub(super) fn new(limit: usize) -> Output {
        // Below this not even the largest record would fit.
        Output { bytes: Vec::new(), sent: 0, attached: None, limit: limit.max(16 << 10) }
    }

    /// What waits to be sent.
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// What is to be written next: all that waits, or what stands before a frame
    /// that a descriptor goes with. `true`: the descriptor goes with its first
    /// byte.
    pub(super) fn next_part(&self) -> (&[u8], bool) {
        match self.attached {
            Some(at) if at > self.sent => (&self.bytes[self.sent..at], false),
            attached => (self.pending(), attached.is_some()),
        }
    }

    /// Is a descriptor still to go?
    pub(super) fn has_descriptor(&self) -> bool {
        self.attached.is_some()
    }

    /// A descriptor goes with the frame that is appended next.
    pub(super) fn attach(&mut self) {
        debug_assert!(self.attached.is_none(), "one descriptor at a time");
        self.attached = Some(self.bytes.len());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// So many bytes were sent.
    pub(super) fn consume(&mut self, count: usize) {
        if count > 0 && self.attached == Some(self.sent) {
            self.attached = None;
        }
        self.sent += count;
        debug_assert!(
            self.attached.is_none_or(|at| at >= self.sent),
            "a descriptor was passed over"
        );
        if self.is_empty() {
            self.bytes = Vec::new();
            self.sent = 0;
        }
    }

    /// Bytes that may be added, control frames aside.
    pub(super) fn room(&self) -> usize {
        self.limit.saturating_sub(CONTROL_BYTES + self.len())
    }

    /// The buffer, to append at most `count` bytes to. It grows in three steps,
    /// so that a small answer costs little and the largest fill no copies.
    pub(super) fn append(&mut self, count: usize) -> &mut Vec<u8> {
        if self.sent > 0 {
            self.bytes.drain(..self.sent);
            self.attached = self.attached.map(|at| at - self.sent);
            self.sent = 0;
        }
        let wanted = self.bytes.len() + count;
        if self.bytes.capacity() < wanted {
            let steps = [1 << 10, 8 << 10, self.limit];
            let capacity = steps.into_iter().find(|&step| step >= wanted).unwrap_or(wanted);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        &mut self.bytes
    }

    /// The buffer, to be filled by a walk: up to the returned length, and by
    /// one record more.
    pub(super) fn fill(&mut self) -> (&mut Vec<u8>, usize) {
        let limit = self.limit - CONTROL_BYTES - RECORD_BYTES_MAX;
        let count = (self.limit).saturating_sub(self.len());
        (self.append(count), limit)
    }

    /// Is there room for a walk to go on?
    pub(super) fn wants_filling(&self) -> bool {
        self.len() < self.limit - CONTROL_BYTES - RECORD_BYTES_MAX
    }
}

/// The most slices that [`crate::ServerSession::slices`] gives.
pub const SLICES_MAX: usize = 8;

/// What to write next, in order: for one `writev`.
#[derive(Debug)]
pub struct Slices<'a> {
    slices: [IoSlice<'a>; SLICES_MAX],
    pub(super) count: usize,
    pub(super) bytes: usize,
    pub(super) descriptor: bool,
}

impl<'a> Slices<'a> {
    pub(super) fn new() -> Slices<'a> {
        Slices { slices: [IoSlice::new(&[]); SLICES_MAX], count: 0, bytes: 0, descriptor: false }
    }

    /// Does a descriptor go with the first byte: the one of the answer that
    /// [`crate::ServerSession::descriptor`] gave last?
    pub fn carries_descriptor(&self) -> bool {
        self.descriptor
    }

    /// All bytes of all slices.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a slice; false if there is no room for it.
    pub(super) fn push(&mut self, slice: &'a [u8]) -> bool {
        if self.count == SLICES_MAX {
            return false;
        }
        self.slices[self.count] = IoSlice::new(slice);
        self.count += 1;
        self.bytes += slice.len();
        true
    }
}

impl<'a> std::ops::Deref for Slices<'a> {
    type Target = [IoSlice<'a>];

    fn deref(&self) -> &[IoSlice<'a>] {
        &self.slices[..self.count]
    }
}
