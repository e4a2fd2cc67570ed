//! `rtm client --mapped`: a subscriber without a copy. It maps the daemon's
//! tables, is woken when they change, by a pipe or (`--futex`) by a word in the
//! shared memory, and reads what changed in the image's ring; over the socket
//! nothing comes but the descriptors.
//!
//! A daemon that is gone leaves its last table here to be read; it is said, and
//! the next daemon's image is attached when there is one.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rtm_client::{
    Counts, Epoch, Event, FollowConfig, Follower, Reader, Revision, RingEvent, RingFollower,
};
use rtm_client::{Stop, Turn, WAIT_MAX};
use rtm_model::text::ClientRun;
use serde_json::json;

use super::client;
use super::client_menu::{Menu, Wish};
use super::client_tables::{self, Part};
use super::digest;
use super::lost::Lost;
use crate::env::Env;
use crate::failure::{Failure, Result};
use crate::mapped::{self, ImageNames, busy};
use crate::output::say;

/// What `--count` counts.
#[derive(Default)]
struct Tally {
    changes: Counts,
    rereads: u64,
    attaches: u64,
    wakeups: u64,
    /// Waits at the futex that only their time ended.
    late: u64,
}

pub(crate) fn run(env: &mut Env<'_>, run: &ClientRun) -> Result<()> {
    let stop = Stop::new().map_err(Failure::refused)?;
    let terminal = io::stdin().is_terminal() && env.out.is_terminal();
    let with_menu = !run.once && (run.menu || terminal && !run.count);
    let mut follower = env.follow(FollowConfig {
        name: run.name.as_deref().unwrap_or("rtm-client").to_owned(),
        filter: "none".to_owned(),
        replica: false,
        image: true,
        wake_pipe: !run.futex,
        reconnect: !run.once,
        ..FollowConfig::default()
    })?;
    let mut menu = with_menu.then(|| Menu::new(&env.out));
    let mut ring: Option<RingFollower> = None;
    let mut counts = Tally::default();
    let mut lost = Lost::default();
    let mut shown = false;
    loop {
        let stdin = io::stdin();
        let mut lines = Vec::new();
        let turned = {
            let mut also: Vec<BorrowedFd<'_>> = vec![stop.as_fd()];
            // Borrowed beside the follower, which is turned meanwhile.
            let pipe = follower.wake_pipe().map(|pipe| pipe.try_clone_to_owned());
            let pipe = pipe.transpose().map_err(|error| Failure::refused(error.to_string()))?;
            also.extend(pipe.as_ref().map(AsFd::as_fd));
            let stdin_at = also.len();
            if shown && menu.is_some() {
                also.push(stdin.as_fd());
            }
            // Who sleeps at the futex looks at all else in between, every 100 ms. In an
            // object that moved nobody is woken: the newer one comes over the socket.
            let moved = follower.image().is_some_and(Reader::writer_moved);
            let asleep = run.futex && ring.is_some() && !moved;
            let patience = asleep.then_some(Duration::ZERO);
            let turned = follower.turn(patience, &also, &mut |event| match event {
                Event::Attached { image } => {
                    counts.attaches += 1;
                    attached(&mut ring, image);
                    lines.push(attached_line(image));
                }
                Event::Connected { .. } => lost.found(),
                Event::Lost { error, pause: Some(_) } => lines.extend(
                    lost.why(format_args!("{error}; the last table stays readable"))
                        .map(|line| format!("rtm: {line}")),
                ),
                _ => {}
            });
            match turned {
                Ok(Turn::Also(0)) => Next::Stop,
                Ok(Turn::Also(at)) if at == stdin_at => Next::Menu,
                Ok(Turn::Also(_)) => Next::Woken,
                Ok(Turn::TimedOut) if asleep => Next::Asleep,
                Ok(_) => Next::Turn,
                Err(error) => {
                    lines.drain(..).for_each(say);
                    let failure = Failure::from(error);
                    return match shown {
                        true => promise(env, &follower, run, &counts).and(Err(failure)),
                        false => Err(failure),
                    };
                }
            }
        };
        lines.drain(..).for_each(say);
        match turned {
            Next::Stop => {
                if let Some(code) = stop.asked() {
                    follower.goodbye();
                    return match shown {
                        true => promise(env, &follower, run, &counts),
                        false => Err(Failure::Quiet(code)),
                    };
                }
            }
            Next::Woken => {
                counts.wakeups += 1;
                follower.drain_wake_pipe();
            }
            Next::Asleep => {
                let woken = ring.as_ref().map(|ring| ring.wait(WAIT_MAX)).transpose();
                let woken = woken.map_err(|error| Failure::refused(error.to_string()))?;
                counts.wakeups += u64::from(woken == Some(true));
            }
            Next::Menu | Next::Turn => {}
        }
        if let Some(ring) = &mut ring {
            counts.late = ring.late();
            ring.poll(|event| match event {
                RingEvent::Record(record) => counts.changes.record(&record),
                RingEvent::Flushed { .. } => counts.changes.flushes += 1,
                RingEvent::Reread => counts.rereads += 1,
                _ => {}
            });
        }
        if follower.image().is_some() && !shown {
            shown = true;
            if run.once {
                follower.goodbye();
                if !run.verify && !run.count {
                    tables(env, &follower)?;
                }
                return promise(env, &follower, run, &counts);
            }
            if let Some(menu) = &mut menu {
                menu.show(&mut env.out)?;
            }
        }
        if let (Next::Menu, Some(menu)) = (turned, &mut menu) {
            if menu.ready(env, &follower)? == Wish::Quit {
                follower.goodbye();
                return promise(env, &follower, run, &counts);
            }
        }
    }
}

/// Why the loop goes on.
#[derive(Clone, Copy)]
enum Next {
    Stop,
    Menu,
    Woken,
    /// Nothing else is to be done.
    Asleep,
    Turn,
}

fn attached(ring: &mut Option<RingFollower>, image: &Reader) {
    match ring {
        Some(ring) => ring.attached(image),
        None => *ring = Some(RingFollower::new(image)),
    }
}

fn attached_line(image: &Reader) -> String {
    match image.state() {
        Ok(state) => format!(
            "rtm: attached: epoch {:016x}, revision {}, {} routes, {} neighbours, {} bytes",
            state.epoch,
            state.revision,
            state.routes[0] + state.routes[1],
            state.neighbours,
            image.header().bytes
        ),
        Err(busy) => format!("rtm: attached: {busy}"),
    }
}

/// The tables, for `--once`.
fn tables(env: &mut Env<'_>, follower: &Follower) -> Result<()> {
    let Some(image) = follower.image() else { return Ok(()) };
    let names = &ImageNames(image);
    let routes = image.routes4(None).chain(image.routes6(None));
    let routes = Part { entries: routes.map(|route| route.map_err(busy)), names };
    let neighbours = image.neighbours().map(|neighbour| neighbour.map_err(busy));
    client_tables::print(env, routes, Part { entries: neighbours, names })
}

/// What `--count` and `--verify` promise for the end.
fn promise(env: &mut Env<'_>, follower: &Follower, run: &ClientRun, counts: &Tally) -> Result<()> {
    if run.count {
        let revision =
            follower.image().and_then(|image| image.state().ok()).map_or(0, |s| s.revision);
        let figures = [
            ("rereads", counts.rereads),
            ("wakeups", counts.wakeups),
            ("late", counts.late),
            ("attaches", counts.attaches),
        ];
        client::print_counts(env, revision, &counts.changes, &figures)?;
    }
    if run.verify {
        verify(env, follower)?;
    }
    Ok(())
}

/// Recomputes the digests from the image, prints their line, compares with what
/// the daemon wrote beside them.
pub(super) fn verify(env: &mut Env<'_>, follower: &Follower) -> Result<()> {
    let Some(image) = follower.image() else {
        return Err(Failure::timed_out("verify: no image was attached"));
    };
    let (state, anew) = mapped::recompute(image)?;
    let line = digest::line(Epoch(state.epoch), Revision(state.revision), &anew);
    if env.options.json {
        let pretty = env.options.pretty;
        let value = json!({
            "epoch": format!("{:016x}", state.epoch),
            "revision": state.revision,
            "routes": anew.routes.to_string(),
            "neighbours": anew.neighbours.to_string(),
            "keys": anew.keys.to_string(),
            "links": anew.links.to_string(),
        });
        env.out.json(&value, pretty)?;
    } else {
        env.out.line(line)?;
    }
    if anew != state.digests {
        return Err(Failure::timed_out(format_args!(
            "verify: revision {}: what the image holds is not what its digests say",
            state.revision
        )));
    }
    Ok(())
}
