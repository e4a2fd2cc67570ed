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
#![allow(unsafe_code)] // copies into and out of shared memory; the locks, which rustix lacks
pub mod algorithm;
#[cfg(test)]
mod model;

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::os::fd::{AsFd, AsRawFd};

use self::algorithm::{End, Ended, Memory, Reading, Side, Sided, Sound, Writing};
use crate::error::operation_error;
use crate::futex::{self, Woken};
use crate::map::MapMut;
use crate::shm::{self, Access, Object};
use crate::timer::{Deadline, Wait};
use crate::{Errno, SystemError, barrier, sockopt};

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
/// Messages up to here are put in word by word, without a call. Not in vectors:
/// one that loads what the caller has just written in words waits until those
/// stores have reached the cache (a third of the time that sending took).
const SHORT: usize = 128;
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

struct Shared {
    map: MapMut,
    mask: u64,
    /// Movers have the light fence, sleepers the heavy one.
    asymmetric: bool,
    /// How long this call may wait.
    deadline: Deadline,
}

/// Why a sleep in real memory ends early.
#[derive(Debug)]
enum Stop {
    Time,
    Signal,
    System(SystemError),
}

impl Shared {
    /// The double word at `position`: all of it in one place, since messages
    /// begin and the capacity is at a multiple of 8.
    #[inline]
    fn word(&self, position: u64) -> &AtomicU64 {
        let start = AT_DATA + (position & self.mask & !7) as usize;
        // SAFETY: eight bytes of the data area, which the map holds (its length
        // is AT_DATA and the capacity), aligned as the map is and `start`.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(start).cast()) }
    }

    /// The two pieces of the data area that hold `len` bytes from `position`:
    /// where the first begins, its length, the second's.
    #[inline]
    fn pieces(&self, position: u64, len: usize) -> (usize, usize, usize) {
        let start = (position & self.mask) as usize;
        let to_the_end = self.mask as usize + 1 - start;
        if len <= to_the_end {
            return (AT_DATA + start, len, 0);
        }
        let second = len - to_the_end;
        assert!(second <= self.mask as usize + 1, "{len} bytes of a smaller ring");
        (AT_DATA + start, to_the_end, second)
    }

    /// Puts in the message whose head is at `position`.
    #[inline]
    fn put_message(&self, position: u64, message: &[u8]) {
        let len = message.len();
        let at = position + MESSAGE_HEAD as u64;
        self.word(position).store((len as u64).to_le(), Ordering::Relaxed);
        if len > SHORT {
            return self.put(at, message);
        }
        let words = message.chunks_exact(8);
        let rest = words.remainder();
        for (word, n) in words.zip(0..) {
            let value = u64::from_ne_bytes(word.try_into().expect("chunks of 8"));
            self.word(at + 8 * n).store(value, Ordering::Relaxed);
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            for (to, from) in last.iter_mut().zip(rest) {
                *to = *from;
            }
            let value = u64::from_ne_bytes(last);
            self.word(at + (len as u64 & !7)).store(value, Ordering::Relaxed);
        }
    }

    /// Copies out the message of `len` bytes whose head is at `position`, in
    /// place of what `message` is.
    #[inline]
    fn take_message(&self, position: u64, message: &mut Vec<u8>, len: usize) {
        message.clear();
        message.reserve(len);
        let (start, first, second) = self.pieces(position + MESSAGE_HEAD as u64, len);
        let (base, to) = (self.map.as_ptr(), message.as_mut_ptr());
        // SAFETY: both pieces lie in the data area (see `put`, also for who may
        // touch them); together they are the `len` bytes that were reserved.
        unsafe {
            copy(base.add(start), to, first);
            if second > 0 {
                core::ptr::copy_nonoverlapping(base.add(AT_DATA), to.add(first), second);
            }
            message.set_len(len);
        }
    }
}

/// A full fence. On x86-64 the compiler makes `mfence` of one, which takes two
/// to three times as long as a locked instruction; that one is as full a fence
/// for ordinary memory, and it is what the kernel's `smp_mb` and GCC's
/// `atomic_thread_fence` are.
#[inline]
fn full_fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: adds nothing to a word of our own stack, below which nothing is
    // touched; without `nomem` the compiler moves no access across it.
    unsafe {
        core::arch::asm!("lock or dword ptr [rsp], 0", options(nostack));
    }
    #[cfg(not(target_arch = "x86_64"))]
    core::sync::atomic::fence(Ordering::SeqCst);
}

/// Copies; short messages, which are most, without a call.
///
/// # Safety
/// As [`core::ptr::copy_nonoverlapping`].
#[inline]
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's; each piece ends at or before `len`.
    unsafe {
        let piece = |at: usize| core::ptr::copy_nonoverlapping(from.add(at), to.add(at), 16);
        match len {
            16..=32 => {
                piece(0);
                piece(len - 16);
            }
            33..=64 => {
                piece(0);
                piece(16);
                piece(len - 32);
                piece(len - 16);
            }
            _ => core::ptr::copy_nonoverlapping(from, to, len),
        }
    }
}

impl Memory for Shared {
    type Stop = Stop;

    #[inline]
    fn position(&self, of: Side, order: Ordering) -> u64 {
        self.map.load_u64(at_position(of), order)
    }

    #[inline]
    fn set_position(&self, of: Side, to: u64, order: Ordering) {
        self.map.store_u64(at_position(of), to, order);
    }

    #[inline]
    fn flag(&self, of: Side) -> bool {
        self.map.load_u32(at_flag(of), Ordering::Relaxed) != 0
    }

    fn set_flag(&self, of: Side, up: bool) {
        self.map.store_u32(at_flag(of), up.into(), Ordering::Relaxed);
    }

    fn bell(&self, of: Side, order: Ordering) -> u32 {
        self.map.load_u32(at_flag(of) + 4, order)
    }

    fn ring_bell(&self, of: Side, order: Ordering) {
        let bell = at_flag(of) + 4;
        self.map.fetch_add_u32(bell, 1, order);
        // Fails only if somebody has shortened the file, which our next access
        // would not survive either.
        let _ = futex::wake(&self.map, bell, 1);
    }

    fn sleep(&self, of: Side, seen: u32) -> Result<(), Stop> {
        if self.deadline.passed() {
            return Err(Stop::Time);
        }
        let most = self.deadline.left().map_or(LOOK_AGAIN, |left| left.min(LOOK_AGAIN));
        match futex::wait(&self.map, at_flag(of) + 4, seen, Some(most)) {
            Ok(Woken::Interrupted) => Err(Stop::Signal),
            Ok(_) => Ok(()),
            Err(error) => Err(Stop::System(error)),
        }
    }

    fn finished(&self) -> bool {
        self.map.load_u32(AT_FINISHED, Ordering::Acquire) != 0
    }

    #[inline]
    fn fence_to_rouse(&self) {
        if self.asymmetric {
            barrier::light();
        } else {
            full_fence();
        }
    }

    fn fence_to_sleep(&self) {
        if self.asymmetric {
            // Each side registered when it opened the ring, so this can't fail.
            // If a filter forbids it since then, a wake-up may come as late as
            // the next look by ourselves.
            let _ = barrier::heavy();
        }
        full_fence();
    }

    fn put(&self, position: u64, bytes: &[u8]) {
        let (start, first, second) = self.pieces(position, bytes.len());
        let base = self.map.as_mut_ptr();
        // SAFETY: both pieces lie in the data area: the position is masked, the
        // first piece ends at the area's end, the second begins at its start
        // and is not longer than it (`pieces`). The positions give these bytes
        // to the writer alone; a foreign process that breaks that only damages
        // bytes.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), base.add(start), first);
            if second > 0 {
                let rest = bytes.as_ptr().add(first);
                core::ptr::copy_nonoverlapping(rest, base.add(AT_DATA), second);
            }
        }
    }

    fn take(&self, position: u64, bytes: &mut [u8]) {
        let (start, first, second) = self.pieces(position, bytes.len());
        let base = self.map.as_ptr();
        // SAFETY: as in `put`; the positions give these bytes to the reader.
        unsafe {
            core::ptr::copy_nonoverlapping(base.add(start), bytes.as_mut_ptr(), first);
            if second > 0 {
                let rest = bytes.as_mut_ptr().add(first);
                core::ptr::copy_nonoverlapping(base.add(AT_DATA), rest, second);
            }
        }
    }
}

struct Ring<S> {
    end: End<Shared, S, Sound>,
    name: String,
    framing: Framing,
    capacity: u64,
    /// What a message may take with its head; 0 in a ring of bytes.
    framed_max: u64,
    /// Holds the side's lock.
    _object: Object,
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

impl<S: Sided> Ring<S> {
    fn open(name: &str) -> Result<Self, Error> {
        let side = S::SIDE;
        let object = Object::open(name, Access::ReadWrite)?;
        let Header { framing, capacity, asymmetric } = header(&object)?;
        if asymmetric {
            barrier::register()?;
        }
        let mut lock = lock_of(side, libc::F_WRLCK);
        // SAFETY: a live flock, which the call reads.
        let locked = sockopt::check(unsafe {
            libc::fcntl(object.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock)
        });
        let map = MapMut::of(&object, AT_DATA + capacity as usize)
            .map_err(|error| SystemError::new("mmap", name, error.errno()))?;
        match locked {
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::ACCESS) => {
                return Err(Error::Taken {
                    name: name.to_owned(),
                    side: match side {
                        Side::Writer => "writer",
                        Side::Reader => "reader",
                    },
                    pid: map.load_u32(at_pid(side), Ordering::Relaxed),
                });
            }
            Err(errno) => return Err(SystemError::new("fcntl(F_OFD_SETLK)", name, errno).into()),
        }
        map.store_u32(at_pid(side), std::process::id(), Ordering::Relaxed);
        if side == Side::Writer {
            map.store_u32(AT_FINISHED, 0, Ordering::Relaxed);
        }
        let shared =
            Shared { map, mask: capacity - 1, asymmetric, deadline: Deadline::after(None) };
        let end = End::new(shared, capacity)
            .map_err(|_| Error::Damaged { name: name.to_owned(), why: POSITIONS })?;
        // Our predecessor may have died before it could wake the other side.
        end.rouse();
        let framed_max = match framing {
            Framing::Bytes => 0,
            Framing::Messages => capacity / 2,
        };
        Ok(Self { end, name: name.to_owned(), framing, capacity, framed_max, _object: object })
    }

    #[inline]
    fn expect(&self, framing: Framing) -> Result<(), Error> {
        if self.framing == framing {
            return Ok(());
        }
        Err(self.other_framing())
    }

    #[cold]
    fn other_framing(&self) -> Error {
        let framing = match self.framing {
            Framing::Bytes => "bytes",
            Framing::Messages => "messages",
        };
        Error::OtherFraming { name: self.name.clone(), framing }
    }

    /// Why a message of `len` bytes is refused.
    #[cold]
    fn unfit(&self, len: usize) -> Error {
        if self.framing != Framing::Messages {
            return self.other_framing();
        }
        let limit = message_bytes_max(self.capacity);
        Error::TooLong { name: self.name.clone(), len, limit }
    }

    #[cold]
    fn too_long_inside(&self) -> Error {
        let why = "is damaged: a message is longer than what was written";
        Error::Damaged { name: self.name.clone(), why }
    }

    #[cold]
    fn damaged(&self) -> Error {
        Error::Damaged { name: self.name.clone(), why: POSITIONS }
    }

    /// Waits for `wanted` bytes to move over; none: finished.
    #[inline]
    fn wait(&mut self, wanted: u64, wait: Wait) -> Result<Option<u64>, Error> {
        match self.end.poll(wanted) {
            Ok(Some(room)) => Ok(Some(room)),
            Ok(None) => self.wait_asleep(wanted, wait),
            Err(_) => Err(self.damaged()),
        }
    }

    #[cold]
    fn wait_asleep(&mut self, wanted: u64, wait: Wait) -> Result<Option<u64>, Error> {
        self.end.memory.deadline = match wait {
            Wait::No => Deadline::after(Some(Duration::ZERO)),
            Wait::Until(deadline) => deadline,
        };
        let name = || self.name.clone();
        match self.end.wait(wanted) {
            Ok(room) => Ok(Some(room)),
            Err(Ended::Finished) => Ok(None),
            Err(Ended::Damaged) => Err(self.damaged()),
            Err(Ended::Stopped(Stop::System(error))) => Err(error.into()),
            Err(Ended::Stopped(Stop::Signal)) => Err(Error::Interrupted { name: name() }),
            Err(Ended::Stopped(Stop::Time)) => Err(match wait {
                Wait::No => Error::WouldBlock { name: name() },
                Wait::Until(_) => Error::TimedOut { name: name() },
            }),
        }
    }
}

const POSITIONS: &str = "is damaged: its positions are impossible";

/// The space that a message takes in the ring.
const fn framed(len: usize) -> u64 {
    ((MESSAGE_HEAD + len + 7) & !7) as u64
}

/// The writing side.
pub struct Writer(Ring<Writing>);

/// The reading side.
pub struct Reader(Ring<Reading>);

impl core::fmt::Debug for Writer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Writer({} at {})", self.0.name, self.position())
    }
}

impl core::fmt::Debug for Reader {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Reader({} at {})", self.0.name, self.position())
    }
}

impl Writer {
    /// Takes the writing side of a ring, where the last writer left it. A ring
    /// that was finished goes on.
    ///
    /// # Errors
    /// [`Error::Taken`], [`Error::Damaged`], [`Error::Object`].
    #[doc(alias = "F_OFD_SETLK")]
    pub fn open(name: &str) -> Result<Self, Error> {
        Ring::open(name).map(Self)
    }

    /// Bytes put in since the ring was made (messages: with head and padding):
    /// after a crash, where to go on.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.0.end.position()
    }

    /// Puts in as many of the bytes as there is room for, at least one, waiting
    /// for room if there is none; returns how many.
    ///
    /// # Errors
    /// [`Error::WouldBlock`], [`Error::TimedOut`], [`Error::Interrupted`]:
    /// nothing was put in. [`Error::OtherFraming`].
    pub fn write(&mut self, bytes: &[u8], wait: Wait) -> Result<usize, Error> {
        self.0.expect(Framing::Bytes)?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let Some(room) = self.0.wait(1, wait)? else { return Err(self.0.damaged()) };
        let count = bytes.len().min(room as usize);
        self.0.end.memory.put(self.0.end.position(), &bytes[..count]);
        self.0.end.advance(count as u64);
        Ok(count)
    }

    /// Puts in one message, waiting for room.
    ///
    /// # Errors
    /// As [`Self::write`], and [`Error::TooLong`].
    #[inline]
    pub fn send(&mut self, message: &[u8], wait: Wait) -> Result<(), Error> {
        let wanted = framed(message.len());
        if wanted > self.0.framed_max {
            return Err(self.0.unfit(message.len()));
        }
        if self.0.wait(wanted, wait)?.is_none() {
            return Err(self.0.damaged());
        }
        let position = self.0.end.position();
        let memory = &self.0.end.memory;
        memory.put_message(position, message);
        self.0.end.advance(wanted);
        Ok(())
    }

    /// Says that nothing follows: the reader, when it has read the rest, sees
    /// the end. (A writer that merely ends or dies says nothing, and the reader
    /// waits for its return.)
    pub fn finish(self) {
        self.0.end.memory.map.store_u32(AT_FINISHED, 1, Ordering::Release);
        self.0.end.rouse();
    }
}

/// The longest message in a ring of this capacity: half of it, less the head.
#[must_use]
pub const fn message_bytes_max(capacity: u64) -> usize {
    (capacity / 2) as usize - MESSAGE_HEAD
}

impl Reader {
    /// Takes the reading side of a ring, where the last reader left it.
    ///
    /// # Errors
    /// [`Error::Taken`], [`Error::Damaged`], [`Error::Object`].
    #[doc(alias = "F_OFD_SETLK")]
    pub fn open(name: &str) -> Result<Self, Error> {
        Ring::open(name).map(Self)
    }

    /// Bytes consumed since the ring was made (messages: with head and padding).
    #[must_use]
    pub fn position(&self) -> u64 {
        self.0.end.position()
    }

    /// Copies bytes out without consuming them, waiting until one is there;
    /// returns how many, 0 at the end.
    ///
    /// # Errors
    /// [`Error::WouldBlock`], [`Error::TimedOut`], [`Error::Interrupted`],
    /// [`Error::OtherFraming`].
    pub fn peek(&mut self, buffer: &mut [u8], wait: Wait) -> Result<usize, Error> {
        self.0.expect(Framing::Bytes)?;
        if buffer.is_empty() {
            return Ok(0);
        }
        let Some(there) = self.0.wait(1, wait)? else { return Ok(0) };
        let count = buffer.len().min(there as usize);
        self.0.end.memory.take(self.0.end.position(), &mut buffer[..count]);
        Ok(count)
    }

    /// Consumes `count` bytes that [`Self::peek`] has shown: from now on they
    /// are read, whatever happens.
    ///
    /// Panics if that is more than are there.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        let there = self.0.end.poll(count as u64);
        assert!(matches!(there, Ok(Some(_))), "{count} bytes to consume are not there");
        self.0.end.advance(count as u64);
    }

    /// Reads and consumes bytes; returns how many, 0 at the end.
    ///
    /// # Errors
    /// As [`Self::peek`].
    pub fn read(&mut self, buffer: &mut [u8], wait: Wait) -> Result<usize, Error> {
        let count = self.peek(buffer, wait)?;
        self.consume(count);
        Ok(count)
    }

    /// Copies the next message into `message`, in place of what is there, without
    /// consuming it; false at the end (and `message` is as it was).
    ///
    /// # Errors
    /// As [`Self::peek`], and [`Error::Damaged`].
    #[inline]
    pub fn peek_message(&mut self, message: &mut Vec<u8>, wait: Wait) -> Result<bool, Error> {
        self.0.expect(Framing::Messages)?;
        let Some(there) = self.0.wait(MESSAGE_HEAD as u64, wait)? else { return Ok(false) };
        let position = self.0.end.position();
        let memory = &self.0.end.memory;
        let len = u64::from_le(memory.word(position).load(Ordering::Relaxed));
        if len > message_bytes_max(self.0.capacity) as u64 || framed(len as usize) > there {
            return Err(self.0.too_long_inside());
        }
        memory.take_message(position, message, len as usize);
        Ok(true)
    }

    /// Consumes the message that [`Self::peek_message`] has shown.
    ///
    /// Panics if there is none.
    #[inline]
    pub fn consume_message(&mut self, message: &[u8]) {
        self.consume(framed(message.len()) as usize);
    }

    /// Reads and consumes one message; false at the end.
    ///
    /// # Errors
    /// As [`Self::peek_message`].
    #[inline]
    pub fn receive(&mut self, message: &mut Vec<u8>, wait: Wait) -> Result<bool, Error> {
        let there = self.peek_message(message, wait)?;
        if there {
            // It was seen to be there whole.
            self.0.end.advance(framed(message.len()));
        }
        Ok(there)
    }
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
