//! `rtm status -d`: every descriptor of the daemon, by kind, with what it counted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rtm_e2e::process::PATIENCE;
use rtm_e2e::{Daemon, Namespace, Process, raw};
use serde_json::Value;

/// Descriptors by kind and name.
fn listed(daemon: &Daemon) -> Vec<Value> {
    let status = daemon.json(&["status", "-d"]);
    status["descriptors"].as_array().unwrap_or_else(|| panic!("{status}")).clone()
}

fn of<'a>(rows: &'a [Value], kind: &str, name: &str) -> &'a Value {
    rows.iter()
        .find(|row| row["kind"] == kind && row["name"].as_str().unwrap().contains(name))
        .unwrap_or_else(|| panic!("no {kind} {name}: {rows:#?}"))
}

fn count(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap_or_else(|| panic!("{key}: {row}"))
}

#[test]
fn every_kind_is_listed_with_what_it_counted() {
    if !rtm_e2e::require::root("every_kind_is_listed_with_what_it_counted") {
        return;
    }
    let namespace = Namespace::new();
    let mut daemon = Daemon::start_within(
        &namespace,
        "[listen]\ntcp = \"tcp://127.0.0.1:0\"\n[export]\ntable = 100\n",
        &["--console", "--kernel", "--fpm=127.0.0.1:0"],
    );
    daemon.process.write("route add 10.1.0.0/16 dev e\n");
    daemon.rtm(&["wait", "route", "exact", "10.1.0.0/16", "--timeout", "60"]);
    daemon.rtm(&["mq", "send", "route add 10.2.0.0/16 dev e"]);
    let line = "route add 10.3.0.0/16 dev e\n";
    std::fs::write(daemon.directory().join("commands"), line).unwrap();
    daemon.rtm(&["wait", "route", "exact", "10.3.0.0/16", "--timeout", "60"]);
    let status = daemon.json(&["status"]);
    let tcp = status["tcp"].as_str().unwrap().to_owned();
    let mut follower = namespace.command(rtm_e2e::binary("rtm"));
    follower.args(["--socket", &tcp, "client", "--name", "far"]);
    let follower = Process::spawn(follower);
    follower.wait_stderr("live: ");
    let armed = daemon.spawn(&["client", "--name", "armed"]);
    armed.wait_stderr("registered: ");
    let mapped = daemon.spawn(&["client", "--mapped", "--name", "mapped"]);
    mapped.wait_stderr("attached: ");
    // Each answers: what it said at first may have been read when it was let in.
    daemon.rtm(&["sync", "--timeout", "60"]);
    let _classic = UnixStream::connect(daemon.directory().join("classic.sock")).unwrap();
    let fpm = status["fpm"].as_str().unwrap().to_owned();
    // (A thread: entering a namespace is for all that it does.)
    let name = namespace.name().to_owned();
    let _zebra = std::thread::spawn(move || {
        let file = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), kind).unwrap();
        TcpStream::connect(fpm).unwrap()
    })
    .join()
    .unwrap();
    daemon.process.signal(libc::SIGHUP);
    daemon.process.wait_stderr("reloaded: ");
    namespace.ip("route add 192.0.2.0/24 dev lo");
    daemon.rtm(&["wait", "route", "exact", "192.0.2.0/24", "--timeout", "60"]);
    daemon.rtm(&["flush", "neighbours"]);
    let start = Instant::now();
    let rows = loop {
        let rows = listed(&daemon);
        let there = |kind: &str| rows.iter().any(|row| row["kind"] == kind);
        // The zebra is let in, and time has passed, some turns later.
        if there("fpm") && count(of(&rows, "timer", ""), "wakeups") > 0 {
            break rows;
        }
        assert!(start.elapsed() < PATIENCE, "{rows:#?}");
        std::thread::sleep(Duration::from_millis(10));
    };
    for (kind, name) in [
        ("epoll", ""),
        ("timer", ""),
        ("image", ""),
        ("reserve", ""),
        ("file", "rtmd.lock"),
        ("listener", "unix "),
        ("listener", "tcp "),
        ("listener", "classic "),
        ("listener", "fpm "),
        ("client", "tcp far"),
        ("client", "classic"),
        ("fpm", "fpm:127.0.0.1"),
        ("netlink", "kernel: listings"),
        ("netlink", "export: events"),
        ("netlink", "export: listings"),
        ("event", "export: its thread"),
        ("event", "kernel: its thread"),
    ] {
        let _ = of(&rows, kind, name);
    }
    // What each was given is what it counted.
    assert_eq!(count(of(&rows, "fifo", "commands"), "bytes_in"), line.len() as u64 - 1);
    assert_eq!(count(of(&rows, "queue", "/rtm-"), "bytes_in"), 27);
    assert_eq!(count(of(&rows, "console", ""), "bytes_in"), 28);
    assert_eq!(count(of(&rows, "signal", ""), "bytes_in"), 128);
    for (kind, name) in [
        ("fifo", ""),
        ("queue", ""),
        ("console", ""),
        ("signal", ""),
        ("netlink", "kernel: events"),
        ("client", "tcp far"),
        ("client", "unix armed"),
        ("client", "unix mapped"),
        ("listener", "unix "),
        ("listener", "tcp "),
        ("listener", "classic "),
        ("listener", "fpm "),
    ] {
        assert!(count(of(&rows, kind, name), "wakeups") > 0, "{kind} {name}: {rows:#?}");
    }
    for name in ["tcp far", "unix armed"] {
        let row = of(&rows, "client", name);
        assert!(count(row, "bytes_in") > 0 && count(row, "bytes_out") > 0, "{row}");
        assert_eq!(count(row, "overruns"), 0);
    }
    assert!(count(of(&rows, "netlink", "kernel: events"), "bytes_in") > 0);
    // Each client's pipes and process stand with it.
    let session = &of(&rows, "client", "unix armed")["session"];
    let own: BTreeMap<&str, &Value> = rows
        .iter()
        .filter(|row| &row["session"] == session)
        .map(|row| (row["kind"].as_str().unwrap(), row))
        .collect();
    assert_eq!(own.keys().copied().collect::<Vec<_>>(), ["client", "process", "signal-pipe"]);
    assert_eq!(count(own["signal-pipe"], "bytes_out"), 1, "the flush's");
    assert!(own.values().all(|row| row["pid"] == armed.pid()), "{own:#?}");
    let session = &of(&rows, "client", "unix mapped")["session"];
    let pipe = rows.iter().find(|row| row["kind"] == "image-pipe").unwrap();
    assert_eq!(&pipe["session"], session, "{pipe}");
    assert!(count(pipe, "bytes_out") > 0, "{pipe}");

    // No descriptor of the process is missing, none is there twice.
    let told: Vec<u64> = rows.iter().filter_map(|row| row["fd"].as_u64()).collect();
    let set: BTreeSet<u64> = told.iter().copied().collect();
    assert_eq!(set.len(), told.len(), "{rows:#?}");
    let pid = daemon.json(&["status"])["pid"].as_u64().unwrap();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let fd: u64 = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
        assert!(set.contains(&fd), "descriptor {fd} is not listed: {rows:#?}");
    }
    // The console lists who registered, with the pid and the way.
    daemon.process.write("9\n");
    let shown = daemon.process.wait_stdout("SIGPID SIGNAL");
    let line = |text: &str| text.lines().find(|line| line.starts_with("armed")).map(str::to_owned);
    let begun = Instant::now();
    let mut found = line(&shown);
    while found.is_none() {
        assert!(begun.elapsed() < PATIENCE, "{shown}");
        found = line(&daemon.process.stdout());
    }
    let expected = format!(" {} pipe", armed.pid());
    assert!(found.as_ref().is_some_and(|line| line.ends_with(&expected)), "{found:?}");
    // For people: a table.
    let text = daemon.rtm(&["status", "-d"]);
    let table = text.split("descriptors:\n").nth(1).unwrap_or_else(|| panic!("{text}"));
    assert!(table.starts_with("KIND"), "{table}");
    assert!(table.contains("WAKE-UPS  BYTES-IN  BYTES-OUT  OVERRUNS  TURNS"), "{table}");
    assert!(text.contains("  stages:\n"), "time per stage: {text}");
    assert!(!daemon.rtm(&["status"]).contains("descriptors"));
}

#[test]
fn a_thousand_clients_are_all_in_it() {
    const CLIENTS: usize = 1000;
    let limit = ipc::process::raise_open_files().unwrap();
    assert!(limit.now > 2 * CLIENTS as u64, "too few descriptors for this test: {limit:?}");
    let daemon = Daemon::start(&[]);
    let mut clients: Vec<raw::Client> =
        (0..CLIENTS).map(|_| raw::Client::follow(daemon.directory(), "one of many")).collect();
    // Each is welcome by then.
    for client in &mut clients {
        client.stream.read_exact(&mut [0; 8]).unwrap();
    }
    let greeting = raw::greeting("one of many").len() as u64;
    let memory = || daemon.json(&["status"])["resident_bytes"].as_u64().unwrap();
    let before = memory();
    for _ in 0..3 {
        let rows = listed(&daemon);
        let many: Vec<&Value> =
            rows.iter().filter(|row| row["name"] == "unix one of many").collect();
        let sessions: BTreeSet<u64> = many.iter().map(|row| count(row, "session")).collect();
        assert_eq!((many.len(), sessions.len()), (CLIENTS, CLIENTS));
        assert!(many.iter().all(|row| count(row, "bytes_in") == greeting));
        let processes = rows.iter().filter(|row| row["kind"] == "process").count();
        assert!(processes >= CLIENTS, "each is known from its accept on: {processes}");
    }
    let more = memory().saturating_sub(before);
    // (A huge page or two come as they like.)
    assert!(more < 8 << 20, "a place is held, no copy of the list: {more} bytes more");
}
