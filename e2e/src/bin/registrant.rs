//! A client that registered for the signal of a flush, and that then does what
//! clients do: forks, executes something else, dies and leaves its socket to a
//! child. Driven by `tests/stray_signals.rs`, one line of standard input at a
//! time.
//!
//! ```text
//!   registrant armed|plain DIR   follows, registers, prints `registered WAY`; then
//!                                fork: makes a copy of itself that only waits
//!                                leave: the same, and it outlives its maker
//!                                exec: becomes `registrant idle`
//!                                check: prints how many copies a signal has ended,
//!                                       and how many signals it caught itself
//!   registrant idle              prints `executed`; waits, SIGUSR1 would end it
//!   registrant leave DIR GO      connects, leaves the socket to a child, ends
//!   registrant late GO PID       that child: once GO is opened it registers PID
//!   registrant reuse DIR TRIES [RTMD]
//!                                pid 1 of a small pid namespace: the pid of who
//!                                registered is another's when the flush comes. With
//!                                RTMD the daemon is one inside, which sees the same
//!                                pids; else it sees them from outside
//! ```

use std::io::{BufRead, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ipc::child::{self, Change};
use ipc::signal::Signal;
use rtm_client::{Address, Admin, Event, FlushSignal, FollowConfig, Follower, Turn};
use rtm_e2e::raw;
use rustix::process::Pid;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["armed", directory] => registered(Path::new(directory), FlushSignal::Armed),
        ["plain", directory] => registered(Path::new(directory), FlushSignal::Process),
        ["idle"] => {
            say("executed");
            wait_for_end();
        }
        ["leave", directory, go] => leave(Path::new(directory), go),
        ["late", go, pid] => late(go, pid.parse().expect("a pid")),
        ["reuse", directory, tries, ref program @ ..] => {
            let mut daemon = program.first().map(|program| start(program, directory));
            reuse(Path::new(directory), tries.parse().expect("a number"));
            if let Some(daemon) = &mut daemon {
                let _ = daemon.kill().and_then(|()| daemon.wait());
            }
        }
        _ => panic!("registrant: {words:?}"),
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever listened may be gone.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn wait_for_end() {
    let _ = std::io::stdin().lock().lines().count();
}

fn address(directory: &Path) -> Address {
    Address::Unix(directory.join("rtm.sock"))
}

/// Follows and registers; then does as it is told, following on.
fn registered(directory: &Path, signal: FlushSignal) {
    let config = FollowConfig { name: "registrant".into(), signal, ..FollowConfig::default() };
    let mut follower = Follower::connect(&address(directory), config).expect("a daemon");
    let mut way = None;
    while way.is_none() {
        follower
            .turn(None, &[], &mut |event| {
                if let Event::Registered { way: said, .. } = event {
                    way = Some(said.name());
                }
            })
            .expect("a session");
    }
    say(&format!("registered {}", way.unwrap_or_default()));
    let mut copies = Vec::new();
    let stdin = std::io::stdin();
    let mut input = Vec::new();
    loop {
        match follower.turn(None, &[stdin.as_fd()], &mut |_| ()) {
            Ok(Turn::Also(_)) => {}
            Ok(_) => continue,
            // The daemon has gone.
            Err(_) => return,
        }
        let mut bytes = [0; 4096];
        let count = rustix::io::read(&stdin, &mut bytes).unwrap_or(0);
        if count == 0 {
            return;
        }
        input.extend_from_slice(&bytes[..count]);
        while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = input.drain(..=end).collect();
            match line.trim_ascii() {
                b"fork" => {
                    copies.push(child::idle_copy(Signal::USR1, true).expect("a copy"));
                    say("forked");
                }
                b"leave" => {
                    let copy = child::idle_copy(Signal::USR1, false).expect("a copy");
                    say(&format!("left {}", copy.as_raw_nonzero()));
                }
                b"exec" => {
                    let own = std::env::current_exe().expect("its own path");
                    let error = Command::new(own).arg("idle").exec();
                    panic!("exec: {error}");
                }
                b"check" => {
                    let ended =
                        copies.iter().filter(|pid| child::change(**pid) != Ok(None)).count();
                    say(&format!("ended {ended} caught {}", follower.flush_signals()));
                }
                line => panic!("{line:?}"),
            }
        }
    }
}

/// Connects, so that the connection is this process's, and leaves it to a child.
#[expect(clippy::zombie_processes, reason = "it ends before its child, which pid 1 reaps")]
fn leave(directory: &Path, go: &str) {
    let stream = UnixStream::connect(directory.join("rtm.sock")).expect("a daemon");
    let own = std::env::current_exe().expect("its own path");
    let mut child = Command::new(own);
    child.args(["late", go, &std::process::id().to_string()]);
    child.stdin(Stdio::from(OwnedFd::from(stream)));
    child.spawn().expect("a child");
}

/// What it inherited was made by another process, which it claims to be.
fn late(go: &str, pid: u32) {
    let _ = std::fs::read(go);
    let socket = rustix::io::dup(std::io::stdin()).expect("the socket");
    let mut stream = UnixStream::from(socket);
    stream.write_all(&raw::greeting("late")).expect("a session");
    let (way, text) = raw::Client::over(stream).register(pid);
    say(&format!("late {} {} {text}", std::process::id(), way.name()));
    std::thread::sleep(Duration::from_secs(600));
}

/// The pid that is given out to what is started next, in this pid namespace.
const PID: i32 = 300;

/// Sees to it that the next process gets [`PID`].
fn next_is_pid() {
    std::fs::write("/proc/sys/kernel/ns_last_pid", (PID - 1).to_string()).expect("root");
}

/// A daemon in this namespace, ready.
fn start(program: &str, directory: &str) -> std::process::Child {
    let mut command = Command::new(program);
    command.args(["--runtime-dir", directory]).stdin(Stdio::null()).stdout(Stdio::null());
    let daemon = command.stderr(Stdio::null()).spawn().expect("rtmd");
    while Admin::connect(&address(Path::new(directory)), "looks").is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    daemon
}

fn reuse(directory: &Path, tries: u32) {
    let own: PathBuf = std::env::current_exe().expect("its own path");
    let mut admin = Admin::connect(&address(directory), "reuse").expect("a daemon");
    let go = directory.join(format!("go-{tries}"));
    ipc::fifo::create(&go, 0o600).expect("a FIFO");
    let (mut done, mut strays, mut refused, mut registered) = (0, 0, 0, 0);
    let kill = |pid: Pid| {
        let _ = ipc::signal::send(pid, Signal::KILL);
        child::wait(pid)
    };
    while done < tries {
        next_is_pid();
        // One registers and dies with a copy holding its socket; or one connects and
        // dies, and who has its socket registers in its name, when that is another's.
        let late = done % 2 == 1;
        let mut command = Command::new(&own);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if late {
            command.arg("leave").arg(directory).arg(&go);
        } else {
            command.arg("plain").arg(directory);
        }
        let mut client = command.spawn().expect("a client");
        assert_eq!(client.id(), PID as u32, "another process was started in this namespace");
        let mut out = std::io::BufReader::new(client.stdout.take().expect("its output"));
        let mut line = String::new();
        let mut copy = None;
        if late {
            let _ = client.wait();
        } else {
            out.read_line(&mut line).expect("text");
            // The pid that it sees itself as.
            registered += u32::from(line == "registered pid\n");
            let mut input = client.stdin.take().expect("its input");
            input.write_all(b"leave\n").expect("it reads");
            line.clear();
            out.read_line(&mut line).expect("text");
            copy = number(&line, "left ");
            let _ = client.kill();
            let _ = client.wait();
        }
        next_is_pid();
        let victim = child::idle_copy(Signal::USR1, true).expect("a victim");
        if victim.as_raw_nonzero().get() != PID {
            // A number that is still a process group's or session's isn't given out.
            let _ = kill(victim);
            continue;
        }
        if late {
            drop(std::fs::OpenOptions::new().write(true).open(&go).expect("its reader"));
            out.read_line(&mut line).expect("text");
            refused += u32::from(line.contains("refused"));
            copy = number(&line, "late ");
        }
        admin.request("flush all", &mut |_| true).expect("a flush");
        strays += u32::from(child::change(victim) != Ok(None));
        let end = kill(victim);
        strays += u32::from(matches!(end, Ok(Change::Killed { signal: Signal::USR1, .. })));
        if let Some(copy) = copy {
            let _ = kill(copy);
        }
        // Orphans come to pid 1.
        while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
        done += 1;
    }
    say(&format!("reuse {done} strays {strays} refused {refused} registered {registered}"));
}

/// The pid behind these words.
fn number(line: &str, words: &str) -> Option<Pid> {
    let pid = line.strip_prefix(words)?.split_ascii_whitespace().next()?;
    pid.parse().ok().and_then(Pid::from_raw)
}
