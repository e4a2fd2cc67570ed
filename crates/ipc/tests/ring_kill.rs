//! The ring when either side is killed by SIGKILL at random moments, again and
//! again: no byte that was acknowledged is lost or doubled.
//!
//! What is sent is a function of the position, so every byte that the reader
//! gets can be checked, and a restarted writer knows from its position alone
//! how to go on. Acknowledged by the writer: what `send` returned for; it says
//! so in a log of its own (a second shared object), which the parent compares
//! with the ring's position after every kill. Acknowledged by the reader: what
//! it has consumed.
//!
//! `RTM_RING_KILLS` sets the number of kills (600 unless set; the full run,
//! `crates/toolbox/scripts/ring-under-sigkill`, has 10,000).
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::process::{Child, Command, Stdio};

use ipc::map::MapMut;
use ipc::ring::{self, Framing, Options, Reader, Writer};
use ipc::shm;
use ipc::timer::Wait;

/// Small, so that both sides meet their ends often.
const CAPACITY: u64 = 4096;
/// Log: messages acknowledged by the writer, by the reader.
const AT_SENT: usize = 0;
const AT_CONSUMED: usize = 64;
const AT_BAD: usize = 128;

/// Lengths of messages, by number; their sum is odd and coprime to the ring's
/// size, so that they come to lie everywhere.
const LENGTHS: [usize; 7] = [1, 64, 7, 300, 0, 1500, 33];

fn framed(len: usize) -> u64 {
    (ring::MESSAGE_HEAD + len).next_multiple_of(8) as u64
}

/// The number of the message that begins at `position`.
fn number_at(position: u64) -> u64 {
    let round: u64 = LENGTHS.iter().map(|len| framed(*len)).sum();
    let (mut number, mut rest) = (position / round * LENGTHS.len() as u64, position % round);
    for len in LENGTHS {
        if rest == 0 {
            break;
        }
        rest -= framed(len);
        number += 1;
    }
    number
}

fn byte_at(number: u64) -> u8 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

fn message(number: u64) -> Vec<u8> {
    let len = LENGTHS[(number % LENGTHS.len() as u64) as usize];
    (0..len as u64).map(|n| byte_at(number * 4096 + n)).collect()
}

fn log_of(name: &str) -> MapMut {
    let object = shm::Object::open(&format!("{name}-log"), shm::Access::ReadWrite).unwrap();
    MapMut::of(&object, 4096).unwrap()
}

fn run_writer(name: &str, framing: Framing) -> ! {
    let log = log_of(name);
    let mut writer = Writer::open(name).unwrap();
    loop {
        match framing {
            Framing::Messages => {
                let number = number_at(writer.position());
                writer.send(&message(number), Wait::FOREVER).unwrap();
                log.store_u64(AT_SENT, number + 1, Ordering::Release);
            }
            Framing::Bytes => {
                let from = writer.position();
                let len = LENGTHS[(from % LENGTHS.len() as u64) as usize].max(1) as u64;
                let bytes: Vec<u8> = (from..from + len).map(byte_at).collect();
                let mut done = 0;
                while done < bytes.len() {
                    done += writer.write(&bytes[done..], Wait::FOREVER).unwrap();
                    log.store_u64(AT_SENT, writer.position(), Ordering::Release);
                }
            }
        }
    }
}

fn run_reader(name: &str, framing: Framing) -> ! {
    let log = log_of(name);
    let mut reader = Reader::open(name).unwrap();
    let mut bytes = Vec::new();
    let bad = |at: u64| -> ! {
        log.store_u64(AT_BAD, at + 1, Ordering::Release);
        std::process::exit(1);
    };
    loop {
        let at = reader.position();
        match framing {
            Framing::Messages => {
                assert!(reader.peek_message(&mut bytes, Wait::FOREVER).unwrap());
                let number = number_at(at);
                if bytes != message(number)
                    || log.load_u64(AT_CONSUMED, Ordering::Acquire) > number + 1
                {
                    bad(at);
                }
                reader.consume_message(&bytes);
                log.store_u64(AT_CONSUMED, number + 1, Ordering::Release);
            }
            Framing::Bytes => {
                bytes.resize(1 + (at % 997) as usize, 0);
                let n = reader.peek(&mut bytes, Wait::FOREVER).unwrap();
                let right = bytes[..n].iter().zip(at..).all(|(byte, p)| *byte == byte_at(p));
                if !right || log.load_u64(AT_CONSUMED, Ordering::Acquire) > at + n as u64 {
                    bad(at);
                }
                reader.consume(n);
                log.store_u64(AT_CONSUMED, reader.position(), Ordering::Release);
            }
        }
    }
}

/// A small generator of our own: the run must differ each time, and say its
/// seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn spawn(side: &str, name: &str, framing: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--child", side, name, framing])
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Removes both objects also when the test fails.
struct Names(String);

impl Drop for Names {
    fn drop(&mut self) {
        let _ = ring::remove(&self.0);
        let _ = shm::remove(&format!("{}-log", self.0));
    }
}

fn kill_again_and_again(framing: Framing, kills: u32) {
    let word = if framing == Framing::Bytes { "bytes" } else { "messages" };
    let names = Names(format!("/ipc-kill-{word}-{}", std::process::id()));
    let name = &names.0;
    ring::create(
        name,
        &Options { capacity: CAPACITY, framing, exclusive: true, ..Options::default() },
    )
    .unwrap();
    let log_options = shm::Options { size: 4096, exclusive: true, ..shm::Options::default() };
    shm::Object::create(&format!("{name}-log"), &log_options).unwrap();
    let log = log_of(name);
    let seed = u64::from(std::process::id()) << 32 | u64::from(kills) | 1;
    let mut random = Random(seed);
    let mut children = [spawn("writer", name, word), spawn("reader", name, word)];
    let mut killed = [0_u32; 2];
    for _ in 0..kills {
        std::thread::sleep(Duration::from_micros(random.next() % 3000));
        let which = (random.next() >> 40) as usize % 2;
        children[which].kill().unwrap();
        let status = children[which].wait().unwrap();
        assert_eq!(log.load_u64(AT_BAD, Ordering::Acquire), 0, "seed {seed:#x}");
        assert!(status.code().is_none(), "ended by itself: {status}, seed {seed:#x}");
        killed[which] += 1;
        if which == 0 {
            // Nobody writes now: everything acknowledged is in the ring.
            let acknowledged = log.load_u64(AT_SENT, Ordering::Acquire);
            let written = ring::stat(name).unwrap().written;
            let there = if framing == Framing::Bytes { written } else { number_at(written) };
            assert!(there >= acknowledged, "{acknowledged} acknowledged, {there} there");
            // At most the one that was in flight goes beyond.
            let most = if framing == Framing::Bytes { 1500 } else { 1 };
            assert!(there - acknowledged <= most, "{acknowledged} acknowledged, {there} there");
        }
        children[which] = spawn(["writer", "reader"][which], name, word);
    }
    // Still alive: both sides go on.
    let before = log.load_u64(AT_CONSUMED, Ordering::Acquire);
    while log.load_u64(AT_CONSUMED, Ordering::Acquire) < before + 100 {
        std::thread::sleep(Duration::from_millis(1));
    }
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // What is left is read here, to the last byte.
    let end = ring::stat(name).unwrap();
    let mut reader = Reader::open(name).unwrap();
    let mut rest = Vec::new();
    while reader.position() < end.written {
        let at = reader.position();
        if framing == Framing::Messages {
            assert!(reader.receive(&mut rest, Wait::No).unwrap());
            assert_eq!(rest, message(number_at(at)));
        } else {
            rest.resize(4096, 0);
            let n = reader.read(&mut rest, Wait::No).unwrap();
            assert!(rest[..n].iter().zip(at..).all(|(byte, p)| *byte == byte_at(p)));
        }
    }
    assert_eq!(log.load_u64(AT_BAD, Ordering::Acquire), 0);
    println!(
        "ring of {word}: {} kills of the writer, {} of the reader, {} bytes through, none lost or doubled",
        killed[0], killed[1], end.written
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, side, name, framing] = &arguments[..] {
        if flag == "--child" {
            // Not left behind by a test that fails.
            let kill = Some(rustix::process::Signal::KILL);
            rustix::process::set_parent_process_death_signal(kill).unwrap();
            let framing = if framing == "bytes" { Framing::Bytes } else { Framing::Messages };
            match side.as_str() {
                "writer" => run_writer(name, framing),
                _ => run_reader(name, framing),
            }
        }
    }
    // The listing that test runners ask for.
    if arguments.iter().any(|a| a == "--list") {
        println!("ring_under_sigkill: test");
        return;
    }
    let kills = std::env::var("RTM_RING_KILLS")
        .ok()
        .map_or(600, |text| text.parse().expect("RTM_RING_KILLS is a number"));
    kill_again_and_again(Framing::Messages, kills / 2);
    kill_again_and_again(Framing::Bytes, kills - kills / 2);
    println!("test ring_under_sigkill ... ok");
}
