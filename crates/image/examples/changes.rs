//! What a change costs the image, by the processor time of this thread: a full
//! table as canonical bytes, then random changes in turns, as the daemon does it.
//!
//! `cargo run --release -p rtm-image --example changes -- ../shared/data/full-table.txt.gz [ROUNDS [TURN …]]`
#[path = "../tests/support/random.rs"]
mod random;
#[path = "../tests/support/route.rs"]
mod route;

use std::io::Read;
use std::time::Duration;

use random::Random;
use route::route;
use rtm_image::{Object, Settings, Writer};
use rtm_model::{
    Digests, Entity, EntityKey, EntityKind, Family, Group, GroupId, HopFlags, NextHop, Prefix,
    RouteKey,
};

/// This thread's processor time: others may run on the machine meanwhile.
fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Records as they come from the table: kind, set, canonical bytes.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    each: Vec<(EntityKind, bool, u32)>,
}

impl Records {
    fn push(&mut self, entity: &Entity) {
        entity.encode(&mut self.bytes);
        self.each.push((entity.kind(), true, self.bytes.len() as u32));
    }

    fn delete(&mut self, key: EntityKey) {
        key.encode(&mut self.bytes);
        self.each.push((key.kind(), false, self.bytes.len() as u32));
    }

    /// Works them in, in turns of so many; nanoseconds a record, and the
    /// longest turn.
    fn run(&self, writer: &mut Writer<Object>, turn: usize, revision: &mut u64) -> (f64, Duration) {
        self.run_beside(None, writer, turn, revision)
    }

    /// The same, beside something else that takes the caches before each turn.
    fn run_beside(
        &self,
        mut beside: Option<&mut Beside>,
        writer: &mut Writer<Object>,
        turn: usize,
        revision: &mut u64,
    ) -> (f64, Duration) {
        let mut sum = Duration::ZERO;
        let (mut begin, mut longest) = (0, Duration::ZERO);
        for each in self.each.chunks(turn) {
            if let Some(beside) = &mut beside {
                beside.work(each.len());
            }
            let before = now();
            for &(kind, set, end) in each {
                let bytes = &self.bytes[begin as usize..end as usize];
                begin = end;
                match set {
                    true => writer.set_bytes(kind, bytes).unwrap(),
                    false => writer.delete_bytes(kind, bytes).unwrap(),
                }
            }
            *revision += 1;
            writer.commit(1, *revision, &Digests::default()).unwrap();
            let took = now() - before;
            (sum, longest) = (sum + took, longest.max(took));
        }
        (sum.as_secs_f64() * 1e9 / self.each.len() as f64, longest)
    }
}

/// What a daemon does with a change beside the image: a table and a journal that have the
/// caches first.
struct Beside {
    memory: Vec<u64>,
    random: Random,
}

impl Beside {
    const BYTES: usize = 192 << 20;
    /// Cache lines that a change reads and writes.
    const LINES: usize = 40;

    fn new() -> Beside {
        Beside { memory: vec![1; Beside::BYTES / 8], random: Random(9) }
    }

    fn work(&mut self, changes: usize) {
        let lines = self.memory.len() as u64 / 8;
        for _ in 0..changes * Beside::LINES {
            self.memory[8 * self.random.below(lines) as usize] += 1;
        }
    }
}

fn group(id: u32) -> Entity {
    let [.., high, low] = id.to_be_bytes();
    let hop = NextHop {
        gateway: Some([10, 255, high, low].into()),
        link: None,
        weight: 1,
        flags: HopFlags::default(),
    };
    Entity::Group(Group { id: GroupId(id), nhid: 0, hops: vec![hop] })
}

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap_or_else(|| "../shared/data/full-table.txt.gz".to_owned());
    let rounds: usize = args.next().map_or(1, |n| n.parse().expect("a number of rounds"));
    let turns: Vec<usize> = args.map(|n| n.parse().expect("changes of a turn")).collect();
    let turns = if turns.is_empty() { vec![1, 100, 500, 1000, 4000] } else { turns };
    let mut text = String::new();
    let file = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("text");
    let prefixes: Vec<Prefix> = text.lines().map(|line| line.parse().unwrap()).collect();
    let settings = Settings { bytes: 8 << 20, ring_bytes: 4 << 20, ..Settings::default() };
    let mut writer = Writer::new(Object::create(settings.bytes).unwrap(), &settings).unwrap();
    let mut revision = 0;
    let mut load = Records::default();
    for id in 1..=200 {
        load.push(&group(id));
    }
    let mut random = Random(3);
    for prefix in &prefixes {
        load.push(&Entity::Route(route(*prefix, 1 + random.below(200) as u32)));
    }
    let (nanos, longest) = load.run(&mut writer, 1000, &mut revision);
    println!(
        "load in turns of 1000: {nanos:.0} ns a route, {:.2} s a million; longest turn {longest:.1?}",
        nanos / 1e3
    );
    let status = writer.status();
    let (v4, v6) = (writer.lookup_bytes(254, Family::V4), writer.lookup_bytes(254, Family::V6));
    println!(
        "object {:.1} MB, used {:.1} MB, free {:.1} MB; lookups IPv4 {:.2} MB, IPv6 {:.2} MB; entries {:.1} bytes a route",
        status.bytes as f64 / 1e6,
        status.usage.used as f64 / 1e6,
        status.usage.free as f64 / 1e6,
        v4 as f64 / 1e6,
        v6 as f64 / 1e6,
        (status.usage.used - v4 - v6) as f64 / prefixes.len() as f64
    );
    let pick = |random: &mut Random| prefixes[random.below(prefixes.len() as u64) as usize];
    let mut changes = Records::default();
    for _ in 0..500_000 {
        let prefix = pick(&mut random);
        changes.push(&Entity::Route(route(prefix, 1 + random.below(200) as u32)));
    }
    for _ in 0..rounds {
        for &turn in &turns {
            let (nanos, longest) = changes.run(&mut writer, turn, &mut revision);
            println!("changes in turns of {turn}: {nanos:.0} ns each; longest turn {longest:.1?}");
        }
    }
    // As in a trace of updates: some bring a group, and some groups go with their last route.
    let mut with_groups = Records::default();
    for round in 0..20_000 {
        let (id, routes) = (1000 + round % 2, 14);
        with_groups.push(&group(id));
        let own = pick(&mut random);
        with_groups.push(&Entity::Route(route(own, id)));
        for _ in 0..routes {
            let prefix = pick(&mut random);
            with_groups.push(&Entity::Route(route(prefix, 1 + random.below(200) as u32)));
        }
        with_groups.push(&Entity::Route(route(own, 1)));
        with_groups.delete(EntityKey::Group(GroupId(id)));
    }
    for _ in 0..rounds {
        let (nanos, _) = with_groups.run(&mut writer, 1000, &mut revision);
        println!("changes in turns of 1000, groups among them: {nanos:.0} ns each");
    }
    let mut beside = Beside::new();
    for _ in 0..rounds {
        for &turn in &turns {
            let (nanos, _) =
                changes.run_beside(Some(&mut beside), &mut writer, turn, &mut revision);
            println!("changes in turns of {turn}, the caches taken: {nanos:.0} ns each");
        }
    }
    let mut flaps = Records::default();
    for _ in 0..250_000 {
        let prefix = pick(&mut random);
        flaps.delete(EntityKey::Route(RouteKey::main(prefix)));
        flaps.push(&Entity::Route(route(prefix, 1 + random.below(200) as u32)));
    }
    let (nanos, _) = flaps.run(&mut writer, 999, &mut revision);
    println!("deleted and added in turns of 999: {nanos:.0} ns each");
    for prefix in ["0.0.0.0/0", "::/0", "8.0.0.0/8", "128.0.0.0/1", "2000::/3"] {
        let mut wide = Records::default();
        let prefix: Prefix = prefix.parse().unwrap();
        wide.push(&Entity::Route(route(prefix, 1)));
        wide.push(&Entity::Route(route(prefix, 2)));
        wide.push(&Entity::Route(route(prefix, 3)));
        wide.delete(EntityKey::Route(RouteKey::main(prefix)));
        let (_, longest) = wide.run(&mut writer, 1, &mut revision);
        println!("a change of {prefix}: at most {longest:.2?} (5 ms are allowed)");
    }
}
