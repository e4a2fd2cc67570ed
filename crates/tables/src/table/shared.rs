//! Links and groups: found by name and content, counted by their users.
//!
//! An anonymous group is its list of next hops: equal lists share an id, which
//! is found by a keyed hash over the list. A *named* group belongs to a source
//! under a number and may change; it is never shared by content. Both go when
//! nothing holds them: an anonymous group with its last route, a named one when
//! its source took the name away *and* its last route went.
//!
//! A link is held by the groups and neighbours that name it, and by the source
//! that knows it as an interface of this host.
//!
//! Nothing goes before the transaction ends: what lost its last user is looked
//! at again then. Ids are used again only after that.
//!
//! # Flushes
//! A flush of all routes takes constant time, so it can't count down the users
//! of each group. It counts itself, and a group's count of users holds only for
//! the flush under which it was made: else it is 0. Groups that a flush left
//! without users *stay* (the sources will most likely need them at once); they
//! go with a later sweep ([`super::sweep`]). Links are the same for neighbours.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

use foldhash::quality::RandomState;
use rtm_model::{
    Group, GroupId, HopSpec, Hops, Link, LinkId, LinkName, LinkRef, NeighbourKey, NextHop,
};

use super::open::{Before, TouchedGroup, TouchedLink};
use super::{ChangeError, SourceId, Table};
use crate::record::RecordSink;
use crate::store::index::Index;

/// Who holds a group: one cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(super) struct GroupUse {
    /// Candidates that use it, if `flush` is the newest flush of routes.
    users: u32,
    flush: u32,
    /// Whose named group it is, and its number there.
    pub(super) named: Option<(SourceId, u32)>,
    /// When its source last said so.
    pub(super) stamp: u32,
    /// Its place among the open transaction's touched groups, plus one.
    touched: u32,
    /// Is there such a group?
    pub(super) alive: bool,
    /// Is it a list of next hops, which anybody may use?
    anonymous: bool,
    /// Does it stand among those that linger?
    lingers: bool,
    /// Its only next hop: what interning compares, without going to the group.
    only: Option<NextHop>,
}

const _: () = assert!(size_of::<GroupUse>() == 64);

/// A next hop as the tables have it, found ahead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought {
    hop: NextHop,
    hash: u64,
    /// The group that most likely is this next hop; 0: none.
    likely: u32,
    /// It is so as long as this is.
    links_changed: u64,
}

/// Who holds a link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LinkUse {
    /// Next hops in groups.
    groups: u32,
    /// Neighbours' candidates, if `flush` is the newest flush of neighbours.
    neighbours: u32,
    flush: u32,
    /// Who knows it as an interface of this host, and when it last said so.
    pub(super) host: Option<(SourceId, u32)>,
    /// Its place among the open transaction's touched links, plus one.
    touched: u32,
    /// Is there such a link?
    pub(super) alive: bool,
}

/// All groups and links, apart from what they are.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// By id; 0 is none.
    pub(super) groups: Vec<GroupUse>,
    pub(super) links: Vec<LinkUse>,
    free_groups: Vec<u32>,
    free_links: Vec<u32>,
    /// Anonymous groups by their next hops.
    interned: Index,
    hasher: RandomState,
    pub(super) named: BTreeMap<(SourceId, u32), GroupId>,
    pub(super) ifindexes: HashMap<u32, LinkId>,
    /// Flushes of routes and of neighbours so far.
    route_flushes: u32,
    neighbour_flushes: u32,
    /// Room for the next hops of the change at hand.
    hops: Vec<NextHop>,
    /// Groups that lost their last user in a stream and haven't gone for it, in that
    /// order.
    lingering: VecDeque<u32>,
    /// Counts whenever a link comes, goes or changes: names mean what they meant as long
    /// as it is the same.
    pub(super) links_changed: u64,
}

impl Shared {
    pub(super) fn routes_flushed(&mut self) {
        self.route_flushes += 1;
    }

    pub(super) fn neighbours_flushed(&mut self) {
        self.neighbour_flushes += 1;
    }

    fn users(&self, id: u32) -> u32 {
        let entry = &self.groups[id as usize];
        if entry.flush == self.route_flushes { entry.users } else { 0 }
    }

    fn neighbours(&self, id: u32) -> u32 {
        let entry = &self.links[id as usize];
        if entry.flush == self.neighbour_flushes { entry.neighbours } else { 0 }
    }

    /// Asks for who holds a group.
    #[inline]
    pub(super) fn prefetch_group(&self, id: u32) {
        if let Some(group) = self.groups.get(id as usize) {
            rtm_prefetch::read(group);
        }
    }

    /// Does nothing hold this group?
    pub(super) fn group_is_unused(&self, id: u32) -> bool {
        let entry = &self.groups[id as usize];
        entry.alive && entry.named.is_none() && self.users(id) == 0
    }

    /// Does nothing hold this link?
    pub(super) fn link_is_unused(&self, id: u32) -> bool {
        let entry = &self.links[id as usize];
        entry.alive && entry.groups == 0 && entry.host.is_none() && self.neighbours(id) == 0
    }

    /// Flushes of routes and of neighbours so far.
    pub(super) fn flushes(&self) -> (u32, u32) {
        (self.route_flushes, self.neighbour_flushes)
    }

    /// Has this group had no user since before this many flushes of routes?
    pub(super) fn group_is_left_over(&self, id: u32, flushes: u32) -> bool {
        self.group_is_unused(id) && self.groups[id as usize].flush < flushes
    }

    /// Has this link had no user since before this many flushes of neighbours?
    pub(super) fn link_is_left_over(&self, id: u32, flushes: u32) -> bool {
        self.link_is_unused(id) && self.links[id as usize].flush < flushes
    }

    #[inline]
    pub(super) fn hash(&self, hops: &[NextHop]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for hop in hops {
            let (family, gateway) = match hop.gateway {
                None => (0, 0),
                Some(IpAddr::V4(gateway)) => (4, u128::from(gateway.to_bits())),
                Some(IpAddr::V6(gateway)) => (6, gateway.to_bits()),
            };
            let link = hop.link.map_or(0, |link| u64::from(link.0));
            let (weight, flags) = (u64::from(hop.weight), u64::from(hop.flags.0));
            hasher.write_u128(gateway);
            hasher.write_u64(link | weight << 32 | flags << 48 | family << 56);
        }
        hasher.finish()
    }

    /// The anonymous group of a next hop that was found ahead.
    #[inline]
    fn find_sought(&self, sought: &Sought) -> Option<u32> {
        let likely = self.groups.get(sought.likely as usize)?;
        match likely.alive && likely.anonymous && likely.only == Some(sought.hop) {
            true => Some(sought.likely),
            false => self.find_only(sought.hash, &sought.hop),
        }
    }

    /// The anonymous group of one next hop, which has this hash.
    #[inline]
    fn find_only(&self, hash: u64, only: &NextHop) -> Option<u32> {
        self.interned.find(hash, |id| self.groups[id as usize].only.as_ref() == Some(only))
    }

    /// Would this group be looked at again if one user less held it?
    #[inline]
    pub(super) fn is_last_use(&self, id: u32) -> bool {
        id != 0 && self.groups[id as usize].named.is_none() && self.users(id) <= 1
    }

    /// Bytes taken from the allocator, about.
    pub(super) fn bytes(&self) -> usize {
        self.groups.capacity() * size_of::<GroupUse>()
            + self.links.capacity() * size_of::<LinkUse>()
            + (self.free_groups.capacity() + self.free_links.capacity()) * 4
            + self.interned.bytes()
            + self.named.len() * size_of::<((SourceId, u32), GroupId)>() * 3 / 2
            + self.ifindexes.capacity() * (size_of::<(u32, LinkId)>() + 1)
            + self.lingering.capacity() * 4
    }
}

impl Table {
    /// The link that a feed names, if it exists.
    #[inline]
    pub(super) fn find_link(&self, link: LinkRef) -> Option<LinkId> {
        match link {
            LinkRef::Name(name) => self.store.link_names.get(&name).copied(),
            LinkRef::Ifindex(ifindex) => self.shared.ifindexes.get(&ifindex).copied(),
        }
    }

    /// The link that a feed names; one that is named by name is made.
    pub(super) fn link_of(&mut self, link: LinkRef) -> Result<LinkId, ChangeError> {
        if let Some(id) = self.find_link(link) {
            return Ok(id);
        }
        match link {
            LinkRef::Ifindex(ifindex) => Err(ChangeError::NoLink { ifindex }),
            LinkRef::Name(name) => Ok(self.new_link(name, 0)),
        }
    }

    /// The group of these next hops, which is made if there is none.
    pub(super) fn group_of(
        &mut self,
        source: SourceId,
        hops: &Hops,
    ) -> Result<GroupId, ChangeError> {
        match hops {
            Hops::None => Ok(GroupId::NONE),
            Hops::Named(nhid) => self
                .shared
                .named
                .get(&(source, *nhid))
                .copied()
                .ok_or(ChangeError::NoGroup { nhid: *nhid }),
            Hops::One(hop) => {
                let hop = self.hop_of(hop)?;
                Ok(self.intern(&[hop]))
            }
            Hops::Many(hops) => {
                let mut room = std::mem::take(&mut self.shared.hops);
                let result = self.hops_into(hops, &mut room).map(|()| self.intern(&room));
                room.clear();
                self.shared.hops = room;
                result
            }
        }
    }

    fn hop_of(&mut self, hop: &HopSpec) -> Result<NextHop, ChangeError> {
        let link = match hop.link {
            None => None,
            Some(link) => Some(self.link_of(link)?),
        };
        Ok(NextHop { gateway: hop.gateway, link, weight: hop.weight, flags: hop.flags })
    }

    /// The group of the next change's only next hop, if it exists.
    #[inline]
    pub(super) fn find_group(&self, hop: &HopSpec) -> Option<GroupId> {
        let found = match self.ahead.sought(self.hop_hint) {
            Some(sought) if sought.links_changed == self.shared.links_changed => {
                self.shared.find_sought(sought)
            }
            _ => self.shared.find_sought(&self.seek(hop)?),
        };
        found.map(GroupId)
    }

    /// What a next hop means at present; `None`: its link doesn't exist.
    #[inline]
    pub(super) fn seek(&self, hop: &HopSpec) -> Option<Sought> {
        let link = match hop.link {
            None => None,
            Some(link) => Some(self.find_link(link)?),
        };
        let hop = NextHop { gateway: hop.gateway, link, weight: hop.weight, flags: hop.flags };
        let hash = self.shared.hash(std::slice::from_ref(&hop));
        Some(Sought { hop, hash, likely: 0, links_changed: self.shared.links_changed })
    }

    /// Asks for what finding its group begins with.
    #[inline]
    pub(super) fn prefetch_sought(&self, sought: &Sought) {
        self.shared.interned.prefetch(sought.hash);
    }

    /// Finds the group that it most likely is, and asks for that.
    #[inline]
    pub(super) fn prefetch_hop(&self, sought: &mut Sought) {
        if let Some(id) = self.shared.interned.likely(sought.hash) {
            sought.likely = id;
            self.shared.prefetch_group(id);
        }
    }

    /// Appends next hops as the tables have them; links that don't exist are
    /// made.
    pub(super) fn hops_into(
        &mut self,
        hops: &[HopSpec],
        out: &mut Vec<NextHop>,
    ) -> Result<(), ChangeError> {
        for hop in hops {
            let hop = self.hop_of(hop)?;
            out.push(hop);
        }
        Ok(())
    }

    /// The anonymous group of these next hops.
    pub(super) fn intern(&mut self, hops: &[NextHop]) -> GroupId {
        let hash = self.shared.hash(hops);
        let found = match hops {
            [only] => self.shared.find_only(hash, only),
            _ => self.shared.interned.find(hash, |id| {
                self.store.group(GroupId(id)).is_some_and(|group| group.hops == hops)
            }),
        };
        if let Some(id) = found {
            return GroupId(id);
        }
        let id = self.new_group(0, hops.to_vec());
        self.shared.interned.insert(hash, id.0);
        id
    }

    /// Is this the group that [`Table::intern`] finds for its next hops?
    fn is_interned(&self, group: &Group) -> bool {
        let hash = self.shared.hash(&group.hops);
        self.shared.interned.find(hash, |id| id == group.id.0).is_some()
    }

    /// Can be found by content from now on, unless another group already is.
    fn index_group(&mut self, group: &Group) {
        let hash = self.shared.hash(&group.hops);
        let twin = self.shared.interned.find(hash, |id| {
            self.store.group(GroupId(id)).is_some_and(|other| other.hops == group.hops)
        });
        if twin.is_none() {
            self.shared.interned.insert(hash, group.id.0);
        }
    }

    fn unindex_group(&mut self, group: &Group) {
        if self.is_interned(group) {
            let hash = self.shared.hash(&group.hops);
            self.shared.interned.remove(hash, group.id.0);
        }
    }

    pub(super) fn new_group(&mut self, nhid: u32, hops: Vec<NextHop>) -> GroupId {
        let shared = &mut self.shared;
        let id = shared.free_groups.pop().unwrap_or_else(|| {
            if shared.groups.is_empty() {
                shared.groups.push(GroupUse::default()); // Id 0 is no group.
            }
            shared.groups.push(GroupUse::default());
            shared.groups.len() as u32 - 1
        });
        let flush = shared.route_flushes;
        let anonymous = nhid == 0;
        shared.groups[id as usize] =
            GroupUse { alive: true, anonymous, flush, ..GroupUse::default() };
        let group = Group { id: GroupId(id), nhid, hops };
        self.touch_group(group.id, || Before::Nothing);
        self.put_group(group);
        GroupId(id)
    }

    /// A group's content is now this, in the open transaction.
    pub(super) fn change_group(&mut self, group: Group) {
        let id = group.id;
        let old = self.store.group(id).cloned();
        self.touch_group(id, || old.map_or(Before::Nothing, Before::Was));
        self.put_group(group);
    }

    /// Puts a group's content in, counts its links, and keeps anonymous ones
    /// findable.
    fn put_group(&mut self, group: Group) {
        for link in group.hops.iter().filter_map(|hop| hop.link) {
            self.shared.links[link.0 as usize].groups += 1;
        }
        let only = match &group.hops[..] {
            [only] => Some(*only),
            _ => None,
        };
        self.shared.groups[group.id.0 as usize].only = only;
        if let Some(old) = self.store.group(group.id).cloned() {
            if old.nhid == 0 {
                self.unindex_group(&old);
            }
            self.forget_links(&old);
            if group.nhid == 0 {
                self.index_group(&group);
            }
        }
        self.store.put_group(group);
    }

    fn forget_links(&mut self, group: &Group) {
        for link in group.hops.iter().filter_map(|hop| hop.link) {
            self.shared.links[link.0 as usize].groups -= 1;
            if self.shared.link_is_unused(link.0) {
                self.touch_link(link);
            }
        }
    }

    /// Takes a group out; its id stays taken until [`Table::free_group`].
    pub(super) fn take_group(&mut self, id: GroupId) -> Option<Group> {
        let group = self.store.remove_group(id)?;
        if group.nhid == 0 {
            self.unindex_group(&group);
        }
        self.forget_links(&group);
        self.shared.groups[id.0 as usize].alive = false;
        Some(group)
    }

    /// A group's id may be used again.
    pub(super) fn free_group(&mut self, id: GroupId) {
        self.shared.groups[id.0 as usize] = GroupUse::default();
        self.shared.free_groups.push(id.0);
    }

    #[inline]
    pub(super) fn use_group(&mut self, group: u32) {
        if group == 0 {
            return;
        }
        let flush = self.shared.route_flushes;
        let entry = &mut self.shared.groups[group as usize];
        if entry.flush != flush {
            (entry.flush, entry.users) = (flush, 0);
        }
        entry.users += 1;
    }

    #[inline]
    pub(super) fn release_group(&mut self, group: u32) {
        if group == 0 {
            return;
        }
        let entry = &mut self.shared.groups[group as usize];
        entry.users -= 1;
        if entry.users > 0 || entry.named.is_some() {
            return;
        }
        if !self.may_linger(group) {
            return self.touch_group(GroupId(group), || Before::Same);
        }
        if !std::mem::replace(&mut self.shared.groups[group as usize].lingers, true) {
            self.shared.lingering.push_back(group);
        }
    }

    /// Does this group stay for a while when its last user goes? In a stream those that
    /// go most often come back, and each time they would be a record to everybody.
    #[inline]
    pub(super) fn may_linger(&self, group: u32) -> bool {
        self.in_stream && self.shared.groups[group as usize].anonymous
    }

    /// Groups that linger (some of them may be used again by now). While there are any,
    /// [`Table::collect`] wants to be called after a while.
    pub fn lingering(&self) -> usize {
        self.shared.lingering.len()
    }

    /// Of the groups that linger the first `count` go, but for those that are used again,
    /// as one transaction. While a large atomic load is open nothing happens.
    pub fn collect(&mut self, count: usize, out: &mut dyn RecordSink) {
        if self.is_staging() {
            return;
        }
        self.open.begin(None, self.sweeps.len());
        for _ in 0..count {
            let Some(id) = self.shared.lingering.pop_front() else { break };
            // It may have gone by a transaction, and another one come under its number.
            let lingers = std::mem::take(&mut self.shared.groups[id as usize].lingers);
            if lingers && self.shared.group_is_unused(id) {
                self.touch_group(GroupId(id), || Before::Same);
            }
        }
        self.commit(out);
    }

    /// The open transaction touches a group, which was `before`.
    pub(super) fn touch_group(&mut self, id: GroupId, before: impl FnOnce() -> Before<Group>) {
        let entry = &mut self.shared.groups[id.0 as usize];
        if entry.touched == 0 {
            let (named, stamp) = (entry.named, entry.stamp);
            self.open.touch_group(TouchedGroup { id, before: before(), named, stamp });
            entry.touched = self.open.groups.len() as u32;
            return;
        }
        let touched = &mut self.open.groups[entry.touched as usize - 1];
        if matches!(touched.before, Before::Same) {
            touched.before = before();
        }
    }

    pub(super) fn untouch_group(&mut self, id: GroupId) {
        self.shared.groups[id.0 as usize].touched = 0;
    }

    /// Puts a group back to what it was before the open transaction.
    pub(super) fn restore_group(&mut self, touched: TouchedGroup) {
        let TouchedGroup { id, before, named, stamp } = touched;
        if let Some(name) = self.shared.groups[id.0 as usize].named {
            self.shared.named.remove(&name);
        }
        if let Some(name) = named {
            self.shared.named.insert(name, id);
        }
        let entry = &mut self.shared.groups[id.0 as usize];
        (entry.named, entry.stamp, entry.touched) = (named, stamp, 0);
        match before {
            Before::Same => {}
            Before::Was(group) => self.put_group(group),
            Before::Nothing => {
                self.take_group(id);
                self.free_group(id);
                return;
            }
        }
        if self.shared.group_is_unused(id.0) {
            // A flush left it, and so it is again.
            let flushes = self.shared.route_flushes;
            self.shared.groups[id.0 as usize].flush = flushes.saturating_sub(1);
        }
    }

    /// A source has this group under a number.
    pub(super) fn name_group(&mut self, id: GroupId, source: SourceId, nhid: u32) {
        self.touch_group(id, || Before::Same);
        self.shared.named.insert((source, nhid), id);
        let stamp = self.stamp;
        let entry = &mut self.shared.groups[id.0 as usize];
        (entry.named, entry.stamp) = (Some((source, nhid)), stamp);
    }

    /// Its source no longer has it.
    pub(super) fn unname_group(&mut self, id: GroupId) {
        self.touch_group(id, || Before::Same);
        if let Some(name) = self.shared.groups[id.0 as usize].named.take() {
            self.shared.named.remove(&name);
        }
    }

    pub(super) fn new_link(&mut self, name: LinkName, ifindex: u32) -> LinkId {
        let shared = &mut self.shared;
        let id = shared.free_links.pop().unwrap_or_else(|| {
            if shared.links.is_empty() {
                shared.links.push(LinkUse::default()); // Id 0 is no link.
            }
            shared.links.push(LinkUse::default());
            shared.links.len() as u32 - 1
        });
        let flush = shared.neighbour_flushes;
        shared.links[id as usize] = LinkUse { alive: true, flush, ..LinkUse::default() };
        let id = LinkId(id);
        self.touch_link_was(id, || Before::Nothing);
        self.put_link(Link { id, name, ifindex });
        id
    }

    /// A link's name or number is now this, in the open transaction.
    pub(super) fn change_link(&mut self, link: Link) {
        let old = self.store.link(link.id).copied();
        self.touch_link_was(link.id, || old.map_or(Before::Nothing, Before::Was));
        self.put_link(link);
    }

    fn put_link(&mut self, link: Link) {
        self.shared.links_changed += 1;
        if let Some(old) = self.store.link(link.id).copied() {
            self.forget_ifindex(&old);
        }
        if link.ifindex != 0 {
            self.shared.ifindexes.insert(link.ifindex, link.id);
        }
        self.store.put_link(link);
    }

    fn forget_ifindex(&mut self, old: &Link) {
        if self.shared.ifindexes.get(&old.ifindex) == Some(&old.id) {
            self.shared.ifindexes.remove(&old.ifindex);
        }
    }

    /// Takes a link out; its id stays taken until [`Table::free_link`].
    pub(super) fn take_link(&mut self, id: LinkId) -> Option<Link> {
        let link = self.store.remove_link(id)?;
        self.shared.links_changed += 1;
        self.forget_ifindex(&link);
        self.shared.links[id.0 as usize].alive = false;
        Some(link)
    }

    /// A link's id may be used again.
    pub(super) fn free_link(&mut self, id: LinkId) {
        self.shared.links[id.0 as usize] = LinkUse::default();
        self.shared.free_links.push(id.0);
    }

    pub(super) fn use_link(&mut self, id: LinkId) {
        let flush = self.shared.neighbour_flushes;
        let entry = &mut self.shared.links[id.0 as usize];
        if entry.flush != flush {
            (entry.flush, entry.neighbours) = (flush, 0);
        }
        entry.neighbours += 1;
    }

    pub(super) fn release_link(&mut self, id: LinkId) {
        self.shared.links[id.0 as usize].neighbours -= 1;
        if self.shared.link_is_unused(id.0) {
            self.touch_link(id);
        }
    }

    pub(super) fn touch_link(&mut self, id: LinkId) {
        self.touch_link_was(id, || Before::Same);
    }

    fn touch_link_was(&mut self, id: LinkId, before: impl FnOnce() -> Before<Link>) {
        let entry = &mut self.shared.links[id.0 as usize];
        if entry.touched == 0 {
            let host = entry.host;
            self.open.touch_link(TouchedLink { id, before: before(), host });
            entry.touched = self.open.links.len() as u32;
            return;
        }
        let touched = &mut self.open.links[entry.touched as usize - 1];
        if matches!(touched.before, Before::Same) {
            touched.before = before();
        }
    }

    pub(super) fn untouch_link(&mut self, id: LinkId) {
        self.shared.links[id.0 as usize].touched = 0;
    }

    /// Puts a link back to what it was before the open transaction.
    pub(super) fn restore_link(&mut self, touched: TouchedLink) {
        let TouchedLink { id, before, host } = touched;
        let entry = &mut self.shared.links[id.0 as usize];
        (entry.host, entry.touched) = (host, 0);
        match before {
            Before::Same => {}
            Before::Was(link) => self.put_link(link),
            Before::Nothing => {
                self.take_link(id);
                self.free_link(id);
                return;
            }
        }
        if self.shared.link_is_unused(id.0) {
            // A flush left it, and so it is again.
            let flushes = self.shared.neighbour_flushes;
            self.shared.links[id.0 as usize].flush = flushes.saturating_sub(1);
        }
    }

    /// A source knows this link as an interface of this host.
    pub(super) fn host_link(&mut self, id: LinkId, source: SourceId) {
        self.touch_link(id);
        self.shared.links[id.0 as usize].host = Some((source, self.stamp));
    }

    /// The link is no longer on this host.
    pub(super) fn unhost_link(&mut self, id: LinkId) {
        self.touch_link(id);
        self.shared.links[id.0 as usize].host = None;
        if let Some(link) = self.store.link(id).copied().filter(|link| link.ifindex != 0) {
            self.change_link(Link { ifindex: 0, ..link });
        }
    }

    /// What uses `old` uses `new` from here on; `old` goes, without users, when
    /// the transaction ends.
    ///
    /// Groups change their content, one record each, and may become equal to
    /// others: such twins stay apart until one goes, since the routes of one
    /// may be a million.
    pub(super) fn merge_links(&mut self, old: LinkId, new: LinkId) {
        self.unhost_link(old);
        // Its name is about to be another's: to be put back, if this is undone.
        if let Some(link) = self.store.link(old).copied() {
            self.touch_link_was(old, || Before::Was(link));
        }
        let uses = |group: &&Group| group.hops.iter().any(|hop| hop.link == Some(old));
        let groups: Vec<Group> = self.store.groups.values().filter(uses).cloned().collect();
        for mut group in groups {
            for hop in group.hops.iter_mut().filter(|hop| hop.link == Some(old)) {
                hop.link = Some(new);
            }
            self.change_group(group);
        }
        let mut cursor = None;
        while let Some(neighbour) = self.store.neighbours.next_number(cursor.as_ref()) {
            let (key, at) = neighbour;
            cursor = Some(key);
            if key.link != Some(old) {
                continue;
            }
            let moved = NeighbourKey { link: Some(new), ..key };
            for offer in self.neighbour_offers(at) {
                self.offer_neighbour(at, offer.source, None);
                if self.link_is_swept(old, offer.source, offer.stamp) {
                    continue;
                }
                let there = self.neighbour_no(&moved);
                let taken =
                    self.neighbour_offers(there).iter().any(|other| other.source == offer.source);
                if !taken {
                    self.offer_neighbour(there, offer.source, Some(offer.value));
                }
            }
        }
    }
}
