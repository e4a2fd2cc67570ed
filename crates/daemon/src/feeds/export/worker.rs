//! The thread that talks to the kernel: requests wait there for its locks.
//!
//! A batch is one datagram. Only its last request asks for an acknowledgement:
//! the kernel answers each that it refuses, and works them off in order, so the
//! acknowledgement says that all were.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};

use ipc::event::Event;
use ipc::netlink::{self, Error, Socket};
use rtm_netlink::{Body, Builder, flag, kind, messages};
use rustix::event::{PollFd, PollFlags};

use super::Key;

/// Batches that may wait.
const WAITING: usize = 2;
/// Refusals of a whole batch must find room.
const RECEIVE_BYTES: usize = 1 << 20;
const BUFFER_BYTES: usize = 64 * 1024;

/// Requests that are sent together.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: Builder,
    /// Number, key, and whether it is a delete.
    pub(super) requests: Vec<(u32, Key, bool)>,
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }
}

/// What came of a batch.
pub(super) struct Outcome {
    pub(super) requests: Vec<(u32, Key, bool)>,
    /// Those refused, in their order: number, errno, the kernel's words.
    pub(super) refused: Vec<(u32, u32, String)>,
    /// The socket failed: what came of the rest isn't known.
    pub(super) failed: Option<String>,
}

/// The way to the thread.
pub(super) struct Worker {
    sender: SyncSender<Batch>,
    receiver: Receiver<Outcome>,
    event: Arc<Event>,
    port: u32,
    under_way: usize,
}

impl Worker {
    pub(super) fn start() -> Result<Worker, String> {
        let socket = Socket::open(netlink::ROUTE).map_err(|error| error.to_string())?;
        socket.set_extended_ack(true).map_err(|error| error.to_string())?;
        socket.set_capped_ack(true).map_err(|error| error.to_string())?;
        ipc::socket::set_receive_buffer(&socket, RECEIVE_BYTES)
            .map_err(|error| error.to_string())?;
        let port = socket.port();
        let event = Arc::new(Event::new().map_err(|error| error.to_string())?);
        let (sender, batches) = sync_channel(WAITING);
        let (outcomes, receiver) = channel();
        let told = Arc::clone(&event);
        std::thread::Builder::new()
            .name("export".to_owned())
            .spawn(move || work(&socket, &batches, &outcomes, &told))
            .map_err(|error| error.to_string())?;
        Ok(Worker { sender, receiver, event, port, under_way: 0 })
    }

    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// What tells of outcomes.
    pub(super) fn event(&self) -> &Event {
        &self.event
    }

    pub(super) fn has_room(&self) -> bool {
        self.under_way < WAITING
    }

    pub(super) fn is_idle(&self) -> bool {
        self.under_way == 0
    }

    /// Hands a batch over: there was room.
    pub(super) fn send(&mut self, batch: Batch) {
        if self.sender.try_send(batch).is_ok() {
            self.under_way += 1;
        }
    }

    pub(super) fn poll(&mut self) -> Option<Outcome> {
        match self.receiver.try_recv() {
            Ok(outcome) => {
                self.under_way -= 1;
                Some(outcome)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                let _ = self.event.take();
                self.receiver.try_recv().ok().inspect(|_| self.under_way -= 1)
            }
        }
    }
}

fn work(socket: &Socket, batches: &Receiver<Batch>, outcomes: &Sender<Outcome>, event: &Event) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(mut batch) = batches.recv() {
        let mut outcome = Outcome { requests: Vec::new(), refused: Vec::new(), failed: None };
        if let Some(&(last, ..)) = batch.requests.last() {
            // Its own number: the end of the batch, whatever came of the rest.
            let end = last.wrapping_add(1 << 31);
            batch.bytes.begin(kind::NOOP, flag::REQUEST | flag::ACK, end, &[]);
            batch.bytes.end();
            if let Err(error) = exchange(socket, &batch, end, &mut outcome, &mut buffer) {
                outcome.failed = Some(error.to_string());
            }
        }
        outcome.requests = batch.requests;
        if outcomes.send(outcome).is_err() {
            return;
        }
        let _ = event.notify();
    }
}

fn exchange(
    socket: &Socket,
    batch: &Batch,
    end: u32,
    outcome: &mut Outcome,
    buffer: &mut [u8],
) -> Result<(), Error> {
    loop {
        match socket.send(batch.bytes.bytes()) {
            Ok(()) => break,
            Err(Error::WouldBlock {}) => wait(socket, PollFlags::OUT),
            Err(error) => return Err(error),
        }
    }
    loop {
        let datagram = match socket.receive(buffer) {
            Ok(datagram) => datagram,
            Err(Error::WouldBlock {}) => {
                wait(socket, PollFlags::IN);
                continue;
            }
            Err(error) => return Err(error),
        };
        if datagram.sender != netlink::KERNEL {
            continue;
        }
        for message in messages(&buffer[..datagram.len]).flatten() {
            let Ok(Body::Answer(answer)) = Body::decode(message) else { continue };
            if answer.sequence == end {
                return Ok(());
            }
            if answer.errno != 0 {
                let text = String::from_utf8_lossy(answer.text).into_owned();
                outcome.refused.push((answer.sequence, answer.errno, text));
            }
        }
    }
}

fn wait(socket: &Socket, flags: PollFlags) {
    let fd = socket.as_fd();
    let _ = rustix::event::poll(&mut [PollFd::new(&fd, flags)], None);
}
