//! Logs that never block.
//!
//! Events are formatted by whoever logs and put into a bounded buffer; a
//! thread of its own writes them to standard error. If nobody reads there (a
//! full pipe, a terminal stopped with Ctrl-S), the thread waits, the buffer
//! fills, further lines are dropped and counted, and the count is the first
//! line written when there is room again. The loop never waits, not even at
//! the end: [`Log::finish`] gives the thread a moment, then lets go.
//!
//! Under systemd (`JOURNAL_STREAM` names our standard error) a line begins with
//! its priority as `sd-daemon(3)` has it, and the journal adds the time; else
//! with the time in UTC and the level.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

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

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Lines dropped since the last that was taken.
    dropped: u64,
    /// The thread is writing what it took.
    writing: bool,
    finished: bool,
}

#[derive(Default)]
struct Shared {
    buffer: Mutex<Buffer>,
    changed: Condvar,
    dropped: AtomicU64,
    level: AtomicU8,
}

/// The daemon's hold on its log.
#[derive(Clone)]
pub(crate) struct Log {
    shared: Arc<Shared>,
}

impl Log {
    /// Starts the thread and makes this the log of the whole process.
    ///
    /// Call it where signals are blocked already: the thread inherits that.
    pub(crate) fn start(level: Level) -> Log {
        let log = Log::new(level);
        let shared = Arc::clone(&log.shared);
        let journal = is_journal();
        // Without the thread nothing is written; the daemon runs all the same.
        let _ = std::thread::Builder::new()
            .name("log".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || write_all(&shared, &mut std::io::stderr(), journal));
        let layer = LogLayer { shared: Arc::clone(&log.shared), journal };
        let subscriber = tracing_subscriber::registry().with(layer);
        let _ = tracing::subscriber::set_global_default(subscriber);
        log
    }

    fn new(level: Level) -> Log {
        let log = Log { shared: Arc::default() };
        log.set_level(level);
        log
    }

    /// Changes how much is logged.
    pub(crate) fn set_level(&self, level: Level) {
        self.shared.level.store(level as u8, Ordering::Relaxed);
    }

    /// Lines dropped because nobody read.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Gives the thread a moment to write what is left.
    pub(crate) fn finish(&self) {
        let mut buffer = self.shared.lock();
        buffer.finished = true;
        self.shared.changed.notify_all();
        let _ = self.shared.changed.wait_timeout_while(buffer, FINISH_WAIT, |buffer| {
            !buffer.bytes.is_empty() || buffer.writing
        });
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &str) {
        let mut buffer = self.lock();
        if buffer.bytes.len() + line.len() > BUFFER_BYTES_MAX {
            buffer.dropped += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        buffer.bytes.extend_from_slice(line.as_bytes());
        drop(buffer);
        self.changed.notify_all();
    }
}

/// The thread: takes what is there, writes it, again.
fn write_all(shared: &Shared, out: &mut (impl std::io::Write + AsFd), journal: bool) {
    let mut taken = Vec::new();
    loop {
        let mut buffer = shared.lock();
        while buffer.bytes.is_empty() {
            if buffer.finished {
                return;
            }
            buffer = shared.changed.wait(buffer).unwrap_or_else(PoisonError::into_inner);
        }
        taken.clear();
        if buffer.dropped > 0 {
            let mut line = String::new();
            begin(&mut line, Level::Warn, journal);
            let _ = writeln!(
                line,
                "{} lines of this log were dropped: nobody read them",
                buffer.dropped
            );
            taken.extend_from_slice(line.as_bytes());
            buffer.dropped = 0;
        }
        taken.append(&mut buffer.bytes);
        buffer.writing = true;
        drop(buffer);
        write_patiently(out, &taken);
        shared.lock().writing = false;
        shared.changed.notify_all();
    }
}

/// Writes everything, however long it takes. Somebody who shares the open file
/// may have made it non-blocking; then it is waited for. An error is the end of
/// this piece: there is nowhere to report it.
fn write_patiently(out: &mut (impl std::io::Write + AsFd), mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return,
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let mut fds = [rustix::event::PollFd::new(out, rustix::event::PollFlags::OUT)];
                let _ = rustix::event::poll(&mut fds, None);
            }
            Err(_) => return,
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
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    push_time(line, now);
    let _ = write!(line, " {:5} ", level.word());
}

/// `2026-11-21T07:00:00.123Z`. The calendar is computed with years that begin
/// in March, so that a leap day is the last of its year.
fn push_time(line: &mut String, since_1970: Duration) {
    let seconds = since_1970.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let days = days + 719_468; // From 0000-03-01.
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let milli = since_1970.subsec_millis();
    let _ =
        write!(line, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z");
}

struct LogLayer {
    shared: Arc<Shared>,
    journal: bool,
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
        begin(&mut line, Level::of(*event.metadata().level()), self.journal);
        let mut fields = Fields { message: String::new(), rest: String::new() };
        event.record(&mut fields);
        push_escaped(&mut line, &fields.message);
        push_escaped(&mut line, &fields.rest);
        if line.len() > LINE_BYTES_MAX {
            let cut = (0..=LINE_BYTES_MAX).rev().find(|&at| line.is_char_boundary(at));
            line.truncate(cut.unwrap_or(0));
            line.push('…');
        }
        line.push('\n');
        self.shared.push(&line);
    }
}

/// One event is one line, whatever a peer put into it.
fn push_escaped(line: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() {
            let _ = write!(line, "{}", c.escape_debug());
        } else {
            line.push(c);
        }
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
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"),
            (1_795_244_400, "2026-11-21T07:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            let mut line = String::new();
            push_time(&mut line, Duration::from_secs(seconds));
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn what_nobody_reads_is_dropped_and_counted() {
        let (reader, writer) = ipc::pipe::pipe().unwrap();
        let log = Log::new(Level::Info);
        let line = format!("{}\n", "x".repeat(999));
        let shared = Arc::clone(&log.shared);
        let mut out = std::fs::File::from(std::os::fd::OwnedFd::from(writer));
        let thread = std::thread::spawn(move || write_all(&shared, &mut out, true));
        // Far more than the pipe and the buffer hold; nobody reads.
        for _ in 0..2000 {
            log.shared.push(&line);
        }
        assert!(log.dropped() > 1000, "{}", log.dropped());
        let before = std::time::Instant::now();
        log.finish();
        assert!(before.elapsed() >= FINISH_WAIT, "it waited though nothing moved");
        // Now somebody reads: everything that was kept comes, then the count.
        let mut bytes = Vec::new();
        let mut reader = std::fs::File::from(std::os::fd::OwnedFd::from(reader));
        std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
        thread.join().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let kept = text.lines().filter(|line| line.starts_with('x')).count() as u64;
        assert_eq!(kept + log.dropped(), 2000);
        assert!(text.contains(&format!("<4>{} lines of this log were dropped", log.dropped())));
    }

    #[test]
    fn an_event_is_one_line() {
        let log = Log::new(Level::Info);
        let layer = LogLayer { shared: Arc::clone(&log.shared), journal: true };
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(name = "a\nb\u{1b}[31m", count = 3, "hello\nworld");
            tracing::debug!("not at this level");
            log.set_level(Level::Debug);
            tracing::debug!("but at this");
        });
        let text = String::from_utf8(log.shared.lock().bytes.clone()).unwrap();
        assert_eq!(text, "<6>hello\\nworld name=\"a\\nb\\u{1b}[31m\" count=3\n<7>but at this\n");
    }
}
