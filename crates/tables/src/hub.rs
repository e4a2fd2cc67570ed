//! What all sessions share.

use crate::Millis;
use crate::record::{Flush, Record, RecordSink, Revision};
use crate::session::HubLimits;
use crate::table::Table;

/// What all sessions share.
pub struct Hub {
    limits: HubLimits,
    now: Millis,
}

/// A barrier's number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BarrierId(pub u64);

/// What became of one session in a barrier.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BarrierOutcome {
    /// It has the revision, and its digests are equal.
    Agreed,
    /// It has the revision, and its digests differ.
    Differed,
    /// Its connection ended before it answered.
    Gone,
    /// It didn't answer in time.
    Late,
    /// Its hello didn't say that it answers.
    CannotAnswer,
}

/// A session in a barrier's report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BarrierEntry {
    /// The session's token.
    pub token: u64,
    /// Its number.
    pub session: u64,
    /// Its name.
    pub name: String,
    /// Its process.
    pub pid: Option<u32>,
    /// What became of it.
    pub outcome: BarrierOutcome,
}

/// How a barrier ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BarrierReport {
    /// Which.
    pub id: BarrierId,
    /// The revision that was waited for.
    pub revision: Revision,
    /// Every session that was asked, in the order in which they answered.
    pub entries: Vec<BarrierEntry>,
}

impl BarrierReport {
    /// Did all agree?
    pub fn is_agreed(&self) -> bool {
        self.entries.iter().all(|entry| entry.outcome == BarrierOutcome::Agreed)
    }
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
}

impl Hub {
    /// The hub of a table (which may hold something already).
    pub fn new(table: &Table, limits: HubLimits) -> Hub {
        let _ = table;
        Hub { limits, now: 0 }
    }

    /// The limits.
    pub fn limits(&self) -> &HubLimits {
        &self.limits
    }

    /// Other limits, for what comes from here on.
    pub fn set_limits(&mut self, limits: HubLimits) {
        self.limits = limits;
    }

    /// A turn begins: to be called before anything is applied.
    pub fn begin_turn(&mut self, now: Millis) {
        self.now = now;
    }

    /// A turn's changes are applied, and the image shows them: makes them
    /// visible to the sessions, goes on with snapshots and filters being built
    /// (at most `budget` entities), and names who has something to send
    /// ([`Hub::poll_ready`]). True: call again soon, there is more to do.
    pub fn publish(&mut self, table: &mut Table, budget: usize) -> bool {
        let _ = (table, budget);
        false
    }

    /// The token of the next session that has something to send.
    pub fn poll_ready(&mut self) -> Option<u64> {
        None
    }

    /// Will [`Hub::publish`] find something to do, though nothing came? Then
    /// the loop must not sleep.
    pub fn has_work(&self) -> bool {
        false
    }

    /// Begins a barrier: every session that follows now (or only those with
    /// these tokens) is asked to say that it has the table's present revision
    /// with equal digests, until `deadline`.
    pub fn barrier(&mut self, only: Option<&[u64]>, deadline: Millis) -> BarrierId {
        let _ = (only, deadline);
        BarrierId(0)
    }

    /// The next barrier that has ended.
    pub fn poll_barrier(&mut self) -> Option<BarrierReport> {
        None
    }

    /// A barrier that nobody waits for any more.
    pub fn cancel_barrier(&mut self, id: BarrierId) {
        let _ = id;
    }

    /// When [`Hub::publish`] wants to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Millis> {
        None
    }

    /// What it holds.
    pub fn stats(&self) -> HubStats {
        HubStats::default()
    }
}

impl RecordSink for Hub {
    fn record(&mut self, record: &Record<'_>) {
        let _ = record;
    }

    fn flush(&mut self, revision: Revision, what: Flush) {
        let _ = (revision, what);
    }

    fn leap(&mut self, revision: Revision) {
        let _ = revision;
    }
}
