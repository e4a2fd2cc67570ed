//! How fast queues and the ring are: against the same loops in bare C, against
//! a pipe, against other rings; all in one run, interleaved; the median and the
//! best of several rounds (others' load only ever adds). `scripts/bench` writes the table into docs/ipc/benchmarks.md.
//!
//! Words: `rounds=N` (5), `rivals=PATH` (the program of `benches/rivals`, left
//! out if not given), `only=TEXT` (a part of the title).
use std::process::{Command, Stdio};
use std::time::Instant;

use ipc::mq::{self, Queue};
use ipc::ring::{self, Framing, Reader, Writer};
use ipc::timer::Wait;

const LEN: usize = 64;
/// Bytes of the ring under test; rivals get as many slots of 64 bytes as fit.
const CAPACITY: u64 = 1 << 20;

/// One measurement: who, and a run that gives nanoseconds for each message.
struct Contender {
    name: &'static str,
    run: Box<dyn Fn() -> f64>,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ourselves(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("--side").args(words).stdin(Stdio::null());
    command
}

fn bare_c() -> std::path::PathBuf {
    let program = std::env::temp_dir().join(format!("ipc-bench-bare-{}", std::process::id()));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/bare.c");
    let made = Command::new("cc")
        .args(["-O2", "-D_GNU_SOURCE", "-o"])
        .arg(&program)
        .args([source, "-lrt"])
        .status()
        .unwrap();
    assert!(made.success());
    program
}

fn printed(command: &mut Command) -> f64 {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// A rival's run. iceoryx2 now and then never delivers what was sent at the
/// start: such a run is ended and made again.
fn rival_of(path: &str, rival: &str) -> f64 {
    for _ in 0..5 {
        let mut command = Command::new("timeout");
        let output = command.args(["5", path, rival, "1000000"]).output().unwrap();
        if output.status.success() {
            return String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        }
        eprintln!("{rival}: a run without an end, once more");
    }
    panic!("{rival}: five runs without an end")
}

/// The rings (or queues) of one run, removed at its end.
struct Made {
    names: Vec<String>,
}

impl Made {
    fn rings() -> Self {
        let name = format!("/ipc-bench-{}", std::process::id());
        let names = vec![name.clone(), format!("{name}-back")];
        for name in &names {
            let options = ring::Options {
                capacity: CAPACITY,
                framing: Framing::Messages,
                exclusive: true,
                ..Default::default()
            };
            ring::create(name, &options).unwrap();
        }
        Self { names }
    }

    fn queues() -> Self {
        let name = format!("/ipc-bench-{}", std::process::id());
        let names = vec![name.clone(), format!("{name}-back")];
        for name in &names {
            let options =
                mq::Options { maxmsg: Some(10), msgsize: Some(LEN), exclusive: true, mode: 0o600 };
            Queue::create(name, &options).unwrap();
        }
        Self { names }
    }

    fn name(&self) -> &str {
        &self.names[0]
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ring::remove(name);
            let _ = mq::remove(name);
        }
    }
}

/// The other process of ours.
fn side(what: &str, name: &str, count: u64) {
    let mut message = [0; LEN];
    let back = format!("{name}-back");
    match what {
        "ring" => {
            let mut writer = Writer::open(name).unwrap();
            for n in 0..count {
                message[..8].copy_from_slice(&n.to_le_bytes());
                writer.send(&message, Wait::FOREVER).unwrap();
            }
        }
        "ring-trip" => {
            let mut reader = Reader::open(name).unwrap();
            let mut writer = Writer::open(&back).unwrap();
            let mut bytes = Vec::with_capacity(LEN);
            for _ in 0..count {
                reader.receive(&mut bytes, Wait::FOREVER).unwrap();
                writer.send(&bytes, Wait::FOREVER).unwrap();
            }
        }
        "queue" => {
            let queue = Queue::open(name, mq::Access::Send).unwrap();
            for _ in 0..count {
                queue.send(&message, 0, Wait::FOREVER).unwrap();
            }
        }
        "queue-trip" => {
            let queue = Queue::open(name, mq::Access::Receive).unwrap();
            let other = Queue::open(&back, mq::Access::Send).unwrap();
            for _ in 0..count {
                let got = queue.receive(&mut message, Wait::FOREVER).unwrap();
                other.send(&message[..got.len], 0, Wait::FOREVER).unwrap();
            }
        }
        other => panic!("{other}"),
    }
}

fn ours(what: &'static str, count: u64) -> f64 {
    let made = if what.starts_with("ring") { Made::rings() } else { Made::queues() };
    let name = made.name();
    let back = format!("{name}-back");
    let mut child = ourselves(&[what, name, &count.to_string()]).spawn().unwrap();
    let mut message = [0; LEN];
    let start;
    match what {
        "ring" => {
            let mut reader = Reader::open(name).unwrap();
            let mut bytes = Vec::with_capacity(LEN);
            // The other side's start is no part of it.
            reader.receive(&mut bytes, Wait::FOREVER).unwrap();
            start = Instant::now();
            for n in 1..count {
                reader.receive(&mut bytes, Wait::FOREVER).unwrap();
                assert_eq!(bytes[..8], n.to_le_bytes());
            }
        }
        "ring-trip" => {
            let mut writer = Writer::open(name).unwrap();
            let mut reader = Reader::open(&back).unwrap();
            let mut bytes = Vec::with_capacity(LEN);
            start = Instant::now();
            for _ in 0..count {
                writer.send(&message, Wait::FOREVER).unwrap();
                reader.receive(&mut bytes, Wait::FOREVER).unwrap();
            }
        }
        "queue" => {
            let queue = Queue::open(name, mq::Access::Receive).unwrap();
            queue.receive(&mut message, Wait::FOREVER).unwrap();
            start = Instant::now();
            for _ in 1..count {
                queue.receive(&mut message, Wait::FOREVER).unwrap();
            }
        }
        _ => {
            let queue = Queue::open(name, mq::Access::Send).unwrap();
            let other = Queue::open(&back, mq::Access::Receive).unwrap();
            start = Instant::now();
            for _ in 0..count {
                queue.send(&message, 0, Wait::FOREVER).unwrap();
                other.receive(&mut message, Wait::FOREVER).unwrap();
            }
        }
    }
    let nanos = start.elapsed().as_nanos() as f64 / count as f64;
    assert!(child.wait().unwrap().success());
    nanos
}

fn c(program: &std::path::Path, what: &'static str, count: u64) -> f64 {
    let made = if what.starts_with("ring") { Made::rings() } else { Made::queues() };
    printed(Command::new(program).args([what, &count.to_string(), made.name()]))
}

/// A process that sends one message: its start, its work, its end.
fn process(count: u64) -> f64 {
    let made = Made::queues();
    let mut each = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        let sent = Command::new(env!("CARGO_BIN_EXE_ipc"))
            .args(["mq", "send", made.name(), "hello", "--nonblock"])
            .status()
            .unwrap();
        each.push(start.elapsed().as_nanos() as f64);
        assert!(sent.success());
        let queue = Queue::open(made.name(), mq::Access::Receive).unwrap();
        queue.receive(&mut [0; LEN], Wait::No).unwrap();
    }
    median(each)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, what, name, count] = &arguments[..] {
        if flag == "--side" {
            return side(what, name, count.parse().unwrap());
        }
    }
    let word = |name: &str| arguments.iter().find_map(|a| a.strip_prefix(name)?.strip_prefix('='));
    let rounds: usize = word("rounds").map_or(5, |n| n.parse().unwrap());
    let bare = bare_c();
    let (many, some) = (3_000_000, 20_000);

    let mut groups: Vec<(&str, Vec<Contender>)> = Vec::new();
    let contender = |name, run: Box<dyn Fn() -> f64>| Contender { name, run };
    for (title, what, count) in [
        ("queue, 64 bytes, one way", "queue", 100_000),
        ("queue, 64 bytes, round trip", "queue-trip", some),
        ("ring, 64 bytes, round trip", "ring-trip", some),
        ("ring, 64 bytes, one way", "ring", many),
    ] {
        let program = bare.clone();
        groups.push((
            title,
            vec![
                contender("ipc (this crate)", Box::new(move || ours(what, count))),
                contender("bare C, the same loop", Box::new(move || c(&program, what, count))),
            ],
        ));
    }
    let program = bare.clone();
    let one_way = &mut groups.last_mut().expect("four").1;
    one_way.push(contender(
        "pipe, bare C",
        Box::new(move || printed(Command::new(&program).args(["pipe", "500000", "-"]))),
    ));
    if let Some(path) = word("rivals") {
        for (name, rival) in
            [("iceoryx2", "iceoryx2"), ("rtrb (threads of one process, spinning)", "rtrb")]
        {
            let path = path.to_owned();
            one_way.push(contender(name, Box::new(move || rival_of(&path, rival))));
        }
    }
    groups.push((
        "ipc mq send as a process, start to end",
        vec![contender("ipc", Box::new(|| process(100)))],
    ));

    println!(
        "| what | who | median of {rounds}, ns | best, ns | median against ours | best against ours |"
    );
    println!("|---|---|---|---|---|---|");
    for (title, contenders) in &groups {
        if word("only").is_some_and(|part| !title.contains(part)) {
            continue;
        }
        let mut results: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
        for _ in 0..rounds {
            for (contender, results) in contenders.iter().zip(&mut results) {
                results.push((contender.run)());
            }
        }
        let medians: Vec<f64> = results.iter().map(|r| median(r.clone())).collect();
        let bests: Vec<f64> =
            results.iter().map(|r| r.iter().copied().fold(f64::INFINITY, f64::min)).collect();
        for (n, contender) in contenders.iter().enumerate() {
            let (middle, best, who) = (medians[n], bests[n], contender.name);
            let (by_median, by_best) = (middle / medians[0], best / bests[0]);
            println!(
                "| {title} | {who} | {middle:.0} | {best:.0} | {by_median:.2} | {by_best:.2} |"
            );
        }
    }
    let _ = std::fs::remove_file(bare);
}
