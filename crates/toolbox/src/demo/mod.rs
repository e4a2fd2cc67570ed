//! `ipc demo`: the classic pairs of programs, as real processes: `server`,
//! `client`, or (without a role) both, started by this one.
mod lost_update;
mod pairs;
mod pipes;
mod signals;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use clap::{Args, Subcommand, ValueEnum};

use crate::failure::{Failure, line};

/// What to show.
#[derive(Subcommand)]
pub(crate) enum Show {
    /// System V, key 5678: the server writes the alphabet, the client prints it and writes *
    ///
    /// Example: ipc demo alphabet
    Alphabet(Pair),
    /// System V, a private segment: a child prints the alphabet as soon as z is there
    ///
    /// Example: ipc demo letters
    Letters(Letters),
    /// System V, key 1234: the server tells each character that the client's terminal reads; q ends both
    ///
    /// Example: ipc demo typed
    Typed(Pair),
    /// POSIX, /my_shm: receive writes 8 and waits, send writes 1
    ///
    /// Example: ipc demo iflag
    Iflag(Iflag),
    /// Writers that lose updates without mutual exclusion, and none with each kind of it
    ///
    /// Example: ipc demo lost-update
    LostUpdate(lost_update::LostUpdate),
    /// A pipe: end of file, SIGPIPE, how much it holds, and what goes in as a whole
    ///
    /// Example: ipc demo pipe
    Pipe(pipes::Pipes),
    /// Ctrl-C caught, a question that aborts, a signal to itself, a sender and a receiver
    ///
    /// Example: ipc demo signals
    Signals(signals::Signals),
    /// Counts each second, until a signal ends it
    ///
    /// Example: ipc demo endless
    Endless(signals::Endless),
    /// POSIX, /server-msg-q: many senders, one receiver
    ///
    /// Example: ipc demo queue
    Queue(Pair),
}

/// One side of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Waits for the other
    Server,
    /// Comes to it
    Client,
}

#[derive(Args)]
pub(crate) struct Pair {
    /// One side only
    role: Option<Role>,
}

#[derive(Args)]
pub(crate) struct Letters {
    /// The child's part: the segment's id
    #[arg(long, hide = true)]
    segment: Option<i32>,
}

#[derive(Args)]
pub(crate) struct Iflag {
    /// One step only
    step: Option<Step>,
}

/// The words of the course's program; `server` and `client` stand for the two
/// that talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// Make the segment
    Create,
    /// Write 1
    #[value(alias = "client")]
    Send,
    /// Write 8, wait for another value, print it
    #[value(alias = "server")]
    Receive,
    /// Remove the segment
    Remove,
}

impl Show {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Alphabet(_) => "demo alphabet",
            Self::Letters(_) => "demo letters",
            Self::Typed(_) => "demo typed",
            Self::Iflag(_) => "demo iflag",
            Self::LostUpdate(_) => "demo lost-update",
            Self::Pipe(_) => "demo pipe",
            Self::Signals(_) => "demo signals",
            Self::Endless(_) => "demo endless",
            Self::Queue(_) => "demo queue",
        }
    }
}

pub(crate) fn run(show: &Show) -> Result<(), Failure> {
    match show {
        Show::Alphabet(pair) => match pair.role {
            Some(Role::Server) => pairs::alphabet_server(),
            Some(Role::Client) => pairs::alphabet_client(),
            None => both("alphabet", "server", &[("client", "")]),
        },
        Show::Letters(letters) => match letters.segment {
            Some(id) => pairs::letters_child(id),
            None => pairs::letters(),
        },
        Show::Typed(pair) => match pair.role {
            Some(Role::Server) => pairs::typed_server(),
            Some(Role::Client) => pairs::typed_client(),
            None => both("typed", "server", &[("client", "Hello q")]),
        },
        Show::Iflag(iflag) => match iflag.step {
            Some(Step::Create) => pairs::iflag_create(),
            Some(Step::Send) => pairs::iflag_send(),
            Some(Step::Receive) => pairs::iflag_receive(),
            Some(Step::Remove) => pairs::iflag_remove(),
            None => {
                pairs::iflag_create()?;
                let shown = both("iflag", "receive", &[("send", "")]);
                pairs::iflag_remove()?;
                shown
            }
        },
        Show::LostUpdate(lost_update) => lost_update::run(lost_update),
        Show::Pipe(pipes) => pipes::run(pipes),
        Show::Signals(signals) => signals::run(signals),
        Show::Endless(endless) => signals::endless(endless),
        Show::Queue(pair) => match pair.role {
            Some(Role::Server) => pairs::queue_server(),
            Some(Role::Client) => pairs::queue_client(),
            None => both(
                "queue",
                "server",
                &[("client", "first\nsecond\n"), ("client", "third\n"), ("client", "q\n")],
            ),
        },
    }
}

/// This program again, as one side of a demonstration.
pub(crate) fn ourselves(arguments: &[&str]) -> Result<Command, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::refused(format!("this program's own file: {error}")))?;
    let mut command = Command::new(program);
    command.arg("demo").args(arguments);
    Ok(command)
}

/// Starts the server, and when it has said its first line, one client after the
/// other; shows what all of them print.
fn both(show: &str, server: &str, clients: &[(&str, &str)]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::refused(format!("{show}: {error}"));
    let mut serving = Started(
        ourselves(&[show, server])?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?,
    );
    let mut says = BufReader::new(serving.0.stdout.take().expect("piped")).lines();
    if let Some(first) = says.next() {
        line(first.map_err(failed)?)?;
    }
    for (role, input) in clients {
        let mut client =
            Started(ourselves(&[show, role])?.stdin(Stdio::piped()).spawn().map_err(failed)?);
        let mut typed = client.0.stdin.take().expect("piped");
        // A client that has ended doesn't read what is left.
        let _ = typed.write_all(input.as_bytes());
        drop(typed);
        client.end()?;
    }
    for text in says {
        line(text.map_err(failed)?)?;
    }
    serving.end()
}

/// A process that isn't left behind.
pub(crate) struct Started(pub(crate) Child);

impl Started {
    /// Waits for it; its failure is ours.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        let status =
            self.0.wait().map_err(|error| Failure::refused(format!("a child: {error}")))?;
        match status.code() {
            Some(0) => Ok(()),
            Some(code) => Err(Failure::Ended { code: code as u8 }),
            None => Err(Failure::refused(format!("a child ended: {status}"))),
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It has ended already, or is ended here.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
