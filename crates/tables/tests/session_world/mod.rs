//! A daemon and its clients in one process, in virtual time, joined by pipes
//! that hold as much as a test says and that can be cut at any byte.
//!
//! [`World`] is the daemon's loop in small: a turn reads, applies, publishes,
//! writes. Each [`End`] is one connection: the daemon's half, the client's half
//! and its replica. What a client must be able to rely on is checked at every
//! event, in every test: see [`End::apply`].
#![allow(dead_code, unreachable_pub)] // Each test file uses its own part.

mod end;
pub mod expected;
mod random;

use std::collections::{BTreeMap, VecDeque};

use expected::{entities, expected};
use rtm_model::text::{Context, Filter};
use rtm_model::{
    Change, DigestKey, Digester, Digests, Entity, HopFlags, HopSpec, Hops, LinkRef, RouteSpec, Verb,
};
use rtm_tables::wire::{Done, GoodbyeReason, ItemFlags, ItemKind, LoadFlags, Role};
use rtm_tables::{
    BarrierReport, ClientConfig, ClientSession, Compare, Epoch, Flush, Hub, HubLimits, Millis,
    Peer, Progress, Replica, Revision, ServerEvent, ServerSession, SourceId, SourceSpec, Table,
    TableLimits, Transport,
};

pub const KEY: DigestKey = DigestKey([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]);

/// A small generator of numbers: the same for the same seed, everywhere.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `bound` - 1.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// Takes bytes off a pipe.
fn take(pipe: &mut VecDeque<u8>, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count);
    let (first, second) = pipe.as_slices();
    let from_first = count.min(first.len());
    bytes.extend_from_slice(&first[..from_first]);
    bytes.extend_from_slice(&second[..count - from_first]);
    pipe.drain(..count);
    bytes
}

/// Tells the seed of a test that fails.
pub struct Seed(pub u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

/// How a client connects.
#[derive(Clone)]
pub struct Connect {
    pub name: String,
    pub filter: String,
    /// `None`: an admin connection that doesn't follow.
    pub follows: bool,
    pub features: u64,
    pub transport: Transport,
    pub role: Role,
    pub uid: u32,
    /// Bytes that the socket holds on the way to the client.
    pub socket: usize,
    /// Does the client read?
    pub reads: bool,
    pub dead_ms: Option<u64>,
}

impl Default for Connect {
    fn default() -> Connect {
        Connect {
            name: "client".into(),
            filter: String::new(),
            follows: true,
            features: rtm_tables::wire::FEATURE_ACK,
            transport: Transport::Unix,
            role: Role::Admin,
            uid: 0,
            socket: 200_000,
            reads: true,
            dead_ms: None,
        }
    }
}

impl Connect {
    pub fn filtered(filter: &str) -> Connect {
        Connect { filter: filter.into(), ..Connect::default() }
    }

    pub fn admin() -> Connect {
        Connect { follows: false, ..Connect::default() }
    }
}

/// What a client has seen, since the world began (over all its connections).
#[derive(Default, Clone, Debug)]
pub struct Seen {
    pub bytes: u64,
    pub sets: u64,
    pub deletes: u64,
    pub flushes: u64,
    pub begins: Vec<Revision>,
    pub ends: u64,
    /// The revision of the last END.
    pub ended_at: Revision,
    pub marks: u64,
    pub asked: u64,
    pub differed: u64,
    pub resyncs: u64,
    pub items: Vec<(u64, ItemKind, Vec<u8>)>,
    pub dones: Vec<(u64, u32, String)>,
    pub goodbye: Option<(GoodbyeReason, String)>,
    pub failed: Option<String>,
    pub silent: Option<String>,
    pub batches: u64,
}

type History = BTreeMap<Revision, Vec<(Filter, Vec<Entity>)>>;
type Tamper = Box<dyn FnMut(&mut Vec<u8>)>;

/// One connection.
pub struct End {
    pub connect: Connect,
    pub server: Option<ServerSession>,
    pub client: ClientSession,
    pub replica: Replica,
    pub seen: Seen,
    token: u64,
    /// On the way to the client, and to the daemon.
    down: VecDeque<u8>,
    up: VecDeque<u8>,
    /// The socket was full.
    blocked: bool,
    /// The connection is cut when so many bytes have been delivered.
    pub cut_down: Option<u64>,
    pub cut_up: Option<u64>,
    pub delivered_down: u64,
    pub delivered_up: u64,
    /// Changes the bytes on their way to the client.
    pub tamper: Option<Tamper>,
    /// Bytes that a client of no good sends instead of its own.
    pub raw_up: Option<VecDeque<u8>>,
    pub events: Vec<ServerEvent>,
    load: Option<Load>,
    pending: Option<Pending>,
    filter: Filter,
    /// No flush ever left links and groups that nobody uses: a filtered client
    /// has exactly those that it uses.
    exact_members: bool,
    /// The most own memory that the daemon's half ever had.
    pub own_bytes_max: u64,
    /// Between BEGIN 0 and END.
    in_snapshot: bool,
    /// Where its digests differed, though nobody tampered.
    wrong: Option<Compare>,
}

struct Load {
    id: u64,
    flags: LoadFlags,
    applied: u64,
    unchanged: u64,
    failed: u64,
    position: u64,
    seen: u64,
}

/// An answer that is being given.
struct Pending {
    id: u64,
    left: usize,
    bytes: usize,
}

pub struct World {
    pub now: Millis,
    pub table: Table,
    pub hub: Hub,
    pub admin: SourceId,
    pub kernel: SourceId,
    pub ends: Vec<End>,
    pub rng: Rng,
    /// Entities of a publish and of a fill.
    pub budget: usize,
    /// Bytes of a write.
    pub write_bytes: usize,
    /// Does the socket take only part of what it could, now and then?
    pub ragged: bool,
    pub reports: Vec<BarrierReport>,
    /// How often the hub named somebody.
    pub named: u64,
    staged: bool,
    flushed: bool,
    /// May flushes happen?
    pub flushes: bool,
    /// Every published state, as each filter sees it: to explain differences.
    pub history: Option<History>,
}

pub fn digester() -> Digester {
    Digester::new(KEY)
}

impl World {
    pub fn new(seed: u64) -> World {
        World::with(seed, HubLimits::default(), TableLimits::default())
    }

    pub fn with(seed: u64, hub: HubLimits, table: TableLimits) -> World {
        let mut table = Table::new(Epoch(77), KEY, table);
        let admin = table.source(SourceSpec::admin()).unwrap();
        let kernel = table.source(SourceSpec::kernel()).unwrap();
        let hub = Hub::new(&table, KEY, hub);
        World {
            now: 1_000_000,
            table,
            hub,
            admin,
            kernel,
            ends: Vec::new(),
            rng: Rng::new(seed),
            budget: 1000,
            write_bytes: 64 * 1024,
            ragged: false,
            reports: Vec::new(),
            named: 0,
            staged: false,
            flushed: false,
            flushes: true,
            history: std::env::var_os("RTM_SEED").map(|_| BTreeMap::new()),
        }
    }

    pub fn flush(&mut self, routes: bool, neighbours: bool) {
        self.hub.begin_turn(self.now);
        self.table.flush(Flush { routes, neighbours }, &mut self.hub).unwrap();
        // Links and groups stay, used or not.
        self.flushed = true;
        self.ends.iter_mut().for_each(|end| end.exact_members = false);
    }

    pub fn connect(&mut self, connect: Connect) -> usize {
        let index = self.ends.len();
        let (server, client) = self.halves(index, &connect, None);
        let filter = Filter::parse(&connect.filter, &Context::default()).unwrap_or_default();
        self.ends.push(End {
            connect,
            server: Some(server),
            client,
            replica: Replica::new(self.table.epoch(), KEY),
            seen: Seen::default(),
            token: index as u64,
            down: VecDeque::new(),
            up: VecDeque::new(),
            blocked: false,
            cut_down: None,
            cut_up: None,
            delivered_down: 0,
            delivered_up: 0,
            tamper: None,
            raw_up: None,
            events: Vec::new(),
            load: None,
            pending: None,
            filter,
            exact_members: !self.flushed,
            own_bytes_max: 0,
            in_snapshot: false,
            wrong: None,
        });
        index
    }

    fn halves(
        &mut self,
        index: usize,
        connect: &Connect,
        resume: Option<(Epoch, Revision)>,
    ) -> (ServerSession, ClientSession) {
        let peer = Peer {
            transport: connect.transport,
            pid: Some(1000 + index as u32),
            uid: Some(connect.uid),
            role: connect.role,
            since: self.now,
        };
        let number = self.now + index as u64;
        let server = ServerSession::new(peer, index as u64, number, &mut self.hub, self.now);
        let config = ClientConfig {
            name: connect.name.clone(),
            features: connect.features,
            dead_ms: connect.dead_ms,
            ..ClientConfig::default()
        };
        let mut client = ClientSession::new(config, self.now);
        if connect.follows {
            client.subscribe(resume, &connect.filter);
        }
        (server, client)
    }

    /// Cuts a connection: what is on its way is lost.
    pub fn cut(&mut self, index: usize) {
        let end = &mut self.ends[index];
        end.down.clear();
        end.up.clear();
        end.load = None;
        end.pending = None;
        end.blocked = false;
        if let Some(server) = end.server.take() {
            server.close(&mut self.hub, &mut self.table);
        }
    }

    /// The daemon closes a connection: what it wrote before still arrives.
    fn close(&mut self, index: usize) {
        let end = &mut self.ends[index];
        let down = std::mem::take(&mut end.down);
        self.cut(index);
        self.ends[index].down = down;
    }

    /// Connects again, from where the client's replica stands.
    pub fn reconnect(&mut self, index: usize) {
        self.cut(index);
        let client = &self.ends[index].client;
        let revision = client.revision();
        let resume = client.epoch().filter(|_| revision.0 > 0).map(|epoch| (epoch, revision));
        let connect = self.ends[index].connect.clone();
        let (server, client) = self.halves(index, &connect, resume);
        let end = &mut self.ends[index];
        end.server = Some(server);
        end.client = client;
        end.seen.goodbye = None;
        end.seen.failed = None;
    }

    /// One turn of the daemon and of all clients.
    pub fn turn(&mut self) {
        self.now += 1;
        self.hub.begin_turn(self.now);
        for index in 0..self.ends.len() {
            self.read(index);
        }
        self.publish();
        for index in 0..self.ends.len() {
            self.client_reads(index);
            self.timeouts(index);
        }
    }

    /// The second half of a daemon's turn.
    pub fn publish(&mut self) {
        self.hub.publish(&mut self.table, self.budget);
        if let Some(history) = self.history.as_mut().filter(|_| !self.table.is_staging()) {
            let mut filters: Vec<Filter> = self.ends.iter().map(|end| end.filter.clone()).collect();
            filters.dedup();
            let store = self.table.store();
            let states = filters.into_iter().map(|filter| {
                let entities = entities(store, &filter);
                (filter, entities)
            });
            history.insert(self.table.revision(), states.collect());
            let mut table = Digests::default();
            for entity in entities(store, &Filter::default()) {
                let mut bytes = Vec::new();
                entity.encode(&mut bytes);
                table.section(entity.kind()).add(digester().hash(entity.kind(), &bytes));
            }
            table.keys = self.table.digests().keys;
            assert_eq!(table, self.table.digests(), "the table's own digests");
        }
        while let Some(token) = self.hub.poll_ready() {
            self.named += 1;
            self.write(token as usize);
        }
        for index in 0..self.ends.len() {
            let end = &self.ends[index];
            if end.blocked && end.down.len() < end.connect.socket {
                self.write(index);
            }
        }
        while let Some(report) = self.hub.poll_barrier() {
            self.reports.push(report);
        }
    }

    /// Turns until nobody has anything to do.
    pub fn settle(&mut self) {
        for _ in 0..20_000 {
            self.turn();
            let quiet = |end: &End| {
                let reads = end.connect.reads;
                (end.down.is_empty() || !reads)
                    && (end.up.is_empty() || end.server.is_none())
                    && (end.client.output().is_empty() || end.raw_up.is_some())
                    && end.server.as_ref().is_none_or(|server| {
                        !reads || (!end.blocked && !server.wants_write(&self.hub))
                    })
                    && end.pending.is_none()
            };
            if self.ends.iter().all(quiet) && !self.hub.has_work() {
                return;
            }
        }
        for end in &self.ends {
            let info = end.server.as_ref().map(|server| server.info(&self.hub, self.now));
            eprintln!(
                "{info:?} down {} up {} blocked {}",
                end.down.len(),
                end.up.len(),
                end.blocked
            );
        }
        panic!("it doesn't settle: {:?}", self.hub.stats());
    }

    fn read(&mut self, index: usize) {
        let end = &mut self.ends[index];
        if let Some(raw) = &mut end.raw_up {
            end.up.extend(raw.drain(..));
        } else {
            end.up.extend(end.client.output());
        }
        let sent = end.client.output().len();
        end.client.transmitted(sent);
        let Some(server) = &mut end.server else { return };
        let mut count = server.read_limit().min(end.up.len());
        if self.ragged && count > 0 {
            count = 1 + self.rng.below(count);
        }
        if let Some(cut) = end.cut_up {
            count = count.min((cut - end.delivered_up) as usize);
        }
        let bytes = take(&mut end.up, count);
        end.delivered_up += bytes.len() as u64;
        let cut = end.cut_up.is_some_and(|cut| end.delivered_up >= cut);
        self.handle(index, &bytes);
        if cut {
            self.ends[index].cut_up = None;
            self.reconnect(index);
        }
    }

    fn handle(&mut self, index: usize, bytes: &[u8]) {
        let mut input = bytes;
        loop {
            let Some(server) = &mut self.ends[index].server else { return };
            let now = self.now;
            match server.handle_bytes(&mut input, now, &mut self.hub, &mut self.table) {
                Some(event) => self.event(index, event),
                None if server.wants_input() => {}
                None => break,
            }
        }
        assert!(input.is_empty());
        let end = &mut self.ends[index];
        if let Some(server) = &end.server {
            let own = server.info(&self.hub, self.now).own_bytes;
            end.own_bytes_max = end.own_bytes_max.max(own);
        }
    }

    /// A daemon that knows a few words.
    fn event(&mut self, index: usize, event: ServerEvent) {
        self.ends[index].events.push(event.clone());
        match event {
            ServerEvent::Request { id, line } => self.request(index, id, &line),
            ServerEvent::LoadBegin { id, flags, .. } => {
                let load =
                    Load { id, flags, applied: 0, unchanged: 0, failed: 0, position: 0, seen: 0 };
                self.ends[index].load = Some(load);
                if flags.contains(LoadFlags::ATOMIC) {
                    self.table.stage_begin(self.admin).unwrap();
                    self.staged = true;
                }
            }
            ServerEvent::Changes(changes) => {
                for change in &changes {
                    if self.ends[index].load.is_some() {
                        self.change(index, change);
                    }
                }
            }
            ServerEvent::LoadEnd { give_up, .. } => {
                let Some(load) = self.ends[index].load.take() else { return };
                if load.flags.contains(LoadFlags::ATOMIC) {
                    self.end_stage(give_up || load.failed > 0);
                }
                self.done(index, &load, 0);
            }
            ServerEvent::Cancel { id } => {
                self.ends[index].pending = None;
                self.answer(index, Done { id, code: 2, text: "cancelled", ..Done::default() });
            }
            ServerEvent::Goodbye => {
                self.cut(index);
            }
            ServerEvent::Failed(_) | ServerEvent::Refused { .. } => {}
            _ => {}
        }
    }

    pub fn stage_begin(&mut self) {
        self.table.stage_begin(self.admin).unwrap();
    }

    pub fn end_stage(&mut self, give_up: bool) {
        self.staged = false;
        if give_up {
            while !self.table.stage_abort(100) {}
            return;
        }
        while self.table.stage_commit(100, &mut self.hub).is_none() {}
    }

    fn change(&mut self, index: usize, change: &Change) {
        let Some(load) = &mut self.ends[index].load else { panic!("a change without a load") };
        load.seen += 1;
        let result = if load.flags.contains(LoadFlags::ATOMIC) {
            self.table.stage(change).map(|()| true)
        } else {
            self.table
                .apply(self.admin, change, &mut self.hub)
                .map(|applied| matches!(applied, rtm_tables::Applied::Changed(_)))
        };
        match result {
            Ok(true) => load.applied += 1,
            Ok(false) => load.unchanged += 1,
            Err(_) => {
                load.failed += 1;
                if load.position == 0 {
                    load.position = load.seen;
                }
                let flags = load.flags;
                if !flags.contains(LoadFlags::FORCE) && !flags.contains(LoadFlags::ATOMIC) {
                    let Some(load) = self.ends[index].load.take() else { return };
                    self.done(index, &load, 2);
                }
            }
        }
    }

    fn done(&mut self, index: usize, load: &Load, code: u32) {
        let done = Done {
            id: load.id,
            code,
            revision: self.table.revision(),
            applied: load.applied,
            unchanged: load.unchanged,
            failed: load.failed,
            position: load.position,
            text: "",
        };
        let text = format!(
            "applied {} unchanged {} failed {} position {}",
            load.applied, load.unchanged, load.failed, load.position
        );
        self.answer(index, Done { text: &text, ..done });
    }

    fn request(&mut self, index: usize, id: u64, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["items", count, bytes] => {
                let (left, bytes) = (count.parse().unwrap_or(1), bytes.parse().unwrap_or(1));
                let bytes = usize::min(bytes, 10_000);
                self.ends[index].pending = Some(Pending { id, left, bytes });
                self.answer_more(index);
            }
            ["sync", ms] => {
                let ms: u64 = ms.parse().unwrap();
                self.hub.barrier(None, self.now + ms);
                self.answer(index, Done { id, text: "begun", ..Done::default() });
            }
            ["wait"] => {}
            _ => self.answer(index, Done { id, text: line, ..Done::default() }),
        }
    }

    pub fn answer(&mut self, index: usize, done: Done<'_>) {
        if let Some(server) = &mut self.ends[index].server {
            server.done(&done);
            server.requeue(&mut self.hub);
        }
    }

    fn answer_more(&mut self, index: usize) {
        let end = &mut self.ends[index];
        let (Some(pending), Some(server)) = (&mut end.pending, &mut end.server) else { return };
        let body = vec![b'x'; pending.bytes];
        while pending.left > 0 && server.item(ItemKind::Text, ItemFlags::default(), &body) {
            pending.left -= 1;
        }
        server.requeue(&mut self.hub);
        if pending.left == 0 {
            let id = pending.id;
            end.pending = None;
            self.answer(index, Done { id, text: "all", ..Done::default() });
        }
    }

    /// Fills and writes one session.
    fn write(&mut self, index: usize) {
        let budget = self.budget;
        self.ends[index].blocked = false;
        let mut left = 4;
        loop {
            let end = &mut self.ends[index];
            let Some(server) = &mut end.server else { return };
            server.fill(&mut self.hub, &mut self.table, budget);
            let slices = server.slices(&self.hub, self.write_bytes);
            if slices.is_empty() {
                break; // The hub names it when there is something.
            }
            assert!(slices.iter().all(|slice| !slice.is_empty()));
            let mut bytes = Vec::with_capacity(slices.bytes());
            slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
            assert_eq!(bytes.len(), slices.bytes());
            let mut room = end.connect.socket.saturating_sub(end.down.len()).min(bytes.len());
            if self.ragged && room > 0 && self.rng.one_in(2) {
                room = self.rng.below(room + 1);
            }
            end.down.extend(&bytes[..room]);
            server.transmitted(room, self.now, &mut self.hub);
            let own = server.info(&self.hub, self.now).own_bytes;
            end.own_bytes_max = end.own_bytes_max.max(own);
            if room < bytes.len() {
                end.blocked = true;
                break;
            }
            if !server.wants_write(&self.hub) {
                break;
            }
            left -= 1;
            if left == 0 {
                server.requeue(&mut self.hub);
                break;
            }
        }
        let end = &mut self.ends[index];
        let Some(server) = &end.server else { return };
        if server.is_finished() {
            return self.close(index);
        }
        if end.pending.is_some() {
            self.answer_more(index);
        }
        if self.ends[index].server.as_ref().is_some_and(ServerSession::wants_input) {
            self.handle(index, &[]);
        }
    }

    fn client_reads(&mut self, index: usize) {
        let end = &mut self.ends[index];
        if !end.connect.reads {
            return;
        }
        let mut count = end.down.len();
        if self.ragged && count > 0 && self.rng.one_in(2) {
            count = 1 + self.rng.below(count);
        }
        if let Some(cut) = end.cut_down {
            count = count.min((cut - end.delivered_down) as usize);
        }
        let mut bytes = take(&mut end.down, count);
        end.delivered_down += bytes.len() as u64;
        end.seen.bytes += bytes.len() as u64;
        if let Some(tamper) = &mut end.tamper {
            tamper(&mut bytes);
        }
        end.client.handle_bytes(&bytes, self.now);
        end.apply();
        if let Some(at) = end.wrong {
            panic!("client {index}: {}", self.explain(index, &at));
        }
        let end = &mut self.ends[index];
        if end.cut_down.is_some_and(|cut| end.delivered_down >= cut) {
            end.cut_down = None;
            self.reconnect(index);
        } else if end.seen.failed.is_some() {
            self.cut(index);
        }
    }

    /// What a client has that it shouldn't, and the other way round.
    fn explain(&self, index: usize, at: &Compare) -> String {
        let end = &self.ends[index];
        let has = entities(end.replica.store(), &Filter::default());
        let mut text = format!(
            "filter {:?}\nhas {:?}\nat {at:?}\n{:?}\n",
            end.connect.filter,
            end.replica.digests(),
            end.seen
        );
        let Some(states) = self.history.as_ref().and_then(|all| all.get(&at.revision)) else {
            return text + "set RTM_SEED to this seed to see the difference";
        };
        let Some((_, should)) = states.iter().find(|(filter, _)| *filter == end.filter) else {
            return text + "no state of this filter was kept";
        };
        for entity in has.iter().filter(|entity| !should.contains(entity)) {
            text += &format!("too much: {entity:?}\n");
        }
        for entity in should.iter().filter(|entity| !has.contains(entity)) {
            text += &format!("too little: {entity:?}\n");
        }
        text
    }

    fn timeouts(&mut self, index: usize) {
        let end = &mut self.ends[index];
        if let Some(server) = &mut end.server {
            while server.poll_timeout().is_some_and(|due| due <= self.now) {
                server.handle_timeout(self.now, &mut self.hub);
                if server.is_finished() {
                    break;
                }
            }
            if server.is_finished() {
                self.close(index);
            }
        }
        let end = &mut self.ends[index];
        if end.client.poll_timeout().is_some_and(|due| due <= self.now) {
            if let Err(timeout) = end.client.handle_timeout(self.now) {
                end.seen.silent = Some(timeout.to_string());
            }
        }
    }

    /// Lets time pass, a turn each `step`.
    pub fn wait(&mut self, ms: u64, step: u64) {
        let until = self.now + ms;
        while self.now < until {
            self.now += step - 1;
            self.turn();
        }
    }

    /// Applies a change; refused ones are fine.
    pub fn apply(&mut self, source: SourceId, change: &Change) -> bool {
        self.hub.begin_turn(self.now);
        self.table.apply(source, change, &mut self.hub).is_ok()
    }

    pub fn set_route(&mut self, number: usize, gateway: usize) {
        assert!(self.apply(self.admin, &Change::Route(Verb::Replace, route(number, gateway))));
    }

    pub fn delete_route(&mut self, number: usize) {
        let spec = RouteSpec::new(prefix(number));
        assert!(self.apply(self.admin, &Change::Route(Verb::Delete, spec)));
    }

    /// The digests that a client with this filter must have, computed from the
    /// table from scratch.
    pub fn expected(&self, filter: &str) -> Digests {
        let filter = Filter::parse(filter, &Context::default()).unwrap();
        if filter.is_all() {
            return self.table.digests();
        }
        expected(self.table.store(), &filter)
    }

    /// Asserts that every connected client that follows has exactly what it
    /// should.
    pub fn check_all(&self) {
        for (index, end) in self.ends.iter().enumerate() {
            if end.server.is_some() && end.connect.follows && end.connect.reads {
                self.check(index);
            }
        }
    }

    pub fn check(&self, index: usize) {
        let end = &self.ends[index];
        assert_eq!(end.client.progress(), Progress::Live, "client {index}: {:?}", end.seen);
        let filter = &end.connect.filter;
        assert_eq!(end.replica.digests(), end.replica.recompute_digests(), "client {index}");
        if end.exact_members || end.filter.is_all() {
            assert_eq!(
                end.replica.digests(),
                self.expected(filter),
                "client {index} {filter:?} {:?}",
                end.seen
            );
        } else {
            let expected = self.expected(filter);
            let has = end.replica.digests();
            assert_eq!(has.routes, expected.routes, "client {index} {filter:?}");
            assert_eq!(has.neighbours, expected.neighbours, "client {index} {filter:?}");
            assert_eq!(has.keys, expected.keys, "client {index} {filter:?}");
        }
    }
}

pub fn prefix(number: usize) -> rtm_model::Prefix {
    format!("10.{}.{}.0/24", number / 256 % 256, number % 256).parse().unwrap()
}

/// Route `number` of many, by one of a few gateways.
pub fn route(number: usize, gateway: usize) -> RouteSpec {
    let hop = HopSpec {
        gateway: format!("10.255.{}.{}", gateway / 200, 1 + gateway % 200).parse().ok(),
        link: Some(LinkRef::Name(format!("Ethernet{}", gateway % 32).parse().unwrap())),
        weight: 1,
        flags: HopFlags::default(),
    };
    RouteSpec { hops: Hops::One(hop), ..RouteSpec::new(prefix(number)) }
}
