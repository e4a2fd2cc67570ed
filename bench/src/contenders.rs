//! The contenders that are made of workers: one publisher, N subscribers.
//!
//! They differ between rivals only in the roles that are started, so each way of
//! measuring exists once, for all of them.

use anyhow::{Context, Result, bail, ensure};

use crate::broker::protocol::Protocol;
use crate::broker::server::Server;
use crate::harness::machine;
use crate::harness::rounds::{Contender, Sample, Unit};
use crate::harness::stamps::Stamps;
use crate::harness::stats;
use crate::harness::worker::{Arm, Order, Reply, Until, Work, Worker};
use crate::rtm::{self, Daemon};
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

/// Changes that go past silent subscribers before anything is measured: more
/// than the journal holds.
const SILENT_CHANGES: usize = 50_000;
const SILENT_SLICES: u64 = 30;

/// A publisher and its subscribers. Fields are dropped in this order: nobody
/// loses the other end before it has ended itself.
pub(crate) struct Group {
    name: String,
    subscribers: Vec<Worker>,
    publisher: Worker,
    /// Others that are connected and do nothing.
    _silent: Option<Worker>,
    /// What stands in between, where the publisher is not it.
    _between: Between,
}

/// The process between publisher and subscribers, kept for its `Drop`.
enum Between {
    Nobody,
    Broker { _server: Server },
    Daemon { _daemon: Daemon },
}

/// What an rtm subscriber does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// Decodes every record, checks the order, keeps nothing.
    Nothing,
    /// A replica, compared at every mark.
    Replica,
}

impl Group {
    /// The kernel with so many subscribers; with `table` in it.
    pub(crate) fn kernel(
        setup: &Setup,
        next_hops: NextHops,
        subscribers: usize,
        table: Table,
    ) -> Result<Self> {
        let publisher = kernel_admin(setup, next_hops, table)?;
        let pid = publisher.pid().to_string();
        let row = vec!["kernel-count".to_owned(), pid];
        let subscribers = Worker::start_all(&vec![row; subscribers])?;
        Ok(Self {
            name: next_hops.contender().to_owned(),
            subscribers,
            publisher,
            _silent: None,
            _between: Between::Nobody,
        })
    }

    /// A broker with so many subscribers.
    pub(crate) fn broker(setup: &Setup, protocol: Protocol, subscribers: usize) -> Result<Self> {
        let server = Server::start(protocol, setup.directory())?;
        let address = server.address().to_owned();
        let publisher = Worker::start(&["broker-publish", protocol.name(), &address])?;
        let row = vec!["broker-count".to_owned(), protocol.name().to_owned(), address];
        let subscribers = Worker::start_all(&vec![row; subscribers])?;
        Ok(Self {
            name: protocol.name().to_owned(),
            subscribers,
            publisher,
            _silent: None,
            _between: Between::Broker { _server: server },
        })
    }

    /// rtm with so many subscribers.
    pub(crate) fn rtm(
        setup: &Setup,
        name: &str,
        keeps: Keeps,
        subscribers: usize,
        table: Table,
    ) -> Result<Self> {
        let daemon = Daemon::start(setup)?;
        let socket = rtm::text(&daemon.socket())?;
        let data = rtm::text(setup.data())?;
        let publisher =
            Worker::start(&["rtm-admin", &socket, &data, &table.routes(setup), table.state()])?;
        let role = match keeps {
            Keeps::Nothing => "rtm-count",
            Keeps::Replica => "rtm-apply",
        };
        let row = vec![role.to_owned(), socket];
        let subscribers = Worker::start_all(&vec![row; subscribers])?;
        Ok(Self {
            name: name.to_owned(),
            subscribers,
            publisher,
            _silent: None,
            _between: Between::Daemon { _daemon: daemon },
        })
    }

    /// rtm with so many followers that map the image.
    pub(crate) fn mapped(
        setup: &Setup,
        name: &str,
        followers: usize,
        asleep: bool,
        table: Table,
    ) -> Result<Self> {
        let mut group = Self::rtm(setup, name, Keeps::Nothing, 0, table)?;
        let Between::Daemon { _daemon: daemon } = &group._between else {
            bail!("no daemon");
        };
        let how = if asleep { "asleep" } else { "awake" };
        let row = vec!["rtm-mapped".to_owned(), rtm::text(&daemon.socket())?, how.to_owned()];
        group.subscribers = Worker::start_all(&vec![row; followers])?;
        Ok(group)
    }

    /// The daemon and its publisher on the first processor, the followers on the others.
    pub(crate) fn apart(self) -> Result<Self> {
        let Between::Daemon { _daemon: daemon } = &self._between else {
            bail!("no daemon");
        };
        let followers: Vec<u32> = self.subscribers.iter().map(Worker::pid).collect();
        machine::keep_apart(&[daemon.pid(), self.publisher.pid()], &followers)?;
        Ok(self)
    }

    /// Lets a process ask for the image, which is kept in step from then on.
    pub(crate) fn with_image(self) -> Result<Self> {
        let Between::Daemon { _daemon: daemon } = &self._between else {
            bail!("only rtm has an image");
        };
        daemon.ask_for_image()?;
        Ok(self)
    }

    /// Lets so many come that never read, while changes are published.
    pub(crate) fn with_silent(mut self, count: usize) -> Result<Self> {
        let Between::Daemon { _daemon: daemon } = &self._between else {
            bail!("only rtm knows silent ones");
        };
        let mut silent =
            Worker::start(&["rtm-silent", &rtm::text(&daemon.socket())?, &count.to_string()])?;
        silent.send(&Order::Join)?;
        for seed in 0..SILENT_SLICES {
            self.publish(Work::Random { seed, count: SILENT_CHANGES }, &Order::Publish)?;
        }
        let Reply::Joined { .. } = silent.receive()? else { bail!("the silent ones did not join") };
        self._silent = Some(silent);
        Ok(self)
    }

    /// Publishes `work` to all subscribers, from the publisher's first write to
    /// the last subscriber's last delivery.
    fn publish(&mut self, work: Work, order: &Order) -> Result<Delivered> {
        self.publisher.send(&Order::Prepare(work))?;
        let Reply::Prepared { expect, after } = self.publisher.receive()? else {
            bail!("the publisher did not prepare");
        };
        let until = Until::Deliveries;
        Worker::arm_all(&mut self.subscribers, |_| Arm { expect, after, until, stamps: None })?;
        self.publisher.send(order)?;
        let Reply::Published { begun_ns } = self.publisher.receive()? else {
            bail!("the publisher did not publish");
        };
        let mut delivered = Delivered { received: 0, lost: 0, begun_ns, ended_ns: begun_ns };
        let mut checksums = Vec::new();
        for subscriber in &mut self.subscribers {
            let Reply::Counted { received, last_ns, overruns, checksum } = subscriber.receive()?
            else {
                bail!("a subscriber did not count");
            };
            checksums.push(checksum);
            if overruns > 0 {
                eprintln!("{}: {overruns} overruns of a subscriber's buffer", self.name);
            }
            delivered.received += received;
            delivered.lost += expect - received.min(expect);
            delivered.ended_ns = delivered.ended_ns.max(last_ns);
        }
        checksums.dedup();
        ensure!(checksums.len() <= 1, "the subscribers were not all given the same");
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
        &self.group.name
    }

    fn sample(&mut self, round: u64) -> Result<Sample> {
        let delivered = self.group.publish((self.work)(round), &Order::Publish)?;
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

/// What the daemon's processor time is set against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Per {
    Change,
    Delivery,
}

/// The daemon's processor time, in nanoseconds, for random changes.
pub(crate) struct Processor {
    pub(crate) group: Group,
    pub(crate) changes: usize,
    /// So many in each millisecond; `None`: as fast as they are taken.
    pub(crate) per_turn: Option<usize>,
    pub(crate) per: Per,
}

impl Contender for Processor {
    fn name(&self) -> &str {
        &self.group.name
    }

    fn sample(&mut self, round: u64) -> Result<Sample> {
        let order =
            self.per_turn.map_or(Order::Publish, |per_turn| Order::PublishPaced { per_turn });
        let time = |group: &Group| match &group._between {
            Between::Daemon { _daemon: daemon } => daemon.processor_ns(),
            _ => bail!("no daemon"),
        };
        let before = time(&self.group)?;
        let work = Work::Random { seed: round, count: self.changes };
        let delivered = self.group.publish(work, &order)?;
        let spent = time(&self.group)? - before;
        let per = match self.per {
            Per::Change => self.changes as u64,
            Per::Delivery => delivered.received,
        };
        ensure!(per > 0, "nothing was delivered");
        Ok(Sample { value: spent as f64 / per as f64, lost: delivered.lost })
    }
}

/// One update at a time: the time until the last subscriber has it, in
/// microseconds.
pub(crate) struct OneByOne {
    pub(crate) group: Group,
    pub(crate) updates: usize,
    /// Which of the times is the figure: 0.5 is the median.
    pub(crate) quantile: f64,
    /// So many come late, all at once, as soon as the updates begin.
    pub(crate) crowd: usize,
}

impl Contender for OneByOne {
    fn name(&self) -> &str {
        &self.group.name
    }

    fn sample(&mut self, _round: u64) -> Result<Sample> {
        let group = &mut self.group;
        group.publisher.send(&Order::Prepare(Work::Nothing))?;
        let Reply::Prepared { after, .. } = group.publisher.receive()? else {
            bail!("the publisher did not prepare");
        };
        let stamps = Stamps::create(group.subscribers.len(), self.updates)?;
        Worker::arm_all(&mut group.subscribers, |which| Arm {
            expect: self.updates as u64,
            after,
            until: Until::Deliveries,
            stamps: Some((stamps.address(), which)),
        })?;
        let mut crowd = Vec::new();
        if self.crowd > 0 {
            let Between::Daemon { _daemon: daemon } = &group._between else {
                bail!("only rtm is joined by a crowd here");
            };
            let row = vec!["rtm-join".to_owned(), rtm::text(&daemon.socket())?, "count".to_owned()];
            crowd = Worker::start_all(&vec![row; self.crowd])?;
            crowd.iter_mut().try_for_each(|joiner| joiner.send(&Order::Join))?;
        }
        group.publisher.send(&Order::OneByOne(stamps.address()))?;
        // Updates after the last of the crowd has its table tell nothing of it.
        let mut until_ns = if crowd.is_empty() { u64::MAX } else { 0 };
        for joiner in &mut crowd {
            let Reply::Joined { ended_ns, .. } = joiner.receive()? else {
                bail!("a joiner did not join");
            };
            until_ns = until_ns.max(ended_ns);
        }
        let Reply::Published { .. } = group.publisher.receive()? else {
            bail!("the publisher did not publish");
        };
        for subscriber in &mut group.subscribers {
            subscriber.receive()?;
        }
        let mut latencies = stamps.last_latencies_ns(until_ns);
        let figure = stats::quantile(&mut latencies, self.quantile).context("no updates")?;
        Ok(Sample { value: figure as f64 / 1e3, lost: 0 })
    }
}

/// Late joiners: seconds from the first one's connect until the last has the
/// whole table. Each sample has fresh processes; starting them is not timed.
pub(crate) struct Join {
    name: &'static str,
    joiner: Vec<String>,
    joiners: usize,
    routes: u64,
    _admin: Worker,
    _between: Between,
}

impl Join {
    /// The kernel's: they subscribe, dump, and count.
    pub(crate) fn kernel(setup: &Setup, joiners: usize) -> Result<Self> {
        let admin = kernel_admin(setup, NextHops::Plain, Table::Loaded)?;
        Ok(Self {
            name: "kernel",
            joiner: vec!["kernel-join".to_owned(), admin.pid().to_string()],
            joiners,
            routes: setup.routes()?.len() as u64,
            _admin: admin,
            _between: Between::Nobody,
        })
    }

    /// rtm's.
    pub(crate) fn rtm(setup: &Setup, keeps: Keeps, joiners: usize) -> Result<Self> {
        let daemon = Daemon::start(setup)?;
        let socket = rtm::text(&daemon.socket())?;
        let data = rtm::text(setup.data())?;
        let table = Table::Loaded;
        let admin =
            Worker::start(&["rtm-admin", &socket, &data, &table.routes(setup), table.state()])?;
        let how = match keeps {
            Keeps::Nothing => "count",
            Keeps::Replica => "apply",
        };
        Ok(Self {
            name: "rtm",
            joiner: vec!["rtm-join".to_owned(), socket, how.to_owned()],
            joiners,
            routes: setup.routes()?.len() as u64,
            _admin: admin,
            _between: Between::Daemon { _daemon: daemon },
        })
    }
}

impl Contender for Join {
    fn name(&self) -> &str {
        self.name
    }

    fn sample(&mut self, _round: u64) -> Result<Sample> {
        let mut workers = Worker::start_all(&vec![self.joiner.clone(); self.joiners])?;
        workers.iter_mut().try_for_each(|worker| worker.send(&Order::Join))?;
        let (mut first_ns, mut last_ns, mut lost) = (u64::MAX, 0, 0);
        for worker in &mut workers {
            let Reply::Joined { routes, begun_ns, ended_ns } = worker.receive()? else {
                bail!("a joiner did not join");
            };
            first_ns = first_ns.min(begun_ns);
            last_ns = last_ns.max(ended_ns);
            lost += self.routes - routes.min(self.routes);
        }
        Ok(Sample { value: (last_ns - first_ns) as f64 / 1e9, lost })
    }
}

/// What is in the table before the first sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Empty,
    /// The real table (or as much of it as the whole run was told to take).
    Loaded,
    /// About so many of its routes, evenly spread.
    Part(usize),
}

impl Table {
    /// As the roles of publishers take it: a number or `all`.
    fn routes(self, setup: &Setup) -> String {
        let max = match self {
            Self::Part(routes) => Some(routes.min(setup.routes_max().unwrap_or(routes))),
            Self::Empty | Self::Loaded => setup.routes_max(),
        };
        max.map_or("all".to_owned(), |max| max.to_string())
    }

    fn state(self) -> &'static str {
        if self == Self::Empty { "empty" } else { "loaded" }
    }
}

/// The kernel's admin with `table` in its namespace.
pub(crate) fn kernel_admin(setup: &Setup, next_hops: NextHops, table: Table) -> Result<Worker> {
    let data = rtm::text(setup.data())?;
    let routes = table.routes(setup);
    Worker::start(&["kernel-admin", &data, &routes, next_hops.contender(), table.state()])
}
