//! A real `rtmd` in a directory of its own, and clients that speak to it by the
//! client's half of a session.
#![allow(dead_code, unreachable_pub)] // Each test file uses its own part of it.

pub mod taker;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rtm_model::EntityKind;
use rtm_model::text::{Command as Line, Context, parse_line};
use rtm_tables::wire::{GoodbyeReason, ItemFlags, ItemKind, LoadFlags, Welcome};
use rtm_tables::{ClientConfig, ClientEvent, ClientSession, Compare, Progress, RecordOp, Replica};
use tempfile::TempDir;

/// How long a test waits for what must come. It asserts no speed: it ends a
/// test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Fails the test if it takes for ever.
pub struct Patience(Instant);

impl Patience {
    pub fn new() -> Patience {
        Patience(Instant::now())
    }

    #[track_caller]
    pub fn check(&self, what: &str) {
        assert!(self.0.elapsed() < PATIENCE, "waited in vain: {what}");
    }
}

#[derive(Default)]
struct Collected {
    text: Mutex<(String, bool)>,
    grown: Condvar,
}

fn collect(source: impl Read + Send + 'static) -> Arc<Collected> {
    let collected = Arc::new(Collected::default());
    let sink = Arc::clone(&collected);
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut chunk = Vec::new();
        loop {
            chunk.clear();
            let read = source.fill_buf().map(|bytes| {
                chunk.extend_from_slice(bytes);
                bytes.len()
            });
            let count = read.unwrap_or(0);
            source.consume(count);
            let mut text = sink.text.lock().unwrap();
            text.0.push_str(&String::from_utf8_lossy(&chunk));
            text.1 |= count == 0;
            sink.grown.notify_all();
            if count == 0 {
                return;
            }
        }
    });
    collected
}

#[track_caller]
fn wait_text(collected: &Collected, needle: &str) -> String {
    let guard = collected.text.lock().unwrap();
    let (guard, _) = collected
        .grown
        .wait_timeout_while(guard, PATIENCE, |text| !text.0.contains(needle) && !text.1)
        .unwrap();
    assert!(guard.0.contains(needle), "waited in vain for {needle:?} in:\n{}", guard.0);
    guard.0.clone()
}

/// A running daemon; killed at the end of scope.
pub struct Rtmd {
    pub child: Child,
    pub stdin: Option<ChildStdin>,
    out: Option<Arc<Collected>>,
    err: Option<Arc<Collected>>,
    pub directory: PathBuf,
    /// Kept until the end.
    temp: Option<TempDir>,
}

/// The command that starts a daemon, with nothing of the environment.
pub fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtmd"));
    command.env_clear().env("PATH", "/usr/bin:/bin");
    command.arg("--runtime-dir").arg(directory);
    command
}

/// A configuration file that is empty, so that this machine's isn't read.
fn config(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("test.toml");
    std::fs::write(&path, text).unwrap();
    path
}

pub fn temp() -> TempDir {
    tempfile::Builder::new().prefix("rtmd-test-").tempdir().unwrap()
}

impl Rtmd {
    /// With these arguments and the defaults.
    pub fn start(args: &[&str]) -> Rtmd {
        Rtmd::start_with("", args)
    }

    /// With this configuration.
    pub fn start_with(configuration: &str, args: &[&str]) -> Rtmd {
        let temp = temp();
        // Everybody may reach the socket: other users' clients are tested too.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(temp.path(), open).unwrap();
        let mut command = command(temp.path());
        command.arg("--config").arg(config(temp.path(), configuration)).args(args);
        let mut rtmd = Rtmd::spawn(command, temp.path());
        rtmd.temp = Some(temp);
        rtmd
    }

    /// Any command that is a daemon with this directory.
    pub fn spawn(mut command: Command, directory: &Path) -> Rtmd {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let rtmd = Rtmd {
            stdin: child.stdin.take(),
            out: child.stdout.take().map(collect),
            err: child.stderr.take().map(collect),
            child,
            directory: directory.to_owned(),
            temp: None,
        };
        rtmd.wait_err("ready");
        rtmd
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.join("rtm.sock")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn configure(&self, text: &str) {
        config(&self.directory, text);
    }

    #[track_caller]
    pub fn wait_err(&self, needle: &str) -> String {
        wait_text(self.err.as_ref().unwrap(), needle)
    }

    #[track_caller]
    pub fn wait_out(&self, needle: &str) -> String {
        wait_text(self.out.as_ref().unwrap(), needle)
    }

    pub fn out(&self) -> String {
        self.out.as_ref().unwrap().text.lock().unwrap().0.clone()
    }

    pub fn write(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub fn signal(&self, signal: i32) {
        signal_pid(self.child.id(), signal);
    }

    /// Waits for its end.
    pub fn finish(&mut self) -> ExitStatus {
        let patience = Patience::new();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            patience.check("the daemon's end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Keeps the directory beyond this daemon.
    pub fn take_temp(&mut self) -> TempDir {
        self.temp.take().unwrap()
    }
}

impl Drop for Rtmd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        remove_queue(&self.directory);
    }
}

/// Removes the message queue that a killed daemon of this directory left; it
/// notes the name there for its successor.
pub fn remove_queue(directory: &Path) {
    let Ok(text) = std::fs::read_to_string(directory.join("rtmd.queue")) else { return };
    if let Some(name) = text.split_ascii_whitespace().next() {
        let _ = ipc::mq::remove(name);
    }
}

pub fn signal_pid(pid: u32, signal: i32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    let signal = rustix::process::Signal::from_named_raw(signal).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// A connection's bytes.
pub trait Stream: Read + Write + Send {
    fn patience(&self, patience: Duration);
}

impl Stream for UnixStream {
    fn patience(&self, patience: Duration) {
        self.set_read_timeout(Some(patience)).unwrap();
    }
}

impl Stream for TcpStream {
    fn patience(&self, patience: Duration) {
        self.set_read_timeout(Some(patience)).unwrap();
    }
}

/// The answer to a request.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub code: u32,
    pub text: String,
    pub applied: u64,
    pub unchanged: u64,
    pub failed: u64,
    pub position: u64,
    pub revision: u64,
    pub items: Vec<(ItemKind, ItemFlags, Vec<u8>)>,
}

impl Answer {
    /// Its JSON items.
    pub fn json(&self) -> Vec<serde_json::Value> {
        let json = self.items.iter().filter(|(kind, ..)| *kind == ItemKind::Json);
        json.map(|(_, _, body)| {
            let end = body.iter().rposition(|&b| b != 0).map_or(0, |at| at + 1);
            serde_json::from_slice(&body[..end]).unwrap()
        })
        .collect()
    }

    /// How many entities of a kind it has, without those that only resolve.
    pub fn count(&self, wanted: EntityKind) -> usize {
        let wanted = ItemKind::Entity(wanted);
        self.items
            .iter()
            .filter(|(kind, flags, _)| *kind == wanted && !flags.contains(ItemFlags::RESOLVES))
            .count()
    }
}

/// A client.
pub struct Client {
    stream: Box<dyn Stream>,
    session: ClientSession,
    pub replica: Option<Replica>,
    pub welcome: Option<Welcome>,
    pub live: bool,
    /// Digests were compared, and equal, so often.
    pub agreed: u64,
    pub differed: u64,
    pub records: u64,
    pub flushes: u64,
    pub goodbye: Option<(GoodbyeReason, String)>,
    pub closed: bool,
    answers: Vec<(u64, Answer)>,
    done: Vec<u64>,
}

impl Client {
    pub fn unix(rtmd: &Rtmd, name: &str) -> Client {
        Client::over(UnixStream::connect(rtmd.socket()).unwrap(), name)
    }

    pub fn tcp(address: &str, name: &str) -> Client {
        Client::over(TcpStream::connect(address).unwrap(), name)
    }

    pub fn over(stream: impl Stream + 'static, name: &str) -> Client {
        stream.patience(PATIENCE);
        let config = ClientConfig { name: name.to_owned(), ..ClientConfig::default() };
        Client {
            stream: Box::new(stream),
            session: ClientSession::new(config, 0),
            replica: None,
            welcome: None,
            live: false,
            agreed: 0,
            differed: 0,
            records: 0,
            flushes: 0,
            goodbye: None,
            closed: false,
            answers: Vec::new(),
            done: Vec::new(),
        }
    }

    /// A subscriber that has the whole table.
    pub fn follower(rtmd: &Rtmd, name: &str) -> Client {
        let mut client = Client::unix(rtmd, name);
        client.subscribe("");
        client.until("live", |client| client.live);
        client
    }

    pub fn subscribe(&mut self, filter: &str) {
        self.session.subscribe(None, filter);
        self.flush();
    }

    /// Writes what the session has to say.
    pub fn flush(&mut self) {
        while !self.session.output().is_empty() {
            match self.stream.write(self.session.output()) {
                Ok(count) => self.session.transmitted(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The other side reads no more; what it said before is still there.
                Err(_) => self.session.transmitted(self.session.output().len()),
            }
        }
    }

    /// Reads once, handles all that came.
    pub fn read(&mut self) {
        let space = self.session.space();
        match self.stream.read(space) {
            Ok(0) => self.closed = true,
            Ok(count) => self.session.received(count, 0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came for {PATIENCE:?}");
            }
            Err(_) => self.closed = true,
        }
        self.events();
        self.flush();
    }

    fn events(&mut self) {
        let mut compares: Vec<Compare> = Vec::new();
        loop {
            let event = self.session.poll_event().unwrap();
            let Some(event) = event else { break };
            match event {
                ClientEvent::Welcome(welcome) => {
                    self.replica = Some(Replica::new(welcome.epoch, welcome.digest_key));
                    self.welcome = Some(welcome);
                }
                ClientEvent::Begin { from } => {
                    self.live = false;
                    if from.0 == 0 {
                        self.replica.as_mut().unwrap().begin_snapshot();
                    }
                    self.snapshot_from(from.0);
                }
                ClientEvent::Records(records) => {
                    let replica = self.replica.as_mut().unwrap();
                    for record in records {
                        self.records += 1;
                        match record.op {
                            RecordOp::Set => replica.set(record.kind, record.body).unwrap(),
                            RecordOp::Delete => replica.delete(record.kind, record.body).unwrap(),
                        }
                    }
                }
                ClientEvent::Flush { what, .. } => {
                    self.flushes += 1;
                    self.replica.as_mut().unwrap().flush(what);
                }
                ClientEvent::End(compare) => {
                    let replica = self.replica.as_mut().unwrap();
                    replica.end_snapshot();
                    self.live = true;
                    let agrees = replica.digests() == compare.digests;
                    self.agreed += u64::from(agrees);
                    self.differed += u64::from(!agrees);
                    compares.push(compare);
                    self.session.compared(&compare, agrees);
                }
                ClientEvent::Mark(compare) => {
                    let replica = self.replica.as_mut().unwrap();
                    let agrees = replica.digests() == compare.digests;
                    self.agreed += u64::from(agrees);
                    self.differed += u64::from(!agrees);
                    self.session.compared(&compare, agrees);
                }
                ClientEvent::Item { id, kind, flags, body } => {
                    let item = (kind, flags, body.to_vec());
                    match self.answers.iter_mut().find(|(known, _)| *known == id) {
                        Some((_, answer)) => answer.items.push(item),
                        None => {
                            let answer = Answer { items: vec![item], ..Answer::default() };
                            self.answers.push((id, answer));
                        }
                    }
                }
                ClientEvent::Done(done) => {
                    let id = done.id;
                    if !self.answers.iter().any(|(known, _)| *known == id) {
                        self.answers.push((id, Answer::default()));
                    }
                    let (_, answer) =
                        self.answers.iter_mut().find(|(known, _)| *known == id).unwrap();
                    answer.code = done.code;
                    answer.text = done.text.to_owned();
                    answer.applied = done.applied;
                    answer.unchanged = done.unchanged;
                    answer.failed = done.failed;
                    answer.position = done.position;
                    answer.revision = done.revision.0;
                    self.done.push(id);
                }
                ClientEvent::Goodbye { reason, text } => {
                    self.goodbye = Some((reason, text.to_owned()));
                }
                _ => {}
            }
        }
    }

    fn snapshot_from(&mut self, _: u64) {}

    /// Reads until something holds.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&Client) -> bool) {
        self.flush();
        let patience = Patience::new();
        while !holds(self) {
            assert!(!self.closed, "the connection ended: {what}: {:?}", self.goodbye);
            patience.check(what);
            self.read();
        }
    }

    /// Reads until the daemon has closed the connection.
    pub fn until_closed(&mut self) {
        self.flush();
        let patience = Patience::new();
        while !self.closed {
            patience.check("the end of the connection");
            self.read();
        }
    }

    /// Asks without waiting.
    pub fn send(&mut self, line: &str) -> u64 {
        let id = self.session.request(line);
        self.flush();
        id
    }

    /// Asks and waits for the answer.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> Answer {
        let id = self.send(line);
        self.answer(id)
    }

    /// Waits for an answer.
    #[track_caller]
    pub fn answer(&mut self, id: u64) -> Answer {
        self.until("an answer", |client| client.done.contains(&id));
        let at = self.answers.iter().position(|(known, _)| *known == id).unwrap();
        self.answers.remove(at).1
    }

    /// Asks what must go well.
    #[track_caller]
    pub fn must(&mut self, line: &str) -> Answer {
        let answer = self.ask(line);
        assert_eq!(answer.code, 0, "{line}: {}", answer.text);
        answer
    }

    pub fn cancel(&mut self, id: u64) {
        self.session.cancel(id);
        self.flush();
    }

    /// The one JSON object that answers a request.
    #[track_caller]
    pub fn json(&mut self, line: &str) -> serde_json::Value {
        let json = self.must(line).json();
        assert_eq!(json.len(), 1, "{line}: {json:?}");
        json.into_iter().next().unwrap()
    }

    /// Begins a stream.
    pub fn load_begin(&mut self, flags: LoadFlags, source: &str) -> u64 {
        self.session.load_begin(flags, source)
    }

    /// One line of it: a change of the grammar.
    pub fn load_line(&mut self, line: &str) {
        self.session.change(&change(line));
        if self.session.output().len() > 64 * 1024 {
            self.flush();
        }
    }

    /// Its end.
    pub fn load_end(&mut self, give_up: bool) {
        self.session.load_end(give_up);
        self.flush();
    }

    /// A whole stream.
    #[track_caller]
    pub fn load<'a>(
        &mut self,
        flags: LoadFlags,
        source: &str,
        lines: impl IntoIterator<Item = &'a str>,
    ) -> Answer {
        let id = self.load_begin(flags, source);
        for line in lines {
            self.load_line(line);
        }
        self.load_end(false);
        self.answer(id)
    }

    pub fn progress(&self) -> Progress {
        self.session.progress()
    }

    pub fn revision(&self) -> u64 {
        self.session.revision().0
    }

    /// Routes of both families in the replica.
    pub fn routes(&self) -> usize {
        let counts = self.replica.as_ref().unwrap().store().counts();
        counts.routes4 + counts.routes6
    }

    /// What it has is what it should have, from scratch.
    #[track_caller]
    pub fn verify(&self) {
        let replica = self.replica.as_ref().unwrap();
        assert_eq!(replica.recompute_digests(), replica.digests());
        assert_eq!(self.differed, 0);
        assert!(self.agreed > 0, "nothing was ever compared");
    }
}

/// A change from a line of the grammar.
#[track_caller]
pub fn change(line: &str) -> rtm_model::Change {
    match parse_line(line, &Context::default()) {
        Ok(Some((_, Line::Change(change)))) => change,
        other => panic!("{line}: {other:?}"),
    }
}

/// `10.0.0.0/24` and on: lines that replace a route each.
pub fn many_routes(count: u32) -> impl Iterator<Item = String> {
    (0..count).map(|n| {
        let prefix = std::net::Ipv4Addr::from(0x0a00_0000 + (n << 8));
        format!("route replace {prefix}/24 via 10.255.0.{} dev Ethernet{}", n % 200 + 1, n % 32)
    })
}

/// Needs root: says so and gives false, or fails if it is demanded.
pub fn root(name: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    let demanded = std::env::var_os("RTM_REQUIRE_ROOT").is_some_and(|value| value == "1");
    assert!(!demanded, "RTM_REQUIRE_ROOT=1, but {name} runs without root");
    let line = format!("not run: {name} (needs root)\n");
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
    false
}
