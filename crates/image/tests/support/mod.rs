//! A naive table, random transactions, and the comparison through a mapping.
#![allow(dead_code, unreachable_pub)] // each test uses some of it
mod random;
mod route;

use std::collections::BTreeMap;
use std::net::IpAddr;

use rtm_image::{Memory, Object, Reader, Settings, Writer};
use rtm_model::{
    Attrs, Digest, Digests, Entity, EntityKey, Family, Group, GroupId, HopFlags, Link, LinkId,
    LinkName, Mac, Neighbour, NeighbourKey, NeighbourValue, NextHop, NudState, Prefix, Route,
    RouteAttrs, RouteKey, RouteType, RouteValue, mask,
};

pub use random::Random;

/// The naive table.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Model {
    pub routes: BTreeMap<RouteKey, RouteValue>,
    pub neighbours: BTreeMap<NeighbourKey, NeighbourValue>,
    pub groups: BTreeMap<GroupId, Group>,
    pub links: BTreeMap<LinkId, Link>,
}

/// One change of a transaction.
#[derive(Clone, Debug)]
pub enum Op {
    Set(Entity),
    Delete(EntityKey),
    Flush { routes: bool, neighbours: bool },
}

impl Model {
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Set(Entity::Route(r)) => drop(self.routes.insert(r.key, r.value.clone())),
            Op::Set(Entity::Neighbour(n)) => drop(self.neighbours.insert(n.key, n.value)),
            Op::Set(Entity::Group(g)) => drop(self.groups.insert(g.id, g.clone())),
            Op::Set(Entity::Link(l)) => drop(self.links.insert(l.id, *l)),
            Op::Delete(EntityKey::Route(key)) => drop(self.routes.remove(key)),
            Op::Delete(EntityKey::Neighbour(key)) => drop(self.neighbours.remove(key)),
            Op::Delete(EntityKey::Group(id)) => drop(self.groups.remove(id)),
            Op::Delete(EntityKey::Link(id)) => drop(self.links.remove(id)),
            Op::Flush { routes, neighbours } => {
                if *routes {
                    self.routes.clear();
                }
                if *neighbours {
                    self.neighbours.clear();
                }
            }
        }
    }

    /// The route that a lookup finds.
    pub fn lookup(&self, table: u32, address: IpAddr) -> Option<Route> {
        self.routes
            .iter()
            .filter(|(key, _)| key.table == table && key.tos == 0 && key.prefix.contains(address))
            .max_by_key(|(key, value)| {
                let rank = (value.distance, key.metric, key.ordinal);
                (key.prefix.len(), std::cmp::Reverse(rank))
            })
            .map(|(key, value)| Route { key: *key, value: value.clone() })
    }

    fn by(&self, test: impl Fn(&NeighbourKey, &NeighbourValue) -> bool) -> Vec<Neighbour> {
        self.neighbours
            .iter()
            .filter(|(key, value)| test(key, value))
            .map(|(key, value)| Neighbour { key: *key, value: *value })
            .collect()
    }

    fn mac_keys(&self) -> usize {
        let mut macs: Vec<Mac> = self.neighbours.values().filter_map(|v| v.mac).collect();
        macs.sort();
        macs.dedup();
        macs.len()
    }

    /// Compares everything that a reader can ask with this table: all entries,
    /// and the lookups of `addresses` in each table.
    pub fn compare(&self, reader: &Reader, addresses: &[IpAddr], tables: &[u32]) {
        let state = reader.state().unwrap();
        let (v4, v6): (Vec<_>, Vec<_>) = self
            .routes
            .iter()
            .map(|(key, value)| Route { key: *key, value: value.clone() })
            .partition(|route| route.key.prefix.family() == Family::V4);
        assert_eq!(state.routes, [v4.len() as u64, v6.len() as u64]);
        assert_eq!(reader.routes4(None).map(Result::unwrap).collect::<Vec<_>>(), v4);
        assert_eq!(reader.routes6(None).map(Result::unwrap).collect::<Vec<_>>(), v6);
        for table in tables {
            let expected: Vec<_> = v4.iter().filter(|r| r.key.table == *table).cloned().collect();
            assert_eq!(
                reader.routes4(Some(*table)).map(Result::unwrap).collect::<Vec<_>>(),
                expected
            );
            let expected: Vec<_> = v6.iter().filter(|r| r.key.table == *table).cloned().collect();
            assert_eq!(
                reader.routes6(Some(*table)).map(Result::unwrap).collect::<Vec<_>>(),
                expected
            );
        }
        for route in v4.iter().chain(&v6) {
            assert_eq!(reader.route(&route.key).unwrap().as_ref(), Some(route));
        }
        let groups: Vec<Group> = self.groups.values().cloned().collect();
        assert_eq!(reader.groups().map(Result::unwrap).collect::<Vec<_>>(), groups);
        assert_eq!(state.groups as usize, groups.len());
        let links: Vec<Link> = self.links.values().copied().collect();
        assert_eq!(reader.links().map(Result::unwrap).collect::<Vec<_>>(), links);
        assert_eq!(state.links as usize, links.len());
        for link in links {
            assert_eq!(reader.link(link.id).unwrap(), Some(link));
        }
        let neighbours = self.by(|_, _| true);
        assert_eq!(state.neighbours as usize, neighbours.len());
        assert_eq!(state.mac_keys as usize, self.mac_keys());
        assert_eq!(reader.neighbours().map(Result::unwrap).collect::<Vec<_>>(), neighbours);
        let with_mac = neighbours.iter().filter(|n| n.value.mac.is_some()).count();
        assert_eq!(reader.neighbours_in_mac_order().count(), with_mac);
        for n in &neighbours {
            assert_eq!(reader.neighbour(&n.key).unwrap(), Some(*n));
            assert_eq!(reader.neighbour_mac(n.key.ip, n.key.link).unwrap(), n.value.mac);
            assert_eq!(
                reader.neighbours_by_ip(n.key.ip).unwrap(),
                self.by(|key, _| key.ip == n.key.ip)
            );
            if let Some(mac) = n.value.mac {
                let expected = self.by(|_, value| value.mac == Some(mac));
                assert_eq!(reader.neighbours_by_mac(mac).unwrap(), expected);
            }
        }
        let mut random = Random(state.revision);
        for key in (0..100).map(|_| neighbour_key(&mut random)) {
            let value = self.neighbours.get(&key);
            let mac = value.and_then(|value| value.mac);
            assert_eq!(reader.neighbour_mac(key.ip, key.link).unwrap(), mac, "{key:?}");
            assert_eq!(reader.neighbour(&key).unwrap().map(|n| n.value).as_ref(), value);
        }
        let absent = NeighbourKey { ip: "192.0.2.77".parse().unwrap(), link: Some(LinkId(999)) };
        assert_eq!(reader.neighbour(&absent).unwrap(), None);
        assert_eq!(reader.neighbours_by_mac(Mac([9; 6])).unwrap(), []);
        self.compare_lookups(reader, addresses, tables);
    }

    pub fn compare_lookups(&self, reader: &Reader, addresses: &[IpAddr], tables: &[u32]) {
        for &table in tables {
            for &address in addresses {
                let expected = self.lookup(table, address);
                let found = reader.lookup(table, address).unwrap();
                assert_eq!(
                    found.map(|answer| (answer.kind(), answer.group())),
                    expected.as_ref().map(|route| (route.value.kind, route.value.group)),
                    "{address} in table {table}"
                );
                assert_eq!(
                    reader.lookup_route(table, address).unwrap(),
                    expected,
                    "{address} in {table}"
                );
                let hop =
                    reader.lookup_hop(table, address, (address_bits(address) >> 7) as u32).unwrap();
                let Some((answer, hop)) = hop else {
                    assert_eq!(expected, None);
                    continue;
                };
                let route = expected.unwrap();
                assert_eq!(answer.group(), route.value.group);
                let group = self.groups.get(&route.value.group);
                let alive = |hop: &&NextHop| !hop.flags.contains(HopFlags::DEAD);
                match hop {
                    Some(hop) => {
                        assert!(group.unwrap().hops.iter().filter(alive).any(|h| *h == hop))
                    }
                    None => assert!(
                        group.is_none_or(|group| group.hops.iter().filter(alive).count() == 0)
                    ),
                }
            }
        }
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for address in addresses {
            match address {
                IpAddr::V4(a) => v4.push(u32::from(*a)),
                IpAddr::V6(a) => v6.push(u128::from(*a)),
            }
        }
        let mut answers = vec![None; v4.len()];
        reader.lookup4_batch(&v4, &mut answers).unwrap();
        let mut in_a_row = reader.lookups4();
        for (address, answer) in v4.iter().zip(answers) {
            assert_eq!(reader.lookup4((*address).into()).unwrap(), answer);
            assert_eq!(in_a_row.lookup((*address).into()).unwrap(), answer);
        }
        let mut answers = vec![None; v6.len()];
        reader.lookup6_batch(&v6, &mut answers).unwrap();
        for (address, answer) in v6.iter().zip(answers) {
            assert_eq!(reader.lookup6((*address).into()).unwrap(), answer);
        }
    }
}

pub fn address_bits(address: IpAddr) -> u128 {
    rtm_model::left_aligned(address)
}

/// A change to a route in table main.
pub fn set_route(prefix: Prefix, group: u32) -> Op {
    Op::Set(Entity::Route(route::route(prefix, group)))
}

/// A random prefix; most share their first bits with others.
pub fn prefix(random: &mut Random, family: Family) -> Prefix {
    let mut len = random.below(u64::from(family.bits()) + 1) as u8;
    let mut bits = u128::from(random.next()) << 64 | u128::from(random.next());
    match random.below(8) {
        0 => {}
        // All ones, whole addresses among them; zeros come up by the other way.
        1 => (bits, len) = (u128::MAX, if random.below(2) == 0 { family.bits() } else { len }),
        _ => bits &= 0x0300_01c0_0380_0103_0003_0001_0000_0003,
    }
    Prefix::from_bits(family, bits & mask(len), len).unwrap()
}

pub fn family(random: &mut Random) -> Family {
    if random.below(2) == 0 { Family::V4 } else { Family::V6 }
}

/// What random transactions are made from.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    pub tables: &'static [u32],
    pub groups: u64,
    /// Of 1000 changes, how many delete.
    pub deletes: u64,
}

pub fn group(random: &mut Random, id: u32) -> Group {
    let hops = (0..1 + random.below(4))
        .map(|_| NextHop {
            gateway: match random.below(3) {
                0 => None,
                1 => Some(IpAddr::from([10, 0, 0, random.next() as u8])),
                _ => Some(IpAddr::from(u128::from(random.next()).to_be_bytes())),
            },
            link: (random.below(3) > 0).then(|| LinkId(1 + random.below(5) as u32)),
            weight: 1 + random.below(256) as u16,
            flags: if random.below(4) == 0 { HopFlags::DEAD } else { HopFlags::default() },
        })
        .collect();
    Group { id: GroupId(id), nhid: random.below(3) as u32, hops }
}

/// A random change that fits the model.
pub fn op(random: &mut Random, model: &Model, mix: Mix) -> Op {
    let deletes = random.below(1000) < mix.deletes;
    match random.below(20) {
        0 if model.groups.len() as u64 >= mix.groups / 2 && deletes => {
            // Only a group that no route uses.
            let id = GroupId(1 + random.below(mix.groups) as u32);
            match model.routes.values().any(|value| value.group == id) {
                true => Op::Set(Entity::Group(group(random, id.0))),
                false => Op::Delete(EntityKey::Group(id)),
            }
        }
        0 | 1 => {
            let id = 1 + random.below(mix.groups) as u32;
            Op::Set(Entity::Group(group(random, id)))
        }
        2 => {
            let id = LinkId(1 + random.below(6) as u32);
            if deletes {
                Op::Delete(EntityKey::Link(id))
            } else {
                let name = LinkName::new(format!("eth{}", random.below(100)).as_bytes()).unwrap();
                Op::Set(Entity::Link(Link { id, name, ifindex: random.below(9) as u32 }))
            }
        }
        3..=6 => {
            let key = neighbour_key(random);
            if deletes {
                Op::Delete(EntityKey::Neighbour(key))
            } else {
                let mac = match random.below(12) {
                    0 => Mac([0; 6]),
                    1 => Mac([0xff; 6]),
                    _ => Mac([2, 0, 0, 0, 0, random.below(20) as u8]),
                };
                let value = NeighbourValue {
                    mac: (random.below(6) > 0).then_some(mac),
                    state: NudState(1 << random.below(8)),
                    flags: random.next() as u8,
                    protocol: random.next() as u8,
                };
                Op::Set(Entity::Neighbour(Neighbour { key, value }))
            }
        }
        _ => {
            let table = mix.tables[random.below(mix.tables.len() as u64) as usize];
            if deletes {
                let from = RouteKey { table, ..RouteKey::main(prefix_of(random)) };
                let found = model.routes.range(from..).next().map_or(from, |(key, _)| *key);
                return Op::Delete(EntityKey::Route(found));
            }
            let key = RouteKey {
                table,
                prefix: prefix_of(random),
                tos: if random.below(8) == 0 { 16 } else { 0 },
                metric: random.below(3) as u32 * 100,
                ordinal: random.below(2) as u16,
            };
            let kind =
                [RouteType::Unicast, RouteType::Unicast, RouteType::Blackhole, RouteType::Throw]
                    [random.below(4) as usize];
            let known: Vec<GroupId> = model.groups.keys().copied().collect();
            let attrs = RouteAttrs {
                metrics: if random.below(10) == 0 { vec![(2, 1400)] } else { Vec::new() },
                ..RouteAttrs::default()
            };
            let value = RouteValue {
                kind,
                protocol: random.next() as u8,
                scope: 0,
                distance: [1, 20, 110][random.below(3) as usize],
                group: if kind.wants_next_hop() && !known.is_empty() {
                    known[random.below(known.len() as u64) as usize]
                } else {
                    GroupId::NONE
                },
                attrs: if attrs == RouteAttrs::default() {
                    Attrs::NONE
                } else {
                    attrs.encode().unwrap()
                },
            };
            Op::Set(Entity::Route(Route { key, value }))
        }
    }
}

/// Few, so that some are met again; some all zeros or all ones.
pub fn neighbour_key(random: &mut Random) -> NeighbourKey {
    let extreme = [0, u128::MAX].get(random.below(8) as usize);
    let ip = match family(random) {
        Family::V4 => match extreme {
            Some(bits) => IpAddr::from((*bits as u32).to_be_bytes()),
            None => IpAddr::from([10, 0, random.below(2) as u8, random.below(30) as u8]),
        },
        Family::V6 => {
            let low = u128::from(random.below(60));
            IpAddr::from(extreme.copied().unwrap_or(low).to_be_bytes())
        }
    };
    let link = [None, Some(1), Some(2), Some(3), Some(u32::MAX)][random.below(5) as usize];
    NeighbourKey { ip, link: link.map(LinkId) }
}

fn prefix_of(random: &mut Random) -> Prefix {
    let family = family(random);
    prefix(random, family)
}

/// Hands a change to the writer.
pub fn write<M: Memory>(writer: &mut Writer<M>, op: &Op) {
    match op {
        Op::Set(entity) => {
            let mut bytes = Vec::new();
            entity.encode(&mut bytes);
            writer.set_bytes(entity.kind(), &bytes).unwrap();
        }
        Op::Delete(key) => {
            let mut bytes = Vec::new();
            key.encode(&mut bytes);
            writer.delete_bytes(key.kind(), &bytes).unwrap();
        }
        Op::Flush { routes, neighbours } => writer.flush(*routes, *neighbours).unwrap(),
    }
}

/// Digests that name a revision, so that a mixture would show.
pub fn digests(revision: u64) -> Digests {
    let digest = |n: u64| Digest(u128::from(revision) << 64 | u128::from(revision * 10 + n));
    Digests { routes: digest(1), neighbours: digest(2), keys: digest(3), links: digest(4) }
}

/// An image of its own with its reader.
pub fn image(settings: Settings) -> (Writer<Object>, Reader) {
    let writer = Writer::new(Object::create(settings.bytes).unwrap(), &settings).unwrap();
    let reader = attach(&writer);
    (writer, reader)
}

pub fn attach(writer: &Writer<Object>) -> Reader {
    Reader::attach(writer.memory().descriptor().try_clone_to_owned().unwrap()).unwrap()
}

/// Addresses in and around the model's prefixes, and others.
pub fn addresses(random: &mut Random, model: &Model, count: usize) -> Vec<IpAddr> {
    let mut out = Vec::new();
    let keys: Vec<&RouteKey> = model.routes.keys().collect();
    while out.len() < count {
        let prefix = if keys.is_empty() || random.below(3) == 0 {
            prefix_of(random)
        } else {
            keys[random.below(keys.len() as u64) as usize].prefix
        };
        let rest = u128::from(random.next()) << 64 | u128::from(random.next());
        let bits = match random.below(4) {
            0 => prefix.bits(),
            1 => prefix.bits() | !mask(prefix.len()),
            2 => prefix.bits().wrapping_sub(1 << 96),
            _ => prefix.bits() | rest & !mask(prefix.len()),
        };
        out.push(match prefix.family() {
            Family::V4 => IpAddr::from(((bits >> 96) as u32).to_be_bytes()),
            Family::V6 => IpAddr::from(bits.to_be_bytes()),
        });
    }
    out
}
