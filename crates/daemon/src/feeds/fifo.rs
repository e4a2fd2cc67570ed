//! The FIFO `commands`: `echo 'route add …' > DIR/commands`. One line is one
//! transaction.
//!
//! **Writers come and go.** The daemon holds a writer of its own, so the last
//! one's close is no end of file, and the loop is never told of one.
//!
//! **Lines.** A write of up to 4096 bytes is one piece (pipe(7)), so lines of
//! several writers don't mix as long as each is written at once; that is what
//! `echo` does. A line has at most 512 bytes; what is longer is thrown away up to
//! its end and rejected once. A line whose end doesn't come within a second is
//! rejected, so that what a writer left half done is not put in front of the next
//! one's line. Bytes that are no text are rejected with their line.
//!
//! **A reader that doesn't read**: while the tables are held by somebody the FIFO
//! isn't read, and fills up; a writer then waits in its own call.

use std::path::Path;
use std::time::Instant;

use ipc::epoll::{Epoll, Interest};
use ipc::fifo::Reader;
use rtm_tables::Millis;
use rtm_tables::wire::RejectedBy;
use rustix::io::Errno;

use super::commands;
use crate::core::{Core, Requester};
use crate::inventory::{Row, Waited};
use crate::turn::TurnStats;
use crate::wakeup::Wakeup;

/// The longest line, without its end.
const LINE_BYTES_MAX: usize = 512;

/// What is read at once.
const READ_BYTES: usize = 4096;

/// Reads in one turn.
const READS_PER_TURN: usize = 8;

/// How long the rest of a line is waited for.
const PARTIAL_MS: Millis = 1_000;

/// The daemon's FIFO. Its name is removed when this is dropped.
pub(crate) struct Fifo {
    path: std::path::PathBuf,
    reader: Reader,
    lines: Lines,
    /// What was read and not yet looked at: time was up, or somebody has the
    /// tables.
    unread: Vec<u8>,
    unread_from: usize,
    /// When the line at hand must have ended.
    partial: Option<Millis>,
    paused: bool,
    pub(crate) waited: Waited,
}

impl Fifo {
    /// Makes it, or takes the one that a killed daemon left: who waits to open
    /// that for writing is then served. The directory's lock is held.
    ///
    /// # Errors
    /// There is none: one line says why.
    pub(crate) fn create(path: &Path, mode: u32) -> Result<Fifo, String> {
        let reader = match ipc::fifo::create(path, mode) {
            Ok(()) => Reader::open(path).map_err(|error| error.to_string())?,
            Err(ipc::fifo::Error::Exists { .. }) => {
                let reader = Reader::open(path).map_err(|error| error.to_string())?;
                let raw = rustix::fs::Mode::from_raw_mode(mode);
                rustix::fs::fchmod(&reader, raw).map_err(|errno| {
                    format!("{}: fchmod: {}", path.display(), ipc::errno_text(errno))
                })?;
                reader
            }
            Err(error) => return Err(error.to_string()),
        };
        Ok(Fifo {
            path: path.to_owned(),
            reader,
            lines: Lines::default(),
            unread: Vec::new(),
            unread_from: 0,
            partial: None,
            paused: false,
            waited: Waited::default(),
        })
    }

    /// Lets the loop watch it.
    pub(crate) fn watch(&self, epoll: &Epoll) -> Result<(), ipc::epoll::Error> {
        epoll.add(&self.reader, Wakeup::Fifo.number(), Interest::READ)
    }

    /// The end that is read, for `status -d`.
    pub(crate) fn row(&self, core: &Core, turns: &TurnStats) -> Row {
        let stats = &core.feeds.fifo;
        Row::new("fifo", &self.reader, self.path.display().to_string())
            .woken(turns.wakeups_by(Wakeup::Fifo))
            .read(stats.bytes, stats.overruns)
            .waited(self.waited)
    }

    /// When the end of a line must have come.
    pub(crate) fn poll_timeout(&self) -> Option<Millis> {
        self.partial
    }

    /// Time has passed: a line whose end didn't come is given up.
    pub(crate) fn handle_timeout(&mut self, core: &mut Core) {
        if self.partial.is_none_or(|partial| core.now < partial)
            || self.unread_from < self.unread.len()
        {
            return;
        }
        self.partial = None;
        if let Some(line) = self.lines.give_up() {
            let shown = commands::excerpt(&line);
            core.feeds.fifo.messages += 1;
            core.feeds.reject(
                RejectedBy::Fifo,
                0,
                format!("{shown}: the line's end did not come; a newline would be right"),
                core.now,
            );
        }
    }

    /// Takes lines until `until`. True: there is more.
    pub(crate) fn take_some(&mut self, core: &mut Core, epoll: &Epoll, until: Instant) -> bool {
        let mut late = false;
        for _ in 0..READS_PER_TURN {
            if self.unread_from == self.unread.len() {
                self.unread.resize(READ_BYTES, 0);
                self.unread_from = 0;
                match rustix::io::read(&self.reader, &mut self.unread) {
                    Ok(count) => {
                        self.unread.truncate(count);
                    }
                    Err(errno) => {
                        self.unread.clear();
                        if !matches!(errno, Errno::AGAIN | Errno::INTR) {
                            tracing::error!("fifo: read: {}", ipc::errno_text(errno));
                        }
                    }
                }
                if self.unread.is_empty() {
                    late = false;
                    break;
                }
            }
            if !core.may_change(Requester::Fifo) {
                self.pause(true, epoll);
                return false;
            }
            self.pause(false, epoll);
            late = !self.apply(core, until) || self.unread.len() == READ_BYTES;
            if Instant::now() >= until {
                break;
            }
        }
        self.partial = match self.lines.is_partial() {
            true => Some(self.partial.unwrap_or(core.now + PARTIAL_MS)),
            false => None,
        };
        core.feeds.fifo.overruns += u64::from(late);
        late
    }

    /// Executes the lines that were read; false: time was up before their end.
    fn apply(&mut self, core: &mut Core, until: Instant) -> bool {
        while self.unread_from < self.unread.len() {
            let (line, taken) = self.lines.next(&self.unread[self.unread_from..]);
            self.unread_from += taken;
            match line {
                // One line's part: nothing is due before its end.
                None => {}
                Some(Ok(line)) => {
                    self.partial = None;
                    commands::execute(core, RejectedBy::Fifo, 0, &line);
                    self.waited.served(core.turn);
                }
                Some(Err(bytes)) => {
                    self.partial = None;
                    core.feeds.fifo.messages += 1;
                    core.feeds.fifo.bytes += bytes as u64;
                    let text =
                        format!("a line of {bytes} bytes; at most {LINE_BYTES_MAX} would be right");
                    let now = core.now;
                    core.feeds.reject(RejectedBy::Fifo, 0, text, now);
                }
            }
            if Instant::now() >= until || !core.may_change(Requester::Fifo) {
                return self.unread_from == self.unread.len();
            }
        }
        true
    }

    fn pause(&mut self, paused: bool, epoll: &Epoll) {
        if self.paused == paused {
            return;
        }
        let interest = if paused { Interest::NONE } else { Interest::READ };
        match epoll.modify(&self.reader, Wakeup::Fifo.number(), interest) {
            Ok(()) => self.paused = paused,
            Err(error) => tracing::error!("fifo: {error}"),
        }
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Cuts lines out of bytes that come in any pieces.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
    /// Bytes of the line at hand: more than are kept if it is too long.
    bytes: usize,
}

impl Lines {
    /// Takes bytes up to the next line's end: the line, or how long it was if
    /// that was too long; and how many bytes were taken.
    fn next(&mut self, input: &[u8]) -> (Option<Result<Vec<u8>, usize>>, usize) {
        let end = input.iter().position(|&byte| byte == b'\n');
        let part = &input[..end.unwrap_or(input.len())];
        let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        self.bytes += part.len();
        if end.is_none() {
            return (None, part.len());
        }
        let line = std::mem::take(&mut self.line);
        let bytes = std::mem::take(&mut self.bytes);
        let result = if bytes > LINE_BYTES_MAX { Err(bytes) } else { Ok(line) };
        // Empty lines are nothing, and not counted.
        let result = Some(result).filter(|line| line.as_ref() != Ok(&Vec::new()));
        (result, part.len() + 1)
    }

    /// Is a line begun?
    fn is_partial(&self) -> bool {
        self.bytes > 0
    }

    /// The line that was begun is over.
    fn give_up(&mut self) -> Option<Vec<u8>> {
        let bytes = std::mem::take(&mut self.bytes);
        let line = std::mem::take(&mut self.line);
        (bytes > 0).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of these pieces: lines, or the length of a line too long.
    fn cut(pieces: &[&[u8]]) -> Vec<Result<Vec<u8>, usize>> {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let (line, taken) = lines.next(rest);
                out.extend(line);
                rest = &rest[taken..];
            }
        }
        out
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let long = vec![b'x'; 513];
        let text = [b"a\n\nbc\n".as_slice(), &long, b"\nd\n", &long[..512], b"\n"].concat();
        let whole = cut(&[&text]);
        assert_eq!(whole.len(), 5);
        assert_eq!(whole[0], Ok(b"a".to_vec()));
        assert_eq!(whole[2], Err(513));
        assert_eq!(whole[4], Ok(long[..512].to_vec()));
        for at in 0..text.len() {
            assert_eq!(cut(&[&text[..at], &text[at..]]), whole, "cut at {at}");
        }
    }

    #[test]
    fn a_line_without_end_keeps_little() {
        let mut lines = Lines::default();
        for _ in 0..1000 {
            assert_eq!(lines.next(&[b'y'; 4096]), (None, 4096));
        }
        assert!(lines.line.capacity() <= 2 * LINE_BYTES_MAX);
        assert_eq!(lines.give_up().map(|line| line.len()), Some(LINE_BYTES_MAX));
        assert!(!lines.is_partial());
    }
}
