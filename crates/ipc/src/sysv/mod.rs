//! System V message queues, shared memory and semaphore sets.
//!
//! ```
//! use ipc::sysv::{Key, Options, queue::Queue};
//! use ipc::timer::Wait;
//! let queue = Queue::create(Key::Private, &Options::default())?;
//! queue.send(7, b"seven", Wait::No)?;
//! let message = queue.receive(0, Wait::No)?;
//! assert_eq!((message.kind, &message.bytes[..]), (7, &b"seven"[..]));
//! queue.remove()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Objects have a number, the *id*, and are found by a *key*. They live until
//! they are removed, have no descriptor, and can't stand in a poll set.
#![allow(unsafe_code)] // ftok; the submodules: msg*, shm*, sem*
pub mod queue;
pub mod segment;
pub mod set;

use core::fmt;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::operation_error;
use crate::{Errno, SystemError, sockopt};

operation_error! {
    /// What can go wrong with a System V object.
    Error {
        /// It exists, and was to be made anew.
        Exists {
            /// Kind and key.
            object: String,
        } => EXIST, "{object}: exists already";
        /// There is no such object.
        Missing {
            /// Kind and key or id.
            object: String,
        } => NOENT, "{object}: no such object";
        /// Its mode forbids it.
        NotPermitted {
            /// Kind and key or id.
            object: String,
        } => ACCESS, "{object}: permission denied";
        /// It was removed while the call waited.
        Removed {
            /// Kind and id.
            object: String,
        } => IDRM, "{object}: was removed";
        /// The call would have to wait (a full queue, a semaphore too low), and
        /// was not to.
        WouldBlock {
            /// Kind and id.
            object: String,
        } => AGAIN, "{object}: would have to wait";
        /// No message of that type is there.
        NoMessage {
            /// Kind and id.
            object: String,
        } => NOMSG, "{object}: no message of the wanted type";
        /// The time passed.
        TimedOut {
            /// Kind and id.
            object: String,
        } => TIMEDOUT, "{object}: timed out";
        /// A signal handler ran during the wait.
        Interrupted {
            /// Kind and id.
            object: String,
        } => INTR, "{object}: interrupted by a signal";
        /// Longer than a message may be.
        TooLong {
            /// Kind and id.
            object: String,
            /// Its length.
            len: usize,
            /// The limit.
            limit: usize,
            /// Which limit that is.
            limit_name: &'static str,
        } => MSGSIZE, "{object}: a message of {len} bytes; {limit_name} is {limit}";
        /// A size or number that the system doesn't take.
        BadSize {
            /// Kind and key.
            object: String,
            /// What was asked for.
            wanted: usize,
            /// The largest.
            limit: usize,
            /// Which limit that is.
            limit_name: &'static str,
        } => INVAL, "{object}: {wanted} is not between 1 and {limit_name}, {limit}";
        /// It exists, but smaller than asked for.
        Smaller {
            /// Kind and key.
            object: String,
            /// What was asked for.
            wanted: usize,
        } => INVAL, "{object}: exists already and is smaller than {wanted}";
        /// The system has as many objects of this kind as it may have.
        TooMany {
            /// Kind and key.
            object: String,
            /// The limit.
            limit: usize,
            /// Which limit that is.
            limit_name: &'static str,
        } => NOSPC, "{object}: the system has as many as {limit_name} allows, {limit}";
        /// A number of a semaphore that the set doesn't have.
        NoSuchNumber {
            /// Kind and id.
            object: String,
            /// The number.
            number: u16,
        } => FBIG, "{object}: has no semaphore number {number}";
        /// A semaphore's value beyond the highest.
        TooHigh {
            /// Kind and id.
            object: String,
            /// The highest (`SEMVMX`).
            limit: u32,
        } => RANGE, "{object}: a semaphore's value is between 0 and {limit}";
        /// A message's type must be 1 or more.
        BadType {
            /// The type.
            kind: i64,
        } => INVAL, "type {kind}: a message's type is 1 or more";
        /// The kernel can't copy messages without taking them.
        NoPeek {
            /// Kind and id.
            object: String,
        } => NOSYS, "{object}: this kernel can't show messages without taking them (CONFIG_CHECKPOINT_RESTORE)";
    }
}

/// How an object is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// By no one but who is told its id (`IPC_PRIVATE`); for making only.
    Private,
    /// By this number, other than 0.
    Number(i32),
}

impl Key {
    /// The key of a file and a byte: the same for all who name the same file.
    /// (It mixes 16 bits of the inode, 8 of the device and the byte: two files
    /// can have one key.)
    ///
    /// # Errors
    /// The file's: ENOENT, EACCES.
    ///
    /// Source: [ftok(3)](https://man7.org/linux/man-pages/man3/ftok.3.html).
    #[doc(alias = "ftok")]
    pub fn of_file(path: impl AsRef<Path>, id: u8) -> Result<Self, SystemError> {
        let path = path.as_ref();
        let c_path = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| SystemError::new("ftok", path.display(), Errno::INVAL))?;
        // SAFETY: a C string and an integer.
        let key = sockopt::check(unsafe { libc::ftok(c_path.as_ptr(), id.into()) })
            .map_err(|errno| SystemError::new("ftok", path.display(), errno))?;
        Ok(Self::Number(key))
    }

    fn raw(self) -> libc::key_t {
        match self {
            Self::Private => libc::IPC_PRIVATE,
            Self::Number(key) => key,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private => f.write_str("private"),
            Self::Number(key) => write!(f, "0x{key:08x}"),
        }
    }
}

/// How an object is made.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Permission bits, exactly (System V objects know no umask).
    pub mode: u32,
    /// Whether an existing one is an error. If not, it is taken as it is.
    pub exclusive: bool,
}

impl Default for Options {
    /// For the owner alone, an existing one taken as it is.
    fn default() -> Self {
        Self { mode: 0o600, exclusive: false }
    }
}

impl Options {
    fn flags(&self) -> i32 {
        let exclusive = if self.exclusive { libc::IPC_EXCL } else { 0 };
        libc::IPC_CREAT | exclusive | (self.mode & 0o777) as i32
    }
}

/// Owner, creator and mode of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions {
    /// The key it was made with; 0: private.
    pub key: i32,
    /// Owner.
    pub uid: u32,
    /// Owner's group.
    pub gid: u32,
    /// Creator.
    pub creator_uid: u32,
    /// Creator's group.
    pub creator_gid: u32,
    /// Permission bits; for a segment also the kernel's two marks (see
    /// [`segment::DESTROYED`], [`segment::LOCKED`]).
    pub mode: u32,
    /// The use count of the slot behind the id.
    pub sequence: u32,
}

impl From<&libc::ipc_perm> for Permissions {
    fn from(raw: &libc::ipc_perm) -> Self {
        Self {
            key: raw.__key,
            uid: raw.uid,
            gid: raw.gid,
            creator_uid: raw.cuid,
            creator_gid: raw.cgid,
            mode: raw.mode.into(),
            sequence: raw.__seq.into(),
        }
    }
}

/// The ids of all objects of one kind in this IPC namespace, from
/// `/proc/sysvipc/{msg,shm,sem}`.
fn ids(kind: &str) -> Result<Vec<i32>, Error> {
    let path = format!("/proc/sysvipc/{kind}");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        SystemError::new("open", &path, Errno::from_io_error(&error).unwrap_or(Errno::IO))
    })?;
    let ids = text.lines().skip(1).filter_map(|l| l.split_ascii_whitespace().nth(1)?.parse().ok());
    Ok(ids.collect())
}

/// One of the system's limits; 0 where it can't be read.
fn limit(path: &str, field: usize) -> usize {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().nth(field).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// What the calls of all three kinds have in common.
fn failed(call: &'static str, object: &str, errno: Errno) -> Error {
    let object = object.to_owned();
    match errno {
        Errno::EXIST => Error::Exists { object },
        // An id that is gone is "invalid" to the kernel.
        Errno::NOENT | Errno::INVAL => Error::Missing { object },
        Errno::ACCESS | Errno::PERM => Error::NotPermitted { object },
        Errno::IDRM => Error::Removed { object },
        Errno::AGAIN => Error::WouldBlock { object },
        Errno::INTR => Error::Interrupted { object },
        errno => Error::System(SystemError { call, object, errno }),
    }
}
