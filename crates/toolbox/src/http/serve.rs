//! The server: one loop over the listener and all connections. Nothing a client
//! does holds it up or makes it grow: a head is bounded in bytes and in time, a
//! response must go at a lowest speed, content is sent from the file itself in
//! slices, and when all places are taken, who is silent makes room.
//!
//! A connection's life:
//! ```text
//!   Reading ──head complete──► Sending ──kept──► Reading
//!      │ too slow: 408            │ closed
//!      └────────────► Sending ────┴──► Lingering ──end of file, 2 s──► gone
//! ```
//! Lingering: our side has ended, what the client still sends is thrown away;
//! closing at once could reset the connection and lose the response's end.
use core::time::Duration;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use clap::Args;
use ipc::Errno;
use ipc::epoll::{Events, Interest};
use ipc::socket::AcceptError;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use super::files::{Found, Root, encoded, file_name};
use super::request::{HEAD_BYTES_MAX, Parsed, Refusal, Request, content_type, parse, reason};
use crate::argument;
use crate::failure::{Failure, line};
use crate::sock::{self, Address, FREE, Gate, Kind, LISTENER, SIGNALS, step};

/// Connections at once: each costs a descriptor (two while a file is sent) of
/// the usual 1024.
const CONNECTIONS_MAX: usize = 256;
/// A request's head must be there after so long, however it trickles in.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// A response may take so long, and one second more for each
/// [`SPEED_LEAST`] bytes of it.
const SEND_WAIT: Duration = Duration::from_secs(30);
/// Bytes a second.
const SPEED_LEAST: u64 = 1024;
/// How long the client's end of a closed connection is waited for.
const LINGER: Duration = Duration::from_secs(2);
/// One connection sends so much before it is the others' turn.
const SLICE_BYTES: u64 = 256 * 1024;

#[derive(Args)]
pub(crate) struct Serve {
    /// The directory
    directory: PathBuf,
    /// HOST:PORT, or unix:PATH
    #[arg(long, value_name = "ADDR", value_parser = place, default_value = "127.0.0.1:8000")]
    listen: Address,
    /// Permissions of a Unix socket's name
    #[arg(long, value_name = "M", value_parser = argument::mode, default_value = "0600")]
    mode: u32,
    /// End after so many requests
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Say each request and its answer, on standard error
    #[arg(short, long)]
    verbose: bool,
}

fn place(text: &str) -> Result<Address, String> {
    if text.starts_with("unix:") || text.starts_with("abstract:") {
        return sock::address(text);
    }
    sock::address(&format!("tcp:{text}"))
}

enum Body {
    Nothing,
    Text(Vec<u8>),
    File { file: OwnedFd, at: u64, left: u64 },
}

struct Response {
    status: u16,
    /// What is still to be sent of the head.
    head: Vec<u8>,
    body: Body,
    keep: bool,
}

enum State {
    Reading,
    Sending(Response),
    Lingering,
}

struct Connection {
    fd: OwnedFd,
    peer: String,
    /// Read and not yet understood; at most [`HEAD_BYTES_MAX`].
    input: Vec<u8>,
    state: State,
    deadline: Instant,
}

struct Server<'a> {
    options: &'a Serve,
    root: Root,
    gate: Gate,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    answered: u64,
}

pub(crate) fn run(options: &Serve) -> Result<(), Failure> {
    let root = Root::open(&options.directory)?;
    let gate = Gate::open(&options.listen, Kind::Stream, options.mode, false)?;
    match gate.local.strip_prefix("tcp:") {
        Some(address) => line(format!("http://{address}/"))?,
        None => line(&gate.local)?,
    }
    let mut server =
        Server { options, root, gate, connections: BTreeMap::new(), next: FREE, answered: 0 };
    let mut events = Events::with_capacity(64);
    loop {
        let done = options.count.is_some_and(|count| server.answered >= count);
        if done && server.connections.is_empty() {
            return Ok(());
        }
        if done {
            server.gate.listen(false)?;
        }
        let now = Instant::now();
        let next = server.connections.values().map(|c| c.deadline).min();
        server.gate.epoll.wait(&mut events, next.map(|at| at.saturating_duration_since(now)))?;
        let ready: Vec<u64> = events.iter().map(|event| event.token).collect();
        for token in ready {
            match token {
                LISTENER => server.accept()?,
                SIGNALS => server.gate.ended()?,
                number => server.go_on(number)?,
            }
        }
        server.expire()?;
    }
}

impl Server<'_> {
    fn accept(&mut self) -> Result<(), Failure> {
        // Some in a turn; the others' turn comes in between.
        for _ in 0..16 {
            if self.connections.len() >= CONNECTIONS_MAX && !self.make_room() {
                return self.gate.listen(false); // all are being answered
            }
            let (fd, from) = match self.gate.accept() {
                Ok(Some(accepted)) => accepted,
                Ok(None) => return Ok(()),
                Err(AcceptError::Exhausted { .. }) if !self.connections.is_empty() => {
                    if !self.make_room() {
                        return self.gate.listen(false);
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let peer = match self.options.verbose {
                true => self.gate.who(&fd, from),
                false => String::new(),
            };
            let number = self.next;
            self.next += 1;
            self.gate.epoll.add(&fd, number, Interest::READ)?;
            let deadline = Instant::now() + HEAD_WAIT;
            let (input, state) = (Vec::new(), State::Reading);
            self.connections.insert(number, Connection { fd, peer, input, state, deadline });
        }
        Ok(())
    }

    /// Closes the one that has been silent the longest.
    fn make_room(&mut self) -> bool {
        let silent = self.connections.iter().filter(|(_, c)| !matches!(c.state, State::Sending(_)));
        let Some(number) = silent.min_by_key(|(_, c)| c.deadline).map(|(number, _)| *number) else {
            return false;
        };
        self.connections.remove(&number);
        true
    }

    fn close(&mut self, number: u64) -> Result<(), Failure> {
        self.connections.remove(&number);
        self.gate.listen(true)
    }

    /// Ends what has taken too long.
    fn expire(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let late: Vec<u64> =
            self.connections.iter().filter(|(_, c)| c.deadline <= now).map(|(n, _)| *n).collect();
        for number in late {
            let connection = self.connections.get_mut(&number).expect("just seen");
            if matches!(connection.state, State::Reading) && !connection.input.is_empty() {
                let refusal = Refusal { status: 408, why: "the request took too long" };
                self.refuse(number, &refusal)?;
            } else {
                self.close(number)?;
            }
        }
        Ok(())
    }

    /// A connection is ready for what its state waits for.
    fn go_on(&mut self, number: u64) -> Result<(), Failure> {
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        match connection.state {
            State::Sending(_) => self.send(number),
            State::Reading => {
                let mut buffer = [0; HEAD_BYTES_MAX];
                let room = HEAD_BYTES_MAX - connection.input.len();
                match rustix::net::recv(&connection.fd, &mut buffer[..room], RecvFlags::DONTWAIT) {
                    Ok((0, _)) => self.close(number),
                    Ok((count, _)) => {
                        connection.input.extend_from_slice(&buffer[..count]);
                        self.understand(number)
                    }
                    Err(Errno::AGAIN | Errno::INTR) => Ok(()),
                    Err(_) => self.close(number),
                }
            }
            State::Lingering => {
                let mut buffer = [0; HEAD_BYTES_MAX];
                match rustix::net::recv(&connection.fd, &mut buffer[..], RecvFlags::DONTWAIT) {
                    Ok((1.., _)) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
                    Ok(_) | Err(_) => self.close(number),
                }
            }
        }
    }

    /// Answers what has been read, if it is a whole request.
    fn understand(&mut self, number: u64) -> Result<(), Failure> {
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        match parse(&connection.input) {
            Parsed::Partial => Ok(()),
            Parsed::Refused(refusal) => self.refuse(number, &refusal),
            Parsed::Whole(len, request) => {
                connection.input.drain(..len);
                let mut response = self.respond(&request);
                response.keep &= self.options.count.is_none();
                self.begin(number, &request.line, request.minor, request.head, response)
            }
        }
    }

    fn refuse(&mut self, number: u64, refusal: &Refusal) -> Result<(), Failure> {
        let response = text(refusal.status, refusal.why, Vec::new());
        self.begin(number, "-", 0, false, response)
    }

    /// Finishes the head and begins to send.
    fn begin(
        &mut self,
        number: u64,
        request: &str,
        minor: u8,
        head_only: bool,
        mut response: Response,
    ) -> Result<(), Failure> {
        let connection = self.connections.get_mut(&number).expect("it has just asked");
        let status = response.status;
        let len = match &response.body {
            Body::Nothing => 0,
            Body::Text(text) => text.len() as u64,
            Body::File { left, .. } => *left,
        };
        let date = httpdate::fmt_http_date(SystemTime::now());
        let mut head =
            format!("HTTP/1.{minor} {status} {}\r\nDate: {date}\r\n", reason(status)).into_bytes();
        head.append(&mut response.head);
        if status != 304 {
            head.extend_from_slice(format!("Content-Length: {len}\r\n").as_bytes());
        }
        let connection_field = match (response.keep, minor) {
            (false, _) => "Connection: close\r\n",
            (true, 0) => "Connection: keep-alive\r\n",
            (true, _) => "",
        };
        head.extend_from_slice(connection_field.as_bytes());
        head.extend_from_slice(b"\r\n");
        response.head = head;
        if head_only {
            response.body = Body::Nothing;
        }
        let shown = request.escape_default();
        step(self.options.verbose, format!("{} \"{shown}\" {status} {len}", connection.peer));
        self.answered += 1;
        connection.deadline = Instant::now() + SEND_WAIT + Duration::from_secs(len / SPEED_LEAST);
        connection.state = State::Sending(response);
        self.gate.epoll.modify(&connection.fd, number, Interest::WRITE)?;
        self.send(number)
    }

    /// Sends one slice.
    fn send(&mut self, number: u64) -> Result<(), Failure> {
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        let State::Sending(response) = &mut connection.state else { return Ok(()) };
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let moved = if !response.head.is_empty() {
            // The first of the content goes with the head, if it is text.
            if let Body::Text(text) = &mut response.body {
                response.head.append(text);
                response.body = Body::Nothing;
            }
            let sent = rustix::net::send(&connection.fd, &response.head, flags);
            sent.inspect(|count| drop(response.head.drain(..*count)))
        } else if let Body::File { file, at, left } = &mut response.body {
            let slice = (*left).min(SLICE_BYTES) as usize;
            match rustix::fs::sendfile(&connection.fd, &*file, Some(at), slice) {
                // The file has become shorter than what the head promised.
                Ok(0) if *left > 0 => Err(Errno::IO),
                sent => sent.inspect(|count| *left -= *count as u64),
            }
        } else {
            Ok(0)
        };
        match moved {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(_) => return self.close(number),
            Ok(_) => {}
        }
        let left = match &response.body {
            Body::Nothing => 0,
            Body::Text(text) => text.len() as u64,
            Body::File { left, .. } => *left,
        };
        if !response.head.is_empty() || left > 0 {
            return Ok(());
        }
        let keep = response.keep;
        self.gate.epoll.modify(&connection.fd, number, Interest::READ)?;
        if keep {
            connection.state = State::Reading;
            connection.deadline = Instant::now() + HEAD_WAIT;
            // The next one may be there already.
            return if connection.input.is_empty() { Ok(()) } else { self.understand(number) };
        }
        if rustix::net::shutdown(&connection.fd, Shutdown::Write).is_err() {
            return self.close(number);
        }
        connection.state = State::Lingering;
        connection.deadline = Instant::now() + LINGER;
        Ok(())
    }

    fn respond(&self, request: &Request) -> Response {
        let mut response = match self.root.find(&request.path) {
            Found::File(file, stat) => return file_response(request, file, &stat),
            Found::Listing(page) => Response {
                status: 200,
                head: b"Content-Type: text/html; charset=utf-8\r\n".to_vec(),
                body: Body::Text(page.into_bytes()),
                keep: false,
            },
            Found::DirectoryWithoutSlash => {
                // Below our own root whatever it says: `//host/` would lead away.
                let path = encoded(&request.path);
                let place = format!("Location: /{}/\r\n", path.trim_start_matches('/'));
                text(301, "a directory's name ends in /", place.into_bytes())
            }
            Found::Missing => text(404, "there is no such file", Vec::new()),
            Found::Forbidden => text(403, "it may not be read", Vec::new()),
            Found::Busy => text(503, "too much is asked for at once; try again", Vec::new()),
        };
        response.keep = request.keep;
        response
    }
}

/// An answer that is only a line of text.
fn text(status: u16, why: &str, mut head: Vec<u8>) -> Response {
    head.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\n");
    if status == 405 {
        head.extend_from_slice(b"Allow: GET, HEAD\r\n");
    }
    let body = format!("{status} {}: {why}\n", reason(status));
    Response { status, head, body: Body::Text(body.into_bytes()), keep: false }
}

fn file_response(request: &Request, file: OwnedFd, stat: &rustix::fs::Stat) -> Response {
    let size = stat.st_size as u64;
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(stat.st_mtime.max(0) as u64);
    let kind = content_type(file_name(&request.path));
    let mut head = format!(
        "Last-Modified: {}\r\nContent-Type: {kind}\r\nAccept-Ranges: bytes\r\n",
        httpdate::fmt_http_date(changed)
    );
    let keep = request.keep;
    let unchanged = request.if_modified_since.is_some_and(|since| changed <= since);
    if unchanged && request.range.is_none() {
        return Response { status: 304, head: head.into_bytes(), body: Body::Nothing, keep };
    }
    let current = request.if_range.is_none_or(|date| date == Some(changed));
    let whole = Body::File { file, at: 0, left: size };
    let (Some(range), true, false) = (request.range, current, request.head) else {
        return Response { status: 200, head: head.into_bytes(), body: whole, keep };
    };
    let Body::File { file, .. } = whole else { unreachable!("made above") };
    let Some((first, count)) = range.within(size) else {
        let mut response = text(
            416,
            "the file has no such bytes",
            format!("Content-Range: bytes */{size}\r\n").into_bytes(),
        );
        response.keep = keep;
        return response;
    };
    head.push_str(&format!("Content-Range: bytes {first}-{}/{size}\r\n", first + count - 1));
    let body = Body::File { file, at: first, left: count };
    Response { status: 206, head: head.into_bytes(), body, keep }
}
