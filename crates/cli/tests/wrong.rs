//! Input that is wrong: one line, an exit code, and nothing happens.

use rtm_e2e::{Daemon, Process};

/// Arguments, exit code, and the line.
const WRONG: &[(&str, i32, &str)] = &[
    (
        "route add 10.0.0.0/33 dev e",
        1,
        "destination: 10.0.0.0/33: mask 33 is too long for IPv4; 0 to 32 are valid",
    ),
    (
        "route add 2001:db8::/129 dev e",
        1,
        "destination: 2001:db8::/129: mask 129 is too long for IPv6; 0 to 128 are valid",
    ),
    (
        "route add 10.0.0.1/8 dev e",
        1,
        "destination: 10.0.0.1/8: host bits are set; 10.0.0.0/8 would be right",
    ),
    (
        "route add 2001:db8::1/32 dev e",
        1,
        "destination: 2001:db8::1/32: host bits are set; 2001:db8::/32 would be right",
    ),
    (
        "route add 10.0.0.256/32 dev e",
        1,
        "destination: 10.0.0.256/32: not a prefix; like 10.0.0.0/8, 2001:db8::/32 or default",
    ),
    (
        "route add 10.0.0.0/x dev e",
        1,
        "destination: 10.0.0.0/x: the mask is not a number; like 10.0.0.0/8",
    ),
    ("route add 10/8 via 10.0.0.300", 1, "via: 10.0.0.300: not an IP address"),
    (
        "route add 2001:db8::/32 via 10.0.0.1",
        1,
        "via: 10.0.0.1: an IPv6 route can't go via an IPv4 gateway; one like 2001:db8::1 would be right",
    ),
    (
        "route add 10/8 dev abcdefghijklmnop",
        1,
        "dev: abcdefghijklmnop: the interface name has 16 bytes; 1 to 15 are valid",
    ),
    ("route add 10/8 dev eth/0", 1, "'/' can't stand in an interface name"),
    ("route add 10/8 dev eth:0", 1, "':' can't stand in an interface name"),
    ("route add 10/8 nexthop via 1.1.1.1 weight 0 nexthop via 1.1.1.2", 1, "weight"),
    ("route add 10/8 nexthop via 1.1.1.1 weight 257 nexthop via 1.1.1.2", 1, "weight"),
    ("route frobnicate 10/8", 1, "route: frobnicate: unknown verb; one of show, add"),
    ("frobnicate", 1, "command: frobnicate: unknown; route, neigh"),
    ("route add", 1, "destination: end of line: something is missing"),
    ("route add 10/8", 1, "destination: 10/8: the route has no next hop"),
    ("route flush", 1, "route flush: end of line: something is missing; a selector"),
    (
        "route get",
        1,
        "address: end of line: something is missing; route get ADDRESS would be right",
    ),
    ("route get 10.0.0.256", 1, "address: 10.0.0.256: not an IP address"),
    ("route add 10/8 dev e metric -1", 1, "metric: -1: not a number"),
    ("route add 10/8 dev e table 4294967296", 1, "table: 4294967296"),
    ("route show --frobnicate", 1, "option: --frobnicate: unknown here"),
    ("neigh add 10.0.0.7 lladdr 02:00:00:00:00", 1, "not a MAC address; like 02:00:00:00:00:01"),
    ("neigh add", 1, "address: end of line: something is missing"),
    ("client kill nobody", 2, "nobody"),
    ("wait route 10/8 --timeout 10ms", 4, "wait: route 10.0.0.0/8: not there after 10ms"),
    ("sync --client nobody", 4, "sync: 0 agreed, gone: nobody"),
    ("digest --frobnicate", 1, "option: --frobnicate: unknown here; one of --resolved"),
    ("completion tcsh", 1, "completion: tcsh: unknown verb; one of bash, zsh, fish"),
    ("route load /nonexistent", 2, "/nonexistent: No such file or directory"),
    ("route load /", 1, "route load: /: a directory; a file would be right"),
    ("-batch /nonexistent", 2, "/nonexistent: No such file or directory"),
    ("-4 -6 route", 1, "option: -6: both families"),
    (
        "--socket tcp://127.0.0.1 route",
        1,
        "tcp://127.0.0.1: the port is missing; tcp://HOST:PORT would be right",
    ),
    ("--token-file /nonexistent route", 2, "/nonexistent: No such file or directory"),
];

#[test]
fn each_gets_one_line_and_its_exit_code() {
    let daemon = Daemon::start(&[]);
    for &(line, code, said) in WRONG {
        let output = daemon.run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(output.code, Some(code), "{line}: {}", output.err);
        assert_eq!(output.out, "", "{line}");
        assert_eq!(output.err.lines().count(), 1, "{line}: {}", output.err);
        assert!(output.err.starts_with("rtm: "), "{line}: {}", output.err);
        assert!(output.err.contains(said), "{line}: {}", output.err);
    }
    // Blanks in a name can only come quoted.
    let output = daemon.run(&["route", "add", "10/8", "dev", "eth 0"]);
    assert_eq!(output.code, Some(1));
    assert!(output.err.contains("' ' can't stand in an interface name"), "{}", output.err);
    assert_eq!(daemon.json(&["digest"])["revision"], 0, "nothing happened");
}

#[test]
fn nobody_there_says_where_it_looked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rtm.sock");
    let run = |args: &[&str], runtime: Option<&str>| {
        let mut command = std::process::Command::new(rtm_e2e::binary("rtm"));
        command.args(args).env_remove("RTM_SOCKET").env_remove("RTM_RUNTIME_DIR");
        if let Some(runtime) = runtime {
            command.env("RTM_RUNTIME_DIR", runtime);
        }
        Process::spawn(command).finish()
    };
    let directory = dir.path().to_str().unwrap();
    let expected = format!(
        "rtm: no daemon: {}: there is no socket; start rtmd, or name its place with --runtime-dir or --socket\n",
        path.display()
    );
    for command in [
        "route",
        "digest",
        "monitor",
        "client",
        "flush --force",
        "wait route 10/8",
        "latency",
        "stat",
    ] {
        let mut args = vec!["--runtime-dir", directory];
        args.extend(command.split(' '));
        let output = run(&args, None);
        assert_eq!((output.code, output.err.as_str()), (Some(3), expected.as_str()), "{command}");
        assert_eq!(output.out, "", "{command}");
    }
    let output = run(&["route"], Some(directory));
    assert_eq!((output.code, output.err.as_str()), (Some(3), expected.as_str()));
    // A socket that was left behind, and a file that is none.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let output = run(&["--socket", path.to_str().unwrap(), "route"], None);
    assert_eq!(output.code, Some(3));
    assert!(output.err.contains(": nobody listens there; start rtmd"), "{}", output.err);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    let output = run(&["--runtime-dir", directory, "route"], None);
    assert_eq!((output.code, output.err.lines().count()), (Some(3), 1), "{}", output.err);
    // TCP.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = format!("tcp://{}", listener.local_addr().unwrap());
    drop(listener);
    let output = run(&["--socket", &socket, "route"], None);
    assert_eq!(output.code, Some(3));
    assert!(
        output.err.contains(&format!("no daemon: {socket}: nobody listens there")),
        "{}",
        output.err
    );
}

#[test]
fn a_closed_pipe_ends_quietly() {
    use std::process::Stdio;
    let daemon = Daemon::start(&[]);
    let file = daemon.directory().join("many");
    let lines: String = (0..20_000)
        .map(|n| format!("route replace 10.{}.{}.0/24 dev e\n", n / 256, n % 256))
        .collect();
    std::fs::write(&file, lines).unwrap();
    daemon.rtm(&["-batch", file.to_str().unwrap()]);
    for args in [&["route"][..], &["-j", "route"], &["client", "--once"], &["-h"]] {
        let mut child = daemon
            .command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains("pipe") && !said.contains("panic"), "{args:?}: {said}");
    }
}

#[test]
fn who_may_only_read_is_told_which_role_is_needed() {
    let daemon = Daemon::start(&["--listen", "tcp://127.0.0.1:0"]);
    let tcp = daemon.json(&["status"])["tcp"].as_str().expect("it listens").to_owned();
    let socket = if tcp.starts_with("tcp://") { tcp } else { format!("tcp://{tcp}") };
    daemon.rtm(&["route", "add", "10/8", "dev", "e"]);
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(rtm_e2e::binary("rtm"));
        command.args(["--socket", &socket]).args(args);
        Process::spawn(command).finish()
    };
    assert_eq!(run(&["route"]).out, "10.0.0.0/8 dev e proto static scope link \n");
    assert_eq!(run(&["client", "--once", "--verify"]).out, daemon.rtm(&["digest"]));
    for (line, role) in [
        ("route add 11/8 dev e", "inject"),
        ("route flush all", "admin"),
        ("flush --force", "admin"),
        ("client kill 1", "admin"),
        ("reload", "admin"),
        ("latency", "admin"),
    ] {
        let output = run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(output.code, Some(2), "{line}: {}", output.err);
        assert!(output.err.contains("not permitted"), "{line}: {}", output.err);
        assert!(output.err.contains(role), "{line}: {}", output.err);
        assert_eq!(output.err.lines().count(), 1, "{line}: {}", output.err);
    }
    let file = daemon.directory().join("f");
    std::fs::write(&file, "11/8\n").unwrap();
    let output = run(&["route", "load", file.to_str().unwrap(), "--spread"]);
    assert_eq!((output.code, output.err.contains("admin")), (Some(2), true), "{}", output.err);
    assert_eq!(daemon.json(&["digest"])["revision"], 1);
}
