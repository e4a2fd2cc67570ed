//! A listing: what was asked of the kernel, and what came meanwhile.
//!
//! One is begun with the event socket empty. From a request on, what an event says
//! wins over a line for the same thing: the line may have been written before.
//! A listing that events disturbed may be short, and the kernel doesn't always
//! say so (`NLM_F_DUMP_INTR`): it is made again, once, and what is in neither
//! goes. One during which the socket overran says nothing at all: it is made
//! again until one goes through.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::Instant;

use rtm_model::{Family, Prefix, RouteSpec};
use rtm_netlink::{
    Builder, RouteFilter, RouteMessage, kind, request_dump, request_neighbours, request_routes,
};
use rtm_tables::Stamp;

use super::routes::ListKey;
use super::{PREFIXES_MAX, neighbours};

/// Rounds of a listing that is disturbed each time: what is in none of them
/// goes.
pub(super) const ROUNDS_MAX: u8 = 2;

/// What is listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// Everything.
    All,
    /// Next-hop objects, and the routes over one link.
    Link(u32),
    /// The routes of some prefixes. The kernel's dumps have no filter by prefix
    /// (`ip_valid_fib_dump_req` in net/ipv4/fib_frontend.c refuses a length of
    /// the destination, and RTM_GETROUTE by an address gives one route): their
    /// tables are asked for, and of the lines only theirs are looked at.
    Prefixes,
}

/// One request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Links,
    Objects,
    Routes(RouteFilter),
    Neighbours(Family),
}

/// A listing under way.
pub(super) struct Listing {
    pub(super) scope: Scope,
    /// Of [`Scope::Prefixes`].
    pub(super) prefixes: BTreeSet<(u32, Prefix)>,
    /// What is left to ask.
    pub(super) steps: VecDeque<Step>,
    /// What is being answered, and under which number.
    pub(super) current: Option<(u32, Step)>,
    /// When this round began, and the one before.
    pub(super) stamp: Stamp,
    pub(super) before: Option<Stamp>,
    pub(super) round: u8,
    /// Events came while it was answered, or the kernel said that it changed.
    pub(super) disturbed: bool,
    /// Events were lost: it must be made again.
    pub(super) overrun: bool,
    /// The source had nothing: no line needs to be compared.
    pub(super) fresh: bool,
    /// Lists in doubt that no line has settled: an event didn't fit, or lines that differ
    /// from what we have were passed over.
    pub(super) skipped: HashSet<ListKey>,
    /// What events spoke of since the round began.
    pub(super) lists: HashSet<ListKey>,
    pub(super) links: HashSet<u32>,
    pub(super) objects: HashSet<u32>,
    pub(super) neighbours: HashSet<neighbours::Key>,
    /// Links and objects that a line spoke of.
    pub(super) seen: HashSet<u32>,
    /// Lines of one list, until its last has come.
    pub(super) lines: Vec<RouteSpec>,
    /// Lines so far, and those that differed.
    pub(super) line_count: u64,
    pub(super) changed: u64,
    pub(super) since: Instant,
}

/// What events may speak of before a listing is called hopeless and its round
/// disturbed: bounds its memory.
pub(super) const TOUCHED_MAX: usize = 1 << 17;

impl Listing {
    pub(super) fn new(
        scope: Scope,
        prefixes: BTreeSet<(u32, Prefix)>,
        tables: &[u32],
        stamp: Stamp,
        fresh: bool,
    ) -> Listing {
        Listing {
            scope,
            steps: steps(scope, &prefixes, tables),
            prefixes,
            current: None,
            stamp,
            before: None,
            round: 1,
            disturbed: false,
            overrun: false,
            fresh,
            skipped: HashSet::new(),
            lists: HashSet::new(),
            links: HashSet::new(),
            objects: HashSet::new(),
            neighbours: HashSet::new(),
            seen: HashSet::new(),
            lines: Vec::new(),
            line_count: 0,
            changed: 0,
            since: Instant::now(),
        }
    }

    /// Once more, from the beginning.
    pub(super) fn again(&mut self, tables: &[u32], stamp: Stamp) {
        if self.overrun {
            self.round = 0;
            self.before = None;
        } else {
            self.before = Some(self.stamp);
        }
        self.round += 1;
        self.stamp = stamp;
        self.steps = steps(self.scope, &self.prefixes, tables);
        self.current = None;
        (self.disturbed, self.overrun, self.fresh) = (false, false, false);
        self.lists.clear();
        self.links.clear();
        self.objects.clear();
        self.neighbours.clear();
        self.seen.clear();
        self.lines.clear();
        (self.line_count, self.changed) = (0, 0);
        self.since = Instant::now();
    }

    /// Writes the next request; false: there is none.
    pub(super) fn next_request(&mut self, sequence: u32, out: &mut Builder) -> bool {
        let Some(step) = self.steps.pop_front() else { return false };
        out.clear();
        match step {
            Step::Links => request_dump(out, sequence, kind::GETLINK),
            Step::Objects => request_dump(out, sequence, kind::GETNEXTHOP),
            Step::Routes(filter) => {
                // What events have told so far, its lines tell anew, and whole: an event
                // says only where in a list something came, and we may not have the list.
                self.lists.retain(|list| {
                    list.prefix.family().af() != filter.family
                        || filter.table != 0 && list.table != filter.table
                });
                request_routes(out, sequence, &filter);
            }
            Step::Neighbours(family) => request_neighbours(out, sequence, family.af()),
        }
        self.seen.clear();
        self.current = Some((sequence, step));
        true
    }

    /// Does an answer under way or still to come concern this? Events about
    /// anything else don't disturb.
    pub(super) fn concerns_routes(&self, family: Family) -> bool {
        let is = |step: &Step| matches!(step, Step::Routes(filter) if filter.family == family.af());
        self.current.is_some_and(|(_, step)| is(&step))
    }

    /// Is a line about this route looked at?
    pub(super) fn wants(&self, route: &RouteMessage<'_>) -> bool {
        self.scope != Scope::Prefixes
            || route.prefix().is_ok_and(|prefix| self.prefixes.contains(&(route.table, prefix)))
    }

    /// A list is in doubt, until a line of it is taken.
    pub(super) fn skip(&mut self, list: ListKey) {
        // One over the bound says that it was reached.
        if self.skipped.len() <= PREFIXES_MAX {
            self.skipped.insert(list);
        }
    }

    /// Will a request that is still to be sent tell all of this prefix anew?
    pub(super) fn will_tell(&self, table: u32, prefix: Prefix) -> bool {
        let asks = |step: &Step| match step {
            Step::Routes(filter) => {
                filter.family == prefix.family().af()
                    && filter.ifindex == 0
                    && (filter.table == 0 || filter.table == table)
            }
            _ => false,
        };
        (self.scope != Scope::Prefixes || self.prefixes.contains(&(table, prefix)))
            && self.steps.iter().any(asks)
    }

    /// Too much was spoken of.
    pub(super) fn is_crowded(&self) -> bool {
        self.lists.len() + self.neighbours.len() > TOUCHED_MAX
    }
}

fn steps(scope: Scope, prefixes: &BTreeSet<(u32, Prefix)>, tables: &[u32]) -> VecDeque<Step> {
    let mut steps = VecDeque::new();
    let ifindex = match scope {
        Scope::All => {
            steps.push_back(Step::Links);
            0
        }
        Scope::Link(ifindex) => ifindex,
        Scope::Prefixes => {
            let mut asked: Vec<_> = prefixes.iter().map(|(id, p)| (*id, p.family().af())).collect();
            asked.sort_unstable();
            asked.dedup();
            steps.extend(asked.into_iter().map(|(table, family)| {
                Step::Routes(RouteFilter { family, table, ..RouteFilter::default() })
            }));
            return steps;
        }
    };
    steps.push_back(Step::Objects);
    for family in [Family::V4, Family::V6] {
        let filter = RouteFilter { family: family.af(), ifindex, ..RouteFilter::default() };
        if tables.is_empty() {
            steps.push_back(Step::Routes(filter));
        }
        for &table in tables {
            steps.push_back(Step::Routes(RouteFilter { table, ..filter }));
        }
    }
    if scope == Scope::All {
        steps.extend([Step::Neighbours(Family::V4), Step::Neighbours(Family::V6)]);
    }
    steps
}

#[cfg(test)]
mod tests {
    use rtm_model::DigestKey;
    use rtm_tables::{Epoch, Table, TableLimits};

    use super::*;

    #[test]
    fn what_events_told_before_a_request_its_answer_tells_anew() {
        let list = |table, prefix: &str| ListKey {
            table,
            prefix: prefix.parse().unwrap(),
            tos: 0,
            metric: 1024,
        };
        let (v4, v6) = (list(254, "10.0.0.0/8"), list(254, "2001:db8::/32"));
        let other = list(100, "2001:db8::/32");
        for (tables, rounds) in [(&[][..], 1), (&[254, 100][..], 2)] {
            let stamp =
                Table::new(Epoch(1), DigestKey([1, 2]), TableLimits::default()).begin_listing();
            let mut listing = Listing::new(Scope::All, BTreeSet::new(), tables, stamp, true);
            let mut out = Builder::default();
            listing.lists.extend([v4, v6, other]);
            let mut next = || {
                assert!(listing.next_request(1, &mut out));
                let mut left: Vec<_> = listing.lists.iter().copied().collect();
                left.sort_by_key(|list| (list.table, list.prefix));
                left
            };
            assert_eq!(next(), [other, v4, v6], "links");
            assert_eq!(next(), [other, v4, v6], "objects");
            for _ in 0..rounds {
                assert_eq!(next(), [other, v6], "IPv4");
            }
            if rounds == 2 {
                assert_eq!(next(), [other], "IPv6 of the first table");
            }
            assert_eq!(next(), [], "IPv6");
        }
    }
}
