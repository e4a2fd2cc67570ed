//! An image that is made anew from the table, some entities a turn, while changes
//! go on: what is written once is told what comes, like any other.

use rtm_image::{Object, WriteError, Writer};
use rtm_model::{Entity, GroupId, LinkId, NeighbourKey};
use rtm_tables::{RouteCursor, Table};

/// Entities that one turn brings into it.
pub(super) const REBUILD_ENTITIES: usize = 512;
/// After a failure so many turns pass before the next try.
pub(super) const REBUILD_TURNS: u32 = 4096;

/// A new image, and how far it is.
pub(super) struct Rebuild {
    pub(super) writer: Writer<Object>,
    at: Place,
}

/// What comes next.
enum Place {
    Links(Option<LinkId>),
    Groups(Option<GroupId>),
    Neighbours(Option<NeighbourKey>),
    Routes(RouteCursor),
    End,
}

impl Rebuild {
    /// From the beginning, into an empty one.
    pub(super) fn new(writer: Writer<Object>) -> Rebuild {
        Rebuild { writer, at: Place::Links(None) }
    }

    /// Brings some hundred entities; nothing may be staged. True: that was all, and
    /// the image shows what the table holds.
    pub(super) fn step(&mut self, table: &Table) -> Result<bool, WriteError> {
        let store = table.store();
        for _ in 0..REBUILD_ENTITIES {
            let next = match &mut self.at {
                Place::Links(after) => store.next_link(*after).map(|link| {
                    *after = Some(link.id);
                    Entity::Link(*link)
                }),
                Place::Groups(after) => store.next_group(*after).map(|group| {
                    *after = Some(group.id);
                    Entity::Group(group.clone())
                }),
                Place::Neighbours(after) => store.next_neighbour(after.as_ref()).map(|neighbour| {
                    *after = Some(neighbour.key);
                    Entity::Neighbour(neighbour)
                }),
                Place::Routes(cursor) => store.next_route(cursor).map(Entity::Route),
                Place::End => {
                    let (epoch, revision) = (table.epoch().0, table.revision().0);
                    self.writer.commit(epoch, revision, &table.digests())?;
                    return Ok(true);
                }
            };
            match next {
                Some(entity) => self.writer.set(&entity)?,
                None => {
                    self.at = match self.at {
                        Place::Links(_) => Place::Groups(None),
                        Place::Groups(_) => Place::Neighbours(None),
                        Place::Neighbours(_) => Place::Routes(RouteCursor::all()),
                        Place::Routes(_) | Place::End => Place::End,
                    }
                }
            }
        }
        self.writer.tend()?;
        Ok(false)
    }
}
