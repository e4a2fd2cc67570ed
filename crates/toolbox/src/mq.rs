//! `ipc mq`: message queues, POSIX and System V.
use std::collections::BinaryHeap;

use clap::{Args, Subcommand};
use ipc::epoll::{Epoll, Events, Interest};
use ipc::mq::{self, Access, Queue};
use ipc::signal::{Signal, SignalFd, SignalSet};
use ipc::sysv;
use ipc::timer::{Deadline, Wait};

use crate::argument::{self, Meant, SysV, Waiting, uninterrupted};
use crate::failure::{Failure, line, output, remark};
use crate::holders::{self, Holders};
use crate::table::{Cell, LIMITS, Names, Style, Table, permissions, print_fields, share};

/// What to do with a queue.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Make a queue
    ///
    /// Example: ipc mq create /q --maxmsg 10 --msgsize 2048 --excl
    Create(Create),
    /// Send one message
    ///
    /// Example: ipc mq send /q 'Hello' --prio 5
    Send(Send),
    /// Receive messages: the highest priority first, the oldest first within it
    ///
    /// Example: ipc mq recv /q --count 5 -v
    #[command(visible_alias = "receive")]
    Recv(Recv),
    /// Show a queue's state; PID:FD shows one by a process's descriptor, also when its name has gone
    ///
    /// Example: ipc mq stat /q
    Stat(One),
    /// Show what is in a queue without taking it (System V)
    ///
    /// Example: ipc mq peek --sysv --key 5678
    Peek(One),
    /// Wait until a message comes into the empty queue
    ///
    /// Example: ipc mq notify /q --timeout 10s
    Notify(Notify),
    /// List the queues
    ///
    /// Example: ipc mq ls -o NAME,MSGS,HOLDERS
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Remove queues
    ///
    /// Example: ipc mq rm /q
    #[command(visible_alias = "remove")]
    Rm(Several),
}

#[derive(Args)]
pub(crate) struct Create {
    /// The queue's name, like /q
    #[arg(value_name = "NAME")]
    words: Vec<String>,
    /// How many messages it holds [default: the system's, 10]
    #[arg(long, value_name = "N")]
    maxmsg: Option<usize>,
    /// How long a message may be [default: the system's, 8192]
    #[arg(long, value_name = "N", value_parser = argument::size)]
    msgsize: Option<u64>,
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
pub(crate) struct Send {
    /// The queue, then the text, or - for standard input
    #[arg(value_name = "NAME TEXT|-")]
    words: Vec<String>,
    /// Priority, 0 to 32767
    #[arg(long, value_name = "P", conflicts_with = "sysv")]
    prio: Option<u32>,
    /// System V: the message's type, 1 or more [default: 1]
    #[arg(long = "type", value_name = "T", requires = "sysv")]
    kind: Option<i64>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    sysv: SysV,
}

#[derive(Args)]
pub(crate) struct Recv {
    /// The queue, or several
    #[arg(value_name = "NAME")]
    words: Vec<String>,
    /// How many messages
    #[arg(long, value_name = "N", default_value = "1", conflicts_with = "follow")]
    count: u64,
    /// Go on for ever
    #[arg(long)]
    follow: bool,
    /// Say how long each message is and its priority, on standard error
    #[arg(short, long)]
    verbose: bool,
    /// System V: 0 the first, above 0 of this type, below 0 of the lowest type up to that
    #[arg(
        long = "type",
        value_name = "T",
        requires = "sysv",
        allow_negative_numbers = true,
        default_value = "0"
    )]
    kind: i64,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    sysv: SysV,
}

#[derive(Args)]
pub(crate) struct One {
    /// The queue
    #[arg(value_name = "NAME")]
    words: Vec<String>,
    /// JSON
    #[arg(short = 'J', long, short_alias = 'j')]
    json: bool,
    #[command(flatten)]
    sysv: SysV,
}

#[derive(Args)]
pub(crate) struct Several {
    /// The queues
    #[arg(value_name = "NAME")]
    words: Vec<String>,
    #[command(flatten)]
    sysv: SysV,
}

#[derive(Args)]
pub(crate) struct Notify {
    /// The queue
    name: String,
    /// Wait at most so long; then exit 4
    #[arg(long, value_name = "D", value_parser = argument::duration)]
    timeout: Option<core::time::Duration>,
}

#[derive(Args)]
pub(crate) struct Ls {
    /// Show the limits, and how much of them is used
    #[arg(long)]
    limits: bool,
    /// System V queues instead of POSIX ones
    #[arg(long)]
    sysv: bool,
    #[command(flatten)]
    style: Style,
}

impl Verb {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "mq create",
            Self::Send(_) => "mq send",
            Self::Recv(_) => "mq recv",
            Self::Stat(_) => "mq stat",
            Self::Peek(_) => "mq peek",
            Self::Notify(_) => "mq notify",
            Self::Ls(_) => "mq ls",
            Self::Rm(_) => "mq rm",
        }
    }
}

pub(crate) fn run(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create(create) => run_create(create),
        Verb::Send(send) => run_send(send),
        Verb::Recv(recv) => run_recv(recv),
        Verb::Stat(one) => run_stat(one),
        Verb::Peek(one) => run_peek(one),
        Verb::Notify(notify) => run_notify(notify),
        Verb::Ls(ls) => run_ls(ls),
        Verb::Rm(several) => run_rm(several),
    }
}

/// The System V queue that is meant.
fn system_v(meant: &Meant) -> Result<sysv::queue::Queue, Failure> {
    match meant {
        Meant::Id(id) => Ok(sysv::queue::Queue::from_id(*id)),
        Meant::Key(key) => Ok(sysv::queue::Queue::find(*key)?),
        Meant::Posix(name) => Err(Failure::usage(format!("{name}: a POSIX name with --sysv"))),
    }
}

fn run_create(create: &Create) -> Result<(), Failure> {
    if create.sysv.sysv {
        argument::nothing_more(&create.words)?;
        let key = create.sysv.key_to_make(create.private)?;
        let options = sysv::Options { mode: create.mode, exclusive: create.excl };
        let queue = sysv::queue::Queue::create(key, &options)?;
        return line(queue.id());
    }
    let Meant::Posix(name) = create.sysv.only(&create.words)? else { unreachable!("no --sysv") };
    let options = mq::Options {
        maxmsg: create.maxmsg,
        msgsize: create.msgsize.map(|n| n as usize),
        mode: create.mode,
        exclusive: create.excl,
    };
    Queue::create(&name, &options)?;
    Ok(())
}

fn run_send(send: &Send) -> Result<(), Failure> {
    let (meant, rest) = send.sysv.take(&send.words)?;
    let message = argument::content(rest)?;
    let wait = send.waiting.wait();
    if let Meant::Posix(name) = &meant {
        let queue = Queue::open(name, Access::Send)?;
        return uninterrupted(|| queue.send(&message, send.prio.unwrap_or(0), wait));
    }
    let queue = system_v(&meant)?;
    uninterrupted(|| queue.send(send.kind.unwrap_or(1), &message, wait))
}

fn run_recv(recv: &Recv) -> Result<(), Failure> {
    let all = recv.sysv.each(&recv.words)?;
    let count = if recv.follow { u64::MAX } else { recv.count };
    if recv.sysv.sysv {
        let [meant] = &all[..] else {
            let why = "a System V queue has no descriptor, so only one can be waited for";
            return Err(Failure::usage(format!("{why}; run one recv for each")));
        };
        let queue = system_v(meant)?;
        for _ in 0..count {
            let wait = recv.waiting.wait();
            let message = uninterrupted(|| queue.receive(recv.kind, wait))?;
            output(&message.bytes)?;
            if recv.verbose {
                let (len, kind) = (message.bytes.len(), message.kind);
                remark(&message.bytes, format!("Read {len} bytes; type = {kind}"));
            }
        }
        return Ok(());
    }
    let mut queues = Vec::new();
    for meant in &all {
        let Meant::Posix(name) = meant else { unreachable!("no --sysv") };
        let queue = Queue::open(name, Access::Receive)?;
        let buffer = queue.buffer()?;
        queues.push((queue, buffer));
    }
    receive_from(&mut queues, count, recv)
}

/// A message that was taken out of its queue and is still to be shown: the
/// highest priority first, within it the one that was taken first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Taken {
    priority: u32,
    age: core::cmp::Reverse<u64>,
    from: usize,
    bytes: Vec<u8>,
}

/// Receives from several queues at once. A queue gives its messages only by
/// taking them, so the order across queues is made here: one from each queue
/// that has one, the highest priority first. Never more are taken than are
/// asked for, so none is lost.
fn receive_from(queues: &mut [(Queue, Vec<u8>)], count: u64, recv: &Recv) -> Result<(), Failure> {
    let epoll = Epoll::new()?;
    for (token, (queue, _)) in queues.iter().enumerate() {
        epoll.add(queue, token as u64, Interest::READ)?;
    }
    let mut events = Events::with_capacity(queues.len());
    let mut taken: BinaryHeap<Taken> = BinaryHeap::new();
    let (mut shown, mut age) = (0, 0);
    while shown < count {
        for (from, (queue, buffer)) in queues.iter_mut().enumerate() {
            if shown + taken.len() as u64 == count || taken.iter().any(|t| t.from == from) {
                continue;
            }
            match queue.receive(buffer, Wait::No) {
                Ok(message) => {
                    age += 1;
                    let bytes = buffer[..message.len].to_vec();
                    let age = core::cmp::Reverse(age);
                    taken.push(Taken { priority: message.priority, age, from, bytes });
                }
                Err(mq::Error::Empty { .. } | mq::Error::Interrupted { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(next) = taken.pop() {
            output(&next.bytes)?;
            if recv.verbose {
                let from = match queues.len() {
                    1 => String::new(),
                    _ => format!("; queue = {}", queues[next.from].0.name()),
                };
                let len = next.bytes.len();
                let priority = next.priority;
                remark(&next.bytes, format!("Read {len} bytes; priority = {priority}{from}"));
            }
            shown += 1;
            continue;
        }
        let names = || queues.iter().map(|(q, _)| q.name()).collect::<Vec<_>>().join(", ");
        if recv.waiting.nonblock {
            return Err(mq::Error::Empty { name: names() }.into());
        }
        let deadline = Deadline::after(recv.waiting.timeout);
        while epoll.wait(&mut events, deadline.left())? == 0 {
            if deadline.passed() {
                return Err(mq::Error::TimedOut { name: names() }.into());
            }
        }
    }
    Ok(())
}

fn run_stat(one: &One) -> Result<(), Failure> {
    let meant = one.sysv.only(&one.words)?;
    let names = Names::load();
    if let Meant::Posix(name) = &meant {
        let queue = match argument::descriptor(name) {
            Ok((pid, fd)) => Queue::of_process(pid, fd)?,
            Err(_) => Queue::open(name, Access::Receive)?,
        };
        let (status, attributes) = (queue.status()?, queue.attributes()?);
        let metadata = queue.metadata()?;
        let name = queue.name();
        if !one.json {
            // The line that the queue's file reads.
            line(format!(
                "QSIZE:{} NOTIFY:{} SIGNO:{} NOTIFY_PID:{}",
                status.bytes, status.notify, status.signo, status.notify_pid
            ))?;
        }
        let mut fields = vec![
            ("name", Cell::text(name)),
            ("flags", Cell::text(if attributes.nonblocking { "nonblock" } else { "-" })),
            ("maxmsg", Cell::Number(attributes.maxmsg as u64)),
            ("msgsize", Cell::Number(attributes.msgsize as u64)),
            ("curmsgs", Cell::Number(attributes.curmsgs as u64)),
            ("perms", Cell::text(permissions(metadata.st_mode))),
            ("owner", Cell::text(names.user(metadata.st_uid))),
            ("group", Cell::text(names.group(metadata.st_gid))),
        ];
        if one.json {
            fields.extend([
                ("qsize", Cell::Number(status.bytes)),
                ("notify", Cell::Number(status.notify as u64)),
                ("signo", Cell::Number(status.signo as u64)),
                ("notify_pid", Cell::Number(status.notify_pid as u64)),
            ]);
        }
        return print_fields(&fields, one.json);
    }
    let queue = system_v(&meant)?;
    let stat = queue.stat()?;
    let fields = [
        ("id", Cell::text(queue.id().to_string())),
        ("key", Cell::text(format!("0x{:08x}", stat.permissions.key))),
        ("perms", Cell::text(permissions(stat.permissions.mode))),
        ("owner", Cell::text(names.user(stat.permissions.uid))),
        ("group", Cell::text(names.group(stat.permissions.gid))),
        ("creator", Cell::text(names.user(stat.permissions.creator_uid))),
        ("creator-group", Cell::text(names.group(stat.permissions.creator_gid))),
        ("bytes", Cell::Number(stat.bytes)),
        ("messages", Cell::Number(stat.messages)),
        ("bytes-max", Cell::Number(stat.bytes_max)),
        ("last-sender", Cell::Number(stat.last_sender as u64)),
        ("last-receiver", Cell::Number(stat.last_receiver as u64)),
        ("send-time", Cell::Time(stat.send_time)),
        ("receive-time", Cell::Time(stat.receive_time)),
        ("change-time", Cell::Time(stat.change_time)),
    ];
    print_fields(&fields, one.json)
}

fn run_peek(one: &One) -> Result<(), Failure> {
    let meant = one.sysv.only(&one.words)?;
    if let Meant::Posix(name) = &meant {
        let queue = Queue::open(name, Access::Receive)?;
        let (status, attributes) = (queue.status()?, queue.attributes()?);
        let told = match status.notify_pid {
            0 => "nobody is to be notified".to_owned(),
            pid => format!("process {pid} is to be notified"),
        };
        return line(format!(
            "{name}: the content of a POSIX queue can't be peeked: {} messages, {} bytes; {told}",
            attributes.curmsgs, status.bytes
        ));
    }
    let queue = system_v(&meant)?;
    let mut index = 0;
    while let Some(message) = queue.peek(index)? {
        let text = message.bytes.escape_ascii();
        line(format!("{index} type {} {} bytes {text}", message.kind, message.bytes.len()))?;
        index += 1;
    }
    Ok(())
}

fn run_notify(notify: &Notify) -> Result<(), Failure> {
    let signal: Signal = "RTMIN".parse().expect("there is one");
    let signals = SignalFd::new(&SignalSet::of(&[signal]))?;
    let queue = Queue::open(&notify.name, Access::Receive)?;
    queue.notify(signal, 0)?;
    // Only a message into the *empty* queue is told: look after subscribing.
    let waiting = queue.attributes()?.curmsgs;
    if waiting > 0 {
        queue.cancel_notification()?;
        return line(format!("{}: {waiting} messages are there already", notify.name));
    }
    let epoll = Epoll::new()?;
    epoll.add(&signals, 0, Interest::READ)?;
    let mut events = Events::with_capacity(1);
    let deadline = Deadline::after(notify.timeout);
    loop {
        epoll.wait(&mut events, deadline.left())?;
        if let Some(info) = signals.read()? {
            return line(format!(
                "{}: a message has arrived, sent by process {} of user {}",
                notify.name, info.pid, info.uid
            ));
        }
        if deadline.passed() {
            return Err(mq::Error::TimedOut { name: notify.name.clone() }.into());
        }
    }
}

const POSIX: &[&str] = &[
    "TYPE",
    "NAME",
    "OWNER",
    "UID",
    "GROUP",
    "GID",
    "PERMS",
    "USEDBYTES",
    "MSGS",
    "MAXMSG",
    "MSGSIZE",
    "NOTIFYPID",
    "HOLDERS",
    "READERS",
    "WRITERS",
    "ORPHAN",
    "MTIME",
    "CTIME",
];
const POSIX_SHOWN: &[&str] = &[
    "NAME",
    "OWNER",
    "PERMS",
    "USEDBYTES",
    "MSGS",
    "MAXMSG",
    "MSGSIZE",
    "NOTIFYPID",
    "HOLDERS",
    "ORPHAN",
];
const SYSTEM_V: &[&str] = &[
    "TYPE",
    "KEY",
    "ID",
    "PERMS",
    "OWNER",
    "UID",
    "GROUP",
    "GID",
    "CUSER",
    "CUID",
    "CGROUP",
    "CGID",
    "USEDBYTES",
    "MSGS",
    "SEND",
    "RECV",
    "LSPID",
    "LRPID",
    "CTIME",
    "ORPHAN",
];
const SYSTEM_V_SHOWN: &[&str] =
    &["KEY", "ID", "PERMS", "OWNER", "USEDBYTES", "MSGS", "LSPID", "LRPID"];

fn run_ls(ls: &Ls) -> Result<(), Failure> {
    let names = Names::load();
    if ls.limits {
        return run_limits(ls);
    }
    let mut rows = Vec::new();
    if ls.sysv {
        for queue in sysv::queue::list()? {
            // One that is removed meanwhile, or may not be looked at, is left out.
            let Ok(stat) = queue.stat() else { continue };
            let p = stat.permissions;
            let dead = |pid| !holders::is_alive(pid);
            rows.push(vec![
                Cell::text("sysv"),
                Cell::text(format!("0x{:08x}", p.key)),
                Cell::Number(queue.id() as u64),
                Cell::text(permissions(p.mode)),
                Cell::text(names.user(p.uid)),
                Cell::Number(p.uid.into()),
                Cell::text(names.group(p.gid)),
                Cell::Number(p.gid.into()),
                Cell::text(names.user(p.creator_uid)),
                Cell::Number(p.creator_uid.into()),
                Cell::text(names.group(p.creator_gid)),
                Cell::Number(p.creator_gid.into()),
                Cell::Size(stat.bytes),
                Cell::Number(stat.messages),
                Cell::Time(stat.send_time),
                Cell::Time(stat.receive_time),
                Cell::Number(stat.last_sender as u64),
                Cell::Number(stat.last_receiver as u64),
                Cell::Time(stat.change_time),
                Cell::Yes(dead(stat.last_sender) && dead(stat.last_receiver)),
            ]);
        }
        let (columns, shown) = (SYSTEM_V, SYSTEM_V_SHOWN);
        return Table { name: "messages", columns, shown, rows }.print(&ls.style);
    }
    let held = Holders::now();
    for listed in mq::list()? {
        let m = &listed.metadata;
        let state = Queue::open(&listed.name, Access::Receive)
            .and_then(|queue| Ok((queue.status()?, queue.attributes()?)))
            .ok();
        let number = |f: &dyn Fn(&(mq::Status, mq::Attributes)) -> u64| {
            state.as_ref().map_or(Cell::Unknown, |s| Cell::Number(f(s)))
        };
        let pids = held.of(m);
        rows.push(vec![
            Cell::text("posix"),
            Cell::text(&listed.name),
            Cell::text(names.user(m.st_uid)),
            Cell::Number(m.st_uid.into()),
            Cell::text(names.group(m.st_gid)),
            Cell::Number(m.st_gid.into()),
            Cell::text(permissions(m.st_mode)),
            state.as_ref().map_or(Cell::Unknown, |s| Cell::Size(s.0.bytes)),
            number(&|s| s.1.curmsgs as u64),
            number(&|s| s.1.maxmsg as u64),
            number(&|s| s.1.msgsize as u64),
            match &state {
                Some((status, _)) if status.notify_pid != 0 => {
                    Cell::Number(status.notify_pid as u64)
                }
                _ => Cell::Unknown,
            },
            Cell::text(holders::pids(&pids)),
            Cell::text(holders::pids(&held.readers(m))),
            Cell::text(holders::pids(&held.writers(m))),
            Cell::Yes(pids.is_empty()),
            Cell::Time(m.st_mtime),
            Cell::Time(m.st_ctime),
        ]);
    }
    Table { name: "mqueues", columns: POSIX, shown: POSIX_SHOWN, rows }.print(&ls.style)
}

fn run_limits(ls: &Ls) -> Result<(), Failure> {
    let row = |name: &str, what: &str, limit: u64, used: Option<u64>| {
        vec![
            Cell::text(name),
            Cell::text(what),
            Cell::Number(limit),
            used.map_or(Cell::Unknown, Cell::Number),
            share(limit, used),
        ]
    };
    let rows = if ls.sysv {
        let queues = sysv::queue::list()?.len() as u64;
        vec![
            row("MSGMNI", "queues", sysv::queue::queues_max() as u64, Some(queues)),
            row("MSGMAX", "bytes in a message", sysv::queue::message_bytes_max() as u64, None),
            row("MSGMNB", "bytes in a new queue", sysv::queue::queue_bytes_max() as u64, None),
        ]
    } else {
        let limits = mq::limits();
        let us = ipc::process::ids().user_real;
        // Where the queues can't be listed, only the limits are known.
        let all = mq::list().ok();
        let ours = all.as_ref().map(|all| {
            all.iter()
                .filter(|listed| listed.metadata.st_uid == us)
                .filter_map(|listed| Queue::open(&listed.name, Access::Receive).ok())
                .filter_map(|queue| queue.attributes().ok())
                .map(|a| mq::charge(a.maxmsg, a.msgsize))
                .sum()
        });
        vec![
            row("queues_max", "queues", limits.queues_max as u64, all.map(|a| a.len() as u64)),
            row("msg_max", "messages in a queue", limits.msg_max as u64, None),
            row("msgsize_max", "bytes in a message", limits.msgsize_max as u64, None),
            row("RLIMIT_MSGQUEUE", "bytes in your queues", limits.bytes_max, ours),
        ]
    };
    Table { name: "limits", columns: LIMITS, shown: LIMITS, rows }.print(&ls.style)
}

fn run_rm(several: &Several) -> Result<(), Failure> {
    for meant in several.sysv.each(&several.words)? {
        match &meant {
            Meant::Posix(name) => mq::remove(name)?,
            _ => system_v(&meant)?.remove()?,
        }
    }
    Ok(())
}
