//! The options that every command has, before or after the object.
//!
//! As in iproute2 one dash or two make no difference, and an option may be
//! abbreviated (`-det`, `--js`); the first in the table that fits is meant.
//! Options of our own (`--socket`, `--atomic`, …) are whole words with two
//! dashes, and their value may follow an equals sign.

use std::borrow::Cow;

use super::error::TextError;
use super::words::{Word, Words};
use crate::prefix::Family;

/// When output is coloured.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How `monitor` prints the time of a change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Timestamps {
    /// Not at all.
    #[default]
    None,
    /// `-t`: a line of its own.
    Long,
    /// `-ts`: in front, in brackets.
    Short,
}

/// The options of every command.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// `-4`, `-6`, `-family inet|inet6`.
    pub family: Option<Family>,
    /// `-j`.
    pub json: bool,
    /// `-p`: JSON for people.
    pub pretty: bool,
    /// `-d`, how often.
    pub details: u8,
    /// `-s`, how often.
    pub stats: u8,
    /// `-o`: one line for each entry.
    pub oneline: bool,
    /// `-br`.
    pub brief: bool,
    /// `-N`: numbers, no names.
    pub numeric: bool,
    /// `-c`.
    pub color: Color,
    /// `-t`, `-ts`.
    pub timestamps: Timestamps,
    /// `-batch FILE`; `-` is standard input.
    pub batch: Option<String>,
    /// `--atomic`: all or none.
    pub atomic: bool,
    /// `--force`: go on after an error; or don't ask.
    pub force: bool,
    /// `--socket PATH|tcp://HOST:PORT`.
    pub socket: Option<String>,
    /// `--runtime-dir DIR`.
    pub runtime_dir: Option<String>,
    /// `--token-file FILE`.
    pub token_file: Option<String>,
    /// `-h`.
    pub help: bool,
    /// `-V`.
    pub version: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Family4,
    Family6,
    Family,
    Stats,
    Details,
    Oneline,
    Timestamp,
    Tshort,
    Version,
    Force,
    Batch,
    Brief,
    Json,
    Pretty,
    Color,
    Help,
    Numeric,
    Atomic,
    Socket,
    RuntimeDir,
    TokenFile,
    Refused(&'static str),
}

/// iproute2's, in its order: these may be abbreviated and have one dash.
const SHORT: [(&str, Key); 23] = [
    ("family", Key::Family),
    ("4", Key::Family4),
    ("6", Key::Family6),
    ("help", Key::Help),
    ("stats", Key::Stats),
    ("statistics", Key::Stats),
    ("details", Key::Details),
    ("resolve", Key::Refused("addresses are not resolved to names")),
    ("oneline", Key::Oneline),
    ("timestamp", Key::Timestamp),
    ("tshort", Key::Tshort),
    ("Version", Key::Version),
    ("version", Key::Version),
    ("force", Key::Force),
    ("batch", Key::Batch),
    ("brief", Key::Brief),
    ("json", Key::Json),
    ("pretty", Key::Pretty),
    ("color", Key::Color),
    ("netns", Key::Refused("one daemon serves one network namespace; use ip netns exec")),
    ("Numeric", Key::Numeric),
    ("numeric", Key::Numeric),
    ("all", Key::Refused("one daemon serves one network namespace")),
];

/// Ours: whole words with two dashes.
const LONG: [(&str, Key); 4] = [
    ("atomic", Key::Atomic),
    ("socket", Key::Socket),
    ("runtime-dir", Key::RuntimeDir),
    ("token-file", Key::TokenFile),
];

/// Options of single commands whose next word is a value and never an option.
const VALUED: [&str; 11] = [
    "--format",
    "--via",
    "--dev",
    "--source",
    "--json-field",
    "--from",
    "--exec",
    "--timeout",
    "--name",
    "--client",
    "--prio",
];

/// The options' words for completion.
pub fn option_words() -> impl Iterator<Item = Cow<'static, str>> {
    let short = ["4", "6", "h", "V", "N", "br", "c", "d", "j", "o", "p", "s", "t", "ts", "batch"];
    short
        .into_iter()
        .map(|word| Cow::Owned(format!("-{word}")))
        .chain(
            ["help", "version", "json", "pretty", "details", "stats", "oneline", "brief"].map(long),
        )
        .chain(["color", "force"].map(long))
        .chain(LONG.iter().map(|(word, _)| long(word)))
}

fn long(word: &'static str) -> Cow<'static, str> {
    Cow::Owned(format!("--{word}"))
}

impl Options {
    /// Takes the options out of `words`; gives what is left: the command, and
    /// options of its own.
    ///
    /// # Errors
    /// A value that is missing or bad; an option of iproute2 that means nothing
    /// here. Options that nobody knows are left for the command to refuse.
    pub fn extract<'a>(words: &Words<'a>) -> Result<(Options, Words<'a>), TextError> {
        let mut options = Options::default();
        let mut rest = Words::default();
        let list = words.as_slice();
        let mut at = 0;
        while let Some(&word) = list.get(at) {
            at += 1;
            if !word.is_option() {
                rest.push(word);
                continue;
            }
            if word.text == "--" {
                for &word in &list[at..] {
                    rest.push(Word { literal: true, ..word });
                }
                break;
            }
            if VALUED.contains(&word.text) {
                rest.push(word);
                if let Some(&value) = list.get(at) {
                    rest.push(value);
                    at += 1;
                }
                continue;
            }
            let (name, inline) = match word.text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word.text, None),
            };
            let Some(key) = find(name) else {
                rest.push(word);
                continue;
            };
            let mut value = |right: &'static str| match inline {
                Some(text) => Ok(Word { text, ..word }),
                None => {
                    let value = list.get(at).copied();
                    at += 1;
                    value.ok_or_else(|| TextError::missing("option", words.end(), right))
                }
            };
            match key {
                Key::Family4 => options.set_family(Family::V4, word)?,
                Key::Family6 => options.set_family(Family::V6, word)?,
                Key::Family => {
                    let value = value("-family inet|inet6 would be right")?;
                    let family = match value.text {
                        "inet" => Family::V4,
                        "inet6" => Family::V6,
                        _ => {
                            return Err(TextError::new(
                                "option",
                                value,
                                "not a family that is held here",
                                "inet or inet6",
                            ));
                        }
                    };
                    options.set_family(family, value)?;
                }
                Key::Stats => options.stats = options.stats.saturating_add(1),
                Key::Details => options.details = options.details.saturating_add(1),
                Key::Oneline => options.oneline = true,
                Key::Timestamp => options.timestamps = Timestamps::Long,
                Key::Tshort => options.timestamps = Timestamps::Short,
                Key::Version => options.version = true,
                Key::Force => options.force = true,
                Key::Batch => {
                    options.batch = Some(value("-batch FILE would be right")?.text.into())
                }
                Key::Brief => options.brief = true,
                Key::Json => options.json = true,
                Key::Pretty => options.pretty = true,
                Key::Color => options.color = color(word, inline)?,
                Key::Help => options.help = true,
                Key::Numeric => options.numeric = true,
                Key::Atomic => options.atomic = true,
                Key::Socket => {
                    let value = value("--socket PATH or tcp://HOST:PORT would be right")?;
                    options.socket = Some(not_empty(value)?.into());
                }
                Key::RuntimeDir => {
                    options.runtime_dir =
                        Some(not_empty(value("--runtime-dir DIR would be right")?)?.into());
                }
                Key::TokenFile => {
                    options.token_file =
                        Some(not_empty(value("--token-file FILE would be right")?)?.into());
                }
                Key::Refused(why) => {
                    return Err(TextError::new("option", word, why, "a command without it"));
                }
            }
            let valued = [Key::Family, Key::Batch, Key::Color, Key::Socket, Key::RuntimeDir];
            if inline.is_some() && !valued.contains(&key) && key != Key::TokenFile {
                return Err(TextError::new(
                    "option",
                    word,
                    "it takes no value",
                    "the word before the equals sign alone",
                ));
            }
        }
        rest.set_end(words.end());
        Ok((options, rest))
    }

    fn set_family(&mut self, family: Family, word: Word<'_>) -> Result<(), TextError> {
        if self.family.is_some_and(|have| have != family) {
            return Err(TextError::new(
                "option",
                word,
                "both families",
                "one of -4 and -6, or neither for both",
            ));
        }
        self.family = Some(family);
        Ok(())
    }
}

fn find(name: &str) -> Option<Key> {
    let bare = name.strip_prefix('-')?;
    let (bare, two) = match bare.strip_prefix('-') {
        Some(bare) => (bare, true),
        None => (bare, false),
    };
    if bare.is_empty() {
        return None;
    }
    if let Some(&(_, key)) = LONG.iter().find(|(word, _)| two && *word == bare) {
        return Some(key);
    }
    // `--all` belongs to `route show`; as a global option it is only iproute2's `-a`.
    if two && bare == "all" {
        return None;
    }
    let whole = SHORT.iter().find(|(word, _)| *word == bare);
    whole.or_else(|| SHORT.iter().find(|(word, _)| word.starts_with(bare))).map(|&(_, key)| key)
}

fn color(word: Word<'_>, value: Option<&str>) -> Result<Color, TextError> {
    match value {
        // As iproute2: -c alone is always.
        None | Some("always") => Ok(Color::Always),
        Some("auto") => Ok(Color::Auto),
        Some("never") => Ok(Color::Never),
        Some(_) => Err(TextError::new(
            "option",
            word,
            "not a colour mode",
            "-c=auto, -c=always or -c=never",
        )),
    }
}

fn not_empty(word: Word<'_>) -> Result<&str, TextError> {
    if word.text.is_empty() {
        return Err(TextError::new("option", word, "its value is empty", "a path would be right"));
    }
    Ok(word.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extract(line: &str) -> Result<(Options, String), String> {
        let words = Words::of_line(line).unwrap();
        let (options, rest) = Options::extract(&words).map_err(|error| error.to_string())?;
        let rest: Vec<&str> = rest.as_slice().iter().map(|word| word.text).collect();
        Ok((options, rest.join(" ")))
    }

    #[test]
    fn options_stand_anywhere_and_are_abbreviated() {
        let none = Options::default();
        for (line, options, rest) in [
            ("route show", none.clone(), "route show"),
            ("-6 route show", Options { family: Some(Family::V6), ..none.clone() }, "route show"),
            (
                "route show -j -p",
                Options { json: true, pretty: true, ..none.clone() },
                "route show",
            ),
            ("-det route -d show", Options { details: 2, ..none.clone() }, "route show"),
            ("--js x", Options { json: true, ..none.clone() }, "x"),
            ("-b f", Options { batch: Some("f".into()), ..none.clone() }, ""),
            ("-br x", Options { brief: true, ..none.clone() }, "x"),
            ("-t m", Options { timestamps: Timestamps::Long, ..none.clone() }, "m"),
            ("-ts m", Options { timestamps: Timestamps::Short, ..none.clone() }, "m"),
            ("-c x", Options { color: Color::Always, ..none.clone() }, "x"),
            ("--color=never x", Options { color: Color::Never, ..none.clone() }, "x"),
            ("-h", Options { help: true, ..none.clone() }, ""),
            ("-V", Options { version: true, ..none.clone() }, ""),
            ("--version", Options { version: true, ..none.clone() }, ""),
            ("-N x", Options { numeric: true, ..none.clone() }, "x"),
            ("-f x", Options { family: None, ..none.clone() }, "error"),
            ("-f inet x", Options { family: Some(Family::V4), ..none.clone() }, "x"),
            ("-force x", Options { force: true, ..none.clone() }, "x"),
            (
                "--socket=/s --runtime-dir d --token-file t x",
                Options {
                    socket: Some("/s".into()),
                    runtime_dir: Some("d".into()),
                    token_file: Some("t".into()),
                    ..none.clone()
                },
                "x",
            ),
            ("mq send -- -j", none.clone(), "mq send -j"),
            ("mq send '-j'", none.clone(), "mq send -j"),
            ("route show --all --count", none.clone(), "route show --all --count"),
            ("client --name -j --once", none.clone(), "client --name -j --once"),
            ("route load -", none.clone(), "route load -"),
            ("x --bogus", none.clone(), "x --bogus"),
        ] {
            match extract(line) {
                Ok((have, left)) => assert_eq!((have, left.as_str()), (options, rest), "{line}"),
                Err(error) => assert_eq!(rest, "error", "{line}: {error}"),
            }
        }
    }

    #[test]
    fn wrong_options_are_refused() {
        for (line, expected) in [
            ("-4 -6 x", "option: -6: both families; one of -4 and -6, or neither for both"),
            ("-batch", "option: end of line: something is missing; -batch FILE would be right"),
            ("-c=blue x", "option: -c=blue: not a colour mode; -c=auto, -c=always or -c=never"),
            ("-j=1", "option: -j=1: it takes no value; the word before the equals sign alone"),
            ("--socket= x", "option: '': its value is empty; a path would be right"),
        ] {
            assert_eq!(extract(line).unwrap_err(), expected, "{line}");
        }
        assert!(extract("-n ns x").unwrap_err().contains("ip netns exec"));
    }
}
