//! `ipc shm`: shared memory, POSIX and System V.
use core::time::Duration;

use clap::{Args, Subcommand};
use ipc::map::{Map, MapMut};
use ipc::shm::{self, Access, Object};
use ipc::sysv::{self, segment::Segment};
use ipc::timer::Deadline;

use crate::argument::{self, Meant, SysV};
use crate::failure::{Failure, line, output, remark};
use crate::holders::{self, Holders};
use crate::table::{Cell, LIMITS, Names, Style, Table, permissions, print_fields, share};

/// What to do with shared memory.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Make a segment
    ///
    /// Example: ipc shm create /seg --size 64K --excl
    Create(Create),
    /// Write into it; a POSIX one grows to hold the text
    ///
    /// Example: ipc shm write /seg 'Hello!' -v
    Write(Write),
    /// Read from it
    ///
    /// Example: ipc shm read /seg --offset 0 --count 6
    Read(Read),
    /// Show it in hexadecimal
    ///
    /// Example: ipc shm dump /seg --count 64
    Dump(Read),
    /// Show changes as they happen
    ///
    /// Example: ipc shm watch /seg --timeout 10s
    Watch(Watch),
    /// Change the size (POSIX)
    ///
    /// Example: ipc shm resize /seg 1M
    Resize(Words),
    /// Show everything that the system knows about it
    ///
    /// Example: ipc shm stat --sysv --key 5678
    Stat(One),
    /// Set the permissions
    ///
    /// Example: ipc shm chmod /seg 0640
    Chmod(Words),
    /// List the segments
    ///
    /// Example: ipc shm ls -o NAME,SIZE,HOLDERS
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Remove segments; the memory goes when nobody has it mapped any more
    ///
    /// Example: ipc shm rm /seg
    #[command(visible_alias = "remove")]
    Rm(Words),
}

#[derive(Args)]
pub(crate) struct Create {
    /// The segment's name, like /seg
    #[arg(value_name = "NAME")]
    words: Vec<String>,
    /// Its size (4096, 64K, 1M); POSIX: 0 is legal
    #[arg(long, value_name = "N", value_parser = argument::size, default_value = "0")]
    size: u64,
    /// Permissions, exactly, whatever the umask
    #[arg(long, value_name = "M", value_parser = argument::mode, default_value = "0600")]
    mode: u32,
    /// Fail if it exists
    #[arg(long)]
    excl: bool,
    #[command(flatten)]
    sysv: SysV,
    /// System V: without a key; the id is printed
    #[arg(long, requires = "sysv")]
    private: bool,
}

#[derive(Args)]
pub(crate) struct Write {
    /// The segment, then the text, or - for standard input
    #[arg(value_name = "NAME TEXT|-")]
    words: Vec<String>,
    /// Where to begin
    #[arg(long, value_name = "N", value_parser = argument::size, default_value = "0")]
    offset: u64,
    /// Say how much is copied, on standard error
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    sysv: SysV,
}

#[derive(Args)]
pub(crate) struct Read {
    /// The segment
    #[arg(value_name = "NAME")]
    words: Vec<String>,
    /// Where to begin
    #[arg(long, value_name = "N", value_parser = argument::size, default_value = "0")]
    offset: u64,
    /// How many bytes [default: all]
    #[arg(long, value_name = "N", value_parser = argument::size)]
    count: Option<u64>,
    /// Say when it is done, on standard error
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    sysv: SysV,
}

#[derive(Args)]
pub(crate) struct Watch {
    /// The segment
    #[arg(value_name = "NAME")]
    words: Vec<String>,
    /// Time between two looks: memory has no news to wait for
    #[arg(long, value_name = "D", value_parser = argument::duration, default_value = "100ms")]
    interval: Duration,
    /// Stop after so many changes
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop after this time without a change; then exit 4
    #[arg(long, value_name = "D", value_parser = argument::duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    sysv: SysV,
}

#[derive(Args)]
pub(crate) struct One {
    /// The segment
    #[arg(value_name = "NAME")]
    words: Vec<String>,
    /// JSON
    #[arg(short = 'J', long, short_alias = 'j')]
    json: bool,
    #[command(flatten)]
    sysv: SysV,
}

#[derive(Args)]
pub(crate) struct Words {
    /// The segment, then what is to be set
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
    /// System V segments instead of POSIX ones
    #[arg(long)]
    sysv: bool,
    #[command(flatten)]
    style: Style,
}

impl Verb {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "shm create",
            Self::Write(_) => "shm write",
            Self::Read(_) => "shm read",
            Self::Dump(_) => "shm dump",
            Self::Watch(_) => "shm watch",
            Self::Resize(_) => "shm resize",
            Self::Stat(_) => "shm stat",
            Self::Chmod(_) => "shm chmod",
            Self::Ls(_) => "shm ls",
            Self::Rm(_) => "shm rm",
        }
    }
}

pub(crate) fn run(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create(create) => run_create(create),
        Verb::Write(write) => run_write(write),
        Verb::Read(read) => run_read(read),
        Verb::Dump(read) => run_dump(read),
        Verb::Watch(watch) => run_watch(watch),
        Verb::Resize(words) => run_resize(words),
        Verb::Stat(one) => run_stat(one),
        Verb::Chmod(words) => run_chmod(words),
        Verb::Ls(ls) => run_ls(ls),
        Verb::Rm(words) => run_rm(words),
    }
}

/// The System V segment that is meant.
pub(crate) fn system_v(meant: &Meant) -> Result<Segment, Failure> {
    match meant {
        Meant::Id(id) => Ok(Segment::from_id(*id)),
        Meant::Key(key) => Ok(Segment::find(*key)?),
        Meant::Posix(name) => Err(Failure::usage(format!("{name}: a POSIX name with --sysv"))),
    }
}

/// A segment to look at: a POSIX one is read as a file (it may shrink at any
/// time, which would kill who has it mapped), a System V one attached.
enum Source {
    Object(Object),
    Attached(Map),
}

impl Source {
    fn open(meant: &Meant) -> Result<Self, Failure> {
        Ok(match meant {
            Meant::Posix(name) => Self::Object(Object::open(name, Access::Read)?),
            _ => Self::Attached(system_v(meant)?.attach_read()?),
        })
    }

    fn size(&self) -> Result<u64, Failure> {
        Ok(match self {
            Self::Object(object) => object.size()?,
            Self::Attached(map) => map.len() as u64,
        })
    }

    /// Up to `len` bytes at `offset`.
    fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>, Failure> {
        let len = len.min(self.size()?.saturating_sub(offset)) as usize;
        Ok(match self {
            Self::Object(object) => {
                let mut bytes = vec![0; len];
                let read = object.read(offset, &mut bytes)?;
                bytes.truncate(read);
                bytes
            }
            Self::Attached(map) if len == 0 => {
                let _ = map;
                Vec::new()
            }
            Self::Attached(map) => map.to_vec(offset as usize, len),
        })
    }
}

fn run_create(create: &Create) -> Result<(), Failure> {
    if create.sysv.sysv {
        argument::nothing_more(&create.words)?;
        let key = create.sysv.key_to_make(create.private)?;
        let options = sysv::Options { mode: create.mode, exclusive: create.excl };
        return line(Segment::create(key, create.size as usize, &options)?.id());
    }
    let Meant::Posix(name) = create.sysv.only(&create.words)? else { unreachable!("no --sysv") };
    let options = shm::Options { size: create.size, mode: create.mode, exclusive: create.excl };
    Object::create(&name, &options)?;
    Ok(())
}

fn run_write(write: &Write) -> Result<(), Failure> {
    let (meant, rest) = write.sysv.take(&write.words)?;
    let bytes = argument::content(rest)?;
    let len = bytes.len() as u64;
    if write.verbose {
        eprintln!("Copying {len} bytes");
    }
    if let Meant::Posix(name) = &meant {
        let object = Object::open(name, Access::ReadWrite)?;
        let end = write.offset.saturating_add(len);
        if end > object.size()? {
            object.resize(end)?;
        }
        return Ok(object.write(write.offset, &bytes)?);
    }
    let segment = system_v(&meant)?;
    let map: MapMut = segment.attach_write()?;
    let size = map.len() as u64;
    if write.offset.checked_add(len).is_none_or(|end| end > size) {
        return Err(shm::Error::BehindEnd {
            name: format!("segment {}", segment.id()),
            offset: write.offset,
            len,
            size,
        }
        .into());
    }
    map.bytes_in(write.offset as usize, &bytes);
    Ok(())
}

/// How much is read at a time.
const PIECE: u64 = 1 << 20;

fn each_piece(
    read: &Read,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let meant = read.sysv.only(&read.words)?;
    let source = Source::open(&meant)?;
    let size = source.size()?;
    let available = size.saturating_sub(read.offset);
    if read.offset > size || read.count.is_some_and(|count| count > available) {
        let name = match &meant {
            Meant::Posix(name) => name.clone(),
            _ => "segment".to_owned(),
        };
        let len = read.count.unwrap_or(0);
        return Err(shm::Error::BehindEnd { name, offset: read.offset, len, size }.into());
    }
    let (mut offset, end) = (read.offset, read.offset + read.count.unwrap_or(available));
    while offset < end {
        let bytes = source.read(offset, PIECE.min(end - offset))?;
        if bytes.is_empty() {
            break; // shrunk meanwhile
        }
        take(offset, &bytes)?;
        offset += bytes.len() as u64;
    }
    Ok(())
}

fn run_read(read: &Read) -> Result<(), Failure> {
    let mut last = Vec::new();
    each_piece(read, |_, bytes| {
        last = bytes[bytes.len() - 1..].to_vec();
        output(bytes)
    })?;
    if read.verbose {
        remark(&last, "... Done");
    }
    Ok(())
}

/// One line of a dump as `hexdump -C` prints it.
fn dump_line(offset: u64, bytes: &[u8]) -> String {
    let mut hex = String::new();
    for at in 0..16 {
        match bytes.get(at) {
            Some(byte) => hex.push_str(&format!("{byte:02x} ")),
            None => hex.push_str("   "),
        }
        if at == 7 {
            hex.push(' ');
        }
    }
    let text: String =
        bytes.iter().map(|b| if (32..127).contains(b) { *b as char } else { '.' }).collect();
    format!("{offset:08x}  {hex} |{text}|\n")
}

fn run_dump(read: &Read) -> Result<(), Failure> {
    let mut end = read.offset;
    each_piece(read, |offset, bytes| {
        let mut text = String::new();
        for (n, row) in bytes.chunks(16).enumerate() {
            text.push_str(&dump_line(offset + n as u64 * 16, row));
        }
        end = offset + bytes.len() as u64;
        output(text.as_bytes())
    })?;
    line(format!("{end:08x}"))
}

fn run_watch(watch: &Watch) -> Result<(), Failure> {
    let source = Source::open(&watch.sysv.only(&watch.words)?)?;
    let mut before = source.read(0, u64::MAX)?;
    let mut left = watch.count.unwrap_or(u64::MAX);
    let mut deadline = Deadline::after(watch.timeout);
    while left > 0 {
        std::thread::sleep(watch.interval);
        let now = source.read(0, u64::MAX)?;
        if now == before {
            if deadline.passed() {
                let text = "no change in the given time";
                return Err(Failure::Told { code: crate::failure::WAITED, text: text.to_owned() });
            }
            continue;
        }
        let mut text = String::new();
        if now.len() != before.len() {
            text.push_str(&format!("size {} -> {}\n", before.len(), now.len()));
        }
        for (n, row) in now.chunks(16).enumerate() {
            let offset = n * 16;
            if before.get(offset..offset + row.len()) != Some(row) {
                text.push_str(&dump_line(offset as u64, row));
            }
        }
        output(text.as_bytes())?;
        before = now;
        left -= 1;
        deadline = Deadline::after(watch.timeout);
    }
    Ok(())
}

fn run_resize(words: &Words) -> Result<(), Failure> {
    let (meant, rest) = words.sysv.take(&words.words)?;
    let Meant::Posix(name) = &meant else {
        return Err(Failure::usage("a System V segment has its size for ever; make another one"));
    };
    let [size] = rest else { return Err(Failure::usage("it takes a name and a size")) };
    let size = argument::size(size).map_err(|why| Failure::usage(format!("{size}: {why}")))?;
    Ok(Object::open(name, Access::ReadWrite)?.resize(size)?)
}

fn run_chmod(words: &Words) -> Result<(), Failure> {
    let (meant, rest) = words.sysv.take(&words.words)?;
    let [mode] = rest else { return Err(Failure::usage("it takes a name and a mode")) };
    let mode = argument::mode(mode).map_err(|why| Failure::usage(format!("{mode}: {why}")))?;
    match &meant {
        Meant::Posix(name) => Ok(Object::open(name, Access::Read)?.set_mode(mode)?),
        _ => Ok(system_v(&meant)?.set_mode(mode)?),
    }
}

fn run_stat(one: &One) -> Result<(), Failure> {
    let meant = one.sysv.only(&one.words)?;
    let names = Names::load();
    if let Meant::Posix(name) = &meant {
        let object = Object::open(name, Access::Read)?;
        let m = object.metadata()?;
        let pids = Holders::now().of(&m);
        let fields = [
            ("name", Cell::text(name)),
            ("size", Cell::Number(m.st_size as u64)),
            ("allocated", Cell::Number(m.st_blocks as u64 * 512)),
            ("perms", Cell::text(permissions(m.st_mode))),
            ("owner", Cell::text(names.user(m.st_uid))),
            ("group", Cell::text(names.group(m.st_gid))),
            ("holders", Cell::text(holders::pids(&pids))),
            ("access-time", Cell::Time(m.st_atime)),
            ("modify-time", Cell::Time(m.st_mtime)),
            ("change-time", Cell::Time(m.st_ctime)),
        ];
        return print_fields(&fields, one.json);
    }
    let segment = system_v(&meant)?;
    let stat = segment.stat()?;
    let p = stat.permissions;
    let fields = [
        ("id", Cell::text(segment.id().to_string())),
        ("key", Cell::text(format!("0x{:08x}", p.key))),
        ("perms", Cell::text(permissions(p.mode))),
        ("status", Cell::text(status(p.mode))),
        ("owner", Cell::text(names.user(p.uid))),
        ("group", Cell::text(names.group(p.gid))),
        ("creator", Cell::text(names.user(p.creator_uid))),
        ("creator-group", Cell::text(names.group(p.creator_gid))),
        ("sequence", Cell::Number(p.sequence.into())),
        ("size", Cell::Number(stat.size as u64)),
        ("attached", Cell::Number(stat.attached)),
        ("creator-pid", Cell::Number(stat.creator as u64)),
        ("last-pid", Cell::Number(stat.last as u64)),
        ("attach-time", Cell::Time(stat.attach_time)),
        ("detach-time", Cell::Time(stat.detach_time)),
        ("change-time", Cell::Time(stat.change_time)),
    ];
    print_fields(&fields, one.json)
}

fn status(mode: u32) -> &'static str {
    use ipc::sysv::segment::{DESTROYED, LOCKED};
    match (mode & DESTROYED != 0, mode & LOCKED != 0) {
        (true, true) => "dest,locked",
        (true, false) => "dest",
        (false, true) => "locked",
        (false, false) => "-",
    }
}

const POSIX: &[&str] = &[
    "TYPE", "NAME", "OWNER", "UID", "GROUP", "GID", "PERMS", "SIZE", "HOLDERS", "READERS",
    "WRITERS", "ORPHAN", "MTIME", "CTIME",
];
const POSIX_SHOWN: &[&str] = &["NAME", "OWNER", "PERMS", "SIZE", "HOLDERS", "ORPHAN", "MTIME"];
const SYSTEM_V: &[&str] = &[
    "TYPE", "KEY", "ID", "PERMS", "OWNER", "UID", "GROUP", "GID", "CUSER", "CUID", "CGROUP",
    "CGID", "SIZE", "NATTCH", "STATUS", "CTIME", "ATTACH", "DETACH", "CPID", "LPID", "COMMAND",
    "ORPHAN",
];
const SYSTEM_V_SHOWN: &[&str] =
    &["KEY", "ID", "PERMS", "OWNER", "SIZE", "NATTCH", "STATUS", "CTIME", "CPID", "LPID", "ORPHAN"];

fn run_ls(ls: &Ls) -> Result<(), Failure> {
    let names = Names::load();
    let mut rows = Vec::new();
    if ls.limits {
        use ipc::sysv::segment;
        let row = |name: &str, what: &str, limit: usize, used: Option<usize>| {
            let number = used.map(|n| n as u64);
            let used = number.map_or(Cell::Unknown, Cell::Number);
            let part = share(limit as u64, number);
            vec![Cell::text(name), Cell::text(what), Cell::Number(limit as u64), used, part]
        };
        let used = segment::list()?.len();
        rows.push(row("SHMMNI", "segments", segment::segments_max(), Some(used)));
        rows.push(row("SHMMAX", "bytes in a segment", segment::segment_bytes_max(), None));
        return Table { name: "limits", columns: LIMITS, shown: LIMITS, rows }.print(&ls.style);
    }
    if ls.sysv {
        for segment in sysv::segment::list()? {
            // One that is removed meanwhile, or may not be looked at, is left out.
            let Ok(stat) = segment.stat() else { continue };
            let p = stat.permissions;
            rows.push(vec![
                Cell::text("sysv"),
                Cell::text(format!("0x{:08x}", p.key)),
                Cell::Number(segment.id() as u64),
                Cell::text(permissions(p.mode)),
                Cell::text(names.user(p.uid)),
                Cell::Number(p.uid.into()),
                Cell::text(names.group(p.gid)),
                Cell::Number(p.gid.into()),
                Cell::text(names.user(p.creator_uid)),
                Cell::Number(p.creator_uid.into()),
                Cell::text(names.group(p.creator_gid)),
                Cell::Number(p.creator_gid.into()),
                Cell::Size(stat.size as u64),
                Cell::Number(stat.attached),
                Cell::text(status(p.mode)),
                Cell::Time(stat.change_time),
                Cell::Time(stat.attach_time),
                Cell::Time(stat.detach_time),
                Cell::Number(stat.creator as u64),
                Cell::Number(stat.last as u64),
                Cell::text(holders::command(stat.creator)),
                Cell::Yes(stat.attached == 0 && !holders::is_alive(stat.creator)),
            ]);
        }
        let (columns, shown) = (SYSTEM_V, SYSTEM_V_SHOWN);
        return Table { name: "sharedmemory", columns, shown, rows }.print(&ls.style);
    }
    let held = Holders::now();
    for listed in shm::list()? {
        let m = &listed.metadata;
        let pids = held.of(m);
        rows.push(vec![
            Cell::text("posix"),
            Cell::text(&listed.name),
            Cell::text(names.user(m.st_uid)),
            Cell::Number(m.st_uid.into()),
            Cell::text(names.group(m.st_gid)),
            Cell::Number(m.st_gid.into()),
            Cell::text(permissions(m.st_mode)),
            Cell::Size(m.st_size as u64),
            Cell::text(holders::pids(&pids)),
            Cell::text(holders::pids(&held.readers(m))),
            Cell::text(holders::pids(&held.writers(m))),
            Cell::Yes(pids.is_empty()),
            Cell::Time(m.st_mtime),
            Cell::Time(m.st_ctime),
        ]);
    }
    Table { name: "posix-shmems", columns: POSIX, shown: POSIX_SHOWN, rows }.print(&ls.style)
}

fn run_rm(words: &Words) -> Result<(), Failure> {
    for meant in words.sysv.each(&words.words)? {
        if let Meant::Posix(name) = &meant {
            shm::remove(name)?;
            continue;
        }
        let segment = system_v(&meant)?;
        let attached = segment.remove()?;
        if attached > 0 {
            eprintln!(
                "segment {}: still attached {attached} times, it goes with the last detach",
                segment.id()
            );
        }
    }
    Ok(())
}
