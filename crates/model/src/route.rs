//! Routes: key and value.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::group::GroupId;
use crate::prefix::{Family, Prefix};

/// The table that a route without one belongs to (`RT_TABLE_MAIN`).
pub const TABLE_MAIN: u32 = 254;

/// The metric of an IPv6 route that names none or 0, as the kernel has it
/// (`IP6_RT_PRIO_USER`).
pub const METRIC_V6: u32 = 1024;

/// What tells routes apart.
///
/// Ordered by table, prefix, tos, metric, ordinal: the order of every listing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RouteKey {
    /// The routing table; 254 is main.
    pub table: u32,
    /// The destination.
    pub prefix: Prefix,
    /// The type of service; 0: any.
    pub tos: u8,
    /// The kernel's priority: among equal prefixes the lowest wins.
    pub metric: u32,
    /// Counts the IPv4 routes that `append` put behind an equal one; 0: the first.
    pub ordinal: u16,
}

/// What is done with a packet: all of rtnetlink's types (`RTN_`, rtnetlink.h).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum RouteType {
    /// Sent by its next hop.
    Unicast = 1,
    /// Delivered here.
    Local = 2,
    /// Delivered here as broadcast, sent as broadcast.
    Broadcast = 3,
    /// Delivered here as broadcast, sent as unicast.
    Anycast = 4,
    /// Multicast.
    Multicast = 5,
    /// Dropped.
    Blackhole = 6,
    /// Refused: host unreachable.
    Unreachable = 7,
    /// Refused: administratively prohibited.
    Prohibit = 8,
    /// Look-up goes on in the next table.
    Throw = 9,
    /// Translated (the kernel refuses it since 2.6).
    Nat = 10,
    /// Left to an external resolver.
    Xresolve = 11,
}

impl RouteType {
    /// The types with their names in `ip`, in the order of their numbers.
    pub const NAMES: [(RouteType, &'static str); 11] = [
        (RouteType::Unicast, "unicast"),
        (RouteType::Local, "local"),
        (RouteType::Broadcast, "broadcast"),
        (RouteType::Anycast, "anycast"),
        (RouteType::Multicast, "multicast"),
        (RouteType::Blackhole, "blackhole"),
        (RouteType::Unreachable, "unreachable"),
        (RouteType::Prohibit, "prohibit"),
        (RouteType::Throw, "throw"),
        (RouteType::Nat, "nat"),
        (RouteType::Xresolve, "xresolve"),
    ];

    /// The type with this `RTN_` number.
    pub fn from_number(number: u8) -> Option<RouteType> {
        RouteType::NAMES.get(usize::from(number).wrapping_sub(1)).map(|&(kind, _)| kind)
    }

    /// The name in `ip`.
    pub fn name(self) -> &'static str {
        RouteType::NAMES[self as usize - 1].1
    }

    /// Does a route of this type need a next hop (a gateway or a link)?
    pub fn wants_next_hop(self) -> bool {
        matches!(
            self,
            RouteType::Unicast
                | RouteType::Local
                | RouteType::Broadcast
                | RouteType::Anycast
                | RouteType::Multicast
        )
    }
}

/// A route's value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RouteValue {
    /// Unicast, blackhole, ….
    pub kind: RouteType,
    /// Who made it (`rtm_protocol`): 4 static, 186 bgp, ….
    pub protocol: u8,
    /// `rtm_scope`: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// Trust in its source: the lowest wins; 255 is never used.
    pub distance: u8,
    /// Its next hops.
    pub group: GroupId,
    /// What few routes have.
    pub attrs: Attrs,
}

/// A route: key and value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Route {
    /// Which.
    pub key: RouteKey,
    /// What.
    pub value: RouteValue,
}

/// A distance that is never used: such a candidate doesn't win.
pub const DISTANCE_NEVER: u8 = 255;

/// The IPv6 router preference (RFC 4191; `RTA_PREF`): 0 medium, 1 high,
/// 3 low.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct RouterPreference(pub u8);

impl RouterPreference {
    /// The default.
    pub const MEDIUM: RouterPreference = RouterPreference(0);
    /// Preferred.
    pub const HIGH: RouterPreference = RouterPreference(1);
    /// Last choice.
    pub const LOW: RouterPreference = RouterPreference(3);

    /// The name in `ip`.
    pub fn name(self) -> Option<&'static str> {
        match self.0 {
            0 => Some("medium"),
            1 => Some("high"),
            3 => Some("low"),
            _ => None,
        }
    }
}

/// The attributes that few routes have, spelled out. What a route stores is
/// their canonical bytes: [`Attrs`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct RouteAttrs {
    /// `rtm_flags` that mean something beyond one dump.
    pub flags: u32,
    /// The source address that this host uses on this route.
    pub prefsrc: Option<IpAddr>,
    /// The IPv6 router preference.
    pub pref: RouterPreference,
    /// `RTA_METRICS`: (`RTAX_` number, value), ascending: mtu, advmss, ….
    pub metrics: Vec<(u16, u32)>,
    /// `RTAX_CC_ALGO`: the congestion control's name; empty: none.
    pub congestion: Vec<u8>,
    /// Attributes that we don't know: (`RTA_` number, bytes), ascending.
    pub opaque: Vec<(u16, Vec<u8>)>,
}

/// The most bytes that a route's attributes may take: with it, no route's
/// record is over 4 KiB, and a frame or an output buffer holds several.
pub const ATTRS_BYTES_MAX: usize = 4000;

mod tlv {
    pub(super) const FLAGS: u16 = 1;
    pub(super) const PREFSRC: u16 = 2;
    pub(super) const PREF: u16 = 3;
    pub(super) const METRIC: u16 = 4;
    pub(super) const CONGESTION: u16 = 5;
    /// `OPAQUE + n` is the unknown `RTA_` attribute n.
    pub(super) const OPAQUE: u16 = 0x1000;
}

/// Why attributes can't be encoded or decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AttrsError {
    /// Over [`ATTRS_BYTES_MAX`].
    TooLong {
        /// The bytes they would take.
        bytes: usize,
    },
    /// A number that can't be an attribute's (over 0xefff).
    Number(u16),
    /// The bytes are not the canonical ones of any attributes.
    NotCanonical,
}

impl fmt::Display for AttrsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttrsError::TooLong { bytes } => {
                write!(
                    f,
                    "the route's attributes take {bytes} bytes; at most {ATTRS_BYTES_MAX} are possible"
                )
            }
            AttrsError::Number(number) => {
                write!(f, "{number} can't be an attribute's number; 0 to 61439 are valid")
            }
            AttrsError::NotCanonical => {
                f.write_str("the route's attributes are not in canonical form")
            }
        }
    }
}

impl std::error::Error for AttrsError {}

impl RouteAttrs {
    /// The canonical bytes (`docs/wire.md`): type-length-value, ascending, each
    /// padded to 4 bytes, the whole to 8. Equal attributes have equal bytes.
    pub fn encode(&self) -> Result<Attrs, AttrsError> {
        if *self == RouteAttrs::default() {
            return Ok(Attrs::NONE);
        }
        let mut out = Vec::new();
        if self.flags != 0 {
            push(&mut out, tlv::FLAGS, &self.flags.to_le_bytes());
        }
        match self.prefsrc {
            None => {}
            Some(IpAddr::V4(a)) => push(&mut out, tlv::PREFSRC, &a.octets()),
            Some(IpAddr::V6(a)) => push(&mut out, tlv::PREFSRC, &a.octets()),
        }
        if self.pref != RouterPreference::MEDIUM {
            push(&mut out, tlv::PREF, &[self.pref.0]);
        }
        let mut metrics = self.metrics.clone();
        metrics.sort_unstable();
        metrics.dedup_by_key(|m| m.0);
        for (kind, value) in metrics {
            let mut bytes = [0; 8];
            bytes[..2].copy_from_slice(&kind.to_le_bytes());
            bytes[4..].copy_from_slice(&value.to_le_bytes());
            push(&mut out, tlv::METRIC, &bytes);
        }
        if !self.congestion.is_empty() {
            push(&mut out, tlv::CONGESTION, &self.congestion);
        }
        let mut opaque: Vec<&(u16, Vec<u8>)> = self.opaque.iter().collect();
        opaque.sort();
        for (number, bytes) in opaque {
            let kind = tlv::OPAQUE.checked_add(*number).ok_or(AttrsError::Number(*number))?;
            if bytes.len() > ATTRS_BYTES_MAX {
                return Err(AttrsError::TooLong { bytes: bytes.len() });
            }
            push(&mut out, kind, bytes);
        }
        out.resize(out.len().next_multiple_of(8), 0);
        if out.len() > ATTRS_BYTES_MAX {
            return Err(AttrsError::TooLong { bytes: out.len() });
        }
        Ok(Attrs(Some(out.into())))
    }
}

fn push(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// A route's rare attributes as canonical bytes; cheap to clone. Most routes
/// have none, and these cost a word.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Attrs(Option<Arc<[u8]>>);

impl Attrs {
    /// No attribute.
    pub const NONE: Attrs = Attrs(None);

    /// From bytes off the wire; they must be exactly what
    /// [`RouteAttrs::encode`] makes.
    #[inline]
    pub fn from_canonical(bytes: &[u8]) -> Result<Attrs, AttrsError> {
        if bytes.is_empty() {
            return Ok(Attrs::NONE);
        }
        Attrs::from_some_canonical(bytes)
    }

    fn from_some_canonical(bytes: &[u8]) -> Result<Attrs, AttrsError> {
        let attrs = decode(bytes).ok_or(AttrsError::NotCanonical)?.encode()?;
        if attrs.bytes() != bytes {
            return Err(AttrsError::NotCanonical);
        }
        Ok(attrs)
    }

    /// The canonical bytes; empty if there is no attribute.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Is there none?
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Spelled out.
    pub fn decode(&self) -> RouteAttrs {
        decode(self.bytes()).unwrap_or_default()
    }
}

impl fmt::Debug for Attrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.decode().fmt(f)
    }
}

fn decode(mut bytes: &[u8]) -> Option<RouteAttrs> {
    let mut attrs = RouteAttrs::default();
    while bytes.len() >= 4 {
        let kind = u16::from_le_bytes([bytes[0], bytes[1]]);
        if kind == 0 {
            break; // The padding to 8 bytes; anything else there fails the comparison.
        }
        let len = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
        let value = bytes.get(4..4 + len)?;
        match kind {
            tlv::FLAGS => attrs.flags = u32::from_le_bytes(value.try_into().ok()?),
            tlv::PREFSRC => {
                attrs.prefsrc = Some(match len {
                    4 => IpAddr::from(<[u8; 4]>::try_from(value).ok()?),
                    _ => IpAddr::from(<[u8; 16]>::try_from(value).ok()?),
                });
            }
            tlv::PREF => attrs.pref = RouterPreference(*value.first()?),
            tlv::METRIC => {
                let value: [u8; 8] = value.try_into().ok()?;
                let kind = u16::from_le_bytes([value[0], value[1]]);
                attrs.metrics.push((kind, u32::from_le_bytes(value[4..].try_into().ok()?)));
            }
            tlv::CONGESTION => attrs.congestion = value.to_vec(),
            kind => attrs.opaque.push((kind.checked_sub(tlv::OPAQUE)?, value.to_vec())),
        }
        bytes = bytes.get(4 + len.next_multiple_of(4)..)?;
    }
    Some(attrs)
}

impl RouteKey {
    /// A key in table main with tos 0, no metric given, ordinal 0.
    pub fn main(prefix: Prefix) -> RouteKey {
        RouteKey {
            table: TABLE_MAIN,
            prefix,
            tos: 0,
            metric: default_metric(prefix.family()),
            ordinal: 0,
        }
    }
}

/// The metric of a route that names none.
pub fn default_metric(family: Family) -> u32 {
    match family {
        Family::V4 => 0,
        Family::V6 => METRIC_V6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> RouteAttrs {
        RouteAttrs {
            flags: 0x400,
            prefsrc: Some("10.0.0.1".parse().unwrap()),
            pref: RouterPreference::LOW,
            metrics: vec![(2, 1400), (8, 1360)],
            congestion: b"bbr".to_vec(),
            opaque: vec![(22, vec![1, 2, 3]), (22, vec![9]), (30, vec![])],
        }
    }

    #[test]
    fn attributes_survive_the_way_there_and_back() {
        let attrs = full().encode().unwrap();
        assert_eq!(attrs.bytes().len() % 8, 0);
        assert_eq!(attrs.decode(), full());
        assert_eq!(Attrs::from_canonical(attrs.bytes()).unwrap(), attrs);
        assert!(RouteAttrs::default().encode().unwrap().is_none());
    }

    #[test]
    fn order_of_giving_does_not_matter() {
        let mut other = full();
        other.metrics.reverse();
        other.opaque.reverse();
        assert_eq!(other.encode().unwrap(), full().encode().unwrap());
    }

    #[test]
    fn no_other_bytes_are_taken() {
        let bytes = full().encode().unwrap().bytes().to_vec();
        for index in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[index] ^= 1 << bit;
                // Either refused, or other attributes whose canonical form this is.
                if let Ok(attrs) = Attrs::from_canonical(&damaged) {
                    assert_eq!(attrs.bytes(), damaged);
                    assert_ne!(attrs.decode(), full());
                }
            }
            let _ = Attrs::from_canonical(&bytes[..index]);
        }
        assert!(Attrs::from_canonical(&[0; 8]).is_err());
    }

    #[test]
    fn too_much_is_refused() {
        let attrs = RouteAttrs { opaque: vec![(40, vec![0; 5000])], ..RouteAttrs::default() };
        assert_eq!(attrs.encode(), Err(AttrsError::TooLong { bytes: 5000 }));
        let attrs = RouteAttrs { opaque: vec![(0xf000, vec![])], ..RouteAttrs::default() };
        assert_eq!(attrs.encode(), Err(AttrsError::Number(0xf000)));
    }

    #[test]
    fn types_and_numbers_agree() {
        for (kind, name) in RouteType::NAMES {
            assert_eq!(RouteType::from_number(kind as u8), Some(kind));
            assert_eq!(kind.name(), name);
        }
        assert_eq!(RouteType::from_number(0), None);
        assert_eq!(RouteType::from_number(12), None);
    }
}
