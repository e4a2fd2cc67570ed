//! New connections: who may come in, and who is told why not.
//!
//! A few descriptors are kept aside, and a few places beyond `sessions_max` are
//! kept for administrators: who comes when all else is taken may ask, but not
//! follow and not stay idle. Everybody else is refused with a goodbye that says
//! why, instead of being left to wait in the listener's queue.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use ipc::epoll::Interest;
use ipc::socket::AcceptError;
use rtm_tables::wire::{DaemonFrame, GoodbyeReason, Role};
use rtm_tables::{NONCE_BYTES, Peer, Transport};

use super::{Clients, get};
use crate::core::Core;
use crate::inventory::Row;
use crate::requests::status::Facts;
use crate::roles::{self, Admins};
use crate::time::since_1970;
use crate::turn::TurnStats;
use crate::wakeup::Wakeup;

/// Connections accepted in one turn.
const PER_TURN: usize = 64;

/// Places beyond the limit that are kept for administrators.
pub(crate) const KEPT: usize = 8;

/// Descriptors that the daemon keeps aside: for accepting somebody only to say
/// goodbye, for reading its configuration again, for looking into /proc.
pub(crate) const RESERVED: usize = 16;

/// How long nobody is accepted after even the reserve was used up.
const PAUSE: Duration = Duration::from_millis(100);

/// A listener, whatever it listens on.
pub(crate) enum Listener {
    /// The Unix socket.
    Unix(ipc::unix::Listener),
    /// TCP.
    Tcp(ipc::tcp::Listener),
    /// The Unix socket of fixed structures.
    Classic(ipc::unix::Listener),
}

impl Listener {
    fn accept(&self) -> Result<OwnedFd, AcceptError> {
        match self {
            Listener::Unix(listener) | Listener::Classic(listener) => listener.accept(),
            Listener::Tcp(listener) => listener.accept().map(|(fd, _)| fd),
        }
    }

    /// Its descriptor, for `status -d`.
    pub(crate) fn row(&self, facts: &Facts, turns: &TurnStats) -> Row {
        let (name, at) = match self {
            Listener::Unix(_) => ("unix", Some(facts.socket.clone())),
            Listener::Tcp(_) => ("tcp", facts.tcp.clone()),
            Listener::Classic(_) => ("classic", facts.classic.clone()),
        };
        let at = at.unwrap_or_default();
        Row::new("listener", self, format!("{name} {at}")).woken(turns.wakeups_by(self.wakeup()))
    }

    /// Its wakeup.
    pub(crate) fn wakeup(&self) -> Wakeup {
        match self {
            Listener::Unix(_) => Wakeup::UnixListener,
            Listener::Tcp(_) => Wakeup::TcpListener,
            Listener::Classic(_) => Wakeup::ClassicListener,
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Listener::Unix(listener) | Listener::Classic(listener) => listener.as_fd(),
            Listener::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// Descriptors held for the moment when there are no others.
#[derive(Default)]
pub(crate) struct Reserve {
    spare: Vec<ipc::event::Event>,
}

impl Reserve {
    /// Takes as many as are missing.
    pub(crate) fn fill(&mut self) {
        while self.spare.len() < RESERVED {
            match ipc::event::Event::new() {
                Ok(event) => self.spare.push(event),
                Err(_) => return,
            }
        }
    }

    /// Those that are held, for `status -d`.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.spare.iter().map(|event| Row::new("reserve", event, ""))
    }
}

/// Why somebody is not let in.
enum Refusal {
    All,
    User,
}

impl Clients {
    /// Lets in who waits. `Some`: not before this has passed, there are no
    /// descriptors left at all.
    pub(crate) fn accept(
        &mut self,
        listener: &Listener,
        admins: &Admins,
        reserve: &mut Reserve,
        core: &mut Core,
    ) -> Option<Duration> {
        for _ in 0..PER_TURN {
            let fd = match listener.accept() {
                Ok(fd) => fd,
                Err(AcceptError::WouldBlock {}) => return None,
                Err(AcceptError::Exhausted { .. }) => {
                    // Limits of others may have taken what we counted on.
                    if reserve.spare.pop().is_none() {
                        tracing::warn!("no descriptor is left for a connection");
                        return Some(PAUSE);
                    }
                    match listener.accept() {
                        Ok(fd) => fd,
                        Err(_) => return Some(PAUSE),
                    }
                }
                Err(error) => {
                    tracing::warn!("a connection can't be accepted: {error}");
                    return Some(PAUSE);
                }
            };
            self.admit(fd, listener, admins, core);
            reserve.fill();
        }
        None
    }

    fn admit(&mut self, fd: OwnedFd, listener: &Listener, admins: &Admins, core: &mut Core) {
        let peer = match listener {
            Listener::Unix(_) | Listener::Classic(_) => match roles::Peer::of(&fd) {
                Ok(peer) => Peer {
                    transport: match listener {
                        Listener::Classic(_) => Transport::Classic,
                        _ => Transport::Unix,
                    },
                    pid: Some(peer.pid).filter(|pid| *pid != 0),
                    uid: Some(peer.uid),
                    role: admins.role(&peer),
                    since: since_1970().as_millis() as u64,
                },
                Err(error) => {
                    tracing::warn!("a connection without credentials: {error}");
                    return;
                }
            },
            Listener::Tcp(_) => {
                prepare_tcp(&fd);
                Peer {
                    transport: Transport::Tcp,
                    pid: None,
                    uid: None,
                    role: Role::Read,
                    since: since_1970().as_millis() as u64,
                }
            }
        };
        let kept = match self.refusal(&peer, core) {
            None => false,
            // A classic client only follows: it has no use for such a place, and no
            // structure to be told why.
            Some(_) if peer.transport == Transport::Classic => {
                core.counters.refused_connections += 1;
                return;
            }
            Some(_) if peer.role == Role::Admin && self.kept < KEPT => true,
            Some(why) => {
                core.counters.refused_connections += 1;
                refuse(&fd, &why, self.sessions_max(core), core);
                return;
            }
        };
        let process = match peer.transport {
            Transport::Tcp => None,
            _ if kept => None,
            _ => self.process_at_accept(&fd),
        };
        let token = self.insert(fd, peer, kept, core);
        if kept {
            if let Some(client) = get(&mut self.slots, token) {
                client.job_deadline = Some(core.now + core.config.limits.hello_timeout_s.0 * 1000);
            }
        }
        let Some(client) = get(&mut self.slots, token) else { return };
        self.pipes += usize::from(process.is_some());
        client.process = process;
        if peer.transport == Transport::Tcp && self.secret.is_some() {
            let mut nonce = [0; NONCE_BYTES];
            // Without random bytes nobody can be asked, and it stays a reader.
            if crate::start::random(&mut nonce).is_ok() {
                client.session.set_nonce(nonce);
            }
        }
        let wakeup = Wakeup::Client(token).number();
        if let Err(error) = self.epoll.add(&client.fd, wakeup, Interest::READ) {
            tracing::error!("a connection can't be watched: {error}");
            self.remove(token, core);
            return;
        }
        tracing::debug!(pid = peer.pid, uid = peer.uid, role = peer.role.name(), "connected");
        // Its hello is often there already.
        client.queued.readable = true;
        self.readable.push_back(token);
        self.arm(token);
    }

    fn refusal(&self, peer: &Peer, core: &Core) -> Option<Refusal> {
        if self.count - self.kept >= self.sessions_max(core) {
            return Some(Refusal::All);
        }
        let of_user = self.per_uid.get(&peer.uid).copied().unwrap_or(0);
        let limit = core.config.limits.sessions_per_uid_max.0 as usize;
        (of_user >= limit).then_some(Refusal::User)
    }
}

/// Small writes go out at once; a peer whose host is gone is found out.
fn prepare_tcp(fd: &OwnedFd) {
    // Neither is needed for anything to be right.
    let _ = rustix::net::sockopt::set_tcp_nodelay(fd, true);
    let _ = ipc::tcp::set_keepalive(fd, Some(ipc::tcp::Keepalive::default()));
}

/// Says goodbye to somebody who never was a session: if it can't be written at
/// once, closing says it, too.
fn refuse(fd: &OwnedFd, why: &Refusal, sessions_max: usize, core: &Core) {
    let text = match why {
        Refusal::All => format!(
            "too many sessions; {sessions_max} are possible (limits.sessions_max, or descriptors)"
        ),
        Refusal::User => format!(
            "too many sessions of this user, or over TCP; {} are possible (limits.sessions_per_uid_max)",
            core.config.limits.sessions_per_uid_max.0
        ),
    };
    let mut bytes = Vec::new();
    DaemonFrame::Goodbye { reason: GoodbyeReason::TooMany, text: &text }.encode(&mut bytes);
    let _ = rustix::io::write(fd, &bytes);
}
