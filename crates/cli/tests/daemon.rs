//! Asking about the daemon: status, clients, sources, figures; and what needs
//! none: help, completion, the version.

use rtm_e2e::{Daemon, Process};
use serde_json::{Value, json};

#[test]
fn status_digest_sync() {
    let daemon = Daemon::start(&[]);
    daemon.rtm(&["route", "add", "10/8", "dev", "a"]);
    let status = daemon.rtm(&["status"]);
    for expected in ["epoch: ", "revision: 1\n", "routes, IPv4: 1\n", "socket: "] {
        assert!(status.contains(expected), "{expected}: {status}");
    }
    assert!(!status.contains("turns"), "{status}");
    let details = daemon.rtm(&["status", "-d"]);
    assert!(details.contains("turns:\n") && details.contains("  histogram:\n"), "{details}");
    assert!(details.lines().any(|line| line.trim_end().ends_with('#')), "{details}");
    let value = daemon.json(&["status"]);
    assert_eq!(value["pid"], daemon.process.pid());
    let digest = daemon.rtm(&["digest"]);
    let words: Vec<&str> = digest.strip_suffix('\n').unwrap().split(' ').collect();
    assert_eq!((words[0], words[1]), (value["epoch"].as_str().unwrap(), "1"));
    assert_eq!(words[2..].iter().map(|word| word.len()).collect::<Vec<_>>(), [32, 32, 32, 32]);
    let resolved = daemon.rtm(&["digest", "--resolved"]);
    let words: Vec<&str> = resolved.trim_end().split(' ').collect();
    assert_eq!((words[0], words[1], words[5]), ("-", "-", "0".repeat(32).as_str()));
    // The same routes in another daemon: the same.
    let other = Daemon::start(&[]);
    other.rtm(&["route", "add", "11/8", "dev", "b"]);
    other.rtm(&["route", "add", "10/8", "dev", "a"]);
    other.rtm(&["route", "del", "11/8"]);
    assert_eq!(other.rtm(&["digest", "--resolved"]), resolved);
    assert_ne!(other.rtm(&["digest"]), digest);
    assert_eq!(daemon.rtm(&["sync"]), "0 copies are equal at revision 1\n");
    let client = daemon.spawn(&["client", "--name", "one"]);
    client.wait_stderr("live");
    assert_eq!(daemon.rtm(&["sync", "--timeout", "60"]), "1 copy is equal at revision 1\n");
    assert_eq!(daemon.json(&["sync"])["agreed"], json!(["one"]));
    // A client that is stopped is named.
    client.signal(19);
    daemon.rtm(&["route", "add", "12/8", "dev", "a"]);
    let output = daemon.run(&["sync", "--timeout", "200ms"]);
    assert_eq!((output.code, output.err.as_str()), (Some(4), "rtm: sync: 0 agreed, late: one\n"));
    client.signal(18);
    daemon.rtm(&["sync", "--timeout", "60"]);
}

#[test]
fn clients_are_listed_and_killed() {
    let daemon = Daemon::start(&[]);
    let first = daemon.spawn(&["client", "--name", "first"]);
    let second = daemon.spawn(&["client", "--name", "second"]);
    for client in [&first, &second] {
        client.wait_stderr("live");
    }
    let list = daemon.json(&["client", "list"]);
    let keys: Vec<&str> = list[0].as_object().unwrap().keys().map(String::as_str).collect();
    for key in [
        "name",
        "pid",
        "uid",
        "transport",
        "role",
        "state",
        "revision",
        "lag_records",
        "lag_ms",
        "queued_bytes",
        "sent_records",
        "conflated",
        "resumes",
        "snapshots",
        "resyncs",
        "signal",
        "since",
    ] {
        assert!(keys.contains(&key), "{key}: {keys:?}");
    }
    let table = daemon.rtm(&["client", "list"]);
    assert!(table.starts_with("NAME "), "{table}");
    assert_eq!(table.lines().count(), 3, "{table}");
    let brief = daemon.rtm(&["-br", "client", "list"]);
    assert!(brief.lines().all(|line| line.split_whitespace().count() == 6), "{brief}");
    daemon.rtm(&["client", "kill", &second.pid().to_string()]);
    assert_eq!(second.finish().code, Some(2));
    assert_eq!(daemon.json(&["client", "list"]).as_array().unwrap().len(), 1);
}

#[test]
fn figures_each_interval() {
    let daemon = Daemon::start(&[]);
    let stat = daemon.spawn(&["-j", "stat", "-i", "50ms"]);
    stat.wait_stdout("}\n");
    daemon.rtm(&["route", "add", "10/8", "dev", "a"]);
    stat.wait_stdout("\"routes\":1");
    stat.signal(2);
    let output = stat.finish();
    assert_eq!(output.code, Some(130));
    let lines: Vec<Value> =
        output.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(lines[0]["routes"], 0);
    let people = daemon.spawn(&["stat", "-i", "50ms"]);
    people.wait_stdout("CHANGES/S");
    people.signal(15);
    assert_eq!(people.finish().code, Some(143));
}

#[test]
fn latency_leaves_nothing_behind() {
    let daemon = Daemon::start(&[]);
    let value = daemon.json(&["latency"]);
    assert_eq!(value["changes"], 1000);
    let figure = |name: &str| value[name].as_f64().unwrap();
    assert!(
        figure("min_us") <= figure("p50_us") && figure("p50_us") <= figure("p99_us"),
        "{value}"
    );
    assert_eq!(daemon.rtm(&["route", "show", "table", "all"]), "");
    assert_eq!(daemon.json(&["client", "list"]), json!([]));
}

#[test]
fn reload_says_what_happened() {
    let daemon = Daemon::start(&[]);
    assert_eq!(daemon.rtm(&["reload"]).lines().count(), 1);
}

fn alone(args: &[&str]) -> rtm_e2e::Output {
    Process::start("rtm", args).finish()
}

#[test]
fn help_at_every_level() {
    for (args, expected) in [
        (&["-h"][..], "Usage: rtm [OPTIONS] OBJECT [COMMAND]"),
        (&["help"], "Usage: rtm [OPTIONS] OBJECT [COMMAND]"),
        (&["--help", "route"], "Usage: rtm route COMMAND"),
        (&["route", "help"], "Usage: rtm route COMMAND"),
        (&["route", "add", "-h"], "Example:\n  rtm route add "),
        (&["r", "a", "--help"], "Example:\n  rtm route add "),
        (&["neigh", "-h"], "Usage: rtm neigh COMMAND"),
        (&["client", "-h"], "Usage: rtm client ["),
        (&["client", "list", "-h"], "Usage: rtm client list"),
        (&["source", "list", "-h"], "Usage: rtm source list"),
        (&["monitor", "-h"], "Usage: rtm monitor "),
        (&["wait", "route", "-h"], "Usage: rtm wait route "),
    ] {
        let output = alone(args);
        assert_eq!((output.code, output.err.as_str()), (Some(0), ""), "{args:?}");
        assert!(output.out.contains(expected), "{args:?}: {}", output.out);
    }
    let output = alone(&["-V"]);
    assert!(output.out.starts_with("rtm 0."), "{}", output.out);
    let output = alone(&[]);
    assert_eq!((output.code, output.err.lines().count()), (Some(1), 1), "{}", output.err);
}

#[test]
fn completion_for_three_shells() {
    for (shell, expected) in
        [("bash", "complete -F _rtm rtm"), ("zsh", "#compdef rtm"), ("fish", "complete -c rtm")]
    {
        let output = alone(&["completion", shell]);
        assert_eq!(output.code, Some(0), "{}", output.err);
        assert!(output.out.contains(expected), "{shell}");
    }
}

#[test]
fn colours_only_where_they_are_wanted() {
    let daemon = Daemon::start(&[]);
    daemon.rtm(&["route", "add", "10/8", "via", "192.0.2.1", "dev", "a"]);
    assert!(!daemon.rtm(&["route"]).contains('\x1b'));
    assert!(!daemon.rtm(&["-c=auto", "route"]).contains('\x1b'));
    assert!(daemon.rtm(&["-c", "route"]).contains('\x1b'));
    assert!(!daemon.rtm(&["-c=never", "route"]).contains('\x1b'));
}
