//! Sessions and peers of no good: each ends its own connection, with words, and
//! nothing else happens.

mod session_world;

use std::collections::VecDeque;

use rtm_model::{Change, RouteSpec, RouteType, Verb};
use rtm_tables::wire::{
    ClientFrame, FEATURE_ACK, GoodbyeReason, Hello, LoadFlags, Role, Subscribe, SubscribeMode,
    WireError,
};
use rtm_tables::{Epoch, HubLimits, INPUT_BYTES_MAX, Progress, Revision, ServerEvent, TableLimits};
use session_world::{Connect, Rng, World, prefix};

fn blackhole(number: usize) -> Change {
    let kind = Some(RouteType::Blackhole);
    Change::Route(Verb::Add, RouteSpec { kind, ..RouteSpec::new(prefix(number)) })
}

fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    ClientFrame::Hello(Hello {
        version: 1,
        lowest: 1,
        frame_bytes_max: 65536,
        features: FEATURE_ACK,
        name: "of no good",
    })
    .encode(&mut bytes);
    bytes
}

fn after_hello(frames: &[ClientFrame<'_>]) -> Vec<u8> {
    let mut bytes = hello();
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    bytes
}

/// Each closes that connection, with words, and nobody else's.
#[test]
fn wrong_bytes_end_their_own_session() {
    let subscribe = |filter| {
        ClientFrame::Subscribe(Subscribe {
            epoch: Epoch(0),
            revision: Revision(0),
            mode: SubscribeMode::Full,
            filter,
        })
    };
    let load = ClientFrame::Load { id: 1, flags: LoadFlags::default(), source: "" };
    let request = ClientFrame::Request { id: 2, line: "echo" };
    let raw = |bytes: &[u8]| {
        let mut all = hello();
        all.extend_from_slice(bytes);
        all
    };
    let greeting = |version: u16, lowest: u16, frame_bytes_max: u32| {
        let mut bytes = Vec::new();
        let hello = Hello { version, lowest, frame_bytes_max, features: 0, name: "" };
        ClientFrame::Hello(hello).encode(&mut bytes);
        bytes
    };
    let mut wrong_magic = hello();
    wrong_magic[8] = b'R';
    let mut request_first = Vec::new();
    request.encode(&mut request_first);
    let mut change_in_the_open = Vec::new();
    ClientFrame::Change(blackhole(1)).encode(&mut change_in_the_open);
    let mut bad_change = after_hello(std::slice::from_ref(&load));
    let mut change = Vec::new();
    ClientFrame::Change(blackhole(1)).encode(&mut change);
    change[8] = 99; // No such verb.
    bad_change.extend_from_slice(&change);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("garbage", b"GET / HTTP/1.0\r\n\r\n".to_vec(), "bytes; at"),
        ("zero length", vec![0; 64], "a frame of 0 bytes"),
        ("odd length", vec![9, 0, 0, 0, 1, 0, 0, 0], "a frame of 9 bytes"),
        ("huge length", vec![0xf8, 0xff, 0xff, 0xff], "a frame of 4294967288 bytes"),
        ("a greeting too long", vec![8, 0x10, 0, 0], "a frame of 4104 bytes; at most 4096"),
        ("magic", wrong_magic, "not the rtm protocol"),
        ("not a hello", request_first, "REQUEST out of place; HELLO must come first"),
        ("a version of tomorrow", greeting(9, 5, 65536), "speaks versions 5 to 9"),
        ("a version of yesterday", greeting(0, 0, 65536), "speaks versions 0 to 0"),
        ("no room for records", greeting(1, 1, 1024), "frames of 16 KiB at least"),
        ("two hellos", raw(&hello()), "HELLO out of place"),
        ("zero behind the hello", raw(&[0; 8]), "a frame of 0 bytes"),
        ("huge behind the hello", raw(&[8, 0x70, 0, 0]), "a frame of 28680 bytes; at most 28672"),
        ("unknown", raw(&[8, 0, 0, 0, 0x77, 0, 1, 0]), "frame type 0x77 must be understood"),
        (
            "the daemon's own",
            raw(&[16, 0, 0, 0, 0x82, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            "frame type 0x82 must be understood",
        ),
        ("a short subscribe", raw(&[8, 0, 0, 0, 2, 0, 1, 0]), "SUBSCRIBE: too short"),
        ("twice", after_hello(&[subscribe(""), subscribe("")]), "it subscribed already"),
        (
            "resync",
            after_hello(&[ClientFrame::Resync { revision: Revision(1) }]),
            "it must subscribe first",
        ),
        ("change", raw(&change_in_the_open), "CHANGE out of place; a LOAD must come before"),
        ("bad change", bad_change, "CHANGE: an unknown verb"),
        ("load in load", after_hello(&[load.clone(), load.clone()]), "must end first"),
        ("request in load", after_hello(&[load.clone(), request]), "must end first"),
        (
            "end of another load",
            after_hello(&[load, ClientFrame::LoadEnd { id: 9, give_up: false }]),
            "no load with this id is open",
        ),
        (
            "no utf-8",
            raw(&[24, 0, 0, 0, 0x10, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0]),
            "not UTF-8",
        ),
    ];
    for (what, bytes, expected) in cases {
        let mut world = World::new(50);
        world.set_route(1, 1);
        let good = world.connect(Connect::default());
        let bad = world.connect(Connect::default());
        world.ends[bad].raw_up = Some(bytes.into());
        for step in 0..10 {
            world.set_route(step, step);
            world.turn();
        }
        world.settle();
        world.check(good);
        assert_eq!(world.ends[good].seen.begins.len(), 1, "{what}");
        let end = &world.ends[bad];
        let (reason, text) = end.seen.goodbye.clone().unwrap_or_else(|| panic!("{what}: none"));
        assert_eq!(reason, GoodbyeReason::Protocol, "{what}");
        assert!(text.contains(expected), "{what}: {text}");
        assert!(end.server.is_none(), "{what}");
        let failed = end.events.iter().any(|event| matches!(event, ServerEvent::Failed(_)));
        assert!(failed, "{what}");
    }
}

#[test]
fn a_subscription_that_cannot_be_had_is_refused() {
    let with = |filter: &str, mode| {
        after_hello(&[ClientFrame::Subscribe(Subscribe {
            epoch: Epoch(0),
            revision: Revision(0),
            mode,
            filter,
        })])
    };
    for (bytes, expected) in [
        (with("bogus", SubscribeMode::Full), "filter: bogus: not a word of a filter"),
        (with("root 10.0.0.1/8", SubscribeMode::Full), "host bits"),
    ] {
        let mut world = World::new(51);
        let client = world.connect(Connect::default());
        world.ends[client].raw_up = Some(bytes.into());
        world.settle();
        let (reason, text) = world.ends[client].seen.goodbye.clone().unwrap();
        assert_eq!(reason, GoodbyeReason::Refused);
        assert!(!reason.may_reconnect());
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn there_are_at_most_so_many_filters() {
    let hub = HubLimits { filters_max: 3, ..HubLimits::default() };
    let mut world = World::with(52, hub, TableLimits::default());
    let clients: Vec<usize> =
        (1..=3).map(|table| world.connect(Connect::filtered(&format!("table {table}")))).collect();
    let same = world.connect(Connect::filtered("table 2"));
    world.settle();
    world.check(same);
    assert_eq!(world.hub.stats().filters, 3);
    let fourth = world.connect(Connect::filtered("table 4"));
    world.settle();
    let (reason, text) = world.ends[fourth].seen.goodbye.clone().unwrap();
    assert_eq!(reason, GoodbyeReason::Refused);
    assert!(text.contains("3 different filters are in use already"), "{text}");
    // Everything is no filter.
    let all = world.connect(Connect::filtered("all"));
    // A filter that nobody uses any more makes room.
    world.cut(clients[0]);
    let fifth = world.connect(Connect::filtered("table 5"));
    world.settle();
    world.check(all);
    world.check(fifth);
    world.check(clients[1]);
    // And one is let go some time after its last session.
    world.cut(clients[2]);
    world.wait(61_000, 1_000);
    assert_eq!(world.hub.stats().filters, 2);
}

#[test]
fn one_user_takes_no_more_than_his_share_of_the_filters() {
    let hub = HubLimits { filters_max: 4, filters_per_uid_max: 2, ..HubLimits::default() };
    let mut world = World::with(54, hub, TableLimits::default());
    let of =
        |uid: u32, filter: &str| Connect { uid, role: Role::Read, ..Connect::filtered(filter) };
    let first = world.connect(of(1000, "table 1"));
    world.connect(of(1000, "table 2"));
    let third = world.connect(of(1000, "table 3"));
    world.settle();
    let (reason, text) = world.ends[third].seen.goodbye.clone().unwrap();
    assert_eq!(reason, GoodbyeReason::Refused);
    assert!(text.contains("2 different filters of this user"), "{text}");
    assert!(text.contains("filters_per_uid_max"), "{text}");
    // The same ones again, everything, other users and administrators are let in.
    for connect in [of(1000, "table 2"), of(1000, "all"), of(1001, "table 3")] {
        let client = world.connect(connect);
        world.settle();
        world.check(client);
    }
    let admin = world.connect(Connect::filtered("table 4"));
    world.settle();
    world.check(admin);
    // Who lets one go may have another, also where only that one makes room.
    world.cut(first);
    let next = world.connect(of(1000, "table 5"));
    world.settle();
    world.check(next);
}

#[test]
fn a_name_moves_no_cursor() {
    let mut world = World::new(55);
    let client =
        world.connect(Connect { name: "a\x1b[2Jb\n\u{9b}é".into(), ..Connect::default() });
    world.settle();
    let info = world.ends[client].server.as_ref().unwrap().info(&world.hub, world.now);
    assert_eq!(info.name, "a\\u{1b}[2Jb\\n\\u{9b}é");
}

/// Frames in any pieces: each byte by itself.
#[test]
fn input_may_come_byte_by_byte() {
    let mut world = World::new(53);
    let load = ClientFrame::Load { id: 1, flags: LoadFlags::default(), source: "file" };
    let bytes = after_hello(&[
        ClientFrame::Request { id: 7, line: "echo one" },
        load,
        ClientFrame::Change(blackhole(1)),
        ClientFrame::Change(blackhole(2)),
        ClientFrame::LoadEnd { id: 1, give_up: false },
        ClientFrame::Request { id: 8, line: "echo two" },
    ]);
    let admin = world.connect(Connect::admin());
    world.ends[admin].raw_up = Some(VecDeque::new());
    for byte in bytes {
        world.ends[admin].raw_up.as_mut().unwrap().push_back(byte);
        world.turn();
    }
    world.settle();
    let ids: Vec<u64> = world.ends[admin].seen.dones.iter().map(|done| done.0).collect();
    assert_eq!(ids, [7, 1, 8]);
    assert_eq!(world.table.counts().store.routes4, 2);
    assert!(world.ends[admin].own_bytes_max < 4 << 10, "{}", world.ends[admin].own_bytes_max);
}

/// Streams that were right once, damaged anywhere: no panic, no growth, nobody
/// else is touched.
#[test]
fn damaged_streams_do_no_harm() {
    let change = |world: &mut World| {
        let mut bytes = Vec::new();
        for _ in 0..20 {
            ClientFrame::Change(world.random_change()).encode(&mut bytes);
        }
        bytes
    };
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut world = World::new(seed);
        world.ragged = true;
        for number in 0..50 {
            world.set_route(number, number % 5);
        }
        let good = world.connect(Connect::default());
        let bad = world.connect(Connect { socket: 10_000, ..Connect::default() });
        let mut bytes = after_hello(&[
            ClientFrame::Subscribe(Subscribe {
                epoch: Epoch(77),
                revision: Revision(20),
                mode: SubscribeMode::Full,
                filter: "routes root 10.0.0.0/20",
            }),
            ClientFrame::Request { id: 7, line: "items 10 100" },
            ClientFrame::Cancel { id: 7 },
            ClientFrame::Ack { revision: Revision(50), agrees: false },
            ClientFrame::Resync { revision: Revision(50) },
            ClientFrame::Heartbeat,
            ClientFrame::Load { id: 9, flags: LoadFlags::FORCE, source: "x" },
        ]);
        bytes.extend(change(&mut world));
        ClientFrame::LoadEnd { id: 9, give_up: false }.encode(&mut bytes);
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bytes.len());
            match rng.below(3) {
                0 => bytes[at] ^= 1 << rng.below(8),
                1 => bytes[at] = rng.next() as u8,
                _ => drop(bytes.remove(at)),
            }
        }
        world.ends[bad].raw_up = Some(bytes.into());
        // Its replica sees what such a session gets; it needn't make sense.
        world.ends[bad].tamper = Some(Box::new(|_| {}));
        for step in 0..30 {
            world.set_route(step, step % 7);
            world.turn();
        }
        world.settle();
        world.check(good);
        assert!(world.ends[bad].own_bytes_max < 64 << 10);
    }
}

/// The same for a client, whose daemon is broken.
#[test]
fn a_damaged_daemon_does_a_client_no_harm() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        world.ragged = seed % 2 == 0;
        for number in 0..50 {
            world.set_route(number, number % 5);
        }
        let client = world.connect(Connect { socket: 2_000, ..Connect::default() });
        world.ends[client].client.request("items 10 100");
        let mut rng = Rng::new(seed);
        let mut once = 1 + rng.below(3);
        world.ends[client].tamper = Some(Box::new(move |bytes| {
            if once > 0 && !bytes.is_empty() && rng.one_in(4) {
                once -= 1;
                let at = rng.below(bytes.len());
                bytes[at] ^= 1 << rng.below(8);
            }
        }));
        for step in 0..60 {
            world.set_route(step, step % 7);
            if step % 20 == 10 {
                let (admin, change) = (world.admin, world.random_change());
                world.apply(admin, &change);
            }
            world.turn();
        }
        world.settle();
    }
}

/// Bytes that were never right: any at all, in any pieces.
#[test]
fn noise_does_neither_side_harm() {
    use rtm_tables::{ClientConfig, ClientSession};
    for seed in 0..500 {
        let mut rng = Rng::new(seed);
        let noise = |rng: &mut Rng| {
            let bytes = 1 + rng.below(300);
            // Lengths that could be right come up often enough.
            let byte = |rng: &mut Rng| match rng.below(4) {
                0 => rng.next() as u8,
                1 => 8 * rng.below(12) as u8,
                _ => 0,
            };
            (0..bytes).map(|_| byte(rng)).collect::<Vec<u8>>()
        };
        let mut client = ClientSession::new(ClientConfig::default(), 0);
        client.subscribe(None, "");
        for _ in 0..20 {
            client.handle_bytes(&noise(&mut rng), 0);
            while let Ok(Some(_)) = client.poll_event() {}
        }
        let mut world = World::new(seed);
        let bad = world.connect(Connect::default());
        let mut bytes = if seed % 2 == 0 { hello() } else { Vec::new() };
        (0..20).for_each(|_| bytes.extend(noise(&mut rng)));
        world.ends[bad].raw_up = Some(bytes.into());
        world.settle();
    }
}

/// A transaction that a client doesn't want to hold ends its session; so do
/// frames out of place.
#[test]
fn a_client_has_limits_too() {
    use rtm_tables::wire::DaemonFrame;
    use rtm_tables::wire::records;
    use rtm_tables::{ClientConfig, ClientSession, RecordOp};
    let welcome = {
        let mut world = World::new(60);
        let client = world.connect(Connect::default());
        world.settle();
        *world.ends[client].client.welcome().unwrap()
    };
    let begin = DaemonFrame::Begin { from: Revision(0) };
    let digests = Default::default();
    let end = DaemonFrame::End { revision: Revision(5), digests };
    let mark = |revision| DaemonFrame::Mark { revision: Revision(revision), digests, ask: false };
    let record = |revision: u64, last: bool| {
        let mut bytes = Vec::new();
        let key = [1, 0, 0, 0, 0, 0, 0, 0];
        let kind = rtm_model::EntityKind::Group;
        records::encode(&mut bytes, RecordOp::Delete, kind, Revision(revision), last, &key);
        bytes
    };
    let frames = |frames: &[DaemonFrame<'_>]| {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        bytes
    };
    let hello = DaemonFrame::Welcome(welcome);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (frames(&[begin]), "BEGIN out of place; WELCOME must come first"),
        (frames(&[hello, hello]), "WELCOME out of place; it came already"),
        (frames(&[hello, end]), "END out of place; a BEGIN must come before"),
        (frames(&[hello, mark(1)]), "MARK out of place"),
        ([frames(&[hello]), record(1, true)].concat(), "DELETE out of place; a BEGIN must"),
        (frames(&[hello, begin, end, mark(4)]), "its revision has passed already"),
        (
            [frames(&[hello, begin, end]), record(6, false), frames(&[mark(6)])].concat(),
            "marks come between whole transactions",
        ),
        (
            [frames(&[hello, begin, end]), record(7, true), record(6, true)].concat(),
            "its revision is lower than the one before",
        ),
        (
            [frames(&[hello, begin, end]), record(6, false).repeat(100)].concat(),
            "the transaction is larger than this client takes",
        ),
        (vec![0; 8], "a frame of 0 bytes"),
    ];
    for (bytes, expected) in cases {
        let config = ClientConfig { transaction_bytes_max: 2_000, ..ClientConfig::default() };
        let mut client = ClientSession::new(config, 0);
        client.subscribe(None, "");
        client.handle_bytes(&bytes, 1);
        let error = loop {
            match client.poll_event() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("no error: {expected}"),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains(expected), "{error}");
        // It stays that way.
        client.handle_bytes(&frames(&[hello]), 2);
        assert_eq!(client.poll_event().unwrap_err(), error);
        assert_eq!(client.progress(), Progress::Closed);
        assert_ne!(error, WireError::Magic);
    }
}

#[test]
fn what_is_kept_of_input_is_bounded() {
    let mut world = World::new(70);
    let admin = world.connect(Connect::admin());
    world.ends[admin].client.request("wait");
    world.settle();
    // A long line behind it: at most so much of it is kept.
    let line = "x".repeat(20_000);
    for _ in 0..10 {
        world.ends[admin].client.request(&line);
    }
    for _ in 0..10 {
        world.turn();
    }
    let own = world.ends[admin].own_bytes_max as usize;
    assert!(own <= INPUT_BYTES_MAX + 2048, "{own}");
}
