//! `ipc bench` against the same loops in bare C, in the same run, interleaved;
//! medians of several rounds (the ring's twin is in `speed`). Words: `rounds=N`
//! (5), `trips=N`, `messages=N`, `only=MECHANISM`. `scripts/bench-mechanisms`
//! writes the page with it.
//!
//! One way between two cores has two speeds for several mechanisms, as the
//! receiver finds the next message there or falls asleep before each: both
//! programs change from one to the other between rounds, so that the median of
//! few says nothing. Hence many rounds of many messages. And who comes first
//! changes each round: how deep a core sleeps between round trips depends on
//! what it did just before.
use std::path::Path;
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

/// p50 in nanoseconds and messages a second, on one core and on two.
fn ours(mechanism: &str, bytes: &str, trips: &str, messages: &str) -> Vec<(f64, f64)> {
    let text = printed(
        Command::new(env!("CARGO_BIN_EXE_ipc"))
            .args(["bench", "--json", "--only", mechanism, "--sizes", bytes])
            .args(["--trips", trips, "--messages", messages]),
    );
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let rows = value["bench"].as_array().unwrap().iter();
    rows.map(|row| (row["p50-us"].as_f64().unwrap() * 1000.0, row["msg/s"].as_f64().unwrap()))
        .collect()
}

/// The same of bare C, the other process on core `other`.
fn theirs(
    program: &Path,
    words: [&str; 2],
    other: &str,
    trips: &str,
    messages: &str,
) -> (f64, f64) {
    let [mechanism, bytes] = words;
    let text = printed(Command::new(program).args([mechanism, bytes, "0", other, trips, messages]));
    let (p50, rate) = text.trim().split_once(' ').unwrap();
    (p50.parse().unwrap(), rate.parse().unwrap())
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let word = |name: &str| arguments.iter().find_map(|a| a.strip_prefix(name)?.strip_prefix('='));
    let rounds: usize = word("rounds").map_or(5, |n| n.parse().unwrap());
    let (trips, messages) = (word("trips").unwrap_or("5000"), word("messages").unwrap_or("50000"));
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
            let kinds = &[("same", "0"), ("other", "1")][..cores.min(2)];
            let (mut mine, mut c) = (vec![Vec::new(); 2], vec![Vec::new(); 2]);
            for round in 0..rounds {
                for ours_now in [round % 2 == 0, round % 2 != 0] {
                    if ours_now {
                        let both = ours(mechanism, bytes, trips, messages);
                        mine.iter_mut().zip(both).for_each(|(list, figures)| list.push(figures));
                        continue;
                    }
                    for (list, (_, other)) in c.iter_mut().zip(kinds) {
                        list.push(theirs(&program, [mechanism, bytes], other, trips, messages));
                    }
                }
            }
            for (n, (core, _)) in kinds.iter().enumerate() {
                let of = |list: &[(f64, f64)], which: fn(&(f64, f64)) -> f64| {
                    median(list.iter().map(which).collect())
                };
                let (trip, trip_c) = (of(&mine[n], |f| f.0), of(&c[n], |f| f.0));
                let (rate, rate_c) = (of(&mine[n], |f| f.1), of(&c[n], |f| f.1));
                println!(
                    "| {mechanism} | {bytes} | {core} | {:.1} | {:.1} | {:.2} | {rate:.0} | {rate_c:.0} | {:.2} |",
                    trip / 1000.0,
                    trip_c / 1000.0,
                    trip / trip_c,
                    rate_c / rate
                );
            }
        }
    }
}
