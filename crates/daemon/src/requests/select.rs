//! Walks over what a selector means, in slices and in the order of listings.
//!
//! A walk remembers the last key it met, so it survives any change between two
//! slices; what a selector says of the prefix narrows the range that is walked,
//! the rest is asked of each entity.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::IpAddr;

use rtm_model::text::{NeighbourSelector, PrefixRule, Resolve, RouteSelector};
use rtm_model::{
    Family, Group, GroupId, Link, LinkId, Neighbour, NeighbourKey, Prefix, Route, RouteKey,
};
use rtm_tables::{Candidate, RouteCursor, SourceSpec, Store, Table};

/// A store as selectors and printers ask it.
pub(crate) struct Names<'a>(pub(crate) &'a Store);

impl Resolve for Names<'_> {
    fn link(&self, id: LinkId) -> Option<Link> {
        self.0.link(id).copied()
    }

    fn group(&self, id: GroupId) -> Option<Cow<'_, Group>> {
        self.0.group(id).map(Cow::Borrowed)
    }
}

/// What a walk came to.
pub(crate) enum Found<T> {
    /// The next that is meant.
    One(T),
    /// The budget is used up.
    Paused,
    /// There is no other.
    End,
}

impl<T> Found<T> {
    /// The same of something else.
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Found::One(found) => Found::One(f(found)),
            Found::Paused => Found::Paused,
            Found::End => Found::End,
        }
    }
}

/// A walk over winning routes.
pub(crate) struct RouteWalk {
    ranges: VecDeque<Range>,
}

struct Range {
    cursor: RouteCursor,
    /// Just this prefix, which comes first in its range.
    only: Option<Prefix>,
}

impl RouteWalk {
    /// From the beginning.
    pub(crate) fn new(store: &Store, selector: &RouteSelector) -> RouteWalk {
        let mut walk = RouteWalk { ranges: VecDeque::new() };
        match selector.prefix {
            None => {
                for family in [Family::V4, Family::V6] {
                    if selector.family.is_none_or(|wanted| wanted == family) {
                        let cursor = RouteCursor::family(family);
                        let cursor = match selector.table {
                            Some(table) => cursor.in_table(table),
                            None => cursor,
                        };
                        walk.ranges.push_back(Range { cursor, only: None });
                    }
                }
            }
            Some(PrefixRule::Root(prefix)) => {
                let cursor = RouteCursor::all().within(prefix);
                let cursor = match selector.table {
                    Some(table) => cursor.in_table(table),
                    None => cursor,
                };
                walk.ranges.push_back(Range { cursor, only: None });
            }
            Some(PrefixRule::Exact(prefix)) => walk.exact(store, selector, prefix),
            Some(PrefixRule::Match(prefix)) => {
                for len in 0..=prefix.len() {
                    if let Ok(prefix) = Prefix::masked(prefix.address(), len) {
                        walk.exact(store, selector, prefix);
                    }
                }
            }
            Some(PrefixRule::Default) => {
                for family in [Family::V4, Family::V6] {
                    walk.exact(store, selector, Prefix::default_of(family));
                }
            }
        }
        walk
    }

    fn exact(&mut self, store: &Store, selector: &RouteSelector, prefix: Prefix) {
        let tables = match selector.table {
            Some(table) => vec![table],
            None => store.tables(prefix.family()),
        };
        for table in tables {
            let cursor = RouteCursor::all().within(prefix).in_table(table);
            self.ranges.push_back(Range { cursor, only: Some(prefix) });
        }
    }

    /// The next route that is meant. Each one looked at costs one of `budget`.
    pub(crate) fn next(
        &mut self,
        table: &Table,
        selector: &RouteSelector,
        budget: &mut usize,
    ) -> Found<Route> {
        let names = Names(table.store());
        self.next_where(table.store(), budget, |route| {
            let source = selector.source.as_ref().and_then(|_| winner(table, route));
            selector.matches(&route.key, &route.value, &names, source)
        })
    }

    /// The next route in these ranges that passes a test.
    pub(crate) fn next_where(
        &mut self,
        store: &Store,
        budget: &mut usize,
        mut test: impl FnMut(&Route) -> bool,
    ) -> Found<Route> {
        while let Some(range) = self.ranges.front_mut() {
            if *budget == 0 {
                return Found::Paused;
            }
            *budget -= 1;
            match store.next_route(&mut range.cursor) {
                Some(route) if range.only.is_none_or(|only| only == route.key.prefix) => {
                    if test(&route) {
                        return Found::One(route);
                    }
                }
                _ => {
                    self.ranges.pop_front();
                }
            }
        }
        Found::End
    }
}

/// The candidates of a key that a selector means, each with its source's spec.
pub(crate) fn candidates<'a>(
    table: &'a Table,
    selector: &'a RouteSelector,
    key: &'a RouteKey,
) -> impl Iterator<Item = (Candidate, &'a SourceSpec)> + 'a {
    table.candidates(key).filter_map(move |candidate| {
        let source = table.source_spec(candidate.source)?;
        let names = Names(table.store());
        selector
            .matches(key, &candidate.value, &names, Some(source.name.as_str()))
            .then_some((candidate, source))
    })
}

/// The name of the source that a winning route comes from.
fn winner<'a>(table: &'a Table, route: &Route) -> Option<&'a str> {
    let candidate = table.candidates(&route.key).find(|candidate| candidate.won)?;
    table.source_spec(candidate.source).map(|source| source.name.as_str())
}

/// A walk over neighbours.
pub(crate) struct NeighbourWalk {
    after: Option<NeighbourKey>,
}

impl NeighbourWalk {
    /// From the beginning.
    pub(crate) fn new(selector: &NeighbourSelector) -> NeighbourWalk {
        NeighbourWalk { after: selector.prefix.and_then(|prefix| before(prefix.address())) }
    }

    /// The next neighbour that is meant. Each one looked at costs one of
    /// `budget`.
    pub(crate) fn next(
        &mut self,
        store: &Store,
        selector: &NeighbourSelector,
        budget: &mut usize,
    ) -> Found<Neighbour> {
        loop {
            if *budget == 0 {
                return Found::Paused;
            }
            *budget -= 1;
            let next = match selector.mac {
                Some(mac) => {
                    let after = self.after;
                    store.neighbours_by_mac(mac).find(|n| after.is_none_or(|after| n.key > after))
                }
                None => store.next_neighbour(self.after.as_ref()),
            };
            let Some(neighbour) = next else { return Found::End };
            self.after = Some(neighbour.key);
            let within = selector.prefix.is_none_or(|prefix| prefix.contains(neighbour.key.ip));
            if !within && selector.mac.is_none() {
                // The order is by address: nothing behind it is inside.
                return Found::End;
            }
            if selector.matches(&neighbour.key, &neighbour.value, &Names(store)) {
                return Found::One(neighbour);
            }
        }
    }
}

/// The last key before any of this address.
fn before(address: IpAddr) -> Option<NeighbourKey> {
    let ip = match address {
        IpAddr::V4(a) => IpAddr::V4(u32::from(a).checked_sub(1)?.into()),
        IpAddr::V6(a) => match u128::from(a).checked_sub(1) {
            Some(bits) => IpAddr::V6(bits.into()),
            None => IpAddr::from([255; 4]),
        },
    };
    Some(NeighbourKey { ip, link: Some(LinkId(u32::MAX)) })
}

#[cfg(test)]
mod tests {
    use rtm_model::DigestKey;
    use rtm_model::text::{Command, Context, parse_line};
    use rtm_tables::{Epoch, RecordSink, Revision, SourceSpec, TableLimits};

    use super::*;

    struct Nowhere;

    impl RecordSink for Nowhere {
        fn record(&mut self, _: &rtm_tables::Record<'_>) {}
        fn flush(&mut self, _: Revision, _: rtm_tables::Flush) {}
        fn leap(&mut self, _: Revision) {}
    }

    fn command(line: &str) -> Command {
        parse_line(line, &Context::default()).unwrap().unwrap().1
    }

    fn table(lines: &[&str]) -> Table {
        let mut table = Table::new(Epoch(1), DigestKey([1, 2]), TableLimits::default());
        let admin = table.source(SourceSpec::admin()).unwrap();
        let file = table.source(SourceSpec::file("lab")).unwrap();
        for line in lines {
            let (source, line) = match line.strip_prefix("lab ") {
                Some(line) => (file, line),
                None => (admin, *line),
            };
            let Command::Change(change) = command(line) else { panic!("{line}") };
            table.apply(source, &change, &mut Nowhere).unwrap();
        }
        table
    }

    /// The routes that a selector means, one entity at a time.
    fn routes(table: &Table, line: &str) -> String {
        let Command::RouteShow(show) = command(line) else { panic!("{line}") };
        let mut walk = RouteWalk::new(table.store(), &show.selector);
        let mut found = Vec::new();
        loop {
            match walk.next(table, &show.selector, &mut 1) {
                Found::One(route) => found.push(format!("{}", route.key.prefix)),
                Found::Paused => {}
                Found::End => return found.join(" "),
            }
        }
    }

    #[test]
    fn selectors_walk_what_they_mean() {
        let table = table(&[
            "route add 0.0.0.0/0 via 10.0.0.1",
            "route add 10.0.0.0/8 via 10.0.0.1 dev a",
            "route add 10.1.0.0/16 via 10.0.0.1 dev b metric 5",
            "route add 10.1.0.0/16 via 10.0.0.2 dev b metric 7",
            "route add 10.1.2.0/24 via 10.0.0.1 dev b",
            "route add 11.0.0.0/8 via 10.0.0.1 dev a table 7",
            "route add 10.1.0.0/16 via 10.0.0.1 dev a table 7",
            "route add ::/0 via fe80::1 dev a",
            "lab route add 12.0.0.0/8 dev a",
        ]);
        for (line, expected) in [
            ("route show", "0.0.0.0/0 10.0.0.0/8 10.1.0.0/16 10.1.0.0/16 10.1.2.0/24 12.0.0.0/8"),
            ("-6 route show", "::/0"),
            ("route show 10.1.0.0/16", "10.1.0.0/16 10.1.0.0/16"),
            ("route show exact 10.1.0.0/16 metric 7", "10.1.0.0/16"),
            ("route show 10.1.0.0/16 table all", "10.1.0.0/16 10.1.0.0/16 10.1.0.0/16"),
            ("route show 10.9.0.0/16", ""),
            ("route show root 10.1.0.0/16", "10.1.0.0/16 10.1.0.0/16 10.1.2.0/24"),
            (
                "route show match 10.1.2.0/24",
                "0.0.0.0/0 10.0.0.0/8 10.1.0.0/16 10.1.0.0/16 10.1.2.0/24",
            ),
            ("route show match 10.1.2.3 table 7", "10.1.0.0/16"),
            ("route show default", "0.0.0.0/0"),
            ("route show dev a", "10.0.0.0/8 12.0.0.0/8"),
            ("route show table 7", "10.1.0.0/16 11.0.0.0/8"),
            ("route show source lab", "12.0.0.0/8"),
            ("route show source admin dev a", "10.0.0.0/8"),
            ("route show source nobody", ""),
        ] {
            assert_eq!(routes(&table, line), expected, "{line}");
        }
    }

    #[test]
    fn neighbours_walk_by_address_and_by_mac() {
        let table = table(&[
            "neigh add 0.0.0.0 lladdr 02:00:00:00:00:01",
            "neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev a",
            "neigh add 10.0.0.1 lladdr 02:00:00:00:00:02 dev b",
            "neigh add 10.0.0.2 lladdr 02:00:00:00:00:01 dev a",
            "neigh add 255.255.255.255 lladdr 02:00:00:00:00:03 dev a",
            "neigh add :: lladdr 02:00:00:00:00:03 dev a",
            "neigh add fe80::1 lladdr 02:00:00:00:00:01 dev a",
        ]);
        let neighbours = |line: &str| {
            let Command::NeighbourShow(selector) = command(line) else { panic!("{line}") };
            let mut walk = NeighbourWalk::new(&selector);
            let mut found = Vec::new();
            loop {
                match walk.next(table.store(), &selector, &mut 1) {
                    Found::One(neighbour) => found.push(neighbour.key.ip.to_string()),
                    Found::Paused => {}
                    Found::End => return found.join(" "),
                }
            }
        };
        for (line, expected) in [
            ("neigh show", "0.0.0.0 10.0.0.1 10.0.0.1 10.0.0.2 255.255.255.255 :: fe80::1"),
            ("neigh show 10.0.0.1", "10.0.0.1 10.0.0.1"),
            ("neigh show 10.0.0.1 dev b", "10.0.0.1"),
            ("neigh show to 10.0.0.0/30", "10.0.0.1 10.0.0.1 10.0.0.2"),
            ("neigh show to 0.0.0.0/32", "0.0.0.0"),
            ("neigh show to ::/128", "::"),
            ("neigh show to ::/0", ":: fe80::1"),
            ("neigh show 02:00:00:00:00:01", "0.0.0.0 10.0.0.1 10.0.0.2 fe80::1"),
            ("-6 neigh show", ":: fe80::1"),
            ("neigh show 10.0.0.9", ""),
        ] {
            assert_eq!(neighbours(line), expected, "{line}");
        }
    }
}
