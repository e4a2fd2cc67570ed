//! What a client must have, computed from the table from scratch.

use rtm_model::text::Filter;
use rtm_model::{Digests, Entity};
use rtm_tables::{RouteCursor, Store};

use super::digester;

/// Digests of what passes a filter, with the groups and links that it uses.
pub fn expected(store: &Store, filter: &Filter) -> Digests {
    let digester = digester();
    let mut digests = Digests::default();
    let mut macs = Vec::new();
    for entity in used_entities(store, filter) {
        let mut bytes = Vec::new();
        entity.encode(&mut bytes);
        digests.section(entity.kind()).add(digester.hash(entity.kind(), &bytes));
        if let Entity::Neighbour(neighbour) = entity {
            macs.extend(neighbour.value.mac);
        }
    }
    macs.sort();
    macs.dedup();
    for mac in macs {
        digests.keys.add(digester.mac(mac));
    }
    digests
}

/// What passes a filter; with all groups and links if that is everything.
pub fn entities(store: &Store, filter: &Filter) -> Vec<Entity> {
    let mut entities = used_entities(store, filter);
    if filter.is_all() {
        entities.retain(|entity| !matches!(entity, Entity::Link(_) | Entity::Group(_)));
        let mut after = None;
        while let Some(link) = store.next_link(after) {
            after = Some(link.id);
            entities.push(Entity::Link(*link));
        }
        let mut after = None;
        while let Some(group) = store.next_group(after) {
            after = Some(group.id);
            entities.push(Entity::Group(group.clone()));
        }
    }
    entities
}

/// What passes a filter, with the groups and links that it uses.
pub fn used_entities(store: &Store, filter: &Filter) -> Vec<Entity> {
    let (mut groups, mut links, mut entities) = (Vec::new(), Vec::new(), Vec::new());
    let mut add = |entity: Entity| entities.push(entity);
    let mut cursor = RouteCursor::all();
    while let Some(route) = store.next_route(&mut cursor) {
        if filter.matches_route(&route.key, &route.value) {
            groups.push(route.value.group);
            add(Entity::Route(route));
        }
    }
    let mut after = None;
    while let Some(neighbour) = store.next_neighbour(after.as_ref()) {
        after = Some(neighbour.key);
        if filter.matches_neighbour(&neighbour.key, &neighbour.value) {
            links.extend(neighbour.key.link);
            add(Entity::Neighbour(neighbour));
        }
    }
    groups.sort();
    groups.dedup();
    for group in groups.into_iter().filter_map(|id| store.group(id)) {
        links.extend(group.hops.iter().filter_map(|hop| hop.link));
        add(Entity::Group(group.clone()));
    }
    links.sort();
    links.dedup();
    for link in links {
        add(Entity::Link(*store.link(link).unwrap()));
    }
    entities
}
