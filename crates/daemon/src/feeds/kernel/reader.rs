//! The thread that reads listings. The kernel writes the next piece of an answer
//! within the call that takes the one before, so reading a million routes is
//! half of what a listing costs; here it is done beside the loop.
//!
//! ```text
//!   loop ── request ──> socket          thread: waits, receives
//!   loop <── piece ──── channel <────────┘  ^
//!     └────── empty buffer ─────────────────┘   at most PIECES of them
//! ```

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use ipc::event::Event;
use ipc::netlink::{Datagram, Error, Socket};
use rustix::event::{PollFd, PollFlags};

/// Pieces that may wait: what the thread is ahead of the loop.
const PIECES: usize = 4;

/// What came of one receive, with the buffer that holds it.
pub(super) struct Piece {
    pub(super) buffer: Vec<u8>,
    pub(super) received: Result<Datagram, Error>,
}

/// The way to the thread, which ends with this.
pub(super) struct Reader {
    socket: Arc<Socket>,
    pieces: Receiver<Piece>,
    empty: Sender<Vec<u8>>,
    event: Arc<Event>,
    stop: Arc<Event>,
}

impl Reader {
    /// Starts it, with buffers for pieces of so many bytes.
    pub(super) fn start(socket: Socket, bytes: usize) -> Result<Reader, String> {
        let socket = Arc::new(socket);
        let event = Arc::new(Event::new().map_err(|error| error.to_string())?);
        let stop = Arc::new(Event::new().map_err(|error| error.to_string())?);
        let (full, pieces) = channel();
        let (empty, buffers) = channel();
        for _ in 0..PIECES {
            let _ = empty.send(vec![0; bytes]);
        }
        let (source, told, stopped) = (Arc::clone(&socket), Arc::clone(&event), Arc::clone(&stop));
        std::thread::Builder::new()
            .name("kernel".to_owned())
            .spawn(move || read(&source, &buffers, &full, &told, &stopped))
            .map_err(|error| error.to_string())?;
        Ok(Reader { socket, pieces, empty, event, stop })
    }

    /// Sends a request.
    pub(super) fn send(&self, request: &[u8]) -> Result<(), Error> {
        self.socket.send(request)
    }

    /// What the thread reads.
    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// What tells of pieces.
    pub(super) fn event(&self) -> &Event {
        &self.event
    }

    /// The next piece, if there is one.
    pub(super) fn poll(&self) -> Option<Piece> {
        self.pieces.try_recv().ok().or_else(|| {
            // In this order: what comes now tells anew.
            let _ = self.event.take();
            self.pieces.try_recv().ok()
        })
    }

    /// Its buffer may be filled again.
    pub(super) fn done(&self, piece: Piece) {
        let _ = self.empty.send(piece.buffer);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.stop.notify();
    }
}

fn read(
    socket: &Socket,
    buffers: &Receiver<Vec<u8>>,
    full: &Sender<Piece>,
    event: &Event,
    stop: &Event,
) {
    while let Ok(mut buffer) = buffers.recv() {
        let received = loop {
            match socket.receive(&mut buffer) {
                Err(Error::WouldBlock {}) => {
                    let (socket, stop) = (socket.as_fd(), stop.as_fd());
                    let mut fds =
                        [PollFd::new(&socket, PollFlags::IN), PollFd::new(&stop, PollFlags::IN)];
                    let _ = rustix::event::poll(&mut fds, None);
                    if !fds[1].revents().is_empty() {
                        return;
                    }
                }
                other => break other,
            }
        };
        if full.send(Piece { buffer, received }).is_err() {
            return;
        }
        let _ = event.notify();
    }
}
