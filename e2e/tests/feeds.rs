//! The message queue and the FIFO: commands from who has no session.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use ipc::mq::{self, Access, Options, Queue};
use ipc::timer::Wait;
use rtm_e2e::process::PATIENCE;
use rtm_e2e::{Daemon, Process};
use serde_json::Value;

fn queue_name(daemon: &Daemon) -> String {
    daemon.json(&["status"])["queue"]["name"].as_str().expect("it has a queue").to_owned()
}

fn post(daemon: &Daemon, text: &str, priority: u32) {
    let queue = Queue::open(&queue_name(daemon), Access::Send).unwrap();
    queue.send(text.as_bytes(), priority, Wait::FOREVER).unwrap();
}

fn fifo(daemon: &Daemon) -> std::fs::File {
    OpenOptions::new().write(true).open(daemon.directory().join("commands")).unwrap()
}

/// Waits until a feed has counted so many messages; gives its member of status.
fn counted(daemon: &Daemon, feed: &str, messages: u64) -> Value {
    let start = Instant::now();
    loop {
        let status = daemon.json(&["status"]);
        if status[feed]["messages"].as_u64() >= Some(messages) {
            return status[feed].clone();
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {messages}: {}", status[feed]);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn one_message_is_one_transaction() {
    let daemon = Daemon::start(&[]);
    post(&daemon, "route add 10.0.0.0/8 via 10.1.1.1 dev eth0\0", 0);
    post(
        &daemon,
        "# two lines\nroute change 10/8 via 10.1.1.2 dev eth0\nneigh add 10.1.1.2 lladdr 02:00:00:00:00:01 dev eth0\n",
        0,
    );
    // The second line fails: nothing of it is done.
    post(&daemon, "route add 11/8 dev eth0\nroute add 10/8 dev eth0", 0);
    post(&daemon, "route del 10/8\nroute add 12/8 dev eth1", 0);
    let queue = counted(&daemon, "queue", 4);
    assert_eq!((queue["applied"].as_u64(), queue["rejected"].as_u64()), (Some(5), Some(1)));
    assert_eq!(daemon.rtm(&["route"]), "12.0.0.0/8 dev eth1 proto static scope link \n");
    assert_eq!(daemon.json(&["status"])["revision"], 3);
    assert!(daemon.rtm(&["neigh"]).starts_with("10.1.1.2 dev eth0 lladdr 02:00:00:00:00:01"));
    let said = daemon.process.stderr();
    assert!(said.contains("change 2: 10.0.0.0/8: "), "{said}");
    assert!(said.contains("nothing of the message was applied"), "{said}");
}

#[test]
fn what_the_queue_rejects_is_counted_logged_and_shown() {
    let daemon = Daemon::start(&[]);
    let monitor = daemon.spawn(&["-j", "monitor", "all"]);
    let silent = daemon.spawn(&["monitor", "route"]);
    while daemon.json(&["client", "list"]).as_array().unwrap().len() < 2 {}
    let wrong: &[(&[u8], &str)] = &[
        (b"route frob 10/8", "unknown verb"),
        (b"route add 10.0.0.1/8 dev e", "host bits are set; 10.0.0.0/8 would be right"),
        (b"flush all", "not permitted here"),
        (b"route flush all", "not permitted here"),
        (b"client kill x", "not permitted here"),
        (b"reload", "not permitted here"),
        (b"route show", "not permitted here"),
        (b"route prepend 10/8 dev e", "not permitted here"),
        (b"route del 10/8", "10.0.0.0/8: "),
        (b"\xff\xfe\x00rubbish", "not text"),
        (b"route add 10/8 dev e\x1b[2J", "not text"),
    ];
    for (text, _) in wrong {
        let queue = Queue::open(&queue_name(&daemon), Access::Send).unwrap();
        queue.send(text, 9, Wait::FOREVER).unwrap();
    }
    let queue = counted(&daemon, "queue", wrong.len() as u64);
    assert_eq!(queue["rejected"], wrong.len());
    assert_eq!(queue["applied"], 0);
    // An empty one and a comment are nothing wrong.
    post(&daemon, "", 0);
    post(&daemon, "# nothing", 0);
    assert_eq!(counted(&daemon, "queue", wrong.len() as u64 + 2)["rejected"], wrong.len());
    post(&daemon, "route add 99/8 dev last", 0);
    let shown = monitor.wait_stdout("99.0.0.0/8");
    let mut lines = shown.lines();
    for (text, why) in wrong {
        let line: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        let rejected = line["rejected"].as_str().unwrap();
        assert!(rejected.contains(why), "{text:?}: {rejected}");
        assert!(!rejected.contains('\u{1b}'), "{rejected:?}");
        assert_eq!((line["feed"].as_str(), line["priority"].as_u64()), (Some("queue"), Some(9)));
    }
    assert!(!silent.wait_stdout("99.0.0.0/8").contains("ejected"));
    assert_eq!(daemon.process.stderr().matches("rejected: queue: ").count(), wrong.len());
}

#[test]
fn urgent_messages_overtake_and_a_sender_finds_its_order() {
    let daemon = Daemon::start_with("[queue]\ndepth = 10\n", &[]);
    let monitor = daemon.spawn(&["monitor", "route"]);
    while daemon.json(&["client", "list"]).as_array().unwrap().is_empty() {}
    let name = queue_name(&daemon);
    // While it is stopped the messages gather.
    daemon.process.signal(19);
    let queue = Queue::open(&name, Access::Send).unwrap();
    for net in 1..=7 {
        queue.send(format!("route add {net}.0.0.0/8 dev e").as_bytes(), 1, Wait::No).unwrap();
    }
    queue.send(b"route add 100.0.0.0/8 dev e", 30000, Wait::No).unwrap();
    queue.send(b"route del 100.0.0.0/8", 30000, Wait::No).unwrap();
    queue.send(b"route add 8.0.0.0/8 dev e", 0, Wait::No).unwrap();
    assert!(matches!(queue.send(b"x", 1, Wait::No), Err(mq::Error::Full { .. })));
    daemon.process.signal(18);
    let text = monitor.wait_stdout("8.0.0.0/8 dev e");
    let order: Vec<&str> = text
        .lines()
        .map(|line| line.split("/8").next().unwrap().rsplit(' ').next().unwrap())
        .collect();
    let order: Vec<&str> = order.iter().map(|net| net.trim_end_matches(".0.0.0")).collect();
    assert_eq!(order, ["100", "100", "1", "2", "3", "4", "5", "6", "7", "8"], "{text}");
}

#[test]
fn rtm_posts_and_says_why_not() {
    let daemon = Daemon::start_with("[queue]\nmessage_bytes = 64\n", &[]);
    daemon.rtm(&["mq", "send", "route add 10/8 dev e", "--prio", "7"]);
    daemon.rtm(&["mq", "send", "neigh", "add", "10.0.0.1", "lladdr", "02:00:00:00:00:02"]);
    assert_eq!(counted(&daemon, "queue", 2)["applied"], 2);
    let output = daemon.run(&["mq", "send", &"x".repeat(65)]);
    assert_eq!(output.code, Some(2));
    assert!(
        output.err.contains("a message of 65 bytes; the queue takes at most 64"),
        "{}",
        output.err
    );
    assert_eq!(output.err.lines().count(), 1);
    let output = daemon.run(&["mq", "send", "x", "--prio", "32768"]);
    assert_eq!(output.code, Some(1), "{}", output.err);
}

#[test]
fn names_are_made_and_removed_and_never_anothers() {
    let name = format!("/rtm-test-{}", std::process::id());
    let configuration = format!("[queue]\nname = \"{name}\"\nmode = \"0620\"\n");
    let first = Daemon::start_with(&configuration, &[]);
    assert_eq!(queue_name(&first), name);
    let queue = Queue::open(&name, Access::Both).unwrap();
    assert_eq!(queue.metadata().unwrap().st_mode & 0o7777, 0o620);
    drop(queue);
    // Another daemon doesn't take it, and says so; it runs on without.
    let second = Daemon::start_with(&configuration, &[]);
    let status = second.json(&["status"]);
    assert_eq!(status["queue"], Value::Null);
    let warning = status["warnings"].to_string();
    assert!(warning.contains("belongs to another daemon that runs"), "{warning}");
    let output = second.run(&["mq", "send", "x"]);
    assert_eq!((output.code, output.err.lines().count()), (Some(2), 1), "{}", output.err);
    post(&first, "route add 10/8 dev e", 0);
    counted(&first, "queue", 1);
    drop(second);
    assert!(Queue::open(&name, Access::Both).is_ok());
    // A killed one leaves it behind, with a message; its successor makes it anew.
    let directory = first.kill();
    let queue = Queue::open(&name, Access::Both).unwrap();
    queue.send(b"route add 66/8 dev left", 0, Wait::No).unwrap();
    let path = directory.path().join("test.toml");
    let third = Daemon::start_in(directory, &["--config", path.to_str().unwrap()]);
    assert_eq!(queue_name(&third), name);
    post(&third, "route add 11/8 dev e", 0);
    counted(&third, "queue", 1);
    assert_eq!(third.rtm(&["route"]), "11.0.0.0/8 dev e proto static scope link \n");
    assert_eq!(third.stop().0.code, Some(0));
    assert!(matches!(Queue::open(&name, Access::Both), Err(mq::Error::Missing { .. })));
    // Somebody else's queue of that name is left alone.
    let theirs = Queue::create(&name, &Options::default()).unwrap();
    theirs.send(b"theirs", 0, Wait::No).unwrap();
    let fourth = Daemon::start_with(&configuration, &[]);
    let warning = fourth.json(&["status"])["warnings"].to_string();
    assert!(warning.contains("exists and is not this daemon's"), "{warning}");
    drop(fourth);
    assert_eq!(theirs.attributes().unwrap().curmsgs, 1);
    mq::remove(&name).unwrap();
}

#[test]
fn without_privilege_the_queue_is_as_large_as_the_system_allows() {
    if !rtm_e2e::require::root("without_privilege_the_queue_is_as_large_as_the_system_allows") {
        return;
    }
    use std::os::unix::process::CommandExt;
    let directory = tempfile::Builder::new().prefix("rtm-e2e-").tempdir().unwrap();
    let config = directory.path().join("test.toml");
    std::fs::write(&config, "[queue]\ndepth = 60000\nmessage_bytes = \"16 KiB\"\n").unwrap();
    std::os::unix::fs::chown(directory.path(), Some(4242), Some(4242)).unwrap();
    let mut command = Command::new(rtm_e2e::copy_of("rtmd", directory.path()));
    command.arg("--runtime-dir").arg(directory.path()).arg("--config").arg(&config);
    command.uid(4242).gid(4242);
    let process = Process::spawn(command);
    process.wait_stderr("ready");
    let limits = mq::limits();
    let said = process.stderr();
    let (depth, bytes) = (limits.msg_max, limits.msgsize_max.min(16384));
    assert!(
        said.contains("60000 messages of 16384 bytes are beyond this system's limits"),
        "{said}"
    );
    assert!(said.contains(&format!("it has {depth} of {bytes}")), "{said}");
    // It takes its queue with it.
    process.signal(15);
    assert_eq!(process.finish().code, Some(0));
}

#[test]
fn lines_of_the_fifo_are_commands() {
    let daemon = Daemon::start(&[]);
    let path = daemon.directory().join("commands");
    let mode = std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap());
    assert_eq!(mode & 0o7777, 0o600);
    // Writers come and go.
    for net in 1..=20 {
        let status = Command::new("sh")
            .arg("-c")
            .arg(format!("echo 'route add {net}.0.0.0/8 via 10.1.1.1 dev eth0' > \"$0\""))
            .arg(&path)
            .status()
            .unwrap();
        assert!(status.success());
    }
    assert_eq!(counted(&daemon, "fifo", 20)["applied"], 20);
    assert_eq!(daemon.rtm(&["route"]).lines().count(), 20);
    // A line in pieces, and several in one write.
    let mut writer = fifo(&daemon);
    for piece in ["route add 21.", "0.0.0/8 dev ", "e\nroute add 22.0.0.0/8 dev e\nroute"] {
        writer.write_all(piece.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    writer.write_all(b" add 23.0.0.0/8 dev e\n\n\n# done\n").unwrap();
    assert_eq!(counted(&daemon, "fifo", 24)["applied"], 23);
    // An end without a newline is told, and spoils nobody else's line.
    writer.write_all(b"route add 24.0.0.0/8 dev").unwrap();
    drop(writer);
    assert_eq!(counted(&daemon, "fifo", 25)["rejected"], 1);
    fifo(&daemon).write_all(b"route add 25.0.0.0/8 dev e\n").unwrap();
    assert_eq!(counted(&daemon, "fifo", 26)["applied"], 24);
}

#[test]
fn rubbish_in_the_fifo_is_refused_line_by_line() {
    let daemon = Daemon::start(&[]);
    let mut writer = fifo(&daemon);
    let long = "x".repeat(513);
    writer.write_all(format!("{long}\nroute add 1.0.0.0/8 dev e\n").as_bytes()).unwrap();
    writer.write_all(&vec![b'y'; 100_000]).unwrap();
    writer.write_all(b"\nroute add 2.0.0.0/8 dev e\n").unwrap();
    let mut binary: Vec<u8> = (0..=255u8).filter(|b| *b != b'\n').collect();
    binary.extend(b"\n\0\0\0\nroute add 3.0.0.0/8 dev e\n");
    writer.write_all(&binary).unwrap();
    writer.write_all(b"flush\nroute frob\n").unwrap();
    // A line of exactly 512 bytes is taken.
    let exact = format!("{:512}", "route add 4.0.0.0/8 dev e");
    writer.write_all(format!("{exact}\n").as_bytes()).unwrap();
    let value = counted(&daemon, "fifo", 10);
    assert_eq!(
        (value["applied"].as_u64(), value["rejected"].as_u64()),
        (Some(4), Some(5)),
        "{value}"
    );
    let said = daemon.process.stderr();
    assert!(said.contains("a line of 513 bytes; at most 512 would be right"), "{said}");
    assert!(said.contains("a line of 100000 bytes"), "{said}");
    assert!(said.contains("not text"), "{said}");
    // Nothing disarms it.
    writer.write_all(b"route add 5.0.0.0/8 dev e\n").unwrap();
    assert_eq!(counted(&daemon, "fifo", 11)["applied"], 5);
}

#[test]
fn writers_at_the_same_time_lose_no_line() {
    let daemon = Daemon::start(&[]);
    std::thread::scope(|scope| {
        for writer in 0..4u32 {
            let daemon = &daemon;
            scope.spawn(move || {
                let mut fifo = fifo(daemon);
                for n in 0..500u32 {
                    let line = format!("route add 10.{writer}.{}.{}/32 dev e\n", n / 250, n % 250);
                    // At once, as echo does.
                    assert_eq!(fifo.write(line.as_bytes()).unwrap(), line.len());
                }
            });
        }
    });
    let value = counted(&daemon, "fifo", 2000);
    assert_eq!((value["applied"].as_u64(), value["rejected"].as_u64()), (Some(2000), Some(0)));
}

#[test]
fn a_fifo_that_was_left_is_taken_and_what_is_none_is_left_alone() {
    let daemon = Daemon::start(&[]);
    let directory = daemon.kill();
    let path = directory.path().join("commands");
    assert!(path.exists());
    let daemon = Daemon::start_in(directory, &[]);
    fifo(&daemon).write_all(b"route add 1.0.0.0/8 dev e\n").unwrap();
    assert_eq!(counted(&daemon, "fifo", 1)["applied"], 1);
    let directory = daemon.kill();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "a file").unwrap();
    let daemon = Daemon::start_in(directory, &[]);
    let status = daemon.json(&["status"]);
    assert_eq!(status["fifo"], Value::Null);
    assert!(status["warnings"].to_string().contains("is no FIFO"), "{status}");
    let (output, _directory) = daemon.stop();
    assert_eq!(output.code, Some(0));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
}
