//! Selectors: which routes `route show`, `flush`, `wait` and others mean.
//!
//! The words are iproute2's: a prefix alone means exactly this one, `match P`
//! the prefixes that cover P, `root P` those inside P. A table that isn't
//! named is main; `table all` is every table.
//!
//! `ip` shows IPv4 only unless told otherwise, and hides neighbours in states
//! `noarp` and none. That is a matter of the command, not of the selector:
//! [`RouteSelector::or_family_as_ip`], [`NeighbourSelector::or_states_shown`],
//! and the parser of the commands applies them.

use std::borrow::Cow;
use std::fmt;

use super::error::TextError;
use super::words::Word;
use crate::group::{Group, GroupId};
use crate::link::{Link, LinkId};
use crate::prefix::{Family, Prefix};

pub use super::select_neighbour::{NeighbourSelector, NudStates};
pub use super::select_route::{RouteSelector, route_selector_words};

/// Finds what routes and neighbours refer to.
pub trait Resolve {
    /// The link with this id.
    fn link(&self, id: LinkId) -> Option<Link>;
    /// The next-hop group with this id.
    fn group(&self, id: GroupId) -> Option<Cow<'_, Group>>;
}

/// A rule for a route's prefix.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PrefixRule {
    /// This one.
    Exact(Prefix),
    /// Those that cover it, itself included: what an address could match.
    Match(Prefix),
    /// Those inside it, itself included.
    Root(Prefix),
    /// A default route of either family.
    Default,
}

impl PrefixRule {
    /// Does it let `prefix` pass?
    pub fn matches(&self, prefix: Prefix) -> bool {
        match *self {
            PrefixRule::Exact(rule) => prefix == rule,
            PrefixRule::Match(rule) => prefix.covers(rule),
            PrefixRule::Root(rule) => rule.covers(prefix),
            PrefixRule::Default => prefix.is_default(),
        }
    }

    /// The family it is about.
    pub fn family(&self) -> Option<Family> {
        match self {
            PrefixRule::Exact(p) | PrefixRule::Match(p) | PrefixRule::Root(p) => Some(p.family()),
            PrefixRule::Default => None,
        }
    }
}
/// Looks nothing up: for tests and for selectors that need only keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unresolved;

impl Resolve for Unresolved {
    fn link(&self, _: LinkId) -> Option<Link> {
        None
    }

    fn group(&self, _: GroupId) -> Option<Cow<'_, Group>> {
        None
    }
}

pub(super) fn unknown_option(word: Word<'_>) -> TextError {
    TextError::new("option", word, "unknown here", "see -h behind the command")
}

/// The most bytes of a source's name: it stands in every listing's line.
pub const SOURCE_NAME_BYTES_MAX: usize = 64;

/// The name of a source: what needs no quotes anywhere.
pub(super) fn source_name(word: Word<'_>) -> Result<&str, TextError> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '#' | '"' | '\'' | '\\');
    if word.text.is_empty()
        || word.text.len() > SOURCE_NAME_BYTES_MAX
        || word.text.starts_with('-')
        || word.text.contains(odd)
    {
        return Err(TextError::new(
            "source",
            word,
            "not the name of a source",
            "1 to 64 bytes without blanks, quotes, # and a dash in front",
        ));
    }
    Ok(word.text)
}
/// Puts one blank between words.
pub(super) struct Blanks<'f, 'b> {
    pub(super) f: &'f mut fmt::Formatter<'b>,
    pub(super) first: bool,
}

impl Blanks<'_, '_> {
    pub(super) fn put(&mut self, words: fmt::Arguments<'_>) -> fmt::Result {
        if !std::mem::replace(&mut self.first, false) {
            self.f.write_str(" ")?;
        }
        self.f.write_fmt(words)
    }
}
