//! No process is signalled that did not ask for it: counted.
//!
//! A try is a process that must not be signalled, at a flush that somebody else is
//! signalled at, or a registration that must be refused. In the ordinary tests some
//! hundred; `scripts/stray-signals` runs 100,000 and prints the table that
//! `docs/design/mechanisms.md` has.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rtm_client::{Address, Admin, SignalWay};
use rtm_e2e::process::PATIENCE;
use rtm_e2e::{Daemon, Process, raw};

const USR1: i32 = 10;

/// How many tries in all.
fn tries() -> u32 {
    std::env::var("RTM_TRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(600)
}

/// One kind of try.
struct Row {
    what: &'static str,
    tries: u32,
    strays: u32,
}

fn admin(daemon: &Daemon) -> Admin {
    let address = Address::Unix(daemon.directory().join("rtm.sock"));
    Admin::connect(&address, "flushes").unwrap()
}

fn flush(admin: &mut Admin) {
    let done = admin.request("flush all", &mut |_| true).unwrap();
    assert_eq!(done.code, 0, "{}", done.text);
}

fn registrant(daemon: &Daemon, how: &str) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_registrant"));
    command.arg(how).arg(daemon.directory());
    Process::spawn(command)
}

/// The signal that ended it, if one did.
fn ended_by(process: &mut Process) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    process.ended().then(|| process.status().and_then(|status| status.signal())).flatten()
}

/// Somebody who must not be signalled: it would end.
fn victim(uid: u32) -> Process {
    let mut command = Command::new("sleep");
    command.arg("100000").uid(uid).gid(uid);
    Process::spawn(command)
}

/// Pids that are not the peer's: of the same user, of another, of the daemon, pid 1,
/// none at all. Every hundred there is a flush.
fn forged(daemon: &Daemon, tries: u32) -> Row {
    let mut admin = admin(daemon);
    let mut victims = [victim(0), victim(4242)];
    let own = std::process::id();
    let pids =
        [1, 0, u32::MAX, own ^ 1, victims[0].pid(), victims[1].pid(), daemon.process.pid(), 2];
    let mut stream = raw::Client::follow(daemon.directory(), "forger");
    let mut strays = 0;
    for n in 0..tries {
        let (way, text) = stream.register(pids[n as usize % pids.len()]);
        strays += u32::from(way != SignalWay::Refused);
        assert!(text.contains("its own pid would be right"), "{text}");
        if n % 100 == 99 {
            flush(&mut admin);
            // What isn't read any more of the records would fill its socket.
            stream = raw::Client::follow(daemon.directory(), "forger");
        }
    }
    flush(&mut admin);
    strays += victims.iter_mut().map(|victim| u32::from(victim.ended())).sum::<u32>();
    Row { what: "forged pids", tries, strays }
}

/// Children of armed clients, forked after the registration: each at each flush.
fn forked(daemon: &Daemon, tries: u32) -> Row {
    let mut admin = admin(daemon);
    const CLIENTS: u32 = 10;
    let children = if tries > 10_000 { 20 } else { 3 };
    let flushes = tries.div_ceil(CLIENTS * children);
    let mut clients: Vec<Process> = (0..CLIENTS).map(|_| registrant(daemon, "armed")).collect();
    for client in &mut clients {
        client.wait_stdout("registered pipe\n");
        client.write(&"fork\n".repeat(children as usize));
    }
    for client in &clients {
        client.wait_stdout(&"forked\n".repeat(children as usize));
    }
    for _ in 0..flushes {
        flush(&mut admin);
    }
    let mut strays = 0;
    for client in &mut clients {
        client.write("check\n");
        let out = client.wait_stdout(" caught ");
        let words: Vec<&str> = out.lines().last().unwrap().split(' ').collect();
        strays += words[1].parse::<u32>().unwrap();
        // Merged or not: who asked was signalled.
        assert_ne!(words[3], "0", "{out}");
    }
    Row { what: "fork after registration", tries: CLIENTS * children * flushes, strays }
}

/// Armed clients that execute another program, with a forked child left behind.
fn executed(daemon: &Daemon, tries: u32) -> Row {
    let mut admin = admin(daemon);
    const AT_ONCE: u32 = 16;
    let (mut done, mut strays) = (0, 0);
    while done < tries {
        let mut clients: Vec<Process> = (0..AT_ONCE).map(|_| registrant(daemon, "armed")).collect();
        for client in &mut clients {
            client.wait_stdout("registered pipe\n");
            client.write("fork\nexec\n");
        }
        for client in &clients {
            client.wait_stdout("executed\n");
        }
        flush(&mut admin);
        strays += clients.iter_mut().map(|client| u32::from(client.ended())).sum::<u32>();
        done += AT_ONCE;
    }
    Row { what: "exec of an armed client", tries: done, strays }
}

/// A flush while a client executes another program: what the signal finds is a race.
fn racing(daemon: &Daemon, how: &'static str, tries: u32) -> Row {
    let mut admin = admin(daemon);
    let mut strays = 0;
    for n in 0..tries {
        let mut client = registrant(daemon, how);
        client.wait_stdout("registered ");
        client.write("exec\n");
        // Up to a millisecond later, in steps.
        let until = Instant::now() + std::time::Duration::from_micros(u64::from(n % 20) * 50);
        while Instant::now() < until {}
        flush(&mut admin);
        while !client.ended() && !client.stdout().contains("executed") {
            std::thread::yield_now();
        }
        strays += u32::from(ended_by(&mut client) == Some(USR1));
    }
    let what = if how == "plain" { "exec race, plain client" } else { "exec race, armed client" };
    Row { what, tries, strays }
}

/// In a pid namespace: the pid of who registered is another process's by the flush.
/// The daemon is outside, where only `NSpid` says what the client sees itself as, or
/// inside, where the pid that was reused is the one that the connection had.
fn reused(directory: &Path, inside: bool, tries: u32) -> Row {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.arg(env!("CARGO_BIN_EXE_registrant")).arg("reuse").arg(directory);
    command.arg(tries.to_string());
    if inside {
        command.arg(rtm_e2e::binary("rtmd"));
    }
    // That daemon is killed.
    let _queue = inside.then(|| rtm_e2e::QueueName(directory.to_owned()));
    let output = Process::spawn(command).finish_within(PATIENCE * 10);
    assert_eq!(output.code, Some(0), "{}", output.err);
    let words: Vec<u32> =
        output.out.split(' ').filter_map(|word| word.trim().parse().ok()).collect();
    let [done, strays, refused, registered] = words[..] else { panic!("{}", output.out) };
    // Every second one registered, as what it sees itself as; every other was refused,
    // as the process that its pid meant has ended.
    assert_eq!(
        (done, refused, registered),
        (tries, tries / 2, tries.div_ceil(2)),
        "{}",
        output.out
    );
    let what = if inside { "pid reuse, same namespace" } else { "pid reuse, seen from outside" };
    Row { what, tries: done, strays }
}

#[test]
fn no_process_is_signalled_that_did_not_ask() {
    if !rtm_e2e::require::root("no_process_is_signalled_that_did_not_ask") {
        return;
    }
    let daemon = Daemon::start(&[]);
    let files = tempfile::tempdir().unwrap();
    let tries = tries();
    let rows = [
        forged(&daemon, tries * 45 / 100),
        forked(&daemon, tries / 2),
        executed(&daemon, tries * 3 / 100),
        reused(daemon.directory(), false, tries / 100),
        reused(files.path(), true, tries / 100),
    ];
    // These are counted, not promised.
    let races = [racing(&daemon, "armed", tries / 50), racing(&daemon, "plain", tries / 50)];
    for row in rows.iter().chain(&races) {
        eprintln!("{:<30} {:>7} tries {:>5} stray signals", row.what, row.tries, row.strays);
    }
    let all: u32 = rows.iter().map(|row| row.tries).sum();
    let strays: u32 = rows.iter().map(|row| row.strays).sum();
    eprintln!("{:<30} {all:>7} tries {strays:>5} stray signals", "all but the races");
    assert!(all >= tries, "{all} of {tries}");
    assert_eq!(strays, 0);
    assert!(daemon.rtm(&["status"]).contains("revision: "), "the daemon, too, lives");
}
