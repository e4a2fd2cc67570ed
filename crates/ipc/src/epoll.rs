//! Waiting for many descriptors at once: level-triggered, with a number of the
//! caller's to tell them apart.
//!
//! ```
//! use ipc::epoll::{Epoll, Events, Interest};
//! let (reader, writer) = ipc::pipe::pipe()?;
//! let epoll = Epoll::new()?;
//! epoll.add(&reader, 7, Interest::READ)?;
//! let mut events = Events::with_capacity(16);
//! rustix::io::write(&writer, b"x")?;
//! epoll.wait(&mut events, None)?;
//! let ready: Vec<_> = events.iter().collect();
//! assert_eq!(ready[0].token, 7);
//! assert!(ready[0].is_readable());
//! // A regular file is always ready, and epoll won't have it.
//! let file = std::fs::File::open("/proc/self/exe")?;
//! assert!(matches!(epoll.add(&file, 8, Interest::READ), Err(ipc::epoll::Error::NotPollable { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Level-triggered only: whoever reads a part within a budget is told again,
//! so nothing can be forgotten. There is no edge-triggered flag to set.
use core::fmt;
use core::time::Duration;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, epoll};

use crate::error::operation_error;
use crate::{Errno, SystemError};

operation_error! {
    /// Why a descriptor can't be watched.
    Error {
        /// It is always ready, so the kernel won't watch it: a regular file, a
        /// directory, `/dev/null`.
        NotPollable {
            /// The descriptor's number.
            descriptor: i32,
        } => PERM, "descriptor {descriptor}: a file or device that is always ready can't be watched";
        /// It is watched by this instance already: modify it.
        AlreadyAdded {
            /// The descriptor's number.
            descriptor: i32,
        } => EXIST, "descriptor {descriptor}: watched already";
        /// It isn't watched by this instance.
        NotAdded {
            /// The descriptor's number.
            descriptor: i32,
        } => NOENT, "descriptor {descriptor}: not watched";
        /// This user watches too many.
        TooMany {
            /// The descriptor's number.
            descriptor: i32,
        } => NOSPC, "descriptor {descriptor}: the user's limit of watches (/proc/sys/fs/epoll/max_user_watches) is reached";
    }
}

/// What to wait for. Errors and a hang-up are always reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest(epoll::EventFlags);

impl Interest {
    /// Nothing but errors and a hang-up: flow control.
    pub const NONE: Self = Self(epoll::EventFlags::empty());
    /// Something to read, or the peer's end of writing.
    pub const READ: Self = Self(epoll::EventFlags::IN.union(epoll::EventFlags::RDHUP));
    /// Room to write.
    pub const WRITE: Self = Self(epoll::EventFlags::OUT);
    /// Both.
    pub const READ_WRITE: Self = Self(Self::READ.0.union(Self::WRITE.0));
    /// An exceptional condition (`EPOLLPRI`): a changed file under /proc or
    /// cgroup, a terminal in packet mode.
    pub const PRIORITY: Self = Self(epoll::EventFlags::PRI);

    /// This one and another.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0.union(other.0))
    }
}

/// One descriptor's readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The number it was added with.
    pub token: u64,
    flags: epoll::EventFlags,
}

impl Ready {
    /// A read would not block: data, end of file or an error are there. A
    /// hang-up counts, so that whoever waits for reading meets the end there.
    #[must_use]
    pub fn is_readable(self) -> bool {
        use epoll::EventFlags as F;
        self.flags.intersects(F::IN | F::HUP | F::ERR | F::RDHUP)
    }

    /// A write would not block (or would fail).
    #[must_use]
    pub fn is_writable(self) -> bool {
        self.flags.intersects(epoll::EventFlags::OUT | epoll::EventFlags::ERR)
    }

    /// Both directions are closed, or (a pipe's read end) all writers are.
    #[must_use]
    pub fn is_hung_up(self) -> bool {
        self.flags.contains(epoll::EventFlags::HUP)
    }

    /// The peer has ended its writing; unread data may still be there.
    #[must_use]
    pub fn is_read_closed(self) -> bool {
        self.flags.contains(epoll::EventFlags::RDHUP)
    }

    /// An error waits to be fetched (a pipe's write end: the readers are gone).
    #[must_use]
    pub fn is_error(self) -> bool {
        self.flags.contains(epoll::EventFlags::ERR)
    }

    /// An exceptional condition.
    #[must_use]
    pub fn is_priority(self) -> bool {
        self.flags.contains(epoll::EventFlags::PRI)
    }
}

/// Room for the answers of one wait, owned by the caller and used again and
/// again.
pub struct Events {
    list: Vec<epoll::Event>,
    capacity: usize,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Events {
    /// Room for `capacity` (at least one) answers a wait. With more ready than
    /// that, the kernel takes turns.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self { list: Vec::with_capacity(capacity), capacity }
    }

    /// What the last wait found.
    pub fn iter(&self) -> impl Iterator<Item = Ready> + '_ {
        self.list.iter().map(|event| Ready { token: event.data.u64(), flags: event.flags })
    }

    /// How many the last wait found.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether the last wait found none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// An epoll instance. A descriptor leaves it when its last duplicate is closed;
/// delete it before, if duplicates exist.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    /// A new one, close-on-exec.
    ///
    /// # Errors
    /// EMFILE, ENFILE.
    ///
    /// Source: [epoll_create1(2)](https://man7.org/linux/man-pages/man2/epoll_create.2.html).
    #[doc(alias = "epoll_create1")]
    pub fn new() -> Result<Self, Error> {
        let fd = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|errno| SystemError::new("epoll_create1", "epoll", errno))?;
        Ok(Self { fd })
    }

    /// Would a wait find something at once? Takes nothing away from it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Watches a descriptor under `token`.
    ///
    /// # Errors
    /// [`Error::NotPollable`], [`Error::AlreadyAdded`], [`Error::TooMany`].
    ///
    /// Source: [epoll_ctl(2)](https://man7.org/linux/man-pages/man2/epoll_ctl.2.html).
    #[doc(alias = "epoll_ctl")]
    #[doc(alias = "EPOLL_CTL_ADD")]
    pub fn add(&self, source: impl AsFd, token: u64, interest: Interest) -> Result<(), Error> {
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.fd, &source, data, interest.0).map_err(|errno| failed(&source, errno))
    }

    /// Changes token and interest of a watched descriptor.
    ///
    /// # Errors
    /// [`Error::NotAdded`].
    #[doc(alias = "EPOLL_CTL_MOD")]
    pub fn modify(&self, source: impl AsFd, token: u64, interest: Interest) -> Result<(), Error> {
        let data = epoll::EventData::new_u64(token);
        epoll::modify(&self.fd, &source, data, interest.0).map_err(|errno| failed(&source, errno))
    }

    /// Stops watching a descriptor.
    ///
    /// # Errors
    /// [`Error::NotAdded`].
    #[doc(alias = "EPOLL_CTL_DEL")]
    pub fn delete(&self, source: impl AsFd) -> Result<(), Error> {
        epoll::delete(&self.fd, &source).map_err(|errno| failed(&source, errno))
    }

    /// Waits until something is ready or `timeout` (none: for ever; to the
    /// nanosecond where the kernel has `epoll_pwait2`) has passed; returns how
    /// many are ready. A signal handler's interruption ends the wait with 0.
    ///
    /// # Errors
    /// None in practice.
    ///
    /// Source: [epoll_wait(2)](https://man7.org/linux/man-pages/man2/epoll_wait.2.html).
    #[doc(alias = "epoll_wait")]
    #[doc(alias = "epoll_pwait2")]
    pub fn wait(
        &self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> Result<usize, SystemError> {
        events.list.clear();
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        events.list.reserve(events.capacity);
        let room = rustix::buffer::spare_capacity(&mut events.list);
        match epoll::wait(&self.fd, room, timeout.as_ref()) {
            Ok(count) => Ok(count),
            Err(Errno::INTR) => Ok(0),
            Err(errno) => Err(SystemError::new("epoll_wait", "epoll", errno)),
        }
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn failed(source: &impl AsFd, errno: Errno) -> Error {
    let descriptor = source.as_fd().as_raw_fd();
    match errno {
        Errno::PERM => Error::NotPollable { descriptor },
        Errno::EXIST => Error::AlreadyAdded { descriptor },
        Errno::NOENT => Error::NotAdded { descriptor },
        Errno::NOSPC => Error::TooMany { descriptor },
        errno => SystemError::new("epoll_ctl", format!("descriptor {descriptor}"), errno).into(),
    }
}
