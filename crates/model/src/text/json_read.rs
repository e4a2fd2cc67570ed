//! `ip -json route show` and `rtm -j route show`, read object by object.
//!
//! [`JsonObjects`] cuts the stream into objects by counting brackets, so the
//! array is never held as a whole; [`json_route`] writes the words that `ip`
//! has for an object and gives them to the parser of such lines: one grammar
//! judges every value, whatever it was wrapped in.
//!
//! What carries meaning and can't be held here (`encap`, an unknown member) is
//! refused by name: to drop it in silence would damage the route.

use std::borrow::Cow;

use super::Context;
use super::error::TextError;
use super::route::route;
use super::words::{Cursor, Word, Words};
use crate::change::{RouteSpec, Verb};
use crate::names::METRICS;

/// The most bytes of one object: a route with the most next hops takes half.
pub const JSON_OBJECT_BYTES_MAX: usize = 128 * 1024;

/// How deep an object may nest: `ip` needs four.
const DEPTH_MAX: u32 = 16;

/// Members that say nothing about the route itself.
const PASSING: [&str; 18] = [
    "age",
    "cache",
    "error",
    "expires",
    "ipid",
    "mark",
    "nh_info",
    "ts",
    "tsage",
    "uid",
    "used",
    "users",
    "timestamp", // ip's
    "ordinal",
    "revision",
    "source",
    "why",
    "epoch", // ours
];

/// A value and the byte in its object at which it stands.
type Text<'a> = (Cow<'a, str>, usize);

/// The route of one JSON object; `None` for one without members, as older `ip`
/// prints them. [`Context::listing`] is taken as set.
///
/// # Errors
/// No JSON, no route, or a member that can't be held. The error's column is
/// the byte within the object: see [`TextError::at_byte`].
pub fn json_route(object: &[u8], cx: &Context<'_>) -> Result<Option<RouteSpec>, TextError> {
    let cx = Context { listing: true, ..*cx };
    let mut json = Json { bytes: object, at: 0, depth: 0 };
    let mut fields = Fields::default();
    json.members(|json, name, at| fields.member(json, name, at))?;
    json.blanks();
    if json.at != object.len() {
        return Err(json.error("something behind the object"));
    }
    let Some(dst) = fields.dst else {
        if fields.kind.is_none() && fields.rest.is_empty() && fields.hops.is_empty() {
            return Ok(None);
        }
        return Err(TextError::missing("dst", 1, "a member dst with the prefix would be right"));
    };
    let mut words = Words::default();
    if let Some((_, at)) = fields.features.first() {
        fields.rest.push((Cow::Borrowed("features"), *at));
        fields.rest.append(&mut fields.features);
    }
    for (text, at) in fields.kind.iter().chain([&dst]).chain(&fields.rest).chain(&fields.hops) {
        let column = u32::try_from(at + 1).unwrap_or(u32::MAX);
        words.push(Word { text, column, literal: true });
    }
    words.set_end(u32::try_from(object.len()).unwrap_or(u32::MAX));
    route(Verb::Replace, &mut Cursor::new(&words), &cx).map(Some)
}

#[derive(Default)]
struct Fields<'a> {
    kind: Option<Text<'a>>,
    dst: Option<Text<'a>>,
    /// Words behind the destination.
    rest: Vec<Text<'a>>,
    /// Words behind `features`: a member each.
    features: Vec<Text<'a>>,
    /// Words of `nexthop`, which come last.
    hops: Vec<Text<'a>>,
}

impl<'a> Fields<'a> {
    fn member(&mut self, json: &mut Json<'a>, name: &str, at: usize) -> Result<(), TextError> {
        let word = match name {
            "type" => {
                self.kind = Some(json.scalar()?);
                return Ok(());
            }
            "dst" => {
                self.dst = Some(json.scalar()?);
                return Ok(());
            }
            "protocol" => "proto",
            "prefsrc" => "src",
            "dev" | "table" | "scope" | "metric" | "tos" | "pref" | "nhid" | "distance" => name,
            "gateway" | "via" => {
                return hop_member(&mut self.rest, json, name, at);
            }
            "flags" => return flags(&mut self.rest, json),
            "flow" => return self.flow(json),
            "metrics" => {
                return json
                    .elements(|json| json.members(|json, name, at| self.metric(json, name, at)));
            }
            "nexthops" => {
                return json.elements(|json| {
                    self.hops.push((Cow::Borrowed("nexthop"), json.at));
                    let hops = &mut self.hops;
                    json.members(|json, name, at| hop_member(hops, json, name, at))
                });
            }
            "ttl-propogate" | "ttl-propagate" => {
                let (on, at) = json.scalar()?;
                let word = if on == "true" { "enabled" } else { "disabled" };
                self.rest.push((Cow::Borrowed("ttl-propagate"), at));
                self.rest.push((Cow::Borrowed(word), at));
                return Ok(());
            }
            // The source of a source-specific route; this is any.
            "from" => {
                let (from, at) = json.scalar()?;
                if matches!(from.as_ref(), "default" | "all" | "any" | "::/0") {
                    return Ok(());
                }
                self.rest.push((Cow::Borrowed("from"), at));
                self.rest.push((from, at));
                return Ok(());
            }
            name if PASSING.contains(&name) => return json.skip(),
            name => {
                let column = u32::try_from(at + 1).unwrap_or(u32::MAX);
                return Err(TextError::new(
                    "member",
                    Word { text: name, column, literal: true },
                    "a route here can't hold it",
                    "a route without it",
                ));
            }
        };
        let value = json.scalar()?;
        self.rest.push((Cow::Owned(word.to_owned()), at));
        self.rest.push(value);
        Ok(())
    }

    /// `{"from":"1","to":"5"}`: realms.
    fn flow(&mut self, json: &mut Json<'a>) -> Result<(), TextError> {
        let (mut from, mut to, start) = (None, None, json.at);
        json.members(|json, name, _| {
            match name {
                "from" => from = Some(json.scalar()?.0),
                "to" => to = Some(json.scalar()?.0),
                _ => json.skip()?,
            }
            Ok(())
        })?;
        let to = to.unwrap_or_default();
        let realms = from.map_or_else(|| to.to_string(), |from| format!("{from}/{to}"));
        self.rest.push((Cow::Borrowed("realms"), start));
        self.rest.push((Cow::Owned(realms), start));
        Ok(())
    }

    fn metric(&mut self, json: &mut Json<'a>, name: &str, at: usize) -> Result<(), TextError> {
        let (mut value, value_at) = json.scalar()?;
        let word = match name {
            "congestion" => "congctl",
            "ecn" | "tcp_usec_ts" => {
                self.features.push((Cow::Owned(name.to_owned()), at));
                return Ok(());
            }
            "features" => {
                self.features.push((value, value_at));
                return Ok(());
            }
            // The words take a unit; without one they mean the kernel's.
            "rtt" | "rttvar" | "rto_min" => {
                value = Cow::Owned(format!("{value}ms"));
                name
            }
            name if METRICS[2..].contains(&name) => name,
            name => {
                let column = u32::try_from(at + 1).unwrap_or(u32::MAX);
                return Err(TextError::new(
                    "member",
                    Word { text: name, column, literal: true },
                    "not a metric",
                    "one of ip's, like mtu",
                ));
            }
        };
        self.rest.push((Cow::Owned(word.to_owned()), at));
        self.rest.push((value, value_at));
        Ok(())
    }
}

/// A member of a next hop, or of a route that has one.
fn hop_member<'a>(
    words: &mut Vec<Text<'a>>,
    json: &mut Json<'a>,
    name: &str,
    at: usize,
) -> Result<(), TextError> {
    match name {
        "gateway" => {
            let value = json.scalar()?;
            words.push((Cow::Borrowed("via"), at));
            words.push(value);
        }
        "via" => {
            let (mut family, mut host) = (None, None);
            json.members(|json, name, _| {
                match name {
                    "family" => family = Some(json.scalar()?),
                    "host" => host = Some(json.scalar()?),
                    _ => json.skip()?,
                }
                Ok(())
            })?;
            words.push((Cow::Borrowed("via"), at));
            words.extend(family);
            words.extend(host);
        }
        "dev" | "weight" => {
            let value = json.scalar()?;
            words.push((Cow::Owned(name.to_owned()), at));
            words.push(value);
        }
        "flags" => flags(words, json)?,
        name => {
            let column = u32::try_from(at + 1).unwrap_or(u32::MAX);
            return Err(TextError::new(
                "member",
                Word { text: name, column, literal: true },
                "a next hop here can't hold it",
                "one of gateway, via, dev, weight, flags",
            ));
        }
    }
    Ok(())
}

fn flags<'a>(words: &mut Vec<Text<'a>>, json: &mut Json<'a>) -> Result<(), TextError> {
    json.elements(|json| {
        let flag = json.scalar()?;
        words.push(flag);
        Ok(())
    })
}

/// A pull parser over the bytes of one object.
struct Json<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u32,
}

impl<'a> Json<'a> {
    fn error(&self, why: &'static str) -> TextError {
        let shown = self.bytes.get(self.at..).unwrap_or_default();
        let shown = String::from_utf8_lossy(&shown[..shown.len().min(16)]).into_owned();
        let column = u32::try_from(self.at + 1).unwrap_or(u32::MAX);
        let word = Word { text: &shown, column, literal: true };
        TextError::new("JSON", word, why, "what ip -json prints would be right")
    }

    fn blanks(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.blanks();
        let hit = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(hit);
        hit
    }

    fn expect(&mut self, byte: u8, why: &'static str) -> Result<(), TextError> {
        if self.eat(byte) { Ok(()) } else { Err(self.error(why)) }
    }

    fn enter(&mut self) -> Result<(), TextError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(self.error("nested too deep")) } else { Ok(()) }
    }

    /// An object; `member` gets each name and the byte where it stands.
    fn members(
        &mut self,
        mut member: impl FnMut(&mut Json<'a>, &str, usize) -> Result<(), TextError>,
    ) -> Result<(), TextError> {
        self.expect(b'{', "an object is expected")?;
        self.enter()?;
        if !self.eat(b'}') {
            loop {
                self.blanks();
                let at = self.at;
                let name = self.string()?;
                self.expect(b':', "a colon is expected")?;
                member(self, &name, at)?;
                if self.eat(b'}') {
                    break;
                }
                self.expect(b',', "a comma or the object's end is expected")?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// An array.
    fn elements(
        &mut self,
        mut element: impl FnMut(&mut Json<'a>) -> Result<(), TextError>,
    ) -> Result<(), TextError> {
        self.expect(b'[', "an array is expected")?;
        self.enter()?;
        if !self.eat(b']') {
            loop {
                element(self)?;
                if self.eat(b']') {
                    break;
                }
                self.expect(b',', "a comma or the array's end is expected")?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// A text, a number, `true`, `false` or `null`, as text.
    fn scalar(&mut self) -> Result<Text<'a>, TextError> {
        self.blanks();
        let at = self.at;
        match self.bytes.get(at) {
            Some(b'"') => Ok((self.string()?, at)),
            Some(b'{' | b'[') => Err(self.error("a text or a number is expected")),
            _ => {
                let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                let rest = &self.bytes[at.min(self.bytes.len())..];
                let len = rest.iter().take_while(|byte| word(byte)).count();
                let text = std::str::from_utf8(&rest[..len]).unwrap_or_default();
                let number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
                if !number && !matches!(text, "true" | "false" | "null") {
                    return Err(self.error("a value is expected"));
                }
                self.at += len;
                Ok((Cow::Borrowed(text), at))
            }
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, TextError> {
        if !self.eat(b'"') {
            return Err(self.error("a text in quotes is expected"));
        }
        let start = self.at;
        let mut owned: Option<Vec<u8>> = None;
        loop {
            let Some(&byte) = self.bytes.get(self.at) else {
                return Err(self.error("the text doesn't end"));
            };
            match byte {
                b'"' => {
                    let raw = &self.bytes[start..self.at];
                    let bytes = owned.as_deref().unwrap_or(raw);
                    let Ok(text) = std::str::from_utf8(bytes) else {
                        return Err(self.error("the text is not UTF-8"));
                    };
                    let text = match &owned {
                        Some(_) => Cow::Owned(text.to_owned()),
                        None => Cow::Borrowed(std::str::from_utf8(raw).unwrap_or_default()),
                    };
                    self.at += 1;
                    return Ok(text);
                }
                0..=0x1f => return Err(self.error("a control character in a text")),
                b'\\' => {
                    let bytes = owned.get_or_insert_with(|| self.bytes[start..self.at].to_vec());
                    self.at += 1;
                    let c = match self.bytes.get(self.at) {
                        Some(b'n') => '\n',
                        Some(b't') => '\t',
                        Some(b'r') => '\r',
                        Some(b'b') => '\u{8}',
                        Some(b'f') => '\u{c}',
                        Some(&byte @ (b'"' | b'\\' | b'/')) => byte as char,
                        Some(b'u') => match escaped(self.bytes, &mut self.at) {
                            Some(c) => c,
                            None => return Err(self.error("a wrong escape")),
                        },
                        _ => return Err(self.error("a wrong escape")),
                    };
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    self.at += 1;
                }
                byte => {
                    if let Some(bytes) = &mut owned {
                        bytes.push(byte);
                    }
                    self.at += 1;
                }
            }
        }
    }

    /// Any value.
    fn skip(&mut self) -> Result<(), TextError> {
        self.blanks();
        match self.bytes.get(self.at) {
            Some(b'{') => self.members(|json, _, _| json.skip()),
            Some(b'[') => self.elements(Json::skip),
            _ => self.scalar().map(drop),
        }
    }
}

/// `uXXXX` at `at`, with the second half of a surrogate pair; `at` ends on the
/// last digit.
fn escaped(bytes: &[u8], at: &mut usize) -> Option<char> {
    let four = |at: usize| {
        let digits = std::str::from_utf8(bytes.get(at..at + 4)?).ok()?;
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then_some(())?;
        u32::from_str_radix(digits, 16).ok()
    };
    let first = four(*at + 1)?;
    *at += 4;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first);
    }
    if bytes.get(*at + 1..*at + 3)? != b"\\u" {
        return None;
    }
    let second = four(*at + 3).filter(|second| (0xdc00..0xe000).contains(second))?;
    *at += 6;
    char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
}

/// Where in the stream the cutter stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Outside any array: objects one after another, or an array.
    Outside,
    /// Behind `[`: an object or the end.
    First,
    /// Behind an object of an array: a comma or the end.
    Behind,
    /// Behind a comma: an object.
    Comma,
    /// Within an object.
    Object,
}

/// Cuts a stream into its objects: one or several arrays, or objects one after
/// another (JSON lines). It is fed in pieces and holds one object at most.
///
/// ```
/// use rtm_model::text::JsonObjects;
/// let mut objects = JsonObjects::default();
/// objects.push(br#"[{"dst":"10.0.0.0/8"},{"dst""#);
/// let (offset, object) = objects.next_object().unwrap().unwrap();
/// assert_eq!((offset, object), (1, &br#"{"dst":"10.0.0.0/8"}"#[..]));
/// assert!(objects.next_object().unwrap().is_none(), "more is needed");
/// assert!(objects.finish().is_err(), "and the end would be too early");
/// ```
#[derive(Clone, Debug)]
pub struct JsonObjects {
    buffer: Vec<u8>,
    /// What of the buffer was given out or passed over.
    start: usize,
    /// The stream's offset of `buffer[0]`.
    offset: u64,
    place: Place,
    /// Where in an array (or not) the object at hand stands.
    inside: bool,
    /// How far the object at hand was looked through.
    scanned: usize,
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Default for JsonObjects {
    fn default() -> JsonObjects {
        JsonObjects {
            buffer: Vec::new(),
            start: 0,
            offset: 0,
            place: Place::Outside,
            inside: false,
            scanned: 0,
            depth: 0,
            in_string: false,
            escaped: false,
        }
    }
}

impl JsonObjects {
    /// Takes the next piece of the stream. Call [`JsonObjects::next_object`]
    /// until it gives nothing, before the next piece.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.offset += self.start as u64;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next object with its offset in the stream; `None`: more is needed.
    ///
    /// # Errors
    /// What is no JSON at this level, or an object over
    /// [`JSON_OBJECT_BYTES_MAX`]. There is no going on behind it.
    pub fn next_object(&mut self) -> Result<Option<(u64, &[u8])>, TextError> {
        while self.place != Place::Object {
            let Some(&byte) = self.buffer.get(self.start) else {
                return Ok(None);
            };
            self.place = match (self.place, byte) {
                (place, b' ' | b'\t' | b'\r' | b'\n') => place,
                (Place::Outside, b'[') => Place::First,
                (Place::First | Place::Behind, b']') => Place::Outside,
                (Place::Behind, b',') => Place::Comma,
                (place @ (Place::Outside | Place::First | Place::Comma), b'{') => {
                    self.inside = place != Place::Outside;
                    (self.scanned, self.depth) = (0, 0);
                    (self.in_string, self.escaped) = (false, false);
                    self.place = Place::Object;
                    break;
                }
                (_, byte) => {
                    let text = byte.escape_ascii().to_string();
                    let word = Word { text: &text, column: 1, literal: true };
                    let error = TextError::new(
                        "JSON",
                        word,
                        "not expected here",
                        "an array of objects, as ip -json prints it",
                    );
                    return Err(error.at_byte(self.offset + self.start as u64));
                }
            };
            self.start += 1;
        }
        while let Some(&byte) = self.buffer.get(self.start + self.scanned) {
            self.scanned += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let start = self.start;
                        self.start += self.scanned;
                        self.place = if self.inside { Place::Behind } else { Place::Outside };
                        let offset = self.offset + start as u64;
                        return Ok(Some((offset, &self.buffer[start..self.start])));
                    }
                }
                _ => {}
            }
            if self.scanned > JSON_OBJECT_BYTES_MAX {
                let word = Word { text: "{", column: 1, literal: true };
                let error = TextError::new(
                    "JSON",
                    word,
                    "the object is too long",
                    format!("at most {JSON_OBJECT_BYTES_MAX} bytes"),
                );
                return Err(error.at_byte(self.offset + self.start as u64));
            }
        }
        Ok(None)
    }

    /// The end of the stream.
    ///
    /// # Errors
    /// It ends within an object or an array.
    pub fn finish(&self) -> Result<(), TextError> {
        if self.place == Place::Outside {
            return Ok(());
        }
        let mut error = TextError::missing("JSON", 1, "the end of the array would be right");
        error.place = "end of file".into();
        error.why = "the file is cut off".into();
        Err(error.at_byte(self.offset + self.buffer.len() as u64))
    }
}
