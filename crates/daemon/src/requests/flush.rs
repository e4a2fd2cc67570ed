//! `route flush SELECTOR` and `neigh flush SELECTOR`: a transaction of deletes.
//!
//! Only what `admin` and file sources offer is deleted; what the kernel or a
//! routing daemon offers would come back, and is theirs. The keys are looked
//! for in slices while everything else goes on. A few are then deleted as one
//! ordinary transaction. If there are many, the tables are held: the walk begins
//! again and stages the deletes, others' changes wait, delivery goes on, and
//! all of it becomes visible at once.

use rtm_model::text::{NeighbourSelector, RouteSelector};
use rtm_model::{
    Change, Hops, LinkRef, NeighbourKey, NeighbourSpec, Route, RouteKey, RouteSpec, RouteType, Verb,
};
use rtm_tables::{Applied, ChangeError, SourceClass, SourceId, Table};

use super::select::{Found, NeighbourWalk, RouteWalk, candidates};
use super::{Reply, Step, idle};
use crate::core::{Core, Requester};

/// Up to so many deletes are an ordinary transaction, made in one turn.
const AT_ONCE: usize = 512;

/// Entities looked at in one step.
const STEP: usize = 1024;

/// What is meant.
enum What {
    Routes(RouteSelector),
    Neighbours(NeighbourSelector),
}

enum Walk {
    Routes(RouteWalk),
    Neighbours(NeighbourWalk),
}

/// How far it is.
enum State {
    /// Looking for keys; nothing is changed yet.
    Looking(Walk, Vec<(SourceId, Change)>),
    /// There are too many: waiting to have the tables.
    WantsHold,
    /// Staging the deletes of one source.
    Staging(Walk, SourceId),
    /// Making them visible.
    Committing(SourceId),
    /// Giving up.
    Aborting(String),
}

/// One flush with a selector.
pub(crate) struct FlushSelected {
    what: What,
    /// How far it is; `None`: it hasn't begun.
    state: Option<State>,
    deleted: u64,
    /// The sources that many deletes are still to be staged for.
    sources: Vec<SourceId>,
    staged: u64,
}

impl FlushSelected {
    /// `route flush`.
    ///
    /// # Errors
    /// A source is named that nobody may delete from here, or that isn't.
    pub(crate) fn routes(core: &Core, selector: RouteSelector) -> Result<FlushSelected, String> {
        if let Some(name) = &selector.source {
            let found = core.table.sources().find(|source| *source.spec.name == **name);
            match found {
                None => {
                    return Err(format!(
                        "source {name}: there is no such source; 'source list' shows them"
                    ));
                }
                Some(source) if !is_ours(source.spec.class) => {
                    return Err(format!(
                        "source {name}: its routes belong to it; delete them there"
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(FlushSelected::new(What::Routes(selector)))
    }

    /// `neigh flush`.
    pub(crate) fn neighbours(selector: NeighbourSelector) -> FlushSelected {
        FlushSelected::new(What::Neighbours(selector))
    }

    fn new(what: What) -> FlushSelected {
        FlushSelected { what, state: None, deleted: 0, sources: Vec::new(), staged: 0 }
    }

    pub(crate) fn step(&mut self, core: &mut Core, who: Requester) -> Step {
        if core.table.is_staging() && !core.may_change(who) {
            return idle();
        }
        match self.state.take() {
            None => {
                self.state = Some(State::Looking(self.walk(&core.table), Vec::new()));
                Step::More
            }
            Some(State::Looking(mut walk, mut found)) => {
                match self.find(&core.table, &mut walk, None, STEP, &mut |source, change| {
                    found.push((source, change));
                    found.len() <= AT_ONCE
                }) {
                    Looked::Paused => {
                        self.state = Some(State::Looking(walk, found));
                        Step::More
                    }
                    Looked::Stopped => {
                        self.state = Some(State::WantsHold);
                        Step::More
                    }
                    Looked::End if !core.may_change(who) => {
                        self.state = Some(State::Looking(walk, found));
                        idle()
                    }
                    Looked::End => self.at_once(core, found),
                }
            }
            Some(State::WantsHold) => {
                if !core.hold(who) {
                    self.state = Some(State::WantsHold);
                    return idle();
                }
                self.sources = core
                    .table
                    .sources()
                    .filter(|source| is_ours(source.spec.class))
                    .filter(|source| match &self.what {
                        What::Routes(RouteSelector { source: Some(name), .. }) => {
                            *source.spec.name == **name
                        }
                        _ => true,
                    })
                    .map(|source| source.id)
                    .collect();
                self.next_source(core, who)
            }
            Some(State::Staging(walk, source)) => self.stage(core, walk, source),
            Some(State::Committing(source)) => {
                let (table, mut out) = core.parts();
                match table.stage_commit(STEP, &mut out) {
                    None => {
                        self.state = Some(State::Committing(source));
                        Step::More
                    }
                    Some(applied) => {
                        if matches!(applied, Applied::Changed(_)) {
                            self.deleted += self.staged;
                        }
                        self.next_source(core, who)
                    }
                }
            }
            Some(State::Aborting(text)) => {
                if core.table.stage_abort(STEP) {
                    core.release(who);
                    return Step::Done(Reply::refused(text));
                }
                self.state = Some(State::Aborting(text));
                Step::More
            }
        }
    }

    /// Nobody waits for it any more. True: it must be stepped to its end all
    /// the same, as it holds the tables.
    pub(crate) fn cancel(&mut self) -> bool {
        match self.state.take() {
            Some(State::Staging(..)) => {
                self.state = Some(State::Aborting(String::new()));
                true
            }
            Some(state @ (State::Committing(_) | State::Aborting(_))) => {
                // What is left of the other sources stays.
                self.sources.clear();
                self.state = Some(state);
                true
            }
            _ => false,
        }
    }

    fn walk(&self, table: &Table) -> Walk {
        match &self.what {
            What::Routes(selector) => Walk::Routes(RouteWalk::new(table.store(), selector)),
            What::Neighbours(selector) => Walk::Neighbours(NeighbourWalk::new(selector)),
        }
    }

    /// Looks at `budget` entities; each delete goes to `take`, which may stop
    /// it. `only`: those of one source.
    fn find(
        &self,
        table: &Table,
        walk: &mut Walk,
        only: Option<SourceId>,
        budget: usize,
        take: &mut dyn FnMut(SourceId, Change) -> bool,
    ) -> Looked {
        let mut budget = budget;
        loop {
            match (&self.what, &mut *walk) {
                (What::Routes(selector), Walk::Routes(walk)) => {
                    let test = |route: &Route| selector.matches_key(&route.key);
                    let route = match walk.next_where(table.store(), &mut budget, test) {
                        Found::One(route) => route,
                        Found::Paused => return Looked::Paused,
                        Found::End => return Looked::End,
                    };
                    for (candidate, source) in candidates(table, selector, &route.key) {
                        let meant = only.is_none_or(|only| only == candidate.source);
                        if meant && is_ours(source.class) {
                            let change = Change::Route(Verb::Delete, delete_route(&route.key));
                            if !take(candidate.source, change) {
                                return Looked::Stopped;
                            }
                        }
                    }
                }
                (What::Neighbours(selector), Walk::Neighbours(walk)) => {
                    let neighbour = match walk.next(table.store(), selector, &mut budget) {
                        Found::One(neighbour) => neighbour,
                        Found::Paused => return Looked::Paused,
                        Found::End => return Looked::End,
                    };
                    let Some(id) = table.neighbour_source(&neighbour.key) else { continue };
                    let Some(source) = table.source_spec(id) else { continue };
                    if only.is_none_or(|only| only == id) && is_ours(source.class) {
                        let spec = delete_neighbour(table, &neighbour.key);
                        if !take(id, Change::Neighbour(Verb::Delete, spec)) {
                            return Looked::Stopped;
                        }
                    }
                }
                _ => return Looked::End,
            }
        }
    }

    /// A few deletes, now.
    fn at_once(&mut self, core: &mut Core, mut found: Vec<(SourceId, Change)>) -> Step {
        found.sort_by_key(|(source, _)| *source);
        while let Some(&(source, _)) = found.first() {
            let rest = found.split_off(found.partition_point(|(other, _)| *other == source));
            core.image.room_for_deletes(found.len(), &core.table);
            let (table, mut out) = core.parts();
            let mut deleted = 0;
            let result = table.transaction(source).and_then(|mut transaction| {
                for (_, change) in &found {
                    match transaction.apply(change) {
                        Ok(()) => deleted += 1,
                        // It went meanwhile: all that was wanted.
                        Err(ChangeError::Missing | ChangeError::ForeignSource { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(transaction.commit(&mut out))
            });
            match result {
                Ok(_) => self.deleted += deleted,
                Err(error) => return Step::Done(Reply::refused(format!("flush: {error}"))),
            }
            found = rest;
        }
        Step::Done(self.reply())
    }

    fn reply(&self) -> Reply {
        Reply { applied: self.deleted, ..Reply::done() }
    }

    fn next_source(&mut self, core: &mut Core, who: Requester) -> Step {
        self.staged = 0;
        let Some(source) = self.sources.pop() else {
            core.release(who);
            return Step::Done(self.reply());
        };
        let walk = self.walk(&core.table);
        if let Err(error) = core.table.stage_begin(source) {
            core.release(who);
            return Step::Done(Reply::refused(format!("flush: {error}")));
        }
        self.state = Some(State::Staging(walk, source));
        Step::More
    }

    fn stage(&mut self, core: &mut Core, mut walk: Walk, source: SourceId) -> Step {
        let mut changes = Vec::new();
        let looked = self.find(&core.table, &mut walk, Some(source), STEP, &mut |_, change| {
            changes.push(change);
            true
        });
        for change in &changes {
            let result = core.would_fit(self.staged + 1).and_then(|()| core.table.stage(change));
            match result {
                Ok(()) => self.staged += 1,
                Err(ChangeError::Missing | ChangeError::ForeignSource { .. }) => {}
                Err(error) => {
                    self.state = Some(State::Aborting(format!("flush: {error}")));
                    return Step::More;
                }
            }
        }
        self.state = Some(match looked {
            Looked::End => State::Committing(source),
            Looked::Paused | Looked::Stopped => State::Staging(walk, source),
        });
        Step::More
    }
}

/// What came of looking.
enum Looked {
    Paused,
    Stopped,
    End,
}

/// May a flush from here delete what a source of this class offers?
fn is_ours(class: SourceClass) -> bool {
    matches!(class, SourceClass::Admin | SourceClass::File)
}

/// Exactly the route of this key.
fn delete_route(key: &RouteKey) -> RouteSpec {
    RouteSpec {
        table: key.table,
        tos: key.tos,
        metric: Some(key.metric),
        ordinal: Some(key.ordinal),
        kind: None::<RouteType>,
        hops: Hops::None,
        ..RouteSpec::new(key.prefix)
    }
}

fn delete_neighbour(table: &Table, key: &NeighbourKey) -> NeighbourSpec {
    let link = key.link.and_then(|id| table.store().link(id));
    NeighbourSpec {
        ip: key.ip,
        link: link.map(|link| LinkRef::Name(link.name)),
        mac: None,
        state: None,
        flags: 0,
        protocol: 0,
    }
}
