//! What the daemon sends.

use rtm_model::{Digest, DigestKey, Digests};

use super::bytes::{Writer, padded_text, u16_at, u32_at, u64_at};
use super::item::{ItemFlags, ItemKind};
use super::records::{self, WireRecord};
use super::signal::SignalWay;
use super::{DescriptorKind, Frame, MAGIC, MUST_UNDERSTAND, WireError, frame_type};
use crate::record::{Epoch, Flush, Revision};
use crate::token::NONCE_BYTES;

/// What a session may do; decided once, when it is accepted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Role {
    /// Follow and ask.
    Read = 1,
    /// Also add, change, replace, append and delete routes and neighbours.
    Inject = 2,
    /// Everything.
    Admin = 3,
}

impl Role {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Inject => "inject",
            Role::Admin => "admin",
        }
    }
}

/// Why the daemon ends a session; the numbers are the wire's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum GoodbyeReason {
    /// The daemon stops.
    Stopping,
    /// An admin killed the session: don't reconnect.
    Killed,
    /// The client's bytes were wrong; the text says how.
    Protocol,
    /// Too many sessions already.
    TooMany,
    /// Nothing was heard for too long.
    Silent,
    /// The hello didn't come in time.
    HelloTimeout,
    /// The session may not do this.
    NotPermitted,
    /// The filter or mode of a SUBSCRIBE can't be had; the text says why.
    Refused,
    /// A number that this library doesn't know.
    Other(u32),
}

impl GoodbyeReason {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            GoodbyeReason::Stopping => 1,
            GoodbyeReason::Killed => 2,
            GoodbyeReason::Protocol => 3,
            GoodbyeReason::TooMany => 4,
            GoodbyeReason::Silent => 5,
            GoodbyeReason::HelloTimeout => 6,
            GoodbyeReason::NotPermitted => 7,
            GoodbyeReason::Refused => 8,
            GoodbyeReason::Other(number) => number,
        }
    }

    /// The reason with this number.
    pub fn from_number(number: u32) -> GoodbyeReason {
        match number {
            1 => GoodbyeReason::Stopping,
            2 => GoodbyeReason::Killed,
            3 => GoodbyeReason::Protocol,
            4 => GoodbyeReason::TooMany,
            5 => GoodbyeReason::Silent,
            6 => GoodbyeReason::HelloTimeout,
            7 => GoodbyeReason::NotPermitted,
            8 => GoodbyeReason::Refused,
            number => GoodbyeReason::Other(number),
        }
    }

    /// May a library connect again by itself? Not after a kill, nor where the
    /// same bytes would only be refused again.
    pub fn may_reconnect(self) -> bool {
        !matches!(
            self,
            GoodbyeReason::Killed | GoodbyeReason::NotPermitted | GoodbyeReason::Refused
        )
    }
}

/// Where a rejected change came in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum RejectedBy {
    /// The message queue.
    Queue,
    /// The FIFO.
    Fifo,
    /// A number that this library doesn't know.
    Other(u16),
}

impl RejectedBy {
    /// The number on the wire.
    pub fn number(self) -> u16 {
        match self {
            RejectedBy::Queue => 1,
            RejectedBy::Fifo => 2,
            RejectedBy::Other(number) => number,
        }
    }

    /// The feed of this number.
    pub fn from_number(number: u16) -> RejectedBy {
        match number {
            1 => RejectedBy::Queue,
            2 => RejectedBy::Fifo,
            number => RejectedBy::Other(number),
        }
    }

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            RejectedBy::Queue => "queue",
            RejectedBy::Fifo => "fifo",
            RejectedBy::Other(_) => "feed",
        }
    }
}

/// WELCOME: the answer to HELLO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// The version that is spoken from here on.
    pub version: u16,
    /// The oldest one that the daemon understands.
    pub lowest: u16,
    /// The largest frame it takes.
    pub frame_bytes_max: u32,
    /// Feature bits of the daemon.
    pub features: u64,
    /// The history that all revisions of this session belong to.
    pub epoch: Epoch,
    /// What digests are made with.
    pub digest_key: DigestKey,
    /// The session's number, unique in the daemon's life.
    pub session: u64,
    /// What it may do.
    pub role: Role,
}

/// DONE: how a request or a load ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Done<'a> {
    /// The request's.
    pub id: u64,
    /// An exit code of the command: 0 done, 1 syntax, 2 refused, 4 timed out.
    pub code: u32,
    /// The table's revision when it was done.
    pub revision: Revision,
    /// Changes that were applied.
    pub applied: u64,
    /// Changes that made no difference.
    pub unchanged: u64,
    /// Changes that were refused.
    pub failed: u64,
    /// The number, from 1, of the first change that failed; 0: none did.
    pub position: u64,
    /// One line, empty if there is nothing to say.
    pub text: &'a str,
}

/// One frame of the daemon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DaemonFrame<'a> {
    /// The answer to HELLO.
    Welcome(Welcome),
    /// Up to END, neither order nor transactions hold. `from` 0: a snapshot.
    Begin {
        /// What the client resumes from if it is cut before END.
        from: Revision,
    },
    /// The state is exactly this revision.
    End {
        /// Which.
        revision: Revision,
        /// Of this session's view.
        digests: Digests,
    },
    /// Compare here.
    Mark {
        /// The state's revision.
        revision: Revision,
        /// Of this session's view.
        digests: Digests,
        /// Answer with ACK.
        ask: bool,
    },
    /// Are you there?
    Heartbeat,
    /// The last frame.
    Goodbye {
        /// Why.
        reason: GoodbyeReason,
        /// One line for people.
        text: &'a str,
    },
    /// The answer to a WANT.
    Descriptor {
        /// What it is for.
        kind: DescriptorKind,
        /// A descriptor goes with the first byte of this frame.
        given: bool,
        /// Why none goes with it; empty if one does.
        text: &'a str,
    },
    /// SET or DELETE.
    Record(WireRecord<'a>),
    /// A whole flush.
    Flush {
        /// Its revision.
        revision: Revision,
        /// What is emptied.
        what: Flush,
    },
    /// A piece of an answer.
    Item {
        /// The request's.
        id: u64,
        /// What it is.
        kind: ItemKind,
        /// Flags.
        flags: ItemFlags,
        /// The item, with the zeros that pad it to eight bytes.
        body: &'a [u8],
    },
    /// The end of an answer.
    Done(Done<'a>),
    /// Prove that you know the secret.
    Challenge {
        /// Random bytes.
        nonce: [u8; NONCE_BYTES],
    },
    /// The proof was right.
    Proven {
        /// What the session may do from now on.
        role: Role,
    },
    /// The answer to REGISTER.
    Registered {
        /// How the client will be signalled.
        way: SignalWay,
        /// Why not, if it won't be.
        text: &'a str,
    },
    /// Somebody's change was rejected.
    Rejected {
        /// Where it came in.
        by: RejectedBy,
        /// The priority of a message.
        priority: u32,
        /// One line: what, where, why.
        text: &'a str,
    },
}

/// Bytes of an END frame.
pub(crate) const END_BYTES: usize = 80;
/// Bytes of a MARK frame.
pub(crate) const MARK_BYTES: usize = 88;

fn write_digests(writer: &mut Writer<'_>, digests: &Digests) {
    for digest in [digests.routes, digests.neighbours, digests.keys, digests.links] {
        writer.bytes(&digest.0.to_le_bytes());
    }
}

fn read_digests(bytes: &[u8]) -> Digests {
    let digest = |index: usize| {
        let mut value = [0; 16];
        value.copy_from_slice(&bytes[16 * index..16 * index + 16]);
        Digest(u128::from_le_bytes(value))
    };
    Digests { routes: digest(0), neighbours: digest(1), keys: digest(2), links: digest(3) }
}

impl<'a> DaemonFrame<'a> {
    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        use frame_type as t;
        match self {
            DaemonFrame::Welcome(welcome) => {
                let mut writer = Writer::new(out, t::WELCOME, MUST_UNDERSTAND);
                writer.bytes(&MAGIC).u16(welcome.version).u16(welcome.lowest);
                writer.u32(welcome.frame_bytes_max).u64(welcome.features).u64(welcome.epoch.0);
                writer.u64(welcome.digest_key.0[0]).u64(welcome.digest_key.0[1]);
                writer.u64(welcome.session).u8(welcome.role as u8).finish();
            }
            DaemonFrame::Begin { from } => {
                Writer::new(out, t::BEGIN, MUST_UNDERSTAND).u64(from.0).u64(0).finish();
            }
            DaemonFrame::End { revision, digests } => {
                let mut writer = Writer::new(out, t::END, MUST_UNDERSTAND);
                writer.u64(revision.0);
                write_digests(&mut writer, digests);
                writer.finish();
            }
            DaemonFrame::Mark { revision, digests, ask } => {
                let mut writer = Writer::new(out, t::MARK, 0);
                writer.u64(revision.0);
                write_digests(&mut writer, digests);
                writer.u8(u8::from(*ask)).finish();
            }
            DaemonFrame::Heartbeat => Writer::new(out, t::HEARTBEAT, 0).finish(),
            DaemonFrame::Goodbye { reason, text } => {
                Writer::new(out, t::GOODBYE, 0)
                    .u32(reason.number())
                    .u32(0)
                    .bytes(text.as_bytes())
                    .finish();
            }
            DaemonFrame::Descriptor { kind, given, text } => {
                Writer::new(out, t::DESCRIPTOR, MUST_UNDERSTAND)
                    .u32(kind.number())
                    .u32(u32::from(*given))
                    .bytes(text.as_bytes())
                    .finish();
            }
            DaemonFrame::Record(record) => records::encode(
                out,
                record.op,
                record.kind,
                record.revision,
                record.last,
                record.body,
            ),
            DaemonFrame::Flush { revision, what } => records::encode_flush(out, *revision, *what),
            DaemonFrame::Item { id, kind, flags, body } => {
                Writer::new(out, t::ITEM, MUST_UNDERSTAND)
                    .u64(*id)
                    .u16(kind.number())
                    .u16(flags.0)
                    .u32(0)
                    .bytes(body)
                    .finish();
            }
            DaemonFrame::Done(done) => {
                Writer::new(out, t::DONE, MUST_UNDERSTAND)
                    .u64(done.id)
                    .u32(done.code)
                    .u32(0)
                    .u64(done.revision.0)
                    .u64(done.applied)
                    .u64(done.unchanged)
                    .u64(done.failed)
                    .u64(done.position)
                    .bytes(done.text.as_bytes())
                    .finish();
            }
            DaemonFrame::Challenge { nonce } => {
                Writer::new(out, t::CHALLENGE, 0).bytes(nonce).finish();
            }
            DaemonFrame::Proven { role } => Writer::new(out, t::PROVEN, 0).u8(*role as u8).finish(),
            DaemonFrame::Registered { way, text } => {
                Writer::new(out, t::REGISTERED, 0)
                    .u32(way.number())
                    .u32(0)
                    .bytes(text.as_bytes())
                    .finish();
            }
            DaemonFrame::Rejected { by, priority, text } => {
                Writer::new(out, t::REJECTED, 0)
                    .u16(by.number())
                    .u16(0)
                    .u32(*priority)
                    .bytes(text.as_bytes())
                    .finish();
            }
        }
    }

    /// Decodes a frame; `None`: of a type that is to be skipped.
    pub fn decode(frame: &Frame<'a>) -> Result<Option<DaemonFrame<'a>>, WireError> {
        use frame_type as t;
        let body = frame.body;
        let at_least = |bytes: usize| {
            if body.len() < bytes { Err(frame.wrong("too short")) } else { Ok(()) }
        };
        if let Some(record) = records::decode(frame)? {
            return Ok(Some(DaemonFrame::Record(record)));
        }
        Ok(Some(match frame.frame_type {
            t::WELCOME => DaemonFrame::Welcome(decode_welcome(frame)?),
            t::BEGIN => {
                at_least(16)?;
                DaemonFrame::Begin { from: Revision(u64_at(body, 0)) }
            }
            t::END => {
                at_least(72)?;
                DaemonFrame::End {
                    revision: Revision(u64_at(body, 0)),
                    digests: read_digests(&body[8..72]),
                }
            }
            t::MARK => {
                at_least(80)?;
                DaemonFrame::Mark {
                    revision: Revision(u64_at(body, 0)),
                    digests: read_digests(&body[8..72]),
                    ask: body[72] == 1,
                }
            }
            t::HEARTBEAT => DaemonFrame::Heartbeat,
            t::GOODBYE => {
                at_least(8)?;
                DaemonFrame::Goodbye {
                    reason: GoodbyeReason::from_number(u32_at(body, 0)),
                    text: padded_text(&body[8..]).ok_or(frame.wrong("the text is not UTF-8"))?,
                }
            }
            t::DESCRIPTOR => {
                at_least(8)?;
                let given = match u32_at(body, 4) {
                    0 => false,
                    1 => true,
                    _ => return Err(frame.wrong("given is neither 0 nor 1")),
                };
                DaemonFrame::Descriptor {
                    kind: DescriptorKind::from_number(u32_at(body, 0)),
                    given,
                    text: padded_text(&body[8..]).ok_or(frame.wrong("the text is not UTF-8"))?,
                }
            }
            t::FLUSH => {
                let (revision, what) = records::decode_flush(frame)?;
                DaemonFrame::Flush { revision, what }
            }
            t::ITEM => {
                at_least(16)?;
                DaemonFrame::Item {
                    id: u64_at(body, 0),
                    kind: ItemKind::from_number(u16_at(body, 8)),
                    flags: ItemFlags(u16_at(body, 10)),
                    body: &body[16..],
                }
            }
            t::DONE => {
                at_least(56)?;
                DaemonFrame::Done(Done {
                    id: u64_at(body, 0),
                    code: u32_at(body, 8),
                    revision: Revision(u64_at(body, 16)),
                    applied: u64_at(body, 24),
                    unchanged: u64_at(body, 32),
                    failed: u64_at(body, 40),
                    position: u64_at(body, 48),
                    text: padded_text(&body[56..]).ok_or(frame.wrong("the text is not UTF-8"))?,
                })
            }
            t::CHALLENGE => {
                let nonce = body.first_chunk().ok_or(frame.wrong("too short"))?;
                DaemonFrame::Challenge { nonce: *nonce }
            }
            t::PROVEN => {
                at_least(8)?;
                DaemonFrame::Proven { role: role_of(frame, body[0])? }
            }
            t::REGISTERED => {
                at_least(8)?;
                DaemonFrame::Registered {
                    way: SignalWay::from_number(u32_at(body, 0)),
                    text: padded_text(&body[8..]).ok_or(frame.wrong("the text is not UTF-8"))?,
                }
            }
            t::REJECTED => {
                at_least(8)?;
                DaemonFrame::Rejected {
                    by: RejectedBy::from_number(u16_at(body, 0)),
                    priority: u32_at(body, 4),
                    text: padded_text(&body[8..]).ok_or(frame.wrong("the text is not UTF-8"))?,
                }
            }
            _ => return frame.unknown(),
        }))
    }
}

fn decode_welcome(frame: &Frame<'_>) -> Result<Welcome, WireError> {
    let body = frame.body;
    if body.len() < 8 || body[..8] != MAGIC {
        return Err(WireError::Magic);
    }
    if body.len() < 64 {
        return Err(frame.wrong("too short"));
    }
    Ok(Welcome {
        version: u16_at(body, 8),
        lowest: u16_at(body, 10),
        frame_bytes_max: u32_at(body, 12),
        features: u64_at(body, 16),
        epoch: Epoch(u64_at(body, 24)),
        digest_key: DigestKey([u64_at(body, 32), u64_at(body, 40)]),
        session: u64_at(body, 48),
        role: role_of(frame, body[56])?,
    })
}

fn role_of(frame: &Frame<'_>, number: u8) -> Result<Role, WireError> {
    match number {
        1 => Ok(Role::Read),
        2 => Ok(Role::Inject),
        3 => Ok(Role::Admin),
        _ => Err(frame.wrong("an unknown role")),
    }
}
