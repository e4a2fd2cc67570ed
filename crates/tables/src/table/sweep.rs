//! What goes in slices: what a source no longer offers, a source that was
//! dropped, a link or a named group that took its routes with it.

use rtm_model::{EntityKey, GroupId, LinkId};

use super::{SourceId, Table};
use crate::record::RecordSink;

pub(super) struct Sweep {
    source: SourceId,
    before: u32,
    only: Only,
}

pub(super) enum Only {
    All,
    Link(LinkId),
    Group(GroupId),
}

impl Table {
    /// The source begins to offer its whole content anew.
    pub fn begin_generation(&mut self, source: SourceId) {
        self.stamp += 1;
        let stamp = self.stamp;
        if let Some(Some(source)) = self.sources.get_mut(usize::from(source.0)) {
            source.generation += 1;
            source.started = Some(stamp);
        }
    }

    /// The source has offered everything: what it no longer offers is marked
    /// for [`Table::sweep`].
    pub fn end_generation(&mut self, source: SourceId) {
        let Some(Some(entry)) = self.sources.get_mut(usize::from(source.0)) else { return };
        let Some(before) = entry.started.take() else { return };
        self.sweeps.push(Sweep { source, before, only: Only::All });
    }

    /// The source is gone with all it offered, which goes in
    /// [`Table::sweep`]'s slices. Its number is free when the last is gone.
    pub fn drop_source(&mut self, source: SourceId) {
        self.stamp += 1;
        let Some(Some(entry)) = self.sources.get_mut(usize::from(source.0)) else { return };
        entry.dropped = true;
        entry.started = None;
        self.sweeps.push(Sweep { source, before: self.stamp, only: Only::All });
    }

    pub(super) fn sweep_link(&mut self, source: SourceId, link: LinkId) {
        self.stamp += 1;
        self.sweeps.push(Sweep { source, before: self.stamp, only: Only::Link(link) });
    }

    pub(super) fn sweep_group(&mut self, source: SourceId, group: GroupId) {
        self.stamp += 1;
        self.sweeps.push(Sweep { source, before: self.stamp, only: Only::Group(group) });
    }

    /// One slice of what is to be swept, as one transaction; `budget` counts
    /// entities looked at. True: there is more.
    pub fn sweep(&mut self, budget: usize, out: &mut dyn RecordSink) -> bool {
        if self.staging.is_some() || self.sweeps.is_empty() {
            return !self.sweeps.is_empty();
        }
        let Sweep { source, before, ref only } = self.sweeps[0];
        let over = |group: GroupId| match only {
            Only::All => true,
            Only::Group(id) => group == *id,
            Only::Link(link) => self
                .store
                .group(group)
                .is_some_and(|group| group.hops.iter().any(|hop| hop.link == Some(*link))),
        };
        let routes: Vec<_> = self
            .candidates
            .iter()
            .filter(|(_, offers)| {
                offers.iter().any(|o| o.source == source && o.stamp < before && over(o.value.group))
            })
            .map(|(key, _)| *key)
            .take(budget)
            .collect();
        let neighbours: Vec<_> = self
            .neighbours
            .iter()
            .filter(|(key, offers)| {
                offers.iter().any(|o| o.source == source && o.stamp < before)
                    && match only {
                        Only::All => true,
                        Only::Group(_) => false,
                        Only::Link(link) => key.link == Some(*link),
                    }
            })
            .map(|(key, _)| *key)
            .take(budget.saturating_sub(routes.len()))
            .collect();
        let finished = routes.len() + neighbours.len() < budget;
        let all = matches!(only, Only::All);
        let group = match only {
            Only::Group(id) => Some(*id),
            _ => None,
        };
        if self.begin(source).is_err() {
            self.sweeps.remove(0);
            return !self.sweeps.is_empty();
        }
        for key in routes {
            self.offer_route(key, source, None);
        }
        for key in neighbours {
            self.offer_neighbour(key, source, None);
        }
        if finished {
            self.sweeps.remove(0);
            self.save_shared();
            if all {
                let old: Vec<GroupId> = self
                    .shared
                    .named
                    .iter()
                    .filter(|((s, _), id)| *s == source && self.shared.groups[&id.0].stamp < before)
                    .map(|(_, id)| *id)
                    .collect();
                for id in old {
                    self.unname_group(id);
                    self.sweep_group(source, id);
                }
                let old: Vec<LinkId> = self
                    .shared
                    .links
                    .iter()
                    .filter(|(_, l)| l.host.is_some_and(|(s, stamp)| s == source && stamp < before))
                    .map(|(id, _)| LinkId(*id))
                    .collect();
                for id in old {
                    self.unhost_link(id);
                }
            }
            if let Some(id) = group {
                self.touch(EntityKey::Group(id));
            }
            for group in self.shared.groups.values_mut() {
                group.kept = false;
            }
            for link in self.shared.links.values_mut() {
                link.kept = false;
            }
        }
        self.finish(out);
        let gone = self.sweeps.is_empty()
            && self.sources().any(|info| {
                info.id == source && info.dropped && info.routes + info.neighbours == 0
            });
        if gone {
            self.sources[usize::from(source.0)] = None;
        }
        !self.sweeps.is_empty()
    }
}
