//! Every descriptor of the process, by kind: `status -d`.
//!
//! Each is listed by whoever owns it, with what it counted: how often it woke the
//! loop, bytes in and out, and how often it had used up its share of a turn while
//! there was more. What the loop doesn't watch has no wakeups: an image, the write
//! end of a client's pipe. And what nobody has named is still listed, by what
//! `/proc/self/fd` says of it: so a descriptor that leaks is seen.
//!
//! Memory is bounded however many there are: the few fixed ones are copied, a
//! client's come from its place.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use serde_json::{Value, json};

/// What is counted at one descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Flow {
    /// How often it woke the loop.
    pub(crate) wakeups: u64,
    /// Bytes that were read.
    pub(crate) bytes_in: u64,
    /// Bytes that were written.
    pub(crate) bytes_out: u64,
    /// How often its share of a turn was used up while there was more.
    pub(crate) overruns: u64,
}

/// How many turns what came in waited at most: from the one in which it was reported
/// to the one in which it was carried out, both counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Waited {
    since: Option<u64>,
    most: u64,
}

impl Waited {
    /// The wait reported it in this turn.
    pub(crate) fn reported(&mut self, turn: u64) {
        self.since.get_or_insert(turn);
    }

    /// What was reported is carried out in this turn.
    pub(crate) fn served(&mut self, turn: u64) {
        if let Some(since) = self.since.take() {
            self.most = self.most.max(turn - since + 1);
        }
    }
}

/// One descriptor. What doesn't apply is `None`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Row {
    kind: &'static str,
    fd: Option<RawFd>,
    name: String,
    pid: Option<u32>,
    session: Option<u64>,
    wakeups: Option<u64>,
    bytes_in: Option<u64>,
    bytes_out: Option<u64>,
    overruns: Option<u64>,
    turns_max: Option<u64>,
}

impl Row {
    /// One that the loop may not watch, and that counts nothing.
    pub(crate) fn new(kind: &'static str, fd: impl AsFd, name: impl Into<String>) -> Row {
        Row { kind, fd: Some(fd.as_fd().as_raw_fd()), name: name.into(), ..Row::default() }
    }

    /// The time that the loop waits at most: it is an argument of the wait, so it
    /// has no descriptor.
    pub(crate) fn timer(wakeups: u64) -> Row {
        let name = "the wait's own limit".to_owned();
        Row { kind: "timer", name, wakeups: Some(wakeups), ..Row::default() }
    }

    /// It wakes the loop.
    pub(crate) fn woken(self, wakeups: u64) -> Row {
        Row { wakeups: Some(wakeups), ..self }
    }

    /// It is read.
    pub(crate) fn read(self, bytes: u64, overruns: u64) -> Row {
        Row { bytes_in: Some(bytes), overruns: Some(overruns), ..self }
    }

    /// It is written.
    pub(crate) fn written(self, bytes: u64) -> Row {
        Row { bytes_out: Some(bytes), ..self }
    }

    /// It is read and written.
    pub(crate) fn flow(self, flow: Flow) -> Row {
        self.woken(flow.wakeups).read(flow.bytes_in, flow.overruns).written(flow.bytes_out)
    }

    /// What comes in by it waits.
    pub(crate) fn waited(self, waited: Waited) -> Row {
        Row { turns_max: Some(waited.most), ..self }
    }

    /// It belongs to a session.
    pub(crate) fn of(self, pid: Option<u32>, session: u64) -> Row {
        Row { pid, session: Some(session), ..self }
    }

    /// Its number.
    pub(crate) fn fd(&self) -> Option<RawFd> {
        self.fd
    }

    /// For the answer.
    pub(crate) fn json(&self) -> Value {
        json!({
            "kind": self.kind,
            "fd": self.fd,
            "name": self.name,
            "pid": self.pid,
            "session": self.session,
            "wakeups": self.wakeups,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "overruns": self.overruns,
            "turns_max": self.turns_max,
        })
    }
}

/// One that nobody has named, by what the system says of it; `None`: there is none of
/// this number.
pub(crate) fn unnamed(fd: RawFd) -> Option<Row> {
    let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    let (kind, name) = kind(&target.to_string_lossy());
    let name = match fd {
        0 => "standard input".to_owned(),
        1 => "standard output".to_owned(),
        2 => "standard error".to_owned(),
        _ => name,
    };
    Some(Row { kind, fd: Some(fd), name, ..Row::default() })
}

/// The kind of what a link in `/proc/self/fd` points to, and its name: of a file
/// the last part of its path.
fn kind(target: &str) -> (&'static str, String) {
    let plain = |kind| (kind, String::new());
    match target {
        "anon_inode:[eventfd]" => plain("event"),
        "anon_inode:[eventpoll]" => plain("epoll"),
        "anon_inode:[pidfd]" => plain("process"),
        _ if target.starts_with("pipe:") => plain("pipe"),
        _ if target.starts_with("socket:") => plain("socket"),
        _ if target.starts_with("pidfd:") => plain("process"),
        _ if target.starts_with("/memfd:") => plain("memory"),
        _ => ("file", target.rsplit('/').next().unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_named_is_listed_by_what_it_is() {
        let (reader, _writer) = ipc::pipe::pipe().unwrap();
        let event = ipc::event::Event::new().unwrap();
        let of = |fd: RawFd| unnamed(fd).map(|row| row.kind);
        assert_eq!(of(reader.as_raw_fd()), Some("pipe"));
        assert_eq!(of(event.as_fd().as_raw_fd()), Some("event"));
        assert_eq!(of(1 << 20), None);
    }

    #[test]
    fn a_wait_is_counted_in_turns_from_the_first_report() {
        let mut waited = Waited::default();
        waited.served(1);
        assert_eq!(waited.most, 0);
        for (reported, served, most) in [(5, 5, 1), (6, 8, 3), (9, 10, 3)] {
            (reported..=served).for_each(|turn| waited.reported(turn));
            waited.served(served);
            assert_eq!(waited.most, most);
        }
    }

    #[test]
    fn kinds_of_links() {
        for (target, expected) in [
            ("pipe:[12]", ("pipe", "")),
            ("socket:[12]", ("socket", "")),
            ("/memfd:rtm (deleted)", ("memory", "")),
            ("/run/rtm/rtmd.lock", ("file", "rtmd.lock")),
            ("/dev/null", ("file", "null")),
        ] {
            assert_eq!(kind(target), (expected.0, expected.1.to_owned()), "{target}");
        }
    }
}
