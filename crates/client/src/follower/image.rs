//! The image of a follower: asked for, attached, and attached again when it moved.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use ipc::armed::ArmedPipe;
use ipc::signal::Signal;
use rtm_image::Reader;
use rtm_tables::wire::DescriptorKind;
use rtm_tables::{Compare, Epoch};

use super::Follower;
use crate::error::Error;
use crate::event::{Event, Sink};

impl Follower {
    /// The tables in shared memory, once they are attached. Without a connection
    /// they stay as the daemon left them: [`Reader::writer`] tells what became
    /// of it.
    pub fn image(&self) -> Option<&Reader> {
        self.image.as_ref()
    }

    /// Becomes readable when something became visible in the image: read what is
    /// in it, then look. Another pipe after a reconnect.
    pub fn wake_pipe(&self) -> Option<BorrowedFd<'_>> {
        self.wake.as_ref().map(AsFd::as_fd)
    }

    /// The wake pipe, for who watches and drains it; `None` until there is another.
    pub fn take_wake_pipe(&mut self) -> Option<OwnedFd> {
        self.wake.take()
    }

    /// Takes the bytes out of the wake pipe. False: it is over, the daemon is
    /// gone or the session is.
    pub fn drain_wake_pipe(&mut self) -> bool {
        let Some(pipe) = &self.wake else { return false };
        let mut bytes = [0; 4096];
        match rustix::io::read(pipe, &mut bytes) {
            Ok(0) => {
                self.wake = None;
                false
            }
            _ => true,
        }
    }

    /// Asks for the image again if it moved. For who looks things up without
    /// driving the follower otherwise; cheap if there is nothing to do.
    ///
    /// # Errors
    /// As [`Follower::on_ready`].
    pub fn refresh(&mut self, tell: Sink<'_>) -> Result<(), Error> {
        if self.image.as_ref().is_some_and(Reader::writer_moved) {
            return self.on_ready(Instant::now(), tell);
        }
        Ok(())
    }

    /// Sees to it that the attached image is the newest.
    pub(super) fn ask_for_image(&mut self) {
        let moved = self.image.as_ref().is_some_and(Reader::writer_moved);
        if !moved || self.image_asked {
            return;
        }
        if let Some(transport) = &mut self.transport {
            transport.session.want(DescriptorKind::Image);
            self.image_asked = true;
        }
    }

    /// What came for a WANT.
    pub(super) fn descriptor(
        &mut self,
        kind: DescriptorKind,
        given: bool,
        why: String,
        tell: Sink<'_>,
    ) -> Result<(), Error> {
        let Some(transport) = &mut self.transport else { return Ok(()) };
        let address = transport.connection.address().clone();
        let fd = if given { transport.take_descriptor() } else { None };
        if kind == DescriptorKind::SignalPipe {
            // Without one it registers all the same: the daemon may signal its process.
            self.armed = fd.and_then(|pipe| ArmedPipe::arm(pipe, Signal::USR1).ok());
            transport.session.register(std::process::id());
            return Ok(());
        }
        let Some(fd) = fd else {
            let why = if given { "it announced one and sent none".to_owned() } else { why };
            return Err(Error::NoDescriptor { address, kind, why });
        };
        match kind {
            DescriptorKind::Image => {
                let image = Reader::attach(fd).map_err(|error| Error::Image { address, error })?;
                tell(Event::Attached { image: &image });
                self.image = Some(image);
                self.image_asked = false;
                if let Some(at) = self.owed.take() {
                    self.answer_for_image(&at);
                }
            }
            DescriptorKind::WakePipe => self.wake = Some(fd),
            _ => {}
        }
        Ok(())
    }

    /// A barrier's question to who has no copy but the image: does it show that
    /// revision? It is published before the mark is sent.
    pub(super) fn answer_for_image(&mut self, at: &Compare) {
        let (Some(transport), Some(image)) = (&mut self.transport, &self.image) else { return };
        let state = image.state();
        let epoch = transport.session.epoch().unwrap_or(Epoch(0));
        let shows =
            state.is_ok_and(|state| state.epoch == epoch.0 && state.revision >= at.revision.0);
        if !shows && (image.writer_moved() || self.image_asked) {
            self.owed = Some(*at);
            return self.ask_for_image();
        }
        transport.session.compared(at, shows);
    }
}
