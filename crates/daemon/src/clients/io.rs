//! Bytes in, bytes out.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use ipc::sends::Sends;
use rtm_tables::wire::{GoodbyeReason, ItemFlags, ItemKind, Role};
use rtm_tables::{Challenge, PROOF_BYTES, ServerEvent};
use rustix::io::Errno;

use super::{Client, Clients, GOODBYE_MS, get};
use crate::core::{Core, Requester};
use crate::load::Load;
use crate::requests::{self, Begun, Reply};
use crate::wakeup::ClientToken;

/// What is read at once: a session takes less than 32 KiB at a time.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// What one client may give before others have their turn of reading: some
/// hundred changes, so that a client that floods leaves room for others.
const READ_SHARE: usize = 64 * 1024;

/// What is written to one client in one turn.
const WRITE_SHARE: usize = 128 * 1024;
/// And while single changes come: whoever is given a snapshot works on its share for a
/// while, on a processor that a change's subscribers may wait for.
const WRITE_SHARE_LIVE: usize = 32 * 1024;

/// So much is written to clients before the clock is looked at: for each of 64 that a
/// lone change goes to, looking costs as much as a tenth of its write.
const UNTIMED_CLIENTS: usize = 16;
const UNTIMED_BYTES: u64 = 64 * 1024;

/// A lone change goes to as many in one system call: those who are woken don't interrupt
/// it (docs/design/distribution.md).
pub(super) const TOGETHER_MOST: usize = 64;
/// For fewer it isn't worth it.
const TOGETHER_LEAST: usize = 4;
/// And only what is short: copying it costs nothing.
const TOGETHER_BYTES: usize = 1024;

/// Entities looked at for one client in one turn, while it catches up.
const FILL: usize = 512;

/// What came of writing.
enum Sent {
    /// All there was.
    All,
    /// Its share; there is more.
    Share,
    /// What the socket took; it tells when it takes more.
    Full,
    /// The other side is gone.
    Gone,
}

impl Clients {
    /// Reads from those who have something, until `until`. True: time is up.
    pub(crate) fn read_some(&mut self, core: &mut Core, until: Instant) -> bool {
        while let Some(token) = self.readable.pop_front() {
            if let Some(client) = get(&mut self.slots, token) {
                client.queued.readable = false;
                let more = self.read(token, core);
                self.watch(token);
                self.arm(token);
                if more {
                    // Behind all others; while nobody else has anything, a
                    // stream may use up the turn.
                    self.queue_readable(token);
                }
            }
            if Instant::now() >= until {
                return !self.readable.is_empty();
            }
        }
        false
    }

    /// Reads a client's share. True: it was used up, and there may be more.
    fn read(&mut self, token: ClientToken, core: &mut Core) -> bool {
        let mut share = READ_SHARE;
        loop {
            let mut buffer = std::mem::take(&mut self.buffer);
            let Some(client) = get(&mut self.slots, token) else {
                self.buffer = buffer;
                return false;
            };
            let limit = client.session.read_limit().min(buffer.len());
            let stopped = client.paused || client.input_ended || client.closing.is_some();
            let read = if limit == 0 || stopped {
                Err(Errno::AGAIN)
            } else {
                rustix::io::read(&client.fd, &mut buffer[..limit])
            };
            match read {
                Ok(0) => self.input_ended(token, core),
                Ok(count) => {
                    core.counters.bytes_in += count as u64;
                    client.flow.bytes_in += count as u64;
                    client.waited.served(core.turn);
                    self.input(token, &buffer[..count], core);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => self.ended.push(token),
            }
            self.buffer = buffer;
            match read {
                // All that was there; if more has come since, epoll says so.
                Ok(count) if count == limit && count < share => share -= count,
                Ok(count) if count == limit => {
                    if let Some(client) = get(&mut self.slots, token) {
                        client.flow.overruns += 1;
                    }
                    return true;
                }
                _ => return false,
            }
        }
    }

    /// The other side writes no more: what it asked for is still answered.
    fn input_ended(&mut self, token: ClientToken, core: &mut Core) {
        let Some(client) = get(&mut self.slots, token) else { return };
        client.input_ended = true;
        if let Some(error) = client.session.input_ended() {
            core.counters.protocol_errors += 1;
            let pid = client.session.peer().pid;
            tracing::info!(pid, "ended a session for its bytes: {error}");
        }
        let waits = client.job.is_some()
            || client.load.as_ref().is_some_and(|load| load.is_busy(core))
            || client.session.wants_write(&core.hub) && !client.follows;
        if !waits {
            self.ended.push(token);
        }
    }

    /// Bytes for the session; nothing: what it kept.
    pub(super) fn input(&mut self, token: ClientToken, bytes: &[u8], core: &mut Core) {
        let mut input = bytes;
        loop {
            let Some(client) = get(&mut self.slots, token) else { return };
            let event =
                client.session.handle_bytes(&mut input, core.now, &mut core.hub, &mut core.table);
            let Some(event) = event else { return };
            self.event(token, event, core);
        }
    }

    fn event(&mut self, token: ClientToken, event: ServerEvent, core: &mut Core) {
        let who = Requester::Client(token);
        let Some(client) = get(&mut self.slots, token) else { return };
        match event {
            ServerEvent::Changes(changes) => {
                let Some(load) = &mut client.load else { return };
                let reply = load.changes(core, changes);
                let takes = load.takes_changes(core);
                let busy = load.is_busy(core);
                if !takes {
                    client.paused = true;
                    client.session.pause(true);
                }
                if busy {
                    self.queue_runnable(token);
                }
                self.tell_refusals(token);
                if let Some(reply) = reply {
                    self.end_load(token, &reply, core);
                }
            }
            ServerEvent::Request { id, line } => {
                match requests::begin(core, who, client.role, &line) {
                    Begun::Answered(reply) => self.reply(token, id, &reply, core),
                    Begun::Empty => {
                        let reply = Reply::usage("the request is empty; a command would be right");
                        self.reply(token, id, &reply, core);
                    }
                    Begun::Job(job) => {
                        client.job = Some((id, job));
                        self.queue_runnable(token);
                    }
                }
            }
            ServerEvent::LoadBegin { id, flags, source } => {
                let role = client.role;
                self.orphan_load(token);
                match Load::begin(core, who, role, id, flags, &source) {
                    Ok(load) => {
                        let Some(client) = get(&mut self.slots, token) else { return };
                        if !load.takes_changes(core) {
                            client.paused = true;
                            client.session.pause(true);
                        }
                        client.load = Some(load);
                    }
                    Err(reply) => self.reply(token, id, &reply, core),
                }
            }
            ServerEvent::LoadEnd { give_up, .. } => {
                let Some(load) = &mut client.load else { return };
                match load.end(core, give_up) {
                    Some(reply) => self.end_load(token, &reply, core),
                    None => self.queue_runnable(token),
                }
            }
            ServerEvent::Cancel { id } => {
                if let Some((_, mut job)) = client.job.take_if(|(job, _)| *job == id) {
                    if job.cancel(core, who) {
                        self.orphans.push(super::steps::Orphan::Job(who, job));
                    }
                    let reply = Reply::refused("cancelled");
                    self.reply(token, id, &reply, core);
                }
            }
            ServerEvent::Proof { challenge, mac } => self.proof(token, &challenge, &mac, core),
            ServerEvent::Register { pid } => self.register(token, pid, core),
            ServerEvent::Want { kind } => self.want(token, kind, core),
            ServerEvent::Hello { name } => {
                tracing::debug!(name, session = token.number(), "hello");
            }
            ServerEvent::Subscribed { from, filter } => {
                tracing::debug!(from = from.0, filter, session = token.number(), "subscribed");
                client.follows = true;
                if client.kept {
                    let text = "too many sessions: this place is kept for requests";
                    self.goodbye(token, GoodbyeReason::TooMany, text, core);
                }
            }
            ServerEvent::Goodbye => self.ended.push(token),
            ServerEvent::Failed(error) => {
                core.counters.protocol_errors += 1;
                let info = client.session.info(&core.hub, core.now);
                tracing::info!(
                    name = info.name,
                    pid = info.peer.pid,
                    uid = info.peer.uid,
                    "ended a session for its bytes: {error}"
                );
                client.closing.get_or_insert(core.now + GOODBYE_MS);
                self.queue_answer(token);
            }
            ServerEvent::Refused { why } => {
                tracing::info!(session = token.number(), "refused a subscription: {why}");
                client.closing.get_or_insert(core.now + GOODBYE_MS);
                self.queue_answer(token);
            }
            // The protocol may learn what the daemon doesn't use yet.
            _ => {}
        }
    }

    /// A TCP client says that it knows the secret.
    fn proof(
        &mut self,
        token: ClientToken,
        challenge: &Challenge,
        mac: &[u8; PROOF_BYTES],
        core: &mut Core,
    ) {
        let right = self.secret.as_ref().is_some_and(|secret| secret.verify(challenge, mac));
        let Some(client) = get(&mut self.slots, token) else { return };
        if right {
            client.role = Role::Admin;
            client.session.proven(Role::Admin);
            tracing::info!(session = token.number(), "proved the secret of tcp_token_file");
            self.queue_answer(token);
        } else {
            core.counters.proofs_refused += 1;
            tracing::warn!(
                session = token.number(),
                "a wrong proof of the secret of tcp_token_file"
            );
            let text =
                "the proof is wrong; the secret of the daemon's tcp_token_file would be right";
            self.goodbye(token, GoodbyeReason::NotPermitted, text, core);
        }
    }

    /// Answers a request.
    pub(super) fn reply(&mut self, token: ClientToken, id: u64, reply: &Reply, core: &mut Core) {
        let Some(client) = get(&mut self.slots, token) else { return };
        client.session.done(&reply.frame(id, core));
        core.counters.requests_refused += u64::from(reply.is_refusal());
        if client.kept {
            // It has had its say; for the next one there is as much time again.
            client.job_deadline = Some(core.now + core.config.limits.hello_timeout_s.0 * 1000);
        }
        self.queue_answer(token);
    }

    /// Answers a load, and takes what comes behind it.
    pub(super) fn end_load(&mut self, token: ClientToken, reply: &Reply, core: &mut Core) {
        let Some(client) = get(&mut self.slots, token) else { return };
        let Some(load) = &client.load else { return };
        let id = load.id;
        if load.is_over() {
            client.load = None;
        }
        self.reply(token, id, reply, core);
        self.unpause(token);
    }

    /// Lets a client go on that was paused.
    pub(super) fn unpause(&mut self, token: ClientToken) {
        let Some(client) = get(&mut self.slots, token) else { return };
        if std::mem::take(&mut client.paused) {
            client.session.pause(false);
        }
    }

    /// Tells of changes that were refused in a stream that goes on.
    pub(super) fn tell_refusals(&mut self, token: ClientToken) {
        let Some(client) = get(&mut self.slots, token) else { return };
        let Some(load) = &mut client.load else { return };
        let mut told = false;
        while let Some(json) = load.untold() {
            // Without room it is left out: the count at the end has it.
            told |= client.session.item(ItemKind::Json, ItemFlags::default(), json.as_bytes());
        }
        if told {
            self.queue_answer(token);
        }
    }

    /// Writes to those the hub named, then answers, then to who has far more to get;
    /// until `until`, or the last for as long as `bulk` says. True: time is up.
    pub(crate) fn send_some(
        &mut self,
        core: &mut Core,
        until: Instant,
        bulk: Option<Duration>,
    ) -> bool {
        let mut late = false;
        let share = if bulk.is_some() { WRITE_SHARE_LIVE } else { WRITE_SHARE };
        let (mut clients, mut bytes) = (0, core.counters.bytes_out);
        while !self.ready.is_empty() {
            clients += self.send_together(core, share);
            if clients < UNTIMED_CLIENTS && core.counters.bytes_out - bytes < UNTIMED_BYTES {
                continue;
            }
            if Instant::now() >= until {
                late = !self.ready.is_empty();
                break;
            }
            (clients, bytes) = (0, core.counters.bytes_out);
        }
        // Answers are few and small: they don't wait for a turn with time left.
        for _ in 0..self.answers.len() {
            let Some(token) = self.answers.pop_front() else { break };
            if let Some(client) = get(&mut self.slots, token) {
                client.queued.answers = false;
                self.send(token, share, core);
            }
        }
        let bulk_until = bulk.map_or(until, |bulk| Instant::now() + bulk);
        // Only those that are there now: who comes again waits for the next
        // turn.
        for _ in 0..self.bulk.len() {
            if Instant::now() >= bulk_until {
                return true;
            }
            let Some(token) = self.bulk.pop_front() else { break };
            if let Some(client) = get(&mut self.slots, token) {
                client.queued.bulk = false;
                self.send(token, share, core);
            }
        }
        late
    }

    /// Writes to the first of those the hub named, or to many at once if each gets
    /// little. Says to how many.
    fn send_together(&mut self, core: &mut Core, share: usize) -> usize {
        let count = self.ready.len().min(TOGETHER_MOST);
        let together = self.sends.as_ref().is_some_and(Sends::works) && count >= TOGETHER_LEAST;
        if !together {
            let Some(token) = self.ready.pop_front() else { return 0 };
            if let Some(client) = get(&mut self.slots, token) {
                client.queued.ready = false;
                self.send(token, share, core);
            }
            return 1;
        }
        let Some(mut sends) = self.sends.take() else { return 0 };
        let (mut few, mut many) = std::mem::take(&mut self.together);
        for _ in 0..count {
            let Some(token) = self.ready.pop_front() else { break };
            self.signal(token);
            let Some(client) = get(&mut self.slots, token) else { continue };
            client.queued.ready = false;
            let slices = client.session.slices(&core.hub, share);
            let is_short = (1..=TOGETHER_BYTES).contains(&slices.bytes());
            let fits = is_short && !slices.carries_descriptor() && client.session.reads_journal();
            match fits && sends.push(&slices) {
                true => few.push((token, slices.bytes())),
                false => many.push(token),
            }
        }
        let slots = &self.slots;
        // Up to one that isn't there any more, if that could be: or the next one would be
        // sent what is its.
        let sent = sends.send(few.iter().map_while(|(token, _)| {
            let client = slots.get(token.place())?.client.as_deref()?;
            Some(client.fd.as_fd())
        }));
        // All that was sent before anything else is written: nothing else changes the hub.
        for ((token, wanted), sent) in few.drain(..).zip(sent) {
            let Some(client) = get(&mut self.slots, token) else { continue };
            let written = match sent {
                Some(Ok(written)) => *written,
                // What wasn't tried is, below, by itself.
                None | Some(Err(Errno::AGAIN | Errno::INTR)) => 0,
                Some(Err(_)) => {
                    self.ended.push(token);
                    continue;
                }
            };
            client.session.transmitted(written, core.now, &mut core.hub);
            core.counters.bytes_out += written as u64;
            client.flow.bytes_out += written as u64;
            self.bytes_together += written as u64;
            // It has all, and nothing waits that could go on now.
            let is_done = written == wanted
                && !client.session.wants_write(&core.hub)
                && !client.session.wants_input()
                && !client.blocked
                && !client.input_ended
                && client.job.is_none()
                && !client.session.is_finished();
            if !is_done {
                many.push(token);
            }
        }
        for token in many.drain(..) {
            self.send(token, share, core);
        }
        self.together = (few, many);
        self.sends = Some(sends);
        count
    }

    fn send(&mut self, token: ClientToken, share: usize, core: &mut Core) {
        self.signal(token);
        let Some(client) = get(&mut self.slots, token) else { return };
        let sent = write(client, share, core);
        let finished = client.session.is_finished();
        match sent {
            Sent::Gone => {
                self.ended.push(token);
                return;
            }
            Sent::Full => client.blocked = true,
            Sent::All => client.blocked = false,
            Sent::Share => {
                client.blocked = false;
                client.flow.overruns += 1;
                if !std::mem::replace(&mut client.queued.bulk, true) {
                    self.bulk.push_back(token);
                }
            }
        }
        let answered = client.job.is_none() && client.load.is_none();
        if finished || client.input_ended && answered && matches!(sent, Sent::All) {
            self.ended.push(token);
            return;
        }
        let has_room = client.job.is_some() && client.session.item_room() > 0;
        // Room may be what its next request waited for.
        let has_input = client.session.wants_input();
        if has_room {
            self.queue_runnable(token);
        }
        if has_input {
            self.input(token, &[], core);
        }
        self.watch(token);
        self.arm(token);
    }
}

/// Writes what the session has, up to its share.
fn write(client: &mut Client, mut share: usize, core: &mut Core) -> Sent {
    loop {
        client.session.fill(&mut core.hub, &mut core.table, FILL);
        let slices = client.session.slices(&core.hub, share);
        let wanted = slices.bytes();
        if wanted == 0 {
            // It may look on at what doesn't concern it, or wait for the hub.
            let more = client.session.wants_write(&core.hub);
            return if more { Sent::Share } else { Sent::All };
        }
        let written = if slices.carries_descriptor() {
            // It is there: the session was asked to announce it.
            let Some(attachment) = &client.attachment else { return Sent::Gone };
            let descriptor = [attachment.descriptor(core)];
            let sent = ipc::descriptors::send_slices(&client.fd, &slices, &descriptor);
            sent.map_err(|error| error.errno())
        } else {
            rustix::io::writev(client.fd.as_fd(), &slices)
        };
        let carried = slices.carries_descriptor();
        let written = match written {
            Ok(written) => written,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            // ETOOMANYREFS, too: it has more on their way to it than it may.
            Err(_) => return Sent::Gone,
        };
        if carried && written > 0 {
            client.attachment = None;
        }
        client.session.transmitted(written, core.now, &mut core.hub);
        core.counters.bytes_out += written as u64;
        client.flow.bytes_out += written as u64;
        if written < wanted {
            return Sent::Full;
        }
        if !client.session.wants_write(&core.hub) {
            return Sent::All;
        }
        share = share.saturating_sub(written);
        if share == 0 {
            return Sent::Share;
        }
    }
}
