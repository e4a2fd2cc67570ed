//! A route's next hops: `via`, `dev`, `onlink` and lists of `nexthop`.
//!
//! They are read as drafts, because whether a gateway fits is only known with
//! the route's family, at the end of the words.

use std::net::IpAddr;

use super::Context;
use super::error::TextError;
use super::route::{FLAGS, FLAGS_OF_STATE};
use super::value;
use super::words::{Cursor, Word};
use crate::change::{HopSpec, Hops, LinkRef};
use crate::group::{HOPS_MAX, HopFlags, WEIGHT_MAX};
use crate::link::LinkName;
use crate::prefix::Family;
use crate::route::{RouteAttrs, RouteType};

/// One next hop as it was written.
#[derive(Clone, Copy, Default)]
pub(super) struct HopDraft<'a> {
    /// The word `nexthop`, where there are several.
    start: Word<'a>,
    /// The family, if it was said, the address and its word.
    pub(super) gateway: Option<(Option<Family>, IpAddr, Word<'a>)>,
    pub(super) link: Option<(LinkName, Word<'a>)>,
    weight: Option<u16>,
    pub(super) flags: u32,
    /// The word `onlink`.
    pub(super) onlink: Option<Word<'a>>,
}

/// All that a route's words say of next hops.
#[derive(Default)]
pub(super) struct HopsDraft<'a> {
    /// The one of `via` and `dev`; the flags also of a route with several.
    pub(super) hop: HopDraft<'a>,
    /// Those of `nexthop`.
    pub(super) hops: Vec<HopDraft<'a>>,
    /// `nhid`.
    pub(super) nhid: Option<(u32, Word<'a>)>,
}

impl<'a> HopsDraft<'a> {
    /// The words behind `nexthop`.
    pub(super) fn next_hop(
        &mut self,
        cursor: &mut Cursor<'_, 'a>,
        cx: &Context<'_>,
    ) -> Result<(), TextError> {
        cursor.back();
        while let Some(word) = cursor.next() {
            if cx.listing && word.text == "\\" {
                continue;
            }
            if word.text != "nexthop" && !abbreviates(word.text, "nexthop") {
                return Err(TextError::new(
                    "keyword",
                    word,
                    "not a word of a next hop",
                    "via, dev, weight, onlink, another nexthop, or the end of the line",
                ));
            }
            if self.hops.len() == HOPS_MAX {
                return Err(TextError::new(
                    "nexthop",
                    word,
                    "too many next hops",
                    format!("at most {HOPS_MAX} are possible"),
                ));
            }
            let mut hop = HopDraft { start: word, ..HopDraft::default() };
            while let Some(word) = cursor.next() {
                match word.text {
                    "via" if hop.gateway.is_none() => hop.gateway = Some(gateway(cursor)?),
                    "dev" if hop.link.is_none() => hop.link = Some(device(cursor)?),
                    "weight" if hop.weight.is_none() => {
                        let word = cursor.value("weight", "weight N would be right")?;
                        let weight = value::c_number(word.text, u32::from(WEIGHT_MAX));
                        let weight = weight.filter(|&weight| weight != 0).ok_or_else(|| {
                            TextError::new(
                                "weight",
                                word,
                                "out of range, or not a number",
                                format!("1 to {WEIGHT_MAX} are valid"),
                            )
                        })?;
                        hop.weight = Some(weight as u16);
                    }
                    "onlink" => {
                        hop.flags |= u32::from(HopFlags::ONLINK.0);
                        hop.onlink = Some(word);
                    }
                    "via" | "dev" | "weight" => return Err(duplicate("nexthop", word)),
                    "encap" | "as" | "realms" | "realm" => {
                        return Err(TextError::new(
                            "nexthop",
                            word,
                            "a next hop here can't hold it",
                            "a next hop without it",
                        ));
                    }
                    text => match FLAGS.iter().find(|(_, word)| *word == text) {
                        Some((bits, _)) => hop.flags |= bits & !FLAGS_OF_STATE,
                        None => match abbreviated_hop_word(text) {
                            Some("") | None => {
                                cursor.back();
                                break;
                            }
                            Some(whole) => {
                                return Err(TextError::new(
                                    "nexthop",
                                    word,
                                    "words of a next hop are not abbreviated",
                                    format!("{whole} would be right"),
                                ));
                            }
                        },
                    },
                }
            }
            self.hops.push(hop);
        }
        Ok(())
    }

    /// What they come to, for a route of this type and family.
    pub(super) fn finish(
        &mut self,
        attrs: &mut RouteAttrs,
        kind: Option<RouteType>,
        family: Family,
        delete: bool,
        cx: &Context<'_>,
    ) -> Result<Hops, TextError> {
        let single = self.hop.gateway.map(|(_, _, word)| word).or(self.hop.link.map(|l| l.1));
        if let Some(word) = single.filter(|_| !self.hops.is_empty()) {
            return Err(TextError::new(
                "nexthop",
                word,
                "either one next hop or a list of nexthop, not both",
                "via and dev within each nexthop would be right",
            ));
        }
        if let (Some((id, word)), false) = (self.nhid, cx.listing) {
            if single.is_some() || !self.hops.is_empty() {
                return Err(TextError::new(
                    "nhid",
                    word,
                    "the object has the next hops already",
                    "either nhid or via and dev would be right",
                ));
            }
            attrs.flags |= self.hop.flags;
            return Ok(Hops::Named(id));
        }
        if kind.is_some_and(|kind| !kind.wants_next_hop()) {
            // The kernel shows IPv6 routes of these types on the loopback.
            let loopback = family == Family::V6
                && self.hop.gateway.is_none()
                && self.hop.link.is_some_and(|(link, _)| link.as_str() == "lo");
            let word = single.or(self.hops.first().and_then(|hop| {
                hop.gateway.map(|(_, _, word)| word).or(hop.link.map(|(_, word)| word))
            }));
            if let (Some(word), false) = (word, loopback) {
                let kind = kind.map_or("", RouteType::name);
                return Err(TextError::new(
                    "next hop",
                    word,
                    format!("a route of type {kind} has none"),
                    "a route without via and dev would be right",
                ));
            }
            attrs.flags |= self.hop.flags;
            return Ok(Hops::None);
        }
        if !self.hops.is_empty() {
            attrs.flags |= self.hop.flags;
            let drafts = std::mem::take(&mut self.hops);
            let mut hops = Vec::with_capacity(drafts.len());
            for draft in &drafts {
                hops.push(draft.finish(family, delete, true)?);
            }
            if let [hop] = hops[..] {
                // One next hop gets everything, whatever its weight.
                return Ok(Hops::One(HopSpec { weight: 1, ..hop }));
            }
            return Ok(Hops::Many(hops));
        }
        if single.is_none() {
            if let Some((id, _)) = self.nhid {
                attrs.flags |= self.hop.flags;
                return Ok(Hops::Named(id));
            }
            if let (Some(word), false) = (self.hop.onlink, delete) {
                return Err(onlink_alone(word));
            }
            attrs.flags |= self.hop.flags;
            return Ok(Hops::None);
        }
        let known = u32::from(HopFlags::ALL.0);
        attrs.flags |= self.hop.flags & !known;
        self.hop.flags &= known;
        self.hop.finish(family, delete, false).map(Hops::One)
    }
}

impl HopDraft<'_> {
    fn finish(&self, family: Family, delete: bool, several: bool) -> Result<HopSpec, TextError> {
        if let Some((said, address, word)) = self.gateway {
            match (family, Family::of(address), said) {
                (Family::V4, Family::V6, None) => {
                    return Err(TextError::new(
                        "via",
                        word,
                        "the gateway is IPv6, the route IPv4",
                        format!("via inet6 {address} would be right, if it is meant"),
                    ));
                }
                (Family::V6, Family::V4, _) => {
                    return Err(TextError::new(
                        "via",
                        word,
                        "an IPv6 route can't go via an IPv4 gateway",
                        "one like 2001:db8::1 would be right",
                    ));
                }
                _ => {}
            }
        }
        if let Some(word) = self.onlink {
            if !delete && (self.gateway.is_none() || self.link.is_none()) {
                return Err(onlink_alone(word));
            }
        }
        if several && self.gateway.is_none() && self.link.is_none() {
            return Err(TextError::new(
                "nexthop",
                self.start,
                "neither a gateway nor a link",
                "nexthop via GW dev LINK would be right",
            ));
        }
        Ok(HopSpec {
            gateway: self.gateway.map(|(_, address, _)| address),
            link: self.link.map(|(link, _)| LinkRef::Name(link)),
            weight: self.weight.unwrap_or(1),
            flags: HopFlags((self.flags & u32::from(HopFlags::ALL.0)) as u8),
        })
    }
}

fn onlink_alone(word: Word<'_>) -> TextError {
    TextError::new(
        "onlink",
        word,
        "it needs a gateway and a link",
        "via GW dev LINK onlink would be right",
    )
}

pub(super) fn duplicate(what: &'static str, word: Word<'_>) -> TextError {
    TextError::new(what, word, "given twice", "once would be right")
}

fn abbreviates(text: &str, whole: &str) -> bool {
    !text.is_empty() && whole.starts_with(text)
}

/// The word of a next hop that `text` abbreviates; `""`: it abbreviates
/// `nexthop`, the next one.
fn abbreviated_hop_word(text: &str) -> Option<&'static str> {
    if abbreviates(text, "nexthop") {
        return Some("");
    }
    ["via", "dev", "weight", "onlink"].into_iter().find(|whole| abbreviates(text, whole))
}

/// `[inet|inet6] ADDRESS`.
#[inline]
pub(super) fn gateway<'a>(
    cursor: &mut Cursor<'_, 'a>,
) -> Result<(Option<Family>, IpAddr, Word<'a>), TextError> {
    let mut word = cursor.value("via", "via GATEWAY would be right")?;
    let said = match word.text {
        "inet" => Some(Family::V4),
        "inet6" => Some(Family::V6),
        _ => None,
    };
    if said.is_some() {
        word = cursor.value("via", "via inet6 GATEWAY would be right")?;
    }
    Ok((said, value::address_of("via", word, said)?, word))
}

#[inline]
pub(super) fn device<'a>(cursor: &mut Cursor<'_, 'a>) -> Result<(LinkName, Word<'a>), TextError> {
    let word = cursor.value("dev", "dev LINK would be right")?;
    Ok((value::link("dev", word)?, word))
}
