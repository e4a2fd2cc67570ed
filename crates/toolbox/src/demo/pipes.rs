//! What a pipe does, seen by doing it: end of file, SIGPIPE, capacity, and which
//! writes go in as a whole.
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use clap::{Args, ValueEnum};
use ipc::signal::{self, Signal};
use ipc::{Errno, child, pipe};
use rustix::process::Pid;

use super::{Started, ourselves};
use crate::failure::{Failure, line};

#[derive(Args)]
pub(crate) struct Pipes {
    /// A child's part
    #[arg(long, hide = true)]
    part: Option<Part>,
    /// How long a record is
    #[arg(long, hide = true, default_value = "0")]
    bytes: usize,
    /// What a record is made of
    #[arg(long, hide = true, default_value = "0")]
    letter: u8,
}

/// What a child does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Prints what its standard input gives.
    Read,
    /// Writes one byte to its standard output, with SIGPIPE as by default.
    Write,
    /// Writes records to its standard output.
    Records,
}

/// Records that each writer writes.
const RECORDS: usize = 200;
const WRITERS: u8 = 4;

fn failed(errno: Errno) -> Failure {
    Failure::refused(format!("pipe: {}", ipc::errno_text(errno)))
}

pub(super) fn run(pipes: &Pipes) -> Result<(), Failure> {
    match pipes.part {
        Some(Part::Read) => return read_all(),
        Some(Part::Write) => {
            signal::set_default(Signal::PIPE)?;
            rustix::io::write(rustix::stdio::stdout(), b"x").map_err(failed)?;
            return Ok(());
        }
        Some(Part::Records) => return write_records(pipes.letter, pipes.bytes),
        None => {}
    }
    parent_and_child()?;
    nobody_reads()?;
    how_much()?;
    as_a_whole(pipe::ATOMIC_WRITE_BYTES_MAX)?;
    as_a_whole(4 * pipe::ATOMIC_WRITE_BYTES_MAX)
}

fn start(
    arguments: &[&str],
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
) -> Result<Started, Failure> {
    let mut command = ourselves(&["pipe"])?;
    command.args(arguments);
    if let Some(input) = input {
        command.stdin(Stdio::from(input));
    }
    if let Some(output) = output {
        command.stdout(Stdio::from(output));
    }
    let child = command.spawn().map_err(|error| Failure::refused(format!("a child: {error}")))?;
    Ok(Started(child))
}

/// The course's program: the pipe is made before the child, whose standard
/// input is the read end; the parent writes, closes, and waits.
fn parent_and_child() -> Result<(), Failure> {
    let (reader, writer) = pipe::pipe()?;
    let reading = start(&["--part", "read"], Some(reader), None)?;
    rustix::io::write(&writer, b"Hello from your program.").map_err(failed)?;
    drop(writer);
    reading.end()
}

fn read_all() -> Result<(), Failure> {
    let mut text = String::new();
    let count = std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::refused(format!("standard input: {error}")))?;
    line(&text)?;
    line(format!("after {count} bytes the end of file: the last write end is closed"))
}

fn nobody_reads() -> Result<(), Failure> {
    let (reader, writer) = pipe::pipe()?;
    drop(reader);
    // This process ignores SIGPIPE (as Rust programs do), so it is told.
    let told = match rustix::io::write(&writer, b"x") {
        Err(errno) => ipc::errno_text(errno),
        Ok(_) => "no error".to_owned(),
    };
    line(format!("a write when nobody reads, SIGPIPE ignored: {told}"))?;
    let writing = start(&["--part", "write"], None, Some(writer))?;
    let end = child::wait(Pid::from_child(&writing.0))?;
    line(format!("the same with SIGPIPE as by default: {end}"))
}

fn how_much() -> Result<(), Failure> {
    let (_reader, writer) = pipe::wake_pipe()?;
    let page = vec![0; pipe::ATOMIC_WRITE_BYTES_MAX];
    let mut filled = 0;
    let told = loop {
        match rustix::io::write(&writer, &page) {
            Ok(count) => filled += count,
            Err(errno) => break errno,
        }
    };
    let capacity = pipe::capacity(&writer)?;
    line(format!(
        "capacity {capacity}: it takes {filled} bytes, then a write has to wait ({})",
        ipc::errno_text(told)
    ))
}

fn write_records(letter: u8, bytes: usize) -> Result<(), Failure> {
    let record = vec![letter; bytes];
    let stdout = File::from(rustix::io::dup(rustix::stdio::stdout()).map_err(failed)?);
    for _ in 0..RECORDS {
        (&stdout)
            .write_all(&record)
            .map_err(|error| Failure::refused(format!("standard output: {error}")))?;
    }
    Ok(())
}

/// Several processes write records of one letter each into one pipe: a record
/// is torn if another letter stands in it.
fn as_a_whole(bytes: usize) -> Result<(), Failure> {
    let (reader, writer) = pipe::pipe()?;
    // As small as it gets: what is longer has to wait in the middle.
    pipe::set_capacity(&writer, pipe::ATOMIC_WRITE_BYTES_MAX)?;
    let mut writers = Vec::new();
    for n in 0..WRITERS {
        let (letter, length) = ((b'a' + n).to_string(), bytes.to_string());
        let output = writer
            .try_clone()
            .map_err(|error| Failure::refused(format!("a descriptor: {error}")))?;
        let words = ["--part", "records", "--bytes", &length, "--letter", &letter];
        writers.push(start(&words, None, Some(output))?);
    }
    drop(writer);
    let mut stream = Vec::new();
    File::from(reader)
        .read_to_end(&mut stream)
        .map_err(|error| Failure::refused(format!("pipe: {error}")))?;
    for writer in writers {
        writer.end()?;
    }
    let all = RECORDS * usize::from(WRITERS);
    let whole = stream.chunk_by(|a, b| a == b).map(|run| {
        // Runs of one letter: whole records, unless one was cut.
        if run.len() % bytes == 0 { run.len() / bytes } else { 0 }
    });
    let torn = all - whole.sum::<usize>();
    let limit = if bytes <= pipe::ATOMIC_WRITE_BYTES_MAX {
        "PIPE_BUF: each goes in as a whole"
    } else {
        "more than PIPE_BUF: others may come in between"
    };
    line(format!("{WRITERS} writers, {all} records of {bytes} bytes ({limit}): {torn} torn"))
}
