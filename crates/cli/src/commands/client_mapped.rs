//! `rtm client --mapped`: a subscriber without a copy. It maps the daemon's
//! tables, is woken by a pipe when they change, and reads what changed in the
//! image's ring; over the socket nothing comes but the descriptors.
//!
//! A daemon that is gone leaves its last table here to be read; it is said, and
//! the next daemon's image is attached when there is one.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};

use rtm_client::{Epoch, Event, FollowConfig, Follower, Reader, Revision, RingEvent, RingFollower};
use rtm_client::{Stop, Turn};
use rtm_model::text::{ClientRun, Extra, Heading, JsonWriter};
use serde_json::json;

use super::client;
use super::client_menu::{Menu, Wish};
use super::digest;
use super::lost::Lost;
use crate::env::Env;
use crate::failure::{Failure, Result};
use crate::mapped::{self, ImageNames, busy};
use crate::output::say;

/// What `--count` counts.
#[derive(Default)]
struct Counts {
    records: u64,
    deletes: u64,
    flushes: u64,
    rereads: u64,
    attaches: u64,
    wakeups: u64,
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
        wake_pipe: true,
        reconnect: !run.once,
        ..FollowConfig::default()
    })?;
    let mut menu = with_menu.then(|| Menu::new(&env.out));
    let mut ring: Option<RingFollower> = None;
    let mut counts = Counts::default();
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
            let turned = follower.turn(None, &also, &mut |event| match event {
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
            Next::Menu | Next::Turn => {}
        }
        if let Some(ring) = &mut ring {
            ring.poll(&mut |event| match event {
                RingEvent::Records(records) => {
                    for record in records {
                        counts.records += 1;
                        counts.deletes += u64::from(record.op == rtm_client::RecordOp::Delete);
                    }
                }
                RingEvent::Flushed { .. } => counts.flushes += 1,
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

/// The tables, for `--once`: as `route show table all` and `neigh show` print
/// them.
fn tables(env: &mut Env<'_>, follower: &Follower) -> Result<()> {
    let Some(image) = follower.image() else { return Ok(()) };
    let (printer, heading, names) = (env.printer(), Heading::default(), ImageNames(image));
    let extra = Extra { details: printer.details, ..Extra::default() };
    let (json, pretty) = (env.options.json, env.options.pretty);
    if json {
        env.out.text("{\"routes\":[")?;
    }
    for (index, route) in image.routes4(None).chain(image.routes6(None)).enumerate() {
        let route = route.map_err(busy)?;
        let mut buffer = env.out.buffer();
        if json {
            let mut json = JsonWriter::in_array(&mut buffer, pretty, index == 0);
            printer.route_json(&mut json, &route.key, &route.value, &names, &heading, &extra)
        } else {
            printer.route(&mut buffer, &route.key, &route.value, &names, &heading, &extra)
        }
        .map_err(io::Error::other)?;
        env.out.spill()?;
    }
    if json {
        env.out.text("],\"neighbours\":[")?;
    }
    for (index, neighbour) in image.neighbours().enumerate() {
        let neighbour = neighbour.map_err(busy)?;
        let (key, value) = (&neighbour.key, &neighbour.value);
        let mut buffer = env.out.buffer();
        if json {
            let mut json = JsonWriter::in_array(&mut buffer, pretty, index == 0);
            printer.neighbour_json(&mut json, key, value, &names, &heading)
        } else {
            printer.neighbour(&mut buffer, key, value, &names, &heading)
        }
        .map_err(io::Error::other)?;
        env.out.spill()?;
    }
    if json {
        env.out.text("]}\n")?;
    }
    Ok(())
}

/// What `--count` and `--verify` promise for the end.
fn promise(env: &mut Env<'_>, follower: &Follower, run: &ClientRun, counts: &Counts) -> Result<()> {
    if run.count {
        let revision =
            follower.image().and_then(|image| image.state().ok()).map_or(0, |s| s.revision);
        let figures = [
            ("revision", revision),
            ("records", counts.records),
            ("deletes", counts.deletes),
            ("flushes", counts.flushes),
            ("rereads", counts.rereads),
            ("wakeups", counts.wakeups),
            ("attaches", counts.attaches),
        ];
        client::print_counts(env, &figures)?;
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
