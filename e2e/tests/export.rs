//! The export: our routes in a real kernel's table, beside others'.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use rtm_e2e::process::PATIENCE;
use rtm_e2e::{Daemon, Namespace, Process, require};

const CONFIG: &str = "[export]\nhold_s = 1\n";

/// Waits until something is as it should be.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Our routes in the kernel's table 100, one a line, and as what they are.
fn ours(namespace: &Namespace) -> Vec<String> {
    let mut lines = Vec::new();
    for family in ["-4", "-6"] {
        // A table without any route of a family doesn't exist.
        let (_, text, _) = namespace.try_ip(&format!("-o {family} route show table 100 proto 77"));
        lines
            .extend(text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    lines.sort();
    lines
}

fn export(daemon: &Daemon) -> serde_json::Value {
    daemon.json(&["status"])["export"].clone()
}

#[test]
fn winners_are_in_the_kernel_and_others_routes_survive() {
    if !require::root("winners_are_in_the_kernel_and_others_routes_survive") {
        return;
    }
    let namespace = Namespace::with_links();
    namespace.ip("route add 10.5.0.0/16 via 192.168.1.9 proto static table 100");
    namespace.ip("route add blackhole 10.99.0.0/16 proto bird table 100");
    let daemon = Daemon::start_within(&namespace, CONFIG, &["--export", "100"]);
    for words in [
        "10.1.0.0/16 via 192.168.1.1",
        "10.2.0.0/16 via 192.168.7.1",
        "10.3.0.0/16 via 192.168.1.1 dev v0 mtu 1400",
        "10.4.0.0/16 table 100 nexthop via 192.168.1.1 weight 3 nexthop via 192.168.2.1",
        "10.5.0.0/16 via 192.168.1.1",
        "blackhole 10.6.0.0/16",
        "10.7.0.0/16 dev nolink",
        "10.8.0.0/16 via 192.168.1.1 metric 50",
        "2001:db8:a::/48 via 2001:db8:1::1",
    ] {
        let table = if words.contains("table") { "" } else { " table 100" };
        let words = format!("route add {words}{table}");
        daemon.rtm(&words.split(' ').collect::<Vec<_>>());
    }
    until("six are there", || ours(&namespace).len() == 6);
    let lines = ours(&namespace).join("\n");
    for part in [
        "10.1.0.0/16 via 192.168.1.1 dev v0",
        "10.3.0.0/16 via 192.168.1.1 dev v0 mtu 1400",
        "nexthop via 192.168.1.1 dev v0 weight 3",
        "blackhole 10.6.0.0/16",
        "10.8.0.0/16 via 192.168.1.1 dev v0 metric 50",
        "2001:db8:a::/48 via 2001:db8:1::1 dev v0",
    ] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
    // Each of the others with the reason, the kernel's in its own words.
    let state = export(&daemon);
    assert_eq!((state["blocked"].as_u64(), state["waiting"].as_u64()), (Some(1), Some(2)));
    let problems = state["problems"].to_string();
    for part in ["another's route", "Nexthop has invalid gateway", "no link nolink on this host"] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
    let shown = daemon.rtm(&["route", "show", "table", "100"]);
    assert_eq!(shown.matches("rt_offload_failed").count(), 3, "{shown}");

    // What it needs comes, and what is in its way goes.
    namespace.ip("addr add 192.168.7.2/24 dev v0");
    until("10.2 is there", || ours(&namespace).join(" ").contains("10.2.0.0/16"));
    namespace.ip("link add nolink type veth peer name nolink1");
    namespace.ip("link set nolink up");
    until("10.7 is there", || ours(&namespace).join(" ").contains("10.7.0.0/16 dev nolink"));
    assert!(namespace.ip("route show table 100 10.5.0.0/16").contains("proto static"));
    namespace.ip("route del 10.5.0.0/16 proto static table 100");
    until("10.5 is there", || ours(&namespace).join(" ").contains("10.5.0.0/16"));
    // Another's route put before ours is left alone, and ours is blocked.
    namespace.ip("route prepend 10.1.0.0/16 via 192.168.1.50 proto static table 100");
    until("10.1 is blocked", || export(&daemon)["blocked"] == 1);
    daemon.rtm(&["route", "replace", "10.1.0.0/16", "via", "192.168.1.2", "table", "100"]);
    std::thread::sleep(Duration::from_millis(400));
    assert!(namespace.ip("route show table 100 10.1.0.0/16").contains("192.168.1.50"));
    namespace.ip("route del 10.1.0.0/16 proto static table 100");
    // What somebody takes away comes back.
    namespace.ip("route del 10.6.0.0/16 table 100");
    until("10.6 is back", || ours(&namespace).join(" ").contains("10.6.0.0/16"));
    // So does what went with a link.
    namespace.ip("link set v0 down");
    until("10.3 is gone", || !ours(&namespace).join(" ").contains("10.3.0.0/16"));
    namespace.ip("link set v0 up");
    until("10.3 is back", || ours(&namespace).join(" ").contains("10.3.0.0/16"));
    // A change and a delete.
    daemon.rtm(&["route", "replace", "10.3.0.0/16", "via", "192.168.1.77", "table", "100"]);
    daemon.rtm(&["route", "del", "10.8.0.0/16", "table", "100"]);
    until("10.3 is another", || ours(&namespace).join(" ").contains("192.168.1.77"));
    until("10.8 is gone", || !ours(&namespace).join(" ").contains("10.8.0.0/16"));
    assert!(namespace.ip("route show table 100 10.99.0.0/16").contains("proto bird"));
}

#[test]
fn a_restart_deletes_nothing_that_is_valid() {
    if !require::root("a_restart_deletes_nothing_that_is_valid") {
        return;
    }
    let namespace = Namespace::with_links();
    let mut lines = String::new();
    for number in 0..500 {
        let _ = writeln!(
            lines,
            "10.{}.{}.0/24 via 192.168.1.1 dev v0 table 100",
            number / 250,
            number % 250
        );
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &lines).unwrap();
    let load = file.path().to_str().unwrap();
    let args = ["--export", "100", "--load", load];
    let daemon = Daemon::start_within(&namespace, CONFIG, &args);
    until("all are there", || ours(&namespace).len() == 500);
    daemon.rtm(&[
        "route",
        "add",
        "10.200.0.0/16",
        "via",
        "192.168.1.1",
        "dev",
        "v0",
        "table",
        "100",
    ]);
    until("one more", || ours(&namespace).len() == 501);
    let mut monitor = namespace.command("ip");
    monitor.args(["monitor", "route"]);
    let monitor = Process::spawn(monitor);
    let directory = daemon.kill();
    assert_eq!(ours(&namespace).len(), 501, "they outlive it");
    let daemon = Daemon::start_within_in(&namespace, directory, CONFIG, &args);
    // What nobody offers any more goes; nothing else was touched.
    until("the one is gone", || ours(&namespace).len() == 500);
    let state = export(&daemon);
    assert_eq!(state["counts"]["kept over a restart"], 500, "{state}");
    monitor.wait_stdout("Deleted 10.200.0.0/16");
    let said = monitor.stdout();
    assert_eq!(said.matches("Deleted").count(), 1, "{said}");
}

#[test]
fn import_and_export_make_no_loop() {
    if !require::root("import_and_export_make_no_loop") {
        return;
    }
    let namespace = Namespace::with_links();
    namespace.ip("route add 10.5.0.0/16 via 192.168.1.9 proto static table 100");
    let daemon = Daemon::start_within(&namespace, CONFIG, &["--kernel", "--export", "100"]);
    for number in 0..20 {
        let prefix = format!("10.{number}.0.0/16");
        daemon.rtm(&["route", "add", &prefix, "via", "192.168.1.1", "table", "100"]);
    }
    // The kernel's own wins its key: ours is not exported.
    until("19 are there", || ours(&namespace).len() == 19);
    let all = daemon.rtm(&["route", "show", "table", "100", "--all", "exact", "10.5.0.0/16"]);
    assert!(all.contains("kernel") && all.contains("admin"), "{all}");
    std::thread::sleep(Duration::from_millis(500));
    // Routes only: neighbours have moods of their own.
    let monitor = daemon.spawn(&["monitor", "route"]);
    until("the monitor follows", || {
        let clients = daemon.json(&["client", "list"]);
        clients.as_array().unwrap().iter().any(|client| client["state"] == "live")
    });
    std::thread::sleep(Duration::from_millis(500));
    daemon.rtm(&["route", "add", "203.0.113.0/24", "via", "192.168.1.1"]);
    monitor.wait_stdout("203.0.113.0/24");
    monitor.signal(15);
    let seen = monitor.finish().out;
    assert_eq!(seen.lines().count(), 1, "nothing goes round: {seen}");
    // The kernel's goes, ours takes its place; and the other way round.
    namespace.ip("route del 10.5.0.0/16 table 100");
    until("ours is there", || ours(&namespace).len() == 20);
    namespace.ip("route prepend 10.5.0.0/16 via 192.168.1.9 proto static table 100");
    until("ours is withdrawn", || ours(&namespace).len() == 19);
    assert!(namespace.ip("route show table 100 10.5.0.0/16").contains("proto static"));
}
