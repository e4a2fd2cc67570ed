//! The printer: lines of `ip route show`, `ip neigh show` and `ip monitor`.
//!
//! The order of the words, what is left out and where a blank ends a line are
//! iproute2's (`print_route`, `print_neigh`): a line goes through a script
//! written for `ip`, and back into `ip route add`. So a field that the
//! selector fixed is left out ([`Hide`]), and `table main`, `proto boot`,
//! `scope global` and `metric 0` of IPv4 are not printed.
//!
//! What `ip` shows with `-d` about a next-hop object (`nh_info …`) is not
//! known here and left out.

use std::fmt::{self, Write};

use super::attributes::{MetricValue, Metrics, opaque_u8, printable, realms};
use super::neighbour::FLAGS as NEIGHBOUR_FLAGS;
use super::options::{Options, Timestamps};
use super::route::{FEATURE_ECN, FEATURE_TCP_USEC_TS, FLAGS, RTA_TTL_PROPAGATE};
use super::select_neighbour::NeighbourSelector;
use super::select_route::RouteSelector;
use super::selector::Resolve;
use super::time::Timestamp;
use super::view::{HopView, LinkText, NeighbourView, RouteView};
use super::write;
use crate::change::{NeighbourSpec, RouteSpec};
use crate::group::Group;
use crate::link::Link;
use crate::names::{METRICS, Names, PROTOCOL_BOOT, SCOPE_GLOBAL};
use crate::neighbour::{NeighbourKey, NeighbourValue, NudState};
use crate::prefix::Family;
use crate::route::{RouteAttrs, RouteKey, RouteType, RouteValue, TABLE_MAIN};

/// The colours of `ip`, for a light or a dark background.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Palette {
    /// For a light one: what `ip` takes unless `COLORFGBG` says otherwise.
    Light,
    /// For a dark one.
    Dark,
}

impl Palette {
    /// The palette of the environment variable `COLORFGBG`, whose last part is
    /// the background's number: 0 to 6 and 8 are dark.
    pub fn of_colorfgbg(value: Option<&str>) -> Palette {
        match value.and_then(|value| value.rsplit_once(';')).map(|(_, last)| last) {
            Some("0" | "1" | "2" | "3" | "4" | "5" | "6" | "8") => Palette::Dark,
            _ => Palette::Light,
        }
    }

    fn code(self, color: Color) -> &'static str {
        match (self, color) {
            (Palette::Light, Color::Link) => "\x1b[36m",
            (Palette::Light, Color::Mac) => "\x1b[33m",
            (Palette::Light, Color::V4) => "\x1b[35m",
            (Palette::Light, Color::V6) => "\x1b[34m",
            (Palette::Dark, Color::Link) => "\x1b[1;36m",
            (Palette::Dark, Color::Mac) => "\x1b[1;33m",
            (Palette::Dark, Color::V4) => "\x1b[1;35m",
            (Palette::Dark, Color::V6) => "\x1b[1;94m",
        }
    }
}

const CLEAR: &str = "\x1b[0m";

#[derive(Clone, Copy)]
enum Color {
    Link,
    Mac,
    V4,
    V6,
}

impl Color {
    fn of(family: Family) -> Color {
        match family {
            Family::V4 => Color::V4,
            Family::V6 => Color::V6,
        }
    }
}

/// Fields that the selector fixed, which `ip` therefore leaves out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Hide {
    pub table: bool,
    pub protocol: bool,
    pub scope: bool,
    pub tos: bool,
    pub metric: bool,
    pub gateway: bool,
    pub link: bool,
    pub src: bool,
}

impl Hide {
    /// What `ip route show SELECTOR` leaves out.
    pub fn of_routes(selector: &RouteSelector) -> Hide {
        Hide {
            table: selector.table.is_some(),
            protocol: selector.protocol.is_some(),
            scope: selector.scope.is_some(),
            tos: selector.tos.is_some(),
            metric: selector.metric.is_some(),
            gateway: selector.via.is_some_and(|via| via.is_host()),
            link: selector.link.is_some(),
            src: selector.src.is_some_and(|src| src.is_host()),
        }
    }

    /// What `ip neigh show SELECTOR` leaves out.
    pub fn of_neighbours(selector: &NeighbourSelector) -> Hide {
        Hide { link: selector.link.is_some(), ..Hide::default() }
    }
}

/// What rtm knows of a route beyond what `ip` prints. Every field that is
/// there is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extra<'a> {
    /// Print distance and ordinal.
    pub details: bool,
    /// The source of the candidate.
    pub source: Option<&'a str>,
    /// The revision that last changed it.
    pub revision: Option<u64>,
    /// Why it lost.
    pub why: Option<&'a str>,
}

/// What stands in front of a line of `monitor`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Heading {
    /// When, and how to print it.
    pub time: Option<(Timestamps, Timestamp)>,
    /// `[ROUTE]` and so on.
    pub label: bool,
    /// `Deleted `.
    pub deleted: bool,
}

/// Prints routes, neighbours, links and groups.
#[derive(Clone, Copy, Debug)]
pub struct Printer<'n> {
    /// The names in force.
    pub names: &'n Names,
    /// `-N`: numbers for names.
    pub numeric: bool,
    /// `-d`.
    pub details: bool,
    /// `-o`: a backslash for each line feed within an entry.
    pub oneline: bool,
    /// `-br`: neighbours in columns.
    pub brief: bool,
    /// Colours, if there are to be some.
    pub palette: Option<Palette>,
    /// What the selector fixed.
    pub hide: Hide,
}

impl Default for Printer<'_> {
    fn default() -> Self {
        Printer {
            names: Names::builtin(),
            numeric: false,
            details: false,
            oneline: false,
            brief: false,
            palette: None,
            hide: Hide::default(),
        }
    }
}

impl<'n> Printer<'n> {
    /// As the options say; colours are the caller's decision, who knows
    /// whether there is a terminal.
    pub fn new(options: &Options, names: &'n Names, palette: Option<Palette>) -> Printer<'n> {
        Printer {
            names,
            numeric: options.numeric,
            details: options.details > 0,
            oneline: options.oneline,
            brief: options.brief,
            palette,
            hide: Hide::default(),
        }
    }

    /// One route: a line, and one more for each of several next hops.
    pub fn route<W: Write + ?Sized>(
        &self,
        out: &mut W,
        key: &RouteKey,
        value: &RouteValue,
        resolve: &dyn Resolve,
        heading: &Heading,
        extra: &Extra<'_>,
    ) -> fmt::Result {
        self.route_view(out, &RouteView::of_route(key, value, resolve), heading, extra)
    }

    /// A route as a change spells it, with the tables' defaults.
    pub fn route_spec<W: Write + ?Sized>(&self, out: &mut W, spec: &RouteSpec) -> fmt::Result {
        let extra = Extra { details: spec.distance.is_some(), ..Extra::default() };
        self.route_view(out, &RouteView::of_spec(spec), &Heading::default(), &extra)
    }

    /// One neighbour: a line.
    pub fn neighbour<W: Write + ?Sized>(
        &self,
        out: &mut W,
        key: &NeighbourKey,
        value: &NeighbourValue,
        resolve: &dyn Resolve,
        heading: &Heading,
    ) -> fmt::Result {
        self.neighbour_view(out, &NeighbourView::of_neighbour(key, value, resolve), heading)
    }

    /// A neighbour as a change spells it.
    pub fn neighbour_spec<W: Write + ?Sized>(
        &self,
        out: &mut W,
        spec: &NeighbourSpec,
    ) -> fmt::Result {
        self.neighbour_view(out, &NeighbourView::of_spec(spec), &Heading::default())
    }

    /// A link, for `monitor`: `3: eth0`.
    pub fn link<W: Write + ?Sized>(
        &self,
        out: &mut W,
        link: &Link,
        heading: &Heading,
    ) -> fmt::Result {
        self.heading(out, heading, "[LINK]")?;
        write::number(out, link.ifindex)?;
        out.write_str(": ")?;
        self.colored(out, Some(Color::Link), |out| out.write_str(link.name.as_str()))?;
        out.write_str("\n")
    }

    /// A named group, for `monitor`: `id 7 via … dev …`.
    pub fn group<W: Write + ?Sized>(
        &self,
        out: &mut W,
        group: &Group,
        resolve: &dyn Resolve,
        heading: &Heading,
    ) -> fmt::Result {
        self.heading(out, heading, "[NEXTHOP]")?;
        out.write_str("id ")?;
        write::number(out, group.nhid)?;
        out.write_str(" ")?;
        let hops = super::view::HopsView::Group(std::borrow::Cow::Borrowed(group), resolve);
        match hops.at(0) {
            Some(hop) if hops.len() == 1 => {
                if let Some(gateway) = hop.gateway {
                    self.gateway(out, gateway, Family::of(gateway))?;
                }
                self.device(out, hop.link, true)?;
                flags(out, u32::from(hop.flags.0))?;
            }
            _ => {
                for hop in (0..hops.len()).filter_map(|index| hops.at(index)) {
                    self.several(out, &hop, None)?;
                }
            }
        }
        out.write_str("\n")
    }

    /// Text in front of a line: the time, the label, `Deleted `.
    pub fn heading<W: Write + ?Sized>(
        &self,
        out: &mut W,
        heading: &Heading,
        label: &str,
    ) -> fmt::Result {
        match heading.time {
            Some((Timestamps::Long, time)) => time.write_long(out)?,
            Some((Timestamps::Short, time)) => {
                out.write_str("[")?;
                time.write_short(out)?;
                out.write_str("] ")?;
            }
            Some((Timestamps::None, _)) | None => {}
        }
        if heading.label {
            out.write_str(label)?;
        }
        if heading.deleted {
            out.write_str("Deleted ")?;
        }
        Ok(())
    }

    fn colored<W: Write + ?Sized>(
        &self,
        out: &mut W,
        color: Option<Color>,
        text: impl FnOnce(&mut W) -> fmt::Result,
    ) -> fmt::Result {
        match (self.palette, color) {
            (Some(palette), Some(color)) => {
                out.write_str(palette.code(color))?;
                text(out)?;
                out.write_str(CLEAR)
            }
            _ => text(out),
        }
    }

    fn route_view<W: Write + ?Sized>(
        &self,
        out: &mut W,
        route: &RouteView<'_>,
        heading: &Heading,
        extra: &Extra<'_>,
    ) -> fmt::Result {
        self.heading(out, heading, "[ROUTE]")?;
        if route.kind != RouteType::Unicast || self.details {
            if self.numeric {
                write::number(out, route.kind as u8)?;
            } else {
                out.write_str(route.kind.name())?;
            }
            out.write_str(" ")?;
        }
        let color = (!route.prefix.is_default()).then(|| Color::of(route.family()));
        self.colored(out, color, |out| {
            write::destination(out, route.prefix)?;
            out.write_str(" ")
        })?;
        if route.nhid != 0 {
            out.write_str("nhid ")?;
            write::number(out, route.nhid)?;
            out.write_str(" ")?;
        }
        if route.tos != 0 && !self.hide.tos {
            out.write_str("tos ")?;
            self.tos(out, route.tos)?;
            out.write_str(" ")?;
        }
        if let Some(hop) = route.hops.at(0).filter(|_| route.hops.len() == 1) {
            if let Some(gateway) = hop.gateway {
                if Family::of(gateway) != route.family() || !self.hide.gateway {
                    self.gateway(out, gateway, route.family())?;
                }
            }
            if !self.hide.link {
                self.device(out, hop.link, true)?;
            }
        }
        if !self.hide.table && route.table != 0 && (route.table != TABLE_MAIN || self.details) {
            out.write_str("table ")?;
            self.table(out, route.table)?;
            out.write_str(" ")?;
        }
        if !self.hide.protocol && (route.protocol != PROTOCOL_BOOT || self.details) {
            out.write_str("proto ")?;
            self.protocol(out, route.protocol)?;
            out.write_str(" ")?;
        }
        if !self.hide.scope && (route.scope != SCOPE_GLOBAL || self.details) {
            out.write_str("scope ")?;
            self.scope(out, route.scope)?;
            out.write_str(" ")?;
        }
        if let Some(src) = route.attrs.as_ref().and_then(|attrs| attrs.prefsrc) {
            if !self.hide.src {
                out.write_str("src ")?;
                self.colored(out, Some(Color::of(route.family())), |out| {
                    write::address(out, src)?;
                    out.write_str(" ")
                })?;
            }
        }
        if route.has_metric() && !self.hide.metric {
            out.write_str("metric ")?;
            write::number(out, route.metric)?;
            out.write_str(" ")?;
        }
        flags(out, route.line_flags())?;
        if let Some(attrs) = &route.attrs {
            self.attributes(out, attrs)?;
        }
        let pref = route.attrs.as_ref().map_or_else(Default::default, |attrs| attrs.pref);
        // `ip` puts no blank behind the last two.
        let mut blank = true;
        if route.family() == Family::V6 || pref.0 != 0 {
            match pref.name() {
                Some(name) => {
                    out.write_str("pref ")?;
                    out.write_str(name)?;
                }
                None => write::number(out, pref.0)?,
            }
            blank = false;
        }
        if let Some(on) = route.attrs.as_ref().and_then(|attrs| opaque_u8(attrs, RTA_TTL_PROPAGATE))
        {
            let word = if on != 0 { "enabled" } else { "disabled" };
            write!(out, "ttl-propogate {word}")?;
            blank = false;
        }
        extras(out, route, extra, blank)?;
        if route.hops.len() > 1 {
            for hop in (0..route.hops.len()).filter_map(|index| route.hops.at(index)) {
                self.several(out, &hop, Some(route.family()))?;
            }
        }
        out.write_str("\n")
    }

    /// One of several next hops. Without a family every gateway is plain.
    fn several<W: Write + ?Sized>(
        &self,
        out: &mut W,
        hop: &HopView,
        family: Option<Family>,
    ) -> fmt::Result {
        out.write_str(if self.oneline { "\\\tnexthop " } else { "\n\tnexthop " })?;
        if let Some(gateway) = hop.gateway {
            self.gateway(out, gateway, family.unwrap_or(Family::of(gateway)))?;
        }
        self.device(out, hop.link, false)?;
        out.write_str("weight ")?;
        write::number(out, hop.weight)?;
        out.write_str(" ")?;
        flags(out, u32::from(hop.flags.0))
    }

    fn gateway<W: Write + ?Sized>(
        &self,
        out: &mut W,
        gateway: std::net::IpAddr,
        route: Family,
    ) -> fmt::Result {
        let family = Family::of(gateway);
        out.write_str(match family {
            family if family == route => "via ",
            Family::V4 => "via inet ",
            Family::V6 => "via inet6 ",
        })?;
        self.colored(out, Some(Color::of(family)), |out| {
            write::address(out, gateway)?;
            out.write_str(" ")
        })
    }

    fn device<W: Write + ?Sized>(
        &self,
        out: &mut W,
        link: Option<LinkText>,
        colored: bool,
    ) -> fmt::Result {
        let Some(link) = link else {
            return Ok(());
        };
        out.write_str("dev ")?;
        self.colored(out, colored.then_some(Color::Link), |out| {
            link_text(out, link)?;
            out.write_str(" ")
        })
    }

    pub(super) fn tos<W: Write + ?Sized>(&self, out: &mut W, tos: u8) -> fmt::Result {
        match self.names.dsfield_name(tos).filter(|_| !self.numeric) {
            Some(name) => out.write_str(name),
            None => write!(out, "0x{tos:02x}"),
        }
    }

    pub(super) fn table<W: Write + ?Sized>(&self, out: &mut W, table: u32) -> fmt::Result {
        match self.names.table_name(table).filter(|_| !self.numeric) {
            Some(name) => out.write_str(name),
            None => write::number(out, table),
        }
    }

    pub(super) fn protocol<W: Write + ?Sized>(&self, out: &mut W, protocol: u8) -> fmt::Result {
        match self.names.protocol_name(protocol).filter(|_| !self.numeric) {
            Some(name) => out.write_str(name),
            None => write::number(out, protocol),
        }
    }

    pub(super) fn scope<W: Write + ?Sized>(&self, out: &mut W, scope: u8) -> fmt::Result {
        match self.names.scope_name(scope).filter(|_| !self.numeric) {
            Some(name) => out.write_str(name),
            None => write::number(out, scope),
        }
    }

    pub(super) fn realm<W: Write + ?Sized>(&self, out: &mut W, realm: u16) -> fmt::Result {
        match self.names.realm_name(realm).filter(|_| !self.numeric) {
            Some(name) => out.write_str(name),
            None => write::number(out, realm),
        }
    }

    /// Realms and `RTA_METRICS`.
    fn attributes<W: Write + ?Sized>(&self, out: &mut W, attrs: &RouteAttrs) -> fmt::Result {
        if let Some((from, to)) = realms(attrs) {
            if from == 0 {
                out.write_str("realm ")?;
            } else {
                out.write_str("realms ")?;
                self.realm(out, from)?;
                out.write_str("/")?;
            }
            self.realm(out, to)?;
            out.write_str(" ")?;
        }
        for metric in Metrics::new(attrs) {
            match METRICS.get(usize::from(metric.number)) {
                Some(name) => write!(out, "{name} ")?,
                None => write!(out, "metric {} ", metric.number)?,
            }
            if metric.locked {
                out.write_str("lock ")?;
            }
            match metric.value {
                MetricValue::Features(bits) => {
                    if bits & FEATURE_ECN != 0 {
                        out.write_str("ecn ")?;
                    }
                    if bits & FEATURE_TCP_USEC_TS != 0 {
                        out.write_str("tcp_usec_ts ")?;
                    }
                    if bits & !(FEATURE_ECN | FEATURE_TCP_USEC_TS) != 0 {
                        write!(out, "{bits:#x} ")?;
                    }
                }
                MetricValue::Milliseconds(value) => {
                    write::milliseconds(out, value)?;
                    out.write_str(" ")?;
                }
                MetricValue::Number(value) => {
                    write::number(out, value)?;
                    out.write_str(" ")?;
                }
                MetricValue::Name(name) => {
                    out.write_str(&printable(name))?;
                    out.write_str(" ")?;
                }
            }
        }
        Ok(())
    }

    fn neighbour_view<W: Write + ?Sized>(
        &self,
        out: &mut W,
        neighbour: &NeighbourView,
        heading: &Heading,
    ) -> fmt::Result {
        self.heading(out, heading, "[NEIGH]")?;
        let color = Some(Color::of(Family::of(neighbour.ip)));
        let link = neighbour.link.filter(|_| !self.hide.link);
        if self.brief {
            self.colored(out, color, |out| write!(out, "{:<39} ", neighbour.ip))?;
            match link {
                Some(LinkText::Name(name)) => {
                    self.colored(out, Some(Color::Link), |out| write!(out, "{name:<16} "))?;
                }
                Some(LinkText::Number(number)) => {
                    let name = format!("if{number}");
                    self.colored(out, Some(Color::Link), |out| write!(out, "{name:<16} "))?;
                }
                None => {}
            }
            if let Some(mac) = neighbour.mac {
                self.colored(out, Some(Color::Mac), |out| write::mac(out, mac))?;
            }
            return out.write_str("\n");
        }
        self.colored(out, color, |out| {
            write::address(out, neighbour.ip)?;
            out.write_str(" ")
        })?;
        self.device(out, link, true)?;
        if let Some(mac) = neighbour.mac {
            out.write_str("lladdr ")?;
            self.colored(out, Some(Color::Mac), |out| {
                write::mac(out, mac)?;
                out.write_str(" ")
            })?;
        }
        for (bit, name) in NEIGHBOUR_FLAGS {
            if neighbour.flags & bit != 0 {
                out.write_str(name)?;
                out.write_str(" ")?;
            }
        }
        for (state, name) in NudState::NAMES {
            if neighbour.state.0 & state.0 != 0 {
                out.write_str(name)?;
                out.write_str(" ")?;
            }
        }
        if neighbour.protocol != 0 {
            out.write_str("proto ")?;
            self.protocol(out, neighbour.protocol)?;
            out.write_str(" ")?;
        }
        out.write_str("\n")
    }
}

pub(super) fn link_text<W: Write + ?Sized>(out: &mut W, link: LinkText) -> fmt::Result {
    match link {
        LinkText::Name(name) => out.write_str(name.as_str()),
        LinkText::Number(number) => {
            out.write_str("if")?;
            write::number(out, number)
        }
    }
}

fn flags<W: Write + ?Sized>(out: &mut W, bits: u32) -> fmt::Result {
    if bits == 0 {
        return Ok(());
    }
    for (bit, name) in FLAGS {
        if bits & bit != 0 {
            out.write_str(name)?;
            out.write_str(" ")?;
        }
    }
    Ok(())
}

/// rtm's own words, behind those of `ip`.
fn extras<W: Write + ?Sized>(
    out: &mut W,
    route: &RouteView<'_>,
    extra: &Extra<'_>,
    blank: bool,
) -> fmt::Result {
    if *extra == Extra::default() {
        return Ok(());
    }
    if !blank {
        out.write_str(" ")?;
    }
    if let Some(distance) = route.distance.filter(|_| extra.details) {
        write!(out, "distance {distance} ")?;
    }
    if extra.details && route.ordinal != 0 {
        write!(out, "ordinal {} ", route.ordinal)?;
    }
    if let Some(source) = extra.source {
        write!(out, "source {source} ")?;
    }
    if let Some(revision) = extra.revision {
        write!(out, "revision {revision} ")?;
    }
    if let Some(why) = extra.why {
        write!(out, "why '{why}' ")?;
    }
    Ok(())
}
