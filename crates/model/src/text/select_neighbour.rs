//! Which neighbours a command means.

use std::fmt;

use super::Context;
use super::error::TextError;
use super::neighbour::{NTF_EXT_LEARNED, nud_name, nud_state};
use super::selector::{Blanks, Resolve, unknown_option};
use super::value;
use super::words::{Cursor, Word, Words};
use super::write;
use crate::link::LinkName;
use crate::names::Names;
use crate::neighbour::{Mac, NeighbourKey, NeighbourValue, NudState};
use crate::prefix::{Family, Prefix};

/// A set of NUD states; no state is one, too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NudStates(pub u16);

impl NudStates {
    /// Stands for no state ([`NudState::NONE`]).
    pub const NONE: u16 = 0x100;
    /// Every state, and none.
    pub const ALL: NudStates = NudStates(0x1ff);
    /// What `ip neigh show` shows: all but `noarp` and none.
    pub const SHOWN: NudStates = NudStates(0xff & !NudState::NOARP.0);
    /// What `ip neigh flush` deletes: all but `permanent` and `noarp`.
    pub const FLUSHED: NudStates = NudStates(0x1ff & !(NudState::NOARP.0 | NudState::PERMANENT.0));

    /// Is `state` one of these?
    pub fn contains(self, state: NudState) -> bool {
        state.0 & self.0 != 0 || state == NudState::NONE && self.0 & NudStates::NONE != 0
    }
}

/// Which neighbours are meant. What is `None` doesn't matter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct NeighbourSelector {
    /// The family.
    pub family: Option<Family>,
    /// What holds the address.
    pub prefix: Option<Prefix>,
    /// The MAC address.
    pub mac: Option<Mac>,
    /// The link.
    pub link: Option<LinkName>,
    /// The states.
    pub states: Option<NudStates>,
    /// Who made it.
    pub protocol: Option<u8>,
}

const NEIGHBOUR_WORDS: [&str; 7] = ["lladdr", "dev", "nud", "to", "protocol", "proxy", "vrf"];

impl NeighbourSelector {
    /// The selector of a text, as [`NeighbourSelector::display`] writes it.
    ///
    /// # Errors
    /// A word that is none of a selector's, or a bad value.
    pub fn parse(text: &str, cx: &Context<'_>) -> Result<NeighbourSelector, TextError> {
        let words = Words::of_line(text)?;
        let mut cursor = Cursor::new(&words);
        NeighbourSelector::read(&mut cursor, cx, &mut |_, _| Ok(false))
    }

    /// Reads words to their end; see [`RouteSelector::read`].
    pub(super) fn read<'a>(
        cursor: &mut Cursor<'_, 'a>,
        cx: &Context<'_>,
        option: &mut dyn FnMut(Word<'a>, &mut Cursor<'_, 'a>) -> Result<bool, TextError>,
    ) -> Result<NeighbourSelector, TextError> {
        let mut selector = NeighbourSelector { family: cx.family, ..NeighbourSelector::default() };
        let twice = |word| TextError::new("keyword", word, "given twice", "once would be right");
        let mut all = false;
        while let Some(word) = cursor.next() {
            if word.is_option() {
                match word.text {
                    "-4" => selector.set_family(Family::V4, word)?,
                    "-6" => selector.set_family(Family::V6, word)?,
                    _ if option(word, cursor)? => {}
                    _ => return Err(unknown_option(word)),
                }
                continue;
            }
            let starts = |name: &&&str| !word.text.is_empty() && name.starts_with(word.text);
            let keyword = NEIGHBOUR_WORDS.iter().find(|name| **name == word.text).or_else(|| {
                (!value::looks_like_destination(word.text))
                    .then(|| NEIGHBOUR_WORDS.iter().find(starts))
                    .flatten()
            });
            match keyword.copied() {
                Some("lladdr") => {
                    let value = cursor.value("lladdr", "lladdr MAC would be right")?;
                    if selector.mac.replace(value::mac("lladdr", value)?).is_some() {
                        return Err(twice(word));
                    }
                }
                Some("dev") => {
                    let value = cursor.value("dev", "dev LINK would be right")?;
                    if selector.link.replace(value::link("dev", value)?).is_some() {
                        return Err(twice(word));
                    }
                }
                Some("nud") => {
                    let value = cursor.value("nud", "nud STATE would be right")?;
                    let bits = if value.text == "all" {
                        NudStates::ALL.0
                    } else {
                        match nud_state(value)? {
                            NudState::NONE => NudStates::NONE,
                            state => state.0,
                        }
                    };
                    selector.states = Some(NudStates(selector.states.map_or(0, |s| s.0) | bits));
                }
                Some("protocol") => {
                    let value = cursor.value("proto", "proto NAME would be right")?;
                    if selector.protocol.replace(value::protocol(value, cx.names)?).is_some() {
                        return Err(twice(word));
                    }
                }
                Some(refused @ ("proxy" | "vrf")) => {
                    return Err(TextError::new(
                        "keyword",
                        word,
                        if refused == "proxy" {
                            "proxy neighbours are not held"
                        } else {
                            "VRFs are not known here"
                        },
                        "a selector without it",
                    ));
                }
                found => {
                    let value = if found == Some("to") {
                        cursor.value("address", "to PREFIX would be right")?
                    } else {
                        word
                    };
                    if let Ok(mac) = value.text.parse::<Mac>() {
                        if selector.mac.replace(mac).is_some() {
                            return Err(twice(word));
                        }
                        continue;
                    }
                    if selector.prefix.is_some() || all {
                        return Err(TextError::new(
                            "address",
                            value,
                            "a second address",
                            "one would be right",
                        ));
                    }
                    if matches!(value.text, "all" | "any" | "default") {
                        all = true;
                        continue;
                    }
                    if found.is_none() && !value::looks_like_destination(value.text) {
                        return Err(TextError::new(
                            "selector",
                            value,
                            "neither an address nor a word of a selector",
                            "an address, or one of lladdr, dev, nud, protocol",
                        ));
                    }
                    let prefix = value::prefix("address", value)?;
                    selector.set_family(prefix.family(), value)?;
                    selector.prefix = Some(prefix);
                }
            }
        }
        Ok(selector)
    }

    fn set_family(&mut self, family: Family, word: Word<'_>) -> Result<(), TextError> {
        match self.family {
            Some(have) if have != family => Err(value::wrong_family("address", word, have)),
            _ => {
                self.family = Some(family);
                Ok(())
            }
        }
    }

    /// As `ip neigh show`: not those in states `noarp` and none, unless `nud`
    /// says so.
    #[must_use]
    pub fn or_states_shown(mut self) -> NeighbourSelector {
        self.states.get_or_insert(NudStates::SHOWN);
        self
    }

    /// As `ip neigh flush`: not those in states `permanent` and `noarp`,
    /// unless `nud` says so.
    #[must_use]
    pub fn or_states_flushed(mut self) -> NeighbourSelector {
        self.states.get_or_insert(NudStates::FLUSHED);
        self
    }

    /// Is this neighbour meant?
    pub fn matches(
        &self,
        key: &NeighbourKey,
        value: &NeighbourValue,
        resolve: &dyn Resolve,
    ) -> bool {
        let link = |name: LinkName| {
            key.link.and_then(|id| resolve.link(id)).is_some_and(|link| link.name == name)
        };
        // As iproute2: what others learnt is shown whatever its state.
        let state = |states: NudStates| {
            states.contains(value.state)
                || states == NudStates::SHOWN && value.flags & NTF_EXT_LEARNED != 0
        };
        self.family.is_none_or(|family| family == Family::of(key.ip))
            && self.prefix.is_none_or(|prefix| prefix.contains(key.ip))
            && self.mac.is_none_or(|mac| value.mac == Some(mac))
            && self.protocol.is_none_or(|protocol| protocol == value.protocol)
            && self.states.is_none_or(state)
            && self.link.is_none_or(link)
    }

    /// As text that [`NeighbourSelector::parse`] takes with the same names.
    pub fn display<'a>(&'a self, names: &'a Names) -> impl fmt::Display + 'a {
        NeighbourSelectorText { selector: self, names }
    }
}

struct NeighbourSelectorText<'a> {
    selector: &'a NeighbourSelector,
    names: &'a Names,
}

impl fmt::Display for NeighbourSelectorText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NeighbourSelectorText { selector: s, names } = *self;
        let mut words = Blanks { f, first: true };
        match s.family.filter(|_| s.prefix.is_none()) {
            Some(Family::V4) => words.put(format_args!("-4"))?,
            Some(Family::V6) => words.put(format_args!("-6"))?,
            None => {}
        }
        match s.prefix {
            Some(prefix) if prefix.is_host() => {
                words.put(format_args!("{}", prefix.address()))?;
            }
            Some(prefix) => words.put(format_args!("{prefix}"))?,
            None => {}
        }
        if let Some(mac) = s.mac {
            words.put(format_args!("lladdr {mac}"))?;
        }
        if let Some(link) = s.link {
            words.put(format_args!("dev "))?;
            write::link(words.f, link)?;
        }
        match s.states {
            None => {}
            Some(NudStates::ALL) => words.put(format_args!("nud all"))?,
            Some(states) => {
                for bit in 0..8 {
                    let state = NudState(1 << bit);
                    if states.0 & state.0 != 0 {
                        words.put(format_args!("nud {}", nud_name(state).unwrap_or_default()))?;
                    }
                }
                if states.0 & NudStates::NONE != 0 {
                    words.put(format_args!("nud none"))?;
                }
            }
        }
        if let Some(protocol) = s.protocol {
            match names.protocol_name(protocol) {
                Some(name) => words.put(format_args!("protocol {name}"))?,
                None => words.put(format_args!("protocol {protocol}"))?,
            }
        }
        if words.first {
            words.put(format_args!("all"))?;
        }
        Ok(())
    }
}
