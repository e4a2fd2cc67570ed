//! What the printers print: a route or a neighbour with its links by name,
//! whether it comes from the tables or from a change.

use std::borrow::Cow;
use std::net::IpAddr;

use super::route::PRINTED_PROTOCOL;
use super::selector::Resolve;
use crate::change::{HopSpec, Hops, LinkRef, NeighbourSpec, RouteSpec};
use crate::group::{Group, HopFlags, NextHop};
use crate::link::{LinkId, LinkName};
use crate::names::SCOPE_GLOBAL;
use crate::neighbour::{Mac, NeighbourKey, NeighbourValue, NudState};
use crate::prefix::{Family, Prefix};
use crate::route::{RouteAttrs, RouteKey, RouteType, RouteValue, default_metric};

/// A link as it is printed.
#[derive(Clone, Copy)]
pub(super) enum LinkText {
    Name(LinkName),
    /// Nobody knows its name: `if7`, as `ip` prints such.
    Number(u32),
}

impl LinkText {
    fn of_ref(link: LinkRef) -> LinkText {
        match link {
            LinkRef::Name(name) => LinkText::Name(name),
            LinkRef::Ifindex(index) => LinkText::Number(index),
        }
    }

    fn of_id(id: LinkId, resolve: &dyn Resolve) -> LinkText {
        match resolve.link(id) {
            Some(link) => LinkText::Name(link.name),
            None => LinkText::Number(id.0),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct HopView {
    pub(super) gateway: Option<IpAddr>,
    pub(super) link: Option<LinkText>,
    pub(super) weight: u16,
    pub(super) flags: HopFlags,
}

/// Next hops, where they are.
pub(super) enum HopsView<'a> {
    None,
    Spec(&'a [HopSpec]),
    Group(Cow<'a, Group>, &'a dyn Resolve),
}

impl HopsView<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            HopsView::None => 0,
            HopsView::Spec(hops) => hops.len(),
            HopsView::Group(group, _) => group.hops.len(),
        }
    }

    pub(super) fn at(&self, index: usize) -> Option<HopView> {
        match self {
            HopsView::None => None,
            HopsView::Spec(hops) => {
                let &HopSpec { gateway, link, weight, flags } = hops.get(index)?;
                Some(HopView { gateway, link: link.map(LinkText::of_ref), weight, flags })
            }
            HopsView::Group(group, resolve) => {
                let &NextHop { gateway, link, weight, flags } = group.hops.get(index)?;
                let link = link.map(|id| LinkText::of_id(id, *resolve));
                Some(HopView { gateway, link, weight, flags })
            }
        }
    }
}

pub(super) struct RouteView<'a> {
    pub(super) table: u32,
    pub(super) prefix: Prefix,
    pub(super) tos: u8,
    pub(super) metric: u32,
    pub(super) ordinal: u16,
    pub(super) kind: RouteType,
    pub(super) protocol: u8,
    pub(super) scope: u8,
    pub(super) distance: Option<u8>,
    pub(super) nhid: u32,
    pub(super) hops: HopsView<'a>,
    /// `None`: no attribute.
    pub(super) attrs: Option<RouteAttrs>,
}

impl<'a> RouteView<'a> {
    #[inline]
    pub(super) fn of_route(
        key: &RouteKey,
        value: &RouteValue,
        resolve: &'a dyn Resolve,
    ) -> RouteView<'a> {
        let group = if value.group.0 == 0 { None } else { resolve.group(value.group) };
        RouteView {
            table: key.table,
            prefix: key.prefix,
            tos: key.tos,
            metric: key.metric,
            ordinal: key.ordinal,
            kind: value.kind,
            protocol: value.protocol,
            scope: value.scope,
            distance: Some(value.distance),
            nhid: group.as_ref().map_or(0, |group| group.nhid),
            hops: group.map_or(HopsView::None, |group| HopsView::Group(group, resolve)),
            attrs: (!value.attrs.is_none()).then(|| value.attrs.decode()),
        }
    }

    /// What isn't said has the value that the tables would give it.
    pub(super) fn of_spec(spec: &'a RouteSpec) -> RouteView<'a> {
        RouteView {
            table: spec.table,
            prefix: spec.prefix,
            tos: spec.tos,
            metric: spec.metric.unwrap_or(default_metric(spec.prefix.family())),
            ordinal: spec.ordinal.unwrap_or(0),
            kind: spec.kind.unwrap_or(RouteType::Unicast),
            protocol: spec.protocol.unwrap_or(PRINTED_PROTOCOL),
            scope: spec.scope.unwrap_or(SCOPE_GLOBAL),
            distance: spec.distance,
            nhid: match spec.hops {
                Hops::Named(id) => id,
                _ => 0,
            },
            hops: HopsView::Spec(spec.hops.as_slice()),
            attrs: (!spec.attrs.is_none()).then(|| spec.attrs.decode()),
        }
    }

    pub(super) fn family(&self) -> Family {
        self.prefix.family()
    }

    /// Does `ip` print the metric? The kernel sends none for an IPv4 route
    /// with metric 0.
    pub(super) fn has_metric(&self) -> bool {
        self.metric != 0 || self.family() == Family::V6
    }

    /// All flags of the line itself: those of a single next hop are the
    /// route's in rtnetlink.
    pub(super) fn line_flags(&self) -> u32 {
        let own = self.attrs.as_ref().map_or(0, |attrs| attrs.flags);
        match self.hops.at(0) {
            Some(hop) if self.hops.len() == 1 => own | u32::from(hop.flags.0),
            _ => own,
        }
    }
}

pub(super) struct NeighbourView {
    pub(super) ip: IpAddr,
    pub(super) link: Option<LinkText>,
    pub(super) mac: Option<Mac>,
    pub(super) state: NudState,
    pub(super) flags: u8,
    pub(super) protocol: u8,
}

impl NeighbourView {
    pub(super) fn of_neighbour(
        key: &NeighbourKey,
        value: &NeighbourValue,
        resolve: &dyn Resolve,
    ) -> NeighbourView {
        NeighbourView {
            ip: key.ip,
            link: key.link.map(|id| LinkText::of_id(id, resolve)),
            mac: value.mac,
            state: value.state,
            flags: value.flags,
            protocol: value.protocol,
        }
    }

    pub(super) fn of_spec(spec: &NeighbourSpec) -> NeighbourView {
        NeighbourView {
            ip: spec.ip,
            link: spec.link.map(LinkText::of_ref),
            mac: spec.mac,
            state: spec.state.unwrap_or_default(),
            flags: spec.flags,
            protocol: spec.protocol,
        }
    }
}
