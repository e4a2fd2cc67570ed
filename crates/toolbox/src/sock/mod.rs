//! `ipc sock`: sockets of every family and kind. The server (`server`) is one
//! loop over listener, clients and console; the client is here.
mod address;
mod display;
mod gate;
mod server;

use core::time::Duration;
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::{Args, Subcommand};
use ipc::signal::{Signal, SignalFd, SignalSet};
use ipc::timer::Deadline;
use ipc::{Errno, descriptors, peer};
use rustix::event::{PollFd, PollFlags};
use rustix::net::{SendFlags, Shutdown};

use crate::argument;
use crate::failure::{Failure, WAITED, output, refused};
use crate::table::Names;

pub(crate) use address::{Address, Kind, address, connect};
pub(crate) use gate::{FREE, Gate, LISTENER, SIGNALS};

/// Most that is taken from a socket or standard input at once; a longer record
/// is cut, and that is said.
const READ_BYTES_MAX: usize = 64 * 1024;

/// What to do with a socket.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Serve many clients in one loop; alone, it shows what they send
    ///
    /// Example: ipc sock listen unix:/tmp/s --chat -v
    Listen(server::Listen),
    /// Connect: standard input (or TEXT) goes there, what comes back is shown
    ///
    /// Example: echo hello | ipc sock connect unix:/tmp/s
    Connect(Connect),
    /// Join two commands by a pair of sockets, each with one as its standard input and output
    ///
    /// Example: ipc sock pair 'echo question; read a; echo "$a" >&2' 'read q; echo answer'
    Pair(Pair),
}

#[derive(Args)]
pub(crate) struct Connect {
    /// unix:PATH, abstract:NAME, tcp:HOST:PORT or udp:HOST:PORT
    #[arg(value_name = "ADDR", value_parser = address::address)]
    address: Address,
    /// Send this, instead of standard input
    text: Option<String>,
    /// The kind of Unix socket [default: stream]
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
    /// Pass an open descriptor of this file along with TEXT (Unix sockets)
    #[arg(long, value_name = "FILE", requires = "text")]
    pass: Option<PathBuf>,
    /// When the input ends, go on receiving: don't end the writing side
    #[arg(long)]
    stay: bool,
    /// End after so many answers (lines of a stream, else records)
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Give up after so long without an answer; exit 4
    #[arg(long, value_name = "D", value_parser = argument::duration)]
    timeout: Option<Duration>,
    /// Show the whole life cycle, on standard error
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Args)]
pub(crate) struct Pair {
    /// Two commands, each for a shell
    #[arg(value_name = "CMD", num_args = 2)]
    commands: Vec<String>,
    /// The kind of socket [default: stream]
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
    /// Show the whole life cycle, on standard error
    #[arg(short, long)]
    verbose: bool,
}

impl Verb {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Listen(_) => "sock listen",
            Self::Connect(_) => "sock connect",
            Self::Pair(_) => "sock pair",
        }
    }
}

pub(crate) fn run(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Listen(listen) => server::run(listen),
        Verb::Connect(connect) => run_connect(connect),
        Verb::Pair(pair) => run_pair(pair),
    }
}

/// Says a step of the life cycle, if asked to.
pub(crate) fn step(verbose: bool, text: impl core::fmt::Display) {
    if verbose {
        eprintln!("{text}");
    }
}

/// Who is at the other end of a Unix socket, in words.
fn who(socket: impl AsFd, names: &Names) -> String {
    let Ok(peer) = peer::credentials(socket) else { return "an unknown peer".to_owned() };
    let process = match peer.pid {
        Some(pid) => {
            let pid = pid.as_raw_pid();
            match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
                Ok(command) => format!("pid {pid} ({})", command.trim_end().escape_default()),
                Err(_) => format!("pid {pid}"),
            }
        }
        None => "a process of another pid namespace".to_owned(),
    };
    let (user, group) = (names.user(peer.uid), names.group(peer.gid));
    format!("{process}, uid {} ({user}), gid {} ({group})", peer.uid, peer.gid)
}

/// Signals that end a tool that would else go on for ever, as a descriptor.
pub(crate) fn ending_signals() -> Result<SignalFd, Failure> {
    Ok(SignalFd::new(&SignalSet::of(&[Signal::INT, Signal::TERM]))?)
}

/// Ends as who was ended by this signal.
pub(crate) fn ended_by(signals: &SignalFd) -> Result<Option<Failure>, Failure> {
    Ok(signals.read()?.map(|info| Failure::Ended { code: (128 + info.signal.number()) as u8 }))
}

/// The client's side.
struct Client<'a> {
    socket: OwnedFd,
    kind: Kind,
    options: &'a Connect,
    /// Read, and not sent yet.
    pending: Vec<u8>,
    input_open: bool,
    /// The writing side was ended.
    shut: bool,
    answers: u64,
}

fn run_connect(options: &Connect) -> Result<(), Failure> {
    let kind = options.address.kind(options.kind)?;
    let verbose = options.verbose;
    if options.pass.is_some() && !matches!(options.address, Address::Unix(_)) {
        return Err(Failure::usage("--pass: descriptors go through Unix sockets only"));
    }
    let signals = ending_signals()?;
    let socket = connect(&options.address, kind, options.timeout)?;
    step(verbose, format!("socket: {}, {}", options.address.c_family(), kind.c_name()));
    let peer = match &options.address {
        Address::Unix(_) if kind != Kind::Dgram => format!(": {}", who(&socket, &Names::load())),
        _ => String::new(),
    };
    step(verbose, format!("connect: {}{peer}", options.address));
    let mut client = Client {
        socket,
        kind,
        options,
        pending: Vec::new(),
        input_open: options.text.is_none(),
        shut: false,
        answers: 0,
    };
    if let Some(text) = &options.text {
        client.send_text(text.as_bytes())?;
    }
    let result = client.talk(&signals);
    step(verbose, "close");
    result
}

impl Client<'_> {
    fn failed(&self, call: &str, errno: Errno) -> Failure {
        let why = ipc::errno_text(errno);
        Failure::refused(format!("{}: {call}: {why}", self.options.address))
    }

    fn send_text(&mut self, text: &[u8]) -> Result<(), Failure> {
        let mut sent = 0;
        if let Some(path) = &self.options.pass {
            let file = std::fs::File::open(path).map_err(refused(path.display()))?;
            sent = descriptors::send(&self.socket, text, &[file.as_fd()])?;
            let path = path.display();
            step(self.options.verbose, format!("write: {sent} bytes and a descriptor of {path}"));
        }
        if sent < text.len() || (text.is_empty() && self.kind != Kind::Stream) {
            self.pending.extend_from_slice(&text[sent..]);
            if text.is_empty() {
                rustix::net::send(&self.socket, b"", SendFlags::NOSIGNAL)
                    .map_err(|errno| self.failed("send", errno))?;
            }
        }
        Ok(())
    }

    fn talk(&mut self, signals: &SignalFd) -> Result<(), Failure> {
        let mut deadline = Deadline::after(self.options.timeout);
        loop {
            if self.options.count.is_some_and(|count| self.answers >= count) {
                return Ok(());
            }
            if !self.input_open && self.pending.is_empty() && !self.shut {
                self.shut = true;
                let waits = self.options.count.is_some() || self.options.timeout.is_some();
                if self.kind == Kind::Dgram && !self.options.stay && !waits {
                    return Ok(()); // nobody would say that there is no more to come
                }
                if self.kind != Kind::Dgram && !self.options.stay {
                    step(self.options.verbose, "shutdown: no more is written");
                    match rustix::net::shutdown(&self.socket, Shutdown::Write) {
                        Ok(()) | Err(Errno::NOTCONN) => {}
                        Err(errno) => return Err(self.failed("shutdown", errno)),
                    }
                }
            }
            let stdin = std::io::stdin();
            let writes = !self.pending.is_empty();
            let reads = self.input_open && !writes;
            let interest = |flag, yes| if yes { flag } else { PollFlags::empty() };
            let mut fds = [
                PollFd::new(signals, PollFlags::IN),
                PollFd::new(&self.socket, PollFlags::IN | interest(PollFlags::OUT, writes)),
                PollFd::new(&stdin, interest(PollFlags::IN, reads)),
            ];
            let set = if reads { &mut fds[..] } else { &mut fds[..2] };
            match rustix::event::poll(set, deadline.remaining().as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed("poll", errno)),
            }
            let ready = [0, 1, 2].map(|n| fds[n].revents());
            if let Some(ended) = ended_by(signals)? {
                return Err(ended);
            }
            let mut moved = false;
            if ready[1].intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                match self.receive()? {
                    None => return Ok(()),
                    Some(any) => moved |= any,
                }
            }
            if ready[1].contains(PollFlags::OUT) && writes {
                self.send_pending()?;
                moved = true;
            }
            if !ready[2].is_empty() && reads {
                self.read_input(stdin.as_fd())?;
                moved = true;
            }
            if moved {
                deadline = Deadline::after(self.options.timeout);
            } else if deadline.passed() {
                let after = self.options.timeout.unwrap_or_default();
                let text = format!("{}: no answer within {after:?}", self.options.address);
                return Err(Failure::Told { code: WAITED, text });
            }
        }
    }

    /// Shows what has come: none at the end.
    fn receive(&mut self) -> Result<Option<bool>, Failure> {
        let mut buffer = vec![0; READ_BYTES_MAX];
        let flags = rustix::net::RecvFlags::DONTWAIT | rustix::net::RecvFlags::TRUNC;
        // A stream would throw away what TRUNC asks to count.
        let flags =
            if self.kind == Kind::Stream { rustix::net::RecvFlags::DONTWAIT } else { flags };
        let (count, whole) = match rustix::net::recv(&self.socket, &mut buffer[..], flags) {
            Ok((count, whole)) => (count, whole),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Some(false)),
            Err(errno) => return Err(self.failed("recv", errno)),
        };
        if count == 0 && self.kind != Kind::Dgram {
            step(self.options.verbose, "end of file");
            return Ok(None);
        }
        step(self.options.verbose, format!("read: {count} bytes"));
        if whole > count {
            eprintln!("a record of {whole} bytes, cut off at {count}");
        }
        output(&buffer[..count])?;
        self.answers += match self.kind {
            Kind::Stream => buffer[..count].iter().filter(|byte| **byte == b'\n').count() as u64,
            _ => 1,
        };
        Ok(Some(true))
    }

    fn send_pending(&mut self) -> Result<(), Failure> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::net::send(&self.socket, &self.pending, flags) {
            Ok(count) => {
                step(self.options.verbose, format!("write: {count} bytes"));
                self.pending.drain(..count);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(Errno::MSGSIZE) => {
                let len = self.pending.len();
                Err(Failure::refused(format!(
                    "{}: a record of {len} bytes is too long for this socket; send shorter ones",
                    self.options.address
                )))
            }
            Err(errno) => Err(self.failed("send", errno)),
        }
    }

    /// Takes a piece of standard input: for a stream what is there, else a line
    /// for each record.
    fn read_input(&mut self, stdin: BorrowedFd<'_>) -> Result<(), Failure> {
        let broken =
            |errno| Failure::refused(format!("standard input: {}", ipc::errno_text(errno)));
        if self.kind == Kind::Stream || std::io::stdin().is_terminal() {
            self.pending.resize(READ_BYTES_MAX, 0);
            let result = rustix::io::read(stdin, &mut self.pending);
            self.pending.truncate(*result.as_ref().unwrap_or(&0));
            match result {
                Ok(0) => self.input_open = false,
                Ok(_) | Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(broken(errno)),
            }
            return Ok(());
        }
        // Byte by byte up to the end of the line: what a buffer would hold back
        // poll would not tell of.
        let mut byte = [0];
        while self.pending.len() < READ_BYTES_MAX && self.pending.last() != Some(&b'\n') {
            match rustix::io::read(stdin, &mut byte) {
                Ok(0) => {
                    self.input_open = false;
                    break;
                }
                Ok(_) => self.pending.push(byte[0]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(broken(errno)),
            }
        }
        Ok(())
    }
}

fn run_pair(pair: &Pair) -> Result<(), Failure> {
    let kind = pair.kind.unwrap_or(Kind::Stream);
    let (a, b) = ipc::unix::pair(kind.of_unix())?;
    step(pair.verbose, format!("socketpair: AF_UNIX, {}", kind.c_name()));
    let mut children = Vec::new();
    for (command, end) in pair.commands.iter().zip([a, b]) {
        let input = end.try_clone().map_err(refused("duplicating the socket"))?;
        let child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(end))
            .spawn()
            .map_err(refused("sh"))?;
        step(pair.verbose, format!("fork: {}: {command}", child.id()));
        children.push((command, child));
    }
    // Both ends are the children's alone now: when one ends, the other meets the
    // end of file.
    let mut worst = 0;
    for (command, mut child) in children {
        use std::os::unix::process::ExitStatusExt;
        let status = child.wait().map_err(refused(command))?;
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        step(pair.verbose, format!("{}: {status}", child.id()));
        if worst == 0 {
            worst = code;
        }
    }
    match worst {
        0 => Ok(()),
        code => Err(Failure::Ended { code: code as u8 }),
    }
}
