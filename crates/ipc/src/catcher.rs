//! Signals caught by a handler, and read where there is time for them.
//!
//! ```
//! use ipc::{catcher::Catcher, signal::{self, Signal}};
//! let caught = Catcher::new(&[Signal::USR1, Signal::USR2])?;
//! signal::raise(Signal::USR2)?;
//! let info = caught.read()?.expect("one was caught");
//! assert_eq!((info.signal, info.pid), (Signal::USR2, std::process::id() as i32));
//! assert!(caught.read()?.is_none()); // never blocks
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`crate::signal::SignalFd`] *blocks* the signals and reads them: right for
//! a program with a loop. A catcher *catches* them: the system shows them as
//! caught (`SigCgt` in /proc), a child that is started has them as they were,
//! and blocking calls are restarted behind them. The handler does one thing: it
//! writes what it was told into a pipe. Real-time signals come out in the order
//! in which the kernel delivers them, each with its value.
//!
//! ```text
//! kernel ──► handler (any thread) ──write──► pipe ──read──► the program's loop
//! ```
#![allow(unsafe_code)] // sigaction with a handler
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use crate::error::operation_error;
use crate::signal::{Info, Signal};
use crate::{Errno, SystemError, pipe, sockopt};

operation_error! {
    /// Why signals can't be caught.
    Error {
        /// No process can catch this one.
        NotCatchable {
            /// KILL or STOP.
            signal: Signal,
        } => INVAL, "{}: can't be caught", signal.name();
        /// Another catcher lives in this process.
        Taken {} => BUSY, "this process has a catcher already";
    }
}

/// What the handler writes: less than `PIPE_BUF`, so it goes in as a whole.
#[derive(Clone, Copy)]
#[repr(C)]
struct Record {
    value: usize,
    signal: i32,
    code: i32,
    pid: i32,
    uid: u32,
    status: i32,
    pad: i32,
}

const RECORD: usize = size_of::<Record>();
const _: () = assert!(RECORD <= pipe::ATOMIC_WRITE_BYTES_MAX);

/// The pipe between handler and program. It is never closed: a handler may
/// still be running on another thread when its catcher goes.
static PIPE: OnceLock<(OwnedFd, OwnedFd)> = OnceLock::new();
/// Its write end, for the handler, which may not take a lock; -1 before.
static WRITE_END: AtomicI32 = AtomicI32::new(-1);
/// Who catches. A child between fork and exec still has the handler and the
/// pipe: what it gets is not ours.
static PROCESS: AtomicI32 = AtomicI32::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Runs in a signal: only async-signal-safe calls (getpid, write), no memory
/// from the heap, no lock; errno is put back.
extern "C" fn handler(
    number: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: errno is this thread's own.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the location is valid as long as the thread.
    let before = unsafe { *errno };
    // SAFETY: takes nothing.
    if unsafe { libc::getpid() } == PROCESS.load(Ordering::Relaxed) {
        // SAFETY: with SA_SIGINFO the kernel passes a siginfo that lives as
        // long as the handler runs.
        let info = unsafe { &*info };
        let mut record = Record {
            value: 0,
            signal: number,
            code: info.si_code,
            pid: 0,
            uid: 0,
            status: 0,
            pad: 0,
        };
        // Which members of the union are filled follows from the code.
        let sent = matches!(
            info.si_code,
            libc::SI_USER | libc::SI_QUEUE | libc::SI_MESGQ | libc::SI_TKILL
        );
        if sent || number == libc::SIGCHLD {
            // SAFETY: filled for these codes and for every SIGCHLD.
            unsafe { (record.pid, record.uid) = (info.si_pid(), info.si_uid()) };
        }
        if matches!(info.si_code, libc::SI_QUEUE | libc::SI_MESGQ | libc::SI_TIMER) {
            // SAFETY: filled for these codes.
            record.value = unsafe { info.si_value() }.sival_ptr.addr();
        } else if number == libc::SIGCHLD && !sent {
            // SAFETY: filled for the kernel's SIGCHLD.
            record.status = unsafe { info.si_status() };
        }
        let fd = WRITE_END.load(Ordering::Relaxed);
        // SAFETY: pointer and length describe `record`; all its bytes are
        // initialised (`pad` makes it free of padding).
        let written = unsafe { libc::write(fd, (&raw const record).cast(), RECORD) };
        if written != RECORD as isize {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// Catches signals while it lives; then they are again what they were before.
/// One at a time in a process.
#[derive(Debug)]
pub struct Catcher {
    before: Vec<(Signal, libc::sigaction)>,
}

impl Catcher {
    /// Catches these from now on, in whichever thread they arrive.
    ///
    /// # Errors
    /// [`Error::NotCatchable`], [`Error::Taken`]; EMFILE, ENFILE.
    ///
    /// Source: [sigaction(2)](https://man7.org/linux/man-pages/man2/sigaction.2.html),
    /// [signal-safety(7)](https://man7.org/linux/man-pages/man7/signal-safety.7.html).
    #[doc(alias = "sigaction")]
    #[doc(alias = "SA_SIGINFO")]
    pub fn new(signals: &[Signal]) -> Result<Self, Error> {
        if let Some(signal) = signals.iter().find(|signal| !signal.can_be_caught()) {
            return Err(Error::NotCatchable { signal: *signal });
        }
        if TAKEN.swap(true, Ordering::AcqRel) {
            return Err(Error::Taken {});
        }
        // From here on the drop frees the place.
        let mut catcher = Self { before: Vec::new() };
        let (_, writer) = match PIPE.get() {
            Some(pipe) => pipe,
            None => {
                let (reader, writer) = pipe::pipe()?;
                for end in [&reader, &writer] {
                    rustix::io::ioctl_fionbio(end, true)
                        .map_err(|errno| SystemError::new("ioctl(FIONBIO)", "pipe", errno))?;
                }
                PIPE.get_or_init(|| (reader, writer))
            }
        };
        WRITE_END.store(writer.as_raw_fd(), Ordering::Relaxed);
        PROCESS.store(std::process::id() as i32, Ordering::Relaxed);
        while catcher.read()?.is_some() {} // what an earlier one left
        LOST.store(0, Ordering::Relaxed);
        for signal in signals {
            // SAFETY: all-zero is a valid sigaction.
            let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
            action.sa_sigaction = handler as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            // SAFETY: a live set. All are held back while the handler runs: so
            // they are written in the order of their delivery.
            unsafe { libc::sigfillset(&mut action.sa_mask) };
            let mut before = MaybeUninit::uninit();
            // SAFETY: two live sigactions; the handler does only what a handler
            // may do.
            sockopt::check(unsafe {
                libc::sigaction(signal.number(), &action, before.as_mut_ptr())
            })
            .map_err(|errno| SystemError::new("sigaction", signal, errno))?;
            // SAFETY: the call has filled it.
            catcher.before.push((*signal, unsafe { before.assume_init() }));
        }
        Ok(catcher)
    }

    /// The next one that was caught, if there is one.
    ///
    /// # Errors
    /// None in practice.
    pub fn read(&self) -> Result<Option<Info>, SystemError> {
        let mut record = MaybeUninit::<Record>::zeroed();
        let reader = self.as_fd().as_raw_fd();
        loop {
            // SAFETY: pointer and length describe `record`.
            let n = unsafe { libc::read(reader, record.as_mut_ptr().cast(), RECORD) };
            match sockopt::check(n as libc::c_int) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(SystemError::new("read", "caught signals", errno)),
            }
        }
        // SAFETY: integers only, zeroed before, and only whole records are
        // written and read.
        let record = unsafe { record.assume_init() };
        let Some(signal) = Signal::from_number(record.signal) else { return Ok(None) };
        Ok(Some(Info {
            signal,
            code: record.code,
            pid: record.pid,
            uid: record.uid,
            value: record.value,
            status: record.status,
        }))
    }

    /// How many found the pipe full (it holds 1638 or more) and were lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        LOST.load(Ordering::Relaxed)
    }
}

/// Readable when one was caught.
impl AsFd for Catcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        PIPE.get().expect("made by new").0.as_fd()
    }
}

impl Drop for Catcher {
    fn drop(&mut self) {
        for (signal, before) in self.before.iter().rev() {
            // SAFETY: a sigaction as the kernel gave it.
            unsafe { libc::sigaction(signal.number(), before, core::ptr::null_mut()) };
        }
        TAKEN.store(false, Ordering::Release);
    }
}
