//! NEWLINK and DELLINK, as far as a routing table needs them.

use rtm_model::{LinkName, LinkNameError};

use crate::attribute::attributes;
use crate::message::{Malformed, Message, u16_at, u32_at};
use crate::number::{IFF_LOWER_UP, IFF_RUNNING, IFF_UP};

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
/// Bytes of `ifinfomsg`.
const FIXED: usize = 16;
/// `AF_BRIDGE`: a bridge tells of its port, not of a link.
const AF_BRIDGE: u8 = 7;

/// A link's message.
#[derive(Clone, Copy, Debug)]
pub struct LinkMessage<'a> {
    /// DELLINK?
    pub gone: bool,
    /// A message of another family about a link (a bridge's about its port)
    /// says nothing of the link itself.
    pub is_port: bool,
    /// Its number.
    pub ifindex: u32,
    /// `ARPHRD_…`.
    pub hardware: u16,
    /// `IFF_…`.
    pub flags: u32,
    /// Its largest packet; 0: not said.
    pub mtu: u32,
    /// Its name's bytes.
    name: &'a [u8],
}

/// What of a link decides over routes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkState {
    /// Set up by the administrator.
    pub up: bool,
    /// With carrier.
    pub carrier: bool,
    /// Its largest packet, which IPv6 routes with an `mtu` follow; 0: not said.
    pub mtu: u32,
}

impl<'a> LinkMessage<'a> {
    pub(crate) fn decode(message: Message<'a>, gone: bool) -> Result<LinkMessage<'a>, Malformed> {
        let Some((fixed, rest)) = message.body.split_first_chunk::<FIXED>() else {
            return Err(Malformed { at: 0, why: "a link's message is cut off" });
        };
        let mut link = LinkMessage {
            gone,
            is_port: fixed[0] == AF_BRIDGE,
            ifindex: u32_at(fixed, 4),
            hardware: u16_at(fixed, 2),
            flags: u32_at(fixed, 8),
            mtu: 0,
            name: b"",
        };
        for attribute in attributes(rest) {
            let attribute = attribute?;
            match attribute.number {
                IFLA_IFNAME => link.name = attribute.text(),
                IFLA_MTU => link.mtu = attribute.u32().unwrap_or_default(),
                _ => {}
            }
        }
        Ok(link)
    }

    /// Its name. A name that is not UTF-8 can't be shown: `if` and the number
    /// stand for it.
    pub fn name(&self) -> Result<LinkName, LinkNameError> {
        match LinkName::new(self.name) {
            Ok(name) => Ok(name),
            Err(_) => LinkName::new(format!("if{}", self.ifindex).as_bytes()),
        }
    }

    /// What decides over routes.
    pub fn state(&self) -> LinkState {
        LinkState {
            up: self.flags & IFF_UP != 0,
            carrier: self.flags & (IFF_RUNNING | IFF_LOWER_UP) != 0,
            mtu: self.mtu,
        }
    }
}
