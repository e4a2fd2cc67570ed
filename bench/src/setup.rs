//! What a run was told and what it found on this machine.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::broker::protocol::Protocol;
use crate::broker::server::Server;
use crate::changes::Replay;
use crate::harness::ended;
use crate::lookup::external;
use crate::routes::{self, Route};
use crate::rtm;

/// Rivals by the names that `--only` takes.
pub(crate) const CONTENDERS: [&str; 9] =
    ["rtm", "kernel", "kernel-nh", "redis", "nats", "bare", "flat", "dpdk", "crates"];

pub(crate) struct Setup {
    data: PathBuf,
    routes_max: Option<usize>,
    only: Vec<String>,
    directory: tempfile::TempDir,
    routes: OnceCell<Vec<Route>>,
}

impl Setup {
    pub(crate) fn new(data: PathBuf, routes_max: Option<usize>, only: Vec<String>) -> Result<Self> {
        let data = data.canonicalize().with_context(|| format!("data {}", data.display()))?;
        let directory = tempfile::Builder::new().prefix("rtm-bench").tempdir()?;
        ended::remove_if_ended(directory.path().to_owned())?;
        Ok(Self { data, routes_max, only, directory, routes: OnceCell::new() })
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn routes_max(&self) -> Option<usize> {
        self.routes_max
    }

    /// For sockets, compiled programs and the like; gone at the end.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The table, read once.
    pub(crate) fn routes(&self) -> Result<&[Route]> {
        if let Some(routes) = self.routes.get() {
            return Ok(routes);
        }
        let routes = routes::table(&self.data, self.routes_max)?;
        Ok(self.routes.get_or_init(|| routes))
    }

    /// How many updates of the trace change something.
    pub(crate) fn trace_effective(&self) -> Result<u64> {
        Ok(Replay::new(self.routes()?, routes::trace(&self.data)?).effective())
    }

    /// All updates of the trace.
    pub(crate) fn trace_updates(&self) -> Result<u64> {
        Ok(routes::trace(&self.data)?.len() as u64)
    }

    /// Whether a contender is wanted; says so once if it is but cannot run.
    pub(crate) fn wants(&self, contender: &str) -> bool {
        if !self.only.is_empty() && !self.only.iter().any(|only| only == contender) {
            return false;
        }
        let missing = match contender {
            "rtm" if !rtm::built() => Some("rtmd and rtm are not built"),
            "redis" if !Server::installed(Protocol::Redis) => {
                Some("package redis-server is not installed")
            }
            "nats" if !Server::installed(Protocol::Nats) => {
                Some("package nats-server is not installed")
            }
            "dpdk" if !external::has_dpdk() => Some("package libdpdk-dev is not installed"),
            "crates" if !external::crates().exists() => {
                Some("bench/rivals is not built; scripts/bench builds it")
            }
            "kernel" | "kernel-nh" if !is_root() => Some("a network namespace needs root"),
            _ => None,
        };
        if let Some(why) = missing {
            eprintln!("not run: {contender} ({why})");
        }
        missing.is_none()
    }
}

/// Whether the process may do what root may, as far as `/proc` tells.
fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))
            .is_some_and(|ids| ids.split_ascii_whitespace().nth(1) == Some("0"))
    })
}
