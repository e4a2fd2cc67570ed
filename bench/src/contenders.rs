//! The contenders that are made of workers: one publisher, N subscribers.
//!
//! They differ between rivals only in the roles that are started, so each way of
//! measuring exists once, for all of them.

use anyhow::{Context, Result, bail, ensure};

use crate::broker::protocol::Protocol;
use crate::broker::server::Server;
use crate::harness::rounds::{Contender, Sample, Unit};
use crate::harness::stamps::Stamps;
use crate::harness::stats;
use crate::harness::worker::{Arm, Order, Reply, Work, Worker};
use crate::setup::Setup;

/// How the kernel's routes name their next hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextHops {
    /// Gateway and link in each route, as `ip route add` writes them.
    Plain,
    /// By next-hop objects, which the kernel finds faster where there are
    /// thousands of them; their making is not timed.
    Objects,
}

impl NextHops {
    /// The name that `--only` takes and tables show.
    pub(crate) fn contender(self) -> &'static str {
        match self {
            Self::Plain => "kernel",
            Self::Objects => "kernel-nh",
        }
    }
}

/// A publisher and its subscribers. Fields are dropped in this order: nobody
/// loses the other end before it has ended itself.
pub(crate) struct Group {
    name: &'static str,
    subscribers: Vec<Worker>,
    publisher: Worker,
    /// A server in between, where the publisher is not it.
    _server: Option<Server>,
}

impl Group {
    /// The kernel with so many subscribers; `loaded`: with the table in it.
    pub(crate) fn kernel(
        setup: &Setup,
        next_hops: NextHops,
        subscribers: usize,
        loaded: bool,
    ) -> Result<Self> {
        let publisher = kernel_admin(setup, next_hops, loaded)?;
        let pid = publisher.pid().to_string();
        let row = vec!["kernel-count".to_owned(), pid];
        let subscribers = Worker::start_all(&vec![row; subscribers])?;
        Ok(Self { name: next_hops.contender(), subscribers, publisher, _server: None })
    }

    /// A broker with so many subscribers.
    pub(crate) fn broker(setup: &Setup, protocol: Protocol, subscribers: usize) -> Result<Self> {
        let server = Server::start(protocol, setup.directory())?;
        let address = server.address().to_owned();
        let publisher = Worker::start(&["broker-publish", protocol.name(), &address])?;
        let row = vec!["broker-count".to_owned(), protocol.name().to_owned(), address];
        let subscribers = Worker::start_all(&vec![row; subscribers])?;
        Ok(Self { name: protocol.name(), subscribers, publisher, _server: Some(server) })
    }

    /// Publishes `work` to all subscribers, from the publisher's first write to
    /// the last subscriber's last delivery.
    fn publish(&mut self, work: Work) -> Result<Delivered> {
        self.publisher.send(&Order::Prepare(work))?;
        let Reply::Prepared { expect } = self.publisher.receive()? else {
            bail!("the publisher did not prepare");
        };
        Worker::arm_all(&mut self.subscribers, |_| Arm { expect, stamps: None })?;
        self.publisher.send(&Order::Publish)?;
        let Reply::Published { begun_ns } = self.publisher.receive()? else {
            bail!("the publisher did not publish");
        };
        let mut delivered = Delivered { received: 0, lost: 0, begun_ns, ended_ns: begun_ns };
        for subscriber in &mut self.subscribers {
            let Reply::Counted { received, last_ns, overruns } = subscriber.receive()? else {
                bail!("a subscriber did not count");
            };
            if overruns > 0 {
                eprintln!("{}: {overruns} overruns of a subscriber's buffer", self.name);
            }
            delivered.received += received;
            delivered.lost += expect - received.min(expect);
            delivered.ended_ns = delivered.ended_ns.max(last_ns);
        }
        Ok(delivered)
    }
}

struct Delivered {
    received: u64,
    lost: u64,
    begun_ns: u64,
    ended_ns: u64,
}

/// Deliveries a second, or the time until all have everything.
pub(crate) struct FanOut {
    pub(crate) group: Group,
    pub(crate) unit: Unit,
    /// What is published in a round.
    pub(crate) work: Box<dyn Fn(u64) -> Work>,
}

impl Contender for FanOut {
    fn name(&self) -> &str {
        self.group.name
    }

    fn sample(&mut self, round: u64) -> Result<Sample> {
        let delivered = self.group.publish((self.work)(round))?;
        let seconds = (delivered.ended_ns - delivered.begun_ns) as f64 / 1e9;
        let value = match self.unit {
            Unit::Seconds => seconds,
            Unit::DeliveriesPerSecond => delivered.received as f64 / seconds,
            other => bail!("a fan-out has no {other:?}"),
        };
        ensure!(value.is_finite(), "nothing was delivered");
        Ok(Sample { value, lost: delivered.lost })
    }
}

/// One update at a time: the median time until the last subscriber has it, in
/// microseconds.
pub(crate) struct OneByOne {
    pub(crate) group: Group,
    pub(crate) updates: usize,
}

impl Contender for OneByOne {
    fn name(&self) -> &str {
        self.group.name
    }

    fn sample(&mut self, _round: u64) -> Result<Sample> {
        let stamps = Stamps::create(self.group.subscribers.len(), self.updates)?;
        Worker::arm_all(&mut self.group.subscribers, |which| Arm {
            expect: self.updates as u64,
            stamps: Some((stamps.address(), which)),
        })?;
        self.group.publisher.send(&Order::OneByOne(stamps.address()))?;
        let Reply::Published { .. } = self.group.publisher.receive()? else {
            bail!("the publisher did not publish");
        };
        for subscriber in &mut self.group.subscribers {
            subscriber.receive()?;
        }
        let mut latencies = stamps.last_latencies_ns();
        let median = stats::quantile(&mut latencies, 0.5).context("no updates")?;
        Ok(Sample { value: median as f64 / 1e3, lost: 0 })
    }
}

/// The kernel's late joiner: seconds from its socket to the end of both dumps.
pub(crate) struct KernelJoin {
    joiner: Worker,
    routes: u64,
    _admin: Worker,
}

impl KernelJoin {
    pub(crate) fn new(setup: &Setup) -> Result<Self> {
        let admin = kernel_admin(setup, NextHops::Plain, true)?;
        let joiner = Worker::start(&["kernel-join", &admin.pid().to_string()])?;
        Ok(Self { joiner, routes: setup.routes()?.len() as u64, _admin: admin })
    }
}

impl Contender for KernelJoin {
    fn name(&self) -> &str {
        "kernel"
    }

    fn sample(&mut self, _round: u64) -> Result<Sample> {
        self.joiner.send(&Order::Join)?;
        let Reply::Joined { routes, begun_ns, ended_ns } = self.joiner.receive()? else {
            bail!("the joiner did not join");
        };
        Ok(Sample {
            value: (ended_ns - begun_ns) as f64 / 1e9,
            lost: self.routes - routes.min(self.routes),
        })
    }
}

fn kernel_admin(setup: &Setup, next_hops: NextHops, loaded: bool) -> Result<Worker> {
    let data = setup.data().to_str().context("the data's path is no text")?;
    let routes_max = setup.routes_max().map_or("all".to_owned(), |max| max.to_string());
    let state = if loaded { "loaded" } else { "empty" };
    Worker::start(&["kernel-admin", data, &routes_max, next_hops.contender(), state])
}
