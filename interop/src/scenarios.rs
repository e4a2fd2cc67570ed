//! The scenarios, each a function.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtm_e2e::{Daemon, Namespace, data, require};

use crate::bird::Bird;
use crate::exabgp::ExaBgp;
use crate::frr::Frr;
use crate::proxy::Proxy;
use crate::zebra_table::{Table, difference, of_rtm, of_zebra};
use crate::{Scale, Scenario, export, kernel, replay};

/// All of them.
pub(crate) const ALL: &[Scenario] = &[
    ("kernel-full", "the real table by ip -batch, while the buffer overruns", kernel::full),
    ("kernel-steps", "the kernel's tables changed at random, compared each time", kernel::steps),
    ("bird", "BIRD's kernel protocol; a configuration that removes half", export::bird),
    ("export", "ours in the kernel beside others', over a crash", export::export),
    ("frr-static", "FRR with routes of staticd; zebra killed and started again", frr_static),
    ("frr-cut", "zebra's connection cut at random bytes; a replay lacking some routes", frr_cut),
    ("frr-bgp", "the real table over BGP, from BIRD by way of FRR", frr_bgp),
    ("exabgp", "ExaBGP announcing and withdrawing at random, by way of FRR", exabgp),
    ("fpm-replay", "a full table's FPM stream, sent as fast as it is taken", replay::run),
];

/// How long a table may take to be equal. No speed is asserted by it.
const PATIENCE: Duration = Duration::from_secs(900);

/// Where zebra connects, and where the daemon listens behind a proxy.
const FPM: &str = "127.0.0.1:2620";
const BEHIND: &str = "127.0.0.1:2621";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A fixed sequence, so that a failure can be seen again.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn daemon(namespace: &Namespace, listen: &str) -> Daemon {
    let directory = tempfile::Builder::new().prefix("rtm-interop-").tempdir().expect("a folder");
    let file = directory.path().join("rtmd.toml");
    std::fs::write(&file, "[fpm]\nquiet_s = 2\ncap_s = 60\n").expect("a file");
    let config = file.to_str().expect("a path of text").to_owned();
    namespace.daemon_in(directory, &[&format!("--fpm={listen}"), "--config", &config])
}

/// Starts zebra, which connects to FPM.
fn start_zebra(frr: &mut Frr<'_>, groups: bool) {
    frr.start("zebra", "hostname z\n", &["-M", "dplane_fpm_nl", "-s", "90000000"]);
    let groups = if groups { "fpm use-next-hop-groups" } else { "no fpm use-next-hop-groups" };
    let address = FPM.replace(':', " port ");
    frr.vtysh("zebra", &["conf t", groups, &format!("fpm address {address}")]);
}

/// Starts staticd with these routes.
fn start_staticd(frr: &mut Frr<'_>, config: &str) {
    frr.start("staticd", "hostname s\n", &[]);
    frr.load(config);
}

/// Lines of a static configuration.
fn static_routes(count: usize) -> String {
    let mut config = String::new();
    for index in 0..count {
        let (a, b, c) = (20 + (index >> 16), index >> 8 & 255, index & 255);
        let gateway = format!("192.168.1.{}", 1 + index % 200 + 3);
        let _ = match index % 50 {
            0 => writeln!(config, "ip route {a}.{b}.{c}.0/24 blackhole"),
            1 => writeln!(
                config,
                "ip route {a}.{b}.{c}.0/24 {gateway}\nip route {a}.{b}.{c}.0/24 192.168.2.9"
            ),
            2 => writeln!(config, "ipv6 route 2001:db8:{a:x}{b:02x}:{c:x}::/64 2001:db8:1::9"),
            _ => writeln!(config, "ip route {a}.{b}.{c}.0/24 {gateway}"),
        };
    }
    config
}

/// Waits until what `rtm` shows equals what zebra shows, twice in a row apart.
fn wait_equal(frr: &Frr<'_>, daemon: &Daemon, at_least: usize, what: &str) -> usize {
    let start = Instant::now();
    loop {
        let (mut count, mut differs) = (0, Vec::new());
        for (show, family) in [("show ip route json", "-4"), ("show ipv6 route json", "-6")] {
            let zebra: Table = of_zebra(frr.vtysh_command("zebra", &[show]));
            let rtm: Table = of_rtm(daemon, family);
            count += zebra.len();
            differs.extend(difference(&zebra, &rtm));
        }
        if differs.is_empty() && count >= at_least {
            return count;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{what}: {count} routes at zebra, {at_least} and more expected; {differs:#?}\n{}\n{}",
            daemon.process.stderr(),
            frr.log("zebra").lines().rev().take(20).collect::<Vec<_>>().join("\n")
        );
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Waits until the source has swept what its replay lacked.
fn wait_settled(daemon: &Daemon) {
    let start = Instant::now();
    loop {
        let sources = daemon.json(&["source", "list"]);
        let sources = sources.as_array().expect("an array");
        let peer = sources.iter().find(|source| source["class"] == "fpm");
        if peer.is_some_and(|peer| peer["fpm"]["state"] == "connected" && peer["stale"] == 0) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "the replay doesn't end: {sources:#?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Every copy is the daemon's: a client's digests agree.
fn verify(daemon: &Daemon) {
    let output = daemon.run(&["client", "--once", "--verify"]);
    assert_eq!(output.code, Some(0), "{}{}", output.out, output.err);
}

fn frr_static(scale: Scale) -> String {
    let count = scale.of(100_000, 10_000);
    let namespace = Namespace::with_links();
    namespace.sysctl("net.ipv6.route.max_size", "2147483647");
    let daemon = daemon(&namespace, FPM);
    let config = static_routes(count);
    let mut seen = String::new();
    for groups in [true, false] {
        let mut frr = Frr::new(&namespace);
        start_zebra(&mut frr, groups);
        start_staticd(&mut frr, &config);
        let routes = wait_equal(&frr, &daemon, count, "after the start");
        verify(&daemon);
        // A crash of both: what they had is stale, is told again, is the same.
        frr.kill("zebra");
        frr.kill("staticd");
        // (A killed zebra leaves its routes in the kernel.)
        start_zebra(&mut frr, groups);
        let fewer: String = config
            .lines()
            .filter(|line| !line.contains("20.0.7."))
            .fold(String::new(), |text, line| text + line + "\n");
        start_staticd(&mut frr, &fewer);
        wait_settled(&daemon);
        let again = wait_equal(&frr, &daemon, count - 256, "after zebra's restart");
        verify(&daemon);
        let _ = write!(
            seen,
            "{}{routes} routes, then {again}, groups {}",
            if seen.is_empty() { "" } else { "; " },
            if groups { "on" } else { "off" }
        );
    }
    seen
}

fn frr_cut(scale: Scale) -> String {
    let count = scale.of(20_000, 3_000);
    let cuts = scale.of(20, 5);
    let namespace = Namespace::with_links();
    let daemon = daemon(&namespace, BEHIND);
    let proxy = Proxy::start(&namespace, address(FPM), address(BEHIND));
    let mut frr = Frr::new(&namespace);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    // Zebra sends some 56 bytes for each route.
    let end = count as u64 * 50;
    proxy.cut((0..cuts).map(|_| random.below(end)).collect());
    start_zebra(&mut frr, true);
    start_staticd(&mut frr, &static_routes(count));
    let start = Instant::now();
    while proxy.cuts_left() > 0 {
        assert!(start.elapsed() < PATIENCE, "zebra doesn't come back: {}", frr.log("zebra"));
        // Something changes meanwhile.
        let third = random.below(200);
        let route = format!("ip route 10.77.{third}.0/24 192.168.2.7");
        frr.vtysh("staticd", &["conf t", &route]);
        std::thread::sleep(Duration::from_millis(300));
    }
    wait_equal(&frr, &daemon, count, "after the cuts");
    wait_settled(&daemon);
    let routes = wait_equal(&frr, &daemon, count, "after the last replay");
    verify(&daemon);
    // Routes that go while nobody listens are in no replay.
    proxy.close(true);
    std::thread::sleep(Duration::from_millis(500));
    let mut gone = vec!["conf t".to_owned()];
    gone.extend((10..20).map(|c| format!("no ip route 20.0.{c}.0/24 192.168.1.{}", 4 + c % 200)));
    let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
    frr.vtysh("staticd", &gone);
    proxy.close(false);
    wait_settled(&daemon);
    let fewer = wait_equal(&frr, &daemon, count - 200, "after a replay lacking some");
    assert!(fewer < routes, "{fewer} of {routes}: some went");
    verify(&daemon);
    format!(
        "{routes} routes after {cuts} cuts, {} connections, {fewer} in the end",
        proxy.connections()
    )
}

/// Two namespaces with a cable: the router's end is `v0` there, 192.168.1.2.
fn cabled(router: &Namespace, other: &Namespace) {
    router.ip("link del v0");
    router.ip(&format!("link add v0 type veth peer name p0 netns {}", other.name()));
    router.ip("addr add 192.168.1.2/24 dev v0");
    router.ip("-6 addr add 2001:db8:1::2/64 dev v0 nodad");
    router.ip("link set v0 up");
    other.ip("addr add 192.168.1.1/24 dev p0");
    other.ip("-6 addr add 2001:db8:1::1/64 dev p0 nodad");
    other.ip("link set p0 up");
}

const BGPD: &str = "hostname b
router bgp 65001
 bgp router-id 192.168.1.2
 no bgp ebgp-requires-policy
 neighbor 192.168.1.1 remote-as 65002
 neighbor 2001:db8:1::1 remote-as 65002
 address-family ipv4 unicast
  no neighbor 2001:db8:1::1 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor 2001:db8:1::1 activate
 exit-address-family
";

fn frr_bgp(scale: Scale) -> String {
    let Some(folder) = require::data("frr-bgp") else { return "not run: no data".to_owned() };
    let router = Namespace::with_links();
    let peer = Namespace::new();
    cabled(&router, &peer);
    router.sysctl("net.ipv6.route.max_size", "2147483647");
    let daemon = daemon(&router, BEHIND);
    let proxy = Proxy::start(&router, address(FPM), address(BEHIND));
    proxy.record();
    let step = scale.of(1, 50);
    let (mut v4, mut v6, mut count) = (String::new(), String::new(), 0);
    for prefix in data::lines(&folder.join("full-table.txt.gz")).step_by(step) {
        let text = if prefix.contains(':') { &mut v6 } else { &mut v4 };
        let _ = writeln!(text, "route {prefix} unreachable;");
        count += 1;
    }
    let config = format!(
        "router id 192.168.1.1;\nprotocol device {{}}\n\
         protocol static s4 {{ ipv4; {v4} }}\nprotocol static s6 {{ ipv6; {v6} }}\n\
         protocol bgp b4 {{ local 192.168.1.1 as 65002; neighbor 192.168.1.2 as 65001;\n\
         ipv4 {{ export all; import none; next hop self; }}; }}\n\
         protocol bgp b6 {{ local 2001:db8:1::1 as 65002; neighbor 2001:db8:1::2 as 65001;\n\
         ipv6 {{ export all; import none; next hop self; }}; }}\n"
    );
    let mut frr = Frr::new(&router);
    start_zebra(&mut frr, true);
    frr.start("bgpd", BGPD, &["-p", "179", "-l", "192.168.1.2", "-l", "2001:db8:1::2"]);
    let start = Instant::now();
    let bird = Bird::start(&peer, &config);
    // The last message isn't marked: when nothing came for two seconds. (BGP may
    // take as long to begin: a route is more than 40 bytes.)
    let (mut bytes, mut last) = (0, Instant::now());
    while bytes < 40 * count as u64 || last.elapsed() < Duration::from_secs(2) {
        assert!(start.elapsed() < PATIENCE, "no routes: {}", bird.ask("show protocols all b4"));
        let now = proxy.bytes();
        if now != bytes {
            (bytes, last) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let seconds = start.elapsed().as_secs_f64() - 2.0;
    wait_settled(&daemon);
    let routes = wait_equal(&frr, &daemon, count, "over BGP");
    verify(&daemon);
    let record = proxy.take_record();
    if let Some(file) = std::env::var_os("RTM_FPM_RECORD") {
        std::fs::write(&file, &record).expect("the record can be written");
    }
    format!(
        "{routes} routes equal; {seconds:.1} s to zebra's last message, {} MiB of FPM",
        record.len() >> 20
    )
}

fn exabgp(scale: Scale) -> String {
    let steps = scale.of(5_000, 500);
    let router = Namespace::with_links();
    let peer = Namespace::new();
    cabled(&router, &peer);
    let daemon = daemon(&router, FPM);
    let mut frr = Frr::new(&router);
    start_zebra(&mut frr, true);
    frr.start("bgpd", BGPD, &["-p", "179", "-l", "192.168.1.2"]);
    let mut exabgp = ExaBgp::start(&peer, ("192.168.1.1", 65002), ("192.168.1.2", 65001));
    let mut random = Random(0x1234_5678_9abc_def1);
    for step in 0..steps {
        let prefix = format!("30.{}.{}.0/24", random.below(4), random.below(64));
        let line = if random.below(3) > 0 {
            let gateway = format!("192.168.1.{}", 1 + 9 * random.below(3));
            format!("announce route {prefix} next-hop {gateway}\n")
        } else {
            format!("withdraw route {prefix}\n")
        };
        exabgp.say(&line);
        if step % 100 == 0 {
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    // ExaBGP passes on in its own time: until nothing has changed for a while.
    let start = Instant::now();
    let (mut there, mut since) = (0, Instant::now());
    while there == 0 || since.elapsed() < Duration::from_secs(5) {
        let zebra = of_zebra(frr.vtysh_command("zebra", &["show ip route json"]));
        let now = zebra.keys().filter(|prefix| prefix.starts_with("30.")).count();
        if now != there {
            (there, since) = (now, Instant::now());
        }
        assert!(
            start.elapsed() < PATIENCE,
            "no routes at zebra: {}\n{}",
            exabgp.log(),
            frr.vtysh("bgpd", &["show bgp summary"])
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    let routes = wait_equal(&frr, &daemon, there, "after random updates");
    verify(&daemon);
    format!("{routes} routes equal after {steps} updates")
}
