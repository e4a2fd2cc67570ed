//! Room: what changes will take, and growing before it is gone.
use rtm_model::TABLE_MAIN;

use super::Writer;
use crate::layout;
use crate::lpm::wide;
use crate::store::{Full, Memory};

/// What one record copies: of the nodes on the way, and of pages and nodes of the
/// lookup structure, its part. (A change of a route is counted as five records,
/// and copies at most five times this if no other change is close to it.)
const CHANGE_COPIES_BYTES: u64 = 2 << 10;
/// What one change adds at most on average, attributes left out.
const CHANGE_ADDS_BYTES: u64 = 256;
/// What is left over in slabs of each size.
const RESERVE_BYTES: u64 = 1 << 20;

impl<M: Memory> Writer<M> {
    /// Is the object being copied into a larger one, or the one before given back? Each
    /// commit carries this on by a slice, and so does [`Self::tend`].
    #[must_use]
    pub fn is_growing(&self) -> bool {
        self.store.is_growing()
    }

    /// Carries growth on by a slice, where no commit does it.
    ///
    /// # Errors
    /// [`Full`]: what waited to be worked in found no room.
    pub fn tend(&mut self) -> Result<(), Full> {
        self.settle()?;
        self.slice = self.store.tend();
        Ok(())
    }

    /// Makes sure that a transaction of so many records finds room, growing
    /// the object now if it may not: what the daemon asks before it applies. A
    /// change of a route counts as five: itself, and what its next hops bring.
    /// (It estimates high: each may copy nodes of every structure.)
    ///
    /// # Errors
    /// [`Full`]: the transaction must be refused. Nothing has changed.
    pub fn reserve(&mut self, changes: u64) -> Result<(), Full> {
        self.settle()?;
        self.store.reserve(self.needs(changes))
    }

    /// As [`Self::reserve`], but nothing grows yet: for a transaction so large
    /// that most of the estimate is never needed. Its object grows while it is
    /// written, as far as it must.
    ///
    /// # Errors
    /// [`Full`]: the transaction must be refused. Nothing has changed.
    pub fn would_fit(&self, changes: u64) -> Result<(), Full> {
        if let Some(full) = &self.full {
            return Err(full.clone());
        }
        self.store.size_for(self.needs(changes)).map(|_| ())
    }

    /// No object is to become larger than this from here on.
    pub fn set_bytes_max(&mut self, bytes_max: u64) {
        self.store.set_bytes_max(bytes_max.min(layout::OBJECT_BYTES_LIMIT));
    }

    /// The bytes that so many changes take at most.
    fn needs(&self, changes: u64) -> u64 {
        let live = self.store.usage().used;
        // Scattered changes copy at most everything; what they add, twice over.
        let copied = (changes * CHANGE_COPIES_BYTES).min(live + live / 4);
        // It may get a wide root.
        let prefixes = self.tables.get(&TABLE_MAIN).map_or(0, |main| main[0].prefixes);
        let gets = self.wide.is_none() && prefixes + changes > self.wide_prefixes;
        let root = if gets { wide::BYTES } else { 0 };
        copied + changes * CHANGE_ADDS_BYTES + RESERVE_BYTES + root
    }
}
