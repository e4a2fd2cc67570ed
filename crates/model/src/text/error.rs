//! The one error of the grammar: a line for the user.

use std::borrow::Cow;
use std::fmt;

use super::words::Word;

/// The most bytes of a wrong word that an error repeats: enough to find it,
/// and an error stays one line.
pub const PLACE_BYTES_MAX: usize = 64;

/// Text that the grammar doesn't take.
///
/// Prints as `what: where: why; what would be right`, one line, control
/// characters escaped; what is where it is wrong (an option beside another that
/// excludes it) is named once. Whoever reads lines adds the line's number with
/// [`TextError::at_line`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextError {
    /// What is wrong: `destination`, `metric`, `verb`, ….
    pub what: Cow<'static, str>,
    /// The word, or `end of line`.
    pub place: Box<str>,
    /// Why it is wrong.
    pub why: Cow<'static, str>,
    /// What would be right.
    pub right: Cow<'static, str>,
    /// The byte in the line at which the word stands, counted from 1.
    pub column: u32,
    /// Where in a file or a stream.
    pub at: At,
}

/// Where in a file or a stream something stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum At {
    /// There is only the one line.
    #[default]
    Here,
    /// In this line, counted from 1.
    Line(u64),
    /// At this byte of the unpacked stream, counted from 0.
    Byte(u64),
}

impl TextError {
    /// About a word.
    pub fn new(
        what: impl Into<Cow<'static, str>>,
        word: Word<'_>,
        why: impl Into<Cow<'static, str>>,
        right: impl Into<Cow<'static, str>>,
    ) -> TextError {
        TextError {
            what: what.into(),
            place: place(word.text),
            why: why.into(),
            right: right.into(),
            column: word.column,
            at: At::Here,
        }
    }

    /// About something that should follow at `column`, where the line ends.
    pub fn missing(
        what: impl Into<Cow<'static, str>>,
        column: u32,
        right: impl Into<Cow<'static, str>>,
    ) -> TextError {
        TextError {
            what: what.into(),
            place: "end of line".into(),
            why: "something is missing".into(),
            right: right.into(),
            column,
            at: At::Here,
        }
    }

    /// The same in what begins at this byte of a stream.
    #[must_use]
    pub fn at_byte(mut self, offset: u64) -> TextError {
        self.at = At::Byte(offset + u64::from(self.column.max(1) - 1));
        self
    }

    /// The same in this line of a file or a stream.
    #[must_use]
    pub fn at_line(mut self, line: u64) -> TextError {
        self.at = At::Line(line);
        self
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.what)?;
        match self.at {
            At::Here => {}
            At::Line(line) => write!(f, "line {line}, byte {}: ", self.column)?,
            At::Byte(byte) => write!(f, "byte {byte}: ")?,
        }
        if *self.place != *self.what {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.why)?;
        if !self.right.is_empty() {
            write!(f, "; {}", self.right)?;
        }
        Ok(())
    }
}

impl std::error::Error for TextError {}

/// A text that somebody else chose, as it may be shown: in one line, and moving no
/// cursor.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push_printable(&mut out, c));
    out
}

fn push_printable(out: &mut String, c: char) {
    if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
}

/// A word as an error repeats it: escaped, cut, quoted where it would not be
/// seen otherwise.
fn place(text: &str) -> Box<str> {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() >= PLACE_BYTES_MAX {
            out.push('…');
            break;
        }
        push_printable(&mut out, c);
    }
    if out.is_empty() || out.contains(' ') {
        out = format!("'{out}'");
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_short_line() {
        let word = Word { text: "a\nb\u{1b}[31m", column: 7, literal: false };
        let error = TextError::new("metric", word, "not a number", "like 20");
        assert_eq!(error.to_string(), "metric: a\\nb\\u{1b}[31m: not a number; like 20");
        assert_eq!(
            error.at_line(3).to_string(),
            "metric: line 3, byte 7: a\\nb\\u{1b}[31m: not a number; like 20"
        );
        let long = "x".repeat(1000);
        let word = Word { text: &long, column: 1, literal: false };
        assert!(TextError::new("w", word, "y", "").to_string().len() < 100);
        assert_eq!(&*place(""), "''");
        assert_eq!(&*place("a b"), "'a b'");
    }
}
