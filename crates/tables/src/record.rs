//! Records: an applied change with its revision, on its way to subscribers.

use rtm_model::EntityKind;

/// A counter of committed transactions: one for routes, neighbours, groups
/// and links together. 0: nothing was ever committed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Revision(pub u64);

/// The random id of one history. With a revision it names a state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Epoch(pub u64);

/// What a whole flush empties.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Flush {
    /// All routes, of all sources.
    pub routes: bool,
    /// All neighbours.
    pub neighbours: bool,
}

/// What a record says of its entity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordOp {
    /// The entity is now this: `body` is its canonical bytes.
    Set,
    /// It is gone: `body` is its key's canonical bytes.
    Delete,
}

/// One record of a committed transaction.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The transaction's revision.
    pub revision: Revision,
    /// Is this the last record of the transaction?
    pub last: bool,
    /// Set or delete.
    pub op: RecordOp,
    /// What kind of entity.
    pub kind: EntityKind,
    /// Canonical bytes of the entity (set) or of its key (delete).
    pub body: &'a [u8],
    /// Canonical bytes of the entity as it was; empty if it is new. Filters
    /// and their digests need it.
    pub before: &'a [u8],
}

/// Who takes the records of a commit, in order, whole transactions.
pub trait RecordSink {
    /// One record.
    fn record(&mut self, record: &Record<'_>);
    /// A whole flush: a transaction of its own.
    fn flush(&mut self, revision: Revision, what: Flush);
    /// A transaction too large for records was committed as `revision`: live
    /// sessions get it as a walk from the revision before.
    fn leap(&mut self, revision: Revision);
    /// One entity of such a transaction while it is being committed, slice by
    /// slice: for who prepares a copy that is to show it at once at the leap. Not
    /// visible before, and never undone.
    fn staged(&mut self, record: &Record<'_>) {
        let _ = record;
    }
}
