//! ExaBGP in a namespace: says what it is told.

use std::io::Write as _;

use rtm_e2e::{Namespace, Process};
use tempfile::TempDir;

/// A running ExaBGP; it ends with this.
pub(crate) struct ExaBgp {
    _directory: TempDir,
    pipe: std::fs::File,
    process: Process,
}

impl ExaBgp {
    /// Starts it as `own` beside `peer`, both of AS `own_as` and `peer_as`.
    pub(crate) fn start(
        namespace: &Namespace,
        (own, own_as): (&str, u32),
        (peer, peer_as): (&str, u32),
    ) -> ExaBgp {
        let directory = tempfile::Builder::new().prefix("rtm-exabgp-").tempdir().expect("a folder");
        let commands = directory.path().join("commands");
        rustix::fs::mkfifoat(rustix::fs::CWD, &commands, rustix::fs::Mode::from(0o600))
            .expect("a pipe");
        let config = format!(
            "process feed {{ run /bin/cat {}; encoder text; }}\n\
             neighbor {peer} {{ router-id {own}; local-address {own}; local-as {own_as}; peer-as {peer_as};\n\
             family {{ ipv4 unicast; }} api {{ processes [ feed ]; }} }}\n",
            commands.display()
        );
        let file = directory.path().join("exabgp.conf");
        std::fs::write(&file, config).expect("a file");
        let mut command = namespace.command("env");
        command.args([
            "exabgp.daemon.user=root",
            "exabgp.api.ack=false",
            "exabgp.log.level=WARNING",
            "exabgp.tcp.bind=",
            "exabgp",
        ]);
        command.arg(&file);
        let process = Process::spawn(command);
        // Open for both, so that opening waits for nobody.
        let pipe = std::fs::OpenOptions::new().read(true).write(true).open(&commands);
        ExaBgp { _directory: directory, pipe: pipe.expect("the pipe opens"), process }
    }

    /// Says these lines.
    pub(crate) fn say(&mut self, lines: &str) {
        self.pipe.write_all(lines.as_bytes()).expect("exabgp reads");
    }

    /// What it has written.
    pub(crate) fn log(&self) -> String {
        self.process.stdout() + &self.process.stderr()
    }
}
