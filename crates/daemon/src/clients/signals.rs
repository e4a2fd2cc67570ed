//! Registered clients, and the signal of a whole flush.
//!
//! The signal is a hint beside the stream: the FLUSH record is what empties a
//! copy. What is promised is its place: before any later record is written to
//! the session. So a flush marks every registered session, and whatever is
//! written to one is preceded by its signal; who has nothing to be written is
//! signalled in slices.
//!
//! ```text
//!   flush ──> due for all registered ──┬─ about to write to it: signal, then write
//!                                      └─ the stage's slice: signal
//! ```
//!
//! **Whom.** A client that armed a pipe is signalled by a byte in it, which
//! reaches nobody but who armed it, whatever user it is, and nobody at all after
//! an exec: there is no second way for it. Any other is signalled through the
//! pidfd of the connection's peer, held from accept on. The kernel keeps that
//! process's identity with the socket (`SO_PEERPIDFD`), so no pid that was reused
//! can be meant; that a process keeps its identity over an exec is what remains,
//! and is documented. A kernel before 6.5 can't give one: then only the pipe
//! signals.
//!
//! **Until when.** The pidfd also tells of the process's end: session and
//! registration go with it, even while a forked child holds the socket open.

use std::os::fd::{AsFd, OwnedFd};

use ipc::epoll::Interest;
use ipc::signal::Signal;
use rtm_tables::wire::{DescriptorKind, SignalWay};
use rtm_tables::{SignalInfo, Transport};

use super::descriptors::Told;
use super::{Clients, get};
use crate::core::Core;
use crate::wakeup::{ClientToken, Wakeup};

/// Sessions signalled in one turn beside those that are written to.
const PER_TURN: usize = 256;

/// A client that wants to be signalled.
pub(super) struct Registration {
    /// The pid that it sent.
    pid: u32,
    way: Way,
    sent: u64,
    /// A flush happened, and it wasn't signalled yet.
    due: bool,
}

/// How it is signalled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Pipe,
    /// Its pipe has no reader any more.
    PipeClosed,
    Process,
    NotPermitted,
    /// Nothing is held that names its process: the kernel is too old.
    NoProcess,
}

impl Registration {
    fn info(&self) -> SignalInfo {
        let way = match self.way {
            Way::Pipe => SignalWay::Pipe.name(),
            Way::PipeClosed => "unsignalled (pipe closed)",
            Way::Process => SignalWay::Process.name(),
            Way::NotPermitted => SignalWay::NotPermitted.name(),
            Way::NoProcess => "unsignalled (no pidfd)",
        };
        SignalInfo { pid: self.pid, way, sent: self.sent }
    }
}

impl Clients {
    /// The process at the other end of a Unix socket, to be held from accept on, as
    /// long as no more than half of the descriptors for connections are in use: a
    /// place to connect is worth more to others. Who gets none now gets it when it
    /// registers.
    pub(super) fn process_at_accept(&self, socket: impl AsFd) -> Option<OwnedFd> {
        if 2 * (self.count + self.pipes + 1) > self.descriptors {
            return None;
        }
        ipc::peer::pidfd(socket).ok()
    }

    /// A client sent its process id.
    pub(super) fn register(&mut self, token: ClientToken, pid: u32, core: &mut Core) {
        let (way, text) = match self.try_register(token, pid) {
            Ok(way) => (way, String::new()),
            Err(why) => {
                core.counters.registrations_refused += 1;
                tracing::info!(session = token.number(), "registration refused: {why}");
                (SignalWay::Refused, why)
            }
        };
        let Some(client) = get(&mut self.slots, token) else { return };
        client.session.registered(way, &text);
        self.queue_answer(token);
    }

    /// Checks and notes a registration.
    ///
    /// # Errors
    /// Why it is refused: one line.
    pub(super) fn try_register(
        &mut self,
        token: ClientToken,
        pid: u32,
    ) -> Result<SignalWay, String> {
        let room = self.count + self.pipes + 1 < self.descriptors;
        let Some(client) = get(&mut self.slots, token) else { return Err(String::new()) };
        if client.session.peer().transport == Transport::Tcp {
            return Err(
                "register: over TCP nobody's process is known; a Unix socket would be right"
                    .to_owned(),
            );
        }
        if client.registration.is_some() {
            return Err(format!("register: pid {pid}: this session is registered already"));
        }
        let Some(peer) = client.session.peer().pid else {
            return Err(format!(
                "register: pid {pid}: the peer's process is in a pid namespace that can't be seen from here"
            ));
        };
        if client.process.is_none() {
            if !room {
                return Err("register: no descriptor is left (RLIMIT_NOFILE)".to_owned());
            }
            client.process = ipc::peer::pidfd(&client.fd).ok();
            self.pipes += usize::from(client.process.is_some());
        }
        if peer != pid && pid_in_namespace(peer) != Some(pid) {
            return Err(format!(
                "register: pid {pid}: not this connection's process; its own pid would be right"
            ));
        }
        // What /proc said is of the peer only if the peer still lives.
        let process = client.process.as_ref();
        if process.is_some_and(|process| ipc::pidfd::has_ended(process).unwrap_or(true)) {
            return Err(format!("register: pid {pid}: the process has ended"));
        }
        let way = match (process, client.pipes.has_signal()) {
            (_, true) => Way::Pipe,
            (Some(process), false) if may_signal(process) => Way::Process,
            (Some(_), false) => Way::NotPermitted,
            (None, false) => Way::NoProcess,
        };
        if let Some(process) = process {
            let number = Wakeup::Process(token).number();
            if let Err(error) = self.epoll.add(process, number, Interest::READ) {
                return Err(format!("register: {error}"));
            }
        }
        let registration = Registration { pid, way, sent: 0, due: false };
        client.session.set_signal(Some(registration.info()));
        client.registration = Some(registration);
        Ok(match way {
            Way::Pipe | Way::PipeClosed => SignalWay::Pipe,
            Way::Process => SignalWay::Process,
            Way::NotPermitted | Way::NoProcess => SignalWay::NotPermitted,
        })
    }

    /// A registered client's process has ended: its session goes with it.
    pub(crate) fn process_ended(&mut self, token: ClientToken) {
        let Some(client) = get(&mut self.slots, token) else { return };
        client.process_wakeups += 1;
        if client.registration.is_some() {
            self.ended.push(token);
        }
    }

    /// A whole flush happened: everybody who registered is to be signalled. To a
    /// classic client the signal says that all is gone, so one of the two tables
    /// alone comes to it as deletes.
    pub(crate) fn flushed(&mut self, of_all: bool) {
        for slot in &mut self.slots {
            let Some(client) = &mut slot.client else { continue };
            let Some(registration) = &mut client.registration else { continue };
            if client.session.is_classic() && !of_all {
                continue;
            }
            if !std::mem::replace(&mut registration.due, true) {
                self.to_signal.push_back(client.token);
            }
        }
    }

    /// Signals those that are due, a slice of them. True: there are more.
    pub(crate) fn signal_some(&mut self) -> bool {
        for _ in 0..PER_TURN {
            let Some(token) = self.to_signal.pop_front() else { return false };
            self.signal(token);
        }
        !self.to_signal.is_empty()
    }

    /// Signals one, if it is due: before anything is written to it.
    pub(super) fn signal(&mut self, token: ClientToken) {
        let Some(client) = get(&mut self.slots, token) else { return };
        let Some(registration) = client.registration.as_mut() else { return };
        if !std::mem::take(&mut registration.due) {
            return;
        }
        match registration.way {
            Way::Pipe => {
                let told = self.tell(token, DescriptorKind::SignalPipe);
                let Some(client) = get(&mut self.slots, token) else { return };
                let Some(registration) = client.registration.as_mut() else { return };
                if told == Told::Yes {
                    registration.sent += 1;
                } else {
                    registration.way = Way::PipeClosed;
                }
            }
            Way::Process => {
                let Some(process) = &client.process else { return };
                match ipc::pidfd::send(process, Signal::USR1) {
                    Ok(()) => registration.sent += 1,
                    // It changed its user since.
                    Err(ipc::pidfd::Error::NotPermitted { .. }) => {
                        registration.way = Way::NotPermitted;
                    }
                    // It has ended; the loop is being told.
                    Err(_) => {}
                }
            }
            Way::PipeClosed | Way::NotPermitted | Way::NoProcess => {}
        }
        if let Some(client) = get(&mut self.slots, token) {
            let info = client.registration.as_ref().map(Registration::info);
            client.session.set_signal(info);
        }
    }
}

/// May the daemon signal it? Signal 0 asks without sending.
fn may_signal(process: &OwnedFd) -> bool {
    ipc::pidfd::may_signal(process).is_ok()
}

/// What a process in a pid namespace sees itself as: the last `NSpid` of its
/// status, proc_pid_status(5).
fn pid_in_namespace(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().next_back()?.parse().ok()
}
