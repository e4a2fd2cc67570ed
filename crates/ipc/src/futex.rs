//! Sleeping until a word in shared memory changes.
//!
//! ```
//! use core::{sync::atomic::Ordering, time::Duration};
//! use ipc::{futex::{self, Woken}, map::{Map, MapMut}};
//! let fd = ipc::memfd::create_full("flag", 4096)?;
//! let (writer, reader) = (MapMut::of(&fd, 4096)?, Map::of(&fd, 4096)?);
//! // The word is not 1: no sleep. It is 0 and nobody wakes us: the time passes.
//! assert_eq!(futex::wait(&reader, 0, 1, None)?, Woken::Differs);
//! assert_eq!(futex::wait(&reader, 0, 0, Some(Duration::from_millis(1)))?, Woken::TimedOut);
//! std::thread::scope(|scope| {
//!     scope.spawn(|| {
//!         while reader.load_u32(0, Ordering::Acquire) == 0 {
//!             futex::wait(&reader, 0, 0, None).expect("a valid word");
//!         }
//!     });
//!     writer.store_u32(0, 1, Ordering::Release);
//!     futex::wake(&writer, 0, u32::MAX).expect("a valid word");
//! });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Both calls work on a read-only map, so a reader that may not write can
//! sleep (and can wake others, who must look again anyway).
use core::time::Duration;

use rustix::thread::futex::{self, Flags};

use crate::map::Map;
use crate::{Errno, SystemError, timer};

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// Somebody woke us, or nobody did: look at the word.
    Woken,
    /// The word was not the expected one, so there was no sleep.
    Differs,
    /// The time has passed.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

fn outcome(result: Result<(), Errno>) -> Result<Woken, SystemError> {
    match result {
        Ok(()) => Ok(Woken::Woken),
        Err(Errno::AGAIN) => Ok(Woken::Differs),
        Err(Errno::TIMEDOUT) => Ok(Woken::TimedOut),
        Err(Errno::INTR) => Ok(Woken::Interrupted),
        Err(errno) => Err(SystemError::new("futex(FUTEX_WAIT)", "shared word", errno)),
    }
}

/// Sleeps while the word at `offset` (a multiple of 4) is `expected`, at most
/// `timeout` long. The kernel compares and falls asleep in one step, so no
/// change between the caller's look and this call is missed.
///
/// # Errors
/// EFAULT if the file under the map was shortened.
///
/// Source: [futex(2)](https://man7.org/linux/man-pages/man2/futex.2.html).
#[doc(alias = "FUTEX_WAIT")]
pub fn wait(
    map: &Map,
    offset: usize,
    expected: u32,
    timeout: Option<Duration>,
) -> Result<Woken, SystemError> {
    let timeout = timeout.map(timer::timespec);
    outcome(futex::wait(map.word32(offset), Flags::empty(), expected, timeout.as_ref()))
}

/// Wakes at most `count` of those who sleep on the word at `offset`, in any
/// process; returns how many it were.
///
/// # Errors
/// EFAULT if the file under the map was shortened.
///
/// Source: [futex(2)](https://man7.org/linux/man-pages/man2/futex.2.html).
#[doc(alias = "FUTEX_WAKE")]
pub fn wake(map: &Map, offset: usize, count: u32) -> Result<usize, SystemError> {
    // The kernel takes the count as an int.
    let count = count.min(i32::MAX as u32);
    futex::wake(map.word32(offset), Flags::empty(), count)
        .map_err(|errno| SystemError::new("futex(FUTEX_WAKE)", "shared word", errno))
}
