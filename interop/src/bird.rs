//! BIRD 2 in a namespace.

use std::time::{Duration, Instant};

use rtm_e2e::{Namespace, Process};
use tempfile::TempDir;

/// How long it may take until it answers.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running BIRD; it ends with this.
pub(crate) struct Bird<'n> {
    namespace: &'n Namespace,
    directory: TempDir,
    _process: Process,
}

impl<'n> Bird<'n> {
    /// Starts it with this configuration.
    pub(crate) fn start(namespace: &'n Namespace, config: &str) -> Bird<'n> {
        let directory = tempfile::Builder::new().prefix("rtm-bird-").tempdir().expect("a folder");
        let file = directory.path().join("bird.conf");
        std::fs::write(&file, config).expect("a file");
        let mut command = namespace.command("bird");
        command.arg("-f").arg("-c").arg(&file);
        command.arg("-s").arg(directory.path().join("ctl"));
        let mut process = Process::spawn(command);
        let start = Instant::now();
        while !directory.path().join("ctl").exists() {
            let waits = !process.ended() && start.elapsed() < PATIENCE;
            assert!(waits, "bird doesn't start: {}", process.stderr());
            std::thread::sleep(Duration::from_millis(50));
        }
        Bird { namespace, directory, _process: process }
    }

    /// Gives it another configuration.
    pub(crate) fn configure(&self, config: &str) {
        std::fs::write(self.directory.path().join("bird.conf"), config).expect("a file");
        let said = self.ask("configure");
        assert!(said.contains("Reconfigur"), "birdc configure: {said}");
    }

    /// Runs `birdc` with these words; gives what it prints.
    pub(crate) fn ask(&self, words: &str) -> String {
        let mut command = self.namespace.command("birdc");
        command.arg("-s").arg(self.directory.path().join("ctl")).args(words.split(' '));
        let output = command.output().expect("birdc runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
