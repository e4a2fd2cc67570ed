//! rtmd: the daemon that holds the routing table and the neighbour table.
//!
//! `start` puts it together, `event_loop` is all it does from then on. Start
//! reading there; `clients` and `requests` are what the loop's stages call,
//! `core` is what they work on.
#![forbid(unsafe_code)]

mod start;

mod event_loop;
mod wakeup;

mod clients;
mod core;
mod feeds;
mod image;
mod load;
mod requests;

mod console;
mod file_load;
mod signals;

mod args;
mod config;
mod histogram;
mod inventory;
mod log;
#[cfg(test)]
mod man;
mod names;
mod roles;
mod runtime_dir;
mod systemd;
mod time;
mod turn;
mod writer;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        // Help and version are no errors; a wrong option is exit 1, not clap's 2.
        Err(error) if error.use_stderr() => {
            eprintln!("rtmd: {}", args::one_line(&error.to_string()));
            return ExitCode::from(1);
        }
        Err(help) => {
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    match start::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rtmd: {}", error.text);
            ExitCode::from(error.code)
        }
    }
}
