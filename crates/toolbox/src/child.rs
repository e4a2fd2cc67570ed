//! `ipc child`: a child runs; its parent catches signals, tells them, and ends
//! the child when the chosen one has come often enough.
use core::time::Duration;
use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Args;
use ipc::catcher::Catcher;
use ipc::child;
use ipc::epoll::{Epoll, Events, Interest};
use ipc::pidfd;
use ipc::signal::Signal;
use ipc::timer::Deadline;
use rustix::process::Pid;

use crate::failure::{Failure, line, refused};
use crate::sig::{as_by_default, catchable, caught, interval};

/// A child under the eyes of its parent.
///
/// The parent prints `Forking a child: PID`, tells each NAME that it catches,
/// and after QUIT has come N times ends the child (TERM first, KILL when that
/// doesn't help), reaps it, and says how it ended. A child that stops, goes on
/// or ends by itself is told, too. The child has a process group of its own:
/// what the terminal sends goes to the parent.
///
/// Example: ipc child 1s QUIT --times 3 INT USR1 -- sleep 1000
#[derive(Args)]
pub(crate) struct Child {
    /// Time between two lines of the child `PID: N` (1s, 500ms), if there is no CMD
    #[arg(value_parser = interval)]
    interval: Duration,
    /// The signal that ends it
    #[arg(value_name = "QUIT")]
    quit: String,
    /// How often QUIT must come
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
    /// Signals that are told
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Say who sent each, and with which value
    #[arg(short, long)]
    verbose: bool,
    /// The child
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// How long a child may take after TERM before it gets KILL: time to put its
/// things in order, short enough for who waits at a terminal.
const KILL_AFTER: Duration = Duration::from_secs(2);

/// The child is killed with its parent; this guard is for the parent's errors.
struct Reaped(Pid);

impl Drop for Reaped {
    fn drop(&mut self) {
        if child::change(self.0).is_ok_and(|change| change.is_none_or(|c| !c.is_end())) {
            let _ = ipc::signal::send(self.0, Signal::KILL);
            let _ = child::wait(self.0);
        }
    }
}

pub(crate) fn run(asked: &Child) -> Result<(), Failure> {
    let quit = catchable(core::slice::from_ref(&asked.quit))?[0];
    let told = catchable(&asked.names)?;
    let mut signals = told.clone();
    signals.extend([quit, Signal::CHLD]);
    signals.dedup();
    as_by_default()?;
    // Before the child is there, so that none of its changes is missed.
    let catcher = Catcher::new(&signals)?;

    let mut command = match asked.command.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments);
            command
        }
        None => {
            let program = std::env::current_exe().map_err(refused("this program's own file"))?;
            let mut command = Command::new(program);
            let interval = format!("{}us", asked.interval.as_micros().max(1));
            command.args(["sig", "catch", &interval]);
            command
        }
    };
    let started = child::end_with_parent(command.process_group(0)).spawn().map_err(|error| {
        let program = command.get_program().to_string_lossy().into_owned();
        let errno = ipc::Errno::from_io_error(&error).unwrap_or(ipc::Errno::IO);
        Failure::refused(format!("{program}: {}", ipc::errno_text(errno)))
    })?;
    let pid = Pid::from_child(&started);
    let _guard = Reaped(pid);
    line(format!("Forking a child: {pid}"))?;

    let epoll = Epoll::new()?;
    epoll.add(&catcher, 0, Interest::READ)?;
    let mut events = Events::with_capacity(1);
    let mut counted = 0;
    let mut kill_at: Option<Deadline> = None;
    loop {
        while let Some(change) = child::change(pid)? {
            if change.is_end() {
                line("And finally…")?;
                return line(change);
            }
            line(format!("The child: {change}"))?;
        }
        epoll.wait(&mut events, kill_at.and_then(Deadline::left))?;
        if kill_at.is_some_and(Deadline::passed) {
            ipc::signal::send(pid, Signal::KILL)?;
            kill_at = None;
        }
        while let Some(info) = catcher.read()? {
            let text = caught(&info, asked.verbose);
            if info.signal == quit && counted < asked.times {
                counted += 1;
                line(format!("{text} {counted} of {}", asked.times))?;
                if counted == asked.times {
                    end(pid)?;
                    kill_at = Some(Deadline::after(Some(KILL_AFTER)));
                }
            } else if told.contains(&info.signal) {
                line(text)?;
            }
        }
    }
}

/// Asks it to end; one that is stopped has to go on to hear that.
fn end(pid: Pid) -> Result<(), Failure> {
    for signal in [Signal::TERM, Signal::CONT] {
        match ipc::signal::send(pid, signal) {
            Ok(()) | Err(pidfd::Error::Gone { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
