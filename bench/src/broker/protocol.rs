//! RESP and the NATS protocol, as far as publishing and counting need them.
//!
//! Both deliver a message of known size as constant bytes, the payload and a
//! line end, so a subscriber compares the constant bytes and skips the rest.
//! Anything else that comes in between is a control line.

use anyhow::{Result, bail, ensure};

/// One change as brokers carry it.
pub(crate) const PAYLOAD_BYTES: usize = 80;
const LINE_END: &[u8] = b"\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Redis,
    Nats,
}

impl Protocol {
    pub(crate) fn parse(name: &str) -> Result<Self> {
        match name {
            "redis" => Ok(Self::Redis),
            "nats" => Ok(Self::Nats),
            _ => bail!("no broker called {name}"),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Nats => "nats",
        }
    }

    /// What a publisher sends first. Redis would otherwise answer every message.
    pub(crate) fn publisher_hello(self) -> &'static [u8] {
        match self {
            Self::Redis => b"CLIENT REPLY OFF\r\n",
            Self::Nats => b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n",
        }
    }

    /// What a subscriber sends first, and the line end of the answer that says
    /// that the subscription stands.
    pub(crate) fn subscriber_hello(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Redis => (b"SUBSCRIBE rtm\r\n", b"\r\n:1\r\n"),
            Self::Nats => (
                b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB rtm 1\r\nPING\r\n",
                b"PONG\r\n",
            ),
        }
    }

    fn publish_head(self) -> &'static [u8] {
        match self {
            Self::Redis => b"*3\r\n$7\r\nPUBLISH\r\n$3\r\nrtm\r\n$80\r\n",
            Self::Nats => b"PUB rtm 80\r\n",
        }
    }

    fn message_head(self) -> &'static [u8] {
        match self {
            Self::Redis => b"*3\r\n$7\r\nmessage\r\n$3\r\nrtm\r\n$80\r\n",
            Self::Nats => b"MSG rtm 1 80\r\n",
        }
    }

    /// Appends the publishing of message number `number`.
    pub(crate) fn push_publish(self, out: &mut Vec<u8>, number: u64) {
        out.extend(self.publish_head());
        out.extend(number.to_le_bytes());
        out.resize(out.len() + PAYLOAD_BYTES - 8, b'r');
        out.extend(LINE_END);
    }
}

/// What [`Frames::take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) messages: u64,
    /// Bytes that belong to whole messages or control lines.
    pub(crate) bytes: usize,
    /// The broker wants to know whether we live.
    pub(crate) ping: bool,
}

/// A subscriber's place in the stream.
pub(crate) struct Frames {
    protocol: Protocol,
    next: u64,
}

impl Frames {
    pub(crate) fn new(protocol: Protocol) -> Self {
        Self { protocol, next: 0 }
    }

    /// The publisher begins to count anew.
    pub(crate) fn restart(&mut self) {
        self.next = 0;
    }

    /// Walks over all whole messages of `bytes` and checks their order.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Taken> {
        let head = self.protocol.message_head();
        let frame_bytes = head.len() + PAYLOAD_BYTES + LINE_END.len();
        let mut taken = Taken { messages: 0, bytes: 0, ping: false };
        loop {
            let rest = &bytes[taken.bytes..];
            if rest.starts_with(head) {
                let Some(number) =
                    rest.get(..frame_bytes).and_then(|frame| frame[head.len()..].first_chunk())
                else {
                    return Ok(taken);
                };
                let number = u64::from_le_bytes(*number);
                ensure!(number == self.next, "message {number} instead of {}", self.next);
                self.next += 1;
                taken.messages += 1;
                taken.bytes += frame_bytes;
                continue;
            }
            if head.starts_with(&rest[..rest.len().min(head.len())]) {
                return Ok(taken); // nothing, or the beginning of a message
            }
            let Some(end) = rest.windows(2).position(|pair| pair == LINE_END) else {
                return Ok(taken); // the beginning of a control line
            };
            let line = &rest[..end];
            taken.ping |= line == b"PING";
            ensure!(
                line == b"PING" || line == b"PONG" || line == b"+OK",
                "the broker says: {}",
                String::from_utf8_lossy(line)
            );
            taken.bytes += end + 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(protocol: Protocol, number: u64) -> Vec<u8> {
        let mut bytes = protocol.message_head().to_vec();
        bytes.extend(number.to_le_bytes());
        bytes.resize(bytes.len() + PAYLOAD_BYTES - 8, b'r');
        bytes.extend(LINE_END);
        bytes
    }

    #[test]
    fn messages_are_counted_wherever_a_read_ends() {
        for protocol in [Protocol::Redis, Protocol::Nats] {
            let mut stream = delivered(protocol, 0);
            if protocol == Protocol::Nats {
                stream.extend(b"PING\r\n");
            }
            stream.extend(delivered(protocol, 1));
            for cut in 0..=stream.len() {
                let mut frames = Frames::new(protocol);
                let first = frames.take(&stream[..cut]).unwrap();
                let second = frames.take(&stream[first.bytes..]).unwrap();
                assert_eq!(first.messages + second.messages, 2, "{protocol:?} cut at {cut}");
                assert_eq!(first.bytes + second.bytes, stream.len());
                assert_eq!(first.ping || second.ping, protocol == Protocol::Nats);
            }
        }
    }

    #[test]
    fn a_gap_and_an_error_are_told() {
        let mut frames = Frames::new(Protocol::Redis);
        assert!(frames.take(&delivered(Protocol::Redis, 1)).is_err());
        let mut frames = Frames::new(Protocol::Nats);
        assert!(frames.take(b"-ERR 'Slow Consumer'\r\n").is_err());
    }

    #[test]
    fn publishing_has_the_payload_that_was_promised() {
        let mut bytes = Vec::new();
        Protocol::Nats.push_publish(&mut bytes, 3);
        assert_eq!(bytes.len(), b"PUB rtm 80\r\n".len() + 80 + 2);
    }
}
