//! Streams of changes from a client (LOAD, CHANGE …, LOAD_END).
//!
//! ```text
//!                    not atomic            every change at once
//!   LOAD --+--> Plain ------------------------------------------------> DONE
//!          |
//!          +--> Buffered --- a few: one ordinary transaction ---------> DONE
//!                  | many
//!                  v
//!               Waiting (somebody else has the tables)
//!                  |
//!                  v
//!               Staging --- a change is refused, given up, too slow
//!                  | LOAD_END                              |
//!                  v                                       v
//!               Committing, in slices ---> DONE         Aborting, in slices
//! ```
//!
//! What an atomic stream buffers before it stages is bounded, so that nothing a
//! client sends grows the daemon; a staged stream holds the tables, so that it
//! must not stand still.

use rtm_model::{Change, Hops};
use rtm_tables::wire::{LoadFlags, Role};
use rtm_tables::{Applied, ChangeError, Millis, SourceId};

use crate::core::{Core, Requester};
use crate::requests::{CODE_REFUSED, CODE_TIMED_OUT, CODE_USAGE, Reply, not_permitted, place};

/// So many changes of an atomic stream are one ordinary transaction, made in
/// one turn; more are staged.
const BUFFER_CHANGES_MAX: usize = 512;
/// And at most so many next hops in them: what bounds the buffer's memory.
const BUFFER_HOPS_MAX: usize = 8192;

/// A staged stream that stands still for so long is given up: others wait for
/// it.
const STAND_STILL_MS: Millis = 30_000;

/// Entities looked at in one step of a commit.
const STEP: usize = 512;

/// Refusals that a stream that goes on tells of, at most.
const TOLD_MAX: u64 = 100;

/// Where a stream stands.
#[derive(Debug)]
enum State {
    Plain,
    Buffered(Vec<Change>),
    Waiting(Vec<Change>),
    Staging,
    Committing,
    /// With what is to be answered, if it wasn't yet.
    Aborting(Option<Reply>),
    Over,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Load {
    /// The client's number for it.
    pub(crate) id: u64,
    who: Requester,
    source: SourceId,
    flags: LoadFlags,
    state: State,
    /// Is LOAD_END there?
    ended: bool,
    hops: usize,
    position: u64,
    reply: Reply,
    /// When the last change came.
    moved: Millis,
    /// Refusals to tell of.
    untold: Vec<(u64, String)>,
}

impl Load {
    /// A stream begins.
    ///
    /// # Errors
    /// The answer that refuses it.
    pub(crate) fn begin(
        core: &mut Core,
        who: Requester,
        role: Role,
        id: u64,
        flags: LoadFlags,
        source: &str,
    ) -> Result<Load, Reply> {
        if role < Role::Admin {
            return Err(not_permitted(role, Role::Admin));
        }
        let source = match source {
            "" | "admin" if flags.contains(LoadFlags::WHOLE) => {
                return Err(Reply::usage(
                    "source admin: many write it, so nothing is its whole content; another name would be right",
                ));
            }
            "" | "admin" => core.admin,
            name => core.file_source(name).map_err(Reply::refused)?,
        };
        if flags.contains(LoadFlags::WHOLE) {
            core.table.begin_generation(source);
        }
        let atomic = flags.contains(LoadFlags::ATOMIC);
        Ok(Load {
            id,
            who,
            source,
            flags,
            state: if atomic { State::Buffered(Vec::new()) } else { State::Plain },
            ended: false,
            hops: 0,
            position: 0,
            reply: Reply::done(),
            moved: core.now,
            untold: Vec::new(),
        })
    }

    /// Can a change be taken now? If not, its client is paused.
    pub(crate) fn takes_changes(&self, core: &Core) -> bool {
        match &self.state {
            State::Plain | State::Staging => core.may_change(self.who),
            State::Buffered(_) | State::Over | State::Aborting(_) => true,
            State::Waiting(_) | State::Committing => false,
        }
    }

    /// Changes of the stream, in order. The answer, if one of them ends it:
    /// those behind it are dropped.
    pub(crate) fn changes(&mut self, core: &mut Core, changes: Vec<Change>) -> Option<Reply> {
        self.moved = core.now;
        if matches!(self.state, State::Plain) {
            let mut reply = None;
            core.apply_many(self.source, &changes, &mut |change, result| {
                self.position += 1;
                reply = self.came_of(change, result);
                reply.is_none()
            });
            core.hub.recycle(changes);
            if reply.is_some() {
                core.stream_ended();
            }
            return reply;
        }
        changes.into_iter().find_map(|change| self.change(core, change))
    }

    /// One change of an atomic stream.
    fn change(&mut self, core: &mut Core, change: Change) -> Option<Reply> {
        self.position += 1;
        match &mut self.state {
            State::Buffered(changes) => {
                self.hops += hops(&change);
                changes.push(change);
                if changes.len() >= BUFFER_CHANGES_MAX || self.hops >= BUFFER_HOPS_MAX {
                    self.state = State::Waiting(std::mem::take(changes));
                    return self.stage_buffered(core);
                }
                None
            }
            State::Staging => {
                let result = core.would_fit(self.position).and_then(|()| core.table.stage(&change));
                self.staged(core, &change, result)
            }
            // Paused; only changes that came together with the one that filled
            // the buffer come here.
            State::Waiting(changes) => {
                changes.push(change);
                None
            }
            State::Plain | State::Committing | State::Aborting(_) | State::Over => None,
        }
    }

    /// The stream is complete. The answer, if it is known at once.
    pub(crate) fn end(&mut self, core: &mut Core, give_up: bool) -> Option<Reply> {
        self.ended = true;
        self.moved = core.now;
        if matches!(self.state, State::Plain) {
            core.stream_ended();
        }
        if give_up && self.flags.contains(LoadFlags::ATOMIC) {
            let reply = Reply::refused("load: given up; nothing of it was applied");
            return self.give_up(core, reply);
        }
        match &mut self.state {
            State::Plain if give_up => {
                // What came so far stands; it is not the source's whole content.
                self.state = State::Over;
                Some(std::mem::take(&mut self.reply))
            }
            State::Plain => Some(self.finish(core)),
            State::Buffered(changes) => {
                let changes = std::mem::take(changes);
                if !core.may_change(self.who) {
                    self.state = State::Waiting(changes);
                    return None;
                }
                Some(self.transact(core, &changes))
            }
            State::Staging => {
                self.state = State::Committing;
                None
            }
            State::Waiting(_) | State::Committing | State::Aborting(_) | State::Over => None,
        }
    }

    /// A step, where the state goes on by itself. The answer, if that ends it;
    /// [`Load::is_busy`] says whether more steps are wanted.
    pub(crate) fn step(&mut self, core: &mut Core) -> Option<Reply> {
        match &mut self.state {
            State::Waiting(changes) if self.ended && changes.len() <= BUFFER_CHANGES_MAX => {
                if !core.may_change(self.who) {
                    return None;
                }
                let changes = std::mem::take(changes);
                Some(self.transact(core, &changes))
            }
            State::Waiting(_) => self.stage_buffered(core),
            State::Committing => {
                let (table, mut out) = core.parts();
                let applied = table.stage_commit(STEP, &mut out)?;
                core.release(self.who);
                if applied == Applied::Unchanged {
                    self.reply.unchanged += std::mem::take(&mut self.reply.applied);
                }
                core.counters.changes += self.reply.applied;
                Some(self.finish(core))
            }
            State::Aborting(reply) => {
                if !core.table.stage_abort(STEP) {
                    return None;
                }
                let reply = reply.take();
                core.release(self.who);
                self.state = State::Over;
                reply
            }
            State::Plain | State::Buffered(_) | State::Staging | State::Over => None,
        }
    }

    /// Does it go on by itself?
    pub(crate) fn is_busy(&self, core: &Core) -> bool {
        match self.state {
            State::Waiting(_) => core.may_change(self.who),
            State::Committing | State::Aborting(_) => true,
            State::Plain | State::Buffered(_) | State::Staging | State::Over => false,
        }
    }

    /// Is it answered, and nothing left to do?
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// When it must have moved.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        matches!(self.state, State::Staging).then_some(self.moved + STAND_STILL_MS)
    }

    /// Time has passed. The answer, if it stood still for too long.
    pub(crate) fn handle_timeout(&mut self, core: &mut Core) -> Option<Reply> {
        if self.deadline().is_none_or(|deadline| core.now < deadline) {
            return None;
        }
        let mut reply = Reply::refused(format!(
            "load: no change came for {} s while others waited; given up, nothing of it was applied",
            STAND_STILL_MS / 1000
        ));
        reply.code = CODE_TIMED_OUT;
        self.give_up(core, reply)
    }

    /// The client is gone. What was applied stays; what was staged goes, in
    /// steps (true: they are wanted).
    pub(crate) fn cut(&mut self) -> bool {
        match self.state {
            State::Staging => self.state = State::Aborting(None),
            // From its first slice on there is no way back.
            State::Committing | State::Aborting(_) => {}
            State::Plain | State::Buffered(_) | State::Waiting(_) | State::Over => {
                self.state = State::Over;
            }
        }
        !self.is_over()
    }

    /// A refusal to tell of, if the stream goes on after such.
    pub(crate) fn untold(&mut self) -> Option<String> {
        let (position, text) = self.untold.pop()?;
        Some(serde_json::json!({ "position": position, "text": text }).to_string())
    }

    fn came_of(&mut self, change: &Change, result: Result<Applied, ChangeError>) -> Option<Reply> {
        match result {
            Ok(Applied::Changed(_)) => {
                self.reply.applied += 1;
                None
            }
            Ok(Applied::Unchanged) => {
                self.reply.unchanged += 1;
                None
            }
            Err(error) => {
                let goes_on = self.refused(change, &error);
                if goes_on {
                    return None;
                }
                self.state = State::Over;
                Some(std::mem::take(&mut self.reply))
            }
        }
    }

    /// Notes a refusal; does the stream go on after it?
    fn refused(&mut self, change: &Change, error: &ChangeError) -> bool {
        let text = || format!("{}: {error}", place(change));
        self.reply.failed += 1;
        if self.reply.position == 0 {
            self.reply.position = self.position;
            self.reply.text = text();
        }
        if !self.flags.contains(LoadFlags::FORCE) {
            self.reply.code = CODE_REFUSED;
            return false;
        }
        if self.reply.failed <= TOLD_MAX {
            self.untold.insert(0, (self.position, text()));
        }
        self.reply.code = CODE_USAGE;
        true
    }

    fn staged(
        &mut self,
        core: &mut Core,
        change: &Change,
        result: Result<(), ChangeError>,
    ) -> Option<Reply> {
        match result {
            Ok(()) => {
                self.reply.applied += 1;
                None
            }
            Err(error) => {
                core.counters.refused += 1;
                if self.refused(change, &error) {
                    return None;
                }
                let mut reply = std::mem::take(&mut self.reply);
                reply.applied = 0;
                self.give_up(core, reply)
            }
        }
    }

    /// Begins to stage what is buffered, if the tables can be had.
    fn stage_buffered(&mut self, core: &mut Core) -> Option<Reply> {
        if !core.hold(self.who) {
            return None;
        }
        let State::Waiting(changes) = std::mem::replace(&mut self.state, State::Staging) else {
            return None;
        };
        self.moved = core.now;
        if let Err(error) = core.table.stage_begin(self.source) {
            core.release(self.who);
            self.state = State::Over;
            return Some(Reply::refused(format!("load: {error}")));
        }
        let last = self.position;
        for (index, change) in changes.iter().enumerate() {
            self.position = last - (changes.len() - index) as u64 + 1;
            let result = core.table.stage(change);
            if let Some(reply) = self.staged(core, change, result) {
                return Some(reply);
            }
        }
        self.position = last;
        if self.ended {
            self.state = State::Committing;
        }
        None
    }

    /// A few changes as one ordinary transaction.
    fn transact(&mut self, core: &mut Core, changes: &[Change]) -> Reply {
        if let Err(error) = core.room_for(changes) {
            self.state = State::Over;
            self.reply.applied = 0;
            core.counters.refused += 1;
            return Reply::refused(format!("load: {error}"));
        }
        let (table, mut out) = core.parts();
        let mut transaction = match table.transaction(self.source) {
            Ok(transaction) => transaction,
            Err(error) => {
                self.state = State::Over;
                return Reply::refused(format!("load: {error}"));
            }
        };
        let last = self.position;
        let mut stopped = false;
        for (index, change) in changes.iter().enumerate() {
            self.position = last - (changes.len() - index) as u64 + 1;
            match transaction.apply(change) {
                Ok(()) => self.reply.applied += 1,
                Err(error) if self.refused(change, &error) => {}
                Err(_) => {
                    stopped = true;
                    break;
                }
            }
        }
        if stopped {
            transaction.rollback();
            self.reply.applied = 0;
        } else if transaction.commit(&mut out) == Applied::Unchanged {
            self.reply.unchanged += std::mem::take(&mut self.reply.applied);
        }
        core.counters.changes += self.reply.applied;
        core.counters.refused += self.reply.failed;
        if stopped {
            self.state = State::Over;
            return std::mem::take(&mut self.reply);
        }
        self.finish(core)
    }

    /// All was applied: what the source no longer offers goes.
    fn finish(&mut self, core: &mut Core) -> Reply {
        if self.flags.contains(LoadFlags::WHOLE) {
            core.table.end_generation(self.source);
        }
        self.state = State::Over;
        std::mem::take(&mut self.reply)
    }

    /// Nothing of it is to happen: with the answer, at once if nothing is
    /// staged.
    fn give_up(&mut self, core: &mut Core, reply: Reply) -> Option<Reply> {
        if matches!(self.state, State::Staging) {
            self.state = State::Aborting(Some(reply));
            return self.step(core);
        }
        self.state = State::Over;
        Some(reply)
    }
}

fn hops(change: &Change) -> usize {
    match change {
        Change::Route(_, spec) => match &spec.hops {
            Hops::Many(hops) => hops.len(),
            _ => 1,
        },
        Change::Group(_, spec) => spec.hops.len(),
        Change::Neighbour(..) | Change::Link(..) => 1,
    }
}
