//! The kernel's tables beside the daemon's: both as `ip` and `rtm` print them.
//!
//! And random steps with everything that `ip` can do to routes, after which the
//! two must be the same. Every step is drawn from a seed that a failure names.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::process::PATIENCE;
use crate::{Daemon, Namespace};

/// Routes by family, table, destination, tos and metric, each list in its order.
pub type Routes = BTreeMap<String, Vec<String>>;

/// Lines of `ip -o route show table all`.
pub fn routes(family: &str, text: &str) -> Routes {
    let mut routes = Routes::new();
    for line in text.lines() {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        let words: Vec<&str> = line.split(' ').collect();
        let typed = words[0].chars().all(|c| c.is_ascii_lowercase()) && words[0] != "default";
        let dst = words[usize::from(typed)];
        let value = |name: &str| {
            words.iter().position(|word| *word == name).map_or("-", |at| words[at + 1])
        };
        let key = format!("{family} {dst} {} {} {}", value("table"), value("tos"), value("metric"));
        // A blackhole by a next-hop object: its number isn't shown by ours.
        let line = match ["blackhole", "unreachable", "prohibit", "throw"].contains(&words[0]) {
            true => without(&line, &["nhid", "dev"]),
            false => line,
        };
        // When it expires is no part of a route.
        let line = without(&line, &["expires"]);
        // What all next hops together are, each of them says as well.
        let line = match line.split_once(" \\ ") {
            Some((own, hops)) => {
                let own = own.replace(" linkdown", "").replace(" dead", "");
                format!("{own} \\ {hops}")
            }
            None => line,
        };
        routes.entry(key).or_default().push(line);
    }
    if family == "-6" {
        // Others of the same metric stand in no order that means anything.
        routes.values_mut().for_each(|list| list.sort());
    }
    routes
}

/// A line without these words and their values.
fn without(line: &str, names: &[&str]) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    for name in names {
        if let Some(at) = words.iter().position(|word| word == name) {
            words.drain(at..at + 2);
        }
    }
    words.join(" ")
}

/// The kernel's routes.
pub fn kernel_routes(namespace: &Namespace) -> Routes {
    let mut all = Routes::new();
    for family in ["-4", "-6"] {
        all.extend(routes(family, &namespace.ip(&format!("-o {family} route show table all"))));
    }
    // What `ip` says of a moment is no part of a route.
    all
}

/// The daemon's candidates from the kernel.
pub fn daemon_routes(daemon: &Daemon) -> Routes {
    let mut all = Routes::new();
    for family in ["-4", "-6"] {
        all.extend(routes(family, &daemon.rtm(&["-o", family, "route", "show", "table", "all"])));
    }
    all
}

/// Neighbours as (address, link) → MAC and, where it lasts, the state.
pub fn neighbours(text: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let value = |name: &str| {
            words.iter().position(|word| *word == name).map_or("-", |at| words[at + 1])
        };
        let state = words.last().copied().unwrap_or("-");
        let multicast = words[0].starts_with("ff") || words[0].starts_with("22");
        if state == "NOARP" && multicast || state == "NONE" || line.contains("proxy") {
            continue;
        }
        let lasting = match state {
            "PERMANENT" | "FAILED" | "INCOMPLETE" | "NOARP" => state,
            _ => "valid",
        };
        let key = format!("{} {}", words[0], value("dev"));
        all.insert(key, format!("{} {lasting}", value("lladdr")));
    }
    all
}

/// Waits until the daemon's tables are the kernel's; panics with the first
/// differences if they never are.
pub fn await_equal(namespace: &Namespace, daemon: &Daemon, what: &str) {
    let start = Instant::now();
    loop {
        let (kernel, ours) = (kernel_routes(namespace), daemon_routes(daemon));
        let theirs = neighbours(&namespace.ip("neigh show nud all"));
        let neighbours = neighbours(&daemon.rtm(&["neigh", "show", "nud", "all"]));
        if kernel == ours && theirs == neighbours {
            return;
        }
        if start.elapsed() > PATIENCE {
            let mut text = String::new();
            for (key, list) in &kernel {
                if ours.get(key) != Some(list) {
                    text += &format!("kernel: {list:#?}\nrtm: {:#?}\n", ours.get(key));
                }
            }
            for (key, list) in ours.iter().filter(|(key, _)| !kernel.contains_key(*key)) {
                text += &format!("only rtm: {key}: {list:#?}\n");
            }
            if theirs != neighbours {
                text += &format!("neighbours of the kernel: {theirs:#?}\nrtm: {neighbours:#?}\n");
            }
            panic!("{what}: not the same:\n{text}\n{}", daemon.process.stderr());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A small generator of numbers (xorshift): steps that can be repeated.
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// One of these.
    pub fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u64) as usize]
    }
}

/// Sets up what the steps work on: links, a bridge, rules for each table.
pub fn prepare(namespace: &Namespace) {
    namespace.ip("link add br0 type bridge");
    namespace.ip("link set br0 up");
    for table in TABLES.iter().filter(|table| **table != "254") {
        for family in ["-4", "-6"] {
            namespace.ip(&format!("{family} rule add fwmark {table} lookup {table}"));
        }
    }
}

/// The tables that steps use.
pub const TABLES: [&str; 4] = ["254", "100", "200", "1000"];

/// One random step; many are refused by the kernel, which is as good.
pub fn step(namespace: &Namespace, random: &mut Random) -> String {
    let table = random.of(&TABLES);
    let number = random.below(12);
    let v6 = random.below(3) == 0;
    let family = if v6 { "-6" } else { "-4" };
    let prefix = if v6 {
        format!("2001:db8:f{number:x}::/48")
    } else {
        format!("10.{number}.0.0/{}", random.of(&["16", "24"]))
    };
    let host = random.below(6) + 3;
    let side = random.below(2) + 1;
    let link = if side == 1 { "v0" } else { "w0" };
    let gateway =
        if v6 { format!("2001:db8:{side}::{host}") } else { format!("192.168.{side}.{host}") };
    let verb = random.of(&["add", "replace", "append", "prepend", "change", "del", "del"]);
    let metric = random.of(&["", "", "metric 10", "metric 20"]);
    // A dump leaves out what stands between two gateways of one metric in IPv6, so
    // what isn't by gateway has another.
    let alone = if v6 { "metric 30" } else { metric };
    let tos = if v6 { "" } else { random.of(&["", "", "", "tos 0x10"]) };
    let words = match random.below(30) {
        0 => format!("link set {} down", random.of(&["v0", "w0", "v1", "w1"])),
        1..=4 => format!("link set {} up", random.of(&["v0", "w0", "v1", "w1"])),
        5 => {
            // Made again, with what belongs to it.
            let _ = namespace.try_ip("link del w0");
            for words in [
                "link add w0 type veth peer name w1",
                "link set w0 up",
                "link set w1 up",
                "addr add 192.168.2.2/24 dev w0",
                "-6 addr add 2001:db8:2::2/64 dev w0 nodad",
            ] {
                let _ = namespace.try_ip(words);
            }
            return "w0 made again".into();
        }
        6 => {
            for words in ["link set v0 down", "link set v0 name v9", "link set v9 up"] {
                let _ = namespace.try_ip(words);
            }
            for words in ["link set v9 down", "link set v9 name v0", "link set v0 up"] {
                let _ = namespace.try_ip(words);
            }
            return "v0 renamed and back".into();
        }
        7 => format!("addr {} 192.168.{side}.{}/24 dev {link}", random.of(&["add", "del"]), host),
        8 => format!(
            "-6 addr {} 2001:db8:{side}::{}/64 dev {link} nodad",
            random.of(&["add", "del"]),
            host + 20
        ),
        9..=11 => {
            let id = random.below(4) + 1;
            match random.below(4) {
                0 => format!("nexthop del id {id}"),
                1 => format!("nexthop replace id {id} blackhole"),
                _ => format!("{family} nexthop replace id {id} via {gateway} dev {link}"),
            }
        }
        12 => format!(
            "nexthop replace id {} group {}",
            random.below(2) + 11,
            random.of(&["1", "1/2", "1,3/2", "3/4", "2,7"])
        ),
        13..=14 => format!(
            "{family} route {verb} {prefix} nhid {} {alone} table {table}",
            random.of(&["1", "2", "3", "4", "11", "12"])
        ),
        15 => format!(
            "{family} route {verb} {} {prefix} {alone} table {table}",
            random.of(&["blackhole", "unreachable", "prohibit", "throw"])
        ),
        16..=17 => {
            let other = if v6 { "2001:db8:2::9" } else { "192.168.2.9" };
            format!(
                "{family} route {verb} {prefix} {tos} {metric} table {table} nexthop via {gateway} dev {link} weight {host} nexthop via {other} dev w0"
            )
        }
        18 => format!("{family} route {verb} {prefix} dev {link} {alone} table {table}"),
        19 => {
            format!("{family} route {verb} {prefix} via {gateway} dev {link} onlink table {table}")
        }
        20 if !v6 => {
            format!("route {verb} {prefix} via inet6 2001:db8:{side}::5 dev {link} table {table}")
        }
        20 | 21 => {
            let src = if v6 {
                format!("2001:db8:{side}::2")
            } else {
                format!("192.168.{side}.{}", random.of(&["2", "5"]))
            };
            format!("{family} route {verb} {prefix} via {gateway} src {src} {metric} table {table}")
        }
        22 => format!("{family} route flush table {}", random.of(&["100", "200", "1000"])),
        23 => {
            let verb = random.of(&["replace", "replace", "add", "del"]);
            let state = random.of(&["", "nud reachable", "nud stale", "nud failed", "nud noarp"]);
            let mac = format!("02:00:00:00:00:{:02x}", random.below(250));
            if state == "nud failed" {
                // The kernel says so only of one that was valid.
                let words = format!("neigh replace {gateway} lladdr {mac} dev {link} nud stale");
                let _ = namespace.try_ip(&words);
                format!("neigh change {gateway} dev {link} {state}")
            } else {
                format!("neigh {verb} {gateway} lladdr {mac} dev {link} {state}")
            }
        }
        24 => {
            let fdb = format!(
                "fdb {} 02:00:00:00:01:{:02x} dev br0 self",
                random.of(&["replace", "del"]),
                random.below(20)
            );
            let mut command = namespace.command("bridge");
            let _ = command.args(fdb.split_whitespace()).output();
            return format!("bridge {fdb}");
        }
        25 => format!(
            "{family} route {verb} {prefix} via {gateway} mtu 1400 advmss 1300 {metric} table {table}"
        ),
        26 => format!("link set {link} mtu {}", random.of(&["1300", "1400", "1500"])),
        27 if v6 => {
            // Several at once; and a source that may not be there for long.
            let src = format!("2001:db8:{side}::{}", random.of(&["2", "23", "24"]));
            let other = random.below(6) + 3;
            format!(
                "-6 route {verb} {prefix} src {src} {metric} table {table} nexthop via {gateway} weight {host} nexthop via 2001:db8:1::{other}"
            )
        }
        _ => format!("{family} route {verb} {prefix} {tos} via {gateway} {metric} table {table}"),
    };
    let (code, _, _) = namespace.try_ip(&words);
    format!("ip {words} → {}", code.unwrap_or(-1))
}

/// Compares what a look-up finds in each table: a few addresses of each prefix.
pub fn compare_lookups(namespace: &Namespace, daemon: &Daemon, random: &mut Random, what: &str) {
    for table in TABLES {
        for _ in 0..3 {
            let number = random.below(12);
            let address = match random.below(2) {
                0 => format!("10.{number}.{}.1", random.below(3)),
                _ => format!("2001:db8:f{number:x}::1"),
            };
            compare_lookup(namespace, daemon, &address, table, what);
        }
    }
}

/// Compares what a look-up finds for one address: `rtm route get` beside `ip
/// route get fibmatch`, which a rule brings to the table.
pub fn compare_lookup(
    namespace: &Namespace,
    daemon: &Daemon,
    address: &str,
    table: &str,
    what: &str,
) {
    let family = if address.contains(':') { "-6" } else { "-4" };
    let place = format!("{what}: {address} table {table}");
    let mark = if table == "254" { String::new() } else { format!("mark {table}") };
    let (code, theirs, error) =
        namespace.try_ip(&format!("-o {family} route get {address} {mark} fibmatch"));
    let ours = daemon.run(&["-o", family, "route", "get", address, "table", table]);
    let found = |is: bool, text: &str| match is {
        true => routes(family, text).into_iter().next(),
        false => None,
    };
    // Ours begins with what was looked up.
    let out = ours.out.trim_start_matches(address).trim_start();
    let own = found(ours.code == Some(0), out);
    let kernels = found(code == Some(0), &theirs);
    let kind = out.split_whitespace().next().unwrap_or_default();
    match own {
        // The kernel goes on with the next rule: not in this table, in any case.
        None => {
            let inside = kernels.as_ref().is_some_and(|(key, _)| in_table(key, table));
            assert!(!inside, "{place}: rtm finds none, ip: {theirs}");
        }
        Some(_) if kind == "throw" => {}
        Some(_) if ["blackhole", "unreachable", "prohibit"].contains(&kind) => {
            assert_ne!(code, Some(0), "{place}: {kind}, not {theirs}");
        }
        Some((key, lines)) => {
            let Some((theirs, kernels)) = kernels else {
                panic!("{place}: rtm: {lines:?}\nip: {error}");
            };
            // Of several equal ones IPv6 takes any.
            let same = key == theirs && (family == "-6" || lines == kernels);
            assert!(same, "{place}: rtm: {lines:#?}\nip: {kernels:#?}");
        }
    }
}

/// Is a route of this key in this table?
fn in_table(key: &str, table: &str) -> bool {
    key.split(' ').nth(2).is_some_and(|of| of == if table == "254" { "-" } else { table })
}

/// Runs random steps in bursts, and compares after each; gives the number of
/// bursts.
pub fn run_steps(
    namespace: &Namespace,
    daemon: &Daemon,
    random: &mut Random,
    steps: usize,
) -> usize {
    let (mut done, mut bursts) = (0, 0);
    while done < steps {
        let mut said = String::new();
        for _ in 0..random.below(8) + 1 {
            said += &format!("{}\n", step(namespace, random));
            done += 1;
        }
        bursts += 1;
        let what = format!("after {done} steps, the last of which were\n{said}");
        await_equal(namespace, daemon, &what);
        compare_lookups(namespace, daemon, random, &what);
    }
    bursts
}
