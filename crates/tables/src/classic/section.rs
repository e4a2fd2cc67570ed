//! Rows in the order of their last change, and who has been told what of them.
//!
//! A section is a table of keys, all of routes or all of MAC addresses, with the
//! modification order of [`crate::order`] over them, counted in steps of its own:
//! each change is one step. A session's [`Cursor`] is a marker in that order and
//! the last step that it met, so it costs a few words, whatever the table holds
//! and however far the session is behind.
//!
//! ```text
//!   new session     rows, by number ──────> order, from the step at which it came ──> tail
//!   behind          ────────────────────────> order, from where it stands ──────────> tail
//!   after a flush   frozen rows and graves, by number ──> order, from the flush on ─> tail
//! ```
//!
//! **What has it been told?** A row knows the step at which it was born. Who was
//! at the tail since has it, so a change is an UPDATE; who stands before that step
//! has it not, so it is a CREATE. Two cases are in doubt: a row that was born after
//! the session had last been at the tail, and has moved since the session passed
//! there; and a key that came back while the session was behind (the row knows when
//! it had gone). Then DELETE is told, and CREATE. So a client that is behind may be
//! told to delete what it doesn't have, and must take that for nothing; the signal
//! of a flush asks the same of it.
//!
//! **A new session** is told the rows in the order of their numbers, which don't
//! move while a row lives, and of these only who was born before it came. All
//! others, and all changes meanwhile, it meets in the order.
//!
//! **A whole flush** freezes the rows with the graves between them, and begins a
//! new generation, empty. Each session is told of the frozen rows what it had,
//! then goes on in the next generation. A frozen generation goes when the last
//! session has passed it, or when all of them together hold more than they may:
//! who would still have needed it is lost, as is who stands before a tombstone
//! that was given up.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::quality::RandomState;
use rtm_model::EntityKind;

use crate::order::{Ahead, List, MarkerId, Order, Step};
use crate::record::Revision;
use crate::store::index::Index;
use crate::store::slab::Slab;

/// The order's name for all rows; keys are of this length.
const KIND: EntityKind = EntityKind::Route4;

/// In four-byte words, so that no row needs padding.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Row {
    key: [u32; 2],
    group: u32,
    /// The step at which it was born; 0: there is no row.
    born: [u32; 2],
    /// How many steps before that the key had gone; 0: as far as is known, never.
    gap: u32,
}

fn halves(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

fn whole([low, high]: [u32; 2]) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

impl Row {
    fn is_there(&self) -> bool {
        whole(self.born) > 0
    }

    /// What a session has of it.
    fn had(&self, cursor: &Cursor) -> Had {
        let born = whole(self.born);
        if born <= cursor.whole {
            Had::This
        } else if born <= cursor.met || self.gap > 0 && cursor.whole < born - u64::from(self.gap) {
            Had::Maybe
        } else {
            Had::Nothing
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Had {
    This,
    /// Or an earlier one of the same key.
    Maybe,
    Nothing,
}

/// What is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tell {
    /// The session doesn't have this row; `earlier`: or has one of this key.
    Create { key: u64, group: u32, step: u64, earlier: bool },
    /// It has the row.
    Update { key: u64, group: u32, step: u64 },
    /// The row is gone.
    Delete { key: u64 },
}

/// A session's place in a section.
#[derive(Debug)]
pub(super) struct Cursor {
    marker: MarkerId,
    generation: u64,
    /// It had everything of this step, or gets it by what is left of `pass`.
    whole: u64,
    /// It stands behind this step in the order.
    met: u64,
    pass: Pass,
}

/// What is gone through by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pass {
    /// A new session's rows: the next number.
    Rows(u32),
    /// Nothing: it stands in the order.
    No,
    /// A frozen generation's rows (of those it was told by number only those below
    /// `told`), then its graves.
    Frozen {
        at: u32,
        told: u32,
    },
    Graves(u32),
}

/// A generation that was flushed.
struct Frozen {
    rows: Slab<Row>,
    graves: List<()>,
    evicted: u64,
    flushed: u64,
    /// Sessions that stand in it.
    sessions: usize,
}

impl Frozen {
    fn bytes(&self) -> usize {
        self.rows.bytes() + self.graves.tombstone_bytes()
    }
}

/// What is to be freed in slices.
pub(super) enum Ruin {
    Rows(Slab<Row>),
    List(Box<List<()>>),
}

impl Ruin {
    /// Frees some; false: there is nothing left.
    pub(super) fn dismantle(&mut self) -> bool {
        match self {
            Ruin::Rows(rows) => rows.pop_chunk(),
            Ruin::List(list) => list.dismantle(1),
        }
    }
}

/// Rows in the order of their last change.
#[derive(Default)]
pub(super) struct Section {
    rows: Slab<Row>,
    index: Index,
    hasher: RandomState,
    order: Order<(), ()>,
    /// The newest step.
    step: u64,
    /// Flushes so far: the number of the generation that grows.
    generation: u64,
    /// Sessions that stand in it.
    sessions: usize,
    /// Those before it that somebody still needs, the oldest first.
    frozen: VecDeque<Frozen>,
}

impl Section {
    /// The newest step.
    pub(super) fn step(&self) -> u64 {
        self.step
    }

    /// Rows that are there.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Where a look at all rows by number ends.
    pub(super) fn end(&self) -> u32 {
        self.rows.end()
    }

    /// Key and group of the row under this number, if there is one.
    pub(super) fn row(&self, at: u32) -> Option<(u64, u32)> {
        let row = &self.rows[at];
        row.is_there().then(|| (whole(row.key), row.group))
    }

    /// The step that last changed the row under this number.
    pub(super) fn since(&self, at: u32) -> u64 {
        self.order.routes.since(KIND, at).0
    }

    /// Bytes taken from the allocator, about.
    pub(super) fn bytes(&self) -> usize {
        self.rows.bytes()
            + self.index.bytes()
            + self.order.bytes()
            + self.frozen.iter().map(Frozen::bytes).sum::<usize>()
    }

    fn hash(&self, key: u64) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The number of a key's row.
    pub(super) fn find(&self, key: u64) -> Option<u32> {
        self.index.find(self.hash(key), |at| whole(self.rows[at].key) == key)
    }

    /// A row comes, or is another now.
    pub(super) fn set(&mut self, key: u64, group: u32) {
        self.step += 1;
        let step = self.step;
        let bytes = bytes_of(key);
        let at = match self.find(key) {
            Some(at) => {
                self.rows[at].group = group;
                at
            }
            None => {
                let gone = self.order.routes.buried(KIND, &bytes);
                let gap = gone.map_or(0, |gone| u32::try_from(step - gone.0).unwrap_or(u32::MAX));
                let row = Row { key: halves(key), group, born: halves(step), gap };
                let at = self.rows.insert(row);
                self.index.insert(self.hash(key), at);
                self.order.routes.cover(KIND, at);
                at
            }
        };
        self.order.routes.changed(KIND, at, Revision(step), || &bytes);
    }

    /// A row is gone, if it was there.
    pub(super) fn remove(&mut self, key: u64) {
        let Some(at) = self.find(key) else { return };
        self.step += 1;
        self.index.remove(self.hash(key), at);
        self.rows[at].born = [0; 2];
        self.rows.remove(at);
        self.order.routes.gone(KIND, at, Revision(self.step), &bytes_of(key));
    }

    /// All rows are gone at once.
    pub(super) fn flush(&mut self, ruins: &mut Vec<Ruin>) {
        self.step += 1;
        let evicted = self.order.evicted().0;
        let mut graves = self.order.flush_routes(Revision(self.step));
        ruins.push(Ruin::List(Box::new(graves.shed())));
        self.index = Index::default();
        self.frozen.push_back(Frozen {
            rows: std::mem::take(&mut self.rows),
            graves,
            evicted,
            flushed: self.step,
            sessions: std::mem::take(&mut self.sessions),
        });
        self.generation += 1;
        self.thaw(ruins);
    }

    /// Lets frozen generations go that no session needs any more.
    fn thaw(&mut self, ruins: &mut Vec<Ruin>) {
        while self.frozen.front().is_some_and(|frozen| frozen.sessions == 0) {
            self.drop_oldest(ruins);
        }
    }

    fn drop_oldest(&mut self, ruins: &mut Vec<Ruin>) {
        if let Some(frozen) = self.frozen.pop_front() {
            ruins.push(Ruin::Rows(frozen.rows));
            ruins.push(Ruin::List(Box::new(frozen.graves)));
        }
    }

    /// Gives up what is remembered of rows that are gone until it is at most so
    /// much: the oldest first, at most `count` tombstones. True: there are more.
    pub(super) fn trim(&mut self, bytes_max: usize, count: usize, ruins: &mut Vec<Ruin>) -> bool {
        while self.frozen.iter().map(Frozen::bytes).sum::<usize>() > bytes_max {
            self.drop_oldest(ruins);
        }
        let frozen = self.frozen.iter().map(Frozen::bytes).sum::<usize>();
        self.order.trim(bytes_max - frozen, count)
    }

    /// Everything goes, to be freed in slices.
    pub(super) fn ruin(mut self, ruins: &mut Vec<Ruin>) {
        while !self.frozen.is_empty() {
            self.drop_oldest(ruins);
        }
        ruins.push(Ruin::Rows(self.rows));
        ruins.push(Ruin::List(Box::new(self.order.routes)));
    }

    /// A session comes: it has nothing.
    pub(super) fn join(&mut self) -> Cursor {
        self.sessions += 1;
        let now = Revision(self.step);
        let marker = self.order.marker(now);
        // It stands at the tail already: one step back from there is enough.
        while !self.order.seek(marker, now, usize::MAX) {}
        let step = self.step;
        Cursor { marker, generation: self.generation, whole: step, met: step, pass: Pass::Rows(0) }
    }

    /// A session goes.
    pub(super) fn leave(&mut self, cursor: &Cursor, ruins: &mut Vec<Ruin>) {
        self.order.release(cursor.marker);
        match self.place_of(cursor.generation) {
            Place::Lost => {}
            Place::Frozen(index) => self.frozen[index].sessions -= 1,
            Place::Growing => self.sessions -= 1,
        }
        self.thaw(ruins);
    }

    fn place_of(&self, generation: u64) -> Place {
        let behind = (self.generation - generation) as usize;
        match self.frozen.len().checked_sub(behind) {
            None => Place::Lost,
            Some(_) if behind == 0 => Place::Growing,
            Some(index) => Place::Frozen(index),
        }
    }

    /// Has a session been told everything?
    pub(super) fn is_at_tail(&self, cursor: &Cursor) -> bool {
        cursor.generation == self.generation && cursor.pass == Pass::No && cursor.met == self.step
    }

    /// Rows and steps that it is behind, about.
    pub(super) fn lag(&self, cursor: &Cursor) -> u64 {
        let rows = match cursor.pass {
            Pass::Rows(at) => u64::from(self.end().saturating_sub(at)),
            _ => 0,
        };
        rows + (self.step - cursor.met.min(self.step))
    }

    /// Moves a session on by one row or step, and says what it is to be told.
    pub(super) fn advance(
        &mut self,
        cursor: &mut Cursor,
        ruins: &mut Vec<Ruin>,
        tell: &mut dyn FnMut(Tell),
    ) -> Step {
        match self.place_of(cursor.generation) {
            Place::Lost => Step::Lost,
            Place::Frozen(index) => self.advance_frozen(cursor, index, ruins, tell),
            Place::Growing => self.advance_growing(cursor, tell),
        }
    }

    fn advance_frozen(
        &mut self,
        cursor: &mut Cursor,
        index: usize,
        ruins: &mut Vec<Ruin>,
        tell: &mut dyn FnMut(Tell),
    ) -> Step {
        let frozen = &self.frozen[index];
        if cursor.met < frozen.evicted {
            return Step::Lost;
        }
        match cursor.pass {
            // It had got so far when the flush came.
            Pass::Rows(told) => cursor.pass = Pass::Frozen { at: 0, told },
            Pass::No => cursor.pass = Pass::Frozen { at: 0, told: u32::MAX },
            Pass::Frozen { at, told } if at < frozen.rows.end() => {
                let row = &frozen.rows[at];
                let had = match row.had(cursor) {
                    Had::This => at < told,
                    Had::Maybe => true,
                    Had::Nothing => false,
                };
                if row.is_there() && had {
                    tell(Tell::Delete { key: whole(row.key) });
                }
                cursor.pass = Pass::Frozen { at: at + 1, told };
            }
            Pass::Frozen { .. } => cursor.pass = Pass::Graves(0),
            Pass::Graves(at) if at < frozen.graves.graves() => {
                if let Some((gone, key)) = frozen.graves.grave(at) {
                    if gone.0 > cursor.met {
                        tell(Tell::Delete { key: key_of(&key) });
                    }
                }
                cursor.pass = Pass::Graves(at + 1);
            }
            Pass::Graves(_) => {
                (cursor.whole, cursor.met) = (frozen.flushed, frozen.flushed);
                cursor.pass = Pass::No;
                cursor.generation += 1;
                self.order.met(cursor.marker, Revision(cursor.met));
                self.frozen[index].sessions -= 1;
                match self.frozen.get_mut(index + 1) {
                    Some(next) => next.sessions += 1,
                    None => self.sessions += 1,
                }
                self.thaw(ruins);
            }
        }
        Step::Moved
    }

    fn advance_growing(&mut self, cursor: &mut Cursor, tell: &mut dyn FnMut(Tell)) -> Step {
        if cursor.met < self.order.evicted().0 {
            return Step::Lost;
        }
        if let Pass::Rows(at) = cursor.pass {
            if at >= self.rows.end() {
                cursor.pass = Pass::No;
                return Step::Moved;
            }
            let row = &self.rows[at];
            if row.is_there() && row.had(cursor) == Had::This {
                let (key, step) = (whole(row.key), 0);
                tell(Tell::Create { key, group: row.group, step, earlier: false });
            }
            cursor.pass = Pass::Rows(at + 1);
            return Step::Moved;
        }
        match self.order.advance(cursor.marker) {
            Ok(Some((Revision(step), ahead))) => {
                match ahead {
                    Ahead::Live(_, at) => {
                        let row = &self.rows[at];
                        let (key, group) = (whole(row.key), row.group);
                        match row.had(cursor) {
                            Had::This => tell(Tell::Update { key, group, step }),
                            had => {
                                let earlier = had == Had::Maybe;
                                tell(Tell::Create { key, group, step, earlier });
                            }
                        }
                    }
                    Ahead::Gone(_, key) => {
                        if let Some(key) = key.first_chunk() {
                            tell(Tell::Delete { key: key_of(key) });
                        }
                    }
                    // Its generation was gone through.
                    Ahead::Flushed(_) => {}
                }
                cursor.met = cursor.met.max(step);
                Step::Moved
            }
            Ok(None) => Step::Moved,
            Err(Step::Tail) => {
                // Tombstones given up from here on are no loss to it.
                (cursor.whole, cursor.met) = (self.step, self.step);
                self.order.met(cursor.marker, Revision(self.step));
                Step::Tail
            }
            Err(step) => step,
        }
    }
}

/// Where a generation is.
enum Place {
    Lost,
    Frozen(usize),
    Growing,
}

fn bytes_of(key: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    bytes
}

fn key_of(bytes: &[u8; 16]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *bytes;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A client that is told everything, and complains of what a sound server
    /// wouldn't say.
    struct Client {
        cursor: Cursor,
        rows: BTreeMap<u64, u32>,
        strict: bool,
    }

    impl Client {
        fn join(section: &mut Section) -> Client {
            Client { cursor: section.join(), rows: BTreeMap::new(), strict: false }
        }

        fn take(&mut self, section: &mut Section, mut count: usize) -> Step {
            let (rows, strict) = (&mut self.rows, self.strict);
            loop {
                let mut ruins = Vec::new();
                let step = section.advance(&mut self.cursor, &mut ruins, &mut |tell| match tell {
                    Tell::Create { key, group, earlier, .. } => {
                        if earlier {
                            rows.remove(&key);
                        }
                        assert_eq!(rows.insert(key, group), None, "{tell:?}: it has it");
                    }
                    Tell::Update { key, group, .. } => {
                        assert!(rows.insert(key, group).is_some(), "{tell:?}: it has it not");
                    }
                    Tell::Delete { key } => {
                        let had = rows.remove(&key);
                        assert!(!strict || had.is_some(), "{tell:?}: it has it not");
                    }
                });
                count -= 1;
                if step != Step::Moved || count == 0 {
                    return step;
                }
            }
        }
    }

    struct Rng(u64);

    impl Rng {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
            (self.0 >> 33) % bound
        }
    }

    /// Against the naive table: changes, flushes and readers of every pace; each
    /// that comes to the tail has exactly the table.
    #[test]
    fn whoever_comes_to_the_tail_has_the_table() {
        for seed in 0..200 {
            let mut rng = Rng(seed);
            let mut section = Section::default();
            let mut table = BTreeMap::new();
            let mut clients: Vec<Client> = Vec::new();
            for _ in 0..400 {
                match rng.below(20) {
                    0 => {
                        section.flush(&mut Vec::new());
                        table.clear();
                    }
                    1 if clients.len() < 6 => clients.push(Client::join(&mut section)),
                    2 if clients.len() > 2 => {
                        let client = clients.swap_remove(rng.below(clients.len() as u64) as usize);
                        section.leave(&client.cursor, &mut Vec::new());
                    }
                    3..=11 => {
                        let (key, group) = (rng.below(30), rng.below(1000) as u32 + 1);
                        section.set(key, group);
                        table.insert(key, group);
                    }
                    12..=14 => {
                        let key = rng.below(30);
                        section.remove(key);
                        table.remove(&key);
                    }
                    _ => {
                        let count = clients.len() as u64;
                        if count > 0 {
                            let client = &mut clients[rng.below(count) as usize];
                            let steps = rng.below(60) as usize + 1;
                            if client.take(&mut section, steps) == Step::Tail {
                                assert_eq!(client.rows, table, "seed {seed}");
                                assert!(section.is_at_tail(&client.cursor));
                                assert_eq!(section.lag(&client.cursor), 0);
                            }
                        }
                    }
                }
                assert_eq!(section.len(), table.len());
            }
            for client in &mut clients {
                assert_eq!(client.take(&mut section, usize::MAX), Step::Tail);
                assert_eq!(client.rows, table, "seed {seed}");
            }
            assert!(section.frozen.is_empty(), "all have passed all flushes");
            // Who is at the tail all the time is told nothing that it needn't be.
            for client in &mut clients {
                client.strict = true;
            }
            for _ in 0..100 {
                let key = rng.below(30);
                match rng.below(3) {
                    0 => section.remove(key),
                    _ => section.set(key, rng.below(1000) as u32 + 1),
                }
                for client in &mut clients {
                    assert_eq!(client.take(&mut section, usize::MAX), Step::Tail);
                }
            }
        }
    }

    #[test]
    fn who_is_behind_what_was_given_up_is_lost() {
        let mut section = Section::default();
        let mut ruins = Vec::new();
        (0..1000).for_each(|key| section.set(key, 1));
        let (mut slow, mut quick) = (Client::join(&mut section), Client::join(&mut section));
        for client in [&mut slow, &mut quick] {
            assert_eq!(client.take(&mut section, usize::MAX), Step::Tail);
        }
        (0..500).for_each(|key| section.remove(key));
        assert_eq!(quick.take(&mut section, usize::MAX), Step::Tail);
        while section.trim(0, 100, &mut ruins) {}
        assert_eq!(slow.take(&mut section, usize::MAX), Step::Lost);
        assert_eq!(quick.take(&mut section, usize::MAX), Step::Tail);
        assert_eq!(quick.rows.len(), 500);
        section.leave(&slow.cursor, &mut ruins);
        // The same for what a flush left, which takes more than it may.
        let mut slow = Client::join(&mut section);
        assert_eq!(slow.take(&mut section, usize::MAX), Step::Tail);
        section.flush(&mut ruins);
        assert_eq!(quick.take(&mut section, usize::MAX), Step::Tail);
        assert_eq!(section.frozen.len(), 1, "one still needs it");
        section.trim(0, 100, &mut ruins);
        assert_eq!(slow.take(&mut section, usize::MAX), Step::Lost);
        section.leave(&slow.cursor, &mut ruins);
        section.set(7, 7);
        assert_eq!(quick.take(&mut section, usize::MAX), Step::Tail);
        assert_eq!(quick.rows, BTreeMap::from([(7, 7)]));
    }
}
