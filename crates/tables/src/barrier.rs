//! Barriers: wait until every session has a revision, with equal digests.
//!
//! ```text
//!   barrier(R) --> asks each session that follows now and says it can answer
//!                    |
//!      ACK >= R, agrees / differs      --> agreed / differed
//!      the connection ends             --> gone
//!      the deadline passes             --> late
//!   all have an outcome --> the report
//! ```
//!
//! A session is asked by a mark with `ask` set, which it gets when it has
//! caught up with the head at R or later; so a barrier needs no bookkeeping of
//! its own on how far anybody is, and one ACK answers all barriers up to its
//! revision. Who comes later is not waited for; who can't answer is named at
//! once.

use std::collections::{BTreeMap, VecDeque};

use crate::Millis;
use crate::record::Revision;

/// A barrier's number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
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

impl BarrierOutcome {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            BarrierOutcome::Agreed => "agreed",
            BarrierOutcome::Differed => "differs",
            BarrierOutcome::Gone => "gone",
            BarrierOutcome::Late => "late",
            BarrierOutcome::CannotAnswer => "cannot answer",
        }
    }
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
    /// Every session that was present, in the order of their outcomes.
    pub entries: Vec<BarrierEntry>,
}

impl BarrierReport {
    /// Did all agree?
    pub fn is_agreed(&self) -> bool {
        self.entries.iter().all(|entry| entry.outcome == BarrierOutcome::Agreed)
    }
}

struct Barrier {
    revision: Revision,
    deadline: Millis,
    /// By slot. The outcome that stands there is what the deadline makes it.
    waiting: BTreeMap<u32, BarrierEntry>,
    entries: Vec<BarrierEntry>,
}

#[derive(Default)]
pub(crate) struct Barriers {
    open: BTreeMap<BarrierId, Barrier>,
    finished: VecDeque<BarrierReport>,
    next: u64,
}

impl Barriers {
    /// Begins one over these sessions: slot (`None`: it can't answer) and
    /// entry.
    pub(crate) fn begin(
        &mut self,
        revision: Revision,
        deadline: Millis,
        sessions: impl Iterator<Item = (Option<u32>, BarrierEntry)>,
    ) -> BarrierId {
        self.next += 1;
        let id = BarrierId(self.next);
        let (mut waiting, mut entries) = (BTreeMap::new(), Vec::new());
        for (slot, mut entry) in sessions {
            if let Some(slot) = slot {
                entry.outcome = BarrierOutcome::Late;
                waiting.insert(slot, entry);
            } else {
                entry.outcome = BarrierOutcome::CannotAnswer;
                entries.push(entry);
            }
        }
        self.open.insert(id, Barrier { revision, deadline, waiting, entries });
        self.finish();
        id
    }

    /// A session answered.
    pub(crate) fn answered(&mut self, slot: u32, revision: Revision, agrees: bool) {
        let outcome = if agrees { BarrierOutcome::Agreed } else { BarrierOutcome::Differed };
        for barrier in self.open.values_mut().filter(|barrier| barrier.revision <= revision) {
            barrier.settle(slot, outcome);
        }
        self.finish();
    }

    /// A session's connection ended.
    pub(crate) fn gone(&mut self, slot: u32) {
        for barrier in self.open.values_mut() {
            barrier.settle(slot, BarrierOutcome::Gone);
        }
        self.finish();
    }

    /// Time has passed.
    pub(crate) fn expire(&mut self, now: Millis) {
        for barrier in self.open.values_mut().filter(|barrier| barrier.deadline <= now) {
            barrier.entries.extend(std::mem::take(&mut barrier.waiting).into_values());
        }
        self.finish();
    }

    pub(crate) fn cancel(&mut self, id: BarrierId) {
        self.open.remove(&id);
        self.finished.retain(|report| report.id != id);
    }

    pub(crate) fn poll(&mut self) -> Option<BarrierReport> {
        self.finished.pop_front()
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len() + self.finished.len()
    }

    /// The next deadline.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.open.values().map(|barrier| barrier.deadline).min()
    }

    /// Has one ended that wasn't fetched?
    pub(crate) fn has_finished(&self) -> bool {
        !self.finished.is_empty()
    }

    fn finish(&mut self) {
        while let Some((&id, _)) = self.open.iter().find(|(_, barrier)| barrier.waiting.is_empty())
        {
            if let Some(Barrier { revision, entries, .. }) = self.open.remove(&id) {
                self.finished.push_back(BarrierReport { id, revision, entries });
            }
        }
    }
}

impl Barrier {
    fn settle(&mut self, slot: u32, outcome: BarrierOutcome) {
        if let Some(entry) = self.waiting.remove(&slot) {
            self.entries.push(BarrierEntry { outcome, ..entry });
        }
    }
}
