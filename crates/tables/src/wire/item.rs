//! What a piece of an answer is.
//!
//! An answer is a sequence of ITEM frames and one DONE. An item's bytes are
//! canonical bytes where it is an entity, else drawn in `docs/wire.md`, "Items
//! of an answer". Links and groups that only resolve what follows are flagged,
//! so that a listing of routes isn't taken for one of links too.

use rtm_model::EntityKind;

/// What an item is; the numbers are the wire's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ItemKind {
    /// Canonical bytes of an entity.
    Entity(EntityKind),
    /// Text, to be printed as it is.
    Text,
    /// One JSON value.
    Json,
    /// A candidate of an IPv4 route.
    Candidate4,
    /// A candidate of an IPv6 route.
    Candidate6,
    /// A source.
    Source,
    /// An address that was looked up.
    Address,
    /// A number that this library doesn't know: to be skipped.
    Other(u16),
}

impl ItemKind {
    /// The number on the wire.
    pub fn number(self) -> u16 {
        match self {
            ItemKind::Entity(kind) => kind as u16,
            ItemKind::Text => 16,
            ItemKind::Json => 17,
            ItemKind::Candidate4 => 18,
            ItemKind::Candidate6 => 19,
            ItemKind::Source => 20,
            ItemKind::Address => 21,
            ItemKind::Other(number) => number,
        }
    }

    /// The kind with this number.
    pub fn from_number(number: u16) -> ItemKind {
        match number {
            1 => ItemKind::Entity(EntityKind::Link),
            2 => ItemKind::Entity(EntityKind::Group),
            3 => ItemKind::Entity(EntityKind::Route4),
            4 => ItemKind::Entity(EntityKind::Route6),
            5 => ItemKind::Entity(EntityKind::Neighbour),
            16 => ItemKind::Text,
            17 => ItemKind::Json,
            18 => ItemKind::Candidate4,
            19 => ItemKind::Candidate6,
            20 => ItemKind::Source,
            21 => ItemKind::Address,
            number => ItemKind::Other(number),
        }
    }
}

/// Flags of an item.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ItemFlags(pub u16);

impl ItemFlags {
    /// Only there so that others can be resolved; not itself an answer.
    pub const RESOLVES: ItemFlags = ItemFlags(1);

    /// Are all of `flags` set?
    pub fn contains(self, flags: ItemFlags) -> bool {
        self.0 & flags.0 == flags.0
    }
}
