//! `ipc mq` end to end: every verb and every error, POSIX and System V, with C
//! programs on the other side and the system's own tools as referees.
mod support;

use std::process::Command;

use ipc::signal::Signal;
use support::{
    CProgram, Key, Name, Running, as_nobody, fails, in_own_ipc_namespace, is_root, not_run, ok,
    run, seen, with_input,
};

#[test]
fn the_highest_priority_first_and_the_oldest_within_it() {
    let q = Name::new("order");
    ok(&format!("mq create {q} --maxmsg 10 --msgsize 2048 --excl"));
    for (priority, text) in [(5, "Five"), (10, "Ten"), (5, "Five_2"), (3, "Three"), (7, "Seven")] {
        ok(&format!("mq send {q} {text} --prio {priority}"));
    }
    let stat = ok(&format!("mq stat {q}"));
    assert!(stat.starts_with("QSIZE:23 NOTIFY:0 SIGNO:0 NOTIFY_PID:0\n"), "{stat}");
    for field in ["maxmsg   10", "msgsize  2048", "curmsgs  5", "perms    rw-------", "flags    -"]
    {
        assert!(stat.contains(field), "{field} in {stat}");
    }
    let mut read = String::new();
    for (text, priority) in [("Ten", 10), ("Seven", 7), ("Five", 5), ("Five_2", 5), ("Three", 3)] {
        let run = run(&format!("mq recv {q} -v"));
        assert_eq!((run.code, run.out.as_str()), (0, text));
        assert_eq!(run.err, format!("Read {} bytes; priority = {priority}\n", text.len()));
        read.push_str(&run.out);
    }
    assert_eq!(read, "TenSevenFiveFive_2Three");
}

#[test]
fn content_is_passed_byte_for_byte() {
    let q = Name::new("bytes");
    ok(&format!("mq create {q} --msgsize 1K"));
    let every: Vec<u8> = (0..=255).collect();
    assert_eq!(with_input(&format!("mq send {q} -"), &every).code, 0);
    let output = support::command(&format!("mq recv {q}")).output().unwrap();
    assert_eq!(output.stdout, every);
    assert_eq!(with_input(&format!("mq send {q} -"), b"").code, 0);
    assert_eq!(ok(&format!("mq recv {q}")), "", "an empty message is one");
}

#[test]
fn several_queues_at_once() {
    let (a, b) = (Name::new("several-a"), Name::new("several-b"));
    for q in [&a, &b] {
        ok(&format!("mq create {q} --msgsize 1K"));
    }
    for (q, text, priority) in
        [(&a, "a1", 1), (&a, "a9", 9), (&b, "b5", 5), (&b, "b7", 7), (&a, "a7", 7)]
    {
        ok(&format!("mq send {q} {text} --prio {priority}"));
    }
    let got = run(&format!("mq recv {a} {b} --count 5 -v"));
    assert_eq!(got.out, "a9b7a7b5a1", "{}", got.err);
    assert!(got.err.contains(&format!("Read 2 bytes; priority = 9; queue = {a}\n")));
    // Never more are taken than asked for.
    ok(&format!("mq send {a} one"));
    ok(&format!("mq send {b} two"));
    ok(&format!("mq recv {a} {b}"));
    let left = [&a, &b].map(|q| ok(&format!("mq stat {q}")).contains("curmsgs  1"));
    assert_eq!(left.iter().filter(|l| **l).count(), 1);
    // Asleep on both, woken by the second.
    let _ = run(&format!("mq recv {a} {b} --nonblock"));
    let waiting = Running::start(&format!("mq recv {a} {b}"));
    waiting.until_in(&[libc_epoll_wait(), 281, 441]);
    ok(&format!("mq send {b} late"));
    assert_eq!(waiting.end().out, "late");
}

/// epoll_wait, by its number on x86-64 (the other two are its newer forms).
fn libc_epoll_wait() -> i64 {
    232
}

#[test]
fn follow_goes_on_until_the_time_is_up() {
    let q = Name::new("follow");
    ok(&format!("mq create {q} --msgsize 1K"));
    for text in ["a", "b", "c"] {
        ok(&format!("mq send {q} {text}"));
    }
    let got = run(&format!("mq recv {q} --follow --timeout 20ms"));
    assert_eq!((got.code, got.out.as_str()), (4, "abc"));
    let key = Key::new();
    ok(&format!("mq create --sysv --key {key}"));
    ok(&format!("mq send --sysv --key {key} x"));
    let got = run(&format!("mq recv --sysv --key {key} --follow --timeout 20ms"));
    assert_eq!((got.code, got.out.as_str()), (4, "x"));
    assert_eq!(run(&format!("mq recv {q} --follow --count 2")).code, 1);
}

#[test]
fn every_error_of_a_posix_queue() {
    let q = Name::new("errors");
    fails(&format!("mq send {q} x"), 2, &["mq send", &q.0, "no such queue", "create"]);
    fails(&format!("mq rm {q}"), 2, &["mq rm", "no such queue"]);
    ok(&format!("mq create {q} --maxmsg 2 --msgsize 4"));
    fails(&format!("mq create {q} --excl"), 2, &["mq create", "exists already", "--excl"]);
    ok(&format!("mq create {q} --msgsize 1K"));
    fails(&format!("mq send {q} 12345"), 2, &["a message of 5 bytes; the queue takes at most 4"]);
    fails(&format!("mq send {q} x --prio 32768"), 1, &["priority 32768: at most 32767"]);
    fails(&format!("mq recv {q} --nonblock"), 4, &["empty", "--nonblock"]);
    fails(&format!("mq recv {q} --timeout 20ms"), 4, &["timed out"]);
    ok(&format!("mq send {q} a"));
    ok(&format!("mq send {q} b"));
    fails(&format!("mq send {q} c --nonblock"), 4, &["full, it holds 2 messages"]);
    fails(&format!("mq send {q} c --timeout 20ms"), 4, &["timed out"]);
    for bad in ["name", "/", "/a/b", "/..", &format!("/{}", "x".repeat(256))] {
        fails(&format!("mq create {bad}"), 1, &["no name for a queue", "a name is like /name"]);
    }
    ok(&format!("mq create /{}", "x".repeat(255)));
    ok(&format!("mq rm /{}", "x".repeat(255)));
    for usage in [
        "mq",
        "mq send",
        "mq frob",
        "mq create",
        "mq recv --count x /q",
        "mq send /q a b",
        "mq create /q --mode 9",
        "mq recv /q --timeout 1x",
        "mq send /q x --type 3",
        "mq create --sysv",
    ] {
        assert_eq!(run(usage).code, 1, "{usage}");
    }
    assert_eq!(run("mq --help").code, 0);
}

#[test]
fn the_limits_are_named() {
    let limits = ipc::mq::limits();
    let q = Name::new("limits");
    let over = if is_root() { None } else { Some(limits.msg_max + 1) };
    if let Some(over) = over {
        fails(&format!("mq create {q} --maxmsg {over}"), 2, &["/proc/sys/fs/mqueue/msg_max"]);
    } else if let Some(run) =
        as_nobody("the_limits_are_named", &format!("mq create {q} --maxmsg {}", limits.msg_max + 1))
    {
        assert_eq!(run.code, 2);
        assert!(run.err.contains("/proc/sys/fs/mqueue/msg_max"), "{}", run.err);
    }
    // The user's bytes: with a limit of none.
    let ipc = env!("CARGO_BIN_EXE_ipc");
    let small = seen(
        &Command::new("bash")
            .args(["-c", &format!("ulimit -q 100 && exec {ipc} mq create {q}")])
            .output()
            .unwrap(),
    );
    assert_eq!(small.code, 2, "{small:?}");
    assert!(small.err.contains("100 bytes in all (RLIMIT_MSGQUEUE"), "{}", small.err);
    let table = ok("mq ls --limits -r");
    assert!(table.contains(&format!("msg_max messages in a queue {}", limits.msg_max)), "{table}");
    assert!(table.contains("RLIMIT_MSGQUEUE"), "{table}");
}

#[test]
fn another_user_is_refused() {
    let q = Name::new("permission");
    ok(&format!("mq create {q} --mode 0600 --msgsize 1K"));
    for verb in
        [format!("mq send {q} x"), format!("mq recv {q} --nonblock"), format!("mq stat {q}")]
    {
        let Some(run) = as_nobody("another_user_is_refused", &verb) else { return };
        assert_eq!(run.code, 2, "{verb}: {run:?}");
        assert!(run.err.contains("permission denied; stat shows"), "{}", run.err);
    }
    let open = Name::new("permission-open");
    ok(&format!("mq create {open} --mode 0666 --msgsize 1K"));
    assert_eq!(as_nobody("another_user_is_refused", &format!("mq send {open} x")).unwrap().code, 0);
}

#[test]
fn a_stopped_and_continued_wait_goes_on_and_an_interrupted_one_ends() {
    let q = Name::new("interrupted");
    ok(&format!("mq create {q} --msgsize 1K"));
    let calls = [libc_epoll_wait(), 281, 441];
    let waiting = Running::start(&format!("mq recv {q}"));
    waiting.until_in(&calls);
    waiting.signal(Signal::STOP);
    waiting.signal(Signal::CONT);
    waiting.until_in(&calls);
    ok(&format!("mq send {q} still-here"));
    assert_eq!(waiting.end().out, "still-here");
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let waiting = Running::start(&format!("mq recv {q}"));
        waiting.until_in(&calls);
        waiting.signal(signal);
        assert_eq!(waiting.end().code, code);
    }
}

#[test]
fn a_queue_removed_while_waiting_lives_on_for_who_has_it_open() {
    let q = Name::new("removed");
    ok(&format!("mq create {q} --msgsize 1K"));
    let waiting = Running::start(&format!("mq recv {q} --timeout 200ms"));
    waiting.until_in(&[libc_epoll_wait(), 281, 441]);
    ok(&format!("mq rm {q}"));
    fails(&format!("mq send {q} x"), 2, &["no such queue"]);
    assert_eq!(waiting.end().code, 4);
}

#[test]
fn notify_is_told_of_the_first_message() {
    let q = Name::new("notify");
    ok(&format!("mq create {q} --msgsize 1K"));
    fails(&format!("mq notify {q} --timeout 20ms"), 4, &["timed out"]);
    let waiting = Running::start(&format!("mq notify {q}"));
    let subscribed = format!("NOTIFY_PID:{}", waiting.pid());
    while !ok(&format!("mq stat {q}")).contains(&subscribed) {
        std::thread::sleep(core::time::Duration::from_millis(1));
    }
    let peek = ok(&format!("mq peek {q}"));
    assert_eq!(
        peek,
        format!(
            "{q}: the content of a POSIX queue can't be peeked: 0 messages, 0 bytes; process {} is to be notified\n",
            waiting.pid()
        )
    );
    fails(
        &format!("mq notify {q}"),
        2,
        &[&format!("process {} is to be notified already", waiting.pid())],
    );
    let row = ok("mq ls -r --noheadings -o NAME,NOTIFYPID,HOLDERS,ORPHAN");
    let pid = waiting.pid();
    assert!(row.contains(&format!("{q} {pid} {pid} no\n")), "{row}");
    ok(&format!("mq send {q} x"));
    let run = waiting.end();
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        run.out.starts_with(&format!("{q}: a message has arrived, sent by process ")),
        "{run:?}"
    );
    // There already: said at once.
    assert_eq!(ok(&format!("mq notify {q}")), format!("{q}: 1 messages are there already\n"));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let q = Name::new("pipe");
    ok(&format!("mq create {q} --msgsize 1K"));
    ok(&format!("mq send {q} x"));
    let ipc = env!("CARGO_BIN_EXE_ipc");
    let run = seen(
        &Command::new("bash")
            .args(["-c", &format!("set -o pipefail; (sleep 0.05; {ipc} mq recv {q}) | true")])
            .output()
            .unwrap(),
    );
    assert_eq!((run.code, run.err.as_str()), (0, ""));
}

#[test]
fn the_mounted_file_system_says_the_same() {
    if !is_root() {
        return not_run("the_mounted_file_system_says_the_same", "mount needs root");
    }
    let q = Name::new("mounted");
    ok(&format!("mq create {q} --mode 0640 --msgsize 1K"));
    ok(&format!("mq send {q} 12345"));
    let ipc = env!("CARGO_BIN_EXE_ipc");
    // In a mount namespace of its own: nothing of the machine changes.
    let script = format!(
        "d=$(mktemp -d) && mount -t mqueue none $d && cat $d{q} | tr -s ' ' && stat -c '%a %n' $d{q} | sed s,$d,, && {ipc} mq ls -r --noheadings -o NAME,PERMS,MSGS | grep {q}; umount $d; rmdir $d"
    );
    let run =
        seen(&Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap());
    assert_eq!(run.code, 0, "{run:?}");
    let lines: Vec<&str> = run.out.lines().map(str::trim).collect();
    assert_eq!(lines[0], "QSIZE:5 NOTIFY:0 SIGNO:0 NOTIFY_PID:0");
    assert_eq!(lines[1], format!("640 {q}"));
    assert_eq!(lines[2], format!("{q} rw-r----- 1"));
    // And without a mount: the same line.
    assert!(ok(&format!("mq stat {q}")).starts_with("QSIZE:5 NOTIFY:0 SIGNO:0 NOTIFY_PID:0\n"));
    let row = ok("mq ls -r --noheadings -o NAME,PERMS,MSGS,USEDBYTES");
    assert!(row.contains(&format!("{q} rw-r----- 1 5B\n")), "{row}");
    let json = ok("mq ls -J -o NAME,MSGS");
    assert!(json.contains(&format!("\"name\": \"{q}\"")), "{json}");
}

#[test]
fn posix_queues_and_c_programs() {
    let c = CProgram::compile("interop");
    let q = Name::new("c");
    c.ok(&["mq_create", &q.0]);
    ok(&format!("mq send {q} hello --prio 3"));
    assert_eq!(c.ok(&["mq_receive", &q.0]), "hello 3\n");
    c.ok(&["mq_send", &q.0, "9", "from C"]);
    let run = run(&format!("mq recv {q} -v"));
    assert_eq!((run.out.as_str(), run.err.as_str()), ("from C", "Read 6 bytes; priority = 9\n"));
    c.ok(&["mq_unlink", &q.0]);
    fails(&format!("mq stat {q}"), 2, &["no such queue"]);
}

#[test]
fn system_v_queues_by_key_and_by_type() {
    let key = Key::new();
    let id = ok(&format!("mq create --sysv --key {key} --excl --mode 0640"));
    let id = id.trim();
    fails(&format!("mq create --sysv --key {key} --excl"), 2, &["exists already"]);
    for (kind, text) in [(2, "b"), (1, "a"), (2, "c"), (5, "e")] {
        ok(&format!("mq send --sysv --key {key} {text} --type {kind}"));
    }
    assert_eq!(
        ok(&format!("mq peek --sysv {id}")),
        "0 type 2 1 bytes b\n1 type 1 1 bytes a\n2 type 2 1 bytes c\n3 type 5 1 bytes e\n"
    );
    let ids = Command::new("ipcs").args(["-q", "-i", id]).output().unwrap();
    let referee = seen(&ids).out;
    for part in ["mode=0640", "qnum=4", "cbytes=4"] {
        assert!(referee.contains(part), "{part} in {referee}");
    }
    let list = seen(
        &Command::new("lsipc").args(["-q", "-r", "-o", "ID,KEY,MSGS,PERMS"]).output().unwrap(),
    );
    let ours = ok("mq ls --sysv -r -o ID,KEY,MSGS,PERMS");
    let row =
        |text: &str| text.lines().find(|l| l.starts_with(&format!("{id} "))).map(str::to_owned);
    assert_eq!(row(&ours), row(&list.out), "as lsipc says");
    assert!(row(&ours).is_some());

    assert_eq!(ok(&format!("mq recv --sysv {id} --type 2")), "b");
    assert_eq!(ok(&format!("mq recv --sysv {id} --type -2")), "a");
    let run = run(&format!("mq recv --sysv {id} --count 2 -v"));
    assert_eq!(run.out, "ce");
    assert_eq!(run.err, "Read 1 bytes; type = 2\nRead 1 bytes; type = 5\n");
    fails(&format!("mq recv --sysv {id} --nonblock"), 4, &["no message of the wanted type"]);
    fails(&format!("mq recv --sysv {id} --timeout 20ms"), 4, &["timed out"]);
    fails(&format!("mq send --sysv {id} x --type 0"), 1, &["a message's type is 1 or more"]);
    let long = "x".repeat(ipc::sysv::queue::message_bytes_max() + 1);
    fails(&format!("mq send --sysv {id} {long}"), 2, &["kernel.msgmax"]);
    fails(&format!("mq recv --sysv {id} {id}"), 1, &["only one can be waited for"]);

    // Full: as many bytes as it may hold.
    let most = ipc::sysv::queue::queue_bytes_max() / 4096;
    let piece = "y".repeat(4096);
    for _ in 0..most {
        ok(&format!("mq send --sysv {id} {piece}"));
    }
    fails(&format!("mq send --sysv {id} {piece} --nonblock"), 4, &["would have to wait"]);
    fails(&format!("mq send --sysv {id} {piece} --timeout 20ms"), 4, &["timed out"]);

    // Removed while somebody waits.
    let waiting = Running::start(&format!("mq send --sysv {id} {piece}"));
    waiting.until_in(&[69]); // msgsnd
    ok(&format!("mq rm --sysv {id}"));
    let run = waiting.end();
    assert_eq!(run.code, 2);
    assert!(run.err.contains("was removed"), "{}", run.err);
    fails(&format!("mq stat --sysv {id}"), 2, &["no such object"]);
    fails(&format!("mq stat --sysv --key {key}"), 2, &["no such object"]);
}

#[test]
fn system_v_queues_and_another_user() {
    let key = Key::new();
    ok(&format!("mq create --sysv --key {key} --mode 0600"));
    let Some(run) =
        as_nobody("system_v_queues_and_another_user", &format!("mq send --sysv --key {key} x"))
    else {
        return;
    };
    assert_eq!(run.code, 2);
    assert!(run.err.contains("permission denied"), "{}", run.err);
}

#[test]
fn system_v_queues_and_c_programs() {
    let c = CProgram::compile("interop");
    let key = Key::new();
    ok(&format!("mq create --sysv --key {key}"));
    ok(&format!("mq send --sysv --key {key} hello --type 4"));
    let k = key.to_string();
    assert_eq!(c.ok(&["msg_receive", &k, "0"]), "hello 4\n");
    c.ok(&["msg_send", &k, "6", "from C"]);
    assert_eq!(ok(&format!("mq recv --sysv --key {key} --type 6")), "from C");
    let stat = ok(&format!("mq stat --sysv --key {key} -J"));
    assert!(stat.contains("\"messages\":0"), "{stat}");
}

#[test]
fn keys_of_files_are_ftoks() {
    let c = CProgram::compile("interop");
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let key: i32 = c.ok(&["ftok", path, "65"]).trim().parse().unwrap();
    let id = ok(&format!("mq create --sysv --ftok {path}:A --excl"));
    let stat = ok(&format!("mq stat --sysv --key {key}"));
    assert!(stat.contains(&format!("id             {}", id.trim())), "{stat}");
    ok(&format!("mq rm --sysv --ftok {path}:A"));
    fails("mq create --sysv --ftok /nonexistent:A", 2, &["/nonexistent: ftok: No such file"]);
}

#[test]
fn as_many_queues_as_the_system_allows() {
    let test = "as_many_queues_as_the_system_allows";
    // The limit holds for who has CAP_SYS_RESOURCE no more: take that away.
    let script = "echo 1 > /proc/sys/fs/mqueue/queues_max
        echo 1 > /proc/sys/kernel/msgmni
        exec setpriv --bounding-set -sys_resource --inh-caps -sys_resource sh -c '
        ipc mq create /a || exit 9
        ipc mq create /b; echo $?
        ipc mq create --sysv --key 7 >/dev/null || exit 9
        ipc mq create --sysv --key 8; echo $?
        ipc mq ls --limits -r --noheadings | grep queues_max
        ipc mq ls --sysv --limits -r --noheadings | grep MSGMNI'";
    let Some(run) = in_own_ipc_namespace(test, script) else { return };
    assert_eq!(
        run.out, "2\n2\nqueues_max queues 1 1 100.00%\nMSGMNI queues 1 1 100.00%\n",
        "{}",
        run.err
    );
    let lines: Vec<&str> = run.err.lines().collect();
    assert_eq!(
        lines,
        [
            "ipc: mq create: /b: there are as many queues as /proc/sys/fs/mqueue/queues_max allows, 1; \
             rm removes one, ls --limits shows the limit and what is used",
            "ipc: mq create: queue with key 0x00000008: the system has as many as kernel.msgmni allows, 1; \
             rm removes one, ls --limits shows the limit and what is used",
        ]
    );
}

#[test]
fn a_system_v_queue_removed_under_a_receiver() {
    let key = Key::new();
    let id = ok(&format!("mq create --sysv --key {key}"));
    let id = id.trim();
    // With and without a time limit: one sleeps in the kernel, the other looks.
    let waiting = Running::start(&format!("mq recv --sysv {id}"));
    waiting.until_in(&[70]); // msgrcv
    let limited = Running::start(&format!("mq recv --sysv {id} --timeout 60s"));
    limited.until_in(&[230, 35]); // clock_nanosleep, nanosleep
    ok(&format!("mq rm --sysv {id}"));
    for waiting in [waiting, limited] {
        let run = waiting.end();
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{run:?}");
        assert!(run.err.contains(&format!("queue {id}: was removed")), "{}", run.err);
    }
}

#[test]
fn a_queue_is_shown_by_a_processs_descriptor() {
    use std::os::fd::{AsFd, AsRawFd};
    let q = Name::new("descriptor");
    ok(&format!("mq create {q} --maxmsg 3 --msgsize 64"));
    ok(&format!("mq send {q} hello"));
    let queue = ipc::mq::Queue::open(&q.0, ipc::mq::Access::Send).unwrap();
    ok(&format!("mq rm {q}"));
    let place = format!("{}:{}", std::process::id(), queue.as_fd().as_raw_fd());
    let stat = ok(&format!("mq stat {place}"));
    assert!(stat.starts_with("QSIZE:5 NOTIFY:0 SIGNO:0 NOTIFY_PID:0\n"), "{stat}");
    assert!(stat.contains("maxmsg   3\nmsgsize  64\ncurmsgs  1\n"), "{stat}");
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let place = format!("{}:{}", std::process::id(), file.as_raw_fd());
    fails(&format!("mq stat {place}"), 2, &[&format!("{place}: is no message queue")]);
    fails(&format!("mq stat {}:9999", std::process::id()), 2, &["no such queue"]);
}

#[test]
fn readers_and_writers_are_told_apart() {
    let q = Name::new("sides");
    ok(&format!("mq create {q} --msgsize 1K"));
    let _held = ipc::mq::Queue::open(&q.0, ipc::mq::Access::Send).unwrap();
    let reading = Running::start(&format!("mq recv {q}"));
    reading.until_in(&[libc_epoll_wait(), 281, 441]);
    let row = ok("mq ls -r --noheadings -o TYPE,NAME,READERS,WRITERS,ORPHAN");
    let (reader, writer) = (reading.pid(), std::process::id());
    assert!(row.contains(&format!("posix {q} {reader} {writer} no\n")), "{row}");
}

/// Where the administrator allows longer messages they come whole, and stay
/// whole when they are only looked at.
#[test]
fn a_message_longer_than_the_usual_limit_comes_whole() {
    let script = "echo 100000 > /proc/sys/kernel/msgmax; echo 200000 > /proc/sys/kernel/msgmnb
        id=$(ipc mq create --sysv --key 0x77)
        head -c 50000 /dev/zero | tr '\\0' x | ipc mq send --sysv $id -
        ipc mq peek --sysv $id >&2; ipc mq recv --sysv $id | wc -c";
    let test = "a_message_longer_than_the_usual_limit_comes_whole";
    let Some(run) = in_own_ipc_namespace(test, script) else { return };
    assert_eq!((run.code, run.out.trim()), (0, "50000"), "{}", run.err);
    assert!(run.err.len() > 20_000, "{}", run.err);
}
