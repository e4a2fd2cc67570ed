//! MRT table dumps: made ones, byte by byte, and the two real samples.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use rtm_files::{DumpCounts, FileError, Options, Reader};
use rtm_model::Change;
use rtm_model::text::{Format, PeerChoice};

/// A dump that is put together.
#[derive(Default)]
struct Mrt(Vec<u8>);

impl Mrt {
    fn record(mut self, kind: u16, subtype: u16, body: &[u8]) -> Mrt {
        self.0.extend_from_slice(&1_400_000_000_u32.to_be_bytes());
        self.0.extend_from_slice(&kind.to_be_bytes());
        self.0.extend_from_slice(&subtype.to_be_bytes());
        self.0.extend_from_slice(&(body.len() as u32).to_be_bytes());
        self.0.extend_from_slice(body);
        self
    }

    /// A table of peers with these addresses; every second AS number is short.
    fn peers(self, addresses: &[&str]) -> Mrt {
        let mut body = vec![1, 2, 3, 4, 0, 3, b'r', b'v', b'2'];
        body.extend_from_slice(&(addresses.len() as u16).to_be_bytes());
        for (index, address) in addresses.iter().enumerate() {
            let long = index % 2 == 0;
            let address: IpAddr = address.parse().unwrap();
            body.push(u8::from(address.is_ipv6()) | u8::from(long) << 1);
            body.extend_from_slice(&[9, 9, 9, 9]);
            bytes_of(address, &mut body);
            body.extend_from_slice(if long { &[0, 1, 0, 0] } else { &[1, 0] });
        }
        self.record(13, 1, &body)
    }

    /// A prefix with entries: a peer's number and its attributes.
    fn rib(self, prefix: &str, entries: &[(u16, Vec<u8>)]) -> Mrt {
        let v6 = prefix.contains(':');
        let body = rib_body(prefix, entries, &[0, 0, 0, 7], None);
        self.record(13, if v6 { 4 } else { 2 }, &body)
    }
}

fn bytes_of(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
        IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
    }
}

fn rib_body(
    prefix: &str,
    entries: &[(u16, Vec<u8>)],
    head: &[u8],
    path_id: Option<u32>,
) -> Vec<u8> {
    let mut body = head.to_vec();
    let (address, len) = prefix.split_once('/').unwrap();
    let len: u8 = len.parse().unwrap();
    let mut bytes = Vec::new();
    bytes_of(address.parse().unwrap(), &mut bytes);
    body.push(len);
    body.extend_from_slice(&bytes[..usize::from(len.div_ceil(8))]);
    body.extend_from_slice(&(entries.len() as u16).to_be_bytes());
    for (peer, attributes) in entries {
        body.extend_from_slice(&peer.to_be_bytes());
        body.extend_from_slice(&[0, 0, 0, 1]);
        if let Some(id) = path_id {
            body.extend_from_slice(&id.to_be_bytes());
        }
        body.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
        body.extend_from_slice(attributes);
    }
    body
}

/// Path attributes: an origin, segments of an AS path (kind, numbers), a next
/// hop.
fn attributes(origin: u8, path: &[(u8, u8)], next_hop: &str) -> Vec<u8> {
    let mut out = vec![0x40, 1, 1, origin];
    let mut segments = Vec::new();
    for (kind, count) in path {
        segments.extend_from_slice(&[*kind, *count]);
        segments.resize(segments.len() + 4 * usize::from(*count), 7);
    }
    // With an extended length, as collectors like it.
    out.extend_from_slice(&[0x50, 2]);
    out.extend_from_slice(&(segments.len() as u16).to_be_bytes());
    out.extend_from_slice(&segments);
    // A community, which nobody asks for.
    out.extend_from_slice(&[0xc0, 8, 4, 0, 1, 0, 2]);
    let address: IpAddr = next_hop.parse().unwrap();
    match address {
        IpAddr::V4(address) => {
            out.extend_from_slice(&[0x40, 3, 4]);
            out.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            out.extend_from_slice(&[0x80, 14, 17, 16]);
            out.extend_from_slice(&address.octets());
        }
    }
    out
}

fn read_all(bytes: &[u8], options: Options) -> (Vec<String>, Option<DumpCounts>) {
    let mut said = Vec::new();
    let mut reader = match Reader::new(bytes, options) {
        Ok(reader) => reader,
        Err(error) => return (vec![error.to_string()], None),
    };
    loop {
        match reader.next_item() {
            Ok(Some(item)) => said.push(route_text(&item.change)),
            Ok(None) => return (said, reader.dump_counts()),
            Err(error) => said.push(error.to_string()),
        }
    }
}

fn route_text(change: &Change) -> String {
    let Change::Route(_, spec) = change else { panic!("{change:?}") };
    assert_eq!(spec.protocol, Some(186));
    let [hop] = spec.hops.as_slice() else { panic!("{spec:?}") };
    format!("{} via {}", spec.prefix, hop.gateway.unwrap())
}

fn read(mrt: &Mrt, peer: PeerChoice) -> Vec<String> {
    read_all(&mrt.0, Options { peer, ..Options::default() }).0
}

#[test]
fn the_best_is_the_shortest_path_then_origin_then_peer() {
    let peers = ["10.0.0.9", "10.0.0.1", "10.0.0.5", "2001:db8::1"];
    const SET: u8 = 1;
    const SEQUENCE: u8 = 2;
    let path = |count| vec![(SEQUENCE, count)];
    for (entries, expected, why) in [
        ([(0, 0, path(3)), (1, 2, path(2))], 1, "shorter"),
        ([(0, 2, path(2)), (1, 1, path(2))], 1, "the origin"),
        ([(0, 0, path(2)), (2, 0, path(2))], 2, "the lower address"),
        ([(3, 0, path(2)), (0, 0, path(2))], 0, "IPv4 is lower"),
        ([(0, 0, vec![(SEQUENCE, 1), (SET, 9)]), (1, 0, path(3))], 0, "a set is one"),
        ([(0, 0, vec![(3, 5), (4, 2)]), (1, 0, path(1))], 0, "a confederation is none"),
        ([(0, 0, vec![]), (1, 0, path(1))], 0, "no path at all"),
        ([(0, 0, vec![(SEQUENCE, 200), (SEQUENCE, 56)]), (1, 0, path(255))], 1, "long ones"),
    ] {
        let entries = entries.map(|(peer, origin, path)| {
            (peer, attributes(origin, &path, &format!("192.0.2.{peer}")))
        });
        let mrt = Mrt::default().peers(&peers).rib("10.0.0.0/8", &entries);
        let expected = format!("10.0.0.0/8 via 192.0.2.{expected}");
        assert_eq!(read(&mrt, PeerChoice::Best), [expected], "{why}");
        let last = entries[1].0;
        let expected = [format!("10.0.0.0/8 via 192.0.2.{last}")];
        assert_eq!(read(&mrt, PeerChoice::Index(last)), expected, "{why}");
        let address = peers[usize::from(last)].parse().unwrap();
        assert_eq!(read(&mrt, PeerChoice::Address(address)), expected, "{why}");
    }
}

#[test]
fn every_kind_of_unicast_record_reads() {
    let v4 = || attributes(0, &[(2, 1)], "192.0.2.1");
    let v6 = || attributes(0, &[(2, 1)], "2001:db8::1");
    let generic = |afi: u8, safi: u8| [0, 0, 0, 7, 0, afi, safi];
    // The whole attribute, as some collectors have it: AFI, SAFI, the next
    // hop's length, a global and a link-local address, a reserved byte.
    let mut whole = vec![0x80, 14, 37, 0, 2, 1, 32];
    whole.extend_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    whole.extend_from_slice(&[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    whole.push(0);
    let mrt = Mrt::default()
        .peers(&["10.0.0.1", "2001:db8::9"])
        .rib("0.0.0.0/0", &[(0, v4())])
        .rib("192.0.2.128/25", &[(0, v4())])
        .rib("2001:db8::/33", &[(1, v6())])
        .rib("2001:db8:1::1/128", &[(1, whole)])
        // IPv4 by way of IPv6.
        .rib("10.0.0.0/8", &[(0, v6())])
        .record(13, 6, &rib_body("10.1.0.0/16", &[(0, v4())], &generic(1, 1), None))
        .record(13, 6, &rib_body("2001:db8:2::/48", &[(0, v6())], &generic(2, 1), None))
        .record(13, 8, &rib_body("10.2.0.0/16", &[(0, v4())], &[0, 0, 0, 7], Some(3)))
        .record(13, 10, &rib_body("2001:db8:3::/48", &[(0, v6())], &[0, 0, 0, 7], Some(3)))
        .record(13, 12, &rib_body("10.3.0.0/16", &[(0, v4())], &generic(1, 1), Some(3)))
        // Multicast, VPN, a table of places.
        .record(13, 3, &rib_body("10.4.0.0/16", &[(0, v4())], &[0, 0, 0, 7], None))
        .record(13, 6, &rib_body("10.5.0.0/16", &[(0, v4())], &generic(1, 128), None))
        .record(13, 7, &[0; 20]);
    let (said, counts) = read_all(&mrt.0, Options::default());
    assert_eq!(
        said,
        [
            "0.0.0.0/0 via 192.0.2.1",
            "192.0.2.128/25 via 192.0.2.1",
            "2001:db8::/33 via 2001:db8::1",
            "2001:db8:1::1/128 via 2001:db8::2",
            "10.0.0.0/8 via 2001:db8::1",
            "10.1.0.0/16 via 192.0.2.1",
            "2001:db8:2::/48 via 2001:db8::1",
            "10.2.0.0/16 via 192.0.2.1",
            "2001:db8:3::/48 via 2001:db8::1",
            "10.3.0.0/16 via 192.0.2.1",
        ]
    );
    let counts = counts.unwrap();
    assert_eq!((counts.prefixes, counts.entries, counts.peers), (10, 10, 2));
    assert_eq!((counts.without, counts.passed_over), (0, 3));
}

#[test]
fn what_has_no_next_hop_is_counted() {
    let both = [(0, attributes(0, &[], "0.0.0.0")), (1, attributes(0, &[(2, 3)], "192.0.2.1"))];
    let mrt = Mrt::default()
        .peers(&["10.0.0.1", "10.0.0.2"])
        .rib("10.0.0.0/8", &[(0, attributes(0, &[], "0.0.0.0"))])
        .rib("11.0.0.0/8", &[(0, vec![])])
        .rib("2001:db8::/32", &[(0, attributes(0, &[], "192.0.2.1"))])
        .rib("12.0.0.0/8", &both);
    let (said, counts) = read_all(&mrt.0, Options::default());
    assert_eq!(said, ["12.0.0.0/8 via 192.0.2.1"]);
    assert_eq!(counts.unwrap().without, 3);
    let of_the_second = Options { peer: PeerChoice::Index(1), ..Options::default() };
    let (said, counts) = read_all(&mrt.0, of_the_second);
    assert_eq!(said, ["12.0.0.0/8 via 192.0.2.1"]);
    assert_eq!(counts.unwrap().without, 3, "prefixes that this peer doesn't have");
}

#[test]
fn a_peer_that_is_not_there_is_named() {
    let mrt = Mrt::default()
        .peers(&["10.0.0.1", "10.0.0.2", "10.0.0.1"])
        .rib("10.0.0.0/8", &[(2, attributes(0, &[], "192.0.2.1"))]);
    assert_eq!(
        read(&mrt, PeerChoice::Index(3)),
        ["byte 0 of the unpacked stream: no peer 3; it has 3 peers: 0 to 2 would be right"]
    );
    assert_eq!(
        read(&mrt, PeerChoice::Address("10.0.0.3".parse().unwrap())),
        [
            "byte 0 of the unpacked stream: no peer 10.0.0.3; the address of one of its 3 peers, or best, would be right"
        ]
    );
    // Two sessions with one router are one address.
    assert_eq!(
        read(&mrt, PeerChoice::Address("10.0.0.1".parse().unwrap())),
        ["10.0.0.0/8 via 192.0.2.1"]
    );
}

#[test]
fn a_wrong_record_is_named_and_reading_goes_on() {
    let entry = |attributes: Vec<u8>| rib_body("10.0.0.0/8", &[(0, attributes)], &[0; 4], None);
    let mut long = entry(vec![]);
    long.push(0);
    let early = "the record ends too early";
    for (body, why) in [
        (entry(vec![0x40]), early),
        (entry(vec![0x40, 1, 0]), "an empty ORIGIN"),
        (entry(vec![0x40, 1, 9, 0]), early),
        (entry(vec![0x40, 2, 2, 2, 1]), early),
        (entry(vec![0x40, 2, 2, 9, 0]), "a segment of an AS path that is neither set nor sequence"),
        (entry(vec![0x40, 3, 3, 1, 2, 3]), "a NEXT_HOP not of 4 bytes"),
        (entry(vec![0x80, 14, 2, 16, 0]), early),
        (long, "something follows the record's last entry"),
        (
            rib_body("10.0.0.0/8", &[(9, vec![])], &[0; 4], None),
            "an entry of a peer that the table of peers doesn't have",
        ),
        (vec![0, 0, 0, 1, 33, 1, 2, 3, 4, 5, 0, 0], "the prefix is too long"),
        (vec![0, 0, 0, 1, 255, 1], "the record ends within its prefix"),
        (vec![0, 0], early),
    ] {
        let peers = Mrt::default().peers(&["10.0.0.1"]);
        let at = peers.0.len();
        let mrt =
            peers.record(13, 2, &body).rib("11.0.0.0/8", &[(0, attributes(0, &[], "192.0.2.1"))]);
        let expected = [
            format!("byte {at} of the unpacked stream: {why}"),
            "11.0.0.0/8 via 192.0.2.1".to_owned(),
        ];
        assert_eq!(read(&mrt, PeerChoice::Best), expected, "{body:?}");
    }
}

#[test]
fn what_is_no_table_dump_says_so() {
    let updates = Mrt::default().record(16, 4, &[0; 40]);
    assert_eq!(
        read(&updates, PeerChoice::Best),
        [
            "byte 0 of the unpacked stream: an MRT record of type 16, subtype 4; a table dump, type 13, would be right"
        ]
    );
    let no_peers = Mrt::default().record(13, 1, &[0; 5]);
    assert_eq!(
        read(&no_peers, PeerChoice::Best),
        ["byte 0 of the unpacked stream: the MRT stream is damaged (the record ends too early)"]
    );
    let text = Options { format: Format::Mrt, ..Options::default() };
    let (said, _) = read_all(b"10.0.0.0/8 via 10.1.1.1 dev eth0\n", text);
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("a table dump, type 13, would be right"), "{said:?}");
    let (said, counts) = read_all(b"", text);
    assert!(said.is_empty() && counts.unwrap() == DumpCounts::default());
}

#[test]
fn a_record_of_any_length_costs_no_more_than_its_bytes() {
    let mut mrt = Mrt::default().peers(&["10.0.0.1"]);
    let at = mrt.0.len();
    mrt.0.extend_from_slice(&[0, 0, 0, 1, 0, 13, 0, 2, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(
        read(&mrt, PeerChoice::Best),
        [format!("byte {at} of the unpacked stream: the entry has more than 16777216 bytes")]
    );
    mrt.0.truncate(at);
    mrt.0.extend_from_slice(&[0, 0, 0, 1, 0, 13, 0, 2, 0, 0xff, 0xff, 0xff, 1, 2, 3]);
    assert_eq!(
        read(&mrt, PeerChoice::Best),
        [format!("byte {at} of the unpacked stream: the file ends within an entry")]
    );
}

#[test]
fn a_dump_cut_anywhere_gives_what_is_whole_and_names_the_rest() {
    let mut mrt = Mrt::default().peers(&["10.0.0.1"]);
    let mut starts = vec![0, mrt.0.len()];
    for prefix in ["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8"] {
        mrt = mrt.rib(prefix, &[(0, attributes(0, &[(2, 2)], "192.0.2.1"))]);
        starts.push(mrt.0.len());
    }
    let forced = Options { format: Format::Mrt, ..Options::default() };
    for cut in 0..=mrt.0.len() {
        let (said, counts) = read_all(&mrt.0[..cut], forced);
        let whole = starts.iter().rev().find(|start| **start <= cut).unwrap();
        let routes = starts.iter().filter(|start| *start <= whole).count().saturating_sub(2);
        assert_eq!(counts.unwrap().prefixes, routes as u64, "{cut}");
        if cut == *whole {
            assert_eq!(said.len(), routes, "{cut}: {said:?}");
        } else {
            assert_eq!(said.len(), routes + 1, "{cut}: {said:?}");
            let end = format!("byte {whole} of the unpacked stream: the file ends within an entry");
            assert_eq!(said[routes], end, "{cut}");
        }
    }
    // The same packed: where the packer had got to is what there is.
    let mut packed = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    packed.write_all(&mrt.0).unwrap();
    let packed = packed.finish().unwrap();
    for cut in 4..packed.len() {
        let (said, _) = read_all(&packed[..cut], forced);
        assert!(said.last().unwrap().contains("the bzip2 stream is cut off"), "{cut}: {said:?}");
    }
}

#[test]
fn damage_anywhere_never_panics() {
    let entries = [
        (0, attributes(0, &[(2, 2), (1, 3)], "192.0.2.1")),
        (1, attributes(2, &[(2, 1)], "2001:db8::7")),
    ];
    let mrt = Mrt::default().peers(&["10.0.0.1", "2001:db8::1"]).rib("10.0.0.0/8", &entries);
    let forced = Options { format: Format::Mrt, ..Options::default() };
    for index in 0..mrt.0.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff, mrt.0[index].wrapping_add(1)] {
            let mut damaged = mrt.0.clone();
            damaged[index] = value;
            let _ = read_all(&damaged, forced);
        }
    }
}

/// The folder with the real tables.
fn data(name: &str) -> Option<PathBuf> {
    let data = std::env::var_os("RTM_DATA").map_or_else(
        || concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data").into(),
        PathBuf::from,
    );
    if data.join("full-table.txt.gz").is_file() {
        return Some(data);
    }
    assert!(std::env::var_os("RTM_REQUIRE_DATA").is_none_or(|v| v != "1"), "no data in {data:?}");
    let _ = writeln!(std::io::stderr(), "not run: {name} (no real tables in {})", data.display());
    None
}

/// Reads a sample to its cut: its routes, the sum over FNV-1a (64 bits) of
/// their texts, the counts, and the error that the cut is.
fn sample(name: &str, file: &str, peer: PeerChoice) -> Option<(u64, u64, DumpCounts, FileError)> {
    let file = std::fs::File::open(data(name)?.join(file)).unwrap();
    let mut reader = Reader::new(file, Options { peer, ..Options::default() }).unwrap();
    assert_eq!(reader.format(), Some(Format::Mrt), "found out");
    let (mut routes, mut sum) = (0, 0_u64);
    loop {
        match reader.next_item() {
            Ok(Some(item)) => {
                routes += 1;
                let text = route_text(&item.change);
                let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                });
                sum = sum.wrapping_add(hash);
            }
            Ok(None) => panic!("the sample is cut off, and nobody says so"),
            Err(error) => {
                assert!(!error.is_entry());
                assert!(reader.next_item().unwrap().is_none(), "and that is the end");
                assert_eq!(reader.duplicates(), 0);
                return Some((routes, sum, reader.dump_counts().unwrap(), error));
            }
        }
    }
}

// The sums of both samples were computed by a program of its own, in another
// language, from the RFC.

#[test]
fn the_sample_of_ipv4_reads_to_its_cut() {
    const FILE: &str = "rib.20140523.0600-first1MB.mrt.bz2";
    let name = "the_sample_of_ipv4_reads_to_its_cut";
    let Some((routes, sum, counts, error)) = sample(name, FILE, PeerChoice::Best) else { return };
    assert_eq!(routes, 9_072);
    assert_eq!((counts.prefixes, counts.entries, counts.peers), (9_072, 270_005, 35));
    assert_eq!(sum, 0xf977_f5d2_5fc4_81a8);
    assert_eq!(
        error.to_string(),
        "byte 15273283 of the unpacked stream: the bzip2 stream is cut off; a whole file would be right"
    );
    // Peers by number and by address; 134.222.87.1 is two, of which 15 has routes.
    for (peer, expected) in [
        (PeerChoice::Index(25), 2_629),
        (PeerChoice::Address("167.142.3.6".parse().unwrap()), 2_629),
        (PeerChoice::Index(0), 0),
        (PeerChoice::Address("134.222.87.1".parse().unwrap()), 8_718),
    ] {
        let (routes, _, counts, _) = sample(name, FILE, peer).unwrap();
        assert_eq!((routes, counts.without), (expected, 9_072 - expected), "{peer:?}");
    }
}

#[test]
fn the_sample_of_ipv6_reads_to_its_cut() {
    const FILE: &str = "rib6.20151101.0600-first1MB.mrt.bz2";
    let name = "the_sample_of_ipv6_reads_to_its_cut";
    let Some((routes, sum, counts, error)) = sample(name, FILE, PeerChoice::Best) else { return };
    assert_eq!(routes, 6_870);
    assert_eq!((counts.prefixes, counts.entries, counts.peers), (6_870, 149_578, 27));
    assert_eq!(sum, 0x6fc6_0c3b_3296_66c1);
    assert_eq!(
        error.to_string(),
        "byte 12131168 of the unpacked stream: the bzip2 stream is cut off; a whole file would be right"
    );
}
