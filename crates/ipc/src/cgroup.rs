//! How much memory the own control group still has.
//!
//! ```
//! // `None`: no limit, or no version 2 hierarchy to ask.
//! let left: Option<u64> = ipc::cgroup::memory_headroom();
//! # let _ = left;
//! ```
use std::path::{Path, PathBuf};

/// Where the version 2 hierarchy is mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// Bytes that this process's control group, and all groups around it, can still
/// take before one of them reaches its `memory.max`. Page cache that the kernel
/// can drop counts as free. `None` where there is no limit, or nothing to ask.
///
/// It is a moment's figure: others of the group take memory, too.
///
/// Source: [cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html),
/// the kernel's `Documentation/admin-guide/cgroup-v2.rst`.
#[must_use]
pub fn memory_headroom() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    headroom_of(Path::new(ROOT), own_group(&text)?)
}

/// The version 2 line of /proc/PID/cgroup: `0::/path`.
fn own_group(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::/"))
}

fn headroom_of(root: &Path, group: &str) -> Option<u64> {
    let mut path: PathBuf = root.join(group);
    let mut least: Option<u64> = None;
    loop {
        if let Some(left) = left_in(&path) {
            least = Some(least.map_or(left, |least| least.min(left)));
        }
        if path == root || !path.pop() {
            return least;
        }
    }
}

fn left_in(group: &Path) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        std::fs::read_to_string(group.join(name)).ok()?.trim().parse().ok()
    };
    // "max" is no number: no limit here.
    let limit = number("memory.max")?;
    let used = number("memory.current")?;
    let stat = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let cache: u64 = stat
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| matches!(*name, "inactive_file" | "active_file"))
        .filter_map(|(_, bytes)| bytes.parse::<u64>().ok())
        .sum();
    Some(limit.saturating_sub(used.saturating_sub(cache)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_group_around_us_counts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let group = |path: &str, max: &str, current: &str, stat: &str| {
            let at = root.join(path);
            std::fs::create_dir_all(&at).unwrap();
            std::fs::write(at.join("memory.max"), max).unwrap();
            std::fs::write(at.join("memory.current"), current).unwrap();
            std::fs::write(at.join("memory.stat"), stat).unwrap();
        };
        assert_eq!(own_group("1:cpu:/x\n0::/a/b\n"), Some("a/b"));
        assert_eq!(own_group("1:cpu:/x\n"), None);
        group("a", "1000\n", "900\n", "inactive_file 300\nshmem 100\n");
        group("a/b", "max\n", "10\n", "");
        assert_eq!(headroom_of(root, "a/b"), Some(400));
        group("a/b", "100\n", "10\n", "");
        assert_eq!(headroom_of(root, "a/b"), Some(90));
        group("a/b", "100\n", "200\n", "");
        assert_eq!(headroom_of(root, "a/b"), Some(0));
        assert_eq!(headroom_of(root, "elsewhere"), None);
    }
}
