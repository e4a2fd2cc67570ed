//! Address families and prefixes.
//!
//! A [`Prefix`] is an address and a length with no bit set behind the length:
//! once one exists, nobody has to check again. Its bits are kept left-aligned
//! in a `u128` for both families, so that comparing, masking and walking bit
//! by bit are one piece of code.

use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address family. The numbers are those of the wire (`docs/wire.md`), not
/// those of the kernel: see [`Family::af`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Bits in an address: 32 or 128.
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// `AF_INET` (2) or `AF_INET6` (10), as netlink has it.
    pub fn af(self) -> u8 {
        match self {
            Family::V4 => 2,
            Family::V6 => 10,
        }
    }

    /// The family with this `AF_` number, if it is one of the two.
    pub fn from_af(af: u8) -> Option<Family> {
        match af {
            2 => Some(Family::V4),
            10 => Some(Family::V6),
            _ => None,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// An address prefix with no host bits set.
///
/// Ordered by family, then address, then length: the order of every listing.
///
/// ```
/// use rtm_model::Prefix;
/// let prefix: Prefix = "10.1.0.0/16".parse().unwrap();
/// assert!(prefix.contains("10.1.2.3".parse().unwrap()));
/// assert_eq!("10/8".parse::<Prefix>().unwrap().to_string(), "10.0.0.0/8");
/// assert!("10.1.2.3/16".parse::<Prefix>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix {
    bits: u128,
    family: Family,
    len: u8,
}

/// Why something is not a prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PrefixError {
    /// The length is over 32 (IPv4) or 128 (IPv6).
    TooLong {
        /// The length that was given.
        len: u32,
        /// The family it was given for.
        family: Family,
    },
    /// Bits behind the length are set.
    HostBits {
        /// The prefix with these bits cleared: what was probably meant.
        masked: Prefix,
    },
    /// Not an address.
    Address,
    /// What follows the slash is not a number.
    Length,
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrefixError::TooLong { len, family } => {
                write!(f, "mask {len} is too long for {family}; 0 to {} are valid", family.bits())
            }
            PrefixError::HostBits { masked } => {
                write!(f, "host bits are set; {masked} would be right")
            }
            PrefixError::Address => f.write_str("not an address; like 10.0.0.0/8 or 2001:db8::/32"),
            PrefixError::Length => f.write_str("the mask is not a number; like 10.0.0.0/8"),
        }
    }
}

impl std::error::Error for PrefixError {}

impl Prefix {
    /// 0.0.0.0/0.
    pub const DEFAULT_V4: Prefix = Prefix { bits: 0, family: Family::V4, len: 0 };
    /// ::/0.
    pub const DEFAULT_V6: Prefix = Prefix { bits: 0, family: Family::V6, len: 0 };

    /// The prefix of `address` and `len`; refused if host bits are set.
    pub fn new(address: IpAddr, len: u8) -> Result<Prefix, PrefixError> {
        let prefix = Prefix::masked(address, len)?;
        if left_aligned(address) != prefix.bits {
            return Err(PrefixError::HostBits { masked: prefix });
        }
        Ok(prefix)
    }

    /// The prefix of `address` and `len`, host bits cleared.
    pub fn masked(address: IpAddr, len: u8) -> Result<Prefix, PrefixError> {
        let family = Family::of(address);
        if len > family.bits() {
            return Err(PrefixError::TooLong { len: u32::from(len), family });
        }
        Ok(Prefix { bits: left_aligned(address) & mask(len), family, len })
    }

    /// The prefix that holds just this address.
    pub fn host(address: IpAddr) -> Prefix {
        let family = Family::of(address);
        Prefix { bits: left_aligned(address), family, len: family.bits() }
    }

    /// The default route's prefix of a family.
    pub fn default_of(family: Family) -> Prefix {
        Prefix { bits: 0, family, len: 0 }
    }

    /// From left-aligned bits (an IPv4 address in the top 32). `None` if the
    /// length is too long or a bit behind it is set.
    pub fn from_bits(family: Family, bits: u128, len: u8) -> Option<Prefix> {
        (len <= family.bits() && bits & !mask(len) == 0).then_some(Prefix { bits, family, len })
    }

    /// The bits, left-aligned: an IPv4 address stands in the top 32.
    pub fn bits(self) -> u128 {
        self.bits
    }

    /// The family.
    pub fn family(self) -> Family {
        self.family
    }

    /// The length in bits.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> u8 {
        self.len
    }

    /// Is this 0.0.0.0/0 or ::/0?
    pub fn is_default(self) -> bool {
        self.len == 0
    }

    /// Is this a single address?
    pub fn is_host(self) -> bool {
        self.len == self.family.bits()
    }

    /// The first address.
    pub fn address(self) -> IpAddr {
        match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from((self.bits >> 96) as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(self.bits)),
        }
    }

    /// Is `address` of this family and inside?
    pub fn contains(self, address: IpAddr) -> bool {
        Family::of(address) == self.family && left_aligned(address) & mask(self.len) == self.bits
    }

    /// Is `other` this prefix or inside it?
    pub fn covers(self, other: Prefix) -> bool {
        other.family == self.family
            && other.len >= self.len
            && other.bits & mask(self.len) == self.bits
    }
}

/// The left-aligned bits of an address, as [`Prefix::bits`] has them.
pub fn left_aligned(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(u32::from(a)) << 96,
        IpAddr::V6(a) => u128::from(a),
    }
}

/// A mask of `len` leading ones.
pub fn mask(len: u8) -> u128 {
    match len {
        0 => 0,
        len => u128::MAX << (128 - u32::from(len)),
    }
}

impl Ord for Prefix {
    fn cmp(&self, other: &Prefix) -> Ordering {
        (self.family, self.bits, self.len).cmp(&(other.family, other.bits, other.len))
    }
}

impl PartialOrd for Prefix {
    fn partial_cmp(&self, other: &Prefix) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(), self.len)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// `10.0.0.0/8`, `10/8`, `2001:db8::/32`, or an address alone: a host.
    /// (`default` needs a family and is the grammar's: see `text`.)
    fn from_str(s: &str) -> Result<Prefix, PrefixError> {
        let Some((address, len)) = s.split_once('/') else {
            return Ok(Prefix::host(parse_address(s).ok_or(PrefixError::Address)?));
        };
        let address = parse_address(address).ok_or(PrefixError::Address)?;
        if len.is_empty() || !len.bytes().all(|b| b.is_ascii_digit()) {
            return Err(PrefixError::Length);
        }
        let number = len.parse::<u32>().unwrap_or(u32::MAX);
        let family = Family::of(address);
        let len = u8::try_from(number).map_err(|_| PrefixError::TooLong { len: number, family })?;
        Prefix::new(address, len)
    }
}

/// An address, where IPv4 may leave out octets at its end (`10`, `10.1`), as
/// iproute2 takes it. An octet with a leading zero is refused: it is octal to
/// iproute2 and decimal to most readers.
pub fn parse_address(s: &str) -> Option<IpAddr> {
    if s.contains(':') {
        return s.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let bytes = s.as_bytes();
    let mut octets = [0_u8; 4];
    let mut index = 0;
    let mut value: Option<u32> = None;
    for &byte in bytes {
        match byte {
            b'0'..=b'9' => {
                if value == Some(0) {
                    return None;
                }
                let next = value.unwrap_or(0) * 10 + u32::from(byte - b'0');
                if next > 255 {
                    return None;
                }
                value = Some(next);
            }
            b'.' if index < 3 => {
                octets[index] = value? as u8;
                index += 1;
                value = None;
            }
            _ => return None,
        }
    }
    octets[index] = value? as u8;
    Some(IpAddr::V4(Ipv4Addr::from(octets)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_iproute2_reads() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10/8", "10.0.0.0/8"),
            ("0/0", "0.0.0.0/0"),
            ("10.1/16", "10.1.0.0/16"),
            ("122.1.1.1", "122.1.1.1/32"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_with_a_reason() {
        for (text, expected) in [
            ("10.0.0.0/33", "mask 33 is too long for IPv4; 0 to 32 are valid"),
            ("::/129", "mask 129 is too long for IPv6; 0 to 128 are valid"),
            ("::/99999999999", "mask 4294967295 is too long for IPv6; 0 to 128 are valid"),
            ("10.0.0.1/8", "host bits are set; 10.0.0.0/8 would be right"),
            ("2001:db8::1/32", "host bits are set; 2001:db8::/32 would be right"),
            ("10.0.0.256/32", "not an address; like 10.0.0.0/8 or 2001:db8::/32"),
            ("1.2.3.4.5/32", "not an address; like 10.0.0.0/8 or 2001:db8::/32"),
            ("10.010.0.0/16", "not an address; like 10.0.0.0/8 or 2001:db8::/32"),
            ("10.00.0.0/16", "not an address; like 10.0.0.0/8 or 2001:db8::/32"),
            ("1..2/32", "not an address; like 10.0.0.0/8 or 2001:db8::/32"),
            ("", "not an address; like 10.0.0.0/8 or 2001:db8::/32"),
            ("10.0.0.0/", "the mask is not a number; like 10.0.0.0/8"),
            ("10.0.0.0/+8", "the mask is not a number; like 10.0.0.0/8"),
            ("10.0.0.0/8/8", "the mask is not a number; like 10.0.0.0/8"),
        ] {
            assert_eq!(text.parse::<Prefix>().unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn order_is_family_address_length() {
        let mut prefixes: Vec<Prefix> =
            ["::/0", "10.0.0.0/16", "10.0.0.0/8", "9.0.0.0/8", "0.0.0.0/0"]
                .map(|s| s.parse().unwrap())
                .to_vec();
        prefixes.sort();
        let text: Vec<String> = prefixes.iter().map(Prefix::to_string).collect();
        assert_eq!(text, ["0.0.0.0/0", "9.0.0.0/8", "10.0.0.0/8", "10.0.0.0/16", "::/0"]);
    }
}
