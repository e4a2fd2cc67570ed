//! A neighbour's words, as `ip neigh` has them.
//!
//! A printed line ends with its states in capitals and without `nud`; these
//! words are taken, too, so that a line can be read back.

use super::Context;
use super::error::TextError;
use super::value;
use super::words::{Cursor, Word};
use crate::change::{LinkRef, NeighbourSpec, Verb};
use crate::neighbour::NudState;

/// `NTF_PROXY`.
pub(super) const NTF_PROXY: u8 = 0x08;
/// `NTF_EXT_LEARNED`.
pub(super) const NTF_EXT_LEARNED: u8 = 0x10;
/// `NTF_OFFLOADED`.
pub(super) const NTF_OFFLOADED: u8 = 0x20;
/// `NTF_ROUTER`.
pub(super) const NTF_ROUTER: u8 = 0x80;

/// The flags that a neighbour's line shows, in the order in which `ip` prints
/// them.
pub(super) const FLAGS: [(u8, &str); 4] = [
    (NTF_ROUTER, "router"),
    (NTF_PROXY, "proxy"),
    (NTF_EXT_LEARNED, "extern_learn"),
    (NTF_OFFLOADED, "offload"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Lladdr,
    Dev,
    Nud,
    To,
    Protocol,
    Flag(u8),
    Refused(&'static str),
}

const WORDS: [(&str, Key); 12] = [
    ("lladdr", Key::Lladdr),
    ("dev", Key::Dev),
    ("nud", Key::Nud),
    ("to", Key::To),
    ("protocol", Key::Protocol),
    ("proto", Key::Protocol),
    ("router", Key::Flag(NTF_ROUTER)),
    ("extern_learn", Key::Flag(NTF_EXT_LEARNED)),
    ("offload", Key::Flag(NTF_OFFLOADED)),
    ("proxy", Key::Refused("proxy neighbours are not held")),
    ("use", Key::Refused("it asks a kernel to resolve the address")),
    ("managed", Key::Refused("it asks a kernel to keep the address resolved")),
];

/// The words of a neighbour, for completion, in the order of the grammar.
pub fn neighbour_words() -> impl Iterator<Item = &'static str> {
    WORDS.iter().filter(|(_, key)| !matches!(key, Key::Refused(_))).map(|&(word, _)| word)
}

/// The states' names in the order in which iproute2 tries abbreviations; only
/// the first three may be abbreviated.
const STATES: [(&str, NudState, bool); 9] = [
    ("permanent", NudState::PERMANENT, true),
    ("reachable", NudState::REACHABLE, true),
    ("failed", NudState::FAILED, true),
    ("noarp", NudState::NOARP, false),
    ("none", NudState::NONE, false),
    ("stale", NudState::STALE, false),
    ("incomplete", NudState::INCOMPLETE, false),
    ("delay", NudState::DELAY, false),
    ("probe", NudState::PROBE, false),
];

/// A NUD state by name, abbreviation or number.
pub(super) fn nud_state(word: Word<'_>) -> Result<NudState, TextError> {
    for (name, state, short) in STATES {
        if word.text == name || short && !word.text.is_empty() && name.starts_with(word.text) {
            return Ok(state);
        }
    }
    value::c_number(word.text, 0xff)
        .filter(|number| number & number.wrapping_sub(1) == 0)
        .map(|number| NudState(number as u16))
        .ok_or_else(|| {
            TextError::new(
                "nud",
                word,
                "not a state",
                "one of permanent, reachable, stale, noarp, incomplete, delay, probe, failed, none",
            )
        })
}

/// The name of a single state as `nud` takes it.
pub(super) fn nud_name(state: NudState) -> Option<&'static str> {
    STATES.iter().find(|(_, have, _)| *have == state).map(|&(name, _, _)| name)
}

/// The neighbour of the words behind `neigh add` and the like, or of a printed
/// line; they must end with it.
pub(super) fn neighbour(
    verb: Verb,
    cursor: &mut Cursor<'_, '_>,
    cx: &Context<'_>,
) -> Result<NeighbourSpec, TextError> {
    let mut ip = None;
    let mut spec_link = None;
    let mut mac = None;
    let mut state: Option<NudState> = None;
    let mut flags = 0;
    let mut protocol = None;
    let twice = |word| TextError::new("keyword", word, "given twice", "once would be right");
    while let Some(word) = cursor.next() {
        if let Some(&(bits, _)) = NudState::NAMES.iter().find(|(_, name)| *name == word.text) {
            state = Some(NudState(state.unwrap_or_default().0 | bits.0));
            continue;
        }
        let whole = WORDS.iter().find(|(name, _)| *name == word.text);
        let destination = value::looks_like_destination(word.text);
        let abbreviated = || WORDS.iter().find(|(name, _)| name.starts_with(word.text));
        let key = match whole {
            Some(&(_, key)) => key,
            None if destination || word.text.is_empty() => Key::To,
            None => match abbreviated() {
                Some(&(_, key)) => key,
                None => {
                    return Err(TextError::new(
                        "keyword",
                        word,
                        "not a word of a neighbour",
                        "one of lladdr, dev, nud, router, extern_learn, protocol",
                    ));
                }
            },
        };
        match key {
            Key::Lladdr => {
                if mac.is_some() {
                    return Err(twice(word));
                }
                let word = cursor.value("lladdr", "lladdr MAC would be right")?;
                // `null` is iproute2's word for none.
                mac = Some(match word.text {
                    "null" => None,
                    _ => Some(value::mac("lladdr", word)?),
                });
            }
            Key::Dev => {
                if spec_link.is_some() {
                    return Err(twice(word));
                }
                let word = cursor.value("dev", "dev LINK would be right")?;
                spec_link = Some(LinkRef::Name(value::link("dev", word)?));
            }
            Key::Nud => {
                if state.is_some() {
                    return Err(twice(word));
                }
                state = Some(nud_state(cursor.value("nud", "nud STATE would be right")?)?);
            }
            Key::Protocol => {
                if protocol.is_some() {
                    return Err(twice(word));
                }
                let word = cursor.value("proto", "proto NAME would be right")?;
                protocol = Some(value::protocol(word, cx.names)?);
            }
            Key::Flag(bit) => flags |= bit,
            Key::Refused(_) if cx.listing && word.text == "proxy" => flags |= NTF_PROXY,
            Key::Refused(why) => {
                return Err(TextError::new("keyword", word, why, "a neighbour without it"));
            }
            Key::To => {
                if ip.is_some() {
                    return Err(TextError::new(
                        "address",
                        word,
                        "a second address",
                        "one would be right",
                    ));
                }
                let word = if word.text == "to" {
                    cursor.value("address", "to ADDRESS would be right")?
                } else {
                    word
                };
                ip = Some((value::address_of("address", word, cx.family)?, word));
            }
        }
    }
    let Some((ip, word)) = ip else {
        return Err(cursor.missing("address", "an address like 10.1.1.1 would be right"));
    };
    let mac = mac.flatten();
    if !cx.listing && matches!(verb, Verb::Add | Verb::Replace) && mac.is_none() {
        // The kernel refuses these, too: such an entry could never be used.
        let known = |state: NudState| {
            let usable = NudState::PERMANENT.0
                | NudState::REACHABLE.0
                | NudState::STALE.0
                | NudState::DELAY.0
                | NudState::PROBE.0;
            state.0 & usable != 0
        };
        if known(state.unwrap_or(NudState::PERMANENT)) {
            return Err(TextError::new(
                "lladdr",
                word,
                "the neighbour has no MAC address",
                "lladdr MAC behind it would be right, or nud incomplete, failed, noarp, none",
            ));
        }
    }
    if state.is_none() {
        state = match verb {
            _ if cx.listing => Some(NudState::NONE),
            Verb::Add | Verb::Replace => Some(NudState::PERMANENT),
            _ => None,
        };
    }
    Ok(NeighbourSpec { ip, link: spec_link, mac, state, flags, protocol: protocol.unwrap_or(0) })
}
