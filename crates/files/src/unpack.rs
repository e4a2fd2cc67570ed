//! Unpacking: finds the compression by its first bytes and gives the unpacked
//! stream, counted and capped.
//!
//! All streams of a file count as one, as `zcat` has it. A stream that is cut
//! off, or followed by something else, is an error: half a table taken for a
//! whole one would be the worst of answers.

use std::io::{self, BufReader, Chain, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{At, ErrorKind, FileError};

/// The most bytes that a file may unpack to, unless told otherwise: sixty
/// full tables as text, and what a bomb of 1 MiB would exceed.
pub const UNPACKED_BYTES_MAX: u64 = 1 << 30;

/// The same for MRT, which is read as a stream and of which one route in dozens
/// of entries is kept: the largest collectors' dumps unpack to some 4 GiB.
pub const MRT_UNPACKED_BYTES_MAX: u64 = 16 << 30;

/// How a zstd frame's window may be at most, as `zstd -d` has it without
/// `--long`: 128 MiB of memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Read from the input at once.
const INPUT_BYTES: usize = 64 * 1024;

/// How a file is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// bzip2.
    Bzip2,
}

impl Compression {
    /// What the first bytes say.
    fn of(head: &[u8]) -> Compression {
        match head {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A skippable frame: what pzstd begins its files with.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Compression::Bzip2,
            _ => Compression::None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "plain",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Bzip2 => "bzip2",
        }
    }
}

/// Counts what is read of the packed file, for progress.
struct Counted<R> {
    inner: R,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

type Input<R> = BufReader<Chain<Cursor<Vec<u8>>, Counted<R>>>;

enum Decoder<R: Read> {
    Plain(Input<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Input<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Input<R>>),
    Bzip2(bzip2::bufread::MultiBzDecoder<Input<R>>),
}

/// The unpacked stream of a file.
pub(crate) struct Unpacked<R: Read> {
    decoder: Decoder<R>,
    compression: Compression,
    /// Unpacked bytes given out.
    bytes: u64,
    bytes_max: u64,
}

impl<R: Read> Unpacked<R> {
    pub(crate) fn new(
        input: R,
        packed_bytes: Arc<AtomicU64>,
        bytes_max: u64,
    ) -> Result<Unpacked<R>, FileError> {
        let mut counted = Counted { inner: input, bytes: packed_bytes };
        let failed = |error| FileError { at: At::Byte(0), kind: ErrorKind::Read(error) };
        let mut head = Vec::with_capacity(4);
        (&mut counted).take(4).read_to_end(&mut head).map_err(failed)?;
        let compression = Compression::of(&head);
        let input = BufReader::with_capacity(INPUT_BYTES, Cursor::new(head).chain(counted));
        let decoder = match compression {
            Compression::None => Decoder::Plain(input),
            Compression::Gzip => {
                Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input)))
            }
            Compression::Zstd => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(input).map_err(failed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(failed)?;
                Decoder::Zstd(decoder)
            }
            Compression::Bzip2 => Decoder::Bzip2(bzip2::bufread::MultiBzDecoder::new(input)),
        };
        Ok(Unpacked { decoder, compression, bytes: 0, bytes_max })
    }

    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    pub(crate) fn set_bytes_max(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    /// Reads some; 0 is the end of the last stream.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> Result<usize, FileError> {
        let result = loop {
            let result = match &mut self.decoder {
                Decoder::Plain(decoder) => decoder.read(buf),
                Decoder::Gzip(decoder) => decoder.read(buf),
                Decoder::Zstd(decoder) => decoder.read(buf),
                Decoder::Bzip2(decoder) => decoder.read(buf),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let at = At::Byte(self.bytes);
        match result {
            Ok(read) => {
                self.bytes += read as u64;
                if self.bytes > self.bytes_max {
                    let kind = ErrorKind::TooLarge { bytes_max: self.bytes_max };
                    return Err(FileError { at: At::Byte(self.bytes_max), kind });
                }
                Ok(read)
            }
            Err(error) => Err(FileError { at, kind: self.reason(error) }),
        }
    }

    /// The decoders report damage with an error of their own making, and pass
    /// on those of reading, which alone carry an errno.
    fn reason(&self, error: io::Error) -> ErrorKind {
        if self.compression == Compression::None || error.raw_os_error().is_some() {
            return ErrorKind::Read(error);
        }
        let compression = self.compression.name();
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return ErrorKind::Truncated { compression };
        }
        ErrorKind::Corrupt { what: compression, why: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &[u8] = b"10.0.0.0/8\n11.0.0.0/8\n12.0.0.0/8\n";

    fn pack(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => bytes.to_vec(),
            Compression::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::stream::encode_all(bytes, 3).unwrap(),
            Compression::Bzip2 => {
                let mut encoder =
                    bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn unpack(bytes: &[u8], bytes_max: u64) -> Result<Vec<u8>, FileError> {
        let packed = Arc::new(AtomicU64::new(0));
        let mut unpacked = Unpacked::new(bytes, Arc::clone(&packed), bytes_max)?;
        let mut out = Vec::new();
        let mut buf = [0; 7];
        loop {
            match unpacked.read(&mut buf)? {
                0 => {
                    assert_eq!(packed.load(Ordering::Relaxed), bytes.len() as u64);
                    return Ok(out);
                }
                read => out.extend_from_slice(&buf[..read]),
            }
        }
    }

    const ALL: [Compression; 4] =
        [Compression::None, Compression::Gzip, Compression::Zstd, Compression::Bzip2];

    #[test]
    fn every_compression_and_several_streams_unpack() {
        for compression in ALL {
            let mut packed = pack(compression, TEXT);
            assert_eq!(unpack(&packed, 1000).unwrap(), TEXT, "{compression:?}");
            packed.extend(pack(compression, b""));
            packed.extend(pack(compression, TEXT));
            assert_eq!(unpack(&packed, 1000).unwrap(), [TEXT, TEXT].concat(), "{compression:?}");
        }
        assert_eq!(unpack(b"", 1000).unwrap(), b"");
    }

    #[test]
    fn a_stream_cut_anywhere_is_never_taken_for_a_whole_one() {
        for compression in &ALL[1..] {
            let packed = pack(*compression, TEXT);
            // Below 4 bytes it isn't known to be compressed: no format takes it then.
            for cut in 4..packed.len() {
                let error = unpack(&packed[..cut], 1000).unwrap_err();
                assert!(
                    matches!(error.kind, ErrorKind::Truncated { .. }),
                    "{compression:?} cut at {cut} of {}: {error}",
                    packed.len()
                );
            }
        }
    }

    #[test]
    fn damage_is_named() {
        for compression in &ALL[1..] {
            let mut packed = pack(*compression, TEXT);
            packed.extend_from_slice(b"rubbish behind it");
            let error = unpack(&packed, 1000).unwrap_err();
            assert!(
                matches!(error.kind, ErrorKind::Corrupt { .. } | ErrorKind::Truncated { .. }),
                "{compression:?}: {error}"
            );
            assert_eq!(error.at, At::Byte(TEXT.len() as u64), "{compression:?}: {error}");
        }
        let mut packed = pack(Compression::Gzip, TEXT);
        let len = packed.len();
        packed[len - 6] ^= 1; // The checksum.
        assert!(matches!(unpack(&packed, 1000).unwrap_err().kind, ErrorKind::Corrupt { .. }));
    }

    #[test]
    fn the_output_is_capped() {
        for compression in ALL {
            let packed = pack(compression, &[b'x'; 1001]);
            let error = unpack(&packed, 1000).unwrap_err();
            assert_eq!(error.at, At::Byte(1000), "{compression:?}");
            assert!(matches!(error.kind, ErrorKind::TooLarge { bytes_max: 1000 }), "{error}");
            assert_eq!(unpack(&packed, 1001).unwrap().len(), 1001);
        }
    }
}
