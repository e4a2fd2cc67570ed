//! Those that follow: `client`, `monitor`, `wait`.

use rtm_e2e::{Daemon, Process};
use serde_json::{Value, json};

const INT: i32 = 2;
const TERM: i32 = 15;

fn rtm(daemon: &Daemon, line: &str) -> String {
    daemon.rtm(&line.split(' ').collect::<Vec<_>>())
}

/// Waits until standard output holds so many lines; gives them.
fn lines(process: &Process, count: usize) -> Vec<String> {
    lines_where(process, count, |_| true)
}

/// The same of the lines for which `counts` holds.
fn lines_where(process: &Process, count: usize, counts: fn(&str) -> bool) -> Vec<String> {
    let end = std::time::Instant::now() + rtm_e2e::process::PATIENCE;
    loop {
        let text = process.stdout();
        let lines: Vec<String> =
            text.lines().filter(|line| counts(line)).map(str::to_owned).collect();
        if lines.len() >= count && text.ends_with('\n') {
            return lines;
        }
        assert!(std::time::Instant::now() < end, "{text}{}", process.stderr());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_client_once() {
    let daemon = Daemon::start(&[]);
    rtm(&daemon, "route add 10/8 via 192.0.2.1 dev a");
    rtm(&daemon, "route add 2001:db8::/32 dev a table 7");
    rtm(&daemon, "neigh add 10.0.0.7 lladdr 02:00:00:00:00:07");
    let output = daemon.run(&["client", "--once"]);
    assert_eq!(output.code, Some(0));
    assert_eq!(
        output.out,
        "10.0.0.0/8 via 192.0.2.1 dev a proto static \n\
         2001:db8::/32 dev a table 7 proto static metric 1024 pref medium\n\
         10.0.0.7 lladdr 02:00:00:00:00:07 PERMANENT \n"
    );
    let states: Vec<&str> = output.err.lines().collect();
    assert_eq!(states.len(), 3, "{states:?}");
    assert!(states[0].starts_with("rtm: connected: epoch "), "{states:?}");
    assert_eq!(
        &states[1..],
        ["rtm: syncing: snapshot", "rtm: live: revision 3, 2 routes, 1 neighbours"]
    );
    assert_eq!(rtm(&daemon, "client --once --verify"), rtm(&daemon, "digest"));
    assert_eq!(daemon.json(&["client", "--once", "--verify"]), daemon.json(&["digest"]));
    let value = daemon.json(&["client", "--once"]);
    assert_eq!(value["neighbours"][0]["dst"], "10.0.0.7");
    assert_eq!(value["routes"].as_array().unwrap().len(), 2);
    let counts = daemon.json(&["client", "--once", "--count"]);
    assert_eq!(
        (&counts["snapshots"], &counts["resyncs"], &counts["revision"]),
        (&json!(1), &json!(0), &json!(3))
    );
}

#[test]
fn a_client_follows_until_it_is_told_to_stop() {
    let daemon = Daemon::start(&[]);
    for (signal, name) in [(INT, "one"), (TERM, "two")] {
        let client = daemon.spawn(&["client", "--name", name, "--verify", "--count"]);
        client.wait_stderr("rtm: live: ");
        rtm(&daemon, &format!("route replace 10/8 dev {name}"));
        rtm(&daemon, &format!("sync --client {name} --timeout 60"));
        let list = daemon.json(&["client", "list"]);
        assert_eq!(list.as_array().unwrap().len(), 1);
        assert_eq!((&list[0]["name"], &list[0]["state"]), (&json!(name), &json!("live")));
        assert_eq!(list[0]["pid"], client.pid());
        client.signal(signal);
        let output = client.finish();
        assert_eq!(output.code, Some(0), "{}", output.err);
        let last: Vec<&str> = output.out.lines().collect();
        assert!(last[0].starts_with("revision "), "{last:?}");
        assert_eq!(format!("{}\n", last[1]), rtm(&daemon, "digest"));
    }
    assert_eq!(daemon.json(&["client", "list"]), json!([]));
    // Who only counts keeps no copy, and says what came.
    let client = daemon.spawn(&["client", "--count"]);
    client.wait_stderr("rtm: live: revision ");
    rtm(&daemon, "route add 20/8 dev x");
    rtm(&daemon, "route del 20/8");
    // It can't acknowledge, which `sync` says; so look at what it was sent.
    let revision = daemon.json(&["digest"])["revision"].clone();
    while daemon.json(&["client", "list"])[0]["revision"] != revision {}
    client.signal(TERM);
    let output = client.finish();
    assert_eq!(output.code, Some(0), "{}", output.err);
    assert!(output.out.contains(&format!("revision {revision} records ")), "{}", output.out);
}

#[test]
fn a_client_cut_before_it_is_synchronised_says_by_which_signal() {
    // Somebody who accepts and never answers.
    let dir = tempfile::tempdir().unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(dir.path().join("rtm.sock")).unwrap();
    for (signal, code) in [(INT, 130), (TERM, 143)] {
        let client = Process::start(
            "rtm",
            ["--runtime-dir", dir.path().to_str().unwrap(), "client", "--verify"],
        );
        // The signals are taken over before it connects; give it time to.
        std::thread::sleep(std::time::Duration::from_millis(300));
        client.signal(signal);
        let output = client.finish();
        assert_eq!((output.code, output.out.as_str()), (Some(code), ""), "{}", output.err);
    }
}

#[test]
fn a_client_outlives_its_daemon() {
    let daemon = Daemon::start(&[]);
    rtm(&daemon, "route add 10/8 dev a");
    let client = daemon.spawn(&["client", "--verify"]);
    client.wait_stderr("rtm: live: revision 1, 1 routes");
    let directory = daemon.kill();
    client.wait_stderr("nobody listens there; ");
    // Time for some more attempts: a reason is said once, not at each.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let daemon = Daemon::start_in(directory, &[]);
    rtm(&daemon, "route add 11/8 dev b");
    rtm(&daemon, "route add 12/8 dev b");
    while daemon.json(&["client", "list"])[0]["state"] != "live" {}
    rtm(&daemon, "sync --timeout 60");
    client.signal(TERM);
    let output = client.finish();
    assert_eq!(output.code, Some(0), "{}", output.err);
    assert_eq!(output.out, rtm(&daemon, "digest"));
    let mut reasons: Vec<&str> = output
        .err
        .lines()
        .filter_map(|line| line.split_once("; trying again"))
        .map(|(why, _)| why)
        .collect();
    let said = reasons.len();
    reasons.sort_unstable();
    reasons.dedup();
    assert_eq!(reasons.len(), said, "{}", output.err);
    assert!(said >= 2, "{}", output.err);
}

#[test]
fn who_is_killed_stays_away() {
    let daemon = Daemon::start(&[]);
    let client = daemon.spawn(&["client", "--name", "victim"]);
    client.wait_stderr("rtm: live: ");
    rtm(&daemon, "client kill victim");
    let output = client.finish();
    assert_eq!(output.code, Some(2), "{}", output.err);
    assert!(
        output.err.lines().last().unwrap().starts_with("rtm: an admin ended this session: "),
        "{}",
        output.err
    );
    assert_eq!(daemon.json(&["client", "list"]), json!([]));
}

#[test]
fn the_menu() {
    let daemon = Daemon::start(&[]);
    for line in [
        "route add 122.1.1.1/32 via 10.1.1.1 dev Ethernet1",
        "route add 130.1.1.0/24 via 10.1.1.1 dev Ethernet1",
        "neigh add 10.0.0.7 lladdr 02:00:00:00:00:07 dev Ethernet1",
    ] {
        rtm(&daemon, line);
    }
    let mut client = daemon.spawn(&["client", "--menu"]);
    // What is typed at once waits for the first synchronisation.
    client.write("1\n2\n3\n122.1.1.1\n3 9.9.9.9\n4\n5\n");
    client.wait_stdout("received: ");
    client.write("7\n\nrubbish\n3\nx\nroute add 100.100.100.0/24 via 50.1.1.1 dev Ethernet4\nroute show 100.100.100.0/24\n");
    client.wait_stdout("100.100.100.0/24 via 50.1.1.1 dev Ethernet4 proto static");
    rtm(&daemon, "sync --timeout 60");
    client.write("1\n0\n");
    let output = client.finish();
    assert_eq!(output.code, Some(0), "{}", output.err);
    let out = &output.out;
    for expected in [
        "1 show routing table\n2 show MAC table\n3 look up an address\n4 verify\n5 status\n0 quit\n> ",
        "Destination Subnet (Key)",
        "Gateway IP",
        "OIF",
        "MAC address (Key)",
        "02:00:00:00:00:07",
        "address: 122.1.1.1 122.1.1.1 via 10.1.1.1 dev Ethernet1 proto static \n",
        "> 9.9.9.9 unreachable\n",
        "equal: recomputed, and as the daemon has them\n",
        "state: live\n",
        "rtm: menu: 7: no such entry; 0 to 5 would be right\n",
        "rtm: command: rubbish: unknown; ",
        "rtm: address: x: not an IP address; like 10.1.1.1 or 2001:db8::1\n",
    ] {
        assert!(out.contains(expected), "{expected:?} is not in {out}");
    }
    let row = |line: &str, prefix: &str, rest: [&str; 2]| {
        let words: Vec<&str> = line.split(['|', ' ']).filter(|word| !word.is_empty()).collect();
        words == [prefix, rest[0], rest[1]]
    };
    let shown =
        |prefix: &str, rest: [&str; 2]| out.lines().filter(|line| row(line, prefix, rest)).count();
    assert_eq!(shown("122.1.1.1/32", ["10.1.1.1", "Ethernet1"]), 2, "{out}");
    assert_eq!(shown("100.100.100.0/24", ["50.1.1.1", "Ethernet4"]), 1, "{out}");
    assert_eq!(shown("02:00:00:00:00:07", ["10.0.0.7", "Ethernet1"]), 1, "{out}");
    // The end of input is as good as 0.
    let output = daemon.spawn(&["client", "--menu", "--verify"]).finish();
    assert_eq!(output.code, Some(0), "{}", output.err);
    assert!(output.out.ends_with(&rtm(&daemon, "digest")), "{}", output.out);
}

#[test]
fn monitor_prints_what_ip_would() {
    let daemon = Daemon::start(&[]);
    rtm(&daemon, "route add 9/8 dev a");
    let monitor = daemon.spawn(&["monitor", "all"]);
    let routes = daemon.spawn(&["monitor", "route", "root", "10/8", "--initial"]);
    let json = daemon.spawn(&["-j", "monitor"]);
    while daemon
        .json(&["client", "list"])
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["state"] == "live")
        .count()
        < 3
    {}
    for line in [
        "route add 10/8 via 192.0.2.1 dev a",
        "route replace 10/8 via 192.0.2.2 dev a",
        "neigh add 10.0.0.7 lladdr 02:00:00:00:00:07 dev a",
        "route del 10/8",
        "neigh del 10.0.0.7 dev a",
        "flush --force",
        "route add 10.1/16 nexthop via 1.1.1.1 nexthop via 1.1.1.2",
    ] {
        rtm(&daemon, line);
    }
    // A link that a flush left without users goes some turns later.
    let shown = lines_where(&monitor, 9, |line| !line.starts_with("[LINK]"));
    assert_eq!(
        shown,
        [
            "[ROUTE]10.0.0.0/8 via 192.0.2.1 dev a proto static ",
            "[ROUTE]10.0.0.0/8 via 192.0.2.2 dev a proto static ",
            "[NEIGH]10.0.0.7 dev a lladdr 02:00:00:00:00:07 PERMANENT ",
            "[ROUTE]Deleted 10.0.0.0/8 via 192.0.2.2 dev a proto static ",
            "[NEIGH]Deleted 10.0.0.7 dev a lladdr 02:00:00:00:00:07 PERMANENT ",
            "[FLUSH]Flushed routes neighbours ",
            "[ROUTE]10.1.0.0/16 proto static ",
            "\tnexthop via 1.1.1.1 weight 1 ",
            "\tnexthop via 1.1.1.2 weight 1 ",
        ],
        "{}",
        monitor.stderr()
    );
    let shown = lines(&routes, 6);
    assert_eq!(
        &shown[..3],
        &[
            "10.0.0.0/8 via 192.0.2.1 dev a proto static ",
            "10.0.0.0/8 via 192.0.2.2 dev a proto static ",
            "Deleted 10.0.0.0/8 via 192.0.2.2 dev a proto static ",
        ]
    );
    // Each line is a value.
    let shown = lines_where(&json, 7, |line| !line.contains("\"ifname\""));
    let values: Vec<Value> =
        shown.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    let of =
        |wanted: &str| values.iter().filter(|value| value["dst"] == wanted).collect::<Vec<_>>();
    assert_eq!(of("10.0.0.0/8").len(), 3, "{values:?}");
    assert_eq!(of("10.0.0.0/8")[2]["deleted"], true);
    assert_eq!(of("10.1.0.0/16")[0]["nexthops"].as_array().unwrap().len(), 2);
    assert!(
        values.iter().any(|value| value["flushed"] == json!(["routes", "neighbours"])),
        "{values:?}"
    );
    for process in [monitor, routes, json] {
        process.signal(INT);
        assert_eq!(process.finish().code, Some(130));
    }
}

#[test]
fn monitor_with_times_and_from_a_revision() {
    let daemon = Daemon::start(&[]);
    for line in
        ["route add 10/8 dev a", "route add 11/8 dev a", "route del 10/8", "route add 12/8 dev b"]
    {
        rtm(&daemon, line);
    }
    let epoch = daemon.json(&["digest"])["epoch"].as_str().unwrap().to_owned();
    // Everything since revision 1: what changed, in the order in which it last did.
    let from = format!("{epoch}:1");
    let monitor = daemon.spawn(&["monitor", "route", "--from", &from]);
    assert_eq!(
        lines(&monitor, 3),
        [
            "11.0.0.0/8 dev a proto static scope link ",
            "Deleted 10.0.0.0/8 ",
            "12.0.0.0/8 dev b proto static scope link ",
        ],
        "{}",
        monitor.stderr()
    );
    rtm(&daemon, "route del 12/8");
    assert_eq!(lines(&monitor, 4)[3], "Deleted 12.0.0.0/8 dev b proto static scope link ");
    monitor.signal(INT);
    monitor.finish();
    // Another history: anew. (The state may be that of a moment ago, and then
    // what changed since.)
    let monitor = daemon.spawn(&["monitor", "route", "--from", "0123456789abcdef:7"]);
    loop {
        let shown = lines(&monitor, 2);
        assert_eq!(shown[0], "[SNAPSHOT]");
        let mut there = std::collections::BTreeSet::new();
        for line in &shown[1..] {
            match line.strip_prefix("Deleted ") {
                Some(line) => there.remove(line),
                None => there.insert(line.as_str()),
            };
        }
        if there.into_iter().eq(["11.0.0.0/8 dev a proto static scope link "]) {
            break;
        }
    }
    monitor.signal(INT);
    monitor.finish();
    let times = daemon.spawn(&["-ts", "monitor", "route", "--initial"]);
    let line = lines(&times, 1).remove(0);
    let (time, rest) = line.strip_prefix('[').unwrap().split_once("] ").unwrap();
    assert_eq!((time.len(), rest), (26, "11.0.0.0/8 dev a proto static scope link "), "{line}");
    times.signal(INT);
    times.finish();
    let times = daemon.spawn(&["-t", "monitor", "route", "--initial"]);
    let shown = lines(&times, 2);
    assert!(shown[0].starts_with("Timestamp: ") && shown[0].ends_with(" usec"), "{shown:?}");
    times.signal(INT);
    times.finish();
}

#[test]
fn waiting_for_scripts() {
    let daemon = Daemon::start(&[]);
    let route = daemon.spawn(&["wait", "route", "10/8", "dev", "a", "--timeout", "60"]);
    let neighbour = daemon.spawn(&["wait", "neigh", "lladdr", "02:00:00:00:00:07"]);
    rtm(&daemon, "route add 10/8 dev b");
    rtm(&daemon, "route replace 10/8 dev a");
    rtm(&daemon, "neigh add 10.0.0.7 lladdr 02:00:00:00:00:07");
    for process in [route, neighbour] {
        let output = process.finish();
        assert_eq!((output.code, output.out.as_str(), output.err.as_str()), (Some(0), "", ""));
    }
    let gone = daemon.spawn(&["wait", "route", "root", "10/8", "--gone"]);
    rtm(&daemon, "route del 10/8");
    assert_eq!(gone.finish().code, Some(0));
    assert_eq!(rtm(&daemon, "wait neigh 10.0.0.7"), "");
    let output = daemon.run(&["wait", "neigh", "10.0.0.7", "--gone", "--timeout", "20ms"]);
    assert_eq!((output.code, output.err.lines().count()), (Some(4), 1), "{}", output.err);
    assert!(output.err.contains("still there after 20ms"), "{}", output.err);
}
