//! FPM: routes from FRR's zebra (`-M dplane_fpm_nl`), over TCP.
//!
//! ```text
//! a frame  0 | version 1 | type 1: netlink | length u16 big-endian, with this header |
//!          4 | one or several messages of rtnetlink                                  |
//! ```
//!
//! A frame is a transaction: zebra changes a route by a delete and an add in
//! one, and no reader sees the gap. Nothing is ever sent back.
//!
//! # A peer's life
//! ```text
//!            connects                    quiet for quiet_s, or cap_s after connecting
//!   (none) ----------> replaying ------------------------------------------> settled
//!                        ^   |                                                  |
//!               connects |   | the connection ends                              |
//!                        |   v                                                  |
//!                       lost <--------------------------------------------------+
//!                        |
//!                        | cap_s later: the source goes, in slices
//! ```
//! Zebra replays everything when it connects, sends no delete for what vanished
//! meanwhile, and no end mark. So what a peer had is stale from the loss of its
//! connection, what it names again is confirmed, and what it didn't name is
//! swept when it has fallen silent. Until then the stale routes stay: a zebra
//! that restarts, or a frame that can't be read, empties nothing.
//!
//! # Which source is whose
//! The source is `fpm:ADDRESS`. A second connection from another host's address
//! is the same zebra, whose host was cut off: it takes over. From this host it
//! is another zebra (the kernel tells the end of a local connection at once) and
//! has `fpm:ADDRESS#2`.
//!
//! # Object numbers
//! Next-hop objects are numbered by the zebra process, which the port id in its
//! messages names. When another process connects, the numbers of the one before
//! mean nothing any more: its groups lose them and keep their next hops, or
//! routes not yet replayed would change with a number's new meaning.

mod content;
mod links;
mod objects;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use ipc::epoll::{Epoll, Interest};
use ipc::socket::AcceptError;
use ipc::tcp::{Keepalive, Listener};
use rtm_netlink::messages;
use rtm_tables::{Applied, Millis, SourceClass, SourceId, SourceSpec};
use serde_json::{Value, json};

use crate::config::FpmConfig;
use crate::core::{Core, Requester};
use crate::wakeup::Wakeup;
use content::Content;
pub(crate) use links::Links;

/// Peers at a time, connected or lost: each is a source.
const PEERS_MAX: usize = 64;

/// A frame's header.
const HEADER_BYTES: usize = 4;
/// The version of FPM, and the type of a frame of netlink messages.
const VERSION: u8 = 1;
const TYPE_NETLINK: u8 = 1;

/// Read at once. With the longest frame behind it this is what a peer costs.
const READ_BYTES: usize = 64 * 1024;
const BUFFER_BYTES: usize = READ_BYTES + 64 * 1024;

/// Frames between two looks at the clock.
const FRAMES_A_LOOK: u32 = 32;

/// Refusals that are logged for each connection; the rest is counted.
const LOGGED_MAX: u32 = 10;

/// How long nobody is accepted when there was no descriptor.
const PAUSE_MS: Millis = 1000;

/// The listener and its peers.
pub(crate) struct Fpm {
    epoll: Rc<Epoll>,
    listener: Listener,
    address: SocketAddr,
    quiet_ms: Millis,
    cap_ms: Millis,
    peers: Vec<Peer>,
    links: Links,
    /// Nobody is accepted before this.
    closed_until: Option<Millis>,
    /// Others have the tables for themselves: nobody is read.
    paused: bool,
    /// Flushes that were answered by asking again.
    flushes: u64,
    next_place: u32,
}

/// A zebra, connected or lost.
struct Peer {
    place: u32,
    name: String,
    address: IpAddr,
    source: SourceId,
    line: Option<Line>,
    /// Since when it is connected, or lost.
    since: Millis,
    /// When something came last.
    heard: Millis,
    /// What it doesn't name again is yet to be swept.
    replaying: bool,
    /// The port id of the process that was last connected.
    port: u32,
    /// It left nothing behind: forgotten with the turn.
    gone: bool,
    content: Content,
}

/// A connection.
struct Line {
    socket: OwnedFd,
    same_host: bool,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Something may be there to be read.
    readable: bool,
    /// The first message has been seen.
    begun: bool,
    logged: u32,
}

/// What `source list` tells of a peer.
#[derive(Clone, Debug)]
pub(crate) struct PeerFacts {
    source: SourceId,
    state: &'static str,
    heard: Millis,
    waiting: usize,
    counts: content::Counts,
}

impl PeerFacts {
    /// As JSON, for the source's entry.
    pub(crate) fn json(&self) -> Value {
        json!({
            "state": self.state,
            "frames": self.counts.frames,
            "bytes": self.counts.bytes,
            "skipped": self.counts.skipped,
            "unknown_attributes": self.counts.unknown,
            "encapsulations_left_out": self.counts.encapsulated,
            "weights_cut": self.counts.cut,
            "refused": self.counts.refused,
            "missing": self.counts.missing,
            "waiting": self.waiting,
        })
    }

    /// When something came last.
    pub(crate) fn heard(&self) -> Millis {
        self.heard
    }

    /// Is this the peer of this source?
    pub(crate) fn is_of(&self, source: SourceId) -> bool {
        self.source == source
    }
}

/// How a peer's turn ended.
enum Read {
    /// Nothing more is there.
    All,
    /// Time was up.
    More,
    /// The connection is over: why.
    Over(String),
}

impl Fpm {
    /// Listens.
    ///
    /// # Errors
    /// One line: what, where, why.
    pub(crate) fn open(epoll: Rc<Epoll>, config: &FpmConfig) -> Result<Option<Fpm>, String> {
        let Some(wanted) = config.listen else { return Ok(None) };
        let listener = Listener::bind(wanted.0).map_err(|error| format!("fpm.listen: {error}"))?;
        let address = listener.local_address().map_err(|error| error.to_string())?;
        Ok(Some(Fpm {
            epoll,
            listener,
            address,
            quiet_ms: config.quiet_s.0 * 1000,
            cap_ms: config.cap_s.0 * 1000,
            peers: Vec::new(),
            links: Links::default(),
            closed_until: None,
            paused: false,
            flushes: 0,
            next_place: 0,
        }))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets the loop watch it.
    pub(crate) fn watch(&self) -> Result<(), ipc::epoll::Error> {
        self.epoll.add(&self.listener, Wakeup::FpmListener.number(), Interest::READ)
    }

    /// Takes what changed with the configuration, for what comes from here on.
    pub(crate) fn configure(&mut self, core: &mut Core) {
        let config = &core.config.fpm;
        (self.quiet_ms, self.cap_ms) = (config.quiet_s.0 * 1000, config.cap_s.0 * 1000);
        for peer in &self.peers {
            // It is known: this can't find too many sources.
            let _ = core.table.source(spec_of(&peer.name, peer.address, core));
        }
    }

    /// A peer's socket has something.
    pub(crate) fn woken(&mut self, place: u32) {
        let peer = self.peers.iter_mut().find(|peer| peer.place == place);
        if let Some(line) = peer.and_then(|peer| peer.line.as_mut()) {
            line.readable = true;
        }
    }

    /// Lets in who waits.
    pub(crate) fn accept(&mut self, core: &mut Core) {
        loop {
            match self.listener.accept() {
                Ok((socket, address)) => self.admit(socket, address, core),
                Err(AcceptError::WouldBlock {}) => break,
                Err(error) => {
                    tracing::warn!("fpm: {error}");
                    self.closed_until = Some(core.now + PAUSE_MS);
                    let _ = self.epoll.delete(&self.listener);
                    break;
                }
            }
        }
        self.tell(core);
    }

    fn admit(&mut self, socket: OwnedFd, address: SocketAddr, core: &mut Core) {
        let ip = address.ip();
        let own = ipc::tcp::local_address(&socket).ok().map(|own| own.ip());
        let same_host = ip.is_loopback() || own == Some(ip);
        let hung_up = |line: &Line| {
            let flags = rustix::event::PollFlags::RDHUP;
            let mut fds = [rustix::event::PollFd::new(&line.socket, flags)];
            let timeout = rustix::event::Timespec::default();
            rustix::event::poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0)
        };
        for at in 0..self.peers.len() {
            let peer = &self.peers[at];
            let Some(line) = peer.line.as_ref().filter(|_| peer.address == ip) else { continue };
            // What it had still to say, it says again over the new one.
            if !same_host || hung_up(line) {
                self.lose(at, "a new connection takes over", core);
            }
        }
        self.peers.retain(|peer| !peer.gone);
        let known = self.peers.iter().position(|peer| peer.address == ip && peer.line.is_none());
        let at = match known {
            Some(at) => at,
            None => match self.new_peer(ip, core) {
                Ok(at) => at,
                Err(why) => {
                    tracing::warn!("fpm: {address} is refused: {why}");
                    return;
                }
            },
        };
        let place = self.peers[at].place;
        let _ = ipc::tcp::set_keepalive(&socket, Some(Keepalive::default()));
        if !self.paused {
            let watched = self.epoll.add(&socket, Wakeup::Fpm(place).number(), Interest::READ);
            if let Err(error) = watched {
                tracing::warn!("fpm: {address} is refused: {error}");
                return;
            }
        }
        let peer = &mut self.peers[at];
        // A source that was dropped meanwhile, or never was, comes (back).
        let spec = spec_of(&peer.name, ip, core);
        match core.table.source(spec) {
            Ok(source) => peer.source = source,
            Err(error) => {
                tracing::warn!("fpm: {address} is refused: {error}");
                return;
            }
        }
        if !peer.replaying {
            core.table.begin_generation(peer.source);
            peer.replaying = true;
        }
        (peer.since, peer.heard) = (core.now, core.now);
        peer.line = Some(Line {
            socket,
            same_host,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            readable: true,
            begun: false,
            logged: 0,
        });
        tracing::info!("{}: {address} is connected", peer.name);
    }

    fn new_peer(&mut self, ip: IpAddr, core: &mut Core) -> Result<usize, String> {
        if self.peers.len() == PEERS_MAX {
            return Err(format!("{PEERS_MAX} peers are known, which is the limit"));
        }
        let mut number = 1;
        let name = loop {
            let name = match number {
                1 => format!("fpm:{ip}"),
                number => format!("fpm:{ip}#{number}"),
            };
            if self.peers.iter().all(|peer| peer.name != name) {
                break name;
            }
            number += 1;
        };
        let source = core.table.source(spec_of(&name, ip, core)).map_err(|e| e.to_string())?;
        let place = self.next_place;
        self.next_place = self.next_place.wrapping_add(1);
        self.peers.push(Peer {
            place,
            name,
            address: ip,
            source,
            line: None,
            since: core.now,
            heard: core.now,
            replaying: false,
            port: 0,
            gone: false,
            content: Content::default(),
        });
        Ok(self.peers.len() - 1)
    }

    /// Reads and applies until `until`, from each peer in turn. True: there is
    /// more.
    pub(crate) fn take_some(&mut self, core: &mut Core, until: Instant) -> bool {
        if self.peers.is_empty() {
            return false;
        }
        self.pause(!core.may_change(Requester::Fpm));
        if self.paused {
            // The release brings us back.
            return false;
        }
        self.links.begin_turn();
        let mut more = false;
        for at in 0..self.peers.len() {
            match self.peers[at].read_some(core, &mut self.links, until) {
                Read::All => {}
                Read::More => more = true,
                Read::Over(why) => self.lose(at, &why, core),
            }
        }
        self.peers.retain(|peer| !peer.gone);
        if self.peers.is_empty() {
            self.tell(core);
            return more;
        }
        // Who was read first comes last in the next turn.
        self.peers.rotate_left(1);
        self.tell(core);
        more
    }

    fn pause(&mut self, paused: bool) {
        if self.paused == paused {
            return;
        }
        self.paused = paused;
        for peer in &mut self.peers {
            let Some(line) = &mut peer.line else { continue };
            line.readable = true;
            // A peer that hangs up would be reported every turn; who isn't
            // watched isn't.
            let result = if paused {
                self.epoll.delete(&line.socket)
            } else {
                let number = Wakeup::Fpm(peer.place).number();
                self.epoll.add(&line.socket, number, Interest::READ)
            };
            if let Err(error) = result {
                tracing::error!("{}: {error}", peer.name);
            }
        }
    }

    /// A connection is over: what came by it is stale from here on.
    fn lose(&mut self, at: usize, why: &str, core: &mut Core) {
        let peer = &mut self.peers[at];
        if peer.line.take().is_none() {
            return;
        }
        peer.content.disconnected();
        core.table.begin_generation(peer.source);
        (peer.replaying, peer.since) = (true, core.now);
        let of_peer = core.table.sources().find(|source| source.id == peer.source);
        if of_peer.is_some_and(|source| source.routes == 0) {
            tracing::info!("{}: {why}; it had no routes", peer.name);
            core.table.drop_source(peer.source);
            peer.gone = true;
            return;
        }
        tracing::warn!(
            "{}: {why}; its routes are stale, and go in {} s unless it comes back",
            peer.name,
            self.cap_ms / 1000
        );
    }

    /// Everything was flushed: who is closed connects again, and tells all.
    fn ask_again(&mut self, core: &mut Core) {
        for at in 0..self.peers.len() {
            self.lose(at, "flushed; zebra is made to replay", core);
        }
        self.peers.retain(|peer| !peer.gone);
        self.tell(core);
    }

    /// What is due by now.
    pub(crate) fn handle_timeout(&mut self, core: &mut Core) {
        if self.closed_until.is_some_and(|until| until <= core.now) {
            self.closed_until = None;
            let _ = self.watch();
        }
        if std::mem::replace(&mut self.flushes, core.route_flushes) != core.route_flushes {
            self.ask_again(core);
        }
        // While others have the tables nobody is read, so nobody is silent.
        if self.paused || !core.may_change(Requester::Fpm) {
            return;
        }
        let mut at = 0;
        while let Some(peer) = self.peers.get_mut(at) {
            let due = peer.due(self.quiet_ms, self.cap_ms).is_some_and(|due| due <= core.now);
            if due && peer.line.is_none() {
                tracing::warn!(
                    "{}: not back for {} s: its routes go",
                    peer.name,
                    self.cap_ms / 1000
                );
                core.table.drop_source(peer.source);
                self.peers.remove(at);
                continue;
            }
            // What lies in the socket, or behind a budget, is not silence.
            let unread = peer.line.as_ref().is_some_and(|line| line.readable);
            if due && (!unread || core.now >= peer.since + self.cap_ms) {
                core.table.end_generation(peer.source);
                peer.replaying = false;
                let after = (core.now - peer.since) as f64 / 1000.0;
                tracing::info!("{}: replayed after {after:.1} s", peer.name);
            }
            at += 1;
        }
        self.tell(core);
    }

    /// When something is due.
    pub(crate) fn poll_timeout(&self) -> Option<Millis> {
        let peers = self.peers.iter().filter_map(|peer| peer.due(self.quiet_ms, self.cap_ms));
        let peers = peers.filter(|_| !self.paused);
        peers.chain(self.closed_until).min()
    }

    /// Puts what is known of the peers where `source list` looks.
    fn tell(&self, core: &mut Core) {
        core.fpm.clear();
        core.fpm.extend(self.peers.iter().map(|peer| PeerFacts {
            source: peer.source,
            state: match (&peer.line, peer.replaying) {
                (None, _) => "lost",
                (Some(_), true) => "replaying",
                (Some(_), false) => "connected",
            },
            heard: peer.heard,
            waiting: peer.content.waiting(),
            counts: peer.content.counts,
        }));
    }
}

/// A peer's source, with the distances in force.
fn spec_of(name: &str, ip: IpAddr, core: &Core) -> SourceSpec {
    let mut spec = SourceSpec::new(name, SourceClass::Fpm(ip));
    spec.distances = core.config.distance.of_fpm(name, ip, &core.names);
    spec
}

impl Peer {
    /// When its replay counts as finished, or it as gone for good.
    fn due(&self, quiet_ms: Millis, cap_ms: Millis) -> Option<Millis> {
        match &self.line {
            None => Some(self.since + cap_ms),
            Some(_) if self.replaying => Some((self.heard + quiet_ms).min(self.since + cap_ms)),
            Some(_) => None,
        }
    }

    /// Frames, until there are no more or time is up; at least some.
    fn read_some(&mut self, core: &mut Core, links: &mut Links, until: Instant) -> Read {
        let mut reads = 0;
        loop {
            match self.apply_some(core, links, until) {
                Ok(true) => {}
                Ok(false) => return Read::More,
                Err(why) => return Read::Over(why),
            }
            let Some(line) = &mut self.line else { return Read::All };
            if !line.readable {
                return Read::All;
            }
            // Few frames may be many messages.
            if reads > 0 && Instant::now() >= until {
                return Read::More;
            }
            reads += 1;
            if line.start > 0 {
                line.buffer.copy_within(line.start..line.end, 0);
                (line.start, line.end) = (0, line.end - line.start);
            }
            let room = line.end..(line.end + READ_BYTES).min(line.buffer.len());
            match rustix::io::read(&line.socket, &mut line.buffer[room]) {
                Ok(0) if line.end > 0 => {
                    return Read::Over("the connection ended within a frame".to_owned());
                }
                Ok(0) => return Read::Over("the connection ended".to_owned()),
                Ok(count) => {
                    line.end += count;
                    self.content.counts.bytes += count as u64;
                    self.heard = core.now;
                }
                Err(rustix::io::Errno::AGAIN) => {
                    line.readable = false;
                    return Read::All;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => {
                    return Read::Over(format!("reading failed: {}", ipc::errno_text(errno)));
                }
            }
        }
    }

    /// Applies the whole frames that were read. False: time is up, and there
    /// are more.
    fn apply_some(
        &mut self,
        core: &mut Core,
        links: &mut Links,
        until: Instant,
    ) -> Result<bool, String> {
        let mut frames = 0;
        loop {
            let Some(line) = &mut self.line else { return Ok(true) };
            let bytes = &line.buffer[line.start..line.end];
            let Some(&[version, kind, high, low]) = bytes.first_chunk::<HEADER_BYTES>() else {
                return Ok(true);
            };
            let length = usize::from(u16::from_be_bytes([high, low]));
            if version != VERSION {
                return Err(format!(
                    "a frame of version {version}; version {VERSION} of FPM would be right"
                ));
            }
            if kind != TYPE_NETLINK {
                return Err(format!(
                    "a frame of type {kind}; netlink, type {TYPE_NETLINK}, would be right ('-M dplane_fpm_nl')"
                ));
            }
            if length < HEADER_BYTES {
                return Err(format!(
                    "a frame of {length} bytes; at least {HEADER_BYTES} would be right"
                ));
            }
            let Some(frame) = bytes.get(HEADER_BYTES..length) else { return Ok(true) };
            let (begin, end) = (line.start + HEADER_BYTES, line.start + length);
            if !std::mem::replace(&mut line.begun, true) {
                let port = messages(frame).next().and_then(Result::ok).map_or(0, |m| m.port);
                if port == 0 || port != self.port {
                    self.port = port;
                    let (table, mut out) = core.parts();
                    table.release_groups(self.source, &mut out).map_err(|e| e.to_string())?;
                }
            }
            line.start = end;
            self.content.counts.frames += 1;
            apply(
                &line.buffer[begin..end],
                self.source,
                line.same_host,
                &mut self.content,
                core,
                links,
            )
            .map_err(|why| format!("a malformed frame: {why}"))?;
            if let Some(refusal) = self.content.refusal.take() {
                line.logged += 1;
                if line.logged <= LOGGED_MAX {
                    tracing::warn!("{}: refused: {refusal}", self.name);
                }
            }
            frames += 1;
            if frames % FRAMES_A_LOOK == 0 && Instant::now() >= until {
                return Ok(false);
            }
        }
    }
}

/// One frame is one transaction: all of it, or nothing.
fn apply(
    frame: &[u8],
    source: SourceId,
    same_host: bool,
    content: &mut Content,
    core: &mut Core,
    links: &mut Links,
) -> Result<(), String> {
    // A next hop, the smallest thing that can make a record, takes 16 bytes.
    let records_max = (frame.len() / 16 + 4) as u64;
    if let Err(why) = core.image.room_for(records_max, &core.table) {
        content.refusal = Some(why);
        core.image.refuse();
        core.counters.refused += 1;
        return Ok(());
    }
    let (table, mut out) = core.parts();
    let mut transaction = table.transaction(source).map_err(|error| error.to_string())?;
    for message in messages(frame) {
        let message = message.map_err(|error| error.to_string())?;
        content.message(message, &mut transaction, links, same_host)?;
    }
    match transaction.commit(&mut out) {
        Applied::Changed(_) => core.counters.changes += 1,
        Applied::Unchanged => core.counters.unchanged += 1,
    }
    Ok(())
}
