//! An array of pages under one top block, copy-on-write: two loads to any
//! entry, and a change copies one page and the top.
use crate::layout::word_of;
use crate::store::{Full, Memory, Store, entry32};
use crate::words::Words;

/// Places in the smallest top.
const TOP_MIN: usize = 8;

/// The array of pages of so many words: its top block and how many pages there are.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Pages<const WORDS: usize> {
    pub(crate) top: u32,
    pub(crate) count: u32,
}

/// The first word of page `page`.
#[inline(always)]
pub(crate) fn page_at(words: &impl Words, top: u32, page: usize) -> usize {
    word_of(entry32(words, word_of(top), page))
}

impl<const WORDS: usize> Pages<WORDS> {
    fn top_words(self) -> usize {
        (self.count as usize).next_power_of_two().max(TOP_MIN) / 2
    }

    /// Appends a page of zeros.
    pub(crate) fn push<M: Memory>(&mut self, store: &mut Store<M>) -> Result<(), Full> {
        let page = store.allocate(WORDS)?;
        for word in 0..WORDS {
            store.put(word_of(page) + word, 0);
        }
        if self.top == 0 || self.count as usize == self.top_words() * 2 {
            let used = (self.count as usize).div_ceil(2);
            let words = Pages::<WORDS> { count: self.count + 1, ..*self }.top_words();
            let top = store.allocate(words)?;
            for word in 0..words {
                let value = if word < used { store.get(word_of(self.top) + word) } else { 0 };
                store.put(word_of(top) + word, value);
            }
            if self.top != 0 {
                store.retire(self.top);
            }
            self.top = top;
        } else {
            self.top = store.own(self.top, self.top_words())?;
        }
        store.put32(word_of(self.top), self.count as usize, page);
        self.count += 1;
        Ok(())
    }

    /// Removes the last page; the top keeps its size until all are gone.
    pub(crate) fn clear<M: Memory>(&mut self, store: &mut Store<M>) {
        for page in 0..self.count as usize {
            store.retire(store.get32(word_of(self.top), page));
        }
        if self.top != 0 {
            store.retire(self.top);
        }
        *self = Pages::default();
    }

    /// The first word of page `page`, made fresh.
    pub(crate) fn own<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        page: usize,
    ) -> Result<usize, Full> {
        let found = store.get32(word_of(self.top), page);
        if store.is_fresh(found) {
            // Then the top is fresh, too: it was changed to name this page.
            return Ok(word_of(found));
        }
        self.top = store.own(self.top, self.top_words())?;
        let owned = store.own(found, WORDS)?;
        store.put32(word_of(self.top), page, owned);
        Ok(word_of(owned))
    }
}
