//! `ipc wait`: until an object is in a state, for scripts. There is no one thing
//! in the kernel that tells all these changes, so it looks again and again:
//! often at first, then every [`LOOK_LAST`].
use core::time::Duration;

use clap::{Args, ValueEnum};
use ipc::timer::Deadline;

use super::objects::Orphan;
use super::{Word, word};
use crate::argument;
use crate::failure::{Failure, WAITED};
use crate::sock::{ended_by, ending_signals};
use crate::table::Names;

/// The first pause between two looks, and the longest: a look walks through all
/// processes, some milliseconds' work.
const LOOK_FIRST: Duration = Duration::from_millis(5);
const LOOK_LAST: Duration = Duration::from_millis(200);

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Condition {
    /// It is there
    Exists,
    /// It isn't (any more)
    Gone,
    /// Somebody holds it
    Held,
    /// Nobody holds it
    Unheld,
    /// Somebody waits for it
    Waited,
    /// Something is in it: messages, a value above 0, bytes, connections
    Nonempty,
    /// Nothing is in it
    Empty,
}

#[derive(Args)]
pub(crate) struct Wait {
    /// KIND:NAME, or a name like /name
    #[arg(value_name = "OBJECT", value_parser = word)]
    object: Word,
    /// What to wait for
    condition: Condition,
    /// Give up after so long; exit 4
    #[arg(long, value_name = "D", value_parser = argument::duration)]
    timeout: Option<Duration>,
}

pub(crate) fn run(wait: &Wait) -> Result<(), Failure> {
    let names = Names::load();
    let signals = ending_signals()?;
    let deadline = Deadline::after(wait.timeout);
    let mut pause = LOOK_FIRST;
    loop {
        let found = wait.object.find(&names);
        // A FIFO that nobody has open, or a socket's name that is left behind,
        // exists all the same.
        let named = wait.object.name.starts_with('/')
            && std::fs::symlink_metadata(&wait.object.name).is_ok();
        let exists = !found.is_empty() || named;
        let unknown = found.iter().find_map(|object| match &object.orphan {
            Orphan::Unknown(why) => Some(why.clone()),
            _ => None,
        });
        let held = found.iter().any(|object| object.orphan == Orphan::No);
        let depth: u64 = found.iter().filter_map(|object| object.depth).sum();
        let known = found.iter().any(|object| object.depth.is_some());
        let reached = match wait.condition {
            Condition::Exists => exists,
            Condition::Gone => !exists,
            Condition::Held => held,
            Condition::Unheld => exists && !held && unknown.is_none(),
            Condition::Waited => found.iter().any(|object| !object.waiters.is_empty()),
            Condition::Nonempty => depth > 0,
            Condition::Empty => known && depth == 0,
        };
        if reached {
            return Ok(());
        }
        if deadline.passed() {
            let condition = wait.condition.to_possible_value().expect("all have one");
            let (object, condition) = (&wait.object, condition.get_name().to_owned());
            let why = match (wait.condition, unknown) {
                (Condition::Unheld, Some(why)) => format!(": {why}"),
                _ => String::new(),
            };
            let after = wait.timeout.unwrap_or_default();
            let text = format!("{object}: not {condition} within {after:?}{why}");
            return Err(Failure::Told { code: WAITED, text });
        }
        let sleep = deadline.left().map_or(pause, |left| left.min(pause));
        let mut fds = [rustix::event::PollFd::new(&signals, rustix::event::PollFlags::IN)];
        let sleep = rustix::event::Timespec {
            tv_sec: sleep.as_secs() as i64,
            tv_nsec: sleep.subsec_nanos().into(),
        };
        let _ = rustix::event::poll(&mut fds, Some(&sleep));
        if let Some(ended) = ended_by(&signals)? {
            return Err(ended);
        }
        pause = (pause * 2).min(LOOK_LAST);
    }
}
