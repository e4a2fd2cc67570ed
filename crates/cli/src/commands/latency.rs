//! `rtm latency`: from the write of a change to the applied record in a
//! subscriber, a thousand times.
//!
//! One blackhole route in a table of its own is added and deleted in turn, on
//! a stream that stays open; a follower of that table only tells when each has
//! come. One change is under way at a time, so what is measured is the way
//! there, not a queue.

use std::time::{Duration, Instant};

use rtm_client::{Event, FollowConfig, Follower, LoadOptions, Role};
use rtm_model::text::{Command, Context, parse_line};
use rtm_model::{Change, EntityKey};
use serde_json::json;

use crate::env::{Env, succeeded};
use crate::failure::{Failure, Result};

/// How many changes are measured.
const CHANGES: usize = 1000;

/// The table, which nobody else uses.
const TABLE: u32 = 4_294_967_294;

/// How long one change may take before this gives up.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(env: &mut Env<'_>) -> Result<()> {
    let role = env.admin()?.welcome().role;
    if role != Role::Admin {
        return Err(Failure::refused(format_args!(
            "latency: not permitted: it changes the tables; role admin is needed, this one is {}",
            role.name()
        )));
    }
    let mut follower = env.follow(FollowConfig {
        name: "rtm-latency".into(),
        filter: format!("routes table {TABLE}"),
        changes: true,
        reconnect: false,
        ..FollowConfig::default()
    })?;
    until(&mut follower, |event| matches!(event, Event::Synced { .. }))?;
    let measured = measure(env, &mut follower);
    follower.goodbye();
    // Whatever happened, the route goes; that it is gone already is as good.
    let _ = env.admin()?.change(&change("del"));
    let mut times = measured?;
    times.sort_unstable();
    report(env, &times)
}

fn measure(env: &mut Env<'_>, follower: &mut Follower) -> Result<Vec<Duration>> {
    let (add, delete) = (change("replace"), change("del"));
    let admin = env.admin()?;
    // What an earlier run may have left.
    let _ = admin.change(&delete)?;
    drain(follower)?;
    let mut times = Vec::with_capacity(CHANGES);
    let mut stream = admin.load(&LoadOptions::default());
    for turn in 0..CHANGES {
        let wanted = turn % 2 == 0;
        if !stream.push(if wanted { &add } else { &delete })? {
            break;
        }
        let began = Instant::now();
        stream.flush()?;
        until(follower, |event| match event {
            Event::Change(change) => {
                matches!(change.key, EntityKey::Route(_)) && change.new.is_some() == wanted
            }
            _ => false,
        })?;
        times.push(began.elapsed());
    }
    let done = stream.finish(false)?;
    succeeded(done)?;
    Ok(times)
}

/// Follows until an event is the wanted one and has been applied.
fn until(follower: &mut Follower, wanted: impl Fn(&Event<'_>) -> bool) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut met = false;
    while !met {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::timed_out(format_args!(
                "latency: a change did not come within {} s",
                PATIENCE.as_secs()
            )));
        }
        follower.turn(Some(left), &[], &mut |event| met |= wanted(&event))?;
    }
    Ok(())
}

/// Takes what is on its way.
fn drain(follower: &mut Follower) -> Result<()> {
    let end = Instant::now() + Duration::from_millis(50);
    while Instant::now() < end {
        follower.turn(Some(Duration::from_millis(5)), &[], &mut |_| ())?;
    }
    Ok(())
}

fn change(verb: &str) -> Change {
    let line = match verb {
        "del" => format!("route del 192.0.2.1/32 table {TABLE}"),
        verb => format!("route {verb} blackhole 192.0.2.1/32 table {TABLE}"),
    };
    match parse_line(&line, &Context::default()) {
        Ok(Some((_, Command::Change(change)))) => change,
        other => unreachable!("{line} is a change: {other:?}"),
    }
}

fn report(env: &mut Env<'_>, times: &[Duration]) -> Result<()> {
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    let micros = |time: Duration| (time.as_nanos() as f64 / 100.0).round() / 10.0;
    if times.is_empty() {
        return Err(Failure::refused("latency: no change was applied"));
    }
    let (first, p50, p99, last) = (times[0], at(50), at(99), times[times.len() - 1]);
    if env.options.json {
        let value = json!({
            "changes": times.len(),
            "min_us": micros(first),
            "p50_us": micros(p50),
            "p99_us": micros(p99),
            "max_us": micros(last),
        });
        return Ok(env.out.json(&value, env.options.pretty)?);
    }
    Ok(env.out.line(format_args!(
        "{} changes: p50 {} us, p99 {} us, min {} us, max {} us",
        times.len(),
        micros(p50),
        micros(p99),
        micros(first),
        micros(last)
    ))?)
}
