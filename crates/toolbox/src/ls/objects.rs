//! Every object of the machine with what is known of it: one `Object` each,
//! whatever its kind.
use std::collections::{BTreeMap, HashMap};

use clap::ValueEnum;
use ipc::diag::{self, UnixSocket};
use ipc::lease::Lease;
use ipc::mq::{self, Access, Queue};
use ipc::sysv::set::Set;
use ipc::{sem, shm};
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

use super::scan::{Holder, Scan, Thing, Waiter};
use crate::holders::is_alive;
use crate::table::{Cell, Names, permissions};

/// A kind of object, as `--type`, `rm` and `wait` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// POSIX message queue
    Mq,
    /// POSIX shared memory
    Shm,
    /// Named POSIX semaphore
    Sem,
    /// System V message queue
    SysvMq,
    /// System V shared memory
    SysvShm,
    /// System V semaphore set
    SysvSem,
    /// Unix socket of this network namespace
    Unix,
    /// FIFO that somebody has open
    Fifo,
    /// Unnamed pipe
    Pipe,
    /// Anonymous file in memory
    Memfd,
    /// Counter to wait for
    Eventfd,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mq => "mq",
            Self::Shm => "shm",
            Self::Sem => "sem",
            Self::SysvMq => "sysv-mq",
            Self::SysvShm => "sysv-shm",
            Self::SysvSem => "sysv-sem",
            Self::Unix => "unix",
            Self::Fifo => "fifo",
            Self::Pipe => "pipe",
            Self::Memfd => "memfd",
            Self::Eventfd => "eventfd",
        }
    }

    pub(crate) fn all() -> &'static [Self] {
        Self::value_variants()
    }
}

/// Whether anybody holds an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Orphan {
    No,
    Yes,
    /// System V: nothing says who holds it, but everybody who ever used it is gone.
    Presumed,
    /// It can't be known, for this reason.
    Unknown(String),
}

/// One object.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    /// As the system spells it: `/queue`, an id, a path, an inode.
    pub(crate) name: String,
    pub(crate) uid: u32,
    /// Who is known to hold it, and who waits for it.
    pub(crate) holders: Vec<Holder>,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) orphan: Orphan,
    /// Messages, a semaphore's value, a counter, connections: what is in it.
    pub(crate) depth: Option<u64>,
    pub(crate) size: Option<u64>,
    /// Everything that is shown, by column.
    pub(crate) cells: HashMap<&'static str, Cell>,
}

impl Object {
    fn new(kind: Kind, name: impl Into<String>, uid: u32) -> Self {
        Self {
            kind,
            name: name.into(),
            uid,
            holders: Vec::new(),
            waiters: Vec::new(),
            orphan: Orphan::No,
            depth: None,
            size: None,
            cells: HashMap::new(),
        }
    }

    /// A name in the file system that no list has.
    pub(crate) fn at_path(kind: Kind, path: &str, stat: &rustix::fs::Stat) -> Self {
        let mut object = Self::new(kind, path, stat.st_uid);
        object.orphan = Orphan::Yes;
        file_cells(&mut object, stat);
        object
    }

    fn set(&mut self, column: &'static str, cell: Cell) {
        self.cells.insert(column, cell);
    }

    /// Who holds it, from the walk; whether it is an orphan follows.
    fn held(&mut self, scan: &Scan, thing: Thing) {
        self.holders = scan.holders(thing).cloned().collect();
        self.waiters = scan.waiters(thing).to_vec();
        self.orphan = match (self.holders.is_empty(), scan.why_unknown()) {
            (false, _) => Orphan::No,
            (true, None) => Orphan::Yes,
            (true, Some(why)) => Orphan::Unknown(why),
        };
    }

    /// Asks the kernel where the walk can't say it: only who owns the file may.
    fn ask(&mut self, path: &str) {
        if let Orphan::Unknown(_) = self.orphan {
            match nobody_has(path) {
                Some(true) => self.orphan = Orphan::Yes,
                Some(false) => {
                    self.orphan = Orphan::No;
                    self.set("WHY", Cell::text("held by processes that can't be seen"));
                }
                None => {}
            }
        }
    }
}

/// Whether nobody has this file open or mapped; none where it can't be known.
pub(crate) fn nobody_has(path: &str) -> Option<bool> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    Lease::take(&file).ok().map(|lease| lease.is_some())
}

/// What a listing is asked for.
pub(crate) struct Wanted<'a> {
    pub(crate) kinds: &'a [Kind],
}

/// The path of a shared-memory object or a semaphore.
pub(crate) fn shm_path(kind: Kind, name: &str) -> String {
    let bare = name.trim_start_matches('/');
    match kind {
        Kind::Sem => format!("/dev/shm/sem.{bare}"),
        _ => format!("/dev/shm/{bare}"),
    }
}

/// What was found, and what could not be listed and why.
pub(crate) struct Found {
    pub(crate) objects: Vec<Object>,
    pub(crate) remarks: Vec<String>,
}

/// Looks at everything of the wanted kinds.
pub(crate) fn collect(wanted: &Wanted<'_>, scan: &Scan, names: &Names) -> Found {
    let mut found = Found { objects: Vec::new(), remarks: Vec::new() };
    for kind in wanted.kinds {
        match kind {
            Kind::Mq => posix_queues(scan, &mut found),
            Kind::Shm => posix_memory(scan, &mut found),
            Kind::Sem => posix_semaphores(scan, &mut found),
            Kind::SysvMq => sysv_queues(scan, names, &mut found),
            Kind::SysvShm => sysv_segments(scan, names, &mut found),
            Kind::SysvSem => sysv_sets(scan, names, &mut found),
            Kind::Unix => unix_sockets(scan, &mut found),
            Kind::Fifo | Kind::Pipe | Kind::Memfd | Kind::Eventfd => {
                seen_at_holders(*kind, scan, &mut found);
            }
        }
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs() as i64;
    for object in &mut found.objects {
        finish(object, names, now);
    }
    found
}

fn file_cells(object: &mut Object, stat: &rustix::fs::Stat) {
    object.set("PERMS", Cell::text(permissions(stat.st_mode)));
    object.set("GID", Cell::Number(stat.st_gid.into()));
    object.set("CTIME", Cell::Time(stat.st_ctime));
    object.set("MTIME", Cell::Time(stat.st_mtime));
}

fn posix_queues(scan: &Scan, found: &mut Found) {
    let all = match mq::list() {
        Ok(all) => all,
        Err(error) => return found.remarks.push(format!("mq: {error}")),
    };
    let mount = mq::mount_point();
    for listed in all {
        let stat = &listed.metadata;
        let mut object = Object::new(Kind::Mq, &listed.name, stat.st_uid);
        file_cells(&mut object, stat);
        object.held(scan, Thing::File(stat.st_dev, stat.st_ino));
        if let Some(mount) = &mount {
            object.ask(&format!("{}{}", mount.display(), listed.name));
        }
        // Not permitted, or gone meanwhile: then its state stays unknown.
        let state = Queue::open(&listed.name, Access::Receive)
            .and_then(|queue| Ok((queue.status()?, queue.attributes()?)));
        if let Ok((status, attributes)) = state {
            object.size = Some(status.bytes);
            object.depth = Some(attributes.curmsgs as u64);
            object.set("USEDBYTES", Cell::Size(status.bytes));
            object.set("MSGS", Cell::Number(attributes.curmsgs as u64));
            object.set("MAXMSG", Cell::Number(attributes.maxmsg as u64));
            object.set("MSGSIZE", Cell::Number(attributes.msgsize as u64));
            if status.notify_pid != 0 {
                object.set("NOTIFYPID", Cell::Number(status.notify_pid as u64));
            }
        }
        found.objects.push(object);
    }
}

fn posix_memory(scan: &Scan, found: &mut Found) {
    let all = match shm::list() {
        Ok(all) => all,
        Err(error) => return found.remarks.push(format!("shm: {error}")),
    };
    for listed in all {
        let stat = &listed.metadata;
        let mut object = Object::new(Kind::Shm, &listed.name, stat.st_uid);
        file_cells(&mut object, stat);
        object.size = Some(stat.st_size as u64);
        object.held(scan, Thing::File(stat.st_dev, stat.st_ino));
        object.ask(&shm_path(Kind::Shm, &listed.name));
        found.objects.push(object);
    }
}

fn posix_semaphores(scan: &Scan, found: &mut Found) {
    let all = match sem::list() {
        Ok(all) => all,
        Err(error) => return found.remarks.push(format!("sem: {error}")),
    };
    for listed in all {
        let stat = &listed.metadata;
        let mut object = Object::new(Kind::Sem, &listed.name, stat.st_uid);
        file_cells(&mut object, stat);
        object.size = Some(stat.st_size as u64);
        object.depth = listed.value.map(u64::from);
        object.held(scan, Thing::File(stat.st_dev, stat.st_ino));
        object.ask(&shm_path(Kind::Sem, &listed.name));
        found.objects.push(object);
    }
}

/// The lines of a table under /proc/sysvipc, by column: everybody may read it,
/// also of objects that he may not open.
fn sysv_table(what: &str) -> Vec<HashMap<String, i64>> {
    let text = std::fs::read_to_string(format!("/proc/sysvipc/{what}")).unwrap_or_default();
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().split_ascii_whitespace().collect();
    lines
        .map(|line| {
            let values = line.split_ascii_whitespace();
            columns
                .iter()
                .zip(values)
                .map(|(column, value)| {
                    // Permissions stand there in octal.
                    let value = match *column {
                        "perms" => i64::from_str_radix(value, 8),
                        _ => value.parse(),
                    };
                    ((*column).to_owned(), value.unwrap_or(0))
                })
                .collect()
        })
        .collect()
}

fn sysv_object(kind: Kind, id: &str, row: &HashMap<String, i64>, names: &Names) -> Object {
    let field = |name: &str| row.get(name).copied().unwrap_or(0);
    let mut object = Object::new(kind, field(id).to_string(), field("uid") as u32);
    object.set("ID", Cell::Number(field(id) as u64));
    object.set("KEY", Cell::text(format!("0x{:08x}", field("key") as i32)));
    object.set("PERMS", Cell::text(permissions(field("perms") as u32)));
    object.set("GID", Cell::Number(field("gid") as u64));
    object.set("CUID", Cell::Number(field("cuid") as u64));
    object.set("CUSER", Cell::text(names.user(field("cuid") as u32)));
    object.set("CTIME", Cell::Time(field("ctime")));
    object
}

/// Who used it last, in place of holders that nobody knows. `pids` with what
/// each did.
fn last_users(object: &mut Object, scan: &Scan, thing: Thing, pids: &[(&'static str, i32)]) {
    object.waiters = scan.waiters(thing).to_vec();
    let known: Vec<_> = pids.iter().filter(|(_, pid)| *pid > 0).collect();
    let each: Vec<String> = known
        .iter()
        .map(|(what, pid)| match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
            Ok(command) => format!("{what} {pid}/{}", command.trim_end().escape_debug()),
            Err(_) => format!("{what} {pid} (gone)"),
        })
        .collect();
    let shown = if each.is_empty() { "never used".to_owned() } else { each.join(", ") };
    let value =
        known.iter().map(|(what, pid)| json!({"last": what, "pid": pid, "alive": is_alive(*pid)}));
    object.set("HOLDERS", Cell::Detailed(format!("last: {shown}"), Value::Array(value.collect())));
    let alive = known.iter().any(|(_, pid)| is_alive(*pid));
    object.orphan = if alive || !object.waiters.is_empty() {
        Orphan::No
    } else if scan.namespaced {
        Orphan::Unknown("processes of other pid namespaces can't be seen".to_owned())
    } else if known.is_empty() {
        Orphan::Unknown("System V keeps no holders, and nobody has used it yet".to_owned())
    } else {
        Orphan::Presumed
    };
}

fn sysv_queues(scan: &Scan, names: &Names, found: &mut Found) {
    for row in sysv_table("msg") {
        let field = |name: &str| row.get(name).copied().unwrap_or(0);
        let mut object = sysv_object(Kind::SysvMq, "msqid", &row, names);
        object.size = Some(field("cbytes") as u64);
        object.depth = Some(field("qnum") as u64);
        object.set("USEDBYTES", Cell::Size(field("cbytes") as u64));
        object.set("MSGS", Cell::Number(field("qnum") as u64));
        object.set("SEND", Cell::Time(field("stime")));
        object.set("RECV", Cell::Time(field("rtime")));
        let (sender, receiver) = (field("lspid") as i32, field("lrpid") as i32);
        object.set("LSPID", Cell::Number(sender as u64));
        object.set("LRPID", Cell::Number(receiver as u64));
        let thing = Thing::Queue(field("msqid") as i32);
        last_users(&mut object, scan, thing, &[("sender", sender), ("receiver", receiver)]);
        if field("qnum") > 0 && object.orphan == Orphan::Presumed {
            // A receiver may still come for what is in it.
            object.orphan = Orphan::Unknown("messages wait in it for a receiver".to_owned());
        }
        found.objects.push(object);
    }
}

fn sysv_segments(scan: &Scan, names: &Names, found: &mut Found) {
    for row in sysv_table("shm") {
        let field = |name: &str| row.get(name).copied().unwrap_or(0);
        let mut object = sysv_object(Kind::SysvShm, "shmid", &row, names);
        let thing = Thing::Segment(field("shmid") as i32);
        let attached = field("nattch") as u64;
        object.size = Some(field("size") as u64);
        object.depth = Some(attached);
        object.set("NATTCH", Cell::Number(attached));
        object.set("ATTACH", Cell::Time(field("atime")));
        object.set("DETACH", Cell::Time(field("dtime")));
        let (creator, last) = (field("cpid") as i32, field("lpid") as i32);
        object.set("CPID", Cell::Number(creator as u64));
        object.set("LPID", Cell::Number(last as u64));
        const SHM_DEST: i64 = 0o1000;
        const SHM_LOCKED: i64 = 0o2000;
        let status = match (field("perms") & SHM_DEST != 0, field("perms") & SHM_LOCKED != 0) {
            (true, _) => "dest",
            (false, true) => "locked",
            _ => "-",
        };
        object.set("STATUS", Cell::text(status));
        // The kernel counts the attachments; the walk says whose they are.
        let holders: Vec<Holder> = scan.holders(thing).cloned().collect();
        last_users(&mut object, scan, thing, &[("creator", creator), ("user", last)]);
        if attached > 0 {
            object.orphan = Orphan::No;
            if holders.is_empty() {
                let why = scan.why_unknown().unwrap_or_else(|| "they have just changed".to_owned());
                object.set("WHY", Cell::text(format!("attached {attached} times; {why}")));
            } else {
                object.cells.remove("HOLDERS");
                object.holders = holders;
            }
        }
        found.objects.push(object);
    }
}

fn sysv_sets(scan: &Scan, names: &Names, found: &mut Found) {
    for row in sysv_table("sem") {
        let field = |name: &str| row.get(name).copied().unwrap_or(0);
        let mut object = sysv_object(Kind::SysvSem, "semid", &row, names);
        let (id, count) = (field("semid") as i32, field("nsems") as u16);
        object.set("NSEMS", Cell::Number(count.into()));
        object.set("OTIME", Cell::Time(field("otime")));
        object.size = Some(count.into());
        let each: Result<Vec<_>, _> = (0..count).map(|n| Set::from_id(id).semaphore(n)).collect();
        match each {
            Ok(each) => {
                let mut pids: Vec<_> = each.iter().map(|one| ("user", one.last)).collect();
                pids.sort_unstable();
                pids.dedup();
                last_users(&mut object, scan, Thing::Set(id), &pids);
                let waiting: u32 = each.iter().map(|one| one.waiting + one.waiting_for_zero).sum();
                if waiting > 0 {
                    object.orphan = Orphan::No;
                    if object.waiters.is_empty() {
                        object.set("WAITERS", Cell::text(format!("{waiting} unknown")));
                    }
                }
                object.depth = each.first().filter(|_| count == 1).map(|one| one.value.into());
            }
            Err(error) => {
                last_users(&mut object, scan, Thing::Set(id), &[]);
                let why = ipc::errno_text(error.errno());
                object.orphan =
                    Orphan::Unknown(format!("its semaphores can't be looked at: {why}"));
                object.set("HOLDERS", Cell::Detailed("last: ?".to_owned(), Value::Null));
            }
        }
        found.objects.push(object);
    }
}

fn unix_sockets(scan: &Scan, found: &mut Found) {
    let all = match diag::unix_sockets() {
        Ok(all) => all,
        Err(error) => return found.remarks.push(format!("unix: {error}")),
    };
    let by_inode: HashMap<u32, &UnixSocket> = all.iter().map(|s| (s.inode, s)).collect();
    for socket in &all {
        let mut object = Object::new(Kind::Unix, socket.inode.to_string(), socket.uid.unwrap_or(0));
        object.set("ID", Cell::Number(socket.inode.into()));
        if let Some(name) = &socket.name {
            object.name = name.to_string();
        }
        let state = match socket.state {
            diag::State::Listening => "listening",
            diag::State::Connected => "connected",
            diag::State::Unconnected => "unconnected",
        };
        let kind = match socket.kind {
            ipc::unix::Kind::Stream => "stream",
            ipc::unix::Kind::Datagram => "dgram",
            ipc::unix::Kind::SeqPacket => "seqpacket",
        };
        object.set("STATE", Cell::text(format!("{kind} {state}")));
        object.depth = Some(socket.pending.into());
        object.held(scan, Thing::Socket(socket.inode.into()));
        if object.orphan == Orphan::Yes {
            // Nobody's descriptor: it waits to be accepted, is on its way to
            // somebody, or belongs to the kernel. It goes by itself.
            object.orphan = Orphan::No;
            object.set("WHY", Cell::text("not accepted yet, or on its way to somebody"));
        }
        if let Some(peer) = socket.peer {
            let theirs = scan.holders(Thing::Socket(peer.into()));
            let who: Vec<String> = theirs.map(|h| format!("{}/{}", h.pid, h.command)).collect();
            let name = by_inode.get(&peer).and_then(|peer| peer.name.as_ref());
            let name = name.map_or_else(String::new, |name| format!(" {name}"));
            let who = if who.is_empty() { "?".to_owned() } else { who.join(",") };
            object.set("PEER", Cell::text(format!("{peer}{name} {who}")));
        }
        found.objects.push(object);
    }
}

/// What has no list of its own: known only by who holds it.
fn seen_at_holders(kind: Kind, scan: &Scan, found: &mut Found) {
    for (thing, seen) in &scan.seen {
        let this = match thing {
            Thing::Pipe(_) => Kind::Pipe,
            Thing::Event(_) => Kind::Eventfd,
            Thing::File(..) if seen.is_memfd => Kind::Memfd,
            Thing::File(..) if seen.is_fifo => Kind::Fifo,
            _ => continue,
        };
        if this != kind {
            continue;
        }
        let id = match thing {
            Thing::Pipe(inode) | Thing::File(_, inode) | Thing::Event(inode) => *inode,
            _ => 0,
        };
        let mut object =
            Object::new(kind, seen.name.clone().unwrap_or_else(|| id.to_string()), seen.uid);
        object.set("ID", Cell::Number(id));
        if kind != Kind::Eventfd {
            object.set("PERMS", Cell::text(permissions(seen.mode)));
        }
        object.held(scan, *thing);
        match kind {
            Kind::Memfd => {
                object.size = Some(seen.size);
                object.set("CTIME", Cell::Time(seen.changed));
            }
            Kind::Eventfd => object.depth = seen.count,
            _ => pipe_state(&mut object, seen.at),
        }
        if matches!(kind, Kind::Pipe | Kind::Fifo) && scan.why_unknown().is_none() {
            let (readers, writers) = ends(&object.holders);
            match (readers.is_empty(), writers.is_empty()) {
                (true, _) => object.set("WHY", Cell::text("nobody reads: a writer gets SIGPIPE")),
                (_, true) => object.set("WHY", Cell::text("nobody writes: a reader meets the end")),
                _ => {}
            }
        }
        found.objects.push(object);
    }
}

/// A pipe's capacity and what is in it, by a duplicate of a holder's descriptor
/// (opening it anew would make us a reader, and change what we look at).
fn pipe_state(object: &mut Object, at: Option<(i32, i32)>) {
    let Some((pid, number)) = at else { return };
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return };
    let Ok(process) = ipc::pidfd::open(pid) else { return };
    let flags = rustix::process::PidfdGetfdFlags::empty();
    let Ok(duplicate) = rustix::process::pidfd_getfd(&process, number, flags) else { return };
    object.size = ipc::pipe::capacity(&duplicate).ok().map(|bytes| bytes as u64);
    object.depth = ipc::socket::unread_bytes(&duplicate).ok().map(|bytes| bytes as u64);
}

fn ends(holders: &[Holder]) -> (Vec<&Holder>, Vec<&Holder>) {
    (holders.iter().filter(|h| h.reads).collect(), holders.iter().filter(|h| h.writes).collect())
}

fn holder_cell(holders: &[&Holder], with_access: bool) -> Cell {
    let access = |h: &Holder| match (h.reads, h.writes) {
        (true, true) => "rw",
        (false, true) => "w",
        _ => "r",
    };
    let shown: Vec<String> = holders
        .iter()
        .map(|h| {
            let access = if with_access { format!(":{}", access(h)) } else { String::new() };
            format!("{}/{}{access}", h.pid, h.command)
        })
        .collect();
    let value = holders
        .iter()
        .map(|h| json!({"pid": h.pid, "command": &*h.command, "access": access(h)}))
        .collect();
    Cell::Detailed(shown.join(","), Value::Array(value))
}

/// The columns that every kind has.
fn finish(object: &mut Object, names: &Names, now: i64) {
    object.set("TYPE", Cell::text(object.kind.name()));
    object.set("NAME", Cell::text(object.name.clone()));
    object.set("UID", Cell::Number(object.uid.into()));
    object.set("OWNER", Cell::text(names.user(object.uid)));
    if let Some(Cell::Number(gid)) = object.cells.get("GID") {
        let group = names.group(*gid as u32);
        object.set("GROUP", Cell::text(group));
    }
    if let Some(size) = object.size {
        let counted = object.kind == Kind::SysvSem;
        object.set("SIZE", if counted { Cell::Number(size) } else { Cell::Size(size) });
    }
    if let Some(depth) = object.depth {
        object.set("DEPTH", Cell::Number(depth));
    }
    // A queue's file changes by being looked at; its mtime is when it was made.
    let made = if object.kind == Kind::Mq { "MTIME" } else { "CTIME" };
    let born = match object.kind {
        Kind::Shm | Kind::Sem => born(&shm_path(object.kind, &object.name)),
        _ => None,
    };
    if let Some(Cell::Time(changed)) = object.cells.get(made) {
        let age = now.saturating_sub(born.unwrap_or(*changed)).max(0);
        object.set("AGE", Cell::Detailed(short(age), json!(age)));
    }
    // System V has said who used it last.
    if !object.cells.contains_key("HOLDERS") {
        let all: Vec<&Holder> = object.holders.iter().collect();
        let cell = match (&object.orphan, all.is_empty(), object.cells.contains_key("WHY")) {
            (Orphan::Unknown(_), true, _) | (Orphan::No, true, true) => {
                Cell::Detailed("?".to_owned(), Value::Null)
            }
            _ => holder_cell(&all, true),
        };
        let (readers, writers) = ends(&object.holders);
        let (readers, writers) = (holder_cell(&readers, false), holder_cell(&writers, false));
        object.set("HOLDERS", cell);
        object.set("READERS", readers);
        object.set("WRITERS", writers);
    }
    if !object.waiters.is_empty() {
        let shown: Vec<String> =
            object.waiters.iter().map(|w| format!("{}/{} {}", w.pid, w.command, w.call)).collect();
        let value = object
            .waiters
            .iter()
            .map(|w| json!({"pid": w.pid, "command": &*w.command, "call": w.call}))
            .collect();
        object.set("WAITERS", Cell::Detailed(shown.join(","), Value::Array(value)));
    }
    let orphan = match &object.orphan {
        Orphan::No => Cell::Yes(false),
        Orphan::Yes => Cell::Yes(true),
        Orphan::Presumed => Cell::Detailed("presumed".to_owned(), json!("presumed")),
        Orphan::Unknown(why) => {
            let why = why.clone();
            object.set("WHY", Cell::text(why));
            Cell::Detailed("?".to_owned(), Value::Null)
        }
    };
    object.set("ORPHAN", orphan);
}

/// When a file was made, if its file system keeps that (tmpfs does since Linux 6.0).
fn born(path: &str) -> Option<i64> {
    let (flags, want) = (rustix::fs::AtFlags::SYMLINK_NOFOLLOW, rustix::fs::StatxFlags::BTIME);
    let stat = rustix::fs::statx(rustix::fs::CWD, path, flags, want).ok()?;
    let known = rustix::fs::StatxFlags::from_bits_retain(stat.stx_mask).contains(want);
    known.then_some(stat.stx_btime.tv_sec)
}

/// `5s`, `3m`, `2h`, `9d`.
fn short(seconds: i64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// Objects by kind and name, to compare two looks.
pub(crate) fn by_name(objects: &[Object]) -> BTreeMap<(Kind, String), &Object> {
    objects
        .iter()
        .map(|object| {
            // Two sockets may have one name (a listener's clients have its).
            let id = match (object.kind, object.cells.get("ID")) {
                (Kind::Unix | Kind::Memfd, Some(Cell::Number(id))) => format!(" {id}"),
                _ => String::new(),
            };
            ((object.kind, format!("{}{id}", object.name)), object)
        })
        .collect()
}
