//! One clock for all processes of a bench.
//!
//! `CLOCK_MONOTONIC` counts from the same origin in every process of a
//! machine, so a subscriber's time of its last delivery can be subtracted from
//! the publisher's time of its first write. `std::time::Instant` is the same
//! clock but cannot be written into shared memory or a reply.
#![allow(unsafe_code)] // clock_gettime: std has no number for this clock.

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub(crate) fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that outlives the call, and
    // CLOCK_MONOTONIC exists on every Linux, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
