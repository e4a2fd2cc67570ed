//! The feed against a kernel that is written down: messages in the order in which it goes
//! wrong, and, at the end, all orders that a small model of the kernel's tables can bring
//! about. (`e2e/tests/kernel.rs` has the real one.) Nothing here waits for the audit.

use std::collections::{BTreeMap, VecDeque};

use rtm_model::text::{Command, Context, parse_line};
use rtm_model::{Change, DigestKey, Family, LinkRef, RouteSpec, Verb};
use rtm_netlink::flag::{APPEND, CREATE, EXCL, REPLACE};
use rtm_netlink::{Builder, RouteMessage, kind};
use rtm_tables::{Epoch, Hub, HubLimits, OwnRoute, Table, TableLimits};

use super::listing::Step;
use super::routes::{self, ListKey};
use super::*;
use crate::config::Config;
use crate::image::Image;

/// The links of all tests, and an address on each.
const LINKS: [(&str, u32); 2] = [("v0", 3), ("w0", 5)];

/// The feed, with sockets that nobody reads: what the kernel says is handed to it.
struct World {
    core: Core,
    kernel: Kernel,
}

/// A route as `ip route` spells it, but with the link's name always said, and with words
/// of the route also behind next hops.
fn spec(line: &str) -> RouteSpec {
    let (mut route, mut hops) = ("route add".to_owned(), String::new());
    let mut words = line.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let to = if word == "nexthop" { &mut hops } else { &mut route };
        *to += &format!(" {word}");
        while word == "nexthop"
            && words.peek().is_some_and(|next| ["via", "dev", "weight"].contains(next))
        {
            hops += &format!(" {} {}", words.next().unwrap(), words.next().unwrap());
        }
    }
    let parsed = parse_line(&(route + &hops), &Context::default()).unwrap().unwrap();
    let Command::Change(Change::Route(Verb::Add, mut spec)) = parsed.1 else { panic!("{line}") };
    let number = |hop: &mut HopSpec| {
        let Some(LinkRef::Name(name)) = hop.link else { panic!("{line}: a next hop's link") };
        let (_, index) = LINKS.iter().find(|(of, _)| *of == name.as_str()).unwrap();
        hop.link = Some(LinkRef::Ifindex(*index));
    };
    match &mut spec.hops {
        rtm_model::Hops::One(hop) => number(hop),
        rtm_model::Hops::Many(hops) => hops.iter_mut().for_each(number),
        _ => {}
    }
    let default = if spec.prefix.family() == Family::V6 { 1024 } else { 0 };
    spec.metric = Some(spec.metric.unwrap_or(default));
    (spec.protocol, spec.scope) = (spec.protocol.or(Some(3)), Some(spec.default_scope()));
    spec
}

fn specs(lines: &[&str]) -> Vec<RouteSpec> {
    lines.iter().map(|line| spec(line)).collect()
}

impl World {
    fn new() -> World {
        let key = DigestKey([1, 2]);
        let config = Config::default();
        let table = Table::new(Epoch(9), key, TableLimits::default());
        let hub = Hub::new(&table, key, HubLimits::default());
        let image = Image::new(&config.limits, &table, key.0, None).unwrap();
        let mut core = Core::new(table, hub, image, config, rtm_model::Names::default());
        let kernel = Kernel::open(&mut core, &KernelConfig::default(), 77).unwrap();
        World { core, kernel }
    }

    /// One that has listed these routes.
    fn with(lines: &[&str]) -> World {
        let mut world = World::new();
        world.begin();
        world.finish(&specs(lines));
        world
    }

    fn event(&mut self, write: impl FnOnce(&mut Builder)) {
        let mut out = Builder::default();
        write(&mut out);
        self.kernel.events_in(&mut self.core, out.bytes());
    }

    /// An event: a route came.
    fn came(&mut self, flags: u16, line: &str) {
        self.event(|out| RouteMessage::encode(out, flags, 0, &spec(line)).unwrap());
    }

    /// An event: a route went.
    fn went(&mut self, line: &str) {
        self.event(|out| RouteMessage::encode_delete(out, 0, 0, &spec(line)).unwrap());
    }

    /// Time goes on to what is wanted, and that begins. False: nothing is.
    fn begin(&mut self) -> bool {
        let Some(at) = self.kernel.wanted.at else { return false };
        self.core.now = self.core.now.max(at);
        assert!(self.kernel.handle_timeout(&mut self.core));
        self.kernel.begin(&mut self.core);
        self.kernel.listing.is_some()
    }

    /// What the kernel is asked for.
    fn asked(&self) -> Option<Step> {
        self.kernel.listing.as_ref().and_then(|listing| listing.current).map(|(_, step)| step)
    }

    /// A piece of an answer.
    fn piece(&mut self, write: impl FnOnce(&mut Builder, u32)) {
        let (sequence, _) = self.kernel.listing.as_ref().unwrap().current.unwrap();
        let mut out = Builder::default();
        write(&mut out, sequence);
        self.kernel.answer_in(&mut self.core, out.bytes());
    }

    fn lines(&mut self, lines: &[RouteSpec]) {
        let Some(Step::Routes(filter)) = self.asked() else { panic!("routes weren't asked for") };
        let of = |spec: &&RouteSpec| {
            let over = |hop: &HopSpec| hop.link == Some(LinkRef::Ifindex(filter.ifindex));
            spec.prefix.family().af() == filter.family
                && (filter.ifindex == 0 || spec.hops.as_slice().iter().any(over))
        };
        self.piece(|out, sequence| {
            for line in lines.iter().filter(of) {
                RouteMessage::encode(out, 0, sequence, line).unwrap();
            }
        });
    }

    /// The end of an answer; what isn't about routes comes with it.
    fn done(&mut self) {
        let links = self.asked() == Some(Step::Links);
        self.piece(|out, sequence| {
            for (name, ifindex) in LINKS.iter().filter(|_| links) {
                link(out, sequence, name, *ifindex, 1500);
            }
            out.begin(kind::DONE, 0, sequence, &[0; 4]);
            out.end();
        });
    }

    /// Answers up to the request for routes of a family.
    fn up_to(&mut self, family: Family) {
        while !matches!(self.asked(), Some(Step::Routes(of)) if of.family == family.af()) {
            self.done();
        }
    }

    /// Answers all that is left to ask.
    fn finish(&mut self, lines: &[RouteSpec]) {
        while let Some(step) = self.asked() {
            if matches!(step, Step::Routes(_)) {
                self.lines(lines);
            }
            self.done();
        }
        while self.core.sweep(1000) {}
    }

    /// Listings are made as long as any is wanted, of a kernel that has these and is quiet.
    fn settle(&mut self, lines: &[RouteSpec]) {
        let mut rounds = 0;
        while self.begin() {
            self.finish(lines);
            rounds += 1;
            assert!(rounds < 8, "listings without end");
        }
        while self.core.sweep(1000) {}
    }

    /// The tables' routes, as the kernel's lines would spell them.
    fn shows(&self, lines: &[RouteSpec]) -> Result<(), String> {
        let (table, source) = (&self.core.table, self.kernel.source);
        let count = table.sources().find(|of| of.id == source).unwrap().routes;
        let mut lists: BTreeMap<_, Vec<RouteSpec>> = BTreeMap::new();
        for line in lines {
            let key = ListKey::of(line);
            let key = (key.table, key.prefix, key.tos, key.metric);
            lists.entry(key).or_default().push(line.clone());
        }
        for (_, lines) in lists {
            let own = ListKey::of(&lines[0]).own(table, source);
            let same = own.len() == lines.len()
                && own
                    .iter()
                    .zip(&lines)
                    .all(|(own, line)| routes::is_equal(table, source, own, line));
            if !same {
                let prefix = lines[0].prefix;
                let shown: Vec<String> = own.iter().map(|own| self.brief(own)).collect();
                let lines: Vec<String> = lines.iter().map(brief).collect();
                return Err(format!("{prefix}: the kernel has {lines:?}, we have {shown:?}"));
            }
        }
        if count == lines.len() {
            Ok(())
        } else {
            Err(format!("{count} routes of {}", lines.len()))
        }
    }

    fn brief(&self, own: &OwnRoute) -> String {
        let group = self.core.table.store().group(own.value.group);
        let hops = group.map_or(&[][..], |group| &group.hops);
        let hops: Vec<String> =
            hops.iter().map(|hop| format!("{:?}*{}", hop.gateway, hop.weight)).collect();
        format!("{}: {} {:?}", own.key.ordinal, hops.join(" "), own.value.attrs.decode())
    }

    /// What is wanted is listed; then the tables are the kernel's.
    fn ends_with(&mut self, lines: &[&str]) {
        let lines = specs(lines);
        self.settle(&lines);
        if let Err(why) = self.shows(&lines) {
            panic!("{why}");
        }
    }
}

fn brief(spec: &RouteSpec) -> String {
    let hops = spec.hops.as_slice().iter();
    let hops: Vec<String> = hops.map(|hop| format!("{:?}*{}", hop.gateway, hop.weight)).collect();
    format!("{} {:?}", hops.join(" "), spec.attrs.decode())
}

fn link(out: &mut Builder, sequence: u32, name: &str, ifindex: u32, mtu: u32) {
    const UP: u32 = 0x1_0041;
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    fixed[8..12].copy_from_slice(&UP.to_ne_bytes());
    out.begin(kind::NEWLINK, 0, sequence, &fixed);
    out.attribute(3, format!("{name}\0").as_bytes());
    out.u32(4, mtu);
    out.end();
}

const ONE: &str = "2001:db8:b::/48 via 2001:db8:2::5 dev w0";
const TWO: &str = "2001:db8:b::/48 via 2001:db8:2::7 dev w0";

/// Both gateways, the first with these words beside, as a line of a listing has them.
fn both(first: &str, second: &str, words: &str) -> String {
    let hop = |line: &str| line.split_once(' ').unwrap().1.to_owned();
    format!("2001:db8:b::/48 nexthop {} nexthop {} {words}", hop(first), hop(second))
}

/// What gateways may differ in.
const MORE: [&str; 5] =
    ["src 2001:db8:2::2", "mtu 1400", "proto 99", "pref high", "src 2001:db8:2::2 advmss 1300"];

#[test]
fn a_gateway_that_comes_before_the_first_listing_asks_for_routes() {
    for more in MORE {
        for (goes, stays) in
            [(ONE.to_owned(), format!("{TWO} {more}")), (format!("{TWO} {more}"), ONE.to_owned())]
        {
            let mut world = World::new();
            world.begin();
            // It is in the answer to come, and the event has what it has.
            world.came(CREATE | APPEND, &both(TWO, ONE, more));
            world.finish(&specs(&[&both(ONE, TWO, "")]));
            world.ends_with(&[&both(ONE, TWO, "")]);
            world.went(&goes);
            world.ends_with(&[&stays]);
        }
    }
}

#[test]
fn gateways_that_were_there_before() {
    for more in MORE {
        let mut world = World::with(&[&both(ONE, TWO, "")]);
        // Of the second nothing was ever told.
        world.went(ONE);
        world.ends_with(&[&format!("{TWO} {more}")]);
    }
}

#[test]
fn gateways_that_events_told_are_known() {
    let mut world = World::with(&[]);
    world.came(CREATE | EXCL, &format!("{ONE} mtu 1400"));
    world.came(CREATE | APPEND, &both(TWO, ONE, "mtu 1400"));
    world.went(&format!("{ONE} mtu 1400"));
    assert!(world.kernel.wanted.at.is_none(), "nothing is left to ask");
    world.ends_with(&[&format!("{TWO} mtu 1400")]);
    world.came(REPLACE, &both(ONE, TWO, "mtu 1300"));
    world.went(&format!("{ONE} mtu 1300"));
    assert!(world.kernel.wanted.at.is_none(), "nor here");
    world.ends_with(&[&format!("{TWO} mtu 1300")]);
}

#[test]
fn several_gateways_that_come_at_once_show_what_the_first_has() {
    let mut world = World::with(&[]);
    world.came(CREATE | EXCL, ONE);
    let third = "nexthop via 2001:db8:2::8 dev w0";
    world.came(CREATE | APPEND, &format!("{} {third}", both(ONE, TWO, "")));
    world.went(ONE);
    let left = "2001:db8:b::/48 nexthop via 2001:db8:2::7 dev w0 nexthop via 2001:db8:2::8 dev w0";
    world.ends_with(&[&format!("{left} src 2001:db8:2::2")]);
}

#[test]
fn events_in_both_rounds_of_the_first_listing() {
    // IPv6: what is told first is only that it was appended.
    let mut world = World::new();
    world.begin();
    world.up_to(Family::V6);
    world.came(CREATE | APPEND, &both(TWO, ONE, "mtu 1400"));
    world.finish(&specs(&[&both(ONE, TWO, "")]));
    assert!(world.begin(), "again");
    world.up_to(Family::V6);
    let third = "nexthop via 2001:db8:2::8 dev w0";
    world.came(
        CREATE | APPEND,
        &format!("2001:db8:b::/48 {third} nexthop via 2001:db8:2::5 dev w0 nexthop via 2001:db8:2::7 dev w0 mtu 1300"),
    );
    let lines = format!("{} {third}", both(ONE, TWO, ""));
    world.finish(&specs(&[&lines]));
    world.ends_with(&[&lines]);
    // IPv4: the others of the list aren't told.
    let route = |n: u32| format!("10.0.0.0/8 via 192.168.1.{n} dev v0");
    let (one, two, three) = (route(1), route(2), route(3));
    let mut world = World::new();
    world.begin();
    world.up_to(Family::V4);
    world.came(CREATE | APPEND, &two);
    world.finish(&specs(&[&one, &two]));
    assert!(world.begin(), "again");
    world.up_to(Family::V4);
    world.came(CREATE | APPEND, &three);
    world.finish(&specs(&[&one, &two, &three]));
    world.ends_with(&[&one, &two, &three]);
}

#[test]
fn events_that_were_lost() {
    let more = "src 2001:db8:2::2";
    let mut world = World::with(&[]);
    world.came(CREATE | EXCL, ONE);
    // Lost: a second gateway with more, one of whose kind was known before.
    world.came(CREATE | APPEND, &both(TWO, ONE, ""));
    world.went(TWO);
    world.kernel.overrun(&mut world.core);
    world.settle(&specs(&[&both(ONE, TWO, "")]));
    world.went(ONE);
    world.ends_with(&[&format!("{TWO} {more}")]);
    // Lost in the middle of a listing, which is begun again.
    let mut world = World::new();
    world.begin();
    world.up_to(Family::V6);
    world.came(CREATE | EXCL, ONE);
    world.kernel.overrun(&mut world.core);
    world.finish(&[]);
    world.settle(&specs(&[&both(ONE, TWO, "")]));
    world.went(ONE);
    world.ends_with(&[&format!("{TWO} {more}")]);
}

#[test]
fn a_list_that_never_rests_while_all_is_listed_is_listed_alone() {
    // What was lost in a list isn't seen while its lines are passed over.
    let route = |n: u32| format!("10.0.0.0/8 via 192.168.1.{n} dev v0");
    let (one, two, three) = (route(1), route(2), route(3));
    let mut world = World::with(&[&one, &three]);
    world.kernel.overrun(&mut world.core); // Two came behind one.
    for _ in 0..2 {
        assert!(world.begin());
        world.up_to(Family::V4);
        world.went(&three);
        world.came(CREATE | APPEND, &three);
        world.finish(&specs(&[&one, &two, &three]));
    }
    world.ends_with(&[&one, &two, &three]);
}

#[test]
fn what_the_kernel_had_nothing_of() {
    let (one, two) = ("10.0.0.0/8 via 192.168.1.1 dev v0", "10.0.0.0/8 via 192.168.1.2 dev v0");
    let mut world = World::with(&[one]);
    // It went without a word, or its word is older than the listing.
    world.came(CREATE | EXCL, two);
    world.ends_with(&[two]);
    // And the other way round: one stands there that we have missed.
    let mut world = World::with(&[]);
    world.came(CREATE | APPEND, two);
    world.ends_with(&[one, two]);
}

#[test]
fn one_that_is_left_alone_has_no_weight() {
    let hops =
        "nexthop via 2001:db8:2::5 dev w0 weight 2 nexthop via 2001:db8:2::7 dev w0 weight 3";
    let mut world = World::with(&[]);
    world.came(CREATE, &format!("2001:db8:b::/48 {hops}"));
    world.went(ONE);
    assert!(world.kernel.wanted.at.is_none());
    world.ends_with(&[TWO]);
    // With another it has it again.
    let more = "nexthop via 2001:db8:2::8 dev w0";
    let seven = "nexthop via 2001:db8:2::7 dev w0 weight 3";
    world.came(CREATE | APPEND, &format!("2001:db8:b::/48 {more} {seven}"));
    world.ends_with(&[&format!("2001:db8:b::/48 {seven} {more}")]);
    world.went("2001:db8:b::/48 via 2001:db8:2::8 dev w0");
    world.went(TWO);
    world.ends_with(&[]);
}

#[test]
fn routers_that_are_advertised_stand_beside_each_other() {
    let router = |n: u32| format!("default via fe80::{n} dev w0 proto ra");
    let (one, two) = (format!("::/0 {}", &router(1)[8..]), format!("::/0 {}", &router(2)[8..]));
    let mut world = World::with(&[]);
    world.came(CREATE | EXCL, &one);
    world.came(CREATE, &two);
    world.ends_with(&[&one, &two]);
    // Advertised again: as it was, and with another preference.
    world.came(REPLACE, &two);
    assert!(world.kernel.wanted.at.is_none());
    world.came(REPLACE, &format!("{two} pref high"));
    world.ends_with(&[&one, &format!("{two} pref high")]);
    world.went(&one);
    world.ends_with(&[&format!("{two} pref high")]);
}

#[test]
fn a_gateway_with_an_encapsulation_is_asked_for() {
    // `encap` isn't the grammar's: its attributes are as the kernel tells them.
    let encap = [(22, vec![8, 0, 1, 0, 0, 0, 0, 7]), (21, vec![4, 0])];
    let of = |line: &str, hops: &[&[(u16, Vec<u8>)]]| {
        let mut spec = spec(line);
        let opaque = rtm_netlink::attributes_of_hops(hops);
        let attrs = rtm_model::RouteAttrs { opaque, ..rtm_model::RouteAttrs::default() };
        spec.attrs = attrs.encode().unwrap();
        spec
    };
    let mut world = World::with(&[]);
    world.came(CREATE | EXCL, ONE);
    let told = of(&both(TWO, ONE, ""), &[&encap, &[]]);
    world.event(|out| RouteMessage::encode(out, CREATE | APPEND, 0, &told).unwrap());
    let lines = [of(&both(ONE, TWO, ""), &[&[], &encap])];
    world.settle(&lines);
    assert_eq!(world.shows(&lines), Ok(()));
    world.went(ONE);
    let lines = [of(TWO, &[&encap])];
    world.settle(&lines);
    assert_eq!(world.shows(&lines), Ok(()));
}

#[test]
fn what_the_kernel_changes_without_a_word() {
    let mut fixed = [10, 64, 0, 0, 5, 0, 0, 0];
    fixed[4..].copy_from_slice(&5_u32.to_ne_bytes());
    let address = |out: &mut Builder, kind: u16, of: &str| {
        out.begin(kind, 0, 0, &fixed);
        out.address(1, of.parse().unwrap());
        out.end();
    };
    // An address goes, and with it the `src` of routes.
    let mut world = World::with(&[&format!("{ONE} src 2001:db8:2::33")]);
    world.event(|out| address(out, kind::NEWADDR, "2001:db8:2::34"));
    assert!(world.kernel.wanted.at.is_none());
    world.event(|out| address(out, kind::DELADDR, "2001:db8:2::33"));
    world.ends_with(&[ONE]);
    // IPv6 begins on a link.
    world.event(|out| address(out, kind::NEWADDR, "fe80::1"));
    world.ends_with(&[ONE]);
    // A link has another MTU; a driver's own event says nothing of it.
    let mut world = World::with(&[&format!("{ONE} mtu 1400")]);
    world.event(|out| link(out, 0, "w0", 5, 1500));
    world.ends_with(&[&format!("{ONE} mtu 1400")]);
    world.event(|out| link(out, 0, "w0", 5, 0));
    assert!(world.kernel.wanted.at.is_none());
    world.event(|out| link(out, 0, "w0", 5, 1300));
    world.ends_with(&[&format!("{ONE} mtu 1300")]);
}

#[test]
fn a_part_of_a_list_says_nothing_of_the_rest() {
    // So many that a link is listed alone.
    let many: Vec<String> = (0..=SMALL)
        .map(|n| format!("10.{}.{}.0/24 via 192.168.1.1 dev v0", n / 250, n % 250))
        .collect();
    let mut lines = specs(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let beside = ["2001:db8:c::/48 dev v0 mtu 1400", "2001:db8:c::/48 dev w0 mtu 1400"];
    lines.extend(specs(&beside));
    let mut world = World::new();
    world.begin();
    world.finish(&lines);
    assert_eq!(world.shows(&lines), Ok(()));
    // The second of the list changes, and only that is in the listing of its link.
    world.event(|out| link(out, 0, "w0", 5, 1300));
    lines.pop();
    lines.push(spec("2001:db8:c::/48 dev w0 mtu 1300"));
    world.settle(&lines);
    assert_eq!(world.shows(&lines), Ok(()));
    let counts = &world.core.kernel.counts;
    assert_eq!(counts.get("listings of links"), Some(&1), "{counts:?}");
    assert_eq!(counts.get("listings"), Some(&1), "never everything: {counts:?}");
}

const REACHABLE: u8 = 2;
const STALE: u8 = 4;

fn neighbour(out: &mut Builder, sequence: u32, state: u8) {
    let mut fixed = [2, 0, 0, 0, 5, 0, 0, 0, state, 0, 0, 1];
    fixed[4..8].copy_from_slice(&5_u32.to_ne_bytes());
    out.begin(kind::NEWNEIGH, 0, sequence, &fixed);
    out.address(1, "192.168.2.9".parse().unwrap());
    out.attribute(2, &[2, 0, 0, 0, 0, 9]);
    out.end();
}

/// A listing of everything, with this neighbour, or without.
fn list_neighbours(world: &mut World, state: Option<u8>) {
    world.begin();
    while let Some(step) = world.asked() {
        if let (Step::Neighbours(Family::V4), Some(state)) = (step, state) {
            world.piece(|out, sequence| neighbour(out, sequence, state));
        }
        world.done();
    }
    while world.core.sweep(1000) {}
}

fn has_neighbour(world: &World) -> Option<u8> {
    let ip = "192.168.2.9".parse().unwrap();
    world.core.table.own_neighbour(world.kernel.source, ip, 5).map(|value| value.state.0 as u8)
}

#[test]
fn a_neighbour_whose_mood_waits() {
    let wait = |world: &mut World| {
        world.core.now += 2000;
        world.kernel.handle_timeout(&mut world.core);
    };
    let start = || {
        let mut world = World::new();
        list_neighbours(&mut world, None);
        wait(&mut world);
        world.event(|out| neighbour(out, 0, REACHABLE));
        world.event(|out| neighbour(out, 0, STALE));
        assert_eq!(has_neighbour(&world), Some(REACHABLE), "the second is told later");
        world.kernel.overrun(&mut world.core);
        world
    };
    // It is still there: no listing takes it for gone.
    let mut world = start();
    list_neighbours(&mut world, Some(STALE));
    assert_eq!(has_neighbour(&world), Some(REACHABLE));
    wait(&mut world);
    assert_eq!(has_neighbour(&world), Some(STALE));
    // It went while events were lost: what it had to say doesn't bring it back.
    let mut world = start();
    list_neighbours(&mut world, None);
    assert_eq!(has_neighbour(&world), None);
    wait(&mut world);
    assert_eq!(has_neighbour(&world), None);
}

// All orders.

/// One route of IPv4, or one gateway of IPv6, of the model.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Way {
    gateway: u64,
    weight: u64,
    more: usize,
}

/// A list of the model: number n stands for a prefix.
type Ways = Vec<Way>;

/// The kernel: lists by prefix, events that wait to be read.
#[derive(Default)]
struct Model {
    lists: BTreeMap<u64, Ways>,
    events: VecDeque<Builder>,
    lost: bool,
}

const LISTS: u64 = 6;

/// A small generator of numbers (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

impl Model {
    fn is_v4(list: u64) -> bool {
        list < LISTS / 2
    }

    /// These next hops as one route, with what `of` has.
    fn route(list: u64, ways: &[Way], of: Way) -> RouteSpec {
        let (prefix, net, more) = match Model::is_v4(list) {
            true => {
                (format!("10.{list}.0.0/16"), "192.168.2.", ["", "mtu 1400", "src 192.168.2.2"])
            }
            false => (
                format!("2001:db8:{list}::/48"),
                "2001:db8:2::",
                ["", "mtu 1400", "src 2001:db8:2::2"],
            ),
        };
        let mut line = prefix;
        match ways {
            [only] => line += &format!(" via {net}{} dev w0", only.gateway + 3),
            _ => {
                for way in ways {
                    line += &format!(
                        " nexthop via {net}{} dev w0 weight {}",
                        way.gateway + 3,
                        way.weight
                    );
                }
            }
        }
        spec(&format!("{line} {}", more[of.more]))
    }

    fn tell(&mut self, flags: Option<u16>, route: &RouteSpec) {
        let mut out = Builder::default();
        match flags {
            Some(flags) => RouteMessage::encode(&mut out, flags, 0, route).unwrap(),
            None => RouteMessage::encode_delete(&mut out, 0, 0, route).unwrap(),
        }
        if !self.lost {
            self.events.push_back(out);
        }
    }

    /// Something happens, as `fib_table_insert` and `fib6_add_rt2node` have it.
    fn change(&mut self, random: &mut Random) {
        let list = random.below(LISTS);
        let mut ways = self.lists.remove(&list).unwrap_or_default();
        let way = |random: &mut Random, gateway| Way {
            gateway,
            weight: if Model::is_v4(list) { 1 } else { random.below(3) + 1 },
            more: random.below(3) as usize,
        };
        let gateway = random.below(4);
        let (one, verb) = (way(random, gateway), random.below(8));
        let free = |ways: &Ways, of: u64| ways.iter().all(|way| way.gateway != of);
        if verb >= 5 {
            if !ways.is_empty() {
                if verb == 7 && !Model::is_v4(list) {
                    let all = std::mem::take(&mut ways);
                    self.tell(None, &Model::route(list, &all, all[0]));
                } else {
                    let gone = ways.remove(random.below(ways.len() as u64) as usize);
                    self.tell(None, &Model::route(list, &[gone], gone));
                }
            }
        } else if Model::is_v4(list) {
            let told = Model::route(list, &[one], one);
            match verb {
                _ if ways.contains(&one) => {}
                _ if ways.is_empty() => {
                    ways.push(one);
                    self.tell(Some(CREATE | EXCL), &told);
                }
                0 => {
                    ways[0] = one;
                    self.tell(Some(REPLACE), &told);
                }
                1 | 2 => {
                    ways.insert(0, one);
                    self.tell(Some(CREATE), &told);
                }
                _ => {
                    ways.push(one);
                    self.tell(Some(CREATE | APPEND), &told);
                }
            }
        } else {
            // One that comes alone has no weight to name.
            let one = Way { weight: 1, ..one };
            let other = Way { gateway: (gateway + 1) % 4, ..one };
            let (alone, was_empty) = (random.below(3) > 0, ways.is_empty());
            let append = if verb > 2 { APPEND } else { 0 };
            match verb {
                0 => {
                    ways = if alone { vec![one] } else { vec![one, other] };
                    let fresh = if alone && was_empty { CREATE | EXCL } else { REPLACE };
                    self.tell(Some(fresh), &Model::route(list, &ways, one));
                }
                _ if !free(&ways, one.gateway) => {}
                _ if alone => {
                    let mut told = vec![one];
                    told.extend(&ways);
                    ways.push(one);
                    let alone = if was_empty { EXCL } else { 0 };
                    self.tell(Some(CREATE | alone | append), &Model::route(list, &told, one));
                }
                _ if !free(&ways, other.gateway) => {}
                _ => {
                    let weights = [random.below(3) + 1, random.below(3) + 1];
                    let came =
                        [Way { weight: weights[0], ..one }, Way { weight: weights[1], ..other }];
                    let mut told = came.to_vec();
                    told.extend(&ways);
                    ways.extend(came);
                    // Several at once that are appended are told from the first on.
                    let told = if append == 0 { &told } else { &ways };
                    self.tell(Some(CREATE | append), &Model::route(list, told, told[0]));
                }
            }
        }
        if !ways.is_empty() {
            self.lists.insert(list, ways);
        }
    }

    /// A list's lines in a dump.
    fn lines_of(&self, list: u64) -> Vec<RouteSpec> {
        let Some(ways) = self.lists.get(&list) else { return Vec::new() };
        match Model::is_v4(list) {
            true => ways.iter().map(|way| Model::route(list, &[*way], *way)).collect(),
            false => vec![Model::route(list, ways, ways[0])],
        }
    }

    fn lines(&self) -> Vec<RouteSpec> {
        (0..LISTS).flat_map(|list| self.lines_of(list)).collect()
    }
}

fn read_events(world: &mut World, model: &mut Model) {
    for event in model.events.drain(..) {
        world.kernel.events_in(&mut world.core, event.bytes());
    }
    if std::mem::take(&mut model.lost) {
        world.kernel.overrun(&mut world.core);
    }
}

/// As long as it goes: changes, reading, and listings by pieces, in any order.
fn run(seed: u64) -> Result<(), String> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut world, mut model) = (World::new(), Model::default());
    for _ in 0..random.below(8) {
        model.change(&mut random);
    }
    model.events.clear(); // Nobody was listening yet.
    let (steps, churn) = (20 + random.below(60), 1 + random.below(6));
    // How far the dump under way has come.
    let mut at = 0;
    for _ in 0..steps {
        match random.below(8 + churn) {
            0 | 1 => read_events(&mut world, &mut model),
            2 if random.below(4) == 0 => model.lost = true,
            2 | 3 if world.asked().is_none() => {
                read_events(&mut world, &mut model);
                world.begin();
                at = 0;
            }
            2..8 => {
                let Some(step) = world.asked() else { continue };
                // The piece is taken, events are read to their end, then it is looked at.
                let routes = matches!(step, Step::Routes(_));
                let piece = if routes { model.lines_of(at) } else { Vec::new() };
                read_events(&mut world, &mut model);
                if routes && at < LISTS {
                    world.lines(&piece);
                    at += 1;
                } else {
                    world.done();
                    at = 0;
                }
            }
            _ => model.change(&mut random),
        }
    }
    // It comes to rest. The listing under way goes on from where it is.
    read_events(&mut world, &mut model);
    let rest: Vec<RouteSpec> = (at..LISTS).flat_map(|list| model.lines_of(list)).collect();
    if matches!(world.asked(), Some(Step::Routes(_))) {
        world.lines(&rest);
        world.done();
    }
    let lines = model.lines();
    world.finish(&lines);
    world.settle(&lines);
    world.shows(&lines)?;
    // And what is known is right: one gateway after the other goes, told whole.
    while !model.lists.is_empty() {
        let list = *model.lists.keys().next().unwrap();
        let ways = model.lists.get_mut(&list).unwrap();
        let gone = ways.remove(random.below(ways.len() as u64) as usize);
        if ways.is_empty() {
            model.lists.remove(&list);
        }
        model.tell(None, &Model::route(list, &[gone], gone));
        read_events(&mut world, &mut model);
        let lines = model.lines();
        world.settle(&lines);
        world.shows(&lines).map_err(|why| format!("in the end: {why}"))?;
    }
    Ok(())
}

#[test]
fn whatever_comes_in_whatever_order_ends_equal() {
    let number = |name, or| std::env::var(name).map_or(or, |text| text.parse().unwrap());
    let (first, count): (u64, u64) = (number("RTM_SEED", 1), number("RTM_SEEDS", 300));
    let failed: Vec<(u64, String)> =
        (first..first + count).filter_map(|seed| Some((seed, run(seed).err()?))).collect();
    if let Some((seed, why)) = failed.first() {
        panic!("{} of {count}, the first with RTM_SEED={seed}: {why}", failed.len());
    }
}
