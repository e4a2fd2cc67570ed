//! `rtm monitor --exec CMD`: one long-lived child that reads changes.
//!
//! Changes are JSON lines on the child's standard input. When the child ends, its
//! exit status is told and it is started again, after a pause that grows; what
//! changes meanwhile it gets then.
//!
//! **A child that doesn't read** stops nobody and makes nothing grow: once so much
//! waits for it, only the keys that change are remembered, each once, and when
//! there is room it gets what they are *then*: a later change replaces the earlier
//! one. That is bounded by the table.

use std::collections::HashSet;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rtm_client::{Backoff, Change, Event, Follower, Revision, RouteCursor, Stop, Store, wait};
use rtm_model::{Entity, EntityKey};
use rustix::event::PollFlags;
use rustix::process::{Pid, PidfdFlags};

use super::monitor::Show;
use crate::failure::{Failure, Result, plain};
use crate::output::{Out, say};

/// Bytes that may wait for the child before changes are conflated.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// A child that lived for so long has done well: the next pause is short again.
const LIVED: Duration = Duration::from_secs(10);

/// How long the child is given to end when the monitor ends.
const END_MAX: Duration = Duration::from_secs(5);

struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    /// Readable when it has ended.
    process: OwnedFd,
    since: Instant,
}

/// The child, and what waits for it.
struct Exec<'c> {
    command: &'c str,
    running: Option<Running>,
    backoff: Backoff,
    start_at: Instant,
    waiting: Vec<u8>,
    written: usize,
    conflated: HashSet<EntityKey>,
    revision: Revision,
}

/// Follows until the daemon is gone for good or the monitor is asked to stop.
pub(super) fn run(
    follower: &mut Follower,
    stop: &Stop,
    show: &mut Show<'_>,
    command: &str,
) -> Result<()> {
    let mut out = Out::captured();
    let mut exec = Exec {
        command,
        running: None,
        backoff: Backoff::new(),
        start_at: Instant::now(),
        waiting: Vec::new(),
        written: 0,
        conflated: HashSet::new(),
        revision: Revision(0),
    };
    let result = loop {
        let now = Instant::now();
        if exec.running.is_none() && exec.start_at <= now {
            exec.start(now)?;
        }
        exec.pass_on(follower, show, &mut out)?;
        let (ready, stopped) = exec.wait(follower, stop);
        if stopped {
            if let Some(code) = stop.asked() {
                follower.goodbye();
                break Err(Failure::Quiet(code));
            }
        }
        let mut failed = None;
        let now = Instant::now();
        if ready || follower.next_deadline().is_some_and(|at| at <= now) {
            let told = follower.on_ready(now, &mut |event| {
                if let Err(error) = exec.event(&event, show, &mut out) {
                    failed.get_or_insert(error);
                }
            });
            if let Err(error) = told {
                break Err(error.into());
            }
        }
        if let Some(error) = failed.or_else(|| show.failed.take()) {
            break Err(error.into());
        }
        exec.reap(Instant::now());
    };
    exec.end();
    result
}

impl Exec<'_> {
    fn start(&mut self, now: Instant) -> Result<()> {
        let failed = |error: &std::io::Error| {
            Failure::refused(format_args!("exec: {}: {}", self.command, plain(error)))
        };
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(self.command).stdin(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let stdin = child.stdin.take();
        let process = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
            .map_err(|errno| failed(&errno.into()))?;
        if let Some(stdin) = &stdin {
            // The pipe's write end is a description of our own.
            rustix::io::ioctl_fionbio(stdin, true).map_err(|errno| failed(&errno.into()))?;
        }
        self.running = Some(Running { child, stdin, process, since: now });
        Ok(())
    }

    fn is_behind(&self) -> bool {
        self.running.is_none()
            || !self.conflated.is_empty()
            || self.waiting.len() - self.written >= WAITING_BYTES_MAX
    }

    fn event(
        &mut self,
        event: &Event<'_>,
        show: &mut Show<'_>,
        out: &mut Out,
    ) -> std::io::Result<()> {
        match event {
            Event::Change(change) if self.is_behind() && !show.quiet => {
                self.revision = change.revision;
                if show.wants(change) {
                    self.conflated.insert(change.key);
                }
                return Ok(());
            }
            Event::Synced { revision, store: Some(store), .. } if show.anew => {
                // All of it: as there is room.
                show.anew = false;
                self.revision = *revision;
                self.all(store, show);
            }
            _ => {}
        }
        show.event(event, out);
        self.waiting.append(&mut out.take());
        Ok(())
    }

    /// Everything that is there changes, so to say.
    fn all(&mut self, store: &Store, show: &Show<'_>) {
        let revision = self.revision;
        let mut note = |entity: &Entity| {
            let key = entity.key();
            let change = Change { revision, last: true, key, new: Some(entity), store };
            if show.wants(&change) {
                self.conflated.insert(key);
            }
        };
        let mut link = None;
        while let Some(next) = store.next_link(link) {
            link = Some(next.id);
            note(&Entity::Link(*next));
        }
        let mut cursor = RouteCursor::all();
        while let Some(route) = store.next_route(&mut cursor) {
            note(&Entity::Route(route));
        }
        let mut after = None;
        while let Some(neighbour) = store.next_neighbour(after.as_ref()) {
            after = Some(neighbour.key);
            note(&Entity::Neighbour(neighbour));
        }
    }

    /// Writes what waits, and then what was conflated, as far as it goes without waiting.
    fn pass_on(&mut self, follower: &Follower, show: &mut Show<'_>, out: &mut Out) -> Result<()> {
        loop {
            self.write();
            // Room in the pipe wakes the loop only while something is left to be written.
            if self.written < self.waiting.len() || !self.refill(follower, show, out)? {
                return Ok(());
            }
        }
    }

    /// What was conflated, as it is now, as far as there is room. Was there any?
    fn refill(&mut self, follower: &Follower, show: &mut Show<'_>, out: &mut Out) -> Result<bool> {
        if self.running.is_none() || self.conflated.is_empty() {
            return Ok(false);
        }
        let Some(replica) = follower.replica() else { return Ok(false) };
        let store = replica.store();
        while self.waiting.len() - self.written < WAITING_BYTES_MAX {
            let Some(&key) = self.conflated.iter().next() else { break };
            self.conflated.remove(&key);
            let entity = store.entity(&key);
            let change =
                Change { revision: self.revision, last: true, key, new: entity.as_ref(), store };
            show.change(&change, out)?;
            self.waiting.append(&mut out.take());
        }
        if self.conflated.is_empty() {
            // A set that once was large is not kept large.
            self.conflated.shrink_to(1024);
        }
        Ok(true)
    }

    /// Writes what goes without waiting.
    fn write(&mut self) {
        let Some(stdin) = self.running.as_mut().and_then(|running| running.stdin.as_mut()) else {
            return;
        };
        while self.written < self.waiting.len() {
            match stdin.write(&self.waiting[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    // It reads no more; its end is told when it comes.
                    if let Some(running) = &mut self.running {
                        running.stdin = None;
                    }
                    break;
                }
            }
        }
        if self.written == self.waiting.len() {
            self.waiting.clear();
            self.written = 0;
        } else if self.written >= WAITING_BYTES_MAX {
            self.waiting.drain(..self.written);
            self.written = 0;
        }
    }

    /// Waits for the daemon, the child, the end. Is the follower ready? Was the
    /// monitor asked to stop?
    fn wait(&self, follower: &Follower, stop: &Stop) -> (bool, bool) {
        let mut fds = vec![(follower.as_fd(), PollFlags::IN), (stop.as_fd(), PollFlags::IN)];
        let mut deadline = follower.next_deadline();
        match &self.running {
            Some(running) => {
                fds.push((running.process.as_fd(), PollFlags::IN));
                if let (Some(stdin), true) = (&running.stdin, self.written < self.waiting.len()) {
                    fds.push((stdin.as_fd(), PollFlags::OUT));
                }
            }
            None => deadline = Some(deadline.map_or(self.start_at, |at| at.min(self.start_at))),
        }
        let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let ready = wait(&fds, timeout);
        (!ready[0].is_empty(), !ready[1].is_empty())
    }

    /// Tells how the child ended, if it did, and when the next one starts.
    fn reap(&mut self, now: Instant) {
        let Some(running) = &mut self.running else { return };
        let Ok(Some(status)) = running.child.try_wait() else { return };
        if now.saturating_duration_since(running.since) >= LIVED {
            self.backoff.reset();
        }
        self.running = None;
        // The next one begins with a whole line; of the one that was cut it is
        // told again.
        let cut = self.waiting[..self.written].iter().rposition(|&byte| byte == b'\n');
        self.waiting.drain(..cut.map_or(0, |end| end + 1));
        self.written = 0;
        let pause = self.backoff.pause();
        self.start_at = now + pause;
        say(format_args!(
            "rtm: exec: {}: {}; starting again in {} ms",
            self.command,
            ended(status),
            pause.as_millis()
        ));
    }

    /// The end of input is the child's end; it is given a while.
    fn end(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        self.running = None;
        running.stdin = None;
        let wanted = [(running.process.as_fd(), PollFlags::IN)];
        let _ = wait(&wanted, Some(END_MAX));
        match running.child.try_wait() {
            Ok(Some(status)) => say(format_args!("rtm: exec: {}: {}", self.command, ended(status))),
            _ => {
                let _ = running.child.kill();
                let _ = running.child.wait();
                say(format_args!("rtm: exec: {}: killed: it did not end", self.command));
            }
        }
    }
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}
