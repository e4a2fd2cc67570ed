//! Lookups: the image beside its rivals, and what it needs.
//!
//! Everybody has the same routes, with the same 200 next hops, and the same
//! addresses; an answer is the number of a next hop. Each structure stands in a
//! process of its own but for ours and the flat one, and does nothing while it isn't
//! asked. One core: nobody is pinned, and nobody has a second thread, but for the
//! contender `rtm, live`, whose image is changed 100,000 times a second meanwhile.

mod daemon;
pub(crate) mod external;
pub(crate) mod kernel;

mod sets;
mod table;

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rtm_image::{Answer, Reader};

use self::external::Program;
use self::sets::{Family, Line, Set};
use self::table::{Flat, Image, Neighbours, hop};
use crate::harness::rounds::{
    Contender, Figure, Figures, Goal, Measure, Outcome, Plan, Sample, Unit, run,
};
use crate::harness::worker::Worker;
use crate::setup::Setup;

/// How long one sample looks up.
const SAMPLE: Duration = Duration::from_millis(50);
/// Lookups between two looks at the clock.
const CHUNK: usize = 1 << 14;
/// Addresses of a batch.
const BATCH: usize = 16;
/// Random changes of one sample, for those who take hundreds of thousands a second.
const CHANGES: usize = 100_000;
/// And for those who take thousands.
const CHANGES_SLOW: usize = 500;

/// The widest prefixes, and what each alone is around in the real table.
pub(crate) const WIDEST: [(&str, &str); 3] =
    [("0.0.0.0/0", "240.0.0.1"), ("::/0", "4000::1"), ("11.0.0.0/8", "11.255.255.1")];
/// How often each is changed.
pub(crate) const WIDEST_CHANGES: u32 = 1_000;

/// Runs all measures.
pub(crate) fn measure(
    setup: &Setup,
    plan: Plan,
    done: &mut dyn FnMut(Outcome) -> Result<()>,
) -> Result<()> {
    for family in [Family::V4, Family::V6] {
        one_family(setup, family, plan, done)?;
    }
    if setup.wants("rtm") {
        done(neighbours(plan)?)?;
    }
    Ok(())
}

fn one_family(
    setup: &Setup,
    family: Family,
    plan: Plan,
    done: &mut dyn FnMut(Outcome) -> Result<()>,
) -> Result<()> {
    let lines = sets::lines(family, setup.routes()?);
    let sets = sets::sets(family, &lines);
    let directory = sets::write(setup.directory(), family, &lines, &sets)?;
    let directory = crate::rtm::text(&directory)?;
    // The programs build their structures while ours are built.
    let dpdk = match family {
        Family::V4 => ["rte_lpm", "rte_fib"],
        Family::V6 => ["rte_lpm6", "rte_fib6"],
    };
    let mut programs = rivals(setup, family, &dpdk, &directory)?;
    let mut admin = None;
    if setup.wants("kernel") {
        let routes = setup.routes_max().map_or("all".to_owned(), |max| max.to_string());
        let data = crate::rtm::text(setup.data())?;
        let worker = Worker::start(&["kernel-admin", &data, &routes, "kernel", "loaded"])?;
        let pid = worker.pid().to_string();
        let arguments = ["role", "kernel-lookup", &pid, &directory, family.name()];
        programs.push(Program::start(
            "kernel",
            setup.directory(),
            &std::env::current_exe()?,
            &arguments,
        )?);
        admin = Some(worker);
    }
    let ours = setup.wants("rtm").then(|| Ours::new(family, &lines)).transpose()?;
    let flat = (family == Family::V4 && setup.wants("flat")).then(|| Rc::new(Flat::new(&lines)));
    let mut ready = Vec::new();
    for mut program in programs {
        program.ready()?;
        for set in &sets {
            program.check(set.name)?;
        }
        ready.push(Rc::new(RefCell::new(program)));
    }
    // Before anything is changed.
    for set in &sets {
        if let Some(ours) = &ours {
            ours.check(set)?;
        }
        for (address, answer) in set.addresses.iter().zip(&set.answers) {
            let found = flat.as_ref().map_or(*answer, |flat| flat.find(*address as u32));
            ensure!(found == *answer, "flat: {address:x}: {found} instead of {answer}");
        }
    }
    for (which, set) in sets.iter().enumerate() {
        for batch in [false, true] {
            let addresses = Rc::new(Addresses::of(family, set));
            let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
            let mut add = |name: &str, how: How| {
                let (name, addresses) = (name.to_owned(), Rc::clone(&addresses));
                contenders.push(Box::new(Lookups { name, addresses, batch, how }));
            };
            if let Some(ours) = &ours {
                add("rtm", How::Checked(Rc::clone(ours)));
                add("rtm, unvalidated", How::Unchecked(Rc::clone(ours)));
                add("rtm, live", How::Live(Rc::clone(ours)));
            }
            if let Some(flat) = &flat {
                add("flat 24-8", How::Flat(Rc::clone(flat)));
            }
            for program in &ready {
                let name = program.borrow().name().to_owned();
                // Crates and kernel have no call for many.
                if !batch || name.starts_with("rte_") {
                    add(&name, How::Program(Rc::clone(program), set.name));
                }
            }
            if contenders.is_empty() {
                continue;
            }
            let goals = goals(&contenders, family, batch, which);
            let what = if batch { "batches of 16" } else { "single" };
            let measure = Measure {
                bench: "lookup".to_owned(),
                variant: format!("{}, {what}, {}", family.name(), set.what),
                unit: Unit::LookupsPerSecond,
                subject: "rtm".to_owned(),
                goals,
            };
            done(run(measure, &mut contenders, plan)?)?;
        }
    }
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    if let Some(ours) = &ours {
        contenders
            .push(Box::new(Changes { name: "rtm".to_owned(), of: Changed::Ours(Rc::clone(ours)) }));
    }
    for program in &ready {
        let name = program.borrow().name().to_owned();
        if name != "kernel" {
            contenders.push(Box::new(Changes { name, of: Changed::Program(Rc::clone(program)) }));
        }
    }
    if !contenders.is_empty() {
        let measure = Measure {
            bench: "lookup".to_owned(),
            variant: format!("{}, other next hops for random routes", family.name()),
            unit: Unit::ChangesPerSecond,
            subject: "rtm".to_owned(),
            goals: Vec::new(),
        };
        // They differ by a factor of a thousand: a few pairs do.
        let plan = Plan { pairs: plan.pairs.min(6), ..plan };
        done(run(measure, &mut contenders, plan)?)?;
    }
    drop(ready);
    drop(admin);
    Ok(())
}

/// What is asked of us: ahead of everybody, with a margin where the issue has one.
fn goals(
    contenders: &[Box<dyn Contender>],
    family: Family,
    batch: bool,
    which: usize,
) -> Vec<Goal> {
    let at_least = |name: &str| match name {
        "rtm, unvalidated" if batch => 0.95,
        "rtm, unvalidated" => 0.8,
        "flat 24-8" if !batch && family == Family::V4 => [1.2, 1.0, 0.85][which],
        _ => 1.0,
    };
    contenders
        .iter()
        .map(|contender| contender.name())
        .filter(|name| !matches!(*name, "rtm" | "rtm, live"))
        .filter(|name| !(batch && *name == "flat 24-8"))
        .map(|name| Goal { rival: name.to_owned(), at_least: at_least(name) })
        .collect()
}

/// Our image, mapped.
struct Ours {
    family: Family,
    image: Image,
    reader: Reader,
}

impl Ours {
    fn new(family: Family, lines: &[Line]) -> Result<Rc<Self>> {
        let image = Image::new(&[(family, lines)])?;
        let reader = image.attach()?;
        Ok(Rc::new(Self { family, image, reader }))
    }

    fn check(&self, set: &Set) -> Result<()> {
        let mut answers = [None; BATCH];
        for (addresses, right) in set.addresses.chunks(BATCH).zip(set.answers.chunks(BATCH)) {
            match self.family {
                Family::V4 => {
                    let addresses: Vec<u32> = addresses.iter().map(|a| *a as u32).collect();
                    self.reader.lookup4_batch(&addresses, &mut answers[..right.len()])?;
                }
                Family::V6 => self.reader.lookup6_batch(addresses, &mut answers[..right.len()])?,
            }
            for ((address, right), batched) in addresses.iter().zip(right).zip(answers) {
                let alone = match self.family {
                    Family::V4 => self.reader.lookup4((*address as u32).into())?,
                    Family::V6 => self.reader.lookup6((*address).into())?,
                };
                ensure!(
                    hop(alone) == *right && hop(batched) == *right,
                    "rtm: {address:x}: {alone:?} and {batched:?} instead of {right}"
                );
            }
        }
        Ok(())
    }
}

/// A set as it is looked up.
enum Addresses {
    V4(Vec<u32>),
    V6(Vec<u128>),
}

impl Addresses {
    fn of(family: Family, set: &Set) -> Self {
        match family {
            Family::V4 => Self::V4(set.addresses.iter().map(|a| *a as u32).collect()),
            Family::V6 => Self::V6(set.addresses.clone()),
        }
    }
}

enum How {
    Checked(Rc<Ours>),
    Unchecked(Rc<Ours>),
    Live(Rc<Ours>),
    Flat(Rc<Flat>),
    Program(Rc<RefCell<Program>>, &'static str),
}

struct Lookups {
    name: String,
    addresses: Rc<Addresses>,
    batch: bool,
    how: How,
}

impl Contender for Lookups {
    fn name(&self) -> &str {
        &self.name
    }

    fn sample(&mut self, _round: u64) -> Result<Sample> {
        let value = match &self.how {
            How::Checked(ours) => self.ours(&ours.reader, false)?,
            How::Unchecked(ours) => {
                ours.reader.lookup4([0; 4].into())?; // Has seen the newest version.
                self.ours(&ours.reader, true)?
            }
            How::Live(ours) => ours.image.while_live(|| self.ours(&ours.reader, false))??,
            How::Flat(flat) => match &*self.addresses {
                Addresses::V4(addresses) => {
                    rate(addresses, |chunk| chunk.iter().map(|a| u64::from(flat.find(*a))).sum())
                }
                Addresses::V6(_) => 0.0,
            },
            How::Program(program, set) => {
                let how = if self.batch { "batch" } else { "single" };
                program.borrow_mut().rate(&format!("{how} {set} {}", SAMPLE.as_millis()))?
            }
        };
        Ok(Sample { value, lost: 0 })
    }
}

impl Lookups {
    /// Each way is a loop of its own, so that no choice is in it.
    fn ours(&self, reader: &Reader, unchecked: bool) -> Result<f64> {
        let sum = |answers: &[Option<Answer>]| {
            answers.iter().map(|answer| u64::from(hop(*answer))).sum::<u64>()
        };
        let mut answers = [None; BATCH];
        match (&*self.addresses, self.batch, unchecked) {
            (Addresses::V4(all), false, false) => in_a_row(reader, all),
            (Addresses::V4(all), false, true) => in_a_row_unvalidated(reader, all),
            (Addresses::V6(all), false, false) => singles(all, |a| reader.lookup6(a.into())),
            (Addresses::V6(all), false, true) => singles(all, |a| reader.unvalidated6(a.into())),
            (Addresses::V4(all), true, false) => batches(all, |chunk| {
                reader.lookup4_batch(chunk, &mut answers)?;
                Ok(sum(&answers))
            }),
            (Addresses::V4(all), true, true) => batches(all, |chunk| {
                reader.unvalidated4_batch(chunk, &mut answers)?;
                Ok(sum(&answers))
            }),
            (Addresses::V6(all), true, false) => batches(all, |chunk| {
                reader.lookup6_batch(chunk, &mut answers)?;
                Ok(sum(&answers))
            }),
            (Addresses::V6(all), true, true) => batches(all, |chunk| {
                reader.unvalidated6_batch(chunk, &mut answers)?;
                Ok(sum(&answers))
            }),
        }
    }
}

/// Goes through the set until the time is over: lookups a second.
#[inline(always)]
fn rate<A>(addresses: &[A], mut chunk_of: impl FnMut(&[A]) -> u64) -> f64 {
    let (begun, mut lookups, mut sum) = (Instant::now(), 0, 0_u64);
    for chunk in addresses.chunks_exact(CHUNK).cycle() {
        sum = sum.wrapping_add(chunk_of(chunk));
        lookups += chunk.len();
        if begun.elapsed() >= SAMPLE {
            break;
        }
    }
    black_box(sum);
    lookups as f64 / begun.elapsed().as_secs_f64()
}

/// The same by a lookup that may be busy, one by one, as its callers do: `?`.
#[inline(always)]
fn singles<A: Copy>(
    addresses: &[A],
    mut lookup: impl FnMut(A) -> Result<Option<Answer>, rtm_image::Busy>,
) -> Result<f64> {
    pieces(addresses, |chunk| {
        let mut sum = 0;
        for address in chunk {
            sum += u64::from(hop(lookup(*address)?));
        }
        Ok(sum)
    })
}

/// Lookups as a caller's own loop makes them: nobody else's variables are in its registers.
#[inline(never)]
fn in_a_row(reader: &Reader, addresses: &[u32]) -> Result<f64> {
    let mut lookups = reader.lookups4();
    singles(addresses, |address| lookups.lookup(address.into()))
}

#[inline(never)]
fn in_a_row_unvalidated(reader: &Reader, addresses: &[u32]) -> Result<f64> {
    let mut lookups = reader.lookups4();
    singles(addresses, |address| lookups.unvalidated(address.into()))
}

/// As [`singles`], in batches.
#[inline(always)]
fn batches<A>(
    addresses: &[A],
    mut batch_of: impl FnMut(&[A]) -> Result<u64, rtm_image::Busy>,
) -> Result<f64> {
    pieces(addresses, |chunk| {
        let mut sum = 0;
        for batch in chunk.chunks_exact(BATCH) {
            sum += batch_of(batch)?;
        }
        Ok(sum)
    })
}

/// [`rate`], of what may fail.
#[inline(always)]
fn pieces<A>(
    addresses: &[A],
    mut chunk_of: impl FnMut(&[A]) -> Result<u64, rtm_image::Busy>,
) -> Result<f64> {
    let mut failed = None;
    let value = rate(addresses, |chunk| {
        chunk_of(chunk).unwrap_or_else(|busy| {
            failed = Some(busy);
            0
        })
    });
    failed.map_or(Ok(value), |busy| Err(busy.into()))
}

enum Changed {
    Ours(Rc<Ours>),
    Program(Rc<RefCell<Program>>),
}

struct Changes {
    name: String,
    of: Changed,
}

impl Contender for Changes {
    fn name(&self) -> &str {
        &self.name
    }

    fn sample(&mut self, round: u64) -> Result<Sample> {
        let value = match &self.of {
            Changed::Ours(ours) => {
                CHANGES as f64 / ours.image.change(CHANGES, round)?.as_secs_f64()
            }
            Changed::Program(program) => {
                let slow = matches!(self.name.as_str(), "rte_lpm" | "rte_lpm6" | "poptrie");
                let count = if slow { CHANGES_SLOW } else { CHANGES };
                program.borrow_mut().rate(&format!("change {count} {round}"))?
            }
        };
        Ok(Sample { value, lost: 0 })
    }
}

/// Neighbours by address and link, beside the least that could be called a table.
fn neighbours(plan: Plan) -> Result<Outcome> {
    let all = Rc::new(Neighbours::new()?);
    for key in &all.keys {
        ensure!(all.ours(*key) == all.bare(*key) && all.bare(*key) != 0, "neighbour {key:?}");
    }
    struct Neighbour(bool, Rc<Neighbours>);
    impl Contender for Neighbour {
        fn name(&self) -> &str {
            if self.0 { "rtm" } else { "bare table" }
        }

        fn sample(&mut self, _round: u64) -> Result<Sample> {
            let all = &*self.1;
            let value = if self.0 {
                rate(&all.keys, |keys| keys.iter().map(|key| all.ours(*key)).sum())
            } else {
                rate(&all.keys, |keys| keys.iter().map(|key| all.bare(*key)).sum())
            };
            Ok(Sample { value, lost: 0 })
        }
    }
    let mut contenders: Vec<Box<dyn Contender>> = vec![
        Box::new(Neighbour(true, Rc::clone(&all))),
        Box::new(Neighbour(false, Rc::clone(&all))),
    ];
    let measure = Measure {
        bench: "lookup".to_owned(),
        variant: "MAC address of one of 100,000 neighbours, by address and link".to_owned(),
        unit: Unit::LookupsPerSecond,
        subject: "rtm".to_owned(),
        goals: vec![Goal { rival: "bare table".to_owned(), at_least: 0.6 }],
    };
    run(measure, &mut contenders, plan)
}

/// What the image needs, and attaching: no rivals.
pub(crate) fn figures(setup: &Setup) -> Result<Figures> {
    let v4 = sets::lines(Family::V4, setup.routes()?);
    let v6 = sets::lines(Family::V6, setup.routes()?);
    let mut rows = Vec::new();
    let tables: [(&str, &[Line], &[Line]); 3] = [
        ("an empty table", &[], &[]),
        ("100,000 routes", &v4[..v4.len().min(100_000)], &[]),
        ("the full table", &v4, &v6),
    ];
    let mut full = None;
    for (what, v4, v6) in tables {
        let image = Image::new(&[(Family::V4, v4), (Family::V6, v6)])?;
        let mut times: Vec<u64> = (0..200)
            .map(|_| {
                let begun = Instant::now();
                let reader = image.attach()?;
                black_box(reader.lookup4([192, 0, 2, 1].into())?);
                Ok(begun.elapsed().as_nanos() as u64)
            })
            .collect::<Result<_>>()?;
        let median = crate::harness::stats::quantile(&mut times, 0.5).unwrap_or(0);
        let what = format!("attach and one lookup, {what}");
        rows.push(Figure::nanoseconds(&what, median, Some(1_000_000)));
        full = Some(image);
    }
    let Some(image) = full else { unreachable!("three tables") };
    let routes = (v4.len() + v6.len()) as u64;
    {
        let writer = image.writer();
        let status = writer.status();
        let lookup = |family| writer.lookup_bytes(rtm_model::TABLE_MAIN, family);
        let (four, six) = (lookup(rtm_model::Family::V4), lookup(rtm_model::Family::V6));
        rows.push(Figure::bytes("longest-prefix structure, IPv4", four, Some(8_000_000)));
        rows.push(Figure::bytes("longest-prefix structure, IPv6", six, Some(7_000_000)));
        let entries = (status.usage.used - four - six) / routes;
        rows.push(Figure::bytes("entries, per route", entries, Some(48)));
        rows.push(Figure::bytes(
            "the whole object, ring and free space included",
            status.bytes,
            Some(128_000_000),
        ));
    }
    let flat = Flat::new(&v4).bytes();
    rows.push(Figure::bytes("for comparison: a flat table of 24 and 8 bits", flat, None));
    for (family, lines) in [(Family::V4, &v4), (Family::V6, &v6)] {
        for row in program_bytes(setup, family, lines)? {
            rows.push(row);
        }
    }
    let mut rates: Vec<u64> = (0..10)
        .map(|round| Ok((CHANGES as f64 / image.change(CHANGES, round)?.as_secs_f64()) as u64))
        .collect::<Result<_>>()?;
    let rate = crate::harness::stats::quantile(&mut rates, 0.5).unwrap_or(0);
    rows.push(Figure::changes(
        "changes published, in turns of 1,000, by the writer alone",
        rate,
        Some(1_000_000),
    ));
    let longest = |what: &str, time: Duration| {
        let what = format!("loading the full table in turns of 1,000: {what}");
        Figure::nanoseconds(&what, time.as_nanos() as u64, None)
    };
    rows.push(longest("the longest turn", image.turns.others));
    rows.push(longest("the longest while the object grows", image.turns.growing));
    rows.push(longest("the one that makes a wide root", image.turns.widening));
    for (prefix, address) in WIDEST {
        let (prefix, address) = (prefix.parse()?, address.parse()?);
        let mut times = image.seen_after(prefix, address, WIDEST_CHANGES)?;
        let median = crate::harness::stats::quantile(&mut times, 0.5).unwrap_or(0);
        let what = format!("{prefix} changed at the full table, until a reader sees it");
        rows.push(Figure::nanoseconds(&what, median, Some(5_000_000)));
        let longest = times.iter().copied().max().unwrap_or(0);
        let what = format!("the same, the longest of {WIDEST_CHANGES}");
        rows.push(Figure::nanoseconds(&what, longest, Some(5_000_000)));
    }
    daemon::figures(setup, &mut rows)?;
    Ok(Figures {
        bench: "image".to_owned(),
        variant: "the tables in shared memory".to_owned(),
        rows,
    })
}

/// Starts DPDK's structures of these names, and the crates', over the sets in
/// `directory`.
fn rivals(setup: &Setup, family: Family, dpdk: &[&str], directory: &str) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    if setup.wants("dpdk") {
        let program = external::dpdk(setup.directory())?;
        for kind in dpdk {
            programs.push(Program::start(kind, setup.directory(), &program, &[kind, directory])?);
        }
    }
    if setup.wants("crates") {
        let (program, number) = (external::crates(), if family == Family::V4 { "4" } else { "6" });
        for kind in ["prefix-trie", "iptrie", "treebitmap", "poptrie"] {
            let arguments = [kind, number, directory];
            programs.push(Program::start(kind, setup.directory(), &program, &arguments)?);
        }
    }
    Ok(programs)
}

/// What the rivals' structures take.
fn program_bytes(setup: &Setup, family: Family, lines: &[Line]) -> Result<Vec<Figure>> {
    let directory = sets::write(setup.directory(), family, lines, &[])?;
    let directory = crate::rtm::text(&directory)?;
    // rte_lpm takes nearly a minute to build and has its size by its type.
    let dpdk = if family == Family::V4 { "rte_fib" } else { "rte_fib6" };
    let programs = rivals(setup, family, &[dpdk], &directory)?;
    let mut rows = Vec::new();
    for mut program in programs {
        program.ready()?;
        let what = format!("for comparison: {}, {}", program.name(), family.name());
        rows.push(Figure::bytes(&what, program.bytes()?, None));
    }
    Ok(rows)
}
