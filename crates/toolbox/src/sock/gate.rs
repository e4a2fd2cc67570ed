//! What every server begins with: a stale name removed, its name or port taken,
//! the signals that end it, and the set in which it waits for all of them and
//! for what it accepts.
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use ipc::epoll::{Epoll, Interest};
use ipc::signal::SignalFd;
use ipc::socket::AcceptError;
use ipc::unix;

use super::address::{Address, Endpoint, Kind};
use super::{ended_by, ending_signals, step, who};
use crate::failure::Failure;
use crate::table::Names;

/// The listener's token.
pub(crate) const LISTENER: u64 = 0;
/// The ending signals' token.
pub(crate) const SIGNALS: u64 = 1;
/// The first token that is a server's own.
pub(crate) const FREE: u64 = 2;

/// The listener and the set that it is in.
pub(crate) struct Gate {
    pub(crate) epoll: Epoll,
    pub(crate) endpoint: Endpoint,
    /// Where it is: with the port that was chosen.
    pub(crate) local: String,
    signals: SignalFd,
    listening: bool,
    names: Names,
}

impl Gate {
    /// Opens it; `verbose` says each step.
    pub(crate) fn open(
        address: &Address,
        kind: Kind,
        mode: u32,
        verbose: bool,
    ) -> Result<Self, Failure> {
        // First, so that a signal finds nothing that would be left behind.
        let signals = ending_signals()?;
        let mut mode_shown = String::new();
        if let Address::Unix(unix::Address::Path(path)) = address {
            mode_shown = format!(", mode {mode:04o}");
            if unix::remove_stale(path)? {
                let path = path.display();
                step(verbose, format!("unlink: {path}: a name left behind by another"));
            }
        }
        let endpoint = Endpoint::bind(address, kind, mode)?;
        let (family, number) = (address.c_family(), endpoint.as_fd().as_raw_fd());
        step(verbose, format!("socket: {family}, {}: descriptor {number}", kind.c_name()));
        let local = endpoint.local(address);
        step(verbose, format!("bind: {local}{mode_shown}"));
        if kind != Kind::Dgram {
            step(verbose, format!("listen: up to {} may wait", unix::BACKLOG));
        }
        let epoll = Epoll::new()?;
        epoll.add(&endpoint, LISTENER, Interest::READ)?;
        epoll.add(&signals, SIGNALS, Interest::READ)?;
        let names = Names::load();
        Ok(Self { epoll, endpoint, local, signals, listening: true, names })
    }

    /// Hears the listener or doesn't: who has no room for one more leaves it
    /// waiting.
    pub(crate) fn listen(&mut self, on: bool) -> Result<(), Failure> {
        if self.listening != on {
            self.listening = on;
            let interest = if on { Interest::READ } else { Interest::NONE };
            self.epoll.modify(&self.endpoint, LISTENER, interest)?;
        }
        Ok(())
    }

    /// The next connection, and over TCP where it comes from; none: nobody waits.
    pub(crate) fn accept(&self) -> Result<Option<(OwnedFd, Option<SocketAddr>)>, AcceptError> {
        let accepted = match &self.endpoint {
            Endpoint::Unix(listener) => listener.accept().map(|fd| (fd, None)),
            Endpoint::Tcp(listener) => listener.accept().map(|(fd, from)| (fd, Some(from))),
            Endpoint::Udp(_) => unreachable!("datagrams have no connections"),
        };
        match accepted {
            Ok(accepted) => Ok(Some(accepted)),
            Err(AcceptError::WouldBlock {}) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Who it is, in words: an address, or the process behind a Unix socket.
    pub(crate) fn who(&self, fd: &OwnedFd, from: Option<SocketAddr>) -> String {
        from.map_or_else(|| who(fd, &self.names), |from| from.to_string())
    }

    /// To be asked when [`SIGNALS`] is ready: an error, if a signal ends us.
    pub(crate) fn ended(&self) -> Result<(), Failure> {
        ended_by(&self.signals)?.map_or(Ok(()), Err)
    }
}
