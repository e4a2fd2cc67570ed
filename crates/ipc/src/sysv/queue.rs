//! System V message queues: messages with a type, taken by type.
//!
//! ```
//! use ipc::sysv::{Key, Options, queue::Queue};
//! use ipc::timer::Wait;
//! let queue = Queue::create(Key::Private, &Options::default())?;
//! for (kind, text) in [(2, "b"), (1, "a"), (2, "c")] {
//!     queue.send(kind, text.as_bytes(), Wait::No)?;
//! }
//! assert_eq!(queue.peek(1)?.expect("three are there").bytes, b"a"); // and still there
//! assert_eq!(queue.receive(2, Wait::No)?.bytes, b"b"); // the first of type 2
//! assert_eq!(queue.receive(-2, Wait::No)?.bytes, b"a"); // the lowest type up to 2
//! assert_eq!(queue.stat()?.messages, 1);
//! queue.remove()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
use core::mem::MaybeUninit;
use core::time::Duration;

use super::{Error, Key, Options, Permissions, failed, ids, limit};
use crate::timer::Wait;
use crate::{Errno, sockopt};

/// A queue of this IPC namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    id: i32,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type, 1 or more.
    pub kind: i64,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Every field of `msqid_ds`.
///
/// Source: [msgctl(2)](https://man7.org/linux/man-pages/man2/msgctl.2.html).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Owner and mode.
    pub permissions: Permissions,
    /// Time of the last send, in seconds since 1970; 0: never.
    pub send_time: i64,
    /// Time of the last receive; 0: never.
    pub receive_time: i64,
    /// Time of making or of the last change.
    pub change_time: i64,
    /// Bytes in all its messages.
    pub bytes: u64,
    /// How many messages it holds.
    pub messages: u64,
    /// How many bytes it may hold.
    pub bytes_max: u64,
    /// Who sent last; 0: nobody.
    pub last_sender: i32,
    /// Who received last; 0: nobody.
    pub last_receiver: i32,
}

/// How long to wait between two looks, at first and at most, where a time limit
/// is given: System V has no timed call and no descriptor to wait on.
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_LAST: Duration = Duration::from_millis(10);

/// `MSG_COPY`: receive by number, and leave it there.
const MSG_COPY: i32 = 0o40000;

/// The first buffer for a message: `kernel.msgmax` unless somebody has changed
/// it. If a message is longer, it stays, and a buffer twice as large is tried;
/// to read the limit each time takes longer than the message itself.
const ROOM_FIRST: usize = 8192;

/// The type stands before the bytes.
const HEAD: usize = size_of::<libc::c_long>();

/// The longest message (`kernel.msgmax`).
#[must_use]
pub fn message_bytes_max() -> usize {
    limit("/proc/sys/kernel/msgmax", 0)
}

/// The bytes that a new queue may hold (`kernel.msgmnb`).
#[must_use]
pub fn queue_bytes_max() -> usize {
    limit("/proc/sys/kernel/msgmnb", 0)
}

/// How many queues there may be (`kernel.msgmni`).
#[must_use]
pub fn queues_max() -> usize {
    limit("/proc/sys/kernel/msgmni", 0)
}

fn described(key: Key) -> String {
    format!("queue with key {key}")
}

impl Queue {
    /// Makes a queue, or takes an existing one unless `exclusive`.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NotPermitted`], [`Error::TooMany`].
    ///
    /// Source: [msgget(2)](https://man7.org/linux/man-pages/man2/msgget.2.html).
    #[doc(alias = "msgget")]
    pub fn create(key: Key, options: &Options) -> Result<Self, Error> {
        // SAFETY: two integers.
        let result = sockopt::check(unsafe { libc::msgget(key.raw(), options.flags()) });
        let id = result.map_err(|errno| match errno {
            Errno::NOSPC => Error::TooMany {
                object: described(key),
                limit: queues_max(),
                limit_name: "kernel.msgmni",
            },
            errno => failed("msgget", &described(key), errno),
        })?;
        Ok(Self { id })
    }

    /// Finds an existing queue by its key.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotPermitted`].
    ///
    /// Source: [msgget(2)](https://man7.org/linux/man-pages/man2/msgget.2.html).
    #[doc(alias = "msgget")]
    pub fn find(key: Key) -> Result<Self, Error> {
        if key == Key::Private {
            return Err(Error::Missing { object: described(key) });
        }
        // SAFETY: two integers.
        let result = sockopt::check(unsafe { libc::msgget(key.raw(), 0) });
        Ok(Self { id: result.map_err(|errno| failed("msgget", &described(key), errno))? })
    }

    /// The queue of this id; whether there is one shows with the first call.
    #[must_use]
    pub const fn from_id(id: i32) -> Self {
        Self { id }
    }

    /// Its id.
    #[must_use]
    pub const fn id(self) -> i32 {
        self.id
    }

    fn name(self) -> String {
        format!("queue {}", self.id)
    }

    fn failed(self, call: &'static str, errno: Errno) -> Error {
        failed(call, &self.name(), errno)
    }

    /// Sends a message of type `kind`. With a time limit, it looks for room
    /// every few milliseconds: there is no timed call.
    ///
    /// # Errors
    /// [`Error::BadType`], [`Error::TooLong`], [`Error::WouldBlock`],
    /// [`Error::TimedOut`], [`Error::Removed`], [`Error::Interrupted`].
    ///
    /// Source: [msgsnd(2)](https://man7.org/linux/man-pages/man2/msgop.2.html).
    #[doc(alias = "msgsnd")]
    pub fn send(self, kind: i64, bytes: &[u8], wait: Wait) -> Result<(), Error> {
        if kind < 1 {
            return Err(Error::BadType { kind });
        }
        let mut usual = MaybeUninit::<[u8; HEAD + ROOM_FIRST]>::uninit();
        let mut larger = Vec::<u8>::new();
        let start = if bytes.len() <= ROOM_FIRST {
            usual.as_mut_ptr().cast::<u8>()
        } else {
            larger.reserve_exact(HEAD + bytes.len());
            larger.as_mut_ptr()
        };
        // SAFETY: the buffer is new and has room for a long and the bytes.
        unsafe {
            start.cast::<libc::c_long>().write_unaligned(kind as libc::c_long);
            start.add(HEAD).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        self.repeat(wait, |flags| {
            // SAFETY: the buffer is a long, the type, and `bytes.len()` bytes.
            let result = unsafe { libc::msgsnd(self.id, start.cast(), bytes.len(), flags) };
            sockopt::check(result).map(|_| ()).map_err(|errno| match errno {
                Errno::INVAL if bytes.len() > message_bytes_max() => Error::TooLong {
                    object: self.name(),
                    len: bytes.len(),
                    limit: message_bytes_max(),
                    limit_name: "kernel.msgmax",
                },
                errno => self.failed("msgsnd", errno),
            })
        })
    }

    /// Takes a message: with `kind` 0 the first, above 0 the first of this
    /// type, below 0 the first of the lowest type up to -`kind`.
    ///
    /// # Errors
    /// [`Error::NoMessage`], [`Error::TimedOut`], [`Error::Removed`],
    /// [`Error::Interrupted`].
    ///
    /// Source: [msgrcv(2)](https://man7.org/linux/man-pages/man2/msgop.2.html).
    #[doc(alias = "msgrcv")]
    pub fn receive(self, kind: i64, wait: Wait) -> Result<Message, Error> {
        let mut bytes = Vec::new();
        let kind = self.receive_into(&mut bytes, kind, wait)?;
        Ok(Message { kind, bytes })
    }

    /// As [`Self::receive`], into a vector in place of what is there; returns
    /// the message's type. For who receives many: nothing is allocated.
    ///
    /// # Errors
    /// As [`Self::receive`].
    ///
    /// Source: [msgrcv(2)](https://man7.org/linux/man-pages/man2/msgop.2.html).
    #[doc(alias = "msgrcv")]
    pub fn receive_into(self, bytes: &mut Vec<u8>, kind: i64, wait: Wait) -> Result<i64, Error> {
        let mut room = ROOM_FIRST;
        self.repeat(wait, |flags| {
            loop {
                match self.take(bytes, room, kind, flags) {
                    Err(Errno::TOOBIG) => room *= 2,
                    Ok(kind) => return Ok(kind),
                    Err(Errno::NOMSG) => return Err(Error::NoMessage { object: self.name() }),
                    Err(errno) => return Err(self.failed("msgrcv", errno)),
                }
            }
        })
    }

    /// The message number `index` (0: the oldest), which stays where it is;
    /// none if there are not so many.
    ///
    /// # Errors
    /// [`Error::NoPeek`], [`Error::Missing`], [`Error::NotPermitted`].
    ///
    /// Source: [msgrcv(2)](https://man7.org/linux/man-pages/man2/msgop.2.html), `MSG_COPY` (Linux 3.8).
    #[doc(alias = "MSG_COPY")]
    pub fn peek(self, index: usize) -> Result<Option<Message>, Error> {
        let (mut room, mut bytes) = (ROOM_FIRST, Vec::new());
        loop {
            match self.take(&mut bytes, room, index as i64, MSG_COPY | libc::IPC_NOWAIT) {
                Err(Errno::TOOBIG) => room *= 2,
                Ok(kind) => return Ok(Some(Message { kind, bytes })),
                Err(Errno::NOMSG) => return Ok(None),
                Err(Errno::NOSYS) => return Err(Error::NoPeek { object: self.name() }),
                Err(errno) => return Err(self.failed("msgrcv", errno)),
            }
        }
    }

    fn take(self, into: &mut Vec<u8>, room: usize, kind: i64, flags: i32) -> Result<i64, Errno> {
        let mut usual = MaybeUninit::<[u8; HEAD + ROOM_FIRST]>::uninit();
        let mut larger = Vec::<u8>::new();
        let start = if room <= ROOM_FIRST {
            usual.as_mut_ptr().cast::<u8>()
        } else {
            larger.reserve_exact(HEAD + room);
            larger.as_mut_ptr()
        };
        // SAFETY: the buffer has room for a long and `room` bytes.
        let result =
            unsafe { libc::msgrcv(self.id, start.cast(), room, kind as libc::c_long, flags) };
        let Ok(len) = usize::try_from(result) else { return Err(sockopt::last_errno()) };
        // SAFETY: the kernel has written the long and `len` bytes.
        let (head, bytes) =
            unsafe { core::slice::from_raw_parts(start, HEAD + len) }.split_at(HEAD);
        let kind = libc::c_long::from_ne_bytes(head.try_into().expect("a long"));
        into.clear();
        into.extend_from_slice(bytes);
        #[allow(clippy::useless_conversion)] // a long has 32 bits elsewhere
        Ok(i64::from(kind))
    }

    fn repeat<T>(
        self,
        wait: Wait,
        mut attempt: impl FnMut(i32) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let deadline = match wait {
            Wait::No => return attempt(libc::IPC_NOWAIT),
            Wait::Until(deadline) => deadline,
        };
        if deadline.left().is_none() {
            return attempt(0);
        }
        let mut pause = LOOK_FIRST;
        let mut seen = false;
        loop {
            match attempt(libc::IPC_NOWAIT) {
                Err(Error::WouldBlock { .. } | Error::NoMessage { .. }) => seen = true,
                // It was there at the last look: to who sleeps in the kernel
                // the same is told as "removed".
                Err(Error::Missing { object }) if seen => return Err(Error::Removed { object }),
                other => return other,
            }
            if deadline.passed() {
                return Err(Error::TimedOut { object: self.name() });
            }
            std::thread::sleep(pause.min(deadline.left().unwrap_or(pause)));
            pause = (pause * 2).min(LOOK_LAST);
        }
    }

    fn control(self, command: i32, data: &mut libc::msqid_ds) -> Result<(), Error> {
        // SAFETY: a live msqid_ds, which the command fills, reads or ignores.
        sockopt::check(unsafe { libc::msgctl(self.id, command, data) })
            .map_err(|errno| self.failed("msgctl", errno))?;
        Ok(())
    }

    fn raw_stat(self) -> Result<libc::msqid_ds, Error> {
        // SAFETY: integers only: all-zero is valid.
        let mut data = unsafe { core::mem::zeroed() };
        self.control(libc::IPC_STAT, &mut data)?;
        Ok(data)
    }

    /// Everything that the kernel tells about it.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotPermitted`].
    #[doc(alias = "IPC_STAT")]
    #[doc(alias = "msqid_ds")]
    pub fn stat(self) -> Result<Stat, Error> {
        let raw = self.raw_stat()?;
        Ok(Stat {
            permissions: Permissions::from(&raw.msg_perm),
            send_time: raw.msg_stime,
            receive_time: raw.msg_rtime,
            change_time: raw.msg_ctime,
            bytes: raw.__msg_cbytes,
            messages: raw.msg_qnum,
            bytes_max: raw.msg_qbytes,
            last_sender: raw.msg_lspid,
            last_receiver: raw.msg_lrpid,
        })
    }

    /// Sets its mode.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] for who is neither owner nor creator.
    #[doc(alias = "IPC_SET")]
    pub fn set_mode(self, mode: u32) -> Result<(), Error> {
        let mut data = self.raw_stat()?;
        data.msg_perm.mode = (mode & 0o777) as _;
        self.control(libc::IPC_SET, &mut data)
    }

    /// Sets how many bytes it may hold; beyond `kernel.msgmnb` only with
    /// CAP_SYS_RESOURCE.
    ///
    /// # Errors
    /// [`Error::NotPermitted`].
    #[doc(alias = "IPC_SET")]
    pub fn set_bytes_max(self, bytes: u64) -> Result<(), Error> {
        let mut data = self.raw_stat()?;
        data.msg_qbytes = bytes as _;
        self.control(libc::IPC_SET, &mut data)
    }

    /// Removes it at once, with its messages; who waits on it is told.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotPermitted`].
    #[doc(alias = "IPC_RMID")]
    pub fn remove(self) -> Result<(), Error> {
        // SAFETY: integers only: all-zero is valid.
        let mut data = unsafe { core::mem::zeroed() };
        self.control(libc::IPC_RMID, &mut data)
    }
}

/// All queues of this IPC namespace.
///
/// # Errors
/// If /proc can't be read.
pub fn list() -> Result<Vec<Queue>, Error> {
    Ok(ids("msg")?.into_iter().map(Queue::from_id).collect())
}
