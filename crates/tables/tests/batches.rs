//! A replica takes records many at a time: the entries of a run are looked for
//! first, all together, then its records are applied. Whatever the run itself
//! does to what was found, the outcome is that of one record after another.

use proptest::prelude::*;
use rtm_model::{
    Attrs, DigestKey, Entity, EntityKind, Family, Group, GroupId, HopFlags, Mac, Neighbour,
    NeighbourKey, NeighbourValue, NextHop, NudState, Prefix, Route, RouteAttrs, RouteKey,
    RouteType, RouteValue,
};
use rtm_tables::{Epoch, Flush, RecordOp, Replica, ReplicaRecord};

/// Few keys, so that a run meets the same one more than once; prefixes inside
/// one another, so that nodes come, grow and go.
fn prefix() -> impl Strategy<Value = Prefix> {
    let len = prop_oneof![0_u8..=32, Just(24), Just(32)];
    (any::<bool>(), 0_u32..6, len).prop_map(|(v6, number, len)| {
        let bits = 0x0a00_0000 | number.wrapping_mul(0x0102_0305) & 0x00ff_ffff;
        let address = match v6 {
            false => std::net::Ipv4Addr::from(bits).into(),
            true => std::net::Ipv6Addr::from(u128::from(bits) << 96 | u128::from(bits)).into(),
        };
        let len = if v6 && len > 28 { len * 4 } else { len };
        Prefix::masked(address, len).expect("a length that fits")
    })
}

fn route() -> impl Strategy<Value = Entity> {
    let numbers = (0_u32..2, 0_u32..2, 1_u32..4, any::<bool>(), any::<bool>());
    (prefix(), numbers).prop_map(|(prefix, (table, metric, group, rare, far))| {
        let metrics = if rare { vec![(2, 1400 + group)] } else { Vec::new() };
        let rare = RouteAttrs { metrics, ..RouteAttrs::default() };
        let metric = if prefix.family() == Family::V6 { metric + 1 } else { metric };
        Entity::Route(Route {
            key: RouteKey { table: 254 - table, prefix, tos: 0, metric, ordinal: 0 },
            value: RouteValue {
                kind: RouteType::Unicast,
                protocol: 3,
                scope: 0,
                distance: if far { 20 } else { 1 },
                group: GroupId(group),
                attrs: rare.encode().unwrap_or(Attrs::NONE),
            },
        })
    })
}

fn neighbour() -> impl Strategy<Value = Entity> {
    (0_u8..4, 0_u8..3).prop_map(|(host, mac)| {
        Entity::Neighbour(Neighbour {
            key: NeighbourKey { ip: std::net::Ipv4Addr::new(10, 0, 0, host).into(), link: None },
            value: NeighbourValue {
                mac: (mac > 0).then_some(Mac([2, 0, 0, 0, 0, mac])),
                state: NudState::PERMANENT,
                flags: 0,
                protocol: 0,
            },
        })
    })
}

#[derive(Clone, Debug)]
enum Step {
    Record(RecordOp, EntityKind, Vec<u8>),
    /// What came so far is applied.
    Apply,
    Begin,
    End,
    Flush(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let entity = prop_oneof![20 => route(), 1 => neighbour()];
    let record = (entity, prop::bool::weighted(0.6)).prop_map(|(entity, set)| {
        let mut body = Vec::new();
        if set {
            entity.encode(&mut body)
        } else {
            entity.key().encode(&mut body)
        };
        Step::Record(if set { RecordOp::Set } else { RecordOp::Delete }, entity.kind(), body)
    });
    prop_oneof![
        100 => record,
        2 => Just(Step::Apply),
        1 => Just(Step::Begin),
        1 => Just(Step::End),
        1 => any::<bool>().prop_map(Step::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_run_of_records_is_its_records_one_after_another(
        steps in prop::collection::vec(step(), 1..600),
    ) {
        let new = || Replica::new(Epoch(1), DigestKey([1, 2]));
        let (mut single, mut many, mut lone) = (new(), new(), new());
        let mut run: Vec<(RecordOp, EntityKind, Vec<u8>)> = Vec::new();
        for step in steps.into_iter().chain([Step::Apply]) {
            if let Step::Record(op, kind, body) = step {
                match op {
                    RecordOp::Set => single.set(kind, &body).unwrap(),
                    RecordOp::Delete => single.delete(kind, &body).unwrap(),
                }
                run.push((op, kind, body));
                continue;
            }
            let records: Vec<ReplicaRecord<'_>> = run
                .iter()
                .map(|(op, kind, body)| ReplicaRecord { op: *op, kind: *kind, body })
                .collect();
            many.apply_batch(&records).unwrap();
            for record in records {
                lone.apply_batch(&[record]).unwrap();
            }
            run.clear();
            prop_assert_eq!(single.digests(), many.digests());
            prop_assert_eq!(single.digests(), lone.digests());
            for replica in [&mut single, &mut many, &mut lone] {
                match step {
                    Step::Begin => replica.begin_snapshot(),
                    Step::End => replica.end_snapshot(),
                    Step::Flush(routes) => replica.flush(Flush { routes, neighbours: !routes }),
                    Step::Apply | Step::Record(..) => {}
                }
            }
        }
        prop_assert_eq!(single.digests(), single.recompute_digests());
        prop_assert_eq!(many.digests(), many.recompute_digests());
        prop_assert_eq!(single.digests(), many.digests());
        prop_assert_eq!(lone.digests(), lone.recompute_digests());
        prop_assert_eq!(single.store().counts(), many.store().counts());
        prop_assert_eq!(single.store().counts(), lone.store().counts());
    }
}

/// The order of two records of one key in a run counts.
#[test]
fn the_last_of_a_run_wins() {
    let route = |metric: u8| {
        let mut body = vec![254, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 8, 0, 0, 0];
        body.extend_from_slice(&[metric, 0, 0, 0, 1, 3, 0, 1]);
        body
    };
    let (first, second) = (route(1), route(2));
    let set = |body| ReplicaRecord { op: RecordOp::Set, kind: EntityKind::Route4, body };
    let mut replica = Replica::new(Epoch(1), DigestKey([1, 2]));
    replica.apply_batch(&[set(&first), set(&second)]).unwrap();
    let mut last = Replica::new(Epoch(1), DigestKey([1, 2]));
    last.set(EntityKind::Route4, &second).unwrap();
    assert_eq!(replica.digests(), last.digests());
}

/// Many routes of both families, found by their index: changes in no order, with
/// groups between them, and routes that go and come back in the same run or far
/// apart.
#[test]
fn a_large_replica_with_its_index_is_its_records_one_after_another() {
    let body = |number: u32, group: u32| {
        let mut body = Vec::new();
        let bits = number.wrapping_mul(0x9e37_79b9) & 0xffff_ff00;
        let address = match number % 5 {
            0 => std::net::Ipv6Addr::from(u128::from(bits) << 96).into(),
            _ => std::net::Ipv4Addr::from(bits).into(),
        };
        let entity = Entity::Route(Route {
            key: RouteKey::main(Prefix::masked(address, 24).expect("a length that fits")),
            value: RouteValue {
                kind: RouteType::Unicast,
                protocol: 3,
                scope: 0,
                distance: 1,
                group: GroupId(group),
                attrs: Attrs::NONE,
            },
        });
        entity.encode(&mut body);
        (entity, body)
    };
    let set = |number, group| {
        let (entity, body) = body(number, group);
        (RecordOp::Set, entity.kind(), body)
    };
    let delete = |number| {
        let (entity, _) = body(number, 1);
        let mut key = Vec::new();
        entity.key().encode(&mut key);
        (RecordOp::Delete, entity.kind(), key)
    };
    let group = |id| {
        let gateway = Some("10.0.0.1".parse().unwrap());
        let hops = vec![NextHop { gateway, link: None, weight: 1, flags: HopFlags::default() }];
        let group = Group { id: GroupId(id), nhid: 0, hops };
        let mut body = Vec::new();
        Entity::Group(group).encode(&mut body);
        (RecordOp::Set, EntityKind::Group, body)
    };
    let new = || Replica::new(Epoch(1), DigestKey([1, 2]));
    let (mut single, mut many, mut lone) = (new(), new(), new());
    let mut run: Vec<(RecordOp, EntityKind, Vec<u8>)> = (0..30_000).map(|n| set(n, 1)).collect();
    let mut random = 7_u64;
    for round in 0..40_u32 {
        for (op, kind, body) in &run {
            match op {
                RecordOp::Set => single.set(*kind, body).unwrap(),
                RecordOp::Delete => single.delete(*kind, body).unwrap(),
            }
        }
        let records: Vec<ReplicaRecord<'_>> = run
            .iter()
            .map(|(op, kind, body)| ReplicaRecord { op: *op, kind: *kind, body })
            .collect();
        many.apply_batch(&records).unwrap();
        for record in records {
            lone.apply_batch(&[record]).unwrap();
        }
        assert_eq!(single.digests(), many.digests());
        assert_eq!(single.digests(), lone.digests());
        while many.idle(1000) || lone.idle(1000) {}
        run = (0..600)
            .map(|_| {
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7f);
                let number = (random >> 40) as u32 % 31_000;
                match (random >> 33) % 8 {
                    0..3 => delete(number),
                    3 => group(number % 50 + 1),
                    _ => set(number, round + number % 3),
                }
            })
            .collect();
    }
    assert_eq!(many.digests(), many.recompute_digests());
    assert_eq!(lone.digests(), lone.recompute_digests());
    assert_eq!(many.store().counts(), single.store().counts());
    assert_eq!(lone.store().counts(), single.store().counts());
}
