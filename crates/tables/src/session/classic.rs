//! A session of `classic.sock`, beside the frames of all others: what it is told
//! is in [`crate::classic`], what it may say is two structures.
//!
//! Between two structures nothing else stands, and whatever ends the session
//! ends it behind a whole one, unless the client doesn't take it. While the tables
//! can't be read, it waits.

use super::follow::Follow;
use super::info::{ServerEvent, Transport};
use super::server::{ServerSession, Stage};
use crate::Millis;
use crate::classic::ClassicCursor;
use crate::classic::layout::{CLASSIC_CLIENT_BYTES, ClientOp};
use crate::hub::Hub;
use crate::order::Step;
use crate::table::Table;
use crate::wire::{GoodbyeReason, WireError};

impl ServerSession {
    fn tell_classic(
        &mut self,
        cursor: &mut ClassicCursor,
        hub: &mut Hub,
        table: &Table,
        budget: &mut usize,
    ) {
        if !self.out.wants_filling() {
            return;
        }
        let (slot, published) = (self.slot, hub.published());
        let Some(view) = hub.classic_view() else { return };
        if table.is_staging() || table.revision() != published || !view.is_current() {
            if self.out.is_empty() {
                hub.hold(slot);
            }
            return;
        }
        let (bytes, limit) = self.out.fill();
        let (step, count) = view.tell(cursor, table.store(), bytes, limit, budget);
        self.out.consume(0);
        self.counters.sent_records += count;
        match step {
            Some(Step::Lost) => {
                self.fell_behind = true;
                let now = hub.now();
                self.goodbye(GoodbyeReason::Silent, "", now, hub);
            }
            Some(_) if self.out.is_empty() => {
                self.behind = None;
                hub.park_classic(slot);
            }
            Some(_) => {}
            None => {
                self.behind.get_or_insert(hub.now());
            }
        }
    }

    /// What a classic client said, eight bytes at a time.
    pub(super) fn handle_classic_bytes(
        &mut self,
        input: &mut &[u8],
        now: Millis,
        hub: &mut Hub,
    ) -> Option<ServerEvent> {
        if self.stage == Stage::Closing {
            *input = &[];
            return None;
        }
        let count = (CLASSIC_CLIENT_BYTES - self.kept.len()).min(input.len());
        let (part, rest) = input.split_at(count);
        self.kept.extend_from_slice(part);
        *input = rest;
        let Ok(bytes) = <[u8; CLASSIC_CLIENT_BYTES]>::try_from(&self.kept[..]) else {
            return None;
        };
        self.kept.clear();
        Some(match ClientOp::decode(bytes) {
            Ok(ClientOp::Register(pid)) => ServerEvent::Register { pid: pid as u32 },
            Ok(ClientOp::Goodbye) => {
                self.stage = Stage::Closing;
                self.over = true;
                ServerEvent::Goodbye
            }
            Err(op) => {
                self.goodbye(GoodbyeReason::Protocol, "", now, hub);
                ServerEvent::Failed(WireError::ClassicOp { op })
            }
        })
    }

    /// Ends a classic session whose client ended its writing inside a structure.
    pub fn input_ended(&mut self) -> Option<WireError> {
        (self.is_classic() && !self.kept.is_empty())
            .then_some(WireError::ClassicShort { bytes: self.kept.len() })
    }

    /// Was it ended because what it needed had to be given up?
    pub fn fell_behind(&self) -> bool {
        self.fell_behind
    }

    /// Does it speak the structures of `classic.sock`?
    pub fn is_classic(&self) -> bool {
        self.peer.transport == Transport::Classic
    }

    /// Prepares what it is to be sent.
    pub(super) fn fill_classic(&mut self, hub: &mut Hub, table: &Table, mut budget: usize) {
        let Follow::Classic(mut cursor) = std::mem::take(&mut self.follow) else { return };
        self.tell_classic(&mut cursor, hub, table, &mut budget);
        self.follow = Follow::Classic(cursor);
    }
}
