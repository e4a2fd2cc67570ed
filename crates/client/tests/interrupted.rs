//! A follower that waits in its read, and signals that come meanwhile.
//!
//! A program of its own, without libtest: a signal to the process is the main thread's
//! as long as that one wants it, and under libtest the main thread is no test's.

#[allow(dead_code, unreachable_pub)]
mod daemon;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use daemon::{World, accept, listen};
use ipc::armed::Caught;
use ipc::signal::{self, Signal, SignalSet};
use rtm_client::{Address, Event, FollowConfig, Follower, Turn};

const PATIENCE: Duration = Duration::from_secs(60);
const WAITS: u64 = 20;
const CHANGES: u64 = 500;

fn main() {
    // Read with a place for descriptors, and without one.
    for wake_pipe in [false, true] {
        a_signal_ends_the_wait_and_loses_nothing(wake_pipe);
    }
    println!("test a_signal_ends_the_wait_and_loses_nothing ... ok");
}

fn a_signal_ends_the_wait_and_loses_nothing(wake_pipe: bool) {
    // It restarts what can be restarted: a read with a time isn't.
    let caught = Caught::install(Signal::USR2).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = listen(&path);
    // Waits that were ended; behind them, the changes that were met.
    let progress = AtomicU64::new(0);
    let (go, gone) = mpsc::channel();
    thread::scope(|scope| {
        let (config, came) = (alone(wake_pipe), &progress);
        scope.spawn(move || {
            only_the_main_thread_is_signalled();
            let mut world = World::new(1);
            let mut peer = accept(&listener);
            world.apply(&["route add 10.0.0.0/8 via 192.0.2.1 dev e1"]);
            world.greet(&mut peer);
            gone.recv().unwrap();
            // It has waited so often: now changes come between signals.
            for number in 0..CHANGES {
                let line =
                    format!("route replace 10.0.0.0/8 via 192.0.2.{} dev e1", 2 + number % 2);
                let mut frames = world.apply(&[&line]);
                frames.extend(world.mark(false));
                // In two parts, with a signal in between.
                let (one, other) = frames.split_at(number as usize % frames.len());
                peer.send(one);
                signal::raise(Signal::USR2).unwrap();
                peer.send(other);
            }
            gone.recv().unwrap();
        });
        scope.spawn(move || {
            only_the_main_thread_is_signalled();
            let end = Instant::now() + PATIENCE;
            // Again and again: the first ones may come just before it waits.
            while came.load(Ordering::Relaxed) < WAITS + CHANGES {
                if Instant::now() > end {
                    eprintln!(
                        "{} waits and changes after {PATIENCE:?}",
                        came.load(Ordering::Relaxed)
                    );
                    std::process::exit(1);
                }
                signal::raise(Signal::USR2).unwrap();
                thread::sleep(Duration::from_millis(1));
            }
        });
        let mut follower = Follower::connect(&Address::Unix(path), config).unwrap();
        let mut synced = false;
        while !synced {
            let tell = &mut |event: Event<'_>| synced |= matches!(event, Event::Synced { .. });
            follower.turn(None, &[], tell).unwrap();
        }
        let turns = (0..WAITS).map(|_| {
            let mut told = 0;
            let turn = follower.turn(None, &[], &mut |_| told += 1).unwrap();
            progress.fetch_add(1, Ordering::Relaxed);
            (turn, told)
        });
        assert!(turns.into_iter().all(|came| came == (Turn::TimedOut, 0)), "by a signal only");
        assert!(caught.count() >= WAITS);
        go.send(()).unwrap();
        let mut marks = Vec::new();
        while marks.len() < CHANGES as usize {
            let tell = &mut |event: Event<'_>| match event {
                Event::Marked { revision } => marks.push(revision.0),
                Event::Change(_) => {}
                _ => panic!("neither a mark nor a change"),
            };
            follower.turn(None, &[], tell).unwrap();
            progress.store(WAITS + marks.len() as u64, Ordering::Relaxed);
        }
        let first = marks[0];
        assert!(marks.iter().copied().eq(first..first + CHANGES), "each once, in order: {marks:?}");
        let replica = follower.replica().unwrap();
        assert_eq!(replica.recompute_digests(), replica.digests());
        assert_eq!(follower.counts().resyncs, 0);
        go.send(()).unwrap();
    });
}

fn alone(wake_pipe: bool) -> FollowConfig {
    FollowConfig { reconnect: false, wake_pipe, ..FollowConfig::default() }
}

fn only_the_main_thread_is_signalled() {
    signal::block(&SignalSet::of(&[Signal::USR2]));
}
