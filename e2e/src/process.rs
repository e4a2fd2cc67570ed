//! Real processes: started, fed, read, waited for, killed by pid.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long a test waits for something that must come. No speed is asserted
/// by it: it only ends a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The path of one of the workspace's binaries, beside this test's own.
pub fn binary(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("a test has a path");
    path.pop(); // deps
    if path.ends_with("deps") {
        path.pop();
    }
    path.push(name);
    assert!(
        path.is_file(),
        "{} is missing: `cargo build --workspace --bins` makes it",
        path.display()
    );
    path
}

/// A copy of one of the workspace's binaries in `directory`, where another user
/// can reach it. A process of its own makes it: a copy that this one had open for
/// writing could be inherited by what another test starts just then, and then the
/// kernel doesn't run it (ETXTBSY).
pub fn copy_of(name: &str, directory: &Path) -> PathBuf {
    let copy = directory.join(name);
    let made = Command::new("cp").arg(binary(name)).arg(&copy).status().expect("cp runs");
    assert!(made.success(), "cp {name}");
    copy
}

#[derive(Default)]
struct Stream {
    text: Mutex<(String, bool)>,
    grown: Condvar,
}

/// A child whose standard output and error are collected while it runs.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    out: Arc<Stream>,
    err: Arc<Stream>,
    status: Option<ExitStatus>,
}

/// What a process left behind.
#[derive(Debug)]
pub struct Output {
    /// Its exit code; `None`: ended by a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

fn collect(source: impl Read + Send + 'static) -> Arc<Stream> {
    let stream = Arc::new(Stream::default());
    let sink = Arc::clone(&stream);
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        loop {
            line.clear();
            let count = source.read_until(b'\n', &mut line).unwrap_or(0);
            let mut text = sink.text.lock().unwrap();
            text.0.push_str(&String::from_utf8_lossy(&line));
            text.1 |= count == 0;
            sink.grown.notify_all();
            if count == 0 {
                return;
            }
        }
    });
    stream
}

impl Process {
    /// Starts a binary of the workspace with these arguments.
    pub fn start(name: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Process {
        let mut command = Command::new(binary(name));
        command.args(args);
        Process::spawn(command)
    }

    /// Starts any command; its three streams become the test's.
    pub fn spawn(mut command: Command) -> Process {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let stdin = child.stdin.take();
        let out = collect(child.stdout.take().unwrap());
        let err = collect(child.stderr.take().unwrap());
        Process { child, stdin, out, err, status: None }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input.
    pub fn write(&mut self, text: &str) {
        self.write_bytes(text.as_bytes());
    }

    /// The same for what is no text.
    pub fn write_bytes(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("standard input is still open");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("it reads its standard input");
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal, by number.
    pub fn signal(&self, signal: i32) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let signal = rustix::process::Signal::from_named_raw(signal).expect("a signal's number");
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.out.text.lock().unwrap().0.clone()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.err.text.lock().unwrap().0.clone()
    }

    /// Waits until standard output holds `needle`.
    pub fn wait_stdout(&self, needle: &str) -> String {
        wait_stream(&self.out, needle, &self.err)
    }

    /// Waits until standard error holds `needle`.
    pub fn wait_stderr(&self, needle: &str) -> String {
        wait_stream(&self.err, needle, &self.out)
    }

    /// Has it ended?
    pub fn ended(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("it is our child");
        }
        self.status.is_some()
    }

    /// How it ended, if it has.
    pub fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// Closes its standard input, waits for its end, and takes what it wrote.
    pub fn finish(self) -> Output {
        self.finish_within(PATIENCE)
    }

    /// The same for one that takes its time.
    pub fn finish_within(mut self, patience: Duration) -> Output {
        self.stdin = None;
        let start = Instant::now();
        while !self.ended() {
            assert!(
                start.elapsed() < patience,
                "pid {} doesn't end\nstdout: {}\nstderr: {}",
                self.pid(),
                self.stdout(),
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        Output {
            code: self.status.and_then(|s| s.code()),
            out: whole(&self.out),
            err: whole(&self.err),
        }
    }
}

fn whole(stream: &Stream) -> String {
    let guard = stream.text.lock().unwrap();
    // A grandchild may hold the stream open: the wait is bounded.
    let (guard, _) =
        stream.grown.wait_timeout_while(guard, Duration::from_secs(5), |text| !text.1).unwrap();
    guard.0.clone()
}

fn wait_stream(stream: &Stream, needle: &str, other: &Stream) -> String {
    let guard = stream.text.lock().unwrap();
    let (guard, _) = stream
        .grown
        .wait_timeout_while(guard, PATIENCE, |text| !text.0.contains(needle) && !text.1)
        .unwrap();
    let text = guard.0.clone();
    drop(guard);
    assert!(
        text.contains(needle),
        "waited in vain for {needle:?}\nit wrote: {text}\nand on the other stream: {}",
        other.text.lock().unwrap().0
    );
    text
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
