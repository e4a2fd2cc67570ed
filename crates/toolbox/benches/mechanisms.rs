//! `ipc bench` against the same loops in bare C, in the same run, interleaved;
//! medians of several rounds (the ring's twin is in `speed`). Words: `rounds=N` (5), `trips=N`, `messages=N`,
//! `only=MECHANISM`. `scripts/bench-mechanisms` writes the page with it.
use std::process::{Command, Stdio};

const MECHANISMS: &[&str] = &[
    "pipe",
    "fifo",
    "unix-stream",
    "unix-dgram",
    "unix-seqpacket",
    "tcp",
    "udp",
    "mq",
    "sysv-mq",
    "shm-sem",
    "eventfd",
    "signal",
];

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn printed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// p50 in nanoseconds and messages a second.
fn ours(mechanism: &str, bytes: &str, core: &str, trips: &str, messages: &str) -> (f64, f64) {
    let text = printed(
        Command::new(env!("CARGO_BIN_EXE_ipc"))
            .args(["bench", "--json", "--only", mechanism, "--sizes", bytes])
            .args(["--trips", trips, "--messages", messages]),
    );
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let all = value["bench"].as_array().unwrap();
    let row = all.iter().find(|row| row["core"] == core).expect("two cores");
    (row["p50-us"].as_f64().unwrap() * 1000.0, row["msg/s"].as_f64().unwrap())
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let word = |name: &str| arguments.iter().find_map(|a| a.strip_prefix(name)?.strip_prefix('='));
    let rounds: usize = word("rounds").map_or(5, |n| n.parse().unwrap());
    let (trips, messages) = (word("trips").unwrap_or("5000"), word("messages").unwrap_or("20000"));
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("mechanisms");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/mechanisms.c");
    let made = Command::new("cc")
        .args(["-O2", "-Wall", "-D_GNU_SOURCE", "-pthread", "-o"])
        .arg(&program)
        .args([source, "-lrt"])
        .status()
        .unwrap();
    assert!(made.success());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "| mechanism | bytes | core | p50 ours, us | p50 C, us | ours/C | msg/s ours | msg/s C | C/ours |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for mechanism in MECHANISMS {
        if word("only").is_some_and(|only| only != *mechanism) {
            continue;
        }
        let sizes: &[&str] =
            if ["eventfd", "signal"].contains(mechanism) { &["8"] } else { &["64", "4096"] };
        for bytes in sizes {
            for (core, other) in [("same", "0"), ("other", "1")] {
                if core == "other" && cores < 2 {
                    continue;
                }
                let (mut mine, mut theirs) = (Vec::new(), Vec::new());
                for _ in 0..rounds {
                    mine.push(ours(mechanism, bytes, core, trips, messages));
                    let text = printed(
                        Command::new(&program)
                            .args([mechanism, bytes, "0", other, trips, messages]),
                    );
                    let (p50, rate) = text.trim().split_once(' ').unwrap();
                    theirs.push((p50.parse::<f64>().unwrap(), rate.parse::<f64>().unwrap()));
                }
                let of = |list: &[(f64, f64)], which: fn(&(f64, f64)) -> f64| {
                    median(list.iter().map(which).collect())
                };
                let (a, b) = (of(&mine, |f| f.0), of(&theirs, |f| f.0));
                let (c, d) = (of(&mine, |f| f.1), of(&theirs, |f| f.1));
                println!(
                    "| {mechanism} | {bytes} | {core} | {:.1} | {:.1} | {:.2} | {c:.0} | {d:.0} | {:.2} |",
                    a / 1000.0,
                    b / 1000.0,
                    a / b,
                    d / c
                );
            }
        }
    }
}
