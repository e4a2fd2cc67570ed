//! The kernel's mirror: the real table with a receive buffer that overruns, and
//! random steps with everything that `ip` can do to routes.
//!
//! After each burst the daemon's candidates are a fresh dump's, route by route,
//! its neighbours the kernel's, and what a look-up finds in each table is what
//! the kernel finds there. `RTM_SEED` names the sequence of another run.

use std::fmt::Write as _;
use std::time::Instant;

use rtm_e2e::mirror::{self, Random};
use rtm_e2e::{Daemon, Namespace, data, require};
use serde_json::Value;

use crate::Scale;

/// The kernel's default: what `SO_RCVBUF` is given is doubled.
const DEFAULT_BUFFER: &str = "[kernel]\nreceive_bytes = 106496\n";
/// A table that steps don't touch. With more than 2,000 routes the daemon lists
/// a link's routes alone, so that less is mended by accident.
const BESIDE: usize = 4_000;

const SIGSTOP: i32 = 19;
const SIGCONT: i32 = 18;

/// The number that the steps are drawn from, printed.
fn seed() -> u64 {
    let named = std::env::var("RTM_SEED").ok().and_then(|text| text.parse().ok());
    let seed = named.unwrap_or_else(|| u64::from(std::process::id()));
    println!("   RTM_SEED={seed}");
    seed
}

fn counts(daemon: &Daemon) -> Value {
    daemon.json(&["status"])["kernel"]["counts"].clone()
}

fn count(daemon: &Daemon, name: &str) -> u64 {
    counts(daemon)[name].as_u64().unwrap_or_default()
}

/// Random steps beside a table that stays.
pub(crate) fn steps(scale: Scale) -> String {
    let steps = scale.of(10_000, 400);
    let mut random = Random::new(seed());
    let namespace = Namespace::with_links();
    mirror::prepare(&namespace);
    namespace.veth("x0", "x1", "192.168.3.2/24");
    let mut lines = String::new();
    for number in 0..BESIDE {
        let _ = writeln!(
            lines,
            "route add 172.{}.{}.0/24 via 192.168.3.{} table 5000",
            16 + number / 250,
            number % 250,
            number % 200 + 3
        );
    }
    namespace.batch(&lines);
    let daemon = Daemon::start_within(&namespace, "", &["--kernel"]);
    mirror::await_equal(&namespace, &daemon, "at the start");
    let bursts = mirror::run_steps(&namespace, &daemon, &mut random, steps);
    let refused = count(&daemon, "refused");
    assert_eq!(refused, 0, "{}", daemon.process.stderr());
    verify(&daemon);
    format!("equal after each of {bursts} bursts, {steps} steps; {}", counts(&daemon))
}

/// The real table by `ip -batch`, with a receive buffer of the default size and
/// a daemon that isn't given the time to read it; then steps beside it.
pub(crate) fn full(scale: Scale) -> String {
    let Some(folder) = require::data("kernel-full") else { return "not run: no data".to_owned() };
    let mut random = Random::new(seed());
    let namespace = Namespace::with_links();
    namespace.sysctl("net.ipv6.route.max_size", "2147483647");
    mirror::prepare(&namespace);
    // A link of its own, so that later steps leave it alone.
    namespace.veth("x0", "x1", "192.168.3.2/24");
    namespace.ip("-6 addr add 2001:db8:3::2/64 dev x0 nodad");
    let daemon = Daemon::start_within(&namespace, DEFAULT_BUFFER, &["--kernel"]);
    let (mut lines, mut sample) = ([String::new(), String::new()], Vec::new());
    let (mut v4, mut v6) = (0, 0);
    for (number, prefix) in
        data::lines(&folder.join("full-table.txt.gz")).step_by(scale.of(1, 40)).enumerate()
    {
        let host = number % 200 + 3;
        let gateway = match prefix.contains(':') {
            true => format!("2001:db8:3::{host:x}"),
            false => format!("192.168.3.{host}"),
        };
        *(if prefix.contains(':') { &mut v6 } else { &mut v4 }) += 1;
        let lines = &mut lines[number % 2];
        let _ = writeln!(lines, "route replace {prefix} via {gateway} dev x0");
        if number % 5_000 == 0 {
            sample.push(prefix.split('/').next().unwrap_or_default().to_owned());
        }
    }
    // Half of it as fast as it is read or not, half while it is stopped for certain.
    let start = Instant::now();
    namespace.batch(&lines[0]);
    daemon.process.signal(SIGSTOP);
    namespace.batch(&lines[1]);
    let loaded = start.elapsed();
    daemon.process.signal(SIGCONT);
    let start = Instant::now();
    mirror::await_equal(&namespace, &daemon, "after the table was loaded");
    let resynced = start.elapsed();
    assert!(count(&daemon, "overruns") >= 1, "{}", counts(&daemon));
    for address in &sample {
        mirror::compare_lookup(&namespace, &daemon, address, "254", "with the whole table");
    }
    verify(&daemon);
    // Steps beside it.
    let steps = scale.of(200, 20);
    let bursts = mirror::run_steps(&namespace, &daemon, &mut random, steps);
    // Its link takes 900,000 IPv4 routes along, without a word, and the IPv6
    // ones with more words than the buffer holds.
    namespace.ip("link set x0 down");
    mirror::await_equal(&namespace, &daemon, "after its link went down");
    namespace.ip("link set x0 up");
    mirror::await_equal(&namespace, &daemon, "after its link came up");
    verify(&daemon);
    format!(
        "{v4} and {v6} routes loaded in {:.1} s, found equal {:.1} s later; {bursts} bursts of steps beside them; {}",
        loaded.as_secs_f64(),
        resynced.as_secs_f64(),
        counts(&daemon)
    )
}

/// Every copy is the daemon's: a client's digests agree.
fn verify(daemon: &Daemon) {
    let output = daemon.run(&["client", "--once", "--verify"]);
    assert_eq!(output.code, Some(0), "{}{}", output.out, output.err);
}
