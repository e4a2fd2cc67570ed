//! What a process does about signals, from /proc: blocked, pending, ignored,
//! caught, each thread's own.
//!
//! ```
//! use ipc::{signal::{self, Signal, SignalSet}, signal_state};
//! signal::block(&SignalSet::of(&[Signal::USR1]));
//! signal::raise(Signal::USR1)?;
//! let state = signal_state::of(rustix::process::getpid())?;
//! assert!(state.pending.contains(Signal::USR1));
//! let me = rustix::thread::gettid().as_raw_nonzero().get();
//! let thread = state.threads.iter().find(|thread| thread.id == me).expect("this one");
//! assert!(thread.blocked.contains(Signal::USR1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
use core::fmt;

use rustix::process::Pid;

use crate::error::operation_error;
use crate::signal::Signal;
use crate::{Errno, SystemError};

operation_error! {
    /// Why nothing is known of a process.
    Error {
        /// It has ended, or never was.
        Gone {
            /// The process id.
            pid: i32,
        } => SRCH, "process {pid}: no such process";
    }
}

/// A set of signals as the kernel prints it: bit 0 is signal 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mask(
    /// The bits.
    pub u64,
);

impl Mask {
    /// Whether the signal is in it.
    #[must_use]
    pub fn contains(self, signal: Signal) -> bool {
        self.0 & 1 << (signal.number() - 1) != 0
    }

    /// The numbers in it, also those that the C library keeps for itself.
    pub fn numbers(self) -> impl Iterator<Item = i32> {
        (1..=64).filter(move |number| self.0 & 1 << (number - 1) != 0)
    }
}

impl fmt::Display for Mask {
    /// Names with commas between; three and more real-time ones in a row as
    /// `RTMIN..RTMAX`; the C library's own by number; `-` for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<i32> = self.numbers().collect();
        if numbers.is_empty() {
            return f.write_str("-");
        }
        let name = |number| Signal::from_number(number).map_or(number.to_string(), Signal::name);
        let realtime = |number| Signal::from_number(number).is_some_and(Signal::is_realtime);
        let mut at = 0;
        while at < numbers.len() {
            let first = numbers[at];
            let run = numbers[at..]
                .iter()
                .zip(first..)
                .take_while(|(number, wanted)| *number == wanted && realtime(**number))
                .count();
            let comma = if at > 0 { "," } else { "" };
            if run >= 3 {
                write!(f, "{comma}{}..{}", name(first), name(numbers[at + run - 1]))?;
                at += run;
            } else {
                write!(f, "{comma}{}", name(first))?;
                at += 1;
            }
        }
        Ok(())
    }
}

/// One thread's own part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// Its id; the first thread's is the process's.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// What it holds back.
    pub blocked: Mask,
    /// What was sent to it alone and is held back.
    pub pending: Mask,
}

/// A process and its signals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its name.
    pub name: String,
    /// How many signals are queued for its user.
    pub queued: u64,
    /// How many may be (`RLIMIT_SIGPENDING`).
    pub queued_max: u64,
    /// What was sent to the process and no thread takes yet.
    pub pending: Mask,
    /// What it ignores.
    pub ignored: Mask,
    /// What it has a handler for.
    pub caught: Mask,
    /// Its threads, the first one first.
    pub threads: Vec<Thread>,
}

/// The fields of one `status` file.
struct Status(String);

impl Status {
    fn read(path: &str) -> std::io::Result<Self> {
        std::fs::read_to_string(path).map(Self)
    }

    fn field(&self, name: &str) -> &str {
        let found = self.0.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        found.unwrap_or("").trim()
    }

    fn mask(&self, name: &str) -> Mask {
        Mask(u64::from_str_radix(self.field(name), 16).unwrap_or(0))
    }
}

/// Looks at a process. (A thread's id gives its process's state, too.)
///
/// # Errors
/// [`Error::Gone`].
///
/// Source: [proc_pid_status(5)](https://man7.org/linux/man-pages/man5/proc_pid_status.5.html).
#[doc(alias = "SigBlk")]
#[doc(alias = "SigCgt")]
#[doc(alias = "SigIgn")]
#[doc(alias = "SigPnd")]
#[doc(alias = "ShdPnd")]
#[doc(alias = "SigQ")]
pub fn of(pid: Pid) -> Result<State, Error> {
    let raw = pid.as_raw_nonzero().get();
    let path = format!("/proc/{raw}");
    let gone = |error: std::io::Error| match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::SRCH) | None => Error::Gone { pid: raw },
        Some(errno) => SystemError::new("read", &path, errno).into(),
    };
    let status = Status::read(&format!("{path}/status")).map_err(gone)?;
    let (queued, queued_max) = status.field("SigQ").split_once('/').unwrap_or(("0", "0"));
    let mut threads = Vec::new();
    for entry in std::fs::read_dir(format!("{path}/task")).map_err(gone)?.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        // One that ends meanwhile is left out.
        let Ok(own) = Status::read(&format!("{path}/task/{id}/status")) else { continue };
        threads.push(Thread {
            id,
            name: own.field("Name").to_owned(),
            blocked: own.mask("SigBlk"),
            pending: own.mask("SigPnd"),
        });
    }
    threads.sort_by_key(|thread| thread.id);
    Ok(State {
        name: status.field("Name").to_owned(),
        queued: queued.parse().unwrap_or(0),
        queued_max: queued_max.parse().unwrap_or(0),
        pending: status.mask("ShdPnd"),
        ignored: status.mask("SigIgn"),
        caught: status.mask("SigCgt"),
        threads,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_decoded_to_names() {
        let max = 1_u64 << 63;
        for (bits, text) in [
            (0, "-"),
            (0b11, "HUP,INT"),
            (1 << 31 | 1 << 32, "32,33"),
            (1 << 33 | 1 << 34, "RTMIN,RTMIN+1"),
            (0x7 << 33 | max, "RTMIN..RTMIN+2,RTMAX"),
            (u64::MAX << 33 | 1, "HUP,RTMIN..RTMAX"),
        ] {
            assert_eq!(Mask(bits).to_string(), text);
        }
    }
}
