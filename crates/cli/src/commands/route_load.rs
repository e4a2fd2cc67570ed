//! `rtm route load`: a file of routes, as one stream.
//!
//! Reading, unpacking and parsing go on while the daemon applies: the stream
//! is never waited for but where its buffers are full. What is wrong is named
//! by its line (or byte), and what was applied by then is counted.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rtm_client::{Done, Load, LoadOptions};
use rtm_files::{At, DumpCounts, FileError, Item, Options, Reader};
use rtm_model::text::{Format, LoadHops, PeerChoice, RouteLoad};
use serde_json::json;

use super::positions::Positions;
use crate::env::Env;
use crate::failure::{Failure, Result, USAGE, file_error};
use crate::links::HostLinks;
use crate::output::{say, thousands};

/// How often the progress is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// How many wrong lines are named with `--force`; the rest is counted.
const NAMED_MAX: u64 = 100;

pub(crate) fn run(env: &mut Env<'_>, load: &RouteLoad) -> Result<()> {
    if load.atomic && load.force {
        return Err(Failure::usage(
            "option: --force: contradicts --atomic, which takes all or nothing; one of the two",
        ));
    }
    let began = Instant::now();
    let name: &str = if &*load.file == "-" { "standard input" } else { &load.file };
    let wrong = |error: &FileError| Failure::usage(format_args!("route load: {name}: {error}"));
    let (input, size): (Box<dyn Read>, Option<u64>) = if &*load.file == "-" {
        (Box::new(io::stdin().lock()), None)
    } else {
        let file = File::open(&*load.file).map_err(|error| file_error(name, &error))?;
        let meta = file.metadata().map_err(|error| file_error(name, &error))?;
        if meta.is_dir() {
            return Err(Failure::usage(format_args!(
                "route load: {name}: a directory; a file would be right"
            )));
        }
        (Box::new(file), meta.is_file().then_some(meta.len()))
    };
    let options = Options {
        format: load.format,
        hops: load.hops,
        family: env.options.family,
        peer: load.peer,
        ..Options::default()
    };
    check_hops(load)?;
    let mut reader = Reader::new(input, options).map_err(|error| wrong(&error))?;
    let mut links = HostLinks::default();
    reader.name_links(move |index| links.name(index));
    if load.peer != PeerChoice::Best && !matches!(reader.format(), None | Some(Format::Mrt)) {
        return Err(Failure::usage(format_args!(
            "option: --peer: {name} has no peers; an MRT dump would be right"
        )));
    }
    let bar = progress_bar(size);
    let admin = env.admin()?;
    let mut stream = admin.load(&LoadOptions {
        atomic: load.atomic,
        force: load.force,
        source: load.source.as_deref().map(str::to_owned),
    });
    let sent = send(&mut reader, &mut stream, load.force, name, &bar)?;
    // A source's content that ends too early would empty the rest of it.
    let give_up = sent.error.is_some() && (load.atomic || load.source.is_some());
    let done = stream.finish(give_up)?;
    bar.finish_and_clear();
    let outcome = Outcome {
        done,
        bad_lines: sent.bad_lines,
        duplicates: reader.duplicates(),
        dump: reader.dump_counts(),
        seconds: began.elapsed().as_secs_f64(),
    };
    if let Some(error) = &sent.error {
        if outcome.dump.is_some() && !give_up {
            // Public dumps are large, and often only the beginning of one is
            // at hand: what is whole of it counts, and is told.
            report(env, name, &outcome, false)?;
        }
        let applied = outcome.so_far(load.atomic);
        return Err(Failure::usage(format_args!("route load: {name}: {error}; {applied}")));
    }
    if outcome.done.code != 0 && !load.force {
        return Err(refused(name, &outcome, &sent.places, load.atomic));
    }
    for refusal in &outcome.done.refusals {
        say(format_args!("rtm: route load: {name}: {}", sent.places.refusal(refusal)));
    }
    report(env, name, &outcome, reader.format().is_none())?;
    if outcome.bad_lines + outcome.done.failed > 0 {
        return Err(Failure::Quiet(USAGE));
    }
    Ok(())
}

/// An IPv6 list via an IPv4 gateway is the reader's to refuse; a `--via` that
/// can't be meant for any route is refused here.
fn check_hops(load: &RouteLoad) -> Result<()> {
    match load.hops {
        Some(LoadHops::Fixed { via: None, dev: None }) => {
            Err(Failure::usage("route load: --via GW or --dev LINK would be right"))
        }
        _ => Ok(()),
    }
}

/// What became of the file.
struct Sent {
    /// Where each change stood.
    places: Positions,
    /// Wrong entries that were passed over.
    bad_lines: u64,
    /// What ended it.
    error: Option<FileError>,
}

/// Sends the whole file, or up to its first wrong entry.
fn send(
    reader: &mut Reader<Box<dyn Read>>,
    stream: &mut Load<'_>,
    force: bool,
    name: &str,
    bar: &ProgressBar,
) -> Result<Sent> {
    let places = match reader.format() {
        Some(Format::IpJson | Format::Mrt | Format::IpDump) => Positions::of_bytes(),
        _ => Positions::of_lines(),
    };
    let mut sent = Sent { places, bad_lines: 0, error: None };
    let progress = reader.progress();
    let mut drawn = Instant::now();
    loop {
        match reader.next_item() {
            Ok(Some(Item { at, change })) => {
                sent.places.next(place(at));
                if !stream.push(&change)? {
                    return Ok(sent);
                }
            }
            Ok(None) => return Ok(sent),
            Err(error) if force && error.is_entry() => {
                sent.bad_lines += 1;
                if sent.bad_lines <= NAMED_MAX {
                    bar.suspend(|| say(format_args!("rtm: route load: {name}: {error}")));
                }
            }
            Err(error) => {
                sent.error = Some(error);
                return Ok(sent);
            }
        }
        if stream.sent() % 1024 == 0 && !bar.is_hidden() && drawn.elapsed() >= DRAW_EVERY {
            drawn = Instant::now();
            bar.set_position(progress.packed_bytes());
            bar.set_message(format!("{} routes", thousands(stream.sent())));
        }
    }
}

fn place(at: At) -> u64 {
    match at {
        At::Line(line) => line,
        At::Byte(byte) => byte,
    }
}

struct Outcome {
    done: Done,
    bad_lines: u64,
    duplicates: u64,
    dump: Option<DumpCounts>,
    seconds: f64,
}

impl Outcome {
    /// Routes that the file gave.
    fn routes(&self) -> u64 {
        self.done.applied + self.done.unchanged
    }

    /// What there is of a load that ended early.
    fn so_far(&self, atomic: bool) -> String {
        if atomic {
            return "nothing was applied".to_owned();
        }
        let routes = self.routes();
        let unchanged = match self.done.unchanged {
            0 => String::new(),
            count => format!(" ({count} of them unchanged)"),
        };
        format!("{routes} before it were applied{unchanged}, revision {}", self.done.revision.0)
    }
}

fn refused(name: &str, outcome: &Outcome, places: &Positions, atomic: bool) -> Failure {
    let Done { code, position, text, .. } = &outcome.done;
    let place = places.words(*position);
    let code = u8::try_from(*code).unwrap_or(2);
    if *position == 0 {
        // The stream as such was refused.
        return Failure::Said { code, line: format!("route load: {text}") };
    }
    let applied = outcome.so_far(atomic);
    Failure::Said { code, line: format!("route load: {name}: {place}{text}; {applied}") }
}

fn report(env: &mut Env<'_>, name: &str, outcome: &Outcome, empty: bool) -> Result<()> {
    let digest = env.ask_json("digest")?.0.into_iter().next().unwrap_or_default();
    let digest = digest["routes"].as_str().unwrap_or_default().to_owned();
    let Outcome { done, bad_lines, duplicates, dump, seconds } = outcome;
    let routes = outcome.routes();
    let rate = if *seconds > 0.0 { (routes as f64 / seconds) as u64 } else { 0 };
    let failed = bad_lines + done.failed;
    if env.options.json {
        let mut value = json!({
            "routes": routes,
            "applied": done.applied,
            "unchanged": done.unchanged,
            "duplicates": duplicates,
            "failed": failed,
            "seconds": (seconds * 1e6).round() / 1e6,
            "routes_per_second": rate,
            "revision": done.revision.0,
            "digest": digest,
        });
        if let Some(dump) = dump {
            value["dump"] = json!({
                "prefixes": dump.prefixes,
                "entries": dump.entries,
                "peers": dump.peers,
                "without": dump.without,
                "passed_over": dump.passed_over,
            });
        }
        return Ok(env.out.json(&value, env.options.pretty)?);
    }
    if empty {
        env.out.line(format_args!(
            "0 routes: {name} is empty; revision {}, digest {digest}",
            done.revision.0
        ))?;
        return Ok(());
    }
    env.out.line(format_args!(
        "{routes} routes in {seconds:.3} s, {rate} routes/s, revision {}, digest {digest}",
        done.revision.0
    ))?;
    if let Some(DumpCounts { prefixes, entries, peers, without, passed_over, .. }) = dump {
        env.out.line(format_args!("{prefixes} prefixes, {entries} entries, {peers} peers"))?;
        for (count, what) in [
            (*without, "prefixes without a next hop of the peer asked for"),
            (*passed_over, "records passed over: not unicast routes"),
        ] {
            if count > 0 {
                env.out.line(format_args!("{count} {what}"))?;
            }
        }
    }
    for (count, what) in [
        (done.unchanged, "unchanged"),
        (*duplicates, "duplicates in the file, of which the last counts"),
        (failed, "failed"),
    ] {
        if count > 0 {
            env.out.line(format_args!("{count} {what}"))?;
        }
    }
    Ok(())
}

/// A bar over the file's bytes on a terminal; nothing elsewhere.
fn progress_bar(size: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match size {
        Some(size) => (ProgressBar::new(size), "{bar:40} {percent:>3}% {msg} {elapsed}"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg} {elapsed}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    ProgressStyle::with_template(template).map_or(bar.clone(), |style| bar.with_style(style))
}
