//! A mutex in shared memory that survives the death of its owner.
//!
//! ```
//! use ipc::{map::MapMut, mutex::RobustMutex, timer::Wait};
//! let fd = ipc::memfd::create_full("segment", 4096)?;
//! let segment = MapMut::of(&fd, 4096)?;
//! let mutex = RobustMutex::init(&segment, 0)?;
//! let sum = mutex.with(Wait::FOREVER, |held| {
//!     assert!(!held.owner_died());
//!     1 + 1
//! })?;
//! assert_eq!(sum, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It is the C library's (`PTHREAD_PROCESS_SHARED`, `PTHREAD_MUTEX_ROBUST`), so
//! that programs in C take part. When an owner dies, the next one is told, and
//! what the mutex protects may be half changed: it repairs that and says so, or
//! the mutex is unusable from then on.
//!
//! The lock is taken for the time of a closure, never as a guard that could be
//! kept beyond the map: the C library links held robust mutexes in a list that
//! runs through the mutex itself. For the same reason who may write the segment
//! must be as trusted as this process: give its file no wider mode.
#![allow(unsafe_code)] // pthread_mutex_* are the C library's alone
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::error::operation_error;
use crate::map::MapMut;
use crate::timer::Wait;
use crate::{Errno, SystemError};

/// Bytes of a mutex in shared memory; it is aligned to 8.
pub const BYTES: usize = size_of::<libc::pthread_mutex_t>();
const _: () = assert!(align_of::<libc::pthread_mutex_t>() <= 8 && BYTES % 8 == 0);

operation_error! {
    /// Why the mutex was not taken.
    Error {
        /// Somebody holds it, and the call didn't wait.
        Held {} => BUSY, "mutex: held by somebody else";
        /// The time passed.
        TimedOut {} => TIMEDOUT, "mutex: timed out";
        /// This thread holds it already.
        Recursive {} => DEADLK, "mutex: held by this thread already";
        /// An owner died and the next one didn't repair what it protects.
        NotRecoverable {} => NOTRECOVERABLE, "mutex: its owner died and nobody repaired what it protects";
    }
}

fn failed(call: &'static str) -> impl Fn(i32) -> Error {
    move |errno| match errno {
        libc::EBUSY => Error::Held {},
        libc::ETIMEDOUT => Error::TimedOut {},
        libc::EDEADLK => Error::Recursive {},
        libc::ENOTRECOVERABLE => Error::NotRecoverable {},
        errno => SystemError::new(call, "mutex", Errno::from_raw_os_error(errno)).into(),
    }
}

fn check(call: &'static str, result: i32) -> Result<(), Error> {
    if result == 0 { Ok(()) } else { Err(failed(call)(result)) }
}

/// A robust, process-shared mutex in a map.
#[derive(Debug)]
pub struct RobustMutex<'map> {
    mutex: NonNull<libc::pthread_mutex_t>,
    _map: PhantomData<&'map MapMut>,
}

// SAFETY: the functions of a mutex may be called from any thread; taking and
// giving back happen in one call of `with`, so on one thread.
unsafe impl Send for RobustMutex<'_> {}
// SAFETY: as above, also at the same time.
unsafe impl Sync for RobustMutex<'_> {}

/// What [`RobustMutex::look`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody holds it.
    Free,
    /// This thread does.
    Held {
        /// Its id.
        thread: u32,
    },
    /// Its owner died, and nobody has taken it since.
    OwnerDied,
    /// Its owner died, and the next one didn't repair what it protects.
    NotRecoverable,
}

/// What the closure of [`RobustMutex::with`] sees.
#[derive(Debug)]
pub struct Held<'a> {
    mutex: NonNull<libc::pthread_mutex_t>,
    owner_died: bool,
    repaired: bool,
    _mutex: PhantomData<&'a mut ()>,
}

impl Held<'_> {
    /// Whether the owner before died while it held the mutex, and nobody has
    /// said since that all is well.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.owner_died && !self.repaired
    }

    /// Says that what the mutex protects is whole again.
    ///
    /// Source: [pthread_mutex_consistent(3)](https://man7.org/linux/man-pages/man3/pthread_mutex_consistent.3.html).
    #[doc(alias = "pthread_mutex_consistent")]
    pub fn repaired(&mut self) {
        if self.owner_died() {
            // SAFETY: this thread holds the mutex, in the state that the call
            // is for; it can't fail then.
            let result = unsafe { libc::pthread_mutex_consistent(self.mutex.as_ptr()) };
            debug_assert_eq!(result, 0);
            self.repaired = true;
        }
    }
}

/// Gives the mutex back also when the closure panics.
struct GiveBack(NonNull<libc::pthread_mutex_t>);

impl Drop for GiveBack {
    fn drop(&mut self) {
        // SAFETY: this thread took it; nobody else gives it back.
        let result = unsafe { libc::pthread_mutex_unlock(self.0.as_ptr()) };
        debug_assert_eq!(result, 0);
    }
}

fn place(map: &MapMut, offset: usize) -> NonNull<libc::pthread_mutex_t> {
    // The first and the last word are in range and aligned, or this panics.
    let _ = map.load_u64(offset, Ordering::Relaxed);
    let _ = map.load_u64(offset + BYTES - 8, Ordering::Relaxed);
    // SAFETY: in range, checked above.
    let start = unsafe { map.as_mut_ptr().add(offset) };
    NonNull::new(start).expect("a map doesn't begin at 0").cast()
}

impl<'map> RobustMutex<'map> {
    /// Makes one at `offset` (a multiple of 8, [`BYTES`] bytes; panics if that
    /// is not in the map). Nobody may use it yet.
    ///
    /// # Errors
    /// None in practice.
    ///
    /// Source: [pthread_mutexattr_setrobust(3)](https://man7.org/linux/man-pages/man3/pthread_mutexattr_setrobust.3.html).
    #[doc(alias = "pthread_mutex_init")]
    #[doc(alias = "pthread_mutexattr_setrobust")]
    #[doc(alias = "pthread_mutexattr_setpshared")]
    pub fn init(map: &'map MapMut, offset: usize) -> Result<Self, Error> {
        let mutex = place(map, offset);
        let mut attr = MaybeUninit::uninit();
        // SAFETY: each call gets what it is for: attributes to initialise, the
        // initialised ones, and enough writable, aligned bytes that stay mapped
        // for `'map`.
        unsafe {
            check("pthread_mutexattr_init", libc::pthread_mutexattr_init(attr.as_mut_ptr()))?;
            let set = || {
                let attr = attr.as_mut_ptr();
                check(
                    "pthread_mutexattr_setpshared",
                    libc::pthread_mutexattr_setpshared(attr, libc::PTHREAD_PROCESS_SHARED),
                )?;
                check(
                    "pthread_mutexattr_setrobust",
                    libc::pthread_mutexattr_setrobust(attr, libc::PTHREAD_MUTEX_ROBUST),
                )?;
                // Taken twice by one thread: an error instead of a wait for ever.
                check(
                    "pthread_mutexattr_settype",
                    libc::pthread_mutexattr_settype(attr, libc::PTHREAD_MUTEX_ERRORCHECK),
                )?;
                check("pthread_mutex_init", libc::pthread_mutex_init(mutex.as_ptr(), attr))
            };
            let mut set = set;
            let result = set();
            libc::pthread_mutexattr_destroy(attr.as_mut_ptr());
            result?;
        }
        Ok(Self { mutex, _map: PhantomData })
    }

    /// The one that somebody has made at `offset`.
    #[must_use]
    pub fn at(map: &'map MapMut, offset: usize) -> Self {
        Self { mutex: place(map, offset), _map: PhantomData }
    }

    /// Looks at the mutex without touching it (glibc's and the kernel's words:
    /// the futex with the owner's thread id and the mark of a dead owner, and
    /// the owner field, which an unrecoverable mutex has at its highest).
    ///
    /// Source: [get_robust_list(2)](https://man7.org/linux/man-pages/man2/get_robust_list.2.html);
    /// kernel `FUTEX_OWNER_DIED`.
    #[doc(alias = "FUTEX_OWNER_DIED")]
    #[must_use]
    pub fn look(&self) -> State {
        const OWNER_DIED: u32 = 0x4000_0000;
        const THREAD: u32 = 0x3fff_ffff;
        let word = |n: usize| {
            // SAFETY: inside the mutex, aligned, and only read atomically.
            unsafe { AtomicU32::from_ptr(self.mutex.as_ptr().cast::<u32>().add(n)) }
                .load(Ordering::Relaxed)
        };
        match (word(0), word(2)) {
            (_, owner) if owner == i32::MAX as u32 - 1 => State::NotRecoverable,
            (futex, _) if futex & OWNER_DIED != 0 => State::OwnerDied,
            (futex, _) if futex & THREAD != 0 => State::Held { thread: futex & THREAD },
            _ => State::Free,
        }
    }

    /// Takes the mutex, runs `work`, and gives it back. If `work` is told that
    /// the owner before died and doesn't say [`Held::repaired`], the mutex is
    /// unusable afterwards.
    ///
    /// # Errors
    /// [`Error::Held`], [`Error::TimedOut`], [`Error::Recursive`],
    /// [`Error::NotRecoverable`]; then `work` has not run.
    ///
    /// Source: [pthread_mutex_lock(3)](https://man7.org/linux/man-pages/man3/pthread_mutex_lock.3p.html).
    #[doc(alias = "pthread_mutex_lock")]
    #[doc(alias = "pthread_mutex_timedlock")]
    pub fn with<R>(&self, wait: Wait, work: impl FnOnce(&mut Held<'_>) -> R) -> Result<R, Error> {
        let mutex = self.mutex.as_ptr();
        // SAFETY: a mapped mutex that somebody has initialised; the time lives as
        // long as the call.
        let (call, result) = unsafe {
            match (wait, wait.absolute()) {
                (Wait::No, _) => ("pthread_mutex_trylock", libc::pthread_mutex_trylock(mutex)),
                (_, None) => ("pthread_mutex_lock", libc::pthread_mutex_lock(mutex)),
                (_, Some(until)) => {
                    ("pthread_mutex_timedlock", libc::pthread_mutex_timedlock(mutex, &until))
                }
            }
        };
        let owner_died = result == libc::EOWNERDEAD;
        if !owner_died {
            check(call, result)?;
        }
        let _give_back = GiveBack(self.mutex);
        let mut held = Held { mutex: self.mutex, owner_died, repaired: false, _mutex: PhantomData };
        Ok(work(&mut held))
    }
}
