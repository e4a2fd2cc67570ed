//! What a reader may try against the image, with nothing but the descriptor
//! that it was given: as root, as the daemon's own user, as another one.
//! (What it tries is in `support/attacker.rs`.)

#[path = "support/attacker.rs"]
mod attacker;
mod support;

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rtm_image::{Memory, Reader, Settings, WAIT_MAX, Writer, layout};
use support::{digests, image};

/// Set for the process that attacks.
const ATTACKER: &str = "RTM_IMAGE_ATTACKER";

/// Not a test: the attacker. Its standard input is the image. Ends with a
/// panic if anything succeeded.
#[test]
fn child_attacker() {
    if std::env::var(ATTACKER).is_err() {
        return;
    }
    let fd = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let tried = attacker::attack(&fd, Vec::new());
    writeln!(std::io::stderr(), "attacked through {tried} descriptors").unwrap();
}

fn attack(uid: Option<u32>) {
    let (mut writer, reader) = image(Settings::default());
    let before = attacker::blocks(reader.descriptor());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child_attacker", "--nocapture"])
        .env(ATTACKER, "1")
        .stdin(Stdio::from(reader.descriptor().try_clone_to_owned().unwrap()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if let Some(uid) = uid {
        command.uid(uid).gid(uid).current_dir("/");
    }
    let output = match command.output() {
        Ok(output) => output,
        // Another user may not be able to start a binary below /root.
        Err(error) if uid.is_some() => {
            return not_run("attack_as_another_user", &error.to_string());
        }
        Err(error) => panic!("{error}"),
    };
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("attacked through"), "{text}");
    assert_eq!(attacker::blocks(reader.descriptor()), before);
    writer.commit(1, 1, &digests(1)).unwrap();
    assert_eq!(reader.state().unwrap().revision, 1, "and it goes on");
}

fn not_run(name: &str, why: &str) {
    assert!(std::env::var("RTM_REQUIRE_ROOT").is_err(), "{name}: {why}");
    let _ = std::io::stderr().write_all(format!("not run: {name} ({why})\n").as_bytes());
}

#[test]
fn attack_as_ourselves() {
    attack(None);
}

#[test]
fn attack_as_another_user() {
    if !rustix::process::geteuid().is_root() {
        return not_run("attack_as_another_user", "only root can become somebody else");
    }
    attack(Some(65_534));
}

#[test]
fn attack_as_the_daemons_user() {
    if !rustix::process::geteuid().is_root() {
        return not_run("attack_as_the_daemons_user", "attack_as_ourselves is that");
    }
    // The object belongs to the user that the attacker becomes.
    let (writer, reader) = image(Settings::default());
    let user = rustix::fs::Uid::from_raw(65_534);
    let owned = rustix::fs::fchown(reader.descriptor(), Some(user), None);
    drop((writer, reader));
    if let Err(error) = owned {
        return not_run("attack_as_the_daemons_user", &error.to_string());
    }
    attack_owned(65_534);
}

fn attack_owned(uid: u32) {
    let (writer, reader) = image(Settings::default());
    rustix::fs::fchown(reader.descriptor(), Some(rustix::fs::Uid::from_raw(uid)), None).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_attacker", "--nocapture"])
        .env(ATTACKER, "1")
        .stdin(Stdio::from(reader.descriptor().try_clone_to_owned().unwrap()))
        .uid(uid)
        .gid(uid)
        .current_dir("/")
        .output();
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && text.contains("attacked through"), "{text}");
        }
        Err(error) => not_run("attack_as_the_daemons_user", &error.to_string()),
    }
    drop(writer);
}

#[test]
fn reading_everything_takes_no_memory() {
    let (_writer, reader) = image(Settings { bytes: 8 << 20, ..Settings::default() });
    attacker::touch_every_page(reader.descriptor());
}

/// Nobody gets at a larger object while it is still being filled either.
#[test]
fn a_successor_is_sealed_before_it_is_filled() {
    let (writer, _reader) = image(Settings::default());
    let successor = writer.memory().successor(16 << 20).unwrap();
    let fd = successor.descriptor().try_clone_to_owned().unwrap();
    assert_eq!(attacker::blocks(&fd), (16 << 20, 0), "nothing is allocated yet");
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    assert!(attacker::attack(&fd, attacker::reopened(&path)) > 1);
    // It can be filled all the same.
    successor.allocate(0, 8 << 20).unwrap();
    successor.allocate(8 << 20, 8 << 20).unwrap();
    attacker::touch_every_page(&fd);
}

#[test]
fn what_is_no_image_is_refused() {
    let refused = |fd: OwnedFd| Reader::attach(fd).unwrap_err().to_string();
    let empty = ipc::memfd::create("empty").unwrap();
    assert!(refused(empty).contains("its size"));
    let unsealed = ipc::memfd::create_full("zeros", 1 << 20).unwrap();
    ipc::memfd::seal(&unsealed, ipc::memfd::Seals::GROW).unwrap();
    assert!(refused(unsealed).contains("sealed"));
    let zeros = ipc::memfd::create_full("zeros", 1 << 20).unwrap();
    ipc::memfd::seal_for_readers(&zeros).unwrap();
    assert!(refused(zeros).contains("first eight bytes"));
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(refused(file.into()).contains("its size"));
}

/// Whatever stands in the memory: a reader ends, doesn't crash and says busy
/// or something, never touches what lies outside.
#[test]
fn rubbish_is_survived() {
    let bytes = 1 << 20;
    let mut random = support::Random(5);
    for round in 0..60 {
        let settings = Settings { bytes, ring_bytes: 1 << 12, ..Settings::default() };
        let (mut writer, _) = image(settings);
        let mut model = support::Model::default();
        let mix = support::Mix { tables: &[254, 9], groups: 5, deletes: 100 };
        for _ in 0..if round % 2 == 0 { 200 } else { 1500 } {
            let op = support::op(&mut random, &model, mix);
            model.apply(&op);
            support::write(&mut writer, &op);
        }
        writer.commit(7, 1, &digests(1)).unwrap();
        let size = blocks_of(&writer);
        // A copy of the object with words of it replaced.
        let fd = ipc::memfd::create_full("rubbish", size).unwrap();
        let copy = ipc::map::MapMut::of(&fd, size as usize).unwrap();
        let source = ipc::map::Map::of(writer.memory().descriptor(), size as usize).unwrap();
        copy.bytes_in(0, &source.to_vec(0, size as usize));
        ipc::memfd::seal_for_readers(&fd).unwrap();
        let reader = Reader::attach(fd).unwrap();
        let heap = layout::SLOTS_AT as u64 * 8;
        for _ in 0..20_000 {
            let at = heap + random.below((size - heap) / 8) * 8;
            let value = match random.below(4) {
                0 => random.next(),
                1 => random.next() & 0x0fff_ffff,
                2 => u64::MAX,
                _ => copy.load_u64(
                    (heap + random.below((size - heap) / 8) * 8) as usize,
                    Ordering::Relaxed,
                ),
            };
            copy.store_u64(at as usize, value, Ordering::Relaxed);
        }
        for address in support::addresses(&mut random, &model, 200) {
            for table in [254, 9, 3] {
                let _ = reader.lookup(table, address);
                let _ = reader.lookup_hop(table, address, 7);
                let _ = reader.lookup_route(table, address);
            }
        }
        let _ = reader.state();
        let _ = reader.routes4(None).take(10_000).count();
        let _ = reader.routes6(None).take(10_000).count();
        let _ = reader.groups().take(10_000).count();
        let _ = reader.links().take(10_000).count();
        let _ = reader.neighbours().take(10_000).count();
        let _ = reader.neighbours_in_mac_order().take(10_000).count();
        for key in model.neighbours.keys() {
            let _ = reader.neighbour(key);
            let _ = reader.neighbours_by_ip(key.ip);
        }
        let _ = reader.neighbours_by_mac(rtm_model::Mac([2, 0, 0, 0, 0, 3]));
    }
}

fn blocks_of(writer: &Writer<rtm_image::Object>) -> u64 {
    writer.status().bytes
}

/// A local process moves everybody who waits to a futex of its own, over and
/// over, and wakes nobody. Each change arrives all the same, because no wait is
/// longer than the bound: waits are counted that only their time ended.
#[test]
fn stolen_wake_ups_cost_at_most_the_bound() {
    const LATE: u64 = 5;
    let (mut writer, reader) = image(Settings::default());
    let (stop, stolen) = (AtomicBool::new(false), AtomicU64::new(0));
    let fd = reader.descriptor().try_clone_to_owned().unwrap();
    let (late, longest) = std::thread::scope(|scope| {
        let thief = scope.spawn(|| attacker::steal_wake_ups(&fd, &stop, &stolen));
        let mut ring = reader.ring();
        let (tell, told) = std::sync::mpsc::channel();
        let waiter = scope.spawn(move || {
            let (mut out, mut longest) = (Vec::new(), Duration::ZERO);
            while ring.late() < LATE {
                let start = Instant::now();
                // Asked for far more than it gets.
                let behind = ring.wait(Duration::from_secs(10_000)).unwrap();
                longest = longest.max(start.elapsed());
                if behind {
                    out.clear();
                    ring.read(&mut out).unwrap();
                    let last = out.last_chunk().map(|bytes| u64::from_le_bytes(*bytes));
                    tell.send(last.expect("what was appended")).unwrap();
                }
            }
            (ring.late(), longest)
        });
        let mut turn = 0_u64;
        while !waiter.is_finished() {
            // Asleep, and moved away: from here on only the time ends its sleep.
            let before = stolen.load(Ordering::SeqCst);
            while stolen.load(Ordering::SeqCst) == before && !waiter.is_finished() {
                std::thread::sleep(Duration::from_micros(100));
            }
            turn += 1;
            writer.ring_append(&turn.to_le_bytes());
            writer.ring_publish();
            if told.recv().is_ok_and(|came| came != turn) {
                panic!("another change than {turn} came");
            }
        }
        stop.store(true, Ordering::Relaxed);
        thief.join().unwrap();
        waiter.join().unwrap()
    });
    let stolen = stolen.into_inner();
    println!(
        "{stolen} moved away, {late} late, the longest wait {longest:?}, {WAIT_MAX:?} the bound"
    );
    assert!(late >= LATE && stolen >= late);
}
