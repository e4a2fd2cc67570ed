//! A table by script: what each revision shows is a function of its number. So
//! any reader, also of a daemon that was started anew, can tell whether what it
//! looked up is right, and nobody need tell it anything.
//!
//! ```text
//! revision 1 .. ANCHORS      one route for each gateway, in a table of their own:
//!                            so no group ever goes, and ids stay
//!          ANCHORS + k       change k: one of PREFIXES routes of table main is
//!                            made, gets another gateway, or goes
//! ```
//!
//! The prefixes of each family lie in each other: 64 tops hold 8 mids each, a mid
//! 8 hosts. Each change of a prefix makes a difference, so each is a revision:
//! change n of it is a gateway or, each fourth time, its end.
//!
//! With [`Script::bulk`] a marker in a third table and a load of many routes stand
//! before all this (two revisions), which make the image grow and table main one with a
//! wide root.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtm_client::model::{
    Change, GroupId, HopFlags, HopSpec, Hops, LinkName, LinkRef, Prefix, RouteSpec, TABLE_MAIN,
    Verb,
};
use rtm_client::{Answer, Reader};

/// Gateways of each family.
const GATEWAYS: u64 = 200;
/// Routes that keep the gateways' groups.
const ANCHORS: u64 = 2 * GATEWAYS;
/// Their table, and that of the marker.
const ANCHOR_TABLE: u32 = 77;
const MARKER_TABLE: u32 = 79;
/// The marker, and the first anchor.
const MARKER: u32 = 0xc633_6400;

const TOPS: u64 = 64;
const MIDS: u64 = 8 * TOPS;
const HOSTS: u64 = 8 * MIDS;
/// Prefixes of a family, and in all.
const FAMILY: u64 = HOSTS + MIDS + TOPS;
const PREFIXES: u64 = 2 * FAMILY;

/// Change k concerns the prefix at `(k - 1) * STEP`, so that neighbours in the
/// table don't change one behind the other; and the inverse, modulo the same.
const STEP: u64 = 7919;
const INVERSE: u64 = inverse(STEP, PREFIXES);

const fn inverse(value: u64, modulus: u64) -> u64 {
    let mut candidate = 1;
    while value * candidate % modulus != 1 {
        candidate += 1;
    }
    candidate
}

/// Which gateway (from 0) prefix `index` has after its `n`th change.
fn value(index: u64, n: u64) -> Option<u64> {
    let is_there = n == 1 || n > 1 && (n + index) % 4 != 3;
    is_there.then_some((index * 7 + n) % GATEWAYS)
}

/// After `changes` changes in all.
fn after(index: u64, changes: u64) -> Option<u64> {
    let first = index * INVERSE % PREFIXES;
    value(index, if changes > first { (changes - 1 - first) / PREFIXES + 1 } else { 0 })
}

fn prefix(index: u64) -> Prefix {
    let (family, at) = (index / FAMILY, index % FAMILY);
    let (level, number) = match at {
        at if at < HOSTS => (0, at),
        at if at < HOSTS + MIDS => (1, at - HOSTS),
        at => (2, at - HOSTS - MIDS),
    };
    let host = number << (3 * level);
    let (address, len) = match (family, level) {
        (0, 0) => (host4(host), 32),
        (0, 1) => (host4(host) & 0xffff_e000, 19),
        (0, _) => (host4(host) & 0xffff_0000, 16),
        (_, level) => {
            let len = [128, 64, 48][level];
            let address = Ipv6Addr::from(host6(host) & (u128::MAX << (128 - len)));
            return Prefix::new(address.into(), len as u8).expect("no host bits");
        }
    };
    Prefix::new(IpAddr::V4(Ipv4Addr::from(address)), len).expect("no host bits")
}

/// Host `number`'s address.
fn host4(number: u64) -> u32 {
    let (top, mid, host) = ((number / 64) as u32, (number / 8 % 8) as u32, (number % 8) as u32);
    0x0a00_0005 | top << 16 | mid << 13 | host << 4
}

fn host6(number: u64) -> u128 {
    let [top, mid, host] = [number / 64, number / 8 % 8, number % 8].map(u128::from);
    0xfd00 << 112 | top << 80 | mid << 64 | host << 8 | 5
}

fn gateway(family: u64, number: u64) -> IpAddr {
    let number = 1 + number as u16;
    match family {
        0 => Ipv4Addr::new(10, 255, 0, number as u8).into(),
        _ => Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, number).into(),
    }
}

/// A gateway's number, from 0.
pub fn number_of(gateway: IpAddr) -> u64 {
    match gateway {
        IpAddr::V4(gateway) => u64::from(gateway.octets()[3]) - 1,
        IpAddr::V6(gateway) => u64::from(gateway.segments()[7]) - 1,
    }
}

fn route(table: u32, prefix: Prefix, gateway: Option<IpAddr>) -> Change {
    let mut spec = RouteSpec { table, ..RouteSpec::new(prefix) };
    let Some(gateway) = gateway else { return Change::Route(Verb::Delete, spec) };
    spec.hops = Hops::One(HopSpec {
        gateway: Some(gateway),
        link: Some(LinkRef::Name(LinkName::new(b"Ethernet1").expect("a name"))),
        weight: 1,
        flags: HopFlags(0),
    });
    Change::Route(Verb::Replace, spec)
}

/// An address to look up, one of [`Address::all`].
#[derive(Clone, Copy, Debug)]
pub struct Address {
    /// 0: IPv4, 1: IPv6.
    family: u64,
    host: u64,
    /// A host of the script, or one beside it.
    hit: bool,
}

impl Address {
    /// All of a family (0: IPv4, 1: IPv6): hosts of the script, and as many beside.
    pub fn all(family: u64) -> Vec<Address> {
        (0..2 * HOSTS).map(|n| Address { family, host: n / 2, hit: n % 2 == 0 }).collect()
    }

    /// As a number, for IPv4.
    pub fn v4(self) -> u32 {
        host4(self.host) + u32::from(!self.hit)
    }

    /// As a number, for IPv6.
    pub fn v6(self) -> u128 {
        host6(self.host) + u128::from(!self.hit)
    }

    /// As an address.
    pub fn ip(self) -> IpAddr {
        match self.family {
            0 => Ipv4Addr::from(self.v4()).into(),
            _ => Ipv6Addr::from(self.v6()).into(),
        }
    }
}

/// The script.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Script {
    /// Routes beside the script's that are loaded first; 0: none, and no marker.
    pub bulk: u32,
}

impl Script {
    /// The revision behind what stands before the changes.
    pub fn base(self) -> u64 {
        ANCHORS + if self.bulk > 0 { 2 } else { 0 }
    }

    /// What stands before the changes: transactions, in order; of several changes
    /// only the many routes.
    pub fn before(self) -> impl Iterator<Item = Vec<Change>> {
        let host = |n: u64| Prefix::host(Ipv4Addr::from(MARKER + n as u32).into());
        let anchors = (0..ANCHORS).map(move |n| {
            let to = gateway(n / GATEWAYS, n % GATEWAYS);
            vec![route(ANCHOR_TABLE, host(n), Some(to))]
        });
        let mut first = Vec::new();
        if self.bulk > 0 {
            first.push(vec![route(MARKER_TABLE, host(0), Some(gateway(0, 0)))]);
            first.push(
                (0..self.bulk)
                    .map(|n| {
                        let prefix = Ipv4Addr::from(0x1000_0000 + (n << 8));
                        let prefix = Prefix::new(prefix.into(), 24).expect("no host bits");
                        route(TABLE_MAIN, prefix, Some(gateway(0, u64::from(n) % GATEWAYS)))
                    })
                    .collect(),
            );
        }
        first.into_iter().chain(anchors)
    }

    /// Change `k`, from 1.
    pub fn change(k: u64) -> Change {
        let index = (k - 1) % PREFIXES * STEP % PREFIXES;
        let to = value(index, (k - 1) / PREFIXES + 1);
        route(TABLE_MAIN, prefix(index), to.map(|number| gateway(index / FAMILY, number)))
    }

    /// The script by which the image with this marker, or without it, is written:
    /// only [`Script::base`] of it is told, and from the first revision on.
    pub fn of(image: &Reader) -> Script {
        let is_marked = image
            .lookup(MARKER_TABLE, Ipv4Addr::from(MARKER).into())
            .is_ok_and(|found| found.is_some());
        Script { bulk: u32::from(is_marked) }
    }

    /// Which gateway (from 0) the route has that a lookup finds at a revision.
    pub fn expected(self, revision: u64, address: Address) -> Option<u64> {
        let changes = revision.saturating_sub(self.base());
        let first = address.family * FAMILY;
        let host = if address.hit { after(first + address.host, changes) } else { None };
        host.or_else(|| after(first + HOSTS + address.host / 8, changes))
            .or_else(|| after(first + HOSTS + MIDS + address.host / 64, changes))
    }
}

/// Which gateway each group of an image is, of either family.
#[derive(Clone, Debug, Default)]
pub struct Groups(Vec<u16>);

impl Groups {
    /// Those that an image has now; `None`: not all of the script's are there.
    pub fn of(image: &Reader) -> Option<Groups> {
        let mut groups = Vec::new();
        let mut count = 0;
        for group in image.groups() {
            let group = group.ok()?;
            let gateway = number_of(group.hops.first()?.gateway?);
            let id = group.id.0 as usize;
            groups.resize(groups.len().max(id + 1), u16::MAX);
            groups[id] = gateway as u16;
            count += 1;
        }
        (count == ANCHORS).then_some(Groups(groups))
    }

    /// The gateway of an answer.
    #[inline]
    pub fn gateway(&self, answer: Option<Answer>) -> Option<u64> {
        answer.map(|answer| self.of_group(answer.group()))
    }

    /// The gateway of a group.
    #[inline]
    pub fn of_group(&self, group: GroupId) -> u64 {
        u64::from(self.0.get(group.0 as usize).copied().unwrap_or(u16::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// The function, and the changes one after the other.
    #[test]
    fn what_a_revision_shows_is_what_its_changes_made() {
        let script = Script::default();
        let mut table: HashMap<Prefix, IpAddr> = HashMap::new();
        let addresses: Vec<Address> =
            [0, 1].into_iter().flat_map(Address::all).step_by(97).collect();
        for k in 1..=9 * PREFIXES {
            let Change::Route(verb, spec) = Script::change(k) else { panic!("a route") };
            let made = match verb {
                Verb::Delete => table.remove(&spec.prefix).is_some(),
                _ => {
                    let to = spec.hops.as_slice()[0].gateway.unwrap();
                    table.insert(spec.prefix, to) != Some(to)
                }
            };
            assert!(made, "change {k} makes a difference");
            if k % 1777 != 0 {
                continue;
            }
            for address in &addresses {
                let ip = address.ip();
                let longest = |len: &u8| table.get(&Prefix::masked(ip, *len).unwrap());
                let lens: &[u8] = if ip.is_ipv4() { &[32, 19, 16] } else { &[128, 64, 48] };
                let found = lens.iter().find_map(longest).copied();
                let expected = script.expected(script.base() + k, *address);
                let family = u64::from(ip.is_ipv6());
                assert_eq!(found, expected.map(|number| gateway(family, number)), "{ip} at {k}");
            }
        }
        assert!(
            addresses.iter().any(|a| script.expected(script.base() + 5 * PREFIXES, *a).is_none())
        );
        assert_eq!(script.before().count() as u64, script.base());
        let script = Script { bulk: 10 };
        assert_eq!(script.before().count() as u64, script.base());
    }
}
