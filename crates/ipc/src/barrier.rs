//! An asymmetric fence between processes: free for who goes past it often,
//! a system call for who goes past it seldom.
//!
//! ```
//! use ipc::barrier;
//! // Who goes past the light side registers its process, once:
//! if barrier::available() {
//!     barrier::register()?;
//!     barrier::light(); // store, light, load: here …
//!     barrier::heavy()?; // … and store, heavy, load: there
//! }
//! # Ok::<(), ipc::SystemError>(())
//! ```
//!
//! Two processes that each store to one word of shared memory and then load the
//! other's need a full fence in between, or both may see the past. With these
//! two, the frequent side only keeps the *compiler* from swapping the two. The
//! seldom side has the kernel interrupt each processor that runs a registered
//! process, which is a full fence there, at some place between its
//! instructions: before its store (then its load comes later than our store,
//! and sees it), or behind it (then our load sees its store). A process that
//! doesn't run at that moment went past a full fence when it was switched out.
//! So a light and a heavy fence order each other as two full fences do; two
//! light ones order nothing.
use core::sync::atomic::{Ordering, compiler_fence};

use rustix::thread::{MembarrierCommand, membarrier, membarrier_query};

use crate::SystemError;

fn command(what: MembarrierCommand, name: &'static str) -> Result<(), SystemError> {
    membarrier(what).map_err(|errno| SystemError::new(name, "this process", errno))
}

/// Whether the kernel has both halves (Linux 4.16, and no filter forbids it).
#[doc(alias = "MEMBARRIER_CMD_QUERY")]
#[must_use]
pub fn available() -> bool {
    let commands = membarrier_query();
    commands.contains_command(MembarrierCommand::GlobalExpedited)
        && commands.contains_command(MembarrierCommand::RegisterGlobalExpedited)
}

/// Makes [`light`] count in this process, in all of its threads and in what it
/// forks; lost with exec. May be called again.
///
/// # Errors
/// ENOSYS, EINVAL: see [`available`]; EPERM: a filter forbids it.
#[doc(alias = "MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED")]
pub fn register() -> Result<(), SystemError> {
    command(MembarrierCommand::RegisterGlobalExpedited, "membarrier(REGISTER_GLOBAL_EXPEDITED)")
}

/// The frequent side. Counts only in a process that is registered.
#[inline]
pub fn light() {
    compiler_fence(Ordering::SeqCst);
}

/// The seldom side: some microseconds.
/// [membarrier(2)](https://man7.org/linux/man-pages/man2/membarrier.2.html)
///
/// # Errors
/// As [`register`].
#[doc(alias = "membarrier")]
#[doc(alias = "MEMBARRIER_CMD_GLOBAL_EXPEDITED")]
pub fn heavy() -> Result<(), SystemError> {
    // The kernel sends interrupts to other processors only; our own order is
    // kept by the full fences at its entry and end.
    command(MembarrierCommand::GlobalExpedited, "membarrier(GLOBAL_EXPEDITED)")
}
