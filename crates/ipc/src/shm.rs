//! POSIX shared memory: objects with a name, a size and a mode.
//!
//! ```
//! use ipc::{map::{Map, MapMut}, shm::{self, Access, Object, Options}};
//! let name = format!("/ipc-doc-{}", std::process::id());
//! let object = Object::create(&name, &Options { size: 4096, exclusive: true, ..Options::default() })?;
//! MapMut::of(&object, 4096)?.bytes_in(0, b"Hello!");
//! let reader = Map::of(Object::open(&name, Access::Read)?, 4096)?;
//! shm::remove(&name)?; // the name is free, the map lives on
//! assert_eq!(reader.to_vec(0, 6), b"Hello!");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An object is made without a name, given its size and mode, and then linked:
//! nobody ever finds one that is half made, the umask plays no part, and a
//! process that is killed in between leaves nothing behind.
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat};

use crate::error::operation_error;
use crate::{Errno, SystemError, name};

/// Where the objects are files, by the C library's convention.
pub const DIRECTORY: &str = "/dev/shm";

operation_error! {
    /// What can go wrong with a shared memory object.
    Error {
        /// The name breaks a rule.
        BadName {
            /// The name.
            name: String,
            /// Which rule.
            why: String,
        } => INVAL, "{name}: no name for shared memory: {why}";
        /// It exists, and was to be made anew.
        Exists {
            /// The name.
            name: String,
        } => EXIST, "{name}: exists already";
        /// There is no such object.
        Missing {
            /// The name.
            name: String,
        } => NOENT, "{name}: no such shared memory";
        /// Its mode forbids it.
        NotPermitted {
            /// The name.
            name: String,
        } => ACCESS, "{name}: permission denied";
        /// The file system of shared memory is full.
        NoRoom {
            /// The name.
            name: String,
            /// Bytes wanted.
            wanted: u64,
            /// Bytes free.
            free: u64,
        } => NOSPC, "{name}: {wanted} bytes wanted, {free} free in /dev/shm";
        /// It would end behind the largest size of a file.
        TooLarge {
            /// The name.
            name: String,
            /// Bytes wanted.
            wanted: u64,
        } => FBIG, "{name}: {wanted} bytes are more than a file can have";
        /// The access is behind the end.
        BehindEnd {
            /// The name.
            name: String,
            /// First byte.
            offset: u64,
            /// How many bytes.
            len: u64,
            /// The object's size.
            size: u64,
        } => INVAL, "{name}: bytes {offset} to {} wanted, it has {size}", offset.saturating_add(*len);
    }
}

/// How an object is made.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Its size in bytes; 0 is legal.
    pub size: u64,
    /// Permission bits, exactly, whatever the umask.
    pub mode: u32,
    /// Whether an existing object is an error. If not, it is opened as it is.
    pub exclusive: bool,
}

impl Default for Options {
    /// Empty, for the owner alone, an existing one taken as it is.
    fn default() -> Self {
        Self { size: 0, mode: 0o600, exclusive: false }
    }
}

/// What an object is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// An open object: map it with [`crate::map`], or read and write it as a file.
#[derive(Debug)]
pub struct Object {
    fd: OwnedFd,
    name: String,
    created: bool,
}

pub(crate) fn path_of(name: &str) -> Result<PathBuf, Error> {
    name::parse(name, name::BYTES_MAX)
        .map_err(|why| Error::BadName { name: name.to_owned(), why })?;
    Ok(PathBuf::from(format!("{DIRECTORY}{name}")))
}

fn failed(call: &'static str, name: &str, errno: Errno) -> Error {
    let owned = name.to_owned();
    match errno {
        Errno::EXIST => Error::Exists { name: owned },
        Errno::NOENT => Error::Missing { name: owned },
        Errno::ACCESS | Errno::PERM => Error::NotPermitted { name: owned },
        errno => SystemError::new(call, name, errno).into(),
    }
}

impl Object {
    /// Makes an object and opens it for reading and writing.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Exists`], [`Error::NotPermitted`],
    /// [`Error::TooLarge`].
    ///
    /// Source: [shm_open(3)](https://man7.org/linux/man-pages/man3/shm_open.3.html),
    /// [open(2)](https://man7.org/linux/man-pages/man2/open.2.html), `O_TMPFILE`.
    #[doc(alias = "shm_open")]
    pub fn create(name: &str, options: &Options) -> Result<Self, Error> {
        Self::create_with(name, options, |_| Ok(()))
    }

    /// As [`Self::create`]; `fill` sees the new object before anybody else can.
    pub(crate) fn create_with(
        name: &str,
        options: &Options,
        fill: impl FnOnce(&Self) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let path = path_of(name)?;
        if !options.exclusive {
            match Self::open(name, Access::ReadWrite) {
                Err(Error::Missing { .. }) => {}
                other => return other,
            }
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let fd = rustix::fs::open(DIRECTORY, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| SystemError::new("open(O_TMPFILE)", DIRECTORY, errno))?;
        let object = Self { fd, name: name.to_owned(), created: true };
        object.resize(options.size)?;
        object.set_mode(options.mode)?;
        fill(&object)?;
        let unnamed = format!("/proc/self/fd/{}", object.fd.as_raw_fd());
        loop {
            match rustix::fs::linkat(CWD, &unnamed, CWD, &path, AtFlags::SYMLINK_FOLLOW) {
                Ok(()) => return Ok(object),
                Err(Errno::EXIST) if !options.exclusive => {
                    // Somebody was faster; and may have removed it again.
                    match Self::open(name, Access::ReadWrite) {
                        Err(Error::Missing { .. }) => {}
                        other => return other,
                    }
                }
                Err(errno) => return Err(failed("linkat", name, errno)),
            }
        }
    }

    /// Opens an existing object.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Missing`], [`Error::NotPermitted`].
    ///
    /// Source: [shm_open(3)](https://man7.org/linux/man-pages/man3/shm_open.3.html).
    #[doc(alias = "shm_open")]
    pub fn open(name: &str, access: Access) -> Result<Self, Error> {
        let path = path_of(name)?;
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|errno| failed("open", name, errno))?;
        Ok(Self { fd, name: name.to_owned(), created: false })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this call of [`Self::create`] made it.
    #[must_use]
    pub fn was_created(&self) -> bool {
        self.created
    }

    /// Size, mode, owner, times.
    ///
    /// # Errors
    /// None in practice.
    #[doc(alias = "fstat")]
    pub fn metadata(&self) -> Result<Stat, Error> {
        rustix::fs::fstat(&self.fd).map_err(|errno| failed("fstat", &self.name, errno))
    }

    /// Its size in bytes.
    ///
    /// # Errors
    /// None in practice.
    pub fn size(&self) -> Result<u64, Error> {
        Ok(self.metadata()?.st_size as u64)
    }

    /// Changes its size; new bytes are 0. Who has more of it mapped than is
    /// left is killed by SIGBUS when it touches the rest.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; EINVAL if it is open for reading only; EPERM if
    /// sealed.
    ///
    /// Source: [ftruncate(2)](https://man7.org/linux/man-pages/man2/ftruncate.2.html).
    #[doc(alias = "ftruncate")]
    pub fn resize(&self, size: u64) -> Result<(), Error> {
        let too_large = || Error::TooLarge { name: self.name.clone(), wanted: size };
        if i64::try_from(size).is_err() {
            return Err(too_large());
        }
        match rustix::fs::ftruncate(&self.fd, size) {
            Ok(()) => Ok(()),
            Err(Errno::FBIG) => Err(too_large()),
            Err(errno) => Err(failed("ftruncate", &self.name, errno)),
        }
    }

    /// Sets its permission bits.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] for who isn't the owner.
    ///
    /// Source: [fchmod(2)](https://man7.org/linux/man-pages/man2/fchmod.2.html).
    #[doc(alias = "fchmod")]
    pub fn set_mode(&self, mode: u32) -> Result<(), Error> {
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode & 0o7777))
            .map_err(|errno| failed("fchmod", &self.name, errno))
    }

    /// Writes all bytes at `offset`, which must lie within its size. A full
    /// /dev/shm is an error here, where a store into a map would kill.
    ///
    /// # Errors
    /// [`Error::BehindEnd`], [`Error::NoRoom`].
    #[doc(alias = "pwrite")]
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let size = self.size()?;
        let len = bytes.len() as u64;
        if offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(Error::BehindEnd { name: self.name.clone(), offset, len, size });
        }
        let mut done = 0;
        while done < bytes.len() {
            match rustix::io::pwrite(&self.fd, &bytes[done..], offset + done as u64) {
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(Errno::NOSPC) => {
                    let fs = rustix::fs::fstatvfs(&self.fd);
                    let free = fs.map_or(0, |fs| fs.f_bavail * fs.f_frsize);
                    return Err(Error::NoRoom { name: self.name.clone(), wanted: len, free });
                }
                Err(errno) => return Err(failed("pwrite", &self.name, errno)),
            }
        }
        Ok(())
    }

    /// Reads up to the buffer's length at `offset`; fewer bytes mean the end.
    ///
    /// # Errors
    /// None in practice.
    #[doc(alias = "pread")]
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut done = 0;
        while done < buffer.len() {
            match rustix::io::pread(&self.fd, &mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("pread", &self.name, errno)),
            }
        }
        Ok(done)
    }
}

impl AsFd for Object {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Removes the name; the memory goes with its last map and descriptor.
///
/// # Errors
/// [`Error::BadName`], [`Error::Missing`], [`Error::NotPermitted`].
///
/// Source: [shm_unlink(3)](https://man7.org/linux/man-pages/man3/shm_open.3.html).
#[doc(alias = "shm_unlink")]
pub fn remove(name: &str) -> Result<(), Error> {
    let path = path_of(name)?;
    rustix::fs::unlink(&path).map_err(|errno| failed("unlink", name, errno))
}

/// One object of a listing.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its name, with the slash.
    pub name: String,
    /// Its file.
    pub metadata: Stat,
}

/// All objects, by name, without the named semaphores (`sem.…`), which live in
/// the same directory.
///
/// # Errors
/// The directory's.
pub fn list() -> Result<Vec<Listed>, Error> {
    let mut objects = Vec::new();
    let failed = |call| move |errno| SystemError::new(call, DIRECTORY, errno);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(DIRECTORY, flags, Mode::empty()).map_err(failed("open"))?;
    for entry in rustix::fs::Dir::read_from(&directory).map_err(failed("getdents"))? {
        let entry = entry.map_err(failed("getdents"))?;
        let file = entry.file_name();
        let Ok(metadata) = rustix::fs::statat(&directory, file, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let kind = rustix::fs::FileType::from_raw_mode(metadata.st_mode);
        let text = file.to_string_lossy();
        if kind == rustix::fs::FileType::RegularFile && !text.starts_with("sem.") {
            objects.push(Listed { name: format!("/{text}"), metadata });
        }
    }
    objects.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(objects)
}
