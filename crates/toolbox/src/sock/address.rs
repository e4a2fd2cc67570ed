//! Where a socket lives, as the command line writes it, and what of the crate
//! listens or connects there.
use core::fmt;
use core::time::Duration;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use clap::ValueEnum;
use ipc::{tcp, unix};
use rustix::net::SocketAddrAny;

use crate::failure::Failure;

/// Stream, datagram or records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A byte stream
    Stream,
    /// Datagrams without a connection
    Dgram,
    /// A connection that keeps the boundaries of what was written
    Seqpacket,
}

impl Kind {
    pub(crate) fn of_unix(self) -> unix::Kind {
        match self {
            Self::Stream => unix::Kind::Stream,
            Self::Dgram => unix::Kind::Datagram,
            Self::Seqpacket => unix::Kind::SeqPacket,
        }
    }

    pub(crate) fn c_name(self) -> &'static str {
        match self {
            Self::Stream => "SOCK_STREAM",
            Self::Dgram => "SOCK_DGRAM",
            Self::Seqpacket => "SOCK_SEQPACKET",
        }
    }
}

/// An address of the command line.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Unix(unix::Address),
    Tcp(String),
    Udp(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(unix::Address::Path(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(unix::Address::Abstract(name)) => {
                write!(f, "abstract:{}", name.escape_ascii())
            }
            Self::Tcp(text) => write!(f, "tcp:{text}"),
            Self::Udp(text) => write!(f, "udp:{text}"),
        }
    }
}

/// `unix:PATH`, `abstract:NAME`, `tcp:HOST:PORT`, `udp:HOST:PORT`.
pub(crate) fn address(text: &str) -> Result<Address, String> {
    let wrong = "an address is unix:PATH, abstract:NAME, tcp:HOST:PORT or udp:HOST:PORT";
    let (family, rest) = text.split_once(':').ok_or(wrong)?;
    let internet = || match rest.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(rest.to_owned())
        }
        _ => Err(format!("{rest}: HOST:PORT is like 127.0.0.1:7000 or [::1]:7000")),
    };
    match family {
        "unix" if !rest.is_empty() => Ok(Address::Unix(unix::Address::Path(rest.into()))),
        "abstract" if !rest.is_empty() => Ok(Address::Unix(unix::Address::Abstract(rest.into()))),
        "tcp" => internet().map(Address::Tcp),
        "udp" => internet().map(Address::Udp),
        _ => Err(wrong.to_owned()),
    }
}

/// The numbers of a host's name.
pub(crate) fn resolve(text: &str) -> Result<Vec<SocketAddr>, Failure> {
    let found: Vec<_> =
        text.to_socket_addrs().map_err(|e| Failure::refused(format!("{text}: {e}")))?.collect();
    if found.is_empty() {
        return Err(Failure::refused(format!("{text}: the name has no address")));
    }
    Ok(found)
}

impl Address {
    /// The kind that it has: what was asked for, or the family's own.
    pub(crate) fn kind(&self, asked: Option<Kind>) -> Result<Kind, Failure> {
        let only = |kind: Kind, name: &str| match asked {
            Some(other) if other != kind => Err(Failure::usage(format!(
                "{self}: {name} has only --type {}",
                kind.to_possible_value().expect("all have one").get_name()
            ))),
            _ => Ok(kind),
        };
        match self {
            Self::Unix(_) => Ok(asked.unwrap_or(Kind::Stream)),
            Self::Tcp(_) => only(Kind::Stream, "tcp"),
            Self::Udp(_) => only(Kind::Dgram, "udp"),
        }
    }

    pub(crate) fn c_family(&self) -> &'static str {
        match self {
            Self::Unix(_) => "AF_UNIX",
            Self::Tcp(text) | Self::Udp(text) if text.starts_with('[') => "AF_INET6",
            Self::Tcp(_) | Self::Udp(_) => "AF_INET",
        }
    }
}

/// What waits for others.
pub(crate) enum Endpoint {
    Unix(unix::Listener),
    Tcp(tcp::Listener),
    Udp(UdpSocket),
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
        }
    }
}

impl Endpoint {
    pub(crate) fn bind(address: &Address, kind: Kind, mode: u32) -> Result<Self, Failure> {
        Ok(match address {
            Address::Unix(name) => {
                Self::Unix(unix::Listener::bind(name.clone(), kind.of_unix(), mode)?)
            }
            Address::Tcp(text) => Self::Tcp(tcp::Listener::bind(resolve(text)?[0])?),
            Address::Udp(text) => {
                let failed = |e| Failure::refused(format!("{text}: {e}"));
                let socket = UdpSocket::bind(&resolve(text)?[..]).map_err(failed)?;
                socket.set_nonblocking(true).map_err(failed)?;
                Self::Udp(socket)
            }
        })
    }

    /// Where it is: with the port that the system chose for port 0.
    pub(crate) fn local(&self, asked: &Address) -> String {
        match self {
            Self::Unix(_) => asked.to_string(),
            Self::Tcp(listener) => match listener.local_address() {
                Ok(address) => format!("tcp:{address}"),
                Err(_) => asked.to_string(),
            },
            Self::Udp(socket) => match socket.local_addr() {
                Ok(address) => format!("udp:{address}"),
                Err(_) => asked.to_string(),
            },
        }
    }
}

/// Connects, each of a host's addresses in turn.
pub(crate) fn connect(
    address: &Address,
    kind: Kind,
    timeout: Option<Duration>,
) -> Result<OwnedFd, Failure> {
    match address {
        Address::Unix(name) if kind == Kind::Dgram => Ok(unix::connect_answerable(name.clone())?),
        Address::Unix(name) => Ok(unix::connect(name.clone(), kind.of_unix())?),
        Address::Tcp(text) => {
            let mut last = None;
            for one in resolve(text)? {
                match tcp::connect(one, timeout) {
                    Ok(socket) => return Ok(socket),
                    Err(error) => last = Some(error),
                }
            }
            Err(last.expect("at least one address").into())
        }
        Address::Udp(text) => {
            let to = resolve(text)?;
            let any = if to[0].is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let failed = |e| Failure::refused(format!("{text}: {e}"));
            let socket = UdpSocket::bind(any).map_err(failed)?;
            socket.connect(to[0]).map_err(failed)?;
            Ok(socket.into())
        }
    }
}

/// A datagram's sender, if it can be answered.
pub(crate) fn source(address: &SocketAddrAny) -> Option<String> {
    if let Ok(address) = SocketAddr::try_from(address.clone()) {
        return Some(address.to_string());
    }
    let address = rustix::net::SocketAddrUnix::try_from(address.clone()).ok()?;
    match (address.path_bytes(), address.abstract_name()) {
        (Some(path), _) => Some(path.escape_ascii().to_string()),
        (_, Some(name)) => Some(format!("@{}", name.escape_ascii())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for text in ["unix:/run/a:b", "abstract:x", "tcp:localhost:80", "udp:[::1]:9"] {
            assert_eq!(address(text).unwrap().to_string(), text);
        }
        for text in
            ["", "unix:", "/run/x", "tcp:80", "tcp::80", "tcp:a:b", "tcp:a:70000", "sctp:a:1"]
        {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
