//! Classic sessions beside a naive picture of what they are to show: at random
//! changes, paces and cuts, each client that only reads ends with exactly that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use rtm_model::{
    Change, DigestKey, Family, GroupSpec, HopFlags, HopSpec, Hops, LinkName, LinkRef, LinkSpec,
    Mac, NeighbourSpec, Prefix, RouteKey, RouteSpec, RouteType, Verb,
};
use rtm_tables::wire::Role;
use rtm_tables::{
    CLASSIC_BYTES, Epoch, Flush, Hub, HubLimits, Peer, RouteCursor, ServerEvent, ServerSession,
    SessionState, SourceId, SourceSpec, Table, TableLimits, Transport,
};

type Row = (String, String);

/// What stands in a C array: a text, a NUL, and zeros.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).expect("it ends with a NUL");
    assert!(field[end..].iter().all(|byte| *byte == 0), "what is unused is zero: {field:?}");
    String::from_utf8(field[..end].to_vec()).unwrap()
}

/// A client of thirty lines, which also looks whether what it is told makes sense.
struct Client {
    session: Option<ServerSession>,
    bytes: Vec<u8>,
    rows: BTreeMap<(String, u8), Row>,
    keys: BTreeSet<String>,
    synced: bool,
    /// It has been at the tail ever since: it is told nothing that it needn't be.
    strict: bool,
}

impl Client {
    fn take(&mut self) {
        while self.bytes.len() >= CLASSIC_BYTES {
            let structure: Vec<u8> = self.bytes.drain(..CLASSIC_BYTES).collect();
            let op = i32::from_ne_bytes([structure[0], structure[1], structure[2], structure[3]]);
            let destination = text(&structure[4..20]);
            let key = (destination, structure[20]);
            let row = (text(&structure[21..37]), text(&structure[37..69]));
            assert_eq!(structure[69..], [0; 3]);
            match op {
                0 => assert_eq!(self.rows.insert(key, row), None, "CREATE of what it has"),
                1 => assert!(self.rows.insert(key, row).is_some(), "UPDATE of what it has not"),
                2 => {
                    let had = self.rows.remove(&key);
                    assert!(!self.strict || had.is_some(), "DELETE of what it has not: {key:?}");
                    assert_eq!(row, Row::default());
                }
                3 => {
                    assert!(!std::mem::replace(&mut self.synced, true), "SYNCED once");
                    assert_eq!((key, row), ((String::new(), 0), Row::default()));
                }
                4 => assert!(self.keys.insert(row.1), "KEY of what it has"),
                5 => {
                    let had = self.keys.remove(&row.1);
                    assert!(!self.strict || had, "KEY_GONE of what it has not");
                }
                other => panic!("op {other}"),
            }
        }
    }
}

struct World {
    table: Table,
    hub: Hub,
    admin: SourceId,
    kernel: SourceId,
    clients: Vec<Client>,
    now: u64,
}

impl World {
    fn new(limits: TableLimits) -> World {
        let key = DigestKey([1, 2]);
        let mut table = Table::new(Epoch(7), key, limits);
        let hub = Hub::new(&table, key, HubLimits::default());
        let admin = table.source(SourceSpec::admin()).unwrap();
        let kernel = table.source(SourceSpec::kernel()).unwrap();
        World { table, hub, admin, kernel, clients: Vec::new(), now: 0 }
    }

    fn apply(&mut self, source: SourceId, change: &Change) {
        // Some are refused, which changes nothing.
        let _ = self.table.apply(source, change, &mut self.hub);
    }

    fn join(&mut self) {
        let peer = Peer {
            transport: Transport::Classic,
            pid: None,
            uid: None,
            role: Role::Read,
            since: 0,
        };
        let token = self.clients.len() as u64;
        let session = ServerSession::new(peer, token, token, &mut self.hub, self.now);
        self.clients.push(Client {
            session: Some(session),
            bytes: Vec::new(),
            rows: BTreeMap::new(),
            keys: BTreeSet::new(),
            synced: false,
            strict: false,
        });
    }

    fn leave(&mut self, client: usize) {
        if let Some(session) = self.clients[client].session.take() {
            session.close(&mut self.hub, &mut self.table);
        }
    }

    fn turn(&mut self) {
        self.now += 1;
        self.table.sweep(64, &mut self.hub);
        self.table.tidy(64);
        self.hub.publish(&mut self.table, 40);
        while self.hub.poll_ready().is_some() {}
        self.hub.begin_turn(self.now);
    }

    /// One client takes so many bytes, through a buffer that is filled in slices.
    fn take(&mut self, client: usize, mut count: usize) {
        let client = &mut self.clients[client];
        let Some(session) = &mut client.session else { return };
        while count > 0 {
            session.fill(&mut self.hub, &mut self.table, 7);
            let slices = session.slices(&self.hub, 64 * 1024);
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let taken = bytes.len().min(count);
            if taken == 0 && !session.wants_write(&self.hub) {
                break;
            }
            client.bytes.extend_from_slice(&bytes[..taken]);
            session.transmitted(taken, self.now, &mut self.hub);
            count -= taken.max(1);
        }
        client.take();
    }

    /// The best IPv4 unicast route of each prefix of table 254 by its first next
    /// hop, and how many routes that leaves out.
    fn expected(&self) -> (BTreeMap<(String, u8), Row>, BTreeSet<String>, u64) {
        let store = self.table.store();
        let mut best: BTreeMap<Prefix, ((u8, u32, u16), rtm_model::GroupId)> = BTreeMap::new();
        let (mut cursor, mut count) = (RouteCursor::all(), 0);
        while let Some(route) = store.next_route(&mut cursor) {
            count += 1;
            let RouteKey { table, prefix, tos, metric, ordinal } = route.key;
            let value = route.value;
            if table != 254
                || prefix.family() != Family::V4
                || tos != 0
                || value.kind != RouteType::Unicast
            {
                continue;
            }
            let rank = (value.distance, metric, ordinal);
            let entry = best.entry(prefix).or_insert((rank, value.group));
            if rank < entry.0 {
                *entry = (rank, value.group);
            }
        }
        let mut rows = BTreeMap::new();
        for (prefix, (_, group)) in best {
            let hop = store.group(group).unwrap().hops[0];
            let gateway = match hop.gateway {
                None => String::new(),
                Some(IpAddr::V4(gateway)) => gateway.to_string(),
                Some(IpAddr::V6(_)) => continue,
            };
            let oif = hop
                .link
                .map_or(String::new(), |link| store.link(link).unwrap().name.as_str().to_owned());
            rows.insert((prefix.address().to_string(), prefix.len()), (gateway, oif));
        }
        let mut keys = BTreeSet::new();
        let mut after = None;
        while let Some(mac) = store.next_mac(after) {
            keys.insert(mac.to_string());
            after = Some(mac);
        }
        let left_out = count - rows.len() as u64;
        (rows, keys, left_out)
    }

    /// All that there is goes to all, and all are compared.
    fn check(&mut self, seed: u64) {
        // The sweep of what a flush left is revisions of its own.
        for _ in 0..400 {
            self.turn();
        }
        let (rows, keys, left_out) = self.expected();
        for client in 0..self.clients.len() {
            self.take(client, usize::MAX >> 1);
            let client = &mut self.clients[client];
            let Some(session) = &client.session else { continue };
            if session.fell_behind() {
                continue;
            }
            assert!(client.synced && client.bytes.is_empty(), "seed {seed}");
            assert_eq!(client.rows, rows, "seed {seed}");
            assert_eq!(client.keys, keys, "seed {seed}");
            let info = session.info(&self.hub, self.now);
            assert_eq!((info.state, info.not_shown), (SessionState::Live, Some(left_out)));
            assert!(session.is_caught_up(&self.hub));
            assert!(info.own_bytes < 4096, "a session at rest costs little: {}", info.own_bytes);
            client.strict = true;
        }
    }
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % bound
    }
}

fn hop(rng: &mut Rng) -> HopSpec {
    let gateway = match rng.below(8) {
        0 => None,
        1 => Some(IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1])),
        n => Some(IpAddr::from([10, 0, 0, n as u8])),
    };
    let link = Some(LinkRef::Ifindex(rng.below(3) as u32 + 1));
    HopSpec { gateway, link, weight: 1, flags: HopFlags(0) }
}

fn group(rng: &mut Rng) -> Change {
    let hops = (0..=rng.below(2)).map(|_| hop(rng)).collect();
    Change::Group(Verb::Replace, GroupSpec { nhid: rng.below(4) as u32 + 1, hops })
}

fn link(ifindex: u32, name: &str) -> Change {
    let name = LinkName::new(name.as_bytes()).unwrap();
    Change::Link(Verb::Replace, LinkSpec { ifindex, name })
}

fn route(rng: &mut Rng) -> Change {
    let address = Ipv4Addr::new(10, rng.below(3) as u8, 0, 0);
    let prefix = match rng.below(12) {
        0 => "2001:db8::/32".parse().unwrap(),
        n => Prefix::masked(address.into(), if n < 3 { 8 } else { 16 }).unwrap(),
    };
    let mut route = RouteSpec::new(prefix);
    route.metric = Some(rng.below(3) as u32 + u32::from(prefix.family() == Family::V6));
    route.table = if rng.below(8) == 0 { 100 } else { 254 };
    if rng.below(12) == 0 && prefix.family() == Family::V4 {
        route.tos = 8;
    }
    if rng.below(3) == 0 {
        return Change::Route(Verb::Delete, route);
    }
    match rng.below(8) {
        0 => route.kind = Some(RouteType::Blackhole),
        1..4 => route.hops = Hops::Named(rng.below(4) as u32 + 1),
        4 => route.hops = Hops::Many(vec![hop(rng), hop(rng)]),
        _ => route.hops = Hops::One(hop(rng)),
    }
    if rng.below(6) == 0 {
        route.distance = Some(rng.below(200) as u8 + 1);
    }
    Change::Route(Verb::Replace, route)
}

fn neighbour(rng: &mut Rng) -> Change {
    let spec = NeighbourSpec {
        ip: IpAddr::from([10, 0, 0, rng.below(6) as u8]),
        link: Some(LinkRef::Ifindex(1)),
        mac: (rng.below(5) > 0).then(|| Mac([2, 0, 0, 0, 0, rng.below(4) as u8])),
        state: None,
        flags: 0,
        protocol: 0,
    };
    Change::Neighbour(if rng.below(3) == 0 { Verb::Delete } else { Verb::Replace }, spec)
}

#[test]
fn every_client_that_only_reads_ends_with_the_view() {
    for seed in 0..150 {
        let mut rng = Rng(seed * 7919 + 1);
        let limits = TableLimits {
            // Small ones make clients fall behind.
            tombstone_bytes_max: if seed % 3 == 0 { 600 } else { 32 << 20 },
            ..TableLimits::default()
        };
        let mut world = World::new(limits);
        for ifindex in 1..4 {
            world.apply(world.kernel, &link(ifindex, &format!("eth{ifindex}")));
        }
        for _ in 0..3 {
            for _ in 0..250 {
                let source = if rng.below(3) == 0 { world.admin } else { world.kernel };
                match rng.below(40) {
                    0 => {
                        let what = match rng.below(3) {
                            0 => Flush { routes: true, neighbours: true },
                            1 => Flush { routes: true, neighbours: false },
                            _ => Flush { routes: false, neighbours: true },
                        };
                        world.table.flush(what, &mut world.hub).unwrap();
                    }
                    1..4 => {
                        let change = group(&mut rng);
                        world.apply(world.kernel, &change);
                    }
                    4 => {
                        let name = format!("name{}", rng.below(100));
                        world.apply(world.kernel, &link(rng.below(3) as u32 + 1, &name));
                    }
                    5 if world.clients.len() < 12 => world.join(),
                    6 if world.clients.len() > 6 => world.leave(rng.below(4) as usize),
                    7..10 => {
                        let change = neighbour(&mut rng);
                        world.apply(source, &change);
                    }
                    10..16 => world.turn(),
                    16..26 => {
                        let clients = world.clients.len() as u64;
                        if clients > 0 {
                            let client = rng.below(clients) as usize;
                            let bytes = rng.below(500) as usize + 1;
                            world.take(client, bytes);
                        }
                    }
                    _ => {
                        let change = route(&mut rng);
                        world.apply(source, &change);
                    }
                }
            }
            world.check(seed);
            for client in &mut world.clients {
                client.strict = false;
            }
        }
        // At the tail after each turn, nobody is told more than there is.
        let live: Vec<usize> = (0..world.clients.len())
            .filter(|&n| world.clients[n].session.as_ref().is_some_and(|s| !s.fell_behind()))
            .collect();
        live.iter().for_each(|&client| world.clients[client].strict = true);
        for _ in 0..60 {
            for _ in 0..rng.below(4) {
                let change = route(&mut rng);
                world.apply(world.admin, &change);
            }
            world.turn();
            live.iter().for_each(|&client| world.take(client, usize::MAX >> 1));
        }
        world.check(seed);
        for client in 0..world.clients.len() {
            world.leave(client);
        }
        world.now += 100_000;
        for _ in 0..20 {
            world.turn();
        }
        assert_eq!(world.hub.stats().classic_bytes, 0, "nobody needs it any more");
    }
}

#[test]
fn a_large_load_is_seen_whole_at_its_end() {
    let mut world = World::new(TableLimits::default());
    let route = |net: u8| {
        let mut route = RouteSpec::new(format!("10.{net}.0.0/16").parse().unwrap());
        let gateway = Some(IpAddr::from([10, 0, 0, 1]));
        let hop = HopSpec { gateway, link: None, weight: 1, flags: HopFlags(0) };
        route.hops = Hops::One(hop);
        route
    };
    world.apply(world.admin, &Change::Route(Verb::Add, route(1)));
    world.join();
    world.check(0);
    world.clients[0].strict = false;
    world.table.stage_begin(world.admin).unwrap();
    world.table.stage(&Change::Route(Verb::Delete, route(1))).unwrap();
    (2..200).for_each(|net| world.table.stage(&Change::Route(Verb::Add, route(net))).unwrap());
    // What isn't committed isn't told, to a new one neither.
    world.join();
    for _ in 0..5 {
        world.turn();
        (0..2).for_each(|client| world.take(client, 10_000));
    }
    assert_eq!((world.clients[0].rows.len(), world.clients[1].rows.len()), (1, 0));
    while world.table.stage_commit(10, &mut world.hub).is_none() {
        world.turn();
        (0..2).for_each(|client| world.take(client, 10_000));
        assert_eq!((world.clients[0].rows.len(), world.clients[1].rows.len()), (1, 0));
    }
    world.check(0);
    assert_eq!(world.clients[1].rows.len(), 198);
}

#[test]
fn a_client_says_two_things_and_nothing_else() {
    let mut world = World::new(TableLimits::default());
    world.join();
    world.join();
    let mut say = |client: usize, bytes: &[u8]| {
        let session = world.clients[client].session.as_mut().unwrap();
        let mut input = bytes;
        session.handle_bytes(&mut input, 0, &mut world.hub, &mut world.table)
    };
    let register = [&0_i32.to_ne_bytes()[..], &77_i32.to_ne_bytes()].concat();
    assert_eq!(say(0, &register[..3]), None);
    assert_eq!(say(0, &register[3..]), Some(ServerEvent::Register { pid: 77 }));
    let event = say(1, b"GET / HT");
    assert!(
        matches!(&event, Some(ServerEvent::Failed(error)) if error.to_string().ends_with(
            "0 (REGISTER) or 1 (GOODBYE) would be right"
        )),
        "{event:?}"
    );
    assert_eq!(say(1, b"TP/1.0\r\n"), None, "it is over");
    let goodbye = [&1_i32.to_ne_bytes()[..], &[0; 4]].concat();
    assert_eq!(say(0, &goodbye), Some(ServerEvent::Goodbye));
}
