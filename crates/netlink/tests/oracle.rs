//! The same messages by netlink-packet-route, which none of us wrote: what we
//! encode it reads, what it encodes we read.

use std::net::IpAddr;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage as OracleLink};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage as OracleNeighbour, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMetric, RouteProtocol, RouteScope, RouteType as OracleType,
};
use rtm_model::{
    HopFlags, HopSpec, Hops, LinkRef, NudState, RouteAttrs, RouteSpec, RouteType, RouterPreference,
};
use rtm_netlink::{Body, Builder, RouteMessage, flag, messages};

fn hop(gateway: Option<&str>, ifindex: u32, weight: u16) -> HopSpec {
    HopSpec {
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        link: (ifindex != 0).then_some(LinkRef::Ifindex(ifindex)),
        weight,
        flags: HopFlags::default(),
    }
}

fn spec(prefix: &str, hops: Hops) -> RouteSpec {
    let mut spec = RouteSpec::new(prefix.parse().unwrap());
    spec.kind = Some(RouteType::Unicast);
    spec.protocol = Some(186);
    spec.scope = Some(0);
    spec.metric = Some(20);
    spec.hops = hops;
    spec
}

fn oracle(bytes: &[u8]) -> RouteNetlinkMessage {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).unwrap();
    match message.payload {
        NetlinkPayload::InnerMessage(inner) => inner,
        other => panic!("{other:?}"),
    }
}

fn ours(message: RouteNetlinkMessage) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flag::CREATE;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn decode_route(bytes: &[u8]) -> RouteSpec {
    let message = messages(bytes).next().unwrap().unwrap();
    match Body::decode(message).unwrap() {
        Body::Route(route) => route.spec().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn routes_go_there_and_back() {
    let attrs = RouteAttrs {
        prefsrc: Some("10.0.0.1".parse().unwrap()),
        metrics: vec![(2, 1400), (8, 1360)],
        congestion: b"bbr".to_vec(),
        opaque: vec![(11, 7_u32.to_ne_bytes().to_vec()), (26, vec![1])],
        ..RouteAttrs::default()
    };
    let mut rich = spec("10.0.0.0/8", Hops::One(hop(Some("192.0.2.1"), 3, 1)));
    rich.attrs = attrs.encode().unwrap();
    rich.table = 1000;
    rich.tos = 0x10;
    let mut low = spec("2001:db8::/32", Hops::One(hop(Some("fe80::1"), 3, 1)));
    low.attrs =
        RouteAttrs { pref: RouterPreference::LOW, ..RouteAttrs::default() }.encode().unwrap();
    let mut hole = spec("10.0.0.0/8", Hops::None);
    hole.kind = Some(RouteType::Blackhole);
    let mut nowhere = spec("198.51.100.0/24", Hops::Named(20));
    nowhere.metric = None;
    for spec in [
        spec("0.0.0.0/0", Hops::One(hop(Some("192.0.2.1"), 3, 1))),
        spec("10.0.0.0/8", Hops::One(hop(None, 3, 1))),
        spec("10.0.0.0/8", Hops::One(hop(Some("2001:db8::1"), 3, 1))),
        spec(
            "10.0.0.0/8",
            Hops::Many(vec![hop(Some("192.0.2.1"), 3, 2), hop(Some("2001:db8::1"), 5, 256)]),
        ),
        spec("2001:db8::/32", Hops::Many(vec![hop(Some("fe80::1"), 3, 1), hop(None, 5, 1)])),
        rich,
        low,
        hole,
        nowhere,
    ] {
        let mut out = Builder::default();
        RouteMessage::encode(&mut out, flag::REQUEST | flag::REPLACE, 7, &spec).unwrap();
        assert_eq!(decode_route(out.bytes()), spec);
        let RouteNetlinkMessage::NewRoute(theirs) = oracle(out.bytes()) else { panic!() };
        assert_eq!(theirs.header.destination_prefix_length, spec.prefix.len());
        let expected = match spec.kind {
            Some(RouteType::Blackhole) => OracleType::BlackHole,
            _ => OracleType::Unicast,
        };
        assert_eq!(theirs.header.kind, expected);
        let found = |wanted: fn(&RouteAttribute) -> bool| theirs.attributes.iter().any(wanted);
        assert_eq!(found(|a| matches!(a, RouteAttribute::Table(1000))), spec.table == 1000);
        let many = matches!(spec.hops, Hops::Many(_));
        assert_eq!(
            found(|a| matches!(a, RouteAttribute::MultiPath(hops) if hops.len() == 2)),
            many
        );
        let metrics = found(|a| {
            matches!(a, RouteAttribute::Metrics(all)
                if all.contains(&RouteMetric::Mtu(1400)) && all.contains(&RouteMetric::Advmss(1360)))
        });
        assert_eq!(metrics, spec.table == 1000);
        // And what it makes of that again, we read as before (but for what it
        // doesn't know).
        if spec.table != 1000 && spec.hops != Hops::Named(20) {
            assert_eq!(decode_route(&ours(RouteNetlinkMessage::NewRoute(theirs))), spec);
        }
    }
}

#[test]
fn its_routes_are_read() {
    let mut theirs = netlink_packet_route::route::RouteMessage::default();
    theirs.header.address_family = netlink_packet_route::AddressFamily::Inet;
    theirs.header.destination_prefix_length = 24;
    theirs.header.kind = OracleType::Unicast;
    theirs.header.protocol = RouteProtocol::Kernel;
    theirs.header.scope = RouteScope::Link;
    theirs.header.table = 254;
    theirs.attributes = vec![
        RouteAttribute::Destination(RouteAddress::Inet("192.0.2.0".parse().unwrap())),
        RouteAttribute::Oif(9),
        RouteAttribute::PrefSource(RouteAddress::Inet("192.0.2.7".parse().unwrap())),
        RouteAttribute::Expires(77),
    ];
    let spec = decode_route(&ours(RouteNetlinkMessage::NewRoute(theirs)));
    assert_eq!(spec.prefix.to_string(), "192.0.2.0/24");
    assert_eq!(spec.hops, Hops::One(hop(None, 9, 1)));
    assert_eq!((spec.protocol, spec.scope, spec.metric), (Some(2), Some(253), None));
    let attrs = spec.attrs.decode();
    assert_eq!(attrs.prefsrc, Some("192.0.2.7".parse().unwrap()));
    assert!(attrs.opaque.is_empty(), "when it expires is no part of a route");
}

#[test]
fn its_neighbours_and_links_are_read() {
    let mut theirs = OracleNeighbour::default();
    theirs.header.family = netlink_packet_route::AddressFamily::Inet6;
    theirs.header.ifindex = 4;
    theirs.header.state = NeighbourState::Stale;
    theirs.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet6("fe80::2".parse().unwrap())),
        NeighbourAttribute::LinkLocalAddress(vec![2, 0, 0, 0, 0, 9]),
    ];
    let bytes = ours(RouteNetlinkMessage::NewNeighbour(theirs));
    let Body::Neighbour(read) = Body::decode(messages(&bytes).next().unwrap().unwrap()).unwrap()
    else {
        panic!()
    };
    let spec = read.spec().unwrap();
    assert_eq!(spec.ip, "fe80::2".parse::<IpAddr>().unwrap());
    assert_eq!(spec.mac.unwrap().to_string(), "02:00:00:00:00:09");
    assert_eq!(spec.state, Some(NudState::STALE));

    let mut theirs = OracleLink::default();
    theirs.header.index = 4;
    theirs.attributes = vec![LinkAttribute::IfName("veth0".into()), LinkAttribute::Mtu(1500)];
    let bytes = ours(RouteNetlinkMessage::DelLink(theirs));
    let Body::Link(read) = Body::decode(messages(&bytes).next().unwrap().unwrap()).unwrap() else {
        panic!()
    };
    assert!(read.gone);
    assert_eq!((read.ifindex, read.name().unwrap().as_str()), (4, "veth0"));
}
