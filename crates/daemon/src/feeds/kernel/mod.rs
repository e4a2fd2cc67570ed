//! This host's own tables, mirrored: rtnetlink, read-only, without privilege.
//!
//! Two sockets. One is in the kernel's multicast groups and receives what
//! happens; the other asks for what there is, and is read by a thread
//! ([`reader`]). The first is read to its end between taking a piece of an answer
//! and looking at it, so that an event always goes before a line that may be
//! older ([`listing`]).
//!
//! ```text
//!  events ─ filter in the kernel ─> routes · neighbours · links · objects ─┐
//!     │ overrun, link changed, doubt: listed again, one in settle_ms       ├─> Core::apply
//!     └──────────> listing ──> request ──> lines, not spoken of by events ─┘
//!                     └─ undisturbed, or twice ──> what it lacks goes (stamps)
//! ```
//!
//! What the kernel doesn't tell is derived: IPv4 routes that go with a link,
//! routes of a next-hop object that goes. Whatever else a link's change may do
//! (dead next hops, IPv6 routes that come back) is listed again for that link.
//! And every few minutes everything is looked at anew, in case all of this
//! missed something: what differed is mended, counted and logged.

mod answers;
mod events;
mod filter;
mod listing;
mod neighbours;
mod reader;
mod routes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use ipc::epoll::{Epoll, Interest};
use ipc::netlink::{self, Error, Socket};
use rtm_model::{HopSpec, Prefix};
use rtm_netlink::{Builder, LinkState, Member, number};
use rtm_tables::{ChangeError, Millis, SourceId, SourceSpec, StaleCursor, Stamp};
use serde_json::{Value, json};

use super::sockets;
use crate::config::KernelConfig;
use crate::core::{Core, Requester};
use crate::inventory::Row;
use crate::turn::TurnStats;
use crate::wakeup::Wakeup;
pub(super) use filter::program;
use listing::{Listing, Scope};
use reader::{Piece, Reader};

/// The longest message: an attribute ends at 64 KiB, and dumps come in pieces
/// of 32 KiB.
const BUFFER_BYTES: usize = 128 * 1024;
/// Everything is looked at anew this often …
const AUDIT_MS: Millis = 300_000;
/// … but it may take no more than this part of the time.
const AUDIT_SHARE: u32 = 100;
/// After a listing that change disturbed each time, and that may have missed something, it
/// comes this soon.
const SOON_MS: Millis = 10_000;
/// Up to this many routes a whole listing is as cheap as one link's.
const SMALL: usize = 2_000;
/// Prefixes in doubt; with more, everything is.
const PREFIXES_MAX: usize = 1_024;
/// Neighbours whose time has come, in one turn.
const TIMEOUTS: usize = 256;
/// Entries looked at in one turn for what a listing lacks.
const LOOKS: u32 = 20_000;
/// Differences that `reconcile` spells out.
const REPORT_MAX: usize = 1_000;
/// Refused routes that are logged one by one.
const LOGGED_MAX: u64 = 10;
/// A line about overruns at most this often.
const TOLD_MS: Millis = 60_000;
/// Events that never end can't put off listings longer than this.
const DRAIN: Duration = Duration::from_secs(1);

/// What others see of it: `status`, `source list`, `source reconcile`.
#[derive(Default)]
pub(crate) struct KernelState {
    /// Is it on?
    pub(crate) source: Option<SourceId>,
    /// When the kernel last said anything.
    pub(crate) last_message: Option<Millis>,
    /// Counters by name.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// How often a look at everything was asked for, and how often it was done.
    pub(crate) asked: u64,
    pub(crate) done: u64,
    /// What the last one found: lines, and how many more there were.
    pub(crate) report: Vec<String>,
    pub(crate) more: u64,
}

impl KernelState {
    fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// For `status`; null: it is off.
    pub(crate) fn facts(&self) -> Value {
        if self.source.is_none() {
            return Value::Null;
        }
        json!({ "counts": self.counts })
    }
}

/// A next-hop object of the kernel.
enum Known {
    Hop(HopSpec),
    Group(Vec<Member>),
    Blackhole,
    /// A bridge's.
    Fdb,
}

/// Why and what to list.
#[derive(Default)]
struct Wanted {
    all: bool,
    links: BTreeSet<u32>,
    /// Of these it isn't known which routes there are, or in which order.
    prefixes: BTreeSet<(u32, Prefix)>,
    /// Not before then.
    at: Option<Millis>,
}

/// The feed.
pub(crate) struct Kernel {
    events: Socket,
    reader: Reader,
    /// A piece of an answer that waits for events to be read first.
    piece: Option<Piece>,
    source: SourceId,
    tables: Vec<u32>,
    /// Routes of this protocol are our own export.
    own_protocol: u8,
    settle_ms: Millis,
    buffer: Vec<u8>,
    request: Builder,
    sequence: u32,
    links: HashMap<u32, LinkState>,
    /// Links whose state a listing showed before an event told it.
    foreseen: HashSet<u32>,
    objects: HashMap<u32, Known>,
    joined: neighbours::Joined,
    alike: routes::Alike,
    /// Events were lost, or nothing was listed yet: what we have may not be all.
    unsure: bool,
    wanted: Wanted,
    listing: Option<Listing>,
    /// One that is to be made again.
    repeat: Option<Listing>,
    /// Looks for what the listing that has just ended lacks, for the report.
    search: Option<(StaleCursor, Stamp)>,
    /// Events that don't end are read alone until then.
    begin_by: Option<Instant>,
    /// What is found is told to who asked, up to this request.
    reporting: bool,
    ticket: u64,
    /// When the last listing ended, and when everything is looked at next.
    ended: Millis,
    audit: Millis,
    listed_once: bool,
    /// The listing to come is only to make sure.
    auditing: bool,
    flushes: u64,
    overruns_told: Option<Millis>,
    paused: bool,
    /// Somebody else has the tables: what is due waits for the release.
    held: bool,
    /// Bytes of events and of answers; how often time was up before the events'
    /// end.
    read: [u64; 2],
    overran: u64,
}

impl Kernel {
    /// Opens both sockets; the first listing begins with the first turn.
    ///
    /// # Errors
    /// One line: the kernel refuses a socket.
    pub(crate) fn open(core: &mut Core, config: &KernelConfig, own: u8) -> Result<Kernel, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("kernel: {error}");
        let mut spec = SourceSpec::kernel();
        spec.distances = core.config.distance.of_kernel();
        let source = core.table.source(spec).map_err(|error| wrong(&error))?;
        let tables = config.numbers(&core.names).map_err(|error| wrong(&error))?;
        let groups = [
            number::GROUP_LINK,
            number::GROUP_NEIGH,
            number::GROUP_IPV4_IFADDR,
            number::GROUP_IPV6_IFADDR,
            number::GROUP_IPV4_ROUTE,
            number::GROUP_IPV6_ROUTE,
            number::GROUP_NEXTHOP,
        ];
        let filter = program(&tables, Some(own));
        let events = sockets::events(config.receive_bytes.0 as usize, &filter, &groups);
        let events = events.map_err(|error| wrong(&error))?;
        let dumps = sockets::requests().map_err(|error| wrong(&error))?;
        let reader = Reader::start(dumps, BUFFER_BYTES).map_err(|error| wrong(&error))?;
        core.kernel.source = Some(source);
        Ok(Kernel {
            events,
            reader,
            piece: None,
            source,
            tables,
            own_protocol: own,
            settle_ms: config.settle_ms.0,
            buffer: vec![0; BUFFER_BYTES],
            request: Builder::default(),
            sequence: 0,
            links: HashMap::new(),
            foreseen: HashSet::new(),
            objects: HashMap::new(),
            joined: neighbours::Joined::default(),
            alike: routes::Alike::default(),
            unsure: true,
            wanted: Wanted { all: true, at: Some(0), ..Wanted::default() },
            listing: None,
            repeat: None,
            search: None,
            ticket: 0,
            begin_by: None,
            reporting: false,
            ended: 0,
            audit: 0,
            listed_once: false,
            auditing: false,
            flushes: core.flushes,
            overruns_told: None,
            paused: false,
            held: false,
            read: [0; 2],
            overran: 0,
        })
    }

    /// Lets the loop watch it.
    pub(crate) fn watch(&self, epoll: &Epoll) -> Result<(), ipc::epoll::Error> {
        epoll.add(&self.events, Wakeup::Kernel.number(), Interest::READ)?;
        epoll.add(self.reader.event(), Wakeup::KernelAnswer.number(), Interest::READ)
    }

    /// Its descriptors, for `status -d`.
    pub(crate) fn rows(&self, turns: &TurnStats) -> [Row; 3] {
        let [events, answers] = self.read;
        [
            Row::new("netlink", &self.events, "kernel: events")
                .woken(turns.wakeups_by(Wakeup::Kernel))
                .read(events, self.overran),
            // A thread of its own waits for it.
            Row::new("netlink", self.reader.socket(), "kernel: listings").read(answers, 0),
            Row::new("event", self.reader.event(), "kernel: its thread")
                .woken(turns.wakeups_by(Wakeup::KernelAnswer)),
        ]
    }

    /// The next time that something is due.
    pub(crate) fn poll_timeout(&self) -> Option<Millis> {
        let listing = if self.listing.is_some() || self.search.is_some() {
            None
        } else {
            Some(self.wanted.at.unwrap_or(self.audit))
        };
        [listing, self.joined.poll_timeout()].into_iter().flatten().min().filter(|_| !self.held)
    }

    /// Does what is due. True: it has more to do.
    pub(crate) fn handle_timeout(&mut self, core: &mut Core) -> bool {
        self.held = !core.may_change(Requester::Kernel);
        if self.held {
            return false;
        }
        self.joined.handle_timeout(core, self.source, TIMEOUTS);
        if core.flushes != self.flushes {
            // A flush emptied our part, too: the kernel is asked again.
            self.flushes = core.flushes;
            self.lost(core);
        }
        if self.listing.is_some() || self.search.is_some() {
            return false;
        }
        if core.kernel.asked > core.kernel.done && !self.reporting && self.repeat.is_none() {
            (self.reporting, self.ticket) = (true, core.kernel.asked);
            core.kernel.report.clear();
            core.kernel.more = 0;
            self.wanted.all = true;
            self.wanted.at = Some(core.now);
        }
        if self.wanted.at.is_none() && self.listed_once && core.now >= self.audit {
            self.want_all(core.now);
            self.auditing = true;
            core.kernel.count("audits");
        }
        self.wanted.at.is_some_and(|at| at <= core.now)
    }

    /// Reads events, then answers, until `until`. True: there is more.
    pub(crate) fn take_some(&mut self, core: &mut Core, epoll: &Epoll, until: Instant) -> bool {
        if !core.may_change(Requester::Kernel) {
            // Level-triggered: what nobody reads would wake every turn.
            self.pause(true, epoll);
            return false;
        }
        self.pause(false, epoll);
        self.held = false;
        loop {
            // Before the events: so what is read of them now is newer than it.
            if self.piece.is_none() {
                self.piece = self.reader.poll();
            }
            let drained = self.read_events(core, until);
            if drained {
                self.begin_by = None;
            } else {
                let by = *self.begin_by.get_or_insert_with(|| Instant::now() + DRAIN);
                if Instant::now() < by {
                    return true;
                }
                self.begin_by = None;
            }
            if self.search.is_some() {
                self.search_stale(core);
            } else if self.listing.is_none() && self.wanted.at.is_some_and(|at| at <= core.now) {
                self.begin(core);
            } else if self.listing.is_some() {
                let Some(piece) = self.piece.take() else { return false };
                self.read_answer(core, &piece);
                self.reader.done(piece);
            } else {
                // What is left of an answer that was given up.
                let Some(piece) = self.piece.take() else { return false };
                self.reader.done(piece);
            }
            if Instant::now() >= until {
                return true;
            }
        }
    }

    fn pause(&mut self, paused: bool, epoll: &Epoll) {
        if self.paused == paused {
            return;
        }
        let interest = if paused { Interest::NONE } else { Interest::READ };
        let events = epoll.modify(&self.events, Wakeup::Kernel.number(), interest);
        let dumps = epoll.modify(self.reader.event(), Wakeup::KernelAnswer.number(), interest);
        match events.and(dumps) {
            Ok(()) => self.paused = paused,
            Err(error) => tracing::error!("kernel: {error}"),
        }
    }

    fn want_all(&mut self, now: Millis) {
        self.wanted.all = true;
        self.want(now);
    }

    /// Is a whole listing as cheap as a part?
    fn is_small(&self, core: &Core) -> bool {
        let mut sources = core.table.sources();
        let own = sources.find(|source| source.id == self.source);
        own.is_some_and(|source| source.routes <= SMALL)
    }

    fn want_link(&mut self, core: &Core, ifindex: u32) {
        if self.is_small(core) {
            self.wanted.all = true;
        } else {
            self.wanted.links.insert(ifindex);
        }
        self.want(core.now);
    }

    fn want_prefix(&mut self, core: &Core, table: u32, prefix: Prefix) {
        if self.is_small(core) || self.wanted.prefixes.len() == PREFIXES_MAX {
            self.wanted.all = true;
        } else {
            self.wanted.prefixes.insert((table, prefix));
        }
        self.want(core.now);
    }

    /// What is wanted is listed when things have settled, and never sooner
    /// than that after the last.
    fn want(&mut self, now: Millis) {
        self.want_at((now + self.settle_ms).max(self.ended + self.settle_ms));
    }

    fn want_at(&mut self, at: Millis) {
        self.wanted.at = Some(self.wanted.at.map_or(at, |before| before.min(at)));
    }

    // Events.

    /// Reads events; false: time is up and there may be more.
    fn read_events(&mut self, core: &mut Core, until: Instant) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut drained = true;
        loop {
            match self.events.receive(&mut buffer) {
                Ok(datagram) if datagram.sender != netlink::KERNEL => {
                    core.kernel.count("spoofed");
                }
                Ok(datagram) => {
                    core.kernel.last_message = Some(core.now);
                    core.kernel.count("events");
                    self.read[0] += datagram.len as u64;
                    self.events_in(core, &buffer[..datagram.len]);
                }
                Err(Error::WouldBlock {}) => break,
                Err(Error::Overrun {}) => self.overrun(core),
                Err(Error::Truncated { .. }) => self.overrun(core),
                Err(error) => {
                    tracing::error!("kernel: {error}");
                    self.overrun(core);
                    break;
                }
            }
            if Instant::now() >= until {
                drained = false;
                self.overran += 1;
                break;
            }
        }
        self.buffer = buffer;
        drained
    }

    /// What we have can't be relied on: everything is listed, also what a listing under
    /// way has told already.
    fn lost(&mut self, core: &Core) {
        self.unsure = true;
        self.alike.clear();
        match (&mut self.listing, &mut self.repeat) {
            (Some(listing), _) if listing.scope == Scope::All => listing.overrun = true,
            (_, Some(repeat)) if repeat.scope == Scope::All => repeat.overrun = true,
            (listing, _) => {
                // It may be of anything: a listing of one link won't do.
                if let Some(listing) = listing {
                    listing.overrun = true;
                }
                self.want_all(core.now);
            }
        }
    }

    fn overrun(&mut self, core: &mut Core) {
        core.kernel.count("overruns");
        self.lost(core);
        if self.overruns_told.is_none_or(|told| core.now >= told + TOLD_MS) {
            self.overruns_told = Some(core.now);
            let overruns = core.kernel.counts.get("overruns").copied().unwrap_or_default();
            tracing::warn!(
                "kernel: events were lost (overrun {overruns} since the start); all is listed again"
            );
        }
    }
}

fn refused(core: &mut Core, place: &str, error: &ChangeError) {
    core.kernel.count("refused");
    if core.kernel.counts.get("refused").is_some_and(|count| *count <= LOGGED_MAX) {
        tracing::warn!("kernel: {place}: {error}");
    }
}
