//! Several processes add to one number in shared memory: each reads it, is
//! interrupted, and writes it back plus one. Without mutual exclusion updates
//! get lost; with each kind of it, none. And an owner of the robust mutex that
//! is killed while it holds it.
use core::sync::atomic::Ordering;
use core::time::Duration;

use clap::{Args, ValueEnum};
use ipc::map::MapMut;
use ipc::mutex::RobustMutex;
use ipc::sem::{self, Named, Shared};
use ipc::shm::{self, Access, Object};
use ipc::sysv::{
    self,
    set::{Change, Set},
};
use ipc::timer::Wait;
use ipc::{futex, lock};

use super::{Started, ourselves};
use crate::argument::uninterrupted;
use crate::failure::{Failure, line, refused};

#[derive(Args)]
pub(crate) struct LostUpdate {
    /// How many processes write
    #[arg(long, value_name = "N", default_value = "4")]
    writers: u32,
    /// How often each adds one
    #[arg(long, value_name = "N", default_value = "2000")]
    updates: u64,
    /// One writer's part
    #[arg(long, hide = true, requires = "names")]
    part: Option<Kind>,
    /// The objects' names
    #[arg(long, hide = true)]
    names: Option<String>,
    /// The set's id
    #[arg(long, hide = true, default_value = "0")]
    set: i32,
}

/// What keeps the writers apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Nothing,
    NamedSemaphore,
    SegmentSemaphore,
    SystemVSemaphore,
    RobustMutex,
    LockFile,
    /// Takes the mutex and waits to be killed.
    Dying,
}

const AT_NUMBER: usize = 0;
const AT_SEMAPHORE: usize = 64;
const AT_MUTEX: usize = 128;
/// Set by the one that is to be killed.
const AT_TAKEN: usize = 192;
/// How many writers stand at the gate, and the gate: 1 when it is open.
const AT_READY: usize = 256;
const AT_GATE: usize = 260;
const BYTES: usize = 4096;
/// Every so many updates a writer is interrupted in the middle, for so long:
/// often enough that updates get lost on an idle machine, too.
const INTERRUPTED_EACH: u64 = 50;
const INTERRUPTION: Duration = Duration::from_micros(200);
/// How often it is looked whether a writer has failed before the gate.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What the run makes, removed at its end.
struct Objects {
    name: String,
    set: Set,
}

impl Drop for Objects {
    fn drop(&mut self) {
        let _ = shm::remove(&self.name);
        let _ = sem::remove(&self.name);
        let _ = self.set.remove();
        let _ = std::fs::remove_file(lock_path(&self.name));
    }
}

fn lock_path(name: &str) -> String {
    format!("{}{name}.lock", std::env::temp_dir().display())
}

fn segment(name: &str) -> Result<MapMut, Failure> {
    Ok(MapMut::of(Object::open(name, Access::ReadWrite)?, BYTES)?)
}

pub(super) fn run(show: &LostUpdate) -> Result<(), Failure> {
    if let (Some(kind), Some(names)) = (show.part, &show.names) {
        return part(kind, names, Set::from_id(show.set), show.updates);
    }
    let name = format!("/ipc-lost-update-{}", std::process::id());
    let set = Set::create(sysv::Key::Private, 1, &sysv::Options::default())?;
    let objects = Objects { name: name.clone(), set };
    set.set_value(0, 1)?;
    let options = shm::Options { size: BYTES as u64, exclusive: true, ..Default::default() };
    Object::create(&name, &options)?;
    Named::create(&name, &sem::Options { value: 1, exclusive: true, ..Default::default() })?;
    let map = segment(&name)?;
    Shared::init(&map, AT_SEMAPHORE, 1)?;
    RobustMutex::init(&map, AT_MUTEX)?;

    let wanted = u64::from(show.writers) * show.updates;
    for (kind, said) in [
        (Kind::Nothing, "without mutual exclusion"),
        (Kind::NamedSemaphore, "named semaphore"),
        (Kind::SegmentSemaphore, "semaphore in the segment"),
        (Kind::SystemVSemaphore, "System V semaphore"),
        (Kind::RobustMutex, "robust mutex in the segment"),
        (Kind::LockFile, "lock file"),
    ] {
        map.store_u64(AT_NUMBER, 0, Ordering::Release);
        map.store_u32(AT_READY, 0, Ordering::Release);
        map.store_u32(AT_GATE, 0, Ordering::Release);
        let mut writers = (0..show.writers)
            .map(|_| start(kind, show, &objects))
            .collect::<Result<Vec<_>, _>>()?;
        open_gate(&map, &mut writers)?;
        for writer in writers {
            writer.end()?;
        }
        let number = map.load_u64(AT_NUMBER, Ordering::Acquire);
        line(format!("{said}: {number} of {wanted} updates, {} lost", wanted - number))?;
    }

    let dying = start(Kind::Dying, show, &objects)?;
    while map.load_u32(AT_TAKEN, Ordering::Acquire) == 0 {
        futex::wait(&map, AT_TAKEN, 0, None)?;
    }
    drop(dying); // kills it
    let mutex = RobustMutex::at(&map, AT_MUTEX);
    let died = mutex.with(Wait::FOREVER, |held| {
        let died = held.owner_died();
        held.repaired();
        died
    })?;
    let healed = mutex.with(Wait::No, |held| !held.owner_died())?;
    if !(died && healed) {
        return Err(Failure::refused("the robust mutex was not healed"));
    }
    line("robust mutex, its owner killed: the next one was told, and has healed it")
}

/// Lets the writers go when all stand at the gate: else on a fast machine one
/// is done before the next begins. One that has failed isn't waited for.
fn open_gate(map: &MapMut, writers: &mut [Started]) -> Result<(), Failure> {
    loop {
        let ready = map.load_u32(AT_READY, Ordering::Acquire);
        let failed = writers.iter_mut().any(|writer| !matches!(writer.0.try_wait(), Ok(None)));
        if ready as usize == writers.len() || failed {
            break;
        }
        futex::wait(map, AT_READY, ready, Some(LOOK_AGAIN))?;
    }
    map.store_u32(AT_GATE, 1, Ordering::Release);
    futex::wake(map, AT_GATE, u32::MAX)?;
    Ok(())
}

fn start(kind: Kind, show: &LostUpdate, objects: &Objects) -> Result<Started, Failure> {
    let kind = kind.to_possible_value().expect("none is skipped");
    let (updates, set) = (show.updates.to_string(), objects.set.id().to_string());
    let arguments = [
        "lost-update",
        "--part",
        kind.get_name(),
        "--names",
        &objects.name,
        "--set",
        &set,
        "--updates",
        &updates,
    ];
    let child = ourselves(&arguments)?.spawn().map_err(refused("a writer"))?;
    Ok(Started(child))
}

/// Reads, is interrupted now and then, writes back plus one: what mutual
/// exclusion is for.
fn update(map: &MapMut, turn: u64) {
    let number = map.load_u64(AT_NUMBER, Ordering::Relaxed);
    if turn % INTERRUPTED_EACH == 0 {
        std::thread::sleep(INTERRUPTION);
    }
    map.store_u64(AT_NUMBER, number + 1, Ordering::Relaxed);
}

fn part(kind: Kind, name: &str, set: Set, updates: u64) -> Result<(), Failure> {
    let map = segment(name)?;
    let shared = Shared::at(&map, AT_SEMAPHORE);
    let mutex = RobustMutex::at(&map, AT_MUTEX);
    let named = Named::open(name)?;
    if kind != Kind::Dying {
        map.fetch_add_u32(AT_READY, 1, Ordering::AcqRel);
        futex::wake(&map, AT_READY, u32::MAX)?;
        while map.load_u32(AT_GATE, Ordering::Acquire) == 0 {
            futex::wait(&map, AT_GATE, 0, None)?;
        }
    }
    for turn in 0..updates {
        let update = |map| update(map, turn);
        match kind {
            Kind::Nothing => update(&map),
            Kind::NamedSemaphore => {
                uninterrupted(|| named.wait(Wait::FOREVER))?;
                update(&map);
                named.post()?;
            }
            Kind::SegmentSemaphore => {
                uninterrupted(|| shared.wait(Wait::FOREVER))?;
                update(&map);
                shared.post()?;
            }
            Kind::SystemVSemaphore => {
                let take = Change::by(0, -1).undone_at_exit();
                uninterrupted(|| set.change(&[take], Wait::FOREVER))?;
                update(&map);
                set.change(&[Change { by: 1, ..take }], Wait::FOREVER)?;
            }
            Kind::RobustMutex => mutex.with(Wait::FOREVER, |_| update(&map))?,
            Kind::LockFile => loop {
                match lock::LockFile::acquire(lock_path(name)) {
                    Ok(_held) => break update(&map),
                    Err(lock::Error::Held { .. }) => std::thread::yield_now(),
                    Err(error) => return Err(error.into()),
                }
            },
            Kind::Dying => {
                return Ok(mutex.with(Wait::FOREVER, |_| {
                    map.store_u32(AT_TAKEN, 1, Ordering::Release);
                    let _ = futex::wake(&map, AT_TAKEN, u32::MAX);
                    loop {
                        std::thread::park();
                    }
                })?);
            }
        }
    }
    Ok(())
}
