//! The image that the daemon writes, read by its descriptor and by its name.

mod support;

use std::os::fd::OwnedFd;
use std::time::Duration;

use rtm_image::{Reader, WriterState};
use rtm_model::{RouteType, TABLE_MAIN};
use rtm_tables::wire::records::Records;
use rtm_tables::wire::{DescriptorKind, Frame, LoadFlags, frame_type};
use support::taker::Taker;
use support::{Client, Patience, Rtmd, many_routes};

fn image(rtmd: &Rtmd) -> Reader {
    let fd: OwnedFd = Taker::new(rtmd, "reader").want(DescriptorKind::Image).unwrap();
    Reader::attach(fd).unwrap()
}

/// The image again if it moved: as a client does.
fn current(rtmd: &Rtmd, reader: Reader) -> Reader {
    if reader.writer_moved() { image(rtmd) } else { reader }
}

#[test]
fn what_was_acknowledged_is_in_it() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    let reader = image(&rtmd);
    assert_eq!(reader.writer().unwrap(), WriterState::Live);
    assert_eq!(reader.state().unwrap().revision, 0);
    for number in 0..200 {
        admin.must(&format!("route replace 10.{number}.0.0/16 via 192.0.2.1 dev e metric 7"));
        // The answer came behind the publication.
        let answer = reader.lookup4(format!("10.{number}.3.4").parse().unwrap()).unwrap();
        assert_eq!(answer.unwrap().kind(), RouteType::Unicast);
        assert_eq!(reader.state().unwrap().revision, number + 1);
    }
    admin.must("neigh replace 10.0.0.1 lladdr 02:00:00:00:00:01 dev e");
    let mac = "02:00:00:00:00:01".parse().unwrap();
    assert_eq!(reader.neighbours_by_mac(mac).unwrap().len(), 1);
    // Its digests are the daemon's.
    let digest = admin.json("digest");
    let state = reader.state().unwrap();
    assert_eq!(digest["routes"], format!("{:032x}", state.digests.routes.0));
    assert_eq!(digest["neighbours"], format!("{:032x}", state.digests.neighbours.0));
    assert_eq!(digest["epoch"], format!("{:016x}", state.epoch));
    admin.must("flush all");
    assert_eq!(reader.lookup4("10.3.3.4".parse().unwrap()).unwrap(), None);
    assert_eq!(reader.state().unwrap().neighbours, 0);
    let status = admin.json("status image");
    // What no longer has a user is swept behind the flush.
    assert!(status["revision"].as_u64().unwrap() >= 202);
    assert_eq!(status["failed"], serde_json::Value::Null);
}

/// Atomic and plain loads, and growth under a reader.
#[test]
fn it_grows_and_names_its_successor() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    let first = image(&rtmd);
    let first_id = first.header().id;
    assert_eq!(first.header().bytes, 8 << 20);
    admin.must("route replace 192.0.2.0/24 dev e");
    let many: Vec<String> = many_routes(200_000).collect();
    let done = admin.load(LoadFlags::ATOMIC, "", many.iter().map(String::as_str));
    assert_eq!((done.code, done.failed), (0, 0));
    let second = current(&rtmd, first.clone());
    assert_ne!(second.header().id, first_id);
    assert!(second.header().bytes > 8 << 20);
    // The old one keeps its last revision and says so.
    assert!(matches!(first.writer().unwrap(), WriterState::Moved { .. }));
    assert_eq!(first.state().unwrap().revision, 1);
    assert!(first.lookup4("192.0.2.9".parse().unwrap()).unwrap().is_some());
    let state = second.state().unwrap();
    assert_eq!((state.revision, state.routes[0]), (2, 200_001));
    let digest = admin.json("digest");
    assert_eq!(digest["routes"], format!("{:032x}", state.digests.routes.0));
    // A plain one over it, while the reader looks on: it never sees less.
    let done = admin.load(LoadFlags::default(), "", many.iter().map(String::as_str));
    assert_eq!((done.code, done.unchanged), (0, 200_000));
    assert!(second.route_count() >= 200_001);
}

/// Nobody had it while much changed, so it is behind; who gets it sees everything
/// that was acknowledged, and from then on as soon as it is.
#[test]
fn who_asks_late_gets_all_that_was_acknowledged() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    let many: Vec<String> = many_routes(100_000).collect();
    let done = admin.load(LoadFlags::default(), "", many.iter().map(String::as_str));
    assert_eq!((done.code, done.applied), (0, 100_000));
    let reader = image(&rtmd);
    let state = reader.state().unwrap();
    assert_eq!((state.routes[0], state.revision), (100_000, done.revision));
    let digest = admin.json("digest");
    assert_eq!(digest["routes"], format!("{:032x}", state.digests.routes.0));
    assert_eq!(admin.json("status")["image_behind"], 0);
    // Large turns don't leave it behind any more.
    for round in 0..4 {
        let lines = many.iter().take(20_000).map(|line| format!("{line} metric {round}"));
        let lines: Vec<String> = lines.collect();
        let done = admin.load(LoadFlags::default(), "", lines.iter().map(String::as_str));
        let reader = current(&rtmd, reader.clone());
        assert!(reader.state().unwrap().revision >= done.revision);
    }
}

trait Count {
    fn route_count(&self) -> u64;
}

impl Count for Reader {
    fn route_count(&self) -> u64 {
        self.state().unwrap().routes[0]
    }
}

/// Frames in the ring come behind the revision that they are of.
#[test]
fn the_ring_is_never_ahead_of_the_image() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    let reader = image(&rtmd);
    let mut ring = reader.ring();
    let mut frames = Vec::new();
    let mut newest = 0;
    let mut waited = 0;
    let id = admin.load_begin(LoadFlags::default(), "");
    for line in many_routes(3000) {
        admin.load_line(&line);
    }
    admin.load_end(false);
    let patience = Patience::new();
    let mut records = 0;
    while newest < 3000 {
        patience.check("all records");
        frames.clear();
        if ring.read(&mut frames).unwrap() == 0 {
            waited += 1;
            ring.wait(Duration::from_secs(1)).unwrap();
            continue;
        }
        let shown = reader.state().unwrap().revision;
        let mut rest = &frames[..];
        while let Some((frame, length)) = Frame::split(rest, 1 << 20).unwrap() {
            assert!(frame.frame_type >= frame_type::SET, "{:#x}", frame.frame_type);
            rest = &rest[length..];
        }
        for record in Records::new(&frames, 1 << 20).unwrap() {
            assert!(record.revision.0 <= shown);
            newest = record.revision.0;
            records += 1;
        }
    }
    assert!(records > 3000 && waited > 0);
    assert_eq!(admin.answer(id).code, 0);
    // A large load isn't in the ring: it says that the tables are to be read.
    let many: Vec<String> = many_routes(5000).collect();
    admin.load(LoadFlags::ATOMIC, "", many.iter().map(String::as_str));
    frames.clear();
    ring.read(&mut frames).unwrap();
    let (frame, length) = Frame::split(&frames, 1 << 20).unwrap().unwrap();
    assert_eq!(frame.frame_type, frame_type::BEGIN);
    let (frame, _) = Frame::split(&frames[length..], 1 << 20).unwrap().unwrap();
    assert_eq!(frame.frame_type, frame_type::END);
}

#[test]
fn a_full_image_refuses_changes_and_takes_deletes() {
    let rtmd = Rtmd::start_with(
        "[limits]\nimage_bytes_max = \"8 MiB\"\nimage_ring_bytes = \"1 MiB\"\n",
        &[],
    );
    let mut admin = Client::unix(&rtmd, "admin");
    let mut follower = Client::follower(&rtmd, "follower");
    let reader = image(&rtmd);
    let many: Vec<String> = many_routes(300_000).collect();
    let done = admin.load(LoadFlags::default(), "", many.iter().map(String::as_str));
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.text.contains("limits.image_bytes_max"), "{}", done.text);
    let applied = done.applied;
    assert!(applied > 10_000, "{applied}");
    // Each refused change is counted once, also where many came together.
    assert_eq!(admin.json("status image")["refused"], done.failed);
    // Nowhere half applied: table, image and stream say the same.
    let state = reader.state().unwrap();
    assert_eq!(state.routes[0], applied);
    assert_eq!(admin.json("status")["routes_v4"], applied);
    follower.until("the same", |client| client.routes() as u64 == applied);
    follower.verify();
    // A load is refused by the batch, so a single change may still find room, until none does.
    let mut filled = 0;
    let error = loop {
        let net = format!("203.{}.{}.0/24", filled / 256, filled % 256);
        let answer = admin.ask(&format!("route add {net} dev e"));
        if answer.code != 0 {
            assert!(answer.text.contains(&net), "{}", answer.text);
            break answer;
        }
        filled += 1;
        assert!(filled < 1 << 16, "no end of room");
    };
    assert_eq!(error.code, 2);
    assert!(error.text.contains("no room in the image"), "{}", error.text);
    let done = admin.load(LoadFlags::ATOMIC, "", many.iter().map(String::as_str));
    assert_eq!((done.code, done.applied), (2, 0), "{}", done.text);
    // Deleting works, and makes room.
    for line in many.iter().take(applied as usize / 2) {
        let prefix = line.split(' ').nth(2).unwrap();
        admin.must(&format!("route del {prefix}"));
    }
    admin.must("route add 198.51.100.0/24 dev e");
    let state = reader.state().unwrap();
    assert_eq!(state.routes[0], applied + filled - applied / 2 + 1);
    assert!(admin.json("status image")["refused"].as_u64().unwrap() >= 3);
    admin.must("flush all");
    assert_eq!(reader.state().unwrap().routes[0], 0);
    admin.must("route add 198.51.100.0/24 dev e");
}

#[test]
fn readers_can_tell_how_the_daemon_ended() {
    let mut rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    admin.must("route add 10.0.0.0/8 dev e");
    let reader = image(&rtmd);
    rtmd.signal(libc::SIGTERM);
    assert!(rtmd.finish().success());
    assert_eq!(reader.writer().unwrap(), WriterState::Closed);
    assert!(reader.lookup4("10.1.2.3".parse().unwrap()).unwrap().is_some());

    let mut rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    admin.must("route add 10.0.0.0/8 dev e");
    let reader = image(&rtmd);
    rtmd.signal(libc::SIGKILL);
    let _ = rtmd.finish();
    assert_eq!(reader.writer().unwrap(), WriterState::Gone);
    let route = reader.lookup_route(TABLE_MAIN, "10.1.2.3".parse().unwrap()).unwrap().unwrap();
    assert_eq!(route.key.prefix.to_string(), "10.0.0.0/8");
}

#[test]
fn the_published_name_follows_growth_and_goes_at_the_end() {
    let mut rtmd = Rtmd::start(&["--publish-name"]);
    let mut admin = Client::unix(&rtmd, "admin");
    let status = admin.json("status image");
    let name = status["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("/rtm-") && name.ends_with("-image"), "{name}");
    let path = format!("/dev/shm{name}");
    let open = || Reader::attach(rtm_image::open_name(&name).unwrap()).unwrap();
    let first = open();
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o7777, 0o444);
    let many: Vec<String> = many_routes(150_000).collect();
    admin.load(LoadFlags::default(), "", many.iter().map(String::as_str));
    assert!(first.writer_moved());
    let second = open();
    assert_eq!(second.state().unwrap().routes[0], 150_000);
    assert_eq!(second.state().unwrap().digests, image(&rtmd).state().unwrap().digests);
    // A killed daemon leaves the name; the next one in the directory, which
    // publishes none, takes it away.
    rtmd.signal(libc::SIGKILL);
    let _ = rtmd.finish();
    assert_eq!(second.writer().unwrap(), WriterState::Gone);
    assert!(std::fs::exists(&path).unwrap());
    let directory = rtmd.take_temp();
    let mut next = Rtmd::spawn(support::command(directory.path()), directory.path());
    assert!(!std::fs::exists(&path).unwrap());
    next.signal(libc::SIGTERM);
    assert!(next.finish().success());
    let mut command = support::command(directory.path());
    command.arg("--publish-name");
    let mut third = Rtmd::spawn(command, directory.path());
    assert!(std::fs::exists(&path).unwrap());
    third.signal(libc::SIGTERM);
    assert!(third.finish().success());
    assert!(!std::fs::exists(&path).unwrap());
}
