//! The binary of `ip route save`, with the real `ip`, both ways.

use std::process::{Command, Stdio};

use rtm_e2e::{Namespace, Process, require};

/// Lines of `ip route show`, sorted: restoring turns the order of appended
/// routes round, whoever saved them.
fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.sort();
    lines
}

fn save(namespace: &Namespace, words: &str, file: &std::path::Path) {
    let mut command = namespace.command("ip");
    command.args(words.split(' ')).stdout(std::fs::File::create(file).unwrap());
    assert!(command.stderr(Stdio::null()).status().unwrap().success(), "ip {words}");
}

fn run(mut command: Command, words: &[&str]) -> rtm_e2e::Output {
    command.args(words);
    Process::spawn(command).finish()
}

#[test]
fn what_ip_saves_is_read_and_what_is_saved_ip_restores() {
    let name = "what_ip_saves_is_read_and_what_is_saved_ip_restores";
    if !require::root(name) {
        return;
    }
    let namespace = Namespace::new();
    namespace.veth("v0", "v1", "192.168.1.2/24");
    namespace.ip("addr add 2001:db8:1::2/64 dev v0 nodad");
    namespace.ip("nexthop add id 7 via 192.168.1.9 dev v0");
    namespace.batch(
        "route add 10.0.0.0/8 via 192.168.1.1 proto 186 metric 20\n\
         route append 10.0.0.0/8 via 192.168.1.3 metric 20\n\
         route add default via 192.168.1.1 dev v0 onlink src 192.168.1.2 mtu 1400 advmss 1360\n\
         route add 11.0.0.0/8 nhid 7\n\
         route add 12.0.0.0/8 nexthop via 192.168.1.1 weight 2 nexthop via 192.168.1.3 weight 256\n\
         route add 13.0.0.0/8 via inet6 2001:db8:1::1 dev v0\n\
         route add tos 0x10 14.0.0.0/8 dev v0\n\
         route add blackhole 15.0.0.0/8 table 1000\n\
         route add unreachable 16.0.0.1 table 70000 metric 3\n\
         route add 2001:db8:a::/48 via 2001:db8:1::1 pref high\n\
         route add 2001:db8:b::/48 nexthop via 2001:db8:1::1 nexthop via 2001:db8:1::3 weight 5\n",
    );
    let daemon = namespace.daemon(&[]);
    let in_namespace = |words: &[&str]| {
        let mut command = namespace.command(rtm_e2e::binary("rtm"));
        command.arg("--runtime-dir").arg(daemon.directory());
        let output = run(command, words);
        assert_eq!(output.code, Some(0), "rtm {words:?}: {}", output.err);
        output.out
    };
    let (v4, v6) = (daemon.directory().join("v4"), daemon.directory().join("v6"));
    save(&namespace, "route save table all", &v4);
    save(&namespace, "-6 route save table main", &v6);
    for file in [&v4, &v6] {
        // Found out, and named links.
        in_namespace(&["route", "load", file.to_str().unwrap()]);
    }
    let of_ip = namespace.ip("-4 route show table all").replace("nhid 7 ", "");
    assert_eq!(sorted(&daemon.rtm(&["-4", "route", "show", "table", "all"])), sorted(&of_ip));
    let of_ip = namespace.ip("-6 route show");
    assert_eq!(sorted(&daemon.rtm(&["-6", "route", "show"])), sorted(&of_ip));

    // And back: into a kernel without them. What the kernel makes by itself stays:
    // ip restores multipath routes before the connected ones, whoever saved them.
    let whole = daemon.directory().join("whole");
    let name = whole.to_str().unwrap();
    in_namespace(&["route", "save", name, "--format", "ip-dump"]);
    namespace.ip("nexthop del id 7"); // Its route goes along.
    for what in ["table main proto boot", "table main proto 186", "table 1000", "table 70000"] {
        namespace.ip(&format!("-4 route flush {what}"));
    }
    namespace.ip("-6 route flush table main proto boot");
    assert!(!namespace.ip("-4 route show table all").contains("10.0.0.0/8"));
    let mut restore = namespace.command("ip");
    restore.args(["route", "restore"]).stdin(std::fs::File::open(&whole).unwrap());
    let output = restore.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let of_ip = namespace.ip("-4 route show table all");
    assert_eq!(sorted(&daemon.rtm(&["-4", "route", "show", "table", "all"])), sorted(&of_ip));
    let of_ip = namespace.ip("-6 route show");
    assert_eq!(sorted(&daemon.rtm(&["-6", "route", "show"])), sorted(&of_ip));

    // To standard output it is the same.
    let mut command = namespace.command(rtm_e2e::binary("rtm"));
    command.arg("--runtime-dir").arg(daemon.directory());
    command.args(["route", "save", "--format=ip-dump"]);
    let bytes = command.output().unwrap().stdout;
    assert_eq!(bytes, std::fs::read(&whole).unwrap());

    // A link that this host doesn't have can't be named by number.
    daemon.rtm(&["route", "add", "17.0.0.0/8", "dev", "Ethernet9"]);
    let refused = |words: &[&str]| {
        let mut command = namespace.command(rtm_e2e::binary("rtm"));
        command.arg("--runtime-dir").arg(daemon.directory());
        run(command, words)
    };
    let output = refused(&["route", "save", name, "--format", "ip-dump"]);
    assert_eq!(output.code, Some(2));
    assert_eq!(
        output.err,
        "rtm: route save: 17.0.0.0/8: link Ethernet9 is not on this host, and a dump knows links by \
         number; --format batch would be right, or --force without such routes\n"
    );
    assert_eq!(bytes, std::fs::read(&whole).unwrap(), "the old file stays");
    let output = refused(&["route", "save", name, "--format", "ip-dump", "--force"]);
    assert_eq!(output.code, Some(1));
    assert!(output.err.contains("1 routes left out"), "{}", output.err);
    assert_eq!(bytes, std::fs::read(&whole).unwrap());
}

/// The file's own faults need no root.
#[test]
fn a_dump_that_is_none_or_cut_off_says_so() {
    let daemon = rtm_e2e::Daemon::start(&[]);
    let file = daemon.directory().join("dump");
    let load = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let output = daemon.run(&["route", "load", file.to_str().unwrap(), "--format", "ip-dump"]);
        (output.code, output.err.replace(file.to_str().unwrap(), "FILE"))
    };
    let magic = 0x4531_1224_u32;
    let foreign = load(&magic.swap_bytes().to_ne_bytes());
    assert!(foreign.1.contains("other byte order"), "{foreign:?}");
    let none = load(b"10.0.0.0/8\n");
    assert!(
        none.1.contains("byte 0 of the unpacked stream: no dump of 'ip route save'"),
        "{none:?}"
    );
    assert_eq!(load(b"").0, Some(0), "nothing is no error");
    // A route: 10.0.0.0/8 unreachable, proto static.
    let mut bytes = magic.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&36_u32.to_ne_bytes());
    bytes.extend_from_slice(&24_u16.to_ne_bytes());
    bytes.extend_from_slice(&[0; 10]);
    bytes.extend_from_slice(&[2, 8, 0, 0, 254, 4, 0, 7, 0, 0, 0, 0]);
    bytes.extend_from_slice(&8_u16.to_ne_bytes());
    bytes.extend_from_slice(&1_u16.to_ne_bytes());
    bytes.extend_from_slice(&[10, 0, 0, 0]);
    assert_eq!(load(&bytes).0, Some(0));
    assert_eq!(daemon.rtm(&["route", "show"]), "unreachable 10.0.0.0/8 proto static \n");
    for cut in 5..bytes.len() {
        let (code, line) = load(&bytes[..cut]);
        assert_eq!(code, Some(1), "{cut}: {line}");
        assert!(line.contains("byte 4 of the unpacked stream"), "{cut}: {line}");
    }
    bytes[4] = 3;
    assert!(load(&bytes).1.contains("below its header's"));
}
