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
//! Where a table gets one is a setting (`Settings::wide_prefixes`), so that tests that stop
//! the writer at each store reach it with a small table; they do so at the real number, too.
use super::paint::{self, Level, Slot};
use crate::layout::{tag, wide, word_of};
use crate::store::{Full, Memory, Store};
use rtm_model::Family;

const COPIES: usize = 3;
/// A table with so many IPv4 prefixes gets a wide root, unless the settings say
/// otherwise.
pub(crate) const PREFIXES: u64 = 1 << 14;
/// Bytes of all copies.
pub(crate) const BYTES: u64 = (COPIES * wide::WORDS * 8) as u64;
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
    /// The one that was written last.
    active: usize,
    /// It was written since the last commit.
    fresh: bool,
    /// What the version before the last that wrote, and this one, wrote.
    noted: [Noted; 2],
    /// The length of the prefix that each entry comes from; where it is a node, the shortest of
    /// its entries'.
    depths: Vec<u8>,
}

impl Wide {
    /// In place of a root of pages, which is given back.
    ///
    /// # Errors
    /// [`Full`]; then nothing has changed.
    pub(crate) fn of_pages<M: Memory>(store: &mut Store<M>, pages: u32) -> Result<Wide, Full> {
        let mut copies = [0; COPIES];
        for index in 0..COPIES {
            copies[index] = match store.allocate(wide::WORDS) {
                Ok(copy) => copy,
                Err(full) => {
                    copies[..index].iter().for_each(|copy| store.retire(*copy));
                    return Err(full);
                }
            };
        }
        let mut depths = Vec::with_capacity(wide::SIZE);
        let below = Level::new(Family::V4, 1).size();
        let mut half = 0;
        for high in 0..wide::SIZE / below {
            let page = paint::entry_of(store, pages, high);
            for low in 0..below {
                let slot =
                    if page.is_leaf() { page } else { paint::entry_of(store, page.entry, low) };
                depths.push(slot.depth);
                let entry = u64::from(wide::pack(slot.entry));
                if low % 2 == 0 {
                    half = entry;
                    continue;
                }
                for copy in copies {
                    store.put(word_of(copy) + (high * below + low) / 2, half | entry << 32);
                }
            }
            if !page.is_leaf() {
                store.retire(page.entry & tag::OFFSET);
            }
        }
        store.retire(pages & tag::OFFSET);
        Ok(Wide { copies, active: 0, fresh: true, noted: Default::default(), depths })
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

    /// Gives the copies back; not what is below them.
    pub(crate) fn give_back<M: Memory>(self, store: &mut Store<M>) {
        self.copies.iter().for_each(|copy| store.retire(*copy));
    }

    /// What lookups begin with.
    pub(crate) fn reference(&self) -> u32 {
        self.copies[self.active] | tag::WIDE
    }

    /// The entry number `index`.
    pub(crate) fn get<M: Memory>(&self, store: &Store<M>, index: usize) -> Slot {
        let entry = store.get32(word_of(self.copies[self.active]), index);
        Slot { entry: wide::unpack(entry), depth: self.depths[index] }
    }

    /// The entry number `index` is this now.
    pub(crate) fn set<M: Memory>(&mut self, store: &mut Store<M>, index: usize, slot: Slot) {
        if !self.fresh {
            self.turn(store);
        }
        self.depths[index] = slot.depth;
        self.noted[1].note(index);
        store.put32(word_of(self.copies[self.active]), index, wide::pack(slot.entry));
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
