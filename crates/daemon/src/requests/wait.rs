//! `wait route|neigh SELECTOR [--gone]`: answered when it happens.
//!
//! A wait looks at the table once, in slices. From then on each record is held
//! against its selector's keys, and only one that could matter makes it look
//! again, when the look under way is over: a busy table costs a wait a
//! comparison a record.

use rtm_model::text::{NeighbourSelector, RouteSelector, WaitFor};
use rtm_model::{EntityKey, EntityKind};
use rtm_tables::{Millis, Record, RecordOp};

use super::select::{Found, NeighbourWalk, RouteWalk};
use super::{Answer, Reply, Step, Until};
use crate::core::{Core, Requester};

/// The most waits at a time: each is asked about every record.
pub(crate) const WAITS_MAX: usize = 256;

/// Entities looked at in one step.
const STEP: usize = 1024;

/// Those who wait.
#[derive(Default)]
pub(crate) struct Waits {
    list: Vec<Waiting>,
}

struct Waiting {
    who: Requester,
    what: WaitFor,
    touched: bool,
}

impl Waits {
    /// Does nobody wait?
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// A record: whom could it matter to?
    pub(crate) fn record(&mut self, record: &Record<'_>) {
        if self.list.is_empty() {
            return;
        }
        let key = match record.op {
            RecordOp::Set => record.body.get(..record.kind.key_bytes()),
            RecordOp::Delete => Some(record.body),
        };
        let key = key.and_then(|bytes| EntityKey::decode(record.kind, bytes).ok());
        for waiting in &mut self.list {
            waiting.touched |= match (record.kind, &waiting.what, key) {
                // What a route or a neighbour refers to.
                (EntityKind::Link | EntityKind::Group, ..) => true,
                (_, WaitFor::Route(selector), Some(EntityKey::Route(key))) => {
                    selector.matches_key(&key)
                }
                (_, WaitFor::Neighbour(selector), Some(EntityKey::Neighbour(key))) => {
                    selector.prefix.is_none_or(|prefix| prefix.contains(key.ip))
                }
                _ => false,
            };
        }
    }

    /// Much has changed at once.
    pub(crate) fn touch_all(&mut self) {
        for waiting in &mut self.list {
            waiting.touched = true;
        }
    }

    /// Those for whom something has happened.
    pub(crate) fn touched(&self) -> impl Iterator<Item = Requester> + '_ {
        self.list.iter().filter(|waiting| waiting.touched).map(|waiting| waiting.who)
    }

    /// Somebody no longer waits.
    pub(crate) fn remove(&mut self, who: Requester) {
        self.list.retain(|waiting| waiting.who != who);
    }

    fn add(&mut self, who: Requester, what: WaitFor) -> bool {
        if self.list.len() >= WAITS_MAX {
            return false;
        }
        self.list.push(Waiting { who, what, touched: true });
        true
    }

    fn is_touched(&self, who: Requester) -> bool {
        self.list.iter().any(|waiting| waiting.who == who && waiting.touched)
    }

    fn take_touched(&mut self, who: Requester) -> bool {
        let Some(waiting) = self.list.iter_mut().find(|waiting| waiting.who == who) else {
            return false;
        };
        std::mem::take(&mut waiting.touched)
    }
}

enum Look {
    Route(RouteSelector, RouteWalk),
    Neighbour(NeighbourSelector, NeighbourWalk),
}

/// One `wait`.
pub(crate) struct Wait {
    what: WaitFor,
    gone: bool,
    deadline: Option<Millis>,
    /// Is it among [`Waits`]?
    registered: bool,
    look: Option<Look>,
}

impl Wait {
    pub(crate) fn new(what: WaitFor, gone: bool, deadline: Option<Millis>) -> Wait {
        Wait { what, gone, deadline, registered: false, look: None }
    }

    pub(crate) fn step(&mut self, core: &mut Core, who: Requester, _: &mut dyn Answer) -> Step {
        if !self.registered {
            if !core.waits.add(who, self.what.clone()) {
                return Step::Done(Reply::refused(format!(
                    "wait: {WAITS_MAX} are waiting already; ending one of them would be right"
                )));
            }
            self.registered = true;
        }
        if core.table.is_staging() {
            return self.waiting(core, who);
        }
        // A look under way is brought to its end first: begun again at each
        // change, it might never come there.
        if self.look.is_none() && core.waits.take_touched(who) {
            self.look = Some(match &self.what {
                WaitFor::Route(selector) => {
                    Look::Route(selector.clone(), RouteWalk::new(core.table.store(), selector))
                }
                WaitFor::Neighbour(selector) => {
                    Look::Neighbour(*selector, NeighbourWalk::new(selector))
                }
            });
        }
        let found = match &mut self.look {
            None => return self.waiting(core, who),
            Some(Look::Route(selector, walk)) => {
                walk.next(&core.table, selector, &mut STEP.clone()).map(|_| ())
            }
            Some(Look::Neighbour(selector, walk)) => {
                walk.next(core.table.store(), selector, &mut STEP.clone()).map(|_| ())
            }
        };
        match found {
            Found::Paused => Step::More,
            Found::One(()) if !self.gone => self.end(core, who, Reply::done()),
            Found::End if self.gone && !core.waits.is_touched(who) => {
                self.end(core, who, Reply::done())
            }
            Found::One(()) | Found::End => {
                self.look = None;
                let late = self.deadline.is_some_and(|deadline| core.now >= deadline);
                if core.waits.is_touched(who) && !late {
                    return Step::More;
                }
                self.waiting(core, who)
            }
        }
    }

    fn waiting(&mut self, core: &mut Core, who: Requester) -> Step {
        match self.deadline {
            Some(deadline) if core.now >= deadline => {
                let mut reply = Reply::refused(match self.gone {
                    false => "wait: it did not come in time".to_owned(),
                    true => "wait: it did not go in time".to_owned(),
                });
                reply.code = super::CODE_TIMED_OUT;
                self.end(core, who, reply)
            }
            deadline => Step::Wait(Until { deadline }),
        }
    }

    fn end(&mut self, core: &mut Core, who: Requester, reply: Reply) -> Step {
        core.waits.remove(who);
        Step::Done(reply)
    }
}
