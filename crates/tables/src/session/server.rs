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
//! What is sent next is, in this order: the session's own buffer; then chunks
//! of the snapshot or of the journal, straight from where they lie; then the
//! view's mark, if that reaches the head. One `writev` takes all. If the socket
//! stops inside a frame, the rest of that frame is copied into the own buffer,
//! so that the place in the shared bytes is always between two frames, and
//! survives whatever happens to them.
//!
//! **What a session costs**: this structure, at most `session_output_bytes`
//! while something is in its buffer, at most [`INPUT_BYTES_MAX`] of input that
//! is not yet a whole frame or has to wait, and a marker while it walks. A
//! client that never reads makes none of them larger: its place falls behind,
//! and answers stop being made.

use std::io::IoSlice;

use crate::Millis;
use crate::hub::Hub;
use crate::journal::Place;
use crate::record::Revision;
use crate::session::HubLimits;
use crate::session::info::{Peer, SessionInfo, SessionState, Transport};
use crate::session::output::Output;
use crate::snapshot::ChunkPlace;
use crate::table::Table;
use crate::walk::{Shared, Stop, Walk};
use crate::wire::{
    CHANGE_FRAME_BYTES_MAX, DaemonFrame, Done, END_BYTES, GoodbyeReason, ItemFlags, ItemKind,
    MARK_BYTES,
};

/// The largest frame that a client may send, and the most bytes of its input
/// that a session ever keeps: the largest change fits.
pub const INPUT_BYTES_MAX: usize = 28 * 1024;

const _: () = assert!(CHANGE_FRAME_BYTES_MAX <= INPUT_BYTES_MAX);

/// The most slices that [`ServerSession::slices`] gives.
pub const SLICES_MAX: usize = 8;

/// The longest text of a DONE or a GOODBYE; longer ones are cut.
const TEXT_BYTES_MAX: usize = 400;

/// How long a goodbye may take to be written before the connection is closed
/// without it.
const FAREWELL_MS: Millis = 1_000;

/// After so many bytes of answers it is the turn of what the session follows,
/// if something of that waits.
const ANSWERS_PER_TURN: usize = 16 * 1024;

/// Bytes of an ITEM frame in front of the item.
const ITEM_HEAD_BYTES: usize = 24;

/// What to write next, in order: for one `writev`.
#[derive(Debug)]
pub struct Slices<'a> {
    slices: [IoSlice<'a>; SLICES_MAX],
    count: usize,
    bytes: usize,
}

impl<'a> Slices<'a> {
    fn new() -> Slices<'a> {
        Slices { slices: [IoSlice::new(&[]); SLICES_MAX], count: 0, bytes: 0 }
    }

    /// All bytes of all slices.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a slice; false if there is no room for it.
    fn push(&mut self, slice: &'a [u8]) -> bool {
        if self.count == SLICES_MAX {
            return false;
        }
        self.slices[self.count] = IoSlice::new(slice);
        self.count += 1;
        self.bytes += slice.len();
        true
    }
}

impl<'a> std::ops::Deref for Slices<'a> {
    type Target = [IoSlice<'a>];

    fn deref(&self) -> &[IoSlice<'a>] {
        &self.slices[..self.count]
    }
}

/// Where a session that follows stands.
#[derive(Default)]
pub(super) enum Follow {
    /// It doesn't.
    #[default]
    No,
    /// What it gets is decided at the next fill; 0: a snapshot.
    Begin { from: Revision },
    /// It reads a shared snapshot.
    Snapshot { id: u64, shared: Shared, at: ChunkPlace },
    /// It walks by itself.
    Walk(Box<Walk>),
    /// It reads its view's journal. `marked`: the newest revision that an END
    /// or MARK named. `end_due`: at the head it gets END, not MARK.
    Live { at: Place, marked: Revision, end_due: bool },
}

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
    sent_records: u64,
    conflated: u64,
    resumes: u64,
    snapshots: u64,
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
    pub(super) loading: Option<Loading>,

    pub(super) out: Output,
    /// The largest frame that the client takes.
    pub(super) frame_bytes_max: usize,
    pub(super) follow: Follow,
    pub(super) view: Option<usize>,
    /// The revision of the mark that last asked.
    pub(super) asked: Option<Revision>,
    /// Records before the place at which it fell out of the journal.
    lost: Option<u64>,
    /// Does something of what it follows wait, as far as was known when it last
    /// wrote? And bytes of answers since such was last sent. They take turns, so
    /// that neither starves the other.
    follows_more: bool,
    answered: usize,
    pub(super) counters: Counters,

    pub(super) accepted: Millis,
    pub(super) heard: Millis,
    sent: Millis,
    beaten: Millis,
    /// When it last took something while something waited for it.
    taken: Millis,
    /// Since when it has been behind.
    behind: Option<Millis>,
    said_goodbye: Millis,
}

impl ServerSession {
    /// A session that was just accepted. `token` is what the hub says when the
    /// session has something to send; `session` its number.
    pub fn new(peer: Peer, token: u64, session: u64, hub: &mut Hub, now: Millis) -> ServerSession {
        let limits = *hub.limits();
        ServerSession {
            peer,
            session,
            slot: hub.open_slot(token, session, peer.pid),
            limits,
            stage: Stage::Greeting,
            over: false,
            kept: Vec::new(),
            kept_from: 0,
            blocked: false,
            paused: false,
            answering: None,
            loading: None,
            out: Output::new(limits.session_output_bytes),
            frame_bytes_max: crate::wire::GREETING_BYTES_MAX,
            follow: Follow::No,
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
        }
    }

    /// Prepares what is to be sent: to be called before
    /// [`ServerSession::slices`], after [`Hub::publish`]. `budget` bounds the
    /// entities that a walk looks at.
    pub fn fill(&mut self, hub: &mut Hub, table: &mut Table, mut budget: usize) {
        let Some(view) = self.view.filter(|_| self.stage == Stage::Open) else { return };
        loop {
            match std::mem::take(&mut self.follow) {
                Follow::Begin { from } => {
                    if !hub.view(view).is_built() {
                        self.follow = Follow::Begin { from };
                        return hub.park_at_view(self.slot, view);
                    }
                    self.begin(view, from, hub, table);
                }
                Follow::Snapshot { id, shared, at } => {
                    let Some(generation) = hub.generation(id) else {
                        self.follow = self.go_on_alone(view, shared, at, hub, table);
                        continue;
                    };
                    // Its first part may be of use only with its place known.
                    let among = generation.is_among_items(&at);
                    let at = ChunkPlace { among, ..at };
                    self.follow = Follow::Snapshot { id, shared, at };
                    return self.settle(hub);
                }
                Follow::Walk(mut walk) => {
                    if !self.out.wants_filling() {
                        self.follow = Follow::Walk(walk);
                        return;
                    }
                    let records = walk.records;
                    let (bytes, limit) = self.out.fill();
                    let stop = hub.advance_walk(view, &mut walk, table, bytes, limit, &mut budget);
                    self.counters.sent_records += walk.records - records;
                    self.answered = 0;
                    self.out.consume(0);
                    match stop {
                        Some(Stop::Done) => {
                            walk.release(table);
                            self.end_of_walk(view, &walk, hub);
                        }
                        Some(Stop::Lost) => {
                            walk.release(table);
                            self.follow = Follow::Begin { from: Revision(0) };
                        }
                        Some(Stop::Full) => {
                            self.follow = Follow::Walk(walk);
                            return;
                        }
                        Some(Stop::Budget) => {
                            self.follow = Follow::Walk(walk);
                            return hub.wake(self.slot);
                        }
                        None => {
                            self.follow = Follow::Walk(walk);
                            return hub.hold(self.slot);
                        }
                    }
                }
                Follow::Live { at, marked, end_due } => {
                    if !hub.view(view).journal.holds(at) {
                        self.lost.get_or_insert(at.records);
                        self.follow = Follow::Begin { from: at.revision };
                        continue;
                    }
                    self.follow = Follow::Live { at, marked, end_due };
                    return self.settle(hub);
                }
                Follow::No => return,
            }
        }
    }

    /// Decides what a session gets that begins, or begins again.
    fn begin(&mut self, view_index: usize, from: Revision, hub: &mut Hub, table: &mut Table) {
        let view = hub.view(view_index);
        self.behind.get_or_insert(hub.now());
        if from.0 > 0 && from <= hub.published() {
            // A place in the older half might fall out while it is read.
            let half = view.journal.capacity() as u64 / 2;
            let place = view.find(from).filter(|&at| view.journal.distance(at) <= half);
            if let Some(at) = place {
                self.counters.resumes += 1;
                self.lost = None;
                DaemonFrame::Begin { from }.encode(self.out.append(64));
                self.follow = Follow::Live { at, marked: from, end_due: true };
                return;
            }
            if from >= table.oldest_tombstone() {
                self.counters.resumes += 1;
                self.follow = Follow::Walk(Box::new(Walk::new(from, view, table)));
                return;
            }
        }
        self.counters.snapshots += 1;
        self.lost = None;
        self.follow = match hub.join(view_index, table) {
            Some((id, shared)) => Follow::Snapshot { id, shared, at: ChunkPlace::default() },
            None => {
                let view = hub.view(view_index);
                Follow::Walk(Box::new(Walk::new(Revision(0), view, table)))
            }
        };
    }

    /// The shared snapshot that it was reading is gone.
    fn go_on_alone(
        &mut self,
        view: usize,
        shared: Shared,
        at: ChunkPlace,
        hub: &Hub,
        table: &Table,
    ) -> Follow {
        if !at.among {
            return Follow::Walk(Box::new(Walk::new(Revision(0), hub.view(view), table)));
        }
        // Others of the same revision may follow the last one that it got.
        let passed = Revision(at.revision.0.saturating_sub(1));
        Follow::Walk(Box::new(Walk::take_over(shared, passed)))
    }

    /// Its walk has written END: it is live, at the head.
    fn end_of_walk(&mut self, view: usize, walk: &Walk, hub: &Hub) {
        let at = hub.view(view).journal.visible();
        if let Some(lost) = self.lost.take() {
            self.counters.conflated += (at.records - lost).saturating_sub(walk.records);
        }
        self.follow = Follow::Live { at, marked: hub.published(), end_due: false };
    }

    /// What needs no table: END and asking marks at the head, the end of a
    /// snapshot, parking.
    fn settle(&mut self, hub: &mut Hub) {
        let (Some(view_index), Stage::Open) = (self.view, self.stage) else { return };
        if let Follow::Snapshot { id, at, .. } = &self.follow {
            let Some(generation) = hub.generation(*id) else { return };
            if !generation.is_at_end(at) {
                return;
            }
            let Some((at, marked)) = generation.done else {
                if self.out.is_empty() {
                    hub.park_at_generation(self.slot, *id);
                }
                return;
            };
            self.follow = Follow::Live { at, marked, end_due: false };
        }
        let Follow::Live { at, marked, end_due } = &mut self.follow else { return };
        let view = hub.view(view_index);
        let visible = view.journal.visible();
        if at.offset != visible.offset {
            self.behind.get_or_insert(hub.now());
            return;
        }
        let published = hub.published();
        if std::mem::take(end_due) {
            let end = DaemonFrame::End { revision: published, digests: view.digests };
            end.encode(self.out.append(END_BYTES));
            *marked = published;
        }
        if hub.asks(self.slot) {
            let mark = DaemonFrame::Mark { revision: published, digests: view.digests, ask: true };
            mark.encode(self.out.append(MARK_BYTES));
            *marked = published;
            self.asked = Some(published);
            hub.asked(self.slot);
        }
        if self.out.is_empty() && hub.view(view_index).mark_revision <= *marked {
            self.behind = None;
            hub.park_at_view(self.slot, view_index);
        }
    }

    /// What to write now, about `bytes_max` bytes. Empty: nothing; the hub
    /// names the session again when there is.
    pub fn slices<'a>(&'a self, hub: &'a Hub, bytes_max: usize) -> Slices<'a> {
        let mut slices = Slices::new();
        if !self.out.is_empty() {
            slices.push(self.out.pending());
        }
        let (Some(view), Stage::Open) = (self.view, self.stage) else { return slices };
        let room = bytes_max.saturating_sub(slices.bytes).max(1);
        match &self.follow {
            Follow::Live { at, marked, end_due } => {
                let view = hub.view(view);
                if !view.journal.holds(*at) {
                    return slices;
                }
                let mut taken = 0;
                let mut all = true;
                view.journal.slices(*at, room, |bytes| {
                    // The last slice is the mark's.
                    all = slices.count + 1 < SLICES_MAX && slices.push(bytes);
                    taken += if all { bytes.len() } else { 0 };
                    all
                });
                if all && taken < room && !*end_due && view.mark_revision > *marked {
                    slices.push(&view.mark);
                }
            }
            Follow::Snapshot { id, at, .. } => {
                if let Some(generation) = hub.generation(*id) {
                    generation.slices(at, room, |bytes| slices.push(bytes));
                }
            }
            Follow::No | Follow::Begin { .. } | Follow::Walk(_) => {}
        }
        slices
    }

    /// So many of these bytes were written: 0 if the socket took none.
    ///
    /// To be called before anything else changes the hub. If some are left,
    /// wait until the socket can be written again, then fill; if none,
    /// [`ServerSession::wants_write`] tells whether there is more.
    pub fn transmitted(&mut self, bytes: usize, now: Millis, hub: &mut Hub) {
        if bytes == 0 {
            return;
        }
        self.sent = now;
        self.taken = now;
        let own = self.out.len().min(bytes);
        self.out.consume(own);
        let left = bytes - own;
        if left > 0 {
            self.answered = 0;
            self.shared_bytes_sent(left, hub);
        }
        self.settle(hub);
        self.follows_more = self.has_more(hub);
    }

    /// Bytes of shared memory were written: moves the place in it.
    fn shared_bytes_sent(&mut self, bytes: usize, hub: &mut Hub) {
        let Some(view) = self.view else { return };
        match &mut self.follow {
            Follow::Live { at, marked, .. } => {
                let view = hub.view(view);
                let advanced = view.journal.advance(*at, bytes);
                let mut rest = advanced.rest;
                if advanced.over > 0 {
                    *marked = view.mark_revision;
                    rest = &view.mark[advanced.over.min(view.mark.len())..];
                }
                self.counters.sent_records += advanced.place.records - at.records;
                *at = advanced.place;
                if !rest.is_empty() {
                    self.out.append(rest.len()).extend_from_slice(rest);
                }
                if at.offset != view.journal.visible().offset {
                    let newest = self.behind.unwrap_or(hub.now());
                    self.behind =
                        Some(view.journal.appended_at(*at).map_or(newest, |at| at.max(newest)));
                }
            }
            Follow::Snapshot { id, at, .. } => {
                let id = *id;
                if let Some(generation) = hub.generation(id) {
                    let (place, rest) = generation.advance(at, bytes);
                    self.counters.sent_records += place.records - at.records;
                    *at = ChunkPlace { among: generation.is_among_items(&place), ..place };
                    if !rest.is_empty() {
                        self.out.append(rest.len()).extend_from_slice(rest);
                    }
                }
                hub.generation_was_read(id);
            }
            Follow::No | Follow::Begin { .. } | Follow::Walk(_) => {}
        }
    }

    /// Is there, or may there be, more to write? Then fill and write again, now
    /// or (see [`ServerSession::requeue`]) in the next turn.
    pub fn wants_write(&self, hub: &Hub) -> bool {
        !self.out.is_empty() || self.has_more(hub)
    }

    /// Is there more of what it follows?
    fn has_more(&self, hub: &Hub) -> bool {
        let (Some(view), Stage::Open) = (self.view, self.stage) else { return false };
        let view = hub.view(view);
        match &self.follow {
            Follow::No => false,
            Follow::Begin { .. } | Follow::Walk(_) => view.is_built(),
            Follow::Snapshot { id, at, .. } => hub
                .generation(*id)
                .is_none_or(|generation| generation.done.is_some() || !generation.is_at_end(at)),
            Follow::Live { at, marked, end_due } => {
                at.offset != view.journal.visible().offset
                    || *end_due
                    || view.mark_revision > *marked
                    || hub.asks(self.slot)
            }
        }
    }

    /// Names it again in the next turn: it has more to send than its share of
    /// this one.
    pub fn requeue(&self, hub: &mut Hub) {
        hub.wake(self.slot);
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
        let text = cut(text);
        DaemonFrame::Goodbye { reason, text }.encode(self.out.append(16 + text.len() + 7));
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
                (Follow::Live { at, end_due, .. }, Some(view)) => {
                    !end_due && at.offset == hub.view(view).journal.visible().offset
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
            (Stage::Open, Transport::Unix) => None,
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
            subscriber: self.view.is_some(),
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
            heard_ms: now.saturating_sub(self.heard),
        };
        if let Some(view) = self.view {
            self.describe(hub.view(view), hub, &mut info);
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
            Follow::No => {}
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
            Follow::Live { at, marked, end_due } => {
                info.state = if *end_due { SessionState::CatchingUp } else { SessionState::Live };
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

    /// Begins (or begins again) to follow from a revision; 0: a snapshot.
    pub(super) fn follow_from(&mut self, from: Revision, hub: &mut Hub, table: &mut Table) {
        if let Follow::Walk(walk) = &mut self.follow {
            walk.release(table);
        }
        self.follow = Follow::Begin { from };
        hub.wake(self.slot);
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
