//! `rtm route|neigh add|change|replace|append|del`: one change by `admin`.

use rtm_model::Change;

use crate::env::{Env, succeeded};
use crate::failure::Result;

pub(crate) fn run(env: &mut Env<'_>, change: &Change) -> Result<()> {
    let done = env.admin()?.change(change)?;
    succeeded(done)?;
    Ok(())
}
