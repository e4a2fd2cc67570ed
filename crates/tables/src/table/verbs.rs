//! What each verb does to a route.
//!
//! As the kernel does it, with "exists" read as "this source has it": sources
//! compete for a key, they don't share it. So a source's routes of one prefix,
//! tos and metric are a list of its own, told apart by ordinals.
//!
//! | verb | IPv4 | IPv6 |
//! |---|---|---|
//! | add | refused if the list has one | the same |
//! | change, replace | the first of the list; change is refused if it is empty | the same |
//! | append | behind the last, with the next ordinal | its next hops join the first's, if all have gateways; else as IPv4 |
//! | prepend | before the first; where there is no ordinal left before it, the others move up | the same |
//! | delete | the lowest metric, then the lowest ordinal, that fits all that is said | the same, and of several next hops only those named go |
//!
//! A feed that knows ordinals (the kernel's import does) names them, and every
//! verb means exactly that one.

use std::net::IpAddr;

use rtm_model::{
    Change, Family, GroupId, HOPS_MAX, HopFlags, HopSpec, Hops, METRIC_V6, NextHop, RouteKey,
    RouteSpec, RouteType, TABLE_MAIN, Verb, WEIGHT_MAX,
};

use super::candidates::RouteNo;
use super::{ChangeError, SourceId, SourceSpec, Table};
use crate::store::attrs::NO_ATTRS;
use crate::store::entry::{Place, Value};

/// `rtm_scope` numbers (linux/rtnetlink.h).
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;

/// One of a source's routes of a prefix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    no: RouteNo,
    place: Place,
    value: Value,
}

/// Routes of one key that room is kept for.
const OWN_KEPT: usize = 64;

/// What a delete that names next hops takes of a route.
enum Narrow {
    /// It doesn't fit.
    No,
    /// The whole route.
    Whole,
    /// All but these next hops.
    Rest(Vec<NextHop>),
}

impl Table {
    /// One change, in the open transaction.
    pub(super) fn change(&mut self, change: &Change) -> Result<(), ChangeError> {
        let source = self.open.source.ok_or(ChangeError::NoSource)?;
        match change {
            Change::Route(Verb::Delete, spec) => self.delete_route(source, spec),
            Change::Route(verb, spec) => self.set_route(source, *verb, spec),
            Change::Neighbour(verb, spec) => self.change_neighbour(source, *verb, spec),
            Change::Link(verb, spec) => self.change_link_spec(source, *verb, spec),
            Change::Group(verb, spec) => self.change_group_spec(source, *verb, spec),
        }
    }

    fn set_route(
        &mut self,
        source: SourceId,
        verb: Verb,
        spec: &RouteSpec,
    ) -> Result<(), ChangeError> {
        let family = spec.prefix.family();
        let kind = spec.kind.unwrap_or(RouteType::Unicast);
        match (&spec.hops, kind.wants_next_hop()) {
            (Hops::None, true) => return Err(ChangeError::NextHopMissing { kind }),
            // The kernel hangs an IPv6 blackhole on a link (lo); an IPv4 one
            // has nothing.
            (Hops::One(_) | Hops::Many(_) | Hops::Named(_), false) if family == Family::V4 => {
                return Err(ChangeError::NextHopUnwanted { kind });
            }
            _ => {}
        }
        check_hops(family, spec.hops.as_slice())?;
        let key = key_of(spec);
        let metric = metric_of(spec);
        let key = RouteKey { metric, ..key };
        let mut own = std::mem::take(&mut self.own);
        self.own(source, &key, Some(metric), spec.ordinal, &mut own);
        let result = self.set_own(source, verb, spec, kind, &key, &own);
        self.put_own(own);
        result
    }

    /// Keeps the room, unless somebody's long list made it large.
    fn put_own(&mut self, mut own: Vec<Own>) {
        own.clear();
        own.shrink_to(OWN_KEPT);
        self.own = own;
    }

    /// The same, with what this source has.
    fn set_own(
        &mut self,
        source: SourceId,
        verb: Verb,
        spec: &RouteSpec,
        kind: RouteType,
        key: &RouteKey,
        own: &[Own],
    ) -> Result<(), ChangeError> {
        let metric = key.metric;
        let mut make_room = false;
        let ordinal = match (verb, own.first(), own.last()) {
            (Verb::Add, Some(_), _) => return Err(ChangeError::Exists),
            (Verb::Change, None, _) => {
                return Err(self.absent(source, key, Some(metric), spec.ordinal));
            }
            (_, None, _) => spec.ordinal.unwrap_or(0),
            (Verb::Append, Some(_), Some(last)) if spec.ordinal.is_none() => {
                if let Some(result) = self.extend_group(source, own, &spec.hops) {
                    return result;
                }
                last.place.2.checked_add(1).ok_or(ChangeError::OrdinalsUsedUp)?
            }
            (Verb::Prepend, Some(first), _) if spec.ordinal.is_none() => {
                make_room = first.place.2 == 0;
                first.place.2.saturating_sub(1)
            }
            (_, Some(first), _) => first.place.2,
        };
        let GroupId(group) = self.group_of(source, &spec.hops)?;
        let owner = self.source_spec(source).ok_or(ChangeError::NoSource)?;
        let value = value_of(spec, kind, owner, group);
        let value = Value { attrs: self.store.attrs.acquire(&spec.attrs), ..value };
        let target = (spec.tos, metric, ordinal);
        if let Err(error) = self
            .check_twin(verb, spec, own, target, value)
            .and_then(|()| if make_room { self.make_room(source, key, own) } else { Ok(()) })
        {
            self.store.attrs.release(value.attrs);
            return Err(error);
        }
        let no = match own.iter().find(|own| own.place == target) {
            Some(own) => own.no,
            None => self.route_no(&RouteKey { ordinal, ..*key }),
        };
        self.offer(no, source, Some(value));
        Ok(())
    }

    /// The kernel refuses a second route that is the same in everything
    /// (`fib_table_insert`): it could never be told from the first.
    fn check_twin(
        &self,
        verb: Verb,
        spec: &RouteSpec,
        own: &[Own],
        target: Place,
        value: Value,
    ) -> Result<(), ChangeError> {
        let fresh = matches!(verb, Verb::Append | Verb::Prepend);
        let twin = |own: &Own| (fresh || own.place != target) && own.value == value;
        if spec.ordinal.is_none() && own.iter().any(twin) {
            return Err(ChangeError::Exists);
        }
        Ok(())
    }

    /// IPv6 `append`: the next hops join those of the first route that can take
    /// them, as the kernel makes siblings of routes by way of gateways
    /// (`rt6_qualify_for_ecmp`). `None`: they don't qualify.
    fn extend_group(
        &mut self,
        source: SourceId,
        own: &[Own],
        hops: &Hops,
    ) -> Option<Result<(), ChangeError>> {
        let added = hops.as_slice();
        if own.first()?.no.family() != Family::V6
            || added.is_empty()
            || added.iter().any(|hop| hop.gateway.is_none())
        {
            return None;
        }
        let (sibling, mut all) = own.iter().find_map(|own| {
            let group = self.store.group(GroupId(own.value.group))?;
            let gateways = group.hops.iter().all(|hop| hop.gateway.is_some());
            (group.nhid == 0 && gateways).then(|| (*own, group.hops.clone()))
        })?;
        Some(self.extend(source, sibling, &mut all, added))
    }

    fn extend(
        &mut self,
        source: SourceId,
        sibling: Own,
        all: &mut Vec<NextHop>,
        added: &[HopSpec],
    ) -> Result<(), ChangeError> {
        let present = all.len();
        if present + added.len() > HOPS_MAX {
            return Err(ChangeError::TooManyHops { hops: present + added.len() });
        }
        self.hops_into(added, all)?;
        for index in present..all.len() {
            let new = all[index];
            if all[..index].iter().any(|old| old.gateway == new.gateway && old.link == new.link) {
                return Err(ChangeError::Exists);
            }
        }
        let GroupId(group) = self.intern(all);
        self.store.attrs.again(sibling.value.attrs);
        self.offer(sibling.no, source, Some(Value { group, ..sibling.value }));
        Ok(())
    }

    /// Moves this source's routes at ordinal 0 and behind up by one, as far as
    /// they stand without a gap.
    fn make_room(
        &mut self,
        source: SourceId,
        key: &RouteKey,
        own: &[Own],
    ) -> Result<(), ChangeError> {
        let run = own.iter().enumerate().take_while(|(i, o)| usize::from(o.place.2) == *i).count();
        if run > usize::from(u16::MAX) {
            return Err(ChangeError::OrdinalsUsedUp);
        }
        for own in own[..run].iter().rev() {
            let up = self.route_no(&RouteKey { ordinal: own.place.2 + 1, ..*key });
            self.store.attrs.again(own.value.attrs);
            self.offer(up, source, Some(own.value));
        }
        Ok(())
    }

    fn delete_route(&mut self, source: SourceId, spec: &RouteSpec) -> Result<(), ChangeError> {
        let family = spec.prefix.family();
        let key = key_of(spec);
        // The kernel takes metric 0 in a delete as not said; who names the
        // ordinal means exactly this key.
        let metric = spec.metric.filter(|metric| *metric != 0 || spec.ordinal.is_some());
        // As iproute2 fills it in: only `unicast` leaves the scope open.
        let scope = spec.scope.or_else(|| match (family, spec.kind) {
            (Family::V4, Some(kind)) if kind != RouteType::Unicast => {
                Some(scope_of(family, kind, &Hops::None))
            }
            _ => None,
        });
        let mut own = std::mem::take(&mut self.own);
        self.own(source, &key, metric, spec.ordinal, &mut own);
        let result = self.delete_own(source, spec, scope, &own);
        self.put_own(own);
        result.unwrap_or_else(|| Err(self.absent(source, &key, metric, spec.ordinal)))
    }

    /// Deletes the first that fits of what this source has; `None`: none does.
    fn delete_own(
        &mut self,
        source: SourceId,
        spec: &RouteSpec,
        scope: Option<u8>,
        own: &[Own],
    ) -> Option<Result<(), ChangeError>> {
        let family = spec.prefix.family();
        for &Own { no, value, .. } in own {
            if spec.kind.is_some_and(|kind| kind as u8 != value.kind)
                || spec.protocol.is_some_and(|protocol| protocol != value.protocol)
                || scope.is_some_and(|scope| scope != value.scope)
                || (!spec.attrs.is_none() && !self.store.attrs.is(value.attrs, &spec.attrs))
            {
                continue;
            }
            match self.narrow(source, family, GroupId(value.group), &spec.hops) {
                Narrow::No => {}
                Narrow::Whole => {
                    self.offer(no, source, None);
                    return Some(Ok(()));
                }
                Narrow::Rest(hops) => {
                    let GroupId(group) = self.intern(&hops);
                    self.store.attrs.again(value.attrs);
                    self.offer(no, source, Some(Value { group, ..value }));
                    return Some(Ok(()));
                }
            }
        }
        None
    }

    fn narrow(&self, source: SourceId, family: Family, group: GroupId, hops: &Hops) -> Narrow {
        if let Hops::Named(nhid) = hops {
            let named = self.shared.named.get(&(source, *nhid));
            return if named == Some(&group) { Narrow::Whole } else { Narrow::No };
        }
        let wanted = hops.as_slice();
        if wanted.is_empty() {
            return Narrow::Whole;
        }
        let Some(group) = self.store.group(group).filter(|group| group.nhid == 0) else {
            return Narrow::No;
        };
        let fits = |hop: &NextHop, wanted: &HopSpec| {
            wanted.gateway.is_none_or(|gateway| hop.gateway == Some(gateway))
                && wanted.link.is_none_or(|link| {
                    self.find_link(link).is_some_and(|link| hop.link == Some(link))
                })
        };
        if family == Family::V4 {
            // fib_nh_match: one next hop is compared with the first, several
            // with all in order, and a weight only if it is over 1.
            let whole = match wanted {
                [one] => group.hops.first().is_some_and(|hop| fits(hop, one)),
                all => {
                    all.len() == group.hops.len()
                        && all.iter().zip(&group.hops).all(|(wanted, hop)| {
                            fits(hop, wanted) && (wanted.weight <= 1 || wanted.weight == hop.weight)
                        })
                }
            };
            return if whole { Narrow::Whole } else { Narrow::No };
        }
        let mut rest = group.hops.clone();
        for wanted in wanted {
            match rest.iter().position(|hop| fits(hop, wanted)) {
                Some(at) => drop(rest.remove(at)),
                None => return Narrow::No,
            }
        }
        if rest.is_empty() { Narrow::Whole } else { Narrow::Rest(rest) }
    }

    /// This source's routes of a prefix and tos, with this metric and ordinal if
    /// they are named, in the order of metric and ordinal.
    #[inline]
    fn own(
        &self,
        source: SourceId,
        key: &RouteKey,
        metric: Option<u32>,
        ordinal: Option<u16>,
        out: &mut Vec<Own>,
    ) {
        let mut next = self.first_of(key);
        while let Some(no) = next {
            let place = self.store.place(no);
            if fits(place, key.tos, metric, ordinal) {
                if let Some(offer) = self.offer_of(no, source) {
                    out.push(Own { no, place, value: offer.value });
                }
            }
            next = self.store.following(no);
        }
    }

    /// Why this source's change or delete finds nothing.
    fn absent(
        &self,
        source: SourceId,
        key: &RouteKey,
        metric: Option<u32>,
        ordinal: Option<u16>,
    ) -> ChangeError {
        let mut next = self.store.first_of(key);
        while let Some(no) = next {
            if fits(self.store.place(no), key.tos, metric, ordinal) {
                let other = self.offers_of(no).into_iter().find(|offer| offer.source != source);
                if let Some(other) = other {
                    return self.foreign(other.source);
                }
            }
            next = self.store.following(no);
        }
        ChangeError::Missing
    }

    pub(super) fn foreign(&self, owner: SourceId) -> ChangeError {
        let source = self.source_spec(owner).map_or(String::new(), |spec| spec.name.clone());
        ChangeError::ForeignSource { source }
    }
}

fn fits(place: Place, tos: u8, metric: Option<u32>, ordinal: Option<u16>) -> bool {
    place.0 == tos
        && metric.is_none_or(|metric| metric == place.1)
        && ordinal.is_none_or(|ordinal| ordinal == place.2)
}

/// The metric under which a spec sets a route.
pub(super) fn metric_of(spec: &RouteSpec) -> u32 {
    match (spec.prefix.family(), spec.metric) {
        (Family::V4, metric) => metric.unwrap_or(0),
        // The kernel's own routes have it: who names the ordinal means it.
        (Family::V6, Some(0)) if spec.ordinal.is_some() => 0,
        (Family::V6, None | Some(0)) => METRIC_V6,
        (Family::V6, Some(metric)) => metric,
    }
}

/// The value that a spec gives a route of its source, but for the attributes.
pub(super) fn value_of(spec: &RouteSpec, kind: RouteType, owner: &SourceSpec, group: u32) -> Value {
    let protocol = spec.protocol.unwrap_or(owner.protocol);
    let scope = || scope_of(spec.prefix.family(), kind, &spec.hops);
    Value {
        group,
        attrs: NO_ATTRS,
        kind: kind as u8,
        protocol,
        scope: spec.scope.unwrap_or_else(scope),
        distance: spec.distance.unwrap_or_else(|| owner.distances.distance(protocol)),
    }
}

/// The key that a spec names, but for metric and ordinal.
pub(super) fn key_of(spec: &RouteSpec) -> RouteKey {
    let table = if spec.table == 0 { TABLE_MAIN } else { spec.table };
    RouteKey { table, prefix: spec.prefix, tos: spec.tos, metric: 0, ordinal: 0 }
}

/// Next hops that a route or group of this family can have.
pub(super) fn check_hops(family: Family, hops: &[HopSpec]) -> Result<(), ChangeError> {
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
