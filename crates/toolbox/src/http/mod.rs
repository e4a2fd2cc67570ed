//! `ipc http`: a small server of files and a client, over TCP or a Unix socket.
//! What a request means and what answers it is pure text (`request`); `serve`
//! has the loop, `files` what may be opened, `get` the client.
mod files;
mod get;
mod request;
mod serve;

use clap::Subcommand;

use crate::failure::Failure;

/// What to do with HTTP.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Serve the files of a directory, and nothing outside it
    ///
    /// Example: ipc http serve . --listen 127.0.0.1:8000 -v
    Serve(serve::Serve),
    /// Fetch a URL; its content goes to standard output
    ///
    /// Example: ipc http get http://127.0.0.1:8000/README.md
    Get(get::Get),
}

impl Verb {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Serve(_) => "http serve",
            Self::Get(_) => "http get",
        }
    }
}

pub(crate) fn run(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Serve(serve) => serve::run(serve),
        Verb::Get(get) => get::run(get),
    }
}
