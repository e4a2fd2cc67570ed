//! Error codes and the line that goes with each.

use std::ffi::{CStr, c_int};

use rtm_client::{AddressError, Busy, ConnectError, Error, ExitClass};

/// The codes of `rtm.h`, with their names.
pub(crate) const CODES: [(c_int, &CStr); 11] = [
    (ARGUMENT, c"RTM_E_ARGUMENT"),
    (NO_DAEMON, c"RTM_E_NO_DAEMON"),
    (NO_ACCESS, c"RTM_E_NO_ACCESS"),
    (TIMED_OUT, c"RTM_E_TIMED_OUT"),
    (REFUSED, c"RTM_E_REFUSED"),
    (NOT_AN_IMAGE, c"RTM_E_NOT_AN_IMAGE"),
    (NOT_READY, c"RTM_E_NOT_READY"),
    (BUSY, c"RTM_E_BUSY"),
    (INTERRUPTED, c"RTM_E_INTERRUPTED"),
    (SYSTEM, c"RTM_E_SYSTEM"),
    (INTERNAL, c"RTM_E_INTERNAL"),
];

pub(crate) const ARGUMENT: c_int = -1;
pub(crate) const NO_DAEMON: c_int = -2;
pub(crate) const NO_ACCESS: c_int = -3;
pub(crate) const TIMED_OUT: c_int = -4;
pub(crate) const REFUSED: c_int = -5;
pub(crate) const NOT_AN_IMAGE: c_int = -6;
pub(crate) const NOT_READY: c_int = -7;
pub(crate) const BUSY: c_int = -8;
pub(crate) const INTERRUPTED: c_int = -9;
pub(crate) const SYSTEM: c_int = -10;
pub(crate) const INTERNAL: c_int = -11;

/// A code and its line.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: c_int,
    pub(crate) text: String,
}

impl Failure {
    #[cold]
    pub(crate) fn new(code: c_int, text: impl Into<String>) -> Failure {
        Failure { code, text: text.into() }
    }

    /// `what` is a null pointer.
    #[cold]
    pub(crate) fn null(what: &str) -> Failure {
        Failure::new(ARGUMENT, format!("{what} is a null pointer"))
    }
}

impl From<Busy> for Failure {
    #[cold]
    fn from(busy: Busy) -> Failure {
        Failure::new(BUSY, busy.to_string())
    }
}

impl From<AddressError> for Failure {
    fn from(error: AddressError) -> Failure {
        Error::Connect(ConnectError::Address(error)).into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let code = match &error {
            Error::Connect(ConnectError::NotPermitted { .. }) => NO_ACCESS,
            Error::Connect(ConnectError::TimedOut { .. }) => TIMED_OUT,
            Error::Connect(ConnectError::System { .. }) | Error::System(_) => SYSTEM,
            Error::Image { .. } => NOT_AN_IMAGE,
            error => match error.exit_class() {
                ExitClass::Usage => ARGUMENT,
                ExitClass::Refused => REFUSED,
                ExitClass::NoDaemon => NO_DAEMON,
                ExitClass::TimedOut => TIMED_OUT,
            },
        };
        Failure::new(code, error.to_string())
    }
}
