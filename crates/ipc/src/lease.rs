//! Whether anybody else has a file open or mapped: asked of the kernel, which
//! gives a write lease only to the one and only holder. So it is known without
//! seeing the other processes (another user's, another container's).
//!
//! ```
//! use ipc::lease::Lease;
//! let directory = tempfile::tempdir()?;
//! let path = directory.path().join("x");
//! std::fs::write(&path, "x")?;
//! let ours = std::fs::File::open(&path)?;
//! let lease = Lease::take(&ours)?.expect("nobody else has it");
//! drop(lease);
//! let theirs = std::fs::File::open(&path)?;
//! assert!(Lease::take(&ours)?.is_none());
//! # drop(theirs);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! While a lease is held, an `open` of the file by another waits (45 seconds at
//! most, `/proc/sys/fs/lease-break-time`), so hold it for a moment only: for a
//! removal that must meet nobody.
#![allow(unsafe_code)] // fcntl with F_SETLEASE, which rustix lacks
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::signal::{Signal, SignalSet};
use crate::{Errno, SystemError, signal, sockopt};

/// A write lease: nobody else has the file open. Given back when dropped.
#[derive(Debug)]
pub struct Lease<'fd>(BorrowedFd<'fd>);

impl<'fd> Lease<'fd> {
    /// Takes it, if `file` is the only open file description of its inode; none
    /// if there are others (a map counts as one).
    ///
    /// An opener who comes meanwhile is announced by SIGIO; this blocks it for
    /// the calling thread, for good.
    ///
    /// # Errors
    /// EACCES: the file belongs to another user and CAP_LEASE is missing;
    /// EINVAL: the file system gives no leases.
    ///
    /// Source: [fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html), leases.
    #[doc(alias = "F_SETLEASE")]
    pub fn take(file: &'fd impl AsFd) -> Result<Option<Self>, SystemError> {
        let fd = file.as_fd();
        signal::block(&SignalSet::of(&[Signal::IO]));
        // SAFETY: a lease is set on a descriptor that is open; no memory is touched.
        match sockopt::check(unsafe {
            libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK)
        }) {
            Ok(_) => Ok(Some(Self(fd))),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(SystemError::new("fcntl(F_SETLEASE)", "file", errno)),
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // SAFETY: as above. It can't fail for a lease that is held, and nothing
        // could be done about it: closing the file ends it, too.
        unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
    }
}
