//! What a session sends of what it follows.
//!
//! What is sent next is, in this order: the session's own buffer; then chunks
//! of the snapshot or of the journal, straight from where they lie; then the
//! view's mark, if that reaches the head. One `writev` takes all. If the socket
//! stops inside a frame, the rest of that frame is copied into the own buffer,
//! so that the place in the shared bytes is always between two frames, and
//! survives whatever happens to them.
//!
//! The states are drawn in `session/server.rs`. [`ServerSession::fill`] moves from
//! one to the next where that takes the table; `settle` where it doesn't, so that
//! after a write most sessions are parked again at once.

use crate::Millis;
use crate::classic::ClassicCursor;
use crate::hub::Hub;
use crate::journal::Place;
use crate::record::Revision;
use crate::session::output::{SLICES_MAX, Slices};
use crate::session::server::{ServerSession, Stage};
use crate::snapshot::ChunkPlace;
use crate::table::Table;
use crate::walk::{Shared, Stop, Walk};
use crate::wire::{DaemonFrame, END_BYTES, MARK_BYTES};

/// Where a session that follows stands.
#[derive(Default)]
pub(super) enum Follow {
    /// It doesn't.
    #[default]
    No,
    /// What it gets is decided at the next fill; 0: a snapshot.
    Begin { from: Revision },
    /// It reads a shared snapshot. `old`: that was finished before the revision
    /// at which this session joined, so its END isn't sent; the journal's records
    /// come before END then.
    Snapshot { id: u64, shared: Shared, at: ChunkPlace, old: bool },
    /// It walks by itself.
    Walk(Box<Walk>),
    /// It reads its view's journal. `marked`: the newest revision that an END
    /// or MARK named.
    Live { at: Place, marked: Revision, due: Due },
    /// It gets the rows of [`crate::classic`].
    Classic(Box<ClassicCursor>),
}

/// What a session that reads the journal gets at its head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// MARK.
    Mark,
    /// END: it resumes.
    End,
    /// END: of a snapshot, and it has nothing before it has that.
    EndOfSnapshot,
}

impl Due {
    /// Is it still between BEGIN and END?
    pub(super) fn is_end(self) -> bool {
        self != Due::Mark
    }
}

impl ServerSession {
    /// Prepares what is to be sent: to be called before
    /// [`ServerSession::slices`], after [`Hub::publish`]. `budget` bounds the
    /// entities that a walk looks at.
    pub fn fill(&mut self, hub: &mut Hub, table: &mut Table, mut budget: usize) {
        if self.is_classic() {
            if self.stage == Stage::Open {
                self.fill_classic(hub, table, budget);
            }
            return;
        }
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
                Follow::Snapshot { id, shared, at, old } => {
                    let Some(generation) = hub.generation(id) else {
                        self.follow = self.go_on_alone(view, shared, at, hub, table);
                        continue;
                    };
                    // Its first part may be of use only with its place known.
                    let among = generation.is_among_items(&at);
                    let at = ChunkPlace { among, ..at };
                    self.follow = Follow::Snapshot { id, shared, at, old };
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
                Follow::Live { at, marked, due } => {
                    if !hub.view(view).journal.holds(at) {
                        self.lost.get_or_insert(at.records);
                        // A snapshot that hasn't come to its END is nothing to go on from.
                        let whole = due != Due::EndOfSnapshot;
                        let from = if whole { at.revision } else { Revision(0) };
                        self.follow = Follow::Begin { from };
                        continue;
                    }
                    self.follow = Follow::Live { at, marked, due };
                    return self.settle(hub);
                }
                Follow::No | Follow::Classic(_) => return,
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
                self.follow = Follow::Live { at, marked: from, due: Due::End };
                return;
            }
            if from >= table.oldest_tombstone() && view.can_tell_since(from) {
                self.counters.resumes += 1;
                self.follow = Follow::Walk(Box::new(Walk::new(from, view, table)));
                return;
            }
        }
        self.counters.snapshots += 1;
        self.lost = None;
        self.follow = match hub.join(view_index, table) {
            Some((id, shared)) => {
                let done = hub.generation(id).and_then(|generation| generation.done);
                let old = done.is_some_and(|(_, revision)| revision < hub.published());
                Follow::Snapshot { id, shared, at: ChunkPlace::default(), old }
            }
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
        self.follow = Follow::Live { at, marked: hub.published(), due: Due::Mark };
    }

    /// What needs no table: END and asking marks at the head, the end of a
    /// snapshot, parking.
    fn settle(&mut self, hub: &mut Hub) {
        let (Some(view_index), Stage::Open) = (self.view, self.stage) else { return };
        if let Follow::Snapshot { id, at, old, .. } = &self.follow {
            let Some(generation) = hub.generation(*id) else { return };
            let is_through = match old {
                true => generation.distance(at) <= END_BYTES as u64,
                false => generation.is_at_end(at),
            };
            if !is_through {
                return;
            }
            let due = if *old { Due::EndOfSnapshot } else { Due::Mark };
            let Some((at, marked)) = generation.done else {
                if self.out.is_empty() {
                    hub.park_at_generation(self.slot, *id);
                }
                return;
            };
            self.follow = Follow::Live { at, marked, due };
        }
        let Follow::Live { at, marked, due } = &mut self.follow else { return };
        let view = hub.view(view_index);
        let visible = view.journal.visible();
        if at.offset != visible.offset {
            self.behind.get_or_insert(hub.now());
            return;
        }
        let published = hub.published();
        if std::mem::replace(due, Due::Mark).is_end() {
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

    /// Is all that it is sent out of its view's journal? Then
    /// [`ServerSession::slices`] needs no [`ServerSession::fill`] before it.
    pub fn reads_journal(&self) -> bool {
        self.stage == Stage::Open && matches!(self.follow, Follow::Live { .. })
    }

    /// What to write now, about `bytes_max` bytes. Empty: nothing; the hub
    /// names the session again when there is.
    pub fn slices<'a>(&'a self, hub: &'a Hub, bytes_max: usize) -> Slices<'a> {
        let mut slices = Slices::new();
        if !self.out.is_empty() {
            let (own, descriptor) = self.out.next_part();
            slices.push(own);
            slices.descriptor = descriptor;
            if own.len() < self.out.len() {
                return slices;
            }
        }
        let (Some(view), Stage::Open) = (self.view, self.stage) else { return slices };
        let room = bytes_max.saturating_sub(slices.bytes).max(1);
        match &self.follow {
            Follow::Live { at, marked, due } => {
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
                if all && taken < room && !due.is_end() && view.mark_revision > *marked {
                    slices.push(&view.mark);
                }
            }
            Follow::Snapshot { id, at, old, .. } => {
                if let Some(generation) = hub.generation(*id) {
                    let end = if *old { END_BYTES as u64 } else { 0 };
                    let left = generation.distance(at).saturating_sub(end);
                    let room = room.min(left as usize);
                    generation.slices(at, room, |bytes| slices.push(bytes));
                }
            }
            Follow::No | Follow::Begin { .. } | Follow::Walk(_) | Follow::Classic(_) => {}
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
            Follow::No | Follow::Begin { .. } | Follow::Walk(_) | Follow::Classic(_) => {}
        }
    }

    /// Is there, or may there be, more to write? Then fill and write again, now
    /// or (see [`ServerSession::requeue`]) in the next turn. If not, the hub
    /// names the session when there is.
    pub fn wants_write(&self, hub: &Hub) -> bool {
        !self.out.is_empty() || self.has_more(hub)
    }

    /// Is there more of what it follows?
    fn has_more(&self, hub: &Hub) -> bool {
        if self.is_classic() {
            return self.stage == Stage::Open && !hub.is_parked(self.slot);
        }
        let (Some(view), Stage::Open) = (self.view, self.stage) else { return false };
        if hub.is_parked(self.slot) {
            return false;
        }
        let view = hub.view(view);
        match &self.follow {
            Follow::No | Follow::Classic(_) => false,
            Follow::Begin { .. } | Follow::Walk(_) => true,
            Follow::Snapshot { id, at, .. } => hub
                .generation(*id)
                .is_none_or(|generation| generation.done.is_some() || !generation.is_at_end(at)),
            Follow::Live { at, marked, due } => {
                at.offset != view.journal.visible().offset
                    || due.is_end()
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

    /// Begins (or begins again) to follow from a revision; 0: a snapshot.
    pub(super) fn follow_from(&mut self, from: Revision, hub: &mut Hub, table: &mut Table) {
        if let Follow::Walk(walk) = &mut self.follow {
            walk.release(table);
        }
        self.follow = Follow::Begin { from };
        hub.wake(self.slot);
    }
}
