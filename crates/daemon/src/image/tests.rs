//! The image against the table, over failures, growth, and while nobody has it.

use rtm_image::{Reader, WriterState};
use rtm_model::text::{Command, Context, parse_line};
use rtm_model::{DigestKey, Route, RouteKey};
use rtm_tables::{Epoch, HubLimits, RecordSink, RouteCursor, SourceId, SourceSpec, TableLimits};

use super::rebuild::REBUILD_ENTITIES;
use super::*;
use crate::config::Config;

struct World {
    table: Table,
    hub: Hub,
    image: Image,
    source: SourceId,
    now: Millis,
}

struct Sink<'a>(&'a mut Image, &'a mut Hub);

impl RecordSink for Sink<'_> {
    fn record(&mut self, record: &Record<'_>) {
        self.0.record(record);
        self.1.record(record);
    }

    fn staged(&mut self, record: &Record<'_>) {
        self.0.record(record);
    }

    fn flush(&mut self, revision: Revision, what: Flush) {
        self.0.flush(what);
        self.1.flush(revision, what);
    }

    fn leap(&mut self, revision: Revision) {
        self.0.leap();
        self.1.leap(revision);
    }
}

impl World {
    fn new() -> World {
        World::with(TableLimits::default())
    }

    fn with(limits: TableLimits) -> World {
        let key = DigestKey([1, 2]);
        let mut table = Table::new(Epoch(9), key, limits);
        let hub = Hub::new(&table, key, HubLimits::default());
        let mut limits = Config::default().limits;
        limits.image_ring_bytes.0 = 1 << 16;
        let image = Image::new(&limits, &table, key.0, None).unwrap();
        let source = table.source(SourceSpec::admin()).unwrap();
        World { table, hub, image, source, now: 0 }
    }

    fn change(&mut self, line: &str) {
        let parsed = parse_line(line, &Context::default()).unwrap().unwrap().1;
        let Command::Change(change) = parsed else { panic!("{line}") };
        let mut sink = Sink(&mut self.image, &mut self.hub);
        self.table.apply(self.source, &change, &mut sink).unwrap();
    }

    fn flush(&mut self, what: Flush) {
        let mut sink = Sink(&mut self.image, &mut self.hub);
        self.table.flush(what, &mut sink).unwrap();
    }

    /// A large load: in slices, visible at once.
    fn stage(&mut self, lines: impl FnOnce(&mut dyn FnMut(&str))) {
        self.table.stage_begin(self.source).unwrap();
        let table = &mut self.table;
        lines(&mut |line| {
            let parsed = parse_line(line, &Context::default()).unwrap().unwrap().1;
            let Command::Change(change) = parsed else { panic!("{line}") };
            table.stage(&change).unwrap();
        });
        assert!(!self.turn(), "it stands still while something is staged");
        let mut sink = Sink(&mut self.image, &mut self.hub);
        while self.table.stage_commit(10, &mut sink).is_none() {}
    }

    fn turn(&mut self) -> bool {
        self.now += 1;
        let visible = self.image.publish(&mut self.table, &self.hub, self.now);
        self.hub.publish(&mut self.table, 1000);
        visible
    }

    fn attach(&self) -> Reader {
        Reader::attach(self.image.descriptor().try_clone_to_owned().unwrap()).unwrap()
    }

    /// What the image shows is what the table holds.
    fn compare(&self) {
        let reader = self.attach();
        let state = reader.state().unwrap();
        assert_eq!(state.revision, self.table.revision().0);
        assert_eq!(state.digests, self.table.digests());
        let mut cursor = RouteCursor::all();
        let mut routes: Vec<Route> = Vec::new();
        while let Some(route) = self.table.store().next_route(&mut cursor) {
            routes.push(route);
        }
        let shown = reader.routes4(None).chain(reader.routes6(None));
        assert_eq!(shown.map(Result::unwrap).collect::<Vec<_>>(), routes);
        let mut groups = Vec::new();
        while let Some(group) =
            self.table.store().next_group(groups.last().map(|g: &rtm_model::Group| g.id))
        {
            groups.push(group.clone());
        }
        assert_eq!(reader.groups().map(Result::unwrap).collect::<Vec<_>>(), groups);
        let counts = self.table.counts().store;
        assert_eq!(state.neighbours, counts.neighbours as u64);
        for route in &routes {
            let address = route.key.prefix.address();
            let found = reader.lookup_route(route.key.table, address).unwrap().unwrap();
            assert!(found.key.prefix.len() >= route.key.prefix.len());
        }
    }
}

fn full() -> WriteError {
    WriteError::Full(Full::Limit { bytes: 2, limit: 1 })
}

#[test]
fn after_a_failed_write_it_is_made_anew_in_slices() {
    let mut world = World::new();
    for n in 0..3000_u32 {
        let (b, c) = (n / 256, n % 256);
        world.change(&format!("route add 10.{b}.{c}.0/24 via 192.0.2.{} dev e", 1 + n % 7));
        if n % 10 == 0 {
            world.change(&format!("route add 2001:db8:{n:x}::/48 dev e table 7"));
            world.change(&format!("neigh add 10.0.{b}.{c} lladdr 02:00:00:00:00:01 dev e"));
        }
    }
    assert_eq!(world.image.give(), Ok(true), "somebody has it");
    assert!(world.turn());
    world.compare();
    let (before, revision) = (world.attach(), world.table.revision().0);
    let mut ring = before.ring();
    world.image.fail(&full());
    // Changes go on in the middle of it: behind the walk, and before it.
    let mut turns = 0;
    while world.image.failed.is_some() {
        assert_eq!(world.image.room_for(10, &world.table), Ok(()));
        assert!(world.image.has_work(&world.table, world.now));
        world.change(&format!("route replace 10.0.{turns}.0/24 via 198.51.100.1 dev f"));
        world.change(&format!("route del 10.{}.0.0/24", turns % 9 + 1));
        world.change(&format!("route add blackhole 10.{}.0.0/24", turns % 9 + 1));
        let state = before.state().unwrap();
        assert_eq!((state.revision, before.writer().unwrap()), (revision, WriterState::Live));
        world.turn();
        turns += 1;
    }
    assert!(turns > 5, "{turns} turns: {REBUILD_ENTITIES} entities each");
    let after = world.attach();
    assert_eq!(before.writer().unwrap(), WriterState::Moved { successor: after.header().id });
    assert_eq!(before.state().unwrap().revision, revision, "it keeps what it has");
    world.compare();
    world.change("route add 203.0.113.0/24 dev e");
    assert!(world.turn());
    world.compare();
    // Who followed the ring takes its place along, and is told to read the tables.
    let position = ring.position();
    assert!(ring.read(&mut Vec::new()).is_ok());
    let mut ring = after.ring_at(position);
    assert_eq!(ring.read(&mut Vec::new()), Err(rtm_image::Lapped));
    let key = RouteKey::main("203.0.113.0/24".parse().unwrap());
    assert!(after.route(&key).unwrap().is_some());
}

/// So many routes in one turn, then turns until it is up to date.
#[test]
fn while_nobody_has_it_turns_that_come_soon_after_another_leave_it_behind() {
    let mut world = World::new();
    let change = |world: &mut World, gateway: u32| {
        world.change(&format!("route replace 10.0.0.0/8 via 192.0.2.{gateway} dev e"));
        world.turn()
    };
    // Far apart they are in step.
    for gateway in 1..4 {
        assert!(change(&mut world, gateway) && world.image.status().behind == 0);
        world.compare();
        assert_eq!(world.image.poll_timeout(&world.table), None, "nothing is to be done later");
        world.now += LEISURE_MS;
    }
    // The second of a stream is still told, the third isn't waited for.
    assert!(change(&mut world, 4) && change(&mut world, 5));
    world.compare();
    for gateway in 6..20 {
        assert!(!change(&mut world, gateway), "its clients don't wait");
    }
    assert!(world.image.status().behind > 0 && !world.image.has_work(&world.table, world.now));
    // However long the stream goes on, it is not forgotten.
    world.now += LEISURE_MS;
    assert!(world.image.has_work(&world.table, world.now));
    assert!(change(&mut world, 20) && change(&mut world, 21));
    world.compare();
    assert!(!change(&mut world, 22));
    // Who asks waits for one turn; from then on it never is behind.
    assert_eq!(world.image.give(), Ok(false));
    assert!(world.image.has_work(&world.table, world.now) && world.turn());
    assert_eq!(world.image.give(), Ok(true));
    for gateway in 23..30 {
        assert!(change(&mut world, gateway));
        world.compare();
    }
}

#[test]
fn while_nobody_has_it_a_large_turn_leaves_it_behind() {
    let mut world = World::new();
    let large = LARGE_TURN as usize + 1;
    let add = |world: &mut World, from: usize, count: usize, gateway: usize| {
        for n in from..from + count {
            let (b, c) = (n / 256, n % 256);
            world.change(&format!("route replace 10.{b}.{c}.0/24 via 192.0.2.{gateway} dev e"));
            if n % 10 == 0 {
                let mac = format!("02:00:00:00:{b:02x}:{c:02x}");
                world.change(&format!("neigh replace 10.9.{b}.{c} lladdr {mac} dev e"));
                let attrs = "mtu 1400 dev e table 7";
                world.change(&format!("route replace 2001:db8:{n:x}::/48 {attrs}"));
            }
        }
    };
    // A small one doesn't, and is in step.
    add(&mut world, 0, 10, 1);
    assert!(world.turn());
    world.compare();
    add(&mut world, 0, large, 2);
    assert!(world.turn());
    world.compare();
    // This one was large: the next isn't waited for, nor the one behind it.
    for gateway in 3..6 {
        add(&mut world, 0, 5 * large, gateway);
        assert!(!world.turn(), "its clients don't wait");
    }
    assert!(world.image.status().behind >= 15 * large as u64);
    assert_eq!(world.image.room_for(10, &world.table), Ok(()));
    // A moment later it goes on, and is there.
    assert!(!world.image.has_work(&world.table, world.now));
    assert_eq!(world.image.poll_timeout(&world.table), Some(world.now + LEISURE_MS));
    assert!(!world.turn());
    // It may be put off as often as others need the processors, but not for ever.
    let since = world.now;
    world.now += LEISURE_MS;
    while world.image.can_wait(world.now) {
        assert!(world.image.has_work(&world.table, world.now));
        world.image.put_off(world.now);
        assert!(!world.image.has_work(&world.table, world.now) && !world.turn());
        world.now += LEISURE_MS;
    }
    assert!((LEISURE_MAX_MS..LEISURE_MAX_MS + LEISURE_MS).contains(&(world.now - since)));
    assert!(world.image.has_work(&world.table, world.now));
    let turns = |world: &mut World| (1..100).find(|_| world.turn()).unwrap();
    assert!(turns(&mut world) > 1, "in slices");
    world.compare();
    assert!(!world.image.has_work(&world.table, world.now));
    // Deletes, flushes, groups that go and come again, a load in one transaction.
    add(&mut world, 0, large, 6);
    assert!(world.turn());
    for n in 0..large {
        world.change(&format!("route del 10.0.{n}.0/24"));
    }
    assert!(!world.turn());
    add(&mut world, 10, large, 7);
    world.flush(Flush { routes: true, neighbours: false });
    add(&mut world, 20, large, 8);
    assert!(!world.turn());
    world.stage(|stage| {
        for n in 0..large {
            stage(&format!("route replace 172.16.{n}.0/24 via 198.51.100.{} dev f", n % 9 + 1));
        }
    });
    assert_eq!(world.image.give(), Ok(false), "it isn't up to date");
    // Asked for, it gets there however fast changes come.
    let mut gateway = 9;
    while world.image.is_pending() {
        add(&mut world, 0, 4 * large, gateway);
        gateway += 1;
        world.turn();
        assert!(gateway < 100, "it never gets there");
    }
    world.compare();
    // Somebody has it now: in step, however large the turns are.
    assert_eq!(world.image.give(), Ok(true));
    for gateway in 1..4 {
        add(&mut world, 0, 4 * large, gateway);
        assert!(world.turn());
        world.compare();
    }
}

/// More was deleted than the table has tombstones for.
/// A load of many routes in one transaction, written slice by slice: what it grows by
/// goes in slices, too, though no commit comes.
#[test]
fn a_large_load_makes_it_grow_in_slices() {
    let mut world = World::new();
    assert_eq!(world.image.give(), Ok(true));
    let before = world.attach();
    world.table.stage_begin(world.source).unwrap();
    for n in 0..300_000_u32 {
        let (a, b, c) = (20 + (n >> 16), n >> 8 & 255, n & 255);
        let line = format!("route add {a}.{b}.{c}.0/24 via 192.0.2.{} dev e", 1 + n % 7);
        let parsed = parse_line(&line, &Context::default()).unwrap().unwrap().1;
        let Command::Change(change) = parsed else { panic!("{line}") };
        world.table.stage(&change).unwrap();
    }
    let mut growing = 0;
    loop {
        let mut sink = Sink(&mut world.image, &mut world.hub);
        let is_through = world.table.stage_commit(1000, &mut sink).is_some();
        assert_eq!(world.turn(), is_through, "nothing is visible before");
        let status = world.image.status().status;
        assert_eq!(status.hurried, 0, "{status:?}");
        growing += u64::from(status.growing);
        if is_through {
            break;
        }
    }
    let bytes = world.image.status().status.bytes;
    assert!(growing > 8 && bytes > before.header().bytes, "{growing} turns, {bytes} bytes");
    world.compare();
}

#[test]
fn what_fell_too_far_behind_is_made_anew() {
    let limits = TableLimits { tombstone_bytes_max: 0, ..TableLimits::default() };
    let mut world = World::with(limits);
    let routes = |world: &mut World, verb: &str, hops: &str| {
        for n in 0..3000 {
            world.change(&format!("route {verb} 10.{}.{}.0/24{hops}", n / 256, n % 256));
        }
    };
    routes(&mut world, "add", " via 192.0.2.1 dev e");
    assert!(world.turn());
    let old = world.attach();
    routes(&mut world, "del", "");
    routes(&mut world, "add", " via 192.0.2.2 dev f");
    assert!(!world.turn());
    assert_eq!(world.image.give(), Ok(false));
    let mut turns = 0;
    while world.image.is_pending() {
        world.change(&format!("route add 192.0.2.{turns}/32 dev e"));
        world.turn();
        turns += 1;
    }
    assert_eq!(world.image.give(), Ok(true));
    world.compare();
    assert!(matches!(old.writer().unwrap(), WriterState::Moved { .. }));
    world.change("route add 198.51.100.0/24 dev e");
    assert!(world.turn());
    world.compare();
}

/// Long before its limit it makes haste, so that nothing is accepted that finds
/// no room later; near it, it isn't left behind at all.
#[test]
fn near_its_limit_it_is_in_step() {
    let mut world = World::new();
    let mut limits = Config::default().limits;
    limits.image_bytes_max.0 = 128 << 20;
    world.image.configure(&limits);
    let (mut refused, mut behind, mut urgent, mut n) = (0, 0, 0, 0_u32);
    while refused < 10 {
        for _ in 0..2000 {
            match world.image.room_for(5, &world.table) {
                Ok(()) => {
                    // Far from each other, which takes the most room.
                    let net = std::net::Ipv4Addr::from(n.reverse_bits() >> 3 | 1 << 30);
                    world.change(&format!("route add {net}/32 dev e"));
                    n += 1;
                }
                Err(why) => {
                    assert!(why.contains("limits.image_bytes_max"), "{why}");
                    assert!(world.image.lag.is_none(), "it was behind, {n} routes");
                    refused += 1;
                }
            }
        }
        world.turn();
        behind += usize::from(world.image.lag.is_some());
        urgent += usize::from(world.image.lag.as_ref().is_some_and(|lag| lag.is_urgent));
        assert_eq!(world.image.failed, None);
    }
    assert!(behind > 0 && urgent > 0 && n > 50_000, "{behind}, {urgent} turns, {n} routes");
    world.compare();
}

/// What can't be made isn't handed out half made.
#[test]
fn one_that_failed_before_anybody_had_it_is_not_handed_out() {
    let mut world = World::new();
    for n in 0..100 {
        world.change(&format!("route add 10.0.{n}.0/24 dev e"));
    }
    assert!(world.turn());
    world.image.fail(&full());
    assert_eq!(world.image.give(), Ok(false), "it is made anew");
    world.image.rebuild_failed(&full());
    assert!(world.image.give().unwrap_err().contains("can't be written"));
    world.image.configure(&Config::default().limits);
    for _ in 0..10 {
        world.turn();
    }
    assert_eq!(world.image.give(), Ok(true));
    world.compare();
}

#[test]
fn where_no_new_one_finds_room_changes_are_refused_until_it_does() {
    let mut world = World::new();
    for n in 0..100 {
        world.change(&format!("route add 10.0.{n}.0/24 dev e"));
    }
    assert_eq!(world.image.give(), Ok(true), "somebody has it");
    assert!(world.turn());
    let before = world.attach();
    world.image.fail(&full());
    world.image.rebuild_failed(&full());
    assert_eq!(before.writer().unwrap(), WriterState::Closed);
    assert!(world.image.room_for(1, &world.table).unwrap_err().contains("can't be written"));
    assert!(!world.image.has_work(&world.table, world.now));
    // Deletes are taken.
    assert_eq!(world.image.room_for_deletes(10, &world.table), 10);
    world.change("route del 10.0.7.0/24");
    world.turn();
    // A larger limit: at once another try.
    world.image.configure(&Config::default().limits);
    for _ in 0..10 {
        world.turn();
    }
    assert_eq!(world.image.room_for(1, &world.table), Ok(()));
    world.compare();
}

/// A copy by name that can't be written loses its name, is made anew, and has
/// the name again when it shows what the table holds.
#[test]
fn a_name_that_failed_is_published_again() {
    let name = format!("/rtm-test-{}-image", std::process::id());
    let mut world = World::new();
    let limits = Config::default().limits;
    world.image = Image::new(&limits, &world.table, [1, 2], Some(&name)).unwrap();
    for n in 0..3000_u32 {
        let (b, c) = (n / 256, n % 256);
        world.change(&format!("route add 10.{b}.{c}.0/24 via 192.0.2.{} dev e", 1 + n % 7));
    }
    assert!(world.turn());
    let open = || rtm_image::open_name(&name).map(|fd| Reader::attach(fd).unwrap());
    let shown = |reader: Reader| reader.state().map(|state| (state.revision, state.digests));
    let first = open().unwrap();
    assert_eq!(first.state().unwrap().revision, world.table.revision().0);
    for round in 0..2 {
        world.image.named.as_mut().unwrap().give_up("no room");
        let status = world.image.status();
        assert_eq!((status.name, status.failed), (None, None), "the first copy goes on");
        assert!(status.name_failed.unwrap().contains("no room"));
        assert_eq!(first.writer().unwrap(), WriterState::Closed);
        let mut turns = 0;
        while world.image.status().name.is_none() {
            assert!(open().is_err(), "it isn't there before it shows everything");
            world.change(&format!("route replace 10.0.{turns}.0/24 dev e{round}"));
            world.turn();
            turns += 1;
            assert!(turns < 1000);
        }
        assert!(turns > 5, "{turns} turns: {REBUILD_ENTITIES} entities each");
        let expected = (world.table.revision().0, world.table.digests());
        assert_eq!(shown(open().unwrap()), Ok(expected));
        world.compare();
    }
    // And it is told what comes.
    world.change("route add 203.0.113.0/24 dev e");
    assert!(world.turn());
    let key = RouteKey::main("203.0.113.0/24".parse().unwrap());
    assert!(open().unwrap().route(&key).unwrap().is_some());
    // Tried in vain it waits, until the limits change.
    let named = world.image.named.as_mut().unwrap();
    named.give_up("no room");
    named.give_up("no room for a new one either");
    for _ in 0..100 {
        world.turn();
    }
    assert_eq!(world.image.status().name, None);
    world.image.configure(&limits);
    for _ in 0..20 {
        world.turn();
    }
    assert_eq!(world.image.status().name, Some(name.as_str()));
    world.image.close();
    assert!(open().is_err());
}
