//! Answers: what the leaves of the lookup structures stand for.
//!
//! A lookup says what to do with a packet: the route's type and its next-hop
//! group. A million routes share a few hundred such pairs, so each gets a small
//! number. Answer n stands in word n of two arrays: group and type; and where the
//! group's next hops are. When a group's next hops change, its answers' words of
//! the second array change with it, and no route and no leaf does.
//!
//! ```text
//! answer   0 | group u32                 | type  | zero 2  | 0x80 |   0: no answer
//!
//! place    0 | block u32                 | words of the block u32 |
//!
//! group    0 | id u32                    | nhid u32              |
//!          8 | next hops u32             | their weight u32      |   of those alive
//!         16 | per next hop: 24 canonical bytes, then            |
//!            | the weight of the living ones up to it, u64       |
//! ```
//!
//! The first numbers ([`none`]) are no routes' own: what they stand for is a copy
//! of the answer of one of table main's shortest prefixes, of which there are at
//! most 255 in a family. So a default route, or a 128.0.0.0/1, is changed by
//! changing a page of answers, whatever the size of the table.
use core::num::NonZeroU64;
use std::collections::HashMap;

use foldhash::fast::RandomState;
use rtm_model::canonical::encode_group;
use rtm_model::{Family, Group, GroupId, HopFlags, NextHop, RouteType};

use crate::layout::{none, word_of};
use crate::pages::{Pages, page_at};
use crate::store::{Full, Memory, Store};
use crate::words::Words;

/// Answers in a page: 16 KiB, a slab, so that most tables' answers are in the
/// first one, which readers know the place of.
pub(crate) const PER_PAGE: usize = 2048;
/// Set in the first word of every answer.
const PRESENT: u64 = 1 << 63;

/// What a lookup found.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Answer(NonZeroU64);

impl Answer {
    pub(crate) fn new(group: GroupId, kind: RouteType) -> Answer {
        let word = u64::from(group.0) | (kind as u64) << 32 | PRESENT;
        Answer(NonZeroU64::new(word).expect("the present bit is set"))
    }

    #[inline(always)]
    pub(crate) fn from_word(word: u64) -> Option<Answer> {
        // Every answer has the present bit; 0 is none.
        NonZeroU64::new(word).map(Answer)
    }

    /// What [`Answer::from_word`] makes it from.
    #[inline(always)]
    pub(crate) fn word(answer: Option<Answer>) -> u64 {
        answer.map_or(0, |answer| answer.0.get())
    }

    /// The next-hop group; [`GroupId::NONE`] for a route without next hop.
    #[inline(always)]
    #[must_use]
    pub fn group(self) -> GroupId {
        GroupId(self.0.get() as u32)
    }

    /// What is to be done: unicast, blackhole, throw, ….
    #[inline(always)]
    #[must_use]
    pub fn kind(self) -> RouteType {
        RouteType::from_number((self.0.get() >> 32) as u8).unwrap_or(RouteType::Unicast)
    }
}

impl core::fmt::Debug for Answer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Answer({} {})", self.kind().name(), self.group().0)
    }
}

/// The word of answer `number` in the array under `top`.
#[inline(always)]
pub(crate) fn answer_at(number: u32, words: &impl Words, top: u32) -> usize {
    let number = number as usize;
    page_at(words, top, number / PER_PAGE) + number % PER_PAGE
}

/// Table main's prefixes of fewer than [`none::SHORT_BITS`] bits in both families,
/// the default routes among them.
#[derive(Debug)]
pub(crate) struct Short {
    /// Answers by family and place: one of length n at 2^n + its bits; 0: none.
    numbers: [[u32; PARTS]; 2],
    changed: bool,
}

/// Parts of the addresses that no short prefix cuts.
const PARTS: usize = 1 << none::SHORT_BITS;

impl Short {
    pub(crate) fn new() -> Short {
        Short { numbers: [[0; PARTS]; 2], changed: false }
    }

    /// The prefix has this answer; 0: it is gone.
    pub(crate) fn set(&mut self, family: Family, bits: u128, len: u8, number: u32) {
        let place = 1 << len | bits.checked_shr(128 - u32::from(len)).unwrap_or(0) as usize;
        self.numbers[usize::from(family == Family::V6)][place] = number;
        self.changed = true;
    }

    /// All are gone.
    pub(crate) fn clear(&mut self) {
        self.numbers = [[0; PARTS]; 2];
        self.changed = true;
    }

    /// The answer of the longest one around a part of the addresses; 0: none.
    fn around(&self, family: usize, part: usize) -> u32 {
        let places = (1..=none::SHORT_BITS).map(|up| (PARTS | part) >> up);
        places.map(|place| self.numbers[family][place]).find(|&number| number != 0).unwrap_or(0)
    }
}

/// The writer's book of answers.
#[derive(Debug)]
pub(crate) struct Answers {
    pages: Pages<PER_PAGE>,
    places: Pages<PER_PAGE>,
    /// A place was written since the copies for short prefixes were made.
    moved: bool,
    numbers: HashMap<Answer, u32, RandomState>,
    /// Per number: the pair, and how many prefixes have it.
    entries: Vec<(Answer, u32)>,
    free: Vec<u32>,
    groups: HashMap<u32, GroupState, RandomState>,
}

#[derive(Default, Debug)]
struct GroupState {
    /// The group's block and its words; 0: not set.
    block: u32,
    words: u32,
    answers: Vec<u32>,
}

impl Answers {
    pub(crate) fn new<M: Memory>(store: &mut Store<M>) -> Result<Answers, Full> {
        let mut answers = Answers {
            pages: Pages::default(),
            places: Pages::default(),
            moved: false,
            numbers: HashMap::default(),
            entries: Vec::new(),
            free: Vec::new(),
            groups: HashMap::default(),
        };
        answers.first_page(store)?;
        Ok(answers)
    }

    fn first_page<M: Memory>(&mut self, store: &mut Store<M>) -> Result<(), Full> {
        // Nobody's: their pairs are never asked for.
        let nobody = (Answer::new(GroupId::NONE, RouteType::Throw), 0);
        self.entries.resize(none::FIRST as usize, nobody);
        self.pages.push(store)?;
        self.places.push(store)
    }

    /// The tops of both arrays, as a root has them.
    pub(crate) fn tops(&self) -> [u32; 2] {
        [self.pages.top, self.places.top]
    }

    /// Both words of answer `number` are this now.
    fn put<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        number: u32,
        answer: u64,
        place: u64,
    ) -> Result<(), Full> {
        let (page, at) = (number as usize / PER_PAGE, number as usize % PER_PAGE);
        let first = self.pages.own(store, page)?;
        store.put(first + at, answer);
        let first = self.places.own(store, page)?;
        store.put(first + at, place);
        Ok(())
    }

    /// Brings what stands for table main's short prefixes up to date: before each
    /// commit.
    pub(crate) fn finish<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        short: &mut Short,
    ) -> Result<(), Full> {
        if !core::mem::take(&mut short.changed) & !core::mem::take(&mut self.moved) {
            return Ok(());
        }
        for part in 0..2 * PARTS {
            let number = short.around(part / PARTS, part % PARTS);
            let word = |top| store.get(answer_at(number, store.mem(), top));
            let wanted = if number == 0 { [0; 2] } else { self.tops().map(word) };
            let found = self.tops().map(|top| store.get(answer_at(part as u32, store.mem(), top)));
            if found != wanted {
                self.put(store, part as u32, wanted[0], wanted[1])?;
            }
        }
        Ok(())
    }

    /// Forgets every answer: no route is left. Groups stay.
    pub(crate) fn clear<M: Memory>(&mut self, store: &mut Store<M>) -> Result<(), Full> {
        self.pages.clear(store);
        self.places.clear(store);
        self.numbers.clear();
        self.entries.clear();
        self.free.clear();
        for group in self.groups.values_mut() {
            group.answers.clear();
        }
        self.groups.retain(|_, group| group.block != 0);
        self.first_page(store)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The number of an answer that some prefix has.
    pub(crate) fn number(&self, answer: Answer) -> u32 {
        self.numbers.get(&answer).copied().unwrap_or(0)
    }

    /// One prefix more has this answer; returns its number.
    pub(crate) fn acquire<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        answer: Answer,
    ) -> Result<u32, Full> {
        if let Some(&number) = self.numbers.get(&answer) {
            self.entries[number as usize].1 += 1;
            return Ok(number);
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                if self.entries.len() == self.pages.count as usize * PER_PAGE {
                    self.pages.push(store)?;
                    self.places.push(store)?;
                }
                self.entries.push((answer, 0));
                self.entries.len() as u32 - 1
            }
        };
        self.entries[number as usize] = (answer, 1);
        self.numbers.insert(answer, number);
        let group = answer.group();
        let mut block = 0;
        if group != GroupId::NONE {
            let state = self.groups.entry(group.0).or_default();
            state.answers.push(number);
            block = u64::from(state.block) | u64::from(state.words) << 32;
        }
        self.put(store, number, answer.0.get(), block)?;
        Ok(number)
    }

    /// One prefix less has it.
    pub(crate) fn release(&mut self, number: u32) {
        let (answer, uses) = &mut self.entries[number as usize];
        *uses -= 1;
        if *uses > 0 {
            return;
        }
        let answer = *answer;
        self.numbers.remove(&answer);
        self.free.push(number);
        let group = answer.group().0;
        if let Some(state) = self.groups.get_mut(&group) {
            state.answers.retain(|&other| other != number);
            if state.block == 0 && state.answers.is_empty() {
                self.groups.remove(&group);
            }
        }
    }

    /// The group is this now: writes its block, and into its answers where it
    /// is. Returns the block and its words, as the tree of groups has them.
    pub(crate) fn set_group<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        group: &Group,
    ) -> Result<u64, Full> {
        let words = block_words(group);
        let block = store.allocate(words.len())?;
        for (index, word) in words.iter().enumerate() {
            store.put(word_of(block) + index, *word);
        }
        self.replace_block(store, group.id, block, words.len() as u32)
    }

    /// The group is gone.
    pub(crate) fn remove_group<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        group: GroupId,
    ) -> Result<(), Full> {
        self.replace_block(store, group, 0, 0)?;
        if self.groups.get(&group.0).is_some_and(|state| state.answers.is_empty()) {
            self.groups.remove(&group.0);
        }
        Ok(())
    }

    fn replace_block<M: Memory>(
        &mut self,
        store: &mut Store<M>,
        group: GroupId,
        block: u32,
        words: u32,
    ) -> Result<u64, Full> {
        let state = self.groups.entry(group.0).or_default();
        if state.block != 0 {
            store.retire(state.block);
        }
        (state.block, state.words) = (block, words);
        let packed = u64::from(block) | u64::from(words) << 32;
        for &number in &state.answers {
            let number = number as usize;
            let at = self.places.own(store, number / PER_PAGE)? + number % PER_PAGE;
            store.put(at, packed);
            self.moved = true;
        }
        Ok(packed)
    }
}

/// Words of a group's block per next hop.
const HOP_WORDS: usize = 4;
/// Words before the first next hop.
const HOPS_AT: usize = 2;

fn block_words(group: &Group) -> Vec<u64> {
    let mut bytes = Vec::new();
    encode_group(group, &mut bytes);
    let mut words =
        vec![u64::from(group.id.0) | u64::from(group.nhid) << 32, group.hops.len() as u64];
    let mut weight = 0_u64;
    for (hop, bytes) in group.hops.iter().zip(bytes[16..].chunks_exact(24)) {
        for word in bytes.chunks_exact(8) {
            words.push(u64::from_le_bytes(word.try_into().expect("chunks of 8")));
        }
        if !hop.flags.contains(HopFlags::DEAD) {
            weight += u64::from(hop.weight);
        }
        words.push(weight);
    }
    words[1] |= weight << 32;
    words
}

/// A next hop from its three canonical words.
fn hop_of(words: [u64; 3]) -> NextHop {
    let [first, low, high] = words;
    let link = first as u32;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&low.to_le_bytes());
    bytes[8..].copy_from_slice(&high.to_le_bytes());
    let gateway = match first >> 56 {
        4 => Some(core::net::IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])),
        6 => Some(core::net::IpAddr::from(bytes)),
        _ => None,
    };
    NextHop {
        gateway,
        link: (link != 0).then_some(rtm_model::LinkId(link)),
        weight: (first >> 32) as u16,
        flags: HopFlags((first >> 48) as u8),
    }
}

fn hop_at(words: &impl Words, block: usize, index: usize) -> NextHop {
    let at = block + HOPS_AT + index * HOP_WORDS;
    hop_of(core::array::from_fn(|word| words.get(at + word)))
}

/// The group in the block that `packed` (as in an answer, or in the tree of
/// groups) names.
pub(crate) fn group_in(words: &impl Words, packed: u64) -> Option<Group> {
    let block = word_of(packed as u32);
    if packed == 0 {
        return None;
    }
    let first = words.get(block);
    let count = (words.get(block + 1) as u32 as usize).min(rtm_model::HOPS_MAX);
    Some(Group {
        id: GroupId(first as u32),
        nhid: (first >> 32) as u32,
        hops: (0..count).map(|index| hop_at(words, block, index)).collect(),
    })
}

/// The next hop of the flow `hash` in that block: each living next hop gets
/// the share of all hashes that its weight is of all weights. `None`: all are
/// dead, or there is none.
pub(crate) fn hop_in(words: &impl Words, packed: u64, hash: u32) -> Option<NextHop> {
    if packed == 0 {
        return None;
    }
    let block = word_of(packed as u32);
    let second = words.get(block + 1);
    let (count, weight) = ((second as u32 as usize).min(rtm_model::HOPS_MAX), second >> 32);
    if weight == 0 {
        return None;
    }
    let place = (u64::from(hash) * weight) >> 32;
    let (mut low, mut high) = (0, count.max(1) - 1);
    while low < high {
        let middle = (low + high) / 2;
        if words.get(block + HOPS_AT + middle * HOP_WORDS + 3) > place {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(hop_at(words, block, low))
}
