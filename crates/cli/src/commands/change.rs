//! `rtm route|neigh add|change|replace|append|del`: one change by `admin`.

use rtm_model::Change;
use rtm_model::text::write_change;

use crate::env::Env;
use crate::failure::{Failure, Result};

pub(crate) fn run(env: &mut Env<'_>, change: &Change) -> Result<()> {
    // As a line, not as a stream: whoever may change single routes may not
    // always load. With numbers for names, which are this host's.
    let mut line = String::new();
    write_change(&mut line, change).map_err(|_| Failure::usage("the change has no line"))?;
    env.ask(&line, &mut |_, _| Ok(()))?;
    Ok(())
}
