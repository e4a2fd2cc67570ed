//! The hub: what all sessions share, and who of them has something to do.
//!
//! It takes the records of every commit, keeps the views with their journals,
//! the shared snapshots, the barriers, and one small slot for each session.
//!
//! ```text
//!  a turn
//!    begin_turn(now)
//!    table.apply(.., &mut hub) ...       records go into the journals
//!    (the image publishes)
//!    publish(table, budget)              visible; marks; slices of building and encoding; who is ready
//!    while poll_ready() -> token         fill, slices, writev, transmitted of that session
//! ```
//!
//! **Who costs something.** A session with nothing to send is *parked* at what
//! it waits for: its view's journal, a snapshot, the end of a large load. What
//! moves names those parked there, and nobody else is looked at: a turn costs
//! the sessions that have something to send, each O(1) beside its system call.
//!
//! ```text
//!              +----------- parked (view, snapshot, held) <---------+
//!    it moves  |                                                    | nothing to send
//!              v                                                    |
//!            next --publish--> ready --poll_ready--> in the daemon's hands --> socket full: EPOLLOUT
//!              ^                                                    |
//!              +---------------- requeue: its share is used up -----+
//! ```
//!
//! **Visibility.** Sessions read the journals up to what the last publish made
//! visible, and walk the table only while it stands at the published revision:
//! so no client is told of what the image doesn't show yet, and END and MARK
//! name states that were committed as a whole.

mod slots;

use std::collections::VecDeque;

use rtm_model::{Change, DigestKey, Digester};

use crate::Millis;
use crate::barrier::{BarrierEntry, BarrierId, BarrierOutcome, BarrierReport, Barriers};
use crate::catalog::Catalog;
use crate::classic::ClassicView;
use crate::filter::Facts;
use crate::record::{Epoch, Flush, Record, RecordOp, RecordSink, Revision};
use crate::session::HubLimits;
use crate::snapshot::Generation;
use crate::table::Table;
use crate::view::{Around, View};
use crate::walk::{Ground, Stop};
use slots::{Parked, Slot};

/// A filter that no session uses is kept for so long: who lost its connection
/// finds its view again.
const FILTER_IDLE_MS: Millis = 60_000;

/// For so long a view whose snapshot was too large to share isn't tried again.
const ALONE_MS: Millis = 60_000;

/// The view of everything.
const MAIN: usize = 0;

/// What all sessions share.
pub struct Hub {
    limits: HubLimits,
    epoch: Epoch,
    key: DigestKey,
    digester: Digester,
    now: Millis,
    /// The newest committed revision, and the newest that sessions may see.
    revision: Revision,
    published: Revision,
    /// Is a large load open? Then the table can't be read.
    staging: bool,
    /// Records taken since the last publish.
    appended: usize,

    views: Vec<Option<View>>,
    catalog: Catalog,
    /// What classic sessions are shown.
    classic: Option<Box<ClassicView>>,
    classic_idle_since: Millis,
    generations: Vec<Generation>,
    next_generation: u64,
    snapshots_encoded: u64,

    slots: Vec<Slot>,
    free: Vec<u32>,
    ready: VecDeque<u32>,
    next: Vec<u32>,
    held: Vec<u32>,
    barriers: Barriers,
    /// Changes that were applied: room for the next.
    room: Vec<Change>,
}

/// What the hub holds, for `rtm status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HubStats {
    /// Sessions that follow.
    pub subscribers: usize,
    /// Filters in use or kept for a moment.
    pub filters: usize,
    /// Bytes of all journals.
    pub journal_bytes: usize,
    /// Records appended to the main journal since the start.
    pub journal_records: u64,
    /// Snapshots that are encoded or being encoded.
    pub generations: usize,
    /// Their bytes.
    pub snapshot_bytes: usize,
    /// Snapshots begun since the start.
    pub snapshots_encoded: u64,
    /// Bytes for filters: members, catalog.
    pub filter_bytes: usize,
    /// Bytes for what classic sessions are shown.
    pub classic_bytes: usize,
}

impl Hub {
    /// The hub of a table (which may hold something already).
    pub fn new(table: &Table, key: DigestKey, limits: HubLimits) -> Hub {
        let revision = table.revision();
        let mut everything = View::new(None, limits.journal_bytes, revision);
        everything.digests = table.digests();
        everything.publish(revision);
        Hub {
            limits,
            epoch: table.epoch(),
            key,
            digester: *table.digester(),
            now: 0,
            revision,
            published: revision,
            staging: table.is_staging(),
            appended: 0,
            views: vec![Some(everything)],
            catalog: Catalog::default(),
            classic: None,
            classic_idle_since: 0,
            generations: Vec::new(),
            next_generation: 1,
            snapshots_encoded: 0,
            slots: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            next: Vec::new(),
            held: Vec::new(),
            barriers: Barriers::default(),
            room: Vec::new(),
        }
    }

    /// The limits.
    pub fn limits(&self) -> &HubLimits {
        &self.limits
    }

    /// Other limits, for what comes from here on; journals shrink at once.
    pub fn set_limits(&mut self, limits: HubLimits) {
        self.limits = limits;
        for (index, view) in self.views.iter_mut().enumerate() {
            let Some(view) = view else { continue };
            view.journal.resize(if index == MAIN {
                limits.journal_bytes
            } else {
                limits.filter_journal_bytes
            });
        }
    }

    /// A turn begins: to be called before anything is applied.
    pub fn begin_turn(&mut self, now: Millis) {
        self.now = now;
    }

    /// A turn's changes are applied, and the image shows them: makes them
    /// visible to the sessions, goes on with snapshots and filters being built
    /// (`budget` entities, and two more for each record of the turn), and names
    /// who has something to send ([`Hub::poll_ready`]). True: call again soon,
    /// there is more to do.
    pub fn publish(&mut self, table: &mut Table, budget: usize) -> bool {
        let budget_classic = budget;
        let mut budget = budget + 2 * std::mem::take(&mut self.appended);
        self.revision = table.revision();
        self.published = self.revision;
        self.staging = table.is_staging();
        if let Some(Some(view)) = self.views.get_mut(MAIN) {
            if view.fresh {
                view.digests = table.digests();
            }
        }
        for index in 0..self.views.len() {
            if let Some(view) = self.views[index].as_mut().filter(|view| view.fresh) {
                view.publish(self.published);
                self.wake_view(index);
            }
        }
        if !self.staging {
            let held = std::mem::take(&mut self.held);
            self.queue_all(held);
            self.build_views(table, &mut budget);
            self.encode_snapshots(table, &mut budget);
            self.work_for_classic(table, budget_classic);
        }
        self.expire(table);
        self.ready.extend(self.next.drain(..));
        self.has_work()
    }

    /// The frames of all records since the last [`Hub::publish`], in runs of
    /// whole frames: for the image's ring, which is written before the sessions
    /// are told. False: there were more than the journal holds.
    pub fn unpublished(&self, take: &mut dyn FnMut(&[u8])) -> bool {
        match self.views.get(MAIN) {
            Some(Some(view)) => view.journal.unpublished(take),
            _ => true,
        }
    }

    /// Will [`Hub::publish`] find something to do, though nothing came? Then
    /// the loop must not sleep.
    pub fn has_work(&self) -> bool {
        let building = || {
            self.views.iter().flatten().any(|view| !view.is_built())
                || self.generations.iter().any(|generation| generation.done.is_none())
                || self.classic.as_ref().is_some_and(|view| view.has_work())
        };
        !self.next.is_empty() || !self.ready.is_empty() || (!self.staging && building())
    }

    /// The token of the next session that has something to send.
    pub fn poll_ready(&mut self) -> Option<u64> {
        while let Some(slot) = self.ready.pop_front() {
            let slot = &mut self.slots[slot as usize];
            if slot.used && slot.parked == Parked::Queued {
                slot.parked = Parked::No;
                return Some(slot.token);
            }
        }
        None
    }

    /// Begins a barrier: every session that follows now (or only those with
    /// these tokens) is asked to say that it has the table's present revision
    /// with equal digests, until `deadline`.
    pub fn barrier(&mut self, only: Option<&[u64]>, deadline: Millis) -> BarrierId {
        let revision = self.revision;
        let mut asked = Vec::new();
        let sessions = self.slots.iter_mut().enumerate().filter_map(|(index, slot)| {
            let wanted = only.is_none_or(|only| only.contains(&slot.token));
            if !slot.used || slot.view.is_none() && !slot.classic || !wanted {
                return None;
            }
            let entry = BarrierEntry {
                token: slot.token,
                session: slot.session,
                name: slot.name.clone(),
                pid: slot.pid,
                outcome: BarrierOutcome::Late,
            };
            if !slot.can_answer {
                return Some((None, entry));
            }
            slot.ask = Some(revision);
            asked.push(index as u32);
            Some((Some(index as u32), entry))
        });
        let id = self.barriers.begin(revision, deadline, sessions);
        for slot in asked {
            if matches!(self.slots[slot as usize].parked, Parked::View { .. }) {
                self.wake(slot);
            }
        }
        id
    }

    /// The next barrier that has ended.
    pub fn poll_barrier(&mut self) -> Option<BarrierReport> {
        self.barriers.poll()
    }

    /// Barriers that have not ended, or were not fetched.
    pub fn barriers(&self) -> usize {
        self.barriers.len()
    }

    /// A barrier that nobody waits for any more.
    pub fn cancel_barrier(&mut self, id: BarrierId) {
        self.barriers.cancel(id);
    }

    /// When [`Hub::publish`] wants to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Millis> {
        let generations = self.generations.iter().filter_map(Generation::expires);
        let views = self.views.iter().skip(1).flatten();
        let views = views.filter(|view| view.users == 0).map(|v| v.idle_since + FILTER_IDLE_MS);
        let classic = self.classic.as_ref().filter(|view| view.sessions == 0);
        let classic = classic.map(|_| self.classic_idle_since + FILTER_IDLE_MS);
        let finished = self.barriers.has_finished().then_some(self.now);
        generations
            .chain(views)
            .chain(self.barriers.deadline())
            .chain(finished)
            .chain(classic)
            .min()
    }

    /// What it holds.
    pub fn stats(&self) -> HubStats {
        let views = || self.views.iter().flatten();
        HubStats {
            subscribers: self
                .slots
                .iter()
                .filter(|slot| slot.view.is_some() || slot.classic)
                .count(),
            filters: views().count() - 1,
            journal_bytes: views().map(|view| view.journal.bytes()).sum(),
            journal_records: self.main().journal.head().records,
            generations: self.generations.len(),
            snapshot_bytes: self.generations.iter().map(Generation::bytes).sum(),
            snapshots_encoded: self.snapshots_encoded,
            classic_bytes: self.classic.as_ref().map_or(0, |view| view.bytes()),
            filter_bytes: views().map(View::bytes).sum::<usize>() + self.catalog.bytes(),
        }
    }

    /// Gives back the changes of a [`crate::ServerEvent::Changes`] that were applied: what
    /// comes next is decoded into their place.
    pub fn recycle(&mut self, changes: Vec<Change>) {
        self.room = changes;
    }

    /// Room for changes; what is in it is of no meaning.
    pub(crate) fn room(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.room)
    }

    fn main(&self) -> &View {
        self.view(MAIN)
    }

    /// Goes on with the catalog and the filters that are being built.
    fn build_views(&mut self, table: &mut Table, budget: &mut usize) {
        self.catalog.fill(table.store(), budget);
        let around = Around { catalog: &self.catalog, digester: &self.digester, now: self.now };
        let mut built = Vec::new();
        for (index, view) in self.views.iter_mut().enumerate() {
            let Some(view) = view.as_mut().filter(|view| !view.is_built()) else { continue };
            if view.build(table.store(), self.published, &around, budget) {
                built.push(index);
            }
        }
        for index in built {
            self.wake_view(index);
        }
    }

    /// Goes on with what classic sessions are shown, and names those that can be
    /// told something.
    fn work_for_classic(&mut self, table: &Table, budget: usize) {
        let Some(view) = &mut self.classic else { return };
        if view.sessions == 0 && self.classic_idle_since + FILTER_IDLE_MS <= self.now {
            if view.retire(budget) {
                self.classic = None;
            }
            return;
        }
        let tombstone_bytes_max = table.limits().tombstone_bytes_max;
        if view.work(table.store(), tombstone_bytes_max, budget) {
            let waiters = std::mem::take(&mut view.waiters);
            self.queue_all(waiters);
        }
    }

    /// Goes on with the snapshots that are being made, the oldest first.
    fn encode_snapshots(&mut self, table: &mut Table, budget: &mut usize) {
        let mut index = 0;
        while index < self.generations.len() {
            if self.generations[index].done.is_some() {
                index += 1;
                continue;
            }
            match self.encode_snapshot(index, table, budget) {
                Encoded::Kept => index += 1,
                // Those behind it moved up.
                Encoded::Dropped => {}
            }
        }
    }

    fn encode_snapshot(
        &mut self,
        mut index: usize,
        table: &mut Table,
        budget: &mut usize,
    ) -> Encoded {
        loop {
            let generation = &mut self.generations[index];
            let Some(view) = &self.views[generation.view] else { return Encoded::Kept };
            let ground = &mut Ground { view, catalog: &self.catalog, table };
            let stop = generation.advance_walk(ground, budget);
            match stop {
                Stop::Full | Stop::Budget => {}
                Stop::Done => {
                    generation.done = Some((view.journal.visible(), self.published));
                    generation.done_at = self.now;
                    generation.walk.release(table);
                }
                Stop::Lost => {
                    self.drop_generation(index, table);
                    return Encoded::Dropped;
                }
            }
            let id = generation.id;
            let waiters = std::mem::take(&mut generation.waiters);
            self.queue_all(waiters);
            // What is over the bound goes, the oldest first, this one last.
            while self.snapshot_bytes() > self.limits.snapshot_bytes_max {
                let oldest = if index == 0 && self.generations.len() > 1 { 1 } else { 0 };
                if self.generations[oldest].id == id {
                    let view = self.generations[oldest].view;
                    if let Some(view) = &mut self.views[view] {
                        view.alone_until = self.now + ALONE_MS;
                    }
                    self.drop_generation(oldest, table);
                    return Encoded::Dropped;
                }
                self.drop_generation(oldest, table);
                index -= usize::from(oldest < index);
            }
            if stop != Stop::Full {
                return Encoded::Kept;
            }
        }
    }

    fn snapshot_bytes(&self) -> usize {
        self.generations.iter().map(Generation::bytes).sum()
    }

    fn drop_generation(&mut self, index: usize, table: &mut Table) {
        let mut generation = self.generations.remove(index);
        generation.walk.release(table);
        self.queue_all(generation.waiters);
    }

    /// Lets go what nobody needs any more, and ends barriers that are late.
    fn expire(&mut self, table: &mut Table) {
        let now = self.now;
        let due = |g: &Generation| g.expires().is_some_and(|at| at <= now);
        while let Some(index) = self.generations.iter().position(due) {
            self.drop_generation(index, table);
        }
        let mut filters = 0;
        for index in 1..self.views.len() {
            let Some(view) = &self.views[index] else { continue };
            if view.users == 0 && view.idle_since + FILTER_IDLE_MS <= now {
                self.drop_view(index, table);
            } else {
                filters += 1;
            }
        }
        if filters == 0 && self.catalog.is_on() {
            self.catalog.drop_all();
        }
        self.barriers.expire(now);
    }

    fn drop_view(&mut self, index: usize, table: &mut Table) {
        while let Some(of_it) = self.generations.iter().position(|g| g.view == index) {
            self.drop_generation(of_it, table);
        }
        self.views[index] = None;
    }
}

/// What became of a snapshot that was being made.
enum Encoded {
    Kept,
    Dropped,
}

impl RecordSink for Hub {
    fn record(&mut self, record: &Record<'_>) {
        self.revision = record.revision;
        self.appended += 1;
        let now = self.now;
        if let Some(Some(view)) = self.views.first_mut() {
            view.journal.append(record, now);
            view.fresh = true;
        }
        if let Some(view) = &mut self.classic {
            view.record(record);
        }
        if !self.catalog.is_on() {
            return;
        }
        self.catalog.record(record);
        let after = match record.op {
            RecordOp::Set => Facts::read(record.kind, record.body),
            RecordOp::Delete => None,
        };
        let before = Facts::read(record.kind, record.before);
        let around = Around { catalog: &self.catalog, digester: &self.digester, now };
        for view in self.views.iter_mut().skip(1).flatten() {
            view.record(record, after.as_ref(), before.as_ref(), &around);
        }
        if record.last {
            self.catalog.end_transaction();
        }
    }

    fn flush(&mut self, revision: Revision, what: Flush) {
        self.revision = revision;
        self.appended += 1;
        let now = self.now;
        for view in self.views.iter_mut().flatten() {
            if view.filter.is_none() {
                view.journal.append_flush(revision, what, now);
                view.fresh = true;
            } else {
                view.flush(revision, what, now);
            }
        }
        if let Some(view) = &mut self.classic {
            view.flush(what);
        }
    }

    fn staged(&mut self, record: &Record<'_>) {
        if let Some(view) = &mut self.classic {
            view.staged(record);
        }
    }

    fn leap(&mut self, revision: Revision) {
        self.revision = revision;
        self.catalog.restart();
        if let Some(view) = &mut self.classic {
            view.leap();
        }
        for view in self.views.iter_mut().flatten() {
            view.leap(revision);
        }
    }
}
