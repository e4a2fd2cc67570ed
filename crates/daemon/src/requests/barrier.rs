//! `sync`: a barrier. Every session that follows is asked to say that it has
//! the present revision with equal digests; who doesn't is named.

use rtm_model::text;
use rtm_tables::wire::{ItemFlags, ItemKind};
use rtm_tables::{BarrierId, BarrierOutcome, BarrierReport, Millis};

use super::{Answer, Around, CODE_TIMED_OUT, Reply, Step, Until, after, idle};
use crate::core::Core;

/// How long a barrier without `--timeout` waits.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// One `sync`.
pub(crate) struct Barrier {
    clients: Vec<Box<str>>,
    deadline: Millis,
    id: Option<BarrierId>,
    report: Option<BarrierReport>,
    /// Named, and nobody has the name.
    missing: Vec<Box<str>>,
}

impl Barrier {
    pub(crate) fn new(core: &Core, sync: text::Barrier) -> Barrier {
        let deadline = after(core.now, sync.timeout.unwrap_or(PATIENCE));
        Barrier { clients: sync.clients, deadline, id: None, report: None, missing: Vec::new() }
    }

    /// Which barrier it waits for.
    pub(crate) fn id(&self) -> Option<BarrierId> {
        self.id.filter(|_| self.report.is_none())
    }

    /// The barrier has ended.
    pub(crate) fn ended(&mut self, report: BarrierReport) {
        self.report = Some(report);
    }

    pub(crate) fn step(
        &mut self,
        core: &mut Core,
        around: &mut Around<'_>,
        out: &mut dyn Answer,
    ) -> Step {
        if self.id.is_none() {
            if core.table.is_staging() {
                return Step::Wait(Until { deadline: Some(self.deadline) });
            }
            let mut tokens = Vec::new();
            for name in &self.clients {
                let before = tokens.len();
                tokens.extend(around.clients.subscribers_named(name, core));
                if tokens.len() == before {
                    self.missing.push(name.clone());
                }
            }
            let only = (!self.clients.is_empty()).then_some(&tokens[..]);
            self.id = Some(core.hub.barrier(only, self.deadline));
        }
        let Some(report) = &self.report else { return idle() };
        let names = |outcome| -> Vec<&str> {
            let entries = report.entries.iter();
            entries.filter(|entry| entry.outcome == outcome).map(|e| e.name.as_str()).collect()
        };
        let mut gone = names(BarrierOutcome::Gone);
        gone.extend(self.missing.iter().map(|name| &**name));
        let json = serde_json::json!({
            "revision": report.revision.0,
            "agreed": names(BarrierOutcome::Agreed),
            "differing": names(BarrierOutcome::Differed),
            "late": names(BarrierOutcome::Late),
            "gone": gone,
            "cannot": names(BarrierOutcome::CannotAnswer),
        });
        if !out.item(ItemKind::Json, ItemFlags::default(), json.to_string().as_bytes()) {
            return Step::NoRoom;
        }
        if report.is_agreed() && self.missing.is_empty() {
            return Step::Done(Reply::done());
        }
        let entries = report.entries.len() + self.missing.len();
        let agreed = names(BarrierOutcome::Agreed).len();
        let text = format!("sync: {agreed} of {entries} agreed; 'client list' shows the others");
        Step::Done(Reply { code: CODE_TIMED_OUT, text, ..Reply::done() })
    }

    pub(crate) fn cancel(&mut self, core: &mut Core) {
        if let Some(id) = self.id() {
            core.hub.cancel_barrier(id);
        }
    }
}
