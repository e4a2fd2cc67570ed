//! What sessions cost, without sockets: prints nanoseconds, asserts nothing.
//!
//! `cargo run --release -p rtm-tables --example session_cost [ROUTES] [SESSIONS]`

use std::hint::black_box;
use std::time::Instant;

use rtm_model::{Change, DigestKey, HopFlags, HopSpec, Hops, LinkRef, RouteSpec, Verb};
use rtm_tables::wire::{ClientFrame, Hello, Role, Subscribe, SubscribeMode};
use rtm_tables::{
    ClientConfig, ClientEvent, ClientSession, Epoch, Hub, HubLimits, Peer, Revision, ServerSession,
    SourceId, SourceSpec, Table, TableLimits, Transport,
};

fn route(number: u32, gateway: u32) -> Change {
    let prefix = format!("{}/32", std::net::Ipv4Addr::from(number.wrapping_mul(2_654_435_761)));
    let hop = HopSpec {
        gateway: Some(std::net::IpAddr::from([10, 255, 0, 1 + (gateway % 200) as u8])),
        link: Some(LinkRef::Name(format!("Ethernet{}", gateway % 32).parse().unwrap())),
        weight: 1,
        flags: HopFlags::default(),
    };
    let spec = RouteSpec { hops: Hops::One(hop), ..RouteSpec::new(prefix.parse().unwrap()) };
    Change::Route(Verb::Replace, spec)
}

struct World {
    table: Table,
    hub: Hub,
    admin: SourceId,
    sessions: Vec<ServerSession>,
    now: u64,
}

impl World {
    fn join(&mut self, filter: &str) {
        let peer =
            Peer { transport: Transport::Unix, pid: None, uid: None, role: Role::Read, since: 0 };
        let token = self.sessions.len() as u64;
        let mut session = ServerSession::new(peer, token, token, &mut self.hub, self.now);
        let mut bytes = Vec::new();
        let hello = Hello { version: 1, lowest: 1, frame_bytes_max: 65536, features: 1, name: "" };
        ClientFrame::Hello(hello).encode(&mut bytes);
        let mode = SubscribeMode::Full;
        let subscribe = Subscribe { epoch: Epoch(0), revision: Revision(0), mode, filter };
        ClientFrame::Subscribe(subscribe).encode(&mut bytes);
        let mut input = &bytes[..];
        while session.handle_bytes(&mut input, self.now, &mut self.hub, &mut self.table).is_some() {
        }
        self.sessions.push(session);
    }

    /// Publishes and "writes" everything; bytes written, and what the first
    /// session got if `keep` is given.
    fn turn(&mut self, mut keep: Option<&mut Vec<u8>>) -> u64 {
        let mut written = 0;
        self.hub.publish(&mut self.table, 4096);
        while let Some(token) = self.hub.poll_ready() {
            let session = &mut self.sessions[token as usize];
            loop {
                session.fill(&mut self.hub, &mut self.table, 4096);
                let slices = session.slices(&self.hub, 256 << 10);
                let bytes = slices.bytes();
                if bytes == 0 {
                    break;
                }
                if let Some(keep) = keep.as_deref_mut().filter(|_| token == 0) {
                    slices.iter().for_each(|slice| keep.extend_from_slice(slice));
                }
                written += bytes as u64;
                session.transmitted(bytes, self.now, &mut self.hub);
                if !session.wants_write(&self.hub) {
                    break;
                }
            }
        }
        written
    }

    fn begin(&mut self) {
        self.now += 1;
        self.hub.begin_turn(self.now);
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u32>().unwrap());
    let routes = arguments.next().unwrap_or(1_000_000);
    let sessions = arguments.next().unwrap_or(256);
    let key = DigestKey([1, 2]);
    let mut table = Table::new(Epoch(7), key, TableLimits::default());
    let hub = Hub::new(&table, key, HubLimits::default());
    let admin = table.source(SourceSpec::admin()).unwrap();
    let mut world = World { table, hub, admin, sessions: Vec::new(), now: 0 };
    let per = |what: &str, start: Instant, count: u64| {
        let nanos = start.elapsed().as_nanos() as f64;
        println!("{what}: {:.1} ns each, {:.3} s", nanos / count as f64, nanos / 1e9);
    };

    let changes: Vec<Change> = (0..routes).map(|number| route(number, number)).collect();
    let start = Instant::now();
    for chunk in changes.chunks(1000) {
        world.begin();
        for change in chunk {
            world.table.apply(world.admin, change, &mut world.hub).unwrap();
        }
        world.turn(None);
    }
    per("apply and journal, a change", start, u64::from(routes));

    let start = Instant::now();
    (0..sessions).for_each(|_| world.join(""));
    let mut received = Vec::new();
    let mut written = 0;
    while world.sessions.iter().any(|session| !session.is_caught_up(&world.hub)) {
        world.begin();
        written += world.turn(Some(&mut received));
    }
    per("snapshot encoded once, a route", start, u64::from(routes));
    println!("  {} bytes to {sessions} sessions, {:?}", written, world.hub.stats());

    // What a client does beside its replica.
    let mut best = f64::MAX;
    for _ in 0..20 {
        let mut client = ClientSession::new(ClientConfig::default(), 0);
        client.subscribe(None, "");
        let (mut records, mut sum) = (0_u64, 0_u64);
        let mut copying = std::time::Duration::ZERO;
        let start = Instant::now();
        for chunk in received.chunks(60_000) {
            // The kernel's copy, that a read would make.
            let copy = Instant::now();
            let space = client.space();
            space[..chunk.len()].copy_from_slice(chunk);
            copying += copy.elapsed();
            client.received(chunk.len(), 0);
            while let Some(event) = client.poll_event().unwrap() {
                if let ClientEvent::Records(batch) = event {
                    for record in batch {
                        records += 1;
                        sum = sum.wrapping_add(u64::from(record.body[0]) + record.revision.0);
                    }
                }
            }
        }
        black_box(sum);
        best = best.min((start.elapsed() - copying).as_nanos() as f64 / records as f64);
    }
    println!("decode a record: {best:.1} ns (the best of 20 passes)");

    for per_turn in [1_usize, 10, 1000] {
        let turns = 200_000 / per_turn;
        let turns = if per_turn == 1 { 2_000 } else { turns.min(2_000) };
        let changes: Vec<Change> = (0..(turns * per_turn) as u32)
            .map(|number| route(number.wrapping_mul(7919) % routes, number + 13))
            .collect();
        let mut apply = std::time::Duration::ZERO;
        let mut deliver = std::time::Duration::ZERO;
        for chunk in changes.chunks(per_turn) {
            world.begin();
            let start = Instant::now();
            for change in chunk {
                world.table.apply(world.admin, change, &mut world.hub).unwrap();
            }
            apply += start.elapsed();
            let start = Instant::now();
            black_box(world.turn(None));
            deliver += start.elapsed();
        }
        let total = (turns * per_turn) as f64;
        println!(
            "{per_turn} changes a turn, {sessions} sessions: {:.0} ns to apply a change; {:.1} ns a session and turn, {:.2} ns a delivery, all but the writing",
            apply.as_nanos() as f64 / total,
            deliver.as_nanos() as f64 / (turns as f64 * f64::from(sessions)),
            deliver.as_nanos() as f64 / (total * f64::from(sessions)),
        );
    }

    let start = Instant::now();
    for turn in 0..100_000 {
        world.now += turn & 1;
        world.begin();
        black_box(world.turn(None));
    }
    per("a turn in which nothing happens", start, 100_000);
    println!("a session's struct: {} bytes", size_of::<ServerSession>());

    let start = Instant::now();
    world.join("routes root 10.0.0.0/8");
    while world.sessions.last().is_some_and(|session| !session.is_caught_up(&world.hub)) {
        world.begin();
        world.turn(None);
    }
    per("a new filter: scan and snapshot, a route of the table", start, u64::from(routes));
}
