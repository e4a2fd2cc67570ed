//! Standard output: buffered, streamed, coloured only where that is wanted.
//!
//! Nothing here keeps more than one buffer, so a million rows pass through in
//! constant memory. Errors of writing come back as they are; a pipe that
//! nobody reads any more ends the command quietly (see `Failure`).

use std::fmt;
use std::io::{self, IsTerminal, Write};

use rtm_model::text::{Bytes, Color, JsonWriter, Palette};

/// The most that is kept before it is written.
const BUFFER_BYTES: usize = 64 * 1024;

/// Standard output.
pub(crate) struct Out {
    /// None: what is printed is taken by [`Out::take`].
    stream: Option<io::StdoutLock<'static>>,
    buffer: Vec<u8>,
    palette: Option<Palette>,
    terminal: bool,
}

impl Out {
    /// Opens it.
    pub(crate) fn new(color: Color) -> Out {
        let terminal = io::stdout().is_terminal();
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let coloured = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                terminal
                    && set("NO_COLOR").is_none()
                    && set("TERM").is_none_or(|term| term != "dumb")
            }
        };
        let palette = coloured.then(|| Palette::of_colorfgbg(set("COLORFGBG").as_deref()));
        Out { stream: Some(io::stdout().lock()), buffer: Vec::new(), palette, terminal }
    }

    /// No standard output: what is printed is kept until it is taken.
    pub(crate) fn captured() -> Out {
        Out { stream: None, buffer: Vec::new(), palette: None, terminal: false }
    }

    /// What was printed since the last call.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Is it a terminal?
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Its colours, if there are to be some.
    pub(crate) fn palette(&self) -> Option<Palette> {
        self.palette
    }

    /// Where to print to. Then [`Out::spill`].
    pub(crate) fn buffer(&mut self) -> Bytes<'_> {
        Bytes(&mut self.buffer)
    }

    /// Writes out what is there, if it is much.
    pub(crate) fn spill(&mut self) -> io::Result<()> {
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Bytes, as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        self.spill()
    }

    /// Adds text as it is.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        self.buffer.extend_from_slice(text.as_bytes());
        self.spill()
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, text: impl fmt::Display) -> io::Result<()> {
        writeln!(self.buffer, "{text}")?;
        self.spill()
    }

    /// The text as a heading, if there are colours.
    pub(crate) fn heading(&self, text: &str) -> String {
        match self.palette {
            Some(_) => format!("\x1b[1m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }

    /// Writes out what is there.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let result = stream.write_all(&self.buffer).and_then(|()| stream.flush());
        self.buffer.clear();
        result
    }

    /// A JSON value of a command of our own, as `-j` and `-p` want it.
    pub(crate) fn json(&mut self, value: &serde_json::Value, pretty: bool) -> io::Result<()> {
        let text =
            if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        self.line(text.map_err(io::Error::other)?)
    }
}

/// A JSON array that is written entry by entry. Nothing is written before the
/// first, so that a command which is refused leaves no half of one behind.
pub(crate) struct JsonArray {
    pretty: bool,
    first: bool,
}

impl JsonArray {
    /// An array.
    pub(crate) fn new(pretty: bool) -> JsonArray {
        JsonArray { pretty, first: true }
    }

    /// One entry, which `write` writes.
    pub(crate) fn entry(
        &mut self,
        out: &mut Out,
        write: impl FnOnce(&mut JsonWriter<'_, Bytes<'_>>) -> fmt::Result,
    ) -> io::Result<()> {
        if self.first {
            self.begin(out)?;
        }
        let mut buffer = out.buffer();
        let mut json = JsonWriter::in_array(&mut buffer, self.pretty, self.first);
        self.first = false;
        write(&mut json).map_err(io::Error::other)?;
        out.spill()
    }

    /// Its end.
    pub(crate) fn end(self, out: &mut Out) -> io::Result<()> {
        if self.first {
            self.begin(out)?;
        }
        out.text(if self.pretty && !self.first { " ]\n" } else { "]\n" })
    }

    fn begin(&self, out: &mut Out) -> io::Result<()> {
        out.text(if self.pretty { "[ " } else { "[" })
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
        let lines = self.lines();
        for (index, line) in lines.iter().enumerate() {
            let line = if index == 0 { out.heading(line) } else { line.clone() };
            out.line(line)?;
        }
        Ok(())
    }

    fn lines(&self) -> Vec<String> {
        let cell = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| cell(&row[column]).chars().count());
            cells.chain([self.heads[column].0.len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
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
        let heads: Vec<String> = self.heads.iter().map(|(head, _)| (*head).to_owned()).collect();
        [heads].iter().chain(&self.rows).map(|cells| line(cells)).collect()
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

    #[test]
    fn columns_are_aligned() {
        let mut grid = Grid::new(&[("NAME", Side::Left), ("PID", Side::Right)]);
        grid.row(vec!["collector".into(), "12".into()]);
        grid.row(vec![String::new(), "1234".into()]);
        assert_eq!(grid.lines(), ["NAME        PID", "collector    12", "-          1234"]);
    }
}
