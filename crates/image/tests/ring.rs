//! The ring of records: order, laps, waking, waiting no longer than allowed.

mod support;

use std::time::{Duration, Instant};

use rtm_image::{Lapped, Settings, WAIT_MAX, WriterState};
use support::{digests, image};

fn frames(from: u64, count: u64) -> Vec<u8> {
    (from..from + count).flat_map(|n| [16, n].map(u64::to_le_bytes).concat()).collect()
}

#[test]
fn what_is_appended_comes_out_in_order() {
    let (mut writer, reader) = image(Settings { ring_bytes: 4096, ..Settings::default() });
    let mut ring = reader.ring();
    let mut all = Vec::new();
    let mut expected = Vec::new();
    for turn in 0..500_u64 {
        let turn_frames = frames(turn, turn % 7 + 1);
        let mut early = reader.ring();
        writer.ring_append(&turn_frames);
        assert_eq!(early.read(&mut Vec::new()), Ok(0), "not readable before it is published");
        writer.ring_publish();
        expected.extend(turn_frames);
        if turn % 3 == 0 {
            ring.read(&mut all).unwrap();
        }
    }
    ring.read(&mut all).unwrap();
    assert_eq!(all, expected);
    assert!(!ring.is_behind());
}

#[test]
fn who_is_lapped_is_told() {
    let (mut writer, reader) = image(Settings { ring_bytes: 4096, ..Settings::default() });
    let mut ring = reader.ring();
    let mut out = vec![1, 2];
    for turn in 0..257 {
        writer.ring_append(&frames(turn, 1));
    }
    writer.ring_publish();
    assert_eq!(ring.read(&mut out), Err(Lapped));
    assert_eq!(out, [1, 2]);
    ring.to_end();
    writer.ring_append(&frames(7, 256));
    writer.ring_publish();
    assert_eq!(ring.read(&mut out), Ok(4096), "a whole lap fits");
    assert_eq!(out[2..], frames(7, 256));
    // More than a lap in one piece: nobody reads half of it.
    writer.ring_append(&frames(0, 300));
    writer.ring_publish();
    assert_eq!(ring.read(&mut out), Err(Lapped));
}

#[test]
fn pieces_come_out_as_they_went_in() {
    let (mut writer, reader) = image(Settings { ring_bytes: 4096, ..Settings::default() });
    let mut ring = reader.ring();
    let (mut all, mut expected) = (Vec::new(), Vec::new());
    // Of each size up to more than the ring's longest run in one copy, across its end, too.
    for bytes in (0..100_usize).chain([800, 1000, 4000, 4096, 5000]) {
        let turn_frames = frames(bytes as u64, 200);
        writer.ring_append(&turn_frames);
        writer.ring_publish();
        expected.extend(turn_frames);
        let mut piece = vec![0xee; bytes];
        if bytes < 8 {
            assert_eq!(ring.peek(&mut piece), Ok(0));
            ring.read(&mut all).unwrap();
        }
        while ring.is_behind() {
            let behind = ring.behind();
            piece.fill(0xee);
            let copied = ring.peek(&mut piece).unwrap();
            assert_eq!(copied as u64, (bytes as u64 / 8 * 8).min(behind));
            assert!(piece[copied..].iter().all(|byte| *byte == 0xee), "nothing else is touched");
            assert_eq!(ring.behind(), behind, "it is still there");
            all.extend(&piece[..copied]);
            ring.advance(copied);
        }
    }
    assert_eq!(all, expected);
    // Whoever is in the middle of pieces when he is lapped is told.
    writer.ring_append(&frames(0, 200));
    writer.ring_publish();
    let mut piece = [0; 64];
    ring.peek(&mut piece).unwrap();
    ring.advance(64);
    writer.ring_append(&frames(0, 61));
    writer.ring_publish();
    assert_eq!(ring.peek(&mut piece), Err(Lapped));
}

#[test]
fn a_sleeper_is_woken_and_never_sleeps_for_good() {
    let (mut writer, reader) = image(Settings::default());
    let ring = reader.ring();
    let start = Instant::now();
    assert!(!ring.wait(Duration::from_secs(1000)).unwrap());
    assert!(start.elapsed() >= WAIT_MAX / 2, "it did wait");
    let thread = std::thread::spawn(move || {
        let mut ring = ring;
        let mut out = Vec::new();
        while out.len() < 16 * 100 {
            ring.wait(Duration::from_secs(1000)).unwrap();
            ring.read(&mut out).unwrap();
        }
        out
    });
    for turn in 0..100 {
        writer.commit(1, turn, &digests(turn)).unwrap();
        writer.ring_append(&frames(turn, 1));
        writer.ring_publish();
        std::thread::yield_now();
    }
    assert_eq!(thread.join().unwrap(), frames(0, 100));
}

#[test]
fn a_sleeper_learns_of_the_end() {
    let (mut writer, reader) = image(Settings::default());
    let ring = reader.ring();
    let closer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        writer.close();
        writer
    });
    while reader.writer().unwrap() == WriterState::Live {
        assert!(!ring.wait(WAIT_MAX).unwrap());
    }
    assert_eq!(reader.writer().unwrap(), WriterState::Closed);
    drop(closer.join().unwrap());
}
