//! TCP: a listener that restarts at once and says which families it serves,
//! connecting with a time limit or without blocking, and keepalive.
//!
//! ```
//! use ipc::tcp::{self, Listener};
//! let listener = Listener::bind("127.0.0.1:0".parse()?)?;
//! let client = tcp::connect(listener.local_address()?, None)?;
//! let (_session, from) = loop {
//!     match listener.accept() {
//!         Ok(accepted) => break accepted,
//!         Err(ipc::socket::AcceptError::WouldBlock {}) => std::thread::yield_now(),
//!         Err(error) => return Err(error.into()),
//!     }
//! };
//! assert!(from.ip().is_loopback());
//! tcp::set_keepalive(&client, Some(tcp::Keepalive::default()))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//! Plain options (`TCP_NODELAY`, `TCP_USER_TIMEOUT`) are `rustix::net::sockopt`'s.
use core::time::Duration;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::error::operation_error;
use crate::socket::AcceptError;
use crate::{Errno, SystemError, socket, timer};

/// How many connections may wait to be accepted (the kernel caps it at
/// `net.core.somaxconn`).
pub const BACKLOG: i32 = 4096;

operation_error! {
    /// What can go wrong with an address or a connection.
    Error {
        /// Somebody else listens on this address.
        InUse {
            /// The address.
            address: SocketAddr,
        } => ADDRINUSE, "{address}: another process listens there";
        /// The host answered that nobody listens there.
        NobodyListens {
            /// The address.
            address: SocketAddr,
        } => CONNREFUSED, "{address}: nobody listens there";
        /// No answer within the given time.
        TimedOut {
            /// The address.
            address: SocketAddr,
            /// The given time.
            after: Duration,
        } => TIMEDOUT, "{address}: no answer within {after:?}";
    }
}

fn failed(call: &'static str, address: SocketAddr) -> impl Fn(Errno) -> Error {
    move |errno| match errno {
        Errno::ADDRINUSE => Error::InUse { address },
        Errno::CONNREFUSED => Error::NobodyListens { address },
        errno => SystemError::new(call, address, errno).into(),
    }
}

fn new_socket(address: SocketAddr) -> Result<OwnedFd, Error> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, SocketType::STREAM, flags, None)
        .map_err(failed("socket", address))
}

/// A non-blocking TCP listener.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
}

impl Listener {
    /// Listens on `address` (port 0: one that is free). An IPv6 address serves
    /// IPv6 only, whatever `net.ipv6.bindv6only` says: who wants both families
    /// binds both. `SO_REUSEADDR` is set, so that connections of a former
    /// process in TIME_WAIT don't stand in the way.
    ///
    /// # Errors
    /// [`Error::InUse`]; EADDRNOTAVAIL (not an address of this host); EACCES
    /// (ports below `net.ipv4.ip_unprivileged_port_start`).
    ///
    /// Source: [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html),
    /// [ipv6(7)](https://man7.org/linux/man-pages/man7/ipv6.7.html).
    #[doc(alias = "SO_REUSEADDR")]
    #[doc(alias = "IPV6_V6ONLY")]
    #[doc(alias = "listen")]
    pub fn bind(address: SocketAddr) -> Result<Self, Error> {
        let fd = new_socket(address)?;
        sockopt::set_socket_reuseaddr(&fd, true).map_err(failed("setsockopt", address))?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&fd, true).map_err(failed("setsockopt", address))?;
        }
        rustix::net::bind(&fd, &address).map_err(failed("bind", address))?;
        rustix::net::listen(&fd, BACKLOG).map_err(failed("listen", address))?;
        Ok(Self { fd })
    }

    /// The address it is bound to, with the port that port 0 became.
    ///
    /// # Errors
    /// None in practice.
    #[doc(alias = "getsockname")]
    pub fn local_address(&self) -> Result<SocketAddr, SystemError> {
        local_address(&self.fd)
    }

    /// Accepts one connection (non-blocking, close-on-exec) and says where it
    /// comes from.
    ///
    /// # Errors
    /// [`AcceptError`]; a peer that has gone again before it could be asked for
    /// its address counts as nobody waiting.
    #[doc(alias = "accept4")]
    pub fn accept(&self) -> Result<(OwnedFd, SocketAddr), AcceptError> {
        loop {
            let fd = socket::accept(&self.fd)?;
            if let Ok(Some(address)) = rustix::net::getpeername(&fd) {
                if let Ok(address) = SocketAddr::try_from(address) {
                    return Ok((fd, address));
                }
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The address of this end of a connection.
///
/// # Errors
/// ENOTSOCK; EAFNOSUPPORT for a socket of another family.
///
/// Source: [getsockname(2)](https://man7.org/linux/man-pages/man2/getsockname.2.html).
#[doc(alias = "getsockname")]
pub fn local_address(socket: impl AsFd) -> Result<SocketAddr, SystemError> {
    let failed = |errno| SystemError::new("getsockname", "socket", errno);
    let address = rustix::net::getsockname(socket).map_err(failed)?;
    SocketAddr::try_from(address).map_err(failed)
}

/// Starts to connect and returns the non-blocking socket at once: it becomes
/// writable when the attempt has ended, and [`connected`] says how.
///
/// # Errors
/// Those that are known at once (ENETUNREACH, a refusal on loopback).
///
/// Source: [connect(2)](https://man7.org/linux/man-pages/man2/connect.2.html), EINPROGRESS.
#[doc(alias = "connect")]
pub fn connect_start(address: SocketAddr) -> Result<OwnedFd, Error> {
    let fd = new_socket(address)?;
    match rustix::net::connect(&fd, &address) {
        // An interrupted connect goes on in the background, as EINPROGRESS.
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(fd),
        Err(errno) => Err(failed("connect", address)(errno)),
    }
}

/// How the attempt of [`connect_start`] ended; call it when the socket is
/// writable.
///
/// # Errors
/// [`Error::NobodyListens`] and the network's errors.
#[doc(alias = "SO_ERROR")]
pub fn connected(socket: impl AsFd, address: SocketAddr) -> Result<(), Error> {
    match sockopt::socket_error(socket) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(errno)) | Err(errno) => Err(failed("connect", address)(errno)),
    }
}

/// Connects, waiting at most `timeout` (none: as long as the system tries,
/// about two minutes), and returns a blocking socket.
///
/// # Errors
/// [`Error::NobodyListens`], [`Error::TimedOut`], the network's errors.
///
/// Source: [connect(2)](https://man7.org/linux/man-pages/man2/connect.2.html).
pub fn connect(address: SocketAddr, timeout: Option<Duration>) -> Result<OwnedFd, Error> {
    let fd = connect_start(address)?;
    let deadline = timer::Deadline::after(timeout);
    loop {
        let mut fds = [PollFd::new(&fd, PollFlags::OUT)];
        match rustix::event::poll(&mut fds, deadline.remaining().as_ref()) {
            Ok(0) | Err(Errno::INTR) if deadline.passed() => {
                return Err(Error::TimedOut { address, after: timeout.unwrap_or_default() });
            }
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => break,
            Err(errno) => return Err(failed("poll", address)(errno)),
        }
    }
    connected(&fd, address)?;
    rustix::io::ioctl_fionbio(&fd, false).map_err(failed("ioctl", address))?;
    Ok(fd)
}

/// When a silent connection is probed, and when it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe; whole seconds, at least 1.
    pub idle: Duration,
    /// Time between probes; whole seconds, at least 1.
    pub interval: Duration,
    /// Unanswered probes after which the connection is dead; at least 1.
    pub probes: u32,
}

impl Default for Keepalive {
    /// Dead after 30 seconds of silence: 15 idle, then three probes 5 apart.
    fn default() -> Self {
        Self { idle: Duration::from_secs(15), interval: Duration::from_secs(5), probes: 3 }
    }
}

/// Turns keepalive on with these times, or off.
///
/// # Errors
/// EINVAL for a time beyond the kernel's bounds (32,767 seconds, 127 probes).
///
/// Source: [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html).
#[doc(alias = "SO_KEEPALIVE")]
#[doc(alias = "TCP_KEEPIDLE")]
#[doc(alias = "TCP_KEEPINTVL")]
#[doc(alias = "TCP_KEEPCNT")]
pub fn set_keepalive(socket: impl AsFd, keepalive: Option<Keepalive>) -> Result<(), SystemError> {
    let failed = |errno| SystemError::new("setsockopt(SO_KEEPALIVE)", "socket", errno);
    if let Some(times) = keepalive {
        sockopt::set_tcp_keepidle(&socket, times.idle).map_err(failed)?;
        sockopt::set_tcp_keepintvl(&socket, times.interval).map_err(failed)?;
        sockopt::set_tcp_keepcnt(&socket, times.probes).map_err(failed)?;
    }
    sockopt::set_socket_keepalive(&socket, keepalive.is_some()).map_err(failed)
}
