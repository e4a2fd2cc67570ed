//! Passing open descriptors through a Unix socket.
//!
//! ```
//! use std::os::fd::AsFd;
//! let (a, b) = ipc::unix::pair(ipc::unix::Kind::Stream)?;
//! let file = std::fs::File::open("/proc/self/status")?;
//! ipc::descriptors::send(&a, b"x", &[file.as_fd()])?;
//! let mut bytes = [0; 8];
//! let received = ipc::descriptors::receive(&b, &mut bytes, 1)?;
//! assert_eq!((received.bytes, received.descriptors.len()), (1, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
use core::mem::MaybeUninit;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrAny,
};

use crate::error::operation_error;
use crate::{Errno, SystemError};

/// How many descriptors one message can carry (`SCM_MAX_FD` of the kernel).
pub const PER_MESSAGE_MAX: usize = 253;

operation_error! {
    /// Why descriptors were not passed.
    Error {
        /// More than a message can carry.
        TooMany {
            /// How many were given.
            count: usize,
            /// [`PER_MESSAGE_MAX`].
            limit: usize,
        } => INVAL, "{count} descriptors for one message; at most {limit} fit";
        /// Descriptors go with at least one byte of data.
        NoData {} => INVAL, "descriptors need at least one byte of data to go with";
        /// More descriptors came than were expected, or this process had no
        /// room for them. Those that had arrived are closed.
        Truncated {
            /// How many were expected at most.
            expected: usize,
            /// How many bytes of data came with them (they are in the buffer).
            bytes: usize,
        } => MSGSIZE, "more than the {expected} expected descriptors came, or no room was left for them";
    }
}

/// What one message brought.
#[derive(Debug)]
pub struct Received {
    /// Bytes written into the buffer; 0 means that the peer has closed.
    pub bytes: usize,
    /// The descriptors, in the sender's order, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
    /// Whether a record was longer than the buffer and has been cut
    /// (datagram and seqpacket sockets).
    pub record_cut: bool,
    /// Where it came from (datagram sockets; a Unix sender without a name has
    /// an unnamed address, and none is given for a connection).
    pub source: Option<SocketAddrAny>,
}

/// Sends `bytes` with duplicates of `descriptors`; returns how many bytes went.
/// If that is fewer than given (a stream socket with a full buffer), the
/// descriptors went with them: send the rest without.
///
/// # Errors
/// [`Error::TooMany`], [`Error::NoData`]; EAGAIN (nothing went, neither bytes
/// nor descriptors); ETOOMANYREFS when too many are in flight (RLIMIT_NOFILE of
/// the sender's uid); EPIPE, never as a signal.
///
/// Source: [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), `SCM_RIGHTS`.
#[doc(alias = "sendmsg")]
#[doc(alias = "SCM_RIGHTS")]
pub fn send(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<usize, Error> {
    send_slices(socket, &[IoSlice::new(bytes)], descriptors)
}

/// [`send`], with the bytes in several pieces.
///
/// # Errors
/// Those of [`send`].
///
/// Source: [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), `SCM_RIGHTS`.
#[doc(alias = "sendmsg")]
pub fn send_slices(
    socket: impl AsFd,
    slices: &[IoSlice<'_>],
    descriptors: &[BorrowedFd<'_>],
) -> Result<usize, Error> {
    if descriptors.len() > PER_MESSAGE_MAX {
        return Err(Error::TooMany { count: descriptors.len(), limit: PER_MESSAGE_MAX });
    }
    if slices.iter().all(|slice| slice.is_empty()) && !descriptors.is_empty() {
        return Err(Error::NoData {});
    }
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(descriptors.len()))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        let fits = control.push(SendAncillaryMessage::ScmRights(descriptors));
        debug_assert!(fits, "the space was made for exactly this message");
    }
    loop {
        match rustix::net::sendmsg(&socket, slices, &mut control, SendFlags::NOSIGNAL) {
            Ok(n) => return Ok(n),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(SystemError::new("sendmsg", "socket", errno).into()),
        }
    }
}

/// Has the kernel refuse descriptors that peers send to this socket
/// (`SO_PASSRIGHTS` off: their `sendmsg` fails with EPERM). A listener hands it
/// on to the sockets that it accepts. Without it a `read` that takes no control
/// messages throws descriptors away; but the last close of one is then the
/// reader's to wait for. Returns false where the kernel (before 6.16) can't.
///
/// # Errors
/// ENOTSOCK, and EOPNOTSUPP on a socket that isn't a Unix one.
///
/// Source: the kernel's `net/unix/af_unix.c`, `include/uapi/asm-generic/socket.h`.
#[doc(alias = "SO_PASSRIGHTS")]
pub fn refuse(socket: impl AsFd) -> Result<bool, SystemError> {
    /// Not in libc yet.
    const SO_PASSRIGHTS: i32 = 83;
    match crate::sockopt::set(socket.as_fd(), libc::SOL_SOCKET, SO_PASSRIGHTS, 0_i32) {
        Ok(()) => Ok(true),
        Err(Errno::NOPROTOOPT) => Ok(false),
        Err(errno) => Err(SystemError::new("setsockopt(SO_PASSRIGHTS)", "socket", errno)),
    }
}

/// Receives one message with at most `expected` descriptors.
///
/// # Errors
/// [`Error::Truncated`] if more came: whatever arrived has been closed. EAGAIN;
/// ECONNRESET.
///
/// Source: [recvmsg(2)](https://man7.org/linux/man-pages/man2/recvmsg.2.html).
#[doc(alias = "recvmsg")]
#[doc(alias = "MSG_CMSG_CLOEXEC")]
#[doc(alias = "MSG_CTRUNC")]
pub fn receive(socket: impl AsFd, buffer: &mut [u8], expected: usize) -> Result<Received, Error> {
    loop {
        match receive_with(&socket, buffer, expected, RecvFlags::empty()) {
            Err(error) if error.errno() == Errno::INTR => {}
            result => return result,
        }
    }
}

/// [`receive`] that never waits, whatever the socket's mode: EAGAIN if nothing is there.
///
/// # Errors
/// Those of [`receive`].
///
/// Source: [recv(2)](https://man7.org/linux/man-pages/man2/recv.2.html), `MSG_DONTWAIT`.
#[doc(alias = "MSG_DONTWAIT")]
pub fn try_receive(
    socket: impl AsFd,
    buffer: &mut [u8],
    expected: usize,
) -> Result<Received, Error> {
    loop {
        match receive_with(&socket, buffer, expected, RecvFlags::DONTWAIT) {
            Err(error) if error.errno() == Errno::INTR => {}
            result => return result,
        }
    }
}

/// [`receive`] that comes back when a signal is caught: EINTR. With a timeout set
/// (`SO_RCVTIMEO`) whatever the handler's flags are, else only if it has no `SA_RESTART`.
///
/// # Errors
/// Those of [`receive`]; EINTR.
///
/// Source: [signal(7)](https://man7.org/linux/man-pages/man7/signal.7.html), "Interruption of
/// system calls and library functions by signal handlers".
#[doc(alias = "EINTR")]
pub fn receive_interruptible(
    socket: impl AsFd,
    buffer: &mut [u8],
    expected: usize,
) -> Result<Received, Error> {
    receive_with(socket, buffer, expected, RecvFlags::empty())
}

fn receive_with(
    socket: impl AsFd,
    buffer: &mut [u8],
    expected: usize,
    flags: RecvFlags,
) -> Result<Received, Error> {
    let expected = expected.min(PER_MESSAGE_MAX);
    // For one, which is the usual, nothing is allocated.
    let mut one = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut more = Vec::new();
    let space = if expected <= 1 {
        &mut one[..rustix::cmsg_space!(ScmRights(expected))]
    } else {
        more.resize(rustix::cmsg_space!(ScmRights(expected)), MaybeUninit::uninit());
        &mut more[..]
    };
    let mut control = RecvAncillaryBuffer::new(space);
    let mut iov = [IoSliceMut::new(buffer)];
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let message = rustix::net::recvmsg(&socket, &mut iov, &mut control, flags)
        .map_err(|errno| SystemError::new("recvmsg", "socket", errno))?;
    let mut descriptors = Vec::new();
    for control_message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = control_message {
            descriptors.extend(fds);
        }
    }
    // The kernel rounds the space up, so one more than asked for may arrive
    // without being marked as truncated.
    if message.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > expected {
        return Err(Error::Truncated { expected, bytes: message.bytes });
    }
    let record_cut = message.flags.contains(ReturnFlags::TRUNC);
    Ok(Received { bytes: message.bytes, descriptors, record_cut, source: message.address })
}
