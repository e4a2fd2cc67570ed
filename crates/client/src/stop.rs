//! Being asked to stop: SIGINT and SIGTERM as a descriptor.
//!
//! A client that is interrupted says goodbye before it ends; for that the
//! signals must not end it, and its wait must see them.

use std::os::fd::{AsFd, BorrowedFd};

use ipc::SystemError;
use ipc::signal::{Signal, SignalFd, SignalSet, set_mask};

/// From its making on, SIGINT and SIGTERM are read here and end nothing;
/// from its drop on they act as before.
#[derive(Debug)]
pub struct Stop {
    fd: SignalFd,
    before: SignalSet,
}

impl Stop {
    /// Takes the two signals over. Make it before other threads start: they
    /// inherit the mask.
    ///
    /// # Errors
    /// EMFILE.
    pub fn new() -> Result<Stop, SystemError> {
        let before = ipc::signal::block(&SignalSet::of(&[]));
        let fd = SignalFd::new(&SignalSet::of(&[Signal::INT, Signal::TERM]))?;
        Ok(Stop { fd, before })
    }

    /// The exit code that says so (130 for SIGINT, 143 for SIGTERM), if one
    /// has come.
    pub fn asked(&self) -> Option<u8> {
        let info = self.fd.read().ok().flatten()?;
        Some(if info.signal == Signal::INT { 130 } else { 143 })
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        set_mask(&self.before);
    }
}
