//! Who holds what and who waits for what: one walk through /proc.
//!
//! Processes come and go while it is read: one that is gone by the time it is
//! looked at holds nothing. One that may not be looked at (another user's) is
//! counted, and whatever it could hold is then not known to be an orphan.
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

use ipc::blocked::{self, Wait};
use rustix::fs::FileType;

/// What can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Thing {
    /// A file (a named object, a memfd, a FIFO): device and inode.
    File(u64, u64),
    /// An unnamed pipe, by its inode.
    Pipe(u64),
    /// A socket, by its inode.
    Socket(u64),
    /// An eventfd, by its id (on kernels that don't tell it: by holder).
    Event(u64),
    /// A System V segment, queue, set by its id.
    Segment(i32),
    Queue(i32),
    Set(i32),
}

/// One process that holds something.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub(crate) pid: i32,
    pub(crate) command: Rc<str>,
    pub(crate) reads: bool,
    pub(crate) writes: bool,
}

/// One thread that waits for something.
#[derive(Debug, Clone)]
pub(crate) struct Waiter {
    pub(crate) pid: i32,
    pub(crate) command: Rc<str>,
    /// In which call.
    pub(crate) call: &'static str,
}

/// What was seen of a thing by looking at its holders.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) name: Option<String>,
    pub(crate) uid: u32,
    pub(crate) mode: u32,
    pub(crate) size: u64,
    pub(crate) changed: i64,
    /// An eventfd's counter.
    pub(crate) count: Option<u64>,
    pub(crate) is_memfd: bool,
    pub(crate) is_fifo: bool,
    /// A descriptor of it: process and number.
    pub(crate) at: Option<(i32, i32)>,
}

/// The whole walk.
#[derive(Default)]
pub(crate) struct Scan {
    holders: HashMap<Thing, BTreeMap<i32, Holder>>,
    waiters: HashMap<Thing, Vec<Waiter>>,
    pub(crate) seen: BTreeMap<Thing, Seen>,
    /// Processes whose descriptors may not be looked at.
    pub(crate) closed: usize,
    /// Processes of other pid namespaces could exist.
    pub(crate) namespaced: bool,
}

/// The inode of the first pid namespace, the same on every machine
/// (`PROC_PID_INIT_INO`).
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;

impl Scan {
    pub(crate) fn now() -> Self {
        let mut scan = Self {
            namespaced: std::fs::metadata("/proc/self/ns/pid")
                .map_or(true, |namespace| namespace.ino() != FIRST_PID_NAMESPACE),
            ..Self::default()
        };
        let us = std::process::id() as i32;
        let Ok(processes) = std::fs::read_dir("/proc") else {
            scan.namespaced = true;
            return scan;
        };
        for entry in processes.flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            // This process holds what it looks at only for a moment.
            if let Some(pid) = pid.filter(|pid| *pid != us) {
                scan.process(pid, &entry.path());
            }
        }
        scan
    }

    /// Why it isn't known who else may hold things, if so.
    pub(crate) fn why_unknown(&self) -> Option<String> {
        match (self.closed, self.namespaced) {
            (0, false) => None,
            (0, true) => Some("processes of other pid namespaces can't be seen".to_owned()),
            (1, _) => Some("needs CAP_SYS_PTRACE for 1 process".to_owned()),
            (count, _) => Some(format!("needs CAP_SYS_PTRACE for {count} processes")),
        }
    }

    pub(crate) fn holders(&self, thing: Thing) -> impl Iterator<Item = &Holder> {
        self.holders.get(&thing).into_iter().flat_map(BTreeMap::values)
    }

    pub(crate) fn waiters(&self, thing: Thing) -> &[Waiter] {
        self.waiters.get(&thing).map_or(&[], Vec::as_slice)
    }

    fn process(&mut self, pid: i32, path: &Path) {
        // The name may hold anything; the state stands behind its last `)`.
        let Ok(stat) = std::fs::read(path.join("stat")) else { return };
        let stat = String::from_utf8_lossy(&stat).into_owned();
        let (Some(begin), Some(end)) = (stat.find('('), stat.rfind(')')) else { return };
        let command: Rc<str> = stat[begin + 1..end].escape_debug().to_string().into();
        let mut fields = stat[end + 1..].split_ascii_whitespace();
        let state = fields.next().unwrap_or("Z");
        let flags: u64 = fields.nth(5).and_then(|f| f.parse().ok()).unwrap_or(0);
        const PF_KTHREAD: u64 = 0x0020_0000;
        if matches!(state, "Z" | "X" | "x") || flags & PF_KTHREAD != 0 {
            return; // dead, or a thread of the kernel: neither holds anything
        }
        let descriptors = match std::fs::read_dir(path.join("fd")) {
            Ok(descriptors) => descriptors,
            Err(error) => {
                // Gone meanwhile, or not to be looked at?
                self.closed += usize::from(error.kind() == std::io::ErrorKind::PermissionDenied);
                return;
            }
        };
        let mut numbers: HashMap<i32, Thing> = HashMap::new();
        let mut epolls: HashMap<i32, Vec<i32>> = HashMap::new();
        for entry in descriptors.flatten() {
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            let target = target.as_os_str().as_bytes();
            if target == b"anon_inode:[eventpoll]" {
                epolls.insert(number, epoll_members(path, number));
                continue;
            }
            let Some((thing, seen)) = self.look(path, &entry.path(), target, pid, number) else {
                continue;
            };
            let (reads, writes) = access(path, number);
            self.hold(thing, pid, &command, reads, writes);
            if let Some(seen) = seen {
                self.seen.entry(thing).or_insert(seen);
            }
            numbers.insert(number, thing);
        }
        let maps = std::fs::read(path.join("maps")).unwrap_or_default();
        let mut ranges = Vec::new();
        for line in maps.split(|byte| *byte == b'\n') {
            let Some((thing, begin, end, writes)) = mapped(line) else { continue };
            self.hold(thing, pid, &command, true, writes);
            ranges.push((begin, end, thing));
        }
        for thread in blocked::threads(pid).unwrap_or_default() {
            let mut waits = |thing: Thing, call: &'static str| {
                let waiter = Waiter { pid, command: Rc::clone(&command), call };
                self.waiters.entry(thing).or_default().push(waiter);
            };
            match thread.wait {
                Wait::Descriptor { call, number } => {
                    if let Some(thing) = numbers.get(&number) {
                        waits(*thing, call);
                    }
                }
                Wait::Epoll { number } => {
                    for member in epolls.get(&number).into_iter().flatten() {
                        if let Some(thing) = numbers.get(member) {
                            waits(*thing, "epoll_wait");
                        }
                    }
                }
                Wait::Queue { call, id } => waits(Thing::Queue(id), call),
                Wait::Set { id } => waits(Thing::Set(id), "semop"),
                Wait::Futex { address } => {
                    let range =
                        ranges.iter().find(|(begin, end, _)| (*begin..*end).contains(&address));
                    if let Some((_, _, thing)) = range {
                        waits(*thing, "futex");
                    }
                }
                _ => {}
            }
        }
    }

    fn hold(&mut self, thing: Thing, pid: i32, command: &Rc<str>, reads: bool, writes: bool) {
        let all = self.holders.entry(thing).or_default();
        let holder = all.entry(pid).or_insert_with(|| Holder {
            pid,
            command: Rc::clone(command),
            reads: false,
            writes: false,
        });
        holder.reads |= reads;
        holder.writes |= writes;
    }

    /// What a descriptor is, and what can be seen of it there.
    fn look(
        &self,
        process: &Path,
        link: &Path,
        target: &[u8],
        pid: i32,
        number: i32,
    ) -> Option<(Thing, Option<Seen>)> {
        let inode = |prefix: &[u8]| -> Option<u64> {
            let number = target.strip_prefix(prefix)?.strip_suffix(b"]")?;
            core::str::from_utf8(number).ok()?.parse().ok()
        };
        let at = Some((pid, number));
        if let Some(inode) = inode(b"socket:[") {
            return Some((Thing::Socket(inode), None));
        }
        if let Some(inode) = inode(b"pipe:[") {
            let thing = Thing::Pipe(inode);
            if self.seen.contains_key(&thing) {
                return Some((thing, None));
            }
            let stat = std::fs::metadata(link).ok()?;
            let seen = Seen { uid: stat.uid(), mode: stat.mode(), at, ..Seen::default() };
            return Some((thing, Some(seen)));
        }
        if target == b"anon_inode:[eventfd]" {
            let info = std::fs::read_to_string(process.join(format!("fdinfo/{number}"))).ok()?;
            let field = |name: &str| {
                info.lines()
                    .find_map(|line| line.strip_prefix(name).map(|rest| rest.trim().to_owned()))
            };
            // Each eventfd has a number since Linux 5.2; without it two
            // processes' ends of one can't be known to be the same.
            let id = field("eventfd-id:").and_then(|id| id.parse().ok());
            let id = id.unwrap_or((pid as u64) << 32 | number as u64);
            let count = field("eventfd-count:").and_then(|n| u64::from_str_radix(&n, 16).ok());
            let uid = std::fs::symlink_metadata(link).map_or(0, |stat| stat.uid());
            let name = Some(id.to_string());
            return Some((
                Thing::Event(id),
                Some(Seen { name, uid, count, at, ..Seen::default() }),
            ));
        }
        if !target.starts_with(b"/") {
            return None;
        }
        let stat = std::fs::metadata(link).ok()?;
        let thing = Thing::File(stat.dev(), stat.ino());
        let kind = FileType::from_raw_mode(stat.mode());
        let memfd = target.strip_prefix(b"/memfd:").map(|name| {
            String::from_utf8_lossy(name.strip_suffix(b" (deleted)").unwrap_or(name)).into_owned()
        });
        let is_fifo = kind == FileType::Fifo;
        let named =
            memfd.clone().or_else(|| is_fifo.then(|| String::from_utf8_lossy(target).into_owned()));
        // A named object's directory lists it; here only who holds it is found.
        let seen = named.map(|name| Seen {
            name: Some(name),
            uid: stat.uid(),
            mode: stat.mode(),
            size: stat.len(),
            changed: stat.ctime(),
            is_memfd: memfd.is_some(),
            is_fifo,
            at,
            count: None,
        });
        (seen.is_some() || kind == FileType::RegularFile).then_some((thing, seen))
    }
}

/// Whether a descriptor was opened to read and to write.
fn access(process: &Path, number: i32) -> (bool, bool) {
    let info =
        std::fs::read_to_string(process.join(format!("fdinfo/{number}"))).unwrap_or_default();
    let flags = info
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .and_then(|text| u32::from_str_radix(text.trim(), 8).ok());
    match flags.map(|flags| flags & 3) {
        Some(0) => (true, false),
        Some(1) => (false, true),
        _ => (true, true),
    }
}

/// The descriptors that an epoll instance watches.
fn epoll_members(process: &Path, number: i32) -> Vec<i32> {
    let info =
        std::fs::read_to_string(process.join(format!("fdinfo/{number}"))).unwrap_or_default();
    info.lines()
        .filter_map(|line| line.strip_prefix("tfd:"))
        .filter_map(|rest| rest.split_ascii_whitespace().next()?.parse().ok())
        .collect()
}

/// One line of `maps`, if it is of something shared: what, from where to where,
/// whether it may be written there.
fn mapped(line: &[u8]) -> Option<(Thing, u64, u64, bool)> {
    let line = core::str::from_utf8(line).ok()?;
    let mut fields = line.split_ascii_whitespace();
    let (begin, end) = fields.next()?.split_once('-')?;
    let access = fields.next()?;
    let (major, minor) = fields.nth(1)?.split_once(':')?;
    let inode: u64 = fields.next()?.parse().ok()?;
    let path = fields.next().unwrap_or_default();
    let number = |text| u64::from_str_radix(text, 16).ok();
    let (begin, end) = (number(begin)?, number(end)?);
    let shared = access.ends_with('s');
    let writes = access.contains('w') && shared;
    if path.starts_with("/SYSV") {
        // The kernel shows the segment's id as its inode (id 0 is one, too).
        return Some((Thing::Segment(inode as i32), begin, end, writes));
    }
    if inode == 0 || !(shared || path.starts_with("/dev/shm/") || path.starts_with("/memfd:")) {
        return None;
    }
    let device = rustix::fs::makedev(number(major)? as u32, number(minor)? as u32);
    Some((Thing::File(device, inode), begin, end, writes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps() {
        let line =
            b"7f00-7f10 rw-s 00000000 00:01 5                          /SYSV0000162e (deleted)";
        assert_eq!(mapped(line), Some((Thing::Segment(5), 0x7f00, 0x7f10, true)));
        let line = b"7f00-7f10 r--s 00000000 00:19 77   /dev/shm/x";
        let device = rustix::fs::makedev(0, 0x19);
        assert_eq!(mapped(line), Some((Thing::File(device, 77), 0x7f00, 0x7f10, false)));
        for line in [
            &b""[..],
            b"7f00-7f10 rw-p 00000000 00:00 0 [heap]",
            b"7f00-7f10 r-xp 00000000 08:01 99 /usr/lib/libc.so",
            b"7f00 rw-s",
            b"\xff",
        ] {
            assert_eq!(mapped(line), None);
        }
    }
}
