//! Framing: a datagram, an FPM frame or a file is a row of messages, each with
//! a header of 16 bytes, each aligned to 4.
//!
//! ```text
//!  0 | length u32 (with this header)     | type u16      | flags u16      |
//!  8 | sequence u32                      | port id u32                    |
//! ```

use std::fmt;

use crate::{AddressMessage, Answer, LinkMessage, NeighbourMessage, NextHopMessage, RouteMessage};

/// Bytes of a message's header.
pub(crate) const HEADER_BYTES: usize = 16;

/// Message types (linux/netlink.h, linux/rtnetlink.h).
#[allow(missing_docs)] // Their names are the kernel's.
pub mod kind {
    pub const NOOP: u16 = 1;
    pub const ERROR: u16 = 2;
    pub const DONE: u16 = 3;
    pub const OVERRUN: u16 = 4;
    pub const NEWLINK: u16 = 16;
    pub const DELLINK: u16 = 17;
    pub const GETLINK: u16 = 18;
    pub const NEWADDR: u16 = 20;
    pub const DELADDR: u16 = 21;
    pub const GETADDR: u16 = 22;
    pub const NEWROUTE: u16 = 24;
    pub const DELROUTE: u16 = 25;
    pub const GETROUTE: u16 = 26;
    pub const NEWNEIGH: u16 = 28;
    pub const DELNEIGH: u16 = 29;
    pub const GETNEIGH: u16 = 30;
    pub const NEWNEXTHOP: u16 = 104;
    pub const DELNEXTHOP: u16 = 105;
    pub const GETNEXTHOP: u16 = 106;
}

/// `NLM_F_` flags.
pub mod flag {
    /// A request.
    pub const REQUEST: u16 = 0x01;
    /// One of several, which a DONE ends.
    pub const MULTI: u16 = 0x02;
    /// Asks for an answer in any case.
    pub const ACK: u16 = 0x04;
    /// What was dumped changed meanwhile.
    pub const DUMP_INTR: u16 = 0x10;
    /// A dump's filter was heeded.
    pub const DUMP_FILTERED: u16 = 0x20;
    /// In a GET request: everything.
    pub const DUMP: u16 = 0x300;
    /// In a NEW message: replaces one.
    pub const REPLACE: u16 = 0x100;
    /// In a NEW message: there must be none.
    pub const EXCL: u16 = 0x200;
    /// In a NEW message: made if there is none.
    pub const CREATE: u16 = 0x400;
    /// In a NEW message: behind equal ones.
    pub const APPEND: u16 = 0x800;
    /// In an ERROR or DONE: the request isn't repeated in it.
    pub const CAPPED: u16 = 0x100;
    /// In an ERROR or DONE: attributes follow (the error in words, ….).
    pub const ACK_TLVS: u16 = 0x200;
}

/// A message whose bytes can't be what they claim to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// Where in the bytes given.
    pub at: usize,
    /// What is wrong.
    pub why: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.at, self.why)
    }
}

impl std::error::Error for Malformed {}

/// One message: its header, and the bytes behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// One of [`kind`].
    pub kind: u16,
    /// Bits of [`flag`].
    pub flags: u16,
    /// What the request was numbered with.
    pub sequence: u32,
    /// Whose request this answers; 0 in events.
    pub port: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// The messages in `bytes`; after an error there is no further one.
pub fn messages(bytes: &[u8]) -> Messages<'_> {
    Messages { bytes, at: 0 }
}

/// See [`messages`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Result<Message<'a>, Malformed>> {
        let at = self.at;
        let rest = &self.bytes[at..];
        if rest.is_empty() {
            return None;
        }
        self.at = self.bytes.len();
        let Some((header, _)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            return Some(Err(Malformed { at, why: "a message's header is cut off" }));
        };
        let len = u32_at(header, 0) as usize;
        if len < HEADER_BYTES || len > rest.len() {
            let why = "a message's length is below its header's or beyond the end";
            return Some(Err(Malformed { at, why }));
        }
        self.at = (at + len.next_multiple_of(4)).min(self.bytes.len());
        Some(Ok(Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32_at(header, 8),
            port: u32_at(header, 12),
            body: &rest[HEADER_BYTES..len],
        }))
    }
}

#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => u32::from_ne_bytes([a, b, c, d]),
        _ => 0,
    }
}

#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at + 2) {
        Some(&[a, b]) => u16::from_ne_bytes([a, b]),
        _ => 0,
    }
}

/// What a message is about.
#[derive(Clone, Debug)]
pub enum Body<'a> {
    /// NEWROUTE, DELROUTE.
    Route(RouteMessage<'a>),
    /// NEWNEXTHOP, DELNEXTHOP.
    NextHop(NextHopMessage<'a>),
    /// NEWNEIGH, DELNEIGH.
    Neighbour(NeighbourMessage<'a>),
    /// NEWLINK, DELLINK.
    Link(LinkMessage<'a>),
    /// NEWADDR, DELADDR.
    Address(AddressMessage),
    /// ERROR and DONE.
    Answer(Answer<'a>),
    /// Anything else, which is none of ours.
    Other,
}

impl<'a> Body<'a> {
    /// What stands in a message. Attributes that are not understood are no
    /// error; bytes that can't be attributes are.
    #[inline]
    pub fn decode(message: Message<'a>) -> Result<Body<'a>, Malformed> {
        let gone = message.kind & 3 == 1; // NEW, DEL, GET, SET in fours.
        Ok(match message.kind {
            kind::NEWROUTE | kind::DELROUTE => Body::Route(RouteMessage::decode(message, gone)?),
            kind::NEWNEXTHOP | kind::DELNEXTHOP => {
                Body::NextHop(NextHopMessage::decode(message, gone)?)
            }
            kind::NEWNEIGH | kind::DELNEIGH => {
                Body::Neighbour(NeighbourMessage::decode(message, gone)?)
            }
            kind::NEWLINK | kind::DELLINK => Body::Link(LinkMessage::decode(message, gone)?),
            kind::NEWADDR | kind::DELADDR => Body::Address(AddressMessage::decode(message, gone)?),
            kind::ERROR | kind::DONE => Body::Answer(Answer::decode(message)?),
            _ => Body::Other,
        })
    }
}
