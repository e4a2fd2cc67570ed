//! Changes out of a file, one after another.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rtm_model::text::{
    Command, Context, Format, JsonObjects, LineJoiner, LoadHops, PeerChoice, TextError,
    detect_format, json_route, line_text, parse_line, parse_printed_route, prefix_line,
};
use rtm_model::{Change, Family, LinkName, Verb};

use crate::duplicates::Duplicates;
use crate::error::{At, ErrorKind, FileError};
use crate::ip_dump::IpDump;
use crate::lines::{ENTRY_BYTES_MAX, Lines};
use crate::mrt::{Dump, DumpCounts};
use crate::unpack::{Compression, MRT_UNPACKED_BYTES_MAX, UNPACKED_BYTES_MAX, Unpacked};

/// What a binary format is known by.
const BINARY_HEAD_BYTES: usize = 12;

/// How a file is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Its format; [`Format::Auto`]: found out from its first line.
    pub format: Format,
    /// The next hops of a list of prefixes; without, such a list is refused.
    pub hops: Option<LoadHops>,
    /// The family of a `default` that nothing else tells.
    pub family: Option<Family>,
    /// Which peer's routes of an MRT dump.
    pub peer: PeerChoice,
    /// What the file may unpack to; `None`: [`UNPACKED_BYTES_MAX`], for MRT
    /// [`MRT_UNPACKED_BYTES_MAX`].
    pub unpacked_bytes_max: Option<u64>,
}

/// One entry of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// Where it stands.
    pub at: At,
    /// The change: to replace, or to append where a batch line says so.
    pub change: Change,
}

/// From a link's number to its name.
type LinkNames = Box<dyn FnMut(u32) -> Option<LinkName> + Send>;

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
/// use rtm_files::{Options, Reader};
/// use rtm_model::text::LoadHops;
/// let file = b"10.0.0.0/8\n2001:db8::/32\n";
/// let options = Options { hops: Some(LoadHops::Spread), ..Options::default() };
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
    objects: JsonObjects,
    /// A line of `ip` that was read and may be continued by `nexthop` lines.
    ahead: Option<(u64, String)>,
    joiner: LineJoiner,
    ip_dump: IpDump,
    dump: Dump,
    link_name: LinkNames,
    failed: bool,
}

impl<R: Read> Reader<R> {
    /// Begins to read: unpacks the first bytes and finds out the format.
    ///
    /// # Errors
    /// Those of the stream; [`ErrorKind::UnknownFormat`];
    /// [`ErrorKind::NoNextHops`].
    pub fn new(input: R, options: Options) -> Result<Reader<R>, FileError> {
        let progress = Progress::default();
        let packed = Arc::clone(&progress.packed_bytes);
        let bytes_max = options.unpacked_bytes_max.unwrap_or(UNPACKED_BYTES_MAX);
        let unpacked = Unpacked::new(input, packed, bytes_max)?;
        let mut lines = Lines::new(unpacked);
        let format = match options.format {
            Format::Auto => find_format(&mut lines)?,
            format => Some(format),
        };
        match format {
            Some(Format::Mrt) if options.unpacked_bytes_max.is_none() => {
                lines.set_bytes_max(MRT_UNPACKED_BYTES_MAX);
            }
            Some(Format::Prefixes) if options.hops.is_none() => {
                return Err(FileError { at: At::Line(1), kind: ErrorKind::NoNextHops });
            }
            _ => {}
        }
        Ok(Reader {
            lines,
            options,
            format,
            duplicates: Duplicates::new(),
            progress,
            objects: JsonObjects::default(),
            ahead: None,
            joiner: LineJoiner::default(),
            ip_dump: IpDump::default(),
            link_name: Box::new(|_| None),
            dump: Dump::new(options.peer),
            failed: false,
        })
    }

    /// What this host's links are called, for a format that only numbers them
    /// (`ip route save`); one without a name becomes `if` and its number.
    pub fn name_links(&mut self, names: impl FnMut(u32) -> Option<LinkName> + Send + 'static) {
        self.link_name = Box::new(names);
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

    /// What an MRT dump has held so far, of all its peers; `None`: it is none.
    pub fn dump_counts(&self) -> Option<DumpCounts> {
        (self.format == Some(Format::Mrt)).then(|| self.dump.counts())
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
            None | Some(Format::Auto) => Ok(None),
            Some(Format::IpDump) => self.ip_dump.next(&mut self.lines, &mut *self.link_name),
            Some(Format::Mrt) => self.dump.next(&mut self.lines),
            Some(Format::Prefixes) => self.next_prefix(),
            Some(Format::Ip) => self.next_ip(),
            Some(Format::IpJson) => self.next_object(),
            Some(Format::Batch) => self.next_batch(),
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

    /// What a line's words don't say.
    fn context(&self) -> Context<'static> {
        Context { family: self.options.family, ..Context::default() }
    }

    fn next_prefix(&mut self) -> Result<Option<Item>, FileError> {
        // Without next hops such a list was refused at the beginning.
        let hops = self.options.hops.unwrap_or(LoadHops::Spread);
        let cx = self.context();
        loop {
            let Some(place) = self.lines.line()? else { return Ok(None) };
            let at = At::Line(self.lines.number());
            let line =
                line_text(self.lines.bytes(place)).map_err(|error| wrong_entry(at, &error))?;
            if let Some(spec) =
                prefix_line(line, &hops, &cx).map_err(|error| wrong_entry(at, &error))?
            {
                return Ok(Some(Item { at, change: Change::Route(Verb::Replace, spec) }));
            }
        }
    }

    /// `ip route show`: a line, and indented lines with its next hops.
    fn next_ip(&mut self) -> Result<Option<Item>, FileError> {
        let mut entry = self.ahead.take();
        while let Some(place) = self.lines.line()? {
            let number = self.lines.number();
            let at = At::Line(number);
            let text =
                line_text(self.lines.bytes(place)).map_err(|error| wrong_entry(at, &error))?;
            let indented = text.starts_with([' ', '\t']);
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            match &mut entry {
                None => entry = Some((number, text.to_owned())),
                Some((_, words)) if indented && words.len() < ENTRY_BYTES_MAX => {
                    words.push(' ');
                    words.push_str(text);
                }
                Some((start, _)) if indented => {
                    let kind = ErrorKind::TooLong { bytes_max: ENTRY_BYTES_MAX };
                    return Err(FileError { at: At::Line(*start), kind });
                }
                Some(_) => {
                    self.ahead = Some((number, text.to_owned()));
                    break;
                }
            }
        }
        let Some((number, words)) = entry else { return Ok(None) };
        let at = At::Line(number);
        let spec = parse_printed_route(&words, &self.context()).map_err(|e| wrong_entry(at, &e))?;
        Ok(Some(Item { at, change: Change::Route(Verb::Replace, spec) }))
    }

    /// `ip -json route show`.
    fn next_object(&mut self) -> Result<Option<Item>, FileError> {
        let cx = self.context();
        let wrong = |error: TextError, byte| FileError {
            at: At::Byte(byte),
            kind: ErrorKind::Corrupt { what: "JSON", why: error.to_string() },
        };
        loop {
            let position = self.lines.position();
            match self.objects.next_object().map_err(|error| wrong(error, position))? {
                Some((byte, object)) => match json_route(object, &cx) {
                    Ok(Some(spec)) => {
                        let change = Change::Route(Verb::Replace, spec);
                        return Ok(Some(Item { at: At::Byte(byte), change }));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        let at = At::Byte(byte + u64::from(error.column.max(1) - 1));
                        return Err(wrong_entry(at, &error));
                    }
                },
                None => {
                    if self.lines.window().is_empty() && !self.lines.more()? {
                        let kind = ErrorKind::Unfinished;
                        let error = |_| FileError { at: At::Byte(position), kind };
                        return self.objects.finish().map_err(error).map(|()| None);
                    }
                    let window = self.lines.window();
                    self.objects.push(window);
                    let taken = window.len();
                    self.lines.consume(taken);
                }
            }
        }
    }

    /// Lines of the grammar.
    fn next_batch(&mut self) -> Result<Option<Item>, FileError> {
        let cx = self.context();
        loop {
            let wrong = |line, why| FileError { at: At::Line(line), kind: ErrorKind::Entry(why) };
            let Some(place) = self.lines.line()? else {
                let end = self.joiner.finish();
                return match end {
                    Ok(()) => Ok(None),
                    Err(_) => Err(FileError {
                        at: At::Line(self.joiner.line()),
                        kind: ErrorKind::Unfinished,
                    }),
                };
            };
            let at = At::Line(self.lines.number());
            let text =
                line_text(self.lines.bytes(place)).map_err(|error| wrong_entry(at, &error))?;
            if self.joiner.pending_bytes() + text.len() > ENTRY_BYTES_MAX {
                let kind = ErrorKind::TooLong { bytes_max: ENTRY_BYTES_MAX };
                return Err(FileError { at: At::Line(self.lines.number()), kind });
            }
            let Some(line) = self.joiner.push(text) else { continue };
            let number = self.lines.number();
            let command =
                parse_line(line, &cx).map_err(|error| wrong(number, error.to_string()))?;
            let change = match command {
                None => continue,
                Some((_, Command::Change(change))) => change,
                Some(_) => {
                    let why =
                        "not a route or neighbour; route replace or neigh replace would be right";
                    return Err(wrong(number, why.to_owned()));
                }
            };
            let change = offered(change).map_err(|why| wrong(number, why))?;
            return Ok(Some(Item { at: At::Line(number), change }));
        }
    }
}

/// A file says what is there: adding and changing mean replacing, and there is
/// nothing to delete.
fn offered(change: Change) -> Result<Change, String> {
    let verb = |verb| match verb {
        Verb::Add | Verb::Change | Verb::Replace => Ok(Verb::Replace),
        Verb::Append | Verb::Prepend => Ok(verb),
        Verb::Delete => {
            Err("a file says what is there, 'del' can't; rtm -batch takes it".to_owned())
        }
    };
    Ok(match change {
        Change::Route(given, spec) => Change::Route(verb(given)?, spec),
        Change::Neighbour(given, spec) => Change::Neighbour(verb(given)?, spec),
        other => other,
    })
}

/// Reads until the first line that says something is in the window, and asks
/// what it is. `None`: there is none.
fn find_format<R: Read>(lines: &mut Lines<R>) -> Result<Option<Format>, FileError> {
    while lines.window().len() < BINARY_HEAD_BYTES && lines.more()? {}
    let head = lines.window();
    if let Some(format @ (Format::IpDump | Format::Mrt)) =
        detect_format(&head[..head.len().min(BINARY_HEAD_BYTES)])
    {
        return Ok(Some(format));
    }
    let mut number = 1;
    let mut start = 0;
    loop {
        let window = lines.window();
        let line = &window[start..];
        let end = memchr::memchr(b'\n', line);
        let first = line[..end.unwrap_or(line.len())].trim_ascii_start().first();
        let says = !matches!(first, None | Some(b'#'));
        let unknown = FileError { at: At::Line(number), kind: ErrorKind::UnknownFormat };
        match end {
            Some(end) if says => {
                return detect_format(&window[..start + end]).ok_or(unknown).map(Some);
            }
            Some(end) => {
                start += end + 1;
                number += 1;
            }
            // Whoever has so much to say before the first entry must name the format.
            None if window.len() > 2 * ENTRY_BYTES_MAX => return Err(unknown),
            None if lines.more()? => {}
            None if says => return detect_format(lines.window()).ok_or(unknown).map(Some),
            None => return Ok(None),
        }
    }
}

/// A wrong entry.
fn wrong_entry(at: At, error: &TextError) -> FileError {
    FileError { at, kind: ErrorKind::Entry(error.to_string()) }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use rtm_model::{LinkRef, Prefix};

    use super::*;

    fn spread_options() -> Options {
        Options { hops: Some(LoadHops::Spread), ..Options::default() }
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
                "line 1: prefix: 10.0.0.0/33: mask 33 is too long for IPv4; 0 to 32 are valid",
                "line 2: prefix: 10.0.0.1/8: host bits are set; 10.0.0.0/8 would be right",
                "line 3: prefix: rubbish: not a prefix; like 10.0.0.0/8, 2001:db8::/32 or default",
                "line 4 replace 11.0.0.0/8",
                "line 5: line: \\xff: not text; UTF-8 would be right",
                "line 6 replace 12.0.0.0/8",
            ]
        );
    }

    #[test]
    fn a_gateway_of_the_wrong_family_is_refused() {
        let hops = LoadHops::Fixed {
            via: Some("10.0.0.1".parse().unwrap()),
            dev: Some("eth0".parse().unwrap()),
        };
        let options = Options { hops: Some(hops), ..Options::default() };
        assert_eq!(
            read(b"2001:db8::/32\n10/8\n", options),
            [
                "line 1: prefix: 2001:db8::/32: an IPv6 route can't go via 10.0.0.1; a gateway like 2001:db8::1 would be right",
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

    /// The changes of a file, spelled out, or what is wrong with it.
    fn changes(bytes: &[u8]) -> Vec<String> {
        let mut reader = Reader::new(bytes, Options::default()).unwrap();
        let mut said = Vec::new();
        loop {
            match reader.next_item() {
                Ok(Some(item)) => {
                    let Change::Route(verb, spec) = item.change else {
                        said.push(format!("{}: {:?}", item.at, item.change));
                        continue;
                    };
                    let hops: Vec<String> = spec
                        .hops
                        .as_slice()
                        .iter()
                        .map(|hop| {
                            let link = match hop.link {
                                Some(LinkRef::Name(name)) => name.to_string(),
                                _ => "-".to_owned(),
                            };
                            let gateway = hop.gateway.map_or("-".to_owned(), |g| g.to_string());
                            format!("{gateway}%{link}*{}", hop.weight)
                        })
                        .collect();
                    said.push(format!(
                        "{}: {} {} table {} proto {:?} metric {:?} {}",
                        item.at,
                        verb.name(),
                        spec.prefix,
                        spec.table,
                        spec.protocol,
                        spec.metric,
                        hops.join(" ")
                    ));
                }
                Ok(None) => return said,
                Err(error) => said.push(error.to_string()),
            }
        }
    }

    #[test]
    fn lines_of_ip_route_read() {
        let text = b"default via 10.0.0.1 dev eth0 proto dhcp src 10.0.0.5 metric 100 \n\
            10.1.0.0/16 proto static metric 5 \n\
            \tnexthop via 10.0.0.1 dev eth0 weight 1 \n\
            \tnexthop via 10.0.0.2 dev eth1 weight 3 onlink \n\
            \n\
            blackhole 192.0.2.0/24 table 7\n\
            10.0.0.1/8 dev eth0\n\
            fe80::/64 dev eth0 proto kernel metric 256 pref medium";
        assert_eq!(
            changes(text),
            [
                "line 1: replace 0.0.0.0/0 table 254 proto Some(16) metric Some(100) 10.0.0.1%eth0*1",
                "line 2: replace 10.1.0.0/16 table 254 proto Some(4) metric Some(5) 10.0.0.1%eth0*1 10.0.0.2%eth1*3",
                "line 6: replace 192.0.2.0/24 table 7 proto Some(3) metric None ",
                "line 7: destination: 10.0.0.1/8: host bits are set; 10.0.0.0/8 would be right",
                "line 8: replace fe80::/64 table 254 proto Some(2) metric Some(256) -%eth0*1",
            ]
        );
    }

    #[test]
    fn the_json_of_ip_reads() {
        let text = br#"[{"dst":"default","gateway":"10.0.0.1","dev":"eth0","protocol":"dhcp","metric":100,"flags":[]},{},
            {"type":"blackhole","dst":"192.0.2.1","protocol":"static","flags":[]},
            {"dst":"10.0.0.1/8","dev":"eth0","flags":[]},
            {"dst":"2001:db8::/32","dev":"eth0","protocol":"bgp","metric":1024,"flags":[],"pref":"medium"}]
            [{"dst":"10.0.0.0/8","protocol":"static","flags":[],"nexthops":[{"gateway":"10.0.0.1","dev":"a","weight":1,"flags":[]},{"gateway":"10.0.0.2","dev":"b","weight":2,"flags":["onlink"]}]}]"#;
        let at = |needle: &str| {
            let text = std::str::from_utf8(text).unwrap();
            let place = text.find(needle).unwrap();
            text[..=place].rfind('{').unwrap()
        };
        assert_eq!(
            changes(text),
            [
                "byte 1 of the unpacked stream: replace 0.0.0.0/0 table 254 proto Some(16) metric Some(100) 10.0.0.1%eth0*1".to_owned(),
                format!("byte {} of the unpacked stream: replace 192.0.2.1/32 table 254 proto Some(4) metric None ", at("blackhole")),
                format!("byte {} of the unpacked stream: destination: 10.0.0.1/8: host bits are set; 10.0.0.0/8 would be right", at("10.0.0.1/8") + 7),
                format!("byte {} of the unpacked stream: replace 2001:db8::/32 table 254 proto Some(186) metric Some(1024) -%eth0*1", at("2001:db8")),
                format!("byte {} of the unpacked stream: replace 10.0.0.0/8 table 254 proto Some(4) metric None 10.0.0.1%a*1 10.0.0.2%b*2", at("10.0.0.0/8")),
            ]
        );
        assert!(changes(b"[]").is_empty());
    }

    #[test]
    fn json_cut_anywhere_is_an_error() {
        let text =
            br#"[{"dst":"10.0.0.0/8","dev":"a\"]{","flags":[]}, {"dst":"11.0.0.0/8","dev":"b"}]"#;
        for cut in 1..text.len() {
            let said = changes(&text[..cut]);
            let last = said.last().unwrap();
            assert!(last.ends_with("the file ends within an entry"), "{cut}: {said:?}");
        }
        let said = changes(br#"[{"dst":"10.0.0.0/8","dev":"a"};"#);
        assert!(said[1].contains("the JSON stream is damaged"), "{said:?}");
        assert_eq!(said.len(), 2, "damage is the end: {said:?}");
    }

    #[test]
    fn batch_lines_say_what_is_there() {
        assert_eq!(
            changes(
                b"# a comment\nroute add 10.0.0.0/8 via 10.1.1.1 \\\n  dev eth0\n\nroute append 10/8 via 10.1.1.2\n\
                route del 10/8\nroute show\nroute ad\nr r 11/8 dev eth0\nneigh add 10.0.0.1 lladdr 02:00:00:00:00:01\n"
            )
            .iter()
            .map(|said| said.chars().take(70).collect::<String>())
            .collect::<Vec<_>>(),
            [
                "line 3: replace 10.0.0.0/8 table 254 proto None metric None 10.1.1.1%e",
                "line 5: append 10.0.0.0/8 table 254 proto None metric None 10.1.1.2%-*",
                "line 6: a file says what is there, 'del' can't; rtm -batch takes it",
                "line 7: not a route or neighbour; route replace or neigh replace would",
                "line 8: destination: end of line: something is missing; a prefix like ",
                "line 9: replace 11.0.0.0/8 table 254 proto None metric None -%eth0*1",
                "line 10: Neighbour(Replace, NeighbourSpec { ip: 10.0.0.1, link: None, ",
            ]
        );
        assert_eq!(changes(b"route add 10/8 \\\n"), ["line 1: the file ends within an entry"]);
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
