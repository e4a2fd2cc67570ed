//! librtm as C programs meet it: its example and a driver, compiled by the
//! system's compiler, beside a real daemon; its header in C++; its names,
//! its soname, and what it installs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rtm_e2e::process::PATIENCE;
use rtm_e2e::{Daemon, Process, binary};
use tempfile::TempDir;

const CRATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/librtm");

/// The folder with librtm.so: built here, since nothing else in the workspace
/// depends on it.
fn target() -> &'static Path {
    static TARGET: OnceLock<PathBuf> = OnceLock::new();
    TARGET.get_or_init(|| {
        let folder = binary("rtm").parent().unwrap().to_owned();
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--offline", "--package", "rtm-librtm", "--lib"]);
        command.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")]);
        if folder.ends_with("release") {
            command.arg("--release");
        }
        assert!(command.status().expect("cargo runs").success());
        assert!(folder.join("librtm.so").is_file(), "{}", folder.display());
        folder
    })
}

/// Runs a compiler, which must be content.
fn compile(compiler: &str, args: &[&str]) {
    let output = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror"])
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{compiler}: {error}"));
    assert!(
        output.status.success(),
        "{compiler} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A C program of the crate's, linked to librtm.so.
fn program(source: &str, dir: &Path) -> PathBuf {
    let out = dir.join("program");
    let (source, include) = (format!("{CRATE}/{source}"), format!("-I{CRATE}/include"));
    let library = format!("-L{}", target().display());
    compile(
        "cc",
        &[
            "-std=c11",
            "-D_GNU_SOURCE",
            "-O1",
            &include,
            &source,
            &library,
            "-lrtm",
            "-pthread",
            "-o",
            out.to_str().unwrap(),
        ],
    );
    // What it is linked to is the soname, which only an installation has.
    let _ = std::os::unix::fs::symlink(target().join("librtm.so"), dir.join("librtm.so.0"));
    out
}

/// A command that finds librtm.so.0 in `dir`, and the daemon's socket.
fn command(program: &Path, dir: &Path, runtime_dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", dir).env("RTM_RUNTIME_DIR", runtime_dir);
    command.env_remove("RTM_SOCKET");
    command
}

/// What the driver prints behind everything.
const DONE: &str = "=done=\n";

/// The driver, beside a daemon's directory.
struct Driver {
    process: Process,
    seen: usize,
    _dir: TempDir,
}

impl Driver {
    fn start(runtime_dir: &Path) -> Driver {
        let dir = tempfile::tempdir().unwrap();
        let program = program("tests/drive.c", dir.path());
        let process = Process::spawn(command(&program, dir.path(), runtime_dir));
        Driver { process, seen: 0, _dir: dir }
    }

    /// Does one line; gives what it printed, without that.
    fn does(&mut self, line: &str) -> String {
        self.process.write(&format!("{line}\n"));
        let start = Instant::now();
        loop {
            let out = self.process.stdout();
            if let Some(end) = out[self.seen..].find(DONE) {
                let told = out[self.seen..self.seen + end].to_owned();
                self.seen += end + DONE.len();
                return told;
            }
            assert!(start.elapsed() < PATIENCE && !self.process.ended(), "{line}: {out}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Does it again and again until it prints this.
    fn until(&mut self, line: &str, needle: &str) -> String {
        let start = Instant::now();
        let mut all = String::new();
        loop {
            let told = self.does(line);
            all += &told;
            if all.contains(needle) {
                return all;
            }
            assert!(start.elapsed() < PATIENCE, "{line}: no {needle:?} in {all}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn the_example_looks_addresses_up() {
    let daemon = Daemon::start(&["--no-console"]);
    daemon.rtm(&["route", "add", "10.0.0.0/8", "via", "192.0.2.1", "dev", "eth0"]);
    daemon.rtm(&["route", "add", "2001:db8::/32", "dev", "eth1"]);
    daemon.rtm(&["route", "add", "blackhole", "10.9.0.0/16"]);
    let dir = tempfile::tempdir().unwrap();
    let lookup = program("examples/lookup.c", dir.path());
    let mut run = command(&lookup, dir.path(), daemon.directory());
    let output = run.args(["10.1.1.1", "2001:db8::1", "10.9.1.1", "11.1.1.1", "x"]).output();
    let output = output.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "10.1.1.1 via 192.0.2.1 dev eth0\n2001:db8::1 via - dev eth1\n\
         10.9.1.1 unreachable\n11.1.1.1 unreachable\n"
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), "lookup: x: not an address\n");
    let lines = fs::read_to_string(format!("{CRATE}/examples/lookup.c")).unwrap().lines().count();
    assert!(lines <= 40, "{lines} lines");
    // Without a daemon it says so.
    let nowhere = tempfile::tempdir().unwrap();
    let output = command(&lookup, dir.path(), nowhere.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with("lookup: no daemon: ") && text.lines().count() == 1, "{text}");
}

#[test]
fn everything_is_found_in_every_way() {
    let daemon = Daemon::start(&["--no-console"]);
    daemon.rtm(&["route", "add", "10.0.0.0/8", "via", "192.0.2.1", "dev", "eth0", "mtu", "1400"]);
    daemon.rtm(&["route", "add", "2001:db8::/32", "via", "fe80::1", "dev", "eth1"]);
    let two = ["nexthop", "via", "192.0.2.2", "dev", "eth0", "weight", "3"];
    let two = [&two[..], &["nexthop", "via", "192.0.2.3", "dev", "eth1"]].concat();
    daemon.rtm(&[&["route", "add", "10.2.0.0/16"][..], &two].concat());
    daemon.rtm(&["route", "add", "10.3.0.0/16", "dev", "eth0", "table", "7", "src", "10.3.0.1"]);
    daemon.rtm(&["neigh", "add", "10.1.1.1", "lladdr", "02:00:00:00:00:01", "dev", "eth0"]);
    daemon.rtm(&["neigh", "add", "10.1.1.2", "lladdr", "02:00:00:00:00:01", "dev", "eth1"]);
    daemon.rtm(&["neigh", "add", "10.1.1.2", "lladdr", "02:00:00:00:00:02", "dev", "eth0"]);
    daemon.rtm(&["neigh", "add", "fe80::1", "lladdr", "02:00:00:00:00:03"]);
    let mut driver = Driver::start(daemon.directory());
    assert_eq!(driver.does("open 0 0"), "open: ok\n");
    for (line, told) in [
        (
            "lookup 0 254 10.1.1.1",
            "lookup: 10.1.1.1: 10.0.0.0/8 type 1 via 192.0.2.1 weight 1 hops 1 mtu 1400 src -\n",
        ),
        (
            "lookup 0 254 10.2.1.1",
            "lookup: 10.2.1.1: 10.2.0.0/16 type 1 via 192.0.2.2 weight 3 hops 2 mtu 0 src -\n",
        ),
        (
            "lookup 0 254 2001:db8::7",
            "lookup: 2001:db8::7: 2001:db8::/32 type 1 via fe80::1 weight 1 hops 1 mtu 0 src -\n",
        ),
        (
            "lookup 0 7 10.3.9.9",
            "lookup: 10.3.9.9: 10.3.0.0/16 type 1 via - weight 1 hops 1 mtu 0 src 10.3.0.1\n",
        ),
        ("lookup 0 254 9.9.9.9", "lookup: 9.9.9.9: none (0)\n"),
        ("lookup 0 9 10.1.1.1", "lookup: 10.1.1.1: none (0)\n"),
        ("neighbour 0 10.1.1.1 eth0", "neighbour: 1 10.1.1.1@eth0=02:00:00:00:00:01\n"),
        ("neighbour 0 10.1.1.1 eth1", "neighbour: 0\n"),
        ("neighbour 0 fe80::1", "neighbour: 1 fe80::1@-=02:00:00:00:00:03\n"),
        (
            "address 0 10.1.1.2",
            "address: 2 10.1.1.2@eth0=02:00:00:00:00:02 10.1.1.2@eth1=02:00:00:00:00:01\n",
        ),
        (
            "mac 0 02:00:00:00:00:01",
            "mac: 2 10.1.1.1@eth0=02:00:00:00:00:01 10.1.1.2@eth1=02:00:00:00:00:01\n",
        ),
        ("mac 0 02:00:00:00:00:09", "mac: 0\n"),
        ("each 0", "each: 0, 4 routes, one state: 1\n"),
        ("state 0", "state: revision 8 writer 1 connected 1 routes 4\n"),
    ] {
        assert_eq!(driver.does(line), told, "{line}");
    }
    // Two handles at a time; the one's end is not the other's.
    assert_eq!(driver.does("open 1 1"), "open: ok\n");
    assert_eq!(driver.does("close 0"), "closed\n");
    assert!(driver.does("lookup 1 254 10.1.1.1").contains("10.0.0.0/8"));
}

#[test]
fn wrong_arguments_are_answers() {
    let daemon = Daemon::start(&["--no-console"]);
    let mut driver = Driver::start(daemon.directory());
    driver.does("open 0 0");
    let told = driver.does("wrong 0");
    for line in [
        "null handle: RTM_E_ARGUMENT: the handle is a null pointer",
        "null answer: RTM_E_ARGUMENT: answer is a null pointer",
        "null batch: RTM_E_ARGUMENT: addresses is a null pointer",
        "family: RTM_E_ARGUMENT: 1 is no family; AF_INET (2) or AF_INET6 (10) would be right",
        "function: RTM_E_ARGUMENT: function is a null pointer",
        "event: RTM_E_ARGUMENT: event is a null pointer",
        "size: RTM_E_ARGUMENT: options.size is 0; sizeof(struct rtm_options) would be right",
        "flags: RTM_E_ARGUMENT: options.flags: 0x40 is no flag",
        "tcp: RTM_E_ARGUMENT: tcp://127.0.0.1:1: shared memory needs the daemon's Unix socket",
        "text: RTM_E_ARGUMENT: options.socket is not UTF-8",
        "left nothing, open(NULL) -1",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
}

/// Changes as events: by the pipe's descriptor, by the futex, after a flush.
#[test]
fn changes_come_in_order() {
    // So large that it needn't grow meanwhile.
    let limits = "[limits]\nimage_ring_bytes = \"16 MiB\"\n";
    let daemon = Daemon::start_with(limits, &["--no-console"]);
    let mut driver = Driver::start(daemon.directory());
    for (handle, flags) in [(0, 1), (1, 3)] {
        assert_eq!(driver.does(&format!("open {handle} {flags}")), "open: ok\n");
        assert_eq!(driver.does(&format!("events {handle}")), "events: done\n");
        assert_eq!(driver.does(&format!("wait {handle} 30")), "wait: 0\n");
    }
    assert_eq!(driver.does("poll 0 30"), "poll: 0\n");
    daemon.rtm(&["route", "add", "10.0.0.0/8", "via", "192.0.2.1", "dev", "eth0"]);
    daemon.rtm(&["neigh", "add", "10.1.1.1", "lladdr", "02:00:00:00:00:01", "dev", "eth0"]);
    daemon.rtm(&["route", "del", "10.0.0.0/8"]);
    assert_eq!(driver.does("poll 0 100000"), "poll: 1\n");
    for handle in [0, 1] {
        assert_eq!(driver.does(&format!("wait {handle} 100000")), "wait: 1\n");
        let told = driver.until(&format!("events {handle}"), "gone 10.0.0.0/8");
        let lines: Vec<&str> = told.lines().filter(|line| *line != "events: done").collect();
        assert_eq!(
            lines[..4],
            [
                "event: 1 link eth0",
                "event: 1 group of 1",
                "event: 1. route 10.0.0.0/8 table 254",
                "event: 2. neighbour 10.1.1.1",
            ],
            "{told}"
        );
        assert!(lines[4..].iter().any(|line| line.ends_with("gone 10.0.0.0/8")), "{told}");
        // What is told, lookups show.
        assert_eq!(
            driver.does(&format!("lookup {handle} 254 10.1.1.1")),
            "lookup: 10.1.1.1: none (0)\n"
        );
    }
    daemon.rtm(&["flush", "all", "--force"]);
    for handle in [0, 1] {
        driver.until(&format!("events {handle}"), "flushed 3");
    }
    driver.until("events 0", "events: done");
    assert_eq!(driver.does("poll 0 0"), "poll: 0\n", "nothing is left to be read");
    // Many, in turns of the daemon's: all of them, in order.
    let mut lines = String::new();
    for n in 0..20_000 {
        lines += &format!("route replace 10.{}.{}.0/24 dev eth0\n", n / 256, n % 256);
    }
    let mut load = daemon.spawn(&["route", "load", "-"]);
    load.write(&lines);
    load.finish();
    for handle in [0, 1] {
        let told = driver.until(&format!("drain {handle}"), "last 10.78.31.0");
        let changes = told.lines().filter_map(|line| line.strip_prefix("drain: "));
        let mut sum = 0;
        for line in changes {
            sum += line.split(',').next().unwrap().parse::<u64>().unwrap();
            assert!(line.contains("in order: 1"), "{line}");
        }
        assert_eq!(sum, 20_000);
    }
    // Waits end by a signal handler, by another thread, by the end of the handle.
    for handle in [0, 1] {
        assert_eq!(driver.does(&format!("alarm {handle}")), "alarm: 0\n");
        assert_eq!(
            driver.does(&format!("interrupt {handle}")),
            "wait in a thread: RTM_E_INTERRUPTED\n"
        );
        let told = driver.does(&format!("close-waiting {handle}"));
        assert!(told.contains("wait in a thread: RTM_E_INTERRUPTED\n"), "{told}");
        assert!(told.contains("closed\n"), "{told}");
    }
}

/// The tables move, the daemon is killed and started anew, and a handle that only
/// looks up goes on by itself.
#[test]
fn a_handle_attaches_again_by_itself() {
    let daemon = Daemon::start(&["--no-console"]);
    daemon.rtm(&["route", "add", "10.0.0.0/8", "via", "192.0.2.1", "dev", "eth0"]);
    let mut driver = Driver::start(daemon.directory());
    for (handle, flags) in [(0, 0), (1, 1), (2, 3)] {
        driver.does(&format!("open {handle} {flags}"));
    }
    let lines: String = (0..120_000)
        .map(|n| {
            let prefix = std::net::Ipv4Addr::from(0x0b00_0000 + (n << 8));
            format!("route replace {prefix}/24 via 192.0.2.1 dev eth0\n")
        })
        .collect();
    let mut load = daemon.spawn(&["route", "load", "-"]);
    load.write(&lines);
    assert_eq!(load.finish().code, Some(0));
    assert!(daemon.json(&["status", "image"])["object_bytes"].as_u64().unwrap() > 8 << 20);
    assert_eq!(driver.does("until 0 12.200.1.1"), "until: found\n");
    // Nobody fetched what came meanwhile, which is about as much as a ring holds:
    // either all of it is told, over the growth, or that it isn't.
    for handle in [1, 2] {
        let (mut told, start) = (String::new(), Instant::now());
        let ended = |told: &str| told.contains("reread") || told.contains("last 12.212.191.0");
        while !ended(&told) {
            assert!(start.elapsed() < PATIENCE, "{told}");
            told += &driver.does(&format!("drain {handle}"));
        }
        assert!(told.contains("drain: attached\n"), "{told}");
        let counts = told.lines().filter_map(|line| line.strip_prefix("drain: "));
        let counts = counts.filter_map(|line| line.split_once(',')?.0.parse::<u64>().ok());
        let sum: u64 = counts.sum();
        assert!(told.contains("reread") || sum == 120_000, "{sum} were told, and no gap");
        assert!(driver.does(&format!("lookup {handle} 254 12.212.191.9")).contains("/24"));
    }
    daemon.rtm(&["route", "add", "192.168.0.0/16", "via", "192.0.2.1", "dev", "eth0"]);
    for handle in [1, 2] {
        driver.until(&format!("drain {handle}"), "last 192.168.0.0");
    }
    let directory = daemon.kill();
    for handle in [1, 2] {
        driver.until(&format!("events {handle}"), " lost: ");
    }
    driver.until("state 0", "writer 4 connected 0");
    assert!(driver.does("lookup 0 254 10.1.1.1").contains("10.0.0.0/8"), "the last table");
    let next = Daemon::start_in(directory, &["--no-console"]);
    next.rtm(&["route", "add", "172.16.0.0/12", "via", "192.0.2.1", "dev", "eth0"]);
    for handle in [1, 2] {
        let told = driver.until(&format!("events {handle}"), " reread\n");
        assert!(told.contains(" attached\n"), "{told}");
    }
    assert_eq!(driver.does("until 0 172.16.1.1"), "until: found\n");
    for handle in [0, 1, 2] {
        driver.until(&format!("state {handle}"), "writer 1 connected 1 routes 1\n");
    }
    next.rtm(&["route", "add", "172.32.0.0/12", "via", "192.0.2.1", "dev", "eth0"]);
    for handle in [1, 2] {
        driver.until(&format!("events {handle}"), "route 172.32.0.0/12");
    }
    // An admin ends a session: that is told, and the library stays away.
    next.rtm(&["client", "kill", "drive"]);
    driver.until("events 1", "events: RTM_E_REFUSED: ");
    assert!(driver.does("lookup 1 254 172.16.1.1").contains("172.16.0.0/12"));
}

#[test]
fn a_forked_child_goes_on_and_leaves_its_parent_alone() {
    let daemon = Daemon::start(&["--no-console"]);
    daemon.rtm(&["route", "add", "10.0.0.0/8", "via", "192.0.2.1", "dev", "eth0"]);
    let mut driver = Driver::start(daemon.directory());
    driver.does("open 0 1");
    let told = driver.does("fork 0 10.1.1.1");
    assert!(told.contains("lookup: 10.1.1.1: 10.0.0.0/8"), "{told}");
    assert!(told.contains("child: connected 1\n") && told.contains("child: 0\n"), "{told}");
    // The child's end was a session's of its own.
    let clients = daemon.json(&["client", "list"]);
    let named = |clients: &serde_json::Value| {
        let clients = clients.as_array().unwrap();
        clients.iter().filter(|client| client["name"] == "drive").count()
    };
    assert_eq!(named(&clients), 1, "{clients}");
    daemon.rtm(&["route", "add", "11.0.0.0/8", "via", "192.0.2.1", "dev", "eth0"]);
    let told = driver.until("events 0", "route 11.0.0.0/8");
    assert!(!told.contains("lost"), "{told}");
}

#[test]
fn who_may_not_and_who_is_early() {
    let directory = tempfile::Builder::new().prefix("rtm-e2e-").tempdir().unwrap();
    let socket = directory.path().join("rtm.sock");
    let mut driver = Driver::start(directory.path());
    let told = driver.does("open 0 0");
    assert!(told.starts_with("open: RTM_E_NO_DAEMON: no daemon: "), "{told}");
    // Opened before there is a daemon, and with a socket that is named.
    assert_eq!(driver.does(&format!("open 1 5 {}", socket.display())), "open: ok\n");
    let told = driver.does("lookup 1 254 10.1.1.1");
    assert!(told.starts_with("lookup: RTM_E_NOT_READY: "), "{told}");
    let daemon = Daemon::start_in(directory, &["--no-console"]);
    daemon.rtm(&["route", "add", "10.0.0.0/8", "via", "192.0.2.1", "dev", "eth0"]);
    assert_eq!(driver.does("until 1 10.1.1.1"), "until: found\n");
    driver.until("events 1", " attached\n");
    if !rtm_e2e::require::root("who_may_not_and_who_is_early") {
        return;
    }
    // Another user, whom the socket's mode keeps out.
    let set_mode = |path: &Path, mode| {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    let dir = tempfile::tempdir().unwrap();
    set_mode(&socket, 0o600);
    set_mode(dir.path(), 0o755);
    set_mode(daemon.directory(), 0o755);
    let lookup = program("examples/lookup.c", dir.path());
    fs::remove_file(dir.path().join("librtm.so.0")).unwrap();
    fs::copy(target().join("librtm.so"), dir.path().join("librtm.so.0")).unwrap();
    let mut other = command(&lookup, dir.path(), daemon.directory());
    std::os::unix::process::CommandExt::uid(&mut other, 65_534);
    std::os::unix::process::CommandExt::gid(&mut other, 65_534);
    let output = other.current_dir("/").arg("10.1.1.1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with("lookup: no access: "), "{text}");
}

/// The header in every dialect, with and without its neighbours.
#[test]
fn the_header_is_c_and_cpp() {
    let dir = tempfile::tempdir().unwrap();
    let include = format!("-I{CRATE}/include");
    let source = "#include <rtm.h>\n#include <linux/rtnetlink.h>\n\
        int ask(struct rtm *rtm);\n\
        int ask(struct rtm *rtm) { struct rtm_link link; struct rtm_event event;\n\
        return rtm_link(rtm, 1, &link) + rtm_next_event(rtm, &event) + (int)event.u.group.hops; }\n";
    for (compiler, file, dialects) in [
        ("cc", "ask.c", &["c99", "c11", "c17"][..]),
        ("c++", "ask.cc", &["c++11", "c++17", "c++20"]),
    ] {
        let path = dir.path().join(file);
        fs::write(&path, source).unwrap();
        for dialect in dialects {
            let dialect = format!("-std={dialect}");
            compile(compiler, &[&dialect, "-fsyntax-only", &include, path.to_str().unwrap()]);
        }
    }
}

/// What the library exports is what the header declares, and its soname is set.
#[test]
fn names_and_soname() {
    let library = target().join("librtm.so");
    let output = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).arg(&library).output().unwrap();
        assert!(output.status.success(), "{program} {args:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let exported: BTreeSet<String> = output("nm", &["-D", "--defined-only"])
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .map(str::to_owned)
        .collect();
    let header = fs::read_to_string(format!("{CRATE}/include/rtm.h")).unwrap();
    let declared: BTreeSet<String> = header
        .lines()
        .filter(|line| line.starts_with(|letter: char| letter.is_ascii_lowercase()))
        .filter(|line| !line.starts_with("typedef"))
        .filter_map(|line| line.split('(').next().filter(|start| *start != line))
        .filter_map(|start| start.split([' ', '*']).next_back())
        .map(str::to_owned)
        .collect();
    assert_eq!(exported, declared);
    assert!(output("readelf", &["-d"]).contains("Library soname: [librtm.so.0]"));
}

/// What is installed can be found by pkg-config, compiled against and run.
#[test]
fn installed_it_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().join("usr");
    let run = |command: &mut Command| {
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/install-librtm");
    // DESTDIR is empty, so that what is installed is where it says.
    run(Command::new(script).arg(&prefix).env("RTM_TARGET", target()).env("DESTDIR", ""));
    let pc = prefix.join("lib/pkgconfig");
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", &pc).args(["--cflags", "--libs", "rtm"]);
    let flags = run(&mut command);
    let mut version = Command::new("pkg-config");
    version.env("PKG_CONFIG_PATH", &pc).args(["--modversion", "rtm"]);
    assert_eq!(run(&mut version).trim(), env!("CARGO_PKG_VERSION"));
    let program = dir.path().join("lookup");
    run(Command::new("cc")
        .arg(format!("{CRATE}/examples/lookup.c"))
        .args(["-D_GNU_SOURCE", "-o"])
        .arg(&program)
        .args(flags.split_whitespace()));
    let daemon = Daemon::start(&["--no-console"]);
    daemon.rtm(&["route", "add", "10.0.0.0/8", "via", "192.0.2.1", "dev", "eth0"]);
    let mut lookup = self::command(&program, &prefix.join("lib"), daemon.directory());
    assert_eq!(run(lookup.arg("10.1.1.1")), "10.1.1.1 via 192.0.2.1 dev eth0\n");
    // And without the shared library, by what the .pc says of the static one.
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", &pc).args(["--static", "--libs-only-l", "rtm"]);
    let libraries = run(&mut command);
    let mut link = Command::new("cc");
    link.arg(format!("{CRATE}/examples/lookup.c"));
    link.args(["-D_GNU_SOURCE", "-o"]).arg(&program);
    link.arg(format!("-I{}", prefix.join("include").display()));
    link.arg(prefix.join("lib/librtm.a"));
    link.args(libraries.split_whitespace().filter(|library| *library != "-lrtm"));
    run(&mut link);
    let mut lookup = self::command(&program, Path::new("/nonexistent"), daemon.directory());
    assert_eq!(run(lookup.arg("10.1.1.1")), "10.1.1.1 via 192.0.2.1 dev eth0\n");
}
