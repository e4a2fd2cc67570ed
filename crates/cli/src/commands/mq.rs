//! `rtm mq send`: a command on the daemon's message queue.

use std::time::Duration;

use rtm_client::PostError;

use crate::env::{Env, succeeded};
use crate::failure::{Failure, Result};

/// How long a full queue is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn send(env: &mut Env<'_>, text: &str, priority: u32) -> Result<()> {
    // Which queue is the daemon's it says itself: a name can be configured.
    let (values, done) = env.ask_json("status")?;
    succeeded(done)?;
    let Some(name) = values.first().and_then(|status| status["queue"]["name"].as_str()) else {
        return Err(Failure::refused("mq send: the daemon has no queue; 'rtm status' says why"));
    };
    rtm_client::post(name, text, priority, PATIENCE).map_err(|error| match error {
        PostError::Full { .. } => Failure::timed_out(format_args!("mq send: {error}")),
        error => Failure::refused(format_args!("mq send: {error}")),
    })
}
