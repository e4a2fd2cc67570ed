//! What a stream of changes costs, from a client's bytes to records in the journal, and in
//! a replica that gets them: random changes of the full table, a part of it in its order,
//! and the real update trace.
//!
//! ```text
//! cargo run --release -p rtm-tables --example stream_cost [random | order | trace [rounds]]
//! ```
//!
//! Reads `full-table.txt.gz` and `updates.txt.gz` from `RTM_DATA` (default
//! `../shared/data`). The daemon's side is a session that is given 64 KiB at a time, as
//! its socket gives them: decoding, looking ahead, applying, digests, the journal; no
//! socket and no image. The changes are those of the benches `changes` and `trace`; what
//! the trace changed is put back between two rounds. Times are those of the processor.
//! Nothing is asserted but that the replica agrees: the figures are for people.

mod random;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use rtm_model::{Change, DigestKey, HopFlags, HopSpec, Hops, LinkRef, Prefix, RouteSpec, Verb};
use rtm_tables::wire::records::{Records, WireRecord};
use rtm_tables::wire::{ClientFrame, FRAME_BYTES_MAX, LoadFlags, Role, encode_change};
use rtm_tables::{
    Applied, ClientConfig, ClientSession, Epoch, Hub, HubLimits, Peer, Replica, ReplicaRecord,
    ServerEvent, ServerSession, SourceId, SourceSpec, Table, TableLimits, Transport,
};
use rustix::time::{ClockId, clock_gettime};

use random::Random;

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Way = (Prefix, Option<HopSpec>);

const KEY: DigestKey = DigestKey([7, 9]);
/// Bytes that the daemon reads at once, and a subscriber.
const READ_BYTES: usize = 64 << 10;
const CHANGES: usize = 200_000;
/// What the daemon spends on it each turn.
const TIDY: usize = 512;
/// Unless told.
const ROUNDS: usize = 12;

fn main() -> Result<()> {
    let only = std::env::args().nth(1);
    let rounds = std::env::args().nth(2).map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let random = random as fn(usize) -> Result<()>;
    for (what, measure) in [("random", random), ("order", order), ("trace", trace)] {
        if only.as_ref().is_none_or(|only| only == what) {
            println!("{what}:");
            measure(rounds)?;
        }
    }
    Ok(())
}

/// A daemon without descriptors, and a replica of its table.
struct Pair {
    table: Table,
    hub: Hub,
    admin: SourceId,
    session: ServerSession,
    replica: Replica,
}

impl Pair {
    fn load(ways: &[Way]) -> Result<Pair> {
        let mut table = Table::new(Epoch(1), KEY, TableLimits::default());
        let mut hub = Hub::new(&table, KEY, HubLimits::default());
        let admin = table.source(SourceSpec::admin())?;
        let (transport, role) = (Transport::Unix, Role::Admin);
        let peer = Peer { transport, pid: None, uid: None, role, since: 0 };
        let mut session = ServerSession::new(peer, 1, 1, &mut hub, 0);
        let client = ClientSession::new(ClientConfig::default(), 0);
        let mut hello = client.output().to_vec();
        ClientFrame::Load { id: 1, flags: LoadFlags::default(), source: "" }.encode(&mut hello);
        let mut input = &hello[..];
        while session.handle_bytes(&mut input, 0, &mut hub, &mut table).is_some() {}
        let replica = Replica::new(Epoch(1), KEY);
        let mut pair = Pair { table, hub, admin, session, replica };
        let changes: Vec<Change> = ways.iter().map(change).collect();
        for changes in changes.chunks(1000) {
            pair.table.apply_many(admin, changes, &mut pair.hub, &mut |_, result| result.is_ok());
            let mut records = Vec::new();
            pair.publish(&mut records);
            pair.follow(&records)?;
        }
        while pair.replica.idle(4096) {}
        Ok(pair)
    }

    /// Makes records visible, and keeps a copy of them.
    fn publish(&mut self, records: &mut Vec<u8>) {
        self.hub.unpublished(&mut |bytes| records.extend_from_slice(bytes));
        self.hub.publish(&mut self.table, 0);
    }

    /// Applies a stream. What it took, and how many changes changed something.
    fn stream(&mut self, input: &[u8], records: &mut Vec<u8>) -> (Duration, usize) {
        let (mut made, mut took) = (0, Duration::ZERO);
        for mut bytes in input.chunks(READ_BYTES) {
            let begin = Clock::now();
            let Pair { table, hub, admin, session, .. } = self;
            while let Some(event) = session.handle_bytes(&mut bytes, 0, hub, table) {
                let ServerEvent::Changes(changes) = event else { continue };
                table.apply_many(*admin, &changes, hub, &mut |_, result| {
                    made += usize::from(matches!(result, Ok(Applied::Changed(_))));
                    true
                });
                hub.recycle(changes);
            }
            took += begin.elapsed();
            self.table.tidy(TIDY);
            self.publish(records);
        }
        (took, made)
    }

    /// Gives the replica records. What it took, and how many they are.
    fn follow(&mut self, mut rest: &[u8]) -> Result<(Duration, usize)> {
        let (mut count, mut took) = (0, Duration::ZERO);
        while !rest.is_empty() {
            let first = &rest[..rest.len().min(READ_BYTES)];
            let (mut whole, _) = Records::first(first, FRAME_BYTES_MAX)?;
            let bytes = whole.as_bytes().len();
            count += whole.by_ref().count();
            let begin = Clock::now();
            let (records, _) = Records::first(&rest[..bytes], FRAME_BYTES_MAX)?;
            let records =
                records.map(|WireRecord { op, kind, body, .. }| ReplicaRecord { op, kind, body });
            self.replica.apply_records(records).map_err(|(_, error)| error)?;
            took += begin.elapsed();
            rest = &rest[bytes..];
        }
        if self.replica.digests() != self.table.digests() {
            return Err("the replica differs".into());
        }
        Ok((took, count))
    }

    /// Rounds of what must be so before, and what is measured.
    fn rounds(
        &mut self,
        rounds: usize,
        mut next: impl FnMut() -> (Vec<Way>, Vec<Way>),
    ) -> Result<()> {
        let (mut daemon, mut replica) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let (before, ways) = next();
            let mut records = Vec::new();
            // What the round before left behind doesn't help this one.
            self.table.collect(usize::MAX, &mut self.hub);
            self.publish(&mut records);
            self.stream(&encoded(&before), &mut records);
            self.follow(&records)?;
            records.clear();
            let (took, made) = self.stream(&encoded(&ways), &mut records);
            daemon.push(took.as_nanos() as f64 / ways.len() as f64);
            let (took, count) = self.follow(&records)?;
            replica.push(took.as_nanos() as f64 / count as f64);
            if round + 1 == rounds {
                let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
                for record in Records::new(&records, FRAME_BYTES_MAX)? {
                    *kinds.entry(format!("{:?} {:?}", record.op, record.kind)).or_default() += 1;
                }
                println!("  {} changes, {made} with effect: {count} records", ways.len());
                println!("  {kinds:?}");
            }
        }
        for (what, mut all) in [("the daemon, a change", daemon), ("a replica, a record", replica)]
        {
            all.sort_by(f64::total_cmp);
            println!("  {what:<32} {:>7.1} ns  (least {:.1})", all[rounds / 2], all[0]);
        }
        Ok(())
    }
}

fn random(rounds: usize) -> Result<()> {
    let mut random = Random(11);
    let mut ways = table()?;
    let mut pair = Pair::load(&ways)?;
    let mut absent: VecDeque<(usize, usize)> = VecDeque::new();
    let mut made = 0;
    pair.rounds(rounds, || {
        let round = (0..CHANGES).map(|_| {
            made += 1;
            if let Some(&(_, which)) = absent.front().filter(|(due, _)| *due <= made) {
                absent.pop_front();
                ways[which].1 = Some(hop(ways[which].0, random.next()));
                return ways[which];
            }
            let which = loop {
                let which = (random.next() % ways.len() as u64) as usize;
                if ways[which].1.is_some() {
                    break which;
                }
            };
            ways[which].1 = Some(hop(ways[which].0, random.next()));
            if random.next() % 8 == 0 {
                absent.push_back((made + 1000, which));
                ways[which].1 = None;
            }
            ways[which]
        });
        (Vec::new(), round.collect())
    })
}

/// What a file does that is loaded again: other next hops for a stretch of the table, in
/// its order.
fn order(rounds: usize) -> Result<()> {
    let mut random = Random(11);
    let ways = table()?;
    let mut pair = Pair::load(&ways)?;
    pair.rounds(rounds, || {
        let at = (random.next() % (ways.len() - CHANGES) as u64) as usize;
        let other = |&(prefix, _): &Way| (prefix, Some(hop(prefix, random.next())));
        (Vec::new(), ways[at..at + CHANGES].iter().map(other).collect())
    })
}

fn trace(rounds: usize) -> Result<()> {
    let ways = table()?;
    let mut trace = Vec::new();
    for line in lines("updates.txt.gz")? {
        let line = line?;
        let mut words = line.split_ascii_whitespace().skip(1);
        let (Some(verb), Some(text), Some(gateway)) = (words.next(), words.next(), words.next())
        else {
            return Err(format!("a short line: {line}").into());
        };
        let prefix: Prefix = text.parse()?;
        let gateway = Some(gateway.parse()?);
        let hop = HopSpec { gateway, ..hop(prefix, hash(text)) };
        trace.push((prefix, (verb == "a").then_some(hop)));
    }
    let mut before: HashMap<Prefix, Option<HopSpec>> =
        trace.iter().map(|(prefix, _)| (*prefix, None)).collect();
    for (prefix, hop) in &ways {
        before.entry(*prefix).and_modify(|there| *there = *hop);
    }
    let mut before: Vec<Way> = before.into_iter().collect();
    before.sort_by_key(|(prefix, _)| *prefix);
    let mut pair = Pair::load(&ways)?;
    pair.rounds(rounds, || (before.clone(), trace.clone()))
}

fn lines(name: &str) -> Result<impl Iterator<Item = std::io::Result<String>>> {
    let folder = std::env::var_os("RTM_DATA").map_or("../shared/data".into(), PathBuf::from);
    let file = std::fs::File::open(folder.join(name))?;
    Ok(BufReader::new(MultiGzDecoder::new(file)).lines())
}

fn table() -> Result<Vec<Way>> {
    let ways = lines("full-table.txt.gz")?.map(|line| {
        let line = line?;
        let prefix: Prefix = line.parse()?;
        Ok((prefix, Some(hop(prefix, hash(&line)))))
    });
    ways.collect()
}

/// FNV-1a, as the rule beside the data says.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
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

fn change((prefix, hop): &Way) -> Change {
    match hop {
        Some(hop) => Change::Route(
            Verb::Replace,
            RouteSpec { hops: Hops::One(*hop), ..RouteSpec::new(*prefix) },
        ),
        None => Change::Route(Verb::Delete, RouteSpec::new(*prefix)),
    }
}

fn encoded(ways: &[Way]) -> Vec<u8> {
    let mut bytes = Vec::new();
    ways.iter().for_each(|way| encode_change(&change(way), &mut bytes));
    bytes
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
