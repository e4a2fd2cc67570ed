//! NEWROUTE and DELROUTE.
//!
//! ```text
//! rtmsg
//!  0 | family| dst   | src   | tos   | table | proto | scope | type   |
//!  8 | flags u32                     | attributes …
//! rtnexthop, in RTA_MULTIPATH
//!  0 | length u16    | flags | hops-1| ifindex i32                    |
//!  8 | attributes …
//! ```
//!
//! What a dump shows for a moment only (expiry, cache info, offload marks,
//! counters) is no part of a route here. What we have no name for is kept as
//! bytes: [`RouteAttrs::opaque`]. Attributes of one of several next hops
//! (encapsulation, realms) are kept under `RTA_MULTIPATH`: a row of `rtnexthop`
//! with the next hop's place instead of its link, only of those that have any.

use std::net::IpAddr;

use rtm_model::{
    Attrs, AttrsError, Family, HOPS_MAX, HopFlags, HopSpec, Hops, LinkRef, Prefix, RouteAttrs,
    RouteSpec, RouteType, RouterPreference, TABLE_MAIN, names,
};

use crate::attribute::{Attribute, address, attributes};
use crate::builder::Builder;
use crate::message::{Malformed, Message, kind, u16_at, u32_at};
use crate::number::{
    RT_TABLE_COMPAT, RTA_CACHEINFO, RTA_DST, RTA_EXPIRES, RTA_GATEWAY, RTA_IIF, RTA_METRICS,
    RTA_MFC_STATS, RTA_MULTIPATH, RTA_NH_ID, RTA_OIF, RTA_PAD, RTA_PREF, RTA_PREFSRC, RTA_PRIORITY,
    RTA_SRC, RTA_TABLE, RTA_VIA, RTM_F_CLONED, RTM_F_EQUALIZE, RTM_F_PREFIX,
};

/// Bytes of `rtmsg` and of `rtnexthop`.
const FIXED: usize = 12;
const HOP: usize = 8;
/// Attributes of no meaning for long: `RTA_PROTOINFO`, `RTA_SESSION`,
/// `RTA_MP_ALGO`, `RTA_MARK` and `RTA_UID` (both only in answers to a look-up).
const MOMENTARY: [u16; 5] = [10, 13, 14, 16, 25];
/// The highest attribute that this kernel's header names (`RTA_FLOWLABEL`).
const NAMED_LAST: u16 = 31;
/// `RT_SCOPE_NOWHERE`: in a delete, any.
const SCOPE_ANY: u8 = 255;

/// A route's message.
#[derive(Clone, Debug)]
pub struct RouteMessage<'a> {
    /// DELROUTE?
    pub gone: bool,
    /// `NLM_F_…` of the message.
    pub flags: u16,
    /// `AF_…`.
    pub family: u8,
    /// The table.
    pub table: u32,
    /// Who made it.
    pub protocol: u8,
    /// Its scope.
    pub scope: u8,
    /// `RTN_…`; 0: not said.
    pub kind: u8,
    /// `RTM_F_…` and, of a single next hop, `RTNH_F_…`.
    pub route_flags: u32,
    /// The type of service.
    pub tos: u8,
    /// Its metric, if one is named.
    pub metric: Option<u32>,
    /// The next-hop object it uses; 0: none.
    pub nhid: u32,
    dst_len: u8,
    src_len: u8,
    dst: &'a [u8],
    gateway: Option<IpAddr>,
    ifindex: u32,
    prefsrc: Option<IpAddr>,
    pref: u8,
    metrics: &'a [u8],
    multipath: &'a [u8],
    /// All attributes, for those that are kept as they are.
    all: &'a [u8],
    opaque: bool,
    unknown: u32,
}

/// Why a message isn't one of a route as the table has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteSkip {
    /// Another family's (MPLS, multicast).
    Family,
    /// A cached copy of another.
    Cloned,
    /// It holds only for some sources: its key is more than ours.
    SourcePrefix,
    /// A type that rtnetlink.h doesn't name.
    Type,
    /// A prefix that is none, more next hops or longer attributes than the
    /// tables can take.
    Limits,
}

/// Why a route can't be written as a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unencodable {
    /// It names a link by name, or one that isn't on this host.
    Link,
    /// Its next hops take more than an attribute's 64 KiB.
    TooLong,
}

/// Attributes of next hops as [`RouteAttrs::opaque`] has them: those of the only
/// one, or of several, each with its place among them, under `RTA_MULTIPATH`.
/// None: there are none.
#[must_use]
pub fn attributes_of_hops(hops: &[&[(u16, Vec<u8>)]]) -> Vec<(u16, Vec<u8>)> {
    if let [only] = hops {
        return only.to_vec();
    }
    let mut kept = Vec::new();
    for (place, attributes) in hops.iter().enumerate() {
        let begin = kept.len();
        for (number, value) in *attributes {
            keep(&mut kept, begin, place, *number, value);
        }
    }
    if kept.is_empty() { Vec::new() } else { vec![(RTA_MULTIPATH, kept)] }
}

/// Adds an attribute of the next hop at `place` to its `rtnexthop`, which begins
/// at `begin`.
fn keep(kept: &mut Vec<u8>, begin: usize, place: usize, number: u16, value: &[u8]) {
    if kept.len() == begin {
        kept.extend_from_slice(&[0; HOP]);
        kept[begin + 4..].copy_from_slice(&(place as u32).to_ne_bytes());
    }
    kept.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
    kept.extend_from_slice(&number.to_ne_bytes());
    kept.extend_from_slice(value);
    kept.resize(kept.len().next_multiple_of(4), 0);
    let len = (kept.len() - begin) as u16;
    kept[begin..begin + 2].copy_from_slice(&len.to_ne_bytes());
}

impl<'a> RouteMessage<'a> {
    #[inline]
    pub(crate) fn decode(message: Message<'a>, gone: bool) -> Result<RouteMessage<'a>, Malformed> {
        let Some((fixed, all)) = message.body.split_first_chunk::<FIXED>() else {
            return Err(Malformed { at: 0, why: "a route's message is cut off" });
        };
        let mut route = RouteMessage {
            gone,
            flags: message.flags,
            family: fixed[0],
            table: u32::from(fixed[4]),
            protocol: fixed[5],
            scope: fixed[6],
            kind: fixed[7],
            route_flags: u32_at(fixed, 8),
            tos: fixed[3],
            metric: None,
            nhid: 0,
            dst_len: fixed[1],
            src_len: fixed[2],
            dst: b"",
            gateway: None,
            ifindex: 0,
            prefsrc: None,
            pref: 0,
            metrics: b"",
            multipath: b"",
            all,
            opaque: false,
            unknown: 0,
        };
        for attribute in attributes(all) {
            let attribute = attribute?;
            let Attribute { number, value } = attribute;
            match number {
                RTA_DST => route.dst = value,
                RTA_TABLE => route.table = attribute.u32().unwrap_or(route.table),
                RTA_PRIORITY => route.metric = attribute.u32(),
                RTA_GATEWAY => route.gateway = attribute.address(),
                RTA_OIF => route.ifindex = attribute.u32().unwrap_or_default(),
                RTA_PREFSRC => route.prefsrc = attribute.address(),
                RTA_METRICS => route.metrics = value,
                RTA_MULTIPATH => route.multipath = value,
                RTA_VIA => route.gateway = via(value),
                RTA_PREF => route.pref = attribute.u8().unwrap_or_default(),
                RTA_NH_ID => route.nhid = attribute.u32().unwrap_or_default(),
                number if is_passing(number) => {}
                number => {
                    route.opaque = true;
                    route.unknown += u32::from(number > NAMED_LAST);
                }
            }
        }
        Ok(route)
    }

    /// How many attributes no header names that we know.
    pub fn unknown(&self) -> u32 {
        self.unknown
    }

    /// A cached copy of another?
    pub fn is_cloned(&self) -> bool {
        self.route_flags & RTM_F_CLONED != 0
    }

    /// Its destination.
    #[inline]
    pub fn prefix(&self) -> Result<Prefix, RouteSkip> {
        let family = Family::from_af(self.family).ok_or(RouteSkip::Family)?;
        // FPM's daemons may send only as many bytes as the mask needs.
        let mut octets = [0; 16];
        let bytes = usize::from(family.bits() / 8).min(self.dst.len());
        octets[..bytes].copy_from_slice(&self.dst[..bytes]);
        let address = match family {
            Family::V4 => IpAddr::from([octets[0], octets[1], octets[2], octets[3]]),
            Family::V6 => IpAddr::from(octets),
        };
        Prefix::masked(address, self.dst_len).map_err(|_| RouteSkip::Limits)
    }

    /// The route in the table's terms: type and next hops as far as they are
    /// said (in a delete they need not be), metric 0 of IPv6 as its default.
    #[inline]
    pub fn spec(&self) -> Result<RouteSpec, RouteSkip> {
        let prefix = self.prefix()?;
        if self.is_cloned() {
            return Err(RouteSkip::Cloned);
        }
        if self.src_len != 0 {
            return Err(RouteSkip::SourcePrefix);
        }
        let kind = match self.kind {
            0 => None,
            number => Some(RouteType::from_number(number).ok_or(RouteSkip::Type)?),
        };
        let (hops, of_hops) = self.hops(kind)?;
        let attrs = self.attrs(prefix.family(), kind, of_hops).map_err(|_| RouteSkip::Limits)?;
        Ok(RouteSpec {
            table: if self.table == 0 { TABLE_MAIN } else { self.table },
            prefix,
            tos: self.tos,
            metric: self.metric,
            ordinal: None,
            kind,
            protocol: Some(self.protocol),
            scope: Some(self.scope),
            distance: None,
            hops,
            attrs,
        })
    }

    /// Its next hops, and what of them can only be kept as it is.
    fn hops(&self, kind: Option<RouteType>) -> Result<(Hops, Vec<u8>), RouteSkip> {
        if self.nhid != 0 {
            // A blackhole by a next-hop object has no next hop to name.
            let named = kind.is_none_or(RouteType::wants_next_hop);
            let hops = if named { Hops::Named(self.nhid) } else { Hops::None };
            return Ok((hops, Vec::new()));
        }
        if self.multipath.is_empty() {
            if self.gateway.is_none() && self.ifindex == 0 {
                return Ok((Hops::None, Vec::new()));
            }
            let flags = HopFlags(self.route_flags as u8 & HopFlags::ALL.0);
            return Ok((Hops::One(hop(self.gateway, self.ifindex, 1, flags)), Vec::new()));
        }
        let (mut hops, mut kept) = (Vec::new(), Vec::new());
        let mut rest = self.multipath;
        while rest.len() >= HOP {
            let len = usize::from(u16_at(rest, 0));
            if len < HOP || len > rest.len() || hops.len() == HOPS_MAX {
                return Err(RouteSkip::Limits);
            }
            let mut gateway = None;
            let (place, begin) = (hops.len(), kept.len());
            for attribute in attributes(&rest[HOP..len]) {
                let Ok(attribute) = attribute else { return Err(RouteSkip::Limits) };
                match attribute.number {
                    RTA_GATEWAY => gateway = attribute.address(),
                    RTA_VIA => gateway = via(attribute.value),
                    RTA_PAD => {}
                    number => keep(&mut kept, begin, place, number, attribute.value),
                }
            }
            let flags = HopFlags(rest[2] & HopFlags::ALL.0);
            hops.push(hop(gateway, u32_at(rest, 4), u16::from(rest[3]) + 1, flags));
            rest = &rest[len.next_multiple_of(4).min(rest.len())..];
        }
        let hops = match hops[..] {
            [only] => Hops::One(only),
            _ => Hops::Many(hops),
        };
        Ok((hops, kept))
    }

    fn attrs(
        &self,
        family: Family,
        kind: Option<RouteType>,
        of_hops: Vec<u8>,
    ) -> Result<Attrs, AttrsError> {
        let kept = self.route_flags & (RTM_F_EQUALIZE | RTM_F_PREFIX);
        let held = self.nhid != 0 && !kind.is_none_or(RouteType::wants_next_hop);
        if kept == 0
            && self.prefsrc.is_none()
            && self.pref == 0
            && self.metrics.is_empty()
            && !self.opaque
            && of_hops.is_empty()
            && !held
        {
            return Ok(Attrs::NONE);
        }
        let mut attrs = RouteAttrs {
            flags: kept,
            prefsrc: self.prefsrc,
            pref: RouterPreference(if family == Family::V6 { self.pref } else { 0 }),
            ..RouteAttrs::default()
        };
        for metric in attributes(self.metrics).flatten() {
            match (metric.number, metric.u32()) {
                (names::RTAX_CC_ALGO, _) => attrs.congestion = metric.text().to_vec(),
                (number, Some(value)) => attrs.metrics.push((number, value)),
                _ => {}
            }
        }
        if self.opaque {
            for Attribute { number, value } in attributes(self.all).flatten() {
                if !is_known(number) && !is_passing(number) {
                    attrs.opaque.push((number, value.to_vec()));
                }
            }
        }
        if held {
            attrs.opaque.push((RTA_NH_ID, self.nhid.to_ne_bytes().to_vec()));
        }
        if !of_hops.is_empty() {
            attrs.opaque.push((RTA_MULTIPATH, of_hops));
        }
        attrs.encode()
    }

    /// Writes a NEWROUTE.
    ///
    /// # Errors
    /// What a message can't say; nothing was written then.
    pub fn encode(
        out: &mut Builder,
        flags: u16,
        sequence: u32,
        spec: &RouteSpec,
    ) -> Result<(), Unencodable> {
        write(out, kind::NEWROUTE, flags, sequence, spec)
    }

    /// Writes a DELROUTE: of the first route that is like `spec` in all that it
    /// says.
    ///
    /// # Errors
    /// As [`RouteMessage::encode`].
    pub fn encode_delete(
        out: &mut Builder,
        flags: u16,
        sequence: u32,
        spec: &RouteSpec,
    ) -> Result<(), Unencodable> {
        write(out, kind::DELROUTE, flags, sequence, spec)
    }
}

fn hop(gateway: Option<IpAddr>, ifindex: u32, weight: u16, flags: HopFlags) -> HopSpec {
    let link = (ifindex != 0).then_some(LinkRef::Ifindex(ifindex));
    HopSpec { gateway, link, weight, flags }
}

/// A gateway of another family: `rtvia` is its family and the address.
fn via(value: &[u8]) -> Option<IpAddr> {
    value.get(2..).and_then(address)
}

#[inline]
fn is_known(number: u16) -> bool {
    matches!(
        number,
        RTA_DST
            | RTA_TABLE
            | RTA_PRIORITY
            | RTA_GATEWAY
            | RTA_OIF
            | RTA_PREFSRC
            | RTA_METRICS
            | RTA_MULTIPATH
            | RTA_VIA
            | RTA_PREF
            | RTA_NH_ID
    )
}

fn is_passing(number: u16) -> bool {
    matches!(number, RTA_SRC | RTA_IIF | RTA_CACHEINFO | RTA_MFC_STATS | RTA_EXPIRES | RTA_PAD)
        || MOMENTARY.contains(&number)
}

fn write(
    out: &mut Builder,
    message: u16,
    flags: u16,
    sequence: u32,
    spec: &RouteSpec,
) -> Result<(), Unencodable> {
    let begin = out.bytes().len();
    let written = write_body(out, message, flags, sequence, spec);
    if written.is_err() {
        out.truncate(begin);
    }
    written
}

fn write_body(
    out: &mut Builder,
    message: u16,
    flags: u16,
    sequence: u32,
    spec: &RouteSpec,
) -> Result<(), Unencodable> {
    let attrs = spec.attrs.decode();
    let gone = message == kind::DELROUTE;
    let scope = match spec.scope {
        None if gone => SCOPE_ANY,
        None => spec.default_scope(),
        Some(scope) => scope,
    };
    let protocol = match spec.protocol {
        None if gone => 0,
        None => names::PROTOCOL_STATIC,
        Some(protocol) => protocol,
    };
    let kind = match spec.kind {
        None if gone => 0,
        kind => kind.unwrap_or(RouteType::Unicast) as u8,
    };
    let own = match &spec.hops {
        Hops::One(hop) => u32::from(hop.flags.0 & HopFlags::ONLINK.0),
        _ => 0,
    };
    let table = u8::try_from(spec.table).unwrap_or(RT_TABLE_COMPAT);
    let family = spec.prefix.family();
    let mut fixed =
        [family.af(), spec.prefix.len(), 0, spec.tos, table, protocol, scope, kind, 0, 0, 0, 0];
    fixed[8..].copy_from_slice(&(attrs.flags | own).to_ne_bytes());
    out.begin(message, flags, sequence, &fixed);
    if !spec.prefix.is_default() {
        out.address(RTA_DST, spec.prefix.address());
    }
    if u8::try_from(spec.table).is_err() {
        out.u32(RTA_TABLE, spec.table);
    }
    if let Some(metric) = spec.metric.filter(|metric| *metric != 0 || !gone) {
        out.u32(RTA_PRIORITY, metric);
    }
    if let Some(prefsrc) = attrs.prefsrc {
        out.address(RTA_PREFSRC, prefsrc);
    }
    if attrs.pref != RouterPreference::MEDIUM {
        out.attribute(RTA_PREF, &[attrs.pref.0]);
    }
    if !attrs.metrics.is_empty() || !attrs.congestion.is_empty() {
        let nest = out.nest(RTA_METRICS);
        for (number, value) in &attrs.metrics {
            out.u32(*number, *value);
        }
        if !attrs.congestion.is_empty() {
            let mut name = attrs.congestion.clone();
            name.push(0);
            out.attribute(names::RTAX_CC_ALGO, &name);
        }
        out.end_nest(nest);
    }
    let mut of_hops: &[u8] = &[];
    for (number, bytes) in &attrs.opaque {
        if *number == RTA_MULTIPATH {
            of_hops = bytes;
        } else {
            out.attribute(*number, bytes);
        }
    }
    match &spec.hops {
        Hops::None => {}
        Hops::Named(nhid) => out.u32(RTA_NH_ID, *nhid),
        Hops::One(hop) => {
            if let Some(index) = index_of(hop)? {
                out.u32(RTA_OIF, index);
            }
            write_gateway(out, family, hop);
        }
        Hops::Many(hops) => {
            let nest = out.plain_nest(RTA_MULTIPATH);
            for (place, hop) in hops.iter().enumerate() {
                let mut fixed = [0; HOP];
                fixed[2] = hop.flags.0 & HopFlags::ONLINK.0;
                fixed[3] = u8::try_from(hop.weight.max(1) - 1).unwrap_or(u8::MAX);
                fixed[4..].copy_from_slice(&index_of(hop)?.unwrap_or_default().to_ne_bytes());
                let one = out.open_raw(&fixed);
                write_gateway(out, family, hop);
                for Attribute { number, value } in attributes(kept_of(of_hops, place)).flatten() {
                    out.attribute(number, value);
                }
                if !out.end_nest(one) {
                    return Err(Unencodable::TooLong);
                }
            }
            if !out.end_nest(nest) {
                return Err(Unencodable::TooLong);
            }
        }
    }
    out.end();
    Ok(())
}

fn index_of(hop: &HopSpec) -> Result<Option<u32>, Unencodable> {
    match hop.link {
        None => Ok(None),
        Some(LinkRef::Ifindex(index)) if index != 0 => Ok(Some(index)),
        Some(_) => Err(Unencodable::Link),
    }
}

fn write_gateway(out: &mut Builder, family: Family, hop: &HopSpec) {
    match (hop.gateway, family) {
        (None, _) => {}
        (Some(IpAddr::V6(gateway)), Family::V4) => {
            let mut bytes = [0; 18];
            bytes[..2].copy_from_slice(&u16::from(Family::V6.af()).to_ne_bytes());
            bytes[2..].copy_from_slice(&gateway.octets());
            out.attribute(RTA_VIA, &bytes);
        }
        (Some(gateway), _) => out.address(RTA_GATEWAY, gateway),
    }
}

/// What is kept of the attributes of the next hop at this place.
fn kept_of(mut row: &[u8], place: usize) -> &[u8] {
    while row.len() >= HOP {
        let len = usize::from(u16_at(row, 0));
        if len < HOP || len > row.len() {
            break;
        }
        if u32_at(row, 4) as usize == place {
            return &row[HOP..len];
        }
        row = &row[len.next_multiple_of(4).min(row.len())..];
    }
    &[]
}
