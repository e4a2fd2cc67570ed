//! Everything at once in one loop: senders on the queue, writers on the FIFO, a
//! console, Unix and TCP administrators, and followers of both kinds.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use ipc::mq::{Access, Queue};
use ipc::timer::Wait;
use rtm_client::{Admin, CONNECT_TIMEOUT, Connection};
use rtm_e2e::process::PATIENCE;
use rtm_e2e::{Daemon, Process, binary};

/// Changes that each sender makes.
const CHANGES: u32 = 10_000;

/// The n-th change of a sender: its own routes, each added, changed, deleted in
/// turn but the last ones, so that any other order or any loss is an error or
/// another table.
fn line(sender: u32, n: u32) -> String {
    let (round, step) = (n / 3, n % 3);
    let prefix = format!("10.{sender}.{}.{}/32", round >> 8, round & 255);
    match step {
        0 => format!("route add {prefix} via 10.255.0.1 dev e"),
        1 => format!("route change {prefix} via 10.255.0.2 dev e"),
        _ => format!("route del {prefix}"),
    }
}

#[test]
fn all_at_once_nothing_is_lost_and_each_finds_its_own_order() {
    let files = tempfile::tempdir().unwrap();
    let token = token_file(files.path());
    let configuration = format!(
        "[listen]\ntcp = \"tcp://127.0.0.1:0\"\ntcp_token_file = \"{}\"\n",
        token.display()
    );
    let mut daemon = Daemon::start_with(&configuration, &["--console"]);
    let status = daemon.json(&["status"]);
    let tcp = status["tcp"].as_str().unwrap().to_owned();
    let name = status["queue"]["name"].as_str().unwrap().to_owned();
    let over_tcp = |args: &[&str]| {
        let mut command = Command::new(binary("rtm"));
        command.args(["--socket", &tcp, "--token-file", token.to_str().unwrap()]).args(args);
        Process::spawn(command)
    };
    let mut followers = vec![daemon.spawn(&["client", "--verify"])];
    followers.extend((0..2).map(|_| over_tcp(&["client", "--verify"])));
    for follower in &followers {
        follower.wait_stderr("live: ");
    }
    let batch = |sender: u32| {
        let path = files.path().join(format!("batch-{sender}"));
        let text: String = (0..CHANGES).map(|n| line(sender, n) + "\n").collect();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    // A route that the console inserts, the queue changes, and rtm deletes.
    daemon.process.write("route add 99.0.0.0/8 via 1.1.1.1 dev e\n");
    daemon.rtm(&["wait", "route", "exact", "99.0.0.0/8", "--timeout", "60"]);
    daemon.rtm(&["mq", "send", "route change 99.0.0.0/8 via 2.2.2.2 dev e"]);
    daemon.rtm(&["wait", "route", "exact", "99.0.0.0/8", "via", "2.2.2.2", "--timeout", "60"]);
    daemon.rtm(&["route", "del", "99.0.0.0/8"]);

    let admins: Vec<Process> = vec![
        daemon.spawn(&["-batch", &batch(20)]),
        daemon.spawn(&["-batch", &batch(21)]),
        over_tcp(&["-batch", &batch(22)]),
        over_tcp(&["-batch", &batch(23)]),
    ];
    let console: String = (0..CHANGES).map(|n| line(30, n) + "\n").collect();
    daemon.process.write(&console);
    std::thread::scope(|scope| {
        for sender in 0..8 {
            let name = &name;
            scope.spawn(move || {
                let queue = Queue::open(name, Access::Send).unwrap();
                for n in 0..CHANGES {
                    queue.send(line(sender, n).as_bytes(), sender, Wait::FOREVER).unwrap();
                }
            });
        }
        for sender in 10..12 {
            let path = daemon.directory().join("commands");
            scope.spawn(move || {
                let mut fifo = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                for n in 0..CHANGES {
                    let line = line(sender, n) + "\n";
                    assert_eq!(fifo.write(line.as_bytes()).unwrap(), line.len());
                }
            });
        }
    });
    for admin in admins {
        let output = admin.finish();
        assert_eq!(output.code, Some(0), "{}", output.err);
    }
    let start = Instant::now();
    let status = loop {
        let status = daemon.json(&["status"]);
        let counted = |feed: &str| status[feed]["messages"].as_u64().unwrap();
        let console = daemon.process.stdout().matches("done, revision").count();
        if counted("queue") > u64::from(8 * CHANGES)
            && counted("fifo") == u64::from(2 * CHANGES)
            && console > CHANGES as usize
        {
            break status;
        }
        // This takes its time on a small machine.
        assert!(start.elapsed() < PATIENCE * 10, "{}", status);
        std::thread::sleep(Duration::from_millis(20));
    };
    // All applied once: a rejected one would be another order.
    for feed in ["queue", "fifo"] {
        assert_eq!(status[feed]["rejected"], 0, "{status}");
        assert_eq!(status[feed]["applied"], status[feed]["messages"], "{status}");
    }
    // 15 senders: what the last round left is there, by whomever, and no sender's
    // end has removed anything.
    let left = if CHANGES % 3 == 0 { 0 } else { 15 };
    assert_eq!(status["routes_v4"], left, "{status}");
    daemon.rtm(&["sync", "--timeout", "60"]);
    let digest = daemon.rtm(&["digest"]);
    for follower in followers {
        follower.signal(15);
        let output = follower.finish();
        assert_eq!((output.code, output.out), (Some(0), digest.clone()), "{}", output.err);
    }
    let turns = &status["turns"];
    eprintln!(
        "turns {} p50 {} us p99 {} us longest {} us; overruns queue {} fifo {}",
        turns["count"],
        turns["p50_us"],
        turns["p99_us"],
        turns["longest_us"],
        status["queue"]["overruns"],
        status["fifo"]["overruns"]
    );
}

/// The sources that are flooded, and asked.
const SOURCES: [&str; 5] = ["unix", "tcp", "queue", "fifo", "console"];

/// Commands that every other source gives while one floods.
const ASKED: u32 = 20;

/// What a source has given before the others begin.
const FLOOD_BYTES: u64 = 200_000;

/// The turns in which what came in must be carried out, by the daemon's own count.
const TURNS_MAX: u64 = 4;

fn token_file(directory: &std::path::Path) -> std::path::PathBuf {
    let path = directory.join("token");
    std::fs::write(&path, "a secret of this test only\n").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    path
}

/// One source gives commands as fast as it can; all others give theirs meanwhile.
fn flooded_by(source: &str) {
    let files = tempfile::Builder::new().prefix("rtm-e2e-").tempdir().unwrap();
    let token = token_file(files.path());
    let path = files.path().join("rtmd.toml");
    let token_line = format!("tcp_token_file = \"{}\"\n", token.display());
    std::fs::write(&path, format!("[listen]\ntcp = \"tcp://127.0.0.1:0\"\n{token_line}")).unwrap();
    let lines: String = (0..20_000u32)
        .map(|n| format!("route replace 10.0.{}.0/24 via 1.1.1.{} dev e\n", n & 255, n >> 8 & 127))
        .collect();
    let many = files.path().join("many");
    std::fs::write(&many, &lines).unwrap();
    // Its console is a pipe, from this test or from a flood that never ends.
    let mut command = Command::new("bash");
    let input = if source == "console" { " < <(yes \"$LINE\" 2>/dev/null)" } else { "" };
    command.args(["-c", &format!("exec \"$0\" \"$@\"{input}")]).arg(binary("rtmd"));
    command.env("LINE", "route replace 10.0.0.0/24 via 1.1.1.1 dev e");
    let directory = tempfile::Builder::new().prefix("rtm-e2e-").tempdir().unwrap();
    let args = ["--console", "--config", path.to_str().unwrap()];
    let mut daemon = Daemon::start_by(command, directory, &args);
    let status = daemon.json(&["status"]);
    let (tcp, name) = (status["tcp"].as_str().unwrap(), status["queue"]["name"].as_str().unwrap());
    let addresses = ["unix", "tcp"].map(|kind| match kind {
        "tcp" => rtm_client::parse_address(tcp).unwrap(),
        _ => rtm_client::Address::Unix(daemon.directory().join("rtm.sock")),
    });
    let secret = rtm_tables::Secret::of_file(&std::fs::read(&token).unwrap()).unwrap();
    let connect = |kind: &str| {
        let address = &addresses[usize::from(kind == "tcp")];
        let connection = Connection::open(address, CONNECT_TIMEOUT).unwrap();
        let name = format!("asks-{kind}");
        Admin::proving(connection, &name, Some(secret.clone())).unwrap()
    };
    let mut admins = [connect("unix"), connect("tcp")];
    let queue = Queue::open(name, Access::Send).unwrap();
    let commands = daemon.directory().join("commands");
    let mut fifo = std::fs::OpenOptions::new().write(true).open(&commands).unwrap();

    let net = |asked: &str| 20 + SOURCES.iter().position(|source| *source == asked).unwrap();
    // As many as it takes to keep the daemon busy with that source alone.
    let mut floods = Vec::new();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let stopped = || stop.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            match source {
                "unix" | "tcp" => {
                    let mut command = Command::new("sh");
                    let script = "while \"$@\" -batch \"$0\"; do :; done";
                    command.args(["-c", script]).arg(&many).arg(binary("rtm"));
                    match source {
                        "tcp" => command.args(["--socket", tcp, "--token-file"]).arg(&token),
                        _ => command.arg("--runtime-dir").arg(daemon.directory()),
                    };
                    floods.push(Process::spawn(command));
                }
                "queue" => {
                    let stopped = &stopped;
                    scope.spawn(move || {
                        let queue = Queue::open(name, Access::Send).unwrap();
                        let line = b"route replace 10.0.0.0/24 via 1.1.1.1 dev e";
                        while !stopped() {
                            let wait = Wait::at_most(Some(Duration::from_millis(50)));
                            let _ = queue.send(line, 0, wait);
                        }
                    });
                }
                "fifo" => {
                    let (stopped, commands, lines) = (&stopped, &commands, &lines);
                    scope.spawn(move || {
                        let mut fifo =
                            std::fs::OpenOptions::new().write(true).open(commands).unwrap();
                        let end = lines[..4096].rfind('\n').unwrap() + 1;
                        while !stopped() {
                            fifo.write_all(&lines.as_bytes()[..end]).unwrap();
                        }
                    });
                }
                _ => {}
            }
        }
        // It floods by now.
        let start = Instant::now();
        let kind = if matches!(source, "unix" | "tcp") { "client" } else { source };
        let flooded = || {
            let status = daemon.json(&["status", "-d"]);
            let rows = status["descriptors"].as_array().unwrap().clone();
            let bytes = rows.iter().filter(|row| row["kind"] == kind);
            bytes.filter_map(|row| row["bytes_in"].as_u64()).sum::<u64>()
        };
        while flooded() < FLOOD_BYTES {
            assert!(start.elapsed() < PATIENCE, "{source}: {} bytes", flooded());
        }
        for n in 0..ASKED {
            for asked in SOURCES.iter().filter(|asked| **asked != source) {
                let line = format!("route add {}.{n}.0.0/16 dev {asked}", net(asked));
                match *asked {
                    "unix" | "tcp" => {
                        let admin = &mut admins[usize::from(*asked == "tcp")];
                        let done = admin.request(&line, &mut |_| true).unwrap();
                        assert_eq!((done.code, done.applied), (0, 1), "{}", done.text);
                    }
                    "queue" => queue.send(line.as_bytes(), 0, Wait::FOREVER).unwrap(),
                    "fifo" => fifo.write_all((line + "\n").as_bytes()).unwrap(),
                    _ => daemon.process.write(&(line + "\n")),
                }
            }
        }
        for asked in SOURCES.iter().filter(|asked| **asked != source) {
            let last = format!("{}.{}.0.0/16", net(asked), ASKED - 1);
            daemon.rtm(&["wait", "route", "exact", &last, "dev", asked, "--timeout", "100"]);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let status = daemon.json(&["status", "-d"]);
    drop(floods);
    let turns_max = |asked: &str| {
        let (kind, name) = match asked {
            "unix" | "tcp" => ("client", format!("{asked} asks-{asked}")),
            kind => (kind, String::new()),
        };
        let rows = status["descriptors"].as_array().unwrap();
        let row = rows.iter().find(|row| {
            row["kind"] == kind && row["name"].as_str().unwrap().ends_with(name.as_str())
        });
        let row = row.unwrap_or_else(|| panic!("{asked}: {status}"));
        row["turns_max"].as_u64().unwrap_or_else(|| panic!("{row}"))
    };
    let mut waited = Vec::new();
    for asked in SOURCES.iter().filter(|asked| **asked != source) {
        let turns = turns_max(asked);
        assert!((1..=TURNS_MAX).contains(&turns), "{source} floods: {asked} waited {turns} turns");
        waited.push(format!("{asked} {turns}"));
    }
    let turns = &status["turns"];
    eprintln!(
        "{source} floods: turns until served: {}; {} turns, p99 {} us, longest {} us",
        waited.join(", "),
        turns["count"],
        turns["p99_us"],
        turns["longest_us"]
    );
}

#[test]
fn whoever_floods_all_others_are_served_within_four_turns() {
    for source in SOURCES {
        flooded_by(source);
    }
}
