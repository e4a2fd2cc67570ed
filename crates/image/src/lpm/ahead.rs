//! Asking for the nodes that changes of many prefixes will rewrite.
use core::hint::black_box;

use rtm_model::Family;

use super::node::LINE_WORDS;
use super::walk::{PAGE4_BITS, PAGE6_BITS, octet};
use super::wide::Wide;
use crate::instructions::Portable;
use crate::layout::{tag, wide, word_of};
use crate::store::{Memory, Store};

/// How far one change's way was gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) entry: u32,
    pub(crate) bits: u128,
    pub(crate) len: u8,
}

impl Way {
    fn is_open(&self) -> bool {
        self.entry & tag::LEAF == 0
    }
}

/// Goes all ways in step from the root's entries on, a level at a time.
pub(crate) fn touch<M: Memory>(
    store: &Store<M>,
    family: Family,
    wide: Option<&Wide>,
    ways: &mut [Way],
) {
    ways.iter_mut().filter(|way| way.entry & tag::KIND == tag::SMALL).for_each(|way| {
        way.entry = tag::LEAF;
    });
    // All of a batch that have a wide root have the same; the others of it then do without.
    let wide = wide.filter(|wide| ways.iter().any(|way| way.entry == wide.reference()));
    if let Some(wide) = wide {
        let place = |way: &Way| (way.bits >> (128 - wide::BITS)) as usize;
        ways.iter().for_each(|way| wide.prefetch(store, place(way)));
        for way in ways.iter_mut() {
            let under = way.entry == wide.reference();
            way.entry = if under { wide.get(store, place(way)).entry } else { tag::LEAF };
        }
    }
    let (page_bits, pages) = if family == Family::V4 { (PAGE4_BITS, 2) } else { (PAGE6_BITS, 3) };
    let pages = if wide.is_some() { 0 } else { pages };
    for level in 0..pages {
        let place = |way: &Way| (way.bits << (page_bits * level) >> (128 - page_bits)) as usize;
        if level > 0 {
            for way in ways.iter().filter(|way| way.is_open()) {
                store.mem().prefetch(word_of(way.entry) + place(way) / 2);
            }
        }
        for way in ways.iter_mut().filter(|way| way.is_open()) {
            way.entry = store.get32(word_of(way.entry), place(way));
        }
    }
    let mut from = page_bits * pages;
    loop {
        for way in ways.iter().filter(|way| way.is_open()) {
            store.mem().prefetch(word_of(way.entry));
            store.mem().prefetch(word_of(way.entry) + LINE_WORDS);
        }
        let mut sum = 0;
        for way in ways.iter().filter(|way| way.is_open()) {
            sum ^= store.depths(way.entry & tag::OFFSET, 1)[0];
        }
        black_box(sum);
        // IPv4 prefixes mostly end in the first nodes below the pages.
        let deeper = |way: &Way| way.is_open() && u32::from(way.len) > from + 8;
        if family == Family::V4 || !ways.iter().any(deeper) {
            return;
        }
        for way in ways.iter_mut().filter(|way| way.is_open()) {
            way.entry = if deeper(way) {
                octet(store.mem(), Portable, way.entry, (way.bits >> (120 - from)) as u32)
            } else {
                tag::LEAF
            };
        }
        from += 8;
    }
}
