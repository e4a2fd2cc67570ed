//! What most changes of a stream are: a route that is there, alone under its
//! prefix and offered by nobody else, gets another next hop.
//!
//! Nothing but this entry can be touched then: no link or group comes or goes,
//! nobody else's candidate wins, nothing can fail behind the first write. So there
//! is nothing to note and nothing to undo, and verbs, candidates and commit are one
//! piece. Whatever isn't so goes their way; what comes of a change is the same
//! (`tests/model` compares).

use rtm_model::{Change, DISTANCE_NEVER, Hops, RouteType, Verb};

use super::verbs::{check_hops, key_of, metric_of, value_of};
use super::{Applied, SourceId, Table};
use crate::record::{Record, RecordOp, RecordSink};
use crate::store::attrs::NO_ATTRS;

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
        let Change::Route(Verb::Replace, spec) = change else { return None };
        let Hops::One(hop) = &spec.hops else { return None };
        let (family, kind) = (spec.prefix.family(), spec.kind.unwrap_or(RouteType::Unicast));
        let plain = spec.ordinal.is_none() && spec.attrs.is_none() && kind.wants_next_hop();
        if !plain || self.is_staging() || no.family() != family {
            return None;
        }
        check_hops(family, std::slice::from_ref(hop)).ok()?;
        let prefix = (spec.prefix.bits(), spec.prefix.len());
        let alone = self.store.is_first(no, key_of(spec).table, prefix)
            && self.store.following(no).is_none()
            && self.store.place(no) == (spec.tos, metric_of(spec), 0);
        let meta = *self.meta(no);
        // A newer stamp counts among what its source has confirmed.
        if !alone || meta.losers != 0 || meta.source != source.0 || meta.stamp != self.stamp {
            return None;
        }
        let group = self.find_group(hop)?.0;
        let before = self.store.value(no);
        if !before.is_present() {
            return None;
        }
        let after = value_of(spec, kind, self.source_spec(source)?, group);
        if before == after {
            return Some(Applied::Unchanged);
        }
        if before.attrs != NO_ATTRS || after.distance == DISTANCE_NEVER {
            return None;
        }
        if before.group != group {
            if self.shared.is_last_use(before.group) {
                return None;
            }
            self.use_group(group);
            self.release_group(before.group);
        }
        let (new, length) = self.store.canonical(no, after);
        let (old, _) = self.store.canonical(no, before);
        let (new, old) = (&new[..length], &old[..length]);
        let kind = no.kind();
        // Side by side: each is one long chain of steps that wait for each other.
        let (came, went) = (self.digester.hash(kind, new), self.digester.hash(kind, old));
        self.store.digests.routes.add(came.wrapping_sub(went));
        self.store.put_value(no, after);
        self.revision.0 += 1;
        let revision = self.revision;
        self.order.routes.changed(kind, no.at(), revision, || &new[..kind.key_bytes()]);
        let op = RecordOp::Set;
        out.record(&Record { revision, last: true, op, kind, body: new, before: old });
        Some(Applied::Changed(revision))
    }
}
