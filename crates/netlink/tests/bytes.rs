//! Bytes of every kind: nothing panics, what is cut off is said to be, and what
//! is encoded is read as it was.

use proptest::prelude::*;
use rtm_model::{HopFlags, HopSpec, Hops, LinkRef, RouteAttrs, RouteSpec, RouteType};
use rtm_netlink::{
    Answer, Body, Builder, Member, NeighbourSkip, NextHopMessage, Object, RouteMessage, RouteSkip,
    attributes, flag, kind, messages,
};

fn body(bytes: &[u8]) -> Body<'_> {
    Body::decode(messages(bytes).next().unwrap().unwrap()).unwrap()
}

fn touch(bytes: &[u8]) {
    for message in messages(bytes) {
        let Ok(message) = message else { return };
        match Body::decode(message) {
            Ok(Body::Route(route)) => drop(route.spec()),
            Ok(Body::Neighbour(neighbour)) => drop(neighbour.spec()),
            Ok(Body::Link(link)) => drop(link.name()),
            Ok(Body::NextHop(object)) => drop(object.object.members().count()),
            Ok(_) | Err(_) => {}
        }
    }
}

proptest! {
    #[test]
    fn nothing_panics(
        mut bytes in proptest::collection::vec(any::<u8>(), 16..300),
        kind in prop::sample::select(vec![2_u16, 3, 16, 17, 20, 24, 25, 28, 29, 104, 105]),
    ) {
        touch(&bytes);
        // And with a header that is right, so that the body is reached.
        let len = bytes.len() as u32;
        bytes[..4].copy_from_slice(&len.to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        touch(&bytes);
    }

    #[test]
    fn damage_anywhere_is_survived(at in 0_usize..200, value in any::<u8>(), end in 0_usize..200) {
        let mut out = Builder::default();
        RouteMessage::encode(&mut out, flag::CREATE, 1, &rich()).unwrap();
        NextHopMessage::encode_group(&mut out, 0, 2, 7, &[Member { id: 1, weight: 300 }]);
        let mut bytes = out.bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = value;
        touch(&bytes);
        touch(&bytes[..end.min(bytes.len())]);
    }
}

fn rich() -> RouteSpec {
    let mut spec = RouteSpec::new("10.0.0.0/8".parse().unwrap());
    spec.kind = Some(RouteType::Unicast);
    spec.scope = Some(0);
    spec.protocol = Some(4);
    spec.metric = Some(1);
    let hop = |n: u32| HopSpec {
        gateway: None,
        link: Some(LinkRef::Ifindex(n)),
        weight: n as u16,
        flags: HopFlags::ONLINK,
    };
    spec.hops = Hops::Many(vec![hop(1), hop(2), hop(3)]);
    // The second next hop's encapsulation, as it is kept.
    let mut kept = vec![16, 0, 0, 0, 1, 0, 0, 0, 6, 0, 21, 0, 1, 0, 0, 0];
    kept[..2].copy_from_slice(&16_u16.to_ne_bytes());
    spec.attrs = RouteAttrs { opaque: vec![(9, kept), (99, vec![1, 2, 3])], ..Default::default() }
        .encode()
        .unwrap();
    spec
}

#[test]
fn what_is_not_known_comes_back_unharmed() {
    let mut out = Builder::default();
    RouteMessage::encode(&mut out, 0, 1, &rich()).unwrap();
    let Body::Route(route) = body(out.bytes()) else { panic!() };
    assert_eq!(route.unknown(), 1);
    assert_eq!(route.spec().unwrap(), rich());
}

#[test]
fn next_hop_objects_go_there_and_back() {
    let mut out = Builder::default();
    let hop = HopSpec {
        gateway: Some("2001:db8::1".parse().unwrap()),
        link: Some(LinkRef::Ifindex(3)),
        weight: 1,
        flags: HopFlags::ONLINK,
    };
    NextHopMessage::encode_hop(&mut out, flag::CREATE, 1, 20, &hop);
    let members = [Member { id: 20, weight: 1 }, Member { id: 21, weight: 65_536 }];
    NextHopMessage::encode_group(&mut out, flag::CREATE, 1, 22, &members);
    NextHopMessage::encode_delete(&mut out, 0, 1, 20);
    let all: Vec<_> = messages(out.bytes()).map(|m| Body::decode(m.unwrap()).unwrap()).collect();
    let [Body::NextHop(one), Body::NextHop(group), Body::NextHop(gone)] = &all[..] else {
        panic!("{all:?}")
    };
    assert_eq!((one.id, &one.object), (20, &Object::Hop(hop)));
    assert_eq!(group.object.members().collect::<Vec<_>>(), members);
    assert!(gone.gone && gone.id == 20 && gone.object == Object::Nothing);
}

#[test]
fn answers_are_told_apart() {
    // ERROR -17 (EEXIST) with the request's header and the reason in words.
    let mut out = Builder::default();
    let mut fixed = (-17_i32).to_ne_bytes().to_vec();
    fixed.extend_from_slice(&[0; 16]);
    out.begin(kind::ERROR, flag::CAPPED | flag::ACK_TLVS, 9, &fixed);
    out.attribute(1, b"Nexthop has invalid gateway\0");
    out.end();
    let expected =
        Answer { ends_dump: false, errno: 17, text: b"Nexthop has invalid gateway", sequence: 9 };
    assert!(matches!(body(out.bytes()), Body::Answer(answer) if answer == expected));
    let mut out = Builder::default();
    out.begin(kind::DONE, flag::MULTI, 4, &[0; 4]);
    out.end();
    assert!(matches!(
        body(out.bytes()),
        Body::Answer(Answer { ends_dump: true, errno: 0, sequence: 4, .. })
    ));
}

#[test]
fn what_is_cut_off_is_said_to_be() {
    let mut out = Builder::default();
    RouteMessage::encode(&mut out, 0, 1, &rich()).unwrap();
    let bytes = out.bytes();
    for len in 1..bytes.len() {
        assert!(messages(&bytes[..len]).next().unwrap().is_err(), "{len} bytes");
    }
    assert!(attributes(&[3, 0, 1, 0]).next().unwrap().is_err());
    assert!(attributes(&[9, 0, 1, 0, 0, 0, 0, 0]).next().unwrap().is_err());
}

#[test]
fn what_is_no_route_or_neighbour_of_ours_is_told() {
    let route = |fixed: [u8; 12]| {
        let mut out = Builder::default();
        out.begin(kind::NEWROUTE, 0, 0, &fixed);
        out.end();
        let Body::Route(route) = body(out.bytes()) else { panic!() };
        route.spec().map(drop)
    };
    assert_eq!(route([2, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]), Ok(()));
    assert_eq!(route([28, 20, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]), Err(RouteSkip::Family));
    assert_eq!(route([2, 0, 0, 0, 254, 4, 0, 1, 0, 2, 0, 0]), Err(RouteSkip::Cloned));
    assert_eq!(route([10, 0, 64, 0, 254, 4, 0, 1, 0, 0, 0, 0]), Err(RouteSkip::SourcePrefix));
    assert_eq!(route([2, 0, 0, 0, 254, 4, 0, 77, 0, 0, 0, 0]), Err(RouteSkip::Type));
    assert_eq!(route([2, 33, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]), Err(RouteSkip::Limits));

    let neighbour = |fixed: [u8; 12], ip: &[u8], lladdr: &[u8]| {
        let mut out = Builder::default();
        out.begin(kind::NEWNEIGH, 0, 0, &fixed);
        out.attribute(1, ip);
        out.attribute(2, lladdr);
        out.end();
        let Body::Neighbour(neighbour) = body(out.bytes()) else { panic!() };
        neighbour.spec().map(drop)
    };
    let ip = [192, 0, 2, 1];
    let state = |bits: u16| bits.to_ne_bytes();
    let fixed = |family, bits, flags, kind| {
        let [a, b] = state(bits);
        [family, 0, 0, 0, 3, 0, 0, 0, a, b, flags, kind]
    };
    assert_eq!(neighbour(fixed(2, 2, 0, 1), &ip, &[2; 6]), Ok(()));
    assert_eq!(neighbour(fixed(7, 2, 0, 1), &ip, &[2; 6]), Err(NeighbourSkip::Family));
    assert_eq!(neighbour(fixed(2, 2, 8, 1), &ip, &[2; 6]), Err(NeighbourSkip::Proxy));
    assert_eq!(neighbour(fixed(2, 64, 0, 5), &ip, &[2; 6]), Err(NeighbourSkip::NoArp));
    assert_eq!(neighbour(fixed(2, 2, 0, 1), &ip, &[2; 20]), Err(NeighbourSkip::LinkLayer));
}
