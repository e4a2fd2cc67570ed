//! The frames of `docs/wire.md`, to bytes and back.
//!
//! A connection is a sequence of frames in each direction. [`Frame::split`]
//! cuts the next one off received bytes; [`ClientFrame`] is what a client
//! sends, [`DaemonFrame`] what the daemon sends, and both borrow from the bytes
//! that they were decoded from. Records, of which there are millions, have a
//! path of their own ([`records`]): a header test and two loads, no copy, no
//! allocation.
//!
//! ```text
//!   0 | length u32, with header    | type u16    | flags u16  |
//!   8 | body ...                                              |
//! ```
//!
//! Why it is right to be strict: whatever isn't exactly what the page draws is
//! an error that names the frame and the fault, and ends that session only.
//! Nothing here trusts a length: it is compared with what is there before
//! anything is read or reserved. What may come later has its two doors: a frame
//! type without [`MUST_UNDERSTAND`] is skipped by who doesn't know it, and so
//! is an unknown type-length-value behind a fixed part. Fields drawn as zero are
//! sent as 0 and not looked at.

mod bytes;
mod change;
mod client;
mod daemon;
mod descriptor;
mod item;
pub mod records;
mod signal;

use std::fmt;

pub use change::{CHANGE_FRAME_BYTES_MAX, decode_change, encode_change};
pub(crate) use change::{decode_change_into, no_change};
pub use client::{ClientFrame, Hello, LoadFlags, NAME_BYTES_MAX, Subscribe, SubscribeMode};
pub use daemon::{DaemonFrame, Done, GoodbyeReason, RejectedBy, Role, Welcome};
pub(crate) use daemon::{END_BYTES, MARK_BYTES};
pub use descriptor::DescriptorKind;
pub use item::{ItemFlags, ItemKind};
pub use signal::SignalWay;

/// What every HELLO and WELCOME begins with.
pub const MAGIC: [u8; 8] = *b"rtm-wire";

/// The newest version of the protocol that this library speaks.
pub const VERSION: u16 = 1;

/// The oldest one that it still understands.
pub const VERSION_LOWEST: u16 = 1;

/// Bytes of a frame's header; also what every frame's length is a multiple of.
pub const HEADER_BYTES: usize = 8;

/// The largest frame that a side may send before the other side's HELLO or
/// WELCOME named a limit: enough for the greetings, little for a stranger.
pub const GREETING_BYTES_MAX: usize = 4096;

/// The largest frame of the daemon's, unless configured (`frame_bytes_max`).
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// The smallest limit on frames that a side may name: the largest record (a
/// group of 512 next hops: 12,320 bytes) must fit.
pub const FRAME_BYTES_MIN: usize = 16 * 1024;

/// Who doesn't know this frame's type must end the session.
pub const MUST_UNDERSTAND: u16 = 1;

/// This record is the last of its transaction.
pub const LAST: u16 = 2;

/// Feature bit of HELLO: marks that ask are answered with ACK. A barrier waits
/// only for sessions that have it.
pub const FEATURE_ACK: u64 = 1;

/// Feature bit of HELLO: changes that were rejected are told
/// ([`DaemonFrame::Rejected`]).
pub const FEATURE_REJECTED: u64 = 2;

/// Feature bit of HELLO: the client can answer a challenge
/// ([`DaemonFrame::Challenge`]).
pub const FEATURE_PROVE: u64 = 4;

/// Feature bit of WELCOME: a challenge follows.
pub const FEATURE_CHALLENGE: u64 = 1;

/// The numbers of the frame types.
pub mod frame_type {
    /// Client: the first frame.
    pub const HELLO: u16 = 0x01;
    /// Client: begin to follow.
    pub const SUBSCRIBE: u16 = 0x02;
    /// Client: the answer to a MARK that asks.
    pub const ACK: u16 = 0x03;
    /// Client: a digest differed.
    pub const RESYNC: u16 = 0x04;
    /// Client: the last frame.
    pub const CLIENT_GOODBYE: u16 = 0x05;
    /// Client: the answer to a HEARTBEAT.
    pub const CLIENT_HEARTBEAT: u16 = 0x06;
    /// Client: asks for a descriptor.
    pub const WANT: u16 = 0x07;
    /// Client: it is synchronised, and wants to be signalled at a whole flush.
    pub const REGISTER: u16 = 0x08;
    /// Client: the answer to a challenge.
    pub const PROOF: u16 = 0x09;
    /// Client: one line of the grammar.
    pub const REQUEST: u16 = 0x10;
    /// Client: begins a stream of changes.
    pub const LOAD: u16 = 0x11;
    /// Client: one change of that stream.
    pub const CHANGE: u16 = 0x12;
    /// Client: ends it.
    pub const LOAD_END: u16 = 0x13;
    /// Client: an answer is no longer wanted.
    pub const CANCEL: u16 = 0x14;
    /// Daemon: the answer to HELLO.
    pub const WELCOME: u16 = 0x81;
    /// Daemon: what follows is no sequence of transactions, until END.
    pub const BEGIN: u16 = 0x82;
    /// Daemon: the state is exactly this revision.
    pub const END: u16 = 0x83;
    /// Daemon: compare here.
    pub const MARK: u16 = 0x84;
    /// Daemon: are you there?
    pub const HEARTBEAT: u16 = 0x85;
    /// Daemon: the last frame.
    pub const GOODBYE: u16 = 0x86;
    /// Daemon: the answer to WANT; a descriptor goes with it, or none.
    pub const DESCRIPTOR: u16 = 0x87;
    /// Daemon: the answer to REGISTER.
    pub const REGISTERED: u16 = 0x88;
    /// Daemon: prove that you know the secret.
    pub const CHALLENGE: u16 = 0x89;
    /// Daemon: the proof was right.
    pub const PROVEN: u16 = 0x8a;
    /// Daemon: an entity is now this; + its kind.
    pub const SET: u16 = 0x90;
    /// Daemon: in mode `keys`, a MAC address has a value, or another one.
    pub const SET_KEY: u16 = 0x96;
    /// Daemon: an entity is gone; + its kind.
    pub const DELETE: u16 = 0xa0;
    /// Daemon: in mode `keys`, a MAC address has no value any more.
    pub const DELETE_KEY: u16 = 0xa6;
    /// Daemon: a whole flush.
    pub const FLUSH: u16 = 0xb0;
    /// Daemon: a piece of an answer.
    pub const ITEM: u16 = 0xc0;
    /// Daemon: the end of an answer.
    pub const DONE: u16 = 0xc1;
    /// Daemon: somebody's change was rejected, to who asked to be told.
    pub const REJECTED: u16 = 0xc2;
}

/// Why bytes are no frames of this protocol. Each ends the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WireError {
    /// A length under 8 or not a multiple of 8.
    Length {
        /// The length that stands there.
        bytes: u32,
    },
    /// A frame over the limit that was named.
    TooLong {
        /// The length that stands there.
        bytes: u32,
        /// The limit.
        limit: usize,
    },
    /// A type that must be understood and isn't.
    Unknown {
        /// The type.
        frame_type: u16,
    },
    /// A frame whose inside is wrong.
    Frame {
        /// The type.
        frame_type: u16,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A frame that may not come here.
    Unexpected {
        /// The type.
        frame_type: u16,
        /// What would have been right.
        why: &'static str,
    },
    /// Not this protocol at all.
    Magic,
    /// No version that both sides speak.
    Version {
        /// The newest that the other side speaks.
        newest: u16,
        /// The oldest.
        lowest: u16,
    },
    /// A client of `classic.sock` said something else than REGISTER or GOODBYE.
    ClassicOp {
        /// What stands there.
        op: i32,
    },
    /// A client of `classic.sock` ended inside a structure.
    ClassicShort {
        /// Bytes of it that came.
        bytes: usize,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Length { bytes } => {
                write!(f, "a frame of {bytes} bytes; at least 8 and a multiple of 8 would be right")
            }
            WireError::TooLong { bytes, limit } => {
                write!(f, "a frame of {bytes} bytes; at most {limit} are possible here")
            }
            WireError::Unknown { frame_type } => {
                write!(f, "frame type {frame_type:#04x} must be understood, but isn't")
            }
            WireError::Frame { frame_type, why } => {
                write!(f, "{}: {why}", name_of(*frame_type))
            }
            WireError::Unexpected { frame_type, why } => {
                write!(f, "{} out of place; {why}", name_of(*frame_type))
            }
            WireError::Magic => f.write_str("not the rtm protocol: wrong magic"),
            WireError::Version { newest, lowest } => write!(
                f,
                "the other side speaks versions {lowest} to {newest}; {VERSION_LOWEST} to {VERSION} would be right"
            ),
            WireError::ClassicOp { op } => {
                write!(f, "classic: op {op}; 0 (REGISTER) or 1 (GOODBYE) would be right")
            }
            WireError::ClassicShort { bytes } => {
                write!(f, "classic: it ended after {bytes} bytes of a structure; 8 would be right")
            }
        }
    }
}

impl std::error::Error for WireError {}

/// A frame type's name on the page, for messages.
pub fn name_of(frame_type: u16) -> &'static str {
    use self::frame_type as t;
    match frame_type {
        t::HELLO => "HELLO",
        t::SUBSCRIBE => "SUBSCRIBE",
        t::ACK => "ACK",
        t::RESYNC => "RESYNC",
        t::CLIENT_GOODBYE | t::GOODBYE => "GOODBYE",
        t::CLIENT_HEARTBEAT | t::HEARTBEAT => "HEARTBEAT",
        t::WANT => "WANT",
        t::REQUEST => "REQUEST",
        t::LOAD => "LOAD",
        t::CHANGE => "CHANGE",
        t::LOAD_END => "LOAD_END",
        t::CANCEL => "CANCEL",
        t::WELCOME => "WELCOME",
        t::BEGIN => "BEGIN",
        t::END => "END",
        t::MARK => "MARK",
        t::DESCRIPTOR => "DESCRIPTOR",
        0x91..=0x96 => "SET",
        0xa1..=0xa6 => "DELETE",
        t::FLUSH => "FLUSH",
        t::ITEM => "ITEM",
        t::REGISTER => "REGISTER",
        t::REGISTERED => "REGISTERED",
        t::PROOF => "PROOF",
        t::CHALLENGE => "CHALLENGE",
        t::PROVEN => "PROVEN",
        t::DONE => "DONE",
        t::REJECTED => "REJECTED",
        _ => "an unknown frame",
    }
}

/// One frame, as it was cut off: not yet looked into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// The type: one of [`frame_type`].
    pub frame_type: u16,
    /// [`MUST_UNDERSTAND`], [`LAST`], and for CHANGE the kind in bits 8 to 11.
    pub flags: u16,
    /// What stands behind the header; a multiple of 8 bytes.
    pub body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Cuts the next frame off `bytes`: the frame and its whole length, or
    /// `None` if it isn't there in full. A length that can't be right is an
    /// error as soon as its four bytes are there.
    pub fn split(bytes: &'a [u8], limit: usize) -> Result<Option<(Frame<'a>, usize)>, WireError> {
        let Some(length) = Frame::length(bytes, limit)? else { return Ok(None) };
        let Some(frame) = bytes.get(..length) else { return Ok(None) };
        Ok(Some((
            Frame {
                frame_type: u16::from_le_bytes([frame[4], frame[5]]),
                flags: u16::from_le_bytes([frame[6], frame[7]]),
                body: &frame[HEADER_BYTES..],
            },
            length,
        )))
    }

    /// The whole length of the frame that begins with `bytes`; `None` if its
    /// four bytes aren't there yet.
    pub fn length(bytes: &[u8], limit: usize) -> Result<Option<usize>, WireError> {
        let Some(&[a, b, c, d]) = bytes.first_chunk() else { return Ok(None) };
        let length = u32::from_le_bytes([a, b, c, d]);
        if length < HEADER_BYTES as u32 || length % 8 != 0 {
            return Err(WireError::Length { bytes: length });
        }
        if length as usize > limit {
            return Err(WireError::TooLong { bytes: length, limit });
        }
        Ok(Some(length as usize))
    }

    fn wrong(&self, why: &'static str) -> WireError {
        WireError::Frame { frame_type: self.frame_type, why }
    }

    /// An unknown type: skipped, or the end if it must be understood.
    fn unknown<T>(&self) -> Result<Option<T>, WireError> {
        if self.flags & MUST_UNDERSTAND != 0 {
            return Err(WireError::Unknown { frame_type: self.frame_type });
        }
        Ok(None)
    }
}
