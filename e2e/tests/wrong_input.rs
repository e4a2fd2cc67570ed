//! Everything that can be wrong about input, one after another against one
//! daemon: a clear line, the documented exit code, nothing lost; and a client
//! that follows meanwhile notices nothing of it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rtm_e2e::{Daemon, Process};

/// Arguments (a blank separates them, `_` stands for a blank in one), exit code,
/// and what the line says.
const COMMANDS: &[(&str, i32, &str)] = &[
    // Mask over 32/128, host bits, bad address.
    ("route add 10.0.0.0/33 via 10.1.1.1 dev e", 1, "mask 33 is too long for IPv4; 0 to 32"),
    ("route add 2001:db8::/129 dev e", 1, "mask 129 is too long for IPv6; 0 to 128"),
    ("route add 10.0.0.1/8 dev e", 1, "host bits are set; 10.0.0.0/8 would be right"),
    ("route add 2001:db8::1/32 dev e", 1, "host bits are set; 2001:db8::/32 would be right"),
    ("route add 10.0.0.256 dev e", 1, "10.0.0.256"),
    ("route add 10/8 via nonsense", 1, "via: nonsense: not an IP address"),
    // A gateway of the wrong family.
    ("route add 2001:db8::/32 via 10.0.0.1", 1, "can't go via an IPv4 gateway"),
    ("route add 10/8 via inet6 10.0.0.1", 1, "10.0.0.1"),
    // OIF of 16 bytes, with a slash, colon or blank.
    ("route add 10/8 dev abcdefghijklmnop", 1, "has 16 bytes; 1 to 15 are valid"),
    ("route add 10/8 dev a/b", 1, "'/' can't stand in an interface name"),
    ("route add 10/8 dev a:b", 1, "':' can't stand in an interface name"),
    ("route add 10/8 dev a_b", 1, "' ' can't stand in an interface name"),
    // Weight 0 or 257.
    (
        "route add 10/8 nexthop via 1.1.1.1 weight 0",
        1,
        "weight: 0: out of range, or not a number; 1 to 256",
    ),
    (
        "route add 10/8 nexthop via 1.1.1.1 weight 257",
        1,
        "weight: 257: out of range, or not a number; 1 to 256",
    ),
    // Unknown verb.
    ("route frobnicate 10/8", 1, "frobnicate: unknown verb"),
    // What the daemon refuses.
    ("route add 122.1.1.1/32 via 10.1.1.1 dev Ethernet1", 2, "122.1.1.1/32: exists"),
    ("route change 9.9.9.0/24 dev e", 2, "9.9.9.0/24: "),
    ("route del 9.9.9.0/24", 2, "9.9.9.0/24: "),
    ("neigh del 9.9.9.9", 2, "9.9.9.9: "),
];

fn arguments(line: &str) -> Vec<String> {
    line.split(' ').map(|word| word.replace('_', " ")).collect()
}

fn run(daemon: &Daemon, line: &str) -> rtm_e2e::Output {
    let words = arguments(line);
    daemon.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// One line, and an exit code.
#[track_caller]
fn refused(output: &rtm_e2e::Output, what: &str, code: i32, said: &str) {
    assert_eq!(output.code, Some(code), "{what}: {}{}", output.out, output.err);
    assert_eq!(output.err.lines().count(), 1, "{what}: {}", output.err);
    assert!(output.err.starts_with("rtm: "), "{what}: {}", output.err);
    assert!(output.err.contains(said), "{what}: {}", output.err);
    assert!(!output.err.contains("panicked"), "{what}: {}", output.err);
}

fn revision(daemon: &Daemon) -> u64 {
    daemon.json(&["digest"])["revision"].as_u64().expect("a revision")
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn whatever_is_wrong_gets_one_line_and_disturbs_nobody() {
    let directory = tempfile::Builder::new().prefix("rtm-e2e-").tempdir().unwrap();
    let configuration = directory.path().join("rtmd.toml");
    std::fs::write(
        &configuration,
        "[limits]\ntransaction_bytes_max = \"16 KiB\"\nhello_timeout_s = 1\n",
    )
    .unwrap();
    let configuration = configuration.to_str().unwrap().to_owned();
    let daemon =
        Daemon::start_in(directory, &["--config", &configuration, "--listen", "tcp://127.0.0.1:0"]);
    daemon.rtm(&["route", "add", "122.1.1.1/32", "via", "10.1.1.1", "dev", "Ethernet1"]);
    let witness = daemon.spawn(&["client", "--verify", "--name", "witness"]);
    witness.wait_stderr("rtm: live: ");
    let before = daemon.rtm(&["digest"]);

    for &(line, code, said) in COMMANDS {
        refused(&run(&daemon, line), line, code, said);
    }
    not_permitted(&daemon);
    assert_eq!(daemon.rtm(&["digest"]), before, "nothing of it was applied");

    files(&daemon);
    connections(&daemon);
    nobody_there();

    // The one that followed all the time has everything, over one connection.
    daemon.rtm(&["sync", "--timeout", "60"]);
    let digest = daemon.rtm(&["digest"]);
    witness.signal(libc::SIGTERM);
    let output = witness.finish();
    assert_eq!((output.code, output.out), (Some(0), digest), "{}", output.err);
    assert_eq!(output.err.matches("rtm: connected: ").count(), 1, "{}", output.err);
    assert_eq!(output.err.matches("rtm: syncing: snapshot").count(), 1, "{}", output.err);
    assert!(!output.err.contains("differs"), "{}", output.err);
}

/// Which role is needed.
fn not_permitted(daemon: &Daemon) {
    let tcp = daemon.json(&["status"])["tcp"].as_str().expect("it listens").to_owned();
    for (words, role) in [
        (&["route", "add", "10/8", "dev", "e"][..], "inject would be right"),
        (&["flush", "--force"], "admin would be right"),
        (&["client", "kill", "witness"], "admin would be right"),
    ] {
        let output = Process::start("rtm", [&["--socket", &tcp][..], words].concat()).finish();
        refused(&output, "over TCP", 2, role);
        assert!(output.err.contains("not permitted"), "{}", output.err);
    }
}

/// Files: truncated, corrupt, with duplicates, empty, over a limit.
fn files(daemon: &Daemon) {
    let write = |name: &str, content: &[u8]| {
        let path = daemon.directory().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let load = |path: &str, more: &str| {
        run(daemon, &format!("route load {path} --via 10.1.1.1 --dev Ethernet1{more}"))
    };
    let plain: String = (0..2000).map(|n| format!("20.{}.{}.0/24\n", n / 256, n % 256)).collect();
    let (begin, end) = plain.split_at(plain.len() / 2);
    let begin = &begin[..=begin.rfind('\n').unwrap()];
    let wrong = write("wrong", format!("{begin}20.0.0.0/77\n{end}").as_bytes());
    let line = format!("wrong: line {}: ", begin.lines().count() + 1);

    // A wrong line is named; with --atomic nothing is applied.
    let at = revision(daemon);
    refused(&load(&wrong, " --atomic"), "atomic", 1, &line);
    assert_eq!(revision(daemon), at);
    // Without, what was applied is counted.
    let output = load(&wrong, "");
    refused(&output, "not atomic", 1, &line);
    let applied = begin.lines().count();
    assert_eq!(revision(daemon), at + applied as u64);
    assert!(output.err.contains(&applied.to_string()), "{}", output.err);

    // A truncated and a corrupt stream: the byte of what was unpacked is named.
    let zipped = gzip(&plain);
    let cut = write("cut.gz", &zipped[..zipped.len() - 20]);
    refused(&load(&cut, " --atomic"), "truncated", 1, "cut.gz: byte ");
    let mut broken = zipped.clone();
    let middle = broken.len() / 2;
    broken[middle..middle + 40].fill(0x55);
    let broken = write("broken.gz", &broken);
    // (Garbage may unpack into a line that is none.)
    refused(&load(&broken, " --atomic"), "corrupt", 1, "broken.gz: ");
    let mut checksum = zipped.clone();
    let last = checksum.len() - 5;
    checksum[last] ^= 1;
    let checksum = write("checksum.gz", &checksum);
    refused(&load(&checksum, " --atomic"), "its checksum", 1, "checksum.gz: byte ");
    // Neither changed anything.
    assert_eq!(revision(daemon), at + applied as u64);

    // A duplicate: the last wins, and it is counted.
    let twice = write(
        "twice",
        b"route replace 30.0.0.0/8 via 10.1.1.1 dev a\nroute replace 30.0.0.0/8 via 10.1.1.2 dev b\n",
    );
    let output = run(daemon, &format!("route load {twice}"));
    assert_eq!(output.code, Some(0), "{}", output.err);
    assert!((output.out + &output.err).contains("1 duplicate"), "{}", output.err);
    assert_eq!(
        daemon.rtm(&["route", "show", "30/8"]),
        "30.0.0.0/8 via 10.1.1.2 dev b proto static \n"
    );

    // An empty file: 0 routes, said so.
    let output = load(&write("empty", b""), "");
    assert_eq!(output.code, Some(0), "{}", output.err);
    assert!(output.out.starts_with("0 routes"), "{}", output.out);

    // A transaction over the limit: both numbers.
    let lines: String = (0..400)
        .map(|n| {
            format!("route add 40.{}.{}.0/24 via 10.2.{}.1 dev e{n}\n", n / 256, n % 256, n % 256)
        })
        .collect();
    let at = revision(daemon);
    let batch = write("batch", lines.as_bytes());
    let output = run(daemon, &format!("-batch {batch} --atomic"));
    assert_eq!(output.code, Some(1), "{}", output.err);
    let said = "takes 16456 bytes, over transaction_bytes_max 16384";
    assert!(output.err.contains(said), "{}", output.err);
    assert_eq!(revision(daemon), at);
    // A large load isn't one of those.
    daemon.rtm(&[
        "route",
        "load",
        &write("large", lines.repeat(2).replace("add", "replace").as_bytes()),
        "--atomic",
    ]);
}

fn connect(daemon: &Daemon) -> UnixStream {
    UnixStream::connect(daemon.directory().join("rtm.sock")).unwrap()
}

/// Clients that send nonsense, or nothing, or don't read.
fn connections(daemon: &Daemon) {
    let hello = hello();
    let change = ["route", "replace", "50/8", "dev", "e"];
    for (what, bytes) in [
        ("garbage", b"\x93\x01hello, is anybody there?".to_vec()),
        ("a huge length", vec![0xff; 32]),
        ("a zero length", vec![0; 32]),
        ("garbage behind a hello", [&hello[..], &[0xee; 64]].concat()),
        ("a hello that never ends", hello[..20].to_vec()),
        ("half a frame behind a hello", [&hello[..], &[24, 0, 0, 0, 0x10, 0]].concat()),
    ] {
        let mut stream = connect(daemon);
        stream.write_all(&bytes).unwrap();
        daemon.rtm(&change);
        if what.starts_with("half") {
            continue; // It may take its time for the rest.
        }
        stream.set_read_timeout(Some(rtm_e2e::process::PATIENCE)).unwrap();
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer);
        assert!(
            end.is_ok() || end.unwrap_err().kind() == std::io::ErrorKind::ConnectionReset,
            "{what}"
        );
    }
    // One that never reads.
    let mut deaf = connect(daemon);
    deaf.write_all(&hello).unwrap();
    deaf.write_all(&request("route show").repeat(200)).unwrap();
    daemon.rtm(&change);
    // Those that go at any byte.
    let bytes = [&hello[..], &request("route show")].concat();
    for cut in 0..=bytes.len() {
        connect(daemon).write_all(&bytes[..cut]).unwrap();
    }
    daemon.rtm(&change);
    drop(deaf);
}

/// As `docs/wire.md` draws it.
fn hello() -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&32_u32.to_le_bytes());
    frame.extend_from_slice(&[1, 0, 1, 0]);
    frame.extend_from_slice(b"rtm-wire");
    frame.extend_from_slice(&[1, 0, 1, 0]);
    frame.extend_from_slice(&65_536_u32.to_le_bytes());
    frame.extend_from_slice(&0_u64.to_le_bytes());
    frame
}

fn request(line: &str) -> Vec<u8> {
    let text = line.len().next_multiple_of(8);
    let mut frame = Vec::new();
    frame.extend_from_slice(&(16 + text as u32).to_le_bytes());
    frame.extend_from_slice(&[0x10, 0, 1, 0]);
    frame.extend_from_slice(&1_u64.to_le_bytes());
    frame.extend_from_slice(line.as_bytes());
    frame.resize(16 + text, 0);
    frame
}

/// No daemon: where it was looked for.
fn nobody_there() {
    let directory = tempfile::tempdir().unwrap();
    let path: &Path = directory.path();
    let arguments = ["--runtime-dir", path.to_str().unwrap(), "route"];
    let output = Process::start("rtm", arguments).finish();
    refused(&output, "no daemon", 3, path.join("rtm.sock").to_str().unwrap());
}
