//! `rtm route get`: the longest prefix match, by the daemon.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtm_client::{Item, ItemKind};
use rtm_model::text::{Extra, Heading, Printer, Resolve, RouteGet};
use rtm_model::{Entity, Route};

use crate::env::Env;
use crate::failure::{Failure, REFUSED, Result};
use crate::output::{JsonArray, Out};
use crate::resolve::Known;

pub(crate) fn run(env: &mut Env<'_>, get: &RouteGet) -> Result<()> {
    let mut line = String::from("route get");
    for address in &get.addresses {
        line.push_str(&format!(" {address}"));
    }
    line.push_str(&format!(" table {}", get.table));
    let mut answers = Answers {
        printer: env.printer(),
        json: None,
        known: Known::default(),
        asked: None,
        unreachable: false,
    };
    if env.options.json {
        answers.json = Some(JsonArray::new(env.options.pretty));
    }
    let done = env.ask_any(&line, &mut |item, out| answers.item(&item, out))?;
    answers.close(&mut env.out)?;
    let unreachable = answers.unreachable;
    if let Some(json) = answers.json {
        json.end(&mut env.out)?;
    }
    // That an address has no route was said in its place.
    if unreachable && matches!(done.code, 0 | 2) {
        return Err(Failure::Quiet(REFUSED));
    }
    crate::env::succeeded(done)?;
    Ok(())
}

struct Answers<'n> {
    printer: Printer<'n>,
    json: Option<JsonArray>,
    known: Known,
    /// The address whose answer is awaited.
    asked: Option<IpAddr>,
    unreachable: bool,
}

impl Answers<'_> {
    fn item(&mut self, item: &Item<'_>, out: &mut Out) -> Result<()> {
        if item.kind == ItemKind::Address {
            self.close(out)?;
            self.asked = Some(address(item.body)?);
            return Ok(());
        }
        if let Some(Entity::Route(route)) = self.known.entity(item)? {
            if let Some(address) = self.asked.take() {
                self.print(address, Some(&route), out)?;
            }
        }
        Ok(())
    }

    /// The address at hand, if there is one, has no route.
    fn close(&mut self, out: &mut Out) -> Result<()> {
        let Some(address) = self.asked.take() else { return Ok(()) };
        self.unreachable = true;
        self.print(address, None, out)
    }

    fn print(&mut self, address: IpAddr, route: Option<&Route>, out: &mut Out) -> Result<()> {
        print(&self.printer, &mut self.json, &self.known, address, route, out)
    }
}

/// One answer: the address and the route's line, or an entry of an array.
pub(super) fn print(
    printer: &Printer<'_>,
    json: &mut Option<JsonArray>,
    names: &dyn Resolve,
    address: IpAddr,
    route: Option<&Route>,
    out: &mut Out,
) -> Result<()> {
    let extra = Extra { details: printer.details, ..Extra::default() };
    let heading = Heading::default();
    if let Some(json) = json {
        return Ok(json.entry(out, |json| {
            json.begin_object()?;
            json.field_address("address", address)?;
            json.name("route")?;
            match route {
                Some(Route { key, value }) => {
                    printer.route_json(json, key, value, names, &heading, &extra)?;
                }
                None => json.null()?,
            }
            json.end_object()
        })?);
    }
    let Some(Route { key, value }) = route else {
        return Ok(out.line(format_args!("{address} unreachable"))?);
    };
    out.text(&format!("{address} "))?;
    let mut buffer = out.buffer();
    printer
        .route(&mut buffer, key, value, names, &heading, &extra)
        .map_err(std::io::Error::other)?;
    Ok(out.spill()?)
}

/// An item that names an address: family, padding, 16 bytes.
fn address(body: &[u8]) -> Result<IpAddr> {
    let wrong = || Failure::refused("the daemon's answer is no address");
    let bytes = body.get(8..24).ok_or_else(wrong)?;
    match body[0] {
        4 => {
            let octets: [u8; 4] = bytes[..4].try_into().map_err(|_| wrong())?;
            Ok(IpAddr::V4(Ipv4Addr::from(octets)))
        }
        6 => {
            let octets: [u8; 16] = bytes.try_into().map_err(|_| wrong())?;
            Ok(IpAddr::V6(Ipv6Addr::from(octets)))
        }
        _ => Err(wrong()),
    }
}
