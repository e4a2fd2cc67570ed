//! What clients of `classic.sock` are shown: one row for each prefix, in the
//! specification's fixed structure.
//!
//! The tables hold more than that structure can say. Shown is the best IPv4
//! unicast route of each prefix of table 254 (of tos 0, the lowest distance,
//! metric, ordinal) by its first next hop; and the MAC addresses that any
//! neighbour has. What isn't shown is counted.
//!
//! ```text
//!   record ──> prefixes and MACs to look at ──work──> rows (section) ──> sessions, each by its cursor
//!                                              ^
//!            the store, at the published revision
//! ```
//!
//! One view serves all classic sessions, and is there only while there are some.
//! A commit only notes which prefixes it touched; once a turn each is looked up in
//! the store, and if its row is another, it moves to the tail of the section's
//! order ([`section`]). A link's new name or a named group's new members concern
//! rows that no record names: those are found by going over all rows in slices.
//! The same goes for a transaction too large for records, after which every row
//! is compared with the store.
//!
//! What is sent is made when it is sent, from the row's group; a structure that
//! several sessions get is made once and copied.

pub(crate) mod layout;
mod section;
mod tell;

use std::collections::HashSet;

use rtm_model::{EntityKind, GroupId, LinkId, Mac, NextHop, RouteType};

use crate::catalog::id_of;
use crate::filter::Facts;
use crate::record::{Flush, Record, RecordOp};
use crate::store::Store;
use layout::Structure;
use section::{Cursor, Ruin, Section};

/// The table that is shown: main.
const TABLE: u32 = 254;

/// Going over rows costs less than encoding entities, by which budgets count.
const LOOKS: usize = 4;

/// Structures kept for other sessions that get the same.
const KEPT: usize = 4096;

/// Groups and links with news that are looked for by name; more, and every row is
/// looked at.
const NEWS_MAX: usize = 4096;

/// Where the family of the first gateway stands in a group's canonical bytes.
const FAMILY_AT: usize = 23;

/// A prefix as a section's key.
fn key_of_prefix(bits: u32, len: u8) -> u64 {
    u64::from(bits) << 8 | u64::from(len)
}

fn prefix_of(key: u64) -> (u32, u8) {
    ((key >> 8) as u32, key as u8)
}

fn key_of_mac(Mac([a, b, c, d, e, f]): Mac) -> u64 {
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

fn mac_of(key: u64) -> Mac {
    let [_, _, a, b, c, d, e, f] = key.to_be_bytes();
    Mac([a, b, c, d, e, f])
}

/// Groups and links that are not what they were.
#[derive(Default)]
struct News {
    groups: HashSet<u32>,
    links: HashSet<u32>,
    /// Too many to name.
    all: bool,
}

impl News {
    fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.links.is_empty() && !self.all
    }

    fn bound(&mut self) {
        if self.groups.len() + self.links.len() > NEWS_MAX {
            *self = News { all: true, ..News::default() };
        }
    }
}

/// Everything is compared with the store, in this order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scan {
    /// The store's routes by number.
    Routes(u32),
    /// Rows by number: are they still there?
    Rows(u32),
    Macs(Option<Mac>),
    Keys(u32),
    Done,
}

/// What all classic sessions share.
pub(crate) struct ClassicView {
    routes: Section,
    keys: Section,
    /// To be looked at when the turn is published.
    prefixes: Vec<u64>,
    macs: Vec<u64>,
    /// Groups that came into being since: their ids may have meant others before.
    new_groups: HashSet<u32>,
    /// Rows that were changed after this step know them already.
    mark: u64,
    news: News,
    /// News whose rows are being looked for, and the next number.
    looking: Option<(News, u32)>,
    scan: Scan,
    /// Rows may name groups that are gone, until the scan is done.
    stale: bool,
    /// The steps at which sessions were named last, and whether the rows were
    /// complete then.
    told: (u64, u64, bool),
    /// Sessions that wait for something to be told.
    pub(crate) waiters: Vec<u32>,
    pub(crate) sessions: usize,
    /// Routes that the tables have, when it was last worked on.
    routes_in_all: usize,
    kept: Vec<(u64, Structure)>,
    ruins: Vec<Ruin>,
}

/// A session's place in both sections.
#[derive(Debug)]
pub(crate) struct ClassicCursor {
    routes: Cursor,
    keys: Cursor,
    /// The initial table was said to be complete.
    synced: bool,
}

impl ClassicCursor {
    /// Was the initial table said to be complete?
    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }
}

impl ClassicView {
    pub(crate) fn new() -> ClassicView {
        ClassicView {
            routes: Section::default(),
            keys: Section::default(),
            prefixes: Vec::new(),
            macs: Vec::new(),
            new_groups: HashSet::new(),
            mark: 0,
            news: News::default(),
            looking: None,
            scan: Scan::Routes(0),
            stale: false,
            told: (0, 0, false),
            waiters: Vec::new(),
            sessions: 0,
            routes_in_all: 0,
            kept: vec![(0, [0; layout::CLASSIC_BYTES]); KEPT],
            ruins: Vec::new(),
        }
    }

    /// Notes what a commit touched.
    pub(crate) fn record(&mut self, record: &Record<'_>) {
        match record.kind {
            EntityKind::Route4 => {
                let Some(facts) = Facts::read(record.kind, record.body) else { return };
                if facts.table == TABLE {
                    self.prefixes.push(key_of_prefix((facts.bits >> 96) as u32, facts.len));
                }
            }
            EntityKind::Neighbour => {
                let now = if record.op == RecordOp::Set { record.body } else { &[] };
                for mac in [now, record.before].into_iter().filter_map(crate::view::mac_of) {
                    self.macs.push(key_of_mac(mac));
                }
            }
            EntityKind::Group | EntityKind::Link => self.staged(record),
            EntityKind::Route6 => {}
        }
    }

    /// Notes what a record says of a link or a group, also before it is visible.
    pub(crate) fn staged(&mut self, record: &Record<'_>) {
        match record.kind {
            EntityKind::Group if record.op == RecordOp::Set => {
                // Only the first next hop is shown: 24 bytes behind the group's own.
                if record.before.is_empty() {
                    self.new_groups.insert(id_of(record.body));
                } else if record.before.get(16..40) != record.body.get(16..40) {
                    self.news.groups.insert(id_of(record.body));
                    self.news.bound();
                    // Its routes may have had no rows: only the store knows them.
                    if record.before.get(FAMILY_AT) == Some(&6) {
                        self.scan = Scan::Routes(0);
                    }
                }
            }
            EntityKind::Link
                if record.op == RecordOp::Set
                    && !record.before.is_empty()
                    && record.before.get(8..24) != record.body.get(8..24) =>
            {
                self.news.links.insert(id_of(record.body));
                self.news.bound();
            }
            _ => {}
        }
    }

    /// A whole flush: what is shown is gone at once.
    pub(crate) fn flush(&mut self, what: Flush) {
        if what.routes {
            self.routes.flush(&mut self.ruins);
        }
        if what.neighbours {
            self.keys.flush(&mut self.ruins);
        }
    }

    /// More happened than the records said.
    pub(crate) fn leap(&mut self) {
        self.prefixes = Vec::new();
        self.macs = Vec::new();
        self.scan = Scan::Routes(0);
        self.stale = true;
        self.mark = self.routes.step();
    }

    /// Looks at what was touched, goes on with what is gone over in slices, and
    /// frees; the store is at a published revision. True: sessions have news.
    pub(crate) fn work(
        &mut self,
        store: &Store,
        tombstone_bytes_max: usize,
        budget: usize,
    ) -> bool {
        if !self.stale {
            self.mark = self.routes.step();
        }
        self.routes_in_all = store.route_count();
        for key in std::mem::take(&mut self.prefixes) {
            self.look(key, store, false);
        }
        for key in std::mem::take(&mut self.macs) {
            self.look_at_mac(key, store);
        }
        if !self.stale {
            self.new_groups = HashSet::new();
        }
        self.scan(store, budget * LOOKS);
        self.find_news(store, budget * LOOKS);
        // There are far more routes than keys.
        let for_keys = tombstone_bytes_max / 8;
        self.keys.trim(for_keys, budget * LOOKS, &mut self.ruins);
        self.routes.trim(tombstone_bytes_max - for_keys, budget * LOOKS, &mut self.ruins);
        self.free(budget / 8);
        let news = (self.routes.step(), self.keys.step(), self.scan == Scan::Done);
        std::mem::replace(&mut self.told, news) != news
    }

    /// Frees some of what is to be freed; true: that was the last.
    fn free(&mut self, count: usize) -> bool {
        for _ in 0..count {
            let Some(ruin) = self.ruins.last_mut() else { return true };
            if !ruin.dismantle() {
                self.ruins.pop();
            }
        }
        self.ruins.is_empty()
    }

    /// Nobody has needed it for a while: it goes, in slices. True: it is gone. Who
    /// comes meanwhile begins it anew.
    pub(crate) fn retire(&mut self, budget: usize) -> bool {
        let mut ruins = std::mem::take(&mut self.ruins);
        for section in [&mut self.routes, &mut self.keys] {
            std::mem::take(section).ruin(&mut ruins);
        }
        *self = ClassicView { ruins, ..ClassicView::new() };
        self.free(budget / 8)
    }

    /// Is there something to work on, though nothing came?
    pub(crate) fn has_work(&self) -> bool {
        self.scan != Scan::Done
            || self.looking.is_some()
            || !self.news.is_empty()
            || !self.ruins.is_empty()
            || !self.prefixes.is_empty()
            || !self.macs.is_empty()
    }

    /// May sessions be told what the rows say?
    pub(crate) fn is_current(&self) -> bool {
        !self.stale && self.prefixes.is_empty() && self.macs.is_empty()
    }

    /// Looks whether a prefix's row is what it should be; `news`: what its group
    /// says is another.
    fn look(&mut self, key: u64, store: &Store, news: bool) {
        let there = self.routes.find(key).and_then(|at| Some((at, self.routes.row(at)?.1)));
        match (best(store, key), there) {
            (Some(group), Some((at, old))) => {
                let is_new = || self.new_groups.contains(&group);
                if group != old || news || self.routes.since(at) <= self.mark && is_new() {
                    self.routes.set(key, group);
                }
            }
            (Some(group), None) => self.routes.set(key, group),
            (None, Some(_)) => self.routes.remove(key),
            (None, None) => {}
        }
    }

    fn look_at_mac(&mut self, key: u64, store: &Store) {
        let is = store.neighbours.of_mac(mac_of(key)).next().is_some();
        match (is, self.keys.find(key).is_some()) {
            (true, false) => self.keys.set(key, 0),
            (false, true) => self.keys.remove(key),
            _ => {}
        }
    }

    fn scan(&mut self, store: &Store, mut budget: usize) {
        while budget > 0 {
            budget -= 1;
            self.scan = match self.scan {
                Scan::Routes(at) if at < store.routes4.end() => {
                    let entry = store.routes4.entry(at);
                    let key = entry.key();
                    if key.table == TABLE && entry.value().is_present() {
                        let (bits, len) = key.prefix;
                        self.look(key_of_prefix((bits >> 96) as u32, len), store, false);
                    }
                    Scan::Routes(at + 1)
                }
                Scan::Routes(_) => Scan::Rows(0),
                Scan::Rows(at) if at < self.routes.end() => {
                    if let Some((key, _)) = self.routes.row(at) {
                        self.look(key, store, false);
                    }
                    Scan::Rows(at + 1)
                }
                Scan::Rows(_) => Scan::Macs(None),
                Scan::Macs(after) => match store.next_mac(after) {
                    Some(mac) => {
                        self.look_at_mac(key_of_mac(mac), store);
                        Scan::Macs(Some(mac))
                    }
                    None => Scan::Keys(0),
                },
                Scan::Keys(at) if at < self.keys.end() => {
                    if let Some((key, _)) = self.keys.row(at) {
                        self.look_at_mac(key, store);
                    }
                    Scan::Keys(at + 1)
                }
                Scan::Keys(_) | Scan::Done => {
                    self.stale = false;
                    Scan::Done
                }
            };
            if self.scan == Scan::Done {
                return;
            }
        }
    }

    /// Goes on looking for rows that show what is another now.
    fn find_news(&mut self, store: &Store, budget: usize) {
        if self.looking.is_none() && !self.news.is_empty() {
            self.looking = Some((std::mem::take(&mut self.news), 0));
        }
        let Some((news, from)) = self.looking.take() else { return };
        let to = from.saturating_add(budget as u32).min(self.routes.end());
        for at in from..to {
            let Some((key, group)) = self.routes.row(at) else { continue };
            let shows = news.all
                || news.groups.contains(&group)
                || !news.links.is_empty()
                    && first_hop(store, group)
                        .and_then(|hop| hop.link)
                        .is_some_and(|LinkId(link)| news.links.contains(&link));
            if shows {
                self.look(key, store, true);
            }
        }
        if to < self.routes.end() {
            self.looking = Some((news, to));
        }
    }

    /// A session comes.
    pub(crate) fn join(&mut self) -> ClassicCursor {
        self.sessions += 1;
        ClassicCursor { routes: self.routes.join(), keys: self.keys.join(), synced: false }
    }

    /// A session goes.
    pub(crate) fn leave(&mut self, cursor: &ClassicCursor) {
        self.sessions -= 1;
        self.routes.leave(&cursor.routes, &mut self.ruins);
        self.keys.leave(&cursor.keys, &mut self.ruins);
    }

    /// Routes that are in the tables and not shown.
    pub(crate) fn not_shown(&self) -> u64 {
        self.routes_in_all.saturating_sub(self.routes.len()) as u64
    }

    /// Rows and steps that a session is behind, about.
    pub(crate) fn lag(&self, cursor: &ClassicCursor) -> u64 {
        self.routes.lag(&cursor.routes) + self.keys.lag(&cursor.keys)
    }

    /// Has a session been told everything?
    pub(crate) fn is_at_tail(&self, cursor: &ClassicCursor) -> bool {
        cursor.synced
            && self.routes.is_at_tail(&cursor.routes)
            && self.keys.is_at_tail(&cursor.keys)
    }

    /// Bytes that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.routes.bytes() + self.keys.bytes() + KEPT * size_of::<(u64, Structure)>()
    }

    /// The structure of a row, made once for all who are told of this step.
    fn row(&mut self, key: u64, group: u32, step: u64, store: &Store) -> Structure {
        let place = (step % KEPT as u64) as usize;
        let kept = &self.kept[place];
        if step > 0 && kept.0 == step {
            return kept.1;
        }
        let hop = first_hop(store, group);
        let gateway = hop.and_then(|hop| hop.gateway).and_then(|gateway| match gateway {
            std::net::IpAddr::V4(gateway) => Some(gateway),
            std::net::IpAddr::V6(_) => None,
        });
        let link = hop.and_then(|hop| hop.link).and_then(|link| store.link(link));
        let oif = link.map_or("", |link| link.name.as_str());
        let structure = layout::route(prefix_of(key), gateway, oif);
        if step > 0 {
            self.kept[place] = (step, structure);
        }
        structure
    }
}

/// The next hop of a group that is shown.
fn first_hop(store: &Store, group: u32) -> Option<&NextHop> {
    store.group(GroupId(group))?.hops.first()
}

/// The group of the route that is shown of a prefix, if one can be.
fn best(store: &Store, key: u64) -> Option<u32> {
    let (bits, len) = prefix_of(key);
    let mut next = store.routes4.first(TABLE, (u128::from(bits) << 96, len));
    let mut best = None;
    while let Some(at) = next {
        let entry = store.routes4.entry(at);
        let ((tos, metric, ordinal), value) = (entry.place(), entry.value());
        if tos != 0 {
            break; // Ordered by tos first.
        }
        let rank = (value.distance, metric, ordinal);
        if value.is_present()
            && value.kind == RouteType::Unicast as u8
            && best.is_none_or(|(lowest, _)| rank < lowest)
        {
            best = Some((rank, value.group));
        }
        next = store.routes4.following(at);
    }
    let (_, group) = best?;
    let hop = first_hop(store, group)?;
    // A gateway of the other family has no place in the structure.
    hop.gateway.is_none_or(|gateway| gateway.is_ipv4()).then_some(group)
}
