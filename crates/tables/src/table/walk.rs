//! Walks over the modification order, from outside: see [`crate::order`].

use rtm_model::canonical::{encode_group, encode_link, encode_neighbour};
use rtm_model::{EntityKind, Family, GroupId, LinkId, Neighbour};

use super::Table;
use super::candidates::RouteNo;
use crate::order::{Ahead, MarkerId, OrderItem, Step};
use crate::record::Revision;

impl Table {
    /// A new marker, placed before the oldest item: a walk from here to the
    /// tail is a snapshot.
    pub fn marker(&mut self) -> MarkerId {
        self.order.marker(self.revision)
    }

    /// Places a marker right after `revision`, walking back from the tail,
    /// `budget` items at a time: true when it stands there.
    ///
    /// The revision must not be older than [`Table::oldest_tombstone`].
    ///
    /// # Panics
    /// While a large atomic load is open.
    pub fn marker_seek(&mut self, marker: MarkerId, revision: Revision, budget: usize) -> bool {
        assert!(!self.is_staging(), "markers stand still while a load is open");
        self.order.seek(marker, revision, budget.max(1))
    }

    /// Moves a marker over one item, which it shows to `f`; tombstones older
    /// than the beginning of a snapshot it passes over in silence. Links and
    /// groups may come after routes that use them.
    ///
    /// # Panics
    /// While a large atomic load is open.
    pub fn marker_next(&mut self, marker: MarkerId, f: &mut dyn FnMut(OrderItem<'_>)) -> Step {
        assert!(!self.is_staging(), "markers stand still while a load is open");
        let (revision, item) = match self.order.advance(marker) {
            Ok(Some(next)) => next,
            Ok(None) => return Step::Moved,
            Err(step) => return step,
        };
        match item {
            Ahead::Live(kind @ (EntityKind::Route4 | EntityKind::Route6), at) => {
                let family = if kind == EntityKind::Route4 { Family::V4 } else { Family::V6 };
                let no = RouteNo::new(family, at);
                let value = self.store.value(no);
                let (bytes, len) = self.store.words(no, value).bytes();
                let attrs = self.store.attrs.bytes_of(value.attrs);
                if attrs.is_empty() {
                    f(OrderItem::Set { revision, kind, body: &bytes[..len] });
                } else {
                    let body = [&bytes[..len], attrs].concat();
                    f(OrderItem::Set { revision, kind, body: &body });
                }
            }
            Ahead::Live(kind, at) => {
                let mut body = Vec::new();
                match kind {
                    EntityKind::Link => {
                        let link = self.store.link(LinkId(at));
                        encode_link(link.expect("a linked node has its link"), &mut body);
                    }
                    EntityKind::Group => {
                        let group = self.store.group(GroupId(at));
                        encode_group(group.expect("a linked node has its group"), &mut body);
                    }
                    _ => {
                        let neighbours = &self.store.neighbours;
                        let found = neighbours.key(at).zip(neighbours.value(at));
                        let (key, value) = found.expect("a linked node has its neighbour");
                        encode_neighbour(&Neighbour { key, value }, &mut body);
                    }
                }
                f(OrderItem::Set { revision, kind, body: &body });
            }
            Ahead::Gone(kind, key) => {
                f(OrderItem::Gone { revision, kind, key: &key[..kind.key_bytes()] });
            }
            Ahead::Flushed(what) => f(OrderItem::Flushed { revision, what }),
        }
        Step::Moved
    }

    /// A marker is no longer needed.
    pub fn marker_release(&mut self, marker: MarkerId) {
        self.order.release(marker);
    }

    /// Who resumes from before this revision needs a snapshot: tombstones up
    /// to it were given up.
    pub fn oldest_tombstone(&self) -> Revision {
        self.order.evicted()
    }
}
