//! A control group with a limit on memory, of a test's own, gone at the end of
//! scope. Version 2's where that has the memory controller, else version 1's.
//! Needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::require;

/// Where version 2 may be mounted, and where version 1's controller.
const V2: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const V1: &str = "/sys/fs/cgroup/memory";

/// A control group.
pub struct MemoryGroup {
    path: PathBuf,
    limit: &'static str,
}

/// The hierarchy that limits memory here, and the file that does.
fn hierarchy() -> Option<(&'static Path, &'static str)> {
    let has_memory = |root: &&str| {
        let controllers = fs::read_to_string(format!("{root}/cgroup.controllers"));
        controllers.is_ok_and(|text| text.split_whitespace().any(|name| name == "memory"))
    };
    if let Some(root) = V2.iter().find(|root| has_memory(root)) {
        // Where it isn't handed down yet.
        let _ = fs::write(format!("{root}/cgroup.subtree_control"), "+memory");
        return Some((Path::new(root), "memory.max"));
    }
    let limit = "memory.limit_in_bytes";
    Path::new(V1).join(limit).is_file().then_some((Path::new(V1), limit))
}

impl MemoryGroup {
    /// One with so many bytes, for the test `name`; `None` after having said that
    /// it can't be made here.
    pub fn new(name: &str, bytes: u64) -> Option<MemoryGroup> {
        if !require::root(name) {
            return None;
        }
        let Some((root, limit)) = hierarchy() else {
            require::not_run(name, "no control group limits memory here", "RTM_REQUIRE_ROOT");
            return None;
        };
        let path = root.join(format!("rtm-{name}-{}", std::process::id()));
        let group = match fs::create_dir(&path) {
            Ok(()) => MemoryGroup { path, limit },
            Err(error) => {
                let why = format!("{}: {error}", path.display());
                require::not_run(name, &why, "RTM_REQUIRE_ROOT");
                return None;
            }
        };
        group.set_limit(bytes);
        Some(group)
    }

    /// It may have so many bytes from here on.
    pub fn set_limit(&self, bytes: u64) {
        let path = self.path.join(self.limit);
        fs::write(&path, bytes.to_string()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// A command that runs in it.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
        command.arg(self.path.join("cgroup.procs")).arg(program);
        command
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // It stays busy until the last process has been waited for.
        let start = Instant::now();
        while fs::remove_dir(&self.path).is_err() && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
