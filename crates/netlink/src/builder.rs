//! Writes messages: header, body, attributes, nested ones; lengths are filled
//! in when a message or nest ends.

use std::net::IpAddr;

use crate::message::HEADER_BYTES;

/// Messages as they are sent; may be reused.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    bytes: Vec<u8>,
    /// Where the open message began.
    begin: usize,
}

/// A nest that is open: given back to [`Builder::end_nest`].
#[derive(Debug)]
#[must_use]
pub struct Nest(usize);

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

impl Builder {
    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Is there nothing?
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets what was written, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Forgets what was written behind the first `len` bytes: a message that
    /// turned out impossible.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Opens a message with the fixed part of its body.
    pub fn begin(&mut self, kind: u16, flags: u16, sequence: u32, fixed: &[u8]) {
        self.begin_from(kind, flags, sequence, 0, fixed);
    }

    /// As [`Builder::begin`], with a port id (FPM's frames have one).
    pub fn begin_from(&mut self, kind: u16, flags: u16, sequence: u32, port: u32, fixed: &[u8]) {
        self.pad();
        self.begin = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&port.to_ne_bytes());
        debug_assert_eq!(self.bytes.len() - self.begin, HEADER_BYTES);
        self.bytes.extend_from_slice(fixed);
        self.pad();
    }

    /// Ends the open message.
    pub fn end(&mut self) {
        self.pad();
        let len = (self.bytes.len() - self.begin) as u32;
        self.bytes[self.begin..self.begin + 4].copy_from_slice(&len.to_ne_bytes());
    }

    /// An attribute.
    pub fn attribute(&mut self, number: u16, value: &[u8]) {
        let len = (value.len() + 4) as u16;
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&number.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// A number of 32 bits.
    pub fn u32(&mut self, number: u16, value: u32) {
        self.attribute(number, &value.to_ne_bytes());
    }

    /// An address.
    pub fn address(&mut self, number: u16, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.attribute(number, &address.octets()),
            IpAddr::V6(address) => self.attribute(number, &address.octets()),
        }
    }

    /// Opens an attribute that holds others.
    pub fn nest(&mut self, number: u16) -> Nest {
        let nest = Nest(self.bytes.len());
        self.attribute(number | NESTED, &[]);
        nest
    }

    /// Opens an attribute without the mark of a nested one, as old ones
    /// (`RTA_MULTIPATH`) have it.
    pub fn plain_nest(&mut self, number: u16) -> Nest {
        let nest = Nest(self.bytes.len());
        self.attribute(number, &[]);
        nest
    }

    /// Closes it. False: it is longer than an attribute can say.
    pub fn end_nest(&mut self, nest: Nest) -> bool {
        self.end_at(nest.0)
    }

    /// Bytes that are neither header nor attribute (`rtnexthop`), whose first
    /// two are their length: closed by [`Builder::end_nest`] as well.
    pub(crate) fn open_raw(&mut self, bytes: &[u8]) -> Nest {
        let nest = Nest(self.bytes.len());
        self.bytes.extend_from_slice(bytes);
        nest
    }

    fn end_at(&mut self, at: usize) -> bool {
        let Ok(len) = u16::try_from(self.bytes.len() - at) else { return false };
        self.bytes[at..at + 2].copy_from_slice(&len.to_ne_bytes());
        true
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
