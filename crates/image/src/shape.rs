//! What the tables look like inside: how high each tree is and how many nodes it
//! has, and the lookup structures level by level; counted through the mapping by
//! who asks, at no cost to the writer.
use rtm_model::{Family, TABLE_MAIN};

use crate::layout::{Root, TableRoot, UNIT_WORDS};
use crate::lpm::census::{self, LookupLevel};
use crate::protocol::Busy;
use crate::reader::Reader;
use crate::tree::{NODE_WORDS, Tree};
use crate::words::{ReadWords, Words};

/// A tree of entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Of what.
    pub name: &'static str,
    /// Entries.
    pub entries: u64,
    /// Levels; 1: a leaf alone.
    pub height: u32,
    /// Nodes above the leaves.
    pub inner: u64,
    /// Leaves.
    pub leaves: u64,
    /// Bytes of all nodes.
    pub bytes: u64,
}

impl Reader {
    /// The trees that stand behind exact lookup, listing and neighbours.
    ///
    /// # Errors
    /// [`Busy`]: it changed under the counting, each time.
    pub fn shapes(&self) -> Result<Vec<Shape>, Busy> {
        self.read_root(|words, _, root| {
            let Root { tables, routes4, routes6, attrs4, attrs6, .. } = *root;
            let Root { groups, links, neighbours, macs, .. } = *root;
            vec![
                shape::<2, 1>("routes_v4", words, root.tree(routes4)),
                shape::<4, 1>("routes_v6", words, root.tree(routes6)),
                shape::<2, 1>("attributes_v4", words, root.tree(attrs4)),
                shape::<4, 1>("attributes_v6", words, root.tree(attrs6)),
                shape::<4, 2>("neighbours", words, root.tree(neighbours)),
                shape::<4, 2>("mac_addresses", words, root.tree(macs)),
                shape::<1, 1>("groups", words, root.tree(groups)),
                shape::<1, 3>("links", words, root.tree(links)),
                shape::<1, 3>("tables", words, root.tree(tables)),
            ]
        })
    }
}

impl Reader {
    /// The lookup structures of all tables, level by level, kind by kind.
    ///
    /// # Errors
    /// [`Busy`]: it changed under the counting, each time: a full table is counted
    /// for some ten milliseconds.
    pub fn lookup_levels(&self) -> Result<Vec<LookupLevel>, Busy> {
        self.read_root(|words, _, root| {
            let mut levels = Vec::new();
            // No two nodes lie in one unit.
            let mut left = words.len() / UNIT_WORDS;
            let mut both = |roots: [TableRoot; 2]| {
                for (family, root) in [Family::V4, Family::V6].into_iter().zip(roots) {
                    census::count(words, family, root.entry, &mut levels, &mut left);
                }
            };
            both(root.main);
            let tables = root.tree::<1, 3>(root.tables);
            tables.scan(words, &[0], words.len() / NODE_WORDS, |[table], [v4, v6, _]| {
                if table != u64::from(TABLE_MAIN) {
                    both([TableRoot::unpack(v4), TableRoot::unpack(v6)]);
                }
                true
            });
            levels.sort_by_key(|level| (level.family, level.from, level.bits, level.kind));
            levels
        })
    }
}

fn shape<const K: usize, const V: usize>(
    name: &'static str,
    words: &ReadWords,
    tree: Tree<K, V>,
) -> Shape {
    let (at, [inner, leaves]) = (tree.at, tree.nodes(words));
    let bytes = (inner + leaves) * NODE_WORDS as u64 * 8;
    Shape { name, entries: at.len, height: at.height, inner, leaves, bytes }
}

impl<const K: usize, const V: usize> Tree<K, V> {
    /// Nodes above the leaves, and leaves, which are not read. Of torn memory some
    /// number, after a bounded time.
    fn nodes(&self, words: &impl Words) -> [u64; 2] {
        let most = words.len() / NODE_WORDS;
        let (mut inner, mut leaves) = (0, 0);
        self.each_node(words, &mut |is_leaf| {
            *(if is_leaf { &mut leaves } else { &mut inner }) += 1;
            ((inner + leaves) as usize) < most
        });
        [inner, leaves]
    }
}
