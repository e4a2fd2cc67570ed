//! `ipc pipe`: unnamed pipes between children, copies without copying, and how
//! much a pipe holds.
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use clap::{Args, Subcommand};
use ipc::child::{self, Change};
use ipc::{Errno, pipe};
use rustix::process::Pid;

use crate::argument::{self, descriptor};
use crate::failure::{Failure, output, refused};
use crate::table::{Cell, print_fields};

/// What to do with pipes.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Run commands with pipes between them, and say how each ended and what went through
    ///
    /// Example: ipc pipe run 'sort' 'uniq -c' --input - < words
    Run(Run),
    /// Copy standard input to standard output and into files, by tee and splice where both are pipes
    ///
    /// Example: make 2>&1 | ipc pipe tee build.log | grep error
    Tee(Tee),
    /// Show how much a pipe holds, or make one hold more
    ///
    /// Example: ipc pipe cap 1M
    Cap(Cap),
}

#[derive(Args)]
pub(crate) struct Run {
    /// Commands of the shell: the standard output of each is the standard input of the next
    #[arg(value_name = "CMD", required = true)]
    commands: Vec<String>,
    /// Write this text to the first one's standard input and close it; -: our own standard input
    #[arg(long, value_name = "TEXT|-", allow_hyphen_values = true)]
    input: Option<String>,
    /// End with the code of the last command that failed, not with the last command's
    #[arg(long)]
    pipefail: bool,
    /// Say nothing about how they ended
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Args)]
pub(crate) struct Tee {
    /// Files to write, too
    files: Vec<PathBuf>,
    /// Append to the files
    #[arg(short, long)]
    append: bool,
    /// Say how much went through and how, on standard error
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Args)]
pub(crate) struct Cap {
    /// The wanted capacity (1M); rounded up to a power of two
    #[arg(value_name = "N", value_parser = argument::size)]
    wanted: Option<u64>,
    /// The pipe of another process, by its descriptor, instead of a new one
    #[arg(long, value_name = "PID:FD", value_parser = descriptor)]
    of: Option<(u32, u32)>,
    /// JSON
    #[arg(short = 'J', long, short_alias = 'j')]
    json: bool,
}

impl Verb {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "pipe run",
            Self::Tee(_) => "pipe tee",
            Self::Cap(_) => "pipe cap",
        }
    }
}

pub(crate) fn run(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Run(run) => run_run(run),
        Verb::Tee(tee) => run_tee(tee),
        Verb::Cap(cap) => run_cap(cap),
    }
}

/// How much is moved by one call at most; a pipe's capacity limits it further.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// Lets a thread of our own move bytes into a pipe, and close it. What it gives
/// tells how many they were, before the pipe is closed: whoever has seen the end
/// of the file finds it there.
fn moving(to: OwnedFd, all: impl FnOnce(&mut File) -> u64 + Send + 'static) -> Receiver<u64> {
    let (told, moved) = mpsc::channel();
    std::thread::spawn(move || {
        let mut to = File::from(to);
        _ = told.send(all(&mut to));
        drop(to);
    });
    moved
}

/// Moves everything from one pipe to the next until the end of file, or until
/// nobody reads the next any more (then the first one's writer gets its SIGPIPE
/// as soon as both our ends are closed).
fn relay(from: OwnedFd, to: OwnedFd) -> Receiver<u64> {
    moving(to, move |to| {
        let mut moved = 0;
        while let Ok(count @ 1..) = pipe::splice(&from, &*to, PIECE_BYTES_MAX) {
            moved += count as u64;
        }
        moved
    })
}

/// Writes the text, or our standard input, into the first child's standard
/// input, and closes it.
fn feed(input: &str, to: OwnedFd) -> Receiver<u64> {
    let text = input.to_owned();
    moving(to, move |to| {
        let mut moved = 0;
        if text != "-" {
            let mut left = text.as_bytes();
            while let Ok(count @ 1..) = to.write(left) {
                moved += count as u64;
                left = &left[count..];
            }
            return moved;
        }
        let mut piece = vec![0; 65536];
        let mut stdin = std::io::stdin().lock();
        while let Ok(count @ 1..) = stdin.read(&mut piece) {
            if to.write_all(&piece[..count]).is_err() {
                break; // it doesn't read any more
            }
            moved += count as u64;
        }
        moved
    })
}

/// One command of the pipeline that was started.
struct Part<'a> {
    command: &'a str,
    pid: Pid,
    /// What went into its standard input, where that is a pipe of ours.
    fed: Option<Receiver<u64>>,
}

/// A command that needs nothing of the shell is started without one (as make
/// does it), so that a signal that ends it is seen as one; everything else is
/// the shell's.
fn words_of(text: &str) -> Command {
    const SHELL: &str = "|&;<>()$`\\\"'*?[]#~=%!{}\n";
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    if let [program, arguments @ ..] = &words[..] {
        let found = if program.contains('/') {
            Path::new(program).exists()
        } else {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
        };
        if found && !text.contains(|c| SHELL.contains(c)) {
            let mut command = Command::new(program);
            command.args(arguments);
            return command;
        }
    }
    let mut command = Command::new("/bin/sh");
    command.args(["-c", text]);
    command
}

fn run_run(run: &Run) -> Result<(), Failure> {
    let mut parts = Vec::new();
    let mut next: Option<(OwnedFd, Receiver<u64>)> = None;
    if let Some(input) = &run.input {
        let (reader, writer) = pipe::pipe()?;
        next = Some((reader, feed(input, writer)));
    }
    for (at, text) in run.commands.iter().enumerate() {
        let mut command = words_of(text);
        let fed = next.take().map(|(reader, fed)| {
            command.stdin(Stdio::from(reader));
            fed
        });
        // Two pipes between neighbours, with us in the middle: that is how the
        // bytes are counted.
        let mut between = None;
        if at + 1 < run.commands.len() {
            let (reader, writer) = pipe::pipe()?;
            command.stdout(Stdio::from(writer));
            between = Some(reader);
        }
        let started = command.spawn().map_err(refused(text))?;
        drop(command); // our copies of the child's ends: else no end of file
        parts.push(Part { command: text, pid: Pid::from_child(&started), fed });
        if let Some(from) = between {
            let (reader, writer) = pipe::pipe()?;
            next = Some((reader, relay(from, writer)));
        }
    }
    let mut ends: Vec<Change> = Vec::new();
    for part in &parts {
        ends.push(child::wait(part.pid)?);
    }
    for (part, end) in parts.into_iter().zip(&ends) {
        // Fed by a relay that ends with its reader, or by our standard input,
        // which may go on for ever: that one isn't waited for.
        let ended = part.fed.map(|fed| {
            let own = run.input.as_deref() == Some("-");
            if own { fed.try_recv().ok() } else { fed.recv().ok() }
        });
        let fed = match ended {
            None => String::new(),
            Some(Some(bytes)) => format!("{bytes} bytes in; "),
            Some(None) => "still being fed; ".to_owned(),
        };
        if !run.quiet {
            eprintln!("{}: {fed}{end}", part.command);
        }
    }
    let failed = |end: &&Change| end.shell_code() != 0;
    let end = if run.pipefail { ends.iter().rev().find(failed) } else { ends.last() };
    match end.map_or(0, |end| end.shell_code()) {
        0 => Ok(()),
        code => Err(Failure::Ended { code }),
    }
}

fn is_pipe(fd: impl AsFd) -> bool {
    pipe::capacity(fd).is_ok()
}

fn run_tee(tee: &Tee) -> Result<(), Failure> {
    let mut files = Vec::new();
    for path in &tee.files {
        let mut options = File::options();
        options.create(true).append(tee.append).write(true).truncate(!tee.append);
        files.push((path, options.open(path).map_err(refused(path.display()))?));
    }
    let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let mut moved = 0_u64;
    let how = if files.len() < 2 && is_pipe(stdin) && is_pipe(stdout) {
        tee_pipes(files.first_mut(), &mut moved)?;
        "by tee and splice"
    } else {
        let mut piece = vec![0; 65536];
        let mut input = std::io::stdin().lock();
        loop {
            let count = match input.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(refused("standard input")(error)),
            };
            for (path, file) in &mut files {
                file.write_all(&piece[..count]).map_err(refused(path.display()))?;
            }
            output(&piece[..count])?;
            moved += count as u64;
        }
        "by read and write (tee takes a pipe on both sides, and one file)"
    };
    if tee.verbose {
        eprintln!("{moved} bytes {how}; then the end of file");
    }
    Ok(())
}

/// From pipe to pipe, and into a file on the way: the bytes are never copied
/// into this process. `tee` duplicates what stands in the input into standard
/// output, `splice` takes it out, into the file.
fn tee_pipes(file: Option<&mut (&PathBuf, File)>, moved: &mut u64) -> Result<(), Failure> {
    let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let closed = |error: ipc::SystemError| match error.errno {
        Errno::PIPE => Failure::OutputClosed,
        _ => error.into(),
    };
    let Some((path, file)) = file else {
        loop {
            match pipe::splice(stdin, stdout, PIECE_BYTES_MAX).map_err(closed)? {
                0 => return Ok(()),
                count => *moved += count as u64,
            }
        }
    };
    loop {
        let count = pipe::tee(stdin, stdout, PIECE_BYTES_MAX).map_err(closed)?;
        if count == 0 {
            return Ok(());
        }
        pour(path, file, count)?;
        *moved += count as u64;
    }
}

/// Takes `count` bytes out of standard input into a file; by copying where the
/// file can't be spliced into (one that was opened to append).
fn pour(path: &Path, file: &mut File, count: usize) -> Result<(), Failure> {
    let stdin = rustix::stdio::stdin();
    let told = |errno| Failure::refused(format!("{}: {}", path.display(), ipc::errno_text(errno)));
    let mut left = count;
    while left > 0 {
        match pipe::splice(stdin, &*file, left) {
            Ok(moved) => left -= moved,
            Err(error) if error.errno == Errno::INVAL => {
                let mut piece = vec![0; left.min(65536)];
                let read = rustix::io::read(stdin, &mut piece).map_err(told)?;
                file.write_all(&piece[..read]).map_err(refused(path.display()))?;
                left -= read;
            }
            Err(error) => return Err(told(error.errno)),
        }
    }
    Ok(())
}

fn run_cap(cap: &Cap) -> Result<(), Failure> {
    let end: OwnedFd = match cap.of {
        None => pipe::pipe()?.1,
        Some((pid, fd)) => {
            let shown = format!("{pid}:{fd}");
            let path = format!("/proc/{pid}/fd/{fd}");
            let flags = rustix::fs::OFlags::RDONLY
                | rustix::fs::OFlags::NONBLOCK
                | rustix::fs::OFlags::CLOEXEC;
            rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).map_err(|errno| {
                let why = ipc::errno_text(errno);
                Failure::refused(format!("{shown}: {why}; /proc/{pid}/fd shows what it has"))
            })?
        }
    };
    if let Some((pid, fd)) = cap.of {
        if !is_pipe(&end) {
            return Err(Failure::refused(format!(
                "{pid}:{fd}: is no pipe; ls -l /proc/{pid}/fd shows which are"
            )));
        }
    }
    show_capacity(&end, cap.wanted, cap.json)
}

/// Sets the capacity if one is wanted, and shows it with its limits; for pipes
/// and FIFOs.
pub(crate) fn show_capacity(
    end: impl AsFd,
    wanted: Option<u64>,
    json: bool,
) -> Result<(), Failure> {
    if let Some(wanted) = wanted {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        pipe::set_capacity(&end, wanted)?;
    }
    let unread = ipc::socket::unread_bytes(&end)?;
    let fields = [
        ("capacity", Cell::Number(pipe::capacity(&end)? as u64)),
        ("filled", Cell::Number(unread as u64)),
        ("atomic", Cell::Number(pipe::ATOMIC_WRITE_BYTES_MAX as u64)),
        ("capacity-max", Cell::Number(pipe::capacity_max() as u64)),
    ];
    print_fields(&fields, json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sees_the_end_of_its_input_is_not_still_being_fed() {
        for round in 0..1_000 {
            let (reader, writer) = pipe::pipe().unwrap();
            let fed = feed("some bytes", writer);
            let mut got = String::new();
            File::from(reader).read_to_string(&mut got).unwrap();
            assert_eq!((got.as_str(), fed.try_recv()), ("some bytes", Ok(10)), "round {round}");
        }
    }
}
