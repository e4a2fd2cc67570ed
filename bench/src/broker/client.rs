//! Broker clients: `role broker-publish NAME ADDRESS` and `role broker-count NAME ADDRESS`.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::protocol::{Frames, Protocol};
use crate::harness::clock::now_ns;
use crate::harness::stamps::Stamps;
use crate::harness::tally::{SILENCE_MAX, Tally};
use crate::harness::worker::{Order, Reply, Work, serve};

/// A subscriber's read buffer. Larger ones gained nothing.
const READ_BYTES: usize = 256 * 1024;
/// The slowest single delivery to all.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to either broker.
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    fn connect(protocol: Protocol, address: &str) -> Result<Self> {
        let stream = match protocol {
            Protocol::Redis => UnixStream::connect(address).map(Self::Unix),
            Protocol::Nats => TcpStream::connect(address).map(Self::Tcp),
        }
        .with_context(|| format!("connect to {address}"))?;
        if let Self::Tcp(stream) = &stream {
            stream.set_nodelay(true)?;
        }
        match &stream {
            Self::Unix(stream) => stream.set_read_timeout(Some(SILENCE_MAX))?,
            Self::Tcp(stream) => stream.set_read_timeout(Some(SILENCE_MAX))?,
        }
        Ok(stream)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.write_all(bytes),
            Self::Tcp(stream) => stream.write_all(bytes),
        }
    }

    /// Reads and drops whatever comes until it ends with `end`.
    fn read_until(&mut self, end: &[u8]) -> Result<()> {
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        while !seen.ends_with(end) {
            let length = self.read(&mut buffer)?;
            ensure!(length > 0, "the broker hung up: {}", String::from_utf8_lossy(&seen));
            seen.extend(&buffer[..length]);
        }
        Ok(())
    }
}

pub(crate) fn publish(protocol: Protocol, address: &str) -> Result<()> {
    let mut stream = Stream::connect(protocol, address)?;
    stream.write_all(protocol.publisher_hello())?;
    let mut prepared = Vec::new();
    serve(|order, say| {
        match order {
            Order::Prepare(Work::Messages { count }) => {
                prepared.clear();
                (0..count as u64).for_each(|number| protocol.push_publish(&mut prepared, number));
                say(Reply::Prepared { expect: count as u64, after: 0 });
            }
            Order::Prepare(Work::Nothing) => say(Reply::Prepared { expect: 0, after: 0 }),
            Order::Publish => {
                let begun_ns = now_ns();
                stream.write_all(&prepared)?;
                say(Reply::Published { begun_ns });
            }
            Order::OneByOne(address) => {
                let stamps = Stamps::open(&address)?;
                let begun_ns = now_ns();
                for sample in 0..stamps.samples() {
                    prepared.clear();
                    protocol.push_publish(&mut prepared, sample as u64);
                    stamps.written(sample, now_ns());
                    stream.write_all(&prepared)?;
                    stamps.wait(sample, PATIENCE)?;
                }
                say(Reply::Published { begun_ns });
            }
            other => bail!("a broker's publisher cannot {other:?}"),
        }
        Ok(())
    })
}

pub(crate) fn count(protocol: Protocol, address: &str) -> Result<()> {
    let mut stream = Stream::connect(protocol, address)?;
    let (hello, answer) = protocol.subscriber_hello();
    stream.write_all(hello)?;
    stream.read_until(answer)?;
    let mut buffer = vec![0; READ_BYTES];
    let mut frames = Frames::new(protocol);
    serve(|order, say| {
        let Order::Arm(arm) = order else { bail!("a subscriber can only be armed") };
        let mut tally = Tally::new(&arm)?;
        frames.restart();
        say(Reply::Ready);
        let mut filled = 0;
        while !tally.done() {
            match stream.read(&mut buffer[filled..]) {
                Ok(0) => bail!("the broker hung up after {} messages", tally.received()),
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
            let taken = frames.take(&buffer[..filled])?;
            buffer.copy_within(taken.bytes..filled, 0);
            filled -= taken.bytes;
            if taken.ping {
                stream.write_all(b"PONG\r\n")?;
            }
            if taken.messages > 0 {
                tally.add(taken.messages);
            }
        }
        ensure!(filled == 0, "{filled} bytes more than expected");
        say(tally.reply(0));
        Ok(())
    })
}
