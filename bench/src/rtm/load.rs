//! Loading as an operator does it: `rtm route load FILE --spread`, from the
//! start of that process until every subscriber has the table with equal
//! digests. The file is read, unpacked and parsed within that time.

use std::fs;

use anyhow::{Context, Result, bail, ensure};

use super::{Daemon, text};
use crate::harness::clock::now_ns;
use crate::harness::rounds::{Contender, Sample};
use crate::harness::worker::{Arm, Reply, Until, Worker};
use crate::setup::Setup;

/// The daemon with applying subscribers, empty before each sample.
pub(crate) struct Load {
    subscribers: Vec<Worker>,
    daemon: Daemon,
    file: String,
    routes: u64,
}

impl Load {
    pub(crate) fn new(setup: &Setup, subscribers: usize) -> Result<Self> {
        let daemon = Daemon::start(setup)?;
        let row = vec!["rtm-apply".to_owned(), text(&daemon.socket())?];
        let subscribers = Worker::start_all(&vec![row; subscribers])?;
        let mut file = setup.data().join("full-table.txt.gz");
        if setup.routes_max().is_some() {
            file = setup.directory().join("part-of-the-table.txt");
            let lines = setup.routes()?.iter().map(|route| route.prefix.to_string() + "\n");
            fs::write(&file, lines.collect::<String>())?;
        }
        let file = text(&file)?;
        Ok(Self { subscribers, daemon, file, routes: setup.routes()?.len() as u64 })
    }
}

impl Contender for Load {
    fn name(&self) -> &str {
        "rtm"
    }

    fn sample(&mut self, _round: u64) -> Result<Sample> {
        let flushed = self.daemon.admin()?.request("flush routes", &mut |_| true)?;
        ensure!(flushed.code == 0, "flush: {}", flushed.text);
        let after = flushed.revision.0;
        let expect = self.routes;
        Worker::arm_all(&mut self.subscribers, |_| Arm {
            expect,
            after,
            until: Until::Table,
            stamps: None,
        })?;
        let begun_ns = now_ns();
        let output = self.daemon.command(&["route", "load", &self.file, "--spread"])?.output()?;
        ensure!(
            output.status.success(),
            "rtm route load: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let mut ended_ns = begun_ns;
        for subscriber in &mut self.subscribers {
            let Reply::Counted { received, last_ns, .. } = subscriber.receive()? else {
                bail!("a subscriber did not count");
            };
            if received != expect {
                bail!("a subscriber has no whole table");
            }
            ended_ns = ended_ns.max(last_ns);
        }
        let seconds = (ended_ns.checked_sub(begun_ns).context("time ran backwards")?) as f64 / 1e9;
        Ok(Sample { value: seconds, lost: 0 })
    }
}
