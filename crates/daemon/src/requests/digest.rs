//! `digest`: the four sums, as they are kept; with `--resolved`, sums that two
//! machines or two epochs can compare.
//!
//! The kept digests are keyed with the epoch's key and cover groups and links
//! by number. A resolved digest has a fixed key and spells both out:
//!
//! ```text
//! route      its canonical bytes with group 0, then for each next hop
//!              0 | weight u16    | flags | family| zero 4                    |
//!              8 | gateway 16                                            |
//!             16 |                                                       |
//!             24 | link's name 16, padded with zeros (all zeros: none)       |
//!             32 |                                                       |
//! neighbour  its canonical bytes with link 0, then its link's name, 16 bytes
//! ```
//!
//! KEYS cover MAC addresses, which are spelled out already; LINKS is 0. The sum
//! is made in slices over the whole table, which must not change meanwhile:
//! others' changes wait until it is done. Anybody may ask for one, so they get as
//! much time afterwards ([`Core::hold_to_read`]).

use std::net::IpAddr;

use rtm_model::{
    Digest, DigestKey, Digester, Digests, Entity, EntityKind, Family, GroupId, Mac, NeighbourKey,
    Route,
};
use rtm_tables::wire::{ItemFlags, ItemKind};
use rtm_tables::{RouteCursor, Store};
use serde_json::Value;

use super::{Answer, Reply, Step, Until, idle};
use crate::core::{Core, Requester};

/// Entities hashed in one step: a fraction of a millisecond.
const STEP: usize = 1024;

/// One `digest`.
pub(crate) enum DigestJob {
    /// As they are kept.
    Kept,
    /// Spelled out.
    Resolved(Box<Resolved>),
    /// Computed.
    Computed(Digests),
}

impl DigestJob {
    pub(crate) fn new(resolved: bool) -> DigestJob {
        if resolved { DigestJob::Resolved(Box::new(Resolved::new())) } else { DigestJob::Kept }
    }

    pub(crate) fn step(&mut self, core: &mut Core, who: Requester, out: &mut dyn Answer) -> Step {
        if core.table.is_staging() {
            return idle();
        }
        let store = core.table.store();
        let (epoch, revision, digests): (Value, Value, Digests) = match self {
            DigestJob::Kept => (
                format!("{:016x}", core.table.epoch().0).into(),
                core.table.revision().0.into(),
                core.table.digests(),
            ),
            DigestJob::Computed(digests) => ("-".into(), "-".into(), *digests),
            DigestJob::Resolved(resolved) => {
                if let Err(deadline) = core.hold_to_read(who) {
                    return Step::Wait(Until { deadline });
                }
                if let Some(digests) = resolved.step(core.table.store()) {
                    core.release(who);
                    *self = DigestJob::Computed(digests);
                }
                return Step::More;
            }
        };
        let counts = store.counts();
        let json = serde_json::json!({
            "epoch": epoch,
            "revision": revision,
            "routes": digests.routes.to_string(),
            "neighbours": digests.neighbours.to_string(),
            "keys": digests.keys.to_string(),
            "links": digests.links.to_string(),
            "counts": {
                "routes_v4": counts.routes4,
                "routes_v6": counts.routes6,
                "neighbours": counts.neighbours,
                "keys": counts.macs,
                "links": counts.links,
                "groups": counts.groups,
            },
        });
        if !out.item(ItemKind::Json, ItemFlags::default(), json.to_string().as_bytes()) {
            return Step::NoRoom;
        }
        Step::Done(Reply::done())
    }
}

/// The place of a resolved digest that is being made.
pub(crate) struct Resolved {
    digester: Digester,
    digests: Digests,
    place: Place,
    buf: Vec<u8>,
}

enum Place {
    Routes(RouteCursor),
    Neighbours(Option<NeighbourKey>),
    Macs(Option<Mac>),
}

impl Resolved {
    fn new() -> Resolved {
        Resolved {
            digester: Digester::new(DigestKey::RESOLVED),
            digests: Digests::default(),
            place: Place::Routes(RouteCursor::all()),
            buf: Vec::new(),
        }
    }

    /// One slice; the digests when it was the last.
    fn step(&mut self, store: &Store) -> Option<Digests> {
        for _ in 0..STEP {
            match &mut self.place {
                Place::Routes(cursor) => match store.next_route(cursor) {
                    Some(route) => {
                        let kind = resolve_route(store, route, &mut self.buf);
                        self.digests.routes.add(self.digester.hash(kind, &self.buf));
                    }
                    None => self.place = Place::Neighbours(None),
                },
                Place::Neighbours(after) => match store.next_neighbour(after.as_ref()) {
                    Some(mut neighbour) => {
                        *after = Some(neighbour.key);
                        let link = neighbour.key.link.take().and_then(|id| store.link(id));
                        self.buf.clear();
                        Entity::Neighbour(neighbour).encode(&mut self.buf);
                        self.buf
                            .extend_from_slice(link.map_or(&[0; 16], |link| link.name.padded()));
                        let hash = self.digester.hash(EntityKind::Neighbour, &self.buf);
                        self.digests.neighbours.add(hash);
                    }
                    None => self.place = Place::Macs(None),
                },
                Place::Macs(after) => match store.next_mac(*after) {
                    Some(mac) => {
                        *after = Some(mac);
                        self.digests.keys.add(self.digester.mac(mac));
                    }
                    None => {
                        self.digests.links = Digest::default();
                        return Some(self.digests);
                    }
                },
            }
        }
        None
    }
}

/// A route's canonical bytes with its next hops spelled out.
fn resolve_route(store: &Store, mut route: Route, buf: &mut Vec<u8>) -> EntityKind {
    let group = store.group(std::mem::replace(&mut route.value.group, GroupId::NONE));
    let entity = Entity::Route(route);
    buf.clear();
    entity.encode(buf);
    for hop in group.map_or(&[][..], |group| &group.hops) {
        let mut bytes = [0; 40];
        bytes[..2].copy_from_slice(&hop.weight.to_le_bytes());
        bytes[2] = hop.flags.0;
        if let Some(gateway) = hop.gateway {
            bytes[3] = Family::of(gateway) as u8;
            match gateway {
                IpAddr::V4(a) => bytes[8..12].copy_from_slice(&a.octets()),
                IpAddr::V6(a) => bytes[8..24].copy_from_slice(&a.octets()),
            }
        }
        if let Some(link) = hop.link.and_then(|id| store.link(id)) {
            bytes[24..].copy_from_slice(link.name.padded());
        }
        buf.extend_from_slice(&bytes);
    }
    entity.kind()
}
