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

use rtm_model::{Attrs, Change, Family, HopSpec, Hops, Prefix, RouteKey, RouteSpec, Verb};
use rtm_netlink::flag;
use rtm_tables::{Applied, ChangeError, OwnRoute, SourceId, Table};

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
}

/// Puts a route at a place in its list.
pub(super) fn put(core: &mut Core, source: SourceId, mut spec: RouteSpec, ordinal: u16) -> Outcome {
    spec.ordinal = Some(ordinal);
    spec.metric = Some(spec.metric.unwrap_or_default());
    Outcome::of(core.apply(source, &Change::Route(Verb::Replace, spec)))
}

/// Lists whose siblings differ in more than their next hop. An IPv6 route by
/// several gateways is several routes in the kernel; a listing shows what the
/// first of them has, so which is first matters.
pub(super) type Mixed = HashSet<ListKey>;

/// Beyond so many only the audit knows.
const MIXED_MAX: usize = 1 << 16;

/// A NEWROUTE that isn't from a dump.
pub(super) fn added(
    core: &mut Core,
    source: SourceId,
    mixed: &mut Mixed,
    flags: u16,
    mut spec: RouteSpec,
) -> Outcome {
    let own = ListKey::of(&spec).own(&core.table, source);
    let Some(first) = own.first() else { return put(core, source, spec, 0) };
    let equal = |own: &&OwnRoute| is_equal(&core.table, source, own, &spec);
    let there = own.iter().find(equal).map(|own| own.key.ordinal);
    let behind = own.last().map_or(0, |last| last.key.ordinal.saturating_add(1));
    if spec.prefix.family() == Family::V4 {
        if flags & flag::REPLACE != 0 {
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
    if let Some(ordinal) = there {
        return put(core, source, spec, ordinal);
    }
    let siblings = own.iter().find(|own| by_gateways(&core.table, own));
    let (ordinal, merge) = match siblings {
        Some(siblings) if all_gateways(&spec.hops) => (siblings.key.ordinal, Some(siblings)),
        _ if flags & flag::REPLACE != 0 => (first.key.ordinal, None),
        _ => (behind, None),
    };
    if let (Some(siblings), true) = (merge, flags & flag::REPLACE == 0) {
        spec.hops = in_order(&core.table, siblings, spec.hops);
        // All but the next hops is that of the first, as a listing has it.
        let value = &siblings.value;
        let (protocol, scope) = (Some(value.protocol), Some(value.scope));
        if (spec.protocol, spec.scope) != (protocol, scope) || spec.attrs != value.attrs {
            (spec.protocol, spec.scope, spec.attrs) = (protocol, scope, value.attrs.clone());
            if mixed.len() < MIXED_MAX {
                mixed.insert(ListKey::of(&spec));
            }
        }
    }
    put(core, source, spec, ordinal)
}

/// A DELROUTE.
pub(super) fn removed(
    core: &mut Core,
    source: SourceId,
    mixed: &mut Mixed,
    spec: RouteSpec,
) -> Outcome {
    let key = ListKey::of(&spec);
    let own = key.own(&core.table, source);
    if own.is_empty() {
        // It went with a link or a next-hop object, as was derived.
        return Outcome::Nothing;
    }
    let v4 = spec.prefix.family() == Family::V4;
    let fits = |own: &&OwnRoute| {
        own.value.protocol == spec.protocol.unwrap_or(own.value.protocol)
            && own.value.kind == spec.kind.unwrap_or(own.value.kind)
            && (!v4 || own.value.scope == spec.scope.unwrap_or(own.value.scope))
            && if v4 {
                core.table.group_has(source, own.value.group, &spec.hops)
            } else {
                has_among(&core.table, source, own, &spec.hops)
            }
    };
    let exact = own.iter().filter(fits).find(|own| own.value.attrs == spec.attrs);
    let Some(found) = exact.or_else(|| own.iter().find(fits)) else { return Outcome::Doubtful };
    let mut gone = spec_of(&found.key);
    let whole = v4 || core.table.group_has(source, found.value.group, &spec.hops);
    // Another is first now: what it has wasn't told.
    let unknown = !whole
        && (mixed.contains(&key)
            || found.value.attrs != Attrs::NONE && has_first(&core.table, found, &spec.hops));
    if whole {
        mixed.remove(&key);
    } else {
        gone.hops = spec.hops;
    }
    match Outcome::of(core.apply(source, &Change::Route(Verb::Delete, gone))) {
        Outcome::Applied if unknown => Outcome::Doubtful,
        outcome => outcome,
    }
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

/// Takes a whole list, as a listing has it.
pub(super) fn listed(
    core: &mut Core,
    source: SourceId,
    fresh: bool,
    lines: &mut Vec<RouteSpec>,
    mut each: impl FnMut(&RouteSpec, Outcome),
) {
    let ordinals: Vec<u16> = match (fresh, &lines[..]) {
        (true, lines) => (0..lines.len()).map(|at| at as u16).collect(),
        (false, [first, ..]) => {
            let own = ListKey::of(first).own(&core.table, source);
            match (&own[..], lines.len()) {
                ([], count) => (0..count).map(|at| at as u16).collect(),
                ([only], 1) => vec![only.key.ordinal],
                _ => places(&core.table, source, &own, lines),
            }
        }
        (false, []) => return,
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
}

/// Where the lines of a list stand: where they stood, if they are among ours in
/// this order, else in a row from 0.
fn places(table: &Table, source: SourceId, own: &[OwnRoute], lines: &[RouteSpec]) -> Vec<u16> {
    let mut rest = own.iter();
    let found: Option<Vec<u16>> = lines
        .iter()
        .map(|line| rest.find(|own| is_equal(table, source, own, line)).map(|own| own.key.ordinal))
        .collect();
    found.unwrap_or_else(|| (0..lines.len()).map(|at| at as u16).collect())
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

/// Is the route's first next hop among these?
fn has_first(table: &Table, own: &OwnRoute, hops: &Hops) -> bool {
    let group = table.store().group(own.value.group);
    group.and_then(|group| group.hops.first()).is_some_and(|first| {
        let is = |hop: &HopSpec| table.is_hop(first, &HopSpec { weight: first.weight, ..*hop });
        hops.as_slice().iter().any(is)
    })
}

/// Are these next hops all among the route's?
fn has_among(table: &Table, source: SourceId, own: &OwnRoute, hops: &Hops) -> bool {
    match hops {
        Hops::None | Hops::Named(_) => table.group_has(source, own.value.group, hops),
        _ => table.store().group(own.value.group).is_some_and(|group| {
            let wanted = hops.as_slice();
            // A next hop that goes alone is told without its weight.
            let is = |have: &rtm_model::NextHop, want: &HopSpec| {
                table.is_hop(have, &HopSpec { weight: have.weight, ..*want })
            };
            group.nhid == 0
                && wanted.iter().all(|want| group.hops.iter().any(|have| is(have, want)))
        }),
    }
}

/// The next hops of an IPv6 event in the order in which a dump has them: those
/// that were there, then what came. (An event begins with what came.)
fn in_order(table: &Table, own: &OwnRoute, hops: Hops) -> Hops {
    let Some(group) = table.store().group(own.value.group) else { return hops };
    let mut sorted = hops.as_slice().to_vec();
    sorted.sort_by_key(|hop| {
        group.hops.iter().position(|have| table.is_hop(have, hop)).unwrap_or(usize::MAX)
    });
    match sorted[..] {
        [only] => Hops::One(only),
        _ => Hops::Many(sorted),
    }
}
