//! What a follower is told to do, and what it tells.

use std::fmt;
use std::time::Duration;

use rtm_image::Reader;
use rtm_model::{Digests, Entity, EntityKey, Mac};
use rtm_tables::wire::records::WireRecord;
use rtm_tables::wire::{RejectedBy, Role, SignalWay, SubscribeMode};
use rtm_tables::{Epoch, Flush, RecordOp, Revision, Store};

use crate::error::Error;

/// How to follow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FollowConfig {
    /// What `rtm client list` shows; at most 64 bytes.
    pub name: String,
    /// What part of the tables: a filter's text, empty for everything.
    pub filter: String,
    /// Keep a replica? Without one records are only decoded and counted, no
    /// digest is compared, and barriers don't wait for this session.
    pub replica: bool,
    /// What of the neighbours: whole, or only their keys (MAC addresses), whose
    /// values are read in the image.
    pub mode: SubscribeMode,
    /// Keep the daemon's image attached ([`crate::Follower::image`])? Only over
    /// a Unix socket.
    pub image: bool,
    /// Have a pipe that can be read when something became visible
    /// ([`crate::Follower::wake_pipe`])? Only over a Unix socket.
    pub wake_pipe: bool,
    /// Tell each change ([`Event::Change`])? Without it batches are applied
    /// faster.
    pub changes: bool,
    /// Be told of changes that the daemon rejected ([`Event::Rejected`])?
    pub rejected: bool,
    /// Be signalled at a whole flush?
    pub signal: FlushSignal,
    /// Forget the tables when the connection is lost? Otherwise they stay,
    /// stale, until the daemon is back.
    pub clear_when_lost: bool,
    /// Come back after a break?
    pub reconnect: bool,
    /// Where to begin in a history, for who wants to be told what changed
    /// since. The replica is first filled silently; then the session resumes
    /// from there, and what has changed since is told.
    pub since: Option<(Epoch, Revision)>,
}

/// How a follower is signalled at a whole flush, beside the record of it: a hint,
/// for who looks at the tables more often than at the connection. Registered
/// after the first synchronisation, over a Unix socket only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FlushSignal {
    /// Not at all.
    #[default]
    No,
    /// By SIGUSR1 from the daemon, which needs the same user or CAP_KILL there.
    Process,
    /// By SIGUSR1 that this process arms itself, on a pipe which the daemon
    /// gives: across users, and never after an exec. The handler (see
    /// [`crate::Follower::flush_signals`]) only counts.
    Armed,
}

impl Default for FollowConfig {
    fn default() -> FollowConfig {
        FollowConfig {
            name: String::new(),
            filter: String::new(),
            replica: true,
            mode: SubscribeMode::Full,
            image: false,
            wake_pipe: false,
            changes: false,
            rejected: false,
            signal: FlushSignal::No,
            clear_when_lost: false,
            reconnect: true,
            since: None,
        }
    }
}

/// How far a follower has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Not connected, until the pause is over. The replica is stale.
    Waiting,
    /// Connecting. The replica is stale.
    Connecting,
    /// Connected; BEGIN hasn't come. The replica is stale.
    Greeting,
    /// Between BEGIN and END: readable, but no one revision's state.
    Syncing,
    /// Every transaction in order.
    Live,
    /// Over: see [`crate::Follower::ended`].
    Ended,
}

impl State {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Connecting => "connecting",
            State::Greeting => "greeting",
            State::Syncing => "syncing",
            State::Live => "live",
            State::Ended => "ended",
        }
    }

    /// May the replica be old?
    pub fn is_stale(self) -> bool {
        !matches!(self, State::Syncing | State::Live)
    }
}

/// What happened.
#[non_exhaustive]
pub enum Event<'a> {
    /// The daemon has answered.
    Connected {
        /// The history its revisions belong to.
        epoch: Epoch,
        /// What this session may do.
        role: Role,
    },
    /// Until `Synced` neither order nor transactions hold.
    Begin {
        /// A snapshot: what it doesn't name is gone at its end, and told as
        /// changes then. Otherwise what changed since `from`.
        snapshot: bool,
        /// The state that it begins with.
        from: Revision,
    },
    /// One entity changes; not yet applied. Only with
    /// [`FollowConfig::changes`]. Between `Begin` and `Synced` something may
    /// come and go again: who wants a state waits for `Synced`.
    Change(Change<'a>),
    /// Mode `keys`: a value under this MAC address came or changed (read it in
    /// the image), or its last one is gone. Only with [`FollowConfig::changes`].
    Key {
        /// The revision.
        revision: Revision,
        /// The MAC address.
        mac: Mac,
        /// Its last value is gone.
        gone: bool,
    },
    /// The image is attached: for the first time, after it grew, or of a daemon
    /// that was started anew.
    Attached {
        /// It.
        image: &'a Reader,
    },
    /// All routes, or all neighbours, go; not yet applied.
    Flushed {
        /// The revision of the flush.
        revision: Revision,
        /// What goes.
        what: Flush,
    },
    /// The replica is exactly this revision, and its digests are equal.
    Synced {
        /// Which.
        revision: Revision,
        /// Was it a snapshot?
        snapshot: bool,
        /// What the replica holds now, if one is kept.
        store: Option<&'a Store>,
    },
    /// A mark: the replica is this revision, and its digests are equal.
    Marked {
        /// Which.
        revision: Revision,
    },
    /// Somebody's change was rejected. Only with [`FollowConfig::rejected`].
    Rejected {
        /// Where it came in.
        by: RejectedBy,
        /// The priority of a message.
        priority: u32,
        /// One line: what, where, why.
        text: &'a str,
    },
    /// The daemon has answered the registration ([`FollowConfig::signal`]).
    Registered {
        /// How it signals.
        way: SignalWay,
        /// Why it doesn't.
        text: &'a str,
    },
    /// A digest differed. A snapshot is on its way.
    Differed {
        /// Where.
        revision: Revision,
        /// What the replica has.
        ours: Digests,
        /// What the daemon has.
        theirs: Digests,
    },
    /// The connection is lost, or could not be made.
    Lost {
        /// Why.
        error: &'a Error,
        /// The pause until the next attempt; `None`: there is none.
        pause: Option<Duration>,
    },
}

/// One entity's change, before it is applied.
#[derive(Clone, Copy)]
pub struct Change<'a> {
    /// While live: its transaction. Between `Begin` and `Synced`: the revision
    /// that last changed the entity.
    pub revision: Revision,
    /// The last of its transaction?
    pub last: bool,
    /// Which entity.
    pub key: EntityKey,
    /// What it is from now on; `None`: gone.
    pub new: Option<&'a Entity>,
    /// The replica's content, just before.
    pub store: &'a Store,
}

impl Change<'_> {
    /// What it was until now.
    pub fn old(&self) -> Option<Entity> {
        self.store.entity(&self.key)
    }
}

impl fmt::Debug for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("revision", &self.revision)
            .field("key", &self.key)
            .field("old", &self.old())
            .field("new", &self.new)
            .finish_non_exhaustive()
    }
}

/// What a follower has met so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Connections that the daemon answered.
    pub connects: u64,
    /// Reconnects that went on where the last connection was cut.
    pub resumes: u64,
    /// Snapshots begun.
    pub snapshots: u64,
    /// Times that the daemon sent what changed instead of every transaction,
    /// because this client had fallen behind.
    pub catch_ups: u64,
    /// Digests that differed.
    pub resyncs: u64,
    /// Records, of both kinds.
    pub records: u64,
    /// Records that delete.
    pub deletes: u64,
    /// Whole flushes.
    pub flushes: u64,
    /// Marks and ends at which the digests were equal (or not compared).
    pub marks: u64,
    /// Bytes received.
    pub bytes: u64,
}

impl Counts {
    /// A record came.
    #[inline]
    pub fn record(&mut self, record: &WireRecord<'_>) {
        self.records += 1;
        self.deletes += u64::from(record.op == RecordOp::Delete);
    }
}

/// Who is told.
pub type Sink<'a> = &'a mut dyn FnMut(Event<'_>);

/// Why [`crate::Follower::turn`] came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Something was done for the connection.
    Worked,
    /// The caller's descriptor with this index is ready.
    Also(usize),
    /// The time is over, or a signal came.
    TimedOut,
}
