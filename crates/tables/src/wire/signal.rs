//! How a registered client is told of a whole flush beside its record.

/// The answer to REGISTER; the numbers are the wire's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SignalWay {
    /// Not at all: the pid is not that of the connection's peer, or it has
    /// none. The text says why.
    Refused,
    /// By the pipe that it was given (SIGNAL_PIPE).
    Pipe,
    /// By SIGUSR1 to its process.
    Process,
    /// Registered, but the daemon may not signal it: another user's process.
    NotPermitted,
    /// A number that this library doesn't know.
    Other(u32),
}

impl SignalWay {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            SignalWay::Refused => 0,
            SignalWay::Pipe => 1,
            SignalWay::Process => 2,
            SignalWay::NotPermitted => 3,
            SignalWay::Other(number) => number,
        }
    }

    /// The way of this number.
    pub fn from_number(number: u32) -> SignalWay {
        match number {
            0 => SignalWay::Refused,
            1 => SignalWay::Pipe,
            2 => SignalWay::Process,
            3 => SignalWay::NotPermitted,
            number => SignalWay::Other(number),
        }
    }

    /// Its word in `rtm client list`.
    pub fn name(self) -> &'static str {
        match self {
            SignalWay::Refused => "refused",
            SignalWay::Pipe => "pipe",
            SignalWay::Process => "pid",
            SignalWay::NotPermitted => "unsignalled (not permitted)",
            SignalWay::Other(_) => "unknown",
        }
    }
}
