//! What a peer offers: messages become changes of the open transaction.
//!
//! The key of a peer's route is (table, prefix), as zebra has it: an add means
//! replace, and of a delete only the key counts, as zebra names there whatever
//! protocol and metric it has at hand. Objects become named groups when a route
//! first uses them; a route whose object isn't there (or not whole) waits for
//! it, and meanwhile what the peer offered before stays.

use std::collections::{BTreeSet, HashMap, HashSet};

use rtm_model::{Change, Family, GroupSpec, Hops, Prefix, RouteSpec, RouteType, Verb, WEIGHT_MAX};
use rtm_netlink::{Body, Message, NextHopMessage, Object as Told, RouteMessage};
use rtm_tables::{ChangeError, Transaction};

use super::links::Links;
use super::objects::{Object, Objects, Resolved};

/// Objects of one peer: zebra makes one for each set of next hops in use, some
/// thousands for a full table of many neighbours.
const OBJECTS_MAX: usize = 65_536;

/// Routes of one peer that wait for their object. In zebra's order none does.
const WAITING_MAX: usize = 65_536;

/// A route's key at its peer.
type Key = (u32, Prefix);

/// What is counted of a peer, since it was first here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// Frames.
    pub(crate) frames: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Messages that were no routes of ours: MPLS, MAC addresses, ….
    pub(crate) skipped: u64,
    /// Attributes that nobody here knows; those of routes are kept.
    pub(crate) unknown: u64,
    /// Encapsulations that changed in an object in use, or were too long: the
    /// routes by it keep what they had.
    pub(crate) encapsulated: u64,
    /// Groups with weights beyond the table's, which are cut to its largest.
    pub(crate) cut: u64,
    /// Routes that the table refused.
    pub(crate) refused: u64,
    /// Deletes of what wasn't there.
    pub(crate) missing: u64,
}

/// Which metrics the routes of one family have. As it is no part of their key,
/// a route whose metric changes must leave its old place in the table; as zebra
/// sends a constant, that need hardly ever be looked for.
#[derive(Clone, Copy, Debug, Default)]
enum Metrics {
    #[default]
    None,
    One(Option<u32>),
    Several,
}

/// What a peer offers, as far as the table doesn't hold it.
#[derive(Debug, Default)]
pub(super) struct Content {
    objects: Objects,
    /// Objects that the table has as groups.
    named: HashSet<u32>,
    waiting: HashMap<Key, RouteSpec>,
    /// (object, key) of those that wait.
    waiting_for: BTreeSet<(u32, u32, Prefix)>,
    metrics: [Metrics; 2],
    pub(super) counts: Counts,
    /// Why the table refused a route last, not yet told.
    pub(super) refusal: Option<String>,
}

impl Content {
    /// The connection is gone, and what it told of objects with it. (The table
    /// keeps its groups until the peer has told what it has now.)
    pub(super) fn disconnected(&mut self) {
        self.objects = Objects::default();
        self.named.clear();
        self.waiting.clear();
        self.waiting_for.clear();
    }

    /// Routes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// One message of a frame.
    ///
    /// # Errors
    /// It can't be what it claims to be, or more than a peer may have: the end
    /// of the connection.
    pub(super) fn message(
        &mut self,
        message: Message<'_>,
        transaction: &mut Transaction<'_>,
        links: &mut Links,
        same_host: bool,
    ) -> Result<(), String> {
        match Body::decode(message).map_err(|error| error.to_string())? {
            Body::Route(route) => self.route(&route, transaction, links, same_host),
            Body::NextHop(object) => self.object(&object, transaction, links, same_host),
            _ => {
                self.counts.skipped += 1;
                Ok(())
            }
        }
    }

    fn route(
        &mut self,
        route: &RouteMessage<'_>,
        transaction: &mut Transaction<'_>,
        links: &mut Links,
        same_host: bool,
    ) -> Result<(), String> {
        let Ok(mut spec) = route.spec() else {
            self.counts.skipped += 1;
            return Ok(());
        };
        self.counts.unknown += u64::from(route.unknown());
        spec.tos = 0;
        let key = (spec.table, spec.prefix);
        self.stop_waiting(key);
        if route.gone {
            match transaction.apply(&Change::Route(Verb::Delete, any(key))) {
                Ok(()) => {}
                Err(ChangeError::Missing | ChangeError::ForeignSource { .. }) => {
                    self.counts.missing += 1;
                }
                Err(error) => self.refuse(key, &error),
            }
            return Ok(());
        }
        links.name_hops(&mut spec.hops, same_host);
        self.offer(spec, transaction)
    }

    fn offer(
        &mut self,
        mut spec: RouteSpec,
        transaction: &mut Transaction<'_>,
    ) -> Result<(), String> {
        let key = (spec.table, spec.prefix);
        if let Hops::Named(id) = spec.hops {
            if !self.named.contains(&id) {
                match self.objects.resolve(id) {
                    Some(Resolved::Hops(hops)) => {
                        if !self.name(id, hops, transaction) {
                            return Ok(());
                        }
                    }
                    Some(Resolved::Blackhole) => {
                        spec.kind = Some(RouteType::Blackhole);
                        spec.hops = Hops::None;
                    }
                    None => return self.wait(id, spec),
                }
            }
        }
        if let Hops::Named(id) = spec.hops {
            let kept = self.objects.kept(id);
            if !kept.is_empty() {
                let mut attrs = spec.attrs.decode();
                attrs.opaque.extend(kept);
                match attrs.encode() {
                    Ok(attrs) => spec.attrs = attrs,
                    Err(_) => self.counts.encapsulated += 1,
                }
            }
        }
        let metrics = &mut self.metrics[usize::from(spec.prefix.family() == Family::V6)];
        match *metrics {
            Metrics::None => *metrics = Metrics::One(spec.metric),
            Metrics::One(metric) if metric == spec.metric => {}
            _ => {
                *metrics = Metrics::Several;
                // Where it stands there already, this comes to nothing.
                let _ = transaction.apply(&Change::Route(Verb::Delete, any(key)));
            }
        }
        if let Err(error) = transaction.apply(&Change::Route(Verb::Replace, spec)) {
            self.refuse(key, &error);
        }
        Ok(())
    }

    /// The table has an object as a group from here on; false: it refused it.
    fn name(
        &mut self,
        id: u32,
        hops: Vec<rtm_model::HopSpec>,
        transaction: &mut Transaction<'_>,
    ) -> bool {
        let group = Change::Group(Verb::Replace, GroupSpec { nhid: id, hops });
        match transaction.apply(&group) {
            Ok(()) => {
                self.named.insert(id);
                true
            }
            Err(error) => {
                self.counts.refused += 1;
                self.refusal = Some(format!("next-hop object {id}: {error}"));
                false
            }
        }
    }

    fn object(
        &mut self,
        told: &NextHopMessage<'_>,
        transaction: &mut Transaction<'_>,
        links: &mut Links,
        same_host: bool,
    ) -> Result<(), String> {
        self.counts.unknown += told.unknown.len() as u64;
        let mut members = told.object.members();
        self.counts.cut += u64::from(members.any(|member| member.weight > u32::from(WEIGHT_MAX)));
        if told.id == 0 {
            return Err("a next-hop object without its number".to_owned());
        }
        let object = match &told.object {
            _ if told.gone => None,
            Told::Hop(hop) => {
                let mut hop = *hop;
                links.name_hop(&mut hop, same_host);
                Some(Object::Hop(hop))
            }
            Told::Group(_) => Some(Object::Group(told.object.members().collect())),
            Told::Blackhole => Some(Object::Blackhole),
            Told::Fdb | Told::Nothing => {
                self.counts.skipped += 1;
                return Ok(());
            }
        };
        let other = self.objects.set_kept(told.id, told.encapsulation());
        let dependent = match object {
            Some(object) => {
                let dependent = self.objects.set(told.id, object);
                if self.objects.len() > OBJECTS_MAX {
                    return Err(format!("more than {OBJECTS_MAX} next-hop objects"));
                }
                dependent
            }
            None => self.objects.remove(told.id),
        };
        if other && !told.gone && dependent.iter().any(|id| self.named.contains(id)) {
            self.counts.encapsulated += 1;
        }
        for id in dependent {
            self.object_changed(id, transaction)?;
        }
        Ok(())
    }

    /// An object, or one of its members, is another now.
    fn object_changed(&mut self, id: u32, transaction: &mut Transaction<'_>) -> Result<(), String> {
        let resolved = self.objects.resolve(id);
        if self.named.contains(&id) {
            match resolved.clone() {
                Some(Resolved::Hops(hops)) => {
                    self.name(id, hops, transaction);
                }
                Some(Resolved::Blackhole) | None => {
                    // As with the kernel's, its routes go along.
                    self.named.remove(&id);
                    let hops = Vec::new();
                    let gone = Change::Group(Verb::Delete, GroupSpec { nhid: id, hops });
                    let _ = transaction.apply(&gone);
                }
            }
        }
        if resolved.is_some() && !self.waiting.is_empty() {
            let lowest = Prefix::default_of(Family::V4);
            let mut keys = Vec::new();
            for &(object, table, prefix) in self.waiting_for.range((id, 0, lowest)..) {
                if object != id {
                    break;
                }
                keys.push((table, prefix));
            }
            for key in keys {
                if let Some(spec) = self.stop_waiting(key) {
                    self.offer(spec, transaction)?;
                }
            }
        }
        Ok(())
    }

    fn wait(&mut self, id: u32, spec: RouteSpec) -> Result<(), String> {
        if self.waiting.len() == WAITING_MAX {
            return Err(format!(
                "{WAITING_MAX} routes wait for next-hop objects that were never told"
            ));
        }
        self.waiting_for.insert((id, spec.table, spec.prefix));
        self.waiting.insert((spec.table, spec.prefix), spec);
        Ok(())
    }

    fn stop_waiting(&mut self, key: Key) -> Option<RouteSpec> {
        if self.waiting.is_empty() {
            return None;
        }
        let spec = self.waiting.remove(&key)?;
        if let Hops::Named(id) = spec.hops {
            self.waiting_for.remove(&(id, key.0, key.1));
        }
        Some(spec)
    }

    fn refuse(&mut self, key: Key, error: &ChangeError) {
        self.counts.refused += 1;
        self.refusal = Some(format!("{} in table {}: {error}", key.1, key.0));
    }
}

/// Whatever the peer has under this key.
fn any((table, prefix): Key) -> RouteSpec {
    RouteSpec { table, ..RouteSpec::new(prefix) }
}
