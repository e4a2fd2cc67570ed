//! What of an entity a filter looks at.
//!
//! A [`Filter`] (of the grammar, `rtm_model::text`) says what part of the
//! tables a session follows. It is asked for every record, so it is asked with
//! [`Facts`] that are read once off the record's canonical bytes, whatever the
//! number of filters.
//!
//! Everything but the protocol is part of a key. So a route can only enter or
//! leave a filter while it lives if the filter names protocols: that is the one
//! case in which who catches up must be told of a route that no longer matches
//! ([`may_change_sides`]).

use rtm_model::text::Filter;
use rtm_model::{EntityKind, Family, mask};

/// What a filter asks of a route or a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Facts {
    pub(crate) is_route: bool,
    pub(crate) family: Family,
    /// Left-aligned.
    pub(crate) bits: u128,
    pub(crate) len: u8,
    pub(crate) table: u32,
    /// 0 if only a key was read.
    pub(crate) protocol: u8,
}

impl Facts {
    /// Of an entity's canonical bytes, or of its key's. `None`: a link or a
    /// group, or bytes too short.
    pub(crate) fn read(kind: EntityKind, bytes: &[u8]) -> Option<Facts> {
        match kind {
            EntityKind::Link | EntityKind::Group => None,
            EntityKind::Route4 => {
                let key: &[u8; 16] = bytes.first_chunk()?;
                Some(Facts {
                    is_route: true,
                    family: Family::V4,
                    bits: u128::from(u32::from_be_bytes([key[8], key[9], key[10], key[11]])) << 96,
                    len: key[12],
                    table: u32::from_le_bytes([key[0], key[1], key[2], key[3]]),
                    protocol: bytes.get(21).copied().unwrap_or(0),
                })
            }
            EntityKind::Route6 => {
                let key: &[u8; 32] = bytes.first_chunk()?;
                let mut address = [0; 16];
                address.copy_from_slice(&key[8..24]);
                Some(Facts {
                    is_route: true,
                    family: Family::V6,
                    bits: u128::from_be_bytes(address),
                    len: key[24],
                    table: u32::from_le_bytes([key[0], key[1], key[2], key[3]]),
                    protocol: bytes.get(37).copied().unwrap_or(0),
                })
            }
            EntityKind::Neighbour => {
                let key: &[u8; 24] = bytes.first_chunk()?;
                let mut address = [0; 16];
                address.copy_from_slice(&key[..16]);
                let family = if key[20] == 4 { Family::V4 } else { Family::V6 };
                Some(Facts {
                    is_route: false,
                    family,
                    bits: u128::from_be_bytes(address),
                    len: family.bits(),
                    table: 0,
                    protocol: 0,
                })
            }
        }
    }
}

/// Can the entity with these facts match, whatever its value?
pub(crate) fn matches_key(filter: &Filter, facts: &Facts) -> bool {
    let rules = filter.rules();
    (if facts.is_route { rules.routes } else { rules.neighbours })
        && rules.family.is_none_or(|family| family == facts.family)
        && (rules.prefixes.is_empty()
            || rules.prefixes.iter().any(|prefix| {
                prefix.family() == facts.family
                    && facts.len >= prefix.len()
                    && facts.bits & mask(prefix.len()) == prefix.bits()
            }))
        && (!facts.is_route
            || rules.tables.is_empty()
            || rules.tables.binary_search(&facts.table).is_ok())
}

/// Does it match? For facts of a whole entity, not just of a key.
pub(crate) fn matches(filter: &Filter, facts: &Facts) -> bool {
    let protocols = &filter.rules().protocols;
    matches_key(filter, facts)
        && (!facts.is_route
            || protocols.is_empty()
            || protocols.binary_search(&facts.protocol).is_ok())
}

/// Can a change of its value make a route match, or no longer match?
pub(crate) fn may_change_sides(filter: &Filter) -> bool {
    !filter.rules().protocols.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtm_model::text::Context;
    use rtm_model::{
        Attrs, Entity, GroupId, Neighbour, NeighbourKey, NeighbourValue, NudState, Route, RouteKey,
        RouteType, RouteValue,
    };

    fn route(prefix: &str, table: u32, protocol: u8) -> Entity {
        let prefix = prefix.parse().unwrap();
        Entity::Route(Route {
            key: RouteKey { table, ..RouteKey::main(prefix) },
            value: RouteValue {
                kind: RouteType::Unicast,
                protocol,
                scope: 0,
                distance: 1,
                group: GroupId(1),
                attrs: Attrs::NONE,
            },
        })
    }

    fn neighbour(ip: &str) -> Entity {
        Entity::Neighbour(Neighbour {
            key: NeighbourKey { ip: ip.parse().unwrap(), link: None },
            value: NeighbourValue { mac: None, state: NudState::PERMANENT, flags: 0, protocol: 0 },
        })
    }

    /// The model's own answer, from decoded entities, is the reference.
    #[test]
    fn bytes_and_entities_give_the_same_answer() {
        let entities = [
            route("10.0.0.0/8", 254, 4),
            route("10.1.0.0/16", 254, 186),
            route("10.1.0.0/16", 7, 186),
            route("0.0.0.0/0", 254, 4),
            route("2001:db8::/32", 254, 186),
            route("::/0", 7, 4),
            neighbour("10.1.2.3"),
            neighbour("2001:db8::1"),
        ];
        let filters = [
            "",
            "routes",
            "neighbours",
            "-4",
            "-6",
            "root 10.1.0.0/16",
            "root 10.0.0.0/8 root 2001:db8::/32",
            "table 254",
            "table 7 table 9",
            "proto 186",
            "routes -4 table 254 proto 4 root 10.0.0.0/8",
            "none",
        ];
        let mut both = [0, 0];
        for text in filters {
            let filter = Filter::parse(text, &Context::default()).unwrap();
            for entity in &entities {
                let mut bytes = Vec::new();
                entity.encode(&mut bytes);
                let facts = Facts::read(entity.kind(), &bytes).unwrap();
                let expected = match entity {
                    Entity::Route(route) => {
                        assert_eq!(
                            matches_key(&filter, &facts),
                            filter.matches_route_key(&route.key),
                            "{text} {entity:?}"
                        );
                        filter.matches_route(&route.key, &route.value)
                    }
                    Entity::Neighbour(n) => filter.matches_neighbour(&n.key, &n.value),
                    _ => unreachable!(),
                };
                assert_eq!(matches(&filter, &facts), expected, "{text} {entity:?}");
                both[usize::from(expected)] += 1;
                let mut key = Vec::new();
                entity.key().encode(&mut key);
                let of_key = Facts::read(entity.kind(), &key).unwrap();
                assert_eq!(Facts { protocol: 0, ..facts }, of_key);
            }
        }
        assert!(both[0] > 20 && both[1] > 20, "{both:?}");
    }
}
