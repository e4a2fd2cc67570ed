//! `rtm tour`: the whole specification, also twice at once; `rtm monitor --exec`.

use std::time::Instant;

use rtm_e2e::process::PATIENCE;
use rtm_e2e::{Daemon, Process, binary};

fn tour(temp: &std::path::Path) -> Process {
    let mut command = std::process::Command::new(binary("rtm"));
    // A home for its directory that the test can look into.
    command.arg("tour").env("TMPDIR", temp);
    Process::spawn(command)
}

#[test]
fn two_tours_at_once_pass_and_leave_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let tours = [tour(temp.path()), tour(temp.path())];
    for tour in tours {
        let output = tour.finish();
        assert_eq!(output.code, Some(0), "{}{}", output.out, output.err);
        for shown in [
            "by the console's menu",
            "100.100.100.0/24",
            "rtm mq send",
            "commands",
            "values from shared memory",
            "  02:00:00:00:00:02        | 20.1.1.1",
            "client-keys",
            "over TCP",
            "joins late",
            "client-4",
            "signal pipe, sent 1",
            "nothing is left",
        ] {
            assert!(output.out.contains(shown), "{shown}: {}", output.out);
        }
    }
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn an_interrupted_tour_cleans_up() {
    let temp = tempfile::tempdir().unwrap();
    let tour = tour(temp.path());
    tour.wait_stdout("1. ");
    tour.signal(2);
    let output = tour.finish();
    assert_eq!(output.code, Some(130), "{}{}", output.out, output.err);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn a_child_gets_changes_and_is_started_again() {
    let daemon = Daemon::start(&[]);
    let seen = daemon.directory().join("seen");
    // A shell's `read` takes no byte behind the line.
    let one = format!("read -r line; echo \"$line\" >> '{}'", seen.display());
    let script = format!("{one}; {one}; exit 3");
    let monitor = daemon.spawn(&["monitor", "route", "--exec", &script]);
    while daemon.json(&["client", "list"]).as_array().unwrap().is_empty() {}
    let lines = || std::fs::read_to_string(&seen).unwrap_or_default().lines().count();
    let start = Instant::now();
    for net in 1..=6 {
        daemon.rtm(&["route", "add", &format!("{net}.0.0.0/8"), "dev", "e"]);
        let ended = || monitor.stderr().matches("exit status 3; starting again in ").count();
        // What a child that ends has not read goes with it: the next pair is the next one's.
        while net % 2 == 0 && (lines() < net || ended() < net / 2) {
            assert!(start.elapsed() < PATIENCE, "{}", monitor.stderr());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    let text = std::fs::read_to_string(&seen).unwrap();
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value["dst"].as_str().unwrap().ends_with("/8"), "{line}");
    }
    for net in 1..=6 {
        assert!(text.contains(&format!("\"{net}.0.0.0/8\"")), "{text}");
    }
    monitor.signal(15);
    let output = monitor.finish();
    assert_eq!(output.code, Some(143), "{}", output.err);
}

#[test]
fn a_child_that_does_not_read_makes_the_monitor_conflate() {
    conflates(|_| {});
}

/// All that waits may find room at once; what was conflated has nothing to wait for then.
#[test]
fn what_was_conflated_comes_also_when_all_that_waits_goes_at_once() {
    conflates(|monitor| {
        let children = format!("/proc/{monitor}/task/{monitor}/children");
        let children = std::fs::read_to_string(children).unwrap();
        let pipe = format!("/proc/{}/fd/0", children.split_whitespace().next().unwrap());
        ipc::pipe::set_capacity(std::fs::File::open(pipe).unwrap(), 1 << 20).unwrap();
    });
}

/// A monitor whose child doesn't read conflates; before the child may read, something is done.
fn conflates(before_it_reads: impl Fn(u32)) {
    let daemon = Daemon::start(&[]);
    let (go, seen) = (daemon.directory().join("go"), daemon.directory().join("seen"));
    // It reads nothing until it may.
    let script = format!(
        "while ! test -e '{}'; do sleep 0.05; done; cat > '{}'",
        go.display(),
        seen.display()
    );
    let monitor = daemon.spawn(&["monitor", "route", "--exec", &script]);
    let session = || daemon.json(&["client", "list"])[0].clone();
    while session()["state"] != "live" {}
    let file = daemon.directory().join("batch");
    // Two keys, changed so often that their lines don't fit into a pipe.
    let mut batch = String::new();
    for n in 0..20_000u32 {
        let (net, gateway) = (1 + n % 2, n % 250 + 1);
        batch += &format!("route replace {net}.0.0.0/8 via 10.{}.0.{gateway} dev e\n", n / 250);
    }
    std::fs::write(&file, batch).unwrap();
    daemon.rtm(&["-batch", file.to_str().unwrap()]);
    // Before the child may read, the monitor has everything: what isn't in the pipe
    // or waits for it, a bounded part, was conflated.
    let revision = daemon.json(&["digest"])["revision"].clone();
    let sync = daemon.json(&["sync", "--timeout", "100"]);
    assert_eq!((&sync["agreed"][0], &sync["revision"]), (&"rtm-monitor".into(), &revision));
    before_it_reads(monitor.pid());
    std::fs::write(&go, "").unwrap();
    let start = Instant::now();
    let last =
        |net: u32| format!("\"dst\":\"{net}.0.0.0/8\",\"gateway\":\"10.79.0.{}\"", 248 + net);
    loop {
        let text = std::fs::read_to_string(&seen).unwrap_or_default();
        if text.contains(&last(1)) && text.contains(&last(2)) {
            // A pipe of 64 KiB, as much again that waits for it, a line that was begun,
            // and the two keys at the end.
            let bytes = text.len();
            assert!(bytes < 3 * 64 * 1024, "{bytes} bytes: it conflated");
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{}", text.lines().last().unwrap_or_default());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    monitor.signal(2);
    assert_eq!(monitor.finish().code, Some(130));
}
