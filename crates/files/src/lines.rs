//! Lines of the unpacked stream, numbered, of bounded length.

use std::io::Read;

use crate::error::{At, ErrorKind, FileError};
use crate::unpack::Unpacked;

/// The longest line or JSON element: a group of 512 next hops takes less.
pub(crate) const ENTRY_BYTES_MAX: usize = 64 * 1024;

/// Unpacked at once. Larger than any entry, so an entry that doesn't fit is
/// too long.
const BUFFER_BYTES: usize = 256 * 1024;

/// A window on the unpacked stream.
pub(crate) struct Lines<R: Read> {
    unpacked: Unpacked<R>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The stream's offset of `buffer[0]`.
    offset: u64,
    /// The number of the line that [`Lines::line`] gave last.
    number: u64,
    ended: bool,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(unpacked: Unpacked<R>) -> Lines<R> {
        let buffer = vec![0; BUFFER_BYTES];
        Lines { unpacked, buffer, start: 0, end: 0, offset: 0, number: 0, ended: false }
    }

    pub(crate) fn unpacked(&self) -> &Unpacked<R> {
        &self.unpacked
    }

    /// The stream may unpack to this.
    pub(crate) fn set_bytes_max(&mut self, bytes_max: u64) {
        self.unpacked.set_bytes_max(bytes_max);
    }

    /// The number of the current line.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The stream's offset of what comes next.
    pub(crate) fn position(&self) -> u64 {
        self.offset + self.start as u64
    }

    /// What is there without reading more.
    pub(crate) fn window(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads more behind the window; false at the end of the stream.
    pub(crate) fn more(&mut self) -> Result<bool, FileError> {
        if self.ended {
            return Ok(false);
        }
        if self.start > 0 && self.end > self.buffer.len() - ENTRY_BYTES_MAX {
            self.buffer.copy_within(self.start..self.end, 0);
            self.offset += self.start as u64;
            self.end -= self.start;
            self.start = 0;
        }
        let read = self.unpacked.read(&mut self.buffer[self.end..])?;
        self.end += read;
        self.ended = read == 0;
        Ok(read > 0)
    }

    /// Moves behind `bytes` of the window.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// Finds the next line, without its end: its place in the buffer, for
    /// [`Lines::bytes`]. `None` at the end of the stream.
    pub(crate) fn line(&mut self) -> Result<Option<(usize, usize)>, FileError> {
        let mut seen = 0;
        loop {
            let window = &self.buffer[self.start + seen..self.end];
            let newline = memchr::memchr(b'\n', window);
            let len = match newline {
                Some(at) => seen + at,
                None => {
                    seen = self.end - self.start;
                    if seen > ENTRY_BYTES_MAX {
                        return Err(self.too_long());
                    }
                    if self.more()? {
                        continue;
                    }
                    if seen == 0 {
                        return Ok(None);
                    }
                    seen
                }
            };
            if len > ENTRY_BYTES_MAX {
                return Err(self.too_long());
            }
            self.number += 1;
            let start = self.start;
            self.consume(len + 1);
            let carriage_return = len > 0 && self.buffer[start + len - 1] == b'\r';
            return Ok(Some((start, start + len - usize::from(carriage_return))));
        }
    }

    /// Appends the next `count` bytes to `out`; false: the stream ended before.
    pub(crate) fn take(&mut self, count: usize, out: &mut Vec<u8>) -> Result<bool, FileError> {
        let mut missing = count;
        loop {
            let window = self.window();
            let taken = window.len().min(missing);
            out.extend_from_slice(&window[..taken]);
            self.consume(taken);
            missing -= taken;
            if missing == 0 {
                return Ok(true);
            }
            if !self.more()? {
                return Ok(false);
            }
        }
    }

    /// The bytes of a line that was just found.
    pub(crate) fn bytes(&self, place: (usize, usize)) -> &[u8] {
        &self.buffer[place.0..place.1]
    }

    fn too_long(&self) -> FileError {
        let kind = ErrorKind::TooLong { bytes_max: ENTRY_BYTES_MAX };
        FileError { at: At::Line(self.number + 1), kind }
    }
}
