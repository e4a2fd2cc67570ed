//! Network namespaces of a test's own: made with `ip netns`, with veth pairs
//! inside, gone at the end of scope, also when the test fails. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::process::{PATIENCE, Process, binary, copy_of};

/// A network namespace.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A fresh one, its loopback up.
    pub fn new() -> Namespace {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = Namespace { name: format!("rtm-{}-{number}", std::process::id()) };
        let mut add = Command::new("ip");
        add.args(["netns", "add", &namespace.name]);
        let output = Process::spawn(add).finish();
        assert_eq!(output.code, Some(0), "ip netns add: {}", output.err);
        namespace.ip("link set lo up");
        namespace
    }

    /// Its name, for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run in it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// An `rtmd` in it as nobody, without any capability, from a copy in `directory`;
    /// and its runtime directory there.
    pub fn daemon_of_nobody(&self, directory: &Path, args: &[&str]) -> (Process, PathBuf) {
        let copy = copy_of("rtmd", directory);
        let runtime = directory.join("run");
        std::fs::create_dir(&runtime).expect("a directory");
        for path in [directory, &runtime] {
            std::os::unix::fs::chown(path, Some(65534), Some(65534)).expect("root");
        }
        let mut command = self.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
        command.arg(&copy).arg("--runtime-dir").arg(&runtime).args(args);
        for name in ["RTM_SOCKET", "RTM_RUNTIME_DIR", "XDG_RUNTIME_DIR"] {
            command.env_remove(name);
        }
        (Process::spawn(command), runtime)
    }

    /// Runs `ip` with these words in it, which must succeed; gives its output.
    pub fn ip(&self, words: &str) -> String {
        let (code, out, err) = self.try_ip(words);
        assert_eq!(code, Some(0), "ip {words}: {err}");
        out
    }

    /// Runs `ip` with these words in it: exit code, output, errors.
    pub fn try_ip(&self, words: &str) -> (Option<i32>, String, String) {
        // `ip -n` enters the namespace itself.
        let mut command = Command::new("ip");
        command.args(["-n", &self.name]).args(words.split_whitespace());
        let output = command.output().expect("ip runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// Writes a number below `/proc/sys` in it.
    pub fn sysctl(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let script = format!("echo {value} > {path}");
        let output = self.command("sh").args(["-c", &script]).output().expect("sh runs");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Two pairs of links with addresses, as most tests want them: `v0` (with
    /// its other end `v1`) has 192.168.1.2/24 and 2001:db8:1::2/64, `w0` the
    /// same with 2.
    pub fn with_links() -> Namespace {
        let namespace = Namespace::new();
        for (name, number) in [("v", 1), ("w", 2)] {
            namespace.ip(&format!("link add {name}0 type veth peer name {name}1"));
            namespace.ip(&format!("link set {name}0 up"));
            namespace.ip(&format!("link set {name}1 up"));
            namespace.ip(&format!("addr add 192.168.{number}.2/24 dev {name}0"));
            namespace.ip(&format!("-6 addr add 2001:db8:{number}::2/64 dev {name}0 nodad"));
        }
        namespace
    }

    /// Waits until fresh links have their carriers and link-local addresses: for
    /// some seconds the kernel tells of these.
    pub fn settle(&self) {
        let start = Instant::now();
        while !self.ip("-6 addr show tentative").is_empty()
            || self.ip("link show up").contains("NO-CARRIER")
        {
            assert!(start.elapsed() < PATIENCE, "links never settle: {}", self.ip("addr show"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs `ip -batch` in it over these lines, which must succeed.
    pub fn batch(&self, lines: &str) {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "-batch", "-"]);
        let mut process = Process::spawn(command);
        process.write(lines);
        let output = process.finish();
        assert_eq!(output.code, Some(0), "ip -batch: {}", output.err);
    }

    /// Two links of these names that are the ends of one cable, up, the first
    /// with this address.
    pub fn veth(&self, first: &str, second: &str, address: &str) {
        self.ip(&format!("link add {first} type veth peer name {second}"));
        self.ip(&format!("addr add {address} dev {first}"));
        self.ip(&format!("link set {first} up"));
        self.ip(&format!("link set {second} up"));
    }

    /// A daemon in it; commands reach it from anywhere, by its directory.
    pub fn daemon(&self, args: &[&str]) -> Daemon {
        let directory =
            tempfile::Builder::new().prefix("rtm-e2e-").tempdir().expect("a temporary directory");
        self.daemon_in(directory, args)
    }

    /// A daemon in it, in a directory that may hold what an earlier one left.
    pub fn daemon_in(&self, directory: TempDir, args: &[&str]) -> Daemon {
        Daemon::start_by(self.command(binary("rtmd")), directory, args)
    }
}

impl Default for Namespace {
    fn default() -> Namespace {
        Namespace::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Processes in it, if any are left, are others' to end; the name goes.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}
