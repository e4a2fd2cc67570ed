//! Processes of a bench: publishers and subscribers are this same binary, run
//! as `rtm-bench role NAME …`.
//!
//! A worker reads commands as JSON lines from its standard input and answers on
//! its standard output; standard error stays the bench's. That is the start
//! barrier too: everybody says `Ready` before the publisher is told to
//! `Publish`. A worker dies with the bench, however that dies; one that has to
//! clean up sees the end of its input instead.
#![allow(unsafe_code)] // prctl and poll.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::stamps::StampsAddress;

/// The longest that any single answer may take: a million routes into the
/// kernel with hundreds of subscribers.
const ANSWER_MAX: Duration = Duration::from_secs(600);

/// The longest that a worker may take to end: a million routes out of the kernel.
const END_MAX: Duration = Duration::from_secs(120);

/// What a publisher publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    /// The whole table into an empty one.
    Load,
    /// Random changes of the loaded table.
    Random { seed: u64, count: usize },
    /// The update trace on the loaded table.
    Trace,
    /// Messages without meaning, for those that know no routes.
    Messages { count: usize },
    /// Nothing yet: only to learn where the table stands.
    Nothing,
}

/// When a subscriber has what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Until {
    /// So many deliveries.
    Deliveries,
    /// A table of so many routes, shown to be equal.
    Table,
}

/// What a subscriber shall wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Arm {
    pub(crate) expect: u64,
    pub(crate) until: Until,
    /// Where revisions are numbered: be ready only when everything up to this
    /// one has come, and don't count it.
    pub(crate) after: u64,
    /// Where to note the time of each delivery, and as which subscriber.
    pub(crate) stamps: Option<(StampsAddress, usize)>,
}

/// To a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Subscriber: be ready to receive, say `Ready`, then `Counted`.
    Arm(Arm),
    /// Publisher: make everything ready (undo earlier work, encode), say `Prepared`.
    Prepare(Work),
    /// Publisher: publish what was prepared, say `Published`.
    Publish,
    /// Publisher: the same, so many changes in each millisecond.
    PublishPaced { per_turn: usize },
    /// Publisher: one update at a time, say `Published`.
    OneByOne(StampsAddress),
    /// Late joiner: take the whole table, say `Joined`.
    Join,
}

/// From a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Ready,
    /// `after`: the revision that the table has before, 0 where there are none.
    Prepared {
        expect: u64,
        after: u64,
    },
    /// `checksum`: of what was received, 0 where none is made.
    Counted {
        received: u64,
        last_ns: u64,
        overruns: u64,
        checksum: u64,
    },
    Published {
        begun_ns: u64,
    },
    Joined {
        routes: u64,
        begun_ns: u64,
        ended_ns: u64,
    },
    Failed(String),
}

/// A running worker. Dropping it kills its process and waits for it.
pub(crate) struct Worker {
    child: Child,
    orders: ChildStdin,
    replies: BufReader<ChildStdout>,
    name: String,
}

impl Worker {
    /// Starts `rtm-bench role ARGUMENTS…` and waits for its `Ready`.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        let mut worker = Self::start_unready(arguments)?;
        worker.expect_ready()?;
        Ok(worker)
    }

    /// Starts as many as `arguments` has rows, side by side.
    pub(crate) fn start_all(arguments: &[Vec<String>]) -> Result<Vec<Self>> {
        let mut workers = arguments
            .iter()
            .map(|row| Self::start_unready(&row.iter().map(String::as_str).collect::<Vec<_>>()))
            .collect::<Result<Vec<_>>>()?;
        workers.iter_mut().try_for_each(Self::expect_ready)?;
        Ok(workers)
    }

    fn start_unready(arguments: &[&str]) -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = Command::new(program);
        command.arg("role").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = die_with_parent(&mut command).spawn().context("start a worker")?;
        let orders = child.stdin.take().context("no standard input")?;
        let replies = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, orders, replies, name: arguments.join(" ") })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn send(&mut self, order: &Order) -> Result<()> {
        let mut line = serde_json::to_string(order)?;
        line.push('\n');
        self.orders.write_all(line.as_bytes()).with_context(|| format!("{} is gone", self.name))
    }

    pub(crate) fn receive(&mut self) -> Result<Reply> {
        let end = Instant::now() + ANSWER_MAX;
        if self.replies.buffer().is_empty() {
            let left = end.saturating_duration_since(Instant::now()).as_millis();
            let mut poll = libc::pollfd {
                fd: self.replies.get_ref().as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one valid pollfd that outlives the call.
            match unsafe { libc::poll(&mut poll, 1, left as libc::c_int) } {
                0 => bail!("{} did not answer within {ANSWER_MAX:?}", self.name),
                n if n < 0 => return Err(io::Error::last_os_error()).context("poll"),
                _ => {}
            }
        }
        let mut line = String::new();
        if self.replies.read_line(&mut line)? == 0 {
            bail!("{} ended: {}", self.name, self.child.wait()?);
        }
        match serde_json::from_str(&line)? {
            Reply::Failed(why) => bail!("{}: {why}", self.name),
            reply => Ok(reply),
        }
    }

    fn expect_ready(&mut self) -> Result<()> {
        match self.receive()? {
            Reply::Ready => Ok(()),
            other => bail!("{}: {other:?} instead of Ready", self.name),
        }
    }

    /// Arms all subscribers and waits until every one of them is ready.
    pub(crate) fn arm_all(workers: &mut [Self], arm: impl Fn(usize) -> Arm) -> Result<()> {
        for (which, worker) in workers.iter_mut().enumerate() {
            worker.send(&Order::Arm(arm(which)))?;
        }
        workers.iter_mut().try_for_each(Self::expect_ready)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A publisher in a namespace of its own takes its routes down in an
        // orderly way at the end of its input; a kill would leave that to the
        // kernel's background thread, in the middle of the next sample.
        let _ = self.orders.write_all(b"\n");
        let end = Instant::now() + END_MAX;
        while Instant::now() < end {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets `command`'s process be killed when the bench ends, however it ends.
pub(crate) fn die_with_parent(command: &mut Command) -> &mut Command {
    // SAFETY: prctl and getppid are async-signal-safe, allocate nothing and
    // touch only the new process. The comparison closes the race with a
    // parent that died between fork and prctl.
    unsafe {
        let parent = std::process::id();
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            if libc::getppid() != parent as libc::pid_t {
                return Err(io::Error::other("the bench is gone"));
            }
            Ok(())
        })
    }
}

/// For a worker that must end in an orderly way: signals that end the bench, its
/// death among them, leave it to the end of its input.
pub(crate) fn outlive_parent() -> io::Result<()> {
    // SAFETY: no pointers are passed; ignoring a signal installs no handler.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            if libc::signal(signal, libc::SIG_IGN) == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// The worker's end: says `Ready`, then handles orders until the input ends (or
/// an empty line comes). A failed order is reported, and the worker goes on.
pub(crate) fn serve(
    mut handle: impl FnMut(Order, &mut dyn FnMut(Reply)) -> Result<()>,
) -> Result<()> {
    let mut say = |reply: Reply| {
        let line = serde_json::to_string(&reply).expect("replies are plain data");
        let mut out = io::stdout().lock();
        // Where the bench is gone there is nobody to tell.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    };
    say(Reply::Ready);
    for line in io::stdin().lock().lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let order = serde_json::from_str(&line)?;
        if let Err(error) = handle(order, &mut say) {
            say(Reply::Failed(format!("{error:#}")));
        }
    }
    Ok(())
}
