//! The store: winners, neighbours, links and groups, as a table or a replica
//! holds them, and how to read them.
//!
//! The parts, from the outside in: [`routes`] (of one family) keeps 32- and
//! 44-byte entries ([`entry`]) in a slab ([`slab`]) and finds them by tries
//! ([`trie`]); rare attributes stand in [`attrs`]; neighbours, links and groups
//! are few and stand in ordered maps. Nothing here allocates per route, and
//! nothing ever moves all there is: growing costs a chunk.
//!
//! The store knows nothing of revisions, sources and digests: its
//! [`crate::Table`] or [`crate::Replica`] keeps these beside it, under the same
//! numbers.

pub(crate) mod attrs;
pub(crate) mod entry;
pub(crate) mod index;
pub(crate) mod neighbours;
mod nodes;
pub(crate) mod routes;
pub(crate) mod slab;
mod trie;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use rtm_model::{
    Digests, Entity, EntityKey, Family, Group, GroupId, HopFlags, Link, LinkId, LinkName, Mac,
    Neighbour, NeighbourKey, NextHop, Prefix, Route, RouteKey, left_aligned,
};

use attrs::AttrsTable;
use entry::{A4, A6, Key, Value};
use neighbours::Neighbours;
use routes::Routes;

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

    /// Goes on after this key, whether it is there or not.
    #[must_use]
    pub fn after(self, key: RouteKey) -> RouteCursor {
        RouteCursor { after: Some(key), ..self }
    }
}

/// Winners, neighbours, links and groups. Read by everyone, written only by
/// its [`crate::Table`] or [`crate::Replica`].
#[derive(Debug, Default)]
pub struct Store {
    pub(crate) routes4: Routes<A4>,
    pub(crate) routes6: Routes<A6>,
    pub(crate) attrs: AttrsTable,
    pub(crate) neighbours: Neighbours,
    pub(crate) links: BTreeMap<u32, Link>,
    pub(crate) link_names: HashMap<LinkName, LinkId, foldhash::fast::RandomState>,
    pub(crate) groups: BTreeMap<u32, Group>,
    /// Groups whose next hops are all dead. While there are none, a lookup
    /// doesn't ask.
    pub(crate) dead_groups: usize,
    pub(crate) digests: Digests,
}

impl Store {
    /// How many routes there are, of both families.
    pub(crate) fn route_count(&self) -> usize {
        self.routes4.len() + self.routes6.len()
    }

    /// How many there are of what.
    pub fn counts(&self) -> StoreCounts {
        StoreCounts {
            routes4: self.routes4.len(),
            routes6: self.routes6.len(),
            neighbours: self.neighbours.len(),
            macs: self.neighbours.macs(),
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
        let usable = |value: Value| self.dead_groups == 0 || !self.is_dead(GroupId(value.group));
        match Family::of(address) {
            Family::V4 => {
                let at = self.routes4.lookup(table, left_aligned(address), usable)?;
                Some(self.routes4.entry(at).route(&self.attrs))
            }
            Family::V6 => {
                let at = self.routes6.lookup(table, left_aligned(address), usable)?;
                Some(self.routes6.entry(at).route(&self.attrs))
            }
        }
    }

    /// The next hops of a group that traffic may take: those not flagged dead.
    pub fn live_hops(&self, group: GroupId) -> impl Iterator<Item = &NextHop> {
        let hops = self.group(group).map_or(&[][..], |group| &group.hops);
        hops.iter().filter(|hop| !hop.flags.contains(HopFlags::DEAD))
    }

    fn is_dead(&self, group: GroupId) -> bool {
        self.group(group).is_some_and(all_dead)
    }

    /// The route of this key.
    pub fn route(&self, key: &RouteKey) -> Option<Route> {
        let found = Key::from(key);
        let value = match key.prefix.family() {
            Family::V4 => self.routes4.entry(self.routes4.find(&found)?).value(),
            Family::V6 => self.routes6.entry(self.routes6.find(&found)?).value(),
        };
        value.is_present().then(|| Route { key: *key, value: value.spelled(&self.attrs) })
    }

    /// The next route in the cursor's range and order.
    pub fn next_route(&self, cursor: &mut RouteCursor) -> Option<Route> {
        let (family, at) = self.next_entry(cursor, false)?;
        Some(match family {
            Family::V4 => self.routes4.entry(at).route(&self.attrs),
            Family::V6 => self.routes6.entry(at).route(&self.attrs),
        })
    }

    /// Moves the cursor over the next entry; `absent`: also over absent ones.
    pub(crate) fn next_entry(
        &self,
        cursor: &mut RouteCursor,
        absent: bool,
    ) -> Option<(Family, u32)> {
        for family in [Family::V4, Family::V6] {
            if cursor.family.is_some_and(|wanted| wanted != family)
                || cursor.after.is_some_and(|key| key.prefix.family() > family)
            {
                continue;
            }
            let after = cursor.after.filter(|key| key.prefix.family() == family);
            let after = after.as_ref().map(Key::from);
            let within = cursor.within.map_or((0, 0), |prefix| (prefix.bits(), prefix.len()));
            let table = cursor.table;
            let found = match family {
                Family::V4 => self.routes4.next(table, within, after.as_ref(), absent),
                Family::V6 => self.routes6.next(table, within, after.as_ref(), absent),
            };
            if let Some(at) = found {
                cursor.after = Some(match family {
                    Family::V4 => self.routes4.entry(at).route_key(),
                    Family::V6 => self.routes6.entry(at).route_key(),
                });
                return Some((family, at));
            }
        }
        None
    }

    /// The routing tables that have a route of this family, ascending.
    pub fn tables(&self, family: Family) -> Vec<u32> {
        match family {
            Family::V4 => self.routes4.tables(),
            Family::V6 => self.routes6.tables(),
        }
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
        let from = after.map_or(Some(0), |id| id.0.checked_add(1))?;
        self.links.range(from..).next().map(|(_, link)| link)
    }

    /// The group of this id.
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id.0)
    }

    /// The next group by id.
    pub fn next_group(&self, after: Option<GroupId>) -> Option<&Group> {
        let from = after.map_or(Some(0), |id| id.0.checked_add(1))?;
        self.groups.range(from..).next().map(|(_, group)| group)
    }

    /// The neighbour of this key.
    pub fn neighbour(&self, key: &NeighbourKey) -> Option<Neighbour> {
        let value = self.neighbours.value(self.neighbours.find(key)?)?;
        Some(Neighbour { key: *key, value })
    }

    /// The next neighbour in the order of their keys.
    pub fn next_neighbour(&self, after: Option<&NeighbourKey>) -> Option<Neighbour> {
        self.neighbours.next(after)
    }

    /// The neighbours that have this MAC address, in the order of their keys.
    pub fn neighbours_by_mac(&self, mac: Mac) -> impl Iterator<Item = Neighbour> {
        self.neighbours.of_mac(mac).filter_map(|key| self.neighbour(&key))
    }

    /// The next MAC address that has a neighbour.
    pub fn next_mac(&self, after: Option<Mac>) -> Option<Mac> {
        self.neighbours.next_mac(after)
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

    /// Bytes taken from the allocator, about.
    pub fn bytes(&self) -> usize {
        let hops: usize = self.groups.values().map(|g| g.hops.len() * size_of::<NextHop>()).sum();
        self.routes4.bytes()
            + self.routes6.bytes()
            + self.attrs.bytes()
            + self.neighbours.bytes()
            + self.links.len() * (size_of::<(u32, Link)>() + size_of::<(LinkName, LinkId)>())
            + self.groups.len() * size_of::<(u32, Group)>()
            + hops
    }

    /// A link is there, or is now this.
    pub(crate) fn put_link(&mut self, link: Link) {
        if let Some(old) = self.links.insert(link.id.0, link) {
            self.forget_name(&old);
        }
        self.link_names.insert(link.name, link.id);
    }

    /// A link is gone.
    pub(crate) fn remove_link(&mut self, id: LinkId) -> Option<Link> {
        let old = self.links.remove(&id.0)?;
        self.forget_name(&old);
        Some(old)
    }

    /// A name is free, unless another link has it by now.
    fn forget_name(&mut self, old: &Link) {
        if self.link_names.get(&old.name) == Some(&old.id) {
            self.link_names.remove(&old.name);
        }
    }

    /// A group is there, or is now this; gives what it was.
    pub(crate) fn put_group(&mut self, group: Group) -> Option<Group> {
        self.dead_groups += usize::from(all_dead(&group));
        let old = self.groups.insert(group.id.0, group);
        self.dead_groups -= usize::from(old.as_ref().is_some_and(all_dead));
        old
    }

    /// A group is gone.
    pub(crate) fn remove_group(&mut self, id: GroupId) -> Option<Group> {
        let old = self.groups.remove(&id.0)?;
        self.dead_groups -= usize::from(all_dead(&old));
        Some(old)
    }
}

impl rtm_model::text::Resolve for Store {
    fn link(&self, id: LinkId) -> Option<Link> {
        Store::link(self, id).copied()
    }

    fn group(&self, id: GroupId) -> Option<Cow<'_, Group>> {
        Store::group(self, id).map(Cow::Borrowed)
    }
}

fn all_dead(group: &Group) -> bool {
    group.hops.iter().all(|hop| hop.flags.contains(HopFlags::DEAD))
}
