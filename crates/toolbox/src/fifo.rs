//! `ipc fifo`: named pipes.
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ipc::timer::Deadline;
use ipc::{Errno, fifo};
use rustix::event::{PollFd, PollFlags};

use crate::argument::{self, Waiting};
use crate::failure::{Failure, WAITED, output};
use crate::holders::Holders;
use crate::pipe::show_capacity;

/// What to do with a FIFO.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Make FIFOs
    ///
    /// Example: ipc fifo create /tmp/commands --mode 0620
    Create(Create),
    /// Write into it, waiting for a reader
    ///
    /// Example: ipc fifo write /tmp/commands 'route show'
    Write(Write),
    /// Read it until its last writer has closed it
    ///
    /// Example: ipc fifo read /tmp/commands --follow
    Read(Read),
    /// Show how much it holds, or make it hold more while somebody has it open
    ///
    /// Example: ipc fifo cap /tmp/commands 1M
    Cap(Cap),
    /// Remove FIFOs; who has one open goes on
    ///
    /// Example: ipc fifo rm /tmp/commands
    #[command(visible_alias = "remove")]
    Rm(Several),
}

#[derive(Args)]
pub(crate) struct Create {
    /// Where
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Permissions, exactly, whatever the umask
    #[arg(long, value_name = "M", value_parser = argument::mode, default_value = "0600")]
    mode: u32,
}

#[derive(Args)]
pub(crate) struct Write {
    /// The FIFO
    path: PathBuf,
    /// The text, or - for standard input
    #[arg(value_name = "TEXT|-", allow_hyphen_values = true)]
    text: String,
    /// Say how much was written, on standard error
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Args)]
pub(crate) struct Read {
    /// The FIFO
    path: PathBuf,
    /// Go on after the last writer has closed it
    #[arg(long)]
    follow: bool,
    /// Say how much was read and that it ended, on standard error
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Args)]
pub(crate) struct Cap {
    /// The FIFO
    path: PathBuf,
    /// The wanted capacity (1M); rounded up to a power of two
    #[arg(value_name = "N", value_parser = argument::size)]
    wanted: Option<u64>,
    /// JSON
    #[arg(short = 'J', long, short_alias = 'j')]
    json: bool,
}

#[derive(Args)]
pub(crate) struct Several {
    /// The FIFOs
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

impl Verb {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "fifo create",
            Self::Write(_) => "fifo write",
            Self::Read(_) => "fifo read",
            Self::Cap(_) => "fifo cap",
            Self::Rm(_) => "fifo rm",
        }
    }
}

pub(crate) fn run(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create(create) => {
            for path in &create.paths {
                fifo::create(path, create.mode)?;
            }
            Ok(())
        }
        Verb::Write(write) => run_write(write),
        Verb::Read(read) => run_read(read),
        Verb::Cap(cap) => run_cap(cap),
        Verb::Rm(several) => {
            for path in &several.paths {
                fifo::remove(path)?;
            }
            Ok(())
        }
    }
}

fn too_late(path: &Path, waiting: &Waiting, what: &str) -> Failure {
    let path = path.display();
    let text = if waiting.nonblock {
        format!("{path}: {what}; without --nonblock it waits")
    } else {
        format!("{path}: {what}: timed out")
    };
    Failure::Told { code: WAITED, text }
}

/// Whether it is ready within the time.
fn ready(fd: impl AsFd, flags: PollFlags, waiting: &Waiting) -> Result<bool, Failure> {
    let deadline = deadline(waiting);
    loop {
        let mut fds = [PollFd::new(&fd, flags)];
        match rustix::event::poll(&mut fds, deadline.remaining().as_ref()) {
            Ok(0) if deadline.passed() => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(ipc::SystemError::new("poll", "fifo", errno).into()),
        }
    }
}

fn deadline(waiting: &Waiting) -> Deadline {
    if waiting.nonblock {
        return Deadline::after(Some(core::time::Duration::ZERO));
    }
    Deadline::after(waiting.timeout)
}

/// Opens it to write as soon as somebody reads. There is no timed open: with a
/// time limit it tries again and again.
fn open_to_write(path: &Path, waiting: &Waiting) -> Result<OwnedFd, Failure> {
    if !waiting.nonblock && waiting.timeout.is_none() {
        return Ok(fifo::open_writer_waiting(path)?);
    }
    let deadline = deadline(waiting);
    loop {
        match fifo::open_writer(path) {
            Err(fifo::Error::NoReader { .. }) if !deadline.passed() => {
                std::thread::sleep(core::time::Duration::from_millis(5));
            }
            Err(fifo::Error::NoReader { .. }) => {
                return Err(too_late(path, waiting, "nobody reads it"));
            }
            other => return Ok(other?),
        }
    }
}

fn run_write(write: &Write) -> Result<(), Failure> {
    let path = &write.path;
    // Not before somebody reads: standard input isn't taken for nothing.
    let fifo = open_to_write(path, &write.waiting)?;
    rustix::io::ioctl_fionbio(&fifo, true)
        .map_err(|errno| ipc::SystemError::new("ioctl(FIONBIO)", path.display(), errno))?;
    let mut written = 0_u64;
    let mut put = |bytes: &[u8]| -> Result<(), Failure> {
        let mut left = bytes;
        while !left.is_empty() {
            match rustix::io::write(&fifo, left) {
                Ok(count) => {
                    written += count as u64;
                    left = &left[count..];
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !ready(&fifo, PollFlags::OUT, &write.waiting)? {
                        let what = format!("full, {written} bytes written");
                        return Err(too_late(path, &write.waiting, &what));
                    }
                }
                Err(Errno::PIPE) => {
                    return Err(Failure::refused(format!(
                        "{}: its reader has gone after {written} bytes (EPIPE; a program that \
                         doesn't ignore SIGPIPE dies of it)",
                        path.display()
                    )));
                }
                Err(errno) => {
                    return Err(ipc::SystemError::new("write", path.display(), errno).into());
                }
            }
        }
        Ok(())
    };
    if write.text == "-" {
        let mut piece = vec![0; 65536];
        let mut stdin = std::io::stdin().lock();
        loop {
            match std::io::Read::read(&mut stdin, &mut piece) {
                Ok(0) => break,
                Ok(count) => put(&piece[..count])?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::refused(format!("standard input: {error}"))),
            }
        }
    } else {
        put(write.text.as_bytes())?;
    }
    if write.verbose {
        eprintln!("Wrote {written} bytes");
    }
    Ok(())
}

fn run_read(read: &Read) -> Result<(), Failure> {
    let path = &read.path;
    // Non-blocking, and then waited for: a FIFO that nobody has written yet is
    // neither readable nor at its end.
    let fifo = fifo::open_reader_nonblocking(path)?;
    // A writer of our own keeps the end of file away.
    let _own = if read.follow { Some(fifo::open_writer(path)?) } else { None };
    let mut bytes = vec![0; 65536];
    let mut total = 0_u64;
    loop {
        if !ready(&fifo, PollFlags::IN, &read.waiting)? {
            let what = if total == 0 { "nothing to read" } else { "nothing more to read" };
            return Err(too_late(path, &read.waiting, what));
        }
        match rustix::io::read(&fifo, &mut bytes) {
            Ok(0) => break,
            Ok(count) => {
                total += count as u64;
                output(&bytes[..count])?;
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(ipc::SystemError::new("read", path.display(), errno).into()),
        }
    }
    if read.verbose {
        eprintln!("Read {total} bytes; end of file: its last writer has closed it");
    }
    Ok(())
}

fn run_cap(cap: &Cap) -> Result<(), Failure> {
    let fifo = fifo::open_reader_nonblocking(&cap.path)?;
    show_capacity(&fifo, cap.wanted, cap.json)?;
    let metadata = rustix::fs::fstat(&fifo)
        .map_err(|errno| ipc::SystemError::new("fstat", cap.path.display(), errno))?;
    let own = std::process::id() as i32;
    if cap.wanted.is_some() && Holders::now().of(&metadata).iter().all(|pid| *pid == own) {
        eprintln!(
            "{}: nobody else has it open, so its buffer goes with this command; the next one is new",
            cap.path.display()
        );
    }
    Ok(())
}
