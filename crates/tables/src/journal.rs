//! The journal: a bounded ring of encoded records.
//!
//! A record is encoded once, into the tail of this ring; every live session
//! writes to its socket straight out of it. A session keeps no more than a
//! [`Place`].
//!
//! ```text
//!   chunks of 64 KiB, numbered for ever; offset = number * 64 Ki + position
//!
//!   +-----------+-----------+-----------+-----------+
//!   | 17        | 18        | 19        | 20 |      |
//!   +-----------+-----------+-----------+-----------+
//!   ^ oldest         ^ a session's cursor  ^ visible ^ head
//! ```
//!
//! A frame never straddles two chunks: what doesn't fit begins the next one, so
//! every frame is one slice, and a frame boundary can be found by walking from
//! one of the sixteen [`Mark`]s that each chunk has. A full ring takes its
//! oldest chunk for the new tail: whose cursor stood there finds it gone
//! ([`Journal::holds`]) and catches up by the modification order. Chunks are
//! allocated as they are first needed.
//!
//! Why a cursor is safe: it stands on frame boundaries only (a session that
//! wrote half a frame copies the other half), and a chunk is reused only as a
//! whole, so a place whose chunk is there can be read to its end.
//!
//! Revisions: a place's revision is that of the last whole transaction before
//! it. The head stands between transactions at the end of each turn; what lies
//! behind `visible` is not sent before the turn is published.

use std::collections::VecDeque;

use crate::Millis;
use crate::record::{Flush, Record, RecordOp, Revision};
use crate::wire::records::{self, RECORD_BYTES_MAX};
use crate::wire::{HEADER_BYTES, LAST};
use rtm_model::EntityKind;

/// Bytes of a chunk: what the ring grows by, and what one slice of a `writev`
/// is at most.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// A [`Mark`] stands in each so many bytes: how far a search walks.
const MARK_EVERY: usize = CHUNK_BYTES / MARKS;
const MARKS: usize = 16;

const _: () = assert!(RECORD_BYTES_MAX < CHUNK_BYTES);

/// A place in a journal: always a frame boundary.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Place {
    /// Chunk's number times [`CHUNK_BYTES`] plus the position in it.
    pub(crate) offset: u64,
    /// The last whole transaction before it.
    pub(crate) revision: Revision,
    /// Records before it, since the journal began.
    pub(crate) records: u64,
}

/// The first frame boundary in one of a chunk's sixteen parts.
#[derive(Clone, Copy, Default)]
struct Mark {
    place: Place,
    /// When the frame behind it was appended.
    at: Millis,
    /// Does it stand between two transactions?
    between: bool,
}

struct Chunk {
    bytes: Box<[u8]>,
    used: usize,
    marks: [Mark; MARKS],
    /// How many of the marks are set.
    marked: usize,
}

impl Chunk {
    fn new() -> Chunk {
        Chunk {
            bytes: vec![0; CHUNK_BYTES].into_boxed_slice(),
            used: 0,
            marks: [Mark::default(); MARKS],
            marked: 0,
        }
    }
}

pub(crate) struct Journal {
    chunks: VecDeque<Chunk>,
    /// The number of the first chunk.
    first: u64,
    chunks_max: usize,
    head: Place,
    visible: Place,
    /// Where resuming is possible from: the state when the ring began, then
    /// the state at its oldest frame.
    oldest: Revision,
    /// Position in the last chunk of the newest frame.
    newest: usize,
    /// Has a transaction begun and not ended?
    open: bool,
}

impl Journal {
    /// A journal of at most `bytes` that begins after `revision`.
    pub(crate) fn new(bytes: usize, revision: Revision) -> Journal {
        let head = Place { offset: 0, revision, records: 0 };
        Journal {
            chunks: VecDeque::new(),
            first: 0,
            chunks_max: Journal::chunks_of(bytes),
            head,
            visible: head,
            oldest: revision,
            newest: 0,
            open: false,
        }
    }

    fn chunks_of(bytes: usize) -> usize {
        (bytes / CHUNK_BYTES).max(2)
    }

    /// Another bound; what is over it goes at once.
    pub(crate) fn resize(&mut self, bytes: usize) {
        self.chunks_max = Journal::chunks_of(bytes);
        while self.chunks.len() > self.chunks_max {
            self.drop_oldest();
        }
        self.chunks.shrink_to_fit();
    }

    /// Where the next record goes.
    pub(crate) fn head(&self) -> Place {
        self.head
    }

    /// Up to where sessions may read.
    pub(crate) fn visible(&self) -> Place {
        self.visible
    }

    /// Makes all that was appended visible.
    pub(crate) fn publish(&mut self) {
        debug_assert!(!self.open, "a transaction is published whole");
        self.visible = self.head;
    }

    /// Bytes that it may hold.
    pub(crate) fn capacity(&self) -> usize {
        self.chunks_max * CHUNK_BYTES
    }

    /// Bytes that are allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.len() * (CHUNK_BYTES + size_of::<Chunk>())
    }

    /// Can reading go on at this place?
    pub(crate) fn holds(&self, place: Place) -> bool {
        place.offset >= self.first * CHUNK_BYTES as u64
    }

    /// Appends a record. `last` may be set later: [`Journal::end_transaction`].
    pub(crate) fn append(&mut self, record: &Record<'_>, now: Millis) {
        self.append_parts(record.op, record.kind, record.revision, record.last, record.body, now);
    }

    /// Appends a record.
    pub(crate) fn append_parts(
        &mut self,
        op: RecordOp,
        kind: EntityKind,
        revision: Revision,
        last: bool,
        body: &[u8],
        now: Millis,
    ) {
        let head = records::head(op, kind, revision, last, body.len());
        self.append_frame(&head, body, now);
        self.open = !last;
        if last {
            self.head.revision = revision;
        }
    }

    /// Appends a whole flush, a transaction of its own.
    pub(crate) fn append_flush(&mut self, revision: Revision, what: Flush, now: Millis) {
        let mut frame = Vec::with_capacity(records::FLUSH_BYTES);
        records::encode_flush(&mut frame, revision, what);
        self.append_frame(&frame, &[], now);
        self.open = false;
        self.head.revision = revision;
    }

    /// The newest record was the last of its transaction after all.
    pub(crate) fn end_transaction(&mut self, revision: Revision) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.bytes[self.newest + 6] |= LAST as u8;
        }
        self.head.revision = revision;
    }

    fn append_frame(&mut self, head: &[u8], body: &[u8], now: Millis) {
        let length = head.len() + body.len();
        if self.chunks.back().is_none_or(|chunk| chunk.used + length > CHUNK_BYTES) {
            self.next_chunk();
        }
        let number = self.first + self.chunks.len() as u64 - 1;
        let open = self.open;
        let Some(chunk) = self.chunks.back_mut() else { return };
        let position = chunk.used;
        self.head.offset = number * CHUNK_BYTES as u64 + position as u64;
        while chunk.marked < MARKS && chunk.marked * MARK_EVERY <= position {
            chunk.marks[chunk.marked] = Mark { place: self.head, at: now, between: !open };
            chunk.marked += 1;
        }
        chunk.bytes[position..position + head.len()].copy_from_slice(head);
        chunk.bytes[position + head.len()..position + length].copy_from_slice(body);
        chunk.used += length;
        self.newest = position;
        self.head.offset += length as u64;
        self.head.records += 1;
    }

    fn next_chunk(&mut self) {
        let mut chunk = if self.chunks.len() < self.chunks_max {
            Chunk::new()
        } else {
            match self.drop_oldest() {
                Some(chunk) => chunk,
                None => Chunk::new(),
            }
        };
        chunk.used = 0;
        chunk.marked = 0;
        self.chunks.push_back(chunk);
    }

    fn drop_oldest(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        self.first += 1;
        self.oldest = match self.chunks.front() {
            Some(next) if next.marks[0].between => next.marks[0].place.revision,
            // It begins inside a transaction: only behind that one.
            Some(next) => Revision(next.marks[0].place.revision.0 + 1),
            None => self.head.revision,
        };
        Some(chunk)
    }

    /// Forgets all: the next record is of a transaction after `revision`, and
    /// no cursor of before is held any more.
    pub(crate) fn leap(&mut self, revision: Revision) {
        self.first += self.chunks.len() as u64 + 1;
        self.chunks.clear();
        self.head.offset = self.first * CHUNK_BYTES as u64;
        self.head.revision = revision;
        self.visible = self.head;
        self.oldest = revision;
        self.open = false;
    }

    /// Bytes from a place to the visible end, gaps between chunks included.
    pub(crate) fn distance(&self, from: Place) -> u64 {
        self.visible.offset.saturating_sub(from.offset)
    }

    /// The bytes from a place on, at most `count` slices and `bytes_max` bytes
    /// of them, none behind what is visible; each a run of whole frames, but
    /// for the last if `bytes_max` cuts it.
    pub(crate) fn slices<'a>(
        &'a self,
        from: Place,
        bytes_max: usize,
        mut push: impl FnMut(&'a [u8]) -> bool,
    ) {
        let mut left = bytes_max;
        let (mut index, mut position) = self.locate_chunk(from.offset);
        while let Some(chunk) = self.chunks.get(index) {
            let number = self.first + index as u64;
            let end = self.visible_end(number, chunk);
            if position < end {
                let count = (end - position).min(left);
                left -= count;
                if !push(&chunk.bytes[position..position + count]) || left == 0 {
                    return;
                }
            }
            index += 1;
            position = 0;
        }
    }

    /// All bytes that were appended since the last [`Journal::publish`], in runs
    /// of whole frames. False: the ring didn't hold them all.
    pub(crate) fn unpublished(&self, mut take: impl FnMut(&[u8])) -> bool {
        if !self.holds(self.visible) {
            return false;
        }
        let (mut index, mut position) = self.locate_chunk(self.visible.offset);
        while let Some(chunk) = self.chunks.get(index) {
            if position < chunk.used {
                take(&chunk.bytes[position..chunk.used]);
            }
            index += 1;
            position = 0;
        }
        true
    }

    /// How far into this chunk sessions may read.
    fn visible_end(&self, number: u64, chunk: &Chunk) -> usize {
        let (last, position) = split(self.visible.offset);
        match number.cmp(&last) {
            std::cmp::Ordering::Less => chunk.used,
            std::cmp::Ordering::Equal => position.min(chunk.used),
            // A full chunk ends at the next one's beginning.
            std::cmp::Ordering::Greater => 0,
        }
    }

    fn locate_chunk(&self, offset: u64) -> (usize, usize) {
        let (number, position) = split(offset);
        let Some(index) = number.checked_sub(self.first) else { return (0, 0) };
        // An end of a full chunk is the beginning of the next in offsets only
        // if the chunk was filled to the last byte; both are the same place.
        (index as usize, position)
    }

    /// Goes `bytes` on from a place, as [`Journal::slices`] gave them. The
    /// frame boundary at or behind that point, the bytes still missing to it,
    /// and how many of `bytes` lay behind the visible end.
    pub(crate) fn advance(&self, from: Place, bytes: usize) -> Advanced<'_> {
        let mut left = bytes;
        let (mut index, mut position) = self.locate_chunk(from.offset);
        while let Some(chunk) = self.chunks.get(index) {
            let number = self.first + index as u64;
            let end = self.visible_end(number, chunk);
            let here = end.saturating_sub(position);
            if left < here {
                return self.boundary(chunk, number, position + left);
            }
            left -= here;
            index += 1;
            position = 0;
        }
        Advanced { place: self.visible, rest: &[], over: left }
    }

    /// The first frame boundary at or behind `target`, inside a chunk.
    fn boundary<'a>(&'a self, chunk: &'a Chunk, number: u64, target: usize) -> Advanced<'a> {
        let base = number * CHUNK_BYTES as u64;
        let mut place = chunk.mark_before(base + target as u64).place;
        loop {
            let position = (place.offset - base) as usize;
            if position >= target {
                return Advanced { place, rest: &chunk.bytes[target..position], over: 0 };
            }
            step(&mut place, &chunk.bytes[position..chunk.used]);
        }
    }

    /// Where to go on for who has the state of `revision`; `None`: too long
    /// ago, or never.
    pub(crate) fn find(&self, revision: Revision) -> Option<Place> {
        if revision < self.oldest || revision > self.visible.revision {
            return None;
        }
        if revision == self.visible.revision {
            return Some(self.visible);
        }
        // From the last mark that is before that state, frame by frame, until
        // the next frame is of a later one. A transaction's inner marks have
        // the revision before it, so this is never far.
        let before = |mark: &Mark| mark.place.revision < revision;
        let index = self.chunks.partition_point(|chunk| before(&chunk.marks[0]));
        let Some(mut index) = index.checked_sub(1) else {
            let mark = &self.chunks.front()?.marks[0];
            return mark.between.then_some(mark.place);
        };
        let chunk = &self.chunks[index];
        let mark = chunk.marks[..chunk.marked].partition_point(before) - 1;
        let mut place = chunk.marks[mark].place;
        while let Some(chunk) = self.chunks.get(index) {
            let base = (self.first + index as u64) * CHUNK_BYTES as u64;
            place.offset = place.offset.max(base);
            while let Some(rest) = chunk.bytes[..chunk.used].get((place.offset - base) as usize..) {
                if rest.len() < HEADER_BYTES + 8 {
                    break;
                }
                if revision_of(rest) > revision {
                    return Some(place);
                }
                step(&mut place, rest);
            }
            index += 1;
        }
        Some(place)
    }

    /// When the frame behind this place was appended, or a little before.
    pub(crate) fn appended_at(&self, place: Place) -> Option<Millis> {
        let (index, _) = self.locate_chunk(place.offset);
        Some(self.chunks.get(index)?.mark_before(place.offset).at)
    }
}

impl Chunk {
    fn mark_before(&self, offset: u64) -> &Mark {
        let marks = &self.marks[..self.marked.max(1)];
        let after = marks.partition_point(|mark| mark.place.offset <= offset);
        &marks[after.saturating_sub(1)]
    }
}

/// Where [`Journal::advance`] got to.
pub(crate) struct Advanced<'a> {
    /// The frame boundary.
    pub(crate) place: Place,
    /// The rest of a frame, up to there.
    pub(crate) rest: &'a [u8],
    /// Bytes beyond the visible end: they were of something else.
    pub(crate) over: usize,
}

fn split(offset: u64) -> (u64, usize) {
    (offset / CHUNK_BYTES as u64, (offset % CHUNK_BYTES as u64) as usize)
}

fn length_of(frame: &[u8]) -> u64 {
    u64::from(u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]))
}

fn revision_of(frame: &[u8]) -> Revision {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&frame[8..16]);
    Revision(u64::from_le_bytes(bytes))
}

/// Moves a place over the frame that stands there.
fn step(place: &mut Place, frame: &[u8]) {
    if u16::from_le_bytes([frame[6], frame[7]]) & LAST != 0 {
        place.revision = revision_of(frame);
    }
    place.offset += length_of(frame);
    place.records += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The journal's bytes, kept beside it without any bound.
    struct Naive {
        /// (bytes, revision, last) of every frame ever appended.
        frames: Vec<(Vec<u8>, u64, bool)>,
    }

    /// What `slices` gives from a place to the visible end.
    fn read(journal: &Journal, from: Place) -> Vec<u8> {
        let mut bytes = Vec::new();
        journal.slices(from, usize::MAX, |slice| {
            bytes.extend_from_slice(slice);
            true
        });
        bytes
    }

    fn append(journal: &mut Journal, naive: &mut Naive, revision: u64, last: bool, size: usize) {
        let body = vec![revision as u8; size];
        let kind = EntityKind::Group;
        journal.append_parts(RecordOp::Set, kind, Revision(revision), last, &body, revision);
        let mut frame = Vec::new();
        records::encode(&mut frame, RecordOp::Set, kind, Revision(revision), last, &body);
        naive.frames.push((frame, revision, last));
    }

    /// Transactions of many sizes, up to a whole chunk and more, through a ring
    /// of three chunks; at each step all that can be asked is compared.
    #[test]
    fn it_reads_as_what_was_appended() {
        let mut seed = 7_u64;
        let mut random = move |bound: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            (seed >> 33) as usize % bound
        };
        let mut journal = Journal::new(3 * CHUNK_BYTES, Revision(0));
        let mut naive = Naive { frames: Vec::new() };
        let mut cursors: Vec<Place> = vec![journal.visible()];
        for revision in 1..400 {
            let records = [1, 1, 2, 5, 40][random(5)];
            for index in 0..records {
                let size = 8 * [1, 3, 5, 60, 1500][random(if records > 5 { 4 } else { 5 })];
                append(&mut journal, &mut naive, revision, index + 1 == records, size);
            }
            assert_eq!(journal.visible().revision, Revision(revision - 1), "not yet visible");
            journal.publish();
            assert!(journal.bytes() <= 3 * (CHUNK_BYTES + size_of::<Chunk>()));
            assert_eq!(journal.visible().records as usize, naive.frames.len());
            // Old places are held exactly as long as all behind them is there.
            let tail = read(
                &journal,
                Place { offset: journal.first * CHUNK_BYTES as u64, ..journal.visible() },
            );
            let all: Vec<u8> =
                naive.frames.iter().flat_map(|(bytes, ..)| bytes.iter().copied()).collect();
            assert!(all.ends_with(&tail));
            for &place in cursors.iter().filter(|place| journal.holds(**place)) {
                let rest: Vec<u8> = naive.frames[place.records as usize..]
                    .iter()
                    .flat_map(|(bytes, ..)| bytes.iter().copied())
                    .collect();
                assert_eq!(read(&journal, place), rest);
                // Any number of bytes on: the next boundary, and what is missing to it.
                let bytes = random(rest.len() + 60);
                let advanced = journal.advance(place, bytes);
                let mut sum = 0;
                let mut frames = 0;
                while sum < bytes && sum < rest.len() {
                    sum += naive.frames[place.records as usize + frames].0.len();
                    frames += 1;
                }
                assert_eq!(advanced.place.records, place.records + frames as u64);
                assert_eq!(advanced.rest, &rest[bytes.min(rest.len())..sum]);
                assert_eq!(advanced.over, bytes.saturating_sub(rest.len()));
                assert_eq!(read(&journal, advanced.place), rest[sum..]);
                let before = naive.frames[..place.records as usize + frames].iter();
                let whole = before.rev().find(|frame| frame.2).map_or(0, |frame| frame.1);
                assert_eq!(advanced.place.revision, Revision(whole));
                assert!(journal.appended_at(place).is_some_and(|at| at <= revision));
            }
            // Every revision that it still has is found, no other.
            for wanted in revision.saturating_sub(30)..=revision + 1 {
                let first = naive.frames.iter().position(|frame| frame.1 > wanted);
                let first = first.unwrap_or(naive.frames.len()) as u64;
                match journal.find(Revision(wanted)) {
                    Some(place) => {
                        assert_eq!((place.records, place.revision), (first, Revision(wanted)));
                        assert!(journal.holds(place));
                    }
                    None => {
                        assert!(wanted > revision || journal.oldest > Revision(wanted));
                    }
                }
            }
            cursors.push(journal.visible());
            if cursors.len() > 12 {
                cursors.remove(0);
            }
        }
        assert!(journal.first > 20, "the ring went round");
        // And the oldest state is found where all of its transactions are there.
        let oldest = journal.find(journal.oldest).unwrap();
        assert!(journal.holds(oldest));
    }

    #[test]
    fn a_filters_transactions_are_ended_later() {
        let mut journal = Journal::new(1, Revision(4));
        let mut naive = Naive { frames: Vec::new() };
        append(&mut journal, &mut naive, 9, false, 8);
        append(&mut journal, &mut naive, 9, false, 8);
        journal.end_transaction(Revision(9));
        journal.end_transaction(Revision(10)); // Nothing of it passed the filter.
        journal.publish();
        naive.frames[1].0[6] |= 2;
        let all: Vec<u8> = naive.frames.iter().flat_map(|frame| frame.0.clone()).collect();
        let start = journal.find(Revision(4)).unwrap();
        assert_eq!(read(&journal, start), all);
        for revision in 4..9 {
            assert_eq!(journal.find(Revision(revision)), Some(start), "nothing happened since");
        }
        assert_eq!(journal.find(Revision(9)), Some(journal.visible()));
    }

    #[test]
    fn a_leap_lets_go_of_everyone() {
        let mut journal = Journal::new(1, Revision(0));
        let mut naive = Naive { frames: Vec::new() };
        let (start, empty) = (journal.visible(), journal.bytes());
        assert_eq!(empty, 0, "nothing is allocated before it is needed");
        assert!(journal.holds(start));
        append(&mut journal, &mut naive, 1, true, 8);
        journal.publish();
        let at = journal.visible();
        journal.leap(Revision(2));
        assert!(!journal.holds(start) && !journal.holds(at));
        assert_eq!(journal.find(Revision(1)), None);
        assert_eq!(journal.find(Revision(2)), Some(journal.visible()));
        assert!(journal.holds(journal.visible()));
        append(&mut journal, &mut naive, 3, true, 8);
        journal.publish();
        let place = journal.find(Revision(2)).unwrap();
        assert_eq!(read(&journal, place), naive.frames[1].0);
    }

    #[test]
    fn it_can_be_made_smaller() {
        let mut journal = Journal::new(8 * CHUNK_BYTES, Revision(0));
        let mut naive = Naive { frames: Vec::new() };
        for revision in 1..200 {
            append(&mut journal, &mut naive, revision, true, 8 * 300);
        }
        journal.publish();
        assert_eq!(journal.chunks.len(), 8);
        journal.resize(2 * CHUNK_BYTES);
        assert_eq!(journal.chunks.len(), 2);
        let place = journal.find(Revision(199)).unwrap();
        assert_eq!(place, journal.visible());
        assert_eq!(journal.find(Revision(1)), None);
        append(&mut journal, &mut naive, 200, true, 8);
        journal.publish();
        assert_eq!(read(&journal, place), naive.frames[199].0);
    }
}
