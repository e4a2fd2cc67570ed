//! Children: what becomes of them, in the system's words.
//!
//! ```
//! use ipc::child::{self, Change};
//! let mut command = std::process::Command::new("sh");
//! command.args(["-c", "kill -9 $$"]);
//! let started = child::end_with_parent(&mut command).spawn()?;
//! let pid = rustix::process::Pid::from_child(&started);
//! let end = child::wait(pid)?;
//! assert_eq!(end.to_string(), "Terminated: Killed");
//! assert!(matches!(end, Change::Killed { core: false, .. }));
//! assert!(matches!(child::wait(pid), Err(child::Error::NoChild { .. }))); // reaped
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code)] // pre_exec, fork
use core::fmt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus};

use crate::error::operation_error;
use crate::signal::{self, Signal, SignalSet};
use crate::{Errno, SystemError, sockopt};

operation_error! {
    /// Why nothing is known of a child.
    Error {
        /// It is no child of this process, or has been reaped.
        NoChild {
            /// The process id.
            pid: i32,
        } => CHILD, "process {pid}: no child of this process (any more)";
    }
}

/// What became of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It has ended by itself.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// A signal has ended it.
    Killed {
        /// Which.
        signal: Signal,
        /// Whether it left a core dump.
        core: bool,
    },
    /// A signal has stopped it.
    Stopped {
        /// Which.
        signal: Signal,
    },
    /// It goes on after a stop.
    Continued,
}

impl Change {
    /// Whether that was its end.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(self, Self::Exited { .. } | Self::Killed { .. })
    }

    /// What a shell would make of its end: the exit code, or 128 and the
    /// signal's number. 0 while it lives.
    #[must_use]
    pub fn shell_code(self) -> u8 {
        match self {
            Self::Exited { code } => code as u8,
            Self::Killed { signal, .. } => 128 + signal.number() as u8,
            _ => 0,
        }
    }

    /// Out of a wait status, as [`wait(2)`](https://man7.org/linux/man-pages/man2/wait.2.html) lays it out.
    pub(crate) fn from_wait_status(status: i32) -> Option<Self> {
        let signal = |number| Signal::from_number(number);
        if libc::WIFEXITED(status) {
            return Some(Self::Exited { code: libc::WEXITSTATUS(status) });
        }
        if libc::WIFSIGNALED(status) {
            let signal = signal(libc::WTERMSIG(status))?;
            return Some(Self::Killed { signal, core: libc::WCOREDUMP(status) });
        }
        None
    }

    fn from_status(status: &WaitIdStatus) -> Option<Self> {
        let signal = |number: Option<i32>| number.and_then(Signal::from_number);
        if status.exited() {
            return Some(Self::Exited { code: status.exit_status()? });
        }
        if status.killed() || status.dumped() {
            let signal = signal(status.terminating_signal())?;
            return Some(Self::Killed { signal, core: status.dumped() });
        }
        if status.continued() {
            return Some(Self::Continued);
        }
        // Also a traced child's stop.
        signal(status.stopping_signal()).map(|signal| Self::Stopped { signal })
    }
}

impl fmt::Display for Change {
    /// `exit 0`, `Terminated: Killed`, `Terminated: Aborted (core dumped)`,
    /// `Stopped: Stopped (tty input)`, `Continued`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exit {code}"),
            Self::Killed { signal, core } => {
                let core = if *core { " (core dumped)" } else { "" };
                write!(f, "Terminated: {}{core}", signal.description())
            }
            Self::Stopped { signal } => write!(f, "Stopped: {}", signal.description()),
            Self::Continued => f.write_str("Continued"),
        }
    }
}

fn waitid(pid: Pid, options: WaitIdOptions) -> Result<Option<Change>, Error> {
    let raw = pid.as_raw_nonzero().get();
    loop {
        return match rustix::process::waitid(WaitId::Pid(pid), options) {
            Ok(status) => Ok(status.as_ref().and_then(Change::from_status)),
            Err(Errno::INTR) => continue,
            Err(Errno::CHILD) => Err(Error::NoChild { pid: raw }),
            Err(errno) => Err(SystemError::new("waitid", format!("process {raw}"), errno).into()),
        };
    }
}

/// What has become of it since the last time this was asked: each stop, each
/// continuation, and its end (which reaps it). None if nothing has. Never waits.
///
/// # Errors
/// [`Error::NoChild`].
///
/// Source: [waitid(2)](https://man7.org/linux/man-pages/man2/waitid.2.html).
#[doc(alias = "waitid")]
#[doc(alias = "WUNTRACED")]
#[doc(alias = "WCONTINUED")]
#[doc(alias = "WNOHANG")]
pub fn change(pid: Pid) -> Result<Option<Change>, Error> {
    use WaitIdOptions as O;
    waitid(pid, O::EXITED | O::STOPPED | O::CONTINUED | O::NOHANG)
}

/// Waits for its end, and reaps it.
///
/// # Errors
/// [`Error::NoChild`].
///
/// Source: [waitid(2)](https://man7.org/linux/man-pages/man2/waitid.2.html).
#[doc(alias = "waitpid")]
#[doc(alias = "waitid")]
pub fn wait(pid: Pid) -> Result<Change, Error> {
    loop {
        if let Some(change) = waitid(pid, WaitIdOptions::EXITED)? {
            return Ok(change);
        }
    }
}

/// The command's child is killed when the thread that starts it ends, so that
/// it isn't left behind, however its parent ends.
///
/// Source: [PR_SET_PDEATHSIG(2const)](https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html).
#[doc(alias = "PR_SET_PDEATHSIG")]
pub fn end_with_parent(command: &mut Command) -> &mut Command {
    let parent = rustix::process::getpid();
    let arm = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // It may have ended before that.
        match rustix::process::getppid() {
            Some(now) if now == parent => Ok(()),
            _ => Err(Errno::SRCH.into()),
        }
    };
    // SAFETY: between fork and exec only two system calls are made, and nothing
    // is allocated or locked.
    unsafe { command.pre_exec(arm) }
}

/// Forks a copy of this process that executes nothing more of it: it holds what it
/// inherited (descriptors, maps) and waits for a signal to end it. For `deadly`
/// that is certain: it has its default action again, whatever handler the parent
/// has. What holds on to things behind its parent's back is tried out with it.
///
/// With `with_parent` it ends with the thread that made it. It is a child like any
/// other, to be reaped with [`wait`].
///
/// # Errors
/// EAGAIN, ENOMEM; EINVAL if the default of `deadly` can't be set.
///
/// Source: [fork(2)](https://man7.org/linux/man-pages/man2/fork.2.html).
#[doc(alias = "fork")]
pub fn idle_copy(deadly: Signal, with_parent: bool) -> Result<Pid, SystemError> {
    let parent = rustix::process::getpid();
    // So that none reaches the copy while it still has the parent's handler.
    let before = signal::block(&SignalSet::of(&[deadly]));
    // SAFETY: the child only makes system calls, which may be made after a fork of
    // several threads, and never returns.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let kill = Some(rustix::process::Signal::KILL);
        let armed = !with_parent
            || rustix::process::set_parent_process_death_signal(kill).is_ok()
                && rustix::process::getppid() == Some(parent);
        if armed && signal::set_default(deadly).is_ok() {
            signal::set_mask(&SignalSet::of(&[]));
            loop {
                // SAFETY: waits for a signal; handlers that are left are the parent's,
                // as in any child.
                unsafe { libc::pause() };
            }
        }
        // SAFETY: ends the child without running what is the parent's.
        unsafe { libc::_exit(1) };
    }
    let made = sockopt::check(child);
    signal::set_mask(&before);
    let pid = made.and_then(|pid| Pid::from_raw(pid).ok_or(Errno::SRCH));
    pid.map_err(|errno| SystemError::new("fork", "process", errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_copy_lives_until_the_signal_that_it_is_said_to_end_by() {
        for with_parent in [false, true] {
            let copy = idle_copy(Signal::USR1, with_parent).unwrap();
            assert_eq!(change(copy).unwrap(), None);
            signal::send(copy, Signal::USR1).unwrap();
            let end = wait(copy).unwrap();
            assert_eq!(end, Change::Killed { signal: Signal::USR1, core: false });
        }
    }
}
