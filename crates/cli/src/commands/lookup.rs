//! `rtm lookup`: the longest prefix match, in the daemon's shared memory.
//!
//! One connection is made to get the image; after that no lookup asks the
//! daemon anything. If the tables move into a larger object, or the daemon is
//! started anew, the image is attached again. If the daemon is gone its last
//! table answers, and that is said once.

use std::io::{self, BufRead, BufReader};
use std::net::IpAddr;

use rtm_client::{Reader, WriterState};
use rtm_model::text::{Extra, Heading, Lookup, LookupInput, Printer};
use rtm_model::{HopFlags, Route, RouteType, parse_address};
use serde_json::{Map, Value};

use super::route_get;
use crate::env::Env;
use crate::failure::{Failure, REFUSED, Result, USAGE};
use crate::mapped::{self, ImageNames, busy};
use crate::output::{JsonArray, say};

/// After so many lookups it is looked whether the daemon still writes.
const LOOK_EVERY: u64 = 4096;

pub(crate) fn run(env: &mut Env<'_>, lookup: &Lookup) -> Result<()> {
    let image = mapped::attach(env)?;
    let mut looker = Looker { image, table: lookup.table, looked: 0, said: false };
    match &lookup.input {
        LookupInput::Addresses(addresses) => of_arguments(env, &mut looker, addresses),
        LookupInput::Stdin if lookup.json_fields.is_empty() => of_lines(env, &mut looker),
        LookupInput::Stdin => of_json(env, &mut looker, &lookup.json_fields),
    }
}

struct Looker {
    image: Reader,
    table: u32,
    looked: u64,
    /// That the daemon is gone was said.
    said: bool,
}

impl Looker {
    fn look_up(&mut self, env: &mut Env<'_>, address: IpAddr) -> Result<Option<Route>> {
        if self.image.writer_moved() || self.looked % LOOK_EVERY == LOOK_EVERY - 1 {
            self.refresh(env);
        }
        self.looked += 1;
        self.image.lookup_route(self.table, address).map_err(busy)
    }

    /// Attaches the newest image, if this one isn't it.
    fn refresh(&mut self, env: &mut Env<'_>) {
        let state = self.image.writer();
        if matches!(state, Ok(WriterState::Live)) {
            return;
        }
        if !matches!(state, Ok(WriterState::Moved { .. })) {
            // Another daemon, on another connection.
            env.forget();
        }
        match mapped::attach(env) {
            Ok(image) => {
                self.image = image;
                self.said = false;
            }
            Err(_) if self.said => {}
            Err(_) => {
                self.said = true;
                say("rtm: lookup: the daemon is gone; its last table answers");
            }
        }
    }
}

fn of_arguments(env: &mut Env<'_>, looker: &mut Looker, addresses: &[IpAddr]) -> Result<()> {
    let mut json = env.options.json.then(|| JsonArray::new(env.options.pretty));
    let mut unreachable = false;
    for &address in addresses {
        let route = looker.look_up(env, address)?;
        unreachable |= route.is_none();
        let printer = env.printer();
        let names = ImageNames(&looker.image);
        route_get::print(&printer, &mut json, &names, address, route.as_ref(), &mut env.out)?;
    }
    if let Some(json) = json {
        json.end(&mut env.out)?;
    }
    if unreachable { Err(Failure::Quiet(REFUSED)) } else { Ok(()) }
}

/// Lines of standard input, answered as they come: what is there is answered
/// before more is waited for.
fn each_line(
    env: &mut Env<'_>,
    mut answer: impl FnMut(&mut Env<'_>, &str, u64) -> Result<()>,
) -> Result<()> {
    let mut input = BufReader::with_capacity(64 * 1024, io::stdin().lock());
    let mut bytes = Vec::new();
    let mut number = 0;
    loop {
        if !input.buffer().contains(&b'\n') {
            env.out.flush()?;
        }
        bytes.clear();
        let count = input
            .read_until(b'\n', &mut bytes)
            .map_err(|error| crate::failure::file_error("standard input", &error))?;
        if count == 0 {
            return Ok(());
        }
        number += 1;
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim();
        if !line.is_empty() {
            answer(env, line, number)?;
        }
    }
}

fn of_lines(env: &mut Env<'_>, looker: &mut Looker) -> Result<()> {
    let (mut unreachable, mut wrong) = (false, false);
    each_line(env, |env, line, number| {
        let Some(address) = parse_address(line) else {
            wrong = true;
            env.out.flush()?;
            say(format_args!(
                "rtm: lookup: line {number}: {}: not an IP address; like 10.1.1.1 or 2001:db8::1",
                line.escape_debug()
            ));
            return Ok(());
        };
        let route = looker.look_up(env, address)?;
        unreachable |= route.is_none();
        let printer = env.printer();
        let names = ImageNames(&looker.image);
        if env.options.json {
            let value = object(&printer, &names, address, route.as_ref())?;
            return Ok(env.out.json(&value, false)?);
        }
        route_get::print(&printer, &mut None, &names, address, route.as_ref(), &mut env.out)
    })?;
    match (wrong, unreachable) {
        (true, _) => Err(Failure::Quiet(USAGE)),
        (_, true) => Err(Failure::Quiet(REFUSED)),
        _ => Ok(()),
    }
}

/// An answer as a line of JSON: what an array of `route get` has as an entry.
fn object(
    printer: &Printer<'_>,
    names: &ImageNames<'_>,
    address: IpAddr,
    route: Option<&Route>,
) -> Result<Value> {
    let mut value = Map::new();
    value.insert("address".to_owned(), address.to_string().into());
    let mut text = String::new();
    if let Some(route) = route {
        let mut json = rtm_model::text::JsonWriter::in_array(&mut text, false, true);
        let extra = Extra { details: printer.details, ..Extra::default() };
        printer
            .route_json(&mut json, &route.key, &route.value, names, &Heading::default(), &extra)
            .map_err(io::Error::other)?;
    }
    let route = serde_json::from_str(text.trim()).unwrap_or(Value::Null);
    value.insert("route".to_owned(), route);
    Ok(Value::Object(value))
}

/// JSON lines, each with what was found for the fields that are named.
fn of_json(env: &mut Env<'_>, looker: &mut Looker, fields: &[Box<str>]) -> Result<()> {
    let mut wrong = false;
    each_line(env, |env, line, number| {
        let mut object: Map<String, Value> = match serde_json::from_str(line) {
            Ok(object) => object,
            Err(error) => {
                wrong = true;
                env.out.flush()?;
                say(format_args!(
                    "rtm: lookup: line {number}: {error}; one JSON object a line would be right"
                ));
                return Ok(());
            }
        };
        for field in fields {
            let Some(value) = object.get(&**field) else { continue };
            let Some(address) = value.as_str().and_then(parse_address) else {
                if !value.is_null() {
                    wrong = true;
                    env.out.flush()?;
                    say(format_args!(
                        "rtm: lookup: line {number}: {field}: {value}: not an IP address"
                    ));
                }
                continue;
            };
            let route = looker.look_up(env, address)?;
            add(&mut object, field, route.as_ref(), &looker.image)?;
        }
        Ok(env.out.json(&Value::Object(object), false)?)
    })?;
    if wrong { Err(Failure::Quiet(USAGE)) } else { Ok(()) }
}

/// `FIELD_prefix`, `FIELD_gateway`, `FIELD_oif`, and `FIELD_type` for what isn't
/// unicast. No route: the prefix is null. Of several next hops it is the first
/// that isn't dead.
fn add(
    object: &mut Map<String, Value>,
    field: &str,
    route: Option<&Route>,
    image: &Reader,
) -> Result<()> {
    let mut set = |what: &str, value: Value| object.insert(format!("{field}_{what}"), value);
    let Some(route) = route else {
        set("prefix", Value::Null);
        return Ok(());
    };
    set("prefix", route.key.prefix.to_string().into());
    if route.value.kind != RouteType::Unicast {
        set("type", route.value.kind.name().into());
    }
    let group = image.group(route.value.group).map_err(busy)?;
    let hops = group.as_ref().map_or(&[][..], |group| &group.hops);
    let hop = hops.iter().find(|hop| !hop.flags.contains(HopFlags::DEAD)).or(hops.first());
    let gateway = hop.and_then(|hop| hop.gateway);
    set("gateway", gateway.map_or(Value::Null, |gateway| gateway.to_string().into()));
    let link = match hop.and_then(|hop| hop.link) {
        Some(id) => image.link(id).map_err(busy)?,
        None => None,
    };
    set("oif", link.map_or(Value::Null, |link| link.name.to_string().into()));
    Ok(())
}
