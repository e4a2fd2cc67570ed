//! rtnetlink: the kernel's messages about routes, next-hop objects, neighbours,
//! links and addresses, decoded where they lie into the terms of `rtm-model`,
//! and encoded.
//!
//! It is a crate of its own because two link it that never see each other: the
//! daemon (the kernel's feed, FPM, the export) and the command (the dumps of
//! `ip route save`). It does no I/O, holds no state and copies nothing while it
//! walks; whoever keeps something copies it.
//!
//! Read [`messages`] and [`RouteMessage`] first:
//!
//! ```
//! use rtm_netlink::{Body, Builder, RouteMessage, flag, messages};
//! use rtm_model::{HopSpec, Hops, LinkRef, RouteSpec, RouteType};
//!
//! // What `ip route add 10.0.0.0/8 dev if3` asks of the kernel …
//! let mut spec = RouteSpec::new("10.0.0.0/8".parse().unwrap());
//! spec.kind = Some(RouteType::Unicast);
//! let hop = HopSpec {
//!     gateway: None,
//!     link: Some(LinkRef::Ifindex(3)),
//!     weight: 1,
//!     flags: Default::default(),
//! };
//! spec.hops = Hops::One(hop);
//! let mut request = Builder::default();
//! RouteMessage::encode(&mut request, flag::REQUEST | flag::CREATE | flag::EXCL, 1, &spec).unwrap();
//!
//! // … and how it is read.
//! for message in messages(request.bytes()) {
//!     match Body::decode(message.unwrap()).unwrap() {
//!         Body::Route(route) => assert_eq!(route.spec().unwrap().prefix, spec.prefix),
//!         other => panic!("{other:?}"),
//!     }
//! }
//! ```
//!
//! # What it leaves out
//! Rules, traffic control, bridge and multicast entries; MPLS and SRv6 are kept
//! as opaque attributes. Byte order is the host's, as netlink has it.
#![forbid(unsafe_code)]

mod address;
mod answer;
mod attribute;
mod builder;
mod link;
mod message;
mod neighbour;
mod next_hop;
pub mod number;
mod request;
mod route;

pub use address::AddressMessage;
pub use answer::Answer;
pub use attribute::{Attribute, Attributes, attributes};
pub use builder::{Builder, Nest};
pub use link::{LinkMessage, LinkState};
pub use message::{Body, Malformed, Message, Messages, flag, kind, messages};
pub use neighbour::{NeighbourMessage, NeighbourSkip};
pub use next_hop::{Member, NextHopMessage, Object};
pub use request::{RouteFilter, request_dump, request_neighbours, request_routes};
pub use route::{RouteMessage, RouteSkip, Unencodable, attributes_of_hops};
