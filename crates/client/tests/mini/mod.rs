//! The smallest daemon: a table, a hub and sessions behind a Unix socket, in a
//! thread. It takes loads and single requests, and serves followers.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rtm_model::{DigestKey, Digests};
use rtm_tables::wire::{Done, ItemFlags, ItemKind, Role};
use rtm_tables::{
    Applied, Epoch, Hub, HubLimits, Peer, Revision, ServerEvent, ServerSession, SourceId,
    SourceSpec, Table, TableLimits, Transport,
};
use rustix::event::PollFlags;

const BUDGET: usize = 4096;

/// A daemon in a thread; ends when dropped.
pub struct Mini {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<(Revision, Digests)>>,
}

impl Mini {
    pub fn start(path: &Path, epoch: u64, limits: HubLimits) -> Mini {
        let listener = UnixListener::bind(path).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || Daemon::new(listener, epoch, limits).run(&asked));
        Mini { stop, thread: Some(thread) }
    }

    /// Ends it without a goodbye; gives its revision and digests.
    pub fn stop(mut self) -> (Revision, Digests) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Mini {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Client {
    stream: UnixStream,
    session: ServerSession,
    done: Done<'static>,
    over: bool,
}

struct Daemon {
    listener: UnixListener,
    table: Table,
    hub: Hub,
    admin: SourceId,
    clients: BTreeMap<u64, Client>,
    next: u64,
    began: Instant,
}

impl Daemon {
    fn new(listener: UnixListener, epoch: u64, limits: HubLimits) -> Daemon {
        listener.set_nonblocking(true).unwrap();
        let key = DigestKey([epoch, 1]);
        let mut table = Table::new(Epoch(epoch), key, TableLimits::default());
        let admin = table.source(SourceSpec::admin()).unwrap();
        let hub = Hub::new(&table, key, limits);
        let clients = BTreeMap::new();
        Daemon { listener, table, hub, admin, clients, next: 1, began: Instant::now() }
    }

    fn run(&mut self, stop: &AtomicBool) -> (Revision, Digests) {
        while !stop.load(Ordering::Relaxed) {
            self.wait();
            let now = self.began.elapsed().as_millis() as u64;
            self.hub.begin_turn(now);
            while let Ok((stream, _)) = self.listener.accept() {
                stream.set_nonblocking(true).unwrap();
                let peer = Peer {
                    transport: Transport::Unix,
                    pid: None,
                    uid: None,
                    role: Role::Admin,
                    since: 0,
                };
                let session = ServerSession::new(peer, self.next, self.next, &mut self.hub, now);
                let client = Client { stream, session, done: Done::default(), over: false };
                self.clients.insert(self.next, client);
                self.next += 1;
            }
            for client in self.clients.values_mut() {
                client.read(now, &mut self.hub, &mut self.table, self.admin);
            }
            self.hub.publish(&mut self.table, BUDGET);
            while self.hub.poll_ready().is_some() {}
            for client in self.clients.values_mut() {
                if client.session.wants_write(&self.hub) {
                    client.write(now, &mut self.hub, &mut self.table);
                }
                if client.session.wants_input() {
                    client.read(now, &mut self.hub, &mut self.table, self.admin);
                }
            }
            let over: Vec<u64> =
                self.clients.iter().filter(|(_, c)| c.over).map(|(token, _)| *token).collect();
            for token in over {
                let client = self.clients.remove(&token).unwrap();
                client.session.close(&mut self.hub, &mut self.table);
            }
        }
        (self.table.revision(), self.table.digests())
    }

    fn wait(&self) {
        let mut fds = vec![(self.listener.as_fd(), PollFlags::IN)];
        for client in self.clients.values() {
            let mut flags = PollFlags::empty();
            if client.session.read_limit() > 0 {
                flags |= PollFlags::IN;
            }
            if client.session.wants_write(&self.hub) {
                flags |= PollFlags::OUT;
            }
            fds.push((client.stream.as_fd(), flags));
        }
        let patience = if self.hub.has_work() { 0 } else { 5 };
        rtm_client::wait(&fds, Some(Duration::from_millis(patience)));
    }
}

impl Client {
    fn read(&mut self, now: u64, hub: &mut Hub, table: &mut Table, admin: SourceId) {
        let mut buffer = [0; 28 * 1024];
        for _ in 0..16 {
            let limit = self.session.read_limit().min(buffer.len());
            let count = match limit {
                0 => 0,
                limit => match self.stream.read(&mut buffer[..limit]) {
                    Ok(0) => return self.over = true,
                    Ok(count) => count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                    Err(_) => return self.over = true,
                },
            };
            let mut input = &buffer[..count];
            while let Some(event) = self.session.handle_bytes(&mut input, now, hub, table) {
                self.event(event, hub, table, admin);
            }
            if count == 0 {
                return;
            }
        }
    }

    fn event(&mut self, event: ServerEvent, hub: &mut Hub, table: &mut Table, admin: SourceId) {
        match event {
            ServerEvent::Request { id, line } => {
                let text = format!("you said {line}");
                self.session.item(ItemKind::Text, ItemFlags::default(), text.as_bytes());
                self.session.done(&Done { id, revision: table.revision(), ..Done::default() });
            }
            ServerEvent::LoadBegin { id, .. } => self.done = Done { id, ..Done::default() },
            ServerEvent::Changes(changes) => {
                for change in &changes {
                    match table.apply(admin, change, hub) {
                        Ok(Applied::Changed(_)) => self.done.applied += 1,
                        Ok(Applied::Unchanged) => self.done.unchanged += 1,
                        Err(_) => {
                            self.done.failed += 1;
                            self.done.code = 2;
                            self.done.position = self.done.applied + self.done.unchanged + 1;
                            self.done.text = "refused";
                            self.done.revision = table.revision();
                            self.session.done(&self.done);
                            return;
                        }
                    }
                }
            }
            ServerEvent::LoadEnd { .. } => {
                self.done.revision = table.revision();
                self.session.done(&self.done);
            }
            ServerEvent::Goodbye | ServerEvent::Failed(_) | ServerEvent::Refused { .. } => {
                self.over = true;
            }
            _ => {}
        }
    }

    fn write(&mut self, now: u64, hub: &mut Hub, table: &mut Table) {
        for _ in 0..8 {
            self.session.fill(hub, table, BUDGET);
            let slices = self.session.slices(hub, 256 * 1024);
            let wanted = slices.bytes();
            if wanted == 0 {
                return;
            }
            let count = match self.stream.write_vectored(&slices) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(_) => return self.over = true,
            };
            self.session.transmitted(count, now, hub);
            if count < wanted {
                return;
            }
        }
        self.session.requeue(hub);
    }
}
