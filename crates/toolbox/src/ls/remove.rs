//! `ipc rm`: removes what is named, or every orphan; never what somebody holds.
//!
//! Between the look and the removal somebody could come. So each orphan is asked
//! for once more at the moment of its removal: a file by a lease of the kernel,
//! which nobody gets who isn't alone, and which makes who comes wait until the
//! name is gone; a System V segment by its count of attachments.
use clap::Args;
use ipc::lease::Lease;
use ipc::sysv;
use ipc::{mq, sem, shm};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

use super::objects::{Kind, Object, Orphan, Wanted, collect, shm_path};
use super::scan::Scan;
use super::{Word, word};
use crate::failure::{Failure, line};
use crate::table::Names;

#[derive(Args)]
pub(crate) struct Remove {
    /// KIND:NAME, or a name like /name
    #[arg(value_name = "OBJECT", value_parser = word, required_unless_present = "orphans", conflicts_with = "orphans")]
    objects: Vec<Word>,
    /// Everything that nobody holds (System V queues and semaphores have no holders and are left)
    #[arg(long)]
    orphans: bool,
    /// With --orphans: also System V objects whose every last user is gone
    #[arg(long, requires = "orphans")]
    presumed: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Also what is held: its name goes, who has it goes on
    #[arg(long, conflicts_with = "orphans")]
    force: bool,
}

/// What has a name that can be removed.
const KINDS: &[Kind] =
    &[Kind::Mq, Kind::Shm, Kind::Sem, Kind::SysvMq, Kind::SysvShm, Kind::SysvSem];

pub(crate) fn run(remove: &Remove) -> Result<(), Failure> {
    let names = Names::load();
    if remove.orphans {
        return orphans(remove, &names);
    }
    // All are looked at before the first is removed.
    let mut all = Vec::new();
    for word in &remove.objects {
        all.push((word, meant(word, &names, remove.force)?));
    }
    for (word, object) in all {
        if remove.dry_run {
            line(format!("would remove {word}"))?;
        } else {
            take_away(&object, false)?;
        }
    }
    Ok(())
}

fn holders(object: &Object) -> String {
    let all: Vec<String> =
        object.holders.iter().map(|h| format!("{}/{}", h.pid, h.command)).collect();
    if all.is_empty() { "processes that can't be seen".to_owned() } else { all.join(", ") }
}

/// The one object that is meant, if it may be removed.
fn meant(word: &Word, names: &Names, force: bool) -> Result<Object, Failure> {
    let mut found = word.find(names);
    if found.is_empty() {
        // A FIFO or socket that nobody has open isn't in any list but has a name.
        if let Some(object) = path_object(word)? {
            return Ok(object);
        }
        return Err(Failure::refused(format!("{word}: there is none; ls shows what is there")));
    }
    let kinds: std::collections::BTreeSet<Kind> = found.iter().map(|o| o.kind).collect();
    if kinds.len() > 1 {
        let each: Vec<String> =
            kinds.iter().map(|kind| format!("{}:{}", kind.name(), word.name)).collect();
        return Err(Failure::usage(format!("{word}: which one? there are {}", each.join(", "))));
    }
    let object = found.swap_remove(0);
    if matches!(object.kind, Kind::Pipe | Kind::Memfd | Kind::Eventfd) {
        return Err(Failure::usage(format!(
            "{word}: has no name to remove; it goes with its last holder"
        )));
    }
    let held =
        object.orphan == Orphan::No && object.kind != Kind::SysvMq && object.kind != Kind::SysvSem;
    if held && !force {
        return Err(Failure::refused(format!(
            "{word}: held by {}; --force removes it all the same",
            holders(&object)
        )));
    }
    if object.orphan == Orphan::No && !object.waiters.is_empty() && !force {
        let waiters: Vec<String> =
            object.waiters.iter().map(|w| format!("{}/{}", w.pid, w.command)).collect();
        return Err(Failure::refused(format!(
            "{word}: {} waits for it; --force removes it all the same",
            waiters.join(", ")
        )));
    }
    Ok(object)
}

fn path_object(word: &Word) -> Result<Option<Object>, Failure> {
    let wanted = [Some(Kind::Unix), Some(Kind::Fifo), None];
    if !wanted.contains(&word.kind) || !word.name.starts_with('/') {
        return Ok(None);
    }
    let Ok(stat) = rustix::fs::statat(CWD, &word.name, AtFlags::SYMLINK_NOFOLLOW) else {
        return Ok(None);
    };
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket => Kind::Unix,
        FileType::Fifo => Kind::Fifo,
        _ => return Ok(None),
    };
    if word.kind.is_some_and(|asked| asked != kind) {
        return Ok(None);
    }
    Ok(Some(Object::at_path(kind, &word.name, &stat)))
}

/// Removes one; whether it did (an orphan that isn't one any more stays).
fn take_away(object: &Object, alone: bool) -> Result<bool, Failure> {
    let name = object.name.as_str();
    let number = || name.parse::<i32>().expect("System V objects are named by their id");
    match object.kind {
        Kind::Mq | Kind::Shm | Kind::Sem => {
            let file = if alone {
                let path = match object.kind {
                    Kind::Mq => {
                        let Some(mount) = mq::mount_point() else {
                            // Without a mount there is no file to ask for: the
                            // walk through the processes has to do.
                            mq::remove(name)?;
                            return Ok(true);
                        };
                        format!("{}{name}", mount.display())
                    }
                    kind => shm_path(kind, name),
                };
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                match rustix::fs::open(&path, flags, Mode::empty()) {
                    Ok(file) => Some(file),
                    Err(ipc::Errno::NOENT) => return Ok(false),
                    Err(errno) => {
                        let why = ipc::errno_text(errno);
                        return Err(Failure::refused(format!("{path}: {why}")));
                    }
                }
            } else {
                None
            };
            let lease = match &file {
                None => None,
                Some(file) => match Lease::take(file) {
                    Ok(Some(lease)) => Some(lease),
                    Ok(None) => return Ok(false), // somebody has come
                    // No leases here: what the walk saw has to do.
                    Err(error) if error.errno == ipc::Errno::INVAL => None,
                    Err(error) => return Err(error.into()),
                },
            };
            match object.kind {
                Kind::Mq => mq::remove(name)?,
                Kind::Shm => shm::remove(name)?,
                _ => sem::remove(name)?,
            }
            drop(lease);
        }
        Kind::SysvMq => sysv::queue::Queue::from_id(number()).remove()?,
        Kind::SysvSem => sysv::set::Set::from_id(number()).remove()?,
        Kind::SysvShm => {
            let segment = sysv::segment::Segment::from_id(number());
            if alone && segment.stat()?.attached > 0 {
                return Ok(false);
            }
            segment.remove()?;
        }
        _ => {
            rustix::fs::unlink(name)
                .map_err(|errno| Failure::refused(format!("{name}: {}", ipc::errno_text(errno))))?;
        }
    }
    Ok(true)
}

fn orphans(remove: &Remove, names: &Names) -> Result<(), Failure> {
    let scan = Scan::now();
    let found = collect(&Wanted { kinds: KINDS }, &scan, names);
    for remark in &found.remarks {
        eprintln!("ipc: rm: {remark}");
    }
    let mut failed = None;
    for object in &found.objects {
        let word = format!("{}:{}", object.kind.name(), object.name);
        let wanted = match &object.orphan {
            Orphan::Yes => true,
            // A segment that nobody has attached, made and used by processes
            // that are gone, is presumed too: a living one may know its id.
            Orphan::Presumed if remove.presumed => true,
            Orphan::Presumed => {
                eprintln!(
                    "kept {word}: everybody who used it is gone, but System V keeps no holders; --presumed removes it"
                );
                false
            }
            Orphan::Unknown(why) => {
                eprintln!("kept {word}: {why}");
                false
            }
            Orphan::No => false,
        };
        if !wanted {
            continue;
        }
        if remove.dry_run {
            line(format!("would remove {word}"))?;
            continue;
        }
        match take_away(object, true) {
            Ok(true) => line(format!("removed {word}"))?,
            Ok(false) => eprintln!("kept {word}: somebody has come to it, or it is gone"),
            Err(Failure::Told { text, .. }) => {
                eprintln!("kept {word}: {text}");
                failed = Some(word);
            }
            Err(other) => return Err(other),
        }
    }
    match failed {
        None => Ok(()),
        Some(word) => {
            Err(Failure::refused(format!("{word}: could not be removed, nor perhaps others")))
        }
    }
}
