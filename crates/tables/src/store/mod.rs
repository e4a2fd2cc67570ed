//! The store: winners, neighbours, links and groups, as a table or a replica
//! holds them, and how to read them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rtm_model::{
    Digests, Entity, EntityKey, Family, Group, GroupId, HopFlags, Link, LinkId, LinkName, Mac,
    Neighbour, NeighbourKey, NeighbourValue, NextHop, Prefix, Route, RouteKey, RouteValue,
};

/// How many there are of what.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct StoreCounts {
    /// IPv4 routes (winners).
    pub routes4: usize,
    /// IPv6 routes (winners).
    pub routes6: usize,
    /// Neighbours.
    pub neighbours: usize,
    /// MAC addresses that have a neighbour.
    pub macs: usize,
    /// Links.
    pub links: usize,
    /// Next-hop groups.
    pub groups: usize,
}

/// Where an ordered iteration over routes stands: a range and the key that was
/// met last, so it survives any change in between. The order is family, table,
/// prefix, tos, metric, ordinal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteCursor {
    family: Option<Family>,
    table: Option<u32>,
    within: Option<Prefix>,
    after: Option<RouteKey>,
}

impl RouteCursor {
    /// All routes: IPv4, then IPv6.
    pub fn all() -> RouteCursor {
        RouteCursor { family: None, table: None, within: None, after: None }
    }

    /// All routes of one family, in all tables.
    pub fn family(family: Family) -> RouteCursor {
        RouteCursor { family: Some(family), ..RouteCursor::all() }
    }

    /// Only those of one routing table.
    #[must_use]
    pub fn in_table(self, table: u32) -> RouteCursor {
        RouteCursor { table: Some(table), ..self }
    }

    /// Only those whose prefix is `prefix` or inside it.
    #[must_use]
    pub fn within(self, prefix: Prefix) -> RouteCursor {
        RouteCursor { family: Some(prefix.family()), within: Some(prefix), ..self }
    }

    /// Goes on after this key.
    #[must_use]
    pub fn after(self, key: RouteKey) -> RouteCursor {
        RouteCursor { after: Some(key), ..self }
    }
}

/// Winners, neighbours, links and groups. Read by everyone, written only by
/// its [`crate::Table`] or [`crate::Replica`].
#[derive(Debug, Default)]
pub struct Store {
    pub(crate) routes4: BTreeMap<RouteKey, RouteValue>,
    pub(crate) routes6: BTreeMap<RouteKey, RouteValue>,
    pub(crate) neighbours: BTreeMap<NeighbourKey, NeighbourValue>,
    pub(crate) macs: BTreeSet<(Mac, NeighbourKey)>,
    pub(crate) mac_count: usize,
    pub(crate) links: BTreeMap<u32, Link>,
    pub(crate) link_names: BTreeMap<LinkName, LinkId>,
    pub(crate) groups: BTreeMap<u32, Group>,
    pub(crate) digests: Digests,
}

impl Store {
    /// How many there are of what.
    pub fn counts(&self) -> StoreCounts {
        StoreCounts {
            routes4: self.routes4.len(),
            routes6: self.routes6.len(),
            neighbours: self.neighbours.len(),
            macs: self.mac_count,
            links: self.links.len(),
            groups: self.groups.len(),
        }
    }

    /// The digests, kept up to date with every change.
    pub fn digests(&self) -> Digests {
        self.digests
    }

    /// The longest-prefix match in one routing table: there tos 0 and the
    /// lowest (distance, metric, ordinal). A route whose next hops are all
    /// dead is passed over.
    pub fn lookup(&self, table: u32, address: IpAddr) -> Option<Route> {
        let family = Family::of(address);
        let routes = self.routes(family);
        (0..=family.bits()).rev().find_map(|len| {
            let prefix = Prefix::masked(address, len).ok()?;
            let low = RouteKey { table, prefix, tos: 0, metric: 0, ordinal: 0 };
            let high = RouteKey { metric: u32::MAX, ordinal: u16::MAX, ..low };
            routes
                .range(low..=high)
                .filter(|(_, value)| !self.is_dead(value.group))
                .min_by_key(|(key, value)| (value.distance, key.metric, key.ordinal))
                .map(|(key, value)| Route { key: *key, value: value.clone() })
        })
    }

    /// The next hops of a route that traffic may take: those not flagged dead.
    pub fn live_hops(&self, group: GroupId) -> impl Iterator<Item = &NextHop> {
        let hops = self.group(group).map_or(&[][..], |group| &group.hops);
        hops.iter().filter(|hop| !hop.flags.contains(HopFlags::DEAD))
    }

    fn is_dead(&self, group: GroupId) -> bool {
        self.group(group).is_some() && self.live_hops(group).next().is_none()
    }

    /// The route of this key.
    pub fn route(&self, key: &RouteKey) -> Option<Route> {
        let value = self.routes(key.prefix.family()).get(key)?;
        Some(Route { key: *key, value: value.clone() })
    }

    /// The next route in the cursor's range and order.
    pub fn next_route(&self, cursor: &mut RouteCursor) -> Option<Route> {
        for family in [Family::V4, Family::V6] {
            if cursor.family.is_some_and(|wanted| wanted != family)
                || cursor.after.is_some_and(|key| key.prefix.family() > family)
            {
                continue;
            }
            let after = cursor.after.filter(|key| key.prefix.family() == family);
            let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let found =
                self.routes(family).range((from, std::ops::Bound::Unbounded)).find(|(key, _)| {
                    cursor.table.is_none_or(|table| table == key.table)
                        && cursor.within.is_none_or(|prefix| prefix.covers(key.prefix))
                });
            if let Some((key, value)) = found {
                cursor.after = Some(*key);
                return Some(Route { key: *key, value: value.clone() });
            }
        }
        None
    }

    /// The routing tables that have a route of this family, ascending.
    pub fn tables(&self, family: Family) -> Vec<u32> {
        let mut tables: Vec<u32> = self.routes(family).keys().map(|key| key.table).collect();
        tables.dedup();
        tables
    }

    /// The link of this id.
    pub fn link(&self, id: LinkId) -> Option<&Link> {
        self.links.get(&id.0)
    }

    /// The link of this name.
    pub fn link_by_name(&self, name: &LinkName) -> Option<&Link> {
        self.link(*self.link_names.get(name)?)
    }

    /// The next link by id.
    pub fn next_link(&self, after: Option<LinkId>) -> Option<&Link> {
        let from = after.map_or(0, |id| id.0 + 1);
        self.links.range(from..).next().map(|(_, link)| link)
    }

    /// The group of this id.
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id.0)
    }

    /// The next group by id.
    pub fn next_group(&self, after: Option<GroupId>) -> Option<&Group> {
        let from = after.map_or(0, |id| id.0 + 1);
        self.groups.range(from..).next().map(|(_, group)| group)
    }

    /// The neighbour of this key.
    pub fn neighbour(&self, key: &NeighbourKey) -> Option<Neighbour> {
        self.neighbours.get(key).map(|value| Neighbour { key: *key, value: *value })
    }

    /// The next neighbour in the order of their keys.
    pub fn next_neighbour(&self, after: Option<&NeighbourKey>) -> Option<Neighbour> {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let (key, value) =
            self.neighbours.range::<NeighbourKey, _>((from, std::ops::Bound::Unbounded)).next()?;
        Some(Neighbour { key: *key, value: *value })
    }

    /// The neighbours that have this MAC address, in the order of their keys.
    pub fn neighbours_by_mac(&self, mac: Mac) -> impl Iterator<Item = Neighbour> {
        let first = NeighbourKey { ip: IpAddr::from([0, 0, 0, 0]), link: None };
        self.macs
            .range((mac, first)..)
            .take_while(move |(other, _)| *other == mac)
            .filter_map(|(_, key)| self.neighbour(key))
    }

    /// The next MAC address that has a neighbour.
    pub fn next_mac(&self, after: Option<Mac>) -> Option<Mac> {
        let Some(Mac(octets)) = after else { return self.macs.first().map(|(mac, _)| *mac) };
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&octets);
        let next = (u64::from_be_bytes(bytes) + 1).to_be_bytes();
        if next[..2] != [0, 0] {
            return None;
        }
        let mac = Mac([next[2], next[3], next[4], next[5], next[6], next[7]]);
        let first = NeighbourKey { ip: IpAddr::from([0, 0, 0, 0]), link: None };
        self.macs.range((mac, first)..).next().map(|(mac, _)| *mac)
    }

    /// Any entity by its key.
    pub fn entity(&self, key: &EntityKey) -> Option<Entity> {
        match key {
            EntityKey::Link(id) => self.link(*id).map(|link| Entity::Link(*link)),
            EntityKey::Group(id) => self.group(*id).map(|group| Entity::Group(group.clone())),
            EntityKey::Route(key) => self.route(key).map(Entity::Route),
            EntityKey::Neighbour(key) => self.neighbour(key).map(Entity::Neighbour),
        }
    }

    fn routes(&self, family: Family) -> &BTreeMap<RouteKey, RouteValue> {
        match family {
            Family::V4 => &self.routes4,
            Family::V6 => &self.routes6,
        }
    }

    fn routes_mut(&mut self, family: Family) -> &mut BTreeMap<RouteKey, RouteValue> {
        match family {
            Family::V4 => &mut self.routes4,
            Family::V6 => &mut self.routes6,
        }
    }

    pub(crate) fn put(&mut self, entity: Entity) {
        match entity {
            Entity::Link(link) => {
                if let Some(old) = self.links.insert(link.id.0, link) {
                    if self.link_names.get(&old.name) == Some(&link.id) {
                        self.link_names.remove(&old.name);
                    }
                }
                self.link_names.insert(link.name, link.id);
            }
            Entity::Group(group) => {
                self.groups.insert(group.id.0, group);
            }
            Entity::Route(route) => {
                self.routes_mut(route.key.prefix.family()).insert(route.key, route.value);
            }
            Entity::Neighbour(neighbour) => {
                self.remove(&EntityKey::Neighbour(neighbour.key));
                self.neighbours.insert(neighbour.key, neighbour.value);
                if let Some(mac) = neighbour.value.mac {
                    if self.neighbours_by_mac(mac).next().is_none() {
                        self.mac_count += 1;
                    }
                    self.macs.insert((mac, neighbour.key));
                }
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &EntityKey) {
        match key {
            EntityKey::Link(id) => {
                if let Some(link) = self.links.remove(&id.0) {
                    if self.link_names.get(&link.name) == Some(id) {
                        self.link_names.remove(&link.name);
                    }
                }
            }
            EntityKey::Group(id) => {
                self.groups.remove(&id.0);
            }
            EntityKey::Route(key) => {
                self.routes_mut(key.prefix.family()).remove(key);
            }
            EntityKey::Neighbour(key) => {
                if let Some(NeighbourValue { mac: Some(mac), .. }) = self.neighbours.remove(key) {
                    self.macs.remove(&(mac, *key));
                    if self.neighbours_by_mac(mac).next().is_none() {
                        self.mac_count -= 1;
                    }
                }
            }
        }
    }
}
