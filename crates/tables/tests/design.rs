//! The design, in figures: what a lagging session costs, what a resume sends,
//! what a thousand joiners share, that a snapshot ends though everything
//! changes, and that nobody is woken for nothing.

mod session_world;

use rtm_tables::{HubLimits, Progress, Revision, TableLimits, Transport};
use session_world::{Connect, World};

const SESSION_BYTES_MAX: u64 = 64 << 10;

/// 256 clients that never read, joined at 256 different moments, half of them
/// stopped in mid-snapshot, while the tables change all the time.
#[test]
fn a_lagging_session_costs_little_in_every_state() {
    let hub = HubLimits {
        journal_bytes: 256 << 10,
        filter_journal_bytes: 128 << 10,
        ..HubLimits::default()
    };
    let mut world = World::with(1, hub, TableLimits::default());
    for number in 0..4000 {
        world.set_route(number, number % 50);
    }
    let reader = world.connect(Connect::default());
    let mut states = std::collections::BTreeMap::new();
    for index in 0..256 {
        let lagging = world.connect(Connect {
            // Some read a part of the snapshot, then stop.
            socket: [500, 30_000, 70_000, 200_000][index % 4],
            filter: if index % 8 == 7 { "root 10.0.0.0/23".into() } else { String::new() },
            ..Connect::default()
        });
        world.turn();
        if index % 2 == 0 {
            world.turn();
        }
        world.ends[lagging].connect.reads = false;
        if index % 16 == 3 {
            // It also asks, and sends half a frame.
            let mut half = vec![0xf0, 0x6f, 0, 0, 0x10, 0, 1, 0];
            half.resize(20_000, b'x');
            world.ends[lagging].client.request("items 100000 900");
            world.turn();
            world.ends[lagging].raw_up = Some(half.into());
        }
        for number in 0..20 {
            world.set_route((index * 20 + number) % 4000, (index + number) % 60);
        }
        // Time passes, so that shared snapshots go.
        world.now += 400;
    }
    for step in 0..100 {
        for number in 0..120 {
            world.set_route((step * 120 + number) % 4000, (step + number) % 70);
        }
        world.now += 600;
        world.turn();
        for end in world.ends.iter().filter(|_| step % 10 == 0) {
            *states.entry(end.state(&world)).or_insert(0_u64) += 1;
        }
    }
    let most = world.ends.iter().map(|end| end.own_bytes_max).max().unwrap();
    println!("own memory of a session that doesn't read: at most {most} bytes, {states:?}");
    assert!(most <= SESSION_BYTES_MAX);
    let lagging = &world.ends[1..];
    assert!(lagging.iter().all(|end| end.own_bytes_max > 400));
    assert!(states.keys().any(|state| *state == "silent"), "{states:?}");
    // What they were reading is given up.
    let stats = world.hub.stats();
    assert_eq!((stats.generations, stats.snapshot_bytes), (0, 0), "{stats:?}");
    assert!(stats.journal_bytes < (256 << 10) + 3 * (128 << 10) + (64 << 10), "{stats:?}");
    // And who reads has been served all the while.
    world.check(reader);
    assert_eq!(world.ends[reader].seen.begins, [Revision(0)]);
    // They come to it when they read again.
    world.ends.iter_mut().for_each(|end| end.connect.reads = true);
    world.settle();
    for index in 0..world.ends.len() {
        if world.ends[index].raw_up.is_none() {
            world.check(index);
        }
    }
}

#[test]
fn a_resume_sends_what_changed() {
    // Out of the journal, and, where that is too short, by a walk.
    for journal_bytes in [64 << 20, 0] {
        let hub = HubLimits { journal_bytes, ..HubLimits::default() };
        let mut world = World::with(2, hub, TableLimits::default());
        let routes = 20_000;
        for number in 0..routes {
            world.set_route(number, number % 50);
        }
        let client = world.connect(Connect::default());
        world.settle();
        let whole = world.ends[client].seen.clone();
        assert!(whole.sets as usize >= routes);
        world.cut(client);
        // One in a hundred is changed, again and again, and one of those gone.
        for round in 0..if journal_bytes == 0 { 100 } else { 1 } {
            for number in (0..routes).step_by(100) {
                world.set_route(number, (number + round) % 49);
            }
        }
        world.delete_route(100);
        world.reconnect(client);
        world.settle();
        world.check(client);
        let seen = &world.ends[client].seen;
        let sent = seen.sets + seen.deletes - whole.sets - whole.deletes;
        let bytes = seen.bytes - whole.bytes;
        println!(
            "journal {journal_bytes}: a snapshot {} records, {} bytes; a resume {sent}, {bytes}",
            whole.sets, whole.bytes
        );
        assert!(sent as usize <= routes / 100 + 2, "{sent}");
        assert!(bytes * 90 < whole.bytes, "{bytes} of {}", whole.bytes);
        assert_eq!(seen.begins.len(), 2);
        assert_ne!(seen.begins[1], Revision(0), "no snapshot");
        let info = world.ends[client].server.as_ref().unwrap().info(&world.hub, world.now);
        assert_eq!((info.resumes, info.snapshots), (1, 0));
    }
}

/// The same for a session that fell behind while it was connected: what it
/// never got is counted.
#[test]
fn who_falls_behind_gets_each_key_once() {
    let hub = HubLimits { journal_bytes: 0, ..HubLimits::default() };
    let mut world = World::with(3, hub, TableLimits::default());
    for number in 0..200 {
        world.set_route(number, 1);
    }
    let client = world.connect(Connect { socket: 1_000, ..Connect::default() });
    world.settle();
    let before = world.ends[client].seen.sets;
    world.ends[client].connect.reads = false;
    for round in 0..100 {
        for number in 0..50 {
            world.set_route(number, 2 + round % 2);
        }
        world.turn();
    }
    world.ends[client].connect.reads = true;
    world.settle();
    world.check(client);
    let info = world.ends[client].server.as_ref().unwrap().info(&world.hub, world.now);
    let sets = world.ends[client].seen.sets - before;
    assert!(sets < 200, "{sets} of 5000");
    assert_eq!(info.resumes, 1);
    assert!(info.conflated > 4_800, "{info:?}");
    assert_eq!((info.lag_records, info.lag_ms, info.queued_bytes), (0, 0, 0));
}

#[test]
fn a_thousand_joiners_share_one_encoding() {
    let mut world = World::new(4);
    for number in 0..1000 {
        world.set_route(number, number % 20);
    }
    let first = world.connect(Connect::default());
    for _ in 1..1000 {
        world.connect(Connect { socket: 10_000, ..Connect::default() });
    }
    world.turn();
    world.turn();
    let stats = world.hub.stats();
    println!("1000 joiners: {stats:?}");
    assert_eq!(stats.snapshots_encoded, 1);
    world.settle();
    assert_eq!(world.hub.stats().snapshots_encoded, 1);
    let bytes = world.ends[first].seen.bytes;
    let own: u64 = world.ends.iter().map(|end| end.own_bytes_max).max().unwrap();
    // WELCOME and the rest of a frame, and nothing of the snapshot.
    assert!(own < 2 << 10, "{own}");
    for index in 0..1000 {
        assert_eq!(world.ends[index].seen.bytes, bytes, "the very same bytes");
        assert_eq!(world.ends[index].seen.ends, 1);
    }
    world.check(first);
    world.check(999);
    // A joiner that comes a little later still shares it, and gets the rest
    // out of the journal.
    world.set_route(1, 19);
    world.turn();
    let joined_at = world.table.revision();
    let late = world.connect(Connect::default());
    world.settle();
    world.check(late);
    assert_eq!(world.hub.stats().snapshots_encoded, 1);
    assert_eq!(world.ends[late].seen.begins, [Revision(0)]);
    // What it is told first to be a whole state is none from before it came.
    assert_eq!(world.ends[late].seen.ends, 1);
    assert!(world.ends[late].seen.ended_at >= joined_at, "{:?}", world.ends[late].seen.ended_at);
}

/// The same where the journal moves on while the old snapshot is read, so far
/// that there is nothing left to go on from: it gets another snapshot.
#[test]
fn a_joiner_of_an_old_snapshot_that_falls_behind_begins_again() {
    let hub = HubLimits { journal_bytes: 16 << 10, ..HubLimits::default() };
    let mut world = World::with(6, hub, TableLimits::default());
    for number in 0..3000 {
        world.set_route(number, number % 20);
    }
    let first = world.connect(Connect::default());
    world.settle();
    world.set_route(1, 19);
    world.turn();
    let joined_at = world.table.revision();
    let late = world.connect(Connect { socket: 4000, ..Connect::default() });
    for number in 0..1000 {
        world.set_route(number, (number + 1) % 20);
        if number % 20 == 0 {
            world.turn();
        }
    }
    world.settle();
    for end in [first, late] {
        world.check(end);
    }
    assert!(world.ends[late].seen.ended_at >= joined_at);
    assert!(world.ends[late].seen.begins.iter().all(|from| *from == Revision(0)));
}

/// More changes in a turn than the budget of a turn: it ends all the same, for
/// a shared snapshot, for a filter's, and for walks of one's own.
#[test]
fn a_snapshot_under_constant_change_converges() {
    for (filter, snapshot_bytes_max) in [("", 256 << 20), ("routes", 256 << 20), ("", 1)] {
        let hub = HubLimits { snapshot_bytes_max, ..HubLimits::default() };
        let mut world = World::with(5, hub, TableLimits::default());
        let routes = 3000;
        for number in 0..routes {
            world.set_route(number, number % 50);
        }
        world.budget = 100;
        let client = world.connect(Connect::filtered(filter));
        let mut turns = 0;
        while world.ends[client].seen.ends == 0 {
            for number in 0..200 {
                let number = (turns * 37 + number * 11) % routes;
                world.set_route(number, (turns + number) % 60);
            }
            world.turn();
            turns += 1;
            assert!(turns < 200, "filter {filter:?}, {snapshot_bytes_max}: no end in sight");
        }
        println!("filter {filter:?}, shared: {}: {turns} turns", snapshot_bytes_max > 1);
        world.settle();
        world.check(client);
        assert_eq!(world.ends[client].seen.begins, [Revision(0)]);
    }
}

#[test]
fn what_does_not_match_wakes_nobody() {
    let mut world = World::new(6);
    for number in 0..600 {
        world.set_route(number, number % 7);
    }
    let filtered = world.connect(Connect::filtered("routes root 10.0.0.0/24 root 10.0.1.0/24"));
    let admin = world.connect(Connect::admin());
    world.settle();
    world.check(filtered);
    // Two routes, their groups and links: gateways 0 and 1.
    let seen = world.ends[filtered].seen.clone();
    assert_eq!((seen.sets, seen.deletes), (2 + 2 + 2, 0));
    let named = world.named;
    for number in 2..600 {
        world.set_route(number, number % 5);
        world.turn();
    }
    assert_eq!(world.named, named, "nobody was named");
    assert_eq!(world.ends[filtered].seen.bytes, seen.bytes);
    // One that matches, by a gateway that the table had all along.
    world.set_route(1, 4);
    world.settle();
    world.check(filtered);
    let after = &world.ends[filtered].seen;
    // The link and the group first, then the route; the old group and link go.
    assert_eq!((after.sets - seen.sets, after.deletes - seen.deletes), (3, 2));
    // Its mark names the table's revision, though most passed it by.
    assert_eq!(world.ends[filtered].client.revision(), world.table.revision());
    assert_eq!(world.ends[admin].seen.marks, 0);
}

#[test]
fn idle_sessions_are_not_looked_at() {
    let mut world = World::new(7);
    for number in 0..100 {
        world.set_route(number, 1);
    }
    for _ in 0..50 {
        world.connect(Connect::default());
        world.connect(Connect::admin());
    }
    world.settle();
    let named = world.named;
    for _ in 0..100 {
        world.turn();
    }
    assert_eq!(world.named, named);
    for end in &world.ends {
        let own = end.server.as_ref().unwrap().info(&world.hub, world.now).own_bytes;
        assert!(own < 1024, "{own}");
    }
    // And a change names those who follow, once each.
    world.set_route(1, 2);
    world.turn();
    assert_eq!(world.named, named + 50);
}

#[test]
fn a_turn_has_one_mark_however_many_changes() {
    let mut world = World::new(8);
    let client = world.connect(Connect::default());
    world.settle();
    let marks = world.ends[client].seen.marks;
    for turn in 0..10 {
        for number in 0..200 {
            world.set_route(number, turn);
        }
        world.turn();
    }
    world.settle();
    assert_eq!(world.ends[client].seen.marks, marks + 10);
    let stats = world.hub.stats();
    // Encoded once: as many records as one client got.
    let seen = &world.ends[client].seen;
    assert_eq!(stats.journal_records, seen.sets + seen.deletes);
}

#[test]
fn what_is_told_of_sessions() {
    let mut world = World::new(9);
    for number in 0..5000 {
        world.set_route(number, number % 7);
    }
    let live = world.connect(Connect { name: "live".into(), ..Connect::default() });
    let slow = world.connect(Connect {
        name: "slow".into(),
        transport: Transport::Tcp,
        socket: 1_000,
        filter: "routes -4".into(),
        ..Connect::default()
    });
    let admin = world.connect(Connect { name: "admin".into(), ..Connect::admin() });
    for _ in 0..20 {
        world.turn();
    }
    world.set_route(1, 99);
    world.turn();
    let info = |world: &World, index: usize| {
        world.ends[index].server.as_ref().unwrap().info(&world.hub, world.now)
    };
    let told = info(&world, live);
    assert_eq!((told.name.as_str(), told.state.name()), ("live", "live"));
    assert_eq!((told.subscriber, told.filter.as_str()), (true, ""));
    assert_eq!(told.revision, world.table.revision());
    assert_eq!((told.lag_records, told.lag_ms, told.queued_bytes), (0, 0, 0));
    assert_eq!((told.snapshots, told.resumes, told.resyncs, told.conflated), (1, 0, 0, 0));
    let seen = &world.ends[live].seen;
    assert_eq!(told.sent_records, seen.sets + seen.deletes);
    assert_eq!((told.peer.pid, told.peer.transport.name()), (Some(1000), "unix"));
    let told = info(&world, slow);
    assert_eq!((told.name.as_str(), told.state.name()), ("slow", "snapshot"));
    assert_eq!((told.filter.as_str(), told.peer.transport.name()), ("routes -4", "tcp"));
    assert_eq!(told.revision, Revision(0));
    assert!(told.lag_records > 3000 && told.queued_bytes > 100_000, "{told:?}");
    assert!(told.lag_ms >= 15, "{told:?}");
    let told = info(&world, admin);
    assert_eq!((told.name.as_str(), told.state.name()), ("admin", "admin"));
    assert!(!told.subscriber);
    // It gets to the end, and then falls behind by exactly three.
    world.ends[slow].connect.socket = 100_000;
    world.settle();
    assert_eq!(world.ends[slow].client.progress(), Progress::Live);
    world.ends[slow].connect.socket = 0;
    world.ends[slow].connect.reads = false;
    for number in 0..3 {
        world.set_route(number, 1);
    }
    world.turn();
    world.now += 500;
    let told = info(&world, slow);
    assert_eq!(told.state.name(), "live");
    assert!((3..=5).contains(&told.lag_records), "{told:?}");
    assert!((500..600).contains(&told.lag_ms), "{told:?}");
}
