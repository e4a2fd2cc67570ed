//! How a file's format is found out from its first line.

use rtm_model::text::Format;
use rtm_model::{Prefix, RouteType};

/// What a file that begins with these bytes is; `first` is its first line
/// that is neither empty nor a comment, `head` its first bytes as they are.
pub(crate) fn detect(head: &[u8], first: &[u8]) -> Option<Format> {
    // What `ip route save` begins with (iproute2, ip/iproute.c).
    if head.starts_with(&0x4531_1224_u32.to_ne_bytes()) {
        return Some(Format::IpDump);
    }
    // A header of MRT: a time, then a type of two bytes: 11 to 17, or 48, 49.
    if let [_, _, _, _, 0, 11..=17 | 48 | 49, 0, ..] = head {
        return Some(Format::Mrt);
    }
    let first = std::str::from_utf8(first).ok()?;
    if first.contains('\0') {
        return None;
    }
    if first.trim_start().starts_with(['[', '{']) {
        return Some(Format::IpJson);
    }
    let mut words = first.split_ascii_whitespace();
    let word = words.next()?;
    if is_destination(word) {
        return Some(if words.next().is_some() { Format::Ip } else { Format::Prefixes });
    }
    if RouteType::NAMES.iter().any(|(_, name)| *name == word) {
        return Some(Format::Ip);
    }
    // Whether it is a line of the grammar, its parser says, and why not.
    word.starts_with(|c: char| c.is_ascii_alphabetic()).then_some(Format::Batch)
}

/// A destination, even one with something wrong about it: `10.0.0.0/33` is a
/// wrong line of a list, not a reason to take the list for something else.
fn is_destination(word: &str) -> bool {
    let address = word.split_once('/').map_or(word, |(address, _)| address);
    word == "default"
        || word.parse::<Prefix>().is_ok()
        || rtm_model::parse_address(address).is_some()
        || word.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_tells() {
        for (line, expected) in [
            ("10.0.0.0/8", Some(Format::Prefixes)),
            ("10.0.0.0/33", Some(Format::Prefixes)),
            ("2001:db8::/32", Some(Format::Prefixes)),
            ("default", Some(Format::Prefixes)),
            ("default via 10.0.0.1 dev eth0", Some(Format::Ip)),
            ("10.0.0.0/8 via 10.0.0.1", Some(Format::Ip)),
            ("unreachable 10.0.0.0/8", Some(Format::Ip)),
            ("local ::1 dev lo", Some(Format::Ip)),
            ("[{\"dst\":\"default\"}]", Some(Format::IpJson)),
            ("  [ ]", Some(Format::IpJson)),
            ("route add 10.0.0.0/8 via 10.0.0.1", Some(Format::Batch)),
            ("neigh add 10.0.0.1 lladdr 02:00:00:00:00:01", Some(Format::Batch)),
            ("%PDF-1.4", None),
            ("\0\0\0\0", None),
        ] {
            assert_eq!(detect(line.as_bytes(), line.as_bytes()), expected, "{line}");
        }
        let mrt = [0x53, 0x7e, 0xe6, 0, 0, 13, 0, 1, 0, 0, 0, 9];
        assert_eq!(detect(&mrt, &mrt), Some(Format::Mrt));
        assert_eq!(detect(&[0x24, 0x12, 0x31, 0x45], b""), Some(Format::IpDump));
    }
}
