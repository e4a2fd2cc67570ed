//! The tables of this program: the image as `rtmd` makes it, and a flat one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use rtm_image::{Answer, Object, Reader, Settings, Writer};
use rtm_model::{
    Attrs, Digests, Entity, Group, GroupId, HopFlags, LinkId, Mac, Neighbour, NeighbourKey,
    NeighbourValue, NextHop, NudState, Prefix, Route, RouteKey, RouteType, RouteValue,
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

/// A published image, and its writer.
pub(crate) struct Image {
    writer: Mutex<Writer<Object>>,
    routes: Vec<(Prefix, u32)>,
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
        for turn in routes.chunks(PER_TURN) {
            for &(prefix, hop) in turn {
                writer.set(&route(prefix, hop))?;
            }
            writer.commit(1, 1, &Digests::default())?;
        }
        // What the last versions needed is free after two more.
        for _ in 0..3 {
            writer.commit(1, 2, &Digests::default())?;
        }
        Ok(Self { writer: Mutex::new(writer), routes })
    }

    pub(crate) fn writer(&self) -> MutexGuard<'_, Writer<Object>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Maps it read-only, as another process would.
    pub(crate) fn attach(&self) -> Result<Reader> {
        let fd = self.writer().memory().descriptor().try_clone_to_owned()?;
        Ok(Reader::attach(fd)?)
    }

    /// Other next hops for random routes, published in turns. Returns the time.
    pub(crate) fn change(&self, count: usize, seed: u64) -> Result<Duration> {
        let mut writer = self.writer();
        let mut random = SplitMix(seed);
        let begun = Instant::now();
        for turn in 0..count / PER_TURN {
            self.turn(&mut writer, &mut random, PER_TURN, turn as u64)?;
        }
        Ok(begun.elapsed())
    }

    fn turn(
        &self,
        writer: &mut Writer<Object>,
        random: &mut SplitMix,
        changes: usize,
        revision: u64,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        for _ in 0..changes {
            let (prefix, _) = self.routes[random.next() as usize % self.routes.len()];
            let entity = route(prefix, 1 + random.next() as u32 % HOPS);
            bytes.clear();
            entity.encode(&mut bytes);
            // As the daemon does: the journal's bytes, worked in by the batch.
            writer.set_bytes(entity.kind(), &bytes)?;
        }
        Ok(writer.commit(1, 3 + revision, &Digests::default())?)
    }

    /// Runs `body` while 100,000 changes a second are published.
    pub(crate) fn while_live<T>(&self, body: impl FnOnce() -> T) -> Result<T> {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let changing = scope.spawn(|| -> Result<()> {
                let mut writer = self.writer();
                let mut random = SplitMix(11);
                let mut next = Instant::now();
                for turn in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    self.turn(&mut writer, &mut random, LIVE_PER_TURN, turn)?;
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
