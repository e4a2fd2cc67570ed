//! Routes and neighbours: what goes in comes out as `ip` prints it.

use rtm_e2e::Daemon;
use serde_json::json;

#[test]
fn routes_as_ip_has_them() {
    let daemon = Daemon::start(&[]);
    for line in [
        "route add 122.1.1.1/32 via 10.1.1.1 dev Ethernet1",
        "route add 130.1.1.0/24 via 10.1.1.1 dev Ethernet1",
        "route add 10/8 nexthop via 1.1.1.1 dev a weight 2 nexthop via 1.1.1.2 dev b",
        "route add blackhole 192.0.2.0/24 metric 7 proto bgp table 100",
        "route add 2001:db8::/32 via fe80::1 dev eth0",
        "route add 0.0.0.0/0 via inet6 fe80::9 dev eth0 onlink",
    ] {
        assert_eq!(daemon.rtm(&line.split(' ').collect::<Vec<_>>()), "", "{line}");
    }
    assert_eq!(
        daemon.rtm(&["route"]),
        "default via inet6 fe80::9 dev eth0 proto static onlink \n\
         10.0.0.0/8 proto static \n\
         \tnexthop via 1.1.1.1 dev a weight 2 \n\
         \tnexthop via 1.1.1.2 dev b weight 1 \n\
         122.1.1.1 via 10.1.1.1 dev Ethernet1 proto static \n\
         130.1.1.0/24 via 10.1.1.1 dev Ethernet1 proto static \n"
    );
    assert_eq!(
        daemon.rtm(&["-6", "r", "l"]),
        "2001:db8::/32 via fe80::1 dev eth0 proto static metric 1024 pref medium\n"
    );
    for (selector, expected) in [
        ("122.1.1.1", "122.1.1.1 via 10.1.1.1 dev Ethernet1 proto static \n"),
        ("root 130/8 dev Ethernet1", "130.1.1.0/24 via 10.1.1.1 proto static \n"),
        (
            "match 130.1.1.7",
            "default via inet6 fe80::9 dev eth0 proto static onlink \n130.1.1.0/24 via 10.1.1.1 dev Ethernet1 proto static \n",
        ),
        ("table 100", "blackhole 192.0.2.0/24 proto bgp metric 7 \n"),
        ("proto bgp table all", "blackhole 192.0.2.0/24 table 100 metric 7 \n"),
        ("exact 10/8 --count", "1\n"),
        ("table all --count", "6\n"),
        ("10.1.0.0/16", ""),
        ("via 10.1.1.1 --count", "2\n"),
        (
            "-o 10/8",
            "10.0.0.0/8 proto static \\\tnexthop via 1.1.1.1 dev a weight 2 \\\tnexthop via 1.1.1.2 dev b weight 1 \n",
        ),
    ] {
        let mut args = vec!["route", "show"];
        args.extend(selector.split(' '));
        assert_eq!(daemon.rtm(&args), expected, "{selector}");
    }
    assert_eq!(
        daemon.json(&["route", "show", "10/8"]),
        json!([{
            "dst": "10.0.0.0/8", "protocol": "static", "flags": [],
            "nexthops": [
                { "gateway": "1.1.1.1", "dev": "a", "weight": 2, "flags": [] },
                { "gateway": "1.1.1.2", "dev": "b", "weight": 1, "flags": [] },
            ],
        }])
    );
    assert_eq!(daemon.json(&["route", "show", "99/8"]), json!([]));
    assert_eq!(daemon.json(&["route", "show", "--count"]), json!({ "count": 4 }));
    let default = daemon.json(&["-p", "route", "show", "default"]);
    assert_eq!(default[0]["via"], json!({ "family": "inet6", "host": "fe80::9" }));
    assert_eq!(default[0]["flags"], json!(["onlink"]));
}

#[test]
fn changes_follow_the_verbs() {
    let daemon = Daemon::start(&[]);
    let rtm = |line: &str| daemon.run(&line.split(' ').collect::<Vec<_>>());
    let revision = || daemon.json(&["digest"])["revision"].as_u64().unwrap();
    for (line, code, said) in [
        ("route add 10/8 dev a", 0, ""),
        ("route add 10/8 dev b", 2, "rtm: 10.0.0.0/8: exists already; 'replace' would change it\n"),
        (
            "route change 11/8 dev a",
            2,
            "rtm: 11.0.0.0/8: does not exist; 'show' lists what there is, 'add' makes one\n",
        ),
        ("route change 10/8 dev c", 0, ""),
        ("route replace 11/8 dev a", 0, ""),
        ("route append 11/8 dev b", 0, ""),
        (
            "route del 12/8",
            2,
            "rtm: 12.0.0.0/8: does not exist; 'show' lists what there is, 'add' makes one\n",
        ),
        (
            "route del 10/8 dev nowhere",
            2,
            "rtm: 10.0.0.0/8: does not exist; 'show' lists what there is, 'add' makes one\n",
        ),
        ("route add 13/8 dev a metric 5", 0, ""),
        ("route add 13/8 dev a metric 3", 0, ""),
        ("route del 13/8", 0, ""),
    ] {
        let output = rtm(line);
        assert_eq!((output.code, output.err.as_str()), (Some(code), said), "{line}");
        assert_eq!(output.out, "", "{line}");
    }
    // The lowest metric went.
    assert_eq!(
        daemon.rtm(&["route"]),
        "10.0.0.0/8 dev c proto static scope link \n\
         11.0.0.0/8 dev a proto static scope link \n\
         11.0.0.0/8 dev b proto static scope link \n\
         13.0.0.0/8 dev a proto static scope link metric 5 \n"
    );
    // An equal replace makes no revision.
    let before = revision();
    assert_eq!(rtm("route replace 10/8 dev c").code, Some(0));
    assert_eq!(revision(), before);
    assert_eq!(rtm("route replace 10/8 dev d").code, Some(0));
    assert_eq!(revision(), before + 1);
}

#[test]
fn look_ups_by_the_daemon() {
    let daemon = Daemon::start(&[]);
    daemon.rtm(&["route", "add", "10/8", "via", "192.0.2.1", "dev", "a"]);
    daemon.rtm(&["route", "add", "10.1/16", "via", "192.0.2.2", "dev", "b"]);
    daemon.rtm(&["route", "add", "blackhole", "10.2/16"]);
    daemon.rtm(&["route", "add", "::/0", "via", "fe80::1", "dev", "c"]);
    assert_eq!(
        daemon.rtm(&["route", "get", "10.1.2.3", "10.9.9.9", "10.2.0.1", "2001:db8::1"]),
        "10.1.2.3 10.1.0.0/16 via 192.0.2.2 dev b proto static \n\
         10.9.9.9 10.0.0.0/8 via 192.0.2.1 dev a proto static \n\
         10.2.0.1 blackhole 10.2.0.0/16 proto static \n\
         2001:db8::1 default via fe80::1 dev c proto static metric 1024 pref medium\n"
    );
    // All are answered before the exit code says that one had no route.
    let output = daemon.run(&["route", "get", "11.0.0.1", "10.0.0.1"]);
    assert_eq!(output.code, Some(2));
    assert_eq!(
        output.out,
        "11.0.0.1 unreachable\n10.0.0.1 10.0.0.0/8 via 192.0.2.1 dev a proto static \n"
    );
    assert_eq!(output.err, "");
    let output = daemon.run(&["-j", "route", "get", "10.0.0.1", "table", "7"]);
    assert_eq!(
        (output.code, output.out.as_str()),
        (Some(2), "[{\"address\":\"10.0.0.1\",\"route\":null}]\n")
    );
}

#[test]
fn neighbours_as_ip_has_them() {
    let daemon = Daemon::start(&[]);
    daemon.rtm(&["neigh", "add", "10.0.0.7", "lladdr", "02:00:00:00:00:07", "dev", "eth0"]);
    daemon.rtm(&["neigh", "add", "10.0.0.8", "lladdr", "02:00:00:00:00:07"]);
    daemon.rtm(&[
        "neigh",
        "replace",
        "fe80::7",
        "lladdr",
        "02:00:00:00:00:09",
        "dev",
        "eth1",
        "nud",
        "stale",
    ]);
    assert_eq!(
        daemon.rtm(&["neigh"]),
        "10.0.0.7 dev eth0 lladdr 02:00:00:00:00:07 PERMANENT \n\
         10.0.0.8 lladdr 02:00:00:00:00:07 PERMANENT \n\
         fe80::7 dev eth1 lladdr 02:00:00:00:00:09 STALE \n"
    );
    assert_eq!(
        daemon.rtm(&["neigh", "show", "lladdr", "02:00:00:00:00:09"]),
        "fe80::7 dev eth1 lladdr 02:00:00:00:00:09 STALE \n"
    );
    assert_eq!(
        daemon.rtm(&["neigh", "show", "dev", "eth0"]),
        "10.0.0.7 lladdr 02:00:00:00:00:07 PERMANENT \n"
    );
    assert_eq!(
        daemon.json(&["neigh", "show", "10.0.0.7"]),
        json!([{ "dst": "10.0.0.7", "dev": "eth0", "lladdr": "02:00:00:00:00:07", "state": ["PERMANENT"] }])
    );
    let output =
        daemon.run(&["neigh", "add", "10.0.0.7", "lladdr", "02:00:00:00:00:01", "dev", "eth0"]);
    assert_eq!(output.code, Some(2));
    assert_eq!(output.err, "rtm: 10.0.0.7: exists already; 'replace' would change it\n");
    daemon.rtm(&["neigh", "del", "10.0.0.7", "dev", "eth0"]);
    assert_eq!(daemon.run(&["neigh", "del", "10.0.0.7", "dev", "eth0"]).code, Some(2));
    assert_eq!(daemon.rtm(&["-s", "neigh", "flush", "dev", "eth1"]).split(' ').next(), Some("1"));
    assert_eq!(daemon.json(&["digest"])["counts"]["neighbours"], 1);
}

#[test]
fn candidates_say_why_they_lost() {
    let daemon = Daemon::start(&[]);
    let file = daemon.directory().join("feed.txt");
    std::fs::write(
        &file,
        "route replace 10.0.0.0/8 dev low\nroute replace 11.0.0.0/8 dev low distance 255\n",
    )
    .unwrap();
    daemon.rtm(&["route", "load", file.to_str().unwrap(), "--source", "feed"]);
    daemon.rtm(&["route", "add", "10/8", "dev", "high"]);
    assert_eq!(
        daemon.rtm(&["route", "show", "10/8", "--all"]),
        "10.0.0.0/8 dev high proto static scope link distance 1 source admin \n\
         10.0.0.0/8 dev low proto static scope link distance 250 source feed why 'distance 250 over 1' \n"
    );
    let all = daemon.json(&["route", "show", "--all"]);
    let why: Vec<&str> = all.as_array().unwrap().iter().filter_map(|r| r["why"].as_str()).collect();
    assert_eq!(why, ["distance 250 over 1"]);
    // Whose it is, not who asks, decides who may delete it.
    daemon.rtm(&["route", "del", "10/8"]);
    let output = daemon.run(&["route", "del", "10/8"]);
    assert_eq!(output.code, Some(2));
    assert_eq!(output.err, "rtm: 10.0.0.0/8: belongs to source feed; delete it there\n");
    let sources = daemon.json(&["source", "list"]);
    assert_eq!(sources[1]["name"], "feed");
    assert_eq!((&sources[1]["routes"], &sources[1]["winners"]), (&json!(2), &json!(1)));
    assert!(daemon.rtm(&["source", "list"]).contains("feed   file"));
}

#[test]
fn flushes_say_how_much() {
    let daemon = Daemon::start(&[]);
    for prefix in ["10/8", "10.1/16", "11/8"] {
        daemon.rtm(&["route", "add", prefix, "dev", "e"]);
    }
    daemon.rtm(&["neigh", "add", "10.0.0.7", "lladdr", "02:00:00:00:00:07"]);
    assert_eq!(daemon.rtm(&["-s", "route", "flush", "root", "10/8"]), "2 deleted, revision 5\n");
    assert_eq!(
        daemon.json(&["route", "flush", "root", "10/8"]),
        json!({ "revision": 5, "deleted": 0 })
    );
    assert_eq!(daemon.rtm(&["flush", "routes"]), "");
    assert_eq!(daemon.rtm(&["route"]), "");
    assert_eq!(daemon.json(&["flush", "--force"])["deleted"], 1);
    let digest = daemon.rtm(&["digest"]);
    let words: Vec<&str> = digest.trim_end().split(' ').collect();
    assert_eq!((words.len(), words[0].len(), words[2].len()), (6, 16, 32));
    assert!(words[2].bytes().all(|byte| byte == b'0'), "{digest}");
}

#[test]
fn what_is_saved_can_be_loaded() {
    let daemon = Daemon::start(&[]);
    for line in [
        "route add 10/8 nexthop via 1.1.1.1 dev a weight 2 nexthop via 1.1.1.2 dev b",
        "route append 11/8 dev a",
        "route append 11/8 dev b",
        "route add 12/8 via inet6 fe80::1 dev c mtu 1400 src 10.9.9.9 tos 0x10",
        "route add unreachable 2001:db8::/32 metric 5 table 7 proto ra",
        "route add default dev d pref high",
    ] {
        let line =
            if line.contains("pref") { line.replace("default", "::/0") } else { line.to_owned() };
        daemon.rtm(&line.split(' ').collect::<Vec<_>>());
    }
    let file = daemon.directory().join("saved");
    let name = file.to_str().unwrap();
    daemon.rtm(&["route", "save", name]);
    assert_eq!(daemon.rtm(&["route", "save"]), std::fs::read_to_string(&file).unwrap());
    assert_eq!(
        std::fs::read_dir(daemon.directory())
            .unwrap()
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().contains(".new"))
            .count(),
        0
    );
    let before = daemon.rtm(&["digest", "--resolved"]);
    let other = Daemon::start(&[]);
    assert!(other.rtm(&["route", "load", name]).starts_with("6 routes in "));
    assert_eq!(other.rtm(&["digest", "--resolved"]), before);
    other.rtm(&["flush", "--force"]);
    other.rtm(&["-batch", name]);
    assert_eq!(other.rtm(&["digest", "--resolved"]), before);
}
