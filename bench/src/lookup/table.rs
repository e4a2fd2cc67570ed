//! The tables of this program: the image as `rtmd` makes it, and a flat one.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rtm_image::{Answer, Object, Reader, Settings, Writer};
use rtm_model::{
    Attrs, Digests, Entity, EntityKind, Group, GroupId, HopFlags, LinkId, Mac, Neighbour,
    NeighbourKey, NeighbourValue, NextHop, NudState, Prefix, Route, RouteKey, RouteType,
    RouteValue, TABLE_MAIN,
};

use super::sets::{Family, Line};
use crate::changes::SplitMix;

/// Next hops.
pub(crate) const HOPS: u32 = 200;
/// Changes that the writer publishes together.
const PER_TURN: usize = 1_000;
/// Of the live image: so many in each turn of a millisecond.
const LIVE_PER_TURN: usize = 100;
const LIVE_TURN: Duration = Duration::from_millis(1);

/// Changes as the daemon hands them to the image: canonical bytes of the journal.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    /// What each is, and where it ends.
    each: Vec<(EntityKind, usize)>,
}

impl Records {
    fn push(&mut self, entity: &Entity) {
        entity.encode(&mut self.bytes);
        self.each.push((entity.kind(), self.bytes.len()));
    }

    /// Publishes them in turns of so many; `timed` is told how long each took.
    fn publish(
        &self,
        writer: &mut Writer<Object>,
        per_turn: usize,
        mut timed: impl FnMut(&Writer<Object>, Duration),
    ) -> Result<()> {
        let mut from = 0;
        for turn in self.each.chunks(per_turn) {
            let begun = Instant::now();
            for &(kind, end) in turn {
                writer.set_bytes(kind, &self.bytes[from..end])?;
                from = end;
            }
            writer.commit(1, 1, &Digests::default())?;
            timed(writer, begun.elapsed());
        }
        Ok(())
    }
}

/// The longest turns of the writer alone while it was told the table.
#[derive(Clone, Copy, Default)]
pub(crate) struct Turns {
    /// Of those that neither grew nor made a wide root.
    pub(crate) others: Duration,
    /// Of those that carried growth on by a slice, or moved into the successor.
    pub(crate) growing: Duration,
    /// Of the one that made a wide root.
    pub(crate) widening: Duration,
}

/// A published image, and its writer.
pub(crate) struct Image {
    writer: Mutex<Writer<Object>>,
    routes: Vec<(Prefix, u32)>,
    /// How long the table's turns took.
    pub(crate) turns: Turns,
}

impl Image {
    /// With these routes, published in turns, as a daemon does it.
    pub(crate) fn new(lines: &[(Family, &[Line])]) -> Result<Self> {
        let settings = Settings { ring_bytes: 4 << 20, bytes: 8 << 20, ..Settings::default() };
        let mut writer = Writer::new(Object::create(settings.bytes)?, &settings)?;
        for id in 1..=HOPS {
            let hop = NextHop {
                gateway: Some(std::net::Ipv4Addr::from(0x0aff_0000 + id).into()),
                link: None,
                weight: 1,
                flags: HopFlags::default(),
            };
            writer.set(&Entity::Group(Group { id: GroupId(id), nhid: 0, hops: vec![hop] }))?;
        }
        let prefix = |family, line: &Line| {
            let address = match family {
                Family::V4 => std::net::Ipv4Addr::from(line.first as u32).into(),
                Family::V6 => std::net::Ipv6Addr::from(line.first).into(),
            };
            Prefix::new(address, line.length).expect("a prefix of the table")
        };
        let routes: Vec<(Prefix, u32)> = lines
            .iter()
            .flat_map(|(family, lines)| {
                lines.iter().map(move |line| (prefix(*family, line), line.hop))
            })
            .collect();
        let mut records = Records::default();
        routes.iter().for_each(|&(prefix, hop)| records.push(&route(prefix, hop)));
        let (mut turns, mut before, mut number) = (Turns::default(), writer.status(), 0);
        let is_v4 = |(prefix, _): &&(Prefix, u32)| prefix.address().is_ipv4();
        let widened = Settings::default().wide_prefixes as usize / PER_TURN;
        let widened = (routes.iter().filter(is_v4).count() / PER_TURN > widened).then_some(widened);
        records.publish(&mut writer, PER_TURN, |writer, took| {
            let status = writer.status();
            let grows = before.growing || status.growing || before.bytes < status.bytes;
            let longest = match number {
                number if Some(number) == widened => &mut turns.widening,
                _ if grows => &mut turns.growing,
                _ => &mut turns.others,
            };
            *longest = took.max(*longest);
            (before, number) = (status, number + 1);
        })?;
        // What the last versions needed is free after two more.
        for _ in 0..3 {
            writer.commit(1, 2, &Digests::default())?;
        }
        Ok(Self { writer: Mutex::new(writer), routes, turns })
    }

    pub(crate) fn writer(&self) -> MutexGuard<'_, Writer<Object>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Maps it read-only, as another process would.
    pub(crate) fn attach(&self) -> Result<Reader> {
        let fd = self.writer().memory().descriptor().try_clone_to_owned()?;
        Ok(Reader::attach(fd)?)
    }

    /// Other next hops for random routes, published in turns. Returns the time, without
    /// that of choosing and encoding them.
    pub(crate) fn change(&self, count: usize, seed: u64) -> Result<Duration> {
        let changes = self.changes(&mut SplitMix(seed), count);
        let mut writer = self.writer();
        let begun = Instant::now();
        changes.publish(&mut writer, PER_TURN, |_, _| {})?;
        Ok(begun.elapsed())
    }

    /// Other next hops for random routes.
    fn changes(&self, random: &mut SplitMix, count: usize) -> Records {
        let mut changes = Records::default();
        for _ in 0..count {
            let (prefix, _) = self.routes[random.next() as usize % self.routes.len()];
            changes.push(&route(prefix, 1 + random.next() as u32 % HOPS));
        }
        changes
    }

    /// Another next hop for one prefix, so many times, each until a reader's lookup of
    /// `address`, inside of it and of nothing longer, finds it: the times.
    pub(crate) fn seen_after(
        &self,
        prefix: Prefix,
        address: IpAddr,
        count: u32,
    ) -> Result<Vec<u64>> {
        let reader = self.attach()?;
        let mut writer = self.writer();
        let mut times = Vec::new();
        for n in 0..count {
            let mut change = Records::default();
            let hop_of = 1 + n % HOPS;
            change.push(&route(prefix, hop_of));
            let begun = Instant::now();
            change.publish(&mut writer, 1, |_, _| {})?;
            let found = reader.lookup(TABLE_MAIN, address)?;
            times.push(begun.elapsed().as_nanos() as u64);
            ensure!(hop(found) == hop_of, "{prefix}: {address} finds {found:?}, not {hop_of}");
        }
        Ok(times)
    }

    /// Runs `body` while 100,000 changes a second are published.
    pub(crate) fn while_live<T>(&self, body: impl FnOnce() -> T) -> Result<T> {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let changing = scope.spawn(|| -> Result<()> {
                let mut writer = self.writer();
                let mut random = SplitMix(11);
                let mut next = Instant::now();
                while !over.load(Ordering::Relaxed) {
                    let changes = self.changes(&mut random, LIVE_PER_TURN);
                    changes.publish(&mut writer, LIVE_PER_TURN, |_, _| {})?;
                    next += LIVE_TURN;
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                Ok(())
            });
            let value = body();
            over.store(true, Ordering::Relaxed);
            changing.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
            Ok(value)
        })
    }
}

fn route(prefix: Prefix, hop: u32) -> Entity {
    let value = RouteValue {
        kind: RouteType::Unicast,
        protocol: 186,
        scope: 0,
        distance: 20,
        group: GroupId(hop),
        attrs: Attrs::NONE,
    };
    Entity::Route(Route { key: RouteKey::main(prefix), value })
}

/// The number of the next hop; 0: none.
#[inline(always)]
pub(crate) fn hop(answer: Option<Answer>) -> u32 {
    answer.map_or(0, |answer| answer.group().0)
}

/// 24 bits, then 8, each entry 16 bits: the number of a next hop.
pub(crate) struct Flat {
    first: Vec<u16>,
    second: Vec<u16>,
}

impl Flat {
    pub(crate) fn new(lines: &[Line]) -> Self {
        let mut flat = Self { first: vec![0; 1 << 24], second: Vec::new() };
        let mut sorted = lines.to_vec();
        sorted.sort_by_key(|line| line.length);
        for line in sorted {
            let (address, hop) = (line.first as usize, line.hop as u16);
            if line.length <= 24 {
                let at = address >> 8;
                flat.first[at..at + (1 << (24 - line.length))].fill(hop);
                continue;
            }
            let at = address >> 8;
            if flat.first[at] & 0x8000 == 0 {
                let page = (flat.second.len() / 256) as u16;
                flat.second.extend([flat.first[at]; 256]);
                flat.first[at] = 0x8000 | page;
            }
            let at = usize::from(flat.first[at] & 0x7fff) * 256 + (address & 255);
            flat.second[at..at + (1 << (32 - line.length))].fill(hop);
        }
        flat
    }

    #[inline(always)]
    pub(crate) fn find(&self, address: u32) -> u32 {
        let entry = self.first[(address >> 8) as usize];
        if entry & 0x8000 == 0 {
            return entry.into();
        }
        self.second[usize::from(entry & 0x7fff) * 256 + (address & 255) as usize].into()
    }

    pub(crate) fn bytes(&self) -> u64 {
        2 * (self.first.len() + self.second.len()) as u64
    }
}

/// Neighbours, in an image and in the least that could be called a hash table:
/// open addressing, a key and a value of 64 bits in each of 2^18 places.
pub(crate) struct Neighbours {
    _writer: Writer<Object>,
    pub(crate) reader: Reader,
    bare: Vec<[u64; 2]>,
    /// Keys to look for, in random order.
    pub(crate) keys: Vec<(u32, u32)>,
}

/// A MAC address for each neighbour.
fn mac(number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    Mac([0x02, 0, a, b, c, d])
}

/// How many there are.
const NEIGHBOURS: u32 = 100_000;
const BARE_BITS: u32 = 18;

impl Neighbours {
    pub(crate) fn new() -> Result<Self> {
        let settings = Settings { ring_bytes: 1 << 20, bytes: 8 << 20, ..Settings::default() };
        let mut writer = Writer::new(Object::create(settings.bytes)?, &settings)?;
        let mut bare = vec![[0; 2]; 1 << BARE_BITS];
        let entry = |number: u32| (0x0a00_0001 + number, 1 + number % 32);
        for number in 0..NEIGHBOURS {
            let (ip, link) = entry(number);
            let mac = mac(number);
            writer.set(&Entity::Neighbour(Neighbour {
                key: NeighbourKey {
                    ip: std::net::Ipv4Addr::from(ip).into(),
                    link: Some(LinkId(link)),
                },
                value: NeighbourValue {
                    mac: Some(mac),
                    state: NudState::REACHABLE,
                    flags: 0,
                    protocol: 0,
                },
            }))?;
            let key = u64::from(ip) << 32 | u64::from(link);
            let mut at = place(key);
            while bare[at][0] != 0 {
                at = (at + 1) % bare.len();
            }
            bare[at] = [key, word(mac)];
        }
        for revision in 1..4 {
            writer.commit(1, revision, &Digests::default())?;
        }
        let reader = Reader::attach(writer.memory().descriptor().try_clone_to_owned()?)?;
        let mut random = SplitMix(5);
        let keys = (0..1 << 18).map(|_| entry(random.next() as u32 % NEIGHBOURS)).collect();
        Ok(Self { _writer: writer, reader, bare, keys })
    }

    #[inline(always)]
    pub(crate) fn bare(&self, (ip, link): (u32, u32)) -> u64 {
        let key = u64::from(ip) << 32 | u64::from(link);
        let mut at = place(key);
        loop {
            let [found, value] = self.bare[at];
            if found == key {
                return value;
            }
            if found == 0 {
                return 0;
            }
            at = (at + 1) & ((1 << BARE_BITS) - 1);
        }
    }

    #[inline(always)]
    pub(crate) fn ours(&self, (ip, link): (u32, u32)) -> u64 {
        let ip = std::net::Ipv4Addr::from(ip).into();
        self.reader.neighbour_mac(ip, Some(LinkId(link))).ok().flatten().map_or(0, word)
    }
}

#[inline(always)]
fn place(key: u64) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BARE_BITS)) as usize
}

#[inline(always)]
fn word(mac: Mac) -> u64 {
    // In halves: of eight bytes with two zeros the compiler makes thirteen instructions.
    let [a, b, c, d, e, f] = mac.0;
    u64::from(u16::from_be_bytes([a, b])) << 32 | u64::from(u32::from_be_bytes([c, d, e, f]))
}
