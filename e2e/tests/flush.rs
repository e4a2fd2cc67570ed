//! The flush that is announced by a signal: registered clients, by armed pipe and
//! by pid; and pids that are not what they say.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rtm_client::{Event, FlushSignal, FollowConfig, Follower, SignalWay};
use rtm_e2e::process::PATIENCE;
use rtm_e2e::{Daemon, Process};
use rtm_tables::wire::{ClientFrame, DaemonFrame, Frame, Hello, Subscribe, SubscribeMode};
use rtm_tables::{Epoch, Revision};

const ZERO: &str = "00000000000000000000000000000000";

#[test]
fn each_of_64_clients_is_signalled_and_empty_at_the_flush() {
    let daemon = Daemon::start(&[]);
    let routes: String = (0..500).map(|n| format!("10.1.{}.{}/32\n", n / 250, n % 250)).collect();
    let file = daemon.directory().join("routes.txt");
    std::fs::write(&file, routes).unwrap();
    daemon.rtm(&["route", "load", file.to_str().unwrap(), "--via", "10.9.9.9", "--dev", "e"]);
    daemon.rtm(&["neigh", "add", "10.9.9.9", "lladdr", "02:00:00:00:00:01", "dev", "e"]);
    let clients: Vec<Process> = (0..64)
        .map(|n| daemon.spawn(&["client", "--count", "--verify", "--name", &format!("c{n}")]))
        .collect();
    for client in &clients {
        client.wait_stderr(&format!("registered: pid {}, pipe", client.pid()));
    }
    let list = daemon.json(&["client", "list"]);
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 64);
    for client in list {
        assert_eq!(
            (&client["signal"], &client["registered_pid"]),
            (&"pipe".into(), &client["pid"])
        );
    }
    let revision = daemon.json(&["flush", "all"])["revision"].as_u64().unwrap();
    daemon.rtm(&["sync", "--timeout", "60"]);
    for client in &daemon.json(&["client", "list"]).as_array().unwrap()[..] {
        assert_eq!(client["signals_sent"], 1);
    }
    for client in clients {
        client.wait_stderr(&format!("flushed: revision {revision}\n"));
        client.signal(15);
        let output = client.finish();
        assert_eq!(output.code, Some(0), "{}", output.err);
        assert!(
            output.out.contains(" flushes 1 ") && output.out.contains(" signals 1\n"),
            "{}",
            output.out
        );
        let digest = output.out.lines().last().unwrap();
        let words: Vec<&str> = digest.split(' ').collect();
        // A link that nobody uses any more goes with a revision of its own.
        assert!(words[1].parse::<u64>().unwrap() >= revision, "{digest}");
        assert_eq!(words[2..5], [ZERO; 3], "{digest}");
    }
    let start = Instant::now();
    while daemon.json(&["client", "list"]) != serde_json::json!([]) {
        assert!(start.elapsed() < PATIENCE, "sessions and pids are gone with their clients");
    }
}

/// A raw connection that greets, follows, and waits for its END.
fn raw(daemon: &Daemon) -> UnixStream {
    let mut stream = UnixStream::connect(daemon.directory().join("rtm.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    let hello = Hello { version: 1, lowest: 1, frame_bytes_max: 65536, features: 0, name: "raw" };
    ClientFrame::Hello(hello).encode(&mut bytes);
    ClientFrame::Subscribe(Subscribe {
        epoch: Epoch(0),
        revision: Revision(0),
        mode: SubscribeMode::Full,
        filter: "",
    })
    .encode(&mut bytes);
    stream.write_all(&bytes).unwrap();
    stream
}

/// Registers a pid; gives the answer.
fn register(stream: &mut UnixStream, pid: u32) -> (SignalWay, String) {
    let mut bytes = Vec::new();
    ClientFrame::Register { pid }.encode(&mut bytes);
    stream.write_all(&bytes).unwrap();
    let mut received = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "it ended the session");
        received.extend_from_slice(&buffer[..count]);
        while let Ok(Some((frame, length))) = Frame::split(&received, 65536) {
            if let Ok(Some(DaemonFrame::Registered { way, text })) = DaemonFrame::decode(&frame) {
                return (way, text.to_owned());
            }
            received.drain(..length);
        }
    }
}

/// A process that says when it is signalled.
fn victim(uid: u32) -> Process {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new("sh");
    command.args(["-c", "trap 'echo stray' USR1; echo there; while :; do sleep 0.1; done"]);
    command.uid(uid).gid(uid);
    let process = Process::spawn(command);
    process.wait_stdout("there");
    process
}

#[test]
fn a_pid_that_is_not_the_peers_is_refused() {
    if !rtm_e2e::require::root("a_pid_that_is_not_the_peers_is_refused") {
        return;
    }
    let daemon = Daemon::start(&[]);
    let (mine, others) = (victim(0), victim(4242));
    let mut stream = raw(&daemon);
    let own = std::process::id();
    let forged = [1, 0, u32::MAX, own ^ 1, mine.pid(), others.pid(), daemon.process.pid()];
    for pid in forged {
        let (way, text) = register(&mut stream, pid);
        assert_eq!(way, SignalWay::Refused, "pid {pid}");
        assert!(
            text.contains("not this connection's process; its own pid would be right"),
            "{text}"
        );
    }
    assert_eq!(daemon.json(&["status"])["registrations_refused"], forged.len());
    let list = daemon.json(&["client", "list"]);
    assert_eq!(list[0]["signal"], serde_json::Value::Null);
    daemon.rtm(&["flush", "all"]);
    daemon.rtm(&["flush", "all"]);
    // Whoever was to be hit would have been by then.
    std::thread::sleep(Duration::from_millis(300));
    for victim in [&mine, &others] {
        assert_eq!(victim.stdout(), "there\n");
    }
    assert!(daemon.rtm(&["status"]).contains("revision: 2"), "it lives");
}

/// One test for all that this process is signalled with: counts are its own.
#[test]
fn a_plain_client_is_signalled_by_pid_and_says_goodbye() {
    let daemon = Daemon::start(&[]);
    daemon.rtm(&["route", "add", "10/8", "dev", "e"]);
    let address = rtm_client::Address::Unix(daemon.directory().join("rtm.sock"));
    let config = FollowConfig {
        name: "plain".into(),
        signal: FlushSignal::Process,
        clear_when_lost: true,
        ..FollowConfig::default()
    };
    let mut follower = Follower::connect(&address, config).unwrap();
    let mut way = None;
    let start = Instant::now();
    while way.is_none() {
        assert!(start.elapsed() < PATIENCE);
        follower
            .turn(Some(Duration::from_millis(100)), &[], &mut |event| {
                if let Event::Registered { way: said, .. } = event {
                    way = Some(said);
                }
            })
            .unwrap();
    }
    assert_eq!(way, Some(SignalWay::Process));
    assert_eq!(daemon.json(&["client", "list"])[0]["signal"], "pid");
    assert_eq!(follower.flush_signals(), 0);
    // The signal comes while the stream's record hasn't been read: what the copy
    // holds is old, and stays so until the record; then nothing comes back.
    daemon.rtm(&["flush", "routes"]);
    while follower.flush_signals() == 0 {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(follower.replica().unwrap().store().counts().routes4, 1);
    // Signals that merge lose nothing.
    for _ in 0..5 {
        daemon.rtm(&["route", "add", "11/8", "dev", "e"]);
        daemon.rtm(&["flush", "all"]);
    }
    daemon.rtm(&["route", "add", "12/8", "dev", "e"]);
    let last = daemon.json(&["status"])["revision"].as_u64().unwrap();
    while follower.position().is_none_or(|(_, revision)| revision.0 < last) {
        assert!(start.elapsed() < PATIENCE, "{follower:?}");
        follower.turn(Some(Duration::from_millis(100)), &[], &mut |_| ()).unwrap();
    }
    assert_eq!(follower.replica().unwrap().store().counts().routes4, 1);
    assert!(follower.flush_signals() >= 1);
    assert_eq!(follower.counts().flushes, 6);
    follower.goodbye();
    assert!(follower.replica().is_none(), "its tables are cleared");
    while daemon.json(&["client", "list"]) != serde_json::json!([]) {
        assert!(start.elapsed() < PATIENCE);
    }
    let before = follower.flush_signals();
    daemon.rtm(&["flush", "all"]);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(follower.flush_signals(), before, "nobody is signalled after the goodbye");
}

#[test]
fn a_dead_client_is_gone_at_once_also_while_a_child_holds_its_socket() {
    let daemon = Daemon::start(&[]);
    let client = daemon.spawn(&["client", "--name", "dies"]);
    client.wait_stderr("registered: ");
    drop(client); // killed
    let start = Instant::now();
    while daemon.json(&["client", "list"]) != serde_json::json!([]) {
        assert!(start.elapsed() < PATIENCE);
    }
    daemon.rtm(&["flush", "all"]);
}

#[test]
fn a_flush_during_a_load_is_one_revision_and_what_comes_after_it_stands() {
    let daemon = Daemon::start(&[]);
    let clients: Vec<Process> =
        (0..8).map(|n| daemon.spawn(&["client", "--verify", "--name", &format!("c{n}")])).collect();
    for client in &clients {
        client.wait_stderr("registered: ");
    }
    let file = daemon.directory().join("routes.txt");
    let routes: String = (0..120_000u32)
        .map(|n| format!("10.{}.{}.{}/32\n", n >> 16 & 255, n >> 8 & 255, n & 255))
        .collect();
    std::fs::write(&file, routes).unwrap();
    let load = daemon.spawn(&[
        "-j",
        "route",
        "load",
        file.to_str().unwrap(),
        "--via",
        "10.9.9.9",
        "--dev",
        "e",
    ]);
    while daemon.json(&["status"])["routes_v4"].as_u64() < Some(5_000) {}
    let flushed = daemon.json(&["flush", "all"]);
    let gone = flushed["deleted"].as_u64().unwrap();
    let output = load.finish();
    assert_eq!(output.code, Some(0), "{}", output.err);
    daemon.rtm(&["sync", "--timeout", "100"]);
    let left = daemon.json(&["status"])["routes_v4"].as_u64().unwrap();
    assert!(gone >= 5_000, "{flushed}");
    assert_eq!(left + gone, 120_000, "{flushed}: what the load brought after the flush stands");
    let digest = daemon.rtm(&["digest"]);
    for client in clients {
        client.wait_stderr(&format!("flushed: revision {}\n", flushed["revision"]));
        client.signal(15);
        let output = client.finish();
        assert_eq!((output.code, &output.out), (Some(0), &digest), "{}", output.err);
    }
}
