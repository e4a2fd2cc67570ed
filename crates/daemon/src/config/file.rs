//! Configuration files: found, read, merged; errors with file, line and key.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Config, Overrides};

const MAIN: &str = "/etc/rtm/rtmd.toml";
const DIRECTORY: &str = "/etc/rtm/rtmd.d";

/// What is wrong with the configuration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    file: Option<PathBuf>,
    line: Option<usize>,
    key: String,
    why: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.why)
    }
}

impl std::error::Error for ConfigError {}

/// Reads the files that there are, puts the command line over them.
pub(crate) fn load(overrides: &Overrides) -> Result<Config, ConfigError> {
    let mut config = match &overrides.config {
        Some(file) => read_all(std::slice::from_ref(file), true)?,
        None => read_all(&files(Path::new(MAIN), Path::new(DIRECTORY))?, false)?,
    };
    overrides.apply(&mut config);
    Ok(config)
}

/// The main file and those of the directory, by name.
fn files(main: &Path, directory: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut found = Vec::new();
    match std::fs::read_dir(directory) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(|error| unreadable(directory, &error))?.path();
                if path.extension().is_some_and(|extension| extension == "toml") {
                    found.push(path);
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(unreadable(directory, &error)),
    }
    found.sort();
    found.insert(0, main.to_owned());
    Ok(found)
}

fn unreadable(path: &Path, error: &std::io::Error) -> ConfigError {
    ConfigError {
        file: Some(path.to_owned()),
        line: None,
        key: String::new(),
        why: format!("can't be read: {}", crate::runtime_dir::errno_text(error)),
    }
}

/// Reads these files, one over the other. One that is missing is none, unless
/// it must be there.
fn read_all(files: &[PathBuf], must_exist: bool) -> Result<Config, ConfigError> {
    let mut merged = toml::Table::new();
    let mut sources = Vec::new();
    for path in files {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => continue,
            Err(error) => return Err(unreadable(path, &error)),
        };
        let table = check(path, &text)?;
        merge(&mut merged, table);
        sources.push((path.clone(), text));
    }
    let config: Config = merged.try_into().map_err(|error: toml::de::Error| ConfigError {
        file: None,
        line: None,
        key: String::new(),
        why: error.message().to_owned(),
    })?;
    check_together(&config, &sources)?;
    Ok(config)
}

/// Checks one file for itself: its errors have lines only here.
fn check(path: &Path, text: &str) -> Result<toml::Table, ConfigError> {
    let wrong = |error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let (line, key) = place(text, at);
        ConfigError {
            file: Some(path.to_owned()),
            line: Some(line),
            key,
            why: one_line(error.message()),
        }
    };
    let table: toml::Table = toml::from_str(text).map_err(wrong)?;
    toml::from_str::<Config>(text).map_err(wrong)?;
    Ok(table)
}

/// A later file's keys over an earlier one's, section by section.
fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(into)), toml::Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// What only shows when all files are put together.
fn check_together(config: &Config, sources: &[(PathBuf, String)]) -> Result<(), ConfigError> {
    let limits = &config.limits;
    let wrong = |key: &str, why: String| {
        let place = sources
            .iter()
            .rev()
            .find_map(|(path, text)| find(text, "limits", key).map(|line| (path.clone(), line)));
        let (file, line) = place.unzip();
        Err(ConfigError { file, line, key: format!("limits.{key}"), why })
    };
    let journal = limits.journal_bytes.0;
    let transaction = limits.transaction_bytes_max();
    if transaction > journal / 2 {
        return wrong(
            "transaction_bytes_max",
            format!(
                "{transaction} bytes don't leave the journal of {journal} bytes room for others; at most its half would be right"
            ),
        );
    }
    let (image, ring) = (limits.image_bytes_max.0, limits.image_ring_bytes.0);
    if image < crate::image::bytes_min(ring) {
        return wrong(
            "image_bytes_max",
            format!(
                "{image} bytes don't hold a ring of {ring} bytes and tables; {} would be the least",
                crate::image::bytes_min(ring)
            ),
        );
    }
    if limits.dead_s.0 <= limits.heartbeat_s.0 {
        return wrong(
            "dead_s",
            format!(
                "{} s is not longer than heartbeat_s ({} s); three times as long would be right",
                limits.dead_s.0, limits.heartbeat_s.0
            ),
        );
    }
    Ok(())
}

/// The line at a byte, counted from 1, and the key it sets, with its section.
fn place(text: &str, at: usize) -> (usize, String) {
    let at = at.min(text.len());
    let before = text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count();
    let mut section = "";
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = header(line) {
            section = name;
            if index == before {
                return (before + 1, section.to_owned());
            }
        } else if index == before {
            let key = line.split_once('=').map_or("", |(key, _)| key.trim());
            return (before + 1, joined(section, key));
        }
    }
    (before + 1, String::new())
}

/// The line of a section's key.
fn find(text: &str, section: &str, key: &str) -> Option<usize> {
    let name = joined(section, key);
    let mut current = "";
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let here = match header(line) {
            Some(header) => {
                current = header;
                joined(current, "")
            }
            None => joined(current, line.split_once('=').map_or("", |(key, _)| key.trim())),
        };
        if here == name {
            return Some(index + 1);
        }
    }
    None
}

fn header(line: &str) -> Option<&str> {
    let name = line.strip_prefix('[')?.split(']').next()?;
    Some(name.trim_matches(|c: char| c == '[' || c.is_whitespace()))
}

fn joined(section: &str, key: &str) -> String {
    match (section, key) {
        ("", key) => key.to_owned(),
        (section, "") => section.to_owned(),
        (section, key) => format!("{section}.{key}"),
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let error = read_all(&[file.path().to_owned()], true).unwrap_err().to_string();
        error.replace(&file.path().display().to_string(), "FILE")
    }

    #[test]
    fn errors_name_file_line_and_key() {
        for (text, expected) in [
            (
                "[limits]\n\njournal_bites = 3\n",
                "FILE: line 3: limits.journal_bites: unknown field `journal_bites`, expected",
            ),
            (
                "[limits]\nframe_bytes_max = 12\n",
                "FILE: line 2: limits.frame_bytes_max: 12 is out of range; 16 KiB to 16 MiB would be right",
            ),
            (
                "limits.frame_bytes_max = \"1 PiB\"",
                "FILE: line 1: limits.frame_bytes_max: \"1 PiB\" is no size;",
            ),
            (
                "[limits]\nsessions_max = true",
                "FILE: line 2: limits.sessions_max: invalid type: boolean `true`, expected a number from 1 to 1000000",
            ),
            ("[limit]\n", "FILE: line 1: limit: unknown field `limit`"),
            ("[limits]\nsessions_max = \n", "FILE: line 2: limits.sessions_max: "),
            ("[kernel]\ntables = 1\n", "FILE: line 2: kernel.tables: invalid type: integer `1`"),
            ("fpm.listen = \"x\"\n", "FILE: line 1: fpm.listen: not an address and a port"),
            (
                "[listen]\ntcp = \"tcp://0.0.0.0:1\"\n",
                "FILE: line 2: listen.tcp: 0.0.0.0 is not a loopback address",
            ),
            (
                "[queue]\nmode = \"0755\"\n",
                "FILE: line 2: queue.mode: \"0755\" is no mode; octal text from",
            ),
            (
                "[queue]\nname = \"rtm\"\n",
                "FILE: line 2: queue.name: \"rtm\" is no name for a queue",
            ),
            ("[queue]\ndepth = 0\n", "FILE: line 2: queue.depth: 0 is out of range"),
            (
                "[distance]\nadmin = 256\n",
                "FILE: line 2: distance.admin: 256 is out of range; 0 to 255 would be right",
            ),
            (
                "[distance]\nbgpp = 20\n",
                "FILE: line 2: distance.bgpp: distance of \"bgpp\": no such source or protocol",
            ),
            (
                "[log]\nlevel = \"loud\"\n",
                "FILE: line 2: log.level: \"loud\" is no level; error, warn, info, debug or trace would be right",
            ),
            ("[roles]\nadmin_users = [1.5]\n", "FILE: line 2: roles.admin_users: "),
            (
                "[limits]\njournal_bytes = \"1 MiB\"\ntransaction_bytes_max = \"1 MiB\"\n",
                "FILE: line 3: limits.transaction_bytes_max: 1048576 bytes don't leave",
            ),
            (
                "[limits]\ndead_s = 10\n",
                "FILE: line 2: limits.dead_s: 10 s is not longer than heartbeat_s",
            ),
            (
                "[limits]\nheartbeat_s = 60\n",
                "FILE: line 2: limits.heartbeat_s: 60 is out of range; 1 to 10 would be right",
            ),
        ] {
            let error = error(text);
            assert!(
                error.starts_with(expected),
                "{text:?}\n  said:     {error}\n  expected: {expected}"
            );
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn later_files_go_over_earlier_ones() {
        let directory = tempfile::tempdir().unwrap();
        let main = directory.path().join("rtmd.toml");
        let more = directory.path().join("rtmd.d");
        std::fs::create_dir(&more).unwrap();
        std::fs::write(&main, "[limits]\nsessions_max = 1\nhello_timeout_s = 7\n").unwrap();
        std::fs::write(more.join("20.toml"), "[limits]\nsessions_max = 3\n").unwrap();
        std::fs::write(more.join("10.toml"), "[limits]\nsessions_max = 2\nfilters_max = 9\n")
            .unwrap();
        std::fs::write(more.join("30.txt"), "not read").unwrap();
        let config = read_all(&files(&main, &more).unwrap(), false).unwrap();
        assert_eq!(config.limits.sessions_max.0, 3);
        assert_eq!(config.limits.filters_max.0, 9);
        assert_eq!(config.limits.hello_timeout_s.0, 7);
        // Neither file nor directory: the defaults.
        let none = directory.path().join("none");
        assert_eq!(read_all(&files(&none, &none).unwrap(), false).unwrap(), Config::default());
    }

    #[test]
    fn a_named_file_must_exist() {
        let error = read_all(&["/no/such/rtmd.toml".into()], true).unwrap_err().to_string();
        assert!(error.starts_with("/no/such/rtmd.toml: can't be read: No such file"), "{error}");
    }
}
