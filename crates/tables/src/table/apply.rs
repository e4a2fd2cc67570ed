//! What each verb does to a route, a neighbour, a link and a named group.

use std::net::IpAddr;

use rtm_model::{
    Change, Entity, EntityKey, EntityKind, Family, Group, GroupId, GroupSpec, HOPS_MAX, HopFlags,
    HopSpec, Hops, Link, LinkId, LinkName, LinkRef, LinkSpec, METRIC_V6, NeighbourKey,
    NeighbourSpec, NeighbourValue, NextHop, NudState, RouteKey, RouteSpec, RouteType, RouteValue,
    TABLE_MAIN, Verb, WEIGHT_MAX,
};

use super::{ChangeError, GroupUse, LinkUse, Offer, SourceId, Table, kind_word};

/// `rtm_scope` numbers (linux/rtnetlink.h).
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;

impl Table {
    pub(super) fn change(&mut self, change: &Change) -> Result<(), ChangeError> {
        let source = self.open.source.ok_or(ChangeError::NoSource)?;
        match change {
            Change::Route(verb, spec) => self.change_route(source, *verb, spec),
            Change::Neighbour(verb, spec) => self.change_neighbour(source, *verb, spec),
            Change::Link(verb, spec) => self.change_link(source, *verb, spec),
            Change::Group(verb, spec) => self.change_group(source, *verb, spec),
        }
    }

    fn change_route(
        &mut self,
        source: SourceId,
        verb: Verb,
        spec: &RouteSpec,
    ) -> Result<(), ChangeError> {
        if verb == Verb::Delete {
            return self.delete_route(source, spec);
        }
        let family = spec.prefix.family();
        let table = if spec.table == 0 { TABLE_MAIN } else { spec.table };
        let metric = match (family, spec.metric) {
            (Family::V4, metric) => metric.unwrap_or(0),
            (Family::V6, None | Some(0)) => METRIC_V6,
            (Family::V6, Some(metric)) => metric,
        };
        let key = RouteKey { table, prefix: spec.prefix, tos: spec.tos, metric, ordinal: 0 };
        let kind = spec.kind.unwrap_or(RouteType::Unicast);
        let no_hops = spec.hops == Hops::None;
        if kind.wants_next_hop() && no_hops {
            return Err(ChangeError::NextHopMissing { kind });
        }
        if !kind.wants_next_hop() && !no_hops && family == Family::V4 {
            return Err(ChangeError::NextHopUnwanted { kind });
        }
        self.check_hops(family, spec.hops.as_slice())?;
        let own = self.own(source, &key, Some(metric), spec.ordinal);
        let first = own.first().map(|(key, _)| *key);
        let target = match (verb, first) {
            (Verb::Add, Some(_)) => return Err(ChangeError::Exists),
            (Verb::Change, None) => return Err(self.absent(source, &key, Some(metric))),
            (Verb::Change | Verb::Replace, Some(first)) => first,
            (_, None) => RouteKey { ordinal: spec.ordinal.unwrap_or(0), ..key },
            (Verb::Append | Verb::Prepend, Some(first)) if spec.ordinal.is_some() => first,
            (Verb::Append, Some(_)) => {
                if let Some(result) = self.extend_group(source, &own, spec) {
                    return result;
                }
                let last = own.last().map_or(0, |(key, _)| key.ordinal);
                let ordinal = last.checked_add(1).ok_or(ChangeError::OrdinalsUsedUp)?;
                RouteKey { ordinal, ..key }
            }
            (Verb::Prepend, Some(first)) if first.ordinal > 0 => {
                RouteKey { ordinal: first.ordinal - 1, ..key }
            }
            (Verb::Prepend, Some(first)) => first,
            (Verb::Delete, Some(first)) => first,
        };
        self.save_shared();
        let group = self.group_of(source, &spec.hops)?;
        let spec_source = self.source_spec(source).ok_or(ChangeError::NoSource)?;
        let protocol = spec.protocol.unwrap_or(spec_source.protocol);
        let value = RouteValue {
            kind,
            protocol,
            scope: spec.scope.unwrap_or_else(|| scope_of(family, kind, &spec.hops)),
            distance: spec.distance.unwrap_or_else(|| spec_source.distances.distance(protocol)),
            group,
            attrs: spec.attrs.clone(),
        };
        // The kernel refuses a second route that is the same in everything
        // (fib_table_insert): it could never be told from the first.
        if spec.ordinal.is_none()
            && verb != Verb::Change
            && own.iter().any(|(key, old)| *key != target && *old == value)
        {
            return Err(ChangeError::Exists);
        }
        if verb == Verb::Prepend && spec.ordinal.is_none() && first == Some(target) {
            self.make_room(source, &own)?;
        }
        self.offer_route(target, source, Some(value));
        Ok(())
    }

    /// IPv6 `append`: the hops join the group of the first route, as the kernel
    /// makes siblings of routes by way of gateways. `None`: they don't qualify,
    /// the route stands behind the first with an ordinal of its own.
    fn extend_group(
        &mut self,
        source: SourceId,
        own: &[(RouteKey, RouteValue)],
        spec: &RouteSpec,
    ) -> Option<Result<(), ChangeError>> {
        if spec.prefix.family() != Family::V6 {
            return None;
        }
        let added = self.resolve(spec.hops.as_slice());
        let (key, value, mut hops) = own.iter().find_map(|(key, value)| {
            let group = self.store.group(value.group)?;
            let gateways = group.hops.iter().all(|hop| hop.gateway.is_some());
            (group.nhid == 0 && gateways).then(|| (*key, value.clone(), group.hops.clone()))
        })?;
        if spec.hops.as_slice().is_empty()
            || spec.hops.as_slice().iter().any(|hop| hop.gateway.is_none())
        {
            return None;
        }
        let twin = |a: &NextHop, b: &NextHop| a.gateway == b.gateway && a.link == b.link;
        if let Ok(added) = added {
            if added.iter().any(|new| hops.iter().any(|old| twin(old, new))) {
                return Some(Err(ChangeError::Exists));
            }
        }
        if hops.len() + spec.hops.as_slice().len() > HOPS_MAX {
            let hops = hops.len() + spec.hops.as_slice().len();
            return Some(Err(ChangeError::TooManyHops { hops }));
        }
        self.save_shared();
        match self.links_of(spec.hops.as_slice()) {
            Ok(more) => hops.extend(more),
            Err(error) => return Some(Err(error)),
        }
        let group = self.intern(hops);
        self.offer_route(key, source, Some(RouteValue { group, ..value }));
        Some(Ok(()))
    }

    /// Moves this source's routes at and behind ordinal 0 up by one, as far as
    /// they stand without a gap.
    fn make_room(
        &mut self,
        source: SourceId,
        own: &[(RouteKey, RouteValue)],
    ) -> Result<(), ChangeError> {
        let run = own.iter().enumerate().take_while(|(i, (k, _))| usize::from(k.ordinal) == *i);
        let run = run.count();
        if run > usize::from(u16::MAX) {
            return Err(ChangeError::OrdinalsUsedUp);
        }
        for (key, value) in own[..run].iter().rev() {
            let up = RouteKey { ordinal: key.ordinal + 1, ..*key };
            self.offer_route(up, source, Some(value.clone()));
        }
        Ok(())
    }

    fn delete_route(&mut self, source: SourceId, spec: &RouteSpec) -> Result<(), ChangeError> {
        let family = spec.prefix.family();
        let table = if spec.table == 0 { TABLE_MAIN } else { spec.table };
        // The kernel takes metric 0 in a delete as not said.
        let metric = spec.metric.filter(|metric| *metric != 0);
        let key = RouteKey { table, prefix: spec.prefix, tos: spec.tos, metric: 0, ordinal: 0 };
        let scope = spec.scope.or_else(|| match (family, spec.kind) {
            (Family::V4, Some(kind)) if kind != RouteType::Unicast => {
                Some(scope_of(family, kind, &Hops::None))
            }
            _ => None,
        });
        for (key, value) in self.own(source, &key, metric, spec.ordinal) {
            if spec.kind.is_some_and(|kind| kind != value.kind)
                || spec.protocol.is_some_and(|protocol| protocol != value.protocol)
                || scope.is_some_and(|scope| scope != value.scope)
            {
                continue;
            }
            match self.narrow(source, family, value.group, &spec.hops) {
                Narrow::No => {}
                Narrow::Whole => {
                    self.save_shared();
                    self.offer_route(key, source, None);
                    return Ok(());
                }
                Narrow::Rest(hops) => {
                    self.save_shared();
                    let group = self.intern(hops);
                    self.offer_route(key, source, Some(RouteValue { group, ..value }));
                    return Ok(());
                }
            }
        }
        Err(self.absent(source, &key, metric))
    }

    /// What a delete that names these hops takes of a route with this group.
    fn narrow(&self, source: SourceId, family: Family, group: GroupId, hops: &Hops) -> Narrow {
        if let Hops::Named(nhid) = hops {
            let named = self.shared.named.get(&(source, *nhid));
            return if named == Some(&group) { Narrow::Whole } else { Narrow::No };
        }
        let wanted = hops.as_slice();
        if wanted.is_empty() {
            return Narrow::Whole;
        }
        let Some(group) = self.store.group(group) else { return Narrow::No };
        if group.nhid != 0 {
            return Narrow::No;
        }
        let matches = |hop: &NextHop, wanted: &HopSpec| {
            wanted.gateway.is_none_or(|gateway| hop.gateway == Some(gateway))
                && wanted.link.is_none_or(|link| {
                    self.find_link(link).is_some_and(|link| hop.link == Some(link))
                })
        };
        if family == Family::V4 {
            // fib_nh_match: one hop is compared with the first, several with
            // all, in order, and a weight only where it is over 1.
            let whole = match wanted {
                [one] => group.hops.first().is_some_and(|hop| matches(hop, one)),
                all => {
                    all.len() == group.hops.len()
                        && all.iter().zip(&group.hops).all(|(wanted, hop)| {
                            matches(hop, wanted)
                                && (wanted.weight <= 1 || wanted.weight == hop.weight)
                        })
                }
            };
            return if whole { Narrow::Whole } else { Narrow::No };
        }
        let mut rest = group.hops.clone();
        for wanted in wanted {
            match rest.iter().position(|hop| matches(hop, wanted)) {
                Some(at) => drop(rest.remove(at)),
                None => return Narrow::No,
            }
        }
        if rest.is_empty() { Narrow::Whole } else { Narrow::Rest(rest) }
    }

    /// This source's routes of a prefix and tos, with this metric and ordinal if
    /// they are named, in order.
    fn own(
        &self,
        source: SourceId,
        key: &RouteKey,
        metric: Option<u32>,
        ordinal: Option<u16>,
    ) -> Vec<(RouteKey, RouteValue)> {
        self.offers(key, metric)
            .filter(|(key, offer)| {
                offer.source == source && ordinal.is_none_or(|ordinal| ordinal == key.ordinal)
            })
            .map(|(key, offer)| (*key, offer.value.clone()))
            .collect()
    }

    fn offers(
        &self,
        key: &RouteKey,
        metric: Option<u32>,
    ) -> impl Iterator<Item = (&RouteKey, &Offer<RouteValue>)> {
        let low = RouteKey { metric: metric.unwrap_or(0), ordinal: 0, ..*key };
        let high = RouteKey { metric: metric.unwrap_or(u32::MAX), ordinal: u16::MAX, ..*key };
        self.candidates
            .range(low..=high)
            .flat_map(|(key, offers)| offers.iter().map(move |offer| (key, offer)))
    }

    /// Why this source's change or delete finds nothing.
    fn absent(&self, source: SourceId, key: &RouteKey, metric: Option<u32>) -> ChangeError {
        self.offers(key, metric)
            .find(|(_, offer)| offer.source != source)
            .and_then(|(_, offer)| self.source_spec(offer.source))
            .map_or(ChangeError::Missing, |spec| ChangeError::ForeignSource {
                source: spec.name.clone(),
            })
    }

    /// Sets or withdraws this source's candidate of a key, and elects.
    pub(super) fn offer_route(
        &mut self,
        key: RouteKey,
        source: SourceId,
        value: Option<RouteValue>,
    ) {
        self.save_shared();
        self.touch(EntityKey::Route(key));
        let mut offers = self.candidates.remove(&key).unwrap_or_default();
        self.open.routes.push((key, offers.clone()));
        if let Some(value) = &value {
            if value.group != GroupId::NONE {
                self.use_group(value.group);
            }
        }
        if let Some(at) = offers.iter().position(|offer| offer.source == source) {
            let old = offers.remove(at);
            if let Some(group) = self.shared.groups.get_mut(&old.value.group.0) {
                group.routes -= 1;
                self.touch(EntityKey::Group(old.value.group));
            }
        }
        if let Some(value) = value {
            offers.push(Offer { source, stamp: self.stamp, distance: value.distance, value });
        }
        offers
            .sort_by(|a, b| self.rank(a.distance, a.source).cmp(&self.rank(b.distance, b.source)));
        if !offers.is_empty() {
            self.candidates.insert(key, offers);
        }
        self.elect_route(&key);
    }

    fn use_group(&mut self, group: GroupId) {
        self.touch(EntityKey::Group(group));
        let entry = self.shared.groups.entry(group.0).or_default();
        entry.routes += 1;
        entry.kept = false;
    }

    pub(super) fn elect_route(&mut self, key: &RouteKey) {
        let winner = self
            .candidates
            .get(key)
            .and_then(|offers| offers.first())
            .filter(|offer| offer.distance != rtm_model::DISTANCE_NEVER);
        match winner {
            Some(offer) => {
                let route = rtm_model::Route { key: *key, value: offer.value.clone() };
                self.store.put(Entity::Route(route));
            }
            None => self.store.remove(&EntityKey::Route(*key)),
        }
    }

    fn check_hops(&self, family: Family, hops: &[HopSpec]) -> Result<(), ChangeError> {
        if hops.len() > HOPS_MAX {
            return Err(ChangeError::TooManyHops { hops: hops.len() });
        }
        for hop in hops {
            if hop.gateway.is_none() && hop.link.is_none() {
                return Err(ChangeError::EmptyHop);
            }
            if hop.weight == 0 || hop.weight > WEIGHT_MAX {
                return Err(ChangeError::Weight { weight: hop.weight });
            }
            if !HopFlags::ALL.contains(hop.flags) {
                return Err(ChangeError::HopFlags { flags: hop.flags.0 });
            }
            if family == Family::V6 && matches!(hop.gateway, Some(IpAddr::V4(_))) {
                return Err(ChangeError::GatewayFamily { gateway: Family::V4, prefix: Family::V6 });
            }
        }
        Ok(())
    }

    fn find_link(&self, link: LinkRef) -> Option<LinkId> {
        match link {
            LinkRef::Name(name) => self.store.link_by_name(&name).map(|link| link.id),
            LinkRef::Ifindex(ifindex) => self.shared.ifindexes.get(&ifindex).copied(),
        }
    }

    /// Next hops whose links all exist already.
    fn resolve(&self, hops: &[HopSpec]) -> Result<Vec<NextHop>, ()> {
        hops.iter()
            .map(|hop| {
                let link = match hop.link {
                    None => None,
                    Some(link) => Some(self.find_link(link).ok_or(())?),
                };
                Ok(NextHop { gateway: hop.gateway, link, weight: hop.weight, flags: hop.flags })
            })
            .collect()
    }

    /// Next hops; links that don't exist are made.
    fn links_of(&mut self, hops: &[HopSpec]) -> Result<Vec<NextHop>, ChangeError> {
        hops.iter()
            .map(|hop| {
                let link = match hop.link {
                    None => None,
                    Some(link) => Some(self.link_of(link)?),
                };
                Ok(NextHop { gateway: hop.gateway, link, weight: hop.weight, flags: hop.flags })
            })
            .collect()
    }

    fn link_of(&mut self, link: LinkRef) -> Result<LinkId, ChangeError> {
        if let Some(id) = self.find_link(link) {
            return Ok(id);
        }
        match link {
            LinkRef::Ifindex(ifindex) => Err(ChangeError::NoLink { ifindex }),
            LinkRef::Name(name) => Ok(self.new_link(name, 0)),
        }
    }

    fn new_link(&mut self, name: LinkName, ifindex: u32) -> LinkId {
        let id = LinkId((1..).find(|id| !self.shared.links.contains_key(id)).unwrap_or(1));
        self.touch(EntityKey::Link(id));
        self.shared.links.insert(id.0, LinkUse::default());
        self.store.put(Entity::Link(Link { id, name, ifindex }));
        id
    }

    fn group_of(&mut self, source: SourceId, hops: &Hops) -> Result<GroupId, ChangeError> {
        match hops {
            Hops::None => Ok(GroupId::NONE),
            Hops::Named(nhid) => self
                .shared
                .named
                .get(&(source, *nhid))
                .copied()
                .ok_or(ChangeError::NoGroup { nhid: *nhid }),
            Hops::One(_) | Hops::Many(_) => {
                let hops = self.links_of(hops.as_slice())?;
                Ok(self.intern(hops))
            }
        }
    }

    fn intern(&mut self, hops: Vec<NextHop>) -> GroupId {
        if let Some(id) = self.shared.interned.get(&hops) {
            return *id;
        }
        let id = self.new_group(0, hops.clone());
        self.shared.interned.insert(hops, id);
        id
    }

    fn new_group(&mut self, nhid: u32, hops: Vec<NextHop>) -> GroupId {
        let id = GroupId((1..).find(|id| !self.shared.groups.contains_key(id)).unwrap_or(1));
        self.touch(EntityKey::Group(id));
        self.shared.groups.insert(id.0, GroupUse::default());
        self.count_links(&hops, true);
        self.store.put(Entity::Group(Group { id, nhid, hops }));
        id
    }

    pub(super) fn remove_group(&mut self, id: GroupId) {
        self.save_shared();
        self.shared.groups.remove(&id.0);
        let Some(group) = self.store.group(id).cloned() else { return };
        if self.shared.interned.get(&group.hops) == Some(&id) {
            self.shared.interned.remove(&group.hops);
        }
        self.count_links(&group.hops, false);
        self.store.remove(&EntityKey::Group(id));
    }

    fn count_links(&mut self, hops: &[NextHop], more: bool) {
        for link in hops.iter().filter_map(|hop| hop.link) {
            self.touch(EntityKey::Link(link));
            let entry = self.shared.links.entry(link.0).or_default();
            if more {
                entry.groups += 1;
            } else {
                entry.groups -= 1;
            }
        }
    }

    fn change_group(
        &mut self,
        source: SourceId,
        verb: Verb,
        spec: &GroupSpec,
    ) -> Result<(), ChangeError> {
        if spec.nhid == 0 {
            return Err(ChangeError::ZeroNumber { what: "nhid" });
        }
        let known = self.shared.named.get(&(source, spec.nhid)).copied();
        match (verb, known) {
            (Verb::Append | Verb::Prepend, _) => {
                return Err(ChangeError::Verb { verb, kind: kind_word(EntityKind::Group) });
            }
            (Verb::Add, Some(_)) => return Err(ChangeError::Exists),
            (Verb::Change | Verb::Delete, None) => return Err(ChangeError::Missing),
            _ => {}
        }
        self.save_shared();
        if verb == Verb::Delete {
            if let Some(id) = known {
                self.unname_group(id);
                self.sweep_group(source, id);
            }
            return Ok(());
        }
        if spec.hops.is_empty() {
            return Err(ChangeError::NextHopMissing { kind: RouteType::Unicast });
        }
        self.check_hops(Family::V4, &spec.hops)?;
        let hops = self.links_of(&spec.hops)?;
        let id = match known {
            None => {
                let id = self.new_group(spec.nhid, hops);
                self.shared.named.insert((source, spec.nhid), id);
                id
            }
            Some(id) => {
                self.touch(EntityKey::Group(id));
                let old = self.store.group(id).map_or(Vec::new(), |group| group.hops.clone());
                self.count_links(&hops, true);
                self.count_links(&old, false);
                self.store.put(Entity::Group(Group { id, nhid: spec.nhid, hops }));
                id
            }
        };
        let stamp = self.stamp;
        let entry = self.shared.groups.entry(id.0).or_default();
        entry.named = Some((source, spec.nhid));
        entry.stamp = stamp;
        Ok(())
    }

    pub(super) fn unname_group(&mut self, id: GroupId) {
        self.save_shared();
        self.touch(EntityKey::Group(id));
        if let Some(entry) = self.shared.groups.get_mut(&id.0) {
            if let Some(name) = entry.named.take() {
                self.shared.named.remove(&name);
            }
        }
    }

    fn change_link(
        &mut self,
        source: SourceId,
        verb: Verb,
        spec: &LinkSpec,
    ) -> Result<(), ChangeError> {
        if spec.ifindex == 0 {
            return Err(ChangeError::ZeroNumber { what: "ifindex" });
        }
        let known = self.shared.ifindexes.get(&spec.ifindex).copied();
        match (verb, known) {
            (Verb::Append | Verb::Prepend, _) => {
                return Err(ChangeError::Verb { verb, kind: kind_word(EntityKind::Link) });
            }
            (Verb::Add, Some(_)) => return Err(ChangeError::Exists),
            (Verb::Change | Verb::Delete, None) => return Err(ChangeError::Missing),
            _ => {}
        }
        self.save_shared();
        if verb == Verb::Delete {
            if let Some(id) = known {
                self.unhost_link(id);
                self.sweep_link(source, id);
            }
            return Ok(());
        }
        let namesake = self.store.link_by_name(&spec.name).map(|link| link.id);
        let id = match (known, namesake) {
            (None, None) => self.new_link(spec.name, spec.ifindex),
            (None, Some(id)) => {
                self.unhost_link(id);
                id
            }
            (Some(id), None) => id,
            (Some(id), Some(other)) if id == other => id,
            (Some(id), Some(other)) => {
                self.merge_links(other, id);
                id
            }
        };
        self.touch(EntityKey::Link(id));
        self.store.put(Entity::Link(Link { id, name: spec.name, ifindex: spec.ifindex }));
        self.shared.ifindexes.insert(spec.ifindex, id);
        let stamp = self.stamp;
        self.shared.links.entry(id.0).or_default().host = Some((source, stamp));
        Ok(())
    }

    /// The link is no longer on this host.
    pub(super) fn unhost_link(&mut self, id: LinkId) {
        self.save_shared();
        self.touch(EntityKey::Link(id));
        let Some(link) = self.store.link(id).copied() else { return };
        self.shared.ifindexes.remove(&link.ifindex);
        if let Some(entry) = self.shared.links.get_mut(&id.0) {
            entry.host = None;
        }
        self.store.put(Entity::Link(Link { ifindex: 0, ..link }));
    }

    /// What uses `old` uses `new` from now on, and `old` is gone.
    fn merge_links(&mut self, old: LinkId, new: LinkId) {
        self.unhost_link(old);
        let groups: Vec<Group> = self
            .store
            .groups
            .values()
            .filter(|group| group.hops.iter().any(|hop| hop.link == Some(old)))
            .cloned()
            .collect();
        for mut group in groups {
            self.touch(EntityKey::Group(group.id));
            self.count_links(&group.hops, false);
            if self.shared.interned.get(&group.hops) == Some(&group.id) {
                self.shared.interned.remove(&group.hops);
            }
            for hop in group.hops.iter_mut().filter(|hop| hop.link == Some(old)) {
                hop.link = Some(new);
            }
            self.count_links(&group.hops, true);
            if group.nhid == 0 {
                self.shared.interned.entry(group.hops.clone()).or_insert(group.id);
            }
            self.store.put(Entity::Group(group));
        }
        let neighbours: Vec<_> = self
            .neighbours
            .iter()
            .filter(|(key, _)| key.link == Some(old))
            .map(|(key, offers)| (*key, offers.clone()))
            .collect();
        for (key, offers) in neighbours {
            for offer in offers {
                self.offer_neighbour(key, offer.source, None);
                let moved = NeighbourKey { link: Some(new), ..key };
                let taken = self
                    .neighbours
                    .get(&moved)
                    .is_some_and(|offers| offers.iter().any(|o| o.source == offer.source));
                if !taken {
                    self.offer_neighbour(moved, offer.source, Some(offer.value));
                }
            }
        }
        self.shared.links.remove(&old.0);
        self.store.remove(&EntityKey::Link(old));
    }

    fn change_neighbour(
        &mut self,
        source: SourceId,
        verb: Verb,
        spec: &NeighbourSpec,
    ) -> Result<(), ChangeError> {
        if matches!(verb, Verb::Append | Verb::Prepend) {
            return Err(ChangeError::Verb { verb, kind: kind_word(EntityKind::Neighbour) });
        }
        if verb == Verb::Delete {
            return self.delete_neighbour(source, spec);
        }
        let known = match spec.link {
            None => Some(None),
            Some(link) => self.find_link(link).map(Some),
        };
        let old = known.and_then(|link| {
            let offers = self.neighbours.get(&NeighbourKey { ip: spec.ip, link })?;
            Some((offers.iter().find(|o| o.source == source).map(|o| o.value), offers[0].source))
        });
        match (verb, old) {
            (Verb::Add, Some((Some(_), _))) => return Err(ChangeError::Exists),
            (Verb::Change, None) => return Err(ChangeError::Missing),
            (Verb::Change, Some((None, owner))) => return Err(self.foreign(owner)),
            _ => {}
        }
        let old = old.and_then(|(value, _)| value);
        self.save_shared();
        let link = match spec.link {
            None => None,
            Some(link) => Some(self.link_of(link)?),
        };
        let value = NeighbourValue {
            mac: spec.mac.or_else(|| old.filter(|_| verb == Verb::Change).and_then(|o| o.mac)),
            state: spec.state.unwrap_or_else(|| match old {
                Some(old) if verb == Verb::Change => old.state,
                _ => NudState::PERMANENT,
            }),
            flags: spec.flags,
            protocol: spec.protocol,
        };
        self.offer_neighbour(NeighbourKey { ip: spec.ip, link }, source, Some(value));
        Ok(())
    }

    fn delete_neighbour(
        &mut self,
        source: SourceId,
        spec: &NeighbourSpec,
    ) -> Result<(), ChangeError> {
        let low = NeighbourKey { ip: spec.ip, link: None };
        let high = NeighbourKey { ip: spec.ip, link: Some(LinkId(u32::MAX)) };
        let wanted = match spec.link {
            None => None,
            Some(link) => Some(self.find_link(link).ok_or(ChangeError::Missing)?),
        };
        let mut own = Vec::new();
        let mut owner = None;
        for (key, offers) in self.neighbours.range(low..=high) {
            if wanted.is_some() && key.link != wanted {
                continue;
            }
            match offers.iter().any(|offer| offer.source == source) {
                true => own.push(*key),
                false => owner = owner.or(Some(offers[0].source)),
            }
        }
        match own[..] {
            [] => Err(owner.map_or(ChangeError::Missing, |owner| self.foreign(owner))),
            [first, ..] if own.len() == 1 || first.link.is_none() => {
                self.save_shared();
                self.offer_neighbour(first, source, None);
                Ok(())
            }
            _ => Err(ChangeError::Ambiguous { count: own.len() }),
        }
    }

    fn foreign(&self, owner: SourceId) -> ChangeError {
        let source = self.source_spec(owner).map_or(String::new(), |spec| spec.name.clone());
        ChangeError::ForeignSource { source }
    }

    pub(super) fn offer_neighbour(
        &mut self,
        key: NeighbourKey,
        source: SourceId,
        value: Option<NeighbourValue>,
    ) {
        self.save_shared();
        self.touch(EntityKey::Neighbour(key));
        let mut offers = self.neighbours.remove(&key).unwrap_or_default();
        self.open.neighbours.push((key, offers.clone()));
        if let (Some(_), Some(link)) = (&value, key.link) {
            self.touch(EntityKey::Link(link));
            self.shared.links.entry(link.0).or_default().neighbours += 1;
        }
        if let Some(at) = offers.iter().position(|offer| offer.source == source) {
            offers.remove(at);
            if let Some(link) = key.link {
                self.touch(EntityKey::Link(link));
                self.shared.links.entry(link.0).or_default().neighbours -= 1;
            }
        }
        if let Some(value) = value {
            let distance =
                self.source_spec(source).map_or(0, |spec| spec.distances.default_distance());
            offers.push(Offer { source, stamp: self.stamp, distance, value });
        }
        offers
            .sort_by(|a, b| self.rank(a.distance, a.source).cmp(&self.rank(b.distance, b.source)));
        if !offers.is_empty() {
            self.neighbours.insert(key, offers);
        }
        self.elect_neighbour(&key);
    }

    pub(super) fn elect_neighbour(&mut self, key: &NeighbourKey) {
        let winner = self.neighbours.get(key).and_then(|offers| offers.first()).map(|o| o.value);
        self.put_neighbour(*key, winner);
    }
}

enum Narrow {
    No,
    Whole,
    Rest(Vec<NextHop>),
}

/// The scope of a route that names none, as iproute2 fills it in.
fn scope_of(family: Family, kind: RouteType, hops: &Hops) -> u8 {
    if family == Family::V6 {
        return SCOPE_UNIVERSE;
    }
    match kind {
        RouteType::Local | RouteType::Nat => SCOPE_HOST,
        RouteType::Broadcast | RouteType::Multicast | RouteType::Anycast => SCOPE_LINK,
        RouteType::Unicast => match hops {
            Hops::Named(_) | Hops::Many(_) => SCOPE_UNIVERSE,
            Hops::One(hop) if hop.gateway.is_some() => SCOPE_UNIVERSE,
            Hops::One(_) | Hops::None => SCOPE_LINK,
        },
        _ => SCOPE_UNIVERSE,
    }
}
