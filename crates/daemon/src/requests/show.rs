//! `route show` and `neigh show`: streamed while the client reads.

use rtm_model::text::{NeighbourSelector, RouteSelector, RouteShow};
use rtm_model::{Entity, Family, GroupId, LinkId, Neighbour, NeighbourKey, Route, RouteKey};
use rtm_tables::wire::{ItemFlags, ItemKind};
use rtm_tables::{Revision, SourceId, Store, Table};

use super::select::{Found, NeighbourWalk, RouteWalk, candidates};
use super::{Answer, Reply, Step, idle};
use crate::core::Core;

/// Entities looked at in one step: about a quarter of a millisecond.
const STEP: usize = 1024;

/// Groups and links that a client was told lately. Those that it was told
/// longer ago are told again: the memory is bounded, the client takes what it
/// is told last.
const TOLD: usize = 256;

/// Tells links and groups before the first route that uses them.
pub(crate) struct Told {
    groups: Box<[u32; TOLD]>,
    links: Box<[u32; TOLD]>,
    /// Numbers are used again when their owner is gone, so nothing told
    /// at another revision counts.
    revision: Revision,
    buf: Vec<u8>,
}

impl Default for Told {
    fn default() -> Told {
        Told {
            groups: Box::new([0; TOLD]),
            links: Box::new([0; TOLD]),
            revision: Revision::default(),
            buf: Vec::new(),
        }
    }
}

impl Told {
    /// A step begins.
    pub(crate) fn begin(&mut self, revision: Revision) {
        if self.revision != revision {
            self.revision = revision;
            self.groups.fill(0);
            self.links.fill(0);
        }
    }

    /// One entity; false: no room.
    fn entity(&mut self, entity: &Entity, flags: ItemFlags, out: &mut dyn Answer) -> bool {
        self.buf.clear();
        entity.encode(&mut self.buf);
        out.item(ItemKind::Entity(entity.kind()), flags, &self.buf)
    }

    fn link(&mut self, store: &Store, id: LinkId, out: &mut dyn Answer) -> bool {
        let slot = id.0 as usize % TOLD;
        if self.links[slot] == id.0 {
            return true;
        }
        let Some(&link) = store.link(id) else { return true };
        let told = self.entity(&Entity::Link(link), ItemFlags::RESOLVES, out);
        if told {
            self.links[slot] = id.0;
        }
        told
    }

    fn group(&mut self, store: &Store, id: GroupId, out: &mut dyn Answer) -> bool {
        let slot = id.0 as usize % TOLD;
        if id == GroupId::NONE || self.groups[slot] == id.0 {
            return true;
        }
        let Some(group) = store.group(id) else { return true };
        for hop in &group.hops {
            if let Some(link) = hop.link {
                if !self.link(store, link, out) {
                    return false;
                }
            }
        }
        let told = self.entity(&Entity::Group(group.clone()), ItemFlags::RESOLVES, out);
        if told {
            self.groups[slot] = id.0;
        }
        told
    }

    /// A route with what it refers to; false: no room, to be said again.
    pub(crate) fn route(&mut self, store: &Store, route: &Route, out: &mut dyn Answer) -> bool {
        self.group(store, route.value.group, out)
            && self.entity(&Entity::Route(route.clone()), ItemFlags::default(), out)
    }

    fn neighbour(&mut self, store: &Store, neighbour: Neighbour, out: &mut dyn Answer) -> bool {
        neighbour.key.link.is_none_or(|link| self.link(store, link, out))
            && self.entity(&Entity::Neighbour(neighbour), ItemFlags::default(), out)
    }
}

/// A route that should be in the kernel and isn't, as a listing shows it:
/// `rt_offload_failed`, as the kernel marks what a switch refused. The reason
/// stands in `status`.
fn unexported(route: &Route) -> Route {
    const RTM_F_OFFLOAD_FAILED: u32 = 0x2000_0000;
    let mut shown = route.clone();
    let mut attrs = shown.value.attrs.decode();
    attrs.flags |= RTM_F_OFFLOAD_FAILED;
    if let Ok(attrs) = attrs.encode() {
        shown.value.attrs = attrs;
    }
    shown
}

/// `route show`.
pub(crate) struct Routes {
    selector: RouteSelector,
    all: bool,
    count: bool,
    walk: Option<RouteWalk>,
    /// Found, and not said yet: there was no room. It is looked up again then,
    /// as it may have changed.
    waiting: Option<RouteKey>,
    /// How many of its candidates were said.
    said: usize,
    told: Told,
    /// Sources that were named, by number.
    sources: Vec<bool>,
    counted: u64,
}

impl Routes {
    pub(crate) fn new(show: RouteShow) -> Routes {
        Routes {
            selector: show.selector,
            all: show.all,
            count: show.count,
            walk: None,
            waiting: None,
            said: 0,
            told: Told::default(),
            sources: Vec::new(),
            counted: 0,
        }
    }

    pub(crate) fn step(&mut self, core: &mut Core, out: &mut dyn Answer) -> Step {
        if core.table.is_staging() {
            return idle();
        }
        let store = core.table.store();
        self.told.begin(core.table.revision());
        let mut budget = STEP;
        loop {
            let route = match self.waiting.take() {
                Some(key) => match store.route(&key) {
                    Some(route) => route,
                    None => continue,
                },
                None => {
                    self.said = 0;
                    let walk =
                        self.walk.get_or_insert_with(|| RouteWalk::new(store, &self.selector));
                    let found = if self.all {
                        let selector = &self.selector;
                        walk.next_where(store, &mut budget, |r| selector.matches_key(&r.key))
                    } else {
                        walk.next(&core.table, &self.selector, &mut budget)
                    };
                    match found {
                        Found::One(route) => route,
                        Found::Paused => return Step::More,
                        Found::End => break,
                    }
                }
            };
            if self.count {
                self.counted += match self.all {
                    true => candidates(&core.table, &self.selector, &route.key).count() as u64,
                    false => 1,
                };
                continue;
            }
            let said = if self.all {
                self.candidates(&core.table, &route.key, out)
            } else if core.export.problem(&route.key).is_some() {
                self.told.route(store, &unexported(&route), out)
            } else {
                self.told.route(store, &route, out)
            };
            if !said {
                self.waiting = Some(route.key);
                return Step::NoRoom;
            }
        }
        if self.count {
            let json = serde_json::json!({ "count": self.counted }).to_string();
            if !out.item(ItemKind::Json, ItemFlags::default(), json.as_bytes()) {
                return Step::NoRoom;
            }
        }
        Step::Done(Reply::done())
    }

    /// The candidates of a key, each with its source; false: no room for the
    /// rest.
    fn candidates(&mut self, table: &Table, key: &RouteKey, out: &mut dyn Answer) -> bool {
        let kind = match key.prefix.family() {
            Family::V4 => ItemKind::Candidate4,
            Family::V6 => ItemKind::Candidate6,
        };
        let selector = self.selector.clone();
        for (candidate, source) in candidates(table, &selector, key).skip(self.said) {
            if !self.source(candidate.source, &source.name, out)
                || !self.told.group(table.store(), candidate.value.group, out)
            {
                return false;
            }
            let buf = &mut self.told.buf;
            buf.clear();
            buf.extend_from_slice(&u32::from(candidate.source.0).to_le_bytes());
            buf.extend_from_slice(&[u8::from(candidate.won), 0, 0, 0]);
            Entity::Route(Route { key: *key, value: candidate.value }).encode(buf);
            if !out.item(kind, ItemFlags::default(), buf) {
                return false;
            }
            self.said += 1;
        }
        true
    }

    fn source(&mut self, id: SourceId, name: &str, out: &mut dyn Answer) -> bool {
        let at = usize::from(id.0);
        if self.sources.get(at) == Some(&true) {
            return true;
        }
        let mut body = u64::from(id.0).to_le_bytes().to_vec();
        body.extend_from_slice(name.as_bytes());
        if !out.item(ItemKind::Source, ItemFlags::default(), &body) {
            return false;
        }
        if self.sources.len() <= at {
            self.sources.resize(at + 1, false);
        }
        self.sources[at] = true;
        true
    }
}

/// `neigh show`.
pub(crate) struct Neighbours {
    selector: NeighbourSelector,
    walk: NeighbourWalk,
    waiting: Option<NeighbourKey>,
    told: Told,
}

impl Neighbours {
    pub(crate) fn new(selector: NeighbourSelector) -> Neighbours {
        let walk = NeighbourWalk::new(&selector);
        Neighbours { selector, walk, waiting: None, told: Told::default() }
    }

    pub(crate) fn step(&mut self, core: &mut Core, out: &mut dyn Answer) -> Step {
        if core.table.is_staging() {
            return idle();
        }
        let store = core.table.store();
        self.told.begin(core.table.revision());
        let mut budget = STEP;
        loop {
            let neighbour = match self.waiting.take() {
                Some(key) => match store.neighbour(&key) {
                    Some(neighbour) => neighbour,
                    None => continue,
                },
                None => match self.walk.next(store, &self.selector, &mut budget) {
                    Found::One(neighbour) => neighbour,
                    Found::Paused => return Step::More,
                    Found::End => return Step::Done(Reply::done()),
                },
            };
            if !self.told.neighbour(store, neighbour, out) {
                self.waiting = Some(neighbour.key);
                return Step::NoRoom;
            }
        }
    }
}
