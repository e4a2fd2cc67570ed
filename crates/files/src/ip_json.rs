//! What `ip -json route show` and `rtm -j route show` print: an array of
//! objects, or objects one after another.
//!
//! The array is never held as a whole. One element after another is cut out of
//! the stream by counting braces, and written as the words that `ip` has for
//! it, so that the grammar's parser judges every value as it judges a line.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, Visitor};

use crate::error::{At, ErrorKind, FileError};
use crate::lines::{ENTRY_BYTES_MAX, Lines};

/// Where in the array the reader stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Before the first bracket or brace.
    Start,
    /// Behind `[`: an element or the end.
    First,
    /// Behind an element: a comma or the end.
    Behind,
    /// Behind a comma: an element.
    Comma,
    /// Outside any array: objects one after another.
    Bare,
    /// Behind `]`.
    Done,
}

pub(crate) struct Elements {
    place: Place,
}

impl Elements {
    pub(crate) fn new() -> Elements {
        Elements { place: Place::Start }
    }

    /// Finds the next element: its first byte's offset, its length in the
    /// window of `lines`. The caller consumes it.
    pub(crate) fn next<R: Read>(
        &mut self,
        lines: &mut Lines<R>,
    ) -> Result<Option<(u64, usize)>, FileError> {
        loop {
            let Some(&byte) = lines.window().first() else {
                if lines.more()? {
                    continue;
                }
                return match self.place {
                    Place::Start | Place::Bare | Place::Done => Ok(None),
                    Place::First | Place::Behind | Place::Comma => {
                        Err(error(lines.position(), ErrorKind::Unfinished))
                    }
                };
            };
            self.place = match (self.place, byte) {
                (place, b' ' | b'\t' | b'\r' | b'\n') => place,
                (Place::Start | Place::Bare, b'[') => Place::First,
                (Place::First | Place::Behind, b']') => Place::Done,
                // Several arrays in one file: `ip -j route; ip -6 -j route`.
                (Place::Done, b'[') => Place::First,
                (Place::Behind, b',') => Place::Comma,
                (place @ (Place::Start | Place::Bare | Place::First | Place::Comma), b'{') => {
                    let found = element(lines)?;
                    let inside = matches!(place, Place::First | Place::Comma);
                    self.place = if inside { Place::Behind } else { Place::Bare };
                    return Ok(Some(found));
                }
                (_, byte) => {
                    let why = format!("'{}' where no JSON has it", byte.escape_ascii());
                    return Err(error(
                        lines.position(),
                        ErrorKind::Corrupt { compression: "JSON", why },
                    ));
                }
            };
            lines.consume(1);
        }
    }
}

/// The end of the object that begins at the window's start.
fn element<R: Read>(lines: &mut Lines<R>) -> Result<(u64, usize), FileError> {
    let start = lines.position();
    let (mut at, mut depth, mut in_string, mut escaped) = (0, 0_u32, false, false);
    loop {
        while let Some(&byte) = lines.window().get(at) {
            at += 1;
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok((start, at));
                    }
                }
                _ => {}
            }
            if at > ENTRY_BYTES_MAX {
                return Err(error(start, ErrorKind::TooLong { bytes_max: ENTRY_BYTES_MAX }));
            }
        }
        if !lines.more()? {
            return Err(error(start, ErrorKind::Unfinished));
        }
    }
}

fn error(byte: u64, kind: ErrorKind) -> FileError {
    FileError { at: At::Byte(byte), kind }
}

/// One word: a string without white space, or a number.
struct Word<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordVisitor;

        fn checked<E: de::Error>(word: &str) -> Result<&str, E> {
            if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c == '#') {
                return Err(E::custom(format!("\"{}\" is not one word", word.escape_debug())));
            }
            Ok(word)
        }

        impl<'de> Visitor<'de> for WordVisitor {
            type Value = Word<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word or a number")
            }

            fn visit_borrowed_str<E: de::Error>(self, v: &'de str) -> Result<Word<'de>, E> {
                Ok(Word(Cow::Borrowed(checked(v)?)))
            }

            fn visit_str<E: de::Error>(self, v: &str) -> Result<Word<'de>, E> {
                Ok(Word(Cow::Owned(checked(v)?.to_owned())))
            }

            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Word<'de>, E> {
                Ok(Word(Cow::Owned(v.to_string())))
            }
        }

        deserializer.deserialize_any(WordVisitor)
    }
}

#[derive(serde::Deserialize)]
struct Via<'a> {
    #[serde(borrow)]
    host: Word<'a>,
    #[serde(rename = "family")]
    _family: Option<IgnoredAny>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Hop<'a> {
    #[serde(borrow)]
    gateway: Option<Word<'a>>,
    #[serde(borrow)]
    via: Option<Via<'a>>,
    #[serde(borrow)]
    dev: Option<Word<'a>>,
    #[serde(borrow)]
    weight: Option<Word<'a>>,
    #[serde(borrow, default)]
    flags: Vec<Word<'a>>,
}

/// An object of `ip -json route`. A member that carries meaning and that we
/// can't keep (`encap`, …) is refused by name: dropping it in silence would
/// damage the route. Members that only describe one dump are left out.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Object<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Word<'a>>,
    #[serde(borrow)]
    dst: Option<Word<'a>>,
    #[serde(borrow)]
    tos: Option<Word<'a>>,
    #[serde(borrow)]
    gateway: Option<Word<'a>>,
    #[serde(borrow)]
    via: Option<Via<'a>>,
    #[serde(borrow)]
    dev: Option<Word<'a>>,
    #[serde(borrow)]
    table: Option<Word<'a>>,
    #[serde(borrow)]
    protocol: Option<Word<'a>>,
    #[serde(borrow)]
    scope: Option<Word<'a>>,
    #[serde(borrow)]
    prefsrc: Option<Word<'a>>,
    #[serde(borrow)]
    metric: Option<Word<'a>>,
    #[serde(borrow)]
    pref: Option<Word<'a>>,
    #[serde(borrow)]
    distance: Option<Word<'a>>,
    #[serde(borrow, default)]
    flags: Vec<Word<'a>>,
    #[serde(borrow, default)]
    metrics: Vec<BTreeMap<Cow<'a, str>, Word<'a>>>,
    #[serde(borrow, default)]
    nexthops: Vec<Hop<'a>>,
    nhid: Option<u32>,
    // What only describes one dump.
    #[serde(rename = "age")]
    _age: Option<IgnoredAny>,
    #[serde(rename = "cache")]
    _cache: Option<IgnoredAny>,
    #[serde(rename = "error")]
    _error: Option<IgnoredAny>,
    #[serde(rename = "expires")]
    _expires: Option<IgnoredAny>,
    #[serde(rename = "revision")]
    _revision: Option<IgnoredAny>,
    #[serde(rename = "source")]
    _source: Option<IgnoredAny>,
    #[serde(rename = "used")]
    _used: Option<IgnoredAny>,
    #[serde(rename = "users")]
    _users: Option<IgnoredAny>,
}

/// Flags that only describe what the kernel did with the route.
const FLAGS_LEFT_OUT: [&str; 11] = [
    "offload",
    "trap",
    "rt_offload",
    "rt_trap",
    "rt_offload_failed",
    "offload_failed",
    "unresolved",
    "notify",
    "pervasive",
    "cloned",
    "cache",
];

/// Writes the words that `ip` has for the route of one element into `line`:
/// destination, next hops, the rest. Nothing is written for an object without
/// members, as older `ip` prints for routes it doesn't show.
///
/// # Errors
/// Why the element is no route, as one line.
pub(crate) fn words(element: &[u8], line: &mut String) -> Result<(), String> {
    let object: Object<'_> = serde_json::from_slice(element).map_err(|error| {
        let text = error.to_string();
        // Not the list of everything that is known, nor a column of its own count.
        let text = text.split(", expected one of").next().unwrap_or_default();
        text.split(" at line ").next().unwrap_or_default().to_owned()
    })?;
    let Some(dst) = &object.dst else {
        let empty = object.kind.is_none() && object.gateway.is_none() && object.dev.is_none();
        return if empty { Ok(()) } else { Err("it has no dst".to_owned()) };
    };
    if object.nhid.is_some()
        && object.gateway.is_none()
        && object.via.is_none()
        && object.dev.is_none()
        && object.nexthops.is_empty()
    {
        return Err("its next hops are an nhid, which only this kernel knows; gateway or dev would be right".to_owned());
    }
    put(line, "", object.kind);
    line.push(' ');
    line.push_str(&dst.0);
    put(line, " via ", object.gateway);
    put(line, " via ", object.via.map(|via| via.host));
    put(line, " dev ", object.dev);
    put(line, " table ", object.table);
    put(line, " proto ", object.protocol);
    put(line, " scope ", object.scope);
    put(line, " src ", object.prefsrc);
    put(line, " metric ", object.metric);
    put(line, " tos ", object.tos);
    put(line, " pref ", object.pref);
    put(line, " distance ", object.distance);
    for metrics in &object.metrics {
        for (name, Word(value)) in metrics {
            line.push(' ');
            line.push_str(name);
            line.push(' ');
            line.push_str(value);
        }
    }
    flags(&object.flags, line);
    for hop in object.nexthops {
        line.push_str(" nexthop");
        put(line, " via ", hop.gateway);
        put(line, " via ", hop.via.map(|via| via.host));
        put(line, " dev ", hop.dev);
        put(line, " weight ", hop.weight);
        flags(&hop.flags, line);
    }
    Ok(())
}

fn put(line: &mut String, name: &str, word: Option<Word<'_>>) {
    if let Some(Word(word)) = word {
        line.push_str(name);
        line.push_str(&word);
    }
}

fn flags(flags: &[Word<'_>], line: &mut String) {
    for Word(flag) in flags.iter().filter(|flag| !FLAGS_LEFT_OUT.contains(&flag.0.as_ref())) {
        line.push(' ');
        line.push_str(flag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_becomes_the_words_of_ip() {
        for (element, expected) in [
            (
                r#"{"dst":"default","gateway":"10.0.0.1","dev":"eth0","protocol":"dhcp","prefsrc":"10.0.0.5","metric":100,"flags":[]}"#,
                " default via 10.0.0.1 dev eth0 proto dhcp src 10.0.0.5 metric 100",
            ),
            (
                r#"{"type":"unreachable","dst":"10.0.0.0/8","table":"7","flags":["linkdown","offload"]}"#,
                "unreachable 10.0.0.0/8 table 7 linkdown",
            ),
            (
                r#"{"dst":"10.0.0.0/8","via":{"family":"inet6","host":"fe80::1"},"dev":"eth0","metrics":[{"mtu":1400}],"flags":[]}"#,
                " 10.0.0.0/8 via fe80::1 dev eth0 mtu 1400",
            ),
            (
                r#"{"dst":"10.0.0.0/8","nhid":5,"flags":[],"nexthops":[{"gateway":"10.0.0.1","dev":"eth0","weight":2,"flags":["onlink"]},{"dev":"eth1","weight":1,"flags":[]}]}"#,
                " 10.0.0.0/8 nexthop via 10.0.0.1 dev eth0 weight 2 onlink nexthop dev eth1 weight 1",
            ),
            ("{}", ""),
            (r#"{ "dst" : "\u0031.1.1.1" }"#, " 1.1.1.1"),
        ] {
            let mut line = String::new();
            words(element.as_bytes(), &mut line).unwrap();
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn what_can_not_be_kept_is_refused_by_name() {
        for (element, expected) in [
            (r#"{"dst":"10/8","encap":{"mpls":1}}"#, "unknown field `encap`"),
            (r#"{"gateway":"10.0.0.1"}"#, "it has no dst"),
            (r#"{"dst":"10/8","nhid":7}"#, "its next hops are an nhid"),
            (r#"{"dst":"10/8 metric 5"}"#, "\"10/8 metric 5\" is not one word"),
            (r#"{"dst":["10/8"]}"#, "invalid type: sequence, expected a word or a number"),
            (
                r#"{"dst":"10/8","metric":-1}"#,
                "invalid type: integer `-1`, expected a word or a number",
            ),
            (r#"{"dst" "10/8"}"#, "expected `:`"),
        ] {
            let error = words(element.as_bytes(), &mut String::new()).unwrap_err();
            assert!(error.starts_with(expected), "{element}: {error}");
        }
    }
}
