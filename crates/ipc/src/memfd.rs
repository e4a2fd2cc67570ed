//! Memory without a name, to be handed to others by descriptor, and its seals.
//!
//! ```
//! use ipc::{map::MapMut, memfd};
//! let fd = memfd::create_full("table", 4096)?;
//! let ours = MapMut::of(&fd, 4096)?; // map first: after the seal nobody can map it writable
//! memfd::seal_for_readers(&fd)?;
//! ours.bytes_in(0, b"hello");
//! assert!(MapMut::of(&fd, 4096).is_err());
//! let theirs = ipc::map::Map::of(&fd, 4096)?;
//! let mut text = [0; 5];
//! theirs.bytes_out(0, &mut text);
//! assert_eq!(&text, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
use std::os::fd::{AsFd, OwnedFd};

pub use rustix::fs::SealFlags as Seals;
use rustix::fs::{FallocateFlags, MemfdFlags, Mode};

use crate::error::operation_error;
use crate::{Errno, SystemError};

/// The longest name in bytes (`MFD_NAME_MAX_LEN` of the kernel). It is only
/// seen in /proc.
pub const NAME_BYTES_MAX: usize = 249;

operation_error! {
    /// Why there is no such memory.
    Error {
        /// The name is too long.
        NameTooLong {
            /// Its length.
            len: usize,
            /// [`NAME_BYTES_MAX`].
            limit: usize,
        } => INVAL, "a memfd's name has at most {limit} bytes, this one {len}";
        /// There is not so much memory.
        NoMemory {
            /// The name.
            name: String,
            /// What was asked for.
            bytes: u64,
        } => NOMEM, "{name}: no {bytes} bytes of memory left for it";
        /// A seal forbids it, or it can't be sealed (any more).
        Sealed {
            /// The seals that it has.
            seals: String,
        } => PERM, "sealed ({seals}), or mapped writable somewhere";
    }
}

/// An empty memory file that can be sealed: close-on-exec, and never
/// executable where the kernel (6.3) knows how to forbid it.
///
/// # Errors
/// [`Error::NameTooLong`]; EMFILE, ENFILE.
///
/// Source: [memfd_create(2)](https://man7.org/linux/man-pages/man2/memfd_create.2.html).
#[doc(alias = "memfd_create")]
#[doc(alias = "MFD_NOEXEC_SEAL")]
pub fn create(name: &str) -> Result<OwnedFd, Error> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::NameTooLong { len: name.len(), limit: NAME_BYTES_MAX });
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
        other => other,
    }
    .map_err(|errno| SystemError::new("memfd_create", name, errno).into())
}

/// A memory file of `bytes` bytes, all of them allocated: no later write (and
/// no reader's fault in a hole) needs memory that isn't there. More than the
/// machine has in all is refused before anything is taken.
///
/// # Errors
/// [`Error::NoMemory`], and those of [`create`].
///
/// Source: [fallocate(2)](https://man7.org/linux/man-pages/man2/fallocate.2.html).
#[doc(alias = "fallocate")]
pub fn create_full(name: &str, bytes: u64) -> Result<OwnedFd, Error> {
    let fd = create_empty(name, bytes)?;
    allocate(&fd, name, 0, bytes)?;
    Ok(fd)
}

/// A memory file of `bytes` bytes of which none is allocated yet: all of it is a
/// hole, to be filled by [`allocate`]. More than the machine has in all is refused.
///
/// # Errors
/// [`Error::NoMemory`], and those of [`create`].
///
/// Source: [ftruncate(2)](https://man7.org/linux/man-pages/man2/ftruncate.2.html).
#[doc(alias = "ftruncate")]
pub fn create_empty(name: &str, bytes: u64) -> Result<OwnedFd, Error> {
    // The kernel would take page after page and then let the OOM killer decide.
    let system = rustix::system::sysinfo();
    let unit = u64::from(system.mem_unit).max(1);
    if bytes > (system.totalram + system.totalswap).saturating_mul(unit) {
        return Err(Error::NoMemory { name: name.to_owned(), bytes });
    }
    let fd = create(name)?;
    rustix::fs::ftruncate(&fd, bytes)
        .map_err(|errno| SystemError::new("ftruncate", name, errno))?;
    Ok(fd)
}

/// Allocates `bytes` bytes from `from` on; what is allocated already stays as
/// it is. `name` is for the error.
///
/// # Errors
/// [`Error::NoMemory`].
///
/// Source: [fallocate(2)](https://man7.org/linux/man-pages/man2/fallocate.2.html).
#[doc(alias = "fallocate")]
pub fn allocate(fd: impl AsFd, name: &str, from: u64, bytes: u64) -> Result<(), Error> {
    loop {
        return match rustix::fs::fallocate(&fd, FallocateFlags::empty(), from, bytes) {
            Ok(()) => Ok(()),
            Err(Errno::INTR) => continue,
            Err(Errno::NOSPC | Errno::NOMEM | Errno::FBIG) => {
                Err(Error::NoMemory { name: name.to_owned(), bytes })
            }
            Err(errno) => Err(SystemError::new("fallocate", name, errno).into()),
        };
    }
}

/// Adds seals.
///
/// # Errors
/// [`Error::Sealed`]: `SEAL` is set already, or (for `WRITE`) somebody has it
/// mapped writable. EINVAL for a file that is no memfd.
///
/// Source: [fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html), "File Sealing".
#[doc(alias = "F_ADD_SEALS")]
pub fn seal(fd: impl AsFd, seals: Seals) -> Result<(), Error> {
    rustix::fs::fcntl_add_seals(&fd, seals).map_err(|errno| match errno {
        Errno::PERM | Errno::BUSY => {
            let has = rustix::fs::fcntl_get_seals(&fd).unwrap_or(Seals::empty());
            Error::Sealed { seals: names(has) }
        }
        errno => SystemError::new("fcntl(F_ADD_SEALS)", "memfd", errno).into(),
    })
}

/// The seals that it has.
///
/// # Errors
/// EINVAL for a file that is no memfd (nor a file of a tmpfs or hugetlbfs).
///
/// Source: [fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html), "File Sealing".
#[doc(alias = "F_GET_SEALS")]
pub fn seals(fd: impl AsFd) -> Result<Seals, Error> {
    rustix::fs::fcntl_get_seals(fd)
        .map_err(|errno| SystemError::new("fcntl(F_GET_SEALS)", "memfd", errno).into())
}

/// Makes it fit to be given to readers that aren't trusted: its size is fixed,
/// nobody can open or map it for writing from now on (who has it mapped
/// writable keeps that, forked children included), no seal can be added, and
/// its mode is 0444, so that other users can't even reopen it for writing.
///
/// # Errors
/// [`Error::Sealed`].
///
/// Source: [fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html), `F_SEAL_FUTURE_WRITE` (Linux 5.1).
#[doc(alias = "F_SEAL_FUTURE_WRITE")]
#[doc(alias = "F_SEAL_SHRINK")]
#[doc(alias = "F_SEAL_GROW")]
pub fn seal_for_readers(fd: impl AsFd) -> Result<(), Error> {
    rustix::fs::fchmod(&fd, Mode::RUSR | Mode::RGRP | Mode::ROTH)
        .map_err(|errno| SystemError::new("fchmod", "memfd", errno))?;
    seal(fd, Seals::SHRINK | Seals::GROW | Seals::FUTURE_WRITE | Seals::SEAL)
}

/// The seals in words: `shrink,grow,future-write,seal`, or `none`.
#[must_use]
pub fn names(seals: Seals) -> String {
    /// `F_SEAL_EXEC`, which rustix has no name for.
    const EXEC: u32 = 0x20;
    let mut names: Vec<&str> = [
        (Seals::SEAL, "seal"),
        (Seals::SHRINK, "shrink"),
        (Seals::GROW, "grow"),
        (Seals::WRITE, "write"),
        (Seals::FUTURE_WRITE, "future-write"),
    ]
    .iter()
    .filter(|(flag, _)| seals.contains(*flag))
    .map(|(_, name)| *name)
    .collect();
    if seals.bits() & EXEC != 0 {
        names.push("exec");
    }
    if names.is_empty() { "none".to_owned() } else { names.join(",") }
}
