//! Memory that other processes read and write at the same time.
//!
//! ```
//! use core::sync::atomic::Ordering;
//! use ipc::map::{Map, MapMut};
//! let fd = ipc::memfd::create_full("counter", 4096)?;
//! let writer = MapMut::of(&fd, 4096)?;
//! let reader = Map::of(&fd, 4096)?;
//! writer.store_u64(8, 42, Ordering::Release);
//! assert_eq!(reader.load_u64(8, Ordering::Acquire), 42);
//! writer.bytes_in(100, b"bytes");
//! assert_eq!(reader.to_vec(100, 5), b"bytes");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Why no slice is ever handed out: a `&[u8]` promises that nobody changes the
//! bytes, and another process can. So words are read and written as atomics,
//! and bytes are copied, in words where they are aligned. A copy of bytes that
//! somebody writes meanwhile holds some mixture of old and new; whoever needs
//! better keeps a sequence number or a lock beside them.
//!
//! Reading is always defined also on a map that can't be written: loads are
//! relaxed, which the standard library guarantees for read-only memory, with a
//! fence behind them where more is asked for.
//!
//! Offsets are in bytes. One that is out of range or not aligned is the
//! caller's mistake and panics. A file that somebody *shrinks* under a map
//! kills who touches the missing part by SIGBUS: against that a memfd has the
//! seal `SHRINK`; files of people that you don't trust are read, not mapped.
#![allow(unsafe_code)] // the one place where shared memory is touched through raw pointers
use core::ffi::c_void;
use core::fmt;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use std::os::fd::AsFd;

use rustix::mm::{MapFlags, ProtFlags};

use crate::error::operation_error;
use crate::{Errno, SystemError};

operation_error! {
    /// Why there is no map.
    Error {
        /// A map has at least one byte.
        Empty {} => INVAL, "nothing to map: the length is 0";
        /// The object is shorter than what is to be mapped; touching the rest
        /// would kill the process.
        TooShort {
            /// Bytes wanted.
            wanted: usize,
            /// The object's size.
            size: u64,
        } => INVAL, "{wanted} bytes to map, the object has {size}";
        /// Not opened for that, or sealed against it.
        NotPermitted {
            /// EACCES or EPERM.
            reason: Errno,
        } => ACCESS, "may not be mapped so ({})", crate::errno_text(*reason);
    }
}

/// How the memory goes back to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From mmap: munmap.
    Mapped,
    /// The same, with a page of zeros behind it.
    Guarded,
    /// From shmat: shmdt.
    Attached,
}

/// A shared map for reading.
pub struct Map {
    start: NonNull<u8>,
    len: usize,
    origin: Origin,
}

// SAFETY: the memory is shared with other processes anyway; every access goes
// through atomics or through copies that bear concurrent writes.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Map({} bytes)", self.len)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        let start = self.start.as_ptr().cast::<c_void>();
        match self.origin {
            // SAFETY: `start` and `len` are what mmap gave us, nobody else
            // unmaps it, and nothing borrowed from `self` is left.
            Origin::Mapped => unsafe {
                let _ = rustix::mm::munmap(start, self.len);
            },
            // SAFETY: as above, and the page behind it is ours, too.
            Origin::Guarded => unsafe {
                let _ = rustix::mm::munmap(start, guarded_len(self.len));
            },
            // SAFETY: `start` is what shmat gave us.
            Origin::Attached => unsafe {
                libc::shmdt(start);
            },
        }
    }
}

/// Has the object so many bytes?
fn check_len(fd: &impl AsFd, len: usize) -> Result<(), Error> {
    if len == 0 {
        return Err(Error::Empty {});
    }
    let stat = rustix::fs::fstat(fd).map_err(|errno| SystemError::new("fstat", "map", errno))?;
    let size = stat.st_size as u64;
    if (len as u64) > size {
        return Err(Error::TooShort { wanted: len, size });
    }
    Ok(())
}

fn map(fd: &impl AsFd, len: usize, prot: ProtFlags) -> Result<Map, Error> {
    check_len(fd, len)?;
    // SAFETY: no address is asked for, so nothing that exists is replaced; the
    // result is only touched through this module.
    let start =
        unsafe { rustix::mm::mmap(core::ptr::null_mut(), len, prot, MapFlags::SHARED, fd, 0) }
            .map_err(|errno| match errno {
                Errno::ACCESS | Errno::PERM => Error::NotPermitted { reason: errno },
                errno => SystemError::new("mmap", format!("{len} bytes"), errno).into(),
            })?;
    let start = NonNull::new(start.cast()).expect("mmap never returns null");
    Ok(Map { start, len, origin: Origin::Mapped })
}

/// `len` bytes in whole pages, and a page more.
fn guarded_len(len: usize) -> usize {
    let page = rustix::param::page_size();
    len.next_multiple_of(page) + page
}

impl Map {
    /// As [`Map::of`], with a page behind the mapping that reads as zeros: who
    /// follows an offset out of memory that changes under him may read up to a
    /// page further than the object goes, instead of comparing before each read.
    ///
    /// # Errors
    /// [`Error`].
    ///
    /// Source: [mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html).
    pub fn guarded(fd: impl AsFd, len: usize) -> Result<Self, Error> {
        check_len(&fd, len)?;
        let failed = |errno| Error::from(SystemError::new("mmap", format!("{len} bytes"), errno));
        let whole = guarded_len(len);
        // SAFETY: no address is asked for, so nothing that exists is replaced.
        let start = unsafe {
            let null = core::ptr::null_mut();
            rustix::mm::mmap_anonymous(null, whole, ProtFlags::READ, MapFlags::PRIVATE)
        }
        .map_err(failed)?;
        let map = Self {
            start: NonNull::new(start.cast()).expect("mmap never returns null"),
            len,
            origin: Origin::Guarded,
        };
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: replaces the first pages of what was mapped just now, which
        // nobody else knows.
        unsafe { rustix::mm::mmap(start, len, ProtFlags::READ, flags, &fd, 0) }.map_err(
            |errno| match errno {
                Errno::ACCESS | Errno::PERM => Error::NotPermitted { reason: errno },
                errno => failed(errno),
            },
        )?;
        Ok(map)
    }

    /// Maps the first `len` bytes of a file, memfd or shared memory object.
    ///
    /// # Errors
    /// [`Error`].
    ///
    /// Source: [mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html).
    #[doc(alias = "mmap")]
    pub fn of(fd: impl AsFd, len: usize) -> Result<Self, Error> {
        map(&fd, len, ProtFlags::READ)
    }

    /// Unloads the pages that lie in `len` bytes from `offset` on: the map stays, and what is
    /// touched again is loaded again. A large map is taken away without holding
    /// anybody up by unloading it piece by piece first.
    ///
    /// # Panics
    /// If the range is not inside.
    ///
    /// Source: [madvise(2)](https://man7.org/linux/man-pages/man2/madvise.2.html), `MADV_DONTNEED`.
    #[doc(alias = "madvise")]
    pub fn unload(&self, offset: usize, len: usize) {
        let end = offset.checked_add(len).filter(|end| *end <= self.len);
        assert!(end.is_some(), "{len} bytes at {offset} of {}", self.len);
        let page = rustix::param::page_size();
        let (first, last) = (offset.next_multiple_of(page), (offset + len) / page * page);
        if first >= last {
            return;
        }
        let advice = rustix::mm::Advice::LinuxDontNeed;
        // SAFETY: inside the map.
        let start = unsafe { self.start.as_ptr().add(first) }.cast();
        // It only saves time: nothing to do if it can't be done.
        // SAFETY: whole pages of the map, which is shared: no content is lost by it.
        let _ = unsafe { rustix::mm::madvise(start, last - first, advice) };
    }

    /// Takes over memory that shmat returned.
    ///
    /// # Safety
    /// `start` is such an address with `len` bytes behind it, attached for
    /// reading, and nobody else detaches it.
    pub(crate) unsafe fn attached(start: NonNull<u8>, len: usize) -> Self {
        Self { start, len, origin: Origin::Attached }
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never true: a map has at least one byte (System V segments too).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The address of the first byte, for code that argues its own accesses.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    #[inline]
    fn at(&self, offset: usize, len: usize, align: usize) -> *mut u8 {
        let in_range = offset <= self.len && len <= self.len - offset;
        // The start is aligned to a page.
        if !in_range || offset % align != 0 {
            outside(offset, len, align, self.len);
        }
        // SAFETY: in range, checked above.
        unsafe { self.start.as_ptr().add(offset) }
    }

    #[inline]
    pub(crate) fn word32(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: in range and aligned (checked), mapped for as long as
        // `self` lives, and only ever touched atomically. On a read-only map
        // callers in this crate only load relaxed, which is allowed there.
        unsafe { AtomicU32::from_ptr(self.at(offset, 4, 4).cast()) }
    }

    #[inline]
    pub(crate) fn word64(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: as in `word32`.
        unsafe { AtomicU64::from_ptr(self.at(offset, 8, 8).cast()) }
    }

    /// Reads the word at `offset`. `order` is Relaxed or Acquire (SeqCst counts
    /// as Acquire with a full fence before it).
    #[inline]
    #[must_use]
    pub fn load_u32(&self, offset: usize, order: Ordering) -> u32 {
        let word = self.word32(offset);
        fenced(order, || word.load(Ordering::Relaxed))
    }

    /// Reads the double word at `offset`, as [`Self::load_u32`].
    #[inline]
    #[must_use]
    pub fn load_u64(&self, offset: usize, order: Ordering) -> u64 {
        let word = self.word64(offset);
        fenced(order, || word.load(Ordering::Relaxed))
    }

    /// Copies bytes out of the map.
    pub fn bytes_out(&self, offset: usize, to: &mut [u8]) {
        let from = self.at(offset, to.len(), 1);
        let head = from.align_offset(8).min(to.len());
        let (first, rest) = to.split_at_mut(head);
        let mut next = from;
        for byte in first {
            // SAFETY: `next` runs through exactly the checked range.
            unsafe {
                *byte = AtomicU8::from_ptr(next).load(Ordering::Relaxed);
                next = next.add(1);
            }
        }
        let mut words = rest.chunks_exact_mut(8);
        for word in &mut words {
            // SAFETY: as above, and `next` is aligned to 8 from here on.
            let value = unsafe { AtomicU64::from_ptr(next.cast()).load(Ordering::Relaxed) };
            word.copy_from_slice(&value.to_ne_bytes());
            // SAFETY: still in the checked range, or one past it.
            next = unsafe { next.add(8) };
        }
        for byte in words.into_remainder() {
            // SAFETY: as above.
            unsafe {
                *byte = AtomicU8::from_ptr(next).load(Ordering::Relaxed);
                next = next.add(1);
            }
        }
    }

    /// Copies `len` bytes out of the map into a vector.
    #[must_use]
    pub fn to_vec(&self, offset: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.bytes_out(offset, &mut bytes);
        bytes
    }
}

/// The caller's mistake. By value and apart, so that who makes none doesn't
/// prepare what it would say.
#[cold]
#[track_caller]
fn outside(offset: usize, len: usize, align: usize, map_len: usize) -> ! {
    assert!(offset % align == 0, "offset {offset} is not a multiple of {align}");
    panic!("{len} bytes at {offset} of a map of {map_len} bytes");
}

#[inline]
fn fenced<T>(order: Ordering, load: impl FnOnce() -> T) -> T {
    match order {
        Ordering::Relaxed => load(),
        Ordering::Acquire => {
            let value = load();
            fence(Ordering::Acquire);
            value
        }
        Ordering::SeqCst => {
            fence(Ordering::SeqCst);
            let value = load();
            fence(Ordering::Acquire);
            value
        }
        order => panic!("a load can't be {order:?}"),
    }
}

/// A shared map for reading and writing.
#[derive(Debug)]
pub struct MapMut(Map);

impl Deref for MapMut {
    type Target = Map;

    fn deref(&self) -> &Map {
        &self.0
    }
}

impl MapMut {
    /// Maps the first `len` bytes of a file, memfd or shared memory object for
    /// reading and writing.
    ///
    /// # Errors
    /// [`Error`].
    ///
    /// Source: [mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html).
    #[doc(alias = "mmap")]
    pub fn of(fd: impl AsFd, len: usize) -> Result<Self, Error> {
        map(&fd, len, ProtFlags::READ | ProtFlags::WRITE).map(Self)
    }

    /// Takes over memory that shmat returned.
    ///
    /// # Safety
    /// As [`Map::attached`], and attached for writing.
    pub(crate) unsafe fn attached(start: NonNull<u8>, len: usize) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { Map::attached(start, len) })
    }

    /// The address of the first byte, for code that argues its own accesses.
    #[must_use]
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.0.start.as_ptr()
    }

    /// Writes the word at `offset`; `order` is Relaxed, Release or SeqCst.
    #[inline]
    pub fn store_u32(&self, offset: usize, value: u32, order: Ordering) {
        self.word32(offset).store(value, order);
    }

    /// Writes the double word at `offset`; `order` is Relaxed, Release or SeqCst.
    #[inline]
    pub fn store_u64(&self, offset: usize, value: u64, order: Ordering) {
        self.word64(offset).store(value, order);
    }

    /// Adds to the word at `offset` and returns what it was.
    pub fn fetch_add_u32(&self, offset: usize, value: u32, order: Ordering) -> u32 {
        self.word32(offset).fetch_add(value, order)
    }

    /// Adds to the double word at `offset` and returns what it was.
    pub fn fetch_add_u64(&self, offset: usize, value: u64, order: Ordering) -> u64 {
        self.word64(offset).fetch_add(value, order)
    }

    /// Writes `new` if the word at `offset` is `current`.
    ///
    /// # Errors
    /// What the word is instead.
    pub fn compare_exchange_u32(
        &self,
        offset: usize,
        current: u32,
        new: u32,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u32, u32> {
        self.word32(offset).compare_exchange(current, new, success, failure)
    }

    /// Writes `new` if the double word at `offset` is `current`.
    ///
    /// # Errors
    /// What the double word is instead.
    pub fn compare_exchange_u64(
        &self,
        offset: usize,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.word64(offset).compare_exchange(current, new, success, failure)
    }

    /// Copies bytes into the map.
    pub fn bytes_in(&self, offset: usize, from: &[u8]) {
        let to = self.at(offset, from.len(), 1);
        let head = to.align_offset(8).min(from.len());
        let (first, rest) = from.split_at(head);
        let mut next = to;
        for byte in first {
            // SAFETY: `next` runs through exactly the checked range.
            unsafe {
                AtomicU8::from_ptr(next).store(*byte, Ordering::Relaxed);
                next = next.add(1);
            }
        }
        let words = rest.chunks_exact(8);
        let last = words.remainder();
        for word in words {
            let value = u64::from_ne_bytes(word.try_into().expect("chunks of 8"));
            // SAFETY: as above, and `next` is aligned to 8 from here on.
            unsafe {
                AtomicU64::from_ptr(next.cast()).store(value, Ordering::Relaxed);
                next = next.add(8);
            }
        }
        for byte in last {
            // SAFETY: as above.
            unsafe {
                AtomicU8::from_ptr(next).store(*byte, Ordering::Relaxed);
                next = next.add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memfd;

    /// The process' own list of maps: the line, and those of `smaps` behind it, of the
    /// one that has this address.
    fn listed(file: &str, address: *const u8) -> Option<Vec<String>> {
        let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let has = |line: &str| {
            let (from, to) = line.split(' ').next()?.split_once('-')?;
            let number = |text| usize::from_str_radix(text, 16).ok();
            Some((number(from)?..number(to)?).contains(&(address as usize)))
        };
        let at = lines.iter().position(|line| has(line) == Some(true))?;
        Some(lines[at..].iter().take(30).map(|line| (*line).to_owned()).collect())
    }

    /// Kilobytes of a map that are loaded.
    fn loaded(map: &Map) -> u64 {
        let lines = listed("smaps", map.as_ptr()).expect("it is mapped");
        let line = lines.iter().find_map(|line| line.strip_prefix("Rss:")).expect("a size");
        line.trim().strip_suffix(" kB").expect("a size").parse().unwrap()
    }

    /// A word that `Map` would say is outside.
    fn word_behind(map: &Map, offset: usize) -> u64 {
        assert!(offset % 8 == 0 && offset + 8 <= guarded_len(map.len()));
        // SAFETY: inside what a guarded map has mapped (compared just now), aligned, and
        // only loaded atomically.
        unsafe {
            AtomicU64::from_ptr(map.as_ptr().add(offset).cast_mut().cast()).load(Ordering::Relaxed)
        }
    }

    #[test]
    fn behind_a_guarded_map_is_a_page_of_zeros() {
        let page = rustix::param::page_size();
        // Whole pages, and a length in the middle of one: the rest of that page is the
        // object's, as the system maps no parts of pages.
        for (bytes, len) in [(page, page), (4 * page, 4 * page), (2 * page, page + 904)] {
            let fd = memfd::create_full("guarded", bytes as u64).unwrap();
            let writer = MapMut::of(&fd, bytes).unwrap();
            writer.bytes_in(0, &vec![0xff; bytes]);
            let map = Map::guarded(&fd, len).unwrap();
            assert_eq!((map.len(), map.is_empty()), (len, false));
            assert_eq!(map.to_vec(0, len), vec![0xff; len]);
            let end = len.next_multiple_of(page);
            for offset in (0..end + page).step_by(8) {
                let expected = if offset < end { u64::MAX } else { 0 };
                assert_eq!(word_behind(&map, offset), expected, "{offset} of {len}");
            }
            // What is written is seen, in the map and not behind it.
            writer.store_u64(end - 8, 42, Ordering::Release);
            assert_eq!(word_behind(&map, end - 8), 42);
            // It ends where it says it does, for those who ask it.
            let ask = || map.load_u64(len.next_multiple_of(8), Ordering::Relaxed);
            assert!(std::panic::catch_unwind(ask).is_err());
        }
    }

    #[test]
    fn a_guarded_map_is_read_only_and_goes_as_a_whole() {
        let page = rustix::param::page_size();
        let fd = memfd::create_full("guarded", 2 * page as u64).unwrap();
        let map = Map::guarded(&fd, 2 * page).unwrap();
        let (start, behind) = (map.as_ptr(), map.as_ptr().wrapping_add(2 * page));
        for (address, rights) in [(start, " r--s "), (behind, " r--p ")] {
            let line = &listed("maps", address).unwrap()[0];
            assert!(line.contains(rights), "{line}");
        }
        // Another thread may map something there at once: so the inode, not the place.
        let inode = format!(" {} ", rustix::fs::fstat(&fd).unwrap().st_ino);
        let maps = || std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(maps().contains(&inode));
        drop(map);
        assert!(!maps().contains(&inode));
    }

    #[test]
    fn what_cannot_be_guarded_is_named() {
        let page = rustix::param::page_size();
        let fd = memfd::create_full("guarded", page as u64).unwrap();
        let size = page as u64;
        assert_eq!(
            Map::guarded(&fd, page + 1).unwrap_err(),
            Error::TooShort { wanted: page + 1, size }
        );
        assert_eq!(Map::guarded(&fd, 0).unwrap_err(), Error::Empty {});
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        let only_written = std::fs::File::options().write(true).open(file.path()).unwrap();
        let error = Map::guarded(&only_written, page).unwrap_err();
        assert_eq!(error, Error::NotPermitted { reason: Errno::ACCESS });
    }

    #[test]
    fn unloading_keeps_what_is_there() {
        let page = rustix::param::page_size();
        let bytes = 8 * page;
        let kib = |pages: usize| (pages * page / 1024) as u64;
        let fd = memfd::create_full("unload", bytes as u64).unwrap();
        let map = MapMut::of(&fd, bytes).unwrap();
        let pattern: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
        map.bytes_in(0, &pattern);
        assert_eq!(loaded(&map), kib(8));
        // Of a range only the whole pages inside go, and none of a part of one.
        map.unload(100, page - 100);
        map.unload(page / 2, page);
        map.unload(3, 0);
        assert_eq!(loaded(&map), kib(8));
        map.unload(page - 1, 2 * page + 1);
        assert_eq!(loaded(&map), kib(6));
        map.unload(0, bytes);
        assert_eq!(loaded(&map), 0);
        // The content stays, for this map as for others, and comes back when touched.
        assert_eq!(Map::of(&fd, bytes).unwrap().to_vec(0, bytes), pattern);
        assert_eq!(map.load_u64(8, Ordering::Relaxed).to_ne_bytes(), pattern[8..16]);
        map.store_u64(5 * page, 7, Ordering::Relaxed);
        map.unload(5 * page, page);
        assert_eq!(map.load_u64(5 * page, Ordering::Relaxed), 7);
        assert_eq!(map.to_vec(0, 5 * page), pattern[..5 * page]);
        for (offset, len) in [(0, bytes + 1), (bytes, 1), (bytes + 1, 0), (1, usize::MAX)] {
            let unload = || map.unload(offset, len);
            assert!(std::panic::catch_unwind(unload).is_err(), "{len} at {offset}");
        }
        map.unload(bytes, 0);
    }
}
