//! Requests: one line of the grammar each, from a connection or the console.
//!
//! What is done at once is answered at once ([`begin`] gives a [`Reply`]).
//! Everything else is a [`Job`] that the loop steps: a listing goes on while
//! the client reads, a barrier ends when the sessions have answered, a `wait`
//! when it happens. A job holds a place in the tables and never a copy of them;
//! each step looks at a bounded number of entities, and what it says goes out
//! through an [`Answer`], which says when it has no room.

pub(crate) mod barrier;
pub(crate) mod descriptors;
pub(crate) mod digest;
pub(crate) mod flush;
pub(crate) mod get;
pub(crate) mod select;
pub(crate) mod sessions;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod wait;

use rtm_model::text::{Command, Context, FlushWhat, Options, parse_line};
use rtm_model::{Change, Verb};
use rtm_tables::wire::{Done, ItemFlags, ItemKind, Role};
use rtm_tables::{Applied, Flush, Millis, SessionInfo};

use crate::clients::Clients;
use crate::core::{Core, Requester};
use crate::turn::TurnStats;

/// Exit codes of the command (CLI.md).
pub(crate) const CODE_USAGE: u32 = 1;
/// Refused.
pub(crate) const CODE_REFUSED: u32 = 2;
/// Timed out, or not all agreed.
pub(crate) const CODE_TIMED_OUT: u32 = 4;

/// How a request ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Reply {
    /// An exit code of the command.
    pub(crate) code: u32,
    /// Changes that were applied.
    pub(crate) applied: u64,
    /// Changes that made no difference.
    pub(crate) unchanged: u64,
    /// Changes that were refused.
    pub(crate) failed: u64,
    /// The number, from 1, of the first that was refused; 0: none.
    pub(crate) position: u64,
    /// One line, empty if there is nothing to say.
    pub(crate) text: String,
}

impl Reply {
    /// All went well.
    pub(crate) fn done() -> Reply {
        Reply::default()
    }

    /// Not understood.
    pub(crate) fn usage(text: impl Into<String>) -> Reply {
        Reply { code: CODE_USAGE, text: text.into(), ..Reply::default() }
    }

    /// Understood and refused.
    pub(crate) fn refused(text: impl Into<String>) -> Reply {
        Reply { code: CODE_REFUSED, failed: 0, text: text.into(), ..Reply::default() }
    }

    /// Was it not understood, or refused?
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.code, CODE_USAGE | CODE_REFUSED)
    }

    /// As the frame that ends an answer.
    pub(crate) fn frame(&self, id: u64, core: &Core) -> Done<'_> {
        Done {
            id,
            code: self.code,
            revision: core.table.revision(),
            applied: self.applied,
            unchanged: self.unchanged,
            failed: self.failed,
            position: self.position,
            text: &self.text,
        }
    }
}

/// Where an answer goes.
pub(crate) trait Answer {
    /// One piece; false, and nothing happened, if there is no room.
    fn item(&mut self, kind: ItemKind, flags: ItemFlags, body: &[u8]) -> bool;

    /// The session that asks, if it is one: it isn't among the others while it
    /// is being answered.
    fn own_info(&self, core: &Core) -> Option<SessionInfo>;
}

/// What else a step can see.
pub(crate) struct Around<'a> {
    /// All connections but the one that asks.
    pub(crate) clients: &'a mut Clients,
    /// How long turns took.
    pub(crate) turns: &'a TurnStats,
    /// What the daemon runs with.
    pub(crate) facts: &'a status::Facts,
}

/// What came of a step.
#[derive(Debug)]
pub(crate) enum Step {
    /// It is answered.
    Done(Reply),
    /// Again in the next turn.
    More,
    /// The answer has no room: when some was written.
    NoRoom,
    /// Nothing to do before something happens.
    Wait(Until),
}

/// Until when a job waits; it is stepped, too, when a hold was released, a
/// barrier ended, or a record touched its `wait`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Until {
    /// At the latest then.
    pub(crate) deadline: Option<Millis>,
}

/// A request that isn't answered at once.
pub(crate) enum Job {
    /// A change that waits for a hold to end.
    Change(Change),
    /// A whole flush that waits for a hold to end.
    Flush(Flush),
    /// `route show`.
    Routes(show::Routes),
    /// `neigh show`.
    Neighbours(show::Neighbours),
    /// `route get`.
    Get(get::Get),
    /// `route flush`, `neigh flush`.
    FlushSelected(flush::FlushSelected),
    /// `client list`.
    Clients(sessions::List),
    /// `source list`.
    Sources(status::Sources),
    /// `source reconcile`.
    Reconcile(status::Reconcile),
    /// `status`.
    Status,
    /// `status -d`.
    Descriptors(descriptors::Descriptors),
    /// `status image`.
    StatusImage,
    /// `stat`.
    Stat,
    /// `digest`.
    Digest(digest::DigestJob),
    /// `sync`.
    Barrier(barrier::Barrier),
    /// `wait`.
    Wait(wait::Wait),
    /// `client kill`.
    Kill(sessions::Kill),
    /// `reload`: the loop does it, then answers.
    Reload(Option<Reply>),
}

/// What came of a line.
pub(crate) enum Begun {
    /// It is answered.
    Answered(Reply),
    /// It takes steps.
    Job(Box<Job>),
    /// There was nothing in it.
    Empty,
}

/// Begins to answer one line.
pub(crate) fn begin(core: &mut Core, who: Requester, role: Role, line: &str) -> Begun {
    core.counters.requests += 1;
    let parsed = {
        let cx = Context { names: &core.names, ..Context::default() };
        parse_line(line, &cx)
    };
    match parsed {
        Ok(None) => Begun::Empty,
        Ok(Some((options, command))) => begin_command(core, who, role, options, command),
        Err(error) => Begun::Answered(Reply::usage(error.to_string())),
    }
}

/// Begins to answer a command.
pub(crate) fn begin_command(
    core: &mut Core,
    who: Requester,
    role: Role,
    options: Options,
    command: Command,
) -> Begun {
    let needed = match &command {
        Command::Change(
            Change::Route(
                Verb::Add | Verb::Change | Verb::Replace | Verb::Append | Verb::Delete,
                _,
            )
            | Change::Neighbour(
                Verb::Add | Verb::Change | Verb::Replace | Verb::Append | Verb::Delete,
                _,
            ),
        ) => Role::Inject,
        Command::Change(_)
        | Command::RouteFlush(_)
        | Command::NeighbourFlush(_)
        | Command::Flush(_)
        | Command::ClientKill(_)
        | Command::SourceReconcile(_)
        | Command::Reload => Role::Admin,
        _ => Role::Read,
    };
    if role < needed {
        return Begun::Answered(not_permitted(role, needed));
    }
    let job = match command {
        Command::Change(change) => {
            if core.may_change(who) {
                return Begun::Answered(change_now(core, &change));
            }
            Job::Change(change)
        }
        Command::Flush(what) => {
            let what = Flush {
                routes: what != FlushWhat::Neighbours,
                neighbours: what != FlushWhat::Routes,
            };
            if let (true, false, Some(table)) = (what.routes, options.force, core.export.table) {
                return Begun::Answered(Reply::refused(format!(
                    "flush: the routes are exported to the kernel's table {table} and would go there, too; `flush … --force` would be right"
                )));
            }
            if core.may_change(who) {
                return Begun::Answered(flush_now(core, what));
            }
            Job::Flush(what)
        }
        Command::RouteShow(show) => Job::Routes(show::Routes::new(show)),
        Command::NeighbourShow(selector) => Job::Neighbours(show::Neighbours::new(selector)),
        Command::RouteGet(get) => Job::Get(get::Get::new(get)),
        Command::RouteFlush(selector) => match flush::FlushSelected::routes(core, selector) {
            Ok(flush) => Job::FlushSelected(flush),
            Err(text) => return Begun::Answered(Reply::refused(text)),
        },
        Command::NeighbourFlush(selector) => {
            Job::FlushSelected(flush::FlushSelected::neighbours(selector))
        }
        Command::ClientList => Job::Clients(sessions::List::new(options.details > 0)),
        Command::ClientKill(peer) => Job::Kill(sessions::Kill::new(peer)),
        Command::SourceList => Job::Sources(status::Sources::default()),
        Command::Status if options.details > 0 => {
            Job::Descriptors(descriptors::Descriptors::new(core))
        }
        Command::Status => Job::Status,
        Command::StatusImage => Job::StatusImage,
        Command::Stat { .. } => Job::Stat,
        Command::Digest { resolved } => Job::Digest(digest::DigestJob::new(resolved)),
        Command::Sync(sync) => Job::Barrier(barrier::Barrier::new(core, sync)),
        Command::Wait(wait) => {
            let deadline = wait.timeout.map(|timeout| after(core.now, timeout));
            Job::Wait(wait::Wait::new(wait.what, wait.gone, deadline))
        }
        Command::Reload => {
            core.reload_asked = true;
            Job::Reload(None)
        }
        Command::SourceReconcile(name) => {
            if let Err(why) = status::reconcilable(core, &name) {
                let name = name.escape_debug();
                return Begun::Answered(Reply::refused(format!("source {name}: {why}")));
            }
            Job::Reconcile(status::Reconcile::new(core))
        }
        Command::Help(_)
        | Command::Version
        | Command::Lookup(_)
        | Command::RouteLoad(_)
        | Command::RouteSave(_)
        | Command::Monitor(_)
        | Command::Client(_)
        | Command::Batch { .. }
        | Command::Latency
        | Command::MqSend { .. }
        | Command::Tour
        | Command::Completion(_) => {
            return Begun::Answered(Reply::usage(
                "this belongs to the command rtm; the daemon answers show, get, changes, flush, client, status, digest, sync, source, wait, stat and reload",
            ));
        }
        // The grammar may learn commands before the daemon does.
        _ => return later("this command"),
    };
    Begun::Job(Box::new(job))
}

/// `now` and a duration, in milliseconds, rounded up.
pub(crate) fn after(now: Millis, timeout: std::time::Duration) -> Millis {
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    now.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX))
}

fn later(what: &str) -> Begun {
    Begun::Answered(Reply::usage(format!("{what}: not in this version")))
}

/// Refused for want of a role.
pub(crate) fn not_permitted(role: Role, needed: Role) -> Reply {
    Reply::refused(format!(
        "not permitted: this connection has the role {}; {} would be right",
        role.name(),
        needed.name()
    ))
}

fn change_now(core: &mut Core, change: &Change) -> Reply {
    match core.apply(core.admin, change) {
        Ok(Applied::Changed(_)) => Reply { applied: 1, ..Reply::default() },
        Ok(Applied::Unchanged) => Reply { unchanged: 1, ..Reply::default() },
        Err(error) => Reply {
            failed: 1,
            position: 1,
            ..Reply::refused(format!("{}: {error}", place(change)))
        },
    }
}

fn flush_now(core: &mut Core, what: Flush) -> Reply {
    let counts = core.table.counts().store;
    let routes = if what.routes { counts.routes4 + counts.routes6 } else { 0 };
    let neighbours = if what.neighbours { counts.neighbours } else { 0 };
    let (table, mut out) = core.parts();
    match table.flush(what, &mut out) {
        Ok(revision) => {
            core.route_flushes += u64::from(what.routes);
            core.flushes += 1;
            core.flushes_of_all += u64::from(what.routes && what.neighbours);
            tracing::info!(
                routes = what.routes,
                neighbours = what.neighbours,
                revision = revision.0,
                "flushed"
            );
            Reply { applied: (routes + neighbours) as u64, ..Reply::default() }
        }
        Err(error) => Reply::refused(format!("flush: {error}")),
    }
}

/// What a change is about, for an error: as the user wrote it.
pub(crate) fn place(change: &Change) -> String {
    match change {
        Change::Route(_, spec) => spec.prefix.to_string(),
        Change::Neighbour(_, spec) => spec.ip.to_string(),
        Change::Link(_, spec) => spec.name.to_string(),
        Change::Group(_, spec) => format!("nhid {}", spec.nhid),
    }
}

impl Job {
    /// One step.
    pub(crate) fn step(
        &mut self,
        core: &mut Core,
        who: Requester,
        around: &mut Around<'_>,
        out: &mut dyn Answer,
    ) -> Step {
        match self {
            Job::Change(change) => {
                if core.may_change(who) {
                    Step::Done(change_now(core, change))
                } else {
                    idle()
                }
            }
            Job::Flush(what) => {
                if core.may_change(who) {
                    Step::Done(flush_now(core, *what))
                } else {
                    idle()
                }
            }
            Job::Routes(job) => job.step(core, out),
            Job::Neighbours(job) => job.step(core, out),
            Job::Get(job) => job.step(core, out),
            Job::FlushSelected(job) => job.step(core, who),
            Job::Clients(job) => job.step(core, around, out),
            Job::Sources(job) => job.step(core, out),
            Job::Reconcile(job) => job.step(core, out),
            Job::Descriptors(job) => job.step(core, around, out),
            Job::Status => status::status(core, around, out),
            Job::StatusImage => status::image(core, out),
            Job::Stat => status::stat(core, around, out),
            Job::Digest(job) => job.step(core, who, out),
            Job::Barrier(job) => job.step(core, around, out),
            Job::Wait(job) => job.step(core, who, out),
            Job::Kill(job) => job.step(core, around),
            Job::Reload(reply) => reply.take().map_or_else(idle, Step::Done),
        }
    }

    /// It is no longer wanted: gives back what it holds. True: it must be
    /// stepped to its end all the same.
    pub(crate) fn cancel(&mut self, core: &mut Core, who: Requester) -> bool {
        match self {
            Job::FlushSelected(job) => return job.cancel(),
            Job::Digest(_) => core.release(who),
            Job::Barrier(job) => job.cancel(core),
            Job::Wait(_) => core.waits.remove(who),
            _ => {}
        }
        false
    }
}

/// Until something happens.
pub(crate) fn idle() -> Step {
    Step::Wait(Until::default())
}
