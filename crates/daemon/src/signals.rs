//! Signals, read in the loop like everything else.
//!
//! TERM and INT drain, HUP reads the configuration again, CHLD reaps, CONT says
//! that the terminal may be ours again. PIPE is ignored: a closed socket is an
//! error of the write. TTIN and TTOU are blocked: a daemon that was put into
//! the background must not be stopped by its own console.

use ipc::signal::{Signal, SignalFd, SignalSet};

use crate::inventory::Row;
use crate::turn::TurnStats;
use crate::wakeup::Wakeup;

/// What a signal wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Stop: drain and say goodbye.
    Stop,
    /// Read the configuration again.
    Reload,
    /// The process goes on after a stop.
    Continued,
}

/// The signals' descriptor.
pub(crate) struct Signals {
    fd: SignalFd,
    /// Bytes that were read of it.
    bytes: u64,
}

impl Signals {
    /// Blocks them for this thread and those that it starts: before any other.
    pub(crate) fn new() -> Result<Signals, ipc::SystemError> {
        ipc::signal::ignore_pipe();
        ipc::signal::block(&SignalSet::of(&[Signal::TTIN, Signal::TTOU]));
        let set =
            SignalSet::of(&[Signal::TERM, Signal::INT, Signal::HUP, Signal::CHLD, Signal::CONT]);
        Ok(Signals { fd: SignalFd::new(&set)?, bytes: 0 })
    }

    /// The descriptor to watch.
    pub(crate) fn fd(&self) -> &SignalFd {
        &self.fd
    }

    /// Their descriptor, for `status -d`.
    pub(crate) fn row(&self, turns: &TurnStats) -> Row {
        Row::new("signal", &self.fd, "TERM INT HUP CHLD CONT")
            .woken(turns.wakeups_by(Wakeup::Signal))
            .read(self.bytes, 0)
    }

    /// The next order, if a signal is pending.
    pub(crate) fn next(&mut self) -> Option<Order> {
        loop {
            let info = match self.fd.read() {
                Ok(info) => info?,
                Err(error) => {
                    tracing::error!("signals can't be read: {error}");
                    return None;
                }
            };
            self.bytes += SignalFd::INFO_BYTES as u64;
            tracing::debug!(signal = info.signal.name(), pid = info.pid, "signal");
            match info.signal {
                Signal::TERM | Signal::INT => return Some(Order::Stop),
                Signal::HUP => return Some(Order::Reload),
                Signal::CONT => return Some(Order::Continued),
                Signal::CHLD => reap(),
                _ => {}
            }
        }
    }
}

/// Takes the status of children that have ended. The daemon starts none; what
/// it was started with (a shell's `exec`) may have.
fn reap() {
    while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
}
