//! Writing where nobody may read: a bounded buffer and a thread that empties
//! it into a descriptor.
//!
//! Standard output and error are shared with a shell, may be a pipe that nobody
//! reads, a terminal stopped with Ctrl-S, a file on a dead disk. Making them
//! non-blocking would change them for everybody who shares them, so a thread
//! waits in the write, and nobody else does. What doesn't fit into the buffer
//! is not taken: the log counts it as dropped, the console stops producing.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipc::event::Event;

/// The stack of a writer's thread: it only calls `write`.
const STACK_BYTES: usize = 64 * 1024;

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// The thread is writing what it took.
    writing: bool,
    /// Somebody waits for room.
    wanted: bool,
    /// No more will come: the thread ends when all is written.
    finished: bool,
    /// The other side is gone: everything is thrown away.
    broken: bool,
}

struct Shared {
    buffer: Mutex<Buffer>,
    changed: Condvar,
    bytes_max: usize,
    /// Told when there is room again.
    room: Option<Arc<Event>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        // A panic elsewhere leaves the buffer as valid as it was.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to a descriptor that may block.
#[derive(Clone)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
}

impl Writer {
    /// Starts the thread. Call it where signals are blocked already: the
    /// thread inherits that. `room` is told when a writer that found no room
    /// finds some.
    pub(crate) fn start(
        name: &str,
        out: impl Write + AsFd + Send + 'static,
        bytes_max: usize,
        room: Option<Arc<Event>>,
    ) -> Writer {
        let shared =
            Arc::new(Shared { buffer: Mutex::default(), changed: Condvar::new(), bytes_max, room });
        let writer = Writer { shared: Arc::clone(&shared) };
        let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        if thread.spawn(move || write_all(&shared, out)).is_err() {
            // Without a thread nothing can be written; the daemon runs on.
            writer.shared.lock().broken = true;
        }
        writer
    }

    /// Takes all of `bytes`, or nothing if there is no room.
    pub(crate) fn write(&self, bytes: &[u8]) -> bool {
        let mut buffer = self.shared.lock();
        if buffer.broken {
            return true;
        }
        if buffer.bytes.len() + bytes.len() > self.shared.bytes_max {
            buffer.wanted = true;
            return false;
        }
        let idle = buffer.bytes.is_empty() && !buffer.writing;
        buffer.bytes.extend_from_slice(bytes);
        drop(buffer);
        if idle {
            self.shared.changed.notify_all();
        }
        true
    }

    /// Is at least half of the buffer free? If not, `room` will be told.
    pub(crate) fn has_room(&self) -> bool {
        let mut buffer = self.shared.lock();
        let has = buffer.broken || buffer.bytes.len() <= self.shared.bytes_max / 2;
        buffer.wanted |= !has;
        has
    }

    /// Is the other side gone?
    #[cfg(test)]
    fn is_broken(&self) -> bool {
        self.shared.lock().broken
    }

    /// Waits at most `patience` until all is written, then lets go. What is
    /// written later is thrown away.
    pub(crate) fn finish(&self, patience: Duration) {
        let mut buffer = self.shared.lock();
        buffer.finished = true;
        self.shared.changed.notify_all();
        let _ = self.shared.changed.wait_timeout_while(buffer, patience, |buffer| {
            !buffer.bytes.is_empty() || buffer.writing
        });
    }
}

/// The thread: takes what is there, writes it, again.
fn write_all(shared: &Shared, mut out: impl Write + AsFd) {
    let mut taken = Vec::new();
    loop {
        let mut buffer = shared.lock();
        buffer.writing = false;
        shared.changed.notify_all();
        while buffer.bytes.is_empty() {
            if buffer.finished {
                return;
            }
            buffer = shared.changed.wait(buffer).unwrap_or_else(PoisonError::into_inner);
        }
        taken.clear();
        std::mem::swap(&mut taken, &mut buffer.bytes);
        buffer.writing = true;
        let wanted = std::mem::take(&mut buffer.wanted);
        drop(buffer);
        if let Some(room) = shared.room.as_ref().filter(|_| wanted) {
            // An eventfd of our own can't be full.
            let _ = room.notify();
        }
        if !write_patiently(&mut out, &taken) {
            let mut buffer = shared.lock();
            buffer.broken = true;
            buffer.bytes = Vec::new();
            buffer.writing = false;
            drop(buffer);
            shared.changed.notify_all();
            if let Some(room) = &shared.room {
                let _ = room.notify();
            }
            return;
        }
        // A burst's memory isn't kept.
        if taken.capacity() > shared.bytes_max / 4 {
            taken = Vec::new();
        }
    }
}

/// Writes everything, however long it takes; false: it can't be written.
/// Somebody who shares the open file may have made it non-blocking; then it is
/// waited for.
fn write_patiently(out: &mut (impl Write + AsFd), mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return false,
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let mut fds = [rustix::event::PollFd::new(out, rustix::event::PollFlags::OUT)];
                let _ = rustix::event::poll(&mut fds, None);
            }
            Err(_) => return false,
        }
    }
    out.flush().is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_does_not_fit_is_not_taken_and_room_is_told() {
        let (reader, writer) = ipc::pipe::pipe().unwrap();
        let room = Arc::new(Event::new().unwrap());
        let writer = Writer::start("test", File::from(writer), 100_000, Some(Arc::clone(&room)));
        let line = [b'x'; 1000];
        let mut taken = 0;
        // The pipe takes 64 KiB, the thread holds a piece, the buffer the rest.
        while writer.write(&line) || taken < 100 {
            taken += 1;
            assert!(taken < 1000, "nothing is bounded");
        }
        assert!(!writer.has_room());
        let before = Instant::now();
        writer.finish(Duration::from_millis(50));
        assert!(before.elapsed() >= Duration::from_millis(50), "nothing moved, yet it didn't wait");
        let mut bytes = Vec::new();
        File::from(reader).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() % 1000, 0);
        assert!(bytes.len() >= 100_000, "{}", bytes.len());
        assert!(room.take().unwrap() > 0);
    }

    #[test]
    fn a_reader_that_is_gone_swallows_everything() {
        ipc::signal::ignore_pipe();
        let (reader, writer) = ipc::pipe::pipe().unwrap();
        drop(reader);
        let writer = Writer::start("test", File::from(writer), 1000, None);
        assert!(writer.write(b"lost"));
        while !writer.is_broken() {
            std::thread::yield_now();
        }
        for _ in 0..100 {
            assert!(writer.write(&[b'x'; 900]));
        }
        writer.finish(Duration::from_secs(60));
    }
}
