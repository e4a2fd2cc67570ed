//! A daemon in a fresh directory, and commands sent to it.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Output, Process, binary};

/// An `rtmd` with a runtime directory of its own; both go at the end of scope.
pub struct Daemon {
    /// The process.
    pub process: Process,
    queue: QueueName,
    directory: TempDir,
}

/// The message queue of a daemon that may have been killed, by its runtime directory:
/// gone at the end of scope, which must be after the process and before the directory.
pub struct QueueName(pub std::path::PathBuf);

impl Drop for QueueName {
    fn drop(&mut self) {
        // The daemon notes the name here for its successor.
        let Ok(text) = std::fs::read_to_string(self.0.join("rtmd.queue")) else { return };
        if let Some(name) = text.split_ascii_whitespace().next() {
            let _ = ipc::mq::remove(name);
        }
    }
}

impl Daemon {
    /// Starts one and waits until it is ready.
    pub fn start(args: &[&str]) -> Daemon {
        Daemon::start_in(
            tempfile::Builder::new().prefix("rtm-e2e-").tempdir().expect("a temporary directory"),
            args,
        )
    }

    /// Starts one with this configuration.
    pub fn start_with(configuration: &str, args: &[&str]) -> Daemon {
        let directory =
            tempfile::Builder::new().prefix("rtm-e2e-").tempdir().expect("a temporary directory");
        let path = directory.path().join("test.toml");
        std::fs::write(&path, configuration).expect("a configuration");
        let path = path.to_str().expect("a path of text").to_owned();
        Daemon::start_in(directory, &[&["--config", &path], args].concat())
    }

    /// Starts one in a directory that may hold what an earlier one left.
    pub fn start_in(directory: TempDir, args: &[&str]) -> Daemon {
        Daemon::start_by(Command::new(binary("rtmd")), directory, args)
    }

    /// Starts one by a command that ends in `rtmd` (in a namespace, say).
    pub fn start_by(mut command: Command, directory: TempDir, args: &[&str]) -> Daemon {
        command.arg("--runtime-dir").arg(directory.path()).args(args);
        command.env_remove("RTM_SOCKET").env_remove("RTM_RUNTIME_DIR");
        let process = Process::spawn(command);
        process.wait_stderr("ready");
        let queue = QueueName(directory.path().to_owned());
        Daemon { process, queue, directory }
    }

    /// Starts one in a network namespace, with this configuration.
    pub fn start_within(
        namespace: &crate::Namespace,
        configuration: &str,
        args: &[&str],
    ) -> Daemon {
        let directory =
            tempfile::Builder::new().prefix("rtm-e2e-").tempdir().expect("a temporary directory");
        Daemon::start_within_in(namespace, directory, configuration, args)
    }

    /// The same in a directory that may hold what an earlier one left.
    pub fn start_within_in(
        namespace: &crate::Namespace,
        directory: TempDir,
        configuration: &str,
        args: &[&str],
    ) -> Daemon {
        let path = directory.path().join("test.toml");
        std::fs::write(&path, configuration).expect("a configuration");
        let mut command = namespace.command(binary("rtmd"));
        command.arg("--runtime-dir").arg(directory.path()).arg("--config").arg(&path).args(args);
        command.env_remove("RTM_SOCKET").env_remove("RTM_RUNTIME_DIR");
        let process = Process::spawn(command);
        process.wait_stderr("ready");
        let queue = QueueName(directory.path().to_owned());
        Daemon { process, queue, directory }
    }

    /// Its runtime directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A command that will talk to this daemon.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary("rtm"));
        command.arg("--runtime-dir").arg(self.directory.path()).args(args);
        command.env_remove("RTM_SOCKET").env_remove("RTM_RUNTIME_DIR");
        command
    }

    /// Starts `rtm` with these arguments.
    pub fn spawn(&self, args: &[&str]) -> Process {
        Process::spawn(self.command(args))
    }

    /// Runs `rtm` with these arguments to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.spawn(args).finish()
    }

    /// Runs `rtm`, which must succeed; gives its standard output.
    pub fn rtm(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.code, Some(0), "rtm {args:?}: {}{}", output.out, output.err);
        output.out
    }

    /// `rtm -j ARGS` as a value.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let mut all = vec!["-j"];
        all.extend(args);
        let text = self.rtm(&all);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("rtm {all:?}: {e}: {text}"))
    }

    /// Ends it as a service manager would: what it left, and its directory.
    pub fn stop(self) -> (Output, TempDir) {
        let Daemon { process, queue: _queue, directory } = self;
        process.signal(15);
        (process.finish(), directory)
    }

    /// Kills it as a crash would, and keeps its directory.
    pub fn kill(self) -> TempDir {
        let Daemon { process, queue, directory } = self;
        drop(process);
        // Its successor finds what it left.
        std::mem::forget(queue);
        directory
    }
}
