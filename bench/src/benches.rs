//! All benches on one page: what is measured, against whom, what is asked.

use anyhow::{Result, bail};

use crate::bare::Bare;
use crate::broker::protocol::Protocol;
use crate::contenders::{FanOut, Group, KernelJoin, NextHops, OneByOne};
use crate::harness::rounds::{Contender, Goal, Measure, Outcome, Plan, Unit, run};
use crate::harness::worker::Work;
use crate::setup::Setup;

/// Random changes of one sample.
const CHANGES: usize = 200_000;
/// Updates of one latency sample.
const UPDATES: usize = 2_000;

/// Names, as on the command line, and what they measure.
pub(crate) const BENCHES: [(&str, &str); 6] = [
    ("load", "the real table, from the admin's first write until N subscribers have all of it"),
    ("join", "a late joiner, until it has the whole table"),
    ("changes", "200,000 random changes of the full table to N subscribers"),
    ("trace", "the real update trace on the full table to N subscribers"),
    ("latency", "one update at a time, until the last of N subscribers has it"),
    ("hash", "8 processes that fill a bare hash table from one encoded buffer"),
];

/// Numbers of subscribers of a bench.
fn numbers(bench: &str) -> &'static [usize] {
    match bench {
        "load" => &[1, 8],
        "changes" | "trace" => &[1, 8, 64, 256],
        "latency" => &[1, 64],
        "hash" => &[8],
        _ => &[1],
    }
}

/// Runs one bench for each number of subscribers (those in `only_n`, if any).
/// `done` is given each result at once, so that a later failure loses nothing.
pub(crate) fn run_bench(
    setup: &Setup,
    bench: &str,
    only_n: &[usize],
    plan: Plan,
    mut done: impl FnMut(Outcome) -> Result<()>,
) -> Result<()> {
    for &n in numbers(bench).iter().filter(|n| only_n.is_empty() || only_n.contains(n)) {
        let (measure, mut contenders) = match bench {
            "load" => load(setup, n)?,
            "join" => join(setup)?,
            "changes" => changes(setup, n)?,
            "trace" => trace(setup, n)?,
            "latency" => latency(setup, n)?,
            "hash" => hash(setup, n)?,
            _ => bail!("no bench called {bench}"),
        };
        if contenders.is_empty() {
            continue;
        }
        done(run(measure, &mut contenders, plan)?)?;
    }
    Ok(())
}

type Planned = (Measure, Vec<Box<dyn Contender>>);

fn load(setup: &Setup, n: usize) -> Result<Planned> {
    let goals = if n == 8 { vec![goal("kernel", 10.0)] } else { Vec::new() };
    let measure = measure("load", subscribers(n), Unit::Seconds, goals);
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    for next_hops in [NextHops::Plain, NextHops::Objects] {
        if setup.wants(next_hops.contender()) {
            let group = Group::kernel(setup, next_hops, n, false)?;
            let work = Box::new(|_| Work::Load);
            contenders.push(Box::new(FanOut { group, unit: Unit::Seconds, work }));
        }
    }
    Ok((measure, contenders))
}

fn join(setup: &Setup) -> Result<Planned> {
    let measure =
        measure("join", "one late joiner".to_owned(), Unit::Seconds, vec![goal("kernel", 3.0)]);
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    if setup.wants("kernel") {
        contenders.push(Box::new(KernelJoin::new(setup)?));
    }
    Ok((measure, contenders))
}

fn changes(setup: &Setup, n: usize) -> Result<Planned> {
    let measure = measure("changes", subscribers(n), Unit::DeliveriesPerSecond, fan_out_goals(n));
    let work = |round| Work::Random { seed: round, count: CHANGES };
    Ok((measure, fan_out(setup, n, work, CHANGES)?))
}

fn trace(setup: &Setup, n: usize) -> Result<Planned> {
    let measure = measure("trace", subscribers(n), Unit::DeliveriesPerSecond, fan_out_goals(n));
    let messages = setup.trace_effective()? as usize;
    Ok((measure, fan_out(setup, n, |_| Work::Trace, messages)?))
}

/// All rivals that can fan out; brokers and the bare loop carry as many
/// messages as the others have changes.
fn fan_out(
    setup: &Setup,
    n: usize,
    work: impl Fn(u64) -> Work + Clone + 'static,
    messages: usize,
) -> Result<Vec<Box<dyn Contender>>> {
    let unit = Unit::DeliveriesPerSecond;
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    for next_hops in [NextHops::Plain, NextHops::Objects] {
        if setup.wants(next_hops.contender()) {
            let group = Group::kernel(setup, next_hops, n, true)?;
            contenders.push(Box::new(FanOut { group, unit, work: Box::new(work.clone()) }));
        }
    }
    for protocol in [Protocol::Redis, Protocol::Nats] {
        if setup.wants(protocol.name()) {
            let group = Group::broker(setup, protocol, n)?;
            let work = move |_| Work::Messages { count: messages };
            contenders.push(Box::new(FanOut { group, unit, work: Box::new(work) }));
        }
    }
    if setup.wants("bare") {
        contenders.push(Box::new(Bare::fan_out(setup.directory(), n, messages)?));
    }
    Ok(contenders)
}

fn latency(setup: &Setup, n: usize) -> Result<Planned> {
    let goals = if n == 1 {
        vec![goal("ping", 1.0 / 1.5)]
    } else {
        ["kernel", "redis", "nats"].map(|rival| goal(rival, 1.0)).to_vec()
    };
    let measure = measure("latency", subscribers(n), Unit::Microseconds, goals);
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    if setup.wants("kernel") {
        let group = Group::kernel(setup, NextHops::Plain, n, false)?;
        contenders.push(Box::new(OneByOne { group, updates: UPDATES }));
    }
    for protocol in [Protocol::Redis, Protocol::Nats] {
        if setup.wants(protocol.name()) {
            let group = Group::broker(setup, protocol, n)?;
            contenders.push(Box::new(OneByOne { group, updates: UPDATES }));
        }
    }
    if n == 1 && setup.wants("bare") {
        contenders.push(Box::new(Bare::ping(setup.directory())?));
    }
    Ok((measure, contenders))
}

fn hash(setup: &Setup, n: usize) -> Result<Planned> {
    let measure = measure("hash", format!("{n} processes"), Unit::Seconds, Vec::new());
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    if setup.wants("bare") {
        contenders.push(Box::new(Bare::hash_fill(setup.directory(), n, setup.routes()?)?));
    }
    Ok((measure, contenders))
}

/// Counting subscribers: far ahead where there are many, behind nobody where there are few.
fn fan_out_goals(n: usize) -> Vec<Goal> {
    if n >= 64 {
        vec![goal("kernel", 20.0), goal("redis", 3.0), goal("nats", 3.0), goal("bare loop", 0.25)]
    } else {
        ["kernel", "redis", "nats"].map(|rival| goal(rival, 1.0)).to_vec()
    }
}

fn goal(rival: &str, at_least: f64) -> Goal {
    Goal { rival: rival.to_owned(), at_least }
}

fn measure(bench: &str, variant: String, unit: Unit, goals: Vec<Goal>) -> Measure {
    Measure { bench: bench.to_owned(), variant, unit, subject: "rtm".to_owned(), goals }
}

fn subscribers(n: usize) -> String {
    if n == 1 { "1 subscriber".to_owned() } else { format!("{n} subscribers") }
}
