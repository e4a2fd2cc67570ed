//! Unix sockets: listening under a name without a window of wrong
//! permissions, connecting, pairs.
//!
//! ```
//! use ipc::unix::{self, Kind, Listener};
//! let dir = tempfile::tempdir()?;
//! let name = dir.path().join("server.sock");
//! let listener = Listener::bind(&name, Kind::Stream, 0o660)?;
//! let client = unix::connect(&name, Kind::Stream)?;
//! let session = listener.accept()?;
//! rustix::io::write(&client, b"ping")?;
//! let mut bytes = [0; 16];
//! assert_eq!(rustix::io::read(&session, &mut bytes)?, 4);
//! drop(listener); // the name goes with it
//! assert!(!name.exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! How the permissions are right from the first moment: the socket is set to
//! its mode by `fchmod` *before* `bind`, and `bind` gives the new name the
//! socket's mode less the umask, which is 0 for that one call. Neither a moment
//! too open nor one too narrow exists. The umask belongs to the process: call
//! [`Listener::bind`] before other threads create files.
use core::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::operation_error;
use crate::socket::AcceptError;
use crate::{Errno, SystemError, process, socket};

/// The longest path name in bytes: `sun_path` holds 108 with the closing NUL.
/// An abstract name may use all but the leading NUL, which is the same number.
pub const NAME_BYTES_MAX: usize = 107;

/// How many connections may wait to be accepted; the kernel caps it at
/// `net.core.somaxconn` (4096 by default), so that is what is asked for.
pub const BACKLOG: i32 = 4096;

operation_error! {
    /// What can go wrong with a Unix socket's name or connection.
    Error {
        /// The name doesn't fit into a socket address.
        NameTooLong {
            /// The name.
            name: Address,
            /// Its length in bytes.
            len: usize,
            /// [`NAME_BYTES_MAX`].
            limit: usize,
        } => NAMETOOLONG, "{name}: a socket's name has at most {limit} bytes, this one {len}";
        /// Something that is no socket has the name: it isn't ours to remove.
        NotASocket {
            /// The path.
            path: PathBuf,
        } => NOTSOCK, "{}: exists and is no socket", path.display();
        /// A living process listens there.
        InUse {
            /// The name.
            name: Address,
        } => ADDRINUSE, "{name}: another process listens there";
        /// Nobody listens there: the name is missing, or left behind by a
        /// process that is gone.
        NobodyListens {
            /// The name.
            name: Address,
            /// ENOENT (no such name) or ECONNREFUSED (a left-over).
            reason: Errno,
        } => CONNREFUSED, "{name}: nobody listens there ({})", crate::errno_text(*reason);
        /// The listener's queue of waiting connections is full; try later.
        Busy {
            /// The name.
            name: Address,
        } => AGAIN, "{name}: too many connections are waiting to be accepted";
    }
}

/// Where a Unix socket lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A name in the file system, visible to whoever may search the directory.
    Path(PathBuf),
    /// A name of the network namespace, without permissions, gone with the
    /// socket (written with a leading `@`).
    Abstract(Vec<u8>),
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Address {
    fn from(path: &P) -> Self {
        Self::Path(path.as_ref().to_owned())
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{}", name.escape_ascii()),
        }
    }
}

impl Address {
    fn encode(&self) -> Result<SocketAddrUnix, Error> {
        let len = match self {
            Self::Path(path) => path.as_os_str().len(),
            Self::Abstract(name) => name.len(),
        };
        if len > NAME_BYTES_MAX {
            return Err(Error::NameTooLong { name: self.clone(), len, limit: NAME_BYTES_MAX });
        }
        match self {
            Self::Path(path) => SocketAddrUnix::new(path.as_os_str().as_bytes()),
            Self::Abstract(name) => SocketAddrUnix::new_abstract_name(name),
        }
        .map_err(|errno| SystemError::new("bind", self, errno).into())
    }
}

/// Stream, datagram or records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A byte stream.
    Stream,
    /// Datagrams without a connection.
    Datagram,
    /// A connection that keeps the boundaries of what was written.
    SeqPacket,
}

impl Kind {
    fn raw(self) -> SocketType {
        match self {
            Self::Stream => SocketType::STREAM,
            Self::Datagram => SocketType::DGRAM,
            Self::SeqPacket => SocketType::SEQPACKET,
        }
    }
}

fn new_socket(kind: Kind, more: SocketFlags, object: &Address) -> Result<OwnedFd, SystemError> {
    rustix::net::socket_with(AddressFamily::UNIX, kind.raw(), SocketFlags::CLOEXEC | more, None)
        .map_err(|errno| SystemError::new("socket", object, errno))
}

/// A bound, non-blocking socket. For stream and seqpacket it listens; a
/// datagram one receives at once. Its name is removed when it is dropped,
/// unless somebody else has taken the name meanwhile.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    address: Address,
    /// Device and inode of the name that we made.
    inode: Option<(u64, u64)>,
}

impl Listener {
    /// Binds `name` with exactly `mode` (permission bits, whatever the umask)
    /// and listens. A name left behind by a process that is gone is replaced;
    /// one that somebody listens on, or that is no socket, is an error.
    ///
    /// # Errors
    /// [`Error::NameTooLong`], [`Error::NotASocket`], [`Error::InUse`], or the
    /// system's (ENOENT: no such directory; EACCES).
    ///
    /// Source: [bind(2)](https://man7.org/linux/man-pages/man2/bind.2.html),
    /// [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
    #[doc(alias = "listen")]
    pub fn bind(name: impl Into<Address>, kind: Kind, mode: u32) -> Result<Self, Error> {
        let address = name.into();
        let encoded = address.encode()?;
        if let Address::Path(path) = &address {
            remove_stale(path)?;
        }
        let fd = new_socket(kind, SocketFlags::NONBLOCK, &address)?;
        let failed = |call| {
            let address = address.clone();
            move |errno| match errno {
                Errno::ADDRINUSE => Error::InUse { name: address },
                errno => SystemError::new(call, &address, errno).into(),
            }
        };
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(failed("fchmod"))?;
        {
            let _umask = process::ClearedUmask::new();
            rustix::net::bind(&fd, &encoded).map_err(failed("bind"))?;
        }
        let inode = match &address {
            Address::Abstract(_) => None,
            Address::Path(path) => Some(inode_of(path).map_err(failed("lstat"))?),
        };
        // From here on the drop of `listener` takes the name away again.
        let listener = Self { fd, address: address.clone(), inode };
        if kind != Kind::Datagram {
            rustix::net::listen(&listener.fd, BACKLOG).map_err(failed("listen"))?;
        }
        Ok(listener)
    }

    /// Accepts one connection: see [`socket::accept`].
    ///
    /// # Errors
    /// [`AcceptError`].
    #[doc(alias = "accept4")]
    pub fn accept(&self) -> Result<OwnedFd, AcceptError> {
        socket::accept(&self.fd)
    }

    /// The name it is bound to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Keeps the name when this is dropped: for a descriptor that is handed to
    /// a successor, or that a parent owns.
    pub fn keep_name(&mut self) {
        self.inode = None;
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let (Address::Path(path), Some(ours)) = (&self.address, self.inode) else { return };
        if inode_of(path) == Ok(ours) {
            // Nothing can be done about a failure here, and nothing depends on
            // it: the next bind removes what is stale.
            let _ = rustix::fs::unlink(path);
        }
    }
}

fn inode_of(path: &Path) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Removes the name of a socket on which nobody listens any more; returns
/// whether there was one.
///
/// Whoever calls this holds the lock that decides who may listen there; between
/// the look and the removal nothing else does.
///
/// # Errors
/// [`Error::NotASocket`] and [`Error::InUse`], with the name left alone.
#[doc(alias = "unlink")]
pub fn remove_stale(path: impl AsRef<Path>) -> Result<bool, Error> {
    let path = path.as_ref();
    let stat = match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(SystemError::new("lstat", path.display(), errno).into()),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(Error::NotASocket { path: path.to_owned() });
    }
    let address = Address::from(path);
    let probe = new_socket(Kind::Stream, SocketFlags::NONBLOCK, &address)?;
    match rustix::net::connect(&probe, &address.encode()?) {
        Err(Errno::CONNREFUSED) => {}
        // Connected, its queue full, or a living socket of another type.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => {
            return Err(Error::InUse { name: address });
        }
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(SystemError::new("connect", path.display(), errno).into()),
    }
    match rustix::fs::unlink(path) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(SystemError::new("unlink", path.display(), errno).into()),
    }
}

/// Connects and returns a blocking socket; waits while the listener's queue is
/// full.
///
/// # Errors
/// [`Error::NobodyListens`], [`Error::NameTooLong`], or the system's (EACCES,
/// EPROTOTYPE: it is of another kind).
///
/// Source: [connect(2)](https://man7.org/linux/man-pages/man2/connect.2.html).
pub fn connect(name: impl Into<Address>, kind: Kind) -> Result<OwnedFd, Error> {
    connect_with(name.into(), kind, SocketFlags::empty())
}

/// Connects without waiting and returns a non-blocking socket.
///
/// # Errors
/// Those of [`connect`], and [`Error::Busy`] when the listener's queue is full.
///
/// Source: [connect(2)](https://man7.org/linux/man-pages/man2/connect.2.html).
#[doc(alias = "connect")]
pub fn connect_nonblocking(name: impl Into<Address>, kind: Kind) -> Result<OwnedFd, Error> {
    connect_with(name.into(), kind, SocketFlags::NONBLOCK)
}

fn connect_with(address: Address, kind: Kind, flags: SocketFlags) -> Result<OwnedFd, Error> {
    let encoded = address.encode()?;
    let fd = new_socket(kind, flags, &address)?;
    loop {
        return match rustix::net::connect(&fd, &encoded) {
            Ok(()) => Ok(fd),
            // An interrupted connect of a Unix socket has done nothing yet.
            Err(Errno::INTR) => continue,
            Err(reason @ (Errno::NOENT | Errno::CONNREFUSED)) => {
                Err(Error::NobodyListens { name: address, reason })
            }
            Err(Errno::AGAIN) => Err(Error::Busy { name: address }),
            Err(errno) => Err(SystemError::new("connect", address, errno).into()),
        };
    }
}

/// A connected datagram socket that can be answered: the kernel gives it an
/// abstract name of its own (five hex digits), without which the other side has
/// nowhere to send to.
///
/// # Errors
/// Those of [`connect`].
///
/// Source: [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), autobind.
#[doc(alias = "bind")]
pub fn connect_answerable(name: impl Into<Address>) -> Result<OwnedFd, Error> {
    let address = name.into();
    let encoded = address.encode()?;
    let fd = new_socket(Kind::Datagram, SocketFlags::empty(), &address)?;
    rustix::net::bind(&fd, &SocketAddrUnix::new_unnamed())
        .map_err(|errno| SystemError::new("bind", "a name of its own", errno))?;
    match rustix::net::connect(&fd, &encoded) {
        Ok(()) => Ok(fd),
        Err(reason @ (Errno::NOENT | Errno::CONNREFUSED)) => {
            Err(Error::NobodyListens { name: address, reason })
        }
        Err(errno) => Err(SystemError::new("connect", address, errno).into()),
    }
}

/// Two connected sockets, blocking, close-on-exec.
///
/// # Errors
/// EMFILE, ENFILE.
///
/// Source: [socketpair(2)](https://man7.org/linux/man-pages/man2/socketpair.2.html).
#[doc(alias = "socketpair")]
pub fn pair(kind: Kind) -> Result<(OwnedFd, OwnedFd), Error> {
    rustix::net::socketpair(AddressFamily::UNIX, kind.raw(), SocketFlags::CLOEXEC, None)
        .map_err(|errno| SystemError::new("socketpair", "pair", errno).into())
}
