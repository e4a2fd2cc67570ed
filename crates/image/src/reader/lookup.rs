//! Lookups in table main: by the root of the version seen last.
use core::net::{Ipv4Addr, Ipv6Addr};

use super::Reader;
use crate::answers::{self, Answer, answer_at};
use crate::hash::Ready;
use crate::instructions::{Ones, Portable};
use crate::layout::{TableRoot, none};
use crate::lpm::walk::{BATCH, Direct, batch4, batch6, walk4, walk6};
use crate::protocol::{Busy, Real, check};
use crate::words::{ReadWords, Words};

/// What lookups need of the version seen last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) version: u64,
    pub(super) main: [TableRoot; 2],
    /// The top of the array of answers, and its first page.
    pub(super) answers: u32,
    pub(super) first: usize,
    /// Of IPv4, if the table is large.
    pub(super) direct: Option<Direct>,
    /// The neighbours' hashes, and that of IPv4 if there is one.
    pub(super) hashes: [[u32; 2]; 2],
    pub(super) neighbours4: Option<Ready>,
}

impl Seen {
    /// No version yet.
    pub(super) const NOTHING: Seen = Seen {
        version: 0,
        main: [TableRoot::EMPTY; 2],
        answers: 0,
        first: 0,
        direct: None,
        hashes: [[0; 2]; 2],
        neighbours4: None,
    };
}

/// No answer's word: says busy.
const BUSY: u64 = 1;

/// What a lookup needs to know of a family.
trait Search {
    type Address: Copy;
    /// Its place in a root.
    const FAMILY: usize;
    fn leaf(words: &ReadWords, ones: impl Ones, root: u32, address: Self::Address) -> u32;
    fn leaves(
        words: &ReadWords,
        ones: impl Ones,
        root: u32,
        addresses: &[Self::Address],
        leaves: &mut [u32; BATCH],
    );
}

struct Search4;

impl Search for Search4 {
    type Address = u32;
    const FAMILY: usize = 0;

    #[inline(always)]
    fn leaf(words: &ReadWords, ones: impl Ones, root: u32, address: u32) -> u32 {
        walk4(words, ones, root, address)
    }

    #[inline(always)]
    fn leaves(
        words: &ReadWords,
        ones: impl Ones,
        root: u32,
        addresses: &[u32],
        leaves: &mut [u32; BATCH],
    ) {
        batch4(words, ones, root, addresses, leaves);
    }
}

struct Search6;

impl Search for Search6 {
    type Address = u128;
    const FAMILY: usize = 1;

    #[inline(always)]
    fn leaf(words: &ReadWords, ones: impl Ones, root: u32, address: u128) -> u32 {
        walk6(words, ones, root, address)
    }

    #[inline(always)]
    fn leaves(
        words: &ReadWords,
        ones: impl Ones,
        root: u32,
        addresses: &[u128],
        leaves: &mut [u32; BATCH],
    ) {
        batch6(words, ones, root, addresses, leaves);
    }
}

/// Lookups in table main.
impl Reader {
    /// Looks an IPv4 address up in table main.
    ///
    /// # Errors
    /// [`Busy`].
    #[inline(always)]
    pub fn lookup4(&self, address: Ipv4Addr) -> Result<Option<Answer>, Busy> {
        self.one4::<true>(address.into())
    }

    /// Lookups of many IPv4 addresses, one after the other: for a loop that takes its next
    /// address from the last answer, or hasn't all of them at once. (Who has should ask for
    /// 16 together, [`Self::lookup4_batch`].)
    #[inline(always)]
    #[must_use]
    pub fn lookups4(&self) -> Lookups4<'_> {
        let seen = self.seen.get();
        Lookups4 { reader: self, version: seen.version, direct: seen.direct }
    }

    /// Looks an IPv6 address up in table main.
    ///
    /// # Errors
    /// [`Busy`].
    #[inline(always)]
    pub fn lookup6(&self, address: Ipv6Addr) -> Result<Option<Answer>, Busy> {
        self.one::<Search6, true>(address.into())
    }

    /// Looks IPv4 addresses up in table main, 16 per check: all answers of one
    /// such group are right for the same revision.
    ///
    /// # Errors
    /// [`Busy`]; then `answers` may be partly filled.
    ///
    /// # Panics
    /// If the slices differ in length.
    #[inline]
    pub fn lookup4_batch(
        &self,
        addresses: &[u32],
        answers: &mut [Option<Answer>],
    ) -> Result<(), Busy> {
        self.many4::<true>(addresses, answers)
    }

    /// Looks IPv6 addresses up in table main, as [`Self::lookup4_batch`].
    ///
    /// # Errors
    /// [`Busy`]; then `answers` may be partly filled.
    ///
    /// # Panics
    /// If the slices differ in length.
    #[inline]
    pub fn lookup6_batch(
        &self,
        addresses: &[u128],
        answers: &mut [Option<Answer>],
    ) -> Result<(), Busy> {
        self.many::<Search6, true>(addresses, answers)
    }

    /// [`Self::lookup4`] with the check left out, to measure what it costs.
    /// Wrong whenever something was published since the last checked call.
    #[doc(hidden)]
    #[inline(always)]
    pub fn unvalidated4(&self, address: Ipv4Addr) -> Result<Option<Answer>, Busy> {
        self.one4::<false>(address.into())
    }

    #[doc(hidden)]
    #[inline(always)]
    pub fn unvalidated6(&self, address: Ipv6Addr) -> Result<Option<Answer>, Busy> {
        self.one::<Search6, false>(address.into())
    }

    #[doc(hidden)]
    #[inline]
    pub fn unvalidated4_batch(
        &self,
        addresses: &[u32],
        answers: &mut [Option<Answer>],
    ) -> Result<(), Busy> {
        self.many4::<false>(addresses, answers)
    }

    #[doc(hidden)]
    #[inline]
    pub fn unvalidated6_batch(
        &self,
        addresses: &[u128],
        answers: &mut [Option<Answer>],
    ) -> Result<(), Busy> {
        self.many::<Search6, false>(addresses, answers)
    }

    #[inline(always)]
    fn one4<const CHECKED: bool>(&self, address: u32) -> Result<Option<Answer>, Busy> {
        let direct = self.seen.get().direct;
        match direct.and_then(|direct| direct.answer(&self.words, address)) {
            // (What was seen is read here, or it would be kept over the fence: an
            // instruction more.)
            Some(word) if !CHECKED || check::<Real>(&self.words) == self.seen.get().version => {
                Ok(Answer::from_word(word))
            }
            // By a call: for a small table, or what three loads don't find.
            _ => result_of(self.one4_by_call(address)),
        }
    }

    // (Returns a number, not a result: else the caller's loop looks at each answer whether
    // it is one.)
    #[cold]
    #[inline(never)]
    fn one4_by_call(&self, address: u32) -> u64 {
        self.one::<Search4, true>(address).map_or(BUSY, Answer::word)
    }

    #[inline(always)]
    fn many4<const CHECKED: bool>(
        &self,
        addresses: &[u32],
        answers: &mut [Option<Answer>],
    ) -> Result<(), Busy> {
        assert_eq!(addresses.len(), answers.len(), "one answer per address");
        for (addresses, answers) in addresses.chunks(BATCH).zip(answers.chunks_mut(BATCH)) {
            let seen = self.seen.get();
            let Some(direct) = seen.direct else {
                self.many::<Search4, CHECKED>(addresses, answers)?;
                continue;
            };
            direct.answers(&self.words, addresses, |index, found| {
                let word = found.unwrap_or_else(|| self.rest4(addresses[index]));
                answers[index] = Answer::from_word(word);
            });
            if CHECKED && check::<Real>(&self.words) != seen.version {
                self.many_again::<Search4>(addresses, answers)?;
            }
        }
        Ok(())
    }

    /// The word of the answer, in the version seen last, to what [`Direct`] didn't find.
    #[cold]
    #[inline(never)]
    fn rest4(&self, address: u32) -> u64 {
        answer_word::<Search4>(&self.words, Portable, &self.seen.get(), address)
    }

    #[inline(always)]
    fn one<S: Search, const CHECKED: bool>(
        &self,
        address: S::Address,
    ) -> Result<Option<Answer>, Busy> {
        let seen = self.seen.get();
        // The first of the two cold calls is made by processors without the
        // instruction, the second if the root seen last is no longer the visible one.
        let Some(ones) = self.popcnt else { return self.one_again::<S>(address) };
        let answer = Answer::from_word(answer_word::<S>(&self.words, ones, &seen, address));
        if CHECKED && check::<Real>(&self.words) != seen.version {
            return self.one_again::<S>(address);
        }
        Ok(answer)
    }

    #[cold]
    #[inline(never)]
    fn one_again<S: Search>(&self, address: S::Address) -> Result<Option<Answer>, Busy> {
        self.read_seen(|words, seen| {
            Answer::from_word(answer_word::<S>(words, Portable, seen, address))
        })
    }

    #[inline(always)]
    fn many<S: Search, const CHECKED: bool>(
        &self,
        addresses: &[S::Address],
        answers: &mut [Option<Answer>],
    ) -> Result<(), Busy> {
        assert_eq!(addresses.len(), answers.len(), "one answer per address");
        for (addresses, answers) in addresses.chunks(BATCH).zip(answers.chunks_mut(BATCH)) {
            let seen = self.seen.get();
            let Some(ones) = self.popcnt else {
                self.many_again::<S>(addresses, answers)?;
                continue;
            };
            answer_words::<S>(&self.words, ones, &seen, addresses, answers);
            if CHECKED && check::<Real>(&self.words) != seen.version {
                self.many_again::<S>(addresses, answers)?;
            }
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn many_again<S: Search>(
        &self,
        addresses: &[S::Address],
        answers: &mut [Option<Answer>],
    ) -> Result<(), Busy> {
        self.read_seen(|words, seen| {
            answer_words::<S>(words, Portable, seen, addresses, answers);
        })
    }

    /// As [`Self::read`], with the part of the root that lookups need, kept
    /// for the next ones.
    pub(super) fn read_seen<T>(
        &self,
        mut body: impl FnMut(&ReadWords, &Seen) -> T,
    ) -> Result<T, Busy> {
        let (value, seen) = self.read(|words, version, root| {
            let answers = root.answers[0];
            let first = answer_at(0, words, answers);
            let direct = Direct::new(words, root.main[0].entry, first);
            let (main, hashes) = (root.main, root.hashes);
            let neighbours4 = Ready::new(words, hashes[0]);
            let seen = Seen { version, main, answers, first, direct, hashes, neighbours4 };
            (body(words, &seen), seen)
        })?;
        self.seen.set(seen);
        Ok(value)
    }
}

/// Lookups of IPv4 addresses in table main one after the other, as in a loop
/// ([`Reader::lookups4`]).
///
/// Each is a lookup as by [`Reader::lookup4`], checked like it, and right for a revision that
/// was visible during it. But what a reader has seen last is here a variable of the
/// caller's own, and so in registers.
#[derive(Clone, Debug)]
pub struct Lookups4<'r> {
    reader: &'r Reader,
    version: u64,
    direct: Option<Direct>,
}

impl Lookups4<'_> {
    /// Looks an address up.
    ///
    /// # Errors
    /// [`Busy`].
    #[inline(always)]
    pub fn lookup(&mut self, address: Ipv4Addr) -> Result<Option<Answer>, Busy> {
        self.one::<true>(address.into())
    }

    /// As [`Reader::unvalidated4`].
    #[doc(hidden)]
    #[inline(always)]
    pub fn unvalidated(&mut self, address: Ipv4Addr) -> Result<Option<Answer>, Busy> {
        self.one::<false>(address.into())
    }

    #[inline(always)]
    fn one<const CHECKED: bool>(&mut self, address: u32) -> Result<Option<Answer>, Busy> {
        if let Some(direct) = self.direct
            && let Some(word) = direct.answer(&self.reader.words, address)
            && (!CHECKED || check::<Real>(&direct.header) == self.version)
        {
            return Ok(Answer::from_word(word));
        }
        let word = self.reader.one4_by_call(address);
        // (Not by a function that is given `self`: then it would be no registers.)
        let seen = self.reader.seen.get();
        (self.version, self.direct) = (seen.version, seen.direct);
        result_of(word)
    }
}

/// What [`Reader::one4_by_call`] says.
#[inline(always)]
fn result_of(word: u64) -> Result<Option<Answer>, Busy> {
    if word == BUSY { Err(Busy) } else { Ok(Answer::from_word(word)) }
}

#[inline(always)]
fn answer_word<S: Search>(
    words: &ReadWords,
    ones: impl Ones,
    seen: &Seen,
    address: S::Address,
) -> u64 {
    let root = seen.main[S::FAMILY];
    answer_of_leaf(words, seen, root, S::leaf(words, ones, root.entry, address))
}

#[inline(always)]
fn answer_words<S: Search>(
    words: &ReadWords,
    ones: impl Ones,
    seen: &Seen,
    addresses: &[S::Address],
    answers: &mut [Option<Answer>],
) {
    let root = seen.main[S::FAMILY];
    let mut leaves = [0; BATCH];
    S::leaves(words, ones, root.entry, addresses, &mut leaves);
    for (answer, leaf) in answers.iter_mut().zip(leaves) {
        *answer = Answer::from_word(answer_of_leaf(words, seen, root, leaf));
    }
}

#[inline(always)]
fn answer_of_leaf(words: &ReadWords, seen: &Seen, root: TableRoot, leaf: u32) -> u64 {
    let number = number_of(leaf, root);
    if number as usize >= answers::PER_PAGE {
        return words.get(answer_at(number, words, seen.answers));
    }
    words.get(seen.first + number as usize)
}

/// The number of the answer that a leaf means in a table with this root.
#[inline(always)]
pub(super) fn number_of(leaf: u32, root: TableRoot) -> u32 {
    // A trie of table main has no such leaf.
    if leaf == none::DEFAULT && root.default != 0 { root.default } else { leaf }
}
