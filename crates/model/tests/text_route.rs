//! Routes of the grammar, as tables: what a line means, and why one is wrong.

use rtm_model::text::{Command, Context, parse_line};
use rtm_model::{Change, Family, HopSpec, Hops, LinkRef, RouteSpec};

/// A specification in a form that a table can hold: every field that isn't at
/// its default.
fn describe(spec: &RouteSpec) -> String {
    let mut out = format!("{}", spec.prefix);
    let mut put = |text: String| {
        out.push(' ');
        out.push_str(&text);
    };
    if let Some(kind) = spec.kind {
        put(kind.name().to_owned());
    }
    if spec.table != 254 {
        put(format!("table={}", spec.table));
    }
    if spec.tos != 0 {
        put(format!("tos={:#x}", spec.tos));
    }
    for (name, value) in [
        ("metric", spec.metric),
        ("proto", spec.protocol.map(u32::from)),
        ("scope", spec.scope.map(u32::from)),
        ("distance", spec.distance.map(u32::from)),
    ] {
        if let Some(value) = value {
            put(format!("{name}={value}"));
        }
    }
    let hop = |hop: &HopSpec| {
        let mut out = String::from("[");
        if let Some(gateway) = hop.gateway {
            out.push_str(&gateway.to_string());
        }
        match hop.link {
            Some(LinkRef::Name(name)) => out.push_str(&format!("%{}", name.as_str())),
            Some(LinkRef::Ifindex(index)) => out.push_str(&format!("%{index}")),
            None => {}
        }
        if hop.weight != 1 {
            out.push_str(&format!("*{}", hop.weight));
        }
        if hop.flags.0 != 0 {
            out.push_str(&format!("!{}", hop.flags.0));
        }
        out.push(']');
        out
    };
    match &spec.hops {
        Hops::None => {}
        Hops::One(one) => put(hop(one)),
        Hops::Many(many) => put(many.iter().map(hop).collect::<String>()),
        Hops::Named(id) => put(format!("nhid={id}")),
    }
    let attrs = spec.attrs.decode();
    if attrs.flags != 0 {
        put(format!("flags={:#x}", attrs.flags));
    }
    if let Some(src) = attrs.prefsrc {
        put(format!("src={src}"));
    }
    if attrs.pref.0 != 0 {
        put(format!("pref={}", attrs.pref.0));
    }
    for (kind, value) in attrs.metrics {
        put(format!("x{kind}={value}"));
    }
    if !attrs.congestion.is_empty() {
        put(format!("cc={}", String::from_utf8_lossy(&attrs.congestion)));
    }
    for (kind, bytes) in attrs.opaque {
        put(format!("rta{kind}={bytes:?}"));
    }
    out
}

fn parse(line: &str, cx: &Context<'_>) -> Result<String, String> {
    match parse_line(line, cx) {
        Ok(Some((_, Command::Change(Change::Route(verb, spec))))) => {
            Ok(format!("{} {}", verb.name(), describe(&spec)))
        }
        Ok(other) => panic!("{line}: {other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

fn check(line: &str, expected: &str) {
    assert_eq!(parse(line, &Context::default()).as_deref(), Ok(expected), "{line}");
}

fn check_wrong(line: &str, expected: &str) {
    assert_eq!(parse(line, &Context::default()).unwrap_err(), expected, "{line}");
}

#[test]
fn the_samples_of_the_specification() {
    check(
        "route add 122.1.1.1/32 via 10.1.1.1 dev Ethernet1",
        "add 122.1.1.1/32 unicast scope=0 [10.1.1.1%Ethernet1]",
    );
    check(
        "route add 130.1.1.0/24 via 10.1.1.1 dev Ethernet1",
        "add 130.1.1.0/24 unicast scope=0 [10.1.1.1%Ethernet1]",
    );
    check(
        "route replace 220.1.0.0/16 via 30.1.2.3 dev Ethernet3",
        "replace 220.1.0.0/16 unicast scope=0 [30.1.2.3%Ethernet3]",
    );
}

#[test]
fn every_word_of_a_route() {
    check("route add 10/8 dev e", "add 10.0.0.0/8 unicast scope=253 [%e]");
    check("route add to 10/8 oif e", "add 10.0.0.0/8 unicast scope=253 [%e]");
    check("route add 10.1.2.3 via 10.1.1.1", "add 10.1.2.3/32 unicast scope=0 [10.1.1.1]");
    check("route add via 10.1.1.1 10/8", "add 10.0.0.0/8 unicast scope=0 [10.1.1.1]");
    check("route add 10/8 via 10.1.1", "add 10.0.0.0/8 unicast scope=0 [10.1.1.0]");
    check("route add 10/8 via inet 10.1.1.1", "add 10.0.0.0/8 unicast scope=0 [10.1.1.1]");
    check("route add 10/8 via inet6 fe80::1 dev e", "add 10.0.0.0/8 unicast scope=0 [fe80::1%e]");
    check(
        "route add 10/8 via 10.1.1.1 dev e onlink",
        "add 10.0.0.0/8 unicast scope=0 [10.1.1.1%e!4]",
    );
    check("route add unicast 10/8 dev e scope host", "add 10.0.0.0/8 unicast scope=254 [%e]");
    check(
        "route add 10/8 via 10.1.1.1 metric 0x14 tos 10 table 100 proto bgp distance 5 src 10.9.9.9",
        "add 10.0.0.0/8 unicast table=100 tos=0x10 metric=20 proto=186 scope=0 distance=5 [10.1.1.1] src=10.9.9.9",
    );
    check(
        "route add 10/8 dev e priority 7 dsfield EF",
        "add 10.0.0.0/8 unicast tos=0xb8 metric=7 scope=253 [%e]",
    );
    check(
        "route add 10/8 dev e preference 7 protocol 77",
        "add 10.0.0.0/8 unicast metric=7 proto=77 scope=253 [%e]",
    );
    check("route add 10/8 nhid 12", "add 10.0.0.0/8 unicast scope=0 nhid=12");
    check(
        "route add 10/8 nexthop via 10.1.1.1 dev a weight 2 nexthop via inet6 fe80::1 dev b onlink nexthop dev c weight 256",
        "add 10.0.0.0/8 unicast scope=0 [10.1.1.1%a*2][fe80::1%b!4][%c*256]",
    );
    check("route add 10/8 nexthop dev c weight 9", "add 10.0.0.0/8 unicast scope=0 [%c]");
    check(
        "route add 10/8 dev e mtu lock 1400 advmss 1300 window 1 cwnd 2 ssthresh 3 initcwnd 4 initrwnd 5 reordering 6 hoplimit 64 quickack 1 fastopen_no_cookie 1",
        "add 10.0.0.0/8 unicast scope=253 [%e] x1=4 x2=1400 x3=1 x6=3 x7=2 x8=1300 x9=6 x10=64 x11=4 x14=5 x15=1 x17=1",
    );
    check(
        "route add 10/8 dev e rtt 1500ms rttvar 20 rto_min 3s features ecn congctl lock cubic realms 1/5",
        "add 10.0.0.0/8 unicast scope=253 [%e] x1=73728 x4=12000 x5=20 x12=1 x13=3000 cc=cubic rta11=[5, 0, 1, 0]",
    );
    check(
        "route add 2001:db8::/32 dev e pref high",
        "add 2001:db8::/32 unicast scope=0 [%e] pref=1",
    );
    check(
        "route add 2001:db8::/32 dev e metric 0",
        "add 2001:db8::/32 unicast metric=1024 scope=0 [%e]",
    );
    check("route add 10/8 dev e metric 0", "add 10.0.0.0/8 unicast metric=0 scope=253 [%e]");
    check(
        "route add 10/8 dev e ttl-propagate disabled",
        "add 10.0.0.0/8 unicast scope=253 [%e] rta26=[0]",
    );
}

#[test]
fn types_have_their_table_scope_and_next_hop() {
    check("route add blackhole 10/8", "add 10.0.0.0/8 blackhole scope=0");
    check("route add unreachable 2001:db8::/32", "add 2001:db8::/32 unreachable scope=0");
    check("route add unreachable 2001:db8::/32 dev lo", "add 2001:db8::/32 unreachable scope=0");
    check("route add prohibit 10/8 metric 5", "add 10.0.0.0/8 prohibit metric=5 scope=0");
    check("route add throw 10/8", "add 10.0.0.0/8 throw scope=0");
    check("route add local 10.9.9.9 dev lo", "add 10.9.9.9/32 local table=255 scope=254 [%lo]");
    check(
        "route add broadcast 10.9.9.9 dev e",
        "add 10.9.9.9/32 broadcast table=255 scope=253 [%e]",
    );
    check("route add brd 10.9.9.9 dev e", "add 10.9.9.9/32 broadcast table=255 scope=253 [%e]");
    check(
        "route add anycast 10.9.9.9 dev e table 7",
        "add 10.9.9.9/32 anycast table=7 scope=253 [%e]",
    );
    check("route add multicast 239/8 dev e", "add 239.0.0.0/8 multicast scope=253 [%e]");
    check("route add b 10.9.9.9 dev e", "add 10.9.9.9/32 broadcast table=255 scope=253 [%e]");
    check("route add black 10/8", "add 10.0.0.0/8 blackhole scope=0");
}

#[test]
fn default_takes_its_family_from_what_is_there() {
    check("route add default via 10.1.1.1", "add 0.0.0.0/0 unicast scope=0 [10.1.1.1]");
    check("route add default via 2001:db8::1", "add ::/0 unicast scope=0 [2001:db8::1]");
    check(
        "route add default dev e src 2001:db8::1",
        "add ::/0 unicast scope=0 [%e] src=2001:db8::1",
    );
    check("route add default dev e", "add 0.0.0.0/0 unicast scope=253 [%e]");
    check("-6 route add default dev e", "add ::/0 unicast scope=0 [%e]");
    check("route add default dev e -6", "add ::/0 unicast scope=0 [%e]");
    check("route add default via inet6 fe80::1 dev e", "add ::/0 unicast scope=0 [fe80::1%e]");
    check(
        "-4 route add default via inet6 fe80::1 dev e",
        "add 0.0.0.0/0 unicast scope=0 [fe80::1%e]",
    );
    check(
        "route add default nexthop via fe80::1 dev a nexthop via fe80::2 dev b",
        "add ::/0 unicast scope=0 [fe80::1%a][fe80::2%b]",
    );
    check("route add 0/0 via 10.1.1.1", "add 0.0.0.0/0 unicast scope=0 [10.1.1.1]");
    let v6 = Context { family: Some(Family::V6), ..Context::default() };
    assert_eq!(parse("route add default dev e", &v6).unwrap(), "add ::/0 unicast scope=0 [%e]");
}

#[test]
fn a_delete_says_only_what_it_says() {
    check("route del 10/8", "del 10.0.0.0/8");
    check("route delete 10/8 via 10.1.1.1 metric 5", "del 10.0.0.0/8 metric=5 [10.1.1.1]");
    check("route del 10/8 metric 0", "del 10.0.0.0/8");
    check("route del blackhole 10/8 table 9", "del 10.0.0.0/8 blackhole table=9");
    check("route del 10/8 proto static scope link", "del 10.0.0.0/8 proto=4 scope=253");
    check(
        "route del 2001:db8::/32 nexthop via 2001:db8::1 nexthop via 2001:db8::2",
        "del 2001:db8::/32 [2001:db8::1][2001:db8::2]",
    );
}

#[test]
fn words_are_abbreviated() {
    check("r a 10/8 v 10.1.1.1 d e", "add 10.0.0.0/8 unicast scope=0 [10.1.1.1%e]");
    check("ro rep 10/8 de e met 3", "replace 10.0.0.0/8 unicast metric=3 scope=253 [%e]");
    check("route chg 10/8 dev e", "change 10.0.0.0/8 unicast scope=253 [%e]");
    check("route ap 10/8 dev e", "append 10.0.0.0/8 unicast scope=253 [%e]");
    check("route prep 10/8 dev e", "prepend 10.0.0.0/8 unicast scope=253 [%e]");
    check("route d 10/8", "del 10.0.0.0/8");
    check(
        "route add 10/8 dev e prot 9 adv 5 cong bbr",
        "add 10.0.0.0/8 unicast proto=9 scope=253 [%e] x8=5 cc=bbr",
    );
}

#[test]
fn what_is_wrong_gets_one_clear_line() {
    for (line, expected) in [
        (
            "route add 10.0.0.0/33 dev e",
            "destination: 10.0.0.0/33: mask 33 is too long for IPv4; 0 to 32 are valid",
        ),
        (
            "route add ::/129 dev e",
            "destination: ::/129: mask 129 is too long for IPv6; 0 to 128 are valid",
        ),
        (
            "route add 10.0.0.1/8 dev e",
            "destination: 10.0.0.1/8: host bits are set; 10.0.0.0/8 would be right",
        ),
        (
            "route add 2001:db8::1/32 dev e",
            "destination: 2001:db8::1/32: host bits are set; 2001:db8::/32 would be right",
        ),
        (
            "route add 10.0.0.256 dev e",
            "destination: 10.0.0.256: not a prefix; like 10.0.0.0/8, 2001:db8::/32 or default",
        ),
        (
            "route add 10/8/8 dev e",
            "destination: 10/8/8: the mask is not a number; like 10.0.0.0/8",
        ),
        (
            "route add",
            "destination: end of line: something is missing; a prefix like 10.0.0.0/8 would be right",
        ),
        (
            "route add dev e",
            "destination: end of line: something is missing; a prefix like 10.0.0.0/8 would be right",
        ),
        (
            "route add 10/8",
            "destination: 10/8: the route has no next hop; via GW, dev LINK or both behind it would be right",
        ),
        (
            "route add 10/8 via",
            "via: end of line: its value is missing; via GATEWAY would be right",
        ),
        ("route add 10/8 via bogus", "via: bogus: not an IP address; like 10.1.1.1 or 2001:db8::1"),
        (
            "route add 10/8 via 2001:db8::1",
            "via: 2001:db8::1: the gateway is IPv6, the route IPv4; via inet6 2001:db8::1 would be right, if it is meant",
        ),
        (
            "route add 2001:db8::/32 via 10.1.1.1",
            "via: 10.1.1.1: an IPv6 route can't go via an IPv4 gateway; one like 2001:db8::1 would be right",
        ),
        (
            "route add 2001:db8::/32 via inet 10.1.1.1",
            "via: 10.1.1.1: an IPv6 route can't go via an IPv4 gateway; one like 2001:db8::1 would be right",
        ),
        (
            "route add 10/8 via inet6 10.1.1.1",
            "via: 10.1.1.1: IPv4, and IPv6 is expected; one like 2001:db8::1 would be right",
        ),
        (
            "route add 10/8 dev e src ::1",
            "src: ::1: IPv6, and IPv4 is expected; one like 10.1.1.1 would be right",
        ),
        (
            "-6 route add 10/8 dev e",
            "destination: 10/8: IPv4, and IPv6 is expected; one like 2001:db8::1 would be right",
        ),
        (
            "route add 10/8 via 10.1.1.1 via 10.1.1.2",
            "via: a second gateway; nexthop via GW dev LINK for each would be right",
        ),
        ("route add 10/8 dev e dev f", "keyword: dev: given twice; once would be right"),
        (
            "route add 10/8 dev e metric 3 metric 4",
            "keyword: metric: given twice; once would be right",
        ),
        (
            "route add 10/8 dev e metric 3 priority 4",
            "keyword: priority: given twice; once would be right",
        ),
        ("route add 10/8 11/8 dev e", "destination: 11/8: given twice; once would be right"),
        (
            "route add 10/8 dev abcdefghijklmnop",
            "dev: abcdefghijklmnop: the interface name has 16 bytes; 1 to 15 are valid",
        ),
        (
            "route add 10/8 dev eth0/1",
            "dev: eth0/1: '/' can't stand in an interface name; a name without slash, colon and blank would be right",
        ),
        (
            "route add 10/8 dev 'eth 0'",
            "dev: 'eth 0': ' ' can't stand in an interface name; a name without slash, colon and blank would be right",
        ),
        ("route add 10/8 dev ''", "dev: '': the interface name is empty; 1 to 15 bytes are valid"),
        (
            "route add 10/8 nexthop via 10.1.1.1 weight 0",
            "weight: 0: out of range, or not a number; 1 to 256 are valid",
        ),
        (
            "route add 10/8 nexthop via 10.1.1.1 weight 257",
            "weight: 257: out of range, or not a number; 1 to 256 are valid",
        ),
        (
            "route add 10/8 via 10.1.1.1 weight 2",
            "keyword: weight: a weight belongs to one next hop of several; a route without it",
        ),
        (
            "route add 10/8 nexthop",
            "nexthop: neither a gateway nor a link; nexthop via GW dev LINK would be right",
        ),
        (
            "route add 10/8 via 10.1.1.1 nexthop dev e",
            "nexthop: 10.1.1.1: either one next hop or a list of nexthop, not both; via and dev within each nexthop would be right",
        ),
        (
            "route add 10/8 nexthop dev e metric 5",
            "keyword: metric: not a word of a next hop; via, dev, weight, onlink, another nexthop, or the end of the line",
        ),
        (
            "route add 10/8 via 10.1.1.1 onlink",
            "onlink: it needs a gateway and a link; via GW dev LINK onlink would be right",
        ),
        (
            "route add blackhole 10/8 dev e",
            "next hop: e: a route of type blackhole has none; a route without via and dev would be right",
        ),
        (
            "route add 10/8 nhid 5 dev e",
            "nhid: 5: the object has the next hops already; either nhid or via and dev would be right",
        ),
        ("route add 10/8 dev e metric x", "metric: x: not a number; 0 to 4294967295 are valid"),
        (
            "route add 10/8 dev e metric 4294967296",
            "metric: 4294967296: the number is out of range, or not a number; 0 to 4294967295 are valid",
        ),
        (
            "route add 10/8 dev e distance 256",
            "distance: 256: the number is out of range, or not a number; 0 to 255 are valid",
        ),
        (
            "route add 10/8 dev e proto nosuch",
            "proto: nosuch: not a protocol; a name like static or bgp, or 0 to 255",
        ),
        (
            "route add 10/8 dev e table nosuch",
            "table: nosuch: not a table; main, local, default, or 0 to 4294967295",
        ),
        (
            "route add 10/8 dev e scope nosuch",
            "scope: nosuch: not a scope; global, link, host, or 0 to 255",
        ),
        (
            "route add 10/8 dev e tos 100",
            "tos: 100: not a type of service; hexadecimal 0 to ff, or a name like EF",
        ),
        ("route add 10/8 dev e pref best", "pref: best: not a preference; low, medium or high"),
        (
            "route add 10/8 dev e hoplimit 256",
            "hoplimit: 256: the number is out of range, or not a number; 0 to 255 are valid",
        ),
        (
            "route add 10/8 dev e quickack 2",
            "quickack: 2: the number is out of range, or not a number; 0 to 1 are valid",
        ),
        (
            "route add 10/8 dev e features bogus",
            "features: bogus: not a feature; ecn would be right",
        ),
        ("route add 10/8 dev e rtt 5x", "rtt: 5x: not a time; like 20ms or 1.5s"),
        (
            "route add 10/8 dev e bogus",
            "keyword: bogus: not a word of a route; one of via, dev, onlink, src, nexthop, metric, tos, table, proto, mtu, pref, distance, scope, nhid",
        ),
        (
            "route add bogus dev e",
            "destination: bogus: neither a prefix nor a word of a route; like 10.0.0.0/8, 2001:db8::/32 or default",
        ),
        (
            "route add 10/8 dev e expires 60",
            "keyword: expires: routes here have no lifetime; a route without it",
        ),
        (
            "route add 10/8 from 11/8 dev e",
            "keyword: from: source-specific routes are not held; a route without it",
        ),
        (
            "route bogus 10/8",
            "route: bogus: unknown verb; one of show, add, change, replace, append, prepend, del, get, flush, load, save, help would be right",
        ),
    ] {
        check_wrong(line, expected);
    }
}

#[test]
fn an_error_names_the_byte() {
    for (line, column) in [
        ("route add 10.0.0.1/8", 11),
        ("  route   add 10/8 metric x", 27),
        ("route add 10/8 dev", 19),
        ("bogus", 1),
        ("route add 10/8 dev 'a b'", 20),
    ] {
        let error = parse_line(line, &Context::default()).unwrap_err();
        assert_eq!(error.column, column, "{line}: {error}");
    }
}

#[test]
fn a_printed_line_means_what_it_leaves_out() {
    let cx = Context { listing: true, ..Context::default() };
    for (line, expected) in [
        (
            "route add default via 192.168.1.1 dev v0 onlink ",
            "add 0.0.0.0/0 unicast proto=3 scope=0 [192.168.1.1%v0!4]",
        ),
        ("route add 10.0.0.0/8 dev v0", "add 10.0.0.0/8 unicast proto=3 scope=0 [%v0]"),
        (
            "route add 10.0.0.0/8 dev v0 scope link",
            "add 10.0.0.0/8 unicast proto=3 scope=253 [%v0]",
        ),
        (
            "route add local 10.9.9.9 dev lo scope host",
            "add 10.9.9.9/32 local proto=3 scope=254 [%lo]",
        ),
        (
            "route add 10.20.0.0/16 nhid 10 via 192.168.1.9 dev v0",
            "add 10.20.0.0/16 unicast proto=3 scope=0 [192.168.1.9%v0]",
        ),
        ("route add 10.20.0.0/16 nhid 10", "add 10.20.0.0/16 unicast proto=3 scope=0 nhid=10"),
        (
            "route add 10.21.0.0/16 nhid 12 \\\tnexthop via 192.168.1.9 dev v0 weight 1 \\\tnexthop via 192.168.1.8 dev v0 weight 5 dead linkdown ",
            "add 10.21.0.0/16 unicast proto=3 scope=0 [192.168.1.9%v0][192.168.1.8%v0*5!17]",
        ),
        (
            "route add default via inet6 fe80::1 dev v0",
            "add 0.0.0.0/0 unicast proto=3 scope=0 [fe80::1%v0]",
        ),
        (
            "route add default dev v0 metric 1024 pref medium",
            "add ::/0 unicast metric=1024 proto=3 scope=0 [%v0]",
        ),
        (
            "route add default via fe80::1 dev v0 proto ra metric 1024 expires 999sec pref medium",
            "add ::/0 unicast metric=1024 proto=9 scope=0 [fe80::1%v0]",
        ),
        (
            "route add unreachable 2001:db8:c::/48 dev lo metric 1024 error 4294967183 pref medium",
            "add 2001:db8:c::/48 unreachable metric=1024 proto=3 scope=0",
        ),
        (
            "route add ::1 dev lo proto kernel metric 0 pref medium",
            "add ::1/128 unicast metric=0 proto=2 scope=0 [%lo]",
        ),
        ("route add 6 10.3.0.0/16", "add 10.3.0.0/16 blackhole proto=3 scope=0"),
        (
            "route add 10.1.0.0/16 dev v0 linkdown rt_trap",
            "add 10.1.0.0/16 unicast proto=3 scope=0 [%v0!16]",
        ),
    ] {
        assert_eq!(parse(line, &cx).as_deref(), Ok(expected), "{line}");
    }
}
