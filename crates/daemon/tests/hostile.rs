//! Clients that mean no good, or can't do better.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rtm_tables::wire::{
    ClientFrame, DaemonFrame, FEATURE_ACK, Frame, GoodbyeReason, Hello, LoadFlags, VERSION,
    VERSION_LOWEST,
};
use rtm_tables::{ClientConfig, ClientSession};
use support::{Client, Patience, Rtmd, many_routes};

fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    ClientFrame::Hello(Hello {
        version: VERSION,
        lowest: VERSION_LOWEST,
        frame_bytes_max: 64 * 1024,
        features: FEATURE_ACK,
        name: "hostile",
    })
    .encode(&mut bytes);
    bytes
}

/// Sends bytes, reads to the end; the goodbye that came.
fn goodbye(rtmd: &Rtmd, bytes: &[u8]) -> Option<(GoodbyeReason, String)> {
    let mut stream = UnixStream::connect(rtmd.socket()).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    // The daemon may have closed before it read all.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}"),
    }
    let mut rest = &answer[..];
    let mut said = None;
    while let Some((frame, length)) = Frame::split(rest, 1 << 20).unwrap() {
        if let Some(DaemonFrame::Goodbye { reason, text }) = DaemonFrame::decode(&frame).unwrap() {
            said = Some((reason, text.to_owned()));
        }
        rest = &rest[length..];
    }
    said
}

#[test]
fn wrong_bytes_end_that_connection_only() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    let mut follower = Client::follower(&rtmd, "follower");
    let mut cases: Vec<(&str, Vec<u8>)> = vec![
        ("text", b"GET / HTTP/1.0\r\n\r\n".to_vec()),
        ("zero length", vec![0; 64]),
        ("huge length", [&0xffff_fff8_u32.to_le_bytes()[..], &[1, 0, 1, 0]].concat()),
        ("odd length", [&13_u32.to_le_bytes()[..], &[1, 0, 1, 0, 0, 0, 0, 0, 0]].concat()),
        ("a request before the hello", {
            let mut bytes = Vec::new();
            ClientFrame::Request { id: 1, line: "status" }.encode(&mut bytes);
            bytes
        }),
        ("noise", (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
    ];
    let behind = |more: &[u8]| [&hello()[..], more].concat();
    cases.push(("a second hello", behind(&hello())));
    cases.push(("an unknown frame that must be understood", {
        behind(&[&16_u32.to_le_bytes()[..], &[0x77, 0, 1, 0], &[0; 8]].concat())
    }));
    cases.push((
        "a frame over the limit",
        behind(&[&(1_u32 << 20).to_le_bytes()[..], &[0x10, 0, 1, 0]].concat()),
    ));
    cases.push(("a change outside a load", {
        let mut bytes = hello();
        ClientFrame::Change(support::change("route add 10/8 dev a")).encode(&mut bytes);
        bytes
    }));
    for (what, bytes) in cases {
        let (reason, text) = goodbye(&rtmd, &bytes).unwrap_or_else(|| panic!("{what}: no goodbye"));
        assert_eq!(reason, GoodbyeReason::Protocol, "{what}: {text}");
        assert!(!text.is_empty(), "{what}");
        admin.must("route replace 10.0.0.0/8 dev a");
    }
    follower.until("the change", |client| client.revision() == 1);
    follower.verify();
    assert!(admin.json("stat")["protocol_errors"].as_u64().unwrap() >= 10);
}

#[test]
fn a_hello_that_never_comes_is_not_waited_for() {
    let rtmd = Rtmd::start_with("[limits]\nhello_timeout_s = 1\n", &[]);
    let whole = hello();
    for bytes in [&[][..], &whole[..5], &whole[..whole.len() - 1]] {
        let (reason, _) = goodbye(&rtmd, bytes).unwrap();
        assert_eq!(reason, GoodbyeReason::HelloTimeout);
    }
    assert_eq!(Client::unix(&rtmd, "admin").json("status")["sessions"], 1);
}

#[test]
fn a_connection_may_end_at_any_byte() {
    let rtmd = Rtmd::start(&[]);
    let mut session = ClientSession::new(ClientConfig::default(), 0);
    session.subscribe(None, "routes -4");
    session.request("route add 10.0.0.0/8 dev a");
    session.load_begin(LoadFlags::ATOMIC, "cut");
    session.change(&support::change("route add 11.0.0.0/8 via 10.1.1.1 dev a"));
    session.load_end(false);
    session.request("route show");
    let bytes = session.output().to_vec();
    let mut admin = Client::unix(&rtmd, "admin");
    for cut in 0..=bytes.len() {
        let mut stream = UnixStream::connect(rtmd.socket()).unwrap();
        stream.write_all(&bytes[..cut]).unwrap();
        if cut % 3 == 0 {
            let mut some = [0; 16];
            stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            let _ = stream.read(&mut some);
        }
        drop(stream);
    }
    // The last of them may not even have been accepted yet.
    let patience = Patience::new();
    let left = |status: serde_json::Value| {
        (status["sessions"].clone(), status["subscribers"].clone(), status["held"].clone())
    };
    while left(admin.json("status")) != (1.into(), 0.into(), false.into()) {
        patience.check("all of them are gone");
    }
    assert_eq!(admin.must("route show").code, 0);
}

#[test]
fn who_never_reads_is_bounded_and_slows_nobody() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    // Some never read their snapshot, some nothing of what comes after.
    let lines: Vec<String> = many_routes(4000).collect();
    admin.load(LoadFlags(0), "", lines[..2000].iter().map(String::as_str));
    let deaf: Vec<Client> = (0..8)
        .map(|n| {
            let mut client = Client::unix(&rtmd, &format!("deaf{n}"));
            client.subscribe("");
            client
        })
        .collect();
    let mut follower = Client::follower(&rtmd, "follower");
    admin.load(LoadFlags(0), "", lines[2000..].iter().map(String::as_str));
    for round in 0..5 {
        let lines = many_routes(2000).map(|line| line.replace("10.255", &format!("10.{round}")));
        let lines: Vec<String> = lines.collect();
        admin.load(LoadFlags(0), "", lines.iter().map(String::as_str));
    }
    let revision = admin.json("status")["revision"].as_u64().unwrap();
    follower.until("everything", |client| client.revision() == revision);
    follower.verify();
    for session in admin.must("client list").json() {
        let bytes = session["own_bytes"].as_u64().unwrap();
        assert!(bytes <= 64 * 1024, "{session}");
    }
    // One that asks and never reads the answers.
    let mut asks = Client::unix(&rtmd, "asks");
    for _ in 0..200 {
        asks.send("route show");
    }
    let patience = Patience::new();
    loop {
        patience.check("answers wait for it");
        let list = admin.must("client list -d").json();
        let Some(session) = list.iter().find(|session| session["name"] == "asks") else { continue };
        assert!(session["own_bytes"].as_u64().unwrap() <= 64 * 1024, "{session}");
        if session["queued_bytes"].as_u64().unwrap() > 16 * 1024 {
            break;
        }
    }
    drop(deaf);
}

#[test]
fn lone_changes_go_to_many_whatever_some_of_them_do() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    admin.must("route add 10.0.0.0/8 dev a");
    let mut followers: Vec<Client> =
        (0..6).map(|n| Client::follower(&rtmd, &format!("follower{n}"))).collect();
    let mut filtered = Client::unix(&rtmd, "filtered");
    filtered.subscribe("root 10.1.0.0/16");
    filtered.until("live", |client| client.live);
    let mut deaf = Client::follower(&rtmd, "deaf");
    let mut leaves: Vec<Client> =
        (0..3).map(|n| Client::follower(&rtmd, &format!("leaves{n}"))).collect();
    // More than the deaf one's socket holds, each a turn of its own.
    for n in 0..2000_u32 {
        let change = if n % 3 == 2 { "del" } else { "replace" };
        let network = n % 3;
        admin.ask(&format!("route {change} 10.{network}.{}.0/24 dev a{}", n % 250, n % 7));
        if n % 500 == 100 {
            leaves.pop();
        }
    }
    let revision = admin.json("status")["revision"].as_u64().unwrap();
    let list = admin.must("client list -d").json();
    let waiting = list.iter().find(|session| session["name"] == "deaf").unwrap();
    assert!(waiting["lag_records"].as_u64().unwrap() > 0, "its socket took all: {waiting}");
    deaf.until("what it left", |client| client.revision() == revision);
    for follower in followers.iter_mut().chain([&mut deaf]) {
        follower.until("everything", |client| client.revision() == revision);
        follower.verify();
        assert_eq!((follower.differed, follower.closed), (0, false));
    }
    filtered.until("its part", |client| client.revision() == revision);
    filtered.verify();
    assert!(filtered.routes() > 0);
    // Where the kernel lets the daemon, that went the way of lone changes.
    let rows = admin.must("status -d").json();
    match rows.iter().find(|row| row["kind"] == "sends") {
        Some(row) => assert!(row["bytes_out"].as_u64().unwrap() > 0, "{row}"),
        None => assert!(ipc::sends::Sends::new(1).is_err(), "it has none: {rows:#?}"),
    }
}

#[test]
fn descriptors_are_never_taken() {
    let rtmd = Rtmd::start(&[]);
    let mut admin = Client::unix(&rtmd, "admin");
    admin.must("route add 10.0.0.0/8 dev a");
    let count = || std::fs::read_dir(format!("/proc/{}/fd", rtmd.pid())).unwrap().count();
    let before = count();
    let file = std::fs::File::open("/proc/self/status").unwrap();
    let stream = UnixStream::connect(rtmd.socket()).unwrap();
    let hello = hello();
    // Where the kernel can, they don't even leave: a descriptor whose last close
    // waits (a TCP socket that lingers) would be the daemon's to close.
    let (end, _other) = ipc::unix::pair(ipc::unix::Kind::Stream).unwrap();
    let refuses = ipc::descriptors::refuse(&end).unwrap();
    for part in hello.chunks(16) {
        let sent = ipc::descriptors::send(&stream, part, &[file.as_fd(), file.as_fd()]);
        if refuses {
            assert_eq!(sent.unwrap_err().errno(), ipc::Errno::PERM);
            (&stream).write_all(part).unwrap();
        } else {
            sent.unwrap();
        }
    }
    let mut welcome = [0; 256];
    assert!((&stream).read(&mut welcome).unwrap() > 0);
    assert_eq!(count(), before + 2, "the connection and its process, nothing that came over it");
}

#[test]
fn a_half_closed_connection_gets_its_answer() {
    let rtmd = Rtmd::start(&[]);
    let mut stream = UnixStream::connect(rtmd.socket()).unwrap();
    let mut bytes = hello();
    ClientFrame::Request { id: 7, line: "route add 10.0.0.0/8 dev a" }.encode(&mut bytes);
    ClientFrame::Request { id: 8, line: "route show" }.encode(&mut bytes);
    stream.write_all(&bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let mut rest = &answer[..];
    let mut done = Vec::new();
    while let Some((frame, length)) = Frame::split(rest, 1 << 20).unwrap() {
        if let Some(DaemonFrame::Done(end)) = DaemonFrame::decode(&frame).unwrap() {
            done.push((end.id, end.code));
        }
        rest = &rest[length..];
    }
    assert_eq!(done, [(7, 0), (8, 0)]);
}
