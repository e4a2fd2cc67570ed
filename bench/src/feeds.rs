//! The daemon beside the kernel and FRR: this host's routes in (`--kernel`),
//! ours out (`--export`), a full table's FPM stream (`--fpm`).
//!
//! The kernel's side is a namespace of the kernel's admin; the daemon is started
//! in it. What is waited for is asked every few milliseconds by a connection
//! that was made before the clock started.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rtm_client::Admin;
use rtm_model::text::spread;
use rtm_model::{Hops, LinkRef, Prefix, RouteSpec, RouteType};
use rtm_netlink::{Body, Builder, NextHopMessage, RouteMessage, flag, messages};
use serde_json::Value;

use crate::contenders::{NextHops, Table, kernel_admin};
use crate::harness::rounds::{Contender, Sample};
use crate::harness::worker::{Order, Reply, Work, Worker};
use crate::routes::LINKS;
use crate::rtm::{Daemon, text};
use crate::setup::Setup;

/// Names a record of zebra's stream, which `scripts/interop frr-bgp` writes to
/// `RTM_FPM_RECORD`; without it one is made of the real table.
const RECORD: &str = "RTM_FPM_STREAM";
/// Between two looks.
const LOOK: Duration = Duration::from_millis(4);
/// What never comes ends the bench.
const PATIENCE: Duration = Duration::from_secs(300);
/// Changes while the daemon is stopped: far more than its buffer holds.
const UNREAD: usize = 20_000;

/// Waits until something is so.
fn wait(what: &str, mut is: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !is()? {
        ensure!(Instant::now() < end, "never: {what}");
        thread::sleep(LOOK);
    }
    Ok(())
}

/// What the daemon answers to a request for JSON.
fn ask(admin: &mut Admin, line: &str) -> Result<Value> {
    let mut value = Value::Null;
    let done = admin.request(line, &mut |item| {
        value = serde_json::from_str(&item.text()).unwrap_or_default();
        true
    })?;
    ensure!(done.code == 0, "{line}: {}", done.text);
    Ok(value)
}

/// The daemon's entry for the source of a class.
fn source(admin: &mut Admin, class: &str) -> Result<Value> {
    let mut found = Value::Null;
    let done = admin.request("source list", &mut |item| {
        let entry: Value = serde_json::from_str(&item.text()).unwrap_or_default();
        if entry["class"] == class {
            found = entry;
        }
        true
    })?;
    ensure!(done.code == 0, "source list: {}", done.text);
    Ok(found)
}

/// The mirror of a full table, from the daemon's start until it says that it
/// has everything.
pub(crate) struct Import<'s> {
    setup: &'s Setup,
    kernel: Worker,
    routes: u64,
}

impl<'s> Import<'s> {
    pub(crate) fn new(setup: &'s Setup) -> Result<Self> {
        let kernel = kernel_admin(setup, NextHops::Plain, Table::Loaded)?;
        Ok(Self { setup, kernel, routes: setup.routes()?.len() as u64 })
    }
}

impl Contender for Import<'_> {
    fn name(&self) -> &str {
        "rtm"
    }

    fn sample(&mut self, _round: u64) -> Result<Sample> {
        let begun = Instant::now();
        let daemon = Daemon::start_within(self.setup, self.kernel.pid(), &["--kernel"])?;
        daemon.ask_for_image()?;
        wait("the first listing", || {
            let log = daemon.log();
            ensure!(!log.contains("refused"), "{log}");
            Ok(log.contains(" entries in "))
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        let has = source(&mut daemon.admin()?, "kernel")?["routes"].as_u64().unwrap_or_default();
        Ok(Sample { value: seconds, lost: self.routes - has.min(self.routes) })
    }
}

/// The mirror of a full table after its buffer overran: from the moment that it
/// may read again until all is listed and compared.
pub(crate) struct Resync {
    daemon: Daemon,
    kernel: Worker,
}

impl Resync {
    pub(crate) fn new(setup: &Setup) -> Result<Self> {
        let kernel = kernel_admin(setup, NextHops::Plain, Table::Loaded)?;
        let daemon = Daemon::start_within(setup, kernel.pid(), &["--kernel"])?;
        wait("the first listing", || Ok(daemon.log().contains(" entries in ")))?;
        daemon.ask_for_image()?;
        Ok(Self { daemon, kernel })
    }

    fn overruns(&self, admin: &mut Admin) -> Result<u64> {
        Ok(ask(admin, "status")?["kernel"]["counts"]["overruns"].as_u64().unwrap_or_default())
    }
}

impl Contender for Resync {
    fn name(&self) -> &str {
        "rtm"
    }

    fn sample(&mut self, round: u64) -> Result<Sample> {
        let mut admin = self.daemon.admin()?;
        let before = self.overruns(&mut admin)?;
        self.kernel.send(&Order::Prepare(Work::Random { seed: round, count: UNREAD }))?;
        self.kernel.receive()?;
        self.daemon.signal(rustix::process::Signal::STOP)?;
        self.kernel.send(&Order::Publish)?;
        self.kernel.receive()?;
        let begun = Instant::now();
        self.daemon.signal(rustix::process::Signal::CONT)?;
        let mut began = false;
        wait("the listing", || {
            let source = source(&mut admin, "kernel")?;
            let listing = source["in_generation"] == true || source["stale"] != 0;
            began |= listing;
            Ok(began && !listing)
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        ensure!(self.overruns(&mut admin)? > before, "no overrun: the changes were too few");
        Ok(Sample { value: seconds, lost: 0 })
    }
}

/// A namespace with an empty table in which the rule's gateways are reachable.
struct Empty {
    kernel: Worker,
}

impl Empty {
    fn new(setup: &Setup) -> Result<Self> {
        Ok(Self { kernel: kernel_admin(setup, NextHops::Plain, Table::Empty)? })
    }

    /// Empties it anew.
    fn clear(&mut self) -> Result<()> {
        self.kernel.send(&Order::Prepare(Work::Load))?;
        let Reply::Prepared { .. } = self.kernel.receive()? else { bail!("not prepared") };
        let mut batch = String::new();
        for link in 1..=LINKS {
            let _ = writeln!(batch, "addr add 10.255.1.{link}/16 dev Ethernet{link}");
            let _ = writeln!(batch, "addr add 2001:db8:ffff::1:{link}/64 dev Ethernet{link} nodad");
        }
        let mut child =
            self.command("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().context("ip")?;
        child.stdin.take().context("no standard input")?.write_all(batch.as_bytes())?;
        ensure!(child.wait()?.success(), "ip -batch: the addresses were refused");
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.kernel.pid())).arg(program);
        command
    }
}

/// Our routes into the kernel's table: from the start of `rtm route load` until
/// the daemon says that the kernel has them all.
pub(crate) struct Export<'s> {
    setup: &'s Setup,
    empty: Empty,
    file: String,
    routes: u64,
}

impl<'s> Export<'s> {
    pub(crate) fn new(setup: &'s Setup) -> Result<Self> {
        let file = setup.directory().join("prefixes.txt");
        let lines = setup.routes()?.iter().map(|route| route.prefix.to_string() + "\n");
        fs::write(&file, lines.collect::<String>())?;
        let routes = setup.routes()?.len() as u64;
        Ok(Self { setup, empty: Empty::new(setup)?, file: text(&file)?, routes })
    }
}

impl Contender for Export<'_> {
    fn name(&self) -> &str {
        "rtm"
    }

    fn sample(&mut self, _round: u64) -> Result<Sample> {
        self.empty.clear()?;
        let pid = self.empty.kernel.pid();
        let daemon = Daemon::start_within(self.setup, pid, &["--export", "main"])?;
        let mut admin = daemon.admin()?;
        let begun = Instant::now();
        let mut load = daemon.command(&["route", "load", &self.file, "--spread"])?.spawn()?;
        let mut installed = 0;
        wait("all routes in the kernel", || {
            let export = ask(&mut admin, "status")?["export"].take();
            installed = export["installed"].as_u64().unwrap_or_default();
            let refused = export["waiting"].as_u64().unwrap_or_default();
            ensure!(refused == 0, "the kernel refuses routes: {export}");
            Ok(installed >= self.routes)
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        ensure!(load.wait()?.success(), "rtm route load failed");
        Ok(Sample { value: self.routes as f64 / seconds, lost: self.routes - installed })
    }
}

/// The same routes by `ip -batch`.
pub(crate) struct IpBatch {
    empty: Empty,
    file: String,
    routes: u64,
}

impl IpBatch {
    pub(crate) fn new(setup: &Setup) -> Result<Self> {
        let mut lines = String::new();
        for route in setup.routes()? {
            let (gateway, link) = (route.next_hop.gateway, route.next_hop.link + 1);
            let _ = writeln!(lines, "route add {} via {gateway} dev Ethernet{link}", route.prefix);
        }
        let file = setup.directory().join("routes.batch");
        fs::write(&file, lines)?;
        let routes = setup.routes()?.len() as u64;
        Ok(Self { empty: Empty::new(setup)?, file: text(&file)?, routes })
    }
}

impl Contender for IpBatch {
    fn name(&self) -> &str {
        "ip -batch"
    }

    fn sample(&mut self, _round: u64) -> Result<Sample> {
        self.empty.clear()?;
        let begun = Instant::now();
        let status = self.empty.command("ip").args(["-batch", &self.file]).status()?;
        let seconds = begun.elapsed().as_secs_f64();
        ensure!(status.success(), "ip -batch: {status}");
        Ok(Sample { value: self.routes as f64 / seconds, lost: 0 })
    }
}

/// A full table's FPM stream by a plain sender: from the connection until the
/// daemon has applied the last frame.
pub(crate) struct Replay<'s> {
    setup: &'s Setup,
    stream: Vec<u8>,
    frames: u64,
    routes: u64,
}

impl<'s> Replay<'s> {
    pub(crate) fn new(setup: &'s Setup) -> Result<Self> {
        let (stream, frames, routes) = match std::env::var_os(RECORD) {
            Some(file) => recorded(&fs::read(&file).context(RECORD)?),
            None => {
                let (stream, frames) = made(setup)?;
                (stream, frames, setup.routes()?.len() as u64)
            }
        };
        Ok(Self { setup, stream, frames, routes })
    }
}

impl Contender for Replay<'_> {
    fn name(&self) -> &str {
        "rtm"
    }

    fn sample(&mut self, _round: u64) -> Result<Sample> {
        let daemon = Daemon::start_with(self.setup, &["--fpm=127.0.0.1:0"])?;
        let mut admin = daemon.admin()?;
        let status = ask(&mut admin, "status")?;
        let address = status["fpm"].as_str().context("it doesn't listen")?.to_owned();
        let begun = Instant::now();
        let mut socket = TcpStream::connect(address)?;
        socket.write_all(&self.stream)?;
        wait("the last frame", || {
            Ok(source(&mut admin, "fpm")?["fpm"]["frames"].as_u64() == Some(self.frames))
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        let has = source(&mut admin, "fpm")?["routes"].as_u64().unwrap_or_default();
        let lost = self.routes - has.min(self.routes);
        Ok(Sample { value: has as f64 / seconds, lost })
    }
}

/// Nobody: the rate that is asked for.
pub(crate) struct Asked(pub(crate) f64);

impl Contender for Asked {
    fn name(&self) -> &str {
        "asked"
    }

    fn sample(&mut self, _round: u64) -> Result<Sample> {
        Ok(Sample { value: self.0, lost: 0 })
    }
}

/// The whole frames of a record; how many they are, and how many routes are told
/// in them.
fn recorded(record: &[u8]) -> (Vec<u8>, u64, u64) {
    let (mut at, mut frames) = (0, 0);
    let mut prefixes = std::collections::HashSet::new();
    while let Some(&[_, _, high, low]) = record.get(at..at + 4) {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some(frame) = record.get(at + 4..at + length) else { break };
        for message in messages(frame).flatten() {
            let Ok(Body::Route(route)) = Body::decode(message) else { continue };
            let Ok(prefix) = route.prefix() else { continue };
            if route.gone {
                prefixes.remove(&(route.table, prefix));
            } else {
                prefixes.insert((route.table, prefix));
            }
        }
        frames += 1;
        at += length;
    }
    (record[..at].to_vec(), frames, prefixes.len() as u64)
}

/// The real table as zebra sends it with next-hop groups: objects when first
/// used, then a route a frame; and how many frames.
fn made(setup: &Setup) -> Result<(Vec<u8>, u64)> {
    let (mut stream, mut frames) = (Vec::new(), 0);
    let mut message = Builder::default();
    let mut objects = std::collections::HashMap::new();
    let flags = flag::CREATE | flag::REPLACE;
    let mut frame = |message: &Builder| {
        stream.extend_from_slice(&[1, 1]);
        stream.extend_from_slice(&((message.bytes().len() + 4) as u16).to_be_bytes());
        stream.extend_from_slice(message.bytes());
        frames += 1;
    };
    for route in setup.routes()? {
        let name = route.prefix.to_string();
        let prefix: Prefix = name.parse().map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
        let mut hop = spread(&name, prefix.family());
        // Only its number is on the wire: one that is on this host.
        hop.link = Some(LinkRef::Ifindex(1));
        let next = objects.len() as u32 + 1;
        let object = *objects.entry(hop.gateway).or_insert(next);
        if object == next {
            message.clear();
            NextHopMessage::encode_hop(&mut message, flags, 0, object, &hop);
            frame(&message);
        }
        let mut spec = RouteSpec::new(prefix);
        spec.kind = Some(RouteType::Unicast);
        (spec.protocol, spec.scope, spec.metric) = (Some(186), Some(0), Some(20));
        spec.hops = Hops::Named(object);
        message.clear();
        if RouteMessage::encode(&mut message, flags, 0, &spec).is_err() {
            bail!("{name}: no message");
        }
        frame(&message);
    }
    Ok((stream, frames))
}
