//! Following a daemon: a replica that is the daemon's table, and stays it.
//!
//! A [`Follower`] connects, subscribes, applies what comes to its replica,
//! compares digests at every mark, comes back after a break and resumes from
//! where it was. What happens it tells by [`Event`]s, at once and in order, to
//! a closure that every call which may cause them takes.
//!
//! Two ways to drive it:
//!
//! - **Blocking**: [`Follower::turn`] in a loop. It also waits for descriptors
//!   of the caller's.
//! - **In a loop of one's own**: watch [`Follower::as_fd`] for reading and wake
//!   up at [`Follower::next_deadline`]; in both cases call
//!   [`Follower::on_ready`]. The descriptor stays the same over reconnects, and
//!   is readable also when something can be written: it is an epoll of the
//!   follower's own.
//!
//! ```text
//!             connected              BEGIN             END
//!  Connecting ---------> Greeting ----------> Syncing ----> Live
//!      ^                                        ^            |
//!      |  pause over                            +------------+ fell behind, or a
//!  Waiting <---- any of them, connection lost                  digest differed
//! ```
//!
//! **A change is told before it is applied.** Then the store still has the old
//! value with its next hops, and already the links and groups that the new one
//! uses: both can be printed in full.
//!
//! **Digests.** At every END and MARK the replica's digests are compared with
//! the daemon's. If they differ, that is told and counted, and a snapshot is
//! asked for; the replica is right again at its end.
//!
//! **The image.** With [`FollowConfig::image`] the daemon's tables in shared
//! memory are attached, and attached again when they moved into a larger object
//! or the daemon was started anew: at each call of [`Follower::turn`],
//! [`Follower::on_ready`] or [`Follower::refresh`]. Who wants nothing but the image
//! sets the filter `none` and no replica; such a session costs the daemon
//! nothing, and still answers a barrier.
//!
//! **Stale.** Without a connection the replica stays readable, but
//! [`Follower::state`] is `Waiting` or `Connecting`: what it holds may be old.

mod apply;
mod image;
mod waiting;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use ipc::armed::{ArmedPipe, Caught};
use ipc::epoll::{Epoll, Interest};
use ipc::signal::Signal;
use rtm_image::Reader;
use rtm_tables::wire::{DescriptorKind, FEATURE_ACK, FEATURE_REJECTED, Welcome};
use rtm_tables::{ClientConfig, ClientEvent, Compare, Epoch, Replica, Revision};
use rustix::event::PollFlags;

use crate::address::Address;
use crate::backoff::Backoff;
use crate::connection::{CONNECT_TIMEOUT, Connection, wait};
use crate::error::Error;
use crate::event::{Change, Counts, Event, FlushSignal, FollowConfig, Sink, State};
use crate::transport::{Fill, Transport};

/// The most that one [`Follower::on_ready`] reads before it gives control
/// back, so that nobody else in a loop starves.
const READ_BYTES_PER_TURN: usize = 1 << 20;

/// Follows a daemon.
pub struct Follower {
    address: Address,
    config: FollowConfig,
    state: State,
    transport: Option<Transport>,
    /// What [`Follower::as_fd`] hands out: watches the connection, whichever.
    epoll: Epoll,
    watched: Option<Interest>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    replica: Option<Replica>,
    /// What the replica amounts to while there is no connection.
    held: Option<(Epoch, Revision)>,
    /// Where to resume from instead: [`FollowConfig::since`], once filled and
    /// until the daemon has begun.
    rewind: Option<(Epoch, Revision)>,
    /// Filling silently, for [`FollowConfig::since`].
    silent: bool,
    snapshot: bool,
    fresh_connection: bool,
    counts: Counts,
    /// SIGUSR1, once it is caught.
    caught: Option<Caught>,
    /// The armed pipe of this connection.
    armed: Option<ArmedPipe>,
    /// It has registered, or is about to, on this connection.
    registering: bool,
    /// From so many changes on ([`Follower::changes`]) the replica makes its index when
    /// there is time.
    index_from: u64,
    agrees: bool,
    ended: Option<Error>,
    image: Option<Reader>,
    /// The image is asked for, and hasn't come.
    image_asked: bool,
    wake: Option<OwnedFd>,
    /// A mark asked for what the attached image can't show: it moved.
    owed: Option<Compare>,
}

impl Follower {
    /// Connects (waiting for that at most [`CONNECT_TIMEOUT`]) and subscribes.
    ///
    /// # Errors
    /// [`Error::Connect`]: nobody is there. Later breaks are told as events.
    pub fn connect(address: &Address, config: FollowConfig) -> Result<Follower, Error> {
        let connection = Connection::open(address, CONNECT_TIMEOUT)?;
        Follower::on(connection, config)
    }

    /// Follows over a connection that there is already.
    ///
    /// # Errors
    /// EMFILE, as [`Error::System`].
    pub fn on(connection: Connection, config: FollowConfig) -> Result<Follower, Error> {
        let mut follower = Follower::later(connection.address().clone(), config)?;
        follower.begin(connection, Instant::now());
        Ok(follower)
    }

    /// Begins without a connection: the first turn tries to make one, and goes
    /// on trying.
    ///
    /// # Errors
    /// EMFILE, as [`Error::System`].
    pub fn later(address: Address, config: FollowConfig) -> Result<Follower, Error> {
        let epoll = Epoll::new().map_err(|error| {
            Error::System(ipc::SystemError::new("epoll_create1", "epoll", error.errno()))
        })?;
        Ok(Follower {
            address,
            silent: config.since.is_some(),
            config,
            state: State::Waiting,
            transport: None,
            epoll,
            watched: None,
            backoff: Backoff::new(),
            retry_at: Some(Instant::now()),
            replica: None,
            held: None,
            rewind: None,
            snapshot: false,
            fresh_connection: true,
            counts: Counts::default(),
            caught: None,
            armed: None,
            registering: false,
            index_from: u64::MAX,
            agrees: false,
            ended: None,
            image: None,
            image_asked: false,
            wake: None,
            owed: None,
        })
    }

    /// Who is followed.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// How far it has come.
    pub fn state(&self) -> State {
        self.state
    }

    /// Why it is over, if it is.
    pub fn ended(&self) -> Option<&Error> {
        self.ended.as_ref()
    }

    /// The replica, from the first WELCOME on, if one is kept.
    pub fn replica(&self) -> Option<&Replica> {
        self.replica.as_ref()
    }

    /// The replica, for who hands it on when following is over.
    pub fn into_replica(self) -> Option<Replica> {
        self.replica
    }

    /// What the replica amounts to: its history, and the revision. Between
    /// `Begin` and `Synced` the one that it began with.
    pub fn position(&self) -> Option<(Epoch, Revision)> {
        match &self.transport {
            Some(transport) if !matches!(self.state, State::Connecting | State::Greeting) => {
                Some((transport.session.epoch()?, transport.session.revision()))
            }
            _ => self.held,
        }
    }

    /// What the daemon said in its WELCOME, while there is a connection.
    pub fn welcome(&self) -> Option<&Welcome> {
        self.transport.as_ref()?.session.welcome()
    }

    /// Were the digests equal where they were compared last? False before the
    /// first END.
    pub fn agrees(&self) -> bool {
        self.agrees
    }

    /// What was met so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How often SIGUSR1 came since this process first caught it: the hint that
    /// a flush is on its way. 0 without [`FollowConfig::signal`].
    pub fn flush_signals(&self) -> u64 {
        self.caught.map_or(0, |caught| caught.count())
    }

    /// Ends the pause before the next attempt to connect.
    pub fn retry_now(&mut self) {
        if self.transport.is_none() && self.ended.is_none() {
            self.retry_at = Some(Instant::now());
        }
    }

    /// When [`Follower::on_ready`] is due even if the descriptor isn't ready.
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.transport {
            Some(transport) => transport.deadline(),
            None => self.retry_at,
        }
    }

    /// Is something waiting to be written? The descriptor sees to that; this is
    /// for who watches the connection by other means.
    pub fn wants_write(&self) -> bool {
        self.transport.as_ref().is_some_and(|transport| {
            transport.connection.is_connecting() || !transport.session.output().is_empty()
        })
    }

    /// Does what can be done now: connects, writes, reads, applies, tells.
    ///
    /// # Errors
    /// When it is over for good: killed, not permitted, or broken without
    /// [`FollowConfig::reconnect`]. The same error comes again for ever.
    pub fn on_ready(&mut self, now: Instant, tell: Sink<'_>) -> Result<(), Error> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        if self.transport.is_none() {
            if self.retry_at.is_some_and(|at| at > now) {
                return Ok(());
            }
            match Connection::start(&self.address) {
                Ok(connection) => self.begin(connection, now),
                Err(error) => return self.lost(Error::Connect(error), now, tell),
            }
        }
        let worked = self.work(now, tell);
        self.worked(worked, now, tell)
    }

    fn worked(
        &mut self,
        worked: Result<(), Error>,
        now: Instant,
        tell: Sink<'_>,
    ) -> Result<(), Error> {
        match worked {
            Ok(()) => {
                self.watch();
                Ok(())
            }
            Err(error) => self.lost(error, now, tell),
        }
    }

    /// Clears the tables, says goodbye and closes, waiting a second at most for the
    /// bytes to go.
    pub fn goodbye(&mut self) {
        // The tables go first: who has said goodbye has none.
        self.replica = None;
        self.armed = None;
        if let Some(mut transport) = self.transport.take() {
            if !transport.connection.is_connecting() {
                self.held = Some((
                    transport.session.epoch().unwrap_or(Epoch(0)),
                    transport.session.revision(),
                ));
                transport.session.goodbye();
                let end = Instant::now() + Duration::from_secs(1);
                while let Ok(false) = transport.flush() {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    wait(&[(transport.connection.as_fd(), PollFlags::OUT)], Some(left));
                }
            }
            let _ = self.epoll.delete(&transport.connection);
        }
        self.state = State::Ended;
        self.ended.get_or_insert(Error::Closed { address: self.address.clone() });
    }

    /// Greets and subscribes on a new connection.
    fn begin(&mut self, connection: Connection, now: Instant) {
        let config = ClientConfig {
            name: self.config.name.clone(),
            features: if self.config.replica || self.config.image { FEATURE_ACK } else { 0 }
                | if self.config.rejected { FEATURE_REJECTED } else { 0 },
            ..ClientConfig::default()
        };
        let mut transport = Transport::new(connection, config, now);
        let from = self.rewind.or(self.held.filter(|held| held.1 != Revision(0)));
        transport.session.subscribe_as(self.config.mode, from, &self.config.filter);
        // What was attached is another daemon's, or may have moved meanwhile.
        self.image_asked = self.config.image;
        if self.config.image {
            transport.session.want(DescriptorKind::Image);
        }
        self.wake = None;
        self.owed = None;
        if self.config.wake_pipe {
            transport.session.want(DescriptorKind::WakePipe);
        }
        self.state =
            if transport.connection.is_connecting() { State::Connecting } else { State::Greeting };
        self.watched = None;
        self.fresh_connection = true;
        self.registering = false;
        self.armed = None;
        self.transport = Some(transport);
        self.retry_at = None;
        self.watch();
    }

    /// Lets the epoll see what the connection waits for.
    fn watch(&mut self) {
        let interest = if self.wants_write() { Interest::READ_WRITE } else { Interest::READ };
        let Some(transport) = &self.transport else { return };
        if self.watched == Some(interest) {
            return;
        }
        let fd = transport.connection.as_fd();
        // A stream socket can always be watched; should the user's limit of
        // watches be reached, the deadline still wakes the caller.
        let _ = match self.watched {
            None => self.epoll.add(fd, 0, interest),
            Some(_) => self.epoll.modify(fd, 0, interest),
        };
        self.watched = Some(interest);
    }

    fn lost(&mut self, error: Error, now: Instant, tell: Sink<'_>) -> Result<(), Error> {
        self.held = self.position();
        if matches!(error, Error::Entity { .. }) {
            // Whatever the replica amounts to, it isn't a revision's state.
            self.held = None;
        }
        if let Some(transport) = self.transport.take() {
            let _ = self.epoll.delete(&transport.connection);
        }
        self.armed = None;
        if self.config.clear_when_lost {
            (self.replica, self.held) = (None, None);
        }
        if error.is_final() || !self.config.reconnect {
            self.state = State::Ended;
            self.ended = Some(error.clone());
            tell(Event::Lost { error: &error, pause: None });
            return Err(error);
        }
        let pause = self.backoff.pause();
        self.state = State::Waiting;
        self.retry_at = Some(now + pause);
        tell(Event::Lost { error: &error, pause: Some(pause) });
        Ok(())
    }

    fn work(&mut self, now: Instant, tell: Sink<'_>) -> Result<(), Error> {
        let Some(transport) = &mut self.transport else { return Ok(()) };
        if transport.connection.is_connecting() {
            transport.connection.finish()?;
            if transport.connection.is_connecting() {
                return transport.check_time(now);
            }
            self.state = State::Greeting;
        }
        self.ask_for_image();
        let Some(transport) = &mut self.transport else { return Ok(()) };
        transport.flush()?;
        let mut read = 0;
        loop {
            let Some(transport) = &mut self.transport else { return Ok(()) };
            let fill = transport.fill(now)?;
            read += fill.bytes;
            if !self.take(&fill, now, tell)? {
                return Ok(());
            }
            if read >= READ_BYTES_PER_TURN {
                let Some(transport) = &mut self.transport else { return Ok(()) };
                return transport.check_time(now);
            }
        }
    }

    /// What one read brought. True: more may be there.
    fn take(&mut self, fill: &Fill, now: Instant, tell: Sink<'_>) -> Result<bool, Error> {
        self.counts.bytes += fill.bytes as u64;
        let again = self.events(tell)?;
        let Some(transport) = &mut self.transport else { return Ok(false) };
        transport.flush()?;
        if fill.ended {
            return Err(transport.closed());
        }
        if again {
            return Ok(false);
        }
        if fill.drained {
            transport.check_time(now)?;
        }
        Ok(!fill.drained)
    }

    /// Takes all events that the bytes so far amount to. True: the connection
    /// was given up on purpose, to resume from elsewhere.
    fn events(&mut self, tell: Sink<'_>) -> Result<bool, Error> {
        loop {
            let Some(transport) = &mut self.transport else { return Ok(false) };
            let address = transport.connection.address();
            let event = transport
                .session
                .poll_event()
                .map_err(|error| Error::Protocol { address: address.clone(), error })?;
            let Some(event) = event else { return Ok(false) };
            let tells = !self.silent;
            match event {
                ClientEvent::Welcome(welcome) => {
                    self.counts.connects += 1;
                    match &mut self.replica {
                        Some(replica) if replica.epoch() == welcome.epoch => {}
                        // Another history: what is held stays, stale, until the
                        // snapshot that must follow has ended.
                        Some(replica) => replica.set_epoch(welcome.epoch, welcome.digest_key),
                        None if self.config.replica => {
                            self.replica = Some(Replica::new(welcome.epoch, welcome.digest_key));
                        }
                        None => {}
                    }
                    tell(Event::Connected { epoch: welcome.epoch, role: welcome.role });
                }
                ClientEvent::Begin { from } => {
                    self.rewind = None;
                    self.snapshot = from == Revision(0);
                    self.counts.snapshots += u64::from(self.snapshot);
                    let first = std::mem::take(&mut self.fresh_connection);
                    self.counts.resumes += u64::from(first && !self.snapshot);
                    self.counts.catch_ups += u64::from(!first && !self.snapshot);
                    if self.snapshot {
                        if let Some(replica) = &mut self.replica {
                            replica.begin_snapshot();
                        }
                    }
                    self.state = State::Syncing;
                    if tells {
                        tell(Event::Begin { snapshot: self.snapshot, from });
                    }
                }
                ClientEvent::Records(records) => {
                    let applied = match &mut self.replica {
                        None => {
                            for record in records {
                                self.counts.record(&record);
                            }
                            Ok(())
                        }
                        Some(replica) if self.config.changes && tells => {
                            apply::one_by_one(replica, records, &mut self.counts, tell)
                        }
                        Some(replica) => apply::in_batches(replica, records, &mut self.counts),
                    };
                    applied.map_err(|why| Error::Entity { address: address.clone(), why })?;
                }
                ClientEvent::Flush { revision, what } => {
                    self.counts.flushes += 1;
                    if tells {
                        tell(Event::Flushed { revision, what });
                    }
                    if let Some(armed) = &self.armed {
                        armed.drain();
                    }
                    if let Some(replica) = &mut self.replica {
                        replica.flush(what);
                    }
                }
                ClientEvent::End(at) => {
                    if let (true, Some(replica)) = (self.snapshot, &mut self.replica) {
                        let tells = self.config.changes && tells;
                        let revision = at.revision;
                        replica.end_snapshot_with(&mut |store, key| {
                            if tells {
                                let change = Change { revision, last: true, key, new: None, store };
                                tell(Event::Change(change));
                            }
                        });
                    }
                    self.state = State::Live;
                    self.index_from = self.changes() + waiting::INDEX_AFTER;
                    // Not before: a daemon that only greets isn't pressed.
                    self.backoff.reset();
                    let agrees = self.compare(&at, tell);
                    if !agrees {
                        continue;
                    }
                    if let (true, Some(since)) = (self.silent, self.config.since) {
                        return Ok(self.rewind(since));
                    }
                    self.register()?;
                    let (revision, snapshot) = (at.revision, self.snapshot);
                    let store = self.replica.as_ref().map(Replica::store);
                    tell(Event::Synced { revision, snapshot, store });
                }
                ClientEvent::Mark(at) => {
                    let agrees = self.compare(&at, tell);
                    if agrees && tells {
                        tell(Event::Marked { revision: at.revision });
                    }
                }
                ClientEvent::Goodbye { reason, text } => {
                    let text = text.to_owned();
                    return Err(Error::Goodbye { address: address.clone(), reason, text });
                }
                ClientEvent::Registered { way, text } => tell(Event::Registered { way, text }),
                ClientEvent::Descriptor { kind, given, text } => {
                    let why = text.to_owned();
                    self.descriptor(kind, given, why, tell)?;
                }
                ClientEvent::Rejected { by, priority, text } => {
                    tell(Event::Rejected { by, priority, text });
                }
                // Answers to requests: a follower asks none.
                ClientEvent::Item { .. } | ClientEvent::Done(_) => {}
                _ => {}
            }
        }
    }

    /// The first synchronisation of this connection is finished: registers for
    /// the signal, if that is wanted.
    fn register(&mut self) -> Result<(), Error> {
        let Some(transport) = &mut self.transport else { return Ok(()) };
        let unix = matches!(transport.connection.address(), Address::Unix(_));
        if self.config.signal == FlushSignal::No || !unix || self.registering {
            return Ok(());
        }
        // Before anything can send it: its default would end the process.
        if self.caught.is_none() {
            self.caught = Some(Caught::install(Signal::USR1).map_err(Error::System)?);
        }
        self.registering = true;
        match self.config.signal {
            FlushSignal::Armed => transport.session.want(DescriptorKind::SignalPipe),
            _ => transport.session.register(std::process::id()),
        }
        Ok(())
    }

    /// Compares the replica at an END or a MARK, and lets the session answer.
    fn compare(&mut self, at: &Compare, tell: Sink<'_>) -> bool {
        let Some(replica) = &self.replica else {
            self.counts.marks += 1;
            if at.ask && self.config.image {
                self.answer_for_image(at);
            }
            return true;
        };
        let ours = replica.digests();
        let agrees = ours == at.digests;
        self.agrees = agrees;
        self.counts.marks += u64::from(agrees);
        let resync =
            self.transport.as_mut().is_some_and(|transport| transport.session.compared(at, agrees));
        if resync {
            self.counts.resyncs += 1;
            tell(Event::Differed { revision: at.revision, ours, theirs: at.digests });
        }
        agrees
    }

    /// The replica is filled: go back to `since` on a new connection, and tell
    /// what comes. Walking from there again mends nothing and harms nothing:
    /// the replica is nowhere older.
    fn rewind(&mut self, since: (Epoch, Revision)) -> bool {
        self.silent = false;
        if let Some(mut transport) = self.transport.take() {
            transport.session.goodbye();
            // If these few bytes don't go, the close says the same.
            let _ = transport.flush();
            let _ = self.epoll.delete(&transport.connection);
        }
        self.rewind = Some(since);
        self.state = State::Waiting;
        self.retry_at = Some(Instant::now());
        true
    }
}

impl AsFd for Follower {
    /// Readable when [`Follower::on_ready`] has something to do; the same
    /// descriptor all the time.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower")
            .field("address", &self.address)
            .field("state", &self.state)
            .field("position", &self.position())
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}
