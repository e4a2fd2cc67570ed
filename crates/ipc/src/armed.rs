//! Signals that a process asks for itself: a handler that only counts, and a
//! pipe whose every byte is a signal to whoever armed it.
//!
//! The writer of such a pipe needs no privilege over the reader, knows no pid
//! and can't hit anybody else: the kernel signals the process that armed its own
//! end ([fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html), `F_SETOWN`,
//! `F_SETSIG`, `O_ASYNC`), as long as that end is open. After an exec it is
//! closed, and the writer gets EPIPE.
//!
//! **Forks.** A child shares its parent's open files, and an armed one signals
//! whoever armed it as long as anybody has it, also when the parent has long become
//! another program. So what a child gets is never armed: it is disarmed before the
//! fork, and the parent opens the pipe anew behind it and arms that. The child, as
//! soon as it runs, puts something inert into the place.
//!
//! ```text
//!   before     armed N ── file A (armed) ── pipe
//!   fork       parent: N ── file A (not armed) ──┬─ pipe     child: N ── file A
//!   after      parent: N ── file B (armed) ──────┘           child: N ── inert
//! ```
//!
//! A byte that came in between is made up for.
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
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};

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

/// The signal of each.
static SIGNALS: [AtomicI32; ARMED_MAX] = [const { AtomicI32::new(0) }; ARMED_MAX];

/// Bytes that each held when a fork began.
static UNREAD: [AtomicU64; ARMED_MAX] = [const { AtomicU64::new(0) }; ARMED_MAX];

/// Held by who changes what is armed, and during a fork.
static CHANGING: AtomicBool = AtomicBool::new(false);

fn lock() {
    while CHANGING.swap(true, Ordering::Acquire) {
        std::thread::yield_now();
    }
}

fn unlock() {
    CHANGING.store(false, Ordering::Release);
}

/// What is armed, with its place.
fn armed() -> impl Iterator<Item = (usize, libc::c_int)> {
    let all = ARMED.iter().enumerate();
    all.map(|(place, fd)| (place, fd.load(Ordering::Relaxed))).filter(|(_, fd)| *fd >= 0)
}

fn fcntl(fd: libc::c_int, command: libc::c_int, value: libc::c_int) -> Result<libc::c_int, Errno> {
    // SAFETY: fcntl with three integers, none of which is an address for the commands
    // that are used here (F_SETFD, F_SETSIG, F_SETOWN, F_GETFL, F_SETFL).
    sockopt::check(unsafe { libc::fcntl(fd, command, value) })
}

/// Lets a descriptor signal this process, or no longer.
fn set_armed(fd: libc::c_int, wanted: bool) -> Result<(), Errno> {
    let flags = fcntl(fd, libc::F_GETFL, 0)? | libc::O_NONBLOCK;
    let flags = if wanted { flags | libc::O_ASYNC } else { flags & !libc::O_ASYNC };
    fcntl(fd, libc::F_SETFL, flags).map(drop)
}

fn set_signal(fd: libc::c_int, signal: libc::c_int) -> Result<(), (&'static str, Errno)> {
    fcntl(fd, F_SETSIG, signal).map_err(|errno| ("fcntl(F_SETSIG)", errno))?;
    let own = rustix::process::getpid().as_raw_nonzero().get();
    fcntl(fd, libc::F_SETOWN, own).map_err(|errno| ("fcntl(F_SETOWN)", errno))?;
    set_armed(fd, true).map_err(|errno| ("fcntl(F_SETFL)", errno))
}

fn unread(fd: libc::c_int) -> u64 {
    // SAFETY: whoever armed it has it open: it is taken from the list, under the
    // lock, before it is closed.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::io::ioctl_fionread(fd).unwrap_or(0)
}

/// Runs before a fork.
extern "C" fn disarm_before_fork() {
    lock();
    for (place, fd) in armed() {
        UNREAD[place].store(unread(fd), Ordering::Relaxed);
        let _ = set_armed(fd, false);
    }
}

/// Runs in the parent after it.
extern "C" fn arm_in_parent() {
    for (place, fd) in armed() {
        let signal = SIGNALS[place].load(Ordering::Relaxed);
        // Where it can't be opened anew the child's is armed, too, until it runs.
        let _ = open_anew(fd);
        let _ = set_signal(fd, signal);
        if unread(fd) > UNREAD[place].load(Ordering::Relaxed) {
            // SAFETY: a signal to this very process, which has a handler for it.
            unsafe { libc::kill(libc::getpid(), signal) };
        }
    }
    unlock();
}

/// Puts an open file of our own into the place of one that a child shares.
fn open_anew(fd: libc::c_int) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let own = rustix::fs::open(format!("/proc/self/fd/{fd}"), flags, Mode::empty())?;
    // SAFETY: three integers; the number stays its owner's and names the same pipe.
    sockopt::check(unsafe { libc::dup3(own.as_raw_fd(), fd, libc::O_CLOEXEC) }).map(drop)
}

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
    unlock();
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
        lock();
        let place = ARMED.iter().position(|place| place.load(Ordering::Relaxed) < 0);
        let result = match place {
            None => Err(failed("arm")(Errno::MFILE)),
            Some(place) => fcntl(raw, libc::F_SETFD, libc::FD_CLOEXEC)
                .map_err(failed("fcntl(F_SETFD)"))
                .and_then(|_| {
                    set_signal(raw, signal.number()).map_err(|(call, errno)| failed(call)(errno))
                })
                .map(|()| {
                    SIGNALS[place].store(signal.number(), Ordering::Relaxed);
                    ARMED[place].store(raw, Ordering::Relaxed);
                    Self { fd, place }
                }),
        };
        unlock();
        result
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
        lock();
        let _ = ARMED[self.place].compare_exchange(raw, -1, Ordering::Relaxed, Ordering::Relaxed);
        unlock();
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
        // SAFETY: the child's handler only uses atomics and dup3; the other two run in
        // the parent, where a fork leaves everything as it is.
        unsafe {
            let (before, parent) = (Some(disarm_before_fork as _), Some(arm_in_parent as _));
            libc::pthread_atfork(before, parent, Some(disarm_in_child))
        };
    });
    Ok(())
}
