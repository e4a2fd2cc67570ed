//! Both session halves as a pair, in virtual time.

mod session_world;

use rtm_model::{Change, Verb};
use rtm_tables::{HubLimits, Revision, TableLimits};
use session_world::{Connect, Seed, World, route};

/// A small journal and few tombstones, so that sessions fall out of both.
fn tight() -> (HubLimits, TableLimits) {
    let hub = HubLimits {
        journal_bytes: 128 << 10,
        filter_journal_bytes: 128 << 10,
        session_output_bytes: 32 << 10,
        ..HubLimits::default()
    };
    (hub, TableLimits { tombstone_bytes_max: 2_000, ..TableLimits::default() })
}

#[test]
fn a_client_gets_a_snapshot_then_every_change() {
    let mut world = World::new(1);
    for number in 0..100 {
        world.set_route(number, number % 7);
    }
    let client = world.connect(Connect::default());
    world.settle();
    world.check(client);
    assert_eq!(world.ends[client].seen.begins, [Revision(0)]);
    let sets = world.ends[client].seen.sets;
    for number in 50..150 {
        world.set_route(number, 9);
        world.turn();
    }
    world.delete_route(3);
    world.settle();
    world.check(client);
    let seen = &world.ends[client].seen;
    assert_eq!(seen.begins.len(), 1);
    // One record each, and one link and one group for gateway 9.
    assert_eq!(seen.sets, sets + 102);
    assert_eq!(seen.deletes, 1);
    assert!(seen.marks >= 100, "{seen:?}");
    assert_eq!(seen.differed, 0);
}

/// The whole of one exchange, cut at every byte of either direction: the client
/// connects again, resumes, and ends with equal digests.
#[test]
fn a_connection_can_be_cut_at_any_byte() {
    let script = |cut_down: Option<u64>, cut_up: Option<u64>| {
        let mut world = World::new(2);
        for number in 0..30 {
            world.set_route(number, number % 3);
        }
        let client = world.connect(Connect { name: "cut".into(), ..Connect::default() });
        world.ends[client].cut_down = cut_down;
        world.ends[client].cut_up = cut_up;
        world.turn();
        world.turn();
        for step in 0..12 {
            match step {
                3 => {
                    let mut transaction = world.table.transaction(world.admin).unwrap();
                    for number in 20..40 {
                        let change = Change::Route(Verb::Replace, route(number, 5));
                        transaction.apply(&change).unwrap();
                    }
                    transaction.commit(&mut world.hub);
                }
                6 => {
                    world.flush(true, false);
                }
                9 => {
                    let deadline = world.now + 1000;
                    world.hub.barrier(None, deadline);
                }
                _ => world.set_route(step, 4),
            }
            world.turn();
        }
        world.settle();
        world.check(client);
        world.ends.swap_remove(client)
    };
    let whole = script(None, None);
    let (down, up) = (whole.delivered_down, whole.delivered_up);
    assert!(down > 3000 && up > 90, "{down} {up}");
    for cut in 1..down {
        let end = script(Some(cut), None);
        assert_eq!(end.cut_down, None, "it was cut at {cut}");
        assert!(!end.seen.begins.is_empty());
    }
    for cut in 1..up {
        let end = script(None, Some(cut));
        assert_eq!(end.cut_up, None, "it was cut at {cut}");
    }
}

/// Anything may happen: filters, slow readers, cuts, flushes, large loads.
/// Whoever reads ends with what it should have, and at no mark has anything
/// else (that is checked in the world).
#[test]
fn whatever_happens_all_converge() {
    let only = std::env::var("RTM_ONLY")
        .or(std::env::var("RTM_SEED"))
        .ok()
        .map(|seed| seed.parse().unwrap());
    for seed in only.map_or(0..60, |seed| seed..seed + 1) {
        let _seed = Seed(seed);
        let (mut hub, mut table) = tight();
        if seed % 3 == 0 {
            (hub, table) = (HubLimits::default(), TableLimits::default());
        }
        if seed % 5 == 1 {
            hub.snapshot_bytes_max = 1; // Nothing is shared.
        }
        let mut world = World::with(seed, hub, table);
        world.ragged = seed % 2 == 0;
        world.flushes = seed % 4 < 2;
        world.budget = [3, 50, 1000][seed as usize % 3];
        let filters = [
            "",
            "",
            "routes",
            "neighbours",
            "-4 proto 186",
            "root 10.3.0.0/16 root 2001:db8::/40",
            "table 7",
            "routes proto 4 table 254",
        ];
        for happening in 0..400 {
            world.random_happening();
            if world.rng.one_in(20) && world.ends.len() < 12 {
                let filter = filters[world.rng.below(filters.len())];
                let socket = [500, 5_000, 100_000][world.rng.below(3)];
                world.connect(Connect { socket, ..Connect::filtered(filter) });
            }
            if !world.ends.is_empty() {
                let index = world.rng.below(world.ends.len());
                match world.rng.below(12) {
                    0 => world.reconnect(index),
                    1 => world.ends[index].connect.reads ^= true,
                    2 => world.cut(index),
                    _ => {}
                }
            }
            if world.rng.one_in(2) {
                world.turn();
            }
            // Now and then all of it at once, so that the rings overflow.
            if happening % 100 == 99 {
                for _ in 0..2000 {
                    let change = world.random_change();
                    let source = world.admin;
                    world.apply(source, &change);
                }
            }
        }
        for index in 0..world.ends.len() {
            world.ends[index].connect.reads = true;
            if world.ends[index].server.is_none() {
                world.reconnect(index);
            }
        }
        world.settle();
        world.check_all();
        assert!(world.ends.iter().all(|end| end.seen.differed == 0));
    }
}
