//! Tells the processor what will be read soon.
//!
//! A table of a million routes is larger than any cache, and a change of a random
//! one reads some ten places of it, each a hundred nanoseconds away. Whoever knows
//! several such places asks for all of them first. That could be done by reading
//! them; but a read that waits holds up all that stands behind it, once the
//! processor has looked some hundred instructions ahead, so that only a few are
//! ever under way. What [`read`] asks for is waited for by nobody.

#![allow(unsafe_code)]

/// Has the cache line in which a value begins brought near, if it isn't already.
///
/// Nothing else comes of it, and nothing waits for it.
#[inline(always)]
pub fn read<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program could notice and never faults;
    // all that `_mm_prefetch` asks for is SSE, which every x86-64 has.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(value).cast());
    }
    // Where there is no such instruction in stable Rust, it is read and forgotten.
    #[cfg(not(target_arch = "x86_64"))]
    if size_of_val(value) > 0 {
        use core::mem::MaybeUninit;
        // SAFETY: the byte belongs to a value that a reference is held to; as it may be
        // padding, it is taken for one that need not be initialised.
        let byte = unsafe { core::ptr::from_ref(value).cast::<MaybeUninit<u8>>().read_volatile() };
        let _ = core::hint::black_box(byte);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn whatever_it_is_nothing_comes_of_it() {
        let all = vec![7_u64; 1000];
        all.iter().for_each(super::read);
        super::read(&());
        super::read("");
        assert_eq!(all, [7; 1000]);
    }
}
