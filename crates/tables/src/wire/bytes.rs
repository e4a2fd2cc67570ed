//! Small pieces that the frames are put together from.
//!
//! [`Writer`] begins a frame and fills its length in when it is dropped into
//! place by [`Writer::finish`]: what was written in between is padded with
//! zeros to eight bytes, so a frame can't come out misaligned. Reading is by
//! slices that were measured before: [`u16_at`] and its siblings are only
//! called inside a length that was checked.

use super::HEADER_BYTES;

/// A frame being written at the end of a buffer.
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Writer<'a> {
    /// Begins a frame at the end of `out`.
    pub(super) fn new(out: &'a mut Vec<u8>, frame_type: u16, flags: u16) -> Writer<'a> {
        let start = out.len();
        let mut header = [0; HEADER_BYTES];
        header[4..6].copy_from_slice(&frame_type.to_le_bytes());
        header[6..].copy_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&header);
        Writer { out, start }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    pub(super) fn u8(&mut self, value: u8) -> &mut Self {
        self.out.push(value);
        self
    }

    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// An optional field behind the fixed part. A value too long for its
    /// length field is cut: callers bound theirs long before.
    pub(super) fn tlv(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        self.u16(kind).u16(value.len() as u16).bytes(value);
        self.pad(4)
    }

    /// Zeros up to a multiple of `align` from the frame's beginning.
    pub(super) fn pad(&mut self, align: usize) -> &mut Self {
        let length = (self.out.len() - self.start).next_multiple_of(align);
        self.out.resize(self.start + length, 0);
        self
    }

    /// Pads to eight bytes and fills the length in.
    pub(super) fn finish(&mut self) {
        self.pad(8);
        let length = (self.out.len() - self.start) as u32;
        self.out[self.start..self.start + 4].copy_from_slice(&length.to_le_bytes());
    }
}

#[inline]
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline]
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

/// The optional fields behind a fixed part: (type, value), until type 0 or the
/// end. `None` as an item: a length that reaches behind the frame.
pub(super) fn tlvs(mut bytes: &[u8]) -> impl Iterator<Item = Option<(u16, &[u8])>> {
    std::iter::from_fn(move || {
        if bytes.len() < 4 {
            return None;
        }
        let (kind, length) = (u16_at(bytes, 0), usize::from(u16_at(bytes, 2)));
        if kind == 0 {
            return None;
        }
        let Some(value) = bytes.get(4..4 + length) else {
            bytes = &[];
            return Some(None);
        };
        bytes = bytes.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        Some(Some((kind, value)))
    })
}

/// UTF-8 that was padded with NULs to eight bytes.
pub(super) fn padded_text(bytes: &[u8]) -> Option<&str> {
    let length = bytes.iter().rposition(|&b| b != 0).map_or(0, |at| at + 1);
    if bytes.len() - length >= 8 {
        return None;
    }
    std::str::from_utf8(&bytes[..length]).ok()
}
