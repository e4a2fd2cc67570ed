//! How long the grammar takes: `cargo run --release -p rtm-model --example
//! text_speed`. It only prints; ratios against rivals are in `bench/`.

use std::borrow::Cow;
use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

use rtm_model::text::{
    Bytes, Context, Extra, Heading, JsonWriter, LoadHops, Printer, Resolve, Words, json_route,
    parse_line, parse_printed_route, prefix_line,
};
use rtm_model::{
    Attrs, Group, GroupId, HopFlags, Link, LinkId, NextHop, RouteKey, RouteType, RouteValue,
};

const ROUNDS: u32 = 2_000;

/// The best of several runs: what is slower was disturbed.
fn measure(name: &str, mut run: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..60 {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            run();
        }
        best = best.min(start.elapsed());
    }
    println!("{name:<44} {:>7.1} ns", best.as_nanos() as f64 / f64::from(ROUNDS));
}

struct One(Link, Group);

impl Resolve for One {
    fn link(&self, _: LinkId) -> Option<Link> {
        Some(self.0)
    }

    fn group(&self, _: GroupId) -> Option<Cow<'_, Group>> {
        Some(Cow::Borrowed(&self.1))
    }
}

fn main() {
    let cx = Context::default();
    let v4 = "route replace 203.0.113.0/24 via 10.255.0.10 dev Ethernet6";
    let v6 = "route replace 2001:db8:1234::/48 via 2001:db8:ffff::73 dev Ethernet20";
    let rich = "route add 203.0.113.0/24 via 10.255.0.10 dev Ethernet6 proto bgp metric 20 table 100 src 10.0.0.1";
    let del = "route del 203.0.113.0/24";
    let neighbour = "neigh replace 10.1.1.1 lladdr 02:00:00:00:00:01 dev Ethernet6";
    measure("words of a line", || {
        black_box(Words::of_line(black_box(v4)).is_ok());
    });
    for (name, line) in [
        ("route replace P via G dev L (IPv4)", v4),
        ("route replace P via G dev L (IPv6)", v6),
        ("route add with everything usual", rich),
        ("route del P", del),
        ("neigh replace", neighbour),
    ] {
        measure(name, || {
            black_box(parse_line(black_box(line), &cx).is_ok());
        });
    }
    measure("a line of a plain list, spread", || {
        black_box(prefix_line(black_box("203.0.113.0/24"), &LoadHops::Spread, &cx).is_ok());
    });
    let printed = "203.0.113.0/24 via 10.255.0.10 dev Ethernet6 proto bgp metric 20 ";
    measure("a line of ip route show", || {
        black_box(parse_printed_route(black_box(printed), &cx).is_ok());
    });
    let json = br#"{"dst":"203.0.113.0/24","gateway":"10.255.0.10","dev":"Ethernet6","protocol":"bgp","metric":20,"flags":[]}"#;
    measure("an object of ip -json", || {
        black_box(json_route(black_box(json), &cx).is_ok());
    });

    let link = Link { id: LinkId(1), name: "Ethernet6".parse().unwrap(), ifindex: 2 };
    let hop = NextHop {
        gateway: Some("10.255.0.10".parse().unwrap()),
        link: Some(LinkId(1)),
        weight: 1,
        flags: HopFlags::default(),
    };
    let tables = One(link, Group { id: GroupId(1), nhid: 0, hops: vec![hop] });
    let value = RouteValue {
        kind: RouteType::Unicast,
        protocol: 186,
        scope: 0,
        distance: 20,
        group: GroupId(1),
        attrs: Attrs::NONE,
    };
    let (heading, extra) = (Heading::default(), Extra::default());
    let printer = Printer::default();
    let mut out = Vec::with_capacity(4096);
    for prefix in ["203.0.113.0/24", "2001:db8:1234::/48"] {
        let key = RouteKey::main(prefix.parse().unwrap());
        measure(&format!("print {prefix}"), || {
            out.clear();
            let _ = printer.route(&mut Bytes(&mut out), &key, &value, &tables, &heading, &extra);
            black_box(&out);
        });
        measure(&format!("print {prefix} as JSON"), || {
            out.clear();
            let mut bytes = Bytes(&mut out);
            let mut json = JsonWriter::new(&mut bytes, false);
            let _ = printer.route_json(&mut json, &key, &value, &tables, &heading, &extra);
            black_box(&out);
        });
    }
    // The formatting machinery, for comparison.
    measure("the same line by format!", || {
        out.clear();
        let _ = writeln!(
            Bytes(&mut out),
            "{} via {} dev {} proto bgp ",
            black_box("203.0.113.0/24".parse::<rtm_model::Prefix>()).unwrap(),
            hop.gateway.unwrap(),
            link.name
        );
        black_box(&out);
    });
}
