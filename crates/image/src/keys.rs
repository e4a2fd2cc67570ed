//! Keys of entities as words that order like the keys, and values as words.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtm_model::{
    Family, GroupId, LinkId, Mac, Neighbour, NeighbourKey, NeighbourValue, NudState, Prefix,
    RouteKey, RouteType, RouteValue,
};

/// Set in a route's value if its attributes stand in the tree of attributes.
pub(crate) const HAS_ATTRS: u64 = 0x80 << 32;

/// The part of the key behind the address: 64 bits.
fn tail(len: u8, tos: u8, metric: u32, ordinal: u16) -> u64 {
    u64::from(len) << 56 | u64::from(tos) << 48 | u64::from(metric) << 16 | u64::from(ordinal)
}

/// The key of a route of either family: table, address, tail.
pub(crate) trait RouteWords: Copy + Ord {
    const FAMILY: Family;
    fn pack(table: u32, bits: u128, tail: u64) -> Self;
    fn table(&self) -> u32;
    fn bits(&self) -> u128;
    fn tail(&self) -> u64;

    fn prefix_len(&self) -> u8 {
        (self.tail() >> 56) as u8
    }

    fn tos(&self) -> u8 {
        (self.tail() >> 48) as u8
    }

    /// Is the other key one of the same prefix of the same table?
    fn is_kin(&self, other: &Self) -> bool {
        self.table() == other.table()
            && self.bits() == other.bits()
            && self.prefix_len() == other.prefix_len()
    }

    /// The first key that a route to this prefix can have.
    fn first_of(table: u32, bits: u128, len: u8) -> Self {
        Self::pack(table, bits, tail(len, 0, 0, 0))
    }

    /// The last one.
    fn last_of(table: u32, bits: u128, len: u8) -> Self {
        Self::pack(table, bits, tail(len, u8::MAX, u32::MAX, u16::MAX))
    }

    fn of(key: &RouteKey) -> Self {
        let tail = tail(key.prefix.len(), key.tos, key.metric, key.ordinal);
        Self::pack(key.table, key.prefix.bits(), tail)
    }

    /// The key; `None` if torn memory made it.
    fn key(&self) -> Option<RouteKey> {
        Some(RouteKey {
            table: self.table(),
            prefix: Prefix::from_bits(Self::FAMILY, self.bits(), self.prefix_len())?,
            tos: self.tos(),
            metric: (self.tail() >> 16) as u32,
            ordinal: self.tail() as u16,
        })
    }
}

impl RouteWords for [u64; 2] {
    const FAMILY: Family = Family::V4;

    fn pack(table: u32, bits: u128, tail: u64) -> [u64; 2] {
        [u64::from(table) << 32 | (bits >> 96) as u64, tail]
    }

    fn table(&self) -> u32 {
        (self[0] >> 32) as u32
    }

    fn bits(&self) -> u128 {
        u128::from(self[0] as u32) << 96
    }

    fn tail(&self) -> u64 {
        self[1]
    }
}

impl RouteWords for [u64; 4] {
    const FAMILY: Family = Family::V6;

    fn pack(table: u32, bits: u128, tail: u64) -> [u64; 4] {
        [
            u64::from(table) << 32 | (bits >> 96) as u64,
            (bits >> 32) as u64,
            (bits as u64) << 32 | tail >> 32,
            tail << 32,
        ]
    }

    fn table(&self) -> u32 {
        (self[0] >> 32) as u32
    }

    fn bits(&self) -> u128 {
        u128::from(self[0] as u32) << 96 | u128::from(self[1]) << 32 | u128::from(self[2] >> 32)
    }

    fn tail(&self) -> u64 {
        self[2] << 32 | self[3] >> 32
    }
}

/// A route's value without attributes: its canonical eight bytes.
pub(crate) fn route_value(value: &RouteValue) -> u64 {
    u64::from(value.group.0)
        | (value.kind as u64) << 32
        | u64::from(value.protocol) << 40
        | u64::from(value.scope) << 48
        | u64::from(value.distance) << 56
}

/// Back; `None` if torn memory made it.
pub(crate) fn route_value_of(word: u64, attrs: rtm_model::Attrs) -> Option<RouteValue> {
    Some(RouteValue {
        kind: kind_of(word)?,
        protocol: (word >> 40) as u8,
        scope: (word >> 48) as u8,
        distance: (word >> 56) as u8,
        group: GroupId(word as u32),
        attrs,
    })
}

/// A route value's type.
pub(crate) fn kind_of(word: u64) -> Option<RouteType> {
    RouteType::from_number((word >> 32) as u8 & 0x7f)
}

/// A neighbour's key as its canonical bytes have it: address, link and family.
#[inline(always)]
pub(crate) fn neighbour_key(ip: IpAddr, link: Option<LinkId>) -> [u64; 3] {
    let link = u64::from(link.map_or(0, |link| link.0));
    match ip {
        IpAddr::V4(ip) => [u64::from(u32::from_le_bytes(ip.octets())), 0, link | 4 << 32],
        IpAddr::V6(ip) => {
            let bytes = ip.octets();
            let half = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
            [half(0), half(8), link | 6 << 32]
        }
    }
}

/// The ordered key of the same: family, address, link.
pub(crate) fn neighbour_order(key: [u64; 3]) -> [u64; 4] {
    [key[2] >> 32 & 0xff, key[0].swap_bytes(), key[1].swap_bytes(), key[2] & 0xffff_ffff]
}

/// The ordered key in the tree of MAC addresses: address and family, IP, link.
pub(crate) fn mac_order(mac: Mac, key: [u64; 3]) -> [u64; 4] {
    let mut order = neighbour_order(key);
    order[0] |= mac_word(mac) << 16;
    order
}

/// The MAC address as a number.
pub(crate) fn mac_word(mac: Mac) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// The MAC address in the value's first word, if there is one.
#[inline(always)]
pub(crate) fn mac_of(value: u64) -> Option<Mac> {
    (value.to_le_bytes()[6] != 0).then(|| mac_in(value))
}

/// The MAC address in the value's first word, which has one.
#[inline(always)]
pub(crate) fn mac_in(value: u64) -> Mac {
    let [a, b, c, d, e, f, ..] = value.to_le_bytes();
    Mac([a, b, c, d, e, f])
}

/// The neighbour of an ordered key (the upper bits of its first word, a MAC
/// address, are ignored) and a value.
pub(crate) fn neighbour_of(order: [u64; 4], value: [u64; 2]) -> Neighbour {
    let ip = if order[0] & 0xff == 4 {
        IpAddr::V4(Ipv4Addr::from((order[1] >> 32) as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from(u128::from(order[1]) << 64 | u128::from(order[2])))
    };
    let link = order[3] as u32;
    Neighbour {
        key: NeighbourKey { ip, link: (link != 0).then_some(LinkId(link)) },
        value: NeighbourValue {
            mac: mac_of(value[0]),
            state: NudState(value[1] as u16),
            flags: (value[0] >> 56) as u8,
            protocol: (value[1] >> 16) as u8,
        },
    }
}

#[cfg(test)]
mod tests {
    use rtm_model::{Attrs, Entity, EntityKey, Route};

    use super::*;
    use crate::testing::Random;

    #[test]
    fn route_keys_order_as_listings_do() {
        let mut random = Random(1);
        let mut keys = |family: Family| -> Vec<RouteKey> {
            (0..400)
                .map(|_| {
                    let len = random.below(u64::from(family.bits()) + 1) as u8;
                    let bits = u128::from(random.next() & 0x0101_0000_0000_0101) << 64
                        | u128::from(random.next());
                    RouteKey {
                        table: random.below(3) as u32,
                        prefix: Prefix::from_bits(family, bits & rtm_model::mask(len), len)
                            .unwrap(),
                        tos: random.below(2) as u8,
                        metric: random.next() as u32 >> random.below(32),
                        ordinal: random.below(3) as u16,
                    }
                })
                .collect()
        };
        fn check<K: RouteWords + core::fmt::Debug>(keys: &mut [RouteKey]) {
            keys.sort();
            let words: Vec<K> = keys.iter().map(K::of).collect();
            assert!(words.is_sorted());
            for (key, words) in keys.iter().zip(&words) {
                assert_eq!(words.key(), Some(*key));
            }
        }
        check::<[u64; 2]>(&mut keys(Family::V4));
        check::<[u64; 4]>(&mut keys(Family::V6));
    }

    #[test]
    fn values_are_the_canonical_bytes() {
        let value = RouteValue {
            kind: RouteType::Throw,
            protocol: 4,
            scope: 253,
            distance: 20,
            group: GroupId(7),
            attrs: Attrs::NONE,
        };
        let key = RouteKey::main("10.0.0.0/8".parse().unwrap());
        let mut bytes = Vec::new();
        Entity::Route(Route { key, value: value.clone() }).encode(&mut bytes);
        assert_eq!(route_value(&value).to_le_bytes(), bytes[16..24]);
        assert_eq!(route_value_of(route_value(&value), Attrs::NONE), Some(value));
    }

    #[test]
    fn neighbours_survive_their_words() {
        for ip in ["10.1.2.3", "fe80::1"] {
            for link in [None, Some(LinkId(9))] {
                for mac in [None, Some(Mac([2, 0, 0, 0, 0, 9]))] {
                    let neighbour = Neighbour {
                        key: NeighbourKey { ip: ip.parse().unwrap(), link },
                        value: NeighbourValue {
                            mac,
                            state: NudState(0x82),
                            flags: 0x80,
                            protocol: 3,
                        },
                    };
                    let mut bytes = Vec::new();
                    Entity::Neighbour(neighbour).encode(&mut bytes);
                    let words: Vec<u64> = bytes
                        .chunks(8)
                        .map(|c| u64::from_le_bytes(c.try_into().unwrap()))
                        .collect();
                    let key = neighbour_key(neighbour.key.ip, link);
                    assert_eq!(key, words[..3]);
                    let order = neighbour_order(key);
                    assert_eq!(neighbour_of(order, [words[3], words[4]]), neighbour);
                    let order = mac_order(mac.unwrap_or(Mac([0; 6])), key);
                    assert_eq!(neighbour_of(order, [words[3], words[4]]), neighbour);
                    assert!(
                        EntityKey::decode(rtm_model::EntityKind::Neighbour, &bytes[..24]).is_ok()
                    );
                }
            }
        }
    }
}
