//! Named pipes.
//!
//! ```
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("commands");
//! ipc::fifo::create(&path, 0o600)?;
//! let commands = ipc::fifo::Reader::open(&path)?;
//! let writer = ipc::fifo::open_writer(&path)?;
//! rustix::io::write(&writer, b"route show\n")?;
//! drop(writer); // no end of file: the reader holds a writer of its own
//! let mut line = [0; 64];
//! assert_eq!(rustix::io::read(&commands, &mut line)?, 11);
//! assert_eq!(rustix::io::read(&commands, &mut line), Err(ipc::Errno::AGAIN));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

use crate::error::operation_error;
use crate::{Errno, SystemError};

operation_error! {
    /// What can go wrong with a FIFO.
    Error {
        /// Something has the name already.
        Exists {
            /// The path.
            path: PathBuf,
        } => EXIST, "{}: exists already", path.display();
        /// The name is no FIFO.
        NotAFifo {
            /// The path.
            path: PathBuf,
        } => INVAL, "{}: exists and is no FIFO", path.display();
        /// Nobody has it open for reading.
        NoReader {
            /// The path.
            path: PathBuf,
        } => NXIO, "{}: nobody reads it", path.display();
    }
}

/// Makes a FIFO with exactly `mode`, whatever the umask. (It is made with what
/// the umask leaves and widened afterwards: never more open than asked for.)
///
/// # Errors
/// [`Error::Exists`]; the system's.
///
/// Source: [mkfifo(3)](https://man7.org/linux/man-pages/man3/mkfifo.3.html).
#[doc(alias = "mkfifo")]
pub fn create(path: impl AsRef<Path>, mode: u32) -> Result<(), Error> {
    let path = path.as_ref();
    let mode = Mode::from_raw_mode(mode & 0o7777);
    rustix::fs::mkfifoat(CWD, path, mode).map_err(|errno| match errno {
        Errno::EXIST => Error::Exists { path: path.to_owned() },
        errno => SystemError::new("mkfifo", path.display(), errno).into(),
    })?;
    let widened = open(path, OFlags::RDONLY | OFlags::NONBLOCK).and_then(|fd| {
        rustix::fs::fchmod(&fd, mode)
            .map_err(|errno| SystemError::new("fchmod", path.display(), errno).into())
    });
    match widened {
        // Not even the owner may read it: then the owner's bits are right as
        // they are, and opening was the only thing that failed.
        Err(Error::System(SystemError { errno: Errno::ACCESS, call: "open", .. })) => {
            rustix::fs::chmodat(CWD, path, mode, AtFlags::empty())
                .map_err(|errno| SystemError::new("chmod", path.display(), errno).into())
        }
        other => other,
    }
    .inspect_err(|_| {
        let _ = rustix::fs::unlink(path);
    })
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Error> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = loop {
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => break fd,
            Err(Errno::INTR) => {}
            Err(Errno::NXIO) => return Err(Error::NoReader { path: path.to_owned() }),
            Err(errno) => return Err(SystemError::new("open", path.display(), errno).into()),
        }
    };
    let stat =
        rustix::fs::fstat(&fd).map_err(|errno| SystemError::new("fstat", path.display(), errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Err(Error::NotAFifo { path: path.to_owned() });
    }
    Ok(fd)
}

/// The read end for a server: non-blocking, and with a writer of its own, so
/// that the last client's close is no end of file and a level-triggered loop
/// never spins on it.
#[derive(Debug)]
pub struct Reader {
    fd: OwnedFd,
    _keep_alive: OwnedFd,
}

impl Reader {
    /// Opens an existing FIFO. A symbolic link is not followed.
    ///
    /// # Errors
    /// [`Error::NotAFifo`]; the system's.
    ///
    /// Source: [fifo(7)](https://man7.org/linux/man-pages/man7/fifo.7.html).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let fd = open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW)?;
        // There is a reader now, ours, so this doesn't fail for want of one.
        let keep_alive = open(path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW)?;
        Ok(Self { fd, _keep_alive: keep_alive })
    }
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens the read end as a plain reader: waits until somebody writes, and sees
/// the end of file when the last writer has closed.
///
/// # Errors
/// [`Error::NotAFifo`]; the system's.
///
/// Source: [fifo(7)](https://man7.org/linux/man-pages/man7/fifo.7.html).
#[doc(alias = "open")]
pub fn open_reader(path: impl AsRef<Path>) -> Result<OwnedFd, Error> {
    open(path.as_ref(), OFlags::RDONLY)
}

/// Opens the read end, non-blocking: waits for nobody. In a poll set it is
/// readable when something is there, and hung up when a writer that was there
/// has gone; before the first one comes it is neither.
///
/// # Errors
/// [`Error::NotAFifo`]; the system's.
///
/// Source: [fifo(7)](https://man7.org/linux/man-pages/man7/fifo.7.html).
#[doc(alias = "open")]
pub fn open_reader_nonblocking(path: impl AsRef<Path>) -> Result<OwnedFd, Error> {
    open(path.as_ref(), OFlags::RDONLY | OFlags::NONBLOCK)
}

/// Removes the name, if it is a FIFO's; who has it open goes on.
///
/// # Errors
/// [`Error::NotAFifo`]; the system's.
///
/// Source: [unlink(2)](https://man7.org/linux/man-pages/man2/unlink.2.html).
#[doc(alias = "unlink")]
pub fn remove(path: impl AsRef<Path>) -> Result<(), Error> {
    let path = path.as_ref();
    let stat = rustix::fs::lstat(path)
        .map_err(|errno| SystemError::new("lstat", path.display(), errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Err(Error::NotAFifo { path: path.to_owned() });
    }
    rustix::fs::unlink(path)
        .map_err(|errno| SystemError::new("unlink", path.display(), errno).into())
}

/// Opens the write end without waiting for a reader; the descriptor itself
/// blocks when the FIFO is full.
///
/// # Errors
/// [`Error::NoReader`], [`Error::NotAFifo`]; the system's.
///
/// Source: [fifo(7)](https://man7.org/linux/man-pages/man7/fifo.7.html).
#[doc(alias = "open")]
pub fn open_writer(path: impl AsRef<Path>) -> Result<OwnedFd, Error> {
    let path = path.as_ref();
    let fd = open(path, OFlags::WRONLY | OFlags::NONBLOCK)?;
    rustix::io::ioctl_fionbio(&fd, false)
        .map_err(|errno| SystemError::new("ioctl(FIONBIO)", path.display(), errno))?;
    Ok(fd)
}

/// Opens the write end and waits until somebody reads.
///
/// # Errors
/// [`Error::NotAFifo`]; the system's.
///
/// Source: [fifo(7)](https://man7.org/linux/man-pages/man7/fifo.7.html).
#[doc(alias = "open")]
pub fn open_writer_waiting(path: impl AsRef<Path>) -> Result<OwnedFd, Error> {
    open(path.as_ref(), OFlags::WRONLY)
}
