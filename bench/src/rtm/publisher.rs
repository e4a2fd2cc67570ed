//! rtm's publisher: `role rtm-admin SOCKET DATA ROUTES STATE`. Changes go through
//! the client library as a pipelined stream, each a transaction of its own.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rtm_client::{Address, Admin, Done, LoadOptions};
use rtm_model::{Change, HopFlags, HopSpec, Hops, LinkName, LinkRef, RouteSpec, Verb};

use crate::changes::{Mirror, Replay};
use crate::harness::clock::now_ns;
use crate::harness::stamps::Stamps;
use crate::harness::worker::{Order, Reply, Work, serve};
use crate::routes::{self, NextHop, Prefix, Update};

/// The slowest single delivery to all.
const PATIENCE: Duration = Duration::from_secs(10);

/// Transactions of a stream that are nobody's change, at most.
const COLLECTIONS: u64 = 8;

/// Of paced changes.
const TURN: Duration = Duration::from_millis(1);

struct Publisher {
    admin: Admin,
    mirror: Mirror,
    replay: Option<Replay>,
    data: PathBuf,
    prepared: Vec<Change>,
    /// The table's, after everything published so far.
    revision: u64,
}

/// Serves orders until the bench ends. `loaded`: the table is loaded before the
/// first one.
pub(crate) fn run(
    socket: &Path,
    data: &Path,
    routes_max: Option<usize>,
    loaded: bool,
) -> Result<()> {
    let admin = Admin::connect(&Address::Unix(socket.to_owned()), "bench-admin")?;
    let mirror = Mirror::new(routes::table(data, routes_max)?);
    let data = data.to_owned();
    let mut publisher =
        Publisher { admin, mirror, replay: None, data, prepared: Vec::new(), revision: 0 };
    if loaded {
        let base = publisher.mirror.base();
        publisher.prepared = base
            .iter()
            .map(|route| change(Update { prefix: route.prefix, to: Some(route.next_hop) }))
            .collect::<Result<_>>()?;
        publisher.publish()?;
    }
    serve(|order, say| {
        match order {
            Order::Prepare(work) => {
                let expect = publisher.prepare(work)?;
                say(Reply::Prepared { expect, after: publisher.revision });
            }
            Order::Publish => {
                let begun_ns = now_ns();
                publisher.publish()?;
                say(Reply::Published { begun_ns });
            }
            Order::PublishPaced { per_turn } => {
                let begun_ns = now_ns();
                publisher.publish_paced(per_turn)?;
                say(Reply::Published { begun_ns });
            }
            Order::OneByOne(address) => {
                let begun_ns = now_ns();
                publisher.one_by_one(&Stamps::open(&address)?)?;
                say(Reply::Published { begun_ns });
            }
            Order::Arm(_) | Order::Join => bail!("a publisher does not subscribe"),
        }
        Ok(())
    })
}

impl Publisher {
    fn prepare(&mut self, work: Work) -> Result<u64> {
        match work {
            Work::Random { seed, count } => {
                self.prepared = changes(&self.mirror.random(seed, count))?;
                Ok(count as u64)
            }
            Work::Trace => {
                let replay = match self.replay.take() {
                    Some(replay) => replay,
                    None => Replay::new(self.mirror.base(), routes::trace(&self.data)?),
                };
                self.prepared = changes(replay.before())?;
                self.publish()?;
                self.prepared = changes(replay.updates())?;
                let expect = replay.effective();
                self.replay = Some(replay);
                Ok(expect)
            }
            // So that subscribers know where they are: nothing is prepared.
            Work::Nothing => Ok(0),
            Work::Load | Work::Messages { .. } => bail!("this publisher changes a loaded table"),
        }
    }

    /// Publishes what was prepared, so many changes in each millisecond.
    fn publish_paced(&mut self, per_turn: usize) -> Result<()> {
        let mut load = self.admin.load(&LoadOptions { force: true, ..LoadOptions::default() });
        let mut next = Instant::now();
        for turn in std::mem::take(&mut self.prepared).chunks(per_turn) {
            for change in turn {
                ensure!(load.push(change)?, "the daemon ended the stream");
            }
            ensure!(load.flush()?, "the daemon ended the stream");
            next += TURN;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        self.revision = load.finish(false)?.revision.0;
        Ok(())
    }

    /// Publishes what was prepared. Refused are only deletes of what is absent,
    /// which the trace has.
    fn publish(&mut self) -> Result<()> {
        let options = LoadOptions { force: true, ..LoadOptions::default() };
        let mut load = self.admin.load(&options);
        for change in std::mem::take(&mut self.prepared) {
            ensure!(load.push(&change)?, "the daemon ended the stream");
        }
        let done = load.finish(false)?;
        // One transaction a change, or what subscribers wait for is not what comes; and one
        // at the end, or a few, in which groups go that nobody uses any more.
        let made = done.revision.0 - self.revision;
        ensure!(
            self.revision == 0 || (0..=COLLECTIONS).contains(&made.wrapping_sub(done.applied)),
            "{} changes applied in {made} revisions: {}",
            done.applied,
            done.text
        );
        self.revision = done.revision.0;
        Ok(())
    }

    fn one_by_one(&mut self, stamps: &Stamps) -> Result<()> {
        let prefix = Prefix { address: [192, 0, 2, 1].into(), length: 32 };
        let update = |gateway: Option<u64>| {
            let to = gateway.map(|gateway| NextHop::numbered(gateway, 0, prefix.address));
            change(Update { prefix, to })
        };
        let updates = [update(Some(0))?, update(Some(1))?];
        // One stream, each change of which is applied when it comes; the answer
        // counts them at the end.
        let mut load = self.admin.load(&LoadOptions::default());
        load.flush()?;
        for sample in 0..stamps.samples() {
            stamps.written(sample, now_ns());
            load.push(&updates[sample % 2])?;
            ensure!(load.flush()?, "the daemon ended the stream");
            stamps.wait(sample, PATIENCE)?;
        }
        let done = load.finish(false)?;
        ensure!(done.applied == stamps.samples() as u64, "an update was refused: {}", done.text);
        let done = self.admin.change(&update(None)?)?;
        applied(&done)?;
        self.revision = done.revision.0;
        Ok(())
    }
}

fn applied(done: &Done) -> Result<()> {
    ensure!(done.code == 0 && done.applied == 1, "an update was refused: {}", done.text);
    Ok(())
}

fn changes(updates: &[Update]) -> Result<Vec<Change>> {
    updates.iter().copied().map(change).collect()
}

fn change(update: Update) -> Result<Change> {
    let prefix = rtm_model::Prefix::new(update.prefix.address, update.prefix.length)
        .ok()
        .with_context(|| format!("{:?}: no prefix for rtm", update.prefix))?;
    let mut spec = RouteSpec::new(prefix);
    let Some(next_hop) = update.to else { return Ok(Change::Route(Verb::Delete, spec)) };
    let gateway: IpAddr = next_hop.gateway;
    let name = format!("Ethernet{}", next_hop.link + 1);
    let link = LinkName::new(name.as_bytes()).ok().context("no link name")?;
    spec.hops = Hops::One(HopSpec {
        gateway: Some(gateway),
        link: Some(LinkRef::Name(link)),
        weight: 1,
        flags: HopFlags::default(),
    });
    Ok(Change::Route(Verb::Replace, spec))
}
