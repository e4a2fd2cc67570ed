//! The tables, and what keeps every copy of them equal: candidates and winners,
//! the journal, the wire, and both halves of a session.
//!
//! There is no file descriptor here and no clock: bytes and the time go in
//! (`handle_*`, `apply`), bytes and events come out (`poll_*`, `slices`). Who
//! owns sockets is `rtm-daemon` and `rtm-client`; what a route is, and how it is
//! written, is `rtm-model`.
//!
//! Read first, on the daemon's side: [`Table`] (what there is) and [`Hub`] with
//! [`ServerSession`] (how it reaches clients). On a client's side:
//! [`ClientSession`] and [`Replica`]. `examples/pair.rs` drives both by hand.
//! Why it is made so: `docs/design/tables.md` and `docs/design/distribution.md`.
#![forbid(unsafe_code)]

mod barrier;
mod catalog;
mod classic;
mod filter;
mod hub;
mod journal;
mod keys;
mod order;
mod record;
mod replica;
mod session;
mod snapshot;
mod store;
mod table;
mod token;
mod view;
mod walk;
pub use barrier::{BarrierEntry, BarrierId, BarrierOutcome, BarrierReport};
pub use classic::layout::{CLASSIC_BYTES, CLASSIC_CLIENT_BYTES};
pub use hub::{Hub, HubStats};
pub use order::{MarkerId, OrderItem, Step};
pub use record::{Epoch, Flush, Record, RecordOp, RecordSink, Revision};
pub use replica::{Replica, ReplicaError, ReplicaRecord};
pub use session::{
    CHANGES_AT_ONCE, ClientConfig, ClientEvent, ClientSession, ClientTimeout, Compare, HubLimits,
    INPUT_BYTES_MAX, Peer, Progress, RECEIVE_BYTES, SLICES_MAX, ServerEvent, ServerSession,
    SessionInfo, SessionState, SignalInfo, Slices, Transport,
};
pub use store::{RouteCursor, Store, StoreCounts};
pub use table::{
    Applied, Candidate, ChangeError, Distances, OwnRoute, PROTOCOL_STATIC, SourceClass, SourceId,
    SourceInfo, SourceSpec, StaleCursor, Stamp, Table, TableCounts, TableLimits, TooManySources,
    Transaction,
};
pub use token::{Challenge, NONCE_BYTES, PROOF_BYTES, Secret};

pub mod wire;

/// Milliseconds of whatever clock the caller has; it only has to go forward.
pub type Millis = u64;
