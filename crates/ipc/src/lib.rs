//! Linux inter-process communication, safe to use.
//!
//! One module per mechanism. Each opens with an example; each wrapper carries
//! the C name as a documentation alias and links its man page. The crate adds
//! only what [`rustix`] lacks or makes easy to misuse: where rustix has a safe
//! call that is hard to get wrong (`read`, `write`, `send`, `poll`,
//! `setsockopt` of a plain option), use that on the descriptors handed out
//! here. It knows nothing of routes.
//!
//! The two types to know first are [`SystemError`], which every operation's
//! error enum ends in (what was called, on which object, with which errno),
//! and [`map::Map`], the one door to memory that other processes write.
//!
//! Rules that hold everywhere: no `unsafe` for the user; every descriptor is
//! an `OwnedFd` or `BorrowedFd` and close-on-exec; an error path leaves neither
//! a descriptor nor a named object behind.
#![deny(unsafe_op_in_unsafe_fn)]

mod error;
mod name;
mod sockopt;

pub mod armed;
pub mod barrier;
pub mod blocked;
pub mod catcher;
pub mod cgroup;
pub mod child;
pub mod descriptors;
pub mod diag;
pub mod epoll;
pub mod event;
pub mod fifo;
pub mod futex;
pub mod heap;
pub mod lease;
pub mod lock;
pub mod map;
pub mod memfd;
pub mod mq;
pub mod mutex;
pub mod netlink;
pub mod peer;
pub mod pidfd;
pub mod pipe;
pub mod process;
pub mod ring;
pub mod sem;
pub mod sends;
pub mod shm;
pub mod signal;
pub mod signal_state;
pub mod socket;
pub mod sysv;
pub mod tcp;
pub mod timer;
pub mod unix;

pub use error::{Errno, Error, SystemError, errno_text};
pub use rustix::process::Pid;
