//! `ipc sig`: signals, sent, caught, raised, and what a process does about them.
use core::time::Duration;

use clap::{Args, Subcommand};
use ipc::catcher::Catcher;
use ipc::epoll::{Epoll, Events, Interest};
use ipc::pidfd;
use ipc::signal::{self, DefaultAction, Info, Signal, SignalSet};
use ipc::signal_state;
use ipc::timer::Timer;
use rustix::process::Pid;

use crate::argument;
use crate::failure::{Failure, REFUSED, WAITED, line};
use crate::table::{Cell, Style, Table, print_fields};

/// What to do with signals.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// List the signals: number, name, description, what they do by default
    ///
    /// Example: ipc sig list
    #[command(visible_alias = "ls")]
    List(List),
    /// Send a signal to processes, by name or number
    ///
    /// Example: ipc sig send 1234 USR1
    Send(Send),
    /// Print a line each interval, and tell each of the named signals
    ///
    /// Example: ipc sig catch 1s INT USR1 -v
    Catch(Catch),
    /// Send a signal to this process itself: it acts as it does by default
    ///
    /// Example: ipc sig raise TERM
    Raise(Raise),
    /// Show what a process blocks, ignores, catches and has pending, by thread
    ///
    /// Example: ipc sig show 1234
    Show(Show),
    /// Wait until a process has ended, any process
    ///
    /// Example: ipc sig wait 1234 --timeout 10s
    Wait(Wait),
}

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    style: Style,
}

#[derive(Args)]
#[command(override_usage = "ipc sig send [--value N] PID… NAME|NUMBER")]
pub(crate) struct Send {
    /// The processes, then the signal: a name with or without SIG, or a number (0 only asks whether it could be sent)
    #[arg(value_name = "PID… NAME|NUMBER", required = true, num_args = 2..)]
    words: Vec<String>,
    /// A number that goes with it; real-time signals (RTMIN…) are queued, each with its own
    #[arg(long, value_name = "N", value_parser = value, allow_negative_numbers = true)]
    value: Option<usize>,
}

#[derive(Args)]
pub(crate) struct Catch {
    /// Time between two lines (1s, 500ms)
    #[arg(value_parser = interval)]
    interval: Duration,
    /// The signals to catch; one that isn't named acts as it does by default
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Say who sent it, and with which value
    #[arg(short, long)]
    verbose: bool,
    /// End after so many caught signals
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

#[derive(Args)]
pub(crate) struct Raise {
    /// The signal
    #[arg(value_name = "NAME")]
    name: String,
    /// Catch it, and print it
    #[arg(long)]
    catch: bool,
}

#[derive(Args)]
pub(crate) struct Show {
    /// The process
    #[arg(value_parser = pid)]
    pid: Pid,
    /// JSON
    #[arg(short = 'J', long, short_alias = 'j')]
    json: bool,
}

#[derive(Args)]
pub(crate) struct Wait {
    /// The process
    #[arg(value_parser = pid)]
    pid: Pid,
    /// Wait at most so long (250ms, 2s); then exit 4
    #[arg(long, value_name = "D", value_parser = argument::duration)]
    timeout: Option<Duration>,
    /// Say how it ended, where the system tells it (Linux 6.15, when it has been reaped)
    #[arg(short, long)]
    verbose: bool,
}

impl Verb {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::List(_) => "sig list",
            Self::Send(_) => "sig send",
            Self::Catch(_) => "sig catch",
            Self::Raise(_) => "sig raise",
            Self::Show(_) => "sig show",
            Self::Wait(_) => "sig wait",
        }
    }
}

pub(crate) fn run(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::List(list) => run_list(list),
        Verb::Send(send) => run_send(send),
        Verb::Catch(catch) => run_catch(catch),
        Verb::Raise(raise) => run_raise(raise),
        Verb::Show(show) => run_show(show),
        Verb::Wait(wait) => run_wait(wait),
    }
}

/// A process id: a number above 0.
pub(crate) fn pid(text: &str) -> Result<Pid, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.and_then(Pid::from_raw).ok_or_else(|| "a process id is a number above 0".to_owned())
}

/// Time between two lines: not none, which would be a loop without rest.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    match argument::duration(text)? {
        Duration::ZERO => Err("an interval is longer than 0".to_owned()),
        interval => Ok(interval),
    }
}

fn value(text: &str) -> Result<usize, String> {
    let wrong = || "a value is a number, like 7, -1 or 0x1f".to_owned();
    match text.strip_prefix("0x") {
        Some(hex) => usize::from_str_radix(hex, 16).map_err(|_| wrong()),
        None => match text.parse::<i64>() {
            Ok(number) => Ok(number as usize),
            Err(_) => text.parse().map_err(|_| wrong()),
        },
    }
}

/// A signal by name or number.
pub(crate) fn signal_named(text: &str) -> Result<Signal, Failure> {
    text.parse()
        .map_err(|_| Failure::usage(format!("{text}: No such signal; ipc sig list shows them")))
}

/// Those that are to be caught; one line for the first that can't be.
pub(crate) fn catchable(names: &[String]) -> Result<Vec<Signal>, Failure> {
    let mut signals = Vec::new();
    for name in names {
        let signal = signal_named(name)?;
        if !signal.can_be_caught() {
            return Err(Failure::usage(format!(
                "{name}: can't be caught, blocked or ignored; {} asks for the same and can",
                if signal == Signal::KILL { "TERM" } else { "TSTP" }
            )));
        }
        if !signals.contains(&signal) {
            signals.push(signal);
        }
    }
    Ok(signals)
}

fn run_list(list: &List) -> Result<(), Failure> {
    let rows = Signal::all()
        .map(|signal| {
            let action = match signal.default_action() {
                DefaultAction::Terminate => "terminate",
                DefaultAction::Core => "core",
                DefaultAction::Ignore => "ignore",
                DefaultAction::Stop => "stop",
                DefaultAction::Continue => "continue",
            };
            vec![
                Cell::Number(signal.number() as u64),
                Cell::text(signal.name()),
                Cell::text(signal.description()),
                Cell::text(action),
                Cell::Yes(signal.can_be_caught()),
            ]
        })
        .collect();
    let columns = &["NUMBER", "NAME", "DESCRIPTION", "DEFAULT", "CATCHABLE"];
    Table { name: "signals", columns, shown: columns, rows }.print(&list.style)
}

fn run_send(send: &Send) -> Result<(), Failure> {
    let (name, pids) = send.words.split_last().expect("clap wants two");
    let signal = match name.as_str() {
        "0" => None,
        name => Some(signal_named(name)?),
    };
    if signal.is_none() && send.value.is_some() {
        return Err(Failure::usage("signal 0 is none: it carries no value"));
    }
    let wrong = |text: &String, why| Failure::usage(format!("{text}: {why}"));
    let pids = pids
        .iter()
        .map(|text| pid(text).map_err(|why| wrong(text, why)))
        .collect::<Result<Vec<_>, _>>()?;
    // Each gets it, whatever becomes of the others; the first failure is ours.
    let mut first = None;
    for pid in pids {
        let Err(failure) = send_to(pid, signal, send.value) else { continue };
        match (&first, failure) {
            (None, failure) => first = Some(failure),
            (Some(_), Failure::Told { text, .. }) => eprintln!("ipc: sig send: {text}"),
            _ => {}
        }
    }
    first.map_or(Ok(()), Err)
}

fn send_to(pid: Pid, signal: Option<Signal>, value: Option<usize>) -> Result<(), Failure> {
    let process = match pidfd::open(pid) {
        Ok(process) => process,
        Err(error) => {
            // A thread's id names no process: say whose it is.
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
            let status = status.unwrap_or_default();
            let of = status.lines().find_map(|l| l.strip_prefix("Tgid:")).map(str::trim);
            return Err(match of {
                Some(of) if of != pid.to_string() => Failure::Told {
                    code: REFUSED,
                    text: format!("process {pid}: is a thread; its process is {of}"),
                },
                _ => error.into(),
            });
        }
    };
    match (signal, value) {
        (None, _) => pidfd::may_signal(&process)?,
        (Some(signal), None) => pidfd::send(&process, signal)?,
        (Some(signal), Some(value)) => pidfd::queue(&process, signal, value)?,
    }
    Ok(())
}

/// Every signal acts as it does by default, whatever was inherited, and none is
/// blocked.
pub(crate) fn as_by_default() -> Result<(), Failure> {
    for signal in Signal::all().filter(|signal| signal.can_be_caught()) {
        signal::set_default(signal)?;
    }
    signal::set_mask(&SignalSet::of(&[]));
    Ok(())
}

/// `[Caught: Interrupt]`, and with `verbose` from whom.
pub(crate) fn caught(info: &Info, verbose: bool) -> String {
    let mut text = format!("[Caught: {}]", info.signal.description());
    if verbose {
        text.push_str(&match info.pid {
            0 => " from the kernel".to_owned(),
            pid => format!(" from process {pid}, user {}", info.uid),
        });
        if info.code == signal::CODE_QUEUED {
            // Most senders put an int into it; then the other half is empty.
            let value = match u32::try_from(info.value) {
                Ok(int) => i64::from(int as i32),
                Err(_) => info.value as i64,
            };
            text.push_str(&format!(", value {value}"));
        }
    }
    text
}

fn run_catch(catch: &Catch) -> Result<(), Failure> {
    let signals = catchable(&catch.names)?;
    as_by_default()?;
    let catcher = Catcher::new(&signals)?;
    let timer = Timer::new()?;
    timer.every(catch.interval)?;
    let epoll = Epoll::new()?;
    epoll.add(&catcher, 0, Interest::READ)?;
    epoll.add(&timer, 1, Interest::READ)?;
    let mut events = Events::with_capacity(2);
    let mut left = catch.count.unwrap_or(u64::MAX);
    let own = std::process::id();
    while left > 0 {
        epoll.wait(&mut events, None)?;
        while left > 0 {
            let Some(info) = catcher.read()? else { break };
            line(caught(&info, catch.verbose))?;
            left -= 1;
        }
        if left > 0 && timer.expirations()? > 0 {
            line(format!("PID: {own}"))?;
        }
    }
    Ok(())
}

fn run_raise(raise: &Raise) -> Result<(), Failure> {
    let signal = signal_named(&raise.name)?;
    as_by_default()?;
    if raise.catch {
        let catcher = Catcher::new(&catchable(core::slice::from_ref(&raise.name))?)?;
        signal::raise(signal)?;
        let Some(info) = catcher.read()? else { unreachable!("raised in this thread") };
        return line(format!("Signal {} received", info.signal.number()));
    }
    signal::raise(signal)?;
    // It has ended us, stopped us for a while, or was ignored.
    Ok(())
}

fn run_show(show: &Show) -> Result<(), Failure> {
    let state = signal_state::of(show.pid)?;
    let pid = show.pid.as_raw_nonzero().get();
    if show.json {
        let mask = |mask: signal_state::Mask| {
            let names = mask.numbers().map(|n| signal_state::Mask(1 << (n - 1)).to_string());
            serde_json::Value::from(names.collect::<Vec<_>>())
        };
        let threads = state.threads.iter().map(|thread| {
            serde_json::json!({
                "tid": thread.id,
                "name": thread.name,
                "blocked": mask(thread.blocked),
                "pending": mask(thread.pending),
            })
        });
        return line(serde_json::json!({
            "pid": pid,
            "name": state.name,
            "queued": state.queued,
            "queued-max": state.queued_max,
            "pending": mask(state.pending),
            "ignored": mask(state.ignored),
            "caught": mask(state.caught),
            "threads": threads.collect::<Vec<_>>(),
        }));
    }
    let fields = [
        ("pid", Cell::text(pid.to_string())),
        ("name", Cell::text(&state.name)),
        (
            "queued",
            Cell::text(format!(
                "{} of its user's {} (RLIMIT_SIGPENDING)",
                state.queued, state.queued_max
            )),
        ),
        ("pending", Cell::text(state.pending.to_string())),
        ("ignored", Cell::text(state.ignored.to_string())),
        ("caught", Cell::text(state.caught.to_string())),
    ];
    print_fields(&fields, false)?;
    let rows = state.threads.iter().map(|thread| {
        vec![
            Cell::text(thread.id.to_string()),
            Cell::text(&thread.name),
            Cell::text(thread.blocked.to_string()),
            Cell::text(thread.pending.to_string()),
        ]
    });
    let columns = &["TID", "NAME", "BLOCKED", "PENDING"];
    let rows = rows.collect();
    Table { name: "threads", columns, shown: columns, rows }.print(&Style::plain())
}

fn run_wait(wait: &Wait) -> Result<(), Failure> {
    let process = pidfd::open(wait.pid)?;
    let pid = wait.pid;
    if !pidfd::wait(&process, wait.timeout)? {
        let text = format!("process {pid}: timed out, it still runs");
        return Err(Failure::Told { code: WAITED, text });
    }
    if wait.verbose {
        let how = match pidfd::end(&process)? {
            Some(end) => end.to_string(),
            None => "ended; how, only its parent is told".to_owned(),
        };
        eprintln!("process {pid}: {how}");
    }
    Ok(())
}
