//! Signals that a process asks for itself: a handler that only counts, and a
//! pipe whose every byte is a signal to whoever armed it.
//!
//! The writer of such a pipe needs no privilege over the reader, knows no pid
//! and can't hit anybody else: the kernel signals the process that armed its own
//! end ([fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html), `F_SETOWN`,
//! `F_SETSIG`, `O_ASYNC`), as long as that end is open. After an exec it is
//! closed, and the writer gets EPIPE.
//!
//! ```
//! use ipc::armed::{ArmedPipe, Caught};
//! use ipc::signal::Signal;
//! let caught = Caught::install(Signal::USR1)?;
//! let (reader, writer) = ipc::pipe::wake_pipe()?;
//! let pipe = ArmedPipe::arm(reader, Signal::USR1)?;
//! rustix::io::write(&writer, &[1])?;
//! while caught.count() == 0 {}
//! pipe.drain();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code)] // sigaction, F_SETSIG and pthread_atfork are libc's alone
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use crate::signal::Signal;
use crate::{Errno, SystemError, sockopt};

/// Signals that were caught, by number.
static COUNTS: [AtomicU64; 65] = [const { AtomicU64::new(0) }; 65];

/// The handler: nothing but a count, which any thread may look at.
extern "C" fn count(signal: libc::c_int) {
    if let Some(count) = COUNTS.get(signal.unsigned_abs() as usize) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// A signal that is caught by a handler which only counts.
#[derive(Debug, Clone, Copy)]
pub struct Caught(Signal);

impl Caught {
    /// Installs the handler, for the rest of the process's life. System calls
    /// that can be restarted are.
    ///
    /// # Errors
    /// EINVAL for KILL and STOP.
    ///
    /// Source: [sigaction(2)](https://man7.org/linux/man-pages/man2/sigaction.2.html).
    #[doc(alias = "sigaction")]
    pub fn install(signal: Signal) -> Result<Self, SystemError> {
        // SAFETY: all-zero is a valid sigaction: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
        let handler: extern "C" fn(libc::c_int) = count;
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: a live sigaction, and a handler that only adds to an atomic,
        // which is safe at any moment.
        let result = unsafe { libc::sigaction(signal.number(), &action, core::ptr::null_mut()) };
        sockopt::check(result).map_err(|errno| SystemError::new("sigaction", signal, errno))?;
        Ok(Self(signal))
    }

    /// How often it came, counted from the first installation.
    #[must_use]
    pub fn count(&self) -> u64 {
        COUNTS[self.0.number().unsigned_abs() as usize].load(Ordering::Relaxed)
    }
}

/// How many pipes may be armed in a process at a time.
const ARMED_MAX: usize = 16;

/// Armed descriptors of this process; -1: none. A forked child must not hold
/// them: its parent would be signalled as long as it does, also after an exec
/// that the parent thought had ended that.
static ARMED: [AtomicI32; ARMED_MAX] = [const { AtomicI32::new(-1) }; ARMED_MAX];

/// What takes their place in a child.
static INERT: AtomicI32 = AtomicI32::new(-1);

/// Runs in a forked child, before anything else of it.
extern "C" fn disarm_in_child() {
    let inert = INERT.load(Ordering::Relaxed);
    for place in &ARMED {
        let armed = place.swap(-1, Ordering::Relaxed);
        if armed >= 0 && inert >= 0 {
            // The number stays taken, so that whoever owns it in the child can
            // close it; what it names is something that nobody writes to.
            // SAFETY: three integers; async-signal-safe.
            unsafe { libc::dup3(inert, armed, libc::O_CLOEXEC) };
        }
    }
}

/// The read end of a pipe, armed: each byte written into the other end is a
/// signal to this process.
#[derive(Debug)]
pub struct ArmedPipe {
    fd: OwnedFd,
    place: usize,
}

impl ArmedPipe {
    /// Arms a pipe's read end. Install what handles the signal before: most
    /// end the process by default.
    ///
    /// # Errors
    /// EMFILE, also when 16 pipes are armed already.
    ///
    /// Source: [fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html).
    #[doc(alias = "F_SETSIG")]
    #[doc(alias = "F_SETOWN")]
    #[doc(alias = "O_ASYNC")]
    pub fn arm(fd: OwnedFd, signal: Signal) -> Result<Self, SystemError> {
        let failed = |call| move |errno| SystemError::new(call, "pipe", errno);
        prepare_for_forks()?;
        let raw = fd.as_raw_fd();
        let free = |place: &AtomicI32| {
            place.compare_exchange(-1, raw, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        let place = ARMED.iter().position(free).ok_or(Errno::MFILE).map_err(failed("arm"))?;
        // From here on dropping it gives the place back.
        let pipe = Self { fd, place };
        let set = |command, value: libc::c_int| {
            // SAFETY: fcntl with three integers, on a descriptor that lives.
            let result = unsafe { libc::fcntl(raw, command, value) };
            sockopt::check(result)
        };
        set(libc::F_SETFD, libc::FD_CLOEXEC).map_err(failed("fcntl(F_SETFD)"))?;
        set(F_SETSIG, signal.number()).map_err(failed("fcntl(F_SETSIG)"))?;
        let own = rustix::process::getpid().as_raw_nonzero().get();
        set(libc::F_SETOWN, own).map_err(failed("fcntl(F_SETOWN)"))?;
        let flags = set(libc::F_GETFL, 0).map_err(failed("fcntl(F_GETFL)"))?;
        set(libc::F_SETFL, flags | libc::O_ASYNC | libc::O_NONBLOCK)
            .map_err(failed("fcntl(F_SETFL)"))?;
        Ok(pipe)
    }

    /// Takes the bytes out, so that there is room for the next ones. False: the
    /// other end is closed.
    pub fn drain(&self) -> bool {
        let mut bytes = [0; 64];
        loop {
            match rustix::io::read(&self.fd, &mut bytes) {
                Ok(0) => return false,
                Ok(count) if count == bytes.len() => {}
                Err(Errno::INTR) => {}
                _ => return true,
            }
        }
    }
}

impl AsFd for ArmedPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for ArmedPipe {
    fn drop(&mut self) {
        // In a child the place is empty already, and may be another's by now.
        let raw = self.fd.as_raw_fd();
        let _ = ARMED[self.place].compare_exchange(raw, -1, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// `F_SETSIG` of Linux, which the libc crate lacks for some targets.
const F_SETSIG: libc::c_int = 10;

fn prepare_for_forks() -> Result<(), SystemError> {
    static ONCE: Once = Once::new();
    if INERT.load(Ordering::Relaxed) < 0 {
        let inert = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)
            .map_err(|errno| SystemError::new("eventfd", "pipe", errno))?;
        let raw = inert.as_raw_fd();
        if INERT.compare_exchange(-1, raw, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            // Held for the rest of the process's life.
            core::mem::forget(inert);
        }
    }
    ONCE.call_once(|| {
        // SAFETY: the handler only uses atomics and dup3.
        unsafe { libc::pthread_atfork(None, None, Some(disarm_in_child)) };
    });
    Ok(())
}
