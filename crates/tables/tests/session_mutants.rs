//! Mutants: a daemon that drops, swaps, damages or forgets one record. Each is
//! noticed at the next mark, and mended by the client itself.

mod session_world;

use rtm_model::EntityKind;
use rtm_tables::wire::Frame;
use rtm_tables::wire::records;
use rtm_tables::{HubLimits, Progress, RecordOp, Revision, TableLimits};
use session_world::{Connect, World};

/// Cuts bytes into frames; a test's writes are small enough to be whole ones.
fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut rest = bytes;
    while let Some((_, length)) = Frame::split(rest, 1 << 20).unwrap() {
        frames.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    assert!(rest.is_empty(), "half a frame");
    frames
}

/// Op and kind of a record's frame.
fn record(frame: &[u8]) -> Option<(RecordOp, EntityKind)> {
    records::classify(u16::from_le_bytes([frame[4], frame[5]]))
}

type Mutant = fn(&mut Vec<Vec<u8>>) -> bool;

/// Connects a client, lets `mutant` loose on what it gets from then on until it
/// says that it struck, changes a few things, and looks at what happens.
fn check(name: &str, mutant: Mutant) {
    let mut world = World::new(1);
    for number in 0..100 {
        world.set_route(number, number % 5);
    }
    let client = world.connect(Connect::default());
    let other = world.connect(Connect::default());
    world.settle();
    let mut struck = false;
    world.ends[client].tamper = Some(Box::new(move |bytes| {
        if struck {
            return;
        }
        let mut all = frames(bytes);
        struck = mutant(&mut all);
        *bytes = all.concat();
    }));
    let marks = world.ends[client].seen.marks;
    // Two values of one route in one turn, a new gateway, a delete.
    world.set_route(7, 1);
    world.set_route(7, 2);
    world.set_route(8, 77);
    world.delete_route(9);
    world.turn();
    let seen = &world.ends[client].seen;
    assert_eq!(seen.marks, marks + 1, "{name}");
    assert_eq!(seen.differed, 1, "{name}: at the first mark");
    assert_eq!(seen.resyncs, 1, "{name}");
    world.settle();
    let seen = &world.ends[client].seen;
    assert_eq!((seen.differed, seen.resyncs), (1, 1), "{name}: asked for one snapshot, once");
    assert_eq!(world.ends[client].seen.begins, [Revision(0), Revision(0)], "{name}");
    world.check(client);
    world.check(other);
    assert_eq!(world.ends[other].seen.begins, [Revision(0)], "{name}");
    let info = world.ends[client].server.as_ref().unwrap().info(&world.hub, world.now);
    assert_eq!((info.resyncs, info.snapshots), (1, 2), "{name}");
}

#[test]
fn a_dropped_record_is_noticed() {
    check("drop a set", |frames| {
        let set = Some((RecordOp::Set, EntityKind::Route4));
        let at = frames.iter().rposition(|frame| record(frame) == set).unwrap();
        frames.remove(at);
        true
    });
    check("drop a delete", |frames| {
        let delete = Some((RecordOp::Delete, EntityKind::Route4));
        let at = frames.iter().position(|frame| record(frame) == delete).unwrap();
        frames.remove(at);
        true
    });
    check("drop a group", |frames| {
        let group = Some((RecordOp::Set, EntityKind::Group));
        let at = frames.iter().position(|frame| record(frame) == group).unwrap();
        frames.remove(at);
        true
    });
}

#[test]
fn two_swapped_records_are_noticed() {
    check("swap two", |frames| {
        // Both are of route 7; only what they say changes places, as if the
        // daemon had applied them in the other order.
        let routes: Vec<usize> = (0..frames.len())
            .filter(|&at| record(&frames[at]) == Some((RecordOp::Set, EntityKind::Route4)))
            .collect();
        let (first, second) = (routes[0], routes[1]);
        let bodies = [frames[first][16..].to_vec(), frames[second][16..].to_vec()];
        assert_eq!(bodies[0][..16], bodies[1][..16], "one key");
        assert_ne!(bodies[0], bodies[1]);
        frames[first][16..].copy_from_slice(&bodies[1]);
        frames[second][16..].copy_from_slice(&bodies[0]);
        true
    });
}

#[test]
fn a_flipped_bit_is_noticed() {
    check("flip a gateway's bit", |frames| {
        let group = Some((RecordOp::Set, EntityKind::Group));
        let frame = frames.iter_mut().find(|frame| record(frame) == group).unwrap();
        // Behind the head: the group 16, the hop's link, weight, flags, family.
        frame[16 + 16 + 8 + 3] ^= 1;
        true
    });
}

/// Whole transactions in the wrong order can't even be applied.
#[test]
fn transactions_in_the_wrong_order_end_the_session() {
    let mut world = World::new(2);
    world.set_route(1, 1);
    let client = world.connect(Connect::default());
    world.settle();
    world.ends[client].tamper = Some(Box::new(|bytes| {
        let mut all = frames(bytes);
        if all.len() > 2 {
            all.swap(0, 1);
        }
        *bytes = all.concat();
    }));
    world.set_route(2, 1);
    world.set_route(3, 1);
    world.turn();
    assert_eq!(world.ends[client].client.progress(), Progress::Closed);
    let failed = world.ends[client].seen.failed.clone().unwrap();
    assert!(failed.contains("its revision is lower than the one before"), "{failed}");
    world.ends[client].tamper = None;
    world.reconnect(client);
    world.settle();
    world.check(client);
}

/// A walk that skips a tombstone leaves a route with the client that is gone.
#[test]
fn a_skipped_tombstone_is_noticed() {
    for journal_bytes in [64 << 20, 0] {
        let hub = HubLimits { journal_bytes, ..HubLimits::default() };
        let mut world = World::with(3, hub, TableLimits::default());
        for number in 0..3000 {
            world.set_route(number, number % 5);
        }
        let client = world.connect(Connect::default());
        world.settle();
        world.cut(client);
        world.delete_route(17);
        for _ in 0..3 {
            for number in 0..3000 {
                if number != 17 {
                    world.set_route(number, number % 4);
                    world.set_route(number, number % 5);
                }
            }
        }
        let mut struck = false;
        world.ends[client].tamper = Some(Box::new(move |bytes| {
            if !struck {
                let delete = Some((RecordOp::Delete, EntityKind::Route4));
                // A write may end inside a frame: look for it by hand.
                let mut at = 0;
                while let Ok(Some((frame, length))) = Frame::split(&bytes[at..], 1 << 20) {
                    if records::classify(frame.frame_type) == delete {
                        bytes.drain(at..at + length);
                        struck = true;
                        return;
                    }
                    at += length;
                }
            }
        }));
        world.reconnect(client);
        world.settle();
        let seen = &world.ends[client].seen;
        assert_eq!((seen.differed, seen.resyncs), (1, 1), "{journal_bytes}");
        assert_eq!(seen.begins.len(), 3, "a snapshot, a resume, a snapshot");
        assert_ne!(seen.begins[1], Revision(0));
        world.check(client);
    }
}
