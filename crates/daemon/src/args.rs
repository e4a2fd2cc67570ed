//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use crate::log::Level;

/// rtmd, the routing table daemon
///
/// Holds the routing table and the ARP/neighbour table; every client of its
/// socket has the same table. Runs in the foreground; stops at SIGTERM or
/// SIGINT; reads its configuration again at SIGHUP.
#[derive(Parser, Debug)]
#[command(
    name = "rtmd",
    version,
    after_help = "Example: rtmd --load routes.txt.gz --listen tcp://127.0.0.1:2600"
)]
pub(crate) struct Args {
    /// Mirror this host's own routes and neighbours: all tables, or these
    #[arg(long, value_name = "TABLE,…", num_args = 0..=1, require_equals = true)]
    pub(crate) kernel: Option<Option<String>>,

    /// Put a table's routes into this host's table of the same number
    #[arg(long, value_name = "TABLE")]
    pub(crate) export: Option<String>,

    /// Take routes from FRR: zebra -M dplane_fpm_nl connects here (127.0.0.1:2620)
    #[arg(
        long,
        value_name = "ADDR:PORT",
        num_args = 0..=1,
        require_equals = true,
        value_parser = fpm_address
    )]
    pub(crate) fpm: Option<Option<SocketAddr>>,

    /// Load a file of routes at the start: lines of the grammar, of `ip route`, or its JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) load: Option<PathBuf>,

    /// Let clients follow over TCP, too; loopback only
    #[arg(long, value_name = "tcp://ADDR:PORT", value_parser = listen_address)]
    pub(crate) listen: Option<SocketAddr>,

    /// Show the menu on any readable standard input, also where that is no terminal
    #[arg(long, overrides_with = "no_console")]
    pub(crate) console: bool,

    /// Show no menu
    #[arg(long, overrides_with = "console")]
    pub(crate) no_console: bool,

    /// Read only this file instead of /etc/rtm/rtmd.toml and /etc/rtm/rtmd.d/*.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Only check the configuration
    #[arg(long)]
    pub(crate) check: bool,

    /// Where sockets and the lock live
    ///
    /// Default: $RTM_RUNTIME_DIR, else $RUNTIME_DIRECTORY, else /run/rtm as root,
    /// else $XDG_RUNTIME_DIR/rtm, else /tmp/rtm-$UID.
    #[arg(long, value_name = "DIR")]
    pub(crate) runtime_dir: Option<PathBuf>,

    /// Keep the tables over a restart (not in this version)
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) state_dir: Option<PathBuf>,

    /// Publish a second copy of the tables in shared memory under a POSIX name
    ///
    /// For programs that know only shm_open and mmap. Unlike the one that the
    /// socket hands out, root and this daemon's own user can write and shorten it.
    #[arg(long)]
    pub(crate) publish_name: bool,

    /// How much is logged: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<Level>,
}

impl Args {
    /// The first option given that belongs to a later version.
    pub(crate) fn not_in_this_version(&self) -> Option<&'static str> {
        self.state_dir.as_ref().map(|_| "--state-dir")
    }
}

/// The port that FRR has for FPM, on the loopback.
pub(crate) const FPM_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2620);

/// `127.0.0.1:2620` or `[::1]:2620`; also `ADDR` and `:PORT`.
pub(crate) fn fpm_address(text: &str) -> Result<SocketAddr, String> {
    let port = |port: &str| port.parse().ok().map(|port| SocketAddr::new(FPM_DEFAULT.ip(), port));
    let address = text.parse().ok();
    let address =
        address.or_else(|| text.parse().ok().map(|ip| SocketAddr::new(ip, FPM_DEFAULT.port())));
    address
        .or_else(|| text.strip_prefix(':').and_then(port))
        .ok_or_else(|| "not an address and a port; like 127.0.0.1:2620 or [::1]:2620".to_owned())
}

/// `tcp://127.0.0.1:2600` or `tcp://[::1]:2600`; loopback only, as a TCP peer
/// has no identity.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let Some(address) = text.strip_prefix("tcp://") else {
        return Err("only TCP; like tcp://127.0.0.1:2600".to_owned());
    };
    let address: SocketAddr = address
        .parse()
        .map_err(|_| "not an address and a port; like tcp://127.0.0.1:2600".to_owned())?;
    if !address.ip().is_loopback() {
        return Err(format!(
            "{} is not a loopback address: there is no encryption yet; tcp://127.0.0.1:{port} or tcp://[::1]:{port} would be right",
            address.ip(),
            port = address.port()
        ));
    }
    Ok(address)
}

/// What is wrong with the command line, in one line: clap's own text has
/// several, with a tip and the usage behind what matters.
pub(crate) fn one_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim);
    let what = lines.next().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(what);
    match lines.find_map(|line| line.strip_prefix("tip: ")) {
        Some(tip) => format!("{what}; {tip}"),
        None if what.contains("; ") => what.to_owned(),
        None => format!("{what}; 'rtmd --help' shows what there is"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn options_of_later_versions_are_known() {
        for (args, expected) in [
            (&["--kernel"][..], None),
            (&["--kernel=254,255"], None),
            (&["--export", "main"], None),
            (&["--fpm"], None),
            (&["--fpm=127.0.0.1:2620"], None),
            (&["--state-dir", "/x"], Some("--state-dir")),
            (&["--publish-name"], None),
            (&["--console"], None),
        ] {
            let args = Args::try_parse_from([&["rtmd"], args].concat()).unwrap();
            assert_eq!(args.not_in_this_version(), expected);
        }
    }

    #[test]
    fn the_last_word_on_the_console_counts() {
        let args = Args::try_parse_from(["rtmd", "--console", "--no-console"]).unwrap();
        assert!(args.no_console && !args.console);
    }

    #[test]
    fn fpm_is_listened_on_where_it_is_said() {
        for (text, expected) in [
            ("127.0.0.1:2620", Some("127.0.0.1:2620")),
            ("192.0.2.1", Some("192.0.2.1:2620")),
            (":0", Some("127.0.0.1:0")),
            ("[::1]:7", Some("[::1]:7")),
            ("::1", Some("[::1]:2620")),
            ("localhost:2620", None),
            ("127.0.0.1:70000", None),
            ("", None),
        ] {
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(fpm_address(text).ok(), expected, "{text}");
        }
        let args = Args::try_parse_from(["rtmd", "--fpm"]).unwrap();
        assert_eq!(args.fpm, Some(None));
        let args = Args::try_parse_from(["rtmd", "--fpm=127.0.0.1:0"]).unwrap();
        assert_eq!(args.fpm.flatten().unwrap().port(), 0);
    }

    #[test]
    fn only_loopback_is_listened_on() {
        assert!(listen_address("tcp://127.0.0.1:2600").is_ok());
        assert!(listen_address("tcp://127.9.9.9:0").is_ok());
        assert!(listen_address("tcp://[::1]:2600").is_ok());
        for (text, expected) in [
            ("tcp://0.0.0.0:2600", "0.0.0.0 is not a loopback address"),
            ("tcp://[::]:2600", ":: is not a loopback address"),
            ("tcp://192.0.2.1:2600", "tcp://127.0.0.1:2600 or tcp://[::1]:2600 would be right"),
            ("127.0.0.1:2600", "like tcp://127.0.0.1:2600"),
            ("tcp://localhost", "not an address and a port"),
            ("tcp://[::ffff:192.0.2.1]:1", "not a loopback address"),
        ] {
            let error = listen_address(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
