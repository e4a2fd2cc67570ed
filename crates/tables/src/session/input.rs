//! What a client sends, at the daemon's end.
//!
//! Frames are decoded where they were read; only what isn't whole, or has to
//! wait, is kept, and never more than [`INPUT_BYTES_MAX`]: nothing that a client
//! sends makes the daemon larger.
//!
//! ```text
//!   HELLO ... SUBSCRIBE, ACK, RESYNC, HEARTBEAT, CANCEL, GOODBYE    taken at once
//!             REQUEST, LOAD, WANT   one at a time: the next waits until the answer is
//!                                given and the output has room, and reading stops
//!             LOAD, CHANGE ..., LOAD_END                 nothing else of its kind in between
//! ```
//!
//! A frame that waits holds up what stands behind it. So who waits for a
//! barrier over the connection that it also follows on must not ask something
//! else behind that: its own ACK would wait, too.

use rtm_model::text::{Context, Filter, printable};

use crate::Millis;
use crate::hub::Hub;
use crate::record::Revision;
use crate::session::follow::Follow;
use crate::session::info::{Owner, ServerEvent};
use crate::session::server::{INPUT_BYTES_MAX, Loading, ServerSession, Stage};
use crate::table::Table;
use crate::token::Challenge;
use crate::wire::{
    ClientFrame, DaemonFrame, FEATURE_ACK, FEATURE_CHALLENGE, FEATURE_PROVE, FRAME_BYTES_MIN,
    Frame, GREETING_BYTES_MAX, GoodbyeReason, Hello, Subscribe, SubscribeMode, VERSION,
    VERSION_LOWEST, Welcome, WireError, decode_change_into, frame_type, no_change,
};

/// Changes of a stream that are handed on together: so many that the tables can
/// look ahead ([`Table::apply_many`]), so few that a turn's budget holds.
pub const CHANGES_AT_ONCE: usize = 64;

/// About the shortest CHANGE: what room is made for many of them by.
const CHANGE_BYTES_MIN: usize = 32;

/// Another request is taken only if so much room is left in the output: the
/// ends of many small answers must not gather there.
const ANSWER_ROOM: usize = 8 * 1024;

impl ServerSession {
    /// How many bytes to read at most; 0: don't read now.
    pub fn read_limit(&self) -> usize {
        if self.stage == Stage::Closing || self.paused || self.blocked {
            return 0;
        }
        INPUT_BYTES_MAX - (self.kept.len() - self.kept_from)
    }

    /// Is input kept that can be handled now? Then call
    /// [`ServerSession::handle_bytes`] with nothing: after
    /// [`ServerSession::done`], after something was written, after a pause.
    pub fn wants_input(&self) -> bool {
        self.blocked && !self.paused && self.stage == Stage::Open && self.takes_requests()
    }

    fn takes_requests(&self) -> bool {
        self.answering.is_none()
            && !self.wanting
            && self.out.room() >= ANSWER_ROOM
            && !self.out.has_descriptor()
    }

    /// Bytes came (at most [`ServerSession::read_limit`]): the next event in
    /// them. Call again, with what it left in `input`, until it gives `None`;
    /// then `input` is empty. See also [`ServerSession::wants_input`].
    pub fn handle_bytes(
        &mut self,
        input: &mut &[u8],
        now: Millis,
        hub: &mut Hub,
        table: &mut Table,
    ) -> Option<ServerEvent> {
        if !input.is_empty() {
            self.heard = now;
        }
        if self.is_classic() {
            return self.handle_classic_bytes(input, now, hub);
        }
        loop {
            if self.stage == Stage::Closing {
                *input = &[];
                return None;
            }
            if self.paused {
                self.keep(input);
                return None;
            }
            let event = if self.kept.is_empty() {
                match self.next_frame(input, now, hub, table) {
                    Next::Frame { event, length } => {
                        *input = &input[length..];
                        event
                    }
                    Next::Wait => {
                        self.keep(input);
                        return None;
                    }
                }
            } else {
                // What is missing of the first kept frame comes out of the
                // input; it is handled from here, all others where they are.
                if !self.complete_kept(input) {
                    return None;
                }
                let kept = std::mem::take(&mut self.kept);
                let from = std::mem::take(&mut self.kept_from);
                match self.next_frame(&kept[from..], now, hub, table) {
                    Next::Frame { event, length } => {
                        if self.stage != Stage::Closing && from + length < kept.len() {
                            self.kept = kept;
                            self.kept_from = from + length;
                        }
                        event
                    }
                    Next::Wait => {
                        self.kept = kept;
                        self.kept_from = from;
                        self.keep(input);
                        return None;
                    }
                }
            };
            if event.is_some() {
                return event;
            }
        }
    }

    /// Keeps what can't be handled now.
    fn keep(&mut self, input: &mut &[u8]) {
        if input.is_empty() {
            return;
        }
        if self.kept_from > 0 {
            self.kept.drain(..self.kept_from);
            self.kept_from = 0;
        }
        debug_assert!(self.kept.len() + input.len() <= INPUT_BYTES_MAX, "over the read limit");
        self.kept.reserve_exact(input.len());
        self.kept.extend_from_slice(input);
        *input = &[];
    }

    /// Takes what the first kept frame lacks out of the input; false: the input
    /// doesn't have it all, or nothing of it is needed and none is there.
    fn complete_kept(&mut self, input: &mut &[u8]) -> bool {
        loop {
            let have = self.kept.len() - self.kept_from;
            let wanted = match Frame::length(&self.kept[self.kept_from..], self.frame_limit()) {
                Ok(Some(length)) => length,
                Ok(None) => 4,
                // The error is found again, and dealt with, by who called.
                Err(_) => return true,
            };
            if have >= wanted {
                if wanted > 4 {
                    return true;
                }
                continue;
            }
            if input.is_empty() {
                return false;
            }
            let count = (wanted - have).min(input.len());
            let (part, rest) = input.split_at(count);
            *input = rest;
            self.keep(&mut { part });
        }
    }

    fn frame_limit(&self) -> usize {
        match self.stage {
            Stage::Greeting => GREETING_BYTES_MAX,
            _ => self.limits.frame_bytes_max.min(INPUT_BYTES_MAX),
        }
    }

    /// Handles the frame that stands first in some bytes.
    fn next_frame(&mut self, bytes: &[u8], now: Millis, hub: &mut Hub, table: &mut Table) -> Next {
        let (frame, length) = match Frame::split(bytes, self.frame_limit()) {
            Ok(Some(found)) => found,
            Ok(None) => return Next::Wait,
            Err(error) => return self.failed(error, now, hub),
        };
        let answered =
            matches!(frame.frame_type, frame_type::REQUEST | frame_type::LOAD | frame_type::WANT);
        self.blocked = answered && !self.takes_requests();
        if self.blocked {
            return Next::Wait;
        }
        if frame.frame_type == frame_type::CHANGE
            && matches!(self.loading, Some(Loading { answered: false, .. }))
        {
            return match self.changes(bytes, hub) {
                Ok(next) => next,
                Err(error) => self.failed(error, now, hub),
            };
        }
        let decoded = match ClientFrame::decode(&frame) {
            Ok(Some(decoded)) => decoded,
            Ok(None) if self.stage == Stage::Open => return Next::Frame { event: None, length },
            Ok(None) => ClientFrame::Heartbeat, // Whatever it is, it's no HELLO.
            Err(error) => return self.failed(error, now, hub),
        };
        match self.frame(frame.frame_type, decoded, now, hub, table) {
            Ok(event) => Next::Frame { event, length },
            Err(error) => self.failed(error, now, hub),
        }
    }

    /// The changes that stand first in some bytes. One that is wrong is an
    /// error only when it is the first: those before it come first.
    fn changes(&self, bytes: &[u8], hub: &mut Hub) -> Result<Next, WireError> {
        let mut rest = bytes;
        let mut changes = hub.room();
        let likely = CHANGES_AT_ONCE.min(bytes.len() / CHANGE_BYTES_MIN);
        changes.reserve(likely.saturating_sub(changes.len()));
        let mut count = 0;
        while count < CHANGES_AT_ONCE {
            let Ok(Some((frame, length))) = Frame::split(rest, self.frame_limit()) else { break };
            if frame.frame_type != frame_type::CHANGE {
                break;
            }
            if count == changes.len() {
                changes.push(no_change());
            }
            match decode_change_into(&mut changes[count], &frame) {
                Ok(()) => count += 1,
                Err(error) if count == 0 => return Err(error),
                Err(_) => break,
            }
            rest = &rest[length..];
        }
        changes.truncate(count);
        let length = bytes.len() - rest.len();
        Ok(Next::Frame { event: Some(ServerEvent::Changes(changes)), length })
    }

    fn failed(&mut self, error: WireError, now: Millis, hub: &mut Hub) -> Next {
        self.goodbye(GoodbyeReason::Protocol, &error.to_string(), now, hub);
        // The rest of the input is nobody's; its length doesn't matter.
        Next::Frame { event: Some(ServerEvent::Failed(error)), length: 0 }
    }

    /// Handles a frame.
    fn frame(
        &mut self,
        frame_type: u16,
        frame: ClientFrame<'_>,
        now: Millis,
        hub: &mut Hub,
        table: &mut Table,
    ) -> Result<Option<ServerEvent>, WireError> {
        let unexpected = |why| WireError::Unexpected { frame_type, why };
        if (self.stage == Stage::Greeting) != matches!(frame, ClientFrame::Hello(_)) {
            return Err(unexpected("HELLO must come first, and once"));
        }
        match frame {
            ClientFrame::Hello(hello) => return self.hello(&hello, hub).map(Some),
            ClientFrame::Subscribe(subscribe) => {
                if self.view.is_some() {
                    return Err(unexpected("it subscribed already"));
                }
                return Ok(self.subscribe(&subscribe, now, hub, table));
            }
            ClientFrame::Ack { revision, agrees } => {
                if self.asked == Some(revision) {
                    self.asked = None;
                    hub.answered(self.slot, revision, agrees);
                }
            }
            ClientFrame::Resync { .. } => {
                if self.view.is_none() {
                    return Err(unexpected("it must subscribe first"));
                }
                self.counters.resyncs += 1;
                // One that is about to get a snapshot gets it anyway.
                let begins = Follow::Begin { from: Revision(0) };
                if !matches!(&self.follow, Follow::Begin { from } if from.0 == 0) {
                    self.follow_from(Revision(0), hub, table);
                } else {
                    self.follow = begins;
                }
            }
            ClientFrame::Goodbye => {
                self.stage = Stage::Closing;
                self.over = true;
                return Ok(Some(ServerEvent::Goodbye));
            }
            ClientFrame::Heartbeat => {}
            ClientFrame::Proof { mac } => match self.challenge.take() {
                Some(challenge) => return Ok(Some(ServerEvent::Proof { challenge, mac })),
                None => return Err(unexpected("nothing was to be proven")),
            },
            ClientFrame::Register { pid } => return Ok(Some(ServerEvent::Register { pid })),
            ClientFrame::Want { kind } => {
                self.wanting = true;
                return Ok(Some(ServerEvent::Want { kind }));
            }
            ClientFrame::Request { id, line } => {
                if self.loading.is_some() {
                    return Err(unexpected("the load must end first"));
                }
                self.answering = Some(id);
                return Ok(Some(ServerEvent::Request { id, line: line.to_owned() }));
            }
            ClientFrame::Load { id, flags, source } => {
                if self.loading.is_some() {
                    return Err(unexpected("the load before must end first"));
                }
                self.loading = Some(Loading { id, answered: false });
                return Ok(Some(ServerEvent::LoadBegin { id, flags, source: source.to_owned() }));
            }
            // Those of a stream that isn't answered went by `changes`.
            ClientFrame::Change(_) if self.loading.is_none() => {
                return Err(unexpected("a LOAD must come before"));
            }
            ClientFrame::Change(_) => {}
            ClientFrame::LoadEnd { id, give_up } => match self.loading.take() {
                Some(loading) if loading.id == id => {
                    if !loading.answered {
                        self.answering = Some(id);
                        return Ok(Some(ServerEvent::LoadEnd { id, give_up }));
                    }
                }
                _ => return Err(unexpected("no load with this id is open")),
            },
            ClientFrame::Cancel { id } => {
                if self.answering == Some(id) {
                    return Ok(Some(ServerEvent::Cancel { id }));
                }
            }
        }
        Ok(None)
    }

    fn hello(&mut self, hello: &Hello<'_>, hub: &mut Hub) -> Result<ServerEvent, WireError> {
        let version = hello.version.min(VERSION);
        if version < VERSION_LOWEST || version < hello.lowest {
            return Err(WireError::Version { newest: hello.version, lowest: hello.lowest });
        }
        if (hello.frame_bytes_max as usize) < FRAME_BYTES_MIN {
            return Err(WireError::Frame {
                frame_type: frame_type::HELLO,
                why: "it must take frames of 16 KiB at least",
            });
        }
        self.frame_bytes_max = hello.frame_bytes_max as usize;
        self.features = hello.features;
        self.stage = Stage::Open;
        let limit = self.frame_limit();
        let challenge = self.nonce.take().filter(|_| hello.features & FEATURE_PROVE != 0);
        let challenge =
            challenge.map(|nonce| Challenge { epoch: hub.epoch(), session: self.session, nonce });
        self.challenge = challenge;
        DaemonFrame::Welcome(Welcome {
            version,
            lowest: VERSION_LOWEST,
            frame_bytes_max: limit as u32,
            features: if challenge.is_some() { FEATURE_CHALLENGE } else { 0 },
            epoch: hub.epoch(),
            digest_key: hub.digest_key(),
            session: self.session,
            role: self.peer.role,
        })
        .encode(self.out.append(80));
        if let Some(Challenge { nonce, .. }) = challenge {
            DaemonFrame::Challenge { nonce }.encode(self.out.append(8 + nonce.len()));
        }
        // It is shown on others' terminals.
        let name = printable(hello.name);
        hub.greet(self.slot, &name, hello.features & FEATURE_ACK != 0);
        hub.wake(self.slot);
        Ok(ServerEvent::Hello { name })
    }

    /// Begins to follow. A filter or mode that can't be had ends the session.
    fn subscribe(
        &mut self,
        subscribe: &Subscribe<'_>,
        now: Millis,
        hub: &mut Hub,
        table: &mut Table,
    ) -> Option<ServerEvent> {
        let keys = subscribe.mode == SubscribeMode::Keys;
        let view = Filter::parse(subscribe.filter, &Context::default())
            .map_err(|error| error.to_string())
            .and_then(|filter| {
                let text = if filter.is_all() { String::new() } else { filter.to_string() };
                let owner = Owner::of(&self.peer);
                let view = hub.subscribe(self.slot, filter, keys, owner, table);
                Ok((view.map_err(|error| error.to_string())?, text))
            });
        let (view, filter) = match view {
            Ok(found) => found,
            Err(why) => {
                self.goodbye(GoodbyeReason::Refused, &why, now, hub);
                return Some(ServerEvent::Refused { why });
            }
        };
        let known = subscribe.epoch == hub.epoch() && subscribe.revision <= hub.published();
        let from = if known { subscribe.revision } else { Revision(0) };
        self.view = Some(view);
        self.follow_from(from, hub, table);
        Some(ServerEvent::Subscribed { from, filter })
    }

    /// While paused, events wait (a change that can't be applied now, since a
    /// large load is open): what comes is kept, and reading stops.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
        // What is kept is looked at again.
        self.blocked |= !paused && self.kept.len() > self.kept_from;
    }
}

/// What [`ServerSession::next_frame`] did.
enum Next {
    /// A frame of this length was handled.
    Frame { event: Option<ServerEvent>, length: usize },
    /// It isn't there in full, or has to wait.
    Wait,
}
