//! Commands over TCP: only for who proves the secret of `tcp_token_file`.

use std::os::unix::fs::PermissionsExt;

use rtm_e2e::Daemon;

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
            let mut command = std::process::Command::new(rtm_e2e::binary("rtm"));
            command.args(all);
            rtm_e2e::Process::spawn(command).finish()
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
    let mut command = std::process::Command::new(rtm_e2e::binary("rtm"));
    command.args(["--socket", &tcp, "--token-file", &token, "flush", "all"]);
    assert_eq!(rtm_e2e::Process::spawn(command).finish().code, Some(0));
}
