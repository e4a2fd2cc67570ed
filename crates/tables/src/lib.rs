//! tables
#![forbid(unsafe_code)]

mod order;
mod record;
mod replica;
mod store;
mod table;
pub use order::{MarkerId, OrderItem, Step};
pub use record::{Epoch, Flush, Record, RecordOp, RecordSink, Revision};
pub use replica::{Replica, ReplicaError, ReplicaRecord};
pub use store::{RouteCursor, Store, StoreCounts};
pub use table::{
    Applied, Candidate, ChangeError, Distances, PROTOCOL_STATIC, SourceClass, SourceId, SourceInfo,
    SourceSpec, Table, TableCounts, TableLimits, TooManySources, Transaction,
};

pub mod wire;
