//! The tables in shared memory: one memory object that `rtmd` alone writes and
//! any process maps read-only to look routes and neighbours up with no system
//! call, no lock and no copy of its own.
//!
//! Read first: [`Writer`] (takes the entities of a transaction, makes them
//! visible by one store) and [`Reader`] (lookups, exact lookups, iteration, the
//! ring of records). Why readers are right: [`protocol`]. The byte layout and
//! what was measured: `docs/design/image.md`.
//!
//! ```
//! use rtm_image::{Object, Reader, Settings, Writer};
//! use rtm_model::{Attrs, Digests, Entity, GroupId, Route, RouteKey, RouteType, RouteValue};
//!
//! let settings = Settings::default();
//! let mut writer = Writer::new(Object::create(settings.bytes)?, &settings)?;
//! let value = RouteValue {
//!     kind: RouteType::Blackhole,
//!     protocol: 4,
//!     scope: 0,
//!     distance: 1,
//!     group: GroupId::NONE,
//!     attrs: Attrs::NONE,
//! };
//! let key = RouteKey::main("10.0.0.0/8".parse()?);
//! writer.set(&Entity::Route(Route { key, value }))?;
//! writer.commit(1, 1, &Digests::default())?;
//!
//! // In the other process, with the descriptor that came over the socket:
//! let reader = Reader::attach(writer.memory().descriptor().try_clone_to_owned()?)?;
//! let answer = reader.lookup4("10.1.2.3".parse()?)?.expect("a route");
//! assert_eq!(answer.kind(), RouteType::Blackhole);
//! assert_eq!(reader.lookup4("11.1.2.3".parse()?)?, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What it is not: it knows no candidates and no sources (the winners are what
//! it gets), sends and receives nothing (descriptors travel by the daemon's
//! socket), computes no digest, and nothing of it survives its writer.
pub mod protocol;

mod reader;
mod writer;

mod answers;
mod hash;
mod iterate;
mod lpm;
mod ring;
mod shape;

mod batch;
mod instructions;
mod keys;
mod pages;
mod tree;

mod heap;
pub mod layout;
mod object;
mod store;
pub mod words;

#[cfg(test)]
mod testing;

pub use answers::Answer;
pub use heap::{Part, Usage};
pub use iterate::{Entries, TableCounts};
pub use lpm::census::LookupLevel;
pub use object::{CreateError, Object, open_name, remove_name};
pub use protocol::{Busy, REPEATS_MAX};
pub use reader::{AttachError, GATHER_MAX, Header, Lookups4, Reader, State, WriterState};
pub use ring::{Lapped, RingReader, WAIT_MAX};
pub use shape::Shape;
pub use store::{Full, Memory};
pub use writer::{Settings, Status, WriteError, Writer};
