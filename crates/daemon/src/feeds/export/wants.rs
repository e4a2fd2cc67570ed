//! What the table wants, and how the kernel is made to have it: the walk of what
//! changed, passes over everything, and the request for one key.

use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Bound;

use rtm_model::{
    Attrs, EntityKey, EntityKind, Family, HopFlags, HopSpec, Hops, LinkRef, Route, RouteKey,
    RouteSpec, RouteValue,
};
use rtm_netlink::{RouteMessage, flag};
use rtm_tables::{OrderItem, RouteCursor, SourceId, Step};

use super::{BATCH, Export, Key, Pass, STEPS, Slot, State};
use crate::core::Core;

impl Export {
    /// One step of the marker; false: it stands at the tail.
    pub(super) fn walk(&mut self, core: &mut Core) -> bool {
        for _ in 0..STEPS {
            let marker = *self.marker.get_or_insert_with(|| core.table.marker());
            let mut found = None;
            let mut group = None;
            let mut flushed = false;
            let table = self.table;
            let step = core.table.marker_next(marker, &mut |item| match item {
                OrderItem::Set { kind, body, .. } => match kind {
                    EntityKind::Route4 | EntityKind::Route6 => {
                        let key = &body[..kind.key_bytes()];
                        found = EntityKey::decode(kind, key).ok();
                    }
                    EntityKind::Group => {
                        let key = &body[..kind.key_bytes()];
                        group = EntityKey::decode(kind, key).ok();
                    }
                    _ => {}
                },
                OrderItem::Gone { kind, key, .. } => match kind {
                    EntityKind::Route4 | EntityKind::Route6 | EntityKind::Group => {
                        found = EntityKey::decode(kind, key).ok();
                    }
                    _ => {}
                },
                OrderItem::Flushed { what, .. } => flushed = what.routes,
            });
            match found {
                Some(EntityKey::Route(key)) if key.table == table => {
                    self.update(core, Key::of(&key), false);
                }
                Some(EntityKey::Group(id)) => {
                    self.groups.remove(&id.0);
                }
                _ => {}
            }
            if flushed {
                core.export.behind.clear();
                self.passes.push(Pass::Slots { after: None, listed: false });
            }
            if let Some(EntityKey::Group(id)) = group {
                if !self.groups.insert(id.0) {
                    self.changed_groups.insert(id.0);
                    self.look_at_all();
                }
            }
            match step {
                Step::Moved => {}
                Step::Tail => {
                    self.at_tail = true;
                    return false;
                }
                Step::Lost => {
                    // What went meanwhile is not told: all is looked at.
                    core.export.behind.clear();
                    core.table.marker_release(marker);
                    self.marker = None;
                    self.passes.push(Pass::Slots { after: None, listed: false });
                }
            }
            if self.batch.len() >= BATCH {
                break;
            }
        }
        true
    }

    /// The winners are looked at for groups that changed and keys without a slot;
    /// after the pass under way, if there is one.
    pub(super) fn look_at_all(&mut self) {
        if !self.passes.iter().any(|pass| matches!(pass, Pass::Winners(_))) {
            self.sought = std::mem::take(&mut self.changed_groups);
            self.passes.insert(0, Pass::Winners(RouteCursor::all().in_table(self.table)));
        }
    }

    /// A slice of a pass; false: there is none.
    pub(super) fn pass(&mut self, core: &mut Core) -> bool {
        let Some(pass) = self.passes.pop() else { return false };
        match pass {
            Pass::Winners(mut cursor) => {
                for _ in 0..STEPS {
                    let Some((route, _)) = core.table.next_route(&mut cursor) else {
                        if !self.changed_groups.is_empty() {
                            self.look_at_all();
                        }
                        return true;
                    };
                    let key = Key::of(&route.key);
                    if self.sought.contains(&route.value.group.0) || !self.slots.contains_key(&key)
                    {
                        self.update(core, key, false);
                    }
                    if self.batch.len() >= BATCH {
                        break;
                    }
                }
                self.passes.push(Pass::Winners(cursor));
            }
            Pass::Slots { after, listed } => {
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                let keys: Vec<Key> = (self.slots.range((from, Bound::Unbounded)))
                    .take(STEPS)
                    .map(|(key, _)| *key)
                    .collect();
                let Some(last) = keys.last().copied() else { return true };
                for key in keys {
                    if listed {
                        self.judge(core, key);
                    } else {
                        // Where another's is, only its going helps.
                        let blocked =
                            self.slots.get(&key).is_some_and(|slot| slot.state == State::Blocked);
                        self.update(core, key, !blocked);
                    }
                }
                self.passes.push(Pass::Slots { after: Some(last), listed });
            }
        }
        true
    }

    /// After a listing: what it didn't show isn't there.
    fn judge(&mut self, core: &mut Core, key: Key) {
        let Some(slot) = self.slots.get(&key).copied() else { return };
        if slot.seen || slot.state == State::Sent {
            return self.update(core, key, false);
        }
        if slot.state == State::Ours {
            core.export.count("repaired");
        }
        self.forget(core, key);
        self.update(core, key, true);
    }

    /// The first of the table's routes on a key.
    fn first(&self, core: &Core, key: Key) -> Option<Route> {
        let Key { prefix, metric, tos } = key;
        let route = RouteKey { table: self.table, prefix, tos, metric, ordinal: 0 };
        if let Some(found) = core.table.store().route(&route) {
            return Some(found);
        }
        // A list may begin at another ordinal.
        let cursor = RouteCursor::all().in_table(self.table).within(prefix);
        let (found, _) = core.table.next_route(&mut cursor.after(route))?;
        (Key::of(&found.key) == key).then_some(found)
    }

    /// What the table wants for a key: its first route, unless that is the
    /// kernel's own or can't be said unchanged.
    fn wanted(&self, core: &Core, first: &Route) -> Option<Result<(RouteSpec, u32), String>> {
        let winner: SourceId = core.table.candidates(&first.key).find(|one| one.won)?.source;
        if Some(winner) == core.kernel.source {
            return None;
        }
        Some(self.spell(core, &first.key, &first.value))
    }

    fn spell(
        &self,
        core: &Core,
        key: &RouteKey,
        value: &RouteValue,
    ) -> Result<(RouteSpec, u32), String> {
        if key.prefix.family() == Family::V6 && key.tos != 0 {
            return Err("not exported: the kernel has no type of service for IPv6".to_owned());
        }
        let mut hops = Vec::new();
        if let Some(group) = core.table.store().group(value.group) {
            for hop in &group.hops {
                let link = match hop.link {
                    None => None,
                    Some(id) => {
                        let link = core.table.store().link(id);
                        let Some(link) = link else { continue };
                        match self.links.get(&link.name) {
                            Some(index) => Some(LinkRef::Ifindex(*index)),
                            None => {
                                return Err(format!(
                                    "not exported: no link {} on this host",
                                    link.name
                                ));
                            }
                        }
                    }
                };
                hops.push(HopSpec {
                    gateway: hop.gateway,
                    link,
                    weight: hop.weight,
                    flags: HopFlags(hop.flags.0 & HopFlags::ONLINK.0),
                });
            }
        }
        let mut spec = RouteSpec::new(key.prefix);
        spec.table = self.table;
        spec.tos = key.tos;
        spec.metric = Some(key.metric);
        spec.kind = Some(value.kind);
        spec.protocol = Some(self.protocol);
        spec.scope = Some(value.scope);
        spec.attrs = value.attrs.clone();
        spec.hops = match hops.len() {
            0 => Hops::None,
            1 => Hops::One(hops[0]),
            _ => Hops::Many(hops),
        };
        let hash = self.hash(&spec);
        Ok((spec, hash))
    }

    /// Of what a route says, apart from its key and whose it is.
    pub(super) fn hash(&self, spec: &RouteSpec) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        (spec.kind.map(|kind| kind as u8), spec.scope).hash(&mut hasher);
        for hop in spec.hops.as_slice() {
            let onlink = hop.flags.0 & HopFlags::ONLINK.0;
            (hop.gateway, hop.link, hop.weight, onlink).hash(&mut hasher);
        }
        spec.attrs.hash(&mut hasher);
        hasher.finish() as u32
    }

    /// Notes which routes stand behind the first of their key. (IPv6 has no such
    /// lists: `append` extends the route.)
    fn note_behind(&self, core: &mut Core, key: Key, first: Option<RouteKey>) {
        let mut ordinals = Vec::new();
        if let Some(first) = first.filter(|first| first.prefix.family() == Family::V4) {
            let cursor = RouteCursor::all().in_table(self.table).within(key.prefix);
            let mut cursor = cursor.after(first);
            while let Some((found, _)) = core.table.next_route(&mut cursor) {
                if Key::of(&found.key) != key {
                    break;
                }
                let winner = core.table.candidates(&found.key).find(|one| one.won);
                if winner.map(|one| one.source) != core.kernel.source {
                    ordinals.push(found.key.ordinal);
                }
            }
        }
        if !ordinals.is_empty() {
            core.export.behind.insert(key, ordinals);
        } else if !core.export.behind.is_empty() {
            core.export.behind.remove(&key);
        }
    }

    /// Makes the kernel's route of a key what the table wants; `again`: also if
    /// it was refused before.
    pub(super) fn update(&mut self, core: &mut Core, key: Key, again: bool) {
        let first = self.first(core, key);
        self.note_behind(core, key, first.as_ref().map(|route| route.key));
        let wanted = first.and_then(|first| self.wanted(core, &first));
        let slot = self.slots.get(&key).copied();
        match (wanted, slot) {
            (_, Some(Slot { state: State::Sent, .. })) => {
                if let Some(slot) = self.slots.get_mut(&key) {
                    slot.dirty = true;
                }
            }
            (None, None) => {}
            (None, Some(slot)) => match slot.state {
                State::Ours | State::Blocked if slot.leftover && !self.swept => {}
                State::Ours => self.delete(core, key),
                State::Blocked if slot.behind => self.delete(core, key),
                _ => self.forget(core, key),
            },
            (Some(Err(why)), slot) => {
                if slot.is_some_and(|slot| slot.state == State::Ours) {
                    self.delete(core, key);
                } else {
                    self.set(core, key, State::Waiting, 0, Some(why));
                }
            }
            (Some(Ok((spec, hash))), Some(slot)) => match slot.state {
                State::Ours if slot.hash == hash => {
                    if slot.leftover {
                        if let Some(slot) = self.slots.get_mut(&key) {
                            slot.leftover = false;
                        }
                        core.export.count("kept over a restart");
                    }
                }
                State::Ours => self.put(core, key, &spec, hash, flag::CREATE | flag::REPLACE),
                State::Blocked | State::Waiting if !again && slot.hash == hash => {}
                _ => self.put(core, key, &spec, hash, flag::CREATE | flag::EXCL),
            },
            (Some(Ok((spec, hash))), None) => {
                self.put(core, key, &spec, hash, flag::CREATE | flag::EXCL);
            }
        }
    }

    fn put(&mut self, core: &mut Core, key: Key, spec: &RouteSpec, hash: u32, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let flags = flags | flag::REQUEST;
        match RouteMessage::encode(&mut self.batch.bytes, flags, self.sequence, spec) {
            Ok(()) => {
                self.batch.requests.push((self.sequence, key, false));
                self.set(core, key, State::Sent, hash, None);
                core.export.count("sent");
            }
            Err(_) => {
                let why = "not exported: its next hops don't fit into a message".to_owned();
                self.set(core, key, State::Waiting, hash, Some(why));
            }
        }
    }

    fn delete(&mut self, core: &mut Core, key: Key) {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let mut spec = RouteSpec::new(key.prefix);
        spec.table = self.table;
        spec.tos = key.tos;
        spec.metric = Some(key.metric);
        spec.protocol = Some(self.protocol);
        spec.attrs = Attrs::NONE;
        let flags = flag::REQUEST;
        if RouteMessage::encode_delete(&mut self.batch.bytes, flags, self.sequence, &spec).is_ok() {
            self.batch.requests.push((self.sequence, key, true));
            self.set(core, key, State::Sent, 0, None);
            core.export.count("withdrawn");
        }
    }

    pub(super) fn set(
        &mut self,
        core: &mut Core,
        key: Key,
        state: State,
        hash: u32,
        why: Option<String>,
    ) {
        self.forget(core, key);
        let seen = state == State::Ours;
        let slot = Slot { hash, state, dirty: false, seen, leftover: false, behind: false };
        self.slots.insert(key, slot);
        self.tally(core, state, 1);
        match why {
            Some(why) => drop(core.export.problems.insert(key, why)),
            None => drop(core.export.problems.remove(&key)),
        }
    }

    pub(super) fn forget(&mut self, core: &mut Core, key: Key) {
        if let Some(slot) = self.slots.remove(&key) {
            self.tally(core, slot.state, -1);
            core.export.problems.remove(&key);
        }
    }

    fn tally(&self, core: &mut Core, state: State, by: isize) {
        let count = match state {
            State::Ours => &mut core.export.installed,
            State::Blocked => &mut core.export.blocked,
            State::Waiting => &mut core.export.waiting,
            State::Sent => return,
        };
        *count = count.saturating_add_signed(by);
    }
}
