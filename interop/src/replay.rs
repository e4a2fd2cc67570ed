//! A recorded FPM stream, sent as fast as it is taken.
//!
//! `RTM_FPM_STREAM` names a record (`frr-bgp` writes one to `RTM_FPM_RECORD`);
//! without, one is made of the real table in the messages that zebra sends.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rtm_e2e::{Daemon, data, require};
use rtm_model::text::spread;
use rtm_model::{Hops, Prefix, RouteSpec, RouteType};
use rtm_netlink::{Builder, NextHopMessage, RouteMessage, flag, kind, messages};

use crate::Scale;

/// Bytes of a frame's header.
const HEADER: usize = 4;

/// Sends the stream, and waits until the daemon has applied its last frame.
pub(crate) fn run(scale: Scale) -> String {
    let stream = match std::env::var_os("RTM_FPM_STREAM") {
        Some(file) => std::fs::read(&file).expect("RTM_FPM_STREAM can be read"),
        None => match made(scale) {
            Some(stream) => stream,
            None => return "not run: no data".to_owned(),
        },
    };
    let (frames, routes) = count(&stream);
    let daemon = Daemon::start(&["--fpm=127.0.0.1:0"]);
    let address = daemon.json(&["status"])["fpm"].as_str().expect("it listens").to_owned();
    let before = cpu_ticks(daemon.process.pid());
    let start = Instant::now();
    let mut socket = TcpStream::connect(&address).expect("it lets us in");
    socket.write_all(&stream).expect("it reads");
    loop {
        let sources = daemon.json(&["source", "list"]);
        let sources = sources.as_array().expect("an array");
        let peer = sources.iter().find(|source| source["class"] == "fpm").expect("a source");
        assert_eq!(peer["fpm"]["refused"], 0, "{peer}");
        if peer["fpm"]["frames"].as_u64() == Some(frames) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(600), "{peer}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let seconds = start.elapsed().as_secs_f64();
    if std::env::var_os("RTM_FPM_STREAM").is_none() {
        let sources = daemon.json(&["source", "list"]);
        let sources = sources.as_array().expect("an array");
        let peer = sources.iter().find(|source| source["class"] == "fpm").expect("a source");
        assert_eq!(peer["routes"], routes, "each is there");
    }
    let ticks = cpu_ticks(daemon.process.pid()) - before;
    let cpu = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    let output = daemon.run(&["client", "--once", "--verify"]);
    assert_eq!(output.code, Some(0), "{}", output.err);
    format!(
        "{routes} routes in {frames} frames: {seconds:.2} s, {:.0} routes/s; {cpu:.2} s of CPU, {:.0} routes/s of CPU",
        routes as f64 / seconds,
        routes as f64 / cpu.max(0.01)
    )
}

/// User and system time of a process, in ticks.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
    fields[12..14].iter().map(|field| field.parse::<u64>().expect("a number")).sum()
}

/// How many frames, and how many routes are told in them.
fn count(stream: &[u8]) -> (u64, u64) {
    let (mut frames, mut routes, mut at) = (0, 0, 0);
    while let Some(&[_, _, high, low]) = stream.get(at..at + HEADER) {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some(frame) = stream.get(at + HEADER..at + length) else { break };
        let told = messages(frame).flatten().filter(|message| message.kind == kind::NEWROUTE);
        routes += told.count() as u64;
        frames += 1;
        at += length;
    }
    (frames, routes)
}

/// The real table as zebra would send it: objects, then a route a frame.
fn made(scale: Scale) -> Option<Vec<u8>> {
    let folder = require::data("fpm-replay")?;
    let mut stream = Vec::new();
    let mut message = Builder::default();
    let mut objects = std::collections::HashMap::new();
    let flags = flag::CREATE | flag::REPLACE;
    let mut frame = |message: &Builder| {
        stream.extend_from_slice(&[1, 1]);
        stream.extend_from_slice(&((message.bytes().len() + HEADER) as u16).to_be_bytes());
        stream.extend_from_slice(message.bytes());
    };
    for text in data::lines(&folder.join("full-table.txt.gz")).step_by(scale.of(1, 20)) {
        let prefix: Prefix = text.parse().expect("a prefix");
        let mut hop = spread(&text, prefix.family());
        // The link: only its number is on the wire.
        hop.link = Some(rtm_model::LinkRef::Ifindex(1));
        let next = objects.len() as u32 + 1;
        let object = *objects.entry(hop.gateway).or_insert(next);
        if object == next {
            message.clear();
            NextHopMessage::encode_hop(&mut message, flags, 0, object, &hop);
            frame(&message);
        }
        let mut spec = RouteSpec::new(prefix);
        spec.kind = Some(RouteType::Unicast);
        (spec.protocol, spec.scope, spec.metric) = (Some(186), Some(0), Some(20));
        spec.hops = Hops::Named(object);
        message.clear();
        RouteMessage::encode(&mut message, flags, 0, &spec).expect("a route");
        frame(&message);
    }
    Some(stream)
}
