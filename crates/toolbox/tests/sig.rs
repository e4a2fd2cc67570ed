//! `ipc sig` and `ipc child` end to end, with C programs on the other side and
//! `ps`, `kill` and /proc as referees.
mod support;

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use ipc::signal::Signal;
use rustix::process::Pid;
use support::{CProgram, Running, as_nobody, command, fails, ok, run, seen};

/// A program whose lines are read as they come; ended with the test.
struct Talking {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Talking {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("it says something").unwrap()
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        ipc::signal::send(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Says a line to it, and gives the rest of what it says.
    fn rest(&mut self) -> Vec<String> {
        if let Some(mut stdin) = self.child.stdin.take() {
            let _ = stdin.write_all(b"\n");
        }
        self.lines.by_ref().map(Result::unwrap).collect()
    }

    fn code(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.wait().unwrap();
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Until a process has a handler for the signal.
fn until_caught(pid: u32, signal: Signal) {
    loop {
        let state = ipc::signal_state::of(Pid::from_raw(pid as i32).unwrap()).unwrap();
        if state.caught.contains(signal) {
            return;
        }
        std::thread::sleep(core::time::Duration::from_millis(1));
    }
}

#[test]
fn the_list_is_the_systems() {
    let c = CProgram::compile("signals");
    let ours = ok("sig list -J");
    let ours: serde_json::Value = serde_json::from_str(&ours).unwrap();
    let rows = ours["signals"].as_array().unwrap();
    let mut described = 0;
    for theirs in c.ok(&["describe"]).lines() {
        let mut fields = theirs.splitn(3, ' ');
        let number: u64 = fields.next().unwrap().parse().unwrap();
        let (name, description) = (fields.next().unwrap(), fields.next().unwrap());
        let row = rows.iter().find(|row| row["number"] == number).unwrap();
        assert_eq!(row["description"], description);
        if name != "-" {
            // (The C library says POLL, where everybody else says IO.)
            assert_eq!(name.parse::<Signal>().unwrap().number() as u64, number);
        }
        // The shell's name of it, which `kill` takes.
        let shell = Command::new("bash").args(["-c", &format!("kill -l {number}")]).output();
        assert_eq!(row["name"].as_str().unwrap(), seen(&shell.unwrap()).out.trim());
        described += 1;
    }
    assert_eq!(rows.len(), described);
    let catchable: Vec<&str> = rows
        .iter()
        .filter(|row| row["catchable"] == false)
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(catchable, ["KILL", "STOP"]);
    assert!(ok("sig ls -r --noheadings -o NAME,DEFAULT").starts_with("HUP terminate\n"));
}

#[test]
fn every_signal_acts_as_the_list_says() {
    let ours: serde_json::Value = serde_json::from_str(&ok("sig list -J")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for row in ours["signals"].as_array().unwrap() {
        let (name, number) = (row["name"].as_str().unwrap(), row["number"].as_i64().unwrap());
        let expected = match row["default"].as_str().unwrap() {
            "terminate" | "core" => 128 + number as i32,
            "ignore" | "continue" => 0,
            // (The terminal's three do nothing in an orphaned process group.)
            _ if name != "STOP" => continue,
            _ => {
                let stopped = Running::start("sig raise STOP");
                let path = format!("/proc/{}/stat", stopped.pid());
                while !std::fs::read_to_string(&path).unwrap().contains(") T ") {
                    std::thread::sleep(core::time::Duration::from_millis(1));
                }
                stopped.signal(Signal::CONT);
                assert_eq!(stopped.end().code, 0);
                continue;
            }
        };
        // As by default, even if the parent ignores it; and without a dump.
        let script = format!(
            "ulimit -c 0; trap '' HUP INT TERM USR1; exec {} sig raise {name}",
            env!("CARGO_BIN_EXE_ipc")
        );
        let output =
            Command::new("bash").args(["-c", &script]).current_dir(dir.path()).output().unwrap();
        assert_eq!(seen(&output).code, expected, "{name}");
    }
    assert_eq!(ok("sig raise USR1 --catch"), "Signal 10 received\n");
    fails("sig raise KILL --catch", 1, &["can't be caught"]);
    fails("sig raise FOO", 1, &["FOO: No such signal"]);
}

#[test]
fn signals_are_sent_by_name_and_number() {
    for word in ["TERM", "SIGTERM", "sigterm", "15"] {
        let sleeping = Running::from(Command::new("sleep").arg("1000").stdin(Stdio::null()));
        ok(&format!("sig send {} {word}", sleeping.pid()));
        assert_eq!(sleeping.end().code, 143, "{word}");
    }
    // Several at once, and what fails doesn't keep the others from it.
    let two =
        [(); 2].map(|()| Running::from(Command::new("sleep").arg("1000").stdin(Stdio::null())));
    let line = format!("sig send {} 99999999 {} HUP", two[0].pid(), two[1].pid());
    fails(&line, 2, &["process 99999999: no such process"]);
    for one in two {
        assert_eq!(one.end().code, 129);
    }
    let own = std::process::id();
    ok(&format!("sig send {own} 0"));
    fails(&format!("sig send {own} FOO"), 1, &["FOO: No such signal", "ipc sig list"]);
    fails(&format!("sig send {own} 65"), 1, &["65: No such signal"]);
    fails(&format!("sig send {own} 32"), 1, &["32: No such signal"]);
    fails("sig send 99999999 0", 2, &["no such process"]);
    fails("sig send 0 TERM", 1, &["0: a process id is a number above 0"]);
    fails("sig send self TERM", 1, &["self: a process id"]);
    fails(&format!("sig send {own} 0 --value 1"), 1, &["carries no value"]);
    for usage in ["sig", "sig send", "sig send 1", "sig send 1 TERM --value x", "sig catch"] {
        assert_eq!(run(usage).code, 1, "{usage}");
    }
    let c = CProgram::compile("signals");
    let mut threads = Talking::start(&mut c.command(&["masks"]));
    assert_eq!(threads.line(), "ready");
    let state = ipc::signal_state::of(Pid::from_child(&threads.child)).unwrap();
    let second = state.threads.iter().find(|t| t.name == "second").unwrap().id;
    fails(
        &format!("sig send {second} TERM"),
        2,
        &[&format!("process {second}: is a thread; its process is {}", threads.pid())],
    );
    if let Some(run) =
        as_nobody("signals_are_sent_by_name_and_number", &format!("sig send {own} TERM"))
    {
        assert_eq!(run.code, 2);
        assert!(run.err.contains("not permitted (another user's, and no CAP_KILL)"), "{run:?}");
    }
}

#[test]
fn values_are_queued_in_order_up_to_the_limit() {
    let c = CProgram::compile("signals");
    let mut receiver = Talking::start(&mut c.command(&["values", "5"]));
    assert_eq!(receiver.line(), "ready");
    let pid = receiver.pid();
    for (signal, value) in
        [("RTMIN+1", 10), ("RTMIN", 1), ("RTMIN+1", 11), ("SIGRTMIN", -2), ("RTMIN", 3)]
    {
        ok(&format!("sig send {pid} {signal} --value {value}"));
    }
    let got: Vec<String> = receiver
        .rest()
        .iter()
        .map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(got, ["0 1 1", "0 -2 1", "0 3 1", "1 10 1", "1 11 1"]);

    let mut receiver = Talking::start(&mut c.command(&["values", "0", "3"]));
    assert_eq!(receiver.line(), "ready");
    let pid = receiver.pid();
    let refused = loop {
        let run = run(&format!("sig send {pid} RTMIN --value 1"));
        if run.code != 0 {
            break run;
        }
    };
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(
        refused
            .err
            .contains("its user has 3 signals queued, its limit (RLIMIT_SIGPENDING, ulimit -i)"),
        "{refused:?}"
    );

    // From C to ours: values, in order, with who sent them.
    let mut ours = Talking::start(&mut command("sig catch 1h RTMIN RTMIN+1 -v --count 3"));
    until_caught(ours.pid(), "RTMIN+1".parse().unwrap());
    ours.signal(Signal::STOP);
    for (offset, value) in [(1, 5), (0, 6), (0, -7)] {
        let number = "RTMIN".parse::<Signal>().unwrap().number() + offset;
        c.ok(&["kill", &ours.pid().to_string(), &number.to_string(), &value.to_string()]);
    }
    ours.signal(Signal::CONT);
    let told: Vec<String> = ours
        .rest()
        .iter()
        .map(|line| {
            let (head, tail) = line.split_once(" from process ").unwrap();
            format!("{head} {}", tail.split_once(", ").unwrap().1)
        })
        .collect();
    assert_eq!(
        told,
        [
            "[Caught: Real-time signal 0] user 0, value 6",
            "[Caught: Real-time signal 0] user 0, value -7",
            "[Caught: Real-time signal 1] user 0, value 5",
        ]
        .map(|line| line.replace("user 0", &format!("user {}", rustix::process::getuid().as_raw())))
    );
    assert_eq!(ours.code(), 0);
}

#[test]
fn catch_prints_catches_and_goes_on() {
    let mut catching = Talking::start(&mut command("sig catch 10ms INT sigusr1 -v"));
    let pid = catching.pid();
    for _ in 0..3 {
        assert_eq!(catching.line(), format!("PID: {pid}"));
    }
    let state = ok(&format!("sig show {pid}"));
    assert!(state.contains("\ncaught   INT,USR1\n"), "{state}");
    // The referee's bits: 2 and 10.
    let ps = Command::new("ps").args(["-o", "caught=", "-p", &pid.to_string()]).output().unwrap();
    assert_eq!(u64::from_str_radix(seen(&ps).out.trim(), 16).unwrap(), 1 << 1 | 1 << 9);
    let own =
        format!("process {}, user {}", std::process::id(), rustix::process::getuid().as_raw());
    for (signal, text) in [
        (Signal::INT, "Interrupt"),
        (Signal::USR1, "User defined signal 1"),
        (Signal::INT, "Interrupt"),
    ] {
        catching.signal(signal);
        let caught = loop {
            let line = catching.line();
            if line != format!("PID: {pid}") {
                break line;
            }
        };
        assert_eq!(caught, format!("[Caught: {text}] from {own}"));
    }
    assert_eq!(catching.line(), format!("PID: {pid}"), "it goes on");
    catching.signal(Signal::TERM);
    assert_eq!(catching.code(), 143, "one that isn't named acts as by default");
}

#[test]
fn catch_takes_everything_as_by_default_and_knows_what_cant_be_caught() {
    // Ignored by who starts it: not by it.
    let script = format!("trap '' HUP; exec {} sig catch 10ms", env!("CARGO_BIN_EXE_ipc"));
    for signal in [Signal::HUP, Signal::PIPE, Signal::USR2] {
        let mut catching = Talking::start(Command::new("bash").args(["-c", &script]));
        catching.line();
        catching.signal(signal);
        assert_eq!(catching.code(), 128 + signal.number());
    }
    for name in ["KILL", "SIGSTOP", "9"] {
        fails(&format!("sig catch 1s INT {name}"), 1, &[name, "can't be caught"]);
    }
    fails("sig catch 1s FOO", 1, &["FOO: No such signal"]);
    for usage in ["sig catch 0 INT", "sig catch x INT", "sig catch -1s INT"] {
        assert_eq!(run(usage).code, 1, "{usage}");
    }
    // Without -v the bare text; a closed output ends it quietly.
    let script = format!("{} sig catch 1ms | head -n 2", env!("CARGO_BIN_EXE_ipc"));
    let run = seen(&Command::new("bash").args(["-c", &script]).output().unwrap());
    assert_eq!((run.out.lines().count(), run.err.as_str()), (2, ""));
}

#[test]
fn show_decodes_masks_by_thread() {
    let c = CProgram::compile("signals");
    let mut process = Talking::start(&mut c.command(&["masks"]));
    assert_eq!(process.line(), "ready");
    let pid = process.pid();
    process.signal(Signal::USR2); // held back by both threads
    // Without the two signals that the C library keeps for itself.
    let own = |text: &str| text.replace(",32", "").replace(",33", "");
    let shown = own(&ok(&format!("sig show {pid}")));
    for line in ["name     signals", "pending  USR2", "ignored  HUP", "caught   INT,RTMIN+2"] {
        assert!(shown.lines().any(|l| l == line), "{line} in {shown}");
    }
    let rows: Vec<Vec<&str>> =
        shown.lines().rev().take(2).map(|line| line.split_ascii_whitespace().collect()).collect();
    assert_eq!(rows[0][1..], ["second", "USR2,RTMIN+1", "USR2"]);
    assert_eq!(rows[1], [&pid.to_string(), "signals", "USR1,USR2", "-"]);
    // The referee's bits.
    let columns = "ignored=,caught=,blocked=";
    let ps = Command::new("ps").args(["-o", columns, "-p", &pid.to_string()]).output().unwrap();
    let masks: Vec<String> = seen(&ps)
        .out
        .split_ascii_whitespace()
        .map(|hex| ipc::signal_state::Mask(u64::from_str_radix(hex, 16).unwrap()).to_string())
        .map(|names| own(&names))
        .collect();
    assert_eq!(masks, ["HUP", "INT,RTMIN+2", "USR1,USR2"]);
    let json: serde_json::Value = serde_json::from_str(&ok(&format!("sig show {pid} -J"))).unwrap();
    let caught = json["caught"].as_array().unwrap();
    assert_eq!((&caught[0], caught.last().unwrap()), (&"INT".into(), &"RTMIN+2".into()));
    assert_eq!(json["threads"][1]["pending"], serde_json::json!(["USR2"]));
    assert!(json["queued-max"].as_u64().unwrap() > 0);
    fails("sig show 99999999", 2, &["process 99999999: no such process"]);
    assert_eq!(run("sig show x").code, 1);
}

#[test]
fn any_process_can_be_waited_for() {
    fails("sig wait 99999999", 2, &["no such process"]);
    fails(&format!("sig wait {} --timeout 20ms", std::process::id()), 4, &["timed out"]);
    assert_eq!(run("sig wait 0").code, 1);
    let mut sleeping = Command::new("sleep").arg("1000").spawn().unwrap();
    let waiting = Running::start(&format!("sig wait {}", sleeping.id()));
    waiting.until_in(&[7, 271]);
    sleeping.kill().unwrap();
    // (A zombie has ended: it needn't be reaped.)
    let run = waiting.end();
    sleeping.wait().unwrap();
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", ""));
}

fn kernel_tells_how_others_ended() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 15)
}

#[test]
fn how_another_process_ended_is_told_where_the_kernel_knows() {
    for (script, end) in [("exit 7", "exit 7"), ("kill -KILL $$", "Terminated: Killed")] {
        // Reaped by its parent, a shell, in the end.
        let script = format!("exec 3<&0; sh -c 'read x <&3; {script}' & echo $!; wait");
        let mut shell = Talking::start(Command::new("sh").args(["-c", &script]));
        let pid = shell.line();
        let waiting = Running::start(&format!("sig wait {pid} -v"));
        waiting.until_in(&[7, 271]);
        shell.rest();
        shell.code();
        let run = waiting.end();
        assert_eq!(run.code, 0);
        let unknown = "ended; how, only its parent is told";
        let told = [end, unknown].map(|how| format!("process {pid}: {how}\n"));
        assert!(told.contains(&run.err), "{run:?}");
        if !kernel_tells_how_others_ended() {
            assert_eq!(run.err, told[1]);
        }
    }
}

#[test]
fn the_demonstrations_are_the_specifications() {
    let shown = ok("demo signals");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[..4], ["-- ctrl-c", "press Ctrl-C", "Ctrl-C pressed", "Bye Bye"]);
    let rest = [
        "exit 0",
        "-- abort",
        "abort? y/n",
        "process is aborted",
        "Bye Bye",
        "Terminated: Aborted",
        "-- raise",
        "Signal 10 received",
        "exit 0",
        "-- receiver",
    ];
    assert_eq!(lines[4..14], rest);
    assert!(lines[14].starts_with("PID: "));
    assert_eq!(lines[15..], ["Signal 10 received", "exit 0"]);
    assert_eq!(ok("demo endless --interval 1ms --count 3"), "1\n2\n3\n");
    assert_eq!(support::with_input("demo signals abort", b"n\n").code, 0);
}

#[test]
fn the_parent_counts_tells_and_ends_its_child() {
    let mut parent = Talking::start(&mut command("child 10ms QUIT HUP USR1"));
    let first = parent.line();
    let child: u32 = first.strip_prefix("Forking a child: ").unwrap().parse().unwrap();
    let printed = format!("PID: {child}");
    assert_eq!(parent.line(), printed);
    let next = |parent: &mut Talking| loop {
        let line = parent.line();
        if line != printed {
            break line;
        }
    };
    let mut told = |signal| {
        parent.signal(signal);
        next(&mut parent)
    };
    assert_eq!(told(Signal::HUP), "[Caught: Hangup]");
    assert_eq!(told(Signal::QUIT), "[Caught: Quit] 1 of 3");
    assert_eq!(told(Signal::USR1), "[Caught: User defined signal 1]");
    assert_eq!(told(Signal::QUIT), "[Caught: Quit] 2 of 3");
    let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
    assert!(!state.contains(") Z "), "it runs");
    assert_eq!(told(Signal::QUIT), "[Caught: Quit] 3 of 3");
    let rest: Vec<String> =
        parent.rest().into_iter().filter(|line| *line != format!("PID: {child}")).collect();
    assert_eq!(rest, ["And finally…", "Terminated: Terminated"]);
    assert_eq!(parent.code(), 0);
    assert!(!std::path::Path::new(&format!("/proc/{child}")).exists(), "reaped");
}

#[test]
fn how_a_child_ends_is_told() {
    for (script, end) in [
        ("exit 0", "exit 0"),
        ("exit 3", "exit 3"),
        ("kill -KILL $$", "Terminated: Killed"),
        ("kill -USR2 $$", "Terminated: User defined signal 2"),
    ] {
        let told = ok(&format!("child 1h QUIT -- sh -c '{script}'"));
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[0].starts_with("Forking a child: "), "{told}");
        assert_eq!(lines[1..], ["And finally…", end]);
    }
    // A dump, where the system writes one.
    let dir = tempfile::tempdir().unwrap();
    let mut dumped = command("child 1h QUIT -- sh -c 'ulimit -c unlimited; kill -SEGV $$'");
    let told = seen(&dumped.current_dir(dir.path()).output().unwrap()).out;
    let end = told.lines().last().unwrap();
    let text = "Terminated: Segmentation fault";
    assert!(end == text || end == format!("{text} (core dumped)"), "{told}");
}

#[test]
fn stopped_and_continued_are_told() {
    let mut parent = Talking::start(&mut command("child 1h USR1 --times 1 -- sleep 1000"));
    let child: i32 = parent.line().rsplit(' ').next().unwrap().parse().unwrap();
    let child = Pid::from_raw(child).unwrap();
    ipc::signal::send(child, Signal::STOP).unwrap();
    assert_eq!(parent.line(), "The child: Stopped: Stopped (signal)");
    ipc::signal::send(child, Signal::CONT).unwrap();
    assert_eq!(parent.line(), "The child: Continued");
    ipc::signal::send(child, Signal::STOP).unwrap();
    assert_eq!(parent.line(), "The child: Stopped: Stopped (signal)");
    // A stopped one is ended, too.
    parent.signal(Signal::USR1);
    assert_eq!(parent.line(), "[Caught: User defined signal 1] 1 of 1");
    let rest: Vec<String> =
        parent.rest().into_iter().filter(|line| line != "The child: Continued").collect();
    assert_eq!(rest, ["And finally…", "Terminated: Terminated"]);
}

#[test]
fn a_child_may_end_in_order_or_has_to() {
    for (script, end) in [
        ("trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done", "exit 0"),
        ("trap '' TERM; echo ready; while :; do sleep 0.01; done", "Terminated: Killed"),
    ] {
        let mut command = command("child 1h USR1 --times 1 -- sh -c");
        let mut parent = Talking::start(command.arg(script));
        // Both write at once: either may be the first.
        let lines = [parent.line(), parent.line()];
        assert!(lines.contains(&"ready".to_owned()), "{lines:?}");
        parent.signal(Signal::USR1);
        assert_eq!(parent.line(), "[Caught: User defined signal 1] 1 of 1");
        assert_eq!(parent.rest(), ["And finally…", end]);
        assert_eq!(parent.code(), 0);
    }
}

#[test]
fn a_child_is_not_left_behind() {
    for signal in [Signal::KILL, Signal::TERM] {
        let mut parent = Talking::start(&mut command("child 1h QUIT -- sleep 1000"));
        let child: i32 = parent.line().rsplit(' ').next().unwrap().parse().unwrap();
        let child = ipc::pidfd::open(Pid::from_raw(child).unwrap()).unwrap();
        parent.signal(signal);
        assert_eq!(parent.code(), 128 + signal.number());
        assert!(ipc::pidfd::wait(&child, None).unwrap());
    }
}

#[test]
fn every_error_of_child() {
    fails("child 1s KILL", 1, &["KILL", "can't be caught"]);
    fails("child 1s QUIT STOP", 1, &["STOP", "can't be caught"]);
    fails("child 1s FOO", 1, &["FOO: No such signal"]);
    fails("child 1s QUIT -- /nonexistent/command", 2, &["/nonexistent/command: No such file"]);
    for usage in ["child", "child 1s", "child x QUIT", "child 1s QUIT --times 0"] {
        assert_eq!(run(usage).code, 1, "{usage}");
    }
}
