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

/// A file of so many routes for table 100.
fn many(count: u32) -> tempfile::NamedTempFile {
    let mut lines = String::new();
    for number in 0..count {
        let (second, third) = (number / 250, number % 250);
        let _ = writeln!(lines, "10.{second}.{third}.0/24 via 192.168.1.1 dev v0 table 100");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &lines).unwrap();
    file
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
    let file = many(500);
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
    namespace.settle();
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

#[test]
fn of_equal_routes_only_the_first_is_exported_and_the_others_say_so() {
    if !require::root("of_equal_routes_only_the_first_is_exported_and_the_others_say_so") {
        return;
    }
    let namespace = Namespace::with_links();
    let daemon = Daemon::start_within(&namespace, CONFIG, &["--export", "100"]);
    let rtm = |words: &str| daemon.rtm(&words.split(' ').collect::<Vec<_>>());
    rtm("route add 10.1.0.0/16 via 192.168.1.1 table 100");
    rtm("route append 10.1.0.0/16 via 192.168.1.2 table 100");
    rtm("route append 10.1.0.0/16 via 192.168.1.3 table 100");
    until("the first is there", || ours(&namespace).len() == 1);
    until("two are behind", || export(&daemon)["behind"] == 2);
    let problems = export(&daemon)["problems"].to_string();
    assert!(problems.contains("not exported: another route of the table"), "{problems}");
    let shown = rtm("route show table 100");
    let marked: Vec<&str> = shown.lines().filter(|l| l.contains("rt_offload_failed")).collect();
    assert!(marked.len() == 2 && !marked.concat().contains("192.168.1.1 "), "{shown}");
    // The next takes its place.
    rtm("route del 10.1.0.0/16 via 192.168.1.1 table 100");
    until("the second is there", || ours(&namespace).join(" ").contains("192.168.1.2"));
    until("one is behind", || export(&daemon)["behind"] == 1);
    daemon.rtm(&["flush", "routes", "--force"]);
    until("none is behind", || export(&daemon)["behind"] == 0);
}

/// A whole flush would empty the kernel's table: whoever wants that says so.
#[test]
fn a_whole_flush_needs_force_where_routes_are_exported() {
    if !require::root("a_whole_flush_needs_force_where_routes_are_exported") {
        return;
    }
    let namespace = Namespace::with_links();
    let daemon = Daemon::start_within(&namespace, CONFIG, &["--export", "100"]);
    daemon.rtm(&["route", "add", "10.1.0.0/16", "via", "192.168.1.1", "table", "100"]);
    daemon.rtm(&["neigh", "add", "192.168.1.9", "lladdr", "02:00:00:00:00:09", "dev", "v0"]);
    until("it is in the kernel", || ours(&namespace).len() == 1);
    for words in [&["flush"][..], &["flush", "routes"], &["flush", "all"]] {
        let refused = daemon.run(words);
        assert_eq!(refused.code, Some(2), "{words:?}");
        assert!(
            refused.err.contains("exported to the kernel's table 100")
                && refused.err.contains("--force"),
            "{}",
            refused.err
        );
    }
    assert_eq!(ours(&namespace).len(), 1);
    // Neighbours aren't exported.
    daemon.rtm(&["flush", "neighbours"]);
    daemon.rtm(&["flush", "--force"]);
    until("nothing is in the kernel", || ours(&namespace).is_empty());
}

#[test]
fn without_permission_it_says_so() {
    if !require::root("without_permission_it_says_so") {
        return;
    }
    let namespace = Namespace::with_links();
    let directory = tempfile::tempdir().unwrap();
    let (process, runtime) = namespace.daemon_of_nobody(directory.path(), &["--export", "100"]);
    process.wait_stderr("ready");
    let rtm = |words: &str| {
        let mut rtm = std::process::Command::new(rtm_e2e::binary("rtm"));
        rtm.arg("--runtime-dir").arg(&runtime).args(words.split(' '));
        Process::spawn(rtm).finish()
    };
    let added = rtm("route add 10.1.0.0/16 via 192.168.1.1 table 100");
    assert_eq!(added.code, Some(0), "{}", added.err);
    process.wait_stderr("export: not permitted; CAP_NET_ADMIN would be right");
    until("the route says why", || rtm("-j status").out.contains("Operation not permitted"));
    assert!(rtm("route show table 100").out.contains("rt_offload_failed"));
    assert_eq!(ours(&namespace).len(), 0);
    process.signal(15);
    process.finish();
}

#[test]
fn an_overrun_of_events_ends_as_the_table_wants() {
    if !require::root("an_overrun_of_events_ends_as_the_table_wants") {
        return;
    }
    let namespace = Namespace::with_links();
    let file = many(3000);
    let args = ["--export", "100", "--load", file.path().to_str().unwrap()];
    let daemon = Daemon::start_within(&namespace, CONFIG, &args);
    until("all are there", || ours(&namespace).len() == 3000);
    // Others take half of ours away, and put theirs before some, unseen.
    let (mut del, mut put) = (String::new(), String::new());
    for number in 0..3000 {
        let prefix = format!("10.{}.{}.0/24", number / 250, number % 250);
        if number % 2 == 0 {
            let _ = writeln!(del, "route del {prefix} table 100 proto 77");
        }
        if number % 100 == 1 {
            let _ = writeln!(put, "route prepend {prefix} via 192.168.1.9 proto static table 100");
        }
    }
    for number in 0..10_000 {
        let prefix = format!("11.{}.{}.0/24", number / 250, number % 250);
        let _ = writeln!(put, "route add {prefix} via 192.168.1.9 proto static table 100");
    }
    daemon.process.signal(19);
    namespace.batch(&del);
    namespace.batch(&put);
    daemon.process.signal(18);
    until("an overrun was seen", || export(&daemon)["counts"]["overruns"].as_u64() >= Some(1));
    until("all but 30 are there", || export(&daemon)["installed"] == 2970);
    until("30 are blocked", || export(&daemon)["blocked"] == 30);
    // Of those, ours is still there behind.
    assert_eq!(ours(&namespace).len(), 3000);
    assert_eq!(namespace.ip("route show table 100 proto static").lines().count(), 10_030);
}

#[test]
fn a_named_group_that_changes_changes_its_routes_in_the_kernel() {
    if !require::root("a_named_group_that_changes_changes_its_routes_in_the_kernel") {
        return;
    }
    use rtm_model::{HopSpec, Hops, RouteSpec, RouteType};
    use rtm_netlink::{Builder, NextHopMessage, RouteMessage, flag};
    let namespace = Namespace::with_links();
    let args = ["--export", "100", "--fpm=192.168.1.2:2620"];
    let daemon = Daemon::start_within(&namespace, CONFIG, &args);
    let mut frames = Vec::new();
    let mut frame = |message: &Builder| {
        frames.extend_from_slice(&[1, 1]);
        frames.extend_from_slice(&((message.bytes().len() + 4) as u16).to_be_bytes());
        frames.extend_from_slice(message.bytes());
    };
    let object = |gateway: &str| {
        let mut out = Builder::default();
        let gateway = Some(gateway.parse().unwrap());
        let hop = HopSpec { gateway, link: None, weight: 1, flags: Default::default() };
        NextHopMessage::encode_hop(&mut out, flag::CREATE | flag::REPLACE, 0, 9, &hop);
        out
    };
    frame(&object("192.168.1.7"));
    for number in 0..1000 {
        let prefix = format!("10.{}.{}.0/24", number / 250, number % 250);
        let mut spec = RouteSpec::new(prefix.parse().unwrap());
        (spec.kind, spec.protocol, spec.table) = (Some(RouteType::Unicast), Some(186), 100);
        (spec.scope, spec.hops) = (Some(0), Hops::Named(9));
        let mut out = Builder::default();
        RouteMessage::encode(&mut out, flag::CREATE | flag::REPLACE, 0, &spec).unwrap();
        frame(&out);
    }
    let mut zebra =
        within(&namespace, || std::net::TcpStream::connect("192.168.1.2:2620").unwrap());
    std::io::Write::write_all(&mut zebra, &frames).unwrap();
    let by = |gateway: &str| {
        ours(&namespace).iter().filter(|line| line.contains(&format!("via {gateway} "))).count()
    };
    until("all are there", || by("192.168.1.7") == 1000);
    let mut changed = vec![1, 1];
    let message = object("192.168.1.8");
    changed.extend_from_slice(&((message.bytes().len() + 4) as u16).to_be_bytes());
    changed.extend_from_slice(message.bytes());
    std::io::Write::write_all(&mut zebra, &changed).unwrap();
    until("all are others", || by("192.168.1.8") == 1000);
    assert_eq!(daemon.json(&["status"])["export"]["installed"], 1000);
}

/// Does something in a namespace, by a thread of its own.
fn within<T: Send + 'static>(
    namespace: &Namespace,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let path = format!("/run/netns/{}", namespace.name());
    let thread = std::thread::spawn(move || {
        let file = std::fs::File::open(path).unwrap();
        let network = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(network))
            .unwrap();
        work()
    });
    thread.join().unwrap()
}

#[test]
fn other_tables_wake_no_export() {
    if !require::root("other_tables_wake_no_export") {
        return;
    }
    let namespace = Namespace::with_links();
    namespace.settle();
    let daemon = Daemon::start_within(&namespace, CONFIG, &["--export", "100"]);
    daemon.rtm(&["route", "add", "10.1.0.0/16", "via", "192.168.1.1", "table", "100"]);
    until("it is there", || ours(&namespace).len() == 1);
    let wakeups = || daemon.json(&["status"])["turns"]["wakeups"]["export"].as_u64().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let before = wakeups();
    let mut lines = String::new();
    for number in 0..1000 {
        for table in ["254", "200", "2000"] {
            let prefix = format!("10.{}.{}.0/24", number / 250, number % 250);
            let _ = writeln!(lines, "route add {prefix} via 192.168.1.1 table {table}");
        }
    }
    namespace.batch(&lines);
    assert_eq!(wakeups(), before, "3,000 events of other tables");
}
