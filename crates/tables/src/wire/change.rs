//! CHANGE: one change of a load, in the terms of whoever asks.
//!
//! A change names its links by name or ifindex and spells its next hops out
//! ([`rtm_model::Change`]); the daemon gives them ids. Which of the four it is
//! stands in bits 8 to 11 of the frame's flags.
//!
//! ```text
//! route (0 IPv4, 1 IPv6)
//!   0 | verb  | type  | proto | scope | dist  | has   | tos   | len   |
//!   8 | table u32                 | metric u32                |
//!  16 | ordinal u16 | hops u16    | nhid u32                  |
//!  24 | address 4 or 16, padded to 8                          |
//!     | next hops, attributes as canonical bytes              |
//!
//! neighbour (2)
//!   0 | verb  | has   | flags | proto | state u16   | link  | name's bytes
//!   8 | mac 6                                | family| zero  |
//!  16 | address 16 (IPv4: the first 4, then zeros)            |
//!  24 |                                                       |
//!     | name, or ifindex u32, padded to 8                     |
//!
//! link (3)
//!   0 | verb  | zero 3            | ifindex u32               |
//!   8 | name 16, padded with zeros                            |
//!  16 |                                                       |
//!
//! group (4)
//!   0 | verb  | zero  | hops u16  | nhid u32                  |
//!     | next hops                                             |
//!
//! a next hop
//!   0 | weight u16  | flags | family| link  | name's bytes | zero 2 |
//!     | gateway 0, 4 or 16, then name or ifindex u32, padded to 8  |
//! ```
//!
//! Family: 0 no gateway, 4, 6. Link: 0 none, 1 by name, 2 by ifindex. A
//! route's `has`: 1 metric, 2 ordinal, 4 protocol, 8 scope, 16 distance, 32
//! nhid names the source's group; type 0: none said. A neighbour's: 1 MAC, 2
//! state. A field that isn't there is 0.
//!
//! One change has one encoding, and only that is taken: whatever decodes
//! encodes to the same bytes again. (One next hop comes back as
//! [`Hops::One`], however it was given.) It is validated here as far as it can
//! be without a table; a change that passes can still be refused there.

use std::net::IpAddr;

use rtm_model::{
    ATTRS_BYTES_MAX, Attrs, Change, Family, GroupSpec, HOPS_MAX, HopSpec, Hops, LinkName, LinkRef,
    LinkSpec, Mac, NeighbourSpec, NudState, Prefix, RouteSpec, RouteType, Verb, WEIGHT_MAX,
};

use super::bytes::{Writer, u16_at, u32_at};
use super::{Frame, HEADER_BYTES, MUST_UNDERSTAND, WireError, frame_type};

/// The longest CHANGE: 512 next hops with an IPv6 gateway and a name each, and
/// all attributes that a route may have.
pub const CHANGE_FRAME_BYTES_MAX: usize =
    HEADER_BYTES + 24 + 16 + HOPS_MAX * (8 + 16 + 16) + ATTRS_BYTES_MAX;

mod has {
    pub(super) const METRIC: u8 = 1;
    pub(super) const ORDINAL: u8 = 2;
    pub(super) const PROTOCOL: u8 = 4;
    pub(super) const SCOPE: u8 = 8;
    pub(super) const DISTANCE: u8 = 16;
    pub(super) const NHID: u8 = 32;
    pub(super) const ALL: u8 = 63;
    /// Of a neighbour.
    pub(super) const MAC: u8 = 1;
    pub(super) const STATE: u8 = 2;
}

fn kind_flags(number: u16) -> u16 {
    MUST_UNDERSTAND | number << 8
}

/// Appends a CHANGE frame. At most [`HOPS_MAX`] next hops are written: who
/// makes a change with more has it refused before.
pub fn encode_change(change: &Change, out: &mut Vec<u8>) {
    match change {
        Change::Route(verb, route) => encode_route(*verb, route, out),
        Change::Neighbour(verb, neighbour) => encode_neighbour(*verb, neighbour, out),
        Change::Link(verb, link) => {
            Writer::new(out, frame_type::CHANGE, kind_flags(3))
                .bytes(&[*verb as u8, 0, 0, 0])
                .u32(link.ifindex)
                .bytes(link.name.padded())
                .finish();
        }
        Change::Group(verb, group) => {
            let hops = &group.hops[..group.hops.len().min(HOPS_MAX)];
            let mut writer = Writer::new(out, frame_type::CHANGE, kind_flags(4));
            writer.bytes(&[*verb as u8, 0]).u16(hops.len() as u16).u32(group.nhid);
            hops.iter().for_each(|hop| encode_hop(hop, &mut writer));
            writer.finish();
        }
    }
}

fn encode_route(verb: Verb, route: &RouteSpec, out: &mut Vec<u8>) {
    let family = route.prefix.family();
    let number = if family == Family::V4 { 0 } else { 1 };
    let mut has = 0;
    let mut flag = |bit, set: bool| has |= if set { bit } else { 0 };
    flag(has::METRIC, route.metric.is_some());
    flag(has::ORDINAL, route.ordinal.is_some());
    flag(has::PROTOCOL, route.protocol.is_some());
    flag(has::SCOPE, route.scope.is_some());
    flag(has::DISTANCE, route.distance.is_some());
    flag(has::NHID, matches!(route.hops, Hops::Named(_)));
    let hops = route.hops.as_slice();
    let hops = &hops[..hops.len().min(HOPS_MAX)];
    let mut writer = Writer::new(out, frame_type::CHANGE, kind_flags(number));
    writer.bytes(&[
        verb as u8,
        route.kind.map_or(0, |kind| kind as u8),
        route.protocol.unwrap_or(0),
        route.scope.unwrap_or(0),
        route.distance.unwrap_or(0),
        has,
        route.tos,
        route.prefix.len(),
    ]);
    writer.u32(route.table).u32(route.metric.unwrap_or(0));
    writer.u16(route.ordinal.unwrap_or(0)).u16(hops.len() as u16);
    writer.u32(if let Hops::Named(nhid) = route.hops { nhid } else { 0 });
    let bits = route.prefix.bits().to_be_bytes();
    writer.bytes(if family == Family::V4 { &bits[..4] } else { &bits }).pad(8);
    hops.iter().for_each(|hop| encode_hop(hop, &mut writer));
    writer.bytes(route.attrs.bytes()).finish();
}

fn link_head(link: Option<&LinkRef>) -> [u8; 2] {
    match link {
        None => [0, 0],
        Some(LinkRef::Name(name)) => [1, name.as_bytes().len() as u8],
        Some(LinkRef::Ifindex(_)) => [2, 0],
    }
}

fn encode_link_ref(link: Option<&LinkRef>, writer: &mut Writer<'_>) {
    match link {
        None => {}
        Some(LinkRef::Name(name)) => {
            writer.bytes(name.as_bytes());
        }
        Some(LinkRef::Ifindex(ifindex)) => {
            writer.u32(*ifindex);
        }
    }
    writer.pad(8);
}

fn encode_hop(hop: &HopSpec, writer: &mut Writer<'_>) {
    let [link, name] = link_head(hop.link.as_ref());
    let family = hop.gateway.map_or(0, |gateway| Family::of(gateway) as u8);
    writer.u16(hop.weight).bytes(&[hop.flags.0, family, link, name, 0, 0]);
    match hop.gateway {
        None => {}
        Some(IpAddr::V4(gateway)) => {
            writer.bytes(&gateway.octets());
        }
        Some(IpAddr::V6(gateway)) => {
            writer.bytes(&gateway.octets());
        }
    }
    encode_link_ref(hop.link.as_ref(), writer);
}

fn encode_neighbour(verb: Verb, neighbour: &NeighbourSpec, out: &mut Vec<u8>) {
    let mut has = 0;
    if neighbour.mac.is_some() {
        has |= has::MAC;
    }
    if neighbour.state.is_some() {
        has |= has::STATE;
    }
    let [link, name] = link_head(neighbour.link.as_ref());
    let mut writer = Writer::new(out, frame_type::CHANGE, kind_flags(2));
    writer.bytes(&[verb as u8, has, neighbour.flags, neighbour.protocol]);
    writer.u16(neighbour.state.map_or(0, |state| state.0)).bytes(&[link, name]);
    writer.bytes(&neighbour.mac.map_or([0; 6], |mac| mac.0));
    writer.bytes(&[Family::of(neighbour.ip) as u8, 0]);
    match neighbour.ip {
        IpAddr::V4(ip) => writer.bytes(&ip.octets()).bytes(&[0; 12]),
        IpAddr::V6(ip) => writer.bytes(&ip.octets()),
    };
    encode_link_ref(neighbour.link.as_ref(), &mut writer);
    writer.finish();
}

/// Takes bytes off the front of a body.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(head)
    }

    /// `count` bytes and the zeros that pad them to eight.
    #[inline]
    fn take_padded(&mut self, count: usize) -> Option<&'a [u8]> {
        let bytes = self.take(count.next_multiple_of(8))?;
        if bytes.len() > count {
            // The last eight bytes end with the padding.
            let last = u64::from_le_bytes(*bytes.last_chunk()?);
            if last >> (64 - 8 * (bytes.len() - count)) != 0 {
                return None;
            }
        }
        Some(&bytes[..count])
    }
}

/// Decodes a CHANGE.
#[inline]
pub fn decode_change(frame: &Frame<'_>) -> Result<Change, WireError> {
    let mut change = no_change();
    decode_change_into(&mut change, frame)?;
    Ok(change)
}

/// Decodes a CHANGE into the place of another, which is filled in: a route has a hundred
/// and some bytes, and moving them from hand to hand took longer than decoding. After an
/// error it is some change.
#[inline]
pub(crate) fn decode_change_into(change: &mut Change, frame: &Frame<'_>) -> Result<(), WireError> {
    let mut reader = Reader { bytes: frame.body };
    let decoded = match frame.flags >> 8 {
        0 => decode_route_into(change, Family::V4, &mut reader),
        1 => decode_route_into(change, Family::V6, &mut reader),
        2 => decode_neighbour(&mut reader).map(|new| *change = new),
        3 => decode_link(&mut reader).map(|new| *change = new),
        4 => decode_group(&mut reader).map(|new| *change = new),
        _ => Err("of an unknown kind"),
    };
    decoded.map_err(|why| frame.wrong(why))?;
    if !reader.bytes.is_empty() {
        return Err(frame.wrong("bytes behind the change"));
    }
    Ok(())
}

/// A change that is to be filled in.
pub(crate) fn no_change() -> Change {
    Change::Route(Verb::Add, RouteSpec::new(Prefix::default_of(Family::V4)))
}

type Decoded<T> = Result<T, &'static str>;
const CUT: &str = "it is cut off";

fn decode_verb(number: u8) -> Decoded<Verb> {
    Verb::from_number(number).ok_or("an unknown verb")
}

/// `value` if `bit` is set in `has`; else it must be 0.
fn optional<T: Copy + PartialEq + Default>(has: u8, bit: u8, value: T) -> Decoded<Option<T>> {
    if has & bit != 0 {
        return Ok(Some(value));
    }
    if value == T::default() { Ok(None) } else { Err("a field that isn't there is not 0") }
}

#[inline]
fn decode_route_into(change: &mut Change, family: Family, reader: &mut Reader<'_>) -> Decoded<()> {
    if !matches!(change, Change::Route(..)) {
        *change = no_change();
    }
    let Change::Route(verb, spec) = change else { return Ok(()) };
    decode_route(family, reader, verb, spec)
}

/// Fills in all of a route.
#[inline]
fn decode_route(
    family: Family,
    reader: &mut Reader<'_>,
    verb: &mut Verb,
    spec: &mut RouteSpec,
) -> Decoded<()> {
    let head: &[u8; 24] = reader.take(24).and_then(|head| head.first_chunk()).ok_or(CUT)?;
    *verb = decode_verb(head[0])?;
    let has = head[5];
    if has & !has::ALL != 0 {
        return Err("an unknown field");
    }
    let bits = match family {
        Family::V4 => match reader.take_padded(4).ok_or(CUT)? {
            &[a, b, c, d] => u128::from(u32::from_be_bytes([a, b, c, d])) << 96,
            _ => return Err(CUT),
        },
        Family::V6 => {
            let address = reader.take(16).and_then(|address| address.first_chunk()).ok_or(CUT)?;
            u128::from_be_bytes(*address)
        }
    };
    spec.prefix = Prefix::from_bits(family, bits, head[7])
        .ok_or("the mask is too long, or host bits are set")?;
    spec.table = u32_at(head, 8);
    spec.tos = head[6];
    spec.metric = optional(has, has::METRIC, u32_at(head, 12))?;
    spec.ordinal = optional(has, has::ORDINAL, u16_at(head, 16))?;
    spec.kind = match head[1] {
        0 => None,
        number => Some(RouteType::from_number(number).ok_or("an unknown route type")?),
    };
    spec.protocol = optional(has, has::PROTOCOL, head[2])?;
    spec.scope = optional(has, has::SCOPE, head[3])?;
    spec.distance = optional(has, has::DISTANCE, head[4])?;
    let count = usize::from(u16_at(head, 18));
    let nhid = optional(has, has::NHID, u32_at(head, 20))?;
    match (nhid, count) {
        (None, 0) => spec.hops = Hops::None,
        (None, 1) => {
            if !matches!(spec.hops, Hops::One(_)) {
                spec.hops = Hops::One(NO_HOP);
            }
            if let Hops::One(hop) = &mut spec.hops {
                decode_hop(reader, hop)?;
            }
        }
        (None, _) => spec.hops = Hops::Many(decode_hops(count, reader)?),
        (Some(nhid), 0) => spec.hops = Hops::Named(nhid),
        (Some(_), _) => return Err("both a named group and next hops"),
    }
    let attrs = std::mem::take(&mut reader.bytes);
    spec.attrs = Attrs::from_canonical(attrs).map_err(|_| "attributes not in canonical form")?;
    Ok(())
}

fn decode_hops(count: usize, reader: &mut Reader<'_>) -> Decoded<Vec<HopSpec>> {
    if count > HOPS_MAX {
        return Err("more than 512 next hops");
    }
    // A next hop has at least eight bytes: nothing is reserved that isn't there.
    if reader.bytes.len() < 8 * count {
        return Err(CUT);
    }
    let mut hops = vec![NO_HOP; count];
    hops.iter_mut().try_for_each(|hop| decode_hop(reader, hop))?;
    Ok(hops)
}

/// A next hop that is to be filled in.
const NO_HOP: HopSpec =
    HopSpec { gateway: None, link: None, weight: 1, flags: rtm_model::HopFlags(0) };

#[inline]
fn decode_hop(reader: &mut Reader<'_>, hop: &mut HopSpec) -> Decoded<()> {
    let head: &[u8; 8] = reader.take(8).and_then(|head| head.first_chunk()).ok_or(CUT)?;
    hop.weight = u16_at(head, 0);
    if hop.weight == 0 || hop.weight > WEIGHT_MAX {
        return Err("the weight is not 1 to 256");
    }
    hop.flags = rtm_model::HopFlags(head[2]);
    if !rtm_model::HopFlags::ALL.contains(hop.flags) {
        return Err("an unknown next-hop flag");
    }
    if head[6..] != [0; 2] {
        return Err("padding is not 0");
    }
    let gateway_bytes = match head[3] {
        0 => 0,
        4 => 4,
        6 => 16,
        _ => return Err("not a gateway's family"),
    };
    let link_bytes = link_bytes(head[4], head[5])?;
    let tail = reader.take_padded(gateway_bytes + link_bytes).ok_or(CUT)?;
    let (gateway, link) = tail.split_at_checked(gateway_bytes).ok_or(CUT)?;
    hop.gateway = match *gateway {
        [] => None,
        [a, b, c, d] => Some(IpAddr::from([a, b, c, d])),
        ref octets => octets.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
    };
    hop.link = decode_link_ref(head[4], link)?;
    Ok(())
}

fn link_bytes(how: u8, name_bytes: u8) -> Decoded<usize> {
    match (how, name_bytes) {
        (0, 0) => Ok(0),
        (1, 1..=15) => Ok(usize::from(name_bytes)),
        (2, 0) => Ok(4),
        _ => Err("not a link"),
    }
}

#[inline]
fn decode_link_ref(how: u8, bytes: &[u8]) -> Decoded<Option<LinkRef>> {
    match how {
        1 => {
            let name = LinkName::of_number(number(bytes), bytes.len());
            Ok(Some(LinkRef::Name(name.map_err(|_| "not an interface name")?)))
        }
        2 => Ok(Some(LinkRef::Ifindex(u32_at(bytes, 0)))),
        _ => Ok(None),
    }
}

/// Up to 16 bytes as a little-endian number.
#[inline]
fn number(bytes: &[u8]) -> u128 {
    // In two halves, of which each is read in two pieces that may overlap.
    let half = |bytes: &[u8]| match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            let last = u64::from(u32::from_le_bytes(*last)) << (8 * (bytes.len() - 4));
            u64::from(u32::from_le_bytes(*first)) | last
        }
        _ => bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)),
    };
    match bytes.split_first_chunk::<8>() {
        Some((low, high)) => u128::from(u64::from_le_bytes(*low)) | u128::from(half(high)) << 64,
        None => u128::from(half(bytes)),
    }
}

fn decode_neighbour(reader: &mut Reader<'_>) -> Decoded<Change> {
    let head = reader.take(32).ok_or(CUT)?;
    let verb = decode_verb(head[0])?;
    let has = head[1];
    if has & !(has::MAC | has::STATE) != 0 || head[15] != 0 {
        return Err("an unknown field");
    }
    let mut mac = [0; 6];
    mac.copy_from_slice(&head[8..14]);
    let mac = optional(has, has::MAC, mac)?.map(Mac);
    let state = optional(has, has::STATE, u16_at(head, 4))?.map(NudState);
    let ip = match head[14] {
        4 if head[20..32] == [0; 12] => IpAddr::from([head[16], head[17], head[18], head[19]]),
        6 => {
            let mut address = [0; 16];
            address.copy_from_slice(&head[16..32]);
            IpAddr::from(address)
        }
        _ => return Err("not an address"),
    };
    let link = reader.take_padded(link_bytes(head[6], head[7])?).ok_or(CUT)?;
    let link = decode_link_ref(head[6], link)?;
    let spec = NeighbourSpec { ip, link, mac, state, flags: head[2], protocol: head[3] };
    Ok(Change::Neighbour(verb, spec))
}

fn decode_link(reader: &mut Reader<'_>) -> Decoded<Change> {
    let bytes = reader.take(24).ok_or(CUT)?;
    if bytes[1..4] != [0; 3] {
        return Err("padding is not 0");
    }
    let mut name = [0; LinkName::BYTES];
    name.copy_from_slice(&bytes[8..]);
    let name = LinkName::from_padded(&name).map_err(|_| "not an interface name")?;
    Ok(Change::Link(decode_verb(bytes[0])?, LinkSpec { ifindex: u32_at(bytes, 4), name }))
}

fn decode_group(reader: &mut Reader<'_>) -> Decoded<Change> {
    let head = reader.take(8).ok_or(CUT)?;
    if head[1] != 0 {
        return Err("padding is not 0");
    }
    let hops = decode_hops(usize::from(u16_at(head, 2)), reader)?;
    Ok(Change::Group(decode_verb(head[0])?, GroupSpec { nhid: u32_at(head, 4), hops }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_its_bytes() {
        let bytes: Vec<u8> = (1..=16).map(|at| at * 15).collect();
        for count in 0..=16 {
            let mut whole = [0; 16];
            whole[..count].copy_from_slice(&bytes[..count]);
            assert_eq!(number(&bytes[..count]), u128::from_le_bytes(whole), "{count} bytes");
        }
    }
}
