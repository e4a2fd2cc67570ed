//! Subscribers that never read: `role rtm-silent SOCKET COUNT`.
//!
//! One process holds them all: what they cost the daemon doesn't depend on how
//! many processes they are. They connect one after another, at moments of
//! their own. Every second one stops in the middle of its snapshot; the others
//! take it to its end and stop then. All stay connected and never read again.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rtm_tables::{ClientConfig, ClientSession, Progress};

use crate::harness::clock::now_ns;
use crate::harness::tally::SILENCE_MAX;
use crate::harness::worker::{Order, Reply, serve};

/// Time between two of them.
const PAUSE: Duration = Duration::from_millis(10);
/// Where those that stop in the middle do: far from either end of a full table.
const MIDDLE_BYTES: usize = 10 << 20;

/// Connects them at `Join` and keeps them until the bench ends.
pub(crate) fn run(socket: &Path, count: usize) -> Result<()> {
    let mut silent = Vec::with_capacity(count);
    serve(|order, say| {
        let Order::Join = order else { bail!("these can only join") };
        let begun_ns = now_ns();
        let mut buffer = vec![0; 256 * 1024];
        for which in 0..count {
            silent.push(one(socket, which % 2 == 0, &mut buffer)?);
            thread::sleep(PAUSE);
        }
        say(Reply::Joined { routes: 0, begun_ns, ended_ns: now_ns() });
        Ok(())
    })
}

fn one(socket: &Path, in_the_middle: bool, buffer: &mut [u8]) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let config = ClientConfig { name: "bench-silent".to_owned(), ..ClientConfig::default() };
    let mut session = ClientSession::new(config, 0);
    session.subscribe(None, "");
    stream.write_all(session.output())?;
    let mut taken = 0;
    while session.progress() != Progress::Live && !(in_the_middle && taken >= MIDDLE_BYTES) {
        let length = stream.read(buffer)?;
        ensure!(length > 0, "the daemon hung up");
        taken += length;
        session.handle_bytes(&buffer[..length], 0);
        while session.poll_event()?.is_some() {}
    }
    Ok(stream)
}
