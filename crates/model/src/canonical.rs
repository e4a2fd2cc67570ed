//! Canonical bytes: the one encoding of an entity, little-endian.
//!
//! They stand in records on the wire and are what digests cover, so a client
//! digests the bytes as they came. Addresses are in network byte order. Drawn
//! in `docs/wire.md`; eight bytes a line:
//!
//! ```text
//! route, IPv4 (key 16, value 8, attributes)
//!   0 | table u32                 | metric u32                |
//!   8 | address 4                 | len u8| tos u8| ordinal u16
//!  16 | group u32                 | type  | proto | scope | dist
//!  24 | attributes: TLVs, padded to 8 ...                     |
//!
//! route, IPv6 (key 32, value 8, attributes)
//!   0 | table u32                 | metric u32                |
//!   8 | address 16                                            |
//!  16 |                                                       |
//!  24 | len u8| tos u8| ordinal u16| zero 4                   |
//!  32 | group u32                 | type  | proto | scope | dist
//!  40 | attributes ...                                        |
//!
//! neighbour (key 24, value 16)
//!   0 | address 16 (IPv4: the first 4, then zeros)            |
//!   8 |                                                       |
//!  16 | link u32 (0: none)        | family| zero 3            |
//!  24 | mac 6                                 | has   | flags |
//!  32 | state u16     | proto | zero 5                        |
//!
//! link (key 8, value 16)
//!   0 | id u32                    | ifindex u32               |
//!   8 | name 16, padded with zeros                            |
//!  16 |                                                       |
//!
//! group (key 8, value 8 + 24 a next hop)
//!   0 | id u32                    | zero 4                    |
//!   8 | nhid u32                  | hops u16      | zero 2    |
//!  16 | link u32 (0: none)        | weight u16    | flags | family (0: no gateway)
//!  24 | gateway 16                                            |
//!  32 |                                                       |
//! ```
//!
//! A link's key is its id alone: bytes 4 to 7 belong to the value there, and a
//! record that deletes a link has zeros in them.

use std::net::IpAddr;

use crate::group::{Group, GroupId, HOPS_MAX, HopFlags, NextHop, WEIGHT_MAX};
use crate::link::{Link, LinkId, LinkName};
use crate::neighbour::{Mac, Neighbour, NeighbourKey, NeighbourValue, NudState};
use crate::prefix::{Family, Prefix};
use crate::route::{Attrs, Route, RouteKey, RouteType, RouteValue};

/// What an entity is; the numbers are the wire's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum EntityKind {
    /// A link.
    Link = 1,
    /// A next-hop group.
    Group = 2,
    /// An IPv4 route.
    Route4 = 3,
    /// An IPv6 route.
    Route6 = 4,
    /// A neighbour.
    Neighbour = 5,
}

impl EntityKind {
    /// All five, in the order of their numbers.
    pub const ALL: [EntityKind; 5] = [
        EntityKind::Link,
        EntityKind::Group,
        EntityKind::Route4,
        EntityKind::Route6,
        EntityKind::Neighbour,
    ];

    /// Bytes of the key: what a delete carries.
    pub const fn key_bytes(self) -> usize {
        match self {
            EntityKind::Link | EntityKind::Group => 8,
            EntityKind::Route4 => 16,
            EntityKind::Route6 => 32,
            EntityKind::Neighbour => 24,
        }
    }

    /// The kind of a route of this family.
    pub const fn route(family: Family) -> EntityKind {
        match family {
            Family::V4 => EntityKind::Route4,
            Family::V6 => EntityKind::Route6,
        }
    }
}

/// Any entity.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Entity {
    /// A link.
    Link(Link),
    /// A next-hop group.
    Group(Group),
    /// A route.
    Route(Route),
    /// A neighbour.
    Neighbour(Neighbour),
}

/// The key of any entity.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EntityKey {
    /// A link's.
    Link(LinkId),
    /// A group's.
    Group(GroupId),
    /// A route's.
    Route(RouteKey),
    /// A neighbour's.
    Neighbour(NeighbourKey),
}

/// Bytes that are no entity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeError {
    /// What was being decoded.
    pub kind: EntityKind,
    /// What is wrong with it.
    pub why: &'static str,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a {:?} record: {}", self.kind, self.why)
    }
}

impl std::error::Error for DecodeError {}

impl Entity {
    /// Its kind.
    pub fn kind(&self) -> EntityKind {
        match self {
            Entity::Link(_) => EntityKind::Link,
            Entity::Group(_) => EntityKind::Group,
            Entity::Route(route) => EntityKind::route(route.key.prefix.family()),
            Entity::Neighbour(_) => EntityKind::Neighbour,
        }
    }

    /// Its key.
    pub fn key(&self) -> EntityKey {
        match self {
            Entity::Link(link) => EntityKey::Link(link.id),
            Entity::Group(group) => EntityKey::Group(group.id),
            Entity::Route(route) => EntityKey::Route(route.key),
            Entity::Neighbour(neighbour) => EntityKey::Neighbour(neighbour.key),
        }
    }

    /// Appends the canonical bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Entity::Link(link) => encode_link(link, out),
            Entity::Group(group) => encode_group(group, out),
            Entity::Route(route) => encode_route(&route.key, &route.value, out),
            Entity::Neighbour(neighbour) => encode_neighbour(neighbour, out),
        }
    }

    /// The entity of canonical bytes; nothing but canonical bytes is taken.
    pub fn decode(kind: EntityKind, bytes: &[u8]) -> Result<Entity, DecodeError> {
        match kind {
            EntityKind::Link => decode_link(bytes).map(Entity::Link),
            EntityKind::Group => decode_group(bytes).map(Entity::Group),
            EntityKind::Route4 | EntityKind::Route6 => decode_route(kind, bytes).map(Entity::Route),
            EntityKind::Neighbour => decode_neighbour(bytes).map(Entity::Neighbour),
        }
    }
}

impl EntityKey {
    /// Its kind.
    pub fn kind(&self) -> EntityKind {
        match self {
            EntityKey::Link(_) => EntityKind::Link,
            EntityKey::Group(_) => EntityKind::Group,
            EntityKey::Route(key) => EntityKind::route(key.prefix.family()),
            EntityKey::Neighbour(_) => EntityKind::Neighbour,
        }
    }

    /// Appends the canonical bytes of the key, [`EntityKind::key_bytes`] long.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            EntityKey::Link(LinkId(id)) | EntityKey::Group(GroupId(id)) => {
                out.extend_from_slice(&u64::from(*id).to_le_bytes());
            }
            EntityKey::Route(key) => encode_route_key(key, out),
            EntityKey::Neighbour(key) => encode_neighbour_key(key, out),
        }
    }

    /// The key of canonical bytes.
    pub fn decode(kind: EntityKind, bytes: &[u8]) -> Result<EntityKey, DecodeError> {
        if bytes.len() != kind.key_bytes() {
            return Err(DecodeError { kind, why: "the key's length is wrong" });
        }
        match kind {
            EntityKind::Link | EntityKind::Group => {
                let id = u32_at(bytes, 0);
                if id == 0 || u32_at(bytes, 4) != 0 {
                    return Err(DecodeError { kind, why: "the id is 0, or padding isn't" });
                }
                Ok(if kind == EntityKind::Link {
                    EntityKey::Link(LinkId(id))
                } else {
                    EntityKey::Group(GroupId(id))
                })
            }
            EntityKind::Route4 | EntityKind::Route6 => {
                decode_route_key(kind, bytes).map(EntityKey::Route)
            }
            EntityKind::Neighbour => decode_neighbour_key(bytes).map(EntityKey::Neighbour),
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Appends the canonical bytes of a link.
pub fn encode_link(link: &Link, out: &mut Vec<u8>) {
    out.extend_from_slice(&link.id.0.to_le_bytes());
    out.extend_from_slice(&link.ifindex.to_le_bytes());
    out.extend_from_slice(link.name.padded());
}

fn decode_link(bytes: &[u8]) -> Result<Link, DecodeError> {
    let kind = EntityKind::Link;
    let bytes: &[u8; 24] =
        bytes.try_into().map_err(|_| DecodeError { kind, why: "not 24 bytes" })?;
    let id = u32_at(bytes, 0);
    if id == 0 {
        return Err(DecodeError { kind, why: "the id is 0" });
    }
    let mut name = [0; LinkName::BYTES];
    name.copy_from_slice(&bytes[8..]);
    let name = LinkName::from_padded(&name)
        .map_err(|_| DecodeError { kind, why: "not an interface name" })?;
    Ok(Link { id: LinkId(id), name, ifindex: u32_at(bytes, 4) })
}

/// Appends the canonical bytes of a group.
pub fn encode_group(group: &Group, out: &mut Vec<u8>) {
    out.extend_from_slice(&u64::from(group.id.0).to_le_bytes());
    out.extend_from_slice(&group.nhid.to_le_bytes());
    out.extend_from_slice(&(group.hops.len() as u16).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    for hop in &group.hops {
        out.extend_from_slice(&hop.link.map_or(0, |link| link.0).to_le_bytes());
        out.extend_from_slice(&hop.weight.to_le_bytes());
        out.push(hop.flags.0);
        encode_address(hop.gateway, out);
    }
}

/// The family (0: no address), then 16 bytes.
fn encode_address(address: Option<IpAddr>, out: &mut Vec<u8>) {
    out.push(address.map_or(0, |a| Family::of(a) as u8));
    out.extend_from_slice(&padded(address));
}

fn padded(address: Option<IpAddr>) -> [u8; 16] {
    match address {
        None => [0; 16],
        Some(IpAddr::V4(a)) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&a.octets());
            bytes
        }
        Some(IpAddr::V6(a)) => a.octets(),
    }
}

/// The address of a family byte and 16 bytes: the reverse of [`padded`].
fn unpadded(family: u8, bytes: &[u8]) -> Option<Option<IpAddr>> {
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    match family {
        0 if bytes == [0; 16] => Some(None),
        4 if bytes[4..] == [0; 12] => {
            Some(Some(IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])))
        }
        6 => Some(Some(IpAddr::from(bytes))),
        _ => None,
    }
}

fn decode_group(bytes: &[u8]) -> Result<Group, DecodeError> {
    let fail = |why| DecodeError { kind: EntityKind::Group, why };
    if bytes.len() < 16 {
        return Err(fail("shorter than 16 bytes"));
    }
    let (id, count) = (u32_at(bytes, 0), usize::from(u16_at(bytes, 12)));
    if id == 0 || u32_at(bytes, 4) != 0 || u16_at(bytes, 14) != 0 {
        return Err(fail("the id is 0, or padding isn't"));
    }
    if count == 0 || count > HOPS_MAX || bytes.len() != 16 + 24 * count {
        return Err(fail("the number of next hops doesn't fit"));
    }
    let mut hops = Vec::with_capacity(count);
    for hop in bytes[16..].chunks_exact(24) {
        let (link, weight, flags) = (u32_at(hop, 0), u16_at(hop, 4), HopFlags(hop[6]));
        let gateway = unpadded(hop[7], &hop[8..]).ok_or(fail("not a gateway"))?;
        if weight == 0 || weight > WEIGHT_MAX {
            return Err(fail("the weight is not 1 to 256"));
        }
        if !HopFlags::ALL.contains(flags) {
            return Err(fail("an unknown next-hop flag"));
        }
        hops.push(NextHop { gateway, link: (link != 0).then_some(LinkId(link)), weight, flags });
    }
    Ok(Group { id: GroupId(id), nhid: u32_at(bytes, 8), hops })
}

fn encode_route_key(key: &RouteKey, out: &mut Vec<u8>) {
    match key.prefix.family() {
        Family::V4 => out.extend_from_slice(&route4_key(key)),
        Family::V6 => out.extend_from_slice(&route6_key(key)),
    }
}

/// The key bytes of an IPv4 route.
pub fn route4_key(key: &RouteKey) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&key.table.to_le_bytes());
    bytes[4..8].copy_from_slice(&key.metric.to_le_bytes());
    bytes[8..12].copy_from_slice(&((key.prefix.bits() >> 96) as u32).to_be_bytes());
    bytes[12] = key.prefix.len();
    bytes[13] = key.tos;
    bytes[14..].copy_from_slice(&key.ordinal.to_le_bytes());
    bytes
}

/// The key bytes of an IPv6 route.
pub fn route6_key(key: &RouteKey) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&key.table.to_le_bytes());
    bytes[4..8].copy_from_slice(&key.metric.to_le_bytes());
    bytes[8..24].copy_from_slice(&key.prefix.bits().to_be_bytes());
    bytes[24] = key.prefix.len();
    bytes[25] = key.tos;
    bytes[26..28].copy_from_slice(&key.ordinal.to_le_bytes());
    bytes
}

fn decode_route_key(kind: EntityKind, bytes: &[u8]) -> Result<RouteKey, DecodeError> {
    let (family, bits, rest) = if kind == EntityKind::Route4 {
        let address = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        (Family::V4, u128::from(address) << 96, &bytes[12..])
    } else {
        let mut address = [0; 16];
        address.copy_from_slice(&bytes[8..24]);
        if u32_at(bytes, 28) != 0 {
            return Err(DecodeError { kind, why: "padding is not 0" });
        }
        (Family::V6, u128::from_be_bytes(address), &bytes[24..])
    };
    let prefix = Prefix::from_bits(family, bits, rest[0])
        .ok_or(DecodeError { kind, why: "the mask is too long, or host bits are set" })?;
    Ok(RouteKey {
        table: u32_at(bytes, 0),
        prefix,
        tos: rest[1],
        metric: u32_at(bytes, 4),
        ordinal: u16_at(rest, 2),
    })
}

/// Appends the canonical bytes of a route.
pub fn encode_route(key: &RouteKey, value: &RouteValue, out: &mut Vec<u8>) {
    encode_route_key(key, out);
    out.extend_from_slice(&value.group.0.to_le_bytes());
    out.extend_from_slice(&[value.kind as u8, value.protocol, value.scope, value.distance]);
    out.extend_from_slice(value.attrs.bytes());
}

fn decode_route(kind: EntityKind, bytes: &[u8]) -> Result<Route, DecodeError> {
    let at = kind.key_bytes();
    if bytes.len() < at + 8 {
        return Err(DecodeError { kind, why: "too short" });
    }
    let key = decode_route_key(kind, &bytes[..at])?;
    let value = decode_route_value(kind, &bytes[at..])?;
    Ok(Route { key, value })
}

fn decode_route_value(kind: EntityKind, bytes: &[u8]) -> Result<RouteValue, DecodeError> {
    Ok(RouteValue {
        group: GroupId(u32_at(bytes, 0)),
        kind: RouteType::from_number(bytes[4])
            .ok_or(DecodeError { kind, why: "an unknown route type" })?,
        protocol: bytes[5],
        scope: bytes[6],
        distance: bytes[7],
        attrs: Attrs::from_canonical(&bytes[8..])
            .map_err(|_| DecodeError { kind, why: "attributes not in canonical form" })?,
    })
}

fn encode_neighbour_key(key: &NeighbourKey, out: &mut Vec<u8>) {
    out.extend_from_slice(&padded(Some(key.ip)));
    out.extend_from_slice(&key.link.map_or(0, |link| link.0).to_le_bytes());
    out.extend_from_slice(&[Family::of(key.ip) as u8, 0, 0, 0]);
}

fn decode_neighbour_key(bytes: &[u8]) -> Result<NeighbourKey, DecodeError> {
    let kind = EntityKind::Neighbour;
    let link = u32_at(bytes, 16);
    let ip = unpadded(bytes[20], &bytes[..16])
        .flatten()
        .ok_or(DecodeError { kind, why: "not an address" })?;
    if bytes[21..24] != [0; 3] {
        return Err(DecodeError { kind, why: "padding is not 0" });
    }
    Ok(NeighbourKey { ip, link: (link != 0).then_some(LinkId(link)) })
}

/// Appends the canonical bytes of a neighbour.
pub fn encode_neighbour(neighbour: &Neighbour, out: &mut Vec<u8>) {
    encode_neighbour_key(&neighbour.key, out);
    let value = &neighbour.value;
    out.extend_from_slice(&value.mac.map_or([0; 6], |mac| mac.0));
    out.extend_from_slice(&[u8::from(value.mac.is_some()), value.flags]);
    out.extend_from_slice(&value.state.0.to_le_bytes());
    out.extend_from_slice(&[value.protocol, 0, 0, 0, 0, 0]);
}

fn decode_neighbour(bytes: &[u8]) -> Result<Neighbour, DecodeError> {
    let fail = |why| DecodeError { kind: EntityKind::Neighbour, why };
    if bytes.len() != 40 {
        return Err(fail("not 40 bytes"));
    }
    let key = decode_neighbour_key(&bytes[..24])?;
    let mut mac = [0; 6];
    mac.copy_from_slice(&bytes[24..30]);
    let mac = match bytes[30] {
        0 if mac == [0; 6] => None,
        1 => Some(Mac(mac)),
        _ => return Err(fail("not a MAC address")),
    };
    if bytes[35..] != [0; 5] {
        return Err(fail("padding is not 0"));
    }
    let value = NeighbourValue {
        mac,
        state: NudState(u16_at(bytes, 32)),
        flags: bytes[31],
        protocol: bytes[34],
    };
    Ok(Neighbour { key, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::RouteAttrs;

    fn samples() -> Vec<Entity> {
        let route = |prefix: &str, attrs: Attrs| {
            Entity::Route(Route {
                key: RouteKey {
                    table: 254,
                    prefix: prefix.parse().unwrap(),
                    tos: 8,
                    metric: 20,
                    ordinal: 1,
                },
                value: RouteValue {
                    kind: RouteType::Unicast,
                    protocol: 186,
                    scope: 0,
                    distance: 20,
                    group: GroupId(7),
                    attrs,
                },
            })
        };
        let attrs =
            RouteAttrs { metrics: vec![(2, 1400)], ..RouteAttrs::default() }.encode().unwrap();
        vec![
            Entity::Link(Link { id: LinkId(3), name: "eth0".parse().unwrap(), ifindex: 2 }),
            Entity::Group(Group {
                id: GroupId(7),
                nhid: 0,
                hops: vec![
                    NextHop {
                        gateway: Some("10.0.0.1".parse().unwrap()),
                        link: Some(LinkId(3)),
                        weight: 1,
                        flags: HopFlags::ONLINK,
                    },
                    NextHop {
                        gateway: Some("fe80::1".parse().unwrap()),
                        link: None,
                        weight: 256,
                        flags: HopFlags::default(),
                    },
                ],
            }),
            route("10.0.0.0/8", Attrs::NONE),
            route("10.0.0.0/8", attrs.clone()),
            route("2001:db8::/32", attrs),
            Entity::Neighbour(Neighbour {
                key: NeighbourKey { ip: "10.1.1.1".parse().unwrap(), link: Some(LinkId(3)) },
                value: NeighbourValue {
                    mac: Some(Mac([2, 0, 0, 0, 0, 1])),
                    state: NudState::PERMANENT,
                    flags: 0,
                    protocol: 0,
                },
            }),
        ]
    }

    #[test]
    fn entities_survive_the_way_there_and_back() {
        for entity in samples() {
            let mut bytes = Vec::new();
            entity.encode(&mut bytes);
            assert_eq!(bytes.len() % 8, 0, "{entity:?}");
            assert_eq!(Entity::decode(entity.kind(), &bytes), Ok(entity.clone()));
            let mut key = Vec::new();
            entity.key().encode(&mut key);
            assert_eq!(key.len(), entity.kind().key_bytes());
            assert_eq!(EntityKey::decode(entity.kind(), &key), Ok(entity.key()));
            if entity.kind() != EntityKind::Link {
                assert!(bytes.starts_with(&key), "a key stands first: {entity:?}");
            }
        }
    }

    #[test]
    fn damaged_bytes_are_refused_or_another_entity() {
        for entity in samples() {
            let mut bytes = Vec::new();
            entity.encode(&mut bytes);
            for index in 0..bytes.len() {
                assert!(Entity::decode(entity.kind(), &bytes[..index]).as_ref() != Ok(&entity));
                for bit in 0..8 {
                    let mut damaged = bytes.clone();
                    damaged[index] ^= 1 << bit;
                    if let Ok(other) = Entity::decode(entity.kind(), &damaged) {
                        let mut again = Vec::new();
                        other.encode(&mut again);
                        assert_eq!(again, damaged, "one entity, one encoding");
                    }
                }
            }
        }
    }

    #[test]
    fn layouts_are_those_of_the_drawing() {
        let sizes: Vec<usize> = samples()
            .iter()
            .map(|entity| {
                let mut bytes = Vec::new();
                entity.encode(&mut bytes);
                bytes.len()
            })
            .collect();
        assert_eq!(sizes, [24, 64, 24, 40, 56, 40]);
    }
}
