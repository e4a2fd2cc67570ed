//! What can be wrong with a file, and where.

use std::fmt;
use std::io;

/// A place in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// A line, counted from 1.
    Line(u64),
    /// A byte of the unpacked stream, counted from 0.
    Byte(u64),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Line(line) => write!(f, "line {line}"),
            At::Byte(byte) => write!(f, "byte {byte} of the unpacked stream"),
        }
    }
}

/// Why a file, or one entry of it, can't be taken.
#[derive(Debug)]
pub struct FileError {
    /// Where.
    pub at: At,
    /// Why.
    pub kind: ErrorKind,
}

/// The reasons.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// This entry is wrong; the text says why and what would be right.
    Entry(String),
    /// The compressed stream ends before its end.
    Truncated {
        /// `gzip`, `zstd` or `bzip2`.
        compression: &'static str,
    },
    /// The compressed stream is damaged, or something else follows it.
    Corrupt {
        /// `gzip`, `zstd`, `bzip2`, `JSON`, `MRT` or `ip-dump`.
        what: &'static str,
        /// What the decoder says.
        why: String,
    },
    /// It unpacks to more than the cap.
    TooLarge {
        /// The cap in bytes.
        bytes_max: u64,
    },
    /// A line, or an element of a JSON array, is longer than any valid one.
    TooLong {
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// A whole dump, but not one that can be taken: the text says why and what
    /// would be right.
    Unusable(String),
    /// The last line, or JSON itself, is not finished.
    Unfinished,
    /// A list of prefixes, and nobody said which next hops they have.
    NoNextHops,
    /// No format fits.
    UnknownFormat,
    /// Reading failed.
    Read(io::Error),
}

impl FileError {
    /// Can reading go on behind it? A wrong entry is one entry; whatever is
    /// wrong with the stream is the end of it.
    pub fn is_entry(&self) -> bool {
        matches!(self.kind, ErrorKind::Entry(_))
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ErrorKind::NoNextHops => f.write_str(
                "a list of prefixes has no next hops; --via GW --dev LINK or --spread would be right",
            ),
            ErrorKind::UnknownFormat => write!(
                f,
                "{}: no known format; a list of prefixes, lines of 'ip route', its JSON, batch lines, 'ip route save' or an MRT dump would be right",
                self.at
            ),
            kind => {
                write!(f, "{}: ", self.at)?;
                match kind {
                    ErrorKind::Entry(why) | ErrorKind::Unusable(why) => f.write_str(why),
                    ErrorKind::Truncated { compression } => {
                        write!(f, "the {compression} stream is cut off; a whole file would be right")
                    }
                    ErrorKind::Corrupt { what, why } => {
                        write!(f, "the {what} stream is damaged ({why})")
                    }
                    ErrorKind::TooLarge { bytes_max } => {
                        write!(f, "the file unpacks to more than {bytes_max} bytes")
                    }
                    ErrorKind::TooLong { bytes_max } => {
                        write!(f, "the entry has more than {bytes_max} bytes")
                    }
                    ErrorKind::Unfinished => f.write_str("the file ends within an entry"),
                    ErrorKind::Read(error) => write!(f, "reading failed: {error}"),
                    ErrorKind::NoNextHops
                    | ErrorKind::UnknownFormat => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for FileError {}
