//! Who has an object open or mapped, from /proc: what this user may see of it.
use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;

/// Processes by the file (device, inode) that they have open or mapped.
pub(crate) struct Holders(HashMap<(u64, u64), BTreeSet<i32>>);

impl Holders {
    /// Looks through all processes once.
    pub(crate) fn now() -> Self {
        let mut found: HashMap<(u64, u64), BTreeSet<i32>> = HashMap::new();
        let Ok(processes) = std::fs::read_dir("/proc") else { return Self(found) };
        for process in processes.flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|n| n.parse().ok()) else {
                continue;
            };
            let path = process.path();
            if let Ok(descriptors) = std::fs::read_dir(path.join("fd")) {
                for descriptor in descriptors.flatten() {
                    if let Ok(file) = std::fs::metadata(descriptor.path()) {
                        found.entry((file.dev(), file.ino())).or_default().insert(pid);
                    }
                }
            }
            let maps = std::fs::read(path.join("maps")).unwrap_or_default();
            for line in String::from_utf8_lossy(&maps).lines() {
                if let Some(file) = mapped(line) {
                    found.entry(file).or_default().insert(pid);
                }
            }
        }
        Self(found)
    }

    /// The processes that hold this file.
    pub(crate) fn of(&self, metadata: &rustix::fs::Stat) -> Vec<i32> {
        let key = (metadata.st_dev, metadata.st_ino);
        self.0.get(&key).map(|pids| pids.iter().copied().collect()).unwrap_or_default()
    }
}

/// Device and inode of one line of `maps`.
fn mapped(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split_ascii_whitespace().skip(3);
    let (major, minor) = fields.next()?.split_once(':')?;
    let inode = fields.next()?.parse().ok().filter(|inode| *inode != 0)?;
    let major = u32::from_str_radix(major, 16).ok()?;
    let minor = u32::from_str_radix(minor, 16).ok()?;
    Some((rustix::fs::makedev(major, minor), inode))
}

/// `12,345`, or `-` for nobody.
pub(crate) fn pids(pids: &[i32]) -> String {
    if pids.is_empty() {
        return "-".to_owned();
    }
    pids.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

/// Whether a process of this id exists.
pub(crate) fn is_alive(pid: i32) -> bool {
    pid > 0 && std::path::Path::new(&format!("/proc/{pid}")).exists()
}
