//! Changes out of a file, one after another.

use std::io::Read;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rtm_model::{Change, Family, HopSpec, Hops, Prefix, RouteSpec, RouteType, Verb};

use crate::duplicates::Duplicates;
use crate::error::{At, ErrorKind, FileError};
use crate::format::Format;
use crate::lines::{ENTRY_BYTES_MAX, Lines};
use crate::spread::spread;
use crate::unpack::{Compression, UNPACKED_BYTES_MAX, Unpacked};

/// The next hops of a list of prefixes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HopRule {
    /// All have this one (`--via GW --dev LINK`).
    Fixed(HopSpec),
    /// Each its own, by the rule of the test data: [`spread`].
    Spread,
}

/// How a file is read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Its format; `None`: found out from its first line.
    pub format: Option<Format>,
    /// The next hops of a list of prefixes; without, such a list is refused.
    pub hops: Option<HopRule>,
    /// The family of a `default` that nothing else tells.
    pub family: Option<Family>,
    /// What the file may unpack to.
    pub unpacked_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { format: None, hops: None, family: None, unpacked_bytes_max: UNPACKED_BYTES_MAX }
    }
}

/// One entry of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// Where it stands.
    pub at: At,
    /// The change: always [`Verb::Replace`], or [`Verb::Append`] where the
    /// file says so.
    pub change: Change,
}

/// How far a reader is; cheap to clone, readable from any thread.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    packed_bytes: Arc<AtomicU64>,
    entries: Arc<AtomicU64>,
}

impl Progress {
    /// Bytes read of the file as it is on the disk.
    pub fn packed_bytes(&self) -> u64 {
        self.packed_bytes.load(Ordering::Relaxed)
    }

    /// Entries given out.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }
}

/// Reads a file of routes.
///
/// ```
/// use rtm_files::{HopRule, Options, Reader};
/// let file = b"10.0.0.0/8\n2001:db8::/32\n";
/// let options = Options { hops: Some(HopRule::Spread), ..Options::default() };
/// let mut reader = Reader::new(&file[..], options)?;
/// let mut routes = 0;
/// while let Some(_item) = reader.next_item()? {
///     routes += 1;
/// }
/// assert_eq!((routes, reader.duplicates()), (2, 0));
/// # Ok::<(), rtm_files::FileError>(())
/// ```
pub struct Reader<R: Read> {
    lines: Lines<R>,
    options: Options,
    format: Option<Format>,
    duplicates: Duplicates,
    progress: Progress,
    failed: bool,
}

impl<R: Read> Reader<R> {
    /// Begins to read: unpacks the first bytes and finds out the format.
    ///
    /// # Errors
    /// Those of the stream; [`ErrorKind::UnknownFormat`];
    /// [`ErrorKind::NotInThisVersion`]; [`ErrorKind::NoNextHops`].
    pub fn new(input: R, options: Options) -> Result<Reader<R>, FileError> {
        let progress = Progress::default();
        let packed = Arc::clone(&progress.packed_bytes);
        let unpacked = Unpacked::new(input, packed, options.unpacked_bytes_max)?;
        let mut lines = Lines::new(unpacked);
        let format = match options.format {
            Some(format) => Some(format),
            None => find_format(&mut lines)?,
        };
        match format {
            Some(format @ (Format::IpDump | Format::Mrt)) => {
                let kind = ErrorKind::NotInThisVersion { format: format.name() };
                return Err(FileError { at: At::Byte(0), kind });
            }
            Some(Format::Prefixes) if options.hops.is_none() => {
                return Err(FileError { at: At::Line(1), kind: ErrorKind::NoNextHops });
            }
            _ => {}
        }
        let duplicates = Duplicates::new();
        Ok(Reader { lines, options, format, duplicates, progress, failed: false })
    }

    /// The format; `None` if the file is empty.
    pub fn format(&self) -> Option<Format> {
        self.format
    }

    /// How the file is compressed.
    pub fn compression(&self) -> Compression {
        self.lines.unpacked().compression()
    }

    /// How many entries named the key of an earlier one: the last wins.
    pub fn duplicates(&self) -> u64 {
        self.duplicates.count
    }

    /// How many bytes of the unpacked stream were taken.
    pub fn unpacked_bytes(&self) -> u64 {
        self.lines.position()
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// Behind an error of one entry ([`FileError::is_entry`]) reading can go
    /// on; any other is the end: the next call returns `None`.
    pub fn next_item(&mut self) -> Result<Option<Item>, FileError> {
        if self.failed {
            return Ok(None);
        }
        let result = match self.format {
            None => Ok(None),
            Some(Format::Prefixes) => self.next_prefix(),
            Some(format) => Err(FileError {
                at: At::Byte(0),
                kind: ErrorKind::NotInThisVersion { format: format.name() },
            }),
        };
        match &result {
            Ok(Some(item)) => {
                self.progress.entries.fetch_add(1, Ordering::Relaxed);
                match &item.change {
                    Change::Route(_, spec) => self.duplicates.route(spec),
                    Change::Neighbour(_, spec) => self.duplicates.neighbour(spec.ip, spec.link),
                    Change::Link(..) | Change::Group(..) => {}
                }
            }
            Ok(None) => {}
            Err(error) => self.failed = !error.is_entry(),
        }
        result
    }

    fn next_prefix(&mut self) -> Result<Option<Item>, FileError> {
        loop {
            let Some(place) = self.lines.line()? else { return Ok(None) };
            let text = self.lines.text(place)?.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let spec = self.prefix(text).map_err(|why| self.lines.entry(why))?;
            let at = At::Line(self.lines.number());
            return Ok(Some(Item { at, change: Change::Route(Verb::Replace, spec) }));
        }
    }

    fn prefix(&self, text: &str) -> Result<RouteSpec, String> {
        let prefix = if text == "default" {
            Prefix::default_of(self.options.family.unwrap_or(Family::V4))
        } else {
            text.parse::<Prefix>().map_err(|why| format!("{}: {why}", text.escape_debug()))?
        };
        let hop = match self.options.hops {
            Some(HopRule::Fixed(hop)) => hop,
            _ => spread(text, prefix.family()),
        };
        if let (Family::V6, Some(IpAddr::V4(gateway))) = (prefix.family(), hop.gateway) {
            return Err(format!(
                "{prefix}: an IPv6 route can't have the IPv4 gateway {gateway}; an IPv6 gateway would be right"
            ));
        }
        let mut spec = RouteSpec::new(prefix);
        spec.kind = Some(RouteType::Unicast);
        spec.hops = Hops::One(hop);
        Ok(spec)
    }
}

/// Reads until the first line that says something is in the window, and asks
/// what it is. `None`: there is none.
fn find_format<R: Read>(lines: &mut Lines<R>) -> Result<Option<Format>, FileError> {
    let mut number = 1;
    let mut start = 0;
    loop {
        let window = lines.window();
        let line = window.get(start..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', line) else {
            let full = line.len() > ENTRY_BYTES_MAX || start > ENTRY_BYTES_MAX;
            if !full && lines.more()? {
                continue;
            }
            let window = lines.window();
            let line = window.get(start..).unwrap_or_default();
            let first = line.iter().find(|b| !b.is_ascii_whitespace());
            if matches!(first, None | Some(b'#')) {
                return Ok(None);
            }
            return known(window, line, number);
        };
        let line = &line[..end];
        let first = line.iter().find(|b| !b.is_ascii_whitespace());
        if !matches!(first, None | Some(b'#')) {
            return known(window, line, number);
        }
        start += end + 1;
        number += 1;
    }
}

fn known(head: &[u8], line: &[u8], number: u64) -> Result<Option<Format>, FileError> {
    match Format::of(head, line) {
        Some(format) => Ok(Some(format)),
        None => Err(FileError { at: At::Line(number), kind: ErrorKind::UnknownFormat }),
    }
}

#[cfg(test)]
mod tests {
    use rtm_model::LinkRef;

    use super::*;

    fn spread_options() -> Options {
        Options { hops: Some(HopRule::Spread), ..Options::default() }
    }

    /// What a reader says: one line per entry or error.
    fn read(bytes: &[u8], options: Options) -> Vec<String> {
        let mut reader = match Reader::new(bytes, options) {
            Ok(reader) => reader,
            Err(error) => return vec![error.to_string()],
        };
        let mut said = Vec::new();
        loop {
            match reader.next_item() {
                Ok(Some(Item { at, change: Change::Route(verb, spec) })) => {
                    said.push(format!("{at} {} {}", verb.name(), spec.prefix));
                }
                Ok(Some(item)) => said.push(format!("{} {:?}", item.at, item.change)),
                Ok(None) => return said,
                Err(error) => said.push(error.to_string()),
            }
        }
    }

    #[test]
    fn a_list_of_prefixes_needs_next_hops() {
        assert_eq!(
            read(b"10.0.0.0/8\n", Options::default()),
            ["a list of prefixes has no next hops; --via GW --dev LINK or --spread would be right"]
        );
        assert_eq!(
            read(b"\n# a comment\n10/8\r\n  2001:db8::/32\n\n1.1.1.1", spread_options()),
            [
                "line 3 replace 10.0.0.0/8",
                "line 4 replace 2001:db8::/32",
                "line 6 replace 1.1.1.1/32"
            ]
        );
    }

    #[test]
    fn nothing_is_no_error() {
        for bytes in [&b""[..], b"\n\n", b"# only\n# comments\n", b"# no newline"] {
            let mut reader = Reader::new(bytes, Options::default()).unwrap();
            assert_eq!(reader.next_item().unwrap(), None);
            assert!(reader.format().is_none());
        }
    }

    #[test]
    fn wrong_lines_are_named_and_reading_goes_on() {
        assert_eq!(
            read(b"10.0.0.0/33\n10.0.0.1/8\nrubbish\n11/8\n\xff\xfe\n12/8\n", spread_options()),
            [
                "line 1: 10.0.0.0/33: mask 33 is too long for IPv4; 0 to 32 are valid",
                "line 2: 10.0.0.1/8: host bits are set; 10.0.0.0/8 would be right",
                "line 3: rubbish: not an address; like 10.0.0.0/8 or 2001:db8::/32",
                "line 4 replace 11.0.0.0/8",
                "line 5: not text (UTF-8)",
                "line 6 replace 12.0.0.0/8",
            ]
        );
    }

    #[test]
    fn a_gateway_of_the_wrong_family_is_refused() {
        let hop = HopSpec {
            gateway: Some("10.0.0.1".parse().unwrap()),
            link: Some(LinkRef::Name("eth0".parse().unwrap())),
            weight: 1,
            flags: rtm_model::HopFlags::default(),
        };
        let options = Options { hops: Some(HopRule::Fixed(hop)), ..Options::default() };
        assert_eq!(
            read(b"2001:db8::/32\n10/8\n", options),
            [
                "line 1: 2001:db8::/32: an IPv6 route can't have the IPv4 gateway 10.0.0.1; an IPv6 gateway would be right",
                "line 2 replace 10.0.0.0/8",
            ]
        );
    }

    #[test]
    fn a_line_without_end_is_the_end() {
        let mut bytes = b"10/8\n".to_vec();
        bytes.extend(std::iter::repeat_n(b'1', 10 * ENTRY_BYTES_MAX));
        assert_eq!(
            read(&bytes, spread_options()),
            ["line 1 replace 10.0.0.0/8", "line 2: the entry has more than 65536 bytes"]
        );
    }

    #[test]
    fn lines_survive_every_border_of_the_buffer() {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for index in 0..60_000_u32 {
            let prefix = Prefix::host(IpAddr::from(index.to_be_bytes()));
            bytes.extend_from_slice(format!("{prefix}\n").as_bytes());
            expected.push(format!("line {} replace {prefix}", index + 1));
        }
        assert!(bytes.len() > 3 * 256 * 1024);
        assert_eq!(read(&bytes, spread_options()), expected);
    }

    #[test]
    fn duplicates_are_counted() {
        let mut reader =
            Reader::new(&b"10/8\n11/8\n10.0.0.0/8\n10/8\n"[..], spread_options()).unwrap();
        while reader.next_item().unwrap().is_some() {}
        assert_eq!((reader.duplicates(), reader.progress().entries()), (2, 4));
    }

    #[test]
    fn formats_of_later_versions_say_so() {
        assert_eq!(
            read(&[0x53, 0x7e, 0xe6, 0, 0, 13, 0, 1, 0, 0, 0, 9], Options::default()),
            ["format mrt: not in this version; prefixes, ip, ip-json or batch would be right"]
        );
    }

    #[test]
    fn the_full_table_reads() {
        let data = std::env::var_os("RTM_DATA").map_or_else(
            || concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data").into(),
            std::path::PathBuf::from,
        );
        let Ok(file) = std::fs::File::open(data.join("full-table.txt.gz")) else {
            assert!(std::env::var_os("RTM_REQUIRE_DATA").is_none(), "no data in {data:?}");
            println!("not run: the_full_table_reads (no data)");
            return;
        };
        let mut reader = Reader::new(file, spread_options()).unwrap();
        let (mut v4, mut v6) = (0, 0);
        while let Some(item) = reader.next_item().unwrap() {
            let Change::Route(_, spec) = item.change else { panic!("{item:?}") };
            match spec.prefix.family() {
                Family::V4 => v4 += 1,
                Family::V6 => v6 += 1,
            }
        }
        assert_eq!((v4, v6, reader.duplicates()), (901_899, 160_147, 0));
    }
}
