//! Next hops for lists of prefixes that have none: the rule of the test data,
//! the same everywhere, so that any two programs agree on the table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtm_model::{Family, HopFlags, HopSpec, LinkName, LinkRef};

/// How many gateways the rule uses.
const GATEWAYS: u64 = 200;
/// How many interfaces.
const LINKS: u64 = 32;

/// The next hop of the prefix that is written `text` in the file: one of 200
/// gateways (10.255.0.1 and on, 2001:db8:ffff::1 and on) and of 32 links
/// (Ethernet1 and on), by the FNV-1a hash of the text.
pub fn spread(text: &str, family: Family) -> HopSpec {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let gateway = (hash % GATEWAYS) as u32 + 1;
    let gateway = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(0x0aff_0000 + gateway)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(
            0x2001_0db8_ffff_0000_0000_0000_0000_0000 + u128::from(gateway),
        )),
    };
    let number = (hash / GATEWAYS) % LINKS + 1;
    let mut name = *b"Ethernet00";
    let len = if number < 10 {
        name[8] = b'0' + number as u8;
        9
    } else {
        name[8] = b'0' + (number / 10) as u8;
        name[9] = b'0' + (number % 10) as u8;
        10
    };
    let link = LinkName::new(&name[..len]).ok().map(LinkRef::Name);
    HopSpec { gateway: Some(gateway), link, weight: 1, flags: HopFlags::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_the_one_of_the_data() {
        // Expected values: computed with Python from the rule's description.
        for (text, family, gateway, link) in EXPECTED {
            let hop = spread(text, *family);
            assert_eq!(hop.gateway.unwrap().to_string(), *gateway, "{text}");
            assert_eq!(hop.link, Some(LinkRef::Name(link.parse().unwrap())), "{text}");
        }
    }

    const EXPECTED: &[(&str, Family, &str, &str)] = &[
        ("1.0.0.0/24", Family::V4, "10.255.0.10", "Ethernet6"),
        ("1.0.4.0/22", Family::V4, "10.255.0.28", "Ethernet12"),
        ("223.255.254.0/24", Family::V4, "10.255.0.79", "Ethernet16"),
        ("2c0f:ffd0::/32", Family::V6, "2001:db8:ffff::73", "Ethernet20"),
        ("2001:200::/32", Family::V6, "2001:db8:ffff::5", "Ethernet26"),
        ("8.8.8.0/24", Family::V4, "10.255.0.29", "Ethernet20"),
    ];
}
