//! Which crate may use which: DESIGN.md's table as a test over `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Each crate of ours with those of ours that it may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("rtm-ipc", &[]),
    ("rtm-model", &[]),
    ("rtm-prefetch", &[]),
    ("rtm-files", &["rtm-model", "rtm-netlink"]),
    ("rtm-netlink", &["rtm-model"]),
    ("rtm-tables", &["rtm-model", "rtm-prefetch"]),
    ("rtm-image", &["rtm-ipc", "rtm-model"]),
    (
        "rtm-daemon",
        &["rtm-ipc", "rtm-model", "rtm-files", "rtm-netlink", "rtm-tables", "rtm-image"],
    ),
    ("rtm-client", &["rtm-ipc", "rtm-model", "rtm-tables", "rtm-image"]),
    ("rtm-librtm", &["rtm-client"]),
    ("rtm-cli", &["rtm-client", "rtm-model", "rtm-files", "rtm-netlink"]),
    ("rtm-toolbox", &["rtm-ipc"]),
];

/// What is never published and may use anything.
const UNPUBLISHED: &[&str] = &["rtm-bench", "rtm-e2e", "rtm-interop"];

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("metadata is JSON")
}

#[test]
fn crates_use_only_what_they_may() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<&str> = packages.iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert!(ours.contains("rtm-tables"), "the metadata lists our crates: {ours:?}");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        if UNPUBLISHED.contains(&name) {
            continue;
        }
        let allowed =
            allowed.get(name).unwrap_or_else(|| panic!("{name} has no line in this test's table"));
        for dependency in package["dependencies"].as_array().unwrap() {
            // Tests may use more: kind is null for an ordinary dependency.
            let used = dependency["name"].as_str().unwrap();
            if dependency["kind"].is_null() && ours.contains(used) {
                assert!(
                    allowed.contains(&used),
                    "{name} uses {used}, which its layer must not know"
                );
            }
        }
    }
}

#[test]
fn nothing_is_unsafe_above_the_wrappers() {
    for crate_name in ["model", "tables", "files", "netlink", "client", "daemon", "cli"] {
        let root = format!("{}/../crates/{crate_name}/src", env!("CARGO_MANIFEST_DIR"));
        let entry = ["lib.rs", "main.rs"].map(|file| format!("{root}/{file}"));
        let text = entry.iter().find_map(|path| std::fs::read_to_string(path).ok());
        let text = text.unwrap_or_else(|| panic!("{root} has neither lib.rs nor main.rs"));
        assert!(
            text.contains("#![forbid(unsafe_code)]"),
            "crates/{crate_name} doesn't forbid unsafe code"
        );
    }
}
