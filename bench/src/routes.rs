//! The real table and the real update trace, with next hops by the rule that
//! stands beside the data: FNV-1a 64 of the prefix's text gives one of 200
//! gateways and one of 32 interfaces.
//!
//! The benches read the files themselves, so that what the kernel is given does
//! not depend on code of rtm.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::read::MultiGzDecoder;

/// Gateways of the rule, per family.
pub(crate) const GATEWAYS: u64 = 200;
/// Interfaces of the rule: `Ethernet1` to `Ethernet32`.
pub(crate) const LINKS: u64 = 32;

/// A prefix, as in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Prefix {
    pub(crate) address: IpAddr,
    pub(crate) length: u8,
}

impl Prefix {
    fn parse(text: &str) -> Result<Self> {
        let (address, length) =
            text.split_once('/').with_context(|| format!("no prefix: {text}"))?;
        Ok(Self { address: address.parse()?, length: length.parse()? })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Where a route leads. `link` counts from 0 for `Ethernet1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NextHop {
    pub(crate) gateway: IpAddr,
    pub(crate) link: u8,
}

impl NextHop {
    /// The rule of the data's README, for the text of a prefix.
    pub(crate) fn of(prefix_text: &str, family: IpAddr) -> Self {
        let hash = fnv1a(prefix_text.as_bytes());
        Self::numbered(hash % GATEWAYS, hash / GATEWAYS % LINKS, family)
    }

    /// By numbers: which of the gateways, which of the links.
    pub(crate) fn numbered(gateway: u64, link: u64, family: IpAddr) -> Self {
        let gateway = match family {
            IpAddr::V4(_) => {
                IpAddr::V4(Ipv4Addr::from_bits(0x0aff_0001 + gateway as u32)) // 10.255.0.1
            }
            IpAddr::V6(_) => {
                let first = Ipv6Addr::new(0x2001, 0x0db8, 0xffff, 0, 0, 0, 0, 1);
                IpAddr::V6(Ipv6Addr::from_bits(first.to_bits() + u128::from(gateway)))
            }
        };
        Self { gateway, link: link as u8 }
    }

    /// Back to one number below [`GATEWAYS`] × [`LINKS`]; `None` for a gateway
    /// that the rule does not give.
    pub(crate) fn number(self) -> Option<u32> {
        let first = Self::numbered(0, 0, self.gateway).gateway;
        let gateway = match (self.gateway, first) {
            (IpAddr::V4(gateway), IpAddr::V4(first)) => {
                u128::from(gateway.to_bits().wrapping_sub(first.to_bits()))
            }
            (IpAddr::V6(gateway), IpAddr::V6(first)) => {
                gateway.to_bits().wrapping_sub(first.to_bits())
            }
            _ => return None,
        };
        (gateway < u128::from(GATEWAYS))
            .then(|| gateway as u32 * LINKS as u32 + u32::from(self.link))
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) prefix: Prefix,
    pub(crate) next_hop: NextHop,
}

/// One line of the trace: announced with a next hop, or withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) prefix: Prefix,
    pub(crate) to: Option<NextHop>,
}

/// The table, or about `routes_max` of its lines, evenly spread.
pub(crate) fn table(data: &Path, routes_max: Option<usize>) -> Result<Vec<Route>> {
    let mut routes = Vec::new();
    each_line(&data.join("full-table.txt.gz"), |line| {
        let prefix = Prefix::parse(line)?;
        routes.push(Route { prefix, next_hop: NextHop::of(line, prefix.address) });
        Ok(())
    })?;
    if let Some(wanted) = routes_max.filter(|&wanted| wanted < routes.len()) {
        let all = routes.len();
        routes = (0..wanted).map(|n| routes[n * all / wanted]).collect();
    }
    Ok(routes)
}

/// The update trace.
pub(crate) fn trace(data: &Path) -> Result<Vec<Update>> {
    let mut updates = Vec::new();
    each_line(&data.join("updates.txt.gz"), |line| {
        let mut words = line.split_ascii_whitespace();
        let (_seconds, verb, text, gateway) =
            (words.next(), words.next(), words.next(), words.next());
        let text = text.with_context(|| format!("short line: {line}"))?;
        let prefix = Prefix::parse(text)?;
        let to = match verb {
            Some("a") => Some(NextHop {
                gateway: gateway.context("no next hop")?.parse()?,
                link: NextHop::of(text, prefix.address).link,
            }),
            _ => None,
        };
        updates.push(Update { prefix, to });
        Ok(())
    })?;
    Ok(updates)
}

fn each_line(path: &Path, mut take: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let file = File::open(path).with_context(|| format!("{}", path.display()))?;
    for line in BufReader::new(MultiGzDecoder::new(file)).lines() {
        let line = line?;
        take(line.trim_end()).with_context(|| format!("{}", path.display()))?;
    }
    Ok(())
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn the_rule_stays_in_its_ranges() {
        for text in ["1.0.0.0/24", "2001:200::/32", "220.1.0.0/16"] {
            let prefix = Prefix::parse(text).unwrap();
            assert_eq!(prefix.to_string(), text, "the rule is about the text");
            let next_hop = NextHop::of(text, prefix.address);
            assert!(u64::from(next_hop.link) < LINKS);
            assert_eq!(next_hop.gateway.is_ipv4(), prefix.address.is_ipv4());
        }
        let last = NextHop::numbered(199, 31, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        assert_eq!(last.number(), Some(6_399));
        let other = NextHop { gateway: "10.255.0.201".parse().unwrap(), link: 0 };
        assert_eq!(other.number(), None);
        let v6 = NextHop::numbered(3, 2, IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        assert_eq!(v6.number(), Some(98));
        assert_eq!(last.gateway, "10.255.0.200".parse::<IpAddr>().unwrap());
    }
}
