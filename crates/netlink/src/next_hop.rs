//! NEWNEXTHOP and DELNEXTHOP: next-hop objects, alone or as groups of others.

use std::net::IpAddr;

use rtm_model::{HopFlags, HopSpec, LinkRef};

use crate::attribute::attributes;
use crate::builder::Builder;
use crate::message::{Malformed, Message, kind, u32_at};

const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;
const NHA_ENCAP: u16 = 8;
const NHA_FDB: u16 = 11;
/// As routes have them.
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
/// Bytes of `nhmsg` and of `nexthop_grp`.
const FIXED: usize = 8;
const MEMBER: usize = 8;

/// A next-hop object's message.
#[derive(Clone, Debug)]
pub struct NextHopMessage<'a> {
    /// DELNEXTHOP?
    pub gone: bool,
    /// `NLM_F_…` of the message.
    pub flags: u16,
    /// Its number.
    pub id: u32,
    /// Who made it.
    pub protocol: u8,
    /// What it is; of a deleted one FPM says nothing.
    pub object: Object<'a>,
    /// Attributes that are none of ours: (number, bytes).
    pub unknown: Vec<(u16, &'a [u8])>,
}

/// What a next-hop object is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Object<'a> {
    /// One next hop.
    Hop(HopSpec),
    /// Others, with their weights: see [`Object::members`].
    Group(&'a [u8]),
    /// What is sent there is dropped.
    Blackhole,
    /// Entries of a bridge's forwarding table use it, never a route.
    Fdb,
    /// Nothing was said.
    Nothing,
}

/// One of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// The object.
    pub id: u32,
    /// Its share, 1 to 65,536 (on the wire one less).
    pub weight: u32,
}

impl<'a> Object<'a> {
    /// A group's members; none if it is no group.
    pub fn members(&self) -> impl Iterator<Item = Member> + 'a {
        let bytes: &'a [u8] = match self {
            Object::Group(bytes) => bytes,
            _ => &[],
        };
        bytes.chunks_exact(MEMBER).map(|member| Member {
            id: u32_at(member, 0),
            // Linux 6.12 took the next byte for the upper half.
            weight: u32::from(member[4]) + (u32::from(member[5]) << 8) + 1,
        })
    }
}

impl<'a> NextHopMessage<'a> {
    /// Is what is sent there encapsulated? (Kept in `unknown`: a next hop of
    /// ours has no place for it.)
    pub fn is_encapsulated(&self) -> bool {
        self.unknown.iter().any(|(number, _)| *number == NHA_ENCAP)
    }

    /// The encapsulation, as the attributes that a route's next hop has for it
    /// (`RTA_ENCAP_TYPE`, `RTA_ENCAP`); empty: there is none.
    pub fn encapsulation(&self) -> Vec<(u16, Vec<u8>)> {
        let number = |number| match number {
            NHA_ENCAP_TYPE => Some(RTA_ENCAP_TYPE),
            NHA_ENCAP => Some(RTA_ENCAP),
            _ => None,
        };
        self.unknown.iter().filter_map(|(n, value)| Some((number(*n)?, value.to_vec()))).collect()
    }

    pub(crate) fn decode(
        message: Message<'a>,
        gone: bool,
    ) -> Result<NextHopMessage<'a>, Malformed> {
        let Some((fixed, rest)) = message.body.split_first_chunk::<FIXED>() else {
            return Err(Malformed { at: 0, why: "a next-hop object's message is cut off" });
        };
        let mut decoded = NextHopMessage {
            gone,
            flags: message.flags,
            id: 0,
            protocol: fixed[2],
            object: Object::Nothing,
            unknown: Vec::new(),
        };
        let (mut gateway, mut link) = (None, None);
        for attribute in attributes(rest) {
            let attribute = attribute?;
            match attribute.number {
                NHA_ID => decoded.id = attribute.u32().unwrap_or_default(),
                NHA_GROUP => {
                    if attribute.value.is_empty() || attribute.value.len() % MEMBER != 0 {
                        let why = "a next-hop group isn't a row of members of 8 bytes";
                        return Err(Malformed { at: 0, why });
                    }
                    decoded.object = Object::Group(attribute.value);
                }
                NHA_BLACKHOLE => decoded.object = Object::Blackhole,
                NHA_FDB => decoded.object = Object::Fdb,
                NHA_OIF => link = attribute.u32().filter(|index| *index != 0),
                NHA_GATEWAY => gateway = attribute.address(),
                NHA_ENCAP_TYPE | NHA_ENCAP => {
                    decoded.unknown.push((attribute.number, attribute.value));
                }
                // What groups count and how they hash, statistics, padding.
                3 | 9 | 10 | 12..=17 => {}
                number => decoded.unknown.push((number, attribute.value)),
            }
        }
        if decoded.object == Object::Nothing && (gateway.is_some() || link.is_some()) {
            decoded.object = Object::Hop(HopSpec {
                gateway,
                link: link.map(LinkRef::Ifindex),
                weight: 1,
                flags: HopFlags(u32_at(fixed, 4) as u8 & HopFlags::ALL.0),
            });
        }
        Ok(decoded)
    }

    /// Writes a NEWNEXTHOP (or DELNEXTHOP) of one next hop.
    pub fn encode_hop(out: &mut Builder, flags: u16, sequence: u32, id: u32, hop: &HopSpec) {
        let family = match hop.gateway {
            Some(IpAddr::V6(_)) => 10,
            _ => 2,
        };
        let onlink = u32::from(hop.flags.0 & HopFlags::ONLINK.0).to_ne_bytes();
        let mut fixed = [family, 0, 0, 0, 0, 0, 0, 0];
        fixed[4..].copy_from_slice(&onlink);
        out.begin(kind::NEWNEXTHOP, flags, sequence, &fixed);
        out.u32(NHA_ID, id);
        if let Some(gateway) = hop.gateway {
            out.address(NHA_GATEWAY, gateway);
        }
        if let Some(LinkRef::Ifindex(index)) = hop.link {
            out.u32(NHA_OIF, index);
        }
        out.end();
    }

    /// Writes a NEWNEXTHOP of a group.
    pub fn encode_group(out: &mut Builder, flags: u16, sequence: u32, id: u32, of: &[Member]) {
        out.begin(kind::NEWNEXTHOP, flags, sequence, &[0; FIXED]);
        out.u32(NHA_ID, id);
        let mut bytes = Vec::with_capacity(of.len() * MEMBER);
        for member in of {
            let weight = (member.weight.max(1) - 1).min(0xffff) as u16;
            bytes.extend_from_slice(&member.id.to_ne_bytes());
            bytes.extend_from_slice(&[weight as u8, (weight >> 8) as u8, 0, 0]);
        }
        out.attribute(NHA_GROUP, &bytes);
        out.end();
    }

    /// Writes a DELNEXTHOP.
    pub fn encode_delete(out: &mut Builder, flags: u16, sequence: u32, id: u32) {
        out.begin(kind::DELNEXTHOP, flags, sequence, &[0; FIXED]);
        out.u32(NHA_ID, id);
        out.end();
    }
}
