//! The binary of `ip route save`, read and written.
//!
//! ```text
//!   0 | magic 0x45311224 u32 | NEWROUTE messages of rtnetlink, one behind another
//! ```
//!
//! All numbers are in the byte order of the machine that wrote it, and links
//! are that host's ifindexes: whoever knows the host gives them names. Of
//! routes with one key the second and following have been appended; a dump
//! lists them in their order.
//!
//! A route by way of a next-hop object is taken with its next hops, which the
//! kernel lists beside the object's number: the object itself is in no dump.

use std::io::Read;

use rtm_model::{Change, Hops, LinkName, LinkRef, RouteKey, RouteSpec, RouteType, Verb};
use rtm_netlink::{Body, Builder, RouteMessage, RouteSkip, Unencodable, flag, messages};

use crate::error::{At, ErrorKind, FileError};
use crate::lines::Lines;
use crate::reader::Item;

/// What the file begins with (iproute2, ip/iproute.c: `route_dump_magic`).
const MAGIC: u32 = 0x4531_1224;

/// The most bytes of one message: an attribute can say no more.
const MESSAGE_BYTES_MAX: usize = 128 * 1024;

/// A message's header, of which the first four bytes are its length.
const HEADER_BYTES: usize = 16;

/// A dump that is being read.
#[derive(Debug, Default)]
pub(crate) struct IpDump {
    begun: bool,
    /// The last route's key and ordinal.
    last: Option<RouteKey>,
    message: Vec<u8>,
}

impl IpDump {
    /// The next route; `None` at the end.
    pub(crate) fn next<R: Read>(
        &mut self,
        lines: &mut Lines<R>,
        link_name: &mut dyn FnMut(u32) -> Option<LinkName>,
    ) -> Result<Option<Item>, FileError> {
        if !self.begun {
            self.magic(lines)?;
        }
        loop {
            let Some(at) = self.message(lines)? else { return Ok(None) };
            let at = At::Byte(at);
            let corrupt = |why: &str| FileError {
                at,
                kind: ErrorKind::Corrupt { what: "ip-dump", why: why.to_owned() },
            };
            let Some(message) = messages(&self.message).next() else { continue };
            let body = message.and_then(Body::decode).map_err(|error| corrupt(error.why))?;
            let Body::Route(route) = body else { continue };
            if route.gone {
                continue;
            }
            match spec_of(route) {
                Ok(mut spec) => {
                    spec.ordinal = self.ordinal(&spec);
                    name_links(&mut spec.hops, link_name);
                    return Ok(Some(Item { at, change: Change::Route(Verb::Replace, spec) }));
                }
                Err(None) => {}
                Err(Some(why)) => {
                    return Err(FileError { at, kind: ErrorKind::Entry(why.to_owned()) });
                }
            }
        }
    }

    fn magic<R: Read>(&mut self, lines: &mut Lines<R>) -> Result<(), FileError> {
        self.begun = true;
        self.message.clear();
        let whole = lines.take(4, &mut self.message)?;
        let wrong =
            |why: &str| FileError { at: At::Byte(0), kind: ErrorKind::Unusable(why.to_owned()) };
        match <[u8; 4]>::try_from(&self.message[..]) {
            Ok(bytes) if u32::from_ne_bytes(bytes) == MAGIC => Ok(()),
            Ok(bytes) if u32::from_ne_bytes(bytes).swap_bytes() == MAGIC => Err(wrong(
                "a dump of 'ip route save' from a machine of the other byte order; one of this byte order would be right",
            )),
            Err(_) if !whole && self.message.is_empty() => Ok(()),
            _ => Err(wrong("no dump of 'ip route save'; one that it wrote would be right")),
        }
    }

    /// Reads a whole message into `self.message`; gives its first byte's place.
    fn message<R: Read>(&mut self, lines: &mut Lines<R>) -> Result<Option<u64>, FileError> {
        let at = lines.position();
        let cut = |error: FileError| FileError { at: At::Byte(at), kind: error.kind };
        let wrong = |kind| FileError { at: At::Byte(at), kind };
        self.message.clear();
        if !lines.take(HEADER_BYTES, &mut self.message).map_err(cut)? {
            let empty = self.message.is_empty();
            return if empty { Ok(None) } else { Err(wrong(ErrorKind::Unfinished)) };
        }
        let length = self.message.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        let length = length as usize;
        if length < HEADER_BYTES {
            let why = "a message's length is below its header's".to_owned();
            return Err(wrong(ErrorKind::Corrupt { what: "ip-dump", why }));
        }
        if length > MESSAGE_BYTES_MAX {
            return Err(wrong(ErrorKind::TooLong { bytes_max: MESSAGE_BYTES_MAX }));
        }
        if !lines.take(length - HEADER_BYTES, &mut self.message).map_err(cut)? {
            return Err(wrong(ErrorKind::Unfinished));
        }
        // Behind the last message the padding may be missing.
        lines.take(length.next_multiple_of(4) - length, &mut Vec::new()).map_err(cut)?;
        Ok(Some(at))
    }

    /// Which of several with its key this route is.
    fn ordinal(&mut self, spec: &RouteSpec) -> Option<u16> {
        let key = RouteKey {
            table: spec.table,
            prefix: spec.prefix,
            tos: spec.tos,
            metric: spec.metric.unwrap_or_default(),
            ordinal: 0,
        };
        let again = self.last.filter(|last| RouteKey { ordinal: 0, ..*last } == key);
        let ordinal = again.map_or(0, |last| last.ordinal.saturating_add(1));
        self.last = Some(RouteKey { ordinal, ..key });
        Some(ordinal)
    }
}

/// Links by name instead of by number.
fn name_links(hops: &mut Hops, link_name: &mut dyn FnMut(u32) -> Option<LinkName>) {
    let hops = match hops {
        Hops::None | Hops::Named(_) => &mut [],
        Hops::One(hop) => std::slice::from_mut(hop),
        Hops::Many(hops) => &mut hops[..],
    };
    for hop in hops {
        if let Some(LinkRef::Ifindex(index)) = hop.link {
            let name = link_name(index).or_else(|| format!("if{index}").parse().ok());
            hop.link = name.map(LinkRef::Name);
        }
    }
}

/// The route of a message; `None`: none that a table has.
fn spec_of(mut route: RouteMessage<'_>) -> Result<RouteSpec, Option<&'static str>> {
    let object = std::mem::replace(&mut route.nhid, 0);
    let spec = route.spec().map_err(|skip| match skip {
        RouteSkip::Cloned | RouteSkip::Family => None,
        RouteSkip::SourcePrefix => {
            Some("a route for some sources only; one for all would be right")
        }
        RouteSkip::Type => Some("a route of a type that nobody knows"),
        RouteSkip::Limits => Some("a route with a wrong prefix, or more than a table can hold"),
    })?;
    let wants = spec.kind.unwrap_or(RouteType::Unicast).wants_next_hop();
    if object != 0 && spec.hops == Hops::None && wants {
        return Err(Some("a route by way of a next-hop object, which no dump has"));
    }
    Ok(spec)
}

/// Writes a dump that `ip route restore` takes: [`IpDumpWriter::HEAD`], then
/// the bytes of each route.
#[derive(Debug, Default)]
pub struct IpDumpWriter {
    message: Builder,
}

impl IpDumpWriter {
    /// What a dump begins with.
    pub const HEAD: [u8; 4] = MAGIC.to_ne_bytes();

    /// The bytes of one route, whose next hops must name their links by number.
    ///
    /// # Errors
    /// It can't be written as a message.
    pub fn route(&mut self, spec: &RouteSpec) -> Result<&[u8], Unencodable> {
        self.message.clear();
        RouteMessage::encode(&mut self.message, flag::MULTI, 0, spec)?;
        Ok(self.message.bytes())
    }
}
