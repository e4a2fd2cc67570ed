//! `sync`: a barrier. Every session that follows is asked to say that it has
//! the present revision with equal digests; who doesn't is named.

use std::time::Duration;

use rtm_model::text;
use rtm_tables::wire::{ItemFlags, ItemKind};
use rtm_tables::{BarrierEntry, BarrierId, BarrierOutcome, BarrierReport, Millis};
use serde_json::Value;

use super::{Answer, Around, CODE_TIMED_OUT, Reply, Step, Until, after, idle};
use crate::core::Core;

/// How long a barrier without `--timeout` waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most barriers at a time: each remembers every session that it asked.
const BARRIERS_MAX: usize = 64;

/// Bytes of names in an answer: with the rest it fits into the smallest frame
/// that a client may ask for, and into a session's output.
const NAMES_BYTES_MAX: usize = 8 * 1024;

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
            if core.hub.barriers() >= BARRIERS_MAX {
                return Step::Done(Reply::refused(format!(
                    "sync: {BARRIERS_MAX} are under way already; trying again when one has ended would be right"
                )));
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
        let json = self.json(report);
        if !out.item(ItemKind::Json, ItemFlags::default(), json.to_string().as_bytes()) {
            return Step::NoRoom;
        }
        if report.is_agreed() && self.missing.is_empty() {
            return Step::Done(Reply::done());
        }
        let entries = report.entries.len() + self.missing.len();
        let agreed = count(report, BarrierOutcome::Agreed);
        let text = format!("sync: {agreed} of {entries} agreed; 'client list' shows the others");
        Step::Done(Reply { code: CODE_TIMED_OUT, text, ..Reply::done() })
    }

    /// Who did what, by name, and how many: of thousands not all names fit.
    fn json(&self, report: &BarrierReport) -> Value {
        let mut room = NAMES_BYTES_MAX;
        // Those that somebody has to look after come first.
        let mut names = |outcome: BarrierOutcome, more: &[Box<str>]| -> Vec<String> {
            let entries = report.entries.iter().filter(|entry| entry.outcome == outcome);
            let names = entries.map(called).chain(more.iter().map(|name| name.to_string()));
            names
                .take_while(|name| {
                    let fits = room >= 2 * name.len() + 3;
                    room = room.saturating_sub(2 * name.len() + 3);
                    fits
                })
                .collect()
        };
        let differing = names(BarrierOutcome::Differed, &[]);
        let late = names(BarrierOutcome::Late, &[]);
        let gone = names(BarrierOutcome::Gone, &self.missing);
        let cannot = names(BarrierOutcome::CannotAnswer, &[]);
        let agreed = names(BarrierOutcome::Agreed, &[]);
        serde_json::json!({
            "revision": report.revision.0,
            "agreed": agreed,
            "differing": differing,
            "late": late,
            "gone": gone,
            "cannot": cannot,
            "counts": {
                "agreed": count(report, BarrierOutcome::Agreed),
                "differing": count(report, BarrierOutcome::Differed),
                "late": count(report, BarrierOutcome::Late),
                "gone": count(report, BarrierOutcome::Gone) + self.missing.len(),
                "cannot": count(report, BarrierOutcome::CannotAnswer),
            },
        })
    }

    pub(crate) fn cancel(&mut self, core: &mut Core) {
        if let Some(id) = self.id() {
            core.hub.cancel_barrier(id);
        }
    }
}

/// Its name; a classic client has none.
fn called(entry: &BarrierEntry) -> String {
    match entry.pid {
        _ if !entry.name.is_empty() => entry.name.clone(),
        Some(pid) => format!("pid {pid}"),
        None => format!("session {}", entry.session),
    }
}

fn count(report: &BarrierReport, outcome: BarrierOutcome) -> usize {
    report.entries.iter().filter(|entry| entry.outcome == outcome).count()
}
