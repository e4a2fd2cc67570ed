//! What stream sockets of every family have in common: accepting, buffer
//! sizes, and how much of what was sent the peer has not taken yet.
//!
//! ```
//! use ipc::socket::{self, AcceptError};
//! let dir = tempfile::tempdir()?;
//! let listener = ipc::unix::Listener::bind(dir.path().join("s"), ipc::unix::Kind::Stream, 0o600)?;
//! // Nobody there yet: the listener never blocks.
//! assert!(matches!(socket::accept(&listener), Err(AcceptError::WouldBlock {})));
//! let client = ipc::unix::connect(dir.path().join("s"), ipc::unix::Kind::Stream)?;
//! let session = socket::accept(&listener)?;
//! rustix::io::write(&session, b"hello")?;
//! assert_eq!(socket::unread_bytes(&client)?, 5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{SocketFlags, sockopt as options};

use crate::error::operation_error;
use crate::{Errno, SystemError, sockopt};

operation_error! {
    /// Why no connection was accepted.
    AcceptError {
        /// Nobody is waiting.
        WouldBlock {} => AGAIN, "no connection is waiting";
        /// This process or the system has no descriptor left: the connection
        /// still waits, and the listener stays readable until one is free.
        Exhausted {
            /// EMFILE: this process's limit; ENFILE: the system's.
            reason: Errno,
            /// The soft limit of `RLIMIT_NOFILE`.
            limit: u64,
        } => MFILE, "no descriptor left for a connection ({reason:?}; this process may have {limit})";
    }
}

/// Accepts one connection: non-blocking, close-on-exec.
///
/// A connection that its peer gave up before it was accepted is skipped, an
/// interrupted call repeated.
///
/// # Errors
/// [`AcceptError::WouldBlock`] if none waits (the listeners of this crate never
/// block), [`AcceptError::Exhausted`] if there is no descriptor or memory for it.
///
/// Source: [accept(2)](https://man7.org/linux/man-pages/man2/accept.2.html).
#[doc(alias = "accept4")]
pub fn accept(listener: impl AsFd) -> Result<OwnedFd, AcceptError> {
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match rustix::net::accept_with(&listener, flags) {
            Ok(fd) => return Ok(fd),
            // The pending errors of a connection that is already gone are
            // handed to accept(2); the next one may be sound.
            Err(
                Errno::INTR
                | Errno::CONNABORTED
                | Errno::PROTO
                | Errno::NETDOWN
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NETUNREACH,
            ) => {}
            Err(Errno::AGAIN) => return Err(AcceptError::WouldBlock {}),
            Err(reason @ (Errno::MFILE | Errno::NFILE)) => {
                let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
                let limit = limit.current.unwrap_or(u64::MAX);
                return Err(AcceptError::Exhausted { reason, limit });
            }
            Err(errno) => return Err(SystemError::new("accept4", "listener", errno).into()),
        }
    }
}

/// How many sent bytes the peer has not read yet (Unix sockets: counted with
/// the kernel's overhead per buffer; TCP: bytes not acknowledged).
///
/// # Errors
/// EINVAL if the socket is listening.
///
/// Source: [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), `SIOCOUTQ`.
#[doc(alias = "SIOCOUTQ")]
pub fn unsent_bytes(socket: impl AsFd) -> Result<usize, SystemError> {
    // SIOCOUTQ is TIOCOUTQ by another name.
    sockopt::ioctl_int(socket.as_fd(), libc::TIOCOUTQ)
        .map(|n| n.max(0) as usize)
        .map_err(|errno| SystemError::new("ioctl(SIOCOUTQ)", "socket", errno))
}

/// How many bytes can be read at once without blocking (of a datagram or
/// seqpacket socket: the size of the first record).
///
/// # Errors
/// EINVAL if the socket is listening.
///
/// Source: [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), `SIOCINQ`.
#[doc(alias = "SIOCINQ")]
#[doc(alias = "FIONREAD")]
pub fn unread_bytes(socket: impl AsFd) -> Result<usize, SystemError> {
    sockopt::ioctl_int(socket.as_fd(), libc::FIONREAD)
        .map(|n| n.max(0) as usize)
        .map_err(|errno| SystemError::new("ioctl(SIOCINQ)", "socket", errno))
}

/// Asks for a send buffer of `bytes` and returns what the kernel granted: it
/// doubles the figure for its own overhead and caps it at
/// `net.core.wmem_max`.
///
/// # Errors
/// Only those of a descriptor that is no socket.
///
/// Source: [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html).
#[doc(alias = "SO_SNDBUF")]
pub fn set_send_buffer(socket: impl AsFd, bytes: usize) -> Result<usize, SystemError> {
    let failed = |errno| SystemError::new("setsockopt(SO_SNDBUF)", "socket", errno);
    options::set_socket_send_buffer_size(&socket, bytes).map_err(failed)?;
    options::socket_send_buffer_size(&socket).map_err(failed)
}

/// Asks for a receive buffer of `bytes` and returns what the kernel granted:
/// beyond `net.core.rmem_max` only with CAP_NET_ADMIN of the initial user
/// namespace (`SO_RCVBUFFORCE`, tried first), doubled for its own overhead.
///
/// # Errors
/// Only those of a descriptor that is no socket.
///
/// Source: [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html).
#[doc(alias = "SO_RCVBUF")]
#[doc(alias = "SO_RCVBUFFORCE")]
pub fn set_receive_buffer(socket: impl AsFd, bytes: usize) -> Result<usize, SystemError> {
    let failed = |errno| SystemError::new("setsockopt(SO_RCVBUF)", "socket", errno);
    match options::set_socket_recv_buffer_size_force(&socket, bytes) {
        Err(Errno::PERM) => options::set_socket_recv_buffer_size(&socket, bytes),
        other => other,
    }
    .map_err(failed)?;
    options::socket_recv_buffer_size(&socket).map_err(failed)
}
