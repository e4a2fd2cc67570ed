//! Who has an object open or mapped, and for what, from /proc: what this user
//! may see of it.
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;

/// What a process can do with what it holds.
#[derive(Clone, Copy, Default)]
struct Access {
    read: bool,
    write: bool,
}

/// Processes by the file (device, inode) that they have open or mapped.
pub(crate) struct Holders(HashMap<(u64, u64), BTreeMap<i32, Access>>);

impl Holders {
    /// Looks through all processes once.
    pub(crate) fn now() -> Self {
        let mut found: HashMap<(u64, u64), BTreeMap<i32, Access>> = HashMap::new();
        let mut add = |file, pid, read, write| {
            let access = found.entry(file).or_default().entry(pid).or_default();
            access.read |= read;
            access.write |= write;
        };
        let Ok(processes) = std::fs::read_dir("/proc") else { return Self(HashMap::new()) };
        for process in processes.flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|n| n.parse().ok()) else {
                continue;
            };
            let path = process.path();
            if let Ok(descriptors) = std::fs::read_dir(path.join("fd")) {
                for descriptor in descriptors.flatten() {
                    let path = descriptor.path();
                    // The link's own mode tells what it was opened for.
                    let opened = std::fs::symlink_metadata(&path).map_or(0, |link| link.mode());
                    if let Ok(file) = std::fs::metadata(&path) {
                        let (read, write) = (opened & 0o400 != 0, opened & 0o200 != 0);
                        add((file.dev(), file.ino()), pid, read, write);
                    }
                }
            }
            let maps = std::fs::read(path.join("maps")).unwrap_or_default();
            for line in String::from_utf8_lossy(&maps).lines() {
                if let Some((file, read, write)) = mapped(line) {
                    add(file, pid, read, write);
                }
            }
        }
        Self(found)
    }

    /// The processes that hold this file.
    pub(crate) fn of(&self, metadata: &rustix::fs::Stat) -> Vec<i32> {
        self.those(metadata, |_| true)
    }

    /// Those of them that can read it.
    pub(crate) fn readers(&self, metadata: &rustix::fs::Stat) -> Vec<i32> {
        self.those(metadata, |access| access.read)
    }

    /// Those of them that can write it.
    pub(crate) fn writers(&self, metadata: &rustix::fs::Stat) -> Vec<i32> {
        self.those(metadata, |access| access.write)
    }

    fn those(&self, metadata: &rustix::fs::Stat, wanted: impl Fn(Access) -> bool) -> Vec<i32> {
        let key = (metadata.st_dev, metadata.st_ino);
        let own = std::process::id() as i32;
        let pids = self.0.get(&key).into_iter().flatten();
        // A listing opens some of what it lists: that isn't told.
        pids.filter(|(pid, access)| **pid != own && wanted(**access)).map(|(pid, _)| *pid).collect()
    }
}

/// Device and inode of one line of `maps`, and whether it maps to read and to
/// write (a private map's writes reach nobody).
fn mapped(line: &str) -> Option<((u64, u64), bool, bool)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let rights = fields.next()?;
    let mut fields = fields.skip(1);
    let (major, minor) = fields.next()?.split_once(':')?;
    let inode = fields.next()?.parse().ok().filter(|inode| *inode != 0)?;
    let major = u32::from_str_radix(major, 16).ok()?;
    let minor = u32::from_str_radix(minor, 16).ok()?;
    let file = (rustix::fs::makedev(major, minor), inode);
    Some((file, rights.contains('r'), rights.contains('w') && rights.contains('s')))
}

/// `12,345`, or `-` for nobody.
pub(crate) fn pids(pids: &[i32]) -> String {
    if pids.is_empty() {
        return "-".to_owned();
    }
    pids.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

/// The command line of a process, as lsipc shows a segment's creator; `-` when
/// it has gone.
pub(crate) fn command(pid: i32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&words).replace('\0', " ");
    if text.trim().is_empty() { "-".to_owned() } else { text.trim().to_owned() }
}

/// Whether a process of this id exists.
pub(crate) fn is_alive(pid: i32) -> bool {
    pid > 0 && std::path::Path::new(&format!("/proc/{pid}")).exists()
}
