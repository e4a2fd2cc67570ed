//! Changes: what a feed asks the tables to do, in the terms of whoever asks.
//!
//! A change names links by name or ifindex and spells next hops out; the
//! tables give them ids. Lines of the grammar, rtnetlink and FPM messages all
//! become these.

use std::net::IpAddr;

use crate::group::HopFlags;
use crate::link::LinkName;
use crate::names::{SCOPE_GLOBAL, SCOPE_HOST, SCOPE_LINK};
use crate::neighbour::{Mac, NudState};
use crate::prefix::{Family, Prefix};
use crate::route::{Attrs, RouteType, TABLE_MAIN};

/// What to do with an entity.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Verb {
    /// Make it; refused if it exists.
    Add = 1,
    /// Change it; refused if it is missing.
    Change = 2,
    /// Make or change it.
    Replace = 3,
    /// Make it behind equal ones (IPv4), or extend the group (IPv6).
    Append = 4,
    /// Make it before equal ones (IPv4); only the kernel and FRR do.
    Prepend = 5,
    /// Delete it; refused if it is missing.
    Delete = 6,
}

impl Verb {
    /// The verbs with their words in the grammar.
    pub const NAMES: [(Verb, &'static str); 6] = [
        (Verb::Add, "add"),
        (Verb::Change, "change"),
        (Verb::Replace, "replace"),
        (Verb::Append, "append"),
        (Verb::Prepend, "prepend"),
        (Verb::Delete, "del"),
    ];

    /// The word in the grammar.
    pub fn name(self) -> &'static str {
        Verb::NAMES[self as usize - 1].1
    }

    /// The verb with this number.
    pub fn from_number(number: u8) -> Option<Verb> {
        Verb::NAMES.get(usize::from(number).wrapping_sub(1)).map(|&(verb, _)| verb)
    }
}

/// A link as a feed names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LinkRef {
    /// By name.
    Name(LinkName),
    /// By the kernel's number, as rtnetlink does.
    Ifindex(u32),
}

/// One next hop as a feed spells it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HopSpec {
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// The outgoing interface.
    pub link: Option<LinkRef>,
    /// 1 to 256.
    pub weight: u16,
    /// Onlink, dead, linkdown.
    pub flags: HopFlags,
}

/// A route's next hops as a feed spells them.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Hops {
    /// None: blackhole and the like; or, in a delete, not said.
    #[default]
    None,
    /// One.
    One(HopSpec),
    /// Several.
    Many(Vec<HopSpec>),
    /// The source's named group (a kernel next-hop object, an FPM group).
    Named(u32),
}

impl Hops {
    /// Those spelled out.
    pub fn as_slice(&self) -> &[HopSpec] {
        match self {
            Hops::None | Hops::Named(_) => &[],
            Hops::One(hop) => std::slice::from_ref(hop),
            Hops::Many(hops) => hops,
        }
    }
}

/// A route as a feed spells it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RouteSpec {
    /// The routing table.
    pub table: u32,
    /// The destination.
    pub prefix: Prefix,
    /// The type of service.
    pub tos: u8,
    /// The metric; `None`: the family's default, or in a delete the lowest.
    pub metric: Option<u32>,
    /// Which of several equal ones, where the feed knows (kernel import does).
    pub ordinal: Option<u16>,
    /// Its type; `None` in a delete: any.
    pub kind: Option<RouteType>,
    /// Who made it; `None`: the source's own (static), in a delete any.
    pub protocol: Option<u8>,
    /// The scope; `None`: by type and next hop, as iproute2 does.
    pub scope: Option<u8>,
    /// The distance; `None`: the source's.
    pub distance: Option<u8>,
    /// Its next hops.
    pub hops: Hops,
    /// What few routes have.
    pub attrs: Attrs,
}

impl RouteSpec {
    /// A unicast route to `prefix` in table main, nothing else said.
    pub fn new(prefix: Prefix) -> RouteSpec {
        RouteSpec {
            table: TABLE_MAIN,
            prefix,
            tos: 0,
            metric: None,
            ordinal: None,
            kind: None,
            protocol: None,
            scope: None,
            distance: None,
            hops: Hops::None,
            attrs: Attrs::NONE,
        }
    }

    /// The scope of a route that names none, as iproute2 has it
    /// (`iproute_modify`): IPv6 has only `global`; in IPv4 `host` for local and
    /// nat, `link` for broadcast, multicast and anycast, and for a unicast
    /// route without gateway; else `global`.
    pub fn default_scope(&self) -> u8 {
        if self.prefix.family() == Family::V6 {
            return SCOPE_GLOBAL;
        }
        match self.kind.unwrap_or(RouteType::Unicast) {
            RouteType::Local | RouteType::Nat => SCOPE_HOST,
            RouteType::Broadcast | RouteType::Multicast | RouteType::Anycast => SCOPE_LINK,
            RouteType::Unicast => match &self.hops {
                Hops::None => SCOPE_LINK,
                Hops::One(hop) if hop.gateway.is_none() => SCOPE_LINK,
                Hops::One(_) | Hops::Many(_) | Hops::Named(_) => SCOPE_GLOBAL,
            },
            _ => SCOPE_GLOBAL,
        }
    }
}

/// A neighbour as a feed spells it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NeighbourSpec {
    /// The IP address.
    pub ip: IpAddr,
    /// The link; may be absent for an entry by hand. In a delete: any.
    pub link: Option<LinkRef>,
    /// The link-layer address.
    pub mac: Option<Mac>,
    /// The state; `None`: permanent for `add`, as it was for `change`.
    pub state: Option<NudState>,
    /// The kernel's `NTF_` bits.
    pub flags: u8,
    /// Who made it; 0: not said.
    pub protocol: u8,
}

/// A link as a feed knows it: a name, a number, or a rename of that number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LinkSpec {
    /// The kernel's number.
    pub ifindex: u32,
    /// Its name.
    pub name: LinkName,
}

/// A named group as a feed knows it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct GroupSpec {
    /// Its number at the source.
    pub nhid: u32,
    /// Its next hops.
    pub hops: Vec<HopSpec>,
}

/// One change that a feed asks for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Change {
    /// A route.
    Route(Verb, RouteSpec),
    /// A neighbour.
    Neighbour(Verb, NeighbourSpec),
    /// A kernel link appeared or has another name (replace), or went (del).
    Link(Verb, LinkSpec),
    /// A named group (replace, del).
    Group(Verb, GroupSpec),
}
