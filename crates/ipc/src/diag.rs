//! The Unix sockets of this network namespace with their peers, as the kernel
//! lists them (`sock_diag`): no privilege needed.
//!
//! ```
//! let (a, b) = ipc::unix::pair(ipc::unix::Kind::SeqPacket)?;
//! let inode = |socket| rustix::fs::fstat(socket).map(|stat| stat.st_ino as u32);
//! let all = ipc::diag::unix_sockets()?;
//! let ours = all.iter().find(|socket| Ok(socket.inode) == inode(&a)).unwrap();
//! assert_eq!(ours.peer, Some(inode(&b)?));
//! assert_eq!(ours.kind, ipc::unix::Kind::SeqPacket);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
use crate::netlink::{Error, KERNEL, Socket};
use crate::unix::{Address, Kind};
use crate::{Errno, SystemError};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// `UDIAG_SHOW_NAME`, `_PEER`, `_RQLEN`, `_UID`.
const SHOW: u32 = 0x1 | 0x4 | 0x10 | 0x40;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_PEER: u16 = 2;
const UNIX_DIAG_RQLEN: u16 = 4;
const UNIX_DIAG_UID: u16 = 7;

const TCP_ESTABLISHED: u8 = 1;
const TCP_LISTEN: u8 = 10;

/// What a socket is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits for connections.
    Listening,
    /// It has a peer.
    Connected,
    /// Neither (a datagram socket may still be sent to).
    Unconnected,
}

/// One Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixSocket {
    /// Its inode, as `/proc/PID/fd` shows it (`socket:[N]`).
    pub inode: u32,
    /// Stream, datagram or records.
    pub kind: Kind,
    /// What it is doing.
    pub state: State,
    /// The name that it is bound to.
    pub name: Option<Address>,
    /// The inode of the socket it is connected to; none, too, if that one hasn't
    /// been accepted yet.
    pub peer: Option<u32>,
    /// Bytes that wait to be read; for a listener: connections that wait to be
    /// accepted.
    pub pending: u32,
    /// Who made it (since Linux 5.3).
    pub uid: Option<u32>,
}

/// All of them, in the kernel's order.
///
/// # Errors
/// EPROTONOSUPPORT, ENOENT: the kernel has no `sock_diag` or no `unix_diag`;
/// `/proc/net/unix` has a list without peers.
///
/// Source: [sock_diag(7)](https://man7.org/linux/man-pages/man7/sock_diag.7.html).
#[doc(alias = "sock_diag")]
#[doc(alias = "unix_diag_req")]
pub fn unix_sockets() -> Result<Vec<UnixSocket>, Error> {
    let socket = Socket::open(libc::NETLINK_SOCK_DIAG as u32)?;
    //  0 length   4 type, flags   8 sequence   12 port    (nlmsghdr)
    // 16 family, protocol, padding   20 states   24 inode   28 show   32 cookie
    let mut request = [0_u8; 40];
    request[0..4].copy_from_slice(&40_u32.to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request[16] = libc::AF_UNIX as u8;
    request[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
    request[28..32].copy_from_slice(&SHOW.to_ne_bytes());
    socket.send(&request)?;
    let failed = |errno| Error::from(SystemError::new("sock_diag", "Unix sockets", errno));
    let mut found = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let datagram = match socket.receive(&mut buffer) {
            Ok(datagram) if datagram.sender == KERNEL => datagram,
            Ok(_) => continue,
            Err(Error::WouldBlock {}) => {
                let mut fds = [rustix::event::PollFd::new(&socket, rustix::event::PollFlags::IN)];
                match rustix::event::poll(&mut fds, None) {
                    Ok(_) | Err(Errno::INTR) => continue,
                    Err(errno) => return Err(failed(errno)),
                }
            }
            Err(error) => return Err(error),
        };
        let mut rest = &buffer[..datagram.len];
        while let Some((len, kind)) = header(rest) {
            let payload = &rest[16..len];
            match kind {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => {
                    let code = payload
                        .get(..4)
                        .map_or(0, |b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
                    return Err(failed(Errno::from_raw_os_error(-code)));
                }
                SOCK_DIAG_BY_FAMILY => found.extend(decode(payload)),
                _ => {}
            }
            rest = &rest[(len.next_multiple_of(4)).min(rest.len())..];
        }
    }
}

/// Length and type of the first message, if a whole one is there.
fn header(bytes: &[u8]) -> Option<(usize, u16)> {
    let len = u32_at(bytes, 0)? as usize;
    let kind = u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?]);
    (16..=bytes.len()).contains(&len).then_some((len, kind))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// `unix_diag_msg` (16 bytes) and its attributes.
fn decode(payload: &[u8]) -> Option<UnixSocket> {
    let kind = match i32::from(*payload.get(1)?) {
        libc::SOCK_STREAM => Kind::Stream,
        libc::SOCK_DGRAM => Kind::Datagram,
        libc::SOCK_SEQPACKET => Kind::SeqPacket,
        _ => return None,
    };
    let mut socket = UnixSocket {
        inode: u32_at(payload, 4)?,
        kind,
        state: match *payload.get(2)? {
            TCP_LISTEN => State::Listening,
            TCP_ESTABLISHED => State::Connected,
            _ => State::Unconnected,
        },
        name: None,
        peer: None,
        pending: 0,
        uid: None,
    };
    let mut rest = payload.get(16..)?;
    while rest.len() >= 4 {
        let len = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let Some(value) = rest.get(4..len) else { break };
        match u16::from_ne_bytes([rest[2], rest[3]]) {
            UNIX_DIAG_NAME => socket.name = name(value),
            UNIX_DIAG_PEER => socket.peer = u32_at(value, 0).filter(|inode| *inode != 0),
            UNIX_DIAG_RQLEN => socket.pending = u32_at(value, 0).unwrap_or(0),
            UNIX_DIAG_UID => socket.uid = u32_at(value, 0),
            _ => {}
        }
        rest = &rest[len.next_multiple_of(4).min(rest.len())..];
    }
    Some(socket)
}

fn name(bytes: &[u8]) -> Option<Address> {
    use std::os::unix::ffi::OsStrExt;
    match bytes {
        [] => None,
        [0, name @ ..] => Some(Address::Abstract(name.to_vec())),
        path => {
            let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
            Some(Address::Path(std::ffi::OsStr::from_bytes(&path[..end]).into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_cut_off_are_no_sockets() {
        let (_a, _b) = crate::unix::pair(Kind::Stream).unwrap();
        assert!(!unix_sockets().unwrap().is_empty());
        let whole = [1, 1, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 2, 0, 7, 0, 0, 0];
        let socket = decode(&whole).unwrap();
        assert_eq!((socket.inode, socket.peer), (9, Some(7)));
        for len in 0..whole.len() {
            let _ = decode(&whole[..len]);
            let _ = header(&whole[..len]);
        }
        assert_eq!(decode(&whole[..8]), None);
        // A length that leads nowhere ends the attributes.
        let mut wrong = whole;
        wrong[16] = 0;
        assert_eq!(decode(&wrong).unwrap().peer, None);
    }
}
