//! POSIX message queues: bounded, with priorities, kept by the kernel under a
//! name until they are removed.
//!
//! ```
//! use ipc::mq::{self, Options, Queue};
//! use ipc::timer::Wait;
//! let name = format!("/ipc-doc-{}", std::process::id());
//! let queue = Queue::create(&name, &Options { maxmsg: Some(4), msgsize: Some(64), ..Options::default() })?;
//! queue.send(b"five", 5, Wait::No)?;
//! queue.send(b"ten", 10, Wait::No)?;
//! let mut buffer = queue.buffer()?;
//! let first = queue.receive(&mut buffer, Wait::No)?;
//! assert_eq!((&buffer[..first.len], first.priority), (&b"ten"[..], 10));
//! assert_eq!(queue.attributes()?.curmsgs, 1);
//! mq::remove(&name)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A queue is a descriptor on Linux: it can stand in an [`crate::epoll`] set
//! (readable: a message is there), and reading it tells its state.
#![allow(unsafe_code)] // mq_* are the C library's alone
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::error::operation_error;
use crate::signal::Signal;
use crate::timer::Wait;
use crate::{Errno, SystemError, name, sockopt};

/// The highest priority (`MQ_PRIO_MAX` - 1).
pub const PRIORITY_MAX: u32 = 32767;

operation_error! {
    /// What can go wrong with a message queue.
    Error {
        /// The name breaks a rule.
        BadName {
            /// The name.
            name: String,
            /// Which rule.
            why: String,
        } => INVAL, "{name}: no name for a queue: {why}";
        /// It exists, and was to be made anew.
        Exists {
            /// The name.
            name: String,
        } => EXIST, "{name}: exists already";
        /// There is no such queue.
        Missing {
            /// The name.
            name: String,
        } => NOENT, "{name}: no such queue";
        /// Its mode forbids it.
        NotPermitted {
            /// The name.
            name: String,
        } => ACCESS, "{name}: permission denied";
        /// It holds as many messages as it can, and the call didn't wait.
        Full {
            /// The name.
            name: String,
            /// How many that is.
            maxmsg: usize,
        } => AGAIN, "{name}: full, it holds {maxmsg} messages";
        /// It holds none, and the call didn't wait.
        Empty {
            /// The name.
            name: String,
        } => AGAIN, "{name}: empty";
        /// The time passed.
        TimedOut {
            /// The name.
            name: String,
        } => TIMEDOUT, "{name}: timed out";
        /// A signal handler ran during the wait.
        Interrupted {
            /// The name.
            name: String,
        } => INTR, "{name}: interrupted by a signal";
        /// The message is longer than the queue's messages may be.
        TooLong {
            /// The name.
            name: String,
            /// The message's length.
            len: usize,
            /// The queue's message size.
            limit: usize,
        } => MSGSIZE, "{name}: a message of {len} bytes; the queue takes at most {limit}";
        /// The buffer is shorter than the queue's longest message.
        BufferTooShort {
            /// The name.
            name: String,
            /// The buffer's length.
            len: usize,
            /// The queue's message size.
            needed: usize,
        } => MSGSIZE, "{name}: a buffer of {len} bytes; the queue's messages may have {needed}";
        /// The priority is too high.
        BadPriority {
            /// The priority.
            priority: u32,
            /// [`PRIORITY_MAX`].
            limit: u32,
        } => INVAL, "priority {priority}: at most {limit}";
        /// The wanted depth or message size is beyond the system's limit.
        TooLarge {
            /// The name.
            name: String,
            /// The file of the limit.
            limit_name: &'static str,
            /// What was asked for.
            wanted: usize,
            /// The limit for a process without CAP_SYS_RESOURCE.
            limit: usize,
        } => INVAL, "{name}: {wanted} is beyond {limit_name}, {limit}";
        /// The system has as many queues as it may have.
        TooManyQueues {
            /// The name.
            name: String,
            /// `/proc/sys/fs/mqueue/queues_max`.
            limit: usize,
        } => NOSPC, "{name}: there are as many queues as /proc/sys/fs/mqueue/queues_max allows, {limit}";
        /// The user's queues would hold more bytes than allowed, or this
        /// process has no descriptor left.
        NoRoom {
            /// The name.
            name: String,
            /// RLIMIT_MSGQUEUE of this process.
            limit: u64,
        } => MFILE, "{name}: your queues may hold {limit} bytes in all (RLIMIT_MSGQUEUE, ulimit -q), or no descriptor is left";
        /// Another process is to be told already.
        Subscribed {
            /// The name.
            name: String,
            /// Which one; 0 if it can't be seen.
            pid: i32,
        } => BUSY, "{name}: process {pid} is to be notified already";
        /// A process's descriptor is something else.
        NotAQueue {
            /// Process and descriptor, `PID:FD`.
            descriptor: String,
        } => INVAL, "{descriptor}: is no message queue";
        /// The queues can't be listed: nothing is mounted, and mounting is not
        /// permitted.
        NotListable {} => PERM, "the queues can't be listed: no mqueue file system is mounted (mount -t mqueue none /dev/mqueue)";
    }
}

/// How a queue is made.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many messages; none: the system's default (10).
    pub maxmsg: Option<usize>,
    /// How long a message may be; none: the system's default (8192).
    pub msgsize: Option<usize>,
    /// Permission bits, exactly, whatever the umask.
    pub mode: u32,
    /// Whether an existing queue is an error.
    pub exclusive: bool,
}

impl Default for Options {
    /// The system's depth and size, for the owner alone, an existing one taken
    /// as it is.
    fn default() -> Self {
        Self { maxmsg: None, msgsize: None, mode: 0o600, exclusive: false }
    }
}

/// What a queue is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Receiving, and being notified.
    Receive,
    /// Sending.
    Send,
    /// Both.
    Both,
}

/// Flags and sizes of a queue, and how many messages it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Whether this descriptor is non-blocking.
    pub nonblocking: bool,
    /// How many messages it can hold.
    pub maxmsg: usize,
    /// How long a message may be.
    pub msgsize: usize,
    /// How many it holds.
    pub curmsgs: usize,
}

/// What reading the queue's file tells: see
/// [mq_overview(7)](https://man7.org/linux/man-pages/man7/mq_overview.7.html).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Bytes in all its messages.
    pub bytes: u64,
    /// How the subscriber is told: 0 signal, 1 not at all, 2 a thread.
    pub notify: i32,
    /// By which signal.
    pub signo: i32,
    /// Who is to be told; 0: nobody.
    pub notify_pid: i32,
}

/// A received message: its bytes are in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// How many bytes.
    pub len: usize,
    /// Its priority; higher ones come first.
    pub priority: u32,
}

/// An open queue.
#[derive(Debug)]
pub struct Queue {
    fd: OwnedFd,
    name: String,
}

fn parse(name: &str) -> Result<CString, Error> {
    name::parse(name, name::BYTES_MAX).map_err(|why| Error::BadName { name: name.to_owned(), why })
}

fn failed(call: &'static str, name: &str, errno: Errno) -> Error {
    let owned = name.to_owned();
    match errno {
        Errno::EXIST => Error::Exists { name: owned },
        Errno::NOENT => Error::Missing { name: owned },
        Errno::ACCESS | Errno::PERM => Error::NotPermitted { name: owned },
        Errno::INTR => Error::Interrupted { name: owned },
        Errno::NOSPC => Error::TooManyQueues { name: owned, limit: limits().queues_max },
        Errno::MFILE => Error::NoRoom { name: owned, limit: limits().bytes_max },
        errno => SystemError::new(call, name, errno).into(),
    }
}

impl Queue {
    /// Makes a queue and opens it for both directions; one that exists is
    /// opened as it is, unless `exclusive`.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Exists`], [`Error::TooLarge`],
    /// [`Error::TooManyQueues`], [`Error::NoRoom`], [`Error::NotPermitted`].
    ///
    /// Source: [mq_open(3)](https://man7.org/linux/man-pages/man3/mq_open.3.html).
    #[doc(alias = "mq_open")]
    pub fn create(name: &str, options: &Options) -> Result<Self, Error> {
        let c_name = parse(name)?;
        let limits = limits();
        // The C library takes both sizes or none.
        let maxmsg = options.maxmsg.unwrap_or(limits.msg_default);
        let msgsize = options.msgsize.unwrap_or(limits.msgsize_default);
        // SAFETY: all-zero is a valid mq_attr (integers only).
        let mut attr: libc::mq_attr = unsafe { core::mem::zeroed() };
        attr.mq_maxmsg = maxmsg as _;
        attr.mq_msgsize = msgsize as _;
        let given = options.maxmsg.is_some() || options.msgsize.is_some();
        let attr_pointer = if given { &raw const attr } else { core::ptr::null() };
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC;
        let mode: libc::mode_t = options.mode & 0o777;
        loop {
            // SAFETY: a C string, integers, and null or a live mq_attr.
            let result =
                unsafe { libc::mq_open(c_name.as_ptr(), flags | libc::O_EXCL, mode, attr_pointer) };
            match sockopt::check(result) {
                Ok(raw) => {
                    // SAFETY: the call has just made this descriptor for us.
                    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
                    let queue = Self { fd, name: name.to_owned() };
                    // The umask has taken bits away: put them back.
                    if let Err(errno) = rustix::fs::fchmod(&queue.fd, Mode::from_raw_mode(mode)) {
                        let _ = remove(name);
                        return Err(failed("fchmod", name, errno));
                    }
                    return Ok(queue);
                }
                Err(Errno::EXIST) if !options.exclusive => {
                    match Self::open(name, Access::Both) {
                        Err(Error::Missing { .. }) => {} // removed in between
                        other => return other,
                    }
                }
                Err(Errno::INVAL) => {
                    let over = |limit_name, wanted, limit| Error::TooLarge {
                        name: name.to_owned(),
                        limit_name,
                        wanted,
                        limit,
                    };
                    if maxmsg > limits.msg_max {
                        let path = "/proc/sys/fs/mqueue/msg_max";
                        return Err(over(path, maxmsg, limits.msg_max));
                    }
                    if msgsize > limits.msgsize_max {
                        let path = "/proc/sys/fs/mqueue/msgsize_max";
                        return Err(over(path, msgsize, limits.msgsize_max));
                    }
                    return Err(failed("mq_open", name, Errno::INVAL));
                }
                Err(errno) => return Err(failed("mq_open", name, errno)),
            }
        }
    }

    /// Opens an existing queue.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Missing`], [`Error::NotPermitted`].
    ///
    /// Source: [mq_open(3)](https://man7.org/linux/man-pages/man3/mq_open.3.html).
    #[doc(alias = "mq_open")]
    pub fn open(name: &str, access: Access) -> Result<Self, Error> {
        let c_name = parse(name)?;
        let flags = match access {
            Access::Receive => libc::O_RDONLY,
            Access::Send => libc::O_WRONLY,
            Access::Both => libc::O_RDWR,
        };
        // SAFETY: a C string and an integer.
        let result = unsafe { libc::mq_open(c_name.as_ptr(), flags | libc::O_CLOEXEC) };
        let raw = sockopt::check(result).map_err(|errno| failed("mq_open", name, errno))?;
        // SAFETY: the call has just made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Self { fd, name: name.to_owned() })
    }

    /// The queue behind a descriptor of a process (its number there), opened
    /// anew through /proc for receiving: also one whose name has gone, or of
    /// another IPC namespace.
    ///
    /// # Errors
    /// [`Error::NotAQueue`]; [`Error::Missing`], [`Error::NotPermitted`] for
    /// process and descriptor.
    ///
    /// Source: [proc_pid_fd(5)](https://man7.org/linux/man-pages/man5/proc_pid_fd.5.html).
    pub fn of_process(pid: u32, fd: u32) -> Result<Self, Error> {
        /// The mqueue file system's magic number.
        const MAGIC: u32 = 0x1980_0202;
        let (path, shown) = (format!("/proc/{pid}/fd/{fd}"), format!("{pid}:{fd}"));
        // A queue's link reads as its name; another file's as its path. It is
        // looked at before it is opened: opening may do something.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|errno| failed("open", &shown, errno))?;
        let system =
            rustix::fs::fstatfs(&file).map_err(|errno| failed("fstatfs", &shown, errno))?;
        let metadata = rustix::fs::fstat(&file).map_err(|errno| failed("fstat", &shown, errno))?;
        if system.f_type as u32 != MAGIC || !FileType::from_raw_mode(metadata.st_mode).is_file() {
            return Err(Error::NotAQueue { descriptor: shown });
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let queue = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|errno| failed("open", &shown, errno))?;
        let target = std::fs::read_link(&path).unwrap_or_default().display().to_string();
        let name = if target.starts_with('/') { target } else { format!("/{target}") };
        Ok(Self { fd: queue, name })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its flags, sizes and number of messages.
    ///
    /// # Errors
    /// None in practice.
    ///
    /// Source: [mq_getattr(3)](https://man7.org/linux/man-pages/man3/mq_getattr.3.html).
    #[doc(alias = "mq_getattr")]
    pub fn attributes(&self) -> Result<Attributes, Error> {
        // SAFETY: all-zero is a valid mq_attr.
        let mut attr: libc::mq_attr = unsafe { core::mem::zeroed() };
        // SAFETY: a live mq_attr to be filled.
        sockopt::check(unsafe { libc::mq_getattr(self.fd.as_raw_fd(), &mut attr) })
            .map_err(|errno| failed("mq_getattr", &self.name, errno))?;
        Ok(Attributes {
            nonblocking: attr.mq_flags & libc::c_long::from(libc::O_NONBLOCK) != 0,
            maxmsg: attr.mq_maxmsg as usize,
            msgsize: attr.mq_msgsize as usize,
            curmsgs: attr.mq_curmsgs as usize,
        })
    }

    /// Bytes queued and the subscriber, as the queue's file tells them. Works
    /// without a mounted mqueue file system; needs [`Access::Receive`].
    ///
    /// # Errors
    /// EBADF if it is open for sending only.
    ///
    /// Source: [mq_overview(7)](https://man7.org/linux/man-pages/man7/mq_overview.7.html).
    #[doc(alias = "NOTIFY_PID")]
    #[doc(alias = "QSIZE")]
    pub fn status(&self) -> Result<Status, Error> {
        let mut text = [0; 256];
        let len = rustix::io::pread(&self.fd, &mut text, 0)
            .map_err(|errno| failed("read", &self.name, errno))?;
        let text = String::from_utf8_lossy(&text[..len]);
        let field = |name: &str| {
            let (_, rest) = text.split_once(name)?;
            rest.split_ascii_whitespace().next()?.parse::<i64>().ok()
        };
        Ok(Status {
            bytes: field("QSIZE:").unwrap_or(0) as u64,
            notify: field("NOTIFY:").unwrap_or(0) as i32,
            signo: field("SIGNO:").unwrap_or(0) as i32,
            notify_pid: field("NOTIFY_PID:").unwrap_or(0) as i32,
        })
    }

    /// Mode, owner and times, as a file's.
    ///
    /// # Errors
    /// None in practice.
    #[doc(alias = "fstat")]
    pub fn metadata(&self) -> Result<rustix::fs::Stat, Error> {
        rustix::fs::fstat(&self.fd).map_err(|errno| failed("fstat", &self.name, errno))
    }

    /// A buffer that holds the queue's longest message.
    ///
    /// # Errors
    /// Those of [`Self::attributes`].
    pub fn buffer(&self) -> Result<Vec<u8>, Error> {
        Ok(vec![0; self.attributes()?.msgsize])
    }

    /// Sends one message. It stands behind those of its priority.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::TimedOut`], [`Error::Interrupted`],
    /// [`Error::TooLong`], [`Error::BadPriority`].
    ///
    /// Source: [mq_timedsend(3)](https://man7.org/linux/man-pages/man3/mq_send.3.html).
    #[doc(alias = "mq_send")]
    #[doc(alias = "mq_timedsend")]
    pub fn send(&self, message: &[u8], priority: u32, wait: Wait) -> Result<(), Error> {
        if priority > PRIORITY_MAX {
            return Err(Error::BadPriority { priority, limit: PRIORITY_MAX });
        }
        let until = wait.absolute();
        let until = until.as_ref().map_or(core::ptr::null(), |t| &raw const *t);
        // SAFETY: pointer and length describe `message`; the time is null or
        // lives as long as the call.
        let result = sockopt::check(unsafe {
            libc::mq_timedsend(
                self.fd.as_raw_fd(),
                message.as_ptr().cast(),
                message.len(),
                priority,
                until,
            )
        });
        match result {
            Ok(_) => Ok(()),
            Err(errno) => Err(match (errno, wait) {
                (Errno::AGAIN, _) | (Errno::TIMEDOUT, Wait::No) => {
                    let maxmsg = self.attributes()?.maxmsg;
                    Error::Full { name: self.name.clone(), maxmsg }
                }
                (Errno::TIMEDOUT, _) => Error::TimedOut { name: self.name.clone() },
                (Errno::MSGSIZE, _) => {
                    let limit = self.attributes()?.msgsize;
                    Error::TooLong { name: self.name.clone(), len: message.len(), limit }
                }
                (errno, _) => failed("mq_timedsend", &self.name, errno),
            }),
        }
    }

    /// Receives the oldest message of the highest priority.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::TimedOut`], [`Error::Interrupted`],
    /// [`Error::BufferTooShort`].
    ///
    /// Source: [mq_timedreceive(3)](https://man7.org/linux/man-pages/man3/mq_receive.3.html).
    #[doc(alias = "mq_receive")]
    #[doc(alias = "mq_timedreceive")]
    pub fn receive(&self, buffer: &mut [u8], wait: Wait) -> Result<Message, Error> {
        let until = wait.absolute();
        let until = until.as_ref().map_or(core::ptr::null(), |t| &raw const *t);
        let mut priority = 0;
        // SAFETY: pointer and length describe `buffer`; the others live as long
        // as the call.
        let result = unsafe {
            libc::mq_timedreceive(
                self.fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &mut priority,
                until,
            )
        };
        match usize::try_from(result) {
            Ok(len) => Ok(Message { len, priority }),
            Err(_) => Err(match (sockopt::last_errno(), wait) {
                (Errno::AGAIN, _) | (Errno::TIMEDOUT, Wait::No) => {
                    Error::Empty { name: self.name.clone() }
                }
                (Errno::TIMEDOUT, _) => Error::TimedOut { name: self.name.clone() },
                (Errno::MSGSIZE, _) => {
                    let needed = self.attributes()?.msgsize;
                    let (name, len) = (self.name.clone(), buffer.len());
                    Error::BufferTooShort { name, len, needed }
                }
                (errno, _) => failed("mq_timedreceive", &self.name, errno),
            }),
        }
    }

    /// Asks to be told by `signal` (with `value`) when the next message comes
    /// into the *empty* queue while nobody waits to receive it. Once: then the
    /// subscription is over. One subscriber per queue.
    ///
    /// # Errors
    /// [`Error::Subscribed`].
    ///
    /// Source: [mq_notify(3)](https://man7.org/linux/man-pages/man3/mq_notify.3.html).
    #[doc(alias = "mq_notify")]
    pub fn notify(&self, signal: Signal, value: usize) -> Result<(), Error> {
        // SAFETY: all-zero is a valid sigevent.
        let mut event: libc::sigevent = unsafe { core::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = signal.number();
        event.sigev_value = libc::sigval { sival_ptr: core::ptr::without_provenance_mut(value) };
        // SAFETY: a live sigevent that is only read; SIGEV_SIGNAL calls nothing
        // of ours.
        sockopt::check(unsafe { libc::mq_notify(self.fd.as_raw_fd(), &event) }).map_err(
            |errno| match errno {
                Errno::BUSY => {
                    let pid = self.status().map_or(0, |s| s.notify_pid);
                    Error::Subscribed { name: self.name.clone(), pid }
                }
                errno => failed("mq_notify", &self.name, errno),
            },
        )?;
        Ok(())
    }

    /// Ends this process's subscription, if it has one.
    ///
    /// # Errors
    /// None in practice.
    #[doc(alias = "mq_notify")]
    pub fn cancel_notification(&self) -> Result<(), Error> {
        // SAFETY: null means "no longer".
        sockopt::check(unsafe { libc::mq_notify(self.fd.as_raw_fd(), core::ptr::null()) })
            .map_err(|errno| failed("mq_notify", &self.name, errno))?;
        Ok(())
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Removes the name; the queue itself goes with its last descriptor.
///
/// # Errors
/// [`Error::BadName`], [`Error::Missing`], [`Error::NotPermitted`].
///
/// Source: [mq_unlink(3)](https://man7.org/linux/man-pages/man3/mq_unlink.3.html).
#[doc(alias = "mq_unlink")]
pub fn remove(name: &str) -> Result<(), Error> {
    let c_name = parse(name)?;
    // SAFETY: a C string.
    sockopt::check(unsafe { libc::mq_unlink(c_name.as_ptr()) })
        .map_err(|errno| failed("mq_unlink", name, errno))?;
    Ok(())
}

/// The system's limits for queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most messages in a queue, without CAP_SYS_RESOURCE.
    pub msg_max: usize,
    /// Longest message, without CAP_SYS_RESOURCE.
    pub msgsize_max: usize,
    /// Most queues in this IPC namespace.
    pub queues_max: usize,
    /// Depth of a queue made without sizes.
    pub msg_default: usize,
    /// Message size of a queue made without sizes.
    pub msgsize_default: usize,
    /// Most bytes in all queues of this user (`RLIMIT_MSGQUEUE`); `u64::MAX`:
    /// unlimited.
    pub bytes_max: u64,
}

/// Reads the limits (the kernel's defaults where /proc is missing).
///
/// Source: [mq_overview(7)](https://man7.org/linux/man-pages/man7/mq_overview.7.html).
#[doc(alias = "RLIMIT_MSGQUEUE")]
#[must_use]
pub fn limits() -> Limits {
    let read = |name: &str, default| {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/mqueue/{name}"));
        text.ok().and_then(|t| t.trim().parse().ok()).unwrap_or(default)
    };
    let bytes = rustix::process::getrlimit(rustix::process::Resource::Msgqueue).current;
    Limits {
        msg_max: read("msg_max", 10),
        msgsize_max: read("msgsize_max", 8192),
        queues_max: read("queues_max", 256),
        msg_default: read("msg_default", 10),
        msgsize_default: read("msgsize_default", 8192),
        bytes_max: bytes.unwrap_or(u64::MAX),
    }
}

/// What a queue counts against `RLIMIT_MSGQUEUE`: its messages, and the
/// kernel's two structures (48 bytes each on 64-bit systems) for each of them.
///
/// Source: [getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html).
#[must_use]
pub fn charge(maxmsg: usize, msgsize: usize) -> u64 {
    const STRUCTURE: u64 = 48;
    let priorities = maxmsg.min(PRIORITY_MAX as usize + 1);
    maxmsg as u64 * (msgsize as u64 + STRUCTURE) + priorities as u64 * STRUCTURE
}

/// One queue of a listing.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its name, with the slash.
    pub name: String,
    /// Its file: mode, owner, times, inode.
    pub metadata: rustix::fs::Stat,
}

/// All queues of this IPC namespace, by name: from a mounted mqueue file
/// system, or, where none is mounted and the caller may mount, from one that is
/// mounted nowhere, for this call alone.
///
/// # Errors
/// [`Error::NotListable`].
///
/// Source: [mq_overview(7)](https://man7.org/linux/man-pages/man7/mq_overview.7.html),
/// [fsopen(2)](https://man7.org/linux/man-pages/man2/fsopen.2.html).
pub fn list() -> Result<Vec<Listed>, Error> {
    let directory = match mount_point() {
        Some(path) => std::fs::File::open(path).map(OwnedFd::from).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            SystemError::new("open", "mqueue file system", errno)
        })?,
        None => mount_detached().map_err(|_| Error::NotListable {})?,
    };
    let failed = |call| move |errno| SystemError::new(call, "mqueue file system", errno);
    let mut queues = Vec::new();
    for entry in rustix::fs::Dir::read_from(&directory).map_err(failed("getdents"))? {
        let entry = entry.map_err(failed("getdents"))?;
        let file = entry.file_name();
        if matches!(file.to_bytes(), b"." | b"..") {
            continue;
        }
        // One that is removed meanwhile is left out.
        let Ok(metadata) = rustix::fs::statat(&directory, file, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        queues.push(Listed { name: format!("/{}", file.to_string_lossy()), metadata });
    }
    queues.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(queues)
}

/// Where an mqueue file system is mounted, if it is.
#[must_use]
pub fn mount_point() -> Option<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    text.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let path = before.split(' ').nth(4)?;
        (after.split(' ').next()? == "mqueue").then(|| PathBuf::from(path.replace("\\040", " ")))
    })
}

fn mount_detached() -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen("mqueue", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .and_then(|mount| {
            // A mount's own descriptor is opened as a path; reopen to read.
            rustix::fs::openat(
                &mount,
                ".",
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
        })
}
