//! The table seen from outside: one case after the other.

use rtm_model::{
    Change, DigestKey, EntityKind, HopFlags, HopSpec, Hops, LinkRef, NextHop, Prefix, RouteSpec,
    Verb,
};
use rtm_tables::{
    Applied, ChangeError, Epoch, Flush, Record, RecordOp, RecordSink, Replica, ReplicaRecord,
    Revision, RouteCursor, SourceId, SourceSpec, Table, TableLimits,
};

/// A subscriber that applies every record at once.
struct Follower {
    replica: Replica,
    records: usize,
}

impl RecordSink for Follower {
    fn record(&mut self, record: &Record<'_>) {
        self.records += 1;
        let record = ReplicaRecord { op: record.op, kind: record.kind, body: record.body };
        self.replica.apply_batch(&[record]).expect("a record is whole");
    }

    fn flush(&mut self, _: Revision, what: Flush) {
        self.replica.flush(what);
    }

    fn leap(&mut self, _: Revision) {
        panic!("nothing was staged");
    }
}

const KEY: DigestKey = DigestKey([1, 2]);

fn table() -> (Table, SourceId, Follower) {
    let mut table = Table::new(Epoch(7), KEY, TableLimits::default());
    let admin = table.source(SourceSpec::admin()).unwrap();
    (table, admin, Follower { replica: Replica::new(Epoch(7), KEY), records: 0 })
}

fn route(verb: Verb, prefix: &str, gateway: &str, link: &str) -> Change {
    let hop = HopSpec {
        gateway: Some(gateway.parse().unwrap()),
        link: Some(LinkRef::Name(link.parse().unwrap())),
        weight: 1,
        flags: HopFlags::default(),
    };
    let prefix: Prefix = prefix.parse().unwrap();
    Change::Route(verb, RouteSpec { hops: Hops::One(hop), ..RouteSpec::new(prefix) })
}

#[test]
fn the_sample_of_the_specification() {
    let (mut table, admin, mut out) = table();
    for (prefix, gateway, link) in [
        ("122.1.1.1/32", "10.1.1.1", "Ethernet1"),
        ("130.1.1.0/24", "10.1.1.1", "Ethernet1"),
        ("126.30.34.0/24", "20.1.1.1", "Ethernet2"),
        ("220.1.0.0/16", "30.1.2.3", "Ethernet3"),
    ] {
        table.apply(admin, &route(Verb::Add, prefix, gateway, link), &mut out).unwrap();
        assert_eq!(table.digests(), out.replica.digests());
    }
    assert_eq!(table.revision(), Revision(4));
    assert_eq!(table.counts().store.routes4, 4);
    assert_eq!(table.counts().store.groups, 3);
    assert_eq!(table.counts().store.links, 3);
    assert_eq!(out.records, 4 + 3 + 3, "a link and a group come once, before their first user");
    let again = route(Verb::Add, "220.1.0.0/16", "30.1.2.3", "Ethernet3");
    assert_eq!(table.apply(admin, &again, &mut out), Err(ChangeError::Exists));
    let again = route(Verb::Replace, "220.1.0.0/16", "30.1.2.3", "Ethernet3");
    assert_eq!(table.apply(admin, &again, &mut out), Ok(Applied::Unchanged));
    let found = out.replica.store().lookup(254, "220.1.9.9".parse().unwrap()).unwrap();
    assert_eq!(found.key.prefix.to_string(), "220.1.0.0/16");
    let gone = Change::Route(Verb::Delete, RouteSpec::new("220.1.0.0/16".parse().unwrap()));
    table.apply(admin, &gone, &mut out).unwrap();
    assert_eq!(table.counts().store.links, 2, "a link goes with its last user");
    assert_eq!(table.digests(), out.replica.digests());
    assert_eq!(out.replica.recompute_digests(), out.replica.digests());
    assert_eq!(table.apply(admin, &gone, &mut out), Err(ChangeError::Missing));
}

/// Keeps records, to be applied many at once.
#[derive(Default)]
struct Kept(Vec<(RecordOp, EntityKind, Vec<u8>)>);

impl RecordSink for Kept {
    fn record(&mut self, record: &Record<'_>) {
        self.0.push((record.op, record.kind, record.body.to_vec()));
    }

    fn flush(&mut self, _: Revision, _: Flush) {
        panic!("nothing was flushed");
    }

    fn leap(&mut self, _: Revision) {
        panic!("nothing was staged");
    }
}

impl Kept {
    fn apply(&mut self, replica: &mut Replica) {
        let records: Vec<ReplicaRecord<'_>> = self
            .0
            .iter()
            .map(|(op, kind, body)| ReplicaRecord { op: *op, kind: *kind, body })
            .collect();
        replica.apply_batch(&records).unwrap();
        self.0.clear();
    }
}

/// Enough routes for a replica to make its exact index; then routes that come,
/// change and go anywhere in the table, several of them the same in one batch.
#[test]
fn a_replica_with_an_index_stays_equal() {
    let (mut table, admin, _) = table();
    let mut replica = Replica::new(Epoch(7), KEY);
    let mut kept = Kept::default();
    let prefix = |number: u32| match number % 4 {
        0 => format!("2001:db8:{:x}:{:x}::/64", number >> 16, number & 0xffff),
        _ => format!("{}.{}.{}.0/24", 1 + (number >> 16), number >> 8 & 255, number & 255),
    };
    let all: Vec<Change> = (0..40_000)
        .map(|number| route(Verb::Replace, &prefix(number), "2001:db8::1", "eth0"))
        .collect();
    table.apply_many(admin, &all, &mut kept, &mut |_, result| result.is_ok());
    kept.apply(&mut replica);
    assert!(replica.has_idle_work());
    let mut slices = 0;
    while replica.idle(1000) {
        slices += 1;
    }
    assert!(slices > 20 && !replica.has_idle_work(), "{slices}");
    let mut random = 1_u64;
    for round in 0..20 {
        let changes: Vec<Change> = (0..500)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let number = (random >> 33) as u32 % 44_000 / (1 + round % 2 * 100);
                match random >> 60 {
                    0..=4 => {
                        Change::Route(Verb::Delete, RouteSpec::new(prefix(number).parse().unwrap()))
                    }
                    gateway => {
                        let gateway = format!("2001:db8::{gateway}");
                        route(Verb::Replace, &prefix(number), &gateway, "eth1")
                    }
                }
            })
            .collect();
        let mut results = Vec::new();
        table.apply_many(admin, &changes, &mut kept, &mut |_, result| {
            results.push(result);
            true
        });
        assert!(results.contains(&Err(ChangeError::Missing)) && results.iter().any(Result::is_ok));
        kept.apply(&mut replica);
        assert_eq!(table.digests(), replica.digests(), "round {round}");
    }
    assert!(!replica.has_idle_work(), "it is kept complete");
    assert_eq!(replica.recompute_digests(), replica.digests());
}

/// Counts what followers would be told of groups.
#[derive(Default)]
struct Groups {
    set: usize,
    gone: usize,
    records: usize,
}

impl RecordSink for Groups {
    fn record(&mut self, record: &Record<'_>) {
        self.records += 1;
        let groups = usize::from(record.kind == EntityKind::Group);
        match record.op {
            RecordOp::Set => self.set += groups,
            RecordOp::Delete => self.gone += groups,
        }
    }

    fn flush(&mut self, _: Revision, _: Flush) {}

    fn leap(&mut self, _: Revision) {}
}

fn deletion(prefix: &str) -> Change {
    Change::Route(Verb::Delete, RouteSpec::new(prefix.parse().unwrap()))
}

/// A group whose last user goes and comes back within a stream is a record once, when it
/// comes; one that nobody used again goes with [`Table::collect`], with its link. A change
/// that comes alone takes its group with it at once, as a transaction does.
#[test]
fn in_a_stream_groups_without_users_linger() {
    let (mut table, admin, _) = table();
    let mut out = Groups::default();
    let mut all = Vec::new();
    for round in 0..50 {
        for prefix in ["10.0.0.0/8", "2001:db8::/32", "192.0.2.0/24", "198.51.100.0/24"] {
            let gateway = ["2001:db8::1", "2001:db8::2"][round % 2];
            all.push(route(Verb::Replace, prefix, gateway, ["eth0", "eth1"][round % 2]));
            all.push(deletion(prefix));
        }
    }
    table.apply_many(admin, &all, &mut out, &mut |_, result| result.is_ok());
    assert_eq!((out.set, out.gone, table.lingering()), (2, 0, 2));
    assert_eq!((table.counts().store.groups, table.counts().store.links), (2, 2));

    // Used again by then: it stays.
    let again = route(Verb::Replace, "10.0.0.0/8", "2001:db8::1", "eth0");
    table.apply(admin, &again, &mut out).unwrap();
    let revision = table.revision();
    table.collect(usize::MAX, &mut out);
    assert_eq!((out.set, out.gone, table.lingering()), (2, 1, 0));
    assert_eq!((table.counts().store.groups, table.counts().store.links), (1, 1));
    assert_eq!(table.revision(), Revision(revision.0 + 1), "all that goes is one transaction");
    table.collect(usize::MAX, &mut out);
    assert_eq!(table.revision(), Revision(revision.0 + 1));

    table.apply(admin, &deletion("10.0.0.0/8"), &mut out).unwrap();
    assert_eq!((out.gone, table.lingering(), table.counts().store.groups), (2, 0, 0));
    table.apply(admin, &again, &mut out).unwrap();
    let alone = [deletion("10.0.0.0/8")];
    table.apply_many(admin, &alone, &mut out, &mut |_, result| result.is_ok());
    assert_eq!((out.gone, table.lingering(), table.counts().store.groups), (3, 0, 0));
}

/// What a follower knows of the winners, with their next hops spelled out.
fn spelled(table: &Table) -> Vec<String> {
    let mut cursor = RouteCursor::all();
    let mut all = Vec::new();
    while let Some((route, source)) = table.next_route(&mut cursor) {
        let hops = table.store().group(route.value.group).map(|group| {
            let link = |hop: &NextHop| table.store().link(hop.link.unwrap()).unwrap().name;
            group.hops.iter().map(|hop| (hop.gateway, link(hop))).collect::<Vec<_>>()
        });
        all.push(format!("{:?} {source:?} {hops:?} {:?}", route.key, route.value.distance));
    }
    all
}

fn with_metric(change: Change, metric: u32) -> Change {
    match change {
        Change::Route(verb, spec) => {
            Change::Route(verb, RouteSpec { metric: Some(metric), ..spec })
        }
        change => change,
    }
}

/// Whatever way a stream's changes take, looked at ahead, in place or not, they come to
/// the same as each for itself.
#[test]
fn a_stream_is_its_changes_one_after_another() {
    a_stream(3_000, 0);
}

/// The same where the table has so many routes that it makes an exact index of them.
#[test]
fn so_is_one_in_a_large_table() {
    a_stream(16_000, 16_000);
}

/// Changes of so many prefixes, of which the first `loaded` are there from the beginning:
/// anywhere in a round, one after the other in the next.
fn a_stream(prefixes: u32, loaded: u32) {
    let (mut one, admin, mut one_out) = table();
    let (mut many, _, mut many_out) = table();
    let prefix = |number: u32| match number % 4 {
        0 => format!("2001:db8:{:x}:{:x}::/64", number >> 16, number & 0xffff),
        _ => format!("{}.{}.{}.0/24", 1 + (number >> 16), number >> 8 & 255, number & 255),
    };
    let load = (0..loaded)
        .map(|number| route(Verb::Replace, &prefix(number * 3), "2001:db8::ffff", "eth9"));
    for change in load {
        one.apply(admin, &change, &mut one_out).unwrap();
        many.apply(admin, &change, &mut many_out).unwrap();
    }
    let mut random = 1_u64;
    for round in 0..40 {
        let begin = (random >> 33) as u32;
        let changes: Vec<Change> = (0..500)
            .map(|index| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let number = if round % 2 == 0 { (random >> 33) as u32 } else { begin + index };
                let prefix = prefix(number % prefixes * 3);
                let (gateway, link) = (random >> 48 & 63, random >> 54 & 7);
                let gateway = format!("2001:db8::{gateway:x}");
                match random >> 60 {
                    0..=3 => deletion(&prefix),
                    4 => with_metric(deletion(&prefix), 1024),
                    5 => with_metric(
                        route(Verb::Replace, &prefix, &gateway, &format!("eth{link}")),
                        random as u32 >> 10 & 1023,
                    ),
                    6 => route(Verb::Add, &prefix, &gateway, &format!("eth{link}")),
                    _ => route(Verb::Replace, &prefix, &gateway, &format!("eth{link}")),
                }
            })
            .collect();
        let results: Vec<_> =
            changes.iter().map(|change| one.apply(admin, change, &mut one_out)).collect();
        let mut found = Vec::new();
        many.apply_many(admin, &changes, &mut many_out, &mut |_, result| {
            found.push(result);
            true
        });
        // A part of the index, as a turn of the daemon makes one.
        many.tidy(100);
        let kind = |result: &Result<Applied, ChangeError>| match result {
            Ok(Applied::Changed(_)) => "changed".to_owned(),
            Ok(Applied::Unchanged) => "unchanged".to_owned(),
            Err(error) => error.to_string(),
        };
        let (results, found): (Vec<_>, Vec<_>) =
            (results.iter().map(kind).collect(), found.iter().map(kind).collect());
        assert_eq!(results, found, "round {round}");
        assert_eq!(spelled(&one), spelled(&many), "round {round}");
        if round % 4 == 0 {
            many.collect(usize::MAX, &mut many_out);
            assert_eq!(one.counts().store, many.counts().store, "round {round}");
        }
        let counts = |table: &Table| {
            let sources = table.sources();
            sources.map(|s| (s.routes, s.winners, s.stale)).collect::<Vec<_>>()
        };
        assert_eq!(counts(&one), counts(&many), "round {round}");
        assert_eq!(many.digests(), many_out.replica.digests(), "round {round}");
        assert_eq!(many_out.replica.recompute_digests(), many.digests(), "round {round}");
        if round == 20 {
            // What is there counts as stale from here on, until it is said again.
            one.begin_generation(admin);
            many.begin_generation(admin);
        }
    }
    assert!(many_out.records < one_out.records, "groups come and go for nothing");
}

/// Routes that a stream brings and takes away again, each under a prefix of its own, leave
/// nothing behind for good.
#[test]
fn what_goes_in_a_stream_and_never_comes_back_is_freed() {
    let limits = TableLimits { tombstone_bytes_max: 4096, ..TableLimits::default() };
    let mut table = Table::new(Epoch(7), KEY, limits);
    let admin = table.source(SourceSpec::admin()).unwrap();
    let mut out = Groups::default();
    let mut stream = |table: &mut Table, changes: &[Change]| {
        table.apply_many(admin, changes, &mut out, &mut |_, result| {
            assert!(matches!(result, Ok(Applied::Changed(_))), "{result:?}");
            true
        });
    };
    // Some stay, so that others may linger.
    let prefix = |number: u32| format!("{}/32", std::net::Ipv4Addr::from(number));
    let replace = |number: u32| route(Verb::Replace, &prefix(number), "2001:db8::1", "eth0");
    let stay: Vec<Change> = (0..1000).map(|number| replace(number * 7919)).collect();
    stream(&mut table, &stay);
    let mut bytes = Vec::new();
    for round in 0..4000 {
        // Far from each other, or nothing is looked at ahead.
        let numbers = (0..64_u32).map(|at| at << 26 | 1 << 24 | round);
        stream(&mut table, &numbers.clone().map(replace).collect::<Vec<_>>());
        let deletions: Vec<Change> = numbers.map(|number| deletion(&prefix(number))).collect();
        stream(&mut table, &deletions);
        bytes.push(table.counts().bytes);
    }
    let (early, late) = (bytes[400], bytes[3999]);
    assert!(late <= early + early / 8, "{early} bytes after 400 streams, {late} after 4000");
}
