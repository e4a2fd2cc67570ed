//! What the printer writes, the parser reads to an equal value; and whatever
//! is thrown at the parsers, none panics.

mod support;

use proptest::prelude::*;
use rtm_model::text::{
    Command, Context, Extra, Filter, FilterRules, Heading, LineJoiner, NeighbourSelector,
    NudStates, PrefixRule, Printer, RouteSelector, parse_args, parse_line, parse_printed_neighbour,
    parse_printed_route, short_destination, short_neighbour, short_route, write_change,
    write_neighbour_line, write_route_line,
};
use rtm_model::{Change, Family, Hops, Names, NeighbourSpec, RouteSpec, RouteType, Verb};
use support::{
    Store, arb_any_ip, arb_any_prefix, arb_family, arb_link, arb_mac, arb_neighbour, arb_spec,
};

/// What a printed line can't say, and what it says of defaults.
fn as_printed(mut spec: RouteSpec) -> RouteSpec {
    if spec.metric.unwrap_or(0) == 0 && spec.prefix.family() == Family::V4 {
        spec.metric = None;
    }
    if spec.metric.is_none() && spec.prefix.family() == Family::V6 {
        spec.metric = Some(1024);
    }
    spec
}

fn change_line(change: &Change) -> String {
    let mut line = String::new();
    write_change(&mut line, change).unwrap();
    line
}

fn parse_change(line: &str) -> Change {
    match parse_line(line, &Context::default()) {
        Ok(Some((_, Command::Change(change)))) => change,
        other => panic!("{line}: {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn changes_of_routes(spec in arb_spec(), verb in prop::sample::select(vec![
        Verb::Add, Verb::Change, Verb::Replace, Verb::Append, Verb::Prepend,
    ])) {
        let change = Change::Route(verb, spec);
        let line = change_line(&change);
        prop_assert_eq!(parse_change(&line), change, "{}", line);
    }

    #[test]
    fn deletes_of_routes(mut spec in arb_spec(), keep in any::<[bool; 4]>()) {
        spec.attrs = rtm_model::Attrs::NONE;
        for (keep, clear) in keep.into_iter().zip([
            (|spec: &mut RouteSpec| spec.protocol = None) as fn(&mut RouteSpec),
            |spec| spec.scope = None,
            |spec| spec.metric = None,
            |spec| spec.distance = None,
        ]) {
            if !keep {
                clear(&mut spec);
            }
        }
        if spec.metric == Some(0) {
            spec.metric = None;
        }
        let change = Change::Route(Verb::Delete, spec);
        let line = change_line(&change);
        prop_assert_eq!(parse_change(&line), change, "{}", line);
    }

    #[test]
    fn changes_of_neighbours(spec in arb_neighbour(), verb in prop::sample::select(vec![
        Verb::Add, Verb::Change, Verb::Replace,
    ])) {
        let change = Change::Neighbour(verb, spec);
        let line = change_line(&change);
        prop_assert_eq!(parse_change(&line), change, "{}", line);
    }

    /// What `route save` writes makes the same route again.
    #[test]
    fn saved_lines(spec in arb_spec(), ordinal in 0..2_u16) {
        let mut store = Store::default();
        let (key, value) = store.route(&spec);
        let key = rtm_model::RouteKey { ordinal, ..key };
        let mut line = String::new();
        write_route_line(&mut line, &key, &value, &store).unwrap();
        let mut expected = spec;
        expected.metric = Some(key.metric);
        expected.distance = Some(value.distance).filter(|&distance| distance != 1);
        let flags = |hop: &mut rtm_model::HopSpec| hop.flags.0 &= 4;
        match &mut expected.hops {
            Hops::One(hop) => flags(hop),
            Hops::Many(hops) => hops.iter_mut().for_each(flags),
            _ => {}
        }
        let verb = if ordinal == 0 { Verb::Replace } else { Verb::Append };
        prop_assert_eq!(parse_change(&line), Change::Route(verb, expected), "{}", line);
    }

    #[test]
    fn saved_neighbours(spec in arb_neighbour()) {
        let mut store = Store::default();
        let neighbour = store.neighbour(&spec);
        let mut line = String::new();
        write_neighbour_line(&mut line, &neighbour.key, &neighbour.value, &store).unwrap();
        prop_assert_eq!(parse_change(&line), Change::Neighbour(Verb::Replace, spec), "{}", line);
    }

    #[test]
    fn lines_of_routes(
        spec in arb_spec(),
        details in any::<bool>(),
        numeric in any::<bool>(),
        oneline in any::<bool>(),
    ) {
        let mut store = Store::default();
        let (key, value) = store.route(&spec);
        let printer = Printer { details, numeric, oneline, ..Printer::default() };
        let extra = Extra { details: spec.distance.is_some(), ..Extra::default() };
        let mut line = String::new();
        printer.route(&mut line, &key, &value, &store, &Heading::default(), &extra).unwrap();
        prop_assert!(line.ends_with('\n'));
        let cx = Context { listing: true, ..Context::default() };
        let read = parse_printed_route(&line, &cx);
        let expected = as_printed(spec);
        // Without -d the kernel's way of telling the family of a default route
        // by its next hop is all there is.
        let ambiguous = expected.prefix.is_default() && expected.prefix.family() == Family::V4
            && matches!(&expected.hops, Hops::Many(_)) ;
        if ambiguous && read.as_ref().is_ok_and(|read| read.prefix != expected.prefix) {
            return Ok(());
        }
        prop_assert_eq!(read.as_ref(), Ok(&expected), "{}", line);
        let mut again = String::new();
        printer.route_spec(&mut again, &read.unwrap()).unwrap();
        prop_assert_eq!(again, line);
    }

    #[test]
    fn lines_of_neighbours(spec in arb_neighbour()) {
        let mut store = Store::default();
        let neighbour = store.neighbour(&spec);
        let mut line = String::new();
        Printer::default()
            .neighbour(&mut line, &neighbour.key, &neighbour.value, &store, &Heading::default())
            .unwrap();
        let cx = Context { listing: true, ..Context::default() };
        prop_assert_eq!(parse_printed_neighbour(&line, &cx), Ok(spec), "{}", line);
    }

    #[test]
    fn selectors_of_routes(selector in arb_route_selector()) {
        let text = selector.display(Names::builtin()).to_string();
        let read = RouteSelector::parse(&text, &Context::default());
        prop_assert_eq!(read, Ok(selector), "{}", text);
    }

    #[test]
    fn selectors_of_neighbours(selector in arb_neighbour_selector()) {
        let text = selector.display(Names::builtin()).to_string();
        let read = NeighbourSelector::parse(&text, &Context::default());
        prop_assert_eq!(read, Ok(selector), "{}", text);
    }

    #[test]
    fn filters(rules in arb_rules()) {
        let filter = Filter::from(rules);
        prop_assert_eq!(&Filter::from(filter.rules().clone()), &filter, "normal is normal");
        let text = filter.to_string();
        let read = Filter::parse(&text, &Context::default());
        prop_assert_eq!(read, Ok(filter), "{}", text);
    }

    /// A filter in normal form lets through what the rules as stated do.
    #[test]
    fn filters_keep_their_meaning(rules in arb_rules(), spec in arb_spec(), ip in arb_any_ip()) {
        let mut store = Store::default();
        let (key, value) = store.route(&spec);
        let within = |prefix: rtm_model::Prefix| {
            rules.family.is_none_or(|family| family == prefix.family())
                && (rules.prefixes.is_empty() || rules.prefixes.iter().any(|p| p.covers(prefix)))
        };
        let route = rules.routes
            && within(key.prefix)
            && (rules.tables.is_empty() || rules.tables.contains(&key.table))
            && (rules.protocols.is_empty() || rules.protocols.contains(&value.protocol));
        let neighbour = rules.neighbours && within(rtm_model::Prefix::host(ip));
        let filter = Filter::from(rules.clone());
        prop_assert_eq!(filter.matches_route(&key, &value), route);
        prop_assert_eq!(filter.matches_ip(ip), neighbour);
    }

    #[test]
    fn garbage_is_refused_without_a_panic(text in "\\PC{0,80}") {
        throw(&text);
    }

    #[test]
    fn garbage_of_words_is_refused_without_a_panic(words in prop::collection::vec(arb_word(), 0..20)) {
        throw(&words.join(" "));
        let _ = parse_args(&words, &Context::default());
    }

    #[test]
    fn random_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        throw(&String::from_utf8_lossy(&bytes));
    }
}

fn throw(text: &str) {
    for listing in [false, true] {
        for family in [None, Some(Family::V6)] {
            let cx = Context { listing, family, ..Context::default() };
            for line in [text.to_owned(), format!("route add {text}"), format!("neigh add {text}")]
            {
                if let Err(error) = parse_line(&line, &cx) {
                    let shown = error.to_string();
                    assert!(!shown.contains(char::is_control), "{shown:?}");
                    assert!(error.column as usize <= line.len() + 1, "{line:?}: {error:?}");
                }
            }
            let _ = parse_printed_route(text, &cx);
            let _ = parse_printed_neighbour(text, &cx);
            let _ = RouteSelector::parse(text, &cx);
            let _ = NeighbourSelector::parse(text, &cx);
            let _ = Filter::parse(text, &cx);
            let _ = short_route(text, &cx);
            let _ = short_destination(text, &cx);
            let _ = short_neighbour(text, &cx);
        }
    }
    let mut joiner = LineJoiner::default();
    for line in text.lines() {
        let _ = joiner.push(line);
    }
    let _ = joiner.finish();
}

fn arb_word() -> impl Strategy<Value = String> {
    let words = [
        "route",
        "neigh",
        "add",
        "del",
        "show",
        "replace",
        "via",
        "inet6",
        "dev",
        "onlink",
        "src",
        "nexthop",
        "weight",
        "metric",
        "tos",
        "table",
        "proto",
        "mtu",
        "lock",
        "pref",
        "distance",
        "scope",
        "nhid",
        "rtt",
        "features",
        "ecn",
        "congctl",
        "realms",
        "default",
        "all",
        "lladdr",
        "nud",
        "exact",
        "match",
        "root",
        "source",
        "flush",
        "monitor",
        "client",
        "kill",
        "wait",
        "lookup",
        "--gone",
        "--timeout",
        "--from",
        "-4",
        "-6",
        "-j",
        "--",
        "-",
        "\\",
        "'",
        "\"",
        "#",
        "10.0.0.0/8",
        "10.1.1.1",
        "2001:db8::/32",
        "fe80::1",
        "eth0",
        "0",
        "1",
        "257",
        "02:00:00:00:00:01",
        "blackhole",
        "PERMANENT",
        "help",
        "-h",
        "sync",
        "digest",
        "stat",
        "-i",
    ];
    prop_oneof![
        8 => prop::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => "\\PC{0,8}",
        1 => any::<u64>().prop_map(|number| number.to_string()),
    ]
}

fn arb_route_selector() -> impl Strategy<Value = RouteSelector> {
    let rule =
        prop::option::of((arb_any_prefix(), 0..4_u8).prop_map(|(prefix, kind)| match kind {
            0 => PrefixRule::Exact(prefix),
            1 => PrefixRule::Match(prefix),
            2 => PrefixRule::Root(prefix),
            _ => PrefixRule::Default,
        }));
    (
        (prop::option::of(arb_family()), rule, prop::option::of(1..u32::MAX)),
        (prop::option::of("[a-z][a-z0-9]{0,14}"), prop::option::of(arb_any_prefix())),
        (prop::option::of(any::<u8>()), prop::option::of(any::<u32>())),
        (
            prop::option::of(prop::sample::select(RouteType::NAMES.map(|(kind, _)| kind).to_vec())),
            prop::option::of(any::<u8>()),
            prop::option::of(any::<u8>()),
            prop::option::of(any::<u32>()),
            prop::option::of("[a-z][a-z0-9:.]{0,20}"),
            prop::option::of(arb_any_prefix()),
        ),
    )
        .prop_map(|((family, prefix, table), (link, via), (protocol, metric), rest)| {
            let (kind, scope, tos, nhid, source, src) = rest;
            // The destination and src decide on the family.
            let implied = prefix.and_then(|rule: PrefixRule| rule.family());
            let src = src.filter(|src| implied.is_none_or(|family| family == src.family()));
            let family = implied.or(src.map(|src| src.family())).or(family);
            RouteSelector {
                family,
                prefix,
                table,
                link: link.map(|link| link.parse().unwrap()),
                via,
                src,
                protocol,
                metric,
                kind,
                scope,
                tos,
                nhid,
                source: source.map(Into::into),
            }
        })
}

fn arb_neighbour_selector() -> impl Strategy<Value = NeighbourSelector> {
    (
        prop::option::of(arb_family()),
        prop::option::of(arb_any_prefix()),
        prop::option::of(arb_mac()),
        prop::option::of(arb_link()),
        prop::option::of(1..0x1ff_u16),
        prop::option::of(any::<u8>()),
    )
        .prop_map(|(family, prefix, mac, link, states, protocol)| NeighbourSelector {
            family: prefix.map(|prefix| prefix.family()).or(family),
            prefix,
            mac,
            link,
            states: states.map(NudStates),
            protocol,
        })
}

fn arb_rules() -> impl Strategy<Value = FilterRules> {
    (
        any::<bool>(),
        any::<bool>(),
        prop::option::of(arb_family()),
        prop::collection::vec(arb_any_prefix(), 0..5),
        prop::collection::vec(prop_oneof![Just(254_u32), any::<u32>()], 0..4),
        prop::collection::vec(any::<u8>(), 0..4),
    )
        .prop_map(|(routes, neighbours, family, prefixes, tables, protocols)| FilterRules {
            routes,
            neighbours,
            family,
            prefixes,
            tables,
            protocols,
        })
}

/// A specification that names nothing: to keep the strategies honest.
#[test]
fn defaults_are_printed_as_defaults() {
    let spec: NeighbourSpec = match parse_change("neigh add 10.1.1.1 lladdr 2:0:0:0:0:1") {
        Change::Neighbour(_, spec) => spec,
        other => panic!("{other:?}"),
    };
    let mut line = String::new();
    Printer::default().neighbour_spec(&mut line, &spec).unwrap();
    assert_eq!(line, "10.1.1.1 lladdr 02:00:00:00:00:01 PERMANENT \n");
}
