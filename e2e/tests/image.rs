//! The tables in shared memory with the real binaries: neighbours' keys by
//! socket and their values in the image, growth, restarts, a killed daemon.

use rtm_e2e::{Daemon, Process};

fn neighbour(daemon: &Daemon, verb: &str, ip: &str, mac: &str) {
    daemon.rtm(&["neigh", verb, ip, "lladdr", mac, "dev", "eth0"]);
}

fn menu(daemon: &Daemon, args: &[&str]) -> Process {
    let client = daemon.spawn(&[&["client", "--menu"], args].concat());
    client.wait_stdout("0 quit");
    client
}

/// Specification A.6: the keys come over the socket, the values are read in
/// shared memory by key, and a late client gets the whole list.
#[test]
fn keys_by_socket_values_by_memory() {
    let daemon = Daemon::start(&["--no-console"]);
    let mut early = menu(&daemon, &["--keys", "--name", "early"]);
    neighbour(&daemon, "add", "10.1.1.1", "02:00:00:00:00:01");
    neighbour(&daemon, "add", "10.1.1.2", "02:00:00:00:00:01");
    neighbour(&daemon, "add", "10.1.1.3", "02:00:00:00:00:03");
    daemon.rtm(&["route", "add", "122.1.1.1/32", "via", "10.1.1.1", "dev", "Ethernet1"]);
    daemon.rtm(&["sync"]);
    early.write("2\n");
    let shown = early.wait_stdout("10.1.1.3");
    assert!(shown.contains("02:00:00:00:00:01        | 10.1.1.1"), "{shown}");
    assert!(shown.contains("02:00:00:00:00:01        | 10.1.1.2"), "{shown}");
    // A value that changes under its key.
    daemon.rtm(&["neigh", "del", "10.1.1.3", "dev", "eth0"]);
    neighbour(&daemon, "add", "10.1.1.4", "02:00:00:00:00:01");
    daemon.rtm(&["sync"]);
    early.write("2\n");
    early.wait_stdout("10.1.1.4");
    early.write("4\n0\n");
    let output = early.finish();
    assert_eq!(output.code, Some(0), "{}", output.err);
    assert!(output.out.contains("equal: recomputed"), "{}", output.out);
    let last = output.out.rsplit("MAC address (Key)").next().unwrap();
    assert!(!last.contains("02:00:00:00:00:03"), "{last}");
    // A late one has the whole list, and the routing table beside it.
    let mut late = menu(&daemon, &["--keys", "--name", "late"]);
    daemon.rtm(&["sync"]);
    late.write("1\n2\n4\n");
    late.wait_stdout("equal: recomputed");
    let shown = late.stdout();
    for cell in ["122.1.1.1/32", "| 10.1.1.1 ", "| 10.1.1.2 ", "| 10.1.1.4 "] {
        assert!(shown.contains(cell), "{cell}: {shown}");
    }
    // What came were keys: its copy has no neighbour, and the daemon's keys.
    let daemons = daemon.rtm(&["digest"]);
    let of_daemon: Vec<&str> = daemons.split_whitespace().collect();
    let line = shown.lines().find(|line| line.contains(of_daemon[0])).unwrap();
    let words: Vec<&str> = line.trim_start_matches("> ").split_whitespace().collect();
    assert_eq!((words[1], words[2], words[4]), (of_daemon[1], of_daemon[2], of_daemon[4]));
    assert_eq!(words[3], "0".repeat(32));
    // A flush empties the keys, too.
    daemon.rtm(&["flush", "all", "--force"]);
    daemon.rtm(&["sync"]);
    late.write("5\n2\n0\n");
    let output = late.finish();
    assert_eq!(output.code, Some(0), "{}", output.err);
    let last = output.out.rsplit("MAC address (Key)").next().unwrap();
    assert!(!last.contains("02:00:00:00"), "{last}");
}

fn load(daemon: &Daemon, count: u32, more: &[&str]) {
    let lines: String = (0..count)
        .map(|n| {
            let prefix = std::net::Ipv4Addr::from(0x0a00_0000 + (n << 8));
            format!("route replace {prefix}/24 via 10.255.0.{} dev Ethernet{}\n", n % 200, n % 32)
        })
        .collect();
    let mut loader = daemon.spawn(&[&["route", "load", "-"], more].concat());
    loader.write(&lines);
    loader.close_stdin();
    let output = loader.finish();
    assert_eq!(output.code, Some(0), "{}", output.err);
}

/// Who maps the tables sees them grow into larger objects, by itself.
#[test]
fn mapped_followers_follow_growth() {
    let daemon = Daemon::start(&["--no-console"]);
    daemon.rtm(&["route", "add", "192.0.2.0/24", "dev", "eth0"]);
    let follower = daemon.spawn(&["client", "--mapped", "--count", "--verify"]);
    follower.wait_stderr("attached: ");
    let mut lookups = daemon.spawn(&["lookup", "-"]);
    lookups.write("192.0.2.9\n");
    lookups.wait_stdout("192.0.2.0/24");
    load(&daemon, 150_000, &[]);
    load(&daemon, 160_000, &["--atomic"]);
    lookups.write("10.2.3.4\n");
    lookups.wait_stdout("10.2.3.0/24 via");
    lookups.close_stdin();
    let output = lookups.finish();
    assert_eq!(output.code, Some(0), "{}", output.err);
    // A barrier waits for the mapped one, too.
    daemon.rtm(&["sync"]);
    let status = daemon.json(&["status", "image"]);
    assert_eq!(status["routes_v4"], 160_001);
    assert_eq!(status["writer"], "live");
    assert!(status["object_bytes"].as_u64().unwrap() > 8 << 20, "{status}");
    follower.signal(15);
    let output = follower.finish();
    assert_eq!(output.code, Some(0), "{}{}", output.out, output.err);
    let digest = daemon.rtm(&["digest"]);
    assert!(output.out.contains(digest.trim()), "{} {digest}", output.out);
    let count = |name: &str| -> u64 {
        let mut words = output.out.split_whitespace();
        words.find(|word| *word == name);
        words.next().unwrap().parse().unwrap()
    };
    assert!(count("attaches") >= 2, "{}", output.out);
    assert!(count("wakeups") > 0 && count("records") + count("rereads") > 0, "{}", output.out);
    assert_eq!(daemon.rtm(&["lookup", "10.2.3.4"]), daemon.rtm(&["route", "get", "10.2.3.4"]));
}

/// A killed daemon: readers keep the last table, can tell, and go on with the
/// next one.
#[test]
fn a_killed_daemon_leaves_its_last_table() {
    let daemon = Daemon::start(&["--no-console"]);
    daemon.rtm(&["route", "add", "10.0.0.0/8", "via", "192.0.2.1", "dev", "eth0"]);
    let mut client = menu(&daemon, &["--mapped"]);
    let mut lookups = daemon.spawn(&["lookup", "-"]);
    lookups.write("10.1.1.1\n");
    lookups.wait_stdout("10.1.1.1 10.0.0.0/8");
    let directory = daemon.kill();
    client.wait_stderr("the last table stays readable");
    client.write("3 10.1.2.3\n5\n");
    client.wait_stdout("10.1.2.3 10.0.0.0/8 via 192.0.2.1");
    client.wait_stdout("writer gone");
    lookups.write("10.1.1.2\n");
    lookups.wait_stdout("10.1.1.2 10.0.0.0/8");
    let next = Daemon::start_in(directory, &["--no-console"]);
    next.rtm(&["route", "add", "11.0.0.0/8", "via", "192.0.2.2", "dev", "eth0"]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !client.stdout().contains("11.1.2.3 11.0.0.0/8") {
        assert!(std::time::Instant::now() < deadline, "{}", client.stdout());
        client.write("3 11.1.2.3\n");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    client.write("4\n0\n");
    let output = client.finish();
    assert_eq!(output.code, Some(0), "{}", output.err);
    assert!(output.out.contains("equal: recomputed"), "{}", output.out);
    lookups.close_stdin();
    assert_eq!(lookups.finish().code, Some(0));
}

#[test]
fn lookup_answers_lines_and_json() {
    let daemon = Daemon::start(&["--no-console"]);
    daemon.rtm(&["route", "add", "10.0.0.0/8", "via", "192.0.2.1", "dev", "eth0"]);
    daemon.rtm(&["route", "add", "blackhole", "10.9.0.0/16"]);
    daemon.rtm(&["route", "add", "10.0.0.0/8", "via", "192.0.2.7", "dev", "eth7", "table", "7"]);
    let output = daemon.run(&["lookup", "10.1.1.1", "9.9.9.9"]);
    assert_eq!(output.code, Some(2));
    assert!(output.out.ends_with("9.9.9.9 unreachable\n"), "{}", output.out);
    assert!(daemon.rtm(&["lookup", "table", "7", "10.1.1.1"]).contains("192.0.2.7"));
    let mut json = daemon.spawn(&["lookup", "-", "--json-field", "src,dst"]);
    json.write("{\"src\":\"10.1.1.1\",\"dst\":\"8.8.8.8\",\"n\":1}\n{\"src\":\"10.9.1.1\"}\n");
    json.close_stdin();
    let output = json.finish();
    assert_eq!(output.code, Some(0), "{}", output.err);
    assert_eq!(
        output.out,
        "{\"src\":\"10.1.1.1\",\"dst\":\"8.8.8.8\",\"n\":1,\"src_prefix\":\"10.0.0.0/8\",\
         \"src_gateway\":\"192.0.2.1\",\"src_oif\":\"eth0\",\"dst_prefix\":null}\n\
         {\"src\":\"10.9.1.1\",\"src_prefix\":\"10.9.0.0/16\",\"src_type\":\"blackhole\",\
         \"src_gateway\":null,\"src_oif\":null}\n"
    );
    let mut wrong = daemon.spawn(&["lookup", "-"]);
    wrong.write("10.1.1.1\nten\n10.2.2.2\n");
    wrong.close_stdin();
    let output = wrong.finish();
    assert_eq!(output.code, Some(1));
    assert_eq!(output.out.lines().count(), 2);
    assert!(output.err.contains("line 2: ten: not an IP address"), "{}", output.err);
}
