//! A follower against a daemon that is played by hand: snapshot, live, resume,
//! digests, kills, every cut.

#[allow(dead_code, unreachable_pub)]
mod daemon;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use daemon::{Peer, World, accept, listen};
use rtm_client::{
    Address, Connection, Error, Event, FollowConfig, Follower, GoodbyeReason, Revision, State, Turn,
};
use rtm_model::{Digest, Entity};
use rtm_tables::wire::DaemonFrame;

const PATIENCE: Duration = Duration::from_secs(60);

/// An event as a line.
fn line(event: &Event<'_>) -> String {
    match event {
        Event::Connected { epoch, .. } => format!("connected {}", epoch.0),
        Event::Begin { snapshot: true, .. } => "snapshot".to_owned(),
        Event::Begin { from, .. } => format!("since {}", from.0),
        Event::Change(change) => {
            let name = |entity: &Entity| match entity {
                Entity::Route(route) => {
                    let group = change.store.group(route.value.group).expect("its group is there");
                    let link =
                        change.store.link(group.hops[0].link.unwrap()).expect("and its link");
                    format!("{} dev {}", route.key.prefix, link.name)
                }
                Entity::Link(link) => format!("link {}", link.name),
                Entity::Group(group) => format!("group {}", group.id.0),
                Entity::Neighbour(neighbour) => neighbour.key.ip.to_string(),
            };
            let old = change.old().as_ref().map(name).unwrap_or_default();
            let new = change.new.map(name).unwrap_or_default();
            format!("change {}: {old} -> {new}", change.revision.0)
        }
        Event::Flushed { revision, .. } => format!("flushed {}", revision.0),
        Event::Synced { revision, .. } => format!("synced {}", revision.0),
        Event::Marked { revision } => format!("marked {}", revision.0),
        Event::Differed { revision, .. } => format!("differed {}", revision.0),
        Event::Lost { pause, .. } => format!("lost {}", pause.is_some()),
        _ => "another event".to_owned(),
    }
}

/// Turns until an event begins with `until` (or it is over); gives all lines.
fn follow(follower: &mut Follower, until: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let end = Instant::now() + PATIENCE;
    while !lines.iter().any(|line: &String| line.starts_with(until)) {
        assert!(Instant::now() < end, "waited in vain for {until}: {lines:?}");
        let left = Some(Duration::from_secs(1));
        if follower.turn(left, &[], &mut |event| lines.push(line(&event))).is_err() {
            break;
        }
    }
    lines
}

fn pair() -> (Connection, Peer) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let address = Address::Unix("pair".into());
    (Connection::from_fd(OwnedFd::from(ours), address).unwrap(), Peer::new(theirs))
}

/// While a table is loaded an index would only be in the way; once its routes change it is
/// worth being made.
#[test]
fn an_index_is_made_when_routes_change_not_while_they_come() {
    const ROUTES: u64 = 5000;
    let (connection, mut peer) = pair();
    let (go_on, wait) = std::sync::mpsc::channel();
    let daemon = thread::spawn(move || {
        let mut world = World::new(1);
        world.greet(&mut peer);
        for gateway in 1..3 {
            let route = |n| format!("10.{}.{}.0/24 via 192.0.2.{gateway} dev e", n / 256, n % 256);
            let lines: Vec<String> =
                (0..ROUTES).map(|n| format!("route replace {}", route(n))).collect();
            let records = world.apply(&lines.iter().map(String::as_str).collect::<Vec<_>>());
            peer.send(&records);
            peer.send(&world.mark(false));
            wait.recv().unwrap();
        }
    });
    let config = FollowConfig { reconnect: false, ..FollowConfig::default() };
    let mut follower = Follower::on(connection, config).unwrap();
    // In a loop of one's own nothing makes it but `idle`.
    let end = Instant::now() + PATIENCE;
    for (until, worth) in [(ROUTES, false), (2 * ROUTES, true)] {
        let mut marked = 0;
        while marked < until {
            assert!(Instant::now() < end, "no mark");
            let mut tell = |event: Event<'_>| {
                if let Event::Marked { revision } = event {
                    marked = revision.0;
                }
            };
            follower.on_ready(Instant::now(), &mut tell).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(follower.idle(), worth, "at revision {marked}");
        go_on.send(()).unwrap();
    }
    daemon.join().unwrap();
}

/// Over a socket of its own a turn waits in its read: for as long as it was told,
/// for a change, and for the end of the connection.
#[test]
fn a_turn_waits_for_its_time_for_a_change_and_for_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = listen(&path);
    let (go, wait) = std::sync::mpsc::channel();
    let daemon = thread::spawn(move || {
        let mut world = World::new(1);
        let mut peer = accept(&listener);
        world.apply(&["route add 10.0.0.0/8 via 192.0.2.1 dev e1"]);
        world.greet(&mut peer);
        wait.recv().unwrap();
        let records = world.apply(&["route replace 10.0.0.0/8 via 192.0.2.2 dev e1"]);
        peer.send(&records);
        peer.send(&world.mark(false));
        wait.recv().unwrap();
        drop(peer);
    });
    let mut follower = Follower::connect(&Address::Unix(path), alone()).unwrap();
    follow(&mut follower, "synced 1");
    let (began, time) = (Instant::now(), Duration::from_millis(700));
    let mut told = 0;
    let turn = follower.turn(Some(time), &[], &mut |_| told += 1).unwrap();
    assert_eq!((turn, told), (Turn::TimedOut, 0));
    assert!(began.elapsed() >= time, "it waits for all of the time");
    // Said while it waits (or just before: then it doesn't wait).
    let pause = Duration::from_millis(50);
    let says = thread::spawn(move || {
        for _ in 0..2 {
            thread::sleep(pause);
            go.send(()).unwrap();
        }
    });
    let mut lines = Vec::new();
    while !lines.contains(&"marked 2".to_owned()) {
        let turn = follower.turn(None, &[], &mut |event| lines.push(line(&event))).unwrap();
        assert_eq!(turn, Turn::Worked);
    }
    let replica = follower.replica().unwrap();
    assert_eq!(replica.recompute_digests(), replica.digests());
    let over = follower.turn(None, &[], &mut |event| lines.push(line(&event)));
    assert!(matches!(over, Err(Error::Closed { .. })), "{over:?}");
    assert_eq!(lines.last().map(String::as_str), Some("lost false"));
    says.join().unwrap();
    daemon.join().unwrap();
}

fn alone() -> FollowConfig {
    FollowConfig { reconnect: false, ..FollowConfig::default() }
}

#[test]
fn a_snapshot_then_every_change() {
    let (connection, mut peer) = pair();
    let config = FollowConfig { name: "t".into(), changes: true, ..alone() };
    let mut follower = Follower::on(connection, config).unwrap();
    let daemon = thread::spawn(move || {
        let mut world = World::new(1);
        peer.expect("HELLO t");
        peer.expect("SUBSCRIBE 0:0");
        world.apply(&["route add 10.0.0.0/8 via 192.0.2.1 dev e1"]);
        peer.send(&world.welcome());
        let walk = world.walk(Revision(0));
        peer.send(&walk);
        let records = world.apply(&[
            "route replace 10.0.0.0/8 via 192.0.2.2 dev e2",
            "route del 10.0.0.0/8",
            "neigh add 10.0.0.7 lladdr 02:00:00:00:00:07 dev e1",
        ]);
        peer.send(&records);
        peer.send(&world.mark(true));
        peer.expect("ACK 4 true");
        let records = world.flush_routes();
        peer.send(&records);
        peer.send(&world.mark(false));
        peer.expect("GOODBYE");
        assert_eq!(peer.next(), None);
        world.table.digests()
    });
    let mut lines = follow(&mut follower, "marked 4");
    assert!(!follower.state().is_stale());
    if !lines.contains(&"marked 5".to_owned()) {
        lines.extend(follow(&mut follower, "marked 5"));
    }
    assert_eq!(
        follower.replica().unwrap().recompute_digests(),
        follower.replica().unwrap().digests()
    );
    let digests = follower.replica().unwrap().digests();
    follower.goodbye();
    assert!(follower.replica().is_none(), "who says goodbye has cleared its tables");
    assert_eq!(daemon.join().unwrap(), digests);
    let shown: Vec<&str> =
        lines.iter().map(String::as_str).filter(|line| !line.contains("group")).collect();
    assert_eq!(
        shown,
        [
            "connected 1",
            "snapshot",
            "change 1:  -> link e1",
            "change 1:  -> 10.0.0.0/8 dev e1",
            "synced 1",
            "change 2:  -> link e2",
            "change 2: 10.0.0.0/8 dev e1 -> 10.0.0.0/8 dev e2",
            "change 2: link e1 -> ",
            "change 3: 10.0.0.0/8 dev e2 -> ",
            "change 3: link e2 -> ",
            "change 4:  -> link e1",
            "change 4:  -> 10.0.0.7",
            "marked 4",
            "flushed 5",
            "marked 5",
        ]
    );
    let counts = follower.counts();
    assert_eq!((counts.snapshots, counts.resyncs, counts.flushes, counts.marks), (1, 0, 1, 3));
}

#[test]
fn after_a_break_it_resumes_with_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = listen(&path);
    let address = Address::Unix(path.clone());
    let daemon = thread::spawn(move || {
        let mut world = World::new(5);
        world.apply(&["route add 10.0.0.0/8 dev e1", "route add 11.0.0.0/8 dev e1"]);
        let mut peer = accept(&listener);
        peer.expect("HELLO ");
        peer.expect("SUBSCRIBE 0:0 routes");
        peer.send(&world.welcome());
        let walk = world.walk(Revision(0));
        peer.send(&walk);
        drop(peer); // The break.
        world.apply(&["route del 11.0.0.0/8", "route add 12.0.0.0/8 dev e1"]);
        let mut peer = accept(&listener);
        peer.expect("HELLO ");
        peer.expect("SUBSCRIBE 5:2 routes");
        peer.send(&world.welcome());
        let walk = world.walk(Revision(2));
        peer.send(&walk);
        drop(peer);
        // Another history: what is held is of no use, but stays until its end.
        let mut world = World::new(6);
        world.apply(&["route add 13.0.0.0/8 dev e9"]);
        let mut peer = accept(&listener);
        peer.expect("HELLO ");
        peer.expect("SUBSCRIBE 5:4 routes");
        peer.send(&world.welcome());
        let walk = world.walk(Revision(0));
        peer.send(&walk);
        peer.expect("GOODBYE");
    });
    let config = FollowConfig { filter: "routes".into(), ..FollowConfig::default() };
    let mut follower = Follower::connect(&address, config).unwrap();
    let mut lines = follow(&mut follower, "synced 2");
    lines.extend(follow(&mut follower, "synced 4"));
    assert_eq!(follower.replica().unwrap().store().counts().routes4, 2);
    lines.extend(follow(&mut follower, "synced 1"));
    assert_eq!(follower.replica().unwrap().store().counts().routes4, 1);
    assert_eq!(follower.position().map(|(epoch, revision)| (epoch.0, revision.0)), Some((6, 1)));
    follower.goodbye();
    assert_eq!(follower.state(), State::Ended);
    daemon.join().unwrap();
    assert_eq!(
        lines,
        [
            "connected 5",
            "snapshot",
            "synced 2",
            "lost true",
            "connected 5",
            "since 2",
            "synced 4",
            "lost true",
            "connected 6",
            "snapshot",
            "synced 1",
        ]
    );
    let counts = follower.counts();
    assert_eq!((counts.connects, counts.resumes, counts.snapshots), (3, 1, 2));
}

#[test]
fn a_digest_that_differs_brings_a_snapshot() {
    let (connection, mut peer) = pair();
    let mut follower = Follower::on(connection, alone()).unwrap();
    let daemon = thread::spawn(move || {
        let mut world = World::new(1);
        peer.send(&world.welcome());
        let walk = world.walk(Revision(0));
        peer.send(&walk);
        peer.expect("HELLO ");
        peer.expect("SUBSCRIBE 0:0");
        // A record is dropped on the way.
        world.apply(&["route add 10.0.0.0/8 dev e1"]);
        let records = world.apply(&["route add 11.0.0.0/8 dev e1"]);
        peer.send(&records);
        peer.send(&world.mark(true));
        peer.expect("ACK 2 false");
        peer.expect("RESYNC 2");
        // What is on its way meanwhile doesn't ask again.
        peer.send(&world.mark(false));
        let walk = world.walk(Revision(0));
        peer.send(&walk);
        let mut wrong = world.table.digests();
        wrong.neighbours = Digest(1);
        peer.send(&world.mark_with(wrong, false));
        peer.expect("RESYNC 2");
        let walk = world.walk(Revision(0));
        peer.send(&walk);
        peer.expect("GOODBYE");
    });
    let mut lines = follow(&mut follower, "synced 2");
    while lines.iter().filter(|line| *line == "synced 2").count() < 2 {
        lines.extend(follow(&mut follower, "synced 2"));
    }
    assert_eq!(follower.replica().unwrap().store().counts().routes4, 2);
    follower.goodbye();
    daemon.join().unwrap();
    assert_eq!(
        lines,
        [
            "connected 1",
            "snapshot",
            "synced 0",
            "differed 2",
            "snapshot",
            "synced 2",
            "differed 2",
            "snapshot",
            "synced 2",
        ]
    );
    assert_eq!(follower.counts().resyncs, 2);
}

#[test]
fn what_a_snapshot_does_not_name_is_told_to_be_gone() {
    let (connection, mut peer) = pair();
    let config = FollowConfig { changes: true, ..alone() };
    let mut follower = Follower::on(connection, config).unwrap();
    let daemon = thread::spawn(move || {
        let mut world = World::new(1);
        world.apply(&["route add 10.0.0.0/8 dev e1", "route add 11.0.0.0/8 dev e1"]);
        peer.send(&world.welcome());
        let walk = world.walk(Revision(0));
        peer.send(&walk);
        world.apply(&["route del 10.0.0.0/8"]);
        let walk = world.walk(Revision(0));
        peer.send(&walk);
        peer.expect("HELLO ");
        peer.expect("SUBSCRIBE 0:0");
        peer.expect("GOODBYE");
    });
    let lines = follow(&mut follower, "synced 3");
    assert_eq!(follower.replica().unwrap().store().counts().routes4, 1);
    follower.goodbye();
    daemon.join().unwrap();
    assert_eq!(
        lines[lines.len() - 2..],
        ["change 3: 10.0.0.0/8 dev e1 -> ", "synced 3"],
        "{lines:?}"
    );
}

#[test]
fn who_is_killed_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = listen(&path);
    let daemon = thread::spawn(move || {
        let world = World::new(1);
        let mut peer = accept(&listener);
        peer.send(&world.welcome());
        peer.frame(&DaemonFrame::Goodbye { reason: GoodbyeReason::Stopping, text: "" });
        let mut peer = accept(&listener);
        peer.send(&world.welcome());
        peer.frame(&DaemonFrame::Goodbye { reason: GoodbyeReason::Killed, text: "by root" });
        listener
    });
    let mut follower = Follower::connect(&Address::Unix(path), FollowConfig::default()).unwrap();
    let lines = follow(&mut follower, "never");
    assert_eq!(lines, ["connected 1", "lost true", "connected 1", "lost false"]);
    let Some(Error::Goodbye { reason: GoodbyeReason::Killed, text, .. }) = follower.ended() else {
        panic!("{:?}", follower.ended())
    };
    assert_eq!(text, "by root");
    assert!(follower.on_ready(Instant::now(), &mut |_| ()).is_err());
    drop(daemon.join().unwrap());
}

#[test]
fn changes_since_a_revision() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = listen(&path);
    let daemon = thread::spawn(move || {
        let mut world = World::new(3);
        world.apply(&["route add 10.0.0.0/8 dev e1", "route add 11.0.0.0/8 dev e1"]);
        world.apply(&["route del 11.0.0.0/8", "route add 12.0.0.0/8 dev e1"]);
        let mut peer = accept(&listener);
        world.greet(&mut peer);
        peer.expect("GOODBYE");
        let mut peer = accept(&listener);
        peer.expect("HELLO ");
        peer.expect("SUBSCRIBE 3:1");
        peer.send(&world.welcome());
        let walk = world.walk(Revision(1));
        peer.send(&walk);
        peer.expect("GOODBYE");
    });
    let since = Some((rtm_client::Epoch(3), Revision(1)));
    let config = FollowConfig { changes: true, since, ..FollowConfig::default() };
    let mut follower = Follower::connect(&Address::Unix(path), config).unwrap();
    let lines = follow(&mut follower, "synced");
    follower.goodbye();
    daemon.join().unwrap();
    // The link and the group are older than that revision, and still there.
    assert_eq!(
        lines,
        [
            "connected 3",
            "connected 3",
            "since 1",
            "change 3:  -> ",
            "change 4: 12.0.0.0/8 dev e1 -> 12.0.0.0/8 dev e1",
            "synced 4",
        ]
    );
}

/// Everything that a daemon sends is cut at every byte; each time the follower
/// comes back, and ends with the same table.
#[test]
fn a_connection_may_be_cut_at_every_byte() {
    let mut world = World::new(9);
    world.apply(&["route add 10.0.0.0/8 via 192.0.2.1 dev e1", "route add 11.0.0.0/8 dev e2"]);
    let mut stream = world.welcome();
    stream.extend(world.walk(Revision(0)));
    for lines in [
        &["route replace 10.0.0.0/8 via 192.0.2.9 dev e1"][..],
        &["route del 11.0.0.0/8", "route append 10.0.0.0/8 dev e3"],
        &["neigh add 10.0.0.7 lladdr 02:00:00:00:00:07"],
    ] {
        stream.extend(world.apply(lines));
        stream.extend(world.mark(false));
    }
    let (last, digests) = (world.table.revision(), world.table.digests());
    for cut in 0..stream.len() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = listen(&path);
        let mut follower =
            Follower::connect(&Address::Unix(path), FollowConfig::default()).unwrap();
        let mut first = accept(&listener);
        first.send(&stream[..cut]);
        drop(first);
        let mut lines = follow(&mut follower, "lost");
        follower.retry_now();
        // The daemon comes to the connection first, so that nothing waits here.
        let mut second = thread::scope(|scope| {
            let accepted = scope.spawn(|| accept(&listener));
            while follower.state() == State::Waiting {
                let _ = follower.turn(None, &[], &mut |event| lines.push(line(&event)));
            }
            accepted.join().unwrap()
        });
        second.expect("HELLO ");
        let subscribe = second.next().unwrap();
        let from = subscribe.strip_prefix("SUBSCRIBE ").unwrap();
        let (epoch, from) = from.split_once(':').unwrap();
        assert!(epoch == "9" || from == "0", "cut at {cut}: {subscribe}");
        second.send(&world.welcome());
        let walk = world.walk(Revision(from.parse().unwrap()));
        second.send(&walk);
        follow(&mut follower, &format!("synced {}", last.0));
        let replica = follower.replica().unwrap();
        assert_eq!(replica.digests(), digests, "cut at {cut}");
        assert_eq!(replica.recompute_digests(), digests, "cut at {cut}");
        assert_eq!(follower.counts().resyncs, 0, "cut at {cut}");
    }
}

#[test]
fn garbage_ends_the_connection_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = listen(&path);
    let daemon = thread::spawn(move || {
        let mut world = World::new(1);
        world.apply(&["route add 10.0.0.0/8 dev e1"]);
        let mut bad_record = world.welcome();
        DaemonFrame::Begin { from: Revision(0) }.encode(&mut bad_record);
        // A route with host bits, of a length that fits.
        let mut body = vec![0xff; 24];
        body[12] = 8;
        rtm_tables::wire::records::encode(
            &mut bad_record,
            rtm_tables::RecordOp::Set,
            rtm_model::EntityKind::Route4,
            Revision(1),
            true,
            &body,
        );
        let welcome = world.welcome();
        for garbage in [
            &[0xff; 64][..],
            &[0; 8],
            &[8, 0, 0, 0, 0x82, 0, 1, 0],
            &[welcome.as_slice(), &[7; 16]].concat(),
            &bad_record,
        ] {
            let mut peer = accept(&listener);
            peer.try_send(garbage);
            while peer.next().is_some() {}
        }
        let mut peer = accept(&listener);
        peer.send(&world.welcome());
        let walk = world.walk(Revision(0));
        peer.send(&walk);
        while peer.next().is_some() {}
    });
    let mut follower = Follower::connect(&Address::Unix(path), FollowConfig::default()).unwrap();
    let lines = follow(&mut follower, "synced 1");
    assert_eq!(lines.iter().filter(|line| *line == "lost true").count(), 5, "{lines:?}");
    follower.goodbye();
    daemon.join().unwrap();
}

#[test]
fn a_loop_of_ones_own_watches_one_descriptor() {
    use std::os::fd::AsFd;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = listen(&path);
    let daemon = thread::spawn(move || {
        for count in 1..=2 {
            let mut world = World::new(1);
            for number in 0..count {
                world.apply(&[format!("route add 10.{number}.0.0/16 dev e1").as_str()]);
            }
            let mut peer = accept(&listener);
            peer.send(&world.welcome());
            let walk = world.walk(Revision(0));
            peer.send(&walk);
            if count == 2 {
                while peer.next().is_some() {}
            }
        }
    });
    let mut follower = Follower::connect(&Address::Unix(path), FollowConfig::default()).unwrap();
    let fd = follower.as_fd().try_clone_to_owned().unwrap();
    let mut synced = Vec::new();
    let end = Instant::now() + PATIENCE;
    while synced.len() < 2 {
        assert!(Instant::now() < end, "{follower:?}");
        let left = follower.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        rtm_client::wait(&[(fd.as_fd(), rustix::event::PollFlags::IN)], left);
        follower
            .on_ready(Instant::now(), &mut |event| {
                if let Event::Synced { revision, .. } = event {
                    synced.push(revision.0);
                }
            })
            .unwrap();
    }
    assert_eq!(synced, [1, 2]);
    follower.goodbye();
    daemon.join().unwrap();
}

#[test]
fn a_turn_also_waits_for_the_callers_descriptors() {
    use std::io::Write;
    use std::os::fd::AsFd;
    let (connection, _peer) = pair();
    let mut follower = Follower::on(connection, alone()).unwrap();
    let (mut near, far) = UnixStream::pair().unwrap();
    let moment = Some(Duration::from_millis(1));
    while follower.turn(moment, &[far.as_fd()], &mut |_| ()).unwrap() != Turn::TimedOut {}
    near.write_all(b"x").unwrap();
    assert_eq!(follower.turn(None, &[far.as_fd()], &mut |_| ()).unwrap(), Turn::Also(0));
}

#[test]
fn nobody_there_is_said_with_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let error = Follower::connect(&Address::Unix(path.clone()), alone()).unwrap_err();
    assert_eq!(error.exit_class() as u8, 3);
    assert_eq!(
        error.to_string(),
        format!(
            "no daemon: {}: there is no socket; start rtmd, or name its place with --runtime-dir or --socket",
            path.display()
        )
    );
    drop(listen(&path));
    let error = Follower::connect(&Address::Unix(path), alone()).unwrap_err();
    assert!(error.to_string().contains("nobody listens there"), "{error}");
}
