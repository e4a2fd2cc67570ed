//! Going through everything: whole entries in the order of their keys, a few
//! of one version at a time.
//!
//! The tables may change between two steps, and then what follows is of a newer
//! revision: an entry that existed all the time comes exactly once, one that
//! came or went meanwhile comes or doesn't. [`Entries::revisions`] names the
//! first and the last revision seen; if they are equal, it was one state.
use std::collections::VecDeque;

use rtm_model::{Group, Link, Neighbour, Route};

use crate::answers::group_in;
use crate::keys::{self, RouteWords};
use crate::layout::Root;
use crate::protocol::Busy;
use crate::reader::{Reader, link_of, route_of};
use crate::tree::Tree;
use crate::words::ReadWords;

/// Leaves read in one step: some hundred entries, some microseconds.
const LEAVES: usize = 4;

/// How many routes a routing table has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableCounts {
    /// Its id.
    pub table: u32,
    /// IPv4 and IPv6 routes.
    pub routes: [u64; 2],
}

/// An iteration. Yields entries, or [`Busy`], after which it can go on.
pub struct Entries<'a, T> {
    reader: &'a Reader,
    step: Box<dyn Step<T>>,
    ready: VecDeque<T>,
    done: bool,
    revisions: Option<(u64, u64)>,
}

impl<T> core::fmt::Debug for Entries<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Entries({:?})", self.revisions)
    }
}

impl<T> Entries<'_, T> {
    /// The first and the last revision that entries came from; `None` before
    /// the first step.
    #[must_use]
    pub fn revisions(&self) -> Option<(u64, u64)> {
        self.revisions
    }
}

impl<T> Iterator for Entries<'_, T> {
    type Item = Result<T, Busy>;

    fn next(&mut self) -> Option<Result<T, Busy>> {
        while self.ready.is_empty() && !self.done {
            let (ready, step) = (&mut self.ready, &mut self.step);
            let read = self.reader.read_root(|words, _, root| {
                ready.clear();
                (step.entries(words, root, ready), root.revision)
            });
            match read {
                Err(busy) => {
                    self.ready.clear();
                    return Some(Err(busy));
                }
                Ok((more, revision)) => {
                    self.done = !self.step.advance(more);
                    self.revisions = Some((self.revisions.map_or(revision, |r| r.0), revision));
                }
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

/// One step of an iteration, split so that a read can be repeated: `entries`
/// changes nothing but its output, `advance` takes what it returned.
trait Step<T> {
    fn entries(&self, words: &ReadWords, root: &Root, out: &mut VecDeque<T>) -> Option<[u64; 4]>;
    /// Goes on from there; false: that was all.
    fn advance(&mut self, next: Option<[u64; 4]>) -> bool;
}

/// How an entry is made of a tree's words; `None`: torn memory, to be thrown away.
type Make<T, const K: usize, const V: usize> =
    fn(&ReadWords, &Root, [u64; K], [u64; V]) -> Option<T>;

/// Whether a key still belongs to what was asked for.
type Until<const K: usize> = Box<dyn Fn(&[u64; K]) -> bool>;

struct TreeStep<T, const K: usize, const V: usize> {
    tree: fn(&Root) -> Tree<K, V>,
    make: Make<T, K, V>,
    until: Until<K>,
    from: [u64; K],
}

impl<T, const K: usize, const V: usize> Step<T> for TreeStep<T, K, V> {
    fn entries(&self, words: &ReadWords, root: &Root, out: &mut VecDeque<T>) -> Option<[u64; 4]> {
        let tree = (self.tree)(root);
        let mut from = self.from;
        let mut ended = false;
        for _ in 0..LEAVES {
            let next = tree.read_from(words, &from, |key, value| {
                ended = !(self.until)(&key);
                if !ended {
                    out.extend((self.make)(words, root, key, value));
                }
                !ended
            });
            if ended {
                return None;
            }
            from = next?;
        }
        let mut packed = [0; 4];
        packed[..K].copy_from_slice(&from);
        Some(packed)
    }

    fn advance(&mut self, next: Option<[u64; 4]>) -> bool {
        let Some(next) = next else { return false };
        self.from.copy_from_slice(&next[..K]);
        true
    }
}

impl Reader {
    fn entries<T: 'static, const K: usize, const V: usize>(
        &self,
        tree: fn(&Root) -> Tree<K, V>,
        make: Make<T, K, V>,
        from: [u64; K],
        until: impl Fn(&[u64; K]) -> bool + 'static,
    ) -> Entries<'_, T> {
        Entries {
            reader: self,
            step: Box::new(TreeStep { tree, make, until: Box::new(until), from }),
            ready: VecDeque::new(),
            done: false,
            revisions: None,
        }
    }

    /// All IPv4 routes, of one table or of all.
    #[must_use]
    pub fn routes4(&self, table: Option<u32>) -> Entries<'_, Route> {
        let first = <[u64; 2]>::first_of(table.unwrap_or(0), 0, 0);
        self.entries(
            |root| root.tree(root.routes4),
            |words, root, key, [value]| route_of(words, root.tree(root.attrs4), &key, value),
            first,
            move |key| table.is_none_or(|table| key.table() == table),
        )
    }

    /// All IPv6 routes, of one table or of all.
    #[must_use]
    pub fn routes6(&self, table: Option<u32>) -> Entries<'_, Route> {
        let first = <[u64; 4]>::first_of(table.unwrap_or(0), 0, 0);
        self.entries(
            |root| root.tree(root.routes6),
            |words, root, key, [value]| route_of(words, root.tree(root.attrs6), &key, value),
            first,
            move |key| table.is_none_or(|table| key.table() == table),
        )
    }

    /// All neighbours.
    #[must_use]
    pub fn neighbours(&self) -> Entries<'_, Neighbour> {
        self.entries(
            |root| root.tree(root.neighbours),
            |_, _, key, value| Some(keys::neighbour_of(key, value)),
            [0; 4],
            |_| true,
        )
    }

    /// All neighbours that have a MAC address, in the order of these.
    #[must_use]
    pub fn neighbours_in_mac_order(&self) -> Entries<'_, Neighbour> {
        self.entries(
            |root| root.tree(root.macs),
            |_, _, key, value| Some(keys::neighbour_of(key, value)),
            [0; 4],
            |_| true,
        )
    }

    /// All routing tables that have routes.
    #[must_use]
    pub fn tables(&self) -> Entries<'_, TableCounts> {
        self.entries(
            |root| root.tree(root.tables),
            |_, _, [table], [_, _, routes]| {
                let routes = [routes & 0xffff_ffff, routes >> 32];
                Some(TableCounts { table: table as u32, routes })
            },
            [0],
            |_| true,
        )
    }

    /// All groups.
    #[must_use]
    pub fn groups(&self) -> Entries<'_, Group> {
        self.entries(
            |root| root.tree(root.groups),
            |words, _, _, [packed]| group_in(words, packed),
            [0],
            |_| true,
        )
    }

    /// All links.
    #[must_use]
    pub fn links(&self) -> Entries<'_, Link> {
        self.entries(
            |root| root.tree(root.links),
            |_, _, key, value| link_of(key, value),
            [0],
            |_| true,
        )
    }
}
