//! Mode `keys`: random neighbours, sessions that join, fall behind, are cut and
//! resume; at every END and MARK each has exactly the keys of the table, and
//! the daemon's digest of them.

use std::collections::BTreeSet;

use rtm_model::text::{Command, Context, parse_line};
use rtm_model::{DigestKey, Mac};
use rtm_tables::wire::{Role, SubscribeMode};
use rtm_tables::{
    ClientConfig, ClientEvent, ClientSession, Epoch, Flush, Hub, HubLimits, Peer, Replica,
    Revision, ServerSession, SourceId, SourceSpec, Table, TableLimits, Transport,
};

const KEY: DigestKey = DigestKey([3, 4]);

/// A generator that gives the same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

struct Daemon {
    table: Table,
    hub: Hub,
    admin: SourceId,
    now: u64,
}

impl Daemon {
    fn new(journal_bytes: usize) -> Daemon {
        let mut table = Table::new(Epoch(7), KEY, TableLimits::default());
        let limits = HubLimits { filter_journal_bytes: journal_bytes, ..HubLimits::default() };
        let hub = Hub::new(&table, KEY, limits);
        let admin = table.source(SourceSpec::admin()).unwrap();
        Daemon { table, hub, admin, now: 0 }
    }

    fn change(&mut self, line: &str) {
        let Ok(Some((_, Command::Change(change)))) = parse_line(line, &Context::default()) else {
            panic!("{line}")
        };
        // That there is nothing to delete is as good.
        let _ = self.table.apply(self.admin, &change, &mut self.hub);
    }

    fn turn(&mut self) {
        self.now += 1;
        self.hub.begin_turn(self.now);
        while self.hub.publish(&mut self.table, 100) {
            if self.hub.poll_ready().is_none() {
                break;
            }
        }
    }

    fn keys(&self) -> BTreeSet<Mac> {
        let mut keys = BTreeSet::new();
        let mut after = None;
        while let Some(neighbour) = self.table.store().next_neighbour(after.as_ref()) {
            keys.extend(neighbour.value.mac);
            after = Some(neighbour.key);
        }
        keys
    }
}

struct Client {
    server: ServerSession,
    session: ClientSession,
    replica: Replica,
    snapshot: bool,
    compared: u64,
    records: u64,
    snapshots: u64,
    filter: &'static str,
}

impl Client {
    fn new(daemon: &mut Daemon, filter: &'static str) -> Client {
        let (server, session) = Client::connect(daemon, None, filter);
        let replica = Replica::new(Epoch(7), KEY);
        Client {
            server,
            session,
            replica,
            snapshot: false,
            compared: 0,
            records: 0,
            snapshots: 0,
            filter,
        }
    }

    fn connect(
        daemon: &mut Daemon,
        from: Option<(Epoch, Revision)>,
        filter: &str,
    ) -> (ServerSession, ClientSession) {
        let peer =
            Peer { transport: Transport::Unix, pid: None, uid: None, role: Role::Read, since: 0 };
        let mut server = ServerSession::new(peer, 1, 1, &mut daemon.hub, daemon.now);
        let mut session = ClientSession::new(ClientConfig::default(), daemon.now);
        session.subscribe_as(SubscribeMode::Keys, from, filter);
        let bytes = session.output().to_vec();
        session.transmitted(bytes.len());
        let mut input = &bytes[..];
        while server
            .handle_bytes(&mut input, daemon.now, &mut daemon.hub, &mut daemon.table)
            .is_some()
        {}
        (server, session)
    }

    /// Cut at any byte, and back from where it was.
    fn reconnect(&mut self, daemon: &mut Daemon) {
        let from = Some((Epoch(7), self.session.revision())).filter(|from| from.1 != Revision(0));
        let (server, session) = Client::connect(daemon, from, self.filter);
        let old = std::mem::replace(&mut self.server, server);
        old.close(&mut daemon.hub, &mut daemon.table);
        self.session = session;
    }

    /// Takes about so many bytes.
    fn read(&mut self, daemon: &mut Daemon, bytes_max: usize) {
        let mut left = bytes_max;
        while left > 0 {
            self.server.fill(&mut daemon.hub, &mut daemon.table, 50);
            let slices = self.server.slices(&daemon.hub, left.min(4096));
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let taken = &bytes[..bytes.len().min(left)];
            if taken.is_empty() {
                if !self.server.wants_write(&daemon.hub) {
                    return;
                }
                daemon.turn();
                left -= 1;
                continue;
            }
            left -= taken.len();
            self.server.transmitted(taken.len(), daemon.now, &mut daemon.hub);
            self.session.handle_bytes(taken, daemon.now);
            self.events(daemon);
        }
    }

    fn events(&mut self, daemon: &Daemon) {
        while let Some(event) = self.session.poll_event().unwrap() {
            let at = match event {
                ClientEvent::Begin { from } => {
                    self.snapshot = from == Revision(0);
                    if self.snapshot {
                        self.snapshots += 1;
                        self.replica.begin_snapshot();
                    }
                    continue;
                }
                ClientEvent::Records(records) => {
                    for record in records {
                        self.records += 1;
                        assert!(
                            record.kind != rtm_model::EntityKind::Neighbour
                                || record.mac().is_some(),
                            "a whole neighbour came"
                        );
                        match record.op {
                            rtm_tables::RecordOp::Set => {
                                self.replica.set(record.kind, record.body).unwrap();
                            }
                            rtm_tables::RecordOp::Delete => {
                                self.replica.delete(record.kind, record.body).unwrap();
                            }
                        }
                    }
                    continue;
                }
                ClientEvent::Flush { what, .. } => {
                    self.replica.flush(what);
                    continue;
                }
                ClientEvent::End(at) => {
                    if self.snapshot {
                        self.replica.end_snapshot();
                    }
                    at
                }
                ClientEvent::Mark(at) => at,
                _ => continue,
            };
            self.compared += 1;
            assert_eq!(self.replica.digests(), at.digests);
            assert_eq!(self.replica.recompute_digests(), at.digests);
            if at.revision == daemon.table.revision() && self.filter.is_empty() {
                let ours: BTreeSet<Mac> = self.replica.keys(Mac([0; 6])).collect();
                assert_eq!(ours, daemon.keys());
                let digests = daemon.table.digests();
                assert_eq!((at.digests.keys, at.digests.routes), (digests.keys, digests.routes));
            }
        }
    }
}

fn step(random: &mut Random, daemon: &mut Daemon) {
    for _ in 0..random.below(20) {
        let (ip, mac) = (random.below(200), random.below(60));
        let link = random.below(3);
        match random.below(100) {
            0 => {
                let what = Flush { routes: random.below(2) == 0, neighbours: true };
                daemon.table.flush(what, &mut daemon.hub).unwrap();
            }
            1..=30 => daemon.change(&format!("neigh del 10.0.0.{ip} dev e{link}")),
            31..=40 => daemon.change(&format!("neigh replace 10.0.0.{ip} dev e{link} nud failed")),
            41..=50 => daemon.change(&format!("route replace 10.{ip}.0.0/16 dev e{link}")),
            51..=55 => daemon.change(&format!("route del 10.{ip}.0.0/16")),
            _ => daemon.change(&format!(
                "neigh replace 10.0.0.{ip} lladdr 02:00:00:00:00:{mac:02x} dev e{link}"
            )),
        }
    }
    daemon.turn();
}

#[test]
fn everybody_has_the_keys_of_the_table() {
    let mut resumed = 0;
    for seed in 0..12 {
        let mut random = Random(seed);
        let mut daemon = Daemon::new(if seed % 2 == 0 { 1 << 20 } else { 128 << 10 });
        let filters = ["", "neighbours", "", "routes", "root 10.0.0.0/25"];
        let mut clients: Vec<Client> = Vec::new();
        for round in 0..400 {
            step(&mut random, &mut daemon);
            if round % 40 == 0 && clients.len() < filters.len() {
                let filter = filters[clients.len()];
                clients.push(Client::new(&mut daemon, filter));
            }
            for client in &mut clients {
                let count = [0, 1, 40, 700, 1 << 20][random.below(5) as usize];
                client.read(&mut daemon, count);
                if random.below(30) == 0 {
                    let before = client.snapshots;
                    client.reconnect(&mut daemon);
                    client.read(&mut daemon, 1 << 20);
                    resumed += usize::from(client.snapshots == before);
                }
            }
        }
        for client in &mut clients {
            client.read(&mut daemon, 1 << 24);
            assert!(client.compared > 10, "{} {}", client.filter, client.compared);
            // What came since its last mark concerned no key.
            if client.filter.is_empty() {
                let ours: BTreeSet<Mac> = client.replica.keys(Mac([0; 6])).collect();
                assert_eq!(ours, daemon.keys());
            }
        }
    }
    assert!(resumed > 20, "{resumed}");
}

/// A thousand changes under one key in one turn are one record.
#[test]
fn touches_are_conflated_within_a_turn() {
    let mut daemon = Daemon::new(1 << 20);
    let mut client = Client::new(&mut daemon, "neighbours");
    daemon.turn();
    client.read(&mut daemon, 1 << 20);
    for number in 0..1000 {
        daemon.change(&format!(
            "neigh replace 10.1.{}.{} lladdr 02:00:00:00:00:01 dev e",
            number / 256,
            number % 256
        ));
    }
    daemon.turn();
    let before = client.records;
    client.read(&mut daemon, 1 << 20);
    assert_eq!(client.records, before + 1);
    assert_eq!(client.replica.key_count(), 1);
    daemon.change("neigh del 10.1.0.7 dev e");
    daemon.turn();
    client.read(&mut daemon, 1 << 20);
    assert_eq!(client.records, before + 2, "one touch");
}
