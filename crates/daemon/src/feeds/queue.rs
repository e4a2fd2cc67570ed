//! The POSIX message queue: any number of senders post commands, one message is
//! one transaction.
//!
//! **Order**: the kernel gives the highest priority first, and within one
//! priority the oldest. The daemon takes one message at a time and keeps none,
//! so an urgent one overtakes everything that still stands in the queue, and a
//! sender's own order holds within one priority.
//!
//! **Whose is the name?** A queue has no owner that outlives its descriptors, so
//! the daemon locks its own (`flock`), as long as it runs. One that exists and is
//! locked belongs to a daemon that lives, and is not touched. One that exists and
//! isn't locked was left behind by a killed daemon: if this directory's file
//! `rtmd.queue` names it, with its inode, it was ours, and is made anew. Anything
//! else of that name is somebody else's, and is left alone with a warning. All of
//! this happens under `rtmd.lock`.
//!
//! **While somebody has the tables for itself** the queue isn't read: messages
//! stay in it, and senders wait in their own call.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ipc::epoll::{Epoll, Interest};
use ipc::mq::{self, Access, Options};
use ipc::timer::Wait;
use rtm_tables::wire::RejectedBy;

use super::commands;
use crate::config::QueueConfig;
use crate::core::{Core, Requester};
use crate::inventory::{Row, Waited};
use crate::turn::TurnStats;
use crate::wakeup::Wakeup;

/// Messages taken in one turn: few enough that other feeds wait a fraction of a
/// turn, and time is looked at after each.
const PER_TURN: usize = 64;

/// What remembers the queue for the daemon that comes after a killed one.
const MEMORY: &str = "rtmd.queue";

/// The smallest message size that is of use: a line with a prefix, a gateway and
/// a link.
const MESSAGE_BYTES_MIN: usize = 64;

/// The daemon's queue. Its name is removed when this is dropped.
pub(crate) struct Queue {
    queue: mq::Queue,
    inode: u64,
    memory: PathBuf,
    buffer: Vec<u8>,
    /// Depth and message size as they came to be.
    depth: usize,
    message_bytes: usize,
    /// It isn't watched: the tables are held by somebody.
    paused: bool,
    pub(crate) waited: Waited,
}

impl Queue {
    /// Makes the queue of the daemon in `directory`, whose lock is held. Also
    /// gives what is to be said: a smaller queue than asked for.
    ///
    /// # Errors
    /// There is none: one line says why.
    pub(crate) fn create(
        directory: &Path,
        config: &QueueConfig,
    ) -> Result<(Queue, Option<String>), String> {
        let name = match &config.name {
            Some(name) => name.0.clone(),
            None => crate::runtime_dir::posix_name(directory),
        };
        let memory = directory.join(MEMORY);
        remove_leftover(&memory);
        let wanted = (config.depth.0 as usize, config.message_bytes.0 as usize);
        let (queue, (depth, message_bytes)) = make(&name, wanted, config.mode.0)?;
        let locked =
            rustix::fs::flock(&queue, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        if let Err(errno) = locked {
            // It is ours by its making; nobody else could have locked it yet.
            let _ = mq::remove(&name);
            return Err(format!("queue {name}: can't be locked: {}", ipc::errno_text(errno)));
        }
        let inode = queue.metadata().map_err(|error| error.to_string())?.st_ino;
        let buffer = queue.buffer().map_err(|error| error.to_string())?;
        let made = Queue {
            queue,
            inode,
            memory,
            buffer,
            depth,
            message_bytes,
            paused: false,
            waited: Waited::default(),
        };
        if let Err(error) = write_memory(&made.memory, &name, inode) {
            let why = crate::runtime_dir::errno_text(&error);
            return Err(format!("{}: can't be written: {why}", made.memory.display()));
        }
        let said = ((depth, message_bytes) != wanted).then(|| {
            format!(
                "queue {name}: {} messages of {} bytes are beyond this system's limits (/proc/sys/fs/mqueue, ulimit -q); it has {depth} of {message_bytes}",
                wanted.0, wanted.1
            )
        });
        Ok((made, said))
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.queue.name()
    }

    /// How many messages it holds, and how long one may be.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.depth, self.message_bytes)
    }

    /// Lets the loop watch it.
    pub(crate) fn watch(&self, epoll: &Epoll) -> Result<(), ipc::epoll::Error> {
        epoll.add(&self.queue, Wakeup::Queue.number(), Interest::READ)
    }

    /// Its descriptor, for `status -d`.
    pub(crate) fn row(&self, core: &Core, turns: &TurnStats) -> Row {
        let stats = &core.feeds.queue;
        Row::new("queue", &self.queue, self.name())
            .woken(turns.wakeups_by(Wakeup::Queue))
            .read(stats.bytes, stats.overruns)
            .waited(self.waited)
    }

    /// Takes messages until `until`, at least one. True: there is more.
    pub(crate) fn take_some(&mut self, core: &mut Core, epoll: &Epoll, until: Instant) -> bool {
        for _ in 0..PER_TURN {
            if !core.may_change(Requester::Queue) {
                // Level-triggered: what nobody reads would wake every turn.
                self.pause(true, epoll);
                return false;
            }
            self.pause(false, epoll);
            match self.queue.receive(&mut self.buffer, Wait::No) {
                Ok(message) => {
                    let bytes = &self.buffer[..message.len];
                    commands::execute(core, RejectedBy::Queue, message.priority, bytes);
                    self.waited.served(core.turn);
                }
                Err(mq::Error::Empty { .. } | mq::Error::Interrupted { .. }) => return false,
                Err(error) => {
                    // Nothing that a sender does leads here; it is watched on.
                    tracing::error!("queue: {error}");
                    return false;
                }
            }
            if Instant::now() >= until {
                break;
            }
        }
        core.feeds.queue.overruns += 1;
        true
    }

    fn pause(&mut self, paused: bool, epoll: &Epoll) {
        if self.paused == paused {
            return;
        }
        let interest = if paused { Interest::NONE } else { Interest::READ };
        match epoll.modify(&self.queue, Wakeup::Queue.number(), interest) {
            Ok(()) => self.paused = paused,
            Err(error) => tracing::error!("queue: {error}"),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let name = self.queue.name();
        if inode_of(name) == Some(self.inode) {
            let _ = mq::remove(name);
        }
        let _ = std::fs::remove_file(&self.memory);
        if let Ok(left) = self.queue.attributes().map(|attributes| attributes.curmsgs) {
            if left > 0 {
                tracing::warn!("queue {name}: {left} messages were not read any more");
            }
        }
    }
}

/// Makes a queue that didn't exist, as large as the system allows.
fn make(
    name: &str,
    wanted: (usize, usize),
    mode: u32,
) -> Result<(mq::Queue, (usize, usize)), String> {
    let (mut depth, mut bytes) = wanted;
    loop {
        let options = Options { maxmsg: Some(depth), msgsize: Some(bytes), mode, exclusive: true };
        let error = match mq::Queue::create(name, &options) {
            Ok(queue) => return Ok((queue, (depth, bytes))),
            Err(error) => error,
        };
        match error {
            mq::Error::TooLarge { wanted, limit, .. } if limit > 0 => {
                // Which of the two it was is seen by its number.
                if wanted == depth && depth > limit {
                    depth = limit;
                } else {
                    bytes = limit;
                }
            }
            // The user's queues hold too many bytes together.
            mq::Error::NoRoom { .. } if depth > 1 => depth /= 2,
            mq::Error::NoRoom { .. } if bytes / 2 >= MESSAGE_BYTES_MIN => bytes /= 2,
            mq::Error::Exists { .. } => {
                return Err(if is_live(name) {
                    format!(
                        "queue {name}: belongs to another daemon that runs; another queue.name would be right"
                    )
                } else {
                    format!(
                        "queue {name}: exists and is not this daemon's; remove it (ipc mq rm {name}), or another queue.name would be right"
                    )
                });
            }
            error => return Err(format!("queue {error}")),
        }
    }
}

/// Does a running daemon hold it?
fn is_live(name: &str) -> bool {
    let Ok(queue) = mq::Queue::open(name, Access::Receive) else { return true };
    let lock = rustix::fs::flock(&queue, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    lock.is_err()
}

fn inode_of(name: &str) -> Option<u64> {
    let queue = mq::Queue::open(name, Access::Receive).ok()?;
    Some(queue.metadata().ok()?.st_ino)
}

/// What the daemon before left behind in this directory, if it was killed.
fn remove_leftover(memory: &Path) {
    let Ok(text) = std::fs::read_to_string(memory) else { return };
    let mut words = text.split_ascii_whitespace();
    if let (Some(name), Some(inode)) = (words.next(), words.next()) {
        if inode.parse().ok() == inode_of(name) && inode_of(name).is_some() && !is_live(name) {
            tracing::info!("queue {name}: left by a daemon that was killed; made anew");
            let _ = mq::remove(name);
        }
    }
    let _ = std::fs::remove_file(memory);
}

fn write_memory(path: &Path, name: &str, inode: u64) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    std::io::Write::write_all(&mut file, format!("{name} {inode}\n").as_bytes())
}
