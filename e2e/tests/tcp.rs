//! Over TCP: commands only for who proves the secret of `tcp_token_file`, and a
//! connection whose other end can't be reached any more.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rtm_e2e::process::PATIENCE;
use rtm_e2e::{Daemon, Namespace, Process, binary, require};

fn write(path: &std::path::Path, text: &str, mode: u32) -> String {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn who_proves_the_secret_may_command_and_all_others_read() {
    let files = tempfile::tempdir().unwrap();
    let token = write(&files.path().join("token"), "a secret of this test only\n", 0o600);
    // An editor's white space at the end is no part of it.
    let same = write(&files.path().join("same"), "a secret of this test only \n\n", 0o600);
    let wrong = write(&files.path().join("wrong"), "a secret of this test onlY\n", 0o600);
    let short = write(&files.path().join("short"), "short\n", 0o600);
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let daemon = Daemon::start_with(
            &format!("[listen]\ntcp = \"tcp://{address}\"\ntcp_token_file = \"{token}\"\n"),
            &[],
        );
        let tcp = daemon.json(&["status"])["tcp"].as_str().unwrap().to_owned();
        let rtm = |args: &[&str]| {
            let mut all = vec!["--socket", tcp.as_str()];
            all.extend(args);
            let mut command = std::process::Command::new(binary("rtm"));
            command.args(all);
            Process::spawn(command).finish()
        };
        let output = rtm(&["route", "add", "10/8", "dev", "e"]);
        assert_eq!(output.code, Some(2), "{}", output.err);
        assert!(
            output.err.contains("not permitted: this connection has the role read"),
            "{}",
            output.err
        );
        for file in [&token, &same] {
            let output = rtm(&["--token-file", file, "route", "replace", "10/8", "dev", "e"]);
            assert_eq!(output.code, Some(0), "{}", output.err);
        }
        let output = rtm(&["--token-file", &wrong, "route", "add", "11/8", "dev", "e"]);
        assert_eq!((output.code, output.err.lines().count()), (Some(2), 1), "{}", output.err);
        assert!(output.err.contains("the proof is wrong"), "{}", output.err);
        let output = rtm(&["--token-file", &short, "route"]);
        assert_eq!(output.code, Some(1), "{}", output.err);
        assert!(
            output.err.contains("a secret of 6 bytes")
                || output.err.contains("a secret of 5 bytes")
        );
        // Everybody reads, and follows.
        assert_eq!(rtm(&["route"]).out, "10.0.0.0/8 dev e proto static scope link \n");
        let follower = rtm(&["client", "--once", "--verify"]);
        assert_eq!((follower.code, follower.out), (Some(0), daemon.rtm(&["digest"])));
        let status = daemon.json(&["status"]);
        assert_eq!((&status["revision"], &status["proofs_refused"]), (&1.into(), &1.into()));
        assert!(!daemon.process.stderr().contains("of this test"), "the secret is never logged");
    }
}

#[test]
fn a_token_file_that_others_can_read_is_refused() {
    let files = tempfile::tempdir().unwrap();
    let token = write(&files.path().join("token"), "a secret of this test only\n", 0o640);
    let daemon = Daemon::start_with(
        &format!("[listen]\ntcp = \"tcp://127.0.0.1:0\"\ntcp_token_file = \"{token}\"\n"),
        &[],
    );
    let warning = daemon.json(&["status"])["warnings"].to_string();
    assert!(
        warning.contains("has mode 0640: others can read it; 0600 would be right"),
        "{warning}"
    );
    let output = daemon.run(&["reload"]);
    assert_eq!(output.code, Some(1), "{}", output.err);
    write(&files.path().join("token"), "a secret of this test only\n", 0o600);
    let reloaded = daemon.rtm(&["reload"]);
    assert_eq!(reloaded, "listen.tcp_token_file, for connections from now on\n");
    let tcp = daemon.json(&["status"])["tcp"].as_str().unwrap().to_owned();
    let mut command = std::process::Command::new(binary("rtm"));
    command.args(["--socket", &tcp, "--token-file", &token, "flush", "all"]);
    assert_eq!(Process::spawn(command).finish().code, Some(0));
}

/// The subscribers' names, each by one.
fn subscribers(daemon: &Daemon) -> Vec<String> {
    let list = daemon.json(&["client", "list"]);
    let name = |row: &serde_json::Value| row["name"].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(name).filter(|name| name == "cut").collect()
}

/// With the loopback down no packet arrives: neither end hears that the other is
/// gone, and only missing heartbeats tell. With it up again the client, which still
/// believes in its connection, learns by its own means, and resumes.
#[test]
fn a_half_open_connection_is_found_and_resumed() {
    if !require::root("a_half_open_connection_is_found_and_resumed") {
        return;
    }
    let namespace = Namespace::new();
    let configuration =
        "[listen]\ntcp = \"tcp://127.0.0.1:0\"\n[limits]\nheartbeat_s = 1\ndead_s = 3\n";
    let daemon = Daemon::start_within(&namespace, configuration, &["--no-console"]);
    let tcp = daemon.json(&["status"])["tcp"].as_str().unwrap().to_owned();
    daemon.rtm(&["route", "add", "10/8", "via", "192.0.2.1", "dev", "e"]);
    let mut command = namespace.command(binary("rtm"));
    command.args(["--socket", &tcp, "client", "--name", "cut"]);
    let mut client = Process::spawn(command);
    client.wait_stderr("live");
    // Heartbeats keep an idle connection for longer than silence would be forgiven.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(subscribers(&daemon), ["cut"], "{}", client.stderr());
    assert_eq!(client.stderr().matches("live").count(), 1, "{}", client.stderr());

    namespace.ip("link set lo down");
    let start = Instant::now();
    while !subscribers(&daemon).is_empty() {
        assert!(start.elapsed() < PATIENCE, "the daemon keeps a dead session");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!client.ended(), "{}", client.stderr());
    daemon.rtm(&["route", "add", "11/8", "via", "192.0.2.1", "dev", "e"]);
    namespace.ip("link set lo up");
    while subscribers(&daemon).is_empty() {
        assert!(start.elapsed() < PATIENCE, "the client doesn't come back: {}", client.stderr());
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon.rtm(&["sync", "--timeout", "60"]);
    let list = daemon.json(&["client", "list"]);
    let row = list.as_array().unwrap().iter().find(|row| row["name"] == "cut").unwrap();
    assert_eq!((&row["resumes"], &row["snapshots"]), (&1.into(), &0.into()), "{row}");
    client.signal(15);
    assert_eq!(client.finish().code, Some(0));
}
