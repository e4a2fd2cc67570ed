//! Mapped readers beside a real daemon that changes its tables as fast as it is
//! told to, and one that is killed again and again. Every answer is checked
//! against the script by which the tables change (`rtm_e2e::script`): a function
//! of the revision, so whoever reads knows what is right.
//!
//! Short here; `scripts/soak-image --daemon` and `--kills` are the long forms:
//! RTM_SOAK_LOOKUPS (3,000,000), RTM_SOAK_KILLS (20), RTM_SOAK_RATE (100,000
//! changes a second).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rtm_client::{Address as Place, Admin, Changes, ImageState, LoadOptions, Mapped, MappedConfig};
use rtm_e2e::process::PATIENCE;
use rtm_e2e::script::{Address, Groups, Script};
use rtm_e2e::{Daemon, Process};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal};
use rustix::thread::{ClockId, CpuSet};

/// Set for a process that reads: the daemon's socket.
const READER: &str = "RTM_SOAK_READER";
/// How many lookups it makes; until it is told to stop if there is none.
const WANTED: &str = "RTM_SOAK_WANTED";

fn number(name: &str, or: u64) -> u64 {
    std::env::var(name).map_or(or, |text| text.parse().expect("a number"))
}

/// Nanoseconds of a clock that all processes share.
fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

/// What a reader counts.
#[derive(Default)]
struct Totals {
    lookups: u64,
    /// Checked against one revision.
    exact: u64,
    /// Something became visible meanwhile: right for one of several revisions.
    ranged: u64,
    repeats: u64,
    busy: u64,
    attaches: u64,
}

/// A reader: looks up, checks, and attaches again by itself.
struct Soaker {
    mapped: Mapped,
    /// Per family, in an order of its own.
    addresses: [Vec<Address>; 2],
    next: [usize; 2],
    /// The object, what it showed last, and what its groups mean.
    object: u64,
    seen: Option<ImageState>,
    groups: Option<(Groups, Script)>,
    totals: Totals,
}

/// Addresses of one batch.
const BATCH: usize = 16;

impl Soaker {
    fn new(socket: &str) -> Soaker {
        let config = MappedConfig {
            name: "soak".to_owned(),
            changes: Changes::No,
            later: true,
            ..MappedConfig::default()
        };
        let mapped = Mapped::open(&Place::Unix(socket.into()), config).unwrap();
        let mut random = Random(std::process::id().into());
        let addresses = [0, 1].map(|family| {
            let mut all = Address::all(family);
            for n in (1..all.len()).rev() {
                all.swap(n, random.below(n as u64 + 1) as usize);
            }
            all
        });
        Soaker {
            mapped,
            addresses,
            next: [0, 0],
            object: 0,
            seen: None,
            groups: None,
            totals: Totals::default(),
        }
    }

    fn take(&mut self, family: usize) -> [Address; BATCH] {
        let all = &self.addresses[family];
        let at = self.next[family];
        self.next[family] = (at + BATCH) % all.len();
        all[at..at + BATCH].try_into().expect("as many as a batch has")
    }

    /// One round of batches, single lookups and whole routes. False: there are no
    /// tables yet.
    fn round(&mut self) -> bool {
        let (v4, v6, single4, single6) = (self.take(0), self.take(1), self.take(0), self.take(1));
        let Soaker { mapped, totals, .. } = self;
        let Some(image) = mapped.tables() else { return false };
        if image.header().id != self.object {
            (self.object, self.seen, self.groups) = (image.header().id, None, None);
            totals.attaches += 1;
            let state = image.state();
            let (epoch, revision) = state.map_or((0, 0), |state| (state.epoch, state.revision));
            println!("attached {epoch:016x} {revision} {}", now_ns());
        }
        if self.groups.is_none() {
            self.groups = Groups::of(image).map(|groups| (groups, Script::of(image)));
        }
        let counted = (image.repeats(), image.busy());
        if self.seen.is_none_or(|seen| seen.version != image.version()) {
            self.seen = image.state().ok();
        }
        let Some(first) = self.seen else { return true };
        let mut answers = [const { (None, None) }; 4 * BATCH];
        let mut count = 0;
        let mut found = |address, answer| {
            answers[count] = (Some(address), answer);
            count += 1;
        };
        let mut batch = [None; BATCH];
        if image.lookup4_batch(&v4.map(Address::v4), &mut batch).is_ok() {
            v4.into_iter().zip(batch).for_each(|(address, answer)| found(address, answer));
        }
        if image.lookup6_batch(&v6.map(Address::v6), &mut batch).is_ok() {
            v6.into_iter().zip(batch).for_each(|(address, answer)| found(address, answer));
        }
        for address in single4 {
            if let Ok(answer) = image.lookup4(address.v4().into()) {
                found(address, answer);
            }
        }
        for address in single6 {
            if let Ok(answer) = image.lookup6(address.v6().into()) {
                found(address, answer);
            }
        }
        let whole = image.lookup_route(254, single4[0].ip());
        let hop = image.lookup_hop(254, single6[0].ip(), 7);
        let is_exact = image.version() == first.version;
        let last = if is_exact {
            first
        } else {
            match image.state() {
                Ok(last) => last,
                Err(_) => return true,
            }
        };
        self.seen = Some(last);
        assert_eq!(first.epoch, last.epoch, "an object is of one history");
        totals.repeats += image.repeats() - counted.0;
        totals.busy += image.busy() - counted.1;
        let Some((groups, script)) = &self.groups else {
            if last.revision <= Script::default().base() {
                assert!(answers.iter().all(|(_, answer)| answer.is_none()), "{}", last.revision);
            }
            return true;
        };
        let right = |address: Address, gateway: Option<u64>| {
            let is = |revision| script.expected(revision, address) == gateway;
            let mut between = first.revision..=last.revision;
            assert!(
                is(first.revision) || is(last.revision) || between.any(is),
                "{}: gateway {gateway:?}, {:?} would be right at revision {}, {:?} at {}",
                address.ip(),
                script.expected(first.revision, address),
                first.revision,
                script.expected(last.revision, address),
                last.revision,
            );
        };
        for (address, answer) in &answers[..count] {
            right(address.expect("filled"), groups.gateway(*answer));
        }
        let mut checked = count as u64;
        if let Ok(route) = whole {
            right(single4[0], route.map(|route| groups.of_group(route.value.group)));
            checked += 1;
        }
        if let Ok(found) = hop {
            let (answer, hop) = found.unzip();
            right(single6[0], groups.gateway(answer));
            let gateway = hop.flatten().and_then(|hop| hop.gateway);
            right(single6[0], gateway.map(rtm_e2e::script::number_of));
            checked += 1;
        }
        totals.lookups += checked;
        *(if is_exact { &mut totals.exact } else { &mut totals.ranged }) += checked;
        true
    }
}

/// Was standard input closed?
fn is_over() -> bool {
    let stdin = std::io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default())) != Ok(0)
}

/// Not a test: a reader. Ends with a panic at the first wrong answer.
#[test]
fn child_reader() {
    let Ok(socket) = std::env::var(READER) else { return };
    let wanted = number(WANTED, u64::MAX);
    let mut soaker = Soaker::new(&socket);
    let mut told = Instant::now();
    let mut rounds = 0_u64;
    while soaker.totals.lookups < wanted {
        if !soaker.round() {
            std::thread::sleep(Duration::from_millis(1));
        }
        rounds += 1;
        if rounds % 256 == 0 && told.elapsed() > Duration::from_millis(50) {
            told = Instant::now();
            let epoch = soaker.seen.map_or(0, |seen| seen.epoch);
            println!("progress {epoch:016x} {}", soaker.totals.lookups);
            if is_over() {
                break;
            }
        }
    }
    let Totals { lookups, exact, ranged, repeats, busy, attaches } = soaker.totals;
    println!(
        "totals lookups {lookups} exact {exact} ranged {ranged} repeats {repeats} busy {busy} \
         attaches {attaches}"
    );
    soaker.mapped.close();
}

fn reader(socket: &Path, wanted: Option<u64>) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_reader", "--nocapture"]).env(READER, socket);
    if let Some(wanted) = wanted {
        command.env(WANTED, wanted.to_string());
    }
    Process::spawn(command)
}

/// What a reader printed at its end.
fn totals(reader: Process, into: &mut BTreeMap<String, u64>) {
    let output = reader.finish();
    assert_eq!(output.code, Some(0), "{}{}", tail(&output.out), output.err);
    let line =
        output.out.lines().find_map(|line| line.strip_prefix("totals ")).expect("its totals");
    let words: Vec<&str> = line.split(' ').collect();
    for pair in words.chunks(2) {
        *into.entry(pair[0].to_owned()).or_default() += pair[1].parse::<u64>().unwrap();
    }
}

fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(500);
    text.get(from..).unwrap_or(text)
}

fn prepare(admin: &mut Admin, script: Script) -> Result<(), rtm_client::Error> {
    for changes in script.before() {
        let options = LoadOptions { atomic: changes.len() > 1, ..LoadOptions::default() };
        let mut load = admin.load(&options);
        for change in &changes {
            load.push(change)?;
        }
        let done = load.finish(false)?;
        assert_eq!((done.code, done.failed, done.unchanged), (0, 0, 0), "{}", done.text);
    }
    Ok(())
}

fn pin(pid: Option<Pid>, cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(pid, &set).expect("a processor");
}

/// A reader on one processor; the daemon, and who changes its tables, on another.
#[test]
fn every_answer_is_right_for_a_revision_that_was_visible() {
    let wanted = number("RTM_SOAK_LOOKUPS", 3_000_000);
    let rate = number("RTM_SOAK_RATE", 100_000);
    let is_long = wanted > 10_000_000;
    let daemon = Daemon::start(&["--no-console"]);
    let socket = daemon.directory().join("rtm.sock");
    let mut admin = Admin::connect(&Place::Unix(socket.clone()), "soak-writer").unwrap();
    let script = Script { bulk: 50_000 };
    prepare(&mut admin, script).unwrap();
    let mut reader = reader(&socket, Some(wanted));
    if is_long && std::thread::available_parallelism().is_ok_and(|count| count.get() > 1) {
        pin(Pid::from_raw(reader.pid() as i32), 0);
        pin(Pid::from_raw(daemon.process.pid() as i32), 1);
        pin(None, 1);
    }
    reader.wait_stdout("progress");
    let (start, mut k) = (Instant::now(), 0);
    let mut load = admin.load(&LoadOptions::default());
    while !reader.ended() {
        // As many as are due by now, and no burst to make up for a long pause.
        let due = (start.elapsed().as_micros() as u64 * rate / 1_000_000).min(k + rate / 100);
        while k < due {
            k += 1;
            assert!(load.push(&Script::change(k)).unwrap(), "change {k} is refused");
        }
        load.flush().unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let seconds = start.elapsed().as_secs_f64();
    let done = load.finish(false).unwrap();
    // The change log: each change of the script is one revision.
    assert_eq!((done.code, done.applied, done.unchanged, done.failed), (0, k, 0, 0));
    assert_eq!(done.revision.0, script.base() + k);
    let mut sums = BTreeMap::new();
    totals(reader, &mut sums);
    println!("{sums:?} beside {k} changes in {seconds:.1} s: {:.0} a second", k as f64 / seconds);
    assert!(sums["lookups"] >= wanted && sums["exact"] >= wanted / 100);
    assert_eq!(sums["exact"] + sums["ranged"], sums["lookups"]);
    assert!(k > 1000);
}

/// Times of something, in order.
#[derive(Default)]
struct Times(Vec<u64>);

impl Times {
    fn line(&mut self, what: &str) -> String {
        self.0.sort_unstable();
        let ms = |share: usize| match self.0.len() {
            0 => 0.0,
            len => self.0[(len * share / 100).min(len - 1)] as f64 / 1e6,
        };
        let (half, most, all) = (ms(50), ms(99), ms(100));
        let count = self.0.len();
        format!("{what}: {count} times, median {half:.1} ms, p99 {most:.1} ms, longest {all:.1} ms")
    }
}

/// One of the readers of a daemon that is killed again and again.
struct Victim {
    process: Process,
    /// It is stopped until this round.
    stopped_until: Option<u64>,
    /// How much of its output was read.
    read: usize,
    /// The epoch that it attached last, and when it did first.
    attached: (String, u64),
    /// It looked things up in this epoch.
    looked: String,
}

impl Victim {
    fn new(socket: &Path) -> Victim {
        Victim {
            process: reader(socket, None),
            stopped_until: None,
            read: 0,
            attached: Default::default(),
            looked: String::new(),
        }
    }

    /// What it said last, for who finds it hanging.
    fn told(&self) -> String {
        let (out, err) = (self.process.stdout(), self.process.stderr());
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.pid()));
        format!(
            "attached {} looked {} stopped {:?}\n{}{err}{stat:?}",
            self.attached.0,
            self.looked,
            self.stopped_until,
            tail(&out)
        )
    }

    /// Reads what it printed since.
    fn look(&mut self) {
        let out = self.process.stdout();
        let Some(end) = out.rfind('\n') else { return };
        for line in out[self.read.min(end)..end].lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["attached", epoch, _, at] if epoch != self.attached.0 => {
                    self.attached = (epoch.to_owned(), at.parse().unwrap());
                }
                ["progress", epoch, _] => self.looked = epoch.to_owned(),
                _ => {}
            }
        }
        self.read = end;
        let is_over = self.process.ended();
        assert!(!is_over, "a reader ended: {}{}", tail(&out), self.process.stderr());
    }
}

const VICTIMS: usize = 3;

/// The daemon is killed at any moment of its work, some hundred times and more;
/// readers are killed and stopped for long meanwhile. No answer is wrong, no
/// reader hangs or dies, and each attaches the next daemon's tables by itself.
#[test]
fn killed_at_any_moment_readers_go_on() {
    let kills = number("RTM_SOAK_KILLS", 20);
    let mut random = Random(u64::from(std::process::id()) ^ now_ns());
    let mut directory = tempfile::Builder::new().prefix("rtm-e2e-").tempdir().unwrap();
    let socket = directory.path().join("rtm.sock");
    let mut victims: Vec<Victim> = (0..VICTIMS).map(|_| Victim::new(&socket)).collect();
    let (mut from_ready, mut from_kill) = (Times::default(), Times::default());
    let (mut killed, mut stopped, mut grown) = (0, 0, 0);
    let mut killed_at = None;
    let mut sums = BTreeMap::new();
    for round in 0..=kills {
        let is_last = round == kills;
        let daemon = Daemon::start_in(directory, &["--no-console"]);
        let ready = now_ns();
        for victim in &mut victims {
            if victim.stopped_until.is_some_and(|until| until <= round || is_last) {
                victim.stopped_until = None;
                victim.process.signal(Signal::CONT.as_raw());
            }
        }
        let script = Script { bulk: if round % 16 == 5 { 120_000 } else { 0 } };
        grown += u64::from(script.bulk > 0);
        let epoch = daemon.rtm(&["digest"]).split(' ').next().unwrap().to_owned();
        // It is killed while it works, from a thread that knows nothing of it; or
        // when everybody has attached and looked things up.
        let is_awaited = is_last || round % 4 == 0;
        let pid = Pid::from_raw(daemon.process.pid() as i32).unwrap();
        let delay =
            Duration::from_micros(random.below(if script.bulk > 0 { 600_000 } else { 60_000 }));
        std::thread::scope(|scope| {
            let killer = (!is_awaited).then(|| {
                scope.spawn(move || {
                    std::thread::sleep(delay);
                    rustix::process::kill_process(pid, Signal::KILL).unwrap();
                })
            });
            let mut write = || -> Result<(), rtm_client::Error> {
                let mut admin = Admin::connect(&Place::Unix(socket.clone()), "soak-writer")?;
                prepare(&mut admin, script)?;
                let mut load = admin.load(&LoadOptions::default());
                let start = Instant::now();
                for k in 1.. {
                    load.push(&Script::change(k))?;
                    if k % 64 != 0 {
                        continue;
                    }
                    load.flush()?;
                    victims.iter_mut().for_each(Victim::look);
                    let all =
                        |victim: &Victim| victim.stopped_until.is_some() || victim.looked == epoch;
                    if is_awaited && victims.iter().all(all) {
                        return Ok(());
                    }
                    if start.elapsed() > PATIENCE {
                        let told: Vec<String> = victims.iter().map(Victim::told).collect();
                        panic!("readers hang, epoch {epoch}: {}", told.join("\n"));
                    }
                    if is_awaited {
                        std::thread::sleep(Duration::from_micros(500));
                    }
                }
                Ok(())
            };
            let written = write();
            assert!(written.is_ok() || killer.is_some(), "{written:?}");
        });
        for victim in &mut victims {
            victim.look();
            if victim.attached.0 == epoch {
                from_ready.0.push(victim.attached.1.saturating_sub(ready));
                from_kill.0.extend(killed_at.map(|at: u64| victim.attached.1.saturating_sub(at)));
            }
        }
        if is_last {
            for victim in victims {
                totals(victim.process, &mut sums);
            }
            break;
        }
        let one = random.below(VICTIMS as u64) as usize;
        match random.below(10) {
            0 => {
                // Wherever it is. Its totals go with it.
                victims[one] = Victim::new(&socket);
                killed += 1;
            }
            1 | 2 if victims[one].stopped_until.is_none() => {
                victims[one].process.signal(Signal::STOP.as_raw());
                victims[one].stopped_until = Some(round + 2 + random.below(12));
                stopped += 1;
            }
            _ => {}
        }
        directory = daemon.kill();
        killed_at = Some(now_ns());
    }
    println!("{kills} daemons killed, {killed} readers killed, {stopped} stopped, {grown} grew");
    println!("{}", from_ready.line("attached after a daemon was ready"));
    println!("{}", from_kill.line("attached after the last one was killed"));
    println!("{sums:?}");
    assert!(sums["lookups"] > 0 && sums["attaches"] >= VICTIMS as u64);
}
