//! Logs that never block.
//!
//! Events are formatted by whoever logs and put into a [`Writer`]'s bounded
//! buffer. If nobody reads standard error, the buffer fills, further lines are
//! dropped and counted, and the count stands before the first line that finds
//! room again. The loop never waits, not even at the end: [`Log::finish`] gives
//! the last lines a moment, then lets go.
//!
//! Under systemd (`JOURNAL_STREAM` names our standard error) a line begins with
//! its priority as `sd-daemon(3)` has it, and the journal adds the time; else
//! with the time in UTC and the level.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use rtm_model::text::printable;
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::time::{since_1970, utc};
use crate::writer::Writer;

/// What may wait to be written: some thousand lines.
const BUFFER_BYTES_MAX: usize = 256 * 1024;

/// The longest line; what is beyond is cut off.
const LINE_BYTES_MAX: usize = 4096;

/// How long the end of the daemon waits for the last lines to be written.
const FINISH_WAIT: Duration = Duration::from_millis(200);

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) enum Level {
    /// What stops a part of the daemon.
    Error = 1,
    /// What an administrator should know.
    Warn = 2,
    /// Milestones.
    #[default]
    Info = 3,
    /// Each session and request.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

impl FromStr for Level {
    type Err = String;

    fn from_str(s: &str) -> Result<Level, String> {
        Ok(match s {
            "error" => Level::Error,
            "warn" => Level::Warn,
            "info" => Level::Info,
            "debug" => Level::Debug,
            "trace" => Level::Trace,
            _ => return Err("error, warn, info, debug or trace would be right".to_owned()),
        })
    }
}

impl Level {
    fn of(level: tracing::Level) -> Level {
        match level {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => Level::Trace,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }

    /// The prefix of sd-daemon(3): syslog's priority.
    fn priority(self) -> &'static str {
        match self {
            Level::Error => "<3>",
            Level::Warn => "<4>",
            Level::Info => "<6>",
            Level::Debug | Level::Trace => "<7>",
        }
    }
}

struct Shared {
    out: Writer,
    level: AtomicU8,
    /// Lines dropped in all.
    dropped: AtomicU64,
    /// Lines dropped that no line has told of yet.
    untold: AtomicU64,
    journal: bool,
}

/// The daemon's hold on its log.
#[derive(Clone)]
pub(crate) struct Log {
    shared: Arc<Shared>,
}

impl Log {
    /// Makes this the log of the whole process.
    ///
    /// Call it where signals are blocked already: the thread inherits that.
    pub(crate) fn start(level: Level) -> Log {
        let out = Writer::start("log", std::io::stderr(), BUFFER_BYTES_MAX, None);
        let log = Log::new(out, level, is_journal());
        let subscriber = tracing_subscriber::registry().with(log.layer());
        let _ = tracing::subscriber::set_global_default(subscriber);
        log
    }

    fn new(out: Writer, level: Level, journal: bool) -> Log {
        let shared = Shared {
            out,
            level: AtomicU8::new(level as u8),
            dropped: AtomicU64::new(0),
            untold: AtomicU64::new(0),
            journal,
        };
        Log { shared: Arc::new(shared) }
    }

    fn layer(&self) -> LogLayer {
        LogLayer { shared: Arc::clone(&self.shared) }
    }

    /// Says something whatever the level is.
    pub(crate) fn say(&self, text: &str) {
        let mut line = String::new();
        begin(&mut line, Level::Info, self.shared.journal);
        line += &printable(text);
        line.push('\n');
        self.shared.push(&line);
    }

    /// Changes how much is logged.
    pub(crate) fn set_level(&self, level: Level) {
        self.shared.level.store(level as u8, Ordering::Relaxed);
    }

    /// Lines dropped because nobody read.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Gives the last lines a moment to be written.
    pub(crate) fn finish(&self) {
        self.shared.out.finish(FINISH_WAIT);
    }
}

impl Shared {
    fn push(&self, line: &str) {
        let untold = self.untold.swap(0, Ordering::Relaxed);
        let mut told = String::new();
        if untold > 0 {
            begin(&mut told, Level::Warn, self.journal);
            let _ = writeln!(told, "{untold} lines of this log were dropped: nobody read them");
            told.push_str(line);
        }
        let line = if untold > 0 { &told } else { line };
        if !self.out.write(line.as_bytes()) {
            self.untold.fetch_add(untold + 1, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Is standard error the journal? systemd names its device and inode.
fn is_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    let Ok(stat) = rustix::fs::fstat(rustix::stdio::stderr()) else { return false };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}

/// The beginning of a line.
fn begin(line: &mut String, level: Level, journal: bool) {
    if journal {
        line.push_str(level.priority());
        return;
    }
    let _ = write!(line, "{} {:5} ", utc(since_1970()), level.word());
}

struct LogLayer {
    shared: Arc<Shared>,
}

impl LogLayer {
    fn takes(&self, metadata: &Metadata<'_>) -> bool {
        Level::of(*metadata.level()) as u8 <= self.shared.level.load(Ordering::Relaxed)
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // The level can change, so each event asks.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.takes(metadata)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = String::with_capacity(160);
        begin(&mut line, Level::of(*event.metadata().level()), self.shared.journal);
        let mut fields = Fields { message: String::new(), rest: String::new() };
        event.record(&mut fields);
        // One event is one line, whatever a peer put into it.
        line += &printable(&fields.message);
        line += &printable(&fields.rest);
        if line.len() > LINE_BYTES_MAX {
            let cut = (0..=LINE_BYTES_MAX).rev().find(|&at| line.is_char_boundary(at));
            line.truncate(cut.unwrap_or(0));
            line.push('…');
        }
        line.push('\n');
        self.shared.push(&line);
    }
}

/// `message key=value key=value`.
struct Fields {
    message: String,
    rest: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.rest, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead, BufReader};

    use super::*;

    fn piped(journal: bool) -> (File, Log) {
        let (reader, writer) = ipc::pipe::pipe().unwrap();
        let out = Writer::start("test", File::from(writer), BUFFER_BYTES_MAX, None);
        (File::from(reader), Log::new(out, Level::Info, journal))
    }

    #[test]
    fn what_nobody_reads_is_dropped_and_counted() {
        let (reader, log) = piped(true);
        let line = format!("{}\n", "x".repeat(999));
        // Far more than the pipe and the buffer hold; nobody reads.
        for _ in 0..2000 {
            log.shared.push(&line);
        }
        let dropped = log.dropped();
        assert!(dropped > 1000, "{dropped}");
        // Now somebody reads: everything that was kept comes, and where lines are missing
        // their count. (The pipe may have taken some while others were dropped already.)
        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        let (mut kept, mut told) = (0, 0);
        let mut take = |line: String| {
            if let Some(count) = line.strip_prefix("<4>") {
                let count = count.strip_suffix(" lines of this log were dropped: nobody read them");
                told += count.unwrap().parse::<u64>().unwrap();
            } else {
                assert_eq!(line.len(), 999);
                kept += 1;
            }
            kept
        };
        while take(lines.next().unwrap()) < 2000 - dropped {}
        log.shared.push("the next\n");
        for line in lines.by_ref().take_while(|line| line != "the next") {
            take(line);
        }
        assert_eq!((kept, told), (2000 - dropped, dropped));
        assert_eq!(log.dropped(), dropped);
    }

    #[test]
    fn an_event_is_one_line() {
        let (reader, log) = piped(true);
        let subscriber = tracing_subscriber::registry().with(log.layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(name = "a\nb\u{1b}[31m", count = 3, "hello\nworld");
            tracing::debug!("not at this level");
            log.set_level(Level::Debug);
            tracing::debug!("but at this");
        });
        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        let expected = "<6>hello\\nworld name=\"a\\nb\\u{1b}[31m\" count=3";
        assert_eq!(lines.next().as_deref(), Some(expected));
        assert_eq!(lines.next().as_deref(), Some("<7>but at this"));
    }
}
