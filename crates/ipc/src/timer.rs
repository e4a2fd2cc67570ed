//! Timers as descriptors, and deadlines.
//!
//! ```
//! use core::time::Duration;
//! let timer = ipc::timer::Timer::new()?;
//! timer.once(Duration::from_millis(1))?;
//! let mut fds = [rustix::event::PollFd::new(&timer, rustix::event::PollFlags::IN)];
//! rustix::event::poll(&mut fds, None)?;
//! assert_eq!(timer.expirations()?, 1);
//! assert_eq!(timer.expirations()?, 0); // never blocks
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::Timespec;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

use crate::{Errno, SystemError};

/// A monotonic timer: readable when it has expired, non-blocking, close-on-exec.
#[derive(Debug)]
pub struct Timer {
    fd: OwnedFd,
}

fn failed(call: &'static str) -> impl Fn(Errno) -> SystemError {
    move |errno| SystemError::new(call, "timer", errno)
}

pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

impl Timer {
    /// A new one, not armed.
    ///
    /// # Errors
    /// EMFILE, ENFILE.
    ///
    /// Source: [timerfd_create(2)](https://man7.org/linux/man-pages/man2/timerfd_create.2.html).
    #[doc(alias = "timerfd_create")]
    pub fn new() -> Result<Self, SystemError> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let fd = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)
            .map_err(failed("timerfd_create"))?;
        Ok(Self { fd })
    }

    /// Expires once, `after` from now. (The system call takes zero for
    /// "disarm"; here zero expires at once.)
    ///
    /// # Errors
    /// None in practice.
    #[doc(alias = "timerfd_settime")]
    pub fn once(&self, after: Duration) -> Result<(), SystemError> {
        self.set(after.max(Duration::from_nanos(1)), Duration::ZERO)
    }

    /// Expires every `period`, first one `period` from now; 0 counts as a
    /// nanosecond.
    ///
    /// # Errors
    /// None in practice.
    #[doc(alias = "timerfd_settime")]
    pub fn every(&self, period: Duration) -> Result<(), SystemError> {
        let period = period.max(Duration::from_nanos(1));
        self.set(period, period)
    }

    /// Doesn't expire any more; what has expired unread is forgotten.
    ///
    /// # Errors
    /// None in practice.
    #[doc(alias = "timerfd_settime")]
    pub fn disarm(&self) -> Result<(), SystemError> {
        self.set(Duration::ZERO, Duration::ZERO)
    }

    fn set(&self, first: Duration, period: Duration) -> Result<(), SystemError> {
        let new = Itimerspec { it_interval: timespec(period), it_value: timespec(first) };
        rustix::time::timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &new)
            .map_err(failed("timerfd_settime"))?;
        Ok(())
    }

    /// How often it has expired since the last time this was asked; 0 if not.
    ///
    /// # Errors
    /// None in practice.
    #[doc(alias = "read")]
    pub fn expirations(&self) -> Result<u64, SystemError> {
        let mut count = [0; 8];
        loop {
            return match rustix::io::read(&self.fd, &mut count) {
                Ok(_) => Ok(u64::from_ne_bytes(count)),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(0),
                Err(errno) => Err(failed("read")(errno)),
            };
        }
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A point in time up to which to wait, or none: for calls that are repeated
/// after an interruption and must not start their time anew.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// `timeout` from now; none (or more than the clock can hold): never.
    #[must_use]
    pub fn after(timeout: Option<Duration>) -> Self {
        Self(timeout.and_then(|t| Instant::now().checked_add(t)))
    }

    /// What is left: none for never, zero when it has passed.
    #[must_use]
    pub fn remaining(self) -> Option<Timespec> {
        self.left().map(timespec)
    }

    /// As [`Self::remaining`], as a duration.
    #[must_use]
    pub fn left(self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// Whether it has passed.
    #[must_use]
    pub fn passed(self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }

    /// The same moment on the wall clock, for the POSIX calls that measure
    /// there (`mq_timedsend`, `sem_timedwait`).
    fn on_the_wall(self) -> Option<libc::timespec> {
        let left = self.left()?;
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let left = timespec(left);
        let nanos = now.tv_nsec + left.tv_nsec;
        let seconds = now.tv_sec.saturating_add(left.tv_sec);
        Some(libc::timespec {
            tv_sec: seconds.saturating_add(nanos / 1_000_000_000),
            tv_nsec: nanos % 1_000_000_000,
        })
    }
}

/// Whether, and how long, a call may wait.
#[derive(Debug, Clone, Copy)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until then; a call that was interrupted can be repeated with the same.
    Until(Deadline),
}

impl Wait {
    /// As long as it takes.
    pub const FOREVER: Self = Self::Until(Deadline(None));

    /// At most `timeout` from now (none: as long as it takes).
    #[must_use]
    pub fn at_most(timeout: Option<Duration>) -> Self {
        Self::Until(Deadline::after(timeout))
    }

    /// The moment on the wall clock up to which a POSIX call may wait: none for
    /// ever; the epoch, long past, for not at all.
    pub(crate) fn absolute(self) -> Option<libc::timespec> {
        match self {
            Self::No => Some(libc::timespec { tv_sec: 0, tv_nsec: 0 }),
            Self::Until(deadline) => deadline.on_the_wall(),
        }
    }
}
