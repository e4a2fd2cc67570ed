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
