//! What routes and neighbours refer to: links and groups, as an answer brings
//! them. (A replica's store resolves by itself.)

use std::borrow::Cow;
use std::collections::HashMap;

use rtm_client::{Item, ItemFlags, ItemKind};
use rtm_model::text::Resolve;
use rtm_model::{Entity, EntityKind, Group, GroupId, Link, LinkId};

use crate::failure::{Failure, Result};

/// Links and groups out of the items of an answer.
#[derive(Default)]
pub(crate) struct Known {
    links: HashMap<u32, Link>,
    groups: HashMap<u32, Group>,
}

impl Known {
    /// Takes an entity of an answer: keeps it if it is there to resolve others
    /// (then `None`), else gives it back.
    pub(crate) fn take(&mut self, kind: EntityKind, item: &Item<'_>) -> Result<Option<Entity>> {
        let entity = entity(kind, item.body)?;
        match entity {
            Entity::Link(link) => {
                self.links.insert(link.id.0, link);
            }
            Entity::Group(group) => {
                self.groups.insert(group.id.0, group);
            }
            other => return Ok((!item.flags.contains(ItemFlags::RESOLVES)).then_some(other)),
        }
        Ok(None)
    }

    /// The entity of an item; `None` if it only resolves others or is nothing
    /// that this version knows.
    pub(crate) fn entity(&mut self, item: &Item<'_>) -> Result<Option<Entity>> {
        match item.kind {
            ItemKind::Entity(kind) => self.take(kind, item),
            _ => Ok(None),
        }
    }
}

/// An entity of canonical bytes.
pub(crate) fn entity(kind: EntityKind, bytes: &[u8]) -> Result<Entity> {
    Entity::decode(kind, bytes).map_err(|error| {
        Failure::refused(format_args!("the daemon's answer is no entity: {error}"))
    })
}

impl Resolve for Known {
    fn link(&self, id: LinkId) -> Option<Link> {
        self.links.get(&id.0).copied()
    }

    fn group(&self, id: GroupId) -> Option<Cow<'_, Group>> {
        self.groups.get(&id.0).map(Cow::Borrowed)
    }
}
