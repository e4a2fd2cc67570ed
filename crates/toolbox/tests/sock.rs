//! `ipc sock` end to end: every family and kind, many clients in one loop, the
//! life cycle, descriptors, hostile clients; C programs on the other side, `ss`
//! as a referee.
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ipc::signal::Signal;
use support::{CProgram, Running, command, fails, run, seen, with_input};

/// A server on a Unix socket (or with `words` saying where), until it listens.
struct Server {
    running: Running,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start(options: &str) -> Self {
        Self::with(options, Stdio::null())
    }

    fn with(options: &str, stdin: Stdio) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let line = format!("sock listen unix:{} {options}", path.display());
        let running = Running::from(command(&line).stdin(stdin));
        until(|| path.exists());
        Self { running, path, _directory: directory }
    }

    fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    fn connect(&self) -> UnixStream {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            // Between bind and listen nobody is let in yet.
            match UnixStream::connect(&self.path) {
                Ok(stream) => return stream,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
        }
    }
}

fn until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "it never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The address that a server on port 0 prints first.
fn on_a_free_port(line: &str) -> (Running, String) {
    let mut running = Running::start(line);
    let mut address = String::new();
    let mut out = BufReader::new(running.0.stdout.take().unwrap());
    out.read_line(&mut address).unwrap();
    running.0.stdout = Some(out.into_inner());
    (running, address.trim_end().to_owned())
}

#[test]
fn every_family_and_kind_echoes() {
    let directory = tempfile::tempdir().unwrap();
    for (n, kind) in ["stream", "dgram", "seqpacket"].iter().enumerate() {
        let path = directory.path().join(kind);
        let name = format!("ipc-test-{}-{n}", std::process::id());
        for address in [format!("unix:{}", path.display()), format!("abstract:{name}")] {
            let line = format!("sock listen {address} --type {kind} --echo --count 1");
            let server = Running::start(&line);
            server.until_in(&[232, 281, 441]);
            let more = if *kind == "stream" { "" } else { "--count 1" };
            let got =
                with_input(&format!("sock connect {address} --type {kind} {more}"), b"hello\n");
            assert_eq!((got.code, got.out.as_str()), (0, "hello\n"), "{address} {kind}: {got:?}");
            let ended = server.end();
            assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{address} {kind}");
            assert!(!path.exists(), "the name goes with the listener");
        }
    }
    for host in ["127.0.0.1", "[::1]"] {
        for family in ["tcp", "udp"] {
            let line = format!("sock listen {family}:{host}:0 --echo --count 1");
            let (server, address) = on_a_free_port(&line);
            let more = if family == "tcp" { "" } else { "--count 1" };
            let got = with_input(&format!("sock connect {address} {more}"), b"hello\n");
            assert_eq!((got.code, got.out.as_str()), (0, "hello\n"), "{address}: {got:?}");
            assert_eq!(server.end().code, 0);
        }
    }
}

#[test]
fn a_large_stream_comes_back_whole() {
    let server = Server::start("--echo --count 1");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut child = command(&format!("sock connect {}", server.address()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, sent) = (child.stdin.take().unwrap(), bytes.clone());
    let writer = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.stdout == bytes, "{} of {} bytes", output.stdout.len(), bytes.len());
}

#[test]
fn the_whole_life_cycle_is_shown_with_the_peers_credentials() {
    let server = Server::start("-v --echo --count 1");
    let got = with_input(&format!("sock connect {} -v", server.address()), b"ping\n");
    let pid = server.running.pid();
    let mine = got.err.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(mine[0], "socket: AF_UNIX, SOCK_STREAM");
    assert!(mine[1].starts_with(&format!("connect: {}: pid {pid} (ipc), uid ", server.address())));
    for step in ["write: 5 bytes", "read: 5 bytes", "shutdown: no more is written", "end of file"] {
        assert!(mine.iter().any(|line| line == step), "{step} in {mine:?}");
    }
    let theirs = server.running.end().err;
    let uid = rustix::process::getuid().as_raw();
    let mut at = 0;
    for step in [
        "socket: AF_UNIX, SOCK_STREAM: descriptor ",
        "bind: unix:",
        "listen: up to 4096 may wait",
        "accept: client 1 by descriptor ",
        "(ipc), uid ",
        &format!("{uid} ("),
        "read: 5 bytes from client 1",
        "write: 5 bytes to client 1",
        "read: end of file of client 1",
        "close: client 1: everything is sent",
        "close: the listener; its name is removed",
    ] {
        let found = theirs[at..].find(step);
        at += found.unwrap_or_else(|| panic!("{step:?} behind {at} in {theirs}"));
    }
}

#[test]
fn a_name_that_is_left_behind_is_replaced_and_one_in_use_is_not() {
    let mut server = Server::start("--echo");
    let address = server.address();
    fails(&format!("sock listen {address}"), 2, &["another process listens there"]);
    server.running.0.kill().unwrap();
    server.running.0.wait().unwrap();
    assert!(server.path.exists(), "a killed server leaves its name");
    fails(&format!("sock connect {address}"), 2, &["nobody listens there"]);
    let got = run(&format!("sock listen {address} -v --timeout 20ms"));
    assert_eq!(got.code, 4);
    assert!(got.err.starts_with("unlink: "), "{}", got.err);
    std::fs::write(&server.path, "a file").unwrap();
    fails(&format!("sock listen {address}"), 2, &["exists and is no socket"]);
    assert_eq!(std::fs::read(&server.path).unwrap(), b"a file");
}

#[test]
fn many_clients_chat_in_one_loop() {
    let mut server = Server::with("--chat", Stdio::piped());
    let mut console = server.running.0.stdin.take().unwrap();
    let mut clients: Vec<BufReader<UnixStream>> = Vec::new();
    for n in 1..=40 {
        clients.push(BufReader::new(server.connect()));
        // Each hears of the next one, so the numbers are known.
        if n > 1 {
            let mut line = String::new();
            clients[n - 2].read_line(&mut line).unwrap();
            assert_eq!(line, format!("* client {n} has come\n"));
        }
    }
    let hears = |client: &mut BufReader<UnixStream>, text: &str| loop {
        let mut line = String::new();
        assert!(client.read_line(&mut line).unwrap() > 0, "{text} never came");
        if line == text {
            break;
        }
        assert!(line.starts_with("* client "), "{line:?} before {text:?}");
    };
    // In two pieces, with a control character that must reach no terminal.
    clients[4].get_ref().write_all(b"hel").unwrap();
    clients[4].get_ref().write_all(b"lo\x1b[2J\n").unwrap();
    for (n, client) in clients.iter_mut().enumerate() {
        if n != 4 {
            hears(client, "client 5: hello\u{fffd}[2J\n");
        }
    }
    console.write_all(b"closing time\n").unwrap();
    for client in &mut clients {
        hears(client, "server: closing time\n");
    }
    clients.remove(0);
    hears(&mut clients[0], "* client 1 has gone\n");
}

#[test]
fn who_does_not_read_is_closed_and_stops_nobody() {
    let mut server = Server::start("--chat -v");
    // Its standard output has a reader, else that would stop it.
    let mut out = server.running.0.stdout.take().unwrap();
    std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    let deaf = server.connect();
    let mut talks = server.connect();
    let mut listens = BufReader::new(server.connect());
    let line = [b"x".repeat(4000), b"\n".to_vec()].concat();
    // Never further ahead of who reads than a few lines: that one is to stay.
    let (heard_one, may_go_on) = std::sync::mpsc::channel();
    let writer = std::thread::spawn(move || {
        for number in 0..400 {
            talks.write_all(&line).unwrap();
            if number >= 4 {
                may_go_on.recv().unwrap();
            }
        }
        talks
    });
    let mut heard = 0;
    while heard < 400 {
        let mut text = String::new();
        assert!(listens.read_line(&mut text).unwrap() > 0);
        if text.starts_with("client 2: xxx") {
            heard += 1;
            let _ = heard_one.send(());
        }
    }
    drop(writer.join().unwrap());
    drop(deaf);
    server.running.signal(Signal::TERM);
    server.running.0.stdout = None;
    let ended = server.running.end();
    assert_eq!(ended.code, 143);
    assert!(ended.err.contains("close: client 1: it doesn't read: "), "{}", ended.err);
}

#[test]
fn a_line_without_end_is_refused() {
    let server = Server::start("--sum -v");
    let mut client = server.connect();
    let _ = client.write_all(&vec![b'1'; 100_000]);
    let mut rest = Vec::new();
    // Closed with our bytes unread: the end, or a reset.
    let _ = client.read_to_end(&mut rest);
    assert!(rest.is_empty());
    let mut next = server.connect();
    next.write_all(b"1 2 3\nx\n0\n").unwrap();
    next.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answers = String::new();
    next.read_to_string(&mut answers).unwrap();
    assert_eq!(answers, "error: \"x\": no number\nResult = 6\n");
    server.running.signal(Signal::INT);
    let path = server.path.clone();
    let ended = server.running.end();
    assert_eq!(ended.code, 130);
    assert!(ended.err.contains("close: client 1: a line longer than 4096 bytes"), "{}", ended.err);
    assert!(!path.exists(), "the name goes with the server, also at a signal");
}

#[test]
fn one_client_after_another() {
    let server = Server::start("--echo --at-once 1 --count 2");
    let mut first = server.connect();
    first.write_all(b"1").unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).unwrap();
    let mut second = server.connect();
    second.write_all(b"2").unwrap();
    second.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(second.read(&mut byte).is_err(), "it waits for the first to go");
    second.set_read_timeout(None).unwrap();
    drop(first);
    second.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"2");
    drop(second);
    assert_eq!(server.running.end().code, 0);
}

#[test]
fn the_console_ends_the_server() {
    let mut server = Server::with("--sum", Stdio::piped());
    server.running.0.stdin.take().unwrap().write_all(b"q\n").unwrap();
    assert_eq!(server.running.end().code, 0);
}

#[test]
fn events_go_to_the_client_whose_window_it_is() {
    let mut server = Server::with("--display", Stdio::piped());
    let mut console = server.running.0.stdin.take().unwrap();
    let ask = |client: &mut BufReader<UnixStream>, request: &str| {
        client.get_ref().write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_line(&mut answer).unwrap();
        answer
    };
    let mut clock = BufReader::new(server.connect());
    let mut editor = BufReader::new(server.connect());
    assert_eq!(ask(&mut clock, "open clock\n"), "window 1\n");
    assert_eq!(ask(&mut editor, "open editor\n"), "window 2\n");
    assert_eq!(ask(&mut clock, "draw 1 12:00\n"), "ok\n");
    assert_eq!(ask(&mut editor, "draw 1 mine\n"), "error: window 1: belongs to another client\n");
    console.write_all(b"key 2 a\nkey 1 Escape\nkey 9 x\nfrob\n").unwrap();
    assert_eq!(ask(&mut editor, ""), "event 2 key a\n");
    assert_eq!(ask(&mut clock, ""), "event 1 key Escape\n");
    drop(editor);
    let mut screen = BufReader::new(server.running.0.stdout.take().unwrap());
    for shown in [
        "window 1 of client 1: clock\n",
        "window 2 of client 2: editor\n",
        "window 1: 12:00\n",
        "window 2 closed: client 2 is gone\n",
    ] {
        let mut line = String::new();
        screen.read_line(&mut line).unwrap();
        assert_eq!(line, shown);
    }
}

#[test]
fn descriptors_are_passed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("content");
    std::fs::write(&file, "what is in it\n").unwrap();
    let file = file.display().to_string();
    for kind in ["stream", "dgram", "seqpacket"] {
        let server = Server::start(&format!("--type {kind} --read-passed -v --count 1"));
        server.running.until_in(&[232, 281, 441]);
        let got =
            run(&format!("sock connect {} take --pass {file} --type {kind}", server.address()));
        assert_eq!((got.code, got.err.as_str()), (0, ""), "{kind}");
        let ended = server.running.end();
        assert_eq!(ended.out, "what is in it\ntake", "{kind}: {}", ended.err);
        assert!(ended.err.contains("a descriptor has come"), "{}", ended.err);
        assert!(ended.err.contains(&file), "{}", ended.err);
    }
    // More than are taken: that client is closed, and nothing of it is kept.
    let c = CProgram::compile("sockets");
    let mut server = Server::start("-v");
    server.running.until_in(&[232, 281, 441]);
    c.ok(&["pass", "stream", &server.path.display().to_string(), &file, "60"]);
    c.ok(&["pass", "stream", &server.path.display().to_string(), &file, "3"]);
    let mut last = server.connect();
    last.write_all(b"after").unwrap();
    let mut shown = [0; 6];
    server.running.0.stdout.as_mut().unwrap().read_exact(&mut shown).unwrap();
    assert_eq!(&shown, b"xafter");
    let kept = std::fs::read_dir(format!("/proc/{}/fd", server.running.pid())).unwrap();
    let open = |path: &Path| std::fs::read_link(path).is_ok_and(|to| to == Path::new(&file));
    assert_eq!(kept.flatten().filter(|entry| open(&entry.path())).count(), 0);
    server.running.signal(Signal::TERM);
    let ended = server.running.end();
    assert!(ended.err.contains("client 1: it passed more descriptors"), "{}", ended.err);
    assert_eq!(ended.err.matches("a descriptor has come").count(), 3, "{}", ended.err);
}

#[test]
fn c_programs_on_either_side() {
    let c = CProgram::compile("sockets");
    for kind in ["stream", "dgram", "seqpacket"] {
        let server = Server::start(&format!("--type {kind} --echo --count 1"));
        server.running.until_in(&[232, 281, 441]);
        let path = server.path.display().to_string();
        assert_eq!(c.ok(&["client", kind, &path, "from C"]), "from C", "{kind}");
        assert_eq!(server.running.end().code, 0);

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c");
        let path_text = path.display().to_string();
        let mut server = c.command(&["server", kind, &path_text]).spawn().unwrap();
        until(|| listens(&path_text));
        let got = run(&format!(
            "sock connect unix:{path_text} hello --type {kind} --count 1 --timeout 60s"
        ));
        // A stream counts lines, and this answer is none: it ends with the server.
        assert_eq!((got.code, got.out.as_str()), (0, "HELLO"), "{kind}: {got:?}");
        assert!(server.wait().unwrap().success());
    }
}

/// As ss sees it: the referee.
fn listens(path: &str) -> bool {
    let output = Command::new("ss").args(["-xaH"]).output().expect("ss, of iproute2");
    String::from_utf8_lossy(&output.stdout).lines().any(|line| line.contains(path))
}

#[test]
fn ss_sees_the_listener() {
    let (server, address) = on_a_free_port("sock listen tcp:127.0.0.1:0 --echo");
    let port = address.rsplit(':').next().unwrap();
    let output = Command::new("ss").args(["-ltnpH"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains(&format!("127.0.0.1:{port} "))).unwrap();
    if support::is_root() {
        assert!(line.contains(&format!("pid={}", server.pid())), "{line}");
    }
    let unix = Server::start("--mode 0640");
    assert!(listens(&unix.path.display().to_string()));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(unix.path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_pair_joins_two_commands() {
    let pair = |words: &[&str]| {
        seen(&command("sock pair").args(words).stdin(Stdio::null()).output().unwrap())
    };
    let got = pair(&["echo question; read answer; echo got $answer >&2", "read q; echo re-$q"]);
    assert_eq!((got.code, got.err.as_str()), (0, "got re-question\n"));
    let got = pair(&["exit 3", "cat", "-v"]);
    assert_eq!(got.code, 3, "{}", got.err);
    assert!(got.err.starts_with("socketpair: AF_UNIX, SOCK_STREAM\nfork: "), "{}", got.err);
    assert_eq!(pair(&["one"]).code, 1);
}

#[test]
fn errors_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    fails(&format!("sock connect unix:{}", at("none")), 2, &["nobody listens there"]);
    fails(&format!("sock listen unix:{}/x", at("none")), 2, &["No such file or directory"]);
    fails(&format!("sock listen unix:{}", at(&"x".repeat(108))), 2, &["at most 107 bytes"]);
    fails("sock connect tcp:127.0.0.1:1", 2, &["tcp:127.0.0.1:1", "nobody listens there"][1..]);
    fails("sock listen tcp:127.0.0.1:0 --type dgram", 1, &["tcp has only --type stream"]);
    fails("sock listen udp:127.0.0.1:0 --type stream", 1, &["udp has only --type dgram"]);
    fails("sock connect tcp:127.0.0.1:1 x --pass /etc/passwd", 1, &["through Unix sockets only"]);
    let (_server, address) = on_a_free_port("sock listen tcp:127.0.0.1:0");
    fails(&format!("sock listen {address}"), 2, &["another process listens there"]);
    fails(
        &format!("sock connect {address} hello --stay --count 1 --timeout 30ms"),
        4,
        &["no answer"],
    );
    for usage in [
        "sock",
        "sock listen",
        "sock listen /tmp/x",
        "sock listen tcp:80",
        "sock listen unix:/tmp/x --echo --chat",
        "sock connect abstract:",
        "sock connect unix:/tmp/x --pass /etc/passwd",
    ] {
        assert_eq!(run(usage).code, 1, "{usage}");
    }
    let server = Server::start("--type seqpacket");
    server.running.until_in(&[232, 281, 441]);
    fails(&format!("sock connect {} x", server.address()), 2, &["wrong type"]);
    assert!(Path::new(&server.path).exists());
}
