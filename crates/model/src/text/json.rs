//! A small JSON writer, laid out as iproute2's: compact, or indented by four.

use std::fmt::{self, Write};
use std::net::IpAddr;

use super::write;

/// Writes JSON values one after another; the caller keeps begins and ends
/// balanced.
///
/// ```
/// use rtm_model::text::JsonWriter;
/// let mut out = String::new();
/// let mut json = JsonWriter::new(&mut out, false);
/// json.begin_object().unwrap();
/// json.field("dst", "default").unwrap();
/// json.name("flags").unwrap();
/// json.begin_array().unwrap();
/// json.end_array().unwrap();
/// json.end_object().unwrap();
/// assert_eq!(out, r#"{"dst":"default","flags":[]}"#);
/// ```
#[derive(Debug)]
pub struct JsonWriter<'w, W: Write + ?Sized> {
    out: &'w mut W,
    pretty: bool,
    depth: usize,
    /// A value stands before, so a comma has to follow.
    comma: bool,
}

impl<'w, W: Write + ?Sized> JsonWriter<'w, W> {
    /// At the outermost level.
    pub fn new(out: &'w mut W, pretty: bool) -> JsonWriter<'w, W> {
        JsonWriter { out, pretty, depth: 0, comma: false }
    }

    /// Within an array that somebody else began: of a listing that is written
    /// in pieces. `first`: no entry stands before.
    pub fn in_array(out: &'w mut W, pretty: bool, first: bool) -> JsonWriter<'w, W> {
        JsonWriter { out, pretty, depth: 1, comma: !first }
    }

    fn separate(&mut self) -> fmt::Result {
        if std::mem::replace(&mut self.comma, true) { self.out.write_char(',') } else { Ok(()) }
    }

    fn new_line(&mut self) -> fmt::Result {
        if self.pretty {
            self.out.write_char('\n')?;
            for _ in 0..self.depth {
                self.out.write_str("    ")?;
            }
        }
        Ok(())
    }

    /// `{`
    pub fn begin_object(&mut self) -> fmt::Result {
        self.separate()?;
        self.depth += 1;
        self.comma = false;
        self.out.write_char('{')
    }

    /// `}`
    pub fn end_object(&mut self) -> fmt::Result {
        self.depth = self.depth.saturating_sub(1);
        if std::mem::replace(&mut self.comma, true) {
            self.new_line()?;
        }
        self.out.write_char('}')
    }

    /// `[`
    pub fn begin_array(&mut self) -> fmt::Result {
        self.separate()?;
        self.depth += 1;
        self.comma = false;
        self.out.write_str(if self.pretty { "[ " } else { "[" })
    }

    /// `]`
    pub fn end_array(&mut self) -> fmt::Result {
        self.depth = self.depth.saturating_sub(1);
        if std::mem::replace(&mut self.comma, true) && self.pretty {
            self.out.write_char(' ')?;
        }
        self.out.write_char(']')
    }

    /// The name of the member whose value follows.
    pub fn name(&mut self, name: &str) -> fmt::Result {
        self.separate()?;
        self.new_line()?;
        self.comma = false;
        quoted(self.out, name)?;
        self.out.write_str(if self.pretty { ": " } else { ":" })
    }

    /// A text.
    pub fn string(&mut self, value: &str) -> fmt::Result {
        self.separate()?;
        quoted(self.out, value)
    }

    /// A text that is made in place. It must hold nothing that JSON escapes.
    pub fn plain(&mut self, value: impl FnOnce(&mut W) -> fmt::Result) -> fmt::Result {
        self.separate()?;
        self.out.write_char('"')?;
        value(self.out)?;
        self.out.write_char('"')
    }

    /// A number.
    pub fn number(&mut self, value: impl Into<u64>) -> fmt::Result {
        self.separate()?;
        write::number(self.out, value)
    }

    /// `true` or `false`.
    pub fn bool(&mut self, value: bool) -> fmt::Result {
        self.separate()?;
        self.out.write_str(if value { "true" } else { "false" })
    }

    /// `null`.
    pub fn null(&mut self) -> fmt::Result {
        self.separate()?;
        self.out.write_str("null")
    }

    /// A member with a text.
    pub fn field(&mut self, name: &str, value: &str) -> fmt::Result {
        self.name(name)?;
        self.string(value)
    }

    /// A member with a number.
    pub fn field_number(&mut self, name: &str, value: impl Into<u64>) -> fmt::Result {
        self.name(name)?;
        self.number(value)
    }

    /// A member with an address.
    pub fn field_address(&mut self, name: &str, value: IpAddr) -> fmt::Result {
        self.name(name)?;
        self.plain(|out| write::address(out, value))
    }
}

/// A quoted text, escaped as RFC 8259 demands.
fn quoted<W: Write + ?Sized>(out: &mut W, text: &str) -> fmt::Result {
    out.write_char('"')?;
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c < ' ' || matches!(c, '"' | '\\' | '\u{7f}')) {
        out.write_str(&rest[..at])?;
        match rest.as_bytes()[at] {
            b'"' => out.write_str("\\\"")?,
            b'\\' => out.write_str("\\\\")?,
            b'\n' => out.write_str("\\n")?,
            b'\t' => out.write_str("\\t")?,
            b'\r' => out.write_str("\\r")?,
            0x08 => out.write_str("\\b")?,
            0x0c => out.write_str("\\f")?,
            byte => write!(out, "\\u{byte:04x}")?,
        }
        rest = &rest[at + 1..];
    }
    out.write_str(rest)?;
    out.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped() {
        let all: String = (0..0x180_u32).filter_map(char::from_u32).collect();
        let mut out = String::new();
        JsonWriter::new(&mut out, false).string(&all).unwrap();
        assert_eq!(serde_json::from_str::<String>(&out).unwrap(), all);
        assert!(!out.contains(char::is_control) || out.chars().all(|c| c > '\u{7e}' || c >= ' '));
    }

    #[test]
    fn pretty_is_as_iproute2_has_it() {
        let mut out = String::new();
        let mut json = JsonWriter::new(&mut out, true);
        json.begin_array().unwrap();
        for flags in [&["onlink"][..], &[]] {
            json.begin_object().unwrap();
            json.field("dst", "default").unwrap();
            json.name("flags").unwrap();
            json.begin_array().unwrap();
            for flag in flags {
                json.string(flag).unwrap();
            }
            json.end_array().unwrap();
            json.end_object().unwrap();
        }
        json.end_array().unwrap();
        // Copied from `ip -j -p route show`.
        let expected = "[ {\n        \"dst\": \"default\",\n        \"flags\": [ \"onlink\" ]\n    },{\n        \"dst\": \"default\",\n        \"flags\": [ ]\n    } ]";
        assert_eq!(out, expected);
    }
}
