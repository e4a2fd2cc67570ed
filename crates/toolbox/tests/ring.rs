//! `ipc ring` and `ipc demo` end to end.
mod support;

use std::io::{Read, Write};
use std::process::Stdio;

use ipc::signal::Signal;
use support::{Name, Running, as_nobody, command, fails, ok, run, with_input};

fn numbers(count: u32) -> Vec<u8> {
    (0..count).flat_map(|n| format!("line number {n}\n").into_bytes()).collect()
}

#[test]
fn a_stream_comes_through_a_ring_much_smaller_than_it() {
    for (framing, size) in [("", "4K"), ("--messages", "4K"), ("", "1M"), ("--messages", "64K")] {
        let r = Name::new("through");
        let input = numbers(50_000);
        let mut writer = command(&format!("ring write {r} --size {size} {framing}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = writer.stdin.take().unwrap();
        let sent = input.clone();
        let feeder = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
        while ipc::ring::stat(&r.0).is_err() {
            std::thread::sleep(core::time::Duration::from_millis(1));
        }
        let reader = command(&format!("ring read {r} {framing}")).output().unwrap();
        feeder.join().unwrap();
        assert!(writer.wait().unwrap().success());
        assert!(reader.status.success());
        assert!(reader.stdout == input, "{framing} {size}");
        let stat = ok(&format!("ring stat {r}"));
        assert!(stat.contains("finished  yes") && stat.contains("filled    0"), "{stat}");
    }
}

#[test]
fn a_reader_that_comes_later_finds_everything() {
    let r = Name::new("later");
    assert_eq!(with_input(&format!("ring write {r}"), b"kept").code, 0);
    assert_eq!(with_input(&format!("ring write {r}"), b" and more").code, 0);
    assert_eq!(ok(&format!("ring read {r}")), "kept and more");
    ok(&format!("ring rm {r}"));
    fails(&format!("ring read {r}"), 2, &["no such shared memory"]);
}

#[test]
fn every_error_of_a_ring() {
    let r = Name::new("errors");
    fails(&format!("ring read {r}"), 2, &["no such shared memory"]);
    fails(&format!("ring stat {r}"), 2, &["no such shared memory"]);
    fails("ring write name", 1, &["a name is like /name"]);
    fails(&format!("ring write {r} --size 1"), 1, &["between 4096 and"]);
    assert_eq!(run(&format!("ring write {r} --size 9X")).code, 1);
    assert_eq!(with_input(&format!("ring write {r} --size 4K"), b"x").code, 0);
    fails(&format!("ring read {r} --messages"), 1, &["is a ring of bytes; leave out --messages"]);
    let full = with_input(&format!("ring write {r} --nonblock"), &[b'y'; 10_000]);
    assert_eq!(full.code, 4, "{full:?}");
    assert!(full.err.contains("would have to wait"), "{}", full.err);
    let full = with_input(&format!("ring write {r} --timeout 20ms"), b"z");
    assert_eq!(full.code, 4, "{full:?}");
    // Its writer has said nothing of an end: the reader waits for its return.
    let rest = run(&format!("ring read {r} --timeout 20ms"));
    assert_eq!((rest.code, rest.out.len()), (4, 4096));
    let m = Name::new("errors-messages");
    let long = with_input(&format!("ring write {m} --size 4K --messages"), &[b'x'; 3000]);
    assert_eq!(long.code, 2, "{long:?}");
    assert!(long.err.contains("a message of 3000 bytes; at most 2040"), "{}", long.err);
    let s = Name::new("errors-other");
    ok(&format!("shm create {s} --size 8192"));
    fails(&format!("ring read {s}"), 2, &["is no ring", "rm and create"]);
    if let Some(run) = as_nobody("every_error_of_a_ring", &format!("ring read {r}")) {
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.err.contains("permission denied"), "{}", run.err);
    }
}

#[test]
fn each_side_has_one_holder() {
    let r = Name::new("holders");
    assert_eq!(with_input(&format!("ring write {r}"), b"").code, 0);
    let mut writer = command(&format!("ring write {r}"));
    let writer = Running::from(writer.stdin(Stdio::piped()));
    while ipc::ring::stat(&r.0).unwrap().writer.is_none() {
        std::thread::sleep(core::time::Duration::from_millis(1));
    }
    let reader = Running::start(&format!("ring read {r}"));
    reader.until_in(&[202]); // futex
    fails(
        &format!("ring write {r}"),
        2,
        &[&format!("process {} is its writer already", writer.pid())],
    );
    fails(
        &format!("ring read {r}"),
        2,
        &[&format!("process {} is its reader already", reader.pid())],
    );
    let stat = ok(&format!("ring stat {r} -J"));
    assert!(
        stat.contains(&format!("\"writer\":{},\"reader\":{}", writer.pid(), reader.pid())),
        "{stat}"
    );
    // The writer is killed: the reader goes on waiting, and a new one goes on.
    writer.signal(Signal::KILL);
    assert_eq!(writer.end().code, 137);
    assert_eq!(with_input(&format!("ring write {r}"), b"from the next").code, 0);
    assert_eq!(reader.end().out, "from the next");
}

#[test]
fn a_waiting_side_sleeps() {
    let r = Name::new("asleep");
    assert_eq!(with_input(&format!("ring write {r} --size 4K"), b"").code, 0);
    let mut writer = command(&format!("ring write {r}"));
    let mut writer = Running::from(writer.stdin(Stdio::piped()));
    while ipc::ring::stat(&r.0).unwrap().writer.is_none() {
        std::thread::sleep(core::time::Duration::from_millis(1));
    }
    let reader = Running::start(&format!("ring read {r}"));
    reader.until_in(&[202]);
    let ticks = |pid: u32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_ascii_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks(reader.pid());
    std::thread::sleep(core::time::Duration::from_millis(500));
    assert!(ticks(reader.pid()) - before <= 2, "an empty ring's reader uses the processor");
    drop(reader);
    // Full, and nobody reads.
    writer.0.stdin.as_mut().unwrap().write_all(&[b'x'; 10_000]).unwrap();
    writer.until_in(&[202]);
    let before = ticks(writer.pid());
    std::thread::sleep(core::time::Duration::from_millis(500));
    assert!(ticks(writer.pid()) - before <= 2, "a full ring's writer uses the processor");
}

#[test]
fn demos_show_what_the_specification_says() {
    // Their names are fixed: one at a time on this machine.
    let lock = std::env::temp_dir().join("ipc-demo-tests.lock");
    let file = std::fs::File::create(lock).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let alphabet = ok("demo alphabet");
    assert!(alphabet.contains("\nabcdefghijklmnopqrstuvwxyz\n"), "{alphabet}");
    assert!(alphabet.ends_with("the client has written *\n"), "{alphabet}");
    assert_eq!(ok("demo letters"), "abcdefghijklmnopqrstuvwxyz\n");
    assert_eq!(ok("demo iflag"), "iflag is now = 8\niflag is now = 1\n");
    assert_eq!(run("demo iflag sideways").code, 1, "any other word prints the usage");
    let typed: Vec<String> = ok("demo typed").lines().skip(1).map(str::to_owned).collect();
    let pressed = |c| format!("You pressed {c}");
    assert_eq!(typed, ["H", "e", "l", "l", "o", " ", "q"].map(pressed));
    let queue = ok("demo queue");
    assert!(queue.ends_with("Received: first\nReceived: second\nReceived: third\n"), "{queue}");
    // Nothing is left behind.
    fails("shm read --sysv --key 5678", 2, &["no such object"]);
    fails("shm read --sysv --key 1234", 2, &["no such object"]);
    fails("shm read /my_shm", 2, &["no such shared memory"]);
    fails("mq stat /server-msg-q", 2, &["no such queue"]);
    // No character is lost, however fast they come.
    let mut server = Running::start("demo typed server");
    let mut said = [0; 1];
    server.0.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    // (As many lines as a pipe holds: nobody reads the server meanwhile.)
    let letters: Vec<u8> = (0..3000).map(|n| b'a' + (n % 16) as u8).collect();
    assert_eq!(with_input("demo typed client", &letters).code, 0);
    let lines: Vec<String> = server.end().out.lines().skip(1).map(str::to_owned).collect();
    assert_eq!(lines.len(), 3001);
    assert!(
        lines.iter().zip(&letters).all(|(line, c)| *line == format!("You pressed {}", *c as char))
    );
    // A client without a server.
    fails("demo typed client", 2, &["no such object"]);
    fails("demo queue client", 2, &["no such queue"]);
}

#[test]
fn updates_are_lost_without_mutual_exclusion_and_never_with_it() {
    let shown = ok("demo lost-update --writers 4 --updates 1000");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 7, "{shown}");
    assert!(lines[0].starts_with("without mutual exclusion: "), "{shown}");
    assert!(!lines[0].ends_with(", 0 lost"), "{shown}");
    for line in &lines[1..6] {
        assert!(line.ends_with(": 4000 of 4000 updates, 0 lost"), "{shown}");
    }
    assert_eq!(
        lines[6],
        "robust mutex, its owner killed: the next one was told, and has healed it"
    );
}

#[test]
fn a_ring_removed_while_waiting_lives_on_for_who_has_it_open() {
    let r = Name::new("removed");
    assert_eq!(with_input(&format!("ring write {r}"), b"").code, 0);
    let mut writer = command(&format!("ring write {r}"));
    let mut writer = Running::from(writer.stdin(Stdio::piped()));
    while ipc::ring::stat(&r.0).unwrap().writer.is_none() {
        std::thread::sleep(core::time::Duration::from_millis(1));
    }
    let reader = Running::start(&format!("ring read {r}"));
    reader.until_in(&[202]);
    ok(&format!("ring rm {r}"));
    fails(&format!("ring rm {r}"), 2, &["no such shared memory"]);
    writer.0.stdin.take().unwrap().write_all(b"still here").unwrap();
    assert_eq!(writer.end().code, 0);
    let run = reader.end();
    assert_eq!((run.code, run.out.as_str()), (0, "still here"));
    // Interrupted while it waits.
    let r = Name::new("interrupted");
    assert_eq!(with_input(&format!("ring write {r} --timeout 1ms"), b"").code, 0);
    let mut writer = command(&format!("ring write {r}"));
    let _writer = Running::from(writer.stdin(Stdio::piped()));
    while ipc::ring::stat(&r.0).unwrap().writer.is_none() {
        std::thread::sleep(core::time::Duration::from_millis(1));
    }
    let reader = Running::start(&format!("ring read {r}"));
    reader.until_in(&[202]);
    reader.signal(Signal::INT);
    assert_eq!(reader.end().code, 130);
}
