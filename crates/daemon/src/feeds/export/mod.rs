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

mod events;
mod wants;
mod worker;

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use foldhash::fast::FixedState;
use ipc::epoll::{Epoll, Interest};
use ipc::netlink::Socket;
use rtm_model::{Family, LinkName, Prefix, RouteKey};
use rtm_netlink::{Builder, kind, number};
use rtm_tables::{MarkerId, Millis, RouteCursor};
use serde_json::{Value, json};

use super::kernel::program;
use super::sockets;
use crate::core::Core;
use crate::inventory::Row;
use crate::turn::TurnStats;
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
        let behind = self.behind.keys().map(|key| (key, BEHIND));
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
    /// Bytes of events and of listings; how often time was up before the events'
    /// end.
    read: [u64; 2],
    overran: u64,
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
        let groups = [
            number::GROUP_LINK,
            number::GROUP_IPV4_IFADDR,
            number::GROUP_IPV6_IFADDR,
            number::GROUP_IPV4_ROUTE,
            number::GROUP_IPV6_ROUTE,
        ];
        let events = sockets::events(RECEIVE_BYTES, &program(&[table], None), &groups);
        let events = events.map_err(|error| wrong(&error))?;
        let dumps = sockets::requests().map_err(|error| wrong(&error))?;
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
            read: [0; 2],
            overran: 0,
        })
    }

    /// Lets the loop watch it.
    pub(crate) fn watch(&self, epoll: &Epoll) -> Result<(), ipc::epoll::Error> {
        epoll.add(&self.events, Wakeup::Export.number(), Interest::READ)?;
        epoll.add(&self.dumps, Wakeup::ExportAnswer.number(), Interest::READ)?;
        epoll.add(self.worker.event(), Wakeup::ExportDone.number(), Interest::READ)
    }

    /// Its descriptors, for `status -d`.
    pub(crate) fn rows(&self, turns: &TurnStats) -> [Row; 3] {
        let [events, answers] = self.read;
        [
            Row::new("netlink", &self.events, "export: events")
                .woken(turns.wakeups_by(Wakeup::Export))
                .read(events, self.overran),
            Row::new("netlink", &self.dumps, "export: listings")
                .woken(turns.wakeups_by(Wakeup::ExportAnswer))
                .read(answers, 0),
            Row::new("event", self.worker.event(), "export: its thread")
                .woken(turns.wakeups_by(Wakeup::ExportDone)),
        ]
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
}

/// A refusal in words: the kernel's own, if it gave any.
fn reason(errno: u32, text: &str) -> String {
    let code = ipc::errno_text(ipc::Errno::from_raw_os_error(errno as i32));
    if text.is_empty() { code.to_string() } else { format!("{text} ({code})") }
}
