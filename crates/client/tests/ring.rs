//! The ring as a follower is told of it: whatever the pieces that it is copied in, each
//! frame comes once, whole and in order.

use rtm_client::{Reader, RingEvent, RingFollower};
use rtm_image::{Object, Settings, Writer};
use rtm_model::{Digests, EntityKind, HOPS_MAX};
use rtm_tables::wire::DaemonFrame;
use rtm_tables::wire::records::{RECORD_HEAD_BYTES, encode};
use rtm_tables::{Flush, RecordOp, Revision};

const RING_BYTES: u64 = 64 << 10;

/// What a follower was told.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Told {
    Record(Revision, bool, EntityKind, Vec<u8>),
    Flushed(Revision),
    Reread,
}

struct Ring {
    writer: Writer<Object>,
    follower: RingFollower,
}

impl Ring {
    fn new() -> Ring {
        let settings =
            Settings { bytes: 1 << 20, ring_bytes: RING_BYTES, epoch: 1, ..Settings::default() };
        let mut writer = Writer::new(Object::create(settings.bytes).unwrap(), &settings).unwrap();
        writer.commit(1, 1, &Digests::default()).unwrap();
        let fd = writer.memory().descriptor().try_clone_to_owned().unwrap();
        let follower = RingFollower::new(&Reader::attach(fd).unwrap());
        Ring { writer, follower }
    }

    fn append(&mut self, frames: &[u8]) {
        self.writer.ring_append(frames);
        self.writer.ring_publish();
    }

    fn poll(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        self.follower.poll(|event| {
            told.push(match event {
                RingEvent::Record(record) => {
                    Told::Record(record.revision, record.last, record.kind, record.body.to_vec())
                }
                RingEvent::Flushed { revision, .. } => Told::Flushed(revision),
                RingEvent::Reread => Told::Reread,
                event => panic!("{event:?}"),
            });
        });
        told
    }
}

/// A frame, and what is told of it.
fn record(revision: u64, kind: EntityKind, bytes: usize) -> (Vec<u8>, Told) {
    let body: Vec<u8> = (0..bytes).map(|at| (revision as usize + at) as u8).collect();
    let (last, revision, mut frame) = (revision % 3 == 0, Revision(revision), Vec::new());
    encode(&mut frame, RecordOp::Set, kind, revision, last, &body);
    (frame, Told::Record(revision, last, kind, body))
}

#[test]
fn frames_come_whole_however_they_lie() {
    let mut ring = Ring::new();
    let mut revision = 0;
    // Many turns, so that pieces are cut and the ring begins anew at any place in a frame.
    for turn in 0..60_u64 {
        let (mut frames, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..200 + 13 * turn {
            revision += 1;
            let (frame, told) = match revision % 101 {
                0 => {
                    let (at, what) =
                        (Revision(revision), Flush { routes: true, neighbours: false });
                    let mut frame = Vec::new();
                    DaemonFrame::Flush { revision: at, what }.encode(&mut frame);
                    (frame, Told::Flushed(at))
                }
                // Longer than a piece.
                57 => record(revision, EntityKind::Group, 16 + 24 * HOPS_MAX),
                n if n % 7 == 0 => record(revision, EntityKind::Route6, 40),
                _ => record(revision, EntityKind::Route4, 24),
            };
            if frames.len() + frame.len() > RING_BYTES as usize {
                break;
            }
            frames.extend(frame);
            expected.push(told);
        }
        ring.append(&frames);
        assert!(ring.follower.is_behind());
        assert_eq!(ring.poll(), expected);
        assert!(!ring.follower.is_behind());
        assert_eq!(ring.poll(), []);
    }
    assert_eq!(ring.follower.laps(), 0);
}

#[test]
fn what_is_missing_is_told() {
    let mut ring = Ring::new();
    let (frame, told) = record(3, EntityKind::Route4, 24);
    let lap = RING_BYTES as usize / frame.len() + 1;
    ring.append(&frame.repeat(lap));
    assert_eq!(ring.poll(), [Told::Reread]);
    assert_eq!(ring.follower.laps(), 1);
    // And it goes on.
    ring.append(&frame);
    assert_eq!(ring.poll(), std::slice::from_ref(&told));
    // What the tables leapt over stands between BEGIN and END.
    let mut frames = Vec::new();
    DaemonFrame::Begin { from: Revision(3) }.encode(&mut frames);
    let (revision, digests) = (Revision(9), Digests::default());
    DaemonFrame::End { revision, digests }.encode(&mut frames);
    frames.extend(&frame);
    ring.append(&frames);
    assert_eq!(ring.poll(), [Told::Reread, told]);
}

/// The name of a second copy is unprotected from root: whatever stands there, a
/// follower neither panics nor hangs, and says that it can't tell.
#[test]
fn nonsense_is_no_news() {
    let (frame, told) = record(3, EntityKind::Route4, 24);
    let head = |length: u32| [length.to_le_bytes(), [0x90, 0, 1, 0]].concat();
    let zeros = |bytes: usize| vec![0; bytes];
    let wrong = [
        zeros(24),
        // Lengths: none, no multiple, over the limit, more than there is.
        [head(4), zeros(16)].concat(),
        [head(36), zeros(32)].concat(),
        [head(2 << 20), zeros(32)].concat(),
        [head(4096), zeros(32)].concat(),
        [head(32 << 10), zeros(32)].concat(),
        // A route that is shorter than its key.
        [head(RECORD_HEAD_BYTES as u32), zeros(8)].concat(),
        // A frame that must be understood, and isn't.
        [16_u32.to_le_bytes(), [0xff, 0x0f, 1, 0]].concat().into_iter().chain([0; 8]).collect(),
    ];
    for wrong in wrong {
        let mut ring = Ring::new();
        ring.append(&[&frame[..], &wrong, &frame].concat());
        assert_eq!(ring.poll(), [told.clone(), Told::Reread], "{:?}", &wrong[..8]);
        ring.append(&frame);
        assert_eq!(ring.poll(), std::slice::from_ref(&told), "it goes on behind");
    }
}
