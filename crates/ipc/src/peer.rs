//! Who is at the other end of a Unix socket: as the kernel knew it when the
//! connection was made, not as the peer claims.
//!
//! ```
//! let (ours, _theirs) = ipc::unix::pair(ipc::unix::Kind::Stream)?;
//! let peer = ipc::peer::credentials(&ours)?;
//! assert_eq!(peer.pid, Some(rustix::process::getpid()));
//! assert_eq!(peer.uid, rustix::process::getuid().as_raw());
//! let process = ipc::peer::pidfd(&ours)?;
//! assert!(!ipc::pidfd::has_ended(&process)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code)] // one descriptor comes out of getsockopt as a bare int
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use rustix::process::Pid;

use crate::{SystemError, sockopt};

/// A peer's identity at the time of its connect (for a listener's end: of its
/// listen).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Its process, or none if it lives in a pid namespace that ours can't see.
    pub pid: Option<Pid>,
    /// Its effective user id (65534 if it has none in our user namespace).
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
}

/// The peer's process, user and group.
///
/// # Errors
/// ENOTCONN, EOPNOTSUPP if it is no connected Unix socket.
///
/// Source: [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
#[doc(alias = "SO_PEERCRED")]
pub fn credentials(socket: impl AsFd) -> Result<Credentials, SystemError> {
    let raw: libc::ucred = sockopt::get(socket.as_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED)
        .map_err(|errno| SystemError::new("getsockopt(SO_PEERCRED)", "socket", errno))?;
    Ok(Credentials {
        pid: if raw.pid > 0 { Pid::from_raw(raw.pid) } else { None },
        uid: raw.uid,
        gid: raw.gid,
    })
}

/// The peer's supplementary groups.
///
/// # Errors
/// ENODATA if the socket has no peer.
///
/// Source: [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html); kernel
/// net/core/sock.c, `SO_PEERGROUPS` (Linux 4.13).
#[doc(alias = "SO_PEERGROUPS")]
pub fn groups(socket: impl AsFd) -> Result<Vec<u32>, SystemError> {
    sockopt::get_list(socket.as_fd(), libc::SOL_SOCKET, libc::SO_PEERGROUPS)
        .map_err(|errno| SystemError::new("getsockopt(SO_PEERGROUPS)", "socket", errno))
}

/// A descriptor for the peer's process: no pid that could be reused, and
/// readable when the process ends (see [`crate::pidfd`]).
///
/// # Errors
/// ENODATA if there is no peer; ENOPROTOOPT before Linux 6.5; ESRCH before 6.16
/// if the peer was reaped already; EMFILE.
///
/// Source: kernel net/core/sock.c, `SO_PEERPIDFD` (Linux 6.5).
#[doc(alias = "SO_PEERPIDFD")]
pub fn pidfd(socket: impl AsFd) -> Result<OwnedFd, SystemError> {
    let raw: i32 = sockopt::get(socket.as_fd(), libc::SOL_SOCKET, libc::SO_PEERPIDFD)
        .map_err(|errno| SystemError::new("getsockopt(SO_PEERPIDFD)", "socket", errno))?;
    // SAFETY: the call succeeded, so the kernel has just installed `raw` (with
    // close-on-exec) for us, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}
