//! POSIX semaphores: named ones, and ones that live in shared memory.
//!
//! ```
//! use ipc::{map::MapMut, sem::{self, Named, Options, Shared}, timer::Wait};
//! let name = format!("/ipc-doc-{}", std::process::id());
//! let door = Named::create(&name, &Options { value: 1, ..Options::default() })?;
//! door.wait(Wait::FOREVER)?;
//! assert!(matches!(door.wait(Wait::No), Err(sem::Error::WouldBlock { .. })));
//! door.post()?;
//! sem::remove(&name)?;
//!
//! let fd = ipc::memfd::create_full("segment", 4096)?;
//! let segment = MapMut::of(&fd, 4096)?;
//! let slots = Shared::init(&segment, 64, 3)?; // at offset 64, three free
//! slots.wait(Wait::No)?;
//! assert_eq!(slots.value()?, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Both are the C library's own, so that programs in C take part. A named one is
//! a file `/dev/shm/sem.NAME` of one `sem_t`.
#![allow(unsafe_code)] // sem_* are the C library's alone
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use std::ffi::CString;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat};

use crate::error::operation_error;
use crate::map::{Map, MapMut};
use crate::timer::Wait;
use crate::{Errno, SystemError, name, shm, sockopt};

/// Longest name without the slash: the file's has `sem.` before it.
pub const NAME_BYTES_MAX: usize = 251;

/// The highest value (`SEM_VALUE_MAX`).
pub const VALUE_MAX: u32 = i32::MAX as u32;

/// Bytes of a semaphore in shared memory, and its alignment there.
pub const SHARED_BYTES: usize = size_of::<libc::sem_t>();
const _: () = assert!(align_of::<libc::sem_t>() <= 8);

operation_error! {
    /// What can go wrong with a semaphore.
    Error {
        /// The name breaks a rule.
        BadName {
            /// The name.
            name: String,
            /// Which rule.
            why: String,
        } => INVAL, "{name}: no name for a semaphore: {why}";
        /// It exists, and was to be made anew.
        Exists {
            /// The name.
            name: String,
        } => EXIST, "{name}: exists already";
        /// There is no such semaphore.
        Missing {
            /// The name.
            name: String,
        } => NOENT, "{name}: no such semaphore";
        /// Its mode forbids it (waiting and posting both need to write).
        NotPermitted {
            /// The name.
            name: String,
        } => ACCESS, "{name}: permission denied";
        /// It is 0, and the call didn't wait.
        WouldBlock {
            /// The name.
            name: String,
        } => AGAIN, "{name}: is 0";
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
        /// A value beyond the highest.
        TooHigh {
            /// The name.
            name: String,
            /// [`VALUE_MAX`].
            limit: u32,
        } => OVERFLOW, "{name}: a semaphore's value is at most {limit}";
    }
}

fn failed(call: &'static str, name: &str, errno: Errno) -> Error {
    let owned = name.to_owned();
    match errno {
        Errno::EXIST => Error::Exists { name: owned },
        Errno::NOENT => Error::Missing { name: owned },
        Errno::ACCESS | Errno::PERM => Error::NotPermitted { name: owned },
        Errno::AGAIN => Error::WouldBlock { name: owned },
        Errno::TIMEDOUT => Error::TimedOut { name: owned },
        Errno::INTR => Error::Interrupted { name: owned },
        Errno::OVERFLOW => Error::TooHigh { name: owned, limit: VALUE_MAX },
        errno => SystemError::new(call, name, errno).into(),
    }
}

/// How a named semaphore is made.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Its first value.
    pub value: u32,
    /// Permission bits, exactly, whatever the umask.
    pub mode: u32,
    /// Whether an existing one is an error. If not, it is opened as it is.
    pub exclusive: bool,
}

impl Default for Options {
    /// Value 1, for the owner alone, an existing one taken as it is.
    fn default() -> Self {
        Self { value: 1, mode: 0o600, exclusive: false }
    }
}

fn post(sem: NonNull<libc::sem_t>, name: &str) -> Result<(), Error> {
    // SAFETY: callers hold a semaphore that is mapped and initialised.
    sockopt::check(unsafe { libc::sem_post(sem.as_ptr()) })
        .map_err(|errno| failed("sem_post", name, errno))?;
    Ok(())
}

fn wait(sem: NonNull<libc::sem_t>, name: &str, how: Wait) -> Result<(), Error> {
    let (call, result) = match (how, how.absolute()) {
        // SAFETY: as in `post`.
        (Wait::No, _) => ("sem_trywait", unsafe { libc::sem_trywait(sem.as_ptr()) }),
        // SAFETY: as in `post`.
        (_, None) => ("sem_wait", unsafe { libc::sem_wait(sem.as_ptr()) }),
        (_, Some(until)) => {
            // SAFETY: as in `post`; the time lives as long as the call.
            ("sem_timedwait", unsafe { libc::sem_timedwait(sem.as_ptr(), &until) })
        }
    };
    sockopt::check(result).map_err(|errno| failed(call, name, errno))?;
    Ok(())
}

fn value(sem: NonNull<libc::sem_t>, name: &str) -> Result<u32, Error> {
    let mut value = 0;
    // SAFETY: as in `post`, and a live integer.
    sockopt::check(unsafe { libc::sem_getvalue(sem.as_ptr(), &mut value) })
        .map_err(|errno| failed("sem_getvalue", name, errno))?;
    Ok(value.max(0) as u32)
}

/// An open named semaphore.
#[derive(Debug)]
pub struct Named {
    sem: NonNull<libc::sem_t>,
    name: String,
}

// SAFETY: the functions of a semaphore may be called from any thread.
unsafe impl Send for Named {}
// SAFETY: as above, also at the same time.
unsafe impl Sync for Named {}

fn parse(name: &str) -> Result<CString, Error> {
    name::parse(name, NAME_BYTES_MAX).map_err(|why| Error::BadName { name: name.to_owned(), why })
}

fn path_of(name: &str) -> String {
    format!("{}/sem.{}", shm::DIRECTORY, &name[1..])
}

impl Named {
    /// Makes a semaphore and opens it.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Exists`], [`Error::NotPermitted`],
    /// [`Error::TooHigh`].
    ///
    /// Source: [sem_open(3)](https://man7.org/linux/man-pages/man3/sem_open.3.html).
    #[doc(alias = "sem_open")]
    pub fn create(name: &str, options: &Options) -> Result<Self, Error> {
        let c_name = parse(name)?;
        if options.value > VALUE_MAX {
            return Err(Error::TooHigh { name: name.to_owned(), limit: VALUE_MAX });
        }
        let mode: libc::mode_t = options.mode & 0o777;
        loop {
            // SAFETY: a C string and integers; the C library makes the file
            // whole before it gives it its name.
            let sem = unsafe {
                libc::sem_open(c_name.as_ptr(), libc::O_CREAT | libc::O_EXCL, mode, options.value)
            };
            match Self::opened(sem, name) {
                Ok(named) => {
                    // The umask has taken bits away: put them back.
                    let mode = Mode::from_raw_mode(mode);
                    let path = path_of(name);
                    if let Err(errno) = rustix::fs::chmodat(CWD, path, mode, AtFlags::empty()) {
                        let _ = remove(name);
                        return Err(failed("chmod", name, errno));
                    }
                    return Ok(named);
                }
                Err(Error::Exists { .. }) if !options.exclusive => match Self::open(name) {
                    Err(Error::Missing { .. }) => {} // removed in between
                    other => return other,
                },
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens an existing semaphore.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Missing`], [`Error::NotPermitted`]; EINVAL
    /// for a file that is no semaphore.
    ///
    /// Source: [sem_open(3)](https://man7.org/linux/man-pages/man3/sem_open.3.html).
    #[doc(alias = "sem_open")]
    pub fn open(name: &str) -> Result<Self, Error> {
        let c_name = parse(name)?;
        // A file that is too short would kill whoever touches its map.
        let stat = rustix::fs::statat(CWD, path_of(name), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| failed("stat", name, errno))?;
        if (stat.st_size as usize) < SHARED_BYTES {
            return Err(failed("sem_open", name, Errno::INVAL));
        }
        // SAFETY: a C string and an integer.
        Self::opened(unsafe { libc::sem_open(c_name.as_ptr(), 0) }, name)
    }

    fn opened(sem: *mut libc::sem_t, name: &str) -> Result<Self, Error> {
        let sem = NonNull::new(sem).filter(|sem| sem.as_ptr() != libc::SEM_FAILED);
        match sem {
            Some(sem) => Ok(Self { sem, name: name.to_owned() }),
            None => Err(failed("sem_open", name, sockopt::last_errno())),
        }
    }

    /// Adds one and lets one of those who wait go on.
    ///
    /// # Errors
    /// [`Error::TooHigh`].
    ///
    /// Source: [sem_post(3)](https://man7.org/linux/man-pages/man3/sem_post.3.html).
    #[doc(alias = "sem_post")]
    pub fn post(&self) -> Result<(), Error> {
        post(self.sem, &self.name)
    }

    /// Takes one, or waits until one is there.
    ///
    /// # Errors
    /// [`Error::WouldBlock`], [`Error::TimedOut`], [`Error::Interrupted`].
    ///
    /// Source: [sem_wait(3)](https://man7.org/linux/man-pages/man3/sem_wait.3.html).
    #[doc(alias = "sem_wait")]
    #[doc(alias = "sem_trywait")]
    #[doc(alias = "sem_timedwait")]
    pub fn wait(&self, how: Wait) -> Result<(), Error> {
        wait(self.sem, &self.name, how)
    }

    /// Its value at this moment.
    ///
    /// # Errors
    /// None in practice.
    ///
    /// Source: [sem_getvalue(3)](https://man7.org/linux/man-pages/man3/sem_getvalue.3.html).
    #[doc(alias = "sem_getvalue")]
    pub fn value(&self) -> Result<u32, Error> {
        value(self.sem, &self.name)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        // SAFETY: opened by sem_open; nobody uses it after the drop. (The C
        // library counts, so that a second `Named` of the same name lives on.)
        unsafe { libc::sem_close(self.sem.as_ptr()) };
    }
}

/// Removes the name; the semaphore lives on for those who have it open.
///
/// # Errors
/// [`Error::BadName`], [`Error::Missing`], [`Error::NotPermitted`].
///
/// Source: [sem_unlink(3)](https://man7.org/linux/man-pages/man3/sem_unlink.3.html).
#[doc(alias = "sem_unlink")]
pub fn remove(name: &str) -> Result<(), Error> {
    let c_name = parse(name)?;
    // SAFETY: a C string.
    sockopt::check(unsafe { libc::sem_unlink(c_name.as_ptr()) })
        .map_err(|errno| failed("sem_unlink", name, errno))?;
    Ok(())
}

/// What can be seen of a named semaphore without the right to wait or post.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its name, with the slash.
    pub name: String,
    /// Its file: mode, owner, times.
    pub metadata: Stat,
    /// Its value, if it may be read.
    pub value: Option<u32>,
    /// How many wait, if it may be read (glibc's layout on 64-bit systems:
    /// value and waiters in one word).
    pub waiters: Option<u32>,
}

fn look(name: &str) -> Result<Listed, Errno> {
    let path = path_of(name);
    let metadata = rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut words = [0; 8];
    let read = rustix::fs::open(&path, flags, Mode::empty())
        .and_then(|fd| rustix::io::pread(fd, &mut words, 0));
    let known =
        cfg!(all(target_env = "gnu", target_pointer_width = "64", target_endian = "little"))
            && read == Ok(8)
            && metadata.st_size as usize == SHARED_BYTES;
    let word = |n: usize| u32::from_le_bytes(words[n..n + 4].try_into().expect("four bytes"));
    Ok(Listed {
        name: name.to_owned(),
        metadata,
        value: known.then(|| word(0)),
        waiters: known.then(|| word(4)),
    })
}

/// Looks at a named semaphore without taking part.
///
/// # Errors
/// [`Error::BadName`], [`Error::Missing`], [`Error::NotPermitted`].
pub fn stat(name: &str) -> Result<Listed, Error> {
    parse(name)?;
    look(name).map_err(|errno| failed("stat", name, errno))
}

/// All named semaphores, by name.
///
/// # Errors
/// The directory's.
pub fn list() -> Result<Vec<Listed>, Error> {
    let failed = |call| move |errno| SystemError::new(call, shm::DIRECTORY, errno);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory =
        rustix::fs::open(shm::DIRECTORY, flags, Mode::empty()).map_err(failed("open"))?;
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(&directory).map_err(failed("getdents"))? {
        let entry = entry.map_err(failed("getdents"))?;
        let file = entry.file_name().to_string_lossy();
        let Some(name) = file.strip_prefix("sem.") else { continue };
        // One that is removed meanwhile is left out.
        if let Ok(listed) = look(&format!("/{name}")) {
            found.push(listed);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// A semaphore inside a shared map, shared between processes.
#[derive(Debug)]
pub struct Shared<'map> {
    sem: NonNull<libc::sem_t>,
    _map: PhantomData<&'map MapMut>,
}

// SAFETY: the functions of a semaphore may be called from any thread.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above, also at the same time.
unsafe impl Sync for Shared<'_> {}

fn place(map: &Map, offset: usize) -> NonNull<libc::sem_t> {
    // The first and the last word are in range and aligned, or this panics.
    let _ = map.load_u64(offset, Ordering::Relaxed);
    let _ = map.load_u64(offset + SHARED_BYTES - 8, Ordering::Relaxed);
    let start = map.as_ptr().cast_mut();
    // SAFETY: in range, checked above.
    let start = unsafe { start.add(offset) };
    NonNull::new(start).expect("a map doesn't begin at 0").cast()
}

impl<'map> Shared<'map> {
    /// Makes one with `value` at `offset` (a multiple of 8, [`SHARED_BYTES`]
    /// bytes; panics if that is not in the map). Nobody may use it yet.
    ///
    /// # Errors
    /// [`Error::TooHigh`].
    ///
    /// Source: [sem_init(3)](https://man7.org/linux/man-pages/man3/sem_init.3.html).
    #[doc(alias = "sem_init")]
    pub fn init(map: &'map MapMut, offset: usize, value: u32) -> Result<Self, Error> {
        let sem = place(map, offset);
        if value > VALUE_MAX {
            return Err(Error::TooHigh { name: "semaphore".to_owned(), limit: VALUE_MAX });
        }
        // SAFETY: `sem` points to enough writable, aligned bytes that stay
        // mapped for `'map`.
        sockopt::check(unsafe { libc::sem_init(sem.as_ptr(), 1, value) })
            .map_err(|errno| failed("sem_init", "semaphore", errno))?;
        Ok(Self { sem, _map: PhantomData })
    }

    /// The one that somebody has made at `offset`. (Any bytes are a semaphore
    /// of some value: a wrong offset gives nonsense, nothing worse.)
    #[must_use]
    pub fn at(map: &'map MapMut, offset: usize) -> Self {
        Self { sem: place(map, offset), _map: PhantomData }
    }

    /// Adds one and lets one of those who wait go on.
    ///
    /// # Errors
    /// [`Error::TooHigh`].
    ///
    /// Source: [sem_post(3)](https://man7.org/linux/man-pages/man3/sem_post.3.html).
    #[doc(alias = "sem_post")]
    pub fn post(&self) -> Result<(), Error> {
        post(self.sem, "semaphore")
    }

    /// Takes one, or waits until one is there.
    ///
    /// # Errors
    /// [`Error::WouldBlock`], [`Error::TimedOut`], [`Error::Interrupted`].
    ///
    /// Source: [sem_wait(3)](https://man7.org/linux/man-pages/man3/sem_wait.3.html).
    #[doc(alias = "sem_wait")]
    pub fn wait(&self, how: Wait) -> Result<(), Error> {
        wait(self.sem, "semaphore", how)
    }

    /// Its value at this moment.
    ///
    /// # Errors
    /// None in practice.
    #[doc(alias = "sem_getvalue")]
    pub fn value(&self) -> Result<u32, Error> {
        value(self.sem, "semaphore")
    }
}
