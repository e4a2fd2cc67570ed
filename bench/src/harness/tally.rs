//! What a subscriber counts.

use std::time::Duration;

use anyhow::Result;

use super::clock::now_ns;
use super::stamps::Stamps;
use super::worker::{Arm, Reply};

/// A subscriber that waited this long for its next delivery gives up and
/// reports what it has; the rest counts as lost.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(20);

/// One subscriber's count of one run.
pub(crate) struct Tally {
    expected: u64,
    received: u64,
    overruns: u64,
    last_ns: u64,
    stamps: Option<(Stamps, usize)>,
}

impl Tally {
    pub(crate) fn new(arm: &Arm) -> Result<Self> {
        let stamps = match &arm.stamps {
            Some((address, subscriber)) => Some((Stamps::open(address)?, *subscriber)),
            None => None,
        };
        Ok(Self { expected: arm.expect, received: 0, overruns: 0, last_ns: 0, stamps })
    }

    /// `count` deliveries were just taken in. Takes the time: of each of them,
    /// if they go one at a time.
    pub(crate) fn add(&mut self, count: u64) {
        self.last_ns = now_ns();
        if let Some((stamps, subscriber)) = &self.stamps {
            for one in self.received..self.received + count {
                stamps.received(*subscriber, one as usize, self.last_ns);
            }
        }
        self.received += count;
    }

    /// The kernel said that deliveries were dropped (`ENOBUFS`).
    pub(crate) fn overrun(&mut self) {
        self.overruns += 1;
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn done(&self) -> bool {
        self.received >= self.expected
    }

    /// Not every change was delivered, only the newest value of each key: so
    /// many records in all.
    pub(crate) fn conflated(&mut self, records: u64) {
        self.received = self.received.min(records);
    }

    pub(crate) fn reply(&self, checksum: u64) -> Reply {
        Reply::Counted {
            received: self.received,
            last_ns: self.last_ns,
            overruns: self.overruns,
            checksum,
        }
    }
}
