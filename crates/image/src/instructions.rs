//! Three things that the compiler doesn't make of Rust what they have to be.
//!
//! **Counting bits** has an instruction in every x86-64 processor of the last
//! fifteen years, but the compiler may not assume it. Whether it is there is found
//! out at attach. It is written down as such, not enabled for a function: a function
//! compiled for other processors than its caller can't become part of the caller, and
//! the call would cost as much as half a lookup.
//!
//! **Choosing between two numbers** without a branch: where the choice can't be
//! foreseen, each wrong guess costs as much as a dozen levels of a lookup, and the
//! compiler takes a branch when it pleases.
#![allow(unsafe_code)] // instructions, written down
use crate::layout::tag;

/// `entry` if it is a leaf, else `below`, which was read under it.
#[inline(always)]
pub(crate) fn keep(entry: u32, below: u32) -> u32 {
    const { assert!(tag::LEAF == 1 << 31) }
    #[cfg(target_arch = "x86_64")]
    {
        let mut kept = below;
        // SAFETY: registers and flags only.
        unsafe {
            core::arch::asm!(
                "test {entry:e}, {entry:e}",
                "cmovs {kept:e}, {entry:e}",
                entry = in(reg) entry,
                kept = inout(reg) kept,
                options(pure, nomem, nostack),
            );
        }
        kept
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let leaf = ((entry as i32) >> 31) as u32;
        entry & leaf | below & !leaf
    }
}

/// A way to count the bits that are set.
pub(crate) trait Ones: Copy {
    /// How many bits of `word` are set.
    fn of(self, word: u64) -> u64;
}

/// Runs everywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Ones for Portable {
    #[inline(always)]
    fn of(self, word: u64) -> u64 {
        word.count_ones().into()
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
    fn of(self, word: u64) -> u64 {
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
        count
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    fn of(self, word: u64) -> u64 {
        word.count_ones().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_right() {
        for below in [0, 1, u32::MAX] {
            assert_eq!(keep(tag::LEAF | 7, below), tag::LEAF | 7);
            assert_eq!(keep(tag::LEAF - 1, below), below);
        }
    }

    #[test]
    fn bits_are_counted() {
        for word in [0, 1, u64::MAX, 0x8000_0000_0000_0001, 0x5555_5555_5555_5555] {
            assert_eq!(Portable.of(word), u64::from(word.count_ones()));
            if let Some(popcnt) = Popcnt::detect() {
                assert_eq!(popcnt.of(word), u64::from(word.count_ones()));
            }
        }
    }
}
