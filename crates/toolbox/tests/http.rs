//! `ipc http` end to end: curl and python as referees, hostile requests byte by
//! byte, a directory that nothing leads out of.
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::{Running, command, fails, ok, run};

/// A server of a directory of its own, with a secret beside that directory.
struct Server {
    running: Running,
    /// http://127.0.0.1:PORT
    base: String,
    port: u16,
    top: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("a.txt"), "0123456789").unwrap();
        std::fs::write(root.join("empty"), "").unwrap();
        std::fs::write(root.join("sub/with space&<.html"), "<p>").unwrap();
        std::fs::write(top.path().join("secret"), "secret").unwrap();
        let line = format!("http serve {} --listen 127.0.0.1:0 -v", root.display());
        let mut running = Running::start(&line);
        let mut base = String::new();
        let mut out = BufReader::new(running.0.stdout.take().unwrap());
        out.read_line(&mut base).unwrap();
        let base = base.trim_end().trim_end_matches('/').to_owned();
        let port = base.rsplit(':').next().unwrap().parse().unwrap();
        Self { running, base, port, top }
    }

    fn root(&self) -> std::path::PathBuf {
        self.top.path().join("root")
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).unwrap()
    }

    /// Everything that comes back for these bytes, up to the end.
    fn answer(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        let _ = stream.write_all(request);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    }

    fn curl(&self, words: &[&str], path: &str) -> String {
        let output = Command::new("curl")
            .args(["-sS", "--path-as-is"])
            .args(words)
            .arg(format!("{}{path}", self.base))
            .output()
            .expect("curl, of the package curl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn status(&self, path: &str) -> String {
        self.curl(&["-o", "/dev/null", "-w", "%{http_code}"], path)
    }
}

#[test]
fn as_the_specification_says_it() {
    let server = Server::start();
    let answer = server.answer(b"GET /a.txt HTTP/1.0\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let lines: Vec<&str> = head.split("\r\n").collect();
    assert_eq!(lines[0], "HTTP/1.0 200 OK");
    for field in
        ["Content-Type: text/plain; charset=utf-8", "Content-Length: 10", "Connection: close"]
    {
        assert!(lines.contains(&field), "{field} in {head}");
    }
    assert!(lines.iter().any(|line| line.starts_with("Last-Modified: ") && line.ends_with(" GMT")));
    assert_eq!(body, "0123456789");
    let answer = server.answer(b"GET /none HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.0 404 Not Found\r\n"), "{answer}");
    let answer = server.answer(b"HEAD /a.txt HTTP/1.0\r\n\r\n");
    assert!(answer.contains("Content-Length: 10\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn curl_is_content() {
    let server = Server::start();
    assert_eq!(server.curl(&[], "/a.txt"), "0123456789");
    assert_eq!(server.curl(&["-0"], "/a.txt"), "0123456789");
    assert_eq!(server.curl(&[], "/empty"), "");
    assert_eq!(server.curl(&[], "/sub/with%20space&%3c.html?query"), "<p>");
    for (range, bytes) in [("0-3", "0123"), ("4-", "456789"), ("-2", "89"), ("8-99", "89")] {
        assert_eq!(server.curl(&["-r", range], "/a.txt"), bytes, "{range}");
    }
    let code = ["-o", "/dev/null", "-w", "%{http_code}"];
    assert_eq!(server.curl(&[&["-r", "0-3"], &code[..]].concat(), "/a.txt"), "206");
    assert_eq!(server.curl(&[&["-r", "10-"], &code[..]].concat(), "/a.txt"), "416");
    let all = server.curl(&["-r", "0-1,3-4"], "/a.txt");
    assert_eq!(all, "0123456789", "several ranges are answered with everything");
    // Not changed since what curl has: nothing is sent.
    let copy = server.top.path().join("copy");
    let copy = copy.to_str().unwrap();
    server.curl(&["-R", "-o", copy], "/a.txt");
    assert_eq!(server.curl(&[&["-z", copy], &code[..]].concat(), "/a.txt"), "304");
    // Two requests over one connection.
    let twice = server.curl(&["-v", "--stderr", "-", &format!("{}/empty", server.base)], "/a.txt");
    assert!(twice.contains("Re-using existing connection"), "{twice}");
    assert_eq!(server.status("/sub"), "301");
    assert_eq!(
        server.curl(&["-L", "-o", "/dev/null", "-w", "%{url_effective}"], "/sub"),
        format!("{}/sub/", server.base)
    );
    let listing = server.curl(&[], "/sub/");
    assert!(
        listing.contains("<a href=\"./with%20space%26%3C.html\">with space&amp;&lt;.html</a>"),
        "{listing}"
    );
    std::fs::write(server.root().join("sub/index.html"), "index").unwrap();
    assert_eq!(server.curl(&[], "/sub/"), "index");
    assert_eq!(
        server.curl(&["-X", "POST", "-d", "x", "-o", "/dev/null", "-w", "%{http_code}"], "/a.txt"),
        "405"
    );
}

#[test]
fn nothing_leads_out_of_the_directory() {
    let server = Server::start();
    let root = server.root();
    symlink("../secret", root.join("relative")).unwrap();
    symlink(server.top.path().join("secret"), root.join("absolute")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink("/", root.join("slash")).unwrap();
    symlink("/proc/self/root", root.join("magic")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("../a.txt", root.join("sub/inside")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    for path in [
        "/../secret",
        "/..",
        "/../",
        "/sub/../../secret",
        "/%2e%2e/secret",
        "/%2e%2e%2fsecret",
        "/relative",
        "/absolute",
        "/up/secret",
        "/up/",
        "/slash/etc/passwd",
        "/magic/etc/passwd",
        "//etc/passwd",
        "/loop",
        "/fifo",
        "/a.txt/",
        "/a.txt/x",
        "/none",
        "/..%00",
    ] {
        let status = server.status(path);
        let wanted = if path.ends_with("%00") { "400" } else { "404" };
        assert_eq!(status, wanted, "{path}");
    }
    assert_eq!(server.curl(&[], "/sub/../a.txt"), "0123456789", "up and down again within it");
    assert_eq!(server.curl(&[], "/sub/inside"), "0123456789", "a link that stays inside");
    // A host in the place of a path isn't where a directory's redirection leads.
    let answer = server.answer(b"GET //sub HTTP/1.0\r\n\r\n");
    assert!(!answer.contains("Location: //"), "{answer}");
}

#[test]
fn hostile_bytes_are_answered_or_closed() {
    let server = Server::start();
    let check = |request: &[u8], status: &str| {
        let answer = server.answer(request);
        let shown = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.0 {status} ")), "{shown:?}: {answer:?}");
    };
    check(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", "400");
    check(b"GET\r\n\r\n", "400");
    check(b"\0\0\0\0", "400");
    check(b"GET / HTTP/1.1\r\n\r\n", "400");
    check(b"GET / HTTP/1.0\r\nA: \x01\r\n\r\n", "400");
    check(b"GET / HTTP/3.0\r\n\r\n", "505");
    check(&[b"GET /".to_vec(), vec![b'x'; 100_000]].concat(), "431");
    check(
        &[b"GET / HTTP/1.0\r\n".to_vec(), b"A: b\r\n".repeat(500), b"\r\n".to_vec()].concat(),
        "431",
    );
    check(
        &[b"GET / HTTP/1.0\r\nA: ".to_vec(), vec![b'x'; 9000], b"\r\n\r\n".to_vec()].concat(),
        "431",
    );
    // A body is no second request, however it is announced.
    for smuggled in [
        &b"GET /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 36\r\n\r\nGET /secret HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"GET /a.txt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nGET /secret HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let answer = server.answer(smuggled);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    // Many in one piece, and one byte by byte.
    let many = b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50);
    let last = b"GET /empty HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = server.answer(&[&many[..], last].concat());
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 51);
    let mut slow = server.connect();
    slow.set_nodelay(true).unwrap();
    for byte in b"GET /a.txt HTTP/1.0\r\n\r\n" {
        slow.write_all(&[*byte]).unwrap();
    }
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("0123456789"));
    // Control characters of a request reach no terminal by the log.
    server.answer(b"GET /\x7f\x1b[2J HTTP/1.0\r\n\r\n");
    server.answer("GET /\u{9b}2J HTTP/1.0\r\n\r\n".as_bytes());
    let Server { running, .. } = server;
    running.signal(ipc::signal::Signal::TERM);
    let ended = running.end();
    assert_eq!(ended.code, 143);
    assert!(!ended.err.chars().any(|c| c.is_control() && c != '\n'), "{:?}", ended.err);
}

#[test]
fn silent_connections_make_room_for_others() {
    let server = Server::start();
    // More than there are places, each with half a head.
    let silent: Vec<TcpStream> = (0..400)
        .map(|_| {
            let mut stream = server.connect();
            let _ = stream.write_all(b"GET /a.txt HTTP/1.0\r\nA: ");
            stream
        })
        .collect();
    assert_eq!(server.curl(&[], "/a.txt"), "0123456789");
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", server.running.pid())).unwrap();
    assert!(descriptors.count() < 300, "connections are bounded");
    drop(silent);
}

#[test]
fn a_head_that_never_ends_is_given_up() {
    let server = Server::start();
    let mut slow = server.connect();
    slow.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    slow.write_all(b"GET / HTTP/1.0\r\n").unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        // One byte now and then doesn't buy more time.
        let _ = slow.write_all(b"A");
        match slow.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    assert!(
        answer.starts_with(b"HTTP/1.0 408 Request Timeout"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[test]
fn a_large_file_and_one_that_shrinks() {
    let server = Server::start();
    let big: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 253) as u8).collect();
    std::fs::write(server.root().join("big"), &big).unwrap();
    let got = command(&format!("http get {}/big", server.base)).output().unwrap();
    assert!(got.stdout == big, "{} bytes", got.stdout.len());
    // A reader that stops after the head; meanwhile the file loses its end.
    let mut stream = server.connect();
    stream.write_all(b"GET /big HTTP/1.0\r\n\r\n").unwrap();
    let mut some = [0; 1000];
    stream.read_exact(&mut some).unwrap();
    std::fs::write(server.root().join("big"), "").unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < big.len(), "it is cut off, not filled up");
    assert_eq!(server.curl(&[], "/a.txt"), "0123456789");
}

#[test]
fn over_a_unix_socket() {
    let top = tempfile::tempdir().unwrap();
    std::fs::write(top.path().join("a"), "over a socket\n").unwrap();
    let path = top.path().join("s");
    let line = format!("http serve {} --listen unix:{}", top.path().display(), path.display());
    let mut killed = Running::start(&line);
    killed.until_in(&[232, 281, 441]);
    killed.0.kill().unwrap();
    killed.0.wait().unwrap();
    assert!(path.exists(), "a killed server leaves its name, which the next removes");
    let server = Running::start(&line);
    server.until_in(&[232, 281, 441]);
    let path = path.display();
    assert_eq!(ok(&format!("http get http://x/a --unix {path}")), "over a socket\n");
    let output = Command::new("curl")
        .args(["-sS", "--unix-socket", &path.to_string(), "http://x/a"])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"over a socket\n");
    server.signal(ipc::signal::Signal::INT);
    assert_eq!(server.end().code, 130);
    assert!(!Path::new(&path.to_string()).exists());
}

#[test]
fn get_and_its_errors() {
    let server = Server::start();
    let base = &server.base;
    assert_eq!(ok(&format!("http get {base}/a.txt")), "0123456789");
    assert_eq!(ok(&format!("http get {base}/a.txt --range 2-4")), "234");
    assert_eq!(ok(&format!("http get {base}/a.txt -0")), "0123456789");
    let head = ok(&format!("http get {base}/a.txt -I"));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(ok(&format!("http get {base}/sub")).contains("<h1>/sub/</h1>"), "redirected");
    fails(&format!("http get {base}/none"), 2, &["http get", "/none", "404 Not Found"]);
    fails(&format!("http get {base}/a.txt --range 10-"), 2, &["416 Range Not Satisfiable"]);
    fails("http get http://127.0.0.1:1/", 2, &["nobody listens there"]);
    fails("http get https://example.org/", 1, &["https is not spoken"]);
    fails("http get http://u:p@h/", 1, &["without user or password"]);
    fails("http serve /nonexistent", 2, &["No such file or directory"]);
    for usage in [
        "http",
        "http get",
        "http serve",
        "http get http://x/ --range a",
        "http serve . --listen x",
    ] {
        assert_eq!(run(usage).code, 1, "{usage}");
    }
    assert_eq!(run("http serve /etc/passwd --listen 127.0.0.1:0").code, 2);
}

/// A server of one answer, byte for byte: what `get` meets out there.
#[test]
fn get_against_servers_of_every_sort() {
    let serve = |bytes: &'static [u8]| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let got = run(&format!("http get http://127.0.0.1:{port}/ --timeout 20s"));
        thread.join().unwrap();
        got
    };
    let good: [(&[u8], &str); 4] = [
        (b"HTTP/1.0 200 OK\r\n\r\nup to the end", "up to the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore", "ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", "abc0123456789"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", ""),
    ];
    for (bytes, content) in good {
        let got = serve(bytes);
        assert_eq!((got.code, got.out.as_str()), (0, content), "{}", got.err);
    }
    let bad: [(&[u8], &str); 7] = [
        (b"", "before the response's head"),
        (b"SSH-2.0-x\r\n", "no HTTP response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "cut off after 3 of 5 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc", "no number"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "cut off within a chunk"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab",
            "a chunk without a length",
        ),
        (b"HTTP/1.1 301 Moved\r\nLocation: https://x/\r\n\r\n", "https is not spoken"),
    ];
    for (bytes, why) in bad {
        let got = serve(bytes);
        assert!(got.code != 0 && got.err.contains(why) && got.err.lines().count() == 1, "{got:?}");
    }
    // Nothing for a while: given up, exit 4.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    fails(
        &format!("http get http://127.0.0.1:{port}/ --timeout 30ms"),
        4,
        &["no byte within 30ms"],
    );
}

#[test]
fn python_as_the_other_side() {
    let server = Server::start();
    let script = "import sys,urllib.request as u\n\
                  r=u.urlopen(sys.argv[1]); print(r.status, r.headers['Content-Length'], r.read().decode())";
    let output = Command::new("python3")
        .args(["-c", script, &format!("{}/a.txt", server.base)])
        .stdin(Stdio::null())
        .output()
        .expect("python3");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200 10 0123456789\n");
}
