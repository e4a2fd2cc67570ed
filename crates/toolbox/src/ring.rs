//! `ipc ring`: a byte stream or messages through shared memory.
use std::io::{BufRead, Read};

use clap::{Args, Subcommand};
use ipc::ring::{self, Framing, Options, Reader, Writer};

use crate::argument::{self, Waiting, uninterrupted};
use crate::failure::{Failure, output};
use crate::table::{Cell, print_fields};

/// What to do with a ring.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Write standard input into a ring (made if missing), waiting while it is full
    ///
    /// Example: seq 1000000 | ipc ring write /r --size 1M
    Write(Write),
    /// Read a ring to standard output until its writer has finished
    ///
    /// Example: ipc ring read /r
    Read(ReadOut),
    /// Show its size, how far both sides are, and who holds them
    ///
    /// Example: ipc ring stat /r
    Stat(One),
    /// Remove it; who has it open goes on
    ///
    /// Example: ipc ring rm /r
    #[command(visible_alias = "remove")]
    Rm(Several),
}

#[derive(Args)]
pub(crate) struct Write {
    /// The ring's name, like /r
    name: String,
    /// How much it holds, if it is to be made; rounded up to a power of two
    #[arg(long, value_name = "N", value_parser = argument::size, default_value = "64K")]
    size: u64,
    /// Permissions, if it is to be made
    #[arg(long, value_name = "M", value_parser = argument::mode, default_value = "0600")]
    mode: u32,
    /// Each line is a message of its own
    #[arg(long)]
    messages: bool,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Args)]
pub(crate) struct ReadOut {
    /// The ring
    name: String,
    /// Each message becomes a line
    #[arg(long)]
    messages: bool,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Args)]
pub(crate) struct One {
    /// The ring
    name: String,
    /// JSON
    #[arg(short = 'J', long, short_alias = 'j')]
    json: bool,
}

#[derive(Args)]
pub(crate) struct Several {
    /// The rings
    #[arg(required = true)]
    names: Vec<String>,
}

impl Verb {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Write(_) => "ring write",
            Self::Read(_) => "ring read",
            Self::Stat(_) => "ring stat",
            Self::Rm(_) => "ring rm",
        }
    }
}

pub(crate) fn run(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Write(write) => run_write(write),
        Verb::Read(read) => run_read(read),
        Verb::Stat(one) => run_stat(one),
        Verb::Rm(several) => {
            for name in &several.names {
                ring::remove(name)?;
            }
            Ok(())
        }
    }
}

fn run_write(write: &Write) -> Result<(), Failure> {
    let framing = if write.messages { Framing::Messages } else { Framing::Bytes };
    ring::create(
        &write.name,
        &Options { capacity: write.size, mode: write.mode, framing, exclusive: false },
    )?;
    let mut writer = Writer::open(&write.name)?;
    let broken = |error| Failure::refused(format!("standard input: {error}"));
    let mut input = std::io::stdin().lock();
    let mut bytes = vec![0; 65536];
    loop {
        if write.messages {
            bytes.clear();
            if input.read_until(b'\n', &mut bytes).map_err(broken)? == 0 {
                break;
            }
            let message = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            let wait = write.waiting.wait();
            uninterrupted(|| writer.send(message, wait))?;
            continue;
        }
        let count = match input.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(error)),
        };
        let mut done = 0;
        while done < count {
            let wait = write.waiting.wait();
            done += uninterrupted(|| writer.write(&bytes[done..count], wait))?;
        }
    }
    writer.finish();
    Ok(())
}

/// Shows first and consumes then: who is killed in between shows it again, and
/// nothing is lost.
fn run_read(read: &ReadOut) -> Result<(), Failure> {
    let mut reader = Reader::open(&read.name)?;
    if read.messages {
        let mut message = Vec::new();
        loop {
            let wait = read.waiting.wait();
            if !uninterrupted(|| reader.peek_message(&mut message, wait))? {
                return Ok(());
            }
            message.push(b'\n');
            output(&message)?;
            message.pop();
            reader.consume_message(&message);
        }
    }
    let mut bytes = vec![0; 65536];
    loop {
        let wait = read.waiting.wait();
        let count = uninterrupted(|| reader.peek(&mut bytes, wait))?;
        if count == 0 {
            return Ok(());
        }
        output(&bytes[..count])?;
        reader.consume(count);
    }
}

fn run_stat(one: &One) -> Result<(), Failure> {
    let stat = ring::stat(&one.name)?;
    let pid = |pid: Option<u32>| pid.map_or(Cell::Unknown, |pid| Cell::Number(pid.into()));
    let fields = [
        ("name", Cell::text(&one.name)),
        (
            "framing",
            Cell::text(match stat.framing {
                Framing::Bytes => "bytes",
                Framing::Messages => "messages",
            }),
        ),
        ("capacity", Cell::Number(stat.capacity)),
        ("written", Cell::Number(stat.written)),
        ("read", Cell::Number(stat.read)),
        ("filled", Cell::Number(stat.written.wrapping_sub(stat.read))),
        ("finished", Cell::Yes(stat.finished)),
        ("writer", pid(stat.writer)),
        ("reader", pid(stat.reader)),
    ];
    print_fields(&fields, one.json)
}
