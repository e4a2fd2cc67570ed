//! Links: the interfaces that routes and neighbours refer to.

use std::fmt;
use std::str::FromStr;

/// A link's id in one epoch. Never 0; ids are the daemon's, not ifindexes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct LinkId(pub u32);

/// An interface name that Linux would take: 1 to 15 bytes, no slash, colon or
/// white space, neither `.` nor `..` (`dev_valid_name`, net/core/dev.c).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkName([u8; LinkName::BYTES]);

impl LinkName {
    /// `IFNAMSIZ`: the longest name and its NUL.
    pub const BYTES: usize = 16;

    /// The name of these bytes.
    #[inline]
    pub fn new(name: &[u8]) -> Result<LinkName, LinkNameError> {
        let mut bytes = [0; LinkName::BYTES];
        let Some(room) = bytes.get_mut(..name.len()) else { return LinkName::checked(name) };
        room.copy_from_slice(name);
        LinkName::of_number(u128::from_le_bytes(bytes), name.len())
    }

    /// The name that stands in the first `bytes` bytes of a little-endian number, in which
    /// zeros are behind it: without going from byte to byte if all are letters and digits,
    /// which is most of them.
    #[inline]
    pub fn of_number(number: u128, bytes: usize) -> Result<LinkName, LinkNameError> {
        // Behind the name, digits stand in for the zeros: whatever isn't plain is in it.
        let behind = u128::from_le_bytes([b'0'; LinkName::BYTES]);
        let filled = number | behind.checked_shl(8 * bytes as u32).unwrap_or(0);
        let plain = are_alphanumeric(filled as u64) & are_alphanumeric((filled >> 64) as u64);
        let whole = number.checked_shr(8 * bytes as u32).unwrap_or(0) == 0;
        if plain && whole && (1..LinkName::BYTES).contains(&bytes) {
            return Ok(LinkName(number.to_le_bytes()));
        }
        LinkName::checked(number.to_le_bytes().get(..bytes).unwrap_or_default())
    }

    /// Of any bytes, one after the other.
    fn checked(name: &[u8]) -> Result<LinkName, LinkNameError> {
        let checked = LinkName::of_text(name)?;
        if std::str::from_utf8(name).is_err() {
            return Err(LinkNameError::NotText);
        }
        Ok(checked)
    }

    /// The name of bytes that are known to be UTF-8.
    #[inline]
    fn of_text(name: &[u8]) -> Result<LinkName, LinkNameError> {
        if name.is_empty() {
            return Err(LinkNameError::Empty);
        }
        if name.len() >= LinkName::BYTES {
            return Err(LinkNameError::TooLong { bytes: name.len() });
        }
        if name == b"." || name == b".." {
            return Err(LinkNameError::Dots);
        }
        if let Some(&byte) = name.iter().find(|&&b| b == b'/' || b == b':' || b == 0 || is_space(b))
        {
            return Err(LinkNameError::Byte { byte });
        }
        let mut bytes = [0; LinkName::BYTES];
        bytes[..name.len()].copy_from_slice(name);
        Ok(LinkName(bytes))
    }

    /// From the 16 bytes of the wire: the name, then only NULs.
    pub fn from_padded(bytes: &[u8; LinkName::BYTES]) -> Result<LinkName, LinkNameError> {
        let len = bytes.iter().position(|&b| b == 0).unwrap_or(LinkName::BYTES);
        if let Some(&byte) = bytes[len..].iter().find(|&&b| b != 0) {
            return Err(LinkNameError::Byte { byte });
        }
        LinkName::new(&bytes[..len])
    }

    /// The name padded with NULs, as the wire has it.
    pub fn padded(&self) -> &[u8; LinkName::BYTES] {
        &self.0
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The bytes of the name.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        let behind = u128::from_le_bytes(self.0).leading_zeros() as usize / 8;
        &self.0[..LinkName::BYTES - behind]
    }
}

/// Is each of the eight bytes an ASCII letter or digit? All at once: adding a byte's
/// distance to 128 carries it into the highest bit if it is that large.
#[inline]
fn are_alphanumeric(word: u64) -> bool {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    const HIGHEST: u64 = EACH << 7;
    let from = |word: u64, byte: u8| word.wrapping_add(EACH * u64::from(128 - byte));
    let lower = word | (EACH * 0x20);
    let digit = from(word, b'0') & !from(word, b'9' + 1);
    let letter = from(lower, b'a') & !from(lower, b'z' + 1);
    // Of ASCII only, as carries would go from byte to byte.
    word & HIGHEST == 0 && (digit | letter) & HIGHEST == HIGHEST
}

/// The kernel's `isspace`: blank, \t, \n, \v, \f, \r, and 0xa0 (lib/ctype.c);
/// the last only stands alone in Latin-1, and a name here is UTF-8.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 0x09..=0x0d)
}

/// Why something is no interface name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LinkNameError {
    /// No byte at all.
    Empty,
    /// 16 bytes or more.
    TooLong {
        /// The length given.
        bytes: usize,
    },
    /// A byte that Linux refuses.
    Byte {
        /// That byte.
        byte: u8,
    },
    /// `.` or `..`.
    Dots,
    /// Not UTF-8.
    NotText,
}

impl fmt::Display for LinkNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkNameError::Empty => {
                f.write_str("the interface name is empty; 1 to 15 bytes are valid")
            }
            LinkNameError::TooLong { bytes } => {
                write!(f, "the interface name has {bytes} bytes; 1 to 15 are valid")
            }
            LinkNameError::Byte { byte } => write!(
                f,
                "'{}' can't stand in an interface name; a name without slash, colon and blank would be right",
                byte.escape_ascii()
            ),
            LinkNameError::Dots => f.write_str("'.' and '..' are no interface names"),
            LinkNameError::NotText => f.write_str("the interface name is not UTF-8"),
        }
    }
}

impl std::error::Error for LinkNameError {}

impl FromStr for LinkName {
    type Err = LinkNameError;

    #[inline]
    fn from_str(s: &str) -> Result<LinkName, LinkNameError> {
        LinkName::of_text(s.as_bytes())
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// An interface. It comes into being by its first use and goes with its last.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Link {
    /// What routes and neighbours refer to.
    pub id: LinkId,
    /// Its name: unique among the links.
    pub name: LinkName,
    /// The kernel's number; 0: not on this host.
    pub ifindex: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_linux_takes() {
        assert_eq!("Ethernet1".parse::<LinkName>().unwrap().as_str(), "Ethernet1");
        assert_eq!("abcdefghijklmno".parse::<LinkName>().unwrap().as_str(), "abcdefghijklmno");
        for bad in
            ["", "abcdefghijklmnop", "eth0/1", "eth0:1", "eth 0", "eth\t0", ".", "..", "a\0b"]
        {
            assert!(bad.parse::<LinkName>().is_err(), "{bad:?}");
        }
        assert!(LinkName::new(b"\xff\xfe").is_err());
    }

    #[test]
    fn a_name_by_its_number_is_that_of_its_bytes() {
        let names: [&[u8]; 14] = [
            b"",
            b"a",
            b"eth0",
            b"Ethernet12",
            b"abcdefghijklmno",
            b"abcdefghijklmnop",
            b"a\0b",
            b"a\0",
            b"..",
            b"eth0.100",
            b"br-lan_1",
            b"eth0/1",
            b"\xff\xfe",
            "Zür1".as_bytes(),
        ];
        for name in names {
            let mut bytes = [0; LinkName::BYTES];
            bytes[..name.len()].copy_from_slice(name);
            let number = u128::from_le_bytes(bytes);
            let taken = LinkName::of_number(number, name.len());
            assert_eq!(taken, LinkName::checked(name), "{name:?}");
            assert_eq!(taken, LinkName::new(name), "{name:?}");
        }
        for (byte, at) in (0..=255).flat_map(|byte| (0..15).map(move |at| (byte, at))) {
            let mut name = *b"Zz09Aa0zZ9aAz90";
            name[at] = byte;
            let mut bytes = [0; LinkName::BYTES];
            bytes[..name.len()].copy_from_slice(&name);
            let taken = LinkName::of_number(u128::from_le_bytes(bytes), name.len());
            assert_eq!(taken, LinkName::checked(&name), "{byte:#x} at {at}");
        }
        // What isn't zero behind the name isn't of it.
        assert_eq!(LinkName::of_number(u128::from_le_bytes([b'a'; 16]), 3), LinkName::new(b"aaa"));
    }

    #[test]
    fn padding_must_be_nuls() {
        let mut bytes = *b"eth0\0\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(LinkName::from_padded(&bytes).unwrap().as_str(), "eth0");
        bytes[9] = b'x';
        assert!(LinkName::from_padded(&bytes).is_err());
    }
}
