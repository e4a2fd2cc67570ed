//! Files of routes: the lines and the JSON of the real `ip`, cut anywhere.

mod support;

use proptest::prelude::*;
use rtm_model::text::{
    Context, Extra, Format, Heading, JSON_OBJECT_BYTES_MAX, JsonObjects, JsonWriter, LoadHops,
    Printer, detect_format, json_route, line_text, parse_printed_route, prefix_line,
};
use rtm_model::{Family, Hops, RouteSpec};
use support::{Store, arb_spec};

/// What `ip -j route show table all` and `ip -j -d -6 route` printed (Linux
/// 6.18, iproute2 6.1), and the lines of the same routes.
const PAIRS: &[(&str, &str)] = &[
    (
        r#"{"dst":"default","gateway":"192.168.1.1","dev":"v0","flags":["onlink"]}"#,
        "default via 192.168.1.1 dev v0 onlink ",
    ),
    (
        r#"{"dst":"10.1.0.0/16","tos":"0x10","gateway":"192.168.1.1","dev":"v0","protocol":"bgp","prefsrc":"192.168.1.2","metric":16,"flags":[],"metrics":[{"mtu":1400,"advmss":1300}]}"#,
        "10.1.0.0/16 tos 0x10 via 192.168.1.1 dev v0 proto bgp src 192.168.1.2 metric 16 mtu 1400 advmss 1300 ",
    ),
    (
        r#"{"dst":"10.2.0.0/16","via":{"family":"inet6","host":"2001:db8:1::1"},"dev":"v0","table":"100","flags":[]}"#,
        "10.2.0.0/16 via inet6 2001:db8:1::1 dev v0 table 100 ",
    ),
    (r#"{"type":"blackhole","dst":"10.3.0.0/16","flags":[]}"#, "blackhole 10.3.0.0/16 "),
    (
        r#"{"dst":"10.5.0.0/16","dev":"v0","scope":"link","flags":[],"flow":{"from":"1","to":"5"},"metrics":[{"window":1000,"rtt":1500,"rttvar":5,"ssthresh":9,"cwnd":5,"reordering":3,"hoplimit":64,"initcwnd":10,"ecn":null,"rto_min":3000,"initrwnd":12,"quickack":1,"congestion":"cubic","fastopen_no_cookie":1}]}"#,
        "10.5.0.0/16 dev v0 scope link realms 1/5 window 1000 rtt 1.5s rttvar 5ms ssthresh 9 cwnd 5 reordering 3 hoplimit 64 initcwnd 10 features ecn rto_min lock 3s initrwnd 12 quickack 1 congctl cubic fastopen_no_cookie 1 ",
    ),
    (
        r#"{"dst":"10.20.0.0/16","nhid":10,"gateway":"192.168.1.9","dev":"v0","flags":[],"nh_info":{"id":10,"gateway":"192.168.1.9","dev":"v0","scope":"link","protocol":"unspec","flags":[]}}"#,
        "10.20.0.0/16 nhid 10 via 192.168.1.9 dev v0 ",
    ),
    (
        r#"{"dst":"10.21.0.0/16","nhid":12,"flags":[],"nexthops":[{"gateway":"192.168.1.9","dev":"v0","weight":1,"flags":[]},{"gateway":"192.168.1.8","dev":"v0","weight":5,"flags":["linkdown"]}]}"#,
        "10.21.0.0/16 nhid 12 \n\tnexthop via 192.168.1.9 dev v0 weight 1 \n\tnexthop via 192.168.1.8 dev v0 weight 5 linkdown ",
    ),
    (
        r#"{"dst":"default","gateway":"2001:db8:1::1","dev":"v0","metric":1024,"flags":[],"expires":999,"pref":"medium"}"#,
        "default via 2001:db8:1::1 dev v0 metric 1024 expires 999sec pref medium",
    ),
    (
        r#"{"dst":"default","dev":"v0","metric":1024,"flags":[],"pref":"high"}"#,
        "default dev v0 metric 1024 pref high",
    ),
    (
        r#"{"type":"unreachable","dst":"2001:db8:c::/48","dev":"lo","protocol":"boot","scope":"global","metric":1024,"flags":[],"pref":"medium"}"#,
        "unreachable 2001:db8:c::/48 dev lo proto boot scope global metric 1024 pref medium",
    ),
    (
        r#"{"type":"local","dst":"127.0.0.0/8","dev":"lo","table":"local","protocol":"kernel","scope":"host","prefsrc":"127.0.0.1","flags":[]}"#,
        "local 127.0.0.0/8 dev lo table local proto kernel scope host src 127.0.0.1 ",
    ),
    (
        r#"{ "dst" : "\u0031.1.1.1" , "dev" : "a\"\\b" , "flags" : [ "offload" , "rt_trap" ] , "metric" : "5" }"#,
        "1.1.1.1 dev a\"\\b metric 5 rt_trap",
    ),
];

fn json(text: &str) -> Result<Option<RouteSpec>, String> {
    json_route(text.as_bytes(), &Context::default()).map_err(|error| error.to_string())
}

#[test]
fn an_object_is_the_route_of_its_line() {
    for (object, line) in PAIRS {
        let cx = Context::default();
        let expected = parse_printed_route(line, &cx).unwrap();
        let read = json(object).unwrap().unwrap();
        // JSON doesn't say what is locked, but for rto_min, which always is.
        assert_eq!(read, expected, "{object}");
    }
    assert_eq!(json("{}"), Ok(None));
    assert_eq!(json(" { } "), Ok(None));
}

#[test]
fn wrong_objects_get_one_clear_line() {
    for (object, expected) in [
        (r#"{"gateway":"10.0.0.1"}"#, "dst: end of line: something is missing"),
        (
            r#"{"dst":"10.0.0.1/8","dev":"e"}"#,
            "destination: 10.0.0.1/8: host bits are set; 10.0.0.0/8",
        ),
        (r#"{"dst":"10/8","dev":"eth0/1"}"#, "dev: eth0/1: '/' can't stand"),
        (r#"{"dst":"10/8","dev":"e","encap":"mpls"}"#, "member: encap: a route here can't hold it"),
        (
            r#"{"dst":"10/8","dev":"e","deleted":true}"#,
            "member: deleted: a route here can't hold it",
        ),
        (r#"{"dst":"10/8","dev":"e","metrics":[{"bogus":1}]}"#, "member: bogus: not a metric"),
        (
            r#"{"dst":"10/8","nexthops":[{"gateway":"10.0.0.1","encap":1}]}"#,
            "member: encap: a next hop here",
        ),
        (
            r#"{"dst":"10/8","nexthops":[{"gateway":"10.0.0.1","weight":257}]}"#,
            "weight: 257: out of range",
        ),
        (r#"{"dst":"10/8 metric 5","dev":"e"}"#, "destination: '10/8 metric 5': "),
        (r#"{"dst":"10/8","dev":"e","metric":-1}"#, "metric: -1: not a number"),
        (r#"{"dst":["10/8"]}"#, "JSON: [\"10/8\"]}: a text or a number is expected"),
        (r#"{"dst" "10/8"}"#, "JSON: \"10/8\"}: a colon is expected"),
        (r#"{"dst":"10/8"} x"#, "JSON: x: something behind the object"),
        (r#"{"dst":"\q"}"#, "JSON: q\"}: a wrong escape"),
        (r#"{"dst":"\ud800x"}"#, "JSON: 0x\"}: a wrong escape"),
        ("{\"dst\":\"a\nb\"}", "JSON: \\nb\"}: a control character in a text"),
        ("{\"dst\":\"10/8\",\"cache\":[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]}", "JSON: "),
        ("[]", "JSON: []: an object is expected"),
        ("", "JSON: '': an object is expected"),
    ] {
        let error = json(object).unwrap_err();
        assert!(error.starts_with(expected), "{object}: {error}");
    }
    let error = json_route(br#"{"dst":"10.0.0.1/8","dev":"e"}"#, &Context::default()).unwrap_err();
    assert!(error.at_byte(100).to_string().contains("byte 107:"));
}

/// All objects of a stream that comes in pieces of `step` bytes, or the error.
fn cut(stream: &[u8], step: usize) -> Result<Vec<(u64, Vec<u8>)>, String> {
    let mut objects = JsonObjects::default();
    let mut found = Vec::new();
    for piece in stream.chunks(step) {
        objects.push(piece);
        loop {
            match objects.next_object() {
                Ok(Some((offset, bytes))) => found.push((offset, bytes.to_vec())),
                Ok(None) => break,
                Err(error) => return Err(error.to_string()),
            }
        }
    }
    objects.finish().map_err(|error| error.to_string())?;
    Ok(found)
}

#[test]
fn a_stream_is_cut_into_objects_wherever_its_pieces_end() {
    let objects: Vec<&str> = PAIRS.iter().map(|(object, _)| *object).collect();
    let streams = [
        format!("[{}]\n", objects.join(",")),
        format!("[ {} ]\n[ ]\n[{}]", objects.join(",\n"), objects[0]),
        objects.join("\n"),
    ];
    for stream in &streams {
        for step in [1, 2, 7, 64, 1 << 20] {
            let found = cut(stream.as_bytes(), step).unwrap();
            for (offset, bytes) in &found {
                let at = usize::try_from(*offset).unwrap();
                assert_eq!(&stream.as_bytes()[at..at + bytes.len()], bytes);
                json_route(bytes, &Context::default()).unwrap().unwrap();
            }
            assert!(found.len() >= objects.len(), "{step}");
        }
        if stream.starts_with('[') {
            let end = stream.trim_end().len();
            for len in 1..end {
                let first = stream.as_bytes()[..len].iter().filter(|&&b| b == b'[').count();
                let whole = cut(&stream.as_bytes()[..len], 16);
                // Whole again only behind the first array.
                assert!(whole.is_err() || first > 1, "{len}");
            }
        }
    }
    assert_eq!(cut(b"", 1).unwrap(), []);
    for (stream, expected) in [
        ("[{}x", "JSON: byte 3: x: not expected here"),
        ("[{},,", "JSON: byte 4: ,: not expected here"),
        ("12", "JSON: byte 0: 1: not expected here"),
        ("[{\"a\":1}", "JSON: byte 8: end of file: the file is cut off"),
        ("[{\"a\":1", "JSON: byte 7: end of file: the file is cut off"),
    ] {
        let error = cut(stream.as_bytes(), 3).unwrap_err();
        assert!(error.starts_with(expected), "{stream}: {error}");
    }
}

#[test]
fn an_endless_object_is_refused_before_it_fills_the_memory() {
    let mut objects = JsonObjects::default();
    objects.push(b"[{\"dst\":\"");
    let error = loop {
        objects.push(&[b'x'; 4096]);
        match objects.next_object() {
            Ok(found) => assert!(found.is_none()),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains(&JSON_OBJECT_BYTES_MAX.to_string()), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What the printer writes as JSON is JSON to another reader, and the same
    /// route to ours.
    #[test]
    fn printed_json_is_read_back(spec in arb_spec(), pretty in any::<bool>(), details in any::<bool>()) {
        let mut spec = spec;
        // JSON as `ip` has it doesn't tell what is locked.
        let mut attrs = spec.attrs.decode();
        attrs.metrics.retain(|&(number, _)| number != 1);
        if attrs.metrics.iter().any(|&(number, _)| number == 13) {
            attrs.metrics.insert(0, (1, 1 << 13));
        }
        spec.attrs = attrs.encode().unwrap();
        let mut store = Store::default();
        let (key, value) = store.route(&spec);
        let extra = Extra {
            details: spec.distance.is_some(),
            source: Some("file:x"),
            revision: Some(7),
            why: Some("a 'higher' \"distance\""),
        };
        let mut text = String::new();
        let printer = Printer { details, ..Printer::default() };
        let mut json = JsonWriter::new(&mut text, pretty);
        printer.route_json(&mut json, &key, &value, &store, &Heading::default(), &extra).unwrap();
        let known: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert!(known["flags"].is_array());
        let read = json_route(text.as_bytes(), &Context::default());
        let mut expected = spec;
        if expected.prefix.family() == Family::V4 && expected.metric == Some(0) {
            expected.metric = None;
        }
        if expected.prefix.family() == Family::V6 {
            expected.metric.get_or_insert(1024);
        }
        let read = read.map_err(|error| format!("{text}: {error}"));
        prop_assert_eq!(read, Ok(Some(expected)), "{}", text);
    }

    #[test]
    fn garbage_is_no_json(bytes in prop::collection::vec(any::<u8>(), 0..200), step in 1..50_usize) {
        let _ = cut(&bytes, step);
        let _ = json_route(&bytes, &Context::default());
        let _ = detect_format(&bytes);
        let _ = line_text(&bytes);
        if let Ok(text) = std::str::from_utf8(&bytes) {
            let _ = prefix_line(text, &LoadHops::Spread, &Context::default());
        }
    }

    /// One flipped byte never panics, and never makes the reader read on.
    #[test]
    fn damaged_objects_are_refused_or_another_route(
        pair in prop::sample::select(PAIRS.to_vec()),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = pair.0.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = json_route(&bytes, &Context::default());
        let _ = cut(&bytes, 8);
    }
}

/// The whole list of the data becomes routes; each prefix as it is written.
#[test]
fn the_full_table_is_read() {
    let Some(text) = full_table() else { return };
    assert_eq!(detect_format(&text.as_bytes()[..4096]), Some(Format::Prefixes));
    let (mut v4, mut v6) = (0, 0);
    for line in text.lines() {
        let spec = prefix_line(line, &LoadHops::Spread, &Context::default()).unwrap().unwrap();
        assert!(matches!(spec.hops, Hops::One(_)));
        assert_eq!(spec.prefix.to_string(), line);
        match spec.prefix.family() {
            Family::V4 => v4 += 1,
            Family::V6 => v6 += 1,
        }
    }
    assert_eq!((v4, v6), (901_899, 160_147));
}

/// The list, unpacked by gzip (this crate unpacks nothing).
fn full_table() -> Option<String> {
    let data = std::env::var_os("RTM_DATA").map_or_else(
        || concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data").into(),
        std::path::PathBuf::from,
    );
    let output =
        std::process::Command::new("gzip").arg("-dc").arg(data.join("full-table.txt.gz")).output();
    match output {
        Ok(output) if output.status.success() => Some(String::from_utf8(output.stdout).unwrap()),
        _ => {
            assert!(std::env::var_os("RTM_REQUIRE_DATA").is_none(), "no data in {data:?}");
            println!("not run: the_full_table_is_read (no data in {})", data.display());
            None
        }
    }
}
