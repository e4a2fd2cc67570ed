//! From lines to words, as `ip -batch` splits them.
//!
//! Blanks, tabs and carriage returns separate words. A word that begins with
//! a single or a double quote reaches to the next such quote, whatever stands
//! between; there are no escapes. `#` begins a comment, anywhere but in
//! quotes (iproute2 cuts there, too, and then misses the closing quote). A
//! backslash at the very end of a line joins the next line to it.
//!
//! A word is a slice of its line, so splitting copies nothing, and the first
//! [`INLINE`] words need no allocation.

use super::error::TextError;

/// Words held without an allocation. A route with every usual attribute has
/// under 24; one with many next hops spills.
const INLINE: usize = 24;

/// A word and where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Word<'a> {
    /// The word, without quotes.
    pub text: &'a str,
    /// The byte at which it begins, counted from 1.
    pub column: u32,
    /// Quoted, or behind `--`: never an option.
    pub literal: bool,
}

impl Word<'_> {
    /// Is this an option: a dash with something behind it?
    pub fn is_option(&self) -> bool {
        !self.literal && self.text.len() > 1 && self.text.starts_with('-')
    }
}

/// The words of a line or of a command's arguments.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    inline: [Word<'a>; INLINE],
    count: usize,
    /// All the words, once they are more than fit in `inline`.
    spill: Vec<Word<'a>>,
    /// The column behind the last one.
    end: u32,
}

impl Default for Words<'_> {
    fn default() -> Self {
        Words {
            inline: [Word { text: "", column: 0, literal: false }; INLINE],
            count: 0,
            spill: Vec::new(),
            end: 1,
        }
    }
}

impl<'a> Words<'a> {
    /// The words of one line (a logical one: see [`LineJoiner`]).
    ///
    /// # Errors
    /// A quote that isn't closed.
    pub fn of_line(line: &'a str) -> Result<Words<'a>, TextError> {
        let mut words = Words::default();
        words.split(line)?;
        Ok(words)
    }

    /// The words of a line that `ip` printed: blanks separate them, and nothing
    /// else means anything (an interface may be named `#1`). `ip -o` writes a
    /// backslash for a line feed, right behind the last word and before a tab.
    pub fn of_printed(line: &'a str) -> Words<'a> {
        let bytes = line.as_bytes();
        let mut words = Words::default();
        let mut at = 0;
        while at < bytes.len() {
            let start = at;
            while at < bytes.len() && !is_blank(bytes[at]) {
                at += 1;
            }
            let mut text = &line[start..at];
            if bytes.get(at) == Some(&b'\t') {
                text = text.strip_suffix('\\').unwrap_or(text);
            }
            if !text.is_empty() {
                words.push(Word { text, column: column(start + 1), literal: true });
            }
            at += 1;
        }
        words.end = column(line.len() + 1);
        words
    }

    /// The words of a command line, already split by a shell.
    pub fn of_args<S: AsRef<str>>(args: &'a [S]) -> Words<'a> {
        let mut words = Words::default();
        for arg in args {
            let text = arg.as_ref();
            words.push(Word { text, column: words.end, literal: false });
            words.end = words.end.saturating_add(column(text.len() + 1));
        }
        words
    }

    /// The words.
    pub fn as_slice(&self) -> &[Word<'a>] {
        if self.spill.is_empty() { &self.inline[..self.count] } else { &self.spill }
    }

    /// The column behind the last word: where something is missing.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// Sets the column at which something would be missing.
    pub(super) fn set_end(&mut self, end: u32) {
        self.end = end;
    }

    /// Appends a word.
    pub fn push(&mut self, word: Word<'a>) {
        if self.count < INLINE {
            self.inline[self.count] = word;
        } else {
            if self.spill.is_empty() {
                self.spill.extend_from_slice(&self.inline);
            }
            self.spill.push(word);
        }
        self.count += 1;
    }

    /// Appends up to `count` words that the cursor has next.
    pub(super) fn extend(&mut self, cursor: &mut Cursor<'_, 'a>, count: usize) {
        for _ in 0..count {
            if let Some(word) = cursor.next() {
                self.push(word);
            }
        }
        self.end = cursor.end;
    }

    fn split(&mut self, line: &'a str) -> Result<(), TextError> {
        let bytes = line.as_bytes();
        let mut at = 0;
        loop {
            while at < bytes.len() && is_blank(bytes[at]) {
                at += 1;
            }
            if at == bytes.len() || bytes[at] == b'#' {
                self.end = column(at + 1);
                return Ok(());
            }
            let start = at;
            let quote = bytes[at];
            if quote == b'"' || quote == b'\'' {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += 1;
                }
                let word =
                    Word { text: &line[start + 1..at], column: column(start + 1), literal: true };
                if at == bytes.len() {
                    return Err(TextError::new(
                        "quote",
                        word,
                        "the quote is not closed",
                        format!("a {} at its end would be right", quote as char),
                    ));
                }
                at += 1;
                self.push(word);
            } else {
                while at < bytes.len() && !is_blank(bytes[at]) && bytes[at] != b'#' {
                    at += 1;
                }
                self.push(Word {
                    text: &line[start..at],
                    column: column(start + 1),
                    literal: false,
                });
            }
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn column(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Reads words one after another.
#[derive(Clone, Debug)]
pub struct Cursor<'w, 'a> {
    words: &'w [Word<'a>],
    end: u32,
    at: usize,
}

impl<'w, 'a> Cursor<'w, 'a> {
    /// At the first of `words`.
    pub fn new(words: &'w Words<'a>) -> Cursor<'w, 'a> {
        Cursor { words: words.as_slice(), end: words.end(), at: 0 }
    }

    /// The next word; the cursor moves on.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> Option<Word<'a>> {
        let word = *self.words.get(self.at)?;
        self.at += 1;
        Some(word)
    }

    /// The next word; the cursor stays.
    #[inline]
    pub fn peek(&self) -> Option<Word<'a>> {
        self.words.get(self.at).copied()
    }

    /// Steps back over the word that `next` gave.
    pub fn back(&mut self) {
        self.at = self.at.saturating_sub(1);
    }

    /// The next word, if it is exactly this one.
    pub fn eat(&mut self, text: &str) -> bool {
        let hit = self.peek().is_some_and(|word| word.text == text);
        self.at += usize::from(hit);
        hit
    }

    /// The word that belongs to `keyword`; `right` says what would do.
    #[inline]
    pub fn value(
        &mut self,
        keyword: &'static str,
        right: &'static str,
    ) -> Result<Word<'a>, TextError> {
        self.next().ok_or_else(|| {
            let mut error = TextError::missing(keyword, self.end, right);
            error.why = "its value is missing".into();
            error
        })
    }

    /// What is missing here.
    pub fn missing(&self, what: &'static str, right: &'static str) -> TextError {
        TextError::missing(what, self.end, right)
    }

    /// Nothing may follow.
    pub fn finish(&self, what: &'static str) -> Result<(), TextError> {
        match self.peek() {
            None => Ok(()),
            Some(word) => Err(TextError::new(
                what,
                word,
                "nothing more is expected here",
                "a line that ends here would be right",
            )),
        }
    }
}

/// Joins lines that end with a backslash to the next one.
///
/// ```
/// use rtm_model::text::LineJoiner;
/// let mut joiner = LineJoiner::default();
/// assert_eq!(joiner.push("route add 10.0.0.0/8 \\"), None);
/// assert_eq!(joiner.push("via 10.1.1.1"), Some("route add 10.0.0.0/8 via 10.1.1.1"));
/// assert_eq!((joiner.line(), joiner.first_line()), (2, 1));
/// ```
#[derive(Clone, Debug, Default)]
pub struct LineJoiner {
    pending: String,
    open: bool,
    line: u64,
    first: u64,
}

impl LineJoiner {
    /// Takes a line (its line feed may be there or not); gives a logical line
    /// when one is complete.
    pub fn push<'a>(&'a mut self, line: &'a str) -> Option<&'a str> {
        let line = line.strip_suffix('\n').unwrap_or(line);
        self.line += 1;
        let continued = std::mem::take(&mut self.open);
        if !continued {
            self.first = self.line;
            self.pending.clear();
        }
        // As iproute2: a backslash in a comment joins nothing.
        self.open = line.ends_with('\\') && !has_comment(&self.pending, line);
        if !continued && !self.open {
            return Some(line);
        }
        self.pending.push_str(if self.open { &line[..line.len() - 1] } else { line });
        (!self.open).then_some(self.pending.as_str())
    }

    /// The number of the last line taken, counted from 1: what `ip` names.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The number of the line at which the logical line began.
    pub fn first_line(&self) -> u64 {
        self.first
    }

    /// Bytes held back for a line that isn't complete: to be bounded by
    /// whoever reads.
    pub fn pending_bytes(&self) -> usize {
        if self.open { self.pending.len() } else { 0 }
    }

    /// The end of the input.
    ///
    /// # Errors
    /// The last line ends with a backslash.
    pub fn finish(&self) -> Result<(), TextError> {
        if !self.open {
            return Ok(());
        }
        let mut error = TextError::missing("line", 1, "a last line without backslash at its end");
        error.why = "the line that the backslash announces is missing".into();
        Err(error.at_line(self.line))
    }
}

/// Does a comment begin in `line`, which continues `before`?
fn has_comment(before: &str, line: &str) -> bool {
    if !line.contains('#') {
        return false;
    }
    let mut quote = None;
    let mut in_word = false;
    for byte in before.bytes().chain(line.bytes()) {
        match quote {
            Some(open) => {
                if byte == open {
                    (quote, in_word) = (None, false);
                }
            }
            None if is_blank(byte) => in_word = false,
            None if byte == b'#' => return true,
            None if !in_word && (byte == b'"' || byte == b'\'') => quote = Some(byte),
            None => in_word = true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &[&str]) {
        let words = Words::of_line(line).unwrap();
        let texts: Vec<&str> = words.as_slice().iter().map(|word| word.text).collect();
        assert_eq!(texts, expected, "{line:?}");
        for word in words.as_slice() {
            let at = word.column as usize - 1 + usize::from(word.literal);
            assert!(line[at..].starts_with(word.text), "{line:?}: {word:?}");
        }
    }

    #[test]
    fn words_are_those_of_ip_batch() {
        check("", &[]);
        check("  \t\r\n", &[]);
        check("# a comment", &[]);
        check("route add 10/8 # why", &["route", "add", "10/8"]);
        check("route add 10/8#why", &["route", "add", "10/8"]);
        check("mq send 'a # b'", &["mq", "send", "a # b"]);
        check("mq send \"it's\" x", &["mq", "send", "it's", "x"]);
        check("'a'b", &["a", "b"]);
        check("a'b c'", &["a'b", "c'"]);
        check("''", &[""]);
        check("  a  b  ", &["a", "b"]);
        check("é ü", &["é", "ü"]);
        let many = "x ".repeat(100);
        check(&many, &["x"; 100]);
    }

    #[test]
    fn an_open_quote_is_refused() {
        let error = Words::of_line("mq send 'abc").unwrap_err();
        assert_eq!(error.column, 9);
        assert_eq!(
            error.to_string(),
            "quote: abc: the quote is not closed; a ' at its end would be right"
        );
    }

    #[test]
    fn lines_are_joined() {
        let mut joiner = LineJoiner::default();
        let mut out = Vec::new();
        for line in ["a\n", "b \\\n", "c\\", "d", "e # f \\", "'g # \\", "h'", "i\\ "] {
            if let Some(text) = joiner.push(line) {
                out.push(text.to_owned());
            }
        }
        assert_eq!(out, ["a", "b cd", "e # f \\", "'g # h'", "i\\ "]);
        assert_eq!(joiner.line(), 8);
        assert!(joiner.finish().is_ok());
        assert_eq!(joiner.push("x\\"), None);
        assert_eq!(joiner.pending_bytes(), 1);
        assert!(joiner.finish().unwrap_err().to_string().contains("line 9"));
    }

    #[test]
    fn arguments_have_columns_as_if_joined_by_blanks() {
        let args = ["route", "add", "x y"];
        let words = Words::of_args(&args);
        let columns: Vec<u32> = words.as_slice().iter().map(|word| word.column).collect();
        assert_eq!(columns, [1, 7, 11]);
        assert_eq!(words.end(), 15);
    }
}
