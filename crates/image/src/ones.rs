//! Counting bits: by the instruction that every x86-64 processor of the last
//! fifteen years has but the compiler may not assume, or without. Which one is
//! found out at attach.
//!
//! The instruction is written down as such, not enabled for a function: a
//! function compiled for other processors than its caller can't become part of
//! the caller, and the call would cost as much as half a lookup.
#![allow(unsafe_code)] // an instruction that needs a processor feature

/// A way to count the bits that are set.
pub(crate) trait Ones: Copy {
    /// How many bits of `word` are set.
    fn of(self, word: u64) -> u32;
}

/// Runs everywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Ones for Portable {
    #[inline(always)]
    fn of(self, word: u64) -> u32 {
        word.count_ones()
    }
}

/// Proof that the processor has the instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Popcnt(());

impl Popcnt {
    /// Has it?
    pub(crate) fn detect() -> Option<Popcnt> {
        #[cfg(target_arch = "x86_64")]
        return std::arch::is_x86_feature_detected!("popcnt").then_some(Popcnt(()));
        #[cfg(not(target_arch = "x86_64"))]
        Some(Popcnt(()))
    }
}

impl Ones for Popcnt {
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn of(self, word: u64) -> u32 {
        let count: u64;
        // SAFETY: there is a `Popcnt` only where the processor has the
        // instruction; it touches a register and the flags.
        unsafe {
            core::arch::asm!(
                "popcnt {count}, {word}",
                count = lateout(reg) count,
                word = in(reg) word,
                options(pure, nomem, nostack),
            );
        }
        count as u32
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    fn of(self, word: u64) -> u32 {
        word.count_ones()
    }
}
