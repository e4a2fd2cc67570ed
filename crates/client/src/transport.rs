//! A session on its connection: bytes from the one to the other.

use std::time::Instant;

use rtm_tables::{ClientConfig, ClientSession, Millis};

use crate::connection::{Connection, Read};
use crate::error::Error;

/// How long a daemon on TCP may be silent: it sends heartbeats every 10 s.
const DEAD_MS: u64 = 30_000;

pub(crate) struct Transport {
    pub(crate) connection: Connection,
    pub(crate) session: ClientSession,
    began: Instant,
}

impl Transport {
    /// Puts a session on a connection; the hello waits to be written.
    pub(crate) fn new(connection: Connection, mut config: ClientConfig, now: Instant) -> Transport {
        if matches!(connection.address(), crate::Address::Tcp(..)) {
            config.dead_ms = Some(DEAD_MS);
        }
        Transport { connection, session: ClientSession::new(config, 0), began: now }
    }

    /// The session's time.
    pub(crate) fn millis(&self, now: Instant) -> Millis {
        now.saturating_duration_since(self.began).as_millis() as Millis
    }

    /// When the session wants to be looked at, if nothing comes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let due = self.session.poll_timeout()?;
        Some(self.began + std::time::Duration::from_millis(due))
    }

    /// Has the daemon been silent for too long?
    pub(crate) fn check_time(&mut self, now: Instant) -> Result<(), Error> {
        let now = self.millis(now);
        self.session.handle_timeout(now).map_err(|timeout| Error::Silent {
            address: self.connection.address().clone(),
            timeout,
        })
    }

    /// Writes what goes without waiting. True: all of it.
    pub(crate) fn flush(&mut self) -> Result<bool, Error> {
        loop {
            let output = self.session.output();
            if output.is_empty() {
                return Ok(true);
            }
            let count = self.connection.write(output).map_err(|error| self.broken(error))?;
            if count == 0 {
                return Ok(false);
            }
            self.session.transmitted(count);
        }
    }

    /// Reads once, into the session's buffer. All events of the last read
    /// must have been polled. Says how much came and whether more may be there.
    pub(crate) fn fill(&mut self, now: Instant) -> Result<Fill, Error> {
        let now = self.millis(now);
        let space = self.session.space();
        let room = space.len();
        match self.connection.read(space).map_err(|error| self.broken(error))? {
            Read::Bytes(count) => {
                self.session.received(count, now);
                Ok(Fill { bytes: count, drained: count < room, ended: false })
            }
            Read::Nothing => Ok(Fill { bytes: 0, drained: true, ended: false }),
            Read::End => Ok(Fill { bytes: 0, drained: true, ended: true }),
        }
    }

    /// A write or read that failed: that the peer has closed is no news about
    /// a system call.
    fn broken(&self, error: ipc::SystemError) -> Error {
        use ipc::Errno;
        match error.errno {
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN | Errno::TIMEDOUT => self.closed(),
            _ => Error::System(error),
        }
    }

    /// The end of the stream.
    pub(crate) fn closed(&self) -> Error {
        Error::Closed { address: self.connection.address().clone() }
    }
}

/// What a read brought.
pub(crate) struct Fill {
    /// Bytes.
    pub(crate) bytes: usize,
    /// Was everything taken that was there?
    pub(crate) drained: bool,
    /// Has the daemon closed?
    pub(crate) ended: bool,
}
