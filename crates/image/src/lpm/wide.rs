//! A wide root: the first 18 bits of IPv4 addresses in one array, for a large
//! table main.
//!
//! A root of pages is copied page by page, and costs each lookup one load more;
//! one array of a megabyte can't be copied for each commit. So there are three
//! of them, used in turn. The one that the visible version names is never
//! written; the one before it may still be read by who began a version earlier; the
//! third is what the next version writes, after what the last two wrote was written
//! there, too. It was given up by a commit and another followed, which is what
//! `protocol::reusable` asks of a block.
//!
//! An entry names a node, also where all addresses have the same answer: then it is one of
//! a page of *leaves*, nodes of one run, one for each number of an answer, which are
//! written once and shared. So a lookup needn't ask what an entry is.
//!
//! ```text
//! leaf n   0 | bit 63 alone                                  |
//!          8 | n u16     | zero      | zero u32              |   n below 2^15
//!          8 | 2^15 + 3  | zero      | 2^31 + n u32          |   other n
//! ```
//!
//! Where a table gets one is a setting (`Settings::wide_prefixes`), so that tests that stop
//! the writer at each store reach it with a small table; they do so at the real number, too.
use super::node::{self, TAIL};
use super::paint::{self, Level, Slot};
use crate::heap::SLAB_WORDS;
use crate::layout::{UNIT_WORDS, tag, wide, word_of};
use crate::store::{Full, Memory, Store};
use crate::words::Words;
use rtm_model::Family;

const COPIES: usize = 3;
/// A table with so many IPv4 prefixes gets a wide root, unless the settings say
/// otherwise.
pub(crate) const PREFIXES: u64 = 1 << 14;
/// Bytes of all copies.
pub(crate) const BYTES: u64 = (COPIES * wide::WORDS * 8) as u64;
/// Leaves of a page: a slab of them.
pub(super) const LEAVES: usize = SLAB_WORDS / UNIT_WORDS;
/// Set in a noted length where the entry is a leaf.
const IS_LEAF: u8 = 1 << 7;
/// More changes of one version than this aren't noted: then all of it is copied.
const NOTED_MAX: usize = 1 << 15;

/// What one version wrote.
#[derive(Default, Debug)]
struct Noted {
    places: Vec<u32>,
    /// Too many: everything.
    all: bool,
}

impl Noted {
    fn clear(&mut self) {
        self.places.clear();
        self.all = false;
    }

    fn note(&mut self, place: usize) {
        if self.places.len() == NOTED_MAX {
            self.all = true;
        } else {
            self.places.push(place as u32);
        }
    }
}

/// The writer's side of a wide root.
#[derive(Debug)]
pub(crate) struct Wide {
    copies: [u32; COPIES],
    /// The pages of leaves; 0: none of its numbers is needed.
    leaves: Vec<u32>,
    /// The one that was written last.
    active: usize,
    /// It was written since the last commit.
    fresh: bool,
    /// What the version before the last that wrote, and this one, wrote.
    noted: [Noted; 2],
    /// The length of the prefix that each entry comes from, and [`IS_LEAF`]; where it is a node,
    /// the shortest of its entries'.
    depths: Vec<u8>,
}

impl Wide {
    /// In place of a root of pages, which is given back.
    ///
    /// # Errors
    /// [`Full`]; then nothing has changed.
    pub(crate) fn of_pages<M: Memory>(store: &mut Store<M>, pages: u32) -> Result<Wide, Full> {
        let mut wide = Wide {
            copies: [0; COPIES],
            leaves: Vec::new(),
            active: 0,
            fresh: true,
            noted: Default::default(),
            depths: Vec::with_capacity(wide::SIZE),
        };
        if let Err(full) = wide.fill(store, pages) {
            wide.give_back(store);
            return Err(full);
        }
        for high in 0..Level::new(Family::V4, 0).size() {
            let page = paint::entry_of(store, pages, high);
            if !page.is_leaf() {
                store.retire(page.entry & tag::OFFSET);
            }
        }
        store.retire(pages & tag::OFFSET);
        Ok(wide)
    }

    /// Writes what is in a root of pages.
    fn fill<M: Memory>(&mut self, store: &mut Store<M>, pages: u32) -> Result<(), Full> {
        for copy in &mut self.copies {
            *copy = store.allocate(wide::WORDS)?;
        }
        let below = Level::new(Family::V4, 1).size();
        // Neighbours are often equal.
        let (mut last, mut entry) = (None, 0_u64);
        let mut half = 0;
        for high in 0..wide::SIZE / below {
            let page = paint::entry_of(store, pages, high);
            for low in 0..below {
                let slot =
                    if page.is_leaf() { page } else { paint::entry_of(store, page.entry, low) };
                if last != Some(slot) {
                    (last, entry) = (Some(slot), u64::from(self.pack(store, slot)?));
                }
                self.depths.push(noted(slot));
                if low % 2 == 0 {
                    half = entry;
                    continue;
                }
                for copy in self.copies {
                    store.put(word_of(copy) + (high * below + low) / 2, half | entry << 32);
                }
            }
        }
        Ok(())
    }

    /// The entry that says this.
    fn pack<M: Memory>(&mut self, store: &mut Store<M>, slot: Slot) -> Result<u32, Full> {
        if !slot.is_leaf() {
            return Ok(wide::pack(slot.entry));
        }
        let number = (slot.entry & !tag::LEAF) as usize;
        let page = number / LEAVES;
        if page >= self.leaves.len() {
            self.leaves.resize(page + 1, 0);
        }
        if self.leaves[page] == 0 {
            self.leaves[page] = page_of_leaves(store, page * LEAVES)?;
        }
        Ok(wide::pack(self.leaves[page] + (number % LEAVES) as u32))
    }

    /// A root of pages in its place.
    pub(crate) fn into_pages<M: Memory>(self, store: &mut Store<M>) -> Result<u32, Full> {
        let (first, second) = (Level::new(Family::V4, 0), Level::new(Family::V4, 1));
        let mut root = paint::page(store, first, self.get(store, 0))?;
        for high in 0..first.size() {
            let at = high * second.size();
            let slot = self.get(store, at);
            let mut entry = slot;
            let same = |low| self.get(store, at + low) == slot;
            if !slot.is_leaf() || !(1..second.size()).all(same) {
                let page = paint::page(store, second, slot)?;
                for low in 1..second.size() {
                    let slot = self.get(store, at + low);
                    paint::set_entry(store, page, low, slot);
                }
                entry = Slot { entry: page, depth: 0 };
            }
            paint::set_entry(store, root, high, entry);
        }
        self.give_back(store);
        root |= tag::DENSE;
        Ok(root)
    }

    /// Gives the copies and the leaves back; not what is below them.
    pub(crate) fn give_back<M: Memory>(self, store: &mut Store<M>) {
        let blocks = self.copies.iter().chain(&self.leaves);
        blocks.filter(|block| **block != 0).for_each(|block| store.retire(*block));
    }

    /// What lookups begin with.
    pub(crate) fn reference(&self) -> u32 {
        self.copies[self.active] | tag::WIDE
    }

    /// The entry number `index`.
    pub(crate) fn get<M: Memory>(&self, store: &Store<M>, index: usize) -> Slot {
        let node = wide::unpack(store.get32(word_of(self.copies[self.active]), index));
        let depth = self.depths[index];
        // (A node isn't looked at: changes that look ahead ask for all of them first.)
        let is_leaf = depth & IS_LEAF != 0;
        let entry = if is_leaf { leaf_of(store.mem(), node) } else { node };
        Slot { entry, depth: depth & !IS_LEAF }
    }

    /// The entry number `index` is this now.
    ///
    /// # Errors
    /// [`Full`]: no room for the leaf; then nothing has changed.
    pub(crate) fn set<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        index: usize,
        slot: Slot,
    ) -> Result<(), Full> {
        let entry = self.pack(store, slot)?;
        if !self.fresh {
            self.turn(store);
        }
        self.depths[index] = noted(slot);
        self.noted[1].note(index);
        store.put32(word_of(self.copies[self.active]), index, entry);
        Ok(())
    }

    /// Goes on in the next copy, brought up to what the last one is.
    fn turn<M: Memory>(&mut self, store: &mut Store<M>) {
        let (from, next) = (self.copies[self.active], (self.active + 1) % COPIES);
        let to = self.copies[next];
        if self.noted.iter().any(|noted| noted.all) {
            store.copy_words(word_of(from), word_of(to), wide::WORDS);
        } else {
            for &place in self.noted.iter().flat_map(|noted| &noted.places) {
                let word = place as usize / 2;
                store.put(word_of(to) + word, store.get(word_of(from) + word));
            }
        }
        self.noted[0].clear();
        self.noted.swap(0, 1);
        (self.active, self.fresh) = (next, true);
    }

    /// The version being made was published.
    pub(crate) fn committed(&mut self) {
        self.fresh = false;
    }

    /// Asks for what a change of entry `index` will read and write.
    pub(crate) fn prefetch<M: Memory>(&self, store: &Store<M>, index: usize) {
        for copy in self.copies {
            store.mem().prefetch(word_of(copy) + index / 2);
        }
    }
}

/// What is noted of an entry.
fn noted(slot: Slot) -> u8 {
    if slot.is_leaf() { slot.depth | IS_LEAF } else { slot.depth }
}

/// A page of the leaves from number `first` on.
fn page_of_leaves<M: Memory>(store: &mut Store<M>, first: usize) -> Result<u32, Full> {
    let page = store.allocate(SLAB_WORDS)?;
    for (place, number) in (first as u32..).enumerate().take(LEAVES) {
        let at = word_of(page) + UNIT_WORDS * place;
        let entry = if number < TAIL {
            u64::from(number)
        } else {
            // The node's fourth half word.
            u64::from(TAIL | 3) | u64::from(number | tag::LEAF) << 32
        };
        store.put(at, wide::ONE_RUN);
        store.put(at + 1, entry);
    }
    Ok(page)
}

/// What a node of one run says.
fn leaf_of(words: &impl Words, node: u32) -> u32 {
    node::six_entry(words, word_of(node), 0)
}

/// The leaf or the reference to a node that an entry of a wide root stands for.
pub(super) fn meaning(words: &impl Words, entry: u32) -> u32 {
    let node = wide::unpack(entry);
    if words.get(word_of(node)) == wide::ONE_RUN { leaf_of(words, node) } else { node }
}
