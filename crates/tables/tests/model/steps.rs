//! What can happen to a table, drawn at random from a world so small that
//! things meet: a dozen prefixes that nest, three metrics, four links.

use std::net::IpAddr;

use proptest::prelude::*;
use rtm_model::{
    Attrs, Change, GroupSpec, HopFlags, HopSpec, Hops, LinkName, LinkRef, LinkSpec, Mac,
    NeighbourSpec, NudState, Prefix, RouteAttrs, RouteSpec, RouteType, Verb,
};
use rtm_tables::Flush;

/// Sources of the world: admin, kernel, two FPM peers, a file.
pub(crate) const SOURCES: usize = 5;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Apply(usize, Change),
    /// Several, each a transaction of its own.
    Many(usize, Vec<Change>),
    Transaction {
        changes: Vec<(usize, Change)>,
        commit: bool,
    },
    Stage {
        changes: Vec<(usize, Change)>,
        commit: bool,
        sweep: bool,
    },
    Flush(Flush),
    Begin(usize),
    End(usize),
    /// Lost, and registered again.
    Lose(usize),
    Sweep {
        slices: usize,
        budget: usize,
    },
    /// A walker begins at one of the states that were kept.
    Resume(prop::sample::Index),
    /// A walker begins a snapshot, over one of the states that were kept.
    Snapshot(prop::sample::Index),
    /// Walkers go on.
    Walk(usize),
    Tidy,
    /// Of the groups that linger the first go.
    Collect(usize),
}

pub(crate) fn acts() -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec(act(), 1..60)
}

fn act() -> impl Strategy<Value = Act> {
    let source = 0..SOURCES;
    let changes = || prop::collection::vec((0..SOURCES, change()), 1..12);
    let flush = prop_oneof![
        Just(Flush { routes: true, neighbours: true }),
        Just(Flush { routes: true, neighbours: false }),
        Just(Flush { routes: false, neighbours: true }),
    ];
    prop_oneof![
        40 => (source.clone(), change()).prop_map(|(source, change)| Act::Apply(source, change)),
        10 => (source.clone(), prop::collection::vec(change(), 1..20))
            .prop_map(|(source, changes)| Act::Many(source, changes)),
        10 => (source.clone(), prop::collection::vec(plain(), 4..40))
            .prop_map(|(source, changes)| Act::Many(source, changes)),
        10 => (changes(), any::<bool>())
            .prop_map(|(changes, commit)| Act::Transaction { changes, commit }),
        6 => (changes(), any::<bool>(), any::<bool>())
            .prop_map(|(changes, commit, sweep)| Act::Stage { changes, commit, sweep }),
        1 => flush.prop_map(Act::Flush),
        2 => source.clone().prop_map(Act::Begin),
        3 => source.clone().prop_map(Act::End),
        1 => source.prop_map(Act::Lose),
        4 => (1_usize..4, 1_usize..4).prop_map(|(slices, budget)| Act::Sweep { slices, budget }),
        4 => any::<prop::sample::Index>().prop_map(Act::Resume),
        2 => any::<prop::sample::Index>().prop_map(Act::Snapshot),
        12 => (1_usize..8).prop_map(Act::Walk),
        2 => Just(Act::Tidy),
        4 => (0_usize..6).prop_map(Act::Collect),
    ]
}

fn pick<T: Clone + std::fmt::Debug + 'static>(all: Vec<T>) -> impl Strategy<Value = T> + Clone {
    prop::sample::select(all)
}

pub(crate) fn prefixes() -> Vec<Prefix> {
    [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.0.0.0/9",
        "10.128.0.0/9",
        "10.1.0.0/16",
        "10.1.1.0/24",
        "10.1.1.128/25",
        "10.1.1.1/32",
        "10.1.1.2/32",
        "192.168.0.0/16",
        "::/0",
        "2001:db8::/32",
        "2001:db8::/48",
        "2001:db8:0:8000::/49",
        "2001:db8::1/128",
        "fe80::/64",
    ]
    .map(|text| text.parse().unwrap())
    .to_vec()
}

fn link_ref() -> impl Strategy<Value = LinkRef> + Clone {
    prop_oneof![
        4 => pick(names()).prop_map(LinkRef::Name),
        1 => (1_u32..4).prop_map(LinkRef::Ifindex),
    ]
}

fn names() -> Vec<LinkName> {
    ["eth0", "eth1", "eth2", "lo"].map(|name| name.parse().unwrap()).to_vec()
}

fn gateways() -> Vec<IpAddr> {
    ["10.255.0.1", "10.255.0.2", "fe80::1", "fe80::2"].map(|text| text.parse().unwrap()).to_vec()
}

fn hop() -> impl Strategy<Value = HopSpec> {
    let gateway = prop::option::weighted(0.85, pick(gateways()));
    let link = prop::option::weighted(0.7, link_ref());
    let flags = pick(vec![HopFlags::default(), HopFlags::default(), HopFlags::DEAD]);
    (gateway, link, 1_u16..3, flags).prop_map(|(gateway, link, weight, flags)| {
        // A next hop has one or both.
        let link = link.or(gateway.is_none().then(|| LinkRef::Name("eth0".parse().unwrap())));
        HopSpec { gateway, link, weight, flags }
    })
}

fn hops() -> impl Strategy<Value = Hops> {
    prop_oneof![
        2 => Just(Hops::None),
        8 => hop().prop_map(Hops::One),
        3 => prop::collection::vec(hop(), 2..4).prop_map(Hops::Many),
        2 => (1_u32..4).prop_map(Hops::Named),
    ]
}

fn attrs() -> impl Strategy<Value = Attrs> {
    let mtu = |mtu| RouteAttrs { metrics: vec![(2, mtu)], ..RouteAttrs::default() };
    pick(vec![
        Attrs::NONE,
        Attrs::NONE,
        Attrs::NONE,
        mtu(1400).encode().unwrap(),
        mtu(9000).encode().unwrap(),
    ])
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![
        3 => Just(Verb::Add),
        1 => Just(Verb::Change),
        5 => Just(Verb::Replace),
        2 => Just(Verb::Append),
        1 => Just(Verb::Prepend),
        4 => Just(Verb::Delete),
    ]
}

fn route() -> impl Strategy<Value = Change> {
    let kinds = vec![
        None,
        None,
        None,
        Some(RouteType::Unicast),
        Some(RouteType::Blackhole),
        Some(RouteType::Local),
        Some(RouteType::Throw),
    ];
    let key = (
        pick(prefixes()),
        pick(vec![254_u32, 254, 254, 100]),
        pick(vec![0_u8, 0, 0, 8]),
        pick(vec![None, None, Some(0), Some(1), Some(1024)]),
        pick(vec![None, None, None, None, Some(0), Some(2)]),
    );
    let value = (
        pick(kinds),
        pick(vec![None, None, Some(4_u8), Some(186)]),
        pick(vec![None, None, None, Some(0_u8), Some(253)]),
        pick(vec![None, None, None, Some(0_u8), Some(255)]),
        hops(),
        attrs(),
    );
    (verb(), key, value).prop_map(|(verb, key, value)| {
        let (prefix, table, tos, metric, ordinal) = key;
        let (kind, protocol, scope, distance, hops, attrs) = value;
        let mut spec = RouteSpec {
            table,
            prefix,
            tos,
            metric,
            ordinal,
            kind,
            protocol,
            scope,
            distance,
            hops,
            attrs,
        };
        if verb == Verb::Delete && spec.attrs.is_none() {
            // Most deletes name little.
            spec.scope = None;
            spec.protocol = None;
        }
        Change::Route(verb, spec)
    })
}

/// What most of a stream is: little is said, and nothing of it is unusual.
fn plain() -> impl Strategy<Value = Change> {
    let verb = pick(vec![Verb::Replace, Verb::Replace, Verb::Replace, Verb::Add, Verb::Delete]);
    let metric = pick(vec![None, None, None, None, None, None, Some(0), Some(1024)]);
    (verb, pick(prefixes()), metric, hop()).prop_map(|(verb, prefix, metric, hop)| {
        let hops = if verb == Verb::Delete { Hops::None } else { Hops::One(hop) };
        Change::Route(verb, RouteSpec { metric, hops, ..RouteSpec::new(prefix) })
    })
}

fn neighbour() -> impl Strategy<Value = Change> {
    let ips: Vec<IpAddr> =
        ["10.255.0.1", "10.255.0.2", "fe80::1"].map(|text| text.parse().unwrap()).to_vec();
    let mac = prop::option::weighted(0.8, (1_u8..4).prop_map(|n| Mac([2, 0, 0, 0, 0, n])));
    let state = pick(vec![None, Some(NudState::REACHABLE), Some(NudState::STALE)]);
    (verb(), pick(ips), prop::option::weighted(0.7, link_ref()), mac, state).prop_map(
        |(verb, ip, link, mac, state)| {
            let spec = NeighbourSpec { ip, link, mac, state, flags: 0, protocol: 0 };
            Change::Neighbour(verb, spec)
        },
    )
}

fn party_verb() -> impl Strategy<Value = Verb> {
    pick(vec![Verb::Add, Verb::Replace, Verb::Replace, Verb::Change, Verb::Delete, Verb::Append])
}

fn change() -> impl Strategy<Value = Change> {
    let link = (party_verb(), 1_u32..4, pick(names()))
        .prop_map(|(verb, ifindex, name)| Change::Link(verb, LinkSpec { ifindex, name }));
    let group = (party_verb(), 1_u32..4, prop::collection::vec(hop(), 1..3))
        .prop_map(|(verb, nhid, hops)| Change::Group(verb, GroupSpec { nhid, hops }));
    prop_oneof![20 => route(), 6 => neighbour(), 2 => link, 2 => group]
}
