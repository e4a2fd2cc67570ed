//! The daemon's end of a connection.

use crate::Millis;
use crate::hub::Hub;
use crate::session::info::{Peer, ServerEvent, SessionInfo};
use crate::table::Table;
use crate::wire::{CHANGE_FRAME_BYTES_MAX, Done, GoodbyeReason, ItemFlags, ItemKind};
use std::io::IoSlice;

/// The largest frame that a client may send, and the most bytes of its input
/// that a session ever keeps: the largest change fits.
pub const INPUT_BYTES_MAX: usize = 28 * 1024;

const _: () = assert!(CHANGE_FRAME_BYTES_MAX <= INPUT_BYTES_MAX);

/// The most slices that [`ServerSession::slices`] gives.
pub const SLICES_MAX: usize = 8;

/// What to write next, in order: for one `writev`.
#[derive(Debug)]
pub struct Slices<'a> {
    slices: [IoSlice<'a>; SLICES_MAX],
    count: usize,
}

impl<'a> std::ops::Deref for Slices<'a> {
    type Target = [IoSlice<'a>];

    fn deref(&self) -> &[IoSlice<'a>] {
        &self.slices[..self.count]
    }
}

/// The daemon's end of a connection.
#[derive(Debug)]
pub struct ServerSession {
    peer: Peer,
}

impl ServerSession {
    /// A session that was just accepted. `token` is what the hub says when the
    /// session has something to send; `session` its number.
    pub fn new(peer: Peer, token: u64, session: u64, hub: &mut Hub, now: Millis) -> ServerSession {
        let _ = (token, session, hub, now);
        ServerSession { peer }
    }

    /// How many bytes to read at most; 0: don't read now.
    pub fn read_limit(&self) -> usize {
        INPUT_BYTES_MAX
    }

    /// Bytes came (at most [`ServerSession::read_limit`]): the next event in
    /// them. Call again, with what it left in `input`, until it gives `None`;
    /// then `input` is empty. An empty `input` goes on with what was kept:
    /// after [`ServerSession::done`] and after a pause.
    pub fn handle_bytes(
        &mut self,
        input: &mut &[u8],
        now: Millis,
        hub: &mut Hub,
        table: &mut Table,
    ) -> Option<ServerEvent> {
        let _ = (&self.peer, now, hub, table);
        *input = &[];
        None
    }

    /// While paused, events wait (a change that can't be applied now, since a
    /// large load is open): what comes is kept, and reading stops.
    pub fn pause(&mut self, paused: bool) {
        let _ = paused;
    }

    /// Prepares what is to be sent: to be called before
    /// [`ServerSession::slices`], after [`Hub::publish`]. `budget` bounds the
    /// entities that are looked at.
    pub fn fill(&mut self, hub: &mut Hub, table: &mut Table, budget: usize) {
        let _ = (hub, table, budget);
    }

    /// What to write now, about `bytes_max` bytes. Empty: nothing; the hub
    /// names the session again when there is.
    pub fn slices<'a>(&'a self, hub: &'a Hub, bytes_max: usize) -> Slices<'a> {
        let _ = (hub, bytes_max);
        Slices { slices: [IoSlice::new(&[]); SLICES_MAX], count: 0 }
    }

    /// So many of these bytes were written. Call with 0 if the socket took
    /// none.
    pub fn transmitted(&mut self, bytes: usize, now: Millis, hub: &mut Hub) {
        let _ = (bytes, now, hub);
    }

    /// Is there, or may there be, more to write?
    pub fn wants_write(&self, hub: &Hub) -> bool {
        let _ = hub;
        false
    }

    /// Bytes that the next item's body may have. Below what is needed: wait
    /// until more was written.
    pub fn item_room(&self) -> usize {
        0
    }

    /// A piece of the answer to the request that is being answered; false, and
    /// nothing done, if there is no room.
    pub fn item(&mut self, kind: ItemKind, flags: ItemFlags, body: &[u8]) -> bool {
        let _ = (kind, flags, body);
        false
    }

    /// Ends the answer to a request or a load (`done.id`). There is always
    /// room for it. Then call [`ServerSession::handle_bytes`] with nothing: a
    /// request may wait.
    pub fn done(&mut self, done: &Done<'_>) {
        let _ = done;
    }

    /// The request or load that is being answered.
    pub fn answering(&self) -> Option<u64> {
        None
    }

    /// Ends the session: nothing but this goodbye is sent any more. Close it
    /// when [`ServerSession::is_finished`].
    pub fn goodbye(&mut self, reason: GoodbyeReason, text: &str, now: Millis, hub: &mut Hub) {
        let _ = (reason, text, now, hub);
    }

    /// May the connection be closed?
    pub fn is_finished(&self) -> bool {
        false
    }

    /// Has it got everything that is published?
    pub fn is_caught_up(&self, hub: &Hub) -> bool {
        let _ = hub;
        false
    }

    /// When [`ServerSession::handle_timeout`] wants to be called next; may be
    /// earlier than something happens.
    pub fn poll_timeout(&self) -> Option<Millis> {
        None
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Millis, hub: &mut Hub) {
        let _ = (now, hub);
    }

    /// Names it again in the next turn: it has more to send than its share of
    /// this one.
    pub fn requeue(&self, hub: &mut Hub) {
        let _ = hub;
    }

    /// What is told of it.
    pub fn info(&self, hub: &Hub, now: Millis) -> SessionInfo {
        let _ = (hub, now);
        SessionInfo {
            session: 0,
            name: String::new(),
            peer: self.peer,
            state: crate::session::SessionState::Greeting,
            subscriber: false,
            filter: String::new(),
            revision: crate::Revision(0),
            lag_records: 0,
            lag_ms: 0,
            queued_bytes: 0,
            own_bytes: 0,
            sent_records: 0,
            conflated: 0,
            resumes: 0,
            snapshots: 0,
            resyncs: 0,
            heard_ms: 0,
        }
    }

    /// Gives back all that it holds in the hub and the table: to be called
    /// when the connection is closed, however that came.
    pub fn close(self, hub: &mut Hub, table: &mut Table) {
        let _ = (hub, table);
    }
}
