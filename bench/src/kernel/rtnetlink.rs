//! rtnetlink messages (`rtnetlink(7)`): the few that the rival needs.

use std::net::IpAddr;

use crate::routes::{GATEWAYS, LINKS, NextHop, Prefix};

pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;
pub(crate) const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_DUMP: u16 = 0x300;
/// The table changed while it was dumped.
pub(crate) const NLM_F_DUMP_INTR: u16 = 0x10;

pub(crate) const RTNLGRP_IPV4_ROUTE: u32 = 7;
pub(crate) const RTNLGRP_IPV6_ROUTE: u32 = 11;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_NH_ID: u16 = 30;

const RT_TABLE_MAIN: u8 = 254;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_NOWHERE: u8 = 255;
const RTN_UNSPEC: u8 = 0;
const RTN_UNICAST: u8 = 1;
const RTNH_F_ONLINK: u32 = 4;
/// All routes of the bench carry this protocol, so that what the kernel adds by
/// itself (link-local routes) is not counted.
const RTPROT_BGP: u8 = 186;

/// The answer is the table's route, not what a packet makes of it.
const RTM_F_FIB_MATCH: u32 = 0x2000;

/// `struct rtmsg`.
const ROUTE_BYTES: usize = 12;
const HEADER_BYTES: usize = 16;
const FLAGS_OFFSET: usize = 6;

/// How routes name their next hops.
pub(crate) struct NextHops {
    /// Interface indexes of `Ethernet1`, `Ethernet2`, ….
    pub(crate) links: Vec<u32>,
    /// Those of the rule by the id of a next-hop object (`ip nexthop`), not by gateway and link.
    pub(crate) objects: bool,
}

impl NextHops {
    /// The object's id for a next hop of the rule.
    pub(crate) fn object(next_hop: NextHop) -> Option<u32> {
        let family = if next_hop.gateway.is_ipv4() { 0 } else { (GATEWAYS * LINKS) as u32 };
        Some(1 + family + next_hop.number()?)
    }
}

/// Appends a message that sets (`replace`) or deletes a route of the main table.
pub(crate) fn push_route(
    out: &mut Vec<u8>,
    prefix: Prefix,
    to: Option<NextHop>,
    next_hops: &NextHops,
) {
    let object = to.filter(|_| next_hops.objects).and_then(NextHops::object);
    let begin = out.len();
    let (kind, flags) = match to {
        Some(_) => (RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE),
        None => (RTM_DELROUTE, NLM_F_REQUEST),
    };
    push_header(out, kind, flags);
    let (scope, route_type) = match to {
        Some(_) => (RT_SCOPE_UNIVERSE, RTN_UNICAST),
        None => (RT_SCOPE_NOWHERE, RTN_UNSPEC),
    };
    // struct rtmsg: family, destination and source length, tos, table,
    // protocol, scope, type, flags. The gateways are on no link's subnet.
    let flags = if to.is_some() && object.is_none() { RTNH_F_ONLINK } else { 0 };
    let family = family(prefix.address);
    out.extend([family, prefix.length, 0, 0, RT_TABLE_MAIN, RTPROT_BGP, scope, route_type]);
    out.extend(flags.to_ne_bytes());
    push_address(out, RTA_DST, prefix.address);
    if let Some(object) = object {
        push_attribute(out, RTA_NH_ID, &object.to_ne_bytes());
    } else if let Some(next_hop) = to {
        push_address(out, RTA_GATEWAY, next_hop.gateway);
        push_attribute(out, RTA_OIF, &next_hops.links[usize::from(next_hop.link)].to_ne_bytes());
    }
    finish(out, begin);
}

/// Appends a request for the whole table of one family.
pub(crate) fn push_dump(out: &mut Vec<u8>, of: IpAddr) {
    let begin = out.len();
    push_header(out, RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP);
    out.extend([family(of), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    finish(out, begin);
}

/// Appends a request for the route that an address takes, as the table has it.
pub(crate) fn push_lookup(out: &mut Vec<u8>, address: IpAddr) {
    let begin = out.len();
    push_header(out, RTM_GETROUTE, NLM_F_REQUEST);
    let bits = if address.is_ipv4() { 32 } else { 128 };
    out.extend([family(address), bits, 0, 0, 0, 0, 0, 0]);
    out.extend(RTM_F_FIB_MATCH.to_ne_bytes());
    push_address(out, RTA_DST, address);
    finish(out, begin);
}

/// Asks for an acknowledgement of the message that begins at `begin`.
pub(crate) fn ask_ack(out: &mut [u8], begin: usize) {
    out[begin + FLAGS_OFFSET] |= NLM_F_ACK as u8;
}

/// A message as received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) body: &'a [u8],
}

impl Message<'_> {
    /// A route of the bench, set or deleted.
    pub(crate) fn is_route(&self) -> bool {
        matches!(self.kind, RTM_NEWROUTE | RTM_DELROUTE) && self.body.get(5) == Some(&RTPROT_BGP)
    }

    /// The gateway of a route of the bench, of the family of `like`.
    pub(crate) fn gateway(&self, like: IpAddr) -> Option<IpAddr> {
        let mut rest = self.is_route().then_some(self.body)?.get(ROUTE_BYTES..)?;
        loop {
            let header = rest.first_chunk::<4>()?;
            let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
            let value = rest.get(4..length)?;
            if u16::from_ne_bytes([header[2], header[3]]) == RTA_GATEWAY {
                return match like {
                    IpAddr::V4(_) => Some(IpAddr::from(*value.first_chunk::<4>()?)),
                    IpAddr::V6(_) => Some(IpAddr::from(*value.first_chunk::<16>()?)),
                };
            }
            rest = rest.get(length.next_multiple_of(4)..)?;
        }
    }

    /// For `NLMSG_ERROR`: 0 is an acknowledgement, else a negative errno.
    pub(crate) fn error(&self) -> i32 {
        self.body.first_chunk().map_or(-libc::EBADMSG, |bytes| i32::from_ne_bytes(*bytes))
    }
}

/// The messages of one datagram. What is cut off ends it.
pub(crate) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
        let message = datagram.get(..length)?;
        let header = message.first_chunk::<HEADER_BYTES>()?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            body: &message[HEADER_BYTES..],
        })
    })
}

fn family(of: IpAddr) -> u8 {
    (if of.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn push_header(out: &mut Vec<u8>, kind: u16, flags: u16) {
    out.extend(0u32.to_ne_bytes()); // length, set by `finish`
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend([0; 8]); // sequence number and port: nobody asks
}

fn push_address(out: &mut Vec<u8>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(address) => push_attribute(out, kind, &address.octets()),
        IpAddr::V6(address) => push_attribute(out, kind, &address.octets()),
    }
}

/// All attributes used here have a multiple of four bytes, so none is padded.
fn push_attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend((value.len() as u16 + 4).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
}

fn finish(out: &mut [u8], begin: usize) {
    let length = (out.len() - begin) as u32;
    out[begin..begin + 4].copy_from_slice(&length.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_walked() {
        let prefix = Prefix { address: "1.2.3.0".parse().unwrap(), length: 24 };
        let next_hop = NextHop::numbered(4, 5, prefix.address);
        let mut next_hops = NextHops { links: (10..42).collect(), objects: false };
        let mut bytes = Vec::new();
        push_route(&mut bytes, prefix, Some(next_hop), &next_hops);
        assert_eq!(bytes.len(), 16 + 12 + 8 + 8 + 8);
        let second = bytes.len();
        push_route(&mut bytes, prefix, None, &next_hops);
        ask_ack(&mut bytes, second);
        let walked: Vec<(u16, u16)> =
            messages(&bytes).map(|message| (message.kind, message.flags)).collect();
        assert_eq!(walked, [(RTM_NEWROUTE, 0x501), (RTM_DELROUTE, 0x5)]);
        assert!(messages(&bytes).all(|message| message.is_route()));
        assert_eq!(bytes[16 + 12 + 16 + 4], 15, "the sixth link's index");
        assert_eq!(messages(&bytes[..second + 20]).count(), 1, "a cut message is no message");
        next_hops.objects = true;
        let mut by_object = Vec::new();
        push_route(&mut by_object, prefix, Some(next_hop), &next_hops);
        assert_eq!(by_object.len(), bytes[..second].len() - 8);
        assert_eq!(by_object.last_chunk(), Some(&(1 + 4 * 32 + 5u32).to_ne_bytes()));
    }
}
