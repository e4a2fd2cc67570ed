//! One connection to a daemon: a stream over a Unix socket or TCP.
//!
//! Nothing here waits but [`Connection::open`], [`wait`] and the read with which a
//! blocking follower waits; who has a loop of its own uses [`Connection::start`]
//! and the descriptor.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use ipc::descriptors::Received;
use ipc::{Errno, SystemError, errno_text, tcp, unix};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{RecvFlags, SendFlags};

use crate::address::{Address, AddressError};

/// How long [`Connection::open`] tries where nothing else is said.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Shorter waits are not a read's ([`Connection::read_waiting`]), whose time the kernel
/// counts in ticks of up to 10 ms.
const WAIT_LEAST: Duration = Duration::from_millis(250);
/// The longest that a read waits at a time. With a time set, any signal ends the wait.
const WAIT_MOST: Duration = Duration::from_secs(3600);

/// Why there is no connection.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// No address: see [`AddressError`].
    Address(AddressError),
    /// Nobody listens there.
    NobodyListens {
        /// Where.
        address: Address,
        /// ENOENT: no such socket; ECONNREFUSED: one that was left behind.
        reason: Errno,
    },
    /// The socket is there, and may not be used.
    NotPermitted {
        /// Where.
        address: Address,
    },
    /// No answer in time.
    TimedOut {
        /// Where.
        address: Address,
        /// The time.
        after: Duration,
    },
    /// Anything else.
    System {
        /// Where.
        address: Address,
        /// What the system says.
        error: SystemError,
    },
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Address(error) => error.fmt(f),
            ConnectError::NobodyListens { address, reason } => {
                let why = match *reason {
                    Errno::NOENT => "there is no socket".to_owned(),
                    Errno::CONNREFUSED => "nobody listens there".to_owned(),
                    reason => errno_text(reason),
                };
                write!(
                    f,
                    "no daemon: {address}: {why}; start rtmd, or name its place with --runtime-dir or --socket"
                )
            }
            ConnectError::NotPermitted { address } => write!(
                f,
                "no access: {address}: permission denied; the socket's mode and its directory's decide"
            ),
            ConnectError::TimedOut { address, after } => {
                write!(f, "no daemon: {address}: no answer within {after:?}")
            }
            ConnectError::System { address, error } => {
                write!(f, "no daemon: {address}: {}", errno_text(error.errno))
            }
        }
    }
}

impl std::error::Error for ConnectError {}

impl From<AddressError> for ConnectError {
    fn from(error: AddressError) -> ConnectError {
        ConnectError::Address(error)
    }
}

/// What a read brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing is there now.
    Nothing,
    /// The peer has closed.
    End,
}

/// A connected (or connecting) stream, none of whose calls waits.
#[derive(Debug)]
pub struct Connection {
    fd: OwnedFd,
    address: Address,
    /// A TCP connect under way, and to whom.
    connecting: Option<SocketAddr>,
    /// A read may wait: the socket is this process's alone, and a Unix one.
    waits: bool,
    /// How long a read that waits does so (`SO_RCVTIMEO`), once that is set.
    patience: Option<Duration>,
}

impl Connection {
    fn new(fd: OwnedFd, address: Address, connecting: Option<SocketAddr>) -> Connection {
        Connection { fd, address, connecting, waits: false, patience: None }
    }

    /// Connects and waits for it, at most `timeout`.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn open(address: &Address, timeout: Duration) -> Result<Connection, ConnectError> {
        let deadline = Instant::now() + timeout;
        loop {
            let mut connection = match Connection::start(address) {
                // Its queue of connections is full: it is there, and busy.
                Err(ConnectError::System { error, .. })
                    if error.errno == Errno::AGAIN && Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                other => other?,
            };
            while connection.is_connecting() {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(ConnectError::TimedOut {
                        address: address.clone(),
                        after: timeout,
                    });
                }
                wait(&[(connection.as_fd(), PollFlags::OUT)], Some(left));
                connection.finish()?;
            }
            return Ok(connection);
        }
    }

    /// Starts to connect, without waiting. Over TCP the connection may be
    /// under way afterwards: see [`Connection::is_connecting`].
    ///
    /// # Errors
    /// [`ConnectError`]; a full queue at a Unix socket is EAGAIN.
    pub fn start(address: &Address) -> Result<Connection, ConnectError> {
        match address {
            Address::Unix(path) => {
                let fd = unix::connect_nonblocking(path.as_path(), unix::Kind::Stream)
                    .map_err(|error| unix_error(address, error))?;
                // No call of ours relies on the mode but one, which is to wait.
                let waits = rustix::io::ioctl_fionbio(&fd, false).is_ok();
                Ok(Connection { waits, ..Connection::new(fd, address.clone(), None) })
            }
            Address::Tcp(_, addresses) => {
                let mut last = None;
                for &to in addresses {
                    match tcp::connect_start(to) {
                        Ok(fd) => {
                            // A failure of either costs speed, not the connection.
                            let _ = sockopt::set_tcp_nodelay(&fd, true);
                            let _ = tcp::set_keepalive(&fd, Some(tcp::Keepalive::default()));
                            return Ok(Connection::new(fd, address.clone(), Some(to)));
                        }
                        Err(error) => last = Some(tcp_error(address, error)),
                    }
                }
                Err(last.unwrap_or_else(|| ConnectError::NobodyListens {
                    address: address.clone(),
                    reason: Errno::CONNREFUSED,
                }))
            }
        }
    }

    /// One that is connected already: an end of a socket pair, a descriptor
    /// that was inherited. It is made non-blocking.
    ///
    /// # Errors
    /// Those of a descriptor that can't be.
    pub fn from_fd(fd: OwnedFd, address: Address) -> Result<Connection, ConnectError> {
        rustix::io::ioctl_fionbio(&fd, true).map_err(|errno| ConnectError::System {
            address: address.clone(),
            error: SystemError::new("ioctl(FIONBIO)", &address, errno),
        })?;
        Ok(Connection::new(fd, address, None))
    }

    /// Is the connect still under way? Then wait until the descriptor is
    /// writable and call [`Connection::finish`].
    pub fn is_connecting(&self) -> bool {
        self.connecting.is_some()
    }

    /// How a connect under way has ended, if it has.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn finish(&mut self) -> Result<(), ConnectError> {
        let Some(to) = self.connecting else { return Ok(()) };
        tcp::connected(&self.fd, to).map_err(|error| tcp_error(&self.address, error))?;
        // SO_ERROR is also clear while nothing has happened yet.
        if rustix::net::getpeername(&self.fd).is_ok() {
            self.connecting = None;
        }
        Ok(())
    }

    /// Who it is connected to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Reads once, and takes the descriptor that came with the bytes, if one
    /// did: behind those in `descriptors`, close-on-exec.
    ///
    /// # Errors
    /// The system's; ECONNRESET is an end and no error. EMSGSIZE: more
    /// descriptors came than a daemon sends, or this process has no room for one.
    pub fn read(
        &self,
        buffer: &mut [u8],
        descriptors: &mut VecDeque<OwnedFd>,
    ) -> Result<Read, SystemError> {
        if let Address::Unix(_) = self.address {
            let received = ipc::descriptors::try_receive(&self.fd, buffer, 1);
            return self.received(received, descriptors);
        }
        loop {
            match rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::DONTWAIT) {
                Err(Errno::INTR) => {}
                received => return self.plain(received.map(|(_, count)| count)),
            }
        }
    }

    fn received(
        &self,
        received: Result<Received, ipc::descriptors::Error>,
        descriptors: &mut VecDeque<OwnedFd>,
    ) -> Result<Read, SystemError> {
        match received {
            Ok(received) if received.bytes == 0 => Ok(Read::End),
            Ok(received) => {
                descriptors.extend(received.descriptors);
                Ok(Read::Bytes(received.bytes))
            }
            Err(error) => match error.errno() {
                Errno::AGAIN => Ok(Read::Nothing),
                Errno::CONNRESET => Ok(Read::End),
                errno => Err(SystemError::new("recvmsg", &self.address, errno)),
            },
        }
    }

    /// Can [`Connection::read_waiting`] wait so long? Only on a Unix socket of this
    /// process's own, and not for a moment: the kernel's time for it is coarse.
    pub(crate) fn can_wait(&self, at_most: Option<Duration>) -> bool {
        self.waits && at_most.is_none_or(|at_most| at_most >= WAIT_LEAST)
    }

    /// As [`Connection::read`], but waits for something to come: one call where a
    /// `poll` and a read would be two. [`Read::Nothing`]: at least half of the time
    /// has passed; `None`: a signal was caught. Who expects no descriptors gives no
    /// place for them, and would lose them.
    pub(crate) fn read_waiting(
        &mut self,
        buffer: &mut [u8],
        descriptors: Option<&mut VecDeque<OwnedFd>>,
        at_most: Option<Duration>,
    ) -> Result<Option<Read>, SystemError> {
        // Powers of two: who counts down to a time doesn't set it at each call.
        let at_most = at_most.unwrap_or(WAIT_MOST).min(WAIT_MOST);
        let patience = Duration::from_millis(1 << at_most.as_millis().max(1).ilog2());
        if self.patience != Some(patience) {
            let set = sockopt::set_socket_timeout(&self.fd, Timeout::Recv, Some(patience));
            set.map_err(|errno| SystemError::new("setsockopt(SO_RCVTIMEO)", &self.address, errno))?;
            self.patience = Some(patience);
        }
        let Some(descriptors) = descriptors else {
            // Fewer words for the kernel to copy and look at.
            return match rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::empty()) {
                Err(Errno::INTR) => Ok(None),
                received => self.plain(received.map(|(_, count)| count)).map(Some),
            };
        };
        let received = ipc::descriptors::receive_interruptible(&self.fd, buffer, 1);
        if received.as_ref().is_err_and(|error| error.errno() == Errno::INTR) {
            return Ok(None);
        }
        self.received(received, descriptors).map(Some)
    }

    /// How long the last [`Connection::read_waiting`] waited, if nothing came.
    pub(crate) fn patience(&self) -> Duration {
        self.patience.unwrap_or_default()
    }

    fn plain(&self, received: Result<usize, Errno>) -> Result<Read, SystemError> {
        match received {
            Ok(0) | Err(Errno::CONNRESET) => Ok(Read::End),
            Ok(count) => Ok(Read::Bytes(count)),
            Err(Errno::AGAIN) => Ok(Read::Nothing),
            Err(errno) => Err(SystemError::new("recv", &self.address, errno)),
        }
    }

    /// Writes what goes without waiting; says how much.
    ///
    /// # Errors
    /// The system's; EPIPE if the peer has closed, never as a signal.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, SystemError> {
        loop {
            return match rustix::net::send(
                &self.fd,
                bytes,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Ok(count) => Ok(count),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(0),
                Err(errno) => Err(SystemError::new("send", &self.address, errno)),
            };
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn unix_error(address: &Address, error: unix::Error) -> ConnectError {
    let address = address.clone();
    match error {
        unix::Error::NobodyListens { reason, .. } => {
            ConnectError::NobodyListens { address, reason }
        }
        error if matches!(error.errno(), Errno::ACCESS | Errno::PERM) => {
            ConnectError::NotPermitted { address }
        }
        // A path through something that is no directory has no socket either.
        error if error.errno() == Errno::NOTDIR => {
            ConnectError::NobodyListens { address, reason: Errno::NOTDIR }
        }
        error => {
            let error = SystemError::new("connect", &address, error.errno());
            ConnectError::System { address, error }
        }
    }
}

fn tcp_error(address: &Address, error: tcp::Error) -> ConnectError {
    let address = address.clone();
    match error {
        tcp::Error::NobodyListens { .. } => {
            ConnectError::NobodyListens { address, reason: Errno::CONNREFUSED }
        }
        error => {
            let error = SystemError::new("connect", &address, error.errno());
            ConnectError::System { address, error }
        }
    }
}

/// Waits until one of these is ready or the time is over (`None`: for ever),
/// and says which are. An interruption counts as the end of the time.
pub fn wait(fds: &[(BorrowedFd<'_>, PollFlags)], timeout: Option<Duration>) -> Vec<PollFlags> {
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
    // Rounded up to a millisecond: woken a little late, nobody spins.
    let timeout = timeout.map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    });
    match rustix::event::poll(&mut polled, timeout.as_ref()) {
        Ok(_) => polled.iter().map(PollFd::revents).collect(),
        Err(_) => vec![PollFlags::empty(); fds.len()],
    }
}
