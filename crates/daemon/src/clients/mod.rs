//! Connections: who they are, where they wait, when they are looked at again.
//!
//! Each has a place in a slab and a token that names the place and its use. The
//! session (in `tables`) knows the protocol; this side knows the socket, the
//! request or the load in progress, and five queues:
//!
//! ```text
//!   readable   the socket has bytes
//!   runnable   a job or a load can go on
//!   ready      the hub named it: records for a subscriber
//!   answers    an answer or a goodbye waits to be written
//!   bulk       it had its share in this turn and has more: snapshots, who
//!              catches up
//! ```
//!
//! A token stands at most once in each. What isn't done within a turn's budget
//! stays at the front for the next turn, so nobody starves.

pub(crate) mod accept;
mod descriptors;
mod io;
mod signals;
mod steps;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use ipc::epoll::{Epoll, Interest};
use ipc::sends::Sends;
use rtm_tables::wire::{GoodbyeReason, Role};
use rtm_tables::{Millis, Peer, Secret, ServerSession, Transport};

use crate::core::{Core, Requester};
use crate::inventory::{Flow, Row, Waited};
use crate::load::Load;
use crate::requests::Job;
use crate::wakeup::{ClientToken, Wakeup};

/// How long a goodbye may take to be written.
const GOODBYE_MS: Millis = 2_000;

/// Which queues a client stands in.
#[derive(Clone, Copy, Default)]
struct Queued {
    readable: bool,
    runnable: bool,
    ready: bool,
    answers: bool,
    bulk: bool,
}

/// A connection.
pub(crate) struct Client {
    fd: OwnedFd,
    /// The descriptor that goes with the frame of its last WANT.
    attachment: Option<descriptors::Attachment>,
    pipes: descriptors::Pipes,
    /// Its process, as it was when it connected; none over TCP, on a kernel that
    /// can't say, and where descriptors are short.
    process: Option<OwnedFd>,
    /// It wants to be signalled at a whole flush.
    registration: Option<signals::Registration>,
    pub(crate) session: ServerSession,
    token: ClientToken,
    uid: Option<u32>,
    role: Role,
    /// It has a place that is kept for administrators: it may ask, not follow,
    /// and not stay idle.
    kept: bool,
    interest: Interest,
    /// It subscribed.
    follows: bool,
    /// The socket is full: it is told when there is room.
    blocked: bool,
    /// The other side has ended its writing.
    input_ended: bool,
    /// Its loads wait for somebody else to give the tables back.
    paused: bool,
    job: Option<(u64, Box<Job>)>,
    load: Option<Load>,
    queued: Queued,
    /// The earliest entry that the timers have for it.
    timer: Option<Millis>,
    /// When what it is doing must have moved.
    job_deadline: Option<Millis>,
    /// When it is closed at the latest, since it is saying goodbye.
    closing: Option<Millis>,
    flow: Flow,
    waited: Waited,
    /// How often its process woke the loop.
    process_wakeups: u64,
}

impl Client {
    fn requester(&self) -> Requester {
        Requester::Client(self.token)
    }

    /// Its descriptors, for `status -d`.
    fn rows(&self, core: &Core) -> Vec<Row> {
        let info = self.session.info(&core.hub, core.now);
        let (peer, number) = (info.peer, info.session);
        let name = format!("{} {}", peer.transport.name(), info.name);
        let socket = Row::new("client", &self.fd, name.trim_end()).flow(self.flow);
        let socket = socket.waited(self.waited);
        let process = self.process.as_ref().map(|process| {
            Row::new("process", process, "the client's").woken(self.process_wakeups)
        });
        let rows = [socket].into_iter().chain(process).chain(self.pipes.rows());
        rows.map(|row| row.of(peer.pid, number)).collect()
    }
}

#[derive(Default)]
struct Slot {
    uses: u32,
    client: Option<Box<Client>>,
}

/// What sessions that have ended were counted for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SessionTotals {
    /// Snapshots.
    pub(crate) snapshots: u64,
    /// Resumes without one.
    pub(crate) resumes: u64,
    /// Digests that differed.
    pub(crate) resyncs: u64,
    /// Records replaced by newer ones.
    pub(crate) conflated: u64,
}

/// All connections.
pub(crate) struct Clients {
    epoll: Rc<Epoll>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    count: usize,
    kept: usize,
    /// `None`: over TCP, where nobody knows whose they are.
    per_uid: HashMap<Option<u32>, usize>,
    sessions: u64,
    readable: VecDeque<ClientToken>,
    runnable: VecDeque<ClientToken>,
    ready: VecDeque<ClientToken>,
    answers: VecDeque<ClientToken>,
    bulk: VecDeque<ClientToken>,
    /// To be closed at the end of the turn.
    ended: Vec<ClientToken>,
    timers: BinaryHeap<Reverse<(Millis, ClientToken)>>,
    /// What must be stepped to its end though its client is gone.
    orphans: Vec<steps::Orphan>,
    /// Descriptors there may be for connections.
    descriptors: usize,
    /// Of these, the ends of pipes and the processes that the daemon holds for
    /// clients.
    pipes: usize,
    /// Who has a wake pipe, or had one.
    wakers: Vec<ClientToken>,
    /// Who waits for the image, until it is up to date.
    want_image: Vec<ClientToken>,
    /// What a TCP peer must know to be more than a reader.
    pub(crate) secret: Option<Secret>,
    /// Who is to be signalled.
    to_signal: VecDeque<ClientToken>,
    totals: SessionTotals,
    buffer: Vec<u8>,
    /// With which a lone change goes to many at once; `None` where that is forbidden.
    sends: Option<Sends>,
    /// What it has written.
    bytes_together: u64,
    /// Used by it: who gets how much, and who gets more.
    together: (Vec<(ClientToken, usize)>, Vec<ClientToken>),
    /// The descriptors of the one that asks for all of them: it isn't in its place
    /// while it is being answered.
    pub(crate) own_rows: Vec<Row>,
}

impl Clients {
    /// None yet. `descriptors`: how many there may be for connections.
    pub(crate) fn new(epoll: Rc<Epoll>, descriptors: usize) -> Clients {
        let sends = Sends::new(io::TOGETHER_MOST as u32)
            .inspect_err(|error| {
                tracing::info!("changes go to one client after the other: {error}")
            })
            .ok();
        Clients {
            epoll,
            slots: Vec::new(),
            free: Vec::new(),
            count: 0,
            kept: 0,
            per_uid: HashMap::new(),
            sessions: 0,
            readable: VecDeque::new(),
            runnable: VecDeque::new(),
            ready: VecDeque::new(),
            answers: VecDeque::new(),
            bulk: VecDeque::new(),
            ended: Vec::new(),
            timers: BinaryHeap::new(),
            orphans: Vec::new(),
            descriptors,
            pipes: 0,
            wakers: Vec::new(),
            want_image: Vec::new(),
            secret: None,
            to_signal: VecDeque::new(),
            totals: SessionTotals::default(),
            buffer: vec![0; io::READ_BYTES],
            sends,
            bytes_together: 0,
            together: (Vec::new(), Vec::new()),
            own_rows: Vec::new(),
        }
    }

    /// What is there for all of them together.
    pub(crate) fn row(&self) -> Option<Row> {
        let descriptor = self.sends.as_ref()?.descriptor()?;
        Some(Row::new("sends", descriptor, "to many at once").written(self.bytes_together))
    }

    /// How many there are (without one that is being answered).
    pub(crate) fn len(&self) -> usize {
        self.slots.iter().filter(|slot| slot.client.is_some()).count()
    }

    /// How many there may be: as configured, or as descriptors allow.
    pub(crate) fn sessions_max(&self, core: &Core) -> usize {
        (core.config.limits.sessions_max.0 as usize).min(self.descriptors - self.pipes)
    }

    /// What is counted over all sessions that are or were.
    pub(crate) fn totals(&self, core: &Core) -> SessionTotals {
        let mut totals = self.totals;
        for client in self.slots.iter().filter_map(|slot| slot.client.as_ref()) {
            totals.add(&client.session, core);
        }
        totals
    }

    /// The session at a place, for walks over all of them; `None` beyond the
    /// last, `Some(None)` if the place is free.
    pub(crate) fn at(&self, place: usize) -> Option<Option<&ServerSession>> {
        let slot = self.slots.get(place)?;
        Some(slot.client.as_ref().map(|client| &client.session))
    }

    /// The descriptors of the client at a place; `None` beyond the last place.
    pub(crate) fn rows_at(&self, place: usize, core: &Core) -> Option<Vec<Row>> {
        let slot = self.slots.get(place)?;
        Some(slot.client.as_ref().map_or_else(Vec::new, |client| client.rows(core)))
    }

    /// Tokens of the subscribers of this name.
    pub(crate) fn subscribers_named<'a>(
        &'a self,
        name: &'a str,
        core: &'a Core,
    ) -> impl Iterator<Item = u64> + 'a {
        self.slots.iter().filter_map(|slot| slot.client.as_ref()).filter_map(move |client| {
            let info = client.session.info(&core.hub, core.now);
            (info.subscriber && info.name == name).then_some(client.token.number())
        })
    }

    /// Ends the session at a place with a goodbye.
    pub(crate) fn goodbye_at(
        &mut self,
        place: usize,
        reason: GoodbyeReason,
        text: &str,
        core: &mut Core,
    ) {
        let token = self.slots.get(place).and_then(|slot| slot.client.as_ref()).map(|c| c.token);
        if let Some(token) = token {
            self.goodbye(token, reason, text, core);
        }
    }

    /// Ends a session with a goodbye, which is given a moment to be written.
    pub(crate) fn goodbye(
        &mut self,
        token: ClientToken,
        reason: GoodbyeReason,
        text: &str,
        core: &mut Core,
    ) {
        let Some(client) = get(&mut self.slots, token) else { return };
        client.session.goodbye(reason, text, core.now, &mut core.hub);
        client.closing.get_or_insert(core.now + GOODBYE_MS);
        self.queue_answer(token);
        self.arm(token);
    }

    /// Tokens of all, for the drain.
    pub(crate) fn tokens(&self) -> Vec<ClientToken> {
        self.slots.iter().filter_map(|slot| Some(slot.client.as_ref()?.token)).collect()
    }

    /// Was a goodbye said to it?
    pub(crate) fn is_closing(&self, token: ClientToken) -> bool {
        let slot = self.slots.get(token.place());
        slot.and_then(|slot| slot.client.as_ref()).is_none_or(|client| client.closing.is_some())
    }

    /// Has it got all that is published, or will it never?
    pub(crate) fn is_caught_up(&self, token: ClientToken, core: &Core) -> bool {
        let slot = self.slots.get(token.place());
        slot.and_then(|slot| slot.client.as_ref())
            .is_none_or(|client| client.closing.is_some() || client.session.is_caught_up(&core.hub))
    }

    fn insert(&mut self, fd: OwnedFd, peer: Peer, kept: bool, core: &mut Core) -> ClientToken {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[place as usize];
        slot.uses = slot.uses.wrapping_add(1);
        let token = ClientToken::new(place, slot.uses);
        self.sessions += 1;
        let session =
            ServerSession::new(peer, token.number(), self.sessions, &mut core.hub, core.now);
        slot.client = Some(Box::new(Client {
            fd,
            attachment: None,
            pipes: descriptors::Pipes::default(),
            process: None,
            registration: None,
            session,
            token,
            uid: peer.uid,
            role: peer.role,
            kept,
            interest: Interest::READ,
            follows: peer.transport == Transport::Classic,
            blocked: false,
            input_ended: false,
            paused: false,
            job: None,
            load: None,
            queued: Queued::default(),
            timer: None,
            job_deadline: None,
            closing: None,
            flow: Flow::default(),
            waited: Waited::default(),
            process_wakeups: 0,
        }));
        self.count += 1;
        self.kept += usize::from(kept);
        *self.per_uid.entry(peer.uid).or_default() += 1;
        core.counters.accepted += 1;
        token
    }

    /// Takes a connection out of all lists and closes it.
    fn remove(&mut self, token: ClientToken, core: &mut Core) {
        let Some(slot) = self.slots.get_mut(token.place()) else { return };
        if slot.client.as_ref().is_none_or(|client| client.token != token) {
            return;
        }
        let Some(mut client) = slot.client.take() else { return };
        self.free.push(token.place() as u32);
        self.count -= 1;
        self.kept -= usize::from(client.kept);
        if let Some(count) = self.per_uid.get_mut(&client.uid) {
            *count -= 1;
            if *count == 0 {
                self.per_uid.remove(&client.uid);
            }
        }
        self.pipes -= client.pipes.count();
        // Its end, too, is no longer watched: closing it sees to that.
        self.pipes -= usize::from(client.process.is_some());
        self.totals.add(&client.session, core);
        let who = client.requester();
        if let Some((_, mut job)) = client.job.take() {
            if job.cancel(core, who) {
                self.orphans.push(steps::Orphan::Job(who, job));
            }
        }
        if let Some(mut load) = client.load.take() {
            if load.cut() {
                self.orphans.push(steps::Orphan::Load(load));
            }
        }
        if client.session.fell_behind() {
            core.counters.fell_behind += 1;
            tracing::info!(
                pid = client.session.peer().pid,
                "a classic client fell behind what is remembered of deletes (limits.tombstone_bytes_max): disconnected"
            );
        }
        // Queues may still name it; the token no longer finds anybody.
        let _ = self.epoll.delete(&client.fd);
        client.session.close(&mut core.hub, &mut core.table);
    }

    /// Something happened at the socket.
    pub(crate) fn woken(&mut self, token: ClientToken, event: ipc::epoll::Ready, turn: u64) {
        let Some(client) = get(&mut self.slots, token) else { return };
        client.flow.wakeups += 1;
        if event.is_writable() && client.blocked {
            client.blocked = false;
            if !std::mem::replace(&mut client.queued.bulk, true) {
                self.bulk.push_back(token);
            }
        }
        if event.is_readable() {
            client.waited.reported(turn);
            // Nobody is there to take an answer, and what waits can't be read:
            // without this the loop would be told again and again.
            let stopped = client.paused
                || client.input_ended
                || client.closing.is_some()
                || client.session.read_limit() == 0;
            let hopeless = event.is_hung_up() && stopped;
            if hopeless || event.is_error() {
                self.ended.push(token);
            } else {
                self.queue_readable(token);
            }
        }
    }

    /// Has a subscriber more to take than its socket holds?
    pub(crate) fn are_behind(&self) -> bool {
        let mut all = self.slots.iter().filter_map(|slot| slot.client.as_ref());
        all.any(|client| client.follows && client.blocked)
    }

    /// The hub named it: it has records to send.
    pub(crate) fn queue_ready(&mut self, token: ClientToken) {
        let Some(client) = get(&mut self.slots, token) else { return };
        if client.blocked || client.queued.bulk {
            return;
        }
        if !std::mem::replace(&mut client.queued.ready, true) {
            self.ready.push_back(token);
        }
    }

    fn queue_answer(&mut self, token: ClientToken) {
        let Some(client) = get(&mut self.slots, token) else { return };
        if !client.blocked && !std::mem::replace(&mut client.queued.answers, true) {
            self.answers.push_back(token);
        }
    }

    fn queue_runnable(&mut self, token: ClientToken) {
        let Some(client) = get(&mut self.slots, token) else { return };
        if !std::mem::replace(&mut client.queued.runnable, true) {
            self.runnable.push_back(token);
        }
    }

    /// Has more come already than was read in this turn?
    pub(crate) fn is_reading(&self) -> bool {
        !self.readable.is_empty()
    }

    /// Is there something to do before the next event?
    pub(crate) fn has_work(&self) -> bool {
        !(self.readable.is_empty()
            && self.runnable.is_empty()
            && self.ready.is_empty()
            && self.answers.is_empty()
            && self.bulk.is_empty()
            && self.to_signal.is_empty()
            && self.ended.is_empty()
            && self.orphans.is_empty())
    }

    /// Watches the socket for what the client can do now.
    fn watch(&mut self, token: ClientToken) {
        let Some(client) = get(&mut self.slots, token) else { return };
        let reads = !client.paused
            && !client.input_ended
            && client.closing.is_none()
            && client.session.read_limit() > 0;
        let interest = match (reads, client.blocked) {
            (true, true) => Interest::READ_WRITE,
            (true, false) => Interest::READ,
            (false, true) => Interest::WRITE,
            (false, false) => Interest::NONE,
        };
        if interest == client.interest {
            return;
        }
        client.interest = interest;
        let wakeup = Wakeup::Client(token).number();
        if let Err(error) = self.epoll.modify(&client.fd, wakeup, interest) {
            tracing::error!("a connection can't be watched: {error}");
            self.ended.push(token);
        }
    }

    /// Sees to it that the timers look at the client in time.
    fn arm(&mut self, token: ClientToken) {
        let Some(client) = get(&mut self.slots, token) else { return };
        let deadline = [
            client.session.poll_timeout(),
            client.load.as_ref().and_then(Load::deadline),
            client.job_deadline,
            client.closing,
        ]
        .into_iter()
        .flatten()
        .min();
        let Some(deadline) = deadline else { return };
        if client.timer.is_none_or(|timer| deadline < timer) {
            client.timer = Some(deadline);
            self.timers.push(Reverse((deadline, token)));
        }
    }

    /// When the timers want to be looked at.
    pub(crate) fn poll_timeout(&self) -> Option<Millis> {
        self.timers.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// Time has passed: at most `budget` clients are looked at; true: there
    /// are more.
    pub(crate) fn handle_timeouts(&mut self, core: &mut Core, mut budget: usize) -> bool {
        while let Some(&Reverse((deadline, token))) = self.timers.peek() {
            if deadline > core.now {
                return false;
            }
            if budget == 0 {
                return true;
            }
            budget -= 1;
            self.timers.pop();
            let Some(client) = get(&mut self.slots, token) else { continue };
            if client.timer != Some(deadline) {
                continue;
            }
            client.timer = None;
            client.session.handle_timeout(core.now, &mut core.hub);
            if client.closing.is_some_and(|closing| closing <= core.now) {
                self.ended.push(token);
                continue;
            }
            if client.session.is_finished() {
                self.ended.push(token);
                continue;
            }
            if client.job_deadline.is_some_and(|deadline| deadline <= core.now) {
                client.job_deadline = None;
                let idle = client.kept && client.job.is_none() && client.load.is_none();
                if idle {
                    let text = "places kept for administrators are for requests; too many sessions";
                    self.goodbye(token, GoodbyeReason::TooMany, text, core);
                    continue;
                }
                self.queue_runnable(token);
            }
            self.load_timeout(token, core);
            // A heartbeat, or a goodbye.
            self.queue_answer(token);
            self.arm(token);
        }
        false
    }

    /// Tells rejected changes to those that asked to be told.
    pub(crate) fn tell_rejections(&mut self, core: &mut Core) {
        if core.feeds.rejections.is_empty() {
            return;
        }
        let rejections = std::mem::take(&mut core.feeds.rejections);
        for place in 0..self.slots.len() {
            let Some(client) = &mut self.slots[place].client else { continue };
            if !client.session.wants_rejected() {
                continue;
            }
            for rejection in &rejections {
                let (by, priority) = (rejection.by, rejection.priority);
                if !client.session.rejected(by, priority, &rejection.text) {
                    // It has no room: that it missed some is seen in the counts.
                    break;
                }
            }
            let token = client.token;
            self.queue_answer(token);
        }
    }

    /// Closes those that have ended.
    pub(crate) fn close_ended(&mut self, core: &mut Core) {
        while let Some(token) = self.ended.pop() {
            self.remove(token, core);
        }
    }
}

impl SessionTotals {
    fn add(&mut self, session: &ServerSession, core: &Core) {
        let info = session.info(&core.hub, core.now);
        self.snapshots += info.snapshots;
        self.resumes += info.resumes;
        self.resyncs += info.resyncs;
        self.conflated += info.conflated;
    }
}

/// The client of a token, if it is still there. A function, so that the lists
/// beside the slab stay free to be used.
fn get(slots: &mut [Slot], token: ClientToken) -> Option<&mut Client> {
    let client = slots.get_mut(token.place())?.client.as_deref_mut()?;
    (client.token == token).then_some(client)
}
