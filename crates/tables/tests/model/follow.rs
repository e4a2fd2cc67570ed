//! A subscriber: it takes records as they are committed, or walks the
//! modification order, and must end up with what the table has.

use std::collections::BTreeMap;

use rtm_model::EntityKind;
use rtm_model::{DigestKey, Entity};
use rtm_tables::{
    Epoch, Flush, MarkerId, OrderItem, Record, RecordOp, RecordSink, Replica, ReplicaRecord,
    Revision, RouteCursor, Step, Store, Table,
};

pub(crate) const EPOCH: Epoch = Epoch(1);
pub(crate) const KEY: DigestKey = DigestKey([0x1234, 0x5678]);

/// Everything there is, by kind and key bytes.
pub(crate) type State = BTreeMap<(EntityKind, Vec<u8>), Vec<u8>>;

pub(crate) fn key_of(entity: &Entity) -> (EntityKind, Vec<u8>) {
    let mut key = Vec::new();
    entity.key().encode(&mut key);
    (entity.kind(), key)
}

/// What a store holds, read by its own iterators.
pub(crate) fn state_of(store: &Store) -> State {
    let mut all = Vec::new();
    let mut link = None;
    while let Some(next) = store.next_link(link) {
        link = Some(next.id);
        all.push(Entity::Link(*next));
    }
    let mut group = None;
    while let Some(next) = store.next_group(group) {
        group = Some(next.id);
        all.push(Entity::Group(next.clone()));
    }
    let mut cursor = RouteCursor::all();
    while let Some(route) = store.next_route(&mut cursor) {
        all.push(Entity::Route(route));
    }
    let mut neighbour = None;
    while let Some(next) = store.next_neighbour(neighbour.as_ref()) {
        neighbour = Some(next.key);
        all.push(Entity::Neighbour(next));
    }
    let count = all.len();
    let state: State = all
        .into_iter()
        .map(|entity| {
            let mut body = Vec::new();
            entity.encode(&mut body);
            (key_of(&entity), body)
        })
        .collect();
    assert_eq!(state.len(), count, "nothing is met twice");
    state
}

fn is_route(kind: EntityKind) -> bool {
    matches!(kind, EntityKind::Route4 | EntityKind::Route6)
}

fn flush(state: &mut State, what: Flush) {
    state.retain(|(kind, _), _| {
        !(what.routes && is_route(*kind) || what.neighbours && *kind == EntityKind::Neighbour)
    });
}

/// Follows live, record by record.
pub(crate) struct Live {
    pub(crate) replica: Replica,
    pub(crate) state: State,
    pub(crate) revision: Revision,
    pub(crate) records: usize,
    open: bool,
    /// The revision of a load that came without records.
    pub(crate) leapt: Option<Revision>,
}

impl Live {
    pub(crate) fn new() -> Live {
        Live {
            replica: Replica::new(EPOCH, KEY),
            state: State::new(),
            revision: Revision(0),
            records: 0,
            open: false,
            leapt: None,
        }
    }

    /// Applies a record to replica and state.
    pub(crate) fn apply(&mut self, op: RecordOp, kind: EntityKind, body: &[u8]) {
        self.replica.apply_batch(&[ReplicaRecord { op, kind, body }]).expect("a whole record");
        apply(&mut self.state, op, kind, body);
    }

    /// Is everything whole, and does it agree with the table?
    pub(crate) fn check(&self, table: &Table) {
        assert!(!self.open, "a transaction is whole");
        assert_eq!(self.revision, table.revision());
        assert_eq!(self.replica.digests(), table.digests());
        assert_eq!(self.replica.recompute_digests(), table.digests(), "from scratch");
        let state = state_of(table.store());
        assert_eq!(self.state, state);
        assert_eq!(state_of(self.replica.store()), state);
        assert_eq!(self.replica.store().counts(), table.store().counts());
    }

    /// Catches up with a load that came without records.
    pub(crate) fn catch_up(&mut self, table: &mut Table) {
        let Some(to) = self.leapt.take() else { return };
        let mut walker = Walker::resume(table, self.revision, self.state.clone());
        let mut items = Vec::new();
        while walker.step(table, Some(&mut items)) {}
        if walker.lost {
            // The load's own tombstones were too many: a snapshot.
            walker.release(table);
            self.replica.begin_snapshot();
            items.clear();
            walker = Walker::snapshot(table, self.state.clone());
            while walker.step(table, Some(&mut items)) {}
        }
        for (op, kind, body) in items {
            match op {
                Some(op) => self.apply(op, kind, &body),
                None => unreachable!("no flush in a load"),
            }
        }
        self.replica.end_snapshot();
        self.state = walker.release(table);
        self.revision = to;
    }
}

fn apply(state: &mut State, op: RecordOp, kind: EntityKind, body: &[u8]) {
    match op {
        RecordOp::Set => {
            let entity = Entity::decode(kind, body).expect("canonical bytes");
            state.insert(key_of(&entity), body.to_vec());
        }
        RecordOp::Delete => {
            state.remove(&(kind, body.to_vec()));
        }
    }
}

impl RecordSink for Live {
    fn record(&mut self, record: &Record<'_>) {
        let next = Revision(self.revision.0 + 1);
        assert_eq!(record.revision, next, "no revision is left out");
        let key = match record.op {
            RecordOp::Set => {
                let entity = Entity::decode(record.kind, record.body).expect("canonical bytes");
                self.check_users(&entity);
                key_of(&entity)
            }
            RecordOp::Delete => (record.kind, record.body.to_vec()),
        };
        let before = self.state.get(&key).map_or(&[][..], |body| body);
        assert_eq!(record.before, before, "`before` is what was there: {record:?}");
        assert!(
            record.op == RecordOp::Set && record.body != before
                || record.op == RecordOp::Delete && !before.is_empty(),
            "a record changes something"
        );
        self.apply(record.op, record.kind, record.body);
        self.records += 1;
        self.open = !record.last;
        if record.last {
            self.revision = next;
            self.check_references();
        }
    }

    fn flush(&mut self, revision: Revision, what: Flush) {
        assert_eq!(revision, Revision(self.revision.0 + 1));
        assert!(!self.open);
        self.revision = revision;
        self.replica.flush(what);
        flush(&mut self.state, what);
    }

    fn leap(&mut self, revision: Revision) {
        assert_eq!(revision, Revision(self.revision.0 + 1));
        self.leapt = Some(revision);
    }
}

impl Live {
    /// What an entity refers to must be there before it.
    fn check_users(&self, entity: &Entity) {
        let has =
            |kind, id: u32| self.state.contains_key(&(kind, u64::from(id).to_le_bytes().to_vec()));
        match entity {
            Entity::Route(route) => {
                let group = route.value.group.0;
                assert!(group == 0 || has(EntityKind::Group, group), "a group comes first");
            }
            Entity::Group(group) => {
                let links = group.hops.iter().filter_map(|hop| hop.link);
                assert!(links.into_iter().all(|link| has(EntityKind::Link, link.0)));
            }
            Entity::Neighbour(neighbour) => {
                assert!(neighbour.key.link.is_none_or(|link| has(EntityKind::Link, link.0)));
            }
            Entity::Link(_) => {}
        }
    }

    /// And stays until after it.
    fn check_references(&self) {
        for ((kind, _), body) in &self.state {
            self.check_users(&Entity::decode(*kind, body).expect("canonical bytes"));
        }
    }
}

type Item = (Option<RecordOp>, EntityKind, Vec<u8>);

/// Walks the modification order, a few steps at a time.
pub(crate) struct Walker {
    marker: MarkerId,
    pub(crate) state: State,
    /// Of a snapshot: what has been named.
    named: Option<std::collections::BTreeSet<(EntityKind, Vec<u8>)>>,
    pub(crate) lost: bool,
}

impl Walker {
    /// A snapshot over whatever is held already.
    pub(crate) fn snapshot(table: &mut Table, held: State) -> Walker {
        let marker = table.marker();
        Walker { marker, state: held, named: Some(Default::default()), lost: false }
    }

    /// From a revision whose state is held.
    pub(crate) fn resume(table: &mut Table, revision: Revision, held: State) -> Walker {
        let marker = table.marker();
        while !table.marker_seek(marker, revision, 3) {}
        Walker { marker, state: held, named: None, lost: false }
    }

    /// One step. False: at the tail, or lost.
    pub(crate) fn step(&mut self, table: &mut Table, mut items: Option<&mut Vec<Item>>) -> bool {
        let (state, named) = (&mut self.state, &mut self.named);
        let step = table.marker_next(self.marker, &mut |item| match item {
            OrderItem::Set { kind, body, .. } => {
                apply(state, RecordOp::Set, kind, body);
                if let Some(named) = named {
                    named.insert(key_of(&Entity::decode(kind, body).unwrap()));
                }
                if let Some(items) = &mut items {
                    items.push((Some(RecordOp::Set), kind, body.to_vec()));
                }
            }
            OrderItem::Gone { kind, key, .. } => {
                apply(state, RecordOp::Delete, kind, key);
                if let Some(named) = named {
                    named.remove(&(kind, key.to_vec()));
                }
                if let Some(items) = &mut items {
                    items.push((Some(RecordOp::Delete), kind, key.to_vec()));
                }
            }
            OrderItem::Flushed { what, .. } => {
                flush(state, what);
                if let Some(items) = &mut items {
                    items.push((None, EntityKind::Link, Vec::new()));
                }
            }
        });
        match step {
            Step::Moved => true,
            Step::Tail => {
                if let Some(named) = &self.named {
                    self.state.retain(|key, _| named.contains(key));
                }
                false
            }
            Step::Lost => {
                self.lost = true;
                false
            }
        }
    }

    pub(crate) fn release(self, table: &mut Table) -> State {
        table.marker_release(self.marker);
        self.state
    }
}
