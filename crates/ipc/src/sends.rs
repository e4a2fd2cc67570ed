//! Small messages to many sockets in one system call.
//!
//! ```
//! use std::io::IoSlice;
//! use std::os::fd::AsFd;
//! use ipc::sends::Sends;
//! let (a, a_peer) = ipc::unix::pair(ipc::unix::Kind::Stream)?;
//! let (b, b_peer) = ipc::unix::pair(ipc::unix::Kind::Stream)?;
//! // Where io_uring is forbidden there is none: send to one after the other.
//! let Ok(mut sends) = Sends::new(8) else { return Ok(()) };
//! assert!(sends.push(&[IoSlice::new(b"to "), IoSlice::new(b"a")]));
//! assert!(sends.push(&[IoSlice::new(b"to b")]));
//! let sent = sends.send([a.as_fd(), b.as_fd()]);
//! assert_eq!(sent, [Some(Ok(4)), Some(Ok(4))]);
//! let mut bytes = [0; 8];
//! assert_eq!(rustix::io::read(&a_peer, &mut bytes)?, 4);
//! assert_eq!(&bytes[..4], b"to a");
//! # let _ = b_peer;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What it is for: whoever sends to sleeping readers wakes them, and a reader that
//! was woken on the sender's processor interrupts it at the end of that call. In
//! one call for all nobody does, and each switch to and fro is saved.
//!
//! No send waits (`MSG_DONTWAIT`) and none raises SIGPIPE; all have ended when the
//! call returns. To be used by the thread that made it.
#![allow(unsafe_code)] // what the kernel is told to send from must stay where it is

use core::fmt;
use core::ops::Range;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{IoUring, opcode, types};

use crate::{Errno, SystemError};

/// Messages that are sent together.
pub struct Sends {
    /// `None`: it failed once, and isn't used any more.
    ring: Option<IoUring>,
    most: usize,
    bytes: Vec<u8>,
    /// Where in `bytes` each message lies. Equal ones that follow each other share
    /// a place.
    messages: Vec<Range<usize>>,
    sent: Vec<Option<Result<usize, Errno>>>,
}

impl fmt::Debug for Sends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sends").field("messages", &self.messages.len()).finish_non_exhaustive()
    }
}

impl Sends {
    /// For at most so many messages at once (rounded up to a power of two).
    ///
    /// # Errors
    /// EPERM or ENOSYS: it is forbidden (`kernel.io_uring_disabled`, a container's
    /// filter of system calls) or the kernel has none; ENOMEM, EMFILE, ENFILE.
    ///
    /// Source: [io_uring_setup(2)](https://man7.org/linux/man-pages/man2/io_uring_setup.2.html).
    #[doc(alias = "io_uring_setup")]
    pub fn new(most: u32) -> Result<Self, SystemError> {
        // Since Linux 6.0 and 6.1; what is older does without.
        let mut builder = IoUring::builder();
        builder.dontfork().setup_single_issuer().setup_coop_taskrun().setup_submit_all();
        let ring = builder
            .build(most)
            .or_else(|error| match error.raw_os_error() {
                Some(libc::EINVAL) => IoUring::builder().dontfork().build(most),
                _ => Err(error),
            })
            .map_err(|error| SystemError::new("io_uring_setup", "sends", errno_of(&error)))?;
        Ok(Self {
            most: ring.params().sq_entries() as usize,
            ring: Some(ring),
            bytes: Vec::new(),
            messages: Vec::new(),
            sent: Vec::new(),
        })
    }

    /// Does it work? Not any more once a submission has failed.
    #[must_use]
    pub fn works(&self) -> bool {
        self.ring.is_some()
    }

    /// Its descriptor, while it works.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        let ring = self.ring.as_ref()?;
        // SAFETY: the ring owns the descriptor and lives as long as the borrow.
        Some(unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) })
    }

    /// Adds a message, copying it. False: as many as can be sent at once are there.
    pub fn push(&mut self, parts: &[IoSlice<'_>]) -> bool {
        if self.messages.len() == self.most {
            return false;
        }
        let start = self.bytes.len();
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        let mut place = start..self.bytes.len();
        if let Some(before) = self.messages.last() {
            if self.bytes[before.clone()] == self.bytes[place.clone()] {
                place = before.clone();
                self.bytes.truncate(start);
            }
        }
        self.messages.push(place);
        true
    }

    /// Sends the first message to the first socket, the second to the second, and
    /// so on, and forgets them. What became of each: as of `send` with
    /// `MSG_DONTWAIT`; `None`: it wasn't tried, as there are fewer sockets, or as the
    /// submission failed.
    ///
    /// Source: [io_uring_enter(2)](https://man7.org/linux/man-pages/man2/io_uring_enter.2.html).
    #[doc(alias = "io_uring_enter")]
    pub fn send<'fd>(
        &mut self,
        sockets: impl IntoIterator<Item = BorrowedFd<'fd>>,
    ) -> &[Option<Result<usize, Errno>>] {
        self.sent.clear();
        self.sent.resize(self.messages.len(), None);
        // Until every send has ended the descriptors stay borrowed.
        let sockets: Vec<BorrowedFd<'fd>> = sockets.into_iter().take(self.messages.len()).collect();
        if let Some(mut ring) = self.ring.take() {
            if self.submit(&mut ring, &sockets) {
                self.ring = Some(ring);
            } else {
                // Whatever the kernel may still look at is never given back.
                std::mem::forget(std::mem::take(&mut self.bytes));
            }
        }
        self.bytes.clear();
        self.messages.clear();
        &self.sent
    }

    /// False: the ring is of no use any more.
    fn submit(&mut self, ring: &mut IoUring, sockets: &[BorrowedFd<'_>]) -> bool {
        let mut queue = ring.submission();
        for (number, (socket, place)) in sockets.iter().zip(&self.messages).enumerate() {
            let message = &self.bytes[place.clone()];
            let Ok(length) = u32::try_from(message.len()) else { return false };
            let send = opcode::Send::new(types::Fd(socket.as_raw_fd()), message.as_ptr(), length)
                .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .build()
                .user_data(number as u64);
            // SAFETY: the entry points into `self.bytes`, which nobody changes before
            // each send has ended: `self` is borrowed until this function returns, and
            // it returns true only when all completions have been seen, while after
            // false the caller leaks the bytes. The sockets are borrowed as long.
            if unsafe { queue.push(&send) }.is_err() {
                return false;
            }
        }
        drop(queue);
        let count = sockets.len();
        while ring.completion().len() < count {
            match ring.submit_and_wait(count) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(_) => break,
            }
        }
        let mut seen = 0;
        for completion in ring.completion() {
            let sent = match usize::try_from(completion.result()) {
                Ok(count) => Ok(count),
                Err(_) => Err(Errno::from_raw_os_error(-completion.result())),
            };
            if let Some(place) = self.sent.get_mut(completion.user_data() as usize) {
                *place = Some(sent);
                seen += 1;
            }
        }
        seen == count
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unix::{Kind, pair};
    use std::os::fd::{AsFd, OwnedFd};

    fn sends(most: u32) -> Option<Sends> {
        match Sends::new(most) {
            Ok(sends) => Some(sends),
            // Forbidden here: there is nothing to test.
            Err(error) => {
                println!("not run: sends ({error})");
                None
            }
        }
    }

    fn read(fd: &OwnedFd) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        let count = rustix::io::read(fd, &mut bytes).unwrap_or(0);
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn each_socket_gets_its_own_and_each_failure_is_its_own() {
        let Some(mut sends) = sends(8) else { return };
        let pairs: Vec<_> = (0..6).map(|_| pair(Kind::Stream).unwrap()).collect();
        let (ours, mut theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        for round in 0..100_u32 {
            let text = |which: usize| format!("{}", round as usize + which / 2).into_bytes();
            for which in 0..6 {
                assert!(sends.push(&[IoSlice::new(b"to "), IoSlice::new(&text(which))]));
            }
            let sent: Vec<_> = sends.send(ours.iter().map(AsFd::as_fd)).to_vec();
            for which in 0..6 {
                let expected = [b"to ".as_slice(), &text(which)].concat();
                assert_eq!(sent[which], Some(Ok(expected.len())));
                assert_eq!(read(&theirs[which]), expected);
            }
        }
        // One peer is gone, one takes no more.
        drop(theirs.remove(1));
        rustix::io::ioctl_fionbio(&ours[2], true).unwrap();
        while rustix::io::write(&ours[2], &[0; 65536]).is_ok() {}
        for _ in 0..4 {
            assert!(sends.push(&[IoSlice::new(&[7; 100_000])]));
        }
        let sent: Vec<_> = sends.send(ours.iter().map(AsFd::as_fd)).to_vec();
        assert_eq!(sent[0], Some(Ok(100_000)));
        assert_eq!(sent[1..3], [Some(Err(Errno::PIPE)), Some(Err(Errno::AGAIN))]);
        assert_eq!(sent[3], Some(Ok(100_000)));
        assert!(sends.works());
    }

    #[test]
    fn what_a_socket_has_no_room_for_is_left() {
        let Some(mut sends) = sends(2) else { return };
        let (ours, theirs) = pair(Kind::Stream).unwrap();
        let message = vec![1; 8 << 20];
        assert!(sends.push(&[IoSlice::new(&message)]));
        let sent = sends.send([ours.as_fd()])[0].unwrap().unwrap();
        assert!(sent > 0 && sent < message.len(), "{sent}");
        assert!(!read(&theirs).is_empty());
    }

    #[test]
    fn it_takes_as_many_as_it_was_made_for() {
        let Some(mut sends) = sends(2) else { return };
        let (ours, theirs) = pair(Kind::Stream).unwrap();
        for fits in [true, true, false] {
            assert_eq!(sends.push(&[IoSlice::new(b"one")]), fits);
        }
        // For the second message there is no socket.
        assert_eq!(sends.send([ours.as_fd()]), [Some(Ok(3)), None]);
        assert_eq!(read(&theirs), b"one");
        assert!(sends.push(&[IoSlice::new(b"two")]));
        assert_eq!(sends.send([ours.as_fd()]), [Some(Ok(3))]);
        assert_eq!(read(&theirs), b"two");
    }
}
