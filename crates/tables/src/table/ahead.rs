//! Looking ahead: what the next changes will need from memory, fetched for
//! many of them at once.
//!
//! A change of a random route of a large table reads about ten cache lines that
//! no cache has, most of them at an address that the one before told: two or
//! three nodes of the trie, the entry, its node in the modification order, the
//! two neighbours of that, the groups of before and after. One after the other
//! they are nearly all that the change costs. So [`Table::apply_many`] goes the
//! same way for a batch of changes in step, a level at a time, changing
//! nothing, and asks for what each will read next ([`rtm_prefetch`]): the processor has
//! as many of these under way as it can.
//!
//! Once some batches have come that changed what was there, [`Table::tidy`] makes an exact
//! index of the entries: then a level is all that there is to go.
//!
//! What was found is kept as a hint. A change of the same batch may make it
//! wrong, so it is compared with the entry that it names before it is used.
//!
//! Changes that come in the order of their prefixes, as files have them, find
//! their way through the tries in the cache anyway: unless there is an exact index, only
//! their next hops, which are in no order, are looked at ahead.

use rtm_model::{Change, Family, Hops, RouteSpec, TABLE_MAIN};

use super::candidates::RouteNo;
use super::shared::Sought;
use super::verbs::metric_of;
use super::{Applied, ChangeError, SourceId, Table};
use crate::record::RecordSink;
use crate::store::entry::{Address, Key};
use crate::store::routes::{NOT_FOUND, Routes};

/// Changes that are looked at together: enough to have as much under way as the
/// processor can, few enough for the first-level cache to
/// hold what they find.
const BATCH: usize = 64;

/// So few are not worth it.
const BATCH_WORTH: usize = 4;

/// So many batches of which a quarter changed routes that were there make an exact index
/// worth having: a file that is loaded for the first time names few routes twice, and a
/// table that is only confirmed comes in its order.
pub(super) const INDEX_WORTH: u32 = 16;

/// No change of a batch.
pub(super) const NO_HINT: usize = usize::MAX;

/// Room for what is found, kept from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    keys4: Vec<Key>,
    keys6: Vec<Key>,
    found4: Vec<u32>,
    found6: Vec<u32>,
    /// Those that the exact index doesn't have.
    new: Vec<Key>,
    /// By change: where the first entry of its prefix most likely is.
    hints: Vec<Option<RouteNo>>,
    /// By change: its only next hop.
    hops: Vec<Option<Sought>>,
}

impl Table {
    /// Applies changes one by one, each as a transaction of its own: the same
    /// as [`Table::apply`] for each, and cheaper where the table is large and
    /// the changes are anywhere in it. `came` is told what came of each, and
    /// says whether to go on.
    pub fn apply_many(
        &mut self,
        source: SourceId,
        changes: &[Change],
        out: &mut dyn RecordSink,
        came: &mut dyn FnMut(&Change, Result<Applied, ChangeError>) -> bool,
    ) {
        for batch in changes.chunks(BATCH) {
            let routes = self.store.route_count();
            let mut changed = 0_usize;
            self.look_ahead(batch);
            for (index, change) in batch.iter().enumerate() {
                self.hint = self.ahead.hints.get(index).copied().flatten();
                self.hop_hint = index;
                self.in_stream = batch.len() >= BATCH_WORTH;
                let result = match self.apply_in_place(source, change, out) {
                    Some(applied) => Ok(applied),
                    None => self.apply(source, change, out),
                };
                (self.hint, self.hop_hint, self.in_stream) = (None, NO_HINT, false);
                changed += usize::from(matches!(result, Ok(Applied::Changed(_))));
                if !came(change, result) {
                    return;
                }
            }
            let new = self.store.route_count().saturating_sub(routes);
            if batch.len() >= BATCH_WORTH && changed.saturating_sub(new) * 4 >= batch.len() {
                self.changing_batches = self.changing_batches.saturating_add(1);
            }
        }
    }

    fn look_ahead(&mut self, batch: &[Change]) {
        let mut ahead = std::mem::take(&mut self.ahead);
        ahead.hints.clear();
        ahead.hops.clear();
        if batch.len() >= BATCH_WORTH {
            let in_order = is_in_order(batch);
            let store = &self.store;
            if !in_order || store.routes4.has_index() || store.routes6.has_index() {
                ahead.find(self, batch, in_order);
            }
            self.prefetch(&mut ahead, batch);
        }
        self.ahead = ahead;
    }

    /// Asks for what changes of these entries will read: first for all that is known,
    /// then for what that tells.
    fn prefetch(&self, ahead: &mut Ahead, batch: &[Change]) {
        let Ahead { hints, hops, .. } = ahead;
        for no in hints.iter().flatten() {
            self.store.prefetch(*no);
            self.order.routes.prefetch(no.kind(), no.at());
        }
        for change in batch {
            let sought = match change {
                Change::Route(_, RouteSpec { hops: Hops::One(hop), .. }) => self.seek(hop),
                _ => None,
            };
            if let Some(sought) = &sought {
                self.prefetch_sought(sought);
            }
            hops.push(sought);
        }
        hops.iter_mut().flatten().for_each(|sought| self.prefetch_hop(sought));
        for no in hints.iter().flatten() {
            self.order.routes.prefetch_around(no.kind(), no.at());
            self.shared.prefetch_group(self.store.value(*no).group);
        }
    }
}

impl Ahead {
    /// The only next hop of a change of the batch, as it was found.
    #[inline]
    pub(super) fn sought(&self, change: usize) -> Option<&Sought> {
        self.hops.get(change)?.as_ref()
    }

    fn find(&mut self, table: &Table, batch: &[Change], in_order: bool) {
        self.keys4.clear();
        self.keys6.clear();
        for spec in batch.iter().filter_map(route) {
            let table = if spec.table == 0 { TABLE_MAIN } else { spec.table };
            let prefix = (spec.prefix.bits(), spec.prefix.len());
            let key = Key { table, prefix, place: (spec.tos, metric_of(spec), 0) };
            match spec.prefix.family() {
                Family::V4 => self.keys4.push(key),
                Family::V6 => self.keys6.push(key),
            }
        }
        self.found4.resize(self.keys4.len(), NOT_FOUND);
        self.found6.resize(self.keys6.len(), NOT_FOUND);
        let new = &mut self.new;
        look(&table.store.routes4, &self.keys4, in_order, &mut self.found4, new);
        look(&table.store.routes6, &self.keys6, in_order, &mut self.found6, new);
        let (mut found4, mut found6) = (self.found4.iter(), self.found6.iter());
        self.hints.extend(batch.iter().map(|change| {
            let family = route(change)?.prefix.family();
            let at = match family {
                Family::V4 => found4.next(),
                Family::V6 => found6.next(),
            };
            at.filter(|at| **at != NOT_FOUND).map(|at| RouteNo::new(family, *at))
        }));
    }
}

/// Where these keys, or at least their prefixes, most likely are.
fn look<A: Address>(
    routes: &Routes<A>,
    keys: &[Key],
    in_order: bool,
    found: &mut [u32],
    new: &mut Vec<Key>,
) {
    if !routes.has_index() {
        return if in_order { found.fill(NOT_FOUND) } else { routes.walk_many(keys, found) };
    }
    routes.find_many(keys, found);
    if in_order {
        return; // the ways of those that are left are in the cache
    }
    // What comes, or is meant under another metric, has a way through the tries.
    new.clear();
    let missing = keys.iter().zip(&*found).filter(|(_, at)| **at == NOT_FOUND);
    new.extend(missing.map(|(key, _)| *key));
    if !new.is_empty() {
        let mut walked = [NOT_FOUND; BATCH];
        routes.walk_many(new, &mut walked[..new.len()]);
        let missing = found.iter_mut().filter(|at| **at == NOT_FOUND);
        missing.zip(walked).for_each(|(at, walked)| *at = walked);
    }
}

fn route(change: &Change) -> Option<&RouteSpec> {
    match change {
        Change::Route(_, spec) => Some(spec),
        _ => None,
    }
}

/// Is most of what follows another change close to it?
fn is_in_order(batch: &[Change]) -> bool {
    let near = |pair: &&[Change]| match (route(&pair[0]), route(&pair[1])) {
        (Some(a), Some(b)) => (a.prefix.bits() ^ b.prefix.bits()).leading_zeros() >= 16,
        _ => true,
    };
    batch.windows(2).filter(near).count() * 2 >= batch.len()
}
