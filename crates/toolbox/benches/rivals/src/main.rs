//! The ring's rivals on the same job: 64-byte messages one way, in order, none
//! lost. `ipc-ring-rivals WHO COUNT` prints nanoseconds for each message.
//!
//! iceoryx2: two processes, a subscriber that takes as fast as it can (it has
//! no call that sleeps in publish-subscribe; its own benches poll as well), and
//! a publisher that waits for room. rtrb: two threads of one process, both
//! polling: it has neither sleep nor shared memory between processes.
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use iceoryx2::prelude::*;

type Message = [u64; 8];

/// As many messages in flight as the ring under test holds: 1 MiB of 72 bytes.
const DEPTH: usize = 14_563;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let count: u64 = arguments[2].parse().unwrap();
    match arguments[1].as_str() {
        "rtrb" => rtrb_threads(count),
        "iceoryx2" => iceoryx2_subscriber(count),
        "iceoryx2-publisher" => iceoryx2_publisher(count, &arguments[3]),
        other => panic!("{other}"),
    }
}

fn rtrb_threads(count: u64) {
    let (mut producer, mut consumer) = rtrb::RingBuffer::<Message>::new(DEPTH);
    let writer = std::thread::spawn(move || {
        let mut message = [0; 8];
        for n in 0..count {
            message[0] = n;
            while producer.push(message).is_err() {
                std::hint::spin_loop();
            }
        }
    });
    let start = Instant::now();
    for n in 0..count {
        let message = loop {
            match consumer.pop() {
                Ok(message) => break message,
                Err(_) => std::hint::spin_loop(),
            }
        };
        assert_eq!(message[0], n);
    }
    println!("{:.1}", start.elapsed().as_nanos() as f64 / count as f64);
    writer.join().unwrap();
}

fn service(
    name: &str,
) -> iceoryx2::service::port_factory::publish_subscribe::PortFactory<iceoryx2::service::ipc::Service, Message, ()> {
    let node = NodeBuilder::new().create::<iceoryx2::service::ipc::Service>().unwrap();
    node.service_builder(&name.try_into().unwrap())
        .publish_subscribe::<Message>()
        .enable_safe_overflow(false)
        .subscriber_max_buffer_size(DEPTH)
        .max_publishers(1)
        .max_subscribers(1)
        .open_or_create()
        .unwrap()
}

fn iceoryx2_subscriber(count: u64) {
    set_log_level(LogLevel::Error);
    let name = format!("ipc-bench-{}", std::process::id());
    let service = service(&name);
    let subscriber = service.subscriber_builder().buffer_size(DEPTH).create().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["iceoryx2-publisher", &count.to_string(), &name])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut start = Instant::now();
    for n in 0..count {
        let sample = loop {
            match subscriber.receive().unwrap() {
                Some(sample) => break sample,
                None => std::hint::spin_loop(),
            }
        };
        if n == 0 {
            // Without the start of the other process.
            start = Instant::now();
        }
        assert_eq!(sample[0], n);
    }
    println!("{:.1}", start.elapsed().as_nanos() as f64 / count as f64);
    drop(child.stdin.take());
    child.wait().unwrap();
}

fn iceoryx2_publisher(count: u64, name: &str) {
    set_log_level(LogLevel::Error);
    let service = service(name);
    let publisher = service
        .publisher_builder()
        .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
        .create()
        .unwrap();
    let mut message = [0; 8];
    for n in 0..count {
        message[0] = n;
        publisher.loan_uninit().unwrap().write_payload(message).send().unwrap();
    }
    // Its samples live in this process's memory: stay until they are taken,
    // which the subscriber says by closing standard input.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}
