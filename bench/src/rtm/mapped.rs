//! Followers that map the image (`role rtm-mapped SOCKET HOW`): they have no copy
//! and read what changes out of the ring. `asleep`: they wait at the futex and are
//! woken by each turn. `awake`: they come by in a loop of their own, each 10 ms,
//! as a data plane does between bursts of packets.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rtm_client::{
    Address, Event, FollowConfig, Follower, Reader, RingEvent, RingFollower, Turn, WAIT_MAX,
};
use rtm_model::EntityKind;

use crate::harness::tally::{SILENCE_MAX, Tally};
use crate::harness::worker::{Order, Reply, Until, serve};

/// Between two looks of one that is awake.
const ROUND: Duration = Duration::from_millis(10);

/// What is deduced from the ring.
struct Mapped {
    follower: Follower,
    ring: RingFollower,
    routes: u64,
    /// Of the last change seen, or of the tables after something was missed.
    revision: u64,
}

impl Mapped {
    fn follow(socket: &Path) -> Result<Self> {
        let config = FollowConfig {
            name: "bench-mapped".to_owned(),
            filter: "none".to_owned(),
            replica: false,
            image: true,
            reconnect: false,
            ..FollowConfig::default()
        };
        let mut follower = Follower::connect(&Address::Unix(socket.to_owned()), config)?;
        while follower.image().is_none() {
            let turn = follower.turn(Some(SILENCE_MAX), &[], &mut |_| {})?;
            ensure!(turn != Turn::TimedOut, "no image");
        }
        let image = follower.image().context("no image")?;
        let ring = RingFollower::new(image);
        let revision = shown(image)?;
        Ok(Self { follower, ring, routes: 0, revision })
    }

    /// What came since, if anything.
    fn poll(&mut self) -> Result<()> {
        let (mut routes, mut revision, mut reread) = (0, self.revision, false);
        self.ring.poll(|event| match event {
            RingEvent::Record(record) => {
                let is_route = matches!(record.kind, EntityKind::Route4 | EntityKind::Route6);
                routes += u64::from(is_route);
                revision = record.revision.0;
            }
            RingEvent::Flushed { revision: at, .. } => revision = at.0,
            RingEvent::Reread => reread = true,
            _ => {}
        });
        self.routes += routes;
        self.revision = revision;
        if reread {
            // It would read the tables now; what it missed doesn't count.
            self.revision = shown(self.follower.image().context("no image")?)?;
        }
        Ok(())
    }

    fn pause(&mut self, asleep: bool) -> Result<()> {
        if self.follower.image().is_some_and(Reader::writer_moved) {
            // Nobody is woken here any more: the newer one comes over the socket.
            let ring = &mut self.ring;
            self.follower.turn(Some(WAIT_MAX), &[], &mut |event| {
                if let Event::Attached { image } = event {
                    ring.attached(image);
                }
            })?;
        } else if asleep {
            self.ring.wait(WAIT_MAX)?;
        } else {
            thread::sleep(ROUND);
        }
        Ok(())
    }
}

fn shown(image: &Reader) -> Result<u64> {
    Ok(image.state()?.revision)
}

pub(crate) fn run(socket: &Path, asleep: bool) -> Result<()> {
    let mut mapped = Mapped::follow(socket)?;
    serve(|order, say| {
        let Order::Arm(arm) = order else { bail!("a subscriber can only be armed") };
        ensure!(arm.until == Until::Deliveries, "who keeps nothing has no table");
        let mut tally = Tally::new(&arm)?;
        let mut patience = Instant::now();
        // It may have done nothing since the last time: begin at the end.
        mapped.ring = RingFollower::new(mapped.follower.image().context("no image")?);
        mapped.revision = shown(mapped.follower.image().context("no image")?)?;
        while mapped.revision < arm.after {
            ensure!(patience.elapsed() < SILENCE_MAX, "revision {} never came", arm.after);
            mapped.poll()?;
            mapped.pause(asleep)?;
        }
        mapped.routes = 0;
        say(Reply::Ready);
        patience = Instant::now();
        while mapped.revision < arm.after + arm.expect {
            mapped.poll()?;
            let new = mapped.routes - tally.received();
            if new > 0 {
                tally.add(new);
                patience = Instant::now();
            } else if patience.elapsed() > SILENCE_MAX {
                break;
            }
            // Asleep only if nothing has come meanwhile.
            if asleep || new == 0 {
                mapped.pause(asleep)?;
            }
        }
        say(tally.reply(0));
        Ok(())
    })
}
