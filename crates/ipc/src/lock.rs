//! One owner at a time: a lock file with the owner's process id in it.
//!
//! ```
//! use ipc::lock::{self, LockFile};
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("daemon.lock");
//! let lock = LockFile::acquire(&path)?;
//! match LockFile::acquire(&path) {
//!     Err(lock::Error::Held { pid, .. }) => assert_eq!(pid, Some(rustix::process::getpid())),
//!     other => panic!("{other:?}"),
//! }
//! drop(lock);
//! assert!(lock::holder(&path)?.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The kernel releases the lock when its holder ends, however that happens; the
//! file itself stays, so that no two processes ever lock two files of one name.
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::process::Pid;

use crate::error::operation_error;
use crate::{Errno, SystemError};

operation_error! {
    /// Why the lock was not taken.
    Error {
        /// Another process holds it.
        Held {
            /// The path.
            path: PathBuf,
            /// The holder, as it wrote itself down (none: not written yet).
            pid: Option<Pid>,
        } => AGAIN, "{}: held by {}", path.display(), match pid {
            Some(pid) => format!("process {}", pid.as_raw_nonzero()),
            None => "another process".to_owned(),
        };
        /// The name is a symbolic link or no regular file: not our lock.
        NotAFile {
            /// The path.
            path: PathBuf,
        } => LOOP, "{}: is no regular file", path.display();
    }
}

/// How often a lock that is held is tried again, a millisecond apart: somebody
/// who only looks ([`holder`]) holds it shared for a moment.
const TRIES: u32 = 5;

/// Longest text of a pid.
const PID_BYTES_MAX: usize = 16;

/// The held lock. Dropping it, or the end of the process, releases it.
#[derive(Debug)]
pub struct LockFile {
    fd: OwnedFd,
    path: PathBuf,
}

impl LockFile {
    /// Takes the lock without waiting, makes the file (0600) if it is missing,
    /// and writes this process's id into it.
    ///
    /// # Errors
    /// [`Error::Held`], [`Error::NotAFile`], or the system's.
    ///
    /// Source: [flock(2)](https://man7.org/linux/man-pages/man2/flock.2.html).
    #[doc(alias = "flock")]
    pub fn acquire(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let failed = |call| move |errno| SystemError::new(call, path.display(), errno);
        let mut tries = TRIES;
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE;
            let fd = open(path, flags)?;
            match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    tries -= 1;
                    if tries == 0 {
                        return Err(Error::Held { path: path.to_owned(), pid: read_pid(&fd) });
                    }
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                Err(errno) => return Err(failed("flock")(errno).into()),
            }
            // Somebody may have removed or replaced the file between our open
            // and our lock: then we hold a lock that nobody else will look at.
            let ours = rustix::fs::fstat(&fd).map_err(failed("fstat"))?;
            match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(named) if (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino) => {}
                _ => continue,
            }
            let text = format!("{}\n", std::process::id());
            rustix::fs::ftruncate(&fd, 0).map_err(failed("ftruncate"))?;
            rustix::io::pwrite(&fd, text.as_bytes(), 0).map_err(failed("write"))?;
            return Ok(Self { fd, path: path.to_owned() });
        }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for LockFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Nobody must be named as the holder of a free lock. A failure changes
        // nothing for the lock itself.
        let _ = rustix::fs::ftruncate(&self.fd, 0);
    }
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Error> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd =
        rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| match errno {
            Errno::LOOP | Errno::ISDIR | Errno::NXIO => Error::NotAFile { path: path.to_owned() },
            errno => SystemError::new("open", path.display(), errno).into(),
        })?;
    let stat =
        rustix::fs::fstat(&fd).map_err(|errno| SystemError::new("fstat", path.display(), errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    Ok(fd)
}

fn read_pid(fd: &OwnedFd) -> Option<Pid> {
    let mut text = [0; PID_BYTES_MAX];
    let len = rustix::io::pread(fd, &mut text, 0).ok()?;
    let text = core::str::from_utf8(&text[..len]).ok()?;
    text.trim().parse().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw)
}

/// Who holds the lock at `path`: none if nobody does (or there is no such
/// file), else the pid that is written there, if one is.
///
/// # Errors
/// [`Error::NotAFile`], or the system's.
#[doc(alias = "flock")]
pub fn holder(path: impl AsRef<Path>) -> Result<Option<Option<Pid>>, Error> {
    let path = path.as_ref();
    let fd = match open(path, OFlags::RDONLY) {
        Ok(fd) => fd,
        Err(error) if error.errno() == Errno::NOENT => return Ok(None),
        Err(error) => return Err(error),
    };
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(Errno::AGAIN) => Ok(Some(read_pid(&fd))),
        Err(errno) => Err(SystemError::new("flock", path.display(), errno).into()),
    }
}
