//! Slots: what the hub knows of each session, and where it waits.
//!
//! A session that has nothing to send stands in exactly one list: of its view,
//! of the snapshot that it reads, or of those held until the table can be read.
//! Its slot knows in which and at which index, so leaving takes no search. Who
//! is queued has an entry in `next` or `ready`; an entry whose slot says
//! something else by then is passed over.

use rtm_model::DigestKey;
use rtm_model::text::Filter;

use super::{Hub, MAIN};
use crate::Millis;
use crate::classic::{ClassicCursor, ClassicView};
use crate::record::{Epoch, Revision};
use crate::session::Owner;
use crate::snapshot::Generation;
use crate::table::Table;
use crate::view::View;
use crate::walk::{Ground, Shared, Stop, Walk};

/// Snapshots of one view at one time.
const GENERATIONS_PER_VIEW: usize = 2;

/// A filter that is one too many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TooManyFilters {
    /// So many are possible.
    InAll(usize),
    /// So many of one user's.
    OfOwner(usize),
}

impl std::fmt::Display for TooManyFilters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TooManyFilters::InAll(count) => write!(
                f,
                "{count} different filters are in use already; filters_max allows no more"
            ),
            TooManyFilters::OfOwner(count) => write!(
                f,
                "{count} different filters of this user, or over TCP, are in use already; \
                 filters_per_uid_max allows no more"
            ),
        }
    }
}

/// What the hub knows of a session.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) used: bool,
    pub(super) token: u64,
    pub(super) session: u64,
    pub(super) pid: Option<u32>,
    pub(super) name: String,
    pub(super) can_answer: bool,
    pub(super) view: Option<usize>,
    /// It follows as a classic client.
    pub(super) classic: bool,
    pub(super) parked: Parked,
    /// A barrier asks for an answer at this revision or later.
    pub(super) ask: Option<Revision>,
}

/// Where a session waits; `at` is its index in the list there.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Parked {
    /// In the daemon's hands.
    #[default]
    No,
    /// In `next` or `ready`.
    Queued,
    View {
        view: usize,
        at: usize,
    },
    Generation {
        id: u64,
        at: usize,
    },
    Held {
        at: usize,
    },
    Classic {
        at: usize,
    },
}

/// What a session asks of its hub.
impl Hub {
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn digest_key(&self) -> DigestKey {
        self.key
    }

    pub(crate) fn now(&self) -> Millis {
        self.now
    }

    /// The newest revision that sessions may see.
    pub(crate) fn published(&self) -> Revision {
        self.published
    }

    pub(crate) fn view(&self, index: usize) -> &View {
        match self.views.get(index) {
            Some(Some(view)) => view,
            _ => panic!("a session's view is there as long as the session"),
        }
    }

    /// A slot for a session that was accepted.
    pub(crate) fn open_slot(&mut self, token: u64, session: u64, pid: Option<u32>) -> u32 {
        let slot = Slot { used: true, token, session, pid, ..Slot::default() };
        match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        }
    }

    pub(crate) fn close_slot(&mut self, index: u32) {
        self.unpark(index);
        self.barriers.gone(index);
        let slot = std::mem::take(&mut self.slots[index as usize]);
        if let Some(view) = slot.view.and_then(|view| self.views[view].as_mut()) {
            view.users -= 1;
            view.idle_since = self.now;
        }
        self.free.push(index);
    }

    /// A session's name and its filter's text (empty: everything).
    pub(crate) fn who(&self, index: u32, view: Option<usize>) -> (String, String) {
        let filter = view.and_then(|view| self.view(view).filter.as_ref());
        let filter = filter.map_or_else(String::new, Filter::to_string);
        (self.slots[index as usize].name.clone(), filter)
    }

    /// A session said who it is.
    pub(crate) fn greet(&mut self, index: u32, name: &str, can_answer: bool) {
        let slot = &mut self.slots[index as usize];
        slot.name = name.to_owned();
        slot.can_answer = can_answer;
    }

    /// The view of a filter for a session that begins to follow. An error: there
    /// are too many filters, of all or of this owner.
    pub(crate) fn subscribe(
        &mut self,
        index: u32,
        filter: Filter,
        keys: bool,
        owner: Option<Owner>,
        table: &mut Table,
    ) -> Result<usize, TooManyFilters> {
        let view =
            if filter.is_all() && !keys { MAIN } else { self.intern(filter, keys, owner, table)? };
        self.slots[index as usize].view = Some(view);
        if let Some(view) = &mut self.views[view] {
            view.users += 1;
        }
        Ok(view)
    }

    fn intern(
        &mut self,
        filter: Filter,
        keys: bool,
        owner: Option<Owner>,
        table: &mut Table,
    ) -> Result<usize, TooManyFilters> {
        let same = |view: &Option<View>| {
            view.as_ref().is_some_and(|view| {
                view.filter.as_ref() == Some(&filter) && view.keys.is_some() == keys
            })
        };
        if let Some(index) = self.views.iter().position(same) {
            return Ok(index);
        }
        let of_owner = |view: &&View| view.users > 0 && view.brought_by == owner;
        if owner.is_some()
            && self.views.iter().flatten().filter(of_owner).count()
                >= self.limits.filters_per_uid_max
        {
            return Err(TooManyFilters::OfOwner(self.limits.filters_per_uid_max));
        }
        if self.views.iter().flatten().count() > self.limits.filters_max {
            // One that is only kept for a returning client makes room.
            let idle = |view: &View| view.users == 0;
            let kept = (1..self.views.len())
                .filter(|&index| self.views[index].as_ref().is_some_and(idle))
                .min_by_key(|&index| self.views[index].as_ref().map(|view| view.idle_since))
                .ok_or(TooManyFilters::InAll(self.limits.filters_max))?;
            self.drop_view(kept, table);
        }
        self.catalog.begin();
        let bytes = self.limits.filter_journal_bytes;
        let view = View::new(Some(filter), bytes, self.revision);
        let mut view = if keys { view.with_keys() } else { view };
        view.brought_by = owner;
        let view = Some(view);
        match self.views.iter().position(Option::is_none) {
            Some(index) => {
                self.views[index] = view;
                Ok(index)
            }
            None => {
                self.views.push(view);
                Ok(self.views.len() - 1)
            }
        }
    }

    /// Goes on with a session's own walk; `None`: the table can't be read now,
    /// see [`Hub::hold`].
    pub(crate) fn advance_walk(
        &self,
        view: usize,
        walk: &mut Walk,
        table: &mut Table,
        out: &mut Vec<u8>,
        limit: usize,
        budget: &mut usize,
    ) -> Option<Stop> {
        if table.is_staging() || table.revision() != self.published || !self.view(view).is_built() {
            return None;
        }
        let ground = &mut Ground { view: self.view(view), catalog: &self.catalog, table };
        Some(walk.advance(ground, out, limit, budget))
    }

    /// The shared snapshot that a session of this view is to read, made if
    /// there is none to share. `None`: it is to walk by itself.
    pub(crate) fn join(&mut self, view_index: usize, table: &mut Table) -> Option<(u64, Shared)> {
        let view = self.views[view_index].as_ref()?;
        // A finished one is of use as long as what came since is little.
        let usable = |g: &Generation| match g.done {
            None => true,
            Some((place, _)) => {
                let since = view.journal.distance(place);
                view.journal.holds(place) && since <= (g.bytes() / 4).max(64 << 10) as u64
            }
        };
        let of_it = |g: &&Generation| g.view == view_index;
        if let Some(g) = self.generations.iter().rev().find(|g| of_it(g) && usable(g)) {
            return Some((g.id, g.walk.shared()));
        }
        if view.alone_until > self.now {
            return None;
        }
        let walk = Walk::new(Revision(0), view, table);
        let shared = walk.shared();
        if self.generations.iter().filter(of_it).count() >= GENERATIONS_PER_VIEW {
            let oldest = self.generations.iter().position(|g| g.view == view_index)?;
            self.drop_generation(oldest, table);
        }
        let id = self.next_generation;
        self.next_generation += 1;
        self.snapshots_encoded += 1;
        self.generations.push(Generation::new(id, view_index, walk, self.now));
        Some((id, shared))
    }

    pub(crate) fn generation(&self, id: u64) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.id == id)
    }

    /// A session took bytes of a shared snapshot.
    pub(crate) fn generation_was_read(&mut self, id: u64) {
        let now = self.now;
        if let Some(generation) = self.generations.iter_mut().find(|g| g.id == id) {
            generation.last_read = now;
        }
    }

    /// Parks a session until its view's journal moves, or the view is built.
    pub(crate) fn park_at_view(&mut self, index: u32, view_index: usize) {
        self.unpark(index);
        let Some(view) = &mut self.views[view_index] else { return };
        let at = view.waiters.len();
        view.waiters.push(index);
        self.slots[index as usize].parked = Parked::View { view: view_index, at };
    }

    /// Parks a session until there is more of a shared snapshot.
    pub(crate) fn park_at_generation(&mut self, index: u32, id: u64) {
        self.unpark(index);
        let Some(generation) = self.generations.iter_mut().find(|g| g.id == id) else {
            return self.wake(index);
        };
        let at = generation.waiters.len();
        generation.waiters.push(index);
        self.slots[index as usize].parked = Parked::Generation { id, at };
    }

    /// Parks a session until the table can be read again.
    pub(crate) fn hold(&mut self, index: u32) {
        self.unpark(index);
        self.slots[index as usize].parked = Parked::Held { at: self.held.len() };
        self.held.push(index);
    }

    /// Parks a classic session until there is more to tell.
    pub(crate) fn park_classic(&mut self, index: u32) {
        self.unpark(index);
        let Some(view) = &mut self.classic else { return };
        self.slots[index as usize].parked = Parked::Classic { at: view.waiters.len() };
        view.waiters.push(index);
    }

    /// What classic sessions are shown, if there are any.
    pub(crate) fn classic(&self) -> Option<&ClassicView> {
        self.classic.as_deref()
    }

    pub(crate) fn classic_view(&mut self) -> Option<&mut ClassicView> {
        self.classic.as_deref_mut()
    }

    /// A classic session comes; it is named when it can be told something.
    pub(crate) fn join_classic(&mut self, index: u32) -> ClassicCursor {
        self.slots[index as usize].classic = true;
        let view = self.classic.get_or_insert_with(|| Box::new(ClassicView::new()));
        let cursor = view.join();
        self.wake(index);
        cursor
    }

    /// A classic session goes; to be followed by [`Hub::close_slot`].
    pub(crate) fn leave_classic(&mut self, cursor: &ClassicCursor) {
        let now = self.now;
        if let Some(view) = &mut self.classic {
            view.leave(cursor);
            self.classic_idle_since = now;
        }
    }

    /// Names a session in the next turn.
    pub(crate) fn wake(&mut self, index: u32) {
        if self.slots[index as usize].parked == Parked::Queued {
            return;
        }
        self.unpark(index);
        self.slots[index as usize].parked = Parked::Queued;
        self.next.push(index);
    }

    /// Takes a session out of the list that it waits in.
    fn unpark(&mut self, index: u32) {
        let parked = std::mem::take(&mut self.slots[index as usize].parked);
        let (list, at) = match parked {
            Parked::No => return,
            // Its entry in the queue is passed over when it comes up.
            Parked::Queued => return,
            Parked::View { view, at } => match &mut self.views[view] {
                Some(view) => (&mut view.waiters, at),
                None => return,
            },
            Parked::Generation { id, at } => {
                match self.generations.iter_mut().find(|g| g.id == id) {
                    Some(generation) => (&mut generation.waiters, at),
                    None => return,
                }
            }
            Parked::Held { at } => (&mut self.held, at),
            Parked::Classic { at } => match &mut self.classic {
                Some(view) => (&mut view.waiters, at),
                None => return,
            },
        };
        debug_assert_eq!(list.get(at), Some(&index));
        list.swap_remove(at);
        if let Some(&moved) = list.get(at) {
            match &mut self.slots[moved as usize].parked {
                Parked::View { at: place, .. }
                | Parked::Generation { at: place, .. }
                | Parked::Held { at: place }
                | Parked::Classic { at: place } => *place = at,
                Parked::No | Parked::Queued => {}
            }
        }
    }

    /// Does a session wait for something that it will be named for?
    pub(crate) fn is_parked(&self, index: u32) -> bool {
        !matches!(self.slots[index as usize].parked, Parked::No | Parked::Queued)
    }

    /// Does a barrier ask this session, and is what it asks for published?
    pub(crate) fn asks(&self, index: u32) -> bool {
        self.slots[index as usize].ask.is_some_and(|revision| revision <= self.published)
    }

    /// The session was asked.
    pub(crate) fn asked(&mut self, index: u32) {
        self.slots[index as usize].ask = None;
    }

    /// The session answered.
    pub(crate) fn answered(&mut self, index: u32, revision: Revision, agrees: bool) {
        self.barriers.answered(index, revision, agrees);
    }

    /// Queues all who wait at a view.
    pub(super) fn wake_view(&mut self, index: usize) {
        if let Some(view) = &mut self.views[index] {
            let waiters = std::mem::take(&mut view.waiters);
            self.queue_all(waiters);
        }
    }

    /// Queues sessions that were taken out of the list that they waited in.
    pub(super) fn queue_all(&mut self, slots: Vec<u32>) {
        for &slot in &slots {
            self.slots[slot as usize].parked = Parked::Queued;
        }
        self.next.extend(slots);
    }
}
