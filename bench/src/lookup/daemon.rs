//! The image as a daemon keeps it: how long its turns get while it loads the full
//! table with somebody attached, and how soon a change of a wide prefix is seen
//! behind its socket.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rtm_client::{Address, FollowConfig, Follower, LoadOptions, Turn};
use rtm_model::{Change, HopFlags, HopSpec, Hops, RouteSpec, TABLE_MAIN, Verb};

use super::{WIDEST, WIDEST_CHANGES};
use crate::harness::rounds::Figure;
use crate::harness::stats::quantile;
use crate::rtm::{Daemon, text};
use crate::setup::Setup;

/// Until the image is there, and until a change is seen.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn figures(setup: &Setup, rows: &mut Vec<Figure>) -> Result<()> {
    if !setup.wants("rtm") {
        return Ok(());
    }
    let daemon = Daemon::start(setup)?;
    daemon.ask_for_image()?;
    let file = text(&setup.data().join("full-table.txt.gz"))?;
    let output = daemon.command(&["route", "load", &file, "--spread"])?.output()?;
    ensure!(output.status.success(), "load: {}", String::from_utf8_lossy(&output.stderr).trim());
    let turns = daemon.status()?["turns"].clone();
    let micros = |value: &serde_json::Value| Some((value.as_f64()? * 1000.0) as u64);
    let mut row = |what: &str, nanos: Option<u64>| -> Result<()> {
        let what = format!("the daemon loads the full table, its image mapped: {what}");
        rows.push(Figure::nanoseconds(&what, nanos.context("no times of turns")?, None));
        Ok(())
    };
    row("a turn, p99", micros(&turns["p99_us"]))?;
    row("the longest turn", micros(&turns["longest_us"]))?;
    let stages = turns["stages"].as_array().context("no stages")?;
    let publish = stages.iter().find(|stage| stage["name"] == "publish");
    row("its longest publishing", publish.and_then(|stage| micros(&stage["longest_us"])))?;

    let config = FollowConfig {
        name: "bench-wide".to_owned(),
        filter: "none".to_owned(),
        replica: false,
        image: true,
        reconnect: false,
        ..FollowConfig::default()
    };
    let mut follower = Follower::connect(&Address::Unix(daemon.socket()), config)?;
    while follower.image().is_none() {
        let turn = follower.turn(Some(PATIENCE), &[], &mut |_| {})?;
        ensure!(turn != Turn::TimedOut, "no image");
    }
    let mut admin = daemon.admin()?;
    for (prefix, address) in WIDEST {
        let (prefix, address): (rtm_model::Prefix, std::net::IpAddr) =
            (prefix.parse()?, address.parse()?);
        let mut load = admin.load(&LoadOptions { force: true, ..LoadOptions::default() });
        load.flush()?;
        let mut times = Vec::new();
        let image = follower.image().context("no image")?;
        let mut found = image.lookup(TABLE_MAIN, address)?;
        for n in 0..WIDEST_CHANGES {
            let mut spec = RouteSpec::new(prefix);
            // A gateway of the table's family, of which there are as many as it has.
            let gateway = match prefix.address() {
                std::net::IpAddr::V4(_) => [10, 255, 0, 1 + (n % 200) as u8].into(),
                std::net::IpAddr::V6(_) => {
                    std::net::Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(1 + n % 200)).into()
                }
            };
            spec.hops = Hops::One(HopSpec {
                gateway: Some(gateway),
                link: None,
                weight: 1,
                flags: HopFlags::default(),
            });
            let begun = Instant::now();
            ensure!(load.push(&Change::Route(Verb::Replace, spec))?, "the daemon ended the stream");
            ensure!(load.flush()?, "the daemon ended the stream");
            loop {
                let image = follower.image().context("no image")?;
                let now = image.lookup(TABLE_MAIN, address)?;
                if now != found {
                    found = now;
                    break;
                }
                if begun.elapsed() > Duration::from_millis(1) {
                    // It may have moved into a successor.
                    follower.refresh(&mut |_| {})?;
                }
                ensure!(begun.elapsed() < PATIENCE, "{prefix}: change {n} was never seen");
            }
            times.push(begun.elapsed().as_nanos() as u64);
        }
        let done = load.finish(false)?;
        ensure!(done.code == 0, "{prefix}: {}", done.text);
        let median = quantile(&mut times, 0.5).unwrap_or(0);
        let longest = times.iter().copied().max().unwrap_or(0);
        let what = format!("{prefix} changed through the daemon's socket, until a reader sees it");
        rows.push(Figure::nanoseconds(&what, median, Some(5_000_000)));
        let what = format!("the same, the longest of {WIDEST_CHANGES}");
        rows.push(Figure::nanoseconds(&what, longest, Some(5_000_000)));
    }
    Ok(())
}
