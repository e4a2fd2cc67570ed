//! Which routes a command means.

use std::fmt;

use super::Context;
use super::error::TextError;
use super::selector::{Blanks, PrefixRule, Resolve, source_name, unknown_option};
use super::value::{self, Destination};
use super::words::{Cursor, Word, Words};
use super::write;
use crate::group::NextHop;
use crate::link::LinkName;
use crate::names::Names;
use crate::prefix::{Family, Prefix};
use crate::route::{RouteKey, RouteType, RouteValue, TABLE_MAIN};

/// Which routes are meant. What is `None` doesn't matter.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RouteSelector {
    /// The family.
    pub family: Option<Family>,
    /// The destination.
    pub prefix: Option<PrefixRule>,
    /// The table; `None`: all.
    pub table: Option<u32>,
    /// A link that one of the next hops uses.
    pub link: Option<LinkName>,
    /// What holds the gateway of one of the next hops.
    pub via: Option<Prefix>,
    /// What holds the preferred source address.
    pub src: Option<Prefix>,
    /// `rtm_protocol`.
    pub protocol: Option<u8>,
    /// The metric.
    pub metric: Option<u32>,
    /// The type.
    pub kind: Option<RouteType>,
    /// `rtm_scope`.
    pub scope: Option<u8>,
    /// The type of service.
    pub tos: Option<u8>,
    /// The number of the next-hop object.
    pub nhid: Option<u32>,
    /// The name of the source.
    pub source: Option<Box<str>>,
}

impl Default for RouteSelector {
    /// Every route of table main.
    fn default() -> RouteSelector {
        RouteSelector {
            family: None,
            prefix: None,
            table: Some(TABLE_MAIN),
            link: None,
            via: None,
            src: None,
            protocol: None,
            metric: None,
            kind: None,
            scope: None,
            tos: None,
            nhid: None,
            source: None,
        }
    }
}

#[derive(Clone, Copy)]
enum Key {
    Exact,
    Match,
    Root,
    Dev,
    Via,
    Proto,
    Metric,
    Table,
    Source,
    Tos,
    Scope,
    Type,
    Src,
    Nhid,
    To,
    Refused(&'static str),
}

/// In the order of the grammar; then iproute2's others.
const WORDS: [(&str, Key); 26] = [
    ("exact", Key::Exact),
    ("match", Key::Match),
    ("root", Key::Root),
    ("dev", Key::Dev),
    ("via", Key::Via),
    ("proto", Key::Proto),
    ("metric", Key::Metric),
    ("table", Key::Table),
    ("source", Key::Source),
    ("tos", Key::Tos),
    ("dsfield", Key::Tos),
    ("protocol", Key::Proto),
    ("scope", Key::Scope),
    ("type", Key::Type),
    ("oif", Key::Dev),
    ("priority", Key::Metric),
    ("preference", Key::Metric),
    ("src", Key::Src),
    ("nhid", Key::Nhid),
    ("to", Key::To),
    ("cached", Key::Refused("there is no route cache here")),
    ("cloned", Key::Refused("there is no route cache here")),
    ("iif", Key::Refused("routes here have no incoming link")),
    ("mark", Key::Refused("routes here have no mark")),
    ("from", Key::Refused("source-specific routes are not held")),
    ("vrf", Key::Refused("VRFs are not known here")),
];

/// The words of a route selector, for completion, in the order of the grammar.
pub fn route_selector_words() -> impl Iterator<Item = &'static str> {
    WORDS.iter().filter(|(_, key)| !matches!(key, Key::Refused(_))).map(|&(word, _)| word)
}

impl RouteSelector {
    /// The selector of a text, as [`RouteSelector::display`] writes it.
    ///
    /// # Errors
    /// A word that is none of a selector's, or a bad value.
    pub fn parse(text: &str, cx: &Context<'_>) -> Result<RouteSelector, TextError> {
        let words = Words::of_line(text)?;
        let mut cursor = Cursor::new(&words);
        RouteSelector::read(&mut cursor, cx, &mut |_, _| Ok(false))
    }

    /// Reads words to their end. `option` is asked about each word that begins
    /// with a dash: `true` if it took it.
    pub(super) fn read<'a>(
        cursor: &mut Cursor<'_, 'a>,
        cx: &Context<'_>,
        option: &mut dyn FnMut(Word<'a>, &mut Cursor<'_, 'a>) -> Result<bool, TextError>,
    ) -> Result<RouteSelector, TextError> {
        let mut selector = RouteSelector { family: cx.family, ..RouteSelector::default() };
        let mut seen = [false; WORDS.len()];
        let mut prefix_seen = false;
        while let Some(word) = cursor.next() {
            if word.is_option() {
                match word.text {
                    "-4" => selector.set_family(Family::V4, "-4", word)?,
                    "-6" => selector.set_family(Family::V6, "-6", word)?,
                    _ if option(word, cursor)? => {}
                    _ => return Err(unknown_option(word)),
                }
                continue;
            }
            let (index, key) = find(word)?;
            if !matches!(key, Key::To) && std::mem::replace(&mut seen[index], true) {
                return Err(TextError::new("keyword", word, "given twice", "once would be right"));
            }
            match key {
                Key::Exact | Key::Match | Key::Root | Key::To => {
                    let mut key = key;
                    let mut value = if matches!(key, Key::To) && word.text != "to" {
                        word
                    } else {
                        cursor.value("destination", "a prefix behind it would be right")?
                    };
                    if matches!(key, Key::To) {
                        key = match value.text {
                            "exact" => Key::Exact,
                            "match" => Key::Match,
                            "root" => Key::Root,
                            _ => Key::To,
                        };
                        if !matches!(key, Key::To) {
                            value =
                                cursor.value("destination", "a prefix behind it would be right")?;
                        }
                    }
                    if std::mem::replace(&mut prefix_seen, true) {
                        return Err(TextError::new(
                            "destination",
                            value,
                            "a second destination",
                            "one would be right",
                        ));
                    }
                    selector.prefix = rule(key, value)?;
                    if let Some(family) = selector.prefix.and_then(|rule| rule.family()) {
                        selector.set_family(family, "destination", value)?;
                    }
                }
                Key::Dev => {
                    let value = cursor.value("dev", "dev LINK would be right")?;
                    selector.link = Some(value::link("dev", value)?);
                }
                Key::Via => {
                    let mut value = cursor.value("via", "via GATEWAY would be right")?;
                    let said = match value.text {
                        "inet" => Some(Family::V4),
                        "inet6" => Some(Family::V6),
                        _ => None,
                    };
                    if said.is_some() {
                        value = cursor.value("via", "via inet6 GATEWAY would be right")?;
                    }
                    let prefix = value::prefix("via", value)?;
                    if let Some(family) = said.filter(|&family| family != prefix.family()) {
                        return Err(value::wrong_family("via", value, family));
                    }
                    selector.via = Some(prefix);
                }
                Key::Src => {
                    let value = cursor.value("src", "src ADDRESS would be right")?;
                    let prefix = value::prefix("src", value)?;
                    selector.set_family(prefix.family(), "src", value)?;
                    selector.src = Some(prefix);
                }
                Key::Proto => {
                    let value = cursor.value("proto", "proto NAME would be right")?;
                    selector.protocol = match value.text {
                        "all" => None,
                        _ => Some(value::protocol(value, cx.names)?),
                    };
                }
                Key::Metric => {
                    let value = cursor.value("metric", "metric N would be right")?;
                    selector.metric = Some(value::number("metric", value, u32::MAX)?);
                }
                Key::Table => {
                    let value = cursor.value("table", "table ID or table all would be right")?;
                    selector.table = match value.text {
                        "all" => None,
                        // As iproute2: 0 is no table, so it doesn't restrict.
                        _ => Some(value::table(value, cx.names)?).filter(|&id| id != 0),
                    };
                }
                Key::Source => {
                    let value = cursor.value("source", "source NAME would be right")?;
                    selector.source = Some(source_name(value)?.into());
                }
                Key::Tos => {
                    let value = cursor.value("tos", "tos N would be right")?;
                    selector.tos = Some(value::tos(value, cx.names)?);
                }
                Key::Scope => {
                    let value = cursor.value("scope", "scope NAME would be right")?;
                    selector.scope = match value.text {
                        "all" => None,
                        _ => Some(value::scope(value, cx.names)?),
                    };
                }
                Key::Type => {
                    let value = cursor.value("type", "type NAME would be right")?;
                    let number = || value.text.parse().ok().and_then(RouteType::from_number);
                    let kind = value::abbreviated_type(value.text).or_else(number);
                    selector.kind = Some(kind.ok_or_else(|| {
                        TextError::new(
                            "type",
                            value,
                            "not a route type",
                            "unicast, local, broadcast, anycast, multicast, blackhole, unreachable, prohibit or throw",
                        )
                    })?);
                }
                Key::Nhid => {
                    let value = cursor.value("nhid", "nhid ID would be right")?;
                    selector.nhid = Some(value::number("nhid", value, u32::MAX)?);
                }
                Key::Refused(why) => {
                    return Err(TextError::new("keyword", word, why, "a selector without it"));
                }
            }
        }
        Ok(selector)
    }

    fn set_family(
        &mut self,
        family: Family,
        what: &'static str,
        word: Word<'_>,
    ) -> Result<(), TextError> {
        match self.family {
            Some(have) if have != family => Err(value::wrong_family(what, word, have)),
            _ => {
                self.family = Some(family);
                Ok(())
            }
        }
    }

    /// As `ip route show` and `flush`: IPv4, unless a family is said or
    /// implied, or every table is meant.
    #[must_use]
    pub fn or_family_as_ip(mut self) -> RouteSelector {
        if self.family.is_none() && self.table.is_some() {
            let via = self.via.map(Prefix::family);
            self.family = Some(via.unwrap_or(Family::V4));
        }
        self
    }

    /// Is this route meant? `source` is the candidate's; without it a selector
    /// that names a source matches nothing.
    pub fn matches(
        &self,
        key: &RouteKey,
        value: &RouteValue,
        resolve: &dyn Resolve,
        source: Option<&str>,
    ) -> bool {
        if !self.matches_key(key) || !self.matches_plain(value) {
            return false;
        }
        if let Some(name) = &self.source {
            if source != Some(name) {
                return false;
            }
        }
        if let Some(rule) = self.src {
            if !value.attrs.decode().prefsrc.is_some_and(|src| rule.contains(src)) {
                return false;
            }
        }
        if self.link.is_none() && self.via.is_none() && self.nhid.is_none() {
            return true;
        }
        let Some(group) = resolve.group(value.group) else {
            return false;
        };
        if self.nhid.is_some_and(|nhid| nhid != group.nhid) {
            return false;
        }
        if self.link.is_none() && self.via.is_none() {
            return true;
        }
        group.hops.iter().any(|hop| self.matches_hop(hop, resolve))
    }

    /// The part of [`RouteSelector::matches`] that needs only the key: to skip
    /// whole tables and subtrees.
    pub fn matches_key(&self, key: &RouteKey) -> bool {
        self.table.is_none_or(|table| table == key.table)
            && self.family.is_none_or(|family| family == key.prefix.family())
            && self.prefix.is_none_or(|rule| rule.matches(key.prefix))
            && self.metric.is_none_or(|metric| metric == key.metric)
            && self.tos.is_none_or(|tos| tos == key.tos)
    }

    fn matches_plain(&self, value: &RouteValue) -> bool {
        self.protocol.is_none_or(|protocol| protocol == value.protocol)
            && self.kind.is_none_or(|kind| kind == value.kind)
            && self.scope.is_none_or(|scope| scope == value.scope)
    }

    fn matches_hop(&self, hop: &NextHop, resolve: &dyn Resolve) -> bool {
        let via = |rule: Prefix| hop.gateway.is_some_and(|gateway| rule.contains(gateway));
        let link = |name: LinkName| {
            hop.link.and_then(|id| resolve.link(id)).is_some_and(|link| link.name == name)
        };
        self.via.is_none_or(via) && self.link.is_none_or(link)
    }

    /// As text that [`RouteSelector::parse`] takes with the same names.
    pub fn display<'a>(&'a self, names: &'a Names) -> impl fmt::Display + 'a {
        RouteSelectorText { selector: self, names }
    }
}

fn find(word: Word<'_>) -> Result<(usize, Key), TextError> {
    let to = WORDS.iter().position(|(name, _)| *name == "to").unwrap_or_default();
    if let Some(index) = WORDS.iter().position(|(name, _)| *name == word.text) {
        return Ok((index, WORDS[index].1));
    }
    if value::looks_like_destination(word.text) {
        return Ok((to, Key::To));
    }
    let starts = |entry: &(&str, Key)| !word.text.is_empty() && entry.0.starts_with(word.text);
    match WORDS.iter().position(starts) {
        Some(index) => Ok((index, WORDS[index].1)),
        None => Err(TextError::new(
            "selector",
            word,
            "neither a prefix nor a word of a selector",
            "a prefix, or one of exact, match, root, dev, via, proto, metric, table, source, type, scope, tos",
        )),
    }
}

fn rule(key: Key, word: Word<'_>) -> Result<Option<PrefixRule>, TextError> {
    if matches!(word.text, "all" | "any") {
        return Ok(None);
    }
    Ok(match (key, value::destination("destination", word)?) {
        (Key::Root, Destination::Default) => None,
        (_, Destination::Default) => Some(PrefixRule::Default),
        (Key::Root, Destination::Prefix(prefix)) => Some(PrefixRule::Root(prefix)),
        (Key::Match, Destination::Prefix(prefix)) => Some(PrefixRule::Match(prefix)),
        (_, Destination::Prefix(prefix)) => Some(PrefixRule::Exact(prefix)),
    })
}

struct RouteSelectorText<'a> {
    selector: &'a RouteSelector,
    names: &'a Names,
}

impl fmt::Display for RouteSelectorText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RouteSelectorText { selector: s, names } = *self;
        let mut words = Blanks { f, first: true };
        match s.family.filter(|_| s.prefix.and_then(|p| p.family()).is_none() && s.src.is_none()) {
            Some(Family::V4) => words.put(format_args!("-4"))?,
            Some(Family::V6) => words.put(format_args!("-6"))?,
            None => {}
        }
        match s.prefix {
            Some(PrefixRule::Exact(p)) => words.put(format_args!("{p}"))?,
            Some(PrefixRule::Match(p)) => words.put(format_args!("match {p}"))?,
            Some(PrefixRule::Root(p)) => words.put(format_args!("root {p}"))?,
            Some(PrefixRule::Default) => words.put(format_args!("default"))?,
            None => {}
        }
        if let Some(link) = s.link {
            words.put(format_args!("dev "))?;
            write::link(words.f, link)?;
        }
        if let Some(via) = s.via {
            let family = match via.family() {
                Family::V4 => "inet",
                Family::V6 => "inet6",
            };
            words.put(format_args!("via {family} {via}"))?;
        }
        if let Some(protocol) = s.protocol {
            match names.protocol_name(protocol) {
                Some(name) => words.put(format_args!("proto {name}"))?,
                None => words.put(format_args!("proto {protocol}"))?,
            }
        }
        if let Some(metric) = s.metric {
            words.put(format_args!("metric {metric}"))?;
        }
        match s.table {
            None => words.put(format_args!("table all"))?,
            Some(TABLE_MAIN) => {}
            Some(table) => match names.table_name(table) {
                Some(name) => words.put(format_args!("table {name}"))?,
                None => words.put(format_args!("table {table}"))?,
            },
        }
        if let Some(source) = &s.source {
            words.put(format_args!("source {source}"))?;
        }
        if let Some(kind) = s.kind {
            words.put(format_args!("type {}", kind.name()))?;
        }
        if let Some(scope) = s.scope {
            match names.scope_name(scope) {
                Some(name) => words.put(format_args!("scope {name}"))?,
                None => words.put(format_args!("scope {scope}"))?,
            }
        }
        if let Some(tos) = s.tos {
            words.put(format_args!("tos 0x{tos:02x}"))?;
        }
        if let Some(src) = s.src {
            words.put(format_args!("src {src}"))?;
        }
        if let Some(nhid) = s.nhid {
            words.put(format_args!("nhid {nhid}"))?;
        }
        if words.first {
            words.put(format_args!("all"))?;
        }
        Ok(())
    }
}
