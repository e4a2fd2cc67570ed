//! A broker's server, started for one measure in a temporary directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::protocol::Protocol;
use crate::harness::worker::die_with_parent;

/// How long a server may take until it listens.
const START_MAX: Duration = Duration::from_secs(10);

/// A running server; dropping it ends it.
pub(crate) struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Whether the program is installed.
    pub(crate) fn installed(protocol: Protocol) -> bool {
        let Some(path) = std::env::var_os("PATH") else { return false };
        std::env::split_paths(&path).any(|directory| directory.join(program(protocol)).is_file())
    }

    pub(crate) fn start(protocol: Protocol, directory: &Path) -> Result<Self> {
        let directory =
            tempfile::Builder::new().prefix(protocol.name()).tempdir_in(directory)?.keep();
        let mut command = Command::new(program(protocol));
        match protocol {
            Protocol::Redis => {
                // No port, no persistence, no limit for slow subscribers.
                command.args(["--port", "0", "--save", "", "--appendonly", "no"]);
                command.args([
                    "--client-output-buffer-limit",
                    "pubsub 0 0 0",
                    "--maxclients",
                    "1000",
                ]);
                command.arg("--dir").arg(&directory);
                command.arg("--unixsocket").arg(directory.join("socket"));
            }
            Protocol::Nats => {
                let config = directory.join("nats.conf");
                fs::write(
                    &config,
                    format!(
                        "listen: 127.0.0.1:-1\nports_file_dir: {directory:?}\nmax_pending: 8GB\n\
                         write_deadline: \"60s\"\nping_interval: \"1h\"\nmax_connections: 1000\n"
                    ),
                )?;
                command.arg("-c").arg(config);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = die_with_parent(&mut command)
            .spawn()
            .with_context(|| format!("{} (a Debian package)", program(protocol)))?;
        let mut server = Self { child, address: String::new() };
        server.address = server.wait(protocol, &directory)?;
        Ok(server)
    }

    /// As the clients' roles take it: a path, or `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    fn wait(&mut self, protocol: Protocol, directory: &Path) -> Result<String> {
        let end = Instant::now() + START_MAX;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended: {status}", program(protocol));
            }
            let address = match protocol {
                Protocol::Redis => Some(directory.join("socket"))
                    .filter(|path| std::os::unix::net::UnixStream::connect(path).is_ok())
                    .map(|path| path.display().to_string()),
                Protocol::Nats => ports_file(directory).and_then(|path| nats_address(&path)),
            };
            if let Some(address) = address {
                return Ok(address);
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("{} does not listen after {START_MAX:?}", program(protocol));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Redis => "redis-server",
        Protocol::Nats => "nats-server",
    }
}

fn ports_file(directory: &Path) -> Option<PathBuf> {
    fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "ports"))
}

/// `{"nats": ["nats://127.0.0.1:4222"], …}`
fn nats_address(path: &Path) -> Option<String> {
    let ports: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
    Some(ports["nats"][0].as_str()?.strip_prefix("nats://")?.to_owned())
}
