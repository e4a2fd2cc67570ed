//! Snapshots that many sessions share.
//!
//! A *generation* is one walk from the beginning of the modification order to
//! its tail, encoded once into chunks, BEGIN and END included. Whoever joins
//! while it is made, or a little later, reads the same bytes: a thousand
//! joiners cost one encoding, and each no more than a place in it.
//!
//! ```text
//!   chunks   +---------+---------+---------+----
//!            | BEGIN 0 | SET ... | SET ... | ...        grows in slices
//!            +---------+---------+---------+----
//!              ^ joiner     ^ another            at the tail: END, and the place in
//!                                                 the view's journal to go on from
//! ```
//!
//! At the END a reader goes on in the journal (one that joined after END was
//! written passes over it and gets one behind the journal's records, so that no END is
//! of a revision before it came), or, if that has moved on too
//! far, catches up by a walk of its own from END's revision.
//!
//! **Why it ends** though the table changes: each turn's slice is larger than
//! what the turn changed.
//!
//! **Why it is bounded**: at most two of a view, `snapshot_bytes_max` in all;
//! the one that must go, goes, whoever is reading it. A reader whose generation
//! is gone knows the last record that it got, and in the modification order
//! everything up to there is told: it goes on by a walk of its own. So one that
//! reads slowly, or not at all, keeps nothing alive.

use crate::Millis;
use crate::journal::Place;
use crate::record::Revision;
use crate::walk::{Ground, Stop, Walk};
use crate::wire::records::classify;
use crate::wire::{HEADER_BYTES, frame_type};

/// Bytes of a chunk: what one slice of a `writev` is at most, about.
const SNAPSHOT_CHUNK_BYTES: usize = 64 * 1024;

/// A chunk is full when so much of it is used: the last record finds room
/// behind, unless it is a large group.
const SNAPSHOT_CHUNK_FILL: usize = SNAPSHOT_CHUNK_BYTES - 1024;

/// A finished generation that nobody has read from for so long goes.
const GENERATION_IDLE_MS: Millis = 3_000;

/// And after so long it goes whoever reads it: a slow reader costs less
/// walking.
const GENERATION_AGE_MS: Millis = 30_000;

/// A place in a generation: a frame boundary.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ChunkPlace {
    pub(crate) chunk: u32,
    pub(crate) offset: u32,
    /// Records before it.
    pub(crate) records: u64,
    /// The revision of the last record before it: up to the one before that
    /// revision, everything is told.
    pub(crate) revision: Revision,
    /// Is that a record of the modification order, so that a reader can go on
    /// from there by itself?
    pub(crate) among: bool,
}

struct Chunk {
    bytes: Vec<u8>,
    /// The place behind its last frame, once it is full.
    end: ChunkPlace,
}

pub(crate) struct Generation {
    pub(crate) id: u64,
    pub(crate) view: usize,
    pub(crate) walk: Walk,
    chunks: Vec<Chunk>,
    /// Where the walk began to go over the modification order: a reader that
    /// hasn't come so far has nothing to go on from.
    items_from: Option<(u32, u32)>,
    /// Where to go on in the view's journal, and END's revision; `None` while
    /// it is being made.
    pub(crate) done: Option<(Place, Revision)>,
    pub(crate) done_at: Millis,
    pub(crate) last_read: Millis,
    /// Sessions (slots of the hub) that wait for more of it.
    pub(crate) waiters: Vec<u32>,
}

impl Generation {
    pub(crate) fn new(id: u64, view: usize, walk: Walk, now: Millis) -> Generation {
        Generation {
            id,
            view,
            walk,
            chunks: Vec::new(),
            items_from: None,
            done: None,
            done_at: 0,
            last_read: now,
            waiters: Vec::new(),
        }
    }

    /// When it goes, unless somebody reads from it meanwhile.
    pub(crate) fn expires(&self) -> Option<Millis> {
        self.done?;
        Some((self.last_read + GENERATION_IDLE_MS).min(self.done_at + GENERATION_AGE_MS))
    }

    /// Bytes that are allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes.capacity() + size_of::<Chunk>()).sum()
    }

    /// Goes on with the walk, until the open chunk is full at the most.
    pub(crate) fn advance_walk(&mut self, ground: &mut Ground<'_>, budget: &mut usize) -> Stop {
        if self.chunks.last().is_none_or(|chunk| chunk.bytes.len() >= SNAPSHOT_CHUNK_FILL) {
            let bytes = Vec::with_capacity(SNAPSHOT_CHUNK_BYTES);
            self.chunks.push(Chunk { bytes, end: ChunkPlace::default() });
        }
        let index = self.chunks.len() - 1;
        let bytes = &mut self.chunks[index].bytes;
        let stop = self.walk.advance(ground, bytes, SNAPSHOT_CHUNK_FILL, budget);
        if let (None, Some(at)) = (self.items_from, self.walk.items_at) {
            self.items_from = Some((index as u32, at as u32));
        }
        if matches!(stop, Stop::Full | Stop::Done) {
            self.close_chunk();
        }
        stop
    }

    /// The last chunk is full, or the walk has ended.
    fn close_chunk(&mut self) {
        let index = self.chunks.len().saturating_sub(1);
        let before = index.checked_sub(1).map_or(ChunkPlace::default(), |i| self.chunks[i].end);
        let Some(chunk) = self.chunks.last_mut() else { return };
        let mut place = ChunkPlace { chunk: index as u32, offset: 0, ..before };
        while (place.offset as usize) < chunk.bytes.len() {
            place = step(place, &chunk.bytes[place.offset as usize..]);
        }
        chunk.end = place;
        if chunk.bytes.capacity() - chunk.bytes.len() > 4096 {
            chunk.bytes.shrink_to_fit();
        }
    }

    /// The bytes from a place on, a slice a chunk, about `bytes_max`.
    pub(crate) fn slices<'a>(
        &'a self,
        from: &ChunkPlace,
        bytes_max: usize,
        mut push: impl FnMut(&'a [u8]) -> bool,
    ) {
        let mut left = bytes_max;
        let mut offset = from.offset as usize;
        for chunk in self.chunks.get(from.chunk as usize..).unwrap_or_default() {
            let bytes = chunk.bytes.get(offset..).unwrap_or_default();
            let count = bytes.len().min(left);
            if count > 0 && !push(&bytes[..count]) {
                return;
            }
            left -= count;
            if left == 0 {
                return;
            }
            offset = 0;
        }
    }

    /// Goes `bytes` on from a place: the frame boundary at or behind that
    /// point, and the bytes still missing to it.
    pub(crate) fn advance(&self, from: &ChunkPlace, bytes: usize) -> (ChunkPlace, &[u8]) {
        let mut place = *from;
        let mut left = bytes;
        while let Some(chunk) = self.chunks.get(place.chunk as usize) {
            let here = chunk.bytes.len() - place.offset as usize;
            let is_last = place.chunk as usize + 1 == self.chunks.len();
            if left >= here && !is_last {
                left -= here;
                place = ChunkPlace { chunk: place.chunk + 1, offset: 0, ..chunk.end };
                continue;
            }
            let target = place.offset as usize + left.min(here);
            while (place.offset as usize) < target {
                place = step(place, &chunk.bytes[place.offset as usize..]);
            }
            return (place, &chunk.bytes[target..place.offset as usize]);
        }
        (place, &[])
    }

    /// Is there nothing (yet) behind this place?
    pub(crate) fn is_at_end(&self, place: &ChunkPlace) -> bool {
        let mut offset = place.offset as usize;
        let chunks = self.chunks.get(place.chunk as usize..).unwrap_or_default();
        // The last one may be open and empty.
        chunks.iter().all(|chunk| chunk.bytes.len() <= std::mem::take(&mut offset))
    }

    /// Bytes from a place to the end of what there is.
    pub(crate) fn distance(&self, from: &ChunkPlace) -> u64 {
        let chunks = self.chunks.get(from.chunk as usize..).unwrap_or_default();
        let bytes: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        (bytes as u64).saturating_sub(u64::from(from.offset))
    }

    /// Has a reader at this place come so far that it can go on by itself?
    pub(crate) fn is_among_items(&self, place: &ChunkPlace) -> bool {
        self.items_from.is_some_and(|from| (place.chunk, place.offset) > from)
    }
}

/// The place behind the frame that stands at a place.
fn step(mut place: ChunkPlace, frame: &[u8]) -> ChunkPlace {
    let length = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]);
    let kind = u16::from_le_bytes([frame[4], frame[5]]);
    if classify(kind).is_some() || kind == frame_type::FLUSH {
        let mut revision = [0; 8];
        revision.copy_from_slice(&frame[HEADER_BYTES..HEADER_BYTES + 8]);
        place.revision = Revision(u64::from_le_bytes(revision));
        place.records += 1;
    }
    place.offset += length;
    place
}
