//! What a client sends.
//!
//! The first frame is HELLO; SUBSCRIBE, REQUEST and LOAD may follow at once,
//! without waiting for WELCOME.

use rtm_model::Change;

use super::bytes::{Writer, padded_text, tlvs, u16_at, u32_at, u64_at};
use super::change::{decode_change, encode_change};
use super::{DescriptorKind, Frame, MAGIC, MUST_UNDERSTAND, WireError, frame_type};
use crate::record::{Epoch, Revision};
use crate::token::PROOF_BYTES;

/// The longest name of a client or a source, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// HELLO: who is there, and what it can.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello<'a> {
    /// The newest version it speaks.
    pub version: u16,
    /// The oldest.
    pub lowest: u16,
    /// The largest frame it takes.
    pub frame_bytes_max: u32,
    /// Bits: [`super::FEATURE_ACK`].
    pub features: u64,
    /// What it calls itself; empty: nothing.
    pub name: &'a str,
}

/// What a subscriber of neighbours gets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum SubscribeMode {
    /// Whole neighbours.
    #[default]
    Full = 1,
    /// MAC addresses only: the values are read from the image.
    Keys = 2,
}

/// SUBSCRIBE: from where on, and of what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribe<'a> {
    /// The history that `revision` belongs to; 0: none is known.
    pub epoch: Epoch,
    /// The state that the client holds; 0: none, a snapshot is wanted.
    pub revision: Revision,
    /// Whole neighbours or keys.
    pub mode: SubscribeMode,
    /// A filter's text (`rtm_model::text::Filter`); empty: everything.
    pub filter: &'a str,
}

/// Flags of a LOAD.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct LoadFlags(pub u32);

impl LoadFlags {
    /// All or none, visible at once.
    pub const ATOMIC: LoadFlags = LoadFlags(1);
    /// Go on after a change that is refused.
    pub const FORCE: LoadFlags = LoadFlags(2);
    /// The stream is the source's whole content: what it doesn't name goes.
    pub const WHOLE: LoadFlags = LoadFlags(4);

    /// Are all of `flags` set?
    pub fn contains(self, flags: LoadFlags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These and `flags`.
    #[must_use]
    pub fn with(self, flags: LoadFlags) -> LoadFlags {
        LoadFlags(self.0 | flags.0)
    }
}

/// One frame of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ClientFrame<'a> {
    /// The first frame.
    Hello(Hello<'a>),
    /// Begin to follow.
    Subscribe(Subscribe<'a>),
    /// The answer to a MARK that asked.
    Ack {
        /// The mark's revision.
        revision: Revision,
        /// Were the digests equal?
        agrees: bool,
    },
    /// A digest differed at this revision: a snapshot is wanted.
    Resync {
        /// Where it differed.
        revision: Revision,
    },
    /// The last frame.
    Goodbye,
    /// The answer to a HEARTBEAT.
    Heartbeat,
    /// It is synchronised, and wants to be signalled at a whole flush.
    Register {
        /// Its process id, as it sees itself.
        pid: u32,
    },
    /// The answer to a challenge.
    Proof {
        /// The keyed hash.
        mac: [u8; PROOF_BYTES],
    },
    /// A descriptor is wanted.
    Want {
        /// What for.
        kind: DescriptorKind,
    },
    /// One line of the grammar, to be answered.
    Request {
        /// Chosen by the client; the answer carries it.
        id: u64,
        /// The line.
        line: &'a str,
    },
    /// Begins a stream of changes.
    Load {
        /// Chosen by the client; the answer carries it.
        id: u64,
        /// Atomic, go on, whole content.
        flags: LoadFlags,
        /// The source's name; empty: `admin`.
        source: &'a str,
    },
    /// One change of the stream.
    Change(Change),
    /// Ends the stream.
    LoadEnd {
        /// The stream's id.
        id: u64,
        /// Give an atomic stream up: nothing of it happens.
        give_up: bool,
    },
    /// The answer with this id is no longer wanted.
    Cancel {
        /// The request's id.
        id: u64,
    },
}

impl<'a> ClientFrame<'a> {
    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        use frame_type as t;
        match self {
            ClientFrame::Hello(hello) => {
                let mut writer = Writer::new(out, t::HELLO, MUST_UNDERSTAND);
                writer.bytes(&MAGIC).u16(hello.version).u16(hello.lowest);
                writer.u32(hello.frame_bytes_max).u64(hello.features);
                if !hello.name.is_empty() {
                    writer.tlv(1, hello.name.as_bytes());
                }
                writer.finish();
            }
            ClientFrame::Subscribe(subscribe) => {
                let mut writer = Writer::new(out, t::SUBSCRIBE, MUST_UNDERSTAND);
                writer.u64(subscribe.epoch.0).u64(subscribe.revision.0);
                writer.u8(subscribe.mode as u8).pad(8);
                if !subscribe.filter.is_empty() {
                    writer.tlv(1, subscribe.filter.as_bytes());
                }
                writer.finish();
            }
            ClientFrame::Ack { revision, agrees } => {
                Writer::new(out, t::ACK, 0).u64(revision.0).u8(u8::from(*agrees)).finish();
            }
            ClientFrame::Resync { revision } => {
                Writer::new(out, t::RESYNC, MUST_UNDERSTAND).u64(revision.0).finish();
            }
            ClientFrame::Goodbye => Writer::new(out, t::CLIENT_GOODBYE, 0).finish(),
            ClientFrame::Heartbeat => Writer::new(out, t::CLIENT_HEARTBEAT, 0).finish(),
            ClientFrame::Register { pid } => {
                Writer::new(out, t::REGISTER, 0).u32(*pid).u32(0).finish();
            }
            ClientFrame::Proof { mac } => {
                Writer::new(out, t::PROOF, MUST_UNDERSTAND).bytes(mac).finish();
            }
            ClientFrame::Want { kind } => {
                Writer::new(out, t::WANT, MUST_UNDERSTAND).u32(kind.number()).u32(0).finish();
            }
            ClientFrame::Request { id, line } => {
                Writer::new(out, t::REQUEST, MUST_UNDERSTAND)
                    .u64(*id)
                    .bytes(line.as_bytes())
                    .finish();
            }
            ClientFrame::Load { id, flags, source } => {
                let mut writer = Writer::new(out, t::LOAD, MUST_UNDERSTAND);
                writer.u64(*id).u32(flags.0).u32(0);
                if !source.is_empty() {
                    writer.tlv(1, source.as_bytes());
                }
                writer.finish();
            }
            ClientFrame::Change(change) => encode_change(change, out),
            ClientFrame::LoadEnd { id, give_up } => {
                Writer::new(out, t::LOAD_END, MUST_UNDERSTAND)
                    .u64(*id)
                    .u32(u32::from(*give_up))
                    .finish();
            }
            ClientFrame::Cancel { id } => Writer::new(out, t::CANCEL, 0).u64(*id).finish(),
        }
    }

    /// Decodes a frame; `None`: of a type that is to be skipped.
    pub fn decode(frame: &Frame<'a>) -> Result<Option<ClientFrame<'a>>, WireError> {
        use frame_type as t;
        let body = frame.body;
        let at_least = |bytes: usize| {
            if body.len() < bytes { Err(frame.wrong("too short")) } else { Ok(()) }
        };
        Ok(Some(match frame.frame_type {
            t::HELLO => ClientFrame::Hello(decode_hello(frame)?),
            t::SUBSCRIBE => {
                at_least(24)?;
                ClientFrame::Subscribe(Subscribe {
                    epoch: Epoch(u64_at(body, 0)),
                    revision: Revision(u64_at(body, 8)),
                    mode: match body[16] {
                        1 => SubscribeMode::Full,
                        2 => SubscribeMode::Keys,
                        _ => return Err(frame.wrong("an unknown mode; 1 or 2 would be right")),
                    },
                    filter: text_field(frame, &body[24..], usize::MAX)?,
                })
            }
            t::ACK => {
                at_least(16)?;
                ClientFrame::Ack { revision: Revision(u64_at(body, 0)), agrees: body[8] == 1 }
            }
            t::RESYNC => {
                at_least(8)?;
                ClientFrame::Resync { revision: Revision(u64_at(body, 0)) }
            }
            t::CLIENT_GOODBYE => ClientFrame::Goodbye,
            t::CLIENT_HEARTBEAT => ClientFrame::Heartbeat,
            t::REGISTER => {
                at_least(8)?;
                ClientFrame::Register { pid: u32_at(body, 0) }
            }
            t::PROOF => {
                let mac = body.first_chunk().ok_or(frame.wrong("too short"))?;
                ClientFrame::Proof { mac: *mac }
            }
            t::WANT => {
                at_least(8)?;
                ClientFrame::Want { kind: DescriptorKind::from_number(u32_at(body, 0)) }
            }
            t::REQUEST => {
                at_least(8)?;
                let line = padded_text(&body[8..]).ok_or(frame.wrong("the line is not UTF-8"))?;
                ClientFrame::Request { id: u64_at(body, 0), line }
            }
            t::LOAD => {
                at_least(16)?;
                let flags = LoadFlags(u32_at(body, 8));
                if flags.0 > 7 {
                    return Err(frame.wrong("an unknown flag"));
                }
                let source = text_field(frame, &body[16..], NAME_BYTES_MAX)?;
                ClientFrame::Load { id: u64_at(body, 0), flags, source }
            }
            t::CHANGE => ClientFrame::Change(decode_change(frame)?),
            t::LOAD_END => {
                at_least(16)?;
                let flags = u32_at(body, 8);
                if flags > 1 {
                    return Err(frame.wrong("an unknown flag"));
                }
                ClientFrame::LoadEnd { id: u64_at(body, 0), give_up: flags & 1 != 0 }
            }
            t::CANCEL => {
                at_least(8)?;
                ClientFrame::Cancel { id: u64_at(body, 0) }
            }
            _ => return frame.unknown(),
        }))
    }
}

/// The optional field 1, a text; empty if it isn't there.
fn text_field<'a>(
    frame: &Frame<'a>,
    bytes: &'a [u8],
    bytes_max: usize,
) -> Result<&'a str, WireError> {
    let mut text = "";
    for tlv in tlvs(bytes) {
        let (kind, value) = tlv.ok_or(frame.wrong("an optional field is cut off"))?;
        if kind == 1 {
            text = std::str::from_utf8(value).map_err(|_| frame.wrong("a text is not UTF-8"))?;
            if text.len() > bytes_max {
                return Err(frame.wrong("a name of more than 64 bytes"));
            }
        }
    }
    Ok(text)
}

fn decode_hello<'a>(frame: &Frame<'a>) -> Result<Hello<'a>, WireError> {
    let body = frame.body;
    if body.len() < 8 || body[..8] != MAGIC {
        return Err(WireError::Magic);
    }
    if body.len() < 24 {
        return Err(frame.wrong("too short"));
    }
    Ok(Hello {
        version: u16_at(body, 8),
        lowest: u16_at(body, 10),
        frame_bytes_max: u32_at(body, 12),
        features: u64_at(body, 16),
        name: text_field(frame, &body[24..], NAME_BYTES_MAX)?,
    })
}
