//! How much memory the own control group still has.
//!
//! ```
//! // `None`: no limit, or no hierarchy with a memory controller to ask.
//! let left: Option<u64> = ipc::cgroup::memory_headroom();
//! # let _ = left;
//! ```
//!
//! Version 2 is asked where it is mounted, and version 1's memory controller where
//! that is: on a machine with both (a hybrid one) the limits are version 1's.
use std::path::{Path, PathBuf};

/// The files of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    limit: &'static str,
    used: &'static str,
    /// Of `memory.stat`: page cache that the kernel can drop, all below included.
    cache: [&'static str; 2],
}

const V2: Version = Version {
    limit: "memory.max",
    used: "memory.current",
    cache: ["inactive_file", "active_file"],
};
const V1: Version = Version {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cache: ["total_inactive_file", "total_active_file"],
};

/// What version 1 says where there is no limit: 2^63 less a page, or more. Nothing
/// that a machine has is so much.
const UNLIMITED: u64 = 1 << 62;

/// Bytes that this process's control group, and all groups around it, can still
/// take before one of them reaches its limit (`memory.max`; in version 1
/// `memory.limit_in_bytes`). Page cache that the kernel can drop counts as free.
/// `None` where there is no limit, or nothing to ask.
///
/// It is a moment's figure: others of the group take memory, too.
///
/// Source: [cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html),
/// the kernel's `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst`.
#[must_use]
pub fn memory_headroom() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    headroom(&groups, &mounts)
}

fn headroom(groups: &str, mounts: &str) -> Option<u64> {
    let of = |version| {
        let group = own_group(groups, version)?;
        let Mount { root, at } = mount(mounts, version)?;
        // A mount may show a part of the hierarchy only.
        let below = Path::new(group).strip_prefix(root).unwrap_or(Path::new(""));
        headroom_of(Path::new(at), below, version)
    };
    [V2, V1].into_iter().filter_map(of).min()
}

/// The version's line of /proc/PID/cgroup: `0::/path`, or `4:memory:/path`.
fn own_group(text: &str, version: Version) -> Option<&str> {
    text.lines().find_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_it = match version {
            V2 => number == "0" && controllers.is_empty(),
            _ => controllers.split(',').any(|name| name == "memory"),
        };
        is_it.then_some(path)
    })
}

/// Which part of a hierarchy is mounted where.
struct Mount<'a> {
    root: &'a str,
    at: &'a str,
}

/// The version's line of /proc/PID/mountinfo (proc_pid_mountinfo(5)):
/// `35 31 0:32 /root /mount/point rw,relatime - cgroup cgroup rw,memory`.
fn mount(text: &str, version: Version) -> Option<Mount<'_>> {
    text.lines().find_map(|line| {
        let (before, behind) = line.split_once(" - ")?;
        let mut words = before.split(' ').skip(3);
        let (root, at) = (words.next()?, words.next()?);
        let mut words = behind.split(' ');
        let (kind, options) = (words.next()?, words.nth(1).unwrap_or_default());
        let is_it = match version {
            V2 => kind == "cgroup2",
            _ => kind == "cgroup" && options.split(',').any(|name| name == "memory"),
        };
        is_it.then_some(Mount { root, at })
    })
}

fn headroom_of(root: &Path, group: &Path, version: Version) -> Option<u64> {
    let mut path: PathBuf = root.join(group);
    let mut least: Option<u64> = None;
    loop {
        if let Some(left) = left_in(&path, version) {
            least = Some(least.map_or(left, |least| least.min(left)));
        }
        if path == root || !path.pop() {
            return least;
        }
    }
}

fn left_in(group: &Path, version: Version) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        std::fs::read_to_string(group.join(name)).ok()?.trim().parse().ok()
    };
    // "max" is no number: no limit here.
    let limit = number(version.limit).filter(|limit| *limit < UNLIMITED)?;
    let used = number(version.used)?;
    let stat = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let cache: u64 = stat
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| version.cache.contains(name))
        .filter_map(|(_, bytes)| bytes.parse::<u64>().ok())
        .sum();
    Some(limit.saturating_sub(used.saturating_sub(cache)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &str = "9:name=systemd:/\n4:cpu,memory:/daemons/a\n0::/a/b\n";

    #[test]
    fn groups_and_mounts_are_found() {
        assert_eq!(own_group(GROUPS, V2), Some("/a/b"));
        assert_eq!(own_group(GROUPS, V1), Some("/daemons/a"));
        assert_eq!(own_group("1:cpu:/x\n", V2), None);
        assert_eq!(own_group("1:cpu:/x\n", V1), None);
        let mounts = "22 1 0:21 / /proc rw shared:5 - proc proc rw\n\
            35 31 0:32 /daemons /cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory\n\
            41 31 0:38 / /cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = |version| mount(mounts, version).map(|mount| (mount.root, mount.at));
        assert_eq!(found(V2), Some(("/", "/cgroup/unified")));
        assert_eq!(found(V1), Some(("/daemons", "/cgroup/memory")));
        assert!(mount("22 1 0:21 / /proc rw - proc proc rw\n", V2).is_none());
    }

    #[test]
    fn the_narrowest_group_around_us_counts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        let group = |path: &str, version: Version, max: &str, current: &str, stat: &str| {
            let at = dir.path().join(path);
            std::fs::create_dir_all(&at).unwrap();
            std::fs::write(at.join(version.limit), max).unwrap();
            std::fs::write(at.join(version.used), current).unwrap();
            std::fs::write(at.join("memory.stat"), stat).unwrap();
        };
        let mounts = format!(
            "41 31 0:38 / {root}/two rw - cgroup2 cgroup2 rw\n\
             35 31 0:32 /daemons {root}/one rw - cgroup cgroup rw,memory\n"
        );
        assert_eq!(headroom(GROUPS, &mounts), None, "nothing there");
        group("two/a", V2, "1000\n", "900\n", "inactive_file 300\nshmem 100\n");
        group("two/a/b", V2, "max\n", "10\n", "");
        assert_eq!(headroom(GROUPS, &mounts), Some(400));
        group("two/a/b", V2, "100\n", "10\n", "");
        assert_eq!(headroom(GROUPS, &mounts), Some(90));
        // Of both versions the narrower; without a limit it says nothing.
        group("one/a", V1, "9223372036854771712\n", "50\n", "");
        assert_eq!(headroom(GROUPS, &mounts), Some(90));
        let stat = "inactive_file 40\ntotal_inactive_file 30\ntotal_active_file 5\n";
        group("one/a", V1, "100\n", "50\n", stat);
        assert_eq!(headroom(GROUPS, &mounts), Some(85));
        group("two/a/b", V2, "100\n", "200\n", "");
        assert_eq!(headroom(GROUPS, &mounts), Some(0));
    }
}
