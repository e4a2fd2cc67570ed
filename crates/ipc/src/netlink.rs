//! The raw netlink socket: datagrams from and to the kernel, with the three
//! conditions that a reader must tell apart (nothing there, overrun, cut off).
//! What the datagrams mean is not this crate's business.
//!
//! ```
//! use ipc::netlink::{self, Socket};
//! let socket = Socket::open(netlink::ROUTE)?;
//! socket.set_strict_check(true)?;
//! // RTM_GETLINK of the interface with index 1 (lo), as a request.
//! let mut request = [0; 32];
//! request[0..4].copy_from_slice(&32_u32.to_ne_bytes()); // nlmsg_len
//! request[4..6].copy_from_slice(&18_u16.to_ne_bytes()); // RTM_GETLINK
//! request[6..8].copy_from_slice(&1_u16.to_ne_bytes()); // NLM_F_REQUEST
//! request[20..24].copy_from_slice(&1_i32.to_ne_bytes()); // ifi_index
//! socket.send(&request)?;
//! let mut answer = vec![0; 32 * 1024];
//! let datagram = socket.receive(&mut answer)?; // the kernel has answered already
//! assert_eq!(datagram.sender, netlink::KERNEL);
//! assert_eq!(u16::from_ne_bytes([answer[4], answer[5]]), 16); // RTM_NEWLINK
//! assert!(matches!(socket.receive(&mut answer), Err(netlink::Error::WouldBlock {})));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code)] // sockaddr_nl of a sender: one recvfrom by hand, without an allocation
use core::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketFlags, SocketType};

use crate::error::operation_error;
use crate::{Errno, SystemError, sockopt};

/// `NETLINK_ROUTE`: links, addresses, routes, neighbours.
pub const ROUTE: u32 = libc::NETLINK_ROUTE as u32;
/// `NETLINK_GENERIC`.
pub const GENERIC: u32 = libc::NETLINK_GENERIC as u32;
/// The kernel's own port id, as a sender.
pub const KERNEL: u32 = 0;

operation_error! {
    /// What a reader of a netlink socket meets.
    Error {
        /// Nothing is there.
        WouldBlock {} => AGAIN, "nothing to receive";
        /// The receive buffer has overrun and events are lost, how many nobody
        /// knows: dump anew. Reported once for each overrun.
        Overrun {} => NOBUFS, "the receive buffer has overrun, events are lost; dump again";
        /// A datagram was longer than the buffer; what fits is in it.
        Truncated {
            /// The datagram's true length.
            len: usize,
            /// The buffer's.
            limit: usize,
        } => MSGSIZE, "a datagram of {len} bytes, cut off at the buffer's {limit}";
    }
}

/// One received datagram; its bytes are in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// How many bytes.
    pub len: usize,
    /// The sender's port id. Anybody may send to a netlink socket: only
    /// [`KERNEL`] is the kernel.
    pub sender: u32,
    /// The multicast groups (as a mask of the first 32) that it went to; 0: to
    /// this socket alone.
    pub groups: u32,
}

/// A bound, non-blocking netlink socket with a port id of its own.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    protocol: u32,
    port: u32,
}

/// One instruction of a classic BPF program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if true.
    pub if_true: u8,
    /// Instructions to skip if false.
    pub if_false: u8,
    /// Operand.
    pub k: u32,
}

impl Socket {
    /// Opens and binds one; the kernel chooses the port id.
    ///
    /// # Errors
    /// EPROTONOSUPPORT; EMFILE, ENFILE.
    ///
    /// Source: [netlink(7)](https://man7.org/linux/man-pages/man7/netlink.7.html).
    #[doc(alias = "AF_NETLINK")]
    pub fn open(protocol: u32) -> Result<Self, Error> {
        let failed =
            |call| move |errno| SystemError::new(call, format!("netlink {protocol}"), errno);
        let number = core::num::NonZeroU32::new(protocol).map(Protocol::from_raw);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, number)
            .map_err(failed("socket"))?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0)).map_err(failed("bind"))?;
        let address = rustix::net::getsockname(&fd).map_err(failed("getsockname"))?;
        let address = SocketAddrNetlink::try_from(address).map_err(failed("getsockname"))?;
        Ok(Self { fd, protocol, port: address.pid() })
    }

    /// This socket's port id: the `nlmsg_pid` of answers to it.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.port
    }

    fn set(&self, call: &'static str, name: i32, value: u32) -> Result<(), SystemError> {
        sockopt::set(self.fd.as_fd(), libc::SOL_NETLINK, name, value)
            .map_err(|errno| SystemError::new(call, format!("netlink {}", self.protocol), errno))
    }

    /// Joins a multicast group by its number (`RTNLGRP_…`, not the old mask).
    ///
    /// # Errors
    /// EINVAL: no such group; EPERM for a group that needs privilege.
    #[doc(alias = "NETLINK_ADD_MEMBERSHIP")]
    pub fn join(&self, group: u32) -> Result<(), SystemError> {
        self.set("setsockopt(NETLINK_ADD_MEMBERSHIP)", libc::NETLINK_ADD_MEMBERSHIP, group)
    }

    /// Leaves a multicast group.
    ///
    /// # Errors
    /// EINVAL: no such group.
    #[doc(alias = "NETLINK_DROP_MEMBERSHIP")]
    pub fn leave(&self, group: u32) -> Result<(), SystemError> {
        self.set("setsockopt(NETLINK_DROP_MEMBERSHIP)", libc::NETLINK_DROP_MEMBERSHIP, group)
    }

    /// Makes the kernel check requests strictly: without it the filters of a
    /// dump (table, protocol, interface) are ignored.
    ///
    /// # Errors
    /// ENOPROTOOPT before Linux 4.20.
    #[doc(alias = "NETLINK_GET_STRICT_CHK")]
    pub fn set_strict_check(&self, on: bool) -> Result<(), SystemError> {
        let name = libc::NETLINK_GET_STRICT_CHK;
        self.set("setsockopt(NETLINK_GET_STRICT_CHK)", name, on.into())
    }

    /// Makes the kernel explain its refusals in words.
    ///
    /// # Errors
    /// ENOPROTOOPT before Linux 4.12.
    #[doc(alias = "NETLINK_EXT_ACK")]
    pub fn set_extended_ack(&self, on: bool) -> Result<(), SystemError> {
        self.set("setsockopt(NETLINK_EXT_ACK)", libc::NETLINK_EXT_ACK, on.into())
    }

    /// Keeps the request out of error answers (only its header comes back).
    ///
    /// # Errors
    /// ENOPROTOOPT before Linux 4.3.
    #[doc(alias = "NETLINK_CAP_ACK")]
    pub fn set_capped_ack(&self, on: bool) -> Result<(), SystemError> {
        self.set("setsockopt(NETLINK_CAP_ACK)", libc::NETLINK_CAP_ACK, on.into())
    }

    /// Filters what is received by a classic BPF program over the datagram: it
    /// returns how many bytes to keep, 0 to drop it. Netlink's fields are in
    /// host byte order, BPF loads in network order.
    ///
    /// # Errors
    /// EINVAL: the kernel refuses the program; ENOMEM.
    ///
    /// Source: [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html), `SO_ATTACH_FILTER`.
    #[doc(alias = "SO_ATTACH_FILTER")]
    pub fn attach_filter(&self, program: &[Instruction]) -> Result<(), SystemError> {
        let raw: Vec<libc::sock_filter> = program
            .iter()
            .map(|i| libc::sock_filter { code: i.code, jt: i.if_true, jf: i.if_false, k: i.k })
            .collect();
        sockopt::attach_filter(self.fd.as_fd(), &raw).map_err(|errno| {
            let object = format!("netlink {}", self.protocol);
            SystemError::new("setsockopt(SO_ATTACH_FILTER)", object, errno)
        })
    }

    /// Sends a request (one or several messages in one datagram) to the kernel.
    ///
    /// # Errors
    /// [`Error::WouldBlock`]; EMSGSIZE beyond the send buffer; EPERM.
    #[doc(alias = "sendto")]
    pub fn send(&self, request: &[u8]) -> Result<(), Error> {
        let kernel = SocketAddrNetlink::new(KERNEL, 0);
        loop {
            return match rustix::net::sendto(&self.fd, request, SendFlags::empty(), &kernel) {
                Ok(_) => Ok(()),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Err(Error::WouldBlock {}),
                Err(errno) => Err(self.failed("sendto", errno)),
            };
        }
    }

    /// Receives one datagram.
    ///
    /// # Errors
    /// [`Error::WouldBlock`], [`Error::Overrun`], [`Error::Truncated`].
    #[doc(alias = "recvfrom")]
    #[doc(alias = "MSG_TRUNC")]
    #[doc(alias = "ENOBUFS")]
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Datagram, Error> {
        let mut address = MaybeUninit::<libc::sockaddr_nl>::zeroed();
        let received = loop {
            let mut len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            // SAFETY: buffer and address are live and described by their
            // lengths; with MSG_TRUNC the result may exceed the buffer's
            // length, but no more than that is written.
            let n = unsafe {
                libc::recvfrom(
                    self.fd.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    libc::MSG_TRUNC,
                    address.as_mut_ptr().cast(),
                    &mut len,
                )
            };
            match usize::try_from(n) {
                Ok(n) => break n,
                Err(_) => match sockopt::last_errno() {
                    Errno::INTR => {}
                    Errno::AGAIN => return Err(Error::WouldBlock {}),
                    Errno::NOBUFS => return Err(Error::Overrun {}),
                    errno => return Err(self.failed("recvfrom", errno)),
                },
            }
        };
        if received > buffer.len() {
            return Err(Error::Truncated { len: received, limit: buffer.len() });
        }
        // SAFETY: integers only, zeroed before.
        let address = unsafe { address.assume_init() };
        Ok(Datagram { len: received, sender: address.nl_pid, groups: address.nl_groups })
    }

    fn failed(&self, call: &'static str, errno: Errno) -> Error {
        SystemError::new(call, format!("netlink {}", self.protocol), errno).into()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
