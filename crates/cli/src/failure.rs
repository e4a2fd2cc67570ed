//! How a command ends when it doesn't end well: an exit code and one line.

use std::fmt;
use std::io;

/// Exit code: usage, syntax, bad data in a file, a failed batch.
pub(crate) const USAGE: u8 = 1;
/// Exit code: refused by the daemon or the system.
pub(crate) const REFUSED: u8 = 2;
/// Exit code: timed out, or not all agreed.
pub(crate) const TIMED_OUT: u8 = 4;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// With an exit code and a line, which follows `rtm: `.
    Said {
        /// The exit code.
        code: u8,
        /// The line.
        line: String,
    },
    /// With an exit code, everything having been said.
    Quiet(u8),
    /// Nobody reads the output any more: nothing to say, and no failure.
    ClosedPipe,
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// Wrong usage.
    pub(crate) fn usage(line: impl fmt::Display) -> Failure {
        Failure::Said { code: USAGE, line: line.to_string() }
    }

    /// The daemon or the system said no.
    pub(crate) fn refused(line: impl fmt::Display) -> Failure {
        Failure::Said { code: REFUSED, line: line.to_string() }
    }

    /// It took too long, or copies differ.
    pub(crate) fn timed_out(line: impl fmt::Display) -> Failure {
        Failure::Said { code: TIMED_OUT, line: line.to_string() }
    }

    /// A command of a later version.
    pub(crate) fn not_in_this_version(what: &str) -> Failure {
        Failure::usage(format_args!("{what}: not in this version"))
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::Said { code, .. } | Failure::Quiet(code) => *code,
            Failure::ClosedPipe => 0,
        }
    }
}

impl From<rtm_client::Error> for Failure {
    fn from(error: rtm_client::Error) -> Failure {
        Failure::Said { code: error.exit_class() as u8, line: error.to_string() }
    }
}

impl From<rtm_model::text::TextError> for Failure {
    fn from(error: rtm_model::text::TextError) -> Failure {
        Failure::usage(error)
    }
}

/// An error of standard output; files of the user's say more (see
/// [`file_error`]).
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::ClosedPipe;
        }
        Failure::refused(format_args!("standard output: {}", plain(&error)))
    }
}

/// An error of a file that the user named.
pub(crate) fn file_error(path: &str, error: &io::Error) -> Failure {
    Failure::refused(format_args!("{path}: {}", plain(error)))
}

/// The system's text without the number that Rust appends.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_failure() {
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).code(), 0);
        assert_eq!(Failure::from(io::Error::from_raw_os_error(28)).code(), REFUSED);
    }

    #[test]
    fn errors_have_no_numbers() {
        assert_eq!(plain(&io::Error::from_raw_os_error(2)), "No such file or directory");
    }
}
