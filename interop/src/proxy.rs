//! A TCP proxy in a namespace: passes on what one side says, and cuts the
//! connection after as many bytes as it is told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rtm_e2e::Namespace;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The proxy; its thread ends with it.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// After how many bytes each coming connection is cut, last first.
    cuts: Mutex<Vec<u64>>,
    /// Nobody is let in.
    closed: AtomicBool,
    stop: AtomicBool,
    connections: AtomicU64,
    bytes: AtomicU64,
    /// Everything that was passed on, if that is wanted.
    record: Mutex<Option<Vec<u8>>>,
}

/// How often a waiting thread looks whether it should stop.
const LOOK: Duration = Duration::from_millis(20);

impl Proxy {
    /// Listens on `from` in the namespace, passes on to `to` there.
    pub(crate) fn start(namespace: &Namespace, from: SocketAddr, to: SocketAddr) -> Proxy {
        let shared = Arc::new(Shared::default());
        let path = format!("/var/run/netns/{}", namespace.name());
        let of_thread = Arc::clone(&shared);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let file = std::fs::File::open(&path).expect("the namespace has a name");
            // This thread alone.
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter it");
            let mut listener = Some(TcpListener::bind(from).expect("the address is free"));
            ready.send(()).expect("somebody waits");
            while !of_thread.stop.load(Ordering::Relaxed) {
                if of_thread.closed.load(Ordering::Relaxed) {
                    // Connecting is refused, as when the daemon is not there.
                    listener = None;
                    std::thread::sleep(LOOK);
                    continue;
                }
                let listener = listener
                    .get_or_insert_with(|| TcpListener::bind(from).expect("the address is free"));
                listener.set_nonblocking(true).expect("a listener can be");
                match listener.accept() {
                    Ok((stream, _)) => pass(&stream, to, &of_thread),
                    Err(_) => std::thread::sleep(LOOK),
                }
            }
        });
        is_ready.recv().expect("the proxy starts");
        Proxy { shared, thread: Some(thread) }
    }

    /// The next connections are cut after this many bytes each.
    pub(crate) fn cut(&self, mut after: Vec<u64>) {
        after.reverse();
        *self.shared.cuts.lock().unwrap() = after;
    }

    /// How many connections are still to be cut.
    pub(crate) fn cuts_left(&self) -> usize {
        self.shared.cuts.lock().unwrap().len()
    }

    /// Cuts what is, and lets nobody in (or again).
    pub(crate) fn close(&self, closed: bool) {
        self.shared.closed.store(closed, Ordering::Relaxed);
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Bytes passed on.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Keeps what is passed on from here on.
    pub(crate) fn record(&self) {
        *self.shared.record.lock().unwrap() = Some(Vec::new());
    }

    /// What was kept.
    pub(crate) fn take_record(&self) -> Vec<u8> {
        self.shared.record.lock().unwrap().take().unwrap_or_default()
    }
}

/// One connection, to its end or its cut.
fn pass(mut from: &TcpStream, to: SocketAddr, shared: &Shared) {
    let Ok(mut target) = TcpStream::connect(to) else { return };
    shared.connections.fetch_add(1, Ordering::Relaxed);
    let cut = shared.cuts.lock().unwrap().pop();
    let mut left = cut.unwrap_or(u64::MAX);
    from.set_nonblocking(false).expect("a stream can be");
    from.set_read_timeout(Some(LOOK)).expect("a stream can have one");
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 && !shared.stop.load(Ordering::Relaxed) && !shared.closed.load(Ordering::Relaxed)
    {
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match from.read(&mut buffer[..room]) {
            Ok(0) => return,
            Ok(count) => {
                left -= count as u64;
                if target.write_all(&buffer[..count]).is_err() {
                    return;
                }
                shared.bytes.fetch_add(count as u64, Ordering::Relaxed);
                if let Some(record) = &mut *shared.record.lock().unwrap() {
                    record.extend_from_slice(&buffer[..count]);
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(_) => return,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
