//! Tests that need what a machine may lack.
//!
//! Such a test asks here first. Where the thing is missing, it is reported as
//! `not run: NAME (why)` on the real standard error, past the test harness's
//! capture, so that `scripts/test` can count it. With `RTM_REQUIRE_DATA=1` or
//! `RTM_REQUIRE_ROOT=1` it fails instead.

use std::io::Write;
use std::path::PathBuf;

/// Says that `name` is not run, or fails if `variable` demands it.
pub(crate) fn not_run(name: &str, why: &str, variable: &str) {
    assert!(
        std::env::var_os(variable).is_none_or(|v| v != "1"),
        "{variable}=1, but {name} can't run: {why}"
    );
    // One write, so that lines of parallel tests don't mix.
    let line = format!("not run: {name} ({why})\n");
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// The folder with the real tables, or `None` after having said so.
pub fn data(name: &str) -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let folder = PathBuf::from(std::env::var_os("RTM_DATA").unwrap_or_else(|| default.into()));
    if folder.join("full-table.txt.gz").is_file() {
        return Some(folder);
    }
    not_run(name, &format!("no real tables in {}", folder.display()), "RTM_REQUIRE_DATA");
    None
}

/// Is this root? Otherwise says that `name` is not run.
pub fn root(name: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    not_run(name, "needs root", "RTM_REQUIRE_ROOT");
    false
}
