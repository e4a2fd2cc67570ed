//! Whatever is wrong, by whichever mechanism it comes: one line says why, one count
//! goes up by one, nothing is applied, and the mechanism takes what comes next.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ipc::mq::{Access, Queue};
use ipc::timer::Wait;
use rtm_e2e::process::PATIENCE;
use rtm_e2e::{Daemon, Process, raw};
use serde_json::Value;

/// A mechanism.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    Queue,
    Fifo,
    Console,
    /// `rtm` over the Unix socket: a request.
    Command,
    /// Bytes over the Unix socket, over TCP, or to classic.sock, from nothing.
    Unix,
    Tcp,
    Classic,
    /// A pid: over the Unix socket.
    Register,
}

use By::*;

/// Mechanism, what is wrong, what is said.
const WRONG: &[(By, &[u8], &str)] = &[
    (Queue, b"route frob 10/8", "unknown verb"),
    (Queue, b"route add 10.0.0.1/8 dev e", "host bits are set; 10.0.0.0/8 would be right"),
    (Queue, b"route del 10/8", "10.0.0.0/8: "),
    (Queue, b"flush all", "not permitted here"),
    (Queue, b"\xff\xfe\x00", "not text"),
    (Queue, b"route add 11/8 dev e\nroute add 11/8 dev e", "nothing of the message was applied"),
    (Queue, b"route add 11/8 dev e\nnonsense", "line 2: nonsense: "),
    (Fifo, b"route frob 10/8\n", "unknown verb"),
    (Fifo, b"route add 10/8 via nonsense\n", "not an IP address"),
    (Fifo, b"neigh del 10.0.0.1\n", "10.0.0.1: "),
    (Fifo, b"reload\n", "not permitted here"),
    (Fifo, b"\x00\x01\x02\xfe\n", "not text"),
    (Fifo, &[b'x'; 600], "a line of 600 bytes; at most 512 would be right"),
    (Fifo, b"route add 10/8 dev", "the line's end did not come; a newline would be right"),
    (Console, b"route frob 10/8\n", "unknown verb"),
    (Console, b"route add 10.0.0.1/8 dev e\n", "host bits are set"),
    (Console, b"route del 10/8\n", "10.0.0.0/8: "),
    (Console, b"77\n", "77"),
    (Console, b"\xff\xfe\n", "the line is not text; UTF-8 would be right"),
    (Console, b"client kill nobody\n", "no such client"),
    (Command, b"route del 10/8", "10.0.0.0/8: "),
    (Command, b"client kill nobody", "no such client; 'client list' shows them"),
    (Command, b"source reconcile nobody", "source nobody: there is no such source"),
    (Command, b"source reconcile admin", "source admin: nothing to compare it with"),
    (Command, b"source reconcile kernel", "source kernel: this daemon doesn't mirror the kernel"),
    (Unix, b"GET / HTTP/1.0\r\n\r\n", "ended a session for its bytes: "),
    (Unix, &[0xff; 64], "ended a session for its bytes: "),
    (Unix, &[0; 64], "ended a session for its bytes: "),
    (Tcp, b"GET / HTTP/1.0\r\n\r\n", "ended a session for its bytes: "),
    (Tcp, &[0xff; 64], "ended a session for its bytes: "),
    (Classic, b"GET / HTTP/1.0\r\n\r\n", "0 (REGISTER) or 1 (GOODBYE) would be right"),
    (Classic, &[0xff; 8], "classic: op -1; "),
    (Classic, &[0, 0, 0, 0, 1], "it ended after 5 bytes of a structure; 8 would be right"),
    (Register, b"1", "its own pid would be right"),
    (Register, b"0", "its own pid would be right"),
    (Register, b"4294967295", "its own pid would be right"),
];

impl By {
    /// Where a wrong input is counted.
    fn count(self, status: &Value) -> u64 {
        let value = match self {
            Queue => &status["queue"]["rejected"],
            Fifo => &status["fifo"]["rejected"],
            Console | Command => &status["requests_refused"],
            Unix | Tcp | Classic => &status["protocol_errors"],
            Register => &status["registrations_refused"],
        };
        value.as_u64().unwrap_or_else(|| panic!("{self:?}: {status}"))
    }
}

struct World {
    daemon: Daemon,
    monitor: Process,
    tcp: String,
    queue: Queue,
    fifo: std::fs::File,
}

impl World {
    /// Gives `bytes` to the mechanism; what it said of them, from whom it was told.
    fn give(&mut self, by: By, bytes: &[u8], said: &str) -> String {
        match by {
            Queue | Fifo => {
                let before = self.monitor.stdout().len();
                match by {
                    Queue => self.queue.send(bytes, 0, Wait::FOREVER).unwrap(),
                    _ if said.contains("600 bytes") => {
                        self.fifo.write_all(&[bytes, b"\n"].concat()).unwrap();
                    }
                    _ => self.fifo.write_all(bytes).unwrap(),
                }
                new(|| self.monitor.stdout(), before, said)
            }
            Console => {
                let before = self.daemon.process.stdout().len();
                self.daemon.process.write_bytes(bytes);
                new(|| self.daemon.process.stdout(), before, said)
            }
            Command => {
                let text = std::str::from_utf8(bytes).unwrap();
                let output = self.daemon.run(&text.split(' ').collect::<Vec<_>>());
                assert!(matches!(output.code, Some(1 | 2)), "{text}: {}", output.err);
                output.err
            }
            Unix | Tcp | Classic => {
                let before = self.daemon.process.stderr().len();
                let mut answer = Vec::new();
                let socket = if by == Classic { "classic.sock" } else { "rtm.sock" };
                if by == Tcp {
                    let mut stream = TcpStream::connect(&self.tcp).unwrap();
                    let _ = stream.write_all(bytes);
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    let _ = stream.read_to_end(&mut answer);
                } else {
                    let path = self.daemon.directory().join(socket);
                    let mut stream = UnixStream::connect(path).unwrap();
                    let _ = stream.write_all(bytes);
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    let _ = stream.read_to_end(&mut answer);
                }
                new(|| self.daemon.process.stderr(), before, said)
            }
            Register => {
                let pid = std::str::from_utf8(bytes).unwrap().parse().unwrap();
                raw::Client::follow(self.daemon.directory(), "forger").register(pid).1
            }
        }
    }

    /// Something that is right, by the same mechanism; true: it is there.
    fn good(&mut self, by: By, n: usize) {
        let line = format!("route add 99.{}.{}.0/24 dev e", n / 256, n % 256);
        match by {
            Queue => self.queue.send(line.as_bytes(), 0, Wait::FOREVER).unwrap(),
            Fifo => self.fifo.write_all((line + "\n").as_bytes()).unwrap(),
            Console => self.daemon.process.write(&(line + "\n")),
            Command | Unix | Tcp | Classic | Register => {
                self.daemon.rtm(&line.split(' ').collect::<Vec<_>>());
            }
        }
        let prefix = format!("99.{}.{}.0/24", n / 256, n % 256);
        self.daemon.rtm(&["wait", "route", "exact", &prefix, "--timeout", "60"]);
    }
}

/// What was written since `before`, when `said` is in it: the line of it.
fn new(text: impl Fn() -> String, before: usize, said: &str) -> String {
    let start = Instant::now();
    loop {
        let text = text();
        let lines: Vec<&str> = text[before..].lines().filter(|l| l.contains(said)).collect();
        if let Some(line) = lines.first() {
            assert_eq!(lines.len(), 1, "one line: {text}");
            return (*line).to_owned();
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {said}: {}", &text[before..]);
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn every_wrong_input_is_one_line_and_one_count_and_disarms_nothing() {
    let daemon = Daemon::start(&["--console", "--listen", "tcp://127.0.0.1:0"]);
    let monitor = daemon.spawn(&["-j", "monitor", "all"]);
    while daemon.json(&["client", "list"]).as_array().unwrap().is_empty() {}
    let status = daemon.json(&["status"]);
    let mut world = World {
        tcp: status["tcp"].as_str().unwrap().trim_start_matches("tcp://").to_owned(),
        queue: Queue::open(status["queue"]["name"].as_str().unwrap(), Access::Send).unwrap(),
        fifo: std::fs::OpenOptions::new()
            .write(true)
            .open(daemon.directory().join("commands"))
            .unwrap(),
        monitor,
        daemon,
    };
    let status = |world: &World| world.daemon.json(&["status"]);
    for (n, (by, bytes, said)) in WRONG.iter().enumerate() {
        let what = format!("{by:?}: {:?}", String::from_utf8_lossy(bytes));
        let before = status(&world);
        let line = world.give(*by, bytes, said);
        assert!(line.contains(said), "{what}: {line}");
        assert_eq!(line.trim_end().lines().count(), 1, "{what}: {line}");
        let start = Instant::now();
        let after = loop {
            let after = status(&world);
            if by.count(&after) > by.count(&before) {
                break after;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: not counted: {after}");
        };
        assert_eq!(by.count(&after), by.count(&before) + 1, "{what}");
        assert_eq!(after["revision"], before["revision"], "{what}: nothing was applied");
        world.good(*by, n);
    }
    let status = status(&world);
    assert_eq!(status["routes_v4"], WRONG.len(), "each took what came next");
    let err = world.daemon.process.stderr();
    assert!(!err.contains("panicked"), "{err}");
}
