//! Commands of the grammar, as a table: what a line asks for, and why one is
//! wrong. Routes have a file of their own.

mod support;

use std::time::Duration;

use rtm_model::text::{
    Barrier, ClientRun, Command, Context, FlushWhat, Format, LoadHops, Lookup, LookupInput,
    Monitor, NeighbourSelector, NudStates, Object, Options, Peer, PeerChoice, Position, PrefixRule,
    RouteGet, RouteLoad, RouteSave, RouteSelector, RouteShow, Shell, Topic, Wait, WaitFor, objects,
    parse_args, parse_line, verbs,
};
use rtm_model::{Change, Family, LinkRef, NeighbourSpec, NudState, Verb};

fn parse(line: &str) -> Result<Command, String> {
    match parse_line(line, &Context::default()) {
        Ok(Some((_, command))) => Ok(command),
        Ok(None) => panic!("{line:?} is empty"),
        Err(error) => Err(error.to_string()),
    }
}

fn check(line: &str, expected: Command) {
    assert_eq!(parse(line).as_ref(), Ok(&expected), "{line}");
    // The same from a shell's words.
    if !line.contains(['\'', '"', '#']) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, command) = parse_args(&words, &Context::default()).unwrap();
        assert_eq!(command, expected, "{line}");
    }
}

/// What `ip` shows without a family: IPv4.
fn selector() -> RouteSelector {
    RouteSelector { family: Some(Family::V4), ..RouteSelector::default() }
}

fn show(selector: RouteSelector) -> Command {
    Command::RouteShow(RouteShow { selector, all: false, count: false })
}

fn exact(text: &str) -> Option<PrefixRule> {
    Some(PrefixRule::Exact(text.parse().unwrap()))
}

#[test]
fn route_show() {
    for line in ["route", "route show", "r", "ro l", "r ls", "r lst", "r list", "r li", "r sh"] {
        check(line, show(selector()));
    }
    check("route show 10/8", show(RouteSelector { prefix: exact("10/8"), ..selector() }));
    check("route show exact 10/8", show(RouteSelector { prefix: exact("10/8"), ..selector() }));
    check("route show to exact 10/8", show(RouteSelector { prefix: exact("10/8"), ..selector() }));
    check("route show 10.1.1.1", show(RouteSelector { prefix: exact("10.1.1.1"), ..selector() }));
    check(
        "route show match 10.1.1.1",
        show(RouteSelector {
            prefix: Some(PrefixRule::Match("10.1.1.1".parse().unwrap())),
            ..selector()
        }),
    );
    check(
        "r s r 10/8",
        show(RouteSelector {
            prefix: Some(PrefixRule::Root("10/8".parse().unwrap())),
            ..selector()
        }),
    );
    check(
        "route show default",
        show(RouteSelector { prefix: Some(PrefixRule::Default), ..selector() }),
    );
    check("route show root default", show(selector()));
    check("route show all", show(selector()));
    let v6 = RouteSelector { family: Some(Family::V6), ..RouteSelector::default() };
    check("-6 route show", show(v6.clone()));
    check("-6 route", show(v6.clone()));
    check("route -6", show(v6.clone()));
    check(
        "route show 2001:db8::/32",
        show(RouteSelector { prefix: exact("2001:db8::/32"), ..v6.clone() }),
    );
    check(
        "route show via fe80::1",
        show(RouteSelector { via: Some("fe80::1".parse().unwrap()), ..v6.clone() }),
    );
    check("route show table all", show(RouteSelector { family: None, table: None, ..selector() }));
    check("route show table 0", show(RouteSelector { family: None, table: None, ..selector() }));
    check("route show t 100", show(RouteSelector { table: Some(100), ..selector() }));
    check("route show table local", show(RouteSelector { table: Some(255), ..selector() }));
    check(
        "route show dev e via 10.1.1.1 proto bgp metric 5 source fpm:1.2.3.4 type blackhole scope link tos 10 src 10/8 nhid 7",
        show(RouteSelector {
            link: Some("e".parse().unwrap()),
            via: Some("10.1.1.1".parse().unwrap()),
            protocol: Some(186),
            metric: Some(5),
            source: Some("fpm:1.2.3.4".into()),
            kind: Some(rtm_model::RouteType::Blackhole),
            scope: Some(253),
            tos: Some(16),
            src: Some("10/8".parse().unwrap()),
            nhid: Some(7),
            ..selector()
        }),
    );
    check(
        "route show --all --count proto all",
        Command::RouteShow(RouteShow { selector: selector(), all: true, count: true }),
    );
    check(
        "route --all",
        Command::RouteShow(RouteShow { selector: selector(), all: true, count: false }),
    );
}

#[test]
fn other_verbs_of_routes() {
    check("route flush all", Command::RouteFlush(selector()));
    check(
        "route flush proto bgp",
        Command::RouteFlush(RouteSelector { protocol: Some(186), ..selector() }),
    );
    let get = |addresses: &[&str], table| {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        Command::RouteGet(RouteGet { addresses, table })
    };
    check("route get 10.1.1.1", get(&["10.1.1.1"], 254));
    check("r g 10.1.1.1 ::1 t 9 10.1.1.2", get(&["10.1.1.1", "::1", "10.1.1.2"], 9));
    check("route get to 10.1.1.1 fibmatch", get(&["10.1.1.1"], 254));
    let load = RouteLoad {
        file: "f".into(),
        format: Format::Auto,
        hops: None,
        peer: PeerChoice::Best,
        atomic: false,
        force: false,
        source: None,
    };
    check("route load f", Command::RouteLoad(load.clone()));
    check("route load -", Command::RouteLoad(RouteLoad { file: "-".into(), ..load.clone() }));
    check(
        "--atomic route load f --spread --force --source list --format=prefixes",
        Command::RouteLoad(RouteLoad {
            format: Format::Prefixes,
            hops: Some(LoadHops::Spread),
            atomic: true,
            force: true,
            source: Some("list".into()),
            ..load.clone()
        }),
    );
    check(
        "route load --via 10.1.1.1 --dev e f",
        Command::RouteLoad(RouteLoad {
            hops: Some(LoadHops::Fixed {
                via: Some("10.1.1.1".parse().unwrap()),
                dev: Some("e".parse().unwrap()),
            }),
            ..load.clone()
        }),
    );
    for (word, peer) in [
        ("best", PeerChoice::Best),
        ("0", PeerChoice::Index(0)),
        ("65535", PeerChoice::Index(u16::MAX)),
        ("10.1.1.1", PeerChoice::Address("10.1.1.1".parse().unwrap())),
        ("2001:db8::1", PeerChoice::Address("2001:db8::1".parse().unwrap())),
    ] {
        check(
            &format!("route load f --format mrt --peer {word}"),
            Command::RouteLoad(RouteLoad { format: Format::Mrt, peer, ..load.clone() }),
        );
    }
    let save = |file: Option<&str>, format| {
        Command::RouteSave(RouteSave { file: file.map(Into::into), format })
    };
    check("route save", save(None, Format::Batch));
    check("route save -", save(None, Format::Batch));
    check("r sa f --format ip-dump", save(Some("f"), Format::IpDump));
}

#[test]
fn neighbours() {
    let spec = NeighbourSpec {
        ip: "10.1.1.1".parse().unwrap(),
        link: Some(LinkRef::Name("e".parse().unwrap())),
        mac: Some("2:0:0:0:0:1".parse().unwrap()),
        state: Some(NudState::PERMANENT),
        flags: 0,
        protocol: 0,
    };
    let change = |verb, spec: NeighbourSpec| Command::Change(Change::Neighbour(verb, spec));
    check("neigh add 10.1.1.1 lladdr 02:00:00:00:00:01 dev e", change(Verb::Add, spec.clone()));
    check("n a to 10.1.1.1 ll 2:0:0:0:0:1 dev e", change(Verb::Add, spec.clone()));
    check(
        "neighbour replace dev e lladdr 2:0:0:0:0:1 10.1.1.1",
        change(Verb::Replace, spec.clone()),
    );
    check(
        "neigh add 10.1.1.1 lladdr 2:0:0:0:0:1",
        change(Verb::Add, NeighbourSpec { link: None, ..spec.clone() }),
    );
    check(
        "neigh add 10.1.1.1 dev e lladdr 2:0:0:0:0:1 nud stale router extern_learn proto bgp",
        change(
            Verb::Add,
            NeighbourSpec {
                state: Some(NudState::STALE),
                flags: 0x90,
                protocol: 186,
                ..spec.clone()
            },
        ),
    );
    check(
        "neigh change 10.1.1.1 nud reach",
        change(
            Verb::Change,
            NeighbourSpec {
                link: None,
                mac: None,
                state: Some(NudState::REACHABLE),
                ..spec.clone()
            },
        ),
    );
    check(
        "neigh del 10.1.1.1",
        change(Verb::Delete, NeighbourSpec { link: None, mac: None, state: None, ..spec.clone() }),
    );
    check(
        "neigh add 10.1.1.1 dev e nud failed",
        change(Verb::Add, NeighbourSpec { mac: None, state: Some(NudState::FAILED), ..spec }),
    );
    let shown = NeighbourSelector { states: Some(NudStates::SHOWN), ..Default::default() };
    for line in ["neigh", "neigh show", "n l", "neighbor ls", "neigh show all"] {
        check(line, Command::NeighbourShow(shown));
    }
    check(
        "neigh show 10/8 dev e",
        Command::NeighbourShow(NeighbourSelector {
            family: Some(Family::V4),
            prefix: Some("10/8".parse().unwrap()),
            link: Some("e".parse().unwrap()),
            ..shown
        }),
    );
    for line in ["neigh show lladdr 2:0:0:0:0:1", "neigh show 02:00:00:00:00:01"] {
        let mac = Some("2:0:0:0:0:1".parse().unwrap());
        check(line, Command::NeighbourShow(NeighbourSelector { mac, ..shown }));
    }
    check(
        "neigh show nud all",
        Command::NeighbourShow(NeighbourSelector { states: Some(NudStates::ALL), ..shown }),
    );
    check(
        "neigh show nud stale nud none",
        Command::NeighbourShow(NeighbourSelector { states: Some(NudStates(0x104)), ..shown }),
    );
    check(
        "neigh flush dev e",
        Command::NeighbourFlush(NeighbourSelector {
            states: Some(NudStates::FLUSHED),
            link: Some("e".parse().unwrap()),
            ..shown
        }),
    );
    check(
        "-6 neigh flush nud permanent",
        Command::NeighbourFlush(NeighbourSelector {
            family: Some(Family::V6),
            states: Some(NudStates(0x80)),
            ..shown
        }),
    );
}

#[test]
fn following() {
    let everything = Monitor {
        routes: true,
        neighbours: true,
        links: true,
        flushes: true,
        ..Monitor::default()
    };
    check("monitor", Command::Monitor(everything.clone()));
    check(
        "mon all",
        Command::Monitor(Monitor { rejected: true, label: true, ..everything.clone() }),
    );
    check("monitor r", Command::Monitor(Monitor { routes: true, ..Monitor::default() }));
    check(
        "monitor label neigh flush --initial --from 0123456789abcdef:42 --exec 'echo $1'",
        Command::Monitor(Monitor {
            neighbours: true,
            flushes: true,
            label: true,
            initial: true,
            from: Some(Position { epoch: 0x0123_4567_89ab_cdef, revision: 42 }),
            exec: Some("echo $1".into()),
            ..Monitor::default()
        }),
    );
    check(
        "monitor route root 2001:db8::/32",
        Command::Monitor(Monitor {
            routes: true,
            family: Some(Family::V6),
            prefix: Some(PrefixRule::Root("2001:db8::/32".parse().unwrap())),
            ..Monitor::default()
        }),
    );
    let Ok(Command::Monitor(narrow)) = parse("monitor route exact 10/8") else { panic!() };
    assert_eq!(narrow.filter().to_string(), "routes root 10.0.0.0/8");
    let Ok(Command::Monitor(narrow)) = parse("monitor route match 10/8") else { panic!() };
    assert_eq!(narrow.filter().to_string(), "routes -4");
    let wait = |what, gone, timeout| Command::Wait(Wait { what, gone, timeout });
    check(
        "wait route 10/8 --timeout 2.5",
        wait(
            WaitFor::Route(RouteSelector { prefix: exact("10/8"), ..selector() }),
            false,
            Some(Duration::from_millis(2500)),
        ),
    );
    check(
        "w r proto bgp --gone",
        wait(
            WaitFor::Route(RouteSelector { protocol: Some(186), ..RouteSelector::default() }),
            true,
            None,
        ),
    );
    check(
        "wait neigh 10.1.1.1 --timeout=250ms",
        wait(
            WaitFor::Neighbour(NeighbourSelector {
                family: Some(Family::V4),
                prefix: Some("10.1.1.1".parse().unwrap()),
                ..Default::default()
            }),
            false,
            Some(Duration::from_millis(250)),
        ),
    );
    check("client", Command::Client(ClientRun::default()));
    check(
        "client --name a --mapped --futex --keys --menu --once --verify --count",
        Command::Client(ClientRun {
            name: Some("a".into()),
            mapped: true,
            futex: true,
            keys: true,
            menu: true,
            once: true,
            verify: true,
            count: true,
        }),
    );
    for line in ["client list", "c l", "client show", "client ls"] {
        check(line, Command::ClientList);
    }
    check("client kill 42", Command::ClientKill(Peer::Pid(42)));
    check("client k edge-1", Command::ClientKill(Peer::Name("edge-1".into())));
    check("client kill '42'", Command::ClientKill(Peer::Name("42".into())));
    let addresses = LookupInput::Addresses(vec!["10.1.1.1".parse().unwrap()]);
    check(
        "lookup 10.1.1.1",
        Command::Lookup(Lookup { table: 254, input: addresses, json_fields: vec![] }),
    );
    check(
        "lookup table 7 - --json-field src,dst",
        Command::Lookup(Lookup {
            table: 7,
            input: LookupInput::Stdin,
            json_fields: vec!["src".into(), "dst".into()],
        }),
    );
}

#[test]
fn the_rest() {
    check("status", Command::Status);
    check("s -d", Command::Status);
    check("status image", Command::StatusImage);
    check("status i", Command::StatusImage);
    check("digest", Command::Digest { resolved: false });
    check("d --resolved", Command::Digest { resolved: true });
    check("sync", Command::Sync(Barrier::default()));
    check(
        "sync --timeout 3 --client a --client b",
        Command::Sync(Barrier {
            timeout: Some(Duration::from_secs(3)),
            clients: vec!["a".into(), "b".into()],
        }),
    );
    check("source list", Command::SourceList);
    check("source", Command::SourceList);
    check("so l", Command::SourceList);
    check("source reconcile kernel", Command::SourceReconcile("kernel".into()));
    check("flush", Command::Flush(FlushWhat::All));
    check("flush routes", Command::Flush(FlushWhat::Routes));
    check("flush neigh --force", Command::Flush(FlushWhat::Neighbours));
    check("f all", Command::Flush(FlushWhat::All));
    check(
        "mq send 'route del 10/8' --prio 5",
        Command::MqSend { text: "route del 10/8".into(), priority: 5 },
    );
    check("mq send route del 10/8", Command::MqSend { text: "route del 10/8".into(), priority: 0 });
    check("stat", Command::Stat { interval: Duration::from_secs(1) });
    check("stat -i 0.5", Command::Stat { interval: Duration::from_millis(500) });
    check("latency", Command::Latency);
    check("la", Command::Latency);
    check("tour", Command::Tour);
    check("reload", Command::Reload);
    check("completion bash", Command::Completion(Shell::Bash));
    check("completion f", Command::Completion(Shell::Fish));
}

#[test]
fn help_is_everywhere() {
    let topic = |object, verb| Command::Help(Topic { object, verb });
    check("help", topic(None, None));
    check("-h", topic(None, None));
    check("--help route", topic(Some(Object::Route), None));
    check("route help", topic(Some(Object::Route), None));
    check("route add help", topic(Some(Object::Route), Some("add")));
    check("route add -h", topic(Some(Object::Route), Some("add")));
    check("help route add", topic(Some(Object::Route), Some("add")));
    check("route add 10/8 rubbish -h", topic(Some(Object::Route), Some("add")));
    check("client list --help", topic(Some(Object::Client), Some("show")));
    check("-V", Command::Version);
    check("route --version", Command::Version);
    for (word, object) in objects() {
        if object != Object::Help {
            let command = parse(&format!("{word} -h")).unwrap();
            assert_eq!(command, topic(Some(object), None), "{word}");
            for verb in verbs(object) {
                let command = parse(&format!("{word} {verb} -h")).unwrap();
                let verb = (*verb != "help").then_some(*verb);
                assert_eq!(command, topic(Some(object), verb), "{word} {verb:?}");
            }
        }
    }
}

#[test]
fn batch_belongs_to_the_command_line() {
    let args = ["-batch", "file", "--atomic", "--force"];
    let (options, command) = parse_args(&args, &Context::default()).unwrap();
    assert_eq!(command, Command::Batch { file: "file".into() });
    assert!(options.atomic && options.force);
    for line in ["-batch f", "--socket s status", "status --runtime-dir=x", "--token-file t sync"] {
        let error = parse_line(line, &Context::default()).unwrap_err().to_string();
        assert!(error.contains("belongs to the command line"), "{line}: {error}");
    }
    let empty: [&str; 0] = [];
    assert!(parse_args(&empty, &Context::default()).is_err());
    for line in ["", "  ", "# route add", "\t\r\n"] {
        assert_eq!(parse_line(line, &Context::default()), Ok(None), "{line:?}");
    }
    let (options, _) = parse_line("-j -d route show -p", &Context::default()).unwrap().unwrap();
    assert_eq!(options, Options { json: true, pretty: true, details: 1, ..Options::default() });
}

#[test]
fn what_is_wrong_gets_one_clear_line() {
    for (line, expected) in [
        (
            "bogus",
            "command: bogus: unknown; route, neigh, lookup, monitor, wait, client, status, digest, sync, source, flush, mq, stat, latency, tour, reload, completion or help",
        ),
        ("--bogus", "option: --bogus: unknown here; see -h behind the command"),
        ("route show --bogus", "option: --bogus: unknown here; see -h behind the command"),
        (
            "route show bogus",
            "selector: bogus: neither a prefix nor a word of a selector; a prefix, or one of exact, match, root, dev, via, proto, metric, table, source, type, scope, tos",
        ),
        ("route show 10/8 11/8", "destination: 11/8: a second destination; one would be right"),
        ("route show dev a dev b", "keyword: dev: given twice; once would be right"),
        (
            "route show exact",
            "destination: end of line: its value is missing; a prefix behind it would be right",
        ),
        (
            "-6 route show 10/8",
            "destination: 10/8: IPv4, and IPv6 is expected; one like 2001:db8::1 would be right",
        ),
        (
            "route show 10.0.0.1/8",
            "destination: 10.0.0.1/8: host bits are set; 10.0.0.0/8 would be right",
        ),
        (
            "route show type bogus",
            "type: bogus: not a route type; unicast, local, broadcast, anycast, multicast, blackhole, unreachable, prohibit or throw",
        ),
        (
            "route show source 'a b'",
            "source: 'a b': not the name of a source; 1 to 64 bytes without blanks, quotes, # and a dash in front",
        ),
        (
            "route flush",
            "route flush: end of line: something is missing; a selector like proto bgp or root 10.0.0.0/8, or all, would be right",
        ),
        (
            "route get",
            "address: end of line: something is missing; route get ADDRESS would be right",
        ),
        ("route get 10/8", "address: 10/8: not an IP address; like 10.1.1.1 or 2001:db8::1"),
        (
            "route get 10.1.1.1 from 10.1.1.2",
            "route get: from: the look-up is by destination and table only; addresses, and table ID",
        ),
        (
            "route load",
            "file: end of line: something is missing; route load FILE, or - for standard input",
        ),
        ("route load a b", "file: b: a second file; one would be right"),
        (
            "route load f --format xml",
            "--format: xml: not a format; one of auto, prefixes, ip, ip-json, ip-dump, batch, mrt",
        ),
        (
            "route load f --peer 65536",
            "--peer: 65536: not a peer; best, its number (0 to 65535) or its address",
        ),
        (
            "route load f --spread --dev e",
            "--spread: next hops are given already; either --spread or --via and --dev",
        ),
        (
            "route load f --rubbish",
            "option: --rubbish: unknown here; one of --format, --via, --dev, --spread, --peer, --atomic, --force, --source",
        ),
        ("route save f --format ip", "--format: ip: not a format; one of batch, ip-dump"),
        (
            "neigh add",
            "address: end of line: something is missing; an address like 10.1.1.1 would be right",
        ),
        (
            "neigh add 10.1.1.1 dev e",
            "lladdr: 10.1.1.1: the neighbour has no MAC address; lladdr MAC behind it would be right, or nud incomplete, failed, noarp, none",
        ),
        (
            "neigh add 10/8 lladdr 2:0:0:0:0:1",
            "address: 10/8: not an IP address; like 10.1.1.1 or 2001:db8::1",
        ),
        (
            "neigh add 10.1.1.1 lladdr 2:0:0:0:0",
            "lladdr: 2:0:0:0:0: not a MAC address; like 02:00:00:00:00:01",
        ),
        (
            "neigh add 10.1.1.1 lladdr 2:0:0:0:0:1 nud bogus",
            "nud: bogus: not a state; one of permanent, reachable, stale, noarp, incomplete, delay, probe, failed, none",
        ),
        ("neigh add 10.1.1.1 10.1.1.2", "address: 10.1.1.2: a second address; one would be right"),
        ("neigh add 10.1.1.1 dev a dev b", "keyword: dev: given twice; once would be right"),
        (
            "neigh add 10.1.1.1 bogus",
            "keyword: bogus: not a word of a neighbour; one of lladdr, dev, nud, router, extern_learn, protocol",
        ),
        (
            "neigh add proxy 10.1.1.1 dev e",
            "keyword: proxy: proxy neighbours are not held; a neighbour without it",
        ),
        (
            "neigh show bogus",
            "selector: bogus: neither an address nor a word of a selector; an address, or one of lladdr, dev, nud, protocol",
        ),
        (
            "neigh flush",
            "neigh flush: end of line: something is missing; a selector like dev LINK or nud stale, or all, would be right",
        ),
        (
            "neigh get 10.1.1.1",
            "neigh: get: unknown verb; one of show, add, change, replace, del, flush, help would be right",
        ),
        (
            "lookup",
            "address: end of line: something is missing; either addresses, or - for standard input",
        ),
        (
            "lookup - 10.1.1.1",
            "address: end of line: something is missing; either addresses, or - for standard input",
        ),
        ("lookup - --json-field a,,b", "--json-field: a,,b: an empty name; like src_ip,dst_ip"),
        (
            "monitor bogus",
            "monitor: bogus: not expected here; one of route, neigh, link, flush, all, label, exact, match, root",
        ),
        (
            "monitor --from 12",
            "--from: 12: not a place in a history; EPOCH:REVISION as rtm digest prints them, like 0123456789abcdef:42",
        ),
        (
            "monitor root 10.0.0.1/8",
            "destination: 10.0.0.1/8: host bits are set; 10.0.0.0/8 would be right",
        ),
        (
            "monitor root",
            "destination: end of line: its value is missing; a prefix behind it would be right",
        ),
        (
            "wait",
            "wait: end of line: its value is missing; wait route SELECTOR or wait neigh SELECTOR",
        ),
        ("wait bogus", "wait: bogus: unknown verb; one of route, neigh, help would be right"),
        (
            "wait route 10/8 --timeout soon",
            "--timeout: soon: not a duration; seconds, or like 250ms, 2s, 1m",
        ),
        (
            "client --futex",
            "client: --futex: only with --mapped; client --mapped --futex would be right",
        ),
        ("client bogus", "client: bogus: unknown verb; one of list, kill, help would be right"),
        (
            "client kill",
            "client kill: end of line: its value is missing; client kill NAME or PID would be right",
        ),
        (
            "client --once list",
            "client: list: a verb behind options of a running client; client with options, client list, or client kill NAME",
        ),
        ("status bogus", "status: bogus: unknown verb; one of image, help would be right"),
        ("digest bogus", "digest: bogus: not expected here; one of --resolved"),
        ("sync --bogus", "option: --bogus: unknown here; one of --timeout, --client"),
        (
            "source reconcile",
            "source reconcile: end of line: its value is missing; source reconcile NAME would be right",
        ),
        (
            "flush bogus",
            "flush: bogus: unknown verb; one of routes, neighbours, all, help would be right",
        ),
        (
            "mq send",
            "mq send: end of line: something is missing; mq send 'route add …' would be right",
        ),
        (
            "mq send x --prio 40000",
            "--prio: 40000: the number is out of range, or not a number; 0 to 32767 are valid",
        ),
        ("stat -i 0", "-i: 0: too short; 10ms or longer"),
        (
            "latency x",
            "latency: x: nothing more is expected here; a line that ends here would be right",
        ),
        (
            "completion",
            "completion: end of line: its value is missing; bash, zsh or fish would be right",
        ),
        (
            "completion csh",
            "completion: csh: unknown verb; one of bash, zsh, fish, help would be right",
        ),
        ("route add 'open", "quote: open: the quote is not closed; a ' at its end would be right"),
    ] {
        assert_eq!(parse(line).unwrap_err(), expected, "{line}");
    }
}

#[test]
fn selectors_match_what_they_say() {
    let mut store = support::Store::default();
    let cx = Context::default();
    let mut add = |words: &str| match parse(&format!("route add {words}")) {
        Ok(Command::Change(Change::Route(_, spec))) => store.route(&spec),
        other => panic!("{other:?}"),
    };
    let routes = [
        add("10.0.0.0/8 via 192.168.1.1 dev a proto bgp metric 5"),
        add("10.1.0.0/16 dev b table 100 src 10.9.9.9"),
        add("10.1.2.0/24 nexthop via 192.168.1.1 dev a nexthop via inet6 fe80::1 dev b"),
        add("default via 192.168.2.1 dev a tos 10"),
        add("blackhole 10.1.2.3"),
        add("2001:db8::/32 via fe80::1 dev a"),
        add("default via fe80::2 dev b"),
    ];
    for (text, expected) in [
        ("", &[0, 2, 3, 4, 5, 6][..]),
        ("table all", &[0, 1, 2, 3, 4, 5, 6]),
        ("table 100", &[1]),
        ("-4", &[0, 2, 3, 4]),
        ("-6", &[5, 6]),
        ("10.0.0.0/8", &[0]),
        ("match 10.1.2.3", &[0, 2, 3, 4]),
        ("match 10.1.2.3 table all", &[0, 1, 2, 3, 4]),
        ("match 10.1.2.0/24", &[0, 2, 3]),
        ("root 10.1.0.0/16", &[2, 4]),
        ("root 10.1.0.0/16 table all", &[1, 2, 4]),
        ("default", &[3, 6]),
        ("-6 default", &[6]),
        ("dev a", &[0, 2, 3, 5]),
        ("dev b", &[2, 6]),
        ("dev c", &[]),
        ("via 192.168.1.1", &[0, 2]),
        ("via 192.168.0.0/16", &[0, 2, 3]),
        ("via fe80::1", &[2, 5]),
        ("via fe80::1 dev a", &[5]),
        ("proto bgp", &[0]),
        ("metric 5", &[0]),
        ("metric 1024", &[5, 6]),
        ("type blackhole", &[4]),
        ("tos 10", &[3]),
        ("src 10.9.9.9 table all", &[1]),
        ("scope link table all", &[1]),
        ("nhid 7", &[]),
        ("source admin", &[]),
    ] {
        let selector = RouteSelector::parse(text, &cx).unwrap();
        let found: Vec<usize> = (0..routes.len())
            .filter(|&at| selector.matches(&routes[at].0, &routes[at].1, &store, None))
            .collect();
        assert_eq!(found, expected, "{text:?}");
        for (key, value) in &routes {
            assert!(
                selector.matches_key(key) || !selector.matches(key, value, &store, None),
                "{text:?}: the key alone must not refuse more"
            );
        }
    }
    let selector = RouteSelector::parse("source admin", &cx).unwrap();
    let (key, value) = &routes[0];
    assert!(selector.matches(key, value, &store, Some("admin")));
    assert!(!selector.matches(key, value, &store, Some("kernel")));
}

#[test]
fn neighbour_selectors_match_what_they_say() {
    let mut store = support::Store::default();
    let cx = Context::default();
    let mut add = |words: &str| match parse(&format!("neigh add {words}")) {
        Ok(Command::Change(Change::Neighbour(_, spec))) => store.neighbour(&spec),
        other => panic!("{other:?}"),
    };
    let all = [
        add("10.1.1.1 lladdr 2:0:0:0:0:1 dev a"),
        add("10.1.1.2 lladdr 2:0:0:0:0:1 dev b nud stale"),
        add("10.2.1.1 lladdr 2:0:0:0:0:2 nud noarp protocol bgp"),
        add("10.2.1.2 dev a nud none"),
        add("2001:db8::1 lladdr 2:0:0:0:0:1 dev a nud reachable"),
    ];
    let found = |selector: NeighbourSelector| -> Vec<usize> {
        (0..all.len())
            .filter(|&at| selector.matches(&all[at].key, &all[at].value, &store))
            .collect()
    };
    for (text, expected) in [
        ("", &[0, 1, 2, 3, 4][..]),
        ("-6", &[4]),
        ("10.1.1.1", &[0]),
        ("10.1.0.0/16", &[0, 1]),
        ("lladdr 2:0:0:0:0:1", &[0, 1, 4]),
        ("2:0:0:0:0:2", &[2]),
        ("dev a", &[0, 3, 4]),
        ("nud stale", &[1]),
        ("nud stale nud none", &[1, 3]),
        ("nud all", &[0, 1, 2, 3, 4]),
        ("proto bgp", &[2]),
    ] {
        let selector = NeighbourSelector::parse(text, &cx).unwrap();
        assert_eq!(found(selector), expected, "{text:?}");
    }
    let any = NeighbourSelector::default();
    assert_eq!(found(any.or_states_shown()), [0, 1, 4]);
    assert_eq!(found(any.or_states_flushed()), [1, 3, 4]);
}
