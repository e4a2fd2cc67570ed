//! Views: what all sessions with the same filter share.
//!
//! View 0 is everything; each filter in use has one more. A view has its own
//! journal of what passes its filter, its own digests, and a mark that is
//! encoded once a turn. So a session is a view and a place in its journal,
//! whether it filters or not, and a change that no filter matches costs its
//! sessions nothing: their journal didn't move.
//!
//! ```text
//!              record                      record
//!   table ------------------> view 0 ...      |   matches? before, after
//!                                             v
//!                              members: which links and groups its routes use
//!                              digests, journal, mark
//! ```
//!
//! **Members.** A filtered session gets exactly the links and groups that its
//! routes and neighbours use. So the view counts users: when the first comes,
//! the group (and before it its links) is set, out of the [`Catalog`]; when at
//! the end of a transaction none is left, it is deleted. A whole flush leaves
//! members without users in place, as the table does, until the table deletes
//! them. Each member remembers the revision at which it entered or last
//! changed, and each that left when it did: that is what who catches up is
//! told ([`crate::walk`]).
//!
//! **Building.** A new view scans the table in key order, in slices. A record
//! whose key the scan has passed counts at once, one that it has yet to meet is
//! left to it: each entity is counted once, with its newest value.

use std::collections::{BTreeMap, HashMap};

use rtm_model::text::Filter;
use rtm_model::{
    Digester, Digests, EntityKey, EntityKind, Family, Mac, NeighbourKey, RouteKey, canonical,
};

use crate::Millis;
use crate::catalog::{Catalog, group_of, id_of, link_of, links_of};
use crate::filter::{self, Facts};
use crate::journal::{Journal, Place};
use crate::keys::{self, KeyChange, Keys};
use crate::record::{Flush, Record, RecordOp, Revision};
use crate::session::Owner;
use crate::store::{RouteCursor, Store};
use crate::wire::{DaemonFrame, MARK_BYTES};

/// A group of the view.
pub(crate) struct GroupMember {
    /// Routes that use it.
    routes: u32,
    /// When it entered or last changed.
    pub(crate) changed: Revision,
    hash: u128,
    links: Box<[u32]>,
}

/// A link of the view.
pub(crate) struct LinkMember {
    /// Next hops of member groups that use it.
    hops: u32,
    /// Neighbours that use it.
    neighbours: u32,
    /// When it entered or last changed.
    pub(crate) changed: Revision,
    hash: u128,
}

#[derive(Default)]
pub(crate) struct Members {
    pub(crate) groups: BTreeMap<u32, GroupMember>,
    pub(crate) links: BTreeMap<u32, LinkMember>,
    /// Those that left: when. An id that the table gives to another link or
    /// group stays here until that one is a member: it must be deleted at whoever
    /// had the first. Ids are given again, so this is bounded by how many there
    /// were at one time.
    left_groups: BTreeMap<u32, Revision>,
    left_links: BTreeMap<u32, Revision>,
    /// Lost a user in the open transaction.
    touched_groups: Vec<u32>,
    touched_links: Vec<u32>,
}

/// How far the scan of a new view has come.
enum Build {
    /// Links and groups aren't all in the catalog yet.
    Catalog,
    Routes(RouteCursor, Option<RouteKey>),
    Neighbours(Option<NeighbourKey>),
    Done,
}

pub(crate) struct View {
    /// `None`: everything.
    pub(crate) filter: Option<Filter>,
    pub(crate) journal: Journal,
    pub(crate) digests: Digests,
    pub(crate) members: Members,
    macs: HashMap<Mac, u32>,
    /// Mode `keys`: of neighbours only their MAC addresses are told.
    pub(crate) keys: Option<Keys>,
    build: Build,
    /// The revision at which it was built: of members that left before,
    /// nothing is known.
    pub(crate) built: Revision,
    /// Counts how often it was built.
    pub(crate) serial: u64,

    /// The MARK of the turn in which the journal last moved, and its revision.
    pub(crate) mark: Vec<u8>,
    pub(crate) mark_revision: Revision,
    /// Has the journal moved since it was last published?
    pub(crate) fresh: bool,

    /// Who brought the filter; `None`: an administrator.
    pub(crate) brought_by: Option<Owner>,
    /// Sessions that follow it; since when there are none.
    pub(crate) users: u32,
    pub(crate) idle_since: Millis,
    /// Sessions (slots of the hub) with nothing to send until it moves.
    pub(crate) waiters: Vec<u32>,
    /// Until then its snapshots are not shared: one was larger than allowed.
    pub(crate) alone_until: Millis,
}

/// What a view needs of its hub for one record.
pub(crate) struct Around<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) digester: &'a Digester,
    pub(crate) now: Millis,
}

impl View {
    /// View 0, or one of a filter that is yet to be built.
    pub(crate) fn new(filter: Option<Filter>, journal_bytes: usize, revision: Revision) -> View {
        let build = if filter.is_some() { Build::Catalog } else { Build::Done };
        View {
            filter,
            journal: Journal::new(journal_bytes, revision),
            digests: Digests::default(),
            members: Members::default(),
            macs: HashMap::new(),
            keys: None,
            build,
            built: revision,
            serial: 0,
            mark: Vec::with_capacity(MARK_BYTES),
            mark_revision: revision,
            fresh: false,
            brought_by: None,
            users: 0,
            idle_since: 0,
            waiters: Vec::new(),
            alone_until: 0,
        }
    }

    /// The same, but of neighbours only the keys are told.
    pub(crate) fn with_keys(mut self) -> View {
        self.keys = Some(Keys::default());
        self
    }

    /// Can sessions be served?
    pub(crate) fn is_built(&self) -> bool {
        matches!(self.build, Build::Done)
    }

    /// Where to go on in the journal for who has the state of `revision`, if it
    /// is still there. `revision` must be published.
    pub(crate) fn find(&self, revision: Revision) -> Option<Place> {
        // What came since the last record that passed the filter changed nothing.
        if self.is_built() && revision >= self.journal.visible().revision {
            return Some(self.journal.visible());
        }
        self.journal.find(revision)
    }

    /// Encodes the turn's mark and makes what was appended visible.
    pub(crate) fn publish(&mut self, revision: Revision) {
        self.journal.publish();
        self.mark.clear();
        let mark = DaemonFrame::Mark { revision, digests: self.digests, ask: false };
        mark.encode(&mut self.mark);
        self.mark_revision = revision;
        self.fresh = false;
        if let Some(keys) = &mut self.keys {
            keys.end_turn();
        }
    }

    /// A record of the table, for a filtered view. The facts are those of the
    /// entity after and before it.
    pub(crate) fn record(
        &mut self,
        record: &Record<'_>,
        after: Option<&Facts>,
        before: Option<&Facts>,
        around: &Around<'_>,
    ) {
        match record.kind {
            EntityKind::Link | EntityKind::Group => self.resolver_record(record, around),
            EntityKind::Route4 | EntityKind::Route6 | EntityKind::Neighbour => {
                if self.has_passed(record.kind, record.body) {
                    self.entity_record(record, after, before, around);
                }
            }
        }
        if record.last {
            self.end_transaction(record.revision, around);
        }
    }

    /// A link or group changed or went.
    fn resolver_record(&mut self, record: &Record<'_>, around: &Around<'_>) {
        let id = id_of(record.body);
        match (record.kind, record.op) {
            (EntityKind::Link, RecordOp::Set) => {
                let hash = around.digester.hash(EntityKind::Link, record.body);
                let Some(member) = self.members.links.get_mut(&id) else { return };
                self.digests.links.remove(std::mem::replace(&mut member.hash, hash));
                self.digests.links.add(hash);
                member.changed = record.revision;
                self.emit(RecordOp::Set, EntityKind::Link, record.revision, record.body, around);
            }
            (_, RecordOp::Set) => {
                if !self.members.groups.contains_key(&id) {
                    return;
                }
                let links: Box<[u32]> = links_of(record.body).collect();
                for &link in &links {
                    self.link_used(link, false, record.revision, around);
                }
                let hash = around.digester.hash(EntityKind::Group, record.body);
                let Some(member) = self.members.groups.get_mut(&id) else { return };
                self.digests.links.remove(std::mem::replace(&mut member.hash, hash));
                self.digests.links.add(hash);
                member.changed = record.revision;
                let old = std::mem::replace(&mut member.links, links);
                self.emit(RecordOp::Set, EntityKind::Group, record.revision, record.body, around);
                for &link in &old {
                    self.link_unused(link, false);
                }
            }
            // A member without users, left by a flush, goes with the table's.
            (EntityKind::Link, RecordOp::Delete) => self.members.touched_links.push(id),
            (_, RecordOp::Delete) => self.members.touched_groups.push(id),
        }
    }

    /// A route or a neighbour changed or went.
    fn entity_record(
        &mut self,
        record: &Record<'_>,
        after: Option<&Facts>,
        before: Option<&Facts>,
        around: &Around<'_>,
    ) {
        let Some(filter) = &self.filter else { return };
        let was = before.is_some_and(|facts| filter::matches(filter, facts));
        let is = record.op == RecordOp::Set && after.is_some_and(|f| filter::matches(filter, f));
        if record.kind == EntityKind::Neighbour && self.keys.is_some() {
            let mac = if is { mac_of(record.body) } else { None };
            let had = if was { mac_of(record.before) } else { None };
            return self.key_record(mac, had, record.revision, around);
        }
        if is {
            self.count_in(record.kind, record.body, record.revision, around);
            self.emit(RecordOp::Set, record.kind, record.revision, record.body, around);
        } else if was {
            let key = &record.body[..record.kind.key_bytes()];
            self.emit(RecordOp::Delete, record.kind, record.revision, key, around);
        }
        if was {
            self.count_out(record.kind, record.before, around);
        }
    }

    /// A neighbour that passes has this MAC address now, and had that one.
    fn key_record(
        &mut self,
        mac: Option<Mac>,
        had: Option<Mac>,
        revision: Revision,
        around: &Around<'_>,
    ) {
        if let Some(mac) = mac {
            self.key_in(mac, revision, around);
        }
        let Some(had) = had else { return };
        let Some(keys) = &mut self.keys else { return };
        match keys.remove(had, revision) {
            Some(KeyChange::Went) => {
                self.digests.keys.remove(around.digester.mac(had));
                let kind = EntityKind::Neighbour;
                self.emit(RecordOp::Delete, kind, revision, &keys::bytes_of(had), around);
            }
            Some(_) => self.key_touched(had, revision, around),
            None => {}
        }
    }

    fn key_in(&mut self, mac: Mac, revision: Revision, around: &Around<'_>) {
        let Some(keys) = &mut self.keys else { return };
        if keys.add(mac, revision) == KeyChange::Came {
            self.digests.keys.add(around.digester.mac(mac));
        }
        self.key_touched(mac, revision, around);
    }

    fn key_touched(&mut self, mac: Mac, revision: Revision, around: &Around<'_>) {
        if self.is_built() && self.keys.as_mut().is_some_and(|keys| keys.is_news(mac)) {
            let kind = EntityKind::Neighbour;
            self.emit(RecordOp::Set, kind, revision, &keys::bytes_of(mac), around);
        }
    }

    /// An entity passes: its hash counts, and so do its group or link and MAC.
    fn count_in(&mut self, kind: EntityKind, body: &[u8], revision: Revision, around: &Around<'_>) {
        if kind == EntityKind::Neighbour && self.keys.is_some() {
            if let Some(mac) = mac_of(body) {
                self.key_in(mac, revision, around);
            }
            return;
        }
        self.digests.section(kind).add(around.digester.hash(kind, body));
        if kind != EntityKind::Neighbour {
            self.group_used(group_of(kind, body), revision, around);
            return;
        }
        self.link_used(link_of(body), true, revision, around);
        if let Some(mac) = mac_of(body) {
            let users = self.macs.entry(mac).or_default();
            *users += 1;
            if *users == 1 {
                self.digests.keys.add(around.digester.mac(mac));
            }
        }
    }

    fn count_out(&mut self, kind: EntityKind, body: &[u8], around: &Around<'_>) {
        self.digests.section(kind).remove(around.digester.hash(kind, body));
        if kind != EntityKind::Neighbour {
            self.group_unused(group_of(kind, body));
            return;
        }
        self.link_unused(link_of(body), true);
        if let Some(mac) = mac_of(body) {
            if let Some(users) = self.macs.get_mut(&mac) {
                *users -= 1;
                if *users == 0 {
                    self.macs.remove(&mac);
                    self.digests.keys.remove(around.digester.mac(mac));
                }
            }
        }
    }

    fn group_used(&mut self, id: u32, revision: Revision, around: &Around<'_>) {
        if id == 0 {
            return;
        }
        if let Some(member) = self.members.groups.get_mut(&id) {
            member.routes += 1;
            return;
        }
        let Some(body) = around.catalog.group(id) else {
            debug_assert!(false, "a route's group {id} is not in the catalog");
            return;
        };
        let links: Box<[u32]> = links_of(body).collect();
        for &link in &links {
            self.link_used(link, false, revision, around);
        }
        let hash = around.digester.hash(EntityKind::Group, body);
        self.digests.links.add(hash);
        self.members.groups.insert(id, GroupMember { routes: 1, changed: revision, hash, links });
        self.members.left_groups.remove(&id);
        self.emit(RecordOp::Set, EntityKind::Group, revision, body, around);
    }

    fn group_unused(&mut self, id: u32) {
        if let Some(member) = self.members.groups.get_mut(&id) {
            member.routes = member.routes.saturating_sub(1);
            if member.routes == 0 {
                self.members.touched_groups.push(id);
            }
        }
    }

    fn link_used(&mut self, id: u32, by_neighbour: bool, revision: Revision, around: &Around<'_>) {
        if id == 0 {
            return;
        }
        if !self.members.links.contains_key(&id) {
            let Some(body) = around.catalog.link(id) else {
                debug_assert!(false, "link {id} is not in the catalog");
                return;
            };
            let hash = around.digester.hash(EntityKind::Link, body);
            self.digests.links.add(hash);
            let member = LinkMember { hops: 0, neighbours: 0, changed: revision, hash };
            self.members.links.insert(id, member);
            self.members.left_links.remove(&id);
            self.emit(RecordOp::Set, EntityKind::Link, revision, body, around);
        }
        if let Some(member) = self.members.links.get_mut(&id) {
            *(if by_neighbour { &mut member.neighbours } else { &mut member.hops }) += 1;
        }
    }

    fn link_unused(&mut self, id: u32, by_neighbour: bool) {
        if let Some(member) = self.members.links.get_mut(&id) {
            let users = if by_neighbour { &mut member.neighbours } else { &mut member.hops };
            *users = users.saturating_sub(1);
            if member.hops == 0 && member.neighbours == 0 {
                self.members.touched_links.push(id);
            }
        }
    }

    /// Deletes the members that the transaction left without users, groups
    /// before their links, and closes it.
    fn end_transaction(&mut self, revision: Revision, around: &Around<'_>) {
        for id in std::mem::take(&mut self.members.touched_groups) {
            if self.members.groups.get(&id).is_none_or(|member| member.routes > 0) {
                continue;
            }
            let Some(member) = self.members.groups.remove(&id) else { continue };
            self.digests.links.remove(member.hash);
            self.members.left_groups.insert(id, revision);
            let key = u64::from(id).to_le_bytes();
            self.emit(RecordOp::Delete, EntityKind::Group, revision, &key, around);
            for &link in &member.links {
                self.link_unused(link, false);
            }
        }
        for id in std::mem::take(&mut self.members.touched_links) {
            let unused = |member: &LinkMember| member.hops == 0 && member.neighbours == 0;
            if !self.members.links.get(&id).is_some_and(unused) {
                continue;
            }
            let Some(member) = self.members.links.remove(&id) else { continue };
            self.digests.links.remove(member.hash);
            self.members.left_links.insert(id, revision);
            let key = u64::from(id).to_le_bytes();
            self.emit(RecordOp::Delete, EntityKind::Link, revision, &key, around);
        }
        self.journal.end_transaction(revision);
    }

    /// A whole flush.
    pub(crate) fn flush(&mut self, revision: Revision, what: Flush, now: Millis) {
        let Some(filter) = &self.filter else { return };
        let rules = filter.rules();
        let what = Flush {
            routes: what.routes && rules.routes,
            neighbours: what.neighbours && rules.neighbours,
        };
        if !what.routes && !what.neighbours {
            return;
        }
        if what.routes {
            self.digests.routes = rtm_model::Digest::default();
            self.members.groups.values_mut().for_each(|member| member.routes = 0);
        }
        if what.neighbours {
            self.digests.neighbours = rtm_model::Digest::default();
            self.digests.keys = rtm_model::Digest::default();
            self.members.links.values_mut().for_each(|member| member.neighbours = 0);
            self.macs.clear();
            if let Some(keys) = &mut self.keys {
                keys.flush();
            }
        }
        if self.is_built() {
            self.journal.append_flush(revision, what, now);
            self.fresh = true;
        }
    }

    fn emit(
        &mut self,
        op: RecordOp,
        kind: EntityKind,
        revision: Revision,
        body: &[u8],
        around: &Around<'_>,
    ) {
        if self.is_built() {
            self.journal.append_parts(op, kind, revision, false, body, around.now);
            self.fresh = true;
        }
    }

    /// More happened than records can say: it is to be built anew.
    pub(crate) fn leap(&mut self, revision: Revision) {
        self.journal.leap(revision);
        if self.filter.is_none() {
            self.fresh = true;
            return;
        }
        self.digests = Digests::default();
        self.members = Members::default();
        self.macs.clear();
        self.keys = self.keys.take().map(|_| Keys::default());
        self.build = Build::Catalog;
        self.serial += 1;
        self.fresh = false;
    }

    /// Has the scan passed this key (or is it complete)?
    fn has_passed(&self, kind: EntityKind, body: &[u8]) -> bool {
        let key = || EntityKey::decode(kind, &body[..kind.key_bytes()]).ok();
        match &self.build {
            Build::Done => true,
            Build::Catalog => false,
            Build::Routes(_, after) => match (key(), after) {
                (Some(EntityKey::Route(key)), Some(after)) => in_order(&key) <= in_order(after),
                _ => false,
            },
            Build::Neighbours(after) => match (key(), after) {
                (Some(EntityKey::Route(_)), _) => true,
                (Some(EntityKey::Neighbour(key)), Some(after)) => key <= *after,
                _ => false,
            },
        }
    }

    /// Goes on building, at most `budget` entities; true when it is done, at
    /// the table's present revision.
    pub(crate) fn build(
        &mut self,
        store: &Store,
        revision: Revision,
        around: &Around<'_>,
        budget: &mut usize,
    ) -> bool {
        let Some(filter) = self.filter.clone() else { return true };
        let mut bytes = Vec::new();
        while *budget > 0 {
            *budget -= 1;
            bytes.clear();
            let kind = match &mut self.build {
                Build::Done => return true,
                Build::Catalog => {
                    if !around.catalog.is_complete() {
                        return false;
                    }
                    self.build = if filter.rules().routes {
                        Build::Routes(cursor_of(&filter), None)
                    } else {
                        Build::Neighbours(None)
                    };
                    continue;
                }
                Build::Routes(cursor, after) => match store.next_route(cursor) {
                    Some(route) => {
                        *after = Some(route.key);
                        canonical::encode_route(&route.key, &route.value, &mut bytes);
                        EntityKind::route(route.key.prefix.family())
                    }
                    None => {
                        self.build = Build::Neighbours(None);
                        continue;
                    }
                },
                Build::Neighbours(after) => {
                    let next = match filter.rules().neighbours {
                        true => store.next_neighbour(after.as_ref()),
                        false => None,
                    };
                    match next {
                        Some(neighbour) => {
                            *after = Some(neighbour.key);
                            canonical::encode_neighbour(&neighbour, &mut bytes);
                            EntityKind::Neighbour
                        }
                        None => {
                            self.built(revision);
                            return true;
                        }
                    }
                }
            };
            let passes = Facts::read(kind, &bytes).is_some_and(|f| filter::matches(&filter, &f));
            if passes {
                self.count_in(kind, &bytes, revision, around);
            }
        }
        false
    }

    fn built(&mut self, revision: Revision) {
        self.build = Build::Done;
        self.built = revision;
        // When they entered before the view was there, nobody knows.
        self.members.groups.values_mut().for_each(|member| member.changed = revision);
        self.members.links.values_mut().for_each(|member| member.changed = revision);
        self.members.left_groups.clear();
        self.members.left_links.clear();
        if let Some(keys) = &mut self.keys {
            keys.built(revision);
        }
        self.journal.leap(revision);
        self.publish(revision);
    }

    /// Can who has the state of `from` be told what changed since, by a walk?
    pub(crate) fn can_tell_since(&self, from: Revision) -> bool {
        self.keys.as_ref().is_none_or(|keys| self.is_built() && keys.reaches(from))
    }

    /// Since when this link or group isn't a member.
    pub(crate) fn left(&self, kind: EntityKind, id: u32) -> Revision {
        let left = match kind {
            EntityKind::Link => &self.members.left_links,
            _ => &self.members.left_groups,
        };
        left.get(&id).copied().unwrap_or(self.built)
    }

    /// The next of those that left, links first, after (kind, id).
    pub(crate) fn next_left(
        &self,
        after: (EntityKind, u32),
    ) -> Option<(EntityKind, u32, Revision)> {
        use std::ops::Bound::{Excluded, Unbounded};
        if after.0 == EntityKind::Link {
            let mut links = self.members.left_links.range((Excluded(after.1), Unbounded));
            if let Some((&id, &revision)) = links.next() {
                return Some((EntityKind::Link, id, revision));
            }
        }
        let after = if after.0 == EntityKind::Link { 0 } else { after.1 };
        let mut groups = self.members.left_groups.range((Excluded(after), Unbounded));
        groups.next().map(|(&id, &revision)| (EntityKind::Group, id, revision))
    }

    /// Bytes that it takes, without its journal, about.
    pub(crate) fn bytes(&self) -> usize {
        self.members.groups.len() * 128
            + self.members.links.len() * 96
            + self.macs.len() * 24
            + self.keys.as_ref().map_or(0, Keys::bytes)
    }
}

/// The order of a [`RouteCursor`]: family first.
fn in_order(key: &RouteKey) -> (Family, &RouteKey) {
    (key.prefix.family(), key)
}

/// The narrowest range of routes that holds all that can match.
fn cursor_of(filter: &Filter) -> RouteCursor {
    let rules = filter.rules();
    let mut cursor = match (&rules.prefixes[..], rules.family) {
        ([prefix], _) => RouteCursor::all().within(*prefix),
        (_, Some(family)) => RouteCursor::family(family),
        _ => RouteCursor::all(),
    };
    if let [table] = rules.tables[..] {
        cursor = cursor.in_table(table);
    }
    cursor
}

/// The MAC address in a neighbour's canonical bytes.
pub(crate) fn mac_of(neighbour: &[u8]) -> Option<Mac> {
    let bytes: &[u8; 7] = neighbour.get(24..31)?.first_chunk()?;
    let [a, b, c, d, e, f, has] = *bytes;
    (has == 1).then_some(Mac([a, b, c, d, e, f]))
}
