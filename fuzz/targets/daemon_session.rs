//! The daemon's end: a client that sends whatever it likes, when it likes, and
//! reads as it likes. Nothing panics; what it costs stays bounded; and another
//! client, which follows meanwhile, has the table's digests at the end.
#![no_main]

use std::collections::VecDeque;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use rtm_model::text::{Command, Context, parse_line};
use rtm_model::{Change, DigestKey, RouteSpec, RouteType, Verb};
use rtm_tables::wire::{
    ClientFrame, Done, Hello, ItemFlags, ItemKind, LoadFlags, Role, Subscribe, SubscribeMode,
};
use rtm_tables::{
    ClientConfig, ClientEvent, ClientSession, Epoch, Hub, HubLimits, Peer, RecordOp, Replica,
    Revision, ServerEvent, ServerSession, SourceId, SourceSpec, Table, TableLimits, Transport,
};

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    /// What the client sends.
    Raw(&'a [u8]),
    Frame {
        frame_type: u8,
        flags: u8,
        body: &'a [u8],
    },
    Hello,
    Subscribe {
        known: bool,
        revision: u8,
        keys: bool,
        filter: Filter<'a>,
    },
    Request(&'a str),
    Load(u8),
    LoadEnd(u8, bool),
    Change(&'a str),
    Ack(u8, bool),
    Resync,
    Cancel(u8),
    Goodbye,
    /// What the daemon does.
    Item(u16),
    Done,
    Pause(bool),
    Route(u8, u8),
    Delete(u8),
    Flush,
    Barrier,
    Time(u16),
    Turn,
    /// The client reads so much.
    Read(u16),
}

#[derive(Arbitrary, Debug)]
enum Filter<'a> {
    Text(&'a str),
    All,
    Routes,
    Root,
    Neighbours,
}

const KEY: DigestKey = DigestKey([5, 6]);
const BUDGET: usize = 64;

struct World {
    table: Table,
    hub: Hub,
    admin: SourceId,
    now: u64,
    hostile: ServerSession,
    up: Vec<u8>,
    over: bool,
    good: ServerSession,
    client: ClientSession,
    replica: Replica,
    down: VecDeque<u8>,
}

fuzz_target!(|input: (bool, bool, Vec<Step<'_>>)| {
    let (small, tcp, steps) = input;
    let limits = HubLimits {
        journal_bytes: if small { 128 << 10 } else { 1 << 20 },
        snapshot_bytes_max: if small { 4 << 10 } else { 1 << 20 },
        filters_max: 3,
        ..HubLimits::default()
    };
    let table_limits = TableLimits {
        tombstone_bytes_max: if small { 400 } else { 1 << 20 },
        ..TableLimits::default()
    };
    let mut table = Table::new(Epoch(9), KEY, table_limits);
    let admin = table.source(SourceSpec::admin()).expect("the first source");
    let mut hub = Hub::new(&table, KEY, limits);
    let peer = |transport| Peer { transport, pid: None, uid: None, role: Role::Admin, since: 0 };
    let transport = if tcp { Transport::Tcp } else { Transport::Unix };
    let hostile = ServerSession::new(peer(transport), 1, 1, &mut hub, 0);
    let good = ServerSession::new(peer(Transport::Unix), 2, 2, &mut hub, 0);
    let mut client = ClientSession::new(ClientConfig::default(), 0);
    client.subscribe(None, "");
    let mut world = World {
        table,
        hub,
        admin,
        now: 0,
        hostile,
        up: Vec::new(),
        over: false,
        good,
        client,
        replica: Replica::new(Epoch(9), KEY),
        down: VecDeque::new(),
    };
    for step in &steps {
        world.step(step);
        world.bounds();
    }
    for _ in 0..200 {
        world.turn();
    }
    assert_eq!(world.replica.digests(), world.table.digests(), "the other client");
    assert_eq!(world.client.revision(), world.table.revision());
    let World { hostile, good, mut hub, mut table, .. } = world;
    hostile.close(&mut hub, &mut table);
    good.close(&mut hub, &mut table);
});

impl World {
    fn step(&mut self, step: &Step<'_>) {
        let up = &mut self.up;
        match *step {
            Step::Raw(bytes) => up.extend_from_slice(bytes),
            Step::Frame { frame_type, flags, body } => {
                let body = &body[..body.len().min(4096) / 8 * 8];
                up.extend_from_slice(&(8 + body.len() as u32).to_le_bytes());
                up.extend_from_slice(&[frame_type & 0x1f, 0, flags, 0]);
                up.extend_from_slice(body);
            }
            Step::Hello => ClientFrame::Hello(Hello {
                version: 1,
                lowest: 1,
                frame_bytes_max: 64 * 1024,
                features: 1,
                name: "fuzz",
            })
            .encode(up),
            Step::Subscribe { known, revision, keys, ref filter } => {
                ClientFrame::Subscribe(Subscribe {
                    epoch: if known { Epoch(9) } else { Epoch(0) },
                    revision: Revision(revision.into()),
                    mode: if keys { SubscribeMode::Keys } else { SubscribeMode::Full },
                    filter: match filter {
                        Filter::Text(text) => text,
                        Filter::All => "",
                        Filter::Routes => "routes -4",
                        Filter::Root => "routes root 10.0.0.0/12",
                        Filter::Neighbours => "neighbours",
                    },
                })
                .encode(up);
            }
            Step::Request(line) => ClientFrame::Request { id: 1, line }.encode(up),
            Step::Load(flags) => {
                let flags = LoadFlags(u32::from(flags) & 7);
                ClientFrame::Load { id: 2, flags, source: "" }.encode(up);
            }
            Step::LoadEnd(id, give_up) => {
                ClientFrame::LoadEnd { id: u64::from(id % 4), give_up }.encode(up);
            }
            Step::Change(line) => {
                if let Ok(Some((_, Command::Change(change)))) =
                    parse_line(line, &Context::default())
                {
                    ClientFrame::Change(change).encode(up);
                }
            }
            Step::Ack(revision, agrees) => {
                ClientFrame::Ack { revision: Revision(revision.into()), agrees }.encode(up);
            }
            Step::Resync => ClientFrame::Resync { revision: Revision(1) }.encode(up),
            Step::Cancel(id) => ClientFrame::Cancel { id: u64::from(id % 4) }.encode(up),
            Step::Goodbye => ClientFrame::Goodbye.encode(up),
            Step::Item(bytes) => {
                let body = vec![7; usize::from(bytes)];
                self.hostile.item(ItemKind::Text, ItemFlags::default(), &body);
            }
            Step::Done => {
                if let Some(id) = self.hostile.answering() {
                    self.hostile.done(&Done { id, text: "done", ..Done::default() });
                }
            }
            Step::Pause(paused) => self.hostile.pause(paused),
            Step::Route(number, gateway) => {
                let line = format!("route replace 10.{number}.0.0/16 via 192.0.2.{gateway} dev e");
                self.apply_line(&line);
            }
            Step::Delete(number) => self.apply_line(&format!("route del 10.{number}.0.0/16")),
            Step::Flush => {
                let what = rtm_tables::Flush { routes: true, neighbours: false };
                let _ = self.table.flush(what, &mut self.hub);
            }
            Step::Barrier => {
                let deadline = self.now + 1000;
                self.hub.barrier(None, deadline);
            }
            Step::Time(millis) => self.now += u64::from(millis),
            Step::Turn => self.turn(),
            Step::Read(bytes) => self.read_hostile(usize::from(bytes)),
        }
    }

    fn apply_line(&mut self, line: &str) {
        if let Ok(Some((_, Command::Change(change)))) = parse_line(line, &Context::default()) {
            let _ = self.table.apply(self.admin, &change, &mut self.hub);
        }
    }

    fn bounds(&self) {
        let info = self.hostile.info(&self.hub, self.now);
        assert!(info.own_bytes <= 64 * 1024, "{info:?}");
    }

    fn turn(&mut self) {
        self.now += 1;
        self.hub.begin_turn(self.now);
        self.hear_hostile();
        // The other one's output is its daemon's input.
        let sent = self.client.output().to_vec();
        self.client.transmitted(sent.len());
        let mut input = &sent[..];
        while self.good.handle_bytes(&mut input, self.now, &mut self.hub, &mut self.table).is_some()
        {
        }
        let mut route = RouteSpec::new("203.0.113.0/24".parse().expect("a prefix"));
        route.kind = Some(RouteType::Blackhole);
        route.distance = Some((self.now % 200) as u8);
        let _ = self.table.apply(self.admin, &Change::Route(Verb::Replace, route), &mut self.hub);
        self.hub.publish(&mut self.table, BUDGET);
        self.hostile.handle_timeout(self.now, &mut self.hub);
        while self.hub.poll_ready().is_some() {}
        while self.hub.poll_barrier().is_some() {}
        for _ in 0..8 {
            self.good.fill(&mut self.hub, &mut self.table, BUDGET);
            let slices = self.good.slices(&self.hub, 64 * 1024);
            slices.iter().for_each(|slice| self.down.extend(slice.iter()));
            let bytes = slices.bytes();
            self.good.transmitted(bytes, self.now, &mut self.hub);
        }
        self.follow();
    }

    fn hear_hostile(&mut self) {
        if self.over {
            return;
        }
        loop {
            let count = self.hostile.read_limit().min(self.up.len());
            let bytes: Vec<u8> = self.up.drain(..count).collect();
            let mut input = &bytes[..];
            let mut heard = count > 0 || self.hostile.wants_input();
            while let Some(event) =
                self.hostile.handle_bytes(&mut input, self.now, &mut self.hub, &mut self.table)
            {
                heard = true;
                match event {
                    ServerEvent::Change(change) => {
                        let _ = self.table.apply(self.admin, &change, &mut self.hub);
                    }
                    ServerEvent::Goodbye | ServerEvent::Failed(_) | ServerEvent::Refused { .. } => {
                        self.over = true;
                    }
                    _ => {}
                }
                self.bounds();
            }
            if !heard || self.over || count == 0 {
                return;
            }
        }
    }

    fn read_hostile(&mut self, bytes: usize) {
        self.hostile.fill(&mut self.hub, &mut self.table, BUDGET);
        let there = self.hostile.slices(&self.hub, 64 * 1024).bytes();
        self.hostile.transmitted(there.min(bytes), self.now, &mut self.hub);
    }

    fn follow(&mut self) {
        let bytes: Vec<u8> = self.down.drain(..).collect();
        self.client.handle_bytes(&bytes, self.now);
        while let Some(event) = self.client.poll_event().expect("the daemon's own frames") {
            let at = match event {
                ClientEvent::Begin { from } => {
                    if from.0 == 0 {
                        self.replica.begin_snapshot();
                    }
                    continue;
                }
                ClientEvent::Records(records) => {
                    for record in records {
                        match record.op {
                            RecordOp::Set => self.replica.set(record.kind, record.body),
                            RecordOp::Delete => self.replica.delete(record.kind, record.body),
                        }
                        .expect("the daemon's own records");
                    }
                    continue;
                }
                ClientEvent::Flush { what, .. } => {
                    self.replica.flush(what);
                    continue;
                }
                ClientEvent::End(at) | ClientEvent::Mark(at) => at,
                _ => continue,
            };
            self.replica.end_snapshot();
            let agrees = self.replica.digests() == at.digests;
            assert!(agrees, "revision {}", at.revision.0);
            self.client.compared(&at, agrees);
        }
    }
}
