//! A counter as a descriptor, to wake a loop from another thread.
//!
//! ```
//! let event = ipc::event::Event::new()?;
//! event.notify()?;
//! event.notify()?;
//! assert_eq!(event.take()?, 2);
//! assert_eq!(event.take()?, 0); // never blocks
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Don't share one with a process that you don't trust: both sides hold the
//! same open file description, so the other one can fill the counter and clear
//! `O_NONBLOCK`, and the next `notify` would block. Use a pipe for that.
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::EventfdFlags;

use crate::{Errno, SystemError};

/// An event counter: readable while it isn't 0, non-blocking, close-on-exec.
#[derive(Debug)]
pub struct Event {
    fd: OwnedFd,
}

impl Event {
    /// A new one, at 0.
    ///
    /// # Errors
    /// EMFILE, ENFILE.
    ///
    /// Source: [eventfd(2)](https://man7.org/linux/man-pages/man2/eventfd.2.html).
    #[doc(alias = "eventfd")]
    pub fn new() -> Result<Self, SystemError> {
        let fd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| SystemError::new("eventfd", "event", errno))?;
        Ok(Self { fd })
    }

    /// Adds one. A counter that is full is readable anyway, so that is no error.
    ///
    /// # Errors
    /// None in practice.
    #[doc(alias = "eventfd_write")]
    pub fn notify(&self) -> Result<(), SystemError> {
        loop {
            return match rustix::io::write(&self.fd, &1_u64.to_ne_bytes()) {
                Ok(_) | Err(Errno::AGAIN) => Ok(()),
                Err(Errno::INTR) => continue,
                Err(errno) => Err(SystemError::new("write", "event", errno)),
            };
        }
    }

    /// Takes the count and sets it back to 0.
    ///
    /// # Errors
    /// None in practice.
    #[doc(alias = "eventfd_read")]
    pub fn take(&self) -> Result<u64, SystemError> {
        let mut count = [0; 8];
        loop {
            return match rustix::io::read(&self.fd, &mut count) {
                Ok(_) => Ok(u64::from_ne_bytes(count)),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(0),
                Err(errno) => Err(SystemError::new("read", "event", errno)),
            };
        }
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
