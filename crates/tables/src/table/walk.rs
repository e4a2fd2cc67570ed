//! Walks over the modification order.

use std::collections::{BTreeMap, HashMap};

use rtm_model::EntityKey;

use super::Table;
use crate::order::{MarkerId, OrderItem, Step};
use crate::record::{Flush, Revision};

type At = (u64, u32);

#[derive(Clone, Copy)]
enum Item {
    Live(EntityKey),
    Gone(EntityKey),
    Flushed(Flush),
}

#[derive(Clone, Copy)]
struct Marker {
    after: At,
    floor: u64,
}

#[derive(Default)]
pub(super) struct Walk {
    items: BTreeMap<At, Item>,
    at: HashMap<EntityKey, At>,
    next: u32,
    markers: BTreeMap<u32, Marker>,
    next_marker: u32,
    evicted: u64,
}

const TOMBSTONE_BYTES: usize = 56;

impl Walk {
    pub(super) fn tombstones(&self) -> usize {
        self.items.values().filter(|item| matches!(item, Item::Gone(_))).count()
    }

    pub(super) fn tombstone_bytes(&self) -> usize {
        self.tombstones() * TOMBSTONE_BYTES
    }

    pub(super) fn changed(&mut self, key: EntityKey, revision: Revision, live: bool) {
        self.next += 1;
        let at = (revision.0, self.next);
        if let Some(old) = self.at.insert(key, at) {
            self.items.remove(&old);
        }
        self.items.insert(at, if live { Item::Live(key) } else { Item::Gone(key) });
    }

    pub(super) fn flushed(&mut self, revision: Revision, what: Flush) {
        let gone = |key: &EntityKey| match key {
            EntityKey::Route(_) => what.routes,
            EntityKey::Neighbour(_) => what.neighbours,
            EntityKey::Link(_) | EntityKey::Group(_) => false,
        };
        self.at.retain(|key, _| !gone(key));
        self.items.retain(|_, item| match item {
            Item::Live(key) | Item::Gone(key) => !gone(key),
            Item::Flushed(old) => {
                (old.routes && !what.routes) || (old.neighbours && !what.neighbours)
            }
        });
        self.next += 1;
        self.items.insert((revision.0, self.next), Item::Flushed(what));
    }

    pub(super) fn trim(&mut self, bytes_max: usize) {
        while self.tombstone_bytes() > bytes_max {
            let Some((&at, &Item::Gone(key))) =
                self.items.iter().find(|(_, item)| matches!(item, Item::Gone(_)))
            else {
                return;
            };
            self.items.remove(&at);
            self.at.remove(&key);
            self.evicted = self.evicted.max(at.0);
        }
    }
}

impl Table {
    /// A new marker, placed before the oldest item: a walk from here to the
    /// tail is a snapshot.
    pub fn marker(&mut self) -> MarkerId {
        self.walk.next_marker += 1;
        let id = self.walk.next_marker;
        self.walk.markers.insert(id, Marker { after: (0, 0), floor: self.walk.evicted });
        MarkerId(id)
    }

    /// Places a marker right after `revision`, walking back from the tail;
    /// `budget` items at a time: true when it stands there.
    ///
    /// The revision must not be older than [`Table::oldest_tombstone`].
    pub fn marker_seek(&mut self, marker: MarkerId, revision: Revision, budget: usize) -> bool {
        let _ = budget;
        if let Some(marker) = self.walk.markers.get_mut(&marker.0) {
            *marker = Marker { after: (revision.0, u32::MAX), floor: revision.0 };
        }
        true
    }

    /// Moves a marker over one item, which it shows to `f`.
    pub fn marker_next(&mut self, marker: MarkerId, f: &mut dyn FnMut(OrderItem<'_>)) -> Step {
        let Some(&Marker { after, floor }) = self.walk.markers.get(&marker.0) else {
            return Step::Lost;
        };
        if floor < self.walk.evicted {
            return Step::Lost;
        }
        let from = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let Some((&at, &item)) = self.walk.items.range(from).next() else {
            return Step::Tail;
        };
        let floor = floor.max(at.0 - 1);
        self.walk.markers.insert(marker.0, Marker { after: at, floor });
        let revision = Revision(at.0);
        let mut bytes = Vec::new();
        match item {
            Item::Live(key) => {
                if let Some(entity) = self.store.entity(&key) {
                    entity.encode(&mut bytes);
                }
                f(OrderItem::Set { revision, kind: key.kind(), body: &bytes });
            }
            Item::Gone(key) => {
                key.encode(&mut bytes);
                f(OrderItem::Gone { revision, kind: key.kind(), key: &bytes });
            }
            Item::Flushed(what) => f(OrderItem::Flushed { revision, what }),
        }
        Step::Moved
    }

    /// A marker is no longer needed.
    pub fn marker_release(&mut self, marker: MarkerId) {
        self.walk.markers.remove(&marker.0);
    }

    /// Who resumes from before this revision needs a snapshot: tombstones up
    /// to it were given up.
    pub fn oldest_tombstone(&self) -> Revision {
        Revision(self.walk.evicted)
    }
}
