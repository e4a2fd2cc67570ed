//! Routes and neighbours as `ip -json` has them, and what rtm adds.

use std::fmt::{self, Write};

use super::attributes::{MetricValue, Metrics, opaque_u8, printable, realms};
use super::json::JsonWriter;
use super::neighbour::FLAGS as NEIGHBOUR_FLAGS;
use super::print::{Extra, Heading, Printer, link_text};
use super::route::{FEATURE_ECN, FEATURE_TCP_USEC_TS, FLAGS, RTA_TTL_PROPAGATE};
use super::selector::Resolve;
use super::view::{HopView, HopsView, LinkText, NeighbourView, RouteView};
use super::write;
use crate::group::Group;
use crate::link::Link;
use crate::names::{METRICS, PROTOCOL_BOOT, SCOPE_GLOBAL};
use crate::neighbour::{NeighbourKey, NeighbourValue, NudState};
use crate::prefix::Family;
use crate::route::{RouteAttrs, RouteKey, RouteType, RouteValue, TABLE_MAIN};

impl Printer<'_> {
    /// One route as an object.
    pub fn route_json<W: Write + ?Sized>(
        &self,
        json: &mut JsonWriter<'_, W>,
        key: &RouteKey,
        value: &RouteValue,
        resolve: &dyn Resolve,
        heading: &Heading,
        extra: &Extra<'_>,
    ) -> fmt::Result {
        let route = RouteView::of_route(key, value, resolve);
        json.begin_object()?;
        heading_json(json, heading)?;
        if route.kind != RouteType::Unicast || self.details {
            json.name("type")?;
            json.plain(|out| match self.numeric {
                true => write::number(out, route.kind as u8),
                false => out.write_str(route.kind.name()),
            })?;
        }
        json.name("dst")?;
        json.plain(|out| write::destination(out, route.prefix))?;
        if route.nhid != 0 {
            json.field_number("nhid", route.nhid)?;
        }
        if route.tos != 0 && !self.hide.tos {
            json.name("tos")?;
            let name = self.names.dsfield_name(route.tos).filter(|_| !self.numeric);
            named(json, name, |out| self.tos(out, route.tos))?;
        }
        if let Some(hop) = route.hops.at(0).filter(|_| route.hops.len() == 1) {
            gateway(json, &hop, route.family(), self.hide.gateway)?;
            if !self.hide.link {
                device(json, hop.link)?;
            }
        }
        if !self.hide.table && route.table != 0 && (route.table != TABLE_MAIN || self.details) {
            json.name("table")?;
            let name = self.names.table_name(route.table).filter(|_| !self.numeric);
            named(json, name, |out| write::number(out, route.table))?;
        }
        if !self.hide.protocol && (route.protocol != PROTOCOL_BOOT || self.details) {
            json.name("protocol")?;
            let name = self.names.protocol_name(route.protocol).filter(|_| !self.numeric);
            named(json, name, |out| write::number(out, route.protocol))?;
        }
        if !self.hide.scope && (route.scope != SCOPE_GLOBAL || self.details) {
            json.name("scope")?;
            let name = self.names.scope_name(route.scope).filter(|_| !self.numeric);
            named(json, name, |out| write::number(out, route.scope))?;
        }
        let attrs = route.attrs.as_ref();
        if let Some(src) = attrs.and_then(|attrs| attrs.prefsrc).filter(|_| !self.hide.src) {
            json.field_address("prefsrc", src)?;
        }
        if route.has_metric() && !self.hide.metric {
            json.field_number("metric", route.metric)?;
        }
        flags(json, route.line_flags())?;
        if let Some(attrs) = attrs {
            self.attributes_json(json, attrs)?;
        }
        let pref = attrs.map_or_else(Default::default, |attrs| attrs.pref);
        if route.family() == Family::V6 || pref.0 != 0 {
            json.name("pref")?;
            match pref.name() {
                Some(name) => json.string(name)?,
                None => json.number(pref.0)?,
            }
        }
        if let Some(on) = attrs.and_then(|attrs| opaque_u8(attrs, RTA_TTL_PROPAGATE)) {
            // iproute2's spelling.
            json.name("ttl-propogate")?;
            json.bool(on != 0)?;
        }
        if route.hops.len() > 1 {
            hops_json(json, &route.hops, Some(route.family()))?;
        }
        extra_json(json, &route, extra)?;
        json.end_object()
    }

    /// One neighbour as an object.
    pub fn neighbour_json<W: Write + ?Sized>(
        &self,
        json: &mut JsonWriter<'_, W>,
        key: &NeighbourKey,
        value: &NeighbourValue,
        resolve: &dyn Resolve,
        heading: &Heading,
    ) -> fmt::Result {
        let neighbour = NeighbourView::of_neighbour(key, value, resolve);
        json.begin_object()?;
        heading_json(json, heading)?;
        json.field_address("dst", neighbour.ip)?;
        if !self.hide.link {
            device(json, neighbour.link)?;
        }
        if let Some(mac) = neighbour.mac {
            json.name("lladdr")?;
            json.plain(|out| write::mac(out, mac))?;
        }
        if self.brief {
            return json.end_object();
        }
        for (bit, name) in NEIGHBOUR_FLAGS {
            if neighbour.flags & bit != 0 {
                json.name(name)?;
                json.null()?;
            }
        }
        if neighbour.state != NudState::NONE {
            json.name("state")?;
            json.begin_array()?;
            for (state, name) in NudState::NAMES {
                if neighbour.state.0 & state.0 != 0 {
                    json.string(name)?;
                }
            }
            json.end_array()?;
        }
        if neighbour.protocol != 0 {
            json.name("protocol")?;
            let name = self.names.protocol_name(neighbour.protocol).filter(|_| !self.numeric);
            named(json, name, |out| write::number(out, neighbour.protocol))?;
        }
        json.end_object()
    }

    /// A link as an object, for `monitor`: with the names of `ip -j link`.
    pub fn link_json<W: Write + ?Sized>(
        &self,
        json: &mut JsonWriter<'_, W>,
        link: &Link,
        heading: &Heading,
    ) -> fmt::Result {
        json.begin_object()?;
        heading_json(json, heading)?;
        json.field_number("ifindex", link.ifindex)?;
        json.field("ifname", link.name.as_str())?;
        json.end_object()
    }

    /// A named group as an object, for `monitor`.
    pub fn group_json<W: Write + ?Sized>(
        &self,
        json: &mut JsonWriter<'_, W>,
        group: &Group,
        resolve: &dyn Resolve,
        heading: &Heading,
    ) -> fmt::Result {
        json.begin_object()?;
        heading_json(json, heading)?;
        json.field_number("id", group.nhid)?;
        let hops = HopsView::Group(std::borrow::Cow::Borrowed(group), resolve);
        match hops.at(0) {
            Some(hop) if hops.len() == 1 => {
                gateway(json, &hop, hop.gateway.map_or(Family::V4, Family::of), false)?;
                device(json, hop.link)?;
                flags(json, u32::from(hop.flags.0))?;
            }
            _ => hops_json(json, &hops, None)?,
        }
        json.end_object()
    }

    fn attributes_json<W: Write + ?Sized>(
        &self,
        json: &mut JsonWriter<'_, W>,
        attrs: &RouteAttrs,
    ) -> fmt::Result {
        if let Some((from, to)) = realms(attrs) {
            json.name("flow")?;
            json.begin_object()?;
            for (name, realm) in [("from", from), ("to", to)] {
                if name == "to" || realm != 0 {
                    json.name(name)?;
                    let name = self.names.realm_name(realm).filter(|_| !self.numeric);
                    named(json, name, |out| write::number(out, realm))?;
                }
            }
            json.end_object()?;
        }
        let metrics = Metrics::new(attrs);
        if metrics.is_empty() {
            return Ok(());
        }
        json.name("metrics")?;
        json.begin_array()?;
        json.begin_object()?;
        for metric in metrics {
            let name = METRICS.get(usize::from(metric.number)).copied();
            match metric.value {
                MetricValue::Features(bits) => {
                    for (bit, name) in [(FEATURE_ECN, "ecn"), (FEATURE_TCP_USEC_TS, "tcp_usec_ts")]
                    {
                        if bits & bit != 0 {
                            json.name(name)?;
                            json.null()?;
                        }
                    }
                    if bits & !(FEATURE_ECN | FEATURE_TCP_USEC_TS) != 0 {
                        json.name("features")?;
                        json.plain(|out| write!(out, "{bits:#x}"))?;
                    }
                }
                MetricValue::Milliseconds(value) | MetricValue::Number(value) => match name {
                    Some(name) => json.field_number(name, value)?,
                    None => json.field_number(&format!("metric{}", metric.number), value)?,
                },
                MetricValue::Name(name) => json.field("congestion", &printable(name))?,
            }
        }
        json.end_object()?;
        json.end_array()
    }
}

/// A name, which may come from a file and is escaped; else what `number`
/// writes.
fn named<W: Write + ?Sized>(
    json: &mut JsonWriter<'_, W>,
    name: Option<&str>,
    number: impl FnOnce(&mut W) -> fmt::Result,
) -> fmt::Result {
    match name {
        Some(name) => json.string(name),
        None => json.plain(number),
    }
}

fn heading_json<W: Write + ?Sized>(json: &mut JsonWriter<'_, W>, heading: &Heading) -> fmt::Result {
    if let Some((_, time)) = heading.time {
        json.name("timestamp")?;
        json.plain(|out| time.write_short(out))?;
    }
    if heading.deleted {
        json.name("deleted")?;
        json.bool(true)?;
    }
    Ok(())
}

fn gateway<W: Write + ?Sized>(
    json: &mut JsonWriter<'_, W>,
    hop: &HopView,
    route: Family,
    hide: bool,
) -> fmt::Result {
    let Some(gateway) = hop.gateway else {
        return Ok(());
    };
    let family = Family::of(gateway);
    if family == route {
        return if hide { Ok(()) } else { json.field_address("gateway", gateway) };
    }
    json.name("via")?;
    json.begin_object()?;
    json.field("family", if family == Family::V4 { "inet" } else { "inet6" })?;
    json.field_address("host", gateway)?;
    json.end_object()
}

fn device<W: Write + ?Sized>(json: &mut JsonWriter<'_, W>, link: Option<LinkText>) -> fmt::Result {
    match link {
        None => Ok(()),
        Some(LinkText::Name(name)) => json.field("dev", name.as_str()),
        Some(link) => {
            json.name("dev")?;
            json.plain(|out| link_text(out, link))
        }
    }
}

fn flags<W: Write + ?Sized>(json: &mut JsonWriter<'_, W>, bits: u32) -> fmt::Result {
    json.name("flags")?;
    json.begin_array()?;
    for (bit, name) in FLAGS {
        if bits & bit != 0 {
            json.string(name)?;
        }
    }
    json.end_array()
}

fn hops_json<W: Write + ?Sized>(
    json: &mut JsonWriter<'_, W>,
    hops: &HopsView<'_>,
    family: Option<Family>,
) -> fmt::Result {
    json.name("nexthops")?;
    json.begin_array()?;
    for hop in (0..hops.len()).filter_map(|index| hops.at(index)) {
        json.begin_object()?;
        let family = family.or(hop.gateway.map(Family::of)).unwrap_or(Family::V4);
        gateway(json, &hop, family, false)?;
        device(json, hop.link)?;
        json.field_number("weight", hop.weight)?;
        flags(json, u32::from(hop.flags.0))?;
        json.end_object()?;
    }
    json.end_array()
}

/// rtm's own members, behind those of `ip`.
fn extra_json<W: Write + ?Sized>(
    json: &mut JsonWriter<'_, W>,
    route: &RouteView<'_>,
    extra: &Extra<'_>,
) -> fmt::Result {
    if extra.details {
        if let Some(distance) = route.distance {
            json.field_number("distance", distance)?;
        }
        json.field_number("ordinal", route.ordinal)?;
    }
    if let Some(source) = extra.source {
        json.field("source", source)?;
    }
    if let Some(revision) = extra.revision {
        json.field_number("revision", revision)?;
    }
    if let Some(why) = extra.why {
        json.field("why", why)?;
    }
    Ok(())
}
