//! How a tool ends when it can't do what was asked: one line that says what,
//! where, why, and what would be right; and the exit code.
use core::fmt::Display;
use std::io::{self, Write};

use ipc::{Errno, ring, sem, shm, sysv};

/// Usage: syntax, values out of range, names that can be none.
pub(crate) const USAGE: u8 = 1;
/// Refused by the system.
pub(crate) const REFUSED: u8 = 2;
/// Timed out, or would have to wait.
pub(crate) const WAITED: u8 = 4;

/// Why a tool ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// With one line.
    Told {
        /// Exit code.
        code: u8,
        /// The line, without `ipc: <what>: `.
        text: String,
    },
    /// Standard output was closed: not worth a word.
    OutputClosed,
    /// A command that was run for the user ended so.
    Ended {
        /// Its exit code.
        code: u8,
    },
}

impl Failure {
    /// The user's mistake.
    pub(crate) fn usage(text: impl Display) -> Self {
        Self::Told { code: USAGE, text: text.to_string() }
    }

    /// The system's refusal.
    pub(crate) fn refused(text: impl Display) -> Self {
        Self::Told { code: REFUSED, text: text.to_string() }
    }
}

/// Errors of the crate become failures: the code follows from the errno, the
/// advice from the case.
impl<E: Into<ipc::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let text = match advice(&error) {
            Some(advice) => format!("{error}; {advice}"),
            None => error.to_string(),
        };
        Self::Told { code: code(&error), text }
    }
}

fn code(error: &ipc::Error) -> u8 {
    match error {
        ipc::Error::Mq(ipc::mq::Error::BadName { .. } | ipc::mq::Error::BadPriority { .. })
        | ipc::Error::Shm(shm::Error::BadName { .. } | shm::Error::BehindEnd { .. })
        | ipc::Error::Sem(sem::Error::BadName { .. } | sem::Error::TooHigh { .. })
        | ipc::Error::Ring(
            ring::Error::BadCapacity { .. }
            | ring::Error::OtherFraming { .. }
            | ring::Error::Object { reason: shm::Error::BadName { .. } },
        )
        | ipc::Error::Catcher(ipc::catcher::Error::NotCatchable { .. })
        | ipc::Error::SysV(
            sysv::Error::BadType { .. }
            | sysv::Error::NoSuchNumber { .. }
            | sysv::Error::TooHigh { .. },
        ) => return USAGE,
        _ => {}
    }
    match error.errno() {
        Errno::AGAIN | Errno::TIMEDOUT | Errno::NOMSG => WAITED,
        _ => REFUSED,
    }
}

fn advice(error: &ipc::Error) -> Option<&'static str> {
    use ipc::mq;
    Some(match error {
        ipc::Error::Mq(mq::Error::Exists { .. })
        | ipc::Error::Shm(shm::Error::Exists { .. })
        | ipc::Error::Sem(sem::Error::Exists { .. })
        | ipc::Error::Ring(ring::Error::Object { reason: shm::Error::Exists { .. } })
        | ipc::Error::SysV(sysv::Error::Exists { .. }) => {
            "without --excl the existing one is used; rm removes it"
        }
        ipc::Error::Mq(mq::Error::Missing { .. })
        | ipc::Error::Shm(shm::Error::Missing { .. })
        | ipc::Error::Sem(sem::Error::Missing { .. })
        | ipc::Error::Ring(ring::Error::Object { reason: shm::Error::Missing { .. } })
        | ipc::Error::SysV(sysv::Error::Missing { .. }) => {
            "create makes one, ls shows what is there"
        }
        ipc::Error::Mq(mq::Error::NotPermitted { .. })
        | ipc::Error::Shm(shm::Error::NotPermitted { .. })
        | ipc::Error::Sem(sem::Error::NotPermitted { .. })
        | ipc::Error::Ring(ring::Error::Object { reason: shm::Error::NotPermitted { .. } })
        | ipc::Error::SysV(sysv::Error::NotPermitted { .. }) => {
            "stat shows owner and mode, who owns it can change them"
        }
        ipc::Error::Mq(mq::Error::BadName { .. })
        | ipc::Error::Shm(shm::Error::BadName { .. })
        | ipc::Error::Sem(sem::Error::BadName { .. })
        | ipc::Error::Ring(ring::Error::Object { reason: shm::Error::BadName { .. } }) => {
            "a name is like /name"
        }
        ipc::Error::Mq(mq::Error::Full { .. }) => "recv takes one out, --timeout waits",
        ipc::Error::Mq(mq::Error::Empty { .. }) => "without --nonblock it waits for a message",
        ipc::Error::Mq(mq::Error::TooLong { .. }) => "create makes one with a larger --msgsize",
        ipc::Error::Mq(mq::Error::TooLarge { .. }) => {
            "ask for less, or with CAP_SYS_RESOURCE, or raise the limit"
        }
        ipc::Error::Mq(mq::Error::TooManyQueues { .. })
        | ipc::Error::SysV(sysv::Error::TooMany { .. }) => {
            "rm removes one, ls --limits shows the limit and what is used"
        }
        ipc::Error::Ring(ring::Error::Damaged { .. }) => "rm and create make a new one",
        ipc::Error::Ring(ring::Error::OtherFraming { framing, .. }) => match *framing {
            "bytes" => "leave out --messages",
            _ => "add --messages",
        },
        ipc::Error::Fifo(ipc::fifo::Error::Exists { .. }) => "fifo rm removes a FIFO",
        ipc::Error::Fifo(ipc::fifo::Error::System(error)) if error.errno == Errno::NOENT => {
            "fifo create makes one"
        }
        ipc::Error::Fifo(ipc::fifo::Error::NotAFifo { .. }) => "fifo create makes one",
        ipc::Error::Pipe(ipc::pipe::Error::TooLarge { .. }) => {
            "ask for less, or with CAP_SYS_RESOURCE, or raise the limit"
        }
        ipc::Error::Pipe(ipc::pipe::Error::TooFull { .. }) => "read it first, or ask for more",
        ipc::Error::Pidfd(ipc::pidfd::Error::QueueFull { .. }) => {
            "the receiver has to take some first"
        }
        ipc::Error::Sem(sem::Error::WouldBlock { .. }) => "without --nonblock it waits for a post",
        ipc::Error::SysV(sysv::Error::NoMessage { .. }) => "without --nonblock it waits for one",
        ipc::Error::SysV(sysv::Error::WouldBlock { .. }) => "without --nonblock it waits",
        _ => return None,
    })
}

/// What is wrong with a command line, in one line: clap's own text has several.
pub(crate) fn one_line(text: &str, command: &str) -> String {
    let mut lines = text.lines().map(str::trim);
    let what = lines.next().unwrap_or_default();
    let mut what = what.strip_prefix("error: ").unwrap_or(what).to_owned();
    if what.ends_with(':') {
        for missing in lines.by_ref().take_while(|line| !line.is_empty()) {
            what = format!("{what} {missing}");
        }
    }
    let after = |prefix| text.lines().find_map(|line| line.trim().strip_prefix(prefix));
    if let Some(values) = after("[possible values: ") {
        return format!("{what}; one of {} would be right", values.trim_end_matches(']'));
    }
    match (after("tip: "), after("Usage: ")) {
        (Some(tip), _) => format!("{what}; {tip}"),
        (None, Some(usage)) => format!("{what}; usage: {usage}"),
        (None, None) if command.is_empty() => format!("{what}; 'ipc --help' shows what there is"),
        (None, None) => format!("{what}; 'ipc {command} --help' shows what there is"),
    }
}

/// Writes content to standard output, byte for byte, at once.
pub(crate) fn output(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::OutputClosed
        } else {
            Failure::refused(format!("standard output: {error}"))
        }
    })
}

/// Writes one line to standard output.
pub(crate) fn line(text: impl Display) -> Result<(), Failure> {
    output(format!("{text}\n").as_bytes())
}

/// Says something on standard error about content that has just been written.
/// Where both streams are one (a terminal), on a line of its own.
pub(crate) fn remark(content: &[u8], text: impl Display) {
    let place = |stream| rustix::fs::fstat(stream).map(|s| (s.st_dev, s.st_ino)).ok();
    let same = place(rustix::stdio::stdout()) == place(rustix::stdio::stderr());
    let begun = content.last().is_some_and(|last| *last != b'\n');
    let newline = if same && begun { "\n" } else { "" };
    eprintln!("{newline}{text}");
}

/// What the system said of something that was to be opened, read or written.
pub(crate) fn refused(what: impl Display) -> impl FnOnce(io::Error) -> Failure {
    move |error| {
        // Some are not the system's: a name with a NUL in it, a write of nothing.
        let why = Errno::from_io_error(&error).map(ipc::errno_text);
        Failure::refused(format!("{what}: {}", why.unwrap_or_else(|| error.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_systems_is_said_as_it_is() {
        let told = |error: io::Error| match refused("it")(error) {
            Failure::Told { code, text } => (code, text),
            other => panic!("{other:?}"),
        };
        let missing = io::Error::from(Errno::NOENT);
        assert_eq!(told(missing), (REFUSED, "it: No such file or directory".to_owned()));
        assert_eq!(told(io::Error::other("a NUL")), (REFUSED, "it: a NUL".to_owned()));
    }
}
