//! FRR, Debian's package, in a namespace and with directories of its own.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rtm_e2e::{Namespace, Process};

/// How long a daemon may take until it answers, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// FRR's daemons of one namespace. They end, and their directories go, with it.
pub(crate) struct Frr<'n> {
    namespace: &'n Namespace,
    tag: String,
    running: Vec<(String, Process)>,
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl<'n> Frr<'n> {
    /// Its directories.
    pub(crate) fn new(namespace: &'n Namespace) -> Frr<'n> {
        let frr = Frr { namespace, tag: namespace.name().to_owned(), running: Vec::new() };
        for directory in [frr.etc(), frr.run_dir()] {
            run(Command::new("install").args(["-d", "-o", "frr", "-g", "frr"]).arg(directory));
        }
        std::fs::write(frr.etc().join("vtysh.conf"), "").expect("/etc/frr is writable");
        frr
    }

    fn etc(&self) -> PathBuf {
        PathBuf::from("/etc/frr").join(&self.tag)
    }

    fn run_dir(&self) -> PathBuf {
        PathBuf::from("/var/run/frr").join(&self.tag)
    }

    /// Starts a daemon with this configuration, and waits until it answers.
    pub(crate) fn start(&mut self, daemon: &str, config: &str, args: &[&str]) {
        let file = self.etc().join(format!("{daemon}.conf"));
        std::fs::write(&file, config).expect("/etc/frr is writable");
        run(Command::new("chown").arg("frr:frr").arg(&file));
        let vty = self.run_dir().join(format!("{daemon}.vty"));
        let _ = std::fs::remove_file(&vty);
        let mut command = self.namespace.command(format!("/usr/lib/frr/{daemon}"));
        command.args(["-N", &self.tag, "-A", "127.0.0.1", "-u", "frr", "-g", "frr", "-f"]);
        command.arg(&file).args(["--log", "stdout"]).args(args);
        let process = Process::spawn(command);
        let start = Instant::now();
        while !vty.exists() {
            assert!(
                start.elapsed() < PATIENCE,
                "{daemon} doesn't start: {}{}",
                process.stdout(),
                process.stderr()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        self.running.push((daemon.to_owned(), process));
    }

    /// Ends a daemon as a crash would.
    pub(crate) fn kill(&mut self, daemon: &str) {
        let at = self.running.iter().position(|(name, _)| name == daemon);
        drop(self.running.remove(at.expect("it runs")));
    }

    /// What a daemon has written.
    pub(crate) fn log(&self, daemon: &str) -> String {
        let found = self.running.iter().find(|(name, _)| name == daemon);
        found.map_or(String::new(), |(_, process)| process.stdout() + &process.stderr())
    }

    /// A `vtysh` that runs these commands in one daemon: a busy one of the
    /// others would let it wait.
    pub(crate) fn vtysh_command(&self, daemon: &str, commands: &[&str]) -> Command {
        let mut command = self.namespace.command("vtysh");
        command.args(["-N", &self.tag, "-d", daemon]);
        for words in commands {
            command.args(["-c", words]);
        }
        command
    }

    /// Runs these commands in one daemon; gives what was printed.
    pub(crate) fn vtysh(&self, daemon: &str, commands: &[&str]) -> String {
        run(&mut self.vtysh_command(daemon, commands))
    }

    /// Gives a configuration to the daemons that run. A file of a daemon's own
    /// is committed line by line, in quadratic time (2,000 routes: over 20 s);
    /// this way it is one transaction (10,000: under 3 s).
    pub(crate) fn load(&self, config: &str) {
        let file = self.etc().join("load.conf");
        std::fs::write(&file, config).expect("/etc/frr is writable");
        let mut command = self.namespace.command("vtysh");
        run(command.args(["-N", &self.tag, "-f"]).arg(&file));
    }
}

impl Drop for Frr<'_> {
    fn drop(&mut self) {
        self.running.clear();
        let _ = std::fs::remove_dir_all(self.etc());
        let _ = std::fs::remove_dir_all(self.run_dir());
    }
}
