//! Files of routes, as far as that needs no I/O: their format, lists of
//! prefixes, and the rule that gives such a list next hops.
//!
//! The other formats' entries are read by
//! [`parse_printed_route`](super::parse_printed_route) (`ip route show`),
//! [`json_route`](super::json_route) (`ip -json route`) and
//! [`parse_line`](super::parse_line) (batch).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Context;
use super::command::{Format, LoadHops};
use super::error::TextError;
use super::tables;
use super::value::{self, Destination};
use super::words::{Cursor, Word, Words};
use crate::change::{HopSpec, Hops, LinkRef, RouteSpec};
use crate::group::HopFlags;
use crate::link::LinkName;
use crate::prefix::{Family, Prefix};
use crate::route::RouteType;

/// What `ip route save` begins with (iproute2, ip/iproute.c), in the order of
/// the machine that wrote it.
const IP_DUMP_MAGIC: u32 = 0x4531_1224;

/// The format of an unpacked file from its first bytes; a few kilobytes do.
/// [`Format::Auto`] if there is nothing yet but blanks and comments, `None` if
/// it is no file of routes.
///
/// A wrong line of a list is a wrong line, not another format: what begins
/// like a destination is taken for one.
pub fn detect_format(first: &[u8]) -> Option<Format> {
    let magic = first.first_chunk::<4>();
    if magic.is_some_and(|magic| {
        *magic == IP_DUMP_MAGIC.to_le_bytes() || *magic == IP_DUMP_MAGIC.to_be_bytes()
    }) {
        return Some(Format::IpDump);
    }
    // The header of MRT (RFC 6396): a time, a type of two bytes (11 to 17, 48,
    // 49), a subtype of two.
    if let [_, _, _, _, 0, 11..=17 | 48 | 49, 0, 0..=16, ..] = first {
        return Some(Format::Mrt);
    }
    for line in first.split(|&byte| byte == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() || line[0] == b'#' {
            continue;
        }
        return format_of_line(line);
    }
    Some(Format::Auto)
}

fn format_of_line(line: &[u8]) -> Option<Format> {
    if line.contains(&0) {
        return None;
    }
    if matches!(line[0], b'[' | b'{') {
        return Some(Format::IpJson);
    }
    // The bytes may end within a character; only the first words count.
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&line[..error.valid_up_to()]).ok()?,
    };
    let mut words = text.split_ascii_whitespace();
    let first = words.next()?;
    let more = words.next().is_some_and(|word| !word.starts_with('#'));
    if first.as_bytes()[0].is_ascii_digit() || value::looks_like_destination(first) {
        return Some(if more { Format::Ip } else { Format::Prefixes });
    }
    if value::route_type(first).is_some() {
        return Some(Format::Ip);
    }
    // Which verb it is, and whether it is right, the parser says.
    let object = first.starts_with(|c: char| c.is_ascii_alphabetic()) || first.starts_with('-');
    (object && (more || tables::object(first).is_some())).then_some(Format::Batch)
}

/// The route of one line of a plain list of prefixes, with next hops from
/// outside; `None`: an empty line or a comment.
///
/// # Errors
/// Not one prefix; an IPv6 prefix with a gateway of IPv4.
pub fn prefix_line(
    line: &str,
    hops: &LoadHops,
    cx: &Context<'_>,
) -> Result<Option<RouteSpec>, TextError> {
    let words = Words::of_line(line)?;
    let mut cursor = Cursor::new(&words);
    let Some(word) = cursor.next() else {
        return Ok(None);
    };
    if let Some(word) = cursor.next() {
        return Err(TextError::new(
            "prefix",
            word,
            "a list has one prefix in each line",
            "nothing behind it, or another --format",
        ));
    }
    let prefix = match value::destination("prefix", word)? {
        Destination::Prefix(prefix) => prefix,
        Destination::Default => Prefix::default_of(cx.family.unwrap_or(Family::V4)),
    };
    let hop = match *hops {
        LoadHops::Spread => spread(word.text, prefix.family()),
        LoadHops::Fixed { via, dev } => HopSpec {
            gateway: via,
            link: dev.map(LinkRef::Name),
            weight: 1,
            flags: HopFlags::default(),
        },
    };
    if let (Family::V6, Some(IpAddr::V4(gateway))) = (prefix.family(), hop.gateway) {
        return Err(TextError::new(
            "prefix",
            word,
            format!("an IPv6 route can't go via {gateway}"),
            "a gateway like 2001:db8::1 would be right",
        ));
    }
    let mut spec = RouteSpec::new(prefix);
    spec.kind = Some(RouteType::Unicast);
    spec.hops = Hops::One(hop);
    spec.scope = Some(spec.default_scope());
    Ok(Some(spec))
}

/// Gateways that the rule of [`spread`] uses.
const SPREAD_GATEWAYS: u64 = 200;
/// Links that it uses.
const SPREAD_LINKS: u64 = 32;

/// A next hop for a prefix that has none, the same everywhere: by the FNV-1a
/// hash (64 bits) of the prefix's text as it stands in the file, one of 200
/// gateways (10.255.0.1 and on; 2001:db8:ffff::1 and on) and one of 32 links
/// (Ethernet1 and on).
pub fn spread(text: &str, family: Family) -> HopSpec {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let gateway = (hash % SPREAD_GATEWAYS) as u16 + 1;
    let gateway = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(0x0aff_0000 + u32::from(gateway))),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0x0db8, 0xffff, 0, 0, 0, 0, gateway)),
    };
    let number = (hash / SPREAD_GATEWAYS % SPREAD_LINKS) as u8 + 1;
    let mut name = *b"Ethernet__";
    let name = if number < 10 {
        name[8] = b'0' + number;
        &name[..9]
    } else {
        name[8] = b'0' + number / 10;
        name[9] = b'0' + number % 10;
        &name[..]
    };
    HopSpec {
        gateway: Some(gateway),
        link: LinkName::new(name).ok().map(LinkRef::Name),
        weight: 1,
        flags: HopFlags::default(),
    }
}

/// The text of bytes that a line of a file, a queue or a FIFO holds.
///
/// # Errors
/// Not UTF-8; the column names the first wrong byte.
pub fn line_text(bytes: &[u8]) -> Result<&str, TextError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let text = format!("\\x{:02x}", bytes[at]);
        let column = u32::try_from(at + 1).unwrap_or(u32::MAX);
        let word = Word { text: &text, column, literal: true };
        TextError::new("line", word, "not text", "UTF-8 would be right")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_tells_the_format() {
        for (first, expected) in [
            (&b""[..], Some(Format::Auto)),
            (b"\n # a comment\n", Some(Format::Auto)),
            (b"10.0.0.0/8\n", Some(Format::Prefixes)),
            (b"# list\n\n10.0.0.0/33 # wrong\n", Some(Format::Prefixes)),
            (b"2001:db8::/32", Some(Format::Prefixes)),
            (b"default\r\n", Some(Format::Prefixes)),
            (b"default via 10.0.0.1 dev eth0 \n", Some(Format::Ip)),
            (b"10.4.0.0/16 \n\tnexthop via 10.0.0.1 dev eth0 weight 1 \n", Some(Format::Prefixes)),
            (b"unreachable 10.0.0.0/8 \n", Some(Format::Ip)),
            (b"local ::1 dev lo table local", Some(Format::Ip)),
            (b"  [ {\"dst\":\"default\"} ]", Some(Format::IpJson)),
            (b"{\"dst\":", Some(Format::IpJson)),
            (b"route add 10.0.0.0/8 via 10.0.0.1\n", Some(Format::Batch)),
            (b"r a 10/8 dev e\n", Some(Format::Batch)),
            (b"neigh add 10.0.0.1 lladdr 02:00:00:00:00:01", Some(Format::Batch)),
            (b"flush\n", Some(Format::Batch)),
            (b"rubbish\n", None),
            (b"%PDF-1.4 x\n", None),
            (b"\x7fELF\0\0\0", None),
            (b"\0\0\0\0", None),
            (&[0x24, 0x12, 0x31, 0x45, 1, 2], Some(Format::IpDump)),
            (&[0x45, 0x31, 0x12, 0x24, 1, 2], Some(Format::IpDump)),
            (&[0x53, 0x7e, 0xe6, 0, 0, 13, 0, 1, 0, 0, 0, 9], Some(Format::Mrt)),
        ] {
            assert_eq!(detect_format(first), expected, "{}", first.escape_ascii());
        }
    }

    #[test]
    fn the_rule_is_that_of_the_data() {
        // Computed in Python from the description in the data's README.
        for (text, gateway, link) in [
            ("1.0.0.0/24", "10.255.0.10", "Ethernet6"),
            ("1.0.4.0/22", "10.255.0.28", "Ethernet12"),
            ("159.224.239.0/24", "10.255.0.62", "Ethernet5"),
            ("10.0.0.0/8", "10.255.0.174", "Ethernet26"),
            ("122.1.1.1/32", "10.255.0.120", "Ethernet4"),
            ("2c0f:ffd0::/32", "2001:db8:ffff::73", "Ethernet20"),
            ("::/0", "2001:db8:ffff::8b", "Ethernet11"),
            ("2001:db8::/32", "2001:db8:ffff::65", "Ethernet25"),
        ] {
            let family = text.parse::<Prefix>().unwrap().family();
            let hop = spread(text, family);
            assert_eq!(hop.gateway.unwrap().to_string(), gateway, "{text}");
            assert_eq!(hop.link, Some(LinkRef::Name(link.parse().unwrap())), "{text}");
        }
    }

    #[test]
    fn lines_of_a_list() {
        let cx = Context::default();
        let fixed = LoadHops::Fixed {
            via: Some("10.0.0.1".parse().unwrap()),
            dev: Some("eth0".parse().unwrap()),
        };
        for line in ["", "  ", "# a comment", "\r"] {
            assert_eq!(prefix_line(line, &fixed, &cx), Ok(None), "{line:?}");
        }
        let spec = prefix_line(" 10/8 # ten\r", &fixed, &cx).unwrap().unwrap();
        assert_eq!(spec.prefix.to_string(), "10.0.0.0/8");
        assert_eq!((spec.kind, spec.scope), (Some(RouteType::Unicast), Some(0)));
        let spec = prefix_line("10/8", &LoadHops::Spread, &cx).unwrap().unwrap();
        assert_eq!(spec.hops, Hops::One(spread("10/8", Family::V4)), "the text as it stands");
        for (line, expected) in [
            ("10/33", "prefix: 10/33: mask 33 is too long for IPv4; 0 to 32 are valid"),
            ("10.0.0.1/8", "prefix: 10.0.0.1/8: host bits are set; 10.0.0.0/8 would be right"),
            (
                "10/8 via 1.1.1.1",
                "prefix: via: a list has one prefix in each line; nothing behind it, or another --format",
            ),
            (
                "2001:db8::/32",
                "prefix: 2001:db8::/32: an IPv6 route can't go via 10.0.0.1; a gateway like 2001:db8::1 would be right",
            ),
            ("rubbish", "prefix: rubbish: not a prefix; like 10.0.0.0/8, 2001:db8::/32 or default"),
        ] {
            assert_eq!(prefix_line(line, &fixed, &cx).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_named() {
        let error = line_text(b"10/8 \xff").unwrap_err().at_line(7);
        assert_eq!(
            error.to_string(),
            "line: line 7, byte 6: \\xff: not text; UTF-8 would be right"
        );
    }
}
