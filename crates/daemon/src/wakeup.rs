//! Everything that can wake the loop: all inputs on one page.

use ipc::epoll::Ready;

/// The number of a connection: its place and how often that was used before,
/// so that a wakeup meant for a connection that is gone reaches nobody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct ClientToken(u64);

impl ClientToken {
    /// Of a place and its use.
    pub(crate) fn new(place: u32, uses: u32) -> ClientToken {
        // Two bits less: they tell connections from everything else.
        ClientToken(u64::from(uses & 0x3fff_ffff) << 32 | u64::from(place))
    }

    /// The token that a session was made with.
    pub(crate) fn from_number(number: u64) -> ClientToken {
        ClientToken(number)
    }

    /// For the session.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// Its place.
    pub(crate) fn place(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }
}

/// What woke the loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wakeup {
    /// Somebody connects to the Unix socket.
    UnixListener,
    /// Somebody connects over TCP.
    TcpListener,
    /// Somebody connects to the socket of fixed structures.
    ClassicListener,
    /// A signal arrived.
    Signal,
    /// The console's standard input has something, or ended.
    ConsoleInput,
    /// The console's writer has room again.
    ConsoleRoom,
    /// The thread that reads `--load`'s file has something, or ended.
    Loader,
    /// The message queue has a message.
    Queue,
    /// The FIFO has bytes.
    Fifo,
    /// A zebra connects.
    FpmListener,
    /// A zebra's connection, by its place.
    Fpm(u32),
    /// The kernel tells of changes.
    Kernel,
    /// The kernel answers a request for a listing.
    KernelAnswer,
    /// The kernel tells the export of changes.
    Export,
    /// The kernel answers the export's request for a listing.
    ExportAnswer,
    /// The export's thread has done something.
    ExportDone,
    /// A registered client's process ended.
    Process(ClientToken),
    /// A connection.
    Client(ClientToken),
}

const CLIENT: u64 = 1 << 63;
const FPM: u64 = 1 << 61;
const PROCESS: u64 = 1 << 62;

impl Wakeup {
    /// The number to watch a descriptor under.
    pub(crate) fn number(self) -> u64 {
        match self {
            Wakeup::UnixListener => 0,
            Wakeup::TcpListener => 1,
            Wakeup::Signal => 2,
            Wakeup::ConsoleInput => 3,
            Wakeup::ConsoleRoom => 4,
            Wakeup::Loader => 5,
            Wakeup::Queue => 6,
            Wakeup::Fifo => 7,
            Wakeup::Kernel => 8,
            Wakeup::KernelAnswer => 9,
            Wakeup::FpmListener => 10,
            Wakeup::Export => 11,
            Wakeup::ClassicListener => 12,
            Wakeup::ExportAnswer => 13,
            Wakeup::ExportDone => 14,
            Wakeup::Fpm(place) => FPM | u64::from(place),
            Wakeup::Process(token) => PROCESS | token.0,
            Wakeup::Client(token) => CLIENT | token.0,
        }
    }

    /// What an event means.
    pub(crate) fn of(ready: Ready) -> Option<Wakeup> {
        Some(match ready.token {
            0 => Wakeup::UnixListener,
            1 => Wakeup::TcpListener,
            2 => Wakeup::Signal,
            3 => Wakeup::ConsoleInput,
            4 => Wakeup::ConsoleRoom,
            5 => Wakeup::Loader,
            6 => Wakeup::Queue,
            7 => Wakeup::Fifo,
            8 => Wakeup::Kernel,
            9 => Wakeup::KernelAnswer,
            10 => Wakeup::FpmListener,
            11 => Wakeup::Export,
            12 => Wakeup::ClassicListener,
            13 => Wakeup::ExportAnswer,
            14 => Wakeup::ExportDone,
            number if number & CLIENT != 0 => Wakeup::Client(ClientToken(number & !CLIENT)),
            number if number & PROCESS != 0 => Wakeup::Process(ClientToken(number & !PROCESS)),
            number if number & FPM != 0 => Wakeup::Fpm(number as u32),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_keep_place_and_use_apart() {
        let first = ClientToken::new(7, 0);
        let second = ClientToken::new(7, 1);
        assert_ne!(first, second);
        assert_eq!((first.place(), second.place()), (7, 7));
        let last = ClientToken::new(u32::MAX, u32::MAX);
        assert_eq!(last.number() & (CLIENT | PROCESS), 0);
        assert_eq!(ClientToken::from_number(last.number()), last);
    }
}
