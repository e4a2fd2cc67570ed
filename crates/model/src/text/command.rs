//! What `rtm` can be asked: the grammar's result.

use std::net::IpAddr;
use std::time::Duration;

use super::filter::Filter;
use super::selector::{NeighbourSelector, PrefixRule, RouteSelector};
use crate::change::Change;
use crate::link::LinkName;
use crate::prefix::Family;

/// One command.
///
/// Some belong to later versions; they parse all the same, and whoever
/// executes commands says so.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Command {
    /// `help`, `OBJECT help`, `-h` anywhere.
    Help(Topic),
    /// `-V`.
    Version,
    /// `route add|change|replace|append|prepend|del`, `neigh
    /// add|change|replace|del`.
    Change(Change),
    /// `route show`.
    RouteShow(RouteShow),
    /// `route get`.
    RouteGet(RouteGet),
    /// `route flush`.
    RouteFlush(RouteSelector),
    /// `route load`.
    RouteLoad(RouteLoad),
    /// `route save`.
    RouteSave(RouteSave),
    /// `neigh show`.
    NeighbourShow(NeighbourSelector),
    /// `neigh flush`.
    NeighbourFlush(NeighbourSelector),
    /// `lookup`: from the mapped image.
    Lookup(Lookup),
    /// `monitor`.
    Monitor(Monitor),
    /// `wait`.
    Wait(Wait),
    /// `client`: be one.
    Client(ClientRun),
    /// `client list`.
    ClientList,
    /// `client kill`.
    ClientKill(Peer),
    /// `status` (with `-d`: more).
    Status,
    /// `status image`.
    StatusImage,
    /// `digest`.
    Digest {
        /// `--resolved`: with links and groups spelled out and a fixed key.
        resolved: bool,
    },
    /// `sync`: the barrier.
    Sync(Barrier),
    /// `source list`.
    SourceList,
    /// `source reconcile NAME`.
    SourceReconcile(Box<str>),
    /// `flush [routes|neighbours|all]`; [`Options::force`](super::Options) skips the question.
    Flush(FlushWhat),
    /// `-batch FILE`; how is in [`Options`](super::Options).
    Batch {
        /// The file; `-` is standard input.
        file: Box<str>,
    },
    /// `mq send`.
    MqSend {
        /// The command that is posted.
        text: Box<str>,
        /// `--prio`.
        priority: u32,
    },
    /// `stat`.
    Stat {
        /// `-i`: the time between two lines.
        interval: Duration,
    },
    /// `latency`.
    Latency,
    /// `tour`.
    Tour,
    /// `reload`.
    Reload,
    /// `completion`.
    Completion(Shell),
}

/// What help is asked about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Topic {
    /// The object; `None`: everything.
    pub object: Option<Object>,
    /// The verb; `None`: all of the object's.
    pub verb: Option<&'static str>,
}

/// The first word of a command.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Object {
    Route,
    Neighbour,
    Lookup,
    Monitor,
    Wait,
    Client,
    Status,
    Digest,
    Sync,
    Source,
    Flush,
    Batch,
    Mq,
    Stat,
    Latency,
    Tour,
    Reload,
    Completion,
    Help,
}

/// `route show`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct RouteShow {
    /// Which.
    pub selector: RouteSelector,
    /// `--all`: every candidate, not only winners.
    pub all: bool,
    /// `--count`: only how many.
    pub count: bool,
}

/// `route get`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RouteGet {
    /// The addresses, at least one.
    pub addresses: Vec<IpAddr>,
    /// The table.
    pub table: u32,
}

/// `lookup`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Lookup {
    /// The table.
    pub table: u32,
    /// What to look up.
    pub input: LookupInput,
    /// `--json-field`: names of the fields that hold addresses.
    pub json_fields: Vec<Box<str>>,
}

/// Where `lookup` takes addresses from.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LookupInput {
    /// The command line.
    Addresses(Vec<IpAddr>),
    /// Standard input.
    Stdin,
}

/// The format of a file of routes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Format {
    /// Told from the first bytes.
    #[default]
    Auto,
    /// One prefix a line.
    Prefixes,
    /// Lines of `ip route show`.
    Ip,
    /// `ip -json route show`.
    IpJson,
    /// The binary of `ip route save`.
    IpDump,
    /// Lines for `ip -batch` or `rtm -batch`.
    Batch,
    /// MRT, TABLE_DUMP_V2 (RFC 6396).
    Mrt,
}

impl Format {
    /// The formats with their words.
    pub const NAMES: [(Format, &'static str); 7] = [
        (Format::Auto, "auto"),
        (Format::Prefixes, "prefixes"),
        (Format::Ip, "ip"),
        (Format::IpJson, "ip-json"),
        (Format::IpDump, "ip-dump"),
        (Format::Batch, "batch"),
        (Format::Mrt, "mrt"),
    ];

    /// The word.
    pub fn name(self) -> &'static str {
        Format::NAMES[self as usize].1
    }
}

/// Next hops for a plain list of prefixes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LoadHops {
    /// `--via`, `--dev`: the same for all; at least one of the two.
    Fixed {
        /// The gateway.
        via: Option<IpAddr>,
        /// The link.
        dev: Option<LinkName>,
    },
    /// `--spread`: by the rule of [`spread`](super::spread).
    Spread,
}

/// Whose routes are taken of a dump that has those of many peers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PeerChoice {
    /// Of each prefix the best: the shortest AS path, then the lowest origin,
    /// then the lowest peer address.
    #[default]
    Best,
    /// The peer with this number in the dump's table, from 0.
    Index(u16),
    /// The peer with this address.
    Address(IpAddr),
}

/// `route load`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RouteLoad {
    /// The file; `-` is standard input.
    pub file: Box<str>,
    /// Its format.
    pub format: Format,
    /// Next hops, if the file has none.
    pub hops: Option<LoadHops>,
    /// `--peer`: whose routes of an MRT dump.
    pub peer: PeerChoice,
    /// `--atomic`: one transaction.
    pub atomic: bool,
    /// `--force`: go on after a bad line.
    pub force: bool,
    /// `--source`: the file is the whole content of this source.
    pub source: Option<Box<str>>,
}

/// `route save`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RouteSave {
    /// The file; `None`: standard output.
    pub file: Option<Box<str>>,
    /// [`Format::Batch`] or [`Format::IpDump`].
    pub format: Format,
}

/// `monitor`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Monitor {
    /// Show routes. If nothing is named, everything is shown.
    pub routes: bool,
    /// Show neighbours.
    pub neighbours: bool,
    /// Show links.
    pub links: bool,
    /// Show flushes.
    pub flushes: bool,
    /// `all`: rejected changes, too.
    pub rejected: bool,
    /// `label` or `all`: `[ROUTE]` and so on in front.
    pub label: bool,
    /// The family.
    pub family: Option<Family>,
    /// `exact`, `match`, `root`: routes with such a prefix.
    pub prefix: Option<PrefixRule>,
    /// `--initial`: first what is there.
    pub initial: bool,
    /// `--from`: what came after.
    pub from: Option<Position>,
    /// `--exec`: a command for each change.
    pub exec: Option<Box<str>>,
}

impl Monitor {
    /// The filter of the subscription: as narrow as a filter can be for this.
    pub fn filter(&self) -> Filter {
        let mut rules = super::FilterRules {
            routes: self.routes,
            neighbours: self.neighbours,
            family: self.family,
            ..Default::default()
        };
        if let Some(PrefixRule::Root(prefix) | PrefixRule::Exact(prefix)) = self.prefix {
            if !self.neighbours {
                rules.prefixes.push(prefix);
            }
        }
        Filter::from(rules)
    }
}

/// A place in a history: `EPOCH:REVISION`, the epoch in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Position {
    /// The history.
    pub epoch: u64,
    /// The revision in it.
    pub revision: u64,
}

/// `wait`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Wait {
    /// For what.
    pub what: WaitFor,
    /// `--gone`: until none is there.
    pub gone: bool,
    /// `--timeout`.
    pub timeout: Option<Duration>,
}

/// What `wait` waits for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum WaitFor {
    /// A route.
    Route(RouteSelector),
    /// A neighbour.
    Neighbour(NeighbourSelector),
}

/// `client`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ClientRun {
    /// `--name`.
    pub name: Option<Box<str>>,
    /// `--mapped`: follow the shared memory.
    pub mapped: bool,
    /// `--futex`: woken by the word in the shared memory instead of a pipe.
    pub futex: bool,
    /// `--keys`: neighbours' keys by socket, values in shared memory.
    pub keys: bool,
    /// `--menu`: also where standard input is no terminal.
    pub menu: bool,
    /// `--once`: synchronise, print, goodbye.
    pub once: bool,
    /// `--verify`: recompute the digests.
    pub verify: bool,
    /// `--count`: print counts at the end.
    pub count: bool,
}

/// A session, as the user names it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Peer {
    /// By process id.
    Pid(u32),
    /// By name.
    Name(Box<str>),
}

/// `sync`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Barrier {
    /// `--timeout`.
    pub timeout: Option<Duration>,
    /// `--client`: only these; empty: all that are there.
    pub clients: Vec<Box<str>>,
}

/// What `flush` empties.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FlushWhat {
    /// The routes.
    Routes,
    /// The neighbours.
    Neighbours,
    /// Both.
    All,
}

/// A shell that `completion` writes for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}
