//! `rtm wait`: until a route or a neighbour is there, or gone. The daemon
//! waits; no copy of the tables is needed for it.

use rtm_model::Names;
use rtm_model::text::{Wait, WaitFor};

use crate::env::Env;
use crate::failure::{Failure, Result, TIMED_OUT};

pub(crate) fn run(env: &mut Env<'_>, wait: &Wait) -> Result<()> {
    let what = match &wait.what {
        WaitFor::Route(selector) => format!("route {}", selector.display(Names::builtin())),
        WaitFor::Neighbour(selector) => format!("neigh {}", selector.display(Names::builtin())),
    };
    let what = what.trim_end();
    let mut line = format!("wait {what}");
    if wait.gone {
        line.push_str(" --gone");
    }
    if let Some(timeout) = wait.timeout {
        line.push_str(&format!(" --timeout {}us", timeout.as_micros()));
    }
    env.out.flush()?;
    let done = env.ask_any(&line, &mut |_, _| Ok(()))?;
    if done.code == u32::from(TIMED_OUT) {
        let state = if wait.gone { "still there" } else { "not there" };
        let after = wait.timeout.unwrap_or_default();
        return Err(Failure::timed_out(format_args!("wait: {what}: {state} after {after:?}")));
    }
    crate::env::succeeded(done)?;
    Ok(())
}
