//! Single values: numbers, durations, addresses, prefixes, names.
//!
//! Numbers are C's, as iproute2 takes them: `0x` is hexadecimal, a leading 0
//! octal. The type of service is hexadecimal with and without `0x`.

use std::net::IpAddr;
use std::time::Duration;

use super::error::TextError;
use super::words::Word;
use crate::link::{LinkName, LinkNameError};
use crate::names::Names;
use crate::neighbour::Mac;
use crate::prefix::{Family, Prefix, PrefixError, parse_address};
use crate::route::RouteType;

/// A number as C's `strtoul` with base 0 takes it, up to `max`.
pub(super) fn c_number(text: &str, max: u32) -> Option<u32> {
    let number = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => digits(&text[2..], 16),
        [b'0', _, ..] => digits(&text[1..], 8),
        _ => digits(text, 10),
    }?;
    (number <= max).then_some(number)
}

/// `from_str_radix` without the sign it would take.
fn digits(text: &str, radix: u32) -> Option<u32> {
    if text.starts_with(['+', '-']) { None } else { u32::from_str_radix(text, radix).ok() }
}

/// A number up to `max`.
pub(super) fn number(what: &'static str, word: Word<'_>, max: u32) -> Result<u32, TextError> {
    c_number(word.text, max).ok_or_else(|| {
        let why = if word.text.starts_with(|c: char| c.is_ascii_digit())
            && word.text.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            "the number is out of range, or not a number"
        } else {
            "not a number"
        };
        TextError::new(what, word, why, format!("0 to {max} are valid"))
    })
}

/// A duration: seconds, or with one of the units us, ms, s, m, h.
pub(super) fn duration(what: &'static str, word: Word<'_>) -> Result<Duration, TextError> {
    parse_duration(word.text).ok_or_else(|| {
        TextError::new(what, word, "not a duration", "seconds, or like 250ms, 2s, 1m")
    })
}

/// The longest duration taken: 100 years, so that sums with a clock's time
/// don't overflow.
const DURATION_SECONDS_MAX: f64 = 100.0 * 365.0 * 86_400.0;

fn parse_duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (count, unit) = text.split_at(split);
    let scale = match unit {
        "" | "s" => 1.0,
        "us" => 1e-6,
        "ms" => 1e-3,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    if !count.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let seconds = count.parse::<f64>().ok()? * scale;
    (seconds <= DURATION_SECONDS_MAX).then(|| Duration::from_secs_f64(seconds))
}

/// An address of either family.
#[inline]
pub(super) fn address(what: &'static str, word: Word<'_>) -> Result<IpAddr, TextError> {
    parse_address(word.text).ok_or_else(|| {
        TextError::new(what, word, "not an IP address", "like 10.1.1.1 or 2001:db8::1")
    })
}

/// An address of one family.
pub(super) fn address_of(
    what: &'static str,
    word: Word<'_>,
    family: Option<Family>,
) -> Result<IpAddr, TextError> {
    let address = address(what, word)?;
    match family {
        Some(family) if Family::of(address) != family => Err(wrong_family(what, word, family)),
        _ => Ok(address),
    }
}

/// An address or prefix of the other family.
pub(super) fn wrong_family(what: &'static str, word: Word<'_>, family: Family) -> TextError {
    let (other, like) = match family {
        Family::V4 => ("IPv6, and IPv4 is expected", "one like 10.1.1.1 would be right"),
        Family::V6 => ("IPv4, and IPv6 is expected", "one like 2001:db8::1 would be right"),
    };
    TextError::new(what, word, other, like)
}

/// A destination: a prefix, or a default route whose family is not said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Destination {
    Prefix(Prefix),
    Default,
}

/// Can only be meant as a destination?
#[inline]
pub(super) fn looks_like_destination(text: &str) -> bool {
    text.as_bytes().first().is_some_and(u8::is_ascii_digit)
        || matches!(text, "default" | "all" | "any")
        || text.contains(':')
}

/// A prefix, a host, `default` (and `all`, `any`, as iproute2 has them).
#[inline]
pub(super) fn destination(what: &'static str, word: Word<'_>) -> Result<Destination, TextError> {
    if matches!(word.text, "default" | "all" | "any") {
        return Ok(Destination::Default);
    }
    prefix(what, word).map(Destination::Prefix)
}

/// A prefix or a host.
#[inline]
pub(super) fn prefix(what: &'static str, word: Word<'_>) -> Result<Prefix, TextError> {
    word.text.parse().map_err(|error| prefix_error(what, word, error))
}

#[cold]
fn prefix_error(what: &'static str, word: Word<'_>, error: PrefixError) -> TextError {
    match error {
        PrefixError::TooLong { len, family } => TextError::new(
            what,
            word,
            format!("mask {len} is too long for {family}"),
            format!("0 to {} are valid", family.bits()),
        ),
        PrefixError::HostBits { masked } => {
            TextError::new(what, word, "host bits are set", format!("{masked} would be right"))
        }
        PrefixError::Length => {
            TextError::new(what, word, "the mask is not a number", "like 10.0.0.0/8")
        }
        PrefixError::Address => {
            TextError::new(what, word, "not a prefix", "like 10.0.0.0/8, 2001:db8::/32 or default")
        }
    }
}

/// An interface name.
#[inline]
pub(super) fn link(what: &'static str, word: Word<'_>) -> Result<LinkName, TextError> {
    word.text.parse().map_err(|error| link_error(what, word, error))
}

#[cold]
fn link_error(what: &'static str, word: Word<'_>, error: LinkNameError) -> TextError {
    let message = error.to_string();
    let (why, right) = message.split_once("; ").unwrap_or((&message, "1 to 15 bytes are valid"));
    TextError::new(what, word, why.to_owned(), right.to_owned())
}

/// A MAC address.
pub(super) fn mac(what: &'static str, word: Word<'_>) -> Result<Mac, TextError> {
    word.text
        .parse()
        .map_err(|_| TextError::new(what, word, "not a MAC address", "like 02:00:00:00:00:01"))
}

/// An `rtm_protocol` by name or number.
pub(super) fn protocol(word: Word<'_>, names: &Names) -> Result<u8, TextError> {
    names.protocol(word.text).or_else(|| byte(word.text)).ok_or_else(|| {
        TextError::new("proto", word, "not a protocol", "a name like static or bgp, or 0 to 255")
    })
}

/// An `rtm_scope` by name or number.
pub(super) fn scope(word: Word<'_>, names: &Names) -> Result<u8, TextError> {
    names.scope(word.text).or_else(|| byte(word.text)).ok_or_else(|| {
        TextError::new("scope", word, "not a scope", "global, link, host, or 0 to 255")
    })
}

/// A type of service by name or as a hexadecimal number.
pub(super) fn tos(word: Word<'_>, names: &Names) -> Result<u8, TextError> {
    let hex = word.text.strip_prefix("0x").unwrap_or(word.text);
    names
        .dsfield(word.text)
        .or_else(|| digits(hex, 16).and_then(|number| u8::try_from(number).ok()))
        .ok_or_else(|| {
            TextError::new(
                "tos",
                word,
                "not a type of service",
                "hexadecimal 0 to ff, or a name like EF",
            )
        })
}

/// A table by name or number.
pub(super) fn table(word: Word<'_>, names: &Names) -> Result<u32, TextError> {
    if let Some(id) = c_number(word.text, u32::MAX) {
        return Ok(id);
    }
    names.table(word.text).ok_or_else(|| {
        TextError::new("table", word, "not a table", "main, local, default, or 0 to 4294967295")
    })
}

/// A realm by name or number.
pub(super) fn realm(text: &str, names: &Names) -> Option<u16> {
    let number = || c_number(text, 0xffff).and_then(|number| u16::try_from(number).ok());
    names.realm(text).or_else(number)
}

fn byte(text: &str) -> Option<u8> {
    c_number(text, 255).and_then(|number| u8::try_from(number).ok())
}

/// A route type by its whole name.
#[inline]
pub(super) fn route_type(text: &str) -> Option<RouteType> {
    match text {
        "brd" => Some(RouteType::Broadcast),
        text => RouteType::NAMES.iter().find(|(_, name)| *name == text).map(|&(kind, _)| kind),
    }
}

/// The order in which iproute2 tries a type's abbreviations.
const TYPE_ORDER: [RouteType; 11] = [
    RouteType::Local,
    RouteType::Nat,
    RouteType::Broadcast,
    RouteType::Anycast,
    RouteType::Multicast,
    RouteType::Prohibit,
    RouteType::Unreachable,
    RouteType::Blackhole,
    RouteType::Xresolve,
    RouteType::Unicast,
    RouteType::Throw,
];

/// A route type by its whole name or an abbreviation.
pub(super) fn abbreviated_type(text: &str) -> Option<RouteType> {
    let starts = |kind: &&RouteType| !text.is_empty() && kind.name().starts_with(text);
    route_type(text).or_else(|| TYPE_ORDER.iter().find(starts).copied())
}

/// A time of a route's metrics in milliseconds, as `get_time_rtt` takes it;
/// and whether it had no unit: then it is the kernel's own number.
pub(super) fn milliseconds(text: &str) -> Option<(u32, bool)> {
    let split = text.find(['s', 'S', 'm', 'M']).unwrap_or(text.len());
    let (count, unit) = text.split_at(split);
    let (scale, raw) = match unit.to_ascii_lowercase().as_str() {
        "" => (1.0, true),
        "s" | "sec" | "secs" => (1000.0, false),
        "ms" | "msec" | "msecs" => (1.0, false),
        _ => return None,
    };
    let number = if count.contains('.') || count.contains('e') && !count.starts_with("0x") {
        count.starts_with(|c: char| c.is_ascii_digit() || c == '.').then_some(())?;
        count.parse::<f64>().ok()?
    } else {
        f64::from(c_number(count, u32::MAX)?)
    };
    // Up, as `ip` does; but 16.248 s is 16,248 ms, whatever the product's last
    // bit says.
    let exact = number * scale;
    let value = if (exact - exact.round()).abs() < 1e-6 { exact.round() } else { exact.ceil() };
    (value.is_finite() && value <= f64::from(u32::MAX)).then_some((value as u32, raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_c() {
        for (text, expected) in [
            ("0", Some(0)),
            ("20", Some(20)),
            ("0x10", Some(16)),
            ("010", Some(8)),
            ("09", None),
            ("0x", None),
            ("-1", None),
            ("+1", None),
            ("0x+1", None),
            ("", None),
            ("1 ", None),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", None),
        ] {
            assert_eq!(c_number(text, u32::MAX), expected, "{text:?}");
        }
        assert_eq!(c_number("256", 255), None);
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("2", Some(2000)),
            ("2s", Some(2000)),
            ("250ms", Some(250)),
            ("0.25", Some(250)),
            ("1m", Some(60_000)),
            ("500us", Some(0)),
            ("", None),
            ("ms", None),
            ("-1", None),
            ("+1", None),
            ("inf", None),
            ("NaN", None),
            ("1e99", None),
            ("9999999999999", None),
            ("2 s", None),
        ] {
            let millis = parse_duration(text).map(|d| d.as_millis());
            assert_eq!(millis, expected, "{text:?}");
        }
    }

    #[test]
    fn times_of_metrics() {
        for (text, expected) in [
            ("20", Some((20, true))),
            ("1500ms", Some((1500, false))),
            ("1.5s", Some((1500, false))),
            ("3S", Some((3000, false))),
            ("16.248s", Some((16_248, false))),
            ("0.0001s", Some((1, false))),
            ("4.29497e+06s", None),
            ("4.29496e+06s", Some((4_294_960_000, false))),
            ("5m", None),
            ("s", None),
            ("-1s", None),
        ] {
            assert_eq!(milliseconds(text), expected, "{text:?}");
        }
    }

    #[test]
    fn types_are_abbreviated_as_in_iproute2() {
        assert_eq!(abbreviated_type("u"), Some(RouteType::Unreachable));
        assert_eq!(abbreviated_type("uni"), Some(RouteType::Unicast));
        assert_eq!(abbreviated_type("b"), Some(RouteType::Broadcast));
        assert_eq!(abbreviated_type("black"), Some(RouteType::Blackhole));
        assert_eq!(abbreviated_type("brd"), Some(RouteType::Broadcast));
        assert_eq!(abbreviated_type(""), None);
        assert_eq!(abbreviated_type("x1"), None);
    }
}
