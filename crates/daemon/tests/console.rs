//! The console of the real daemon: pipes, terminals, and what must not stop
//! the loop.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rtm_tables::wire::LoadFlags;
use support::{Client, Patience, Rtmd, many_routes};

/// The text behind the last menu but one: what the last order showed.
fn table(out: &str) -> Vec<String> {
    let start = out.rfind("Destination Subnet (Key)").unwrap();
    let lines = out[start..].lines().skip(2).take_while(|line| line.contains('|'));
    lines.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_menu_does_what_it_says() {
    let mut rtmd = Rtmd::start(&["--console"]);
    let mut follower = Client::follower(&rtmd, "follower");
    rtmd.write("1\n122.1.1.1/32 10.1.1.1 Ethernet1\n1\n130.1.1.0/24\n10.1.1.1\nEthernet1\n");
    rtmd.write("2\n130.1.1.0/24 10.2.2.2 Ethernet2\n5\n02:00:00:00:00:01 10.1.1.1\n");
    follower.until("four changes", |client| client.revision() == 4);
    rtmd.write("4\n");
    rtmd.wait_out("Ethernet2");
    rtmd.write("7\n");
    rtmd.wait_out("02:00:00:00:00:01        | 10.1.1.1        | -");
    assert_eq!(
        table(&rtmd.out()),
        ["122.1.1.1/32 10.1.1.1 Ethernet1", "130.1.1.0/24 10.2.2.2 Ethernet2"]
    );
    rtmd.write("9\n");
    rtmd.wait_out("follower");
    rtmd.write("3\n122.1.1.1/32\n6\n10.1.1.1\nroute add 10.0.0.0/8 dev a\n");
    follower.until("three more", |client| client.revision() == 7);
    assert_eq!(follower.routes(), 2);
    // Wrong entries, each one line, and the menu again.
    for (entry, why) in [
        ("11", "rtm: menu: 11: no such choice; 0 to 9 would be right"),
        ("1\n10.0.0.1/8 10.1.1.1 eth0", "host bits are set; 10.0.0.0/8 would be right"),
        ("route add 10.0.0.0/8 dev a", "rtm: 10.0.0.0/8: exists already"),
        ("3\n9.9.9.9/32", "rtm: 9.9.9.9/32: does not exist"),
        ("no such thing", "rtm: "),
    ] {
        rtmd.write(&format!("{entry}\n"));
        rtmd.wait_out(why);
    }
    rtmd.write("route get 10.1.2.3 192.0.2.1\n");
    rtmd.wait_out("10.1.2.3 10.0.0.0/8 dev a");
    rtmd.wait_out("192.0.2.1 unreachable");
    rtmd.write("8\n");
    follower.until("the flush", |client| client.revision() >= 8);
    assert_eq!(follower.routes(), 0);
    follower.verify();
    // The end is asked for once.
    rtmd.write("0\nn\n0\ny\n");
    follower.until_closed();
    assert_eq!(rtmd.finish().code(), Some(0));
    assert_eq!(rtmd.out().matches("stop rtmd? y/n").count(), 2);
}

#[test]
fn the_end_of_input_closes_the_menu_not_the_daemon() {
    let mut rtmd = Rtmd::start(&["--console"]);
    // The last line has no end.
    rtmd.write("1\n10.0.0.0/8 10.1.1.1 a\nroute add 11.0.0.0/8 dev a");
    drop(rtmd.stdin.take());
    rtmd.wait_err("input has ended");
    let mut admin = Client::unix(&rtmd, "admin");
    let patience = Patience::new();
    while admin.json("status")["revision"] != 2 {
        patience.check("both lines");
    }
    rtmd.signal(libc::SIGTERM);
    assert_eq!(rtmd.finish().code(), Some(0));
}

#[test]
fn without_a_terminal_there_is_no_menu() {
    let mut rtmd = Rtmd::start(&[]);
    rtmd.write("1\n10.0.0.0/8 10.1.1.1 a\n");
    assert_eq!(Client::unix(&rtmd, "admin").json("status")["revision"], 0);
    assert_eq!(rtmd.out(), "");
}

#[test]
fn inputs_that_can_not_be_waited_for_are_no_console() {
    let temp = support::temp();
    let file = temp.path().join("lines");
    std::fs::write(&file, "1\n10.0.0.0/8 10.1.1.1 a\n").unwrap();
    for input in [File::open("/dev/null").unwrap(), File::open(&file).unwrap()] {
        let directory = temp.path().join("run");
        let mut command = support::command(&directory);
        command.args(["--console", "--config", "/dev/null"]);
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let socket = directory.join("rtm.sock");
        let patience = Patience::new();
        let stream = loop {
            patience.check("the daemon runs");
            if let Ok(stream) = std::os::unix::net::UnixStream::connect(&socket) {
                break stream;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut admin = Client::over(stream, "admin");
        assert_eq!(admin.json("status")["revision"], 0);
        // And it sleeps: no turn without a reason.
        let turns = |admin: &mut Client| admin.json("status")["turns"]["count"].as_u64().unwrap();
        let before = turns(&mut admin);
        std::thread::sleep(Duration::from_millis(300));
        assert!(turns(&mut admin) - before < 20, "the loop runs without a reason");
        support::signal_pid(child.id(), libc::SIGTERM);
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

/// Starts a daemon whose output nobody reads.
fn start_unread(args: &[&str]) -> (std::process::Child, Client, tempfile::TempDir) {
    let temp = support::temp();
    let mut command = support::command(temp.path());
    command.args(["--config", "/dev/null"]).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let patience = Patience::new();
    let stream = loop {
        patience.check("the daemon runs");
        match std::os::unix::net::UnixStream::connect(temp.path().join("rtm.sock")) {
            Ok(stream) => break stream,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    (child, Client::over(stream, "admin"), temp)
}

#[test]
fn an_output_that_nobody_reads_stops_nothing() {
    let (mut child, mut admin, _temp) = start_unread(&["--console"]);
    let lines: Vec<String> = many_routes(3000).collect();
    admin.load(LoadFlags(0), "", lines.iter().map(String::as_str));
    // Tables far beyond what the pipe and the buffers hold; the input is
    // taken no further than that.
    let mut stdin = child.stdin.take().unwrap();
    rustix::io::ioctl_fionbio(&stdin, true).unwrap();
    for _ in 0..2000 {
        if stdin.write_all(b"4\n").is_err() {
            break;
        }
    }
    for n in 0..50 {
        admin.must(&format!("route replace 20.0.{n}.0/24 dev a"));
    }
    let resident = admin.json("status")["resident_bytes"].as_u64().unwrap();
    assert!(resident < 64 << 20, "{resident}");
    // Not even its end waits for a reader.
    support::signal_pid(child.id(), libc::SIGTERM);
    admin.until_closed();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < support::PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let (mut child, mut admin, temp) = start_unread(&["--log", "debug"]);
    let patience = Patience::new();
    while admin.json("status")["log_dropped"] == 0 {
        patience.check("lines are dropped");
        for _ in 0..200 {
            let stream =
                std::os::unix::net::UnixStream::connect(temp.path().join("rtm.sock")).unwrap();
            let name = "a name that makes a line of the log longer than it need be";
            Client::over(stream, name).must("route show");
        }
    }
    admin.must("route add 10.0.0.0/8 dev a");
    support::signal_pid(child.id(), libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A terminal: the side that a person sits at, and the daemon's.
fn terminal() -> (File, File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = rustix::fs::open(
        name.as_c_str(),
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    let size = rustix::termios::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&slave, size).unwrap();
    (File::from(master), File::from(slave))
}

/// A daemon on a terminal of its own.
fn on_terminal() -> (std::process::Child, File, Client, tempfile::TempDir) {
    let (master, slave) = terminal();
    let temp = support::temp();
    let mut command = support::command(temp.path());
    command.args(["--console", "--config", "/dev/null"]);
    let end = |slave: &File| Stdio::from(OwnedFd::from(slave.try_clone().unwrap()));
    command.stdin(end(&slave)).stdout(end(&slave)).stderr(end(&slave));
    let child = command.spawn().unwrap();
    drop(command);
    drop(slave);
    let patience = Patience::new();
    let stream = loop {
        patience.check("the daemon runs");
        match std::os::unix::net::UnixStream::connect(temp.path().join("rtm.sock")) {
            Ok(stream) => break stream,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    (child, master, Client::over(stream, "admin"), temp)
}

/// Reads a terminal until some text is there.
fn read_until(master: &mut File, needle: &str) -> String {
    let mut text = String::new();
    let mut buf = [0; 4096];
    while !text.contains(needle) {
        let mut fds = [rustix::event::PollFd::new(master, rustix::event::PollFlags::IN)];
        let patience =
            rustix::event::Timespec { tv_sec: support::PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let ready = rustix::event::poll(&mut fds, Some(&patience)).unwrap();
        assert!(ready > 0, "waited in vain for {needle:?} in: {text}");
        let count = master.read(&mut buf).unwrap();
        text.push_str(&String::from_utf8_lossy(&buf[..count]));
    }
    text
}

#[test]
fn a_terminal_stopped_with_ctrl_s_stops_nothing() {
    let (mut child, mut master, mut admin, _temp) = on_terminal();
    read_until(&mut master, "rtmd> ");
    master.write_all(b"\x13").unwrap(); // Ctrl-S
    for n in 0..20 {
        master.write_all(format!("route replace 20.0.{n}.0/24 dev a\n").as_bytes()).unwrap();
    }
    let patience = Patience::new();
    let before = admin.json("status")["revision"].as_u64().unwrap();
    while admin.json("status")["revision"].as_u64().unwrap() < before.max(1) {
        patience.check("lines are carried out, or wait");
    }
    // Whatever the terminal does, others are served.
    for n in 0..50 {
        admin.must(&format!("route replace 30.0.{n}.0/24 dev a"));
    }
    master.write_all(b"\x11").unwrap(); // Ctrl-Q
    while admin.json("route show --count")["count"] != 70 {
        patience.check("every line was carried out");
        let mut fds = [rustix::event::PollFd::new(&master, rustix::event::PollFlags::IN)];
        let moment = rustix::event::Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        if rustix::event::poll(&mut fds, Some(&moment)).unwrap() > 0 {
            let _ = master.read(&mut [0; 4096]).unwrap();
        }
    }
    // It ends though the terminal is stopped again.
    master.write_all(b"\x13").unwrap();
    support::signal_pid(child.id(), libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_long_table_is_paged_on_a_terminal() {
    let (mut child, mut master, mut admin, _temp) = on_terminal();
    let lines: Vec<String> = many_routes(60).collect();
    admin.load(LoadFlags(0), "", lines.iter().map(String::as_str));
    read_until(&mut master, "rtmd> ");
    master.write_all(b"4\n").unwrap();
    let page = read_until(&mut master, "-- more");
    assert!(page.contains("10.0.0.0/24") && !page.contains("10.0.59.0/24"), "{page}");
    assert!(page.lines().count() <= 26, "{page}");
    master.write_all(b"\n").unwrap();
    read_until(&mut master, "-- more");
    // Others are served in the middle of it.
    admin.must("route add 20.0.0.0/8 dev a");
    master.write_all(b"\n").unwrap();
    let last = read_until(&mut master, "rtmd> ");
    assert!(last.contains("10.0.59.0/24") && last.contains("20.0.0.0/8"), "{last}");
    // Leaving it in the middle.
    master.write_all(b"4\n").unwrap();
    read_until(&mut master, "-- more");
    master.write_all(b"q\n").unwrap();
    read_until(&mut master, "rtmd> ");
    master.write_all(b"0\ny\n").unwrap();
    read_until(&mut master, "stop rtmd?");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_terminal_that_hangs_up_closes_the_menu() {
    let (mut child, mut master, mut admin, _temp) = on_terminal();
    read_until(&mut master, "rtmd> ");
    drop(master);
    for n in 0..10 {
        admin.must(&format!("route replace 20.0.{n}.0/24 dev a"));
    }
    let turns = |admin: &mut Client| admin.json("status")["turns"]["count"].as_u64().unwrap();
    let before = turns(&mut admin);
    std::thread::sleep(Duration::from_millis(300));
    assert!(turns(&mut admin) - before < 20, "the loop runs without a reason");
    support::signal_pid(child.id(), libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_shells_descriptors_are_left_as_they_are() {
    // Input and output are a pipe's and a socket pair's ends that the test
    // shares with the daemon.
    let (ours, theirs) = ipc::unix::pair(ipc::unix::Kind::Stream).unwrap();
    let temp = support::temp();
    let mut command: Command = support::command(temp.path());
    command.args(["--console", "--config", "/dev/null"]);
    let end = || Stdio::from(theirs.try_clone().unwrap());
    command.stdin(end()).stdout(end()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut ours = File::from(ours);
    let text = read_until(&mut ours, "rtmd> ");
    assert!(text.contains("insert route"));
    // A socket can't be opened again: its lines are relayed.
    ours.write_all(b"route add 10.0.0.0/8 dev a\n").unwrap();
    read_until(&mut ours, "done, revision 1");
    let flags = rustix::fs::fcntl_getfl(&theirs).unwrap();
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK), "{flags:?}");
    ours.write_all(b"0\ny\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
