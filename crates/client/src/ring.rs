//! Changes out of the image: the ring of the newest records.
//!
//! Who maps the tables and wants to know what changes in them reads the ring,
//! which costs the daemon nothing per reader. It is woken by the futex in the
//! image ([`RingFollower::wait`]), never for longer than 100 ms at a time, since
//! a hostile local process can move waiters away and a killed writer wakes
//! nobody; or, with a loop of its own, by the follower's pipe
//! ([`crate::Follower::wake_pipe`]).
//!
//! ```text
//!   woken --> poll --> Record, Flushed ...       the image shows them already
//!                  --> Reread                    some are missing here: lapped, a
//!                                                large load, another daemon
//! ```
//!
//! Why nothing is missed: a place is taken at the ring's end *before* the tables
//! are read, and what is written is in the tables before it is in the ring.

use std::time::Duration;

use rtm_image::{Lapped, Reader, RingReader};
use rtm_tables::wire::records::{self, WireRecord};
use rtm_tables::wire::{DaemonFrame, Frame};
use rtm_tables::{Flush, Revision};

/// The largest frame that can be in the ring.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// What is copied out of the ring at once, where no frame is longer: it stays in the
/// innermost cache until its records are told. Many followers share a processor, and
/// each has a copy of its own that nobody else reads.
const PIECE_BYTES: usize = 8 << 10;

/// What the ring says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RingEvent<'a> {
    /// A change.
    Record(WireRecord<'a>),
    /// All routes, or all neighbours, are gone.
    Flushed {
        /// The flush's revision.
        revision: Revision,
        /// What is gone.
        what: Flush,
    },
    /// What changed isn't all in the ring: read the tables again.
    Reread,
}

/// A place in the ring, kept over growth.
#[derive(Debug)]
pub struct RingFollower {
    ring: RingReader,
    /// The object's id and size, and the epoch of its tables.
    object: (u64, u64, u64),
    /// The piece that is told.
    piece: Vec<u8>,
    reread: bool,
    laps: u64,
    /// Late waits in the objects before.
    late_before: u64,
}

fn object_of(image: &Reader) -> (u64, u64, u64) {
    let header = image.header();
    let epoch = image.state().map_or(0, |state| state.epoch);
    (header.id, header.bytes, epoch)
}

impl RingFollower {
    /// From here on. What the tables hold is to be read after this.
    pub fn new(image: &Reader) -> RingFollower {
        RingFollower {
            ring: image.ring(),
            object: object_of(image),
            piece: vec![0; PIECE_BYTES],
            reread: false,
            laps: 0,
            late_before: 0,
        }
    }

    /// How often more came than the ring holds.
    pub fn laps(&self) -> u64 {
        self.laps
    }

    /// How many waits only their time ended, though there was something to poll:
    /// somebody kept the wake-up away ([`RingReader::late`]).
    pub fn late(&self) -> u64 {
        self.late_before + self.ring.late()
    }

    /// Is there something to poll? No system call.
    pub fn is_behind(&self) -> bool {
        self.reread || self.ring.is_behind()
    }

    /// The image was attached again: goes on in it where it stood, if that is
    /// the same history.
    pub fn attached(&mut self, image: &Reader) {
        let object = object_of(image);
        self.late_before += self.ring.late();
        // Each object that the tables grew into has the id behind the last one's.
        let grew = object.0.wrapping_sub(self.object.0) < 32 && object.2 == self.object.2;
        if grew {
            self.ring = image.ring_at(self.ring.position());
        } else {
            self.ring = image.ring();
            self.reread = true;
        }
        self.object = object;
    }

    /// Tells what came since, up to what was there when it was called.
    pub fn poll(&mut self, mut tell: impl FnMut(RingEvent<'_>)) {
        if std::mem::take(&mut self.reread) {
            tell(RingEvent::Reread);
        }
        let mut left = self.ring.behind();
        while left > 0 {
            let copied = match self.ring.peek(&mut self.piece) {
                Ok(copied) => copied,
                Err(Lapped) => {
                    self.laps += 1;
                    break;
                }
            };
            let told = match tell_frames(&self.piece[..copied], &mut tell) {
                Told::Whole(0) => break,
                Told::Whole(bytes) => bytes,
                // One frame is longer than the piece, or cut off though all is here.
                Told::Longer(bytes) if bytes > self.piece.len() && bytes as u64 <= left => {
                    self.piece.resize(bytes, 0);
                    continue;
                }
                Told::Longer(_) | Told::Nonsense => break,
            };
            self.ring.advance(told);
            left = left.saturating_sub(told as u64);
        }
        if left > 0 {
            // These are no frames, or they are gone.
            self.ring.to_end();
            tell(RingEvent::Reread);
        }
        if self.piece.len() > PIECE_BYTES {
            self.piece.truncate(PIECE_BYTES);
            self.piece.shrink_to_fit();
        }
    }

    /// Sleeps until there is something to poll, or the writer says or does
    /// something else; at most 100 ms, and less for no reason. True: there is.
    ///
    /// Where the image moved ([`Reader::writer_moved`]) nobody is woken any more: turn
    /// the follower instead, which attaches the newer one.
    ///
    /// # Errors
    /// What the futex says; never for an image of the daemon's.
    pub fn wait(&self, timeout: Duration) -> Result<bool, ipc::SystemError> {
        if self.reread {
            return Ok(true);
        }
        self.ring.wait(timeout)
    }
}

/// What became of a piece.
enum Told {
    /// The frames in the first so many bytes were told; behind them one is cut off, or
    /// nothing is.
    Whole(usize),
    /// Nothing was: the first frame has so many bytes.
    Longer(usize),
    /// These are no frames of the ring.
    Nonsense,
}

/// Goes over a piece once: checks and tells.
fn tell_frames(bytes: &[u8], tell: &mut impl FnMut(RingEvent<'_>)) -> Told {
    let mut rest = bytes;
    loop {
        while let Some((record, behind)) = records::front(rest) {
            tell(RingEvent::Record(record));
            rest = behind;
        }
        let told = bytes.len() - rest.len();
        match other(rest) {
            Ok(Other::Frame(event, length)) => {
                event.into_iter().for_each(&mut *tell);
                rest = &rest[length..];
            }
            Ok(Other::Part(length)) if told == 0 && length > 0 => return Told::Longer(length),
            Ok(Other::Part(_)) => return Told::Whole(told),
            Err(NoFrame) => return Told::Nonsense,
        }
    }
}

/// What is not a record, or not all of one.
enum Other {
    /// A frame of so many bytes, and what it says to followers.
    Frame(Option<RingEvent<'static>>, usize),
    /// Part of one of so many bytes; 0: nothing at all.
    Part(usize),
}

/// What is no frame of the ring.
struct NoFrame;

#[cold]
fn other(bytes: &[u8]) -> Result<Other, NoFrame> {
    let length = Frame::length(bytes, FRAME_BYTES_MAX).or(Err(NoFrame))?;
    let Some((frame, length)) = Frame::split(bytes, FRAME_BYTES_MAX).or(Err(NoFrame))? else {
        return Ok(Other::Part(length.unwrap_or(0)));
    };
    match DaemonFrame::decode(&frame) {
        Ok(Some(DaemonFrame::Flush { revision, what })) => {
            Ok(Other::Frame(Some(RingEvent::Flushed { revision, what }), length))
        }
        Ok(Some(DaemonFrame::Begin { .. })) => Ok(Other::Frame(Some(RingEvent::Reread), length)),
        Ok(Some(DaemonFrame::End { .. }) | None) => Ok(Other::Frame(None, length)),
        _ => Err(NoFrame),
    }
}
