//! Attributes: length, type, value, each aligned to 4, walked where they lie.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::message::{Malformed, u16_at, u32_at};

/// The bits of an attribute's type that are not its number: nested, and
/// network byte order (`NLA_TYPE_MASK`).
const NUMBER_MASK: u16 = 0x3fff;

/// One attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attribute<'a> {
    /// Its number: `RTA_…`, `NDA_…`, `NHA_…`, `IFLA_…`.
    pub number: u16,
    /// Its value.
    pub value: &'a [u8],
}

/// The attributes in `bytes`; after an error there is no further one.
pub fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes { bytes, at: 0 }
}

/// See [`attributes`].
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Result<Attribute<'a>, Malformed>> {
        let at = self.at;
        let rest = self.bytes.get(at..)?;
        if rest.len() < 4 {
            // The kernel takes up to three bytes behind the last for padding.
            return None;
        }
        let len = usize::from(u16_at(rest, 0));
        if len < 4 || len > rest.len() {
            self.at = self.bytes.len();
            let why = "an attribute's length is below its header's or beyond the end";
            return Some(Err(Malformed { at, why }));
        }
        self.at = (at + len.next_multiple_of(4)).min(self.bytes.len());
        let number = u16_at(rest, 2) & NUMBER_MASK;
        Some(Ok(Attribute { number, value: &rest[4..len] }))
    }
}

impl<'a> Attribute<'a> {
    /// The value as a number of 32 bits; `None` if it is shorter.
    #[inline]
    pub fn u32(&self) -> Option<u32> {
        (self.value.len() >= 4).then(|| u32_at(self.value, 0))
    }

    /// The value as a number of 16 bits.
    pub fn u16(&self) -> Option<u16> {
        (self.value.len() >= 2).then(|| u16_at(self.value, 0))
    }

    /// The value as a byte.
    pub fn u8(&self) -> Option<u8> {
        self.value.first().copied()
    }

    /// The value as an address of the family that its length tells.
    #[inline]
    pub fn address(&self) -> Option<IpAddr> {
        address(self.value)
    }

    /// The value as text, up to its NUL.
    pub fn text(&self) -> &'a [u8] {
        let end = self.value.iter().position(|&byte| byte == 0).unwrap_or(self.value.len());
        &self.value[..end]
    }
}

/// The address in 4 or 16 bytes.
#[inline]
pub(crate) fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::V4(Ipv4Addr::from(octets)));
    }
    Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)))
}
