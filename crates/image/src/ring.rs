//! The ring of the newest records: a copy of what the journal has, for
//! followers that read it from the mapping.
//!
//! Positions count words since the image was made; the ring holds the last
//! lap. What it carries is whole frames as `docs/wire.md` draws them (a length
//! first, a multiple of eight bytes); their meaning is not this crate's.
//!
//! The writer announces how far it is going to write, writes, then moves the
//! end. A reader copies up to the end, then looks at the announcement: if that
//! is more than a lap ahead of the position it began at, the copy may be a
//! mixture, the reader was lapped and must read the tables again.
use core::cell::Cell;
use core::time::Duration;

use ipc::futex::Woken;

use crate::layout::{AT_WAKE, RING_END};
use crate::protocol::{Real, ring_copy, ring_observe, ring_publish, ring_write};
use crate::words::{ReadWords, Words, WordsMut};

/// No wait at the futex is longer: a hostile local process can move a waiter
/// to another futex (FUTEX_CMP_REQUEUE works on a read-only mapping), and a
/// killed writer wakes nobody.
pub const WAIT_MAX: Duration = Duration::from_millis(100);

/// The writer's side.
#[derive(Clone, Debug)]
pub(crate) struct RingWriter {
    at: usize,
    words: usize,
    /// Written up to here.
    end: u64,
}

impl RingWriter {
    pub(crate) fn new(at: usize, words: usize) -> RingWriter {
        RingWriter { at, words, end: 0 }
    }

    pub(crate) fn append(&mut self, memory: &impl WordsMut, frames: &[u8]) {
        debug_assert!(frames.len() % 8 == 0, "frames are multiples of eight bytes");
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("chunks of 8"));
        let values = frames.chunks_exact(8).map(word);
        self.end = ring_write::<Real>(memory, (self.at, self.words), self.end, values);
    }

    pub(crate) fn publish(&mut self, memory: &impl WordsMut) {
        ring_publish::<Real>(memory, self.end);
    }

    /// A position from which on everybody who stands in this ring is lapped.
    pub(crate) fn beyond(&self) -> u64 {
        self.end + self.words as u64 + 1
    }

    /// Nothing was written yet: positions begin here.
    pub(crate) fn begin_at(&mut self, memory: &impl WordsMut, position: u64) {
        self.end = ring_write::<Real>(memory, (self.at, self.words), position, [].into_iter());
        self.publish(memory);
    }
}

/// More was written than the ring holds since the reader was here last: it has
/// to read the tables again, then go on from [`RingReader::to_end`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lapped;

impl core::fmt::Display for Lapped {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("more records came than the ring holds; the tables must be read again")
    }
}

impl std::error::Error for Lapped {}

/// One reader's place in the ring.
#[derive(Clone, Debug)]
pub struct RingReader {
    words: ReadWords,
    at: usize,
    count: usize,
    position: u64,
    late: Cell<u64>,
}

impl RingReader {
    pub(crate) fn new(words: ReadWords, at: usize, count: usize) -> RingReader {
        let mut ring = RingReader { words, at, count, position: 0, late: Cell::new(0) };
        ring.to_end();
        ring
    }

    /// The position, in words since the image was made.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn set_position(&mut self, position: u64) {
        self.position = position;
    }

    /// Goes on behind everything that was written so far. Who reads the tables
    /// afterwards misses nothing: each change is in the tables or still to come.
    pub fn to_end(&mut self) {
        self.position = ring_observe::<Real>(&self.words);
    }

    /// How many waits only their time ended, though there was something to read:
    /// somebody kept the wake-up away from us (or, seldom, it came in the same
    /// moment).
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late.get()
    }

    /// Is there anything to read?
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.words.get(RING_END) != self.position
    }

    /// Appends to `frames` what was written since, whole frames; returns how
    /// many bytes. 0: nothing new.
    ///
    /// # Errors
    /// [`Lapped`]; `frames` is as it was.
    pub fn read(&mut self, frames: &mut Vec<u8>) -> Result<usize, Lapped> {
        let before = frames.len();
        let new = self.words.get(RING_END).wrapping_sub(self.position).min(self.count as u64);
        frames.resize(before + 8 * new as usize, 0);
        match self.peek(&mut frames[before..]) {
            Ok(copied) => {
                self.advance(copied);
                frames.truncate(before + copied);
                Ok(copied)
            }
            Err(lapped) => {
                frames.truncate(before);
                Err(lapped)
            }
        }
    }

    /// Copies to `bytes` the beginning of what was written since, as much as there is and
    /// finds room; returns how many bytes. 0: nothing new (or room for no word). The last
    /// frame may be cut off. Where it was read stays its place until [`Self::advance`].
    ///
    /// # Errors
    /// [`Lapped`]; what is in `bytes` means nothing then.
    pub fn peek(&self, bytes: &mut [u8]) -> Result<usize, Lapped> {
        let words = &self.words;
        let most = (bytes.len() / 8) as u64;
        let behind = ring_copy::<Real>(
            words,
            (self.at, self.count),
            self.position,
            most,
            |[first, second]| {
                let (to_first, rest) = bytes.split_at_mut(8 * first.len());
                words.copy_out(first, to_first);
                words.copy_out(second.clone(), &mut rest[..8 * second.len()]);
            },
        );
        behind.map(|behind| 8 * (behind - self.position) as usize).ok_or(Lapped)
    }

    /// Goes on so many bytes further, a multiple of eight: frames that were peeked at.
    pub fn advance(&mut self, bytes: usize) {
        debug_assert!(bytes % 8 == 0, "frames are multiples of eight bytes");
        self.position += bytes as u64 / 8;
    }

    /// How many bytes were written since; more than the ring holds: they are gone.
    #[must_use]
    pub fn behind(&self) -> u64 {
        8 * self.words.get(RING_END).wrapping_sub(self.position)
    }

    /// Sleeps until something can be read or happened to the writer, at most
    /// `timeout` and never longer than [`WAIT_MAX`] long. Returns whether there
    /// is anything to read. Also returns early for no reason: look, and wait again.
    ///
    /// # Errors
    /// What the futex says; never for a valid image.
    pub fn wait(&self, timeout: Duration) -> Result<bool, ipc::SystemError> {
        let map = self.words.map();
        let turn = map.load_u32(AT_WAKE * 8, core::sync::atomic::Ordering::Acquire);
        if self.is_behind() {
            return Ok(true);
        }
        let woken = ipc::futex::wait(map, AT_WAKE * 8, turn, Some(timeout.min(WAIT_MAX)))?;
        let is_behind = self.is_behind();
        if is_behind && woken == Woken::TimedOut {
            self.late.set(self.late.get() + 1);
        }
        Ok(is_behind)
    }
}
