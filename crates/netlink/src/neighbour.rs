//! NEWNEIGH and DELNEIGH.

use std::net::IpAddr;

use rtm_model::{LinkRef, Mac, NeighbourSpec, NudState};

use crate::attribute::attributes;
use crate::message::{Malformed, Message, u16_at, u32_at};
use crate::number::NTF_PROXY;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_PROTOCOL: u16 = 12;
/// Bytes of `ndmsg`.
const FIXED: usize = 12;
/// `RTN_MULTICAST` and `RTN_BROADCAST` in `ndm_type`.
const TYPE_MULTICAST: u8 = 5;
const TYPE_BROADCAST: u8 = 3;

/// A neighbour's message.
#[derive(Clone, Copy, Debug)]
pub struct NeighbourMessage<'a> {
    /// DELNEIGH?
    pub gone: bool,
    /// `AF_INET`, `AF_INET6`, or another family's (a bridge's).
    pub family: u8,
    /// On which link.
    pub ifindex: u32,
    /// Its state.
    pub state: NudState,
    /// `NTF_…`.
    pub flags: u8,
    kind: u8,
    address: Option<IpAddr>,
    lladdr: Option<&'a [u8]>,
    protocol: u8,
}

/// Why a message isn't one of a neighbour as the table has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NeighbourSkip {
    /// A bridge's forwarding entry, or another family's.
    Family,
    /// A proxy entry.
    Proxy,
    /// A multicast or broadcast address, which needs no resolution.
    NoArp,
    /// A link-layer address that isn't 6 bytes.
    LinkLayer,
    /// No address.
    Address,
}

impl<'a> NeighbourMessage<'a> {
    pub(crate) fn decode(
        message: Message<'a>,
        gone: bool,
    ) -> Result<NeighbourMessage<'a>, Malformed> {
        let Some((fixed, rest)) = message.body.split_first_chunk::<FIXED>() else {
            return Err(Malformed { at: 0, why: "a neighbour's message is cut off" });
        };
        let mut decoded = NeighbourMessage {
            gone,
            family: fixed[0],
            ifindex: u32_at(fixed, 4),
            state: NudState(u16_at(fixed, 8)),
            flags: fixed[10],
            kind: fixed[11],
            address: None,
            lladdr: None,
            protocol: 0,
        };
        for attribute in attributes(rest) {
            let attribute = attribute?;
            match attribute.number {
                NDA_DST => decoded.address = attribute.address(),
                NDA_LLADDR => decoded.lladdr = Some(attribute.value),
                NDA_PROTOCOL => decoded.protocol = attribute.u8().unwrap_or_default(),
                _ => {}
            }
        }
        Ok(decoded)
    }

    /// The neighbour in the table's terms. What is counted (cache info, probes)
    /// is no part of it.
    pub fn spec(&self) -> Result<NeighbourSpec, NeighbourSkip> {
        if !matches!(self.family, 2 | 10) {
            return Err(NeighbourSkip::Family);
        }
        if self.flags & NTF_PROXY != 0 {
            return Err(NeighbourSkip::Proxy);
        }
        if self.state == NudState::NOARP && matches!(self.kind, TYPE_MULTICAST | TYPE_BROADCAST) {
            return Err(NeighbourSkip::NoArp);
        }
        let ip = self.address.ok_or(NeighbourSkip::Address)?;
        if self.state == NudState::NOARP && is_multicast(ip) {
            return Err(NeighbourSkip::NoArp);
        }
        let mac = match self.lladdr {
            // The kernel sends none, or zeros, for what it doesn't know.
            None | Some([]) => None,
            Some(bytes) => match <[u8; 6]>::try_from(bytes) {
                Ok(mac) => Some(Mac(mac)),
                Err(_) => return Err(NeighbourSkip::LinkLayer),
            },
        };
        Ok(NeighbourSpec {
            ip,
            link: Some(LinkRef::Ifindex(self.ifindex)),
            mac,
            state: Some(self.state),
            flags: self.flags,
            protocol: self.protocol,
        })
    }
}

fn is_multicast(ip: IpAddr) -> bool {
    ip.is_multicast() || ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST)
}
