//! A client that takes descriptors, frame by frame.

use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rtm_tables::wire::{
    ClientFrame, DaemonFrame, DescriptorKind, FEATURE_ACK, Frame, Hello, VERSION, VERSION_LOWEST,
};

use super::{Patience, Rtmd};

/// A connection that takes descriptors.
pub struct Taker {
    pub stream: UnixStream,
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Taker {
    pub fn new(rtmd: &Rtmd, name: &str) -> Taker {
        let stream = UnixStream::connect(rtmd.socket()).unwrap();
        let mut taker = Taker { stream, bytes: Vec::new(), descriptors: VecDeque::new() };
        taker.send(&ClientFrame::Hello(Hello {
            version: VERSION,
            lowest: VERSION_LOWEST,
            frame_bytes_max: 64 * 1024,
            features: FEATURE_ACK,
            name,
        }));
        taker
    }

    pub fn send(&mut self, frame: &ClientFrame<'_>) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    /// Asks, and reads to the answer.
    pub fn want(&mut self, kind: DescriptorKind) -> Result<OwnedFd, String> {
        self.send(&ClientFrame::Want { kind });
        let patience = Patience::new();
        loop {
            patience.check("a descriptor");
            while let Some((frame, length)) = Frame::split(&self.bytes, 1 << 20).unwrap() {
                let answer = match DaemonFrame::decode(&frame).unwrap() {
                    Some(DaemonFrame::Descriptor { kind: of, given, text }) => {
                        assert_eq!(of, kind);
                        Some((given, text.to_owned()))
                    }
                    _ => None,
                };
                self.bytes.drain(..length);
                if let Some((given, text)) = answer {
                    assert_eq!(given, text.is_empty());
                    return if given {
                        Ok(self.descriptors.pop_front().unwrap())
                    } else {
                        Err(text)
                    };
                }
            }
            let mut buffer = [0; 4096];
            let received = ipc::descriptors::receive(&self.stream, &mut buffer, 1).unwrap();
            assert_ne!(received.bytes, 0, "closed");
            self.bytes.extend_from_slice(&buffer[..received.bytes]);
            self.descriptors.extend(received.descriptors);
        }
    }
}
