//! FPM, by a sender of our own: what zebra does, and what nobody should. The
//! real zebra is in `interop/`.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rtm_e2e::Daemon;
use rtm_e2e::process::PATIENCE;
use rtm_model::{HopSpec, Hops, LinkRef, RouteSpec, RouteType};
use rtm_netlink::{Builder, Member, NextHopMessage, RouteMessage, flag, kind};
use serde_json::Value;

/// What zebra puts into each message; another process has another.
const PORT: u32 = 2_709_197_139;

/// A daemon that listens for FPM somewhere.
struct World {
    daemon: Daemon,
    address: SocketAddr,
}

impl World {
    fn new(config: &str) -> World {
        let directory = tempfile::Builder::new().prefix("rtm-fpm-").tempdir().unwrap();
        let file = directory.path().join("rtmd.toml");
        std::fs::write(&file, config).unwrap();
        let config = file.to_str().unwrap().to_owned();
        let daemon = Daemon::start_in(directory, &["--fpm=127.0.0.1:0", "--config", &config]);
        let status = daemon.json(&["status"]);
        let address = status["fpm"].as_str().unwrap().parse().unwrap();
        World { daemon, address }
    }

    fn connect(&self) -> Zebra {
        Zebra { stream: TcpStream::connect(self.address).unwrap(), port: PORT }
    }

    /// From another address of the loopback.
    fn connect_from(&self, last: u8) -> Zebra {
        use rustix::net::{AddressFamily, SocketType};
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let own = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0);
        rustix::net::bind(&socket, &own).unwrap();
        rustix::net::connect(&socket, &self.address).unwrap();
        Zebra { stream: TcpStream::from(socket), port: PORT }
    }

    fn routes(&self) -> Vec<String> {
        let shown = self.daemon.rtm(&["route", "show", "table", "all"]);
        shown.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    fn source(&self, name: &str) -> Value {
        let sources = self.daemon.json(&["source", "list"]);
        let found = sources.as_array().unwrap().iter().find(|source| source["name"] == name);
        found.cloned().unwrap_or(Value::Null)
    }

    /// Waits until `there` holds.
    fn wait(&self, what: &str, there: impl Fn(&World) -> bool) {
        let start = Instant::now();
        while !there(self) {
            assert!(
                start.elapsed() < PATIENCE,
                "waited in vain: {what}\n{:#?}\n{}\n{}",
                self.routes(),
                self.daemon.json(&["source", "list"]),
                self.daemon.process.stderr()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait_routes(&self, expected: &[&str]) {
        self.wait(&format!("{expected:?}"), |world| world.routes() == expected);
    }
}

/// A sender.
struct Zebra {
    stream: TcpStream,
    port: u32,
}

impl Zebra {
    fn send(&mut self, frames: &[Vec<u8>]) {
        for frame in frames {
            self.stream.write_all(&framed(frame, self.port)).unwrap();
        }
    }

    /// Waits until the daemon hangs up.
    fn wait_closed(mut self) {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match self.stream.read(&mut [0; 16]) {
            Ok(0) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            other => panic!("the daemon doesn't hang up: {other:?}"),
        }
    }
}

/// A frame around messages, each with the process's port id.
fn framed(messages: &[u8], port: u32) -> Vec<u8> {
    let mut frame = vec![1, 1];
    frame.extend_from_slice(&((messages.len() + 4) as u16).to_be_bytes());
    let mut at = 0;
    while at < messages.len() {
        let length = u32::from_ne_bytes(messages[at..at + 4].try_into().unwrap()) as usize;
        let mut message = messages[at..at + length].to_vec();
        message[12..16].copy_from_slice(&port.to_ne_bytes());
        frame.extend_from_slice(&message);
        at += length;
    }
    frame
}

fn spec(prefix: &str) -> RouteSpec {
    let mut spec = RouteSpec::new(prefix.parse().unwrap());
    spec.kind = Some(RouteType::Unicast);
    spec.protocol = Some(186);
    spec.scope = Some(0);
    spec.metric = Some(20);
    spec
}

fn hop(gateway: &str) -> HopSpec {
    HopSpec {
        gateway: Some(gateway.parse().unwrap()),
        link: None,
        weight: 1,
        flags: Default::default(),
    }
}

fn encoded(specs: &[&RouteSpec]) -> Vec<u8> {
    let mut out = Builder::default();
    for spec in specs {
        RouteMessage::encode(&mut out, flag::CREATE | flag::REPLACE, 0, spec).unwrap();
    }
    out.bytes().to_vec()
}

fn via(prefix: &str, gateway: &str) -> Vec<u8> {
    encoded(&[&RouteSpec { hops: Hops::One(hop(gateway)), ..spec(prefix) }])
}

fn by_object(prefix: &str, id: u32) -> Vec<u8> {
    encoded(&[&RouteSpec { hops: Hops::Named(id), ..spec(prefix) }])
}

/// As zebra deletes: type unspecified, the protocol and metric whatever.
fn delete(prefix: &str) -> Vec<u8> {
    let mut out = Builder::default();
    let mut spec = spec(prefix);
    (spec.kind, spec.protocol, spec.metric) = (None, Some(11), Some(9));
    RouteMessage::encode_delete(&mut out, flag::CREATE, 0, &spec).unwrap();
    out.bytes().to_vec()
}

fn object(id: u32, hop: &HopSpec) -> Vec<u8> {
    let mut out = Builder::default();
    NextHopMessage::encode_hop(&mut out, flag::CREATE | flag::REPLACE, 0, id, hop);
    out.bytes().to_vec()
}

fn group(id: u32, members: &[(u32, u32)]) -> Vec<u8> {
    let mut out = Builder::default();
    let members: Vec<Member> = members.iter().map(|&(id, weight)| Member { id, weight }).collect();
    NextHopMessage::encode_group(&mut out, flag::CREATE | flag::REPLACE, 0, id, &members);
    out.bytes().to_vec()
}

fn object_gone(id: u32) -> Vec<u8> {
    let mut out = Builder::default();
    NextHopMessage::encode_delete(&mut out, flag::CREATE, 0, id);
    out.bytes().to_vec()
}

const QUICK: &str = "[fpm]\nquiet_s = 1\ncap_s = 3\n";
const SLOW: &str = "[fpm]\nquiet_s = 600\ncap_s = 6000\n";

#[test]
fn every_kind_of_route_comes_as_it_was_sent() {
    let world = World::new(SLOW);
    let mut zebra = world.connect();
    let mut many = spec("10.2.0.0/16");
    many.hops = Hops::Many(vec![hop("192.0.2.1"), HopSpec { weight: 256, ..hop("192.0.2.2") }]);
    let mut blackhole = spec("10.3.0.0/16");
    blackhole.kind = Some(RouteType::Blackhole);
    let mut on_link = spec("10.4.0.0/16");
    on_link.hops =
        Hops::One(HopSpec { gateway: None, link: Some(LinkRef::Ifindex(1)), ..hop("192.0.2.1") });
    on_link.protocol = Some(2);
    let mut elsewhere = spec("10.5.0.0/16");
    elsewhere.table = 1000;
    elsewhere.hops =
        Hops::One(HopSpec { link: Some(LinkRef::Ifindex(99_999)), ..hop("192.0.2.1") });
    // Table 0 is main.
    let mut main = spec("10.6.0.0/16");
    main.table = 0;
    main.hops = Hops::One(hop("192.0.2.1"));
    zebra.send(&[
        via("10.1.0.0/16", "192.0.2.1"),
        encoded(&[&many]),
        encoded(&[&blackhole]),
        encoded(&[&on_link]),
        encoded(&[&elsewhere]),
        encoded(&[&main]),
        via("10.7.0.0/16", "2001:db8::1"),
        via("2001:db8:a::/48", "2001:db8::1"),
    ]);
    world.wait_routes(&[
        "10.1.0.0/16 via 192.0.2.1 proto bgp metric 20",
        "10.2.0.0/16 proto bgp metric 20",
        "\tnexthop via 192.0.2.1 weight 1",
        "\tnexthop via 192.0.2.2 weight 256",
        "blackhole 10.3.0.0/16 proto bgp metric 20",
        "10.4.0.0/16 dev lo proto kernel metric 20",
        "10.6.0.0/16 via 192.0.2.1 proto bgp metric 20",
        "10.7.0.0/16 via inet6 2001:db8::1 proto bgp metric 20",
        "10.5.0.0/16 via 192.0.2.1 dev if99999 table 1000 proto bgp metric 20",
        "2001:db8:a::/48 via 2001:db8::1 proto bgp metric 20 pref medium",
    ]);
    let shown = world.daemon.rtm(&["-d", "route", "show", "10.1.0.0/16"]);
    assert!(shown.contains("distance 20"), "{shown}");
    let shown = world.daemon.rtm(&["-d", "route", "show", "10.4.0.0/16"]);
    assert!(shown.contains("distance 0"), "by protocol: {shown}");
    // Deleted by its key alone, whatever else is said.
    zebra.send(&["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"].map(delete));
    // A metric is no part of the key.
    let mut other = spec("10.6.0.0/16");
    (other.metric, other.hops) = (Some(7), Hops::One(hop("192.0.2.9")));
    zebra.send(&[encoded(&[&other])]);
    world.wait_routes(&[
        "10.6.0.0/16 via 192.0.2.9 proto bgp metric 7",
        "10.7.0.0/16 via inet6 2001:db8::1 proto bgp metric 20",
        "10.5.0.0/16 via 192.0.2.1 dev if99999 table 1000 proto bgp metric 20",
        "2001:db8:a::/48 via 2001:db8::1 proto bgp metric 20 pref medium",
    ]);
}

#[test]
fn a_delete_and_an_add_in_one_frame_are_one_replace() {
    let world = World::new(SLOW);
    let mut zebra = world.connect();
    zebra.send(&[via("10.1.0.0/16", "192.0.2.1")]);
    world.wait("the first", |world| world.routes().len() == 1);
    let monitor = world.daemon.spawn(&["monitor", "route", "--initial"]);
    monitor.wait_stdout("10.1.0.0/16");
    let before = world.daemon.json(&["digest"])["revision"].as_u64().unwrap();
    let both = [delete("10.1.0.0/16"), via("10.1.0.0/16", "192.0.2.2")].concat();
    zebra.send(&[both, via("10.9.0.0/16", "192.0.2.1")]);
    let said = monitor.wait_stdout("10.9.0.0/16");
    assert!(!said.contains("Deleted"), "no reader sees a gap: {said}");
    assert!(said.contains("10.1.0.0/16 via 192.0.2.2"), "{said}");
    assert_eq!(world.daemon.json(&["digest"])["revision"], before + 2);
}

#[test]
fn groups_are_told_before_during_and_after_their_routes() {
    let world = World::new(SLOW);
    let mut zebra = world.connect();
    zebra.send(&[
        object(20, &hop("192.0.2.1")),
        object(22, &hop("192.0.2.2")),
        group(21, &[(20, 1), (22, 3)]),
        by_object("10.1.0.0/16", 20),
        by_object("10.2.0.0/16", 21),
        // These come before what they name.
        by_object("10.3.0.0/16", 30),
        by_object("10.4.0.0/16", 31),
    ]);
    let shown = [
        "10.1.0.0/16 nhid 20 via 192.0.2.1 proto bgp metric 20",
        "10.2.0.0/16 nhid 21 proto bgp metric 20",
        "\tnexthop via 192.0.2.1 weight 1",
        "\tnexthop via 192.0.2.2 weight 3",
    ];
    world.wait_routes(&shown);
    world.wait("two wait", |world| world.source("fpm:127.0.0.1")["fpm"]["waiting"] == 2);
    zebra.send(&[group(31, &[(30, 1), (20, 1)]), delete("10.4.0.0/16")]);
    zebra.send(&[object(30, &hop("192.0.2.3"))]);
    let mut shown = shown.to_vec();
    shown.push("10.3.0.0/16 nhid 30 via 192.0.2.3 proto bgp metric 20");
    world.wait_routes(&shown);
    assert_eq!(world.source("fpm:127.0.0.1")["fpm"]["waiting"], 0, "what is deleted doesn't wait");
    // A member that changes changes the group: one record each, not one a route.
    let before = world.daemon.json(&["digest"])["revision"].as_u64().unwrap();
    zebra.send(&[object(20, &hop("192.0.2.7"))]);
    shown[0] = "10.1.0.0/16 nhid 20 via 192.0.2.7 proto bgp metric 20";
    shown[2] = "\tnexthop via 192.0.2.7 weight 1";
    world.wait_routes(&shown);
    assert_eq!(world.daemon.json(&["digest"])["revision"], before + 1);
    // As zebra moves a route: delete, add by another object, the old one goes.
    zebra.send(&[[delete("10.2.0.0/16"), by_object("10.2.0.0/16", 20)].concat(), object_gone(21)]);
    world.wait_routes(&[
        shown[0],
        "10.2.0.0/16 nhid 20 via 192.0.2.7 proto bgp metric 20",
        shown[4],
    ]);
    // One that goes takes its routes along.
    zebra.send(&[object_gone(20)]);
    world.wait_routes(&[shown[4]]);
}

#[test]
fn what_a_replay_lacks_is_swept_and_what_it_confirms_makes_no_record() {
    let world = World::new(QUICK);
    let mut zebra = world.connect();
    zebra.send(&[via("10.1.0.0/16", "192.0.2.1"), via("10.2.0.0/16", "192.0.2.1")]);
    world.wait("settled", |world| world.source("fpm:127.0.0.1")["fpm"]["state"] == "connected");
    drop(zebra);
    world.wait("stale", |world| {
        let source = world.source("fpm:127.0.0.1");
        source["stale"] == 2 && source["fpm"]["state"] == "lost"
    });
    assert_eq!(world.routes().len(), 2, "stale is still there");
    let before = world.daemon.json(&["digest"])["revision"].as_u64().unwrap();
    let mut zebra = world.connect();
    zebra.send(&[via("10.1.0.0/16", "192.0.2.1")]);
    world.wait_routes(&["10.1.0.0/16 via 192.0.2.1 proto bgp metric 20"]);
    assert_eq!(world.daemon.json(&["digest"])["revision"], before + 1, "only the sweep");
    // Who doesn't come back is gone for good.
    drop(zebra);
    world.wait_routes(&[]);
    world.wait("no source", |world| world.source("fpm:127.0.0.1").is_null());
    assert!(world.daemon.process.stderr().contains("not back for 3 s: its routes go"));
}

#[test]
fn a_malformed_frame_closes_that_feed_only_and_the_replay_mends_it() {
    let world = World::new(QUICK);
    let mut other = world.connect_from(2);
    other.send(&[via("10.9.0.0/16", "192.0.2.9")]);
    let good = || [via("10.1.0.0/16", "192.0.2.1"), via("10.2.0.0/16", "192.0.2.1")];
    let mut cut_attribute = via("10.5.0.0/16", "192.0.2.1");
    cut_attribute[28] = 200; // An attribute longer than its message.
    let mut cut_message = via("10.5.0.0/16", "192.0.2.1");
    cut_message.truncate(30);
    for (bytes, why) in [
        (vec![2, 1, 0, 8, 0, 0, 0, 0], "a frame of version 2"),
        (vec![1, 2, 0, 8, 0, 0, 0, 0], "a frame of type 2"),
        (vec![1, 1, 0, 3], "a frame of 3 bytes"),
        (vec![1, 1, 0, 9, 1, 2, 3, 4, 5], "a message's header is cut off"),
        (
            [&[1, 1, 0, (cut_attribute.len() + 4) as u8][..], &cut_attribute].concat(),
            "an attribute's length",
        ),
        ([&[1, 1, 0, 34][..], &cut_message].concat(), "a message's length"),
        (
            framed(&[via("10.6.0.0/16", "192.0.2.1"), object(0, &hop("192.0.2.1"))].concat(), PORT),
            "without its number",
        ),
    ] {
        let mut zebra = world.connect();
        zebra.send(&good());
        zebra.stream.write_all(&bytes).unwrap();
        zebra.wait_closed();
        world.daemon.process.wait_stderr(why);
        // A frame is all or nothing; what was there is stale and stays.
        assert_eq!(
            world.routes(),
            [
                "10.1.0.0/16 via 192.0.2.1 proto bgp metric 20",
                "10.2.0.0/16 via 192.0.2.1 proto bgp metric 20",
                "10.9.0.0/16 via 192.0.2.9 proto bgp metric 20",
            ],
            "{why}"
        );
        assert_eq!(world.source("fpm:127.0.0.1")["stale"], 2, "{why}");
        assert_ne!(world.source("fpm:127.0.0.2")["fpm"]["state"], "lost", "{why}");
    }
    let mut zebra = world.connect();
    zebra.send(&[via("10.1.0.0/16", "192.0.2.3")]);
    world.wait_routes(&[
        "10.1.0.0/16 via 192.0.2.3 proto bgp metric 20",
        "10.9.0.0/16 via 192.0.2.9 proto bgp metric 20",
    ]);
    other.send(&[delete("10.9.0.0/16")]);
    world.wait_routes(&["10.1.0.0/16 via 192.0.2.3 proto bgp metric 20"]);
}

#[test]
fn a_stream_cut_anywhere_ends_as_the_whole_one() {
    let world = World::new(SLOW);
    let frames = [
        object(20, &hop("192.0.2.1")),
        object(22, &hop("192.0.2.2")),
        group(21, &[(20, 1), (22, 1)]),
        by_object("10.1.0.0/16", 20),
        [delete("10.2.0.0/16"), by_object("10.2.0.0/16", 21)].concat(),
        via("2001:db8::/32", "2001:db8::1"),
    ];
    let bytes: Vec<u8> = frames.iter().flat_map(|frame| framed(frame, PORT)).collect();
    let mut zebra = world.connect();
    zebra.stream.write_all(&bytes).unwrap();
    world.wait("all", |world| world.routes().len() == 5);
    let whole = world.daemon.rtm(&["digest", "--resolved"]);
    drop(zebra);
    for cut in (0..bytes.len()).step_by(7) {
        let mut zebra = world.connect();
        zebra.stream.write_all(&bytes[..cut]).unwrap();
        zebra.stream.shutdown(Shutdown::Both).unwrap();
        drop(zebra);
    }
    let mut zebra = world.connect();
    zebra.stream.write_all(&bytes).unwrap();
    zebra.send(&[via("10.7.0.0/16", "192.0.2.1"), delete("10.7.0.0/16")]);
    // (As several connections from this host may overlap, some were sources of
    // their own for a moment.)
    world.wait("the same", |world| world.daemon.rtm(&["digest", "--resolved"]) == whole);
}

#[test]
fn another_zebra_on_this_host_is_another_source() {
    let world = World::new(QUICK);
    let mut first = world.connect();
    first.send(&[via("10.1.0.0/16", "192.0.2.1")]);
    world.wait("the first", |world| world.routes().len() == 1);
    let mut second = world.connect();
    second.port = PORT + 1;
    second.send(&[via("10.1.0.0/16", "192.0.2.2"), via("10.2.0.0/16", "192.0.2.2")]);
    world.wait("the second", |world| world.source("fpm:127.0.0.1#2")["routes"] == 2);
    let candidates = world.daemon.rtm(&["route", "show", "10.1.0.0/16", "--all"]);
    assert_eq!(candidates.lines().count(), 2, "{candidates}");
    assert_eq!(world.routes()[0], "10.1.0.0/16 via 192.0.2.1 proto bgp metric 20");
    // The first is lost for good: the next best comes.
    drop(first);
    world.wait_routes(&[
        "10.1.0.0/16 via 192.0.2.2 proto bgp metric 20",
        "10.2.0.0/16 via 192.0.2.2 proto bgp metric 20",
    ]);
    assert!(world.source("fpm:127.0.0.1").is_null());
}

#[test]
fn numbers_of_another_process_mean_something_else() {
    let world = World::new(SLOW);
    let mut zebra = world.connect();
    zebra.send(&[
        object(20, &hop("192.0.2.1")),
        by_object("10.1.0.0/16", 20),
        by_object("10.2.0.0/16", 20),
    ]);
    world.wait("both", |world| world.routes().len() == 2);
    drop(zebra);
    world.wait("lost", |world| world.source("fpm:127.0.0.1")["fpm"]["state"] == "lost");
    // The new process has 20 for something else, and hasn't replayed 10.2/16 yet.
    let mut zebra = world.connect();
    zebra.port = PORT + 1;
    zebra.send(&[object(20, &hop("192.0.2.5")), by_object("10.1.0.0/16", 20)]);
    world.wait_routes(&[
        "10.1.0.0/16 nhid 20 via 192.0.2.5 proto bgp metric 20",
        "10.2.0.0/16 via 192.0.2.1 proto bgp metric 20",
    ]);
    // The same process's reconnect keeps them, and makes no record.
    zebra.send(&[by_object("10.2.0.0/16", 20)]);
    world.wait("moved", |world| world.routes()[1].contains("192.0.2.5"));
    let before = world.daemon.json(&["digest"])["revision"].clone();
    drop(zebra);
    world.wait("lost again", |world| world.source("fpm:127.0.0.1")["fpm"]["state"] == "lost");
    let mut zebra = world.connect();
    zebra.port = PORT + 1;
    zebra.send(&[
        object(20, &hop("192.0.2.5")),
        by_object("10.1.0.0/16", 20),
        by_object("10.2.0.0/16", 20),
    ]);
    world.wait("confirmed", |world| world.source("fpm:127.0.0.1")["stale"] == 0);
    assert_eq!(world.daemon.json(&["digest"])["revision"], before);
}

#[test]
fn unknown_attributes_are_kept_and_counted() {
    let world = World::new(SLOW);
    let mut zebra = world.connect();
    let mut attrs = rtm_model::RouteAttrs::default();
    attrs.opaque.push((200, vec![1, 2, 3, 4]));
    let mut route = spec("10.1.0.0/16");
    (route.hops, route.attrs) = (Hops::One(hop("192.0.2.1")), attrs.encode().unwrap());
    zebra.send(&[encoded(&[&route])]);
    world.wait("it", |world| world.routes().len() == 1);
    let source = world.source("fpm:127.0.0.1");
    assert_eq!(source["fpm"]["unknown_attributes"], 1, "{source}");
    let saved = world.daemon.rtm(&["route", "save"]);
    assert!(saved.contains("10.1.0.0/16"), "{saved}");
}

#[test]
fn a_flush_makes_zebra_replay() {
    let world = World::new(SLOW);
    let mut zebra = world.connect();
    zebra.send(&[via("10.1.0.0/16", "192.0.2.1")]);
    world.wait("it", |world| world.routes().len() == 1);
    world.daemon.rtm(&["flush", "neighbours", "--force"]);
    zebra.send(&[via("10.2.0.0/16", "192.0.2.1")]);
    world.wait("both", |world| world.routes().len() == 2);
    world.daemon.rtm(&["flush", "routes", "--force"]);
    zebra.wait_closed();
    assert!(world.routes().is_empty());
    let mut zebra = world.connect();
    zebra.send(&[via("10.1.0.0/16", "192.0.2.1")]);
    world.wait("again", |world| world.routes().len() == 1);
}

#[test]
fn rubbish_and_floods_leave_the_daemon_as_it_was() {
    let world = World::new(SLOW);
    // A fixed sequence, so that a failure can be seen again.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let good =
        framed(&[object(20, &hop("192.0.2.1")), by_object("10.1.0.0/16", 20)].concat(), PORT);
    for round in 0..200 {
        let mut bytes = good.repeat(3);
        for _ in 0..1 + random() % 4 {
            let at = (random() % bytes.len() as u64) as usize;
            bytes[at] = random() as u8;
        }
        if round % 5 == 0 {
            bytes = (0..500).map(|_| random() as u8).collect();
        }
        let mut zebra = world.connect();
        // It may hang up meanwhile.
        let _ = zebra.stream.write_all(&bytes);
    }
    // Routes without end that wait for an object that never comes.
    let mut zebra = world.connect();
    let mut bytes = Vec::new();
    for index in 0..70_000_u32 {
        let prefix = format!("{}/32", Ipv4Addr::from(index << 8));
        bytes.extend(framed(&by_object(&prefix, 77), PORT));
    }
    let _ = zebra.stream.write_all(&bytes);
    zebra.wait_closed();
    world.daemon.process.wait_stderr("65536 routes wait for next-hop objects");
    // It goes on as if nothing had been.
    let mut zebra = world.connect();
    zebra.send(&[via("198.51.100.0/24", "192.0.2.1")]);
    world.wait("it", |world| {
        world.routes().contains(&"198.51.100.0/24 via 192.0.2.1 proto bgp metric 20".to_owned())
    });
}

#[test]
fn an_encapsulation_is_kept_and_what_an_object_cant_keep_is_counted() {
    let world = World::new(SLOW);
    let mut zebra = world.connect();
    let encapsulated = |label: u8| {
        let mut message = Builder::default();
        let flags = flag::CREATE | flag::REPLACE;
        message.begin(kind::NEWNEXTHOP, flags, 0, &[2, 0, 0, 0, 0, 0, 0, 0]);
        // NHA_ID, NHA_GATEWAY, NHA_ENCAP_TYPE (MPLS) and NHA_ENCAP.
        message.u32(1, 20);
        message.address(6, "192.0.2.1".parse().unwrap());
        message.attribute(7, &1_u16.to_ne_bytes());
        message.attribute(8, &[8, 0, 1, 0, 0, label, 0x01, 0x40]);
        message.end();
        message.bytes().to_vec()
    };
    zebra.send(&[
        encapsulated(1),
        object(22, &hop("192.0.2.2")),
        group(21, &[(20, 1), (22, 300)]),
        by_object("10.1.0.0/16", 21),
        by_object("10.2.0.0/16", 20),
    ]);
    let lines = [
        "10.1.0.0/16 nhid 21 proto bgp metric 20",
        "\tnexthop via 192.0.2.1 weight 1",
        "\tnexthop via 192.0.2.2 weight 256",
        "10.2.0.0/16 nhid 20 via 192.0.2.1 proto bgp metric 20",
    ];
    world.wait_routes(&lines);
    let peer = world.source("fpm:127.0.0.1")["fpm"].clone();
    assert_eq!(peer["encapsulations_left_out"], 0, "{peer}");
    assert_eq!(peer["weights_cut"], 1, "{peer}");
    // The encapsulation goes with the routes, as bytes: of one next hop, and of
    // one of several.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump");
    world.daemon.rtm(&["route", "save", file.to_str().unwrap(), "--format", "ip-dump"]);
    let label = [8, 0, 1, 0, 0, 1, 0x01, 0x40];
    let dump = std::fs::read(&file).unwrap();
    assert_eq!(dump.windows(8).filter(|bytes| *bytes == label).count(), 2, "{dump:x?}");
    // Another one in an object in use can't be told to its routes: counted.
    zebra.send(&[encapsulated(2), by_object("10.3.0.0/16", 20)]);
    world.wait("it is counted", |world| {
        let peer = world.source("fpm:127.0.0.1")["fpm"].clone();
        peer["encapsulations_left_out"] == 1 && peer["frames"] == 7
    });
}

#[test]
fn a_lost_source_gives_way_to_the_next_best_in_slices() {
    const ROUTES: usize = 100_000;
    let world = World::new(QUICK);
    let prefix = |number: usize| {
        format!("{}.{}.{}.0/24", 20 + (number >> 16), number >> 8 & 255, number & 255)
    };
    let mut backup = String::new();
    for number in 0..ROUTES {
        backup += &format!("{} via 192.0.2.250 metric 20\n", prefix(number));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), backup).unwrap();
    let path = file.path().to_str().unwrap();
    world.daemon.rtm(&["route", "load", path, "--source", "backup"]);
    let mut zebra = world.connect();
    for chunk in (0..ROUTES).collect::<Vec<_>>().chunks(100) {
        let frames: Vec<Vec<u8>> =
            chunk.iter().map(|number| via(&prefix(*number), "192.0.2.1")).collect();
        zebra.send(&frames);
    }
    world.wait("all are its", |world| world.source("fpm:127.0.0.1")["winners"] == ROUTES);
    world.wait("settled", |world| world.source("fpm:127.0.0.1")["fpm"]["state"] == "connected");
    let before = world.daemon.json(&["digest"])["revision"].as_u64().unwrap();
    let mut monitor = world.daemon.command(&["monitor", "route"]);
    let mut monitor = monitor.stdout(std::process::Stdio::piped()).spawn().unwrap();
    world.wait("the monitor follows", |world| {
        let clients = world.daemon.json(&["client", "list"]);
        clients.as_array().unwrap().iter().any(|client| client["state"] == "live")
    });
    drop(zebra);
    // From here on nobody asks the daemon anything: its turns are its own.
    let (lines, said) = std::sync::mpsc::channel();
    let output = monitor.stdout.take().unwrap();
    std::thread::spawn(move || {
        let lines_of = std::io::BufRead::lines(std::io::BufReader::new(output));
        lines_of.map_while(Result::ok).all(|line| lines.send(line).is_ok());
    });
    for seen in 0..ROUTES {
        let line = said.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("silent after {seen}"));
        assert!(line.contains("via 192.0.2.250"), "no gap, and no other change: {line}");
    }
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    let slices = world.daemon.json(&["digest"])["revision"].as_u64().unwrap() - before;
    assert!((10..ROUTES as u64).contains(&slices), "in slices: {slices} revisions");
    assert!(world.source("fpm:127.0.0.1").is_null());
}
