//! Routes: what a change of one means for the tree that has it and for what
//! lookups find.
use rtm_model::{Family, GroupId, Route, RouteKey, TABLE_MAIN};

use super::{EMPTY_TABLE, Writer};
use crate::answers::{Answer, Answers};
use crate::keys::{self, HAS_ATTRS, RouteWords};
use crate::layout::{TableRoot, none, tag, word_of};
use crate::lpm::{Slot, Wide, paint, small};
use crate::store::{Full, Memory, Store};
use crate::tree::{Hint, Kin, Tree};

/// Is a prefix of this length not part of the table's trie?
fn is_short(table: u32, len: u8) -> bool {
    table == TABLE_MAIN && len < none::SHORT_BITS
}

pub(super) fn index_of(family: Family) -> usize {
    usize::from(family == Family::V6)
}

/// What a lookup would find for a route with this value.
fn answer_of(value: u64) -> Answer {
    let kind = keys::kind_of(value).expect("the writer wrote it");
    Answer::new(GroupId(value as u32), kind)
}

/// The value of the route that lookups of this prefix find: tos 0, then the
/// lowest (distance, metric, ordinal).
fn best<M: Memory, const K: usize>(
    store: &Store<M>,
    tree: &Tree<K, 1>,
    first: &[u64; K],
) -> Option<u64>
where
    [u64; K]: RouteWords,
{
    let mut best: Option<u64> = None;
    tree.scan(store.mem(), first, usize::MAX, |key, [value]| {
        let same = key.table() == first.table()
            && key.bits() == first.bits()
            && key.tail() >> 48 == first.tail() >> 48;
        if same && best.is_none_or(|best| value >> 56 < best >> 56) {
            best = Some(value);
        }
        same
    });
    best
}

impl<M: Memory> Writer<M> {
    pub(super) fn set_route(&mut self, route: &Route) -> Result<(), Full> {
        let set = Some((keys::route_value(&route.value), route.value.attrs.bytes()));
        match route.key.prefix.family() {
            Family::V4 => self.route4(&RouteWords::of(&route.key), set, None),
            Family::V6 => self.route6(&RouteWords::of(&route.key), set, None),
        }
    }

    pub(super) fn delete_route(&mut self, key: &RouteKey) -> Result<(), Full> {
        match key.prefix.family() {
            Family::V4 => self.route4(&RouteWords::of(key), None, None),
            Family::V6 => self.route6(&RouteWords::of(key), None, None),
        }
    }

    pub(super) fn route4(
        &mut self,
        key: &[u64; 2],
        set: Option<(u64, &[u8])>,
        hint: Option<Hint>,
    ) -> Result<(), Full> {
        let trees = (&mut self.routes4, &mut self.attrs4);
        let change = change_route(&mut self.store, trees, key, set, hint)?;
        self.changed(key, change)
    }

    pub(super) fn route6(
        &mut self,
        key: &[u64; 4],
        set: Option<(u64, &[u8])>,
        hint: Option<Hint>,
    ) -> Result<(), Full> {
        let trees = (&mut self.routes6, &mut self.attrs6);
        let change = change_route(&mut self.store, trees, key, set, hint)?;
        self.changed(key, change)
    }

    /// A route was changed in its tree; now what lookups find.
    fn changed<K: RouteWords>(&mut self, key: &K, change: RouteChange) -> Result<(), Full> {
        let before = change.before.map(answer_of);
        let after = change.after.map(answer_of);
        if change.routes == 0 && before == after {
            return Ok(());
        }
        let family = K::FAMILY;
        let (table, bits, len) = (key.table(), key.bits(), key.prefix_len());
        let index = index_of(family);
        let states = self.tables.entry(table).or_insert([EMPTY_TABLE; 2]);
        if !states[0].changed {
            states[0].changed = true;
            self.changed_tables.push(table);
        }
        let state = &mut states[index];
        state.routes = state.routes.wrapping_add_signed(change.routes);
        if before == after {
            return Ok(());
        }
        let mut state = *state;
        let number = match after {
            Some(answer) => self.answers.acquire(&mut self.store, answer)?,
            None => 0,
        };
        let is_short = is_short(table, len);
        if is_short {
            self.short.set(family, bits, len, number);
        }
        if len == 0 {
            state.root.default = number;
        } else {
            state.prefixes += u64::from(before.is_none());
            state.prefixes -= u64::from(after.is_none());
            if !state.is_trie {
                state.stale = true;
            } else if !is_short {
                let slot = match after {
                    Some(_) => Slot::leaf(number, len),
                    None => self.covering(family, table, state.root.entry, bits, len),
                };
                let root = state.root.entry;
                state.root.entry = self.paint(family, root, bits, len, slot)?;
            }
        }
        if let Some(answer) = before {
            let number = self.answers.number(answer);
            self.answers.release(number);
        }
        self.tables.get_mut(&table).expect("entered above")[index] = state;
        if state.is_trie && state.prefixes < small::PREFIXES_MAX as u64 / 4 {
            self.make_small(table, family);
        } else if !state.is_trie && state.prefixes > small::PREFIXES_MAX as u64 {
            self.make_trie(table, family)?;
        } else if table == TABLE_MAIN && family == Family::V4 && state.is_trie {
            self.choose_root(state.prefixes)?;
        }
        Ok(())
    }

    /// A large table main has a wide root. Without room for one it does without.
    fn choose_root(&mut self, prefixes: u64) -> Result<(), Full> {
        // With fewer than this it goes; without room it is tried again after as many more.
        let kept = self.wide_prefixes / 4;
        let widen = self.wide.is_none() && prefixes >= self.wide_prefixes && prefixes % kept == 0;
        if !widen && (self.wide.is_none() || prefixes >= kept) {
            return Ok(());
        }
        let state = &mut self.tables.get_mut(&TABLE_MAIN).expect("a table with routes")[0];
        if let Some(wide) = self.wide.take() {
            state.root.entry = wide.into_pages(&mut self.store)?;
        } else if let Ok(wide) = Wide::of_pages(&mut self.store, state.root.entry) {
            state.root.entry = wide.reference();
            self.wide = Some(wide);
        }
        Ok(())
    }

    /// Paints in a trie; returns its root.
    fn paint(
        &mut self,
        family: Family,
        root: u32,
        bits: u128,
        len: u8,
        slot: Slot,
    ) -> Result<u32, Full> {
        let wide = self.wide.as_mut().filter(|wide| wide.reference() == root);
        let Some(wide) = wide.filter(|_| family == Family::V4) else {
            return self.painter.paint(&mut self.store, family, root, bits, len, slot);
        };
        self.painter.paint_wide(&mut self.store, wide, bits, len, slot)?;
        Ok(wide.reference())
    }

    /// The leaf of the longest prefix around this one, itself left out: in a trie with this root.
    fn covering(&self, family: Family, table: u32, root: u32, bits: u128, len: u8) -> Slot {
        let wide = self.wide.as_ref().filter(|wide| wide.reference() == root);
        let wide = wide.filter(|_| family == Family::V4);
        let leaf_at = |address| paint::leaf_at(&self.store, family, wide, root, address);
        let leaf = |value, len| Slot::leaf(self.answers.number(answer_of(value)), len);
        let found = match family {
            Family::V4 => covering(&self.store, &self.routes4, (table, bits, len), leaf_at, leaf),
            Family::V6 => covering(&self.store, &self.routes6, (table, bits, len), leaf_at, leaf),
        };
        let none = match table {
            TABLE_MAIN => none::of(family, (bits >> (128 - u32::from(none::SHORT_BITS))) as u8),
            _ => none::DEFAULT,
        };
        // One of no prefix in the trie may be another part's.
        let found = found.filter(|slot| slot.depth > 0 && !is_short(table, slot.depth));
        found.unwrap_or(Slot::none(none))
    }

    /// The table's prefixes with their answers, the default left out, in order.
    fn painted(&self, table: u32, family: Family) -> Vec<small::Painted> {
        match family {
            Family::V4 => painted(&self.store, &self.routes4, &self.answers, table),
            Family::V6 => painted(&self.store, &self.routes6, &self.answers, table),
        }
    }

    fn make_trie(&mut self, table: u32, family: Family) -> Result<(), Full> {
        let painted = self.painted(table, family);
        let state =
            &mut self.tables.get_mut(&table).expect("a table with routes")[index_of(family)];
        if state.root.entry & tag::LEAF == 0 {
            self.store.retire(state.root.entry & tag::OFFSET);
        }
        let mut root = paint::empty(&mut self.store, family, table == TABLE_MAIN)?;
        for prefix in painted.into_iter().filter(|prefix| !is_short(table, prefix.len)) {
            let slot = Slot::leaf(prefix.answer, prefix.len);
            root =
                self.painter.paint(&mut self.store, family, root, prefix.bits, prefix.len, slot)?;
        }
        (state.root.entry, state.is_trie, state.stale) = (root, true, false);
        Ok(())
    }

    fn make_small(&mut self, table: u32, family: Family) {
        let state =
            &mut self.tables.get_mut(&table).expect("a table with routes")[index_of(family)];
        paint::clear(&mut self.store, family, state.root.entry);
        (state.root.entry, state.is_trie, state.stale) = (TableRoot::EMPTY.entry, false, true);
    }

    /// What is left to be done before a commit.
    pub(super) fn finish(&mut self) -> Result<(), Full> {
        self.finish_tables()?;
        self.answers.finish(&mut self.store, &mut self.short)
    }

    /// Builds the small tables that changed, and the tree of tables.
    fn finish_tables(&mut self) -> Result<(), Full> {
        for table in core::mem::take(&mut self.changed_tables) {
            let Some(mut states) = self.tables.get(&table).copied() else { continue };
            states[0].changed = false;
            for family in [Family::V4, Family::V6] {
                let state = &mut states[index_of(family)];
                if !state.stale {
                    continue;
                }
                if state.root.entry & tag::LEAF == 0 {
                    self.store.retire(state.root.entry & tag::OFFSET);
                }
                let painted = self.painted(table, family);
                state.root.entry = small::build(&mut self.store, family, &painted)?;
                state.stale = false;
            }
            if states.iter().all(|state| state.routes == 0) {
                self.tables.remove(&table);
                self.table_tree.remove(&mut self.store, &[u64::from(table)])?;
                continue;
            }
            self.tables.insert(table, states);
            let value = [
                states[0].root.pack(),
                states[1].root.pack(),
                states[0].routes & 0xffff_ffff | states[1].routes << 32,
            ];
            self.table_tree.insert(&mut self.store, &[u64::from(table)], &value)?;
        }
        Ok(())
    }

    pub(super) fn flush_routes(&mut self) -> Result<(), Full> {
        retire_all(&mut self.store, Tree::<2, 1>::new(self.attrs4.at));
        retire_all(&mut self.store, Tree::<4, 1>::new(self.attrs6.at));
        self.routes4.clear(&mut self.store);
        self.routes6.clear(&mut self.store);
        self.attrs4.clear(&mut self.store);
        self.attrs6.clear(&mut self.store);
        self.table_tree.clear(&mut self.store);
        if let Some(wide) = self.wide.take() {
            paint::clear_wide(&mut self.store, wide);
            let main = self.tables.get_mut(&TABLE_MAIN).expect("a table with routes");
            (main[0].root.entry, main[0].is_trie) = (TableRoot::EMPTY.entry, false);
        }
        self.short.clear();
        for (_, states) in self.tables.drain() {
            for (state, family) in states.iter().zip([Family::V4, Family::V6]) {
                if state.is_trie {
                    paint::clear(&mut self.store, family, state.root.entry);
                } else if state.root.entry & tag::LEAF == 0 {
                    self.store.retire(state.root.entry & tag::OFFSET);
                }
            }
        }
        self.changed_tables.clear();
        self.answers.clear(&mut self.store)
    }
}

/// What a change of a route means for lookups: the value of the route that
/// they found for the prefix before and after.
struct RouteChange {
    before: Option<u64>,
    after: Option<u64>,
    /// Routes more or less.
    routes: i64,
}

fn change_route<M: Memory, const K: usize>(
    store: &mut Store<M>,
    (routes, attrs): (&mut Tree<K, 1>, &mut Tree<K, 1>),
    key: &[u64; K],
    set: Option<(u64, &[u8])>,
    hint: Option<Hint>,
) -> Result<RouteChange, Full>
where
    [u64; K]: RouteWords,
{
    let (table, bits, len) = (key.table(), key.bits(), key.prefix_len());
    let first = <[u64; K]>::first_of(table, bits, len);
    let last = <[u64; K]>::last_of(table, bits, len);
    let value = set.map(|(value, bytes)| [value | if bytes.is_empty() { 0 } else { HAS_ATTRS }]);
    let placed = routes.change(store, key, value.as_ref(), Kin { first, last }, hint)?;
    let (old, alone) = (placed.before.map(|[old]| old), placed.alone);
    if old.is_some_and(|old| old & HAS_ATTRS != 0) {
        if let Some([block]) = attrs.remove(store, key)? {
            store.retire(block as u32);
        }
    }
    if let Some((_, bytes)) = set.filter(|(_, bytes)| !bytes.is_empty()) {
        let block = store.allocate(bytes.len().div_ceil(8))?;
        for (index, word) in bytes.chunks(8).enumerate() {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            store.put(word_of(block) + index, u64::from_le_bytes(padded));
        }
        attrs.insert(store, key, &[u64::from(block) | (bytes.len() as u64) << 32])?;
    }
    let routes_more = i64::from(set.is_some()) - i64::from(old.is_some());
    // What lookups find is the best of this route and of the others of its prefix.
    let others = if alone { None } else { best_other(store, routes, key) };
    let with = |value: Option<u64>| {
        let own = value.filter(|_| key.tos() == 0).map(|value| (value >> 56, *key, value));
        let best = match (own, others) {
            (Some(own), Some(other)) => Some(if own < other { own } else { other }),
            (own, other) => own.or(other),
        };
        best.map(|(_, _, value)| value)
    };
    Ok(RouteChange {
        before: with(old),
        after: with(set.map(|(value, _)| value)),
        routes: routes_more,
    })
}

/// The best of the other routes to this key's prefix with tos 0: distance, key
/// and value.
fn best_other<M: Memory, const K: usize>(
    store: &Store<M>,
    tree: &Tree<K, 1>,
    key: &[u64; K],
) -> Option<(u64, [u64; K], u64)>
where
    [u64; K]: RouteWords,
{
    let mut best: Option<(u64, [u64; K], u64)> = None;
    let first = <[u64; K]>::first_of(key.table(), key.bits(), key.prefix_len());
    tree.scan(store.mem(), &first, usize::MAX, |found, [value]| {
        let same = found.is_kin(key) && found.tos() == 0;
        if same && found != *key && best.is_none_or(|best| value >> 56 < best.0) {
            best = Some((value >> 56, found, value));
        }
        same
    });
    best
}

/// The leaf of the longest prefix around (`bits`, `len`) that lookups find, the default
/// left out, or of none. `leaf_at` says what an address has, `leaf` what the leaf is of
/// a route with this value to a prefix of this length.
///
/// All prefixes around ours that are no longer than `common` contain the addresses that have
/// just so many bits in common with ours. So if one of these has a leaf of a prefix no longer
/// than that, this is the one: mostly found by looking beside ours, where the lookup
/// structure is about to be changed anyway.
///
/// If all of these have longer ones, the tree is asked. In its order a prefix comes before all
/// that it contains. So the last prefix before ours either contains it, or what contains ours
/// contains that one as well and is no longer than what both have in common.
fn covering<M: Memory, const K: usize>(
    store: &Store<M>,
    routes: &Tree<K, 1>,
    (table, bits, len): (u32, u128, u8),
    leaf_at: impl Fn(u128) -> Slot,
    leaf: impl Fn(u64, u8) -> Slot,
) -> Option<Slot>
where
    [u64; K]: RouteWords,
{
    let mut bound = <[u64; K]>::first_of(table, bits, len);
    let mut or_equal = false;
    let (mut common, mut seen) = (len - 1, len);
    loop {
        if common < seen {
            seen = common;
            let other = (bits ^ 1 << (127 - common)) & rtm_model::mask(common + 1);
            // The first and the last of them.
            let ends = [other, other | !rtm_model::mask(common + 1)];
            let found = ends.into_iter().map(&leaf_at).find(|slot| slot.depth <= common);
            if found.is_some() {
                return found;
            }
        }
        let (found, _) = routes.before(store.mem(), &bound, or_equal)?;
        if found.table() != table {
            return None;
        }
        let shared = (found.bits() ^ bits).leading_zeros().min(u32::from(len) - 1) as u8;
        if found.prefix_len() == 0 || shared == 0 {
            return None;
        }
        if found.prefix_len() <= shared {
            let first = <[u64; K]>::first_of(table, found.bits(), found.prefix_len());
            if let Some(value) = best(store, routes, &first) {
                return Some(leaf(value, found.prefix_len()));
            }
            (bound, or_equal) = (first, false);
        } else {
            (bound, or_equal) =
                (<[u64; K]>::last_of(table, bits & rtm_model::mask(shared), shared), true);
            common = shared;
        }
    }
}

fn painted<M: Memory, const K: usize>(
    store: &Store<M>,
    routes: &Tree<K, 1>,
    answers: &Answers,
    table: u32,
) -> Vec<small::Painted>
where
    [u64; K]: RouteWords,
{
    let mut painted: Vec<(small::Painted, u64)> = Vec::new();
    let first = <[u64; K]>::first_of(table, 0, 0);
    routes.scan(store.mem(), &first, usize::MAX, |key, [value]| {
        if key.table() != table {
            return false;
        }
        if key.tos() != 0 || key.prefix_len() == 0 {
            return true;
        }
        let answer = answers.number(answer_of(value));
        let prefix = small::Painted { bits: key.bits(), len: key.prefix_len(), answer };
        match painted.last_mut() {
            Some((last, best)) if (last.bits, last.len) == (prefix.bits, prefix.len) => {
                if value >> 56 < *best >> 56 {
                    (*last, *best) = (prefix, value);
                }
            }
            _ => painted.push((prefix, value)),
        }
        true
    });
    painted.into_iter().map(|(prefix, _)| prefix).collect()
}

/// Hands back every block that a tree names; the tree itself stays.
fn retire_all<M: Memory, const K: usize>(store: &mut Store<M>, named: Tree<K, 1>) {
    let mut blocks = Vec::new();
    named.scan(store.mem(), &[0; K], usize::MAX, |_, [block]| {
        blocks.push(block as u32);
        true
    });
    for block in blocks {
        store.retire(block);
    }
}
