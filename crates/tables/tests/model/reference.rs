//! The reference: what a table must hold, in the plainest way.
//!
//! It has no ids: links are their names, anonymous groups their next hops,
//! named groups objects. It keeps every source's candidates in one ordered map
//! and finds a winner by looking at all of them. Giving up a transaction is
//! forgetting a clone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rtm_model::{
    Change, DISTANCE_NEVER, Family, GroupSpec, HopFlags, HopSpec, Hops, LinkName, LinkRef,
    LinkSpec, NeighbourSpec, NeighbourValue, NudState, RouteKey, RouteSpec, RouteType, Verb,
};
use rtm_tables::{ChangeError, Flush, SourceSpec};

/// A next hop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Hop {
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) link: Option<LinkName>,
    pub(crate) weight: u16,
    pub(crate) flags: HopFlags,
}

/// Where a route leads.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Way {
    None,
    Hops(Vec<Hop>),
    /// A named group, by its place in [`Reference::objects`].
    Object(usize),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RouteValue {
    pub(crate) kind: RouteType,
    pub(crate) protocol: u8,
    pub(crate) scope: u8,
    pub(crate) distance: u8,
    pub(crate) way: Way,
    pub(crate) attrs: Vec<u8>,
}

pub(crate) type NeighbourKey = (IpAddr, Option<LinkName>);

#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) nhid: u32,
    pub(crate) hops: Vec<Hop>,
    /// Whose it is; none: its name was taken away.
    pub(crate) owner: Option<usize>,
    pub(crate) stamp: u32,
}

#[derive(Clone, Debug)]
struct Rule {
    source: usize,
    before: u32,
    only: Only,
}

#[derive(Clone, Debug)]
enum Only {
    All,
    /// What was over a link when it went.
    These(BTreeSet<RouteKey>, BTreeSet<NeighbourKey>),
    Object(usize),
}

#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) spec: SourceSpec,
    pub(crate) in_generation: bool,
    pub(crate) fresh: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Reference {
    pub(crate) sources: Vec<Source>,
    pub(crate) routes: BTreeMap<(RouteKey, usize), (RouteValue, u32)>,
    pub(crate) neighbours: BTreeMap<(NeighbourKey, usize), (NeighbourValue, u32)>,
    pub(crate) objects: Vec<Object>,
    /// Links known to a host: name to (ifindex, source, stamp).
    pub(crate) hosts: BTreeMap<LinkName, (u32, usize, u32)>,
    rules: Vec<Rule>,
    stamp: u32,
    /// Groups and links may be there that nobody uses: a flush left them.
    pub(crate) leftovers: bool,
    /// Rules that were there already at the newest flush.
    older_rules: usize,
}

impl Reference {
    pub(crate) fn new(specs: Vec<SourceSpec>) -> Reference {
        let source = |spec| Source { spec, in_generation: false, fresh: 0 };
        Reference { sources: specs.into_iter().map(source).collect(), ..Reference::default() }
    }

    pub(crate) fn apply(&mut self, source: usize, change: &Change) -> Result<(), ChangeError> {
        // All or nothing: a refused change leaves no trace.
        let mut next = self.clone();
        match change {
            Change::Route(Verb::Delete, spec) => next.delete_route(source, spec),
            Change::Route(verb, spec) => next.set_route(source, *verb, spec),
            Change::Neighbour(verb, spec) => next.neighbour(source, *verb, spec),
            Change::Link(verb, spec) => next.link(source, *verb, spec),
            Change::Group(verb, spec) => next.group(source, *verb, spec),
        }?;
        *self = next;
        Ok(())
    }

    fn set_route(
        &mut self,
        source: usize,
        verb: Verb,
        spec: &RouteSpec,
    ) -> Result<(), ChangeError> {
        let family = spec.prefix.family();
        let kind = spec.kind.unwrap_or(RouteType::Unicast);
        if kind.wants_next_hop() && spec.hops == Hops::None {
            return Err(ChangeError::NextHopMissing { kind });
        }
        if !kind.wants_next_hop() && spec.hops != Hops::None && family == Family::V4 {
            return Err(ChangeError::NextHopUnwanted { kind });
        }
        for hop in spec.hops.as_slice() {
            if family == Family::V6 && hop.gateway.is_some_and(|g| g.is_ipv4()) {
                return Err(ChangeError::GatewayFamily { gateway: Family::V4, prefix: Family::V6 });
            }
        }
        let metric = match family {
            Family::V4 => spec.metric.unwrap_or(0),
            // Who names the ordinal means metric 0, too.
            Family::V6 if spec.ordinal.is_some() => spec.metric.unwrap_or(1024),
            Family::V6 => spec.metric.filter(|m| *m != 0).unwrap_or(1024),
        };
        let own = self.own(source, spec, Some(metric));
        let mut ordinal = spec.ordinal.or(own.first().map(|key| key.ordinal)).unwrap_or(0);
        let mut shift = false;
        match verb {
            Verb::Add if !own.is_empty() => return Err(ChangeError::Exists),
            Verb::Change if own.is_empty() => {
                return Err(self.absent(source, spec, Some(metric)));
            }
            Verb::Append if !own.is_empty() && spec.ordinal.is_none() => {
                if family == Family::V6 {
                    if let Some(result) = self.extend(source, &own, spec) {
                        return result;
                    }
                }
                ordinal = own.last().unwrap().ordinal + 1;
            }
            Verb::Prepend if !own.is_empty() && spec.ordinal.is_none() => {
                shift = ordinal == 0;
                ordinal = ordinal.saturating_sub(1);
            }
            _ => {}
        }
        let way = self.way(source, &spec.hops)?;
        let owner = &self.sources[source].spec;
        let protocol = spec.protocol.unwrap_or(owner.protocol);
        let value = RouteValue {
            kind,
            protocol,
            scope: spec.scope.unwrap_or_else(|| scope(family, kind, &spec.hops)),
            distance: spec.distance.unwrap_or_else(|| owner.distances.distance(protocol)),
            way,
            attrs: spec.attrs.bytes().to_vec(),
        };
        let key =
            RouteKey { table: spec.table, prefix: spec.prefix, tos: spec.tos, metric, ordinal };
        let listed = matches!(verb, Verb::Append | Verb::Prepend);
        if spec.ordinal.is_none()
            && own
                .iter()
                .any(|other| (listed || *other != key) && self.routes[&(*other, source)].0 == value)
        {
            return Err(ChangeError::Exists);
        }
        if shift {
            let gap = (0..).find(|&o| !own.iter().any(|key| key.ordinal == o)).unwrap();
            for ordinal in (0..gap).rev() {
                let (value, _) =
                    self.routes.remove(&(RouteKey { ordinal, ..key }, source)).unwrap();
                let up = RouteKey { ordinal: ordinal + 1, ..key };
                self.routes.insert((up, source), (value, self.stamp));
            }
        }
        self.routes.insert((key, source), (value, self.stamp));
        Ok(())
    }

    fn extend(
        &mut self,
        source: usize,
        own: &[RouteKey],
        spec: &RouteSpec,
    ) -> Option<Result<(), ChangeError>> {
        let added = spec.hops.as_slice();
        if added.is_empty() || added.iter().any(|hop| hop.gateway.is_none()) {
            return None;
        }
        for key in own {
            let Way::Hops(hops) = &self.routes[&(*key, source)].0.way else { continue };
            if hops.iter().any(|hop| hop.gateway.is_none()) {
                continue;
            }
            let mut hops = hops.clone();
            let added: Result<Vec<Hop>, _> = added.iter().map(|hop| self.hop(hop)).collect();
            let added = match added {
                Ok(added) => added,
                Err(error) => return Some(Err(error)),
            };
            for hop in added {
                if hops.iter().any(|old| old.gateway == hop.gateway && old.link == hop.link) {
                    return Some(Err(ChangeError::Exists));
                }
                hops.push(hop);
            }
            let entry = self.routes.get_mut(&(*key, source)).unwrap();
            entry.0.way = Way::Hops(hops);
            entry.1 = self.stamp;
            return Some(Ok(()));
        }
        None
    }

    fn delete_route(&mut self, source: usize, spec: &RouteSpec) -> Result<(), ChangeError> {
        let family = spec.prefix.family();
        let metric = spec.metric.filter(|metric| *metric != 0 || spec.ordinal.is_some());
        let scope = spec.scope.or(match (family, spec.kind) {
            (Family::V4, Some(kind)) if kind != RouteType::Unicast => {
                Some(scope(family, kind, &Hops::None))
            }
            _ => None,
        });
        for key in self.own(source, spec, metric) {
            let value = self.routes[&(key, source)].0.clone();
            if spec.kind.is_some_and(|kind| kind != value.kind)
                || spec.protocol.is_some_and(|protocol| protocol != value.protocol)
                || scope.is_some_and(|scope| scope != value.scope)
                || (!spec.attrs.is_none() && spec.attrs.bytes() != value.attrs)
            {
                continue;
            }
            let rest = match (&spec.hops, &value.way) {
                (Hops::None, _) => Vec::new(),
                (Hops::Named(nhid), way) => {
                    if self.object(source, *nhid).map(Way::Object).as_ref() != Some(way) {
                        continue;
                    }
                    Vec::new()
                }
                (hops, Way::Hops(there)) => {
                    let wanted = hops.as_slice();
                    let fits = |hop: &Hop, wanted: &HopSpec| {
                        wanted.gateway.is_none_or(|g| Some(g) == hop.gateway)
                            && wanted.link.is_none_or(|l| {
                                let name = self.name(l);
                                name.is_some() && name == hop.link
                            })
                    };
                    if family == Family::V4 {
                        let whole = if let [one] = wanted {
                            fits(&there[0], one)
                        } else {
                            wanted.len() == there.len()
                                && wanted.iter().zip(there).all(|(wanted, hop)| {
                                    fits(hop, wanted)
                                        && (wanted.weight <= 1 || wanted.weight == hop.weight)
                                })
                        };
                        if !whole {
                            continue;
                        }
                        Vec::new()
                    } else {
                        let mut rest = there.clone();
                        let all = wanted.iter().all(|wanted| {
                            let at = rest.iter().position(|hop| fits(hop, wanted));
                            at.map(|at| rest.remove(at)).is_some()
                        });
                        if !all {
                            continue;
                        }
                        rest
                    }
                }
                _ => continue,
            };
            if rest.is_empty() {
                self.routes.remove(&(key, source));
            } else {
                let value = RouteValue { way: Way::Hops(rest), ..value };
                self.routes.insert((key, source), (value, self.stamp));
            }
            return Ok(());
        }
        Err(self.absent(source, spec, metric))
    }

    fn matching<'a>(
        &'a self,
        spec: &'a RouteSpec,
        metric: Option<u32>,
    ) -> impl Iterator<Item = (RouteKey, usize)> + 'a {
        self.routes.keys().copied().filter(move |(key, _)| {
            key.table == spec.table
                && key.prefix == spec.prefix
                && key.tos == spec.tos
                && metric.is_none_or(|metric| metric == key.metric)
                && spec.ordinal.is_none_or(|ordinal| ordinal == key.ordinal)
        })
    }

    fn own(&self, source: usize, spec: &RouteSpec, metric: Option<u32>) -> Vec<RouteKey> {
        self.matching(spec, metric).filter(|(_, s)| *s == source).map(|(key, _)| key).collect()
    }

    fn absent(&self, source: usize, spec: &RouteSpec, metric: Option<u32>) -> ChangeError {
        let first = self.matching(spec, metric).find(|(_, s)| *s != source);
        let Some((key, _)) = first else { return ChangeError::Missing };
        let order = self.order_of(&key);
        self.foreign(*order.iter().find(|s| **s != source).unwrap())
    }

    fn foreign(&self, owner: usize) -> ChangeError {
        ChangeError::ForeignSource { source: self.sources[owner].spec.name.clone() }
    }

    /// All sources with a candidate of a key, in the order in which they win.
    pub(crate) fn order_of(&self, key: &RouteKey) -> Vec<usize> {
        let mut all: Vec<usize> =
            (0..self.sources.len()).filter(|s| self.routes.contains_key(&(*key, *s))).collect();
        all.sort_by_key(|s| {
            let spec = &self.sources[*s].spec;
            (self.routes[&(*key, *s)].0.distance, spec.class, spec.name.clone())
        });
        all
    }

    pub(crate) fn winner(&self, key: &RouteKey) -> Option<(usize, &RouteValue)> {
        let first = *self.order_of(key).first()?;
        let value = &self.routes[&(*key, first)].0;
        (value.distance != DISTANCE_NEVER).then_some((first, value))
    }

    pub(crate) fn keys(&self) -> BTreeSet<RouteKey> {
        self.routes.keys().map(|(key, _)| *key).collect()
    }

    pub(crate) fn winners(&self) -> BTreeMap<RouteKey, (usize, RouteValue)> {
        let all = self.keys().into_iter();
        all.filter_map(|key| Some((key, self.winner(&key).map(|(s, v)| (s, v.clone()))?))).collect()
    }

    pub(crate) fn neighbour_order(&self, key: &NeighbourKey) -> Vec<usize> {
        let mut all: Vec<usize> =
            (0..self.sources.len()).filter(|s| self.neighbours.contains_key(&(*key, *s))).collect();
        all.sort_by_key(|s| {
            let spec = &self.sources[*s].spec;
            (spec.distances.default_distance(), spec.class, spec.name.clone())
        });
        all
    }

    pub(crate) fn neighbour_winners(&self) -> BTreeMap<NeighbourKey, (usize, NeighbourValue)> {
        let keys: BTreeSet<NeighbourKey> = self.neighbours.keys().map(|(key, _)| *key).collect();
        keys.into_iter()
            .map(|key| {
                let first = self.neighbour_order(&key)[0];
                (key, (first, self.neighbours[&(key, first)].0))
            })
            .collect()
    }

    fn name(&self, link: LinkRef) -> Option<LinkName> {
        match link {
            LinkRef::Name(name) => Some(name),
            LinkRef::Ifindex(ifindex) => {
                self.hosts.iter().find(|(_, host)| host.0 == ifindex).map(|(name, _)| *name)
            }
        }
    }

    fn link_name(&self, link: LinkRef) -> Result<LinkName, ChangeError> {
        self.name(link).ok_or_else(|| match link {
            LinkRef::Ifindex(ifindex) => ChangeError::NoLink { ifindex },
            LinkRef::Name(_) => unreachable!(),
        })
    }

    fn hop(&self, hop: &HopSpec) -> Result<Hop, ChangeError> {
        let link = hop.link.map(|link| self.link_name(link)).transpose()?;
        Ok(Hop { gateway: hop.gateway, link, weight: hop.weight, flags: hop.flags })
    }

    fn object(&self, source: usize, nhid: u32) -> Option<usize> {
        self.objects.iter().position(|o| o.owner == Some(source) && o.nhid == nhid)
    }

    fn way(&self, source: usize, hops: &Hops) -> Result<Way, ChangeError> {
        match hops {
            Hops::None => Ok(Way::None),
            Hops::Named(nhid) => self
                .object(source, *nhid)
                .map(Way::Object)
                .ok_or(ChangeError::NoGroup { nhid: *nhid }),
            hops => {
                let hops: Result<Vec<Hop>, _> =
                    hops.as_slice().iter().map(|hop| self.hop(hop)).collect();
                Ok(Way::Hops(hops?))
            }
        }
    }

    pub(crate) fn hops<'a>(&'a self, way: &'a Way) -> &'a [Hop] {
        match way {
            Way::None => &[],
            Way::Hops(hops) => hops,
            Way::Object(object) => &self.objects[*object].hops,
        }
    }

    fn neighbour(
        &mut self,
        source: usize,
        verb: Verb,
        spec: &NeighbourSpec,
    ) -> Result<(), ChangeError> {
        if verb == Verb::Delete {
            // A link that nobody uses and no host has doesn't exist.
            let wanted = match spec.link {
                None => None,
                Some(link) => Some(self.name(link).ok_or(ChangeError::Missing)?),
            };
            let keys: BTreeSet<NeighbourKey> = self
                .neighbours
                .keys()
                .map(|(key, _)| *key)
                .filter(|key| key.0 == spec.ip && (wanted.is_none() || key.1 == wanted))
                .collect();
            let (own, others): (Vec<_>, Vec<_>) =
                keys.into_iter().partition(|key| self.neighbours.contains_key(&(*key, source)));
            let key = match own[..] {
                // Which of several others is named depends on the links' ids.
                [] if others.is_empty() => return Err(ChangeError::Missing),
                [] => return Err(self.foreign(self.neighbour_order(&others[0])[0])),
                [one] => one,
                _ => *own
                    .iter()
                    .find(|key| key.1.is_none())
                    .ok_or(ChangeError::Ambiguous { count: own.len() })?,
            };
            self.neighbours.remove(&(key, source));
            return Ok(());
        }
        if matches!(verb, Verb::Append | Verb::Prepend) {
            return Err(ChangeError::Verb { verb, kind: "neighbour" });
        }
        let known = spec.link.map(|link| self.name(link));
        let key = (spec.ip, known.flatten());
        let found = known != Some(None);
        let order = if found { self.neighbour_order(&key) } else { Vec::new() };
        let old = self.neighbours.get(&(key, source)).filter(|_| found).map(|(value, _)| *value);
        match verb {
            Verb::Add if old.is_some() => return Err(ChangeError::Exists),
            Verb::Change if old.is_none() => {
                return Err(order.first().map_or(ChangeError::Missing, |s| self.foreign(*s)));
            }
            _ => {}
        }
        let link = spec.link.map(|link| self.link_name(link)).transpose()?;
        let kept = old.filter(|_| verb == Verb::Change);
        let value = NeighbourValue {
            mac: spec.mac.or(kept.and_then(|k| k.mac)),
            state: spec.state.or(kept.map(|k| k.state)).unwrap_or(NudState::PERMANENT),
            flags: spec.flags,
            protocol: spec.protocol,
        };
        self.neighbours.insert(((spec.ip, link), source), (value, self.stamp));
        Ok(())
    }

    fn link(&mut self, source: usize, verb: Verb, spec: &LinkSpec) -> Result<(), ChangeError> {
        let known = self.name(LinkRef::Ifindex(spec.ifindex));
        match (verb, known) {
            (Verb::Append | Verb::Prepend, _) => {
                return Err(ChangeError::Verb { verb, kind: "link" });
            }
            (Verb::Add, Some(_)) => return Err(ChangeError::Exists),
            (Verb::Change | Verb::Delete, None) => return Err(ChangeError::Missing),
            (Verb::Delete, Some(name)) => {
                self.hosts.remove(&name);
                self.stamp += 1;
                let over = |value: &RouteValue| {
                    self.hops(&value.way).iter().any(|hop| hop.link == Some(name))
                };
                let routes = self.routes.iter().filter(|((_, s), _)| *s == source);
                let routes = routes.filter(|(_, (value, _))| over(value)).map(|((k, _), _)| *k);
                let neighbours = self.neighbours.keys().filter(|(_, s)| *s == source);
                let neighbours = neighbours.map(|(k, _)| *k).filter(|k| k.1 == Some(name));
                let only = Only::These(routes.collect(), neighbours.collect());
                self.rules.push(Rule { source, before: self.stamp, only });
                return Ok(());
            }
            _ => {}
        }
        if let Some(old) = known.filter(|old| *old != spec.name) {
            self.rename(old, spec.name);
        }
        self.hosts.insert(spec.name, (spec.ifindex, source, self.stamp));
        Ok(())
    }

    /// Everything that was over `old` is over `new` now, which may exist.
    fn rename(&mut self, old: LinkName, new: LinkName) {
        self.hosts.remove(&old);
        let swap = |hops: &mut Vec<Hop>| {
            for hop in hops.iter_mut().filter(|hop| hop.link == Some(old)) {
                hop.link = Some(new);
            }
        };
        for (value, _) in self.routes.values_mut() {
            if let Way::Hops(hops) = &mut value.way {
                swap(hops);
            }
        }
        self.objects.iter_mut().for_each(|object| swap(&mut object.hops));
        // What was on the name's former link and is about to go, goes now; the
        // rest of it moves over, but only where there is nothing.
        let there: Vec<_> =
            self.neighbours.keys().copied().filter(|((_, link), _)| *link == Some(new)).collect();
        for (key, source) in there {
            if self.link_is_swept(&key, source) {
                self.neighbours.remove(&(key, source));
            } else if let Some(entry) = self.neighbours.get_mut(&(key, source)) {
                entry.1 = self.stamp;
            }
        }
        let moved: Vec<_> =
            self.neighbours.keys().copied().filter(|((_, link), _)| *link == Some(old)).collect();
        for (key, source) in moved {
            let entry = self.neighbours.remove(&(key, source)).unwrap();
            self.neighbours.insert(((key.0, Some(new)), source), entry);
        }
        for rule in &mut self.rules {
            if let Only::These(_, neighbours) = &mut rule.only {
                neighbours.retain(|key| key.1 != Some(new));
                let renamed = neighbours.iter().map(|key| match key.1 == Some(old) {
                    true => (key.0, Some(new)),
                    false => *key,
                });
                *neighbours = renamed.collect();
            }
        }
    }

    fn link_is_swept(&self, key: &NeighbourKey, source: usize) -> bool {
        let stamp = self.neighbours[&(*key, source)].1;
        self.rules.iter().any(|rule| {
            rule.source == source
                && stamp < rule.before
                && matches!(&rule.only, Only::These(_, these) if these.contains(key))
        })
    }

    fn group(&mut self, source: usize, verb: Verb, spec: &GroupSpec) -> Result<(), ChangeError> {
        let known = self.object(source, spec.nhid);
        match (verb, known) {
            (Verb::Append | Verb::Prepend, _) => {
                return Err(ChangeError::Verb { verb, kind: "next-hop group" });
            }
            (Verb::Add, Some(_)) => return Err(ChangeError::Exists),
            (Verb::Change | Verb::Delete, None) => return Err(ChangeError::Missing),
            (Verb::Delete, Some(object)) => {
                self.objects[object].owner = None;
                self.stamp += 1;
                let only = Only::Object(object);
                self.rules.push(Rule { source, before: self.stamp, only });
                return Ok(());
            }
            _ => {}
        }
        let hops: Result<Vec<Hop>, _> = spec.hops.iter().map(|hop| self.hop(hop)).collect();
        let (hops, stamp) = (hops?, self.stamp);
        match known {
            Some(object) => {
                self.objects[object].hops = hops;
                self.objects[object].stamp = stamp;
            }
            None => {
                self.objects.push(Object { nhid: spec.nhid, hops, owner: Some(source), stamp });
            }
        }
        Ok(())
    }

    pub(crate) fn begin_generation(&mut self, source: usize) {
        self.stamp += 1;
        self.sources[source].fresh = self.stamp;
        self.sources[source].in_generation = true;
    }

    pub(crate) fn end_generation(&mut self, source: usize) {
        if std::mem::take(&mut self.sources[source].in_generation) {
            let before = self.sources[source].fresh;
            self.rules.push(Rule { source, before, only: Only::All });
        }
    }

    pub(crate) fn drop_source(&mut self, source: usize) {
        self.stamp += 1;
        self.sources[source].fresh = self.stamp;
        self.sources[source].in_generation = false;
        self.rules.push(Rule { source, before: self.stamp, only: Only::All });
    }

    pub(crate) fn flush(&mut self, what: Flush) {
        if what.routes {
            self.routes.clear();
        }
        if what.neighbours {
            self.neighbours.clear();
        }
        self.leftovers = true;
        self.older_rules = self.rules.len();
    }

    /// What a sweep that has not come to its end may have taken.
    pub(crate) fn may_go(&self, key: &RouteKey, source: usize) -> bool {
        let (value, stamp) = &self.routes[&(*key, source)];
        self.rules.iter().any(|rule| {
            rule.source == source
                && *stamp < rule.before
                && match &rule.only {
                    Only::All => true,
                    Only::These(routes, _) => routes.contains(key),
                    Only::Object(object) => value.way == Way::Object(*object),
                }
        })
    }

    pub(crate) fn neighbour_may_go(&self, key: &NeighbourKey, source: usize) -> bool {
        let (_, stamp) = &self.neighbours[&(*key, source)];
        self.rules.iter().any(|rule| {
            rule.source == source
                && *stamp < rule.before
                && match &rule.only {
                    Only::All => true,
                    Only::These(_, neighbours) => neighbours.contains(key),
                    Only::Object(_) => false,
                }
        })
    }

    /// Does a sweep still have to take away links or named groups? Then it must
    /// not be watched half-way.
    pub(crate) fn sweeps_parties(&self) -> bool {
        self.rules.iter().any(|rule| {
            matches!(rule.only, Only::All)
                && (self
                    .objects
                    .iter()
                    .any(|o| o.owner == Some(rule.source) && o.stamp < rule.before)
                    || self.hosts.values().any(|h| h.1 == rule.source && h.2 < rule.before))
        })
    }

    /// A source's named groups and links that it no longer offers.
    fn sweep_parties(&mut self, source: usize, before: u32) {
        for at in 0..self.objects.len() {
            let object = &mut self.objects[at];
            if object.owner == Some(source) && object.stamp < before {
                object.owner = None;
                self.stamp += 1;
                let only = Only::Object(at);
                self.rules.push(Rule { source, before: self.stamp, only });
            }
        }
        self.hosts.retain(|_, host| host.1 != source || host.2 >= before);
    }

    /// What a source held before its generation goes at once.
    pub(crate) fn sweep_now(&mut self, source: usize) {
        let fresh = self.sources[source].fresh;
        self.routes.retain(|(_, s), (_, stamp)| *s != source || *stamp >= fresh);
        self.neighbours.retain(|(_, s), (_, stamp)| *s != source || *stamp >= fresh);
        self.sweep_parties(source, fresh);
    }

    /// All sweeps have come to their end.
    pub(crate) fn swept(&mut self) {
        let newer = &self.rules[self.older_rules..];
        let everything = newer.iter().any(|rule| matches!(rule.only, Only::All));
        for rule in self.rules.clone() {
            if matches!(rule.only, Only::All) {
                self.sweep_parties(rule.source, rule.before);
            }
        }
        let gone: Vec<_> =
            self.routes.keys().copied().filter(|(key, source)| self.may_go(key, *source)).collect();
        self.routes.retain(|key, _| !gone.contains(key));
        let gone: Vec<_> = self
            .neighbours
            .keys()
            .copied()
            .filter(|(key, source)| self.neighbour_may_go(key, *source))
            .collect();
        self.neighbours.retain(|key, _| !gone.contains(key));
        self.rules.clear();
        self.older_rules = 0;
        if everything {
            self.leftovers = false;
        }
    }

    /// Names of links that somebody uses.
    pub(crate) fn links(&self) -> BTreeSet<LinkName> {
        let mut all: BTreeSet<LinkName> = self.hosts.keys().copied().collect();
        for (value, _) in self.routes.values() {
            all.extend(self.hops(&value.way).iter().filter_map(|hop| hop.link));
        }
        for object in self.objects.iter().filter(|object| object.owner.is_some()) {
            all.extend(object.hops.iter().filter_map(|hop| hop.link));
        }
        all.extend(self.neighbours.keys().filter_map(|((_, link), _)| *link));
        all
    }

    /// Contents of anonymous groups that somebody uses.
    pub(crate) fn groups(&self) -> BTreeSet<Vec<Hop>> {
        let ways = self.routes.values().map(|(value, _)| &value.way);
        ways.filter_map(|way| if let Way::Hops(hops) = way { Some(hops.clone()) } else { None })
            .collect()
    }

    /// Named groups that somebody has or uses.
    pub(crate) fn named_groups(&self) -> usize {
        let used: BTreeSet<usize> = self
            .routes
            .values()
            .filter_map(|(v, _)| if let Way::Object(o) = v.way { Some(o) } else { None })
            .collect();
        let objects = self.objects.iter().enumerate();
        objects.filter(|(at, object)| object.owner.is_some() || used.contains(at)).count()
    }
}

fn scope(family: Family, kind: RouteType, hops: &Hops) -> u8 {
    if family == Family::V6 {
        return 0;
    }
    match kind {
        RouteType::Local | RouteType::Nat => 254,
        RouteType::Broadcast | RouteType::Multicast | RouteType::Anycast => 253,
        RouteType::Unicast => match hops {
            Hops::None => 253,
            Hops::One(hop) if hop.gateway.is_none() => 253,
            _ => 0,
        },
        _ => 0,
    }
}
