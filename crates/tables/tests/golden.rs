//! Golden files: the bytes of every frame of `docs/wire.md`.
//!
//! Each frame is encoded and compared with its file, and the file's bytes are
//! decoded and must give the frame again. A difference means that the protocol
//! changed, which needs a new version number. `RTM_BLESS=1` writes the files;
//! read the difference before you commit it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use rtm_model::{
    Attrs, Change, Digest, DigestKey, Digester, Digests, EntityKind, GroupSpec, HopFlags, HopSpec,
    Hops, LinkRef, LinkSpec, Mac, NeighbourSpec, NudState, RouteAttrs, RouteSpec, RouteType, Verb,
};
use rtm_tables::wire::records::WireRecord;
use rtm_tables::wire::{
    ClientFrame, DaemonFrame, DescriptorKind, Done, FEATURE_ACK, Frame, GoodbyeReason, Hello,
    ItemFlags, ItemKind, LoadFlags, RejectedBy, Role, SignalWay, Subscribe, SubscribeMode, Welcome,
};
use rtm_tables::{Epoch, Flush, RecordOp, Revision};

const LIMIT: usize = 64 * 1024;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Eight bytes a line, with their offset.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, line) in bytes.chunks(8).enumerate() {
        write!(text, "{:4} |", 8 * index).unwrap();
        for byte in line {
            write!(text, " {byte:02x}").unwrap();
        }
        text.push('\n');
    }
    text
}

fn undump(text: &str) -> Vec<u8> {
    text.lines()
        .filter_map(|line| line.split_once('|'))
        .flat_map(|(_, bytes)| bytes.split_ascii_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

/// Compares bytes with a golden file and gives the file's back.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = folder().join(format!("{name}.hex"));
    if std::env::var_os("RTM_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, dump(bytes)).unwrap();
    }
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(dump(bytes), text, "{name}: the wire changed; see the head of tests/golden.rs");
    undump(&text)
}

fn client_frames() -> Vec<(&'static str, ClientFrame<'static>)> {
    let name = "a subscriber";
    let changes = changes().into_iter().map(|(name, change)| (name, ClientFrame::Change(change)));
    let mut frames = vec![
        (
            "client-hello",
            ClientFrame::Hello(Hello {
                version: 1,
                lowest: 1,
                frame_bytes_max: 65536,
                features: FEATURE_ACK,
                name,
            }),
        ),
        (
            "client-hello-nameless",
            ClientFrame::Hello(Hello {
                version: 1,
                lowest: 1,
                frame_bytes_max: 16384,
                features: 0,
                name: "",
            }),
        ),
        (
            "client-subscribe",
            ClientFrame::Subscribe(Subscribe {
                epoch: Epoch(0),
                revision: Revision(0),
                mode: SubscribeMode::Full,
                filter: "",
            }),
        ),
        (
            "client-subscribe-resume-filter",
            ClientFrame::Subscribe(Subscribe {
                epoch: Epoch(0x0102_0304_0506_0708),
                revision: Revision(1_062_046),
                mode: SubscribeMode::Keys,
                filter: "routes root 10.0.0.0/8 proto 186",
            }),
        ),
        ("client-ack", ClientFrame::Ack { revision: Revision(77), agrees: true }),
        ("client-ack-differs", ClientFrame::Ack { revision: Revision(77), agrees: false }),
        ("client-resync", ClientFrame::Resync { revision: Revision(78) }),
        ("client-register", ClientFrame::Register { pid: 4711 }),
        ("client-proof", ClientFrame::Proof { mac: [0x5a; 32] }),
        ("client-goodbye", ClientFrame::Goodbye),
        ("client-heartbeat", ClientFrame::Heartbeat),
        ("client-request", ClientFrame::Request { id: 9, line: "route show 10.0.0.0/8" }),
        (
            "client-load",
            ClientFrame::Load {
                id: 10,
                flags: LoadFlags::ATOMIC.with(LoadFlags::WHOLE),
                source: "table-of-today",
            },
        ),
        ("client-load-admin", ClientFrame::Load { id: 11, flags: LoadFlags::FORCE, source: "" }),
        ("client-load-end", ClientFrame::LoadEnd { id: 10, give_up: false }),
        ("client-load-end-give-up", ClientFrame::LoadEnd { id: 10, give_up: true }),
        ("client-want-image", ClientFrame::Want { kind: DescriptorKind::Image }),
        ("client-want-signal-pipe", ClientFrame::Want { kind: DescriptorKind::SignalPipe }),
        ("client-want-wake-pipe", ClientFrame::Want { kind: DescriptorKind::WakePipe }),
        ("client-cancel", ClientFrame::Cancel { id: 9 }),
    ];
    frames.extend(changes);
    frames
}

fn hop(gateway: &str, link: Option<LinkRef>) -> HopSpec {
    HopSpec { gateway: gateway.parse().ok(), link, weight: 1, flags: HopFlags::default() }
}

fn changes() -> Vec<(&'static str, Change)> {
    let name = |name: &str| Some(LinkRef::Name(name.parse().unwrap()));
    let attrs = RouteAttrs {
        prefsrc: Some("10.0.0.1".parse().unwrap()),
        metrics: vec![(2, 1400)],
        opaque: vec![(22, vec![1, 2, 3])],
        ..RouteAttrs::default()
    };
    vec![
        (
            "client-change-route4",
            Change::Route(
                Verb::Replace,
                RouteSpec {
                    hops: Hops::One(hop("10.255.0.1", name("Ethernet1"))),
                    ..RouteSpec::new("10.1.0.0/16".parse().unwrap())
                },
            ),
        ),
        (
            "client-change-route4-full",
            Change::Route(
                Verb::Append,
                RouteSpec {
                    table: 7,
                    tos: 8,
                    metric: Some(100),
                    ordinal: Some(2),
                    kind: Some(RouteType::Unicast),
                    protocol: Some(186),
                    scope: Some(253),
                    distance: Some(20),
                    hops: Hops::Many(vec![
                        HopSpec {
                            weight: 256,
                            flags: HopFlags::ONLINK,
                            ..hop("fe80::1", name("Ethernet12"))
                        },
                        hop("", Some(LinkRef::Ifindex(3))),
                        hop("192.0.2.1", None),
                    ]),
                    attrs: attrs.encode().unwrap(),
                    ..RouteSpec::new("192.0.2.0/24".parse().unwrap())
                },
            ),
        ),
        (
            "client-change-route6-delete",
            Change::Route(Verb::Delete, RouteSpec::new("2001:db8::/32".parse().unwrap())),
        ),
        (
            "client-change-route6-named-group",
            Change::Route(
                Verb::Add,
                RouteSpec {
                    hops: Hops::Named(4000),
                    ..RouteSpec::new("2001:db8::/32".parse().unwrap())
                },
            ),
        ),
        (
            "client-change-route4-blackhole",
            Change::Route(
                Verb::Add,
                RouteSpec {
                    kind: Some(RouteType::Blackhole),
                    attrs: Attrs::NONE,
                    ..RouteSpec::new("0.0.0.0/0".parse().unwrap())
                },
            ),
        ),
        (
            "client-change-neighbour",
            Change::Neighbour(
                Verb::Replace,
                NeighbourSpec {
                    ip: "10.1.1.1".parse().unwrap(),
                    link: name("eth0"),
                    mac: Some(Mac([2, 0, 0, 0, 0, 1])),
                    state: Some(NudState::PERMANENT),
                    flags: 0x80,
                    protocol: 4,
                },
            ),
        ),
        (
            "client-change-neighbour6-delete",
            Change::Neighbour(
                Verb::Delete,
                NeighbourSpec {
                    ip: "2001:db8::1".parse().unwrap(),
                    link: None,
                    mac: None,
                    state: None,
                    flags: 0,
                    protocol: 0,
                },
            ),
        ),
        (
            "client-change-link",
            Change::Link(Verb::Replace, LinkSpec { ifindex: 2, name: "eth0".parse().unwrap() }),
        ),
        (
            "client-change-group",
            Change::Group(
                Verb::Replace,
                GroupSpec {
                    nhid: 4000,
                    hops: vec![hop("10.255.0.1", name("eth0")), hop("10.255.0.2", name("eth1"))],
                },
            ),
        ),
    ]
}

fn digests() -> Digests {
    Digests {
        routes: Digest(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        neighbours: Digest(2),
        keys: Digest(3),
        links: Digest(u128::MAX),
    }
}

/// Canonical bytes of one entity of each kind.
fn bodies() -> Vec<(EntityKind, Vec<u8>)> {
    let mut link = vec![3, 0, 0, 0, 2, 0, 0, 0];
    link.extend_from_slice(b"eth0\0\0\0\0\0\0\0\0\0\0\0\0");
    let mut group = vec![7, 0, 0, 0, 0, 0, 0, 0, 0xa0, 0x0f, 0, 0, 1, 0, 0, 0];
    group.extend_from_slice(&[3, 0, 0, 0, 1, 0, 0, 4, 10, 255, 0, 1]);
    group.extend_from_slice(&[0; 12]);
    let route4 = vec![254, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 8, 0, 0, 0, 7, 0, 0, 0, 1, 3, 0, 1];
    let mut route6 = vec![254, 0, 0, 0, 0, 4, 0, 0, 0x20, 1, 0x0d, 0xb8];
    route6.extend_from_slice(&[0; 12]);
    route6.extend_from_slice(&[32, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 186, 0, 20]);
    let mut neighbour = vec![10, 1, 1, 1];
    neighbour.extend_from_slice(&[0; 12]);
    neighbour.extend_from_slice(&[3, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 0, 1, 1, 0]);
    neighbour.extend_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0]);
    vec![
        (EntityKind::Link, link),
        (EntityKind::Group, group),
        (EntityKind::Route4, route4),
        (EntityKind::Route6, route6),
        (EntityKind::Neighbour, neighbour),
    ]
}

fn check_daemon(seen: &mut BTreeSet<String>, name: &str, frame: &DaemonFrame<'_>) {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    let file = golden(name, &bytes);
    let (cut, length) = Frame::split(&file, LIMIT).unwrap().unwrap();
    assert_eq!(length, file.len(), "{name}");
    let decoded = DaemonFrame::decode(&cut).unwrap().unwrap();
    match (&decoded, frame) {
        // What pads a body can't be told from the body.
        (DaemonFrame::Item { id, kind, flags, body }, DaemonFrame::Item { body: sent, .. }) => {
            assert!(body.starts_with(sent), "{name}");
            let item = DaemonFrame::Item { id: *id, kind: *kind, flags: *flags, body: sent };
            assert_eq!(&item, frame, "{name}");
        }
        _ => assert_eq!(&decoded, frame, "{name}"),
    }
    assert!(seen.insert(format!("{name}.hex")), "{name} twice");
}

#[test]
fn every_frame_is_as_its_golden_file() {
    let mut seen = BTreeSet::new();
    for (name, frame) in client_frames() {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let file = golden(name, &bytes);
        let (cut, length) = Frame::split(&file, LIMIT).unwrap().unwrap();
        assert_eq!(length, file.len(), "{name}");
        assert_eq!(ClientFrame::decode(&cut).unwrap().unwrap(), frame, "{name}");
        assert!(seen.insert(format!("{name}.hex")), "{name} twice");
    }
    check_daemon(
        &mut seen,
        "daemon-welcome",
        &DaemonFrame::Welcome(Welcome {
            version: 1,
            lowest: 1,
            frame_bytes_max: 28672,
            features: 0,
            epoch: Epoch(0x1122_3344_5566_7788),
            digest_key: DigestKey([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]),
            session: 5,
            role: Role::Admin,
        }),
    );
    check_daemon(&mut seen, "daemon-begin", &DaemonFrame::Begin { from: Revision(41) });
    let revision = Revision(42);
    let end = DaemonFrame::End { revision, digests: digests() };
    check_daemon(&mut seen, "daemon-end", &end);
    for (name, ask) in [("daemon-mark", false), ("daemon-mark-ask", true)] {
        check_daemon(&mut seen, name, &DaemonFrame::Mark { revision, digests: digests(), ask });
    }
    check_daemon(&mut seen, "daemon-heartbeat", &DaemonFrame::Heartbeat);
    check_daemon(
        &mut seen,
        "daemon-goodbye",
        &DaemonFrame::Goodbye { reason: GoodbyeReason::Killed, text: "killed by an admin" },
    );
    for (name, kind, given, text) in [
        ("daemon-descriptor-image", DescriptorKind::Image, true, ""),
        ("daemon-descriptor-signal-pipe", DescriptorKind::SignalPipe, true, ""),
        ("daemon-descriptor-wake-pipe", DescriptorKind::WakePipe, true, ""),
        (
            "daemon-descriptor-refused",
            DescriptorKind::Image,
            false,
            "no descriptor goes through TCP",
        ),
    ] {
        check_daemon(&mut seen, name, &DaemonFrame::Descriptor { kind, given, text });
    }
    for (kind, body) in bodies() {
        let name = format!("daemon-set-{kind:?}").to_lowercase();
        let set = WireRecord { revision, last: false, op: RecordOp::Set, kind, body: &body };
        check_daemon(&mut seen, &name, &DaemonFrame::Record(set));
        let mut key = body[..kind.key_bytes()].to_vec();
        if kind == EntityKind::Link {
            key[4..].fill(0); // The ifindex is of the value.
        }
        let name = format!("daemon-delete-{kind:?}").to_lowercase();
        let delete = WireRecord { revision, last: true, op: RecordOp::Delete, kind, body: &key };
        check_daemon(&mut seen, &name, &DaemonFrame::Record(delete));
    }
    let body = [2, 0, 0, 0, 0, 1, 0, 0];
    for (name, op) in [("daemon-set-key", RecordOp::Set), ("daemon-delete-key", RecordOp::Delete)] {
        let kind = EntityKind::Neighbour;
        let key = WireRecord { revision, last: true, op, kind, body: &body };
        assert_eq!(key.mac(), Some(Mac([2, 0, 0, 0, 0, 1])));
        check_daemon(&mut seen, name, &DaemonFrame::Record(key));
    }
    let what = Flush { routes: true, neighbours: true };
    check_daemon(&mut seen, "daemon-flush", &DaemonFrame::Flush { revision, what });
    let what = Flush { routes: false, neighbours: true };
    check_daemon(&mut seen, "daemon-flush-neighbours", &DaemonFrame::Flush { revision, what });
    let (_, route) = &bodies()[2];
    check_daemon(
        &mut seen,
        "daemon-item-route",
        &DaemonFrame::Item {
            id: 9,
            kind: ItemKind::Entity(EntityKind::Route4),
            flags: ItemFlags::default(),
            body: route,
        },
    );
    check_daemon(
        &mut seen,
        "daemon-item-link-resolves",
        &DaemonFrame::Item {
            id: 9,
            kind: ItemKind::Entity(EntityKind::Link),
            flags: ItemFlags::RESOLVES,
            body: &bodies()[0].1,
        },
    );
    for (name, kind, body) in [
        ("daemon-item-text", ItemKind::Text, &b"two\nlines"[..]),
        ("daemon-item-json", ItemKind::Json, b"{\"dst\":\"default\"}"),
        ("daemon-item-source", ItemKind::Source, b"\x02\0\0\0\0\0\0\0kernel"),
    ] {
        let flags = ItemFlags::default();
        check_daemon(&mut seen, name, &DaemonFrame::Item { id: 9, kind, flags, body });
    }
    let mut candidate = vec![2, 0, 0, 0, 1, 0, 0, 0];
    candidate.extend_from_slice(route);
    let mut address = vec![4, 0, 0, 0, 0, 0, 0, 0, 10, 1, 2, 3];
    address.extend_from_slice(&[0; 12]);
    for (name, kind, body) in [
        ("daemon-item-candidate", ItemKind::Candidate4, &candidate),
        ("daemon-item-address", ItemKind::Address, &address),
    ] {
        let flags = ItemFlags::default();
        check_daemon(&mut seen, name, &DaemonFrame::Item { id: 9, kind, flags, body });
    }
    check_daemon(
        &mut seen,
        "daemon-done",
        &DaemonFrame::Done(Done {
            id: 10,
            code: 2,
            revision,
            applied: 1000,
            unchanged: 5,
            failed: 1,
            position: 1006,
            text: "route add 10.0.0.0/8: exists",
        }),
    );
    check_daemon(
        &mut seen,
        "daemon-challenge",
        &DaemonFrame::Challenge { nonce: std::array::from_fn(|index| index as u8) },
    );
    check_daemon(&mut seen, "daemon-proven", &DaemonFrame::Proven { role: Role::Admin });
    check_daemon(
        &mut seen,
        "daemon-registered",
        &DaemonFrame::Registered { way: SignalWay::Pipe, text: "" },
    );
    check_daemon(
        &mut seen,
        "daemon-registered-refused",
        &DaemonFrame::Registered { way: SignalWay::Refused, text: "pid 1: not yours" },
    );
    check_daemon(
        &mut seen,
        "daemon-rejected",
        &DaemonFrame::Rejected {
            by: RejectedBy::Queue,
            priority: 7,
            text: "route frob: frob: not known",
        },
    );
    // A file that no frame belongs to any more would say nothing.
    let files: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files, seen);
}

/// The examples of `docs/wire.md`, which were computed by another program.
#[test]
fn hashes_are_those_of_the_page() {
    let digester = Digester::new(DigestKey([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]));
    let page = include_str!("../../../docs/wire.md");
    let bodies = bodies();
    let hashes = [
        digester.hash(EntityKind::Link, &bodies[0].1),
        digester.hash(EntityKind::Route4, &bodies[2].1),
        digester.mac(Mac([2, 0, 0, 0, 0, 1])),
    ];
    let told: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_suffix("` |")?.rsplit_once('`').map(|(_, hash)| hash))
        .filter(|hash| hash.len() == 32)
        .collect();
    assert_eq!(told, hashes.map(|hash| format!("{hash:032x}")));
}

/// Every type that the page lists has a golden file whose bytes say so.
#[test]
fn the_page_lists_what_the_files_show() {
    let page = include_str!("../../../docs/wire.md");
    let listed: BTreeSet<u16> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| 0x")?.split_once(' '))
        .map(|(hex, rest)| (u16::from_str_radix(hex, 16).unwrap(), rest.starts_with("+ kind")))
        .flat_map(
            |(base, kinds)| {
                if kinds { (base + 1..=base + 5).collect::<Vec<_>>() } else { vec![base] }
            },
        )
        .collect();
    let mut shown = BTreeSet::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let bytes = undump(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
        shown.insert(u16::from_le_bytes([bytes[4], bytes[5]]));
    }
    assert_eq!(listed, shown);
}
