//! The replica: a client's copy of the tables, made of records.

use std::collections::HashSet;
use std::fmt;

use rtm_model::canonical::DecodeError;
use rtm_model::{DigestKey, Digester, Digests, Entity, EntityKey, EntityKind};

use crate::record::{Epoch, Flush, RecordOp};
use crate::store::Store;

/// A record that can't be applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReplicaError {
    /// Its bytes are no entity and no key.
    Bytes(DecodeError),
}

impl fmt::Display for ReplicaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplicaError::Bytes(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReplicaError {}

impl From<DecodeError> for ReplicaError {
    fn from(error: DecodeError) -> ReplicaError {
        ReplicaError::Bytes(error)
    }
}

/// One record for [`Replica::apply_batch`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicaRecord<'a> {
    /// Set or delete.
    pub op: RecordOp,
    /// What kind of entity.
    pub kind: EntityKind,
    /// Canonical bytes: of the entity (set) or of its key (delete).
    pub body: &'a [u8],
}

/// A copy of a table's winners, neighbours, links and groups, whose digests
/// are the table's at the same revision.
pub struct Replica {
    epoch: Epoch,
    digester: Digester,
    store: Store,
    seen: Option<HashSet<EntityKey>>,
}

impl Replica {
    /// An empty copy of what `epoch` names.
    pub fn new(epoch: Epoch, key: DigestKey) -> Replica {
        Replica { epoch, digester: Digester::new(key), store: Store::default(), seen: None }
    }

    /// The history whose state this is.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Another history with another key begins: digests are made anew. What is
    /// held stays until the snapshot that follows says otherwise.
    pub fn set_epoch(&mut self, epoch: Epoch, key: DigestKey) {
        self.epoch = epoch;
        self.digester = Digester::new(key);
        self.store.digests = self.recompute_digests();
    }

    /// What it holds, to be read.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The digests, kept up to date with every record.
    pub fn digests(&self) -> Digests {
        self.store.digests()
    }

    /// An entity is now this.
    pub fn set(&mut self, kind: EntityKind, body: &[u8]) -> Result<(), ReplicaError> {
        let entity = Entity::decode(kind, body)?;
        let key = entity.key();
        self.forget(&key);
        self.store.digests.section(kind).add(self.digester.hash(kind, body));
        if let Entity::Neighbour(neighbour) = &entity {
            if let Some(mac) = neighbour.value.mac {
                if self.store.neighbours_by_mac(mac).next().is_none() {
                    self.store.digests.keys.add(self.digester.mac(mac));
                }
            }
        }
        self.store.put(entity);
        if let Some(seen) = &mut self.seen {
            seen.insert(key);
        }
        Ok(())
    }

    /// An entity is gone; if it wasn't there, nothing happens.
    pub fn delete(&mut self, kind: EntityKind, key: &[u8]) -> Result<(), ReplicaError> {
        let key = EntityKey::decode(kind, key)?;
        self.forget(&key);
        Ok(())
    }

    /// Many records at once, in order: faster than one by one. `Err` has the
    /// index of the record that can't be applied; those before it were.
    pub fn apply_batch(
        &mut self,
        records: &[ReplicaRecord<'_>],
    ) -> Result<(), (usize, ReplicaError)> {
        for (index, record) in records.iter().enumerate() {
            match record.op {
                RecordOp::Set => self.set(record.kind, record.body),
                RecordOp::Delete => self.delete(record.kind, record.body),
            }
            .map_err(|error| (index, error))?;
        }
        Ok(())
    }

    /// Everything of these sections is gone.
    pub fn flush(&mut self, what: Flush) {
        let mut keys = Vec::new();
        if what.routes {
            keys.extend(self.store.routes4.keys().copied().map(EntityKey::Route));
            keys.extend(self.store.routes6.keys().copied().map(EntityKey::Route));
        }
        if what.neighbours {
            keys.extend(self.store.neighbours.keys().copied().map(EntityKey::Neighbour));
        }
        for key in keys {
            self.forget(&key);
        }
    }

    /// A snapshot begins: what it doesn't set is gone at its end.
    pub fn begin_snapshot(&mut self) {
        self.seen = Some(HashSet::new());
    }

    /// The snapshot is complete: what it didn't set goes.
    pub fn end_snapshot(&mut self) {
        let Some(seen) = self.seen.take() else { return };
        for key in self.keys() {
            if !seen.contains(&key) {
                self.forget(&key);
            }
        }
    }

    /// The digests of what is held, from scratch.
    pub fn recompute_digests(&self) -> Digests {
        let mut digests = Digests::default();
        for key in self.keys() {
            if let Some(entity) = self.store.entity(&key) {
                let mut body = Vec::new();
                entity.encode(&mut body);
                let kind = key.kind();
                digests.section(kind).add(self.digester.hash(kind, &body));
            }
        }
        let mut mac = None;
        while let Some(next) = self.store.next_mac(mac) {
            digests.keys.add(self.digester.mac(next));
            mac = Some(next);
        }
        digests
    }

    fn keys(&self) -> Vec<EntityKey> {
        let store = &self.store;
        let mut keys: Vec<EntityKey> = Vec::new();
        keys.extend(store.links.values().map(|link| EntityKey::Link(link.id)));
        keys.extend(store.groups.values().map(|group| EntityKey::Group(group.id)));
        keys.extend(store.routes4.keys().copied().map(EntityKey::Route));
        keys.extend(store.routes6.keys().copied().map(EntityKey::Route));
        keys.extend(store.neighbours.keys().copied().map(EntityKey::Neighbour));
        keys
    }

    fn forget(&mut self, key: &EntityKey) {
        let Some(entity) = self.store.entity(key) else { return };
        let mut before = Vec::new();
        entity.encode(&mut before);
        let kind = key.kind();
        self.store.digests.section(kind).remove(self.digester.hash(kind, &before));
        self.store.remove(key);
        if let Entity::Neighbour(neighbour) = entity {
            if let Some(mac) = neighbour.value.mac {
                if self.store.neighbours_by_mac(mac).next().is_none() {
                    self.store.digests.keys.remove(self.digester.mac(mac));
                }
            }
        }
    }
}
