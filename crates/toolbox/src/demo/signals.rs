//! The specification's signal programs: Ctrl-C, abort, raise, sender and
//! receiver; and the one that counts.
use core::time::Duration;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{ChildStdout, Stdio};

use clap::{Args, ValueEnum};
use ipc::catcher::Catcher;
use ipc::child;
use ipc::epoll::{Epoll, Events, Interest};
use ipc::signal::{self, Info, Signal};
use rustix::process::{Pid, Resource, Rlimit};

use super::{Started, ourselves};
use crate::failure::{Failure, line};
use crate::sig::{as_by_default, interval};

#[derive(Args)]
pub(crate) struct Signals {
    /// One program only
    program: Option<Program>,
}

/// The programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Program {
    /// Waits for Ctrl-C, and takes leave
    CtrlC,
    /// Asks whether it shall abort
    Abort,
    /// Sends a signal to itself
    Raise,
    /// Waits for a signal (10, USR1); the sender is ipc sig send
    Receiver,
}

#[derive(Args)]
pub(crate) struct Endless {
    /// Time between two numbers
    #[arg(long, value_name = "D", value_parser = interval, default_value = "1s")]
    interval: Duration,
    /// Stop after so many
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

pub(super) fn endless(endless: &Endless) -> Result<(), Failure> {
    as_by_default()?;
    for number in 1..=endless.count.unwrap_or(u64::MAX) {
        line(number)?;
        std::thread::sleep(endless.interval);
    }
    Ok(())
}

pub(super) fn run(signals: &Signals) -> Result<(), Failure> {
    match signals.program {
        Some(Program::CtrlC) => ctrl_c(),
        Some(Program::Abort) => abort(),
        Some(Program::Raise) => raise(),
        Some(Program::Receiver) => receiver(),
        None => all(),
    }
}

/// The next caught signal; waits for it.
fn next(catcher: &Catcher) -> Result<Info, Failure> {
    let epoll = Epoll::new()?;
    epoll.add(catcher, 0, Interest::READ)?;
    let mut events = Events::with_capacity(1);
    loop {
        if let Some(info) = catcher.read()? {
            return Ok(info);
        }
        epoll.wait(&mut events, None)?;
    }
}

fn ctrl_c() -> Result<(), Failure> {
    let catcher = Catcher::new(&[Signal::INT])?;
    line("press Ctrl-C")?;
    next(&catcher)?;
    line("Ctrl-C pressed")?;
    line("Bye Bye")
}

fn abort() -> Result<(), Failure> {
    line("abort? y/n")?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::refused(format!("standard input: {error}")))?;
    if answer.trim() != "y" {
        return line("Bye Bye");
    }
    // As abort(3): it is caught once, and ends the process all the same. A core
    // dump is of no use to anybody here.
    let catcher = Catcher::new(&[Signal::ABRT])?;
    signal::raise(Signal::ABRT)?;
    next(&catcher)?;
    line("process is aborted")?;
    line("Bye Bye")?;
    let none =
        Rlimit { current: Some(0), maximum: rustix::process::getrlimit(Resource::Core).maximum };
    let _ = rustix::process::setrlimit(Resource::Core, none);
    drop(catcher);
    signal::set_default(Signal::ABRT)?;
    signal::raise(Signal::ABRT)?;
    Ok(())
}

fn raise() -> Result<(), Failure> {
    let catcher = Catcher::new(&[Signal::USR1])?;
    signal::raise(Signal::USR1)?;
    line(format!("Signal {} received", next(&catcher)?.signal.number()))
}

fn receiver() -> Result<(), Failure> {
    let catcher = Catcher::new(&[Signal::USR1])?;
    line(format!("PID: {}", std::process::id()))?;
    line(format!("Signal {} received", next(&catcher)?.signal.number()))
}

/// A program of ours whose first line, which says that it is ready, has been
/// read and shown.
struct Ready {
    started: Started,
    says: Lines<BufReader<ChildStdout>>,
}

impl Ready {
    fn start(program: &str) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::refused(format!("{program}: {error}"));
        let mut command = ourselves(&["signals", program])?;
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let says = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut ready = Self { started: Started(child), says };
        line(format!("-- {program}"))?;
        ready.show_line()?;
        Ok(ready)
    }

    fn show_line(&mut self) -> Result<bool, Failure> {
        match self.says.next() {
            Some(Ok(text)) => line(text).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Shows the rest, and how it ended.
    fn end(mut self) -> Result<(), Failure> {
        while self.show_line()? {}
        line(child::wait(Pid::from_child(&self.started.0))?)
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        Ok(signal::send(Pid::from_child(&self.started.0), signal)?)
    }
}

fn all() -> Result<(), Failure> {
    let ready = Ready::start("ctrl-c")?;
    ready.signal(Signal::INT)?;
    ready.end()?;
    let mut ready = Ready::start("abort")?;
    let mut typed = ready.started.0.stdin.take().expect("piped");
    typed.write_all(b"y\n").map_err(|error| Failure::refused(format!("the answer: {error}")))?;
    ready.end()?;
    Ready::start("raise")?.end()?;
    let ready = Ready::start("receiver")?;
    ready.signal(Signal::USR1)?;
    ready.end()
}
