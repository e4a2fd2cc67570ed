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

/// Words held without an allocation: a route with gateway, link, protocol,
/// metric, table and source has 15; one with many next hops spills. More would
/// cost every line time, since the places are filled before they are used.
const INLINE: usize = 16;

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
    #[inline]
    pub fn is_option(&self) -> bool {
        self.text.as_bytes().first() == Some(&b'-') && self.text.len() > 1 && !self.literal
    }
}

/// The words of a line or of a command's arguments.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    inline: [Word<'a>; INLINE],
    count: usize,
    /// One of them is an option.
    options: bool,
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
            options: false,
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

    /// Is one of them an option?
    pub fn has_options(&self) -> bool {
        self.options
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
    #[inline]
    pub fn push(&mut self, word: Word<'a>) {
        // Part by part: put together on the stack first, each word would cost a
        // failed store forwarding, a third of the whole splitting.
        let Word { text, column, literal } = word;
        let first = text.as_bytes().first();
        self.options |= first == Some(&b'-') && text.len() > 1 && !literal;
        match self.inline.get_mut(self.count) {
            Some(place) => {
                place.text = text;
                place.column = column;
                place.literal = literal;
            }
            None => self.spill(text, column, literal),
        }
        self.count += 1;
    }

    #[cold]
    #[inline(never)]
    fn spill(&mut self, text: &'a str, column: u32, literal: bool) {
        if self.spill.is_empty() {
            self.spill.extend_from_slice(&self.inline);
        }
        self.spill.push(Word { text, column, literal });
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

    #[inline]
    pub(super) fn split(&mut self, line: &'a str) -> Result<(), TextError> {
        let bytes = line.as_bytes();
        let mut at = 0;
        while let Some(&first) = bytes.get(at) {
            match CLASSES[usize::from(first)] {
                BLANK => at += 1,
                COMMENT => break,
                QUOTE => {
                    let inside = at + 1;
                    let word = |end| Word {
                        text: &line[inside..end],
                        column: column(inside),
                        literal: true,
                    };
                    let Some(len) = bytes[inside..].iter().position(|&byte| byte == first) else {
                        return Err(TextError::new(
                            "quote",
                            word(bytes.len()),
                            "the quote is not closed",
                            format!("a {} at its end would be right", first as char),
                        ));
                    };
                    self.push(word(inside + len));
                    at = inside + len + 1;
                }
                _ => {
                    let len = word_bytes(&bytes[at..]);
                    let text = &line[at..at + len];
                    self.push(Word { text, column: column(at + 1), literal: false });
                    at += len;
                }
            }
        }
        self.end = column(at + 1);
        Ok(())
    }
}

/// How long the word is that `bytes` begin with. A quote within it is a part
/// of it.
#[inline]
fn word_bytes(bytes: &[u8]) -> usize {
    let mut at = 0;
    // Eight bytes at once: what ends a word is below `$`, and little else is.
    // `(x - n) & !x` has its top bit set in each byte below n (and, by borrow,
    // perhaps in ones above such a byte: only the first counts).
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let x = u64::from_le_bytes(*chunk);
        let below = x.wrapping_sub(ONES * u64::from(b'$')) & !x & (ONES << 7);
        if below == 0 {
            at += 8;
            continue;
        }
        at += (below.trailing_zeros() / 8) as usize;
        if CLASSES[usize::from(bytes[at])] < QUOTE {
            return at;
        }
        at += 1;
    }
    let rest = &bytes[at..];
    let end = rest.iter().position(|&byte| CLASSES[usize::from(byte)] < QUOTE);
    at + end.unwrap_or(rest.len())
}

const BLANK: u8 = 0;
const COMMENT: u8 = 1;
const QUOTE: u8 = 2;
const WORD: u8 = 3;

/// What each byte means where a word may begin.
const CLASSES: [u8; 256] = {
    let mut classes = [WORD; 256];
    let mut byte = 0;
    while byte < 256 {
        if is_blank(byte as u8) {
            classes[byte] = BLANK;
        }
        byte += 1;
    }
    classes[b'#' as usize] = COMMENT;
    classes[b'"' as usize] = QUOTE;
    classes[b'\'' as usize] = QUOTE;
    classes
};

const fn is_blank(byte: u8) -> bool {
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

    /// The words that are left.
    #[inline]
    pub(super) fn rest(&self) -> &'w [Word<'a>] {
        self.words.get(self.at..).unwrap_or_default()
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
        check("a!\"b c'd\te#f", &["a!\"b", "c'd", "e"]);
        // Words of every length, at every place.
        for len in 1..40 {
            for tail in ["", " ", "\t", "#", " x"] {
                let word = "w!\"'~".chars().cycle().take(len).collect::<String>();
                let line = format!("{word}{tail}");
                let words = Words::of_line(&line).unwrap();
                assert_eq!(words.as_slice()[0].text, word, "{line:?}");
                assert_eq!(words.as_slice().len(), 1 + usize::from(tail == " x"), "{line:?}");
            }
        }
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
