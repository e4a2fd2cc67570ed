//! The image against a naive table: random transactions, and after each commit
//! everything that a reader can ask is compared, through a mapping of its own.

mod support;

use rtm_image::{Settings, WriterState};
use std::net::IpAddr;

use rtm_model::{
    Entity, EntityKey, Family, GroupId, LinkId, Mac, Neighbour, NeighbourKey, NeighbourValue,
    NudState, RouteKey, RouteType,
};
use support::{
    Mix, Model, Op, Random, addresses, attach, digests, family, image, op, set_route, write,
};

fn run(seed: u64, steps: u64, mix: Mix, flushes: bool) {
    let settings =
        Settings { bytes: 2 << 20, ring_bytes: 64 << 10, epoch: 7, ..Settings::default() };
    let (mut writer, mut reader) = image(settings);
    let mut random = Random(seed);
    let mut model = Model::default();
    for revision in 1..=steps {
        let mix = Mix { deletes: if revision % 100 < 60 { 150 } else { 700 }, ..mix };
        let mut count = 1 + random.below(6);
        if random.below(40) == 0 {
            count = 300;
        }
        for _ in 0..count {
            let mut op = op(&mut random, &model, mix);
            if flushes && random.below(400) == 0 {
                op = Op::Flush { routes: random.below(2) == 0, neighbours: random.below(2) == 0 };
            }
            model.apply(&op);
            write(&mut writer, &op);
        }
        let before = reader.state().unwrap();
        assert_eq!(before.revision, revision - 1, "nothing is visible before the commit");
        writer.commit(7, revision, &digests(revision)).unwrap();
        if let WriterState::Moved { successor } = reader.writer().unwrap() {
            assert_eq!(
                reader.state().unwrap().revision,
                revision - 1,
                "the old object stays as it was"
            );
            reader = attach(&writer);
            assert_eq!(reader.header().id, successor);
        }
        assert_eq!(reader.writer().unwrap(), WriterState::Live);
        let state = reader.state().unwrap();
        assert_eq!((state.epoch, state.revision, state.digests), (7, revision, digests(revision)));
        let addresses = addresses(&mut random, &model, 40);
        if revision % 8 == 0 || count > 6 {
            model.compare(&reader, &addresses, mix.tables);
        } else {
            model.compare_lookups(&reader, &addresses, mix.tables);
        }
    }
    assert_eq!((reader.repeats(), reader.busy()), (0, 0), "nobody wrote meanwhile");
    write(&mut writer, &Op::Flush { routes: true, neighbours: true });
    for op in model.groups.keys().map(|id| Op::Delete(EntityKey::Group(*id))) {
        write(&mut writer, &op);
    }
    for op in model.links.keys().map(|id| Op::Delete(EntityKey::Link(*id))) {
        write(&mut writer, &op);
    }
    for more in 1..=3 {
        writer.commit(7, steps + more, &digests(steps + more)).unwrap();
    }
    let usage = writer.status().usage;
    // The first page of answers stays, and that of their groups' places.
    assert!(usage.used <= 36_864 && usage.retired <= 4096, "everything came back: {usage:?}");
}

#[test]
fn small_tables() {
    run(1, 1200, Mix { tables: &[254, 255, 0, u32::MAX], groups: 8, deletes: 0 }, true);
}

#[test]
fn one_table_that_becomes_a_trie_and_small_again() {
    run(2, 500, Mix { tables: &[254], groups: 40, deletes: 0 }, false);
}

#[test]
fn flushes() {
    run(3, 600, Mix { tables: &[254, 0, 1, 2, 3, 4, u32::MAX], groups: 8, deletes: 0 }, true);
}

/// So many neighbours that their tables have many pages and buckets with more than
/// their places; those of zeros and ones among them.
#[test]
fn many_neighbours_are_found_by_address_and_link() {
    let (mut writer, _) = image(Settings { bytes: 2 << 20, ..Settings::default() });
    let mut random = Random(13);
    let mut model = Model::default();
    let key = |random: &mut Random| match random.below(20) {
        0 => support::neighbour_key(random),
        _ => {
            let number = random.below(20_000) as u32;
            let ip = match family(random) {
                Family::V4 => IpAddr::from((0x0a00_0000 + number).to_be_bytes()),
                Family::V6 => IpAddr::from((0xfe80_u128 << 112 | u128::from(number)).to_be_bytes()),
            };
            NeighbourKey { ip, link: (number % 3 > 0).then_some(LinkId(number % 3)) }
        }
    };
    for revision in 1..=40 {
        for _ in 0..3_000 {
            let key = key(&mut random);
            let op = if random.below(10) < if revision <= 20 { 2 } else { 8 } {
                Op::Delete(EntityKey::Neighbour(key))
            } else {
                let mac = Mac([random.next() as u8, 0, 0, 0, 0, random.below(3) as u8]);
                let mac = [Some(mac), Some(Mac([0; 6])), Some(Mac([0xff; 6])), None];
                let mac = mac[random.below(12).saturating_sub(8) as usize];
                let value = NeighbourValue { mac, state: NudState(2), flags: 0xff, protocol: 0 };
                Op::Set(Entity::Neighbour(Neighbour { key, value }))
            };
            model.apply(&op);
            write(&mut writer, &op);
        }
        writer.commit(7, revision, &digests(revision)).unwrap();
        let reader = attach(&writer);
        let others: Vec<NeighbourKey> = (0..3_000).map(|_| key(&mut random)).collect();
        for key in model.neighbours.keys().chain(&others) {
            let mac = model.neighbours.get(key).and_then(|value| value.mac);
            assert_eq!(reader.neighbour_mac(key.ip, key.link).unwrap(), mac, "{key:?}");
        }
    }
}

/// With a wide root: prefixes that fill an entry of it, and such that stand below.
#[test]
fn more_groups_than_sixteen_bits_count() {
    for len in [18, 24] {
        more_groups(len);
    }
}

fn more_groups(len: u8) {
    let (mut writer, _) = image(Settings { bytes: 32 << 20, ..Settings::default() });
    let mut random = Random(9);
    let mut prefixes = Vec::new();
    for n in 0..70_000_u32 {
        write(&mut writer, &Op::Set(Entity::Group(support::group(&mut random, n + 1))));
        let bits = u128::from(n << (32 - len)) << 96;
        let prefix = rtm_model::Prefix::from_bits(Family::V4, bits, len).unwrap();
        write(&mut writer, &set_route(prefix, n + 1));
        prefixes.push(prefix);
    }
    writer.commit(7, 1, &digests(1)).unwrap();
    let reader = attach(&writer);
    assert_eq!(writer.status().answers, 70_000);
    let check = |right: &dyn Fn(u32) -> u32| {
        let mut in_a_row = reader.lookups4();
        for (n, prefix) in (0..).zip(&prefixes) {
            let IpAddr::V4(address) = prefix.address() else { unreachable!("all are IPv4") };
            let answers = [
                reader.lookup(254, address.into()),
                reader.lookup4(address),
                in_a_row.lookup(address),
            ];
            assert_eq!(answers.map(|a| a.unwrap().unwrap().group()), [GroupId(right(n)); 3]);
        }
    };
    check(&|n| n + 1);
    // And back: all but one get the same group again.
    for prefix in &prefixes[1..] {
        write(&mut writer, &set_route(*prefix, 5));
    }
    writer.commit(7, 2, &digests(2)).unwrap();
    assert_eq!(writer.status().answers, 2);
    check(&|n| if n == 0 { 1 } else { 5 });
}

/// Lookups in a row: each is of the newest revision, whatever table main begins with.
#[test]
fn lookups_in_a_row_follow_every_revision() {
    let prefixes = Settings::WIDE_PREFIXES_MIN;
    let settings = Settings { bytes: 8 << 20, wide_prefixes: prefixes, ..Settings::default() };
    let (mut writer, reader) = image(settings);
    let mut in_a_row = reader.lookups4();
    let prefix = |n: u64| -> rtm_model::Prefix {
        format!("{}.{}.{}.0/24", 64 + n % 64, n / 64 % 256, n % 7).parse().unwrap()
    };
    let watched: rtm_model::Prefix = "10.1.2.0/24".parse().unwrap();
    let long: rtm_model::Prefix = "10.1.2.128/25".parse().unwrap();
    let [short_one, long_one] = ["10.1.2.3", "10.1.2.200"].map(|a| a.parse().unwrap());
    assert_eq!(in_a_row.lookup(short_one), Ok(None));
    // Up to a wide root, down to a small table.
    let (up, down) = (0..prefixes + 200, (0..prefixes + 200).rev());
    let changes = up.map(|n| (n, true)).chain(down.map(|n| (n, false)));
    let mut widest = 0;
    for (revision, (n, set)) in (1..).zip(changes) {
        let of = revision as u32;
        for prefix in [watched, long] {
            write(&mut writer, &set_route(prefix, of + u32::from(prefix == long)));
        }
        let op = if set {
            set_route(prefix(n), 1)
        } else {
            Op::Delete(EntityKey::Route(RouteKey::main(prefix(n))))
        };
        write(&mut writer, &op);
        let before = in_a_row.lookup(short_one).unwrap().map_or(0, |answer| answer.group().0);
        assert_eq!(before, of - 1, "nothing is visible before the commit");
        writer.commit(7, revision, &digests(revision)).unwrap();
        let found = [short_one, long_one].map(|a| in_a_row.lookup(a).unwrap().unwrap().group());
        assert_eq!(found, [GroupId(of), GroupId(of + 1)]);
        widest = widest.max(writer.lookup_bytes(254, Family::V4));
    }
    assert!(widest > 3 << 20, "it had a wide root");
    assert!(writer.lookup_bytes(254, Family::V4) < 1 << 20, "and has none");
}

/// A table so large that its lookups begin with a wide root: prefixes of all
/// lengths, more groups than a page of answers has, changes, and all the way back.
#[test]
fn a_large_table() {
    const GROUPS: u64 = 3000;
    let (mut writer, _) = image(Settings { bytes: 4 << 20, ..Settings::default() });
    let mut random = Random(11);
    let mut model = Model::default();
    let mut revision = 0;
    let both = |writer: &mut _, model: &mut Model, op: Op| {
        model.apply(&op);
        write(writer, &op);
    };
    for id in 1..=GROUPS as u32 {
        let group = Op::Set(Entity::Group(support::group(&mut random, id)));
        both(&mut writer, &mut model, group);
    }
    let some = |random: &mut Random| {
        // A 64th of the addresses, so that they lie in each other.
        let bits = u128::from(random.next() & !(0x3f << 58) | 0x0b << 58) << 64;
        let len = [20, 22, 24, 24, 24, 24, 28, 32][random.below(8) as usize];
        let len = if random.below(50) == 0 { random.below(20) as u8 } else { len };
        rtm_model::Prefix::from_bits(Family::V4, bits & rtm_model::mask(len), len).unwrap()
    };
    let compare = |writer: &_, model: &Model, random: &mut Random| {
        let reader = attach(writer);
        let mut addresses = addresses(random, model, 60);
        addresses.extend(["45.0.0.0", "255.255.255.255"].map(|a| a.parse::<IpAddr>().unwrap()));
        model.compare_lookups(&reader, &addresses, &[254]);
    };
    let mut commit = |writer: &mut rtm_image::Writer<_>| {
        revision += 1;
        writer.commit(7, revision, &digests(revision)).unwrap();
    };
    while model.routes.len() < 24_000 {
        let prefix = some(&mut random);
        let op = set_route(prefix, 1 + random.below(GROUPS) as u32);
        both(&mut writer, &mut model, op);
        if model.routes.len() % 2000 == 0 {
            commit(&mut writer);
        }
    }
    commit(&mut writer);
    assert!(writer.lookup_bytes(254, Family::V4) > 3 << 20, "it has a wide root");
    compare(&writer, &model, &mut random);
    for _ in 0..60 {
        for _ in 0..random.below(100) {
            let prefix = some(&mut random);
            let found = model.routes.range(RouteKey::main(prefix)..).next().map(|(key, _)| *key);
            let op = match found {
                Some(key) if random.below(3) == 0 => Op::Delete(EntityKey::Route(key)),
                Some(key) if random.below(2) == 0 => {
                    set_route(key.prefix, 1 + random.below(GROUPS) as u32)
                }
                _ => set_route(prefix, 1 + random.below(GROUPS) as u32),
            };
            both(&mut writer, &mut model, op);
        }
        // The widest, and a group behind one of them.
        let len = random.below(9) as u8;
        let prefix =
            rtm_model::Prefix::from_bits(Family::V4, 0x2d << 120 & rtm_model::mask(len), len);
        let prefix = prefix.unwrap();
        let op = match random.below(3) {
            0 => Op::Delete(EntityKey::Route(RouteKey::main(prefix))),
            _ => set_route(prefix, 1 + random.below(4) as u32),
        };
        both(&mut writer, &mut model, op);
        let group = support::group(&mut random, 1 + prefix.len() as u32 % 4);
        both(&mut writer, &mut model, Op::Set(Entity::Group(group)));
        commit(&mut writer);
        compare(&writer, &model, &mut random);
    }
    for rest in [6000, 3000, 400, 50, 0] {
        while model.routes.len() > rest {
            let from = RouteKey::main(some(&mut random));
            let key = model.routes.range(from..).next().or(model.routes.first_key_value());
            let op = Op::Delete(EntityKey::Route(*key.unwrap().0));
            both(&mut writer, &mut model, op);
            if model.routes.len() % 500 == 0 {
                commit(&mut writer);
            }
        }
        commit(&mut writer);
        compare(&writer, &model, &mut random);
        let is_wide = writer.lookup_bytes(254, Family::V4) > 3 << 20;
        assert_eq!(is_wide, rest > 4096, "{rest}");
    }
}

#[test]
fn a_thousand_tables_of_ten_routes() {
    let (mut writer, _) =
        image(Settings { bytes: 4 << 20, ring_bytes: 1 << 20, ..Settings::default() });
    let mut random = Random(4);
    let mut model = Model::default();
    for table in 1..=1000 {
        for n in 0..10 {
            let family = if n % 3 == 0 { Family::V6 } else { Family::V4 };
            let prefix = support::prefix(&mut random, family);
            let Op::Set(Entity::Route(mut added)) = set_route(prefix, 0) else { unreachable!() };
            added.key.table = table;
            added.value.kind = RouteType::Blackhole;
            added.value.protocol = n as u8;
            let op = Op::Set(Entity::Route(added));
            model.apply(&op);
            write(&mut writer, &op);
        }
    }
    writer.commit(7, 1, &digests(1)).unwrap();
    let reader = attach(&writer);
    for table in [1, 2, 254, 255, 999, 1000, 1001] {
        let addresses = addresses(&mut random, &model, 200);
        model.compare_lookups(&reader, &addresses, &[table]);
    }
    for table in 1..=1001 {
        let addresses = addresses(&mut random, &model, 10);
        model.compare_lookups(&reader, &addresses, &[table]);
    }
    for route in reader.routes4(None).chain(reader.routes6(None)) {
        let key = route.unwrap().key;
        model.compare_lookups(&reader, &[key.prefix.address()], &[key.table]);
    }
    let status = writer.status();
    println!(
        "1,000 tables of 10 routes: {} bytes used, object {}",
        status.usage.used, status.bytes
    );
    assert!(status.bytes <= 16 << 20);
    assert_eq!(reader.state().unwrap().tables, 1000);
}

/// Entries are whole, and the first and the last revision that they are of are named.
#[test]
fn what_is_listed_beside_changes_names_its_revisions() {
    let (mut writer, _) = image(Settings::default());
    let prefix = |n: u32| format!("10.{}.{}.0/24", n / 256, n % 256).parse().unwrap();
    for n in 0..5_000 {
        write(&mut writer, &set_route(prefix(n), 1));
    }
    writer.commit(7, 1, &digests(1)).unwrap();
    let reader = attach(&writer);
    let mut listed = reader.routes4(None);
    assert_eq!(listed.revisions(), None);
    let mut all = vec![listed.next().unwrap().unwrap()];
    assert_eq!(listed.revisions(), Some((1, 1)));
    for n in 0..5_000 {
        write(&mut writer, &set_route(prefix(n), 2));
    }
    writer.commit(7, 2, &digests(2)).unwrap();
    all.extend(listed.by_ref().map(Result::unwrap));
    assert_eq!(listed.revisions(), Some((1, 2)));
    assert!(all.iter().map(|route| route.key.prefix).eq((0..5_000).map(prefix)));
    let groups: Vec<u64> = all.iter().map(|route| u64::from(route.value.group.0)).collect();
    assert!(groups.is_sorted() && groups[0] == 1 && groups[4_999] == 2, "{groups:?}");
}

#[test]
fn a_flow_hash_picks_by_weight() {
    let (mut writer, _) = image(Settings::default());
    let hop = |gateway: [u8; 4], weight, flags| rtm_model::NextHop {
        gateway: Some(gateway.into()),
        link: None,
        weight,
        flags,
    };
    let group = rtm_model::Group {
        id: GroupId(3),
        nhid: 0,
        hops: vec![
            hop([10, 0, 0, 1], 1, rtm_model::HopFlags::default()),
            hop([10, 0, 0, 2], 200, rtm_model::HopFlags::DEAD),
            hop([10, 0, 0, 3], 3, rtm_model::HopFlags::LINKDOWN),
        ],
    };
    write(&mut writer, &Op::Set(Entity::Group(group.clone())));
    write(&mut writer, &set_route("10.0.0.0/8".parse().unwrap(), 3));
    writer.commit(1, 1, &digests(1)).unwrap();
    let reader = attach(&writer);
    let address = "10.1.1.1".parse().unwrap();
    let mut counts = [0; 3];
    for n in 0..4000_u32 {
        let (_, hop) = reader.lookup_hop(254, address, n * 1_073_741).unwrap().unwrap();
        counts[group.hops.iter().position(|h| Some(*h) == hop).unwrap()] += 1;
    }
    assert!((999..=1001).contains(&counts[0]) && counts[1] == 0, "{counts:?}");
    // The group changes, and the route with it.
    let dead = rtm_model::Group {
        hops: vec![hop([10, 0, 0, 9], 1, rtm_model::HopFlags::DEAD)],
        ..group.clone()
    };
    write(&mut writer, &Op::Set(Entity::Group(dead)));
    writer.commit(1, 2, &digests(2)).unwrap();
    assert_eq!(reader.lookup_hop(254, address, 0).unwrap().unwrap().1, None, "all dead");
}
