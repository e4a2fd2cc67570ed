//! The ring's algorithm under a model checker, which runs every interleaving
//! (with at most three preemptions, beside the switches where a side sleeps)
//! and every value that the memory model allows a load to see; and the proof
//! that it would notice: each rule broken in turn must be found.
#![allow(unsafe_code)] // the model's cells
use core::sync::atomic::Ordering;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, fence};
use loom::sync::{Arc, Condvar, Mutex};

use super::algorithm::{End, Memory, Reading, Rules, Side, Sound, Writing};

/// Two cells of data: small enough to be full at once.
const CAPACITY: usize = 2;

struct Model {
    positions: [AtomicU64; 2],
    flags: [AtomicBool; 2],
    bells: [AtomicU32; 2],
    finished: AtomicBool,
    /// The kernel's side of a futex: looking at the word and falling asleep are
    /// one step against waking.
    futex: [(Mutex<()>, Condvar); 2],
    /// Accesses are checked by loom: two at once that aren't ordered fail.
    data: [UnsafeCell<u8>; CAPACITY],
}

// SAFETY: loom's cells say where an access is not ordered; that is the test.
unsafe impl Sync for Model {}

fn index(side: Side) -> usize {
    match side {
        Side::Writer => 0,
        Side::Reader => 1,
    }
}

impl Model {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            positions: [AtomicU64::new(0), AtomicU64::new(0)],
            flags: [AtomicBool::new(false), AtomicBool::new(false)],
            bells: [AtomicU32::new(0), AtomicU32::new(0)],
            finished: AtomicBool::new(false),
            futex: [(Mutex::new(()), Condvar::new()), (Mutex::new(()), Condvar::new())],
            data: [UnsafeCell::new(0), UnsafeCell::new(0)],
        })
    }
}

impl Memory for Arc<Model> {
    type Stop = ();

    fn position(&self, of: Side, order: Ordering) -> u64 {
        self.positions[index(of)].load(order)
    }

    fn set_position(&self, of: Side, to: u64, order: Ordering) {
        self.positions[index(of)].store(to, order);
    }

    fn flag(&self, of: Side) -> bool {
        self.flags[index(of)].load(Ordering::Relaxed)
    }

    fn set_flag(&self, of: Side, up: bool) {
        self.flags[index(of)].store(up, Ordering::Relaxed);
    }

    fn bell(&self, of: Side, order: Ordering) -> u32 {
        self.bells[index(of)].load(order)
    }

    fn ring_bell(&self, of: Side, order: Ordering) {
        self.bells[index(of)].fetch_add(1, order);
        let (lock, sleepers) = &self.futex[index(of)];
        let _bucket = lock.lock().unwrap();
        sleepers.notify_all();
    }

    fn sleep(&self, of: Side, seen: u32) -> Result<(), ()> {
        let (lock, sleepers) = &self.futex[index(of)];
        let bucket = lock.lock().unwrap();
        if self.bells[index(of)].load(Ordering::Relaxed) == seen {
            drop(sleepers.wait(bucket).unwrap());
        }
        Ok(())
    }

    fn finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    fn fence_to_rouse(&self) {
        fence(Ordering::SeqCst);
    }

    fn fence_to_sleep(&self) {
        fence(Ordering::SeqCst);
    }

    fn put(&self, position: u64, bytes: &[u8]) {
        for (n, byte) in bytes.iter().enumerate() {
            // SAFETY: loom checks that nobody else is at it.
            self.data[(position as usize + n) % CAPACITY].with_mut(|cell| unsafe { *cell = *byte });
        }
    }

    fn take(&self, position: u64, bytes: &mut [u8]) {
        for (n, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: as above.
            *byte = self.data[(position as usize + n) % CAPACITY].with(|cell| unsafe { *cell });
        }
    }
}

/// One more message than fits: the writer meets a full ring, the reader an
/// empty one.
const MESSAGES: u8 = CAPACITY as u8 + 1;

fn transfer<R: Rules + 'static>() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let model = Model::new();
        let writing = model.clone();
        let writer = loom::thread::spawn(move || {
            let mut end = End::<_, Writing, R>::new(writing, CAPACITY as u64).unwrap();
            for byte in 1..=MESSAGES {
                end.wait(1).expect("room comes");
                end.memory.put(end.position(), &[byte]);
                end.advance(1);
            }
        });
        let mut end = End::<_, Reading, R>::new(model, CAPACITY as u64).unwrap();
        for expected in 1..=MESSAGES {
            end.wait(1).expect("bytes come");
            let mut byte = [0];
            end.memory.take(end.position(), &mut byte);
            assert_eq!(byte[0], expected);
            end.advance(1);
        }
        writer.join().unwrap();
    });
}

/// Runs a mutant in a process of its own (the checker may abort when it has
/// found something) and says what the checker said.
fn verdict(test: &str) -> String {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("ring::model::{test}"), "--nocapture"])
        .env(MUTANT, "1")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    if output.status.success() {
        return "nothing found".to_owned();
    }
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Set in the process that runs a mutant.
const MUTANT: &str = "IPC_RING_MUTANT";

#[test]
fn every_interleaving_delivers_every_byte_and_nobody_sleeps_for_ever() {
    transfer::<Sound>();
}

#[test]
fn the_end_is_seen_in_every_interleaving() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let model = Model::new();
        let writing = model.clone();
        let writer = loom::thread::spawn(move || {
            let mut end = End::<_, Writing, Sound>::new(writing, CAPACITY as u64).unwrap();
            end.memory.put(end.position(), &[7]);
            end.advance(1);
            end.memory.finished.store(true, Ordering::Release);
            end.rouse();
        });
        let mut end = End::<_, Reading, Sound>::new(model, CAPACITY as u64).unwrap();
        assert_eq!(end.wait(1).ok(), Some(1), "never the end before the last byte");
        end.advance(1);
        assert!(matches!(end.wait(1), Err(super::algorithm::Ended::Finished)));
        writer.join().unwrap();
    });
}

macro_rules! mutants {
    ($($test:ident $what:literal { $($rule:tt)* })*) => {
        $(
            #[test]
            fn $test() {
                struct Mutant;
                impl Rules for Mutant { $($rule)* }
                if std::env::var_os(MUTANT).is_some() {
                    return transfer::<Mutant>();
                }
                let verdict = verdict(stringify!($test));
                assert!(verdict.contains($what), "expected {:?}, the model said: {verdict}", $what);
            }
        )*
    };
}

// "Causality violation": an access that isn't ordered with the other side's;
// "deadlock": a sleeper that nobody wakes.
mutants! {
    publish_relaxed_is_found "Causality violation" {
        // The fence behind the store orders nothing before it.
        const PUBLISH: Ordering = Ordering::Relaxed;
    }
    observe_relaxed_is_found "Causality violation" {
        const OBSERVE: Ordering = Ordering::Relaxed;
    }
    release_relaxed_is_found "Causality violation" {
        const RELEASE: Ordering = Ordering::Relaxed;
    }
    reclaim_relaxed_is_found "Causality violation" {
        const RECLAIM: Ordering = Ordering::Relaxed;
    }
    ring_relaxed_is_found "deadlock" {
        const RING: Ordering = Ordering::Relaxed;
    }
    hear_relaxed_is_found "deadlock" {
        const HEAR: Ordering = Ordering::Relaxed;
    }
    no_fence_of_the_mover_is_found "deadlock" {
        const MOVER_FENCE: bool = false;
    }
    no_fence_of_the_sleeper_is_found "deadlock" {
        const SLEEPER_FENCE: bool = false;
    }
    no_second_look_is_found "deadlock" {
        const LOOK_AGAIN: bool = false;
    }
}
