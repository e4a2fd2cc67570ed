//! `ipc ls`, `ipc watch`, `ipc wait`, `ipc rm`: every object of the machine in
//! one table, who holds it, and what to do about it. `scan` walks through the
//! processes, `objects` puts together what is known of each object.
mod objects;
mod remove;
mod scan;
mod wait;
mod watch;

use clap::{Args, ValueEnum};

use crate::failure::Failure;
use crate::table::{Cell, Names, Style, Table};
use objects::{Kind, Object, Orphan, Wanted};
use scan::Scan;

pub(crate) use remove::{Remove, run as run_rm};
pub(crate) use wait::{Wait, run as run_wait};
pub(crate) use watch::{Watch, run as run_watch};

const COLUMNS: &[&str] = &[
    "TYPE",
    "NAME",
    "KEY",
    "ID",
    "OWNER",
    "UID",
    "GROUP",
    "GID",
    "PERMS",
    "CUSER",
    "CUID",
    "SIZE",
    "DEPTH",
    "USEDBYTES",
    "MSGS",
    "MAXMSG",
    "MSGSIZE",
    "NSEMS",
    "NATTCH",
    "STATUS",
    "STATE",
    "PEER",
    "SEND",
    "RECV",
    "LSPID",
    "LRPID",
    "CPID",
    "LPID",
    "ATTACH",
    "DETACH",
    "OTIME",
    "CTIME",
    "MTIME",
    "AGE",
    "NOTIFYPID",
    "HOLDERS",
    "READERS",
    "WRITERS",
    "WAITERS",
    "ORPHAN",
    "WHY",
];

const SHOWN: &[&str] = &[
    "TYPE", "NAME", "KEY", "OWNER", "PERMS", "SIZE", "DEPTH", "AGE", "HOLDERS", "WAITERS", "PEER",
    "ORPHAN", "WHY",
];

/// Which objects: lsipc's letters, and more.
#[derive(Args, Debug)]
pub(crate) struct Filter {
    /// System V shared memory
    #[arg(short = 'm', long)]
    shmems: bool,
    /// POSIX shared memory
    #[arg(short = 'M', long)]
    posix_shmems: bool,
    /// System V message queues
    #[arg(short = 'q', long)]
    queues: bool,
    /// POSIX message queues
    #[arg(short = 'Q', long)]
    posix_mqueues: bool,
    /// System V semaphores
    #[arg(short = 's', long)]
    semaphores: bool,
    /// Named POSIX semaphores
    #[arg(short = 'S', long)]
    posix_semaphores: bool,
    /// Only these kinds (separated by commas)
    #[arg(long = "type", value_enum, value_delimiter = ',', value_name = "KIND")]
    kinds: Vec<Kind>,
    /// Only what this process holds or waits for
    #[arg(long, value_name = "PID")]
    pid: Option<i32>,
    /// Only what this user (name or number) owns
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Only names with this text in them
    #[arg(short = 'N', long, value_name = "TEXT")]
    name: Option<String>,
    /// Only what nobody holds (presumed and unknown ones are left out)
    #[arg(long)]
    orphans: bool,
}

impl Filter {
    fn kinds(&self) -> Vec<Kind> {
        let letters = [
            (self.shmems, Kind::SysvShm),
            (self.posix_shmems, Kind::Shm),
            (self.queues, Kind::SysvMq),
            (self.posix_mqueues, Kind::Mq),
            (self.semaphores, Kind::SysvSem),
            (self.posix_semaphores, Kind::Sem),
        ];
        let mut kinds: Vec<Kind> =
            letters.iter().filter(|(yes, _)| *yes).map(|(_, kind)| *kind).collect();
        kinds.extend(&self.kinds);
        if kinds.is_empty() {
            return Kind::all().to_vec();
        }
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    fn fits(&self, object: &Object, names: &Names) -> bool {
        let pid = self.pid.is_none_or(|pid| {
            object.holders.iter().any(|h| h.pid == pid)
                || object.waiters.iter().any(|w| w.pid == pid)
                || ["LSPID", "LRPID", "CPID", "LPID", "NOTIFYPID"].iter().any(|column| {
                    matches!(object.cells.get(column), Some(Cell::Number(n)) if *n == pid as u64)
                })
        });
        let user = self
            .user
            .as_ref()
            .is_none_or(|user| *user == names.user(object.uid) || *user == object.uid.to_string());
        let name = self.name.as_ref().is_none_or(|part| object.name.contains(part.as_str()));
        pid && user && name && (!self.orphans || object.orphan == Orphan::Yes)
    }
}

#[derive(Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    filter: Filter,
    /// The system's limits and how much of them is used
    #[arg(short = 'g', long)]
    global: bool,
    #[command(flatten)]
    style: Style,
}

/// One look at everything that fits.
fn look(filter: &Filter, names: &Names) -> objects::Found {
    let kinds = filter.kinds();
    let scan = Scan::now();
    let mut found = objects::collect(&Wanted { kinds: &kinds }, &scan, names);
    found.objects.retain(|object| filter.fits(object, names));
    found
}

pub(crate) fn run(ls: &Ls) -> Result<(), Failure> {
    if ls.global {
        return global(&ls.style);
    }
    let names = Names::load();
    let found = look(&ls.filter, &names);
    for remark in &found.remarks {
        eprintln!("ipc: ls: {remark}");
    }
    let rows = found.objects.iter().map(|object| {
        let cell = |column: &&str| object.cells.get(column).cloned().unwrap_or(Cell::Unknown);
        COLUMNS.iter().map(cell).collect()
    });
    // A column that none of them has only takes room.
    let used = |column: &&&str| {
        let fixed = ["TYPE", "NAME", "OWNER", "HOLDERS", "ORPHAN"].contains(*column);
        fixed || found.objects.iter().any(|object| object.cells.contains_key(**column))
    };
    let shown: Vec<&'static str> = SHOWN.iter().filter(used).copied().collect();
    Table { name: "ipc", columns: COLUMNS, shown: &shown, rows: rows.collect() }.print(&ls.style)
}

/// The limits of every kind that has one, as lsipc names them.
fn global(style: &Style) -> Result<(), Failure> {
    let number = |path: &str, field: usize| -> u64 {
        let text = std::fs::read_to_string(format!("/proc/sys/{path}")).unwrap_or_default();
        text.split_ascii_whitespace().nth(field).and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    let lines = |what: &str| {
        let text = std::fs::read_to_string(format!("/proc/sysvipc/{what}")).unwrap_or_default();
        text.lines().skip(1).count() as u64
    };
    let semaphores: u64 = ipc::sysv::set::list()
        .map(|sets| sets.iter().filter_map(|set| set.stat().ok()).map(|s| s.count as u64).sum())
        .unwrap_or(0);
    let queues = ipc::mq::list().ok().map(|all| all.len() as u64);
    let row = |name: &str, what: &str, limit: u64, used: Option<u64>| {
        let share = used.filter(|_| limit > 0).map_or(Cell::Unknown, |used| {
            Cell::text(format!("{:.2}%", used as f64 * 100.0 / limit as f64))
        });
        let used = used.map_or(Cell::Unknown, Cell::Number);
        vec![Cell::text(name), Cell::text(what), Cell::Number(limit), used, share]
    };
    let rows = vec![
        row("MSGMNI", "System V queues", number("kernel/msgmni", 0), Some(lines("msg"))),
        row("MSGMAX", "bytes in a System V message", number("kernel/msgmax", 0), None),
        row("MSGMNB", "bytes in a new System V queue", number("kernel/msgmnb", 0), None),
        row("SHMMNI", "System V segments", number("kernel/shmmni", 0), Some(lines("shm"))),
        row("SHMALL", "pages in all segments", number("kernel/shmall", 0), None),
        row("SHMMAX", "bytes in a segment", number("kernel/shmmax", 0), None),
        row("SEMMNI", "System V semaphore sets", number("kernel/sem", 3), Some(lines("sem"))),
        row("SEMMNS", "semaphores in all sets", number("kernel/sem", 1), Some(semaphores)),
        row("SEMMSL", "semaphores in a set", number("kernel/sem", 0), None),
        row("SEMOPM", "operations in a call", number("kernel/sem", 2), None),
        row("MQUMNI", "POSIX queues", number("fs/mqueue/queues_max", 0), queues),
        row("MQUMAX", "messages in a POSIX queue", number("fs/mqueue/msg_max", 0), None),
        row("MQUSIZ", "bytes in a POSIX message", number("fs/mqueue/msgsize_max", 0), None),
        row("PIPEMAX", "bytes in a pipe", number("fs/pipe-max-size", 0), None),
    ];
    let columns = &["RESOURCE", "DESCRIPTION", "LIMIT", "USED", "USE%"];
    Table { name: "ipclimits", columns, shown: columns, rows }.print(style)
}

/// An object of the command line: `KIND:NAME`, or a name that says its kind: a
/// path of a socket or FIFO, `/name` if only one kind has it.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    kind: Option<Kind>,
    name: String,
}

/// Takes `KIND:NAME` apart.
pub(crate) fn word(text: &str) -> Result<Word, String> {
    if let Some((kind, name)) = text.split_once(':') {
        if let Ok(kind) = Kind::from_str(kind, false) {
            if name.is_empty() {
                return Err(format!(
                    "{text}: which {kind}? it takes KIND:NAME",
                    kind = kind.name()
                ));
            }
            return Ok(Word { kind: Some(kind), name: name.to_owned() });
        }
    }
    if text.starts_with('/') {
        return Ok(Word { kind: None, name: text.to_owned() });
    }
    let kinds: Vec<&str> = Kind::all().iter().map(|kind| kind.name()).collect();
    Err(format!("{text}: an object is KIND:NAME ({}), or /NAME", kinds.join(", ")))
}

impl core::fmt::Display for Word {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.kind {
            Some(kind) => write!(f, "{}:{}", kind.name(), self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Word {
    fn means(&self, object: &Object) -> bool {
        let kind = match self.kind {
            Some(kind) => kind == object.kind,
            None => {
                matches!(object.kind, Kind::Mq | Kind::Shm | Kind::Sem | Kind::Unix | Kind::Fifo)
            }
        };
        let by_key = || match (object.cells.get("KEY"), self.name.strip_prefix("0x")) {
            (Some(Cell::Text(key)), Some(hex)) => {
                u32::from_str_radix(hex, 16).is_ok_and(|n| *key == format!("0x{n:08x}"))
            }
            _ => false,
        };
        let by_id = || matches!(object.cells.get("ID"), Some(Cell::Number(id)) if id.to_string() == self.name);
        kind && (object.name == self.name || by_key() || by_id())
    }

    /// The objects that are meant: a listener's name is also its connections'.
    fn find(&self, names: &Names) -> Vec<Object> {
        let kinds = match self.kind {
            Some(kind) => vec![kind],
            None => vec![Kind::Mq, Kind::Shm, Kind::Sem, Kind::Unix, Kind::Fifo],
        };
        let scan = Scan::now();
        let found = objects::collect(&Wanted { kinds: &kinds }, &scan, names);
        found.objects.into_iter().filter(|object| self.means(object)).collect()
    }
}
