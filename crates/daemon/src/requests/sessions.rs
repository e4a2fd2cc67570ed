//! `client list` and `client kill`.

use rtm_model::text::Peer;
use rtm_tables::SessionInfo;
use rtm_tables::wire::{GoodbyeReason, ItemFlags, ItemKind};

use super::{Answer, Around, CODE_REFUSED, Reply, Step};
use crate::core::Core;
use crate::time::utc;

/// Sessions looked at in one step.
const STEP: usize = 256;

/// `client list`.
pub(crate) struct List {
    /// Also those that don't follow.
    all: bool,
    place: usize,
    own: bool,
}

impl List {
    pub(crate) fn new(all: bool) -> List {
        List { all, place: 0, own: false }
    }

    pub(crate) fn step(
        &mut self,
        core: &mut Core,
        around: &mut Around<'_>,
        out: &mut dyn Answer,
    ) -> Step {
        let say = |info: &SessionInfo, out: &mut dyn Answer| {
            (!self.all && !info.subscriber)
                || out.item(ItemKind::Json, ItemFlags::default(), json(info).as_bytes())
        };
        if !self.own {
            if let Some(info) = out.own_info(core) {
                if !say(&info, out) {
                    return Step::NoRoom;
                }
            }
            self.own = true;
        }
        for _ in 0..STEP {
            let Some(session) = around.clients.at(self.place) else {
                return Step::Done(Reply::done());
            };
            if let Some(session) = session {
                if !say(&session.info(&core.hub, core.now), out) {
                    return Step::NoRoom;
                }
            }
            self.place += 1;
        }
        Step::More
    }
}

/// The keys of CLI.md, then ours.
fn json(info: &SessionInfo) -> String {
    serde_json::json!({
        "name": info.name,
        "pid": info.peer.pid,
        "uid": info.peer.uid,
        "transport": info.peer.transport.name(),
        "role": info.peer.role.name(),
        "state": info.state.name(),
        "revision": info.revision.0,
        "lag_records": info.lag_records,
        "lag_ms": info.lag_ms,
        "queued_bytes": info.queued_bytes,
        "sent_records": info.sent_records,
        "conflated": info.conflated,
        "resumes": info.resumes,
        "snapshots": info.snapshots,
        "resyncs": info.resyncs,
        "signal": info.signal.map(|signal| signal.way),
        "since": utc(std::time::Duration::from_millis(info.peer.since)),
        "registered_pid": info.signal.map(|signal| signal.pid),
        "signals_sent": info.signal.map(|signal| signal.sent),
        "not_shown": info.not_shown,
        "session": info.session,
        "subscriber": info.subscriber,
        "filter": info.filter,
        "own_bytes": info.own_bytes,
        "heard_ms": info.heard_ms,
    })
    .to_string()
}

/// `client kill`.
pub(crate) struct Kill {
    peer: Peer,
    place: usize,
    killed: u64,
}

impl Kill {
    pub(crate) fn new(peer: Peer) -> Kill {
        Kill { peer, place: 0, killed: 0 }
    }

    pub(crate) fn step(&mut self, core: &mut Core, around: &mut Around<'_>) -> Step {
        for _ in 0..STEP {
            let Some(session) = around.clients.at(self.place) else {
                return Step::Done(self.reply());
            };
            let meant = session.is_some_and(|session| {
                let info = session.info(&core.hub, core.now);
                match &self.peer {
                    Peer::Pid(pid) => info.peer.pid == Some(*pid),
                    Peer::Name(name) => *info.name == **name,
                }
            });
            if meant {
                around.clients.goodbye_at(
                    self.place,
                    GoodbyeReason::Killed,
                    "killed by an administrator",
                    core,
                );
                self.killed += 1;
            }
            self.place += 1;
        }
        Step::More
    }

    fn reply(&self) -> Reply {
        if self.killed > 0 {
            return Reply { applied: self.killed, ..Reply::done() };
        }
        let peer = match &self.peer {
            Peer::Pid(pid) => format!("pid {pid}"),
            Peer::Name(name) => name.to_string(),
        };
        let text = format!("client kill: {peer}: no such client; 'client list' shows them");
        Reply { code: CODE_REFUSED, text, ..Reply::done() }
    }
}
