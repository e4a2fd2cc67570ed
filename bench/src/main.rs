//! `rtm-bench`: rtm and its rivals side by side.
//!
//! `rtm-bench run NAME` runs one bench, `rtm-bench render FILE` makes the page of
//! all results, `rtm-bench role …` is what the bench starts as publishers and
//! subscribers. `scripts/bench` does all that is needed around it.
//!
//! Read `benches.rs` for what is measured and `harness/rounds.rs` for how.

mod benches;
mod contenders;
mod harness;

mod bare;
mod broker;
mod feeds;
mod kernel;
mod lookup;
mod rtm;

mod changes;
mod render;
mod routes;
mod setup;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};

use broker::protocol::Protocol;
use contenders::NextHops;
use harness::results::{self, Record};
use harness::rounds::Plan;
use setup::{CONTENDERS, Setup};

/// Interleaved pairs, unless told otherwise.
const PAIRS: usize = 20;
/// With a contender that takes over ten seconds a sample.
const PAIRS_SLOW: usize = 5;
/// What takes over so many seconds.
const SLOW: u64 = 10;
/// For a smoke test.
const PAIRS_QUICK: usize = 2;

#[derive(Parser)]
#[command(name = "rtm-bench", version, about = "rtm and its rivals, side by side in the same run")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run benches and append their results
    Run {
        /// A name from `list`, or `all`
        #[arg(required = true)]
        names: Vec<String>,
        /// Interleaved pairs of each measure
        #[arg(long, default_value_t = PAIRS)]
        pairs: usize,
        /// Seconds from which a sample is slow, so that five pairs have to do; lower
        /// than 10 for a quicker run
        #[arg(long, default_value_t = SLOW)]
        slow: u64,
        /// A smoke test: few pairs, marked as preliminary
        #[arg(long)]
        quick: bool,
        /// Only these numbers of subscribers
        #[arg(short, long, value_delimiter = ',')]
        n: Vec<usize>,
        /// Only these contenders
        #[arg(long, value_delimiter = ',', value_parser = CONTENDERS)]
        only: Vec<String>,
        /// Only about so many routes of the table
        #[arg(long)]
        routes: Option<usize>,
        /// The real table and the update trace
        #[arg(long, env = "RTM_DATA", default_value = "../shared/data")]
        data: PathBuf,
        /// Where results are kept
        #[arg(long, default_value = "bench/results")]
        results: PathBuf,
        /// Seconds to wait for a quiet machine before each sample
        #[arg(long, default_value_t = 10)]
        settle: u64,
    },
    /// Say which benches there are
    List,
    /// Write the page of all results
    Render {
        /// The page, for instance docs/benchmarks.md
        page: PathBuf,
        #[arg(long, default_value = "bench/results")]
        results: PathBuf,
    },
    /// Be a publisher or subscriber of a running bench
    #[command(hide = true)]
    Role { arguments: Vec<String> },
}

fn main() -> Result<()> {
    match Arguments::parse().verb {
        Verb::Run { names, pairs, slow, quick, n, only, routes, data, results, settle } => {
            let plan = Plan {
                pairs: if quick { PAIRS_QUICK } else { pairs },
                pairs_slow: if quick { PAIRS_QUICK } else { PAIRS_SLOW.min(pairs) },
                slow: Duration::from_secs(slow),
                settle: Duration::from_secs(settle),
            };
            ensure!(plan.pairs > 0, "--pairs 0: at least one");
            let setup = Setup::new(data, routes, only)?;
            for name in expand(&names)? {
                benches::run_bench(&setup, name, &n, plan, |result| {
                    println!("{}", render::table(&result));
                    let preliminary = quick || pairs < PAIRS_SLOW || routes.is_some();
                    results::append(&results, &Record::new(result, command_line(), preliminary))
                })?;
            }
            Ok(())
        }
        Verb::List => {
            benches::BENCHES.iter().for_each(|(name, what)| println!("{name:10} {what}"));
            Ok(())
        }
        Verb::Render { page, results } => {
            let text = render::page(&results::read(&results)?);
            std::fs::write(&page, text).with_context(|| format!("{}", page.display()))
        }
        Verb::Role { arguments } => role(&arguments.iter().map(String::as_str).collect::<Vec<_>>()),
    }
}

fn role(arguments: &[&str]) -> Result<()> {
    match arguments {
        ["kernel-admin", data, routes_max, next_hops, state] => kernel::admin::run(
            Path::new(data),
            routes_max.parse().ok(),
            *next_hops == NextHops::Objects.contender(),
            *state == "loaded",
        ),
        ["kernel-count", admin] => kernel::subscriber::count(admin.parse()?),
        ["kernel-join", admin] => kernel::subscriber::join(admin.parse()?),
        ["kernel-lookup", admin, directory, family] => {
            lookup::kernel::run(admin.parse()?, Path::new(directory), *family == "IPv6")
        }
        ["broker-publish", name, address] => {
            broker::client::publish(Protocol::parse(name)?, address)
        }
        ["broker-count", name, address] => broker::client::count(Protocol::parse(name)?, address),
        ["rtm-admin", socket, data, routes_max, state] => rtm::publisher::run(
            Path::new(socket),
            Path::new(data),
            routes_max.parse().ok(),
            *state == "loaded",
        ),
        ["rtm-count", socket] => rtm::subscriber::count(Path::new(socket)),
        ["rtm-apply", socket] => rtm::subscriber::apply(Path::new(socket)),
        ["rtm-mapped", socket, how] => rtm::mapped::run(Path::new(socket), *how == "asleep"),
        ["rtm-join", socket, how] => rtm::subscriber::join(Path::new(socket), *how == "apply"),
        ["rtm-silent", socket, count] => rtm::silent::run(Path::new(socket), count.parse()?),
        _ => bail!("no such role: {}", arguments.join(" ")),
    }
}

fn expand(names: &[String]) -> Result<Vec<&'static str>> {
    let known = || benches::BENCHES.iter().map(|(name, _)| *name);
    let mut wanted = Vec::new();
    for name in names {
        match known().find(|known| known == name) {
            Some(name) => wanted.push(name),
            None if name == "all" => wanted.extend(known()),
            None => bail!(
                "no bench called {name}; there are: {}",
                known().collect::<Vec<_>>().join(", ")
            ),
        }
    }
    Ok(wanted)
}

/// As typed, but for the path of the program: what was given to `scripts/bench`.
fn command_line() -> String {
    std::env::var("RTM_BENCH_COMMAND").unwrap_or_else(|_| {
        std::iter::once("rtm-bench".to_owned())
            .chain(std::env::args().skip(1))
            .collect::<Vec<_>>()
            .join(" ")
    })
}
