//! Reads files of routes, for `rtmd --load` and `rtm route load`.
//!
//! A file is unpacked (plain, gzip, zstd or bzip2, several streams behind one
//! another, the output capped), its format is found out (a list of prefixes,
//! the lines of `ip route`, the array of `ip -json route`, the binary of `ip
//! route save`, batch lines, a table dump in MRT), and each entry becomes a
//! [`Change`](rtm_model::Change). Whatever is wrong is named by its line, or by
//! its byte where a stream has no lines.
//!
//! The crate reads from any [`std::io::Read`]; it opens nothing, and knows
//! neither daemon nor command: both use it, and they don't know each other.
//!
//! Read [`Reader`] first, then [`Options`].
#![forbid(unsafe_code)]

mod duplicates;
mod error;
mod ip_dump;
mod lines;
mod mrt;
mod reader;
mod unpack;

pub use error::{At, ErrorKind, FileError};
pub use ip_dump::IpDumpWriter;
pub use mrt::DumpCounts;
pub use reader::{Item, Options, Progress, Reader};
pub use unpack::{Compression, MRT_UNPACKED_BYTES_MAX, UNPACKED_BYTES_MAX};
