//! Asking and telling a daemon: requests with their answers, and streams of
//! changes.
//!
//! An [`Admin`] is a connection that doesn't follow. Everything here waits for
//! its end; for the rest of a program that must not wait, give it a thread.
//!
//! A stream of changes is *pipelined*: changes are sent as fast as they are
//! made, and the daemon's answer counts them. Neither side can hold the other
//! up for good, because whoever waits for room to write reads meanwhile.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rtm_model::Change;
use rtm_tables::wire::{self, DescriptorKind, ItemFlags, ItemKind, LoadFlags, Welcome};
use rtm_tables::{ClientConfig, ClientEvent, Revision, Secret};
use rustix::event::PollFlags;

use crate::address::Address;
use crate::connection::{CONNECT_TIMEOUT, Connection, wait};
use crate::error::Error;
use crate::transport::Transport;

/// How much of a stream is gathered before it is written: large enough that a
/// system call is cheap beside it.
const STREAM_BYTES: usize = 64 * 1024;

/// A piece of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// What it is.
    pub kind: ItemKind,
    /// Flags: is it there only to resolve others?
    pub flags: ItemFlags,
    /// Its bytes, padded with zeros to a multiple of eight.
    pub body: &'a [u8],
}

impl<'a> Item<'a> {
    /// Its text, without the padding: of text, JSON and names.
    pub fn text(&self) -> std::borrow::Cow<'a, str> {
        let end = self.body.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        String::from_utf8_lossy(&self.body[..end])
    }
}

/// How a request or a stream ended.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Done {
    /// An exit code: 0 done, 1 syntax, 2 refused, 4 timed out.
    pub code: u32,
    /// The table's revision then.
    pub revision: Revision,
    /// Changes that were applied.
    pub applied: u64,
    /// Changes that made no difference.
    pub unchanged: u64,
    /// Changes that were refused.
    pub failed: u64,
    /// The number, from 1, of the first that was refused; 0: none.
    pub position: u64,
    /// One line; empty if there is nothing to say.
    pub text: String,
    /// Of a stream that goes on after errors: what the daemon said about each
    /// of the first hundred changes that were refused, a JSON object with
    /// `position` and `text`.
    pub refusals: Vec<String>,
}

impl From<wire::Done<'_>> for Done {
    fn from(done: wire::Done<'_>) -> Done {
        Done {
            code: done.code,
            revision: done.revision,
            applied: done.applied,
            unchanged: done.unchanged,
            failed: done.failed,
            position: done.position,
            text: done.text.to_owned(),
            refusals: Vec::new(),
        }
    }
}

/// How a stream of changes is to be taken.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LoadOptions {
    /// All or none, visible at once.
    pub atomic: bool,
    /// Go on after a change that is refused.
    pub force: bool,
    /// The whole content of this source; `None`: changes by `admin`.
    pub source: Option<String>,
}

/// A connection for requests and loads.
pub struct Admin {
    transport: Transport,
    welcome: Welcome,
}

impl Admin {
    /// Connects and waits for the daemon's greeting.
    ///
    /// # Errors
    /// [`Error::Connect`], and what a daemon that refuses says.
    pub fn connect(address: &Address, name: &str) -> Result<Admin, Error> {
        Admin::on(Connection::open(address, CONNECT_TIMEOUT)?, name)
    }

    /// Greets on a connection that there is already.
    ///
    /// # Errors
    /// As [`Admin::connect`].
    pub fn on(connection: Connection, name: &str) -> Result<Admin, Error> {
        Admin::proving(connection, name, None)
    }

    /// Greets, and proves a secret to a daemon that asks for one (over TCP, where
    /// it has a `tcp_token_file`).
    ///
    /// # Errors
    /// As [`Admin::connect`]; a goodbye if the secret is wrong.
    pub fn proving(
        connection: Connection,
        name: &str,
        secret: Option<Secret>,
    ) -> Result<Admin, Error> {
        let config =
            ClientConfig { name: name.to_owned(), features: 0, secret, ..ClientConfig::default() };
        let mut transport = Transport::new(connection, config, Instant::now());
        let mut welcome = None;
        let mut proven = None;
        while welcome.is_none() {
            step(&mut transport, None, &mut |event| match event {
                ClientEvent::Welcome(came) => welcome = Some(came),
                ClientEvent::Proven { role } => proven = Some(role),
                _ => {}
            })?;
        }
        let mut welcome = welcome.ok_or_else(|| transport.closed())?;
        let mut unproven = welcome.features & wire::FEATURE_CHALLENGE != 0;
        if let Some(role) = proven {
            (welcome.role, unproven) = (role, false);
        }
        while unproven {
            step(&mut transport, None, &mut |event| {
                if let ClientEvent::Proven { role } = event {
                    (welcome.role, unproven) = (role, false);
                }
            })?;
        }
        Ok(Admin { transport, welcome })
    }

    /// Who it is connected to.
    pub fn address(&self) -> &Address {
        self.transport.connection.address()
    }

    /// What the daemon said: its epoch, this session's role.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Asks one line of the grammar and hands each piece of the answer to
    /// `item`, as they come. If `item` returns false, the rest is not wanted.
    ///
    /// That the daemon refuses is no error here: see [`Done::code`].
    ///
    /// # Errors
    /// The connection's.
    pub fn request(
        &mut self,
        line: &str,
        item: &mut dyn FnMut(Item<'_>) -> bool,
    ) -> Result<Done, Error> {
        let asked = self.transport.session.request(line);
        let mut wanted = true;
        let mut cancelled = false;
        let mut answer = None;
        while answer.is_none() {
            step(&mut self.transport, None, &mut |event| match event {
                ClientEvent::Item { id, kind, flags, body } if id == asked && wanted => {
                    wanted = item(Item { kind, flags, body });
                }
                ClientEvent::Done(done) if done.id == asked => answer = Some(Done::from(done)),
                _ => {}
            })?;
            if !wanted && !cancelled && answer.is_none() {
                cancelled = true;
                self.transport.session.cancel(asked);
            }
        }
        Ok(answer.unwrap_or_default())
    }

    /// Asks for a descriptor and waits for it.
    ///
    /// # Errors
    /// [`Error::NoDescriptor`], and the connection's.
    pub fn descriptor(&mut self, kind: DescriptorKind) -> Result<OwnedFd, Error> {
        self.transport.session.want(kind);
        let mut answer = None;
        while answer.is_none() {
            step(&mut self.transport, None, &mut |event| {
                if let ClientEvent::Descriptor { given, text, .. } = event {
                    answer = Some((given, text.to_owned()));
                }
            })?;
        }
        let (given, why) = answer.unwrap_or_default();
        let descriptor = if given { self.transport.take_descriptor() } else { None };
        descriptor.ok_or_else(|| Error::NoDescriptor {
            address: self.address().clone(),
            kind,
            why: if given { "it announced one and sent none".to_owned() } else { why },
        })
    }

    /// Begins a stream of changes.
    pub fn load(&mut self, options: &LoadOptions) -> Load<'_> {
        let mut flags = LoadFlags::default();
        if options.atomic {
            flags = flags.with(LoadFlags::ATOMIC);
        }
        if options.force {
            flags = flags.with(LoadFlags::FORCE);
        }
        if options.source.is_some() {
            flags = flags.with(LoadFlags::WHOLE);
        }
        let source = options.source.as_deref().unwrap_or_default();
        let id = self.transport.session.load_begin(flags, source);
        Load { admin: self, id, sent: 0, answer: None, refusals: Vec::new() }
    }

    /// One change by `admin`, without a stream around it for others.
    ///
    /// # Errors
    /// The connection's; that the daemon refuses is in [`Done::code`].
    pub fn change(&mut self, change: &Change) -> Result<Done, Error> {
        let mut load = self.load(&LoadOptions::default());
        load.push(change)?;
        load.finish(false)
    }

    /// Says goodbye and closes, waiting a second at most.
    pub fn goodbye(mut self) {
        self.transport.session.goodbye();
        let end = Instant::now() + Duration::from_secs(1);
        while let Ok(false) = self.transport.flush() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            wait(&[(self.transport.connection.as_fd(), PollFlags::OUT)], Some(left));
        }
    }
}

/// A stream of changes under way.
///
/// Dropped without [`Load::finish`], it is given up with the connection: an
/// atomic one never happened, of another what the daemon had read by then did.
pub struct Load<'a> {
    admin: &'a mut Admin,
    id: u64,
    sent: u64,
    answer: Option<Done>,
    refusals: Vec<String>,
}

impl Load<'_> {
    /// Adds a change. False: the daemon has ended the stream already, because
    /// a change was refused; [`Load::finish`] says which.
    ///
    /// # Errors
    /// The connection's.
    pub fn push(&mut self, change: &Change) -> Result<bool, Error> {
        if self.answer.is_some() {
            return Ok(false);
        }
        self.admin.transport.session.change(change);
        self.sent += 1;
        if self.admin.transport.session.output().len() >= STREAM_BYTES {
            self.pump(STREAM_BYTES / 2)?;
        }
        Ok(self.answer.is_none())
    }

    /// Writes what goes without waiting, and takes what has come: for who has
    /// no more changes just now. False as for [`Load::push`].
    ///
    /// # Errors
    /// The connection's.
    pub fn flush(&mut self) -> Result<bool, Error> {
        self.turn(Some(usize::MAX))?;
        Ok(self.answer.is_none())
    }

    /// How many changes were added.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Ends the stream and waits for the daemon's answer. `give_up`: nothing
    /// of an atomic one happens.
    ///
    /// # Errors
    /// The connection's.
    pub fn finish(mut self, give_up: bool) -> Result<Done, Error> {
        self.admin.transport.session.load_end(give_up);
        self.pump(0)?;
        while self.answer.is_none() {
            self.turn(None)?;
        }
        let answer = self.answer.unwrap_or_default();
        Ok(Done { refusals: self.refusals, ..answer })
    }

    /// Writes until at most so much is left, reading what comes meanwhile.
    fn pump(&mut self, left: usize) -> Result<(), Error> {
        while self.admin.transport.session.output().len() > left {
            self.turn(Some(left))?;
        }
        Ok(())
    }

    /// One wait for the connection, and what it allows. With `enough`, comes
    /// back without waiting once so little is left to write.
    fn turn(&mut self, enough: Option<usize>) -> Result<(), Error> {
        let (id, answer, refusals) = (self.id, &mut self.answer, &mut self.refusals);
        let mut took = |event: ClientEvent<'_>| match event {
            ClientEvent::Done(done) if done.id == id => *answer = Some(Done::from(done)),
            ClientEvent::Item { id: of, kind: ItemKind::Json, flags, body } if of == id => {
                refusals.push(Item { kind: ItemKind::Json, flags, body }.text().into_owned());
            }
            _ => {}
        };
        step(&mut self.admin.transport, enough, &mut took)
    }
}

/// Waits until the connection can be read or written, does it, and hands the
/// events on. With `enough`, comes back without waiting once so little is left
/// to write: that is looked at after the one attempt to write, since who
/// waited after a second one that wrote everything would wait for ever.
fn step(
    transport: &mut Transport,
    enough: Option<usize>,
    took: &mut dyn FnMut(ClientEvent<'_>),
) -> Result<(), Error> {
    let flushed = transport.flush()?;
    let written = enough.is_some_and(|enough| transport.session.output().len() <= enough);
    // What a daemon that is gone doesn't take counts as written; why it went is to be read.
    if written && !transport.is_deaf() {
        return Ok(());
    }
    let flags = if flushed { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
    let now = Instant::now();
    let due = transport.deadline().map(|at| at.saturating_duration_since(now));
    let ready = wait(&[(transport.connection.as_fd(), flags)], due);
    let now = Instant::now();
    if ready[0].intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
        let fill = transport.fill(now)?;
        let address = transport.connection.address();
        loop {
            let event = transport
                .session
                .poll_event()
                .map_err(|error| Error::Protocol { address: address.clone(), error })?;
            match event {
                None => break,
                Some(ClientEvent::Goodbye { reason, text }) => {
                    let text = text.to_owned();
                    return Err(Error::Goodbye { address: address.clone(), reason, text });
                }
                Some(event) => took(event),
            }
        }
        if fill.ended {
            return Err(transport.closed());
        }
    }
    transport.check_time(now)?;
    transport.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, mpsc};
    use std::thread;

    use rtm_model::DigestKey;
    use rtm_model::text::{Command, Context, parse_line};
    use rtm_tables::Epoch;
    use rtm_tables::wire::{DaemonFrame, Role, VERSION};

    use super::*;

    /// A daemon that reads everything just after a write found no room, and
    /// nothing otherwise.
    ///
    /// The fault that this was: a second attempt wrote all that was left, and
    /// then the load waited for an answer that nothing was to bring.
    #[test]
    fn room_that_comes_between_two_writes_is_not_waited_for() {
        // How much a write leaves depends on how much the socket holds.
        for kib in (16..=96).step_by(4) {
            load_into(kib * 1024);
        }
    }

    /// Who only writes learns that the daemon is gone, too.
    #[test]
    fn a_load_ends_with_the_daemon() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (connection, theirs, change) = greeted(ours, theirs);
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut admin = Admin::on(connection, "").unwrap();
            let mut load = admin.load(&LoadOptions::default());
            assert!(load.push(&change).unwrap() && load.flush().unwrap());
            drop(theirs);
            let error = loop {
                if let Err(error) = load.push(&change).and_then(|_| load.flush()) {
                    break error;
                }
            };
            tell.send(error.to_string()).unwrap();
        });
        let error = told.recv_timeout(Duration::from_secs(60)).expect("it goes on for ever");
        assert!(error.contains("closed it without a goodbye"), "{error}");
    }

    fn load_into(send_buffer_bytes: usize) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        rustix::net::sockopt::set_socket_send_buffer_size(&ours, send_buffer_bytes).unwrap();
        let (connection, mut theirs, change) = greeted(ours, theirs);
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut admin = Admin::on(connection, "").unwrap();
            let mut load = admin.load(&LoadOptions::default());
            let full = Arc::new(AtomicU64::new(0));
            let counted = Arc::clone(&full);
            let mut buffer = vec![0; 1 << 20];
            load.admin.transport.meanwhile = Some(Box::new(move || {
                counted.fetch_add(1, Ordering::Relaxed);
                while theirs.read(&mut buffer).is_ok_and(|count| count > 0) {}
            }));
            while full.load(Ordering::Relaxed) < 10 {
                assert!(load.push(&change).unwrap());
            }
            tell.send(()).unwrap();
        });
        let told = told.recv_timeout(Duration::from_secs(60));
        told.expect("the load waits for room that it has");
    }

    /// A daemon's end that has said welcome, and a change.
    fn greeted(ours: UnixStream, mut theirs: UnixStream) -> (Connection, UnixStream, Change) {
        let mut greeting = Vec::new();
        DaemonFrame::Welcome(Welcome {
            version: VERSION,
            lowest: 1,
            frame_bytes_max: 28 * 1024,
            features: 0,
            epoch: Epoch(1),
            digest_key: DigestKey([1, 2]),
            session: 1,
            role: Role::Admin,
        })
        .encode(&mut greeting);
        theirs.write_all(&greeting).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let connection =
            Connection::from_fd(OwnedFd::from(ours), Address::Unix("pair".into())).unwrap();
        let line = "route replace 10.0.0.0/8 via 192.0.2.1 dev eth0";
        let Ok(Some((_, Command::Change(change)))) = parse_line(line, &Context::default()) else {
            panic!("{line}")
        };
        (connection, theirs, change)
    }
}
