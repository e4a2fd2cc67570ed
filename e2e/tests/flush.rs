//! The flush that is announced by a signal: registered clients, by armed pipe and
//! by pid; and pids that are not what they say.

use std::process::Command;
use std::time::{Duration, Instant};

use rtm_client::{Event, FlushSignal, FollowConfig, Follower, SignalWay, State};
use rtm_e2e::process::PATIENCE;
use rtm_e2e::{Daemon, Process, raw};

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
    let mut stream = raw::Client::follow(daemon.directory(), "raw");
    let own = std::process::id();
    let forged = [1, 0, u32::MAX, own ^ 1, mine.pid(), others.pid(), daemon.process.pid()];
    for pid in forged {
        let (way, text) = stream.register(pid);
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

/// A daemon without CAP_KILL: who armed a pipe is signalled across users; a plain
/// client is if it is of the same user, and else shown for what it is.
#[test]
fn a_plain_client_of_another_user_is_shown_unsignalled() {
    use std::os::unix::process::CommandExt;
    if !rtm_e2e::require::root("a_plain_client_of_another_user_is_shown_unsignalled") {
        return;
    }
    const DAEMON: u32 = 65534;
    let directory = tempfile::Builder::new().prefix("rtm-e2e-").tempdir().unwrap();
    let runtime = directory.path().join("run");
    let _queue = rtm_e2e::QueueName(runtime.clone());
    std::fs::create_dir(&runtime).unwrap();
    std::os::unix::fs::chown(&runtime, Some(DAEMON), Some(DAEMON)).unwrap();
    for path in [directory.path(), &runtime] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).unwrap();
    }
    let start = |program: &str, uid: u32, args: &[&str]| {
        let mut command = Command::new(directory.path().join(program));
        command.args(args).arg(&runtime).uid(uid).gid(uid).env_clear();
        Process::spawn(command)
    };
    for name in ["rtmd", "registrant"] {
        rtm_e2e::copy_of(name, directory.path());
    }
    let daemon = start("rtmd", DAEMON, &["--runtime-dir"]);
    daemon.wait_stderr("ready");
    let rtm = |args: &[&str]| {
        let own = ["-j", "--runtime-dir", runtime.to_str().unwrap()];
        let output = Process::start("rtm", [&own, args].concat()).finish();
        assert_eq!(output.code, Some(0), "{}", output.err);
        output.out
    };
    let list = || serde_json::from_str::<serde_json::Value>(&rtm(&["client", "list"])).unwrap();
    let clients = [
        ("plain", 4242, "unsignalled (not permitted)", 0),
        ("plain", DAEMON, "pid", 1),
        ("armed", 4242, "pipe", 1),
    ]
    .map(|(how, uid, way, signals)| {
        let client = start("registrant", uid, &[how]);
        client.wait_stdout(&format!("registered {way}\n"));
        (client, way, signals)
    });
    rtm(&["route", "add", "10/8", "dev", "e"]);
    let flushed: serde_json::Value = serde_json::from_str(&rtm(&["flush", "all"])).unwrap();
    let begun = Instant::now();
    for (mut client, way, signals) in clients {
        let of = |list: &serde_json::Value| {
            let all = list.as_array().unwrap().clone();
            all.into_iter().find(|entry| entry["pid"] == client.pid()).unwrap()
        };
        // Signalled or not, it is told of the flush.
        let mut entry = of(&list());
        while entry["revision"].as_u64() < flushed["revision"].as_u64() {
            assert!(begun.elapsed() < PATIENCE, "{entry}");
            entry = of(&list());
        }
        assert_eq!((&entry["signal"], &entry["signals_sent"]), (&way.into(), &signals.into()));
        client.write("check\n");
        client.wait_stdout(&format!("caught {signals}\n"));
    }
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

/// When the daemon goes, a client keeps its last table, marked stale, or clears it.
#[test]
fn when_the_daemon_goes_the_last_table_is_kept_stale_or_cleared() {
    for clear_when_lost in [false, true] {
        let daemon = Daemon::start(&[]);
        daemon.rtm(&["route", "add", "10/8", "dev", "e"]);
        let address = rtm_client::Address::Unix(daemon.directory().join("rtm.sock"));
        let config = FollowConfig { clear_when_lost, ..FollowConfig::default() };
        let mut follower = Follower::connect(&address, config).unwrap();
        let begun = Instant::now();
        let mut until = |state: State| {
            while follower.state() != state {
                assert!(begun.elapsed() < PATIENCE, "{follower:?}");
                let _ = follower.turn(Some(Duration::from_millis(20)), &[], &mut |_| ());
            }
            follower.replica().map(|replica| replica.store().counts().routes4)
        };
        assert_eq!(until(State::Live), Some(1));
        // A goodbye, or a crash: it waits for the next one.
        let kept = (!clear_when_lost).then_some(1);
        let directory = daemon.kill();
        assert_eq!(until(State::Waiting), kept, "stale: no state of a daemon that is there");
        let daemon = Daemon::start_in(directory, &[]);
        assert_eq!(until(State::Live), Some(0), "what the new one has");
        let _ = daemon.stop();
        assert_eq!(until(State::Waiting), kept.map(|_| 0));
    }
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

/// Eight clients follow while `load` (arguments of `route load`) brings `all` routes;
/// with `early` of them there all is flushed.
fn flush_during(daemon: &Daemon, load: &[&str], all: u64, early: u64) {
    let clients: Vec<Process> =
        (0..8).map(|n| daemon.spawn(&["client", "--verify", "--name", &format!("c{n}")])).collect();
    for client in &clients {
        client.wait_stderr("registered: ");
    }
    let load = daemon.spawn(&[&["-j", "route", "load"], load].concat());
    let start = Instant::now();
    while daemon.json(&["status"])["routes_v4"].as_u64() < Some(early) {
        assert!(start.elapsed() < PATIENCE, "{}", load.stderr());
    }
    let flushed = daemon.json(&["flush", "all"]);
    let gone = flushed["deleted"].as_u64().unwrap();
    let output = load.finish();
    assert_eq!(output.code, Some(0), "{}", output.err);
    daemon.rtm(&["sync", "--timeout", "100"]);
    let status = daemon.json(&["status"]);
    let left = status["routes_v4"].as_u64().unwrap() + status["routes_v6"].as_u64().unwrap();
    assert!(gone >= early && gone < all, "{flushed}: in the midst of the load");
    assert_eq!(left + gone, all, "{flushed}: what the load brought after the flush stands");
    let digest = daemon.rtm(&["digest"]);
    for client in clients {
        let err = client.wait_stderr(&format!("flushed: revision {}\n", flushed["revision"]));
        assert_eq!(err.matches("flushed: ").count(), 1, "{err}");
        client.signal(15);
        let output = client.finish();
        assert_eq!((output.code, &output.out), (Some(0), &digest), "{}", output.err);
    }
}

#[test]
fn a_flush_during_a_load_is_one_revision_and_what_comes_after_it_stands() {
    let daemon = Daemon::start(&[]);
    let file = daemon.directory().join("routes.txt");
    let routes: String = (0..120_000u32)
        .map(|n| format!("10.{}.{}.{}/32\n", n >> 16 & 255, n >> 8 & 255, n & 255))
        .collect();
    std::fs::write(&file, routes).unwrap();
    let load = [file.to_str().unwrap(), "--via", "10.9.9.9", "--dev", "e"];
    flush_during(&daemon, &load, 120_000, 5_000);
}

#[test]
fn a_flush_during_the_load_of_the_full_table() {
    let Some(data) = rtm_e2e::require::data("a_flush_during_the_load_of_the_full_table") else {
        return;
    };
    let daemon = Daemon::start(&[]);
    let table = data.join("full-table.txt.gz");
    flush_during(&daemon, &[table.to_str().unwrap(), "--spread"], 1_062_046, 300_000);
}
