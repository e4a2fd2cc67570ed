//! The two sides of each demonstration.
//!
//! Who waits for a byte in shared memory sleeps on its word, and looks again
//! ten times a second: the other side may be a program that wakes nobody.
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::io::{BufRead, Read};

use ipc::futex;
use ipc::map::{Map, MapMut};
use ipc::mq::{self, Access, Queue};
use ipc::sem::Shared;
use ipc::shm::{self, Object};
use ipc::sysv::{Key, Options, segment::Segment};
use ipc::timer::Wait;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::{Started, ourselves};
use crate::argument::uninterrupted;
use crate::failure::{Failure, line};

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Sleeps until the word at `offset` satisfies `done`.
fn until(map: &Map, offset: usize, done: impl Fn(u32) -> bool) -> Result<u32, Failure> {
    loop {
        let word = map.load_u32(offset, Ordering::Acquire);
        if done(word) {
            return Ok(word);
        }
        futex::wait(map, offset, word, Some(LOOK_AGAIN))?;
    }
}

/// Removes a segment at the end, however that comes.
struct Removed(Segment);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = self.0.remove();
    }
}

const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz\0";
const ALPHABET_KEY: Key = Key::Number(5678);

pub(super) fn alphabet_server() -> Result<(), Failure> {
    let options = Options { mode: 0o666, exclusive: true };
    let segment = Removed(Segment::create(ALPHABET_KEY, ALPHABET.len(), &options)?);
    let map = segment.0.attach_write()?;
    map.bytes_in(0, ALPHABET);
    line("server: the alphabet is in the segment with key 5678")?;
    until(&map, 0, |word| word.to_ne_bytes()[0] == b'*')?;
    line("server: the client has written *")
}

pub(super) fn alphabet_client() -> Result<(), Failure> {
    let map = Segment::find(ALPHABET_KEY)?.attach_write()?;
    let text = map.to_vec(0, ALPHABET.len().min(map.len()));
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    line(String::from_utf8_lossy(&text[..end]))?;
    map.bytes_in(0, b"*");
    futex::wake(&map, 0, u32::MAX)?;
    Ok(())
}

pub(super) fn letters() -> Result<(), Failure> {
    let options = Options { mode: 0o600, exclusive: true };
    let segment = Removed(Segment::create(Key::Private, ALPHABET.len(), &options)?);
    let map = segment.0.attach_write()?;
    let id = segment.0.id().to_string();
    let child = ourselves(&["letters", "--segment", &id])?
        .spawn()
        .map_err(|error| Failure::refused(format!("the child: {error}")))?;
    let child = Started(child);
    for (at, letter) in ALPHABET[..26].iter().enumerate() {
        map.bytes_in(at, &[*letter]);
    }
    child.end()
}

pub(super) fn letters_child(id: i32) -> Result<(), Failure> {
    let map = Segment::from_id(id).attach_read()?;
    while map.to_vec(25, 1) != b"z" {
        std::thread::sleep(Duration::from_millis(1));
    }
    line(String::from_utf8_lossy(&map.to_vec(0, 26)))
}

const TYPED_KEY: Key = Key::Number(1234);
/// Semaphore: characters to be told.
const TYPED_FILLED: usize = 0;
/// Semaphore: places to put some.
const TYPED_FREE: usize = 64;
/// Set when both are made.
const TYPED_READY: usize = 128;
const TYPED_DATA: usize = 192;
const TYPED_PLACES: usize = 64;

pub(super) fn typed_server() -> Result<(), Failure> {
    let options = Options { mode: 0o666, exclusive: true };
    let size = TYPED_DATA + TYPED_PLACES;
    let segment = Removed(Segment::create(TYPED_KEY, size, &options)?);
    let map = segment.0.attach_write()?;
    let filled = Shared::init(&map, TYPED_FILLED, 0)?;
    let free = Shared::init(&map, TYPED_FREE, TYPED_PLACES as u32)?;
    map.store_u32(TYPED_READY, 1, Ordering::Release);
    futex::wake(&map, TYPED_READY, u32::MAX)?;
    line("server: waiting for characters in the segment with key 1234")?;
    let mut at = 0;
    loop {
        uninterrupted(|| filled.wait(Wait::FOREVER))?;
        let byte = map.to_vec(TYPED_DATA + at % TYPED_PLACES, 1)[0];
        free.post()?;
        at += 1;
        line(format!("You pressed {}", byte.escape_ascii()))?;
        if byte == b'q' {
            return Ok(());
        }
    }
}

/// The terminal without line editing, until this is dropped.
struct Unbuffered(Option<Termios>);

impl Unbuffered {
    fn new() -> Self {
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &raw);
        }
        Self(before)
    }
}

impl Drop for Unbuffered {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

pub(super) fn typed_client() -> Result<(), Failure> {
    let map: MapMut = Segment::find(TYPED_KEY)?.attach_write()?;
    if map.len() < TYPED_DATA + TYPED_PLACES {
        return Err(Failure::refused("the segment with key 1234 is not this server's"));
    }
    until(&map, TYPED_READY, |ready| ready == 1)?;
    let filled = Shared::at(&map, TYPED_FILLED);
    let free = Shared::at(&map, TYPED_FREE);
    let _terminal = Unbuffered::new();
    // The end of the input ends both, as q does.
    let typed = std::io::stdin().lock().bytes().map_while(Result::ok).chain([b'q']);
    for (at, byte) in typed.enumerate() {
        uninterrupted(|| free.wait(Wait::FOREVER))?;
        map.bytes_in(TYPED_DATA + at % TYPED_PLACES, &[byte]);
        filled.post()?;
        if byte == b'q' {
            break;
        }
    }
    Ok(())
}

const IFLAG: &str = "/my_shm";
const IFLAG_BYTES: u64 = 8196;

fn iflag_map() -> Result<MapMut, Failure> {
    let object = Object::open(IFLAG, shm::Access::ReadWrite)?;
    Ok(MapMut::of(&object, IFLAG_BYTES as usize)?)
}

pub(super) fn iflag_create() -> Result<(), Failure> {
    let options = shm::Options { size: IFLAG_BYTES, mode: 0o666, exclusive: true };
    Object::create(IFLAG, &options)?;
    Ok(())
}

pub(super) fn iflag_receive() -> Result<(), Failure> {
    let map = iflag_map()?;
    map.store_u32(0, 8, Ordering::Release);
    line("iflag is now = 8")?;
    let value = until(&map, 0, |word| word != 8)?;
    line(format!("iflag is now = {value}"))
}

pub(super) fn iflag_send() -> Result<(), Failure> {
    let map = iflag_map()?;
    map.store_u32(0, 1, Ordering::Release);
    futex::wake(&map, 0, u32::MAX)?;
    Ok(())
}

pub(super) fn iflag_remove() -> Result<(), Failure> {
    Ok(shm::remove(IFLAG)?)
}

const QUEUE: &str = "/server-msg-q";

/// Removes the queue at the end, however that comes.
struct RemovedQueue;

impl Drop for RemovedQueue {
    fn drop(&mut self) {
        let _ = mq::remove(QUEUE);
    }
}

pub(super) fn queue_server() -> Result<(), Failure> {
    let options =
        mq::Options { maxmsg: Some(10), msgsize: Some(4096), mode: 0o660, exclusive: true };
    let queue = Queue::create(QUEUE, &options)?;
    let _removed = RemovedQueue;
    line(format!("server: receiving from {QUEUE}; q ends it"))?;
    let mut buffer = queue.buffer()?;
    loop {
        let message = uninterrupted(|| queue.receive(&mut buffer, Wait::FOREVER))?;
        let text = &buffer[..message.len];
        if text == b"q" {
            return Ok(());
        }
        line(format!("Received: {}", text.escape_ascii()))?;
    }
}

pub(super) fn queue_client() -> Result<(), Failure> {
    let queue = Queue::open(QUEUE, Access::Send)?;
    for text in std::io::stdin().lock().lines().map_while(Result::ok) {
        uninterrupted(|| queue.send(text.as_bytes(), 0, Wait::FOREVER))?;
    }
    Ok(())
}
