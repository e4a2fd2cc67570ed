//! The machine that a figure belongs to, and waiting until it is quiet.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

/// A window in which the processors are watched before a sample.
const QUIET_WINDOW: Duration = Duration::from_millis(50);
/// Below this share of busy time the machine counts as quiet. One window has
/// ten ticks of two processors, so a single stray tick is let through.
const QUIET_BUSY_MAX: f64 = 0.11;

/// Where and when a result was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
}

impl Machine {
    /// Reads `/proc`.
    pub(crate) fn this() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |text: &str, name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
        };
        let memory_kib = fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| field(&text, "MemTotal"))
            .and_then(|value| value.trim_end_matches(" kB").parse::<u64>().ok());
        Self {
            cpu: field(&cpuinfo, "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory_kib.unwrap_or(0) / 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned()),
        }
    }
}

/// The processors that this process may use: the first one, and the others.
fn processors_apart() -> Result<(CpuSet, CpuSet)> {
    let all = sched_getaffinity(None)?;
    let (mut first, mut others) = (CpuSet::new(), CpuSet::new());
    for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)) {
        if first.count() == 0 { first.set(cpu) } else { others.set(cpu) }
    }
    Ok((first, others))
}

/// Can processes be kept on different processors?
pub(crate) fn has_several_processors() -> bool {
    processors_apart().is_ok_and(|(_, others)| others.count() > 0)
}

/// Keeps these processes on the first processor, and those on the others.
pub(crate) fn keep_apart(these: &[u32], those: &[u32]) -> Result<()> {
    let (first, others) = processors_apart()?;
    for (pids, set) in [(these, &first), (those, &others)] {
        for pid in pids {
            // Each thread has a set of its own.
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let name = task?.file_name();
                let tid = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
                sched_setaffinity(Some(tid.context("no thread")?), set)?;
            }
        }
    }
    Ok(())
}

/// Today in UTC, `2026-11-21`.
pub(crate) fn today() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil(since.as_secs() as i64 / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The commit that was built, with `+` if the tree had changes.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=10", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    if changed.is_some_and(|text| !text.is_empty()) { format!("{commit}+") } else { commit }
}

/// Waits until the processors are idle, at most `patience`, and returns the
/// share of time they were busy in the last window. What a former sample left
/// behind (a network namespace that is being torn down, pages that are being
/// freed) must not be paid by the next one; and where the machine never
/// becomes quiet, the result says so.
pub(crate) fn settle(patience: Duration) -> f64 {
    let end = Instant::now() + patience;
    loop {
        let (busy_before, all_before) = ticks();
        thread::sleep(QUIET_WINDOW);
        let (busy_after, all_after) = ticks();
        let all = all_after.saturating_sub(all_before).max(1);
        let busy = busy_after.saturating_sub(busy_before) as f64 / all as f64;
        if busy <= QUIET_BUSY_MAX || Instant::now() >= end {
            return busy;
        }
    }
}

/// Busy and all ticks of all processors since boot (`proc_stat(5)`).
fn ticks() -> (u64, u64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let numbers: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .skip(1)
        .map(|word| word.parse().unwrap_or(0))
        .collect();
    // user nice system idle iowait irq softirq steal; guest is in user already.
    let all: u64 = numbers.iter().take(8).sum();
    let idle: u64 = numbers.iter().skip(3).take(2).sum();
    (all - idle, all)
}

/// The date of a day counted from 1970-01-01, by 400-year eras that begin in
/// March, so that the leap day is the last of its year.
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468; // days from 0000-03-01 to 1970-01-01
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, of_year - (153 * march_month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        for (day, date) in [
            (0, (1970, 1, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_778, (2026, 11, 21)),
        ] {
            assert_eq!(civil(day), date);
        }
    }

    #[test]
    fn this_machine_has_a_name_and_cores() {
        let machine = Machine::this();
        assert!(machine.cores >= 1 && machine.memory_mib > 0);
        assert!(!machine.kernel.is_empty());
    }
}
