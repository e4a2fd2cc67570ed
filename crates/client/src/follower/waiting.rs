//! Waiting for what comes, and what is made for later meanwhile.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rtm_image::Reader;
use rustix::event::PollFlags;

use super::Follower;
use crate::connection::wait;
use crate::error::Error;
use crate::event::{Sink, Turn};
use crate::transport::Filling;

/// So many records after a snapshot or resume, each of a route that is there or was, show
/// that more will come. (While a table is loaded nearly all are new, and an index would be
/// made, and added to, while the processors have better things to do.)
pub(super) const INDEX_AFTER: u64 = 1000;
/// Entries of the replica's index that are made at once: some 0.2 ms, for which a
/// record that comes meanwhile waits.
const IDLE_ENTRIES: u32 = 4096;

/// What came of waiting in a read.
enum Waited {
    /// The turn is over.
    Worked(Turn),
    /// Nothing came for so long.
    InVain(Duration),
}

impl Follower {
    /// Waits until something can be done, does it, and comes back; also when
    /// one of the caller's descriptors is readable or `timeout` is over.
    ///
    /// # Errors
    /// As [`Follower::on_ready`].
    pub fn turn(
        &mut self,
        timeout: Option<Duration>,
        also: &[BorrowedFd<'_>],
        tell: Sink<'_>,
    ) -> Result<Turn, Error> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        if self.image.as_ref().is_some_and(Reader::writer_moved) && !self.image_asked {
            self.ask_for_image();
            if let Some(transport) = &mut self.transport {
                // What doesn't go now is written when the socket can be.
                let _ = transport.flush();
            }
        }
        // No clock is read for a wait that a change ends: one in vain says how long it was.
        let mut left = timeout;
        while also.is_empty() && self.next_deadline().is_none() && self.can_wait_reading(left) {
            match self.turn_reading(left, tell)? {
                Waited::Worked(turn) => return Ok(turn),
                Waited::InVain(waited) => left = left.map(|left| left.saturating_sub(waited)),
            }
        }
        let until = left.and_then(|left| Instant::now().checked_add(left));
        let end = [self.next_deadline(), until].into_iter().flatten().min();
        // The connection itself, not the epoll around it: one call less.
        let mut fds: Vec<(BorrowedFd<'_>, PollFlags)> =
            also.iter().map(|fd| (*fd, PollFlags::IN)).collect();
        if let Some(transport) = &self.transport {
            let mut flags = PollFlags::IN;
            if self.wants_write() {
                flags |= PollFlags::OUT;
            }
            fds.push((transport.connection.as_fd(), flags));
        }
        // What nobody waits for is made while nothing is there to be read.
        let mut ready = Vec::new();
        let indexes = self.is_index_worth();
        while let Some(replica) = self.replica.as_mut().filter(|replica| {
            let in_time = end.is_none_or(|end| Instant::now() < end);
            indexes && in_time && replica.has_idle_work()
        }) {
            ready = wait(&fds, Some(Duration::ZERO));
            if ready.iter().any(|flags| !flags.is_empty()) {
                break;
            }
            replica.idle(IDLE_ENTRIES);
        }
        if ready.iter().all(PollFlags::is_empty) {
            ready = wait(&fds, left_until(end));
        }
        let mine = self.transport.is_some() && ready.last().is_some_and(|flags| !flags.is_empty());
        let now = Instant::now();
        if mine || self.next_deadline().is_some_and(|at| at <= now) {
            self.on_ready(now, tell)?;
        }
        if let Some(index) = ready.iter().take(also.len()).position(|flags| !flags.is_empty()) {
            return Ok(Turn::Also(index));
        }
        Ok(if mine { Turn::Worked } else { Turn::TimedOut })
    }

    /// Is there nothing to do and nothing to wait for but what the connection
    /// brings, so that a read can do the waiting?
    fn can_wait_reading(&self, at_most: Option<Duration>) -> bool {
        let indexes = self.is_index_worth();
        let idle = self.replica.as_ref().is_some_and(|replica| indexes && replica.has_idle_work());
        !idle
            && !self.wants_write()
            && self
                .transport
                .as_ref()
                .is_some_and(|transport| transport.connection.can_wait(at_most))
    }

    /// A turn that waits in its read: one system call where a change comes.
    fn turn_reading(&mut self, at_most: Option<Duration>, tell: Sink<'_>) -> Result<Waited, Error> {
        let Some(transport) = &mut self.transport else {
            return Ok(Waited::Worked(Turn::TimedOut));
        };
        let filled = transport.fill_waiting(at_most);
        let now = Instant::now();
        let fill = match filled {
            Ok(None) => return Ok(Waited::Worked(Turn::TimedOut)),
            Ok(Some(Filling::Nothing(waited))) => return Ok(Waited::InVain(waited)),
            Ok(Some(Filling::Read(read))) => transport.filled(Ok(read), now),
            Err(error) => Err(error),
        };
        let worked = match fill.and_then(|fill| self.take(&fill, now, tell)) {
            Ok(true) => self.work(now, tell),
            other => other.map(|_| ()),
        };
        self.worked(worked, now, tell)?;
        Ok(Waited::Worked(Turn::Worked))
    }

    /// Goes on with what makes later changes cheaper for the replica: an exact index,
    /// once so many came that it is worth its 10 bytes a route. [`Follower::turn`]
    /// does so by itself while it waits; who waits in a loop of their own calls this
    /// when nothing else is to be done. False: there is no more.
    pub fn idle(&mut self) -> bool {
        self.is_index_worth()
            && self.replica.as_mut().is_some_and(|replica| replica.idle(IDLE_ENTRIES))
    }

    /// Records that weren't new routes, about.
    pub(super) fn changes(&self) -> u64 {
        let held = self.replica.as_ref().map_or(0, |replica| {
            let counts = replica.store().counts();
            counts.routes4 + counts.routes6
        });
        self.counts.records.saturating_sub(held as u64)
    }

    fn is_index_worth(&self) -> bool {
        self.index_from != u64::MAX && self.changes() >= self.index_from
    }
}

/// How long it is until then.
fn left_until(end: Option<Instant>) -> Option<Duration> {
    end.map(|end| end.saturating_duration_since(Instant::now()))
}
