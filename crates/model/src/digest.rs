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

use crate::canonical::EntityKind;
use crate::neighbour::Mac;
use crate::sip::{Sip, finish, length};

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
    kinds: [Sip; 5],
    mac: Sip,
}

impl Digester {
    /// The hasher of an epoch.
    pub fn new(key: DigestKey) -> Digester {
        let derived = |number: u64| {
            let hash = hash_words(Sip::new(key.0[0], key.0[1]), &[number]);
            Sip::new(hash as u64, (hash >> 64) as u64)
        };
        Digester { kinds: EntityKind::ALL.map(|kind| derived(kind as u64)), mac: derived(0) }
    }

    #[inline]
    fn kind(&self, kind: EntityKind) -> Sip {
        self.kinds[kind as usize - 1]
    }

    /// The hash of an entity's canonical bytes.
    #[inline]
    pub fn hash(&self, kind: EntityKind, canonical: &[u8]) -> u128 {
        hash_bytes(self.kind(kind), canonical)
    }

    /// The hash of an entity's canonical bytes, eight at a time as little-endian numbers.
    #[inline]
    pub fn hash_words(&self, kind: EntityKind, canonical: &[u64]) -> u128 {
        hash_words(self.kind(kind), canonical)
    }

    /// The hashes of two entities of a kind that have the same key: canonical
    /// bytes that begin with `key` and end with one of `values`, eight at a time as
    /// little-endian numbers. For one whose value changes: the key is gone over once,
    /// and the processor works on both ends at a time.
    #[inline]
    pub fn hash_both(&self, kind: EntityKind, key: &[u64], values: [u64; 2]) -> [u128; 2] {
        let mut shared = self.kind(kind);
        key.iter().for_each(|&word| shared.word(word));
        let (mut first, mut second) = (shared, shared);
        first.word(values[0]);
        second.word(values[1]);
        finish([first, second], length(8 * key.len() + 8))
    }

    /// The hash of a MAC key: its six bytes and two zeros.
    #[inline]
    pub fn mac(&self, mac: Mac) -> u128 {
        let mut bytes = [0; 8];
        bytes[..6].copy_from_slice(&mac.0);
        hash_bytes(self.mac, &bytes)
    }
}

#[inline]
fn hash_words(mut sip: Sip, words: &[u64]) -> u128 {
    words.iter().for_each(|&word| sip.word(word));
    sip.finish(length(8 * words.len()))
}

#[inline]
fn hash_bytes(mut sip: Sip, bytes: &[u8]) -> u128 {
    let words = bytes.chunks_exact(8);
    let mut last = length(bytes.len());
    for (at, &byte) in words.remainder().iter().enumerate() {
        last |= u64::from(byte) << (8 * at);
    }
    for word in words.filter_map(<[u8]>::first_chunk) {
        sip.word(u64::from_le_bytes(*word));
    }
    sip.finish(last)
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester")
    }
}

#[cfg(test)]
mod tests {
    use siphasher::sip128::SipHasher13;

    use super::*;
    use crate::canonical::Entity;
    use crate::group::{Group, GroupId, HopFlags, NextHop};
    use crate::link::{Link, LinkId};
    use crate::neighbour::{Neighbour, NeighbourKey, NeighbourValue, NudState};
    use crate::route::{Attrs, Route, RouteAttrs, RouteKey, RouteType, RouteValue};

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
    fn both_hashes_are_those_of_the_whole_bytes() {
        let digester = Digester::new(DigestKey([3, 4]));
        for length in [1, 2, 4] {
            let key: Vec<u64> = (0..length).map(|at| (at << 60) | (7 + at)).collect();
            let values = [0x0807_0605_0403_0201, 0xff02_0304_0506_0708];
            let one_by_one = values.map(|value| {
                let words = [&key[..], &[value]].concat();
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                let hash = digester.hash(EntityKind::Route6, &bytes);
                assert_eq!(digester.hash_words(EntityKind::Route6, &words), hash);
                hash
            });
            assert_eq!(digester.hash_both(EntityKind::Route6, &key, values), one_by_one);
        }
    }

    /// Vectors of `tests/digest_vectors.py`, which is written from the paper's
    /// definition and checks itself with the published ones of SipHash-2-4.
    #[test]
    fn the_hash_is_siphash_1_3() {
        for (length, expected) in [
            (0_usize, 0x0130_30dd_6adb_62fd_bea5_8827_b2bc_7ee7_u128),
            (1, 0x63f0_2f2b_cc73_055e_a8ed_d360_0437_6ffc),
            (7, 0x77ab_4808_c82e_2fa6_c3e0_aaf2_23b9_8410),
            (8, 0x99c7_f935_ab16_4f72_b4da_e3d5_e1fe_12aa),
            (24, 0x4ad0_841a_06d2_09ce_ca92_fdbc_37f8_4b9e),
            (40, 0x38f9_eed9_fa3c_0bd5_13b4_b93e_5420_5750),
            (300, 0x2b57_cd73_cf9d_8119_17c5_6127_d6ea_6531),
        ] {
            let message: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let keys = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
            let hasher = SipHasher13::new_with_keys(keys.0, keys.1);
            assert_eq!(hasher.hash(&message).as_u128(), expected, "{length} bytes");
            assert_eq!(hash_bytes(Sip::new(keys.0, keys.1), &message), expected, "{length} bytes");
        }
    }

    #[test]
    fn any_length_is_hashed_as_siphasher_does() {
        let message: Vec<u8> = (0..100).map(|at: u8| at.wrapping_mul(37)).collect();
        for length in 0..message.len() {
            let expected = SipHasher13::new_with_keys(5, 6).hash(&message[..length]).as_u128();
            assert_eq!(hash_bytes(Sip::new(5, 6), &message[..length]), expected, "{length} bytes");
        }
    }

    /// One entity of each kind: a digest that changes is a format that changes.
    /// Computed by `tests/digest_vectors.py` from `docs/wire.md`.
    #[test]
    fn golden_digests() {
        let link = Link { id: LinkId(3), name: "eth0".parse().unwrap(), ifindex: 2 };
        let hop = |gateway: &str, link, weight, flags| NextHop {
            gateway: Some(gateway.parse().unwrap()),
            link,
            weight,
            flags,
        };
        let group = Group {
            id: GroupId(7),
            nhid: 0,
            hops: vec![
                hop("10.0.0.1", Some(LinkId(3)), 1, HopFlags::ONLINK),
                hop("fe80::1", None, 256, HopFlags::default()),
            ],
        };
        let value = RouteValue {
            kind: RouteType::Unicast,
            protocol: 186,
            scope: 0,
            distance: 20,
            group: GroupId(7),
            attrs: Attrs::NONE,
        };
        let prefix = "10.0.0.0/8".parse().unwrap();
        let key = RouteKey { table: 254, prefix, tos: 8, metric: 20, ordinal: 1 };
        let route4 = Route { key, value: value.clone() };
        let attrs = RouteAttrs { metrics: vec![(2, 1400)], ..RouteAttrs::default() };
        let value =
            RouteValue { protocol: 4, distance: 1, attrs: attrs.encode().unwrap(), ..value };
        let route6 = Route { key: RouteKey::main("2001:db8::/32".parse().unwrap()), value };
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let neighbour = Neighbour {
            key: NeighbourKey { ip: "10.1.1.1".parse().unwrap(), link: Some(LinkId(3)) },
            value: NeighbourValue {
                mac: Some(mac),
                state: NudState::PERMANENT,
                flags: 0,
                protocol: 0,
            },
        };
        let digester = Digester::new(DigestKey([0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_ff00]));
        for (entity, expected) in [
            (Entity::Link(link), 0xc5d2_591e_cab0_4eba_d955_0850_d887_43cd_u128),
            (Entity::Group(group), 0xe4b3_d331_d8f0_fae7_4f9c_dfa6_ef17_9f74),
            (Entity::Route(route4), 0x4be2_ab13_d9eb_8398_edf0_7024_f385_9a3f),
            (Entity::Route(route6), 0x9b16_4acf_626e_5411_497f_9c1d_76fb_076b),
            (Entity::Neighbour(neighbour), 0x0e93_4f1d_292c_9a51_bce7_927b_9484_bcc5),
        ] {
            let mut bytes = Vec::new();
            entity.encode(&mut bytes);
            assert_eq!(digester.hash(entity.kind(), &bytes), expected, "{entity:?}");
        }
        assert_eq!(digester.mac(mac), 0x3f8b_fabc_f197_daff_e50d_1888_a333_f7f4);
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
