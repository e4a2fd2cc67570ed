//! What a local process may try against the image with nothing but the
//! descriptor that it was given. Used by the tests of this crate and, against
//! the real daemon, by `e2e/tests/image_attack.rs`.
//!
//! (ptrace and /proc/PID/mem of the daemon are out of scope: who may do these
//! owns the daemon.)
#![allow(dead_code, unreachable_pub)] // each test uses some of it

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ipc::Errno;
use ipc::map::Map;
use rtm_image::layout;
use rustix::fs::{FallocateFlags, Mode, OFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags};

/// Opens `path` in each way that might allow to write.
pub fn reopened(path: &str) -> Vec<OwnedFd> {
    let ways = [OFlags::RDWR, OFlags::WRONLY, OFlags::RDWR | OFlags::TRUNC, OFlags::RDONLY];
    ways.into_iter()
        .filter_map(|flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).ok())
        .collect()
}

/// The image's descriptors of another process, as paths in /proc, where this
/// one may look.
pub fn of_process(pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:rtm-image"))
        })
        .filter_map(|path| Some(path.to_str()?.to_owned()))
        .collect()
}

/// Tries everything through `fd`, through what it can be reopened as, and
/// through `more`. Panics if anything succeeds; returns through how many
/// descriptors it tried.
pub fn attack(fd: &OwnedFd, more: Vec<OwnedFd>) -> usize {
    let size = rustix::fs::fstat(fd).unwrap().st_size as u64;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut open: Vec<OwnedFd> = vec![fd.try_clone().unwrap()];
    // Root may open it; what it gets then is as useless.
    open.extend(reopened(&path));
    let _ = rustix::fs::fchmod(fd, Mode::RWXU | Mode::RWXG | Mode::RWXO);
    open.extend(reopened(&path));
    open.extend(more);
    for fd in &open {
        through(fd, size);
    }
    lock(&open);
    open.len()
}

fn through(fd: &OwnedFd, size: u64) {
    rustix::io::pwrite(fd, b"evil", 0).unwrap_err();
    rustix::io::write(fd, b"evil").unwrap_err();
    rustix::fs::ftruncate(fd, 0).unwrap_err();
    rustix::fs::ftruncate(fd, size * 2).unwrap_err();
    let keep = FallocateFlags::KEEP_SIZE;
    for (flags, from) in [
        (FallocateFlags::PUNCH_HOLE | keep, 0),
        (FallocateFlags::PUNCH_HOLE | keep, size / 2),
        (FallocateFlags::ZERO_RANGE, 0),
        (FallocateFlags::COLLAPSE_RANGE, 0),
        (FallocateFlags::INSERT_RANGE, 0),
        (FallocateFlags::empty(), size),
    ] {
        rustix::fs::fallocate(fd, flags, from, 4096).unwrap_err();
    }
    let evil = ipc::memfd::create_full("evil", 4096).unwrap();
    rustix::fs::sendfile(fd, &evil, None, 4096).unwrap_err();
    for seal in [SealFlags::WRITE, SealFlags::FUTURE_WRITE] {
        rustix::fs::fcntl_add_seals(fd, seal).unwrap_err();
    }
    maps(fd);
}

#[allow(unsafe_code)] // raw calls that no wrapper would make
fn maps(fd: &OwnedFd) {
    let null = core::ptr::null_mut();
    let (read, both) = (ProtFlags::READ, ProtFlags::READ | ProtFlags::WRITE);
    let writable = MprotectFlags::READ | MprotectFlags::WRITE;
    // SAFETY: new maps at an address of the kernel's choice; what is unmapped,
    // remapped or written are these maps alone.
    unsafe {
        for prot in [both, ProtFlags::WRITE] {
            rustix::mm::mmap(null, 4096, prot, MapFlags::SHARED, fd, 0).unwrap_err();
        }
        let Ok(map) = rustix::mm::mmap(null, 4096, read, MapFlags::SHARED, fd, 0) else { return };
        rustix::mm::mprotect(map, 4096, writable).unwrap_err();
        // Moving and growing the map gives nothing but a read-only map, and so
        // does a second one of the same pages.
        let moved = rustix::mm::mremap(map, 4096, 8192, MremapFlags::MAYMOVE).unwrap();
        rustix::mm::mprotect(moved, 8192, writable).unwrap_err();
        if let Ok(second) = rustix::mm::mremap(moved, 0, 4096, MremapFlags::MAYMOVE) {
            rustix::mm::mprotect(second, 4096, writable).unwrap_err();
            rustix::mm::munmap(second, 4096).unwrap();
        }
        rustix::mm::madvise(moved, 4096, Advice::LinuxRemove).unwrap_err();
        rustix::mm::madvise(moved, 4096, Advice::LinuxPopulateWrite).unwrap_err();
        rustix::mm::munmap(moved, 8192).unwrap();
        // A private map may be written: what changes is this process's copy.
        let own = rustix::mm::mmap(null, 4096, both, MapFlags::PRIVATE, fd, 0).unwrap();
        own.cast::<[u8; 4]>().write(*b"evil");
        rustix::mm::munmap(own, 4096).unwrap();
    }
}

/// A lock of ours must not make a dead writer look alive, nor take the writer's.
#[allow(unsafe_code)] // fcntl with a struct flock
fn lock(open: &[OwnedFd]) {
    // SAFETY: a C struct of integers.
    let mut lock: libc::flock = unsafe { core::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    for fd in open {
        // SAFETY: a valid descriptor and a pointer to a flock.
        let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
        assert_eq!(result, -1, "the writer's lock is taken");
    }
}

/// Its size and the blocks that it has.
pub fn blocks(fd: impl AsFd) -> (i64, i64) {
    let stat = rustix::fs::fstat(fd).unwrap();
    (stat.st_size, stat.st_blocks)
}

/// Reads every page. Neither the size nor the blocks may change by it: there
/// are no holes that a reader's fault could fill.
pub fn touch_every_page(fd: impl AsFd) {
    let before = blocks(&fd);
    assert_eq!(before.1 * 512, before.0, "allocated in full, no hole");
    let map = Map::of(&fd, before.0 as usize).unwrap();
    let mut page = [0; 4096];
    for offset in (0..map.len()).step_by(page.len()) {
        map.bytes_out(offset, &mut page);
    }
    assert_eq!(blocks(&fd), before);
}

/// Moves everybody who waits for changes to another futex, over and over, until
/// it is told to stop: they are never woken. Counts whom it moved in `stolen`.
#[allow(unsafe_code)] // no wrapper moves other people's sleep
pub fn steal_wake_ups(fd: impl AsFd, stop: &AtomicBool, stolen: &AtomicU64) {
    let map = Map::of(fd, layout::HEADER_WORDS * 8).unwrap();
    let from = map.as_ptr().wrapping_add(layout::AT_WAKE * 8).cast::<u32>();
    let to = map.as_ptr().wrapping_add(layout::SLOTS_AT * 8).cast::<u32>();
    while !stop.load(Ordering::Relaxed) {
        let value = map.load_u32(layout::AT_WAKE * 8, Ordering::Relaxed);
        // SAFETY: both words lie in the map; the kernel only reads them.
        let moved = unsafe {
            libc::syscall(
                libc::SYS_futex,
                from,
                libc::FUTEX_CMP_REQUEUE,
                0,
                i32::MAX as usize,
                to,
                value,
            )
        };
        if moved < 0 {
            let error = std::io::Error::last_os_error();
            assert_eq!(Errno::from_io_error(&error), Some(Errno::AGAIN), "{error}");
        }
        stolen.fetch_add(moved.max(0) as u64, Ordering::SeqCst);
        std::thread::sleep(Duration::from_micros(200));
    }
}
