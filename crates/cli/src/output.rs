//! Standard output: buffered, streamed, coloured only where that is wanted.
//!
//! Nothing here keeps more than one buffer, so a million rows pass through in
//! constant memory. Errors of writing come back as they are; a pipe that
//! nobody reads any more ends the command quietly (see `Failure`).

use std::fmt;
use std::io::{self, IsTerminal, Write};

/// When to colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum ColourWhen {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a piece of text is; colours are those of `ip` on a dark background.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tint {
    /// An interface's name.
    Link,
    /// A MAC address.
    Mac,
    /// An IPv4 address.
    V4,
    /// An IPv6 address.
    V6,
    /// All is well.
    Good,
    /// Something needs a look.
    Bad,
    /// A heading.
    Head,
}

impl Tint {
    fn start(self) -> &'static str {
        match self {
            Tint::Link => "\x1b[36m",
            Tint::Mac => "\x1b[33m",
            Tint::V4 => "\x1b[35m",
            Tint::V6 => "\x1b[34;1m",
            Tint::Good => "\x1b[32m",
            Tint::Bad => "\x1b[31m",
            Tint::Head => "\x1b[1m",
        }
    }
}

const END: &str = "\x1b[0m";

/// The most that is kept before it is written.
const BUFFER_BYTES: usize = 64 * 1024;

/// Standard output.
pub(crate) struct Out {
    stream: io::StdoutLock<'static>,
    buffer: Vec<u8>,
    colour: bool,
    /// Is somebody waiting for each line?
    terminal: bool,
}

impl Out {
    /// Opens it.
    pub(crate) fn new(when: ColourWhen) -> Out {
        let terminal = io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let colour = match when {
            ColourWhen::Always => true,
            ColourWhen::Never => false,
            ColourWhen::Auto => terminal && !no_color && !dumb,
        };
        Out { stream: io::stdout().lock(), buffer: Vec::new(), colour, terminal }
    }

    /// Is it a terminal?
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Is it coloured?
    pub(crate) fn is_coloured(&self) -> bool {
        self.colour
    }

    /// Adds text as it is.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        self.buffer.extend_from_slice(text.as_bytes());
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, text: impl fmt::Display) -> io::Result<()> {
        writeln!(self.buffer, "{text}")?;
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// The text in its colour, if there are colours.
    pub(crate) fn tint(&self, tint: Tint, text: &str) -> String {
        if self.colour { format!("{}{text}{END}", tint.start()) } else { text.to_owned() }
    }

    /// Writes out what is there.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let result = self.stream.write_all(&self.buffer).and_then(|()| self.stream.flush());
        self.buffer.clear();
        result
    }
}

/// One line on standard error; that nobody reads it is no reason to end.
pub(crate) fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// How a column stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// An aligned table for people. For short lists only: widths need all rows.
pub(crate) struct Grid {
    heads: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    /// A table with these columns.
    pub(crate) fn new(heads: &[(&'static str, Side)]) -> Grid {
        Grid { heads: heads.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; an empty cell prints as `-`.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Prints it; nothing but the heads if it has no row.
    pub(crate) fn print(&self, out: &mut Out) -> io::Result<()> {
        let cell = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| cell(&row[column]).chars().count());
            cells.chain([self.heads[column].0.len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let heads: Vec<String> = self.heads.iter().map(|(head, _)| (*head).to_owned()).collect();
        let line = |cells: &[String]| {
            let mut line = String::new();
            for (column, text) in cells.iter().enumerate() {
                let width = widths[column];
                let text = cell(text);
                match self.heads[column].1 {
                    Side::Left => line.push_str(&format!("{text:<width$}  ")),
                    Side::Right => line.push_str(&format!("{text:>width$}  ")),
                }
            }
            line.truncate(line.trim_end().len());
            line
        };
        let head = line(&heads);
        let head = out.tint(Tint::Head, &head);
        out.line(head)?;
        for row in &self.rows {
            out.line(line(row))?;
        }
        Ok(())
    }
}

/// A number with a separator in every thousand, for people.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_told_apart() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_062_046, "1,062,046"),
            (123_456, "123,456"),
        ] {
            assert_eq!(thousands(number), text);
        }
    }
}
