//! Tables for tests: they give ids to what a specification names, so that it
//! can be printed; and strategies that make specifications.

#![allow(dead_code, unreachable_pub)] // Each test file uses another part.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use rtm_model::names::{RTAX_FEATURES, RTAX_HOPLIMIT, RTAX_LOCK, RTAX_RTO_MIN};
use rtm_model::text::Resolve;
use rtm_model::{
    Family, Group, GroupId, HopFlags, HopSpec, Hops, Link, LinkId, LinkName, LinkRef, Mac,
    Neighbour, NeighbourKey, NeighbourSpec, NeighbourValue, NextHop, NudState, Prefix, RouteAttrs,
    RouteKey, RouteSpec, RouteType, RouteValue, RouterPreference, default_metric,
};

/// Links and groups.
#[derive(Default, Debug)]
pub struct Store {
    pub links: Vec<Link>,
    pub groups: Vec<Group>,
}

impl Resolve for Store {
    fn link(&self, id: LinkId) -> Option<Link> {
        self.links.iter().find(|link| link.id == id).copied()
    }

    fn group(&self, id: GroupId) -> Option<Cow<'_, Group>> {
        self.groups.iter().find(|group| group.id == id).map(Cow::Borrowed)
    }
}

impl Store {
    pub fn link_of(&mut self, link: LinkRef) -> LinkId {
        let LinkRef::Name(name) = link else {
            panic!("tests name links");
        };
        if let Some(link) = self.links.iter().find(|link| link.name == name) {
            return link.id;
        }
        let id = LinkId(self.links.len() as u32 + 1);
        self.links.push(Link { id, name, ifindex: 0 });
        id
    }

    /// The route that the tables would make of it.
    pub fn route(&mut self, spec: &RouteSpec) -> (RouteKey, RouteValue) {
        let group = match &spec.hops {
            Hops::None => GroupId::NONE,
            hops => {
                let hops = hops
                    .as_slice()
                    .iter()
                    .map(|hop| NextHop {
                        gateway: hop.gateway,
                        link: hop.link.map(|link| self.link_of(link)),
                        weight: hop.weight,
                        flags: hop.flags,
                    })
                    .collect();
                let id = GroupId(self.groups.len() as u32 + 1);
                let nhid = if let Hops::Named(nhid) = spec.hops { nhid } else { 0 };
                self.groups.push(Group { id, nhid, hops });
                id
            }
        };
        let key = RouteKey {
            table: spec.table,
            prefix: spec.prefix,
            tos: spec.tos,
            metric: spec.metric.unwrap_or(default_metric(spec.prefix.family())),
            ordinal: spec.ordinal.unwrap_or(0),
        };
        let value = RouteValue {
            kind: spec.kind.unwrap_or(RouteType::Unicast),
            protocol: spec.protocol.unwrap_or(3),
            scope: spec.scope.unwrap_or(0),
            distance: spec.distance.unwrap_or(1),
            group,
            attrs: spec.attrs.clone(),
        };
        (key, value)
    }

    pub fn neighbour(&mut self, spec: &NeighbourSpec) -> Neighbour {
        Neighbour {
            key: NeighbourKey { ip: spec.ip, link: spec.link.map(|link| self.link_of(link)) },
            value: NeighbourValue {
                mac: spec.mac,
                state: spec.state.unwrap_or(NudState::PERMANENT),
                flags: spec.flags,
                protocol: spec.protocol,
            },
        }
    }
}

pub fn arb_v4() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}

/// Addresses with runs of zeros, where printers go wrong.
pub fn arb_v6() -> impl Strategy<Value = Ipv6Addr> {
    prop::array::uniform8(prop_oneof![2 => Just(0_u16), 1 => Just(0xffff), 3 => any::<u16>()])
        .prop_map(Ipv6Addr::from)
}

pub fn arb_ip(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::V4 => arb_v4().prop_map(IpAddr::V4).boxed(),
        Family::V6 => arb_v6().prop_map(IpAddr::V6).boxed(),
    }
}

pub fn arb_any_ip() -> impl Strategy<Value = IpAddr> {
    arb_family().prop_flat_map(arb_ip)
}

pub fn arb_family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

pub fn arb_prefix(family: Family) -> impl Strategy<Value = Prefix> {
    let bits = family.bits();
    let len = prop_oneof![1 => Just(0), 1 => Just(bits), 8 => 0..=bits];
    (arb_ip(family), len).prop_map(|(ip, len)| Prefix::masked(ip, len).unwrap())
}

pub fn arb_any_prefix() -> impl Strategy<Value = Prefix> {
    arb_family().prop_flat_map(arb_prefix)
}

/// Names that Linux takes, odd ones among them.
pub fn arb_link() -> impl Strategy<Value = LinkName> {
    let odd = prop::sample::select(vec![
        "via", "dev", "nexthop", "default", "10", "10.0.0.1", "#1", "-4", "--", "'", "\"x", "a'b#",
        "\\", "lo", "é", "local", "if7", "weight",
    ]);
    prop_oneof![
        4 => "[a-zA-Z][a-zA-Z0-9._-]{0,14}".prop_map(|name| name.parse().unwrap()),
        1 => odd.prop_map(|name| name.parse().unwrap()),
    ]
}

fn arb_hop(family: Family) -> impl Strategy<Value = HopSpec> {
    let gateway = match family {
        Family::V4 => arb_any_ip().boxed(),
        Family::V6 => arb_ip(Family::V6),
    };
    let flags = prop::sample::subsequence(vec![1_u8, 4, 16], 0..=3);
    (prop::option::weighted(0.8, gateway), prop::option::of(arb_link()), 1..=256_u16, flags)
        .prop_map(|(gateway, link, weight, flags)| {
            let link = if gateway.is_none() && link.is_none() {
                Some("eth0".parse().unwrap())
            } else {
                link
            };
            let mut flags = flags.into_iter().sum::<u8>();
            if gateway.is_none() || link.is_none() {
                flags &= !HopFlags::ONLINK.0;
            }
            HopSpec { gateway, link: link.map(LinkRef::Name), weight, flags: HopFlags(flags) }
        })
}

fn arb_hops(family: Family, kind: RouteType) -> BoxedStrategy<Hops> {
    if !kind.wants_next_hop() {
        return Just(Hops::None).boxed();
    }
    prop_oneof![
        3 => arb_hop(family).prop_map(|hop| Hops::One(HopSpec { weight: 1, ..hop })),
        2 => prop::collection::vec(arb_hop(family), 2..5).prop_map(Hops::Many),
        1 => (1..u32::MAX).prop_map(Hops::Named),
    ]
    .boxed()
}

/// Values that a printed line can hold: whole milliseconds, no unknown bits.
fn arb_metrics() -> impl Strategy<Value = (Vec<(u16, u32)>, Vec<u8>)> {
    let metric = prop_oneof![
        (prop::sample::select(vec![2_u16, 3, 6, 7, 8, 9, 11, 14]), any::<u32>()),
        (Just(RTAX_HOPLIMIT), 0..=255_u32),
        (prop::sample::select(vec![15_u16, 17]), 0..=1_u32),
        (Just(4_u16), (0..100_000_u32).prop_map(|ms| ms * 8)),
        (Just(5_u16), (0..100_000_u32).prop_map(|ms| ms * 4)),
        (Just(RTAX_RTO_MIN), 0..100_000_u32),
        (Just(RTAX_FEATURES), prop::sample::select(vec![1_u32, 16, 17, 3])),
    ];
    let congestion = prop_oneof![3 => Just(""), 1 => Just("cubic"), 1 => Just("bbr")];
    (prop::collection::vec(metric, 0..4), congestion, any::<u32>()).prop_map(
        |(mut metrics, congestion, locks)| {
            metrics.sort_unstable();
            metrics.dedup_by_key(|metric| metric.0);
            // These words take no `lock`; rto_min has one always.
            let lockable = |number: u16| ![12, 15, 17].contains(&number);
            let mut mask = 0;
            for &(number, _) in &metrics {
                if lockable(number) {
                    mask |= locks & 1 << number;
                }
                if number == RTAX_RTO_MIN {
                    mask |= 1 << number;
                }
            }
            if !congestion.is_empty() {
                mask |= locks & 1 << 16;
            }
            if mask != 0 {
                metrics.insert(0, (RTAX_LOCK, mask));
            }
            (metrics, congestion.as_bytes().to_vec())
        },
    )
}

fn arb_attrs(family: Family) -> impl Strategy<Value = RouteAttrs> {
    let pref = match family {
        Family::V4 => Just(RouterPreference::MEDIUM).boxed(),
        Family::V6 => prop::sample::select(vec![
            RouterPreference::MEDIUM,
            RouterPreference::HIGH,
            RouterPreference::LOW,
        ])
        .boxed(),
    };
    let flags = prop::sample::select(vec![0_u32, 2]);
    let opaque = prop_oneof![
        3 => Just(Vec::new()),
        1 => any::<[u8; 4]>().prop_map(|realms| vec![(11, realms.to_vec())]),
        1 => Just(vec![(26, vec![1])]),
    ];
    let rich = (flags, prop::option::of(arb_ip(family)), pref, arb_metrics(), opaque).prop_map(
        move |(flags, prefsrc, pref, (metrics, congestion), mut opaque)| {
            // `ip` prints this word without a blank in front; only for IPv4 it can
            // be read back.
            if family == Family::V6 {
                opaque.retain(|&(number, _): &(u16, Vec<u8>)| number != 26);
            }
            RouteAttrs { flags, prefsrc, pref, metrics, congestion, opaque }
        },
    );
    prop_oneof![1 => Just(RouteAttrs::default()), 1 => rich]
}

/// Routes as the parser of commands makes them from a line that spells
/// everything out.
pub fn arb_spec() -> impl Strategy<Value = RouteSpec> {
    let kind = prop_oneof![
        3 => Just(RouteType::Unicast),
        2 => prop::sample::select(RouteType::NAMES.map(|(kind, _)| kind).to_vec()),
    ];
    (arb_family(), kind)
        .prop_flat_map(|(family, kind)| {
            let metric = match family {
                Family::V4 => prop::option::of(any::<u32>()).boxed(),
                // The parser turns 0 into the default.
                Family::V6 => prop::option::of(1..u32::MAX).boxed(),
            };
            let table = prop_oneof![Just(254_u32), Just(255), 1..=u32::MAX];
            (
                (arb_prefix(family), Just(kind), table, prop_oneof![Just(0), any::<u8>()], metric),
                (any::<u8>(), any::<u8>(), prop::option::of(any::<u8>())),
                arb_hops(family, kind),
                arb_attrs(family),
            )
        })
        .prop_map(|((prefix, kind, table, tos, metric), rest, hops, attrs)| {
            let (protocol, scope, distance) = rest;
            RouteSpec {
                table,
                prefix,
                tos,
                metric,
                ordinal: None,
                kind: Some(kind),
                protocol: Some(protocol),
                scope: Some(scope),
                distance,
                hops,
                attrs: attrs.encode().unwrap(),
            }
        })
}

pub fn arb_mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

/// Neighbours as the parser makes them.
pub fn arb_neighbour() -> impl Strategy<Value = NeighbourSpec> {
    let state = (0..8_u32).prop_map(|bit| NudState(1 << bit));
    let flags = prop::sample::select(vec![0_u8, 0x80, 0x10, 0x90]);
    (arb_any_ip(), prop::option::of(arb_link()), arb_mac(), state, flags, any::<u8>()).prop_map(
        |(ip, link, mac, state, flags, protocol)| NeighbourSpec {
            ip,
            link: link.map(LinkRef::Name),
            mac: Some(mac),
            state: Some(state),
            flags,
            protocol,
        },
    )
}
