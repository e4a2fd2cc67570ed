//! The table: candidates of several sources, winners, transactions, and the
//! modification order.
//!
//! # How a change goes through
//! ```text
//! apply / Transaction / stage
//!   verbs, parties   what the verb asks for: which key, which value      (may refuse)
//!   shared           links and groups by name and content, and their users
//!   candidates       the source's candidate is set or withdrawn, the key's winner elected
//!   open             what was touched, and how to undo it
//!   in_place         most of a stream: a route that is there gets another next hop
//! commit
//!   open             touched entities that differ from before become records:
//!                    digests, modification order, one revision for all
//! ```
//!
//! Changes work on the store at once, so that a later one of the same
//! transaction sees an earlier; nothing is freed and no id is used again before
//! the end. The open transaction remembers of each touched entity what it was,
//! and of each candidate how to put it back. So committing is a comparison of
//! before and after (a delete and an add of the same route come out as
//! nothing), and giving up is putting back, last first.
//!
//! # What is held where
//! The store has the winners. Beside each winner, in the modification order's
//! column ([`crate::order`]), stand its source and stamp. A candidate that
//! doesn't win hangs there in a chain; most keys have none. Groups and links
//! have a record of their users by id in [`shared`].
//!
//! # Stamps
//! One counter for all sources goes up whenever something begins whose end
//! will sweep: a generation, the loss of a source, of a link, of a named group.
//! A candidate carries the stamp under which it was offered last, so a sweep
//! takes what is older than its beginning, however long it takes and whatever
//! comes meanwhile.

mod ahead;
mod candidates;
mod error;
mod in_place;
mod listing;
mod open;
mod parties;
mod shared;
mod source;
mod stage;
mod sweep;
mod verbs;
mod walk;

use std::collections::VecDeque;

use rtm_model::{
    Change, Digest, DigestKey, Digester, Digests, EntityKind, Route, RouteKey, RouteValue,
};

pub use error::ChangeError;
pub use listing::{OwnRoute, StaleCursor, Stamp};
pub use source::{
    Distances, PROTOCOL_STATIC, SourceClass, SourceId, SourceInfo, SourceSpec, TooManySources,
};

use crate::order::Order;
use crate::record::{Epoch, Flush, RecordSink, Revision};
use crate::store::slab::Slab;
use crate::store::{RouteCursor, Store, StoreCounts};
use ahead::{Ahead, NO_HINT};
use candidates::{Loser, NeighbourLosers, NeighbourMeta, RouteMeta, RouteNo};
use open::Open;
use shared::Shared;
use source::Source;
use stage::Stage;
use sweep::{Ruin, Sweep};
use verbs::Own;

/// What a table is bounded by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableLimits {
    /// The most bytes of records that one transaction may make.
    pub transaction_bytes_max: usize,
    /// The most bytes that tombstones may take; beyond, the oldest go.
    pub tombstone_bytes_max: usize,
    /// The most sources at one time; 65,535 is the most that is possible.
    pub sources_max: usize,
}

impl Default for TableLimits {
    /// A quarter of the default journal, 32 MiB, 1024.
    fn default() -> TableLimits {
        TableLimits {
            transaction_bytes_max: 16 << 20,
            tombstone_bytes_max: 32 << 20,
            sources_max: 1024,
        }
    }
}

/// What came of a change or transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// The tables have this new revision.
    Changed(Revision),
    /// Everything was as asked for already: no revision was made.
    Unchanged,
}

/// How much there is of everything.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TableCounts {
    /// What the store holds.
    pub store: StoreCounts,
    /// Routes of all sources, whether they win or not.
    pub candidates: usize,
    /// Deletes that the modification order remembers.
    pub tombstones: usize,
    /// Bytes that tombstones take.
    pub tombstone_bytes: usize,
    /// Bytes allocated in all, about.
    pub bytes: usize,
}

/// A candidate, as `route show --all` lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Whose.
    pub source: SourceId,
    /// Its value.
    pub value: RouteValue,
    /// Does it win?
    pub won: bool,
}

/// The routing table and the neighbour table with everything around them.
pub struct Table {
    epoch: Epoch,
    revision: Revision,
    limits: TableLimits,
    digester: Digester,
    store: Store,
    order: Order<RouteMeta, NeighbourMeta>,
    losers: Slab<Loser>,
    neighbour_losers: NeighbourLosers,
    shared: Shared,
    sources: Vec<Option<Source>>,
    stamp: u32,
    open: Open,
    stage: Option<Stage>,
    sweeps: Vec<Sweep>,
    ruins: Vec<Ruin>,
    /// Entries without candidates that keep their place for a while.
    lingering: VecDeque<RouteNo>,
    /// Room for what a source has under the key of the change at hand.
    own: Vec<Own>,
    ahead: Ahead,
    /// Batches that have come of which many changed routes that were there.
    changing_batches: u32,
    /// Where the first entry of the next change's prefix most likely is.
    hint: Option<RouteNo>,
    /// Which change of the batch it is: [`Ahead::sought`] has its only next hop.
    hop_hint: usize,
    /// Is it one of many that came together?
    in_stream: bool,
}

impl Table {
    /// An empty table, at revision 0 of `epoch`.
    pub fn new(epoch: Epoch, key: DigestKey, limits: TableLimits) -> Table {
        Table {
            epoch,
            revision: Revision(0),
            limits,
            digester: Digester::new(key),
            store: Store::default(),
            order: Order::default(),
            losers: Slab::default(),
            neighbour_losers: NeighbourLosers::default(),
            shared: Shared::default(),
            sources: Vec::new(),
            stamp: 0,
            open: Open::default(),
            stage: None,
            sweeps: Vec::new(),
            ruins: Vec::new(),
            lingering: VecDeque::new(),
            own: Vec::new(),
            ahead: Ahead::default(),
            changing_batches: 0,
            hint: None,
            hop_hint: NO_HINT,
            in_stream: false,
        }
    }

    /// The history that revisions count in.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The newest committed revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The digests at [`Table::revision`].
    pub fn digests(&self) -> Digests {
        self.store.digests()
    }

    /// What hashes entities with the epoch's key.
    pub fn digester(&self) -> &Digester {
        &self.digester
    }

    /// The limits in force.
    pub fn limits(&self) -> &TableLimits {
        &self.limits
    }

    /// The limits; they can be changed at any time.
    pub fn limits_mut(&mut self) -> &mut TableLimits {
        &mut self.limits
    }

    /// Winners, neighbours, links and groups, to be read. While a large atomic
    /// load is open ([`Table::is_staging`]) it shows what is not committed.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How much there is of everything.
    pub fn counts(&self) -> TableCounts {
        TableCounts {
            store: self.store.counts(),
            candidates: self.sources.iter().flatten().map(|source| source.routes).sum(),
            tombstones: self.order.tombstones(),
            tombstone_bytes: self.order.tombstone_bytes(),
            bytes: self.store.bytes()
                + self.order.bytes()
                + self.losers.bytes()
                + self.shared.bytes()
                + self.lingering.capacity() * size_of::<RouteNo>()
                + self.open.bytes_held(),
        }
    }

    /// All candidates of a key: the winner first, then in the order in which
    /// they would win.
    pub fn candidates(&self, key: &RouteKey) -> impl Iterator<Item = Candidate> {
        let no = self.store.find_route(key);
        let won = no.is_some_and(|no| self.store.value(no).is_present());
        let all = no.map_or(Vec::new(), |no| self.offers_of(no));
        all.into_iter().enumerate().map(move |(index, offer)| Candidate {
            source: offer.source,
            value: offer.value.spelled(&self.store.attrs),
            won: won && index == 0,
        })
    }

    /// The next key that any source has a candidate for, in the cursor's range
    /// and order: also keys whose candidates are never used (distance 255).
    pub fn next_candidate_key(&self, cursor: &mut RouteCursor) -> Option<RouteKey> {
        loop {
            let (family, at) = self.store.next_entry(cursor, true)?;
            let no = RouteNo::new(family, at);
            if self.has_offers(no) {
                return Some(self.store.route_key(no));
            }
        }
    }

    /// The next winner with its source, in the cursor's range and order.
    pub fn next_route(&self, cursor: &mut RouteCursor) -> Option<(Route, SourceId)> {
        let (family, at) = self.store.next_entry(cursor, false)?;
        let no = RouteNo::new(family, at);
        Some((self.store.spelled(no), SourceId(self.meta(no).source)))
    }

    /// Whose neighbour the table has under this key.
    pub fn neighbour_source(&self, key: &rtm_model::NeighbourKey) -> Option<SourceId> {
        let at = self.store.neighbours.find(key)?;
        self.store.neighbours.value(at)?;
        Some(SourceId(self.order.neighbours.meta(EntityKind::Neighbour, at).source))
    }

    /// Applies one change as a transaction of its own.
    pub fn apply(
        &mut self,
        source: SourceId,
        change: &Change,
        out: &mut dyn RecordSink,
    ) -> Result<Applied, ChangeError> {
        self.begin(source)?;
        match self.change(change) {
            Ok(()) => Ok(self.commit(out)),
            Err(error) => {
                self.rollback(usize::MAX);
                Err(error)
            }
        }
    }

    /// Opens a transaction: several changes, all or none, one revision.
    pub fn transaction(&mut self, source: SourceId) -> Result<Transaction<'_>, ChangeError> {
        self.begin(source)?;
        Ok(Transaction { table: self, done: false })
    }

    /// Empties the routes of all sources, the neighbours, or both: one
    /// revision and one record of constant size, and a turn of constant length
    /// ([`Table::tidy`] frees the rest). Links and groups stay; those that
    /// nobody uses go with a later sweep.
    ///
    /// # Errors
    /// While a large atomic load is open.
    pub fn flush(
        &mut self,
        what: Flush,
        out: &mut dyn RecordSink,
    ) -> Result<Revision, ChangeError> {
        if self.is_staging() {
            return Err(ChangeError::Staging);
        }
        self.revision.0 += 1;
        if what.routes {
            self.sweep_leftovers();
            self.shared.routes_flushed();
            let store = &mut self.store;
            self.lingering.clear();
            self.ruins.push(Ruin::Routes4(std::mem::take(&mut store.routes4)));
            self.ruins.push(Ruin::Routes6(std::mem::take(&mut store.routes6)));
            self.ruins.push(Ruin::Attrs(std::mem::take(&mut store.attrs)));
            self.ruins.push(Ruin::Losers(std::mem::take(&mut self.losers)));
            self.ruins.push(Ruin::Routes(Box::new(self.order.flush_routes(self.revision))));
            store.digests.routes = Digest::default();
            for source in self.sources.iter_mut().flatten() {
                (source.routes, source.winners, source.stale_routes) = (0, 0, 0);
            }
        }
        if what.neighbours {
            self.sweep_leftovers();
            self.shared.neighbours_flushed();
            let store = &mut self.store;
            self.ruins.push(Ruin::Neighbours(std::mem::take(&mut store.neighbours)));
            let list = self.order.flush_neighbours(self.revision);
            self.ruins.push(Ruin::NeighbourList(Box::new(list)));
            let losers = std::mem::take(&mut self.neighbour_losers);
            self.ruins.push(Ruin::NeighbourLosers(losers));
            store.digests.neighbours = Digest::default();
            store.digests.keys = Digest::default();
            for source in self.sources.iter_mut().flatten() {
                (source.neighbours, source.stale_neighbours) = (0, 0);
            }
        }
        out.flush(self.revision, what);
        Ok(self.revision)
    }

    fn begin(&mut self, source: SourceId) -> Result<(), ChangeError> {
        if self.is_staging() {
            return Err(ChangeError::Staging);
        }
        if self.source_spec(source).is_none() {
            return Err(ChangeError::NoSource);
        }
        self.open.begin(Some(source), self.sweeps.len());
        Ok(())
    }

    fn set_source(&mut self, source: SourceId) -> Result<(), ChangeError> {
        if self.source_spec(source).is_none() {
            return Err(ChangeError::NoSource);
        }
        self.open.source = Some(source);
        Ok(())
    }

    fn meta(&self, no: RouteNo) -> &RouteMeta {
        self.order.routes.meta(no.kind(), no.at())
    }
}

/// An open transaction. Dropped without [`Transaction::commit`], nothing of it
/// has happened.
pub struct Transaction<'a> {
    table: &'a mut Table,
    done: bool,
}

impl Transaction<'_> {
    /// One change. If it is refused, the changes before it are still part of
    /// the transaction.
    ///
    /// # Errors
    /// As [`Table::apply`], and [`ChangeError::TooLarge`].
    pub fn apply(&mut self, change: &Change) -> Result<(), ChangeError> {
        let bytes = self.table.open.bytes + open::bytes_of(change);
        let limit = self.table.limits.transaction_bytes_max;
        if bytes > limit {
            return Err(ChangeError::TooLarge { bytes, limit });
        }
        self.table.change(change)
    }

    /// Changes from here on are of this source.
    pub fn set_source(&mut self, source: SourceId) -> Result<(), ChangeError> {
        self.table.set_source(source)
    }

    /// The table with the changes so far.
    pub fn store(&self) -> &Store {
        &self.table.store
    }

    /// All of it, as one revision.
    pub fn commit(mut self, out: &mut dyn RecordSink) -> Applied {
        self.done = true;
        self.table.commit(out)
    }

    /// None of it.
    pub fn rollback(self) {}
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.table.rollback(usize::MAX);
        }
    }
}
