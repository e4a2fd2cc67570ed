//! SipHash-1-3 with 128 bits, of two messages at once.
//!
//! Each step of SipHash waits for the one before: one message alone keeps a third of a
//! processor busy. What a digest needs are mostly two hashes, of an entity's bytes before
//! and after, which begin alike: the key is gone over once, then both values side by
//! side, in registers. The `siphasher` crate, which hashes streams of bytes and so one
//! message after the other, is what the tests compare with.

/// Its state between two words.
#[derive(Clone, Copy)]
pub(crate) struct Sip {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl Sip {
    /// Of a key, before the first word.
    pub(crate) fn new(k0: u64, k1: u64) -> Sip {
        Sip {
            v0: k0 ^ 0x736f_6d65_7073_6575,
            v1: k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            v2: k0 ^ 0x6c79_6765_6e65_7261,
            v3: k1 ^ 0x7465_6462_7974_6573,
        }
    }

    #[inline(always)]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
    }

    /// The next eight bytes, as a little-endian number.
    #[inline(always)]
    pub(crate) fn word(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.v0 ^= word;
    }

    #[inline(always)]
    fn fold(&self) -> u64 {
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }

    /// The hash, after the last whole word: `last` has the bytes behind that, and in its
    /// top byte the length of the message.
    #[inline(always)]
    pub(crate) fn finish(self, last: u64) -> u128 {
        let [hash] = finish([self], last);
        hash
    }
}

/// The hashes of messages that have their last whole word behind them, and end alike.
#[inline(always)]
pub(crate) fn finish<const N: usize>(mut all: [Sip; N], last: u64) -> [u128; N] {
    all.iter_mut().for_each(|sip| sip.word(last));
    all.iter_mut().for_each(|sip| sip.v2 ^= 0xee);
    for _ in 0..3 {
        all.iter_mut().for_each(Sip::round);
    }
    let low = all.map(|sip| sip.fold());
    all.iter_mut().for_each(|sip| sip.v1 ^= 0xdd);
    for _ in 0..3 {
        all.iter_mut().for_each(Sip::round);
    }
    std::array::from_fn(|at| u128::from(all[at].fold()) << 64 | u128::from(low[at]))
}

/// The length of a message, where [`Sip::finish`] wants it.
#[inline(always)]
pub(crate) fn length(bytes: usize) -> u64 {
    (bytes as u64) << 56
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use proptest::prelude::*;
    use siphasher::sip128::{Hasher128, SipHasher13};

    use super::*;

    proptest! {
        #[test]
        fn both_hashes_are_those_of_siphasher(
            keys in any::<(u64, u64)>(),
            shared in prop::collection::vec(any::<u64>(), 0..8),
            ends in any::<[u64; 2]>(),
        ) {
            let mut sip = Sip::new(keys.0, keys.1);
            let mut reference = SipHasher13::new_with_keys(keys.0, keys.1);
            for &word in &shared {
                sip.word(word);
                reference.write(&word.to_le_bytes());
            }
            let bytes = length(8 * shared.len() + 8);
            let both = ends.map(|end| {
                let mut sip = sip;
                sip.word(end);
                sip
            });
            let expected = ends.map(|end| {
                let mut reference = reference;
                reference.write(&end.to_le_bytes());
                reference.finish128().as_u128()
            });
            prop_assert_eq!(finish(both, bytes), expected);
            prop_assert_eq!(both.map(|sip| sip.finish(bytes)), expected);
        }
    }
}
