//! A raw rtnetlink socket, as thin as the rival deserves.
#![allow(unsafe_code)] // std has no netlink sockets.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// `SOL_NETLINK`, which libc lacks for some targets.
const SOL_NETLINK: libc::c_int = 270;
const NETLINK_ADD_MEMBERSHIP: libc::c_int = 1;
const NETLINK_EXT_ACK: libc::c_int = 11;

/// Messages that one [`Netlink::receive_many`] takes at most.
const MESSAGES_MAX: usize = 64;
/// A route's notification has about 90 bytes; a multipath one would have more.
const MESSAGE_BYTES_MAX: usize = 1024;

pub(crate) struct Netlink {
    fd: OwnedFd,
}

impl Netlink {
    /// A socket in the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
        check(fd as isize)?;
        // SAFETY: `fd` was just made and belongs to nobody else.
        let socket = Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } };
        socket.bind()?;
        socket.set(SOL_NETLINK, NETLINK_EXT_ACK, &1i32)?;
        Ok(socket)
    }

    /// Takes a port that the kernel chooses. A socket without one is left out of
    /// multicasts, because port 0 is the kernel's own.
    fn bind(&self) -> io::Result<()> {
        // SAFETY: sockaddr_nl is plain data for which all zero is valid: any port, no groups.
        let mut address: libc::sockaddr_nl = unsafe { MaybeUninit::zeroed().assume_init() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        // SAFETY: the pointer and size are those of `address`, which outlives the call.
        let result = unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_nl>() as libc::socklen_t,
            )
        };
        check(result as isize)?;
        Ok(())
    }

    /// Joins a multicast group (`RTNLGRP_…`).
    pub(crate) fn join(&self, group: u32) -> io::Result<()> {
        self.set(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group)
    }

    /// Sets both buffers beyond the limits for ordinary users; the kernel doubles the figure.
    pub(crate) fn force_buffers(&self, receive_bytes: i32, send_bytes: i32) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &receive_bytes)?;
        self.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &send_bytes)
    }

    /// A receive that waits longer fails with `WouldBlock`.
    pub(crate) fn patience(&self, time: Duration) -> io::Result<()> {
        let time = libc::timeval {
            tv_sec: time.as_secs() as libc::time_t,
            tv_usec: libc::suseconds_t::from(time.subsec_micros()),
        };
        self.set(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &time)
    }

    /// Hands one or several whole messages to the kernel, which works through
    /// them before this returns.
    pub(crate) fn send(&self, messages: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and length are those of a live slice.
        let sent =
            unsafe { libc::send(self.fd.as_raw_fd(), messages.as_ptr().cast(), messages.len(), 0) };
        check(sent)?;
        Ok(())
    }

    /// One datagram, with one or several messages in it.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the pointer and length are those of a live, exclusive slice.
        let got =
            unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        check(got)
    }

    /// Waits for one datagram and takes all that are there, up to a limit.
    pub(crate) fn receive_many(&self, inbox: &mut Inbox) -> io::Result<usize> {
        let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; MESSAGES_MAX];
        // SAFETY: mmsghdr is plain data for which all zero is valid (no name, no control).
        let mut headers: [libc::mmsghdr; MESSAGES_MAX] =
            unsafe { MaybeUninit::zeroed().assume_init() };
        for ((vector, header), space) in vectors
            .iter_mut()
            .zip(&mut headers)
            .zip(inbox.bytes.chunks_exact_mut(MESSAGE_BYTES_MAX))
        {
            let vector = vector
                .write(libc::iovec { iov_base: space.as_mut_ptr().cast(), iov_len: space.len() });
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: every header points to one vector, every vector to its own
        // part of the inbox, and all of them outlive the call.
        let got = unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                headers.as_mut_ptr(),
                MESSAGES_MAX as libc::c_uint,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        let got = check(got as isize)?;
        for (length, header) in inbox.lengths.iter_mut().zip(&headers[..got]) {
            *length = header.msg_len as usize;
        }
        Ok(got)
    }

    fn set<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        // SAFETY: the pointer and size are those of `value`, which outlives the
        // call; the kernel copies it.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                std::ptr::from_ref(value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        };
        check(result as isize)?;
        Ok(())
    }
}

/// Room for many datagrams.
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    lengths: [usize; MESSAGES_MAX],
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; MESSAGES_MAX * MESSAGE_BYTES_MAX], lengths: [0; MESSAGES_MAX] }
    }

    /// The first `count` datagrams that were received last.
    pub(crate) fn datagrams(&self, count: usize) -> impl Iterator<Item = &[u8]> {
        self.bytes
            .chunks_exact(MESSAGE_BYTES_MAX)
            .zip(&self.lengths)
            .take(count)
            .map(|(space, &length)| &space[..length.min(MESSAGE_BYTES_MAX)])
    }
}

/// Puts the calling process into a new network namespace.
pub(crate) fn new_namespace() -> io::Result<()> {
    // SAFETY: no pointers are passed; affects only this process, which has one thread.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) } as isize)?;
    Ok(())
}

/// Puts the calling process into the network namespace of another one.
pub(crate) fn enter_namespace(pid: u32) -> io::Result<()> {
    let file = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
    // SAFETY: the descriptor is live for the call; affects only this process, which has one thread.
    check(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } as isize)?;
    Ok(())
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
