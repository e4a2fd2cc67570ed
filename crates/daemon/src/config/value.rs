//! Values of the configuration, each with its range.

use std::fmt;
use std::net::SocketAddr;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::log::Level;

/// A size in bytes from `MIN` to `MAX`: a number, or text like `64 MiB`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Size<const MIN: u64, const MAX: u64>(pub(crate) u64);

/// A number from `MIN` to `MAX`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Count<const MIN: u64, const MAX: u64>(pub(crate) u64);

/// Units of sizes, largest first.
const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Prints a size in the largest unit that divides it.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, bytes)| self.0 >= *bytes && self.0 % bytes == 0);
        match unit {
            Some((name, bytes)) if self.0 > 0 => write!(f, "{} {name}", self.0 / bytes),
            _ => write!(f, "{}", self.0),
        }
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start();
    let bytes = match unit {
        "" => 1,
        unit => UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.checked_mul(bytes)
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Size<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor<const MIN: u64, const MAX: u64>;

        impl<const MIN: u64, const MAX: u64> Visitor<'_> for SizeVisitor<MIN, MAX> {
            type Value = Size<MIN, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "a size from {} to {}, as bytes or like \"64 MiB\"",
                    Bytes(MIN),
                    Bytes(MAX)
                )
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Size<MIN, MAX>, E> {
                match u64::try_from(value) {
                    Ok(bytes) if (MIN..=MAX).contains(&bytes) => Ok(Size(bytes)),
                    _ => Err(E::custom(format!(
                        "{value} is out of range; {} to {} would be right",
                        Bytes(MIN),
                        Bytes(MAX)
                    ))),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size<MIN, MAX>, E> {
                match parse_size(text) {
                    Some(bytes) if (MIN..=MAX).contains(&bytes) => Ok(Size(bytes)),
                    Some(_) => Err(E::custom(format!(
                        "{text} is out of range; {} to {} would be right",
                        Bytes(MIN),
                        Bytes(MAX)
                    ))),
                    None => Err(E::custom(format!(
                        "\"{}\" is no size; a number of bytes, or one with B, KiB, MiB or GiB would be right",
                        text.escape_debug()
                    ))),
                }
            }
        }

        deserializer.deserialize_any(SizeVisitor)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Count<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor<const MIN: u64, const MAX: u64>;

        impl<const MIN: u64, const MAX: u64> Visitor<'_> for CountVisitor<MIN, MAX> {
            type Value = Count<MIN, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number from {MIN} to {MAX}")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Count<MIN, MAX>, E> {
                match u64::try_from(value) {
                    Ok(value) if (MIN..=MAX).contains(&value) => Ok(Count(value)),
                    _ => Err(E::custom(format!(
                        "{value} is out of range; {MIN} to {MAX} would be right"
                    ))),
                }
            }
        }

        deserializer.deserialize_any(CountVisitor)
    }
}

/// Where TCP is listened: `tcp://127.0.0.1:2600`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ListenAddress(pub(crate) SocketAddr);

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        crate::args::listen_address(&text).map(ListenAddress).map_err(de::Error::custom)
    }
}

/// Permission bits: text like "0600".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mode(pub(crate) u32);

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let octal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if octal && mode <= 0o666 && mode & 0o111 == 0 => Ok(Mode(mode)),
            _ => Err(de::Error::custom(format!(
                "\"{}\" is no mode; octal text from \"0600\" to \"0666\" would be right",
                text.escape_debug()
            ))),
        }
    }
}

/// A POSIX message queue's name: `/name`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct QueueName(pub(crate) String);

impl<'de> Deserialize<'de> for QueueName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let rest = text.strip_prefix('/').unwrap_or_default();
        let right = !rest.is_empty()
            && rest.len() < 255
            && !matches!(rest, "." | "..")
            && rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        if right {
            return Ok(QueueName(text));
        }
        Err(de::Error::custom(format!(
            "\"{}\" is no name for a queue; a slash and a name, like \"/rtm-lab\", would be right",
            text.escape_debug()
        )))
    }
}

/// Where FPM is listened: `127.0.0.1:2620`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FpmAddress(pub(crate) SocketAddr);

impl<'de> Deserialize<'de> for FpmAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        crate::args::fpm_address(&text).map(FpmAddress).map_err(de::Error::custom)
    }
}

/// The number of a protocol that is named, or numbered.
pub(crate) fn protocol(text: &str, names: &rtm_model::Names) -> Option<u8> {
    text.parse().ok().or_else(|| names.protocol(text))
}

/// A routing table: its number, or its name on this host; `all`.
#[derive(Clone, PartialEq, Debug, serde::Deserialize)]
#[serde(untagged, expecting = "a table's number or name")]
pub(crate) enum TableName {
    /// Its number.
    Number(u32),
    /// Its name.
    Name(String),
}

impl TableName {
    /// Of the command line.
    pub(crate) fn of_text(text: &str) -> TableName {
        match text.parse() {
            Ok(number) => TableName::Number(number),
            Err(_) => TableName::Name(text.to_owned()),
        }
    }

    /// Its number.
    pub(crate) fn number(&self, names: &rtm_model::Names) -> Result<u32, String> {
        let found = match self {
            TableName::Number(number) => Some(*number),
            TableName::Name(name) => names.table(name),
        };
        match (found, self) {
            (Some(number), _) if number != 0 => Ok(number),
            (Some(_), _) => Err("table 0 stands for none; 254 (main) would be right".to_owned()),
            (None, TableName::Name(name)) => Err(format!(
                "table {}: no such name in iproute2's rt_tables; a number would be right",
                name.escape_debug()
            )),
            (None, TableName::Number(_)) => Ok(0),
        }
    }
}

/// A log level's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct LevelName(pub(crate) Level);

impl<'de> Deserialize<'de> for LevelName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(LevelName).map_err(|right| {
            de::Error::custom(format!("\"{}\" is no level; {right}", text.escape_debug()))
        })
    }
}

/// What a distance can be set for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct DistanceKey(pub(crate) String);

impl<'de> Deserialize<'de> for DistanceKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = matches!(text.as_str(), "admin" | "files" | "kernel" | "fpm")
            || text.strip_prefix("fpm:").is_some_and(|peer| !peer.is_empty())
            || protocol(&text, rtm_model::Names::builtin()).is_some();
        if known {
            return Ok(DistanceKey(text));
        }
        Err(de::Error::custom(format!(
            "distance of \"{}\": no such source or protocol; admin, files, kernel, fpm, fpm:ADDRESS or a protocol would be right",
            text.escape_debug()
        )))
    }
}

/// A distance; 255 is never used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DistanceValue(pub(crate) u8);

impl<'de> Deserialize<'de> for DistanceValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Count(value) = Count::<0, 255>::deserialize(deserializer)?;
        Ok(DistanceValue(value as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_printed() {
        for (text, bytes, printed) in [
            ("0", 0, "0"),
            ("100", 100, "100 B"),
            ("64 MiB", 64 << 20, "64 MiB"),
            ("1536KiB", 1536 << 10, "1536 KiB"),
            ("1 GiB", 1 << 30, "1 GiB"),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(Bytes(bytes).to_string(), printed);
        }
        for text in ["", "MiB", "1 MB", "-1", "1.5 MiB", "99999999999 GiB", "1 MiB MiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
