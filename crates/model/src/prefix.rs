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
    #[inline]
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
    #[inline]
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
    #[inline]
    pub fn from_bits(family: Family, bits: u128, len: u8) -> Option<Prefix> {
        (len <= family.bits() && bits & !mask(len) == 0).then_some(Prefix { bits, family, len })
    }

    /// The bits, left-aligned: an IPv4 address stands in the top 32.
    #[inline]
    pub fn bits(self) -> u128 {
        self.bits
    }

    /// The family.
    #[inline]
    pub fn family(self) -> Family {
        self.family
    }

    /// The length in bits.
    #[allow(clippy::len_without_is_empty)]
    #[inline]
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
        if let Some((address, len)) = plain_v4(s.as_bytes()) {
            return Prefix::new(IpAddr::V4(address), len);
        }
        let Some(slash) = s.bytes().position(|byte| byte == b'/') else {
            return Ok(Prefix::host(parse_address(s).ok_or(PrefixError::Address)?));
        };
        let address = parse_address(&s[..slash]).ok_or(PrefixError::Address)?;
        let digits = &s.as_bytes()[slash + 1..];
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(PrefixError::Length);
        }
        let number = digits.iter().fold(0_u32, |number, digit| {
            number.saturating_mul(10).saturating_add(u32::from(digit - b'0'))
        });
        let family = Family::of(address);
        let len = u8::try_from(number).map_err(|_| PrefixError::TooLong { len: number, family })?;
        Prefix::new(address, len)
    }
}

/// An address, where IPv4 may leave out octets at its end (`10`, `10.1`), as
/// iproute2 takes it. An octet with a leading zero is refused: it is octal to
/// iproute2 and decimal to most readers.
#[inline]
pub fn parse_address(s: &str) -> Option<IpAddr> {
    let mut octets = [0_u8; 4];
    let (mut index, mut value, mut digits) = (0, 0_u32, 0);
    for &byte in s.as_bytes() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            // A leading zero, or too large; not that an IPv6 address couldn't
            // begin so.
            if digits > 0 && value == 0 || value > 25 {
                return parse_v6(s);
            }
            value = value * 10 + u32::from(digit);
            digits += 1;
        } else if byte == b'.' && digits > 0 && value <= 255 && index < 3 {
            octets[index] = value as u8;
            (index, value, digits) = (index + 1, 0, 0);
        } else {
            return parse_v6(s);
        }
    }
    if digits == 0 || value > 255 {
        return None;
    }
    octets[index] = value as u8;
    Some(IpAddr::V4(Ipv4Addr::from(octets)))
}

/// `10.0.0.0/8`: four octets and a length, as nearly every prefix is written.
/// `None`: something else, which may be right or wrong.
#[inline]
fn plain_v4(bytes: &[u8]) -> Option<(Ipv4Addr, u8)> {
    let (mut address, mut fields, mut value, mut digits) = (0_u32, 0, 0_u32, 0);
    for &byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            if digits > 0 && value == 0 || digits == 3 {
                return None;
            }
            value = value * 10 + u32::from(digit);
            digits += 1;
        } else {
            let end = if fields == 3 { b'/' } else { b'.' };
            if byte != end || digits == 0 || value > 255 {
                return None;
            }
            address = address << 8 | value;
            (fields, value, digits) = (fields + 1, 0, 0);
        }
    }
    if fields != 4 || digits == 0 || value > 32 {
        return None;
    }
    Some((Ipv4Addr::from(address), value as u8))
}

/// An IPv6 address; anything without a colon is none.
fn parse_v6(s: &str) -> Option<IpAddr> {
    if let Some(address) = plain_v6(s.as_bytes()) {
        return Some(IpAddr::V6(address));
    }
    s.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// Groups of hexadecimal digits and perhaps one `::`. `None`: something else,
/// which may be right (`::ffff:10.0.0.1`) or wrong. The standard library's
/// parser takes three times as long, and a full table has 160,147 of these.
#[inline]
fn plain_v6(bytes: &[u8]) -> Option<Ipv6Addr> {
    let mut groups = [0_u16; 8];
    let (mut count, mut gap) = (0, None);
    let mut at = 0;
    if bytes.starts_with(b"::") {
        (gap, at) = (Some(0), 2);
    }
    while at < bytes.len() {
        let (mut group, mut digits) = (0_u16, 0);
        while let Some(digit) = bytes.get(at).and_then(|byte| hex(*byte)) {
            if digits == 4 {
                return None;
            }
            group = group << 4 | digit;
            (digits, at) = (digits + 1, at + 1);
        }
        if digits == 0 || count == 8 {
            return None;
        }
        groups[count] = group;
        count += 1;
        match bytes[at..] {
            [] => break,
            [b':', b':', ..] if gap.is_none() => {
                gap = Some(count);
                at += 2;
            }
            // A colon at the end stands before nothing.
            [b':', _, ..] => at += 1,
            _ => return None,
        }
    }
    match gap {
        None if count == 8 => {}
        Some(gap) if count < 8 => {
            groups.copy_within(gap..count, gap + 8 - count);
            groups[gap..gap + 8 - count].fill(0);
        }
        _ => return None,
    }
    Some(Ipv6Addr::from(groups))
}

#[inline]
fn hex(byte: u8) -> Option<u16> {
    match byte {
        b'0'..=b'9' => Some(u16::from(byte - b'0')),
        b'a'..=b'f' => Some(u16::from(byte - b'a') + 10),
        b'A'..=b'F' => Some(u16::from(byte - b'A') + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_iproute2_reads() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10/8", "10.0.0.0/8"),
            ("255.255.255.255/32", "255.255.255.255/32"),
            ("10.0.0.0/08", "10.0.0.0/8"),
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
            ("10.0.0.0.0/8", "not an address; like 10.0.0.0/8 or 2001:db8::/32"),
            ("10.0.0./8", "not an address; like 10.0.0.0/8 or 2001:db8::/32"),
            ("10.0.0.0/", "the mask is not a number; like 10.0.0.0/8"),
            ("10.0.0.0.8", "not an address; like 10.0.0.0/8 or 2001:db8::/32"),
            ("1000.0.0.0/8", "not an address; like 10.0.0.0/8 or 2001:db8::/32"),
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

    /// The short way says what the standard library says, or nothing.
    #[test]
    fn ipv6_is_read_as_the_standard_library_does() {
        let mut plain = 0;
        let mut texts = Vec::new();
        let mut random = 1_u32;
        let mut below = |bound: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 16) % bound
        };
        for length in (1..10).cycle().take(40_000) {
            // Groups joined by colons: an empty one makes `::`.
            let groups: Vec<&str> = (0..length)
                .map(|_| match below(24) {
                    0 | 1 => "",
                    2 => ["12345", "g", "1.2.3.4", "%", " "][below(5) as usize],
                    _ => ["0", "1", "ab", "FFFF", "00c"][below(5) as usize],
                })
                .collect();
            let ends = ["", "", "", ":"];
            let (front, back) = (ends[below(4) as usize], ends[below(4) as usize]);
            texts.push(format!("{front}{}{back}", groups.join(":")));
        }
        for text in
            ["::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::3:4:5:6:7:8"]
        {
            texts.push(text.to_owned());
            texts.push(format!("{text}:9"));
            texts.push(format!("{text}:"));
        }
        for text in &texts {
            let known = text.parse::<Ipv6Addr>().ok();
            if let Some(address) = plain_v6(text.as_bytes()) {
                assert_eq!(Some(address), known, "{text:?}");
                plain += 1;
            }
            if text.contains(':') {
                assert_eq!(parse_address(text), known.map(IpAddr::V6), "{text:?}");
            }
        }
        assert!(plain > 500, "{plain} of {}", texts.len());
    }
}
