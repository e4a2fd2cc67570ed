//! `ipc pipe` and `ipc fifo` end to end, with C programs on the other side and
//! the system's own tools as referees.
mod support;

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use support::{CProgram, Running, as_nobody, command, fails, ok, run, seen, with_input};

/// poll, open, openat, write: where a waiting `ipc fifo` sleeps on x86-64.
const SLEEPS: &[i64] = &[7, 271, 2, 257, 1];

#[test]
fn the_parent_writes_closes_and_waits() {
    let run = run("pipe run cat --input 'Hello from your program.'");
    assert_eq!(run.code, 0);
    assert_eq!(run.out, "Hello from your program.");
    assert_eq!(run.err, "cat: 24 bytes in; exit 0\n");
}

#[test]
fn every_child_is_told_with_its_end_and_its_bytes() {
    for (line, code, out, err) in [
        (
            "pipe run 'printf abc' 'cat' 'wc -c'",
            0,
            "3\n",
            "printf abc: exit 0\ncat: 3 bytes in; exit 0\nwc -c: 3 bytes in; exit 0\n",
        ),
        // As a shell has it: the last one's code counts, or with --pipefail any.
        ("pipe run 'exit 3' 'cat'", 0, "", "exit 3: exit 3\ncat: 0 bytes in; exit 0\n"),
        ("pipe run 'exit 3' 'cat' --pipefail", 3, "", "exit 3: exit 3\ncat: 0 bytes in; exit 0\n"),
        ("pipe run 'true' 'exit 4'", 4, "", "true: exit 0\nexit 4: 0 bytes in; exit 4\n"),
        ("pipe run 'kill -TERM $$'", 143, "", "kill -TERM $$: Terminated: Terminated\n"),
        // The shell's words are the shell's.
        (
            "pipe run 'echo one; echo two' 'tail -n 1 | tr a-z A-Z'",
            0,
            "TWO\n",
            "echo one; echo two: exit 0\ntail -n 1 | tr a-z A-Z: 8 bytes in; exit 0\n",
        ),
        ("pipe run 'true' -q", 0, "", ""),
    ] {
        let run = run(line);
        assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (code, out, err), "{line}");
    }
    let run = run("pipe run no-such-command");
    assert_eq!(run.code, 127);
    assert!(run.err.ends_with("no-such-command: exit 127\n"), "{run:?}");
    assert_eq!(support::run("pipe run").code, 1);
}

#[test]
fn a_writer_that_nobody_reads_dies_of_sigpipe() {
    let run = run("pipe run yes 'head -n 1'");
    assert_eq!((run.code, run.out.as_str()), (0, "y\n"));
    assert!(run.err.starts_with("yes: Terminated: Broken pipe\nhead -n 1: "), "{run:?}");
    // Our own output closed: quiet.
    let ipc = env!("CARGO_BIN_EXE_ipc");
    let script = format!("set -o pipefail; yes | {ipc} pipe tee | head -n 1");
    let run = seen(&Command::new("bash").args(["-c", &script]).output().unwrap());
    assert_eq!((run.out.as_str(), run.err.as_str()), ("y\n", ""));
}

#[test]
fn much_goes_through_and_is_counted() {
    let input: Vec<u8> = (0..3_000_000_u32).map(|n| ((n * 7) >> 3) as u8).collect();
    let mut child = command("pipe run cat cat --input -")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = input.clone();
    let feeder = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert!(output.stdout == input);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told, "cat: 3000000 bytes in; exit 0\ncat: 3000000 bytes in; exit 0\n");
    // Who doesn't read its input is not waited for, though that never ends.
    let script = format!("{} pipe run true --input - < /dev/zero", env!("CARGO_BIN_EXE_ipc"));
    let run = seen(&Command::new("sh").args(["-c", &script]).output().unwrap());
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
fn tee_copies_without_copying() {
    let dir = tempfile::tempdir().unwrap();
    let (file, other) = (dir.path().join("file"), dir.path().join("other"));
    let (f, o) = (file.display(), other.display());
    let input: Vec<u8> = (0..500_000_u32).map(|n| ((n * 7) >> 3) as u8).collect();
    for (words, how) in [
        (String::new(), "by tee and splice"),
        (format!("{f}"), "by tee and splice"),
        (format!("{f} {o}"), "by read and write"),
    ] {
        let got = got_through(command(&format!("pipe tee -v {words}")), &input);
        assert!(got.0 == input, "{words}");
        assert!(got.1.starts_with("500000 bytes ") && got.1.contains(how), "{}", got.1);
        if !words.is_empty() {
            assert!(std::fs::read(&file).unwrap() == input);
        }
    }
    assert!(std::fs::read(&other).unwrap() == input);
    let got = got_through(command(&format!("pipe tee --append {f}")), b"more");
    assert_eq!(got.0, b"more");
    assert_eq!(std::fs::read(&file).unwrap(), [&input[..], b"more"].concat());
    // No pipes: a file in, a file out.
    let script = format!("{} pipe tee -v {o} < {f} > {f}.out", env!("CARGO_BIN_EXE_ipc"));
    let run = seen(&Command::new("sh").args(["-c", &script]).output().unwrap());
    assert!(run.err.contains("500004 bytes by read and write"), "{run:?}");
    assert!(std::fs::read(&other).unwrap() == std::fs::read(format!("{f}.out")).unwrap());
    fails("pipe tee /nonexistent/file", 2, &["/nonexistent/file: No such file"]);
    fails(&format!("pipe tee {}", dir.path().display()), 2, &["Is a directory"]);
}

/// Runs it between two pipes; gives standard output and standard error.
fn got_through(mut command: Command, input: &[u8]) -> (Vec<u8>, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert!(output.status.success(), "{output:?}");
    (output.stdout, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_pipes_capacity() {
    let fields = ok("pipe cap");
    for field in ["capacity      65536\n", "filled        0\n", "atomic        4096\n"] {
        assert!(fields.contains(field), "{field} in {fields}");
    }
    assert!(ok("pipe cap 200K").starts_with("capacity      262144\n"), "rounded up");
    assert!(ok("pipe cap 1M -J").starts_with("{\"capacity\":1048576,"));
    // Another process's.
    let (reader, writer) = ipc::pipe::pipe().unwrap();
    rustix::io::write(&writer, &[7; 5000]).unwrap();
    let of = format!("--of {}:{}", std::process::id(), reader.as_raw_fd());
    let fields = ok(&format!("pipe cap 128K {of}"));
    assert!(fields.starts_with("capacity      131072\nfilled        5000\n"), "{fields}");
    assert_eq!(ipc::pipe::capacity(&writer).unwrap(), 131_072);
    fails(&format!("pipe cap 4K {of}"), 2, &["it holds more at the moment", "read it first"]);
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let of = format!("{}:{}", std::process::id(), file.as_raw_fd());
    fails(&format!("pipe cap --of {of}"), 2, &["is no pipe"]);
    fails(&format!("pipe cap --of {}:9999", std::process::id()), 2, &["No such file"]);
    assert_eq!(run("pipe cap --of 1").code, 1);
    assert_eq!(run("pipe cap 1X").code, 1);
    let limit = ipc::pipe::capacity_max();
    let over = format!("pipe cap {}", limit + 1);
    if let Some(run) = as_nobody("a_pipes_capacity", &over) {
        assert_eq!(run.code, 2);
        assert!(run.err.contains(&format!("at most {limit} (/proc/sys/fs/pipe-max-size)")));
    }
}

#[test]
fn what_a_pipe_does_is_shown() {
    let shown = ok("demo pipe");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines[..6],
        [
            "Hello from your program.",
            "after 24 bytes the end of file: the last write end is closed",
            "a write when nobody reads, SIGPIPE ignored: Broken pipe",
            "the same with SIGPIPE as by default: Terminated: Broken pipe",
            "capacity 65536: it takes 65536 bytes, then a write has to wait (Resource temporarily unavailable)",
            "4 writers, 800 records of 4096 bytes (PIPE_BUF: each goes in as a whole): 0 torn",
        ]
    );
    assert_eq!(lines.len(), 7, "{shown}");
    assert!(lines[6].starts_with("4 writers, 800 records of 16384 bytes (more than PIPE_BUF"));
}

#[test]
fn fifos_are_made_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path().display();
    ok(&format!("fifo create {d}/a {d}/b --mode 0622"));
    let stat = Command::new("stat").args(["-c", "%F %a", &format!("{d}/b")]).output().unwrap();
    assert_eq!(seen(&stat).out, "fifo 622\n");
    fails(&format!("fifo create {d}/a"), 2, &["exists already", "fifo rm"]);
    fails(&format!("fifo create {d}/no/a"), 2, &["no/a: mkfifo: No such file"]);
    std::fs::write(dir.path().join("file"), "x").unwrap();
    for verb in ["read", "cap", "rm"] {
        fails(&format!("fifo {verb} {d}/file"), 2, &["is no FIFO"]);
        fails(&format!("fifo {verb} {d}/missing"), 2, &["missing", "No such file", "fifo create"]);
    }
    fails(&format!("fifo write {d}/file x"), 2, &["is no FIFO"]);
    fails(&format!("fifo write {d}/missing x"), 2, &["No such file"]);
    assert!(dir.path().join("file").exists(), "a file is not removed");
    ok(&format!("fifo rm {d}/a {d}/b"));
    assert!(!dir.path().join("a").exists());
    for usage in ["fifo", "fifo create", "fifo write /x", "fifo create /x --mode 9"] {
        assert_eq!(run(usage).code, 1, "{usage}");
    }
    ok(&format!("fifo create {d}/closed --mode 0600"));
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for line in [
        format!("fifo read {d}/closed"),
        format!("fifo write {d}/closed x"),
        format!("fifo rm {d}/closed"),
        format!("fifo create {d}/new"),
    ] {
        let Some(run) = as_nobody("fifos_are_made_and_removed", &line) else { return };
        assert_eq!(run.code, 2, "{line}: {run:?}");
        assert!(run.err.contains("Permission denied"), "{}", run.err);
    }
}

#[test]
fn first_in_first_out_with_c_programs() {
    let c = CProgram::compile("signals");
    let dir = tempfile::tempdir().unwrap();
    let fifo = format!("{}/f", dir.path().display());
    ok(&format!("fifo create {fifo}"));
    // The reader waits for a writer, also one that comes later.
    let reading = Running::start(&format!("fifo read {fifo} -v"));
    reading.until_in(SLEEPS);
    c.ok(&["fifo-write", &fifo, "from C"]);
    let run = reading.end();
    assert_eq!(run.out, "from C");
    assert_eq!(run.err, "Read 6 bytes; end of file: its last writer has closed it\n");
    // The writer waits for a reader.
    let writing = Running::start(&format!("fifo write {fifo} 'from ipc' -v"));
    writing.until_in(SLEEPS);
    assert_eq!(c.ok(&["fifo-read", &fifo]), "from ipc");
    assert_eq!(writing.end().err, "Wrote 8 bytes\n");
    // More than it holds, and in order.
    let input: Vec<u8> = (0..1_000_000_u32).map(|n| ((n * 7) >> 3) as u8).collect();
    let mut reading = c.command(&["fifo-read", &fifo]);
    let mut reading = reading.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = reading.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let written = with_input(&format!("fifo write {fifo} -"), &input);
    assert_eq!(written.code, 0, "{written:?}");
    assert!(reader.join().unwrap() == input);
    assert!(reading.wait().unwrap().success());
}

#[test]
fn a_fifo_that_nobody_has_open_and_one_that_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = format!("{}/f", dir.path().display());
    ok(&format!("fifo create {fifo}"));
    fails(&format!("fifo write {fifo} x --nonblock"), 4, &["nobody reads it", "--nonblock"]);
    fails(&format!("fifo write {fifo} x --timeout 20ms"), 4, &["nobody reads it: timed out"]);
    fails(&format!("fifo read {fifo} --nonblock"), 4, &["nothing to read"]);
    fails(&format!("fifo read {fifo} --timeout 20ms"), 4, &["nothing to read: timed out"]);
    let reader = ipc::fifo::open_reader_nonblocking(&fifo).unwrap();
    let full = with_input(&format!("fifo write {fifo} - --nonblock"), &[b'x'; 100_000]);
    assert_eq!(full.code, 4, "{full:?}");
    assert!(full.err.contains("full, 65536 bytes written"), "{}", full.err);
    fails(&format!("fifo write {fifo} y --timeout 20ms"), 4, &["full, 0 bytes written: timed out"]);
    // Waiting while full, and the reader goes.
    let writing = Running::start(&format!("fifo write {fifo} more"));
    writing.until_in(&[7, 271]);
    drop(reader);
    let run = writing.end();
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.err.contains("its reader has gone after 0 bytes (EPIPE"), "{}", run.err);
    // Interrupted.
    let reading = Running::start(&format!("fifo read {fifo}"));
    reading.until_in(&[7, 271]);
    reading.signal(ipc::signal::Signal::INT);
    assert_eq!(reading.end().code, 130);
}

#[test]
fn follow_outlives_the_writers_and_a_removed_name() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = format!("{}/f", dir.path().display());
    ok(&format!("fifo create {fifo}"));
    let mut reading = Running::start(&format!("fifo read {fifo} --follow"));
    reading.until_in(&[7, 271]);
    let mut said = [0; 3];
    for text in ["one", "two"] {
        ok(&format!("fifo write {fifo} {text}"));
        reading.0.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(&said[..], text.as_bytes());
    }
    let open = ipc::fifo::open_writer(&fifo).unwrap();
    ok(&format!("fifo rm {fifo}"));
    rustix::io::write(&open, b"end").unwrap();
    reading.0.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"end");
}

#[test]
fn a_fifos_capacity_lasts_while_it_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = format!("{}/f", dir.path().display());
    ok(&format!("fifo create {fifo}"));
    let alone = run(&format!("fifo cap {fifo} 1M"));
    assert!(alone.out.starts_with("capacity      1048576\n"), "{alone:?}");
    assert!(alone.err.contains("nobody else has it open"), "{alone:?}");
    assert!(ok(&format!("fifo cap {fifo}")).starts_with("capacity      65536\n"));
    let reader = ipc::fifo::open_reader_nonblocking(&fifo).unwrap();
    ok(&format!("fifo cap {fifo} 1M"));
    assert_eq!(ipc::pipe::capacity(&reader).unwrap(), 1 << 20);
}
