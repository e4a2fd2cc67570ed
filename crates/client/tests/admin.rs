//! Requests and loads against a daemon that is played by hand.

#[allow(dead_code, unreachable_pub)]
mod daemon;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;

use daemon::{Peer, World, change};
use rtm_client::{
    Address, Admin, Connection, Error, GoodbyeReason, ItemFlags, ItemKind, LoadOptions, Revision,
};
use rtm_tables::wire::{DaemonFrame, Done};

fn pair() -> (Connection, Peer) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let address = Address::Unix("pair".into());
    (Connection::from_fd(OwnedFd::from(ours), address).unwrap(), Peer::new(theirs))
}

fn done<'a>(id: u64, code: u32, text: &'a str) -> DaemonFrame<'a> {
    DaemonFrame::Done(Done { id, code, text, revision: Revision(7), ..Done::default() })
}

fn item<'a>(id: u64, kind: ItemKind, body: &'a [u8]) -> DaemonFrame<'a> {
    DaemonFrame::Item { id, kind, flags: ItemFlags::default(), body }
}

#[test]
fn a_request_and_its_answer() {
    let (connection, mut peer) = pair();
    let daemon = thread::spawn(move || {
        peer.send(&World::new(1).welcome());
        peer.expect("HELLO asker");
        peer.expect("REQUEST 1 status");
        peer.frame(&item(1, ItemKind::Text, b"two\nlines"));
        peer.frame(&item(99, ItemKind::Text, b"of another request"));
        peer.frame(&item(1, ItemKind::Json, b"{}"));
        peer.frame(&done(1, 0, ""));
        peer.expect("REQUEST 2 nonsense");
        peer.frame(&done(2, 1, "command: nonsense: unknown"));
        peer.expect("GOODBYE");
    });
    let mut admin = Admin::on(connection, "asker").unwrap();
    assert_eq!(admin.welcome().epoch.0, 1);
    let mut items = Vec::new();
    let answer = admin.request("status", &mut |item| {
        items.push((item.kind, item.text().into_owned()));
        true
    });
    assert_eq!(answer.unwrap().revision, Revision(7));
    assert_eq!(
        items,
        [(ItemKind::Text, "two\nlines".to_owned()), (ItemKind::Json, "{}".to_owned())]
    );
    let answer = admin.request("nonsense", &mut |_| true).unwrap();
    assert_eq!((answer.code, answer.text.as_str()), (1, "command: nonsense: unknown"));
    admin.goodbye();
    daemon.join().unwrap();
}

#[test]
fn an_answer_that_is_not_wanted_is_cancelled() {
    let (connection, mut peer) = pair();
    let daemon = thread::spawn(move || {
        peer.send(&World::new(1).welcome());
        peer.expect("HELLO ");
        peer.expect("REQUEST 1 route show");
        for _ in 0..3 {
            peer.frame(&item(1, ItemKind::Text, b"x"));
        }
        peer.expect("CANCEL 1");
        peer.frame(&done(1, 0, ""));
    });
    let mut admin = Admin::on(connection, "").unwrap();
    let mut seen = 0;
    let answer = admin.request("route show", &mut |_| {
        seen += 1;
        false
    });
    assert_eq!((answer.unwrap().code, seen), (0, 1));
    daemon.join().unwrap();
}

#[test]
fn a_load_streams_without_waiting() {
    const CHANGES: u64 = 20_000;
    let (connection, mut peer) = pair();
    let daemon = thread::spawn(move || {
        peer.send(&World::new(1).welcome());
        peer.expect("HELLO ");
        peer.expect("LOAD 1 5 feed");
        for _ in 0..CHANGES {
            peer.expect("CHANGE");
        }
        peer.expect("LOAD_END 1 false");
        peer.frame(&DaemonFrame::Done(Done { id: 1, applied: CHANGES, ..Done::default() }));
    });
    let mut admin = Admin::on(connection, "").unwrap();
    let options = LoadOptions { atomic: true, force: false, source: Some("feed".into()) };
    let mut load = admin.load(&options);
    let change = change("route replace 10.0.0.0/8 via 192.0.2.1 dev eth0");
    for _ in 0..CHANGES {
        assert!(load.push(&change).unwrap());
    }
    assert_eq!(load.sent(), CHANGES);
    assert_eq!(load.finish(false).unwrap().applied, CHANGES);
    daemon.join().unwrap();
}

/// The daemon stops reading after the first change and says why; the stream
/// must end all the same, however much was meant to be sent.
#[test]
fn a_refused_load_ends_early() {
    let (connection, mut peer) = pair();
    let daemon = thread::spawn(move || {
        peer.send(&World::new(1).welcome());
        peer.expect("HELLO ");
        peer.expect("LOAD 1 0");
        peer.expect("CHANGE");
        peer.frame(&DaemonFrame::Done(Done {
            id: 1,
            code: 2,
            failed: 1,
            position: 1,
            text: "10.0.0.0/8: exists already",
            ..Done::default()
        }));
        while peer.next().is_some_and(|frame| frame != "LOAD_END 1 false") {}
        peer.expect("REQUEST 2 digest");
        peer.frame(&done(2, 0, ""));
    });
    let mut admin = Admin::on(connection, "").unwrap();
    let mut load = admin.load(&LoadOptions::default());
    let change = change("route add 10.0.0.0/8 via 192.0.2.1 dev eth0");
    let mut pushed = 0_u64;
    while load.push(&change).unwrap() {
        pushed += 1;
        assert!(pushed < 100_000_000, "the answer is never seen");
    }
    let answer = load.finish(false).unwrap();
    assert_eq!((answer.code, answer.position), (2, 1));
    assert_eq!(answer.text, "10.0.0.0/8: exists already");
    assert_eq!(admin.request("digest", &mut |_| true).unwrap().code, 0);
    daemon.join().unwrap();
}

/// Both sides have more to write than the sockets hold.
#[test]
fn a_load_whose_refusals_pile_up_does_not_hang() {
    const CHANGES: u64 = 30_000;
    let (connection, mut peer) = pair();
    let daemon = thread::spawn(move || {
        peer.send(&World::new(1).welcome());
        peer.expect("HELLO ");
        peer.expect("LOAD 1 2");
        // Writes without reading, then reads.
        for _ in 0..CHANGES {
            peer.frame(&item(1, ItemKind::Json, br#"{"position":1,"text":"no"}"#));
        }
        while peer.next().is_some_and(|frame| frame != "LOAD_END 1 false") {}
        peer.frame(&done(1, 1, ""));
    });
    let mut admin = Admin::on(connection, "").unwrap();
    let mut load = admin.load(&LoadOptions { force: true, ..LoadOptions::default() });
    let change = change("route add 10.0.0.0/8 via 192.0.2.1 dev eth0");
    for _ in 0..CHANGES {
        load.push(&change).unwrap();
    }
    let answer = load.finish(false).unwrap();
    assert_eq!(answer.refusals.len() as u64, CHANGES);
    daemon.join().unwrap();
}

#[test]
fn a_goodbye_says_why() {
    let (connection, mut peer) = pair();
    let daemon = thread::spawn(move || {
        peer.frame(&DaemonFrame::Goodbye {
            reason: GoodbyeReason::TooMany,
            text: "4096 sessions are there, at most 4096 are possible",
        });
        peer
    });
    let Err(error) = Admin::on(connection, "") else { panic!("it was refused") };
    assert!(matches!(error, Error::Goodbye { reason: GoodbyeReason::TooMany, .. }));
    assert_eq!(error.exit_class() as u8, 2);
    assert!(error.to_string().contains("at most 4096"), "{error}");
    drop(daemon.join().unwrap());
}
