//! System V semaphore sets: several values changed together, undone when their
//! changer dies.
//!
//! ```
//! use ipc::sysv::{Key, Options, set::{Change, Set}};
//! use ipc::timer::Wait;
//! let set = Set::create(Key::Private, 2, &Options::default())?;
//! set.set_value(0, 1)?;
//! // Take number 0 and add to number 1: both or nothing.
//! set.change(&[Change::by(0, -1), Change::by(1, 1)], Wait::No)?;
//! assert_eq!(set.values()?, [0, 1]);
//! assert!(set.change(&[Change::by(0, -1)], Wait::No).is_err());
//! set.remove()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
use super::{Error, Key, Options, Permissions, failed, ids, limit};
use crate::timer::{self, Wait};
use crate::{Errno, sockopt};

/// The highest value (`SEMVMX`).
pub const VALUE_MAX: u32 = 32767;

/// A set of this IPC namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set {
    id: i32,
}

/// One change of one semaphore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Which of the set, from 0.
    pub number: u16,
    /// What to add; below 0: to take, waiting until so much is there; 0: wait
    /// until it is 0.
    pub by: i16,
    /// Whether the kernel takes it back when this process ends.
    pub undo: bool,
}

impl Change {
    /// A lasting change.
    #[must_use]
    pub const fn by(number: u16, by: i16) -> Self {
        Self { number, by, undo: false }
    }

    /// The same, taken back when this process ends.
    #[doc(alias = "SEM_UNDO")]
    #[must_use]
    pub const fn undone_at_exit(self) -> Self {
        Self { undo: true, ..self }
    }
}

/// Every field of `semid_ds`.
///
/// Source: [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Owner and mode.
    pub permissions: Permissions,
    /// Time of the last change of a value by an operation; 0: never.
    pub operation_time: i64,
    /// Time of making or of the last change.
    pub change_time: i64,
    /// How many semaphores it has.
    pub count: usize,
}

/// One semaphore of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Semaphore {
    /// Its value.
    pub value: u32,
    /// How many wait for it to grow.
    pub waiting: u32,
    /// How many wait for it to become 0.
    pub waiting_for_zero: u32,
    /// Who changed it last; 0: nobody.
    pub last: i32,
}

/// How many semaphores a set may have (`SEMMSL`).
#[must_use]
pub fn set_size_max() -> usize {
    limit("/proc/sys/kernel/sem", 0)
}

/// How many sets there may be (`SEMMNI`).
#[must_use]
pub fn sets_max() -> usize {
    limit("/proc/sys/kernel/sem", 3)
}

fn described(key: Key) -> String {
    format!("semaphore set with key {key}")
}

impl Set {
    /// Makes a set of `count` semaphores, all 0, or takes an existing one of at
    /// least that many unless `exclusive`.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::BadSize`], [`Error::Smaller`],
    /// [`Error::NotPermitted`], [`Error::TooMany`].
    ///
    /// Source: [semget(2)](https://man7.org/linux/man-pages/man2/semget.2.html).
    #[doc(alias = "semget")]
    pub fn create(key: Key, count: usize, options: &Options) -> Result<Self, Error> {
        let object = || described(key);
        let bad_size = || Error::BadSize {
            object: object(),
            wanted: count,
            limit: set_size_max(),
            limit_name: "SEMMSL of kernel.sem",
        };
        if count == 0 {
            return Err(bad_size());
        }
        let raw_count = i32::try_from(count).map_err(|_| bad_size())?;
        // SAFETY: three integers.
        let result = sockopt::check(unsafe { libc::semget(key.raw(), raw_count, options.flags()) });
        let id = result.map_err(|errno| match errno {
            Errno::INVAL if count > set_size_max() => bad_size(),
            Errno::INVAL => Error::Smaller { object: object(), wanted: count },
            Errno::NOSPC => Error::TooMany {
                object: object(),
                limit: sets_max(),
                limit_name: "SEMMNI (or SEMMNS) of kernel.sem",
            },
            errno => failed("semget", &object(), errno),
        })?;
        Ok(Self { id })
    }

    /// Finds an existing set by its key.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotPermitted`].
    ///
    /// Source: [semget(2)](https://man7.org/linux/man-pages/man2/semget.2.html).
    #[doc(alias = "semget")]
    pub fn find(key: Key) -> Result<Self, Error> {
        if key == Key::Private {
            return Err(Error::Missing { object: described(key) });
        }
        // SAFETY: three integers.
        let result = sockopt::check(unsafe { libc::semget(key.raw(), 0, 0) });
        Ok(Self { id: result.map_err(|errno| failed("semget", &described(key), errno))? })
    }

    /// The set of this id; whether there is one shows with the first call.
    #[must_use]
    pub const fn from_id(id: i32) -> Self {
        Self { id }
    }

    /// Its id.
    #[must_use]
    pub const fn id(self) -> i32 {
        self.id
    }

    fn name(self) -> String {
        format!("semaphore set {}", self.id)
    }

    fn failed(self, call: &'static str, errno: Errno) -> Error {
        failed(call, &self.name(), errno)
    }

    /// Makes all the changes at once, or waits until that is possible.
    ///
    /// # Errors
    /// [`Error::WouldBlock`], [`Error::TimedOut`], [`Error::Removed`],
    /// [`Error::Interrupted`], [`Error::NoSuchNumber`], [`Error::TooHigh`].
    ///
    /// Source: [semtimedop(2)](https://man7.org/linux/man-pages/man2/semop.2.html).
    #[doc(alias = "semop")]
    #[doc(alias = "semtimedop")]
    pub fn change(self, changes: &[Change], wait: Wait) -> Result<(), Error> {
        let (flag, timeout) = match wait {
            Wait::No => (libc::IPC_NOWAIT, None),
            Wait::Until(deadline) => (0, deadline.left()),
        };
        let mut raw: Vec<libc::sembuf> = changes
            .iter()
            .map(|change| libc::sembuf {
                sem_num: change.number,
                sem_op: change.by,
                sem_flg: (flag | if change.undo { libc::SEM_UNDO } else { 0 }) as i16,
            })
            .collect();
        let timeout = timeout
            .map(timer::timespec)
            .map(|t| libc::timespec { tv_sec: t.tv_sec, tv_nsec: t.tv_nsec });
        let limit = timeout.as_ref().map_or(core::ptr::null(), |t| &raw const *t);
        // SAFETY: pointer and length describe `raw`; the time is null or lives
        // as long as the call.
        let result = unsafe {
            libc::syscall(libc::SYS_semtimedop, self.id, raw.as_mut_ptr(), raw.len(), limit)
        };
        sockopt::check(result as libc::c_int).map_err(|errno| match errno {
            Errno::AGAIN if matches!(wait, Wait::Until(_)) => {
                Error::TimedOut { object: self.name() }
            }
            Errno::FBIG => {
                let number = changes.iter().map(|c| c.number).max().unwrap_or(0);
                Error::NoSuchNumber { object: self.name(), number }
            }
            Errno::RANGE => Error::TooHigh { object: self.name(), limit: VALUE_MAX },
            errno => self.failed("semtimedop", errno),
        })?;
        Ok(())
    }

    fn control(self, number: u16, command: i32, argument: usize) -> Result<i32, Error> {
        // SAFETY: the commands used here take an integer, nothing, or a
        // pointer to a live object of the caller's; semun is one word.
        let result = unsafe { libc::semctl(self.id, number.into(), command, argument) };
        sockopt::check(result).map_err(|errno| match errno {
            Errno::INVAL if number != 0 => Error::NoSuchNumber { object: self.name(), number },
            Errno::RANGE => Error::TooHigh { object: self.name(), limit: VALUE_MAX },
            errno => self.failed("semctl", errno),
        })
    }

    /// Sets one value; what was to be undone for it is forgotten.
    ///
    /// # Errors
    /// [`Error::NoSuchNumber`], [`Error::TooHigh`], [`Error::NotPermitted`].
    #[doc(alias = "SETVAL")]
    pub fn set_value(self, number: u16, value: u32) -> Result<(), Error> {
        if value > VALUE_MAX {
            return Err(Error::TooHigh { object: self.name(), limit: VALUE_MAX });
        }
        self.control(number, libc::SETVAL, value as usize).map(|_| ())
    }

    /// All values.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotPermitted`].
    #[doc(alias = "GETALL")]
    pub fn values(self) -> Result<Vec<u32>, Error> {
        let mut raw = vec![0_u16; self.stat()?.count];
        // The count of an id never changes.
        self.control(0, libc::GETALL, raw.as_mut_ptr() as usize)?;
        Ok(raw.into_iter().map(u32::from).collect())
    }

    /// One semaphore's value, waiters and last process.
    ///
    /// # Errors
    /// [`Error::NoSuchNumber`], [`Error::NotPermitted`].
    #[doc(alias = "GETVAL")]
    #[doc(alias = "GETNCNT")]
    #[doc(alias = "GETZCNT")]
    #[doc(alias = "GETPID")]
    pub fn semaphore(self, number: u16) -> Result<Semaphore, Error> {
        Ok(Semaphore {
            value: self.control(number, libc::GETVAL, 0)?.max(0) as u32,
            waiting: self.control(number, libc::GETNCNT, 0)?.max(0) as u32,
            waiting_for_zero: self.control(number, libc::GETZCNT, 0)?.max(0) as u32,
            last: self.control(number, libc::GETPID, 0)?,
        })
    }

    fn raw_stat(self) -> Result<libc::semid_ds, Error> {
        // SAFETY: integers only: all-zero is valid.
        let mut data: libc::semid_ds = unsafe { core::mem::zeroed() };
        self.control(0, libc::IPC_STAT, (&raw mut data) as usize)?;
        Ok(data)
    }

    /// Everything that the kernel tells about the set.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotPermitted`].
    #[doc(alias = "IPC_STAT")]
    #[doc(alias = "semid_ds")]
    pub fn stat(self) -> Result<Stat, Error> {
        let raw = self.raw_stat()?;
        Ok(Stat {
            permissions: Permissions::from(&raw.sem_perm),
            operation_time: raw.sem_otime,
            change_time: raw.sem_ctime,
            count: raw.sem_nsems as usize,
        })
    }

    /// Sets its mode.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] for who is neither owner nor creator.
    #[doc(alias = "IPC_SET")]
    pub fn set_mode(self, mode: u32) -> Result<(), Error> {
        let mut data = self.raw_stat()?;
        data.sem_perm.mode = (mode & 0o777) as _;
        self.control(0, libc::IPC_SET, (&raw mut data) as usize).map(|_| ())
    }

    /// Removes it at once; who waits on it is told.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotPermitted`].
    #[doc(alias = "IPC_RMID")]
    pub fn remove(self) -> Result<(), Error> {
        self.control(0, libc::IPC_RMID, 0).map(|_| ())
    }
}

/// All sets of this IPC namespace.
///
/// # Errors
/// If /proc can't be read.
pub fn list() -> Result<Vec<Set>, Error> {
    Ok(ids("sem")?.into_iter().map(Set::from_id).collect())
}
