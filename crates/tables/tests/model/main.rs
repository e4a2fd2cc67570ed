//! The table against a plain reference: random sources, verbs, transactions,
//! loads, flushes, sweeps, with followers and walkers beside it.
//!
//! After every act: winners and candidates, longest matches of random
//! addresses, iteration in order and in subtrees, the index by MAC, counts of
//! each source, who must be among links and groups, and the digests of table
//! and replica, kept up and from scratch. Every walk over the modification
//! order, from any earlier revision or from nothing, ends with what the table
//! has.

mod follow;
mod reference;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use follow::{EPOCH, KEY, Live, State, Walker, state_of};
use proptest::prelude::*;
use reference::{Hop, Reference, RouteValue, Way};
use rtm_model::{Change, Family, GroupId, Hops, Mac, NeighbourSpec, Prefix, RouteKey, Verb};
use rtm_tables::{
    Applied, ChangeError, Revision, RouteCursor, SourceId, SourceSpec, Store, Table, TableLimits,
};
use steps::{Act, acts, prefixes};

struct World {
    table: Table,
    ids: Vec<SourceId>,
    model: Reference,
    live: Live,
    kept: Vec<(Revision, State)>,
    walkers: Vec<Walker>,
    /// Links were merged: groups may be twins.
    merged: bool,
    /// Walks that came to their end.
    walked: usize,
}

fn specs() -> Vec<SourceSpec> {
    vec![
        SourceSpec::admin(),
        SourceSpec::kernel(),
        SourceSpec::fpm("127.0.0.1".parse().unwrap()),
        SourceSpec::fpm("127.0.0.2".parse().unwrap()),
        SourceSpec::file("a"),
    ]
}

impl World {
    fn new(tombstone_bytes_max: usize) -> World {
        let limits = TableLimits { tombstone_bytes_max, ..TableLimits::default() };
        let mut table = Table::new(EPOCH, KEY, limits);
        let ids = specs().into_iter().map(|spec| table.source(spec).unwrap()).collect();
        let model = Reference::new(specs());
        World {
            table,
            ids,
            model,
            live: Live::new(),
            kept: vec![(Revision(0), State::new())],
            walkers: Vec::new(),
            merged: false,
            walked: 0,
        }
    }

    fn act(&mut self, act: &Act) {
        let before = self.table.revision();
        match act {
            Act::Apply(source, change) => {
                let expected = self.model.apply(*source, change);
                let records = self.live.records;
                let result = self.table.apply(self.ids[*source], change, &mut self.live);
                same(change, &expected, &result.as_ref().map(|_| ()).map_err(Clone::clone));
                if let Ok(Applied::Unchanged) = result {
                    assert_eq!(records, self.live.records);
                }
                self.note(change);
            }
            Act::Many(source, changes) => {
                let mut results = Vec::new();
                let id = self.ids[*source];
                self.table.apply_many(id, changes, &mut self.live, &mut |_, result| {
                    results.push(result.map(|_| ()));
                    true
                });
                assert_eq!(results.len(), changes.len());
                for (change, result) in changes.iter().zip(&results) {
                    same(change, &self.model.apply(*source, change), result);
                    self.note(change);
                }
            }
            Act::Transaction { changes, commit } => {
                let undo = self.model.clone();
                let state = state_of(self.table.store());
                let counts = self.table.counts();
                let mut transaction = self.table.transaction(self.ids[0]).unwrap();
                for (source, change) in changes {
                    transaction.set_source(self.ids[*source]).unwrap();
                    same(change, &self.model.apply(*source, change), &transaction.apply(change));
                }
                if *commit {
                    transaction.commit(&mut self.live);
                    changes.iter().for_each(|(_, change)| self.note(change));
                } else {
                    transaction.rollback();
                    self.model = undo;
                    assert_eq!(self.table.revision(), before);
                    assert_eq!(state, state_of(self.table.store()), "nothing has happened");
                    assert_eq!(counts.store, self.table.counts().store);
                }
            }
            Act::Stage { changes, commit, sweep } => self.stage(changes, *commit, *sweep),
            Act::Flush(what) => {
                self.table.flush(*what, &mut self.live).unwrap();
                self.model.flush(*what);
            }
            Act::Begin(source) => {
                self.table.begin_generation(self.ids[*source]);
                self.model.begin_generation(*source);
            }
            Act::End(source) => {
                self.table.end_generation(self.ids[*source]);
                self.model.end_generation(*source);
            }
            Act::Lose(source) => {
                self.table.drop_source(self.ids[*source]);
                self.model.drop_source(*source);
                let id = self.table.source(specs()[*source].clone()).unwrap();
                assert_eq!(id, self.ids[*source], "it was not gone yet");
            }
            Act::Sweep { slices, budget } => self.sweep(*slices, *budget),
            Act::Resume(index) => {
                let oldest = self.table.oldest_tombstone();
                let (revision, state) = index.get(&self.kept).clone();
                if revision >= oldest {
                    self.walkers.push(Walker::resume(&mut self.table, revision, state));
                }
            }
            Act::Snapshot(index) => {
                let state = index.get(&self.kept).1.clone();
                self.walkers.push(Walker::snapshot(&mut self.table, state));
            }
            Act::Walk(steps) => {
                let mut on_the_way = Vec::new();
                for mut walker in std::mem::take(&mut self.walkers) {
                    let more = (0..*steps).all(|_| walker.step(&mut self.table, None));
                    if more {
                        on_the_way.push(walker);
                    } else {
                        self.arrive(walker);
                    }
                }
                self.walkers = on_the_way;
            }
            Act::Tidy => {
                self.table.tidy(1);
            }
            Act::Collect(count) => {
                let lingering = self.table.lingering();
                self.table.collect(*count, &mut self.live);
                assert_eq!(self.table.lingering(), lingering.saturating_sub(*count));
            }
        }
        self.live.catch_up(&mut self.table);
        self.check();
        if self.table.revision() != before {
            self.kept.push((self.table.revision(), self.live.state.clone()));
        }
    }

    /// After a rename links may have become one.
    fn note(&mut self, change: &Change) {
        self.merged |= matches!(change, Change::Link(..));
    }

    fn stage(&mut self, changes: &[(usize, Change)], commit: bool, sweep: bool) {
        let undo = self.model.clone();
        let state = state_of(self.table.store());
        let before = self.table.revision();
        let digests = self.table.digests();
        self.table.stage_begin(self.ids[4]).unwrap();
        for (source, change) in changes {
            self.table.stage_source(self.ids[*source]).unwrap();
            same(change, &self.model.apply(*source, change), &self.table.stage(change));
            assert_eq!(self.table.digests(), digests, "not before the commit");
        }
        let refused = self.table.apply(self.ids[0], &changes[0].1, &mut self.live);
        assert_eq!(refused, Err(ChangeError::Staging));
        if sweep && self.model.sources[4].in_generation && commit {
            self.table.stage_source(self.ids[4]).unwrap();
            while self.table.stage_sweep(1) {}
            self.model.sweep_now(4);
        }
        if commit {
            let applied = loop {
                assert_eq!(self.table.digests(), digests, "not before the last step");
                if let Some(applied) = self.table.stage_commit(2, &mut self.live) {
                    break applied;
                }
            };
            if applied == Applied::Unchanged {
                assert_eq!(self.table.revision(), before);
            }
            changes.iter().for_each(|(_, change)| self.note(change));
        } else {
            while !self.table.stage_abort(1) {}
            self.model = undo;
            assert_eq!(self.table.revision(), before);
            assert_eq!(state, state_of(self.table.store()), "nothing has happened");
        }
        assert!(!self.table.is_staging());
    }

    fn sweep(&mut self, slices: usize, budget: usize) {
        let mut left = if self.model.sweeps_parties() { usize::MAX } else { slices };
        while left > 0 {
            if !self.table.sweep(budget, &mut self.live) {
                self.model.swept();
                return;
            }
            left -= 1;
        }
        // Half-way: what is gone was to go.
        let keys: Vec<_> = self.model.routes.keys().copied().collect();
        for (key, source) in keys {
            let id = self.ids[source];
            if !self.table.candidates(&key).any(|candidate| candidate.source == id) {
                assert!(self.model.may_go(&key, source), "{key:?} of {source} went too early");
                self.model.routes.remove(&(key, source));
            }
        }
        let keys: Vec<_> = self.model.neighbours.keys().copied().collect();
        for (key, source) in keys {
            if self.model.neighbour_may_go(&key, source) {
                // Whether it is gone shows only if it was the winner; else it
                // goes as unseen as it was.
                while self.table.sweep(1, &mut self.live) {}
                self.model.swept();
                return;
            }
        }
    }

    fn arrive(&mut self, walker: Walker) {
        if walker.lost {
            assert!(self.table.oldest_tombstone() > Revision(0));
            walker.release(&mut self.table);
            return;
        }
        self.walked += 1;
        assert_eq!(walker.release(&mut self.table), self.live.state);
    }

    fn check(&self) {
        let World { table, model, live, .. } = self;
        live.check(table);
        let store = table.store();

        let winners = model.winners();
        let mut seen = BTreeMap::new();
        let mut cursor = RouteCursor::all();
        let mut last: Option<RouteKey> = None;
        while let Some((route, source)) = table.next_route(&mut cursor) {
            if let Some(last) = last {
                let family = |key: RouteKey| key.prefix.family();
                assert!((family(last), last) < (family(route.key), route.key), "in order");
            }
            last = Some(route.key);
            assert_eq!(store.route(&route.key).as_ref(), Some(&route));
            let (owner, value) = winners.get(&route.key).expect("a winner");
            assert_eq!(source, self.ids[*owner]);
            self.same_value(&route.value, value);
            seen.insert(route.key, route.value);
        }
        assert_eq!(seen.len(), winners.len());

        let mut keys = BTreeSet::new();
        let mut cursor = RouteCursor::all();
        while let Some(key) = table.next_candidate_key(&mut cursor) {
            keys.insert(key);
            let order = model.order_of(&key);
            let candidates: Vec<_> = table.candidates(&key).collect();
            assert_eq!(candidates.len(), order.len());
            for (index, (candidate, source)) in candidates.iter().zip(order).enumerate() {
                assert_eq!(candidate.source, self.ids[source]);
                assert_eq!(candidate.won, index == 0 && seen.contains_key(&key));
                self.same_value(&candidate.value, &model.routes[&(key, source)].0);
            }
        }
        assert_eq!(keys, model.keys());

        for (source, info) in table.sources().enumerate() {
            let fresh = model.sources[source].fresh;
            let routes = model.routes.iter().filter(|((_, s), _)| *s == source);
            let neighbours = model.neighbours.iter().filter(|((_, s), _)| *s == source);
            assert_eq!(info.routes, routes.clone().count());
            assert_eq!(info.neighbours, neighbours.clone().count());
            assert_eq!(info.winners, winners.values().filter(|(s, _)| *s == source).count());
            let stale = routes.filter(|(_, (_, stamp))| *stamp < fresh).count()
                + neighbours.filter(|(_, (_, stamp))| *stamp < fresh).count();
            assert_eq!(info.stale, stale);
        }

        self.check_subtrees(store, &winners);
        self.check_lookups(store, &winners);
        self.check_parties(store);
    }

    fn same_value(&self, value: &rtm_model::RouteValue, expected: &RouteValue) {
        assert_eq!(value.kind, expected.kind);
        assert_eq!(value.protocol, expected.protocol);
        assert_eq!(value.scope, expected.scope);
        assert_eq!(value.distance, expected.distance);
        assert_eq!(value.attrs.bytes(), expected.attrs);
        assert_eq!(self.hops(value.group), self.model.hops(&expected.way));
        let nhid = self.table.store().group(value.group).map_or(0, |group| group.nhid);
        let expected = match expected.way {
            Way::Object(object) => self.model.objects[object].nhid,
            _ => 0,
        };
        assert_eq!(nhid, expected);
    }

    fn hops(&self, group: GroupId) -> Vec<Hop> {
        let store = self.table.store();
        if group == GroupId::NONE {
            return Vec::new();
        }
        let hops = &store.group(group).expect("a route's group exists").hops;
        hops.iter()
            .map(|hop| Hop {
                gateway: hop.gateway,
                link: hop.link.map(|link| store.link(link).expect("a hop's link exists").name),
                weight: hop.weight,
                flags: hop.flags,
            })
            .collect()
    }

    fn check_subtrees(&self, store: &Store, winners: &BTreeMap<RouteKey, (usize, RouteValue)>) {
        for within in prefixes().into_iter().chain(["10.1.1.0/30".parse().unwrap()]) {
            for table in [None, Some(254), Some(100), Some(7)] {
                let mut cursor = RouteCursor::all().within(within);
                if let Some(table) = table {
                    cursor = cursor.in_table(table);
                }
                let mut found = Vec::new();
                while let Some(route) = store.next_route(&mut cursor) {
                    found.push(route.key);
                }
                let expected: Vec<RouteKey> = winners
                    .keys()
                    .copied()
                    .filter(|key| within.covers(key.prefix))
                    .filter(|key| table.is_none_or(|table| table == key.table))
                    .collect();
                assert_eq!(found, expected, "{within} in {table:?}");
            }
        }
        for family in [Family::V4, Family::V6] {
            let mut tables: Vec<u32> = winners
                .keys()
                .filter(|key| key.prefix.family() == family)
                .map(|key| key.table)
                .collect();
            tables.dedup();
            assert_eq!(store.tables(family), tables);
            // After a key that isn't there.
            let mut cursor = RouteCursor::family(family);
            let gap = prefixes().into_iter().find(|p| p.family() == family).unwrap();
            let gap = RouteKey { table: 254, prefix: gap, tos: 3, metric: 77, ordinal: 9 };
            cursor = cursor.after(gap);
            let expected =
                winners.keys().find(|key| key.prefix.family() == family && **key > gap).copied();
            assert_eq!(store.next_route(&mut cursor).map(|route| route.key), expected);
        }
    }

    fn check_lookups(&self, store: &Store, winners: &BTreeMap<RouteKey, (usize, RouteValue)>) {
        let dead = |value: &RouteValue| {
            let hops = self.model.hops(&value.way);
            !hops.is_empty() && hops.iter().all(|hop| hop.flags.contains(rtm_model::HopFlags::DEAD))
        };
        for prefix in prefixes() {
            for address in [prefix.address(), last_address(prefix)] {
                for table in [254, 100, 7] {
                    let expected = winners
                        .iter()
                        .filter(|(key, (_, value))| {
                            key.table == table
                                && key.tos == 0
                                && key.prefix.contains(address)
                                && !dead(value)
                        })
                        .max_by_key(|(key, (_, value))| {
                            let worst = (value.distance, key.metric, key.ordinal);
                            (key.prefix.len(), std::cmp::Reverse(worst))
                        })
                        .map(|(key, _)| *key);
                    let found = store.lookup(table, address).map(|route| route.key);
                    assert_eq!(found, expected, "{address} in {table}");
                }
            }
        }
    }

    fn check_parties(&self, store: &Store) {
        let mut neighbours = BTreeMap::new();
        let mut after = None;
        while let Some(neighbour) = store.next_neighbour(after.as_ref()) {
            assert!(after.is_none_or(|after| after < neighbour.key));
            after = Some(neighbour.key);
            let link = neighbour.key.link.map(|link| store.link(link).unwrap().name);
            let source = self.table.neighbour_source(&neighbour.key).unwrap();
            let source = self.ids.iter().position(|id| *id == source).unwrap();
            neighbours.insert((neighbour.key.ip, link), (source, neighbour.value));
            assert_eq!(store.neighbour(&neighbour.key), Some(neighbour));
        }
        assert_eq!(neighbours, self.model.neighbour_winners());
        let mut macs: BTreeMap<Mac, usize> = BTreeMap::new();
        for (_, value) in neighbours.values() {
            value.mac.into_iter().for_each(|mac| *macs.entry(mac).or_default() += 1);
        }
        assert_eq!(store.counts().macs, macs.len());
        let mut after = None;
        for (mac, count) in macs {
            assert_eq!(store.next_mac(after), Some(mac));
            after = Some(mac);
            let found: Vec<_> = store.neighbours_by_mac(mac).collect();
            assert_eq!(found.len(), count);
            assert!(found.is_sorted_by_key(|neighbour| neighbour.key));
            assert!(found.iter().all(|neighbour| neighbour.value.mac == Some(mac)));
        }
        assert_eq!(store.next_mac(after), None);

        let mut names = BTreeSet::new();
        let mut link = None;
        while let Some(next) = store.next_link(link) {
            link = Some(next.id);
            assert!(names.insert(next.name), "names are unique");
            assert_eq!(store.link_by_name(&next.name), Some(next));
            let host = self.model.hosts.get(&next.name).map_or(0, |host| host.0);
            assert_eq!(next.ifindex, host);
        }
        let mut contents: Vec<Vec<Hop>> = Vec::new();
        let mut named = 0;
        let mut group = None;
        while let Some(next) = store.next_group(group) {
            group = Some(next.id);
            match next.nhid {
                0 => contents.push(self.hops(next.id)),
                _ => named += 1,
            }
        }
        let distinct: BTreeSet<_> = contents.iter().cloned().collect();
        assert!(self.merged || distinct.len() == contents.len(), "equal sets share one id");
        if self.model.leftovers || self.table.lingering() > 0 {
            assert!(names.is_superset(&self.model.links()));
            assert!(distinct.is_superset(&self.model.groups()));
            assert!(named >= self.model.named_groups());
        } else {
            assert_eq!(names, self.model.links());
            assert_eq!(distinct, self.model.groups());
            assert_eq!(named, self.model.named_groups());
        }
        if !self.model.leftovers {
            let left = distinct.len() - self.model.groups().len();
            assert!(left <= self.table.lingering(), "{left} groups without users");
            assert_eq!(named, self.model.named_groups());
        }
    }
}

fn last_address(prefix: Prefix) -> IpAddr {
    let bits = prefix.bits() | !rtm_model::mask(prefix.len());
    match prefix.family() {
        Family::V4 => IpAddr::from(((bits >> 96) as u32).to_be_bytes()),
        Family::V6 => IpAddr::from(bits.to_be_bytes()),
    }
}

/// Both took it, or both refused it for the same reason.
fn same(change: &Change, expected: &Result<(), ChangeError>, found: &Result<(), ChangeError>) {
    // Which of several other owners is named depends on the links' ids.
    let several =
        matches!(change, Change::Neighbour(Verb::Delete, NeighbourSpec { link: None, .. }));
    if let (Err(ChangeError::ForeignSource { .. }), Err(ChangeError::ForeignSource { .. }), true) =
        (expected, found, several)
    {
        return;
    }
    assert_eq!(found, expected, "{change:?}");
    if let Change::Route(_, spec) = change {
        if let (Hops::Named(nhid), Err(ChangeError::NoGroup { nhid: told })) = (&spec.hops, found) {
            assert_eq!(nhid, told);
        }
    }
}

fn run(acts: &[Act], tombstone_bytes_max: usize) -> World {
    let mut world = World::new(tombstone_bytes_max);
    for act in acts {
        world.act(act);
    }
    // Everything comes to rest.
    world.act(&Act::Collect(usize::MAX));
    world.act(&Act::Sweep { slices: usize::MAX, budget: 100 });
    world.act(&Act::Walk(usize::MAX));
    assert!(world.walkers.is_empty());
    while world.table.tidy(1) {}
    world.check();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_table_is_what_the_reference_says(acts in acts()) {
        run(&acts, 32 << 20);
    }

    /// Room for very few tombstones: walkers get lost, and say so.
    #[test]
    fn a_table_with_few_tombstones_is_too(acts in acts()) {
        let world = run(&acts, 200);
        prop_assert!(world.table.counts().tombstone_bytes <= 200);
    }
}
