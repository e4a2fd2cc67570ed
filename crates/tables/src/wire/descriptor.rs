//! Descriptors that the daemon passes to a client.
//!
//! WANT asks for one, DESCRIPTOR answers, in the order of all other frames. What
//! goes through the socket beside the bytes is not this crate's: who owns the
//! socket attaches the descriptor to the first byte of the frame
//! ([`crate::Slices::carries_descriptor`]), and takes it off at the other end.
//! The daemon itself never receives one.

/// What a descriptor is for; the numbers are the wire's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum DescriptorKind {
    /// The tables in shared memory, to be mapped read-only.
    Image,
    /// The read end of a pipe into which the daemon writes a byte at each whole
    /// flush: armed with O_ASYNC it is a signal to who asked for one.
    SignalPipe,
    /// The read end of a pipe into which the daemon writes a byte for each turn
    /// in which something became visible.
    WakePipe,
    /// A number that this library doesn't know.
    Other(u32),
}

impl DescriptorKind {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            DescriptorKind::Image => 1,
            DescriptorKind::SignalPipe => 2,
            DescriptorKind::WakePipe => 3,
            DescriptorKind::Other(number) => number,
        }
    }

    /// The kind with this number.
    pub fn from_number(number: u32) -> DescriptorKind {
        match number {
            1 => DescriptorKind::Image,
            2 => DescriptorKind::SignalPipe,
            3 => DescriptorKind::WakePipe,
            number => DescriptorKind::Other(number),
        }
    }

    /// Its words, for messages.
    pub fn name(self) -> &'static str {
        match self {
            DescriptorKind::Image => "image",
            DescriptorKind::SignalPipe => "signal pipe",
            DescriptorKind::WakePipe => "wake pipe",
            DescriptorKind::Other(_) => "descriptor of an unknown kind",
        }
    }
}
