//! Notes: what changed in a node that is published.
//!
//! Replacing a value, the most frequent change by far, would copy a leaf and the
//! nodes above it. So it is noted instead: "from version v on, entry i has this
//! value (is gone)". A note is written while v is being made, into words that no
//! version before made use of, and names v; so who reads an older version passes
//! over it, whenever it is written, and a version shows the same from its
//! publication on, whatever is noted later. When all five are taken the next
//! change copies the node, and what they say is worked into the copy. An entry
//! that is noted to be gone keeps its place until then: most come back. A leaf
//! never gets so empty by notes that it would have to be merged, so none has only
//! entries that are gone.
use crate::store::{Memory, Store};
use crate::words::Words;

/// Notes of a node. With more, entries take more room: 39 of routes to IPv4
/// prefixes are in a leaf, without any it would be 42.
pub(super) const NOTES: usize = 5;
/// Where they begin.
const AT: usize = 1;
/// Where what they say begins.
const SAID_AT: usize = AT + NOTES;

/// Where they end, in a node in which they say `words` words each.
pub(super) const fn end(words: usize) -> usize {
    SAID_AT + NOTES * words
}

/// Where in a node's words what a note says stands, if it has `words` words.
pub(super) fn said_at(node: usize, number: usize, words: usize) -> usize {
    node + SAID_AT + number * words
}

/// A note's first word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Note(u64);

impl Note {
    const GONE: u64 = 1 << 7;

    /// Of the entry number `index`, from `version` on.
    pub(super) fn new(version: u64, index: usize, gone: bool) -> Note {
        Note(version << 8 | index as u64 | if gone { Note::GONE } else { 0 })
    }

    pub(super) fn at(words: &impl Words, node: usize, number: usize) -> Note {
        Note(words.get(node + AT + number))
    }

    pub(super) fn is_free(self) -> bool {
        self.0 == 0
    }

    fn version(self) -> u64 {
        self.0 >> 8
    }

    pub(super) fn index(self) -> usize {
        (self.0 & (Note::GONE - 1)) as usize
    }

    pub(super) fn is_gone(self) -> bool {
        self.0 & Note::GONE != 0
    }

    /// Writes it, once what it says is written.
    pub(super) fn put<M: Memory>(self, store: &Store<M>, node: usize, number: usize) {
        store.put(node + AT + number, self.0);
    }
}

/// The entries of a node that are gone by its notes, a bit each.
pub(super) fn gone<M: Memory>(store: &Store<M>, node: usize) -> u128 {
    let notes = (0..NOTES).map(|number| Note::at(store.mem(), node, number));
    notes.take_while(|note| !note.is_free()).fold(0, |gone, note| {
        gone & !(1 << note.index()) | u128::from(note.is_gone()) << note.index()
    })
}

/// Where a note goes: over one on the same entry of the version that is being
/// made, which nobody has seen, or behind the last. `None`: no room.
pub(super) fn free<M: Memory>(store: &Store<M>, node: usize, note: Note) -> Option<usize> {
    (0..NOTES).find(|&number| {
        let found = Note::at(store.mem(), node, number);
        found.is_free() || found.0 | Note::GONE == note.0 | Note::GONE
    })
}

/// The last note on an entry that `as_of` a version is seen, and its number.
///
/// Which it is, if any, is nothing that a processor could guess, so it is counted
/// without a branch.
#[inline]
pub(super) fn seen(
    words: &impl Words,
    node: usize,
    index: usize,
    as_of: u64,
) -> Option<(usize, Note)> {
    let mut behind = 0;
    for number in 0..NOTES {
        let note = Note::at(words, node, number);
        // A free one is of no version, and seen by nobody.
        let is_seen = note.version().wrapping_sub(1) < as_of;
        let is_it = is_seen & (note.index() == index);
        // They come in the order of versions.
        behind = if is_it { number + 1 } else { behind };
    }
    let number = behind.checked_sub(1)?;
    Some((number, Note::at(words, node, number)))
}

/// A node without notes: the first words of all of them.
pub(super) fn none<M: Memory>(store: &Store<M>, node: usize) {
    (0..NOTES).for_each(|number| store.put(node + AT + number, 0));
}
