//! MRT table dumps: TABLE_DUMP_V2 of RouteViews and RIS (RFC 6396, 8050).
//!
//! ```text
//! a record   0 | timestamp u32             | type 13     | subtype     |
//!            8 | length u32                | body ...
//!
//! first      1  PEER_INDEX_TABLE     the peers that the entries name by number
//! then       2  RIB_IPV4_UNICAST     one prefix: an entry for each peer that has it
//!            4  RIB_IPV6_UNICAST
//!            6  RIB_GENERIC          the same with AFI and SAFI
//!            8, 10, 12               these three with path identifiers (RFC 8050)
//! ```
//!
//! Numbers are in network byte order. One record becomes at most one route: of
//! its entries, that of the peer asked for, or the one that the first steps of
//! BGP's decision would take (shortest AS path, then origin), and the lowest
//! peer address where these are equal: local preference and MED mean nothing
//! between peers that share nothing. Multicast and VPN records are passed over
//! and counted.
//!
//! A record is read whole, under a cap; what it says is walked in place. A
//! file that ends within a record ends in an error that names the record's
//! first byte: what stands before was whole and has been given out.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtm_model::text::PeerChoice;
use rtm_model::{Change, Family, HopFlags, HopSpec, Hops, Prefix, RouteSpec, RouteType, Verb};

use crate::error::{At, ErrorKind, FileError};
use crate::lines::Lines;
use crate::reader::Item;

/// The most bytes of one record: 65,535 entries (the most that a count can
/// name) of 256 bytes. Those of the largest collectors have some 100 KiB.
const RECORD_BYTES_MAX: usize = 16 << 20;

/// A record's header.
const HEADER_BYTES: usize = 12;

/// TABLE_DUMP_V2.
const TYPE_TABLE_DUMP_V2: u16 = 13;

/// The subtype of the record that names the peers.
const PEER_INDEX_TABLE: u16 = 1;

/// `rtm_protocol` of BGP (linux/rtnetlink.h).
const PROTOCOL_BGP: u8 = 186;

/// AFI and SAFI numbers (RFC 4760).
const AFI_IPV4: u16 = 1;
const AFI_IPV6: u16 = 2;
const SAFI_UNICAST: u8 = 1;

/// What a dump has held so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DumpCounts {
    /// Prefixes: whole records of unicast routes.
    pub prefixes: u64,
    /// Entries in them, of all peers.
    pub entries: u64,
    /// Peers that at least one entry is of.
    pub peers: u64,
    /// Prefixes that the chosen peer doesn't have, or nobody has a next hop for.
    pub without: u64,
    /// Records of other kinds: multicast, VPN, ….
    pub passed_over: u64,
}

#[derive(Debug)]
struct Peer {
    address: IpAddr,
    /// Are its entries among those asked for?
    wanted: bool,
    /// Did an entry name it?
    seen: bool,
}

/// A dump that is being read.
#[derive(Debug)]
pub(crate) struct Dump {
    choice: PeerChoice,
    peers: Vec<Peer>,
    counts: DumpCounts,
    body: Vec<u8>,
}

/// A record's head.
struct Head {
    /// Its first byte.
    at: u64,
    subtype: u16,
}

/// The entry of a record that is taken so far, as far as it decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Rank {
    path: u32,
    origin: u8,
    peer: IpAddr,
    number: u16,
}

/// What is wrong with a record's body.
type Wrong = &'static str;

impl Dump {
    pub(crate) fn new(choice: PeerChoice) -> Dump {
        Dump { choice, peers: Vec::new(), counts: DumpCounts::default(), body: Vec::new() }
    }

    pub(crate) fn counts(&self) -> DumpCounts {
        self.counts
    }

    /// The next route; `None` at the end.
    pub(crate) fn next<R: Read>(
        &mut self,
        lines: &mut Lines<R>,
    ) -> Result<Option<Item>, FileError> {
        loop {
            let Some(head) = self.record(lines)? else { return Ok(None) };
            let at = At::Byte(head.at);
            let wrong = |why: Wrong| FileError { at, kind: ErrorKind::Entry(why.to_owned()) };
            let body = std::mem::take(&mut self.body);
            let result = if head.subtype == PEER_INDEX_TABLE {
                // Without its peers nothing can be read.
                self.take_peers(&body).map_err(|kind| FileError { at, kind })?;
                Ok(None)
            } else {
                self.route(head.subtype, &body)
            };
            self.body = body;
            if let Some(spec) = result.map_err(wrong)? {
                return Ok(Some(Item { at, change: Change::Route(Verb::Replace, spec) }));
            }
        }
    }

    /// Reads a whole record into `self.body`. `None` at the end.
    fn record<R: Read>(&mut self, lines: &mut Lines<R>) -> Result<Option<Head>, FileError> {
        let at = lines.position();
        let cut = |error: FileError| FileError { at: At::Byte(at), kind: error.kind };
        let unfinished = || FileError { at: At::Byte(at), kind: ErrorKind::Unfinished };
        self.body.clear();
        if !lines.take(HEADER_BYTES, &mut self.body).map_err(cut)? {
            return if self.body.is_empty() { Ok(None) } else { Err(unfinished()) };
        }
        let word = |at: usize| u16::from_be_bytes([self.body[at], self.body[at + 1]]);
        let (kind, subtype) = (word(4), word(6));
        let length = usize::from(word(8)) << 16 | usize::from(word(10));
        if kind != TYPE_TABLE_DUMP_V2 {
            let why = format!(
                "an MRT record of type {kind}, subtype {subtype}; a table dump, type {TYPE_TABLE_DUMP_V2}, would be right"
            );
            return Err(FileError { at: At::Byte(at), kind: ErrorKind::Unusable(why) });
        }
        if length > RECORD_BYTES_MAX {
            let kind = ErrorKind::TooLong { bytes_max: RECORD_BYTES_MAX };
            return Err(FileError { at: At::Byte(at), kind });
        }
        self.body.clear();
        if !lines.take(length, &mut self.body).map_err(cut)? {
            return Err(unfinished());
        }
        Ok(Some(Head { at, subtype }))
    }

    fn take_peers(&mut self, body: &[u8]) -> Result<(), ErrorKind> {
        let mut peers = peers_of(body)
            .map_err(|why| ErrorKind::Corrupt { what: "MRT", why: why.to_owned() })?;
        for (number, peer) in peers.iter_mut().enumerate() {
            peer.wanted = match self.choice {
                PeerChoice::Best => true,
                PeerChoice::Index(wanted) => usize::from(wanted) == number,
                // Several may have it: a router with two sessions.
                PeerChoice::Address(wanted) => peer.address == wanted,
            };
        }
        if !peers.iter().any(|peer| peer.wanted) {
            let (count, last) = (peers.len(), peers.len().saturating_sub(1));
            match self.choice {
                PeerChoice::Best => {}
                PeerChoice::Index(number) => {
                    return Err(ErrorKind::Unusable(format!(
                        "no peer {number}; it has {count} peers: 0 to {last} would be right"
                    )));
                }
                PeerChoice::Address(address) => {
                    return Err(ErrorKind::Unusable(format!(
                        "no peer {address}; the address of one of its {count} peers, or best, would be right"
                    )));
                }
            }
        }
        self.peers = peers;
        Ok(())
    }

    /// One record's route.
    fn route(&mut self, subtype: u16, body: &[u8]) -> Result<Option<RouteSpec>, Wrong> {
        let mut bytes = Bytes(body);
        let (_sequence, short) = (bytes.u32()?, "the record ends within its prefix");
        let family = match subtype {
            2 | 8 => Some(Family::V4),
            4 | 10 => Some(Family::V6),
            6 | 12 => match (bytes.u16()?, bytes.u8()?) {
                (AFI_IPV4, SAFI_UNICAST) => Some(Family::V4),
                (AFI_IPV6, SAFI_UNICAST) => Some(Family::V6),
                _ => None,
            },
            _ => None,
        };
        let Some(family) = family else {
            self.counts.passed_over += 1;
            return Ok(None);
        };
        let with_path_id = subtype >= 8;
        let len = bytes.u8().map_err(|_| short)?;
        let address = bytes.take(usize::from(len.div_ceil(8))).map_err(|_| short)?;
        let prefix = prefix_of(family, len, address).ok_or("the prefix is too long")?;
        let count = bytes.u16()?;
        let mut best: Option<(Rank, HopSpec)> = None;
        let mut seen = 0;
        for _ in 0..count {
            let number = bytes.u16()?;
            let _originated = bytes.u32()?;
            if with_path_id {
                let _path_id = bytes.u32()?;
            }
            let length = bytes.u16()?;
            let attributes = bytes.take(usize::from(length))?;
            let peer = self.peers.get_mut(usize::from(number));
            let peer = peer.ok_or("an entry of a peer that the table of peers doesn't have")?;
            seen += u64::from(!std::mem::replace(&mut peer.seen, true));
            if !peer.wanted {
                continue;
            }
            let Attributes { path, origin, gateway } = attributes_of(attributes)?;
            let rank = Rank { path, origin, peer: peer.address, number };
            let Some(gateway) = gateway.filter(|gateway| suits(family, *gateway)) else { continue };
            if best.is_none_or(|(taken, _)| rank < taken) {
                let flags = HopFlags::default();
                best =
                    Some((rank, HopSpec { gateway: Some(gateway), link: None, weight: 1, flags }));
            }
        }
        if !bytes.0.is_empty() {
            return Err("something follows the record's last entry");
        }
        self.counts.prefixes += 1;
        self.counts.entries += u64::from(count);
        self.counts.peers += seen;
        let Some((_, hop)) = best else {
            self.counts.without += 1;
            return Ok(None);
        };
        let mut spec = RouteSpec::new(prefix);
        spec.kind = Some(RouteType::Unicast);
        spec.protocol = Some(PROTOCOL_BGP);
        spec.hops = Hops::One(hop);
        spec.scope = Some(spec.default_scope());
        Ok(Some(spec))
    }
}

/// Can a route of this family go that way? IPv4 also by way of IPv6 (RFC 8950).
fn suits(family: Family, gateway: IpAddr) -> bool {
    !gateway.is_unspecified() && (family == Family::V4 || gateway.is_ipv6())
}

/// The peers of a PEER_INDEX_TABLE.
fn peers_of(body: &[u8]) -> Result<Vec<Peer>, Wrong> {
    let mut bytes = Bytes(body);
    let _collector = bytes.u32()?;
    let name = bytes.u16()?;
    bytes.take(usize::from(name))?;
    let count = bytes.u16()?;
    let mut peers = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let kind = bytes.u8()?;
        let _bgp_id = bytes.u32()?;
        let address = match kind & 1 {
            0 => IpAddr::from(bytes.array::<4>()?),
            _ => IpAddr::from(bytes.array::<16>()?),
        };
        // An AS number of two or four bytes.
        bytes.take(if kind & 2 == 0 { 2 } else { 4 })?;
        peers.push(Peer { address, wanted: false, seen: false });
    }
    Ok(peers)
}

/// The prefix of NLRI bytes; bits behind its length mean nothing.
fn prefix_of(family: Family, len: u8, bytes: &[u8]) -> Option<Prefix> {
    if len > family.bits() {
        return None;
    }
    let mut all = [0; 16];
    all[..bytes.len()].copy_from_slice(bytes);
    let address = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(all[0], all[1], all[2], all[3])),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(all)),
    };
    Prefix::masked(address, len).ok()
}

/// What decides about an entry.
struct Attributes {
    /// AS numbers on the way.
    path: u32,
    /// 0 IGP, 1 EGP, 2 incomplete.
    origin: u8,
    gateway: Option<IpAddr>,
}

/// Walks an entry's path attributes (RFC 4271, 4.3).
fn attributes_of(attributes: &[u8]) -> Result<Attributes, Wrong> {
    let mut bytes = Bytes(attributes);
    let mut found = Attributes { path: 0, origin: 2, gateway: None };
    while !bytes.0.is_empty() {
        let (flags, kind) = (bytes.u8()?, bytes.u8()?);
        let extended = flags & 0x10 != 0;
        let length = if extended { bytes.u16()? } else { u16::from(bytes.u8()?) };
        let value = bytes.take(usize::from(length))?;
        match kind {
            1 => found.origin = *value.first().ok_or("an empty ORIGIN")?,
            2 => found.path = path_length(value)?,
            3 => {
                let address: [u8; 4] = value.try_into().map_err(|_| "a NEXT_HOP not of 4 bytes")?;
                found.gateway = found.gateway.or(Some(IpAddr::from(address)));
            }
            // Where it stands, it says more: IPv6, or IPv4 by way of IPv6.
            14 => found.gateway = reach_next_hop(value)?.or(found.gateway),
            _ => {}
        }
    }
    Ok(found)
}

/// AS numbers in an AS_PATH (of four bytes each in these dumps), as RFC 4271
/// 9.1.2.2 and RFC 5065 count: a set is one, a confederation's are none.
fn path_length(value: &[u8]) -> Result<u32, Wrong> {
    let mut bytes = Bytes(value);
    let mut length = 0;
    while !bytes.0.is_empty() {
        let (kind, count) = (bytes.u8()?, bytes.u8()?);
        bytes.take(usize::from(count) * 4)?;
        length += match kind {
            1 => 1,
            2 => u32::from(count),
            3 | 4 => 0,
            _ => return Err("a segment of an AS path that is neither set nor sequence"),
        };
    }
    Ok(length)
}

/// The next hop of an MP_REACH_NLRI: in these dumps only its length and
/// itself (RFC 6396, 4.3.4), but some collectors write the attribute whole,
/// beginning with the AFI, whose first byte is 0. Of two addresses the first
/// is the global one.
fn reach_next_hop(value: &[u8]) -> Result<Option<IpAddr>, Wrong> {
    let mut bytes = Bytes(value);
    if value.first() == Some(&0) {
        bytes.take(3)?;
    }
    let length = bytes.u8()?;
    Ok(match length {
        4 => Some(IpAddr::from(bytes.array::<4>()?)),
        16 | 32 => Some(IpAddr::from(bytes.array::<16>()?)),
        _ => None,
    })
}

/// Bytes that are walked.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Wrong> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("the record ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or("the record ends too early")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Wrong> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Wrong> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Wrong> {
        self.array().map(u32::from_be_bytes)
    }
}
