//! Followers and loads against real sessions over a real socket.

#[allow(dead_code, unreachable_pub)]
mod mini;

use std::time::{Duration, Instant};

use mini::Mini;
use rtm_client::{Address, Admin, Event, FollowConfig, Follower, LoadOptions, Revision, State};
use rtm_model::text::{Command, Context, parse_line};
use rtm_model::{Change, Digests};
use rtm_tables::HubLimits;

const PATIENCE: Duration = Duration::from_secs(120);

fn change(line: &str) -> Change {
    match parse_line(line, &Context::default()) {
        Ok(Some((_, Command::Change(change)))) => change,
        other => panic!("{line}: {other:?}"),
    }
}

fn load(address: &Address, lines: impl Iterator<Item = String>) -> Revision {
    let mut admin = Admin::connect(address, "loader").unwrap();
    let mut load = admin.load(&LoadOptions::default());
    for line in lines {
        assert!(load.push(&change(&line)).unwrap(), "{line}");
    }
    let done = load.finish(false).unwrap();
    assert_eq!((done.code, done.failed), (0, 0), "{done:?}");
    admin.goodbye();
    done.revision
}

fn routes(from: u32, to: u32) -> impl Iterator<Item = String> {
    (from..to).map(|number| {
        let [_, a, b, c] = number.to_be_bytes();
        let (gateway, link) = (number % 200 + 1, number % 32);
        format!("route replace 10.{a}.{b}.{c}/32 via 192.0.2.{gateway} dev Ethernet{link}")
    })
}

/// Turns until the follower is at `revision` and agrees; gives its digests.
fn reach(follower: &mut Follower, revision: Revision) -> Digests {
    let end = Instant::now() + PATIENCE;
    let mut reached = false;
    while !reached {
        assert!(Instant::now() < end, "{follower:?}");
        follower
            .turn(Some(Duration::from_secs(1)), &[], &mut |event| match event {
                Event::Synced { revision: at, .. } | Event::Marked { revision: at } => {
                    reached |= at >= revision;
                }
                _ => {}
            })
            .unwrap();
    }
    assert_eq!(follower.counts().resyncs, 0);
    let replica = follower.replica().unwrap();
    assert_eq!(replica.recompute_digests(), replica.digests());
    replica.digests()
}

#[test]
fn everybody_has_the_same_table() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let address = Address::Unix(path.clone());
    // A small journal, so that who stops reading falls out of it.
    let limits = HubLimits { journal_bytes: 256 << 10, ..HubLimits::default() };
    let daemon = Mini::start(&path, 1, limits);
    let follow = |name: &str, filter: &str| {
        let config =
            FollowConfig { name: name.into(), filter: filter.into(), ..FollowConfig::default() };
        Follower::connect(&address, config).unwrap()
    };
    let mut early = follow("early", "");
    let mut slow = follow("slow", "");
    let mut narrow = follow("narrow", "root 10.0.0.0/24 routes");
    let first = load(&address, routes(0, 30_000));
    assert_eq!(first, Revision(30_000));
    // Two at once; the slow one doesn't read meanwhile.
    let ours = reach(&mut early, first);
    let mut late = follow("late", "");
    assert_eq!(reach(&mut late, first), ours);
    let second =
        load(&address, routes(0, 60_000).map(|line| line.replace("192.0.2", "198.51.100")));
    let digests = reach(&mut early, second);
    assert_ne!(digests, ours);
    assert_eq!(reach(&mut late, second), digests);
    assert_eq!(reach(&mut slow, second), digests);
    assert!(slow.counts().snapshots + slow.counts().catch_ups >= 1, "{slow:?}");
    assert!(slow.counts().records < 150_000, "{slow:?}");
    reach(&mut narrow, second);
    let store = narrow.replica().unwrap().store();
    assert_eq!(store.counts().routes4, 256);
    assert!(store.lookup(254, "10.0.0.9".parse().unwrap()).is_some());
    assert!(store.lookup(254, "10.0.1.9".parse().unwrap()).is_none());
    assert_eq!(early.replica().unwrap().store().counts().routes4, 60_000);
    for follower in [&mut early, &mut late, &mut slow, &mut narrow] {
        follower.goodbye();
        assert_eq!(follower.state(), State::Ended);
    }
    assert_eq!(daemon.stop(), (second, digests));
}

#[test]
fn a_refused_change_ends_the_load_with_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let daemon = Mini::start(&path, 1, HubLimits::default());
    let mut admin = Admin::connect(&Address::Unix(path), "").unwrap();
    let mut stream = admin.load(&LoadOptions::default());
    for line in
        ["route add 10.0.0.0/8 dev e", "route add 11.0.0.0/8 dev e", "route add 10.0.0.0/8 dev f"]
    {
        stream.push(&change(line)).unwrap();
    }
    for number in 0..50_000 {
        if !stream
            .push(&change(&format!(
                "route add 12.0.{}.{}/32 dev e",
                number / 256 % 256,
                number % 256
            )))
            .unwrap()
        {
            break;
        }
    }
    let done = stream.finish(false).unwrap();
    assert_eq!((done.code, done.position, done.applied), (2, 3, 2));
    let mut said = Vec::new();
    let answer = admin.request("hello", &mut |item| {
        said.push(item.text().into_owned());
        true
    });
    assert_eq!(
        (answer.unwrap().revision, said.as_slice()),
        (Revision(2), &["you said hello".to_owned()][..])
    );
    assert_eq!(daemon.stop().0, Revision(2));
}

#[test]
fn another_daemon_in_the_same_place_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let address = Address::Unix(path.clone());
    let daemon = Mini::start(&path, 1, HubLimits::default());
    let mut follower = Follower::connect(&address, FollowConfig::default()).unwrap();
    let revision = load(&address, routes(0, 100));
    reach(&mut follower, revision);
    let replica = follower.replica().unwrap();
    assert_eq!(replica.store().counts().routes4, 100);
    daemon.stop();
    std::fs::remove_file(&path).unwrap();
    while follower.state() != State::Waiting {
        follower.turn(Some(Duration::from_secs(1)), &[], &mut |_| ()).unwrap();
    }
    // Stale, and there.
    assert_eq!(follower.replica().unwrap().store().counts().routes4, 100);
    let daemon = Mini::start(&path, 2, HubLimits::default());
    let revision = load(&address, routes(50, 60));
    follower.retry_now();
    let digests = reach(&mut follower, revision);
    assert_eq!(follower.replica().unwrap().store().counts().routes4, 10);
    assert_eq!(daemon.stop(), (revision, digests));
}
