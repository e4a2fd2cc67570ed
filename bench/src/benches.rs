//! All benches on one page: what is measured, against whom, what is asked.

use anyhow::{Result, bail};

use crate::bare::Bare;
use crate::broker::protocol::Protocol;
use crate::contenders::{FanOut, Group, Join, Keeps, NextHops, OneByOne, Per, Processor, Table};
use crate::feeds::{Asked, Export, Import, IpBatch, Replay, Resync};
use crate::harness::machine;
use crate::harness::results::Measured;
use crate::harness::rounds::{Contender, Goal, Measure, Outcome, Plan, Unit, run};
use crate::harness::worker::Work;
use crate::lookup;
use crate::rtm::load::Load;
use crate::rtm::memory;
use crate::setup::Setup;

/// Random changes of one sample.
const CHANGES: usize = 200_000;
/// Changes of one sample of followers that map, and how many in each millisecond.
const MAPPED_CHANGES: usize = 20_000;
const MAPPED_PER_TURN: usize = 100;
/// Updates of one latency sample.
const UPDATES: usize = 2_000;
/// Routes of each replica where there are too many of them for full ones in
/// this machine's memory.
const PART: usize = 100_000;
/// From so many replicas on.
const PART_FROM: usize = 256;
/// Up to so many subscribers the kernel is shown with next-hop objects, too.
const OBJECTS_UP_TO: usize = 8;
/// Up to so many subscribers the trace is played with all that was announced, too: with more
/// of them nobody is near.
const WHOLE_UP_TO: usize = 8;
/// Routes a second of an FPM stream that are asked for.
const FPM_ASKED: f64 = 500_000.0;
/// Subscribers whose latency others must not spoil.
const BYSTANDERS: usize = 8;

/// Names, as on the command line, and what they measure.
pub(crate) const BENCHES: [(&str, &str); 20] = [
    (
        "load",
        "the real table, until N subscribers have all of it: rtm from the start of `rtm route load` to \
         equal digests in N replicas, the kernel from its first message to N counts",
    ),
    (
        "join",
        "late joiners, until they have the whole table: rtm a replica with equal digests, the kernel a count",
    ),
    ("crowd", "100 late joiners at once, until all have counted the whole table"),
    (
        "crowd-latency",
        "one update at a time to 8 subscribers: the 99th percentile until the last has it, without and \
         with 100 joiners meanwhile",
    ),
    ("changes", "200,000 random changes of the full table to N counting subscribers"),
    ("trace", "the real update trace on the full table to N counting subscribers"),
    (
        "apply",
        "200,000 random changes to N subscribers of rtm with replicas (of the full table; of 100,000 \
         routes for 256), the kernel's only count",
    ),
    ("apply-trace", "the real update trace in the same way"),
    (
        "latency",
        "one update at a time, from the admin's write until the last of N subscribers has it (rtm: has \
         it applied), the median",
    ),
    ("memory", "the daemon's memory"),
    (
        "silent",
        "one update at a time to 8 subscribers: the 99th percentile until the last has it, without and \
         with 256 others that never read",
    ),
    (
        "kernel-import",
        "`rtmd --kernel` beside a full table, from its start until it has all routes, with the image; the \
         kernel's own dump of both families, counted",
    ),
    (
        "kernel-resync",
        "20,000 changes to the kernel's full table while `rtmd --kernel` is stopped, so that its buffer \
         overruns: from its going on until everything is listed and compared; the kernel's own dump",
    ),
    ("kernel-memory", "the memory of `rtmd --kernel` with the kernel's full table"),
    (
        "export",
        "the real table into the kernel's: by `rtmd --export` from the start of `rtm route load`, by \
         `ip -batch`",
    ),
    (
        "fpm",
        "the real table as zebra sends it, by a sender that does nothing else, until the last frame is \
         applied",
    ),
    (
        "lookup",
        "lookups on the real table with 200 next hops, one core, one thread: a mapped image beside \
         the same code without validation, a flat table of 24 and 8 bits that validates nothing, DPDK, \
         crates, and the kernel; all answers compared before the clock starts",
    ),
    (
        "mapped",
        "N followers that map the tables in shared memory and read changes out of its ring, woken by \
         each turn or looking by themselves each 10 ms (where the daemon is, and on another processor); \
         the daemon's processor time for each of 100,000 changes a second in turns of a millisecond, and \
         beside subscribers of the socket that only count",
    ),
    ("image", "what the tables in shared memory need, and how fast they are attached and changed"),
    ("hash", "8 processes that fill a bare hash table from one encoded buffer"),
];

/// Why a bench's figures are what they are, where they don't speak for themselves.
pub(crate) fn reasons(bench: &str) -> Option<&'static str> {
    match bench {
        "load" => Some(
            "On two cores the processors are the limit: reading and parsing the file takes about 0.2 s of one, the \
             daemon 0.5 s, eight replicas 1.9 s, which both cores together can't do in much less. (Eight bare hash tables are filled in 0.13 s: \
             `hash`; a replica also has both longest-prefix structures, and a keyed digest of every entry.) Tried: \
             prefetching a batch's ways in the replica and the daemon, larger writes while one stream is alone, the image \
             left behind while subscribers are: together 1.64 s to 1.26 s; since then routes in order are stored where the one \
             before ended, a quarter less for a record in a replica that is alone: 1.12 s. Tried and not kept, with and without that: \
             new routes in order put in without being looked for first, which is a third faster in a replica that is alone, \
             and slower in eight on two cores, as looking is what fetches their ways.",
        ),
        "changes" => Some(
            "With one subscriber nobody but NATS is near: it hands on messages that it doesn't look at, about 245 ns each; rtmd \
             looks each route up in a table of a million, chooses among candidates, and keeps digests. What brought it there: \
             prefetching 64 changes' ways together, changes in place, deleted entries that linger, fewer and larger \
             writes, next hops resolved once, an exact index once routes that are there change, changes decoded into the place of \
             those before, both hashes side by side (docs/design/tables.md): together from 0.48 of NATS to as much. With \
             more subscribers the one encoding for all of them outweighs all that.",
        ),
        "trace" => Some(
            "A delivery is what a subscriber is told, so the brokers are given only what changes something, 15,433 messages; rtmd is given the \
             trace as it is, 23,446 updates, and finds out which those are: a third of its work is told to nobody and counts for nothing here. \
             *All of it* is the same trace by the clock: from the first write until all have everything. Those that know no routes can't tell \
             what changes nothing, and carry that, too; there nobody is ahead of rtm. With one subscriber NATS makes more deliveries a second, as it hands on \
             messages that it doesn't look at. Tried: groups that linger while a stream goes on (a seventh of all records were groups that came and went), deletes and \
             what comes back in place, next hops resolved once, an exact index that serves batches in order, too, of which the trace has three in ten \
             (a third less for a change), beside what is told under `changes`: together from 0.69 of Redis and 0.40 of NATS. A tenth more \
             is lost to the scheduler: with two processors busy over a fifth Linux looks for no idle one, and who publishes is woken on the daemon's.",
        ),
        "apply-trace" => Some(
            "Some of the trace's changes bring a next-hop group, which is decoded, hashed and allocated by itself, where \
             routes are looked for 128 at a time. Tried: groups that come and go without being copied, and that linger while \
             a stream goes on, so that half of them are not told at all. Random changes, whose groups stay, are in `apply`.",
        ),
        "latency" => Some(
            "With 64 subscribers it is 64 wake-ups on two cores. The kernel makes its copies within the sender's own call: \
             there is no daemon in between to be woken. *bare relay* is a process in between that does nothing but send to \
             each, to readers that do nothing but read. Redis' subscribers read and count, rtm's \
             apply the change to their replica and compare digests. Followers of the image are woken all at once, by one \
             futex. Tried: one blocking read instead of poll and read, a lone change applied without what serves batches, \
             nothing allocated for it, the clock read once a turn, the image left for later while nobody has it: together \
             446 µs to 363; then one system call for all sends, which those who are woken don't interrupt, a tenth to a \
             quarter less beside the relay in the same runs: 326 µs. Priorities gain little (docs/design/distribution.md).",
        ),
        "lookup" => Some(
            "Where the flat table and `rte_lpm` are ahead for IPv4, inside prefixes: an answer is one word of theirs, by \
             some eight instructions, and this processor looks 450 instructions ahead: some fifty misses are under way at \
             a time. rtm takes 23 (17 in a batch), reads a root entry and then a node, both from the third-level cache, and \
             then the answer, and validates: some twenty lookups under way, each with two misses, the second of which waits for the first. A slot for \
             each /24, without bits to count, would need 9.3 MB of the 8 that all copies may have, and is slower where it was tried; \
             vector loads are half as fast, huge pages make no difference (docs/design/image.md). This machine's third-level cache seems to hold the flat \
             table's 32 MB (it has no counters to show that). What the others can't do meanwhile is in the rows of \
             changes. For a neighbour both read one line; rtm hashes with a secret (two multiplications), finds its \
             page in the top, compares four keys and validates, where the bare table multiplies once and compares one.",
        ),
        "mapped" => Some(
            "What the daemon spends on a change is the change itself: applying it, the journal, the image and its \
             ring; followers add one wake-up a turn, and in a burst less. So its time for a delivery is not a tenth of the socket's: there, \
             too, the change costs more than the few system calls with which a burst goes to each. A tenth of the \
             socket's 6 to 8 ns would be some 50 ns a change at 64 followers and 160 at 256, and table and journal \
             alone take 200, before anything is told to anybody. With 64 followers that limits deliveries, too: one \
             thread makes some 1.0 million changes a second with their image, which is 64 million deliveries, however little \
             a follower takes (4 to 5 ns a delivery; the socket's subscribers 12 to 16). Where only the \
             socket is followed nobody has the image, and large turns leave it behind (docs/design/image.md). Followers \
             that are awake cost the daemon nothing but its processor: 256 of them begin to run 25,600 times a second, and where they \
             share a processor with the daemon they interrupt it and empty its caches.",
        ),
        _ => None,
    }
}

/// Numbers of subscribers of a bench.
fn numbers(bench: &str) -> &'static [usize] {
    match bench {
        "load" => &[1, 8],
        "changes" | "trace" => &[1, 8, 64, 256],
        "apply" | "apply-trace" => &[64, 256],
        "latency" => &[1, 64],
        "crowd" | "crowd-latency" => &[100],
        "silent" => &[256],
        "hash" => &[8],
        "mapped" => &[8, 64, 256],
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
    mut done: impl FnMut(Measured) -> Result<()>,
) -> Result<()> {
    if bench == "memory" {
        return if setup.wants("rtm") {
            done(Measured::Figures(memory::measure(setup)?))
        } else {
            Ok(())
        };
    }
    if bench == "kernel-memory" {
        return if setup.wants("rtm") && setup.wants("kernel") {
            done(Measured::Figures(memory::measure_mirror(setup)?))
        } else {
            Ok(())
        };
    }
    if bench == "lookup" {
        return lookup::measure(setup, plan, &mut |outcome| done(Measured::Rounds(outcome)));
    }
    if bench == "image" {
        return done(Measured::Figures(lookup::figures(setup)?));
    }
    if bench == "mapped" {
        return mapped(setup, only_n, plan, &mut |outcome| done(Measured::Rounds(outcome)));
    }
    for &n in numbers(bench).iter().filter(|n| only_n.is_empty() || only_n.contains(n)) {
        let (measure, mut contenders) = match bench {
            "load" => load(setup, n)?,
            "join" => join(setup, n, Keeps::Replica)?,
            "crowd" => join(setup, n, Keeps::Nothing)?,
            "crowd-latency" => crowd_latency(setup, n)?,
            "changes" => changes(setup, n)?,
            "trace" => {
                if n <= WHOLE_UP_TO {
                    let (measure, mut contenders) = whole_trace(setup, n)?;
                    if !contenders.is_empty() {
                        done(Measured::Rounds(run(measure, &mut contenders, plan)?))?;
                    }
                }
                trace(setup, n)?
            }
            "apply" => {
                apply(setup, bench, n, |round| Work::Random { seed: round, count: CHANGES })?
            }
            "apply-trace" => apply(setup, bench, n, |_| Work::Trace)?,
            "latency" => {
                if n > 1 && setup.wants("rtm") {
                    let (measure, mut contenders) = latency(setup, n, Follows::Image)?;
                    done(Measured::Rounds(run(measure, &mut contenders, plan)?))?;
                }
                latency(setup, n, Follows::Socket)?
            }
            "silent" => silent(setup, n)?,
            "kernel-import" => kernel_import(setup)?,
            "kernel-resync" => kernel_resync(setup)?,
            "export" => export(setup)?,
            "fpm" => fpm(setup)?,
            "hash" => hash(setup, n)?,
            _ => bail!("no bench called {bench}"),
        };
        if contenders.is_empty() {
            continue;
        }
        done(Measured::Rounds(run(measure, &mut contenders, plan)?))?;
    }
    Ok(())
}

type Planned<'s> = (Measure, Vec<Box<dyn Contender + 's>>);

fn load(setup: &Setup, n: usize) -> Result<Planned<'static>> {
    let goals = if n == 8 { vec![goal("kernel", 10.0)] } else { Vec::new() };
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    if setup.wants("rtm") {
        contenders.push(Box::new(Load::new(setup, n)?));
    }
    for next_hops in [NextHops::Plain, NextHops::Objects] {
        if setup.wants(next_hops.contender()) {
            let group = Group::kernel(setup, next_hops, n, Table::Empty)?;
            let work = Box::new(|_| Work::Load);
            contenders.push(Box::new(FanOut { group, unit: Unit::Seconds, work }));
        }
    }
    Ok((measure("load", subscribers(n), Unit::Seconds, goals), contenders))
}

fn join(setup: &Setup, n: usize, keeps: Keeps) -> Result<Planned<'static>> {
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    if setup.wants("rtm") {
        contenders.push(Box::new(Join::rtm(setup, keeps, n)?));
    }
    if setup.wants("kernel") {
        contenders.push(Box::new(Join::kernel(setup, n)?));
    }
    let measure = match keeps {
        Keeps::Replica => {
            measure("join", "one late joiner".to_owned(), Unit::Seconds, vec![goal("kernel", 3.0)])
        }
        Keeps::Nothing => measure("crowd", format!("{n} at once"), Unit::Seconds, Vec::new()),
    };
    Ok((measure, contenders))
}

fn crowd_latency(setup: &Setup, n: usize) -> Result<Planned<'static>> {
    let names = [("rtm", n), ("nobody joins", 0)];
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    if setup.wants("rtm") {
        for (name, crowd) in names {
            let group = Group::rtm(setup, name, Keeps::Nothing, BYSTANDERS, Table::Loaded)?;
            contenders.push(Box::new(OneByOne { group, updates: UPDATES, quantile: 0.99, crowd }));
        }
    }
    let variant = format!("p99 while {n} join");
    Ok((measure("crowd-latency", variant, Unit::Microseconds, Vec::new()), contenders))
}

fn silent(setup: &Setup, n: usize) -> Result<Planned<'static>> {
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    if setup.wants("rtm") {
        let group = |name| Group::rtm(setup, name, Keeps::Nothing, BYSTANDERS, Table::Loaded);
        for group in [group("rtm")?.with_silent(n)?, group("all read")?] {
            contenders.push(Box::new(OneByOne {
                group,
                updates: UPDATES,
                quantile: 0.99,
                crowd: 0,
            }));
        }
    }
    // At most 10 % slower.
    let goals = vec![goal("all read", 1.0 / 1.1)];
    let variant = format!("p99 beside {n} that never read");
    Ok((measure("silent", variant, Unit::Microseconds, goals), contenders))
}

fn changes(setup: &Setup, n: usize) -> Result<Planned<'static>> {
    let measure = measure("changes", subscribers(n), Unit::DeliveriesPerSecond, fan_out_goals(n));
    let work = |round| Work::Random { seed: round, count: CHANGES };
    Ok((measure, fan_out(setup, n, Unit::DeliveriesPerSecond, work, CHANGES)?))
}

fn trace(setup: &Setup, n: usize) -> Result<Planned<'static>> {
    let measure = measure("trace", subscribers(n), Unit::DeliveriesPerSecond, fan_out_goals(n));
    let messages = setup.trace_effective()? as usize;
    Ok((measure, fan_out(setup, n, Unit::DeliveriesPerSecond, |_| Work::Trace, messages)?))
}

/// The same trace with everything that was announced, and the time until it is through: those
/// that know no routes can't tell what changes nothing, so they carry that, too.
fn whole_trace(setup: &Setup, n: usize) -> Result<Planned<'static>> {
    let variant = format!("{}, all of it", subscribers(n));
    let measure = measure("trace", variant, Unit::Seconds, fan_out_goals(n));
    let messages = setup.trace_updates()? as usize;
    Ok((measure, fan_out(setup, n, Unit::Seconds, |_| Work::Trace, messages)?))
}

/// All that can fan out; brokers and the bare loop carry as many messages as the
/// others have changes.
fn fan_out(
    setup: &Setup,
    n: usize,
    unit: Unit,
    work: impl Fn(u64) -> Work + Clone + 'static,
    messages: usize,
) -> Result<Vec<Box<dyn Contender>>> {
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    if setup.wants("rtm") {
        let group = |name| Group::rtm(setup, name, Keeps::Nothing, n, Table::Loaded);
        for group in [group("rtm")?, group("with image")?.with_image()?] {
            contenders.push(Box::new(FanOut { group, unit, work: Box::new(work.clone()) }));
        }
    }
    for next_hops in [NextHops::Plain, NextHops::Objects] {
        // Next-hop objects exist for the gateways of the table's rule, not for the trace's.
        // With many subscribers what they take is all that counts, and each sample
        // takes seconds.
        let possible = next_hops == NextHops::Plain
            || matches!(work(0), Work::Random { .. }) && n <= OBJECTS_UP_TO;
        if possible && setup.wants(next_hops.contender()) {
            let group = Group::kernel(setup, next_hops, n, Table::Loaded)?;
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
    if unit == Unit::DeliveriesPerSecond && setup.wants("bare") {
        contenders.push(Box::new(Bare::fan_out(setup.directory(), n, messages)?));
    }
    Ok(contenders)
}

fn apply(
    setup: &Setup,
    bench: &str,
    n: usize,
    work: impl Fn(u64) -> Work + Clone + 'static,
) -> Result<Planned<'static>> {
    let table = if n >= PART_FROM { Table::Part(PART) } else { Table::Loaded };
    let goals = match n {
        64 => vec![goal("kernel", 8.0)],
        256 => vec![goal("kernel", 5.0)],
        _ => Vec::new(),
    };
    let unit = Unit::DeliveriesPerSecond;
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    if setup.wants("rtm") {
        let group = Group::rtm(setup, "rtm", Keeps::Replica, n, table)?;
        contenders.push(Box::new(FanOut { group, unit, work: Box::new(work.clone()) }));
    }
    if setup.wants("kernel") {
        let group = Group::kernel(setup, NextHops::Plain, n, table)?;
        contenders.push(Box::new(FanOut { group, unit, work: Box::new(work) }));
    }
    let what = if n >= PART_FROM { "100,000 routes" } else { "the full table" };
    Ok((measure(bench, format!("{} with {what}", subscribers(n)), unit, goals), contenders))
}

/// How rtm's subscribers of `latency` follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follows {
    /// Over the socket, with a replica of their own.
    Socket,
    /// In the tables in shared memory, asleep until a turn wakes them.
    Image,
}

fn latency(setup: &Setup, n: usize, follows: Follows) -> Result<Planned<'static>> {
    let goals = if n == 1 {
        vec![goal("ping", 1.0 / 1.5)]
    } else {
        ["kernel", "redis", "nats"].map(|rival| goal(rival, 1.0)).to_vec()
    };
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    let mut add = |group| {
        contenders.push(Box::new(OneByOne { group, updates: UPDATES, quantile: 0.5, crowd: 0 }));
    };
    if setup.wants("rtm") {
        add(match follows {
            Follows::Socket => Group::rtm(setup, "rtm", Keeps::Replica, n, Table::Part(PART))?,
            Follows::Image => Group::mapped(setup, "rtm", n, true, Table::Part(PART))?,
        });
    }
    if setup.wants("kernel") {
        add(Group::kernel(setup, NextHops::Plain, n, Table::Empty)?);
    }
    for protocol in [Protocol::Redis, Protocol::Nats] {
        if setup.wants(protocol.name()) {
            add(Group::broker(setup, protocol, n)?);
        }
    }
    if setup.wants("bare") {
        contenders.push(Box::new(match n {
            1 => Bare::ping(setup.directory())?,
            n => Bare::relay(setup.directory(), n, UPDATES)?,
        }));
    }
    let variant = match follows {
        Follows::Socket => subscribers(n),
        Follows::Image => format!("{n} followers of the image"),
    };
    Ok((measure("latency", variant, Unit::Microseconds, goals), contenders))
}

/// The kernel's own dump, by a joiner that only counts.
fn dump<'s>(setup: &Setup, with: &mut Vec<Box<dyn Contender + 's>>) -> Result<()> {
    with.push(Box::new(Join::kernel(setup, 1)?));
    Ok(())
}

fn kernel_import(setup: &Setup) -> Result<Planned<'_>> {
    let mut contenders: Vec<Box<dyn Contender + '_>> = Vec::new();
    if setup.wants("rtm") && setup.wants("kernel") {
        contenders.push(Box::new(Import::new(setup)?));
        dump(setup, &mut contenders)?;
    }
    // At most 2.5 times as long.
    let goals = vec![goal("kernel", 1.0 / 2.5)];
    Ok((measure("kernel-import", "the full table".to_owned(), Unit::Seconds, goals), contenders))
}

fn kernel_resync(setup: &Setup) -> Result<Planned<'_>> {
    let mut contenders: Vec<Box<dyn Contender + '_>> = Vec::new();
    if setup.wants("rtm") && setup.wants("kernel") {
        contenders.push(Box::new(Resync::new(setup)?));
        dump(setup, &mut contenders)?;
    }
    let goals = vec![goal("kernel", 1.0 / 3.0)];
    let variant = "after an overrun".to_owned();
    Ok((measure("kernel-resync", variant, Unit::Seconds, goals), contenders))
}

fn export(setup: &Setup) -> Result<Planned<'_>> {
    let mut contenders: Vec<Box<dyn Contender + '_>> = Vec::new();
    if setup.wants("rtm") && setup.wants("kernel") {
        contenders.push(Box::new(Export::new(setup)?));
        contenders.push(Box::new(IpBatch::new(setup)?));
    }
    let goals = vec![goal("ip -batch", 1.0)];
    Ok((measure("export", "the full table".to_owned(), Unit::RoutesPerSecond, goals), contenders))
}

fn fpm(setup: &Setup) -> Result<Planned<'_>> {
    let mut contenders: Vec<Box<dyn Contender + '_>> = Vec::new();
    if setup.wants("rtm") {
        contenders.push(Box::new(Replay::new(setup)?));
        contenders.push(Box::new(Asked(FPM_ASKED)));
    }
    let goals = vec![goal("asked", 1.0)];
    Ok((measure("fpm", "the full table".to_owned(), Unit::RoutesPerSecond, goals), contenders))
}

/// Followers of the image: what each more of them costs the daemon, and what
/// they gain over the socket.
fn mapped(
    setup: &Setup,
    only_n: &[usize],
    plan: Plan,
    done: &mut dyn FnMut(Outcome) -> Result<()>,
) -> Result<()> {
    if !setup.wants("rtm") {
        return Ok(());
    }
    let table = Table::Part(PART);
    let ns = numbers("mapped").iter().copied();
    for n in ns.filter(|n| only_n.is_empty() || only_n.contains(n)) {
        let ways = [
            ("awake", false, false, 1.0 / 1.1),
            ("awake on another processor", false, true, 1.0 / 1.1),
            ("asleep", true, false, 1.0 / 4.0),
        ];
        for (how, asleep, apart, at_least) in ways {
            if apart && !machine::has_several_processors() {
                continue;
            }
            let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
            for (name, n) in [("rtm", n), ("1 follower", 1)] {
                let group = Group::mapped(setup, name, n, asleep, table)?;
                contenders.push(Box::new(Processor {
                    group: if apart { group.apart()? } else { group },
                    changes: MAPPED_CHANGES,
                    per_turn: Some(MAPPED_PER_TURN),
                    per: Per::Change,
                }));
            }
            let variant = format!("{n} followers, {how}, the daemon's time for a change");
            let goals = vec![goal("1 follower", at_least)];
            let measure = measure("mapped", variant, Unit::Nanoseconds, goals);
            done(run(measure, &mut contenders, plan)?)?;
        }
        if n < 64 {
            continue;
        }
        let groups = || -> Result<[Group; 2]> {
            Ok([
                Group::mapped(setup, "rtm", n, true, table)?,
                Group::rtm(setup, "socket", Keeps::Nothing, n, table)?,
            ])
        };
        let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
        for group in groups()? {
            let work = Box::new(|round| Work::Random { seed: round, count: CHANGES });
            contenders.push(Box::new(FanOut { group, unit: Unit::DeliveriesPerSecond, work }));
        }
        let variant = format!("{n} followers, asleep, beside as many counting on the socket");
        let goals = vec![goal("socket", 2.0)];
        let measured = measure("mapped", variant, Unit::DeliveriesPerSecond, goals);
        done(run(measured, &mut contenders, plan)?)?;
        drop(contenders);
        let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
        for group in groups()? {
            let per = Per::Delivery;
            let (changes, per_turn) = (CHANGES, None);
            contenders.push(Box::new(Processor { group, changes, per_turn, per }));
        }
        let variant = format!("{n} followers, asleep, the daemon's time for a delivery");
        let measured = measure("mapped", variant, Unit::Nanoseconds, vec![goal("socket", 10.0)]);
        done(run(measured, &mut contenders, plan)?)?;
        drop(contenders);
        let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
        for group in groups()? {
            let updates = UPDATES / 10;
            contenders.push(Box::new(OneByOne { group, updates, quantile: 0.5, crowd: 0 }));
        }
        let variant = format!("one lone change, until the last of {n} sleepers has it");
        let measured = measure("mapped", variant, Unit::Microseconds, Vec::new());
        done(run(measured, &mut contenders, plan)?)?;
    }
    Ok(())
}

fn hash(setup: &Setup, n: usize) -> Result<Planned<'static>> {
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    if setup.wants("bare") {
        contenders.push(Box::new(Bare::hash_fill(setup.directory(), n, setup.routes()?)?));
    }
    Ok((measure("hash", format!("{n} processes"), Unit::Seconds, Vec::new()), contenders))
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
