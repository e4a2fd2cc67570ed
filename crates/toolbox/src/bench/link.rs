//! Two ways between two processes, by each mechanism: what both sides do to send
//! and to receive one message, thin over the crate.
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use ipc::map::MapMut;
use ipc::mq::{self, Access, Queue};
use ipc::ring::{self, Framing, Reader, Writer};
use ipc::signal::{Signal, SignalFd, SignalSet};
use ipc::timer::Wait;
use ipc::{Errno, sem, shm, sysv, tcp, unix};
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;

use super::Mechanism;
use crate::failure::Failure;

/// One side's two directions.
pub(crate) trait Link {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure>;
    fn receive(&mut self, message: &mut [u8]) -> Result<(), Failure>;
    /// Who is at the other side: for what needs to know.
    fn partner(&mut self, _partner: Pid) -> Result<(), Failure> {
        Ok(())
    }
    /// Before the child ends: something it holds may be needed a moment longer.
    fn linger(&mut self) {}
}

/// This side's link, and what the child's is made of.
pub(crate) struct Pair {
    pub(crate) link: Box<dyn Link>,
    /// What the child reads from and writes to.
    pub(crate) ends: Option<(OwnedFd, OwnedFd)>,
    /// Names or ids for the child.
    pub(crate) names: String,
    /// What is removed at the end.
    pub(crate) _made: Made,
}

/// Named objects of one run.
#[derive(Default)]
pub(crate) struct Made {
    names: Vec<String>,
    queues: Vec<sysv::queue::Queue>,
    directory: Option<std::path::PathBuf>,
}

impl Drop for Made {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = mq::remove(name);
            let _ = shm::remove(name);
        }
        for queue in &self.queues {
            let _ = queue.remove();
        }
        if let Some(directory) = &self.directory {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

fn failed(call: &'static str) -> impl Fn(Errno) -> Failure {
    move |errno| Failure::refused(format!("{call}: {}", ipc::errno_text(errno)))
}

fn io(what: &'static str) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::refused(format!("{what}: {error}"))
}

/// Descriptors: a stream is read until the message is whole.
struct Descriptors {
    read: OwnedFd,
    write: OwnedFd,
}

impl Descriptors {
    fn of((read, write): (OwnedFd, OwnedFd)) -> Self {
        Self { read, write }
    }
}

impl Link for Descriptors {
    fn send(&mut self, mut message: &[u8]) -> Result<(), Failure> {
        while !message.is_empty() {
            match rustix::io::write(&self.write, message) {
                Ok(count) => message = &message[count..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("write")(errno)),
            }
        }
        Ok(())
    }

    fn receive(&mut self, message: &mut [u8]) -> Result<(), Failure> {
        let mut done = 0;
        while done < message.len() {
            match rustix::io::read(&self.read, &mut message[done..]) {
                Ok(0) => return Err(Failure::refused("the other process has ended")),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("read")(errno)),
            }
        }
        Ok(())
    }
}

struct Queues {
    to: Queue,
    from: Queue,
}

impl Link for Queues {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.to.send(message, 0, Wait::FOREVER)?)
    }

    fn receive(&mut self, message: &mut [u8]) -> Result<(), Failure> {
        self.from.receive(message, Wait::FOREVER)?;
        Ok(())
    }
}

struct SysvQueues {
    to: sysv::queue::Queue,
    from: sysv::queue::Queue,
    buffer: Vec<u8>,
}

impl Link for SysvQueues {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.to.send(1, message, Wait::FOREVER)?)
    }

    fn receive(&mut self, message: &mut [u8]) -> Result<(), Failure> {
        self.from.receive_into(&mut self.buffer, 0, Wait::FOREVER)?;
        message.copy_from_slice(&self.buffer[..message.len()]);
        Ok(())
    }
}

struct Rings {
    to: Writer,
    from: Reader,
    buffer: Vec<u8>,
}

impl Link for Rings {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.to.send(message, Wait::FOREVER)?)
    }

    fn receive(&mut self, message: &mut [u8]) -> Result<(), Failure> {
        self.from.receive(&mut self.buffer, Wait::FOREVER)?;
        message.copy_from_slice(&self.buffer[..message.len()]);
        Ok(())
    }
}

/// One slot in each direction:
/// ```text
///   0 semaphore "full"   64 semaphore "empty"   128 the message
/// ```
struct Slots {
    map: MapMut,
    /// Where the slot to the other one begins, and the one from it.
    to: usize,
    from: usize,
}

/// Bytes of one slot.
const SLOT_BYTES: usize = 8192;

impl Link for Slots {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        sem::Shared::at(&self.map, self.to + 64).wait(Wait::FOREVER)?;
        self.map.bytes_in(self.to + 128, message);
        Ok(sem::Shared::at(&self.map, self.to).post()?)
    }

    fn receive(&mut self, message: &mut [u8]) -> Result<(), Failure> {
        sem::Shared::at(&self.map, self.from).wait(Wait::FOREVER)?;
        self.map.bytes_out(self.from + 128, message);
        Ok(sem::Shared::at(&self.map, self.from + 64).post()?)
    }
}

struct Signals {
    signal: Signal,
    own: SignalFd,
    partner: Option<OwnedFd>,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let signal: Signal = "RTMIN".parse().expect("there is one");
        Ok(Self { signal, own: SignalFd::new(&SignalSet::of(&[signal]))?, partner: None })
    }
}

impl Link for Signals {
    fn send(&mut self, _message: &[u8]) -> Result<(), Failure> {
        let partner = self.partner.as_ref().expect("it is told before");
        Ok(ipc::pidfd::queue(partner, self.signal, 7)?)
    }

    fn receive(&mut self, _message: &mut [u8]) -> Result<(), Failure> {
        loop {
            if self.own.read()?.is_some() {
                return Ok(());
            }
            let mut fds = [PollFd::new(&self.own, PollFlags::IN)];
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("poll")(errno)),
            }
        }
    }

    fn partner(&mut self, partner: Pid) -> Result<(), Failure> {
        self.partner = Some(ipc::pidfd::open(partner)?);
        Ok(())
    }
}

/// A name of this run's own.
fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("/ipc-bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn by_descriptors(ours: (OwnedFd, OwnedFd), theirs: (OwnedFd, OwnedFd)) -> Pair {
    Pair {
        link: Box::new(Descriptors::of(ours)),
        ends: Some(theirs),
        names: "-".to_owned(),
        _made: Made::default(),
    }
}

/// One socket for both directions.
fn by_sockets(ours: OwnedFd, theirs: OwnedFd) -> Result<Pair, Failure> {
    let twice = |fd: OwnedFd| {
        let other = fd.try_clone().map_err(io("duplicating a socket"))?;
        Ok::<_, Failure>((fd, other))
    };
    Ok(by_descriptors(twice(ours)?, twice(theirs)?))
}

fn by_name(link: Box<dyn Link>, names: String, made: Made) -> Pair {
    Pair { link, ends: None, names, _made: made }
}

/// Makes everything for one figure.
pub(crate) fn pair(mechanism: Mechanism, bytes: usize) -> Result<Pair, Failure> {
    let sockets = |kind| {
        let (ours, theirs) = unix::pair(kind)?;
        by_sockets(ours, theirs)
    };
    match mechanism {
        Mechanism::Pipe => {
            let (there, here) = (ipc::pipe::pipe()?, ipc::pipe::pipe()?);
            Ok(by_descriptors((here.0, there.1), (there.0, here.1)))
        }
        Mechanism::Fifo => {
            let directory = std::env::temp_dir().join(&name()[1..]);
            std::fs::create_dir(&directory).map_err(io("a directory for FIFOs"))?;
            let mut made = Made::default();
            made.directory = Some(directory.clone());
            let mut ends = Vec::new();
            for path in [directory.join("there"), directory.join("here")] {
                ipc::fifo::create(&path, 0o600)?;
                // Without waiting for the other end, which comes next.
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let reader =
                    rustix::fs::open(&path, flags, Mode::empty()).map_err(failed("open"))?;
                let writer = ipc::fifo::open_writer(&path)?;
                for end in [&reader, &writer] {
                    rustix::io::ioctl_fionbio(end, false).map_err(failed("ioctl"))?;
                }
                ends.push((reader, writer));
            }
            let (here, there) = (ends.remove(1), ends.remove(0));
            let mut pair = by_descriptors((here.0, there.1), (there.0, here.1));
            pair._made = made;
            Ok(pair)
        }
        Mechanism::UnixStream => sockets(unix::Kind::Stream),
        Mechanism::UnixDgram => sockets(unix::Kind::Datagram),
        Mechanism::UnixSeqpacket => sockets(unix::Kind::SeqPacket),
        Mechanism::Tcp => {
            let listener = tcp::Listener::bind(([127, 0, 0, 1], 0).into())?;
            let ours = tcp::connect(listener.local_address()?, None)?;
            let mut fds = [PollFd::new(&listener, PollFlags::IN)];
            rustix::event::poll(&mut fds, None).map_err(failed("poll"))?;
            let (theirs, _) = listener.accept()?;
            rustix::io::ioctl_fionbio(&theirs, false).map_err(failed("ioctl"))?;
            for end in [&ours, &theirs] {
                rustix::net::sockopt::set_tcp_nodelay(end, true).map_err(failed("TCP_NODELAY"))?;
            }
            by_sockets(ours, theirs)
        }
        Mechanism::Udp => {
            let bind = || UdpSocket::bind("127.0.0.1:0").map_err(io("a UDP socket"));
            let (ours, theirs) = (bind()?, bind()?);
            for (one, other) in [(&ours, &theirs), (&theirs, &ours)] {
                let address = other.local_addr().map_err(io("a UDP socket"))?;
                one.connect(address).map_err(io("a UDP socket"))?;
            }
            by_sockets(ours.into(), theirs.into())
        }
        Mechanism::Mq => {
            let names = [name(), name()];
            let mut made = Made::default();
            for name in &names {
                let options = mq::Options {
                    maxmsg: Some(10),
                    msgsize: Some(bytes),
                    exclusive: true,
                    mode: 0o600,
                };
                Queue::create(name, &options)?;
                made.names.push(name.clone());
            }
            let link = queues(&names[0], &names[1])?;
            Ok(by_name(link, names.join(" "), made))
        }
        Mechanism::SysvMq => {
            let mut made = Made::default();
            for _ in 0..2 {
                let options = sysv::Options { mode: 0o600, ..Default::default() };
                made.queues.push(sysv::queue::Queue::create(sysv::Key::Private, &options)?);
            }
            let (to, from) = (made.queues[0], made.queues[1]);
            let names = format!("{} {}", to.id(), from.id());
            Ok(by_name(Box::new(SysvQueues { to, from, buffer: Vec::new() }), names, made))
        }
        Mechanism::Ring => {
            let names = [name(), name()];
            let mut made = Made::default();
            for name in &names {
                let options = ring::Options {
                    capacity: 1 << 20,
                    framing: Framing::Messages,
                    exclusive: true,
                    ..Default::default()
                };
                ring::create(name, &options)?;
                made.names.push(name.clone());
            }
            let link = rings(&names[0], &names[1])?;
            Ok(by_name(link, names.join(" "), made))
        }
        Mechanism::ShmSem => {
            let name = name();
            let options =
                shm::Options { size: 2 * SLOT_BYTES as u64, mode: 0o600, exclusive: true };
            let object = shm::Object::create(&name, &options)?;
            let mut made = Made::default();
            made.names.push(name.clone());
            let map = MapMut::of(&object, 2 * SLOT_BYTES)?;
            for slot in [0, SLOT_BYTES] {
                sem::Shared::init(&map, slot, 0)?;
                sem::Shared::init(&map, slot + 64, 1)?;
            }
            let link = Slots { map, to: 0, from: SLOT_BYTES };
            Ok(by_name(Box::new(link), name, made))
        }
        Mechanism::Eventfd => {
            let event = || {
                let flags = EventfdFlags::CLOEXEC | EventfdFlags::SEMAPHORE;
                rustix::event::eventfd(0, flags).map_err(failed("eventfd"))
            };
            let twice = |fd: &OwnedFd| fd.try_clone().map_err(io("duplicating an eventfd"));
            let (there, here) = (event()?, event()?);
            let (there2, here2) = (twice(&there)?, twice(&here)?);
            let mut pair = by_descriptors((here, there), (there2, here2));
            pair.link = Box::new(Counter::from(pair.link));
            Ok(pair)
        }
        Mechanism::Signal => {
            Ok(by_name(Box::new(Signals::new()?), std::process::id().to_string(), Made::default()))
        }
    }
}

/// An eventfd takes and gives a number of eight bytes.
struct Counter(Box<dyn Link>);

impl From<Box<dyn Link>> for Counter {
    fn from(link: Box<dyn Link>) -> Self {
        Self(link)
    }
}

impl Link for Counter {
    fn send(&mut self, _message: &[u8]) -> Result<(), Failure> {
        self.0.send(&1_u64.to_ne_bytes())
    }

    fn receive(&mut self, message: &mut [u8]) -> Result<(), Failure> {
        self.0.receive(&mut message[..8])
    }
}

fn queues(to: &str, from: &str) -> Result<Box<dyn Link>, Failure> {
    let (to, from) = (Queue::open(to, Access::Send)?, Queue::open(from, Access::Receive)?);
    Ok(Box::new(Queues { to, from }))
}

fn rings(to: &str, from: &str) -> Result<Box<dyn Link>, Failure> {
    let (to, from) = (Writer::open(to)?, Reader::open(from)?);
    Ok(Box::new(Rings { to, from, buffer: Vec::new() }))
}

/// The child's link.
pub(crate) fn side(
    mechanism: Mechanism,
    _bytes: usize,
    names: &str,
    ends: Option<(OwnedFd, OwnedFd)>,
) -> Result<Box<dyn Link>, Failure> {
    let wrong = || Failure::usage("--side is for this program itself");
    let two = || names.split_once(' ').ok_or_else(wrong);
    let id = |text: &str| text.parse::<i32>().map_err(|_| wrong());
    Ok(match mechanism {
        Mechanism::Mq => {
            let (from, to) = two()?;
            queues(to, from)?
        }
        Mechanism::Ring => {
            let (from, to) = two()?;
            rings(to, from)?
        }
        Mechanism::SysvMq => {
            let (from, to) = two()?;
            let queue = sysv::queue::Queue::from_id;
            let (to, from) = (queue(id(to)?), queue(id(from)?));
            Box::new(SysvQueues { to, from, buffer: Vec::new() })
        }
        Mechanism::ShmSem => {
            let object = shm::Object::open(names, shm::Access::ReadWrite)?;
            let map = MapMut::of(object.as_fd(), 2 * SLOT_BYTES)?;
            Box::new(Slots { map, to: SLOT_BYTES, from: 0 })
        }
        Mechanism::Signal => {
            let mut signals = Signals::new()?;
            signals.partner(Pid::from_raw(id(names)?).ok_or_else(wrong)?)?;
            Box::new(signals)
        }
        Mechanism::Eventfd => Box::new(Counter(Box::new(Descriptors::of(ends.ok_or_else(wrong)?)))),
        _ => Box::new(Descriptors::of(ends.ok_or_else(wrong)?)),
    })
}
