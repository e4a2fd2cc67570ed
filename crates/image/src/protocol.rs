//! How a revision becomes visible, and how a reader knows that what it read
//! was whole. Everything that depends on the order of memory accesses is in
//! this file, and `tests/loom.rs` runs it under every ordering that the memory
//! model allows, and again with each ordering weakened.
//!
//! **Publishing.** The memory holds blocks. What the visible version shows of a
//! block is never written. (In nodes of trees words that no version has used yet
//! are: they name the first version that they are for, see `tree.rs`.) The writer makes version v + 1 out of free blocks,
//! writes its root into the slot (v + 1) mod 4, then stores v + 1 in
//! [`CURRENT`]: this store alone makes it visible.
//!
//! **Reuse.** A block that v reaches and v + 1 doesn't is retired by the commit
//! of v + 1 and written again only after v + 2 was published, that is while
//! v + 3 is being made ([`reusable`]).
//!
//! **Reading.** A reader loads v from `CURRENT`, reads from v's root on, and
//! loads `CURRENT` again. Found v or v + 1: nothing that v reaches was written
//! meanwhile, the answer is right for v. Found more: v's blocks were handed
//! back, the answer is thrown away and the reader repeats, at most
//! [`REPEATS_MAX`] times.
//!
//! ```text
//! writer                                reader
//!   blocks of v+1      (relaxed)          v  = CURRENT   (OBSERVE, acquire) -+
//!   slot of v+1        (relaxed)          slot, blocks   (relaxed)           |
//!   CURRENT = v+1      (PUBLISH, release) <----------------------------------+
//!   fence              (THEN, release) <-+  fence        (CHECK, acquire)
//!   blocks of v+2 ...  (relaxed)         |  CURRENT      (relaxed)
//!                                        +-- whoever read a word of v+3 sees v+2 there
//! ```
//!
//! `PUBLISH` pairs with `OBSERVE`: who sees v + 1 sees its blocks. `THEN` pairs
//! with `CHECK`: who read a word that was written after the publication of
//! v + 2 finds at least v + 2 in `CURRENT`, so its check fails. The ring's four
//! orderings pair in the same way.

use core::ops::Range;
use core::sync::atomic::Ordering;

use crate::layout::{CURRENT, RING_END, RING_RESERVED, SLOTS};
use crate::words::{Words, WordsMut};

/// How often a reader repeats before it says busy. To need one repeat, two
/// publications must fall into one read, which takes nanoseconds.
pub const REPEATS_MAX: u32 = 8;

/// The memory orderings, each by the name of its place. The tests have others.
pub trait Orders {
    /// Of the store that makes a version visible. Pairs with `OBSERVE`.
    const PUBLISH: Ordering;
    /// Of the fence behind it. Pairs with `CHECK`.
    const THEN: Ordering;
    /// Of a reader's first load. Pairs with `PUBLISH`.
    const OBSERVE: Ordering;
    /// Of the fence before a reader's last load. Pairs with `THEN`.
    const CHECK: Ordering;
    /// Of the fence between "these bytes of the ring are going to be written"
    /// and writing them. Pairs with `RING_CHECK`.
    const RING_THEN: Ordering;
    /// Of the store of the ring's end. Pairs with `RING_OBSERVE`.
    const RING_PUBLISH: Ordering;
    /// Of a reader's load of the ring's end. Pairs with `RING_PUBLISH`.
    const RING_OBSERVE: Ordering;
    /// Of the fence before a reader looks whether it was lapped. Pairs with `RING_THEN`.
    const RING_CHECK: Ordering;
}

/// The orderings that are used.
#[derive(Clone, Copy, Debug)]
pub struct Real;

impl Orders for Real {
    const PUBLISH: Ordering = Ordering::Release;
    const THEN: Ordering = Ordering::Release;
    const OBSERVE: Ordering = Ordering::Acquire;
    const CHECK: Ordering = Ordering::Acquire;
    const RING_THEN: Ordering = Ordering::Release;
    const RING_PUBLISH: Ordering = Ordering::Release;
    const RING_OBSERVE: Ordering = Ordering::Acquire;
    const RING_CHECK: Ordering = Ordering::Acquire;
}

/// A fence, or none: relaxed is the mutants' word for "left out".
#[inline(always)]
fn fence(words: &impl Words, order: Ordering) {
    if order != Ordering::Relaxed {
        words.fence(order);
    }
}

/// The version retired by whose commit a block may be written again while the
/// version after `current` is being made.
#[must_use]
pub fn reusable(current: u64) -> u64 {
    // Retired by v + 1, reusable once v + 2 is published.
    current.saturating_sub(1)
}

/// The slot that holds a version's root.
#[must_use]
pub fn slot_of(version: u64) -> usize {
    (version % SLOTS as u64) as usize
}

/// Makes `version` visible; its blocks and its slot are written.
#[inline]
pub fn publish<O: Orders>(words: &impl WordsMut, version: u64) {
    words.store(CURRENT, version, O::PUBLISH);
    fence(words, O::THEN);
}

/// Was the copy busy: handed back twice during each of the reader's tries?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Busy;

impl core::fmt::Display for Busy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the image is busy: it changed under {} reads in a row", REPEATS_MAX + 1)
    }
}

impl std::error::Error for Busy {}

/// Loads the version that is visible.
#[inline(always)]
pub fn observe<O: Orders>(words: &impl Words) -> u64 {
    words.load_header(CURRENT, O::OBSERVE)
}

/// What is visible now, after everything that was read before.
#[inline(always)]
pub fn check<O: Orders>(words: &impl Words) -> u64 {
    fence(words, O::CHECK);
    words.load_header(CURRENT, Ordering::Relaxed)
}

/// Is what was read from version `seen` whole, if `now` is visible afterwards?
#[inline(always)]
#[must_use]
pub fn is_whole(seen: u64, now: u64) -> bool {
    now.wrapping_sub(seen) <= 1
}

/// Runs `body` on the visible version until it ran on a whole one. `repeats`
/// counts how often it had to be thrown away.
///
/// # Errors
/// [`Busy`] after [`REPEATS_MAX`] repeats.
#[inline(always)]
pub fn read<O: Orders, W: Words, T>(
    words: &W,
    repeats: &mut u64,
    mut body: impl FnMut(&W, u64) -> T,
) -> Result<T, Busy> {
    for _ in 0..=REPEATS_MAX {
        let version = observe::<O>(words);
        let value = body(words, version);
        if is_whole(version, check::<O>(words)) {
            return Ok(value);
        }
        *repeats += 1;
    }
    Err(Busy)
}

/// Announces that the ring's words up to position `until` (and so those one
/// lap before) are going to be written.
#[inline]
pub fn ring_reserve<O: Orders>(words: &impl WordsMut, until: u64) {
    words.store(RING_RESERVED, until, Ordering::Relaxed);
    fence(words, O::RING_THEN);
}

/// Makes the ring's words before position `end` readable.
#[inline]
pub fn ring_publish<O: Orders>(words: &impl WordsMut, end: u64) {
    words.store(RING_END, end, O::RING_PUBLISH);
}

/// The position behind the ring's last readable word.
#[inline]
pub fn ring_observe<O: Orders>(words: &impl Words) -> u64 {
    words.load(RING_END, O::RING_OBSERVE)
}

/// How far the ring was announced to be written, after what was read before: a
/// word at position p was still itself if this is at most p plus one lap.
#[inline]
pub fn ring_check<O: Orders>(words: &impl Words) -> u64 {
    fence(words, O::RING_CHECK);
    words.load(RING_RESERVED, Ordering::Relaxed)
}

/// Writes `values` into a ring of `count` words (a power of two) that begins
/// at word `at`, from position `end` on. Not readable before [`ring_publish`].
#[inline]
pub fn ring_write<O: Orders>(
    words: &impl WordsMut,
    (at, count): (usize, usize),
    end: u64,
    values: impl ExactSizeIterator<Item = u64>,
) -> u64 {
    let until = end + values.len() as u64;
    ring_reserve::<O>(words, until);
    // Of more than a lap only the last lap would stay; everybody is lapped.
    let skipped = values.len().saturating_sub(count);
    for (position, value) in (end..).zip(values).skip(skipped) {
        words.put(at + (position as usize & (count - 1)), value);
    }
    until
}

/// Hands the places of the words from `position` to the ring's end, of at most `most`
/// of them, to `take`, as the run up to the ring's last word and the one from its first
/// on, to be read (relaxed); returns the position behind them, or `None` if they may
/// have been written over meanwhile.
#[inline]
pub fn ring_copy<O: Orders>(
    words: &impl Words,
    (at, count): (usize, usize),
    position: u64,
    most: u64,
    take: impl FnOnce([Range<usize>; 2]),
) -> Option<u64> {
    let new = ring_observe::<O>(words).wrapping_sub(position);
    if new > count as u64 {
        return None;
    }
    let (first, new) = (position as usize & (count - 1), new.min(most));
    let up_to_the_end = (new as usize).min(count - first);
    take([at + first..at + first + up_to_the_end, at..at + new as usize - up_to_the_end]);
    (ring_check::<O>(words).wrapping_sub(position) <= count as u64).then_some(position + new)
}
