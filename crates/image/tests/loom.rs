//! The publication protocol and the ring's, under every ordering of memory
//! accesses that the memory model allows; then with each ordering weakened, and
//! each time something torn must be seen.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p rtm-image --release --test loom`
//!
//! The functions are those of production (`protocol.rs`); what is small is the
//! content: a version's tables are one block of two words that both hold the
//! version's number.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use rtm_image::layout::{CURRENT, RING_END, RING_RESERVED};
use rtm_image::protocol::{self, Orders, Real};
use rtm_image::words::{Words, WordsMut};

const BLOCKS: usize = 1000;
const SLOTS: usize = 500;
const RING: usize = 2000;
/// Blocks that the model's heap has: three versions' worth, so that every
/// commit reuses what the rule allows.
const BLOCK_COUNT: usize = 3;
const RING_WORDS: usize = 2;

/// Loom's atomics at the places that the model uses.
struct Model(Vec<AtomicU64>);

impl Model {
    fn new() -> Model {
        Model((0..3 + 4 + 2 * BLOCK_COUNT + RING_WORDS).map(|_| AtomicU64::new(0)).collect())
    }

    fn cell(&self, at: usize) -> &AtomicU64 {
        let index = match at {
            CURRENT => 0,
            RING_RESERVED => 1,
            RING_END => 2,
            at if at >= RING => 3 + 4 + 2 * BLOCK_COUNT + (at - RING),
            at if at >= BLOCKS => 3 + 4 + (at - BLOCKS),
            at => 3 + (at - SLOTS),
        };
        &self.0[index]
    }
}

impl Words for Model {
    fn len(&self) -> usize {
        usize::MAX
    }

    fn load(&self, at: usize, order: Ordering) -> u64 {
        self.cell(at).load(order)
    }

    fn fence(&self, order: Ordering) {
        loom::sync::atomic::fence(order);
    }
}

impl WordsMut for Model {
    fn store(&self, at: usize, value: u64, order: Ordering) {
        self.cell(at).store(value, order);
    }
}

/// How many publications late a block is reused: 0 is the rule of production.
trait Rule: Orders + 'static {
    const HASTE: u64 = 0;
}

impl Rule for Real {}

/// The orderings of production with one weakened.
macro_rules! mutant {
    ($name:ident, $($place:ident),* ; $haste:expr) => {
        struct $name;
        impl Orders for $name {
            const PUBLISH: Ordering = mutant!(@ PUBLISH, $($place)*);
            const THEN: Ordering = mutant!(@ THEN, $($place)*);
            const OBSERVE: Ordering = mutant!(@ OBSERVE, $($place)*);
            const CHECK: Ordering = mutant!(@ CHECK, $($place)*);
            const RING_THEN: Ordering = mutant!(@ RING_THEN, $($place)*);
            const RING_PUBLISH: Ordering = mutant!(@ RING_PUBLISH, $($place)*);
            const RING_OBSERVE: Ordering = mutant!(@ RING_OBSERVE, $($place)*);
            const RING_CHECK: Ordering = mutant!(@ RING_CHECK, $($place)*);
        }
        impl Rule for $name {
            const HASTE: u64 = $haste;
        }
    };
    (@ $place:ident, $($weak:ident)*) => {
        if $(same(stringify!($place), stringify!($weak)) ||)* false { Ordering::Relaxed } else { Real::$place }
    };
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut index = 0;
    while index < a.len() {
        if a[index] != b[index] {
            return false;
        }
        index += 1;
    }
    true
}

mutant!(WeakPublish, PUBLISH; 0);
mutant!(WeakThen, THEN; 0);
mutant!(WeakObserve, OBSERVE; 0);
mutant!(WeakCheck, CHECK; 0);
mutant!(EarlyReuse, ; 1);
mutant!(WeakRingThen, RING_THEN; 0);
mutant!(WeakRingPublish, RING_PUBLISH; 0);
mutant!(WeakRingObserve, RING_OBSERVE; 0);
mutant!(WeakRingCheck, RING_CHECK; 0);

fn explore(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.max_branches = 10_000;
    builder.check(run);
}

/// A commit as the writer does it: a free block, the slot, publish. Of the
/// free blocks the one that was retired last, so that the rule is taken at its
/// limit: the oldest would be late enough for a hastier one, too.
fn commit<O: Rule>(model: &Model, version: u64, retired: &mut Vec<(u64, usize)>, live: &mut usize) {
    let current = version - 1;
    let index = retired
        .iter()
        .rposition(|&(by, _)| by <= protocol::reusable(current) + O::HASTE)
        .expect("a block is free again");
    let (_, block) = retired.remove(index);
    model.put(BLOCKS + 2 * block, version);
    model.put(BLOCKS + 2 * block + 1, version);
    model.put(SLOTS + protocol::slot_of(version), block as u64);
    protocol::publish::<O>(model, version);
    retired.push((version, *live));
    *live = block;
}

fn publication<O: Rule>() {
    explore(|| {
        let model = Arc::new(Model::new());
        // Version 1 is visible, in block 0.
        model.put(BLOCKS, 1);
        model.put(BLOCKS + 1, 1);
        model.put(SLOTS + 1, 0);
        protocol::publish::<Real>(&*model, 1);
        let shared = model.clone();
        let writer = loom::thread::spawn(move || {
            let mut retired = vec![(0, 1), (0, 2)];
            let mut live = 0;
            for version in 2..=4 {
                commit::<O>(&shared, version, &mut retired, &mut live);
            }
        });
        let block_of = |model: &Model, version: u64| {
            model.get(SLOTS + protocol::slot_of(version)) as usize % BLOCK_COUNT
        };
        let content = |model: &Model, block: usize| {
            [model.get(BLOCKS + 2 * block), model.get(BLOCKS + 2 * block + 1)]
        };
        let mut repeats = 0;
        let (version, block, words) =
            protocol::read::<O, _, _>(&*model, &mut repeats, |m, version| {
                let block = block_of(m, version);
                (version, block, content(m, block))
            })
            .expect("four versions can't make it busy");
        assert_eq!(words, [version; 2], "torn");
        // The next lookup starts from the root seen last.
        let words = content(&model, block);
        if protocol::check::<O>(&*model) == version {
            assert_eq!(words, [version; 2], "torn, from the root seen last");
        }
        writer.join().unwrap();
    });
}

fn ring<O: Rule>() {
    explore(|| {
        let model = Arc::new(Model::new());
        let shared = model.clone();
        // Word n of the ring's history has the value n + 1.
        let writer = loom::thread::spawn(move || {
            let mut end = 0;
            for _ in 0..4 {
                end = protocol::ring_write::<O>(
                    &*shared,
                    (RING, RING_WORDS),
                    end,
                    [end + 1].into_iter(),
                );
                protocol::ring_publish::<O>(&*shared, end);
            }
        });
        let mut position = 0;
        for _ in 0..2 {
            let mut words = Vec::new();
            let (ring, all) = ((RING, RING_WORDS), u64::MAX);
            let end = protocol::ring_copy::<O>(&*model, ring, position, all, |runs| {
                words.extend(runs.into_iter().flatten().map(|word| model.get(word)));
            });
            if let Some(end) = end {
                let expected: Vec<u64> = (position + 1..=end).collect();
                assert_eq!(words, expected, "torn");
                position = end;
            }
        }
        writer.join().unwrap();
    });
}

fn is_caught(run: fn()) {
    assert!(std::panic::catch_unwind(run).is_err(), "the weakened ordering was not noticed");
}

#[test]
fn no_reader_sees_a_torn_version() {
    publication::<Real>();
}

#[test]
fn no_reader_sees_a_torn_ring() {
    ring::<Real>();
}

#[test]
fn each_weaker_publication_is_caught() {
    is_caught(publication::<WeakPublish>);
    is_caught(publication::<WeakThen>);
    is_caught(publication::<WeakObserve>);
    is_caught(publication::<WeakCheck>);
    is_caught(publication::<EarlyReuse>);
}

#[test]
fn each_weaker_ring_is_caught() {
    is_caught(ring::<WeakRingThen>);
    is_caught(ring::<WeakRingPublish>);
    is_caught(ring::<WeakRingObserve>);
    is_caught(ring::<WeakRingCheck>);
}
