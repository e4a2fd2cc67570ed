//! The client's end of a connection.
//!
//! Bytes go in by [`ClientSession::space`] and [`ClientSession::received`], so
//! a socket is read straight into the session's buffer; events come out by
//! [`ClientSession::poll_event`] and borrow from it. Records are offered in
//! runs, as many as are there, so that a replica can overlap its cache misses;
//! the only work here is one look at the head of each.
//!
//! ```text
//!             WELCOME                 subscribe()
//!  greeting ----------> not following -----------> asked
//!                                                    | BEGIN
//!                                                    v
//!                            BEGIN, or a resync   syncing <--+
//!                           +-------------------->   |       | BEGIN
//!                           |                        | END --+
//!                           |                        v
//!                           +---------------------- live
//! ```
//!
//! **Whole transactions only.** While live, records are offered up to the last
//! one that ends a transaction; the beginning of the next waits in the buffer.
//! If the buffer fills up, or a frame that is no record stands in between (an
//! answer does not wait for a long transaction), the waiting records move to
//! `held`, which grows as far as a transaction may, and are offered from there
//! when the last one has come. A BEGIN forgets them: the daemon sends what they
//! said again. Between BEGIN and END transactions don't hold, so whole records
//! are offered as they come.
//!
//! **Where to resume.** [`ClientSession::revision`] is the state that the
//! offered events amount to: while live the last whole transaction or mark;
//! between BEGIN and END it stays at BEGIN's `from`, because a walk from there
//! mends any state that is nowhere older. So a connection may be cut at any
//! byte.
//!
//! **What is checked here**: lengths, the order of revisions while live, frames
//! out of place. What canonical bytes mean is checked by the replica. An error
//! ends the session: it is returned again for ever.

use rtm_model::{Change, DigestKey, Digests};

use crate::Millis;
use crate::record::{Epoch, Flush, Revision};
use crate::token::{Challenge, Secret};
use crate::wire::records::{self, Records};
use crate::wire::{
    ClientFrame, DaemonFrame, DescriptorKind, Done, FEATURE_ACK, FEATURE_PROVE, FRAME_BYTES_MAX,
    Frame, GREETING_BYTES_MAX, GoodbyeReason, Hello, ItemFlags, ItemKind, LoadFlags, RejectedBy,
    Role, SignalWay, Subscribe, SubscribeMode, VERSION, VERSION_LOWEST, Welcome, WireError,
    frame_type,
};

/// Bytes of the buffer that a socket is read into: large enough that a busy
/// stream is read and applied thousands of records at a time.
pub const RECEIVE_BYTES: usize = 256 * 1024;

/// How a client greets, and what it puts up with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientConfig {
    /// What it calls itself, at most 64 bytes; empty: nothing.
    pub name: String,
    /// Bits of [`crate::wire`]; [`FEATURE_ACK`] unless changed.
    pub features: u64,
    /// The secret that it proves to a daemon that asks.
    pub secret: Option<Secret>,
    /// The largest frame it takes.
    pub frame_bytes_max: u32,
    /// The largest transaction it takes; over it the session ends. The
    /// daemon's own limit is a quarter of its journal.
    pub transaction_bytes_max: usize,
    /// Milliseconds in which WELCOME must come.
    pub hello_timeout_ms: u64,
    /// Milliseconds without a byte after which the daemon counts as dead;
    /// `None` on a Unix socket, where the kernel tells.
    pub dead_ms: Option<u64>,
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            name: String::new(),
            features: FEATURE_ACK,
            secret: None,
            frame_bytes_max: FRAME_BYTES_MAX as u32,
            transaction_bytes_max: 1 << 30,
            hello_timeout_ms: 5_000,
            dead_ms: None,
        }
    }
}

/// How far following has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// HELLO is sent, WELCOME hasn't come.
    Greeting,
    /// Not subscribed.
    NotFollowing,
    /// Subscribed; BEGIN hasn't come.
    Asked,
    /// Between BEGIN and END: readable, but not one revision's state.
    Syncing,
    /// Every transaction in order.
    Live,
    /// One side said goodbye, or the session failed.
    Closed,
}

/// Where a replica is to be compared: what an END or a MARK said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compare {
    /// The revision that the replica now has.
    pub revision: Revision,
    /// The digests that it should have.
    pub digests: Digests,
    /// Is an answer wanted?
    pub ask: bool,
}

/// What came.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ClientEvent<'a> {
    /// The daemon answered the hello. A replica of another epoch is of no use
    /// any more: ids and digests are an epoch's.
    Welcome(Welcome),
    /// Up to END, neither order nor transactions hold. `from` 0: a snapshot;
    /// what it doesn't name is gone at END.
    Begin {
        /// What the connection resumes from if it is cut before END.
        from: Revision,
    },
    /// Records: while live whole transactions, else any.
    Records(Records<'a>),
    /// A whole flush: a transaction of its own.
    Flush {
        /// Its revision.
        revision: Revision,
        /// What is emptied.
        what: Flush,
    },
    /// The state is exactly this revision: sweep if it was a snapshot,
    /// compare, tell [`ClientSession::compared`].
    End(Compare),
    /// Compare, tell [`ClientSession::compared`].
    Mark(Compare),
    /// A piece of an answer.
    Item {
        /// The request's.
        id: u64,
        /// What it is.
        kind: ItemKind,
        /// Flags.
        flags: ItemFlags,
        /// The item, with the zeros that pad it to eight bytes.
        body: &'a [u8],
    },
    /// The end of an answer, or of a load.
    Done(Done<'a>),
    /// The answer to [`ClientSession::want`].
    Descriptor {
        /// What it is for.
        kind: DescriptorKind,
        /// The next of the descriptors that came beside the bytes is this one.
        given: bool,
        /// Why none is; empty if one is.
        text: &'a str,
    },
    /// The daemon has taken the proof of [`ClientConfig::secret`].
    Proven {
        /// What this session may do from now on.
        role: Role,
    },
    /// The answer to [`ClientSession::register`].
    Registered {
        /// How the daemon signals a whole flush.
        way: SignalWay,
        /// Why it doesn't; empty if it does.
        text: &'a str,
    },
    /// Somebody's change was rejected (only with
    /// [`FEATURE_REJECTED`](crate::wire::FEATURE_REJECTED)).
    Rejected {
        /// Where it came in.
        by: RejectedBy,
        /// The priority of a message.
        priority: u32,
        /// One line: what, where, why.
        text: &'a str,
    },
    /// The daemon ends the session; nothing follows.
    Goodbye {
        /// Why.
        reason: GoodbyeReason,
        /// One line for people.
        text: &'a str,
    },
}

/// The daemon was silent for too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientTimeout {
    /// WELCOME didn't come within [`ClientConfig::hello_timeout_ms`].
    Hello,
    /// Nothing came within [`ClientConfig::dead_ms`].
    Dead,
}

impl std::fmt::Display for ClientTimeout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ClientTimeout::Hello => "the daemon did not answer the hello in time",
            ClientTimeout::Dead => "the daemon has been silent for too long",
        })
    }
}

impl std::error::Error for ClientTimeout {}

/// The client's end of a connection.
///
/// ```
/// use rtm_tables::{ClientConfig, ClientSession};
/// let mut session = ClientSession::new(ClientConfig::default(), 0);
/// session.subscribe(None, "");
/// assert!(!session.output().is_empty(), "HELLO and SUBSCRIBE wait to be written");
/// ```
#[derive(Debug)]
pub struct ClientSession {
    config: ClientConfig,
    progress: Progress,
    welcome: Option<Welcome>,
    failed: Option<WireError>,

    /// Received bytes: `buffer[start..end]`, the first `scanned` of which are
    /// whole records that wait for the end of their transaction.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    scanned: usize,
    /// Bytes of the event that was handed out; gone at the next call.
    consumed: usize,
    /// The beginning of a transaction that found no room, or was interrupted.
    held: Vec<u8>,
    held_consumed: bool,

    /// What the offered events amount to.
    revision: Revision,
    /// The revision of the newest record seen, for the order.
    newest: Revision,
    resync_asked: bool,

    out: Vec<u8>,
    sent: usize,
    next_id: u64,
    loading: Option<u64>,
    wants: bool,

    started: Millis,
    heard: Millis,
}

impl ClientSession {
    /// A session at its beginning: HELLO waits in [`ClientSession::output`].
    pub fn new(config: ClientConfig, now: Millis) -> ClientSession {
        let mut out = Vec::new();
        ClientFrame::Hello(Hello {
            version: VERSION,
            lowest: VERSION_LOWEST,
            frame_bytes_max: config.frame_bytes_max,
            features: config.features | if config.secret.is_some() { FEATURE_PROVE } else { 0 },
            name: &config.name,
        })
        .encode(&mut out);
        ClientSession {
            config,
            progress: Progress::Greeting,
            welcome: None,
            failed: None,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            scanned: 0,
            consumed: 0,
            held: Vec::new(),
            held_consumed: false,
            revision: Revision(0),
            newest: Revision(0),
            resync_asked: false,
            out,
            sent: 0,
            next_id: 1,
            loading: None,
            wants: false,
            started: now,
            heard: now,
        }
    }

    /// Begins to follow: from the state (epoch, revision) that a replica
    /// holds, or from nothing. `filter` is a filter of the grammar (`rtm_model::text::Filter`); empty:
    /// everything. Need not wait for WELCOME.
    pub fn subscribe(&mut self, from: Option<(Epoch, Revision)>, filter: &str) {
        self.subscribe_as(SubscribeMode::Full, from, filter);
    }

    /// The same, with a mode: whole neighbours, or only their keys.
    pub fn subscribe_as(
        &mut self,
        mode: SubscribeMode,
        from: Option<(Epoch, Revision)>,
        filter: &str,
    ) {
        let (epoch, revision) = from.unwrap_or((Epoch(0), Revision(0)));
        self.revision = revision;
        if self.progress == Progress::NotFollowing {
            self.progress = Progress::Asked;
        }
        self.resync_asked = true; // Nothing can differ before BEGIN.
        let subscribe = Subscribe { epoch, revision, mode, filter };
        ClientFrame::Subscribe(subscribe).encode(&mut self.out);
    }

    /// Registers for the signal of a whole flush, with this process's id as it
    /// sees itself: after the first END, and after a signal pipe was given and
    /// armed, if one was wanted.
    pub fn register(&mut self, pid: u32) {
        ClientFrame::Register { pid }.encode(&mut self.out);
    }

    /// Asks one line of the grammar; the answer's items and its end carry the
    /// returned id. Several may be asked without waiting; they are answered
    /// one after another.
    pub fn request(&mut self, line: &str) -> u64 {
        let id = self.id();
        ClientFrame::Request { id, line }.encode(&mut self.out);
        id
    }

    /// Asks for a descriptor; [`ClientEvent::Descriptor`] answers. Only a Unix
    /// socket carries any.
    pub fn want(&mut self, kind: DescriptorKind) {
        self.wants = true;
        ClientFrame::Want { kind }.encode(&mut self.out);
    }

    /// Was a descriptor ever asked for? Otherwise none comes.
    pub fn wants_descriptors(&self) -> bool {
        self.wants
    }

    /// An answer is no longer wanted: no more items; its end still comes.
    pub fn cancel(&mut self, id: u64) {
        ClientFrame::Cancel { id }.encode(&mut self.out);
    }

    /// Begins a stream of changes; [`ClientEvent::Done`] with the returned id
    /// tells how it went. `source` empty: the admin's.
    pub fn load_begin(&mut self, flags: LoadFlags, source: &str) -> u64 {
        let id = self.id();
        self.loading = Some(id);
        ClientFrame::Load { id, flags, source }.encode(&mut self.out);
        id
    }

    /// One change of the stream that was begun. Write [`ClientSession::output`]
    /// out when some 64 KiB of it have gathered: nothing else bounds it.
    pub fn change(&mut self, change: &Change) {
        debug_assert!(self.loading.is_some(), "a change outside a load");
        crate::wire::encode_change(change, &mut self.out);
    }

    /// Ends the stream; `give_up` undoes an atomic one.
    pub fn load_end(&mut self, give_up: bool) {
        if let Some(id) = self.loading.take() {
            ClientFrame::LoadEnd { id, give_up }.encode(&mut self.out);
        }
    }

    /// The replica was compared at an END or a MARK. Sends ACK if that was
    /// asked, and asks for a snapshot if the digests differ (once, until it
    /// begins): then this returns true, and it is to be counted and logged.
    pub fn compared(&mut self, at: &Compare, agrees: bool) -> bool {
        if at.ask {
            ClientFrame::Ack { revision: at.revision, agrees }.encode(&mut self.out);
        }
        if agrees || self.resync_asked {
            return false;
        }
        self.resync_asked = true;
        ClientFrame::Resync { revision: at.revision }.encode(&mut self.out);
        true
    }

    /// Says goodbye: the last frame. Write the output, then close.
    pub fn goodbye(&mut self) {
        if self.progress != Progress::Closed {
            ClientFrame::Goodbye.encode(&mut self.out);
            self.progress = Progress::Closed;
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Bytes to write.
    pub fn output(&self) -> &[u8] {
        &self.out[self.sent..]
    }

    /// So many of [`ClientSession::output`]'s bytes were written.
    pub fn transmitted(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
    }

    /// Where to read a socket into, at least 64 KiB; then
    /// [`ClientSession::received`]. Poll all events before: what they don't
    /// consume, at most the beginning of a frame or of a transaction, stays.
    pub fn space(&mut self) -> &mut [u8] {
        self.release();
        if self.buffer.is_empty() {
            self.buffer.resize(RECEIVE_BYTES, 0);
        }
        if self.buffer.len() - self.end < RECEIVE_BYTES / 4 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.buffer.len() - self.end < RECEIVE_BYTES / 4 {
                self.hold();
            }
            // Only a caller that doesn't poll gets here without room.
            let least = self.end + RECEIVE_BYTES / 4;
            if self.buffer.len() < least {
                self.buffer.resize(least, 0);
            }
        }
        &mut self.buffer[self.end..]
    }

    /// How much room [`ClientSession::space`] gave.
    pub fn space_len(&self) -> usize {
        self.buffer.len() - self.end
    }

    /// So many bytes were read into [`ClientSession::space`].
    pub fn received(&mut self, bytes: usize, now: Millis) {
        self.end += bytes;
        self.heard = now;
    }

    /// Bytes came: for who has them elsewhere. Copies them.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Millis) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let space = self.space();
            let count = space.len().min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            self.received(count, now);
            rest = &rest[count..];
        }
    }

    /// The next event, or `None` if more bytes are needed. What it borrows is
    /// released at the next call of anything.
    pub fn poll_event(&mut self) -> Result<Option<ClientEvent<'_>>, WireError> {
        self.release();
        loop {
            if let Some(error) = self.failed {
                return Err(error);
            }
            match self.step() {
                Ok(Step::Nothing) => return Ok(None),
                Ok(Step::Skipped) => self.release(),
                Ok(Step::Records) => {
                    let bytes = &self.buffer[self.start..self.start + self.consumed];
                    return Ok(Some(ClientEvent::Records(Records::checked(bytes))));
                }
                Ok(Step::Held) => {
                    return Ok(Some(ClientEvent::Records(Records::checked(&self.held))));
                }
                Ok(Step::Frame) => break,
                Err(error) => {
                    self.failed = Some(error);
                    self.progress = Progress::Closed;
                }
            }
        }
        let bytes = &self.buffer[self.start..self.start + self.consumed];
        let limit = self.config.frame_bytes_max as usize;
        let Some((frame, _)) = Frame::split(bytes, limit)? else { return Ok(None) };
        let Some(frame) = DaemonFrame::decode(&frame)? else { return Ok(None) };
        Ok(event_of(frame))
    }

    /// Forgets the bytes of the event that was handed out last.
    fn release(&mut self) {
        self.start += std::mem::take(&mut self.consumed);
        if std::mem::take(&mut self.held_consumed) {
            // What one huge transaction needed is given back.
            self.held = Vec::new();
        }
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Moves the records that wait for the end of their transaction out of the
    /// way.
    fn hold(&mut self) {
        let records = self.start..self.start + self.scanned;
        self.held.extend_from_slice(&self.buffer[records.clone()]);
        self.start = records.end;
        self.scanned = 0;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.buffer.len() - self.end < RECEIVE_BYTES / 4 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// Looks at what stands first in the buffer and notes what it changes;
    /// whatever the event borrows is `consumed` bytes from `start`, or `held`.
    fn step(&mut self) -> Result<Step, WireError> {
        if self.progress == Progress::Closed {
            self.consumed = self.end - self.start;
            return Ok(Step::Nothing);
        }
        let greeting = self.progress == Progress::Greeting;
        let limit =
            if greeting { GREETING_BYTES_MAX } else { self.config.frame_bytes_max as usize };
        let bytes = &self.buffer[self.start..self.end];
        let live = self.progress == Progress::Live;
        if live || self.progress == Progress::Syncing {
            let floor = live.then_some(self.newest);
            let found = records::scan(bytes, self.scanned, limit, floor)?;
            self.newest = found.newest;
            let whole = if live { found.transactions } else { found.records };
            if whole > 0 {
                if live {
                    self.revision = found.committed;
                }
                // Behind the last whole transaction the next scan begins anew.
                self.scanned = 0;
                if self.held.is_empty() {
                    self.consumed = whole;
                    return Ok(Step::Records);
                }
                self.held.extend_from_slice(&bytes[..whole]);
                self.start += whole;
                self.newest = found.committed;
                self.held_consumed = true;
                return Ok(Step::Held);
            }
            self.scanned = found.records;
            if self.held.len() + self.scanned > self.config.transaction_bytes_max {
                return Err(WireError::Frame {
                    frame_type: frame_type::SET,
                    why: "the transaction is larger than this client takes",
                });
            }
            if !found.other {
                return Ok(Step::Nothing);
            }
            if self.scanned > 0 {
                self.hold();
            }
        }
        self.other_frame(limit)
    }

    /// A frame that is no record stands first, unless it isn't there in full.
    fn other_frame(&mut self, limit: usize) -> Result<Step, WireError> {
        let bytes = &self.buffer[self.start..self.end];
        let Some((frame, length)) = Frame::split(bytes, limit)? else { return Ok(Step::Nothing) };
        let unexpected = |why| WireError::Unexpected { frame_type: frame.frame_type, why };
        let decoded = DaemonFrame::decode(&frame)?;
        self.consumed = length;
        let Some(decoded) = decoded else { return Ok(Step::Skipped) };
        if self.progress == Progress::Greeting
            && !matches!(decoded, DaemonFrame::Welcome(_) | DaemonFrame::Goodbye { .. })
        {
            return Err(unexpected("WELCOME must come first"));
        }
        match decoded {
            DaemonFrame::Welcome(welcome) => {
                if self.welcome.is_some() {
                    return Err(unexpected("it came already"));
                }
                if welcome.version < VERSION_LOWEST || welcome.version > VERSION {
                    return Err(WireError::Version {
                        newest: welcome.version,
                        lowest: welcome.lowest,
                    });
                }
                self.welcome = Some(welcome);
                // A SUBSCRIBE may have been sent behind the hello.
                self.progress =
                    if self.resync_asked { Progress::Asked } else { Progress::NotFollowing };
            }
            DaemonFrame::Begin { from } => {
                if self.progress == Progress::NotFollowing {
                    return Err(unexpected("nothing was subscribed"));
                }
                self.held = Vec::new();
                self.progress = Progress::Syncing;
                self.revision = from;
                self.resync_asked = false;
            }
            DaemonFrame::End { revision, .. } => {
                if self.progress != Progress::Syncing {
                    return Err(unexpected("a BEGIN must come before"));
                }
                self.progress = Progress::Live;
                self.revision = revision;
                self.newest = revision;
            }
            DaemonFrame::Mark { revision, .. } => {
                if self.progress != Progress::Live || !self.held.is_empty() {
                    return Err(unexpected("marks come between whole transactions"));
                }
                if revision < self.revision {
                    return Err(unexpected("its revision has passed already"));
                }
                self.revision = revision;
                self.newest = revision;
            }
            DaemonFrame::Flush { revision, .. } => match self.progress {
                Progress::Syncing => {}
                Progress::Live if self.held.is_empty() && revision > self.revision => {
                    self.revision = revision;
                    self.newest = revision;
                }
                _ => return Err(unexpected("a flush is a transaction of its own")),
            },
            DaemonFrame::Record(_) => return Err(unexpected("a BEGIN must come before")),
            DaemonFrame::Heartbeat => {
                ClientFrame::Heartbeat.encode(&mut self.out);
                return Ok(Step::Skipped);
            }
            DaemonFrame::Challenge { nonce } => {
                let (Some(secret), Some(welcome)) = (&self.config.secret, &self.welcome) else {
                    return Err(unexpected("nothing can be proven here"));
                };
                let (epoch, session) = (welcome.epoch, welcome.session);
                let mac = secret.prove(&Challenge { epoch, session, nonce });
                ClientFrame::Proof { mac }.encode(&mut self.out);
                return Ok(Step::Skipped);
            }
            DaemonFrame::Goodbye { .. } => self.progress = Progress::Closed,
            DaemonFrame::Item { .. }
            | DaemonFrame::Done(_)
            | DaemonFrame::Descriptor { .. }
            | DaemonFrame::Proven { .. }
            | DaemonFrame::Registered { .. }
            | DaemonFrame::Rejected { .. } => {}
        }
        Ok(Step::Frame)
    }

    /// When [`ClientSession::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Millis> {
        match self.progress {
            Progress::Greeting => Some(self.started + self.config.hello_timeout_ms),
            Progress::Closed => None,
            _ => self.config.dead_ms.map(|dead| self.heard + dead),
        }
    }

    /// Time has passed: has the daemon been silent for too long?
    pub fn handle_timeout(&mut self, now: Millis) -> Result<(), ClientTimeout> {
        match self.poll_timeout() {
            Some(due) if due <= now => Err(match self.progress {
                Progress::Greeting => ClientTimeout::Hello,
                _ => ClientTimeout::Dead,
            }),
            _ => Ok(()),
        }
    }

    /// How far following has come.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// What the daemon said in its WELCOME.
    pub fn welcome(&self) -> Option<&Welcome> {
        self.welcome.as_ref()
    }

    /// The epoch of this session's revisions, once WELCOME came.
    pub fn epoch(&self) -> Option<Epoch> {
        self.welcome.map(|welcome| welcome.epoch)
    }

    /// What this epoch's digests are made with, once WELCOME came.
    pub fn digest_key(&self) -> Option<DigestKey> {
        self.welcome.map(|welcome| welcome.digest_key)
    }

    /// The state that the events so far amount to: what to resume from, with
    /// [`ClientSession::epoch`], if the connection is cut now. 0: nothing.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Bytes of an unfinished transaction that are held back.
    pub fn held_bytes(&self) -> usize {
        self.held.len() + self.scanned
    }
}

/// What [`ClientSession::step`] found.
enum Step {
    /// More bytes are needed.
    Nothing,
    /// A frame that concerns nobody: go on.
    Skipped,
    /// Records, in the buffer.
    Records,
    /// Records, in `held`.
    Held,
    /// Another frame.
    Frame,
}

fn event_of(frame: DaemonFrame<'_>) -> Option<ClientEvent<'_>> {
    Some(match frame {
        DaemonFrame::Welcome(welcome) => ClientEvent::Welcome(welcome),
        DaemonFrame::Begin { from } => ClientEvent::Begin { from },
        DaemonFrame::End { revision, digests } => {
            ClientEvent::End(Compare { revision, digests, ask: false })
        }
        DaemonFrame::Mark { revision, digests, ask } => {
            ClientEvent::Mark(Compare { revision, digests, ask })
        }
        DaemonFrame::Flush { revision, what } => ClientEvent::Flush { revision, what },
        DaemonFrame::Item { id, kind, flags, body } => ClientEvent::Item { id, kind, flags, body },
        DaemonFrame::Done(done) => ClientEvent::Done(done),
        DaemonFrame::Descriptor { kind, given, text } => {
            ClientEvent::Descriptor { kind, given, text }
        }
        DaemonFrame::Proven { role } => ClientEvent::Proven { role },
        DaemonFrame::Registered { way, text } => ClientEvent::Registered { way, text },
        DaemonFrame::Rejected { by, priority, text } => {
            ClientEvent::Rejected { by, priority, text }
        }
        DaemonFrame::Goodbye { reason, text } => ClientEvent::Goodbye { reason, text },
        DaemonFrame::Record(_) | DaemonFrame::Heartbeat | DaemonFrame::Challenge { .. } => {
            return None;
        }
    })
}
