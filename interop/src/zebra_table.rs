//! Two tables that must be equal: zebra's own, by `show ip route json`, and
//! what `rtm` shows. Both are read as streams: a full table is hundreds of
//! megabytes of JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::process::{Command, Stdio};

use rtm_e2e::Daemon;
use serde::Deserialize;
use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};

/// A table: from the prefix to its next hops, in words, sorted.
pub(crate) type Table = BTreeMap<String, String>;

/// One of zebra's routes of a prefix.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ZebraRoute {
    #[serde(default)]
    selected: bool,
    #[serde(default)]
    nexthops: Vec<ZebraHop>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ZebraHop {
    #[serde(default)]
    fib: bool,
    #[serde(default)]
    recursive: bool,
    ip: Option<String>,
    interface_name: Option<String>,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default)]
    blackhole: bool,
    #[serde(default)]
    unreachable: bool,
}

fn one() -> u32 {
    1
}

/// One of our routes, as `ip -j` has it.
#[derive(Deserialize)]
struct OwnRoute {
    #[serde(rename = "type")]
    kind: Option<String>,
    dst: String,
    #[serde(flatten)]
    hop: OwnHop,
    #[serde(default)]
    nexthops: Vec<OwnHop>,
}

#[derive(Deserialize)]
struct OwnHop {
    gateway: Option<String>,
    via: Option<OwnVia>,
    dev: Option<String>,
    weight: Option<u32>,
}

#[derive(Deserialize)]
struct OwnVia {
    host: String,
}

fn words(gateway: Option<&str>, link: Option<&str>, weight: u32) -> String {
    format!("{}%{}*{weight}", gateway.unwrap_or("-"), link.unwrap_or("-"))
}

fn joined(mut hops: Vec<String>) -> String {
    hops.sort();
    hops.join(" ")
}

/// Zebra's selected routes of one family.
pub(crate) fn of_zebra(command: Command) -> Table {
    struct Routes(Table);

    impl<'de> Visitor<'de> for Routes {
        type Value = Table;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("routes by prefix")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Table, A::Error> {
            while let Some((prefix, routes)) = map.next_entry::<String, Vec<ZebraRoute>>()? {
                let Some(route) = routes.into_iter().find(|route| route.selected) else { continue };
                let hops = route.nexthops.iter().filter(|hop| hop.fib && !hop.recursive);
                let hop = |hop: &ZebraHop| {
                    if hop.blackhole || hop.unreachable {
                        return "blackhole".to_owned();
                    }
                    // The next hop of a connected route has no gateway.
                    words(hop.ip.as_deref(), hop.interface_name.as_deref(), hop.weight)
                };
                let hops = joined(hops.map(hop).collect());
                if !hops.is_empty() {
                    self.0.insert(prefix, hops);
                }
            }
            Ok(self.0)
        }
    }

    read(command, |deserializer| deserializer.deserialize_map(Routes(Table::new())))
}

/// What `rtm` shows of one family's routes.
pub(crate) fn of_rtm(daemon: &Daemon, family: &str) -> Table {
    struct Routes(Table, &'static str);

    impl<'de> Visitor<'de> for Routes {
        type Value = Table;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of routes")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Table, A::Error> {
            while let Some(route) = seq.next_element::<OwnRoute>()? {
                let prefix = match route.dst.as_str() {
                    "default" if self.1 == "/128" => "::/0".to_owned(),
                    "default" => "0.0.0.0/0".to_owned(),
                    host if !host.contains('/') => format!("{host}{}", self.1),
                    prefix => prefix.to_owned(),
                };
                let hop = |hop: &OwnHop| {
                    let via = hop.via.as_ref().map(|via| via.host.as_str());
                    let gateway = hop.gateway.as_deref().or(via);
                    words(gateway, hop.dev.as_deref(), hop.weight.unwrap_or(1))
                };
                let hops = match route.kind.as_deref() {
                    Some("blackhole" | "unreachable") => "blackhole".to_owned(),
                    _ if route.nexthops.is_empty() => hop(&route.hop),
                    _ => joined(route.nexthops.iter().map(hop).collect()),
                };
                self.0.insert(prefix, hops);
            }
            Ok(self.0)
        }
    }

    let host = if family == "-6" { "/128" } else { "/32" };
    let command = daemon.command(&["-j", family, "route", "show", "table", "main"]);
    read(command, |deserializer| deserializer.deserialize_seq(Routes(Table::new(), host)))
}

type Json<'a> = &'a mut serde_json::Deserializer<
    serde_json::de::IoRead<std::io::BufReader<std::process::ChildStdout>>,
>;

fn read(
    mut command: Command,
    take: impl FnOnce(Json<'_>) -> Result<Table, serde_json::Error>,
) -> Table {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let output = child.stdout.take().expect("its output is a pipe");
    let mut json = serde_json::Deserializer::from_reader(std::io::BufReader::new(output));
    let table = take(&mut json);
    let _ = child.wait();
    table.unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// The first differences, in words; empty: they are equal.
pub(crate) fn difference(zebra: &Table, rtm: &Table) -> Vec<String> {
    const SHOWN: usize = 5;
    let mut shown = Vec::new();
    let mut count = 0;
    for prefix in zebra.keys().chain(rtm.keys().filter(|prefix| !zebra.contains_key(*prefix))) {
        let (theirs, ours) = (zebra.get(prefix), rtm.get(prefix));
        if theirs != ours {
            count += 1;
            if shown.len() < SHOWN {
                shown.push(format!("{prefix}: zebra {theirs:?}, rtm {ours:?}"));
            }
        }
    }
    if count > shown.len() {
        shown.push(format!("{count} in all"));
    }
    shown
}
