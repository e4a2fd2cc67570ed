//! The main job on the real table: a million routes to every kind of client,
//! the real update trace, one client stopped in mid-snapshot, one killed, one
//! cut off and resumed; every copy's digests recomputed from scratch.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rtm_e2e::process::PATIENCE;
use rtm_e2e::{Daemon, Process, data, require};

const ROUTES: u64 = 1_062_046;

/// A TCP port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One session of `rtm -j client list`, by name.
fn session(daemon: &Daemon, name: &str) -> Option<serde_json::Value> {
    let list = daemon.json(&["client", "list"]);
    list.as_array().expect("an array").iter().find(|session| session["name"] == name).cloned()
}

/// Waits until a session's state is `state`.
fn wait_state(daemon: &Daemon, name: &str, state: &str) -> serde_json::Value {
    let start = Instant::now();
    loop {
        let session = session(daemon, name);
        match session {
            Some(session) if session["state"] == state => return session,
            other => assert!(start.elapsed() < PATIENCE, "{name} is not {state}: {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Carries TCP connections to `target` until they are cut.
struct Relay {
    port: u16,
    open: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    fn start(target: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (open, streams) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
        let (gate, kept) = (Arc::clone(&open), Arc::clone(&streams));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if !gate.load(Ordering::SeqCst) {
                    continue; // Dropped: the connection is refused in effect.
                }
                let Ok(server) = TcpStream::connect(target) else { continue };
                for (mut from, mut to) in [
                    (client.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server.try_clone().unwrap(), client.try_clone().unwrap()),
                ] {
                    std::thread::spawn(move || {
                        let mut buffer = vec![0; 1 << 16];
                        while let Ok(count @ 1..) = from.read(&mut buffer) {
                            if to.write_all(&buffer[..count]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(std::net::Shutdown::Both);
                        let _ = from.shutdown(std::net::Shutdown::Both);
                    });
                }
                kept.lock().unwrap().extend([client, server]);
            }
        });
        Relay { port, open, streams }
    }

    fn cut(&self) {
        self.open.store(false, Ordering::SeqCst);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    fn mend(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

/// Starts a client and stops it in the middle of its snapshot.
fn stopped_in_mid_snapshot(daemon: &Daemon) -> Process {
    for attempt in 0..200 {
        let client = daemon.spawn(&["client", "--verify", "--name", "stopped"]);
        std::thread::sleep(Duration::from_millis(2 + attempt % 60));
        client.signal(libc::SIGSTOP);
        // Let the daemon see that the socket stays full.
        std::thread::sleep(Duration::from_millis(50));
        if session(daemon, "stopped").is_some_and(|session| session["state"] == "snapshot") {
            return client;
        }
        drop(client);
        let start = Instant::now();
        while session(daemon, "stopped").is_some() {
            assert!(start.elapsed() < PATIENCE, "a killed client's session stays");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    panic!("no client could be stopped in mid-snapshot in 200 attempts");
}

#[test]
fn the_full_table_reaches_every_client() {
    let Some(folder) = require::data("the_full_table_reaches_every_client") else { return };
    let port = free_port();
    let tcp = format!("tcp://127.0.0.1:{port}");
    let daemon = Daemon::start(&["--listen", &tcp]);
    let relay = Relay::start(SocketAddr::from(([127, 0, 0, 1], port)));
    let relayed = format!("tcp://127.0.0.1:{}", relay.port);

    // Two clients before the load, over the Unix socket; one over TCP.
    let mut verified: Vec<Process> = ["early1", "early2"]
        .map(|name| daemon.spawn(&["client", "--verify", "--name", name]))
        .into();
    verified.push(daemon.spawn(&["--socket", &tcp, "client", "--verify", "--name", "tcp"]));
    let cut = daemon.spawn(&["--socket", &relayed, "client", "--verify", "--name", "cut"]);
    for name in ["early1", "early2", "tcp", "cut"] {
        wait_state(&daemon, name, "live");
    }

    let table = folder.join("full-table.txt.gz");
    let loaded = daemon.rtm(&["route", "load", table.to_str().unwrap(), "--spread"]);
    assert!(loaded.contains(&ROUTES.to_string()), "{loaded}");
    daemon.rtm(&["sync", "--timeout", "100"]);

    // One joins late and is killed at once, one is stopped in mid-snapshot.
    let killed = daemon.spawn(&["client", "--name", "killed"]);
    wait_state(&daemon, "killed", "live");
    let stopped = stopped_in_mid_snapshot(&daemon);

    // The real update trace; 554 withdrawals name absent prefixes.
    relay.cut();
    let before = daemon.json(&["digest"])["revision"].as_u64().unwrap();
    let batch = daemon.directory().join("updates.batch");
    std::fs::write(&batch, data::updates_as_batch(&folder)).unwrap();
    let replay = daemon.run(&["-batch", batch.to_str().unwrap(), "--force"]);
    assert_eq!(replay.code, Some(1), "absent prefixes fail the batch: {}", replay.err);
    let after = daemon.json(&["digest"])["revision"].as_u64().unwrap();
    assert!(after > before && after - before <= 23_446, "{before} to {after}");

    // The one that was cut off resumes, and is sent only what changed.
    relay.mend();
    let resumed = wait_state(&daemon, "cut", "live");
    assert_eq!(resumed["resumes"], 1, "{resumed}");
    assert_eq!(resumed["snapshots"], 0, "{resumed}");
    let sent = resumed["sent_records"].as_u64().unwrap();
    assert!(
        sent <= 2 * (after - before) + 100,
        "{sent} records sent for {} revisions",
        after - before
    );

    // The one that was killed is gone at once; a new one takes its place.
    killed.signal(libc::SIGKILL);
    drop(killed);
    let start = Instant::now();
    while session(&daemon, "killed").is_some() {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    let rejoined = daemon.spawn(&["client", "--verify", "--name", "killed"]);
    let rejoined_state = wait_state(&daemon, "killed", "live");
    assert_eq!(rejoined_state["snapshots"], 1);

    stopped.signal(libc::SIGCONT);
    wait_state(&daemon, "stopped", "live");
    let agreed = daemon.json(&["sync", "--timeout", "100"]);
    assert!(agreed.to_string().contains("stopped"), "{agreed}");

    // Each recomputes its digests from its own replica, from scratch.
    let digest = daemon.rtm(&["digest"]);
    verified.extend([cut, stopped, rejoined]);
    for client in verified {
        client.signal(libc::SIGTERM);
        let output = client.finish();
        assert_eq!(output.code, Some(0), "{}", output.err);
        assert_eq!(output.out.lines().last(), Some(digest.trim()), "{}", output.err);
    }
    assert!(session(&daemon, "early1").is_none());
}

#[test]
fn others_are_served_while_a_million_routes_load() {
    let Some(folder) = require::data("others_are_served_while_a_million_routes_load") else {
        return;
    };
    let daemon = Daemon::start(&[]);
    let follower = daemon.spawn(&["client", "--verify", "--name", "follower"]);
    wait_state(&daemon, "follower", "live");
    let table = folder.join("full-table.txt.gz");
    let mut load = daemon.spawn(&["route", "load", table.to_str().unwrap(), "--spread"]);
    let (mut asked, mut joined) = (0, Vec::new());
    let mut revisions = Vec::new();
    while !load.ended() {
        let status = daemon.json(&["status"]);
        revisions.push(status["revision"].as_u64().expect("status names the revision"));
        asked += 1;
        if joined.len() < 5 {
            joined.push(daemon.spawn(&[
                "client",
                "--once",
                "--verify",
                "--name",
                &format!("joiner{asked}"),
            ]));
        }
    }
    assert!(asked > 3, "status answered only {asked} times during the load");
    assert!(revisions.windows(2).all(|pair| pair[0] <= pair[1]));
    assert!(
        revisions.iter().any(|&revision| revision > 0 && revision < ROUTES),
        "never asked in mid-load: {revisions:?}"
    );
    assert_eq!(load.finish().code, Some(0));
    for joiner in joined {
        let output = joiner.finish();
        assert_eq!(output.code, Some(0), "{}", output.err);
    }
    daemon.rtm(&["sync", "--timeout", "100"]);
    follower.signal(libc::SIGTERM);
    let output = follower.finish();
    assert_eq!(
        (output.code, output.out.lines().last()),
        (Some(0), Some(daemon.rtm(&["digest"]).trim()))
    );
}

/// The real update trace beside mapped readers: at each stop what one recomputes
/// from the mapping is what the daemon says, and one follows the ring all the time.
#[test]
fn the_real_trace_through_a_mapping() {
    let Some(folder) = require::data("the_real_trace_through_a_mapping") else { return };
    let daemon = Daemon::start(&["--no-console"]);
    let table = folder.join("full-table.txt.gz");
    daemon.rtm(&["route", "load", table.to_str().unwrap(), "--spread"]);
    let follower = daemon.spawn(&["-j", "client", "--mapped", "--futex", "--count"]);
    follower.wait_stderr("attached: ");
    let loaded = daemon.json(&["digest"])["revision"].as_u64().unwrap();
    let trace = data::updates_as_batch(&folder);
    let lines: Vec<&str> = trace.lines().collect();
    for part in lines.chunks(lines.len().div_ceil(5)) {
        let batch = daemon.directory().join("part.batch");
        std::fs::write(&batch, part.join("\n")).unwrap();
        // Withdrawals of absent prefixes fail, and nothing else does.
        daemon.run(&["-batch", batch.to_str().unwrap(), "--force"]);
        let digest = daemon.rtm(&["digest"]);
        assert_eq!(daemon.rtm(&["client", "--mapped", "--once", "--verify"]), digest);
    }
    let digest = daemon.json(&["digest"]);
    let revision = digest["revision"].as_u64().unwrap();
    assert!(revision > loaded + 10_000, "{loaded} to {revision}");
    follower.signal(libc::SIGTERM);
    let output = follower.finish();
    assert_eq!(output.code, Some(0), "{}", output.err);
    let counts: serde_json::Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!((&counts["revision"], &counts["rereads"]), (&digest["revision"], &0.into()));
    assert!(counts["records"].as_u64().unwrap() >= revision - loaded, "{counts}");
}
