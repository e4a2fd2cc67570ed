//! `ipc sem` end to end: named, System V, and inside a segment.
mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use ipc::signal::Signal;
use support::{CProgram, Key, Name, Running, as_nobody, fails, ok, run, seen};

/// futex, semtimedop, semop: where a waiting process sleeps on x86-64.
const SLEEPS: &[i64] = &[202, 220, 65];

#[test]
fn named_semaphores() {
    let s = Name::new("named");
    fails(&format!("sem wait {s}"), 2, &["no such semaphore"]);
    ok(&format!("sem create {s} --value 2 --mode 0640 --excl"));
    fails(&format!("sem create {s} --excl"), 2, &["exists already"]);
    ok(&format!("sem create {s} --value 9"));
    assert_eq!(ok(&format!("sem get {s}")), "2\n", "taken as it is");
    ok(&format!("sem wait {s}"));
    ok(&format!("sem wait {s} --nonblock"));
    fails(&format!("sem wait {s} --nonblock"), 4, &["is 0", "--nonblock"]);
    fails(&format!("sem wait {s} --timeout 20ms"), 4, &["timed out"]);
    ok(&format!("sem set {s} 5"));
    assert_eq!(ok(&format!("sem get {s}")), "5\n");
    ok(&format!("sem set {s} 0"));
    let waiting = Running::start(&format!("sem wait {s}"));
    waiting.until_in(SLEEPS);
    let stat = ok(&format!("sem stat {s}"));
    for field in ["value        0", "waiters      1", "perms        rw-r-----"] {
        assert!(stat.contains(field), "{field} in {stat}");
    }
    assert!(stat.contains(&format!("holders      {}", waiting.pid())), "{stat}");
    let row = ok("sem ls -r --noheadings -o NAME,SVAL,WAITERS,ORPHAN");
    assert!(row.contains(&format!("{s} 0 1 no\n")), "{row}");
    // Stopped and continued, it still waits.
    waiting.signal(Signal::STOP);
    waiting.signal(Signal::CONT);
    waiting.until_in(SLEEPS);
    // Removed while waiting: who has it open goes on with it.
    let open = ipc::sem::Named::open(&s.0).unwrap();
    ok(&format!("sem rm {s}"));
    fails(&format!("sem post {s}"), 2, &["no such semaphore"]);
    open.post().unwrap();
    assert_eq!(waiting.end().code, 0);
    for bad in ["x", "/", "/a/b", &format!("/{}", "x".repeat(252))] {
        fails(&format!("sem create {bad}"), 1, &["no name for a semaphore"]);
    }
    fails(&format!("sem create {s} --value 2147483648"), 1, &["at most 2147483647"]);
    assert_eq!(run(&format!("sem set {s} many")).code, 2, "it is gone");
}

#[test]
fn an_interrupted_wait_takes_nothing() {
    let s = Name::new("interrupted");
    ok(&format!("sem create {s} --value 0"));
    let waiting = Running::start(&format!("sem wait {s}"));
    waiting.until_in(SLEEPS);
    waiting.signal(Signal::INT);
    assert_eq!(waiting.end().code, 130);
    ok(&format!("sem post {s}"));
    assert_eq!(ok(&format!("sem get {s}")), "1\n");
}

#[test]
fn a_command_runs_while_it_is_held() {
    let s = Name::new("command");
    ok(&format!("sem create {s} --value 1"));
    let ipc = env!("CARGO_BIN_EXE_ipc");
    assert_eq!(ok(&format!("sem wait {s} -- {ipc} sem get {s}")), "0\n");
    assert_eq!(ok(&format!("sem get {s}")), "1\n");
    assert_eq!(run(&format!("sem wait {s} -- sh -c 'exit 7'")).code, 7);
    fails(&format!("sem wait {s} -- /nonexistent/command"), 2, &["/nonexistent/command"]);
    assert_eq!(ok(&format!("sem get {s}")), "1\n");
}

#[test]
fn another_user_is_refused() {
    let s = Name::new("permission");
    ok(&format!("sem create {s} --mode 0600"));
    let key = Key::new();
    ok(&format!("sem create --sysv --key {key} --mode 0600"));
    for line in [format!("sem wait {s}"), format!("sem post --sysv --key {key}")] {
        let Some(run) = as_nobody("another_user_is_refused", &line) else { return };
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.err.contains("permission denied"), "{}", run.err);
    }
}

#[test]
fn named_semaphores_and_c_programs() {
    let c = CProgram::compile("interop");
    let s = Name::new("c");
    c.ok(&["sem_create", &s.0, "1"]);
    ok(&format!("sem wait {s}"));
    assert_eq!(c.ok(&["sem_value", &s.0]), "0\n");
    assert_eq!(c.ok(&["sem_post", &s.0]), "1\n");
    assert_eq!(ok(&format!("sem get {s}")), "1\n");
    let ours = Name::new("c-ours");
    ok(&format!("sem create {ours} --value 3"));
    assert_eq!(c.ok(&["sem_wait", &ours.0]), "2\n");
    // A waiting C program is woken by ours.
    ok(&format!("sem set {ours} 0"));
    let waiting = Running::from(c.command(&["sem_wait", &ours.0]).stdin(Stdio::null()));
    waiting.until_in(SLEEPS);
    ok(&format!("sem post {ours}"));
    assert_eq!(waiting.end().out, "0\n");
}

#[test]
fn system_v_sets() {
    let key = Key::new();
    let id = ok(&format!("sem create --sysv --key {key} --count 3 --value 4 --excl --mode 0600"));
    let id = id.trim();
    assert_eq!(ok(&format!("sem get --sysv {id}")), "4 4 4\n");
    ok(&format!("sem set --sysv {id} 7 --number 1"));
    ok(&format!("sem wait --sysv --key {key} --number 2 --by 3"));
    ok(&format!("sem post --sysv {id} --number 0 --by 5"));
    assert_eq!(ok(&format!("sem get --sysv {id}")), "9 7 1\n");
    fails(
        &format!("sem wait --sysv {id} --number 2 --by 2 --nonblock"),
        4,
        &["would have to wait"],
    );
    fails(&format!("sem wait --sysv {id} --number 2 --by 2 --timeout 20ms"), 4, &["timed out"]);
    fails(&format!("sem wait --sysv {id} --number 3"), 1, &["has no semaphore number 3"]);
    fails(&format!("sem set --sysv {id} 32768"), 1, &["between 0 and 32767"]);
    fails(&format!("sem create --sysv --key {key} --count 4 --excl"), 2, &["exists already"]);
    // Waiters and last pids, against ipcs.
    let waiting = Running::start(&format!("sem wait --sysv {id} --number 2 --by 2"));
    waiting.until_in(SLEEPS);
    let stat = ok(&format!("sem stat --sysv {id}"));
    let table: Vec<Vec<&str>> =
        stat.lines().rev().take(3).map(|l| l.split_ascii_whitespace().collect()).collect();
    let referee = seen(&Command::new("ipcs").args(["-s", "-i", id]).output().unwrap()).out;
    for row in table.iter().rev() {
        assert!(
            referee.lines().any(|l| l.split_ascii_whitespace().collect::<Vec<_>>() == *row),
            "{row:?} in {referee}"
        );
    }
    assert_eq!(table[0][..3], ["2", "1", "1"], "{stat}");
    // Removed while somebody waits.
    ok(&format!("sem rm --sysv {id}"));
    let run = waiting.end();
    assert_eq!(run.code, 2);
    assert!(run.err.contains("was removed"), "{}", run.err);
    fails(&format!("sem stat --sysv {id}"), 2, &["no such object"]);
}

#[test]
fn undo_gives_back_what_a_killed_process_took() {
    let key = Key::new();
    let id = ok(&format!("sem create --sysv --key {key} --value 1"));
    let id = id.trim();
    let holder = Running::start(&format!("sem wait --sysv {id} --undo -- sleep 1000"));
    while ok(&format!("sem get --sysv {id}")) != "0\n" {
        std::thread::sleep(core::time::Duration::from_millis(1));
    }
    let children = format!("/proc/{0}/task/{0}/children", holder.pid());
    let child = loop {
        let text = std::fs::read_to_string(&children).unwrap();
        if let Ok(pid) = text.trim().parse() {
            break rustix::process::Pid::from_raw(pid).unwrap();
        }
        std::thread::sleep(core::time::Duration::from_millis(1));
    };
    holder.signal(Signal::KILL);
    assert_eq!(holder.end_quietly(), 137);
    ipc::signal::send(child, Signal::KILL).unwrap();
    assert_eq!(ok(&format!("sem get --sysv {id}")), "1\n");
    // Without --undo it stays taken.
    ok(&format!("sem wait --sysv {id}"));
    assert_eq!(ok(&format!("sem get --sysv {id}")), "0\n");
    // With a command it is given back in order, and nothing is undone twice.
    ok(&format!("sem post --sysv {id}"));
    ok(&format!("sem wait --sysv {id} --undo -- true"));
    assert_eq!(ok(&format!("sem get --sysv {id}")), "1\n");
    // A killed C program's too.
    let c = CProgram::compile("interop");
    let mut taker = c.command(&["semset_wait", &key.to_string(), "undo"]);
    let mut taker = taker.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(taker.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(ok(&format!("sem get --sysv {id}")), "0\n");
    taker.kill().unwrap();
    taker.wait().unwrap();
    assert_eq!(ok(&format!("sem get --sysv {id}")), "1\n");
    c.ok(&["semset_wait", &key.to_string()]);
    assert_eq!(ok(&format!("sem get --sysv {id}")), "0\n");
    c.ok(&["semset_post", &key.to_string()]);
    assert_eq!(ok(&format!("sem get --sysv {id}")), "1\n");
}

#[test]
fn semaphores_inside_a_segment() {
    let c = CProgram::compile("interop");
    let s = Name::new("inside");
    ok(&format!("shm create {s} --size 4096"));
    ok(&format!("sem create --in {s}:64 --value 1"));
    ok(&format!("sem wait --in {s}:64"));
    fails(&format!("sem wait --in {s}:64 --nonblock"), 4, &["is 0"]);
    fails(&format!("sem wait --in {s}:64 --timeout 20ms"), 4, &["timed out"]);
    assert_eq!(c.ok(&["unnamed_post", &s.0, "64"]), "1\n");
    assert_eq!(ok(&format!("sem get --in {s}:64")), "1\n");
    ok(&format!("sem post --in {s}:64"));
    ok(&format!("sem set --in {s}:64 4"));
    assert_eq!(c.ok(&["unnamed_wait", &s.0, "64"]), "3\n");
    c.ok(&["unnamed_init", &s.0, "128"]);
    assert_eq!(ok(&format!("sem get --in {s}:128")), "2\n");
    fails(
        &format!("sem get --in {s}:4088"),
        2,
        &["32 bytes at 4088 don't fit into its 4096", "resize"],
    );
    assert_eq!(run(&format!("sem get --in {s}:3")).code, 1, "not aligned");
    fails(
        &format!("sem get --in /missing-{}:0", std::process::id()),
        2,
        &["no such shared memory"],
    );
}

#[test]
fn a_robust_mutex_inside_a_segment() {
    let c = CProgram::compile("interop");
    let s = Name::new("mutex");
    ok(&format!("shm create {s} --size 4096"));
    ok(&format!("sem create --in {s}:0 --mutex"));
    assert_eq!(ok(&format!("sem get --in {s}:0 --mutex")), "free\n");
    assert_eq!(c.ok(&["mutex_lock", &s.0, "0"]), "locked\n");
    let ipc = env!("CARGO_BIN_EXE_ipc");
    let held = ok(&format!("sem wait --in {s}:0 --mutex -- {ipc} sem get --in {s}:0 --mutex"));
    assert!(held.starts_with("held by thread "), "{held}");
    fails(&format!("sem wait --in {s}:0 --mutex"), 1, &["say what to run meanwhile"]);
    fails(&format!("sem post --in {s}:0 --mutex"), 1, &["by who took it"]);

    // Made and held by C, killed, healed here; then the other way round.
    c.ok(&["mutex_init", &s.0, "64"]);
    let mut holder = c.command(&["mutex_hold", &s.0, "64"]);
    let mut holder = holder.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    fails(
        &format!("sem wait --in {s}:64 --mutex --nonblock -- true"),
        2,
        &["held by somebody else"],
    );
    fails(&format!("sem wait --in {s}:64 --mutex --timeout 20ms -- true"), 4, &["timed out"]);
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(ok(&format!("sem get --in {s}:64 --mutex")), "its owner died\n");
    let healed = run(&format!("sem wait --in {s}:64 --mutex -- true"));
    assert_eq!(
        (healed.code, healed.err.as_str()),
        (0, "the last owner died while it held the mutex; healed\n")
    );
    assert_eq!(ok(&format!("sem get --in {s}:64 --mutex")), "free\n");

    let holder = {
        let mut command = support::command(&format!("sem wait --in {s}:0 --mutex -- sleep 1000"));
        Running::from(command.stdin(Stdio::null()))
    };
    while !ok(&format!("sem get --in {s}:0 --mutex")).starts_with("held") {
        std::thread::sleep(core::time::Duration::from_millis(1));
    }
    let children = format!("/proc/{0}/task/{0}/children", holder.pid());
    let sleeper = loop {
        let text = std::fs::read_to_string(&children).unwrap();
        if let Ok(pid) = text.trim().parse() {
            break rustix::process::Pid::from_raw(pid).unwrap();
        }
    };
    holder.signal(Signal::KILL);
    assert_eq!(holder.end_quietly(), 137);
    ipc::signal::send(sleeper, Signal::KILL).unwrap();
    assert_eq!(c.ok(&["mutex_lock", &s.0, "0"]), "owner died\n");
    assert_eq!(c.ok(&["mutex_lock", &s.0, "0"]), "locked\n");
}

#[test]
fn as_many_sets_as_the_system_allows() {
    let test = "as_many_sets_as_the_system_allows";
    // SEMMSL, SEMMNS, SEMOPM, SEMMNI.
    let script = "echo '2 32000 500 1' > /proc/sys/kernel/sem
        ipc sem create --sysv --key 7 >/dev/null || exit 9
        ipc sem create --sysv --key 8; echo $?
        ipc sem rm --sysv --key 7
        ipc sem create --sysv --key 9 --count 3; echo $?
        ipc sem ls --sysv --limits -r --noheadings | head -n 2";
    let Some(run) = support::in_own_ipc_namespace(test, script) else { return };
    assert_eq!(
        run.out, "2\n2\nSEMMNI sets 1 0 0.00%\nSEMMSL semaphores in a set 2 - -\n",
        "{}",
        run.err
    );
    let lines: Vec<&str> = run.err.lines().collect();
    assert_eq!(
        lines,
        [
            "ipc: sem create: semaphore set with key 0x00000008: the system has as many as SEMMNI \
             (or SEMMNS) of kernel.sem allows, 1; rm removes one, ls --limits shows the limit and what is used",
            "ipc: sem create: semaphore set with key 0x00000009: 3 is not between 1 and SEMMSL of kernel.sem, 2",
        ]
    );
}

#[test]
fn an_interrupted_wait_for_a_set_takes_nothing() {
    let key = Key::new();
    ok(&format!("sem create --sysv --key {key} --value 0"));
    let waiting = Running::start(&format!("sem wait --sysv --key {key}"));
    waiting.until_in(SLEEPS);
    waiting.signal(Signal::STOP);
    waiting.signal(Signal::CONT);
    waiting.until_in(SLEEPS);
    waiting.signal(Signal::INT);
    assert_eq!(waiting.end().code, 130);
    ok(&format!("sem post --sysv --key {key}"));
    assert_eq!(ok(&format!("sem get --sysv --key {key}")), "1\n");
    // Another user may neither set nor remove it.
    for verb in ["set --sysv --key K 3", "rm --sysv --key K", "stat --sysv --key K"] {
        let line = format!("sem {}", verb.replace('K', &key.to_string()));
        let Some(run) = as_nobody("an_interrupted_wait_for_a_set_takes_nothing", &line) else {
            return;
        };
        assert_eq!(run.code, 2, "{line}: {run:?}");
        assert!(run.err.contains("permission denied"), "{}", run.err);
    }
}
