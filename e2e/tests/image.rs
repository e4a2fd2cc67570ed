//! The tables in shared memory with the real binaries: neighbours' keys by
//! socket and their values in the image, growth, restarts, a killed daemon.

use rtm_e2e::{Daemon, MemoryGroup, Process, binary};

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
    // Without a menu, too.
    let shown = daemon.rtm(&["client", "--keys", "--once"]);
    for ip in ["10.1.1.1", "10.1.1.2", "10.1.1.4"] {
        assert!(shown.contains(&format!("{ip} dev eth0 lladdr 02:00:00:00:00:01")), "{shown}");
    }
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

/// The memory that the daemon's control group leaves is asked before a larger
/// object is begun: a change that finds no room is refused, and nothing is lost.
#[test]
fn what_the_control_group_leaves_is_the_limit() {
    let Some(group) = MemoryGroup::new("what_the_control_group_leaves_is_the_limit", 50 << 20)
    else {
        return;
    };
    let directory = tempfile::Builder::new().prefix("rtm-e2e-").tempdir().unwrap();
    let config = directory.path().join("test.toml");
    std::fs::write(&config, "[limits]\njournal_bytes = \"1 MiB\"\nimage_ring_bytes = \"8 MiB\"\n")
        .unwrap();
    let args = ["--no-console", "--config", config.to_str().unwrap()];
    let daemon = Daemon::start_by(group.command(&binary("rtmd")), directory, &args);
    let lines: String = (0..300_000_u32)
        .map(|n| {
            let prefix = std::net::Ipv4Addr::from(0x0a00_0000 + (n << 8));
            format!("route replace {prefix}/24 via 10.255.0.{} dev Ethernet{}\n", n % 200, n % 32)
        })
        .collect();
    let file = daemon.directory().join("routes");
    std::fs::write(&file, lines).unwrap();
    let load = || daemon.run(&["route", "load", file.to_str().unwrap()]);
    let refused = load();
    assert_eq!(refused.code, Some(2), "{}{}", refused.out, refused.err);
    assert!(refused.err.contains("no room in the image"), "{}", refused.err);
    assert!(refused.err.contains("control group has"), "{}", refused.err);
    // What was applied is everywhere, what was refused nowhere.
    let status = daemon.json(&["status", "image"]);
    let applied = status["routes_v4"].as_u64().unwrap();
    assert!(applied > 10_000 && status["refused"].as_u64().unwrap() > 0, "{status}");
    assert_eq!(status["failed"], serde_json::Value::Null);
    assert_eq!(daemon.json(&["status"])["routes_v4"], applied);
    let digest = daemon.rtm(&["digest"]);
    assert_eq!(daemon.rtm(&["client", "--once", "--verify"]), digest);
    assert_eq!(daemon.rtm(&["client", "--mapped", "--once", "--verify"]), digest);
    daemon.rtm(&["route", "del", "10.0.7.0/24"]);
    // With more memory it goes on.
    group.set_limit(1 << 30);
    let whole = load();
    assert_eq!(whole.code, Some(0), "{}", whole.err);
    assert_eq!(daemon.json(&["status", "image"])["routes_v4"], 300_000);
    let digest = daemon.rtm(&["digest"]);
    assert_eq!(daemon.rtm(&["client", "--mapped", "--once", "--verify"]), digest);
}

/// Followers of the ring, woken by a pipe and by the futex: whoever was stopped
/// until more came than the ring holds reads the tables again; a killed daemon's
/// successor and its growth are attached without help.
#[test]
fn ring_followers_reread_and_attach_again() {
    const STOP: i32 = 19;
    const CONT: i32 = 18;
    let limits = "[limits]\nimage_ring_bytes = \"64 KiB\"\n";
    let daemon = Daemon::start_with(limits, &["--no-console"]);
    daemon.rtm(&["route", "add", "192.0.2.0/24", "dev", "eth0"]);
    let followers: Vec<Process> = [&["--futex"][..], &[]]
        .iter()
        .map(|how| daemon.spawn(&[&["client", "--mapped", "--count", "--verify"], *how].concat()))
        .collect();
    for follower in &followers {
        follower.wait_stderr("attached: ");
        follower.signal(STOP);
    }
    load(&daemon, 20_000, &[]);
    for follower in &followers {
        follower.signal(CONT);
    }
    // A barrier is answered by who shows what there is.
    daemon.rtm(&["sync"]);
    let directory = daemon.kill();
    for follower in &followers {
        follower.wait_stderr("the last table stays readable");
    }
    let config = directory.path().join("test.toml");
    let args = ["--no-console", "--config", config.to_str().unwrap()];
    let next = Daemon::start_in(directory, &args);
    let epoch = next.rtm(&["digest"]).split(' ').next().unwrap().to_owned();
    for follower in &followers {
        follower.wait_stderr(&format!("attached: epoch {epoch}"));
    }
    load(&next, 400_000, &[]);
    assert!(next.json(&["status", "image"])["object_bytes"].as_u64().unwrap() > 8 << 20);
    next.rtm(&["sync"]);
    let digest = next.rtm(&["digest"]);
    for follower in followers {
        follower.signal(15);
        let output = follower.finish();
        assert_eq!(output.code, Some(0), "{}{}", output.out, output.err);
        assert!(output.out.contains(digest.trim()), "{} {digest}", output.out);
        // Lapped at least once, and another daemon's tables.
        assert!(count(&output.out, "rereads") >= 2, "{}", output.out);
        assert!(count(&output.out, "attaches") >= 3, "{}", output.out);
        assert!(count(&output.out, "wakeups") > 0, "{}", output.out);
    }
}

/// A figure of what `--count` printed.
fn count(out: &str, name: &str) -> u64 {
    let mut words = out.split_whitespace();
    words.find(|word| *word == name);
    words.next().unwrap().parse().unwrap()
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
    let count = |name: &str| count(&output.out, name);
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

/// No room under /dev/shm for the copy by name: it goes, the image stays, and when
/// there is room it is published again.
#[test]
fn a_published_name_comes_back_when_there_is_room() {
    if !rtm_e2e::require::root("a_published_name_comes_back_when_there_is_room") {
        return;
    }
    // A /dev/shm of its own, in a mount namespace of its own.
    let mut command = std::process::Command::new("unshare");
    let script = "mount -t tmpfs -o size=12m tmpfs /dev/shm && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script, "rtmd"]).arg(binary("rtmd"));
    let directory = tempfile::Builder::new().prefix("rtm-e2e-").tempdir().unwrap();
    let daemon = Daemon::start_by(command, directory, &["--no-console", "--publish-name"]);
    let inside = |args: &[&str]| {
        let target = daemon.process.pid().to_string();
        let mut command = std::process::Command::new("nsenter");
        command.args(["--target", &target, "--mount", "--"]).args(args);
        Process::spawn(command).finish()
    };
    let name = daemon.json(&["status", "image"])["name"].as_str().unwrap().to_owned();
    let path = format!("/dev/shm{name}");
    assert_eq!(inside(&["test", "-f", &path]).code, Some(0));
    load(&daemon, 150_000, &[]);
    let status = daemon.json(&["status", "image"]);
    assert!(status["object_bytes"].as_u64().unwrap() > 12 << 20, "{status}");
    assert_eq!(status["name"], serde_json::Value::Null, "{status}");
    assert!(status["name_failed"].as_str().unwrap().contains(&name), "{status}");
    assert_eq!(inside(&["test", "-e", &path]).code, Some(1));
    let digest = daemon.rtm(&["digest"]);
    assert_eq!(daemon.rtm(&["client", "--mapped", "--once", "--verify"]), digest);
    let remounted = inside(&["mount", "-o", "remount,size=200m", "/dev/shm"]);
    assert_eq!(remounted.code, Some(0), "{}", remounted.err);
    // At once, as the limits may have changed; otherwise after some thousand turns.
    daemon.rtm(&["reload"]);
    let start = std::time::Instant::now();
    let shown = loop {
        let status = daemon.json(&["status", "image"]);
        if status["name"] == name.as_str() {
            break status;
        }
        assert!(start.elapsed() < rtm_e2e::process::PATIENCE, "{status}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert_eq!(shown["name_failed"], serde_json::Value::Null);
    let size = inside(&["stat", "-c", "%s", &path]).out;
    assert_eq!(size.trim(), shown["object_bytes"].to_string());
}

/// `rtm status image`: layout, sizes, writer, nodes, and what only the asker counts.
#[test]
fn status_shows_what_the_image_is_made_of() {
    let daemon = Daemon::start(&["--no-console"]);
    load(&daemon, 3000, &[]);
    daemon.rtm(&["route", "add", "2001:db8::/32", "dev", "eth0", "table", "7"]);
    daemon.rtm(&["neigh", "add", "10.1.1.1", "lladdr", "02:00:00:00:00:01", "dev", "eth0"]);
    let status = daemon.json(&["status", "image"]);
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or_else(|| panic!("{value}"));
    assert_eq!((&status["writer"], &status["revision"]), (&"live".into(), &3002.into()));
    assert_eq!((&status["repeats"], &status["busy"]), (&0.into(), &0.into()), "{status}");
    assert_eq!(
        status["routing_tables"],
        serde_json::json!([
            { "table": 7, "routes_v4": 0, "routes_v6": 1 },
            { "table": 254, "routes_v4": 3000, "routes_v6": 0 },
        ])
    );
    let rows = |name: &str| status[name].as_array().unwrap().clone();
    let tree = rows("trees").into_iter().find(|tree| tree["name"] == "routes_v4").unwrap();
    assert_eq!(number(&tree["entries"]), 3000);
    assert!(number(&tree["height"]) >= 2 && number(&tree["leaves"]) >= 3000 / 42, "{tree}");
    let nodes = (number(&tree["inner"]) + number(&tree["leaves"])) * 1024;
    assert_eq!(number(&tree["bytes"]), nodes);
    let sum = |name: &str| rows("nodes").iter().map(|part| number(&part[name])).sum::<u64>();
    let [used, retired] = ["used_bytes", "retired_bytes"].map(|name| number(&status[name]));
    assert_eq!(sum("bytes"), used + retired);
    let free = sum("free_bytes") + number(&status["free_bytes"]);
    assert_eq!(sum("bytes") + free, number(&status["heap_bytes"]));
    assert!(number(&status["retired_blocks"]) * 16 <= retired, "{status}");
    let lines = daemon.rtm(&["status", "image"]);
    assert!(lines.contains("lookup nodes of ") && lines.contains("name routes_v4, entries 3000"));
    assert!(!lines.contains("routing tables") && lines.contains("writer: live"), "{lines}");
    assert!(daemon.rtm(&["-d", "status", "image"]).contains("table 254, routes_v4 3000"));
}
