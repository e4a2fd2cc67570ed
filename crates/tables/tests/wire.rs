//! The wire, with generated input: what goes in comes out, and nothing that
//! comes in does harm.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rtm_model::{
    Attrs, Change, EntityKind, GroupSpec, HOPS_MAX, HopFlags, HopSpec, Hops, LinkName, LinkRef,
    LinkSpec, Mac, NeighbourSpec, NudState, Prefix, RouteAttrs, RouteSpec, RouteType,
    RouterPreference, Verb,
};
use rtm_tables::wire::records::{self, RECORD_BYTES_MAX, Records};
use rtm_tables::wire::{
    CHANGE_FRAME_BYTES_MAX, ClientFrame, DaemonFrame, Frame, HEADER_BYTES, MUST_UNDERSTAND,
    WireError, decode_change, encode_change,
};
use rtm_tables::{RecordOp, Revision};

const LIMIT: usize = 64 * 1024;

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn verb() -> impl Strategy<Value = Verb> {
    (1_u8..=6).prop_map(|number| Verb::from_number(number).unwrap())
}

fn name() -> impl Strategy<Value = LinkName> {
    "[a-zA-Z0-9_.@é-]{1,7}"
        .prop_filter_map("not a name", |name| LinkName::new(name.as_bytes()).ok())
}

fn link() -> impl Strategy<Value = LinkRef> {
    prop_oneof![name().prop_map(LinkRef::Name), any::<u32>().prop_map(LinkRef::Ifindex)]
}

fn hop() -> impl Strategy<Value = HopSpec> {
    (option::of(address()), option::of(link()), 1_u16..=256, 0_u8..8).prop_map(
        |(gateway, link, weight, bits)| {
            let bits = [0, 1, 4, 5, 16, 17, 20, 21][usize::from(bits)];
            HopSpec { gateway, link, weight, flags: HopFlags(bits) }
        },
    )
}

fn hops() -> impl Strategy<Value = Hops> {
    prop_oneof![
        Just(Hops::None),
        hop().prop_map(Hops::One),
        vec(hop(), 2..20).prop_map(Hops::Many),
        any::<u32>().prop_map(Hops::Named),
    ]
}

fn attrs() -> impl Strategy<Value = Attrs> {
    let opaque = vec((0_u16..0xefff, vec(any::<u8>(), 0..40)), 0..4);
    (
        any::<u32>(),
        option::of(address()),
        0_u8..4,
        vec((1_u16..20, any::<u32>()), 0..4),
        vec(any::<u8>(), 0..8),
        opaque,
    )
        .prop_map(|(flags, prefsrc, pref, metrics, congestion, opaque)| {
            let pref = RouterPreference(pref);
            let attrs = RouteAttrs { flags, prefsrc, pref, metrics, congestion, opaque };
            attrs.encode().unwrap()
        })
}

fn route() -> impl Strategy<Value = RouteSpec> {
    let prefix = (address(), 0_u8..=128).prop_map(|(address, len)| {
        Prefix::masked(address, len.min(if address.is_ipv4() { 32 } else { 128 })).unwrap()
    });
    let key = (any::<u32>(), prefix, any::<u8>(), option::of(any::<u32>()), any::<Option<u16>>());
    let value = (
        option::of((1_u8..=11).prop_map(|number| RouteType::from_number(number).unwrap())),
        any::<Option<u8>>(),
        any::<Option<u8>>(),
        any::<Option<u8>>(),
        hops(),
        prop_oneof![Just(Attrs::NONE), attrs()],
    );
    (key, value).prop_map(
        |(
            (table, prefix, tos, metric, ordinal),
            (kind, protocol, scope, distance, hops, attrs),
        )| RouteSpec {
            table,
            tos,
            metric,
            ordinal,
            kind,
            protocol,
            scope,
            distance,
            hops,
            attrs,
            ..RouteSpec::new(prefix)
        },
    )
}

fn neighbour() -> impl Strategy<Value = NeighbourSpec> {
    (
        address(),
        option::of(link()),
        option::of(any::<[u8; 6]>().prop_map(Mac)),
        option::of(any::<u16>().prop_map(NudState)),
        any::<u8>(),
        any::<u8>(),
    )
        .prop_map(|(ip, link, mac, state, flags, protocol)| NeighbourSpec {
            ip,
            link,
            mac,
            state,
            flags,
            protocol,
        })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (verb(), route()).prop_map(|(verb, route)| Change::Route(verb, route)),
        2 => (verb(), neighbour()).prop_map(|(verb, spec)| Change::Neighbour(verb, spec)),
        1 => (verb(), any::<u32>(), name())
            .prop_map(|(verb, ifindex, name)| Change::Link(verb, LinkSpec { ifindex, name })),
        1 => (verb(), any::<u32>(), vec(hop(), 0..20))
            .prop_map(|(verb, nhid, hops)| Change::Group(verb, GroupSpec { nhid, hops })),
    ]
}

/// A frame with this body, padded to eight bytes.
fn framed(frame_type: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = HEADER_BYTES + body.len().next_multiple_of(8);
    let mut bytes = (length as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&frame_type.to_le_bytes());
    bytes.extend_from_slice(&flags.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes.resize(length, 0);
    bytes
}

fn split(bytes: &[u8]) -> Frame<'_> {
    let (frame, length) = Frame::split(bytes, LIMIT).unwrap().unwrap();
    assert_eq!(length, bytes.len());
    frame
}

proptest! {
    #[test]
    fn changes_survive_the_way_there_and_back(change in change()) {
        let mut bytes = Vec::new();
        encode_change(&change, &mut bytes);
        prop_assert!(bytes.len() <= CHANGE_FRAME_BYTES_MAX);
        prop_assert_eq!(decode_change(&split(&bytes)), Ok(change));
    }

    /// One change, one encoding: any other bytes are refused or another change.
    #[test]
    fn damaged_changes_are_refused_or_others(change in change(), at in any::<usize>(), bit in 0..8) {
        let mut bytes = Vec::new();
        encode_change(&change, &mut bytes);
        let at = HEADER_BYTES + at % (bytes.len() - HEADER_BYTES);
        bytes[at] ^= 1_u8 << bit;
        if let Ok(other) = decode_change(&split(&bytes)) {
            prop_assert_ne!(&other, &change);
            let mut again = Vec::new();
            encode_change(&other, &mut again);
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn cut_changes_are_refused(change in change(), keep in any::<usize>()) {
        let mut bytes = Vec::new();
        encode_change(&change, &mut bytes);
        let frame = split(&bytes);
        let keep = keep % (frame.body.len() / 8) * 8;
        let cut = Frame { body: &frame.body[..keep], ..frame };
        // Attributes may be cut to a shorter list that is one, too.
        prop_assert_ne!(decode_change(&cut), Ok(change));
    }

    #[test]
    fn no_body_of_any_frame_does_harm(
        frame_type in prop_oneof![0_u16..0x20, 0x80_u16..0xd0, any::<u16>()],
        flags in prop_oneof![(0_u16..6).prop_map(|kind| kind << 8), any::<u16>()],
        body in vec(prop_oneof![3 => Just(0_u8), 1 => 0_u8..8, 1 => any::<u8>()], 0..200),
    ) {
        let bytes = framed(frame_type, flags, &body);
        let frame = split(&bytes);
        if let Ok(Some(ClientFrame::Change(change))) = ClientFrame::decode(&frame) {
            let mut again = Vec::new();
            encode_change(&change, &mut again);
            prop_assert_eq!(&again[HEADER_BYTES..], frame.body);
        }
        let from_client = ClientFrame::decode(&frame);
        let from_daemon = DaemonFrame::decode(&frame);
        if from_client.is_ok() && from_daemon.is_ok() && flags & MUST_UNDERSTAND != 0 {
            // No type has a meaning in both directions: one didn't understand it.
            prop_assert!(false, "{from_client:?} {from_daemon:?}");
        }
    }

    #[test]
    fn no_bytes_at_all_do_harm(bytes in vec(any::<u8>(), 0..100), limit in 0_usize..200) {
        match Frame::split(&bytes, limit) {
            Ok(Some((frame, length))) => {
                prop_assert!(length <= bytes.len() && length <= limit && length % 8 == 0);
                prop_assert_eq!(frame.body.len(), length - HEADER_BYTES);
            }
            Ok(None) => prop_assert!(bytes.len() < limit.max(4)),
            Err(WireError::Length { bytes: length }) => {
                prop_assert!(length < 8 || length % 8 != 0);
            }
            Err(WireError::TooLong { bytes: length, .. }) => {
                prop_assert!(length as usize > limit);
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
        let _ = Records::new(&bytes, limit);
    }

    /// The scan of a stream that comes in two parts finds what a whole one does.
    #[test]
    fn records_are_found_whatever_the_cut(
        lasts in vec(any::<bool>(), 1..20),
        other in any::<bool>(),
        at in any::<usize>(),
    ) {
        let mut bytes = Vec::new();
        let (mut transactions, mut committed) = (0, Revision(0));
        let mut revision = Revision(5);
        for &last in &lasts {
            records::encode(&mut bytes, RecordOp::Delete, EntityKind::Group, revision, last, &[1, 0, 0, 0, 0, 0, 0, 0]);
            if last {
                (transactions, committed) = (bytes.len(), revision);
                revision.0 += 1;
            }
        }
        let whole = bytes.len();
        if other {
            DaemonFrame::Heartbeat.encode(&mut bytes);
        }
        let found = records::scan(&bytes, 0, LIMIT, Some(Revision(5))).unwrap();
        prop_assert_eq!(found.records, whole);
        prop_assert_eq!(found.transactions, transactions);
        prop_assert_eq!(found.committed, committed);
        prop_assert_eq!(found.other, other);
        let cut = at % (bytes.len() + 1);
        let first = records::scan(&bytes[..cut], 0, LIMIT, Some(Revision(5))).unwrap();
        prop_assert_eq!(first.records, (cut / 24 * 24).min(whole));
        let second = records::scan(&bytes, first.records, LIMIT, Some(first.newest)).unwrap();
        prop_assert_eq!(second.records, whole);
        prop_assert_eq!(first.transactions.max(second.transactions), transactions);
        let records: Vec<_> = Records::new(&bytes[..whole], LIMIT).unwrap().collect();
        prop_assert_eq!(records.len(), lasts.len());
        prop_assert!(records.iter().zip(&lasts).all(|(record, &last)| record.last == last));
    }
}

/// Every golden frame, cut at every byte and with every bit flipped.
#[test]
fn golden_frames_cut_or_damaged_do_no_harm() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let mut frames = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let bytes: Vec<u8> = text
            .lines()
            .flat_map(|line| line.split_once('|').unwrap().1.split_ascii_whitespace())
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        frames += 1;
        for end in 0..bytes.len() {
            assert_eq!(Frame::split(&bytes[..end], LIMIT), Ok(None));
            // A whole frame, but with less in it.
            if end >= HEADER_BYTES {
                let frame = Frame { body: &bytes[HEADER_BYTES..end], ..split(&bytes) };
                let _ = (ClientFrame::decode(&frame), DaemonFrame::decode(&frame));
            }
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[end] ^= 1 << bit;
                if let Ok(Some((frame, _))) = Frame::split(&damaged, LIMIT) {
                    let _ = (ClientFrame::decode(&frame), DaemonFrame::decode(&frame));
                }
            }
        }
    }
    assert!(frames > 40, "{frames}");
}

#[test]
fn wrong_lengths_are_named() {
    for (length, limit, expected) in [
        (0, 64, "a frame of 0 bytes; at least 8 and a multiple of 8 would be right"),
        (7, 64, "a frame of 7 bytes; at least 8 and a multiple of 8 would be right"),
        (12, 64, "a frame of 12 bytes; at least 8 and a multiple of 8 would be right"),
        (72, 64, "a frame of 72 bytes; at most 64 are possible here"),
        (u32::MAX - 7, 65536, "a frame of 4294967288 bytes; at most 65536 are possible here"),
    ] {
        // Four bytes are enough to see it: nobody waits for the rest.
        let error = Frame::split(&u32::to_le_bytes(length), limit).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(Frame::split(&[8, 0, 0], 64), Ok(None));
    assert_eq!(Frame::split(&[16, 0, 0, 0, 1, 0, 0, 0, 9], 64), Ok(None));
}

#[test]
fn unknown_frames_are_skipped_unless_they_must_be_understood() {
    for frame_type in [0, 0x0a, 0x15, 0x60, 0x8b, 0x90, 0x97, 0xa0, 0xa7, 0xb1, 0xc3, 0xffff] {
        let bytes = framed(frame_type, 0, &[1, 2, 3]);
        assert_eq!(ClientFrame::decode(&split(&bytes)), Ok(None));
        assert_eq!(DaemonFrame::decode(&split(&bytes)), Ok(None));
        let bytes = framed(frame_type, MUST_UNDERSTAND, &[1, 2, 3]);
        let error = Err(WireError::Unknown { frame_type });
        assert_eq!(ClientFrame::decode(&split(&bytes)), error);
        assert_eq!(DaemonFrame::decode(&split(&bytes)).map(|_| None), error);
    }
}

#[test]
fn unknown_optional_fields_are_skipped() {
    let load = ClientFrame::Load { id: 1, flags: Default::default(), source: "bird" };
    let mut body = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&[9, 0, 5, 0, 1, 2, 3, 4, 5, 0, 0, 0]); // Unknown, padded.
    body.extend_from_slice(&[1, 0, 4, 0, b'b', b'i', b'r', b'd']);
    let frame = framed(0x11, MUST_UNDERSTAND, &body);
    assert_eq!(ClientFrame::decode(&split(&frame)), Ok(Some(load)));
    // One that reaches behind the frame is no field.
    let mut body = vec![0; 16];
    body.extend_from_slice(&[9, 0, 50, 0, 1, 2, 3, 4]);
    assert!(ClientFrame::decode(&split(&framed(0x11, MUST_UNDERSTAND, &body))).is_err());
}

#[test]
fn the_largest_fit() {
    let hop = HopSpec {
        gateway: Some("2001:db8::1".parse().unwrap()),
        link: Some(LinkRef::Name("fifteen-bytes-x".parse().unwrap())),
        weight: 256,
        flags: HopFlags::ALL,
    };
    let attrs = RouteAttrs { opaque: vec![(40, vec![1; 3988])], ..RouteAttrs::default() };
    let attrs = attrs.encode().unwrap();
    let hops = vec![hop; HOPS_MAX];
    let spec = RouteSpec {
        hops: Hops::Many(hops.clone()),
        attrs,
        ..RouteSpec::new("2001:db8::/32".parse().unwrap())
    };
    let mut bytes = Vec::new();
    encode_change(&Change::Route(Verb::Add, spec.clone()), &mut bytes);
    assert_eq!(bytes.len(), CHANGE_FRAME_BYTES_MAX - 8, "8: 3992 bytes of attributes, not 4000");
    assert_eq!(decode_change(&split(&bytes)), Ok(Change::Route(Verb::Add, spec)));
    let group = GroupSpec { nhid: 1, hops };
    bytes.clear();
    encode_change(&Change::Group(Verb::Replace, group), &mut bytes);
    assert!(bytes.len() < CHANGE_FRAME_BYTES_MAX);
    assert_eq!(RECORD_BYTES_MAX, 12_320);
}
