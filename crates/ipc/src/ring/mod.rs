//! A ring in shared memory: one writer, one reader, bytes or messages, no
//! system call while neither has to wait.
//!
//! ```
//! use ipc::ring::{self, Framing, Options, Reader, Writer};
//! use ipc::timer::Wait;
//! let name = format!("/ipc-doc-ring-{}", std::process::id());
//! ring::create(&name, &Options { framing: Framing::Messages, ..Options::default() })?;
//! let mut writer = Writer::open(&name)?;
//! let mut reader = Reader::open(&name)?; // here, or in any other process
//! writer.send(b"one", Wait::FOREVER)?;
//! writer.send(b"two", Wait::FOREVER)?;
//! writer.finish();
//! let mut message = Vec::new();
//! while reader.receive(&mut message, Wait::FOREVER)? {
//!     println!("{}", String::from_utf8_lossy(&message));
//! }
//! ring::remove(&name)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Either side may be killed at any moment and come back: it goes on at its
//! position. What [`Writer::write`] or [`Writer::send`] returned for is in the
//! ring and stays there; what the reader has not consumed it reads again. How
//! and why: `algorithm.rs`. Layout of the object, little-endian:
//!
//! ```text
//!     0  magic "IPCRING\x02"        8  framing: 0 bytes, 1 messages
//!    12  fences: 0 full on both sides, 1 light for movers, heavy for sleepers
//!    16  capacity in bytes, a power of two
//!    64  written: u64              72  reader's flag   76  reader's bell
//!    80  finished                  84  writer's pid
//!   128  read: u64                136  writer's flag  140  writer's bell
//!   144  reader's pid
//!  4096  data; a message is its length (u32), four bytes 0, its bytes, and 0 to
//!        7 bytes of padding, so that every message begins at a multiple of 8
//! ```
//!
//! Each side's own words share a cache line that the other only reads. A side
//! is held by a lock on its byte of the file (0 writer, 1 reader), which the
//! kernel gives back with the process. A waker that is killed between taking
//! the sleeper's flag down and waking it would leave it asleep: so a sleeper
//! looks again after [`LOOK_AGAIN`] at the latest. That is no polling: ten looks
//! a second, and only while there is nothing to do.
//!
//! Who moves a position must be seen by who is about to sleep. Where the kernel
//! that the ring is made under has [`crate::barrier`], its header says so; each
//! side registers when it opens the ring, and then a message costs no fence.
#![allow(unsafe_code)] // the locks, which rustix lacks
pub mod algorithm;
mod memory;
#[cfg(test)]
mod model;
mod sides;

use core::time::Duration;
use std::os::fd::{AsFd, AsRawFd};

use self::algorithm::Side;
pub use self::sides::{Reader, Writer};
use crate::error::operation_error;
use crate::shm::{self, Access, Object};
use crate::{barrier, sockopt};

const MAGIC: u64 = u64::from_le_bytes(*b"IPCRING\x02");
const AT_FRAMING: usize = 8;
const AT_FENCES: usize = 12;
const AT_CAPACITY: usize = 16;
const AT_FINISHED: usize = 80;
const AT_DATA: usize = 4096;

/// Where a side's words are: position, its own flag and bell (in the *other's*
/// line, which that one looks at anyway), its pid.
const fn at_position(side: Side) -> usize {
    match side {
        Side::Writer => 64,
        Side::Reader => 128,
    }
}
const fn at_flag(side: Side) -> usize {
    match side {
        Side::Writer => 136,
        Side::Reader => 72,
    }
}
const fn at_pid(side: Side) -> usize {
    match side {
        Side::Writer => 84,
        Side::Reader => 144,
    }
}

/// Smallest capacity: a page.
pub const CAPACITY_MIN: u64 = 4096;
/// Largest capacity: lengths of messages are 32 bits wide.
pub const CAPACITY_MAX: u64 = 1 << 31;
/// Bytes before each message.
pub const MESSAGE_HEAD: usize = 8;
/// How long a sleeper sleeps at most before it looks again by itself.
pub const LOOK_AGAIN: Duration = Duration::from_millis(100);

operation_error! {
    /// What can go wrong with a ring.
    Error {
        /// The object exists and is no ring, or its words are impossible.
        Damaged {
            /// The name.
            name: String,
            /// What is wrong.
            why: &'static str,
        } => INVAL, "{name}: {why}";
        /// Another process holds this side.
        Taken {
            /// The name.
            name: String,
            /// `writer` or `reader`.
            side: &'static str,
            /// Its process, as it wrote itself down.
            pid: u32,
        } => BUSY, "{name}: process {pid} is its {side} already";
        /// A capacity out of range.
        BadCapacity {
            /// What was asked for.
            wanted: u64,
            /// [`CAPACITY_MAX`].
            limit: u64,
        } => INVAL, "a ring of {wanted} bytes: between 4096 and {limit}";
        /// A message longer than half of the ring.
        TooLong {
            /// The name.
            name: String,
            /// The message's length.
            len: usize,
            /// The longest.
            limit: usize,
        } => MSGSIZE, "{name}: a message of {len} bytes; at most {limit} in a ring of this size";
        /// Bytes were asked of a ring of messages, or the other way round.
        OtherFraming {
            /// The name.
            name: String,
            /// What it is.
            framing: &'static str,
        } => PROTOTYPE, "{name}: is a ring of {framing}";
        /// Full (writer) or empty (reader), and the call didn't wait.
        WouldBlock {
            /// The name.
            name: String,
        } => AGAIN, "{name}: would have to wait";
        /// The time passed.
        TimedOut {
            /// The name.
            name: String,
        } => TIMEDOUT, "{name}: timed out";
        /// A signal handler ran during the wait.
        Interrupted {
            /// The name.
            name: String,
        } => INTR, "{name}: interrupted by a signal";
        /// The object's name or file.
        Object {
            /// Why.
            reason: shm::Error,
        } => INVAL, "{reason}";
    }
}

impl From<shm::Error> for Error {
    fn from(error: shm::Error) -> Self {
        match error {
            shm::Error::System(error) => Self::System(error),
            reason => Self::Object { reason },
        }
    }
}

/// Whether a ring carries bytes or messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A stream of bytes.
    Bytes,
    /// Messages with their boundaries.
    Messages,
}

/// How a ring is made.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes that it holds; rounded up to a power of two.
    pub capacity: u64,
    /// Permission bits.
    pub mode: u32,
    /// What it carries.
    pub framing: Framing,
    /// Whether an existing ring is an error.
    pub exclusive: bool,
}

impl Default for Options {
    /// 64 KiB of bytes, as a pipe has, for the owner alone.
    fn default() -> Self {
        Self { capacity: 65536, mode: 0o600, framing: Framing::Bytes, exclusive: false }
    }
}

/// Makes a ring; an existing one is left as it is, unless `exclusive`. Returns
/// whether it was made.
///
/// # Errors
/// [`Error::BadCapacity`], [`Error::Object`] (name, exists, permission).
pub fn create(name: &str, options: &Options) -> Result<bool, Error> {
    if !(CAPACITY_MIN..=CAPACITY_MAX).contains(&options.capacity) {
        return Err(Error::BadCapacity { wanted: options.capacity, limit: CAPACITY_MAX });
    }
    let capacity = options.capacity.next_power_of_two();
    let object = Object::create_with(
        name,
        &shm::Options {
            size: AT_DATA as u64 + capacity,
            mode: options.mode,
            exclusive: options.exclusive,
        },
        |object| {
            let framing = match options.framing {
                Framing::Bytes => 0_u32,
                Framing::Messages => 1,
            };
            let fences = u32::from(barrier::available());
            object.write(AT_FRAMING as u64, &framing.to_le_bytes())?;
            object.write(AT_FENCES as u64, &fences.to_le_bytes())?;
            object.write(AT_CAPACITY as u64, &capacity.to_le_bytes())?;
            object.write(0, &MAGIC.to_le_bytes())
        },
    )?;
    Ok(object.was_created())
}

/// Removes the name; who has the ring open goes on.
///
/// # Errors
/// [`Error::Object`].
pub fn remove(name: &str) -> Result<(), Error> {
    Ok(shm::remove(name)?)
}

/// The longest message in a ring of this capacity: half of it, less the head.
#[must_use]
pub const fn message_bytes_max(capacity: u64) -> usize {
    (capacity / 2) as usize - MESSAGE_HEAD
}

/// A ring, looked at from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Bytes that it can hold.
    pub capacity: u64,
    /// What it carries.
    pub framing: Framing,
    /// Bytes put in since it was made.
    pub written: u64,
    /// Bytes consumed since it was made.
    pub read: u64,
    /// Whether the writer has said that nothing follows.
    pub finished: bool,
    /// The process that holds the writing side.
    pub writer: Option<u32>,
    /// The process that holds the reading side.
    pub reader: Option<u32>,
}

/// Looks at a ring without taking part.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Object`].
pub fn stat(name: &str) -> Result<Stat, Error> {
    let object = Object::open(name, Access::Read)?;
    let Header { framing, capacity, .. } = header(&object)?;
    let mut head = [0; 160];
    object.read(0, &mut head)?;
    let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
    let double = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
    let holder = |side| {
        let mut lock = lock_of(side, libc::F_RDLCK);
        // SAFETY: a live flock, which the call fills.
        let result = sockopt::check(unsafe {
            libc::fcntl(object.as_fd().as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock)
        });
        let held = result.is_ok() && i32::from(lock.l_type) != libc::F_UNLCK;
        held.then(|| word(at_pid(side)))
    };
    Ok(Stat {
        capacity,
        framing,
        written: double(at_position(Side::Writer)),
        read: double(at_position(Side::Reader)),
        finished: word(AT_FINISHED) != 0,
        writer: holder(Side::Writer),
        reader: holder(Side::Reader),
    })
}

/// What the header says.
struct Header {
    framing: Framing,
    capacity: u64,
    asymmetric: bool,
}

/// What the header says, checked.
fn header(object: &Object) -> Result<Header, Error> {
    let name = || object.name().to_owned();
    let mut words = [0; 24];
    let damaged = |why| Error::Damaged { name: name(), why };
    if object.read(0, &mut words)? < words.len() {
        return Err(damaged("is no ring"));
    }
    let word = |at: usize| u64::from_le_bytes(words[at..at + 8].try_into().expect("8 bytes"));
    if word(0) != MAGIC {
        return Err(damaged("is no ring"));
    }
    // Framing in the lower half, fences in the upper.
    let (framing, asymmetric) = match word(AT_FRAMING) {
        0 => (Framing::Bytes, false),
        1 => (Framing::Messages, false),
        0x1_0000_0000 => (Framing::Bytes, true),
        0x1_0000_0001 => (Framing::Messages, true),
        _ => return Err(damaged("is a ring of a kind that this version doesn't know")),
    };
    let capacity = word(AT_CAPACITY);
    if !capacity.is_power_of_two() || !(CAPACITY_MIN..=CAPACITY_MAX).contains(&capacity) {
        return Err(damaged("has an impossible capacity in its header"));
    }
    if object.size()? != AT_DATA as u64 + capacity {
        return Err(damaged("has another size than its header says"));
    }
    Ok(Header { framing, capacity, asymmetric })
}

fn lock_of(side: Side, kind: i32) -> libc::flock {
    // SAFETY: integers only: all-zero is valid.
    let mut lock: libc::flock = unsafe { core::mem::zeroed() };
    lock.l_type = kind as _;
    lock.l_whence = libc::SEEK_SET as _;
    lock.l_start = match side {
        Side::Writer => 0,
        Side::Reader => 1,
    };
    lock.l_len = 1;
    lock
}
