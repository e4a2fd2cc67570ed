//! What the daemon needs in memory: idle, with the table, at its peak, and for
//! those that never read.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{Daemon, text};
use crate::contenders::{NextHops, Table, kernel_admin};
use crate::harness::machine;
use crate::harness::rounds::{Figure, Figures};
use crate::harness::worker::{Order, Reply, Work, Worker};
use crate::setup::Setup;

/// Who joins at the peak of load.
const JOINERS: usize = 8;
/// In so many waves, where they only prepare for the silent ones.
const WAVES: usize = 2;
/// Who never reads.
const SILENT: usize = 256;
/// Changes of one slice while the silent ones come, and how many slices: more
/// than the journal holds, so that every one of them is left behind.
const CHANGES_PER_SLICE: usize = 50_000;
const SLICES: u64 = 30;

/// How often memory is looked at while it grows.
const EACH: Duration = Duration::from_millis(2);
/// What `st_blocks` counts in (stat(2)).
const BLOCK: u64 = 512;

pub(crate) fn measure(setup: &Setup) -> Result<Figures> {
    let mut rows = Vec::new();
    let daemon = Daemon::start(setup)?;
    machine::settle(Duration::from_secs(2));
    let idle = resident(&daemon)?;
    rows.push(Figure::bytes("resident, idle", idle, Some(8 << 20)));

    let file = text(&setup.data().join("full-table.txt.gz"))?;
    let output = daemon.command(&["route", "load", &file, "--spread"])?.output()?;
    ensure!(output.status.success(), "load: {}", String::from_utf8_lossy(&output.stderr).trim());
    // Or the daemon's memory would have none yet.
    daemon.ask_for_image()?;
    let routes = setup.routes()?.len() as u64;
    machine::settle(Duration::from_secs(5));
    let (loaded, journal) = (resident(&daemon)?, status(&daemon, "journal_bytes")?);
    rows.push(Figure::bytes("resident with the full table", loaded, None));
    rows.push(Figure::bytes("of these the journal", journal, None));
    let object = status(&daemon, "image_bytes")?;
    rows.push(Figure::bytes(
        "the image's object, which is allocated in full",
        object,
        Some(128_000_000),
    ));
    let per_route = |bytes: u64, journal: u64| bytes.saturating_sub(idle + journal) / routes;
    rows.push(Figure::bytes("per route", per_route(loaded, journal), Some(150)));

    let row = vec!["rtm-join".to_owned(), text(&daemon.socket())?, "apply".to_owned()];
    let mut joiners = Worker::start_all(&vec![row; JOINERS])?;
    joiners.iter_mut().try_for_each(|joiner| joiner.send(&Order::Join))?;
    for joiner in &mut joiners {
        let Reply::Joined { .. } = joiner.receive()? else { bail!("a joiner did not join") };
    }
    let (peak, journal) = (process_status(&daemon, "VmHWM")?, status(&daemon, "journal_bytes")?);
    rows.push(Figure::bytes("peak of load and 8 joins at once", peak, None));
    rows.push(Figure::bytes("per route, at that peak", per_route(peak, journal), Some(250)));
    drop(joiners);

    drop(daemon);
    with_image(setup, &mut rows)?;
    silent(setup, &mut rows)?;
    Ok(Figures { bench: "memory".to_owned(), variant: "full table".to_owned(), rows })
}

/// A daemon of its own, whose image is asked for before anything else, so that each turn of the load
/// is in it and it grows meanwhile. What is counted is the daemon's own memory and all blocks of
/// its image's objects, whether it has them mapped or not, the ring's too.
fn with_image(setup: &Setup, rows: &mut Vec<Figure>) -> Result<()> {
    let daemon = Daemon::start(setup)?;
    daemon.ask_for_image()?;
    machine::settle(Duration::from_secs(2));
    let idle = resident_and_image(&daemon)?;
    rows.push(Figure::bytes("idle, with its whole image", idle, Some(16 << 20)));

    let file = text(&setup.data().join("full-table.txt.gz"))?;
    let routes = setup.routes()?.len() as u64;
    let mut load =
        daemon.command(&["route", "load", &file, "--spread"])?.stdout(Stdio::null()).spawn()?;
    let mut peak = 0;
    let status_of_load = loop {
        peak = peak.max(resident_and_image(&daemon)?);
        match load.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(EACH),
        }
    };
    ensure!(status_of_load.success(), "load: {status_of_load}");
    machine::settle(Duration::from_secs(5));
    let (loaded, journal) = (resident_and_image(&daemon)?, status(&daemon, "journal_bytes")?);
    let per_route = |bytes: u64, journal: u64| bytes.saturating_sub(idle + journal) / routes;
    rows.push(Figure::bytes(
        "per route, with the image's whole object",
        per_route(loaded, journal),
        Some(230),
    ));

    let row = vec!["rtm-join".to_owned(), text(&daemon.socket())?, "apply".to_owned()];
    let mut joiners = Worker::start_all(&vec![row; JOINERS])?;
    joiners.iter_mut().try_for_each(|joiner| joiner.send(&Order::Join))?;
    let joined = std::thread::spawn(move || -> Result<()> {
        for joiner in &mut joiners {
            let Reply::Joined { .. } = joiner.receive()? else { bail!("a joiner did not join") };
        }
        Ok(())
    });
    while !joined.is_finished() {
        peak = peak.max(resident_and_image(&daemon)?);
        std::thread::sleep(EACH);
    }
    joined.join().map_err(|_| anyhow::anyhow!("the joiners' thread panicked"))??;
    let journal = status(&daemon, "journal_bytes")?;
    rows.push(Figure::bytes(
        "the same, at the peak of load, growth and 8 joins",
        per_route(peak, journal),
        Some(400),
    ));
    Ok(())
}

/// The same of a mirror of the kernel's full table.
pub(crate) fn measure_mirror(setup: &Setup) -> Result<Figures> {
    let kernel = kernel_admin(setup, NextHops::Plain, Table::Loaded)?;
    let idle_daemon = Daemon::start(setup)?;
    machine::settle(Duration::from_secs(2));
    let idle = resident(&idle_daemon)?;
    drop(idle_daemon);
    let daemon = Daemon::start_within(setup, kernel.pid(), &["--kernel"])?;
    while !daemon.log().contains(" entries in ") {
        std::thread::sleep(Duration::from_millis(10));
    }
    daemon.ask_for_image()?;
    machine::settle(Duration::from_secs(5));
    let routes = setup.routes()?.len() as u64;
    let (loaded, journal) = (resident(&daemon)?, status(&daemon, "journal_bytes")?);
    let peak = process_status(&daemon, "VmHWM")?;
    let per_route = |bytes: u64| bytes.saturating_sub(idle + journal) / routes;
    let rows = vec![
        Figure::bytes("resident with the kernel's full table", loaded, None),
        Figure::bytes("of these the journal", journal, None),
        Figure::bytes("per route", per_route(loaded), Some(150)),
        Figure::bytes("per route, at the import's peak", per_route(peak), Some(250)),
    ];
    Ok(Figures { bench: "kernel-memory".to_owned(), variant: "full table".to_owned(), rows })
}

/// A daemon of its own, with a full table and a full journal, before and after
/// the silent ones have come.
fn silent(setup: &Setup, rows: &mut Vec<Figure>) -> Result<()> {
    let daemon = Daemon::start(setup)?;
    let socket = text(&daemon.socket())?;
    let mut publisher =
        Worker::start(&["rtm-admin", &socket, &text(setup.data())?, "all", "loaded"])?;
    daemon.ask_for_image()?;
    let mut publish = |seed| -> Result<()> {
        publisher.send(&Order::Prepare(Work::Random { seed, count: CHANGES_PER_SLICE }))?;
        publisher.receive()?;
        publisher.send(&Order::Publish)?;
        publisher.receive()?;
        Ok(())
    };
    // Joiners that come and go first, in waves so far apart that each gets a
    // snapshot of its own and two are held at a time, as it will be: what the
    // allocator keeps of encoding snapshots at all is not what a silent one costs.
    let row = vec!["rtm-join".to_owned(), socket.clone(), "count".to_owned()];
    let mut joiners = Worker::start_all(&vec![row; JOINERS])?;
    for (number, wave) in joiners.chunks_mut(JOINERS / WAVES).enumerate() {
        wave.iter_mut().try_for_each(|joiner| joiner.send(&Order::Join))?;
        let from = number as u64 * SLICES / WAVES as u64;
        (from..from + SLICES / WAVES as u64).try_for_each(&mut publish)?;
    }
    for joiner in &mut joiners {
        let Reply::Joined { .. } = joiner.receive()? else { bail!("a joiner did not join") };
    }
    drop(joiners);
    machine::settle(Duration::from_secs(5));
    let before = resident(&daemon)?.saturating_sub(status(&daemon, "journal_bytes")?);

    let mut silent = Worker::start(&["rtm-silent", &socket, &SILENT.to_string()])?;
    silent.send(&Order::Join)?;
    (SLICES..2 * SLICES).try_for_each(&mut publish)?;
    let Reply::Joined { .. } = silent.receive()? else { bail!("the silent ones did not join") };
    // They all have come: as many changes once more go past them.
    (2 * SLICES..3 * SLICES).try_for_each(&mut publish)?;
    machine::settle(Duration::from_secs(5));
    let after = resident(&daemon)?.saturating_sub(status(&daemon, "journal_bytes")?);
    let each = after.saturating_sub(before) / SILENT as u64;
    rows.push(Figure::bytes("each of 256 that never read, in the daemon", each, Some(64 << 10)));
    let snapshots = status(&daemon, "snapshot_bytes")?;
    rows.push(Figure::bytes("encoded snapshots held meanwhile, all together", snapshots, None));
    let kernel = socket_bytes(&socket)? / SILENT as u64;
    rows.push(Figure::bytes("each of them, in the kernel's socket buffers", kernel, None));
    Ok(())
}

/// `VmRSS` of the daemon.
fn resident(daemon: &Daemon) -> Result<u64> {
    process_status(daemon, "VmRSS")
}

/// What is resident of the daemon but for shared memory, and all blocks of the memory objects that
/// it has open, each once.
fn resident_and_image(daemon: &Daemon) -> Result<u64> {
    let own = resident(daemon)?.saturating_sub(process_status(daemon, "RssShmem")?);
    let mut objects = BTreeMap::new();
    for descriptor in fs::read_dir(format!("/proc/{}/fd", daemon.pid()))? {
        let path = descriptor?.path();
        // It may be closed meanwhile.
        let (Ok(link), Ok(metadata)) = (fs::read_link(&path), fs::metadata(&path)) else {
            continue;
        };
        if link.as_os_str().as_bytes().starts_with(b"/memfd:") {
            objects.insert(metadata.ino(), metadata.blocks() * BLOCK);
        }
    }
    ensure!(!objects.is_empty(), "the daemon has no memory object open");
    Ok(own + objects.values().sum::<u64>())
}

/// A line in kB of `/proc/PID/status`, in bytes.
fn process_status(daemon: &Daemon, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{}/status", daemon.pid()))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("no {name}"))? * 1024)
}

/// A number of the daemon's own status.
fn status(daemon: &Daemon, name: &str) -> Result<u64> {
    let status = daemon.status()?;
    status[name].as_u64().with_context(|| format!("rtm -j status has no {name}"))
}

/// What all connections of a Unix socket hold in the kernel: bytes queued at either
/// end with their overhead, as `ss -m` shows them (sock_diag(7)).
fn socket_bytes(path: &str) -> Result<u64> {
    let output = Command::new("ss").args(["-x", "-a", "-m", "-H", "-O"]).output().context("ss")?;
    ensure!(output.status.success(), "ss: {}", String::from_utf8_lossy(&output.stderr).trim());
    let mut bytes = 0;
    for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains(path)) {
        let Some((_, memory)) = line.split_once("skmem:(") else { continue };
        for field in memory.trim_end().trim_end_matches(')').split(',') {
            let digits = field.trim_start_matches(|c: char| c.is_ascii_alphabetic());
            let name = &field[..field.len() - digits.len()];
            if matches!(name, "r" | "t") {
                bytes += digits.parse::<u64>().unwrap_or(0);
            }
        }
    }
    Ok(bytes)
}
