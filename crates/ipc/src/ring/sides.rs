//! The two sides of a ring: each holds its lock, moves its position, waits for the other.
#![allow(unsafe_code)] // the locks, which rustix lacks

use core::sync::atomic::Ordering;
use core::time::Duration;
use std::os::fd::{AsFd, AsRawFd};

use super::algorithm::{End, Ended, Memory, Reading, Side, Sided, Sound, Writing};
use super::memory::{Shared, Stop};
use super::message_bytes_max;
use super::{AT_DATA, AT_FINISHED, Error, Framing, Header, MESSAGE_HEAD, at_pid, header, lock_of};
use crate::map::MapMut;
use crate::shm::{Access, Object};
use crate::timer::{Deadline, Wait};
use crate::{Errno, SystemError, barrier, sockopt};

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
        let Some(room) = self.0.wait(wanted, wait)? else { return Err(self.0.damaged()) };
        let position = self.0.end.position();
        let memory = &self.0.end.memory;
        memory.put_message(position, message, room);
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
