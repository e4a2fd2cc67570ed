//! `rtm client`: a subscriber process with a replica of its own.
//!
//! On a terminal it shows a menu (see `client_menu`), else it follows silently
//! and says each change of state on standard error. SIGINT and SIGTERM end it
//! with a goodbye, and then it prints what `--count` and `--verify` promise.
//!
//! With `--keys` the neighbours come as MAC addresses only, and what is shown of
//! them is read from the daemon's shared memory; `--mapped` is `client_mapped`.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rtm_client::{
    Counts, Event, FlushSignal, FollowConfig, Follower, Reader, Replica, RouteCursor, Stop,
    SubscribeMode, Turn,
};
use rtm_model::Mac;
use rtm_model::text::ClientRun;
use serde_json::json;

use super::client_menu::{Menu, Wish};
use super::client_tables::{self, Part};
use super::digest;
use super::lost::Lost;
use crate::env::Env;
use crate::failure::{Failure, Result};
use crate::mapped::{ImageNames, busy};
use crate::output::say;

/// How long the end waits for a synchronisation that is under way.
const SETTLE: Duration = Duration::from_secs(5);

pub(crate) fn run(env: &mut Env<'_>, run: &ClientRun) -> Result<()> {
    let stop = Stop::new().map_err(Failure::refused)?;
    let terminal = io::stdin().is_terminal() && env.out.is_terminal();
    let with_menu = !run.once && (run.menu || terminal && !run.count);
    let mut follower = env.follow(FollowConfig {
        name: run.name.as_deref().unwrap_or("rtm-client").to_owned(),
        // Who only counts needs no copy.
        replica: !run.count || run.verify || run.once || with_menu,
        mode: if run.keys { SubscribeMode::Keys } else { SubscribeMode::Full },
        image: run.keys,
        reconnect: !run.once,
        signal: FlushSignal::Armed,
        ..FollowConfig::default()
    })?;
    let mut menu = with_menu.then(|| Menu::new(&env.out));
    let mut lost = Lost::default();
    let (mut complete, mut synced) = (false, false);
    loop {
        let stdin = io::stdin();
        let mut also: Vec<BorrowedFd<'_>> = vec![stop.as_fd()];
        // What was typed before the first synchronisation waits for it.
        if synced && menu.is_some() {
            also.push(stdin.as_fd());
        }
        let mut first = false;
        let mut news = Vec::new();
        let turned = follower.turn(None, &also, &mut |event| {
            first |= matches!(event, Event::Synced { .. });
            news.extend(state_line(&event, &mut lost));
        });
        for line in news.drain(..).flat_map(|line| counted(line, &follower)) {
            say(line);
        }
        let turned = match turned {
            Ok(turned) => turned,
            Err(error) => {
                let failure = Failure::from(error);
                return if synced {
                    promise(env, &follower, run).and(Err(failure))
                } else {
                    Err(failure)
                };
            }
        };
        complete |= first;
        // Keys are of use with their values only.
        if complete && !synced && (!run.keys || follower.image().is_some()) {
            synced = true;
            if run.once {
                let shown = if run.verify || run.count { Ok(()) } else { tables(env, &follower) };
                let shown = shown.and_then(|()| promise(env, &follower, run));
                follower.goodbye();
                return shown;
            }
            if let Some(menu) = &mut menu {
                menu.show(&mut env.out)?;
            }
        }
        match turned {
            Turn::Also(0) => {
                if let Some(code) = stop.asked() {
                    if !synced {
                        follower.goodbye();
                        return Err(Failure::Quiet(code));
                    }
                    break;
                }
            }
            Turn::Also(_) => {
                let Some(menu) = &mut menu else { continue };
                if menu.ready(env, &follower)? == Wish::Quit {
                    break;
                }
            }
            _ => {}
        }
    }
    settle(&mut follower);
    // The goodbye clears the tables.
    let kept = promise(env, &follower, run);
    follower.goodbye();
    kept
}

/// Lets a synchronisation that is under way come to its end, so that what is
/// verified is one revision's state.
fn settle(follower: &mut Follower) {
    let end = Instant::now() + SETTLE;
    while follower.state() == rtm_client::State::Syncing {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || follower.turn(Some(left), &[], &mut |_| ()).is_err() {
            return;
        }
    }
}

/// A state's line; the figures come with the copy.
enum Line {
    Plain(String),
    Live(u64),
}

fn state_line(event: &Event<'_>, lost: &mut Lost) -> Option<Line> {
    let plain = |text| Some(Line::Plain(text));
    match event {
        Event::Connected { epoch, role } => {
            lost.found();
            plain(format!("connected: epoch {:016x}, role {}", epoch.0, role.name()))
        }
        Event::Begin { snapshot: true, .. } => plain("syncing: snapshot".to_owned()),
        Event::Begin { from, .. } => plain(format!("syncing: what changed since {}", from.0)),
        Event::Synced { revision, .. } => Some(Line::Live(revision.0)),
        Event::Flushed { revision, .. } => plain(format!("flushed: revision {}", revision.0)),
        Event::Registered { way, text: "" } => {
            plain(format!("registered: pid {}, {}", std::process::id(), way.name()))
        }
        Event::Registered { text, .. } => plain((*text).to_owned()),
        Event::Differed { revision, .. } => plain(format!(
            "digest: revision {}: this copy differs; a snapshot is on its way",
            revision.0
        )),
        Event::Lost { error, pause: Some(_) } => lost.why(error).map(Line::Plain),
        _ => None,
    }
}

fn counted(line: Line, follower: &Follower) -> Option<String> {
    Some(match line {
        Line::Plain(text) => format!("rtm: {text}"),
        Line::Live(revision) => match follower.replica() {
            None => format!("rtm: live: revision {revision}"),
            Some(replica) if replica.key_count() > 0 => {
                let counts = replica.store().counts();
                format!(
                    "rtm: live: revision {revision}, {} routes, {} keys",
                    counts.routes4 + counts.routes6,
                    replica.key_count()
                )
            }
            Some(replica) => {
                let counts = replica.store().counts();
                format!(
                    "rtm: live: revision {revision}, {} routes, {} neighbours",
                    counts.routes4 + counts.routes6,
                    counts.neighbours
                )
            }
        },
    })
}

/// The tables, for `--once`. With keys the neighbours are the image's.
fn tables(env: &mut Env<'_>, follower: &Follower) -> Result<()> {
    let Some(replica) = follower.replica() else { return Ok(()) };
    let store = replica.store();
    let (mut cursor, mut after) = (RouteCursor::all(), None);
    let routes = std::iter::from_fn(|| store.next_route(&mut cursor)).map(Ok);
    let Some(image) = follower.image() else {
        let neighbours = std::iter::from_fn(|| {
            let neighbour = store.next_neighbour(after.as_ref())?;
            after = Some(neighbour.key);
            Some(Ok(neighbour))
        });
        let neighbours = Part { entries: neighbours, names: store };
        return client_tables::print(env, Part { entries: routes, names: store }, neighbours);
    };
    let of_key = |mac| match image.neighbours_by_mac(mac) {
        Ok(found) => found.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(busy(error))],
    };
    let neighbours =
        Part { entries: replica.keys(Mac([0; 6])).flat_map(of_key), names: &ImageNames(image) };
    client_tables::print(env, Part { entries: routes, names: store }, neighbours)
}

/// What `--count` and `--verify` promise for the end.
fn promise(env: &mut Env<'_>, follower: &Follower, run: &ClientRun) -> Result<()> {
    if run.count {
        count(env, follower)?;
    }
    if run.verify {
        verify(env, follower)?;
    }
    Ok(())
}

fn count(env: &mut Env<'_>, follower: &Follower) -> Result<()> {
    let counts = follower.counts();
    let revision = follower.position().map_or(0, |(_, revision)| revision.0);
    let figures = [
        ("marks", counts.marks),
        ("bytes", counts.bytes),
        ("connects", counts.connects),
        ("resumes", counts.resumes),
        ("snapshots", counts.snapshots),
        ("catch_ups", counts.catch_ups),
        ("resyncs", counts.resyncs),
        ("signals", follower.flush_signals()),
    ];
    print_counts(env, revision, &counts, &figures)
}

/// What `--count` prints, a line or an object: what every follower counts, then
/// its own figures.
pub(super) fn print_counts(
    env: &mut Env<'_>,
    revision: u64,
    counts: &Counts,
    own: &[(&str, u64)],
) -> Result<()> {
    let figures = [
        ("revision", revision),
        ("records", counts.records),
        ("deletes", counts.deletes),
        ("flushes", counts.flushes),
    ];
    let figures: Vec<(&str, u64)> = figures.iter().chain(own).copied().collect();
    if env.options.json {
        let value: serde_json::Map<String, serde_json::Value> =
            figures.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect();
        let pretty = env.options.pretty;
        return Ok(env.out.json(&serde_json::Value::Object(value), pretty)?);
    }
    let parts: Vec<String> =
        figures.iter().map(|(name, count)| format!("{name} {count}")).collect();
    Ok(env.out.line(parts.join(" "))?)
}

/// Recomputes the digests from the copy, prints their line, compares.
pub(super) fn verify(env: &mut Env<'_>, follower: &Follower) -> Result<()> {
    let (Some(replica), Some((epoch, revision))) = (follower.replica(), follower.position()) else {
        return Err(Failure::timed_out("verify: nothing was received"));
    };
    let anew = replica.recompute_digests();
    if env.options.json {
        let value = digest::value(epoch, revision, &anew, replica.store().counts());
        let pretty = env.options.pretty;
        env.out.json(&value, pretty)?;
    } else {
        env.out.line(digest::line(epoch, revision, &anew))?;
    }
    if anew != replica.digests() {
        return Err(Failure::timed_out(format_args!(
            "verify: revision {}: what the copy holds is not what was received",
            revision.0
        )));
    }
    if let Some(image) = follower.image() {
        verify_values(replica, image, revision.0)?;
    }
    if !follower.agrees() {
        return Err(Failure::timed_out(format_args!(
            "verify: revision {}: the daemon's digests differ",
            revision.0
        )));
    }
    Ok(())
}

/// With keys: each has a value in the image, and no value there is without its
/// key, if the image is of the keys' revision or nothing concerned them since.
fn verify_values(replica: &Replica, image: &Reader, revision: u64) -> Result<()> {
    let state = image.state().map_err(busy)?;
    let mut missing = None;
    for mac in replica.keys(Mac([0; 6])) {
        if image.neighbours_by_mac(mac).map_err(busy)?.is_empty() {
            missing = Some(mac);
        }
    }
    let after = image.state().map_err(busy)?;
    // What changed meanwhile is on its way to us.
    let rests =
        state.digests.keys == after.digests.keys && after.digests.keys == replica.digests().keys;
    match missing {
        Some(mac) if rests => Err(Failure::timed_out(format_args!(
            "verify: revision {revision}: the key {mac} has no value in the image"
        ))),
        _ if rests && after.mac_keys != replica.key_count() as u64 => {
            Err(Failure::timed_out(format_args!(
                "verify: revision {revision}: {} keys, and values of {} in the image",
                replica.key_count(),
                after.mac_keys
            )))
        }
        _ => Ok(()),
    }
}
