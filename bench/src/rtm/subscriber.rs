//! rtm's subscribers.
//!
//! `role rtm-count SOCKET` decodes every record, checks that they come in order
//! and without a gap, and keeps nothing. `role rtm-apply SOCKET` keeps a replica:
//! longest-prefix match and digests, which are compared at every mark. `role
//! rtm-join SOCKET count|apply` comes late, once.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rtm_client::{Address, Event, FollowConfig, Follower, State, Turn};
use rtm_model::EntityKind;
use rtm_tables::wire::records::Records;
use rtm_tables::{ClientConfig, ClientEvent, ClientSession, Progress};

use crate::harness::clock::now_ns;
use crate::harness::tally::{SILENCE_MAX, Tally};
use crate::harness::worker::{Arm, Order, Reply, Until, serve};

/// What a counting subscriber has met since it was armed.
#[derive(Default)]
struct Met {
    routes: u64,
    /// Of all bytes of the routes' records: the same for all subscribers, or one of
    /// them was given something else. (Groups that a stream left behind go after its
    /// last route, when some subscribers have counted and others haven't.)
    checksum: u64,
}

/// A subscriber that keeps nothing: a session on a blocking socket.
struct Counter {
    stream: UnixStream,
    session: ClientSession,
    /// Of the last whole transaction.
    revision: u64,
    met: Met,
}

impl Counter {
    /// Subscribes and takes the whole table in.
    fn follow(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        // No acknowledgements: a barrier has nobody to compare with here.
        let config =
            ClientConfig { name: "bench-count".to_owned(), features: 0, ..ClientConfig::default() };
        let mut session = ClientSession::new(config, 0);
        session.subscribe(None, "");
        let mut counter = Self { stream, session, revision: 0, met: Met::default() };
        while counter.session.progress() != Progress::Live {
            ensure!(counter.step()?, "no snapshot");
        }
        Ok(counter)
    }

    /// One read and all that it brought. False: nothing came for too long.
    fn step(&mut self) -> Result<bool> {
        while !self.session.output().is_empty() {
            let written = self.stream.write(self.session.output())?;
            self.session.transmitted(written);
        }
        match self.stream.read(self.session.space()) {
            Ok(0) => bail!("the daemon hung up"),
            Ok(count) => self.session.received(count, 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let mut live = self.session.progress() == Progress::Live;
        while let Some(event) = self.session.poll_event()? {
            match event {
                ClientEvent::Records(records) => {
                    self.revision = take(records, live, self.revision, &mut self.met)?;
                }
                ClientEvent::Begin { .. } => live = false,
                ClientEvent::End(at) => {
                    live = true;
                    self.revision = at.revision.0;
                }
                ClientEvent::Flush { revision, .. } => self.revision = revision.0,
                ClientEvent::Goodbye { text, .. } => bail!("the daemon says goodbye: {text}"),
                _ => {}
            }
        }
        Ok(true)
    }
}

/// Decodes records; while live each transaction's revision must be the next.
fn take(records: Records<'_>, live: bool, mut revision: u64, met: &mut Met) -> Result<u64> {
    for record in records {
        if matches!(record.kind, EntityKind::Route4 | EntityKind::Route6) {
            met.routes += 1;
            met.checksum = record
                .body
                .chunks_exact(8)
                .filter_map(<[u8]>::first_chunk)
                .fold(met.checksum.rotate_left(5), |sum, word| sum ^ u64::from_le_bytes(*word));
        }
        if live && record.last {
            ensure!(
                record.revision.0 == revision + 1,
                "revision {} after {revision}",
                record.revision.0
            );
            revision = record.revision.0;
        }
    }
    Ok(revision)
}

pub(crate) fn count(socket: &Path) -> Result<()> {
    let mut counter = Counter::follow(socket)?;
    serve(|order, say| {
        let Order::Arm(arm) = order else { bail!("a subscriber can only be armed") };
        ensure!(arm.until == Until::Deliveries, "who keeps nothing has no table");
        let mut tally = Tally::new(&arm)?;
        while counter.revision < arm.after {
            ensure!(counter.step()?, "revision {} never came", arm.after);
        }
        counter.met = Met::default();
        say(Reply::Ready);
        while !tally.done() {
            if !counter.step()? {
                break;
            }
            let new = counter.met.routes - tally.received();
            if new > 0 {
                tally.add(new);
            }
        }
        say(tally.reply(counter.met.checksum));
        Ok(())
    })
}

pub(crate) fn apply(socket: &Path) -> Result<()> {
    let mut follower = follow(socket)?;
    serve(|order, say| {
        let Order::Arm(arm) = order else { bail!("a subscriber can only be armed") };
        let mut tally = Tally::new(&arm)?;
        while revision(&follower) < arm.after {
            turn(&mut follower, &mut |_| {}).and_then(|came| {
                ensure!(came, "revision {} never came", arm.after);
                Ok(())
            })?;
        }
        say(Reply::Ready);
        match arm.until {
            Until::Deliveries => applied_records(&mut follower, &arm, &mut tally)?,
            Until::Table => whole_table(&mut follower, &arm, &mut tally)?,
        }
        say(tally.reply(0));
        Ok(())
    })
}

/// Until the replica has applied as many transactions as are expected; then,
/// outside the clock, until a mark has shown that it is equal.
fn applied_records(follower: &mut Follower, arm: &Arm, tally: &mut Tally) -> Result<()> {
    let before = follower.counts();
    let mut equal_at = 0;
    while !tally.done() || equal_at < arm.after + arm.expect {
        let came = turn(follower, &mut |event| {
            if let Event::Marked { revision } | Event::Synced { revision, .. } = event {
                equal_at = equal_at.max(revision.0);
            }
        })?;
        if !came {
            ensure!(!tally.done(), "no mark at revision {}", arm.after + arm.expect);
            break;
        }
        let new = (revision(follower).saturating_sub(arm.after)).min(arm.expect) - tally.received();
        if new > 0 {
            tally.add(new);
        }
    }
    let counts = follower.counts();
    if counts.catch_ups + counts.snapshots > before.catch_ups + before.snapshots {
        // It fell out of the journal: newest values were applied, not every change.
        tally.conflated(counts.records - before.records);
    }
    Ok(())
}

/// Until the replica has the whole table with equal digests.
fn whole_table(follower: &mut Follower, arm: &Arm, tally: &mut Tally) -> Result<()> {
    while !tally.done() {
        let mut equal = false;
        let came = turn(follower, &mut |event| {
            equal |= matches!(event, Event::Marked { .. } | Event::Synced { .. });
        })?;
        if !came {
            break;
        }
        if equal && follower.state() == State::Live && routes(follower) == arm.expect {
            tally.add(arm.expect);
        }
    }
    Ok(())
}

/// Joins once, in a fresh process, and says from when to when that took.
pub(crate) fn join(socket: &Path, keeps: bool) -> Result<()> {
    let mut keeps_alive = None;
    serve(|order, say| {
        let Order::Join = order else { bail!("a joiner can only join") };
        let begun_ns = now_ns();
        let routes = if keeps {
            let follower = follow(socket)?;
            let routes = routes(&follower);
            keeps_alive = Some(follower);
            routes
        } else {
            Counter::follow(socket)?.met.routes
        };
        say(Reply::Joined { routes, begun_ns, ended_ns: now_ns() });
        Ok(())
    })?;
    drop(keeps_alive);
    Ok(())
}

/// Connects and waits until the replica is equal.
fn follow(socket: &Path) -> Result<Follower> {
    let config = FollowConfig {
        name: "bench-apply".to_owned(),
        reconnect: false,
        ..FollowConfig::default()
    };
    let mut follower = Follower::connect(&Address::Unix(socket.to_owned()), config)?;
    let mut synced = false;
    while !synced {
        let came =
            turn(&mut follower, &mut |event| synced |= matches!(event, Event::Synced { .. }))?;
        ensure!(came, "no snapshot");
    }
    Ok(follower)
}

/// One turn of the follower. False: nothing came for too long. A digest that
/// differs is an error: then there is nothing to measure.
fn turn(follower: &mut Follower, tell: &mut dyn FnMut(&Event<'_>)) -> Result<bool> {
    let mut differed = None;
    let turn = follower.turn(Some(SILENCE_MAX), &[], &mut |event| {
        if let Event::Differed { revision, .. } = event {
            differed = Some(revision);
        }
        tell(&event);
    });
    let turn = turn.context("follow the daemon")?;
    ensure!(differed.is_none(), "the digests differ at {differed:?}");
    Ok(turn != Turn::TimedOut)
}

fn revision(follower: &Follower) -> u64 {
    follower.position().map_or(0, |(_, revision)| revision.0)
}

fn routes(follower: &Follower) -> u64 {
    follower.replica().map_or(0, |replica| {
        let counts = replica.store().counts();
        (counts.routes4 + counts.routes6) as u64
    })
}
