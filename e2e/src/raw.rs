//! A client that speaks the wire by hand: what the library would never send.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rtm_tables::wire::{
    ClientFrame, DaemonFrame, Frame, Hello, SignalWay, Subscribe, SubscribeMode,
};
use rtm_tables::{Epoch, Revision};

use crate::process::PATIENCE;

/// A HELLO and a SUBSCRIBE to everything.
pub fn greeting(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let hello = Hello { version: 1, lowest: 1, frame_bytes_max: 65536, features: 0, name };
    ClientFrame::Hello(hello).encode(&mut bytes);
    ClientFrame::Subscribe(Subscribe {
        epoch: Epoch(0),
        revision: Revision(0),
        mode: SubscribeMode::Full,
        filter: "",
    })
    .encode(&mut bytes);
    bytes
}

/// A connection that was made by hand.
pub struct Client {
    /// The socket.
    pub stream: UnixStream,
    received: Vec<u8>,
}

impl Client {
    /// Over this socket, which has greeted or is to greet.
    pub fn over(stream: UnixStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream, received: Vec::new() }
    }

    /// To the daemon in this directory; it has greeted.
    pub fn follow(directory: &Path, name: &str) -> Client {
        let mut stream = UnixStream::connect(directory.join("rtm.sock")).unwrap();
        stream.write_all(&greeting(name)).unwrap();
        Client::over(stream)
    }

    /// Registers a pid; gives the answer.
    pub fn register(&mut self, pid: u32) -> (SignalWay, String) {
        let mut bytes = Vec::new();
        ClientFrame::Register { pid }.encode(&mut bytes);
        self.stream.write_all(&bytes).unwrap();
        loop {
            while let Ok(Some((frame, length))) = Frame::split(&self.received, 65536) {
                let answer = match DaemonFrame::decode(&frame) {
                    Ok(Some(DaemonFrame::Registered { way, text })) => Some((way, text.to_owned())),
                    _ => None,
                };
                self.received.drain(..length);
                if let Some(answer) = answer {
                    return answer;
                }
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "it ended the session");
            self.received.extend_from_slice(&buffer[..count]);
        }
    }
}
