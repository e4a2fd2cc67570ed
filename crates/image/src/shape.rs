//! What the tables look like inside: how high each tree is and how many nodes it
//! has, counted through the mapping by who asks, at no cost to the writer.
use crate::layout::{Root, TreeRoot};
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
                shape::<2, 1>("routes_v4", words, routes4),
                shape::<4, 1>("routes_v6", words, routes6),
                shape::<2, 1>("attributes_v4", words, attrs4),
                shape::<4, 1>("attributes_v6", words, attrs6),
                shape::<4, 2>("neighbours", words, neighbours),
                shape::<4, 2>("mac_addresses", words, macs),
                shape::<1, 1>("groups", words, groups),
                shape::<1, 3>("links", words, links),
                shape::<1, 3>("tables", words, tables),
            ]
        })
    }
}

fn shape<const K: usize, const V: usize>(
    name: &'static str,
    words: &ReadWords,
    at: TreeRoot,
) -> Shape {
    let [inner, leaves] = Tree::<K, V>::new(at).nodes(words);
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
