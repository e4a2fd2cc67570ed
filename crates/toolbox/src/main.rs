//! `ipc`: show, send, receive, watch and wait for everything that Linux has for
//! communication between processes. One file per tool, each thin over the crate
//! `ipc`; what they share: how they fail (`failure`), what their words mean
//! (`argument`), how they list (`table`), and who holds what (`holders`).
//!
//! Exit codes: 0 done; 1 usage; 2 refused by the system; 4 timed out or would
//! have to wait.
#![forbid(unsafe_code)]

mod argument;
mod bench;
mod child;
mod demo;
mod failure;
mod fifo;
mod holders;
mod http;
mod ls;
#[cfg(test)]
mod man;
mod map;
mod mq;
mod pipe;
mod ring;
mod sem;
mod shm;
mod sig;
mod sock;
mod table;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, Parser, Subcommand};

use crate::failure::Failure;

/// Linux inter-process communication from the command line.
///
/// Content goes to standard output byte for byte, remarks to standard error
/// (with -v). Exit codes: 0 done, 1 usage, 2 refused by the system, 4 timed out
/// or would have to wait.
#[derive(Parser)]
#[command(name = "ipc", version, propagate_version = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Subcommand)]
enum Tool {
    /// Message queues: POSIX, and System V with --sysv
    #[command(subcommand)]
    Mq(mq::Verb),
    /// Shared memory: POSIX, and System V with --sysv
    #[command(subcommand)]
    Shm(shm::Verb),
    /// Semaphores: named POSIX, System V with --sysv, inside a segment with --in
    #[command(subcommand)]
    Sem(sem::Verb),
    /// A ring in shared memory: one writer, one reader
    #[command(subcommand)]
    Ring(ring::Verb),
    /// Mapped files and sealed memory
    #[command(subcommand)]
    Map(map::Verb),
    /// Unnamed pipes between commands
    #[command(subcommand)]
    Pipe(pipe::Verb),
    /// Named pipes
    #[command(subcommand)]
    Fifo(fifo::Verb),
    /// Signals: list, send, catch, raise, show, wait
    #[command(subcommand)]
    Sig(sig::Verb),
    Child(child::Child),
    /// Sockets: Unix, TCP and UDP
    #[command(subcommand)]
    Sock(sock::Verb),
    /// Files over HTTP: a server and a client
    #[command(subcommand)]
    Http(http::Verb),
    /// Every object of the machine in one table, with who holds it
    ///
    /// Example: ipc ls --orphans
    #[command(visible_alias = "list")]
    Ls(ls::Ls),
    /// Follow what appears, changes and goes
    ///
    /// Example: ipc watch --type mq,shm
    Watch(ls::Watch),
    /// Wait until an object is in a state
    ///
    /// Example: ipc wait mq:/q nonempty --timeout 5s
    Wait(ls::Wait),
    /// Remove objects; nothing that is held
    ///
    /// Example: ipc rm --orphans --dry-run
    Rm(ls::Remove),
    /// Round trip and throughput of every mechanism, here and now
    ///
    /// Example: ipc bench --svg speed.svg
    Bench(bench::Bench),
    /// The classic demonstrations, as real processes
    #[command(subcommand)]
    Demo(demo::Show),
}

/// Tool and verb spelled out: a whole word wins, then the words that mean the
/// same everywhere, then the first in the order of the lists that begins so. And
/// both, as far as they are known.
fn spelled_out(mut words: Vec<OsString>) -> (Vec<OsString>, String) {
    fn meant<'a>(command: &'a Command, word: &str) -> Option<&'a Command> {
        let other = match word {
            "l" | "lst" | "list" | "show" => "ls",
            "d" | "del" | "delete" => "rm",
            _ => word,
        };
        let begins = |one: &&Command| !word.is_empty() && one.get_name().starts_with(word);
        [word, other]
            .iter()
            .find_map(|word| command.find_subcommand(word))
            .or_else(|| command.get_subcommands().find(begins))
    }
    let mut command = &Arguments::command();
    let mut names = Vec::new();
    for word in words.iter_mut().skip(1).take(2) {
        let Some(found) = word.to_str().and_then(|word| meant(command, word)) else { break };
        *word = found.get_name().into();
        names.push(found.get_name());
        command = found;
    }
    let name = names.join(" ");
    (words, name)
}

fn main() -> ExitCode {
    let (words, name) = spelled_out(std::env::args_os().collect());
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => {
            // --help and --version arrive here too; they are no errors. Who names no
            // verb gets the list of them.
            let usage = error.use_stderr();
            if usage && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                let colon = if name.is_empty() { "" } else { ": " };
                eprintln!("ipc: {name}{colon}{}", failure::one_line(&error.to_string(), &name));
            } else {
                let _ = error.print();
            }
            return ExitCode::from(u8::from(usage));
        }
    };
    let (name, result) = match &arguments.tool {
        Tool::Mq(verb) => (verb.name(), mq::run(verb)),
        Tool::Shm(verb) => (verb.name(), shm::run(verb)),
        Tool::Sem(verb) => (verb.name(), sem::run(verb)),
        Tool::Ring(verb) => (verb.name(), ring::run(verb)),
        Tool::Map(verb) => (verb.name(), map::run(verb)),
        Tool::Pipe(verb) => (verb.name(), pipe::run(verb)),
        Tool::Fifo(verb) => (verb.name(), fifo::run(verb)),
        Tool::Sig(verb) => (verb.name(), sig::run(verb)),
        Tool::Child(child) => ("child", child::run(child)),
        Tool::Sock(verb) => (verb.name(), sock::run(verb)),
        Tool::Http(verb) => (verb.name(), http::run(verb)),
        Tool::Ls(options) => ("ls", ls::run(options)),
        Tool::Watch(options) => ("watch", ls::run_watch(options)),
        Tool::Wait(options) => ("wait", ls::run_wait(options)),
        Tool::Rm(options) => ("rm", ls::run_rm(options)),
        Tool::Bench(options) => ("bench", bench::run(options)),
        Tool::Demo(show) => (show.name(), demo::run(show)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(Failure::Told { code, text }) => {
            eprintln!("ipc: {name}: {text}");
            ExitCode::from(code)
        }
        Err(Failure::Ended { code }) => ExitCode::from(code),
    }
}
