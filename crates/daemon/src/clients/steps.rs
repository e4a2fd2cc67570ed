//! What takes several turns: jobs and loads, stepped within a budget.

use std::time::Instant;

use rtm_tables::wire::{ItemFlags, ItemKind};
use rtm_tables::{BarrierReport, ServerSession, SessionInfo};

use super::{Client, Clients, get};
use crate::core::{Core, Requester};
use crate::load::Load;
use crate::requests::status::Facts;
use crate::requests::{Answer, Around, Job, Reply, Step};
use crate::turn::TurnStats;
use crate::wakeup::ClientToken;

/// Something that holds the tables and whose client is gone.
pub(super) enum Orphan {
    /// A flush with a selector.
    Job(Requester, Box<Job>),
    /// A staged load.
    Load(Load),
}

/// Nobody listens.
struct Nobody;

impl Answer for Nobody {
    fn item(&mut self, _: ItemKind, _: ItemFlags, _: &[u8]) -> bool {
        true
    }

    fn own_info(&self, _: &Core) -> Option<SessionInfo> {
        None
    }
}

impl Answer for ServerSession {
    fn item(&mut self, kind: ItemKind, flags: ItemFlags, body: &[u8]) -> bool {
        ServerSession::item(self, kind, flags, body)
    }

    fn own_info(&self, core: &Core) -> Option<SessionInfo> {
        Some(self.info(&core.hub, core.now))
    }
}

impl Clients {
    /// Steps jobs and loads until `until`. True: time is up.
    pub(crate) fn run_jobs(
        &mut self,
        core: &mut Core,
        turns: &TurnStats,
        facts: &Facts,
        until: Instant,
    ) -> bool {
        self.run_orphans(core, turns, facts);
        // Only those that are there now: a job that goes on waits for the next
        // turn, so that what it has said is sent first.
        for _ in 0..self.runnable.len() {
            let Some(token) = self.runnable.pop_front() else { break };
            if let Some(client) = get(&mut self.slots, token) {
                client.queued.runnable = false;
                self.run_job(token, core, turns, facts);
                self.run_load(token, core);
                self.watch(token);
                self.arm(token);
            }
            if Instant::now() >= until {
                return !self.runnable.is_empty();
            }
        }
        false
    }

    fn run_orphans(&mut self, core: &mut Core, turns: &TurnStats, facts: &Facts) {
        let orphans = std::mem::take(&mut self.orphans);
        for orphan in orphans {
            match orphan {
                Orphan::Job(who, mut job) => {
                    let mut around = Around { clients: self, turns, facts };
                    if !matches!(job.step(core, who, &mut around, &mut Nobody), Step::Done(_)) {
                        self.orphans.push(Orphan::Job(who, job));
                    }
                }
                Orphan::Load(mut load) => {
                    let _ = load.step(core);
                    if !load.is_over() {
                        self.orphans.push(Orphan::Load(load));
                    }
                }
            }
        }
    }

    fn run_job(&mut self, token: ClientToken, core: &mut Core, turns: &TurnStats, facts: &Facts) {
        // The client is taken out of its place while its job looks at others.
        let Some(mut client) = self.take(token) else { return };
        let Some((id, mut job)) = client.job.take() else {
            self.put(client);
            return;
        };
        let who = client.requester();
        if matches!(*job, Job::Descriptors(_)) {
            self.own_rows = client.rows(core);
        }
        let mut around = Around { clients: self, turns, facts };
        let step = job.step(core, who, &mut around, &mut client.session);
        match step {
            Step::Done(reply) => {
                client.job_deadline = None;
                self.put(client);
                self.reply(token, id, &reply, core);
                // The next request may have been waiting.
                self.input(token, &[], core);
            }
            Step::More => {
                client.job = Some((id, job));
                self.put(client);
                self.queue_runnable(token);
                self.queue_answer(token);
            }
            Step::NoRoom => {
                client.job = Some((id, job));
                self.put(client);
                self.queue_answer(token);
            }
            Step::Wait(until) => {
                client.job_deadline = until.deadline;
                client.job = Some((id, job));
                self.put(client);
                self.queue_answer(token);
            }
        }
    }

    fn run_load(&mut self, token: ClientToken, core: &mut Core) {
        let Some(client) = get(&mut self.slots, token) else { return };
        let Some(load) = &mut client.load else { return };
        let reply = if load.is_busy(core) { load.step(core) } else { None };
        let (busy, over, takes) = (load.is_busy(core), load.is_over(), load.takes_changes(core));
        if busy {
            self.queue_runnable(token);
        }
        self.tell_refusals(token);
        match reply {
            Some(reply) => {
                self.end_load(token, &reply, core);
                self.input(token, &[], core);
            }
            None if over => {
                if let Some(client) = get(&mut self.slots, token) {
                    client.load = None;
                }
                self.unpause(token);
                self.input(token, &[], core);
            }
            None if takes => {
                self.unpause(token);
                self.input(token, &[], core);
                self.queue_readable(token);
            }
            None => {}
        }
    }

    /// A load whose client gave another one before it was over.
    pub(super) fn orphan_load(&mut self, token: ClientToken) {
        let Some(client) = get(&mut self.slots, token) else { return };
        if let Some(mut load) = client.load.take() {
            if load.cut() {
                self.orphans.push(Orphan::Load(load));
            }
        }
    }

    pub(super) fn load_timeout(&mut self, token: ClientToken, core: &mut Core) {
        let Some(client) = get(&mut self.slots, token) else { return };
        let reply = client.load.as_mut().and_then(|load| load.handle_timeout(core));
        let busy = client.load.as_ref().is_some_and(|load| load.is_busy(core));
        if busy {
            self.queue_runnable(token);
        }
        if let Some(reply) = reply {
            self.end_load(token, &reply, core);
        }
    }

    /// The tables were given back: who waited for them goes on.
    pub(crate) fn released(&mut self) {
        for place in 0..self.slots.len() {
            let Some(client) = &self.slots[place].client else { continue };
            if client.job.is_some() || client.load.is_some() {
                let token = client.token;
                self.queue_runnable(token);
            }
        }
    }

    /// Records touched somebody's `wait`.
    pub(crate) fn touched(&mut self, core: &Core) {
        let touched: Vec<ClientToken> = core
            .waits
            .touched()
            .filter_map(|who| match who {
                Requester::Client(token) => Some(token),
                Requester::Console
                | Requester::Loader
                | Requester::Queue
                | Requester::Fifo
                | Requester::Fpm
                | Requester::Kernel => None,
            })
            .collect();
        for token in touched {
            self.queue_runnable(token);
        }
    }

    /// A barrier has ended; false: none of these asked for it.
    pub(crate) fn barrier_ended(&mut self, report: &BarrierReport) -> bool {
        let asked =
            self.slots.iter_mut().filter_map(|slot| slot.client.as_mut()).find_map(|client| {
                match &mut client.job {
                    Some((_, job)) => match &mut **job {
                        Job::Barrier(barrier) if barrier.id() == Some(report.id) => {
                            barrier.ended(report.clone());
                            Some(client.token)
                        }
                        _ => None,
                    },
                    None => None,
                }
            });
        if let Some(token) = asked {
            self.queue_runnable(token);
        }
        asked.is_some()
    }

    /// The configuration was read again, as some asked.
    pub(crate) fn reloaded(&mut self, reply: &Reply) {
        for place in 0..self.slots.len() {
            let Some(client) = &mut self.slots[place].client else { continue };
            let Some((_, job)) = &mut client.job else { continue };
            if let Job::Reload(waiting @ None) = &mut **job {
                *waiting = Some(reply.clone());
                let token = client.token;
                self.queue_runnable(token);
            }
        }
    }

    pub(super) fn queue_readable(&mut self, token: ClientToken) {
        let Some(client) = get(&mut self.slots, token) else { return };
        if !std::mem::replace(&mut client.queued.readable, true) {
            self.readable.push_back(token);
        }
    }

    fn take(&mut self, token: ClientToken) -> Option<Box<Client>> {
        let slot = self.slots.get_mut(token.place())?;
        slot.client.take_if(|client| client.token == token)
    }

    fn put(&mut self, client: Box<Client>) {
        let place = client.token.place();
        self.slots[place].client = Some(client);
    }
}
