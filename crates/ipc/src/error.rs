//! What an operation says when it failed.
//!
//! Every module has its own enum, so that a caller can tell its cases apart;
//! all of them end in `System`, which names the call, the object and the
//! errno, and all give the errno by one method. The macro below writes what is
//! the same for all: `Display`, `errno`, `From<SystemError>` and the way into
//! the umbrella [`Error`].
use core::fmt;

pub use rustix::io::Errno;

/// A system call that failed: which one, on what, and why.
///
/// ```
/// let e = ipc::lock::LockFile::acquire("/nonexistent/dir/lock").unwrap_err();
/// assert_eq!(e.to_string(), "/nonexistent/dir/lock: open: No such file or directory");
/// assert_eq!(e.errno(), ipc::Errno::NOENT);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemError {
    /// The C name of the call.
    pub call: &'static str,
    /// The object it was called on, as a user would write it: a path, a
    /// queue's name, `pid 12`, an address.
    pub object: String,
    /// The reason.
    pub errno: Errno,
}

impl SystemError {
    /// Puts the three together; `object` is only formatted here, on the error
    /// path.
    pub fn new(call: &'static str, object: impl fmt::Display, errno: Errno) -> Self {
        Self { call, object: object.to_string(), errno }
    }
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.object, self.call, errno_text(self.errno))
    }
}

impl std::error::Error for SystemError {}

impl From<SystemError> for std::io::Error {
    fn from(error: SystemError) -> Self {
        Self::new(error.errno.kind(), error)
    }
}

/// The system's description of an errno, without the number that Rust appends.
///
/// Source: [strerror(3)](https://man7.org/linux/man-pages/man3/strerror.3.html).
#[doc(alias = "strerror")]
pub fn errno_text(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Declares one operation's error enum. Each variant names its fields, the
/// errno that it stands for, and its text (fields captured inline).
macro_rules! operation_error {
    (
        $(#[$enum_meta:meta])*
        $name:ident {
            $(
                $(#[$variant_meta:meta])*
                $variant:ident { $( $(#[$field_meta:meta])* $field:ident : $ty:ty ),* $(,)? }
                    => $errno:ident, $text:literal $(, $arg:expr)*;
            )*
        }
    ) => {
        $(#[$enum_meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name {
            $(
                $(#[$variant_meta])*
                $variant { $( $(#[$field_meta])* $field: $ty ),* },
            )*
            /// Any other failure of a system call.
            System($crate::SystemError),
        }

        impl $name {
            /// The errno behind it (for a limit that we check ourselves: the
            /// one that the kernel would have given).
            #[must_use]
            pub fn errno(&self) -> $crate::Errno {
                match self {
                    $( Self::$variant { .. } => $crate::Errno::$errno, )*
                    Self::System(error) => error.errno,
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self {
                    $( #[allow(unused_variables)] Self::$variant { $($field),* } => write!(f, $text $(, $arg)*), )*
                    Self::System(error) => error.fmt(f),
                }
            }
        }

        impl std::error::Error for $name {}

        impl From<$crate::SystemError> for $name {
            fn from(error: $crate::SystemError) -> Self {
                Self::System(error)
            }
        }

        impl From<$name> for std::io::Error {
            fn from(error: $name) -> Self {
                Self::new(error.errno().kind(), error)
            }
        }
    };
}
pub(crate) use operation_error;

/// Declares the umbrella over all modules' enums.
macro_rules! umbrella {
    ($( $(#[$meta:meta])* $variant:ident($path:path) ),* $(,)?) => {
        /// Any error of this crate: for callers that only pass it on.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Error {
            /// A bare failed system call.
            System(SystemError),
            $( $(#[$meta])* $variant($path), )*
        }

        impl Error {
            /// The errno behind it.
            #[must_use]
            pub fn errno(&self) -> Errno {
                match self {
                    Self::System(error) => error.errno,
                    $( Self::$variant(error) => error.errno(), )*
                }
            }
        }

        impl fmt::Display for Error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::System(error) => error.fmt(f),
                    $( Self::$variant(error) => error.fmt(f), )*
                }
            }
        }

        impl std::error::Error for Error {}

        impl From<SystemError> for Error {
            fn from(error: SystemError) -> Self {
                Self::System(error)
            }
        }

        $(
            impl From<$path> for Error {
                fn from(error: $path) -> Self {
                    Self::$variant(error)
                }
            }
        )*

        impl From<Error> for std::io::Error {
            fn from(error: Error) -> Self {
                Self::new(error.errno().kind(), error)
            }
        }
    };
}

umbrella! {
    /// [`crate::catcher`]
    Catcher(crate::catcher::Error),
    /// [`crate::child`]
    Child(crate::child::Error),
    /// [`crate::descriptors`]
    Descriptors(crate::descriptors::Error),
    /// [`crate::epoll`]
    Epoll(crate::epoll::Error),
    /// [`crate::fifo`]
    Fifo(crate::fifo::Error),
    /// [`crate::lock`]
    Lock(crate::lock::Error),
    /// [`crate::map`]
    Map(crate::map::Error),
    /// [`crate::memfd`]
    Memfd(crate::memfd::Error),
    /// [`crate::mq`]
    Mq(crate::mq::Error),
    /// [`crate::mutex`]
    Mutex(crate::mutex::Error),
    /// [`crate::netlink`]
    Netlink(crate::netlink::Error),
    /// [`crate::pidfd`]
    Pidfd(crate::pidfd::Error),
    /// [`crate::pipe`]
    Pipe(crate::pipe::Error),
    /// [`crate::process`]
    Process(crate::process::Error),
    /// [`crate::ring`]
    Ring(crate::ring::Error),
    /// [`crate::sem`]
    Sem(crate::sem::Error),
    /// [`crate::shm`]
    Shm(crate::shm::Error),
    /// [`crate::signal_state`]
    SignalState(crate::signal_state::Error),
    /// [`crate::socket`]
    Accept(crate::socket::AcceptError),
    /// [`crate::sysv`]
    SysV(crate::sysv::Error),
    /// [`crate::tcp`]
    Tcp(crate::tcp::Error),
    /// [`crate::unix`]
    Unix(crate::unix::Error),
}
