//! What another process's threads wait for: the system call each one sleeps in,
//! as far as its arguments say it.
//!
//! ```
//! use ipc::blocked::{self, Wait};
//! let (reader, writer) = ipc::pipe::pipe()?;
//! let number = std::os::fd::AsRawFd::as_raw_fd(&reader);
//! let waits = std::thread::spawn(move || rustix::io::read(&reader, &mut [0; 1]).unwrap());
//! loop {
//!     let all = blocked::threads(std::process::id() as i32)?;
//!     if all.iter().any(|thread| thread.wait == Wait::Descriptor { call: "read", number }) {
//!         break;
//!     }
//! }
//! drop(writer);
//! assert_eq!(waits.join().unwrap(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `poll` and `select` name their descriptors in memory, so those waits stay
//! unknown; an epoll instance's members are in `/proc/PID/fdinfo`.
use crate::{Errno, SystemError};

/// What a thread sleeps in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// A call on one descriptor (of that process).
    Descriptor {
        /// The call's name.
        call: &'static str,
        /// The descriptor's number.
        number: i32,
    },
    /// An epoll instance with this descriptor.
    Epoll {
        /// The descriptor's number.
        number: i32,
    },
    /// A System V queue.
    Queue {
        /// The call's name.
        call: &'static str,
        /// The queue's id.
        id: i32,
    },
    /// A System V semaphore set.
    Set {
        /// The set's id.
        id: i32,
    },
    /// A futex: a lock or semaphore in memory (shared or not).
    Futex {
        /// Its address in that process.
        address: u64,
    },
}

/// One sleeping thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thread {
    /// Its id.
    pub id: i32,
    /// What it sleeps in.
    pub wait: Wait,
}

/// The threads of a process that sleep in a call that is known here.
///
/// # Errors
/// ENOENT, ESRCH: no such process (any more); EACCES, EPERM: of another user,
/// and CAP_SYS_PTRACE is missing.
///
/// Source: [proc_pid_syscall(5)](https://man7.org/linux/man-pages/man5/proc_pid_syscall.5.html).
#[doc(alias = "ptrace")]
pub fn threads(pid: i32) -> Result<Vec<Thread>, SystemError> {
    let failed = |error: std::io::Error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        SystemError::new("read", format!("/proc/{pid}/task/syscall"), errno)
    };
    let mut found = Vec::new();
    let mut refused = None;
    for entry in std::fs::read_dir(format!("/proc/{pid}/task")).map_err(failed)?.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        match std::fs::read_to_string(entry.path().join("syscall")) {
            Ok(text) => found.extend(wait(&text).map(|wait| Thread { id, wait })),
            // A thread that has ended meanwhile waits for nothing.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if found.is_empty() => Err(failed(error)),
        _ => Ok(found),
    }
}

/// `NUMBER ARGUMENT… SP PC`, or `running`.
fn wait(text: &str) -> Option<Wait> {
    let mut words = text.split_ascii_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    let first = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    let id = first as i32;
    let descriptor = |call| Some(Wait::Descriptor { call, number: id });
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_epoll_wait {
        return Some(Wait::Epoll { number: id });
    }
    match number {
        libc::SYS_read => descriptor("read"),
        libc::SYS_write => descriptor("write"),
        libc::SYS_readv => descriptor("readv"),
        libc::SYS_writev => descriptor("writev"),
        libc::SYS_recvfrom => descriptor("recvfrom"),
        libc::SYS_recvmsg => descriptor("recvmsg"),
        libc::SYS_sendto => descriptor("sendto"),
        libc::SYS_sendmsg => descriptor("sendmsg"),
        libc::SYS_accept => descriptor("accept"),
        libc::SYS_accept4 => descriptor("accept4"),
        libc::SYS_connect => descriptor("connect"),
        libc::SYS_splice => descriptor("splice"),
        libc::SYS_tee => descriptor("tee"),
        libc::SYS_mq_timedsend => descriptor("mq_timedsend"),
        libc::SYS_mq_timedreceive => descriptor("mq_timedreceive"),
        libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 => Some(Wait::Epoll { number: id }),
        libc::SYS_msgsnd => Some(Wait::Queue { call: "msgsnd", id }),
        libc::SYS_msgrcv => Some(Wait::Queue { call: "msgrcv", id }),
        libc::SYS_semop | libc::SYS_semtimedop => Some(Wait::Set { id }),
        libc::SYS_futex => Some(Wait::Futex { address: first }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_sort() {
        let read = libc::SYS_read;
        let line = format!("{read} 0x3 0x7f5fd2ac0000 0x20000 0x0 0x0 0x0 0x7ffc 0x7f5f\n");
        assert_eq!(wait(&line), Some(Wait::Descriptor { call: "read", number: 3 }));
        let set = libc::SYS_semtimedop;
        assert_eq!(wait(&format!("{set} 0x8001 0x0")), Some(Wait::Set { id: 0x8001 }));
        for text in ["", "running\n", "-1 0x7ffc 0x7f5f", "0", "0 3", "9999 0x1"] {
            assert_eq!(wait(text), None, "{text}");
        }
    }
}
