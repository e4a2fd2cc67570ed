//! Follows an `rtmd`: a connection, a copy of its tables that is kept equal
//! and checked, and requests.
//!
//! Read [`Follower`] first (the copy, or the daemon's image without one), then
//! [`Mapped`] (nothing but the image, kept attached), [`RingFollower`] (changes out
//! of the image) and [`Admin`] (requests and loads).
//! [`Place`] finds the daemon's socket as the commands do.
//!
//! ```no_run
//! use rtm_client::{Event, FollowConfig, Follower, Place};
//!
//! let address = Place::from_environment().find()?;
//! let mut follower = Follower::connect(&address, FollowConfig::default())?;
//! loop {
//!     follower.turn(None, &[], &mut |event| {
//!         if let Event::Synced { revision, .. } = event {
//!             println!("the copy is revision {}", revision.0);
//!         }
//!     })?;
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing here starts a thread, handles a signal or prints. What a program
//! must know about the wire is in `rtm_tables`, which is re-exported as far as
//! this crate's own types name it.
#![forbid(unsafe_code)]

mod address;
mod admin;
mod backoff;
mod connection;
mod error;
mod event;
mod follower;
mod mapped;
mod post;
mod ring;
mod stop;
mod transport;

pub use address::{
    Address, AddressError, DIRECTORY_VARIABLE, Found, Looked, Place, SOCKET_NAME, SOCKET_VARIABLE,
    SYSTEM_DIRECTORY, parse as parse_address,
};
pub use admin::{Admin, Done, Item, Load, LoadOptions};
pub use backoff::Backoff;
pub use connection::{CONNECT_TIMEOUT, ConnectError, Connection, Read, wait};
pub use error::{Error, ExitClass};
pub use event::{Change, Counts, Event, FlushSignal, FollowConfig, Sink, State, Turn};
pub use follower::Follower;
pub use mapped::{Changes, Interrupt, Mapped, MappedConfig, Notice, Waited};
pub use post::{PostError, post};
pub use ring::{RingEvent, RingFollower};
pub use stop::Stop;

#[doc(no_inline)]
pub use rtm_model as model;

pub use rtm_image::{
    Answer, AttachError, Busy, Entries, Header, Reader, Shape, State as ImageState, TableCounts,
    WAIT_MAX, WriterState, open_name,
};
pub use rtm_tables::wire::{
    DescriptorKind, GoodbyeReason, ItemFlags, ItemKind, RejectedBy, Role, SignalWay, SubscribeMode,
    Welcome, WireError,
};
pub use rtm_tables::{
    Epoch, Flush, RecordOp, Replica, Revision, RouteCursor, Secret, Store, StoreCounts,
};
