//! Readers beside a writer at full speed: every answer must be right for a
//! revision that was visible between the lookup's start and its end.
//!
//! Each transaction gives all watched prefixes, one for every kind of node,
//! the group whose id is the revision; so an answer names its revision, and an
//! answer from torn memory names none that can be. Around them other routes,
//! neighbours and attributes come and go, so that blocks are handed back all
//! the time. And again and again table main fills until it has a wide root, and
//! empties until it is a small table.
//!
//! RTM_IMAGE_SOAK: how many lookups at least of each test (`scripts/soak-image` sets it).

mod support;

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rtm_image::{Object, Reader, Settings, Writer};
use rtm_model::{
    Attrs, Entity, EntityKey, Family, Group, GroupId, HopFlags, NextHop, Route, RouteKey,
    RouteType, RouteValue,
};
use support::{Mix, Model, Op, Random, attach, digests, image, op, write};

const WATCHED: [(&str, &str); 12] = [
    ("0.0.0.0/0", "203.0.113.1"),
    ("11.0.0.0/8", "11.1.1.1"),
    ("12.16.0.0/14", "12.17.3.3"),
    ("13.1.2.0/24", "13.1.2.200"),
    ("13.1.3.128/26", "13.1.3.130"),
    ("13.1.4.5/32", "13.1.4.5"),
    ("::/0", "3fff:ffff::1"),
    ("2a00::/12", "2a01::1"),
    ("2a10:1::/32", "2a10:1:5::9"),
    ("2a10:2:3::/48", "2a10:2:3:4::5"),
    ("2a10:2:4:5::/64", "2a10:2:4:5:6::7"),
    ("2a10:2:5::9/128", "2a10:2:5::9"),
];

fn route(prefix: &str, group: u64) -> Op {
    let value = RouteValue {
        kind: RouteType::Unicast,
        protocol: 4,
        scope: 0,
        distance: 1,
        group: GroupId(group as u32),
        attrs: Attrs::NONE,
    };
    Op::Set(Entity::Route(Route { key: RouteKey::main(prefix.parse().unwrap()), value }))
}

fn group(revision: u64) -> Op {
    let gateway = Some(IpAddr::from((revision as u32).to_be_bytes()));
    let hop = NextHop { gateway, link: None, weight: 1, flags: HopFlags::default() };
    Op::Set(Entity::Group(Group { id: GroupId(revision as u32), nhid: 0, hops: vec![hop] }))
}

/// What the writer tells the watchers.
#[derive(Default)]
struct Progress {
    /// Counted before the commit: nothing newer can be seen.
    newest: AtomicU64,
    /// Counted after it: nothing older may be seen.
    published: AtomicU64,
    /// How often table main has had a wide root, and lost it.
    switches: AtomicU64,
}

/// Routes that come and go in table main: up to so many, so many in a revision, and
/// revisions of a round: in the first half they come and stay.
#[derive(Clone, Copy)]
struct Tide {
    routes: u64,
    per_revision: u64,
    revisions: u64,
}

impl Tide {
    /// How many are there.
    fn level(self, revision: u64) -> u64 {
        let (half, at) = (self.revisions / 2, revision % self.revisions);
        if at < half {
            (at * self.per_revision).min(self.routes)
        } else {
            self.routes.saturating_sub((at - half) * self.per_revision)
        }
    }
}

/// The first of their groups, which stay.
const TIDAL_GROUP: u64 = 1 << 31;

/// Number `n` of them: around none of the watched ones.
fn tidal(n: u64) -> String {
    format!("{}.{}.{}.0/24", 64 + n / 65_536, n / 256 % 256, n % 256)
}

/// Makes `wanted` lookups, and goes on until table main has switched; returns how
/// many, the repeats and the busy answers.
fn watch(
    mut reader: Reader,
    progress: &Progress,
    wanted: u64,
    next: impl Fn() -> Reader,
) -> [u64; 3] {
    let addresses: Vec<IpAddr> =
        WATCHED.iter().map(|(_, address)| address.parse().unwrap()).collect();
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for address in &addresses {
        match address {
            IpAddr::V4(address) => v4.push(u32::from(*address)),
            IpAddr::V6(address) => v6.push(u128::from(*address)),
        }
    }
    let mut answers = [None; 6];
    let mut totals = [0_u64; 3];
    let mut last = 0;
    let is_done = || {
        let switches = progress.switches.load(Ordering::Relaxed);
        switches > 0 && progress.published.load(Ordering::Relaxed) > 100
    };
    while totals[0] < wanted || !is_done() {
        for round in 0..64 {
            // The old object shows its last revision for ever.
            let oldest = progress.published.load(Ordering::SeqCst);
            if reader.writer_moved() {
                break;
            }
            last = last.max(oldest);
            for (index, address) in addresses.iter().enumerate() {
                let Ok(found) = reader.lookup(254, *address) else { continue };
                let revision = u64::from(found.expect("always there").group().0);
                assert!(revision >= last, "{address}: revision {revision} after {last}");
                last = revision;
                if index != round % WATCHED.len() {
                    continue;
                }
                if let Ok(found) = reader.lookup_hop(254, *address, 1) {
                    let (answer, hop) = found.expect("always there");
                    let revision = answer.group().0;
                    let gateway = hop.and_then(|hop| hop.gateway);
                    assert_eq!(gateway, Some(IpAddr::from(revision.to_be_bytes())), "{address}");
                    assert!(u64::from(revision) >= last);
                    last = revision.into();
                }
                if let Ok(route) = reader.lookup_route(254, *address) {
                    let revision = u64::from(route.expect("always there").value.group.0);
                    assert!(revision >= last, "{address}: revision {revision} after {last}");
                    last = revision;
                }
            }
            let mut in_a_row = reader.lookups4();
            for answer in v4.iter().filter_map(|a| in_a_row.lookup((*a).into()).ok()) {
                let revision = u64::from(answer.expect("always there").group().0);
                assert!(revision >= last, "revision {revision} after {last}");
                last = revision;
            }
            let batches = [
                reader.lookup4_batch(&v4, &mut answers).map(|()| answers),
                reader.lookup6_batch(&v6, &mut answers).map(|()| answers),
            ];
            for batch in batches.into_iter().flatten() {
                let all = batch.map(|answer| u64::from(answer.expect("always there").group().0));
                assert_eq!(all, [all[0]; 6], "one batch, one revision");
                assert!(all[0] >= last);
                last = all[0];
            }
            totals[0] += (2 * WATCHED.len() + v4.len()) as u64 + 2;
            let newest = progress.newest.load(Ordering::SeqCst);
            assert!(last <= newest, "{last} was never published, only {newest}");
        }
        if let Ok(state) = reader.state() {
            assert_eq!(state.digests, digests(state.revision), "a slot of one revision");
            if reader.writer_moved() {
                totals[1] += reader.repeats();
                totals[2] += reader.busy();
                reader = next();
                // A growth may end behind a commit: its revision is the first here, then.
                assert!(reader.state().is_ok_and(|new| new.revision >= state.revision));
            }
        }
    }
    totals[1] += reader.repeats();
    totals[2] += reader.busy();
    totals
}

/// Where a wide root is made if nobody says otherwise.
#[test]
fn every_answer_is_of_a_published_revision() {
    let prefixes = Settings::default().wide_prefixes;
    soak(prefixes, Tide { routes: prefixes + 500, per_revision: 1000, revisions: 120 });
}

/// Wide roots come and go as fast as a table can.
#[test]
fn and_over_many_switches_of_the_root() {
    let prefixes = Settings::WIDE_PREFIXES_MIN;
    soak(prefixes, Tide { routes: prefixes + 50, per_revision: 300, revisions: 12 });
}

fn soak(wide_prefixes: u64, tide: Tide) {
    let wanted: u64 =
        std::env::var("RTM_IMAGE_SOAK").map_or(2_000_000, |n| n.parse().expect("a number"));
    let settings =
        Settings { bytes: 2 << 20, ring_bytes: 4096, wide_prefixes, ..Settings::default() };
    let (mut writer, _) = image(settings);
    let mut random = Random(3);
    let mut model = Model::default();
    let mix = Mix { tables: &[9, 10, 11], groups: 5, deletes: 480 };
    let progress = Progress::default();
    let descriptor = Mutex::new(writer.memory().descriptor().try_clone_to_owned().unwrap());
    let mut step = |writer: &mut Writer<Object>, revision: u64| {
        write(writer, &group(revision));
        for (prefix, _) in WATCHED {
            write(writer, &route(prefix, revision));
        }
        for _ in 0..random.below(30) {
            let change = op(&mut random, &model, mix);
            let of_group =
                matches!(change, Op::Set(Entity::Group(_)) | Op::Delete(EntityKey::Group(_)));
            if !of_group {
                model.apply(&change);
                write(writer, &change);
            }
        }
        if revision % 50 == 0 {
            // Others in table main, around the watched ones: nodes come and go.
            for n in 0..40 {
                let prefix = format!("13.1.{}.{}/32", 2 + n % 3, 6 + random.below(120));
                let key = RouteKey::main(prefix.parse().unwrap());
                match random.below(2) {
                    0 => write(writer, &route(&prefix, revision)),
                    _ => write(writer, &Op::Delete(EntityKey::Route(key))),
                }
            }
        }
        for n in tide.level(revision - 1)..tide.level(revision) {
            write(writer, &route(&tidal(n), TIDAL_GROUP + n % 7));
        }
        for n in tide.level(revision)..tide.level(revision - 1) {
            let key = RouteKey::main(tidal(n).parse().unwrap());
            write(writer, &Op::Delete(EntityKey::Route(key)));
        }
        if revision > 100 {
            let old = GroupId(revision as u32 - 100);
            write(writer, &Op::Delete(EntityKey::Group(old)));
        }
        progress.newest.store(revision, Ordering::SeqCst);
        writer.commit(7, revision, &digests(revision)).unwrap();
        // The daemon hands the successor out once it is published.
        let mut handed = descriptor.lock().unwrap();
        let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_ino;
        if inode(handed.as_fd()) != inode(writer.memory().descriptor()) {
            *handed = writer.memory().descriptor().try_clone_to_owned().unwrap();
        }
        progress.published.store(revision, Ordering::SeqCst);
        let at = revision % tide.revisions;
        if at == tide.revisions / 2 - 1 || at == tide.revisions - 1 {
            let is_wide = writer.lookup_bytes(254, Family::V4) > 3 << 20;
            assert_eq!(is_wide, at < tide.revisions / 2, "revision {revision}");
            progress.switches.fetch_add(u64::from(!is_wide), Ordering::Relaxed);
        }
    };
    (TIDAL_GROUP..TIDAL_GROUP + 7).for_each(|id| write(&mut writer, &group(id)));
    step(&mut writer, 1);
    let first = attach(&writer);
    let (lookups, revisions) = std::thread::scope(|scope| {
        let (progress, descriptor) = (&progress, &descriptor);
        let watcher = scope.spawn(move || {
            let next = || loop {
                let fd = descriptor.lock().unwrap().try_clone().unwrap();
                let reader = Reader::attach(fd).unwrap();
                if !reader.writer_moved() {
                    return reader;
                }
                std::thread::yield_now();
            };
            watch(first, progress, wanted, next)
        });
        let mut revision = 1;
        while !watcher.is_finished() {
            revision += 1;
            step(&mut writer, revision);
        }
        (watcher.join().unwrap(), revision)
    });
    let [lookups, repeats, busy] = lookups;
    let switches = progress.switches.load(Ordering::Relaxed);
    println!(
        "{lookups} lookups beside {revisions} revisions: {repeats} repeats, {busy} busy; \
         {switches} wide roots came and went"
    );
    assert!(lookups >= wanted && revisions > 100);
    let reader = attach(&writer);
    let last = reader.lookup(254, "13.1.4.5".parse().unwrap()).unwrap().unwrap();
    assert_eq!(u64::from(last.group().0), revisions);
}
