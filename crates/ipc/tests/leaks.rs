//! No error path leaves a descriptor, a map or a named object behind: every
//! operation is made to fail, and what the process and the system hold before
//! and after is compared. One test in this file: nothing else runs meanwhile.
use std::collections::BTreeMap;
use std::os::fd::AsFd;

use ipc::map::{Map, MapMut};
use ipc::signal::Signal;
use ipc::timer::Wait;
use ipc::{
    catcher, child, descriptors, fifo, lock, memfd, mq, mutex, netlink, ring, sem, shm,
    signal_state, sysv, tcp, unix,
};

/// What this process holds: descriptors by target, shared maps.
fn held() -> (BTreeMap<String, usize>, usize) {
    let mut descriptors = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        if let Ok(target) = std::fs::read_link(entry.unwrap().path()) {
            // The directory itself, while it is read.
            let target = target.display().to_string();
            if !target.ends_with("/fd") {
                *descriptors.entry(target).or_insert(0) += 1;
            }
        }
    }
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    (
        descriptors,
        maps.lines().filter(|line| line.contains(" rw-s ") || line.contains(" r--s ")).count(),
    )
}

fn named(part: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir("/dev/shm")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains(part))
        .collect();
    names.extend(
        mq::list().unwrap_or_default().into_iter().map(|q| q.name).filter(|n| n.contains(part)),
    );
    names
}

#[test]
fn failing_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let tag = format!("ipc-leak-{}", std::process::id());
    let name = format!("/{tag}");
    let path = |file: &str| dir.path().join(file);
    std::fs::write(path("file"), "x").unwrap();

    // What is there already, so that others fail on it.
    let q = mq::Queue::create(
        &name,
        &mq::Options { maxmsg: Some(1), msgsize: Some(8), ..Default::default() },
    )
    .unwrap();
    let object =
        shm::Object::create(&name, &shm::Options { size: 8192, ..Default::default() }).unwrap();
    let s = sem::Named::create(&name, &sem::Options { value: 0, ..Default::default() }).unwrap();
    let ring_name = format!("{name}-ring");
    ring::create(&ring_name, &ring::Options::default()).unwrap();
    let mut writer = ring::Writer::open(&ring_name).unwrap();
    let segment =
        sysv::segment::Segment::create(sysv::Key::Private, 100, &sysv::Options::default()).unwrap();
    let set = sysv::set::Set::create(sysv::Key::Private, 1, &sysv::Options::default()).unwrap();
    let held_lock = lock::LockFile::acquire(path("lock")).unwrap();
    let listener = unix::Listener::bind(path("sock"), unix::Kind::Stream, 0o600).unwrap();
    let port = tcp::Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = port.local_address().unwrap();
    let memory = memfd::create_full("leak", 4096).unwrap();
    let sealed = memfd::create_full("leak-sealed", 4096).unwrap();
    memfd::seal_for_readers(&sealed).unwrap();
    let (left, right) = unix::pair(unix::Kind::Stream).unwrap();
    let map = MapMut::of(&memory, 4096).unwrap();
    let robust = mutex::RobustMutex::init(&map, 0).unwrap();
    q.send(b"full", 0, Wait::No).unwrap();
    let mut buffer = [0; 8];
    let mut bytes = [0; 8];

    let (before, names) = (held(), named(&tag));
    for _ in 0..50 {
        let exclusive = mq::Options { exclusive: true, ..Default::default() };
        assert!(mq::Queue::create(&name, &exclusive).is_err());
        assert!(
            mq::Queue::create(
                &format!("{name}-big"),
                &mq::Options { maxmsg: Some(1 << 30), ..exclusive }
            )
            .is_err()
        );
        assert!(mq::Queue::open(&format!("{name}-none"), mq::Access::Both).is_err());
        assert!(q.send(b"more", 0, Wait::No).is_err());
        assert!(q.send(b"much too long", 0, Wait::No).is_err());
        assert!(q.receive(&mut buffer[..1], Wait::No).is_err());

        assert!(
            shm::Object::create(&name, &shm::Options { exclusive: true, ..Default::default() })
                .is_err()
        );
        let huge = shm::Options { size: u64::MAX, exclusive: true, ..Default::default() };
        assert!(shm::Object::create(&format!("{name}-huge"), &huge).is_err());
        assert!(shm::Object::open(&format!("{name}-none"), shm::Access::Read).is_err());
        assert!(object.write(8190, b"beyond").is_err());

        assert!(
            sem::Named::create(&name, &sem::Options { exclusive: true, ..Default::default() })
                .is_err()
        );
        assert!(sem::Named::open(&format!("{name}-none")).is_err());
        assert!(s.wait(Wait::No).is_err());

        assert!(
            ring::create(&ring_name, &ring::Options { exclusive: true, ..Default::default() })
                .is_err()
        );
        assert!(ring::Writer::open(&ring_name).is_err());
        assert!(ring::Reader::open(&name).is_err(), "is no ring");
        assert!(writer.send(b"x", Wait::No).is_err(), "is a ring of bytes");

        assert!(sysv::segment::Segment::from_id(segment.id()).attach_read().is_ok());
        assert!(sysv::segment::Segment::from_id(i32::MAX).attach_write().is_err());
        assert!(set.change(&[sysv::set::Change::by(0, -1)], Wait::No).is_err());
        assert!(set.change(&[sysv::set::Change::by(9, -1)], Wait::No).is_err());
        assert!(sysv::Key::of_file("/nonexistent", 1).is_err());

        assert!(lock::LockFile::acquire(path("lock")).is_err());
        assert!(lock::LockFile::acquire(dir.path()).is_err());
        assert!(fifo::create(path("file"), 0o600).is_err());
        assert!(fifo::Reader::open(path("file")).is_err());
        assert!(fifo::open_writer(path("none")).is_err());
        assert!(fifo::open_reader_nonblocking(path("none")).is_err());
        assert!(fifo::remove(path("file")).is_err());
        assert!(catcher::Catcher::new(&[Signal::USR1, Signal::KILL]).is_err());
        assert!(child::change(rustix::process::getpid()).is_err());
        assert!(signal_state::of(rustix::process::Pid::from_raw(i32::MAX).unwrap()).is_err());
        assert!(unix::Listener::bind(path("sock"), unix::Kind::Stream, 0o600).is_err());
        assert!(unix::Listener::bind(path("file"), unix::Kind::Stream, 0o600).is_err());
        assert!(unix::Listener::bind(path("none/sock"), unix::Kind::Stream, 0o600).is_err());
        assert!(unix::connect(path("none"), unix::Kind::Stream).is_err());
        assert!(unix::connect(path("sock"), unix::Kind::SeqPacket).is_err());
        // Each refused bind has looked whether somebody listens: take those out.
        while listener.accept().is_ok() {}
        assert!(tcp::Listener::bind(address).is_err());
        assert!(tcp::Listener::bind("192.0.2.1:1".parse().unwrap()).is_err());
        assert!(memfd::create(&"x".repeat(300)).is_err());
        assert!(memfd::create_full("huge", u64::MAX).is_err());
        assert!(memfd::seal(&sealed, memfd::Seals::WRITE).is_err());
        assert!(MapMut::of(&sealed, 4096).is_err());
        assert!(Map::of(&memory, 8192).is_err());
        assert!(Map::of(&memory, 0).is_err());
        assert!(netlink::Socket::open(31).is_err());

        descriptors::send(&left, b"x", &[memory.as_fd(), memory.as_fd()]).unwrap();
        assert!(descriptors::receive(&right, &mut bytes, 1).is_err());
        robust.with(Wait::FOREVER, |_| assert!(robust.with(Wait::No, |_| ()).is_err())).unwrap();
        let _ = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
            robust.with(Wait::FOREVER, |_| panic!("inside"))
        }));
        assert!(robust.with(Wait::No, |_| ()).is_ok(), "given back by the panic");
    }
    assert_eq!(held(), before);
    assert_eq!(named(&tag), names);

    drop((q, object, s, writer, held_lock, listener));
    mq::remove(&name).unwrap();
    shm::remove(&name).unwrap();
    sem::remove(&name).unwrap();
    ring::remove(&ring_name).unwrap();
    segment.remove().unwrap();
    set.remove().unwrap();
    assert_eq!(named(&tag), Vec::<String>::new());
}
