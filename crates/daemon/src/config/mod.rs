//! The configuration: what an administrator may set, its defaults, its limits.
//!
//! `/etc/rtm/rtmd.toml` and `/etc/rtm/rtmd.d/*.toml` in the order of their
//! names, a later file's key over an earlier one's; the command line over all.
//! A key that doesn't exist is refused, as is a value out of its range: each
//! error names the file, the line and the key. `docs/rtmd.toml` documents all
//! of them with their defaults, and a test holds it to that.

mod file;
mod value;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

pub(crate) use file::load;
pub(crate) use value::{Count, FpmAddress, ListenAddress, Mode, QueueName, Size, TableName};

use crate::log::Level;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// All of it.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// `[limits]`
    pub(crate) limits: Limits,
    /// `[roles]`
    pub(crate) roles: RoleNames,
    /// `[listen]`
    pub(crate) listen: Listen,
    /// `[queue]`
    pub(crate) queue: QueueConfig,
    /// `[fifo]`
    pub(crate) fifo: FifoConfig,
    /// `[fpm]`
    pub(crate) fpm: FpmConfig,
    /// `[kernel]`
    pub(crate) kernel: KernelConfig,
    /// `[export]`
    pub(crate) export: ExportConfig,
    /// `[distance]`: by source (`admin`, `files`, `kernel`) or protocol.
    pub(crate) distance: Distances,
    /// `[log]`
    pub(crate) log: LogConfig,
}

/// `[limits]`: what bounds the daemon's memory and its patience.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// The ring of encoded records; taken as it fills.
    pub(crate) journal_bytes: Size<{ 64 * KIB }, { 64 * GIB }>,
    /// The largest transaction; `None`: a quarter of the journal.
    pub(crate) transaction_bytes_max: Option<Size<{ 16 * KIB }, { 16 * GIB }>>,
    /// What deleted entities are remembered in, for who resumes.
    pub(crate) tombstone_bytes_max: Size<0, { 64 * GIB }>,
    /// Encoded snapshots that joiners share, all generations together.
    pub(crate) snapshot_bytes_max: Size<MIB, { 64 * GIB }>,
    /// The object that holds the tables in shared memory; over this, changes
    /// are refused.
    pub(crate) image_bytes_max: Size<{ 8 * MIB }, { 4 * GIB }>,
    /// The ring of records in it.
    pub(crate) image_ring_bytes: Size<{ 64 * KIB }, { GIB }>,
    /// One session's output buffer.
    pub(crate) session_output_bytes: Size<{ 32 * KIB }, { 16 * MIB }>,
    /// The largest frame that a client may send.
    pub(crate) frame_bytes_max: Size<{ 16 * KIB }, { 16 * MIB }>,
    /// Different filters at a time.
    pub(crate) filters_max: Count<1, 4096>,
    /// Those that one user brought who is no administrator.
    pub(crate) filters_per_uid_max: Count<1, 4096>,
    /// Connections at a time.
    pub(crate) sessions_max: Count<1, 1_000_000>,
    /// Connections of one user at a time.
    pub(crate) sessions_per_uid_max: Count<1, 1_000_000>,
    /// Within this, a connection's first frame must be whole.
    pub(crate) hello_timeout_s: Count<1, 3600>,
    /// A silent TCP session is asked for a sign of life this often: at least three
    /// times in the 30 s after which a client gives a silent daemon up.
    pub(crate) heartbeat_s: Count<1, 10>,
    /// And given up after this silence.
    pub(crate) dead_s: Count<2, 86_400>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            journal_bytes: Size(64 * MIB),
            transaction_bytes_max: None,
            tombstone_bytes_max: Size(32 * MIB),
            snapshot_bytes_max: Size(256 * MIB),
            image_bytes_max: Size(GIB),
            image_ring_bytes: Size(4 * MIB),
            session_output_bytes: Size(32 * KIB),
            frame_bytes_max: Size(64 * KIB),
            filters_max: Count(64),
            filters_per_uid_max: Count(32),
            sessions_max: Count(4096),
            sessions_per_uid_max: Count(2048),
            hello_timeout_s: Count(5),
            heartbeat_s: Count(10),
            dead_s: Count(30),
        }
    }
}

impl Limits {
    /// The largest transaction in bytes.
    pub(crate) fn transaction_bytes_max(&self) -> u64 {
        self.transaction_bytes_max.map_or(self.journal_bytes.0 / 4, |size| size.0)
    }
}

/// `[roles]`: who may change things, beside root and the daemon's own user.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RoleNames {
    /// Users, by name or number.
    pub(crate) admin_users: Vec<NameOrNumber>,
    /// Groups, by name or number.
    pub(crate) admin_groups: Vec<NameOrNumber>,
}

/// A user or a group.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(untagged, expecting = "a name or a number")]
pub(crate) enum NameOrNumber {
    /// Its number.
    Number(u32),
    /// Its name.
    Name(String),
}

/// `[listen]`: beside the Unix socket.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Listen {
    /// A loopback address and port; none: no TCP.
    pub(crate) tcp: Option<ListenAddress>,
    /// A file with a secret: who proves over TCP that it knows it may do all.
    pub(crate) tcp_token_file: Option<PathBuf>,
}

/// `[queue]`: the POSIX message queue. Who may write it may change routes and
/// neighbours.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct QueueConfig {
    /// Its name; none: `/rtm`, or `/rtm-` with a hash of the directory.
    pub(crate) name: Option<QueueName>,
    /// Messages that it holds.
    pub(crate) depth: Count<1, 65_536>,
    /// The longest message. One is executed in one turn, so this bounds what a
    /// turn takes.
    pub(crate) message_bytes: Size<64, { 16 * KIB }>,
    /// Its mode.
    pub(crate) mode: Mode,
}

impl Default for QueueConfig {
    fn default() -> QueueConfig {
        QueueConfig {
            name: None,
            depth: Count(10),
            message_bytes: Size(4 * KIB),
            mode: Mode(0o600),
        }
    }
}

/// `[fifo]`: the FIFO `commands` in the runtime directory.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FifoConfig {
    /// Its mode.
    pub(crate) mode: Mode,
}

impl Default for FifoConfig {
    fn default() -> FifoConfig {
        FifoConfig { mode: Mode(0o600) }
    }
}

/// `[fpm]`: routes from FRR's zebra.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FpmConfig {
    /// An address and port; none: no FPM.
    pub(crate) listen: Option<FpmAddress>,
    /// A peer that was silent for this long has replayed everything.
    pub(crate) quiet_s: Count<1, 3600>,
    /// Stale routes are held no longer than this.
    pub(crate) cap_s: Count<1, 86_400>,
}

impl Default for FpmConfig {
    fn default() -> FpmConfig {
        FpmConfig { listen: None, quiet_s: Count(5), cap_s: Count(120) }
    }
}

/// `[kernel]`: this host's own tables.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KernelConfig {
    /// Which are mirrored: none, or `all`.
    pub(crate) tables: Vec<TableName>,
    /// How long things must be quiet before they are listed again.
    pub(crate) settle_ms: Count<10, 60_000>,
    /// The socket's receive buffer; the system may grant less.
    pub(crate) receive_bytes: Size<{ 4 * KIB }, { 256 * MIB }>,
}

impl Default for KernelConfig {
    fn default() -> KernelConfig {
        KernelConfig { tables: Vec::new(), settle_ms: Count(200), receive_bytes: Size(4 * MIB) }
    }
}

impl KernelConfig {
    /// Is anything mirrored?
    pub(crate) fn is_on(&self) -> bool {
        !self.tables.is_empty()
    }

    /// The tables' numbers; none: all.
    pub(crate) fn numbers(&self, names: &rtm_model::Names) -> Result<Vec<u32>, String> {
        if self.tables.contains(&TableName::Name("all".to_owned())) {
            return Ok(Vec::new());
        }
        let mut numbers: Vec<u32> =
            self.tables.iter().map(|table| table.number(names)).collect::<Result<_, _>>()?;
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }
}

/// `[export]`: a table's routes put into the kernel's.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ExportConfig {
    /// Which; none: nothing is exported.
    pub(crate) table: Option<TableName>,
    /// The `rtm_protocol` that our routes have there.
    pub(crate) protocol: Count<5, 255>,
    /// What an earlier daemon left goes so long after the start, if nobody
    /// offered it again.
    pub(crate) hold_s: Count<0, 3600>,
}

impl Default for ExportConfig {
    fn default() -> ExportConfig {
        ExportConfig {
            table: None,
            protocol: Count(u64::from(rtm_model::names::PROTOCOL_RTM)),
            hold_s: Count(30),
        }
    }
}

/// `[distance]`: trust by source or protocol.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Distances(pub(crate) BTreeMap<value::DistanceKey, value::DistanceValue>);

/// The distance of a source where nothing is configured.
pub(crate) const DISTANCE_ADMIN: u8 = 1;
/// The distance of a file that is a source of its own.
pub(crate) const DISTANCE_FILES: u8 = 250;
/// The distance of the kernel's own routes.
pub(crate) const DISTANCE_KERNEL: u8 = 0;

impl Distances {
    /// The distance of the `admin` source.
    pub(crate) fn admin(&self) -> u8 {
        self.of("admin").unwrap_or(DISTANCE_ADMIN)
    }

    /// The distance of files that are sources of their own.
    pub(crate) fn files(&self) -> u8 {
        self.of("files").unwrap_or(DISTANCE_FILES)
    }

    /// The distances of a zebra's routes: by protocol, unless this peer has one.
    pub(crate) fn of_fpm(
        &self,
        source: &str,
        address: std::net::IpAddr,
        names: &rtm_model::Names,
    ) -> rtm_tables::Distances {
        if let Some(distance) = self.of(source) {
            return rtm_tables::Distances::all(distance);
        }
        let class = rtm_tables::SourceClass::Fpm(address);
        let mut distances = rtm_tables::Distances::of(class);
        for (key, value) in &self.0 {
            if key.0 == "fpm" {
                distances = distances.with_default(value.0);
            } else if let Some(protocol) = value::protocol(&key.0, names) {
                distances = distances.with(protocol, value.0);
            }
        }
        distances
    }
    /// The distances of the kernel's routes.
    pub(crate) fn of_kernel(&self) -> rtm_tables::Distances {
        rtm_tables::Distances::all(self.of("kernel").unwrap_or(DISTANCE_KERNEL))
    }

    fn of(&self, name: &str) -> Option<u8> {
        self.0.iter().find(|(key, _)| key.0 == name).map(|(_, value)| value.0)
    }
}

/// `[log]`
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogConfig {
    /// How much is logged.
    pub(crate) level: value::LevelName,
}

/// What the command line says over the files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    /// `--config`: only this file.
    pub(crate) config: Option<PathBuf>,
    /// `--listen`
    pub(crate) listen: Option<SocketAddr>,
    /// `--log`
    pub(crate) log: Option<Level>,
    /// `--fpm`
    pub(crate) fpm: Option<SocketAddr>,
    /// `--kernel`
    pub(crate) kernel: Option<Vec<TableName>>,
    /// `--export`
    pub(crate) export: Option<TableName>,
}

impl Overrides {
    /// Puts them over what the files say.
    pub(crate) fn apply(&self, config: &mut Config) {
        if let Some(address) = self.listen {
            config.listen.tcp = Some(ListenAddress(address));
        }
        if let Some(address) = self.fpm {
            config.fpm.listen = Some(FpmAddress(address));
        }
        if let Some(tables) = &self.kernel {
            config.kernel.tables.clone_from(tables);
        }
        if let Some(table) = &self.export {
            config.export.table = Some(table.clone());
        }
        if let Some(level) = self.log {
            config.log.level = value::LevelName(level);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documented file with every default uncommented.
    fn documented() -> String {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rtmd.toml");
        let text = std::fs::read_to_string(path).expect("docs/rtmd.toml is there");
        text.lines()
            .map(|line| match line.strip_prefix('#') {
                // A key stands directly behind its '#', prose behind a blank.
                Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) => key,
                _ => line,
            })
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn the_documented_defaults_are_the_defaults() {
        let mut config: Config = toml::from_str(&documented()).unwrap();
        let limits = &mut config.limits;
        assert_eq!(
            limits.transaction_bytes_max.map(|size| size.0),
            Some(Limits::default().transaction_bytes_max())
        );
        limits.transaction_bytes_max = None;
        let distance = std::mem::take(&mut config.distance);
        assert_eq!((distance.admin(), distance.files()), (DISTANCE_ADMIN, DISTANCE_FILES));
        // TCP is off by default, and the queue's name the directory's: what stands
        // there are examples.
        assert!(config.queue.name.take().is_some());
        assert!(config.export.table.take().is_some());
        assert!(config.listen.tcp.take().is_some());
        assert!(config.fpm.listen.take().is_some());
        assert!(config.listen.tcp_token_file.take().is_some());
        assert_eq!(config, Config::default());
    }

    #[test]
    fn every_key_is_documented() {
        let documented: toml::Table = documented().parse().unwrap();
        // The keys are read from the error that an unknown one gets.
        let sections =
            ["", "limits", "roles", "listen", "queue", "fifo", "fpm", "kernel", "export", "log"];
        for section in sections {
            let text = match section {
                "" => "no-such-key = 1".to_owned(),
                section => format!("[{section}]\nno-such-key = 1"),
            };
            let error = toml::from_str::<Config>(&text).unwrap_err().message().to_owned();
            let known = error.split("expected ").nth(1).unwrap_or_else(|| panic!("{error}"));
            let keys: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
            assert!(!keys.is_empty(), "{error}");
            for key in keys {
                let table = match section {
                    "" => &documented,
                    section => documented[section].as_table().unwrap(),
                };
                assert!(table.contains_key(key), "[{section}] {key} is not documented");
            }
        }
    }
}
