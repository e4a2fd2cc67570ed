//! `--export TABLE`: the winners of one table put into the kernel's.
//!
//! It is a session like any other, only without a socket to a client: a marker
//! in the modification order is its cursor, so a kernel that is slow, or busy
//! with somebody else's lock, costs a place in the order and nothing more. Calls
//! that may wait for the kernel are a thread's ([`worker`]), behind a channel
//! that holds two batches.
//!
//! ```text
//!   marker ── changed keys ──┐
//!   listing ─ what is there ─┼─> update(key) ──> batch ──> thread ──> kernel
//!   events ── what others do ┘      │  ^                      │
//!                                 slots └──── errors ─────────┘
//! ```
//!
//! `update` compares what the table wants for a key with the key's slot, and is
//! called whenever either may have changed; calling it once more does nothing.
//! A slot is what is known of the kernel:
//!
//! | slot | means | then |
//! |---|---|---|
//! | none | we have nothing there | CREATE with EXCL: never over another's |
//! | ours | the first route on this key is ours | REPLACE, if it differs |
//! | sent | a request is under way | looked at again when it is answered |
//! | blocked | another's route has this key | nothing, until that goes |
//! | waiting | the kernel refused it | again, when a link, an address or a route came |
//!
//! REPLACE compares prefix, tos and metric, not whose a route is: it is sent only
//! where a listing, or our own successful CREATE, showed that the first route on
//! this key is ours, and nobody's event said otherwise since.

mod worker;

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Bound;
use std::time::Instant;

use foldhash::fast::FixedState;
use ipc::epoll::{Epoll, Interest};
use ipc::netlink::{self, Error, Socket};
use rtm_model::{
    Attrs, EntityKey, EntityKind, Family, HopFlags, HopSpec, Hops, LinkName, LinkRef, Prefix,
    Route, RouteKey, RouteSpec, RouteValue,
};
use rtm_netlink::{
    Body, Builder, RouteFilter, RouteMessage, flag, kind, messages, number, request_dump,
    request_routes,
};
use rtm_tables::{MarkerId, Millis, OrderItem, RouteCursor, SourceId, Step};
use serde_json::{Value, json};

use super::kernel::program;
use crate::core::Core;
use crate::wakeup::Wakeup;
use worker::{Batch, Outcome, Worker};

/// Requests in one batch: one system call, and one lock of the kernel's.
const BATCH: usize = 256;
/// Steps of the marker, or keys looked at, before the clock is.
const STEPS: usize = 64;
/// The event socket's buffer.
const RECEIVE_BYTES: usize = 1 << 20;
/// A dump comes in pieces of 32 KiB.
const BUFFER_BYTES: usize = 128 * 1024;
/// After a link, an address or a route came, this much quiet before another try.
const SETTLE_MS: Millis = 200;
/// Our part of the table is compared this often.
const AUDIT_MS: Millis = 300_000;
/// Without permission it is tried again this often.
const DENIED_MS: Millis = 30_000;
/// Routes that `status` tells the reason of.
const PROBLEMS_MAX: usize = 100;

/// Why a route behind an equal one of ours isn't exported.
const BEHIND: &str =
    "not exported: another route of the table with this prefix, tos and metric comes first";

const EPERM: u32 = 1;
const ESRCH: u32 = 3;
const EEXIST: u32 = 17;

/// A key in the kernel's table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Key {
    prefix: Prefix,
    metric: u32,
    tos: u8,
}

impl Key {
    fn of(key: &RouteKey) -> Key {
        Key { prefix: key.prefix, metric: key.metric, tos: key.tos }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The first on this key is ours, with this content.
    Ours,
    /// A request is under way.
    Sent,
    /// Another's route has the key.
    Blocked,
    /// The kernel refused it, or it can't be said.
    Waiting,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Of the content that is there, or was asked for.
    hash: u32,
    state: State,
    /// The table changed while a request was under way.
    dirty: bool,
    /// A listing since the last one began showed it as it is.
    seen: bool,
    /// From before our start, and not wanted so far.
    leftover: bool,
    /// Blocked, and ours is there behind another's.
    behind: bool,
}

/// What others see of it.
#[derive(Default)]
pub(crate) struct ExportState {
    /// The table, if one is exported.
    pub(crate) table: Option<u32>,
    protocol: u8,
    /// Why a route isn't in the kernel.
    problems: BTreeMap<Key, String>,
    /// Routes behind an equal one of ours (`append`), by their ordinals.
    behind: BTreeMap<Key, Vec<u16>>,
    installed: usize,
    blocked: usize,
    waiting: usize,
    counts: BTreeMap<&'static str, u64>,
    /// Everything that the table wanted was asked for.
    settled: bool,
}

impl ExportState {
    fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// Why this route isn't in the kernel, if it should be.
    pub(crate) fn problem(&self, key: &RouteKey) -> Option<&str> {
        if self.table != Some(key.table) {
            return None;
        }
        let of = Key::of(key);
        if self.behind.get(&of).is_some_and(|ordinals| ordinals.contains(&key.ordinal)) {
            return Some(BEHIND);
        }
        self.problems.get(&of).map(String::as_str)
    }

    /// For `status`; null: nothing is exported.
    pub(crate) fn facts(&self) -> Value {
        let Some(table) = self.table else { return Value::Null };
        let behind = self.behind.iter().map(|(key, _)| (key, BEHIND));
        let problems: Vec<Value> = (self.problems.iter().map(|(key, why)| (key, why.as_str())))
            .chain(behind)
            .take(PROBLEMS_MAX)
            .map(|(key, why)| {
                json!({ "dst": key.prefix.to_string(), "metric": key.metric, "why": why })
            })
            .collect();
        json!({
            "table": table,
            "protocol": self.protocol,
            "installed": self.installed,
            "blocked": self.blocked,
            "waiting": self.waiting,
            "behind": self.behind.values().map(Vec::len).sum::<usize>(),
            "settled": self.settled,
            "counts": self.counts,
            "problems": problems,
        })
    }
}

/// A walk over all slots, or over all of the table's winners.
#[derive(Clone, Copy, Debug)]
enum Pass {
    /// Winners after this key, by one of the groups that changed.
    Winners(RouteCursor),
    /// Slots after this key; the listing's verdict if there was one.
    Slots { after: Option<Key>, listed: bool },
}

/// What is asked for at the moment.
struct Listing {
    sequence: u32,
    what: u16,
    family: Family,
    /// The last key that a line was of: only the first line counts.
    last: Option<Key>,
}

/// The export.
pub(crate) struct Export {
    table: u32,
    protocol: u8,
    hold_ms: Millis,
    events: Socket,
    dumps: Socket,
    worker: Worker,
    /// The port id of the thread's socket: its requests' events are ours.
    port: u32,
    buffer: Vec<u8>,
    request: Builder,
    sequence: u32,
    links: BTreeMap<LinkName, u32>,
    slots: BTreeMap<Key, Slot>,
    hasher: FixedState,
    marker: Option<MarkerId>,
    at_tail: bool,
    /// Groups that were met: a change of one concerns its routes, a new one has
    /// none yet.
    groups: HashSet<u32>,
    /// Those whose routes the pass under way looks for, and those that changed
    /// since it began.
    sought: HashSet<u32>,
    changed_groups: HashSet<u32>,
    batch: Batch,
    listing: Option<Listing>,
    passes: Vec<Pass>,
    /// A listing is wanted at this time, another try for what waits at that.
    list_at: Option<Millis>,
    retry_at: Option<Millis>,
    audit: Millis,
    denied: Option<Millis>,
    /// What an earlier daemon left may go.
    swept: bool,
    listed_once: bool,
}

impl Export {
    /// Opens the sockets and starts the thread.
    ///
    /// # Errors
    /// One line.
    pub(crate) fn open(
        core: &mut Core,
        table: u32,
        protocol: u8,
        hold_ms: Millis,
    ) -> Result<Export, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("export: {error}");
        let events = Socket::open(netlink::ROUTE).map_err(|error| wrong(&error))?;
        ipc::socket::set_receive_buffer(&events, RECEIVE_BYTES).map_err(|error| wrong(&error))?;
        events.attach_filter(&program(&[table], None)).map_err(|error| wrong(&error))?;
        for group in [
            number::GROUP_LINK,
            number::GROUP_IPV4_IFADDR,
            number::GROUP_IPV6_IFADDR,
            number::GROUP_IPV4_ROUTE,
            number::GROUP_IPV6_ROUTE,
        ] {
            events.join(group).map_err(|error| wrong(&error))?;
        }
        let dumps = Socket::open(netlink::ROUTE).map_err(|error| wrong(&error))?;
        dumps.set_strict_check(true).map_err(|error| wrong(&error))?;
        let worker = Worker::start().map_err(|error| wrong(&error))?;
        core.export.table = Some(table);
        core.export.protocol = protocol;
        Ok(Export {
            table,
            protocol,
            hold_ms,
            events,
            dumps,
            port: worker.port(),
            worker,
            buffer: vec![0; BUFFER_BYTES],
            request: Builder::default(),
            sequence: 0,
            links: BTreeMap::new(),
            slots: BTreeMap::new(),
            hasher: FixedState::default(),
            marker: None,
            at_tail: false,
            groups: HashSet::new(),
            sought: HashSet::new(),
            changed_groups: HashSet::new(),
            batch: Batch::default(),
            listing: None,
            passes: Vec::new(),
            list_at: Some(0),
            retry_at: None,
            audit: 0,
            denied: None,
            swept: false,
            listed_once: false,
        })
    }

    /// Lets the loop watch it.
    pub(crate) fn watch(&self, epoll: &Epoll) -> Result<(), ipc::epoll::Error> {
        epoll.add(&self.events, Wakeup::Export.number(), Interest::READ)?;
        epoll.add(&self.dumps, Wakeup::Export.number(), Interest::READ)?;
        epoll.add(self.worker.event(), Wakeup::Export.number(), Interest::READ)
    }

    /// When something is due.
    pub(crate) fn poll_timeout(&self) -> Option<Millis> {
        let sweep = (!self.swept).then_some(self.hold_ms);
        let list = self.list_at.filter(|_| self.listing.is_none());
        let audit = self.listed_once.then_some(self.audit);
        let retry = self.retry_at.filter(|_| self.listing.is_none());
        [list, retry, sweep, audit, self.denied].into_iter().flatten().min()
    }

    /// Has the table something that wasn't looked at?
    pub(crate) fn has_work(&self, core: &Core) -> bool {
        !core.table.is_staging()
            && self.listed_once
            && self.denied.is_none()
            && self.worker.has_room()
            && (!self.at_tail || !self.passes.is_empty())
    }

    /// The table has changed: there is something to look at.
    pub(crate) fn changed(&mut self) {
        self.at_tail = false;
    }

    /// One slice; true: there is more.
    pub(crate) fn step(&mut self, core: &mut Core, until: Instant) -> bool {
        self.read_events(core, until);
        while let Some(outcome) = self.worker.poll() {
            self.answered(core, outcome);
        }
        self.due(core);
        while self.listing.is_some() && Instant::now() < until {
            if !self.read_listing(core) {
                break;
            }
        }
        if !self.listed_once || core.table.is_staging() || self.denied.is_some() {
            return false;
        }
        while self.worker.has_room() {
            if !self.pass(core) && !self.walk(core) {
                self.send();
                core.export.settled = self.worker.is_idle() && self.listing.is_none();
                return false;
            }
            if self.batch.len() >= BATCH {
                self.send();
            }
            if Instant::now() >= until {
                return true;
            }
        }
        // The thread tells when there is room.
        false
    }

    fn send(&mut self) {
        if self.batch.len() > 0 {
            self.worker.send(std::mem::take(&mut self.batch));
        }
    }

    fn due(&mut self, core: &mut Core) {
        let now = core.now;
        if self.denied.is_some_and(|at| at <= now) {
            self.denied = None;
            self.retry_at = Some(now);
        }
        if !self.swept && now >= self.hold_ms && self.at_tail && core.sources_are_settled() {
            // What nobody wanted until now was of an earlier daemon.
            self.swept = true;
            self.passes.push(Pass::Slots { after: None, listed: false });
        } else if !self.swept && now >= self.hold_ms {
            self.hold_ms = now + 1000;
        }
        if self.listed_once && now >= self.audit {
            self.audit = now + AUDIT_MS;
            self.list_at = Some(now);
        }
        if self.list_at.is_some_and(|at| at <= now) && self.listing.is_none() {
            self.list_at = None;
            for slot in self.slots.values_mut() {
                slot.seen = false;
            }
            self.ask(kind::GETLINK, Family::V4);
        }
        if self.retry_at.is_some_and(|at| at <= now) && self.listing.is_none() {
            self.retry_at = None;
            self.passes.push(Pass::Slots { after: None, listed: false });
        }
    }

    // What the table wants.

    /// One step of the marker; false: it stands at the tail.
    fn walk(&mut self, core: &mut Core) -> bool {
        for _ in 0..STEPS {
            let marker = *self.marker.get_or_insert_with(|| core.table.marker());
            let mut found = None;
            let mut group = None;
            let mut flushed = false;
            let table = self.table;
            let step = core.table.marker_next(marker, &mut |item| match item {
                OrderItem::Set { kind, body, .. } => match kind {
                    EntityKind::Route4 | EntityKind::Route6 => {
                        let key = &body[..kind.key_bytes()];
                        found = EntityKey::decode(kind, key).ok();
                    }
                    EntityKind::Group => {
                        let key = &body[..kind.key_bytes()];
                        group = EntityKey::decode(kind, key).ok();
                    }
                    _ => {}
                },
                OrderItem::Gone { kind, key, .. } => match kind {
                    EntityKind::Route4 | EntityKind::Route6 | EntityKind::Group => {
                        found = EntityKey::decode(kind, key).ok();
                    }
                    _ => {}
                },
                OrderItem::Flushed { what, .. } => flushed = what.routes,
            });
            match found {
                Some(EntityKey::Route(key)) if key.table == table => {
                    self.update(core, Key::of(&key), false);
                }
                Some(EntityKey::Group(id)) => {
                    self.groups.remove(&id.0);
                }
                _ => {}
            }
            if flushed {
                core.export.behind.clear();
                self.passes.push(Pass::Slots { after: None, listed: false });
            }
            if let Some(EntityKey::Group(id)) = group {
                if !self.groups.insert(id.0) {
                    self.changed_groups.insert(id.0);
                    self.look_at_all();
                }
            }
            match step {
                Step::Moved => {}
                Step::Tail => {
                    self.at_tail = true;
                    return false;
                }
                Step::Lost => {
                    // What went meanwhile is not told: all is looked at.
                    core.export.behind.clear();
                    core.table.marker_release(marker);
                    self.marker = None;
                    self.passes.push(Pass::Slots { after: None, listed: false });
                }
            }
            if self.batch.len() >= BATCH {
                break;
            }
        }
        true
    }

    /// The winners are looked at for groups that changed and keys without a slot;
    /// after the pass under way, if there is one.
    fn look_at_all(&mut self) {
        if !self.passes.iter().any(|pass| matches!(pass, Pass::Winners(_))) {
            self.sought = std::mem::take(&mut self.changed_groups);
            self.passes.insert(0, Pass::Winners(RouteCursor::all().in_table(self.table)));
        }
    }

    /// A slice of a pass; false: there is none.
    fn pass(&mut self, core: &mut Core) -> bool {
        let Some(pass) = self.passes.pop() else { return false };
        match pass {
            Pass::Winners(mut cursor) => {
                for _ in 0..STEPS {
                    let Some((route, _)) = core.table.next_route(&mut cursor) else {
                        if !self.changed_groups.is_empty() {
                            self.look_at_all();
                        }
                        return true;
                    };
                    let key = Key::of(&route.key);
                    if self.sought.contains(&route.value.group.0) || !self.slots.contains_key(&key)
                    {
                        self.update(core, key, false);
                    }
                    if self.batch.len() >= BATCH {
                        break;
                    }
                }
                self.passes.push(Pass::Winners(cursor));
            }
            Pass::Slots { after, listed } => {
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                let keys: Vec<Key> = (self.slots.range((from, Bound::Unbounded)))
                    .take(STEPS)
                    .map(|(key, _)| *key)
                    .collect();
                let Some(last) = keys.last().copied() else { return true };
                for key in keys {
                    if listed {
                        self.judge(core, key);
                    } else {
                        // Where another's is, only its going helps.
                        let blocked =
                            self.slots.get(&key).is_some_and(|slot| slot.state == State::Blocked);
                        self.update(core, key, !blocked);
                    }
                }
                self.passes.push(Pass::Slots { after: Some(last), listed });
            }
        }
        true
    }

    /// After a listing: what it didn't show isn't there.
    fn judge(&mut self, core: &mut Core, key: Key) {
        let Some(slot) = self.slots.get(&key).copied() else { return };
        if slot.seen || slot.state == State::Sent {
            return self.update(core, key, false);
        }
        if slot.state == State::Ours {
            core.export.count("repaired");
        }
        self.forget(core, key);
        self.update(core, key, true);
    }

    /// The first of the table's routes on a key.
    fn first(&self, core: &Core, key: Key) -> Option<Route> {
        let Key { prefix, metric, tos } = key;
        let route = RouteKey { table: self.table, prefix, tos, metric, ordinal: 0 };
        if let Some(found) = core.table.store().route(&route) {
            return Some(found);
        }
        // A list may begin at another ordinal.
        let cursor = RouteCursor::all().in_table(self.table).within(prefix);
        let (found, _) = core.table.next_route(&mut cursor.after(route))?;
        (Key::of(&found.key) == key).then_some(found)
    }

    /// What the table wants for a key: its first route, unless that is the
    /// kernel's own or can't be said unchanged.
    fn wanted(&self, core: &Core, first: &Route) -> Option<Result<(RouteSpec, u32), String>> {
        let winner: SourceId = core.table.candidates(&first.key).find(|one| one.won)?.source;
        if Some(winner) == core.kernel.source {
            return None;
        }
        Some(self.spell(core, &first.key, &first.value))
    }

    fn spell(
        &self,
        core: &Core,
        key: &RouteKey,
        value: &RouteValue,
    ) -> Result<(RouteSpec, u32), String> {
        if key.prefix.family() == Family::V6 && key.tos != 0 {
            return Err("not exported: the kernel has no type of service for IPv6".to_owned());
        }
        let mut hops = Vec::new();
        if let Some(group) = core.table.store().group(value.group) {
            for hop in &group.hops {
                let link = match hop.link {
                    None => None,
                    Some(id) => {
                        let link = core.table.store().link(id);
                        let Some(link) = link else { continue };
                        match self.links.get(&link.name) {
                            Some(index) => Some(LinkRef::Ifindex(*index)),
                            None => {
                                return Err(format!(
                                    "not exported: no link {} on this host",
                                    link.name
                                ));
                            }
                        }
                    }
                };
                hops.push(HopSpec {
                    gateway: hop.gateway,
                    link,
                    weight: hop.weight,
                    flags: HopFlags(hop.flags.0 & HopFlags::ONLINK.0),
                });
            }
        }
        let mut spec = RouteSpec::new(key.prefix);
        spec.table = self.table;
        spec.tos = key.tos;
        spec.metric = Some(key.metric);
        spec.kind = Some(value.kind);
        spec.protocol = Some(self.protocol);
        spec.scope = Some(value.scope);
        spec.attrs = value.attrs.clone();
        spec.hops = match hops.len() {
            0 => Hops::None,
            1 => Hops::One(hops[0]),
            _ => Hops::Many(hops),
        };
        let hash = self.hash(&spec);
        Ok((spec, hash))
    }

    /// Of what a route says, apart from its key and whose it is.
    fn hash(&self, spec: &RouteSpec) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        (spec.kind.map(|kind| kind as u8), spec.scope).hash(&mut hasher);
        for hop in spec.hops.as_slice() {
            let onlink = hop.flags.0 & HopFlags::ONLINK.0;
            (hop.gateway, hop.link, hop.weight, onlink).hash(&mut hasher);
        }
        spec.attrs.hash(&mut hasher);
        hasher.finish() as u32
    }

    /// Notes which routes stand behind the first of their key. (IPv6 has no such
    /// lists: `append` extends the route.)
    fn note_behind(&self, core: &mut Core, key: Key, first: Option<RouteKey>) {
        let mut ordinals = Vec::new();
        if let Some(first) = first.filter(|first| first.prefix.family() == Family::V4) {
            let cursor = RouteCursor::all().in_table(self.table).within(key.prefix);
            let mut cursor = cursor.after(first);
            while let Some((found, _)) = core.table.next_route(&mut cursor) {
                if Key::of(&found.key) != key {
                    break;
                }
                let winner = core.table.candidates(&found.key).find(|one| one.won);
                if winner.map(|one| one.source) != core.kernel.source {
                    ordinals.push(found.key.ordinal);
                }
            }
        }
        if !ordinals.is_empty() {
            core.export.behind.insert(key, ordinals);
        } else if !core.export.behind.is_empty() {
            core.export.behind.remove(&key);
        }
    }

    /// Makes the kernel's route of a key what the table wants; `again`: also if
    /// it was refused before.
    fn update(&mut self, core: &mut Core, key: Key, again: bool) {
        let first = self.first(core, key);
        self.note_behind(core, key, first.as_ref().map(|route| route.key));
        let wanted = first.and_then(|first| self.wanted(core, &first));
        let slot = self.slots.get(&key).copied();
        match (wanted, slot) {
            (_, Some(Slot { state: State::Sent, .. })) => {
                if let Some(slot) = self.slots.get_mut(&key) {
                    slot.dirty = true;
                }
            }
            (None, None) => {}
            (None, Some(slot)) => match slot.state {
                State::Ours | State::Blocked if slot.leftover && !self.swept => {}
                State::Ours => self.delete(core, key),
                State::Blocked if slot.behind => self.delete(core, key),
                _ => self.forget(core, key),
            },
            (Some(Err(why)), slot) => {
                if slot.is_some_and(|slot| slot.state == State::Ours) {
                    self.delete(core, key);
                } else {
                    self.set(core, key, State::Waiting, 0, Some(why));
                }
            }
            (Some(Ok((spec, hash))), Some(slot)) => match slot.state {
                State::Ours if slot.hash == hash => {
                    if slot.leftover {
                        if let Some(slot) = self.slots.get_mut(&key) {
                            slot.leftover = false;
                        }
                        core.export.count("kept over a restart");
                    }
                }
                State::Ours => self.put(core, key, &spec, hash, flag::CREATE | flag::REPLACE),
                State::Blocked | State::Waiting if !again && slot.hash == hash => {}
                _ => self.put(core, key, &spec, hash, flag::CREATE | flag::EXCL),
            },
            (Some(Ok((spec, hash))), None) => {
                self.put(core, key, &spec, hash, flag::CREATE | flag::EXCL);
            }
        }
    }

    fn put(&mut self, core: &mut Core, key: Key, spec: &RouteSpec, hash: u32, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let flags = flags | flag::REQUEST;
        match RouteMessage::encode(&mut self.batch.bytes, flags, self.sequence, spec) {
            Ok(()) => {
                self.batch.requests.push((self.sequence, key, false));
                self.set(core, key, State::Sent, hash, None);
                core.export.count("sent");
            }
            Err(_) => {
                let why = "not exported: its next hops don't fit into a message".to_owned();
                self.set(core, key, State::Waiting, hash, Some(why));
            }
        }
    }

    fn delete(&mut self, core: &mut Core, key: Key) {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let mut spec = RouteSpec::new(key.prefix);
        spec.table = self.table;
        spec.tos = key.tos;
        spec.metric = Some(key.metric);
        spec.protocol = Some(self.protocol);
        spec.attrs = Attrs::NONE;
        let flags = flag::REQUEST;
        if RouteMessage::encode_delete(&mut self.batch.bytes, flags, self.sequence, &spec).is_ok() {
            self.batch.requests.push((self.sequence, key, true));
            self.set(core, key, State::Sent, 0, None);
            core.export.count("withdrawn");
        }
    }

    fn set(&mut self, core: &mut Core, key: Key, state: State, hash: u32, why: Option<String>) {
        self.forget(core, key);
        let seen = state == State::Ours;
        let slot = Slot { hash, state, dirty: false, seen, leftover: false, behind: false };
        self.slots.insert(key, slot);
        self.tally(core, state, 1);
        match why {
            Some(why) => drop(core.export.problems.insert(key, why)),
            None => drop(core.export.problems.remove(&key)),
        }
    }

    fn forget(&mut self, core: &mut Core, key: Key) {
        if let Some(slot) = self.slots.remove(&key) {
            self.tally(core, slot.state, -1);
            core.export.problems.remove(&key);
        }
    }

    fn tally(&self, core: &mut Core, state: State, by: isize) {
        let count = match state {
            State::Ours => &mut core.export.installed,
            State::Blocked => &mut core.export.blocked,
            State::Waiting => &mut core.export.waiting,
            State::Sent => return,
        };
        *count = count.saturating_add_signed(by);
    }

    // What the kernel answers.

    fn answered(&mut self, core: &mut Core, outcome: Outcome) {
        if let Some(error) = outcome.failed {
            // What came of them isn't known: it is looked.
            tracing::error!("export: {error}; all is listed again");
            for (_, key, _) in outcome.requests {
                self.forget(core, key);
            }
            self.list_soon(core);
            return self.look_at_all();
        }
        let mut refused = outcome.refused.into_iter().peekable();
        for (sequence, key, deleting) in outcome.requests {
            let error = refused.next_if(|(of, ..)| *of == sequence);
            let Some(slot) = self.slots.get(&key).copied() else { continue };
            match error {
                None if deleting => self.forget(core, key),
                None => self.set(core, key, State::Ours, slot.hash, None),
                Some((_, ESRCH, _)) if deleting => self.forget(core, key),
                Some((_, EPERM, text)) => {
                    if self.denied.is_none() {
                        tracing::error!(
                            "export: not permitted; CAP_NET_ADMIN would be right (it is tried again every {} s)",
                            DENIED_MS / 1000
                        );
                    }
                    self.denied = Some(core.now + DENIED_MS);
                    self.set(core, key, State::Waiting, slot.hash, Some(reason(EPERM, &text)));
                }
                Some((_, EEXIST, _)) => {
                    let why = "another's route has this prefix, tos and metric".to_owned();
                    self.set(core, key, State::Blocked, slot.hash, Some(why));
                    // Or ours, if something was missed: it is looked.
                    core.export.count("met another's");
                    self.list_soon(core);
                }
                Some((_, errno, text)) => {
                    self.set(core, key, State::Waiting, slot.hash, Some(reason(errno, &text)));
                }
            }
            if slot.dirty {
                self.update(core, key, false);
            }
        }
    }

    // What others do.

    fn read_events(&mut self, core: &mut Core, until: Instant) {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            match self.events.receive(&mut buffer) {
                Ok(datagram) if datagram.sender != netlink::KERNEL => {}
                Ok(datagram) => self.events_in(core, &buffer[..datagram.len]),
                Err(Error::WouldBlock {}) => break,
                Err(_) => {
                    core.export.count("overruns");
                    self.list_soon(core);
                }
            }
            if Instant::now() >= until {
                break;
            }
        }
        self.buffer = buffer;
    }

    fn list_soon(&mut self, core: &Core) {
        self.list_at.get_or_insert(core.now + SETTLE_MS);
    }

    fn retry_soon(&mut self, core: &Core) {
        if core.export.waiting + core.export.blocked > 0 {
            self.retry_at.get_or_insert(core.now + SETTLE_MS);
        }
    }

    fn events_in(&mut self, core: &mut Core, bytes: &[u8]) {
        for message in messages(bytes).flatten() {
            let (port, flags) = (message.port, message.flags);
            match Body::decode(message) {
                Ok(Body::Link(link)) if !link.is_port => {
                    self.links.retain(|_, index| *index != link.ifindex);
                    if let (false, Ok(name)) = (link.gone, link.name()) {
                        self.links.insert(name, link.ifindex);
                    }
                    // What went with it was not told.
                    self.list_soon(core);
                    self.retry_soon(core);
                }
                Ok(Body::Address(_)) => self.retry_soon(core),
                Ok(Body::Route(route)) if port != self.port && route.table == self.table => {
                    self.route_event(core, &route, flags);
                    self.retry_soon(core);
                }
                _ => {}
            }
        }
    }

    fn route_event(&mut self, core: &mut Core, route: &RouteMessage<'_>, flags: u16) {
        let Ok(spec) = route.spec() else { return };
        let key =
            Key { prefix: spec.prefix, metric: spec.metric.unwrap_or_default(), tos: spec.tos };
        let Some(slot) = self.slots.get(&key).copied() else { return };
        let ours = route.protocol == self.protocol;
        match (ours, route.gone) {
            // Somebody took ours away: it comes back.
            (true, true) if slot.state == State::Ours => {
                core.export.count("repaired");
                self.forget(core, key);
                self.update(core, key, true);
            }
            (true, _) => self.list_soon(core),
            // Another's is in front of ours now, or instead of it.
            (false, false) if slot.state == State::Ours && flags & flag::APPEND == 0 => {
                self.block(core, key, slot.hash, flags & flag::REPLACE == 0);
                // With the import, it may win, and ours is to go.
                self.update(core, key, false);
            }
            (false, false) if key.prefix.family() == Family::V6 => self.list_soon(core),
            (false, true) if slot.state == State::Blocked => {
                self.list_soon(core);
                self.update(core, key, true);
            }
            _ => {}
        }
    }

    // Listings.

    fn ask(&mut self, what: u16, family: Family) {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.request.clear();
        if what == kind::GETLINK {
            request_dump(&mut self.request, self.sequence, what);
        } else {
            let filter =
                RouteFilter { family: family.af(), table: self.table, ..RouteFilter::default() };
            request_routes(&mut self.request, self.sequence, &filter);
        }
        let listing = Listing { sequence: self.sequence, what, family, last: None };
        self.listing = self.dumps.send(self.request.bytes()).is_ok().then_some(listing);
    }

    /// One piece of an answer; false: there is none yet.
    fn read_listing(&mut self, core: &mut Core) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = self.dumps.receive(&mut buffer);
        let more = match received {
            Ok(datagram) if datagram.sender == netlink::KERNEL => {
                self.lines_in(core, &buffer[..datagram.len]);
                true
            }
            Ok(_) => true,
            Err(Error::WouldBlock {}) => false,
            Err(error) => {
                tracing::warn!("export: {error}; it is asked again");
                self.listing = None;
                self.list_soon(core);
                false
            }
        };
        self.buffer = buffer;
        more
    }

    fn lines_in(&mut self, core: &mut Core, bytes: &[u8]) {
        for message in messages(bytes).flatten() {
            let Some(listing) = &mut self.listing else { return };
            if message.sequence != listing.sequence {
                continue;
            }
            match Body::decode(message) {
                Ok(Body::Link(link)) if !link.is_port => {
                    if let Ok(name) = link.name() {
                        self.links.insert(name, link.ifindex);
                    }
                }
                Ok(Body::Route(route)) => {
                    let Ok(spec) = route.spec() else { continue };
                    let metric = spec.metric.unwrap_or_default();
                    let key = Key { prefix: spec.prefix, metric, tos: spec.tos };
                    let first = listing.last.replace(key) != Some(key);
                    let ours = route.protocol == self.protocol;
                    if first {
                        self.line(core, key, &spec, ours);
                    } else if ours {
                        self.line_behind(core, key);
                    }
                }
                Ok(Body::Answer(_)) => {
                    let (what, family) = (listing.what, listing.family);
                    self.listing = None;
                    match (what, family) {
                        (kind::GETLINK, _) => self.ask(kind::GETROUTE, Family::V4),
                        (_, Family::V4) => self.ask(kind::GETROUTE, Family::V6),
                        (_, Family::V6) => {
                            self.listed_once = true;
                            self.audit = core.now + AUDIT_MS;
                            self.passes.push(Pass::Slots { after: None, listed: true });
                            core.export.count("listings");
                        }
                    }
                    return;
                }
                _ => {}
            }
        }
    }

    /// Ours, behind another's.
    fn line_behind(&mut self, core: &mut Core, key: Key) {
        let slot = self.slots.get(&key).copied();
        match slot.map(|slot| slot.state) {
            Some(State::Ours | State::Sent) => return,
            Some(State::Blocked | State::Waiting) => {}
            None => self.block(core, key, 0, true),
        }
        if let Some(known) = self.slots.get_mut(&key) {
            (known.behind, known.seen) = (true, true);
            known.leftover = slot.is_none();
        }
    }

    /// Another's route has a key; ours may be `behind` it.
    fn block(&mut self, core: &mut Core, key: Key, hash: u32, behind: bool) {
        let why = "another's route has this prefix, tos and metric".to_owned();
        self.set(core, key, State::Blocked, hash, Some(why));
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.behind = behind;
        }
    }

    /// The first route on a key, as the kernel has it.
    fn line(&mut self, core: &mut Core, key: Key, spec: &RouteSpec, ours: bool) {
        let hash = self.hash(spec);
        let slot = self.slots.get(&key).copied();
        match (ours, slot) {
            (_, Some(Slot { state: State::Sent, .. })) => {}
            (true, Some(Slot { state: State::Ours, .. })) => {
                // The kernel fills in what we left open (a gateway's link), so
                // another content is no reason to send it again.
                if let Some(slot) = self.slots.get_mut(&key) {
                    slot.seen = true;
                }
            }
            (true, slot) => {
                self.set(core, key, State::Ours, hash, None);
                if let Some(made) = self.slots.get_mut(&key) {
                    made.leftover = slot.is_none();
                }
            }
            (false, Some(slot)) if slot.state == State::Ours => {
                self.block(core, key, slot.hash, false);
                if let Some(slot) = self.slots.get_mut(&key) {
                    slot.seen = true;
                }
            }
            (false, Some(slot)) if slot.state == State::Blocked => {
                if let Some(slot) = self.slots.get_mut(&key) {
                    slot.seen = true;
                }
            }
            (false, _) => {}
        }
    }
}

/// A refusal in words: the kernel's own, if it gave any.
fn reason(errno: u32, text: &str) -> String {
    let code = ipc::errno_text(ipc::Errno::from_raw_os_error(errno as i32));
    if text.is_empty() { code.to_string() } else { format!("{text} ({code})") }
}
