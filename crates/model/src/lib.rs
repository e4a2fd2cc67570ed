//! What rtm's tables hold: links, next-hop groups, routes and neighbours;
//! their canonical bytes, the digests over these, and the one text grammar
//! (parser and printer) of console, command, batch, queue and files.
//!
//! This crate does no I/O, knows no file descriptor and no clock, and has no
//! unsafe code. It holds no table either: see `rtm-tables`.
//!
//! Read [`Route`] and [`Change`] first: a route as the tables have it (links
//! and next hops by id), and a change as a feed asks for it (by name).
#![forbid(unsafe_code)]

pub mod canonical;
mod change;
mod digest;
mod group;
mod link;
pub mod names;
mod neighbour;
mod prefix;
mod route;
mod sip;
pub mod text;

pub use canonical::{Entity, EntityKey, EntityKind};
pub use change::{
    Change, GroupSpec, HopSpec, Hops, LinkRef, LinkSpec, NeighbourSpec, RouteSpec, Verb,
};
pub use digest::{Digest, DigestKey, Digester, Digests};
pub use group::{Group, GroupId, HOPS_MAX, HopFlags, NextHop, WEIGHT_MAX};
pub use link::{Link, LinkId, LinkName, LinkNameError};
pub use names::{Names, NamesError};
pub use neighbour::{Mac, MacError, Neighbour, NeighbourKey, NeighbourValue, NudState};
pub use prefix::{Family, Prefix, PrefixError, left_aligned, mask, parse_address};
pub use route::{
    ATTRS_BYTES_MAX, Attrs, AttrsError, DISTANCE_NEVER, METRIC_V6, Route, RouteAttrs, RouteKey,
    RouteType, RouteValue, RouterPreference, TABLE_MAIN, default_metric,
};
