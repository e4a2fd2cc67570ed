//! What the words of the command line mean: sizes, durations, modes, keys, the
//! object that is meant, and content.
use core::time::Duration;
use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use ipc::sysv::Key;
use ipc::timer::Wait;

use crate::failure::{Failure, refused};

/// A size as util-linux has it: `4096`, `64K` and `64KiB` (1024), `64KB` (1000).
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let number: u64 =
        digits.parse().map_err(|_| "a size is like 4096, 64K, 64KiB or 64KB".to_owned())?;
    let power = |letter: &str| "KMGT".find(letter).map(|n| n as u32 + 1);
    let factor = match unit.len() {
        0 => Some(1),
        1 => power(&unit.to_ascii_uppercase()).and_then(|n| 1024_u64.checked_pow(n)),
        _ => match unit.split_at(1) {
            (letter, "iB") => {
                power(&letter.to_ascii_uppercase()).and_then(|n| 1024_u64.checked_pow(n))
            }
            (letter, "B") => {
                power(&letter.to_ascii_uppercase()).and_then(|n| 1000_u64.checked_pow(n))
            }
            _ => None,
        },
    };
    let factor = factor.ok_or("the unit of a size is K, M, G or T, with iB or B")?;
    number.checked_mul(factor).ok_or_else(|| "too large".to_owned())
}

/// A duration: `250ms`, `2s`, `1.5s`, `3m`, `10us`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| "a duration is like 250ms, 2s or 1.5s")?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err("the unit of a duration is us, ms, s, m or h".to_owned()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| "too long".to_owned())
}

/// Nine permission bits in octal.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("a mode is octal, 000 to 777".to_owned()),
    }
}

/// A key: decimal, or hexadecimal with 0x.
pub(crate) fn key(text: &str) -> Result<i32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse::<u32>().ok().or_else(|| text.parse::<i32>().ok().map(|k| k as u32)),
    };
    match parsed {
        Some(0) => Err("key 0 is IPC_PRIVATE: use --private".to_owned()),
        Some(key) => Ok(key as i32),
        None => Err("a key is a number of 32 bits, like 5678 or 0x162e".to_owned()),
    }
}

/// A file and a byte for ftok: `PATH:ID`, the byte as a number or a character.
pub(crate) fn ftok(text: &str) -> Result<(PathBuf, u8), String> {
    let wrong = || "ftok takes PATH:ID, ID a number from 1 to 255 or a character".to_owned();
    let (path, id) = text.rsplit_once(':').ok_or_else(wrong)?;
    let id = match (id.parse::<u8>(), id.as_bytes()) {
        (Ok(id), _) if id > 0 => id,
        (Err(_), [byte]) => *byte,
        _ => return Err(wrong()),
    };
    Ok((PathBuf::from(path), id))
}

/// A descriptor of a process: `PID:FD`.
pub(crate) fn descriptor(text: &str) -> Result<(u32, u32), String> {
    let parts = text.split_once(':').and_then(|(p, f)| Some((p.parse().ok()?, f.parse().ok()?)));
    parts.ok_or_else(|| "it takes PID:FD, like 1234:5".to_owned())
}

/// System V instead of POSIX, and how the object is found there.
#[derive(Args, Debug)]
pub(crate) struct SysV {
    /// System V instead of POSIX: NAME is then an id, or left out with --key or --ftok
    #[arg(long)]
    pub(crate) sysv: bool,
    /// The object with this key (decimal or 0x…)
    #[arg(long, value_name = "K", value_parser = key, requires = "sysv", conflicts_with = "ftok")]
    key: Option<i32>,
    /// The object with the key of this file and byte
    #[arg(long, value_name = "PATH:ID", value_parser = ftok, requires = "sysv")]
    ftok: Option<(PathBuf, u8)>,
}

/// The object that is meant.
pub(crate) enum Meant {
    Posix(String),
    Id(i32),
    Key(Key),
}

impl SysV {
    pub(crate) fn given_key(&self) -> Result<Option<Key>, Failure> {
        match (&self.key, &self.ftok) {
            (Some(key), _) => Ok(Some(Key::Number(*key))),
            (None, Some((path, id))) => Ok(Some(Key::of_file(path, *id)?)),
            (None, None) => Ok(None),
        }
    }

    /// Takes the object off the front of the words, unless an option names it;
    /// returns it and the words that are left.
    pub(crate) fn take<'a>(&self, words: &'a [String]) -> Result<(Meant, &'a [String]), Failure> {
        if let Some(key) = self.given_key()? {
            return Ok((Meant::Key(key), words));
        }
        let Some((first, rest)) = words.split_first() else {
            let what = if self.sysv { "an id, --key or --ftok" } else { "a name like /name" };
            return Err(Failure::usage(format!("which one? it takes {what}")));
        };
        if !self.sysv {
            return Ok((Meant::Posix(first.clone()), rest));
        }
        match first.parse() {
            Ok(id) => Ok((Meant::Id(id), rest)),
            Err(_) => Err(Failure::usage(format!(
                "{first}: no id; System V objects have a number, or take --key or --ftok"
            ))),
        }
    }

    /// As [`Self::take`], with nothing left over.
    pub(crate) fn only(&self, words: &[String]) -> Result<Meant, Failure> {
        let (meant, rest) = self.take(words)?;
        nothing_more(rest)?;
        Ok(meant)
    }

    /// As [`Self::take`], for several: an option names one more.
    pub(crate) fn each(&self, words: &[String]) -> Result<Vec<Meant>, Failure> {
        let (first, mut rest) = self.take(words)?;
        let mut all = vec![first];
        while !rest.is_empty() {
            let plain = SysV { sysv: self.sysv, key: None, ftok: None };
            let (next, more) = plain.take(rest)?;
            all.push(next);
            rest = more;
        }
        Ok(all)
    }

    /// The key to make an object with.
    pub(crate) fn key_to_make(&self, private: bool) -> Result<Key, Failure> {
        match self.given_key()? {
            Some(_) if private => Err(Failure::usage("--private has no key")),
            Some(key) => Ok(key),
            None if private => Ok(Key::Private),
            None => Err(Failure::usage("--sysv takes --key K, --ftok PATH:ID or --private")),
        }
    }
}

/// Refuses words that nothing takes.
pub(crate) fn nothing_more(words: &[String]) -> Result<(), Failure> {
    match words.first() {
        None => Ok(()),
        Some(word) => Err(Failure::usage(format!("{word}: one word too many"))),
    }
}

/// The one content that is left of the words.
pub(crate) fn content(words: &[String]) -> Result<Vec<u8>, Failure> {
    let [text] = words else {
        return Err(match words.get(1) {
            Some(word) => {
                Failure::usage(format!("{word}: one word too many; quote a text with blanks"))
            }
            None => Failure::usage("what? it takes a text, or - for standard input"),
        });
    };
    if text != "-" {
        return Ok(text.clone().into_bytes());
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).map_err(refused("standard input"))?;
    Ok(bytes)
}

/// How long a call may wait.
#[derive(Args, Debug)]
pub(crate) struct Waiting {
    /// Wait at most so long (250ms, 2s); then exit 4
    #[arg(long, value_name = "D", value_parser = duration, conflicts_with = "nonblock")]
    pub(crate) timeout: Option<Duration>,
    /// Don't wait: exit 4 instead
    #[arg(long)]
    pub(crate) nonblock: bool,
}

impl Waiting {
    pub(crate) fn wait(&self) -> Wait {
        if self.nonblock { Wait::No } else { Wait::at_most(self.timeout) }
    }
}

/// Repeats a call that a signal interrupted (a stop and continue from the
/// terminal does that); its time limit stays what it was.
pub(crate) fn uninterrupted<T, E: Into<ipc::Error>>(
    mut call: impl FnMut() -> Result<T, E>,
) -> Result<T, Failure> {
    loop {
        match call().map_err(Into::into) {
            Err(error) if error.errno() == ipc::Errno::INTR => {}
            other => return Ok(other?),
        }
    }
}

/// Runs a command and waits for it; its exit code becomes ours.
pub(crate) fn run_command(words: &[String]) -> Result<(), Failure> {
    let (program, arguments) = words.split_first().expect("checked: not empty");
    let status =
        std::process::Command::new(program).args(arguments).status().map_err(refused(program))?;
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Failure::Ended { code: code as u8 }),
        (None, signal) => Err(Failure::Ended { code: 128 + signal.unwrap_or(0) as u8 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_util_linux() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64K", 65536),
            ("64k", 65536),
            ("64KiB", 65536),
            ("64KB", 64000),
            ("2M", 2 << 20),
            ("1GB", 1_000_000_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "-1", "1X", "1Kb", "1KiBs", "99999999999T"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_modes_and_keys() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        for text in ["", "s", "1x", "-1s", "1.2.3"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(mode("0660"), Ok(0o660));
        for text in ["8", "1000", "rw", ""] {
            assert!(mode(text).is_err(), "{text}");
        }
        assert_eq!(key("0xffffffff"), Ok(-1));
        assert_eq!(key("-1"), Ok(-1));
        assert_eq!(key("5678"), Ok(5678));
        assert!(key("0").is_err());
        assert_eq!(ftok("/a:b:A"), Ok((PathBuf::from("/a:b"), b'A')));
        assert_eq!(ftok("/x:65"), Ok((PathBuf::from("/x"), 65)));
        for text in ["/x", "/x:", "/x:0", "/x:AB", "/x:300"] {
            assert!(ftok(text).is_err(), "{text}");
        }
    }
}
