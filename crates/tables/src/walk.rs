//! Walks: what a session that isn't live is told.
//!
//! A walk goes over the modification order of the table with a marker, from a
//! revision that the client has (or from the beginning) to the tail, and
//! encodes what passes the view's filter: each key once, its newest value. What
//! changes meanwhile moves to the tail and is met there. So at the tail the
//! client has exactly the state of the table's revision, and END says so.
//!
//! ```text
//!   BEGIN from
//!     |            snapshot                        resume, unfiltered
//!     v
//!   Links -> Groups (members, by id) -----------------> Seek from
//!                                                         |
//!                                                         v
//!                                     +--------------- Items <--+
//!                                     | tail              |     | more came
//!                                     v                   |     |
//!                                  Leaving (filtered) ----------+
//!                                     |                         |
//!                                  Keys (mode keys) ------------+
//!                                     |
//!                                     v
//!                                   END revision, digests
//! ```
//!
//! **Links and groups.** A snapshot begins with all of them, so that its routes
//! can be resolved as they come; in the order itself they are then only looked
//! at if they changed after the walk `started`. A filtered walk tells exactly
//! the view's members, and each before its first user: those that entered after
//! `started` are told in front of the route that is met; those that left, at
//! the tail. (An unfiltered resume meets them where they stand: a group that
//! changed after its routes comes after them. Between BEGIN and END that may
//! be.)
//!
//! **Deletes.** A snapshot's client sweeps at END what it wasn't told, so only
//! what went after `started` need be said; a resume is told all that went since
//! `from`. Both are tombstones above `floor`. A route that no longer matches a
//! filter by value is deleted like one that is gone.
//!
//! A walk writes into any buffer until it is as long as a limit says (the last
//! record may reach over it) and stops between two frames: it serves one
//! session's output buffer and shared snapshots alike. Where an item needs its
//! group and links in front of it and the buffer is full meanwhile, the item
//! waits in `pending`.

use rtm_model::{EntityKind, GroupId, LinkId, Mac, canonical};

use crate::catalog::{Catalog, group_of, id_of, link_of, links_of};
use crate::filter::{self, Facts};
use crate::keys::{self, KeyPlace};
use crate::order::{MarkerId, OrderItem, Step};
use crate::record::{RecordOp, Revision};
use crate::table::Table;
use crate::view::View;
use crate::wire::DaemonFrame;
use crate::wire::records;

/// Behind all MAC addresses.
const LAST_MAC: Mac = Mac([0xff; 6]);

pub(crate) struct Walk {
    /// BEGIN's: what the client has; 0: nothing.
    from: Revision,
    /// The table's revision when the walk began.
    started: Revision,
    marker: Option<MarkerId>,
    phase: Phase,
    /// An item that waits for what must stand in front of it.
    pending: Option<Pending>,
    /// Members that left up to here are told.
    left_told: Revision,
    /// Keys up to here are told.
    keys_told: KeyPlace,
    /// The view's, when the walk began.
    serial: u64,
    /// How long the buffer was when the walk came to the modification order.
    pub(crate) items_at: Option<usize>,
    /// Records encoded.
    pub(crate) records: u64,
}

/// An entity of a filtered walk whose links or group are new to the client.
struct Pending {
    kind: EntityKind,
    revision: Revision,
    body: Vec<u8>,
    /// Links told so far.
    links: usize,
    group_told: bool,
}

/// What a reader of a shared snapshot remembers of its walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shared {
    started: Revision,
    serial: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Begin,
    Links(u32),
    Groups(u32),
    Seek(Revision),
    Items,
    /// Those that left are told; `noted` is when that began.
    Leaving {
        after: (EntityKind, u32),
        noted: Revision,
    },
    /// Mode `keys`: the keys are told, in the order of their changes.
    Keys(Revision),
    /// All is told but END, for those that left up to here.
    End(Revision),
}

/// Why a walk stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// The buffer is full.
    Full,
    /// The budget is used up.
    Budget,
    /// Tombstones that it needs are gone: only a snapshot helps.
    Lost,
    /// END is written.
    Done,
}

/// What a walk looks at.
pub(crate) struct Ground<'a> {
    pub(crate) view: &'a View,
    pub(crate) catalog: &'a Catalog,
    pub(crate) table: &'a mut Table,
}

impl Walk {
    /// A walk from what a client has; 0: a snapshot.
    pub(crate) fn new(from: Revision, view: &View, table: &Table) -> Walk {
        Walk {
            from,
            started: table.revision(),
            marker: None,
            phase: Phase::Begin,
            pending: None,
            left_told: if from.0 == 0 { table.revision() } else { from },
            keys_told: (from, LAST_MAC),
            serial: view.serial,
            items_at: None,
            records: 0,
        }
    }

    /// Goes on where a shared snapshot was given up: all that last changed up
    /// to `passed` is told. BEGIN is told already.
    pub(crate) fn take_over(Shared { started, serial }: Shared, passed: Revision) -> Walk {
        Walk {
            from: Revision(0),
            started,
            marker: None,
            phase: Phase::Seek(passed),
            pending: None,
            left_told: started,
            keys_told: (Revision(0), LAST_MAC),
            serial,
            items_at: None,
            records: 0,
        }
    }

    /// BEGIN's revision.
    pub(crate) fn from(&self) -> Revision {
        self.from
    }

    /// What who goes on by itself must know.
    pub(crate) fn shared(&self) -> Shared {
        Shared { started: self.started, serial: self.serial }
    }

    /// Bytes that it holds beside the buffer.
    pub(crate) fn bytes(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.body.capacity())
    }

    /// Gives the marker back.
    pub(crate) fn release(&mut self, table: &mut Table) {
        if let Some(marker) = self.marker.take() {
            table.marker_release(marker);
        }
    }

    /// Tombstones up to here need not be told.
    fn floor(&self) -> Revision {
        if self.from.0 == 0 { self.started } else { self.from }
    }

    /// Goes on: appends frames to `out` until it is `limit` bytes long (or
    /// longer by one record), looking at `budget` entities at most. The table
    /// must be at a published revision.
    pub(crate) fn advance(
        &mut self,
        ground: &mut Ground<'_>,
        out: &mut Vec<u8>,
        limit: usize,
        budget: &mut usize,
    ) -> Stop {
        // A view that was built anew doesn't know who left before.
        if self.serial != ground.view.serial || !ground.view.can_tell_since(self.floor()) {
            return Stop::Lost;
        }
        loop {
            if let Some(mut pending) = self.pending.take() {
                if !self.tell_pending(&mut pending, ground.view, ground.catalog, out, limit) {
                    self.pending = Some(pending);
                }
            }
            if out.len() >= limit {
                return Stop::Full;
            }
            if *budget == 0 {
                return Stop::Budget;
            }
            *budget -= 1;
            match self.phase {
                Phase::Begin => {
                    // From here on tombstones that are given up are noticed.
                    self.marker = Some(ground.table.marker());
                    DaemonFrame::Begin { from: self.from }.encode(out);
                    let resumes_all = ground.view.filter.is_none() && self.from.0 != 0;
                    self.phase = if resumes_all { Phase::Seek(self.from) } else { Phase::Links(0) };
                }
                Phase::Links(after) => {
                    self.phase = match self.member(EntityKind::Link, after, ground, out) {
                        Some(id) => Phase::Links(id),
                        None => Phase::Groups(0),
                    };
                }
                Phase::Groups(after) => {
                    self.phase = match self.member(EntityKind::Group, after, ground, out) {
                        Some(id) => Phase::Groups(id),
                        None => Phase::Seek(self.from),
                    };
                }
                Phase::Seek(to) => {
                    let needed = if to.0 == 0 { self.floor() } else { to };
                    let marker = match self.marker {
                        Some(marker) => marker,
                        None => *self.marker.insert(ground.table.marker()),
                    };
                    if needed < ground.table.oldest_tombstone() {
                        return Stop::Lost;
                    }
                    // A new marker stands before the oldest item already.
                    let slice = (*budget).clamp(1, SEEK_SLICE);
                    if to.0 == 0 || ground.table.marker_seek(marker, to, slice) {
                        self.phase = Phase::Items;
                        self.items_at.get_or_insert(out.len());
                    }
                    *budget = budget.saturating_sub(slice / SEEK_DISCOUNT);
                }
                Phase::Items => match self.item(ground, out) {
                    Step::Moved => {}
                    Step::Lost => return Stop::Lost,
                    Step::Tail => {
                        let revision = ground.table.revision();
                        self.phase = if ground.view.filter.is_some() {
                            Phase::Leaving { after: (EntityKind::Link, 0), noted: revision }
                        } else {
                            Phase::End(revision)
                        };
                    }
                },
                Phase::Leaving { after, noted } => {
                    self.phase = self.leaving(after, noted, ground, out);
                }
                Phase::Keys(noted) => {
                    let next = ground.view.keys.as_ref().map(|keys| keys.next(self.keys_told));
                    let Some(Some((place, there))) = next else {
                        self.phase = Phase::End(noted);
                        continue;
                    };
                    self.keys_told = place;
                    let body = keys::bytes_of(place.1);
                    if there {
                        self.set(EntityKind::Neighbour, place.0, &body, out);
                    } else if place.0 > self.floor() {
                        self.delete(EntityKind::Neighbour, place.0, &body, out);
                    }
                }
                Phase::End(noted) => {
                    let revision = ground.table.revision();
                    if revision != noted {
                        // More came while the buffer was full.
                        self.phase = Phase::Items;
                        continue;
                    }
                    let digests = ground.view.digests;
                    DaemonFrame::End { revision, digests }.encode(out);
                    return Stop::Done;
                }
            }
        }
    }

    /// Tells the next link or group by id, if it must be told; its id.
    fn member(
        &mut self,
        kind: EntityKind,
        after: u32,
        ground: &Ground<'_>,
        out: &mut Vec<u8>,
    ) -> Option<u32> {
        let Some(_) = ground.view.filter else {
            return self.any_member(kind, after, ground, out);
        };
        let id = match kind {
            EntityKind::Link => ground.catalog.next_link(after)?,
            _ => ground.catalog.next_group(after)?,
        };
        let changed = changed_of(ground.view, kind, id);
        match changed {
            Some(changed) if changed > self.from => {
                if let Some(body) = body_of(ground.catalog, kind, id) {
                    // Links that came since the start weren't told with the others.
                    let (view, catalog) = (ground.view, ground.catalog);
                    self.tell_after_its_own(view, catalog, kind, self.started, body, out);
                }
            }
            Some(_) => {}
            None if self.from.0 > 0 && ground.view.left(kind, id) > self.from => {
                self.delete(kind, self.started, &u64::from(id).to_le_bytes(), out);
            }
            None => {}
        }
        Some(id)
    }

    /// Tells the next link or group of the table, whichever.
    fn any_member(
        &mut self,
        kind: EntityKind,
        after: u32,
        ground: &Ground<'_>,
        out: &mut Vec<u8>,
    ) -> Option<u32> {
        let store = ground.table.store();
        let mut body = Vec::new();
        let id = if kind == EntityKind::Link {
            let link = store.next_link((after > 0).then_some(LinkId(after)))?;
            canonical::encode_link(link, &mut body);
            link.id.0
        } else {
            let group = store.next_group((after > 0).then_some(GroupId(after)))?;
            canonical::encode_group(group, &mut body);
            group.id.0
        };
        self.set(kind, self.started, &body, out);
        Some(id)
    }

    /// Moves over one item.
    fn item(&mut self, ground: &mut Ground<'_>, out: &mut Vec<u8>) -> Step {
        let Some(marker) = self.marker else { return Step::Lost };
        let (view, catalog) = (ground.view, ground.catalog);
        ground.table.marker_next(marker, &mut |item| match item {
            // Told as keys, when all the rest is.
            OrderItem::Set { kind: EntityKind::Neighbour, .. }
            | OrderItem::Gone { kind: EntityKind::Neighbour, .. }
                if view.keys.is_some() => {}
            OrderItem::Set { revision, kind, body } => {
                self.tell(view, catalog, kind, revision, body, out);
            }
            OrderItem::Gone { revision, kind, key } => {
                let told = match (&view.filter, Facts::read(kind, key)) {
                    (Some(filter), Some(facts)) => filter::matches_key(filter, &facts),
                    _ => true,
                };
                if told && revision > self.floor() {
                    self.delete(kind, revision, key, out);
                }
            }
            OrderItem::Flushed { revision, mut what } => {
                if let Some(filter) = &view.filter {
                    what.routes &= filter.rules().routes;
                    what.neighbours &= filter.rules().neighbours;
                }
                if revision > self.floor() && (what.routes || what.neighbours) {
                    records::encode_flush(out, revision, what);
                    self.records += 1;
                }
            }
        })
    }

    /// An entity that is there.
    fn tell(
        &mut self,
        view: &View,
        catalog: &Catalog,
        kind: EntityKind,
        revision: Revision,
        body: &[u8],
        out: &mut Vec<u8>,
    ) {
        let resolver = matches!(kind, EntityKind::Link | EntityKind::Group);
        let Some(filter) = &view.filter else {
            // A snapshot has told all that were there when it started.
            if !resolver || self.from.0 > 0 || revision > self.started {
                self.set(kind, revision, body, out);
            }
            return;
        };
        let told = if resolver {
            let id = id_of(body);
            let member = changed_of(view, kind, id).is_some();
            if !member && revision > self.started && self.from.0 > 0 && self.from < view.built {
                // Whom this id meant before the view was built nobody knows.
                self.delete(kind, revision, &u64::from(id).to_le_bytes(), out);
            }
            member && revision > self.started
        } else {
            let Some(facts) = Facts::read(kind, body) else { return };
            let matches = filter::matches(filter, &facts);
            if !matches
                && filter::may_change_sides(filter)
                && revision > self.floor()
                && filter::matches_key(filter, &facts)
            {
                self.delete(kind, revision, &body[..kind.key_bytes()], out);
            }
            matches
        };
        if !told {
            return;
        }
        self.tell_after_its_own(view, catalog, kind, revision, body, out);
    }

    /// An entity of a filtered walk: at once, or behind what it refers to if
    /// that is new.
    fn tell_after_its_own(
        &mut self,
        view: &View,
        catalog: &Catalog,
        kind: EntityKind,
        revision: Revision,
        body: &[u8],
        out: &mut Vec<u8>,
    ) {
        let group = group_used(catalog, kind, body);
        let group_is_new = self.is_new(view, EntityKind::Group, group.map_or(0, id_of));
        let link_is_new =
            links_used(kind, body, group).any(|id| self.is_new(view, EntityKind::Link, id));
        if group_is_new || link_is_new {
            let body = body.to_vec();
            let pending = Pending { kind, revision, body, links: 0, group_told: false };
            self.pending = Some(pending);
        } else {
            self.set(kind, revision, body, out);
        }
    }

    /// Did this member enter or change after the walk started?
    fn is_new(&self, view: &View, kind: EntityKind, id: u32) -> bool {
        changed_of(view, kind, id) > Some(self.started)
    }

    /// Tells what must stand in front of an item, then the item; false if the
    /// buffer is full before that.
    fn tell_pending(
        &mut self,
        pending: &mut Pending,
        view: &View,
        catalog: &Catalog,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> bool {
        let Pending { kind, revision, body, links, group_told } = pending;
        let group = group_used(catalog, *kind, body);
        for id in links_used(*kind, body, group).skip(*links) {
            if out.len() >= limit {
                return false;
            }
            *links += 1;
            if self.is_new(view, EntityKind::Link, id) {
                if let Some(body) = catalog.link(id) {
                    self.set(EntityKind::Link, *revision, body, out);
                }
            }
        }
        if let Some(body) = group.filter(|_| !*group_told) {
            if out.len() >= limit {
                return false;
            }
            if self.is_new(view, EntityKind::Group, id_of(body)) {
                self.set(EntityKind::Group, *revision, body, out);
            }
            *group_told = true;
        }
        if out.len() >= limit {
            return false;
        }
        self.set(*kind, *revision, body, out);
        true
    }

    fn set(&mut self, kind: EntityKind, revision: Revision, body: &[u8], out: &mut Vec<u8>) {
        records::encode(out, RecordOp::Set, kind, revision, false, body);
        self.records += 1;
    }

    fn delete(&mut self, kind: EntityKind, revision: Revision, key: &[u8], out: &mut Vec<u8>) {
        records::encode(out, RecordOp::Delete, kind, revision, false, key);
        self.records += 1;
    }

    /// Tells the next of those that left while the walk went on, or ends that:
    /// with the walk if nothing changed meanwhile, else by looking at the tail
    /// again.
    fn leaving(
        &mut self,
        after: (EntityKind, u32),
        noted: Revision,
        ground: &Ground<'_>,
        out: &mut Vec<u8>,
    ) -> Phase {
        let revision = ground.table.revision();
        let Some((kind, id, left)) = ground.view.next_left(after) else {
            self.left_told = noted;
            return match ground.view.keys {
                _ if noted != revision => Phase::Items,
                Some(_) => Phase::Keys(noted),
                None => Phase::End(noted),
            };
        };
        if left > self.left_told {
            self.delete(kind, revision, &u64::from(id).to_le_bytes(), out);
        }
        Phase::Leaving { after: (kind, id), noted }
    }
}

/// A seek goes over many items at once, and over each faster than a walk.
const SEEK_SLICE: usize = 4096;
const SEEK_DISCOUNT: usize = 4;

fn changed_of(view: &View, kind: EntityKind, id: u32) -> Option<Revision> {
    match kind {
        EntityKind::Link => view.members.links.get(&id).map(|member| member.changed),
        _ => view.members.groups.get(&id).map(|member| member.changed),
    }
}

fn body_of(catalog: &Catalog, kind: EntityKind, id: u32) -> Option<&[u8]> {
    match kind {
        EntityKind::Link => catalog.link(id),
        _ => catalog.group(id),
    }
}

/// The group that an entity's bytes name, as the catalog has it.
fn group_used<'a>(catalog: &'a Catalog, kind: EntityKind, body: &[u8]) -> Option<&'a [u8]> {
    match kind {
        EntityKind::Route4 | EntityKind::Route6 => catalog.group(group_of(kind, body)),
        _ => None,
    }
}

/// The links that must be known before an entity: a neighbour's own, a group's,
/// or those of a route's group.
fn links_used<'a>(
    kind: EntityKind,
    body: &'a [u8],
    group: Option<&'a [u8]>,
) -> impl Iterator<Item = u32> {
    let hops = if kind == EntityKind::Group { body } else { group.unwrap_or_default() };
    let own = (kind == EntityKind::Neighbour).then(|| link_of(body)).filter(|&link| link != 0);
    own.into_iter().chain(links_of(hops))
}
