//! Processes by descriptor: a number that is never reused while it is held.
//!
//! ```
//! use ipc::{pidfd, signal::Signal};
//! let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
//! let process = pidfd::open(rustix::process::Pid::from_child(&child))?;
//! assert!(!pidfd::has_ended(&process)?);
//! pidfd::send(&process, Signal::TERM)?;
//! assert!(pidfd::wait(&process, None)?);
//! child.wait()?;
//! assert!(matches!(pidfd::send(&process, Signal::TERM), Err(pidfd::Error::Gone { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code)] // a signal with a value needs the raw call and a siginfo
use core::time::Duration;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags};

use crate::error::operation_error;
use crate::signal::Signal;
use crate::{Errno, SystemError, sockopt, timer};

operation_error! {
    /// Why a process was not reached.
    Error {
        /// It has ended.
        Gone {
            /// The process, as far as known.
            process: String,
        } => SRCH, "{process}: no such process";
        /// It belongs to somebody else.
        NotPermitted {
            /// The process.
            process: String,
        } => PERM, "{process}: not permitted (another user's, and no CAP_KILL)";
        /// The queue of real-time signals is full.
        QueueFull {
            /// The process.
            process: String,
            /// This user's limit (`RLIMIT_SIGPENDING`).
            limit: u64,
        } => AGAIN, "{process}: its user has {limit} signals queued, the limit";
    }
}

fn failed(call: &'static str, process: String) -> impl FnOnce(Errno) -> Error {
    move |errno| match errno {
        Errno::SRCH => Error::Gone { process },
        Errno::PERM => Error::NotPermitted { process },
        Errno::AGAIN => {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Sigpending);
            Error::QueueFull { process, limit: limit.current.unwrap_or(u64::MAX) }
        }
        errno => SystemError::new(call, process, errno).into(),
    }
}

/// A descriptor for the process `pid`.
///
/// # Errors
/// [`Error::Gone`]; EINVAL if it is a thread's id; EMFILE.
///
/// Source: [pidfd_open(2)](https://man7.org/linux/man-pages/man2/pidfd_open.2.html).
#[doc(alias = "pidfd_open")]
pub fn open(pid: Pid) -> Result<OwnedFd, Error> {
    rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .map_err(failed("pidfd_open", format!("process {}", pid.as_raw_nonzero())))
}

/// The process id behind a descriptor: none once it has been reaped, or if it
/// lives in a pid namespace that ours can't see.
#[must_use]
pub fn pid(pidfd: impl AsFd) -> Option<Pid> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    line.trim().parse().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw)
}

fn describe(pidfd: &impl AsFd) -> String {
    match pid(pidfd) {
        Some(pid) => format!("process {}", pid.as_raw_nonzero()),
        None => format!("pidfd {}", pidfd.as_fd().as_raw_fd()),
    }
}

/// Sends a signal.
///
/// # Errors
/// [`Error::Gone`], [`Error::NotPermitted`].
///
/// Source: [pidfd_send_signal(2)](https://man7.org/linux/man-pages/man2/pidfd_send_signal.2.html).
#[doc(alias = "pidfd_send_signal")]
pub fn send(pidfd: impl AsFd, signal: Signal) -> Result<(), Error> {
    raw_send(&pidfd, signal.number(), core::ptr::null_mut())
        .map_err(|errno| failed("pidfd_send_signal", describe(&pidfd))(errno))
}

/// Sends a signal with a value, which a receiver with `SA_SIGINFO` or a
/// [`crate::signal::SignalFd`] gets. A standard signal that is pending already
/// swallows this one, value and all; a real-time one is queued.
///
/// # Errors
/// [`Error::Gone`], [`Error::NotPermitted`], [`Error::QueueFull`].
///
/// Source: [pidfd_send_signal(2)](https://man7.org/linux/man-pages/man2/pidfd_send_signal.2.html),
/// [sigqueue(3)](https://man7.org/linux/man-pages/man3/sigqueue.3.html).
#[doc(alias = "pidfd_send_signal")]
#[doc(alias = "rt_sigqueueinfo")]
#[doc(alias = "sigqueue")]
pub fn queue(pidfd: impl AsFd, signal: Signal, value: usize) -> Result<(), Error> {
    let mut info = queued_info(signal, value);
    raw_send(&pidfd, signal.number(), &mut info)
        .map_err(|errno| failed("pidfd_send_signal", describe(&pidfd))(errno))
}

/// As [`queue`], to one thread of the process.
///
/// # Errors
/// [`Error::Gone`], [`Error::NotPermitted`], [`Error::QueueFull`].
///
/// Source: [rt_tgsigqueueinfo(2)](https://man7.org/linux/man-pages/man2/rt_sigqueueinfo.2.html).
#[doc(alias = "rt_tgsigqueueinfo")]
pub fn queue_to_thread(
    process: Pid,
    thread: Pid,
    signal: Signal,
    value: usize,
) -> Result<(), Error> {
    let mut info = queued_info(signal, value);
    let (tgid, tid) = (process.as_raw_nonzero().get(), thread.as_raw_nonzero().get());
    // SAFETY: three integers and a pointer to a live siginfo, which is only read.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, tgid, tid, signal.number(), &raw mut info)
    };
    sockopt::check(result as libc::c_int)
        .map(|_| ())
        .map_err(|errno| failed("rt_tgsigqueueinfo", format!("thread {tid}"))(errno))
}

fn raw_send(pidfd: &impl AsFd, signal: i32, info: *mut libc::siginfo_t) -> Result<(), Errno> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: `info` is null or points to a live siginfo; the kernel reads it.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0) };
    sockopt::check(result as libc::c_int).map(|_| ())
}

/// The part of `siginfo_t` that a sender fills: the kernel checks the code and
/// takes the rest as it is.
#[repr(C)]
struct QueuedInfo {
    signo: i32,
    errno: i32,
    code: i32,
    // On 64-bit systems the union is aligned to 8.
    #[cfg(target_pointer_width = "64")]
    pad: i32,
    pid: i32,
    uid: u32,
    value: usize,
}

const _: () = assert!(size_of::<QueuedInfo>() <= size_of::<libc::siginfo_t>());

fn queued_info(signal: Signal, value: usize) -> libc::siginfo_t {
    let head = QueuedInfo {
        signo: signal.number(),
        errno: 0,
        code: libc::SI_QUEUE,
        #[cfg(target_pointer_width = "64")]
        pad: 0,
        pid: rustix::process::getpid().as_raw_nonzero().get(),
        uid: rustix::process::getuid().as_raw(),
        value,
    };
    // SAFETY: all-zero bytes are a valid siginfo_t (integers only).
    let mut info: libc::siginfo_t = unsafe { core::mem::zeroed() };
    // SAFETY: `head` is not longer than `info` (asserted above) and neither
    // overlaps the other; alignment of siginfo_t is that of a pointer, as
    // QueuedInfo's.
    unsafe { (&raw mut info).cast::<QueuedInfo>().write(head) };
    info
}

/// Whether the process has ended (also while nobody has reaped it).
///
/// # Errors
/// None in practice.
pub fn has_ended(pidfd: impl AsFd) -> Result<bool, Error> {
    wait(pidfd, Some(Duration::ZERO))
}

/// Waits until the process has ended, any process, not only a child; false if
/// `timeout` passed before.
///
/// # Errors
/// None in practice.
///
/// Source: [pidfd_open(2)](https://man7.org/linux/man-pages/man2/pidfd_open.2.html).
#[doc(alias = "poll")]
pub fn wait(pidfd: impl AsFd, timeout: Option<Duration>) -> Result<bool, Error> {
    let deadline = timer::Deadline::after(timeout);
    loop {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, deadline.remaining().as_ref()) {
            Ok(0) if deadline.passed() => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(SystemError::new("poll", describe(&pidfd), errno).into()),
        }
    }
}
