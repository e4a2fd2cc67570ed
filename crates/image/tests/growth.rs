//! An image grows while changes go on: in slices, none of them large, and what is
//! published stays right throughout.

mod support;

use rtm_image::{Reader, Settings, WriterState};
use rtm_model::{Entity, EntityKey};
use support::{Mix, Model, Op, Random, addresses, attach, digests, image, op, write};

/// What one commit may allocate or copy.
const SLICE_BYTES_MAX: u64 = 4 << 20;

#[test]
fn no_commit_does_more_than_a_slice_of_it() {
    let settings = Settings { bytes: 4 << 20, ring_bytes: 1 << 18, ..Settings::default() };
    let (mut writer, mut reader) = image(settings);
    let mut ring = reader.ring();
    let mut random = Random(17);
    let mut model = Model::default();
    let (mut moves, mut growing, mut revision, mut written) = (0, 0, 0_u64, 0_u64);
    let mix = Mix { tables: &[254, 7], groups: 50, deletes: 0 };
    while moves < 3 {
        // Some changes of every kind, and many new routes.
        for n in 0..400 {
            let op =
                op(&mut random, &model, if n % 8 == 0 { Mix { deletes: 900, ..mix } } else { mix });
            model.apply(&op);
            write(&mut writer, &op);
        }
        revision += 1;
        writer.commit(7, revision, &digests(revision)).unwrap();
        writer.ring_append(&revision.to_le_bytes());
        writer.ring_publish();
        written += 1;
        let status = writer.status();
        assert!(status.slice <= SLICE_BYTES_MAX, "{status:?}");
        assert_eq!(status.hurried, 0, "{status:?}");
        growing += u64::from(status.growing);
        if let WriterState::Moved { successor } = reader.writer().unwrap() {
            let old = reader.state().unwrap().revision;
            let next = attach(&writer);
            assert_eq!((next.header().id, next.header().bytes), (successor, status.bytes));
            assert_eq!(status.bytes, 2 * reader.header().bytes);
            assert!(old <= revision && old + 1 >= revision);
            // The place in the ring goes along, and misses nothing.
            let mut frames = Vec::new();
            ring.read(&mut frames).unwrap();
            ring = next.ring_at(ring.position());
            ring.read(&mut frames).unwrap();
            let seen: Vec<u64> =
                frames.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
            let first = revision + 1 - written;
            assert_eq!(seen, (first..=revision).collect::<Vec<_>>());
            written = 0;
            reader = next;
            moves += 1;
            let addresses = addresses(&mut random, &model, 300);
            model.compare(&reader, &addresses, &[254, 7]);
        }
        assert_eq!(reader.state().unwrap().revision, revision);
    }
    assert!(growing > 3 * 4, "each took several commits: {growing}");
    // Everything that is deleted comes back, in the successor as well.
    let keys: Vec<EntityKey> = model.routes.keys().map(|key| EntityKey::Route(*key)).collect();
    for key in keys {
        let op = Op::Delete(key);
        model.apply(&op);
        write(&mut writer, &op);
    }
    revision += 1;
    writer.commit(7, revision, &digests(revision)).unwrap();
    model.compare(&attach(&writer), &addresses(&mut random, &model, 50), &[254, 7]);
}

/// Where no commit comes, `tend` carries it through; the visible revision is the
/// same before and behind.
#[test]
fn it_is_carried_through_without_commits() {
    let settings = Settings { bytes: 2 << 20, ring_bytes: 1 << 16, ..Settings::default() };
    let (mut writer, reader) = image(settings);
    let mut random = Random(3);
    let mut model = Model::default();
    let mut revision = 0;
    while !writer.is_growing() {
        for _ in 0..200 {
            let op = op(&mut random, &model, Mix { tables: &[254], groups: 9, deletes: 0 });
            model.apply(&op);
            write(&mut writer, &op);
        }
        revision += 1;
        writer.commit(7, revision, &digests(revision)).unwrap();
    }
    let mut turns = 0;
    while writer.is_growing() {
        if writer.status().growing {
            assert_eq!(reader.writer().unwrap(), WriterState::Live);
        }
        writer.tend().unwrap();
        turns += 1;
    }
    assert!(turns > 2, "the object before is given back in a turn of its own");
    assert!(matches!(reader.writer().unwrap(), WriterState::Moved { .. }));
    for reader in [&reader, &attach(&writer)] {
        assert_eq!(reader.state().unwrap().revision, revision);
        model.compare(reader, &addresses(&mut random, &model, 100), &[254]);
    }
}

/// A transaction that is larger than all that is free grows at once, and is right.
#[test]
fn one_large_transaction_is_right_as_well() {
    let settings = Settings { bytes: 2 << 20, ring_bytes: 1 << 16, ..Settings::default() };
    let (mut writer, first) = image(settings);
    let mut random = Random(5);
    let mut model = Model::default();
    for _ in 0..60_000 {
        let op = op(&mut random, &model, Mix { tables: &[254], groups: 9, deletes: 20 });
        model.apply(&op);
        write(&mut writer, &op);
    }
    writer.commit(7, 1, &digests(1)).unwrap();
    assert!(writer.status().hurried > 0);
    assert_eq!(first.state().unwrap().revision, 0, "the old one keeps what it had");
    let reader: Reader = attach(&writer);
    model.compare(&reader, &addresses(&mut random, &model, 200), &[254]);
}

/// What the daemon has when there is no memory for a successor: it goes on in the
/// object that it has, and asks again later.
#[test]
fn a_refused_successor_disturbs_nothing() {
    let settings =
        Settings { bytes: 2 << 20, bytes_max: 2 << 20, ring_bytes: 1 << 16, ..Settings::default() };
    let (mut writer, reader) = image(settings);
    let mut random = Random(6);
    let mut model = Model::default();
    let mut revision = 0;
    while writer.status().usage.free > 200 << 10 {
        for _ in 0..50 {
            let op = op(&mut random, &model, Mix { tables: &[254], groups: 9, deletes: 0 });
            model.apply(&op);
            write(&mut writer, &op);
        }
        revision += 1;
        writer.commit(7, revision, &digests(revision)).unwrap();
        assert!(!writer.is_growing());
    }
    model.compare(&reader, &addresses(&mut random, &model, 100), &[254]);
    writer.set_bytes_max(1 << 30);
    writer.commit(7, revision + 1, &digests(revision + 1)).unwrap();
    assert!(writer.is_growing());
    let entity = Entity::Link(rtm_model::Link {
        id: rtm_model::LinkId(77),
        name: "late".parse().unwrap(),
        ifindex: 0,
    });
    write(&mut writer, &Op::Set(entity));
    while writer.is_growing() {
        writer.tend().unwrap();
    }
    writer.commit(7, revision + 2, &digests(revision + 2)).unwrap();
    assert!(attach(&writer).link(rtm_model::LinkId(77)).unwrap().is_some());
}
