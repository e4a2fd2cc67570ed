//! Why a change is refused. Nothing has happened then: a refused change leaves
//! the tables as they were.

use std::fmt;

use rtm_model::{Family, HOPS_MAX, RouteType, Verb, WEIGHT_MAX};

/// Why a change was refused. Its text is the `<why>; <what would be right>` of
/// an error line: the object and the place are for whoever asked.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ChangeError {
    /// This source has it already.
    Exists,
    /// Nobody has it.
    Missing,
    /// This source doesn't have it, another one does.
    ForeignSource {
        /// The owner's name.
        source: String,
    },
    /// A delete of a neighbour without link, and several links have it.
    Ambiguous {
        /// How many.
        count: usize,
    },
    /// A type of route that needs a next hop has none.
    NextHopMissing {
        /// The type.
        kind: RouteType,
    },
    /// A type of route that takes no next hop has one.
    NextHopUnwanted {
        /// The type.
        kind: RouteType,
    },
    /// An IPv6 route by way of an IPv4 gateway, or an address that doesn't fit
    /// the prefix's family otherwise.
    GatewayFamily {
        /// The gateway's family.
        gateway: Family,
        /// The prefix's family.
        prefix: Family,
    },
    /// A next hop with neither gateway nor link.
    EmptyHop,
    /// A weight that is not 1 to [`WEIGHT_MAX`].
    Weight {
        /// The weight given.
        weight: u16,
    },
    /// Flags of a next hop that nothing stands for.
    HopFlags {
        /// The flags given.
        flags: u8,
    },
    /// More than [`HOPS_MAX`] next hops.
    TooManyHops {
        /// How many there would be.
        hops: usize,
    },
    /// Whoever keeps the tables in another form beside them has no room for the
    /// change; it is applied nowhere.
    NoRoom {
        /// What is full, and what would be right.
        why: String,
    },
    /// No link has this number.
    NoLink {
        /// The ifindex.
        ifindex: u32,
    },
    /// The source has no group of this number.
    NoGroup {
        /// The number.
        nhid: u32,
    },
    /// A number of 0 where one must be given.
    ZeroNumber {
        /// Of what: `ifindex` or `nhid`.
        what: &'static str,
    },
    /// This verb is not for this kind of entity.
    Verb {
        /// The verb.
        verb: Verb,
        /// The kind, in words.
        kind: &'static str,
    },
    /// All 65,536 ordinals of this prefix, tos and metric are in use.
    OrdinalsUsedUp,
    /// The transaction would take more bytes than one may.
    TooLarge {
        /// What it would take.
        bytes: usize,
        /// `transaction_bytes_max`.
        limit: usize,
    },
    /// A large atomic load is under way; changes wait until it ends.
    Staging,
    /// No source has this id (any more).
    NoSource,
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChangeError::Exists => f.write_str("exists already; 'replace' would change it"),
            ChangeError::Missing => {
                f.write_str("does not exist; 'show' lists what there is, 'add' makes one")
            }
            ChangeError::ForeignSource { source } => {
                write!(f, "belongs to source {source}; delete it there")
            }
            ChangeError::Ambiguous { count } => {
                write!(f, "{count} links have it; name one with dev")
            }
            ChangeError::NextHopMissing { kind } => {
                write!(f, "a route of type {} needs a next hop; add via or dev", kind.name())
            }
            ChangeError::NextHopUnwanted { kind } => {
                write!(
                    f,
                    "a route of type {} takes no next hop; leave out via and dev",
                    kind.name()
                )
            }
            ChangeError::GatewayFamily { gateway, prefix } => {
                write!(
                    f,
                    "an {gateway} gateway can't serve an {prefix} prefix; an {prefix} one would be right"
                )
            }
            ChangeError::EmptyHop => {
                f.write_str("a next hop has neither gateway nor link; add via or dev")
            }
            ChangeError::Weight { weight } => {
                write!(f, "weight {weight} is not possible; 1 to {WEIGHT_MAX} are valid")
            }
            ChangeError::HopFlags { flags } => {
                write!(
                    f,
                    "next-hop flags {flags:#x} are unknown; onlink, dead and linkdown are valid"
                )
            }
            ChangeError::TooManyHops { hops } => {
                write!(f, "{hops} next hops are too many; at most {HOPS_MAX} are possible")
            }
            ChangeError::NoRoom { why } => f.write_str(why),
            ChangeError::NoLink { ifindex } => {
                write!(f, "no link has the number {ifindex}; a known one or a name would be right")
            }
            ChangeError::NoGroup { nhid } => {
                write!(f, "this source has no next-hop group {nhid}; make the group first")
            }
            ChangeError::ZeroNumber { what } => write!(f, "{what} is 0; 1 and more are valid"),
            ChangeError::Verb { verb, kind } => {
                write!(f, "'{}' is not for a {kind}; 'replace' would be right", verb.name())
            }
            ChangeError::OrdinalsUsedUp => f.write_str(
                "65536 routes have this prefix, tos and metric; another metric would be right",
            ),
            ChangeError::TooLarge { bytes, limit } => write!(
                f,
                "the transaction takes {bytes} bytes, over transaction_bytes_max {limit}; 'load --atomic' takes more"
            ),
            ChangeError::Staging => {
                f.write_str("a large atomic load is under way; try again when it has ended")
            }
            ChangeError::NoSource => f.write_str("the source is gone; register it again"),
        }
    }
}

impl std::error::Error for ChangeError {}
