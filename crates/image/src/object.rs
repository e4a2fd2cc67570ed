//! The memory object: made by the writer, mapped by it, sealed, and handed out
//! as a read-only descriptor.
//!
//! Allocated in full, so that no reader's fault in a hole grows it; sealed
//! SHRINK, GROW, FUTURE_WRITE, SEAL after the writer mapped it, mode 0444. What
//! readers get is a second, read-only open of it, so nothing that they do to
//! the descriptor touches the writer's.
//!
//! The writer holds a lock on its own open description. The kernel drops it
//! when the writer ends, however it ends: that is how a reader tells, by one
//! call on its own descriptor, that nobody writes any more.
#![allow(unsafe_code)] // fcntl with a struct flock: open-file-description locks have no wrapper
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use ipc::map::MapMut;
use ipc::{Errno, SystemError, memfd};

use crate::layout::AT_WAKE;
use crate::store::{Full, Memory};
use crate::words::{Words, WordsMut, WriteWords};

/// The name in /proc/PID/maps.
const NAME: &str = "rtm-image";

/// A memory object and its writer's mapping.
#[derive(Debug)]
pub struct Object {
    words: WriteWords,
    /// Holds the lock.
    _writer: OwnedFd,
    reader: OwnedFd,
}

/// Why there is no object.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CreateError {
    /// The memory.
    Memory(memfd::Error),
    /// The map.
    Map(ipc::map::Error),
    /// Something else.
    System(SystemError),
}

impl core::fmt::Display for CreateError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            CreateError::Memory(error) => error.fmt(f),
            CreateError::Map(error) => error.fmt(f),
            CreateError::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CreateError {}

impl From<memfd::Error> for CreateError {
    fn from(error: memfd::Error) -> CreateError {
        CreateError::Memory(error)
    }
}

impl From<ipc::map::Error> for CreateError {
    fn from(error: ipc::map::Error) -> CreateError {
        CreateError::Map(error)
    }
}

impl From<SystemError> for CreateError {
    fn from(error: SystemError) -> CreateError {
        CreateError::System(error)
    }
}

impl Object {
    /// An object of `bytes` bytes.
    ///
    /// # Errors
    /// [`CreateError`]: mostly that there is not so much memory.
    pub fn create(bytes: u64) -> Result<Object, CreateError> {
        let writer = memfd::create_full(NAME, bytes)?;
        let map = MapMut::of(&writer, bytes as usize)?;
        // While the mode still lets us: a description of its own, for reading.
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let reader = rustix::fs::open(&path, flags, rustix::fs::Mode::empty())
            .map_err(|errno| SystemError::new("open", &path, errno))?;
        lock(&writer)?;
        memfd::seal_for_readers(&writer)?;
        Ok(Object { words: WriteWords::new(map), _writer: writer, reader })
    }

    /// The descriptor for readers: read-only, of a description that the writer
    /// doesn't use.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl Words for Object {
    #[inline(always)]
    fn len(&self) -> usize {
        self.words.len()
    }

    #[inline(always)]
    fn load(&self, at: usize, order: core::sync::atomic::Ordering) -> u64 {
        self.words.load(at, order)
    }

    #[inline(always)]
    fn fence(&self, order: core::sync::atomic::Ordering) {
        self.words.fence(order);
    }
}

impl WordsMut for Object {
    #[inline(always)]
    fn store(&self, at: usize, value: u64, order: core::sync::atomic::Ordering) {
        self.words.store(at, value, order);
    }
}

impl Memory for Object {
    fn successor(&self, bytes: u64) -> Result<Object, Full> {
        Object::create(bytes).map_err(|error| Full::System { bytes, why: error.to_string() })
    }

    fn wake(&self) {
        let map = self.words.map();
        map.fetch_add_u32(AT_WAKE * 8, 1, core::sync::atomic::Ordering::Release);
        // It can only fail for an address that isn't mapped.
        let _ = ipc::futex::wake(map, AT_WAKE * 8, u32::MAX);
    }
}

fn whole(kind: libc::c_int) -> libc::flock {
    // SAFETY: a C struct of integers, for which zeros are valid.
    let mut lock: libc::flock = unsafe { core::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

fn lock(fd: &OwnedFd) -> Result<(), SystemError> {
    let lock = whole(libc::F_WRLCK);
    // SAFETY: a valid descriptor and a pointer to a flock that outlives the call.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } < 0 {
        return Err(SystemError::new("fcntl(F_OFD_SETLK)", NAME, last_errno()));
    }
    Ok(())
}

/// Does somebody hold the writer's lock?
pub(crate) fn is_locked(fd: impl AsFd) -> Result<bool, SystemError> {
    let mut lock = whole(libc::F_RDLCK);
    // SAFETY: as above; the kernel writes into `lock`.
    if unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) } < 0 {
        return Err(SystemError::new("fcntl(F_OFD_GETLK)", NAME, last_errno()));
    }
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

fn last_errno() -> Errno {
    let error = std::io::Error::last_os_error();
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
