//! Which command is which file.

use rtm_model::text::{Command, Topic};

use crate::commands::{
    batch, change, client, client_list, client_mapped, completion, digest, flush, latency, lookup,
    monitor, mq, neigh_show, reload, route_get, route_load, route_save, route_show, source, stat,
    status, status_image, sync, tour, wait,
};
use crate::env::Env;
use crate::failure::{Failure, Result};
use crate::help;

/// Runs a command, of the command line or of a batch.
pub(crate) fn run(env: &mut Env<'_>, command: Command) -> Result<()> {
    match command {
        Command::Help(topic) => Ok(env.out.text(&help::text(&words(topic)))?),
        Command::Version => Ok(env.out.line(concat!("rtm ", env!("CARGO_PKG_VERSION")))?),
        Command::Change(change) => change::run(env, &change),
        Command::RouteShow(show) => route_show::run(env, &show),
        Command::RouteGet(get) => route_get::run(env, &get),
        Command::RouteFlush(selector) => flush::routes(env, &selector),
        Command::RouteLoad(load) => route_load::run(env, &load),
        Command::RouteSave(save) => route_save::run(env, &save),
        Command::NeighbourShow(selector) => neigh_show::run(env, &selector),
        Command::NeighbourFlush(selector) => flush::neighbours(env, &selector),
        Command::Monitor(monitor) => monitor::run(env, &monitor),
        Command::Wait(wait) => wait::run(env, &wait),
        Command::Client(client) if client.mapped => client_mapped::run(env, &client),
        Command::Client(client) => client::run(env, &client),
        Command::ClientList => client_list::run(env),
        Command::ClientKill(peer) => client_list::kill(env, &peer),
        Command::Status => status::run(env),
        Command::Digest { resolved } => digest::run(env, resolved),
        Command::Sync(barrier) => sync::run(env, &barrier),
        Command::SourceList => source::run(env),
        Command::Flush(what) => flush::all(env, what),
        Command::Batch { file } => batch::run(env, &file),
        Command::Stat { interval } => stat::run(env, interval),
        Command::Latency => latency::run(env),
        Command::Reload => reload::run(env),
        Command::Completion(shell) => completion::run(env, shell),
        Command::SourceReconcile(name) => source::reconcile(env, &name),
        Command::Lookup(lookup) => lookup::run(env, &lookup),
        Command::StatusImage => status_image::run(env),
        Command::MqSend { text, priority } => mq::send(env, &text, priority),
        Command::Tour => tour::run(env),
        _ => Err(Failure::not_in_this_version("this command")),
    }
}

/// The words that lead to a topic.
fn words(topic: Topic) -> Vec<String> {
    let object = topic.object.map(|object| object.name().to_owned());
    object.into_iter().chain(topic.verb.map(str::to_owned)).collect()
}
