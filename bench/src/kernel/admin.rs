//! The kernel's admin (`role kernel-admin`): owns a network namespace, writes
//! its main table. Subscribers enter the namespace by this process's id.
//!
//! The namespace has no name anywhere: it goes when its last process ends, even
//! if that is killed. At an orderly end the tables are emptied first, here,
//! instead of later and in the background of somebody's sample. Next-hop objects
//! make that a must: the kernel takes a link's objects down one by one and walks
//! the whole table for each that is in use, which took six minutes for 12,800
//! objects and a million routes, with the lock held that all network
//! configuration of the machine needs. Therefore this process ignores the
//! signals that end the bench, and ends at the end of its input.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::netlink::{Netlink, new_namespace};
use super::rtnetlink::{self, NLMSG_ERROR, NextHops};
use crate::changes::{Mirror, Replay};
use crate::harness::clock::now_ns;
use crate::harness::stamps::Stamps;
use crate::harness::worker::{Order, Reply, Work, outlive_parent, serve};
use crate::routes::{self, GATEWAYS, LINKS, NextHop, Prefix, Update};

/// Bytes of messages that one `sendmsg` hands over. Larger ones gained nothing.
const BATCH_BYTES: usize = 64 * 1024;
/// The group of all links of the bench, so that one request deletes them together.
const LINK_GROUP: u32 = 77;
/// The slowest batch: a thousand routes to hundreds of subscribers on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whole messages, the last of them asking for an acknowledgement.
struct Batch(Vec<u8>);

struct Admin {
    socket: Netlink,
    next_hops: NextHops,
    mirror: Mirror,
    replay: Option<Replay>,
    data: std::path::PathBuf,
    prepared: Vec<Batch>,
}

/// Serves orders until the bench ends. `objects`: routes use next-hop objects;
/// `loaded`: the table is loaded before the first order.
pub(crate) fn run(
    data: &Path,
    routes_max: Option<usize>,
    objects: bool,
    loaded: bool,
) -> Result<()> {
    outlive_parent()?;
    new_namespace().context("a network namespace needs root")?;
    let mirror = Mirror::new(routes::table(data, routes_max)?);
    let next_hops = make_next_hops(objects)?;
    let socket = Netlink::open()?;
    socket.force_buffers(16 << 20, 16 << 20)?;
    socket.patience(PATIENCE)?;
    let mut admin = Admin {
        socket,
        next_hops,
        mirror,
        replay: None,
        data: data.to_owned(),
        prepared: Vec::new(),
    };
    if loaded {
        admin.prepare_load();
        admin.publish()?;
    }
    let served = serve(|order, say| {
        match order {
            Order::Prepare(work) => {
                let expect = admin.prepare(work)?;
                say(Reply::Prepared { expect, after: 0 });
            }
            Order::Publish => {
                let begun_ns = now_ns();
                admin.publish()?;
                say(Reply::Published { begun_ns });
            }
            Order::OneByOne(address) => {
                let stamps = Stamps::open(&address)?;
                let begun_ns = now_ns();
                admin.one_by_one(&stamps)?;
                say(Reply::Published { begun_ns });
            }
            Order::Arm(_) | Order::Join | Order::PublishPaced { .. } => {
                bail!("an admin neither subscribes nor paces")
            }
        }
        Ok(())
    });
    served.and(admin.clear())
}

impl Admin {
    /// Empties the tables: routes that hold next-hop objects one by one, others
    /// with their links.
    fn clear(&mut self) -> Result<()> {
        if self.next_hops.objects {
            let prefixes = self.mirror.base().iter().map(|route| route.prefix);
            self.prepared = self.encode(prefixes.map(|prefix| Update { prefix, to: None }));
            self.publish()?;
        }
        delete_links()
    }

    fn prepare(&mut self, work: Work) -> Result<u64> {
        match work {
            Work::Load => {
                self.clear()?;
                self.next_hops = make_next_hops(self.next_hops.objects)?;
                self.mirror.reset();
                self.prepare_load();
                Ok(self.mirror.base().len() as u64)
            }
            Work::Random { seed, count } => {
                let changes = self.mirror.random(seed, count);
                self.prepared = self.encode(changes);
                Ok(count as u64)
            }
            Work::Trace => {
                let replay = match self.replay.take() {
                    Some(replay) => replay,
                    None => Replay::new(self.mirror.base(), routes::trace(&self.data)?),
                };
                self.prepared = self.encode(replay.before().iter().copied());
                self.publish()?;
                self.prepared = self.encode(replay.updates().iter().copied());
                let expect = replay.effective();
                self.replay = Some(replay);
                Ok(expect)
            }
            Work::Nothing => Ok(0),
            Work::Messages { .. } => bail!("the kernel carries routes only"),
        }
    }

    fn prepare_load(&mut self) {
        self.prepared = self.encode(
            self.mirror
                .base()
                .iter()
                .map(|route| Update { prefix: route.prefix, to: Some(route.next_hop) }),
        );
    }

    /// Sends what was prepared. A delete of an absent route is refused by the
    /// kernel, which the trace has and nobody minds; any other refusal is an error.
    fn publish(&mut self) -> Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        for batch in std::mem::take(&mut self.prepared) {
            self.socket.send(&batch.0).context("send a batch")?;
            let mut acknowledged = false;
            while !acknowledged {
                let length =
                    self.socket.receive(&mut buffer).context("receive an acknowledgement")?;
                for message in rtnetlink::messages(&buffer[..length]) {
                    ensure!(message.kind == NLMSG_ERROR, "unexpected message {}", message.kind);
                    match -message.error() {
                        0 => acknowledged = true,
                        libc::ESRCH => acknowledged |= asked_ack(message.body),
                        errno => {
                            bail!("route refused: {}", std::io::Error::from_raw_os_error(errno))
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives one route another next hop, again and again, each time waiting for
    /// the kernel's acknowledgement and for the last subscriber.
    fn one_by_one(&mut self, stamps: &Stamps) -> Result<()> {
        let prefix = Prefix { address: [192, 0, 2, 1].into(), length: 32 };
        let message = |admin: &Self, gateway: Option<u64>| {
            let mut bytes = Vec::new();
            let to = gateway.map(|gateway| NextHop::numbered(gateway, 0, prefix.address));
            rtnetlink::push_route(&mut bytes, prefix, to, &admin.next_hops);
            rtnetlink::ask_ack(&mut bytes, 0);
            bytes
        };
        let messages = [message(self, Some(0)), message(self, Some(1))];
        let mut buffer = [0; 4096];
        for sample in 0..stamps.samples() {
            stamps.written(sample, now_ns());
            self.socket.send(&messages[sample % 2])?;
            let length = self.socket.receive(&mut buffer)?;
            let refused =
                rtnetlink::messages(&buffer[..length]).any(|message| message.error() != 0);
            ensure!(!refused, "an update was refused");
            stamps.wait(sample, PATIENCE)?;
        }
        self.socket.send(&message(self, None))?;
        self.socket.receive(&mut buffer)?;
        Ok(())
    }

    fn encode(&self, updates: impl IntoIterator<Item = Update>) -> Vec<Batch> {
        let mut batches = Vec::new();
        let mut bytes = Vec::with_capacity(BATCH_BYTES);
        let mut last = 0;
        for update in updates {
            if bytes.len() >= BATCH_BYTES {
                rtnetlink::ask_ack(&mut bytes, last);
                batches.push(Batch(std::mem::take(&mut bytes)));
            }
            last = bytes.len();
            rtnetlink::push_route(&mut bytes, update.prefix, update.to, &self.next_hops);
        }
        if !bytes.is_empty() {
            rtnetlink::ask_ack(&mut bytes, last);
            batches.push(Batch(bytes));
        }
        batches
    }
}

/// Whether a refused message was the one that asked for the acknowledgement: the
/// answer repeats its header after the error number.
fn asked_ack(error: &[u8]) -> bool {
    error.get(4 + 6).is_some_and(|flags| u16::from(*flags) & rtnetlink::NLM_F_ACK != 0)
}

/// 32 links that are up: 16 pairs of veth, because a peer that is up is what
/// gives a link its carrier. Where wanted, a next-hop object for each next hop of the rule.
fn make_next_hops(objects: bool) -> Result<NextHops> {
    let mut batch = String::from("link set lo up\n");
    for pair in 0..LINKS / 2 {
        let (left, right) = (2 * pair + 1, 2 * pair + 2);
        batch += &format!("link add Ethernet{left} type veth peer name Ethernet{right}\n");
        batch += &format!("link set Ethernet{left} group {LINK_GROUP} up\n");
        batch += &format!("link set Ethernet{right} group {LINK_GROUP} up\n");
    }
    if objects {
        for family in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
            for number in 0..GATEWAYS * LINKS {
                let next_hop = NextHop::numbered(number / LINKS, number % LINKS, family);
                let id = NextHops::object(next_hop).context("no number")?;
                let (gateway, link) = (next_hop.gateway, next_hop.link + 1);
                batch += &format!("nexthop add id {id} via {gateway} dev Ethernet{link} onlink\n");
            }
        }
    }
    ip(&batch)?;
    let links = (1..=LINKS)
        .map(|number| {
            let path = format!("/proc/self/net/dev_snmp6/Ethernet{number}");
            let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
            let index = text.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok());
            index.with_context(|| format!("{path}: no ifIndex"))
        })
        .collect::<Result<_>>()?;
    Ok(NextHops { links, objects })
}

fn delete_links() -> Result<()> {
    ip(&format!("link delete group {LINK_GROUP}\n"))
}

/// Runs `ip -batch -` in this process's namespace.
fn ip(batch: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("ip (package iproute2)")?;
    child.stdin.take().context("no standard input")?.write_all(batch.as_bytes())?;
    let status = child.wait()?;
    ensure!(status.success(), "ip -batch: {status}");
    Ok(())
}
