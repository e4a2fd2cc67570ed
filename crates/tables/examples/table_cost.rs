//! What the tables cost: bytes per route, and nanoseconds per change, record
//! and lookup, on the real internet table.
//!
//! ```text
//! cargo run --release -p rtm-tables --example table_cost
//! ```
//!
//! Reads `full-table.txt.gz` from `RTM_DATA` (default `../shared/data`). Each
//! part runs in a process of its own, so that resident memory is its own too
//! (`/proc/self/statm`: with the allocator's slack). Times are those of the
//! processor, so that what else runs on the machine disturbs them less. Nothing
//! is asserted: the figures are for people.

mod random;

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use random::Random;
use rtm_model::{
    Change, DigestKey, EntityKind, HopFlags, HopSpec, Hops, LinkRef, Prefix, RouteSpec, Verb,
};
use rtm_tables::{
    Applied, Epoch, Flush, Record, RecordOp, RecordSink, Replica, ReplicaRecord, Revision,
    RouteCursor, SourceId, SourceSpec, Step, Table, TableLimits,
};
use rustix::time::{ClockId, clock_gettime};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PARTS: [&str; 7] = ["small", "table", "many", "order", "replica", "lookup", "flush"];

fn main() -> Result<()> {
    if let Some(part) = std::env::args().nth(1) {
        return match part.as_str() {
            "small" => small(),
            "table" => table(),
            "many" => many(),
            "order" => order(),
            "replica" => replica(),
            "lookup" => lookup(),
            "flush" => flush(),
            other => Err(format!("no part {other}; {} exist", PARTS.join(", ")).into()),
        };
    }
    println!("{:<52} {:>8.1} ns", "this machine: a random read that depends on another", memory());
    for part in PARTS {
        let status = std::process::Command::new(std::env::current_exe()?).arg(part).status()?;
        if !status.success() {
            return Err(format!("{part}: {status}").into());
        }
    }
    Ok(())
}

/// Nanoseconds of a read somewhere in 64 MiB whose place the read before it
/// told: what this machine, with what else runs on it, makes of a cache miss.
fn memory() -> f64 {
    const WORDS: usize = 16 << 20;
    // A full cycle: an odd step, and a multiplier of 1 modulo 4.
    let next = |at: usize| (at.wrapping_mul(0x5851_f42d) + 0x1405_7b7f) % WORDS;
    let words: Vec<u32> = (0..WORDS).map(|at| next(at) as u32).collect();
    let begin = Clock::now();
    let mut at = 0;
    for _ in 0..1_000_000 {
        at = words[at as usize];
    }
    black_box(at);
    begin.elapsed().as_nanos() as f64 / 1e6
}

/// The next hop of the rule beside the data, moved on by `shift`.
fn next_hop(text: &str, prefix: Prefix, shift: u64) -> HopSpec {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let (gateway, link) = ((hash + shift) % 200, hash / 200 % 32 + 1);
    let gateway = match prefix.address() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(0x0aff_0001 + gateway as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(
            0x2001_0db8_ffff_0000_0000_0000_0000_0001 + u128::from(gateway),
        )),
    };
    let link = format!("Ethernet{link}").parse().expect("a valid name");
    HopSpec {
        gateway: Some(gateway),
        link: Some(LinkRef::Name(link)),
        weight: 1,
        flags: HopFlags::default(),
    }
}

/// The table's routes in the order of the file.
fn routes(shift: u64) -> Result<Vec<(Prefix, HopSpec)>> {
    let folder = std::env::var_os("RTM_DATA").map_or("../shared/data".into(), PathBuf::from);
    let file = std::fs::File::open(folder.join("full-table.txt.gz"))?;
    let mut all = Vec::new();
    for line in BufReader::new(MultiGzDecoder::new(file)).lines() {
        let line = line?;
        let prefix: Prefix = line.parse()?;
        all.push((prefix, next_hop(&line, prefix, shift)));
    }
    Ok(all)
}

fn change((prefix, hop): &(Prefix, HopSpec)) -> Change {
    Change::Route(Verb::Replace, RouteSpec { hops: Hops::One(*hop), ..RouteSpec::new(*prefix) })
}

fn deletion((prefix, _): &(Prefix, HopSpec)) -> Change {
    Change::Route(Verb::Delete, RouteSpec::new(*prefix))
}

/// The processor time of this thread.
#[derive(Clone, Copy)]
struct Clock(Duration);

impl Clock {
    fn now() -> Clock {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Clock(Duration::new(now.tv_sec as u64, now.tv_nsec as u32))
    }

    fn elapsed(self) -> Duration {
        Clock::now().0 - self.0
    }
}

struct Silent;

impl RecordSink for Silent {
    fn record(&mut self, record: &Record<'_>) {
        black_box(record.body);
    }

    fn flush(&mut self, _: Revision, _: Flush) {}

    fn leap(&mut self, _: Revision) {}
}

/// Keeps every record.
#[derive(Default)]
struct Keeper {
    bytes: Vec<u8>,
    records: Vec<(RecordOp, EntityKind, usize, usize)>,
}

impl RecordSink for Keeper {
    fn record(&mut self, record: &Record<'_>) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(record.body);
        self.records.push((record.op, record.kind, from, self.bytes.len()));
    }

    fn flush(&mut self, _: Revision, _: Flush) {}

    fn leap(&mut self, _: Revision) {}
}

impl Keeper {
    fn records(&self) -> Vec<ReplicaRecord<'_>> {
        let all = self.records.iter();
        all.map(|&(op, kind, from, to)| ReplicaRecord { op, kind, body: &self.bytes[from..to] })
            .collect()
    }
}

const KEY: DigestKey = DigestKey([7, 9]);

fn new_table() -> Result<(Table, SourceId)> {
    let mut table = Table::new(Epoch(1), KEY, TableLimits::default());
    let admin = table.source(SourceSpec::admin())?;
    Ok((table, admin))
}

fn apply_all(
    table: &mut Table,
    source: SourceId,
    changes: &[Change],
    out: &mut dyn RecordSink,
) -> Duration {
    let begin = Clock::now();
    for change in changes {
        match table.apply(source, change, out) {
            Ok(Applied::Changed(_) | Applied::Unchanged) => {}
            Err(error) => panic!("{change:?}: {error}"),
        }
    }
    begin.elapsed()
}

fn apply_many(
    table: &mut Table,
    source: SourceId,
    changes: &[Change],
    out: &mut dyn RecordSink,
) -> Duration {
    let begin = Clock::now();
    table.apply_many(source, changes, out, &mut |change, result| match result {
        Ok(_) => true,
        Err(error) => panic!("{change:?}: {error}"),
    });
    begin.elapsed()
}

/// Resident bytes of this process.
fn resident() -> Result<usize> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = text.split(' ').nth(1).ok_or("statm is short")?.parse()?;
    Ok(pages * 4096)
}

fn print(what: &str, took: Duration, count: usize) {
    let each = took.as_nanos() as f64 / count as f64;
    println!("{what:<52} {each:>8.1} ns  ({count} in {:.3} s)", took.as_secs_f64());
}

fn print_bytes(what: &str, bytes: usize, count: usize) {
    let each = bytes as f64 / count as f64;
    println!("{what:<52} {each:>8.1} bytes  ({:.1} MiB)", bytes as f64 / f64::from(1 << 20));
}

fn small() -> Result<()> {
    let before = resident()?;
    let (mut table, admin) = new_table()?;
    println!("{:<52} {:>8} KiB", "an empty table, as it counts", table.counts().bytes >> 10);
    println!("{:<52} {:>8} KiB", "an empty table, resident", (resident()? - before) >> 10);
    let hop = next_hop("", Prefix::DEFAULT_V4, 0);
    for number in 1..=1000_u32 {
        for route in 0..10_u32 {
            let prefix = Prefix::masked(Ipv4Addr::from_bits(number << 16 | route << 8).into(), 24)?;
            let spec = RouteSpec { table: number, hops: Hops::One(hop), ..RouteSpec::new(prefix) };
            table.apply(admin, &Change::Route(Verb::Add, spec), &mut Silent)?;
        }
    }
    print_bytes("1,000 routing tables of 10 routes, resident", resident()? - before, 10_000);
    Ok(())
}

fn table() -> Result<()> {
    let mut routes = routes(0)?;
    let changes: Vec<Change> = routes.iter().map(change).collect();
    let before = resident()?;
    let (mut table, admin) = new_table()?;
    let took = apply_all(&mut table, admin, &changes, &mut Silent);
    print("table: apply, new, file order", took, changes.len());
    print_bytes("table: resident", resident()? - before, routes.len());
    print_bytes("table: as it counts", table.counts().bytes, routes.len());
    let took = apply_all(&mut table, admin, &changes, &mut Silent);
    print("table: apply, unchanged, file order", took, changes.len());
    drop(changes);
    routes
        .iter_mut()
        .for_each(|(prefix, hop)| *hop = next_hop("other", *prefix, hop.weight.into()));
    Random(1).shuffle(&mut routes);
    let changes: Vec<Change> = routes.iter().map(change).collect();
    let took = apply_all(&mut table, admin, &changes, &mut Silent);
    print("table: apply, changed, random", took, changes.len());
    drop(changes);
    routes.iter_mut().for_each(|(prefix, hop)| *hop = next_hop("more", *prefix, hop.weight.into()));
    Random(4).shuffle(&mut routes);
    let changes: Vec<Change> = routes.iter().map(change).collect();
    let took = apply_many(&mut table, admin, &changes, &mut Silent);
    print("table: apply many, changed, random", took, changes.len());
    drop(changes);
    Random(2).shuffle(&mut routes);
    let changes: Vec<Change> = routes.iter().map(deletion).collect();
    let took = apply_all(&mut table, admin, &changes[..500_000], &mut Silent);
    print("table: delete, random", took, 500_000);
    let again: Vec<Change> = routes[..500_000].iter().map(change).collect();
    let took = apply_all(&mut table, admin, &again, &mut Silent);
    print("table: add again (tombstones), random", took, 500_000);
    print_bytes("table: then resident", resident()? - before, routes.len());
    Ok(())
}

fn many() -> Result<()> {
    let mut routes = routes(0)?;
    let changes: Vec<Change> = routes.iter().map(change).collect();
    let (mut table, admin) = new_table()?;
    apply_all(&mut table, admin, &changes, &mut Silent);
    drop(changes);
    for round in 0..8 {
        routes.iter_mut().for_each(|(prefix, hop)| {
            *hop = next_hop(["more", "other"][round % 2], *prefix, round as u64);
        });
        Random(4 + round as u64).shuffle(&mut routes);
        let changes: Vec<Change> = routes.iter().map(change).collect();
        let took = apply_many(&mut table, admin, &changes, &mut Silent);
        print("table: apply many, changed, random", took, changes.len());
    }
    Ok(())
}

fn order() -> Result<()> {
    let routes = routes(0)?;
    let changes: Vec<Change> = routes.iter().map(change).collect();
    let (mut table, admin) = new_table()?;
    apply_all(&mut table, admin, &changes, &mut Silent);
    let marker = table.marker();
    let begin = Clock::now();
    let mut items = 0;
    while table.marker_next(marker, &mut |item| {
        black_box(item);
    }) == Step::Moved
    {
        items += 1;
    }
    print("walk: a snapshot, per item", begin.elapsed(), items);
    let mut some = changes[..10_000].to_vec();
    Random(3).shuffle(&mut some);
    for change in &mut some {
        if let Change::Route(_, RouteSpec { hops: Hops::One(hop), .. }) = change {
            hop.weight = 2;
        }
    }
    let revision = table.revision();
    apply_all(&mut table, admin, &some, &mut Silent);
    let begin = Clock::now();
    let other = table.marker();
    while !table.marker_seek(other, revision, 1000) {}
    print("walk: seek back, per item", begin.elapsed(), some.len());
    let mut items = 0;
    while table.marker_next(other, &mut |item| {
        black_box(item);
    }) == Step::Moved
    {
        items += 1;
    }
    println!("{:<52} {items:>8} items", "walk: a resume after 10,000 changes");
    let mut cursor = RouteCursor::all();
    let begin = Clock::now();
    let mut count = 0;
    while let Some(route) = table.store().next_route(&mut cursor) {
        black_box(route);
        count += 1;
    }
    print("iterate in order, by cursor", begin.elapsed(), count);
    Ok(())
}

fn apply_batches(replica: &mut Replica, records: &[ReplicaRecord<'_>]) -> Duration {
    let begin = Clock::now();
    for batch in records.chunks(512) {
        if let Err((index, error)) = replica.apply_batch(batch) {
            panic!("record {index} of a batch: {error}");
        }
    }
    begin.elapsed()
}

fn replica() -> Result<()> {
    let mut routes = routes(0)?;
    let (mut table, admin) = new_table()?;
    let changes: Vec<Change> = routes.iter().map(change).collect();
    let mut first = Keeper::default();
    apply_all(&mut table, admin, &changes, &mut first);
    drop(changes);
    routes.iter_mut().for_each(|(_, hop)| hop.weight = 3);
    Random(1).shuffle(&mut routes);
    let changes: Vec<Change> = routes.iter().map(change).collect();
    let mut second = Keeper::default();
    apply_all(&mut table, admin, &changes, &mut second);
    let mut third = Keeper::default();
    let changes: Vec<Change> = routes.iter().map(deletion).collect();
    let digests = table.digests();
    apply_all(&mut table, admin, &changes[..200_000], &mut third);
    let last = table.digests();
    drop(table);
    drop(changes);
    let (first, second, third) = (first.records(), second.records(), third.records());
    let before = resident()?;
    let mut replica = Replica::new(Epoch(1), KEY);
    let took = apply_batches(&mut replica, &first);
    print("replica: a record, new, file order", took, first.len());
    print_bytes("replica: resident", resident()? - before, routes.len());
    print_bytes("replica: as it counts", replica.store().bytes(), routes.len());
    let took = apply_batches(&mut replica, &second);
    print("replica: a record, changed, random", took, second.len());
    assert_eq!(replica.digests(), digests);
    let mut random = Replica::new(Epoch(1), KEY);
    let took = apply_batches(&mut random, &second);
    print("replica: a record, new, random", took, second.len());
    drop(random);
    let begin = Clock::now();
    assert_eq!(replica.recompute_digests(), digests);
    print("replica: digests from scratch", begin.elapsed(), routes.len());
    replica.begin_snapshot();
    let took = apply_batches(&mut replica, &second);
    print("replica: a snapshot's record, unchanged, random", took, second.len());
    let begin = Clock::now();
    replica.end_snapshot();
    print("replica: end of a snapshot", begin.elapsed(), routes.len());
    let took = apply_batches(&mut replica, &third);
    print("replica: a record, gone, random", took, third.len());
    assert_eq!(replica.digests().routes, last.routes);
    Ok(())
}

fn lookup() -> Result<()> {
    let routes = routes(0)?;
    let (mut table, admin) = new_table()?;
    for route in &routes {
        table.apply(admin, &change(route), &mut Silent)?;
    }
    let mut random = Random(5);
    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    for _ in 0..1_000_000 {
        v4.push(IpAddr::V4(Ipv4Addr::from_bits(random.next() as u32)));
        let (prefix, _) = routes[random.next() as usize % routes.len()];
        if let IpAddr::V6(address) = prefix.address() {
            let host = u128::from(random.next()) << 16 & !rtm_model::mask(prefix.len());
            v6.push(IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() | host)));
        }
    }
    let inside: Vec<IpAddr> = (0..1_000_000)
        .filter_map(|_| {
            let (prefix, _) = routes[random.next() as usize % routes.len()];
            match prefix.address() {
                IpAddr::V4(address) => {
                    let host = (random.next() as u32).checked_shr(prefix.len().into()).unwrap_or(0);
                    Some(IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() | host)))
                }
                IpAddr::V6(_) => None,
            }
        })
        .collect();
    for (what, addresses) in [
        ("lookup: IPv4, any address", &v4),
        ("lookup: IPv4, in a random prefix", &inside),
        ("lookup: IPv6, in a random prefix", &v6),
    ] {
        let begin = Clock::now();
        let hits = addresses
            .iter()
            .filter(|address| table.store().lookup(254, **address).is_some())
            .count();
        print(
            &format!("{what} ({}% hit)", hits * 100 / addresses.len()),
            begin.elapsed(),
            addresses.len(),
        );
    }
    Ok(())
}

fn flush() -> Result<()> {
    let routes = routes(0)?;
    let (mut table, admin) = new_table()?;
    for route in &routes {
        table.apply(admin, &change(route), &mut Silent)?;
    }
    let begin = Clock::now();
    table.flush(Flush { routes: true, neighbours: true }, &mut Silent)?;
    println!("{:<52} {:>8.1} us", "flush of all routes", begin.elapsed().as_nanos() as f64 / 1e3);
    let (mut slices, mut longest) = (0, Duration::ZERO);
    let begin = Clock::now();
    loop {
        let slice = Clock::now();
        let more = table.tidy(16);
        longest = longest.max(slice.elapsed());
        slices += 1;
        if !more {
            break;
        }
    }
    println!(
        "{:<52} {:>8.1} us the longest of {slices} slices, {:.1} ms in all",
        "tidying up after it",
        longest.as_nanos() as f64 / 1e3,
        begin.elapsed().as_secs_f64() * 1e3
    );
    Ok(())
}
