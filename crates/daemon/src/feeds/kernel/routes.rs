//! Routes: which of ours an event or a line of a listing is about.
//!
//! The kernel has no number for a route. IPv4 keeps a list for each (table,
//! prefix, tos, metric), and an event's flags say where in it something
//! happened (`fib_table_insert`): REPLACE is the first, APPEND the end, and
//! CREATE alone, with a list there already, the front. IPv6 keeps routes by way
//! of gateways together as one with several next hops, whose events carry all
//! of them when one comes and only the one that goes; other routes of the same
//! metric stand beside each other, told apart by their link.

use std::collections::HashSet;

use rtm_model::{
    Attrs, Change, Family, HopSpec, Hops, LinkRef, NextHop, Prefix, RouteKey, RouteSpec, Verb,
};
use rtm_netlink::{flag, number};
use rtm_tables::{Applied, ChangeError, OwnRoute, SourceId, Stamp, Table};

use crate::core::Core;

/// What a list of routes has in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct ListKey {
    pub(super) table: u32,
    pub(super) prefix: Prefix,
    pub(super) tos: u8,
    pub(super) metric: u32,
}

impl ListKey {
    pub(super) fn of(spec: &RouteSpec) -> ListKey {
        let metric = spec.metric.unwrap_or_default();
        ListKey { table: spec.table, prefix: spec.prefix, tos: spec.tos, metric }
    }

    /// The source's routes of this list, in their order.
    pub(super) fn own(&self, table: &Table, source: SourceId) -> Vec<OwnRoute> {
        let mut own = table.own_routes(source, self.table, self.prefix);
        own.retain(|own| own.key.tos == self.tos && own.key.metric == self.metric);
        own
    }
}

/// What came of an event.
pub(super) enum Outcome {
    /// The tables have it.
    Applied,
    /// It was as it is already, or was known to be gone.
    Nothing,
    /// It doesn't fit what is known of its prefix, or doesn't tell all.
    Doubtful,
    /// A link or a group that it needs was missed.
    Incomplete,
    /// The tables refuse it.
    Refused(ChangeError),
}

impl Outcome {
    fn of(result: Result<Applied, ChangeError>) -> Outcome {
        match result {
            Ok(Applied::Changed(_)) => Outcome::Applied,
            Ok(Applied::Unchanged) => Outcome::Nothing,
            // Links and groups come before their routes: one was missed.
            Err(ChangeError::NoLink { .. } | ChangeError::NoGroup { .. }) => Outcome::Incomplete,
            Err(error) => Outcome::Refused(error),
        }
    }

    /// In doubt, whatever came of it, if it isn't known to be the whole truth.
    fn unless(self, sure: bool) -> Outcome {
        match self {
            Outcome::Applied | Outcome::Nothing if !sure => Outcome::Doubtful,
            outcome => outcome,
        }
    }
}

/// Puts a route at a place in its list.
pub(super) fn put(core: &mut Core, source: SourceId, mut spec: RouteSpec, ordinal: u16) -> Outcome {
    spec.ordinal = Some(ordinal);
    spec.metric = Some(spec.metric.unwrap_or_default());
    Outcome::of(core.apply(source, &Change::Route(Verb::Replace, spec)))
}

/// Lists of several gateways that are known to differ in nothing but their next hops.
///
/// An IPv6 route by several gateways is several routes in the kernel, each with
/// attributes of its own. A listing shows only what the first has, and so does the event
/// of several appended at once; the event of one that comes shows what that one has, and
/// the event of one that goes, too. So what the others have is known only where events
/// told of all of them. A list that isn't in here costs a listing of its prefix when its
/// first gateway goes; nothing else depends on it.
#[derive(Default)]
pub(super) struct Alike(HashSet<ListKey>);

/// Beyond so many they count as unknown.
const ALIKE_MAX: usize = 1 << 16;

impl Alike {
    fn set(&mut self, list: ListKey, is_alike: bool) {
        if !is_alike {
            self.0.remove(&list);
        } else if self.0.len() < ALIKE_MAX {
            self.0.insert(list);
        }
    }

    /// A line differed from what events had told of this list.
    pub(super) fn forget(&mut self, list: &ListKey) {
        self.0.remove(list);
    }

    /// Events were lost.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// A NEWROUTE that isn't from a dump. `sure`: no event was lost since a listing.
pub(super) fn added(
    core: &mut Core,
    source: SourceId,
    alike: &mut Alike,
    sure: bool,
    flags: u16,
    mut spec: RouteSpec,
) -> Outcome {
    let list = ListKey::of(&spec);
    let own = list.own(&core.table, source);
    let v4 = spec.prefix.family() == Family::V4;
    // With EXCL the kernel had none of this list; it never says so of several
    // gateways that came at once.
    let alone = flags & flag::EXCL != 0;
    let several = !v4 && spec.hops.as_slice().len() > 1;
    let Some(first) = own.first() else {
        alike.set(list, several && sure);
        let whole = alone || several && sure;
        return put(core, source, spec, 0).unless(whole);
    };
    if alone {
        // Whatever else we have is gone, or the kernel's dump was ahead of this event.
        alike.set(list, false);
        return put(core, source, spec, first.key.ordinal).unless(own.len() == 1);
    }
    let replace = flags & flag::REPLACE != 0;
    let equal = |own: &&OwnRoute| is_equal(&core.table, source, own, &spec);
    let there = own.iter().find(equal).map(|own| own.key.ordinal);
    let behind = own.last().map_or(0, |last| last.key.ordinal.saturating_add(1));
    if v4 {
        if replace {
            return put(core, source, spec, first.key.ordinal);
        }
        if let Some(ordinal) = there {
            // A listing had it before the event came.
            return put(core, source, spec, ordinal);
        }
        if flags & flag::APPEND != 0 {
            return put(core, source, spec, behind);
        }
        if first.key.ordinal > 0 {
            return put(core, source, spec, first.key.ordinal - 1);
        }
        spec.metric = Some(spec.metric.unwrap_or_default());
        return Outcome::of(core.apply(source, &Change::Route(Verb::Prepend, spec)));
    }
    if replace {
        // They came with one request.
        alike.set(list, several && sure);
    }
    if let Some(ordinal) = there {
        return put(core, source, spec, ordinal);
    }
    let by_gateways: Vec<&OwnRoute> =
        own.iter().filter(|own| by_gateways(&core.table, own)).collect();
    let siblings = by_gateways.first().filter(|_| all_gateways(&spec.hops));
    if replace {
        // Routes by a router's advertisement stand beside each other, though by gateways,
        // and one that changes says the same.
        let same = |own: &&&OwnRoute| core.table.group_has(source, own.value.group, &spec.hops);
        let same = siblings.and_then(|_| by_gateways.iter().find(same));
        let ordinal = same.or(siblings).map_or(first, |own| own).key.ordinal;
        return put(core, source, spec, ordinal).unless(own.len() == 1);
    }
    let Some(siblings) = siblings else { return put(core, source, spec, behind) };
    let Some(group) = core.table.store().group(siblings.value.group) else {
        return put(core, source, spec, behind).unless(false);
    };
    let told = spec.hops.as_slice();
    if !group.hops.iter().all(|have| told.iter().any(|hop| is_way(&core.table, have, hop))) {
        // An event has all gateways that the kernel joins: this is a route beside them.
        return put(core, source, spec, behind).unless(false);
    }
    let known = group.hops.len() == 1 || alike.0.contains(&list);
    // An event that begins with what was there tells nothing of what came.
    let newest = told
        .first()
        .is_some_and(|hop| group.hops.iter().all(|have| !is_way(&core.table, have, hop)));
    // All but the next hops is that of the first, as a listing has it.
    let value = &siblings.value;
    let (protocol, scope) = (Some(value.protocol), Some(value.scope));
    let same = (spec.protocol, spec.scope) == (protocol, scope) && spec.attrs == value.attrs;
    // What each next hop has of its own is numbered by their order.
    let of_each = is_of_hops(&spec.attrs) || is_of_hops(&value.attrs);
    alike.set(list, sure && known && newest && same);
    spec.hops = in_order(&core.table, &group.hops, spec.hops);
    (spec.protocol, spec.scope, spec.attrs) = (protocol, scope, value.attrs.clone());
    put(core, source, spec, siblings.key.ordinal).unless(!of_each)
}

/// A DELROUTE.
pub(super) fn removed(
    core: &mut Core,
    source: SourceId,
    alike: &mut Alike,
    spec: RouteSpec,
) -> Outcome {
    let list = ListKey::of(&spec);
    let own = list.own(&core.table, source);
    if own.is_empty() {
        // It went with a link or a next-hop object, as was derived.
        return Outcome::Nothing;
    }
    let v4 = spec.prefix.family() == Family::V4;
    let is_kind = |own: &OwnRoute| own.value.kind == spec.kind.unwrap_or(own.value.kind);
    let fits = |own: &&OwnRoute| {
        is_kind(own)
            && own.value.protocol == spec.protocol.unwrap_or(own.value.protocol)
            && (!v4 || own.value.scope == spec.scope.unwrap_or(own.value.scope))
            && if v4 {
                core.table.group_has(source, own.value.group, &spec.hops)
            } else {
                has_among(&core.table, source, own, &spec.hops)
            }
    };
    // One of several gateways may be another protocol's than the first.
    let gateway = |own: &&OwnRoute| {
        is_kind(own)
            && all_gateways(&spec.hops)
            && core.table.store().group(own.value.group).is_some_and(|group| group.hops.len() > 1)
            && has_among(&core.table, source, own, &spec.hops)
    };
    let exact = own.iter().filter(fits).find(|own| own.value.attrs == spec.attrs);
    let found = exact.or_else(|| own.iter().find(fits));
    let found = found.or_else(|| if v4 { None } else { own.iter().find(gateway) });
    let Some(found) = found else { return Outcome::Doubtful };
    let rest = if v4 { Vec::new() } else { rest(&core.table, found, &spec.hops) };
    if rest.is_empty() {
        alike.set(list, false);
        let gone = Change::Route(Verb::Delete, spec_of(&found.key));
        return Outcome::of(core.apply(source, &gone));
    }
    // Another is first now: what it has wasn't told.
    let unknown = has_first(&core.table, found, &spec.hops) && !alike.0.contains(&list)
        || is_of_hops(&found.value.attrs);
    if rest.len() == 1 {
        alike.set(list, false);
    }
    let value = &found.value;
    let left = RouteSpec {
        kind: Some(value.kind),
        protocol: Some(value.protocol),
        scope: Some(value.scope),
        hops: hops_of(rest),
        attrs: value.attrs.clone(),
        ..spec_of(&found.key)
    };
    put(core, source, left, found.key.ordinal).unless(!unknown)
}

/// A route of ours that a listing of its prefix lacked.
pub(super) fn gone(core: &mut Core, source: SourceId, key: &RouteKey) {
    let _ = core.apply(source, &Change::Route(Verb::Delete, spec_of(key)));
}

/// The key, as a change spells it.
fn spec_of(key: &RouteKey) -> RouteSpec {
    let mut spec = RouteSpec::new(key.prefix);
    (spec.table, spec.tos) = (key.table, key.tos);
    (spec.metric, spec.ordinal) = (Some(key.metric), Some(key.ordinal));
    spec
}

/// How many of this list were offered since a listing began?
pub(super) fn fresh_count(table: &Table, source: SourceId, list: &ListKey, since: Stamp) -> usize {
    let mut stale = table.stale_of(source, list.table, list.prefix, since);
    stale.retain(|own| own.key.tos == list.tos && own.key.metric == list.metric);
    list.own(table, source).len() - stale.len()
}

/// Are these lines the list as we have it?
pub(super) fn is_list(
    table: &Table,
    source: SourceId,
    own: &[OwnRoute],
    lines: &[RouteSpec],
) -> bool {
    let mut both = own.iter().zip(lines);
    own.len() == lines.len() && both.all(|(own, line)| is_equal(table, source, own, line))
}

/// Can it be told where the lines of one link stand, if that is all that was asked for?
/// Others of the list may stand between them.
pub(super) fn is_placed(
    table: &Table,
    source: SourceId,
    own: &[OwnRoute],
    lines: &[RouteSpec],
) -> bool {
    match (own, lines) {
        ([only], [line]) => match line.hops.as_slice() {
            // The one that we have changed; or another came beside it unheard.
            [hop] => table
                .store()
                .group(only.value.group)
                .is_some_and(|group| group.hops.iter().any(|have| is_way(table, have, hop))),
            _ => true,
        },
        _ => in_places(table, source, own, lines).is_some(),
    }
}

/// Takes a whole list, as a listing has it. True: we have more of it than there are lines.
pub(super) fn listed(
    core: &mut Core,
    source: SourceId,
    fresh: bool,
    lines: &mut Vec<RouteSpec>,
    mut each: impl FnMut(&RouteSpec, Outcome),
) -> bool {
    let mut more = false;
    let ordinals: Vec<u16> = match (fresh, &lines[..]) {
        (true, lines) => (0..lines.len()).map(|at| at as u16).collect(),
        (false, [first, ..]) => {
            let own = ListKey::of(first).own(&core.table, source);
            more = own.len() > lines.len();
            match (&own[..], lines.len()) {
                ([], count) => (0..count).map(|at| at as u16).collect(),
                ([only], 1) => vec![only.key.ordinal],
                _ => places(&core.table, source, &own, lines),
            }
        }
        (false, []) => return false,
    };
    for (mut spec, ordinal) in lines.drain(..).zip(ordinals) {
        spec.metric = Some(spec.metric.unwrap_or_default());
        spec.ordinal = Some(ordinal);
        let change = Change::Route(Verb::Replace, spec);
        let outcome = Outcome::of(core.apply(source, &change));
        if let Change::Route(_, spec) = &change {
            each(spec, outcome);
        }
    }
    more
}

/// Where the lines of a list stand: where they stood, if they are among ours in
/// this order, else in a row from 0.
fn places(table: &Table, source: SourceId, own: &[OwnRoute], lines: &[RouteSpec]) -> Vec<u16> {
    let found = in_places(table, source, own, lines);
    found.unwrap_or_else(|| (0..lines.len()).map(|at| at as u16).collect())
}

fn in_places(
    table: &Table,
    source: SourceId,
    own: &[OwnRoute],
    lines: &[RouteSpec],
) -> Option<Vec<u16>> {
    let mut rest = own.iter();
    lines
        .iter()
        .map(|line| rest.find(|own| is_equal(table, source, own, line)).map(|own| own.key.ordinal))
        .collect()
}

/// Is this route of ours the one that a message spells, but for the state of
/// its links?
pub(super) fn is_equal(table: &Table, source: SourceId, own: &OwnRoute, spec: &RouteSpec) -> bool {
    own.value.protocol == spec.protocol.unwrap_or(own.value.protocol)
        && spec.kind == Some(own.value.kind)
        && own.value.scope == spec.scope.unwrap_or(own.value.scope)
        && own.value.attrs == spec.attrs
        && table.group_has(source, own.value.group, &spec.hops)
}

fn all_gateways(hops: &Hops) -> bool {
    let hops = hops.as_slice();
    !hops.is_empty() && hops.iter().all(|hop| hop.gateway.is_some())
}

/// Can the kernel put further gateways to this one (`rt6_qualify_for_ecmp`)?
fn by_gateways(table: &Table, own: &OwnRoute) -> bool {
    table
        .store()
        .group(own.value.group)
        .is_some_and(|group| group.nhid == 0 && group.hops.iter().all(|hop| hop.gateway.is_some()))
}

/// Are these the same but for their weight, which one that stands or goes alone isn't told
/// with?
fn is_way(table: &Table, have: &NextHop, want: &HopSpec) -> bool {
    table.is_hop(have, &HopSpec { weight: have.weight, ..*want })
}

/// Is the route's first next hop among these?
fn has_first(table: &Table, own: &OwnRoute, hops: &Hops) -> bool {
    let group = table.store().group(own.value.group);
    group
        .and_then(|group| group.hops.first())
        .is_some_and(|first| hops.as_slice().iter().any(|hop| is_way(table, first, hop)))
}

/// Are these next hops all among the route's?
fn has_among(table: &Table, source: SourceId, own: &OwnRoute, hops: &Hops) -> bool {
    match hops {
        Hops::None | Hops::Named(_) => table.group_has(source, own.value.group, hops),
        _ => table.store().group(own.value.group).is_some_and(|group| {
            group.nhid == 0
                && hops
                    .as_slice()
                    .iter()
                    .all(|want| group.hops.iter().any(|have| is_way(table, have, want)))
        }),
    }
}

/// What is left of a route's next hops without these. One that is left alone loses its
/// weight, as far as the kernel tells.
fn rest(table: &Table, own: &OwnRoute, without: &Hops) -> Vec<HopSpec> {
    let Some(group) = table.store().group(own.value.group) else { return Vec::new() };
    let stays = |have: &&NextHop| !without.as_slice().iter().any(|hop| is_way(table, have, hop));
    if group.nhid != 0 || without.as_slice().is_empty() {
        return Vec::new();
    }
    let ifindex = |link| table.store().link(link).map(|link| LinkRef::Ifindex(link.ifindex));
    let spell = |hop: &NextHop| HopSpec {
        gateway: hop.gateway,
        link: hop.link.and_then(ifindex),
        weight: hop.weight,
        flags: hop.flags,
    };
    let mut rest: Vec<HopSpec> = group.hops.iter().filter(stays).map(spell).collect();
    if let [only] = &mut rest[..] {
        only.weight = 1;
    }
    rest
}

/// The next hops of an IPv6 event in the order in which a dump has them: those
/// that were there, then what came. (An event begins with what came.)
fn in_order(table: &Table, there: &[NextHop], hops: Hops) -> Hops {
    let mut sorted = hops.as_slice().to_vec();
    sorted.sort_by_key(|hop| {
        there.iter().position(|have| is_way(table, have, hop)).unwrap_or(usize::MAX)
    });
    hops_of(sorted)
}

fn hops_of(hops: Vec<HopSpec>) -> Hops {
    match hops[..] {
        [only] => Hops::One(only),
        _ => Hops::Many(hops),
    }
}

/// Do these say anything of one next hop alone (its encapsulation)?
fn is_of_hops(attrs: &Attrs) -> bool {
    let of_one = [number::RTA_MULTIPATH, number::RTA_ENCAP_TYPE, number::RTA_ENCAP];
    !attrs.is_none() && attrs.decode().opaque.iter().any(|(number, _)| of_one.contains(number))
}
