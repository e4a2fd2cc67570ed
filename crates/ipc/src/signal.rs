//! Signals as data: names, sets, blocking, and reading them from a descriptor.
//!
//! ```
//! use ipc::signal::{self, Signal, SignalFd, SignalSet};
//! let hup: Signal = "SIGHUP".parse()?;
//! assert_eq!((hup, hup.number(), hup.name()), (Signal::HUP, 1, "HUP".into()));
//! let signals = SignalFd::new(&SignalSet::of(&[Signal::USR1]))?;
//! signal::raise(Signal::USR1)?;
//! let info = signals.read()?.expect("one is there");
//! assert_eq!((info.signal, info.pid), (Signal::USR1, std::process::id() as i32));
//! assert!(signals.read()?.is_none()); // never blocks
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code)] // sigset_t, the signal mask and signalfd are libc's alone
use core::fmt;
use core::mem::MaybeUninit;
use core::str::FromStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::Pid;

use crate::{Errno, SystemError, pidfd, sockopt};

/// A signal's number: 1 to 64, without the ones that the C library keeps for
/// itself (32 and 33).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(i32);

macro_rules! signals {
    ($($name:ident $number:ident $text:literal;)*) => {
        impl Signal {
            $( #[doc = $text] pub const $name: Self = Self(libc::$number); )*
        }
        /// Number, name without `SIG`, description.
        const TABLE: &[(i32, &str, &str)] = &[ $( (libc::$number, stringify!($name), $text), )* ];
    };
}

// Descriptions as sigdescr_np(3) gives them.
signals! {
    HUP SIGHUP "Hangup";
    INT SIGINT "Interrupt";
    QUIT SIGQUIT "Quit";
    ILL SIGILL "Illegal instruction";
    TRAP SIGTRAP "Trace/breakpoint trap";
    ABRT SIGABRT "Aborted";
    BUS SIGBUS "Bus error";
    FPE SIGFPE "Floating point exception";
    KILL SIGKILL "Killed";
    USR1 SIGUSR1 "User defined signal 1";
    SEGV SIGSEGV "Segmentation fault";
    USR2 SIGUSR2 "User defined signal 2";
    PIPE SIGPIPE "Broken pipe";
    ALRM SIGALRM "Alarm clock";
    TERM SIGTERM "Terminated";
    STKFLT SIGSTKFLT "Stack fault";
    CHLD SIGCHLD "Child exited";
    CONT SIGCONT "Continued";
    STOP SIGSTOP "Stopped (signal)";
    TSTP SIGTSTP "Stopped";
    TTIN SIGTTIN "Stopped (tty input)";
    TTOU SIGTTOU "Stopped (tty output)";
    URG SIGURG "Urgent I/O condition";
    XCPU SIGXCPU "CPU time limit exceeded";
    XFSZ SIGXFSZ "File size limit exceeded";
    VTALRM SIGVTALRM "Virtual timer expired";
    PROF SIGPROF "Profiling timer expired";
    WINCH SIGWINCH "Window changed";
    IO SIGIO "I/O possible";
    PWR SIGPWR "Power failure";
    SYS SIGSYS "Bad system call";
}

/// Other names of the same signals.
const ALIASES: &[(&str, Signal)] =
    &[("IOT", Signal::ABRT), ("CLD", Signal::CHLD), ("POLL", Signal::IO)];

/// A text that names no signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownSignal(
    /// The text.
    pub String,
);

impl fmt::Display for UnknownSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: no such signal", self.0)
    }
}

impl std::error::Error for UnknownSignal {}

impl Signal {
    /// The signal of this number, if it is one that programs may use.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        let known = TABLE.iter().any(|(n, ..)| *n == number);
        let realtime = (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number);
        (known || realtime).then_some(Self(number))
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }

    /// Its name without `SIG`: `TERM`, `RTMIN+3`, `RTMAX-2`.
    #[must_use]
    pub fn name(self) -> String {
        if let Some((_, name, _)) = TABLE.iter().find(|(n, ..)| *n == self.0) {
            return (*name).to_owned();
        }
        let (min, max) = (libc::SIGRTMIN(), libc::SIGRTMAX());
        match self.0 {
            n if n == min => "RTMIN".to_owned(),
            n if n == max => "RTMAX".to_owned(),
            n if n - min <= max - n => format!("RTMIN+{}", n - min),
            n => format!("RTMAX-{}", max - n),
        }
    }

    /// What the system calls it: `Interrupt`, `Real-time signal 3`.
    #[doc(alias = "strsignal")]
    #[must_use]
    pub fn description(self) -> String {
        match TABLE.iter().find(|(n, ..)| *n == self.0) {
            Some((_, _, text)) => (*text).to_owned(),
            None => format!("Real-time signal {}", self.0 - libc::SIGRTMIN()),
        }
    }

    /// Whether it is queued with its value instead of merged with a pending one.
    #[must_use]
    pub fn is_realtime(self) -> bool {
        self.0 >= libc::SIGRTMIN()
    }

    /// What it does to a process that neither catches nor ignores it.
    ///
    /// Source: [signal(7)](https://man7.org/linux/man-pages/man7/signal.7.html), "Standard signals".
    #[doc(alias = "SIG_DFL")]
    #[must_use]
    pub fn default_action(self) -> DefaultAction {
        match self {
            Self::QUIT
            | Self::ILL
            | Self::TRAP
            | Self::ABRT
            | Self::BUS
            | Self::FPE
            | Self::SEGV
            | Self::XCPU
            | Self::XFSZ
            | Self::SYS => DefaultAction::Core,
            Self::CHLD | Self::URG | Self::WINCH => DefaultAction::Ignore,
            Self::STOP | Self::TSTP | Self::TTIN | Self::TTOU => DefaultAction::Stop,
            Self::CONT => DefaultAction::Continue,
            _ => DefaultAction::Terminate,
        }
    }

    /// Whether a process can catch, block or ignore it: all but KILL and STOP.
    #[must_use]
    pub const fn can_be_caught(self) -> bool {
        self.0 != libc::SIGKILL && self.0 != libc::SIGSTOP
    }

    /// All of them, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=libc::SIGRTMAX()).filter_map(Self::from_number)
    }
}

/// What a signal does by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultAction {
    /// Ends the process.
    Terminate,
    /// Ends it, with a core dump where that is allowed.
    Core,
    /// Nothing.
    Ignore,
    /// Stops it.
    Stop,
    /// Lets it go on, if it was stopped.
    Continue,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIG{}", self.name())
    }
}

impl FromStr for Signal {
    type Err = UnknownSignal;

    /// A number, or a name with or without `SIG`, in either case.
    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        let unknown = || UnknownSignal(text.to_owned());
        if let Ok(number) = text.parse() {
            return Self::from_number(number).ok_or_else(unknown);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((number, ..)) = TABLE.iter().find(|(_, n, _)| *n == name) {
            return Ok(Self(*number));
        }
        if let Some((_, signal)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
            return Ok(*signal);
        }
        let offset = |rest: &str, sign: char| -> Option<i32> {
            if rest.is_empty() {
                Some(0)
            } else {
                rest.strip_prefix(sign)?.parse::<u8>().ok().map(i32::from)
            }
        };
        let number = if let Some(rest) = name.strip_prefix("RTMIN") {
            offset(rest, '+').map(|n| libc::SIGRTMIN() + n)
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            offset(rest, '-').map(|n| libc::SIGRTMAX() - n)
        } else {
            None
        };
        number.and_then(Self::from_number).filter(|s| s.is_realtime()).ok_or_else(unknown)
    }
}

/// A set of signals.
#[derive(Clone, Copy)]
pub struct SignalSet(libc::sigset_t);

impl fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Signal::all().filter(|s| self.contains(*s))).finish()
    }
}

impl SignalSet {
    /// These ones.
    ///
    /// Source: [sigsetops(3)](https://man7.org/linux/man-pages/man3/sigsetops.3.html).
    #[doc(alias = "sigaddset")]
    #[must_use]
    pub fn of(signals: &[Signal]) -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the whole set.
        let mut set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            set.assume_init()
        };
        for signal in signals {
            // SAFETY: the set is initialised; the number is in range, or the
            // call does nothing.
            unsafe { libc::sigaddset(&mut set, signal.0) };
        }
        Self(set)
    }

    /// Whether it holds `signal`.
    #[doc(alias = "sigismember")]
    #[must_use]
    pub fn contains(&self, signal: Signal) -> bool {
        // SAFETY: the set is initialised.
        unsafe { libc::sigismember(&self.0, signal.0) == 1 }
    }
}

fn change_mask(how: i32, set: &SignalSet) -> SignalSet {
    let mut before = SignalSet::of(&[]);
    // SAFETY: two initialised sets, and `how` is one of the three values, so
    // the call can't fail.
    let result = unsafe { libc::pthread_sigmask(how, &set.0, &mut before.0) };
    debug_assert_eq!(result, 0);
    before
}

/// Blocks these signals in this thread (and in those that it starts later), and
/// returns the mask as it was. KILL and STOP can't be blocked and are ignored.
///
/// Source: [pthread_sigmask(3)](https://man7.org/linux/man-pages/man3/pthread_sigmask.3.html).
#[doc(alias = "sigprocmask")]
#[doc(alias = "pthread_sigmask")]
pub fn block(set: &SignalSet) -> SignalSet {
    change_mask(libc::SIG_BLOCK, set)
}

/// Sets this thread's mask to exactly `set`; returns the mask as it was.
///
/// Source: [pthread_sigmask(3)](https://man7.org/linux/man-pages/man3/pthread_sigmask.3.html).
#[doc(alias = "pthread_sigmask")]
pub fn set_mask(set: &SignalSet) -> SignalSet {
    change_mask(libc::SIG_SETMASK, set)
}

/// Ignores SIGPIPE, so that a write to a closed pipe or socket is EPIPE.
///
/// Source: [signal(7)](https://man7.org/linux/man-pages/man7/signal.7.html).
#[doc(alias = "SIGPIPE")]
pub fn ignore_pipe() {
    // SAFETY: SIG_IGN is no function of ours, so nothing can run in a handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

fn set_disposition(signal: Signal, handler: libc::sighandler_t) -> Result<(), SystemError> {
    // SAFETY: SIG_DFL or SIG_IGN, no function of ours, so nothing can run in a
    // handler.
    if unsafe { libc::signal(signal.0, handler) } == libc::SIG_ERR {
        return Err(SystemError::new("signal", signal, sockopt::last_errno()));
    }
    Ok(())
}

/// Lets a signal act as it does by default. (The standard library ignores PIPE
/// from the start, and what was ignored stays so across exec.)
///
/// # Errors
/// EINVAL for KILL and STOP.
///
/// Source: [signal(2)](https://man7.org/linux/man-pages/man2/signal.2.html).
#[doc(alias = "SIG_DFL")]
#[doc(alias = "signal")]
pub fn set_default(signal: Signal) -> Result<(), SystemError> {
    set_disposition(signal, libc::SIG_DFL)
}

/// Ignores a signal.
///
/// # Errors
/// EINVAL for KILL and STOP.
///
/// Source: [signal(2)](https://man7.org/linux/man-pages/man2/signal.2.html).
#[doc(alias = "SIG_IGN")]
#[doc(alias = "signal")]
pub fn set_ignored(signal: Signal) -> Result<(), SystemError> {
    set_disposition(signal, libc::SIG_IGN)
}

/// [`Info::code`] of a signal that was sent with a value.
#[doc(alias = "SI_QUEUE")]
pub const CODE_QUEUED: i32 = libc::SI_QUEUE;

/// Sends a signal to this process.
///
/// # Errors
/// None in practice.
///
/// Source: [kill(2)](https://man7.org/linux/man-pages/man2/kill.2.html).
pub fn raise(signal: Signal) -> Result<(), pidfd::Error> {
    send(rustix::process::getpid(), signal)
}

/// Sends a signal to a process by its id. Where a pid may have been reused
/// meanwhile, hold a [`crate::pidfd`] instead.
///
/// # Errors
/// [`pidfd::Error`]: no such process and no permission are told apart.
///
/// Source: [kill(2)](https://man7.org/linux/man-pages/man2/kill.2.html).
#[doc(alias = "kill")]
pub fn send(pid: Pid, signal: Signal) -> Result<(), pidfd::Error> {
    let raw = pid.as_raw_nonzero().get();
    let process = || format!("process {raw}");
    // SAFETY: kill takes two integers.
    match sockopt::check(unsafe { libc::kill(raw, signal.0) }) {
        Ok(_) => Ok(()),
        Err(Errno::SRCH) => Err(pidfd::Error::Gone { process: process() }),
        Err(Errno::PERM) => Err(pidfd::Error::NotPermitted { process: process() }),
        Err(errno) => Err(SystemError::new("kill", process(), errno).into()),
    }
}

/// One signal as it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Which.
    pub signal: Signal,
    /// Why: `SI_USER` 0, `SI_QUEUE` -1, `SI_MESGQ` -3, `CLD_EXITED` 1 …
    pub code: i32,
    /// The sender, or for CHLD the child; 0 from the kernel or from outside our
    /// pid namespace.
    pub pid: i32,
    /// The sender's real user.
    pub uid: u32,
    /// The value sent with it; 0 if none was.
    pub value: usize,
    /// For CHLD: the exit status, or the number of the signal that ended it.
    pub status: i32,
}

/// Signals to be read instead of handled: non-blocking, close-on-exec.
#[derive(Debug)]
pub struct SignalFd {
    fd: OwnedFd,
}

impl SignalFd {
    /// The bytes of one signal, as it is read.
    pub const INFO_BYTES: usize = size_of::<libc::signalfd_siginfo>();

    /// Blocks `set` in this thread (call it before starting others) and makes a
    /// descriptor from which to read them.
    ///
    /// # Errors
    /// EMFILE, ENFILE.
    ///
    /// Source: [signalfd(2)](https://man7.org/linux/man-pages/man2/signalfd.2.html).
    #[doc(alias = "signalfd")]
    pub fn new(set: &SignalSet) -> Result<Self, SystemError> {
        // SAFETY: -1 asks for a new descriptor; the set is initialised.
        let raw = sockopt::check(unsafe {
            libc::signalfd(-1, &set.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        })
        .map_err(|errno| SystemError::new("signalfd", "signals", errno))?;
        // SAFETY: the call has just made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        block(set);
        Ok(Self { fd })
    }

    /// The next pending signal of the set, if there is one.
    ///
    /// # Errors
    /// None in practice.
    #[doc(alias = "signalfd_siginfo")]
    pub fn read(&self) -> Result<Option<Info>, SystemError> {
        let mut raw = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        let size = SignalFd::INFO_BYTES;
        loop {
            // SAFETY: pointer and size describe `raw`.
            let n = unsafe { libc::read(self.fd.as_raw_fd(), raw.as_mut_ptr().cast(), size) };
            match sockopt::check(n as libc::c_int) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(SystemError::new("read", "signals", errno)),
            }
        }
        // SAFETY: integers only, zeroed before, and a signalfd gives whole
        // records or none.
        let raw = unsafe { raw.assume_init() };
        Ok(Some(Info {
            signal: Signal(raw.ssi_signo as i32),
            code: raw.ssi_code,
            pid: raw.ssi_pid as i32,
            uid: raw.ssi_uid,
            value: raw.ssi_ptr as usize,
            status: raw.ssi_status,
        }))
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
