//! Everything at once in one loop: senders on the queue, writers on the FIFO, a
//! console, Unix and TCP administrators, and followers of both kinds.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use ipc::mq::{Access, Queue};
use ipc::timer::Wait;
use rtm_e2e::process::PATIENCE;
use rtm_e2e::{Daemon, Process, binary};

/// Changes that each sender makes; the full count stands behind
/// `RTM_CHANGES=10000`.
fn changes() -> u32 {
    std::env::var("RTM_CHANGES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000)
}

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
    let changes = changes();
    let files = tempfile::tempdir().unwrap();
    let token = files.path().join("token");
    std::fs::write(&token, "a secret of this test only\n").unwrap();
    std::os::unix::fs::chown(&token, None, None).unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
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
        let text: String = (0..changes).map(|n| line(sender, n) + "\n").collect();
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
    let console: String = (0..changes).map(|n| line(30, n) + "\n").collect();
    daemon.process.write(&console);
    std::thread::scope(|scope| {
        for sender in 0..8 {
            let name = &name;
            scope.spawn(move || {
                let queue = Queue::open(name, Access::Send).unwrap();
                for n in 0..changes {
                    queue.send(line(sender, n).as_bytes(), sender, Wait::FOREVER).unwrap();
                }
            });
        }
        for sender in 10..12 {
            let path = daemon.directory().join("commands");
            scope.spawn(move || {
                let mut fifo = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                for n in 0..changes {
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
        if counted("queue") > u64::from(8 * changes)
            && counted("fifo") == u64::from(2 * changes)
            && console > changes as usize
        {
            break status;
        }
        assert!(start.elapsed() < PATIENCE, "{}", status);
        std::thread::sleep(Duration::from_millis(20));
    };
    // All applied once: a rejected one would be another order.
    for feed in ["queue", "fifo"] {
        assert_eq!(status[feed]["rejected"], 0, "{status}");
        assert_eq!(status[feed]["applied"], status[feed]["messages"], "{status}");
    }
    // 15 senders: what the last round left is there, by whomever, and no sender's
    // end has removed anything.
    let left = if changes % 3 == 0 { 0 } else { 15 };
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

#[test]
fn whoever_floods_all_others_are_answered() {
    let daemon = Daemon::start(&[]);
    let name = daemon.json(&["status"])["queue"]["name"].as_str().unwrap().to_owned();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = |text: &'static str| {
            let (name, stop) = (&name, &stop);
            scope.spawn(move || {
                let queue = Queue::open(name, Access::Send).unwrap();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let wait = Wait::at_most(Some(Duration::from_millis(50)));
                    let _ = queue.send(text.as_bytes(), 0, wait);
                }
            });
        };
        flood("route replace 10.0.0.0/8 via 1.1.1.1 dev e");
        flood("route replace 10.0.0.0/8 via 1.1.1.2 dev e");
        let path = daemon.directory().join("commands");
        let stop = &stop;
        scope.spawn(move || {
            let mut fifo = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            let lines = "route replace 11.0.0.0/8 via 1.1.1.1 dev e\n".repeat(80);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fifo.write_all(lines.as_bytes()).unwrap();
            }
        });
        let turns = || daemon.json(&["status"])["turns"]["count"].as_u64().unwrap();
        for net in 0..20 {
            daemon.rtm(&["route", "add", &format!("12.{net}.0.0/16"), "dev", "e"]);
            let _ = turns();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let routes = daemon.rtm(&["route", "show", "root", "12.0.0.0/8"]);
    assert_eq!(routes.lines().count(), 20, "{routes}");
}
