//! This host's own tables, mirrored: rtnetlink, read-only, without privilege.
//!
//! Two sockets. One is in the kernel's multicast groups and receives what
//! happens; the other asks for what there is. The first is read to its end
//! before each piece of an answer on the second, so that an event always goes
//! before a line that may be older ([`listing`]).
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

mod filter;
mod listing;
mod neighbours;
mod routes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use ipc::epoll::{Epoll, Interest};
use ipc::netlink::{self, Error, Socket};
use rtm_model::{
    Change, Family, GroupSpec, HopSpec, LinkRef, LinkSpec, NudState, RouteSpec, Verb, WEIGHT_MAX,
};
use rtm_netlink::{
    Answer, Body, Builder, LinkMessage, LinkState, Member, NeighbourMessage, NeighbourSkip,
    NextHopMessage, Object, RouteMessage, RouteSkip, messages, number,
};
use rtm_tables::{ChangeError, Millis, OwnRoute, SourceId, SourceSpec, StaleCursor, Stamp};
use serde_json::{Value, json};

use crate::config::KernelConfig;
use crate::core::{Core, Requester};
use crate::wakeup::Wakeup;
pub(super) use filter::program;
use listing::{Listing, ROUNDS_MAX, Scope, Step};
use routes::{ListKey, Outcome};

/// The longest message: an attribute ends at 64 KiB, and dumps come in pieces
/// of 32 KiB.
const BUFFER_BYTES: usize = 128 * 1024;
/// Everything is looked at anew this often …
const AUDIT_MS: Millis = 300_000;
/// … but it may take no more than this part of the time.
const AUDIT_SHARE: u32 = 100;
/// Up to this many routes a whole listing is as cheap as one link's.
const SMALL: usize = 2_000;
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
    /// Not before then.
    at: Option<Millis>,
}

/// The feed.
pub(crate) struct Kernel {
    events: Socket,
    dumps: Socket,
    source: SourceId,
    tables: Vec<u32>,
    /// Routes of this protocol are our own export.
    own_protocol: u8,
    settle_ms: Millis,
    buffer: Vec<u8>,
    request: Builder,
    sequence: u32,
    links: HashMap<u32, LinkState>,
    objects: HashMap<u32, Known>,
    joined: neighbours::Joined,
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
        let events = Socket::open(netlink::ROUTE).map_err(|error| wrong(&error))?;
        // Beyond net.core.rmem_max nothing is granted without privilege.
        let bytes = config.receive_bytes.0 as usize;
        ipc::socket::set_receive_buffer(&events, bytes).map_err(|error| wrong(&error))?;
        events.attach_filter(&program(&tables, Some(own))).map_err(|error| wrong(&error))?;
        for group in [
            number::GROUP_LINK,
            number::GROUP_NEIGH,
            number::GROUP_IPV4_IFADDR,
            number::GROUP_IPV4_ROUTE,
            number::GROUP_IPV6_ROUTE,
            number::GROUP_NEXTHOP,
        ] {
            events.join(group).map_err(|error| wrong(&error))?;
        }
        let dumps = Socket::open(netlink::ROUTE).map_err(|error| wrong(&error))?;
        dumps.set_strict_check(true).map_err(|error| wrong(&error))?;
        dumps.set_extended_ack(true).map_err(|error| wrong(&error))?;
        core.kernel.source = Some(source);
        Ok(Kernel {
            events,
            dumps,
            source,
            tables,
            own_protocol: own,
            settle_ms: config.settle_ms.0,
            buffer: vec![0; BUFFER_BYTES],
            request: Builder::default(),
            sequence: 0,
            links: HashMap::new(),
            objects: HashMap::new(),
            joined: neighbours::Joined::default(),
            wanted: Wanted { all: true, links: BTreeSet::new(), at: Some(0) },
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
        })
    }

    /// Lets the loop watch it.
    pub(crate) fn watch(&self, epoll: &Epoll) -> Result<(), ipc::epoll::Error> {
        epoll.add(&self.events, Wakeup::Kernel.number(), Interest::READ)?;
        epoll.add(&self.dumps, Wakeup::KernelAnswer.number(), Interest::READ)
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
            self.want_all(core.now);
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
                if !self.read_answer(core) {
                    return false;
                }
            } else {
                return false;
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
        let dumps = epoll.modify(&self.dumps, Wakeup::KernelAnswer.number(), interest);
        match events.and(dumps) {
            Ok(()) => self.paused = paused,
            Err(error) => tracing::error!("kernel: {error}"),
        }
    }

    fn want_all(&mut self, now: Millis) {
        self.wanted.all = true;
        self.want(now);
    }

    fn want_link(&mut self, core: &Core, ifindex: u32) {
        let small = core
            .table
            .sources()
            .find(|source| source.id == self.source)
            .is_some_and(|source| source.routes <= SMALL);
        if small {
            self.wanted.all = true;
        } else {
            self.wanted.links.insert(ifindex);
        }
        self.want(core.now);
    }

    /// What is wanted is listed when things have settled, and never sooner
    /// than that after the last.
    fn want(&mut self, now: Millis) {
        if self.wanted.at.is_none() {
            self.wanted.at = Some((now + self.settle_ms).max(self.ended + self.settle_ms));
        }
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
                break;
            }
        }
        self.buffer = buffer;
        drained
    }

    fn overrun(&mut self, core: &mut Core) {
        core.kernel.count("overruns");
        if let Some(listing) = &mut self.listing {
            listing.overrun = true;
        } else if let Some(repeat) = self.repeat.as_mut().filter(|l| l.scope == Scope::All) {
            repeat.overrun = true;
        } else {
            self.want_all(core.now);
        }
        if self.overruns_told.is_none_or(|told| core.now >= told + TOLD_MS) {
            self.overruns_told = Some(core.now);
            let overruns = core.kernel.counts.get("overruns").copied().unwrap_or_default();
            tracing::warn!(
                "kernel: events were lost (overrun {overruns} since the start); all is listed again"
            );
        }
    }

    fn events_in(&mut self, core: &mut Core, bytes: &[u8]) {
        for message in messages(bytes) {
            let Ok(body) = message.and_then(Body::decode) else {
                core.kernel.count("malformed");
                return;
            };
            match body {
                Body::Route(route) => self.route_event(core, &route),
                Body::NextHop(object) => self.object_event(core, &object),
                Body::Neighbour(neighbour) => {
                    self.neighbour(core, &neighbour, true);
                }
                Body::Link(link) => self.link_event(core, &link),
                Body::Address(address) => {
                    // What goes with an address is notified; on a small host it
                    // costs nothing to make sure.
                    if address.gone {
                        self.want_small(core);
                    }
                }
                Body::Answer(_) | Body::Other => {}
            }
        }
    }

    fn want_small(&mut self, core: &Core) {
        let mut sources = core.table.sources();
        let own = sources.find(|source| source.id == self.source);
        if own.is_some_and(|source| source.routes <= SMALL) {
            self.want_all(core.now);
        }
    }

    fn route_event(&mut self, core: &mut Core, route: &RouteMessage<'_>) {
        let Some(spec) = self.route_of(core, route) else { return };
        let family = spec.prefix.family();
        if let Some(listing) = &mut self.listing {
            listing.lists.insert(ListKey::of(&spec));
            listing.disturbed |= listing.concerns_routes(family) || listing.is_crowded();
        }
        let place = spec.prefix;
        let outcome = if route.gone {
            routes::removed(core, self.source, spec)
        } else {
            routes::added(core, self.source, route.flags, spec)
        };
        match outcome {
            Outcome::Applied | Outcome::Nothing => {}
            Outcome::Doubtful => {
                core.kernel.count("doubtful");
                self.want_all(core.now);
            }
            Outcome::Refused(error) => refused(core, &place.to_string(), &error),
        }
    }

    /// A route's message in the tables' terms, if it is one of ours.
    fn route_of(&self, core: &mut Core, route: &RouteMessage<'_>) -> Option<RouteSpec> {
        if route.protocol == self.own_protocol {
            return None;
        }
        if !self.tables.is_empty() && !self.tables.contains(&route.table) {
            return None;
        }
        if route.unknown() > 0 {
            core.kernel.count("unknown attributes");
        }
        match route.spec() {
            Ok(mut spec) => {
                spec.kind = spec.kind.or(Some(rtm_model::RouteType::Unicast));
                Some(spec)
            }
            Err(skip) => {
                core.kernel.count(match skip {
                    RouteSkip::Family => "ignored: other families",
                    RouteSkip::Cloned => "ignored: cloned routes",
                    RouteSkip::SourcePrefix => "ignored: routes for some sources",
                    RouteSkip::Type => "ignored: unknown types of routes",
                    RouteSkip::Limits => "ignored: beyond what the tables take",
                });
                None
            }
        }
    }

    fn object_event(&mut self, core: &mut Core, object: &NextHopMessage<'_>) {
        if let Some(listing) = &mut self.listing {
            listing.objects.insert(object.id);
            listing.disturbed |= matches!(listing.current, Some((_, Step::Objects)));
        }
        if object.gone {
            self.forget_object(core, object.id);
        } else {
            let before = self.is_blackhole(object.id);
            let known = self.objects.contains_key(&object.id);
            self.learn_object(core, object);
            if known && before != self.is_blackhole(object.id) {
                // Its routes are of another type now, and nobody says so.
                self.want_all(core.now);
            }
            self.tell_object(core, object.id);
        }
        // Who has it as a member changes with it.
        let member = |known: &Known| matches!(known, Known::Group(of) if of.iter().any(|m| m.id == object.id));
        let groups: Vec<u32> =
            self.objects.iter().filter(|(_, known)| member(known)).map(|(id, _)| *id).collect();
        for id in groups {
            self.tell_object(core, id);
        }
    }

    /// Is what is sent by this object dropped?
    fn is_blackhole(&self, id: u32) -> bool {
        match self.objects.get(&id) {
            Some(Known::Blackhole) => true,
            Some(Known::Group(members)) => members
                .iter()
                .any(|member| matches!(self.objects.get(&member.id), Some(Known::Blackhole))),
            _ => false,
        }
    }

    fn learn_object(&mut self, core: &mut Core, object: &NextHopMessage<'_>) {
        // Said each time that it is told, also by a listing.
        if object.is_encapsulated() {
            core.kernel.count("next-hop objects without their encapsulation");
        }
        if object.object.members().any(|member| member.weight > u32::from(WEIGHT_MAX)) {
            core.kernel.count("next-hop groups with weights cut to 256");
        }
        let known = match &object.object {
            Object::Hop(hop) => Known::Hop(*hop),
            Object::Group(_) => Known::Group(object.object.members().collect()),
            Object::Blackhole => Known::Blackhole,
            Object::Fdb | Object::Nothing => Known::Fdb,
        };
        self.objects.insert(object.id, known);
    }

    fn forget_object(&mut self, core: &mut Core, id: u32) {
        if self.is_blackhole(id) {
            // Routes by it are no group's: they are looked for.
            self.want_all(core.now);
        }
        self.objects.remove(&id);
        let spec = GroupSpec { nhid: id, hops: Vec::new() };
        // Its routes go along; one that never had any next hops isn't there.
        let _ = core.apply(self.source, &Change::Group(Verb::Delete, spec));
    }

    /// The group that an object is, with its members' next hops.
    fn tell_object(&mut self, core: &mut Core, id: u32) {
        let hops = match self.objects.get(&id) {
            Some(Known::Hop(hop)) => vec![*hop],
            Some(Known::Group(members)) => members
                .iter()
                .filter_map(|member| match self.objects.get(&member.id) {
                    Some(Known::Hop(hop)) => {
                        let weight = member.weight.min(u32::from(WEIGHT_MAX)) as u16;
                        Some(HopSpec { weight, ..*hop })
                    }
                    _ => None,
                })
                .collect(),
            _ => return,
        };
        if hops.is_empty() {
            return;
        }
        let change = Change::Group(Verb::Replace, GroupSpec { nhid: id, hops });
        match core.apply(self.source, &change) {
            Ok(_) => {}
            Err(ChangeError::NoLink { .. }) => self.want_all(core.now),
            Err(error) => refused(core, &format!("nhid {id}"), &error),
        }
    }

    fn link_event(&mut self, core: &mut Core, link: &LinkMessage<'_>) {
        if link.is_port || link.ifindex == 0 {
            return;
        }
        if let Some(listing) = &mut self.listing {
            listing.links.insert(link.ifindex);
            listing.disturbed |= matches!(listing.current, Some((_, Step::Links)));
        }
        if link.gone {
            self.forget_link(core, link.ifindex);
            self.want_small(core);
            return;
        }
        let before = self.links.insert(link.ifindex, link.state());
        self.tell_link(core, link);
        if before == Some(link.state()) {
            return;
        }
        if before.is_none_or(|before| before.up) && !link.state().up {
            let links = &self.links;
            let down = |ifindex| links.get(&ifindex).is_some_and(|state| !state.up);
            core.table.sweep_links_down(self.source, link.ifindex, &down);
        }
        if before.is_some() || link.state().up {
            self.want_link(core, link.ifindex);
        }
    }

    fn tell_link(&mut self, core: &mut Core, link: &LinkMessage<'_>) {
        let Ok(name) = link.name() else { return };
        let spec = LinkSpec { ifindex: link.ifindex, name };
        if let Err(error) = core.apply(self.source, &Change::Link(Verb::Replace, spec)) {
            refused(core, name.as_str(), &error);
        }
    }

    fn forget_link(&mut self, core: &mut Core, ifindex: u32) {
        self.links.remove(&ifindex);
        let Some(link) = core.table.link_of_index(ifindex) else { return };
        let Some(link) = core.table.store().link(link).copied() else { return };
        let spec = LinkSpec { ifindex, name: link.name };
        let _ = core.apply(self.source, &Change::Link(Verb::Delete, spec));
    }

    /// Takes a neighbour, of an event or of a line. True: it made a difference.
    fn neighbour(&mut self, core: &mut Core, message: &NeighbourMessage<'_>, event: bool) -> bool {
        let spec = match message.spec() {
            Ok(spec) => spec,
            Err(skip) => {
                core.kernel.count(match skip {
                    NeighbourSkip::Family => "ignored: forwarding entries of bridges",
                    NeighbourSkip::Proxy => "ignored: proxy neighbours",
                    NeighbourSkip::NoArp => "ignored: multicast neighbours",
                    NeighbourSkip::LinkLayer => "ignored: link-layer addresses not of 6 bytes",
                    NeighbourSkip::Address => "ignored: neighbours without address",
                });
                return false;
            }
        };
        let key = (spec.ip, message.ifindex);
        if let Some(listing) = self.listing.as_mut().filter(|_| event) {
            listing.neighbours.insert(key);
            listing.disturbed |=
                matches!(listing.current, Some((_, Step::Neighbours(_)))) || listing.is_crowded();
        }
        if core.table.link_of_index(message.ifindex).is_none() {
            if event && !message.gone {
                self.want_all(core.now);
            }
            return false;
        }
        // Without any state it is being made or unmade; `ip neigh` hides it.
        if message.gone || spec.state == Some(NudState::NONE) {
            return self.joined.remove(core, self.source, key);
        }
        self.joined.set(core, self.source, key, spec)
    }

    // Listings.

    fn begin(&mut self, core: &mut Core) {
        self.wanted.at = None;
        if let Some(mut listing) = self.repeat.take() {
            if self.wanted.all || !self.wanted.links.is_empty() {
                self.wanted.at = Some(core.now + self.settle_ms);
            }
            let stamp = core.table.begin_listing();
            listing.again(&self.tables, stamp);
            self.listing = Some(listing);
            return self.ask(core);
        }
        let scope = if std::mem::take(&mut self.wanted.all) {
            self.wanted.links.clear();
            Scope::All
        } else {
            let Some(ifindex) = self.wanted.links.pop_first() else { return };
            if !self.wanted.links.is_empty() {
                self.wanted.at = Some(core.now);
            }
            Scope::Link(ifindex)
        };
        let empty = core
            .table
            .sources()
            .find(|source| source.id == self.source)
            .is_none_or(|source| source.routes + source.neighbours == 0);
        if scope == Scope::All {
            core.table.begin_generation(self.source);
        }
        let stamp = core.table.begin_listing();
        core.kernel.count(if scope == Scope::All { "listings" } else { "listings of links" });
        self.listing = Some(Listing::new(scope, &self.tables, stamp, empty));
        self.ask(core);
    }

    /// Sends the next request; without one, the round has ended.
    fn ask(&mut self, core: &mut Core) {
        let Some(listing) = &mut self.listing else { return };
        self.sequence = self.sequence.wrapping_add(1).max(1);
        if !listing.next_request(self.sequence, &mut self.request) {
            self.round_ended(core);
            return;
        }
        if let Err(error) = self.dumps.send(self.request.bytes()) {
            tracing::warn!("kernel: {error}; it is asked again");
            self.give_up(core);
        }
    }

    /// The listing can't be finished: another one, later.
    fn give_up(&mut self, core: &mut Core) {
        self.listing = None;
        self.repeat = None;
        self.ended = core.now;
        self.want_all(core.now);
    }

    /// Reads one piece of an answer; false: there is none yet.
    fn read_answer(&mut self, core: &mut Core) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = self.dumps.receive(&mut buffer);
        match received {
            Ok(datagram) if datagram.sender != netlink::KERNEL => core.kernel.count("spoofed"),
            Ok(datagram) => {
                core.kernel.last_message = Some(core.now);
                self.answer_in(core, &buffer[..datagram.len]);
            }
            Err(Error::WouldBlock {}) => {
                self.buffer = buffer;
                return false;
            }
            Err(error) => {
                tracing::warn!("kernel: {error}; it is asked again");
                self.give_up(core);
            }
        }
        self.buffer = buffer;
        true
    }

    fn answer_in(&mut self, core: &mut Core, bytes: &[u8]) {
        for message in messages(bytes) {
            let Ok(message) = message else {
                core.kernel.count("malformed");
                return self.give_up(core);
            };
            let Some(listing) = &mut self.listing else { return };
            let Some((sequence, step)) = listing.current else { return };
            if message.sequence != sequence {
                continue; // What is left of an answer that was given up.
            }
            listing.disturbed |= message.flags & rtm_netlink::flag::DUMP_INTR != 0;
            let Ok(body) = Body::decode(message) else {
                core.kernel.count("malformed");
                continue;
            };
            match body {
                Body::Route(route) => self.route_line(core, &route),
                Body::NextHop(object) => {
                    listing.seen.insert(object.id);
                    if !listing.objects.contains(&object.id) {
                        self.learn_object(core, &object);
                    }
                }
                Body::Neighbour(neighbour) => {
                    let touched = |key| listing.neighbours.contains(&key);
                    let known =
                        neighbour.spec().is_ok_and(|spec| touched((spec.ip, neighbour.ifindex)));
                    if !known {
                        let changed = self.neighbour(core, &neighbour, false);
                        self.line(changed);
                    }
                }
                Body::Link(link) if !link.is_port => {
                    listing.seen.insert(link.ifindex);
                    if !listing.links.contains(&link.ifindex) {
                        let before = self.links.insert(link.ifindex, link.state());
                        self.tell_link(core, &link);
                        self.line(before.is_none());
                    }
                }
                Body::Answer(answer) => return self.answered(core, step, answer),
                _ => {}
            }
        }
    }

    /// Counts a line.
    fn line(&mut self, changed: bool) {
        if let Some(listing) = &mut self.listing {
            listing.line_count += 1;
            listing.changed += u64::from(changed);
        }
    }

    fn route_line(&mut self, core: &mut Core, route: &RouteMessage<'_>) {
        let Some(spec) = self.route_of(core, route) else { return };
        let Some(listing) = &mut self.listing else { return };
        let same = listing.lines.last().is_some_and(|last| ListKey::of(last) == ListKey::of(&spec));
        if !same && !listing.lines.is_empty() {
            self.take_list(core);
        }
        if let Some(listing) = &mut self.listing {
            listing.lines.push(spec);
        }
    }

    /// Takes the lines of one list.
    fn take_list(&mut self, core: &mut Core) {
        let Some(listing) = &mut self.listing else { return };
        let Some(first) = listing.lines.first() else { return };
        let key = ListKey::of(first);
        if listing.lists.contains(&key) {
            // An event has spoken of it: what we have is newer.
            listing.lines.clear();
            for own in key.own(&core.table, self.source) {
                let (table, mut out) = core.parts();
                table.confirm_route(self.source, &own.key, &mut out);
            }
            return;
        }
        let mut lines = std::mem::take(&mut listing.lines);
        let (mut changed, mut count, mut doubtful) = (0, 0, 0);
        let (source, fresh) = (self.source, listing.fresh);
        let (mut report, mut failed) = (Vec::new(), Vec::new());
        let reporting = self.reporting;
        routes::listed(core, source, fresh, &mut lines, |spec, outcome| {
            count += 1;
            match outcome {
                Outcome::Applied => {
                    changed += 1;
                    if reporting {
                        report.push(spec.clone());
                    }
                }
                Outcome::Nothing => {}
                Outcome::Doubtful => doubtful += 1,
                Outcome::Refused(error) => failed.push((spec.prefix.to_string(), error)),
            }
        });
        for (place, error) in failed {
            refused(core, &place, &error);
        }
        for spec in report {
            let line = line_of(core, &spec);
            self.report(core, &format!("differed: {line}"));
        }
        if let Some(listing) = &mut self.listing {
            listing.lines = lines;
            listing.line_count += count;
            listing.changed += changed;
            // A link or a group of it came after it was asked for.
            listing.disturbed |= doubtful > 0;
        }
    }

    /// The kernel has answered a request whole, or refused it.
    fn answered(&mut self, core: &mut Core, step: Step, answer: Answer<'_>) {
        const ENOENT: u32 = 2;
        const ENODEV: u32 = 19;
        const EOPNOTSUPP: u32 = 95;
        self.take_list(core);
        match answer.errno {
            0 => {}
            // No such table, no such link, a kernel without next-hop objects:
            // nothing is there.
            ENOENT | ENODEV | EOPNOTSUPP => {}
            errno => {
                let text = String::from_utf8_lossy(answer.text);
                let code = ipc::errno_text(ipc::Errno::from_raw_os_error(errno as i32));
                tracing::warn!("kernel: a dump was refused: {code} {text}; it is asked again");
                return self.give_up(core);
            }
        }
        match step {
            Step::Links => {
                let Some(listing) = &self.listing else { return };
                let gone: Vec<u32> = (self.links.keys().copied())
                    .filter(|id| !listing.seen.contains(id) && !listing.links.contains(id))
                    .collect();
                for ifindex in gone {
                    self.forget_link(core, ifindex);
                }
            }
            Step::Objects => {
                let Some(listing) = &self.listing else { return };
                let (gone, there): (Vec<u32>, Vec<u32>) =
                    self.objects.keys().copied().partition(|id| {
                        !listing.seen.contains(id) && !listing.objects.contains(id)
                    });
                for id in gone {
                    self.forget_object(core, id);
                }
                for id in there {
                    self.tell_object(core, id);
                }
            }
            Step::Routes(_) | Step::Neighbours(_) => {}
        }
        self.ask(core);
    }

    fn round_ended(&mut self, core: &mut Core) {
        let Some(listing) = self.listing.take() else { return };
        let took = listing.since.elapsed();
        self.ended = core.now;
        if listing.overrun || listing.disturbed && listing.round < ROUNDS_MAX {
            core.kernel.count("listings repeated");
            // One in settle_ms.
            self.wanted.at = Some(core.now + self.settle_ms);
            self.repeat = Some(listing);
            return;
        }
        let since = match listing.before {
            Some(before) if listing.disturbed => before,
            _ => listing.stamp,
        };
        match listing.scope {
            Scope::All => {
                self.audit = core.now + AUDIT_MS.max((took * AUDIT_SHARE).as_millis() as Millis);
                let auditing = std::mem::take(&mut self.auditing) || self.reporting;
                if auditing && listing.changed > 0 {
                    tracing::warn!(
                        "kernel: {} of {} entries differed and are mended",
                        listing.changed,
                        listing.line_count
                    );
                    *core.kernel.counts.entry("mended").or_default() += listing.changed;
                }
                if !self.listed_once {
                    tracing::info!(
                        "kernel: {} entries in {:.2} s",
                        listing.line_count,
                        took.as_secs_f64()
                    );
                }
                self.listed_once = true;
                if self.reporting {
                    self.search = Some((StaleCursor::default(), since));
                } else {
                    core.table.end_listing(self.source, since);
                }
            }
            Scope::Link(ifindex) => core.table.end_link_listing(self.source, ifindex, since),
        }
    }

    /// What the listing lacks, a piece; at the end it goes.
    fn search_stale(&mut self, core: &mut Core) {
        let Some((cursor, since)) = self.search.take() else { return };
        let mut found = Vec::new();
        let next = core.table.stale_routes(self.source, since, cursor, LOOKS, &mut found);
        for OwnRoute { key, .. } in found {
            let line = format!("gone: {} table {} metric {}", key.prefix, key.table, key.metric);
            self.report(core, &line);
        }
        match next {
            Some(next) => self.search = Some((next, since)),
            None => {
                core.table.end_listing(self.source, since);
                self.reporting = false;
                core.kernel.done = self.ticket;
            }
        }
    }

    fn report(&self, core: &mut Core, line: &str) {
        if core.kernel.report.len() < REPORT_MAX {
            core.kernel.report.push(line.to_owned());
        } else {
            core.kernel.more += 1;
        }
    }
}

fn refused(core: &mut Core, place: &str, error: &ChangeError) {
    core.kernel.count("refused");
    if core.kernel.counts.get("refused").is_some_and(|count| *count <= LOGGED_MAX) {
        tracing::warn!("kernel: {place}: {error}");
    }
}

/// A route as `ip` would print it, for the report.
fn line_of(core: &Core, spec: &RouteSpec) -> String {
    let hops: Vec<String> = spec
        .hops
        .as_slice()
        .iter()
        .map(|hop| {
            let gateway = hop.gateway.map_or(String::new(), |gateway| format!(" via {gateway}"));
            let link = match hop.link {
                Some(LinkRef::Ifindex(index)) => core
                    .table
                    .link_of_index(index)
                    .and_then(|id| core.table.store().link(id))
                    .map_or(format!(" dev if{index}"), |link| format!(" dev {}", link.name)),
                _ => String::new(),
            };
            format!("{gateway}{link}")
        })
        .collect();
    let family = match spec.prefix.family() {
        Family::V4 => "",
        Family::V6 => "-6 ",
    };
    format!(
        "{family}{}{} table {} metric {}",
        spec.prefix,
        hops.concat(),
        spec.table,
        spec.metric.unwrap_or_default()
    )
}
