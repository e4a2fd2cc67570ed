//! The table seen from outside: one case after the other.

use rtm_model::{Change, DigestKey, HopFlags, HopSpec, Hops, LinkRef, Prefix, RouteSpec, Verb};
use rtm_tables::{
    Applied, ChangeError, Epoch, Flush, Record, RecordSink, Replica, ReplicaRecord, Revision,
    SourceId, SourceSpec, Table, TableLimits,
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
struct Kept(Vec<(rtm_tables::RecordOp, rtm_model::EntityKind, Vec<u8>)>);

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
