//! Posting a command on the daemon's message queue.
//!
//! There is no answer: a message that the daemon rejects is logged there,
//! counted, and told to those who watch for it.

use std::time::Duration;

use ipc::mq::{self, Access, Queue};
use ipc::timer::Wait;

/// Why a message was not posted.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PostError {
    /// The queue stayed full.
    Full {
        /// Its name.
        name: String,
        /// For how long.
        after: Duration,
    },
    /// Anything else: no such queue, no permission, a message too long.
    System {
        /// One line, with the name.
        why: String,
    },
}

impl std::fmt::Display for PostError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PostError::Full { name, after } => {
                write!(f, "queue {name}: full for {} s", after.as_secs())
            }
            PostError::System { why } => write!(f, "queue {why}"),
        }
    }
}

impl std::error::Error for PostError {}

/// Posts `text` on the queue `name`, waiting while it is full.
///
/// # Errors
/// [`PostError`].
///
/// Source: [mq_send(3)](https://man7.org/linux/man-pages/man3/mq_send.3.html).
#[doc(alias = "mq_send")]
pub fn post(name: &str, text: &str, priority: u32, patience: Duration) -> Result<(), PostError> {
    let failed = |error: mq::Error| match error {
        mq::Error::TimedOut { name } => PostError::Full { name, after: patience },
        error => PostError::System { why: error.to_string() },
    };
    let queue = Queue::open(name, Access::Send).map_err(failed)?;
    let wait = Wait::at_most(Some(patience));
    loop {
        match queue.send(text.as_bytes(), priority, wait) {
            Err(mq::Error::Interrupted { .. }) => {}
            result => return result.map_err(failed),
        }
    }
}
