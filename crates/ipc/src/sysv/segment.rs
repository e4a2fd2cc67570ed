//! System V shared memory.
//!
//! ```
//! use ipc::sysv::{Key, Options, segment::Segment};
//! let segment = Segment::create(Key::Private, 27, &Options::default())?;
//! let writer = segment.attach_write()?;
//! let reader = segment.attach_read()?;
//! segment.remove()?; // takes effect when both are dropped
//! writer.bytes_in(0, b"abc");
//! assert_eq!(reader.to_vec(0, 3), b"abc");
//! assert_eq!(segment.stat()?.attached, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
use core::ptr::NonNull;

use super::{Error, Key, Options, Permissions, failed, ids, limit};
use crate::map::{Map, MapMut};
use crate::{Errno, SystemError, sockopt};

/// Mark in the mode: it is to be destroyed at the last detach (`SHM_DEST`).
pub const DESTROYED: u32 = 0o1000;
/// Mark in the mode: it is locked into memory (`SHM_LOCKED`).
pub const LOCKED: u32 = 0o2000;

/// A segment of this IPC namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    id: i32,
}

/// Every field of `shmid_ds`.
///
/// Source: [shmctl(2)](https://man7.org/linux/man-pages/man2/shmctl.2.html).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Owner and mode.
    pub permissions: Permissions,
    /// Its size in bytes.
    pub size: usize,
    /// Time of the last attach, in seconds since 1970; 0: never.
    pub attach_time: i64,
    /// Time of the last detach; 0: never.
    pub detach_time: i64,
    /// Time of making or of the last change.
    pub change_time: i64,
    /// Who made it.
    pub creator: i32,
    /// Who attached or detached last; 0: nobody.
    pub last: i32,
    /// How many have it attached.
    pub attached: u64,
}

/// The largest segment (`kernel.shmmax`).
#[must_use]
pub fn segment_bytes_max() -> usize {
    limit("/proc/sys/kernel/shmmax", 0)
}

/// How many segments there may be (`kernel.shmmni`).
#[must_use]
pub fn segments_max() -> usize {
    limit("/proc/sys/kernel/shmmni", 0)
}

fn described(key: Key) -> String {
    format!("segment with key {key}")
}

impl Segment {
    /// Makes a segment of `size` bytes (all 0), or takes an existing one of at
    /// least that size unless `exclusive`.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::BadSize`], [`Error::Smaller`],
    /// [`Error::NotPermitted`], [`Error::TooMany`].
    ///
    /// Source: [shmget(2)](https://man7.org/linux/man-pages/man2/shmget.2.html).
    #[doc(alias = "shmget")]
    pub fn create(key: Key, size: usize, options: &Options) -> Result<Self, Error> {
        // SAFETY: three integers.
        let result = sockopt::check(unsafe { libc::shmget(key.raw(), size, options.flags()) });
        let object = || described(key);
        let id = result.map_err(|errno| match errno {
            Errno::INVAL if size == 0 || size > segment_bytes_max() => Error::BadSize {
                object: object(),
                wanted: size,
                limit: segment_bytes_max(),
                limit_name: "kernel.shmmax",
            },
            Errno::INVAL => Error::Smaller { object: object(), wanted: size },
            Errno::NOSPC => Error::TooMany {
                object: object(),
                limit: segments_max(),
                limit_name: "kernel.shmmni (or kernel.shmall)",
            },
            errno => failed("shmget", &object(), errno),
        })?;
        Ok(Self { id })
    }

    /// Finds an existing segment by its key.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotPermitted`].
    ///
    /// Source: [shmget(2)](https://man7.org/linux/man-pages/man2/shmget.2.html).
    #[doc(alias = "shmget")]
    pub fn find(key: Key) -> Result<Self, Error> {
        if key == Key::Private {
            return Err(Error::Missing { object: described(key) });
        }
        // SAFETY: three integers.
        let result = sockopt::check(unsafe { libc::shmget(key.raw(), 0, 0) });
        Ok(Self { id: result.map_err(|errno| failed("shmget", &described(key), errno))? })
    }

    /// The segment of this id; whether there is one shows with the first call.
    #[must_use]
    pub const fn from_id(id: i32) -> Self {
        Self { id }
    }

    /// Its id.
    #[must_use]
    pub const fn id(self) -> i32 {
        self.id
    }

    fn failed(self, call: &'static str, errno: Errno) -> Error {
        failed(call, &format!("segment {}", self.id), errno)
    }

    fn attach(self, flags: i32) -> Result<(NonNull<u8>, usize), Error> {
        // SAFETY: no address is asked for, so nothing that exists is replaced.
        let start = unsafe { libc::shmat(self.id, core::ptr::null(), flags) };
        if start as isize == -1 {
            return Err(self.failed("shmat", sockopt::last_errno()));
        }
        let start = NonNull::new(start.cast()).expect("shmat never returns null");
        // Attached, its id can't be given to another segment, so the size is
        // this one's. Should it not be readable, nothing stays attached.
        match self.stat() {
            Ok(stat) => Ok((start, stat.size)),
            Err(error) => {
                // SAFETY: just attached, used by nobody.
                unsafe { libc::shmdt(start.as_ptr().cast()) };
                Err(error)
            }
        }
    }

    /// Attaches it for reading; dropping the map detaches it.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotPermitted`].
    ///
    /// Source: [shmat(2)](https://man7.org/linux/man-pages/man2/shmop.2.html).
    #[doc(alias = "shmat")]
    #[doc(alias = "shmdt")]
    #[doc(alias = "SHM_RDONLY")]
    pub fn attach_read(self) -> Result<Map, Error> {
        let (start, size) = self.attach(libc::SHM_RDONLY)?;
        // SAFETY: just attached for reading, `size` bytes, ours to detach.
        Ok(unsafe { Map::attached(start, size) })
    }

    /// Attaches it for reading and writing; dropping the map detaches it.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotPermitted`].
    ///
    /// Source: [shmat(2)](https://man7.org/linux/man-pages/man2/shmop.2.html).
    #[doc(alias = "shmat")]
    #[doc(alias = "shmdt")]
    pub fn attach_write(self) -> Result<MapMut, Error> {
        let (start, size) = self.attach(0)?;
        // SAFETY: just attached for writing, `size` bytes, ours to detach.
        Ok(unsafe { MapMut::attached(start, size) })
    }

    fn control(self, command: i32, data: &mut libc::shmid_ds) -> Result<(), Error> {
        // SAFETY: a live shmid_ds, which the command fills, reads or ignores.
        sockopt::check(unsafe { libc::shmctl(self.id, command, data) })
            .map_err(|errno| self.failed("shmctl", errno))?;
        Ok(())
    }

    fn raw_stat(self) -> Result<libc::shmid_ds, Error> {
        // SAFETY: integers only: all-zero is valid.
        let mut data = unsafe { core::mem::zeroed() };
        self.control(libc::IPC_STAT, &mut data)?;
        Ok(data)
    }

    /// Everything that the kernel tells about it.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotPermitted`].
    #[doc(alias = "IPC_STAT")]
    #[doc(alias = "shmid_ds")]
    pub fn stat(self) -> Result<Stat, Error> {
        let raw = self.raw_stat()?;
        Ok(Stat {
            permissions: Permissions::from(&raw.shm_perm),
            size: raw.shm_segsz,
            attach_time: raw.shm_atime,
            detach_time: raw.shm_dtime,
            change_time: raw.shm_ctime,
            creator: raw.shm_cpid,
            last: raw.shm_lpid,
            attached: raw.shm_nattch,
        })
    }

    /// Sets its mode.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] for who is neither owner nor creator.
    #[doc(alias = "IPC_SET")]
    pub fn set_mode(self, mode: u32) -> Result<(), Error> {
        let mut data = self.raw_stat()?;
        data.shm_perm.mode = (mode & 0o777) as _;
        self.control(libc::IPC_SET, &mut data)
    }

    /// Removes it: its key is free at once, the memory goes with the last
    /// detach. Returns how many still have it attached.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotPermitted`].
    #[doc(alias = "IPC_RMID")]
    pub fn remove(self) -> Result<u64, Error> {
        // SAFETY: integers only: all-zero is valid.
        let mut data = unsafe { core::mem::zeroed() };
        self.control(libc::IPC_RMID, &mut data)?;
        match self.stat() {
            Ok(stat) => Ok(stat.attached),
            Err(Error::Missing { .. } | Error::Removed { .. }) => Ok(0),
            // It was there and isn't readable: removed all the same.
            Err(Error::NotPermitted { .. }) => Ok(0),
            Err(Error::System(SystemError { .. })) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// All segments of this IPC namespace.
///
/// # Errors
/// If /proc can't be read.
pub fn list() -> Result<Vec<Segment>, Error> {
    Ok(ids("shm")?.into_iter().map(Segment::from_id).collect())
}
