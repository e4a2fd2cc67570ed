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
//!   woken --> poll --> Records, Flushed ...      the image shows them already
//!                  --> Reread                    some are missing here: lapped, a
//!                                                large load, another daemon
//! ```
//!
//! Why nothing is missed: a place is taken at the ring's end *before* the tables
//! are read, and what is written is in the tables before it is in the ring.

use std::time::Duration;

use rtm_image::{Lapped, Reader, RingReader};
use rtm_tables::wire::records::Records;
use rtm_tables::wire::{DaemonFrame, Frame};
use rtm_tables::{Flush, Revision};

/// The largest frame that can be in the ring.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// What the ring says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RingEvent<'a> {
    /// Changes, in order, whole transactions.
    Records(Records<'a>),
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
    buffer: Vec<u8>,
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
            buffer: Vec::new(),
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

    /// Tells what came since.
    pub fn poll(&mut self, tell: &mut dyn FnMut(RingEvent<'_>)) {
        if std::mem::take(&mut self.reread) {
            tell(RingEvent::Reread);
        }
        self.buffer.clear();
        let whole = match self.ring.read(&mut self.buffer) {
            Ok(0) => return,
            Ok(_) => tell_frames(&self.buffer, tell),
            Err(Lapped) => {
                self.laps += 1;
                false
            }
        };
        if !whole {
            self.ring.to_end();
            tell(RingEvent::Reread);
        }
        if self.buffer.capacity() > FRAME_BYTES_MAX {
            self.buffer = Vec::new();
        }
    }

    /// Sleeps until there is something to poll, or the writer says or does
    /// something else; at most 100 ms, and less for no reason. True: there is.
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

/// False: these are no frames of the ring.
fn tell_frames(bytes: &[u8], tell: &mut dyn FnMut(RingEvent<'_>)) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        let Ok((records, behind)) = Records::first(rest, FRAME_BYTES_MAX) else { return false };
        if !records.as_bytes().is_empty() {
            tell(RingEvent::Records(records));
            rest = behind;
            continue;
        }
        let Ok(Some((frame, length))) = Frame::split(rest, FRAME_BYTES_MAX) else { return false };
        match DaemonFrame::decode(&frame) {
            Ok(Some(DaemonFrame::Flush { revision, what })) => {
                tell(RingEvent::Flushed { revision, what });
            }
            Ok(Some(DaemonFrame::Begin { .. })) => tell(RingEvent::Reread),
            Ok(Some(DaemonFrame::End { .. })) | Ok(None) => {}
            _ => return false,
        }
        rest = &rest[length..];
    }
    true
}
