//! How long turns and their stages took, and what woke them: `status -d`.

use std::time::{Duration, Instant};

use crate::histogram::Histogram;
use crate::wakeup::Wakeup;

/// The stages of a turn, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Signals, the console's lines.
    Orders,
    /// Connections and the file: read, applied.
    Feeds,
    /// Answers that take several turns.
    Jobs,
    /// Sweeps, and what flushes left behind.
    Upkeep,
    /// Visible to the sessions; snapshots are encoded.
    Publish,
    /// To the sockets.
    Send,
    /// Heartbeats, late hellos, barriers.
    Timers,
    /// New connections; ended ones are closed.
    Doors,
}

impl Stage {
    const COUNT: usize = 8;

    const NAMES: [&str; Stage::COUNT] =
        ["orders", "feeds", "jobs", "upkeep", "publish", "send", "timers", "doors"];
}

/// Kinds of what wakes the loop.
const KINDS: [&str; 19] = [
    "listener",
    "tcp-listener",
    "client",
    "console",
    "console-room",
    "file",
    "signal",
    "queue",
    "fifo",
    "fpm",
    "kernel",
    "kernel-answer",
    "export",
    "process",
    "classic-listener",
    "export-answer",
    "export-done",
    "fpm-listener",
    "timer",
];

/// The place of the time itself in [`KINDS`].
const TIMER: usize = KINDS.len() - 1;

/// A wakeup's place in [`KINDS`].
fn kind(wakeup: Wakeup) -> usize {
    match wakeup {
        Wakeup::UnixListener => 0,
        Wakeup::TcpListener => 1,
        Wakeup::Client(_) => 2,
        Wakeup::ConsoleInput => 3,
        Wakeup::ConsoleRoom => 4,
        Wakeup::Loader => 5,
        Wakeup::Signal => 6,
        Wakeup::Queue => 7,
        Wakeup::Fifo => 8,
        Wakeup::Fpm(_) => 9,
        Wakeup::Kernel => 10,
        Wakeup::KernelAnswer => 11,
        Wakeup::Export => 12,
        Wakeup::Process(_) => 13,
        Wakeup::ClassicListener => 14,
        Wakeup::ExportAnswer => 15,
        Wakeup::ExportDone => 16,
        Wakeup::FpmListener => 17,
    }
}

/// What is known of one stage.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StageStats {
    /// All together.
    pub(crate) total: Duration,
    /// The longest.
    pub(crate) longest: Duration,
    /// How often its budget was used up.
    pub(crate) overruns: u64,
}

/// Counts since the start.
#[derive(Debug, Default)]
pub(crate) struct TurnStats {
    /// Whole turns, from waking up to sleeping.
    pub(crate) turns: Histogram,
    stages: [StageStats; Stage::COUNT],
    wakeups: [u64; KINDS.len()],
}

/// The clock of one turn.
pub(crate) struct TurnClock {
    start: Instant,
    last: Instant,
}

impl TurnClock {
    /// A turn begins.
    pub(crate) fn start() -> TurnClock {
        let start = Instant::now();
        TurnClock { start, last: start }
    }

    /// A stage has ended; what it took is counted.
    pub(crate) fn ended(&mut self, stage: Stage, overrun: bool, stats: &mut TurnStats) {
        let now = Instant::now();
        let took = now - self.last;
        self.last = now;
        let stage = &mut stats.stages[stage as usize];
        stage.total += took;
        stage.longest = stage.longest.max(took);
        stage.overruns += u64::from(overrun);
    }

    /// The last stage's end.
    pub(crate) fn last(&self) -> Instant {
        self.last
    }

    /// The turn has ended.
    pub(crate) fn finish(self, stats: &mut TurnStats) {
        stats.turns.record(self.last - self.start);
    }
}

impl TurnStats {
    /// Something woke the loop.
    pub(crate) fn woke(&mut self, wakeup: Wakeup) {
        self.wakeups[kind(wakeup)] += 1;
    }

    /// Its time woke the loop.
    pub(crate) fn woke_in_time(&mut self) {
        self.wakeups[TIMER] += 1;
    }

    /// How often this woke the loop, with all others of its kind.
    pub(crate) fn wakeups_by(&self, wakeup: Wakeup) -> u64 {
        self.wakeups[kind(wakeup)]
    }

    /// How often its time did.
    pub(crate) fn wakeups_in_time(&self) -> u64 {
        self.wakeups[TIMER]
    }

    /// Wakeups by kind of descriptor.
    pub(crate) fn wakeups(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        KINDS.into_iter().zip(self.wakeups)
    }

    /// The stages, in their order.
    pub(crate) fn stages(&self) -> impl Iterator<Item = (&'static str, StageStats)> + '_ {
        Stage::NAMES.into_iter().zip(self.stages)
    }
}
