//! What a process knows and sets about itself.
//!
//! ```
//! let ids = ipc::process::ids();
//! assert_eq!(ids.user_effective, rustix::process::geteuid().as_raw());
//! let limit = ipc::process::raise_open_files()?;
//! assert!(limit.now >= limit.before);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//! (`PR_SET_DUMPABLE` is `rustix::process::set_dumpable_behavior`.)
#![allow(unsafe_code)] // getresuid and getresgid store through pointers; rustix has neither
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit};

use crate::SystemError;
use crate::error::operation_error;

operation_error! {
    /// Why a limit was not raised.
    Error {
        /// The hard limit is lower than what is wanted.
        HardLimit {
            /// What was wanted.
            wanted: u64,
            /// The hard limit.
            limit: u64,
        } => PERM, "{wanted} open files: the hard limit is {limit} (ulimit -Hn, LimitNOFILE=)";
    }
}

/// The user and group ids of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// Real user.
    pub user_real: u32,
    /// Effective user: who it acts as.
    pub user_effective: u32,
    /// Saved user: who it can act as again.
    pub user_saved: u32,
    /// Real group.
    pub group_real: u32,
    /// Effective group.
    pub group_effective: u32,
    /// Saved group.
    pub group_saved: u32,
}

impl Ids {
    /// Whether real, effective and saved differ: a set-user-id or set-group-id
    /// program, which must not trust its environment.
    #[must_use]
    pub fn differ(&self) -> bool {
        self.user_real != self.user_effective
            || self.user_saved != self.user_effective
            || self.group_real != self.group_effective
            || self.group_saved != self.group_effective
    }
}

/// All six ids.
///
/// Source: [getresuid(2)](https://man7.org/linux/man-pages/man2/getresuid.2.html).
#[doc(alias = "getresuid")]
#[doc(alias = "getresgid")]
#[must_use]
pub fn ids() -> Ids {
    let (mut ur, mut ue, mut us) = (0, 0, 0);
    let (mut gr, mut ge, mut gs) = (0, 0, 0);
    // SAFETY: six pointers to six live integers; the calls fail only for bad
    // addresses.
    unsafe {
        libc::getresuid(&mut ur, &mut ue, &mut us);
        libc::getresgid(&mut gr, &mut ge, &mut gs);
    }
    Ids {
        user_real: ur,
        user_effective: ue,
        user_saved: us,
        group_real: gr,
        group_effective: ge,
        group_saved: gs,
    }
}

/// The limit of open descriptors, before and after [`raise_open_files`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// The soft limit as it was.
    pub before: u64,
    /// The soft limit now; `u64::MAX` for unlimited.
    pub now: u64,
}

/// Raises the soft limit of open descriptors to the hard one. (The soft limit
/// of 1024 is for programs that use `select`; one with epoll may have more.)
///
/// # Errors
/// None in practice.
///
/// Source: [getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html).
#[doc(alias = "RLIMIT_NOFILE")]
#[doc(alias = "setrlimit")]
pub fn raise_open_files() -> Result<OpenFiles, Error> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let before = limit.current.unwrap_or(u64::MAX);
    if limit.current == limit.maximum {
        return Ok(OpenFiles { before, now: before });
    }
    set_open_files(limit.maximum.unwrap_or(u64::MAX))?;
    Ok(OpenFiles { before, now: limit.maximum.unwrap_or(u64::MAX) })
}

/// Sets the soft limit of open descriptors; `u64::MAX` is unlimited.
///
/// # Errors
/// [`Error::HardLimit`].
///
/// Source: [setrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html).
#[doc(alias = "RLIMIT_NOFILE")]
#[doc(alias = "setrlimit")]
pub fn set_open_files(wanted: u64) -> Result<(), Error> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if let Some(maximum) = limit.maximum.filter(|maximum| *maximum < wanted) {
        return Err(Error::HardLimit { wanted, limit: maximum });
    }
    let current = if wanted == u64::MAX { None } else { Some(wanted) };
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum })
        .map_err(|errno| SystemError::new("setrlimit(RLIMIT_NOFILE)", "process", errno).into())
}

static UMASK: Mutex<()> = Mutex::new(());

/// The umask at 0 while this lives; the old one comes back with its drop. One
/// thread at a time. Other threads' new files are made without a umask in that
/// moment, so nothing else happens in it.
#[derive(Debug)]
pub struct ClearedUmask {
    before: Mode,
    _turn: MutexGuard<'static, ()>,
}

impl ClearedUmask {
    /// Clears it.
    ///
    /// Source: [umask(2)](https://man7.org/linux/man-pages/man2/umask.2.html).
    #[doc(alias = "umask")]
    #[must_use]
    pub fn new() -> Self {
        let turn = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
        Self { before: rustix::process::umask(Mode::empty()), _turn: turn }
    }
}

impl Default for ClearedUmask {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ClearedUmask {
    fn drop(&mut self) {
        rustix::process::umask(self.before);
    }
}
