//! Descriptors that clients want: passed with the frame that answers.
//!
//! What is passed is never what the daemon itself uses: of a pipe the reader's
//! end, whose open file description the daemon drops once it is sent; the write
//! end stays here, non-blocking, and nobody else has it. So a client can fill a
//! pipe, close it or set what flags it likes on its end, and only does without
//! what the pipe would have told it.
//!
//! What it costs: a session has at most one pipe of each kind, and their write
//! ends count among the descriptors that limit the number of sessions.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rtm_tables::wire::DescriptorKind;
use rustix::io::Errno;

use super::{Clients, get};
use crate::core::Core;
use crate::wakeup::ClientToken;

/// What goes with a DESCRIPTOR frame that waits to be written.
pub(super) enum Attachment {
    /// The image: whichever object it is when the frame is written.
    Image,
    /// The read end of a pipe.
    Pipe(OwnedFd),
}

impl Attachment {
    pub(super) fn descriptor<'a>(&'a self, core: &'a Core) -> BorrowedFd<'a> {
        match self {
            Attachment::Image => core.image.descriptor(),
            Attachment::Pipe(reader) => reader.as_fd(),
        }
    }
}

/// The write ends of the pipes that a client reads.
#[derive(Default)]
pub(super) struct Pipes {
    signal: Option<OwnedFd>,
    wake: Option<OwnedFd>,
}

impl Pipes {
    pub(super) fn count(&self) -> usize {
        usize::from(self.signal.is_some()) + usize::from(self.wake.is_some())
    }

    /// Was a signal pipe given?
    pub(super) fn has_signal(&self) -> bool {
        self.signal.is_some()
    }

    fn of(&mut self, kind: DescriptorKind) -> Option<&mut Option<OwnedFd>> {
        match kind {
            DescriptorKind::SignalPipe => Some(&mut self.signal),
            DescriptorKind::WakePipe => Some(&mut self.wake),
            _ => None,
        }
    }
}

/// What came of a byte for a pipe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// It is in, or the pipe is full of bytes that say the same.
    Yes,
    /// The client has no such pipe.
    NoPipe,
    /// Nobody has the read end any more: it was closed, or went with an exec.
    Gone,
}

impl Clients {
    /// Those who waited for the image get it, if it is up to date.
    pub(crate) fn give_image(&mut self, core: &mut Core) {
        if self.want_image.is_empty() || core.image.is_pending() {
            return;
        }
        for token in std::mem::take(&mut self.want_image) {
            self.want(token, DescriptorKind::Image, core);
        }
    }

    /// Answers a WANT; for an image that isn't up to date as soon as it is.
    pub(super) fn want(&mut self, token: ClientToken, kind: DescriptorKind, core: &mut Core) {
        let image = match kind {
            DescriptorKind::Image => core.image.give(),
            _ => Ok(true),
        };
        if image == Ok(false) {
            self.want_image.retain(|&other| get(&mut self.slots, other).is_some());
            if !self.want_image.contains(&token) {
                self.want_image.push(token);
            }
            return;
        }
        let attachment = match kind {
            DescriptorKind::SignalPipe | DescriptorKind::WakePipe => self.pipe(token, kind),
            DescriptorKind::Image => image.map(|_| Attachment::Image),
            _ => Err("this daemon knows no descriptor of this kind".to_owned()),
        };
        let Some(client) = get(&mut self.slots, token) else { return };
        match attachment {
            Ok(attachment) => {
                if client.session.descriptor(kind) {
                    client.attachment = Some(attachment);
                } else {
                    self.drop_pipe(token, kind);
                }
            }
            Err(why) => client.session.no_descriptor(kind, &why),
        }
        self.queue_answer(token);
    }

    /// A new pipe for a client: keeps the write end.
    fn pipe(&mut self, token: ClientToken, kind: DescriptorKind) -> Result<Attachment, String> {
        // One place is left for whoever connects next.
        if self.count + self.pipes + 1 >= self.descriptors {
            return Err(format!(
                "{} descriptors are in use for connections and pipes; RLIMIT_NOFILE allows no more",
                self.count + self.pipes
            ));
        }
        let place = get(&mut self.slots, token).and_then(|client| client.pipes.of(kind));
        let Some(place) = place else { return Err(format!("no pipe is a {}", kind.name())) };
        if place.is_some() {
            return Err(format!("this session has a {} already", kind.name()));
        }
        let (reader, writer) = ipc::pipe::wake_pipe().map_err(|error| error.to_string())?;
        *place = Some(writer);
        self.pipes += 1;
        if kind == DescriptorKind::WakePipe {
            self.wakers.push(token);
        }
        Ok(Attachment::Pipe(reader))
    }

    fn drop_pipe(&mut self, token: ClientToken, kind: DescriptorKind) {
        let Some(client) = get(&mut self.slots, token) else { return };
        if client.pipes.of(kind).is_some_and(|place| place.take().is_some()) {
            self.pipes -= 1;
        }
    }

    /// Something became visible: a byte for everyone who has a wake pipe.
    pub(crate) fn wake_pipes(&mut self) {
        let mut wakers = std::mem::take(&mut self.wakers);
        wakers.retain(|&token| self.tell(token, DescriptorKind::WakePipe) == Told::Yes);
        self.wakers = wakers;
    }

    /// Writes a byte into a client's pipe. Never waits: a full pipe says the
    /// same already. One whose reader is gone is closed.
    pub(crate) fn tell(&mut self, token: ClientToken, kind: DescriptorKind) -> Told {
        let Some(client) = get(&mut self.slots, token) else { return Told::NoPipe };
        let Some(Some(writer)) = client.pipes.of(kind) else { return Told::NoPipe };
        match rustix::io::write(&*writer, &[1]) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Told::Yes,
            Err(_) => {
                self.drop_pipe(token, kind);
                Told::Gone
            }
        }
    }
}
