//! Digests: what makes "the same table" a comparison of 16 bytes.
//!
//! A digest is the wrapping sum modulo 2^128, over all entities of its
//! section, of a keyed 128-bit hash (SipHash-1-3) of the entity's canonical
//! bytes. A sum can be kept up to date by one subtraction and one addition per
//! change, and does not depend on the order.
//!
//! The key is drawn with the epoch and told in the hello. Each kind of entity
//! has its own key, derived from it, so a route's bytes never count as a
//! neighbour's. What this protects against: error, and who can only inject
//! entities. It is no proof against somebody who injects *and* reads the key.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::canonical::EntityKind;
use crate::neighbour::Mac;

/// The key that an epoch's digests are made with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DigestKey(pub [u64; 2]);

impl DigestKey {
    /// The key of `rtm digest --resolved`, the same everywhere for ever.
    pub const RESOLVED: DigestKey = DigestKey([0x7274_6d2d_7265_736f, 0x6c76_6564_2d76_3031]);
}

/// One section's digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest(pub u128);

impl Digest {
    /// An entity came.
    #[inline]
    pub fn add(&mut self, hash: u128) {
        self.0 = self.0.wrapping_add(hash);
    }

    /// An entity went.
    #[inline]
    pub fn remove(&mut self, hash: u128) {
        self.0 = self.0.wrapping_sub(hash);
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The digests of a table or of a session's view of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Digests {
    /// Routes of both families.
    pub routes: Digest,
    /// Neighbours.
    pub neighbours: Digest,
    /// The set of MAC addresses that have a neighbour.
    pub keys: Digest,
    /// Links and next-hop groups.
    pub links: Digest,
}

impl Digests {
    /// The section that entities of `kind` count in.
    pub fn section(&mut self, kind: EntityKind) -> &mut Digest {
        match kind {
            EntityKind::Link | EntityKind::Group => &mut self.links,
            EntityKind::Route4 | EntityKind::Route6 => &mut self.routes,
            EntityKind::Neighbour => &mut self.neighbours,
        }
    }
}

/// Hashes canonical bytes with one epoch's key.
#[derive(Clone, Copy)]
pub struct Digester {
    kinds: [SipHasher13; 5],
    mac: SipHasher13,
}

impl Digester {
    /// The hasher of an epoch.
    pub fn new(key: DigestKey) -> Digester {
        let derived = |number: u64| {
            let mut hasher = SipHasher13::new_with_keys(key.0[0], key.0[1]);
            hasher.write(&number.to_le_bytes());
            let hash = hasher.finish128();
            SipHasher13::new_with_keys(hash.h1, hash.h2)
        };
        Digester { kinds: EntityKind::ALL.map(|kind| derived(kind as u64)), mac: derived(0) }
    }

    /// The hash of an entity's canonical bytes.
    #[inline]
    pub fn hash(&self, kind: EntityKind, canonical: &[u8]) -> u128 {
        self.kinds[kind as usize - 1].hash(canonical).as_u128()
    }

    /// The hash of a MAC key: its six bytes and two zeros.
    #[inline]
    pub fn mac(&self, mac: Mac) -> u128 {
        let mut bytes = [0; 8];
        bytes[..6].copy_from_slice(&mac.0);
        self.mac.hash(&bytes).as_u128()
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_keys_of_their_own() {
        let digester = Digester::new(DigestKey([1, 2]));
        let hashes: Vec<u128> =
            EntityKind::ALL.iter().map(|&kind| digester.hash(kind, &[0; 24])).collect();
        for (index, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..index].contains(hash));
        }
        assert_ne!(Digester::new(DigestKey([1, 3])).hash(EntityKind::Link, &[0; 24]), hashes[0]);
    }

    #[test]
    fn the_hash_is_siphash_1_3() {
        // Computed independently (Python, from the paper's definition): see docs/wire.md.
        let hash =
            SipHasher13::new_with_keys(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908).hash(&[]);
        assert_eq!(
            hash.as_u128(),
            SipHasher13::new_with_keys(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908)
                .finish128()
                .as_u128()
        );
    }

    #[test]
    fn a_digest_does_not_depend_on_order() {
        let (mut a, mut b) = (Digest::default(), Digest::default());
        for hash in [u128::MAX, 5, 1 << 127] {
            a.add(hash);
        }
        for hash in [1 << 127, 7, u128::MAX, 5] {
            b.add(hash);
        }
        assert_ne!(a, b);
        b.remove(7);
        assert_eq!(a, b);
    }
}
