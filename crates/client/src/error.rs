//! Why following, asking or loading failed.

use std::fmt;

use ipc::SystemError;
use rtm_image::AttachError;
use rtm_tables::ClientTimeout;
use rtm_tables::wire::{DescriptorKind, GoodbyeReason, WireError};

use crate::address::Address;
use crate::connection::ConnectError;

/// The exit codes of rtm's commands, by what kind of failure they stand for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum ExitClass {
    /// Wrong usage or bad data.
    Usage = 1,
    /// The daemon or the system refused.
    Refused = 2,
    /// No daemon, or no access to its socket.
    NoDaemon = 3,
    /// It took too long, or copies differ.
    TimedOut = 4,
}

/// What ended a connection, or kept it from being made.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// It was not made.
    Connect(ConnectError),
    /// The daemon said goodbye.
    Goodbye {
        /// Who.
        address: Address,
        /// Why.
        reason: GoodbyeReason,
        /// What it said; may be empty.
        text: String,
    },
    /// The connection ended without a goodbye.
    Closed {
        /// Who.
        address: Address,
    },
    /// The bytes that came are not the protocol.
    Protocol {
        /// Who.
        address: Address,
        /// What is wrong.
        error: WireError,
    },
    /// An entity that came can't be one.
    Entity {
        /// Who.
        address: Address,
        /// What is wrong.
        why: String,
    },
    /// The daemon was silent for too long.
    Silent {
        /// Who.
        address: Address,
        /// When.
        timeout: ClientTimeout,
    },
    /// The daemon gives no descriptor.
    NoDescriptor {
        /// Who.
        address: Address,
        /// What for.
        kind: DescriptorKind,
        /// What it said.
        why: String,
    },
    /// What was given as the image is none.
    Image {
        /// Who.
        address: Address,
        /// What is wrong with it.
        error: AttachError,
    },
    /// A system call failed.
    System(SystemError),
}

impl Error {
    /// The exit code that a command ends with.
    pub fn exit_class(&self) -> ExitClass {
        match self {
            Error::Connect(ConnectError::Address(
                crate::address::AddressError::Tcp { .. }
                | crate::address::AddressError::Scheme { .. },
            )) => ExitClass::Usage,
            Error::Connect(_) | Error::Closed { .. } | Error::Protocol { .. } => {
                ExitClass::NoDaemon
            }
            Error::Goodbye { reason, .. } => match reason {
                GoodbyeReason::Stopping => ExitClass::NoDaemon,
                GoodbyeReason::Silent | GoodbyeReason::HelloTimeout => ExitClass::TimedOut,
                _ => ExitClass::Refused,
            },
            Error::Silent { .. } => ExitClass::TimedOut,
            Error::Entity { .. }
            | Error::NoDescriptor { .. }
            | Error::Image { .. }
            | Error::System(_) => ExitClass::Refused,
        }
    }

    /// Is it of no use to connect again?
    pub fn is_final(&self) -> bool {
        match self {
            Error::Goodbye { reason, .. } => !reason.may_reconnect(),
            // A daemon that speaks another protocol speaks it the next time, too.
            Error::Protocol { error: WireError::Magic | WireError::Version { .. }, .. } => true,
            Error::Connect(ConnectError::Address(_)) => true,
            // Asked again, it would say the same.
            Error::NoDescriptor { .. } | Error::Image { .. } => true,
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Connect(error) => error.fmt(f),
            Error::Goodbye { address, reason, text } => {
                let said = match reason {
                    GoodbyeReason::Stopping => "the daemon stops",
                    GoodbyeReason::Killed => "an admin ended this session",
                    GoodbyeReason::Protocol => "the daemon did not understand",
                    GoodbyeReason::TooMany => "too many sessions",
                    GoodbyeReason::Silent => "silent for too long",
                    GoodbyeReason::HelloTimeout => "the hello took too long",
                    GoodbyeReason::NotPermitted => "not permitted",
                    GoodbyeReason::Refused => "the subscription is refused",
                    _ => "the daemon ended the session",
                };
                write!(f, "{said}: {address}")?;
                if text.is_empty() { Ok(()) } else { write!(f, ": {text}") }
            }
            Error::Closed { address } => {
                write!(f, "connection lost: {address}: the daemon closed it without a goodbye")
            }
            Error::Protocol { address, error } => write!(f, "protocol: {address}: {error}"),
            Error::Entity { address, why } => write!(f, "protocol: {address}: {why}"),
            Error::Silent { address, timeout } => write!(f, "no answer: {address}: {timeout}"),
            Error::Image { address, error } => write!(f, "image: {address}: {error}"),
            Error::NoDescriptor { address, kind, why } => {
                write!(f, "no {}: {address}: {why}", kind.name())
            }
            Error::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Error {
        Error::Connect(error)
    }
}

impl From<SystemError> for Error {
    fn from(error: SystemError) -> Error {
        Error::System(error)
    }
}
