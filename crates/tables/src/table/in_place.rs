//! What most changes of a stream are: a route that is alone under its prefix and
//! offered by nobody else gets another next hop, goes, or comes back to the place that
//! it left a while ago.
//!
//! Nothing but this entry can be touched then: no link or group comes or goes,
//! nobody else's candidate wins, nothing can fail behind the first write. So there
//! is nothing to note and nothing to undo, and verbs, candidates and commit are one
//! piece. Whatever isn't so goes their way; what comes of a change is the same
//! (`tests/model` compares).

use rtm_model::{Change, DISTANCE_NEVER, Hops, RouteSpec, RouteType, Verb};

use super::candidates::RouteNo;
use super::verbs::{check_hops, key_of, metric_of, value_of};
use super::{Applied, SourceId, Table};
use crate::record::{Record, RecordOp, RecordSink};
use crate::store::attrs::NO_ATTRS;
use crate::store::entry::Value;

impl Table {
    /// Applies a change of the entry that was found ahead. `None`: it isn't such a
    /// change, and nothing was done.
    #[inline]
    pub(super) fn apply_in_place(
        &mut self,
        source: SourceId,
        change: &Change,
        out: &mut dyn RecordSink,
    ) -> Option<Applied> {
        let no = self.hint?;
        let Change::Route(verb, spec) = change else { return None };
        let plain = spec.ordinal.is_none() && spec.attrs.is_none();
        if !plain || self.is_staging() || no.family() != spec.prefix.family() {
            return None;
        }
        let prefix = (spec.prefix.bits(), spec.prefix.len());
        let alone = self.store.is_first(no, key_of(spec).table, prefix)
            && self.store.following(no).is_none();
        let (tos, metric, ordinal) = self.store.place(no);
        let meta = self.meta(no);
        if !alone || (tos, ordinal) != (spec.tos, 0) || meta.losers != 0 {
            return None;
        }
        let before = self.store.value(no);
        let is_own = !before.is_present() || meta.source == source.0;
        if !is_own || before.attrs != NO_ATTRS {
            return None;
        }
        match (verb, before.is_present()) {
            (Verb::Delete, true) => self.delete_in_place(source, no, before, metric, spec, out),
            // A newer stamp counts among what its source has confirmed.
            (Verb::Replace, true) if meta.stamp != self.stamp => None,
            (Verb::Replace, _) | (Verb::Add, false) if metric == metric_of(spec) => {
                self.set_in_place(source, no, before, spec, out)
            }
            _ => None,
        }
    }

    #[inline]
    fn set_in_place(
        &mut self,
        source: SourceId,
        no: RouteNo,
        before: Value,
        spec: &RouteSpec,
        out: &mut dyn RecordSink,
    ) -> Option<Applied> {
        let kind = spec.kind.unwrap_or(RouteType::Unicast);
        let Hops::One(hop) = &spec.hops else { return None };
        if !kind.wants_next_hop() {
            return None;
        }
        check_hops(no.family(), std::slice::from_ref(hop)).ok()?;
        let group = self.find_group(hop)?.0;
        let after = value_of(spec, kind, self.source_spec(source)?, group);
        if before == after {
            return Some(Applied::Unchanged);
        }
        if after.distance == DISTANCE_NEVER || !self.may_release(before.group, group) {
            return None;
        }
        if before.group != group {
            self.use_group(group);
            self.release_group(before.group);
        }
        let kind = no.kind();
        let new = self.store.words(no, after);
        // Side by side: each is one long chain of steps that wait for each other.
        let (came, went) = match before.is_present() {
            true => {
                let values = [after.word(), before.word()];
                let [came, went] = self.digester.hash_both(kind, new.key(), values);
                (came, went)
            }
            false => (self.digester.hash_words(kind, new.all()), 0),
        };
        self.store.digests.routes.add(came.wrapping_sub(went));
        let (old, length) = new.with(before).bytes();
        let (new, _) = new.bytes();
        let new = &new[..length];
        let old = if before.is_present() { &old[..length] } else { &[] };
        self.store.put_value(no, after);
        if !before.is_present() {
            self.count_alone(source, no, true);
        }
        self.revision.0 += 1;
        let revision = self.revision;
        self.order.routes.changed(kind, no.at(), revision, || &new[..kind.key_bytes()]);
        let op = RecordOp::Set;
        out.record(&Record { revision, last: true, op, kind, body: new, before: old });
        Some(Applied::Changed(revision))
    }

    #[inline]
    fn delete_in_place(
        &mut self,
        source: SourceId,
        no: RouteNo,
        before: Value,
        metric: u32,
        spec: &RouteSpec,
        out: &mut dyn RecordSink,
    ) -> Option<Applied> {
        let any = spec.kind.is_none() && spec.protocol.is_none() && spec.scope.is_none();
        let fits = spec.metric.is_none_or(|wanted| wanted == metric && wanted != 0);
        let any = any && matches!(spec.hops, Hops::None) && self.source_spec(source).is_some();
        if !any || !fits || !self.may_release(before.group, 0) {
            return None;
        }
        self.release_group(before.group);
        let kind = no.kind();
        let old = self.store.words(no, before);
        self.store.digests.routes.remove(self.digester.hash_words(kind, old.all()));
        let (old, length) = old.bytes();
        let old = &old[..length];
        self.count_alone(source, no, false);
        self.store.put_value(no, Value::ABSENT);
        self.revision.0 += 1;
        let revision = self.revision;
        let key = &old[..kind.key_bytes()];
        self.order.routes.gone(kind, no.at(), revision, key);
        let op = RecordOp::Delete;
        out.record(&Record { revision, last: true, op, kind, body: key, before: old });
        self.drop_if_empty(no);
        self.order.trim(self.limits.tombstone_bytes_max, 1);
        Some(Applied::Changed(revision))
    }

    /// Can `old` have a user less, for `new`, without a group going at once?
    #[inline]
    fn may_release(&self, old: u32, new: u32) -> bool {
        old == new || !self.shared.is_last_use(old) || self.may_linger(old)
    }
}
