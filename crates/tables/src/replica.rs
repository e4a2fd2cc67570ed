//! The replica: a client's copy of the tables, made of records.
//!
//! It is the same store that the daemon's table has, without candidates,
//! sources and modification order: 8.5 million records a second may have to be
//! applied on two cores, and most of what a record costs is waiting for
//! memory. So a route's record is taken as bytes: the key finds the entry, the
//! value is compared with the entry's own, and if it differs the digest loses
//! the hash of the old bytes (which are put together from the entry) and gains
//! that of the new ones. Nothing is allocated.
//!
//! [`Replica::apply_batch`] goes over a batch twice: first it finds the entries
//! of all routes, of both families, touching nothing else, so that the processor
//! has many walks under way at once; then it applies the records in order.
//!
//! # Snapshots
//! A record that a snapshot names gets the snapshot's mark, a bit that changes
//! its meaning with each snapshot; at the end, what doesn't have it goes.

use std::collections::BTreeMap;
use std::fmt;

use rtm_model::canonical::{DecodeError, encode_group};
use rtm_model::{
    Attrs, Digest, DigestKey, Digester, Digests, Entity, EntityKey, EntityKind, Family, Group,
    GroupId, LinkId, Mac, Neighbour, NeighbourKey,
};

use crate::record::{Epoch, Flush, RecordOp};
use crate::store::Store;
use crate::store::attrs::{AttrsTable, NO_ATTRS};
use crate::store::entry::{A4, A6, Address, Key, Value, decode_key, decode_value};
use crate::store::routes::{NOT_FOUND, Routes};
use crate::wire::records;

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

/// Records whose entries are looked for together: enough to keep every load
/// that the processor can have under way busy, few enough for the first-level
/// cache to hold what they find.
const BATCH: usize = 128;

/// So few are looked for one by one: there is little to overlap.
const LOOK_WORTH: usize = 4;

/// A copy of a table's winners, neighbours, links and groups, whose digests
/// are the table's at the same revision.
pub struct Replica {
    epoch: Epoch,
    digester: Digester,
    store: Store,
    /// The mark of what is set from now on.
    mark: bool,
    /// Links and groups that the snapshot under way has named; none: no
    /// snapshot is under way.
    snapshot: Option<Named>,
    /// Mode `keys`: MAC addresses that have a value, each with the mark of the
    /// snapshot that named it.
    keys: BTreeMap<Mac, bool>,
    ahead: Ahead,
    /// What goes is encoded here, to be hashed: streams bring and take a group with
    /// every other route.
    gone: Vec<u8>,
}

#[derive(Debug, Default)]
struct Named {
    links: std::collections::BTreeSet<u32>,
    groups: std::collections::BTreeSet<u32>,
}

impl Replica {
    /// An empty copy of what `epoch` names.
    pub fn new(epoch: Epoch, key: DigestKey) -> Replica {
        Replica {
            epoch,
            digester: Digester::new(key),
            store: Store::default(),
            mark: false,
            snapshot: None,
            keys: BTreeMap::new(),
            ahead: Ahead::default(),
            gone: Vec::new(),
        }
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
    #[inline]
    pub fn set(&mut self, kind: EntityKind, body: &[u8]) -> Result<(), ReplicaError> {
        match kind {
            EntityKind::Route4 => {
                let Store { routes4, attrs, digests, .. } = &mut self.store;
                let mut part = Part { routes: routes4, attrs, digest: &mut digests.routes };
                Ok(part.set(&self.digester, self.mark, body)?)
            }
            EntityKind::Route6 => {
                let Store { routes6, attrs, digests, .. } = &mut self.store;
                let mut part = Part { routes: routes6, attrs, digest: &mut digests.routes };
                Ok(part.set(&self.digester, self.mark, body)?)
            }
            _ => self.set_other(kind, body),
        }
    }

    /// An entity is gone; if it wasn't there, nothing happens.
    #[inline]
    pub fn delete(&mut self, kind: EntityKind, key: &[u8]) -> Result<(), ReplicaError> {
        match kind {
            EntityKind::Route4 => {
                let Store { routes4, attrs, digests, .. } = &mut self.store;
                let mut part = Part { routes: routes4, attrs, digest: &mut digests.routes };
                Ok(part.delete(&self.digester, key)?)
            }
            EntityKind::Route6 => {
                let Store { routes6, attrs, digests, .. } = &mut self.store;
                let mut part = Part { routes: routes6, attrs, digest: &mut digests.routes };
                Ok(part.delete(&self.digester, key)?)
            }
            _ => self.delete_other(kind, key),
        }
    }

    /// Many records at once, in order: faster than one by one. `Err` has the
    /// index of the record that can't be applied; those before it were.
    pub fn apply_batch(
        &mut self,
        records: &[ReplicaRecord<'_>],
    ) -> Result<(), (usize, ReplicaError)> {
        self.apply_records(records.iter().copied())
    }

    /// The same for records that needn't be gathered. They are gone over twice.
    pub fn apply_records<'a>(
        &mut self,
        mut records: impl Iterator<Item = ReplicaRecord<'a>> + Clone,
    ) -> Result<(), (usize, ReplicaError)> {
        let mut rest = records.clone();
        if let (Some(record), None) = (rest.next(), rest.next()) {
            return self.apply_lone(&record).map_err(|error| (0, error));
        }
        let mut ahead = std::mem::take(&mut self.ahead);
        let mut done = 0;
        let result = loop {
            match self.apply_some(&mut records, &mut ahead) {
                Ok(0) => break Ok(()),
                Ok(count) => done += count,
                Err((index, error)) => break Err((done + index, error)),
            }
        };
        self.ahead = ahead;
        result
    }

    /// The same for one record alone, as most come where little changes: nothing is
    /// gathered for it, and as little memory touched as can be.
    fn apply_lone(&mut self, record: &ReplicaRecord<'_>) -> Result<(), ReplicaError> {
        let Replica { store, digester, mark, .. } = self;
        let Store { routes4, routes6, attrs, digests, .. } = store;
        let digest = &mut digests.routes;
        match record.kind {
            EntityKind::Route4 => {
                Part { routes: routes4, attrs, digest }.apply_lone(digester, *mark, record)
            }
            EntityKind::Route6 => {
                Part { routes: routes6, attrs, digest }.apply_lone(digester, *mark, record)
            }
            kind => match record.op {
                RecordOp::Set => self.set_other(kind, record.body),
                RecordOp::Delete => self.delete_other(kind, record.body),
            },
        }
    }

    /// Applies at most [`BATCH`] records, and says how many. Routes of both families
    /// are looked for together, whatever stands between them: changes of a full
    /// table come mixed, and where a run ended the processor would have to wait.
    fn apply_some<'a>(
        &mut self,
        records: &mut (impl Iterator<Item = ReplicaRecord<'a>> + Clone),
        ahead: &mut Ahead,
    ) -> Result<usize, (usize, ReplicaError)> {
        let Ahead { four, six } = ahead;
        four.clear();
        six.clear();
        // What can't be read ends the batch; those before it are applied.
        let mut readable = 0;
        let wrong = records.clone().take(BATCH).find_map(|record| {
            let read = match record.kind {
                EntityKind::Route4 => four.read::<A4>(&record),
                EntityKind::Route6 => six.read::<A6>(&record),
                _ => Ok(()),
            };
            readable += usize::from(read.is_ok());
            read.err()
        });
        four.look(&self.store.routes4);
        six.look(&self.store.routes6);
        let (mut four, mut six) = (four.found(), six.found());
        for (index, record) in records.take(readable).enumerate() {
            let Replica { store, digester, mark, .. } = self;
            let Store { routes4, routes6, attrs, digests, .. } = store;
            let digest = &mut digests.routes;
            let result = match record.kind {
                EntityKind::Route4 => four.next().map_or(Ok(()), |found| {
                    Part { routes: routes4, attrs, digest }.apply(digester, *mark, &record, found)
                }),
                EntityKind::Route6 => six.next().map_or(Ok(()), |found| {
                    Part { routes: routes6, attrs, digest }.apply(digester, *mark, &record, found)
                }),
                kind => match record.op {
                    RecordOp::Set => self.set_other(kind, record.body),
                    RecordOp::Delete => self.delete_other(kind, record.body),
                },
            };
            result.map_err(|error| (index, error))?;
        }
        wrong.map_or(Ok(readable), |error| Err((readable, error.into())))
    }

    /// Work that makes later records cheaper, for when there is nothing else to
    /// do: an exact index beside the tries, `count` entries of it. False: there
    /// is no more. (It costs about 10 bytes a route. While a snapshot comes in
    /// it would only be in the way, so nothing happens then.)
    pub fn idle(&mut self, count: u32) -> bool {
        self.snapshot.is_none()
            && (self.store.routes4.make_index(count) || self.store.routes6.make_index(count))
    }

    /// Would [`Replica::idle`] do anything?
    pub fn has_idle_work(&self) -> bool {
        self.snapshot.is_none()
            && (self.store.routes4.wants_index() || self.store.routes6.wants_index())
    }

    /// Everything of these sections is gone.
    pub fn flush(&mut self, what: Flush) {
        let store = &mut self.store;
        if what.routes {
            store.routes4 = Routes::default();
            store.routes6 = Routes::default();
            store.attrs = AttrsTable::default();
            store.digests.routes = Digest::default();
        }
        if what.neighbours {
            store.neighbours = Default::default();
            store.digests.neighbours = Digest::default();
            store.digests.keys = Digest::default();
            self.keys.clear();
        }
    }

    /// The keys of a session in mode `keys`, in order, from `from` on.
    pub fn keys(&self, from: Mac) -> impl Iterator<Item = Mac> {
        self.keys.range(from..).map(|(&mac, _)| mac)
    }

    /// How many keys there are, in mode `keys`.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Is this MAC address a key, in mode `keys`?
    pub fn has_key(&self, mac: Mac) -> bool {
        self.keys.contains_key(&mac)
    }

    fn set_key(&mut self, mac: Mac) {
        if self.keys.insert(mac, self.mark).is_none() {
            self.store.digests.keys.add(self.digester.mac(mac));
        }
    }

    fn delete_key(&mut self, mac: Mac) {
        if self.keys.remove(&mac).is_some() {
            self.store.digests.keys.remove(self.digester.mac(mac));
        }
    }

    /// A snapshot begins: what it doesn't set is gone at its end.
    pub fn begin_snapshot(&mut self) {
        if self.snapshot.is_some() {
            // One was cut: what it named has the new mark, and must lose it.
            let old = !self.mark;
            (0..self.store.routes4.end()).for_each(|at| self.store.routes4.set_mark(at, old));
            (0..self.store.routes6.end()).for_each(|at| self.store.routes6.set_mark(at, old));
            (0..self.store.neighbours.end()).for_each(|at| self.store.neighbours.set_mark(at, old));
            self.keys.values_mut().for_each(|mark| *mark = old);
        } else {
            self.mark = !self.mark;
        }
        self.snapshot = Some(Named::default());
    }

    /// The snapshot is complete: what it didn't set goes.
    pub fn end_snapshot(&mut self) {
        self.end_snapshot_with(&mut |_, _| {});
    }

    /// As [`Replica::end_snapshot`]; `gone` is called for each entity that goes,
    /// while it is still there.
    pub fn end_snapshot_with(&mut self, gone: &mut dyn FnMut(&Store, EntityKey)) {
        let Some(named) = self.snapshot.take() else { return };
        let mark = self.mark;
        for at in 0..self.store.routes4.end() {
            let entry = self.store.routes4.entry(at);
            if entry.value().is_present() && entry.mark() != mark {
                self.forget_telling(EntityKey::Route(entry.route_key()), gone);
            }
        }
        for at in 0..self.store.routes6.end() {
            let entry = self.store.routes6.entry(at);
            if entry.value().is_present() && entry.mark() != mark {
                self.forget_telling(EntityKey::Route(entry.route_key()), gone);
            }
        }
        for at in 0..self.store.neighbours.end() {
            if let Some(key) = self.store.neighbours.key(at) {
                if self.store.neighbours.mark(at) != mark {
                    self.forget_telling(EntityKey::Neighbour(key), gone);
                }
            }
        }
        let unnamed: Vec<Mac> =
            self.keys.iter().filter(|(_, of)| **of != mark).map(|(&mac, _)| mac).collect();
        unnamed.into_iter().for_each(|mac| self.delete_key(mac));
        let groups: Vec<u32> = self.store.groups.keys().copied().collect();
        for id in groups.into_iter().filter(|id| !named.groups.contains(id)) {
            self.forget_telling(EntityKey::Group(GroupId(id)), gone);
        }
        let links: Vec<u32> = self.store.links.keys().copied().collect();
        for id in links.into_iter().filter(|id| !named.links.contains(id)) {
            self.forget_telling(EntityKey::Link(LinkId(id)), gone);
        }
    }

    /// The digests of what is held, from scratch.
    pub fn recompute_digests(&self) -> Digests {
        let mut digests = Digests::default();
        let store = &self.store;
        let mut body = Vec::new();
        let mut add = |entity: Entity| {
            body.clear();
            entity.encode(&mut body);
            let kind = entity.kind();
            digests.section(kind).add(self.digester.hash(kind, &body));
        };
        store.links.values().for_each(|link| add(Entity::Link(*link)));
        store.groups.values().for_each(|group| add(Entity::Group(group.clone())));
        for at in 0..store.routes4.end() {
            let entry = store.routes4.entry(at);
            if entry.value().is_present() {
                add(Entity::Route(entry.route(&store.attrs)));
            }
        }
        for at in 0..store.routes6.end() {
            let entry = store.routes6.entry(at);
            if entry.value().is_present() {
                add(Entity::Route(entry.route(&store.attrs)));
            }
        }
        let mut after: Option<NeighbourKey> = None;
        while let Some(neighbour) = store.next_neighbour(after.as_ref()) {
            after = Some(neighbour.key);
            add(Entity::Neighbour(neighbour));
        }
        let mut mac = None;
        while let Some(next) = store.next_mac(mac) {
            digests.keys.add(self.digester.mac(next));
            mac = Some(next);
        }
        self.keys.keys().for_each(|&mac| digests.keys.add(self.digester.mac(mac)));
        digests
    }

    fn delete_other(&mut self, kind: EntityKind, key: &[u8]) -> Result<(), ReplicaError> {
        match records::key_of(kind, key) {
            Some(mac) => self.delete_key(mac),
            None => self.forget(&EntityKey::decode(kind, key)?),
        }
        Ok(())
    }

    fn set_other(&mut self, kind: EntityKind, body: &[u8]) -> Result<(), ReplicaError> {
        if let Some(mac) = records::key_of(kind, body) {
            self.set_key(mac);
            return Ok(());
        }
        let entity = match Entity::decode(kind, body)? {
            Entity::Group(group) => {
                self.set_group(group, body);
                return Ok(());
            }
            entity => entity,
        };
        let key = entity.key();
        if self.store.entity(&key).as_ref() != Some(&entity) {
            self.unhash(&key);
            let hash = self.digester.hash(kind, body);
            self.store.digests.section(kind).add(hash);
        }
        match entity {
            Entity::Link(link) => {
                if let Some(named) = &mut self.snapshot {
                    named.links.insert(link.id.0);
                }
                self.store.put_link(link);
            }
            Entity::Neighbour(Neighbour { key, value }) => {
                let at = self.store.neighbours.find_or_insert(&key);
                self.store.neighbours.set_mark(at, self.mark);
                self.put_neighbour(at, Some(value));
            }
            Entity::Route(_) | Entity::Group(_) => {}
        }
        Ok(())
    }

    /// `body`: the group as it came.
    fn set_group(&mut self, group: Group, body: &[u8]) {
        if let Some(named) = &mut self.snapshot {
            named.groups.insert(group.id.0);
        }
        if self.store.group(group.id) == Some(&group) {
            return;
        }
        self.unhash(&EntityKey::Group(group.id));
        let hash = self.digester.hash(EntityKind::Group, body);
        self.store.digests.section(EntityKind::Group).add(hash);
        self.store.put_group(group);
    }

    fn put_neighbour(&mut self, at: u32, value: Option<rtm_model::NeighbourValue>) {
        let change = self.store.neighbours.put(at, value);
        let keys = &mut self.store.digests.keys;
        if let Some(mac) = change.gone {
            keys.remove(self.digester.mac(mac));
        }
        if let Some(mac) = change.new {
            keys.add(self.digester.mac(mac));
        }
    }

    /// Takes an entity's hash out of its digest, if it is there.
    fn unhash(&mut self, key: &EntityKey) {
        self.gone.clear();
        match key {
            EntityKey::Group(id) => match self.store.group(*id) {
                Some(group) => encode_group(group, &mut self.gone),
                None => return,
            },
            key => match self.store.entity(key) {
                Some(entity) => entity.encode(&mut self.gone),
                None => return,
            },
        }
        let kind = key.kind();
        let hash = self.digester.hash(kind, &self.gone);
        self.store.digests.section(kind).remove(hash);
    }

    fn forget_telling(&mut self, key: EntityKey, gone: &mut dyn FnMut(&Store, EntityKey)) {
        gone(&self.store, key);
        self.forget(&key);
    }

    fn forget(&mut self, key: &EntityKey) {
        self.unhash(key);
        match key {
            EntityKey::Link(id) => drop(self.store.remove_link(*id)),
            EntityKey::Group(id) => drop(self.store.remove_group(*id)),
            EntityKey::Neighbour(key) => {
                if let Some(at) = self.store.neighbours.find(key) {
                    self.put_neighbour(at, None);
                    self.store.neighbours.remove(at);
                }
            }
            EntityKey::Route(key) => {
                let found = Key::from(key);
                let Store { routes4, routes6, attrs, .. } = &mut self.store;
                match key.prefix.family() {
                    Family::V4 => remove(routes4, attrs, &found),
                    Family::V6 => remove(routes6, attrs, &found),
                }
            }
        }
    }
}

fn remove<A: Address>(routes: &mut Routes<A>, attrs: &mut AttrsTable, key: &Key) {
    if let Some(at) = routes.find(key) {
        attrs.release(routes.entry(at).value().attrs);
        routes.vacate(at);
    }
}

/// What a batch's records look for, and what was found: room that is kept from
/// batch to batch.
#[derive(Default)]
struct Ahead {
    four: Sought,
    six: Sought,
}

/// The same of one family.
#[derive(Default)]
struct Sought {
    keys: Vec<Key>,
    found: Vec<u32>,
    /// Keys that aren't there.
    new: Vec<Key>,
}

impl Sought {
    fn clear(&mut self) {
        self.keys.clear();
    }

    #[inline]
    fn read<A: Address>(&mut self, record: &ReplicaRecord<'_>) -> Result<(), DecodeError> {
        self.keys.push(key_of::<A>(record)?);
        Ok(())
    }

    /// Each key, and where it was found.
    fn found(&self) -> impl Iterator<Item = (&Key, u32)> {
        self.keys.iter().zip(self.found.iter().copied())
    }

    fn look<A: Address>(&mut self, routes: &Routes<A>) {
        self.found.clear();
        if self.keys.len() < LOOK_WORTH {
            self.found.extend(self.keys.iter().map(|key| routes.find_likely(key)));
            return;
        }
        self.found.resize(self.keys.len(), NOT_FOUND);
        routes.find_many(&self.keys, &mut self.found);
        if routes.has_index() {
            // What comes has a way through the tries all the same.
            let new = self.keys.iter().zip(&self.found).filter(|(_, at)| **at == NOT_FOUND);
            self.new.clear();
            self.new.extend(new.map(|(key, _)| *key));
            if !self.new.is_empty() {
                routes.walk_many(&self.new, &mut [NOT_FOUND; BATCH][..self.new.len()]);
            }
        }
    }
}

/// The key of a route's record.
#[inline]
fn key_of<A: Address>(record: &ReplicaRecord<'_>) -> Result<Key, DecodeError> {
    decode_key::<A>(match record.op {
        RecordOp::Delete => record.body,
        RecordOp::Set => record.body.get(..A::KEY_BYTES).ok_or(too_short::<A>())?,
    })
}

fn too_short<A: Address>() -> DecodeError {
    DecodeError { kind: A::KIND, why: "too short" }
}

/// Of a route's canonical bytes: the value, and the attributes behind it.
#[inline]
fn split<A: Address>(body: &[u8]) -> Result<(&[u8; 8], &[u8]), DecodeError> {
    let rest = body.get(A::KEY_BYTES..).ok_or(too_short::<A>())?;
    rest.split_first_chunk::<8>().ok_or(too_short::<A>())
}

/// The routes of a family with what changes along with them.
struct Part<'a, A> {
    routes: &'a mut Routes<A>,
    attrs: &'a mut AttrsTable,
    digest: &'a mut Digest,
}

impl<A: Address> Part<'_, A> {
    /// Applies a record whose key is this, and whose entry most likely is where
    /// it was found.
    #[inline]
    fn apply(
        &mut self,
        digester: &Digester,
        mark: bool,
        record: &ReplicaRecord<'_>,
        (key, found): (&Key, u32),
    ) -> Result<(), ReplicaError> {
        // A record before it in the batch may have removed what was found.
        let at = Some(found).filter(|at| *at != NOT_FOUND && self.routes.is_at(*at, key));
        match record.op {
            RecordOp::Set => {
                let (value, extra) = split::<A>(record.body)?;
                self.set_at(digester, mark, record.body, value, extra, |routes| match at {
                    Some(at) => at,
                    None => routes.insert_or_find(key),
                })?;
            }
            RecordOp::Delete => self.delete_at(digester, at.or_else(|| self.routes.find(key))),
        }
        Ok(())
    }

    fn apply_lone(
        &mut self,
        digester: &Digester,
        mark: bool,
        record: &ReplicaRecord<'_>,
    ) -> Result<(), ReplicaError> {
        let key = key_of::<A>(record)?;
        let found = self.routes.find_likely(&key);
        self.apply(digester, mark, record, (&key, found))
    }

    fn set(&mut self, digester: &Digester, mark: bool, body: &[u8]) -> Result<(), DecodeError> {
        let (value, extra) = split::<A>(body)?;
        let key = decode_key::<A>(&body[..A::KEY_BYTES])?;
        self.set_at(digester, mark, body, value, extra, |routes| routes.find_or_insert(&key))
    }

    fn delete(&mut self, digester: &Digester, key: &[u8]) -> Result<(), DecodeError> {
        let key = decode_key::<A>(key)?;
        self.delete_at(digester, self.routes.find(&key));
        Ok(())
    }

    #[inline]
    fn set_at(
        &mut self,
        digester: &Digester,
        mark: bool,
        body: &[u8],
        value: &[u8; 8],
        extra: &[u8],
        place: impl FnOnce(&mut Routes<A>) -> u32,
    ) -> Result<(), DecodeError> {
        let kind = A::KIND;
        let mut value = decode_value(kind, value)?;
        if !extra.is_empty() {
            let attrs = Attrs::from_canonical(extra)
                .map_err(|_| DecodeError { kind, why: "attributes not in canonical form" })?;
            value.attrs = self.attrs.acquire(&attrs);
        }
        let at = place(self.routes);
        let old = self.routes.entry(at).value();
        self.routes.set_mark(at, mark);
        if old == value {
            self.attrs.release(value.attrs); // Held twice for a moment.
            return Ok(());
        }
        if old.is_present() && old.attrs == NO_ATTRS && extra.is_empty() {
            // Nearly always: another next hop, or another distance.
            let entry = self.routes.entry(at).words(old);
            let [gone, new] = digester.hash_both(kind, entry.key(), [old.word(), value.word()]);
            self.digest.remove(gone);
            self.digest.add(new);
        } else {
            if old.is_present() {
                self.digest.remove(self.hash(digester, at, old));
                self.attrs.release(old.attrs);
            }
            self.digest.add(digester.hash(kind, body));
        }
        self.routes.put(at, value);
        Ok(())
    }

    #[inline]
    fn delete_at(&mut self, digester: &Digester, at: Option<u32>) {
        let Some(at) = at else { return };
        let old = self.routes.entry(at).value();
        if old.is_present() {
            self.digest.remove(self.hash(digester, at, old));
            self.attrs.release(old.attrs);
            self.routes.vacate(at);
        }
    }

    #[inline]
    fn hash(&self, digester: &Digester, at: u32, value: Value) -> u128 {
        let words = self.routes.entry(at).words(value);
        let attrs = self.attrs.bytes_of(value.attrs);
        if attrs.is_empty() {
            return digester.hash_words(A::KIND, words.all());
        }
        let (bytes, len) = words.bytes();
        digester.hash(A::KIND, &[&bytes[..len], attrs].concat())
    }
}
