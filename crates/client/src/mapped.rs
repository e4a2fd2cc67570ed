//! The daemon's tables, mapped and kept attached, for who looks things up and
//! wants nothing to do with connections: a data plane, an agent, `librtm`.
//!
//! ```text
//!   tables()      --> Reader          no system call but every now and then
//!   next_notice() --> Notice or None  attached, lost, changes in order
//!   as_fd()                           readable when next_notice() has something
//! ```
//!
//! **Attached by itself.** When the tables moved into a larger object, or the
//! daemon was started anew, the newest is attached; who drives [`Mapped::next_notice`]
//! sees it as notices. Who only looks things up needs not: [`Mapped::tables`]
//! looks after the connection when the object says that it moved, and once in
//! so many calls that it does so about every millisecond and costs nothing
//! beside the lookups. Without a daemon the last tables stay.
//!
//! **One descriptor.** An epoll over the connection, the wake pipe and a timer
//! (attempts to reconnect), the same one until the process forks.
//!
//! **Changes** come out of the image's ring (`crate::ring`); a place in it is
//! taken before [`Mapped::open`] returns, so who reads the tables then and
//! applies what [`Mapped::next_notice`] tells misses nothing. Where something is
//! missing in the ring, [`Notice::Reread`] says so.
//!
//! **After a fork** the child has the mapping, and a connection that is its
//! parent's. It goes on with the mapping, never touches that connection, and
//! makes one of its own as soon as it looks after it.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use ipc::epoll::{Epoll, Interest};
use ipc::event::Event as Counter;
use ipc::timer::Timer;
use rtm_image::{Reader, WAIT_MAX};
use rtm_model::{Entity, EntityKey};
use rtm_tables::wire::records::WireRecord;
use rtm_tables::{Flush, RecordOp, Revision};
use rustix::event::{PollFd, PollFlags};

use crate::address::Address;
use crate::connection::Connection;
use crate::error::Error;
use crate::event::{Event, FollowConfig};
use crate::follower::Follower;
use crate::ring::{RingEvent, RingFollower};

/// How often [`Mapped::tables`] looks after the connection, about.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The most calls between two such looks.
const CALLS_MAX: u32 = 1024;

/// The most notices about the connection that are kept for who doesn't fetch
/// them: then the oldest go.
const TOLD_MAX: usize = 64;

/// How a [`Mapped`] learns of changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Changes {
    /// Not at all: it only looks things up.
    #[default]
    No,
    /// By a pipe: [`Mapped::as_fd`] becomes readable. One byte a turn from the
    /// daemon, whose cost grows by a write for each such client.
    Pipe,
    /// By the futex in the image, in [`Mapped::wait`] alone: costs the daemon
    /// nothing per client. A hostile local process can delay a wake-up, by at
    /// most 100 ms.
    Futex,
}

/// How to open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MappedConfig {
    /// What `rtm client list` shows; at most 64 bytes.
    pub name: String,
    /// Tell changes?
    pub changes: Changes,
    /// Succeed without a daemon, and attach when there is one?
    pub later: bool,
    /// How long [`Mapped::open`] waits for a daemon that is there.
    pub timeout: Duration,
}

impl Default for MappedConfig {
    fn default() -> MappedConfig {
        MappedConfig {
            name: String::new(),
            changes: Changes::No,
            later: false,
            timeout: crate::CONNECT_TIMEOUT,
        }
    }
}

/// What happened, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// Tables are attached: after they grew, of a daemon that was started anew,
    /// or for the first time where there was none before.
    Attached {
        /// The history that its revisions belong to.
        epoch: u64,
        /// The revision that they show.
        revision: Revision,
    },
    /// The connection is lost. The tables stay as they are.
    Lost {
        /// Why, in one line.
        why: String,
    },
    /// Not everything that changed will be told: read the tables again.
    Reread,
    /// All routes, or all neighbours, are gone.
    Flushed {
        /// The flush's revision.
        revision: Revision,
        /// What is gone.
        what: Flush,
    },
    /// An entity is new or has changed.
    Set {
        /// Its transaction.
        revision: Revision,
        /// The last of its transaction?
        last: bool,
        /// What it is now.
        entity: Entity,
    },
    /// An entity is gone.
    Gone {
        /// Its transaction.
        revision: Revision,
        /// The last of its transaction?
        last: bool,
        /// Which it was.
        key: EntityKey,
    },
}

/// Why [`Mapped::wait`] came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waited {
    /// [`Mapped::next_notice`] may have something.
    Ready,
    /// The time is over, or a signal handler ran.
    Nothing,
    /// Somebody said so by an [`Interrupt`], which is used up by this.
    Interrupted,
}

/// Ends a [`Mapped::wait`] from another thread or a signal handler.
#[derive(Debug)]
pub struct Interrupt(Counter);

impl Interrupt {
    /// A new one.
    ///
    /// # Errors
    /// EMFILE, as [`Error::System`].
    pub fn new() -> Result<Interrupt, Error> {
        Ok(Interrupt(Counter::new()?))
    }

    /// The wait under way, or the next one, returns [`Waited::Interrupted`].
    pub fn interrupt(&self) {
        // Nothing but a full counter could keep it from being written.
        let _ = self.0.notify();
    }
}

/// The daemon's tables, kept attached.
pub struct Mapped {
    tables: Option<Reader>,
    /// Calls of `tables` until the connection is looked after again.
    left: u32,
    calls: u32,
    looked: Instant,
    follower: Follower,
    address: Address,
    config: MappedConfig,
    ring: Option<RingFollower>,
    notices: VecDeque<Notice>,
    epoll: Epoll,
    timer: Timer,
    /// When the timer expires.
    armed: Option<Instant>,
    pipe: Option<OwnedFd>,
    /// That the connection is lost was told.
    lost: bool,
    process: u32,
}

fn follow(config: &MappedConfig) -> FollowConfig {
    FollowConfig {
        name: config.name.clone(),
        filter: "none".to_owned(),
        replica: false,
        image: true,
        wake_pipe: config.changes == Changes::Pipe,
        ..FollowConfig::default()
    }
}

fn watch(epoll: &Epoll, source: impl AsFd) -> Result<(), Error> {
    epoll
        .add(source, 0, Interest::READ)
        .map_err(|error| Error::System(ipc::SystemError::new("epoll_ctl", "epoll", error.errno())))
}

fn new_epoll() -> Result<Epoll, Error> {
    Epoll::new().map_err(|error| {
        Error::System(ipc::SystemError::new("epoll_create1", "epoll", error.errno()))
    })
}

impl Mapped {
    /// Connects and attaches the tables; without [`MappedConfig::later`] they
    /// are there when it returns.
    ///
    /// # Errors
    /// [`Error`]: no daemon, no access, not in time, or no image over this
    /// address (TCP).
    pub fn open(address: &Address, config: MappedConfig) -> Result<Mapped, Error> {
        let deadline = Instant::now() + config.timeout;
        let follower = match Connection::open(address, config.timeout) {
            Ok(connection) => Follower::on(connection, follow(&config))?,
            Err(_) if config.later => Follower::later(address.clone(), follow(&config))?,
            Err(error) => return Err(error.into()),
        };
        let (epoll, timer) = (new_epoll()?, Timer::new()?);
        watch(&epoll, &follower)?;
        watch(&epoll, &timer)?;
        let mut mapped = Mapped {
            tables: None,
            left: 1,
            calls: 1,
            looked: Instant::now(),
            follower,
            address: address.clone(),
            config,
            ring: None,
            notices: VecDeque::new(),
            epoll,
            timer,
            armed: None,
            pipe: None,
            lost: false,
            process: std::process::id(),
        };
        mapped.first(deadline)?;
        Ok(mapped)
    }

    /// Until the first tables are attached.
    fn first(&mut self, deadline: Instant) -> Result<(), Error> {
        while !self.config.later && self.tables.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let (address, after) = (self.address.clone(), self.config.timeout);
                return Err(crate::ConnectError::TimedOut { address, after }.into());
            }
            let (mut image, mut lost) = (None, None);
            self.follower.turn(Some(left), &[], &mut |event| match event {
                Event::Attached { image: reader } => image = Some(reader.clone()),
                Event::Lost { error, .. } => lost = Some(error.clone()),
                _ => {}
            })?;
            if let Some(error) = lost {
                return Err(error);
            }
            if let Some(image) = image {
                self.attach(image);
            }
        }
        // That the first ones are attached is no news to who waited for them.
        self.notices.clear();
        self.work(Instant::now())
    }

    fn attach(&mut self, image: Reader) {
        if self.config.changes != Changes::No {
            match &mut self.ring {
                Some(ring) => ring.attached(&image),
                None => self.ring = Some(RingFollower::new(&image)),
            }
        }
        let state = image.state();
        let (epoch, revision) = state.map_or((0, 0), |state| (state.epoch, state.revision));
        self.lost = false;
        self.tell(Notice::Attached { epoch, revision: Revision(revision) });
        self.tables = Some(image);
    }

    /// The tables, to be asked now. `None`: opened [`MappedConfig::later`], and
    /// no daemon has been there yet.
    #[inline]
    pub fn tables(&mut self) -> Option<&Reader> {
        self.left -= 1;
        if self.left == 0 || self.tables.as_ref().is_none_or(Reader::writer_moved) {
            self.look();
        }
        self.tables.as_ref()
    }

    /// The tables as they were attached last; looks after nothing.
    pub fn attached(&self) -> Option<&Reader> {
        self.tables.as_ref()
    }

    #[cold]
    #[inline(never)]
    fn look(&mut self) {
        let now = Instant::now();
        // As many calls as fit between two looks.
        let since = now.saturating_duration_since(self.looked);
        self.calls = if since < LOOK_EVERY / 2 {
            (self.calls * 2).min(CALLS_MAX)
        } else if since > LOOK_EVERY {
            let share = LOOK_EVERY.as_nanos() * u128::from(self.calls) / since.as_nanos();
            (share as u32).max(1)
        } else {
            self.calls
        };
        self.left = self.calls;
        self.looked = now;
        // Whatever has become of the connection: the tables answer.
        let _ = self.work(now);
    }

    /// Does for the connection what can be done now. Fetches no changes.
    fn work(&mut self, now: Instant) -> Result<(), Error> {
        if std::process::id() != self.process {
            self.forked()?;
        }
        if let Some(error) = self.follower.ended() {
            return Err(error.clone());
        }
        let (mut images, mut lost) = (Vec::new(), None);
        let result = self.follower.on_ready(now, &mut |event| match event {
            Event::Attached { image } => images.push(image.clone()),
            Event::Lost { error, .. } => lost = Some(error.to_string()),
            _ => {}
        });
        if let (Some(why), false) = (lost, self.lost) {
            // Told once, not at each attempt to mend it.
            self.lost = true;
            self.tell(Notice::Lost { why });
        }
        for image in images {
            self.attach(image);
        }
        self.watch_pipe()?;
        self.arm(now)?;
        result
    }

    /// Something about the connection: bounded also where nobody fetches it.
    fn tell(&mut self, notice: Notice) {
        let is_old =
            |notice: &Notice| matches!(notice, Notice::Attached { .. } | Notice::Lost { .. });
        while self.notices.len() >= TOLD_MAX && self.notices.front().is_some_and(is_old) {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }

    /// Each connection has a wake pipe of its own.
    fn watch_pipe(&mut self) -> Result<(), Error> {
        let Some(pipe) = self.follower.take_wake_pipe() else { return Ok(()) };
        self.forget_pipe();
        // The daemon's end is another open file description.
        rustix::io::ioctl_fionbio(&pipe, true)
            .map_err(|errno| ipc::SystemError::new("ioctl(FIONBIO)", "wake pipe", errno))?;
        watch(&self.epoll, &pipe)?;
        self.pipe = Some(pipe);
        Ok(())
    }

    fn forget_pipe(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            // A forked child may hold it open, and then closing isn't enough.
            let _ = self.epoll.delete(&pipe);
        }
    }

    fn drain_pipe(&mut self) {
        let mut bytes = [0; 4096];
        while let Some(pipe) = &self.pipe {
            match rustix::io::read(pipe, &mut bytes) {
                Ok(0) => self.forget_pipe(),
                Ok(count) if count == bytes.len() => {}
                _ => return,
            }
        }
    }

    /// The timer expires when the follower wants to be looked at.
    fn arm(&mut self, now: Instant) -> Result<(), Error> {
        if self.armed.is_some_and(|at| at <= now) {
            self.timer.expirations()?;
            self.armed = None;
        }
        let due = self.follower.next_deadline();
        if due != self.armed {
            match due {
                Some(at) => self.timer.once(at.saturating_duration_since(now))?,
                None => self.timer.disarm()?,
            }
            self.armed = due;
        }
        Ok(())
    }

    /// This is the child of who opened it: what is shared with the parent is
    /// closed without a word, and a connection of our own is made.
    fn forked(&mut self) -> Result<(), Error> {
        let (epoll, timer) = (new_epoll()?, Timer::new()?);
        let follower = Follower::later(self.address.clone(), follow(&self.config))?;
        watch(&epoll, &follower)?;
        watch(&epoll, &timer)?;
        self.process = std::process::id();
        // Nothing is taken out of the old epoll: that would be the parent's, too.
        (self.pipe, self.armed, self.lost) = (None, None, false);
        (self.epoll, self.timer, self.follower) = (epoll, timer, follower);
        Ok(())
    }

    /// What happened next; `None`: nothing more. Never waits.
    ///
    /// # Errors
    /// It is over for good (an admin ended the session, say), after everything
    /// else was told. The tables stay readable.
    pub fn next_notice(&mut self) -> Result<Option<Notice>, Error> {
        if let Some(notice) = self.notices.pop_front() {
            return Ok(Some(notice));
        }
        // What came after this wakes again.
        self.drain_pipe();
        let result = self.work(Instant::now());
        self.poll_ring();
        match self.notices.pop_front() {
            Some(notice) => Ok(Some(notice)),
            None => {
                // After a burst; a lap of the ring at most.
                self.notices.shrink_to(TOLD_MAX);
                result.map(|()| None)
            }
        }
    }

    fn poll_ring(&mut self) {
        let (Some(ring), notices) = (&mut self.ring, &mut self.notices) else { return };
        ring.poll(|event| match event {
            RingEvent::Record(record) => {
                notices.push_back(notice_of(&record).unwrap_or(Notice::Reread));
            }
            RingEvent::Flushed { revision, what } => {
                notices.push_back(Notice::Flushed { revision, what });
            }
            RingEvent::Reread => notices.push_back(Notice::Reread),
        });
    }

    /// Is there something for [`Mapped::next_notice`], as far as can be said without a
    /// system call?
    fn has_something(&self) -> bool {
        !self.notices.is_empty() || self.ring.as_ref().is_some_and(RingFollower::is_behind)
    }

    /// Waits until [`Mapped::next_notice`] has something, at most `timeout` (`None`:
    /// for ever), or until it is interrupted.
    ///
    /// # Errors
    /// As [`Mapped::next_notice`].
    pub fn wait(
        &mut self,
        timeout: Option<Duration>,
        interrupt: Option<&Interrupt>,
    ) -> Result<Waited, Error> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let now = Instant::now();
            self.drain_pipe();
            let result = self.work(now);
            if self.has_something() {
                return Ok(Waited::Ready);
            }
            result?;
            let left = deadline.map(|at| at.saturating_duration_since(now));
            let moved = self.tables.as_ref().is_some_and(Reader::writer_moved);
            let sleeps_on_futex = self.config.changes == Changes::Futex
                && self.ring.is_some()
                && !moved
                && !self.lost;
            // Who sleeps on the futex looks at the rest every 100 ms.
            let patience = if sleeps_on_futex { Some(Duration::ZERO) } else { left };
            match self.poll(patience, interrupt)? {
                Waited::Nothing if sleeps_on_futex => {}
                Waited::Ready => continue,
                Waited::Interrupted => {
                    if let Some(interrupt) = interrupt {
                        interrupt.0.take()?;
                    }
                    return Ok(Waited::Interrupted);
                }
                Waited::Nothing => return Ok(Waited::Nothing),
            }
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Waited::Nothing);
            }
            let (before, slice) = (Instant::now(), left.unwrap_or(WAIT_MAX).min(WAIT_MAX));
            let ring = self.ring.as_ref().map(|ring| ring.wait(slice)).transpose()?;
            let whole = before.elapsed() >= slice;
            let moved = self.tables.as_ref().is_some_and(Reader::writer_moved);
            if ring == Some(false) && !whole && !moved {
                // A signal handler ran, or a wake-up that was no news.
                return Ok(Waited::Nothing);
            }
        }
    }

    fn poll(
        &self,
        timeout: Option<Duration>,
        interrupt: Option<&Interrupt>,
    ) -> Result<Waited, Error> {
        let mut fds = vec![PollFd::from_borrowed_fd(self.epoll.as_fd(), PollFlags::IN)];
        fds.extend(interrupt.map(|interrupt| PollFd::new(&interrupt.0, PollFlags::IN)));
        let timeout = timeout.map(|left| rustix::event::Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(0) | Err(ipc::Errno::INTR) => Ok(Waited::Nothing),
            Ok(_) if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) => {
                Ok(Waited::Interrupted)
            }
            Ok(_) => Ok(Waited::Ready),
            Err(errno) => Err(ipc::SystemError::new("poll", "epoll", errno).into()),
        }
    }

    /// Is there a connection whose session is live?
    pub fn is_connected(&self) -> bool {
        self.follower.welcome().is_some()
    }

    /// Whose tables these are.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Says goodbye. In a forked child that never looked after the connection
    /// the parent's is left alone.
    pub fn close(mut self) {
        if std::process::id() == self.process {
            self.follower.goodbye();
        }
    }
}

/// `None`: it can't be an entity.
fn notice_of(record: &WireRecord<'_>) -> Option<Notice> {
    let (revision, last) = (record.revision, record.last);
    Some(match record.op {
        RecordOp::Set => {
            let entity = Entity::decode(record.kind, record.body).ok()?;
            Notice::Set { revision, last, entity }
        }
        RecordOp::Delete => {
            let key = EntityKey::decode(record.kind, record.body).ok()?;
            Notice::Gone { revision, last, key }
        }
    })
}

impl AsFd for Mapped {
    /// Readable when [`Mapped::next_notice`] has something to tell or to do. After a
    /// fork the child has another one.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapped")
            .field("address", &self.address)
            .field("follower", &self.follower)
            .finish_non_exhaustive()
    }
}
