//! What sessions do beside following: requests, loads, barriers, signs of life,
//! goodbyes.

mod session_world;

use rtm_model::{Change, RouteSpec, RouteType, Verb};
use rtm_tables::wire::{ClientFrame, Done, GoodbyeReason, Hello, ItemKind, LoadFlags};
use rtm_tables::{BarrierOutcome, Progress, Revision, ServerEvent, Transport};
use session_world::{Connect, World, prefix, route};

fn blackhole(number: usize) -> Change {
    let kind = Some(RouteType::Blackhole);
    Change::Route(Verb::Add, RouteSpec { kind, ..RouteSpec::new(prefix(number)) })
}

// Requests.

#[test]
fn requests_are_answered_in_order() {
    let mut world = World::new(1);
    let admin = world.connect(Connect::admin());
    let ids: Vec<u64> =
        (0..500).map(|n| world.ends[admin].client.request(&format!("echo {n}"))).collect();
    world.settle();
    let dones = &world.ends[admin].seen.dones;
    let expected: Vec<_> =
        ids.iter().enumerate().map(|(n, &id)| (id, 0, format!("echo {n}"))).collect();
    assert_eq!(*dones, expected);
    assert_eq!(world.ends[admin].client.progress(), Progress::NotFollowing);
}

#[test]
fn a_long_answer_goes_through_a_small_buffer() {
    let mut world = World::new(2);
    let admin = world.connect(Connect { socket: 3_000, ..Connect::admin() });
    let long = world.ends[admin].client.request("items 2000 900");
    let after = world.ends[admin].client.request("echo after");
    world.settle();
    let end = &world.ends[admin];
    assert_eq!(end.seen.items.len(), 2000);
    assert!(end.seen.items.iter().all(|(id, kind, body)| {
        *id == long && *kind == ItemKind::Text && body.starts_with(&[b'x'; 900])
    }));
    let order: Vec<u64> = end.seen.dones.iter().map(|done| done.0).collect();
    assert_eq!(order, [long, after]);
    assert!(end.own_bytes_max < 36 << 10, "{}", end.own_bytes_max);
}

#[test]
fn an_answer_may_be_cancelled_and_records_go_on_meanwhile() {
    let mut world = World::new(3);
    let client = world.connect(Connect { socket: 2_000, ..Connect::default() });
    let long = world.ends[client].client.request("items 1000000 900");
    for number in 0..50 {
        world.set_route(number, number);
        world.turn();
    }
    assert!(world.ends[client].seen.items.len() > 5);
    assert!(world.ends[client].seen.sets > 5, "{:?}", world.ends[client].seen);
    world.ends[client].client.cancel(long);
    world.settle();
    world.check(client);
    assert_eq!(world.ends[client].seen.dones, [(long, 2, "cancelled".to_owned())]);
    assert!(world.ends[client].seen.items.len() < 1000);
}

/// A client that asks and asks but reads nothing: its questions wait in its own
/// socket, not in the daemon.
#[test]
fn questions_of_who_does_not_read_wait_outside() {
    let mut world = World::new(4);
    let admin = world.connect(Connect { reads: false, socket: 1_000, ..Connect::admin() });
    for number in 0..20_000 {
        world.ends[admin].client.request(&format!("echo {number}"));
    }
    for _ in 0..2_000 {
        world.turn();
    }
    let end = &world.ends[admin];
    assert!(end.events.len() < 1_000, "{}", end.events.len());
    assert!(end.own_bytes_max <= 64 << 10, "{}", end.own_bytes_max);
    world.ends[admin].connect.reads = true;
    world.settle();
    assert_eq!(world.ends[admin].seen.dones.len(), 20_000);
}

#[test]
fn while_one_is_answered_the_next_waits() {
    let mut world = World::new(5);
    let client = world.connect(Connect::default());
    let first = world.ends[client].client.request("wait");
    world.ends[client].client.request("echo second");
    world.turn();
    world.turn();
    let asked = |world: &World| {
        let is_request = |event: &&ServerEvent| matches!(event, ServerEvent::Request { .. });
        world.ends[client].events.iter().filter(is_request).count()
    };
    assert_eq!(asked(&world), 1);
    let server = world.ends[client].server.as_ref().unwrap();
    assert_eq!(server.answering(), Some(first));
    assert_eq!(server.read_limit(), 0, "what stands behind waits in the socket");
    world.answer(client, Done { id: first, ..Done::default() });
    world.settle();
    assert_eq!(asked(&world), 2);
    assert_eq!(world.ends[client].seen.dones.len(), 2);
}

#[test]
fn a_paused_session_keeps_its_input() {
    let mut world = World::new(6);
    let admin = world.connect(Connect::admin());
    world.settle();
    world.ends[admin].server.as_mut().unwrap().pause(true);
    world.ends[admin].client.request("echo 1");
    world.ends[admin].client.request("echo 2");
    world.turn();
    world.turn();
    assert!(world.ends[admin].seen.dones.is_empty());
    assert_eq!(world.ends[admin].server.as_ref().unwrap().read_limit(), 0);
    world.ends[admin].server.as_mut().unwrap().pause(false);
    world.settle();
    assert_eq!(world.ends[admin].seen.dones.len(), 2);
}

// Loads.

#[test]
fn a_load_is_counted_and_reaches_everyone() {
    let mut world = World::new(10);
    world.ragged = true;
    let client = world.connect(Connect::default());
    let admin = world.connect(Connect::admin());
    let loader = &mut world.ends[admin].client;
    let id = loader.load_begin(LoadFlags::FORCE, "");
    for number in 0..3000 {
        loader.change(&blackhole(number % 2990));
    }
    loader.load_end(false);
    world.settle();
    world.check(client);
    let text = "applied 2990 unchanged 0 failed 10 position 2991".to_owned();
    assert_eq!(world.ends[admin].seen.dones, [(id, 0, text)]);
    assert_eq!(world.table.counts().store.routes4, 2990);
}

/// The first refused change ends a load; what of it is still on its way is
/// dropped, and the connection goes on.
#[test]
fn a_refused_change_ends_a_load() {
    let mut world = World::new(11);
    let admin = world.connect(Connect::admin());
    let loader = &mut world.ends[admin].client;
    let id = loader.load_begin(LoadFlags::default(), "");
    for number in [1, 2, 2, 3, 4] {
        loader.change(&blackhole(number));
    }
    loader.load_end(false);
    let after = loader.request("echo after");
    world.settle();
    let dones = &world.ends[admin].seen.dones;
    assert_eq!(dones.len(), 2, "{dones:?}");
    assert_eq!(dones[0], (id, 2, "applied 2 unchanged 0 failed 1 position 3".to_owned()));
    assert_eq!(dones[1].0, after);
    assert_eq!(world.table.counts().store.routes4, 2, "3 and 4 were not applied");
}

#[test]
fn an_atomic_load_is_seen_whole_or_not_at_all() {
    for give_up in [true, false] {
        let mut world = World::new(12);
        world.set_route(1, 1);
        let client = world.connect(Connect::default());
        let filtered = world.connect(Connect::filtered("root 10.0.0.0/16"));
        let admin = world.connect(Connect::admin());
        world.settle();
        let before = world.ends[client].replica.digests();
        let loader = &mut world.ends[admin].client;
        loader.load_begin(LoadFlags::ATOMIC, "");
        for number in 100..900 {
            loader.change(&blackhole(number));
        }
        for _ in 0..5 {
            world.turn();
            assert_eq!(world.ends[client].replica.digests(), before);
        }
        // Somebody comes while it is open, and waits.
        let late = world.connect(Connect::filtered("table 254"));
        for _ in 0..5 {
            world.turn();
        }
        assert_ne!(world.ends[late].client.progress(), Progress::Live);
        world.ends[admin].client.load_end(give_up);
        world.settle();
        world.check_all();
        let seen = &world.ends[client].seen;
        // It came as a walk from the revision before, not as a transaction.
        let begins = if give_up { vec![Revision(0)] } else { vec![Revision(0), Revision(1)] };
        assert_eq!(seen.begins, begins);
        let routes = if give_up { 1 } else { 801 };
        assert_eq!(world.table.counts().store.routes4, routes);
        assert!(world.ends[filtered].seen.sets >= if give_up { 3 } else { 103 });
    }
}

/// A transaction that is longer than anything in between: sockets, buffers, a
/// turn's share. The client offers it whole, though answers interrupt it.
#[test]
fn a_large_transaction_is_offered_whole() {
    let mut world = World::new(13);
    world.ragged = true;
    let client = world.connect(Connect { socket: 100_000, ..Connect::default() });
    let filtered = world.connect(Connect::filtered("routes"));
    world.settle();
    let mut states = vec![world.ends[client].replica.digests()];
    let mut transaction = world.table.transaction(world.admin).unwrap();
    for number in 0..20_000 {
        transaction.apply(&Change::Route(Verb::Add, route(number, number % 50))).unwrap();
    }
    transaction.commit(&mut world.hub);
    states.push(world.table.digests());
    let mut held = 0;
    world.ends[client].client.request("items 300 900");
    while world.ends[client].replica.digests() != states[1] {
        world.turn();
        assert!(states.contains(&world.ends[client].replica.digests()), "half of it shows");
        held = held.max(world.ends[client].client.held_bytes());
    }
    assert!(held > 500_000, "{held}");
    world.settle();
    world.check_all();
    assert_eq!(world.ends[client].client.held_bytes(), 0);
    assert_eq!(world.ends[client].seen.items.len(), 300);
    assert_eq!(world.ends[filtered].seen.begins, [Revision(0)]);
}

// Barriers.

#[test]
fn a_barrier_names_what_became_of_each() {
    let mut world = World::new(20);
    for number in 0..2000 {
        world.set_route(number, number % 9);
    }
    let named = |name: &str| Connect { name: name.into(), ..Connect::default() };
    let agrees = world.connect(named("agrees"));
    let filtered = world.connect(Connect { filter: "table 7".into(), ..named("filtered") });
    let late = world.connect(named("late"));
    let mute = world.connect(Connect { features: 0, ..named("mute") });
    let gone = world.connect(named("gone"));
    let differs = world.connect(named("differs"));
    let admin = world.connect(Connect { follows: false, ..named("admin") });
    world.settle();
    world.ends[late].connect.reads = false;
    world.ends[gone].connect.reads = false;
    world.ends[gone].connect.socket = 0;
    world.ends[differs].tamper = Some(Box::new(|bytes| {
        // A digest, or whatever else ends a mark, that nobody has.
        if let Some(at) = bytes.len().checked_sub(20) {
            bytes[at] ^= 1;
        }
    }));
    // One that is far behind: it answers when it has caught up.
    let slow = world.connect(Connect { socket: 2_000, ..named("slow") });
    world.turn();
    world.set_route(7, 3);
    let deadline = world.now + 1_000;
    let id = world.hub.barrier(None, deadline);
    let revision = world.table.revision();
    for _ in 0..200 {
        world.turn();
    }
    assert!(world.reports.is_empty(), "two haven't answered");
    world.cut(gone);
    world.wait(2_000, 100);
    let report = world.reports.pop().unwrap();
    assert_eq!((report.id, report.revision), (id, revision));
    assert!(!report.is_agreed());
    let mut outcomes: Vec<_> =
        report.entries.iter().map(|entry| (entry.name.as_str(), entry.outcome)).collect();
    outcomes.sort_by_key(|entry| entry.0);
    use BarrierOutcome::{Agreed, CannotAnswer, Differed, Gone, Late};
    assert_eq!(
        outcomes,
        [
            ("agrees", Agreed),
            ("differs", Differed),
            ("filtered", Agreed),
            ("gone", Gone),
            ("late", Late),
            ("mute", CannotAnswer),
            ("slow", Agreed),
        ]
    );
    assert!(world.reports.is_empty());
    let asked: Vec<u64> =
        [agrees, filtered, slow].iter().map(|&index| world.ends[index].seen.asked).collect();
    assert_eq!(asked, [1, 1, 1]);
    assert_eq!(world.ends[mute].seen.asked, 0);
    let entry = report.entries.iter().find(|entry| entry.name == "agrees").unwrap();
    assert_eq!((entry.token, entry.pid), (agrees as u64, Some(1000 + agrees as u32)));
    assert_eq!(world.ends[admin].seen.asked, 0);
}

#[test]
fn barriers_of_all_who_agree_end_at_once() {
    let mut world = World::new(21);
    let deadline = world.now + 1_000;
    world.hub.barrier(None, deadline);
    world.turn();
    assert!(world.reports.pop().unwrap().entries.is_empty(), "nobody follows");
    for _ in 0..5 {
        world.connect(Connect::default());
    }
    world.settle();
    world.set_route(1, 1);
    // Three at once, the second for two sessions only, the third cancelled.
    world.hub.barrier(None, deadline);
    world.set_route(2, 1);
    world.hub.barrier(Some(&[1, 3]), deadline);
    let cancelled = world.hub.barrier(None, deadline);
    world.hub.cancel_barrier(cancelled);
    world.turn();
    world.turn();
    world.turn();
    let mut counts: Vec<usize> = world.reports.iter().map(|report| report.entries.len()).collect();
    counts.sort();
    assert_eq!(counts, [2, 5]);
    assert!(world.reports.iter().all(|report| report.is_agreed()));
    // One mark each: an answer counts for all barriers up to its revision.
    assert!(world.ends.iter().all(|end| end.seen.asked == 1));
}

/// Who asks for a barrier over the connection that it follows on gets its mark
/// and can answer it.
#[test]
fn a_follower_may_ask_for_a_barrier_itself() {
    let mut world = World::new(22);
    let client = world.connect(Connect::default());
    world.settle();
    world.ends[client].client.request("sync 1000");
    world.settle();
    assert!(world.reports.pop().unwrap().is_agreed());
}

// Signs of life.

#[test]
fn an_idle_tcp_session_lives_by_heartbeats() {
    let mut world = World::new(30);
    let tcp = Connect { transport: Transport::Tcp, dead_ms: Some(30_000), ..Connect::default() };
    let client = world.connect(tcp);
    let unix = world.connect(Connect::default());
    world.settle();
    let before = world.ends[client].seen.bytes;
    world.wait(120_000, 500);
    let beats = (world.ends[client].seen.bytes - before) / 8;
    assert!((10..=13).contains(&beats), "one each ten seconds: {beats}");
    assert_eq!(world.ends[unix].server.as_ref().unwrap().poll_timeout(), None);
    for index in [client, unix] {
        assert!(world.ends[index].server.is_some());
        assert_eq!(world.ends[index].seen.silent, None);
        assert_eq!(world.ends[index].state(&world), "live");
    }
}

#[test]
fn a_silent_tcp_client_is_ended_and_a_silent_unix_client_shown() {
    let mut world = World::new(31);
    let tcp = world.connect(Connect { transport: Transport::Tcp, ..Connect::default() });
    let unix = world.connect(Connect { socket: 1_000, ..Connect::default() });
    let reader = world.connect(Connect::default());
    world.settle();
    // One is gone without a word, the other is stopped.
    world.ends[tcp].connect.reads = false;
    world.ends[unix].connect.reads = false;
    for number in 0..100 {
        world.set_route(number, 1);
    }
    world.wait(20_000, 500);
    assert_eq!(world.ends[unix].state(&world), "live");
    assert!(world.ends[tcp].server.is_some());
    world.wait(15_000, 500);
    assert_eq!(world.ends[unix].state(&world), "silent");
    assert!(world.ends[tcp].server.is_none(), "ended");
    world.ends[unix].connect.reads = true;
    world.settle();
    assert_eq!(world.ends[unix].state(&world), "live");
    world.check(unix);
    world.check(reader);
    // The goodbye is the last that it finds in its socket.
    world.ends[tcp].connect.reads = true;
    world.settle();
    let (reason, _) = world.ends[tcp].seen.goodbye.clone().unwrap();
    assert_eq!(reason, GoodbyeReason::Silent);
    assert!(reason.may_reconnect());
}

/// Nor does one live for ever that has asked for more than it reads: what it
/// sends isn't read then, so what it takes must count.
#[test]
fn a_client_that_asks_and_goes_is_ended_too() {
    let mut world = World::new(34);
    let tcp = Connect { transport: Transport::Tcp, socket: 5_000, ..Connect::admin() };
    let client = world.connect(tcp.clone());
    let slow = world.connect(tcp);
    for index in [client, slow] {
        world.ends[index].client.request("items 100000 900");
        world.ends[index].client.request("echo after");
    }
    for _ in 0..10 {
        world.turn();
    }
    world.ends[client].connect.reads = false;
    world.wait(60_000, 500);
    assert!(world.ends[client].server.is_none());
    assert!(world.ends[slow].server.is_some(), "it takes a little all the time");
}

#[test]
fn a_client_notices_a_dead_daemon() {
    let mut world = World::new(32);
    let client =
        world.connect(Connect { dead_ms: Some(30_000), reads: false, ..Connect::default() });
    world.wait(6_000, 500);
    let silent = world.ends[client].seen.silent.clone();
    assert_eq!(silent.unwrap(), "the daemon did not answer the hello in time");
    world.ends[client].seen.silent = None;
    world.ends[client].connect.reads = true;
    world.settle();
    world.ends[client].connect.reads = false;
    world.wait(29_000, 500);
    assert_eq!(world.ends[client].seen.silent, None);
    world.wait(2_000, 500);
    let silent = world.ends[client].seen.silent.clone();
    assert_eq!(silent.unwrap(), "the daemon has been silent for too long");
}

#[test]
fn who_does_not_finish_its_hello_is_let_go() {
    let mut hello = Vec::new();
    let frame = Hello { version: 1, lowest: 1, frame_bytes_max: 65536, features: 0, name: "x" };
    ClientFrame::Hello(frame).encode(&mut hello);
    for bytes in [&[][..], &hello[..3], &hello[..hello.len() - 1]] {
        let mut world = World::new(33);
        let slow = world.connect(Connect::default());
        world.ends[slow].raw_up = Some(bytes.iter().copied().collect());
        world.wait(4_000, 500);
        assert!(world.ends[slow].server.is_some());
        world.wait(2_000, 500);
        assert!(world.ends[slow].server.is_none());
        let (reason, text) = world.ends[slow].seen.goodbye.clone().unwrap();
        assert_eq!(reason, GoodbyeReason::HelloTimeout);
        assert_eq!(text, "the hello did not come in time");
    }
}

// Goodbyes.

#[test]
fn goodbyes_say_why() {
    for (reason, again) in [
        (GoodbyeReason::Stopping, true),
        (GoodbyeReason::Killed, false),
        (GoodbyeReason::TooMany, true),
        (GoodbyeReason::NotPermitted, false),
        (GoodbyeReason::Other(99), true),
    ] {
        let mut world = World::new(40);
        world.set_route(1, 1);
        let client = world.connect(Connect::default());
        world.settle();
        // What was published before is lost to it: the goodbye is the next.
        let server = world.ends[client].server.as_mut().unwrap();
        server.goodbye(reason, "a reason, told in words", world.now, &mut world.hub);
        assert!(!server.is_finished());
        assert_eq!(server.read_limit(), 0);
        world.settle();
        let seen = &world.ends[client].seen;
        assert_eq!(seen.goodbye, Some((reason, "a reason, told in words".to_owned())));
        assert_eq!(reason.may_reconnect(), again);
        assert_eq!(world.ends[client].client.progress(), Progress::Closed);
        assert!(world.ends[client].server.is_none());
    }
}

/// One that doesn't read can't be told: it is closed all the same.
#[test]
fn a_goodbye_that_cannot_be_written_is_given_up() {
    let mut world = World::new(41);
    world.set_route(1, 1);
    let client = world.connect(Connect { socket: 100, reads: false, ..Connect::default() });
    world.turn();
    world.turn();
    let server = world.ends[client].server.as_mut().unwrap();
    server.goodbye(GoodbyeReason::Stopping, &"x".repeat(5_000), world.now, &mut world.hub);
    world.turn();
    assert!(!world.ends[client].server.as_ref().unwrap().is_finished());
    world.now += 1_000;
    let server = world.ends[client].server.as_mut().unwrap();
    assert!(server.poll_timeout().unwrap() <= world.now);
    server.handle_timeout(world.now, &mut world.hub);
    assert!(server.is_finished());
}

#[test]
fn a_client_says_goodbye() {
    let mut world = World::new(42);
    let client = world.connect(Connect::default());
    world.settle();
    world.ends[client].client.goodbye();
    world.settle();
    assert!(world.ends[client].server.is_none());
    assert!(world.ends[client].events.contains(&ServerEvent::Goodbye));
    assert_eq!(world.hub.stats().subscribers, 0);
}
