//! The menus' short forms: `<destination/mask> <gateway> <oif>` and
//! `<mac> <ip> [oif]`, and what of them names one to be deleted. A dash stands
//! for what is absent.

use super::Context;
use super::error::TextError;
use super::value::{self, Destination};
use super::words::{Cursor, Word, Words};
use crate::change::{HopSpec, Hops, LinkRef, NeighbourSpec, RouteSpec};
use crate::group::HopFlags;
use crate::neighbour::NudState;
use crate::prefix::{Family, Prefix};
use crate::route::RouteType;

/// `<destination/mask> <gateway> <oif>`; a gateway of either family for IPv4
/// (RFC 5549), `-` for none, `-` for no interface, but not both.
///
/// # Errors
/// A field that is missing or wrong, named as the menu names it.
pub fn short_route(line: &str, cx: &Context<'_>) -> Result<RouteSpec, TextError> {
    let words = Words::of_line(line)?;
    let mut cursor = Cursor::new(&words);
    let first = cursor.value("destination/mask", "<destination/mask> <gateway> <oif>")?;
    let second = cursor.value("gateway", "<destination/mask> <gateway> <oif>")?;
    let third = cursor.value("oif", "<destination/mask> <gateway> <oif>")?;
    cursor.finish("route")?;
    let gateway = absent(second).map(|word| value::address("gateway", word)).transpose()?;
    let link = absent(third).map(|word| value::link("oif", word)).transpose()?;
    let prefix = prefix(first, gateway.map(Family::of), cx)?;
    if let Some(gateway) = gateway {
        if prefix.family() == Family::V6 && Family::of(gateway) == Family::V4 {
            return Err(value::wrong_family("gateway", second, Family::V6));
        }
    }
    if gateway.is_none() && link.is_none() {
        return Err(TextError::new(
            "gateway",
            second,
            "neither gateway nor interface",
            "at least one of the two",
        ));
    }
    let mut spec = RouteSpec {
        kind: Some(RouteType::Unicast),
        hops: Hops::One(HopSpec {
            gateway,
            link: link.map(LinkRef::Name),
            weight: 1,
            flags: HopFlags::default(),
        }),
        ..RouteSpec::new(prefix)
    };
    spec.scope = Some(spec.default_scope());
    Ok(spec)
}

/// `<destination/mask>`: the route to delete.
///
/// # Errors
/// Not a prefix, or more than one word.
pub fn short_destination(line: &str, cx: &Context<'_>) -> Result<RouteSpec, TextError> {
    let words = Words::of_line(line)?;
    let mut cursor = Cursor::new(&words);
    let word = cursor.value("destination/mask", "<destination/mask>")?;
    cursor.finish("route")?;
    Ok(RouteSpec::new(prefix(word, None, cx)?))
}

/// `<mac> <ip> [oif]`: a permanent neighbour.
///
/// # Errors
/// A field that is missing or wrong, named as the menu names it.
pub fn short_neighbour(line: &str, cx: &Context<'_>) -> Result<NeighbourSpec, TextError> {
    let words = Words::of_line(line)?;
    let mut cursor = Cursor::new(&words);
    let first = cursor.value("mac", "<mac> <ip> [oif]")?;
    let mac = value::mac("mac", first)?;
    let ip = cursor.value("ip", "<mac> <ip> [oif]")?;
    let ip = value::address_of("ip", ip, cx.family)?;
    let link = oif(&mut cursor)?;
    cursor.finish("neighbour")?;
    Ok(NeighbourSpec {
        ip,
        link,
        mac: Some(mac),
        state: Some(NudState::PERMANENT),
        flags: 0,
        protocol: 0,
    })
}

/// `[mac] <ip> [oif]`: a neighbour to be deleted. The MAC address says nothing that the
/// others don't, but who copies a row of the table has it.
///
/// # Errors
/// As [`short_neighbour`].
pub fn short_neighbour_key(line: &str, cx: &Context<'_>) -> Result<NeighbourSpec, TextError> {
    let words = Words::of_line(line)?;
    let mut cursor = Cursor::new(&words);
    let mut ip = cursor.value("ip", "[mac] <ip> [oif]")?;
    if value::mac("mac", ip).is_ok() {
        ip = cursor.value("ip", "[mac] <ip> [oif]")?;
    }
    let ip = value::address_of("ip", ip, cx.family)?;
    let link = oif(&mut cursor)?;
    cursor.finish("neighbour")?;
    Ok(NeighbourSpec { ip, link, mac: None, state: None, flags: 0, protocol: 0 })
}

fn oif(cursor: &mut Cursor<'_, '_>) -> Result<Option<LinkRef>, TextError> {
    match cursor.next().and_then(absent) {
        None => Ok(None),
        Some(word) => Ok(Some(LinkRef::Name(value::link("oif", word)?))),
    }
}

fn absent(word: Word<'_>) -> Option<Word<'_>> {
    (word.text != "-").then_some(word)
}

fn prefix(word: Word<'_>, gateway: Option<Family>, cx: &Context<'_>) -> Result<Prefix, TextError> {
    match value::destination("destination/mask", word)? {
        Destination::Prefix(prefix) => match cx.family {
            Some(family) if family != prefix.family() => {
                Err(value::wrong_family("destination/mask", word, family))
            }
            _ => Ok(prefix),
        },
        Destination::Default => Ok(Prefix::default_of(cx.family.or(gateway).unwrap_or(Family::V4))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_routes() {
        let cx = Context::default();
        for (line, expected) in [
            ("122.1.1.1/32 10.1.1.1 Ethernet1", "122.1.1.1/32 Some(10.1.1.1) \"Ethernet1\" 0"),
            ("130.1.1.0/24 - Ethernet1", "130.1.1.0/24 None \"Ethernet1\" 253"),
            ("130.1.1.0/24 10.1.1.1 -", "130.1.1.0/24 Some(10.1.1.1) - 0"),
            ("2001:db8::/32 fe80::1 eth0", "2001:db8::/32 Some(fe80::1) \"eth0\" 0"),
            ("10/8 fe80::1 eth0", "10.0.0.0/8 Some(fe80::1) \"eth0\" 0"),
            ("default fe80::1 eth0", "::/0 Some(fe80::1) \"eth0\" 0"),
        ] {
            let spec = short_route(line, &cx).unwrap();
            let hop = spec.hops.as_slice()[0];
            let link = match hop.link {
                Some(LinkRef::Name(name)) => format!("{name:?}"),
                _ => "-".to_owned(),
            };
            let scope = spec.scope.unwrap();
            assert_eq!(format!("{} {:?} {link} {scope}", spec.prefix, hop.gateway), expected);
        }
        for (line, expected) in [
            (
                "",
                "destination/mask: end of line: its value is missing; <destination/mask> <gateway> <oif>",
            ),
            (
                "10/8",
                "gateway: end of line: its value is missing; <destination/mask> <gateway> <oif>",
            ),
            (
                "10/8 1.1.1.1",
                "oif: end of line: its value is missing; <destination/mask> <gateway> <oif>",
            ),
            ("10/8 - -", "gateway: -: neither gateway nor interface; at least one of the two"),
            (
                "10/33 - e",
                "destination/mask: 10/33: mask 33 is too long for IPv4; 0 to 32 are valid",
            ),
            (
                "10.0.0.1/8 - e",
                "destination/mask: 10.0.0.1/8: host bits are set; 10.0.0.0/8 would be right",
            ),
            ("10/8 x e", "gateway: x: not an IP address; like 10.1.1.1 or 2001:db8::1"),
            (
                "::/8 1.1.1.1 e",
                "gateway: 1.1.1.1: IPv4, and IPv6 is expected; one like 2001:db8::1 would be right",
            ),
            (
                "10/8 1.1.1.1 e x",
                "route: x: nothing more is expected here; a line that ends here would be right",
            ),
            (
                "10/8 1.1.1.1 eth0/1",
                "oif: eth0/1: '/' can't stand in an interface name; a name without slash, colon and blank would be right",
            ),
        ] {
            assert_eq!(short_route(line, &cx).unwrap_err().to_string(), expected, "{line}");
        }
    }

    #[test]
    fn short_neighbours_and_destinations() {
        let cx = Context::default();
        let spec = short_neighbour("02:00:00:00:00:01 10.1.1.1 eth0", &cx).unwrap();
        assert_eq!(spec.ip.to_string(), "10.1.1.1");
        assert_eq!(spec.mac.unwrap().to_string(), "02:00:00:00:00:01");
        assert!(spec.link.is_some());
        assert_eq!(short_neighbour("02:00:00:00:00:01 10.1.1.1", &cx).unwrap().link, None);
        assert_eq!(short_neighbour("02:00:00:00:00:01 10.1.1.1 -", &cx).unwrap().link, None);
        assert!(short_neighbour("10.1.1.1 02:00:00:00:00:01", &cx).is_err());
        let spec = short_destination("10/8", &cx).unwrap();
        assert_eq!((spec.prefix.to_string().as_str(), spec.kind), ("10.0.0.0/8", None));
        assert!(short_destination("10/8 x", &cx).is_err());
    }
}
