//! The daemon's end of a connection.
//!
//! ```text
//!             HELLO                SUBSCRIBE
//!  greeting ---------> admin ----------------> begin <-------------------------+
//!                                                |                             |
//!              revision 0, another epoch, or     |  from a known revision      | fell out of
//!              older than the tombstones         |                             | the journal
//!                    +---------------------------+---------------+             |
//!                    v                           v               v             |
//!                snapshot --its chunks gone--> walk          live, END due     |
//!                    |                           | END           |             |
//!                    +-------- END --------------+---------------+----> live --+
//!                    ^                                                   |
//!                    +---------------- RESYNC ---------------------------+
//! ```
//!
//! - **snapshot**: a place in a shared encoding ([`crate::snapshot`]).
//! - **walk**: a walk of its own ([`crate::walk`]), through its own buffer.
//! - **live**: a place in its view's journal. A client that resumes from a
//!   revision which the journal still has gets `BEGIN`, the journal, and `END`
//!   at the head: the same bytes that the others got.
//!
//! **What a session costs**: this structure, at most `session_output_bytes`
//! while something is in its buffer, at most [`INPUT_BYTES_MAX`] of input that
//! is not yet a whole frame or has to wait, and a marker while it walks. A
//! client that never reads makes none of them larger: its place falls behind,
//! and answers stop being made.

use crate::Millis;
use crate::hub::Hub;
use crate::record::Revision;
use crate::session::HubLimits;
use crate::session::follow::Follow;
use crate::session::info::{Peer, SessionInfo, SessionState, SignalInfo, Transport};
use crate::session::output::Output;
use crate::table::Table;
use crate::token::{Challenge, NONCE_BYTES};
use crate::walk::Walk;
use crate::wire::{
    CHANGE_FRAME_BYTES_MAX, DaemonFrame, DescriptorKind, Done, FEATURE_REJECTED, GoodbyeReason,
    ItemFlags, ItemKind, RejectedBy, Role, SignalWay,
};

/// The largest frame that a client may send, and the most bytes of its input
/// that a session ever keeps: the largest change fits.
pub const INPUT_BYTES_MAX: usize = 28 * 1024;

const _: () = assert!(CHANGE_FRAME_BYTES_MAX <= INPUT_BYTES_MAX);

/// The longest text of a DONE or a GOODBYE; longer ones are cut.
const TEXT_BYTES_MAX: usize = 400;

/// How long a goodbye may take to be written before the connection is closed
/// without it.
const FAREWELL_MS: Millis = 1_000;

/// After so many bytes of answers it is the turn of what the session follows,
/// if something of that waits.
const ANSWERS_PER_TURN: usize = 16 * 1024;

/// Descriptors that one session may be given in its life: enough for an image
/// that doubles until it is as large as it can get, many times over.
const DESCRIPTORS_MAX: u32 = 64;

/// Bytes of an ITEM frame in front of the item.
const ITEM_HEAD_BYTES: usize = 24;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// HELLO hasn't come.
    Greeting,
    /// Frames are taken.
    Open,
    /// A goodbye was said: only the own buffer is still sent.
    Closing,
}

/// What is counted for `rtm client list`.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) sent_records: u64,
    pub(super) conflated: u64,
    pub(super) resumes: u64,
    pub(super) snapshots: u64,
    pub(super) resyncs: u64,
}

/// A load whose changes are coming in.
#[derive(Clone, Copy)]
pub(super) struct Loading {
    pub(super) id: u64,
    /// It was answered before its end: the rest is dropped.
    pub(super) answered: bool,
}

/// The daemon's end of a connection.
pub struct ServerSession {
    pub(super) peer: Peer,
    pub(super) session: u64,
    pub(super) slot: u32,
    pub(super) limits: HubLimits,
    pub(super) stage: Stage,
    /// The connection can be closed, whatever waits to be sent.
    pub(super) over: bool,

    /// Input that isn't a whole frame yet or has to wait: `kept[kept_from..]`.
    pub(super) kept: Vec<u8>,
    pub(super) kept_from: usize,
    /// The first kept frame waits until an answer is given or written.
    pub(super) blocked: bool,
    pub(super) paused: bool,
    pub(super) answering: Option<u64>,
    /// A WANT hasn't been answered: the next one waits, or its descriptor might be
    /// on its way when this one's is to go.
    pub(super) wanting: bool,
    pub(super) loading: Option<Loading>,

    /// Descriptors that it may still be given.
    descriptors_left: u32,

    pub(super) out: Output,
    /// The largest frame that the client takes.
    pub(super) frame_bytes_max: usize,
    /// Feature bits of its HELLO.
    pub(super) features: u64,
    /// What a client that can is asked to prove a secret with.
    pub(super) nonce: Option<[u8; NONCE_BYTES]>,
    pub(super) challenge: Option<Challenge>,
    /// What is told of its registration.
    signal: Option<SignalInfo>,
    pub(super) follow: Follow,
    pub(super) view: Option<usize>,
    /// The revision of the mark that last asked.
    pub(super) asked: Option<Revision>,
    /// Records before the place at which it fell out of the journal.
    pub(super) lost: Option<u64>,
    /// Does something of what it follows wait, as far as was known when it last
    /// wrote? And bytes of answers since such was last sent. They take turns, so
    /// that neither starves the other.
    pub(super) follows_more: bool,
    pub(super) answered: usize,
    pub(super) counters: Counters,

    pub(super) accepted: Millis,
    pub(super) heard: Millis,
    pub(super) sent: Millis,
    beaten: Millis,
    /// When it last took something while something waited for it.
    pub(super) taken: Millis,
    /// Since when it has been behind.
    pub(super) behind: Option<Millis>,
    said_goodbye: Millis,
    /// It was ended because what it needed had to be given up.
    pub(super) fell_behind: bool,
}

impl ServerSession {
    /// A session that was just accepted. `token` is what the hub says when the
    /// session has something to send; `session` its number.
    pub fn new(peer: Peer, token: u64, session: u64, hub: &mut Hub, now: Millis) -> ServerSession {
        let limits = *hub.limits();
        let slot = hub.open_slot(token, session, peer.pid);
        // A classic client greets nobody: it is told everything from the start.
        let (stage, follow) = match peer.transport {
            Transport::Classic => (Stage::Open, Follow::Classic(Box::new(hub.join_classic(slot)))),
            Transport::Unix | Transport::Tcp => (Stage::Greeting, Follow::No),
        };
        ServerSession {
            peer,
            session,
            slot,
            limits,
            stage,
            over: false,
            kept: Vec::new(),
            kept_from: 0,
            blocked: false,
            paused: false,
            answering: None,
            wanting: false,
            loading: None,
            descriptors_left: DESCRIPTORS_MAX,
            out: Output::new(limits.session_output_bytes),
            frame_bytes_max: crate::wire::GREETING_BYTES_MAX,
            features: 0,
            nonce: None,
            challenge: None,
            signal: None,
            follow,
            view: None,
            asked: None,
            lost: None,
            follows_more: false,
            answered: 0,
            counters: Counters::default(),
            accepted: now,
            heard: now,
            sent: now,
            beaten: now,
            taken: now,
            behind: None,
            said_goodbye: now,
            fell_behind: false,
        }
    }

    /// Bytes that the next item's body may have. Below what is needed: wait
    /// until more was written.
    pub fn item_room(&self) -> usize {
        if self.follows_more && self.answered >= ANSWERS_PER_TURN {
            return 0;
        }
        self.out.room().min(self.frame_bytes_max).saturating_sub(ITEM_HEAD_BYTES + 7)
    }

    /// A piece of the answer to the request that is being answered; false, and
    /// nothing done, if there is no room.
    pub fn item(&mut self, kind: ItemKind, flags: ItemFlags, body: &[u8]) -> bool {
        let Some(id) = self.answering else { return true };
        if body.len() > self.item_room() {
            return false;
        }
        let item = DaemonFrame::Item { id, kind, flags, body };
        item.encode(self.out.append(ITEM_HEAD_BYTES + body.len() + 7));
        self.answered += ITEM_HEAD_BYTES + body.len();
        true
    }

    /// Ends the answer to a request or a load (`done.id`). There is always
    /// room for it; its text is cut at 400 bytes. A request may have waited for
    /// this: see [`ServerSession::wants_input`].
    pub fn done(&mut self, done: &Done<'_>) {
        if self.stage != Stage::Open {
            return;
        }
        if self.answering == Some(done.id) {
            self.answering = None;
        }
        if let Some(loading) = &mut self.loading {
            loading.answered |= loading.id == done.id;
        }
        let text = cut(done.text);
        DaemonFrame::Done(Done { text, ..*done }).encode(self.out.append(72 + text.len() + 7));
    }

    /// Answers a WANT with a descriptor, which goes with the slices that say so
    /// ([`crate::Slices::carries_descriptor`]). False: it can't have one, and is
    /// told why.
    pub fn descriptor(&mut self, kind: DescriptorKind) -> bool {
        self.wanting = false;
        if self.stage != Stage::Open || self.out.has_descriptor() {
            return false;
        }
        if self.peer.transport != Transport::Unix {
            self.no_descriptor(
                kind,
                "no descriptor goes through TCP; a Unix socket would be right",
            );
            return false;
        }
        if self.descriptors_left == 0 {
            let text = "this session has been given 64 descriptors, which is all it can have";
            self.no_descriptor(kind, text);
            return false;
        }
        self.descriptors_left -= 1;
        self.out.attach();
        DaemonFrame::Descriptor { kind, given: true, text: "" }.encode(self.out.append(16));
        true
    }

    /// Answers a WANT without one.
    pub fn no_descriptor(&mut self, kind: DescriptorKind, text: &str) {
        self.wanting = false;
        if self.stage != Stage::Open {
            return;
        }
        let text = cut(text);
        let frame = DaemonFrame::Descriptor { kind, given: false, text };
        frame.encode(self.out.append(16 + text.len() + 7));
    }

    /// Asks a client that can to prove a secret; before its HELLO is handled. The
    /// nonce is random and never used again.
    pub fn set_nonce(&mut self, nonce: [u8; NONCE_BYTES]) {
        self.nonce = Some(nonce);
    }

    /// It has proven the secret: this is its role from now on.
    pub fn proven(&mut self, role: Role) {
        if self.stage == Stage::Open {
            self.peer.role = role;
            DaemonFrame::Proven { role }.encode(self.out.append(16));
        }
    }

    /// Answers a REGISTER.
    pub fn registered(&mut self, way: SignalWay, text: &str) {
        // A classic client has no structure for it.
        if self.is_classic()
            || self.stage != Stage::Open
            || self.out.room() < 16 + TEXT_BYTES_MAX + 7
        {
            // A client that asks without reading goes without.
            return;
        }
        let text = cut(text);
        let frame = DaemonFrame::Registered { way, text };
        frame.encode(self.out.append(16 + text.len() + 7));
    }

    /// What is told of its registration from now on.
    pub fn set_signal(&mut self, signal: Option<SignalInfo>) {
        self.signal = signal;
    }

    /// Does it want to be told of rejected changes?
    pub fn wants_rejected(&self) -> bool {
        self.stage == Stage::Open && self.features & FEATURE_REJECTED != 0
    }

    /// Tells that somebody's change was rejected; false, and nothing done, if
    /// there is no room.
    pub fn rejected(&mut self, by: RejectedBy, priority: u32, text: &str) -> bool {
        let text = cut(text);
        if !self.wants_rejected() || self.out.room() < 16 + TEXT_BYTES_MAX + 7 {
            return false;
        }
        let frame = DaemonFrame::Rejected { by, priority, text };
        frame.encode(self.out.append(16 + text.len() + 7));
        true
    }

    /// The request or load that is being answered.
    pub fn answering(&self) -> Option<u64> {
        self.answering
    }

    /// Ends the session: nothing but this goodbye is sent any more. Write, and
    /// close it when [`ServerSession::is_finished`].
    pub fn goodbye(&mut self, reason: GoodbyeReason, text: &str, now: Millis, hub: &mut Hub) {
        if self.stage == Stage::Closing {
            return;
        }
        self.stage = Stage::Closing;
        self.said_goodbye = now;
        if !self.is_classic() {
            let text = cut(text);
            DaemonFrame::Goodbye { reason, text }.encode(self.out.append(16 + text.len() + 7));
        }
        self.kept = Vec::new();
        self.kept_from = 0;
        hub.wake(self.slot);
    }

    /// May the connection be closed?
    pub fn is_finished(&self) -> bool {
        self.over || (self.stage == Stage::Closing && self.out.is_empty())
    }

    /// Has it got everything that is published?
    pub fn is_caught_up(&self, hub: &Hub) -> bool {
        self.out.is_empty()
            && match (&self.follow, self.view) {
                (Follow::No, _) => true,
                (Follow::Classic(cursor), _) => {
                    hub.classic().is_none_or(|view| view.is_at_tail(cursor))
                }
                (Follow::Live { at, due, .. }, Some(view)) => {
                    !due.is_end() && at.offset == hub.view(view).journal.visible().offset
                }
                _ => false,
            }
    }

    /// When [`ServerSession::handle_timeout`] wants to be called next; may be
    /// earlier than something happens.
    pub fn poll_timeout(&self) -> Option<Millis> {
        match (self.stage, self.peer.transport) {
            (Stage::Greeting, _) => Some(self.accepted + self.limits.hello_timeout_ms),
            (Stage::Closing, _) => Some(self.said_goodbye + FAREWELL_MS),
            (Stage::Open, Transport::Unix | Transport::Classic) => None,
            (Stage::Open, Transport::Tcp) => {
                Some(self.next_beat().min(self.heard + self.limits.dead_ms))
            }
        }
    }

    /// A sign of life is wanted when nothing was heard, and given when nothing
    /// was sent.
    fn next_beat(&self) -> Millis {
        self.beaten.max(self.sent.min(self.heard)) + self.limits.heartbeat_ms
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Millis, hub: &mut Hub) {
        match (self.stage, self.peer.transport) {
            (Stage::Greeting, _) if now >= self.accepted + self.limits.hello_timeout_ms => {
                self.goodbye(
                    GoodbyeReason::HelloTimeout,
                    "the hello did not come in time",
                    now,
                    hub,
                );
            }
            (Stage::Closing, _) => self.over |= now >= self.said_goodbye + FAREWELL_MS,
            (Stage::Open, Transport::Tcp) => {
                // While nothing is read from it, it can't be heard: then it
                // shows that it lives by taking what waits for it.
                if self.read_limit() == 0 {
                    let waits = self.wants_write(hub);
                    self.heard = if waits { self.heard.max(self.taken) } else { now };
                }
                if now >= self.heard + self.limits.dead_ms {
                    return self.goodbye(
                        GoodbyeReason::Silent,
                        "nothing was heard for too long",
                        now,
                        hub,
                    );
                }
                if now >= self.next_beat() {
                    self.beaten = now;
                    if self.out.is_empty() {
                        DaemonFrame::Heartbeat.encode(self.out.append(8));
                        hub.wake(self.slot);
                    }
                }
            }
            _ => {}
        }
    }

    /// What is told of it.
    pub fn info(&self, hub: &Hub, now: Millis) -> SessionInfo {
        let (name, filter) = hub.who(self.slot, self.view);
        let mut info = SessionInfo {
            session: self.session,
            name,
            peer: self.peer,
            state: SessionState::Admin,
            subscriber: self.view.is_some() || self.is_classic(),
            filter,
            revision: Revision(0),
            lag_records: 0,
            lag_ms: self.behind.map_or(0, |since| now.saturating_sub(since)),
            queued_bytes: self.out.len() as u64,
            own_bytes: self.own_bytes(),
            sent_records: self.counters.sent_records,
            conflated: self.counters.conflated,
            resumes: self.counters.resumes,
            snapshots: self.counters.snapshots,
            resyncs: self.counters.resyncs,
            not_shown: None,
            signal: self.signal,
            heard_ms: now.saturating_sub(self.heard),
        };
        if let Some(view) = self.view {
            self.describe(hub.view(view), hub, &mut info);
        }
        if let (Follow::Classic(cursor), Some(view)) = (&self.follow, hub.classic()) {
            info.not_shown = Some(view.not_shown());
            info.lag_records = view.lag(cursor);
            (info.state, info.revision) = match view.is_at_tail(cursor) {
                true => (SessionState::Live, hub.published()),
                false if cursor.is_synced() => (SessionState::CatchingUp, Revision(0)),
                false => (SessionState::Snapshot, Revision(0)),
            };
        }
        if self.wants_write(hub) && now >= self.taken.max(now - info.lag_ms) + self.limits.dead_ms {
            info.state = SessionState::Silent;
        }
        match self.stage {
            Stage::Greeting => info.state = SessionState::Greeting,
            Stage::Closing => info.state = SessionState::Closing,
            Stage::Open => {}
        }
        info
    }

    /// The part of what is told that depends on where it stands.
    fn describe(&self, view: &crate::view::View, hub: &Hub, info: &mut SessionInfo) {
        let head = view.journal.visible().records;
        match &self.follow {
            Follow::No | Follow::Classic(_) => {}
            Follow::Begin { from } => {
                info.state =
                    if from.0 == 0 { SessionState::Snapshot } else { SessionState::CatchingUp };
                info.revision = *from;
                info.lag_records = self.lost.map_or(0, |lost| head - lost);
            }
            Follow::Snapshot { id, at, .. } => {
                info.state = SessionState::Snapshot;
                if let Some(generation) = hub.generation(*id) {
                    info.lag_records = generation.walk.records - at.records;
                    info.queued_bytes += generation.distance(at);
                }
            }
            Follow::Walk(walk) => {
                info.state = if walk.from().0 == 0 {
                    SessionState::Snapshot
                } else {
                    SessionState::CatchingUp
                };
                info.revision = walk.from();
                info.lag_records = self.lost.map_or(0, |lost| head - lost);
            }
            Follow::Live { at, marked, due } => {
                info.state =
                    if due.is_end() { SessionState::CatchingUp } else { SessionState::Live };
                info.revision = at.revision.max(*marked);
                info.lag_records = head - at.records;
                info.queued_bytes += view.journal.distance(*at);
            }
        }
    }

    /// Bytes of memory that are this session's alone.
    fn own_bytes(&self) -> u64 {
        let walk = match &self.follow {
            Follow::Walk(walk) => size_of::<Walk>() + walk.bytes(),
            _ => 0,
        };
        (size_of::<ServerSession>() + self.out.capacity() + self.kept.capacity() + walk) as u64
    }

    /// Gives back all that it holds in the hub and the table: to be called
    /// when the connection is closed, however that came.
    pub fn close(mut self, hub: &mut Hub, table: &mut Table) {
        if let Follow::Walk(walk) = &mut self.follow {
            walk.release(table);
        }
        if let Follow::Classic(cursor) = &self.follow {
            hub.leave_classic(cursor);
        }
        hub.close_slot(self.slot);
    }

    /// Its number.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

/// At most [`TEXT_BYTES_MAX`] bytes of a text.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
