//! What local processes may try against the image of a real daemon, with the
//! descriptor that its socket gives to anybody: as root, as the daemon's own
//! user, as another one. What they try stands in the image crate's tests.

#[path = "../../crates/image/tests/support/attacker.rs"]
mod attacker;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rtm_client::{Address, Admin, DescriptorKind, Reader, RingEvent, RingFollower};
use rtm_e2e::process::PATIENCE;
use rtm_e2e::{Daemon, copy_of, require};

/// Set for the process that attacks: the socket, and the daemon's pid.
const SOCKET: &str = "RTM_ATTACK_SOCKET";
const DAEMON: &str = "RTM_ATTACK_DAEMON";

/// Two users that are nobody here.
const USERS: [u32; 2] = [65_534, 65_533];

fn image(socket: &Path) -> OwnedFd {
    let mut admin = Admin::connect(&Address::Unix(socket.to_owned()), "reader").unwrap();
    admin.descriptor(DescriptorKind::Image).unwrap()
}

/// Not a test: the attacker. Ends with a panic if anything succeeded.
#[test]
fn child_attacker() {
    let (Ok(socket), Ok(daemon)) = (std::env::var(SOCKET), std::env::var(DAEMON)) else { return };
    let fd = image(Path::new(&socket));
    // The daemon's own descriptors, for who may look into its /proc.
    let paths = attacker::of_process(daemon.parse().unwrap());
    let theirs: Vec<OwnedFd> = paths.iter().flat_map(|path| attacker::reopened(path)).collect();
    let count = theirs.len();
    let tried = attacker::attack(&fd, theirs);
    attacker::touch_every_page(&fd);
    println!("attacked through {tried} descriptors, {count} of the daemon's");
}

/// A daemon of a user's, in a directory that everybody can enter.
fn daemon_of(user: u32) -> Daemon {
    let directory = tempfile::Builder::new().prefix("rtm-e2e-").tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = Command::new(copy_of("rtmd", directory.path()));
    if user != 0 {
        chown(directory.path(), Some(user), Some(user)).unwrap();
        command.uid(user).gid(user).current_dir("/");
    }
    Daemon::start_by(command, directory, &["--no-console"])
}

/// This test's binary, where another user can reach it.
fn own_binary(directory: &Path) -> PathBuf {
    let copy = directory.join("attacker");
    let made = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&copy).status();
    assert!(made.unwrap().success());
    copy
}

/// Attacks as `user`; how many descriptors of the daemon's own it could open.
fn attack(daemon: &Daemon, binary: &Path, user: u32) -> u64 {
    let mut command = Command::new(binary);
    command
        .args(["--exact", "child_attacker", "--nocapture"])
        .env(SOCKET, daemon.directory().join("rtm.sock"))
        .env(DAEMON, daemon.process.pid().to_string())
        .current_dir("/")
        .stdin(Stdio::null());
    if user != 0 {
        command.uid(user).gid(user);
    }
    let output = command.output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "user {user}: {out}{err}");
    // With one test thread the line stands behind the test's own `test NAME ... `.
    let at = out.find("attacked through ").expect("it attacked");
    let line = out[at..].lines().next().unwrap_or_default();
    println!("user {user}: {line}");
    line.split(' ').nth(4).unwrap().parse().unwrap()
}

#[test]
fn nobody_writes_shortens_or_punches() {
    if !require::root("nobody_writes_shortens_or_punches") {
        return;
    }
    for owner in [0, USERS[0]] {
        let daemon = daemon_of(owner);
        let binary = own_binary(daemon.directory());
        for n in 0..2000 {
            let prefix = format!("10.{}.{}.0/24", n / 256, n % 256);
            if n % 100 == 0 {
                daemon.rtm(&["route", "add", &prefix, "via", "192.0.2.1", "dev", "eth0"]);
            }
        }
        daemon.rtm(&["neigh", "add", "10.1.1.1", "lladdr", "02:00:00:00:00:01", "dev", "eth0"]);
        let fd = image(&daemon.directory().join("rtm.sock"));
        let (before, blocks) = (daemon.rtm(&["digest"]), attacker::blocks(&fd));
        for user in [0, USERS[0], USERS[1]] {
            let theirs = attack(&daemon, &binary, user);
            // Only root sees them: the daemon isn't dumpable, so /proc/PID/fd isn't
            // its own user's.
            assert_eq!(theirs > 0, user == 0, "user {user} opened {theirs}");
            assert_eq!(attacker::blocks(&fd), blocks);
            // What readers find in it is still what the daemon has.
            let shown = daemon.rtm(&["client", "--mapped", "--once", "--verify"]);
            assert_eq!(shown, before, "owner {owner}, user {user}");
            assert_eq!(daemon.rtm(&["digest"]), before);
        }
        attacker::touch_every_page(&fd);
        // And it is written on.
        let reader = Reader::attach(fd).unwrap();
        daemon.rtm(&["route", "add", "203.0.113.0/24", "dev", "eth0"]);
        assert!(reader.lookup4([203, 0, 113, 9].into()).unwrap().is_some());
    }
}

/// Everybody who waits for changes is moved to another futex and never woken. A
/// change costs them at most the bound, so it comes: waits are counted that only
/// their time ended.
#[test]
fn stolen_wake_ups_cost_followers_at_most_the_bound() {
    const LATE: u64 = 8;
    let daemon = Daemon::start(&["--no-console"]);
    let fd = image(&daemon.directory().join("rtm.sock"));
    // A follower of the library's, and the command.
    let reader = Reader::attach(fd.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let mut ring = RingFollower::new(&reader);
    let command = daemon.spawn(&["-j", "client", "--mapped", "--futex", "--count"]);
    command.wait_stderr("attached: ");
    let (stop, stolen) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut changes = 0_u64;
    std::thread::scope(|scope| {
        let thief = scope.spawn(|| attacker::steal_wake_ups(&fd, &stop, &stolen));
        let (tell, told) = std::sync::mpsc::channel();
        let waiter = scope.spawn(move || {
            while ring.late() < LATE {
                // Asked for far more than it gets.
                if ring.wait(PATIENCE).unwrap() {
                    ring.poll(|event| match event {
                        RingEvent::Record(record) if record.last => {
                            tell.send(record.revision.0).unwrap();
                        }
                        RingEvent::Record(_) => {}
                        event => panic!("{event:?}"),
                    });
                }
            }
            ring.late()
        });
        while !waiter.is_finished() {
            let before = stolen.load(Ordering::SeqCst);
            while stolen.load(Ordering::SeqCst) == before && !waiter.is_finished() {
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
            changes += 1;
            let prefix = format!("10.0.{changes}.0/24");
            daemon.rtm(&["route", "add", &prefix, "dev", "eth0"]);
            // It comes, though who was to be told was moved away before.
            if let Ok(revision) = told.recv() {
                assert_eq!(revision, changes);
            }
        }
        assert!(waiter.join().unwrap() >= LATE);
        stop.store(true, Ordering::Relaxed);
        thief.join().unwrap();
    });
    println!("{changes} changes came, {} waiters were moved away", stolen.into_inner());
    daemon.rtm(&["sync"]);
    command.signal(15);
    let output = command.finish();
    assert_eq!(output.code, Some(0), "{}", output.err);
    let counts: serde_json::Value = serde_json::from_str(&output.out).unwrap();
    // Each brings a group, a route, and the first one a link.
    assert_eq!((&counts["revision"], &counts["rereads"]), (&changes.into(), &0.into()), "{counts}");
    assert!(counts["records"].as_u64().unwrap() >= changes, "{counts}");
    assert!(counts["late"].as_u64().unwrap() > 0, "{counts}");
}
