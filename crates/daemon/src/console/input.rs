//! The console's standard input, read without ever waiting.
//!
//! Standard input is shared with a shell, so its flags aren't ours to change.
//! A terminal or a pipe is opened again under /proc/self/fd, which gives an
//! open file of our own that may be non-blocking. Where that can't be done (a
//! socket, a terminal of another user) a thread reads and hands on through a
//! pipe. What epoll refuses (a file, /dev/null) is no console.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// Where lines come from.
pub(crate) struct Input {
    fd: OwnedFd,
    terminal: bool,
    line: Vec<u8>,
    /// The line at hand is too long: it is thrown away up to its end.
    too_long: bool,
    bytes: u64,
}

/// What one read brought.
pub(crate) enum Read {
    /// Lines, perhaps none.
    Lines(Vec<Result<String, String>>),
    /// Somebody else has the terminal now.
    Background,
    /// There is no more.
    End(Vec<Result<String, String>>),
}

impl Input {
    /// Standard input; `None` if it can't be a console.
    pub(crate) fn open() -> Option<Input> {
        let stdin = rustix::stdio::stdin();
        let kind = FileType::from_raw_mode(rustix::fs::fstat(stdin).ok()?.st_mode);
        if matches!(kind, FileType::RegularFile | FileType::Directory | FileType::BlockDevice) {
            return None;
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd = match rustix::fs::open("/proc/self/fd/0", flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(_) => relay()?,
        };
        let terminal = rustix::termios::isatty(stdin);
        Some(Input { fd, terminal, line: Vec::new(), too_long: false, bytes: 0 })
    }

    /// Is it a terminal?
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Bytes that were read.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Is it a terminal that another process group has in the foreground?
    pub(crate) fn is_background(&self) -> bool {
        self.terminal
            && rustix::termios::tcgetpgrp(&self.fd)
                .is_ok_and(|group| group != rustix::process::getpgrp())
    }

    /// Reads what is there.
    pub(crate) fn read(&mut self, bytes_max: usize) -> Read {
        let mut buffer = [0; 4096];
        let mut lines = Vec::new();
        match rustix::io::read(&self.fd, &mut buffer) {
            Ok(0) => {
                if !self.line.is_empty() {
                    self.end_line(&mut lines);
                }
                Read::End(lines)
            }
            Ok(count) => {
                self.bytes += count as u64;
                for &byte in &buffer[..count] {
                    match byte {
                        b'\n' => self.end_line(&mut lines),
                        byte if self.line.len() < bytes_max => self.line.push(byte),
                        _ => self.too_long = true,
                    }
                }
                Read::Lines(lines)
            }
            Err(Errno::AGAIN | Errno::INTR) => Read::Lines(lines),
            // A background process that reads its terminal (SIGTTIN is blocked).
            Err(Errno::IO) if self.is_background() => Read::Background,
            Err(_) => Read::End(lines),
        }
    }

    fn end_line(&mut self, lines: &mut Vec<Result<String, String>>) {
        let bytes = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.too_long) {
            lines.push(Err(format!(
                "console: a line of more than {} bytes; a shorter one would be right",
                bytes.len()
            )));
            return;
        }
        lines.push(
            String::from_utf8(bytes)
                .map_err(|_| "console: the line is not text; UTF-8 would be right".to_owned()),
        );
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A thread that waits in the read, and a pipe to hear from it.
fn relay() -> Option<OwnedFd> {
    let (reader, writer) = ipc::pipe::pipe().ok()?;
    let thread = std::thread::Builder::new().name("console".to_owned()).stack_size(64 * 1024);
    let run = move || {
        let mut buffer = [0; 4096];
        loop {
            let count = match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
                Ok(0) => return,
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    let stdin = rustix::stdio::stdin();
                    let mut fds =
                        [rustix::event::PollFd::new(&stdin, rustix::event::PollFlags::IN)];
                    let _ = rustix::event::poll(&mut fds, None);
                    continue;
                }
                Err(_) => return,
            };
            let mut bytes = &buffer[..count];
            while !bytes.is_empty() {
                match rustix::io::write(&writer, bytes) {
                    Ok(written) => bytes = &bytes[written..],
                    Err(Errno::INTR) => {}
                    Err(_) => return,
                }
            }
        }
    };
    thread.spawn(run).ok()?;
    // The read end is a description of our own.
    rustix::io::ioctl_fionbio(&reader, true).ok()?;
    Some(reader)
}
