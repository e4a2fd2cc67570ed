//! The server: one loop waits for the listener, every client and the console,
//! and takes whatever comes first. Its life: a stale name removed, socket, bind,
//! listen; accept, read, write, close for each client; the listener closed and
//! its name removed. `-v` says each step.
//!
//! Everything is bounded: a client's line by [`LINE_BYTES_MAX`], what waits for
//! a client by [`OUTPUT_BYTES_MAX`]. Whoever doesn't read his own answers isn't
//! read from; whoever doesn't read what *others* caused is closed, so that
//! nobody is stopped by him.
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd};

use clap::Args;
use ipc::descriptors;
use ipc::epoll::{Events, Interest, Ready};
use ipc::socket::AcceptError;
use ipc::timer::Deadline;
use ipc::{Errno, unix};
use rustix::net::{SendFlags, SocketAddrAny};

use super::address::{self, Address, Endpoint, Kind};
use super::display::{Display, printable};
use super::gate::{FREE, Gate, LISTENER, SIGNALS};
use super::{READ_BYTES_MAX, step};
use crate::argument;
use crate::failure::{Failure, WAITED, line, output};

/// A line of a client may have so many bytes; with a longer one it is closed.
const LINE_BYTES_MAX: usize = 4096;
/// So many bytes may wait for a client that doesn't read.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// How many clients there may be at once, unless told otherwise: a descriptor
/// each, and the usual limit of a process is 1024.
const CLIENTS_MAX: usize = 1000;
/// Descriptors that one message may bring; with more it brings none.
const DESCRIPTORS_MAX: usize = 16;

#[derive(Args)]
pub(crate) struct Listen {
    /// unix:PATH, abstract:NAME, tcp:HOST:PORT or udp:HOST:PORT
    #[arg(value_name = "ADDR", value_parser = address::address)]
    address: Address,
    /// The kind of Unix socket [default: stream]
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
    #[command(flatten)]
    part: Part,
    /// So many clients at once; others wait [1: one after another]
    #[arg(long, value_name = "N", default_value_t = CLIENTS_MAX)]
    at_once: usize,
    /// End when so many clients have gone (datagrams: have come)
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End when nothing has happened for so long; exit 4
    #[arg(long, value_name = "D", value_parser = argument::duration)]
    timeout: Option<Duration>,
    /// Permissions of a Unix socket's name
    #[arg(long, value_name = "M", value_parser = argument::mode, default_value = "0600")]
    mode: u32,
    /// Write what is in files whose descriptors are passed to standard output
    #[arg(long)]
    read_passed: bool,
    /// Show the whole life cycle, with the peers' credentials, on standard error
    #[arg(short, long)]
    verbose: bool,
}

/// What it does with what comes. A line of the console goes to all clients, if
/// nothing else is said.
#[derive(Args, Clone, Copy)]
#[group(multiple = false)]
struct Part {
    /// Send back to each what it sent (console: q ends)
    #[arg(long)]
    echo: bool,
    /// Send each line to all others
    #[arg(long)]
    chat: bool,
    /// Add up each client's numbers until 0, and answer with the sum (console: q ends)
    #[arg(long)]
    sum: bool,
    /// Own a screen: clients say open TITLE, draw N TEXT, close N (console: key N TEXT)
    #[arg(long)]
    display: bool,
}

const CONSOLE: u64 = FREE;
/// Tokens of clients: their number, counted from 1, and this.
const FIRST: u64 = CONSOLE;

/// One client: a connection, or (datagrams) an address that has sent something.
struct Client {
    connection: Option<OwnedFd>,
    source: Option<SocketAddrAny>,
    /// An unfinished line.
    input: Vec<u8>,
    /// What waits to be sent, record by record.
    output: VecDeque<Vec<u8>>,
    output_bytes: usize,
    /// It has ended its writing: when everything is sent, it is closed.
    ended: bool,
    sum: i128,
}

struct Server<'a> {
    options: &'a Listen,
    kind: Kind,
    gate: Gate,
    clients: BTreeMap<u64, Client>,
    /// Number of the newest client.
    last: u64,
    gone: u64,
    display: Display,
    console: Vec<u8>,
    stopped: bool,
}

pub(crate) fn run(options: &Listen) -> Result<(), Failure> {
    let kind = options.address.kind(options.kind)?;
    let verbose = options.verbose;
    let gate = Gate::open(&options.address, kind, options.mode, verbose)?;
    if matches!(&options.address, Address::Tcp(text) | Address::Udp(text) if text.ends_with(":0")) {
        line(&gate.local)?; // the port that was chosen
    }
    match gate.epoll.add(std::io::stdin(), CONSOLE, Interest::READ) {
        // A file or /dev/null is no console.
        Ok(()) | Err(ipc::epoll::Error::NotPollable { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let mut server = Server {
        options,
        kind,
        gate,
        clients: BTreeMap::new(),
        last: 0,
        gone: 0,
        display: Display::default(),
        console: Vec::new(),
        stopped: false,
    };
    let result = server.serve();
    for (number, _) in core::mem::take(&mut server.clients) {
        if server.kind != Kind::Dgram {
            step(verbose, format!("close: client {number}"));
        }
    }
    let named = matches!(options.address, Address::Unix(unix::Address::Path(_)));
    drop(server);
    step(
        verbose,
        if named { "close: the listener; its name is removed" } else { "close: the listener" },
    );
    result
}

impl Server<'_> {
    fn serve(&mut self) -> Result<(), Failure> {
        let mut events = Events::with_capacity(64);
        loop {
            let done = self.options.count.is_some_and(|count| self.gone >= count);
            if self.stopped || done {
                return Ok(());
            }
            let deadline = Deadline::after(self.options.timeout);
            self.gate.epoll.wait(&mut events, deadline.left())?;
            if events.is_empty() && deadline.passed() {
                let after = self.options.timeout.unwrap_or_default();
                let text = format!("{}: nothing happened for {after:?}", self.options.address);
                return Err(Failure::Told { code: WAITED, text });
            }
            let ready: Vec<Ready> = events.iter().collect();
            for event in ready {
                match event.token {
                    LISTENER if self.kind == Kind::Dgram => self.datagrams()?,
                    LISTENER => self.accept()?,
                    CONSOLE => self.console()?,
                    SIGNALS => self.gate.ended()?,
                    token => self.client(token - FIRST, event)?,
                }
            }
        }
    }

    fn say(&self, text: impl core::fmt::Display) {
        step(self.options.verbose, text);
    }

    fn accept(&mut self) -> Result<(), Failure> {
        while self.clients.len() < self.options.at_once.max(1) {
            let (fd, from) = match self.gate.accept() {
                Ok(Some(accepted)) => accepted,
                Ok(None) => return Ok(()),
                Err(error @ AcceptError::Exhausted { .. }) if !self.clients.is_empty() => {
                    // It waits until one of the others has gone.
                    eprintln!("{error}");
                    return self.gate.listen(false);
                }
                Err(error) => return Err(error.into()),
            };
            self.last += 1;
            let number = self.last;
            let peer = self.gate.who(&fd, from);
            let descriptor = fd.as_raw_fd();
            self.say(format!("accept: client {number} by descriptor {descriptor}, from {peer}"));
            self.gate.epoll.add(&fd, number + FIRST, Interest::READ)?;
            self.clients.insert(number, Client::new(Some(fd), None));
            if self.options.part.chat {
                self.tell_others(number, &format!("* client {number} has come"))?;
            }
        }
        // Full: the listener is heard again when one has gone.
        self.gate.listen(false)
    }

    /// Takes what datagrams are there, but lets others come in between.
    fn datagrams(&mut self) -> Result<(), Failure> {
        let mut buffer = vec![0; READ_BYTES_MAX];
        for _ in 0..64 {
            if self.options.count.is_some_and(|count| self.gone >= count) {
                return Ok(());
            }
            let received =
                match descriptors::receive(&self.gate.endpoint, &mut buffer, DESCRIPTORS_MAX) {
                    Ok(received) => received,
                    Err(error) if error.errno() == Errno::AGAIN => return Ok(()),
                    // An answer to somebody who is gone comes back as an error.
                    Err(error) if error.errno() == Errno::CONNREFUSED => continue,
                    Err(descriptors::Error::Truncated { .. }) => {
                        eprintln!("more than {DESCRIPTORS_MAX} descriptors came; none was taken");
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                };
            self.gone += 1;
            let from = received.source.as_ref().and_then(address::source);
            let number = self.sender(received.source, from.as_deref());
            let who = from.map_or_else(
                || "somebody without a name, who can't be answered".to_owned(),
                |from| printable(&from),
            );
            self.say(format!("read: {} bytes from client {number}: {who}", received.bytes));
            if received.record_cut {
                eprintln!("a datagram longer than {READ_BYTES_MAX} bytes was cut off");
            }
            self.passed(received.descriptors)?;
            self.record(number, &buffer[..received.bytes])?;
        }
        Ok(())
    }

    /// The number of a datagram's sender. The oldest is forgotten for a new one
    /// when there are too many: nobody says goodbye.
    fn sender(&mut self, source: Option<SocketAddrAny>, name: Option<&str>) -> u64 {
        let known = self.clients.iter().find(|(_, client)| {
            client.source.as_ref().and_then(address::source).as_deref() == name
        });
        if let Some((number, _)) = known {
            return *number;
        }
        while self.clients.len() >= self.options.at_once.max(1) {
            self.clients.pop_first();
        }
        self.last += 1;
        self.clients.insert(self.last, Client::new(None, source));
        self.last
    }

    /// Descriptors that came along: shown, read if asked for, closed.
    fn passed(&mut self, descriptors: Vec<OwnedFd>) -> Result<(), Failure> {
        for descriptor in descriptors {
            let number = descriptor.as_raw_fd();
            let path = std::fs::read_link(format!("/proc/self/fd/{number}"));
            let path = path.map_or_else(|_| "?".to_owned(), |p| printable(&p.to_string_lossy()));
            let regular = rustix::fs::fstat(&descriptor).is_ok_and(|stat| {
                rustix::fs::FileType::from_raw_mode(stat.st_mode)
                    == rustix::fs::FileType::RegularFile
            });
            self.say(format!("a descriptor has come, here number {number}: {path}"));
            // Only a regular file: reading anything else could wait for ever.
            if !self.options.read_passed || !regular {
                continue;
            }
            let mut piece = vec![0; READ_BYTES_MAX];
            let mut at = 0;
            loop {
                match rustix::io::pread(&descriptor, &mut piece[..], at) {
                    Ok(0) => break,
                    Ok(count) => {
                        at += count as u64;
                        output(&piece[..count])?;
                    }
                    Err(Errno::INTR) => {}
                    Err(errno) => {
                        eprintln!("{path}: {}", ipc::errno_text(errno));
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn client(&mut self, number: u64, event: Ready) -> Result<(), Failure> {
        if event.is_writable() {
            self.flush(number)?;
        }
        if !event.is_readable() {
            return Ok(());
        }
        let Some(client) = self.clients.get(&number) else { return Ok(()) };
        if client.ended || client.output_bytes >= OUTPUT_BYTES_MAX {
            // Nothing is read from it any more; only that it is gone matters.
            if event.is_hung_up() || event.is_error() {
                self.close(number, "it is gone")?;
            }
            return Ok(());
        }
        let mut buffer = vec![0; READ_BYTES_MAX];
        let fd = client.connection.as_ref().expect("only connections are watched");
        let expected =
            if matches!(self.gate.endpoint, Endpoint::Unix(_)) { DESCRIPTORS_MAX } else { 0 };
        let received = match descriptors::receive(fd, &mut buffer, expected) {
            Ok(received) => received,
            Err(error) if error.errno() == Errno::AGAIN => return Ok(()),
            Err(descriptors::Error::Truncated { .. }) => {
                return self.close(number, "it passed more descriptors than are taken");
            }
            Err(error) => {
                let why = ipc::errno_text(error.errno());
                return self.close(number, &why);
            }
        };
        if received.bytes == 0 {
            self.say(format!("read: end of file of client {number}"));
            return self.end(number);
        }
        self.say(format!("read: {} bytes from client {number}", received.bytes));
        if received.record_cut {
            eprintln!("a record longer than {READ_BYTES_MAX} bytes was cut off");
        }
        self.passed(received.descriptors)?;
        self.record(number, &buffer[..received.bytes])
    }

    /// What a client sent: as it is, or line by line.
    fn record(&mut self, number: u64, bytes: &[u8]) -> Result<(), Failure> {
        let part = self.options.part;
        if part.echo {
            return self.send(number, number, bytes);
        }
        if !(part.chat || part.sum || part.display) {
            return output(bytes);
        }
        let records = self.kind != Kind::Stream;
        let Some(client) = self.clients.get_mut(&number) else { return Ok(()) };
        client.input.extend_from_slice(bytes);
        if records && !client.input.ends_with(b"\n") {
            client.input.push(b'\n');
        }
        let mut input = core::mem::take(&mut client.input);
        let mut begin = 0;
        while let Some(len) = input[begin..].iter().position(|byte| *byte == b'\n') {
            let text = String::from_utf8_lossy(&input[begin..begin + len]).into_owned();
            begin += len + 1;
            self.line(number, text.trim_end_matches('\r'))?;
            if !self.clients.contains_key(&number) {
                return Ok(());
            }
        }
        input.drain(..begin);
        if input.len() > LINE_BYTES_MAX {
            return self.close(number, &format!("a line longer than {LINE_BYTES_MAX} bytes"));
        }
        if let Some(client) = self.clients.get_mut(&number) {
            client.input = input;
        }
        Ok(())
    }

    fn line(&mut self, number: u64, text: &str) -> Result<(), Failure> {
        let part = self.options.part;
        if part.chat {
            let text = format!("client {number}: {}", printable(text));
            line(&text)?;
            return self.tell_others(number, &text);
        }
        if part.display {
            let outcome = self.display.request(number, text);
            if let Some(shown) = outcome.shown {
                line(shown)?;
            }
            return self.send(number, number, format!("{}\n", outcome.answer).as_bytes());
        }
        for word in text.split_ascii_whitespace() {
            let Some(client) = self.clients.get_mut(&number) else { return Ok(()) };
            let answer = match word.parse::<i64>() {
                Ok(0) => format!("Result = {}\n", core::mem::take(&mut client.sum)),
                Ok(value) => {
                    client.sum += i128::from(value);
                    continue;
                }
                Err(_) => format!("error: {:?}: no number\n", printable(word)),
            };
            self.send(number, number, answer.as_bytes())?;
        }
        Ok(())
    }

    /// Sends a line to all but one.
    fn tell_others(&mut self, but: u64, text: &str) -> Result<(), Failure> {
        let others: Vec<u64> = self.clients.keys().copied().filter(|n| *n != but).collect();
        for other in others {
            self.send(other, but, format!("{text}\n").as_bytes())?;
        }
        Ok(())
    }

    /// Sends to a client what another (or itself) has caused.
    fn send(&mut self, to: u64, cause: u64, bytes: &[u8]) -> Result<(), Failure> {
        let Some(client) = self.clients.get_mut(&to) else { return Ok(()) };
        if client.connection.is_none() {
            return self.send_datagram(to, bytes);
        }
        if to != cause && client.output_bytes + bytes.len() > OUTPUT_BYTES_MAX {
            let waiting = client.output_bytes;
            return self.close(to, &format!("it doesn't read: {waiting} bytes wait for it"));
        }
        client.output.push_back(bytes.to_vec());
        client.output_bytes += bytes.len();
        self.flush(to)
    }

    fn send_datagram(&mut self, to: u64, bytes: &[u8]) -> Result<(), Failure> {
        let Some(source) = self.clients.get(&to).and_then(|client| client.source.clone()) else {
            return Ok(());
        };
        if address::source(&source).is_none() {
            return Ok(()); // without a name there is nowhere to send to
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::net::sendto(&self.gate.endpoint, bytes, flags, &source) {
            Ok(count) => self.say(format!("write: {count} bytes to client {to}")),
            Err(Errno::AGAIN) => self.say(format!("client {to} has no room: a datagram is lost")),
            Err(errno) => {
                self.say(format!("client {to} is forgotten: {}", ipc::errno_text(errno)));
                self.clients.remove(&to);
            }
        }
        Ok(())
    }

    /// Sends what waits for a client, as far as it goes, and waits for what
    /// comes next: room, or its requests.
    fn flush(&mut self, number: u64) -> Result<(), Failure> {
        let mut why = None;
        let mut sent = 0;
        let Some(client) = self.clients.get_mut(&number) else { return Ok(()) };
        let Some(fd) = client.connection.as_ref() else { return Ok(()) };
        while let Some(first) = client.output.front_mut() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::send(fd, first, flags) {
                Ok(count) => {
                    sent += count;
                    client.output_bytes -= count;
                    first.drain(..count);
                    if first.is_empty() {
                        client.output.pop_front();
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(errno) => {
                    why = Some(ipc::errno_text(errno));
                    break;
                }
            }
        }
        let done = client.output.is_empty();
        let interest = match (client.ended || client.output_bytes >= OUTPUT_BYTES_MAX, done) {
            (_, true) => Interest::READ,
            (true, false) => Interest::WRITE,
            (false, false) => Interest::READ_WRITE,
        };
        self.gate.epoll.modify(fd, number + FIRST, interest)?;
        let ended = client.ended && done;
        if sent > 0 {
            self.say(format!("write: {sent} bytes to client {number}"));
        }
        match why {
            Some(why) => self.close(number, &why),
            None if ended => self.close(number, "everything is sent"),
            None => Ok(()),
        }
    }

    /// A client has ended its writing.
    fn end(&mut self, number: u64) -> Result<(), Failure> {
        let Some(client) = self.clients.get_mut(&number) else { return Ok(()) };
        let rest = core::mem::take(&mut client.input);
        if !rest.is_empty() {
            self.line(number, &String::from_utf8_lossy(&rest))?; // a last line without its end
        }
        let Some(client) = self.clients.get_mut(&number) else { return Ok(()) };
        client.ended = true;
        self.flush(number)
    }

    fn close(&mut self, number: u64, why: &str) -> Result<(), Failure> {
        if self.clients.remove(&number).is_none() {
            return Ok(());
        }
        self.say(format!("close: client {number}: {why}"));
        self.gone += 1;
        for text in self.display.gone(number) {
            line(text)?;
        }
        if self.options.part.chat {
            self.tell_others(number, &format!("* client {number} has gone"))?;
        }
        self.gate.listen(true)
    }

    fn console(&mut self) -> Result<(), Failure> {
        let mut buffer = vec![0; READ_BYTES_MAX];
        match rustix::io::read(std::io::stdin(), &mut buffer[..]) {
            Ok(0) | Err(Errno::IO) => {
                // The console's end is not the server's.
                self.gate.epoll.delete(std::io::stdin())?;
                if self.console.is_empty() {
                    return Ok(());
                }
                self.console.push(b'\n');
            }
            Ok(count) => self.console.extend_from_slice(&buffer[..count]),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(errno) => {
                let why = ipc::errno_text(errno);
                return Err(Failure::refused(format!("standard input: {why}")));
            }
        }
        let part = self.options.part;
        while let Some(len) = self.console.iter().position(|byte| *byte == b'\n') {
            let text: Vec<u8> = self.console.drain(..=len).collect();
            let words = String::from_utf8_lossy(&text[..len]).into_owned();
            if part.echo || part.sum {
                match words.trim() {
                    "q" => self.stopped = true,
                    "" => {}
                    other => eprintln!("{other}: here only q is understood: it ends the server"),
                }
            } else if part.display {
                match self.display.event(words.trim_end()) {
                    Ok((owner, event)) => self.send(owner, 0, format!("{event}\n").as_bytes())?,
                    Err(why) => eprintln!("{why}"),
                }
            } else if part.chat {
                self.tell_others(0, &format!("server: {words}"))?;
            } else {
                for number in self.clients.keys().copied().collect::<Vec<_>>() {
                    self.send(number, 0, &text)?;
                }
            }
        }
        if self.console.len() > LINE_BYTES_MAX * 16 {
            self.console.clear();
            eprintln!("a line of the console is too long; it is left out");
        }
        Ok(())
    }
}

impl Client {
    fn new(connection: Option<OwnedFd>, source: Option<SocketAddrAny>) -> Self {
        Self {
            connection,
            source,
            input: Vec::new(),
            output: VecDeque::new(),
            output_bytes: 0,
            ended: false,
            sum: 0,
        }
    }
}
