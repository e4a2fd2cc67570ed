//! A route's words: iproute2's `ROUTE`, and `distance`.
//!
//! The order of the words is free, so the family is only known at the end:
//! from `-4`/`-6`, the destination, and for `default` from the gateway or
//! `src`, else IPv4 (as `ip` has it). Gateways are checked then.
//!
//! Two dialects differ in what a word that is *not* there means. In a command
//! it means a default: the scope by type and next hop, the source's protocol.
//! In a line that `ip route show` (or our printer) wrote, it means the value
//! that such a line leaves out: scope global, protocol boot. And a line may
//! carry words that are no part of the route: `expires 99sec`.

use std::net::IpAddr;

use super::Context;
use super::error::TextError;
use super::hops::{HopsDraft, device, duplicate, gateway};
use super::value::{self, Destination};
use super::words::{Cursor, Word};
use crate::change::{HopSpec, Hops, LinkRef, RouteSpec, Verb};
use crate::group::HopFlags;
use crate::names::{
    PROTOCOL_BOOT, RTAX_CC_ALGO, RTAX_FEATURES, RTAX_HOPLIMIT, RTAX_LOCK, RTAX_RTO_MIN, RTAX_RTT,
    RTAX_RTTVAR, SCOPE_GLOBAL, TABLE_LOCAL,
};
use crate::prefix::{Family, Prefix};
use crate::route::{METRIC_V6, RouteAttrs, RouteType, RouterPreference, TABLE_MAIN};

/// The protocol that a printed line leaves out.
pub(super) const PRINTED_PROTOCOL: u8 = PROTOCOL_BOOT;
/// `RTA_FLOW`: realms, kept as an opaque attribute.
pub(super) const RTA_FLOW: u16 = 11;
/// `RTA_TTL_PROPAGATE`: kept as an opaque attribute.
pub(super) const RTA_TTL_PROPAGATE: u16 = 26;
/// `RTAX_FEATURE_ECN`.
pub(super) const FEATURE_ECN: u32 = 1;
/// `RTAX_FEATURE_TCP_USEC_TS`.
pub(super) const FEATURE_TCP_USEC_TS: u32 = 16;

/// Flags of [`FLAGS`] that only tell what a kernel did with the route, or what
/// a link is like now: no part of it, so they are not read.
pub(super) const FLAGS_OF_STATE: u32 = 8 | 64 | 0x100 | 32 | 0x4000 | 0x8000 | 0x2000_0000;

/// The flags that a route's line shows, in the order in which `ip` prints
/// them. The numbers are those of `RTNH_F_` and `RTM_F_`.
pub(super) const FLAGS: [(u32, &str); 11] = [
    (1, "dead"),
    (4, "onlink"),
    (2, "pervasive"),
    (8, "offload"),
    (64, "trap"),
    (0x100, "notify"),
    (16, "linkdown"),
    (32, "unresolved"),
    (0x4000, "rt_offload"),
    (0x8000, "rt_trap"),
    (0x2000_0000, "rt_offload_failed"),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Key {
    Via,
    Dev,
    Src,
    Nexthop,
    Metric,
    Tos,
    Table,
    Proto,
    Rtax(u16),
    Pref,
    Distance,
    Scope,
    Nhid,
    Realms,
    TtlPropagate,
    To,
    Flag(u32),
    /// Not something that a route here can hold.
    Refused(&'static str),
    /// Not part of the route; a printed line may have it, with a value.
    Passing,
}

/// Words that may be abbreviated: first those of our own grammar in its order,
/// then the others of iproute2 in theirs.
const WORDS: [(&str, Key); 45] = [
    ("via", Key::Via),
    ("dev", Key::Dev),
    ("onlink", Key::Flag(4)),
    ("src", Key::Src),
    ("nexthop", Key::Nexthop),
    ("metric", Key::Metric),
    ("tos", Key::Tos),
    ("table", Key::Table),
    ("proto", Key::Proto),
    ("mtu", Key::Rtax(2)),
    ("pref", Key::Pref),
    ("distance", Key::Distance),
    ("scope", Key::Scope),
    ("nhid", Key::Nhid),
    ("protocol", Key::Proto),
    ("priority", Key::Metric),
    ("preference", Key::Metric),
    ("dsfield", Key::Tos),
    ("oif", Key::Dev),
    ("to", Key::To),
    ("hoplimit", Key::Rtax(RTAX_HOPLIMIT)),
    ("advmss", Key::Rtax(8)),
    ("reordering", Key::Rtax(9)),
    ("rtt", Key::Rtax(RTAX_RTT)),
    ("rto_min", Key::Rtax(RTAX_RTO_MIN)),
    ("window", Key::Rtax(3)),
    ("cwnd", Key::Rtax(7)),
    ("initcwnd", Key::Rtax(11)),
    ("initrwnd", Key::Rtax(14)),
    ("features", Key::Rtax(RTAX_FEATURES)),
    ("quickack", Key::Rtax(15)),
    ("congctl", Key::Rtax(RTAX_CC_ALGO)),
    ("rttvar", Key::Rtax(RTAX_RTTVAR)),
    ("ssthresh", Key::Rtax(6)),
    ("realms", Key::Realms),
    ("fastopen_no_cookie", Key::Rtax(17)),
    ("ttl-propagate", Key::TtlPropagate),
    // `ip` misspells it when it prints; and says realm for one.
    ("ttl-propogate", Key::TtlPropagate),
    ("realm", Key::Realms),
    ("weight", Key::Refused("a weight belongs to one next hop of several")),
    ("from", Key::Refused("source-specific routes are not held")),
    ("encap", Key::Refused("encapsulation can't be written here")),
    ("as", Key::Refused("rewriting the destination can't be written here")),
    ("vrf", Key::Refused("VRFs are not known here")),
    ("expires", Key::Refused("routes here have no lifetime")),
];

/// Words with a value in a printed line that say nothing about the route.
const PASSING: [&str; 14] = [
    "expires", "error", "users", "used", "age", "ipid", "ts", "tsage", "uid", "mark", // ip's
    "source", "revision", "ordinal", "why", // ours
];

/// The words of a route, for completion, in the order of the grammar.
pub fn route_words() -> impl Iterator<Item = &'static str> {
    WORDS.iter().filter(|(_, key)| !matches!(key, Key::Refused(_))).map(|&(word, _)| word)
}

#[inline]
fn whole(text: &str, cx: &Context<'_>) -> Option<Key> {
    if cx.listing && PASSING.contains(&text) {
        return Some(Key::Passing);
    }
    if let Some(&(_, key)) = WORDS.iter().find(|(word, _)| *word == text) {
        return Some(key);
    }
    FLAGS.iter().find(|(_, word)| *word == text).map(|&(bits, _)| Key::Flag(bits))
}

fn abbreviated(text: &str) -> Option<Key> {
    let starts = |entry: &&(&str, Key)| !text.is_empty() && entry.0.starts_with(text);
    WORDS.iter().find(starts).map(|&(_, key)| key)
}

#[derive(Default)]
struct Draft<'a> {
    target: Option<(Destination, Word<'a>)>,
    kind: Option<RouteType>,
    next: HopsDraft<'a>,
    src: Option<(IpAddr, Word<'a>)>,
    metric: Option<u32>,
    tos: u8,
    table: Option<u32>,
    protocol: Option<u8>,
    scope: Option<u8>,
    distance: Option<u8>,
    attrs: RouteAttrs,
    locks: u32,
    pref: bool,
    /// Which words were there, by their place in [`seen_bit`].
    seen: u64,
}

/// One bit for each word that may stand once.
fn seen_bit(key: Key) -> u64 {
    match key {
        Key::Via => 1,
        Key::Dev => 1 << 1,
        Key::Src => 1 << 2,
        Key::Metric => 1 << 3,
        Key::Tos => 1 << 4,
        Key::Table => 1 << 5,
        Key::Proto => 1 << 6,
        Key::Pref => 1 << 7,
        Key::Distance => 1 << 8,
        Key::Scope => 1 << 9,
        Key::Nhid => 1 << 10,
        Key::Realms => 1 << 11,
        Key::TtlPropagate => 1 << 12,
        Key::Rtax(number) => 1 << (16 + number),
        Key::Nexthop | Key::To | Key::Flag(_) | Key::Refused(_) | Key::Passing => 0,
    }
}

/// `PREFIX via GATEWAY dev LINK`, all of one family, words in full: as programs
/// write routes, and most routes are. `None`: anything else, right or wrong;
/// [`route`] gives the same for these words, and takes three times as long.
#[inline]
pub(super) fn plain_route(verb: Verb, words: &[Word<'_>], cx: &Context<'_>) -> Option<RouteSpec> {
    let [prefix, via, gateway, dev, link] = words else {
        return None;
    };
    if via.text != "via" || dev.text != "dev" || cx.listing || cx.family.is_some() {
        return None;
    }
    let prefix: Prefix = prefix.text.parse().ok()?;
    let gateway = crate::prefix::parse_address(gateway.text)?;
    let link = link.text.parse().ok()?;
    if Family::of(gateway) != prefix.family() {
        return None;
    }
    let delete = verb == Verb::Delete;
    let mut spec = RouteSpec::new(prefix);
    spec.kind = (!delete).then_some(RouteType::Unicast);
    spec.scope = (!delete).then_some(SCOPE_GLOBAL);
    spec.hops = Hops::One(HopSpec {
        gateway: Some(gateway),
        link: Some(LinkRef::Name(link)),
        weight: 1,
        flags: HopFlags::default(),
    });
    Some(spec)
}

/// The route of the words behind `route add` and the like, or of a printed
/// line ([`Context::listing`]); they must end with it.
pub(super) fn route<'a>(
    verb: Verb,
    cursor: &mut Cursor<'_, 'a>,
    cx: &Context<'_>,
) -> Result<RouteSpec, TextError> {
    let mut draft = Draft::default();
    while let Some(word) = cursor.next() {
        if word.text.as_bytes().first().is_some_and(u8::is_ascii_digit) {
            draft.target(word, cursor)?;
            continue;
        }
        let key = match whole(word.text, cx) {
            Some(key) => key,
            None if value::looks_like_destination(word.text) => {
                draft.target(word, cursor)?;
                continue;
            }
            // `ip -o` writes a backslash where a line would end.
            None if cx.listing && word.text == "\\" => continue,
            None => {
                if draft.kind.is_none() && draft.target.is_none() {
                    if let Some(kind) = value::route_type(word.text) {
                        draft.kind = Some(kind);
                        continue;
                    }
                }
                match abbreviated(word.text) {
                    Some(key) => key,
                    None => {
                        draft.type_or_error(word)?;
                        continue;
                    }
                }
            }
        };
        draft.keyword(key, word, cursor, cx)?;
    }
    draft.finish(verb, cursor, cx)
}

impl<'a> Draft<'a> {
    fn target(&mut self, word: Word<'a>, cursor: &Cursor<'_, 'a>) -> Result<(), TextError> {
        if self.target.is_some() {
            return Err(duplicate("destination", word));
        }
        // A line of `ip -N` has the type as a number.
        if self.kind.is_none() && word.text.len() <= 2 {
            if let Some(next) = cursor.peek() {
                let kind = word.text.parse().ok().and_then(RouteType::from_number);
                if kind.is_some() && value::looks_like_destination(next.text) {
                    self.kind = kind;
                    return Ok(());
                }
            }
        }
        self.target = Some((value::destination("destination", word)?, word));
        Ok(())
    }

    #[cold]
    fn type_or_error(&mut self, word: Word<'a>) -> Result<(), TextError> {
        if self.kind.is_none() && self.target.is_none() {
            if let Some(kind) = value::abbreviated_type(word.text) {
                self.kind = Some(kind);
                return Ok(());
            }
            return Err(TextError::new(
                "destination",
                word,
                "neither a prefix nor a word of a route",
                "like 10.0.0.0/8, 2001:db8::/32 or default",
            ));
        }
        Err(TextError::new(
            "keyword",
            word,
            "not a word of a route",
            "one of via, dev, onlink, src, nexthop, metric, tos, table, proto, mtu, pref, distance, scope, nhid",
        ))
    }

    fn keyword(
        &mut self,
        key: Key,
        word: Word<'a>,
        cursor: &mut Cursor<'_, 'a>,
        cx: &Context<'_>,
    ) -> Result<(), TextError> {
        let bit = seen_bit(key);
        if self.seen & bit != 0 {
            return Err(if key == Key::Via {
                TextError::new(
                    "via",
                    word,
                    "a second gateway",
                    "nexthop via GW dev LINK for each would be right",
                )
            } else {
                duplicate("keyword", word)
            });
        }
        self.seen |= bit;
        match key {
            Key::Via => self.next.hop.gateway = Some(gateway(cursor)?),
            Key::Dev => self.next.hop.link = Some(device(cursor)?),
            Key::Src => {
                let word = cursor.value("src", "src ADDRESS would be right")?;
                self.src = Some((value::address("src", word)?, word));
            }
            Key::Nexthop => self.next.next_hop(cursor, cx)?,
            Key::Metric => {
                let word = cursor.value("metric", "metric N would be right")?;
                self.metric = Some(value::number("metric", word, u32::MAX)?);
            }
            Key::Tos => {
                let word = cursor.value("tos", "tos N would be right")?;
                self.tos = value::tos(word, cx.names)?;
            }
            Key::Table => {
                let word = cursor.value("table", "table ID would be right")?;
                // As the kernel (`fib_new_table`): no table is main.
                let table = value::table(word, cx.names)?;
                self.table = Some(if table == 0 { TABLE_MAIN } else { table });
            }
            Key::Proto => {
                let word = cursor.value("proto", "proto NAME would be right")?;
                self.protocol = Some(value::protocol(word, cx.names)?);
            }
            Key::Pref => {
                let word = cursor.value("pref", "pref low|medium|high would be right")?;
                self.attrs.pref = preference(word)?;
                self.pref = true;
            }
            Key::Distance => {
                let word = cursor.value("distance", "distance N would be right")?;
                self.distance = Some(value::number("distance", word, 255)? as u8);
            }
            Key::Scope => {
                let word = cursor.value("scope", "scope global|link|host would be right")?;
                self.scope = Some(value::scope(word, cx.names)?);
            }
            Key::Nhid => {
                let word = cursor.value("nhid", "nhid ID would be right")?;
                let id = value::number("nhid", word, u32::MAX)?;
                if id == 0 {
                    return Err(TextError::new(
                        "nhid",
                        word,
                        "0 is no next-hop object",
                        "1 to 4294967295 are valid",
                    ));
                }
                self.next.nhid = Some((id, word));
            }
            Key::Realms => {
                let word = cursor.value("realms", "realms [FROM/]TO would be right")?;
                self.opaque(RTA_FLOW, realms(word, cx)?.to_le_bytes().to_vec());
            }
            Key::TtlPropagate => {
                let word = cursor
                    .value("ttl-propagate", "ttl-propagate enabled|disabled would be right")?;
                let on = match word.text {
                    "enabled" => 1,
                    "disabled" => 0,
                    _ => {
                        return Err(TextError::new(
                            "ttl-propagate",
                            word,
                            "neither of the two words",
                            "enabled or disabled",
                        ));
                    }
                };
                self.opaque(RTA_TTL_PROPAGATE, vec![on]);
            }
            Key::Rtax(number) => self.metric_of_tcp(number, word, cursor)?,
            Key::To => {
                let word = cursor.value("to", "to PREFIX would be right")?;
                self.target(word, cursor)?;
            }
            Key::Flag(bits) if bits & FLAGS_OF_STATE != 0 => {
                if !cx.listing {
                    return Err(TextError::new(
                        "keyword",
                        word,
                        "it tells what a kernel did with a route",
                        "a route without it",
                    ));
                }
            }
            Key::Flag(bits) => {
                self.next.hop.flags |= bits;
                if bits == u32::from(HopFlags::ONLINK.0) {
                    self.next.hop.onlink = Some(word);
                }
            }
            Key::Refused(why) => {
                return Err(TextError::new("keyword", word, why, "a route without it"));
            }
            Key::Passing => {
                cursor.value("keyword", "a value behind it")?;
            }
        }
        Ok(())
    }

    fn opaque(&mut self, number: u16, bytes: Vec<u8>) {
        self.attrs.opaque.push((number, bytes));
    }

    /// One of `RTA_METRICS`.
    fn metric_of_tcp(
        &mut self,
        number: u16,
        keyword: Word<'a>,
        cursor: &mut Cursor<'_, 'a>,
    ) -> Result<(), TextError> {
        let what = crate::names::METRICS[usize::from(number)];
        if number == RTAX_RTO_MIN {
            self.locks |= 1 << number;
        }
        if cursor.eat("lock") {
            self.locks |= 1 << number;
        }
        let word = cursor.value(what, "a value behind it would be right")?;
        let value = match number {
            RTAX_CC_ALGO => {
                if word.text.is_empty() || word.text.len() > 15 {
                    return Err(TextError::new(
                        what,
                        word,
                        "not the name of a congestion control",
                        "1 to 15 bytes like cubic",
                    ));
                }
                self.attrs.congestion = word.text.as_bytes().to_vec();
                return Ok(());
            }
            RTAX_FEATURES => {
                cursor.back();
                features(keyword, cursor)?
            }
            RTAX_RTT | RTAX_RTTVAR | RTAX_RTO_MIN => {
                let bad = || TextError::new(what, word, "not a time", "like 20ms or 1.5s");
                let (time, raw) = value::milliseconds(word.text).ok_or_else(bad)?;
                let scale = match number {
                    RTAX_RTT if !raw => 8,
                    RTAX_RTTVAR if !raw => 4,
                    _ => 1,
                };
                time.checked_mul(scale).ok_or_else(bad)?
            }
            RTAX_HOPLIMIT => value::number(what, word, 255)?,
            15 | 17 => value::number(what, word, 1)?,
            _ => value::number(what, word, u32::MAX)?,
        };
        self.attrs.metrics.push((number, value));
        Ok(())
    }

    /// The family of the route: see the top of this file.
    fn family(&self, cx: &Context<'_>) -> Result<Family, TextError> {
        let Some((target, word)) = self.target else {
            unreachable!("the caller has a destination");
        };
        if let Destination::Prefix(prefix) = target {
            return match cx.family {
                Some(family) if family != prefix.family() => {
                    Err(value::wrong_family("destination", word, family))
                }
                _ => Ok(prefix.family()),
            };
        }
        if let Some(family) = cx.family {
            return Ok(family);
        }
        if cx.listing && self.pref {
            return Ok(Family::V6);
        }
        let mut hops = std::iter::once(&self.next.hop).chain(&self.next.hops);
        if let Some((said, gateway, _)) = hops.find_map(|hop| hop.gateway) {
            // `ip` prints the family of a gateway only where it isn't the route's.
            return Ok(match said {
                Some(Family::V6) if cx.listing => Family::V4,
                _ => Family::of(gateway),
            });
        }
        Ok(self.src.map_or(Family::V4, |(src, _)| Family::of(src)))
    }

    fn finish(
        &mut self,
        verb: Verb,
        cursor: &Cursor<'_, 'a>,
        cx: &Context<'_>,
    ) -> Result<RouteSpec, TextError> {
        let Some((target, word)) = self.target else {
            return Err(cursor.missing("destination", "a prefix like 10.0.0.0/8 would be right"));
        };
        let family = self.family(cx)?;
        let prefix = match target {
            Destination::Prefix(prefix) => prefix,
            Destination::Default => Prefix::default_of(family),
        };
        let delete = verb == Verb::Delete;
        let kind = match self.kind {
            None if !delete => Some(RouteType::Unicast),
            kind => kind,
        };
        if let Some((src, word)) = self.src {
            if Family::of(src) != family {
                return Err(value::wrong_family("src", word, family));
            }
            self.attrs.prefsrc = Some(src);
        }
        let several = !self.next.hops.is_empty();
        let hops = self.next.finish(&mut self.attrs, kind, family, delete, cx)?;
        if matches!(hops, Hops::None) && !delete && kind.is_some_and(RouteType::wants_next_hop) {
            return Err(TextError::new(
                "destination",
                word,
                "the route has no next hop",
                "via GW, dev LINK or both behind it would be right",
            ));
        }
        if self.locks != 0 {
            self.attrs.metrics.push((RTAX_LOCK, self.locks));
        }
        let attrs = self.attrs.encode().map_err(|error| {
            TextError::new("route", word, error.to_string(), "fewer attributes would be right")
        })?;
        let local = matches!(
            kind,
            Some(RouteType::Local | RouteType::Broadcast | RouteType::Nat | RouteType::Anycast)
        );
        let mut spec = RouteSpec {
            table: self.table.unwrap_or(if local && !cx.listing {
                TABLE_LOCAL
            } else {
                TABLE_MAIN
            }),
            prefix,
            tos: self.tos,
            metric: match self.metric {
                // The kernel's 0: in a delete any, else the family's default.
                Some(0) if delete => None,
                Some(0) if family == Family::V6 && !cx.listing => Some(METRIC_V6),
                metric => metric,
            },
            ordinal: None,
            kind,
            protocol: self.protocol,
            scope: self.scope,
            distance: self.distance,
            hops,
            attrs,
        };
        if cx.listing {
            spec.protocol.get_or_insert(PROTOCOL_BOOT);
            spec.scope.get_or_insert(SCOPE_GLOBAL);
        } else if !delete && spec.scope.is_none() {
            // As iproute2: `nexthop` makes it global, with or without a gateway.
            spec.scope = Some(if several && kind == Some(RouteType::Unicast) {
                SCOPE_GLOBAL
            } else {
                spec.default_scope()
            });
        }
        Ok(spec)
    }
}

fn preference(word: Word<'_>) -> Result<RouterPreference, TextError> {
    match word.text {
        "low" => Ok(RouterPreference::LOW),
        "medium" => Ok(RouterPreference::MEDIUM),
        "high" => Ok(RouterPreference::HIGH),
        _ => Err(TextError::new("pref", word, "not a preference", "low, medium or high")),
    }
}

/// `[FROM/]TO`, each a realm's name or number.
fn realms(word: Word<'_>, cx: &Context<'_>) -> Result<u32, TextError> {
    let (from, to) = match word.text.split_once('/') {
        Some((from, to)) => (Some(from), to),
        None => (None, word.text),
    };
    let half = |text: &str| value::realm(text, cx.names);
    let from = from.map_or(Some(0), half);
    let to = if to.is_empty() { Some(0) } else { half(to) };
    match (from, to) {
        (Some(from), Some(to)) => Ok(u32::from(from) << 16 | u32::from(to)),
        _ => Err(TextError::new("realms", word, "not realms", "like 5 or 1/5")),
    }
}

/// `ecn`, `tcp_usec_ts`, a hexadecimal number of any bits; several of these.
fn features(keyword: Word<'_>, cursor: &mut Cursor<'_, '_>) -> Result<u32, TextError> {
    let mut bits = 0;
    while let Some(word) = cursor.peek() {
        bits |= match word.text {
            "ecn" => FEATURE_ECN,
            "tcp_usec_ts" => FEATURE_TCP_USEC_TS,
            text if text.starts_with("0x") => value::number("features", word, u32::MAX)?,
            _ => break,
        };
        cursor.next();
    }
    if bits == 0 {
        let word = cursor.peek().unwrap_or(keyword);
        return Err(TextError::new("features", word, "not a feature", "ecn would be right"));
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::super::words::Words;
    use super::*;

    #[test]
    fn the_short_way_leads_to_the_same_route() {
        let mut taken = 0;
        for prefix in
            ["10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "::/0", "2001:db8::/32", "default", "x"]
        {
            for via in ["via", "vi", "dev"] {
                for gateway in ["10.1.1.1", "2001:db8::1", "inet6", "10.1.1.256"] {
                    for link in ["eth0", "via", "abcdefghijklmnop"] {
                        let line = format!("{prefix} {via} {gateway} dev {link}");
                        let words = Words::of_line(&line).unwrap();
                        for verb in [Verb::Add, Verb::Append, Verb::Delete] {
                            let cx = Context::default();
                            let long = route(verb, &mut Cursor::new(&words), &cx);
                            if let Some(short) = plain_route(verb, words.as_slice(), &cx) {
                                assert_eq!(long, Ok(short), "{line}");
                                taken += 1;
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(taken, 5 * 2 * 3, "each destination has one gateway of its family");
    }
}
