//! `rtm tour`: the whole specification shown in one terminal.
//!
//! Everything is real: a daemon in a temporary directory, clients as processes
//! of their own, and each change by another way in. After every step all copies
//! are waited for, and each client recomputes its digests from its own copy;
//! whatever differs ends the tour with exit code 4. At the end nothing is left.

use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rtm_client::{Address, Admin, Stop};

use crate::env::Env;
use crate::failure::{Failure, Result, file_error};

/// How long one thing of the tour may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often what can't be waited for is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// The sample table of the specification.
const SAMPLE: [[&str; 3]; 4] = [
    ["122.1.1.1/32", "10.1.1.1", "Ethernet1"],
    ["126.30.34.0/24", "20.1.1.1", "Ethernet2"],
    ["130.1.1.0/24", "10.1.1.1", "Ethernet1"],
    ["220.1.0.0/16", "30.1.2.3", "Ethernet3"],
];

/// Its ARP table.
const NEIGHBOURS: [[&str; 2]; 2] =
    [["02:00:00:00:00:01", "10.1.1.1"], ["02:00:00:00:00:02", "20.1.1.1"]];

/// What is inserted, updated and deleted.
const DESTINATION: &str = "100.100.100.0/24";

pub(crate) fn run(env: &mut Env<'_>) -> Result<()> {
    let stop = Stop::new().map_err(Failure::refused)?;
    let began = Instant::now();
    let mut tour = Tour::start(&stop)?;
    let shown = tour.all(env);
    let ended = tour.end();
    shown?;
    ended?;
    env.out.line(format_args!(
        "\nThe tour is over: everything was equal everywhere, nothing is left, {:.1} s.",
        began.elapsed().as_secs_f64()
    ))?;
    Ok(())
}

/// A process whose output is collected while it runs.
struct Actor {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    out: Arc<Collected>,
    err: Arc<Collected>,
}

#[derive(Default)]
struct Collected {
    text: Mutex<(String, bool)>,
    grown: Condvar,
}

fn collect(mut source: impl Read + Send + 'static) -> Arc<Collected> {
    let collected = Arc::new(Collected::default());
    let sink = Arc::clone(&collected);
    // It ends with the process that writes.
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let count = source.read(&mut buffer).unwrap_or(0);
            let Ok(mut text) = sink.text.lock() else { return };
            text.0.push_str(&String::from_utf8_lossy(&buffer[..count]));
            text.1 |= count == 0;
            sink.grown.notify_all();
            if count == 0 {
                return;
            }
        }
    });
    collected
}

impl Actor {
    fn start(name: &str, command: &mut Command) -> Result<Actor> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| file_error(name, &error))?;
        let (out, err) = match (child.stdout.take(), child.stderr.take()) {
            (Some(out), Some(err)) => (collect(out), collect(err)),
            _ => return Err(failed(name, "it has no output")),
        };
        let stdin = child.stdin.take();
        Ok(Actor { name: name.to_owned(), child, stdin, out, err })
    }

    /// Waits until `stream` has what `done` wants behind `mark`; that.
    fn wait(
        &self,
        stream: &Collected,
        mark: usize,
        what: &str,
        done: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let gone = || failed(&self.name, &format!("waited in vain for {what}"));
        let guard = stream.text.lock().map_err(|_| gone())?;
        let (guard, _) = stream
            .grown
            .wait_timeout_while(guard, PATIENCE, |text| {
                !text.1 && !done(text.0.get(mark..).unwrap_or_default())
            })
            .map_err(|_| gone())?;
        let text = guard.0.get(mark..).unwrap_or_default().to_owned();
        drop(guard);
        if done(&text) { Ok(text) } else { Err(gone()) }
    }

    /// Says a line to a menu; what is shown up to the next prompt.
    fn say(&mut self, line: &str, prompt: &str) -> Result<String> {
        let mark = length(&self.out);
        self.write(line)?;
        let text = self.wait(&self.out, mark, "the menu", |text| text.ends_with(prompt))?;
        Ok(text)
    }

    fn write(&mut self, line: &str) -> Result<()> {
        let Some(stdin) = &mut self.stdin else { return Err(failed(&self.name, "it has ended")) };
        stdin
            .write_all(format!("{line}\n").as_bytes())
            .map_err(|error| file_error(&self.name, &error))
    }

    /// Waits for its end; its exit code.
    fn finish(&mut self) -> Result<Option<i32>> {
        let start = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status.code()),
                Ok(None) if start.elapsed() < PATIENCE => std::thread::sleep(LOOK),
                _ => return Err(failed(&self.name, "it doesn't end")),
            }
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let pid = rustix::process::Pid::from_child(&self.child);
            // Asked to stop, it takes what is its own with it.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            if self.finish().is_err() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
    }
}

fn length(collected: &Collected) -> usize {
    collected.text.lock().map_or(0, |text| text.0.len())
}

fn failed(who: &str, why: &str) -> Failure {
    Failure::refused(format_args!("tour: {who}: {why}"))
}

fn differs(what: &str, expected: &dyn std::fmt::Debug, found: &dyn std::fmt::Debug) -> Failure {
    Failure::timed_out(format_args!("tour: {what}: expected {expected:?}, found {found:?}"))
}

/// A directory that goes with everything in it.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a client follows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// All of it over the Unix socket.
    Unix,
    /// Over TCP: without a signal.
    Tcp,
    /// The neighbours' keys, whose values it reads from shared memory.
    Keys,
}

struct Tour<'s> {
    stop: &'s Stop,
    clients: Vec<Actor>,
    daemon: Actor,
    admin: Option<Admin>,
    socket: PathBuf,
    token: PathBuf,
    tcp: String,
    queue: Option<String>,
    /// Last: it goes after all who live in it.
    directory: Directory,
    step: usize,
}

impl<'s> Tour<'s> {
    /// A daemon in a directory of its own, with a console and TCP.
    fn start(stop: &'s Stop) -> Result<Tour<'s>> {
        let directory = make_directory()?;
        let path = &directory.0;
        let token = path.join("token");
        let config = path.join("tour.toml");
        let mut random = [0; 24];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| failed("random numbers", &errno.to_string()))?;
        let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        write(&token, &format!("{secret}\n"))?;
        write(
            &config,
            &format!(
                "[listen]\ntcp = \"tcp://127.0.0.1:0\"\ntcp_token_file = '{}'\n",
                token.display()
            ),
        )?;
        let program = beside("rtmd")?;
        let mut command = Command::new(program);
        command.arg("--runtime-dir").arg(path).arg("--config").arg(&config).arg("--console");
        clean(&mut command);
        let daemon = Actor::start("rtmd", &mut command)?;
        daemon.wait(&daemon.out, 0, "its menu", |text| text.ends_with("rtmd> "))?;
        let socket = path.join(rtm_client::SOCKET_NAME);
        let address = Address::Unix(socket.clone());
        let mut admin = Admin::connect(&address, "rtm-tour")?;
        let status = json(&mut admin, "status")?;
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        Ok(Tour {
            stop,
            clients: Vec::new(),
            daemon,
            admin: Some(admin),
            socket,
            token,
            tcp: text(&status["tcp"]).ok_or_else(|| failed("rtmd", "it has no TCP"))?,
            queue: text(&status["queue"]["name"]),
            directory,
            step: 0,
        })
    }

    fn all(&mut self, env: &mut Env<'_>) -> Result<()> {
        let path = self.directory.0.display().to_string();
        self.title(
            env,
            &format!("A daemon in {path}; three clients, each a process; one over TCP"),
        )?;
        for name in ["client-1", "client-2", "client-3"] {
            self.join(name, How::Unix)?;
        }
        self.join("client-tcp", How::Tcp)?;
        self.same(env, &[], 0)?;

        self.title(env, "The sample table, by the console's menu")?;
        for [destination, gateway, oif] in SAMPLE {
            self.console(&format!("1\n{destination} {gateway} {oif}"))?;
        }
        let mut rows: Vec<[&str; 3]> = SAMPLE.to_vec();
        self.same(env, &rows, 0)?;

        self.title(env, "Two neighbours, by the command: rtm neigh add IP lladdr MAC")?;
        for [mac, ip] in NEIGHBOURS {
            self.rtm(&["neigh", "add", ip, "lladdr", mac])?;
        }
        self.same(env, &rows, 2)?;

        self.title(
            env,
            "Only keys over the socket, the values from shared memory: rtm client --keys",
        )?;
        self.join("client-keys", How::Keys)?;
        self.by_key(env)?;
        self.same(env, &rows, 2)?;

        let insert = format!("route add {DESTINATION} via 50.1.1.1 dev Ethernet4");
        self.title(env, &format!("Insert, by the message queue: rtm mq send '{insert}'"))?;
        self.rtm(&["mq", "send", &insert])?;
        self.until(&format!("wait route exact {DESTINATION} via 50.1.1.1 --timeout 20"))?;
        rows.insert(0, [DESTINATION, "50.1.1.1", "Ethernet4"]);
        self.same(env, &rows, 2)?;

        self.title(env, "A fourth client joins late: the whole table first")?;
        self.join("client-4", How::Unix)?;
        self.same(env, &rows, 2)?;

        let update = format!("route change {DESTINATION} via 60.1.1.1 dev Ethernet5");
        self.title(env, &format!("Update, by the FIFO: echo '{update}' > {path}/commands"))?;
        let fifo = self.directory.0.join("commands");
        std::fs::OpenOptions::new()
            .write(true)
            .open(&fifo)
            .and_then(|mut fifo| fifo.write_all(format!("{update}\n").as_bytes()))
            .map_err(|error| file_error(&fifo.display().to_string(), &error))?;
        self.until(&format!("wait route exact {DESTINATION} via 60.1.1.1 --timeout 20"))?;
        rows[0] = [DESTINATION, "60.1.1.1", "Ethernet5"];
        self.same(env, &rows, 2)?;

        self.title(
            env,
            &format!("Delete, over TCP: rtm --socket {} --token-file … route del", self.tcp),
        )?;
        let refused = self.run(&["--socket", &self.tcp.clone(), "route", "del", DESTINATION])?;
        if refused != Some(2) {
            return Err(differs("a TCP peer without the secret", &Some(2), &refused));
        }
        let (tcp, token) = (self.tcp.clone(), self.token.display().to_string());
        self.rtm(&["--socket", &tcp, "--token-file", &token, "route", "del", DESTINATION])?;
        rows.remove(0);
        self.same(env, &rows, 2)?;

        self.title(
            env,
            "Flush, by the console's menu: one revision, and SIGUSR1 to who registered",
        )?;
        self.console("8")?;
        self.same(env, &[], 0)?;
        self.signalled(env)?;

        self.title(env, "Goodbye: each client clears its tables and leaves")?;
        for client in &mut self.clients {
            client.write("0")?;
            let code = client.finish()?;
            if code != Some(0) {
                return Err(differs(&client.name, &Some(0), &code));
            }
        }
        self.clients.clear();
        let start = Instant::now();
        loop {
            let left = list(self.admin()?)?;
            if left.is_empty() {
                break;
            }
            if start.elapsed() > PATIENCE {
                return Err(differs("the daemon's list of clients", &"none", &left));
            }
            std::thread::sleep(LOOK);
        }
        env.out.line("the daemon's list of clients and of their process ids is empty")?;
        Ok(())
    }

    fn title(&mut self, env: &mut Env<'_>, text: &str) -> Result<()> {
        if let Some(code) = self.stop.asked() {
            return Err(Failure::Quiet(code));
        }
        self.step += 1;
        let text = env.out.heading(&format!("{}. {text}", self.step));
        env.out.line(format_args!("\n{text}"))?;
        Ok(env.out.flush()?)
    }

    fn admin(&mut self) -> Result<&mut Admin> {
        self.admin.as_mut().ok_or_else(|| failed("rtmd", "the connection is closed"))
    }

    /// Starts a client and waits until it has the table.
    fn join(&mut self, name: &str, how: How) -> Result<()> {
        let mut command = self.command()?;
        if how == How::Tcp {
            command.args(["--socket", &self.tcp]);
        } else {
            command.arg("--socket").arg(&self.socket);
        }
        command.args(["client", "--menu", "--name", name]);
        if how == How::Keys {
            command.arg("--keys");
        }
        let client = Actor::start(name, &mut command)?;
        client.wait(&client.out, 0, "its table", |text| text.ends_with("\n> "))?;
        if how != How::Tcp {
            client
                .wait(&client.err, 0, "its registration", |text| text.contains("registered: "))?;
        }
        self.clients.push(client);
        Ok(())
    }

    /// What the client that joined last shows by key.
    fn by_key(&mut self, env: &mut Env<'_>) -> Result<()> {
        let Some(client) = self.clients.last_mut() else { return Ok(()) };
        let shown = client.say("2", "\n> ")?;
        let mut found: Vec<Vec<String>> = table(&shown);
        found.iter_mut().for_each(|row| row.truncate(2));
        let expected = NEIGHBOURS.map(|row| row.map(str::to_owned).to_vec()).to_vec();
        if found != expected {
            return Err(differs(&client.name, &expected, &found));
        }
        for line in shown.lines().filter(|line| line.contains('|')) {
            env.out.line(format_args!("  {}", line.trim_end()))?;
        }
        Ok(())
    }

    /// This program, with nothing of the environment that leads elsewhere.
    fn command(&self) -> Result<Command> {
        let program = std::env::current_exe().map_err(|error| file_error("rtm", &error))?;
        let mut command = Command::new(program);
        clean(&mut command);
        Ok(command)
    }

    /// Runs `rtm` for the tour's daemon; its exit code.
    fn run(&self, args: &[&str]) -> Result<Option<i32>> {
        let mut command = self.command()?;
        if !args.contains(&"--socket") {
            command.arg("--socket").arg(&self.socket);
        }
        Actor::start("rtm", command.args(args))?.finish()
    }

    /// Runs `rtm`, which must succeed.
    fn rtm(&self, args: &[&str]) -> Result<()> {
        match self.run(args)? {
            Some(0) => Ok(()),
            code => Err(differs(&format!("rtm {}", args.join(" ")), &Some(0), &code)),
        }
    }

    /// Lines for the console, the last of which must change something.
    fn console(&mut self, lines: &str) -> Result<()> {
        let mark = length(&self.daemon.out);
        self.daemon.write(lines)?;
        self.daemon.wait(&self.daemon.out, mark, "what the console did", |text| {
            text.contains("done, revision") && text.ends_with("rtmd> ")
        })?;
        Ok(())
    }

    fn until(&mut self, line: &str) -> Result<()> {
        let done = self.admin()?.request(line, &mut |_| true)?;
        if done.code == 0 { Ok(()) } else { Err(differs(line, &0, &done.text)) }
    }

    /// Waits for all copies; shows the first client's tables and compares those
    /// of all with what is expected, and their digests with the daemon's.
    fn same(&mut self, env: &mut Env<'_>, rows: &[[&str; 3]], neighbours: usize) -> Result<()> {
        self.until("sync --timeout 20")?;
        let mut digest = String::new();
        self.admin()?.request("digest", &mut |item| {
            digest.push_str(&item.text());
            true
        })?;
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            let routes = client.say("1", "\n> ")?;
            let found: Vec<Vec<String>> = table(&routes);
            let expected: Vec<Vec<String>> =
                rows.iter().map(|row| row.iter().map(|&cell| cell.to_owned()).collect()).collect();
            if found != expected {
                return Err(differs(&client.name, &expected, &found));
            }
            let macs = client.say("2", "\n> ")?;
            let found = table(&macs).len();
            if found != neighbours {
                return Err(differs(&client.name, &neighbours, &found));
            }
            let verified = client.say("4", "\n> ")?;
            if !verified.contains("equal: recomputed") {
                return Err(differs(&client.name, &"equal digests", &verified));
            }
            if index == 0 {
                for shown in [&routes, &macs] {
                    for line in shown.lines().filter(|line| line.contains('|')) {
                        env.out.line(format_args!("  {}", line.trim_end()))?;
                    }
                }
            }
        }
        let names: Vec<&str> = self.clients.iter().map(|client| client.name.as_str()).collect();
        env.out.line(format_args!(
            "  the same at {}; digests recomputed and equal",
            names.join(", ")
        ))?;
        Ok(env.out.flush()?)
    }

    /// Who registered was signalled once; over TCP there is no signal.
    fn signalled(&mut self, env: &mut Env<'_>) -> Result<()> {
        for client in list(self.admin()?)? {
            let expected = if client["transport"] == "tcp" {
                serde_json::Value::Null
            } else {
                serde_json::json!(1)
            };
            if client["signals_sent"] != expected {
                return Err(differs("signals", &expected, &client));
            }
            let word = |key: &str| match &client[key] {
                serde_json::Value::Null => "-".to_owned(),
                value => super::cell(value),
            };
            env.out.line(format_args!(
                "  {}: pid {}, signal {}, sent {}",
                word("name"),
                word("pid"),
                word("signal"),
                word("signals_sent")
            ))?;
        }
        Ok(env.out.flush()?)
    }

    /// Stops the daemon by its menu, and looks at what it left.
    fn end(mut self) -> Result<()> {
        self.clients.clear();
        if let Some(admin) = self.admin.take() {
            admin.goodbye();
        }
        self.daemon.write("0\ny")?;
        let code = self.daemon.finish()?;
        if code != Some(0) {
            return Err(differs("rtmd", &Some(0), &code));
        }
        let kept = ["rtmd.lock", "token", "tour.toml"];
        let entries = std::fs::read_dir(&self.directory.0)
            .map_err(|error| file_error(&self.directory.0.display().to_string(), &error))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !kept.contains(&name.as_str()) {
                return Err(differs("what rtmd left", &kept, &name));
            }
        }
        if let Some(queue) = &self.queue {
            if rtm_client::post(queue, "", 0, Duration::ZERO).is_ok() {
                return Err(differs("what rtmd left", &"no queue", &queue));
            }
        }
        Ok(())
    }
}

/// The clients, as the daemon lists them.
fn list(admin: &mut Admin) -> Result<Vec<serde_json::Value>> {
    let mut clients = Vec::new();
    admin.request("client list", &mut |item| {
        clients.extend(serde_json::from_str::<serde_json::Value>(&item.text()));
        true
    })?;
    Ok(clients)
}

fn json(admin: &mut Admin, line: &str) -> Result<serde_json::Value> {
    let mut value = serde_json::Value::Null;
    admin.request(line, &mut |item| {
        value = serde_json::from_str(&item.text()).unwrap_or_default();
        true
    })?;
    Ok(value)
}

/// The rows of a menu's table, without its heading.
fn table(shown: &str) -> Vec<Vec<String>> {
    let rows = shown.lines().filter(|line| line.contains('|')).skip(1);
    rows.map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// Nothing of the user's environment leads a child of the tour elsewhere.
fn clean(command: &mut Command) {
    for name in ["RTM_SOCKET", "RTM_RUNTIME_DIR", "RUNTIME_DIRECTORY", "NOTIFY_SOCKET"] {
        command.env_remove(name);
    }
}

/// A program beside this one, else of the path.
fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(|error| file_error("rtm", &error))?;
    let path = own.with_file_name(name);
    Ok(if path.is_file() { path } else { PathBuf::from(name) })
}

fn write(path: &Path, text: &str) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| file_error(&path.display().to_string(), &error))
}

/// A new directory that only we can enter.
fn make_directory() -> Result<Directory> {
    let base = std::env::temp_dir();
    for attempt in 0..100 {
        let path = base.join(format!("rtm-tour-{}-{attempt}", std::process::id()));
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(Directory(path)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(file_error(&path.display().to_string(), &error)),
        }
    }
    Err(failed(&base.display().to_string(), "no name is left for a directory"))
}
