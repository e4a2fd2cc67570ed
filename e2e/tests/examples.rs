//! The examples run, and do what they say.

use std::path::PathBuf;
use std::process::Command;

use rtm_e2e::{Daemon, Process};

/// Builds an example where it isn't there yet; its path.
fn example(package: &str, name: &str) -> PathBuf {
    let cargo = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--package", package, "--example", name])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")])
        .status()
        .expect("cargo runs");
    assert!(cargo.success());
    let path = rtm_e2e::binary("rtm").parent().unwrap().join("examples").join(name);
    assert!(path.is_file(), "{}", path.display());
    path
}

#[test]
fn a_pair_of_sessions_by_hand() {
    let output = Command::new(example("rtm-tables", "pair")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("digests agree: true"), "{text}");
    assert!(!text.contains("digests agree: false"), "{text}");
}

#[test]
fn a_follower_prints_changes() {
    let follow = example("rtm-client", "follow");
    let daemon = Daemon::start(&[]);
    daemon.rtm(&["route", "add", "122.1.1.1/32", "via", "10.1.1.1", "dev", "Ethernet1"]);
    let mut command = Command::new(follow);
    command.env("RTM_RUNTIME_DIR", daemon.directory()).env_remove("RTM_SOCKET");
    let follower = Process::spawn(command);
    follower.wait_stdout("-- the copy is revision 1\n");
    daemon.rtm(&["route", "add", "blackhole", "130.1.1.0/24"]);
    follower.wait_stdout("130.1.1.0/24 blackhole\n");
    daemon.rtm(&["route", "del", "122.1.1.1/32"]);
    follower.wait_stdout("122.1.1.1/32 is gone\n");
    daemon.rtm(&["flush", "--force"]);
    follower.wait_stdout("everything is gone\n");
    assert!(follower.stdout().contains("122.1.1.1/32 via 10.1.1.1 dev Ethernet1\n"));
}
