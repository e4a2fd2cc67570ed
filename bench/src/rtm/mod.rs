//! rtm itself: the real `rtmd` as built beside this program, in a runtime
//! directory of its own.
//!
//! The publisher and the subscribers are what anybody can write: the client
//! library, and for those that only count the session of `rtm_tables` on a
//! blocking socket.
//!
//! Read [`subscriber`] first.

pub(crate) mod publisher;
pub(crate) mod silent;
pub(crate) mod subscriber;

pub(crate) mod load;
pub(crate) mod mapped;
pub(crate) mod memory;

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rtm_client::{Address, Admin, SOCKET_NAME};

use crate::harness::worker::die_with_parent;
use crate::setup::Setup;

/// How long the daemon may take until it listens.
const START_MAX: Duration = Duration::from_secs(10);

/// How long it may take until it has stopped.
const STOP_MAX: Duration = Duration::from_secs(5);

/// A running daemon; dropping it ends it.
pub(crate) struct Daemon {
    child: Child,
    directory: PathBuf,
}

impl Daemon {
    pub(crate) fn start(setup: &Setup) -> Result<Self> {
        Self::start_with(setup, &[])
    }

    /// With these options.
    pub(crate) fn start_with(setup: &Setup, options: &[&str]) -> Result<Self> {
        Self::start_by(setup, Command::new(program("rtmd")?), options)
    }

    /// In the network namespace of a process.
    pub(crate) fn start_within(setup: &Setup, pid: u32, options: &[&str]) -> Result<Self> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{pid}/ns/net")).arg(program("rtmd")?);
        Self::start_by(setup, command, options)
    }

    /// By a command that becomes `rtmd`.
    fn start_by(setup: &Setup, mut command: Command, options: &[&str]) -> Result<Self> {
        let directory =
            tempfile::Builder::new().prefix("rtm").tempdir_in(setup.directory())?.keep();
        let log = directory.join("log");
        command.arg("--no-console").arg("--runtime-dir").arg(&directory).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let child = die_with_parent(&mut command).spawn().context("rtmd")?;
        let mut daemon = Self { child, directory };
        let end = Instant::now() + START_MAX;
        while UnixStream::connect(daemon.socket()).is_err() {
            let said = || fs::read_to_string(&log).unwrap_or_default();
            if let Some(status) = daemon.child.try_wait()? {
                bail!("rtmd ended: {status}: {}", said());
            }
            if Instant::now() > end {
                bail!("rtmd does not listen after {START_MAX:?}: {}", said());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(daemon)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join(SOCKET_NAME)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        Ok(rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)?)
    }

    /// Processor time of all its threads so far, in nanoseconds.
    pub(crate) fn processor_ns(&self) -> Result<u64> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let first = text.split_ascii_whitespace().next();
            sum += first.and_then(|word| word.parse::<u64>().ok()).context("schedstat")?;
        }
        Ok(sum)
    }

    /// `rtm …` against this daemon.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(program("rtm")?);
        command.arg("--socket").arg(self.socket()).args(arguments);
        Ok(command)
    }

    /// Asks for the image once, which is kept in step with every change from then
    /// on: for measures whose daemon is to have one.
    pub(crate) fn ask_for_image(&self) -> Result<()> {
        let output = self.command(&["status", "image"])?.output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "rtm status image: {}", error.trim());
        Ok(())
    }

    /// What it says of itself.
    pub(crate) fn status(&self) -> Result<serde_json::Value> {
        let output = self.command(&["-j", "status", "-d"])?.output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "rtm status: {}", error.trim());
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// A connection for requests.
    pub(crate) fn admin(&self) -> Result<Admin> {
        Ok(Admin::connect(&Address::Unix(self.socket()), "bench")?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Asked to stop, it takes its names with it.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let end = Instant::now() + STOP_MAX;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether both programs are there.
pub(crate) fn built() -> bool {
    program("rtmd").is_ok() && program("rtm").is_ok()
}

/// A program built beside this one.
fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.is_file() {
        bail!("{}: not built; scripts/bench builds it", path.display());
    }
    Ok(path)
}

/// A path as an argument for a role.
pub(crate) fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().with_context(|| format!("{}: no text", path.display()))?.to_owned())
}
