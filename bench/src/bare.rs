//! The bounds: C programs that do the least that could be called the same work
//! (`bench/c`), compiled with `cc -O2` when a bench starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::harness::rounds::{Contender, Sample};
use crate::harness::worker::die_with_parent;
use crate::routes::Route;

/// What the C programs are given, as the compiler sees it.
const SOURCES: [(&str, &str); 4] = [
    ("bareloop", include_str!("../c/bareloop.c")),
    ("pingpong", include_str!("../c/pingpong.c")),
    ("relay", include_str!("../c/relay.c")),
    ("hashfill", include_str!("../c/hashfill.c")),
];
/// Round trips of one ping-pong sample.
const PING_ROUNDS: usize = 10_000;

/// One of the programs with its arguments.
pub(crate) struct Bare {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    figure: fn(u64, u64) -> f64,
}

impl Bare {
    /// One buffer of 40-byte records to so many readers: deliveries a second.
    pub(crate) fn fan_out(directory: &Path, subscribers: usize, records: usize) -> Result<Self> {
        Ok(Self {
            name: "bare loop",
            program: compile(directory, "bareloop")?,
            arguments: vec![subscribers.to_string(), records.to_string()],
            figure: |deliveries, ns| deliveries as f64 / (ns as f64 / 1e9),
        })
    }

    /// A byte there and back: median in microseconds.
    pub(crate) fn ping(directory: &Path) -> Result<Self> {
        Ok(Self {
            name: "ping",
            program: compile(directory, "pingpong")?,
            arguments: vec![PING_ROUNDS.to_string()],
            figure: |p50_ns, _p99_ns| p50_ns as f64 / 1e3,
        })
    }

    /// One record at a time to a process that sends it to so many: median in
    /// microseconds until the last has it.
    pub(crate) fn relay(directory: &Path, subscribers: usize, updates: usize) -> Result<Self> {
        Ok(Self {
            name: "bare relay",
            program: compile(directory, "relay")?,
            arguments: vec![subscribers.to_string(), updates.to_string()],
            figure: |p50_ns, _p99_ns| p50_ns as f64 / 1e3,
        })
    }

    /// So many processes, each filling a hash table with all routes: seconds.
    pub(crate) fn hash_fill(directory: &Path, processes: usize, routes: &[Route]) -> Result<Self> {
        let file = directory.join("records");
        fs::write(&file, routes.iter().flat_map(record).collect::<Vec<u8>>())?;
        Ok(Self {
            name: "bare hash",
            program: compile(directory, "hashfill")?,
            arguments: vec![processes.to_string(), file.display().to_string()],
            figure: |_records, ns| ns as f64 / 1e9,
        })
    }
}

impl Contender for Bare {
    fn name(&self) -> &str {
        self.name
    }

    fn sample(&mut self, _round: u64) -> Result<Sample> {
        let mut command = Command::new(&self.program);
        let output = die_with_parent(command.args(&self.arguments)).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        let text = String::from_utf8_lossy(&output.stdout);
        let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
        let mut number = || numbers.next().context("too few numbers")?.context("no number");
        Ok(Sample { value: (self.figure)(number()?, number()?), lost: 0 })
    }
}

/// `struct record` of `hashfill.c`.
fn record(route: &Route) -> [u8; 40] {
    let wide = |address| match address {
        std::net::IpAddr::V4(address) => std::net::Ipv4Addr::to_ipv6_mapped(&address).octets(),
        std::net::IpAddr::V6(address) => address.octets(),
    };
    let mut bytes = [0; 40];
    bytes[..16].copy_from_slice(&wide(route.prefix.address));
    bytes[16] = route.prefix.length;
    bytes[20..36].copy_from_slice(&wide(route.next_hop.gateway));
    bytes[36] = route.next_hop.link;
    bytes
}

fn compile(directory: &Path, name: &str) -> Result<PathBuf> {
    let (_, source) =
        SOURCES.iter().find(|(known, _)| *known == name).context("no such program")?;
    let program = directory.join(name);
    let file = directory.join(format!("{name}.c"));
    fs::write(&file, source)?;
    let status = Command::new("cc")
        .args(["-O2", "-o"])
        .arg(&program)
        .arg(&file)
        .status()
        .context("cc (package gcc)")?;
    ensure!(status.success(), "cc: {status}");
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::{NextHop, Prefix};

    #[test]
    fn the_programs_do_what_they_are_asked() {
        let directory = tempfile::tempdir().unwrap();
        let mut fan_out = Bare::fan_out(directory.path(), 3, 1_000).unwrap();
        assert!(fan_out.sample(0).unwrap().value > 0.0);
        let mut ping = Bare::ping(directory.path()).unwrap();
        assert!(ping.sample(0).unwrap().value > 0.0);
        let mut relay = Bare::relay(directory.path(), 3, 100).unwrap();
        assert!(relay.sample(0).unwrap().value > 0.0);
        let prefix = Prefix { address: "1.2.3.0".parse().unwrap(), length: 24 };
        let route = Route { prefix, next_hop: NextHop::numbered(0, 0, prefix.address) };
        let mut fill = Bare::hash_fill(directory.path(), 2, &[route]).unwrap();
        assert!(fill.sample(0).unwrap().value > 0.0);
    }
}
