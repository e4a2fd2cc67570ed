//! Large atomic loads: staged over many turns, visible by one step.
//!
//! A load is an ordinary open transaction that stays open. Its changes are
//! checked and worked into the store as they come; while it is open nothing
//! else may change, and who would read must wait. Then either it is committed,
//! which settles digests and modification order in slices and at last sets the
//! revision, or undone in slices. Nobody is told records of it: live sessions
//! get it as a walk from the revision before ([`RecordSink::leap`]). Only who
//! prepares a copy of the tables in advance is shown each entity as it is settled
//! ([`RecordSink::staged`]).

use super::open::Settling;
use super::{Applied, ChangeError, SourceId, Table};
use rtm_model::Change;

use crate::record::{Flush, Record, RecordSink, Revision};

/// Hands the records of a commit in slices on as what they are.
struct Staged<'a>(&'a mut dyn RecordSink);

impl RecordSink for Staged<'_> {
    fn record(&mut self, record: &Record<'_>) {
        self.0.staged(record);
    }

    fn flush(&mut self, _: Revision, _: Flush) {}

    fn leap(&mut self, _: Revision) {}
}

#[derive(Debug)]
pub(super) struct Stage {
    settling: Option<Settling>,
    aborting: bool,
    /// Where sweeping within the load stands.
    pub(super) sweep: Option<super::sweep::Sweep>,
}

impl Table {
    /// Is a large atomic load open? No other change can be applied then, and
    /// readers would see what is not committed: they wait.
    pub fn is_staging(&self) -> bool {
        self.stage.is_some()
    }

    /// Opens a large atomic load of `source`.
    pub fn stage_begin(&mut self, source: SourceId) -> Result<(), ChangeError> {
        self.begin(source)?;
        self.stage = Some(Stage { settling: None, aborting: false, sweep: None });
        Ok(())
    }

    /// Changes of the open load are of this source from here on.
    ///
    /// # Panics
    /// If no load is open.
    pub fn stage_source(&mut self, source: SourceId) -> Result<(), ChangeError> {
        self.staged();
        self.set_source(source)
    }

    /// One change of the open load. If it is refused the load stays open; who
    /// wants all or none aborts it.
    ///
    /// # Panics
    /// If no load is open, or it is being committed or given up.
    pub fn stage(&mut self, change: &Change) -> Result<(), ChangeError> {
        self.staged();
        self.change(change)
    }

    /// Takes away, as part of the open load, what its source held before the
    /// generation that is running and was not offered since: the load is the
    /// source's whole content. In slices; true: there is more.
    ///
    /// To be called after [`Table::begin_generation`], [`Table::stage_begin`]
    /// and all changes; [`Table::end_generation`] after the commit then finds
    /// nothing left.
    ///
    /// # Panics
    /// If no load is open, or it is being committed or given up.
    pub fn stage_sweep(&mut self, budget: usize) -> bool {
        self.staged();
        let Some(source) = self.open.source else { return false };
        let pending = self.stage.as_mut().and_then(|stage| stage.sweep.take());
        let Some(mut sweep) = pending.or_else(|| self.generation_sweep(source)) else {
            return false;
        };
        let more = self.sweep_slice(&mut sweep, budget);
        if let Some(stage) = self.stage.as_mut().filter(|_| more) {
            stage.sweep = Some(sweep);
        }
        more
    }

    /// Commits the open load, in slices: to be called, each time with a
    /// budget (entities looked at), until it returns what came of it. From the
    /// first call on there is no way back.
    ///
    /// # Panics
    /// If no load is open, or it is being given up.
    pub fn stage_commit(&mut self, budget: usize, out: &mut dyn RecordSink) -> Option<Applied> {
        let settling = match &mut self.stage {
            Some(Stage { settling, aborting: false, .. }) => settling.take(),
            _ => panic!("no load is open that could be committed"),
        };
        let mut settling = settling.unwrap_or_else(|| self.settling());
        if !self.settle(&mut settling, budget.max(1), Some(&mut Staged(out))) {
            if let Some(stage) = &mut self.stage {
                stage.settling = Some(settling);
            }
            return None;
        }
        self.stage = None;
        let applied = self.settled(settling);
        if let Applied::Changed(revision) = applied {
            out.leap(revision);
        }
        Some(applied)
    }

    /// Gives up the open load, in slices: true when it never happened.
    ///
    /// # Panics
    /// If no load is open, or it is being committed.
    pub fn stage_abort(&mut self, budget: usize) -> bool {
        match &mut self.stage {
            Some(stage) if stage.settling.is_none() => stage.aborting = true,
            _ => panic!("no load is open that could be given up"),
        }
        let done = self.rollback(budget.max(1));
        if done {
            self.stage = None;
        }
        done
    }

    fn staged(&self) {
        match &self.stage {
            Some(Stage { settling: None, aborting: false, .. }) => {}
            _ => panic!("no load is open that takes changes"),
        }
    }
}
