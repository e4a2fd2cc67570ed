//! Times of single deliveries, in memory that all processes of a bench share.
//!
//! For "one update at a time" the publisher notes when it wrote update i, every
//! subscriber notes when it had it, and the last of them wakes the publisher
//! for the next one. Nobody spins: on two cores a spinning process would be
//! what is measured. The wake-up of the publisher comes after all times of
//! that update were taken, so it is in none of them.
//!
//! ```text
//! 0   arrived: u64     deliveries of all subscribers so far
//! 8   turn: u32        updates that everyone has (the futex)
//! 64  written[samples]: u64 ns
//!     received[subscribers][samples]: u64 ns
//! ```
#![allow(unsafe_code)] // mmap and futex, which std does not have.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{io, ptr};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

const ARRIVED: usize = 0;
const TURN: usize = 8;
const HEADER_BYTES: usize = 64;

/// How another process finds and reads a [`Stamps`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StampsAddress {
    path: String,
    subscribers: usize,
    samples: usize,
}

/// The shared times.
pub(crate) struct Stamps {
    base: *mut u8,
    bytes: usize,
    subscribers: usize,
    samples: usize,
    /// Keeps the memory reachable for others by `/proc/PID/fd`.
    file: File,
}

impl Stamps {
    /// Makes the memory, all zero.
    pub(crate) fn create(subscribers: usize, samples: usize) -> io::Result<Self> {
        // SAFETY: the name is a NUL-terminated literal; the call only makes a descriptor.
        let fd = unsafe { libc::memfd_create(c"rtm-bench-stamps".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just made and belongs to nobody else.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(bytes(subscribers, samples) as u64)?;
        Self::map(file, subscribers, samples)
    }

    /// Opens what another process of this bench made.
    pub(crate) fn open(address: &StampsAddress) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(&address.path)?;
        Self::map(file, address.subscribers, address.samples)
    }

    /// Valid while this `Stamps` lives.
    pub(crate) fn address(&self) -> StampsAddress {
        StampsAddress {
            path: format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()),
            subscribers: self.subscribers,
            samples: self.samples,
        }
    }

    pub(crate) fn samples(&self) -> usize {
        self.samples
    }

    /// Publisher: update `sample` is about to be written.
    pub(crate) fn written(&self, sample: usize, ns: u64) {
        assert!(sample < self.samples);
        self.word(HEADER_BYTES + 8 * sample).store(ns, Ordering::Relaxed);
    }

    /// Subscriber: update `sample` was received (and applied) at `ns`.
    pub(crate) fn received(&self, subscriber: usize, sample: usize, ns: u64) {
        assert!(subscriber < self.subscribers && sample < self.samples);
        self.word(self.received_offset(subscriber, sample)).store(ns, Ordering::Relaxed);
        // The release orders the time above before the count that tells of it.
        let arrived = self.word(ARRIVED).fetch_add(1, Ordering::AcqRel) + 1;
        if arrived == ((sample + 1) * self.subscribers) as u64 {
            self.turn().store(sample as u32 + 1, Ordering::Release);
            // SAFETY: the word lies in a live shared mapping; FUTEX_WAKE reads nothing else.
            unsafe { libc::syscall(libc::SYS_futex, self.turn().as_ptr(), libc::FUTEX_WAKE, 1) };
        }
    }

    /// Publisher: sleeps until all subscribers have update `sample`.
    pub(crate) fn wait(&self, sample: usize, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            let turn = self.turn().load(Ordering::Acquire);
            if turn > sample as u32 {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let arrived = self.word(ARRIVED).load(Ordering::Acquire);
                bail!("update {sample}: only {arrived} deliveries arrived in {patience:?}");
            }
            let timeout = libc::timespec {
                tv_sec: left.as_secs() as libc::time_t,
                tv_nsec: left.subsec_nanos() as libc::c_long,
            };
            // SAFETY: the word lies in a live shared mapping and `timeout`
            // outlives the call. Spurious returns are handled by the loop.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.turn().as_ptr(),
                    libc::FUTEX_WAIT,
                    turn,
                    &raw const timeout,
                )
            };
        }
    }

    /// For each update that was written before `until_ns`, nanoseconds from the
    /// write to the last subscriber's time.
    pub(crate) fn last_latencies_ns(&self, until_ns: u64) -> Vec<u64> {
        (0..self.samples)
            .map(|sample| {
                let written = self.word(HEADER_BYTES + 8 * sample).load(Ordering::Acquire);
                (sample, written)
            })
            .filter(|(_, written)| *written < until_ns)
            .map(|(sample, written)| {
                let last = (0..self.subscribers)
                    .map(|subscriber| {
                        self.word(self.received_offset(subscriber, sample)).load(Ordering::Acquire)
                    })
                    .max()
                    .unwrap_or(written);
                last.saturating_sub(written)
            })
            .collect()
    }

    fn received_offset(&self, subscriber: usize, sample: usize) -> usize {
        HEADER_BYTES + 8 * (self.samples + subscriber * self.samples + sample)
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset % 8 == 0 && offset + 8 <= self.bytes);
        // SAFETY: in bounds and aligned by the assertion (the mapping begins at a
        // page); an atomic may be shared with other processes that only use atomics.
        unsafe { AtomicU64::from_ptr(self.base.add(offset).cast()) }
    }

    fn turn(&self) -> &AtomicU32 {
        // SAFETY: as for `word`; TURN is in the header, which always exists.
        unsafe { AtomicU32::from_ptr(self.base.add(TURN).cast()) }
    }

    fn map(file: File, subscribers: usize, samples: usize) -> io::Result<Self> {
        let bytes = bytes(subscribers, samples);
        if file.metadata()?.len() < bytes as u64 {
            return Err(io::Error::other("stamps: the memory is smaller than told"));
        }
        // SAFETY: a fresh shared mapping of a file that is as long as the
        // mapping (checked above; nobody shrinks it).
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { base: base.cast(), bytes, subscribers, samples, file })
    }
}

impl Drop for Stamps {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length; no reference outlives `self`.
        unsafe { libc::munmap(self.base.cast(), self.bytes) };
    }
}

fn bytes(subscribers: usize, samples: usize) -> usize {
    HEADER_BYTES + 8 * samples * (subscribers + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_subscriber_counts_and_wakes() {
        let stamps = Stamps::create(2, 2).unwrap();
        let other = Stamps::open(&stamps.address()).unwrap();
        stamps.written(0, 100);
        other.received(0, 0, 150);
        assert!(stamps.wait(0, Duration::from_millis(1)).is_err());
        other.received(1, 0, 180);
        stamps.wait(0, Duration::from_secs(5)).unwrap();
        stamps.written(1, 200);
        other.received(1, 1, 201);
        other.received(0, 1, 207);
        assert_eq!(stamps.last_latencies_ns(u64::MAX), [80, 7]);
        assert_eq!(stamps.last_latencies_ns(200), [80]);
    }
}
