//! What the printer adds to the lines of `ip`, and the menus' tables. (The
//! lines themselves are compared with those of `ip` in `text_ip.rs`.)

mod support;

use rtm_model::text::{
    Command, Context, Extra, Heading, JsonWriter, Palette, Printer, Timestamp, Timestamps,
    neighbour_menu_heading, neighbour_menu_row, parse_line, route_menu_heading, route_menu_row,
};
use rtm_model::{Change, Names, Neighbour, RouteKey, RouteValue};
use support::Store;

fn route(store: &mut Store, words: &str) -> (RouteKey, RouteValue) {
    match parse_line(&format!("route add {words}"), &Context::default()) {
        Ok(Some((_, Command::Change(Change::Route(_, spec))))) => store.route(&spec),
        other => panic!("{words}: {other:?}"),
    }
}

fn neighbour(store: &mut Store, words: &str) -> Neighbour {
    match parse_line(&format!("neigh add {words}"), &Context::default()) {
        Ok(Some((_, Command::Change(Change::Neighbour(_, spec))))) => store.neighbour(&spec),
        other => panic!("{words}: {other:?}"),
    }
}

const TIME: Timestamp = Timestamp {
    year: 2026,
    month: 11,
    day: 1,
    weekday: 0,
    hour: 6,
    minute: 52,
    second: 4,
    micros: 453_076,
};

#[test]
fn headings_stand_in_front() {
    let mut store = Store::default();
    let (key, value) = route(&mut store, "10.0.0.0/8 via 10.1.1.1 dev e proto bgp");
    let text = "10.0.0.0/8 via 10.1.1.1 dev e proto bgp \n";
    for (heading, expected) in [
        (Heading::default(), text.to_owned()),
        (Heading { deleted: true, ..Heading::default() }, format!("Deleted {text}")),
        (
            Heading { label: true, deleted: true, ..Heading::default() },
            format!("[ROUTE]Deleted {text}"),
        ),
        (
            Heading { time: Some((Timestamps::Short, TIME)), label: true, deleted: true },
            format!("[2026-11-01T06:52:04.453076] [ROUTE]Deleted {text}"),
        ),
        (
            Heading { time: Some((Timestamps::Long, TIME)), label: true, deleted: false },
            format!("Timestamp: Sun Nov  1 06:52:04 2026 453076 usec\n[ROUTE]{text}"),
        ),
    ] {
        let mut out = String::new();
        let extra = Extra::default();
        Printer::default().route(&mut out, &key, &value, &store, &heading, &extra).unwrap();
        assert_eq!(out, expected);
    }
    let heading = Heading { time: Some((Timestamps::Short, TIME)), label: true, deleted: true };
    let mut out = String::new();
    let mut json = JsonWriter::new(&mut out, false);
    Printer::default()
        .route_json(&mut json, &key, &value, &store, &heading, &Extra::default())
        .unwrap();
    assert_eq!(
        out,
        r#"{"timestamp":"2026-11-01T06:52:04.453076","deleted":true,"dst":"10.0.0.0/8","gateway":"10.1.1.1","dev":"e","protocol":"bgp","flags":[]}"#
    );
}

#[test]
fn what_rtm_knows_stands_behind() {
    let mut store = Store::default();
    let extra = Extra {
        details: true,
        source: Some("fpm:127.0.0.1"),
        revision: Some(42),
        why: Some("distance 20 over 1"),
    };
    let words = "distance 20 source fpm:127.0.0.1 revision 42 why 'distance 20 over 1' ";
    for (route_words, expected) in [
        (
            "10.0.0.0/8 dev e distance 20",
            format!("10.0.0.0/8 dev e proto static scope link {words}\n"),
        ),
        (
            "::/0 dev e distance 20",
            format!("default dev e proto static metric 1024 pref medium {words}\n"),
        ),
        (
            "10.0.0.0/8 distance 20 nexthop dev a nexthop dev b",
            format!(
                "10.0.0.0/8 proto static {words}\n\tnexthop dev a weight 1 \n\tnexthop dev b weight 1 \n"
            ),
        ),
    ] {
        let (key, value) = route(&mut store, &format!("proto static {route_words}"));
        let mut out = String::new();
        Printer::default()
            .route(&mut out, &key, &value, &store, &Heading::default(), &extra)
            .unwrap();
        assert_eq!(out, expected);
    }
    let (key, value) = route(&mut store, "10.0.0.0/8 dev e proto static scope global distance 20");
    let mut out = String::new();
    let mut json = JsonWriter::new(&mut out, false);
    Printer::default()
        .route_json(&mut json, &key, &value, &store, &Heading::default(), &extra)
        .unwrap();
    assert_eq!(
        out,
        r#"{"dst":"10.0.0.0/8","dev":"e","protocol":"static","flags":[],"distance":20,"ordinal":0,"source":"fpm:127.0.0.1","revision":42,"why":"distance 20 over 1"}"#
    );
}

#[test]
fn links_and_groups_have_lines() {
    let mut store = Store::default();
    route(
        &mut store,
        "10.0.0.0/8 nexthop via 10.1.1.1 dev a weight 2 nexthop via inet6 fe80::1 dev b",
    );
    route(&mut store, "10.0.0.0/8 via 10.1.1.1 dev a onlink");
    let printer = Printer::default();
    let heading = Heading { label: true, ..Heading::default() };
    let mut out = String::new();
    for (group, nhid) in store.groups.clone().into_iter().zip([12, 10]) {
        let group = rtm_model::Group { nhid, ..group };
        printer.group(&mut out, &group, &store, &heading).unwrap();
        let mut json = JsonWriter::new(&mut out, false);
        printer.group_json(&mut json, &group, &store, &Heading::default()).unwrap();
        out.push('\n');
    }
    let link = rtm_model::Link { ifindex: 3, ..store.links[0] };
    printer.link(&mut out, &link, &Heading { deleted: true, ..heading }).unwrap();
    let mut json = JsonWriter::new(&mut out, false);
    printer.link_json(&mut json, &link, &Heading { deleted: true, ..heading }).unwrap();
    assert_eq!(
        out,
        r#"[NEXTHOP]id 12 
	nexthop via 10.1.1.1 dev a weight 2 
	nexthop via fe80::1 dev b weight 1 
{"id":12,"nexthops":[{"gateway":"10.1.1.1","dev":"a","weight":2,"flags":[]},{"gateway":"fe80::1","dev":"b","weight":1,"flags":[]}]}
[NEXTHOP]id 10 via 10.1.1.1 dev a onlink 
{"id":10,"gateway":"10.1.1.1","dev":"a","flags":["onlink"]}
[LINK]Deleted 3: a
{"deleted":true,"ifindex":3,"ifname":"a"}"#
    );
}

#[test]
fn menus_show_tables() {
    let mut store = Store::default();
    let mut out = String::new();
    route_menu_heading(&mut out).unwrap();
    for words in [
        "122.1.1.1/32 via 10.1.1.1 dev Ethernet1",
        "130.1.1.0/24 dev Ethernet1",
        "126.30.34.0/24 via 20.1.1.1",
        "220.1.0.0/16 nexthop via 30.1.2.3 dev Ethernet3 nexthop via inet6 fe80::1 dev Ethernet4",
        "blackhole 192.0.2.0/24 table 7",
        "default via 2001:db8:1234:5678:9abc:def0:1234:5678 dev e",
    ] {
        let (key, value) = route(&mut store, words);
        route_menu_row(&mut out, &key, &value, &store).unwrap();
    }
    assert_eq!(
        out,
        "\
Destination Subnet (Key) | Gateway IP      | OIF
-------------------------+-----------------+----------------
122.1.1.1/32             | 10.1.1.1        | Ethernet1
130.1.1.0/24             | -               | Ethernet1
126.30.34.0/24           | 20.1.1.1        | -
220.1.0.0/16             | 30.1.2.3        | Ethernet3
                         | fe80::1         | Ethernet4
192.0.2.0/24             | -               | - (blackhole) (table 7)
::/0                     | 2001:db8:1234:5678:9abc:def0:1234:5678 | e
"
    );
    out.clear();
    neighbour_menu_heading(&mut out).unwrap();
    for words in ["10.1.1.1 lladdr 02:00:00:00:00:01 dev Ethernet1", "10.1.1.2 nud failed"] {
        let neighbour = neighbour(&mut store, words);
        neighbour_menu_row(&mut out, &neighbour.key, &neighbour.value, &store).unwrap();
    }
    assert_eq!(
        out,
        "\
MAC address (Key)        | IP address      | OIF
-------------------------+-----------------+----------------
02:00:00:00:00:01        | 10.1.1.1        | Ethernet1
-                        | 10.1.1.2        | -
"
    );
}

#[test]
fn names_come_from_files_and_colours_from_the_environment() {
    let mut names = Names::default();
    names.read_protocols("201 \"odd\"\n").unwrap();
    names.read_tables("100 blue\n").unwrap();
    let mut store = Store::default();
    let (key, value) = route(&mut store, "10.0.0.0/8 dev e proto 201 table 100 scope 77");
    let printer = Printer { names: &names, ..Printer::default() };
    let (heading, extra) = (Heading::default(), Extra::default());
    let mut out = String::new();
    printer.route(&mut out, &key, &value, &store, &heading, &extra).unwrap();
    assert_eq!(out, "10.0.0.0/8 dev e table blue proto \"odd\" scope 77 \n");
    out.clear();
    let mut json = JsonWriter::new(&mut out, false);
    printer.route_json(&mut json, &key, &value, &store, &heading, &extra).unwrap();
    assert_eq!(
        out,
        r#"{"dst":"10.0.0.0/8","dev":"e","table":"blue","protocol":"\"odd\"","scope":"77","flags":[]}"#
    );
    out.clear();
    let dark = Printer { palette: Some(Palette::Dark), ..Printer::default() };
    dark.route(&mut out, &key, &value, &store, &heading, &extra).unwrap();
    assert!(
        out.starts_with("\u{1b}[1;35m10.0.0.0/8 \u{1b}[0mdev \u{1b}[1;36me \u{1b}[0m"),
        "{out:?}"
    );
    for (value, palette) in [
        (None, Palette::Light),
        (Some(""), Palette::Light),
        (Some("15;0"), Palette::Dark),
        (Some("15;default;8"), Palette::Dark),
        (Some("0;15"), Palette::Light),
        (Some("0;7"), Palette::Light),
    ] {
        assert_eq!(Palette::of_colorfgbg(value), palette, "{value:?}");
    }
}

#[test]
fn what_is_not_known_is_still_printed() {
    // A link or a group that went away between two records.
    let mut store = Store::default();
    let (key, value) = route(&mut store, "10.0.0.0/8 via 10.1.1.1 dev e scope global proto boot");
    store.links.clear();
    let (heading, extra) = (Heading::default(), Extra::default());
    let mut out = String::new();
    Printer::default().route(&mut out, &key, &value, &store, &heading, &extra).unwrap();
    assert_eq!(out, "10.0.0.0/8 via 10.1.1.1 dev if1 \n");
    store.groups.clear();
    out.clear();
    Printer::default().route(&mut out, &key, &value, &store, &heading, &extra).unwrap();
    assert_eq!(out, "10.0.0.0/8 \n");
}
