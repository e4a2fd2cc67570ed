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

use crate::child::Change;
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
            /// The receiver's limit (`RLIMIT_SIGPENDING`).
            limit: u64,
        } => AGAIN, "{process}: its user has {limit} signals queued, its limit (RLIMIT_SIGPENDING, ulimit -i)";
    }
}

fn failed(call: &'static str, process: String) -> impl FnOnce(Errno) -> Error {
    move |errno| match errno {
        Errno::SRCH => Error::Gone { process },
        Errno::PERM => Error::NotPermitted { process },
        Errno::AGAIN => {
            let limit = pending_max(&process);
            Error::QueueFull { process, limit }
        }
        errno => SystemError::new(call, process, errno).into(),
    }
}

/// How many signals may be queued for a process (`process 12`): its own limit,
/// from /proc, or, where that can't be read, ours.
fn pending_max(process: &str) -> u64 {
    let pid = process.rsplit(' ').next().unwrap_or("self");
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Max pending signals"));
    let soft = line.and_then(|line| line.split_ascii_whitespace().next());
    soft.and_then(|soft| soft.parse().ok()).unwrap_or_else(|| {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Sigpending);
        limit.current.unwrap_or(u64::MAX)
    })
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

/// Whether a signal could be sent: as [`send`], but none is.
///
/// # Errors
/// [`Error::Gone`], [`Error::NotPermitted`].
///
/// Source: [kill(2)](https://man7.org/linux/man-pages/man2/kill.2.html), signal 0.
pub fn may_signal(pidfd: impl AsFd) -> Result<(), Error> {
    raw_send(&pidfd, 0, core::ptr::null_mut())
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

/// How a process has ended, any process, not only a child: told by the kernel
/// (from Linux 6.15) once its parent has reaped it. None before that, and on
/// older kernels.
///
/// # Errors
/// None in practice.
///
/// Source: `PIDFD_GET_INFO`, [ioctl_pidfd(2)](https://man7.org/linux/man-pages/man2/ioctl_pidfd.2.html).
#[doc(alias = "PIDFD_GET_INFO")]
#[doc(alias = "PIDFD_INFO_EXIT")]
pub fn end(pidfd: impl AsFd) -> Result<Option<Change>, Error> {
    let mut info = EndInfo { mask: INFO_EXIT, ..EndInfo::default() };
    // SAFETY: the request's number says how long `info` is; it lives as long as
    // the call, which fills it.
    let result = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), GET_INFO, &raw mut info) };
    match sockopt::check(result) {
        Ok(_) if info.mask & INFO_EXIT != 0 => Ok(Change::from_wait_status(info.exit_code)),
        Ok(_) => Ok(None),
        // Reaped on a kernel that doesn't keep it; a kernel without the call.
        Err(Errno::SRCH | Errno::NOTTY | Errno::INVAL) => Ok(None),
        Err(errno) => Err(SystemError::new("ioctl(PIDFD_GET_INFO)", "pidfd", errno).into()),
    }
}

/// `struct pidfd_info`, its first version.
#[derive(Default)]
#[repr(C)]
struct EndInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const _: () = assert!(size_of::<EndInfo>() == 64);
const INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)`.
const GET_INFO: libc::Ioctl = (3 << 30 | 64 << 16 | 0xff << 8 | 11) as libc::Ioctl;

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
