//! `classic.sock`: the C client of `contrib/classic`, compiled with the system's
//! compiler, beside exactly the view that its structure can show; and clients that
//! are wrong, short, deaf or too slow.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rtm_e2e::process::PATIENCE;
use rtm_e2e::{Daemon, Process};
use rtm_tables::CLASSIC_BYTES;
use serde_json::Value;

/// Compiles the sample client as its first lines say.
fn compile(directory: &Path) -> PathBuf {
    let sources = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/classic"));
    let client = directory.join("classic_client");
    let output = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&client)
        .arg(sources.join("classic_client.c"))
        .output()
        .expect("a C compiler, cc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    client
}

/// What the daemon's table looks like through the structure: lines as the sample
/// client prints them, sorted; and how many routes that leaves out.
fn view(daemon: &Daemon) -> (Vec<String>, u64) {
    let (mut best, mut count) = (BTreeMap::new(), 0);
    for family in ["-4", "-6"] {
        let routes = daemon.json(&["-d", family, "route", "show", "table", "all"]);
        for route in routes.as_array().unwrap() {
            count += 1;
            let number = |key: &str| route[key].as_u64().unwrap_or(0);
            let main = route["table"].is_null() || route["table"] == "main";
            let unicast = route["type"].is_null() || route["type"] == "unicast";
            if family == "-6" || !main || !unicast || !route["tos"].is_null() {
                continue;
            }
            let mut prefix = route["dst"].as_str().unwrap().to_owned();
            if prefix == "default" {
                prefix = "0.0.0.0/0".to_owned();
            } else if !prefix.contains('/') {
                prefix += "/32";
            }
            let rank = (number("distance"), number("metric"), number("ordinal"));
            let entry = best.entry(prefix).or_insert((rank, route.clone()));
            if rank < entry.0 {
                *entry = (rank, route.clone());
            }
        }
    }
    let mut lines = Vec::new();
    for (prefix, (_, route)) in best {
        let hop = route["nexthops"].get(0).unwrap_or(&route);
        if !hop["via"].is_null() {
            continue; // a gateway of the other family
        }
        let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        lines.push(format!("{prefix} {} {}", word(&hop["gateway"]), word(&hop["dev"])));
    }
    let left_out = count - lines.len() as u64;
    let neighbours = daemon.json(&["neigh", "show"]);
    let keys = neighbours.as_array().unwrap().iter().filter_map(|n| n["lladdr"].as_str());
    lines.extend(keys.map(|mac| format!("key {mac}")));
    lines.sort();
    lines.dedup();
    (lines, left_out)
}

/// The table that a sample client printed, and its counts.
fn printed(output: &str) -> (Vec<String>, BTreeMap<String, u64>) {
    let mut lines: Vec<String> = output.lines().map(str::to_owned).collect();
    assert_eq!(lines.remove(0), "synced");
    let counts = lines.pop().unwrap();
    let words: Vec<&str> = counts.split(' ').skip(1).collect();
    let counts = words.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].parse().unwrap()));
    lines.sort();
    (lines, counts.collect())
}

/// Runs a batch of commands, all of which must succeed.
fn batch(daemon: &Daemon, lines: &str) {
    let path = daemon.directory().join("batch");
    std::fs::write(&path, lines).unwrap();
    daemon.rtm(&["-batch", path.to_str().unwrap()]);
}

/// All that the structure can and can't show.
const TABLE: &str = "
route add 122.1.1.1/32 via 10.1.1.1 dev Ethernet1
route add 130.1.1.0/24 via 10.1.1.1 dev Ethernet1
route add 126.30.34.0/24 via 20.1.1.1 dev Ethernet2
route add 220.1.0.0/16 via 30.1.2.3 dev Ethernet3
route add default via 10.1.1.1 dev Ethernet1
route add 10.2.0.0/16 dev Ethernet2
route add 10.3.0.0/16 via 10.9.9.9
route add 10.4.0.0/16 nexthop via 10.1.1.1 dev Ethernet1 nexthop via 10.1.1.2 dev Ethernet2
route add 10.5.0.0/16 via 10.1.1.1 dev Ethernet1 metric 100
route add 10.5.0.0/16 via 10.1.1.2 dev Ethernet2 metric 50
route add 10.5.0.0/16 via 10.1.1.3 dev Ethernet3 metric 200
route add 10.6.0.0/16 via inet6 fe80::1 dev Ethernet1
route add blackhole 10.7.0.0/16
route add 10.8.0.0/16 via 10.1.1.1 dev Ethernet1 table 100
route add 10.9.0.0/16 via 10.1.1.1 dev Ethernet1 tos 8
route add 2001:db8::/32 via fe80::1 dev Ethernet1
neigh add 10.1.1.1 lladdr 02:00:00:00:00:01 dev Ethernet1
neigh add 20.1.1.1 lladdr 02:00:00:00:00:02 dev Ethernet2
neigh add 20.1.1.2 lladdr 02:00:00:00:00:02 dev Ethernet2
";

#[test]
fn the_sample_client_has_exactly_the_view() {
    let files = tempfile::tempdir().unwrap();
    let client = compile(files.path());
    let daemon = Daemon::start(&[]);
    batch(&daemon, TABLE);
    let socket = daemon.directory().join("classic.sock");
    let mode = std::os::unix::fs::PermissionsExt::mode(&socket.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o666);
    let spawn = |how: &str| {
        let mut command = Command::new(&client);
        command.arg(&socket).args(["255.255.255.255", how]);
        let process = Process::spawn(command);
        process.wait_stdout("synced\n");
        process
    };
    let mut clients: Vec<(&str, Process)> =
        ["read", "between", "both"].map(|how| (how, spawn(how))).into();
    // Registered, and what isn't shown is counted.
    let start = Instant::now();
    let list = loop {
        let list = daemon.json(&["client", "list"]);
        let registered = list.as_array().unwrap().iter().filter(|c| c["signal"] == "pid").count();
        if registered == 2 {
            break list;
        }
        assert!(start.elapsed() < PATIENCE, "{list}");
    };
    let (_, left_out) = view(&daemon);
    for client in list.as_array().unwrap() {
        assert_eq!((&client["transport"], &client["state"]), (&"classic".into(), &"live".into()));
        assert_eq!(client["not_shown"], left_out, "{client}");
    }
    assert!(daemon.rtm(&["client", "list"]).contains("NOT-SHOWN"));
    batch(
        &daemon,
        "route add 100.100.100.0/24 via 50.1.1.1 dev Ethernet4\n\
         route change 100.100.100.0/24 via 60.1.1.1 dev Ethernet4\n\
         route del 10.5.0.0/16 metric 50\n\
         route replace 10.4.0.0/16 nexthop via 10.1.1.9 dev Ethernet1 nexthop via 10.1.1.2 dev Ethernet2\n\
         route del 122.1.1.1\n\
         neigh del 20.1.1.2 dev Ethernet2\n\
         neigh add 30.1.1.1 lladdr 02:00:00:00:00:03 dev Ethernet3\n",
    );
    // One that came late, and says goodbye before the flush.
    let late = spawn("both");
    let end = "route add 255.255.255.255/32 via 1.1.1.1 dev e";
    batch(&daemon, end);
    let expected = view(&daemon).0;
    clients.push(("late", late));
    for (how, client) in clients {
        let output = client.finish();
        assert_eq!(output.code, Some(0), "{how}: {}", output.err);
        assert_eq!(printed(&output.out).0, expected, "{how}");
    }
    let start = Instant::now();
    while daemon.json(&["client", "list"]) != serde_json::json!([]) {
        assert!(start.elapsed() < PATIENCE, "after a goodbye session and pid are gone");
    }
}

#[test]
fn after_a_flush_however_it_reads_a_client_ends_right() {
    let files = tempfile::tempdir().unwrap();
    let client = compile(files.path());
    let daemon = Daemon::start(&[]);
    batch(&daemon, TABLE);
    let many: String =
        (0..3000).map(|n| format!("route add 11.{}.{}.0/24 dev e\n", n >> 8, n & 255)).collect();
    batch(&daemon, &many);
    let socket = daemon.directory().join("classic.sock");
    let clients: Vec<(&str, Process)> = ["read", "between", "both", "both", "between"]
        .map(|how| {
            let mut command = Command::new(&client);
            command.arg(&socket).args(["255.255.255.255", how]);
            let process = Process::spawn(command);
            // Some are flushed while they get their first table.
            (how, process)
        })
        .into();
    for (_, client) in &clients[..3] {
        client.wait_stdout("synced\n");
    }
    daemon.rtm(&["flush", "all"]);
    batch(&daemon, "route add 10.2.0.0/16 via 7.7.7.7 dev new\nroute add 12/8 dev new\n");
    daemon.rtm(&["flush", "routes"]);
    batch(&daemon, "neigh add 1.1.1.1 lladdr 02:00:00:00:00:09 dev new\nroute add 13/8 dev new\n");
    for (_, client) in &clients {
        client.wait_stdout("synced\n");
    }
    daemon.rtm(&["flush", "neighbours"]);
    batch(&daemon, "route add 14/8 dev new\nroute add 255.255.255.255/32 via 1.1.1.1 dev e");
    let expected = view(&daemon).0;
    assert_eq!(expected.len(), 3, "{expected:?}");
    for (n, (how, client)) in clients.into_iter().enumerate() {
        let output = client.finish();
        assert_eq!(output.code, Some(0), "{how}: {}", output.err);
        let (lines, counts) = printed(&output.out);
        assert_eq!(lines, expected, "{how}: {counts:?}");
        if n < 3 {
            assert!(counts["delete"] >= 3009, "each entry is deleted: {counts:?}");
            assert!(counts["key_gone"] >= 2, "{counts:?}");
            // They may merge; none came to who never registered.
            let signals = counts["signals"];
            assert!(if how == "read" { signals == 0 } else { signals <= 1 }, "{how}: {counts:?}");
        }
    }
}

#[test]
fn a_wrong_client_is_one_line_and_disturbs_nobody() {
    let files = tempfile::tempdir().unwrap();
    let sample = compile(files.path());
    let daemon = Daemon::start(&[]);
    batch(&daemon, TABLE);
    let socket = daemon.directory().join("classic.sock");
    let mut command = Command::new(&sample);
    command.arg(&socket).arg("255.255.255.255");
    let witness = Process::spawn(command);
    witness.wait_stdout("synced\n");
    let connect = || {
        let stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let wrong: [(&[u8], &str); 4] = [
        (b"GET / HTTP/1.0\r\n\r\n", "0 (REGISTER) or 1 (GOODBYE) would be right"),
        (&[0xff; 4096], "classic: op -1; "),
        (&[2, 0, 0, 0, 0, 0, 0, 0], "classic: op 2; "),
        (&[0, 0, 0, 0, 1], "classic: it ended after 5 bytes of a structure; 8 would be right"),
    ];
    for (n, (bytes, said)) in wrong.into_iter().enumerate() {
        let mut stream = connect();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        // What came until then is whole.
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        assert_eq!(got.len() % CLASSIC_BYTES, 0, "never half a structure");
        let err = daemon.process.wait_stderr(said);
        assert_eq!(err.matches("ended a session for its bytes: classic: ").count(), n + 1, "{err}");
    }
    assert_eq!(daemon.json(&["status"])["protocol_errors"], wrong.len());
    // A pid that isn't its own, and one that registers twice: refused, counted, and
    // the session goes on.
    let mut forger = connect();
    let pids = [1, 0, -1, daemon.process.pid() as i32, std::process::id() as i32, 4];
    for pid in pids {
        forger.write_all(&[0_i32.to_ne_bytes(), pid.to_ne_bytes()].concat()).unwrap();
    }
    let start = Instant::now();
    while daemon.json(&["status"])["registrations_refused"] != 5 {
        assert!(start.elapsed() < PATIENCE, "{}", daemon.json(&["status"]));
    }
    drop(forger);
    // Descriptors are taken from nobody, and one that never reads costs nothing.
    let _deaf: Vec<UnixStream> = (0..20).map(|_| connect()).collect();
    batch(&daemon, "route add 255.255.255.255/32 via 1.1.1.1 dev e");
    let expected = view(&daemon).0;
    let output = witness.finish();
    assert_eq!(printed(&output.out).0, expected, "{}", output.err);
    for client in daemon.json(&["client", "list"]).as_array().unwrap() {
        assert!(client["own_bytes"].as_u64().unwrap() < 64 << 10, "{client}");
    }
}

#[test]
fn one_that_falls_behind_the_oldest_tombstone_is_disconnected() {
    let daemon = Daemon::start_with("[limits]\ntombstone_bytes_max = \"64 KiB\"\n", &[]);
    let nets = 0..6000;
    let line = |verb: &str, n: u32| format!("route {verb} 11.{}.{}.0/24 dev e\n", n >> 8, n & 255);
    batch(&daemon, &nets.clone().map(|n| line("add", n)).collect::<String>());
    let socket = daemon.directory().join("classic.sock");
    let mut slow = UnixStream::connect(&socket).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut synced = Vec::new();
    while synced.len() < 6001 * CLASSIC_BYTES {
        let mut buffer = [0; 4096];
        let count = slow.read(&mut buffer).unwrap();
        synced.extend_from_slice(&buffer[..count]);
    }
    // It stops reading: its socket fills, then what it needs is given up. After a
    // while each of its rows is another, so that the deletes stand behind.
    let update = |gateway: u32| -> String {
        let to = format!("via 10.0.0.{gateway} dev e\n");
        nets.clone().map(|n| line("replace", n).replace("dev e\n", &to)).collect()
    };
    (1..4).for_each(|gateway| batch(&daemon, &update(gateway)));
    batch(&daemon, &nets.clone().map(|n| line("del", n)).collect::<String>());
    let mut rest = Vec::new();
    // All that it is still given is whole structures, then the end.
    slow.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len() % CLASSIC_BYTES, 0);
    daemon.process.wait_stderr("a classic client fell behind what is remembered of deletes");
    assert_eq!(daemon.json(&["status"])["fell_behind"], 1);
    // Connected anew, it begins with what there is.
    let mut again = UnixStream::connect(&socket).unwrap();
    let mut first = [0; CLASSIC_BYTES];
    again.read_exact(&mut first).unwrap();
    assert_eq!(first[..4], 3_i32.to_ne_bytes(), "SYNCED: nothing is left");
}

/// The barrier asks nobody who can't answer: a classic client is named as one, and
/// what others agree on is not held up.
#[test]
fn a_barrier_names_a_classic_client_and_waits_for_none() {
    let daemon = Daemon::start(&[]);
    batch(&daemon, TABLE);
    let client = daemon.spawn(&["client", "--name", "answers"]);
    client.wait_stderr("live: ");
    let mut deaf = UnixStream::connect(daemon.directory().join("classic.sock")).unwrap();
    let mut row = [0; CLASSIC_BYTES];
    deaf.read_exact(&mut row).unwrap();
    let own = std::process::id();
    let output = daemon.run(&["-j", "sync", "--timeout", "60"]);
    let value: Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!(value["agreed"], serde_json::json!(["answers"]), "{value}");
    assert_eq!(value["cannot"], serde_json::json!([format!("pid {own}")]), "{value}");
    batch(&daemon, "route add 77/8 dev e\n");
    let again = daemon.run(&["sync", "--timeout", "60"]);
    assert_eq!(again.code, output.code, "{}{}", again.out, again.err);
}

#[test]
fn the_sample_client_has_exactly_the_view_of_the_full_table() {
    let name = "the_sample_client_has_exactly_the_view_of_the_full_table";
    let Some(data) = rtm_e2e::require::data(name) else { return };
    let files = tempfile::tempdir().unwrap();
    let client = compile(files.path());
    let daemon = Daemon::start(&[]);
    let table = data.join("full-table.txt.gz");
    daemon.rtm(&["route", "load", table.to_str().unwrap(), "--spread"]);
    daemon.rtm(&["neigh", "add", "10.1.1.1", "lladdr", "02:00:00:00:00:01", "dev", "Ethernet1"]);
    let mut command = Command::new(&client);
    command.arg(daemon.directory().join("classic.sock")).arg("255.255.255.255");
    let client = Process::spawn(command);
    client.wait_stdout("synced\n");
    // Some of what really happened next.
    let updates = rtm_e2e::data::updates_as_batch(&data);
    let updates: String = updates.lines().take(300).map(|line| format!("{line}\n")).collect();
    let path = files.path().join("updates");
    std::fs::write(&path, updates).unwrap();
    let _ = daemon.run(&["-batch", path.to_str().unwrap(), "--force"]);
    batch(&daemon, "route add 255.255.255.255/32 via 1.1.1.1 dev e");
    let mut expected: Vec<String> = daemon
        .rtm(&["-4", "route", "show"])
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [prefix, "via", gateway, "dev", link, ..] = words[..] else { panic!("{line}") };
            let prefix = match prefix {
                "default" => "0.0.0.0/0".to_owned(),
                host if !host.contains('/') => format!("{host}/32"),
                prefix => prefix.to_owned(),
            };
            format!("{prefix} {gateway} {link}")
        })
        .collect();
    expected.push("key 02:00:00:00:00:01".to_owned());
    expected.sort();
    let output = client.finish();
    let (lines, counts) = printed(&output.out);
    assert_eq!(lines.len(), expected.len(), "{counts:?}");
    let differs = lines.iter().zip(&expected).find(|(ours, theirs)| ours != theirs);
    assert_eq!(differs, None, "{counts:?}");
    assert!(counts["update"] + counts["delete"] > 0, "{counts:?}");
}
