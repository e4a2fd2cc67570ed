//! NEWADDR and DELADDR: that an address came or went, which is what makes a
//! waiting route worth another try.

use std::net::IpAddr;

use crate::attribute::attributes;
use crate::message::{Malformed, Message, u32_at};

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Bytes of `ifaddrmsg`.
const FIXED: usize = 8;

/// An address's message.
#[derive(Clone, Copy, Debug)]
pub struct AddressMessage {
    /// DELADDR?
    pub gone: bool,
    /// On which link.
    pub ifindex: u32,
    /// The host's own address there.
    pub address: Option<IpAddr>,
    /// The length of its network's mask.
    pub len: u8,
}

impl AddressMessage {
    pub(crate) fn decode(message: Message<'_>, gone: bool) -> Result<AddressMessage, Malformed> {
        let Some((fixed, rest)) = message.body.split_first_chunk::<FIXED>() else {
            return Err(Malformed { at: 0, why: "an address's message is cut off" });
        };
        let mut decoded =
            AddressMessage { gone, ifindex: u32_at(fixed, 4), address: None, len: fixed[1] };
        for attribute in attributes(rest) {
            let attribute = attribute?;
            match attribute.number {
                // Of a point-to-point link ADDRESS is the peer's.
                IFA_LOCAL => decoded.address = attribute.address(),
                IFA_ADDRESS if decoded.address.is_none() => decoded.address = attribute.address(),
                _ => {}
            }
        }
        Ok(decoded)
    }
}
