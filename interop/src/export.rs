//! The kernel between rtm and others: BIRD's routes mirrored, and ours exported
//! beside others'.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use rtm_e2e::mirror;
use rtm_e2e::{Daemon, Namespace, Process};
use serde_json::Value;

use crate::Scale;
use crate::bird::Bird;

/// How long something may take to be so. No speed is asserted by it.
const PATIENCE: Duration = Duration::from_secs(600);

fn wait(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// BIRD's kernel protocol with many routes, half of which a new configuration
/// takes away: mirrored as they come and go.
pub(crate) fn bird(scale: Scale) -> String {
    let count = scale.of(100_000, 10_000);
    let namespace = Namespace::with_links();
    let daemon = Daemon::start_within(&namespace, "", &["--kernel"]);
    let config = |every: usize| {
        let mut config = "router id 192.168.1.2;\nprotocol device {}\n\
             protocol kernel k4 { ipv4 { export all; import none; }; }\n\
             protocol kernel k6 { ipv6 { export all; import none; }; }\n"
            .to_owned();
        let (mut v4, mut v6) = (String::new(), String::new());
        for number in (0..count).step_by(every) {
            let host = number % 200 + 3;
            let _ = match number % 10 {
                0 => writeln!(
                    v6,
                    "route 2001:db8:{:x}:{:x}::/64 via 2001:db8:1::{host:x};",
                    16 + (number >> 16),
                    number & 0xffff
                ),
                _ => writeln!(
                    v4,
                    "route {}.{}.{}.0/24 via 192.168.1.{host};",
                    20 + (number >> 16),
                    number >> 8 & 255,
                    number & 255
                ),
            };
        }
        let _ = writeln!(config, "protocol static s4 {{ ipv4; {v4} }}");
        let _ = writeln!(config, "protocol static s6 {{ ipv6; {v6} }}");
        config
    };
    let bird = Bird::start(&namespace, &config(1));
    let of_bird = || {
        let mut routes = 0;
        for family in ["-4", "-6"] {
            let shown = daemon.rtm(&[family, "route", "show", "proto", "bird", "--count"]);
            routes += shown.trim().parse::<usize>().expect("a number");
        }
        routes
    };
    wait("all of BIRD's routes", || of_bird() == count);
    mirror::await_equal(&namespace, &daemon, "after BIRD's start");
    bird.configure(&config(2));
    wait("half of BIRD's routes", || of_bird() == count.div_ceil(2));
    mirror::await_equal(&namespace, &daemon, "after half went");
    let counts = daemon.json(&["status"])["kernel"]["counts"].clone();
    // It goes as a crash would: its routes stay in the kernel, and here.
    drop(bird);
    mirror::await_equal(&namespace, &daemon, "after BIRD's end");
    verify(&daemon);
    format!("{count} routes, then half of them; {counts}")
}

/// A table of ours in the kernel's, beside others' routes, over changes, a
/// crash and a restart.
pub(crate) fn export(scale: Scale) -> String {
    let count = scale.of(100_000, 10_000);
    let namespace = Namespace::with_links();
    namespace.sysctl("net.ipv6.route.max_size", "2147483647");
    // Another's route in the same table, and on keys of ours.
    namespace.ip("route add 203.0.113.0/24 via 192.168.1.9 proto static table 100");
    namespace.ip("-6 route add 2001:db8:cafe::/48 via 2001:db8:1::9 proto static table 100");
    let foreign = [prefix(3), prefix(7)];
    for key in &foreign {
        namespace.ip(&format!("route add {key} via 192.168.1.9 proto static table 100"));
    }
    let others = || {
        let mut lines: Vec<String> = Vec::new();
        for family in ["-4", "-6"] {
            let text = namespace.ip(&format!("-o {family} route show table 100 proto static"));
            lines.extend(text.lines().map(|line| line.trim().to_owned()));
        }
        lines
    };
    let before = others();
    assert_eq!(before.len(), 4);

    let mut lines = String::new();
    for number in 0..count {
        let _ = writeln!(lines, "{}", line(number, 3));
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &lines).expect("a file");
    let load = file.path().to_str().expect("a path of text").to_owned();
    let args = ["--kernel=main", "--export", "100", "--load", &load];
    let config = "[export]\nhold_s = 2\n";
    let daemon = Daemon::start_within(&namespace, config, &args);
    let installed = count - foreign.len();
    await_exported(&namespace, &daemon, installed, "after the start");
    assert_eq!(daemon.json(&["status"])["export"]["blocked"], foreign.len());

    // Changes, deletes, appearances.
    let mut batch = String::new();
    for number in 0..count / 4 {
        let _ = match number % 2 {
            0 => writeln!(batch, "route replace {}", line(number * 4, 90)),
            _ => writeln!(batch, "route del {} table 100", prefix(number * 4 + 2)),
        };
    }
    let _ = writeln!(batch, "route add 198.51.100.0/24 via 192.168.2.5 dev w0 table 100");
    let changes = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(changes.path(), &batch).expect("a file");
    daemon.rtm(&["-batch", changes.path().to_str().expect("a path of text")]);
    let deleted = count / 4 / 2;
    await_exported(&namespace, &daemon, installed - deleted + 1, "after changes");
    assert_eq!(others(), before, "others' routes after changes");

    // A link goes and comes; others meddle.
    namespace.ip("link set w0 down");
    namespace.ip("link set w0 up");
    namespace.ip(&format!("route del {} table 100 proto 77", prefix(1)));
    await_exported(&namespace, &daemon, installed - deleted + 1, "after a link came back");

    // A crash; the restart has the file, and the file's routes only.
    let mut monitor = namespace.command("ip");
    monitor.args(["monitor", "route"]);
    let monitor = Process::spawn(monitor);
    let directory = daemon.kill();
    let daemon = Daemon::start_within_in(&namespace, directory, config, &args);
    await_exported(&namespace, &daemon, installed, "after a crash and a restart");
    // The last to be withdrawn is what only the first one had.
    monitor.wait_stdout("Deleted 198.51.100.0/24");
    let said = monitor.stdout();
    let deleted: Vec<&str> = said.lines().filter(|line| line.contains("Deleted")).collect();
    assert_eq!(deleted.len(), 1, "deletes of valid routes: {deleted:#?}");
    let kept = daemon.json(&["status"])["export"]["counts"]["kept over a restart"].clone();
    assert_eq!(others(), before, "others' routes after a restart");

    // What was another's key is ours when that goes.
    for key in &foreign {
        namespace.ip(&format!("route del {key} proto static table 100"));
    }
    await_exported(&namespace, &daemon, count, "after others' went");
    // Nothing goes round: with both at rest no revision passes.
    let revision = || daemon.json(&["digest"])["revision"].clone();
    let sent = || daemon.json(&["status"])["export"]["counts"]["sent"].clone();
    let rest = (revision(), sent());
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(rest, (revision(), sent()), "something goes round");
    verify(&daemon);
    format!("{count} routes equal, {kept} of them untouched by a crash and a restart")
}

/// The prefix of a number.
fn prefix(number: usize) -> String {
    match number % 10 {
        0 => format!("2001:db8:{:x}:{:x}::/64", 0x100 + (number >> 16), number & 0xffff),
        _ => format!("{}.{}.{}.0/24", 20 + (number >> 16), number >> 8 & 255, number & 255),
    }
}

/// A route of a number, as `rtm` and `ip` take it.
fn line(number: usize, host: usize) -> String {
    let host = host + number % 100;
    match number % 10 {
        0 => format!("{} via 2001:db8:1::{host:x} dev v0 table 100", prefix(number)),
        5 => format!("blackhole {} table 100", prefix(number)),
        _ => format!("{} via 192.168.1.{host} dev v0 table 100", prefix(number)),
    }
}

/// The routes of a JSON listing, each as what it does.
fn table(text: &str) -> BTreeMap<String, String> {
    let routes: Value = serde_json::from_str(text).unwrap_or(Value::Null);
    let routes = routes.as_array().cloned().unwrap_or_default();
    let words = |route: &Value, name: &str| route[name].as_str().unwrap_or("-").to_owned();
    routes
        .iter()
        .map(|route| {
            let what = ["type", "gateway", "dev"].map(|name| words(route, name)).join(" ");
            (words(route, "dst"), what)
        })
        .collect()
}

/// Waits until the kernel's table 100 has, of our protocol, what the daemon has.
fn await_exported(namespace: &Namespace, daemon: &Daemon, count: usize, what: &str) {
    let start = Instant::now();
    loop {
        let (mut kernel, mut ours) = (BTreeMap::new(), BTreeMap::new());
        for family in ["-4", "-6"] {
            let shown = namespace.ip(&format!("-json {family} route show table 100 proto 77"));
            kernel.extend(table(&shown));
            ours.extend(table(&daemon.rtm(&["-j", family, "route", "show", "table", "100"])));
        }
        // What another's route blocks isn't there.
        let blocked = daemon.json(&["status"])["export"]["problems"].clone();
        for problem in blocked.as_array().into_iter().flatten() {
            ours.remove(problem["dst"].as_str().unwrap_or_default());
        }
        if kernel == ours && kernel.len() == count {
            return;
        }
        let differ: Vec<_> = kernel
            .keys()
            .chain(ours.keys().filter(|key| !kernel.contains_key(*key)))
            .filter(|key| kernel.get(*key) != ours.get(*key))
            .take(5)
            .map(|key| format!("{key}: kernel {:?}, rtm {:?}", kernel.get(key), ours.get(key)))
            .collect();
        assert!(
            start.elapsed() < PATIENCE,
            "{what}: {} routes of {count}; {differ:#?}\n{}\n{}",
            kernel.len(),
            daemon.json(&["status"])["export"],
            daemon.process.stderr()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Every copy is the daemon's: a client's digests agree.
fn verify(daemon: &Daemon) {
    let output = daemon.run(&["client", "--once", "--verify"]);
    assert_eq!(output.code, Some(0), "{}{}", output.out, output.err);
}
