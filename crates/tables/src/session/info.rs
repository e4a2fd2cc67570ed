//! What is told of a session: who it is, what it may cost, what happens to it.

use rtm_model::Change;

use crate::Millis;
use crate::record::Revision;
use crate::token::{Challenge, PROOF_BYTES};
use crate::wire::{DescriptorKind, LoadFlags, Role, WireError};

/// How a client reached the daemon.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    /// A Unix stream socket: the kernel tells when the other side is gone.
    Unix,
    /// TCP: only heartbeats tell.
    Tcp,
    /// The Unix stream socket of fixed structures, `classic.sock`.
    Classic,
}

impl Transport {
    /// Its word in `rtm client list`.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Unix => "unix",
            Transport::Tcp => "tcp",
            Transport::Classic => "classic",
        }
    }
}

/// Who is at the other end, as the daemon found out when it accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// By which transport.
    pub transport: Transport,
    /// Its process, where the transport tells.
    pub pid: Option<u32>,
    /// Its user, where the transport tells.
    pub uid: Option<u32>,
    /// What it may do.
    pub role: Role,
    /// When it connected, in the daemon's own terms (a wall clock's seconds,
    /// say): only handed on to [`SessionInfo`].
    pub since: u64,
}

/// Whose share of a limit a session's demands count for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// A user of this host.
    User(u32),
    /// Whoever comes by a transport that names no user.
    Unknown,
}

impl Owner {
    /// `None`: an administrator, who has no share of his own.
    pub(crate) fn of(peer: &Peer) -> Option<Owner> {
        match peer.role {
            Role::Admin => None,
            Role::Read | Role::Inject => Some(peer.uid.map_or(Owner::Unknown, Owner::User)),
        }
    }
}

/// What a session and everything around it may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HubLimits {
    /// Bytes of the journal that unfiltered sessions read.
    pub journal_bytes: usize,
    /// Bytes of the journal of each filter.
    pub filter_journal_bytes: usize,
    /// Bytes of encoded snapshots, all together.
    pub snapshot_bytes_max: usize,
    /// Bytes of a session's own output buffer; at least 32 KiB, which holds
    /// two of the largest records.
    pub session_output_bytes: usize,
    /// The largest frame that the daemon takes; it also never takes more than
    /// [`crate::INPUT_BYTES_MAX`], which holds the largest change.
    pub frame_bytes_max: usize,
    /// Different filters at one time.
    pub filters_max: usize,
    /// Of these, those that one user who is no administrator brought; all over
    /// TCP, whose users nobody knows, count as one.
    pub filters_per_uid_max: usize,
    /// Milliseconds in which HELLO must be there in full.
    pub hello_timeout_ms: u64,
    /// Milliseconds after which a TCP session with nothing to say is asked for
    /// a sign of life.
    pub heartbeat_ms: u64,
    /// Milliseconds of silence after which a TCP session ends and a Unix
    /// session that doesn't read is shown as silent.
    pub dead_ms: u64,
}

impl Default for HubLimits {
    fn default() -> HubLimits {
        HubLimits {
            journal_bytes: 64 << 20,
            filter_journal_bytes: 1 << 20,
            snapshot_bytes_max: 256 << 20,
            session_output_bytes: 32 << 10,
            frame_bytes_max: 64 << 10,
            filters_max: 64,
            filters_per_uid_max: 32,
            hello_timeout_ms: 5_000,
            heartbeat_ms: 10_000,
            dead_ms: 30_000,
        }
    }
}

/// What a client wants of the daemon.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ServerEvent {
    /// It greeted; WELCOME is on its way.
    Hello {
        /// What it calls itself; empty: nothing.
        name: String,
    },
    /// It follows from now on.
    Subscribed {
        /// From this revision; 0: with a snapshot.
        from: Revision,
        /// The filter's text; empty: everything.
        filter: String,
    },
    /// It answered the challenge: right, and its role is admin from now on
    /// ([`crate::ServerSession::proven`]), or wrong: a goodbye.
    Proof {
        /// The challenge.
        challenge: Challenge,
        /// The answer.
        mac: [u8; PROOF_BYTES],
    },
    /// It is synchronised, and registers for the signal of a whole flush: answer
    /// with [`crate::ServerSession::registered`].
    Register {
        /// Its process id, as it sees itself.
        pid: u32,
    },
    /// It wants a descriptor: answer now, with
    /// [`crate::ServerSession::descriptor`] or
    /// [`crate::ServerSession::no_descriptor`].
    Want {
        /// What for.
        kind: DescriptorKind,
    },
    /// One line of the grammar. No other request comes until
    /// [`crate::ServerSession::done`] has ended its answer.
    Request {
        /// Its id.
        id: u64,
        /// The line.
        line: String,
    },
    /// A stream of changes begins. DONE may be sent at any time; what of the
    /// stream comes after it is dropped by the session.
    LoadBegin {
        /// Its id.
        id: u64,
        /// Atomic, go on, whole content.
        flags: LoadFlags,
        /// The source's name; empty: `admin`.
        source: String,
    },
    /// The next changes of that stream, in order: as many as are there, at most
    /// [`crate::CHANGES_AT_ONCE`]. If one of them makes you answer the stream,
    /// drop those behind it. Given back by [`crate::Hub::recycle`], the next need no room
    /// of their own.
    Changes(Vec<Change>),
    /// The stream is complete: answer with [`crate::ServerSession::done`].
    LoadEnd {
        /// Its id.
        id: u64,
        /// The client gives an atomic stream up.
        give_up: bool,
    },
    /// The client no longer wants the answer that is being given. It still has
    /// to be ended.
    Cancel {
        /// The request's id.
        id: u64,
    },
    /// Its filter or mode can't be had. A goodbye that says why is in the
    /// output: write what can be written, then close.
    Refused {
        /// Why.
        why: String,
    },
    /// The client said goodbye: close.
    Goodbye,
    /// The client's bytes were wrong. A goodbye that says how is in the
    /// output: write what can be written, then close.
    Failed(WireError),
}

/// Where a session stands; see `session/server.rs`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SessionState {
    /// HELLO hasn't come.
    Greeting,
    /// It never subscribed: it asks, and gets answers.
    Admin,
    /// It gets every transaction in order.
    Live,
    /// It gets what changed since a revision.
    CatchingUp,
    /// It gets everything.
    Snapshot,
    /// It has taken nothing for `dead_ms` though something waits for it.
    Silent,
    /// A goodbye was said.
    Closing,
}

impl SessionState {
    /// Its word in `rtm client list`.
    pub fn name(self) -> &'static str {
        match self {
            SessionState::Greeting => "greeting",
            SessionState::Admin => "admin",
            SessionState::Live => "live",
            SessionState::CatchingUp => "catching-up",
            SessionState::Snapshot => "snapshot",
            SessionState::Silent => "silent",
            SessionState::Closing => "closing",
        }
    }
}

/// What is told of a registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignalInfo {
    /// The process id that it sent.
    pub pid: u32,
    /// How it is signalled: a word.
    pub way: &'static str,
    /// How often it was.
    pub sent: u64,
}

/// All that `rtm client list` shows of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionInfo {
    /// Its number, unique in the daemon's life.
    pub session: u64,
    /// What the client calls itself; empty: nothing.
    pub name: String,
    /// Who it is.
    pub peer: Peer,
    /// Where it stands.
    pub state: SessionState,
    /// Does it follow?
    pub subscriber: bool,
    /// Its filter's text; empty: everything.
    pub filter: String,
    /// The state that all bytes written so far amount to.
    pub revision: Revision,
    /// Records that it has yet to get: exact while live, else about.
    pub lag_records: u64,
    /// For how long it has been behind.
    pub lag_ms: u64,
    /// Bytes that wait for it, in its own buffer and in shared ones; while it
    /// is catching up, those in its own buffer.
    pub queued_bytes: u64,
    /// Bytes of the daemon's memory that are this session's alone.
    pub own_bytes: u64,
    /// Records written to it.
    pub sent_records: u64,
    /// Records that it never got because newer ones of the same key replaced
    /// them while it was catching up.
    pub conflated: u64,
    /// How often it resumed or fell behind and caught up without a snapshot.
    pub resumes: u64,
    /// How many snapshots it got.
    pub snapshots: u64,
    /// How often it said that a digest differed.
    pub resyncs: u64,
    /// Of a classic session: routes that its structure can't show.
    pub not_shown: Option<u64>,
    /// Its registration, if it has registered.
    pub signal: Option<SignalInfo>,
    /// For how long nothing was heard from it.
    pub heard_ms: Millis,
}
