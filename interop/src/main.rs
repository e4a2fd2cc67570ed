//! Interoperation: the real binaries beside the real kernel, FRR, BIRD and
//! ExaBGP, none of which we wrote, in network namespaces of their own.
//!
//! `scripts/interop [NAME…] [--short]` runs it. A scenario fails by a panic;
//! whatever it started and made goes with it. Each compares what `rtmd` ended
//! with against what the other side says of itself.

mod bird;
mod exabgp;
mod export;
mod frr;
mod kernel;
mod proxy;
mod replay;
mod scenarios;
mod zebra_table;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// For continuous integration: a fraction of the routes.
    pub(crate) short: bool,
}

impl Scale {
    /// `long` of something, or `short`.
    pub(crate) fn of(self, long: usize, short: usize) -> usize {
        if self.short { short } else { long }
    }
}

/// A scenario: its name, what it shows, and itself. It gives what it saw, in
/// one line.
type Scenario = (&'static str, &'static str, fn(Scale) -> String);

fn main() -> ExitCode {
    let (mut names, mut scale, mut list) = (Vec::new(), Scale { short: false }, false);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--short" => scale.short = true,
            "--list" => list = true,
            name if scenarios::ALL.iter().any(|scenario| scenario.0 == name) => {
                names.push(argument);
            }
            other => {
                eprintln!("interop: {other}: no such scenario; --list shows them");
                return ExitCode::from(1);
            }
        }
    }
    if list {
        for (name, about, _) in scenarios::ALL {
            println!("{name:<14} {about}");
        }
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("interop: needs root: it makes network namespaces");
        return ExitCode::from(2);
    }
    let mut failed = Vec::new();
    for (name, about, run) in scenarios::ALL {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        println!("== {name}: {about}");
        let start = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| run(scale))) {
            Ok(seen) => println!("ok {name}: {seen} ({:.1} s)", start.elapsed().as_secs_f64()),
            Err(_) => {
                println!("FAILED {name} ({:.1} s)", start.elapsed().as_secs_f64());
                failed.push(*name);
            }
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {}", failed.join(", "));
    ExitCode::from(1)
}
