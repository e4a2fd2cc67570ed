//! Unix and TCP sockets, credentials, descriptors, epoll: with real sockets.
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use ipc::epoll::{Epoll, Events, Interest};
use ipc::socket::{self, AcceptError};
use ipc::unix::{self, Address, Kind, Listener};
use ipc::{Errno, descriptors, peer, tcp};

fn open_descriptors() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.display().to_string())
        .collect();
    names.sort();
    names
}

#[test]
fn the_name_has_exactly_the_mode_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    for mode in [0o600, 0o666, 0o660, 0o777] {
        let path = dir.path().join(format!("{mode:o}"));
        let _listener = Listener::bind(&path, Kind::Stream, mode).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
    }
    // The umask of the process is what it was.
    let file = File::create(dir.path().join("f")).unwrap();
    assert_ne!(file.metadata().unwrap().mode() & 0o777, 0o666);
}

#[test]
fn a_stale_name_is_replaced_a_living_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut first = Listener::bind(&path, Kind::Stream, 0o600).unwrap();
    let refused = Listener::bind(&path, Kind::Stream, 0o600).unwrap_err();
    assert_eq!(refused, unix::Error::InUse { name: Address::from(&path) });
    assert_eq!(refused.errno(), Errno::ADDRINUSE);
    first.keep_name();
    drop(first);
    assert!(path.exists(), "kept");
    assert!(matches!(
        unix::connect(&path, Kind::Stream),
        Err(unix::Error::NobodyListens { reason: Errno::CONNREFUSED, .. })
    ));
    let second = Listener::bind(&path, Kind::SeqPacket, 0o600).unwrap();
    assert_eq!(
        Listener::bind(&path, Kind::Stream, 0o600).unwrap_err().errno(),
        Errno::ADDRINUSE,
        "a living socket of another kind is alive too"
    );
    drop(second);
    assert!(!path.exists());
}

#[test]
fn the_drop_leaves_a_successors_name_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let first = Listener::bind(&path, Kind::Stream, 0o600).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _second = Listener::bind(&path, Kind::Stream, 0o600).unwrap();
    drop(first);
    assert!(path.exists());
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "precious").unwrap();
    let error = Listener::bind(&path, Kind::Stream, 0o600).unwrap_err();
    assert_eq!(error, unix::Error::NotASocket { path: path.clone() });
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(unix::remove_stale(&link), Err(unix::Error::NotASocket { .. })));
    assert!(!unix::remove_stale(dir.path().join("missing")).unwrap());
}

#[test]
fn errors_name_the_object_and_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("x".repeat(120));
    let error = Listener::bind(&long, Kind::Stream, 0o600).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("at most 107 bytes"), "{text}");
    let exact = "a".repeat(unix::NAME_BYTES_MAX);
    assert!(Listener::bind(Address::Abstract(exact.into()), Kind::Stream, 0).is_ok());
    let missing = unix::connect("/nonexistent/s", Kind::Stream).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "/nonexistent/s: nobody listens there (No such file or directory)"
    );
}

#[test]
fn a_full_backlog_is_busy_not_refused() {
    // A listener made by hand, with a backlog of 0.
    let name = Address::Abstract(format!("ipc-backlog-{}", std::process::id()).into_bytes());
    let listener = Listener::bind(name.clone(), Kind::Stream, 0).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = unix::connect_nonblocking(name.clone(), Kind::Stream).unwrap();
    let busy = unix::connect_nonblocking(name.clone(), Kind::Stream).unwrap_err();
    assert_eq!(busy, unix::Error::Busy { name });
}

#[test]
fn accepted_sockets_do_not_block_and_close_on_exec() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = Listener::bind(&path, Kind::SeqPacket, 0o600).unwrap();
    assert_eq!(listener.accept().unwrap_err(), AcceptError::WouldBlock {});
    let client = unix::connect(&path, Kind::SeqPacket).unwrap();
    let session = listener.accept().unwrap();
    assert_eq!(rustix::io::read(&session, &mut [0; 8]), Err(Errno::AGAIN));
    for fd in [client.as_fd(), session.as_fd(), listener.as_fd()] {
        assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
    let peer = peer::credentials(&session).unwrap();
    assert_eq!(peer.pid, Some(rustix::process::getpid()));
    assert_eq!(peer.uid, ipc::process::ids().user_effective);
    let mut expected: Vec<u32> =
        rustix::process::getgroups().unwrap().iter().map(|g| g.as_raw()).collect();
    let mut groups = peer::groups(&session).unwrap();
    expected.sort_unstable();
    groups.sort_unstable();
    assert_eq!(groups, expected);
    let pidfd = peer::pidfd(&session).unwrap();
    assert_eq!(ipc::pidfd::pid(&pidfd), Some(rustix::process::getpid()));
}

#[test]
fn unsent_and_unread_bytes_are_counted() {
    let (a, b) = unix::pair(Kind::Stream).unwrap();
    assert_eq!(socket::unsent_bytes(&a).unwrap(), 0);
    rustix::io::write(&a, &[7; 1000]).unwrap();
    assert!(socket::unsent_bytes(&a).unwrap() >= 1000);
    assert_eq!(socket::unread_bytes(&b).unwrap(), 1000);
    rustix::io::read(&b, &mut [0; 1000]).unwrap();
    assert_eq!(socket::unsent_bytes(&a).unwrap(), 0);
    assert!(socket::set_send_buffer(&a, 100_000).unwrap() >= 100_000);
    assert!(socket::set_receive_buffer(&b, 100_000).unwrap() >= 100_000);
}

#[test]
fn descriptors_travel_and_too_many_are_closed() {
    let (a, b) = unix::pair(Kind::Stream).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join("passed-along");
    let file = File::create(&marker).unwrap();
    let count = || open_descriptors().iter().filter(|name| name.contains("passed-along")).count();
    assert_eq!(count(), 1);
    let three = [file.as_fd(), file.as_fd(), file.as_fd()];

    descriptors::send(&a, b"x", &three).unwrap();
    let received = descriptors::receive(&b, &mut [0; 4], 3).unwrap();
    assert_eq!((received.bytes, received.descriptors.len()), (1, 3));
    for fd in &received.descriptors {
        assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
    assert_eq!(count(), 4);
    drop(received);
    for expected in [0, 1, 2] {
        descriptors::send(&a, b"yz", &three).unwrap();
        let error = descriptors::receive(&b, &mut [0; 4], expected).unwrap_err();
        assert_eq!(error, descriptors::Error::Truncated { expected, bytes: 2 });
        assert_eq!(count(), 1, "what came is closed again (expected {expected})");
    }
    descriptors::send(&a, b"plain", &[]).unwrap();
    let plain = descriptors::receive(&b, &mut [0; 3], 8).unwrap();
    assert_eq!((plain.bytes, plain.descriptors.len()), (3, 0));
    assert_eq!(descriptors::send(&a, b"", &three).unwrap_err(), descriptors::Error::NoData {});
    let many = vec![file.as_fd(); descriptors::PER_MESSAGE_MAX + 1];
    assert!(matches!(
        descriptors::send(&a, b"x", &many),
        Err(descriptors::Error::TooMany { count: 254, limit: 253 })
    ));
    descriptors::send(&a, b"x", &many[1..]).unwrap();
    let mut rest = [0; 16];
    let n = descriptors::receive(&b, &mut rest[..2], 0).unwrap().bytes; // what "plain" left
    assert_eq!(n, 2);
    let all = descriptors::receive(&b, &mut rest, usize::MAX).unwrap();
    assert_eq!(all.descriptors.len(), 253);
    drop(all);
    drop(b);
    let gone = descriptors::send(&a, b"x", &[]).unwrap_err();
    assert_eq!(gone.errno(), Errno::PIPE, "an error, not a signal");
}

#[test]
fn tcp_in_both_families() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = match tcp::Listener::bind(address.parse().unwrap()) {
            Ok(listener) => listener,
            Err(error) if error.errno() == Errno::ADDRNOTAVAIL => {
                println!("not run: {address} (no such address on this host)");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let bound = listener.local_address().unwrap();
        assert!(matches!(tcp::Listener::bind(bound), Err(tcp::Error::InUse { .. })));
        let client = tcp::connect(bound, Some(core::time::Duration::from_secs(10))).unwrap();
        tcp::set_keepalive(&client, Some(tcp::Keepalive::default())).unwrap();
        assert!(rustix::net::sockopt::socket_keepalive(&client).unwrap());
        let epoll = Epoll::new().unwrap();
        epoll.add(&listener, 1, Interest::READ).unwrap();
        epoll.wait(&mut Events::with_capacity(1), None).unwrap();
        let (session, from) = listener.accept().unwrap();
        assert_eq!(from, tcp::local_address(&client).unwrap());
        rustix::io::write(&client, b"x").unwrap();
        drop((session, listener));
        let refused = tcp::connect(bound, None).unwrap_err();
        assert_eq!(refused, tcp::Error::NobodyListens { address: bound });
    }
}

#[test]
fn a_connect_without_waiting_says_later_how_it_ended() {
    let listener = tcp::Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_address().unwrap();
    let epoll = Epoll::new().unwrap();
    let mut events = Events::with_capacity(4);
    let client = tcp::connect_start(address).unwrap();
    epoll.add(&client, 1, Interest::WRITE).unwrap();
    epoll.wait(&mut events, None).unwrap();
    tcp::connected(&client, address).unwrap();
    drop(listener);
}

#[test]
fn epoll_tells_its_refusals_apart() {
    let epoll = Epoll::new().unwrap();
    for path in ["/proc/self/exe", "/dev/null"] {
        let file = File::open(path).unwrap();
        let descriptor = file.as_raw_fd();
        let refused = epoll.add(&file, 1, Interest::READ).unwrap_err();
        assert_eq!(refused, ipc::epoll::Error::NotPollable { descriptor }, "{path}");
    }
    let (reader, writer) = ipc::pipe::pipe().unwrap();
    let descriptor = reader.as_raw_fd();
    assert_eq!(
        epoll.modify(&reader, 1, Interest::READ).unwrap_err(),
        ipc::epoll::Error::NotAdded { descriptor }
    );
    epoll.add(&reader, 1, Interest::READ).unwrap();
    assert_eq!(
        epoll.add(&reader, 2, Interest::READ).unwrap_err(),
        ipc::epoll::Error::AlreadyAdded { descriptor }
    );
    let mut events = Events::with_capacity(8);
    let none = core::time::Duration::ZERO;
    assert_eq!(epoll.wait(&mut events, Some(none)).unwrap(), 0);
    rustix::io::write(&writer, b"ab").unwrap();
    // Level-triggered: told again until it has been read.
    for _ in 0..2 {
        assert_eq!(epoll.wait(&mut events, Some(none)).unwrap(), 1);
        let ready = events.iter().next().unwrap();
        assert!(ready.is_readable() && !ready.is_hung_up() && ready.token == 1);
    }
    epoll.modify(&reader, u64::MAX, Interest::NONE).unwrap();
    assert_eq!(epoll.wait(&mut events, Some(none)).unwrap(), 0);
    drop(writer);
    assert_eq!(epoll.wait(&mut events, None).unwrap(), 1);
    let ready = events.iter().next().unwrap();
    assert!(ready.is_hung_up() && ready.token == u64::MAX);
    epoll.delete(&reader).unwrap();
    assert_eq!(epoll.wait(&mut events, Some(none)).unwrap(), 0);
    assert!(events.is_empty());
}

#[test]
fn more_ready_than_room_is_served_in_turns() {
    let epoll = Epoll::new().unwrap();
    let pipes: Vec<(OwnedFd, OwnedFd)> = (0..5).map(|_| ipc::pipe::pipe().unwrap()).collect();
    for (token, (reader, writer)) in pipes.iter().enumerate() {
        epoll.add(reader, token as u64, Interest::READ).unwrap();
        rustix::io::write(writer, b"x").unwrap();
    }
    let mut events = Events::with_capacity(2);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        assert!(epoll.wait(&mut events, None).unwrap() <= 2);
        seen.extend(events.iter().map(|ready| ready.token));
    }
    assert_eq!(seen.len(), 5);
}
