//! The table: candidates of several sources, winners, transactions, and the
//! modification order.

mod apply;
mod error;
mod source;
mod sweep;
mod walk;

use std::collections::{BTreeMap, HashMap};

use rtm_model::{
    Change, DigestKey, Digester, Digests, Entity, EntityKey, EntityKind, Group, GroupId, Link,
    LinkId, LinkName, NeighbourKey, NeighbourValue, NextHop, RouteKey, RouteValue,
};

pub use error::ChangeError;
pub use source::{
    Distances, PROTOCOL_STATIC, SourceClass, SourceId, SourceInfo, SourceSpec, TooManySources,
};

use crate::record::{Epoch, Flush, Record, RecordOp, RecordSink, Revision};
use crate::store::{Store, StoreCounts};

/// What a table is bounded by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableLimits {
    /// The most bytes of records that one transaction may make.
    pub transaction_bytes_max: usize,
    /// The most bytes that tombstones may take; beyond, the oldest go.
    pub tombstone_bytes_max: usize,
    /// The most sources at one time.
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

#[derive(Clone, Debug)]
struct Offer<V> {
    source: SourceId,
    stamp: u32,
    distance: u8,
    value: V,
}

#[derive(Clone, Debug, Default)]
struct GroupUse {
    routes: u32,
    named: Option<(SourceId, u32)>,
    stamp: u32,
    kept: bool,
}

#[derive(Clone, Debug, Default)]
struct LinkUse {
    groups: u32,
    neighbours: u32,
    host: Option<(SourceId, u32)>,
    kept: bool,
}

#[derive(Clone, Debug, Default)]
struct Shared {
    groups: BTreeMap<u32, GroupUse>,
    links: BTreeMap<u32, LinkUse>,
    interned: HashMap<Vec<NextHop>, GroupId>,
    named: BTreeMap<(SourceId, u32), GroupId>,
    ifindexes: BTreeMap<u32, LinkId>,
}

#[derive(Debug)]
struct Source {
    spec: SourceSpec,
    generation: u64,
    started: Option<u32>,
    dropped: bool,
}

type Saved = (Shared, BTreeMap<u32, Link>, BTreeMap<LinkName, LinkId>, BTreeMap<u32, Group>);

#[derive(Default)]
struct Open {
    source: Option<SourceId>,
    touched: Vec<(EntityKey, Vec<u8>)>,
    seen: HashMap<EntityKey, ()>,
    routes: Vec<(RouteKey, Vec<Offer<RouteValue>>)>,
    neighbours: Vec<(NeighbourKey, Vec<Offer<NeighbourValue>>)>,
    saved: Option<Box<Saved>>,
    bytes: usize,
}

/// The routing table and the neighbour table with everything around them.
pub struct Table {
    epoch: Epoch,
    revision: Revision,
    limits: TableLimits,
    digester: Digester,
    store: Store,
    sources: Vec<Option<Source>>,
    stamp: u32,
    candidates: BTreeMap<RouteKey, Vec<Offer<RouteValue>>>,
    neighbours: BTreeMap<NeighbourKey, Vec<Offer<NeighbourValue>>>,
    shared: Shared,
    open: Open,
    staging: Option<SourceId>,
    walk: walk::Walk,
    sweeps: Vec<sweep::Sweep>,
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
            sources: Vec::new(),
            stamp: 0,
            candidates: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            shared: Shared::default(),
            open: Open::default(),
            staging: None,
            walk: walk::Walk::default(),
            sweeps: Vec::new(),
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

    /// The limits; they can be changed at any time.
    pub fn limits_mut(&mut self) -> &mut TableLimits {
        &mut self.limits
    }

    /// Winners, neighbours, links and groups, to be read.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How much there is of everything.
    pub fn counts(&self) -> TableCounts {
        TableCounts {
            store: self.store.counts(),
            candidates: self.candidates.values().map(Vec::len).sum(),
            tombstones: self.walk.tombstones(),
            tombstone_bytes: self.walk.tombstone_bytes(),
            bytes: 0,
        }
    }

    /// All candidates of a key: the winner first, then in the order in which
    /// they would win.
    pub fn candidates(&self, key: &RouteKey) -> impl Iterator<Item = Candidate> {
        let wins = self.store.route(key).is_some();
        let offers = self.candidates.get(key).map_or(&[][..], |offers| offers);
        offers.iter().enumerate().map(move |(index, offer)| Candidate {
            source: offer.source,
            value: offer.value.clone(),
            won: index == 0 && wins,
        })
    }

    /// Whose neighbour the table has under this key.
    pub fn neighbour_source(&self, key: &NeighbourKey) -> Option<SourceId> {
        Some(self.neighbours.get(key)?.first()?.source)
    }

    /// Registers a source, or finds the one of this name and takes over the
    /// rest of `spec` (for what is offered from now on). A source that was
    /// dropped comes back: what it had is stale.
    ///
    /// At `sources_max`, a file source that holds nothing gives way.
    pub fn source(&mut self, spec: SourceSpec) -> Result<SourceId, TooManySources> {
        let known = self
            .sources
            .iter()
            .position(|source| source.as_ref().is_some_and(|s| s.spec.name == spec.name));
        if let Some(at) = known {
            if let Some(source) = &mut self.sources[at] {
                source.spec = spec;
                source.dropped = false;
            }
            return Ok(SourceId(at as u16));
        }
        let source = Source { spec, generation: 0, started: None, dropped: false };
        if let Some(at) = self.sources.iter().position(Option::is_none) {
            self.sources[at] = Some(source);
            return Ok(SourceId(at as u16));
        }
        if self.sources.len() >= self.limits.sources_max {
            return Err(TooManySources { limit: self.limits.sources_max });
        }
        self.sources.push(Some(source));
        Ok(SourceId((self.sources.len() - 1) as u16))
    }

    /// All sources, by number.
    pub fn sources(&self) -> impl Iterator<Item = SourceInfo<'_>> {
        self.sources.iter().enumerate().filter_map(|(at, source)| {
            let source = source.as_ref()?;
            let id = SourceId(at as u16);
            let mut info = SourceInfo {
                id,
                spec: &source.spec,
                routes: 0,
                winners: 0,
                neighbours: 0,
                generation: source.generation,
                in_generation: source.started.is_some(),
                stale: 0,
                dropped: source.dropped,
            };
            let fresh = source.started.unwrap_or(0);
            for (key, offers) in &self.candidates {
                for (index, offer) in offers.iter().enumerate().filter(|(_, o)| o.source == id) {
                    info.routes += 1;
                    info.winners += usize::from(index == 0 && self.store.route(key).is_some());
                    info.stale += usize::from(offer.stamp < fresh);
                }
            }
            for offer in self.neighbours.values().flatten().filter(|o| o.source == id) {
                info.neighbours += 1;
                info.stale += usize::from(offer.stamp < fresh);
            }
            Some(info)
        })
    }

    /// One source.
    pub fn source_spec(&self, id: SourceId) -> Option<&SourceSpec> {
        self.sources.get(usize::from(id.0))?.as_ref().map(|source| &source.spec)
    }

    /// Applies one change as a transaction of its own.
    pub fn apply(
        &mut self,
        source: SourceId,
        change: &Change,
        out: &mut dyn RecordSink,
    ) -> Result<Applied, ChangeError> {
        let mut transaction = self.transaction(source)?;
        transaction.apply(change)?;
        Ok(transaction.commit(out))
    }

    /// Opens a transaction: several changes, all or none, one revision.
    pub fn transaction(&mut self, source: SourceId) -> Result<Transaction<'_>, ChangeError> {
        if self.staging.is_some() {
            return Err(ChangeError::Staging);
        }
        self.begin(source)?;
        Ok(Transaction { table: self, done: false })
    }

    /// Is a large atomic load open? No other change can be applied then, and
    /// readers would see what is not committed: they wait.
    pub fn is_staging(&self) -> bool {
        self.staging.is_some()
    }

    /// Opens a large atomic load of `source`.
    pub fn stage_begin(&mut self, source: SourceId) -> Result<(), ChangeError> {
        if self.staging.is_some() {
            return Err(ChangeError::Staging);
        }
        self.begin(source)?;
        self.staging = Some(source);
        Ok(())
    }

    /// One change of the open load. If it is refused the load stays open; who
    /// wants all or none aborts it.
    ///
    /// # Panics
    /// If no load is open.
    pub fn stage(&mut self, change: &Change) -> Result<(), ChangeError> {
        assert!(self.staging.is_some(), "stage without stage_begin");
        self.change(change)
    }

    /// Commits the open load, in slices: to be called, each time with a
    /// budget (entities looked at), until it returns what came of it. From the
    /// first call on there is no way back.
    ///
    /// # Panics
    /// If no load is open.
    pub fn stage_commit(&mut self, budget: usize, out: &mut dyn RecordSink) -> Option<Applied> {
        assert!(self.staging.take().is_some(), "stage_commit without stage_begin");
        let _ = budget;
        struct Silent;
        impl RecordSink for Silent {
            fn record(&mut self, _: &Record<'_>) {}
            fn flush(&mut self, _: Revision, _: Flush) {}
            fn leap(&mut self, _: Revision) {}
        }
        let applied = self.finish(&mut Silent);
        if let Applied::Changed(revision) = applied {
            out.leap(revision);
        }
        Some(applied)
    }

    /// Gives up the open load, in slices: true when it never happened.
    ///
    /// # Panics
    /// If no load is open.
    pub fn stage_abort(&mut self, budget: usize) -> bool {
        assert!(self.staging.take().is_some(), "stage_abort without stage_begin");
        let _ = budget;
        self.rollback();
        true
    }

    /// Empties the routes of all sources, the neighbours, or both: one
    /// revision and one record of constant size. Links and groups stay.
    ///
    /// # Errors
    /// While a large atomic load is open.
    pub fn flush(
        &mut self,
        what: Flush,
        out: &mut dyn RecordSink,
    ) -> Result<Revision, ChangeError> {
        if self.staging.is_some() {
            return Err(ChangeError::Staging);
        }
        self.revision.0 += 1;
        if what.routes {
            self.candidates.clear();
            self.store.routes4.clear();
            self.store.routes6.clear();
            self.store.digests.routes = rtm_model::Digest::default();
            for group in self.shared.groups.values_mut() {
                group.routes = 0;
                group.kept = true;
            }
        }
        if what.neighbours {
            self.neighbours.clear();
            self.store.neighbours.clear();
            self.store.macs.clear();
            self.store.mac_count = 0;
            self.store.digests.neighbours = rtm_model::Digest::default();
            self.store.digests.keys = rtm_model::Digest::default();
            for link in self.shared.links.values_mut() {
                link.neighbours = 0;
                link.kept = true;
            }
        }
        self.walk.flushed(self.revision, what);
        out.flush(self.revision, what);
        Ok(self.revision)
    }

    /// Frees what flushes and large loads left behind, in slices; true: there
    /// is more. To be called once a turn.
    pub fn tidy(&mut self, budget: usize) -> bool {
        let _ = budget;
        false
    }

    fn begin(&mut self, source: SourceId) -> Result<(), ChangeError> {
        if self.source_spec(source).is_none() {
            return Err(ChangeError::NoSource);
        }
        self.open = Open { source: Some(source), ..Open::default() };
        Ok(())
    }

    fn rollback(&mut self) {
        let open = std::mem::take(&mut self.open);
        if let Some(saved) = open.saved {
            (self.shared, self.store.links, self.store.link_names, self.store.groups) = *saved;
        }
        for (key, offers) in open.routes.into_iter().rev() {
            self.candidates.remove(&key);
            if !offers.is_empty() {
                self.candidates.insert(key, offers);
            }
            self.elect_route(&key);
        }
        for (key, offers) in open.neighbours.into_iter().rev() {
            self.neighbours.remove(&key);
            if !offers.is_empty() {
                self.neighbours.insert(key, offers);
            }
            self.elect_neighbour(&key);
        }
    }

    /// Commits what is open.
    fn finish(&mut self, out: &mut dyn RecordSink) -> Applied {
        // Groups, then links that lost their last user.
        let unused: Vec<u32> = self
            .shared
            .groups
            .iter()
            .filter(|(_, g)| g.routes == 0 && g.named.is_none() && !g.kept)
            .map(|(id, _)| *id)
            .collect();
        for id in unused {
            self.touch(EntityKey::Group(GroupId(id)));
            self.remove_group(GroupId(id));
        }
        let unused: Vec<u32> = self
            .shared
            .links
            .iter()
            .filter(|(_, l)| l.groups + l.neighbours == 0 && l.host.is_none() && !l.kept)
            .map(|(id, _)| *id)
            .collect();
        for id in unused {
            self.touch(EntityKey::Link(LinkId(id)));
            self.shared.links.remove(&id);
            self.store.remove(&EntityKey::Link(LinkId(id)));
        }
        let open = std::mem::take(&mut self.open);
        let mut records = Vec::new();
        for (key, before) in open.touched {
            let mut body = Vec::new();
            if let Some(entity) = self.store.entity(&key) {
                entity.encode(&mut body);
            }
            if body == before {
                continue;
            }
            let order = match (key, body.is_empty()) {
                (EntityKey::Link(_), false) => 0,
                (EntityKey::Group(_), false) => 1,
                (EntityKey::Route(_) | EntityKey::Neighbour(_), _) => 2,
                (EntityKey::Group(_), true) => 3,
                (EntityKey::Link(_), true) => 4,
            };
            records.push((order, key, before, body));
        }
        if records.is_empty() {
            return Applied::Unchanged;
        }
        records.sort_by_key(|record| record.0);
        self.revision.0 += 1;
        let count = records.len();
        for (index, (_, key, before, body)) in records.into_iter().enumerate() {
            let kind = key.kind();
            let section = self.store.digests.section(kind);
            if !before.is_empty() {
                section.remove(self.digester.hash(kind, &before));
            }
            if !body.is_empty() {
                section.add(self.digester.hash(kind, &body));
            }
            self.walk.changed(key, self.revision, !body.is_empty());
            let mut gone = Vec::new();
            let op = if body.is_empty() {
                key.encode(&mut gone);
                RecordOp::Delete
            } else {
                RecordOp::Set
            };
            out.record(&Record {
                revision: self.revision,
                last: index + 1 == count,
                op,
                kind,
                body: if op == RecordOp::Set { &body } else { &gone },
                before: &before,
            });
        }
        self.walk.trim(self.limits.tombstone_bytes_max);
        Applied::Changed(self.revision)
    }

    /// Remembers what an entity was before this transaction's first change of it.
    fn touch(&mut self, key: EntityKey) {
        if self.open.seen.insert(key, ()).is_some() {
            return;
        }
        let mut before = Vec::new();
        if let Some(entity) = self.store.entity(&key) {
            entity.encode(&mut before);
        }
        self.open.bytes += 16 + before.len().max(key.kind().key_bytes() + 8);
        self.open.touched.push((key, before));
    }

    fn save_shared(&mut self) {
        if self.open.saved.is_none() {
            let store = &self.store;
            self.open.saved = Some(Box::new((
                self.shared.clone(),
                store.links.clone(),
                store.link_names.clone(),
                store.groups.clone(),
            )));
        }
    }

    fn put_neighbour(&mut self, key: NeighbourKey, value: Option<NeighbourValue>) {
        let before = self.store.neighbour(&key).and_then(|n| n.value.mac);
        self.store.remove(&EntityKey::Neighbour(key));
        if let Some(mac) = before {
            if self.store.neighbours_by_mac(mac).next().is_none() {
                self.store.digests.keys.remove(self.digester.mac(mac));
            }
        }
        let Some(value) = value else { return };
        if let Some(mac) = value.mac {
            if self.store.neighbours_by_mac(mac).next().is_none() {
                self.store.digests.keys.add(self.digester.mac(mac));
            }
        }
        self.store.put(Entity::Neighbour(rtm_model::Neighbour { key, value }));
    }

    /// Does `a` win over `b`?
    fn rank(&self, distance: u8, source: SourceId) -> (u8, Option<(SourceClass, &str)>) {
        (distance, self.source_spec(source).map(|spec| (spec.class, spec.name.as_str())))
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
    pub fn apply(&mut self, change: &Change) -> Result<(), ChangeError> {
        self.table.change(change)?;
        let (bytes, limit) = (self.table.open.bytes, self.table.limits.transaction_bytes_max);
        if bytes > limit {
            return Err(ChangeError::TooLarge { bytes, limit });
        }
        Ok(())
    }

    /// The table with the changes so far.
    pub fn store(&self) -> &Store {
        &self.table.store
    }

    /// All of it, as one revision.
    pub fn commit(mut self, out: &mut dyn RecordSink) -> Applied {
        self.done = true;
        self.table.finish(out)
    }

    /// None of it.
    pub fn rollback(self) {}
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.table.rollback();
        }
    }
}

fn kind_word(kind: EntityKind) -> &'static str {
    match kind {
        EntityKind::Link => "link",
        EntityKind::Group => "next-hop group",
        EntityKind::Route4 | EntityKind::Route6 => "route",
        EntityKind::Neighbour => "neighbour",
    }
}
