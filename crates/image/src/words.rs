//! The mapping as an array of 64-bit words: the one place of this crate where
//! shared memory is touched.
//!
//! Every access is an atomic load or store of one aligned 64-bit word, never
//! of another size (the futex word, 32 bits, is a word of its own that only
//! `ipc::futex` and [`ipc::map`] touch), so there is no mixed-size access to
//! argue about. A load outside the memory gives some number instead of a panic:
//! readers follow offsets out of memory that may be handed back under them, throw
//! the result away afterwards, and must not die in between. (A reader's mapping is
//! a power of two long, and offsets are taken modulo that: one instruction, where a
//! comparison and a branch cost four, five times in each lookup.)
//!
//! [`Words`] and [`WordsMut`] are traits so that the tests can put other
//! memory under the same code: loom's atomics (`tests/loom.rs`), memory that
//! kills the process at the k-th store (`tests/crash.rs`).
#![allow(unsafe_code)] // raw loads and stores in the mapping, each argued below

use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::os::fd::AsFd;
use std::sync::Arc;

use ipc::map::{Map, MapMut};

use crate::instructions::{Ones, Popcnt};
use crate::layout::{HEADER_WORDS, UNIT_BYTES, wide};

/// Words that can be read.
pub trait Words {
    /// How many there are.
    fn len(&self) -> usize;

    /// Are there none?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The word at `at`; behind the end some number.
    fn load(&self, at: usize, order: Ordering) -> u64;

    /// The word `at` of the header, which all memory has.
    #[inline(always)]
    fn load_header(&self, at: usize, order: Ordering) -> u64 {
        self.load(at, order)
    }

    /// A fence between this memory's accesses.
    fn fence(&self, order: Ordering);

    /// The word at `at`, relaxed; 0 behind the end.
    #[inline(always)]
    fn get(&self, at: usize) -> u64 {
        self.load(at, Ordering::Relaxed)
    }

    /// The word `index`, of at most 512, behind word `at`; `at` may be anything.
    #[inline(always)]
    fn get_near(&self, at: usize, index: usize) -> u64 {
        self.get(at + index)
    }

    /// The 32-bit entry `index` of an array that begins at word `at`, relaxed.
    #[inline(always)]
    fn half(&self, at: usize, index: usize) -> u32 {
        (self.get(at + index / 2) >> (index % 2 * 32)) as u32
    }

    /// The 16-bit entry `index`, likewise.
    #[inline(always)]
    fn quarter(&self, at: usize, index: usize) -> u32 {
        u32::from((self.get(at + index / 4) >> (index % 4 * 16)) as u16)
    }

    /// The words from `at` on, relaxed: one look at whether they are inside.
    #[inline(always)]
    fn row<const COUNT: usize>(&self, at: usize) -> [u64; COUNT] {
        core::array::from_fn(|index| self.get(at + index))
    }

    /// Asks for the cache line of word `at`, so that a later load finds it.
    /// `at` may be anything.
    #[inline(always)]
    fn prefetch(&self, at: usize) {
        let _ = at;
    }
}

/// Words that can be written, by one thread of one process.
pub trait WordsMut: Words {
    /// Writes the word at `at`, which must be inside (panics otherwise: the
    /// writer only follows offsets that it made itself).
    fn store(&self, at: usize, value: u64, order: Ordering);

    /// Writes the word at `at`, relaxed.
    #[inline(always)]
    fn put(&self, at: usize, value: u64) {
        self.store(at, value, Ordering::Relaxed);
    }

    /// Copies `count` words from `from` to `to`, word by word, relaxed; both
    /// ranges are inside and don't overlap.
    #[inline(always)]
    fn copy(&self, from: usize, to: usize, count: usize) {
        for index in 0..count {
            self.put(to + index, self.get(from + index));
        }
    }

    /// Copies the words `at .. at + count` to the same place of `other`.
    fn copy_to(&self, other: &Self, at: usize, count: usize)
    where
        Self: Sized,
    {
        for at in at..at + count {
            other.put(at, self.get(at));
        }
    }
}

/// A reader's mapping.
#[derive(Clone, Debug)]
pub struct ReadWords {
    base: *const u64,
    /// The bytes, a power of two, less one.
    mask: usize,
    /// The same, for what begins on a unit.
    unit_mask: usize,
    map: Arc<Map>,
}

// SAFETY: `base` points into `map`, which is kept alive and may be read from
// any thread; all accesses are atomic.
unsafe impl Send for ReadWords {}
// SAFETY: as above.
unsafe impl Sync for ReadWords {}

/// An array of `WORDS` words that was found to be inside of a [`ReadWords`],
/// with which it must be used: then no access asks where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<const WORDS: usize>(NonNull<u64>);

// SAFETY: an address; what it is used with may be sent.
unsafe impl<const WORDS: usize> Send for Part<WORDS> {}

/// An array of 32-bit entries, a power of two of them, that was found to be inside of a
/// [`ReadWords`], with which it must be used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entries {
    first: NonNull<u64>,
    /// How many there are, less one.
    mask: usize,
}

// SAFETY: an address and a number; what they are used with may be sent.
unsafe impl Send for Entries {}

impl ReadWords {
    /// The words of `bytes` bytes behind a descriptor.
    ///
    /// # Errors
    /// It can't be mapped.
    ///
    /// # Panics
    /// If that is no power of two, or less than a page.
    pub fn of(fd: impl AsFd, bytes: usize) -> Result<ReadWords, ipc::map::Error> {
        assert!(bytes.is_power_of_two() && bytes >= GUARD_BYTES, "{bytes} bytes");
        let map = Map::guarded(fd, bytes)?;
        let (base, mask) = (map.as_ptr().cast(), bytes - 1);
        let unit_mask = mask & !(UNIT_BYTES - 1);
        Ok(ReadWords { base, mask, unit_mask, map: Arc::new(map) })
    }

    /// The word at this byte.
    ///
    /// # Safety
    /// It is inside the map or the page behind it, and the place is a multiple of 8.
    #[inline(always)]
    unsafe fn load_at(&self, place: usize, order: Ordering) -> u64 {
        // SAFETY: inside the map and aligned (the caller's promise; maps begin on a
        // page), mapped for as long as `self` lives, and the memory is only ever
        // accessed as atomic 64-bit words. The load is relaxed, which the
        // standard library guarantees for read-only memory; an acquire is a
        // fence behind it.
        let value = unsafe {
            AtomicU64::from_ptr(self.base.byte_add(place).cast_mut()).load(Ordering::Relaxed)
        };
        if order != Ordering::Relaxed {
            self.fence(Ordering::Acquire);
        }
        value
    }

    /// The array that begins at word `at`, if it is inside.
    pub(crate) fn part<const WORDS: usize>(&self, at: usize) -> Option<Part<WORDS>> {
        const { assert!(WORDS.is_power_of_two()) }
        let end = at.checked_add(WORDS)?;
        // SAFETY: inside the map (compared just now).
        let first = (end <= self.len()).then(|| unsafe { self.base.add(at) })?;
        NonNull::new(first.cast_mut()).map(Part)
    }

    /// Word `index` (modulo its length) of a part of this mapping.
    #[inline(always)]
    pub(crate) fn get_of<const WORDS: usize>(&self, part: Part<WORDS>, index: usize) -> u64 {
        // SAFETY: inside the part, which is inside the map, which `self` keeps;
        // otherwise as in `load`.
        unsafe {
            AtomicU64::from_ptr(part.0.as_ptr().add(index & (WORDS - 1))).load(Ordering::Relaxed)
        }
    }

    /// The 32-bit entry `index` (modulo its length) of a part of this mapping.
    #[inline(always)]
    pub(crate) fn half_of<const WORDS: usize>(&self, part: Part<WORDS>, index: usize) -> u32 {
        let index = index & (2 * WORDS - 1);
        #[cfg(target_arch = "x86_64")]
        {
            let value: u32;
            // SAFETY: as in `get_of` and `half`.
            unsafe {
                core::arch::asm!(
                    "mov {value:e}, dword ptr [{part} + 4 * {index}]",
                    value = lateout(reg) value,
                    part = in(reg) part.0.as_ptr(),
                    index = in(reg) index,
                    options(pure, readonly, nostack, preserves_flags),
                );
            }
            value
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            (self.get_of(part, index / 2) >> (index % 2 * 32)) as u32
        }
    }

    /// The array of `count` entries of 32 bits that begins at word `at`, if it is inside.
    ///
    /// # Panics
    /// If `count` is no power of two.
    pub(crate) fn entries(&self, at: usize, count: usize) -> Option<Entries> {
        assert!(count.is_power_of_two(), "{count} entries");
        let end = at.checked_add(count.div_ceil(2))?;
        // SAFETY: inside the map (compared just now).
        let first = (end <= self.len()).then(|| unsafe { self.base.add(at) })?;
        NonNull::new(first.cast_mut()).map(|first| Entries { first, mask: count - 1 })
    }

    /// The entry `index` (modulo their number) of an array of this mapping.
    #[inline(always)]
    pub(crate) fn entry_of(&self, entries: Entries, index: usize) -> u32 {
        let index = index & entries.mask;
        #[cfg(target_arch = "x86_64")]
        {
            let value: u32;
            // SAFETY: inside the array, which is inside the map, which `self` keeps;
            // otherwise as in `half`.
            unsafe {
                core::arch::asm!(
                    "mov {value:e}, dword ptr [{first} + 4 * {index}]",
                    value = lateout(reg) value,
                    first = in(reg) entries.first.as_ptr(),
                    index = in(reg) index,
                    options(pure, readonly, nostack, preserves_flags),
                );
            }
            value
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            // SAFETY: as above; the whole word.
            let word = unsafe {
                AtomicU64::from_ptr(entries.first.as_ptr().add(index / 2)).load(Ordering::Relaxed)
            };
            (word >> (index % 2 * 32)) as u32
        }
    }

    /// Of the four pairs of words from byte `place` on (anything): the second word of
    /// the first pair whose first word is `key`. 0: there is none.
    ///
    /// Without a branch: which one it is can't be foreseen.
    #[inline(always)]
    pub(crate) fn paired(&self, place: usize, key: u64) -> u64 {
        let place = place & self.unit_mask;
        const { assert!(64 <= GUARD_BYTES) }
        #[cfg(target_arch = "x86_64")]
        {
            let mut found = 0_u64;
            // SAFETY: what begins inside (masked) ends in the page behind the map if not
            // in it, and is aligned to a unit. Each access is the relaxed load of a word.
            unsafe {
                core::arch::asm!(
                    "cmp {key}, qword ptr [{base} + {place} + 48]",
                    "cmove {found}, qword ptr [{base} + {place} + 56]",
                    "cmp {key}, qword ptr [{base} + {place} + 32]",
                    "cmove {found}, qword ptr [{base} + {place} + 40]",
                    "cmp {key}, qword ptr [{base} + {place} + 16]",
                    "cmove {found}, qword ptr [{base} + {place} + 24]",
                    "cmp {key}, qword ptr [{base} + {place}]",
                    "cmove {found}, qword ptr [{base} + {place} + 8]",
                    base = in(reg) self.base,
                    place = in(reg) place,
                    key = in(reg) key,
                    found = inout(reg) found,
                    options(pure, readonly, nostack),
                );
            }
            found
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            // SAFETY: as above.
            let word = |at: usize| unsafe { self.load_at(place + 8 * at, Ordering::Relaxed) };
            (0..4).rev().fold(
                0,
                |found, pair| {
                    if word(2 * pair) == key { word(2 * pair + 1) } else { found }
                },
            )
        }
    }

    /// The node of six bits that an entry of a wide root refers to.
    #[inline(always)]
    pub(crate) fn node(&self, entry: u32) -> Node<'_> {
        let place = entry as usize & self.unit_mask;
        // SAFETY: inside the map (masked).
        Node(unsafe { self.base.byte_add(place) }, PhantomData)
    }

    /// The 16-bit entry of the run that an address is in, in the node that its entry of a
    /// wide root refers to: what [`Self::half_of`], [`Self::node`] and [`Node::entry`] give
    /// one after the other, in ten instructions.
    #[inline(always)]
    pub(crate) fn under(&self, root: Part<{ wide::WORDS }>, ones: Popcnt, address: u32) -> u64 {
        // Bits 8 to 13 of an address are a register's second byte, modulo 64.
        const { assert!(wide::BITS == 18) }
        #[cfg(target_arch = "x86_64")]
        {
            let _ = ones;
            let found: u64;
            // SAFETY: the entry is inside the part (18 bits of an address number as many
            // as it has), which is inside the map, which `self` keeps; the node is inside
            // (masked), aligned to a unit, and at most 64 bits of its bitmap are set, so
            // its entry is less than a page behind it. There is a `Popcnt` where the
            // processor has the instruction. Each load is part of the relaxed load of a
            // word (`half`).
            unsafe {
                core::arch::asm!(
                    "movzx ecx, {address:h}",
                    "mov {node:e}, {address:e}",
                    "shr {node:e}, 14",
                    "mov {node:e}, dword ptr [{root} + 4 * {node}]",
                    "and {node}, qword ptr [{this} + {mask}]",
                    "add {node}, qword ptr [{this} + {base}]",
                    "mov {found}, qword ptr [{node}]",
                    "shr {found}, cl",
                    "popcnt {found}, {found}",
                    "movzx {found:e}, word ptr [{node} + 2 * {found} + 6]",
                    address = in(reg_abcd) address,
                    root = in(reg) root.0.as_ptr(),
                    this = in(reg) core::ptr::from_ref(self),
                    mask = const core::mem::offset_of!(ReadWords, unit_mask),
                    base = const core::mem::offset_of!(ReadWords, base),
                    out("ecx") _,
                    node = out(reg) _,
                    found = out(reg) found,
                    options(pure, readonly, nostack),
                );
            }
            found
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let entry = self.half_of(root, (address >> 14) as usize);
            self.node(entry).entry(ones, address >> 8)
        }
    }

    /// The header, which all maps have.
    pub(crate) fn header(&self) -> Head {
        Head(self.base)
    }

    /// Where a part of `bytes` bytes, number `index` from word `at`, is.
    #[inline(always)]
    fn place(&self, at: usize, index: usize, bytes: usize) -> usize {
        (at << 3).wrapping_add(index * bytes) & self.mask
    }

    /// Copies the words of `run` to `bytes`, which has room for just these, each by one
    /// relaxed load.
    ///
    /// # Panics
    /// If `bytes` is longer or shorter.
    pub(crate) fn copy_out(&self, run: Range<usize>, bytes: &mut [u8]) {
        assert_eq!(bytes.len(), 8 * run.len(), "room for the run");
        #[cfg(target_arch = "x86_64")]
        if run.len() >= STRING_WORDS_MIN && run.end <= self.len() {
            // SAFETY: the run is inside the map and `bytes` is as long (both compared just
            // now), and nobody else's. What this is to the memory model: relaxed loads of
            // the words, in some order, and plain stores of what they gave: the processor
            // moves aligned words whole, and this one is little-endian, as `bytes` is below.
            unsafe {
                core::arch::asm!(
                    "rep movsq",
                    inout("rcx") run.len() => _,
                    inout("rsi") self.base.add(run.start) => _,
                    inout("rdi") bytes.as_mut_ptr() => _,
                    options(nostack, preserves_flags),
                );
            }
            return;
        }
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(run) {
            bytes.copy_from_slice(&self.get(word).to_le_bytes());
        }
    }

    /// The map, for the futex.
    #[must_use]
    pub fn map(&self) -> &Map {
        &self.map
    }
}

/// The header of a [`ReadWords`], with which it must be used: its address alone, which a
/// caller's loop keeps in a register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head(*const u64);

// SAFETY: an address; what it is used with may be sent.
unsafe impl Send for Head {}

impl Words for Head {
    #[inline(always)]
    fn len(&self) -> usize {
        HEADER_WORDS
    }

    #[inline(always)]
    fn load(&self, at: usize, order: Ordering) -> u64 {
        const { assert!(HEADER_WORDS.is_power_of_two() && 8 * HEADER_WORDS <= GUARD_BYTES) }
        // SAFETY: in the first page, which each map has; otherwise as in `ReadWords::load_at`.
        let value = unsafe {
            let word = self.0.add(at & (HEADER_WORDS - 1)).cast_mut();
            AtomicU64::from_ptr(word).load(Ordering::Relaxed)
        };
        if order != Ordering::Relaxed {
            self.fence(Ordering::Acquire);
        }
        value
    }

    #[inline(always)]
    fn fence(&self, order: Ordering) {
        core::sync::atomic::fence(order);
    }
}

/// What is mapped behind the object, so that a node needs one look at where it is, not
/// one for each access.
const GUARD_BYTES: usize = 4096;

/// A node of six bits in a mapping: a bitmap, then entries of 16 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a>(*const u64, PhantomData<&'a ReadWords>);

impl Node<'_> {
    /// Tells the processor that it will be read.
    #[inline(always)]
    pub(crate) fn prefetch(self) {
        prefetch(self.0, 0);
    }

    /// The 16-bit entry of the run that `slot` (modulo 64) is in. (As 64 bits, or the
    /// compiler clears the upper half again before each use.)
    #[inline(always)]
    pub(crate) fn entry(self, ones: impl Ones, slot: u32) -> u64 {
        // SAFETY: inside the map, aligned to a unit; otherwise as in `load`.
        let map = unsafe { AtomicU64::from_ptr(self.0.cast_mut()).load(Ordering::Relaxed) };
        let count = ones.of(map >> (slot & 63)) as usize;
        const { assert!(8 + 2 * 64 <= GUARD_BYTES) }
        #[cfg(target_arch = "x86_64")]
        {
            let value: u64;
            // SAFETY: at most 64 bits are set, so this is less than a page behind
            // the node, mapped wherever the node is; aligned. Otherwise as in `half`.
            unsafe {
                core::arch::asm!(
                    "movzx {value:e}, word ptr [{node} + 2 * {count} + 6]",
                    value = lateout(reg) value,
                    node = in(reg) self.0,
                    count = in(reg) count,
                    options(pure, readonly, nostack, preserves_flags),
                );
            }
            value
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let (word, part) = ((3 + count) / 4, (3 + count) % 4);
            // SAFETY: as above; the whole word.
            let word =
                unsafe { AtomicU64::from_ptr(self.0.add(word).cast_mut()).load(Ordering::Relaxed) };
            u64::from((word >> (16 * part)) as u16)
        }
    }
}

impl Words for ReadWords {
    #[inline(always)]
    fn len(&self) -> usize {
        (self.mask + 1) / 8
    }

    #[inline(always)]
    fn load(&self, at: usize, order: Ordering) -> u64 {
        // SAFETY: masked.
        unsafe { self.load_at(self.place(at, 0, 8), order) }
    }

    #[inline(always)]
    fn get_near(&self, at: usize, index: usize) -> u64 {
        let place = ((at << 3) & self.mask) + 8 * (index & (GUARD_BYTES / 8 - 1));
        // SAFETY: less than a page behind what is inside, so in the page that is
        // mapped behind the object if not in the object.
        unsafe { self.load_at(place, Ordering::Relaxed) }
    }

    #[inline(always)]
    fn load_header(&self, at: usize, order: Ordering) -> u64 {
        const { assert!(HEADER_WORDS.is_power_of_two() && 8 * HEADER_WORDS <= GUARD_BYTES) }
        // SAFETY: in the first page, which each map has.
        unsafe { self.load_at(8 * (at & (HEADER_WORDS - 1)), order) }
    }

    #[inline(always)]
    fn fence(&self, order: Ordering) {
        core::sync::atomic::fence(order);
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn half(&self, at: usize, index: usize) -> u32 {
        let value: u32;
        // SAFETY: inside the map (masked) and aligned. What this is to the
        // memory model: the relaxed load of the 64-bit word that holds the
        // entry, of which the instruction hands back one half. The processor
        // reads aligned parts of an aligned word as atomically as the word.
        unsafe {
            core::arch::asm!(
                "mov {value:e}, dword ptr [{base} + {place}]",
                value = lateout(reg) value,
                base = in(reg) self.base,
                place = in(reg) self.place(at, index, 4),
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        value
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn quarter(&self, at: usize, index: usize) -> u32 {
        let value: u32;
        // SAFETY: as in `half`.
        unsafe {
            core::arch::asm!(
                "movzx {value:e}, word ptr [{base} + {place}]",
                value = lateout(reg) value,
                base = in(reg) self.base,
                place = in(reg) self.place(at, index, 2),
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        value
    }

    #[inline(always)]
    fn row<const COUNT: usize>(&self, at: usize) -> [u64; COUNT] {
        const { assert!(8 * COUNT <= GUARD_BYTES) }
        let place = self.place(at, 0, 8);
        // SAFETY: what begins inside (masked) ends in the page behind the map if not in it.
        core::array::from_fn(|index| unsafe { self.load_at(place + 8 * index, Ordering::Relaxed) })
    }

    #[inline(always)]
    fn prefetch(&self, at: usize) {
        prefetch(self.base, at);
    }
}

/// The processor is told that word `at` behind `base` will be read.
#[inline(always)]
fn prefetch(base: *const u64, at: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing and never faults, whatever the
    // address; wrapping_add makes no claim about it either.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(base.wrapping_add(at).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (base, at);
}

/// Copies of so many words and more are the processor's own to make: it asks for no line
/// that it is going to write from end to end.
const STRING_WORDS_MIN: usize = 32;

/// Copies `count` words, each by one relaxed load and one relaxed store.
///
/// # Safety
/// Both ranges are mapped, aligned, don't overlap, and are only ever accessed as atomic
/// words; the second one for writing.
#[inline(always)]
unsafe fn copy_words(from: *mut u64, to: *mut u64, count: usize) {
    #[cfg(target_arch = "x86_64")]
    if count >= STRING_WORDS_MIN {
        // SAFETY: the caller's promise covers every word of both ranges. What this is to
        // the memory model: relaxed loads and stores of the words, in some order. The
        // processor moves aligned words whole, and though it may store them in any
        // order, it stores them behind what was stored before and before what is stored
        // afterwards, as it does with all stores.
        unsafe {
            core::arch::asm!(
                "rep movsq",
                inout("rcx") count => _,
                inout("rsi") from => _,
                inout("rdi") to => _,
                options(nostack, preserves_flags),
            );
        }
        return;
    }
    for index in 0..count {
        // SAFETY: the caller's promise covers every word of both ranges.
        unsafe {
            let word = AtomicU64::from_ptr(from.add(index)).load(Ordering::Relaxed);
            AtomicU64::from_ptr(to.add(index)).store(word, Ordering::Relaxed);
        }
    }
}

/// The writer's mapping.
#[derive(Debug)]
pub struct WriteWords {
    base: *mut u64,
    len: usize,
    map: MapMut,
}

// SAFETY: `base` points into `map`, which moves with it; all accesses are
// atomic. (Not Sync: there is one writing thread.)
unsafe impl Send for WriteWords {}

impl WriteWords {
    /// The words of a map.
    #[must_use]
    pub fn new(map: MapMut) -> WriteWords {
        WriteWords { base: map.as_mut_ptr().cast(), len: map.len() / 8, map }
    }

    /// The map, for the futex.
    #[must_use]
    pub fn map(&self) -> &MapMut {
        &self.map
    }

    fn inside(&self, at: usize, count: usize) {
        let len = self.len;
        assert!(at <= len && count <= len - at, "{count} words at {at} of {len}");
    }
}

impl Words for WriteWords {
    #[inline(always)]
    fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    fn load(&self, at: usize, order: Ordering) -> u64 {
        if at >= self.len {
            return 0;
        }
        // SAFETY: as in `ReadWords::load`.
        unsafe { AtomicU64::from_ptr(self.base.add(at)).load(order) }
    }

    #[inline(always)]
    fn fence(&self, order: Ordering) {
        core::sync::atomic::fence(order);
    }

    #[inline(always)]
    fn row<const COUNT: usize>(&self, at: usize) -> [u64; COUNT] {
        if at > self.len || self.len - at < COUNT {
            return [0; COUNT];
        }
        core::array::from_fn(|index| {
            // SAFETY: all of them are inside (compared just now); otherwise as in `load`.
            unsafe { AtomicU64::from_ptr(self.base.add(at + index)).load(Ordering::Relaxed) }
        })
    }

    #[inline(always)]
    fn prefetch(&self, at: usize) {
        prefetch(self.base, at);
    }
}

impl WordsMut for WriteWords {
    #[inline(always)]
    fn store(&self, at: usize, value: u64, order: Ordering) {
        assert!(at < self.len, "word {at} of {}", self.len);
        // SAFETY: as in `ReadWords::load`, and mapped for writing.
        unsafe { AtomicU64::from_ptr(self.base.add(at)).store(value, order) }
    }

    #[inline(always)]
    fn copy(&self, from: usize, to: usize, count: usize) {
        self.inside(from, count);
        self.inside(to, count);
        // SAFETY: both ranges are inside (checked); otherwise as in `store`.
        unsafe { copy_words(self.base.add(from), self.base.add(to), count) }
    }

    fn copy_to(&self, other: &WriteWords, at: usize, count: usize) {
        self.inside(at, count);
        other.inside(at, count);
        // SAFETY: inside both mappings (checked); otherwise as in `store`.
        unsafe { copy_words(self.base.add(at), other.base.add(at), count) }
    }
}
