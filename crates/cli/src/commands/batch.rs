//! `rtm -batch`: the commands of a file.
//!
//! Changes that follow one another go as one stream, so that a file of them is
//! as fast as a load; any other command ends the stream first and sees what it
//! did. The daemon applies each change as it comes; where one is refused it
//! stops, and its number tells the line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use rtm_client::{Done, LoadOptions};
use rtm_model::Change;
use rtm_model::text::{Command, Context, LineJoiner, Options, parse_line};

use super::positions::Positions;
use crate::env::Env;
use crate::failure::{Failure, Result, USAGE, file_error};
use crate::output::say;
use crate::run;

pub(crate) fn run(env: &mut Env<'_>, file: &str) -> Result<()> {
    let (atomic, force) = (env.options.atomic, env.options.force);
    if atomic && force {
        return Err(Failure::usage(
            "option: --force: contradicts --atomic, which takes all or nothing; one of the two",
        ));
    }
    let input: Box<dyn Read> = if file == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(file).map_err(|error| file_error(file, &error))?)
    };
    let mut lines = Lines {
        input: BufReader::with_capacity(64 * 1024, input),
        bytes: Vec::new(),
        joiner: LineJoiner::default(),
        file,
    };
    let mut batch = Batch { file, force, failed: false };
    let mut ahead = None;
    let result = loop {
        let step = match ahead.take() {
            Some(step) => step,
            None => match lines.next(env, &mut || Ok(())) {
                Ok(step) => step,
                Err(failure) => break Err(failure),
            },
        };
        let outcome = match step {
            Step::End => break Ok(()),
            Step::Change(number, change) => {
                batch.changes(env, &mut lines, number, change, atomic).map(|next| ahead = next)
            }
            Step::Command(number, _) if atomic => {
                let why = "with --atomic a line can only add, change, replace, append or delete; nothing was applied";
                batch.failed_at(number, Failure::usage(why))
            }
            Step::Command(number, command) => {
                let (options, command) = *command;
                let outcome = with_options(env, options, |env| run::run(env, command));
                // Whoever sent the line may wait for its answer.
                env.out.flush()?;
                match outcome {
                    Err(Failure::ClosedPipe) => Err(Failure::ClosedPipe),
                    Err(failure) => batch.failed_at(number, failure),
                    Ok(()) => Ok(()),
                }
            }
            Step::Wrong(number, failure) => batch.failed_at(number, failure),
        };
        if let Err(failure) = outcome {
            break Err(failure);
        }
    };
    result?;
    if batch.failed { Err(Failure::Quiet(USAGE)) } else { Ok(()) }
}

/// Runs with a line's own options on top of the command line's.
fn with_options<'n, T>(
    env: &mut Env<'n>,
    options: Options,
    run: impl FnOnce(&mut Env<'n>) -> T,
) -> T {
    let outer = env.options.clone();
    let inner = Options {
        json: options.json || outer.json,
        pretty: options.pretty || outer.pretty,
        details: options.details.max(outer.details),
        stats: options.stats.max(outer.stats),
        oneline: options.oneline || outer.oneline,
        brief: options.brief || outer.brief,
        numeric: options.numeric || outer.numeric,
        family: options.family.or(outer.family),
        // In a batch nobody is asked.
        force: true,
        ..outer.clone()
    };
    env.options = inner;
    let result = run(env);
    env.options = outer;
    result
}

/// What a line amounts to.
enum Step {
    /// A change.
    Change(u64, Change),
    /// Another command.
    Command(u64, Box<(Options, Command)>),
    /// Not a command.
    Wrong(u64, Failure),
    /// There is no more.
    End,
}

struct Lines<'f> {
    input: BufReader<Box<dyn Read>>,
    bytes: Vec<u8>,
    joiner: LineJoiner,
    file: &'f str,
}

impl Lines<'_> {
    /// The next command. `idle` is called before a read that may wait.
    fn next(&mut self, env: &Env<'_>, idle: &mut dyn FnMut() -> Result<()>) -> Result<Step> {
        let context = Context { names: env.names, family: env.options.family, listing: false };
        loop {
            if !self.input.buffer().contains(&b'\n') {
                idle()?;
            }
            self.bytes.clear();
            let count = self
                .input
                .read_until(b'\n', &mut self.bytes)
                .map_err(|error| file_error(self.file, &error))?;
            if count == 0 {
                return Ok(match self.joiner.finish() {
                    Ok(()) => Step::End,
                    Err(error) => Step::Wrong(self.joiner.line(), Failure::usage(error)),
                });
            }
            let Ok(text) = std::str::from_utf8(&self.bytes) else {
                let number = self.joiner.line() + 1;
                // Counts as a line all the same.
                let _ = self.joiner.push("");
                return Ok(Step::Wrong(number, Failure::usage("line: not text (UTF-8)")));
            };
            let Some(line) = self.joiner.push(text) else { continue };
            let parsed = parse_line(line, &context);
            let number = self.joiner.line();
            return Ok(match parsed {
                Ok(None) => continue,
                Ok(Some((_, Command::Change(change)))) => Step::Change(number, change),
                Ok(Some((_, Command::Batch { .. }))) => {
                    Step::Wrong(number, Failure::usage("command: -batch: not within a batch"))
                }
                Ok(Some(command)) => Step::Command(number, Box::new(command)),
                Err(error) => Step::Wrong(number, Failure::usage(error)),
            });
        }
    }
}

struct Batch<'f> {
    file: &'f str,
    force: bool,
    failed: bool,
}

impl Batch<'_> {
    /// A line failed: says so. Without `--force` that is the end.
    fn failed_at(&mut self, number: u64, failure: Failure) -> Result<()> {
        match &failure {
            Failure::Said { line, .. } => say(format_args!("rtm: {line}")),
            Failure::Quiet(_) | Failure::ClosedPipe => {}
        }
        say(format_args!("Command failed {}:{number}", self.file));
        self.failed = true;
        if self.force { Ok(()) } else { Err(Failure::Quiet(USAGE)) }
    }

    /// A run of changes as one stream; gives the step that ended it.
    fn changes(
        &mut self,
        env: &mut Env<'_>,
        lines: &mut Lines<'_>,
        number: u64,
        change: Change,
        atomic: bool,
    ) -> Result<Option<Step>> {
        env.out.flush()?;
        env.admin()?;
        // The connection and the rest of the environment are needed side by
        // side: the one to send, the other to parse the next line.
        let mut admin = env.take_admin()?;
        let options = LoadOptions { atomic, force: self.force, source: None };
        let mut stream = admin.load(&options);
        let mut places = Positions::of_lines();
        let mut next = Some(Step::Change(number, change));
        let sent = loop {
            match next.take() {
                Some(Step::Change(number, change)) => {
                    places.next(number);
                    match stream.push(&change) {
                        Ok(true) => {}
                        Ok(false) => break Ok(None),
                        Err(error) => break Err(error.into()),
                    }
                }
                Some(step) => break Ok(Some(step)),
                None => {}
            }
            match lines.next(env, &mut || Ok(stream.flush().map(|_| ())?)) {
                Ok(step) => next = Some(step),
                Err(failure) => break Err(failure),
            }
        };
        let ended = sent?;
        let give_up = atomic && !matches!(ended, Some(Step::End) | None);
        let done = stream.finish(give_up)?;
        env.put_admin(admin);
        for said in &done.refusals {
            let (line, text) = places.split(said);
            self.failed_at(line.unwrap_or(0), Failure::refused(text))?;
        }
        if give_up {
            return Ok(ended);
        }
        self.refused(&done, &places)?;
        Ok(ended)
    }

    /// The stream's answer, if it is that a change was refused.
    fn refused(&mut self, done: &Done, places: &Positions) -> Result<()> {
        if done.code == 0 || (self.force && !done.refusals.is_empty()) {
            return Ok(());
        }
        let text = if done.text.is_empty() { "refused by the daemon" } else { &done.text };
        match places.at(done.position) {
            Some(line) => self.failed_at(line, Failure::refused(text)),
            None => Err(Failure::refused(text)),
        }
    }
}
