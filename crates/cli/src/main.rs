//! `rtm`, the command of the routing table manager.
//!
//! The words are parsed by `rtm_model::text`; each command has a file in
//! `commands`. Those that ask send the daemon a line and print its answer;
//! those that follow keep a replica.
#![forbid(unsafe_code)]

mod clock;
mod commands;
mod env;
mod failure;
mod help;
mod links;
mod mapped;
mod names;
mod output;
mod resolve;
mod run;

use std::process::ExitCode;

use rtm_model::text::{Context, parse_args};

use crate::env::Env;
use crate::failure::{Failure, Result};

fn main() -> ExitCode {
    let failure = match arguments().and_then(|args| command(&args)) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    if let Failure::Said { line, .. } = &failure {
        output::say(format_args!("rtm: {line}"));
    }
    ExitCode::from(failure.code())
}

fn arguments() -> Result<Vec<String>> {
    let text = |(index, argument): (usize, std::ffi::OsString)| {
        argument.into_string().map_err(|argument| {
            let shown = argument.to_string_lossy().into_owned();
            Failure::usage(format_args!("argument {}: {shown}: not UTF-8", index + 1))
        })
    };
    std::env::args_os().skip(1).enumerate().map(text).collect()
}

fn command(args: &[String]) -> Result<()> {
    if args == ["help", "--man"] {
        let mut env = Env::new(rtm_model::text::Options::default(), rtm_model::Names::builtin());
        env.out.text(&help::man())?;
        return Ok(env.out.flush()?);
    }
    let names = names::load();
    let context = Context { names: &names, ..Context::default() };
    let (options, command) = parse_args(args, &context)?;
    let mut env = Env::new(options, &names);
    let result = run::run(&mut env, command);
    // What was printed before a failure is not lost with it.
    let flushed = env.out.flush();
    env.close();
    result?;
    Ok(flushed?)
}
