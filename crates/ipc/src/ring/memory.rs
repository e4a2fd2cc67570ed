//! The ring's memory: where positions lead, how bytes get in and out, how a side sleeps.
//! What it promises to [`super::algorithm`] is in that file.
#![allow(unsafe_code)] // copies into and out of shared memory, each argued below

use core::sync::atomic::{AtomicU64, Ordering};

use super::algorithm::{Memory, Side};
use super::{AT_DATA, AT_FINISHED, LOOK_AGAIN, MESSAGE_HEAD, at_flag, at_position};
use crate::futex::{self, Woken};
use crate::map::MapMut;
use crate::timer::Deadline;
use crate::{SystemError, barrier};

/// Messages up to here are put in without a call.
const SHORT: usize = 128;
/// So far ahead the writer asks for the memory that it will write: the reader has
/// had it last, and to get it back takes as long as ten messages.
const AHEAD: u64 = 512;

pub(super) struct Shared {
    pub(super) map: MapMut,
    pub(super) mask: u64,
    /// Movers have the light fence, sleepers the heavy one.
    pub(super) asymmetric: bool,
    /// How long this call may wait.
    pub(super) deadline: Deadline,
}

/// Why a sleep in real memory ends early.
#[derive(Debug)]
pub(super) enum Stop {
    Time,
    Signal,
    System(SystemError),
}

impl Shared {
    /// The double word at `position`: all of it in one place, since messages
    /// begin and the capacity is at a multiple of 8.
    #[inline]
    pub(super) fn word(&self, position: u64) -> &AtomicU64 {
        let start = AT_DATA + (position & self.mask & !7) as usize;
        // SAFETY: eight bytes of the data area, which the map holds (its length
        // is AT_DATA and the capacity), aligned as the map is and `start`.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(start).cast()) }
    }

    /// The two pieces of the data area that hold `len` bytes from `position`:
    /// where the first begins, its length, the second's.
    #[inline]
    fn pieces(&self, position: u64, len: usize) -> (usize, usize, usize) {
        let start = (position & self.mask) as usize;
        let to_the_end = self.mask as usize + 1 - start;
        if len <= to_the_end {
            return (AT_DATA + start, len, 0);
        }
        let second = len - to_the_end;
        assert!(second <= self.mask as usize + 1, "{len} bytes of a smaller ring");
        (AT_DATA + start, to_the_end, second)
    }

    /// Puts in the message whose head is at `position`; there is `room`.
    #[inline]
    pub(super) fn put_message(&self, position: u64, message: &[u8], room: u64) {
        let len = message.len();
        let at = position + MESSAGE_HEAD as u64;
        if room > 2 * AHEAD {
            prefetch_to_write(self.word(position + AHEAD).as_ptr().cast());
        }
        self.word(position).store((len as u64).to_le(), Ordering::Relaxed);
        let (start, first, second) = self.pieces(at, len);
        if second > 0 || !(16..=SHORT).contains(&len) {
            return self.put(at, message);
        }
        // SAFETY: as in `put`: `first` is the whole length; no piece ends behind it.
        unsafe {
            let (from, to) = (message.as_ptr(), self.map.as_mut_ptr().add(start));
            let mut done = 16;
            while done <= first {
                copy_words(from.add(done - 16), to.add(done - 16));
                done += 16;
            }
            copy_words(from.add(first - 16), to.add(first - 16));
        }
    }

    /// Copies out the message of `len` bytes whose head is at `position`, in
    /// place of what `message` is.
    #[inline]
    pub(super) fn take_message(&self, position: u64, message: &mut Vec<u8>, len: usize) {
        message.clear();
        message.reserve(len);
        let (start, first, second) = self.pieces(position + MESSAGE_HEAD as u64, len);
        let (base, to) = (self.map.as_ptr(), message.as_mut_ptr());
        // SAFETY: both pieces lie in the data area (see `put`, also for who may
        // touch them); together they are the `len` bytes that were reserved.
        unsafe {
            copy(base.add(start), to, first);
            if second > 0 {
                core::ptr::copy_nonoverlapping(base.add(AT_DATA), to.add(first), second);
            }
            message.set_len(len);
        }
    }
}

/// A full fence. On x86-64 the compiler makes `mfence` of one, which takes two
/// to three times as long as a locked instruction; that one is as full a fence
/// for ordinary memory, and it is what the kernel's `smp_mb` and GCC's
/// `atomic_thread_fence` are.
#[inline]
fn full_fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: adds nothing to a word of our own stack, below which nothing is
    // touched; without `nomem` the compiler moves no access across it.
    unsafe {
        core::arch::asm!("lock or dword ptr [rsp], 0", options(nostack));
    }
    #[cfg(not(target_arch = "x86_64"))]
    core::sync::atomic::fence(Ordering::SeqCst);
}

/// Copies 16 bytes by two loads and one store. A vector load of what the caller
/// has just written in words would wait until those stores have reached the
/// cache (a third of the time that sending took); two stores instead of one
/// fill the store buffer twice as fast, which is what the writer waits for where
/// the reader's core is far away.
///
/// # Safety
/// Sixteen bytes may be read at `from` and written at `to`.
#[inline]
unsafe fn copy_words(from: *const u8, to: *mut u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's; the two instructions read these 16 bytes and write a
    // register. (Written in Rust they would become one load.)
    unsafe {
        let both: core::arch::x86_64::__m128i;
        core::arch::asm!(
            "movq {both}, qword ptr [{from}]",
            "movhps {both}, qword ptr [{from} + 8]",
            both = out(xmm_reg) both, from = in(reg) from,
            options(pure, readonly, nostack, preserves_flags)
        );
        core::arch::x86_64::_mm_storeu_si128(to.cast(), both);
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller's.
    unsafe {
        core::ptr::copy_nonoverlapping(from, to, 16);
    }
}

/// Asks for a line of memory that will be written. Only a hint: any address will
/// do, and a processor that doesn't know the instruction passes over it.
#[inline]
fn prefetch_to_write(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads and writes nothing and never faults.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// Copies; short messages, which are most, without a call.
///
/// # Safety
/// As [`core::ptr::copy_nonoverlapping`].
#[inline]
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's; each piece ends at or before `len`.
    unsafe {
        let piece = |at: usize| core::ptr::copy_nonoverlapping(from.add(at), to.add(at), 16);
        match len {
            16..=32 => {
                piece(0);
                piece(len - 16);
            }
            33..=64 => {
                piece(0);
                piece(16);
                piece(len - 32);
                piece(len - 16);
            }
            _ => core::ptr::copy_nonoverlapping(from, to, len),
        }
    }
}

impl Memory for Shared {
    type Stop = Stop;

    #[inline]
    fn position(&self, of: Side, order: Ordering) -> u64 {
        self.map.load_u64(at_position(of), order)
    }

    #[inline]
    fn set_position(&self, of: Side, to: u64, order: Ordering) {
        self.map.store_u64(at_position(of), to, order);
    }

    #[inline]
    fn flag(&self, of: Side) -> bool {
        self.map.load_u32(at_flag(of), Ordering::Relaxed) != 0
    }

    fn set_flag(&self, of: Side, up: bool) {
        self.map.store_u32(at_flag(of), up.into(), Ordering::Relaxed);
    }

    fn bell(&self, of: Side, order: Ordering) -> u32 {
        self.map.load_u32(at_flag(of) + 4, order)
    }

    fn ring_bell(&self, of: Side, order: Ordering) {
        let bell = at_flag(of) + 4;
        self.map.fetch_add_u32(bell, 1, order);
        // Fails only if somebody has shortened the file, which our next access
        // would not survive either.
        let _ = futex::wake(&self.map, bell, 1);
    }

    fn sleep(&self, of: Side, seen: u32) -> Result<(), Stop> {
        if self.deadline.passed() {
            return Err(Stop::Time);
        }
        let most = self.deadline.left().map_or(LOOK_AGAIN, |left| left.min(LOOK_AGAIN));
        match futex::wait(&self.map, at_flag(of) + 4, seen, Some(most)) {
            Ok(Woken::Interrupted) => Err(Stop::Signal),
            Ok(_) => Ok(()),
            Err(error) => Err(Stop::System(error)),
        }
    }

    fn finished(&self) -> bool {
        self.map.load_u32(AT_FINISHED, Ordering::Acquire) != 0
    }

    #[inline]
    fn fence_to_rouse(&self) {
        if self.asymmetric {
            barrier::light();
        } else {
            full_fence();
        }
    }

    fn fence_to_sleep(&self) {
        if self.asymmetric {
            // Each side registered when it opened the ring, so this can't fail.
            // If a filter forbids it since then, a wake-up may come as late as
            // the next look by ourselves.
            let _ = barrier::heavy();
        }
        full_fence();
    }

    fn put(&self, position: u64, bytes: &[u8]) {
        let (start, first, second) = self.pieces(position, bytes.len());
        let base = self.map.as_mut_ptr();
        // SAFETY: both pieces lie in the data area: the position is masked, the
        // first piece ends at the area's end, the second begins at its start
        // and is not longer than it (`pieces`). The positions give these bytes
        // to the writer alone; a foreign process that breaks that only damages
        // bytes.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), base.add(start), first);
            if second > 0 {
                let rest = bytes.as_ptr().add(first);
                core::ptr::copy_nonoverlapping(rest, base.add(AT_DATA), second);
            }
        }
    }

    fn take(&self, position: u64, bytes: &mut [u8]) {
        let (start, first, second) = self.pieces(position, bytes.len());
        let base = self.map.as_ptr();
        // SAFETY: as in `put`; the positions give these bytes to the reader.
        unsafe {
            core::ptr::copy_nonoverlapping(base.add(start), bytes.as_mut_ptr(), first);
            if second > 0 {
                let rest = bytes.as_mut_ptr().add(first);
                core::ptr::copy_nonoverlapping(base.add(AT_DATA), rest, second);
            }
        }
    }
}
