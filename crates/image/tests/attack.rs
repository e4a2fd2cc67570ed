//! What a reader may try against the image, with nothing but the descriptor
//! that it was given: as root, as the daemon's own user, as another one.
//!
//! (ptrace and /proc/PID/mem of the daemon are out of scope: who may do these
//! owns the daemon.)
#![allow(unsafe_code)] // raw calls that no wrapper would make

mod support;

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rtm_image::{Reader, Settings, WAIT_MAX, Writer, layout};
use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::mm::{MapFlags, MprotectFlags, MremapFlags, ProtFlags};
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
    let size = rustix::fs::fstat(&fd).unwrap().st_size as u64;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut open: Vec<OwnedFd> = vec![fd.try_clone().unwrap()];
    for flags in [OFlags::RDWR, OFlags::WRONLY, OFlags::RDWR | OFlags::TRUNC] {
        // Root may open it; what it gets then is as useless.
        open.extend(rustix::fs::open(&path, flags, Mode::empty()));
    }
    let _ = rustix::fs::fchmod(&fd, Mode::RWXU | Mode::RWXG | Mode::RWXO);
    open.extend(rustix::fs::open(&path, OFlags::RDWR, Mode::empty()));
    for fd in &open {
        rustix::io::pwrite(fd, b"evil", 0).unwrap_err();
        rustix::fs::ftruncate(fd, 0).unwrap_err();
        rustix::fs::ftruncate(fd, size * 2).unwrap_err();
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(fd, hole, 0, 4096).unwrap_err();
        rustix::fs::fallocate(fd, FallocateFlags::ZERO_RANGE, 0, 4096).unwrap_err();
        rustix::fs::fallocate(fd, FallocateFlags::empty(), size, 4096).unwrap_err();
        let _ = rustix::fs::fcntl_add_seals(fd, rustix::fs::SealFlags::WRITE).unwrap_err();
        // SAFETY: new maps at an address of the kernel's choice; what is
        // unmapped or remapped are these maps alone.
        unsafe {
            let null = core::ptr::null_mut();
            let both = ProtFlags::READ | ProtFlags::WRITE;
            rustix::mm::mmap(null, 4096, both, MapFlags::SHARED, fd, 0).unwrap_err();
            if let Ok(map) = rustix::mm::mmap(null, 4096, ProtFlags::READ, MapFlags::SHARED, fd, 0)
            {
                rustix::mm::mprotect(map, 4096, MprotectFlags::READ | MprotectFlags::WRITE)
                    .unwrap_err();
                // Moving and growing the map gives nothing but a read-only map.
                let moved = rustix::mm::mremap(map, 4096, 8192, MremapFlags::MAYMOVE).unwrap();
                rustix::mm::mprotect(moved, 8192, MprotectFlags::READ | MprotectFlags::WRITE)
                    .unwrap_err();
                rustix::mm::madvise(moved, 4096, rustix::mm::Advice::LinuxRemove).unwrap_err();
                rustix::mm::munmap(moved, 8192).unwrap();
            }
        }
    }
    // A lock of ours must not make a dead writer look alive, nor take the writer's.
    // SAFETY: a C struct of integers.
    let mut lock: libc::flock = unsafe { core::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    for fd in &open {
        // SAFETY: a valid descriptor and a pointer to a flock.
        let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
        assert_eq!(result, -1, "the writer's lock is taken");
    }
    writeln!(std::io::stderr(), "attacked through {} descriptors", open.len()).unwrap();
}

fn attack(uid: Option<u32>) {
    let (mut writer, reader) = image(Settings::default());
    let before = blocks(&reader);
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
    assert_eq!(blocks(&reader), before);
    writer.commit(1, 1, &digests(1)).unwrap();
    assert_eq!(reader.state().unwrap().revision, 1, "and it goes on");
}

fn not_run(name: &str, why: &str) {
    assert!(std::env::var("RTM_REQUIRE_ROOT").is_err(), "{name}: {why}");
    let _ = std::io::stderr().write_all(format!("not run: {name} ({why})\n").as_bytes());
}

fn blocks(reader: &Reader) -> (i64, i64) {
    let stat = rustix::fs::fstat(reader.descriptor()).unwrap();
    (stat.st_size, stat.st_blocks)
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
    let before = blocks(&reader);
    assert_eq!(before.1 * 512, before.0, "allocated in full, no hole");
    let map = ipc::map::Map::of(reader.descriptor(), before.0 as usize).unwrap();
    let mut page = [0; 4096];
    for offset in (0..map.len()).step_by(page.len()) {
        map.bytes_out(offset, &mut page);
    }
    assert_eq!(blocks(&reader), before);
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
                    core::sync::atomic::Ordering::Relaxed,
                ),
            };
            copy.store_u64(at as usize, value, core::sync::atomic::Ordering::Relaxed);
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
/// over. It costs a waiter at most the bound.
#[test]
fn stolen_wake_ups_cost_at_most_the_bound() {
    let (mut writer, reader) = image(Settings::default());
    let stop = std::sync::atomic::AtomicBool::new(false);
    let map = ipc::map::Map::of(reader.descriptor(), layout::HEADER_WORDS * 8).unwrap();
    let mut stolen = 0_i64;
    let mut worst = Duration::ZERO;
    std::thread::scope(|scope| {
        let thief = scope.spawn(|| {
            let mut stolen = 0;
            let from = map.as_ptr().wrapping_add(layout::AT_WAKE * 8).cast::<u32>();
            let to = map.as_ptr().wrapping_add(layout::SLOTS_AT * 8).cast::<u32>();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let value = map.load_u32(layout::AT_WAKE * 8, std::sync::atomic::Ordering::Relaxed);
                // SAFETY: both words lie in the map; the kernel only reads them.
                let moved = unsafe {
                    libc::syscall(
                        libc::SYS_futex,
                        from,
                        libc::FUTEX_CMP_REQUEUE,
                        0,
                        i32::MAX as usize,
                        to,
                        value,
                    )
                };
                stolen += moved.max(0);
                std::thread::sleep(Duration::from_micros(200));
            }
            stolen
        });
        let mut ring = reader.ring();
        let waiter = scope.spawn(move || {
            let mut out = Vec::new();
            let mut worst = Duration::ZERO;
            while out.len() < 8 * 20 {
                let start = Instant::now();
                ring.wait(Duration::from_secs(100)).unwrap();
                worst = worst.max(start.elapsed());
                ring.read(&mut out).unwrap();
            }
            worst
        });
        for turn in 0..20_u64 {
            std::thread::sleep(Duration::from_millis(10));
            writer.ring_append(&turn.to_le_bytes());
            writer.ring_publish();
        }
        worst = waiter.join().unwrap();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        stolen = thief.join().unwrap();
    });
    println!("{stolen} wake-ups stolen, the longest wait {worst:?}, the bound {WAIT_MAX:?}");
}
