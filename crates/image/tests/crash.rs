//! The writer may die at any store. First every single one, in this process:
//! before each store of a scripted run everything is compared through a reader
//! (memory stopped there is what a killed writer leaves). Then for real: a
//! process that kills itself by SIGKILL at the k-th store.
//!
//! RTM_IMAGE_KILLS: how many such processes (100); `all`: one for each store.

mod support;

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use rtm_image::words::{Words, WordsMut};
use rtm_image::{Full, Memory, Object, Reader, Settings, Writer, WriterState};
use support::{Mix, Model, Op, Random, addresses, digests, op, write};

/// Set for the process that is to die: at which store (0: never).
const KILL_AT: &str = "RTM_IMAGE_KILL_AT";
const STEPS: u64 = 30;

/// An object whose stores are told to somebody first.
struct Watched {
    object: Object,
    watch: Rc<dyn Fn(&Watch<'_>)>,
}

enum Watch<'a> {
    Store,
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
        (self.watch)(&Watch::Store);
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

    fn wake(&self) {
        self.object.wake();
    }
}

fn settings() -> Settings {
    Settings { bytes: 1 << 16, ring_bytes: 1 << 12, epoch: 7, ..Settings::default() }
}

/// The scripted run: what each transaction does, and the table after it.
fn script() -> Vec<(Vec<Op>, Model)> {
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
        steps.push((ops, model.clone()));
    }
    steps
}

fn run<M: Memory>(writer: &mut Writer<M>, script: &[(Vec<Op>, Model)]) {
    for (revision, (ops, _)) in (1..).zip(script) {
        for op in ops {
            write(writer, op);
        }
        writer.commit(7, revision, &digests(revision)).unwrap();
        writer.ring_append(&revision.to_le_bytes());
        writer.ring_publish();
    }
}

/// What is visible must be exactly some committed table, and that of its
/// revision.
fn compare(reader: &Reader, script: &[(Vec<Op>, Model)]) -> u64 {
    let state = reader.state().unwrap();
    assert_eq!((state.epoch, state.digests), (7, digests_of(state.revision)));
    let empty = Model::default();
    let model = match state.revision {
        0 => &empty,
        revision => &script[revision as usize - 1].1,
    };
    let mut random = Random(state.revision);
    let addresses = addresses(&mut random, model, 6);
    model.compare(reader, &addresses, &[254, 9]);
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
    let script = Rc::new(script());
    let object = Object::create(settings().bytes).unwrap();
    let descriptor = object.descriptor().try_clone_to_owned().unwrap();
    // The reader is attached once there is something to attach to, and follows
    // to the successor when the object says so.
    let reader: Rc<RefCell<Option<Reader>>> = Rc::default();
    let successors: Rc<RefCell<Vec<OwnedFd>>> = Rc::default();
    let (stores, seen) = (Rc::new(Cell::new(0_u64)), Rc::new(Cell::new(0_u64)));
    let moves = Rc::new(Cell::new(0_u64));
    let watch: Rc<dyn Fn(&Watch<'_>)> = {
        let (script, reader, stores, seen, moves) =
            (script.clone(), reader.clone(), stores.clone(), seen.clone(), moves.clone());
        Rc::new(move |watch| match watch {
            Watch::Made(object) => {
                successors.borrow_mut().push(object.descriptor().try_clone_to_owned().unwrap());
            }
            Watch::Store => {
                stores.set(stores.get() + 1);
                let mut reader = reader.borrow_mut();
                let Some(current) = reader.as_ref() else { return };
                // Copying into a successor is most of all stores and changes
                // nothing that a reader sees: look at each hundredth of them.
                if stores.get() % 2 == 0
                    && successors.borrow().len() as u64 > moves.get()
                    && stores.get() % 100 != 0
                {
                    return;
                }
                let revision = compare(current, &script);
                assert!(revision == seen.get() || revision == seen.get() + 1);
                seen.set(revision);
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
    let mut writer = Writer::new(Watched { object, watch }, &settings()).unwrap();
    *reader.borrow_mut() = Some(Reader::attach(descriptor).unwrap());
    run(&mut writer, &script);
    println!("{} stores, {} successors", stores.get(), moves.get());
    assert!(stores.get() > 5_000 && moves.get() > 0, "the script reaches growth");
    assert!(seen.get() >= STEPS - 1);
}

/// Not a test: what the killed process runs. Its standard input is a socket.
#[test]
fn child_writer() {
    let Ok(kill_at) = std::env::var(KILL_AT) else { return };
    let kill_at: u64 = kill_at.parse().unwrap();
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let send = |socket: &OwnedFd, object: &Object| {
        ipc::descriptors::send(socket, b"object", &[object.descriptor()]).unwrap();
    };
    let stores = Rc::new(Cell::new(0_u64));
    let watch: Rc<dyn Fn(&Watch<'_>)> = {
        let (stores, socket) = (stores.clone(), socket.try_clone().unwrap());
        Rc::new(move |watch| match watch {
            Watch::Made(object) => send(&socket, object),
            Watch::Store => {
                stores.set(stores.get() + 1);
                if stores.get() == kill_at {
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
    let object = Object::create(settings().bytes).unwrap();
    send(&socket, &object);
    let mut writer = Writer::new(Watched { object, watch }, &settings()).unwrap();
    run(&mut writer, &script());
    ipc::descriptors::send(&socket, &stores.get().to_le_bytes(), &[]).unwrap();
}

/// Runs a child that dies at store `kill_at`; returns the objects that it made
/// and how many stores it did, if it came to the end.
fn killed_at(kill_at: u64) -> (Vec<OwnedFd>, Option<u64>) {
    let (ours, theirs) = ipc::unix::pair(ipc::unix::Kind::SeqPacket).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_writer", "--nocapture"])
        .env(KILL_AT, kill_at.to_string())
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut objects, mut stores) = (Vec::new(), None);
    let mut buffer = [0; 64];
    // The command's copy of the socket is closed with it.
    loop {
        match ipc::descriptors::receive(&ours, &mut buffer, 1) {
            Ok(received) if received.bytes == 0 => break,
            Ok(received) if received.descriptors.is_empty() => {
                stores = Some(u64::from_le_bytes(buffer[..8].try_into().unwrap()));
            }
            Ok(received) => objects.extend(received.descriptors),
            Err(_) => break,
        }
    }
    let status = child.wait().unwrap();
    match stores {
        Some(_) => assert!(status.success()),
        None => assert_eq!(status.signal(), Some(9), "{status}"),
    }
    (objects, stores)
}

#[test]
fn killed_at_a_store_the_last_commit_is_whole() {
    let (_, total) = killed_at(0);
    let total = total.expect("it came to the end");
    let wanted = std::env::var("RTM_IMAGE_KILLS").unwrap_or_else(|_| "100".to_owned());
    let kills = if wanted == "all" { total } else { wanted.parse().expect("a number, or all") };
    let script = script();
    let mut revisions = Vec::new();
    let mut random = Random(std::process::id().into());
    for n in 0..kills {
        let at = if kills == total { n + 1 } else { 1 + random.below(total) };
        let (objects, stores) = killed_at(at);
        if let Some(stores) = stores {
            // Its neighbours' hash has a key of its own, so no two runs store the
            // same number of words: this one ended before its turn came.
            assert!(stores < at, "killed at {at}, and yet it did {stores} stores");
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
        "{kills} writers killed at one of {total} stores; {seen} different revisions were left"
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
