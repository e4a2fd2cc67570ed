//! `rtm reload`: the daemon reads its configuration again.

use crate::env::Env;
use crate::failure::Result;

pub(crate) fn run(env: &mut Env<'_>) -> Result<()> {
    let done = env.ask("reload", &mut |_, _| Ok(()))?;
    if !done.text.is_empty() {
        env.out.line(done.text)?;
    }
    Ok(())
}
