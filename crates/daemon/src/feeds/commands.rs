//! Commands as text, from who has no session: a message of the queue, a line of
//! the FIFO.
//!
//! The grammar is that of `rtm -batch`. One text, of one line or several, is one
//! transaction: all of it happens, as one revision, or nothing. There is nobody
//! to answer, so what is rejected is logged with its reason, counted, and told
//! to the sessions that asked to be told (`rtm monitor all`).
//!
//! The role is inject: routes and neighbours may be added, changed, replaced,
//! appended and deleted. Who may write is the business of the file's mode.

use rtm_model::text::{Command, Context, parse_line};
use rtm_model::{Change, Verb};
use rtm_tables::wire::RejectedBy;
use rtm_tables::{Applied, Millis};

use crate::core::Core;
use crate::requests::place;

/// Rejections that are told in one turn; what is beyond is only counted. A
/// sender that floods must not make the daemon keep what it sends.
const TOLD_MAX: usize = 64;

/// Rejections that are logged in one second; the next line says how many were
/// left out.
const LOGGED_MAX: u32 = 20;

/// What of a rejected text is shown.
const EXCERPT_CHARS: usize = 80;

/// What came in by one feed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct FeedStats {
    /// Messages or lines.
    pub(crate) messages: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Changes that were applied.
    pub(crate) applied: u64,
    /// Changes that made no difference.
    pub(crate) unchanged: u64,
    /// Messages or lines that were rejected.
    pub(crate) rejected: u64,
    /// How often its budget was used up while there was more.
    pub(crate) overruns: u64,
}

/// One rejected text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Rejection {
    /// Where it came in.
    pub(crate) by: RejectedBy,
    /// A message's priority.
    pub(crate) priority: u32,
    /// One line: what, where, why.
    pub(crate) text: String,
}

/// The rejections of a turn, and what all feeds count.
#[derive(Default)]
pub(crate) struct Feeds {
    /// The message queue's.
    pub(crate) queue: FeedStats,
    /// The FIFO's.
    pub(crate) fifo: FeedStats,
    /// To be told before the turn ends.
    pub(crate) rejections: Vec<Rejection>,
    second: Millis,
    logged: u32,
    left_out: u64,
}

impl Feeds {
    /// What one feed counts.
    pub(crate) fn stats(&mut self, by: RejectedBy) -> &mut FeedStats {
        match by {
            RejectedBy::Fifo => &mut self.fifo,
            _ => &mut self.queue,
        }
    }

    /// Notes that a text was rejected.
    pub(crate) fn reject(&mut self, by: RejectedBy, priority: u32, text: String, now: Millis) {
        self.stats(by).rejected += 1;
        if now >= self.second + 1000 {
            if self.left_out > 0 {
                tracing::warn!("{} more rejections were not logged", self.left_out);
            }
            (self.second, self.logged, self.left_out) = (now, 0, 0);
        }
        if self.logged < LOGGED_MAX {
            self.logged += 1;
            tracing::warn!("rejected: {}: {text}", by.name());
        } else {
            self.left_out += 1;
        }
        if self.rejections.len() < TOLD_MAX {
            self.rejections.push(Rejection { by, priority, text });
        }
    }
}

/// Executes one text as one transaction, and notes what came of it.
pub(crate) fn execute(core: &mut Core, by: RejectedBy, priority: u32, bytes: &[u8]) {
    let stats = core.feeds.stats(by);
    stats.messages += 1;
    stats.bytes += bytes.len() as u64;
    let result = parse(core, bytes).and_then(|changes| transact(core, &changes));
    match result {
        Ok((applied, unchanged)) => {
            let stats = core.feeds.stats(by);
            stats.applied += applied;
            stats.unchanged += unchanged;
        }
        Err(text) => {
            let now = core.now;
            core.feeds.reject(by, priority, text, now);
        }
    }
}

/// The changes of a text.
fn parse(core: &Core, bytes: &[u8]) -> Result<Vec<Change>, String> {
    let text = std::str::from_utf8(bytes)
        .ok()
        // `echo` and C programs may send their end along.
        .map(|text| text.trim_end_matches(['\0', '\n', '\r']))
        .filter(|text| !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t' | '\r')))
        .ok_or_else(|| {
            format!(
                "{}: not text; lines like 'route add 10.0.0.0/8 dev eth0' would be right",
                excerpt(bytes)
            )
        })?;
    let cx = Context { names: &core.names, ..Context::default() };
    let mut changes = Vec::new();
    let several = text.contains('\n');
    for (index, line) in text.lines().enumerate() {
        let wrong = |why: String| {
            let line = excerpt(line.as_bytes());
            if several {
                format!("line {}: {line}: {why}", index + 1)
            } else {
                format!("{line}: {why}")
            }
        };
        match parse_line(line, &cx) {
            Ok(None) => {}
            Ok(Some((_, Command::Change(change)))) if is_inject(&change) => changes.push(change),
            Ok(Some(_)) => {
                return Err(wrong(
                    "not permitted here; route and neigh add, change, replace, append and del would be right"
                        .to_owned(),
                ));
            }
            Err(error) => return Err(wrong(error.to_string())),
        }
    }
    Ok(changes)
}

/// May it come in by a feed without a session?
fn is_inject(change: &Change) -> bool {
    let verb = match change {
        Change::Route(verb, _) | Change::Neighbour(verb, _) => *verb,
        Change::Link(..) | Change::Group(..) => return false,
    };
    matches!(verb, Verb::Add | Verb::Change | Verb::Replace | Verb::Append | Verb::Delete)
}

/// All or nothing: changes that were applied, and that made no difference.
fn transact(core: &mut Core, changes: &[Change]) -> Result<(u64, u64), String> {
    // A lone change needs no list to be undone by.
    if let [change] = changes {
        return match core.apply(core.admin, change) {
            Ok(Applied::Changed(_)) => Ok((1, 0)),
            Ok(Applied::Unchanged) => Ok((0, 1)),
            Err(error) => Err(format!("{}: {error}", place(change))),
        };
    }
    let (admin, count) = (core.admin, changes.len() as u64);
    if let Err(error) = core.room_for(changes) {
        core.counters.refused += 1;
        return Err(format!("{error}; nothing of the message was applied"));
    }
    let (table, mut out) = core.parts();
    let mut transaction = table.transaction(admin).map_err(|error| error.to_string())?;
    for (index, change) in changes.iter().enumerate() {
        if let Err(error) = transaction.apply(change) {
            transaction.rollback();
            core.counters.refused += 1;
            return Err(format!(
                "change {}: {}: {error}; nothing of the message was applied",
                index + 1,
                place(change)
            ));
        }
    }
    Ok(match transaction.commit(&mut out) {
        Applied::Changed(_) => {
            core.counters.changes += count;
            (count, 0)
        }
        Applied::Unchanged => {
            core.counters.unchanged += count;
            (0, count)
        }
    })
}

/// The beginning of a text, printable.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown: String =
        text.chars().take(EXCERPT_CHARS).flat_map(char::escape_default).collect();
    if text.chars().nth(EXCERPT_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_rejections_is_bounded() {
        let mut feeds = Feeds::default();
        for _ in 0..1000 {
            feeds.reject(RejectedBy::Fifo, 0, "x".to_owned(), 1);
        }
        assert_eq!((feeds.fifo.rejected, feeds.queue.rejected), (1000, 0));
        assert_eq!(feeds.rejections.len(), TOLD_MAX);
    }

    #[test]
    fn rubbish_is_shown_as_one_short_line() {
        let shown = excerpt(&[b'a', 0, 0xff, b'\n', 27]);
        assert_eq!(shown, "a\\u{0}\\u{fffd}\\n\\u{1b}");
        assert!(excerpt(&[b'x'; 4000]).chars().count() <= EXCERPT_CHARS + 1);
    }
}
