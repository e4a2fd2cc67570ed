//! The writer may die at any store. First every single one, in this process:
//! before each store of a scripted run everything is compared through a reader
//! (memory stopped there is what a killed writer leaves). Then for real: a
//! process that kills itself by SIGKILL at the k-th store.
//!
//! There are two scripts: small changes of everything, where each store is looked
//! at; and table main as it becomes so large that it has a wide root, and small
//! again. Making a wide root takes four hundred thousand stores that nobody sees,
//! each like the one before. So there the *moments* are looked at: all stores into
//! the header, the first ones of each change and each commit, and some of the
//! others.
//!
//! RTM_IMAGE_KILLS: how many such processes of each script (100); `all`: one for each
//! store of the first, 5,000 of the second, whose stores are then all looked at in this
//! process.

mod support;

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use rtm_image::words::{Words, WordsMut};
use rtm_image::{Full, Memory, Object, Reader, Settings, Writer, WriterState};
use rtm_model::{Entity, EntityKey, Family, GroupId, Prefix, RouteKey, TABLE_MAIN, mask};
use support::{Mix, Model, Op, Random, addresses, digests, op, set_route, write};

/// Set for the process that is to die: which script, and at which moment (0: never).
const KILL_AT: &str = "RTM_IMAGE_KILL_AT";
const STEPS: u64 = 30;
/// Words of the header: roots, and what says which is visible.
const HEADER_WORDS: usize = 512;
/// Stores of a batch of changes or a commit that are all moments.
const MOMENTS: u64 = 2000;
/// One of so many others is one, too.
const MOMENTS_APART: u64 = 997;

/// An object whose stores are told to somebody first.
struct Watched {
    object: Object,
    watch: Rc<dyn Fn(&Watch<'_>)>,
}

enum Watch<'a> {
    /// Into this word.
    Store(usize),
    /// A successor was made (and is not yet part of anything).
    Made(&'a Object),
}

impl Words for Watched {
    fn len(&self) -> usize {
        self.object.len()
    }

    fn load(&self, at: usize, order: Ordering) -> u64 {
        self.object.load(at, order)
    }

    fn fence(&self, order: Ordering) {
        self.object.fence(order);
    }
}

impl WordsMut for Watched {
    fn store(&self, at: usize, value: u64, order: Ordering) {
        (self.watch)(&Watch::Store(at));
        self.object.store(at, value, order);
    }
}

impl Memory for Watched {
    fn successor(&self, bytes: u64) -> Result<Watched, Full> {
        let object = self.object.successor(bytes)?;
        (self.watch)(&Watch::Made(&object));
        Ok(Watched { object, watch: self.watch.clone() })
    }

    fn allocate(&self, from: u64, bytes: u64) -> Result<(), Full> {
        self.object.allocate(from, bytes)
    }

    fn wake(&self) -> usize {
        self.object.wake()
    }
}

/// A scripted run: what each transaction does, and what is there after it.
struct Script {
    settings: Settings,
    steps: Vec<Step>,
    tables: &'static [u32],
    /// Every store is a moment.
    is_fine: bool,
}

struct Step {
    ops: Vec<Op>,
    model: Model,
    /// What lookups in table main find.
    finds: Vec<(IpAddr, Option<GroupId>)>,
}

impl Script {
    /// `which`: "small" or "wide".
    fn named(which: &str) -> Script {
        match which {
            "small" => small_changes(),
            "wide" => wide_root(1024, 40, 20_000),
            which => panic!("{which}: no such script"),
        }
    }
}

fn small_changes() -> Script {
    let mut random = Random(11);
    let mut model = Model::default();
    let mut steps = Vec::new();
    for step in 0..STEPS {
        let mix =
            Mix { tables: &[254, 9], groups: 5, deletes: if step % 10 < 7 { 150 } else { 700 } };
        let mut ops = Vec::new();
        for _ in 0..1 + random.below(6) {
            let op = match random.below(60) {
                0 => Op::Flush { routes: true, neighbours: false },
                _ => op(&mut random, &model, mix),
            };
            model.apply(&op);
            ops.push(op);
        }
        steps.push(Step { ops, model: model.clone(), finds: Vec::new() });
    }
    let settings =
        Settings { bytes: 1 << 16, ring_bytes: 1 << 12, epoch: 7, ..Settings::default() };
    Script { settings, steps, tables: &[254, 9], is_fine: true }
}

/// Table main gets a wide root (at `prefixes` prefixes), is changed under it, loses it,
/// becomes small, and all of it again; with `widest` changes of prefixes of eight bits in
/// one transaction, of which forty are more than a wide root notes singly.
fn wide_root(prefixes: usize, widest: u32, seed: u64) -> Script {
    const GROUPS: u64 = 9;
    let mut random = Random(seed);
    let (mut model, mut steps) = (Model::default(), Vec::new());
    let mut ops: Vec<Op> = (1..=GROUPS as u32)
        .map(|id| Op::Set(Entity::Group(support::group(&mut random, id))))
        .collect();
    ops.iter().for_each(|op| model.apply(op));
    let some = |random: &mut Random| {
        // They lie in each other, and beside each other.
        let bits = u128::from(random.next() & !(0x3c << 58) | 0x08 << 58) << 64;
        let len = [8, 12, 17, 18, 19, 22, 24, 24, 24, 24, 25, 30, 32][random.below(13) as usize];
        Prefix::from_bits(Family::V4, bits & mask(len), len).unwrap()
    };
    let known = |random: &mut Random, model: &Model| {
        let from = RouteKey::main(some(random));
        let found = model.routes.range(from..).next().or(model.routes.first_key_value());
        *found.expect("some are left").0
    };
    let mut push = |ops: &mut Vec<Op>, model: &Model, random: &mut Random| {
        let addresses = (0..60).map(|n| match n % 3 {
            0 => known(random, model).prefix.bits(),
            1 => known(random, model).prefix.bits() | u128::from(random.next()) << 96,
            _ => u128::from(random.next()) << 64,
        });
        let addresses: Vec<u32> = addresses.map(|bits| (bits >> 96) as u32).collect();
        let finds = addresses.into_iter().map(|address| (address, find(model, address)));
        let finds = finds.map(|(address, found)| (IpAddr::from(address.to_be_bytes()), found));
        let finds = finds.collect();
        steps.push(Step { ops: std::mem::take(ops), model: model.clone(), finds });
    };
    // Twice up and down: the second wide root is made of what was handed back.
    let targets = [prefixes * 3 / 8, prefixes * 3 / 4, prefixes + 20, prefixes / 4 - 5, 60];
    for (round, target) in (0..2).flat_map(|round| targets.map(|target| (round, target))) {
        while model.routes.len() != target {
            let op = if model.routes.len() < target {
                set_route(some(&mut random), 1 + random.below(GROUPS) as u32)
            } else {
                Op::Delete(EntityKey::Route(known(&mut random, &model)))
            };
            model.apply(&op);
            ops.push(op);
        }
        push(&mut ops, &model, &mut random);
        // Some of one change, some of a few.
        for step in 0..if target > prefixes { 8 } else { 2 } {
            for _ in 0..[1, 1, 3, 1, 12, 1, 1, 5][step] {
                let op = match random.below(3) {
                    0 => Op::Delete(EntityKey::Route(known(&mut random, &model))),
                    1 => set_route(some(&mut random), 1 + random.below(GROUPS) as u32),
                    _ => {
                        let prefix = known(&mut random, &model).prefix;
                        set_route(prefix, 1 + random.below(GROUPS) as u32)
                    }
                };
                model.apply(&op);
                ops.push(op);
            }
            if target > prefixes && step == 4 {
                // The whole array is brought over by the next two.
                for n in 0..widest {
                    let bits = u128::from(64 + n) << 120;
                    let prefix = Prefix::from_bits(Family::V4, bits, 8).unwrap();
                    let op = set_route(prefix, 1 + (round + n) % GROUPS as u32);
                    model.apply(&op);
                    ops.push(op);
                }
            }
            push(&mut ops, &model, &mut random);
        }
    }
    let settings = Settings {
        // It grows while it has a wide root.
        bytes: 4 << 20,
        ring_bytes: 1 << 12,
        epoch: 7,
        wide_prefixes: prefixes as u64,
        ..Settings::default()
    };
    Script { settings, steps, tables: &[TABLE_MAIN], is_fine: false }
}

/// The longest prefix around an address, length by length.
fn find(model: &Model, address: u32) -> Option<GroupId> {
    (0..=32_u8).rev().find_map(|len| {
        let bits = u128::from(address) << 96 & mask(len);
        let key = RouteKey::main(Prefix::from_bits(Family::V4, bits, len).unwrap());
        model.routes.get(&key).map(|value| value.group)
    })
}

/// Which stores are looked at.
#[derive(Clone, Default)]
struct Moments {
    is_fine: bool,
    /// Stores since the last change or commit began.
    within: Rc<Cell<u64>>,
    seen: Rc<Cell<u64>>,
}

impl Moments {
    fn of(script: &Script) -> Moments {
        Moments { is_fine: script.is_fine, ..Moments::default() }
    }

    /// A store into this word: is it one?
    fn next(&self, at: usize) -> bool {
        let within = self.within.get() + 1;
        self.within.set(within);
        let is_one =
            self.is_fine || at < HEADER_WORDS || within <= MOMENTS || within % MOMENTS_APART == 0;
        self.seen.set(self.seen.get() + u64::from(is_one));
        is_one
    }
}

fn run<M: Memory>(writer: &mut Writer<M>, script: &Script, moments: &Moments) {
    for (revision, step) in (1..).zip(&script.steps) {
        for op in &step.ops {
            moments.within.set(0);
            write(writer, op);
        }
        moments.within.set(0);
        writer.commit(7, revision, &digests(revision)).unwrap();
        writer.ring_append(&revision.to_le_bytes());
        writer.ring_publish();
    }
}

/// What is visible must be exactly some committed table, and that of its
/// revision.
fn compare(reader: &Reader, script: &Script) -> u64 {
    let revision = glance(reader, script, 0, usize::MAX);
    let empty = Model::default();
    let model = match revision {
        0 => &empty,
        revision => &script.steps[revision as usize - 1].model,
    };
    let mut random = Random(revision);
    // Naive: for one large table there is `finds`.
    let count = if model.routes.len() > 500 { 0 } else { 6 };
    let addresses = addresses(&mut random, model, count);
    model.compare(reader, &addresses, script.tables);
    revision
}

/// The revision that is visible, with some of what its lookups find.
fn glance(reader: &Reader, script: &Script, from: usize, count: usize) -> u64 {
    let state = reader.state().unwrap();
    assert_eq!((state.epoch, state.digests), (7, digests_of(state.revision)));
    if state.revision > 0 {
        let finds = &script.steps[state.revision as usize - 1].finds;
        for (address, expected) in finds.iter().cycle().skip(from % 64).take(count.min(finds.len()))
        {
            let found = reader.lookup(TABLE_MAIN, *address).unwrap();
            assert_eq!(found.map(|answer| answer.group()), *expected, "{address}");
        }
    }
    state.revision
}

fn digests_of(revision: u64) -> rtm_model::Digests {
    if revision == 0 { rtm_model::Digests::default() } else { digests(revision) }
}

fn attach(object: &Object) -> Reader {
    Reader::attach(object.descriptor().try_clone_to_owned().unwrap()).unwrap()
}

#[test]
fn stopped_before_every_store_the_last_commit_is_whole() {
    let (stores, moves) = stopped(Script::named("small"));
    assert!(stores > 5_000 && moves > 0, "the script reaches growth");
}

#[test]
fn and_while_the_root_becomes_wide_and_is_given_back() {
    let (stores, moves) = stopped(Script::named("wide"));
    assert!(stores > 800_000 && moves > 0, "the script reaches wide roots, and growth");
}

/// Where a table gets its wide root if nobody says otherwise.
#[test]
fn and_for_a_table_as_large_as_it_is_made_for() {
    let prefixes = Settings::default().wide_prefixes as usize;
    let (stores, moves) = stopped(wide_root(prefixes, 40, 20_001));
    assert!(stores > 800_000 && moves > 0, "the script reaches wide roots, and growth");
}

/// Runs a script and compares before its stores; returns how many there were, and
/// how many successors.
fn stopped(script: Script) -> (u64, u64) {
    let is_all = std::env::var("RTM_IMAGE_KILLS").is_ok_and(|kills| kills == "all");
    let script = Rc::new(script);
    let (settings, steps) = (script.settings, script.steps.len() as u64);
    let moments = Moments::of(&script);
    let object = Object::create(settings.bytes).unwrap();
    let descriptor = object.descriptor().try_clone_to_owned().unwrap();
    // The reader is attached once there is something to attach to, and follows
    // to the successor when the object says so.
    let reader: Rc<RefCell<Option<Reader>>> = Rc::default();
    let successors: Rc<RefCell<Vec<OwnedFd>>> = Rc::default();
    let (stores, seen) = (Rc::new(Cell::new(0_u64)), Rc::new(Cell::new(0_u64)));
    let moves = Rc::new(Cell::new(0_u64));
    let watch: Rc<dyn Fn(&Watch<'_>)> = {
        let (script, reader, stores, seen, moves, moments) = (
            script.clone(),
            reader.clone(),
            stores.clone(),
            seen.clone(),
            moves.clone(),
            moments.clone(),
        );
        Rc::new(move |watch| match watch {
            Watch::Made(object) => {
                successors.borrow_mut().push(object.descriptor().try_clone_to_owned().unwrap());
            }
            Watch::Store(at) => {
                stores.set(stores.get() + 1);
                let is_moment = moments.next(*at);
                let mut reader = reader.borrow_mut();
                let Some(current) = reader.as_ref() else { return };
                // Copying into a successor is most of all stores and changes
                // nothing that a reader sees: look at each hundredth of them.
                let is_copied =
                    stores.get() % 2 == 0 && successors.borrow().len() as u64 > moves.get();
                if script.is_fine && is_copied && stores.get() % 100 != 0 {
                    return;
                }
                if !is_moment && !is_all {
                    return;
                }
                // Of a large table all when it is new, else some.
                let count = if stores.get() % 64 == 0 { usize::MAX } else { 5 };
                let revision = match script.is_fine {
                    true => compare(current, &script),
                    false => match glance(current, &script, stores.get() as usize, count) {
                        revision if revision == seen.get() => revision,
                        _ => compare(current, &script),
                    },
                };
                assert!(revision == seen.get() || revision == seen.get() + 1);
                seen.set(revision);
                if *at >= HEADER_WORDS && !script.is_fine {
                    return;
                }
                if let WriterState::Moved { successor } = current.writer().unwrap() {
                    let next = successors
                        .borrow()
                        .iter()
                        .filter_map(|fd| Reader::attach(fd.try_clone().unwrap()).ok())
                        .find(|reader| reader.header().id == successor)
                        .expect("the successor was made");
                    *reader = Some(next);
                    moves.set(moves.get() + 1);
                }
            }
        })
    };
    let mut writer = Writer::new(Watched { object, watch }, &settings).unwrap();
    *reader.borrow_mut() = Some(Reader::attach(descriptor).unwrap());
    run(&mut writer, &script, &moments);
    println!(
        "{} stores, {} of them moments, {} successors",
        stores.get(),
        moments.seen.get(),
        moves.get()
    );
    assert!(seen.get() >= steps - 1);
    (stores.get(), moves.get())
}

/// Not a test: what the killed process runs. Its standard input is a socket.
#[test]
fn child_writer() {
    let Ok(kill_at) = std::env::var(KILL_AT) else { return };
    let (which, kill_at) = kill_at.split_once(' ').unwrap();
    let kill_at: u64 = kill_at.parse().unwrap();
    let script = Script::named(which);
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let send = |socket: &OwnedFd, object: &Object| {
        ipc::descriptors::send(socket, b"object", &[object.descriptor()]).unwrap();
    };
    let moments = Moments::of(&script);
    let watch: Rc<dyn Fn(&Watch<'_>)> = {
        let (moments, socket) = (moments.clone(), socket.try_clone().unwrap());
        Rc::new(move |watch| match watch {
            Watch::Made(object) => send(&socket, object),
            Watch::Store(at) => {
                if moments.next(*at) && moments.seen.get() == kill_at {
                    rustix::process::kill_process(
                        rustix::process::getpid(),
                        rustix::process::Signal::KILL,
                    )
                    .unwrap();
                    unreachable!("killed");
                }
            }
        })
    };
    let object = Object::create(script.settings.bytes).unwrap();
    send(&socket, &object);
    let mut writer = Writer::new(Watched { object, watch }, &script.settings).unwrap();
    run(&mut writer, &script, &moments);
    ipc::descriptors::send(&socket, &moments.seen.get().to_le_bytes(), &[]).unwrap();
}

/// Runs a child that dies at moment `kill_at` of a script; returns the objects that it
/// made and how many moments it saw, if it came to the end.
fn killed_at(which: &str, kill_at: u64) -> (Vec<OwnedFd>, Option<u64>) {
    let (ours, theirs) = ipc::unix::pair(ipc::unix::Kind::SeqPacket).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_writer", "--nocapture"])
        .env(KILL_AT, format!("{which} {kill_at}"))
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut objects, mut moments) = (Vec::new(), None);
    let mut buffer = [0; 64];
    // The command's copy of the socket is closed with it.
    loop {
        match ipc::descriptors::receive(&ours, &mut buffer, 1) {
            Ok(received) if received.bytes == 0 => break,
            Ok(received) if received.descriptors.is_empty() => {
                moments = Some(u64::from_le_bytes(buffer[..8].try_into().unwrap()));
            }
            Ok(received) => objects.extend(received.descriptors),
            Err(_) => break,
        }
    }
    let status = child.wait().unwrap();
    match moments {
        Some(_) => assert!(status.success()),
        None => assert_eq!(status.signal(), Some(9), "{status}"),
    }
    (objects, moments)
}

#[test]
fn killed_at_a_store_the_last_commit_is_whole() {
    kill_writers("small", |total| total);
}

#[test]
fn killed_while_the_root_is_wide_or_becomes_so() {
    kill_writers("wide", |_| 5_000);
}

/// `all` of how many moments: how many writers are killed if all is asked for.
fn kill_writers(which: &str, all: impl Fn(u64) -> u64) {
    let (_, total) = killed_at(which, 0);
    let total = total.expect("it came to the end");
    let wanted = std::env::var("RTM_IMAGE_KILLS").unwrap_or_else(|_| "100".to_owned());
    let kills =
        if wanted == "all" { all(total) } else { wanted.parse().expect("a number, or all") };
    let script = Script::named(which);
    let mut revisions = Vec::new();
    let mut random = Random(std::process::id().into());
    for n in 0..kills {
        let at = if kills == total { n + 1 } else { 1 + random.below(total) };
        let (objects, moments) = killed_at(which, at);
        if let Some(moments) = moments {
            // Its neighbours' hash has a key of its own, so no two runs store the
            // same number of words: this one ended before its turn came.
            assert!(moments < at, "killed at {at}, and yet it saw {moments} moments");
            continue;
        }
        let readers: Vec<Reader> =
            objects.into_iter().filter_map(|fd| Reader::attach(fd).ok()).collect();
        // Killed before anything was published: there is nothing to attach to.
        let Some(mut reader) = readers.first().cloned() else { continue };
        while let WriterState::Moved { successor } = reader.writer().unwrap() {
            reader = readers.iter().find(|r| r.header().id == successor).unwrap().clone();
        }
        assert_eq!(reader.writer().unwrap(), WriterState::Gone, "killed at {at}");
        revisions.push(compare(&reader, &script));
        assert_eq!((reader.repeats(), reader.busy()), (0, 0));
    }
    let seen = revisions.iter().collect::<std::collections::BTreeSet<_>>().len();
    println!(
        "{kills} writers killed at one of {total} moments; {seen} different revisions were left"
    );
    assert!(kills < 50 || seen > 1);
}

#[test]
fn the_end_in_order_is_told() {
    let (mut writer, reader) = support::image(Settings::default());
    assert_eq!(reader.writer().unwrap(), WriterState::Live);
    writer.close();
    assert_eq!(reader.writer().unwrap(), WriterState::Closed);
    let (writer, reader) = support::image(Settings::default());
    drop(writer);
    assert_eq!(reader.writer().unwrap(), WriterState::Gone);
    assert_eq!(reader.state().unwrap().revision, 0, "what was mapped stays");
    let (writer, _) = support::image(Settings::default());
    assert_eq!(attach(writer.memory()).writer().unwrap(), WriterState::Live);
}
