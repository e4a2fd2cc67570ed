//! Records on the wire: SET, DELETE and FLUSH, the frames that come by the
//! million.
//!
//! ```text
//!   0 | length u32                | 0x90 or 0xa0 + kind | LAST |
//!   8 | revision u64                                          |
//!  16 | canonical bytes of the entity, or of its key ...      |
//! ```
//!
//! The daemon encodes each once, into the journal ([`encode`]). A client
//! decodes by [`Records`]: an iterator over bytes that a session has already
//! cut into whole frames ([`scan`]), so each step is four loads. What is
//! checked here is that lengths fit the kind; what the bytes mean is checked
//! by who applies them.

use rtm_model::{EntityKind, Mac};

use super::bytes::{Writer, u16_at, u32_at, u64_at};
use super::{Frame, HEADER_BYTES, LAST, MUST_UNDERSTAND, WireError, frame_type};
use crate::record::{Flush, RecordOp, Revision};

/// Bytes of a record's frame in front of the canonical bytes.
pub const RECORD_HEAD_BYTES: usize = HEADER_BYTES + 8;

/// The longest record: a group of 512 next hops.
pub const RECORD_BYTES_MAX: usize = RECORD_HEAD_BYTES + 16 + 24 * rtm_model::HOPS_MAX;

/// Bytes of a FLUSH frame.
pub const FLUSH_BYTES: usize = 24;

/// Bytes of a key's body: a MAC address and two zeros. A record of kind
/// `Neighbour` with so short a body is one of mode `keys` ([`WireRecord::mac`]).
pub const KEY_BYTES: usize = 8;

/// A record as it stands in received bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WireRecord<'a> {
    /// While live: its transaction's revision. Between BEGIN and END: the
    /// revision that last changed the entity.
    pub revision: Revision,
    /// Is it the last of its transaction?
    pub last: bool,
    /// Set or delete.
    pub op: RecordOp,
    /// What kind of entity.
    pub kind: EntityKind,
    /// Canonical bytes of the entity (set) or of its key (delete).
    pub body: &'a [u8],
}

impl WireRecord<'_> {
    /// The MAC address, if this is a record of mode `keys`.
    #[inline]
    pub fn mac(&self) -> Option<Mac> {
        key_of(self.kind, self.body)
    }
}

/// The MAC address of a record of mode `keys`.
#[inline]
pub(crate) fn key_of(kind: EntityKind, body: &[u8]) -> Option<Mac> {
    match *body {
        [a, b, c, d, e, f, _, _] if kind == EntityKind::Neighbour => Some(Mac([a, b, c, d, e, f])),
        _ => None,
    }
}

/// Appends a SET or DELETE frame.
#[inline]
pub fn encode(
    out: &mut Vec<u8>,
    op: RecordOp,
    kind: EntityKind,
    revision: Revision,
    last: bool,
    body: &[u8],
) {
    out.extend_from_slice(&head(op, kind, revision, last, body.len()));
    out.extend_from_slice(body);
}

/// The first [`RECORD_HEAD_BYTES`] of a SET or DELETE frame.
#[inline]
pub fn head(
    op: RecordOp,
    kind: EntityKind,
    revision: Revision,
    last: bool,
    body_bytes: usize,
) -> [u8; RECORD_HEAD_BYTES] {
    let base = match op {
        RecordOp::Set => frame_type::SET,
        RecordOp::Delete => frame_type::DELETE,
    };
    let mut frame_type = base + kind as u16;
    if kind == EntityKind::Neighbour && body_bytes == KEY_BYTES {
        // SET_KEY, DELETE_KEY.
        frame_type += 1;
    }
    let flags = if last { LAST | MUST_UNDERSTAND } else { MUST_UNDERSTAND };
    let mut head = [0; RECORD_HEAD_BYTES];
    head[..4].copy_from_slice(&((RECORD_HEAD_BYTES + body_bytes) as u32).to_le_bytes());
    head[4..6].copy_from_slice(&frame_type.to_le_bytes());
    head[6..8].copy_from_slice(&flags.to_le_bytes());
    head[8..].copy_from_slice(&revision.0.to_le_bytes());
    head
}

/// Appends a FLUSH frame: a transaction of its own.
pub fn encode_flush(out: &mut Vec<u8>, revision: Revision, what: Flush) {
    let bits = u32::from(what.routes) | u32::from(what.neighbours) << 1;
    Writer::new(out, frame_type::FLUSH, MUST_UNDERSTAND | LAST).u64(revision.0).u32(bits).finish();
}

pub(super) fn decode_flush(frame: &Frame<'_>) -> Result<(Revision, Flush), WireError> {
    if frame.body.len() < FLUSH_BYTES - HEADER_BYTES {
        return Err(frame.wrong("too short"));
    }
    let bits = u32_at(frame.body, 8);
    if bits == 0 || bits > 3 {
        return Err(frame.wrong("flushes something unknown"));
    }
    let what = Flush { routes: bits & 1 != 0, neighbours: bits & 2 != 0 };
    Ok((Revision(u64_at(frame.body, 0)), what))
}

/// What a frame type of a record says, and what lengths its frame may have:
/// from the first to the last (without a limit: to `u32::MAX`).
#[derive(Clone, Copy)]
struct Shape {
    what: Option<(RecordOp, EntityKind)>,
    shortest: u32,
    longest: u32,
}

/// By frame type: a table, because this is looked at for every record.
static SHAPES: [Shape; 256] = {
    let mut shapes = [Shape { what: None, shortest: u32::MAX, longest: 0 }; 256];
    let mut index = 0;
    while index < EntityKind::ALL.len() {
        let kind = EntityKind::ALL[index];
        let key = (RECORD_HEAD_BYTES + kind.key_bytes()) as u32;
        let (shortest, longest) = match kind {
            EntityKind::Link | EntityKind::Neighbour => (key + 16, key + 16),
            _ => (key + 8, u32::MAX),
        };
        let set = frame_type::SET as usize + kind as usize;
        shapes[set] = Shape { what: Some((RecordOp::Set, kind)), shortest, longest };
        let delete = frame_type::DELETE as usize + kind as usize;
        let what = Some((RecordOp::Delete, kind));
        shapes[delete] = Shape { what, shortest: key, longest: key };
        index += 1;
    }
    // A key is a neighbour of which only the MAC address is told.
    let length = (RECORD_HEAD_BYTES + KEY_BYTES) as u32;
    let kind = EntityKind::Neighbour;
    shapes[frame_type::SET_KEY as usize] =
        Shape { what: Some((RecordOp::Set, kind)), shortest: length, longest: length };
    shapes[frame_type::DELETE_KEY as usize] =
        Shape { what: Some((RecordOp::Delete, kind)), shortest: length, longest: length };
    shapes
};

#[inline]
fn shape(frame_type: u16) -> &'static Shape {
    // Type 0 has no shape either.
    &SHAPES[if frame_type < 256 { frame_type as usize } else { 0 }]
}

/// Op and kind of a record's frame type; `None`: no SET or DELETE.
#[inline]
pub fn classify(frame_type: u16) -> Option<(RecordOp, EntityKind)> {
    shape(frame_type).what
}

/// Decodes one SET or DELETE; `None` if the frame is neither.
pub fn decode<'a>(frame: &Frame<'a>) -> Result<Option<WireRecord<'a>>, WireError> {
    let Shape { what, shortest, longest } = *shape(frame.frame_type);
    let Some((op, kind)) = what else { return Ok(None) };
    let length = (HEADER_BYTES + frame.body.len()) as u32;
    if length < shortest || length > longest {
        return Err(frame.wrong("its length doesn't fit its kind"));
    }
    Ok(Some(WireRecord {
        revision: Revision(u64_at(frame.body, 0)),
        last: frame.flags & LAST != 0,
        op,
        kind,
        body: &frame.body[8..],
    }))
}

/// What [`scan`] found at the beginning of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scan {
    /// Bytes of whole records.
    pub records: usize,
    /// Bytes up to and with the last record that ends a transaction; 0: none
    /// does.
    pub transactions: usize,
    /// Revision of that record.
    pub committed: Revision,
    /// Revision of the last record, or what was the floor.
    pub newest: Revision,
    /// Does a whole frame of another type stand behind `records`? Otherwise
    /// more bytes are needed to say.
    pub other: bool,
}

/// Finds the records at the beginning of `bytes`, from offset `from` on (a
/// frame boundary that an earlier scan stopped at), and checks the head of
/// each. With a `floor`, revisions must not fall, beginning there: so it is
/// while a session is live.
#[inline]
pub fn scan(
    bytes: &[u8],
    from: usize,
    limit: usize,
    floor: Option<Revision>,
) -> Result<Scan, WireError> {
    let newest = floor.unwrap_or_default();
    let mut found = Scan { records: from, newest, ..Scan::default() };
    loop {
        let rest = &bytes[found.records..];
        // A record that is whole and right: the way that nearly all take.
        if let Some(head) = rest.first_chunk::<RECORD_HEAD_BYTES>() {
            let length = u32_at(head, 0);
            let Shape { shortest, longest, .. } = *shape(u16_at(head, 4));
            let revision = Revision(u64_at(head, 8));
            if length >= shortest
                && length <= longest
                && length % 8 == 0
                && length as usize <= rest.len().min(limit)
                && (floor.is_none() || revision >= found.newest)
            {
                found.newest = revision;
                found.records += length as usize;
                if u16_at(head, 6) & LAST != 0 {
                    found.transactions = found.records;
                    found.committed = revision;
                }
                continue;
            }
        }
        // The end, another frame, or an error: looked at closely.
        let Some((frame, length)) = Frame::split(rest, limit)? else { return Ok(found) };
        let Some(record) = decode(&frame)? else {
            found.other = true;
            return Ok(found);
        };
        if floor.is_some() && record.revision < found.newest {
            return Err(frame.wrong("its revision is lower than the one before"));
        }
        found.newest = record.revision;
        found.records += length;
        if record.last {
            found.transactions = found.records;
            found.committed = record.revision;
        }
    }
}

/// The record that `bytes` begin with, if all of it is there and right, and what is behind
/// it. `None`: the end, part of a frame, another frame or an error, which [`Frame::split`]
/// and [`decode`] tell. For who goes over bytes only once.
#[inline(always)]
pub fn front(bytes: &[u8]) -> Option<(WireRecord<'_>, &[u8])> {
    let head = bytes.first_chunk::<RECORD_HEAD_BYTES>()?;
    let length = u32_at(head, 0);
    let Shape { what, shortest, longest } = *shape(u16_at(head, 4));
    if length < shortest || length > longest || length % 8 != 0 {
        return None;
    }
    let (frame, rest) = bytes.split_at_checked(length as usize)?;
    Some((of_frame(head, frame, what?)?, rest))
}

/// The record of a frame that is whole, by its head.
#[inline(always)]
fn of_frame<'a>(
    head: &[u8; RECORD_HEAD_BYTES],
    frame: &'a [u8],
    (op, kind): (RecordOp, EntityKind),
) -> Option<WireRecord<'a>> {
    Some(WireRecord {
        revision: Revision(u64_at(head, 8)),
        last: u16_at(head, 6) & LAST != 0,
        op,
        kind,
        body: frame.get(RECORD_HEAD_BYTES..)?,
    })
}

/// Records one after another, in bytes that [`scan`] has gone over.
///
/// Cloning starts a second pass: a replica first probes all keys of a batch,
/// then applies, so that cache misses overlap.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Records<'a> {
    bytes: &'a [u8],
}

impl<'a> Records<'a> {
    /// Over `bytes`: whole record frames, checked.
    pub(crate) fn checked(bytes: &'a [u8]) -> Records<'a> {
        Records { bytes }
    }

    /// Over any bytes: they are checked first, all of them.
    pub fn new(bytes: &'a [u8], limit: usize) -> Result<Records<'a>, WireError> {
        let found = scan(bytes, 0, limit, None)?;
        if found.records != bytes.len() {
            return Err(WireError::Length { bytes: bytes.len() as u32 });
        }
        Ok(Records { bytes })
    }

    /// Those at the beginning of `bytes`, checked in the same pass, and what is
    /// behind them: another frame, part of one, or nothing.
    pub fn first(bytes: &'a [u8], limit: usize) -> Result<(Records<'a>, &'a [u8]), WireError> {
        let (bytes, rest) = bytes.split_at(scan(bytes, 0, limit, None)?.records);
        Ok((Records { bytes }, rest))
    }

    /// The frames as they came.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = WireRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<WireRecord<'a>> {
        let head = self.bytes.first_chunk::<RECORD_HEAD_BYTES>()?;
        let (frame, rest) = self.bytes.split_at_checked(u32_at(head, 0) as usize)?;
        let record = of_frame(head, frame, classify(u16_at(head, 4))?)?;
        self.bytes = rest;
        Some(record)
    }
}
