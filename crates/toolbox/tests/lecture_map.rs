//! `docs/lecture-map.md`: each row of the specification's part B that queues,
//! shared memory, semaphores, rings, sockets and HTTP cover, with our command and what it
//! really prints. The page is made by running everything; this test fails if
//! what is printed now differs from the page. `RTM_BLESS=1` writes it anew.
mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{not_run, seen};

/// One row: the course's program, ours, and the commands that show it. Lines of
/// a shell, in which `ipc` is the real binary; what stands on standard error is
/// shown too.
struct Row {
    program: &'static str,
    ours: &'static str,
    shows: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        program: "socket server, client",
        ours: "`ipc sock listen`, `ipc sock connect` (`--sum`: the course's numbers; `--echo`, `--chat`)",
        shows: "ipc sock listen unix:s --sum --at-once 1 --count 1 -v 2>steps & until printf '1 2\\n3\\n0\\n' | ipc sock connect unix:s 2>/dev/null; do sleep 0.01; done; wait
cat steps
ipc sock listen unix:s --type dgram --echo --count 2 & until echo first | ipc sock connect unix:s --type dgram --count 1 2>/dev/null; do sleep 0.01; done; echo second | ipc sock connect unix:s --type dgram --count 1; wait
ipc sock listen tcp:127.0.0.1:7531 --echo --count 3 & until echo one | ipc sock connect tcp:127.0.0.1:7531 2>/dev/null; do sleep 0.01; done; (echo two | ipc sock connect tcp:127.0.0.1:7531 & echo three | ipc sock connect tcp:127.0.0.1:7531 & wait) | sort; wait",
    },
    Row {
        program: "sender, recvr",
        ours: "`ipc demo queue` (`server`, `client`)",
        shows: "ipc demo queue",
    },
    Row {
        program: "`crt_mq NAME` · `snd_mq NAME PRIO TEXT` · `rec_mq NAME` · `unl_mq NAME`",
        ours: "`ipc mq create`, `send`, `recv`, `stat`, `rm`",
        shows: "ipc mq create /lecture --maxmsg 10 --msgsize 2048 --mode 0600 --excl
ipc mq create /lecture --excl
ipc mq send /lecture Five --prio 5
ipc mq send /lecture Ten --prio 10
ipc mq send /lecture Five_2 --prio 5
ipc mq send /lecture Three --prio 3
ipc mq send /lecture Seven --prio 7
ipc mq stat /lecture
ipc mq recv /lecture -v
ipc mq recv /lecture -v
ipc mq recv /lecture -v
ipc mq recv /lecture -v
ipc mq recv /lecture -v
ipc mq rm /lecture
ipc mq recv /lecture",
    },
    Row {
        program: "mq_notify",
        ours: "`ipc mq notify`",
        shows: "ipc mq create /lecture
(until ipc mq stat /lecture | grep -q SIGNO:34; do sleep 0.01; done; ipc mq send /lecture hello) & ipc mq notify /lecture; wait
ipc mq rm /lecture",
    },
    Row {
        program: "writer, reader · `crt_shm NAME SIZE` · `wrt_shm NAME TEXT` · `rd_shm NAME` · `unl_shm NAME`",
        ours: "`ipc shm create`, `write`, `read`, `rm`",
        shows: "ipc shm create /shmem --size 0 --mode 0600 --excl
ipc shm stat /shmem | grep -E 'size|perms'
ipc shm write /shmem 'Hello!' -v
ipc shm read /shmem -v
ipc shm rm /shmem
ipc shm read /shmem",
    },
    Row {
        program: "`my_shm create\\|send\\|receive\\|remove`",
        ours: "`ipc demo iflag` (`create`, `receive`, `send`, `remove`)",
        shows: "ipc demo iflag
ipc demo iflag sideways",
    },
    Row {
        program: "alphabet (System V)",
        ours: "`ipc demo alphabet` (`server`, `client`); second form: `ipc demo letters`",
        shows: "ipc demo alphabet
ipc demo letters",
    },
    Row {
        program: "typed (System V)",
        ours: "`ipc demo typed` (`server`, `client`)",
        shows: "ipc demo typed",
    },
    Row {
        program: "`ftok`, `shmget`, `shmat`, `shmdt`, `shmctl`",
        ours: "`ipc shm … --sysv`",
        shows: "ipc shm create --sysv --key 22136 --size 27 --mode 0640 --excl
ipc shm create --sysv --key 22136 --size 27 --excl
ipc shm write --sysv --key 22136 abc
ipc shm read --sysv --key 22136 --count 3
ipc shm stat --sysv --key 22136
ipc shm rm --sysv --key 22136
ipc shm create --sysv --ftok /etc/passwd:A --size 100 --excl
ipc shm rm --sysv --ftok /etc/passwd:A",
    },
    Row {
        program: "semaphore, mutex in the segment",
        ours: "`ipc sem … --in /SEGMENT:OFFSET`, `ipc demo lost-update`",
        shows: "ipc shm create /lecture --size 4096
ipc sem create --in /lecture:64 --value 1
ipc sem wait --in /lecture:64
ipc sem wait --in /lecture:64 --nonblock
ipc sem post --in /lecture:64
ipc sem get --in /lecture:64
ipc sem create --in /lecture:128 --mutex
ipc sem wait --in /lecture:128 --mutex -- ipc sem get --in /lecture:128 --mutex
ipc shm rm /lecture
ipc demo lost-update --writers 4 --updates 500",
    },
    Row {
        program: "pipe",
        ours: "`ipc pipe run`, `ipc pipe tee`, `ipc pipe cap`, `ipc demo pipe`",
        shows: "ipc pipe run cat --input 'Hello from your program.'
ipc pipe run yes 'head -n 1'
ipc pipe run 'exit 3' 'wc -c' --pipefail
seq 3 | ipc pipe tee copy | tail -n 1; wc -l copy
ipc pipe cap 1M
ipc demo pipe",
    },
    Row {
        program: "FIFO",
        ours: "`ipc fifo create`, `write`, `read`, `cap`, `rm`",
        shows: "ipc fifo create commands --mode 0600
ipc fifo create commands
ipc fifo write commands first --nonblock
(printf 'first\\nsecond\\n' | ipc fifo write commands -) & ipc fifo read commands -v; wait
ipc fifo cap commands
ipc fifo rm commands
ipc fifo read commands",
    },
    Row {
        program: "circular buffer",
        ours: "`ipc ring write`, `ipc ring read`",
        shows: "(seq 100000 | ipc ring write /lecture --size 4K) & until ipc ring stat /lecture >/dev/null 2>&1; do sleep 0.01; done; ipc ring read /lecture | tail -n 1; wait
ipc ring stat /lecture
ipc ring rm /lecture",
    },
    Row {
        program: "signal, abort, raise, kill sender and receiver",
        ours: "`ipc demo signals` (`ctrl-c`, `abort`, `raise`, `receiver`), `ipc sig send`, `ipc sig raise`",
        shows: "ipc demo signals
ipc sig raise USR1 --catch
ipc sig raise TERM
ipc sig list -r --noheadings -o NUMBER,NAME,DESCRIPTION,DEFAULT | head -n 3",
    },
    Row {
        program: "`endless` · `proc T`",
        ours: "`ipc demo endless` · `ipc sig catch INTERVAL`",
        shows: "ipc demo endless --interval 10ms --count 3
ipc sig catch 10ms | head -n 2",
    },
    Row {
        program: "`catchsig T NAME…`",
        ours: "`ipc sig catch INTERVAL NAME…`, `ipc sig show PID`",
        shows: "ipc sig catch 1h INT USR1 -v --count 2 > out & P=$!; until ipc sig show $P | grep 'caught.*USR1'; do sleep 0.01; done; ipc sig send $P INT; until grep -q Interrupt out; do sleep 0.01; done; ipc sig send $P SIGUSR1 --value 7; wait $P; cat out
ipc sig catch 1h KILL
ipc sig catch 1h STOP",
    },
    Row {
        program: "`killn PID NAME`",
        ours: "`ipc sig send PID NAME`",
        shows: "(sleep 100 & ipc sig send $! TERM; wait $!) 2>/dev/null
ipc sig send 99999999 TERM
cp $(command -v ipc) other; chmod 755 . other; setpriv --reuid 65534 --regid 65534 --clear-groups ./other sig send 1 TERM
ipc sig send 1 NONE",
    },
    Row {
        program: "`waitchild`",
        ours: "`ipc child`",
        shows: "ipc child 1h QUIT -- sh -c 'kill -KILL $$'
ipc child 1h QUIT -- sh -c 'exit 3'",
    },
    Row {
        program: "`childctl T QUIT NAME…`",
        ours: "`ipc child INTERVAL QUIT [--times 3] NAME… [-- CMD]`",
        shows: "ipc child 1h QUIT HUP > out & P=$!; until grep -q Forking out; do sleep 0.01; done; N=0; for S in HUP QUIT QUIT QUIT; do ipc sig send $P $S; N=$((N+1)); until [ $(grep -c Caught out) = $N ]; do sleep 0.01; done; done; wait $P; cat out",
    },
    Row {
        program: "display server",
        ours: "`ipc sock listen ADDR --display`",
        shows: "mkfifo keys; : >screen; ipc sock listen unix:d --display --count 2 <>keys >screen & until printf 'open clock\\ndraw 1 12:00\\n' | ipc sock connect unix:d --stay --count 3 >clock 2>/dev/null; do sleep 0.01; done & until grep -q 12:00 screen; do sleep 0.01; done; echo 'draw 1 mine' | ipc sock connect unix:d --stay --count 1; echo 'key 1 Enter' >keys; wait
cat clock
cat screen",
    },
    Row {
        program: "HTTP over sockets",
        ours: "`ipc http serve`, `ipc http get`",
        shows: "mkdir www; echo hello >www/a.txt; touch -d 2026-01-02T03:04:05Z www/a.txt; ipc http serve www --listen 127.0.0.1:7532 --count 3 >/dev/null 2>&1 & until ipc http get http://127.0.0.1:7532/a.txt 2>/dev/null; do sleep 0.01; done
printf 'GET /a.txt HTTP/1.0\\r\\n\\r\\n' | ipc sock connect tcp:127.0.0.1:7532 | tr -d '\\r' | grep -v ^Date
ipc http get http://127.0.0.1:7532/none",
    },
    Row {
        program: "`mmcat FILE`",
        ours: "`ipc map cat`",
        shows: "printf 'one\\ntwo\\n' > file; ipc map cat file
: > empty; ipc map cat empty",
    },
];

/// Puts the same word for what differs from run to run: ids, pids, threads,
/// times, how many updates were lost.
fn masked(line: &str) -> String {
    let after = |line: &str, before: &str, word: &str| match line.split_once(before) {
        Some((head, tail)) => {
            let blanks = tail.len() - tail.trim_start().len();
            let rest = tail
                .trim_start()
                .trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "-:".contains(c));
            format!("{head}{before}{}{word}{rest}", " ".repeat(blanks))
        }
        None => line.to_owned(),
    };
    let mut line = line.to_owned();
    for (before, word) in [
        ("sent by process ", "PID"),
        ("held by thread ", "TID"),
        ("of user ", "UID"),
        ("from process ", "PID"),
        ("Forking a child: ", "PID"),
        ("descriptor ", "N"),
        ("from pid ", "PID"),
    ] {
        line = after(&line, before, word);
    }
    for (name, word) in [
        ("id ", "ID"),
        ("sequence ", "N"),
        ("creator-pid ", "PID"),
        ("last-pid ", "PID"),
        ("attach-time ", "TIME"),
        ("detach-time ", "TIME"),
        ("change-time ", "TIME"),
    ] {
        if line.starts_with(name) {
            line = after(&line, name, word);
        }
    }
    if line.starts_with("PID: ") {
        line = after(&line, "PID: ", "N");
    }
    if let Some(rest) = line.strip_prefix("head -n 1: ") {
        line = format!("head -n 1: N bytes in;{}", rest.split_once(';').map_or("", |r| r.1));
    }
    if line.contains("more than PIPE_BUF") && line.ends_with(" torn") {
        let head = line.rsplit_once(": ").map_or("", |r| r.0);
        line = format!("{head}: N torn");
    }
    if let Some(rest) = line.strip_prefix("without mutual exclusion: ") {
        let lost = !rest.ends_with(", 0 lost");
        let of = rest.split(" of ").nth(1).and_then(|r| r.split(' ').next()).unwrap_or("?");
        let words = if lost { "some lost" } else { "none lost" };
        line = format!("without mutual exclusion: fewer of {of} updates, {words}");
    }
    line
}

/// An id alone on its line, as create prints it.
fn masked_output(command: &str, text: &str) -> String {
    let id = command.contains("create --sysv");
    let mut out = String::new();
    for line in text.lines() {
        let number = !line.is_empty() && line.chars().all(|c| c.is_ascii_digit());
        let line = if id && number { "ID".to_owned() } else { masked(line) };
        writeln!(out, "{line}").unwrap();
    }
    out
}

fn shell(directory: &Path, binaries: &Path, line: &str) -> (i32, String) {
    // Both streams in one, in the order in which they were written.
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    // A command that fails where another waits for it must not hang the test.
    let output = Command::new("timeout")
        .args(["120", "sh", "-c", &format!("exec 2>&1; {line}")])
        .current_dir(directory)
        .env("PATH", path)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let run = seen(&output);
    (run.code, run.out)
}

fn page() -> String {
    let directory = tempfile::tempdir().unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_ipc")).parent().unwrap();
    let mut page = String::from(
        "# The courses' programs and ours\n\n\
         Each row of part B of the specification that message queues, shared memory, semaphores, rings,\n\
         pipes, FIFOs, signals, children, sockets and HTTP cover: the course's program, our command,\n\
         and what it prints. This page is made by\n\
         running it (`RTM_BLESS=1 cargo test -p rtm-toolbox --test lecture_map`); the same test fails\n\
         when what is printed differs. Ids, process ids, times and the number of lost updates differ\n\
         from run to run: they are shown as ID, PID, TID, UID, TIME and N. Standard output and standard\n\
         error are shown as they come; a code behind a command is its exit code where it isn't 0.\n",
    );
    for row in ROWS {
        writeln!(page, "\n## {}\n\n{}\n\n```text", row.program.replace("\\|", "|"), row.ours)
            .unwrap();
        for line in row.shows.lines() {
            let (code, text) = shell(directory.path(), binaries, line);
            let ended = if code == 0 { String::new() } else { format!("   # exit {code}") };
            writeln!(page, "$ {line}{ended}").unwrap();
            page.push_str(&masked_output(line, &text));
        }
        page.push_str("```\n");
    }
    page
}

#[test]
fn the_lecture_map_is_what_the_commands_print() {
    // The names are the specification's, so one run at a time, and (where that
    // is possible) in an IPC namespace and a /dev/shm of its own.
    if std::env::var_os("IPC_LECTURE_MAP_ALONE").is_none() {
        let lock = std::fs::File::create(std::env::temp_dir().join("ipc-demo-tests.lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        if !support::is_root() {
            return not_run(
                "the_lecture_map_is_what_the_commands_print",
                "unshare --ipc needs root",
            );
        }
        let alone = Command::new("unshare")
            .args([
                "--ipc",
                "--mount",
                "sh",
                "-c",
                "mount -t tmpfs none /dev/shm && exec \"$@\"",
                "sh",
            ])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "the_lecture_map_is_what_the_commands_print", "--nocapture"])
            .env("IPC_LECTURE_MAP_ALONE", "1")
            .output()
            .unwrap();
        let text = [alone.stdout, alone.stderr].concat();
        assert!(alone.status.success(), "{}", String::from_utf8_lossy(&text));
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/lecture-map.md");
    let now = page();
    if std::env::var_os("RTM_BLESS").is_some() {
        return std::fs::write(path, now).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if committed != now {
        let different: Vec<String> = committed
            .lines()
            .zip(now.lines())
            .filter(|(a, b)| a != b)
            .map(|(a, b)| format!("- {a}\n+ {b}\n"))
            .collect();
        panic!("docs/lecture-map.md differs (RTM_BLESS=1 writes it):\n{}", different.concat());
    }
}
