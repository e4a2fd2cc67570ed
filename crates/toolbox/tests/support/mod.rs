//! The real binary, run and looked at; names of our own; C programs compiled in
//! the test.
#![allow(dead_code)] // each test file uses its part
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What a run gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn seen(output: &Output) -> Run {
    use std::os::unix::process::ExitStatusExt;
    let status = output.status;
    Run {
        code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `ipc` with these words, blanks between them (none of the tests' words has
/// one, but those in single quotes).
pub(crate) fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipc"));
    for (n, part) in line.split('\'').enumerate() {
        if n % 2 == 1 {
            command.arg(part);
        } else {
            command.args(part.split_ascii_whitespace());
        }
    }
    command.env("NO_COLOR", "1");
    command
}

pub(crate) fn run(line: &str) -> Run {
    seen(&command(line).stdin(Stdio::null()).output().unwrap())
}

/// Runs it, expects success and nothing on standard error; gives its output.
#[track_caller]
pub(crate) fn ok(line: &str) -> String {
    let run = run(line);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "ipc {line}");
    run.out
}

/// Runs it, expects this exit code and one line on standard error that holds
/// each of the parts.
#[track_caller]
pub(crate) fn fails(line: &str, code: i32, parts: &[&str]) {
    let run = run(line);
    assert_eq!(run.code, code, "ipc {line}: {run:?}");
    assert_eq!(run.err.lines().count(), 1, "ipc {line}: {run:?}");
    for part in parts {
        assert!(run.err.contains(part), "ipc {line}: {part:?} in {:?}", run.err);
    }
}

#[track_caller]
pub(crate) fn with_input(line: &str, input: &[u8]) -> Run {
    let mut child = command(line)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    seen(&output)
}

/// As another user (65534, nobody): `None` where that isn't possible.
pub(crate) fn as_nobody(test: &str, line: &str) -> Option<Run> {
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        not_run(test, "switching to another user needs root");
        return None;
    }
    // The build directory may be closed to others: run a copy.
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("ipc");
    // By a process of its own: a descriptor for writing that another test's
    // fork inherits for a moment would make the copy "busy".
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_ipc")).arg(&copy).status().unwrap();
    assert!(copied.success());
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    let words = command(line);
    let mut other = Command::new(&copy);
    other.args(words.get_args()).uid(65534).gid(65534).stdin(Stdio::null());
    Some(seen(&other.output().unwrap()))
}

/// Says that a test did not run, or fails where it must.
pub(crate) fn not_run(test: &str, why: &str) {
    assert!(std::env::var_os("RTM_REQUIRE_ROOT").is_none_or(|v| v != "1"), "{test}: {why}");
    println!("not run: {test} ({why})");
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs lines of a shell as root in an IPC namespace of their own, in which
/// `ipc` is the real binary: for the system's limits, which are set there
/// without touching anybody else's. `None` where that isn't possible.
pub(crate) fn in_own_ipc_namespace(test: &str, script: &str) -> Option<Run> {
    if !is_root() {
        not_run(test, "unshare --ipc needs root");
        return None;
    }
    let binaries = Path::new(env!("CARGO_BIN_EXE_ipc")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    let output = Command::new("unshare")
        .args(["--ipc", "sh", "-c", script])
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Some(seen(&output))
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A POSIX name of this test's own; what has it at the end is removed.
pub(crate) struct Name(pub(crate) String);

impl Name {
    pub(crate) fn new(what: &str) -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("/ipc-test-{what}-{}-{n}", std::process::id()))
    }
}

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = ipc::mq::remove(&self.0);
        let _ = ipc::shm::remove(&self.0);
        let _ = ipc::sem::remove(&self.0);
    }
}

/// A key of this test's own.
pub(crate) struct Key(pub(crate) i32);

impl Key {
    pub(crate) fn new() -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Self((0x4950_0000 | (std::process::id() & 0x3ff) << 6 | n & 0x3f) as i32)
    }
}

impl core::fmt::Display for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        use ipc::sysv;
        let key = sysv::Key::Number(self.0);
        let _ = sysv::queue::Queue::find(key).map(|q| q.remove());
        let _ = sysv::segment::Segment::find(key).map(|s| s.remove());
        let _ = sysv::set::Set::find(key).map(|s| s.remove());
    }
}

/// A running `ipc`, ended with the test.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(line: &str) -> Self {
        Self::from(command(line).stdin(Stdio::null()))
    }

    pub(crate) fn from(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, signal: ipc::signal::Signal) {
        ipc::signal::send(rustix::process::Pid::from_child(&self.0), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Run {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        if let Some(mut stdout) = self.0.stdout.take() {
            stdout.read_to_end(&mut out).unwrap();
        }
        self.0.stderr.take().unwrap().read_to_end(&mut err).unwrap();
        let status = self.0.wait().unwrap();
        seen(&Output { status, stdout: out, stderr: err })
    }

    /// Waits for its end without reading what it said: a child of it may hold
    /// the pipes open.
    pub(crate) fn end_quietly(mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let status = self.0.wait().unwrap();
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }

    /// Until it sleeps in this system call (its number), by /proc: for tests of
    /// what happens while somebody waits.
    pub(crate) fn until_in(&self, calls: &[i64]) {
        let path = format!("/proc/{}/syscall", self.pid());
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let number = text.split(' ').next().and_then(|n| n.parse::<i64>().ok());
            if number.is_some_and(|number| calls.contains(&number)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("it never waited");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Compiles `tests/c/NAME.c` once per test and gives the program.
pub(crate) struct CProgram {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl CProgram {
    pub(crate) fn compile(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/c/{name}.c"));
        let output = Command::new("cc")
            .args(["-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-o"])
            .arg(&path)
            .arg(&source)
            .args(["-pthread", "-lrt"])
            .output()
            .expect("a C compiler, cc");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { _dir: dir, path }
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(words);
        command
    }

    #[track_caller]
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let run = seen(&self.command(words).output().unwrap());
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{words:?}: {}", run.out);
        run.out
    }
}
