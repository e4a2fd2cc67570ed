//! What a record costs where many replicas of a full table are kept on one machine.
//!
//! ```text
//! cargo run --release -p rtm-tables --example apply_cost [replicas [routes]]
//! ```
//!
//! Reads `full-table.txt.gz` from `RTM_DATA` (default `../shared/data`). One process
//! has all replicas (24 unless told) and gives one after another a few thousand records, as
//! the kernel does with as many processes: each meets its memory cold. The records are
//! those of the bench `apply`: random routes get other next hops, one in eight goes and
//! comes back a thousand changes later. Times are those of the processor. Nothing is
//! asserted: the figures are for people.

mod random;

use std::collections::VecDeque;
use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use random::Random;
use rtm_model::{
    Change, DigestKey, EntityKind, HopFlags, HopSpec, Hops, LinkRef, Prefix, RouteSpec, Verb,
};
use rtm_tables::wire::FRAME_BYTES_MAX;
use rtm_tables::wire::records::{Records, WireRecord, encode};
use rtm_tables::{
    Epoch, Flush, Record, RecordSink, Replica, ReplicaRecord, Revision, SourceSpec, Table,
    TableLimits,
};
use rustix::time::{ClockId, clock_gettime};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const KEY: DigestKey = DigestKey([7, 9]);
/// Bytes that a subscriber reads at once.
const CHUNK_BYTES: usize = 128 << 10;
const CHANGES: usize = 400_000;

/// Encodes every record, as the journal does.
#[derive(Default)]
struct Keeper(Vec<u8>);

impl RecordSink for Keeper {
    fn record(&mut self, record: &Record<'_>) {
        encode(&mut self.0, record.op, record.kind, record.revision, record.last, record.body);
    }

    fn flush(&mut self, _: Revision, _: Flush) {}

    fn leap(&mut self, _: Revision) {}
}

fn hop(prefix: Prefix, number: u64) -> HopSpec {
    let (gateway, link) = (number % 200, number / 200 % 32 + 1);
    let gateway: IpAddr = match prefix.address() {
        IpAddr::V4(_) => std::net::Ipv4Addr::from_bits(0x0aff_0001 + gateway as u32).into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::from_bits(
            0x2001_0db8_ffff_0000_0000_0000_0000_0001 + u128::from(gateway),
        )
        .into(),
    };
    let link = format!("Ethernet{link}").parse().expect("a valid name");
    let (gateway, link) = (Some(gateway), Some(LinkRef::Name(link)));
    HopSpec { gateway, link, weight: 1, flags: HopFlags::default() }
}

fn change(prefix: Prefix, number: Option<u64>) -> Change {
    match number {
        Some(number) => Change::Route(
            Verb::Replace,
            RouteSpec { hops: Hops::One(hop(prefix, number)), ..RouteSpec::new(prefix) },
        ),
        None => Change::Route(Verb::Delete, RouteSpec::new(prefix)),
    }
}

fn prefixes() -> Result<Vec<Prefix>> {
    let folder = std::env::var_os("RTM_DATA").map_or("../shared/data".into(), PathBuf::from);
    let file = std::fs::File::open(folder.join("full-table.txt.gz"))?;
    let lines = BufReader::new(MultiGzDecoder::new(file)).lines();
    lines.map(|line| Ok(line?.parse()?)).collect()
}

/// The changes of the bench, some of them deletes that are made good later.
fn changes(prefixes: &[Prefix]) -> Vec<Change> {
    let mut random = Random(11);
    let mut there = vec![true; prefixes.len()];
    let mut absent: VecDeque<(usize, usize)> = VecDeque::new();
    let mut all = Vec::new();
    while all.len() < CHANGES || !absent.is_empty() {
        let number = random.next();
        if let Some(&(_, which)) = absent.front().filter(|(due, _)| *due <= all.len()) {
            absent.pop_front();
            there[which] = true;
            all.push(change(prefixes[which], Some(number)));
            continue;
        }
        let which = random.next() as usize % prefixes.len();
        if !there[which] {
            continue;
        }
        if random.next() % 8 == 0 && all.len() < CHANGES {
            there[which] = false;
            absent.push_back((all.len() + 1000, which));
            all.push(change(prefixes[which], None));
        } else {
            all.push(change(prefixes[which], Some(number)));
        }
    }
    all
}

/// The processor time of this thread.
struct Clock(Duration);

impl Clock {
    fn now() -> Clock {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Clock(Duration::new(now.tv_sec as u64, now.tv_nsec as u32))
    }

    fn elapsed(&self) -> Duration {
        Clock::now().0 - self.0
    }
}

/// As the client library does.
fn apply(replica: &mut Replica, records: Records<'_>) -> usize {
    let count = records.clone().count();
    let records = records.map(|WireRecord { op, kind, body, .. }| ReplicaRecord { op, kind, body });
    if let Err((index, error)) = replica.apply_records(records) {
        panic!("record {index}: {error}");
    }
    count
}

/// Nanoseconds of a read somewhere in these bytes where nothing depends on it.
fn memory(words: &[u64]) -> f64 {
    let begin = Clock::now();
    let mut sum = 0_u64;
    let mut at = 12345_u64;
    for _ in 0..2_000_000 {
        at = at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7f);
        sum ^= words[((u128::from(at) * words.len() as u128) >> 64) as usize];
    }
    black_box(sum);
    begin.elapsed().as_nanos() as f64 / 2e6
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse());
    let replicas: usize = arguments.next().transpose()?.unwrap_or(24);
    let mut prefixes = prefixes()?;
    if let Some(routes) = arguments.next().transpose()? {
        let all = prefixes.len();
        prefixes = (0..routes).map(|n: usize| prefixes[n * all / routes]).collect();
    }
    let words = vec![1_u64; 128 << 20];
    println!("{:<44} {:>7.1} ns", "a random read in 1 GiB", memory(&words));
    drop(words);
    let mut table = Table::new(Epoch(1), KEY, TableLimits::default());
    let admin = table.source(SourceSpec::admin())?;
    let mut snapshot = Keeper::default();
    let mut random = Random(5);
    for &prefix in &prefixes {
        table.apply(admin, &change(prefix, Some(random.next())), &mut snapshot)?;
    }
    let changes = changes(&prefixes);
    let mut rounds = Vec::new();
    let mut digests = Vec::new();
    for chunk in changes.chunks(changes.len() / 4 + 1) {
        let mut records = Keeper::default();
        table.apply_many(admin, chunk, &mut records, &mut |_, result| result.is_ok());
        rounds.push(records.0);
        digests.push(table.digests());
    }
    drop(table);
    let mut all: Vec<Replica> = (0..replicas).map(|_| Replica::new(Epoch(1), KEY)).collect();
    let begin = Clock::now();
    let mut count = 0;
    for replica in &mut all {
        count += apply(replica, Records::new(&snapshot.0, FRAME_BYTES_MAX)?);
    }
    let each = |took: Duration, count: usize| took.as_nanos() as f64 / count as f64;
    println!("{:<44} {:>7.1} ns", "a record of a snapshot", each(begin.elapsed(), count));
    let begin = Clock::now();
    for replica in &mut all {
        while replica.idle(4096) {}
    }
    println!("{:<44} {:>7.1} ns", "an entry of the index", each(begin.elapsed(), count));
    for (round, digests) in rounds.iter().zip(&digests) {
        let mut rest = &round[..];
        let (mut count, mut took) = (0, Duration::ZERO);
        while !rest.is_empty() {
            // Whole records only.
            let (mut records, _) =
                Records::first(&rest[..rest.len().min(CHUNK_BYTES)], FRAME_BYTES_MAX)?;
            let bytes = records.as_bytes().len();
            assert!(records.by_ref().count() > 0);
            for replica in &mut all {
                let begin = Clock::now();
                let (records, _) = Records::first(&rest[..bytes], FRAME_BYTES_MAX)?;
                count += apply(replica, records);
                took += begin.elapsed();
            }
            rest = &rest[bytes..];
        }
        println!("{:<44} {:>7.1} ns  ({count})", "a record of changes", each(took, count));
        assert!(all.iter().all(|replica| replica.digests() == *digests));
    }
    let kinds = [EntityKind::Route4, EntityKind::Route6];
    for kind in kinds {
        let records = Records::new(&rounds[0], FRAME_BYTES_MAX)?;
        println!("{kind:?}: {}", records.filter(|record| record.kind == kind).count());
    }
    Ok(())
}
