//! Filters: what part of the tables a session follows.
//!
//! Equal filters are interned and share digests, so a filter is kept in one
//! normal form: two that let the same entities pass are equal and hash alike
//! (as far as rules of this shape can say it).

use std::fmt;
use std::net::IpAddr;

use super::Context;
use super::error::TextError;
use super::value;
use super::words::{Cursor, Word, Words};
use crate::neighbour::{NeighbourKey, NeighbourValue};
use crate::prefix::{Family, Prefix};
use crate::route::{RouteKey, RouteValue};

/// The most tables, prefixes or protocols that a filter names, each: a filter
/// is looked through for every record, and must fit into one frame.
pub const FILTER_ITEMS_MAX: usize = 64;

/// A filter's rules as somebody states them. An empty list restricts nothing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FilterRules {
    /// Routes are wanted.
    pub routes: bool,
    /// Neighbours are wanted.
    pub neighbours: bool,
    /// One family only.
    pub family: Option<Family>,
    /// Only what lies inside one of these: routes by destination, neighbours
    /// by address.
    pub prefixes: Vec<Prefix>,
    /// Only routes of these tables.
    pub tables: Vec<u32>,
    /// Only routes of these `rtm_protocol`s.
    pub protocols: Vec<u8>,
}

impl Default for FilterRules {
    /// Everything.
    fn default() -> FilterRules {
        FilterRules {
            routes: true,
            neighbours: true,
            family: None,
            prefixes: Vec::new(),
            tables: Vec::new(),
            protocols: Vec::new(),
        }
    }
}

/// A filter in normal form.
///
/// ```
/// use rtm_model::text::{Context, Filter};
/// let cx = Context::default();
/// let filter = Filter::parse("routes root 10.0.0.0/8 root 10.1.0.0/16 table 254", &cx).unwrap();
/// assert_eq!(filter, Filter::parse("table main routes root 10.0.0.0/8 -4", &cx).unwrap());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Filter {
    rules: FilterRules,
}

impl From<FilterRules> for Filter {
    fn from(mut rules: FilterRules) -> Filter {
        rules.normalise();
        Filter { rules }
    }
}

impl FilterRules {
    fn normalise(&mut self) {
        let nothing = FilterRules {
            routes: false,
            neighbours: false,
            family: None,
            prefixes: Vec::new(),
            tables: Vec::new(),
            protocols: Vec::new(),
        };
        // A family is the same as its default route's subtree.
        let defaults = [Prefix::DEFAULT_V4, Prefix::DEFAULT_V6];
        if self.prefixes.is_empty() {
            self.prefixes = defaults.to_vec();
        }
        if let Some(family) = self.family {
            self.prefixes.retain(|prefix| prefix.family() == family);
        }
        // Sorted, a prefix stands before what it covers.
        self.prefixes.sort_unstable();
        let mut last: Option<Prefix> = None;
        self.prefixes.retain(|&prefix| {
            let covered = last.is_some_and(|last| last.covers(prefix));
            if !covered {
                last = Some(prefix);
            }
            !covered
        });
        if self.prefixes.is_empty() || !(self.routes || self.neighbours) {
            *self = nothing;
            return;
        }
        let first = self.prefixes[0].family();
        self.family = self.prefixes.iter().all(|prefix| prefix.family() == first).then_some(first);
        if self.prefixes == defaults || matches!(self.prefixes[..], [only] if only.is_default()) {
            self.prefixes.clear();
        }
        if !self.routes {
            self.tables.clear();
            self.protocols.clear();
        }
        self.tables.sort_unstable();
        self.tables.dedup();
        self.protocols.sort_unstable();
        self.protocols.dedup();
        if self.protocols.len() == 256 {
            self.protocols.clear();
        }
    }
}

impl Filter {
    /// The rules, in normal form.
    pub fn rules(&self) -> &FilterRules {
        &self.rules
    }

    /// Does everything pass?
    pub fn is_all(&self) -> bool {
        *self == Filter::default()
    }

    /// Does this route pass? Its next hops don't matter.
    #[inline]
    pub fn matches_route(&self, key: &RouteKey, value: &RouteValue) -> bool {
        self.matches_route_key(key)
            && (self.rules.protocols.is_empty()
                || self.rules.protocols.binary_search(&value.protocol).is_ok())
    }

    /// Could a route with this key pass?
    #[inline]
    pub fn matches_route_key(&self, key: &RouteKey) -> bool {
        self.rules.routes
            && (self.rules.tables.is_empty() || self.rules.tables.binary_search(&key.table).is_ok())
            && self.rules.family.is_none_or(|family| family == key.prefix.family())
            && (self.rules.prefixes.is_empty()
                || self.rules.prefixes.iter().any(|rule| rule.covers(key.prefix)))
    }

    /// Does this neighbour pass?
    #[inline]
    pub fn matches_neighbour(&self, key: &NeighbourKey, _: &NeighbourValue) -> bool {
        self.matches_ip(key.ip)
    }

    /// Does a neighbour of this address pass?
    #[inline]
    pub fn matches_ip(&self, ip: IpAddr) -> bool {
        self.rules.neighbours
            && self.rules.family.is_none_or(|family| family == Family::of(ip))
            && (self.rules.prefixes.is_empty()
                || self.rules.prefixes.iter().any(|rule| rule.contains(ip)))
    }

    /// The filter of a text: `routes`, `neighbours`, `all`, `-4`, `-6`,
    /// `root PREFIX`, `table ID`, `proto P`; the last three as often as one
    /// likes. Neither `routes` nor `neighbours`: both.
    ///
    /// # Errors
    /// Another word, a bad value, or over [`FILTER_ITEMS_MAX`] of one kind.
    pub fn parse(text: &str, cx: &Context<'_>) -> Result<Filter, TextError> {
        let words = Words::of_line(text)?;
        let mut cursor = Cursor::new(&words);
        let mut rules = FilterRules { routes: false, neighbours: false, ..FilterRules::default() };
        rules.family = cx.family;
        let mut none = false;
        while let Some(word) = cursor.next() {
            match word.text {
                "routes" => rules.routes = true,
                "neighbours" => rules.neighbours = true,
                "none" => none = true,
                "all" => (rules.routes, rules.neighbours) = (true, true),
                "-4" => rules.family = Some(Family::V4),
                "-6" => rules.family = Some(Family::V6),
                "root" => {
                    let value = cursor.value("root", "root PREFIX would be right")?;
                    push(&mut rules.prefixes, value::prefix("root", value)?, value)?;
                }
                "table" => {
                    let value = cursor.value("table", "table ID would be right")?;
                    push(&mut rules.tables, value::table(value, cx.names)?, value)?;
                }
                "proto" | "protocol" => {
                    let value = cursor.value("proto", "proto NAME would be right")?;
                    push(&mut rules.protocols, value::protocol(value, cx.names)?, value)?;
                }
                _ => {
                    return Err(TextError::new(
                        "filter",
                        word,
                        "not a word of a filter",
                        "one of routes, neighbours, all, -4, -6, root, table, proto",
                    ));
                }
            }
        }
        if !none && !rules.routes && !rules.neighbours {
            (rules.routes, rules.neighbours) = (true, true);
        }
        Ok(Filter::from(rules))
    }
}

fn push<T>(list: &mut Vec<T>, item: T, word: Word<'_>) -> Result<(), TextError> {
    if list.len() == FILTER_ITEMS_MAX {
        return Err(TextError::new(
            "filter",
            word,
            "too many rules of one kind",
            format!("at most {FILTER_ITEMS_MAX} are possible"),
        ));
    }
    list.push(item);
    Ok(())
}

impl fmt::Display for Filter {
    /// As text that [`Filter::parse`] takes, numbers for names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = &self.rules;
        f.write_str(match (rules.routes, rules.neighbours) {
            (true, true) => "all",
            (true, false) => "routes",
            (false, true) => "neighbours",
            (false, false) => "none",
        })?;
        // Prefixes of one family imply it.
        if rules.prefixes.is_empty() {
            match rules.family {
                Some(Family::V4) => f.write_str(" -4")?,
                Some(Family::V6) => f.write_str(" -6")?,
                None => {}
            }
        }
        for prefix in &rules.prefixes {
            write!(f, " root {prefix}")?;
        }
        for table in &rules.tables {
            write!(f, " table {table}")?;
        }
        for protocol in &rules.protocols {
            write!(f, " proto {protocol}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Filter {
        Filter::parse(text, &Context::default()).unwrap()
    }

    #[test]
    fn what_means_the_same_is_equal() {
        for (one, other, normal) in [
            ("", "all", "all"),
            ("routes neighbours", "root 0.0.0.0/0 root ::/0", "all"),
            ("-4", "root 0.0.0.0/0", "all -4"),
            ("-4 root 10.0.0.0/8", "root 10.0.0.0/8", "all root 10.0.0.0/8"),
            ("-4 root 10.0.0.0/8 root ::/0", "root 10.0.0.0/8", "all root 10.0.0.0/8"),
            ("root 10.1.0.0/16 root 10.0.0.0/8", "root 10.0.0.0/8", "all root 10.0.0.0/8"),
            ("table 5 table 3 table 5", "table 3 table 5", "all table 3 table 5"),
            ("neighbours table 5 proto 4", "neighbours", "neighbours"),
            ("-6 root 10.0.0.0/8", "none", "none"),
            ("none table 4", "none", "none"),
            (
                "root ::/0 root 10.0.0.0/8",
                "root 10.0.0.0/8 root ::/0",
                "all root 10.0.0.0/8 root ::/0",
            ),
            ("proto bgp proto static", "proto 4 proto 186", "all proto 4 proto 186"),
        ] {
            assert_eq!(filter(one), filter(other), "{one} | {other}");
            assert_eq!(filter(one).to_string(), normal, "{one}");
            assert_eq!(filter(normal), filter(one), "{normal}");
        }
        assert!(filter("").is_all());
        assert_ne!(filter("routes"), filter(""));
    }

    #[test]
    fn wrong_filters_are_refused() {
        for (text, expected) in [
            ("bogus", "filter: bogus: not a word of a filter"),
            ("root", "root: end of line: its value is missing"),
            ("root 10.0.0.1/8", "root: 10.0.0.1/8: host bits are set"),
            ("table x", "table: x: not a table"),
        ] {
            let error = Filter::parse(text, &Context::default()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        let many = "table 1 ".repeat(FILTER_ITEMS_MAX + 1);
        assert!(Filter::parse(&many, &Context::default()).is_err());
    }
}
