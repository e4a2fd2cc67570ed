//! A change as the line that asks for it: what `route save` writes, and what
//! `rtm -batch` and `ip -batch` read.
//!
//! Everything that is said is spelled out, so the line doesn't depend on
//! defaults: the scope, the protocol, `0.0.0.0/0` and `::/0` for default
//! routes. Only `distance` is a word that `ip` doesn't know.

use std::fmt::{self, Write};

use super::attributes::{MetricValue, Metrics, opaque_u8, printable, realms};
use super::neighbour::{FLAGS as NEIGHBOUR_FLAGS, NTF_OFFLOADED, NTF_PROXY, nud_name};
use super::print::link_text;
use super::route::{FEATURE_ECN, FEATURE_TCP_USEC_TS, FLAGS, FLAGS_OF_STATE, RTA_TTL_PROPAGATE};
use super::selector::Resolve;
use super::view::{HopView, LinkText, RouteView};
use super::write;
use crate::change::{Change, NeighbourSpec, RouteSpec, Verb};
use crate::group::HopFlags;
use crate::link::LinkName;
use crate::names::METRICS;
use crate::prefix::Family;
use crate::route::{RouteKey, RouteType, RouteValue, TABLE_MAIN};

/// Writes a change as a line of the grammar, without a line feed. Links and
/// named groups, which have no line, are written as a comment.
pub fn write_change<W: Write + ?Sized>(out: &mut W, change: &Change) -> fmt::Result {
    match change {
        Change::Route(verb, spec) => write_route_change(out, *verb, spec),
        Change::Neighbour(verb, spec) => write_neighbour_change(out, *verb, spec),
        Change::Link(verb, link) => {
            write!(out, "# link {} {} {}", verb.name(), link.ifindex, link.name.as_str())
        }
        Change::Group(verb, group) => write!(out, "# nexthop {} id {}", verb.name(), group.nhid),
    }
}

/// The distance that the source `admin` gives a route that names none.
const DISTANCE_ADMIN: u8 = 1;

/// Writes a route of the tables as the line that makes it, without a line
/// feed: `route replace …`, or `route append …` for one behind an equal one.
///
/// What a link is like at the moment (`dead`, `linkdown`) is left out, and the
/// distance where it is what a route by hand has anyway: such a line goes into
/// `ip -batch`, too.
pub fn write_route_line<W: Write + ?Sized>(
    out: &mut W,
    key: &RouteKey,
    value: &RouteValue,
    resolve: &dyn Resolve,
) -> fmt::Result {
    let mut view = RouteView::of_route(key, value, resolve);
    view.distance = view.distance.filter(|&distance| distance != DISTANCE_ADMIN);
    let verb = if key.ordinal == 0 { Verb::Replace } else { Verb::Append };
    let said = Said { metric: true, protocol: true, scope: true, kind: true, state: false };
    // A group spelled out needs no object of its number.
    let nhid = view.nhid != 0 && view.hops.len() == 0;
    write_route(out, verb, &view, said, nhid)
}

/// Which fields were said.
struct Said {
    metric: bool,
    protocol: bool,
    scope: bool,
    kind: bool,
    /// Also the flags of a next hop that tell what its link is like.
    state: bool,
}

fn write_route_change<W: Write + ?Sized>(out: &mut W, verb: Verb, spec: &RouteSpec) -> fmt::Result {
    let view = RouteView::of_spec(spec);
    let said = Said {
        metric: spec.metric.is_some(),
        protocol: spec.protocol.is_some(),
        scope: spec.scope.is_some(),
        kind: spec.kind.is_some(),
        state: true,
    };
    write_route(out, verb, &view, said, view.nhid != 0)
}

fn write_route<W: Write + ?Sized>(
    out: &mut W,
    verb: Verb,
    route: &RouteView<'_>,
    said: Said,
    nhid: bool,
) -> fmt::Result {
    out.write_str("route ")?;
    out.write_str(verb.name())?;
    if said.kind && (route.kind != RouteType::Unicast || verb == Verb::Delete) {
        out.write_str(" ")?;
        out.write_str(route.kind.name())?;
    }
    out.write_str(" ")?;
    write::full_prefix(out, route.prefix)?;
    if nhid {
        out.write_str(" nhid ")?;
        write::number(out, route.nhid)?;
    }
    if let Some(hop) = route.hops.at(0).filter(|_| route.hops.len() == 1) {
        write_hop(out, &hop, route.family(), verb, said.state)?;
    }
    if route.tos != 0 {
        write!(out, " tos 0x{:02x}", route.tos)?;
    }
    let local = matches!(
        route.kind,
        RouteType::Local | RouteType::Broadcast | RouteType::Nat | RouteType::Anycast
    );
    if route.table != TABLE_MAIN || said.kind && local {
        out.write_str(" table ")?;
        write::number(out, route.table)?;
    }
    if said.protocol {
        out.write_str(" proto ")?;
        write::number(out, route.protocol)?;
    }
    if said.scope {
        out.write_str(" scope ")?;
        write::number(out, route.scope)?;
    }
    if said.metric {
        out.write_str(" metric ")?;
        write::number(out, route.metric)?;
    }
    if let Some(distance) = route.distance {
        out.write_str(" distance ")?;
        write::number(out, distance)?;
    }
    write_attributes(out, route)?;
    if route.hops.len() > 1 {
        for hop in (0..route.hops.len()).filter_map(|index| route.hops.at(index)) {
            out.write_str(" nexthop")?;
            write_hop(out, &hop, route.family(), verb, said.state)?;
            out.write_str(" weight ")?;
            write::number(out, hop.weight)?;
        }
    }
    Ok(())
}

fn write_hop<W: Write + ?Sized>(
    out: &mut W,
    hop: &HopView,
    family: Family,
    verb: Verb,
    state: bool,
) -> fmt::Result {
    if let Some(gateway) = hop.gateway {
        out.write_str(if Family::of(gateway) == family { " via " } else { " via inet6 " })?;
        write::address(out, gateway)?;
    }
    match hop.link {
        // A link without a name can't be named; that isn't worth a broken line
        // in a delete, which then means any link.
        Some(LinkText::Number(_)) if verb == Verb::Delete => {}
        Some(LinkText::Name(name)) => write_device(out, name)?,
        Some(link) => {
            out.write_str(" dev ")?;
            link_text(out, link)?;
        }
        None => {}
    }
    let kept = if state { HopFlags::ALL } else { HopFlags::ONLINK };
    write_flags(out, u32::from(hop.flags.0 & kept.0))
}

fn write_device<W: Write + ?Sized>(out: &mut W, name: LinkName) -> fmt::Result {
    out.write_str(" dev ")?;
    write::link(out, name)
}

fn write_flags<W: Write + ?Sized>(out: &mut W, bits: u32) -> fmt::Result {
    for (bit, name) in FLAGS {
        if bits & bit & !FLAGS_OF_STATE != 0 {
            out.write_str(" ")?;
            out.write_str(name)?;
        }
    }
    Ok(())
}

fn write_attributes<W: Write + ?Sized>(out: &mut W, route: &RouteView<'_>) -> fmt::Result {
    let Some(attrs) = &route.attrs else {
        return Ok(());
    };
    write_flags(out, attrs.flags)?;
    if let Some(src) = attrs.prefsrc {
        out.write_str(" src ")?;
        write::address(out, src)?;
    }
    if attrs.pref.0 != 0 {
        write!(out, " pref {}", attrs.pref.name().unwrap_or("medium"))?;
    }
    if let Some((from, to)) = realms(attrs) {
        write!(out, " realms {from}/{to}")?;
    }
    if let Some(on) = opaque_u8(attrs, RTA_TTL_PROPAGATE) {
        out.write_str(if on != 0 { " ttl-propagate enabled" } else { " ttl-propagate disabled" })?;
    }
    for metric in Metrics::new(attrs) {
        let Some(name) = METRICS.get(usize::from(metric.number)) else {
            continue;
        };
        write!(out, " {name}")?;
        // `ip` locks rto_min by itself, and takes no such word there.
        if metric.locked && metric.number != crate::names::RTAX_RTO_MIN {
            out.write_str(" lock")?;
        }
        match metric.value {
            MetricValue::Features(bits) => {
                if bits & FEATURE_ECN != 0 {
                    out.write_str(" ecn")?;
                }
                if bits & FEATURE_TCP_USEC_TS != 0 {
                    out.write_str(" tcp_usec_ts")?;
                }
                if bits & !(FEATURE_ECN | FEATURE_TCP_USEC_TS) != 0 {
                    write!(out, " {bits:#x}")?;
                }
            }
            MetricValue::Milliseconds(value) => write!(out, " {value}ms")?,
            MetricValue::Number(value) => write!(out, " {value}")?,
            MetricValue::Name(name) => write!(out, " {}", printable(name))?,
        }
    }
    Ok(())
}

fn write_neighbour_change<W: Write + ?Sized>(
    out: &mut W,
    verb: Verb,
    spec: &NeighbourSpec,
) -> fmt::Result {
    out.write_str("neigh ")?;
    out.write_str(verb.name())?;
    out.write_str(" ")?;
    write::address(out, spec.ip)?;
    if let Some(mac) = spec.mac {
        out.write_str(" lladdr ")?;
        write::mac(out, mac)?;
    }
    match spec.link {
        Some(crate::change::LinkRef::Name(name)) => write_device(out, name)?,
        Some(crate::change::LinkRef::Ifindex(index)) if verb != Verb::Delete => {
            write!(out, " dev if{index}")?;
        }
        _ => {}
    }
    if let Some(state) = spec.state {
        match nud_name(state) {
            Some(name) => write!(out, " nud {name}")?,
            // Several at once have no word.
            None => {
                for (bit, name) in crate::neighbour::NudState::NAMES {
                    if state.0 & bit.0 != 0 {
                        write!(out, " {name}")?;
                    }
                }
            }
        }
    }
    for (bit, name) in NEIGHBOUR_FLAGS {
        if spec.flags & bit & !(NTF_PROXY | NTF_OFFLOADED) != 0 {
            write!(out, " {name}")?;
        }
    }
    if spec.protocol != 0 {
        write!(out, " protocol {}", spec.protocol)?;
    }
    Ok(())
}

/// Writes a neighbour of the tables as the line that makes it.
pub fn write_neighbour_line<W: Write + ?Sized>(
    out: &mut W,
    key: &crate::neighbour::NeighbourKey,
    value: &crate::neighbour::NeighbourValue,
    resolve: &dyn Resolve,
) -> fmt::Result {
    let link = key.link.and_then(|id| resolve.link(id));
    write_neighbour_change(
        out,
        Verb::Replace,
        &NeighbourSpec {
            ip: key.ip,
            link: link.map(|link| crate::change::LinkRef::Name(link.name)),
            mac: value.mac,
            state: Some(value.state),
            flags: value.flags,
            protocol: value.protocol,
        },
    )
}
