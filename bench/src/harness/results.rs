//! Results as JSON lines in `bench/results/`, one file a day, never rewritten.
//! `docs/benchmarks.md` is made from them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::machine::{self, Machine};
use super::rounds::{Figures, Outcome};

/// One line: a measure with everything that is needed to judge it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) command: String,
    pub(crate) machine: Machine,
    /// Too few pairs to be published.
    pub(crate) quick: bool,
    pub(crate) result: Measured,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Measured {
    Rounds(Outcome),
    Figures(Figures),
}

impl Measured {
    /// The bench's name and what tells this result from its others.
    pub(crate) fn name(&self) -> (&str, &str) {
        match self {
            Self::Rounds(outcome) => (&outcome.measure.bench, &outcome.measure.variant),
            Self::Figures(figures) => (&figures.bench, &figures.variant),
        }
    }
}

impl Record {
    pub(crate) fn new(result: Measured, command: String, quick: bool) -> Self {
        Self {
            date: machine::today(),
            commit: machine::commit(),
            command,
            machine: Machine::this(),
            quick,
            result,
        }
    }
}

/// Appends one result.
pub(crate) fn append(directory: &Path, record: &Record) -> Result<()> {
    fs::create_dir_all(directory)?;
    let path = directory.join(format!("{}.jsonl", record.date));
    let mut line = serde_json::to_string(record)?;
    line.push('\n');
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .with_context(|| format!("{}", path.display()))
}

/// All results, oldest first.
pub(crate) fn read(directory: &Path) -> Result<Vec<Record>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .with_context(|| format!("{}", directory.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    paths.sort();
    let mut records = Vec::new();
    for path in paths {
        for (number, line) in fs::read_to_string(&path)?.lines().enumerate() {
            let record = serde_json::from_str(line)
                .with_context(|| format!("{}:{}", path.display(), number + 1))?;
            records.push(record);
        }
    }
    Ok(records)
}
