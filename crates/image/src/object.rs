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
use core::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use ipc::map::MapMut;
use ipc::{Errno, SystemError, memfd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::layout::AT_WAKE;
use crate::store::{Full, Memory};
use crate::words::{Words, WordsMut, WriteWords};

/// The name in /proc/PID/maps.
const NAME: &str = "rtm-image";

/// Where POSIX names are files: shm_overview(7).
const NAMES: &str = "/dev/shm";

/// The stack of the thread that frees an object: it makes two system calls.
const FREEING_STACK_BYTES: usize = 64 << 10;

/// A memory object and its writer's mapping.
#[derive(Debug)]
pub struct Object {
    words: WriteWords,
    /// Holds the lock.
    writer: OwnedFd,
    reader: OwnedFd,
    /// The POSIX name that it gets once it can be read.
    name: Option<String>,
    /// It gets it only when it is told to.
    withheld: Cell<bool>,
}

/// Why there is no object.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CreateError {
    /// The memory.
    Memory(memfd::Error),
    /// The map.
    Map(ipc::map::Error),
    /// The control group's limit leaves less.
    Headroom {
        /// The bytes that were wanted.
        bytes: u64,
        /// The bytes that are left.
        left: u64,
    },
    /// Something else.
    System(SystemError),
}

impl core::fmt::Display for CreateError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            CreateError::Memory(error) => error.fmt(f),
            CreateError::Map(error) => error.fmt(f),
            CreateError::Headroom { bytes, left } => write!(
                f,
                "{bytes} bytes: the control group has {left} left; a larger memory limit of the group would be right"
            ),
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
    /// An object of `bytes` bytes, allocated in full and sealed.
    ///
    /// # Errors
    /// [`CreateError`]: mostly that there is not so much memory.
    pub fn create(bytes: u64) -> Result<Object, CreateError> {
        Object::begin(bytes)?.complete(bytes)
    }

    /// An object that gets the POSIX name `name` (as `/rtm-image`) once there is
    /// something to read in it, in place of the one that has it now.
    ///
    /// Nothing keeps its owner or root from shortening it, or from writing into
    /// it: a file of a tmpfs that has a name can't be sealed against them.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create_named(name: &str, bytes: u64) -> Result<Object, CreateError> {
        Object::begin_named(name, bytes)?.complete(bytes)
    }

    /// It and what it grows into don't get the name before [`Object::publish`].
    #[must_use]
    pub fn withheld(self) -> Object {
        self.withheld.set(true);
        self
    }

    /// It gets its name now, in place of the one that has it.
    ///
    /// # Errors
    /// The system's.
    pub fn publish(&self) -> Result<(), SystemError> {
        self.withheld.set(false);
        let Some(name) = &self.name else { return Ok(()) };
        self.take_name(name).map_err(|errno| SystemError::new("rename", name, errno))
    }

    fn complete(self, bytes: u64) -> Result<Object, CreateError> {
        self.fill(0, bytes)?;
        Ok(self)
    }

    /// One that is sealed at once, and not allocated: what is within its size
    /// can still be allocated. (Who may look into our /proc/self/fd, root, would
    /// otherwise find one to map for writing as long as it is being filled.)
    fn begin(bytes: u64) -> Result<Object, CreateError> {
        check_headroom(bytes)?;
        let writer = memfd::create_empty(NAME, bytes)?;
        let object = Object::of(writer, bytes, None)?;
        memfd::seal_for_readers(&object.writer)?;
        Ok(object)
    }

    fn begin_named(name: &str, bytes: u64) -> Result<Object, CreateError> {
        check_headroom(bytes)?;
        let failed = |call: &'static str| {
            move |errno| CreateError::System(SystemError::new(call, name, errno))
        };
        // Without a name until it can be read; gone with us if that never comes.
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o444);
        let writer = rustix::fs::open(NAMES, flags, mode).map_err(failed("open(O_TMPFILE)"))?;
        rustix::fs::ftruncate(&writer, bytes).map_err(failed("ftruncate"))?;
        rustix::fs::fchmod(&writer, mode).map_err(failed("fchmod"))?;
        Object::of(writer, bytes, Some(name.to_owned()))
    }

    fn of(writer: OwnedFd, bytes: u64, name: Option<String>) -> Result<Object, CreateError> {
        let map = MapMut::of(&writer, bytes as usize)?;
        // A description of its own, for reading.
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let reader = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|errno| SystemError::new("open", &path, errno))?;
        lock(&writer)?;
        let withheld = Cell::new(false);
        Ok(Object { words: WriteWords::new(map), writer, reader, name, withheld })
    }

    /// Allocates a part.
    fn fill(&self, from: u64, bytes: u64) -> Result<(), CreateError> {
        Ok(memfd::allocate(&self.writer, NAME, from, bytes)?)
    }

    /// Gives the name to this object, by one rename: there is no moment in which
    /// nobody has it.
    fn take_name(&self, name: &str) -> Result<(), Errno> {
        let spare = path_of(&format!("{name}.new"));
        let _ = rustix::fs::unlink(&spare);
        let path = format!("/proc/self/fd/{}", self.writer.as_raw_fd());
        rustix::fs::linkat(CWD, &path, CWD, &spare, AtFlags::SYMLINK_FOLLOW)?;
        rustix::fs::rename(&spare, path_of(name))
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

    #[inline(always)]
    fn row<const COUNT: usize>(&self, at: usize) -> [u64; COUNT] {
        self.words.row(at)
    }

    #[inline(always)]
    fn prefetch(&self, at: usize) {
        self.words.prefetch(at);
    }
}

impl WordsMut for Object {
    #[inline(always)]
    fn store(&self, at: usize, value: u64, order: core::sync::atomic::Ordering) {
        self.words.store(at, value, order);
    }

    #[inline(always)]
    fn copy(&self, from: usize, to: usize, count: usize) {
        self.words.copy(from, to, count);
    }

    fn copy_to(&self, other: &Object, at: usize, count: usize) {
        self.words.copy_to(&other.words, at, count);
    }
}

impl Memory for Object {
    fn successor(&self, bytes: u64) -> Result<Object, Full> {
        match &self.name {
            None => Object::begin(bytes),
            Some(name) => Object::begin_named(name, bytes).inspect(|object| {
                object.withheld.set(self.withheld.get());
            }),
        }
        .map_err(|error| Full::System { bytes, why: error.to_string() })
    }

    fn allocate(&self, from: u64, bytes: u64) -> Result<(), Full> {
        // Others of the group may have taken since what there was at the beginning.
        check_headroom(bytes)
            .and_then(|()| self.fill(from, bytes))
            .map_err(|error| Full::System { bytes, why: error.to_string() })
    }

    fn unload(&self, from: u64, bytes: u64) {
        self.words.map().unload(from as usize, bytes as usize);
    }

    fn give_back(self) {
        // The last one that has it pays for its pages. Without a thread, who calls.
        let freeing = std::thread::Builder::new().name("image-free".to_owned());
        drop(freeing.stack_size(FREEING_STACK_BYTES).spawn(move || drop(self)));
    }

    fn installed(&self) {
        if let (Some(name), false) = (&self.name, self.withheld.get()) {
            // Who looks for the name finds the object before, which says that it
            // moved, or none: nothing here can do better.
            let _ = self.take_name(name);
        }
    }

    fn wake(&self) -> usize {
        let map = self.words.map();
        map.fetch_add_u32(AT_WAKE * 8, 1, core::sync::atomic::Ordering::Release);
        // It can only fail for an address that isn't mapped.
        ipc::futex::wake(map, AT_WAKE * 8, u32::MAX).unwrap_or(0)
    }
}

fn path_of(name: &str) -> PathBuf {
    PathBuf::from(format!("{NAMES}/{}", name.trim_start_matches('/')))
}

/// Takes a published name away, whoever published it; says whether there was
/// one.
///
/// # Errors
/// The system's.
pub fn remove_name(name: &str) -> Result<bool, SystemError> {
    let _ = rustix::fs::unlink(path_of(&format!("{name}.new")));
    match rustix::fs::unlink(path_of(name)) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(SystemError::new("shm_unlink", name, errno)),
    }
}

/// The descriptor behind a published name, for [`crate::Reader::attach`].
///
/// # Errors
/// The system's; ENOENT: nobody published it.
pub fn open_name(name: &str) -> Result<OwnedFd, SystemError> {
    rustix::fs::open(path_of(name), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| SystemError::new("shm_open", name, errno))
}

/// Is there room for so many bytes in the control group, and some to spare?
fn check_headroom(bytes: u64) -> Result<(), CreateError> {
    /// What the daemon itself may need meanwhile.
    const SPARE_BYTES: u64 = 4 << 20;
    match ipc::cgroup::memory_headroom() {
        Some(left) if left < bytes + SPARE_BYTES => Err(CreateError::Headroom { bytes, left }),
        _ => Ok(()),
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
