//! The kernel's mirror: a real daemon, a real kernel, `ip` in namespaces.

use std::fmt::Write as _;
use std::io::Write as _;

use rtm_e2e::mirror::{self, Random};
use rtm_e2e::{Daemon, Namespace, Process, binary, require};
use rustix::net::netlink::SocketAddrNetlink;

fn count(daemon: &Daemon, name: &str) -> u64 {
    let status = daemon.json(&["status"]);
    status["kernel"]["counts"][name].as_u64().unwrap_or(0)
}

/// Feeds `ip -batch` in a namespace.
fn batch(namespace: &Namespace, lines: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(lines.as_bytes()).unwrap();
    namespace.ip(&format!("-force -batch {}", file.path().display()));
}

#[test]
fn what_the_kernel_has_the_daemon_has() {
    if !require::root("what_the_kernel_has_the_daemon_has") {
        return;
    }
    let namespace = Namespace::with_links();
    namespace.ip("route add 10.0.0.0/8 via 192.168.1.1");
    let daemon = Daemon::start_within(&namespace, "", &["--kernel"]);
    mirror::await_equal(&namespace, &daemon, "at the start");
    // Order among equal ones, several next hops, objects, other families' gateways.
    for words in [
        "route add 10.1.0.0/16 via 192.168.1.1",
        "route append 10.1.0.0/16 via 192.168.1.4",
        "route prepend 10.1.0.0/16 via 192.168.1.5",
        "route add 10.1.0.0/16 via 192.168.2.1 metric 50",
        "nexthop add id 5 via 192.168.1.7 dev v0",
        "nexthop add id 6 via 192.168.2.7 dev w0",
        "nexthop add id 7 group 5,3/6",
        "route add 10.2.0.0/16 nhid 5",
        "route add 10.3.0.0/16 nhid 7",
        "route add 10.4.0.0/16 nexthop via 192.168.1.1 weight 2 nexthop via 192.168.2.1",
        "route add 10.5.0.0/16 via inet6 2001:db8:1::1 dev v0",
        "-6 route add 2001:db8:a::/48 via 2001:db8:1::1",
        "-6 route append 2001:db8:a::/48 via 2001:db8:2::1",
        "route add blackhole 10.6.0.0/16 table 100",
        "neigh add 192.168.1.77 lladdr 02:00:00:00:00:77 dev v0",
    ] {
        namespace.ip(words);
    }
    mirror::await_equal(&namespace, &daemon, "after additions");
    namespace.ip("nexthop replace id 5 via 192.168.1.8 dev v0");
    namespace.ip("nexthop del id 6");
    namespace.ip("route del 10.1.0.0/16");
    namespace.ip("-6 route del 2001:db8:a::/48 via 2001:db8:1::1");
    mirror::await_equal(&namespace, &daemon, "after objects changed");
    namespace.ip("link set v0 down");
    mirror::await_equal(&namespace, &daemon, "with v0 down");
    namespace.ip("link set v0 up");
    namespace.ip("link set w1 down");
    mirror::await_equal(&namespace, &daemon, "with v0 up, w0 without carrier");
    namespace.ip("link del w0");
    mirror::await_equal(&namespace, &daemon, "without w0");
    // None of that was mended by a look at everything.
    assert_eq!(daemon.rtm(&["source", "reconcile", "kernel"]).trim(), "nothing differed");
    assert_eq!(count(&daemon, "refused"), 0);
}

#[test]
fn random_steps_end_equal() {
    if !require::root("random_steps_end_equal") {
        return;
    }
    let number = |name, or| std::env::var(name).map_or(or, |text| text.parse().unwrap());
    let (steps, seed) = (number("RTM_STEPS", 150), number("RTM_SEED", 7));
    let namespace = Namespace::with_links();
    mirror::prepare(&namespace);
    let daemon = Daemon::start_within(&namespace, "", &["--kernel"]);
    let mut random = Random::new(seed as u64);
    mirror::run_steps(&namespace, &daemon, &mut random, steps);
}

#[test]
fn a_link_that_goes_down_takes_its_routes_along() {
    if !require::root("a_link_that_goes_down_takes_its_routes_along") {
        return;
    }
    let namespace = Namespace::with_links();
    // No listing comes to help.
    let daemon = Daemon::start_within(&namespace, "[kernel]\nsettle_ms = 60000\n", &["--kernel"]);
    let mut lines = String::new();
    for number in 0..1000 {
        let _ =
            writeln!(lines, "route add 10.{}.{}.0/24 via 192.168.1.1", number / 250, number % 250);
    }
    batch(&namespace, &lines);
    let show = ["route", "show", "root", "10.0.0.0/8", "--count"];
    let until = |wanted: &str| {
        while daemon.rtm(&show).trim() != wanted {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    until("1000");
    let monitor = daemon.spawn(&["monitor", "route"]);
    monitor.wait_stderr("");
    namespace.ip("link set v0 down");
    until("0");
    // The same with a next-hop object, of which the kernel says one word.
    namespace.ip("link set v0 up");
    namespace.ip("nexthop add id 9 via 192.168.1.1 dev v0");
    batch(&namespace, &lines.replace("via 192.168.1.1", "nhid 9"));
    until("1000");
    namespace.ip("nexthop del id 9");
    until("0");
    assert_eq!(count(&daemon, "listings"), 1, "no listing but the first");
}

#[test]
fn an_overrun_ends_equal() {
    if !require::root("an_overrun_ends_equal") {
        return;
    }
    let namespace = Namespace::with_links();
    // The kernel's default.
    let config = "[kernel]\nreceive_bytes = 106496\n";
    let daemon = Daemon::start_within(&namespace, config, &["--kernel"]);
    let mut add = String::new();
    let mut del = String::new();
    for number in 0..20_000 {
        let prefix = format!("10.{}.{}.0/24", number / 250, number % 250);
        let _ = writeln!(add, "route add {prefix} via 192.168.1.1");
        if number % 3 != 0 {
            let _ = writeln!(del, "route del {prefix}");
        }
    }
    // Stopped, so that it reads nothing meanwhile.
    daemon.process.signal(19);
    batch(&namespace, &add);
    daemon.process.signal(18);
    mirror::await_equal(&namespace, &daemon, "after 20,000 additions");
    daemon.process.signal(19);
    batch(&namespace, &del);
    daemon.process.signal(18);
    mirror::await_equal(&namespace, &daemon, "after two thirds went");
    let overruns = count(&daemon, "overruns");
    let listings = count(&daemon, "listings") + count(&daemon, "listings repeated");
    println!("overruns {overruns}, listings {listings}");
    assert!(overruns >= 2);
    assert!(listings <= 8, "{listings}: one for each overrun, not one after the other");
    let told = daemon.process.stderr().matches("events were lost").count();
    assert_eq!(told, 1, "told once, then counted");
}

#[test]
fn no_privilege_is_needed() {
    if !require::root("no_privilege_is_needed") {
        return;
    }
    let namespace = Namespace::with_links();
    let directory = tempfile::tempdir().unwrap();
    let (process, runtime) = namespace.daemon_of_nobody(directory.path(), &["--kernel"]);
    process.wait_stderr("kernel: ");
    let mut rtm = std::process::Command::new(binary("rtm"));
    rtm.arg("--runtime-dir").arg(&runtime).args(["route", "show"]);
    let output = Process::spawn(rtm).finish();
    assert!(output.out.contains("192.168.1.0/24 dev v0"), "{}{}", output.out, output.err);
    // In order, so that its queue goes.
    process.signal(15);
    process.finish();
}

#[test]
fn other_tables_wake_nobody() {
    if !require::root("other_tables_wake_nobody") {
        return;
    }
    let namespace = Namespace::with_links();
    let daemon = Daemon::start_within(&namespace, "", &["--kernel=100,1000"]);
    let wakeups = || {
        let status = daemon.json(&["status"]);
        status["turns"]["wakeups"]["kernel"].as_u64().unwrap()
    };
    namespace.ip("route add 10.0.0.0/8 via 192.168.1.1 table 100");
    namespace.ip("route add 10.0.0.0/8 via 192.168.1.1 table 1000");
    while daemon.rtm(&["route", "show", "table", "all", "--count"]).trim() != "2" {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let before = wakeups();
    let mut lines = String::new();
    for number in 0..500 {
        for table in ["254", "200", "2000"] {
            let _ = writeln!(
                lines,
                "route add 10.{}.0.0/16 via 192.168.1.1 table {table}",
                number % 250
            );
            let _ = writeln!(lines, "route del 10.{}.0.0/16 table {table}", number % 250);
        }
        // Our own protocol's, and forwarding entries of a bridge.
        let _ = writeln!(lines, "route replace 11.0.0.0/8 via 192.168.1.1 proto 77 table 100");
    }
    batch(&namespace, &lines);
    assert_eq!(wakeups(), before, "3,000 events of other tables");
    assert_eq!(daemon.rtm(&["route", "show", "table", "all", "--count"]).trim(), "2");
}

#[test]
fn a_neighbours_moods_are_joined() {
    if !require::root("a_neighbours_moods_are_joined") {
        return;
    }
    let namespace = Namespace::with_links();
    // What the kernel makes by itself is no record of the neighbour's.
    namespace.settle();
    let daemon = Daemon::start_within(&namespace, "", &["--kernel"]);
    mirror::await_equal(&namespace, &daemon, "at the start");
    namespace.ip("neigh replace 192.168.1.9 lladdr 02:00:00:00:00:09 dev v0 nud reachable");
    let show = |daemon: &Daemon| daemon.rtm(&["neigh", "show", "nud", "all", "192.168.1.9"]);
    while !show(&daemon).contains("02:00:00:00:00:09") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let revision = || daemon.json(&["status"])["revision"].as_u64().unwrap();
    let (before, start) = (revision(), std::time::Instant::now());
    let mut lines = String::new();
    for _ in 0..200 {
        for state in ["stale", "reachable"] {
            let _ = writeln!(
                lines,
                "neigh replace 192.168.1.9 lladdr 02:00:00:00:00:09 dev v0 nud {state}"
            );
        }
    }
    lines.push_str("neigh replace 192.168.1.9 lladdr 02:00:00:00:00:09 dev v0 nud stale\n");
    batch(&namespace, &lines);
    while !show(&daemon).contains("STALE") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let (records, seconds) = (revision() - before, start.elapsed().as_secs() + 2);
    assert!(records <= seconds, "{records} records for one neighbour in {seconds} s");
    // Another MAC, and failure, are told at once.
    namespace.ip("neigh replace 192.168.1.9 lladdr 02:00:00:00:00:10 dev v0 nud reachable");
    namespace.ip("neigh replace 192.168.1.9 lladdr 02:00:00:00:00:11 dev v0 nud reachable");
    namespace.ip("neigh change 192.168.1.9 dev v0 nud failed");
    while !show(&daemon).contains("FAILED") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    mirror::await_equal(&namespace, &daemon, "in the end");
}

#[test]
fn who_is_not_the_kernel_is_not_heard() {
    if !require::root("who_is_not_the_kernel_is_not_heard") {
        return;
    }
    let namespace = Namespace::with_links();
    let daemon = Daemon::start_within(&namespace, "", &["--kernel"]);
    let pid = daemon.process.pid();
    // DELROUTE of 192.168.1.0/24 as the kernel would tell it.
    let mut message = vec![0; 28];
    message[0..4].copy_from_slice(&52_u32.to_ne_bytes());
    message[4..6].copy_from_slice(&25_u16.to_ne_bytes());
    message[16..24].copy_from_slice(&[2, 24, 0, 0, 254, 2, 253, 1]);
    for (number, value) in [(1_u16, [192, 168, 1, 0]), (4, [0; 4]), (7, [192, 168, 1, 2])] {
        message.extend_from_slice(&8_u16.to_ne_bytes());
        message.extend_from_slice(&number.to_ne_bytes());
        message.extend_from_slice(&value);
    }
    let name = namespace.name().to_owned();
    let sent = std::thread::spawn(move || {
        let file = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
        rustix::thread::move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&file),
            Some(rustix::thread::LinkNameSpaceType::Network),
        )
        .unwrap();
        let table = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::NETLINK,
            rustix::net::SocketType::RAW,
            None,
        )
        .unwrap();
        let mut sent = 0;
        for line in table.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            // Its two sockets: one has its pid, the other a number of its own.
            let (protocol, port) = (words[1], words[2].parse::<u32>().unwrap_or(0));
            if protocol == "0" && port != 0 {
                let to = SocketAddrNetlink::new(port, 0);
                let flags = rustix::net::SendFlags::empty();
                sent += usize::from(rustix::net::sendto(&socket, &message, flags, &to).is_ok());
            }
        }
        sent
    });
    let sent = sent.join().unwrap();
    assert!(sent >= 1, "pid {pid}: nothing could be sent");
    while count(&daemon, "spoofed") == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    mirror::await_equal(&namespace, &daemon, "after false messages");
}

#[test]
fn after_a_flush_the_kernel_is_asked_again() {
    if !require::root("after_a_flush_the_kernel_is_asked_again") {
        return;
    }
    let namespace = Namespace::with_links();
    let daemon = Daemon::start_within(&namespace, "", &["--kernel"]);
    mirror::await_equal(&namespace, &daemon, "at the start");
    daemon.rtm(&["flush", "all", "--force"]);
    mirror::await_equal(&namespace, &daemon, "after a flush");
}

#[test]
fn a_replaced_object_is_one_record_whatever_the_kernel_tells() {
    if !require::root("a_replaced_object_is_one_record_whatever_the_kernel_tells") {
        return;
    }
    for told in ["1", "0"] {
        let namespace = Namespace::with_links();
        // 0: of a replaced object's routes the kernel says nothing at all, and `ip`
        // shows their numbers only.
        let mode = |mode| namespace.sysctl("net.ipv4.nexthop_compat_mode", mode);
        mode(told);
        let mut lines = String::from(
            "nexthop add id 5 via 192.168.1.7 dev v0\nnexthop add id 6 via 2001:db8:1::7 dev v0\n\
             nexthop add id 8 via 192.168.2.7 dev w0\nnexthop add id 7 group 5,3/8\n",
        );
        for number in 0..100 {
            let _ = writeln!(lines, "route add 10.0.{number}.0/24 nhid 5");
            let _ = writeln!(lines, "route add 10.1.{number}.0/24 nhid 7");
            let _ = writeln!(lines, "route add 2001:db8:{number:x}::/48 nhid 6");
        }
        batch(&namespace, &lines);
        // No listing comes to help.
        let config = "[kernel]\nsettle_ms = 60000\n";
        let daemon = Daemon::start_within(&namespace, config, &["--kernel"]);
        mode("1");
        mirror::await_equal(&namespace, &daemon, "at the start");
        mode(told);
        let before = daemon.json(&["status"])["revision"].as_u64().unwrap();
        namespace.ip("nexthop replace id 5 via 192.168.1.8 dev v0");
        namespace.ip("-6 nexthop replace id 6 via 2001:db8:1::8 dev v0");
        mode("1");
        mirror::await_equal(&namespace, &daemon, "after both were replaced");
        let records = daemon.json(&["status"])["revision"].as_u64().unwrap() - before;
        assert!(records < 20, "{records} records of 300 routes, with compat_mode {told}");
        assert_eq!(count(&daemon, "listings"), 1, "no listing but the first");
    }
}

#[test]
fn gateways_of_one_route_may_differ_in_more() {
    if !require::root("gateways_of_one_route_may_differ_in_more") {
        return;
    }
    let namespace = Namespace::with_links();
    namespace.settle();
    // No listing comes to help.
    let daemon = Daemon::start_within(&namespace, "[kernel]\nsettle_ms = 60000\n", &["--kernel"]);
    let first = "2001:db8:a::/48 via 2001:db8:2::5 src 2001:db8:2::2";
    namespace.ip(&format!("-6 route add {first}"));
    namespace.ip("-6 route append 2001:db8:a::/48 via 2001:db8:2::7");
    namespace.ip("-6 route add 2001:db8:b::/48 via 2001:db8:2::5");
    namespace.ip("-6 route append 2001:db8:b::/48 via 2001:db8:2::7 src 2001:db8:2::2");
    mirror::await_equal(&namespace, &daemon, "a second gateway");
    assert_eq!(count(&daemon, "listings"), 1, "no listing but the first");
    drop(daemon);
    // Whose the rest is when the first one goes isn't told: that is listed.
    let daemon = Daemon::start_within(&namespace, "", &["--kernel"]);
    namespace.ip("-6 route append 2001:db8:b::/48 via 2001:db8:2::8 src 2001:db8:2::2");
    mirror::await_equal(&namespace, &daemon, "a third gateway");
    for prefix in ["a", "b"] {
        namespace.ip(&format!("-6 route del 2001:db8:{prefix}::/48 via 2001:db8:2::5"));
        mirror::await_equal(&namespace, &daemon, "without the first gateway");
    }
}

#[test]
fn what_a_gateway_has_that_was_never_told_is_asked_for() {
    if !require::root("what_a_gateway_has_that_was_never_told_is_asked_for") {
        return;
    }
    let namespace = Namespace::with_links();
    namespace.settle();
    let via = |n: u32| format!("2001:db8:b::/48 via 2001:db8:2::{n}");
    let mores = ["src 2001:db8:2::2", "mtu 1400", "proto 99", "pref high", "expires 3000"];
    for (round, more) in mores.iter().cycle().take(20).enumerate() {
        let what = |what: &str| format!("round {round}, {more}: {what}");
        namespace.ip(&format!("-6 route add {}", via(5)));
        std::thread::scope(|scope| {
            let changed = scope.spawn(|| {
                // While the daemon starts: at another moment each time.
                std::thread::sleep(std::time::Duration::from_micros(round as u64 * 500));
                namespace.ip(&format!("-6 route append {} {more}", via(7)));
                if round % 2 == 1 {
                    let several = "nexthop via 2001:db8:2::8 nexthop via 2001:db8:2::9";
                    namespace.ip(&format!("-6 route append 2001:db8:b::/48 {several}"));
                }
            });
            let daemon = namespace.daemon(&["--kernel", "--no-console"]);
            changed.join().unwrap();
            let order = if round % 3 == 0 { [7, 5] } else { [5, 7] };
            if round % 4 > 1 {
                mirror::await_equal(&namespace, &daemon, &what("at the start"));
            }
            namespace.ip(&format!("-6 route del {}", via(order[0])));
            mirror::await_equal(&namespace, &daemon, &what("without one"));
            namespace.ip(&format!("-6 route del {}", via(order[1])));
            mirror::await_equal(&namespace, &daemon, &what("without the other"));
        });
        let _ = namespace.try_ip("-6 route flush 2001:db8:b::/48");
    }
}

#[test]
fn what_the_kernel_changes_without_a_word_is_seen() {
    if !require::root("what_the_kernel_changes_without_a_word_is_seen") {
        return;
    }
    for many in [0, 2_500] {
        let namespace = Namespace::with_links();
        namespace.settle();
        let mut lines = String::new();
        for number in 0..many {
            let (b, c) = (16 + number / 250, number % 250);
            let _ = writeln!(lines, "route add 172.{b}.{c}.0/24 via 192.168.1.9");
        }
        batch(&namespace, &lines);
        for words in [
            "-6 addr add 2001:db8:2::33/64 dev w0 nodad",
            "-6 route add 2001:db8:a::/48 via 2001:db8:2::5 src 2001:db8:2::33",
            "-6 route add 2001:db8:b::/48 via 2001:db8:2::5 mtu 1400",
            "-6 route add 2001:db8:c::/48 dev v0 mtu 1400",
            "-6 route append 2001:db8:c::/48 dev w0 mtu 1400",
            "-6 route add 2001:db8:d::/48 nexthop via 2001:db8:1::5 nexthop via 2001:db8:2::5",
        ] {
            namespace.ip(words);
        }
        let daemon = Daemon::start_within(&namespace, "", &["--kernel"]);
        mirror::await_equal(&namespace, &daemon, "at the start");
        namespace.ip("-6 addr del 2001:db8:2::33/64 dev w0");
        mirror::await_equal(&namespace, &daemon, "without the address that is a source");
        namespace.ip("link set w0 mtu 1300");
        mirror::await_equal(&namespace, &daemon, "with a smaller link");
        namespace.sysctl("net.ipv6.conf.v0.disable_ipv6", "1");
        mirror::await_equal(&namespace, &daemon, "without IPv6 on a link");
        namespace.sysctl("net.ipv6.conf.v0.disable_ipv6", "0");
        mirror::await_equal(&namespace, &daemon, "with it again");
        assert_eq!(daemon.rtm(&["source", "reconcile", "kernel"]).trim(), "nothing differed");
    }
}

/// An event about a list that the first listing is still to tell says only where in it
/// something came.
#[test]
fn what_comes_while_the_first_listing_begins_is_whole() {
    if !require::root("what_comes_while_the_first_listing_begins_is_whole") {
        return;
    }
    let namespace = Namespace::with_links();
    namespace.settle();
    let hop = |n: u32| format!("route append 2001:db8:b::/48 via 2001:db8:2::{n}");
    for round in 0..40 {
        namespace.batch(&(5..9).map(|n| hop(n) + "\n").collect::<String>());
        std::thread::scope(|scope| {
            let appended = scope.spawn(|| {
                // While the daemon starts: at another moment each time.
                std::thread::sleep(std::time::Duration::from_micros(round * 250));
                namespace.ip(&format!("-6 {}", hop(9)));
            });
            let daemon = namespace.daemon(&["--kernel", "--no-console"]);
            appended.join().unwrap();
            mirror::await_equal(&namespace, &daemon, "a gateway while all is listed");
        });
        namespace.ip("-6 route flush 2001:db8:b::/48");
    }
}

#[test]
fn a_prefix_in_doubt_is_listed_alone() {
    if !require::root("a_prefix_in_doubt_is_listed_alone") {
        return;
    }
    let namespace = Namespace::with_links();
    namespace.settle();
    let mut lines = String::new();
    for number in 0..2_500 {
        let (b, c) = (16 + number / 250, number % 250);
        let _ = writeln!(lines, "route add 172.{b}.{c}.0/24 via 192.168.1.9");
    }
    batch(&namespace, &lines);
    for prefix in ["a", "b"] {
        // To the kernel the gateways are routes of their own.
        let route = format!("2001:db8:{prefix}::/48");
        namespace.ip(&format!("-6 route add {route} via 2001:db8:2::5 proto 99"));
        namespace.ip(&format!("-6 route append {route} via 2001:db8:2::7 src 2001:db8:2::2"));
    }
    let daemon = Daemon::start_within(&namespace, "", &["--kernel"]);
    mirror::await_equal(&namespace, &daemon, "at the start");
    let listings = count(&daemon, "listings");
    // What the other gateway has isn't told when the first goes.
    namespace.ip("-6 route append 2001:db8:a::/48 via 2001:db8:2::8");
    namespace.ip("-6 route del 2001:db8:a::/48 via 2001:db8:2::5");
    mirror::await_equal(&namespace, &daemon, "without the first gateway");
    namespace.ip("-6 route append 2001:db8:b::/48 via 2001:db8:2::8");
    namespace.ip("-6 route del 2001:db8:b::/48 via 2001:db8:2::5");
    mirror::await_equal(&namespace, &daemon, "without the other's");
    assert!(count(&daemon, "listings of prefixes") > 0, "{}", daemon.json(&["status"])["kernel"]);
    assert_eq!(count(&daemon, "listings"), listings, "and never everything");
    assert_eq!(daemon.rtm(&["source", "reconcile", "kernel"]).trim(), "nothing differed");
}
