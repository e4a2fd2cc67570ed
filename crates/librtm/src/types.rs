//! The structures of `rtm.h`, with the sizes that it names, and how the tables'
//! own types become them. Field by field as in the header, which documents them.

use std::ffi::{c_char, c_int};
use std::net::IpAddr;

use rtm_client::Notice;
use rtm_client::model::{
    Entity, EntityKey, Family, Group, HopFlags, Link, Neighbour, NeighbourKey, NextHop, Route,
    RouteKey,
};

/// `AF_INET` and `AF_INET6` on Linux.
pub(crate) const AF_INET: c_int = 2;
pub(crate) const AF_INET6: c_int = 10;

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) size: usize,
    pub(crate) socket: *const c_char,
    pub(crate) runtime_dir: *const c_char,
    pub(crate) name: *const c_char,
    pub(crate) flags: u32,
    pub(crate) timeout_ms: i32,
}

pub(crate) const OPEN_EVENTS: u32 = 1;
pub(crate) const OPEN_FUTEX: u32 = 2;
pub(crate) const OPEN_LATER: u32 = 4;

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Answer {
    pub(crate) group: u32,
    pub(crate) kind: u8,
    pub(crate) reserved: [u8; 3],
}

impl From<Option<rtm_client::Answer>> for Answer {
    #[inline]
    fn from(answer: Option<rtm_client::Answer>) -> Answer {
        match answer {
            Some(answer) => {
                Answer { group: answer.group().0, kind: answer.kind() as u8, reserved: [0; 3] }
            }
            None => Answer::default(),
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Address {
    pub(crate) family: u32,
    pub(crate) bytes: [u8; 16],
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Address {
        let mut bytes = [0; 16];
        let family = match address {
            IpAddr::V4(address) => {
                bytes[..4].copy_from_slice(&address.octets());
                AF_INET
            }
            IpAddr::V6(address) => {
                bytes = address.octets();
                AF_INET6
            }
        };
        Address { family: family as u32, bytes }
    }
}

impl From<Option<IpAddr>> for Address {
    fn from(address: Option<IpAddr>) -> Address {
        address.map_or(Address::default(), Address::from)
    }
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Hop {
    pub(crate) gateway: Address,
    pub(crate) link: u32,
    pub(crate) weight: u16,
    pub(crate) flags: u8,
    pub(crate) reserved: u8,
}

impl From<&NextHop> for Hop {
    fn from(hop: &NextHop) -> Hop {
        Hop {
            gateway: hop.gateway.into(),
            link: hop.link.map_or(0, |link| link.0),
            weight: hop.weight,
            flags: (hop.flags.0) & HopFlags::ALL.0,
            reserved: 0,
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct RouteEntry {
    pub(crate) destination: Address,
    pub(crate) prefsrc: Address,
    pub(crate) table: u32,
    pub(crate) metric: u32,
    pub(crate) group: u32,
    pub(crate) mtu: u32,
    pub(crate) ordinal: u16,
    pub(crate) prefix_len: u8,
    pub(crate) kind: u8,
    pub(crate) tos: u8,
    pub(crate) protocol: u8,
    pub(crate) scope: u8,
    pub(crate) distance: u8,
    pub(crate) reserved: [u32; 4],
}

/// `RTAX_MTU` (rtnetlink.h).
const RTAX_MTU: u16 = 2;

impl From<&RouteKey> for RouteEntry {
    fn from(key: &RouteKey) -> RouteEntry {
        RouteEntry {
            destination: key.prefix.address().into(),
            table: key.table,
            metric: key.metric,
            ordinal: key.ordinal,
            prefix_len: key.prefix.len(),
            tos: key.tos,
            ..RouteEntry::default()
        }
    }
}

impl From<&Route> for RouteEntry {
    fn from(route: &Route) -> RouteEntry {
        let mut entry = RouteEntry {
            group: route.value.group.0,
            kind: route.value.kind as u8,
            protocol: route.value.protocol,
            scope: route.value.scope,
            distance: route.value.distance,
            ..RouteEntry::from(&route.key)
        };
        if !route.value.attrs.is_none() {
            let attrs = route.value.attrs.decode();
            entry.prefsrc = attrs.prefsrc.into();
            let mtu = attrs.metrics.iter().find(|metric| metric.0 == RTAX_MTU);
            entry.mtu = mtu.map_or(0, |metric| metric.1);
        }
        entry
    }
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct LinkEntry {
    pub(crate) id: u32,
    pub(crate) ifindex: u32,
    pub(crate) name: [u8; 16],
}

impl From<&Link> for LinkEntry {
    fn from(link: &Link) -> LinkEntry {
        // At most 15 bytes, then NULs.
        LinkEntry { id: link.id.0, ifindex: link.ifindex, name: *link.name.padded() }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct NeighbourEntry {
    pub(crate) address: Address,
    pub(crate) link: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) has_mac: u8,
    pub(crate) flags: u8,
    pub(crate) state: u16,
    pub(crate) protocol: u8,
    pub(crate) reserved: u8,
}

impl From<&NeighbourKey> for NeighbourEntry {
    fn from(key: &NeighbourKey) -> NeighbourEntry {
        NeighbourEntry {
            address: key.ip.into(),
            link: key.link.map_or(0, |link| link.0),
            ..NeighbourEntry::default()
        }
    }
}

impl From<&Neighbour> for NeighbourEntry {
    fn from(neighbour: &Neighbour) -> NeighbourEntry {
        NeighbourEntry {
            mac: neighbour.value.mac.map_or([0; 6], |mac| mac.0),
            has_mac: neighbour.value.mac.is_some().into(),
            flags: neighbour.value.flags,
            state: neighbour.value.state.0,
            protocol: neighbour.value.protocol,
            ..NeighbourEntry::from(&neighbour.key)
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Span {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct State {
    pub(crate) epoch: u64,
    pub(crate) revision: u64,
    pub(crate) version: u64,
    pub(crate) routes4: u64,
    pub(crate) routes6: u64,
    pub(crate) neighbours: u64,
    pub(crate) mac_addresses: u64,
    pub(crate) groups: u64,
    pub(crate) links: u64,
    pub(crate) tables: u64,
    pub(crate) object_bytes: u64,
    pub(crate) used_bytes: u64,
    pub(crate) repeats: u64,
    pub(crate) busy: u64,
    pub(crate) writer: u32,
    pub(crate) connected: u32,
    pub(crate) reserved: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct GroupEvent {
    pub(crate) id: u32,
    pub(crate) nhid: u32,
    pub(crate) hops: u32,
}

impl From<&Group> for GroupEvent {
    fn from(group: &Group) -> GroupEvent {
        GroupEvent { id: group.id.0, nhid: group.nhid, hops: group.hops.len() as u32 }
    }
}

/// Bytes of an event's text, with its NUL.
pub(crate) const TEXT_BYTES: usize = 208;

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) union EventBody {
    pub(crate) route: RouteEntry,
    pub(crate) neighbour: NeighbourEntry,
    pub(crate) link: LinkEntry,
    pub(crate) group: GroupEvent,
    pub(crate) flushed: u32,
    pub(crate) text: [u8; TEXT_BYTES],
    pub(crate) epoch: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Event {
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) revision: u64,
    pub(crate) body: EventBody,
}

/// What an event's body is made of.
enum Body {
    Nothing,
    Route(RouteEntry),
    Neighbour(NeighbourEntry),
    Link(LinkEntry),
    Group(GroupEvent),
    Flushed(u32),
    Text(String),
    Epoch(u64),
}

impl Event {
    /// As C gets it; `None`: of a kind that this header doesn't have.
    pub(crate) fn of(notice: Notice) -> Option<Event> {
        let (kind, flags, revision, body) = match notice {
            Notice::Attached { epoch, revision } => (1, 0, revision.0, Body::Epoch(epoch)),
            Notice::Lost { why } => (2, 0, 0, Body::Text(why)),
            Notice::Reread => (3, 0, 0, Body::Nothing),
            Notice::Flushed { revision, what } => {
                let bits = u32::from(what.routes) | u32::from(what.neighbours) << 1;
                (4, LAST, revision.0, Body::Flushed(bits))
            }
            Notice::Set { revision, last, entity } => {
                let (kind, body) = match &entity {
                    Entity::Route(route) => (5, Body::Route(route.into())),
                    Entity::Neighbour(neighbour) => (7, Body::Neighbour(neighbour.into())),
                    Entity::Link(link) => (9, Body::Link(link.into())),
                    Entity::Group(group) => (11, Body::Group(group.into())),
                };
                (kind, if last { LAST } else { 0 }, revision.0, body)
            }
            Notice::Gone { revision, last, key } => {
                let (kind, body) = match &key {
                    EntityKey::Route(key) => (6, Body::Route(key.into())),
                    EntityKey::Neighbour(key) => (8, Body::Neighbour(key.into())),
                    EntityKey::Link(id) => {
                        (10, Body::Link(LinkEntry { id: id.0, ..LinkEntry::default() }))
                    }
                    EntityKey::Group(id) => {
                        (12, Body::Group(GroupEvent { id: id.0, ..GroupEvent::default() }))
                    }
                };
                (kind, if last { LAST } else { 0 }, revision.0, body)
            }
            _ => return None,
        };
        // The text is the largest: all bytes are written.
        let mut event = Event { kind, flags, revision, body: EventBody { text: [0; TEXT_BYTES] } };
        match body {
            Body::Nothing => {}
            Body::Route(route) => event.body.route = route,
            Body::Neighbour(neighbour) => event.body.neighbour = neighbour,
            Body::Link(link) => event.body.link = link,
            Body::Group(group) => event.body.group = group,
            Body::Flushed(what) => event.body.flushed = what,
            Body::Text(text) => event.body.text = padded(&text),
            Body::Epoch(epoch) => event.body.epoch = epoch,
        }
        Some(event)
    }
}

const LAST: u32 = 1;

/// The text with its NUL, cut off between two characters.
fn padded(text: &str) -> [u8; TEXT_BYTES] {
    let mut end = text.len().min(TEXT_BYTES - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes = [0; TEXT_BYTES];
    bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
    bytes
}

/// The family of a number, if it is one.
pub(crate) fn family(number: c_int) -> Option<Family> {
    match number {
        AF_INET => Some(Family::V4),
        AF_INET6 => Some(Family::V6),
        _ => None,
    }
}

// What the header says in its comments.
const _: () = {
    assert!(size_of::<Answer>() == 8);
    assert!(size_of::<Address>() == 20);
    assert!(size_of::<Hop>() == 28);
    assert!(size_of::<RouteEntry>() == 80);
    assert!(size_of::<LinkEntry>() == 24);
    assert!(size_of::<NeighbourEntry>() == 36);
    assert!(size_of::<State>() == 128);
    assert!(size_of::<Event>() == 224);
};

#[cfg(test)]
mod tests {
    use std::mem::offset_of;
    use std::process::Command;

    use super::*;

    /// (structure in C, field in C, offset here); an empty field is the size.
    macro_rules! layout {
        ($($rust:ty, $c:literal: $($field:ident $(= $name:literal)?),+;)+) => {
            vec![$(
                ($c, String::new(), size_of::<$rust>()),
                $(($c, layout!(@name $field $($name)?), offset_of!($rust, $field)),)+
            )+]
        };
        (@name $field:ident) => { stringify!($field).to_owned() };
        (@name $field:ident $name:literal) => { $name.to_owned() };
    }

    /// The C compiler lays the header's structures out as Rust does these.
    #[test]
    fn structures_are_those_of_the_header() {
        let fields = layout! {
            Options, "rtm_options": size, socket, runtime_dir, name, flags, timeout_ms;
            Answer, "rtm_answer": group, kind = "type", reserved;
            Address, "rtm_address": family, bytes = "ip";
            Hop, "rtm_hop": gateway, link, weight, flags, reserved;
            RouteEntry, "rtm_route": destination, prefsrc, table, metric, group, mtu, ordinal,
                prefix_len, kind = "type", tos, protocol, scope, distance, reserved;
            LinkEntry, "rtm_link": id, ifindex, name;
            NeighbourEntry, "rtm_neighbour": address, link, mac, has_mac, flags, state, protocol,
                reserved;
            Span, "rtm_span": first, last;
            State, "rtm_state": epoch, revision, version, routes4, routes6, neighbours,
                mac_addresses, groups, links, tables, object_bytes, used_bytes, repeats, busy,
                writer, connected, reserved;
            Event, "rtm_event": kind = "type", flags, revision, body = "u";
        };
        let mut source = "#include \"rtm.h\"\n".to_owned();
        for (structure, field, at) in fields {
            let (what, why) = match field.is_empty() {
                true => (format!("sizeof(struct {structure})"), "size"),
                false => (format!("offsetof(struct {structure}, {field})"), "offset"),
            };
            source += &format!("_Static_assert({what} == {at}, \"{why}: {structure} {field}\");\n");
        }
        for (field, size) in [
            ("group", size_of::<GroupEvent>()),
            ("text", TEXT_BYTES),
            ("route", size_of::<RouteEntry>()),
        ] {
            source += &format!(
                "_Static_assert(sizeof(((struct rtm_event *)0)->u.{field}) == {size}, \"{field}\");\n"
            );
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("layout.c");
        std::fs::write(&file, source).unwrap();
        let output = Command::new("cc")
            .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/include"))
            .arg(&file)
            .output()
            .expect("cc is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn text_is_cut_between_characters() {
        let bytes = padded(&"ü".repeat(200));
        assert_eq!(bytes[TEXT_BYTES - 2..], [0, 0]);
        assert_eq!(std::str::from_utf8(&bytes[..TEXT_BYTES - 2]).unwrap(), "ü".repeat(103));
    }
}
