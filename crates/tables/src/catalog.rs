//! The catalog: canonical bytes of every link and group, for filters.
//!
//! A session that follows a filter gets each link and group before the first
//! route that uses it. A route may begin to use a group that the table has had
//! for long, so its bytes must be at hand when the record comes, and at that
//! moment the table is being written and can't be asked. So the catalog keeps
//! them: a few thousand small pieces, and only while there is a filter.
//!
//! It is filled in slices from the table, by id, and kept up to date by the
//! records from its first moment on: both write the present state, so their
//! order doesn't matter. What a transaction deletes is dropped at the
//! transaction's end: until then somebody may still have to name it.

use std::collections::BTreeMap;
use std::ops::Bound;

use rtm_model::{EntityKind, GroupId, LinkId, canonical};

use crate::record::{Record, RecordOp};
use crate::store::Store;

#[derive(Default)]
pub(crate) struct Catalog {
    filling: Filling,
    links: BTreeMap<u32, [u8; 24]>,
    groups: BTreeMap<u32, Box<[u8]>>,
    /// Deleted by the open transaction.
    gone: Vec<(EntityKind, u32)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Filling {
    /// No filter needs it.
    #[default]
    Off,
    Links(Option<LinkId>),
    Groups(Option<GroupId>),
    Complete,
}

impl Catalog {
    /// A filter needs it.
    pub(crate) fn begin(&mut self) {
        if self.filling == Filling::Off {
            self.filling = Filling::Links(None);
        }
    }

    /// Begins anew: more happened than the records said.
    pub(crate) fn restart(&mut self) {
        if self.filling != Filling::Off {
            *self = Catalog { filling: Filling::Links(None), ..Catalog::default() };
        }
    }

    /// No filter needs it any more.
    pub(crate) fn drop_all(&mut self) {
        *self = Catalog::default();
    }

    pub(crate) fn is_on(&self) -> bool {
        self.filling != Filling::Off
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.filling == Filling::Complete
    }

    /// Goes on filling it, at most `budget` entities.
    pub(crate) fn fill(&mut self, store: &Store, budget: &mut usize) {
        while *budget > 0 {
            *budget -= 1;
            match self.filling {
                Filling::Links(after) => match store.next_link(after) {
                    Some(link) => {
                        let mut bytes = Vec::with_capacity(24);
                        canonical::encode_link(link, &mut bytes);
                        self.filling = Filling::Links(Some(link.id));
                        self.put(EntityKind::Link, &bytes);
                    }
                    None => self.filling = Filling::Groups(None),
                },
                Filling::Groups(after) => match store.next_group(after) {
                    Some(group) => {
                        let mut bytes = Vec::new();
                        canonical::encode_group(group, &mut bytes);
                        self.filling = Filling::Groups(Some(group.id));
                        self.put(EntityKind::Group, &bytes);
                    }
                    None => self.filling = Filling::Complete,
                },
                Filling::Off | Filling::Complete => return,
            }
        }
    }

    /// Notes what a record says of a link or a group.
    pub(crate) fn record(&mut self, record: &Record<'_>) {
        if !self.is_on() || !matches!(record.kind, EntityKind::Link | EntityKind::Group) {
            return;
        }
        match record.op {
            RecordOp::Set => {
                // An id that comes back in the transaction that it went in.
                let id = id_of(record.body);
                self.gone.retain(|gone| *gone != (record.kind, id));
                self.put(record.kind, record.body);
            }
            RecordOp::Delete => self.gone.push((record.kind, id_of(record.body))),
        }
    }

    /// A transaction ended.
    pub(crate) fn end_transaction(&mut self) {
        for (kind, id) in self.gone.drain(..) {
            if kind == EntityKind::Link {
                self.links.remove(&id);
            } else {
                self.groups.remove(&id);
            }
        }
    }

    fn put(&mut self, kind: EntityKind, body: &[u8]) {
        if kind == EntityKind::Link {
            if let Ok(bytes) = body.try_into() {
                self.links.insert(id_of(body), bytes);
            }
        } else {
            self.groups.insert(id_of(body), body.into());
        }
    }

    /// Canonical bytes of a link.
    pub(crate) fn link(&self, id: u32) -> Option<&[u8]> {
        self.links.get(&id).map(|bytes| &bytes[..])
    }

    /// Canonical bytes of a group.
    pub(crate) fn group(&self, id: u32) -> Option<&[u8]> {
        self.groups.get(&id).map(|bytes| &bytes[..])
    }

    /// The next link's id.
    pub(crate) fn next_link(&self, after: u32) -> Option<u32> {
        self.links.range((Bound::Excluded(after), Bound::Unbounded)).next().map(|(&id, _)| id)
    }

    /// The next group's id.
    pub(crate) fn next_group(&self, after: u32) -> Option<u32> {
        self.groups.range((Bound::Excluded(after), Bound::Unbounded)).next().map(|(&id, _)| id)
    }

    /// Bytes that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        let groups: usize = self.groups.values().map(|bytes| bytes.len() + 48).sum();
        self.links.len() * 48 + groups
    }
}

/// The id that a link's or a group's canonical bytes begin with.
pub(crate) fn id_of(body: &[u8]) -> u32 {
    body.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// The links that a group's canonical bytes name, one for each next hop that
/// has one.
pub(crate) fn links_of(group: &[u8]) -> impl Iterator<Item = u32> {
    group.get(16..).unwrap_or_default().chunks_exact(24).map(id_of).filter(|&link| link != 0)
}

/// The group that a route's canonical bytes name; 0: none.
pub(crate) fn group_of(kind: EntityKind, route: &[u8]) -> u32 {
    route.get(kind.key_bytes()..).map_or(0, id_of)
}

/// The link that a neighbour's canonical bytes name; 0: none.
pub(crate) fn link_of(neighbour: &[u8]) -> u32 {
    neighbour.get(16..).map_or(0, id_of)
}
