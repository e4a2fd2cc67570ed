//! Files: every format, every fault, and what was applied by then.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use rtm_e2e::{Daemon, Output, Process};
use serde_json::json;

struct Files {
    daemon: Daemon,
}

impl Files {
    fn new() -> Files {
        Files { daemon: Daemon::start(&[]) }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.daemon.directory().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn load(&self, content: impl AsRef<[u8]>, args: &str) -> Output {
        let path = self.write("file", content);
        let mut all = vec!["route", "load", path.to_str().unwrap()];
        all.extend(args.split(' ').filter(|arg| !arg.is_empty()));
        let mut output = self.daemon.run(&all);
        output.err = output.err.replace(path.to_str().unwrap(), "FILE");
        output.out = output.out.replace(path.to_str().unwrap(), "FILE");
        output
    }

    fn routes(&self) -> u64 {
        self.daemon.json(&["route", "show", "table", "all", "--count"])["count"].as_u64().unwrap()
    }

    fn flush(&self) {
        self.daemon.rtm(&["flush", "--force"]);
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn every_format_is_found_out() {
    let files = Files::new();
    for (content, args, routes) in [
        ("10.0.0.0/8\n11/8\n2001:db8::/32\n", "--spread", 3),
        ("10.0.0.0/8\n11/8\n", "--via 192.0.2.1 --dev eth0", 2),
        (
            "10.0.0.0/8 via 1.1.1.1 dev a proto bgp metric 20 \n11.0.0.0/8 proto static \n\tnexthop via 1.1.1.1 dev a weight 1 \n\tnexthop via 1.1.1.2 dev b weight 1 \n",
            "",
            2,
        ),
        (
            "[{\"dst\":\"10.0.0.0/8\",\"gateway\":\"1.1.1.1\",\"dev\":\"a\",\"flags\":[]},{\"dst\":\"default\",\"dev\":\"b\",\"flags\":[]}]\n",
            "",
            2,
        ),
        ("# comment\nroute add 10.0.0.0/8 dev a\nroute replace 11.0.0.0/8 dev a\n", "", 2),
        ("10.0.0.0/8\n", "--format prefixes --spread", 1),
    ] {
        let output = files.load(content, args);
        assert_eq!(output.code, Some(0), "{content}: {}", output.err);
        assert!(
            output.out.starts_with(&format!("{routes} routes in ")),
            "{content}: {}",
            output.out
        );
        assert_eq!(files.routes(), routes, "{content}");
        files.flush();
    }
    // What is printed: routes, seconds, routes/s, revision, digest.
    let output = files.load("10.0.0.0/8\n", "--spread");
    let digest = files.daemon.json(&["digest"]);
    let words: Vec<&str> = output.out.trim_end().split(' ').collect();
    assert_eq!(
        (words[0], words[1], words[4], words[6], words[7], words[8], words[9], words[10]),
        (
            "1",
            "routes",
            "s,",
            "routes/s,",
            "revision",
            format!("{},", digest["revision"]).as_str(),
            "digest",
            digest["routes"].as_str().unwrap()
        ),
        "{}",
        output.out
    );
    // The rule of the test data.
    assert_eq!(
        files.daemon.rtm(&["route", "show", "10/8"]),
        format!(
            "10.0.0.0/8 via {} dev {} proto static \n",
            rtm_e2e::data::gateway("10.0.0.0/8"),
            rtm_e2e::data::oif("10.0.0.0/8")
        )
    );
}

#[test]
fn compressed_files_and_standard_input() {
    let files = Files::new();
    let two = [gzip(b"10.0.0.0/8\n"), gzip(b"11.0.0.0/8\n")].concat();
    assert_eq!(files.load(two, "--spread").code, Some(0));
    assert_eq!(files.routes(), 2);
    let mut process = files.daemon.spawn(&["route", "load", "-", "--spread"]);
    process.write("12.0.0.0/8\n13.0.0.0/8\n");
    let output = process.finish();
    assert_eq!(output.code, Some(0), "{}", output.err);
    assert_eq!(files.routes(), 4);
}

#[test]
fn a_bad_line_is_named_and_what_came_before_is_counted() {
    let files = Files::new();
    let content = "10.0.0.0/8\n11.0.0.0/8\n10.0.0.0/33\n12.0.0.0/8\n";
    let output = files.load(content, "--spread");
    assert_eq!(output.code, Some(1));
    assert_eq!(
        output.err,
        "rtm: route load: FILE: line 3: prefix: 10.0.0.0/33: mask 33 is too long for IPv4; 0 to 32 are valid; \
         2 before it were applied, revision 2\n"
    );
    assert_eq!(files.routes(), 2);
    // All or nothing.
    files.flush();
    let output = files.load(content, "--spread --atomic");
    assert_eq!(output.code, Some(1));
    assert!(output.err.ends_with("0 to 32 are valid; nothing was applied\n"), "{}", output.err);
    assert_eq!(files.routes(), 0);
    // Going on.
    let output = files.load(format!("{content}x\n"), "--spread --force");
    assert_eq!(output.code, Some(1));
    assert_eq!(output.err.lines().count(), 2, "{}", output.err);
    assert!(output.err.contains("line 3: ") && output.err.contains("line 5: "), "{}", output.err);
    assert!(
        output.out.contains("3 routes in ") && output.out.contains("\n2 failed\n"),
        "{}",
        output.out
    );
    assert_eq!(files.routes(), 3);
    let output = files.load(content, "--spread --force --atomic");
    assert_eq!((output.code, output.err.contains("contradicts --atomic")), (Some(1), true));
}

#[test]
fn a_cut_or_damaged_stream_is_named() {
    let files = Files::new();
    let text: String = (0..5000).map(|n| format!("10.{}.{}.0/24\n", n / 256, n % 256)).collect();
    let whole = gzip(text.as_bytes());
    let cut = &whole[..whole.len() / 2];
    let output = files.load(cut, "--spread");
    assert_eq!(output.code, Some(1));
    assert!(output.err.contains("the gzip stream is cut off"), "{}", output.err);
    assert!(output.err.contains(" before it were applied, revision "), "{}", output.err);
    let applied = files.routes();
    assert!(
        applied > 0 && output.err.contains(&format!("; {applied} before it")),
        "{}",
        output.err
    );
    files.flush();
    let output = files.load(cut, "--spread --atomic");
    assert_eq!(output.code, Some(1));
    assert!(output.err.ends_with("nothing was applied\n"), "{}", output.err);
    assert_eq!(files.routes(), 0);
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    let output = files.load(damaged, "--spread --atomic");
    assert_eq!((output.code, output.err.lines().count()), (Some(1), 1), "{}", output.err);
    assert_eq!(files.routes(), 0);
    let output = files.load(&b"\x00\x01\x02 rubbish"[..], "");
    assert_eq!((output.code, output.err.lines().count()), (Some(1), 1), "{}", output.err);
    assert!(output.err.contains("no known format"), "{}", output.err);
}

#[test]
fn duplicates_are_counted_and_nothing_is_said_to_be_nothing() {
    let files = Files::new();
    let output = files.load("10.0.0.0/8\n11.0.0.0/8\n10.0.0.0/8\n", "--via 1.1.1.1");
    assert_eq!(output.code, Some(0), "{}", output.err);
    assert!(
        output.out.contains("\n1 duplicates in the file, of which the last counts\n"),
        "{}",
        output.out
    );
    assert_eq!(files.routes(), 2);
    for content in ["", "\n\n", "# nothing\n"] {
        let output = files.load(content, "");
        assert_eq!(output.code, Some(0), "{}", output.err);
        assert!(output.out.starts_with("0 routes: FILE is empty; revision "), "{}", output.out);
    }
    assert_eq!(files.routes(), 2);
    let output = files.load("10.0.0.0/8\n", "");
    assert_eq!(output.code, Some(1));
    assert_eq!(
        output.err,
        "rtm: route load: FILE: a list of prefixes has no next hops; --via GW --dev LINK or --spread would be right\n"
    );
}

#[test]
fn a_source_is_the_whole_of_its_file() {
    let files = Files::new();
    files.daemon.rtm(&["route", "add", "99/8", "dev", "e"]);
    files.load("10.0.0.0/8\n11.0.0.0/8\n12.0.0.0/8\n", "--spread --source feed");
    assert_eq!(files.routes(), 4);
    files.load("11.0.0.0/8\n13.0.0.0/8\n", "--spread --source feed");
    assert_eq!(
        files
            .daemon
            .rtm(&["route", "show", "source", "feed"])
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect::<Vec<_>>(),
        ["11.0.0.0/8", "13.0.0.0/8"]
    );
    // A file that is cut off doesn't empty what it didn't come to.
    let output = files.load("14.0.0.0/8\nrubbish\n", "--spread --source feed");
    assert_eq!(output.code, Some(1), "{}", output.err);
    assert_eq!(files.routes(), 4);
    let output = files.load("", "--source feed");
    assert_eq!(output.code, Some(0), "{}", output.err);
    assert_eq!(files.routes(), 1);
}

#[test]
fn loads_as_json() {
    let files = Files::new();
    let path = files.write("x", "10.0.0.0/8\n10.0.0.0/8\n");
    let value = files.daemon.json(&["route", "load", path.to_str().unwrap(), "--spread"]);
    assert_eq!(
        (
            &value["routes"],
            &value["applied"],
            &value["unchanged"],
            &value["duplicates"],
            &value["failed"]
        ),
        (&json!(2), &json!(1), &json!(1), &json!(1), &json!(0))
    );
    assert_eq!(value["digest"], files.daemon.json(&["digest"])["routes"]);
}

/// The real samples, as they come from the collectors, cut off.
#[test]
fn a_public_dump_reads_to_its_cut() {
    let Some(data) = rtm_e2e::require::data("a_public_dump_reads_to_its_cut") else { return };
    let files = Files::new();
    let sample = data.join("rib.20140523.0600-first1MB.mrt.bz2");
    let sample = sample.to_str().unwrap();
    let output = files.daemon.run(&["route", "load", sample]);
    assert_eq!(output.code, Some(1), "a dump that is cut off is no whole one");
    assert_eq!(
        output.err,
        format!(
            "rtm: route load: {sample}: byte 15273283 of the unpacked stream: the bzip2 stream is cut off; \
             a whole file would be right; 9072 before it were applied, revision 9072\n"
        )
    );
    assert!(output.out.starts_with("9072 routes in "), "{}", output.out);
    assert!(output.out.ends_with("\n9072 prefixes, 270005 entries, 35 peers\n"), "{}", output.out);
    assert_eq!(files.routes(), 9_072);
    assert_eq!(
        files.daemon.rtm(&["route", "show", "1.0.0.0/24"]),
        "1.0.0.0/24 via 4.69.184.193 proto bgp \n"
    );
    // All or nothing is nothing.
    files.flush();
    let output = files.daemon.run(&["route", "load", sample, "--atomic"]);
    assert!(output.err.ends_with("would be right; nothing was applied\n"), "{}", output.err);
    assert_eq!((files.routes(), output.out.as_str()), (0, ""));
    // One peer's, as a source of its own.
    let args = ["-j", "route", "load", sample, "--format", "mrt", "--peer", "167.142.3.6"];
    let output = files.daemon.run(&args);
    let said: serde_json::Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!(said["routes"], 2_629);
    assert_eq!(said["dump"]["without"], 9_072 - 2_629);
    let sample = data.join("rib6.20151101.0600-first1MB.mrt.bz2");
    let output = files.daemon.run(&["route", "load", sample.to_str().unwrap()]);
    assert!(output.err.contains("byte 12131168 of the unpacked stream"), "{}", output.err);
    assert!(output.out.ends_with("\n6870 prefixes, 149578 entries, 27 peers\n"), "{}", output.out);
    assert_eq!(files.routes(), 2_629 + 6_870);
    let output = files.load("10.0.0.0/8\n", "--spread --peer 3");
    assert_eq!(output.code, Some(1));
    assert_eq!(output.err, "rtm: option: --peer: FILE has no peers; an MRT dump would be right\n");
}

#[test]
fn progress_is_drawn_on_a_terminal_only() {
    let daemon = Daemon::start(&[]);
    let lines = |from: u32| -> String {
        (from..from + 4096).map(|n| format!("20.{}.{}.0/24\n", n >> 8, n & 255)).collect()
    };
    let pipe = daemon.directory().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let rtm = daemon.command(&[
        "route",
        "load",
        pipe.to_str().unwrap(),
        "--via",
        "10.1.1.1",
        "--dev",
        "e",
    ]);
    let words: Vec<_> = std::iter::once(rtm.get_program())
        .chain(rtm.get_args())
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    // `script` runs it on a terminal of its own and copies what is drawn.
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
    for (command, terminal) in [(rtm, false), (script, true)] {
        let load = Process::spawn(command);
        let mut writer = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        writer.write_all(lines(0).as_bytes()).unwrap();
        // Longer than it leaves between two drawings.
        std::thread::sleep(std::time::Duration::from_millis(300));
        writer.write_all(lines(4096).as_bytes()).unwrap();
        drop(writer);
        let output = load.finish();
        assert_eq!(output.code, Some(0), "{}{}", output.out, output.err);
        // What is drawn counts in thousands; it is wiped out before the result.
        let lines: Vec<_> = output.out.split(['\r', '\n']).collect();
        let drawn = lines.iter().position(|line| line.contains("5,120 routes"));
        let result = lines.iter().position(|line| line.contains("8192 routes in "));
        assert_eq!(drawn.is_some(), terminal, "{output:?}");
        assert!(result.is_some() && drawn < result, "{output:?}");
    }
}
