//! `ipc sem`: semaphores: named POSIX ones, System V sets, and semaphores and
//! robust mutexes inside a shared memory segment.
use clap::{Args, Subcommand};
use ipc::map::MapMut;
use ipc::mutex::{self, RobustMutex};
use ipc::sem::{self, Named, Shared};
use ipc::shm::{Access, Object};
use ipc::sysv::{
    self,
    set::{Change, Set},
};
use ipc::timer::Wait;

use crate::argument::{self, Meant, SysV, Waiting, uninterrupted};
use crate::failure::{Failure, line};
use crate::holders::{self, Holders};
use crate::table::{Cell, LIMITS, Names, Style, Table, permissions, print_fields, share};

/// What to do with a semaphore.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Make one
    ///
    /// Example: ipc sem create /door --value 1
    Create(Create),
    /// Take one, or wait until one is there; with a command: only while it runs
    ///
    /// Example: ipc sem wait /door --timeout 2s -- ./critical
    Wait(Take),
    /// Give one back
    ///
    /// Example: ipc sem post /door
    Post(Post),
    /// Print the value
    ///
    /// Example: ipc sem get /door
    Get(One),
    /// Set the value
    ///
    /// Example: ipc sem set /door 3
    Set(SetTo),
    /// Show everything that the system knows about it
    ///
    /// Example: ipc sem stat --sysv --key 5678
    Stat(One),
    /// List the semaphores
    ///
    /// Example: ipc sem ls
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Remove semaphores
    ///
    /// Example: ipc sem rm /door
    #[command(visible_alias = "remove")]
    Rm(Several),
}

/// A place inside a segment: `/NAME` or `/NAME:OFFSET`.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    name: String,
    offset: usize,
}

fn place(text: &str) -> Result<Place, String> {
    let (name, offset) = match text.rsplit_once(':') {
        Some((name, offset)) => (name, argument::size(offset)? as usize),
        None => (text, 0),
    };
    if offset % 8 != 0 {
        return Err(format!("offset {offset} is not a multiple of 8"));
    }
    Ok(Place { name: name.to_owned(), offset })
}

#[derive(Args)]
pub(crate) struct Which {
    /// Inside this POSIX segment, at this offset
    #[arg(long = "in", value_name = "/SEGMENT:OFFSET", value_parser = place, conflicts_with = "sysv")]
    inside: Option<Place>,
    /// Inside a segment: a robust mutex instead of a semaphore
    #[arg(long, requires = "inside")]
    mutex: bool,
    #[command(flatten)]
    sysv: SysV,
}

#[derive(Args)]
pub(crate) struct Create {
    /// The semaphore's name, like /door
    #[arg(value_name = "NAME")]
    words: Vec<String>,
    /// Its first value
    #[arg(long, value_name = "N", default_value = "1")]
    value: u32,
    /// Permissions, exactly, whatever the umask
    #[arg(long, value_name = "M", value_parser = argument::mode, default_value = "0600")]
    mode: u32,
    /// Fail if it exists
    #[arg(long)]
    excl: bool,
    /// System V: how many semaphores the set has
    #[arg(long, value_name = "N", requires = "sysv", default_value = "1")]
    count: usize,
    #[command(flatten)]
    which: Which,
    /// System V: without a key; the id is printed
    #[arg(long, requires = "sysv")]
    private: bool,
}

#[derive(Args)]
pub(crate) struct Take {
    /// The semaphore
    #[arg(value_name = "NAME")]
    words: Vec<String>,
    #[command(flatten)]
    waiting: Waiting,
    /// System V: which of the set
    #[arg(long, value_name = "I", requires = "sysv", default_value = "0")]
    number: u16,
    /// System V: how many to take at once
    #[arg(long, value_name = "N", requires = "sysv", default_value = "1")]
    by: u16,
    /// System V: the kernel gives it back when this process ends, however it ends
    #[arg(long, requires = "sysv")]
    undo: bool,
    #[command(flatten)]
    which: Which,
    /// Run this, and give it back afterwards
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Post {
    /// The semaphore
    #[arg(value_name = "NAME")]
    words: Vec<String>,
    /// System V: which of the set
    #[arg(long, value_name = "I", requires = "sysv", default_value = "0")]
    number: u16,
    /// System V: how many to give at once
    #[arg(long, value_name = "N", requires = "sysv", default_value = "1")]
    by: u16,
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
pub(crate) struct One {
    /// The semaphore
    #[arg(value_name = "NAME")]
    words: Vec<String>,
    /// JSON
    #[arg(short = 'J', long, short_alias = 'j')]
    json: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
pub(crate) struct SetTo {
    /// The semaphore, then its value
    #[arg(value_name = "NAME VALUE")]
    words: Vec<String>,
    /// System V: which of the set
    #[arg(long, value_name = "I", requires = "sysv", default_value = "0")]
    number: u16,
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
pub(crate) struct Several {
    /// The semaphores
    #[arg(value_name = "NAME")]
    words: Vec<String>,
    #[command(flatten)]
    sysv: SysV,
}

#[derive(Args)]
pub(crate) struct Ls {
    /// Show the limits (System V)
    #[arg(long, requires = "sysv")]
    limits: bool,
    /// System V sets instead of POSIX semaphores
    #[arg(long)]
    sysv: bool,
    #[command(flatten)]
    style: Style,
}

impl Verb {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "sem create",
            Self::Wait(_) => "sem wait",
            Self::Post(_) => "sem post",
            Self::Get(_) => "sem get",
            Self::Set(_) => "sem set",
            Self::Stat(_) => "sem stat",
            Self::Ls(_) => "sem ls",
            Self::Rm(_) => "sem rm",
        }
    }
}

pub(crate) fn run(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create(create) => run_create(create),
        Verb::Wait(take) => run_wait(take),
        Verb::Post(post) => run_post(post),
        Verb::Get(one) => run_get(one),
        Verb::Set(set) => run_set(set),
        Verb::Stat(one) => run_stat(one),
        Verb::Ls(ls) => run_ls(ls),
        Verb::Rm(several) => run_rm(several),
    }
}

/// The System V set that is meant.
fn system_v(meant: &Meant) -> Result<Set, Failure> {
    match meant {
        Meant::Id(id) => Ok(Set::from_id(*id)),
        Meant::Key(key) => Ok(Set::find(*key)?),
        Meant::Posix(name) => Err(Failure::usage(format!("{name}: a POSIX name with --sysv"))),
    }
}

impl Place {
    /// Maps the segment, if what is meant fits into it.
    fn map(&self, bytes: usize) -> Result<MapMut, Failure> {
        let object = Object::open(&self.name, Access::ReadWrite)?;
        let size = object.size()?;
        let end = self.offset.saturating_add(bytes);
        if end as u64 > size {
            let (name, offset) = (&self.name, self.offset);
            return Err(Failure::refused(format!(
                "{name}: {bytes} bytes at {offset} don't fit into its {size}; ipc shm resize makes room"
            )));
        }
        Ok(MapMut::of(&object, end)?)
    }
}

fn run_create(create: &Create) -> Result<(), Failure> {
    let sysv = &create.which.sysv;
    if let Some(place) = &create.which.inside {
        argument::nothing_more(&create.words)?;
        if create.which.mutex {
            RobustMutex::init(&place.map(mutex::BYTES)?, place.offset)?;
        } else {
            Shared::init(&place.map(sem::SHARED_BYTES)?, place.offset, create.value)?;
        }
        return Ok(());
    }
    if sysv.sysv {
        argument::nothing_more(&create.words)?;
        let key = sysv.key_to_make(create.private)?;
        // Only who makes the set gives it its values: try to be that one.
        let exclusive = sysv::Options { mode: create.mode, exclusive: true };
        let set = match Set::create(key, create.count, &exclusive) {
            Ok(set) => {
                for number in 0..create.count {
                    if let Err(error) = set.set_value(number as u16, create.value) {
                        let _ = set.remove();
                        return Err(error.into());
                    }
                }
                set
            }
            Err(sysv::Error::Exists { .. }) if !create.excl => Set::find(key)?,
            Err(error) => return Err(error.into()),
        };
        return line(set.id());
    }
    let Meant::Posix(name) = sysv.only(&create.words)? else { unreachable!("no --sysv") };
    let options = sem::Options { value: create.value, mode: create.mode, exclusive: create.excl };
    Named::create(&name, &options)?;
    Ok(())
}

fn run_wait(take: &Take) -> Result<(), Failure> {
    let wait = take.waiting.wait();
    let held = !take.command.is_empty();
    let run = || if held { argument::run_command(&take.command) } else { Ok(()) };
    if let Some(place) = &take.which.inside {
        argument::nothing_more(&take.words)?;
        if take.which.mutex {
            return run_locked(place, wait, held, run);
        }
        let map = place.map(sem::SHARED_BYTES)?;
        let semaphore = Shared::at(&map, place.offset);
        uninterrupted(|| semaphore.wait(wait))?;
        let result = run();
        if held {
            semaphore.post()?;
        }
        return result;
    }
    let meant = take.which.sysv.only(&take.words)?;
    if let Meant::Posix(name) = &meant {
        let semaphore = Named::open(name)?;
        uninterrupted(|| semaphore.wait(wait))?;
        let result = run();
        if held {
            semaphore.post()?;
        }
        return result;
    }
    let set = system_v(&meant)?;
    let by = i16::try_from(take.by).map_err(|_| Failure::usage("--by: at most 32767"))?;
    let down = Change { number: take.number, by: -by, undo: take.undo };
    uninterrupted(|| set.change(&[down], wait))?;
    let result = run();
    if held {
        // With the same undo flag, so that the kernel has nothing left to undo.
        set.change(&[Change { by, ..down }], Wait::FOREVER)?;
    }
    result
}

/// Takes a robust mutex for the time of a command; heals it if its last owner
/// died.
fn run_locked(
    place: &Place,
    wait: Wait,
    held: bool,
    run: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    if !held {
        let why = "a mutex is given back by who took it: say what to run meanwhile, after --";
        return Err(Failure::usage(why));
    }
    let map = place.map(mutex::BYTES)?;
    let taken = RobustMutex::at(&map, place.offset).with(wait, |held| {
        if held.owner_died() {
            eprintln!("the last owner died while it held the mutex; healed");
            held.repaired();
        }
        run()
    });
    taken?
}

fn run_post(post: &Post) -> Result<(), Failure> {
    if let Some(place) = &post.which.inside {
        argument::nothing_more(&post.words)?;
        if post.which.mutex {
            return Err(Failure::usage(
                "a mutex is given back by who took it, at the end of its command",
            ));
        }
        return Ok(Shared::at(&place.map(sem::SHARED_BYTES)?, place.offset).post()?);
    }
    let meant = post.which.sysv.only(&post.words)?;
    if let Meant::Posix(name) = &meant {
        return Ok(Named::open(name)?.post()?);
    }
    let by = i16::try_from(post.by).map_err(|_| Failure::usage("--by: at most 32767"))?;
    Ok(system_v(&meant)?.change(&[Change::by(post.number, by)], Wait::FOREVER)?)
}

fn mutex_state(place: &Place) -> Result<String, Failure> {
    let map = place.map(mutex::BYTES)?;
    Ok(match RobustMutex::at(&map, place.offset).look() {
        mutex::State::Held { thread } => format!("held by thread {thread}"),
        mutex::State::OwnerDied => "its owner died".to_owned(),
        mutex::State::NotRecoverable => "not recoverable".to_owned(),
        _ => "free".to_owned(),
    })
}

fn run_get(one: &One) -> Result<(), Failure> {
    if let Some(place) = &one.which.inside {
        argument::nothing_more(&one.words)?;
        if one.which.mutex {
            return line(mutex_state(place)?);
        }
        return line(Shared::at(&place.map(sem::SHARED_BYTES)?, place.offset).value()?);
    }
    let meant = one.which.sysv.only(&one.words)?;
    if let Meant::Posix(name) = &meant {
        return match sem::stat(name)?.value {
            Some(value) => line(value),
            None => line(Named::open(name)?.value()?),
        };
    }
    let values = system_v(&meant)?.values()?;
    line(values.iter().map(u32::to_string).collect::<Vec<_>>().join(" "))
}

fn run_set(set: &SetTo) -> Result<(), Failure> {
    let value = |rest: &[String]| match rest {
        [text] => text.parse::<u32>().map_err(|_| Failure::usage(format!("{text}: no value"))),
        _ => Err(Failure::usage("to what? it takes a value")),
    };
    if let Some(place) = &set.which.inside {
        if set.which.mutex {
            return Err(Failure::usage("a mutex has no value"));
        }
        let map = place.map(sem::SHARED_BYTES)?;
        let semaphore = Shared::at(&map, place.offset);
        return move_to(
            value(&set.words)?,
            || semaphore.value(),
            || semaphore.post(),
            || semaphore.wait(Wait::No),
        );
    }
    let (meant, rest) = set.which.sysv.take(&set.words)?;
    if let Meant::Posix(name) = &meant {
        let semaphore = Named::open(name)?;
        return move_to(
            value(rest)?,
            || semaphore.value(),
            || semaphore.post(),
            || semaphore.wait(Wait::No),
        );
    }
    Ok(system_v(&meant)?.set_value(set.number, value(rest)?)?)
}

/// A POSIX semaphore can't be set: it is posted or taken until its value is
/// right. Who uses it meanwhile sees each step.
fn move_to(
    wanted: u32,
    value: impl Fn() -> Result<u32, sem::Error>,
    post: impl Fn() -> Result<(), sem::Error>,
    take: impl Fn() -> Result<(), sem::Error>,
) -> Result<(), Failure> {
    if wanted > sem::VALUE_MAX {
        return Err(Failure::usage(format!("{wanted}: at most {}", sem::VALUE_MAX)));
    }
    loop {
        let now = value()?;
        match now.cmp(&wanted) {
            core::cmp::Ordering::Equal => return Ok(()),
            core::cmp::Ordering::Less => post()?,
            core::cmp::Ordering::Greater => match take() {
                Ok(()) | Err(sem::Error::WouldBlock { .. } | sem::Error::Interrupted { .. }) => {}
                Err(error) => return Err(error.into()),
            },
        }
    }
}

fn run_stat(one: &One) -> Result<(), Failure> {
    let names = Names::load();
    if let Some(place) = &one.which.inside {
        argument::nothing_more(&one.words)?;
        let fields = if one.which.mutex {
            vec![("state", Cell::text(mutex_state(place)?))]
        } else {
            let map = place.map(sem::SHARED_BYTES)?;
            vec![("value", Cell::Number(Shared::at(&map, place.offset).value()?.into()))]
        };
        let mut all = vec![
            ("segment", Cell::text(&place.name)),
            ("offset", Cell::Number(place.offset as u64)),
        ];
        all.extend(fields);
        return print_fields(&all, one.json);
    }
    let meant = one.which.sysv.only(&one.words)?;
    if let Meant::Posix(name) = &meant {
        let stat = sem::stat(name)?;
        let m = stat.metadata;
        let number = |n: Option<u32>| n.map_or(Cell::Unknown, |n| Cell::Number(n.into()));
        let fields = [
            ("name", Cell::text(name)),
            ("value", number(stat.value)),
            ("waiters", number(stat.waiters)),
            ("perms", Cell::text(permissions(m.st_mode))),
            ("owner", Cell::text(names.user(m.st_uid))),
            ("group", Cell::text(names.group(m.st_gid))),
            ("holders", Cell::text(holders::pids(&Holders::now().of(&m)))),
            ("change-time", Cell::Time(m.st_ctime)),
        ];
        return print_fields(&fields, one.json);
    }
    let set = system_v(&meant)?;
    let stat = set.stat()?;
    let p = stat.permissions;
    let fields = [
        ("id", Cell::text(set.id().to_string())),
        ("key", Cell::text(format!("0x{:08x}", p.key))),
        ("perms", Cell::text(permissions(p.mode))),
        ("owner", Cell::text(names.user(p.uid))),
        ("group", Cell::text(names.group(p.gid))),
        ("creator", Cell::text(names.user(p.creator_uid))),
        ("creator-group", Cell::text(names.group(p.creator_gid))),
        ("semaphores", Cell::Number(stat.count as u64)),
        ("operation-time", Cell::Time(stat.operation_time)),
        ("change-time", Cell::Time(stat.change_time)),
    ];
    print_fields(&fields, one.json)?;
    if one.json {
        return Ok(());
    }
    let mut rows = Vec::new();
    for number in 0..stat.count {
        let semaphore = set.semaphore(number as u16)?;
        rows.push(vec![
            Cell::Number(number as u64),
            Cell::Number(semaphore.value.into()),
            Cell::Number(semaphore.waiting.into()),
            Cell::Number(semaphore.waiting_for_zero.into()),
            Cell::Number(semaphore.last as u64),
        ]);
    }
    let columns = &["SEMNUM", "VALUE", "NCOUNT", "ZCOUNT", "PID"];
    Table { name: "semaphores", columns, shown: columns, rows }.print(&Style::plain())
}

const POSIX: &[&str] = &[
    "TYPE", "NAME", "OWNER", "UID", "GROUP", "GID", "PERMS", "SVAL", "WAITERS", "HOLDERS",
    "READERS", "WRITERS", "ORPHAN", "MTIME", "CTIME",
];
const POSIX_SHOWN: &[&str] = &["NAME", "OWNER", "PERMS", "SVAL", "WAITERS", "HOLDERS", "ORPHAN"];
const SYSTEM_V: &[&str] = &[
    "TYPE", "KEY", "ID", "PERMS", "OWNER", "UID", "GROUP", "GID", "CUSER", "CUID", "CGROUP",
    "CGID", "NSEMS", "OTIME", "CTIME", "ORPHAN",
];
const SYSTEM_V_SHOWN: &[&str] = &["KEY", "ID", "PERMS", "OWNER", "NSEMS", "OTIME"];

fn run_ls(ls: &Ls) -> Result<(), Failure> {
    let names = Names::load();
    let mut rows = Vec::new();
    if ls.limits {
        use ipc::sysv::set;
        let row = |name: &str, what: &str, limit: usize, used: Option<usize>| {
            let number = used.map(|n| n as u64);
            let used = number.map_or(Cell::Unknown, Cell::Number);
            let part = share(limit as u64, number);
            vec![Cell::text(name), Cell::text(what), Cell::Number(limit as u64), used, part]
        };
        let used = set::list()?.len();
        rows.push(row("SEMMNI", "sets", set::sets_max(), Some(used)));
        rows.push(row("SEMMSL", "semaphores in a set", set::set_size_max(), None));
        rows.push(row("SEMVMX", "value of a semaphore", set::VALUE_MAX as usize, None));
        return Table { name: "limits", columns: LIMITS, shown: LIMITS, rows }.print(&ls.style);
    }
    if ls.sysv {
        for set in sysv::set::list()? {
            // One that is removed meanwhile, or may not be looked at, is left out.
            let Ok(stat) = set.stat() else { continue };
            let p = stat.permissions;
            let last = |n| set.semaphore(n as u16).map_or(0, |s| s.last);
            let orphan = (0..stat.count).all(|n| !holders::is_alive(last(n)));
            rows.push(vec![
                Cell::text("sysv"),
                Cell::text(format!("0x{:08x}", p.key)),
                Cell::Number(set.id() as u64),
                Cell::text(permissions(p.mode)),
                Cell::text(names.user(p.uid)),
                Cell::Number(p.uid.into()),
                Cell::text(names.group(p.gid)),
                Cell::Number(p.gid.into()),
                Cell::text(names.user(p.creator_uid)),
                Cell::Number(p.creator_uid.into()),
                Cell::text(names.group(p.creator_gid)),
                Cell::Number(p.creator_gid.into()),
                Cell::Number(stat.count as u64),
                Cell::Time(stat.operation_time),
                Cell::Time(stat.change_time),
                Cell::Yes(orphan),
            ]);
        }
        let (columns, shown) = (SYSTEM_V, SYSTEM_V_SHOWN);
        return Table { name: "semaphores", columns, shown, rows }.print(&ls.style);
    }
    let held = Holders::now();
    for listed in sem::list()? {
        let m = &listed.metadata;
        let pids = held.of(m);
        let number = |n: Option<u32>| n.map_or(Cell::Unknown, |n| Cell::Number(n.into()));
        rows.push(vec![
            Cell::text("posix"),
            Cell::text(&listed.name),
            Cell::text(names.user(m.st_uid)),
            Cell::Number(m.st_uid.into()),
            Cell::text(names.group(m.st_gid)),
            Cell::Number(m.st_gid.into()),
            Cell::text(permissions(m.st_mode)),
            number(listed.value),
            number(listed.waiters),
            Cell::text(holders::pids(&pids)),
            Cell::text(holders::pids(&held.readers(m))),
            Cell::text(holders::pids(&held.writers(m))),
            Cell::Yes(pids.is_empty()),
            Cell::Time(m.st_mtime),
            Cell::Time(m.st_ctime),
        ]);
    }
    Table { name: "posix-semaphores", columns: POSIX, shown: POSIX_SHOWN, rows }.print(&ls.style)
}

fn run_rm(several: &Several) -> Result<(), Failure> {
    for meant in several.sysv.each(&several.words)? {
        match &meant {
            Meant::Posix(name) => sem::remove(name)?,
            _ => system_v(&meant)?.remove()?,
        }
    }
    Ok(())
}
