//! A session on its connection: bytes from the one to the other.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ipc::{Errno, SystemError};
use rtm_tables::{ClientConfig, ClientSession, Millis};

use crate::connection::{Connection, Read};
use crate::error::Error;

/// Descriptors that may wait for their frames: the daemon sends one at a time.
const DESCRIPTORS_MAX: usize = 8;

/// How long a daemon on TCP may be silent: it sends heartbeats every
/// 10 s at least (`heartbeat_s`).
const DEAD_MS: u64 = 30_000;

pub(crate) struct Transport {
    pub(crate) connection: Connection,
    pub(crate) session: ClientSession,
    /// Descriptors that came beside the bytes, for DESCRIPTOR frames that are
    /// still in the session's buffer.
    descriptors: VecDeque<OwnedFd>,
    began: Instant,
    /// The daemon takes no more bytes. What it sent before, a goodbye perhaps,
    /// is still to be read.
    deaf: bool,
    /// What happens elsewhere just after a write that found no room.
    #[cfg(test)]
    pub(crate) meanwhile: Option<Box<dyn FnMut() + Send>>,
}

impl Transport {
    /// Puts a session on a connection; the hello waits to be written.
    pub(crate) fn new(connection: Connection, mut config: ClientConfig, now: Instant) -> Transport {
        if matches!(connection.address(), crate::Address::Tcp(..)) {
            config.dead_ms = Some(DEAD_MS);
        }
        Transport {
            connection,
            session: ClientSession::new(config, 0),
            descriptors: VecDeque::new(),
            began: now,
            deaf: false,
            #[cfg(test)]
            meanwhile: None,
        }
    }

    /// The session's time.
    pub(crate) fn millis(&self, now: Instant) -> Millis {
        now.saturating_duration_since(self.began).as_millis() as Millis
    }

    /// When the session wants to be looked at, if nothing comes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let due = self.session.poll_timeout()?;
        Some(self.began + Duration::from_millis(due))
    }

    /// Has the daemon been silent for too long?
    pub(crate) fn check_time(&mut self, now: Instant) -> Result<(), Error> {
        let now = self.millis(now);
        self.session.handle_timeout(now).map_err(|timeout| Error::Silent {
            address: self.connection.address().clone(),
            timeout,
        })
    }

    /// Writes what goes without waiting. True: all of it. That the daemon has
    /// closed is for the next read to say, behind what it sent before.
    pub(crate) fn flush(&mut self) -> Result<bool, Error> {
        loop {
            let output = self.session.output();
            if output.is_empty() {
                return Ok(true);
            }
            let length = output.len();
            let count = match self.deaf {
                true => length,
                false => match self.connection.write(output) {
                    Ok(count) => count,
                    Err(error) if has_closed(&error) => {
                        self.deaf = true;
                        length
                    }
                    Err(error) => return Err(Error::System(error)),
                },
            };
            if count == 0 {
                #[cfg(test)]
                if let Some(meanwhile) = &mut self.meanwhile {
                    meanwhile();
                }
                return Ok(false);
            }
            self.session.transmitted(count);
        }
    }

    /// The daemon takes no more: what is still to be read is the last.
    pub(crate) fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Reads once, into the session's buffer. All events of the last read
    /// must have been polled. Says how much came and whether more may be there.
    pub(crate) fn fill(&mut self, now: Instant) -> Result<Fill, Error> {
        self.check_descriptors()?;
        let read = self.connection.read(self.session.space(), &mut self.descriptors);
        self.filled(read, now)
    }

    /// The same, waiting for something to come, where the connection can: no longer
    /// than said, perhaps only half as long. What came is for [`Transport::filled`].
    /// `None`: a signal was caught.
    pub(crate) fn fill_waiting(
        &mut self,
        at_most: Option<Duration>,
    ) -> Result<Option<Filling>, Error> {
        self.check_descriptors()?;
        let descriptors = self.session.wants_descriptors().then_some(&mut self.descriptors);
        match self.connection.read_waiting(self.session.space(), descriptors, at_most) {
            Ok(None) => Ok(None),
            Ok(Some(Read::Nothing)) => Ok(Some(Filling::Nothing(self.connection.patience()))),
            Ok(Some(read)) => Ok(Some(Filling::Read(read))),
            Err(error) if has_closed(&error) => Ok(Some(Filling::Read(Read::End))),
            Err(error) => Err(Error::System(error)),
        }
    }

    fn check_descriptors(&self) -> Result<(), Error> {
        if self.descriptors.len() > DESCRIPTORS_MAX {
            let error = SystemError::new("recvmsg", self.connection.address(), Errno::MSGSIZE);
            return Err(Error::System(error));
        }
        Ok(())
    }

    /// What a read brought is the session's from here on.
    pub(crate) fn filled(
        &mut self,
        read: Result<Read, SystemError>,
        now: Instant,
    ) -> Result<Fill, Error> {
        match read {
            Err(error) if has_closed(&error) => Ok(Fill { bytes: 0, drained: true, ended: true }),
            Err(error) => Err(Error::System(error)),
            Ok(Read::Bytes(count)) => {
                let drained = count < self.session.space_len();
                self.session.received(count, self.millis(now));
                Ok(Fill { bytes: count, drained, ended: false })
            }
            Ok(Read::Nothing) => Ok(Fill { bytes: 0, drained: true, ended: false }),
            Ok(Read::End) => Ok(Fill { bytes: 0, drained: true, ended: true }),
        }
    }

    /// The descriptor of the DESCRIPTOR frame that was just polled; `None`: a
    /// daemon that announces one and sends none.
    pub(crate) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }

    /// The end of the stream.
    pub(crate) fn closed(&self) -> Error {
        Error::Closed { address: self.connection.address().clone() }
    }
}

/// What came of waiting for something to read.
pub(crate) enum Filling {
    /// Nothing, for so long.
    Nothing(Duration),
    /// Something, or the end.
    Read(Read),
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

/// That the daemon has closed is no news about a system call.
fn has_closed(error: &SystemError) -> bool {
    matches!(error.errno, Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN | Errno::TIMEDOUT)
}
