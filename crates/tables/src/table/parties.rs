//! What each verb does to a neighbour, a link and a named group: the parties
//! that routes refer to.

use rtm_model::{
    Family, Group, GroupId, GroupSpec, Link, LinkSpec, NeighbourKey, NeighbourSpec, NeighbourValue,
    NudState, RouteType, Verb,
};

use super::verbs::check_hops;
use super::{Applied, ChangeError, SourceId, Table};
use crate::record::RecordSink;

impl Table {
    pub(super) fn change_neighbour(
        &mut self,
        source: SourceId,
        verb: Verb,
        spec: &NeighbourSpec,
    ) -> Result<(), ChangeError> {
        if verb == Verb::Delete {
            return self.delete_neighbour(source, spec);
        }
        refuse_list_verbs(verb, "neighbour")?;
        let known = match spec.link {
            None => Some(None),
            Some(link) => self.find_link(link).map(Some),
        };
        let offers = known
            .and_then(|link| self.store.neighbours.find(&NeighbourKey { ip: spec.ip, link }))
            .map_or(Vec::new(), |at| self.neighbour_offers(at));
        let old = offers.iter().find(|offer| offer.source == source).map(|offer| offer.value);
        match (verb, old, offers.first()) {
            (Verb::Add, Some(_), _) => return Err(ChangeError::Exists),
            (Verb::Change, None, None) => return Err(ChangeError::Missing),
            (Verb::Change, None, Some(other)) => return Err(self.foreign(other.source)),
            _ => {}
        }
        let link = match spec.link {
            None => None,
            Some(link) => Some(self.link_of(link)?),
        };
        // `change` keeps what is not said; the others begin anew.
        let kept = old.filter(|_| verb == Verb::Change);
        let value = NeighbourValue {
            mac: spec.mac.or(kept.and_then(|old| old.mac)),
            state: spec.state.or(kept.map(|old| old.state)).unwrap_or(NudState::PERMANENT),
            flags: spec.flags,
            protocol: spec.protocol,
        };
        let at = self.neighbour_no(&NeighbourKey { ip: spec.ip, link });
        self.offer_neighbour(at, source, Some(value));
        Ok(())
    }

    /// Without a link: the entry without link, else the only one.
    fn delete_neighbour(
        &mut self,
        source: SourceId,
        spec: &NeighbourSpec,
    ) -> Result<(), ChangeError> {
        let wanted = match spec.link {
            None => None,
            Some(link) => Some(self.find_link(link).ok_or(ChangeError::Missing)?),
        };
        let mut own = Vec::new();
        let mut other = None;
        for (key, at) in self.store.neighbours.of_ip(spec.ip) {
            if wanted.is_some() && key.link != wanted {
                continue;
            }
            let offers = self.neighbour_offers(at);
            if offers.iter().any(|offer| offer.source == source) {
                own.push((key, at));
            } else {
                other = other.or(offers.first().map(|offer| offer.source));
            }
        }
        match own[..] {
            [] => Err(other.map_or(ChangeError::Missing, |other| self.foreign(other))),
            [(key, at), ..] if own.len() == 1 || key.link.is_none() => {
                self.offer_neighbour(at, source, None);
                Ok(())
            }
            _ => Err(ChangeError::Ambiguous { count: own.len() }),
        }
    }

    pub(super) fn change_group_spec(
        &mut self,
        source: SourceId,
        verb: Verb,
        spec: &GroupSpec,
    ) -> Result<(), ChangeError> {
        if spec.nhid == 0 {
            return Err(ChangeError::ZeroNumber { what: "nhid" });
        }
        refuse_list_verbs(verb, "next-hop group")?;
        let known = self.shared.named.get(&(source, spec.nhid)).copied();
        match (verb, known) {
            (Verb::Add, Some(_)) => return Err(ChangeError::Exists),
            (Verb::Change | Verb::Delete, None) => return Err(ChangeError::Missing),
            (Verb::Delete, Some(id)) => {
                // As with the kernel's next-hop objects, its routes go along.
                self.unname_group(id);
                self.sweep_group(source, id);
                return Ok(());
            }
            _ => {}
        }
        if spec.hops.is_empty() {
            return Err(ChangeError::NextHopMissing { kind: RouteType::Unicast });
        }
        // Routes of both families may use it.
        check_hops(Family::V4, &spec.hops)?;
        let mut hops = Vec::with_capacity(spec.hops.len());
        self.hops_into(&spec.hops, &mut hops)?;
        let id = match known {
            None => self.new_group(spec.nhid, hops),
            Some(id) => {
                self.change_group(Group { id, nhid: spec.nhid, hops });
                id
            }
        };
        self.name_group(id, source, spec.nhid);
        Ok(())
    }

    /// The numbers of a source's named groups mean nothing any more: another
    /// process numbers them. They keep their next hops and their routes, and go
    /// with the last of these.
    ///
    /// # Errors
    /// While a large atomic load is open, or without such a source.
    pub fn release_groups(
        &mut self,
        source: SourceId,
        out: &mut dyn RecordSink,
    ) -> Result<Applied, ChangeError> {
        let named = self.shared.named.range((source, 0)..=(source, u32::MAX));
        let ids: Vec<GroupId> = named.map(|(_, id)| *id).collect();
        if ids.is_empty() {
            return Ok(Applied::Unchanged);
        }
        self.begin(source)?;
        for id in ids {
            self.unname_group(id);
            if let Some(group) = self.store.group(id).cloned() {
                self.change_group(Group { nhid: 0, ..group });
            }
        }
        Ok(self.commit(out))
    }

    pub(super) fn change_link_spec(
        &mut self,
        source: SourceId,
        verb: Verb,
        spec: &LinkSpec,
    ) -> Result<(), ChangeError> {
        if spec.ifindex == 0 {
            return Err(ChangeError::ZeroNumber { what: "ifindex" });
        }
        refuse_list_verbs(verb, "link")?;
        let known = self.shared.ifindexes.get(&spec.ifindex).copied();
        match (verb, known) {
            (Verb::Add, Some(_)) => return Err(ChangeError::Exists),
            (Verb::Change | Verb::Delete, None) => return Err(ChangeError::Missing),
            (Verb::Delete, Some(id)) => {
                // The kernel tells nobody which routes go with a link.
                self.unhost_link(id);
                self.sweep_link(source, id);
                return Ok(());
            }
            _ => {}
        }
        let namesake = self.store.link_names.get(&spec.name).copied();
        let id = match (known, namesake) {
            (None, None) => self.new_link(spec.name, spec.ifindex),
            // A name that isn't on this host, or was under another number.
            (None, Some(id)) => id,
            (Some(id), None) => id,
            (Some(id), Some(same)) if id == same => id,
            (Some(id), Some(other)) => {
                self.merge_links(other, id);
                id
            }
        };
        let link = Link { id, name: spec.name, ifindex: spec.ifindex };
        if self.store.link(id) != Some(&link) {
            self.change_link(link);
        }
        self.host_link(id, source);
        Ok(())
    }
}

/// `append` and `prepend` are for lists, and only routes stand in some.
fn refuse_list_verbs(verb: Verb, kind: &'static str) -> Result<(), ChangeError> {
    match verb {
        Verb::Append | Verb::Prepend => Err(ChangeError::Verb { verb, kind }),
        _ => Ok(()),
    }
}
