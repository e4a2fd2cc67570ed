//! The commands `route …` and `neigh …`.

use std::net::IpAddr;

use super::command::{
    Command, Format, LoadHops, Object, PeerChoice, RouteGet, RouteLoad, RouteSave, RouteShow,
};
use super::error::TextError;
use super::options::Options;
use super::parse::{help, is_help, known, option_name, option_value, unexpected};
use super::selector::{NeighbourSelector, RouteSelector, source_name, unknown_option};
use super::value;
use super::words::{Cursor, Word};
use super::{Context, neighbour, route};
use crate::change::{Change, Verb};
use crate::prefix::parse_address;
use crate::route::TABLE_MAIN;

pub(super) fn route_command(
    cursor: &mut Cursor<'_, '_>,
    cx: &Context<'_>,
    options: &Options,
) -> Result<Command, TextError> {
    // Options alone belong to `show`.
    let verb = match cursor.peek() {
        None => "show",
        Some(word) if word.is_option() => "show",
        Some(word) => {
            cursor.next();
            known(Object::Route, word)?
        }
    };
    let change = match verb {
        "add" => Verb::Add,
        "change" => Verb::Change,
        "replace" => Verb::Replace,
        "append" => Verb::Append,
        "prepend" => Verb::Prepend,
        "del" => Verb::Delete,
        _ => return route_other(verb, cursor, cx, options),
    };
    if let Some(spec) = route::plain_route(change, cursor.rest(), cx) {
        return Ok(Command::Change(Change::Route(change, spec)));
    }
    if cursor.peek().is_some_and(is_help) {
        return Ok(help(Object::Route, Some(verb)));
    }
    route::route(change, cursor, cx).map(|spec| Command::Change(Change::Route(change, spec)))
}

fn route_other(
    verb: &'static str,
    cursor: &mut Cursor<'_, '_>,
    cx: &Context<'_>,
    options: &Options,
) -> Result<Command, TextError> {
    if cursor.peek().is_some_and(is_help) {
        return Ok(help(Object::Route, Some(verb)));
    }
    match verb {
        "show" => {
            let (mut all, mut count) = (false, false);
            let selector = RouteSelector::read(cursor, cx, &mut |word, _| {
                match word.text {
                    "--all" => all = true,
                    "--count" => count = true,
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
            let selector = selector.or_family_as_ip();
            Ok(Command::RouteShow(RouteShow { selector, all, count }))
        }
        "flush" => {
            if cursor.peek().is_none() {
                return Err(cursor.missing(
                    "route flush",
                    "a selector like proto bgp or root 10.0.0.0/8, or all, would be right",
                ));
            }
            let selector = RouteSelector::read(cursor, cx, &mut |_, _| Ok(false))?;
            Ok(Command::RouteFlush(selector.or_family_as_ip()))
        }
        "get" => route_get(cursor, cx),
        "load" => route_load(cursor, options),
        "save" => route_save(cursor),
        _ => Ok(help(Object::Route, None)),
    }
}

fn route_get(cursor: &mut Cursor<'_, '_>, cx: &Context<'_>) -> Result<Command, TextError> {
    let mut addresses = Vec::new();
    let mut table = None;
    while let Some(word) = cursor.next() {
        match word.text {
            _ if word.is_option() => return Err(unknown_option(word)),
            // The route that matched is what we print anyway.
            "to" | "fibmatch" => {}
            "from" | "iif" | "oif" | "tos" | "dsfield" | "mark" | "vrf" | "uid" | "ipproto"
            | "sport" | "dport" | "notify" | "connected" => {
                return Err(TextError::new(
                    "route get",
                    word,
                    "the look-up is by destination and table only",
                    "addresses, and table ID",
                ));
            }
            text => match table_word(text, cursor, cx, &mut table)? {
                true => {}
                false => addresses.push(value::address_of("address", word, cx.family)?),
            },
        }
    }
    if addresses.is_empty() {
        return Err(cursor.missing("address", "route get ADDRESS would be right"));
    }
    Ok(Command::RouteGet(RouteGet {
        addresses,
        table: table.filter(|&id| id != 0).unwrap_or(TABLE_MAIN),
    }))
}

/// Takes `table ID`, also abbreviated.
pub(super) fn table_word(
    text: &str,
    cursor: &mut Cursor<'_, '_>,
    cx: &Context<'_>,
    table: &mut Option<u32>,
) -> Result<bool, TextError> {
    if text.is_empty() || !"table".starts_with(text) {
        return Ok(false);
    }
    let word = cursor.value("table", "table ID would be right")?;
    if table.replace(value::table(word, cx.names)?).is_some() {
        return Err(TextError::new("table", word, "given twice", "once would be right"));
    }
    Ok(true)
}

fn format(word: Word<'_>, allowed: &[Format]) -> Result<Format, TextError> {
    let found =
        Format::NAMES.iter().find(|(_, name)| *name == word.text).map(|&(format, _)| format);
    found.filter(|format| allowed.contains(format)).ok_or_else(|| {
        let names: Vec<&str> = allowed.iter().map(|format| format.name()).collect();
        TextError::new("--format", word, "not a format", format!("one of {}", names.join(", ")))
    })
}

fn peer_choice(word: Word<'_>) -> Result<PeerChoice, TextError> {
    if word.text == "best" {
        return Ok(PeerChoice::Best);
    }
    if let Ok(index) = word.text.parse() {
        return Ok(PeerChoice::Index(index));
    }
    parse_address(word.text).map(PeerChoice::Address).ok_or_else(|| {
        TextError::new("--peer", word, "not a peer", "best, its number (0 to 65535) or its address")
    })
}

fn route_load(cursor: &mut Cursor<'_, '_>, options: &Options) -> Result<Command, TextError> {
    let mut file: Option<Word<'_>> = None;
    let mut kind = Format::Auto;
    let (mut via, mut dev): (Option<IpAddr>, _) = (None, None);
    let mut spread: Option<Word<'_>> = None;
    let mut peer = PeerChoice::Best;
    let mut source = None;
    while let Some(word) = cursor.next() {
        if !word.is_option() {
            if file.replace(word).is_some() {
                return Err(TextError::new("file", word, "a second file", "one would be right"));
            }
            continue;
        }
        match option_name(word) {
            "--format" => {
                let value = option_value(word, cursor, "--format FORMAT would be right")?;
                kind = format(value, &Format::NAMES.map(|(format, _)| format))?;
            }
            "--via" => {
                let value = option_value(word, cursor, "--via GATEWAY would be right")?;
                via = Some(value::address("--via", value)?);
            }
            "--dev" => {
                let value = option_value(word, cursor, "--dev LINK would be right")?;
                dev = Some(value::link("--dev", value)?);
            }
            "--spread" => spread = Some(word),
            "--peer" => {
                let value = option_value(word, cursor, "--peer best, INDEX or ADDRESS")?;
                peer = peer_choice(value)?;
            }
            "--source" => {
                let value = option_value(word, cursor, "--source NAME would be right")?;
                source = Some(source_name(value)?.into());
            }
            _ => {
                return Err(unexpected(
                    "route load",
                    word,
                    "--format, --via, --dev, --spread, --peer, --atomic, --force, --source",
                ));
            }
        }
    }
    let Some(file) = file else {
        return Err(cursor.missing("file", "route load FILE, or - for standard input"));
    };
    let fixed = via.is_some() || dev.is_some();
    if let Some(word) = spread.filter(|_| fixed) {
        return Err(TextError::new(
            "--spread",
            word,
            "next hops are given already",
            "either --spread or --via and --dev",
        ));
    }
    let hops = if spread.is_some() {
        Some(LoadHops::Spread)
    } else {
        fixed.then_some(LoadHops::Fixed { via, dev })
    };
    Ok(Command::RouteLoad(RouteLoad {
        file: file.text.into(),
        format: kind,
        hops,
        peer,
        atomic: options.atomic,
        force: options.force,
        source,
    }))
}

fn route_save(cursor: &mut Cursor<'_, '_>) -> Result<Command, TextError> {
    let mut file: Option<Word<'_>> = None;
    let mut kind = Format::Batch;
    while let Some(word) = cursor.next() {
        if !word.is_option() {
            if file.replace(word).is_some() {
                return Err(TextError::new("file", word, "a second file", "one would be right"));
            }
        } else if option_name(word) == "--format" {
            let value = option_value(word, cursor, "--format batch|ip-dump would be right")?;
            kind = format(value, &[Format::Batch, Format::IpDump])?;
        } else {
            return Err(unexpected("route save", word, "--format"));
        }
    }
    let file = file.filter(|word| word.text != "-").map(|word| word.text.into());
    Ok(Command::RouteSave(RouteSave { file, format: kind }))
}

pub(super) fn neighbour_command(
    cursor: &mut Cursor<'_, '_>,
    cx: &Context<'_>,
) -> Result<Command, TextError> {
    let verb = match cursor.peek() {
        None => "show",
        Some(word) if word.is_option() => "show",
        Some(word) => {
            cursor.next();
            known(Object::Neighbour, word)?
        }
    };
    if cursor.peek().is_some_and(is_help) {
        return Ok(help(Object::Neighbour, Some(verb)));
    }
    let change = match verb {
        "add" => Verb::Add,
        "change" => Verb::Change,
        "replace" => Verb::Replace,
        "del" => Verb::Delete,
        "show" => {
            let selector = NeighbourSelector::read(cursor, cx, &mut |_, _| Ok(false))?;
            return Ok(Command::NeighbourShow(selector.or_states_shown()));
        }
        "flush" => {
            if cursor.peek().is_none() {
                return Err(cursor.missing(
                    "neigh flush",
                    "a selector like dev LINK or nud stale, or all, would be right",
                ));
            }
            let selector = NeighbourSelector::read(cursor, cx, &mut |_, _| Ok(false))?;
            return Ok(Command::NeighbourFlush(selector.or_states_flushed()));
        }
        _ => return Ok(help(Object::Neighbour, None)),
    };
    neighbour::neighbour(change, cursor, cx)
        .map(|spec| Command::Change(Change::Neighbour(change, spec)))
}
