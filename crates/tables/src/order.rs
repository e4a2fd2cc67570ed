//! The modification order: every entity in the order of the revision that last
//! changed it, deletes as tombstones.
//!
//! A session that must catch up walks it with a *marker*, which stays where it
//! is while the tables change: what changes moves to the tail and is met
//! there, so each walk ends, and at its end the walker has the state of the
//! table's revision exactly.

use rtm_model::EntityKind;

use crate::record::{Flush, Revision};

/// A place in the modification order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MarkerId(pub(crate) u32);

/// What a marker moved over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OrderItem<'a> {
    /// The entity is this since `revision`.
    Set {
        /// The revision that last changed it.
        revision: Revision,
        /// What it is.
        kind: EntityKind,
        /// Its canonical bytes.
        body: &'a [u8],
    },
    /// The entity is gone since `revision`.
    Gone {
        /// The revision that deleted it.
        revision: Revision,
        /// What it was.
        kind: EntityKind,
        /// Its key's canonical bytes.
        key: &'a [u8],
    },
    /// Everything of these sections that was there before `revision` is gone.
    Flushed {
        /// The revision of the flush.
        revision: Revision,
        /// What was emptied.
        what: Flush,
    },
}

/// How a step of a marker ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It moved over one item.
    Moved,
    /// It stands at the tail: the walker has the state of the table's revision.
    Tail,
    /// Tombstones in front of it had to be given up (`tombstone_bytes_max`):
    /// what this walker has may hold entities that are gone. It needs a
    /// snapshot: a marker from the front.
    Lost,
}
