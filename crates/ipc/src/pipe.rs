//! Pipes: close-on-exec, and their capacity with its limit.
//!
//! ```
//! let (reader, writer) = ipc::pipe::pipe()?;
//! rustix::io::write(&writer, b"Hello from your program.")?;
//! drop(writer);
//! let mut text = String::new();
//! std::io::Read::read_to_string(&mut std::fs::File::from(reader), &mut text)?;
//! assert_eq!(text, "Hello from your program.");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags};

use crate::error::operation_error;
use crate::{Errno, SystemError};

/// A write of at most this many bytes goes in as a whole or not at all
/// (`PIPE_BUF`).
pub const ATOMIC_WRITE_BYTES_MAX: usize = libc::PIPE_BUF;

operation_error! {
    /// Why a pipe has not the wanted capacity.
    Error {
        /// More than an unprivileged process may have in one pipe.
        TooLarge {
            /// What was asked for.
            bytes: usize,
            /// `/proc/sys/fs/pipe-max-size`.
            limit: usize,
        } => PERM, "a pipe of {bytes} bytes: without privilege at most {limit} (/proc/sys/fs/pipe-max-size)";
        /// It holds more than that now.
        TooFull {
            /// What was asked for.
            bytes: usize,
        } => BUSY, "a pipe of {bytes} bytes: it holds more at the moment";
    }
}

/// A new pipe: its read end and its write end, blocking, close-on-exec.
///
/// # Errors
/// EMFILE, ENFILE.
///
/// Source: [pipe(2)](https://man7.org/linux/man-pages/man2/pipe.2.html).
#[doc(alias = "pipe2")]
pub fn pipe() -> Result<(OwnedFd, OwnedFd), SystemError> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
        .map_err(|errno| SystemError::new("pipe2", "pipe", errno))
}

/// A new pipe whose *write end only* is non-blocking: for waking a process that
/// holds the read end. (The two ends are two open file descriptions: what the
/// reader does to its own can't make our writes block.) Whoever holds the read end,
/// of whatever user, may open it anew to read, under `/proc/self/fd`; nobody but
/// this one's user may open it to write.
///
/// # Errors
/// EMFILE, ENFILE.
///
/// Source: [pipe(2)](https://man7.org/linux/man-pages/man2/pipe.2.html).
#[doc(alias = "pipe2")]
pub fn wake_pipe() -> Result<(OwnedFd, OwnedFd), SystemError> {
    let (reader, writer) = pipe()?;
    rustix::io::ioctl_fionbio(&writer, true)
        .map_err(|errno| SystemError::new("ioctl(FIONBIO)", "pipe", errno))?;
    rustix::fs::fchmod(&reader, rustix::fs::Mode::from_raw_mode(0o444))
        .map_err(|errno| SystemError::new("fchmod", "pipe", errno))?;
    Ok((reader, writer))
}

/// Moves up to `bytes` bytes out of one descriptor into another, at least one
/// of which is a pipe, without copying them through this process. Waits until
/// something is there. 0: the end of file.
///
/// # Errors
/// EPIPE: nobody reads the other end (with SIGPIPE, unless that is ignored).
/// EINVAL: neither is a pipe, or the file can't (one opened to append).
///
/// Source: [splice(2)](https://man7.org/linux/man-pages/man2/splice.2.html).
pub fn splice(from: impl AsFd, to: impl AsFd, bytes: usize) -> Result<usize, SystemError> {
    loop {
        match rustix::pipe::splice(&from, None, &to, None, bytes, SpliceFlags::MOVE) {
            Err(Errno::INTR) => {}
            other => return other.map_err(|errno| SystemError::new("splice", "pipe", errno)),
        }
    }
}

/// Duplicates up to `bytes` bytes of one pipe into another; they stay in the
/// first. Waits until something is there. 0: the end of file.
///
/// # Errors
/// EPIPE: nobody reads the other end. EINVAL: one of them is no pipe.
///
/// Source: [tee(2)](https://man7.org/linux/man-pages/man2/tee.2.html).
pub fn tee(from: impl AsFd, to: impl AsFd, bytes: usize) -> Result<usize, SystemError> {
    loop {
        match rustix::pipe::tee(&from, &to, bytes, SpliceFlags::empty()) {
            Err(Errno::INTR) => {}
            other => return other.map_err(|errno| SystemError::new("tee", "pipe", errno)),
        }
    }
}

/// How many bytes the pipe (or FIFO) holds when it is full.
///
/// # Errors
/// EBADF if it is no pipe.
///
/// Source: [fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html).
#[doc(alias = "F_GETPIPE_SZ")]
pub fn capacity(pipe: impl AsFd) -> Result<usize, SystemError> {
    rustix::pipe::fcntl_getpipe_size(pipe)
        .map_err(|errno| SystemError::new("fcntl(F_GETPIPE_SZ)", "pipe", errno))
}

/// Sets the capacity; returns what it became (rounded up to pages, then to a
/// power of two of them).
///
/// # Errors
/// [`Error::TooLarge`], [`Error::TooFull`].
///
/// Source: [fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html),
/// [pipe(7)](https://man7.org/linux/man-pages/man7/pipe.7.html).
#[doc(alias = "F_SETPIPE_SZ")]
pub fn set_capacity(pipe: impl AsFd, bytes: usize) -> Result<usize, Error> {
    match rustix::pipe::fcntl_setpipe_size(pipe, bytes) {
        Ok(granted) => Ok(granted),
        // INVAL: more than 2^31, which nobody may have.
        Err(Errno::PERM | Errno::INVAL) => Err(Error::TooLarge { bytes, limit: capacity_max() }),
        Err(Errno::BUSY) => Err(Error::TooFull { bytes }),
        Err(errno) => Err(SystemError::new("fcntl(F_SETPIPE_SZ)", "pipe", errno).into()),
    }
}

/// The largest capacity that a process without CAP_SYS_RESOURCE can set
/// (`/proc/sys/fs/pipe-max-size`; 1 MiB, the kernel's default, where /proc is
/// missing).
#[must_use]
pub fn capacity_max() -> usize {
    let text = std::fs::read_to_string("/proc/sys/fs/pipe-max-size").unwrap_or_default();
    text.trim().parse().unwrap_or(1024 * 1024)
}
