//! Signals, processes, timers, pipes, FIFOs, lock files, memory, netlink.
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use ipc::map::{self, Map, MapMut};
use ipc::signal::{self, Signal, SignalFd, SignalSet};
use ipc::{Errno, fifo, futex, lock, memfd, netlink, pidfd, pipe, process, timer};
use rustix::process::Pid;

#[test]
fn signals_have_names_and_numbers_both_ways() {
    for signal in Signal::all() {
        assert_eq!(signal.name().parse::<Signal>().unwrap(), signal);
        assert_eq!(signal.to_string().to_lowercase().parse::<Signal>().unwrap(), signal);
        assert_eq!(signal.number().to_string().parse::<Signal>().unwrap(), signal);
    }
    assert_eq!(Signal::all().count(), 31 + 31);
    assert_eq!("IOT".parse::<Signal>().unwrap(), Signal::ABRT);
    assert_eq!("RTMAX-1".parse::<Signal>().unwrap().number(), libc::SIGRTMAX() - 1);
    assert_eq!(Signal::INT.description(), "Interrupt");
    for bad in ["", "SIG", "0", "-1", "32", "33", "65", "TERMX", "RTMIN+31", "RTMAX+1", "RTMINX"] {
        let error = bad.parse::<Signal>().unwrap_err();
        assert_eq!(error.to_string(), format!("{bad}: no such signal"));
    }
}

/// Blocked signals belong to a thread, and a signal to the process goes to any
/// thread that doesn't block it: so the signals of these tests are sent to a
/// child, which is this test run again.
#[test]
fn a_child_reads_its_signals() {
    if std::env::var_os("IPC_TEST_SIGNALS").is_some() {
        // One thread would be better, but SIGRTMIN's default ends the process,
        // so the other threads block it as well: the mask was inherited.
        let rt: Signal = "RTMIN+1".parse().unwrap();
        let signals = SignalFd::new(&SignalSet::of(&[rt, Signal::USR2])).unwrap();
        eprintln!("ready");
        let mut seen = Vec::new();
        while seen.len() < 4 {
            let mut fds = [rustix::event::PollFd::new(&signals, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut fds, None).unwrap();
            while let Some(info) = signals.read().unwrap() {
                seen.push((info.signal.name(), info.code, info.pid, info.value));
            }
        }
        eprintln!("{seen:?}");
        return;
    }
    let rt: Signal = "RTMIN+1".parse().unwrap();
    let exe = std::env::current_exe().unwrap();
    let mut child = Command::new(exe)
        .args(["--exact", "a_child_reads_its_signals", "--nocapture", "--test-threads=1"])
        .env("IPC_TEST_SIGNALS", "1")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while line.trim() != "ready" {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut stderr, &mut line).unwrap() > 0);
    }
    // Every thread of the child blocks the two signals or is not chosen: send
    // to the thread that reads, which is found by its mask.
    let pid = Pid::from_child(&child);
    let process = pidfd::open(pid).unwrap();
    let tid = reader_thread(pid, rt);
    for value in [1, 0xfeed_face_cafe_beef] {
        queue_to_thread(pid, tid, rt, value);
    }
    queue_to_thread(pid, tid, Signal::USR2, 3);
    queue_to_thread(pid, tid, rt, 4);
    assert!(child.wait().unwrap().success());
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut rest).unwrap();
    let us = std::process::id();
    for expected in [
        format!(
            "(\"RTMIN+1\", -1, {us}, 1), (\"RTMIN+1\", -1, {us}, {})",
            0xfeed_face_cafe_beef_u64
        ),
        format!("(\"USR2\", -1, {us}, 3)"),
        format!("(\"RTMIN+1\", -1, {us}, 4)"),
    ] {
        assert!(rest.contains(&expected), "{expected} in {rest}");
    }
    assert_eq!(
        pidfd::send(&process, Signal::TERM).unwrap_err().errno(),
        Errno::SRCH,
        "reaped and gone"
    );
}

fn reader_thread(pid: Pid, signal: Signal) -> i32 {
    let dir = format!("/proc/{}/task", pid.as_raw_nonzero());
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let status = std::fs::read_to_string(path.join("status")).unwrap();
        let blocked = status.lines().find_map(|l| l.strip_prefix("SigBlk:")).unwrap().trim();
        let blocked = u64::from_str_radix(blocked, 16).unwrap();
        if blocked & (1 << (signal.number() - 1)) != 0 {
            return path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        }
    }
    panic!("no thread of the child blocks {signal}");
}

/// `pidfd::queue` with the kernel's flag for a thread isn't what is tested
/// here, so the signal goes to the whole process if its main thread reads.
fn queue_to_thread(pid: Pid, tid: i32, signal: Signal, value: usize) {
    let target = Pid::from_raw(tid).unwrap();
    if target == pid {
        pidfd::queue(pidfd::open(pid).unwrap(), signal, value).unwrap();
    } else {
        // The test harness reads in a second thread; its main thread would
        // take the signal and die of it.
        pidfd::queue_to_thread(pid, target, signal, value).unwrap();
    }
}

#[test]
fn a_missing_process_and_a_forbidden_one_are_told_apart() {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = Pid::from_child(&child);
    child.wait().unwrap();
    let gone = signal::send(pid, Signal::TERM).unwrap_err();
    assert_eq!(gone.to_string(), format!("process {}: no such process", pid.as_raw_nonzero()));
    assert!(matches!(pidfd::open(pid), Err(pidfd::Error::Gone { .. })));
}

#[test]
fn a_process_is_waited_for_without_being_its_parent() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let process = pidfd::open(Pid::from_child(&child)).unwrap();
    assert!(!pidfd::wait(&process, Some(Duration::from_millis(2))).unwrap());
    pidfd::send(&process, Signal::KILL).unwrap();
    assert!(pidfd::wait(&process, None).unwrap());
    assert!(pidfd::has_ended(&process).unwrap(), "also as a zombie");
    child.wait().unwrap();
}

#[test]
fn timers_expire_once_or_again_and_again() {
    let once = timer::Timer::new().unwrap();
    let wait = |t: &timer::Timer| {
        let mut fds = [rustix::event::PollFd::new(t, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None).unwrap();
        t.expirations().unwrap()
    };
    once.once(Duration::ZERO).unwrap();
    assert_eq!(wait(&once), 1, "zero is at once, not never");
    once.every(Duration::from_millis(1)).unwrap();
    assert!(wait(&once) >= 1);
    assert!(wait(&once) >= 1);
    once.disarm().unwrap();
    assert_eq!(once.expirations().unwrap(), 0);
    assert!(timer::Deadline::after(None).remaining().is_none());
    assert!(timer::Deadline::after(Some(Duration::MAX)).remaining().is_none());
    assert!(timer::Deadline::after(Some(Duration::ZERO)).passed());
}

#[test]
fn a_pipe_has_a_capacity_with_a_limit() {
    let (_reader, writer) = pipe::pipe().unwrap();
    assert_eq!(pipe::capacity(&writer).unwrap(), 65536);
    assert_eq!(pipe::set_capacity(&writer, 5000).unwrap(), 8192);
    rustix::io::write(&writer, &[0; 8192]).unwrap();
    let busy = pipe::set_capacity(&writer, 4096).unwrap_err();
    assert_eq!(busy, pipe::Error::TooFull { bytes: 4096 });
    assert!(pipe::capacity_max() >= 4096);
    let (_reader, writer) = pipe::wake_pipe().unwrap();
    let capacity = pipe::capacity(&writer).unwrap();
    rustix::io::write(&writer, &vec![0; capacity]).unwrap();
    assert_eq!(rustix::io::write(&writer, b"x"), Err(Errno::AGAIN));
}

#[test]
fn a_fifo_has_its_mode_and_its_reader_never_sees_the_end() {
    let dir = tempfile::tempdir().unwrap();
    for mode in [0o600, 0o666, 0o622, 0o200] {
        let path = dir.path().join(format!("{mode:o}"));
        fifo::create(&path, mode).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
        assert_eq!(fifo::create(&path, mode).unwrap_err(), fifo::Error::Exists { path });
    }
    let path = dir.path().join("600");
    assert_eq!(fifo::open_writer(&path).unwrap_err(), fifo::Error::NoReader { path: path.clone() });
    let reader = fifo::Reader::open(&path).unwrap();
    drop(fifo::open_writer(&path).unwrap());
    assert_eq!(rustix::io::read(&reader, &mut [0; 8]), Err(Errno::AGAIN), "no end of file");
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(fifo::Reader::open(&file), Err(fifo::Error::NotAFifo { .. })));
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(fifo::Reader::open(&link).unwrap_err().errno(), Errno::LOOP);
}

#[test]
fn a_lock_has_one_holder_and_outlives_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l");
    let held = lock::LockFile::acquire(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    let us = Some(rustix::process::getpid());
    let error = lock::LockFile::acquire(&path).unwrap_err();
    assert_eq!(error, lock::Error::Held { path: path.clone(), pid: us });
    assert_eq!(
        error.to_string(),
        format!("{}: held by process {}", path.display(), std::process::id())
    );
    assert_eq!(lock::holder(&path).unwrap(), Some(us));
    drop(held);
    // A child that another test has forked shares the lock until it execs.
    while lock::holder(&path).unwrap().is_some() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // A holder that was killed.
    let mut child =
        Command::new("flock").arg("--no-fork").arg(&path).args(["sleep", "60"]).spawn().unwrap();
    while lock::holder(&path).unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(matches!(lock::LockFile::acquire(&path), Err(lock::Error::Held { pid: None, .. })));
    child.kill().unwrap();
    child.wait().unwrap();
    drop(lock::LockFile::acquire(&path).unwrap());
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(lock::LockFile::acquire(&link), Err(lock::Error::NotAFile { .. })));
    assert!(matches!(lock::LockFile::acquire(dir.path()), Err(lock::Error::NotAFile { .. })));
    assert_eq!(lock::holder(dir.path().join("missing")).unwrap(), None);
}

#[test]
fn a_sealed_memfd_can_only_be_read_by_others() {
    let fd = memfd::create_full("sealed", 8192).unwrap();
    let stat = rustix::fs::fstat(&fd).unwrap();
    assert_eq!((stat.st_size, stat.st_blocks * 512), (8192, 8192), "no holes");
    let ours = MapMut::of(&fd, 8192).unwrap();
    memfd::seal_for_readers(&fd).unwrap();
    let seals = memfd::seals(&fd).unwrap();
    assert_eq!(
        memfd::names(seals & !memfd::Seals::from_bits_retain(0x20)),
        "seal,shrink,grow,future-write"
    );
    assert_eq!(rustix::fs::ftruncate(&fd, 0), Err(Errno::PERM));
    assert_eq!(rustix::io::write(&fd, b"x"), Err(Errno::PERM));
    assert!(matches!(MapMut::of(&fd, 8192), Err(map::Error::NotPermitted { reason: Errno::PERM })));
    let error = memfd::seal(&fd, memfd::Seals::WRITE).unwrap_err();
    assert!(error.to_string().contains("sealed (seal,shrink"), "{error}");
    let theirs = Map::of(&fd, 8192).unwrap();
    ours.store_u32(4, 7, Ordering::Release);
    assert_eq!(theirs.load_u32(4, Ordering::SeqCst), 7);
    assert!(matches!(memfd::create(&"x".repeat(250)), Err(memfd::Error::NameTooLong { .. })));
    assert!(memfd::create(&"x".repeat(249)).is_ok());
    assert!(matches!(
        memfd::create_full("huge", 1 << 62),
        Err(memfd::Error::NoMemory { bytes, .. }) if bytes == 1 << 62
    ));
}

#[test]
fn maps_copy_at_every_alignment() {
    let fd = memfd::create_full("copy", 4096).unwrap();
    let map = MapMut::of(&fd, 4096).unwrap();
    let pattern: Vec<u8> = (0..=255).cycle().take(100).collect();
    for offset in 0..17 {
        for len in 0..40 {
            map.bytes_in(0, &[0xee; 200]);
            map.bytes_in(offset, &pattern[..len]);
            let all = map.to_vec(0, 200);
            assert_eq!(&all[offset..offset + len], &pattern[..len], "{offset} {len}");
            assert!(all[..offset].iter().chain(&all[offset + len..]).all(|b| *b == 0xee));
        }
    }
    assert!(matches!(Map::of(&fd, 4097), Err(map::Error::TooShort { wanted: 4097, size: 4096 })));
    assert!(matches!(Map::of(&fd, 0), Err(map::Error::Empty {})));
    for bad in [
        std::panic::catch_unwind(|| map.load_u32(4096, Ordering::Relaxed)),
        std::panic::catch_unwind(|| map.load_u32(4093, Ordering::Relaxed)),
        std::panic::catch_unwind(|| map.load_u32(2, Ordering::Relaxed)),
        std::panic::catch_unwind(|| map.load_u32(usize::MAX - 3, Ordering::Relaxed)),
    ] {
        assert!(bad.is_err());
    }
    assert!(std::panic::catch_unwind(|| map.bytes_in(4000, &[0; 97])).is_err());
}

#[test]
fn a_futex_wakes_across_processes_and_on_read_only_maps() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("word");
    std::fs::write(&path, vec![0; 4096]).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let writer = MapMut::of(&file, 4096).unwrap();
    let reader = Map::of(std::fs::File::open(&path).unwrap(), 4096).unwrap();
    assert_eq!(futex::wait(&reader, 8, 9, None).unwrap(), futex::Woken::Differs);
    let soon = Some(Duration::from_millis(1));
    assert_eq!(futex::wait(&reader, 8, 0, soon).unwrap(), futex::Woken::TimedOut);
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            while reader.load_u32(8, Ordering::Acquire) == 0 {
                futex::wait(&reader, 8, 0, None).unwrap();
            }
        });
        while !sleeper.is_finished() {
            writer.store_u32(8, 1, Ordering::Release);
            futex::wake(&writer, 8, u32::MAX).unwrap();
        }
    });
    assert_eq!(futex::wake(&reader, 8, 1).unwrap(), 0);
}

#[test]
fn netlink_tells_cut_off_and_overrun_apart() {
    // RTM_GETLINK dump.
    let mut dump = [0_u8; 32];
    dump[0..4].copy_from_slice(&32_u32.to_ne_bytes());
    dump[4..6].copy_from_slice(&18_u16.to_ne_bytes());
    dump[6..8].copy_from_slice(&0x301_u16.to_ne_bytes());
    let socket = netlink::Socket::open(netlink::ROUTE).unwrap();
    socket.set_strict_check(true).unwrap();
    socket.set_extended_ack(true).unwrap();
    socket.set_capped_ack(true).unwrap();
    assert_ne!(socket.port(), 0);
    let mut small = [0; 16];
    assert_eq!(socket.receive(&mut small), Err(netlink::Error::WouldBlock {}));
    socket.send(&dump).unwrap();
    assert!(matches!(
        socket.receive(&mut small),
        Err(netlink::Error::Truncated { limit: 16, len }) if len > 16
    ));
    // Group 1 (RTNLGRP_LINK) exists; number 4096 doesn't.
    socket.join(1).unwrap();
    socket.leave(1).unwrap();
    assert_eq!(socket.join(4096).unwrap_err().errno, Errno::INVAL);

    // Another user's socket sends to ours: its port shows that it isn't the kernel.
    let other = netlink::Socket::open(netlink::ROUTE).unwrap();
    let to = rustix::net::netlink::SocketAddrNetlink::new(other.port(), 0);
    let _ = rustix::net::sendto(&socket, &dump, rustix::net::SendFlags::empty(), &to);
    let mut buffer = vec![0; 65536];
    match other.receive(&mut buffer) {
        Ok(datagram) => assert_eq!(datagram.sender, socket.port()),
        Err(error) => assert_eq!(error, netlink::Error::WouldBlock {}),
    }

    // Overrun: the smallest buffer, and more sent to it than fits.
    rustix::net::sockopt::set_socket_recv_buffer_size(&other, 1).unwrap();
    let mut overrun = false;
    for _ in 0..64 {
        let sent = rustix::net::sendto(&socket, &[0; 4096], rustix::net::SendFlags::DONTWAIT, &to);
        overrun |= sent.is_err();
    }
    assert!(overrun, "a sender to a full socket is told");
}

#[test]
fn a_filter_drops_what_it_does_not_keep() {
    let socket = netlink::Socket::open(netlink::ROUTE).unwrap();
    // return 0: drop everything
    let drop_all = [netlink::Instruction { code: 0x06, if_true: 0, if_false: 0, k: 0 }];
    socket.attach_filter(&drop_all).unwrap();
    let sender = netlink::Socket::open(netlink::ROUTE).unwrap();
    let to = rustix::net::netlink::SocketAddrNetlink::new(socket.port(), 0);
    let _ = rustix::net::sendto(&sender, &[0; 32], rustix::net::SendFlags::empty(), &to);
    assert_eq!(socket.receive(&mut [0; 64]), Err(netlink::Error::WouldBlock {}));
    let keep_all = [netlink::Instruction { code: 0x06, if_true: 0, if_false: 0, k: u32::MAX }];
    socket.attach_filter(&keep_all).unwrap();
    rustix::net::sendto(&sender, &[0; 32], rustix::net::SendFlags::empty(), &to).unwrap();
    let datagram = socket.receive(&mut [0; 64]).unwrap();
    assert_eq!((datagram.len, datagram.sender), (32, sender.port()));
    let nonsense = [netlink::Instruction { code: 0xffff, if_true: 0, if_false: 0, k: 0 }];
    assert_eq!(socket.attach_filter(&nonsense).unwrap_err().errno, Errno::INVAL);
}

#[test]
fn limits_of_open_files_are_named() {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    if let Some(hard) = hard {
        let error = process::set_open_files(hard + 1).unwrap_err();
        assert!(error.to_string().contains(&format!("the hard limit is {hard}")), "{error}");
        process::set_open_files(hard).unwrap();
    }
    assert!(!process::ids().differ());
}

#[test]
fn descriptors_of_the_basics_close_on_exec() {
    let timer = timer::Timer::new().unwrap();
    let event = ipc::event::Event::new().unwrap();
    let signals = SignalFd::new(&SignalSet::of(&[Signal::URG])).unwrap();
    let epoll = ipc::epoll::Epoll::new().unwrap();
    let memory = memfd::create("m").unwrap();
    let (reader, writer) = pipe::pipe().unwrap();
    let netlink = netlink::Socket::open(netlink::ROUTE).unwrap();
    for fd in [
        timer.as_fd(),
        event.as_fd(),
        signals.as_fd(),
        epoll.as_fd(),
        memory.as_fd(),
        reader.as_fd(),
        writer.as_fd(),
        netlink.as_fd(),
    ] {
        assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
}

/// Where `membarrier` is missing a ring is made with full fences: its header
/// says so, and both kinds work.
#[test]
fn a_ring_works_with_either_kind_of_fence() {
    use ipc::ring::{self, Framing, Options, Reader, Writer};
    use ipc::timer::Wait;
    for fences in [0_u32, 1] {
        let name = format!("/ipc-test-fences-{fences}-{}", std::process::id());
        let options = Options { framing: Framing::Messages, capacity: 4096, ..Options::default() };
        ring::create(&name, &options).unwrap();
        let object = ipc::shm::Object::open(&name, ipc::shm::Access::ReadWrite).unwrap();
        let mut made = [0; 4];
        object.read(12, &mut made).unwrap();
        assert_eq!(u32::from_le_bytes(made), u32::from(ipc::barrier::available()));
        object.write(12, &fences.to_le_bytes()).unwrap();
        let (mut writer, mut reader) = (Writer::open(&name).unwrap(), Reader::open(&name).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // Far more than fits: the writer sleeps, and so does the reader.
                for n in 0..20_000_u64 {
                    writer.send(&n.to_le_bytes(), Wait::FOREVER).unwrap();
                }
                writer.finish();
            });
            let (mut message, mut next) = (Vec::new(), 0_u64);
            while reader.receive(&mut message, Wait::FOREVER).unwrap() {
                assert_eq!(message, next.to_le_bytes());
                next += 1;
            }
            assert_eq!(next, 20_000);
        });
        object.write(12, &2_u32.to_le_bytes()).unwrap();
        let error = Writer::open(&name).unwrap_err().to_string();
        assert!(error.contains("a kind that this version doesn't know"), "{error}");
        ring::remove(&name).unwrap();
    }
}

#[test]
fn messages_of_every_length_pass_at_every_place_of_a_ring() {
    use ipc::ring::{self, Framing, Options, Reader, Writer};
    let name = format!("/ipc-test-lengths-{}", std::process::id());
    let options = Options { capacity: 4096, framing: Framing::Messages, ..Options::default() };
    ring::create(&name, &options).unwrap();
    let mut writer = Writer::open(&name).unwrap();
    let mut reader = Reader::open(&name).unwrap();
    let bytes: Vec<u8> = (0..4096_usize).map(|n| (n * 7 + n / 256) as u8).collect();
    let mut got = Vec::new();
    // 300 lengths, each with its head at a multiple of 8 that moves on: every
    // length is met before, at and over the ring's end.
    for round in 0..520 {
        for len in (0..300).chain([2039, 2040]) {
            let message = &bytes[(round + len) % 1000..][..len];
            writer.send(message, timer::Wait::No).unwrap();
            assert!(reader.receive(&mut got, timer::Wait::No).unwrap());
            assert_eq!(got, message, "length {len} at {}", writer.position());
        }
        // The next round begins eight bytes further on.
        let behind = 4096 - writer.position() % 4096 + 8 * (round as u64 + 1);
        for _ in 0..behind / 8 % 512 {
            writer.send(&[], timer::Wait::No).unwrap();
            assert!(reader.receive(&mut got, timer::Wait::No).unwrap() && got.is_empty());
        }
    }
    assert_eq!(
        writer.send(&bytes[..2041], timer::Wait::No).unwrap_err().to_string(),
        format!("{name}: a message of 2041 bytes; at most 2040 in a ring of this size")
    );
    ring::remove(&name).unwrap();
}
