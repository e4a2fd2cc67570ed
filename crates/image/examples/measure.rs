//! Measures the image on a real table: sizes, lookups beside the same walk
//! without validation and beside a flat 24-8 table, changes.
//!
//! `cargo run --release -p rtm-image --example measure -- ../shared/data/full-table.txt.gz [seconds per figure]`
#[path = "../tests/support/random.rs"]
mod random;
#[path = "../tests/support/route.rs"]
mod route;

use std::io::Read;
use std::net::IpAddr;

use random::Random;
use route::route;
use rtm_image::{Answer, Busy, Object, Reader, Settings, Writer};
use rtm_model::{
    Digests, Entity, EntityKey, Family, Group, GroupId, HopFlags, NextHop, Prefix, RouteKey,
};

/// This thread's processor time: others may run on the machine meanwhile.
#[derive(Clone, Copy)]
struct Instant(f64);

impl Instant {
    fn now() -> Instant {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Instant(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
    }

    fn elapsed(self) -> std::time::Duration {
        std::time::Duration::from_secs_f64(Instant::now().0 - self.0)
    }
}

fn fnv(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Addresses: random, random inside random prefixes, Zipf over prefixes.
fn sets(prefixes: &[Prefix], family: Family) -> [Vec<u128>; 3] {
    let mut random = Random(7);
    let count = 1 << 19;
    let mut wide = || u128::from(random.next()) << 64 | u128::from(random.next());
    let a = (0..count).map(|_| wide()).collect();
    let inside = |prefix: Prefix, rest: u128| prefix.bits() | rest & !rtm_model::mask(prefix.len());
    let b = (0..count)
        .map(|_| {
            let index = wide() as u64 as usize % prefixes.len();
            inside(prefixes[index], wide())
        })
        .collect();
    // Zipf with exponent 1: rank = n^u.
    let mut shuffled: Vec<Prefix> = prefixes.to_vec();
    for index in (1..shuffled.len()).rev() {
        let other = wide() as u64 as usize % (index + 1);
        shuffled.swap(index, other);
    }
    let n = shuffled.len() as f64;
    let c = (0..count)
        .map(|_| {
            let u = (wide() as u64 >> 11) as f64 / (1_u64 << 53) as f64;
            let rank = (n.powf(u) as usize).min(shuffled.len()) - 1;
            inside(shuffled[rank], wide())
        })
        .collect();
    let _ = family;
    [a, b, c]
}

/// Million operations a second, the best of several rounds.
fn rate(seconds: f64, count: usize, mut run: impl FnMut() -> u64) -> f64 {
    let mut best = 0.0_f64;
    let start = Instant::now();
    let mut sum = 0;
    while start.elapsed().as_secs_f64() < seconds {
        let round = Instant::now();
        sum += run();
        best = best.max(count as f64 / round.elapsed().as_secs_f64() / 1e6);
    }
    std::hint::black_box(sum);
    best
}

/// A flat table of 24 and 8 bits, 16-bit entries, without validation.
struct Flat {
    first: Vec<u16>,
    second: Vec<u16>,
}

impl Flat {
    fn new(routes: &[(Prefix, u32)]) -> Flat {
        let mut flat = Flat { first: vec![0; 1 << 24], second: Vec::new() };
        let mut sorted: Vec<&(Prefix, u32)> = routes.iter().collect();
        sorted.sort_by_key(|(prefix, _)| prefix.len());
        for (prefix, group) in sorted {
            let address = (prefix.bits() >> 96) as u32;
            if prefix.len() <= 24 {
                let start = (address >> 8) as usize;
                flat.first[start..start + (1 << (24 - prefix.len()))].fill(*group as u16);
            } else {
                let at = (address >> 8) as usize;
                if flat.first[at] & 0x8000 == 0 {
                    let page = (flat.second.len() / 256) as u16;
                    flat.second.extend([flat.first[at]; 256]);
                    flat.first[at] = 0x8000 | page;
                }
                let page = usize::from(flat.first[at] & 0x7fff) * 256;
                let start = page + (address & 255) as usize;
                flat.second[start..start + (1 << (32 - prefix.len()))].fill(*group as u16);
            }
        }
        flat
    }

    #[inline(always)]
    fn lookup(&self, address: u32) -> u16 {
        let entry = self.first[(address >> 8) as usize];
        if entry & 0x8000 == 0 {
            return entry;
        }
        self.second[usize::from(entry & 0x7fff) * 256 + (address & 255) as usize]
    }
}

fn sum(answer: Option<Answer>) -> u64 {
    answer.map_or(0, |answer| u64::from(answer.group().0))
}

// Each loop in a function of its own, as a caller has it: no other's variables are in its
// registers.

#[inline(never)]
fn singles(reader: &Reader, addresses: &[u32]) -> Result<u64, Busy> {
    addresses.iter().try_fold(0, |total, a| Ok(total + sum(reader.lookup4((*a).into())?)))
}

#[inline(never)]
fn in_a_row(reader: &Reader, addresses: &[u32]) -> Result<u64, Busy> {
    let mut lookups = reader.lookups4();
    addresses.iter().try_fold(0, |total, a| Ok(total + sum(lookups.lookup((*a).into())?)))
}

#[inline(never)]
fn bare(reader: &Reader, addresses: &[u32]) -> Result<u64, Busy> {
    addresses.iter().try_fold(0, |total, a| Ok(total + sum(reader.unvalidated4((*a).into())?)))
}

#[inline(never)]
fn flat_sum(flat: &Flat, addresses: &[u32]) -> u64 {
    addresses.iter().map(|a| u64::from(flat.lookup(*a))).sum()
}

#[inline(never)]
fn batches(reader: &Reader, addresses: &[u32]) -> Result<u64, Busy> {
    let (mut answers, mut total) = ([None; 16], 0);
    for chunk in addresses.chunks_exact(16) {
        reader.lookup4_batch(chunk, &mut answers)?;
        total += answers.iter().map(|a| sum(*a)).sum::<u64>();
    }
    Ok(total)
}

#[inline(never)]
fn bare_batches(reader: &Reader, addresses: &[u32]) -> Result<u64, Busy> {
    let (mut answers, mut total) = ([None; 16], 0);
    for chunk in addresses.chunks_exact(16) {
        reader.unvalidated4_batch(chunk, &mut answers)?;
        total += answers.iter().map(|a| sum(*a)).sum::<u64>();
    }
    Ok(total)
}

fn attach(writer: &Writer<Object>) -> Reader {
    Reader::attach(writer.memory().descriptor().try_clone_to_owned().unwrap()).unwrap()
}

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap_or_else(|| "../shared/data/full-table.txt.gz".to_owned());
    let seconds: f64 = args.next().map_or(0.5, |s| s.parse().expect("seconds"));
    let mut text = String::new();
    let file = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("text");
    let routes: Vec<(Prefix, u32)> =
        text.lines().map(|line| (line.parse().unwrap(), 1 + (fnv(line) % 200) as u32)).collect();
    let (v4, v6): (Vec<_>, Vec<_>) =
        routes.iter().copied().partition(|(prefix, _)| prefix.family() == Family::V4);
    println!("{} IPv4 and {} IPv6 prefixes", v4.len(), v6.len());

    let settings = Settings::default();
    let mut writer = Writer::new(Object::create(settings.bytes).unwrap(), &settings).unwrap();
    for id in 1..=200_u8 {
        let hop = NextHop {
            gateway: Some(IpAddr::from([10, 255, 0, id])),
            link: None,
            weight: 1,
            flags: HopFlags::default(),
        };
        let group = Group { id: GroupId(id.into()), nhid: 0, hops: vec![hop] };
        writer.set(&Entity::Group(group)).unwrap();
    }
    // As many a time: one transaction for all, or turns of 1,000.
    let start = Instant::now();
    for (count, (prefix, group)) in routes.iter().enumerate() {
        writer.set(&Entity::Route(route(*prefix, *group))).unwrap();
        if count % 1000 == 999 {
            writer.commit(1, count as u64, &Digests::default()).unwrap();
        }
    }
    for revision in 0..3 {
        writer.commit(1, 2_000_000 + revision, &Digests::default()).unwrap();
    }
    let elapsed = start.elapsed().as_secs_f64();
    println!(
        "load in turns of 1,000: {elapsed:.2} s, {:.2} million a second",
        routes.len() as f64 / elapsed / 1e6
    );
    let status = writer.status();
    let (b4, b6) = (writer.lookup_bytes(254, Family::V4), writer.lookup_bytes(254, Family::V6));
    println!(
        "object {:.1} MB, used {:.1} MB, free {:.1} MB",
        status.bytes as f64 / 1e6,
        status.usage.used as f64 / 1e6,
        status.usage.free as f64 / 1e6
    );
    println!("lookup structures: IPv4 {:.2} MB, IPv6 {:.2} MB", b4 as f64 / 1e6, b6 as f64 / 1e6);
    println!(
        "entries: {:.1} bytes a route",
        (status.usage.used - b4 - b6) as f64 / routes.len() as f64
    );

    let start = Instant::now();
    let reader = attach(&writer);
    println!("attach: {:.0} us", start.elapsed().as_secs_f64() * 1e6);

    let flat = Flat::new(&v4);
    let names = ["random", "inside", "zipf"];
    let prefixes: Vec<Prefix> = v4.iter().map(|route| route.0).collect();
    for (name, addresses) in names.iter().zip(sets(&prefixes, Family::V4)) {
        let addresses: Vec<u32> = addresses.iter().map(|a| (a >> 96) as u32).collect();
        for address in addresses.iter().take(100_000) {
            assert_eq!(
                sum(reader.lookup4((*address).into()).unwrap()),
                u64::from(flat.lookup(*address))
            );
        }
        let n = addresses.len();
        let addresses = &addresses[..];
        let single = rate(seconds, n, || singles(&reader, addresses).unwrap());
        let in_a_row = rate(seconds, n, || in_a_row(&reader, addresses).unwrap());
        let bare = rate(seconds, n, || bare(&reader, addresses).unwrap());
        let flat = rate(seconds, n, || flat_sum(&flat, addresses));
        let batch = rate(seconds, n, || batches(&reader, addresses).unwrap());
        let bare_batch = rate(seconds, n, || bare_batches(&reader, addresses).unwrap());
        println!(
            "IPv4 {name:6}: single {single:.0}, in a row {in_a_row:.0} ({:.2}), bare {bare:.0} ({:.0} %), flat {flat:.0} ({:.2}), batch {batch:.0}, bare {bare_batch:.0} ({:.0} %)",
            in_a_row / flat,
            single / bare * 100.0,
            single / flat,
            batch / bare_batch * 100.0
        );
    }
    drop(flat);
    let prefixes: Vec<Prefix> = v6.iter().map(|route| route.0).collect();
    for (name, addresses) in names.iter().zip(sets(&prefixes, Family::V6)) {
        let n = addresses.len();
        let single = rate(seconds, n, || {
            addresses.iter().map(|a| sum(reader.lookup6((*a).into()).unwrap())).sum()
        });
        let bare = rate(seconds, n, || {
            addresses.iter().map(|a| sum(reader.unvalidated6((*a).into()).unwrap())).sum()
        });
        let mut answers = [None; 16];
        let batch = rate(seconds, n, || {
            let mut total = 0;
            for chunk in addresses.chunks_exact(16) {
                reader.lookup6_batch(chunk, &mut answers).unwrap();
                total += answers.iter().map(|a| sum(*a)).sum::<u64>();
            }
            total
        });
        println!(
            "IPv6 {name:6}: single {single:.0}, bare {bare:.0} ({:.0} %), batch {batch:.0}",
            single / bare * 100.0
        );
    }

    // Changes: another group for random routes, in turns.
    let mut random = Random(3);
    for turn in [1, 100, 1000, 10_000] {
        let total = if turn == 1 { 100_000 } else { 1_000_000 };
        let start = Instant::now();
        for n in 0..total {
            let (prefix, _) = routes[random.next() as usize % routes.len()];
            writer.set(&Entity::Route(route(prefix, 1 + (random.next() % 200) as u32))).unwrap();
            if n % turn == turn - 1 {
                writer.commit(1, 3_000_000 + n, &Digests::default()).unwrap();
            }
        }
        let elapsed = start.elapsed().as_secs_f64();
        println!(
            "changes in turns of {turn}: {:.2} million a second",
            total as f64 / elapsed / 1e6
        );
    }
    let start = Instant::now();
    for n in 0..400_000 {
        let (prefix, group) = routes[random.next() as usize % routes.len()];
        writer.delete(&EntityKey::Route(RouteKey::main(prefix))).unwrap();
        if n % 500 == 499 {
            writer.commit(1, 4_000_000 + n, &Digests::default()).unwrap();
        }
        writer.set(&Entity::Route(route(prefix, group))).unwrap();
    }
    let elapsed = start.elapsed().as_secs_f64();
    println!("delete and add: {:.2} million changes a second", 0.8 / elapsed);
    for prefix in ["0.0.0.0/0", "::/0", "8.0.0.0/8", "128.0.0.0/1", "2000::/3"] {
        let prefix: Prefix = prefix.parse().unwrap();
        let mut worst = 0.0_f64;
        for group in [1, 2, 3, 0] {
            let start = Instant::now();
            if group == 0 {
                writer.delete(&EntityKey::Route(RouteKey::main(prefix))).unwrap();
            } else {
                writer.set(&Entity::Route(route(prefix, group))).unwrap();
            }
            writer.commit(1, 5_000_000, &Digests::default()).unwrap();
            worst = worst.max(start.elapsed().as_secs_f64());
        }
        println!("change of {prefix}: at most {:.2} ms", worst * 1e3);
    }
    let start = Instant::now();
    for (prefix, group) in &routes {
        writer.set(&Entity::Route(route(*prefix, 1 + (group + 1) % 200))).unwrap();
    }
    writer.commit(1, 6_000_000, &Digests::default()).unwrap();
    println!(
        "all routes changed in one transaction: {:.2} s, object {:.0} MB",
        start.elapsed().as_secs_f64(),
        writer.status().bytes as f64 / 1e6
    );
    let start = Instant::now();
    writer.flush(true, false).unwrap();
    writer.commit(1, 6_000_001, &Digests::default()).unwrap();
    println!("flush: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
}
